//! [`Tensors`]: the named constants of an ONNX file, where they stand in it.
//!
//! An ONNX file is a protobuf message: a model (field 7: the graph), whose graph (field 5: the constants) holds
//! tensors (1: dimensions, 2: element type, 8: name, 9: little-endian values). The rest is skipped; see
//! <https://github.com/onnx/onnx/blob/main/onnx/onnx.proto>.

use crate::Error;
use std::collections::HashMap;

const FLOAT: u64 = 1;
const INT8: u64 = 3;

/// Constants by name.
pub(crate) struct Tensors<'a>(HashMap<&'a str, Tensor<'a>>);

#[derive(Default)]
struct Tensor<'a> {
    shape: Vec<u64>,
    kind: u64,
    values: &'a [u8],
}

impl<'a> Tensors<'a> {
    pub(crate) fn read(file: &'a [u8]) -> Result<Self, Error> {
        let mut tensors = HashMap::new();
        for graph in parts(file, 7) {
            for tensor in parts(graph?, 5) {
                let (name, tensor) = Tensor::read(tensor?)?;
                tensors.insert(name, tensor);
            }
        }
        Ok(Self(tensors))
    }

    /// int8 values, row by row, as the bytes they are in the file.
    pub(crate) fn bytes(&self, name: &str, shape: &[usize]) -> Result<&'a [u8], Error> {
        self.values(name, INT8, shape, 1)
    }

    pub(crate) fn floats(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>, Error> {
        let values = self.values(name, FLOAT, shape, 4)?;
        Ok(values
            .as_chunks()
            .0
            .iter()
            .map(|&four| f32::from_le_bytes(four))
            .collect())
    }

    fn values(&self, name: &str, kind: u64, shape: &[usize], size: usize) -> Result<&'a [u8], Error> {
        let tensor = self
            .0
            .get(name)
            .ok_or_else(|| Error(format!("it has no `{name}`")))?;
        let same = tensor.shape.iter().eq(shape
            .iter()
            .map(|&length| length as u64)
            .collect::<Vec<_>>()
            .iter());
        if tensor.kind != kind || !same || tensor.values.len() != shape.iter().product::<usize>() * size {
            return Err(Error(format!("`{name}` is of another type or shape")));
        }
        Ok(tensor.values)
    }
}

impl<'a> Tensor<'a> {
    fn read(message: &'a [u8]) -> Result<(&'a str, Self), Error> {
        let (mut name, mut tensor) = ("", Self::default());
        for field in fields(message) {
            match field? {
                (1, Field::Number(length)) => tensor.shape.push(length),
                // Writers may pack repeated numbers into one field.
                (1, Field::Bytes(mut packed)) => {
                    while !packed.is_empty() {
                        tensor.shape.push(number(&mut packed)?);
                    }
                }
                (2, Field::Number(kind)) => tensor.kind = kind,
                (8, Field::Bytes(bytes)) => name = std::str::from_utf8(bytes).map_err(|_| broken())?,
                (9, Field::Bytes(bytes)) => tensor.values = bytes,
                _ => {}
            }
        }
        Ok((name, tensor))
    }
}

enum Field<'a> {
    Number(u64),
    Bytes(&'a [u8]),
    Fixed,
}

/// The messages that stand in a message under this number.
fn parts(message: &[u8], wanted: u64) -> impl Iterator<Item = Result<&[u8], Error>> {
    fields(message).filter_map(move |field| match field {
        Ok((number, Field::Bytes(bytes))) if number == wanted => Some(Ok(bytes)),
        Ok(_) => None,
        Err(error) => Some(Err(error)),
    })
}

/// The fields of a message; it ends at the first error.
fn fields(message: &[u8]) -> impl Iterator<Item = Result<(u64, Field<'_>), Error>> {
    let mut rest = message;
    std::iter::from_fn(move || {
        (!rest.is_empty()).then(|| {
            let field = field(&mut rest);
            if field.is_err() {
                rest = &[];
            }
            field
        })
    })
}

fn field<'a>(rest: &mut &'a [u8]) -> Result<(u64, Field<'a>), Error> {
    let tag = number(rest)?;
    let field = match tag & 7 {
        0 => Field::Number(number(rest)?),
        1 => cut(rest, 8).map(|_| Field::Fixed)?,
        2 => {
            let length = number(rest)?;
            Field::Bytes(cut(rest, usize::try_from(length).map_err(|_| broken())?)?)
        }
        5 => cut(rest, 4).map(|_| Field::Fixed)?,
        _ => return Err(broken()),
    };
    Ok((tag >> 3, field))
}

/// A number of seven bits per byte, the least first.
fn number(rest: &mut &[u8]) -> Result<u64, Error> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let byte = cut(rest, 1)?[0];
        value |= u64::from(byte & 0x7F) << shift;
        if byte < 0x80 {
            return Ok(value);
        }
    }
    Err(broken())
}

