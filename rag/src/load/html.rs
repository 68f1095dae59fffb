//! HTML: the browser's own tokenizer, the words a reader would see, in blocks.
//!
//! No tree is built: deep or broken nesting costs a stack of names and nothing else.

use std::cell::RefCell;
use std::collections::HashMap;

use html5ever::LocalName;
use html5ever::tendril::StrTendril;
use html5ever::tokenizer::states::RawKind;
use html5ever::tokenizer::{
    BufferQueue, Tag, TagKind, Token, TokenSink, TokenSinkResult, Tokenizer, TokenizerOpts,
};
use stepwell_core::{Document, Heading};

use super::charset;
use super::flow::{Flow, Gap};
use super::guard::Guard;
use super::refusal::Refusal;
use super::{tags, text};

/// How much is fed between two looks at the clock.
const PACE: usize = 16 << 10;
/// Elements open at once; deeper ones are read but not remembered.
const DEEPEST: usize = 4096;

pub(super) fn read(id: &str, bytes: &[u8], guard: &Guard) -> Result<Document, Refusal> {
    let page = read_page(bytes, bytes.trim_ascii_start().starts_with(b"<?xml"), guard)?;
    let mut document = Document::new(id, page.text);
    document.title = page
        .title
        .or_else(|| page.headings.first().map(|heading| heading.title.clone()));
    document.headings = page.headings;
    Ok(document)
}

/// What a page says.
#[derive(Debug)]
pub(super) struct PageText {
    pub(super) title: Option<String>,
    pub(super) text: String,
    pub(super) headings: Vec<Heading>,
}

/// Reads a page; one of XHTML may close any element in its own tag, as in `<title/>`.
pub(super) fn read_page(bytes: &[u8], is_xml: bool, guard: &Guard) -> Result<PageText, Refusal> {
    let (encoding, from) = charset::of(bytes);
    let source = text::decode_as(encoding, &bytes[from..]);
    let words = Words {
        is_xml,
        ..Words::default()
    };
    let tokenizer = Tokenizer::new(Page(RefCell::new(words)), TokenizerOpts::default());
    let input = BufferQueue::default();
    let source = tags::shortened(&source);
    let mut rest = &*source;
    while !rest.is_empty() {
        guard.check()?;
        guard.text(tokenizer.sink.0.borrow().flow.len())?;
        let (piece, after) = rest.split_at(rest.floor_char_boundary(PACE));
        input.push_back(StrTendril::from_slice(piece));
        // It stops after each script, so that a browser could run it; there is nothing to run here.
        while !matches!(tokenizer.feed(&input), html5ever::TokenizerResult::Done) {}
        rest = after;
    }
    tokenizer.end();
    let words = tokenizer.sink.0.into_inner();
    let title = words.title.split_whitespace().collect::<Vec<_>>().join(" ");
    let (text, headings) = words.flow.finish();
    Ok(PageText {
        title: Some(title).filter(|title| !title.is_empty()),
        text,
        headings,
    })
}

#[derive(Default)]
struct Page(RefCell<Words>);

#[derive(Default)]
struct Words {
    flow: Flow,
    title: String,
    open: Vec<Element>,
    /// How many of each name are open: an end tag without a start costs one look.
    names: HashMap<LocalName, usize>,
    hidden: usize,
    pre: usize,
    after_newline_of_pre: bool,
    is_xml: bool,
}

struct Element {
    name: LocalName,
    is_hidden: bool,
}

/// What an element does to the text around it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Inline,
    Void,
    Line,
    Block,
    Heading(u8),
    Row,
    Cell,
    /// Its content is not for reading.
    Silent,
    Title,
}

