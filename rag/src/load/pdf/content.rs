//! Content streams: operands, then an operator. Whatever is not well formed is stepped over, so that one fault costs
//! one word and not a page.

/// Deepest array or dictionary among operands.
const DEEPEST: usize = 16;
/// Operands kept for one operator; no operator takes as many.
const MOST_OPERANDS: usize = 512;

/// What stands before an operator.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Operand {
    Number(f64),
    Text(Vec<u8>),
    Name(Vec<u8>),
    Array(Vec<Operand>),
    /// Dictionaries and all else that no text operator reads.
    Other,
}

impl Operand {
    pub(super) fn number(&self) -> Option<f64> {
        match self {
            Self::Number(number) => Some(*number),
            _ => None,
        }
    }
}

/// The operators of a stream in order.
#[derive(Debug)]
pub(super) struct Operators<'a> {
    bytes: &'a [u8],
    at: usize,
}

enum Token {
    Operand(Operand),
    Operator(Vec<u8>),
    ArrayEnd,
    DictionaryEnd,
}

impl<'a> Operators<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// The next operator; its operands are put into the given list.
    pub(super) fn next(&mut self, operands: &mut Vec<Operand>) -> Option<Vec<u8>> {
        operands.clear();
        loop {
            match self.token(0)? {
                Token::Operand(operand) if operands.len() < MOST_OPERANDS => operands.push(operand),
                Token::Operand(_) | Token::ArrayEnd | Token::DictionaryEnd => {}
                Token::Operator(name) if name == b"BI" => self.skip_image(),
                Token::Operator(name) => return Some(name),
            }
        }
    }

    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn skip_space(&mut self) {
        while let Some(byte) = self.peek() {
            if byte == b'%' {
                while self.peek().is_some_and(|byte| byte != b'\n' && byte != b'\r') {
                    self.at += 1;
                }
            } else if is_space(byte) {
                self.at += 1;
            } else {
                return;
            }
        }
    }

    fn token(&mut self, depth: usize) -> Option<Token> {
        self.skip_space();
        let first = self.peek()?;
        Some(match first {
            b'(' => Token::Operand(Operand::Text(self.literal())),
            b'<' if self.bytes.get(self.at + 1) == Some(&b'<') => {
                self.at += 2;
                if depth < DEEPEST {
                    while !matches!(self.token(depth + 1)?, Token::DictionaryEnd) {}
                }
                Token::Operand(Operand::Other)
            }
            b'<' => Token::Operand(Operand::Text(self.hexadecimal())),
            b'>' => {
                self.at += if self.bytes.get(self.at + 1) == Some(&b'>') {
                    2
                } else {
                    1
                };
                Token::DictionaryEnd
            }
            b'[' => {
                self.at += 1;
                let mut items = Vec::new();
                if depth < DEEPEST {
                    loop {
                        match self.token(depth + 1) {
                            Some(Token::Operand(item)) => items.push(item),
                            // An operator inside means that the end was forgotten.
                            Some(Token::ArrayEnd) | None => break,
                            Some(Token::Operator(_) | Token::DictionaryEnd) => {}
                        }
                    }
                }
                Token::Operand(Operand::Array(items))
            }
            b']' => {
                self.at += 1;
                Token::ArrayEnd
            }
            b'/' => Token::Operand(Operand::Name(self.name())),
            b')' | b'{' | b'}' => {
                self.at += 1;
                Token::Operand(Operand::Other)
            }
            _ => {
                let from = self.at;
                while self.peek().is_some_and(is_regular) {
                    self.at += 1;
                }
                let word = &self.bytes[from..self.at];
                match number(word) {
                    Some(number) => Token::Operand(Operand::Number(number)),
                    None if matches!(word, b"true" | b"false" | b"null") => Token::Operand(Operand::Other),
                    None => Token::Operator(word.to_vec()),
                }
            }
        })
    }

    fn name(&mut self) -> Vec<u8> {
        self.at += 1;
        let mut name = Vec::new();
        while let Some(byte) = self.peek().filter(|byte| is_regular(*byte)) {
            self.at += 1;
            let pair = self.bytes.get(self.at..self.at + 2);
            match pair.and_then(|pair| Some((digit(pair[0])?, digit(pair[1])?))) {
                Some((high, low)) if byte == b'#' => {
                    name.push(high << 4 | low);
                    self.at += 2;
                }
                _ => name.push(byte),
            }
        }
        name
    }

    fn literal(&mut self) -> Vec<u8> {
        self.at += 1;
        let (mut out, mut open) = (Vec::new(), 1_usize);
        while let Some(byte) = self.peek() {
            self.at += 1;
            match byte {
                b'(' => open += 1,
                b')' => {
                    open -= 1;
                    if open == 0 {
                        break;
                    }
                }
                b'\\' => {
                    self.escape(&mut out);
                    continue;
                }
                b'\r' => {
                    self.at += usize::from(self.peek() == Some(b'\n'));
                    out.push(b'\n');
                    continue;
                }
                _ => {}
            }
            out.push(byte);
        }
        out
    }

    fn escape(&mut self, out: &mut Vec<u8>) {
        let Some(byte) = self.peek() else { return };
        self.at += 1;
        match byte {
            b'n' => out.push(b'\n'),
            b'r' => out.push(b'\r'),
            b't' => out.push(b'\t'),
            b'b' => out.push(8),
            b'f' => out.push(12),
            b'\n' => {}
            b'\r' => self.at += usize::from(self.peek() == Some(b'\n')),
            b'0'..=b'7' => {
                let mut code = u32::from(byte - b'0');
                for _ in 0..2 {
                    let Some(next @ b'0'..=b'7') = self.peek() else {
                        break;
                    };
                    self.at += 1;
                    code = code * 8 + u32::from(next - b'0');
                }
                // High-order overflow is ignored, as the standard has it.
                out.push((code & 0xFF) as u8);
            }
            other => out.push(other),
        }
    }

    fn hexadecimal(&mut self) -> Vec<u8> {
        self.at += 1;
        let mut out = Vec::new();
        let mut high = None;
        while let Some(byte) = self.peek() {
            self.at += 1;
            if byte == b'>' {
                break;
            }
            if let Some(value) = digit(byte) {
                match high.take() {
                    Some(first) => out.push(first << 4 | value),
                    None => high = Some(value),
                }
            }
        }
        out.extend(high.map(|first| first << 4));
        out
    }

    /// Steps over an inline image: its data ends at `EI` between spaces, and there is no better mark.
    fn skip_image(&mut self) {
        let rest = &self.bytes[self.at..];
        let Some(data) = rest.windows(3).position(|w| is_space(w[0]) && &w[1..] == b"ID") else {
            self.at = self.bytes.len();
            return;
        };
        let rest = &rest[data + 3..];
        let end = rest
            .windows(3)
            .enumerate()
            .find(|(at, w)| {
                is_space(w[0]) && &w[1..] == b"EI" && rest.get(at + 3).is_none_or(|byte| is_space(*byte))
            })
            .map_or(rest.len(), |(at, _)| at + 3);
        self.at += data + 3 + end;
    }
}

