//! [`Chart`]: a history while it is mended, borrowed where it is sound.

use super::{
    Messages,
    change::{Change, ChangeKind},
    rules::{Rules, Turns},
};
use std::borrow::Cow;
use stepwell_core::{Message, ModelInfo, Opaque, Part, Role};

/// A message on its way.
#[derive(Debug)]
pub(super) struct Draft<'a> {
    /// Its place in the history given; that of its neighbour where we put it in.
    pub(super) index: usize,
    pub(super) source: Option<&'a Message>,
    pub(super) role: Role,
    pub(super) parts: Cow<'a, [Part]>,
}

impl Draft<'_> {
    /// One of ours, beside the message at `index`.
    pub(super) fn added(index: usize, role: Role, parts: Vec<Part>) -> Self {
        Self {
            index,
            source: None,
            role,
            parts: Cow::Owned(parts),
        }
    }

    pub(super) fn is_system(&self) -> bool {
        matches!(self.role, Role::System | Role::Developer)
    }

    pub(super) fn is_assistant(&self) -> bool {
        self.role == Role::Assistant
    }

    /// Whether anything of it reaches a model: data is for the program.
    pub(super) fn is_empty(&self) -> bool {
        self.parts.iter().all(|part| matches!(part, Part::Data(_)))
    }

    pub(super) fn take_parts(&mut self) -> Vec<Part> {
        std::mem::take(&mut self.parts).into_owned()
    }
}

/// The history while it is mended.
#[derive(Debug)]
pub(super) struct Chart<'a, 'r> {
    pub(super) rules: &'r Rules,
    pub(super) info: &'r ModelInfo,
    pub(super) drafts: Vec<Draft<'a>>,
    pub(super) changes: Vec<Change>,
    /// Something is different, told or (data alone) not.
    pub(super) is_touched: bool,
}

impl<'a, 'r> Chart<'a, 'r> {
    pub(super) fn new(messages: &'a [Message], rules: &'r Rules, info: &'r ModelInfo) -> Self {
        Self {
            rules,
            info,
            drafts: messages
                .iter()
                .enumerate()
                .map(|(index, message)| Draft {
                    index,
                    source: Some(message),
                    role: message.role,
                    parts: Cow::Borrowed(message.parts.as_slice()),
                })
                .collect(),
            changes: Vec::new(),
            is_touched: false,
        }
    }

    pub(super) fn change(
        &mut self,
        message_index: usize,
        kind: ChangeKind,
        detail: impl Into<Cow<'static, str>>,
    ) {
        self.is_touched = true;
        self.changes.push(Change {
            message_index,
            kind,
            detail: detail.into(),
        });
    }

    /// Whether this very model made the token.
    pub(super) fn is_own(&self, token: Option<&Opaque>) -> bool {
        token.is_some_and(|token| token.provider == self.info.provider && token.model == self.info.model)
    }

    /// Whether this vendor made the token.
    pub(super) fn is_vendors(&self, token: Option<&Opaque>) -> bool {
        token.is_some_and(|token| token.provider == self.info.provider)
    }

    /// Leaves out drafts that nothing is left of.
    pub(super) fn drop_empty(&mut self) {
        let before = self.drafts.len();
        self.drafts.retain(|draft| !draft.is_empty());
        self.is_touched |= self.drafts.len() != before;
    }

    /// For each draft, the number of the model's turn it belongs to: neighbours are one turn where the wire
    /// joins them. `None` for others.
    pub(super) fn runs(&self) -> Vec<Option<usize>> {
        let mut runs = Vec::with_capacity(self.drafts.len());
        let mut count = 0;
        for (at, draft) in self.drafts.iter().enumerate() {
            runs.push(draft.is_assistant().then(|| {
                let joins = self.rules.turns != Turns::Separate;
                if !(joins && at > 0 && self.drafts[at - 1].is_assistant()) {
                    count += 1;
                }
                count - 1
            }));
        }
        runs
    }

    /// The mended messages.
    pub(super) fn finish(self, given: &'a [Message]) -> (Messages<'a>, Vec<Change>) {
        if !self.is_touched {
            return (Cow::Borrowed(given), self.changes);
        }
        let messages = self
            .drafts
            .into_iter()
            .map(|draft| {
                let mut message = Message::new(draft.role, draft.parts.into_owned());
                if let Some(source) = draft.source {
                    message.id.clone_from(&source.id);
                    message.name.clone_from(&source.name);
                    message.metadata.clone_from(&source.metadata);
                }
                message
            })
            .collect();
        (Cow::Owned(messages), self.changes)
    }
}