fn kind(name: &str) -> Kind {
    match name {
        "area" | "base" | "br" | "col" | "embed" | "frame" | "hr" | "img" | "input" | "link" | "meta"
        | "param" | "source" | "track" | "wbr" => Kind::Void,
        "script" | "style" | "template" | "noscript" | "noembed" | "noframes" | "iframe" | "object"
        | "svg" | "canvas" | "audio" | "video" | "select" | "datalist" | "head" => Kind::Silent,
        "title" => Kind::Title,
        "h1" => Kind::Heading(1),
        "h2" => Kind::Heading(2),
        "h3" => Kind::Heading(3),
        "h4" => Kind::Heading(4),
        "h5" => Kind::Heading(5),
        "h6" => Kind::Heading(6),
        "tr" => Kind::Row,
        "td" | "th" => Kind::Cell,
        "li" | "dt" | "dd" | "option" | "optgroup" | "summary" | "figcaption" | "legend" | "caption"
        | "thead" | "tbody" | "tfoot" => Kind::Line,
        "address" | "article" | "aside" | "blockquote" | "body" | "center" | "details" | "dialog" | "dir"
        | "div" | "dl" | "fieldset" | "figure" | "footer" | "form" | "header" | "hgroup" | "html"
        | "main" | "menu" | "nav" | "ol" | "p" | "plaintext" | "pre" | "listing" | "xmp" | "search"
        | "section" | "table" | "ul" => Kind::Block,
        _ => Kind::Inline,
    }
}

/// Elements that an open one of the same family ends: the names to close, and the names that shelter them.
fn ended_by(name: &str, kind: Kind) -> (&'static [&'static str], &'static [&'static str]) {
    match name {
        "li" => (&["li"], &["ul", "ol", "menu", "dir"]),
        "dt" | "dd" => (&["dt", "dd"], &["dl"]),
        "td" | "th" => (&["td", "th"], &["table", "tr"]),
        "tr" => (&["tr"], &["table"]),
        "thead" | "tbody" | "tfoot" => (&["thead", "tbody", "tfoot"], &["table"]),
        "option" | "optgroup" => (&["option"], &["select", "datalist"]),
        "body" => (&["head"], &["template"]),
        _ if matches!(kind, Kind::Block | Kind::Heading(_)) => (
            &["p"],
            &["table", "td", "th", "button", "object", "template", "caption"],
        ),
        _ => (&[], &[]),
    }
}

/// Whether the reader is not meant to see it.
fn is_hidden(tag: &Tag) -> bool {
    tag.attrs.iter().any(|attribute| match &*attribute.name.local {
        "hidden" => !attribute.value.eq_ignore_ascii_case("until-found"),
        "style" => attribute
            .value
            .split(';')
            .filter_map(|rule| rule.split_once(':'))
            .any(|(property, value)| {
                let value = value
                    .trim()
                    .trim_end_matches("!important")
                    .trim()
                    .to_ascii_lowercase();
                let zero = value
                    .strip_prefix('0')
                    .is_some_and(|rest| !rest.contains(|sign: char| ('1'..='9').contains(&sign)));
                match property.trim().to_ascii_lowercase().as_str() {
                    "display" => value == "none",
                    "visibility" => value == "hidden" || value == "collapse",
                    "font-size" | "opacity" => zero,
                    _ => false,
                }
            }),
        _ => false,
    })
}

impl Words {
    fn has(&self, name: &str) -> bool {
        self.names.contains_key(&LocalName::from(name))
    }

