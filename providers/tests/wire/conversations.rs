//! [`Conversation`]: what was recorded of one, in our words: the turns that were sent, and the answer as we read it.

use crate::{
    frame::{self, ChatWire, Exchange, ReplayServer},
    recorded::corpus,
};
use stepwell_core::{ChatRequest, Message};

/// One recorded conversation.
#[derive(Debug)]
pub(crate) struct Conversation {
    /// Of the exchange.
    pub(crate) id: String,
    /// The wire, as the corpus names it.
    pub(crate) api: String,
    /// The vendor and model, as our tokens name them.
    pub(crate) provider: String,
    pub(crate) model: String,
    /// The turns, the answer last.
    pub(crate) messages: Vec<Message>,
    /// What was asked, without its turns and what the vendor alone understands.
    pub(crate) request: ChatRequest,
}

/// Every conversation that was recorded with an answer; none without the corpus.
pub(crate) async fn all() -> Vec<Conversation> {
    let Some(path) = corpus() else { return Vec::new() };
    let server = ReplayServer::start().await.expect("a free port");
    let chats = frame::chats();
    let (mut found, mut good) = (Vec::new(), 0);
    for file in frame::exchange::files(&path).expect("a readable corpus") {
        let exchange = Exchange::read(&file).expect("an exchange");
        let Some(wire) = chats.iter().find(|wire| wire.takes(&exchange)) else {
            continue;
        };
        if exchange.status == 200 {
            good += 1;
            found.extend(read(wire.as_ref(), &exchange, &server).await);
        }
    }
    // Few answers end without a turn to carry on; where many do, nothing would be tried here.
    assert!(
        found.len() * 20 > good * 19,
        "{} of {good} can be read",
        found.len()
    );
    found
}

async fn read(wire: &dyn ChatWire, exchange: &Exchange, server: &ReplayServer) -> Option<Conversation> {
    let asked = exchange.request.as_ref()?;
    let request = wire.read_request(exchange, asked).expect("a request it knows");
    let model = wire.model(exchange, &server.url).expect("a model");
    server.take();
    server.expect(frame::chat::answer(
        exchange,
        vec![exchange.body.as_bytes().to_vec()],
    ));
    // A stream that broke off, or failed on its way, has no turn to carry on.
    let answer = model.chat(request.clone()).await.ok()?;
    let mut messages = request.messages.clone();
    messages.push(answer.message);
    let info = model.info();
    let mut request = request;
    request.messages.clear();
    request.provider_options.clear();
    Some(Conversation {
        id: exchange.id.clone(),
        api: exchange.api.clone(),
        provider: info.provider.clone(),
        model: info.model.clone(),
        messages,
        request,
    })
}
