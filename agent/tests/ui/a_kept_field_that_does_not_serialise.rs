use stepwell_macros::State;

#[derive(Clone, Debug, Default)]
struct Connection;

#[derive(Clone, Debug, Default, State)]
#[state(crate = "stepwell_agent")]
struct Board {
    #[state(untracked)]
    fine: Connection,
    kept: Connection,
}

fn main() {}
