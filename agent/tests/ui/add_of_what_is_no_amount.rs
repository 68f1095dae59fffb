use serde::{Deserialize, Serialize};
use stepwell_macros::State;

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Money(u64);

#[derive(Clone, Debug, Default, State)]
#[state(crate = "stepwell_agent")]
struct Board {
    #[state(add)]
    spent: Money,
}

fn main() {}
