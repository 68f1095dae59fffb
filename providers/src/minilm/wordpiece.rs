//! [`WordPiece`]: the tokeniser the network was trained with, with byte spans.

use std::{fmt, ops::Range, sync::OnceLock};
use stepwell_core::{Error, Result, TokenCounter};
use tokenizers::Tokenizer;

pub(super) static VOCABULARY: &[u8] = include_bytes!("../../data/minilm/tokenizer.json");
const CLS: u32 = 101;
const SEP: u32 = 102;
/// Text is tokenised in pieces of about this many bytes: the tokeniser keeps some 30 bytes of bookkeeping per byte.
const PIECE: usize = 16 * 1024;

/// Counts and cuts as the network does.
#[derive(Clone, Copy)]
pub(super) struct WordPiece(&'static Tokenizer);

impl WordPiece {
    /// The one tokeniser of this process; the first call loads it.
    pub(super) fn shared() -> Result<Self> {
        static TOKENIZER: OnceLock<std::result::Result<Tokenizer, String>> = OnceLock::new();
        TOKENIZER
            .get_or_init(|| Tokenizer::from_bytes(VOCABULARY).map_err(|error| error.to_string()))
            .as_ref()
            .map(Self)
            .map_err(|message| {
                Error::internal(format!(
                    "the built-in MiniLM tokeniser cannot be loaded: {message}"
                ))
            })
    }

    /// What the network reads: `[CLS]`, at most `most` tokens of the text, `[SEP]`.
    pub(super) fn ids(self, text: &str, most: usize) -> Result<Vec<u32>> {
        let mut ids = vec![CLS];
        for (_, piece) in pieces(text) {
            let encoding = self
                .0
                .encode_fast(piece, false)
                .map_err(|error| Error::internal(format!("the MiniLM tokeniser failed: {error}")))?;
            let room = most + 1 - ids.len();
            ids.extend(encoding.get_ids().iter().take(room));
            if ids.len() > most {
                break;
            }
        }
        ids.push(SEP);
        Ok(ids)
    }
}

impl TokenCounter for WordPiece {
    fn spans(&self, text: &str) -> Vec<Range<usize>> {
        let mut spans = Vec::new();
        for (start, piece) in pieces(text) {
            // The tokeniser has no failing path for this vocabulary (it knows `[UNK]`); a piece it could not read
            // would count as one token rather than as none, so that no text goes unseen.
            match self.0.encode(piece, false) {
                Ok(encoding) => {
                    spans.extend(encoding.get_offsets().iter().map(|&(a, b)| start + a..start + b));
                }
                Err(_) => spans.push(start..start + piece.len()),
            }
        }
        spans
    }

    fn count(&self, text: &str) -> usize {
        pieces(text)
            .map(|(_, piece)| {
                self.0
                    .encode_fast(piece, false)
                    .map_or(1, |encoding| encoding.len())
            })
            .sum()
    }
}

impl fmt::Debug for WordPiece {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WordPiece(all-MiniLM-L6-v2)")
    }
}

/// The text in pieces that end before a space, each with its place. No token reaches over a space, so the pieces
/// have the tokens of the whole.
fn pieces(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let rest = text.get(at..).filter(|rest| !rest.is_empty())?;
        let from = rest.ceil_char_boundary(PIECE.min(rest.len()));
        let end = rest[from..]
            .find([' ', '\n', '\t', '\r'])
            .map_or(rest.len(), |space| from + space);
        let piece = (at, &rest[..end]);
        at += end;
        Some(piece)
    })
}

#[cfg(test)]
mod tests {
    use super::{PIECE, WordPiece, pieces};
    use crate::minilm::expected;
    use stepwell_core::TokenCounter;

    #[test]
    fn ids_and_byte_spans_are_those_of_the_python_tokeniser() {
        let words = WordPiece::shared().expect("loads");
        for row in expected::rows() {
            let mut ids = vec![101];
            ids.extend(row.ids.iter().take(256));
            ids.push(102);
            assert_eq!(words.ids(&row.text, 256).expect("encodes"), ids, "{:?}", row.text);
            let spans: Vec<_> = row.spans.iter().map(|&(a, b)| a..b).collect();
            assert_eq!(words.spans(&row.text), spans, "{:?}", row.text);
            assert_eq!(words.count(&row.text), spans.len());
        }
    }

    #[test]
    fn a_text_of_many_pieces_has_the_tokens_of_the_whole() {
        let words = WordPiece::shared().expect("loads");
        let text = "Ärger, 東京 & naïve\u{301} words\r\n".repeat(2000);
        assert!(pieces(&text).count() > 3);
        assert_eq!(pieces(&text).map(|(_, piece)| piece).collect::<String>(), text);
        let whole = words.0.encode(text.as_str(), false).expect("encodes");
        let spans: Vec<_> = words
            .spans(&text)
            .iter()
            .map(|span| (span.start, span.end))
            .collect();
        assert_eq!(spans, whole.get_offsets());
        assert!(
            spans
                .iter()
                .all(|&(a, b)| text.is_char_boundary(a) && text.is_char_boundary(b))
        );
    }

    #[test]
    fn a_text_without_a_space_is_one_piece() {
        let text = "語".repeat(PIECE);
        assert_eq!(pieces(&text).count(), 1);
        let words = WordPiece::shared().expect("loads");
        assert_eq!(words.ids(&text, 256).expect("encodes").len(), 258);
    }
}
