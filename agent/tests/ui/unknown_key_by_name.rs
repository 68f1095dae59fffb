use stepwell_macros::State;

#[derive(Clone, Debug, Default, State)]
#[state(crate = "stepwell_agent")]
struct Board {
    #[state(append)]
    log: Vec<String>,
}

fn main() {
    let _ = Board::KEYS.lag;
}
