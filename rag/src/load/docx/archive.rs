//! The ZIP container: parts by name, inflated bytes counted and never believed.

use std::io::{Cursor, Read};

use quick_xml::Reader;
use quick_xml::events::Event;
use zip::ZipArchive;
use zip::result::ZipError;

use super::super::guard::{Guard, Refusal};
use super::super::text;

pub(super) struct Archive<'a> {
    zip: ZipArchive<Cursor<&'a [u8]>>,
    guard: &'a Guard,
}

impl<'a> Archive<'a> {
    pub(super) fn open(bytes: &'a [u8], guard: &'a Guard) -> Result<Self, Refusal> {
        let zip = ZipArchive::new(Cursor::new(bytes)).map_err(|error| broken(&error))?;
        if zip.len() > guard.limits.archive_entries {
            return Err(Refusal::new(format!(
                "broken DOCX: more than {} parts",
                guard.limits.archive_entries
            )));
        }
        Ok(Self { zip, guard })
    }

    /// The name of the main part: where Word puts it, else where the package says it is. A name is only ever looked
    /// up in the archive, so it cannot lead outside.
    pub(super) fn main_part(&mut self) -> Result<Option<String>, Refusal> {
        const USUAL: &str = "word/document.xml";
        if self.zip.index_for_name(USUAL).is_some() {
            return Ok(Some(USUAL.to_owned()));
        }
        let Some(xml) = self.text("_rels/.rels")? else {
            return Ok(None);
        };
        let mut reader = Reader::from_str(&xml);
        loop {
            let event = reader.read_event().map_err(|_| broken_xml())?;
            let (Event::Start(tag) | Event::Empty(tag)) = event else {
                if matches!(event, Event::Eof) {
                    return Ok(None);
                }
                continue;
            };
            let of = |name| super::styles::attribute(&tag, name);
            if tag.local_name().into_inner() == "Relationship"
                && of("Type").is_some_and(|kind| kind.ends_with("/officeDocument"))
            {
                let target = of("Target")
                    .unwrap_or_default()
                    .trim_start_matches('/')
                    .to_owned();
                return Ok(Some(target).filter(|target| self.zip.index_for_name(target).is_some()));
            }
        }
    }

    /// A part as text; `None` when the archive has no part of this name.
    pub(super) fn text(&mut self, name: &str) -> Result<Option<String>, Refusal> {
        self.guard.check()?;
        let mut part = match self.zip.by_name(name) {
            Ok(part) => part,
            Err(ZipError::FileNotFound) => return Ok(None),
            Err(error) => return Err(broken(&error)),
        };
        let packed = part.compressed_size();
        let most = ratio_limit(packed, self.guard).min(self.guard.left());
        let mut bytes = Vec::new();
        let mut piece = vec![0; 64 << 10];
        loop {
            let read = part
                .read(&mut piece)
                .map_err(|_| Refusal::new("broken DOCX: a part of it is damaged"))?;
            if read == 0 {
                break;
            }
            self.guard.check()?;
            self.guard.inflate(read as u64)?;
            if (bytes.len() + read) as u64 > most {
                return Err(self.guard.bomb());
            }
            bytes.extend_from_slice(&piece[..read]);
        }
        let (encoding, from) = text::byte_order_mark(&bytes).unwrap_or((encoding_rs::UTF_8, 0));
        Ok(Some(text::decode_as(encoding, &bytes[from..])))
    }
}

/// A small part may inflate as it likes; a larger one only so many times.
fn ratio_limit(packed: u64, guard: &Guard) -> u64 {
    packed.saturating_mul(guard.limits.inflation_ratio).max(1 << 20)
}

pub(super) fn broken_xml() -> Refusal {
    Refusal::new("broken DOCX: its XML is not well formed")
}

fn broken(error: &ZipError) -> Refusal {
    match error {
        ZipError::UnsupportedArchive(message) if message.to_ascii_lowercase().contains("password") => {
            Refusal::new("encrypted DOCX")
        }
        ZipError::UnsupportedArchive(_) => Refusal::new("broken DOCX: packed in a way that cannot be read"),
        _ => Refusal::new("broken DOCX: no whole ZIP archive"),
    }
}
