//! ToUnicode maps: from codes of one to four bytes to text.

use std::collections::HashMap;
use std::ops::RangeInclusive;

use super::super::guard::Guard;
use super::super::refusal::Refusal;
use super::content::{Operand, Word, words};

/// Most entries kept; a map of every BMP character has 65,536.
const MOST: usize = 200_000;
/// How many words pass between two looks at the clock.
const PACE: usize = 1024;

/// A code: its value and how many bytes it has.
type Code = (u32, usize);

#[derive(Debug, Default)]
pub(super) struct CodeMap {
    lengths: Vec<(RangeInclusive<u32>, usize)>,
    single: HashMap<Code, String>,
    ranges: Vec<(RangeInclusive<u32>, usize, Vec<u16>)>,
}

impl CodeMap {
    pub(super) fn parse(bytes: &[u8], guard: &Guard) -> Result<Self, Refusal> {
        let mut map = Self::default();
        let mut operands: Vec<Operand> = Vec::new();
        for (number, word) in words(bytes).enumerate() {
            if number.is_multiple_of(PACE) {
                guard.check()?;
            }
            match word {
                Word::Operand(operand) => {
                    if operands.len() < 4 * MOST {
                        operands.push(operand);
                    }
                }
                Word::Operator(name) => {
                    match name.as_slice() {
                        b"endcodespacerange" => map.add_lengths(&operands),
                        b"endbfchar" => map.add_single(&operands),
                        b"endbfrange" => map.add_ranges(&operands),
                        _ => {}
                    }
                    operands.clear();
                }
            }
        }
        map.ranges
            .sort_by_key(|(range, length, _)| (*length, *range.start()));
        Ok(map)
    }

    fn len(&self) -> usize {
        self.single.len() + self.ranges.len()
    }

    fn add_lengths(&mut self, operands: &[Operand]) {
        for pair in operands.chunks_exact(2) {
            if let (Some((low, length)), Some((high, _))) = (code(&pair[0]), code(&pair[1]))
                && low <= high
                && self.lengths.len() < 256
            {
                self.lengths.push((low..=high, length));
            }
        }
    }

    fn add_single(&mut self, operands: &[Operand]) {
        for pair in operands.chunks_exact(2) {
            if let (Some(from), Some(to)) = (code(&pair[0]), units(&pair[1]))
                && self.len() < MOST
            {
                self.single.insert(from, String::from_utf16_lossy(&to));
            }
        }
    }

    fn add_ranges(&mut self, operands: &[Operand]) {
        for triple in operands.chunks_exact(3) {
            let (Some((low, length)), Some((high, _))) = (code(&triple[0]), code(&triple[1])) else {
                continue;
            };
            if low > high || self.len() >= MOST {
                continue;
            }
            match &triple[2] {
                Operand::Array(items) => {
                    for (code, item) in (low..=high).zip(items) {
                        if let Some(to) = units(item)
                            && self.len() < MOST
                        {
                            self.single.insert((code, length), String::from_utf16_lossy(&to));
                        }
                    }
                }
                item => self.ranges.extend(units(item).map(|to| (low..=high, length, to))),
            }
        }
    }

    /// How many bytes each code of a string has, by the declared ranges; two for composite fonts without any.
    pub(super) fn length_of(&self, bytes: &[u8], usual: usize) -> usize {
        let mut value = 0_u32;
        for (at, byte) in bytes.iter().take(4).enumerate() {
            value = value << 8 | u32::from(*byte);
            if self
                .lengths
                .iter()
                .any(|(range, length)| *length == at + 1 && range.contains(&value))
            {
                return at + 1;
            }
        }
        usual
    }

    pub(super) fn get(&self, value: u32, length: usize) -> Option<String> {
        if let Some(text) = self.single.get(&(value, length)) {
            return Some(text.clone());
        }
        let end = self
            .ranges
            .partition_point(|(range, of, _)| (*of, *range.start()) <= (length, value));
        // Ranges may overlap; the one that starts last counts, and a few before it are looked at.
        let (range, _, to) = self.ranges[..end]
            .iter()
            .rev()
            .take(8)
            .find(|(range, of, _)| *of == length && range.contains(&value))?;
        let (last, head) = to.split_last()?;
        let mut text = String::from_utf16_lossy(head);
        let step = value - range.start();
        if let Some(first) = head.last().filter(|unit| (0xD800..0xDC00).contains(*unit)) {
            text = String::from_utf16_lossy(&head[..head.len() - 1]);
            let base = 0x10000 + (u32::from(*first) - 0xD800) * 0x400 + u32::from(last.wrapping_sub(0xDC00));
            text.extend(char::from_u32(base.wrapping_add(step)));
        } else {
            text.extend(char::from_u32(u32::from(*last).wrapping_add(step)));
        }
        Some(text)
    }
}

fn code(operand: &Operand) -> Option<Code> {
    match operand {
        Operand::Text(bytes) if (1..=4).contains(&bytes.len()) => Some((
            bytes.iter().fold(0, |value, byte| value << 8 | u32::from(*byte)),
            bytes.len(),
        )),
        _ => None,
    }
}

fn units(operand: &Operand) -> Option<Vec<u16>> {
    match operand {
        Operand::Text(bytes) if bytes.len() == 1 => Some(vec![u16::from(bytes[0])]),
        Operand::Text(bytes) if !bytes.is_empty() && bytes.len() <= 128 => Some(
            bytes
                .chunks_exact(2)
                .map(|pair| u16::from_be_bytes([pair[0], pair[1]]))
                .collect(),
        ),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_of_several_lengths_are_told_apart() {
        let map = CodeMap::parse(
            b"2 begincodespacerange <00> <7F> <8000> <FFFF> endcodespacerange 1 beginbfrange <20> <7E> <0020> endbfrange \
              1 beginbfrange <8001> <8003> <D83DDE00> endbfrange 1 beginbfchar <8140> <4E00> endbfchar",
            &Guard::unbounded(),
        )
        .expect("a map");
        assert_eq!(map.length_of(b"A", 2), 1);
        assert_eq!(map.length_of(b"\x81\x40", 1), 2);
        assert_eq!(map.get(0x41, 1).as_deref(), Some("A"));
        assert_eq!(map.get(0x8002, 2).as_deref(), Some("😁"));
        assert_eq!(map.get(0x8140, 2).as_deref(), Some("一"));
        assert_eq!(map.get(0x9000, 2), None);
    }
}
