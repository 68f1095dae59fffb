//! The body: paragraphs, runs, tables. What was deleted or hidden is not read.

use std::collections::HashMap;

use quick_xml::Reader;
use quick_xml::events::{BytesStart, Event};

use super::super::flow::{Flow, Gap};
use super::super::guard::Guard;
use super::super::refusal::Refusal;
use super::super::xml::{self, attribute, resolve};
use super::styles::{Rank, Styles, rank_of_outline};

/// A note called in the text.
#[derive(Debug)]
pub(super) struct NoteCall {
    pub(super) id: String,
    pub(super) is_footnote: bool,
}

/// Writes the words of a main part into the flow. Returns the first line in the style `Title`.
pub(super) fn read(
    xml: &str,
    styles: &Styles,
    guard: &Guard,
    flow: &mut Flow,
    notes: &mut Vec<NoteCall>,
) -> Result<Option<String>, Refusal> {
    let mut walk = Walk {
        flow,
        styles,
        notes,
        title: None,
        paragraph: Paragraph::default(),
        in_text: false,
        run_is_hidden: false,
    };
    each(xml, guard, |event| {
        match event {
            Part::Start(name, tag) => walk.start(name, tag),
            Part::End(name) => walk.end(name),
            Part::Words(words) => walk.words(words),
        }
        guard.text(walk.flow.len())
    })?;
    Ok(walk.title)
}

/// The words of each note by its id.
pub(super) fn notes(xml: &str, guard: &Guard) -> Result<HashMap<String, String>, Refusal> {
    let styles = Styles::default();
    let mut found = HashMap::new();
    let (mut flow, mut calls, mut id) = (Flow::default(), Vec::new(), None);
    let mut walk_state = (Paragraph::default(), false, false);
    each(xml, guard, |event| {
        match &event {
            Part::Start("footnote" | "endnote", tag) => {
                id = attribute(tag, "id").filter(|_| attribute(tag, "type").is_none());
                flow = Flow::default();
            }
            Part::End("footnote" | "endnote") => {
                if let Some(id) = id.take() {
                    found.insert(id, std::mem::take(&mut flow).finish().0);
                }
            }
            _ => {}
        }
        let (paragraph, in_text, run_is_hidden) = std::mem::take(&mut walk_state);
        let mut walk = Walk {
            flow: &mut flow,
            styles: &styles,
            notes: &mut calls,
            title: None,
            paragraph,
            in_text,
            run_is_hidden,
        };
        match event {
            Part::Start(name, tag) => walk.start(name, tag),
            Part::End(name) => walk.end(name),
            Part::Words(words) => walk.words(words),
        }
        walk_state = (walk.paragraph, walk.in_text, walk.run_is_hidden);
        Ok(())
    })?;
    Ok(found)
}

