//! The little that DOCX and EPUB ask of XML.

use quick_xml::events::{BytesRef, BytesStart};

use super::refusal::Refusal;

/// An attribute by its name without prefix.
pub(super) fn attribute(tag: &BytesStart<'_>, name: &str) -> Option<String> {
    tag.attributes()
        .with_checks(false)
        .take(64)
        .filter_map(Result::ok)
        .find(|attribute| attribute.key.local_name().into_inner() == name)
        .map(|attribute| match quick_xml::escape::unescape(&attribute.value) {
            Ok(value) => value.into_owned(),
            Err(_) => attribute.value.into_owned(),
        })
}

/// The five entities of XML and character references; there are no others without a document type.
pub(super) fn resolve(name: &BytesRef<'_>) -> Option<char> {
    if let Ok(Some(sign)) = name.resolve_char_ref() {
        return Some(sign);
    }
    match &**name {
        "amp" => Some('&'),
        "lt" => Some('<'),
        "gt" => Some('>'),
        "quot" => Some('"'),
        "apos" => Some('\''),
        _ => None,
    }
}

pub(super) fn broken(what: &str) -> Refusal {
    Refusal::new(format!("broken {what}: its XML is not well formed"))
}
