//! What a record holds, and how it looks in bytes: one version byte, eight bytes of checksum (over the kind's word and
//! the text) and JSON.

use crate::{GraphShape, Question, Targets, context::Used, event::Failure, run::Pause, step::Schedule};
use bytes::Bytes;
use serde::{
    Deserialize, Serialize,
    de::{DeserializeOwned, IgnoredAny},
};
use serde_json::{Value, value::RawValue};
use std::{borrow::Cow, cell::Cell, collections::HashMap};
use stepwell_core::{
    Error, Result, ToolResult,
    store::{RecordKind, RunRecord, RunStatus},
};

/// The version this build writes, and the newest it reads.
const VERSION: u8 = 1;
/// Version byte and checksum.
const HEADER: usize = 9;
/// The largest buffer that is kept for further records.
const BUFFER_BYTES: usize = 64 << 10;
/// JSON nested deeper than this would not be read back.
const DEPTH: usize = 120;

/// Which task of which step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct TaskRef {
    pub(crate) step: u32,
    pub(crate) node: String,
    /// Which Send of the step, where it was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) send: Option<u32>,
}

/// A run begins: by this graph.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct StartBody<'a> {
    pub(crate) graph: Cow<'a, GraphShape>,
}

/// The state a run begins with, or what a further turn brings.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields, bound(deserialize = "U: DeserializeOwned"))]
pub(crate) struct InputBody<U> {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) state: Option<Value>,
    #[serde(default = "Vec::new", skip_serializing_if = "Vec::is_empty")]
    pub(crate) updates: Vec<U>,
    pub(crate) schedule: Schedule,
}

/// The same, borrowed.
#[derive(Serialize)]
pub(crate) struct TaskSeen<'a> {
    pub(crate) step: u32,
    pub(crate) node: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) send: Option<u32>,
}

