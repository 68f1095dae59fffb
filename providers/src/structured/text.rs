//! [`Extract`]: the JSON out of a text that is being written: words and fences before and behind it left out, and the
//! object around it taken off.

use super::wrap::FIELD;
use stepwell_core::PartialJson;

/// What is kept back at most while no JSON has begun: 64 KiB of words.
const HELD: usize = 64 << 10;

/// Reads a text piece by piece and gives its JSON piece by piece.
#[derive(Debug)]
pub(super) struct Extract {
    /// What was asked for stands in a property of the object that comes.
    is_wrapped: bool,
    state: State,
    /// Text that is not decided yet.
    held: String,
    json: PartialJson,
}

#[derive(Debug, PartialEq, Eq)]
enum State {
    /// No JSON has begun.
    Before,
    /// Inside the object around the answer, before the answer.
    Opening,
    /// In the JSON that was asked for.
    Inside,
    /// It is whole, or it is none: then all is passed on.
    Done,
    Broken,
}

impl Extract {
    pub(super) fn new(is_wrapped: bool) -> Self {
        Self {
            is_wrapped,
            state: State::Before,
            held: String::new(),
            json: PartialJson::new(),
        }
    }

    /// What of the answer the piece brings.
    pub(super) fn push(&mut self, piece: &str) -> String {
        let mut out = String::new();
        match self.state {
            State::Done => return out,
            State::Broken => return piece.to_owned(),
            _ => self.held.push_str(piece),
        }
        if self.state == State::Before {
            let Some(place) = begins(&self.held) else {
                if self.held.len() > HELD {
                    return self.give_up();
                }
                return out;
            };
            self.held.drain(..place);
            self.state = if self.is_wrapped {
                State::Opening
            } else {
                State::Inside
            };
        }
        if self.state == State::Opening {
            match opened(&self.held) {
                Opening::At(place) => {
                    self.held.drain(..place);
                    self.state = State::Inside;
                }
                Opening::More => return out,
                // The model left the object around it out, or named it otherwise: the check will tell.
                Opening::Other => self.state = State::Inside,
            }
        }
        if self.state == State::Inside {
            let held = std::mem::take(&mut self.held);
            for (at, character) in held.char_indices() {
                let end = at + character.len_utf8();
                // A number or a word that stands alone has no end mark of its own.
                if self.is_bare() && matches!(character, '}' | ',' | ' ' | '\n' | '\r' | '\t') {
                    self.state = State::Done;
                    break;
                }
                if self.json.push(&held[at..end]).is_err() {
                    self.state = State::Broken;
                    out.push_str(&held[at..]);
                    return out;
                }
                out.push(character);
                if self.json.is_complete() && !self.is_bare() {
                    self.state = State::Done;
                    break;
                }
            }
        }
        out
    }

    /// What is left when a part of the text ends: words that no JSON followed.
    pub(super) fn end(&mut self) -> String {
        match self.state {
            // The next part of the text may bring it.
            State::Before => std::mem::take(&mut self.held),
            State::Opening => self.give_up(),
            _ => String::new(),
        }
    }

    fn give_up(&mut self) -> String {
        self.state = State::Broken;
        std::mem::take(&mut self.held)
    }

    /// The value that is read is a number, `true`, `false` or `null`.
    fn is_bare(&self) -> bool {
        self.json
            .value()
            .is_some_and(|value| !value.is_object() && !value.is_array() && !value.is_string())
    }
}

/// Where JSON begins: a bracket, with what could follow it in JSON.
fn begins(text: &str) -> Option<usize> {
    let mut from = 0;
    while let Some(place) = text[from..].find(['{', '[']) {
        let at = from + place;
        let is_object = text[at..].starts_with('{');
        match text[at + 1..].trim_start().chars().next() {
            None => return None, // more has to come before it is known
            Some('"' | '}') if is_object => return Some(at),
            Some('{' | '[' | ']' | '"' | '-' | 't' | 'f' | 'n' | '0'..='9') if !is_object => {
                match is_note(&text[at..]) {
                    None => return None,
                    Some(false) => return Some(at),
                    Some(true) => from = at + 1,
                }
            }
            Some(_) => from = at + 1,
        }
    }
    None
}

/// Whether it is a number in brackets that words follow: a footnote, not a list. `None` while it may be either.
fn is_note(text: &str) -> Option<bool> {
    let inner = &text[1..];
    let behind = inner.trim_start_matches(|c: char| c.is_ascii_digit());
    if behind.is_empty() {
        return None;
    }
    match behind.strip_prefix(']') {
        Some(rest) if behind.len() < inner.len() => {
            let next = rest.trim_start().chars().next()?;
            Some(next.is_alphabetic() || matches!(next, '(' | '[' | '{'))
        }
        _ => Some(false),
    }
}

enum Opening {
    /// The answer begins here.
    At(usize),
    More,
    Other,
}

/// Reads `{ "answer" :`.
fn opened(text: &str) -> Opening {
    let mut rest = text;
    for (token, has_blanks) in [
        ("{", true),
        ("\"", true),
        (FIELD, false),
        ("\"", false),
        (":", true),
    ] {
        if has_blanks {
            rest = rest.trim_start();
        }
        if rest.len() < token.len() && token.starts_with(rest) {
            return Opening::More;
        }
        match rest.strip_prefix(token) {
            Some(behind) => rest = behind,
            None => return Opening::Other,
        }
    }
    let rest = rest.trim_start();
    if rest.is_empty() {
        return Opening::More;
    }
    Opening::At(text.len() - rest.len())
}

#[cfg(test)]
mod tests {
    use super::Extract;

    fn read(text: &str, is_wrapped: bool, cut: usize) -> String {
        let mut extract = Extract::new(is_wrapped);
        let characters: Vec<char> = text.chars().collect();
        let mut out = String::new();
        for piece in characters.chunks(cut) {
            out.push_str(&extract.push(&piece.iter().collect::<String>()));
        }
        out + &extract.end()
    }

    #[test]
    fn words_and_fences_around_json_are_left_out_however_it_is_cut() {
        for cut in 1..40 {
            for (text, json) in [
                ("{\"a\":[1,{}]}", "{\"a\":[1,{}]}"),
                (
                    "Sure {ok}! [1] says:\n```json\n{ \"a\": \"}\\\"]\" }\n```\nDone {\"b\":1}.",
                    "{ \"a\": \"}\\\"]\" }",
                ),
                ("[ {\"ö\":null} ] trailing", "[ {\"ö\":null} ]"),
                ("no JSON here", "no JSON here"),
                ("{}", "{}"),
            ] {
                assert_eq!(read(text, false, cut), json, "{text} by {cut}");
            }
            for (text, json) in [
                ("{\"answer\":[1,2]}", "[1,2]"),
                (" { \"answer\" : \"x}\" } ", "\"x}\""),
                ("{\"answer\":12.5}", "12.5"),
                ("{\"answer\": null }", "null"),
                ("```json\n{\"answer\":{\"a\":{}}}\n```", "{\"a\":{}}"),
                ("{\"other\":1}", "{\"other\":1}"),
                ("{\"answer", "{\"answer"),
            ] {
                assert_eq!(read(text, true, cut).trim_end(), json, "{text} by {cut}");
            }
        }
    }

    #[test]
    fn what_breaks_off_being_json_is_passed_on_whole() {
        assert_eq!(
            read("{\"a\": oops} and {\"b\":1}", false, 3),
            "{\"a\": oops} and {\"b\":1}"
        );
    }
}
