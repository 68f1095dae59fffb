//! Proof that the check can fail: recorded answers, and the requests we send, are changed on their way in one place
//! after the other, and the check has to notice.
//!
//! What is counted is whether the reading of an answer differs, not that its raw values do: these differ always.

use super::{Exchange, ReplayServer, Verdict, exchange, wires};
use serde_json::{Map, Value, json};
use std::{collections::BTreeMap, fmt::Write as _, path::Path};

/// What is done to a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A value of the answer is another.
    Answer,
    /// An event of the stream does not come.
    Lost,
    /// An event of the stream comes twice.
    Twice,
    /// A value of the request is another.
    Request,
}

/// A place in bodies: what is done there, the wire, and where.
pub type Place = (Kind, String, String);

/// How often a place was changed, and how often the check noticed.
#[derive(Clone, Copy, Debug, Default)]
pub struct Count {
    pub tried: usize,
    pub noticed: usize,
}

/// What came of it.
#[derive(Debug, Default)]
pub struct Mutations {
    pub places: BTreeMap<Place, Count>,
}

impl Mutations {
    /// One line per place that was overlooked at least once, and a sum.
    pub fn table(&self) -> String {
        let mut table = String::new();
        let (mut tried, mut noticed) = (0, 0);
        for ((kind, api, key), count) in &self.places {
            (tried, noticed) = (tried + count.tried, noticed + count.noticed);
            if count.noticed < count.tried {
                let _ = writeln!(
                    table,
                    "{:>3} of {:<3} noticed  {:<8} {api:<17} {key}",
                    count.noticed,
                    count.tried,
                    format!("{kind:?}")
                );
            }
        }
        let _ = writeln!(
            table,
            "{tried} changes at {} places, {noticed} noticed",
            self.places.len()
        );
        table
    }
}

/// A piece of a body: JSON, or what stands around it.
#[derive(Clone, Debug)]
enum Piece {
    Around(String),
    Json(Value),
}

/// A body in pieces: one JSON value, or lines of which some carry one.
fn pieces(body: &str) -> Vec<Piece> {
    if let Ok(value) = serde_json::from_str(body) {
        return vec![Piece::Json(value)];
    }
    let mut found = Vec::new();
    for line in body.split_inclusive('\n') {
        let (mark, rest) = match line.strip_prefix("data:") {
            Some(rest) => ("data:", rest),
            None => ("", line),
        };
        let text = rest.trim_end_matches(['\n', '\r']);
        match serde_json::from_str::<Value>(text) {
            Ok(value @ (Value::Object(_) | Value::Array(_))) => {
                found.push(Piece::Around(mark.to_owned()));
                found.push(Piece::Json(value));
                found.push(Piece::Around(rest[text.len()..].to_owned()));
            }
            _ => found.push(Piece::Around(line.to_owned())),
        }
    }
    found
}

fn joined(pieces: &[Piece]) -> Vec<u8> {
    let texts = pieces.iter().map(|piece| match piece {
        Piece::Around(text) => text.clone(),
        Piece::Json(value) => value.to_string(),
    });
    texts.collect::<String>().into_bytes()
}

/// The values that are no containers: where each is, and its place without numbers.
fn leaves(value: &Value, pointer: &str, key: &str, found: &mut Vec<(String, String)>) {
    match value {
        Value::Null => {}
        Value::Array(items) => {
            for (at, item) in items.iter().enumerate() {
                leaves(item, &format!("{pointer}/{at}"), &format!("{key}[]"), found);
            }
        }
        Value::Object(fields) => {
            for (name, field) in fields {
                let escaped = name.replace('~', "~0").replace('/', "~1");
                leaves(
                    field,
                    &format!("{pointer}/{escaped}"),
                    &format!("{key}.{name}"),
                    found,
                );
            }
        }
        _ => found.push((pointer.to_owned(), key.to_owned())),
    }
}

/// Another value of the same kind.
fn alter(value: &mut Value) {
    *value = match value.take() {
        Value::Bool(flag) => json!(!flag),
        Value::Number(number) => match (number.as_u64(), number.as_f64()) {
            (Some(count), _) => json!(count + 1),
            (_, Some(share)) => json!(share + 1.0),
            _ => json!(1),
        },
        // At the end, where a JSON text in it breaks too.
        Value::String(text) => json!(text + "x"),
        other => other,
    };
}

/// How an event is called: its type, or what it brings.
fn event_name(value: &Value) -> String {
    if let Some(kind) = value["type"].as_str() {
        let inner = [
            &value["delta"]["type"],
            &value["content_block"]["type"],
            &value["item"]["type"],
        ];
        let inner = inner.iter().find_map(|kind| kind.as_str()).unwrap_or_default();
        return format!("{kind} {inner}").trim_end().to_owned();
    }
    let brings = |fields: Option<&Map<String, Value>>| {
        let fields = fields.into_iter().flatten();
        let filled = fields.filter(|(_, value)| !value.is_null() && *value != "" && **value != json!([]));
        let names: Vec<&str> = filled
            .map(|(name, _)| name.as_str())
            .filter(|name| *name != "role")
            .collect();
        names.join("+")
    };
    let choice = &value["choices"][0];
    match (choice["delta"].as_object(), value["message"].as_object()) {
        (Some(delta), _) => {
            let end = if choice["finish_reason"].is_string() {
                " end"
            } else {
                ""
            };
            format!("delta {}{end}", brings(Some(delta)))
        }
        (_, Some(message)) => format!("message {} done={}", brings(Some(message)), value["done"]),
        _ if value["candidates"].is_array() => {
            let parts = value["candidates"][0]["content"]["parts"].as_array();
            let parts = parts.into_iter().flatten();
            let kinds: Vec<String> = parts.map(|part| brings(part.as_object())).collect();
            format!("chunk {}", kinds.join(","))
        }
        _ => format!("event {}", brings(value.as_object())),
    }
}