#[derive(Serialize)]
pub(crate) struct TaskOut<'a, U> {
    pub(crate) task: TaskSeen<'a>,
    pub(crate) updates: &'a [U],
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) goto: Option<&'a Targets>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) leave: Option<&'a Targets>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) used: Option<&'a Used>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) stop: Option<Failure>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, bound = "U: DeserializeOwned")]
pub(crate) struct TaskIn<U> {
    pub(crate) task: TaskRef,
    pub(crate) updates: Vec<U>,
    #[serde(default)]
    pub(crate) goto: Option<Targets>,
    #[serde(default)]
    pub(crate) leave: Option<Targets>,
    #[serde(default)]
    pub(crate) used: Option<Used>,
    /// Told to people; a resumed run goes on past it.
    #[serde(default)]
    #[allow(dead_code)] // part of the closed format
    pub(crate) stop: Option<Failure>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct StepBody<'a> {
    pub(crate) schedule: Cow<'a, Schedule>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct MemoBody<'a> {
    pub(crate) task: TaskRef,
    pub(crate) key: Cow<'a, str>,
    pub(crate) value: Value,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct IntentBody {
    pub(crate) task: TaskRef,
    pub(crate) call_id: String,
    pub(crate) tool: String,
    pub(crate) idempotency_key: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct EffectBody {
    pub(crate) task: TaskRef,
    pub(crate) result: ToolResult,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct InterruptBody {
    pub(crate) task: TaskRef,
    /// The tool call that waits with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) call_id: Option<String>,
    pub(crate) question: Question,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct AnswerBody {
    pub(crate) question: String,
    pub(crate) answer: Value,
}

/// What a task used that did not end.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct UsageBody<'a> {
    pub(crate) task: TaskRef,
    pub(crate) used: Cow<'a, Used>,
}

/// Something that is no step of the run itself.
#[derive(Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum EventBody {
    /// The run was taken up again.
    Resumed {},
    /// A task failed for good.
    Failed { task: TaskRef, failure: Failure },
    /// What was watched, for those who join later: up to this number. Written and read where events are kept; the run
    /// itself goes past it.
    #[serde(skip_serializing)]
    Watched {
        #[allow(dead_code)] // part of the closed format
        to: u64,
        #[allow(dead_code)]
        events: IgnoredAny,
    },
}

/// What one node, or the caller, wrote from outside.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields, bound(deserialize = "U: DeserializeOwned"))]
pub(crate) struct EditWrite<U> {
    /// The node it stands for; the end for none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) as_node: Option<String>,
    pub(crate) updates: Vec<U>,
}

/// The state was changed from outside: as if nodes had written it in a step, where a schedule follows; in the middle of
/// one otherwise.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields, bound(deserialize = "U: DeserializeOwned"))]
pub(crate) struct EditBody<U> {
    pub(crate) writes: Vec<EditWrite<U>>,
    /// What comes next.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) schedule: Option<Schedule>,
    /// It stands for what a broken step lacked: folded together with what had finished of that.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) ends_step: bool,
}

impl<U> EditBody<U> {
    /// What a caller changes when the run goes on.
    pub(crate) fn of_caller(updates: Vec<U>) -> Self {
        Self {
            writes: vec![EditWrite {
                as_node: None,
                updates,
            }],
            schedule: None,
            ends_step: false,
        }
    }
}

/// The run was forked from another: what stands before is that one's.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ForkBody {
    pub(crate) run_id: String,
    pub(crate) seq: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SnapshotBody<'a> {
    pub(crate) graph: Cow<'a, GraphShape>,
    pub(crate) state: Value,
    pub(crate) schedule: Cow<'a, Schedule>,
    /// The step the last input came before.
    #[serde(default)]
    pub(crate) base: u32,
    pub(crate) used: Cow<'a, Used>,
    /// States of persistent graphs inside nodes.
    #[serde(default, skip_serializing_if = "HashMap::is_empty")]
    pub(crate) kept: HashMap<String, Value>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct EndBody<'a> {
    pub(crate) status: RunStatus,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) pause: Option<Cow<'a, Pause>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) failure: Option<Failure>,
    /// Where the graph around it goes on, where it was left for there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) leave: Option<Cow<'a, Targets>>,
    /// The updates of the step could not be folded: its tasks are run again on resume.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) is_step_void: bool,
    /// The number of the last event that could be watched.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(crate) last_event: u64,
}

#[allow(clippy::trivially_copy_pass_by_ref)] // serde asks so
fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// A record of a run inside a task.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ChildBody {
    pub(crate) task: TaskRef,
    /// Which run of the task, where it may have several.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) key: String,
    pub(crate) kind: RecordKind,
    pub(crate) body: Box<RawValue>,
}

/// The saved state of a persistent graph inside a node.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct KeptBody {
    pub(crate) state: Value,
}

/// A record of a run inside a task, as the task's memory holds it.
#[derive(Clone, Debug)]
pub(crate) struct ChildRecord {
    pub(crate) seq: u64,
    pub(crate) kind: RecordKind,
    pub(crate) body: Box<RawValue>,
}

// ---- Bytes ----------------------------------------------------------------------------------------------------

fn checksum(kind: RecordKind, text: &[u8]) -> [u8; 8] {
    let word = kind.as_str().as_bytes();
    let whole = word.len() + 1 + text.len();
    // Most records are small: in one piece they cost a third of what a hasher's state does.
    let mut piece = [0; 256];
    let hash = if let Some(piece) = piece.get_mut(..whole) {
        piece[..word.len()].copy_from_slice(word);
        piece[word.len() + 1..].copy_from_slice(text);
        blake3::hash(piece)
    } else {
        let mut hasher = blake3::Hasher::new();
        hasher.update(word);
        hasher.update(&[0]);
        hasher.update(text);
        hasher.finalize()
    };
    let mut sum = [0; 8];
    sum.copy_from_slice(&hash.as_bytes()[..8]);
    sum
}

/// Gives what was written into a buffer that is kept for the thread's next record: a record takes no more room than it
/// needs, and one allocation.
fn written(write: impl FnOnce(&mut Vec<u8>) -> Result<()>) -> Result<Bytes> {
    thread_local! {
        static BUFFER: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
    }
    let mut buffer = BUFFER.take(); // a body that writes a record of its own meets an empty one
    buffer.clear();
    let bytes = write(&mut buffer).map(|()| Bytes::copy_from_slice(&buffer));
    if buffer.capacity() <= BUFFER_BYTES {
        BUFFER.set(buffer);
    }
    bytes
}

