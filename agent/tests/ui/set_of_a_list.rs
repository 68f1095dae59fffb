use stepwell_macros::State;

#[derive(Clone, Debug, Default, State)]
#[state(crate = "stepwell_agent")]
struct Board {
    #[state(set)]
    seen: Vec<i64>,
}

fn main() {}
