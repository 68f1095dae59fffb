//! [`Change`]: one thing the doctor did; [`Mended`]: the history with all of them.

use std::borrow::Cow;
use stepwell_core::{Message, Warning};

/// What was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum ChangeKind {
    /// Words of the program were moved to the beginning.
    SystemMoved,
    /// Neighbouring turns of one role became one.
    TurnsJoined,
    /// A turn was put in, for the order of roles.
    TurnAdded,
    /// Blanks at the end of the last turn were cut off.
    BlanksTrimmed,
    /// An empty part or message was left out.
    EmptyDropped,
    /// A part that cannot stand in such a turn was left out.
    PartDropped,
    /// A part of another vendor that this version does not know was left out.
    UnknownDropped,
    /// A vendor's token was left out, for another model made it.
    TokenDropped,
    /// Reasoning was left out.
    ReasoningDropped,
    /// A call got another id: its own was not of the form, or taken.
    IdChanged,
    /// A call got the name of its tool in the wire's form.
    NameChanged,
    /// A call without a result got one that says so.
    CallClosed,
    /// A call became words.
    CallAsText,
    /// A call that the vendor ran itself was left out, for its result is missing, or the other way round.
    ServerCallDropped,
    /// Arguments were put into an object.
    ArgumentsMended,
    /// A result was moved behind its call.
    ResultMoved,
    /// A result got the name of its tool.
    ResultNamed,
    /// A result without a call was left out.
    ResultDropped,
    /// A second result of one call was left out.
    DuplicateDropped,
    /// A result became words.
    ResultAsText,
}

impl ChangeKind {
    /// A stable word, such as `call_closed`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::SystemMoved => "system_moved",
            Self::TurnsJoined => "turns_joined",
            Self::TurnAdded => "turn_added",
            Self::BlanksTrimmed => "blanks_trimmed",
            Self::EmptyDropped => "empty_dropped",
            Self::PartDropped => "part_dropped",
            Self::UnknownDropped => "unknown_dropped",
            Self::TokenDropped => "token_dropped",
            Self::ReasoningDropped => "reasoning_dropped",
            Self::IdChanged => "id_changed",
            Self::NameChanged => "name_changed",
            Self::CallClosed => "call_closed",
            Self::CallAsText => "call_as_text",
            Self::ServerCallDropped => "server_call_dropped",
            Self::ArgumentsMended => "arguments_mended",
            Self::ResultMoved => "result_moved",
            Self::ResultNamed => "result_named",
            Self::ResultDropped => "result_dropped",
            Self::DuplicateDropped => "duplicate_dropped",
            Self::ResultAsText => "result_as_text",
        }
    }

    fn sentence(self) -> &'static str {
        match self {
            Self::SystemMoved => "words of the program were moved to the beginning",
            Self::TurnsJoined => "turns of one role were joined",
            Self::TurnAdded => "a turn was put in, for the order of roles",
            Self::BlanksTrimmed => "blanks at the end were cut off",
            Self::EmptyDropped => "empty parts were left out",
            Self::PartDropped => "parts that cannot stand in such a turn were left out",
            Self::UnknownDropped => "parts of another vendor were left out",
            Self::TokenDropped => "tokens of another model were left out",
            Self::ReasoningDropped => "reasoning that this model does not take back was left out",
            Self::IdChanged => "calls got other ids",
            Self::NameChanged => "names of tools were put into the wire's form",
            Self::CallClosed => "calls without a result were closed",
            Self::CallAsText => "calls became words",
            Self::ServerCallDropped => {
                "calls of the vendor's own tools were left out, each half without its other"
            }
            Self::ArgumentsMended => "arguments were put into an object",
            Self::ResultMoved => "results were moved behind their calls",
            Self::ResultNamed => "results got the name of their tool",
            Self::ResultDropped => "results without a call were left out",
            Self::DuplicateDropped => "second results of one call were left out",
            Self::ResultAsText => "results became words",
        }
    }
}

/// One change. It never quotes the history.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Change {
    /// The message it was done to, or next to, as the history was given.
    pub message_index: usize,
    /// What was done.
    pub kind: ChangeKind,
    /// A few words more: a kind of part, a vendor's or model's name.
    pub detail: Cow<'static, str>,
}

/// A history made valid.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Mended<'a> {
    /// The history: the one given where nothing had to change.
    pub messages: Cow<'a, [Message]>,
    /// Everything that was done, in the order of the doctor's work.
    pub changes: Vec<Change>,
}

impl Mended<'_> {
    /// One warning (`history_changed`) for each kind of change, with its count.
    pub fn warnings(&self) -> Vec<Warning> {
        let mut counts: Vec<(ChangeKind, usize)> = Vec::new();
        for change in &self.changes {
            match counts.iter_mut().find(|(kind, _)| *kind == change.kind) {
                Some((_, count)) => *count += 1,
                None => counts.push((change.kind, 1)),
            }
        }
        counts.sort_unstable();
        counts
            .into_iter()
            .map(|(kind, count)| {
                Warning::new(
                    "history_changed",
                    format!("{} ({count} x): {}", kind.as_str(), kind.sentence()),
                )
            })
            .collect()
    }
}
