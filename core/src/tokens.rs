//! [`TokenCounter`]: how long a text is for a model.

use crate::{Message, Part};
use std::{fmt::Debug, ops::Range};

/// Counts the tokens of a text as one model family does.
pub trait TokenCounter: Send + Sync + Debug {
    /// Byte spans of the tokens, in order, without special tokens; spaces may belong to none.
    fn spans(&self, text: &str) -> Vec<Range<usize>>;

    /// How many tokens the text has, without special tokens.
    fn count(&self, text: &str) -> usize {
        self.spans(text).len()
    }

    /// How many tokens a message has, about: its words, its calls and its results, and four for each part around them.
    /// Media are not counted.
    fn count_message(&self, message: &Message) -> usize {
        message
            .parts
            .iter()
            .map(|part| {
                4 + match part {
                    Part::Text(part) => self.count(&part.text),
                    Part::Reasoning(part) => self.count(&part.text),
                    Part::ToolCall(part) => self.count(&part.arguments.to_string()),
                    Part::ToolResult(part) => self.count(&part.text()),
                    _ => 0,
                }
            })
            .sum()
    }

    /// Whether the count is an estimate.
    fn is_estimate(&self) -> bool {
        false
    }
}

/// An estimate for models whose tokeniser is not at hand: a word of up to six letters is one token, a longer one
/// a token per four letters, every other sign one. Errs to the high side on English.
#[derive(Clone, Copy, Debug, Default)]
pub struct HeuristicTokens;

impl TokenCounter for HeuristicTokens {
    fn spans(&self, text: &str) -> Vec<Range<usize>> {
        let mut spans = Vec::new();
        let mut word = 0..0;
        let close = |word: &mut Range<usize>, spans: &mut Vec<Range<usize>>| {
            if word.start < word.end {
                let letters: Vec<usize> = text[word.clone()]
                    .char_indices()
                    .map(|(at, _)| word.start + at)
                    .collect();
                let step = if letters.len() <= 6 { 6 } else { 4 };
                for piece in letters.chunks(step) {
                    let last = *piece.last().expect("chunks are never empty");
                    let end = last + text[last..].chars().next().map_or(0, char::len_utf8);
                    spans.push(piece[0]..end);
                }
            }
            *word = 0..0;
        };
        for (at, sign) in text.char_indices() {
            let end = at + sign.len_utf8();
            if sign.is_alphanumeric() && sign.is_ascii() {
                if word.start == word.end {
                    word = at..end;
                } else {
                    word.end = end;
                }
            } else {
                close(&mut word, &mut spans);
                if !sign.is_whitespace() {
                    spans.push(at..end);
                }
            }
        }
        close(&mut word, &mut spans);
        spans
    }

    fn is_estimate(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::{HeuristicTokens, TokenCounter};

    #[test]
    fn spans_cover_every_sign_that_is_not_a_space() {
        let text = "Héllo wonderful world, 你好!";
        let spans = HeuristicTokens.spans(text);
        let covered: String = spans.iter().map(|span| &text[span.clone()]).collect();
        assert_eq!(covered, text.replace(' ', ""));
        assert_eq!(HeuristicTokens.count(""), 0);
    }
}
