use stepwell_macros::State;

#[derive(Clone, Debug, Default, State)]
#[state(crate = "stepwell_agent")]
struct Board {
    #[state(prepend)]
    log: Vec<String>,
}

fn main() {}