/// A piece of the XML that can matter: names without prefix.
enum Part<'a, 'x> {
    Start(&'a str, &'a BytesStart<'x>),
    End(&'a str),
    Words(&'a str),
}

/// Walks the XML of one namespace prefix, the root's: `w:` in practice. Deleted and moved-away text, the fallback twin
/// of newer drawings, and foreign vocabularies are passed over.
fn each<'x>(
    xml: &'x str,
    guard: &Guard,
    mut act: impl FnMut(Part<'_, 'x>) -> Result<(), Refusal>,
) -> Result<(), Refusal> {
    let mut reader = Reader::from_str(xml);
    // Word writes well-formed XML; what else is read may still be worth reading.
    reader.config_mut().check_end_names = true;
    let mut prefix: Option<&'x str> = None;
    let (mut depth, mut skip, mut count) = (0_usize, None::<usize>, 0_usize);
    loop {
        count += 1;
        if count.is_multiple_of(1024) {
            guard.check()?;
        }
        let event = reader.read_event().map_err(|_| xml::broken("DOCX"))?;
        let is_empty = matches!(event, Event::Empty(_));
        match event {
            Event::Start(tag) | Event::Empty(tag) => {
                let name = tag.name();
                let (space, local) = split(name.into_inner());
                if prefix.is_none() {
                    prefix = Some(prefix_in(xml, space));
                }
                let is_ours = prefix == Some(space);
                if !is_empty {
                    depth += 1;
                    if depth > guard.limits.nesting {
                        return Err(guard.limits.too_deep());
                    }
                }
                let is_left_out = match local {
                    "del" | "moveFrom" => is_ours,
                    "Fallback" => !is_ours,
                    _ => false,
                };
                if skip.is_none() && is_left_out && !is_empty {
                    skip = Some(depth);
                }
                if skip.is_none() && is_ours {
                    act(Part::Start(local, &tag))?;
                    if is_empty {
                        act(Part::End(local))?;
                    }
                }
            }
            Event::End(tag) => {
                let name = tag.name();
                let (space, local) = split(name.into_inner());
                if skip.is_none() && prefix == Some(space) {
                    act(Part::End(local))?;
                }
                if skip == Some(depth) {
                    skip = None;
                }
                depth = depth.saturating_sub(1);
            }
            Event::Text(words) if skip.is_none() => act(Part::Words(&words.into_inner()))?,
            Event::CData(words) if skip.is_none() => act(Part::Words(&words.into_inner()))?,
            Event::GeneralRef(name) if skip.is_none() => {
                if let Some(sign) = resolve(&name) {
                    act(Part::Words(sign.encode_utf8(&mut [0; 4])))?;
                }
            }
            Event::DocType(_) => return Err(Refusal::new("broken DOCX: it declares a document type")),
            Event::Eof if depth > 0 => return Err(xml::broken("DOCX")),
            Event::Eof => return Ok(()),
            _ => {}
        }
    }
}

/// The prefix as a slice of the whole text, so that it outlives the event.
fn prefix_in<'x>(xml: &'x str, space: &str) -> &'x str {
    if space.is_empty() {
        return "";
    }
    xml.find(&format!("<{space}:"))
        .map_or("", |at| &xml[at + 1..at + 1 + space.len()])
}

fn split(name: &str) -> (&str, &str) {
    name.split_once(':').unwrap_or(("", name))
}

#[derive(Default)]
struct Paragraph {
    rank: Option<Rank>,
    is_in_list: bool,
    from: Option<usize>,
    /// Whether the paragraph before was a list item: items stand on lines, not in blocks.
    was_in_list: bool,
}

struct Walk<'a> {
    flow: &'a mut Flow,
    styles: &'a Styles,
    notes: &'a mut Vec<NoteCall>,
    title: Option<String>,
    paragraph: Paragraph,
    in_text: bool,
    run_is_hidden: bool,
}

