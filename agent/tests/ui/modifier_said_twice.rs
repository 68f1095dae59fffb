use stepwell_macros::State;

#[derive(Clone, Debug, Default, State)]
#[state(crate = "stepwell_agent")]
struct Board {
    #[state(append, ephemeral)]
    #[state(ephemeral)]
    log: Vec<String>,
}

fn main() {}
