//! [`NumberText`]: a number while it is written.

use serde_json::{Number, Value};

/// A number's text, and what may follow in it.
#[derive(Clone, Debug, Default)]
pub(super) struct NumberText {
    pub(super) text: String,
    /// So much of it is a number by itself.
    whole: usize,
    place: NumberPlace,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum NumberPlace {
    #[default]
    Start,
    Minus,
    Zero,
    Integer,
    Point,
    Fraction,
    E,
    Sign,
    Exponent,
}

impl NumberText {
    /// Whether the byte goes on with the number.
    pub(super) fn take(&mut self, byte: u8) -> bool {
        use NumberPlace::{E, Exponent, Fraction, Integer, Minus, Point, Sign, Start, Zero};
        let place = match (self.place, byte) {
            (Start, b'-') => Minus,
            (Start | Minus, b'0') => Zero,
            (Start | Minus | Integer, b'0'..=b'9') => Integer,
            (Zero | Integer, b'.') => Point,
            (Point | Fraction, b'0'..=b'9') => Fraction,
            (Zero | Integer | Fraction, b'e' | b'E') => E,
            (E, b'+' | b'-') => Sign,
            (E | Sign | Exponent, b'0'..=b'9') => Exponent,
            _ => return false,
        };
        self.place = place;
        self.text.push(char::from(byte));
        if matches!(place, Zero | Integer | Fraction | Exponent) {
            self.whole = self.text.len();
        }
        true
    }

    pub(super) fn is_in_exponent(&self) -> bool {
        self.place == NumberPlace::Exponent
    }

    pub(super) fn is_whole(&self) -> bool {
        self.whole == self.text.len()
    }

    pub(super) fn value(&self) -> Option<Value> {
        let number: Number = serde_json::from_str(&self.text[..self.whole]).ok()?;
        Some(Value::Number(number))
    }
}