fn number(word: &[u8]) -> Option<f64> {
    let text = std::str::from_utf8(word).ok()?;
    if !text.starts_with(|sign: char| sign.is_ascii_digit() || matches!(sign, '+' | '-' | '.')) {
        return None;
    }
    // Some programs write `--5` or `1.2.3` or `5-3`; what stands before the fault counts.
    let text = text.trim_start_matches('+');
    let is_negative = text.starts_with('-');
    let digits = text.trim_start_matches('-');
    let mut dots = 0;
    let end = digits
        .find(|sign: char| {
            dots += usize::from(sign == '.');
            dots > 1 || !(sign.is_ascii_digit() || sign == '.')
        })
        .unwrap_or(digits.len());
    if digits[..end].is_empty() && !digits.is_empty() {
        return None;
    }
    let value: f64 = digits[..end].parse().unwrap_or(0.0);
    Some(if is_negative { -value } else { value })
}

fn digit(byte: u8) -> Option<u8> {
    char::from(byte)
        .to_digit(16)
        .and_then(|digit| u8::try_from(digit).ok())
}

fn is_space(byte: u8) -> bool {
    matches!(byte, 0 | b'\t' | b'\n' | 0x0C | b'\r' | b' ')
}

fn is_regular(byte: u8) -> bool {
    !is_space(byte)
        && !matches!(
            byte,
            b'(' | b')' | b'<' | b'>' | b'[' | b']' | b'{' | b'}' | b'/' | b'%'
        )
}

/// The same signs, for maps of codes.
pub(super) fn words(bytes: &[u8]) -> impl Iterator<Item = Word> + '_ {
    let mut operators = Operators::new(bytes);
    std::iter::from_fn(move || {
        Some(match operators.token(0)? {
            Token::Operand(operand) => Word::Operand(operand),
            Token::Operator(name) => Word::Operator(name),
            Token::ArrayEnd | Token::DictionaryEnd => Word::Operand(Operand::Other),
        })
    })
}

pub(super) enum Word {
    Operand(Operand),
    Operator(Vec<u8>),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operators_come_with_their_operands() {
        let source = b"% note\n/F#31 -12.5 Tf [(a\\)\\101(b)) -3 <4 1 4>] TJ << /A [1 << /B 2 >>] >> BDC BI /W 1 ID \x00EI\xFF EI\n--3 .5 Td";
        let mut operators = Operators::new(source);
        let mut operands = Vec::new();
        assert_eq!(operators.next(&mut operands).as_deref(), Some(&b"Tf"[..]));
        assert_eq!(operands, [Operand::Name(b"F1".to_vec()), Operand::Number(-12.5)]);
        assert_eq!(operators.next(&mut operands).as_deref(), Some(&b"TJ"[..]));
        let text = |bytes: &[u8]| Operand::Text(bytes.to_vec());
        assert_eq!(
            operands,
            [Operand::Array(vec![
                text(b"a)A(b)"),
                Operand::Number(-3.0),
                text(b"A@")
            ])]
        );
        assert_eq!(operators.next(&mut operands).as_deref(), Some(&b"BDC"[..]));
        assert_eq!(operators.next(&mut operands).as_deref(), Some(&b"Td"[..]));
        assert_eq!(operands, [Operand::Number(-3.0), Operand::Number(0.5)]);
        assert!(operators.next(&mut operands).is_none());
    }

    #[test]
    fn any_bytes_end() {
        for source in [
            &b"((((((\\"[..],
            b"<<<<<<<<<<<",
            b"[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[",
            b"<</A",
            b"BI",
            b")]}>>",
        ] {
            let mut operators = Operators::new(source);
            while operators.next(&mut Vec::new()).is_some() {}
            assert!(operators.at >= source.len());
        }
    }
}