/// A record's bytes.
pub(crate) fn encode<T: Serialize>(kind: RecordKind, body: &T) -> Result<Bytes> {
    written(|bytes| {
        bytes.resize(HEADER, 0);
        write(bytes, body)?;
        seal(kind, bytes)
    })
}

/// A record of a run inside a task, wrapped into one of the run around it.
pub(crate) fn wrap(task: &TaskRef, key: &str, kind: RecordKind, body: &[u8]) -> Result<Vec<u8>> {
    #[derive(Serialize)]
    struct Head<'a> {
        task: &'a TaskRef,
        #[serde(skip_serializing_if = "str::is_empty")]
        key: &'a str,
        kind: RecordKind,
    }
    let mut bytes = Vec::with_capacity(body.len() + 128);
    write(&mut bytes, &Head { task, key, kind })?;
    // The body is JSON already: it goes in as it is.
    bytes.pop();
    bytes.extend_from_slice(b",\"body\":");
    bytes.extend_from_slice(body);
    bytes.push(b'}');
    Ok(bytes)
}

/// A record's JSON alone.
pub(crate) fn text<T: Serialize>(body: &T) -> Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(256);
    write(&mut bytes, body)?;
    Ok(bytes)
}

/// Puts version and checksum before the JSON of a record.
pub(crate) fn headed(kind: RecordKind, text: &[u8]) -> Result<Bytes> {
    let mut bytes = Vec::with_capacity(HEADER + text.len());
    bytes.resize(HEADER, 0);
    bytes.extend_from_slice(text);
    seal(kind, &mut bytes)?;
    Ok(bytes.into())
}

fn write<T: Serialize>(bytes: &mut Vec<u8>, body: &T) -> Result<()> {
    serde_json::to_writer(bytes, body)
        .map_err(|error| Error::invalid("journal", format!("a record cannot be written as JSON: {error}")))
}

fn seal(kind: RecordKind, bytes: &mut [u8]) -> Result<()> {
    // A level takes two bytes at least.
    if bytes.len() > HEADER + 2 * DEPTH && depth(&bytes[HEADER..]) > DEPTH {
        return Err(Error::LimitExceeded {
            what: "the nesting of what the run would record".into(),
            limit: format!("{DEPTH} levels"),
        });
    }
    bytes[0] = VERSION;
    let sum = checksum(kind, &bytes[HEADER..]);
    bytes[1..HEADER].copy_from_slice(&sum);
    Ok(())
}

