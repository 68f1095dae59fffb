use stepwell_macros::State;

#[derive(Clone, Debug, Default, State)]
#[state(crate = "stepwell_agent")]
struct Board {
    count: i64,
}

fn main() {
    let _ = BoardUpdate::count("three");
}
