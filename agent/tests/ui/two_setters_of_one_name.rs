use stepwell_macros::State;

#[derive(Clone, Debug, Default, State)]
#[state(crate = "stepwell_agent")]
struct Board {
    log: String,
    with_log: bool,
}

fn main() {}
