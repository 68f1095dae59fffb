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
    let of_other = node_sync(|other: &Other, _: &RunContext| Ok(OtherUpdate::count(other.count)));
    let _ = Graph::<Board>::builder().node("a", of_other);
}
