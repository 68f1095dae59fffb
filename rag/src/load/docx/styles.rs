//! Which paragraph styles are headings, by the names Word keeps in English in every language; and the title.

use std::collections::HashMap;

use quick_xml::Reader;
use quick_xml::events::Event;

use super::super::guard::Guard;
use super::super::refusal::Refusal;
use super::super::xml::{self, attribute, resolve};

/// Longest chain of styles that build on one another.
const CHAIN: usize = 16;

/// What a paragraph is by its style.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rank {
    Body,
    Title,
    Heading(u8),
}

#[derive(Debug, Default)]
pub(super) struct Styles(HashMap<String, Style>);

#[derive(Debug, Default)]
struct Style {
    rank: Option<Rank>,
    based_on: Option<String>,
}

impl Styles {
    pub(super) fn read(xml: &str, guard: &Guard) -> Result<Self, Refusal> {
        let mut reader = Reader::from_str(xml);
        let mut styles = HashMap::new();
        let mut open: Option<(String, Style)> = None;
        let mut count = 0_usize;
        loop {
            count += 1;
            if count.is_multiple_of(1024) {
                guard.check()?;
            }
            match reader.read_event().map_err(|_| xml::broken("DOCX"))? {
                Event::Start(tag) | Event::Empty(tag) => match tag.local_name().into_inner() {
                    "style" => open = attribute(&tag, "styleId").map(|id| (id, Style::default())),
                    "name" => {
                        if let Some((_, style)) = &mut open {
                            style.rank = attribute(&tag, "val").and_then(|name| rank_of_name(&name));
                        }
                    }
                    "basedOn" => {
                        if let Some((_, style)) = &mut open {
                            style.based_on = attribute(&tag, "val");
                        }
                    }
                    "outlineLvl" => {
                        if let Some((_, style)) = &mut open {
                            style.rank = style
                                .rank
                                .or(attribute(&tag, "val").and_then(|level| rank_of_outline(&level)));
                        }
                    }
                    _ => {}
                },
                Event::End(tag) if tag.local_name().into_inner() == "style" => styles.extend(open.take()),
                Event::DocType(_) => return Err(Refusal::new("broken DOCX: it declares a document type")),
                Event::Eof => break,
                _ => {}
            }
        }
        Ok(Self(styles))
    }

    /// What a paragraph of this style is. Without a style sheet the id has to tell.
    pub(super) fn rank(&self, id: &str) -> Rank {
        if self.0.is_empty() {
            return rank_of_name(id).unwrap_or(Rank::Body);
        }
        let mut id = id;
        for _ in 0..CHAIN {
            match self.0.get(id) {
                Some(Style { rank: Some(rank), .. }) => return *rank,
                Some(Style {
                    based_on: Some(next), ..
                }) => id = next,
                _ => break,
            }
        }
        Rank::Body
    }
}

/// `heading 2`, `Heading2`, `Title`.
fn rank_of_name(name: &str) -> Option<Rank> {
    let name = name.trim().to_ascii_lowercase();
    if name == "title" {
        return Some(Rank::Title);
    }
    let level: u8 = name.strip_prefix("heading")?.trim().parse().ok()?;
    (1..=9).contains(&level).then_some(Rank::Heading(level))
}

/// 0 to 8 are headings, 9 is body text.
pub(super) fn rank_of_outline(level: &str) -> Option<Rank> {
    let level: u8 = level.trim().parse().ok()?;
    Some(if level < 9 {
        Rank::Heading(level + 1)
    } else {
        Rank::Body
    })
}

/// The title in the document's properties.
pub(super) fn declared_title(xml: &str, guard: &Guard) -> Result<Option<String>, Refusal> {
    guard.check()?;
    let mut reader = Reader::from_str(xml);
    let (mut title, mut inside) = (String::new(), false);
    loop {
        match reader.read_event() {
            Ok(Event::Start(tag)) => inside = tag.name().into_inner() == "dc:title",
            Ok(Event::End(_)) => inside = false,
            Ok(Event::Text(words)) if inside => title.push_str(&words.into_inner()),
            Ok(Event::GeneralRef(name)) if inside => title.extend(resolve(&name)),
            // A damaged property sheet costs its title, not the document.
            Ok(Event::Eof) | Err(_) => break,
            Ok(_) => {}
        }
    }
    let title = title.split_whitespace().collect::<Vec<_>>().join(" ");
    Ok(Some(title).filter(|title| !title.is_empty()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_style_is_a_heading_by_its_name_its_outline_or_its_base() {
        let xml = r#"<w:styles xmlns:w="u"><w:style w:styleId="berschrift2"><w:name w:val="heading 2"/></w:style>
            <w:style w:styleId="Mine"><w:name w:val="Mine"/><w:basedOn w:val="berschrift2"/></w:style>
            <w:style w:styleId="Own"><w:name w:val="Own"/><w:pPr><w:outlineLvl w:val="3"/></w:pPr></w:style>
            <w:style w:styleId="Loop"><w:name w:val="x"/><w:basedOn w:val="Loop"/></w:style>
            <w:style w:styleId="T"><w:name w:val="Title"/></w:style></w:styles>"#;
        let styles = Styles::read(xml, &Guard::unbounded()).expect("styles");
        let ranks = ["berschrift2", "Mine", "Own", "Loop", "T", "absent"].map(|id| styles.rank(id));
        let heading = Rank::Heading;
        assert_eq!(
            ranks,
            [
                heading(2),
                heading(2),
                heading(4),
                Rank::Body,
                Rank::Title,
                Rank::Body
            ]
        );
        assert_eq!(Styles::default().rank("Heading3"), Rank::Heading(3));
    }
}
