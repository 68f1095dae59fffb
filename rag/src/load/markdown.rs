//! Markdown: the text stays the source, so a quote is what the author typed; only headings are looked up.

use pulldown_cmark::{Event, HeadingLevel, Options, Parser, Tag, TagEnd};
use stepwell_core::{Document, Heading};

use super::guard::Guard;
use super::refusal::Refusal;
use super::text;

/// How many events pass between two looks at the clock.
const PACE: usize = 1024;

pub(super) fn read(id: &str, bytes: &[u8], guard: &Guard) -> Result<Document, Refusal> {
    let source = text::decode(bytes)?;
    // Before the parser sees it: what it builds is many times the text.
    guard.text(source.len())?;
    let headings = headings(&source, guard)?;
    let mut document = Document::new(id, source);
    document.title = headings.first().map(|heading| heading.title.clone());
    document.headings = headings;
    Ok(document)
}

fn headings(source: &str, guard: &Guard) -> Result<Vec<Heading>, Refusal> {
    // A block between `---` lines at the top is data; without the option its last line would read as a heading.
    let options = Options::ENABLE_YAML_STYLE_METADATA_BLOCKS
        | Options::ENABLE_PLUSES_DELIMITED_METADATA_BLOCKS
        | Options::ENABLE_TABLES;
    let mut found = Vec::new();
    let mut open: Option<(u8, String)> = None;
    for (number, (event, span)) in Parser::new_ext(source, options).into_offset_iter().enumerate() {
        if number % PACE == 0 {
            guard.check()?;
        }
        match event {
            Event::Start(Tag::Heading { level, .. }) => open = Some((number_of(level), String::new())),
            Event::End(TagEnd::Heading(_)) => {
                if let Some((level, title)) = open.take() {
                    let title = title.split_whitespace().collect::<Vec<_>>().join(" ");
                    let end = span.start + source[span.clone()].trim_end().len();
                    if !title.is_empty() {
                        found.push(Heading::new(level, title, span.start..end));
                    }
                }
            }
            Event::Text(words) | Event::Code(words) => {
                if let Some((_, title)) = &mut open {
                    title.push_str(&words);
                }
            }
            Event::SoftBreak | Event::HardBreak => {
                if let Some((_, title)) = &mut open {
                    title.push(' ');
                }
            }
            _ => {}
        }
    }
    Ok(found)
}

fn number_of(level: HeadingLevel) -> u8 {
    match level {
        HeadingLevel::H1 => 1,
        HeadingLevel::H2 => 2,
        HeadingLevel::H3 => 3,
        HeadingLevel::H4 => 4,
        HeadingLevel::H5 => 5,
        HeadingLevel::H6 => 6,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headings_stand_where_their_lines_stand() {
        let source = "---\ntitle: data\n---\n\n# The `run` *log*\n\nText.\n\nSet\next\n---\n\n```\n# code\n```\n> ## Quoted\n\n#\n";
        let document = read("a.md", source.as_bytes(), &Guard::unbounded()).expect("Markdown");
        assert_eq!(document.text, source);
        assert_eq!(document.title.as_deref(), Some("The run log"));
        let seen: Vec<_> = document
            .headings
            .iter()
            .map(|h| (h.level, h.title.as_str(), &source[h.span.clone()]))
            .collect();
        assert_eq!(
            seen,
            [
                (1, "The run log", "# The `run` *log*"),
                (2, "Set ext", "Set\next\n---"),
                (2, "Quoted", "## Quoted")
            ]
        );
    }
}