impl Walk<'_> {
    fn start(&mut self, name: &str, tag: &BytesStart<'_>) {
        match name {
            "p" => {
                let was_in_list = self.paragraph.is_in_list;
                self.paragraph = Paragraph {
                    was_in_list,
                    ..Paragraph::default()
                };
            }
            "pStyle" => {
                let rank = attribute(tag, "val").map(|id| self.styles.rank(&id));
                self.paragraph.rank = self.paragraph.rank.or(rank.filter(|rank| *rank != Rank::Body));
            }
            "outlineLvl" => {
                self.paragraph.rank = attribute(tag, "val").and_then(|level| rank_of_outline(&level));
            }
            "numPr" => self.paragraph.is_in_list = true,
            "r" => {
                self.run_is_hidden = false;
                self.begin();
            }
            "vanish" => {
                self.run_is_hidden = !matches!(attribute(tag, "val").as_deref(), Some("0" | "false" | "off"));
            }
            "t" => self.in_text = true,
            "tab" if !self.in_properties() => self.flow.words(" "),
            "br" if attribute(tag, "type").is_some_and(|kind| kind == "page" || kind == "column") => {
                self.flow.gap(Gap::Paragraph);
            }
            "br" | "cr" => self.flow.line_break(),
            "noBreakHyphen" => self.words_now("\u{2011}"),
            "footnoteReference" | "endnoteReference" => {
                if let Some(id) = attribute(tag, "id") {
                    self.notes.push(NoteCall {
                        id,
                        is_footnote: name == "footnoteReference",
                    });
                    let call = format!("[{}]", self.notes.len());
                    self.words_now(&call);
                }
            }
            "tbl" => self.flow.gap(Gap::Paragraph),
            "tr" => self.flow.open_row(),
            "tc" => self.flow.open_cell(),
            _ => {}
        }
    }

    /// Tab stops inside `pPr` have the same name as tabs in a run.
    fn in_properties(&self) -> bool {
        self.paragraph.from.is_none()
    }

    /// The first run of a paragraph: its properties are known now.
    fn begin(&mut self) {
        if self.paragraph.from.is_some() {
            return;
        }
        match self.paragraph.rank {
            Some(Rank::Heading(level)) => self.flow.open_heading(level),
            Some(Rank::Title) => self.flow.open_heading(1),
            _ if self.paragraph.is_in_list && self.paragraph.was_in_list => self.flow.gap(Gap::Line),
            _ => self.flow.gap(Gap::Paragraph),
        }
        self.paragraph.from = Some(self.flow.len());
    }

    fn end(&mut self, name: &str) {
        match name {
            "t" => self.in_text = false,
            "p" => {
                match self.paragraph.rank {
                    Some(Rank::Heading(_)) => self.flow.close_heading(),
                    Some(Rank::Title) => {
                        let from = self.paragraph.from.unwrap_or(self.flow.len());
                        if self.title.is_none() {
                            let words = self
                                .flow
                                .since(from)
                                .split_whitespace()
                                .collect::<Vec<_>>()
                                .join(" ");
                            self.title = Some(words).filter(|words| !words.is_empty());
                        }
                        self.flow.close_heading();
                    }
                    _ => {}
                }
                self.flow.gap(if self.paragraph.is_in_list {
                    Gap::Line
                } else {
                    Gap::Paragraph
                });
            }
            "tr" => self.flow.close_row(),
            "tbl" => self.flow.gap(Gap::Paragraph),
            _ => {}
        }
    }

    fn words(&mut self, words: &str) {
        if self.in_text {
            self.words_now(words);
        }
    }

    fn words_now(&mut self, words: &str) {
        if !self.run_is_hidden {
            self.flow.words(words);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headings_lists_and_tables_are_read_and_deleted_or_hidden_words_are_not() {
        let xml = r#"<w:document xmlns:w="u" xmlns:mc="m"><w:body>
            <w:p><w:pPr><w:pStyle w:val="Title"/></w:pPr><w:r><w:t>The title</w:t></w:r></w:p>
            <w:p><w:pPr><w:pStyle w:val="Heading2"/></w:pPr><w:r><w:t xml:space="preserve">A &amp; </w:t></w:r><w:r><w:t>B</w:t></w:r></w:p>
            <w:p><w:r><w:t>kept</w:t><w:tab/><w:t>on</w:t><w:br/><w:t>line two</w:t></w:r>
              <w:del><w:r><w:delText>X</w:delText><w:t>X</w:t></w:r></w:del><w:ins><w:r><w:t> new</w:t></w:r></w:ins>
              <w:r><w:rPr><w:vanish/></w:rPr><w:t>X</w:t></w:r><w:r><w:instrText>X</w:instrText></w:r></w:p>
            <w:p><w:pPr><w:numPr/></w:pPr><w:r><w:t>one</w:t></w:r></w:p><w:p><w:pPr><w:numPr/></w:pPr><w:r><w:t>two</w:t></w:r></w:p>
            <w:tbl><w:tr><w:tc><w:p><w:r><w:t>a</w:t></w:r></w:p></w:tc><w:tc><w:p/></w:tc><w:tc><w:p><w:r><w:t>c</w:t></w:r></w:p></w:tc></w:tr>
              <w:tr><w:tc><w:p><w:r><w:t>d</w:t></w:r></w:p></w:tc></w:tr></w:tbl>
            <mc:AlternateContent><mc:Choice><w:p><w:r><w:t>box</w:t></w:r></w:p></mc:Choice><mc:Fallback><w:p><w:r><w:t>X</w:t></w:r></w:p></mc:Fallback></mc:AlternateContent>
            </w:body></w:document>"#;
        let (mut flow, mut notes) = (Flow::default(), Vec::new());
        let title = read(
            xml,
            &Styles::default(),
            &Guard::unbounded(),
            &mut flow,
            &mut notes,
        )
        .expect("a body");
        let (text, headings) = flow.finish();
        assert_eq!(title.as_deref(), Some("The title"));
        assert_eq!(
            text,
            "The title\n\nA & B\n\nkept on\nline two new\n\none\ntwo\n\na\t\tc\nd\n\nbox"
        );
        let seen: Vec<_> = headings
            .iter()
            .map(|heading| (heading.level, &text[heading.span.clone()]))
            .collect();
        assert_eq!(seen, [(1, "The title"), (2, "A & B")]);
        assert!(notes.is_empty());
    }
}
