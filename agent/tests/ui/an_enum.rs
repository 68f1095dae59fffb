use stepwell_macros::State;

#[derive(Clone, Debug, State)]
#[state(crate = "stepwell_agent")]
enum Board {
    Empty,
    Full,
}

fn main() {}
