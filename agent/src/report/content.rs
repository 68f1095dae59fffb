//! [`Html`]: a page that is being written. All words go through it: escaped, redacted unless content was asked for, and cut.

use crate::draw::escape;
use serde_json::Value;
use stepwell_core::{MediaSource, Part};

/// Most characters of one text.
const TEXT: usize = 12_000;
/// Values shorter than this stand in one line.
const LINE: usize = 100;

pub(super) struct Html {
    pub(super) out: String,
    has_content: bool,
    left: usize,
    /// What was cut.
    pub(super) cuts: usize,
}

impl Html {
    pub(super) fn new(has_content: bool, bytes: usize) -> Self {
        Self {
            out: String::with_capacity(32 << 10),
            has_content,
            left: bytes,
            cuts: 0,
        }
    }

    /// Markup of the page's own.
    pub(super) fn raw(&mut self, markup: &str) {
        self.out.push_str(markup);
    }

    /// A name: of a node, a tool, a key. Never redacted, always escaped.
    pub(super) fn name(&mut self, name: &str) {
        let most = 120;
        let short: String = name.chars().take(most).collect();
        self.out.push_str(&escape(&short));
        if name.chars().nth(most).is_some() {
            self.out.push('…');
        }
    }

    /// Whether so many more bytes may be written.
    pub(super) fn has_room(&mut self) -> bool {
        if self.left == 0 {
            self.cuts += 1;
        }
        self.left > 0
    }

    /// Notes what was written beside the content: the page as a whole has a bound.
    pub(super) fn spend(&mut self, bytes: usize) {
        self.left = self.left.saturating_sub(bytes);
    }

    /// Words that somebody said.
    pub(super) fn text(&mut self, text: &str) {
        if !self.has_content {
            self.hidden(&format!("text, {}", count(text.chars().count(), "character")));
            return;
        }
        let most = TEXT.min(self.left);
        let mut kept = String::new();
        let mut letters = text.chars();
        for letter in letters.by_ref() {
            if kept.len() >= most {
                break;
            }
            kept.push(letter);
        }
        let rest = text.len() - kept.len();
        self.left = self.left.saturating_sub(kept.len());
        self.raw("<div class=\"said\" dir=\"auto\">");
        let kept = escape(&kept);
        self.raw(&kept);
        self.raw("</div>");
        if rest > 0 {
            self.cut(rest);
        }
    }

    fn cut(&mut self, bytes: usize) {
        self.cuts += 1;
        let note = format!("<span class=\"hidden\">cut: {}</span>", count(bytes, "byte"));
        self.raw(&note);
    }

    /// A value: of the state, an argument, a result.
    pub(super) fn value(&mut self, value: &Value) {
        if !self.has_content {
            self.hidden(&kind_of(value));
            return;
        }
        let text = match value {
            Value::String(text) => text.clone(),
            value => {
                let line = value.to_string();
                if line.len() < LINE {
                    line
                } else {
                    serde_json::to_string_pretty(value).unwrap_or_default()
                }
            }
        };
        let most = TEXT.min(self.left);
        let kept: String = text
            .char_indices()
            .take_while(|(at, _)| *at < most)
            .map(|(_, letter)| letter)
            .collect();
        self.left = self.left.saturating_sub(kept.len());
        let rest = text.len() - kept.len();
        let kept = escape(&kept);
        let class = if kept.len() < LINE && !kept.contains('\n') {
            "code"
        } else {
            "block"
        };
        self.raw(&format!("<code class=\"{class}\" dir=\"auto\">"));
        self.raw(&kept);
        self.raw("</code>");
        if rest > 0 {
            self.cut(rest);
        }
    }

    fn hidden(&mut self, what: &str) {
        let note = format!("<span class=\"hidden\">{what}</span>");
        self.spend(note.len());
        self.raw(&note);
    }

    /// A part of a message; calls and results are shown by the caller.
    pub(super) fn part(&mut self, part: &Part) {
        match part {
            Part::Text(text) => {
                self.text(&text.text);
                if !text.citations.is_empty() {
                    let note = format!(
                        "<span class=\"hidden\">cites {}</span>",
                        count(text.citations.len(), "passage")
                    );
                    self.raw(&note);
                }
            }
            Part::Reasoning(reasoning) => {
                self.raw("<details class=\"aside\"><summary>reasoning</summary>");
                self.text(&reasoning.text);
                self.raw("</details>");
            }
            Part::Media(media) => {
                self.raw("<span class=\"tag\">");
                self.name(&media.media_type);
                let size = match &media.source {
                    MediaSource::Bytes(bytes) => count(bytes.len(), "byte"),
                    MediaSource::Url(_) => "by address".to_owned(),
                    _ => "by file id".to_owned(),
                };
                self.raw(&format!("</span> <span class=\"hidden\">{size}</span>"));
            }
            Part::Data(data) => {
                self.raw("<span class=\"tag\">");
                self.name(&data.name);
                self.raw("</span> ");
                self.value(&data.value);
            }
            Part::Unknown(unknown) => {
                self.raw("<span class=\"tag\">");
                self.name(&unknown.provider);
                self.raw("</span> ");
                self.value(&unknown.value);
            }
            _ => {}
        }
    }
}

/// `1 step`, `2 steps`, `12,345 tokens`.
pub(super) fn count(number: usize, word: &str) -> String {
    let s = if number == 1 { "" } else { "s" };
    format!("{} {word}{s}", grouped(number as u64))
}

pub(super) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

fn kind_of(value: &Value) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Bool(_) => "true or false".to_owned(),
        Value::Number(_) => "a number".to_owned(),
        Value::String(text) => format!("text, {}", count(text.chars().count(), "character")),
        Value::Array(items) => format!("list, {}", count(items.len(), "item")),
        Value::Object(fields) => format!("object, {}", count(fields.len(), "key")),
    }
}
