//! Events in the journal: [`Keeper`] writes them in batches, [`KeptEvents`] reads them back with the numbers they had.
//!
//! Pieces of one part of a model's answer are written as one text and the lengths of its pieces, so that a streamed answer
//! costs little more than its words and still reads back piece by piece.

use super::{EventKind, RunEvent};
use crate::{
    journal::{JournalQueue, damaged, not_found, open, read, unharmed},
    runs::WatchItem,
};
use futures::{Stream, StreamExt, stream};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::{
    collections::{HashMap, VecDeque},
    fmt::{self, Debug},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant},
};
use stepwell_core::{
    Error, Result, Scope, StreamEvent,
    store::{RecordKind, RunStore},
};

/// A batch is written when it weighs so much, ..
const BATCH_BYTES: usize = 8 << 10;
/// .. has so many entries, ..
const BATCH_ENTRIES: usize = 512;
/// .. or its first event is so old when the next one comes.
const BATCH_TIME: Duration = Duration::from_secs(1);
/// Bytes of an entry beside its words, about.
const ENTRY_BYTES: usize = 96;
/// Bytes that the length of a piece takes.
const PIECE_BYTES: usize = 3;
/// Records are read in pieces of so many.
const PAGE: usize = 64;

/// What the pieces of a text are of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum PieceKind {
    Text,
    Reasoning,
    Arguments,
}

/// Pieces of one part of an answer, as one text.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Pieces {
    of: PieceKind,
    index: u32,
    text: String,
    /// The bytes of each piece; a number below 0 before one tells how many numbers others have in between.
    lengths: Vec<i64>,
}

/// One event, or the pieces that begin with its number, as the journal holds them. The run is the journal's.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct KeptEvent {
    seq: u64,
    #[serde(default = "super::no_path", skip_serializing_if = "super::is_empty")]
    path: Arc<[String]>,
    step: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    node: Option<Arc<str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    send: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    kind: Option<EventKind>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pieces: Option<Pieces>,
}

/// The same with its event borrowed.
#[derive(Serialize)]
struct WholeEvent<'a> {
    seq: u64,
    #[serde(skip_serializing_if = "super::is_empty")]
    path: &'a Arc<[String]>,
    step: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    node: &'a Option<Arc<str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    send: Option<u32>,
    kind: &'a EventKind,
}

/// The part that a piece belongs to.
#[derive(PartialEq, Eq, Hash)]
struct Place {
    path: Arc<[String]>,
    step: u32,
    node: Option<Arc<str>>,
    send: Option<u32>,
    of: PieceKind,
    index: u32,
}

enum Entry {
    Whole(Box<RawValue>),
    /// The last number and the pieces so far.
    Pieces(u64, Box<KeptEvent>),
}

/// A batch, as it is written.
#[derive(Serialize)]
struct WatchedOut<'a> {
    event: &'static str,
    to: u64,
    events: &'a [Box<RawValue>],
}

/// A record that may be a batch, as it is read: its events only where they are wanted.
#[derive(Deserialize)]
struct WatchedIn<'a> {
    #[serde(default)]
    to: u64,
    #[serde(borrow, default)]
    events: Option<&'a RawValue>,
}

/// Writes events into the journal of the outermost run.
pub(crate) struct Keeper {
    queue: JournalQueue,
    entries: Vec<Entry>,
    open: HashMap<Place, usize>,
    bytes: usize,
    since: Option<Instant>,
    /// The number of the last event that was taken.
    last: u64,
}

impl Keeper {
    pub(crate) fn new(queue: JournalQueue) -> Self {
        Self {
            queue,
            entries: Vec::new(),
            open: HashMap::new(),
            bytes: 0,
            since: None,
            last: 0,
        }
    }

    pub(crate) fn take(&mut self, event: &RunEvent) {
        self.last = event.seq;
        match piece_of(&event.kind) {
            Some((of, index, text)) => self.take_piece(event, of, index, text),
            None => self.take_whole(event),
        }
        let is_step_over = event.path.is_empty() && matches!(event.kind, EventKind::StepEnd { .. });
        let is_old = self.since.get_or_insert_with(Instant::now).elapsed() >= BATCH_TIME;
        if is_step_over || is_old || self.bytes >= BATCH_BYTES || self.entries.len() >= BATCH_ENTRIES {
            self.flush();
        }
    }

    fn take_whole(&mut self, event: &RunEvent) {
        let whole = WholeEvent {
            seq: event.seq,
            path: &event.path,
            step: event.step,
            node: &event.node,
            send: event.send,
            kind: &event.kind,
        };
        match serde_json::value::to_raw_value(&whole) {
            Ok(raw) => {
                self.bytes += raw.get().len();
                self.entries.push(Entry::Whole(raw));
            }
            Err(_) => left_out(event.seq),
        }
    }

