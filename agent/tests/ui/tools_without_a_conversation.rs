use stepwell_agent::{Graph, ToolsNode};
use stepwell_core::AllowAll;
use stepwell_macros::State;

#[derive(Clone, Debug, Default, State)]
#[state(crate = "stepwell_agent")]
struct Board {
    count: i64,
}

fn main() {
    let tools = ToolsNode::new([], std::sync::Arc::new(AllowAll));
    let _ = Graph::<Board>::builder().node("tools", tools);
}
