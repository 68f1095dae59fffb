//! Numbers of vectors: lists, base64, one byte each, eight to a byte.

use base64::{Engine, engine::general_purpose::STANDARD};
use serde::{
    Deserialize, Deserializer,
    de::{self, SeqAccess, Visitor},
};
use std::fmt;

/// How a vendor writes the numbers of a vector. All are handed out as `f32`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum NumberFormat {
    /// Single precision.
    #[default]
    Float,
    /// One byte each, -128 to 127.
    Int8,
    /// One byte each, 0 to 255. Handed out 128 less, so that both formats of a byte give the same directions.
    Uint8,
    /// One bit each, eight to a byte, the byte shifted by 128. Handed out as -1 and 1.
    Binary,
    /// One bit each, eight to a byte. Handed out as -1 and 1.
    Ubinary,
}

impl NumberFormat {
    /// The word of Voyage, Mistral and Cohere for it.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Float => "float",
            Self::Int8 => "int8",
            Self::Uint8 => "uint8",
            Self::Binary => "binary",
            Self::Ubinary => "ubinary",
        }
    }

    /// The numbers of a row; `None` where it is not of this format.
    pub(super) fn unpack(self, row: Row) -> Option<Vec<f32>> {
        match (self, row) {
            (Self::Float, Row::List(values)) => Some(values),
            (Self::Float, Row::Bytes(bytes)) => {
                let (words, rest) = bytes.as_chunks::<4>();
                rest.is_empty()
                    .then(|| words.iter().map(|word| f32::from_le_bytes(*word)).collect())
            }
            (Self::Int8, Row::Bytes(bytes)) => Some(
                bytes
                    .into_iter()
                    .map(|byte| f32::from(byte.cast_signed()))
                    .collect(),
            ),
            (Self::Uint8, Row::Bytes(bytes)) => {
                Some(bytes.into_iter().map(|byte| f32::from(byte) - 128.0).collect())
            }
            (Self::Binary, Row::Bytes(bytes)) => {
                Some(bits(bytes.into_iter().map(|byte| byte.wrapping_add(128))))
            }
            (Self::Ubinary, Row::Bytes(bytes)) => Some(bits(bytes.into_iter())),
            (Self::Int8 | Self::Binary, Row::List(values)) => {
                let bytes = whole(&values, -128)?;
                self.unpack(Row::Bytes(bytes))
            }
            (Self::Uint8 | Self::Ubinary, Row::List(values)) => {
                let bytes = whole(&values, 0)?;
                self.unpack(Row::Bytes(bytes))
            }
        }
    }
}

/// Whole numbers of one byte, the smallest of them `from`.
fn whole(values: &[f32], from: i16) -> Option<Vec<u8>> {
    let range = f32::from(from)..=f32::from(from + 255);
    values
        .iter()
        .map(|value| {
            #[allow(clippy::cast_possible_truncation)] // checked just now
            let byte = || (*value as i16).to_le_bytes()[0];
            (range.contains(value) && value.fract() == 0.0).then(byte)
        })
        .collect()
}

/// The highest bit of a byte comes first.
fn bits(bytes: impl ExactSizeIterator<Item = u8>) -> Vec<f32> {
    let mut values = Vec::with_capacity(bytes.len() * 8);
    for byte in bytes {
        values.extend(
            (0..8)
                .rev()
                .map(|at| if byte >> at & 1 == 1 { 1.0 } else { -1.0 }),
        );
    }
    values
}

/// A vector as it stands in an answer: read straight into its numbers, or out of base64.
#[derive(Debug, PartialEq)]
pub(crate) enum Row {
    List(Vec<f32>),
    Bytes(Vec<u8>),
}

impl<'de> Deserialize<'de> for Row {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = Row;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of numbers or base64")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Row, E> {
                STANDARD
                    .decode(text)
                    .map(Row::Bytes)
                    .map_err(|_| E::custom("no base64"))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Row, A::Error> {
                let mut values = Vec::with_capacity(list.size_hint().unwrap_or(1024).min(1 << 16));
                while let Some(value) = list.next_element::<f32>()? {
                    values.push(value);
                }
                Ok(Row::List(values))
            }
        }
        deserializer.deserialize_any(Either)
    }
}

#[cfg(test)]
mod tests {
    use super::{NumberFormat, Row};
    use serde_json::json;

    fn row(value: serde_json::Value) -> Row {
        serde_json::from_value(value).expect("a row")
    }

    #[test]
    fn lists_and_base64_of_every_format_give_the_same_numbers() {
        for (format, list, base64, expected) in [
            // 1.0, -2.5 little-endian
            (
                NumberFormat::Float,
                json!([1.0, -2.5]),
                "AACAPwAAIMA=",
                vec![1.0, -2.5],
            ),
            // 0x80, 0xff, 0x7f
            (
                NumberFormat::Int8,
                json!([-128, -1, 127]),
                "gP9/",
                vec![-128.0, -1.0, 127.0],
            ),
            // 0x00, 0x7f, 0xff: what int8 calls -128, -1, 127
            (
                NumberFormat::Uint8,
                json!([0, 127, 255]),
                "AH//",
                vec![-128.0, -1.0, 127.0],
            ),
            // 0b1000_0001 = 129, shifted by 128: 1
            (
                NumberFormat::Binary,
                json!([1]),
                "AQ==",
                vec![1.0, -1.0, -1.0, -1.0, -1.0, -1.0, -1.0, 1.0],
            ),
            (
                NumberFormat::Ubinary,
                json!([129]),
                "gQ==",
                vec![1.0, -1.0, -1.0, -1.0, -1.0, -1.0, -1.0, 1.0],
            ),
        ] {
            assert_eq!(format.unpack(row(list)).expect("a list"), expected, "{format:?}");
            assert_eq!(
                format.unpack(row(json!(base64))).expect("bytes"),
                expected,
                "{format:?}"
            );
        }
        // -128 is the byte 0: no bit is set.
        assert_eq!(
            NumberFormat::Binary.unpack(row(json!([-128]))),
            Some(vec![-1.0; 8])
        );
    }

    #[test]
    fn what_is_not_of_the_format_is_no_vector() {
        for (format, value) in [
            (NumberFormat::Float, json!("AACAPwA=")),
            (NumberFormat::Int8, json!([128])),
            (NumberFormat::Int8, json!([0.5])),
            (NumberFormat::Uint8, json!([-1])),
            (NumberFormat::Ubinary, json!([256])),
        ] {
            assert_eq!(format.unpack(row(value.clone())), None, "{format:?} {value}");
        }
        for value in [json!("no base64!"), json!([null]), json!({}), json!(null)] {
            assert!(serde_json::from_value::<Row>(value).is_err());
        }
    }
}
