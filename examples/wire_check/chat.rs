//! [`ChatWire`]: a wire of chat, and everything the frame checks on one.

use super::{
    Notes, Verdict, Wire, blob,
    difference::{self, Allowed},
    exchange::{Asked, Exchange},
    gist::{Outcome, shown},
    random::Random,
    server::{Answer, ReplayServer, Request},
};
use async_trait::async_trait;
use futures::StreamExt;
use serde_json::Value;
use std::sync::Arc;
use stepwell::{ChatModel, ChatRequest, ChatResponse, Error, Fold, StreamEvent};

/// The key every model is built with: it may be seen in headers and nowhere else.
pub const KEY: &str = "sk-canary-key-of-wire-check";

/// Streams of fewer bytes come byte by byte too.
const SHORT: usize = 6_000;

const QUERY: Allowed = Allowed {
    name: "query",
    reason: "the recorder's client adds a query, such as `?beta=true` of a vendor's beta namespace, that changes nothing",
};

/// One wire of chat: how its recordings are read.
pub trait ChatWire: Send + Sync {
    /// Whether it is the wire of this exchange.
    fn takes(&self, exchange: &Exchange) -> bool;

    /// The model under test, built by public API with [`KEY`], its address below `url`.
    ///
    /// # Errors
    /// What the builder says.
    fn model(&self, exchange: &Exchange, url: &str) -> stepwell::Result<Arc<dyn ChatModel>>;

    /// The recorded request in our words: what the common request can say goes into its fields, only the rest
    /// into `provider_options`.
    ///
    /// # Errors
    /// One sentence where it says what this reader has not learned.
    fn read_request(&self, exchange: &Exchange, asked: &Asked) -> Result<ChatRequest, String>;

    /// The path we ask, given the recorded one without its query.
    fn path(&self, recorded: &str) -> String {
        recorded.to_owned()
    }

    /// Rewrites a body, recorded or sent, so that two that mean the same are the same; each rewriting that changes
    /// something is an [`Allowed`] difference.
    fn canonical(&self, body: &mut Value, notes: &mut Notes);

    /// Headers of the recorded request that have to be sent too.
    fn headers(&self, _asked: &Asked, _notes: &mut Notes) -> Vec<(String, String)> {
        Vec::new()
    }

    /// How the call ends, read from the recorded answer without our decoders.
    ///
    /// # Errors
    /// One sentence where it says what this reader has not learned.
    fn read_answer(&self, exchange: &Exchange) -> Result<Outcome, String>;

    /// The header that carries the key.
    fn key_header(&self) -> &'static str {
        "authorization"
    }
}

/// A [`ChatWire`] as a [`Wire`].
pub struct Chat(pub Box<dyn ChatWire>);

#[async_trait]
impl Wire for Chat {
    fn takes(&self, exchange: &Exchange) -> bool {
        self.0.takes(exchange)
    }

    async fn check(&self, exchange: &Exchange, server: &ReplayServer) -> Verdict {
        let mut notes = Notes::default();
        let faults = check(self.0.as_ref(), exchange, server, &mut notes).await;
        Verdict::of(faults.unwrap_or_else(|fault| vec![fault]), notes)
    }
}

async fn check(
    wire: &dyn ChatWire,
    exchange: &Exchange,
    server: &ReplayServer,
    notes: &mut Notes,
) -> Result<Vec<String>, String> {
    let expected = wire.read_answer(exchange)?;
    let model = wire
        .model(exchange, &server.url)
        .map_err(|error| format!("no model: {error}"))?;
    let mut request = match &exchange.request {
        Some(asked) => wire.read_request(exchange, asked)?,
        None => ChatRequest::from("Hello"),
    };
    request.include_raw = true;
    let mut random = Random::of(&exchange.id);
    let body = exchange.body.as_bytes();
    server.take();

    // As it came, through `chat`.
    server.expect(answer(exchange, vec![body.to_vec()]));
    let mut whole = model.chat(request.clone()).await;
    let mut seen = server.take();
    let mut is_ours = exchange.request.is_some();
    if let ([], Err(Error::Unsupported { .. } | Error::InvalidInput { .. }), 400) =
        (seen.as_slice(), &whole, exchange.status)
    {
        notes.refuse();
        is_ours = false;
        request = ChatRequest::from("Hello");
        request.include_raw = true;
        server.expect(answer(exchange, vec![body.to_vec()]));
        whole = model.chat(request.clone()).await;
        seen = server.take();
    }
    let [first] = seen.as_slice() else {
        return Err(match whole {
            Err(error) => format!("request: not sent: {error}"),
            Ok(_) => format!("request: sent {} times", seen.len()),
        });
    };
    let mut faults = Vec::new();
    if let (Some(asked), true) = (&exchange.request, is_ours) {
        faults.extend(compare_request(wire, asked, first, notes));
    }
    faults.extend(compare_outcome("chat", &expected, &whole));

    if server.is_tampering() {
        return Ok(faults); // it is seen by now, or never
    }

    // Cut again and again, through `stream`; once with the other line ends.
    let crlf = exchange.body.replace("\r\n", "\n").replace('\n', "\r\n");
    let mut rounds = vec![
        ("stream, cut", random.cut(body)),
        ("stream, cut again", random.cut(body)),
    ];
    if exchange.is_event_stream() {
        rounds.push(("stream, CRLF", random.cut(crlf.as_bytes())));
        notes.is_cut_at_every_byte = body.len() < SHORT;
    }
    if notes.is_cut_at_every_byte {
        rounds.push((
            "stream, byte by byte",
            body.chunks(1).map(<[u8]>::to_vec).collect(),
        ));
    }
    for (name, pieces) in rounds {
        server.expect(answer(exchange, pieces));
        let streamed = through_stream(model.as_ref(), request.clone()).await;
        let sent = server.take();
        if sent.first().is_none_or(|sent| sent.body != first.body) {
            faults.push(format!("{name}: the same request gave other bytes"));
        }
        let found = compare_outcome(name, &expected, &streamed);
        if found.is_empty() && !is_same(&whole, &streamed) {
            faults.push(format!("{name}: differs from `chat`"));
        }
        faults.extend(found);
        if !faults.is_empty() {
            break;
        }
    }
    Ok(faults)
}

