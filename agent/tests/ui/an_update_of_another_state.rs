use stepwell_agent::{Graph, RunContext, node_sync};
use stepwell_macros::State;

#[derive(Clone, Debug, Default, State)]
#[state(crate = "stepwell_agent")]
struct Board {
    count: i64,
}

#[derive(Clone, Debug, Default, State)]
#[state(crate = "stepwell_agent")]
struct Other {
    count: i64,
}

fn main() {
    let _ = Graph::<Board>::builder().node("a", node_sync(|_: &Board, _: &RunContext| Ok(OtherUpdate::count(1))));
}
