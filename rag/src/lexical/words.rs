//! [`Words`]: text → words with their bytes.

use tantivy::tokenizer::{Token, TokenStream, Tokenizer};

/// Words between signs that are no letter or digit; scripts written without spaces give one word per sign.
#[derive(Clone, Default)]
pub(super) struct Words {
    token: Token,
}

pub(super) struct WordStream<'a> {
    text: &'a str,
    at: usize,
    token: &'a mut Token,
}

impl Tokenizer for Words {
    type TokenStream<'a> = WordStream<'a>;

    fn token_stream<'a>(&'a mut self, text: &'a str) -> WordStream<'a> {
        self.token.reset();
        WordStream {
            text,
            at: 0,
            token: &mut self.token,
        }
    }
}

/// Han, Kana, Thai, Lao, Khmer, Burmese: written without spaces.
fn stands_alone(sign: char) -> bool {
    matches!(u32::from(sign),
        0x0E00..=0x0EFF | 0x1000..=0x109F | 0x1780..=0x17FF | 0x3040..=0x30FF | 0x3400..=0x4DBF
        | 0x4E00..=0x9FFF | 0xF900..=0xFAFF | 0x20000..=0x3134F)
}

impl TokenStream for WordStream<'_> {
    fn advance(&mut self) -> bool {
        let rest = &self.text[self.at..];
        let Some((skipped, first)) = rest.char_indices().find(|(_, sign)| sign.is_alphanumeric()) else {
            self.at = self.text.len();
            return false;
        };
        let from = self.at + skipped;
        let length = if stands_alone(first) {
            first.len_utf8()
        } else {
            let word = &rest[skipped..];
            word.find(|sign: char| !sign.is_alphanumeric() || stands_alone(sign))
                .unwrap_or(word.len())
        };
        self.at = from + length;
        self.token.text.clear();
        self.token.text.push_str(&self.text[from..self.at]);
        self.token.offset_from = from;
        self.token.offset_to = self.at;
        self.token.position = self.token.position.wrapping_add(1);
        true
    }

    fn token(&self) -> &Token {
        self.token
    }

    fn token_mut(&mut self) -> &mut Token {
        self.token
    }
}
