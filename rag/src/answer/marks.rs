//! [`Marks`]: takes marks such as `[2]` out of words while they come, and says where they stood.

/// Longest text between brackets that may be a mark.
const LONGEST: usize = 48;
/// Most numbers that one mark names.
const NUMBERS: usize = 20;

/// A piece of what a model said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Piece {
    /// Words to show.
    Text(String),
    /// A mark stood here, with these numbers.
    Mark(Vec<usize>),
}

/// Reads words as they come. A bracket is held back until it is known to be a mark or none; the space before a mark goes
/// with it where punctuation follows.
#[derive(Debug, Default)]
pub(super) struct Marks {
    /// An open bracket and what followed.
    held: String,
    /// White space, and behind a mark one comma or semicolon, that wait for the next word.
    space: String,
    /// White space that stood before the mark.
    before: String,
    is_after_mark: bool,
    out: Vec<Piece>,
}

impl Marks {
    /// Takes words in; gives what is certain by now.
    pub(super) fn push(&mut self, words: &str) -> Vec<Piece> {
        for sign in words.chars() {
            self.take(sign);
        }
        std::mem::take(&mut self.out)
    }

    /// What is left at the end.
    pub(super) fn finish(&mut self) -> Vec<Piece> {
        self.let_go();
        if !self.is_after_mark {
            let space = std::mem::take(&mut self.space);
            self.text(&space);
        }
        *self = Self {
            out: std::mem::take(&mut self.out),
            ..Self::default()
        };
        std::mem::take(&mut self.out)
    }

    fn take(&mut self, sign: char) {
        if self.held.is_empty() {
            match sign {
                '[' | '【' => self.held.push(sign),
                sign => self.word(sign),
            }
            return;
        }
        match sign {
            ']' | '】' => {
                if let Some(numbers) = numbers(&self.held) {
                    self.held.clear();
                    if !self.is_after_mark {
                        self.before = std::mem::take(&mut self.space);
                    }
                    self.space.clear();
                    self.is_after_mark = true;
                    self.out.push(Piece::Mark(numbers));
                } else {
                    self.let_go();
                    self.word(sign);
                }
            }
            '[' | '【' => {
                self.let_go();
                self.held.push(sign);
            }
            sign => {
                self.held.push(sign);
                if sign == '\n' || self.held.len() > LONGEST {
                    self.let_go();
                }
            }
        }
    }

    /// The bracket was no mark.
    fn let_go(&mut self) {
        for sign in std::mem::take(&mut self.held).chars() {
            self.word(sign);
        }
    }

    fn word(&mut self, sign: char) {
        let is_separator = self.is_after_mark && self.space.trim().is_empty() && matches!(sign, ',' | ';');
        if sign.is_whitespace() || is_separator {
            self.space.push(sign);
            return;
        }
        let mut text = std::mem::take(&mut self.space);
        if self.is_after_mark {
            self.is_after_mark = false;
            let before = std::mem::take(&mut self.before);
            let is_closing = matches!(sign, '.' | ':' | '!' | '?' | ')' | '。' | '，');
            if text.is_empty() && !is_closing {
                text = before;
            }
        }
        text.push(sign);
        self.text(&text);
    }

    fn text(&mut self, text: &str) {
        match self.out.last_mut() {
            Some(Piece::Text(open)) => open.push_str(text),
            _ if text.is_empty() => {}
            _ => self.out.push(Piece::Text(text.to_owned())),
        }
    }
}

/// The numbers between brackets: `1`, `1, 3`, `2-4`; `None` where anything else stands there.
fn numbers(held: &str) -> Option<Vec<usize>> {
    let inner = held.trim_start_matches(['[', '【']);
    let mut numbers = Vec::new();
    for piece in inner.split([',', ';']) {
        let (first, last) = match piece.split_once(['-', '–']) {
            Some((first, last)) => (first, last),
            None => (piece, piece),
        };
        let read = |text: &str| -> Option<usize> {
            let text = text.trim();
            (text.len() <= 4 && text.bytes().all(|byte| byte.is_ascii_digit())).then_some(())?;
            text.parse().ok()
        };
        let (first, last) = (read(first)?, read(last)?);
        if last < first || last - first >= NUMBERS || numbers.len() + last - first >= NUMBERS {
            return None;
        }
        numbers.extend(first..=last);
    }
    Some(numbers)
}

#[cfg(test)]
mod tests {
    use super::{Marks, Piece};
    use proptest::prelude::*;

    fn read(words: &[&str]) -> (String, Vec<(usize, Vec<usize>)>) {
        let mut marks = Marks::default();
        let mut pieces: Vec<Piece> = words.iter().flat_map(|words| marks.push(words)).collect();
        pieces.extend(marks.finish());
        let (mut text, mut found) = (String::new(), Vec::new());
        for piece in pieces {
            match piece {
                Piece::Text(words) => text.push_str(&words),
                Piece::Mark(numbers) => found.push((text.len(), numbers)),
            }
        }
        (text, found)
    }

    #[test]
    fn marks_go_with_the_space_before_them_and_other_brackets_stay() {
        for (said, shown, marks) in [
            (
                "Cats sleep [1]. Dogs walk. [2] Birds [1][3], [4-5] sing",
                "Cats sleep. Dogs walk. Birds sing",
                vec![vec![1], vec![2], vec![1], vec![3], vec![4, 5]],
            ),
            ("a[i] = [x]; see [1, 2]", "a[i] = [x]; see", vec![vec![1, 2]]),
            (
                "One [1], two [2]; three【3】\nfour",
                "One, two; three\nfour",
                vec![vec![1], vec![2], vec![3]],
            ),
            (
                "[link](x) [[7]] [12345] []",
                "[link](x) [] [12345] []",
                vec![vec![7]],
            ),
        ] {
            let (text, found) = read(&[said]);
            assert_eq!(
                (
                    text.as_str(),
                    found.into_iter().map(|(_, numbers)| numbers).collect::<Vec<_>>()
                ),
                (shown, marks)
            );
        }
    }

    #[test]
    fn a_mark_stands_behind_the_words_it_is_about() {
        assert_eq!(
            read(&["Cats sleep", " [", "1", "] a lot"]),
            ("Cats sleep a lot".to_owned(), vec![(10, vec![1])])
        );
    }

    proptest! {
        #[test]
        fn words_come_out_the_same_however_they_are_cut(said in "[a-z \\[\\]0-9,;.\n東]{0,60}", cut in 0..60usize) {
            let cut = said.floor_char_boundary(cut.min(said.len()));
            prop_assert_eq!(read(&[&said[..cut], &said[cut..]]), read(&[&said]));
            let signs: Vec<String> = said.chars().map(String::from).collect();
            let signs: Vec<&str> = signs.iter().map(String::as_str).collect();
            prop_assert_eq!(read(&signs), read(&[&said]));
        }
    }
}
