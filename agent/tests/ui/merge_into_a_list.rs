use stepwell_macros::State;

#[derive(Clone, Debug, Default, State)]
#[state(crate = "stepwell_agent")]
struct Board {
    #[state(merge)]
    facts: Vec<(String, i64)>,
}

fn main() {}