    fn take_piece(&mut self, event: &RunEvent, of: PieceKind, index: u32, text: &str) {
        let length = i64::try_from(text.len()).unwrap_or(i64::MAX);
        self.bytes += text.len() + PIECE_BYTES;
        let place = Place {
            path: Arc::clone(&event.path),
            step: event.step,
            node: event.node.clone(),
            send: event.send,
            of,
            index,
        };
        let known = self.open.get(&place).and_then(|at| self.entries.get_mut(*at));
        if let Some(Entry::Pieces(last, kept)) = known
            && let Some(pieces) = &mut kept.pieces
        {
            let between = event.seq - *last - 1;
            if between > 0 {
                pieces.lengths.push(-i64::try_from(between).unwrap_or(i64::MAX));
            }
            pieces.lengths.push(length);
            pieces.text.push_str(text);
            *last = event.seq;
            return;
        }
        self.bytes += ENTRY_BYTES;
        self.open.insert(place, self.entries.len());
        let kept = KeptEvent {
            seq: event.seq,
            path: Arc::clone(&event.path),
            step: event.step,
            node: event.node.clone(),
            send: event.send,
            kind: None,
            pieces: Some(Pieces {
                of,
                index,
                text: text.to_owned(),
                lengths: vec![length],
            }),
        };
        self.entries.push(Entry::Pieces(event.seq, Box::new(kept)));
    }

    /// Puts what was taken so far on its way.
    pub(crate) fn flush(&mut self) {
        self.open.clear();
        (self.bytes, self.since) = (0, None);
        let mut texts: Vec<Box<RawValue>> = Vec::with_capacity(self.entries.len());
        for entry in self.entries.drain(..) {
            match entry {
                Entry::Whole(raw) => texts.push(raw),
                Entry::Pieces(_, kept) => match serde_json::value::to_raw_value(&kept) {
                    Ok(raw) => texts.push(raw),
                    Err(_) => left_out(kept.seq),
                },
            }
        }
        if texts.is_empty() || self.push(&texts).is_ok() {
            return;
        }
        // One of them cannot be written, for it is nested too deeply: the others are.
        for text in &texts {
            if let Err(error) = self.push(std::slice::from_ref(text)) {
                tracing::warn!(code = error.code(), "an event of the run could not be kept");
            }
        }
    }

    fn push(&self, events: &[Box<RawValue>]) -> Result<()> {
        self.queue.push_event(&WatchedOut {
            event: "watched",
            to: self.last,
            events,
        })
    }
}

/// A reader is told by the number that is missing.
fn left_out(seq: u64) {
    tracing::warn!(seq, "an event of the run is no JSON and could not be kept");
}

fn piece_of(kind: &EventKind) -> Option<(PieceKind, u32, &str)> {
    let EventKind::Model { event } = kind else {
        return None;
    };
    match event {
        StreamEvent::TextDelta { index, text } => Some((PieceKind::Text, *index, text)),
        StreamEvent::ReasoningDelta { index, text } => Some((PieceKind::Reasoning, *index, text)),
        StreamEvent::ToolCallDelta { index, arguments } => Some((PieceKind::Arguments, *index, arguments)),
        _ => None,
    }
}

impl KeptEvent {
    /// The events it stands for; `None` where it is damaged.
    fn read_back(self, run_id: &Arc<str>, events: &mut Vec<RunEvent>) -> Option<()> {
        let event = |seq, kind| RunEvent {
            seq,
            run_id: Arc::clone(run_id),
            path: Arc::clone(&self.path),
            step: self.step,
            node: self.node.clone(),
            send: self.send,
            kind,
        };
        match (self.kind, self.pieces) {
            (Some(kind), None) => events.push(event(self.seq, kind)),
            (None, Some(pieces)) => {
                let (mut seq, mut rest) = (self.seq, &*pieces.text);
                for length in pieces.lengths {
                    if length < 0 {
                        seq = seq.checked_add(length.unsigned_abs())?;
                        continue;
                    }
                    let (piece, after) = rest.split_at_checked(usize::try_from(length).ok()?)?;
                    rest = after;
                    let (index, text) = (pieces.index, piece.to_owned());
                    let said = match pieces.of {
                        PieceKind::Text => StreamEvent::TextDelta { index, text },
                        PieceKind::Reasoning => StreamEvent::ReasoningDelta { index, text },
                        PieceKind::Arguments => StreamEvent::ToolCallDelta {
                            index,
                            arguments: text,
                        },
                    };
                    events.push(event(seq, EventKind::Model { event: said }));
                    seq = seq.checked_add(1)?;
                }
                if !rest.is_empty() {
                    return None;
                }
            }
            _ => return None,
        }
        Some(())
    }
}

/// Reads kept events back, batch after batch; at the end it can be asked again later.
pub(crate) struct KeptReader {
    store: Arc<dyn RunStore>,
    scope: Scope,
    run_id: Arc<str>,
    next_record: u64,
}

impl KeptReader {
    pub(crate) fn new(store: Arc<dyn RunStore>, scope: Scope, run_id: Arc<str>) -> Self {
        Self {
            store,
            scope,
            run_id,
            next_record: 1,
        }
    }

