//! The records of a run and of all runs inside it, unwrapped: each with the place of the run it belongs to.

use crate::journal::{ChildBody, TaskRef, open, read};
use stepwell_core::{
    Result,
    store::{RecordKind, RunRecord},
};

/// A record of a run or of one inside it.
pub(super) struct Flat {
    pub(super) seq: u64,
    /// As the ids of questions begin: `outer.1/inner#2.1/`; empty for the outermost run.
    pub(super) prefix: String,
    /// It belongs to a run inside a tool call.
    pub(super) is_in_call: bool,
    pub(super) kind: RecordKind,
    pub(super) text: Vec<u8>,
}

/// All of them in order; saved states of persistent graphs are left out.
pub(super) fn flatten(records: &[RunRecord]) -> Result<Vec<Flat>> {
    let mut flat = Vec::with_capacity(records.len());
    for record in records {
        let mut found = Flat {
            seq: record.seq,
            prefix: String::new(),
            is_in_call: false,
            kind: record.kind,
            text: open(record)?.to_vec(),
        };
        let mut is_kept = false;
        while found.kind == RecordKind::Child {
            let child: ChildBody = read(found.seq, &found.text)?;
            is_kept = child.kind == RecordKind::Snapshot;
            if is_kept {
                break;
            }
            found.is_in_call |= !child.key.is_empty();
            found.prefix.push_str(&prefix_of(&child.task, &child.key));
            found.kind = child.kind;
            found.text = child.body.get().as_bytes().to_vec();
        }
        if !is_kept {
            flat.push(found);
        }
    }
    Ok(flat)
}

/// What a run inside a task adds to the prefix of the run around it.
fn prefix_of(task: &TaskRef, key: &str) -> String {
    let send = task.send.map_or(String::new(), |send| format!("#{send}"));
    let mark = if key.is_empty() {
        String::new()
    } else {
        format!("@{key}")
    };
    format!("{}{send}.{}{mark}/", task.node, task.step)
}
