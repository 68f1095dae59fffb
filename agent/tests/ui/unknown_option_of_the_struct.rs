use stepwell_macros::State;

#[derive(Clone, Debug, Default, State)]
#[state(crate = "stepwell_agent", ephemeral)]
struct Board {
    log: Vec<String>,
}

fn main() {}
