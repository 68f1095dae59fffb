//! What a record holds, and how it looks in bytes: one version byte, eight bytes of checksum (over the kind's word and
//! the text) and JSON.

use crate::{event::Failure, step::Schedule};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;
use stepwell_core::{
    Error, Result, Spend, ToolResult, Usage,
    store::{RecordKind, RunRecord, RunStatus},
};

/// The version this build writes, and the newest it reads.
const VERSION: u8 = 1;
/// Version byte and checksum.
const HEADER: usize = 9;
/// JSON nested deeper than this would not be read back.
const DEPTH: usize = 120;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct StartBody {
    pub(crate) graph: String,
    pub(crate) fingerprint: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct InputBody {
    pub(crate) state: Value,
    pub(crate) schedule: Schedule,
}

#[derive(Serialize)]
pub(crate) struct TaskOut<'a, U> {
    pub(crate) step: u32,
    pub(crate) node: &'a str,
    pub(crate) updates: &'a [U],
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) goto: Option<&'a [std::borrow::Cow<'static, str>]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) usage: Option<&'a Usage>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) spend: Option<Spend>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) stop: Option<Failure>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, bound = "U: DeserializeOwned")]
pub(crate) struct TaskIn<U> {
    pub(crate) step: u32,
    pub(crate) node: String,
    pub(crate) updates: Vec<U>,
    #[serde(default)]
    pub(crate) goto: Option<Vec<String>>,
    #[serde(default)]
    pub(crate) usage: Option<Usage>,
    #[serde(default)]
    pub(crate) spend: Option<Spend>,
    /// Told to people; a resumed run goes on past it.
    #[serde(default)]
    #[allow(dead_code)] // part of the closed format
    pub(crate) stop: Option<Failure>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct StepBody {
    pub(crate) schedule: Schedule,
}

#[derive(Serialize)]
pub(crate) struct MemoBody<'a, T> {
    pub(crate) step: u32,
    pub(crate) node: &'a str,
    pub(crate) key: &'a str,
    pub(crate) value: &'a T,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct MemoIn {
    pub(crate) step: u32,
    pub(crate) node: String,
    pub(crate) key: String,
    pub(crate) value: Value,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct IntentBody {
    pub(crate) step: u32,
    pub(crate) node: String,
    pub(crate) call_id: String,
    pub(crate) tool: String,
    pub(crate) idempotency_key: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct EffectBody {
    pub(crate) step: u32,
    pub(crate) node: String,
    pub(crate) result: ToolResult,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct UsageBody {
    pub(crate) node: String,
    pub(crate) usage: Usage,
    pub(crate) spend: Spend,
}

/// The run was taken up again.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct EventBody {
    pub(crate) event: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SnapshotBody {
    pub(crate) graph: String,
    pub(crate) fingerprint: String,
    pub(crate) state: Value,
    pub(crate) schedule: Schedule,
    pub(crate) usage: Usage,
    pub(crate) spend: Spend,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct EndBody {
    pub(crate) status: RunStatus,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) failure: Option<Failure>,
    /// The updates of the step could not be folded: its tasks are run again on resume.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) is_step_void: bool,
}

// ---- Bytes ----------------------------------------------------------------------------------------------------

fn checksum(kind: RecordKind, text: &[u8]) -> [u8; 8] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(kind.as_str().as_bytes());
    hasher.update(&[0]);
    hasher.update(text);
    let mut sum = [0; 8];
    sum.copy_from_slice(&hasher.finalize().as_bytes()[..8]);
    sum
}

pub(crate) fn encode<T: Serialize>(kind: RecordKind, body: &T) -> Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(256);
    bytes.resize(HEADER, 0);
    serde_json::to_writer(&mut bytes, body)
        .map_err(|error| Error::invalid("journal", format!("a record cannot be written as JSON: {error}")))?;
    if depth(&bytes[HEADER..]) > DEPTH {
        return Err(Error::LimitExceeded {
            what: "the nesting of what the run would record".into(),
            limit: format!("{DEPTH} levels"),
        });
    }
    bytes[0] = VERSION;
    let sum = checksum(kind, &bytes[HEADER..]);
    bytes[1..HEADER].copy_from_slice(&sum);
    Ok(bytes)
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

pub(crate) fn decode<T: DeserializeOwned>(record: &RunRecord) -> Result<T> {
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
    serde_json::from_slice(&bytes[HEADER..])
        .map_err(|error| damaged(record.seq, format!("it cannot be read: {error}")))
}

#[cfg(test)]
mod tests {
    use super::{EndBody, decode, encode};
    use stepwell_core::{
        Error,
        store::{RecordKind, RunRecord, RunStatus},
    };

    fn record(kind: RecordKind, body: Vec<u8>) -> RunRecord {
        RunRecord::new(1, kind, 0, body.into())
    }

    #[test]
    fn a_changed_byte_a_wrong_kind_and_a_newer_version_are_refused() {
        let end = EndBody {
            status: RunStatus::Done,
            failure: None,
            is_step_void: false,
        };
        let good = encode(RecordKind::End, &end).expect("plain data");
        decode::<EndBody>(&record(RecordKind::End, good.clone())).expect("reads back");
        for at in 1..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 1;
            let found = decode::<EndBody>(&record(RecordKind::End, bad));
            assert!(matches!(found, Err(Error::Damaged { .. })), "byte {at}");
        }
        let found = decode::<EndBody>(&record(RecordKind::Step, good.clone()));
        assert!(matches!(found, Err(Error::Damaged { .. })), "another kind");
        let mut newer = good.clone();
        newer[0] = 2;
        let found = decode::<EndBody>(&record(RecordKind::End, newer));
        assert!(matches!(
            found,
            Err(Error::UnknownVersion {
                found: 2,
                known: 1,
                ..
            })
        ));
        for cut in [0, 1, 5] {
            assert!(decode::<EndBody>(&record(RecordKind::End, good[..cut].to_vec())).is_err());
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
        assert!(decode::<EndBody>(&record(RecordKind::End, bytes)).is_err());
    }
}