/// Changes every wanted place of every exchange at and below a path, each at most so many times in all. A place is
/// told by its kind, its wire and its name.
///
/// # Errors
/// As [`super::run`].
pub async fn run(
    path: &Path,
    most: usize,
    wanted: impl Fn(Kind, &str, &str) -> bool,
) -> Result<Mutations, String> {
    let server = ReplayServer::start()
        .await
        .map_err(|error| format!("no local server: {error}"))?;
    let wires = wires();
    let mut mutations = Mutations::default();
    for file in exchange::files(path)? {
        let Ok(exchange) = Exchange::read(&file) else {
            continue;
        };
        let Some(wire) = wires.iter().find(|wire| wire.takes(&exchange)) else {
            continue;
        };
        // Where a failure breaks a stream off, what came before it is not compared.
        let marks = [
            "\"type\":\"error\"",
            "\"type\": \"error\"",
            "event: error",
            "data: {\"error\"",
            "response.failed",
        ];
        let is_broken_off = exchange.status == 200
            && (marks.iter().any(|mark| exchange.body.contains(mark))
                || exchange.is_event_stream() && !exchange.body.ends_with('\n'));
        if is_broken_off {
            continue;
        }
        // As it is, and in one round.
        server.tamper(Some(exchange.body.clone().into_bytes()), None);
        server.take_last_body();
        let Verdict::Passed(notes) = wire.check(&exchange, &server).await else {
            continue;
        };
        // What we refuse before it is sent is compared with nothing.
        let is_compared = exchange.request.is_some() && !notes.is_refused();
        let sent = server.take_last_body().filter(|_| is_compared);
        let bodies = Bodies {
            answered: pieces(&exchange.body),
            sent: sent.and_then(|body| serde_json::from_slice(&body).ok()),
        };
        for change in bodies.changes() {
            if !wanted(change.kind, &exchange.api, &change.key) {
                continue;
            }
            let place = (change.kind, exchange.api.clone(), change.key.clone());
            let count = mutations.places.entry(place).or_default();
            if count.tried >= most {
                continue;
            }
            count.tried += 1;
            match change.kind {
                Kind::Request => server.tamper(None, Some(bodies.with(&change))),
                _ => server.tamper(Some(bodies.with(&change)), None),
            }
            let verdict = wire.check(&exchange, &server).await;
            count.noticed += usize::from(is_noticed(&verdict));
        }
    }
    server.tamper(None, None);
    Ok(mutations)
}

/// What can be changed of an exchange.
struct Bodies {
    answered: Vec<Piece>,
    /// Where it was compared.
    sent: Option<Value>,
}

/// One change: of a value in a piece of the answer or in the request, or of a whole event.
struct Change {
    kind: Kind,
    key: String,
    piece: usize,
    pointer: String,
}

impl Bodies {
    /// All that can be changed.
    fn changes(&self) -> Vec<Change> {
        let mut found = Vec::new();
        let mut add = |kind: Kind, piece: usize, places: Vec<(String, String)>| {
            found.extend(places.into_iter().map(|(pointer, key)| Change {
                kind,
                key,
                piece,
                pointer,
            }));
        };
        let is_stream = self.answered.len() > 1;
        for (at, piece) in self.answered.iter().enumerate() {
            let Piece::Json(value) = piece else { continue };
            let name = if is_stream {
                event_name(value)
            } else {
                String::new()
            };
            let mut places = Vec::new();
            leaves(value, "", &name, &mut places);
            add(Kind::Answer, at, places);
            if is_stream {
                add(Kind::Lost, at, vec![(String::new(), name.clone())]);
                add(Kind::Twice, at, vec![(String::new(), name)]);
            }
        }
        if let Some(sent) = &self.sent {
            let mut places = Vec::new();
            leaves(sent, "", "", &mut places);
            add(Kind::Request, 0, places);
        }
        found
    }

    /// The body with a change.
    fn with(&self, change: &Change) -> Vec<u8> {
        if let (Kind::Request, Some(sent)) = (change.kind, &self.sent) {
            let mut sent = sent.clone();
            sent.pointer_mut(&change.pointer).map(alter);
            return sent.to_string().into_bytes();
        }
        let mut answered = self.answered.clone();
        let before = change.piece.checked_sub(1).map(|before| &self.answered[before]);
        let mark = match before {
            Some(Piece::Around(mark)) => mark.as_str(),
            _ => "",
        };
        let piece = &mut answered[change.piece];
        match (change.kind, &mut *piece) {
            (Kind::Lost, _) => *piece = Piece::Around(String::new()),
            (Kind::Twice, Piece::Json(value)) => {
                let blank = if mark.is_empty() { "\n" } else { "\n\n" };
                *piece = Piece::Around(format!("{value}{blank}{mark}{value}"));
            }
            (_, Piece::Json(value)) => {
                value.pointer_mut(&change.pointer).map(alter);
            }
            _ => {}
        }
        joined(&answered)
    }
}

/// Whether more than the raw values differ.
fn is_noticed(verdict: &Verdict) -> bool {
    match verdict {
        Verdict::Failed(faults) => faults.iter().any(|fault| !fault.contains(": .raw")),
        _ => false,
    }
}