/// How deep JSON text is nested.
fn depth(text: &[u8]) -> usize {
    let (mut depth, mut deepest, mut is_string, mut is_escaped) = (0usize, 0, false, false);
    for byte in text {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' if is_string => is_escaped = true,
            b'"' => is_string = !is_string,
            b'[' | b'{' if !is_string => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b']' | b'}' if !is_string => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

pub(crate) fn damaged(seq: u64, message: impl Into<String>) -> Error {
    Error::Damaged {
        what: format!("record {seq} of the run's journal"),
        message: message.into(),
        hint: "restore the store from a backup, or start the run anew".into(),
    }
}

/// The JSON of a record, once version and checksum were looked at.
pub(crate) fn open(record: &RunRecord) -> Result<&[u8]> {
    let bytes = &record.body;
    let Some(&version) = bytes.first() else {
        return Err(damaged(record.seq, "it is empty"));
    };
    if version > VERSION || version == 0 {
        return Err(Error::UnknownVersion {
            what: "the run's journal".into(),
            found: version.into(),
            known: VERSION.into(),
        });
    }
    if bytes.len() < HEADER || bytes[1..HEADER] != checksum(record.kind, &bytes[HEADER..]) {
        return Err(damaged(record.seq, "its checksum does not fit"));
    }
    Ok(&bytes[HEADER..])
}

/// A record's content from its JSON.
pub(crate) fn read<'a, T: Deserialize<'a>>(seq: u64, text: &'a [u8]) -> Result<T> {
    serde_json::from_slice(text).map_err(|error| damaged(seq, format!("it cannot be read: {error}")))
}

#[cfg(test)]
mod tests {
    use super::{ChildBody, EndBody, TaskRef, encode, headed, open, read, text, wrap};
    use bytes::Bytes;
    use serde::de::DeserializeOwned;
    use stepwell_core::{
        Error, Result,
        store::{RecordKind, RunRecord, RunStatus},
    };

    fn record(kind: RecordKind, body: impl Into<Bytes>) -> RunRecord {
        RunRecord::new(1, kind, 0, body.into())
    }

    fn decode<T: DeserializeOwned>(record: &RunRecord) -> Result<T> {
        read(record.seq, open(record)?)
    }

    fn done() -> EndBody<'static> {
        EndBody {
            status: RunStatus::Done,
            pause: None,
            failure: None,
            leave: None,
            is_step_void: false,
            last_event: 7,
        }
    }

    #[test]
    fn a_record_of_a_run_inside_a_task_reads_back_through_every_wrapping() {
        let task = TaskRef {
            step: 2,
            node: "inner".into(),
            send: Some(3),
        };
        let inner = text(&done()).expect("plain data");
        let once = wrap(&task, "call", RecordKind::End, &inner).expect("plain data");
        let twice = wrap(&task, "", RecordKind::Child, &once).expect("plain data");
        let whole = headed(RecordKind::Child, &twice).expect("not deep");
        let outer: ChildBody = decode(&record(RecordKind::Child, whole)).expect("reads back");
        assert_eq!((outer.kind, outer.key.as_str()), (RecordKind::Child, ""));
        let middle: ChildBody = read(1, outer.body.get().as_bytes()).expect("reads back");
        assert_eq!(
            (middle.kind, middle.key.as_str(), middle.task),
            (RecordKind::End, "call", task)
        );
        let end: EndBody<'_> = read(1, middle.body.get().as_bytes()).expect("reads back");
        assert_eq!(end.status, RunStatus::Done);
    }

    #[test]
    fn a_changed_byte_a_wrong_kind_and_a_newer_version_are_refused() {
        let good = encode(RecordKind::End, &done()).expect("plain data");
        decode::<EndBody<'_>>(&record(RecordKind::End, good.clone())).expect("reads back");
        for at in 1..good.len() {
            let mut bad = good.to_vec();
            bad[at] ^= 1;
            let found = decode::<EndBody<'_>>(&record(RecordKind::End, bad));
            assert!(matches!(found, Err(Error::Damaged { .. })), "byte {at}");
        }
        let found = decode::<EndBody<'_>>(&record(RecordKind::Step, good.clone()));
        assert!(matches!(found, Err(Error::Damaged { .. })), "another kind");
        let mut newer = good.to_vec();
        newer[0] = 2;
        let found = decode::<EndBody<'_>>(&record(RecordKind::End, newer));
        assert!(matches!(
            found,
            Err(Error::UnknownVersion {
                found: 2,
                known: 1,
                ..
            })
        ));
        for cut in [0, 1, 5] {
            assert!(decode::<EndBody<'_>>(&record(RecordKind::End, good[..cut].to_vec())).is_err());
        }
    }

    #[test]
    fn what_could_not_be_read_back_is_not_written() {
        let nested = |levels: usize| {
            (0..levels).fold(serde_json::json!("[\"{"), |inner, _| serde_json::json!([inner]))
        };
        let bytes = encode(RecordKind::Memo, &nested(120)).expect("not too deep");
        decode::<serde_json::Value>(&record(RecordKind::Memo, bytes)).expect("reads back");
        assert!(matches!(
            encode(RecordKind::Memo, &nested(121)),
            Err(Error::LimitExceeded { .. })
        ));
    }

    #[test]
    fn a_record_with_a_field_of_the_future_is_refused_and_not_half_read() {
        let body = serde_json::json!({ "status": "done", "colour": "blue" });
        let bytes = encode(RecordKind::End, &body).expect("plain data");
        assert!(decode::<EndBody<'_>>(&record(RecordKind::End, bytes)).is_err());
    }
}