    /// The next events from this number on, in order; none at the end of what is there.
    pub(crate) async fn batch(&mut self, from_seq: u64) -> Result<Vec<RunEvent>> {
        loop {
            let (scope, run_id) = (&self.scope, &self.run_id);
            let records = unharmed(self.store.read(scope, run_id, self.next_record, PAGE)).await?;
            let is_last = records.len() < PAGE;
            let mut events: Vec<RunEvent> = Vec::new();
            for record in &records {
                // The first may have been pruned; whoever watches sees it by the numbers of the events.
                if record.seq < self.next_record || record.seq > self.next_record && self.next_record > 1 {
                    let told = format!("record {} is missing before it", self.next_record);
                    return Err(damaged(record.seq, told));
                }
                self.next_record = record.seq + 1;
                if record.kind != RecordKind::Event {
                    continue;
                }
                let batch: WatchedIn<'_> = read(record.seq, open(record)?)?;
                if let Some(kept) = batch.events.filter(|_| batch.to >= from_seq) {
                    let kept: Vec<KeptEvent> = read(record.seq, kept.get().as_bytes())?;
                    for kept in kept {
                        kept.read_back(&self.run_id, &mut events)
                            .ok_or_else(|| damaged(record.seq, "a kept event cannot be read"))?;
                    }
                }
            }
            events.retain(|event| event.seq >= from_seq);
            events.sort_by_key(|event| event.seq);
            if is_last || !events.is_empty() {
                return Ok(events);
            }
        }
    }
}

/// The kept events of a run, from its journal: each with the number it had, and a [`WatchItem::Gap`] for numbers that are
/// missing. It ends with what the journal holds; a run that still goes may have more later.
#[must_use = "poll it"]
pub struct KeptEvents(stream::BoxStream<'static, Result<WatchItem>>);

impl KeptEvents {
    pub(crate) fn new(store: Arc<dyn RunStore>, scope: Scope, run_id: &str, from_seq: u64) -> Self {
        struct Reading {
            reader: KeptReader,
            next: u64,
            is_begun: bool,
            is_over: bool,
            waiting: VecDeque<RunEvent>,
        }
        let from = Reading {
            reader: KeptReader::new(store, scope, run_id.into()),
            next: from_seq.max(1),
            is_begun: false,
            is_over: false,
            waiting: VecDeque::new(),
        };
        let items = stream::unfold(from, |mut reading| async move {
            loop {
                if reading.is_over {
                    return None;
                }
                let reader = &mut reading.reader;
                if let Some(event) = reading.waiting.front() {
                    if event.seq > reading.next {
                        let gap = WatchItem::Gap {
                            from: reading.next,
                            to: event.seq - 1,
                        };
                        reading.next = event.seq;
                        return Some((Ok(gap), reading));
                    }
                    let event = reading.waiting.pop_front()?;
                    if event.seq < reading.next {
                        continue; // it stands there twice
                    }
                    reading.next = event.seq + 1;
                    return Some((Ok(WatchItem::Event(Arc::new(event))), reading));
                }
                let is_there = if std::mem::replace(&mut reading.is_begun, true) {
                    Ok(true)
                } else {
                    let head = unharmed(reader.store.head(&reader.scope, &reader.run_id)).await;
                    head.map(|head| head.is_some())
                };
                let batch = match is_there {
                    Ok(true) => reader.batch(reading.next).await,
                    Ok(false) => Err(not_found(&reader.run_id)),
                    Err(error) => Err(error),
                };
                match batch {
                    Ok(events) if events.is_empty() => return None,
                    Ok(events) => reading.waiting = events.into(),
                    Err(error) => {
                        reading.is_over = true;
                        return Some((Err(error), reading));
                    }
                }
            }
        });
        Self(items.boxed())
    }
}

impl Stream for KeptEvents {
    type Item = Result<WatchItem>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.as_mut().poll_next(cx)
    }
}

impl Debug for KeptEvents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeptEvents").finish_non_exhaustive()
    }
}

/// What a run is told that is to keep its events and has nowhere to.
pub(crate) fn nowhere() -> Error {
    Error::invalid(
        "keep_events",
        "the run has no journal; name a store with `.store(..)`",
    )
}

#[cfg(test)]
mod tests {
    use super::{KeptEvent, PieceKind, Pieces};
    use std::sync::Arc;

    #[test]
    fn pieces_that_do_not_add_up_are_damage_and_never_a_panic() {
        let kept = |text: &str, lengths: Vec<i64>| KeptEvent {
            seq: 5,
            path: Arc::from([]),
            step: 1,
            node: None,
            send: None,
            kind: None,
            pieces: Some(Pieces {
                of: PieceKind::Text,
                index: 0,
                text: text.into(),
                lengths,
            }),
        };
        let read = |text: &str, lengths| {
            let mut events = Vec::new();
            let run_id = Arc::from("r");
            kept(text, lengths).read_back(&run_id, &mut events)?;
            Some(events.iter().map(|event| event.seq).collect::<Vec<_>>())
        };
        assert_eq!(read("abc", vec![1, -3, 2, 0]), Some(vec![5, 9, 10]));
        assert_eq!(read("abc", vec![1]), None, "text is left");
        assert_eq!(read("abc", vec![4]), None, "text is missing");
        assert_eq!(read("ä", vec![1, 1]), None, "half a character");
        assert_eq!(read("a", vec![i64::MIN, i64::MIN, 1]), None, "numbers run over");
    }
}
