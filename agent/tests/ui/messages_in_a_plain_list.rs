use stepwell_core::Message;
use stepwell_macros::State;

#[derive(Clone, Debug, Default, State)]
#[state(crate = "stepwell_agent")]
struct Board {
    #[state(messages)]
    messages: Vec<Message>,
}

fn main() {}
