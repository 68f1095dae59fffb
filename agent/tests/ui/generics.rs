use stepwell_macros::State;

#[derive(Clone, Debug, Default, State)]
#[state(crate = "stepwell_agent")]
struct Board<T> {
    #[state(append)]
    log: Vec<T>,
}

fn main() {}