    fn start(&mut self, tag: &Tag) -> TokenSinkResult<()> {
        let name = &*tag.name;
        let kind = kind(name);
        let (ended, shelter) = ended_by(name, kind);
        if !ended.is_empty() {
            self.end_implied(ended, shelter);
        }
        match kind {
            Kind::Void => {
                if self.hidden == 0 {
                    match name {
                        "br" => self.flow.line_break(),
                        "hr" => self.flow.gap(Gap::Paragraph),
                        _ => {}
                    }
                }
                return TokenSinkResult::Continue;
            }
            Kind::Inline | Kind::Silent | Kind::Title => {}
            _ if self.hidden > 0 => {}
            Kind::Line => self.flow.gap(Gap::Line),
            Kind::Block => self.flow.gap(Gap::Paragraph),
            Kind::Heading(level) => self.flow.open_heading(level),
            Kind::Row => self.flow.open_row(),
            Kind::Cell => self.flow.open_cell(),
        }
        // `<div/>` does not close in HTML; in `<svg>` and the like it does, and there nothing is read.
        let closes_itself = tag.self_closing && self.has("svg");
        if !closes_itself && self.open.len() < DEEPEST {
            let is_hidden = kind == Kind::Silent || is_hidden(tag);
            self.hidden += usize::from(is_hidden);
            let is_pre = matches!(name, "pre" | "listing" | "xmp" | "plaintext" | "textarea");
            self.pre += usize::from(is_pre);
            self.after_newline_of_pre = is_pre;
            *self.names.entry(tag.name.clone()).or_default() += 1;
            self.open.push(Element {
                name: tag.name.clone(),
                is_hidden,
            });
        }
        if self.is_xml && tag.self_closing {
            self.end(tag);
            return TokenSinkResult::Continue;
        }
        match name {
            "script" => TokenSinkResult::RawData(RawKind::ScriptData),
            "style" | "xmp" | "iframe" | "noembed" | "noframes" => TokenSinkResult::RawData(RawKind::Rawtext),
            "textarea" | "title" => TokenSinkResult::RawData(RawKind::Rcdata),
            "plaintext" => TokenSinkResult::Plaintext,
            _ => TokenSinkResult::Continue,
        }
    }

    fn end(&mut self, tag: &Tag) {
        let name = &*tag.name;
        if name == "br" {
            if self.hidden == 0 {
                self.flow.line_break();
            }
            return;
        }
        if !self.names.contains_key(&tag.name) {
            if name == "p" && self.hidden == 0 {
                self.flow.gap(Gap::Paragraph);
            }
            return;
        }
        // A stray `</b>` must not end the block it stands in, least of all a hidden one.
        let is_inline = matches!(kind(name), Kind::Inline);
        let shelters = |element: &Element| match kind(&element.name) {
            Kind::Inline | Kind::Void => false,
            Kind::Cell => {
                name != "tr"
                    && name != "table"
                    && !matches!(name, "tbody" | "thead" | "tfoot" | "body" | "html")
            }
            Kind::Silent | Kind::Title => true,
            _ => is_inline,
        };
        let mut keep = self.open.len();
        for element in self.open.iter().rev() {
            keep -= 1;
            if element.name == tag.name {
                while self.open.len() > keep {
                    self.pop();
                }
                return;
            }
            if shelters(element) {
                return;
            }
        }
    }

    fn end_implied(&mut self, ended: &[&str], shelter: &[&str]) {
        if !ended.iter().any(|name| self.has(name)) {
            return;
        }
        let mut keep = self.open.len();
        for element in self.open.iter().rev() {
            keep -= 1;
            if ended.contains(&&*element.name) {
                while self.open.len() > keep {
                    self.pop();
                }
                return;
            }
            if shelter.contains(&&*element.name) {
                return;
            }
        }
    }

    fn pop(&mut self) {
        let Some(element) = self.open.pop() else { return };
        if let Some(count) = self.names.get_mut(&element.name) {
            *count -= 1;
            if *count == 0 {
                self.names.remove(&element.name);
            }
        }
        if matches!(
            &*element.name,
            "pre" | "listing" | "xmp" | "plaintext" | "textarea"
        ) {
            self.pre -= 1;
        }
        self.hidden -= usize::from(element.is_hidden);
        if self.hidden > 0 {
            return;
        }
        match kind(&element.name) {
            Kind::Line => self.flow.gap(Gap::Line),
            Kind::Block => self.flow.gap(Gap::Paragraph),
            Kind::Heading(_) => self.flow.close_heading(),
            Kind::Row => self.flow.close_row(),
            _ => {}
        }
    }

