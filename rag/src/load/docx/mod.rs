//! DOCX: the words of `word/document.xml` with headings, lists, tables and notes.

mod body;
mod styles;

use stepwell_core::Document;

use quick_xml::Reader;
use quick_xml::events::Event;

use super::archive::Archive;
use super::flow::{Flow, Gap};
use super::guard::Guard;
use super::refusal::Refusal;
use super::xml;

pub(super) fn read(id: &str, bytes: &[u8], guard: &Guard) -> Result<Document, Refusal> {
    let mut archive = Archive::open(bytes, "DOCX", guard)?;
    let Some(main) = main_part(&mut archive)? else {
        return Err(Refusal::new("broken DOCX: it holds no word/document.xml"));
    };
    let folder = main.rsplit_once('/').map_or("", |(folder, _)| folder).to_owned();
    let xml = archive
        .text(&main)?
        .ok_or_else(|| Refusal::new("broken DOCX: its main part cannot be read"))?;
    let styles = match archive.text(&format!("{folder}/styles.xml"))? {
        Some(xml) => styles::Styles::read(&xml, guard)?,
        None => styles::Styles::default(),
    };
    let mut flow = Flow::default();
    let mut notes = Vec::new();
    let title_line = body::read(&xml, &styles, guard, &mut flow, &mut notes)?;
    drop(xml);
    write_notes(&mut archive, &folder, guard, &mut flow, &notes)?;
    let (text, headings) = flow.finish();
    let mut document = Document::new(id, text);
    let declared = match archive.text("docProps/core.xml")? {
        Some(xml) => styles::declared_title(&xml, guard)?,
        None => None,
    };
    document.title = declared
        .or(title_line)
        .or_else(|| headings.first().map(|heading| heading.title.clone()));
    document.headings = headings;
    Ok(document)
}

/// The name of the main part: where Word puts it, else where the package says it is.
fn main_part(archive: &mut Archive<'_>) -> Result<Option<String>, Refusal> {
    const USUAL: &str = "word/document.xml";
    if archive.has(USUAL) {
        return Ok(Some(USUAL.to_owned()));
    }
    let Some(xml) = archive.text("_rels/.rels")? else {
        return Ok(None);
    };
    let mut reader = Reader::from_str(&xml);
    loop {
        let event = reader.read_event().map_err(|_| xml::broken("DOCX"))?;
        let (Event::Start(tag) | Event::Empty(tag)) = event else {
            if matches!(event, Event::Eof) {
                return Ok(None);
            }
            continue;
        };
        let of = |name| xml::attribute(&tag, name);
        if tag.local_name().into_inner() == "Relationship"
            && of("Type").is_some_and(|kind| kind.ends_with("/officeDocument"))
        {
            let target = of("Target")
                .unwrap_or_default()
                .trim_start_matches('/')
                .to_owned();
            return Ok(Some(target).filter(|target| archive.has(target)));
        }
    }
}

/// Notes follow the text, under the numbers they are called by.
fn write_notes(
    archive: &mut Archive<'_>,
    folder: &str,
    guard: &Guard,
    flow: &mut Flow,
    notes: &[body::NoteCall],
) -> Result<(), Refusal> {
    if notes.is_empty() {
        return Ok(());
    }
    let foot = archive.text(&format!("{folder}/footnotes.xml"))?;
    let end = archive.text(&format!("{folder}/endnotes.xml"))?;
    let foot = foot
        .map(|xml| body::notes(&xml, guard))
        .transpose()?
        .unwrap_or_default();
    let end = end
        .map(|xml| body::notes(&xml, guard))
        .transpose()?
        .unwrap_or_default();
    for (number, call) in notes.iter().enumerate() {
        let from = if call.is_footnote { &foot } else { &end };
        if let Some(words) = from.get(&call.id) {
            flow.gap(Gap::Paragraph);
            flow.words(&format!("[{}] ", number + 1));
            flow.verbatim(words);
        }
    }
    Ok(())
}
