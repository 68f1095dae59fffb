//! [`Open`]: an item of the answer while it comes.

use super::items::Input;

/// An item that has begun.
#[derive(Debug)]
pub(crate) enum Open {
    Message {
        texts: Vec<Words>,
        refusal: String,
    },
    Reasoning(Words),
    Call {
        words: Words,
        input: Input,
    },
    /// One that is read when it is whole.
    Other,
    /// It is whole.
    Done,
}

/// Words on their way.
#[derive(Debug)]
pub(crate) struct Words {
    /// The vendor's place of them in the item; for a thought, of its paragraph.
    pub(crate) at: u64,
    /// Our index.
    pub(crate) index: u32,
    /// How many bytes have come.
    pub(crate) length: usize,
    /// How many citations have come.
    pub(crate) citations: usize,
}

impl Words {
    pub(crate) fn new(at: u64, index: u32) -> Self {
        Self {
            at,
            index,
            length: 0,
            citations: 0,
        }
    }

    /// What has not come of the whole: all where no delta came, the tail where the last ones are missing.
    pub(crate) fn rest<'a>(&self, whole: &'a str) -> Option<&'a str> {
        whole.get(self.length..).filter(|rest| !rest.is_empty())
    }
}