    fn words(&mut self, words: &str) {
        let in_title = self.open.last().is_some_and(|element| &*element.name == "title");
        if in_title && !self.has("svg") && !self.has("template") {
            // The first title counts; it stands in `<head>`, which is otherwise silent.
            if self.title.len() < 1024 {
                self.title.push_str(words);
            }
            return;
        }
        if self.hidden > 0 {
            // Words outside `<head>` end it, tag or no tag.
            let only_head = self
                .open
                .iter()
                .all(|element| !element.is_hidden || &*element.name == "head");
            if !only_head || words.trim().is_empty() {
                return;
            }
            while self.has("head") {
                self.pop();
            }
        }
        if self.pre > 0 {
            let words = if self.after_newline_of_pre {
                words.strip_prefix('\n').unwrap_or(words)
            } else {
                words
            };
            self.after_newline_of_pre = false;
            self.flow.verbatim(words);
        } else {
            self.flow.words(words);
        }
    }
}

impl TokenSink for Page {
    type Handle = ();

    fn process_token(&self, token: Token, _line: u64) -> TokenSinkResult<()> {
        let mut words = self.0.borrow_mut();
        match token {
            Token::TagToken(tag) if tag.kind == TagKind::StartTag => return words.start(&tag),
            Token::TagToken(tag) => words.end(&tag),
            Token::CharacterTokens(run) => words.words(&run),
            _ => {}
        }
        TokenSinkResult::Continue
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(source: &str) -> Document {
        read("a.html", source.as_bytes(), &Guard::unbounded()).expect("HTML")
    }

    #[test]
    fn a_page_becomes_its_words_in_blocks() {
        let document = page(
            "<!doctype html><html><head><meta charset=utf-8><title>The\n page</title><style>p{}</style>\
             <script>if (a<b) document.write('<p>no</p>')</script></head><body>\
             <h1>Head &amp; <i>shoulders</i></h1><p>One<br>two &eacute;&#x20AC;<p>Three\
             <ul><li>a<li>b</ul><table><tr><td><p>1</p><td>2<tr><th><td>4</table><pre>\nx\n  y\n</pre>\
             <h2>Next</h2>end</body></html>",
        );
        assert_eq!(document.title.as_deref(), Some("The page"));
        assert_eq!(
            document.text,
            "Head & shoulders\n\nOne\ntwo é€\n\nThree\n\na\nb\n\n1\t2\n\t4\n\nx\n  y\n\nNext\n\nend"
        );
        let headings: Vec<_> = document
            .headings
            .iter()
            .map(|h| (h.level, &document.text[h.span.clone()]))
            .collect();
        assert_eq!(headings, [(1, "Head & shoulders"), (2, "Next")]);
    }

    #[test]
    fn an_element_of_xhtml_may_close_itself() {
        let source = "<?xml version='1.0'?><html><head><title/><script src='x'/></head><body><p/>one<div/><a id='x'/>two</body></html>";
        let document = page(source);
        assert_eq!(
            (document.title.as_deref(), document.text.as_str()),
            (None, "one\n\ntwo")
        );
        assert_eq!(page("<title/>x</title>one").text, "one");
    }

    #[test]
    fn what_the_reader_cannot_see_is_left_out() {
        for (source, seen) in [
            (
                "<p>a</p><p style='display:none'>X</p><!-- X --><p hidden>X</p><span style='font-size:0'>X</span>b",
                "a\n\nb",
            ),
            ("<p hidden>X<p>a", "a"),
            ("<b><div hidden>X</b>X</div>a", "a"),
            (
                "<div style='DISPLAY : None !important'>X<div>X</div>X</div>a",
                "a",
            ),
            ("<div style='opacity:0.5;font-size:10px'>a</div>", "a"),
            (
                "<template>X</template><svg><title>X</title><text>X</text></svg>a",
                "a",
            ),
            ("<noscript>X</noscript><textarea>a</textarea>", "a"),
        ] {
            let document = page(source);
            assert_eq!(document.text, seen, "{source}");
            assert!(document.title.is_none(), "{source}");
        }
    }

    #[test]
    fn a_page_without_a_body_tag_is_read() {
        assert_eq!(page("<head><title>t</title>words").text, "words");
        assert_eq!(page("<head><title>t</title><p>words").text, "words");
        assert_eq!(page("a < b and c > d &nbsp;x").text, "a < b and c > d  x");
    }
}
