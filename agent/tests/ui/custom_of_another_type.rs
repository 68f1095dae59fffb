use stepwell_macros::State;

fn largest(slot: &mut u64, update: u64) {
    *slot = update.max(*slot);
}

#[derive(Clone, Debug, Default, State)]
#[state(crate = "stepwell_agent")]
struct Board {
    #[state(custom = largest)]
    best: String,
}

fn main() {}