fn cut<'a>(rest: &mut &'a [u8], length: usize) -> Result<&'a [u8], Error> {
    let (cut, left) = rest.split_at_checked(length).ok_or_else(broken)?;
    *rest = left;
    Ok(cut)
}

fn broken() -> Error {
    Error("it is not an ONNX file, or a part of one".to_owned())
}

#[cfg(test)]
pub(crate) mod tests {
    use super::{FLOAT, INT8, Tensors};

    fn number(mut value: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        while value >= 0x80 {
            bytes.push((value & 0x7F) as u8 | 0x80);
            value >>= 7;
        }
        bytes.push(value as u8);
        bytes
    }

    fn part(field: usize, bytes: &[u8]) -> Vec<u8> {
        [number(field << 3 | 2), number(bytes.len()), bytes.to_vec()].concat()
    }

    fn tensor(name: &str, kind: u64, shape: &[usize], values: &[u8]) -> Vec<u8> {
        let mut message: Vec<u8> = shape
            .iter()
            .flat_map(|&length| [number(1 << 3), number(length)].concat())
            .collect();
        message.extend([number(2 << 3), number(kind as usize)].concat());
        message.extend(part(8, name.as_bytes()));
        message.extend(part(9, values));
        part(5, &message)
    }

    pub(crate) fn floats(name: &str, shape: &[usize], values: &[f32]) -> Vec<u8> {
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        tensor(name, FLOAT, shape, &bytes)
    }

    pub(crate) fn bytes(name: &str, shape: &[usize], values: &[i8]) -> Vec<u8> {
        let bytes: Vec<u8> = values.iter().map(|value| value.cast_unsigned()).collect();
        tensor(name, INT8, shape, &bytes)
    }

    /// A file of these tensors, with fields about it that are skipped.
    pub(crate) fn file(tensors: &[Vec<u8>]) -> Vec<u8> {
        let about = [
            number(1 << 3),
            number(9),
            part(2, b"somebody"),
            vec![9 << 3 | 1],
            vec![0; 8],
        ]
        .concat();
        let graph = [
            part(2, b"a graph"),
            tensors.concat(),
            vec![9 << 3 | 5],
            vec![0; 4],
        ]
        .concat();
        [about, part(7, &graph)].concat()
    }

    #[test]
    fn constants_are_found_by_name_type_and_shape() {
        let file = file(&[
            floats("a", &[2, 1], &[1.5, -2.0]),
            bytes("b", &[3], &[1, -1, 127]),
        ]);
        let tensors = Tensors::read(&file).expect("reads");
        assert_eq!(tensors.floats("a", &[2, 1]), Ok(vec![1.5, -2.0]));
        assert_eq!(tensors.bytes("b", &[3]), Ok(&[1, 255, 127][..]));
        for wrong in [
            tensors.floats("a", &[2]),
            tensors.floats("a", &[1, 2]),
            tensors.floats("b", &[3]),
        ] {
            assert!(
                wrong
                    .expect_err("is wrong")
                    .to_string()
                    .contains("another type or shape")
            );
        }
        let none = tensors.bytes("c", &[3]).expect_err("is not there");
        assert_eq!(none.to_string(), "it has no `c`");
    }

    #[test]
    fn a_packed_shape_is_read_too() {
        let message = [
            part(1, &[2, 1]),
            number(2 << 3),
            vec![3],
            part(8, b"p"),
            part(9, &[4, 5]),
        ]
        .concat();
        let file = part(7, &part(5, &message));
        assert_eq!(
            Tensors::read(&file).expect("reads").bytes("p", &[2, 1]),
            Ok(&[4, 5][..])
        );
    }

    #[test]
    fn a_file_cut_anywhere_or_with_any_byte_changed_is_an_error_or_misses_something_and_never_a_panic() {
        let whole = file(&[floats("a", &[2], &[1.5, -2.0]), bytes("b", &[300], &[1; 300])]);
        for end in 0..whole.len() {
            let found = Tensors::read(&whole[..end]).and_then(|tensors| {
                tensors.floats("a", &[2])?;
                tensors.bytes("b", &[300]).map(<[u8]>::to_vec)
            });
            assert!(found.is_err(), "cut at {end}");
        }
        for at in 0..whole.len() {
            for byte in [0, 0x7F, 0x80, 0xFF, whole[at] ^ 1] {
                let mut changed = whole.clone();
                changed[at] = byte;
                if let Ok(tensors) = Tensors::read(&changed) {
                    let _ = (tensors.floats("a", &[2]), tensors.bytes("b", &[300]));
                }
            }
        }
    }
}
