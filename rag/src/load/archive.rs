//! The ZIP container of DOCX and EPUB: parts by name, inflated bytes counted and never believed. A name is only ever
//! looked up in the archive, so it cannot lead outside.

use std::io::{Cursor, Read};

use zip::ZipArchive;
use zip::result::ZipError;

use super::guard::Guard;
use super::refusal::Refusal;
use super::text;

pub(super) struct Archive<'a> {
    zip: ZipArchive<Cursor<&'a [u8]>>,
    guard: &'a Guard,
    /// What it is, in a sentence: `DOCX`.
    what: &'static str,
}

impl<'a> Archive<'a> {
    pub(super) fn open(bytes: &'a [u8], what: &'static str, guard: &'a Guard) -> Result<Self, Refusal> {
        // Before the list is read: it is kept whole.
        if listed(bytes) > guard.limits.archive_entries.saturating_mul(2) {
            return Err(guard.limits.too_many_parts());
        }
        let zip = ZipArchive::new(Cursor::new(bytes)).map_err(|error| broken(what, &error))?;
        if zip.len() > guard.limits.archive_entries {
            return Err(guard.limits.too_many_parts());
        }
        Ok(Self { zip, guard, what })
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.zip.index_for_name(name).is_some()
    }

    /// A part as text; `None` when the archive has no part of this name.
    pub(super) fn text(&mut self, name: &str) -> Result<Option<String>, Refusal> {
        let Some(bytes) = self.bytes(name)? else {
            return Ok(None);
        };
        let (encoding, from) = text::byte_order_mark(&bytes).unwrap_or((encoding_rs::UTF_8, 0));
        Ok(Some(text::decode_as(encoding, &bytes[from..])))
    }

    /// The bytes of a part; `None` when the archive has no part of this name.
    pub(super) fn bytes(&mut self, name: &str) -> Result<Option<Vec<u8>>, Refusal> {
        self.guard.check()?;
        let mut part = match self.zip.by_name(name) {
            Ok(part) => part,
            Err(ZipError::FileNotFound) => return Ok(None),
            Err(error) => return Err(broken(self.what, &error)),
        };
        let (most, over) = self.guard.room(part.compressed_size());
        let mut bytes = Vec::new();
        let mut piece = vec![0; 64 << 10];
        loop {
            let read = part
                .read(&mut piece)
                .map_err(|_| Refusal::new(format!("broken {}: a part of it is damaged", self.what)))?;
            if read == 0 {
                break;
            }
            self.guard.check()?;
            self.guard.inflate(read as u64)?;
            if (bytes.len() + read) as u64 > most {
                return Err(over);
            }
            bytes.extend_from_slice(&piece[..read]);
        }
        Ok(Some(bytes))
    }
}

/// How many parts the lists in an archive may name: each begins with this mark. Archives within it have lists as well.
fn listed(bytes: &[u8]) -> usize {
    const MARK: &[u8] = b"PK\x01\x02";
    let starts = bytes.iter().enumerate().filter(|(_, byte)| **byte == MARK[0]);
    starts.filter(|(at, _)| bytes[*at..].starts_with(MARK)).count()
}

fn broken(what: &str, error: &ZipError) -> Refusal {
    match error {
        ZipError::UnsupportedArchive(message) if message.to_ascii_lowercase().contains("password") => {
            Refusal::encrypted(what)
        }
        ZipError::UnsupportedArchive(_) => {
            Refusal::new(format!("broken {what}: packed in a way that cannot be read"))
        }
        _ => Refusal::new(format!("broken {what}: no whole ZIP archive")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_too_many_parts_is_refused_before_it_is_read() {
        let guard = Guard::unbounded();
        let entry = [&b"PK\x01\x02"[..], &[0; 42]].concat();
        let reason = |count: usize| {
            let opened = Archive::open(&entry.repeat(count), "DOCX", &guard).map(|_| ());
            opened.expect_err("no archive").reason()
        };
        assert_eq!(reason(9), "broken DOCX: no whole ZIP archive");
        assert!(reason(20_001).starts_with("the number of its parts is over the limit of 10000"));
    }
}