fn is_same(a: &stepwell::Result<ChatResponse>, b: &stepwell::Result<ChatResponse>) -> bool {
    match (a, b) {
        (Ok(a), Ok(b)) => {
            let (mut a, mut b) = (a.clone(), b.clone());
            // Resets are counted from now.
            for limit in a.rate_limits.iter_mut().chain(&mut b.rate_limits) {
                limit.reset_ms = None;
            }
            a == b
        }
        (Err(a), Err(b)) => a.code() == b.code(),
        _ => false,
    }
}

/// The recorded answer in these pieces. Where the source dropped the headers, the kind of body is put back.
pub fn answer(exchange: &Exchange, pieces: Vec<Vec<u8>>) -> Answer {
    let mut headers = exchange.headers.clone();
    if exchange.header("content-type").is_none() {
        let kind = if exchange.is_event_stream() {
            "text/event-stream"
        } else {
            "application/json"
        };
        headers.push(("content-type".to_owned(), kind.to_owned()));
    }
    Answer {
        status: exchange.status,
        headers,
        pieces,
    }
}

/// Folds a stream by hand, and holds it to what every stream promises.
async fn through_stream(model: &dyn ChatModel, request: ChatRequest) -> stepwell::Result<ChatResponse> {
    let info = model.info();
    let mut fold = Fold::new(&info.provider, &info.model, request.include_raw);
    let mut stream = model.stream(request).await?;
    let mut has_started = false;
    while let Some(event) = stream.next().await {
        let event = event?;
        match &event {
            StreamEvent::Ping | StreamEvent::Raw { .. } => {}
            StreamEvent::MessageStart { .. } if !has_started => has_started = true,
            _ if has_started => {}
            _ => return Err(Error::internal("something comes before the start of the message")),
        }
        fold.push(event)?;
    }
    fold.finish()
}

fn compare_outcome(name: &str, expected: &Outcome, got: &stepwell::Result<ChatResponse>) -> Vec<String> {
    let found = match (expected, got) {
        (Outcome::Answer(gist), Ok(answer)) => gist.compare(answer),
        (Outcome::Failure(failure), Err(error)) => failure.compare(error),
        (Outcome::Truncated(text), Err(Error::StreamTruncated { partial, .. }))
            if partial.text() == *text =>
        {
            Vec::new()
        }
        (Outcome::Truncated(_), Err(error)) => {
            vec![format!("a truncated answer expected, {} there", told(error))]
        }
        (Outcome::Answer(_), Err(error)) => vec![format!("an answer expected, {} there", told(error))],
        (Outcome::Failure(failure), Ok(_)) => vec![format!("{} expected, an answer there", failure.code)],
        (Outcome::Truncated(_), Ok(_)) => vec!["a truncated answer expected, a whole one there".to_owned()],
    };
    let mut found: Vec<String> = found
        .into_iter()
        .map(|fault| format!("{name}: {fault}"))
        .collect();
    if let Err(error) = got
        && shown(error).contains(KEY)
    {
        found.push(format!("{name}: the key is in the error"));
    }
    found
}

fn told(error: &Error) -> String {
    let words = error.vendor_message().unwrap_or_default();
    format!("{} ({error}; {words})", error.code())
}

fn compare_request(wire: &dyn ChatWire, asked: &Asked, sent: &Request, notes: &mut Notes) -> Vec<String> {
    let mut faults = Vec::new();
    let (path, query) = asked.path.split_once('?').unwrap_or((&asked.path, ""));
    if !query.is_empty() {
        notes.allow(&QUERY);
    }
    let sent_path = sent.path.split('?').next().unwrap_or_default();
    let path = wire.path(path);
    if sent_path != path {
        faults.push(format!("request: path {path} expected, {sent_path} sent"));
    }
    if sent.path.contains(KEY) {
        faults.push("request: the key is in the URL".to_owned());
    }
    if !sent
        .header(wire.key_header())
        .is_some_and(|value| value.contains(KEY))
    {
        faults.push(format!("request: no key in `{}`", wire.key_header()));
    }
    if sent.header("content-type") != Some("application/json") {
        faults.push("request: it is not said to be JSON".to_owned());
    }
    for (name, value) in wire.headers(asked, notes) {
        if sent.header(&name) != Some(value.as_str()) {
            faults.push(format!(
                "request: header {name}: {value} expected, {:?} sent",
                sent.header(&name)
            ));
        }
    }
    let Ok(mut body) = serde_json::from_slice::<Value>(&sent.body) else {
        faults.push("request: the body is no JSON".to_owned());
        return faults;
    };
    blob::restore(&mut body, notes);
    let mut recorded = asked.body.clone();
    wire.canonical(&mut recorded, notes);
    wire.canonical(&mut body, notes);
    difference::align_required(&recorded, &mut body, notes);
    let found = difference::between(&recorded, &body).into_iter();
    faults.extend(found.map(|fault| format!("request: {fault}")));
    faults
}
