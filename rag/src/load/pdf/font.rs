//! Fonts: from the bytes of a string to characters and widths.

use std::borrow::Cow;
use std::collections::HashMap;
use std::rc::Rc;

use encoding_rs::{BIG5, EUC_JP, EUC_KR, Encoding, GB18030, SHIFT_JIS, UTF_16BE};
use lopdf::{Dictionary, Document as Pdf, Object, dictionary};

use super::super::guard::Guard;
use super::super::refusal::Refusal;
use super::cmap::CodeMap;
use super::interpret::decoded;
use super::pages;

/// Most widths of a composite font kept; a font has at most 65,536 glyphs.
const MOST_WIDTHS: usize = 65_536;

/// One code of a string.
#[derive(Debug)]
pub(super) struct Glyph<'a> {
    pub(super) text: Cow<'a, str>,
    /// In units of the font's size.
    pub(super) width: f64,
    /// Whether word spacing applies: the single byte 32.
    pub(super) is_space: bool,
}

#[derive(Debug)]
pub(super) struct Font {
    codes: Codes,
    map: Option<CodeMap>,
    widths: Widths,
    /// Whether the widths are the font's own, not a guess.
    pub(super) has_widths: bool,
}

#[derive(Debug)]
enum Codes {
    /// One byte each.
    Single(Vec<String>),
    /// Two bytes each unless the map says otherwise; only a map tells their text.
    Glyphs,
    /// Lengths by an embedded map of codes.
    Mapped(CodeMap),
    /// An encoding of text.
    Text(&'static Encoding),
}

#[derive(Debug)]
enum Widths {
    Single(Vec<f64>),
    Composite { usual: f64, by_code: HashMap<u32, f64> },
}

impl Font {
    /// The codes of a string in order.
    pub(super) fn glyphs<'a>(&'a self, bytes: &'a [u8]) -> impl Iterator<Item = Glyph<'a>> + 'a {
        let mut at = 0;
        std::iter::from_fn(move || {
            let rest = bytes.get(at..).filter(|rest| !rest.is_empty())?;
            let length = self.length_of(rest).clamp(1, rest.len());
            at += length;
            Some(self.glyph(&rest[..length]))
        })
    }

    fn length_of(&self, rest: &[u8]) -> usize {
        match &self.codes {
            Codes::Single(_) => 1,
            Codes::Glyphs => self.map.as_ref().map_or(2, |map| map.length_of(rest, 2)),
            Codes::Mapped(lengths) => lengths.length_of(rest, 2),
            Codes::Text(encoding) if *encoding == UTF_16BE => {
                if rest.first().is_some_and(|high| (0xD8..0xDC).contains(high)) {
                    4
                } else {
                    2
                }
            }
            Codes::Text(encoding) => {
                // A lead byte alone decodes with an error; with its trail byte it does not.
                let single = encoding.decode_without_bom_handling_and_without_replacement(&rest[..1]);
                if single.is_some() { 1 } else { 2 }
            }
        }
    }

    fn glyph<'a>(&'a self, code: &[u8]) -> Glyph<'a> {
        let value = code
            .iter()
            .fold(0_u32, |value, byte| value << 8 | u32::from(*byte));
        let mapped = self
            .map
            .as_ref()
            .and_then(|map| map.get(value, code.len()))
            .filter(|text| !text.trim_matches('\0').is_empty());
        let text = match (&self.codes, mapped) {
            (_, Some(text)) => Cow::Owned(text),
            (Codes::Single(table), None) => Cow::Borrowed(table[usize::from(code[0])].as_str()),
            (Codes::Text(encoding), None) => {
                Cow::Owned(encoding.decode_without_bom_handling(code).0.into_owned())
            }
            (Codes::Glyphs | Codes::Mapped(_), None) => Cow::Borrowed(""),
        };
        let width = match &self.widths {
            Widths::Single(widths) => widths[usize::from(code[0])],
            Widths::Composite { usual, by_code } => by_code.get(&value).copied().unwrap_or(*usual),
        };
        Glyph {
            text,
            width,
            is_space: code == [32],
        }
    }
}

/// The fonts of a file, each read once.
#[derive(Debug)]
pub(super) struct Fonts<'a> {
    pdf: &'a Pdf,
    known: HashMap<usize, Rc<Font>>,
    names: HashMap<Vec<u8>, Option<String>>,
    fallback: Option<Rc<Font>>,
}

impl<'a> Fonts<'a> {
    pub(super) fn new(pdf: &'a Pdf) -> Self {
        Self {
            pdf,
            known: HashMap::new(),
            names: HashMap::new(),
            fallback: None,
        }
    }

    /// The font of a name in these resources; a plain one where there is none.
    pub(super) fn get(
        &mut self,
        resources: Option<&'a Dictionary>,
        name: &[u8],
        guard: &Guard,
    ) -> Result<Rc<Font>, Refusal> {
        let fonts = resources.and_then(|resources| pages::entry(self.pdf, resources, b"Font"));
        let Some(font) = fonts.and_then(|fonts| pages::entry(self.pdf, fonts, name)) else {
            if self.fallback.is_none() {
                self.fallback = Some(Rc::new(self.read(&Dictionary::new(), guard)?));
            }
            return Ok(Rc::clone(self.fallback.as_ref().expect("set above")));
        };
        // The file is borrowed for as long as this lives, so the place of a dictionary names it.
        let key = std::ptr::from_ref(font) as usize;
        if let Some(known) = self.known.get(&key) {
            return Ok(Rc::clone(known));
        }
        let font = Rc::new(self.read(font, guard)?);
        self.known.insert(key, Rc::clone(&font));
        Ok(font)
    }

    fn read(&mut self, font: &Dictionary, guard: &Guard) -> Result<Font, Refusal> {
        guard.check()?;
        let map = match font
            .get(b"ToUnicode")
            .ok()
            .and_then(|map| self.pdf.dereference(map).ok())
        {
            Some((_, Object::Stream(stream))) => Some(CodeMap::parse(&decoded(stream, guard)?, guard)?),
            _ => None,
        };
        let is_composite = name_in(self.pdf, font, b"Subtype").is_some_and(|kind| kind == b"Type0");
        if is_composite {
            self.composite(font, map, guard)
        } else {
            Ok(self.simple(font, map))
        }
    }

    fn composite(&self, font: &Dictionary, map: Option<CodeMap>, guard: &Guard) -> Result<Font, Refusal> {
        let encoding = font
            .get(b"Encoding")
            .ok()
            .and_then(|encoding| self.pdf.dereference(encoding).ok());
        let codes = match encoding {
            Some((_, Object::Stream(stream))) => {
                Codes::Mapped(CodeMap::parse(&decoded(stream, guard)?, guard)?)
            }
            Some((_, Object::Name(name))) => named_codes(name),
            _ => Codes::Glyphs,
        };
        let descendant = font
            .get(b"DescendantFonts")
            .ok()
            .and_then(|fonts| self.pdf.dereference(fonts).ok())
            .and_then(|(_, fonts)| fonts.as_array().ok())
            .and_then(|fonts| pages::dictionary(self.pdf, fonts.first()?));
        let usual = descendant
            .and_then(|font| number_in(self.pdf, font, b"DW"))
            .unwrap_or(1000.0)
            / 1000.0;
        let by_code = descendant
            .map(|font| self.composite_widths(font))
            .unwrap_or_default();
        let has_widths = !by_code.is_empty();
        Ok(Font {
            codes,
            map,
            widths: Widths::Composite { usual, by_code },
            has_widths,
        })
    }

    /// `[first [w w …] first last w …]`
    fn composite_widths(&self, font: &Dictionary) -> HashMap<u32, f64> {
        let mut widths = HashMap::new();
        let Some(list) = font
            .get(b"W")
            .ok()
            .and_then(|list| self.pdf.dereference(list).ok())
            .and_then(|(_, list)| list.as_array().ok())
        else {
            return widths;
        };
        let code = |object: &Object| {
            self.number(object)
                .and_then(whole)
                .and_then(|number| u32::try_from(number).ok())
        };
        let mut rest = list.as_slice();
        while let [first, second, after @ ..] = rest {
            let Some(first) = code(first) else { break };
            if let Ok((_, Object::Array(items))) = self.pdf.dereference(second) {
                for (code, width) in (first..).zip(items) {
                    if let Some(width) = self.number(width)
                        && widths.len() < MOST_WIDTHS
                    {
                        widths.insert(code, width / 1000.0);
                    }
                }
                rest = after;
            } else {
                let (Some(last), [width, after @ ..]) = (code(second), after) else {
                    break;
                };
                if let Some(width) = self.number(width) {
                    for code in first..=last {
                        if widths.len() < MOST_WIDTHS {
                            widths.insert(code, width / 1000.0);
                        }
                    }
                }
                rest = after;
            }
        }
        widths
    }

    fn number(&self, object: &Object) -> Option<f64> {
        self.pdf
            .dereference(object)
            .ok()?
            .1
            .as_float()
            .ok()
            .map(f64::from)
            .filter(|number| number.is_finite())
    }

    fn simple(&mut self, font: &Dictionary, map: Option<CodeMap>) -> Font {
        let base_name = name_in(self.pdf, font, b"BaseFont")
            .map(String::from_utf8_lossy)
            .unwrap_or_default()
            .into_owned();
        let mut table = self.base_table(font, &base_name);
        let encoding = font
            .get(b"Encoding")
            .ok()
            .and_then(|encoding| pages::dictionary(self.pdf, encoding));
        let differences = encoding
            .and_then(|encoding| encoding.get(b"Differences").ok())
            .and_then(|list| self.pdf.dereference(list).ok())
            .and_then(|(_, list)| list.as_array().ok());
        let mut code = 0_usize;
        for item in differences.into_iter().flatten() {
            match self.pdf.dereference(item) {
                Ok((_, Object::Name(name))) => {
                    if let Some(slot) = table.get_mut(code) {
                        *slot = self.glyph_text(name).unwrap_or_default();
                    }
                    code += 1;
                }
                Ok((_, Object::Integer(number))) => code = usize::try_from(*number).unwrap_or(usize::MAX / 2),
                _ => {}
            }
        }
        let (widths, has_widths) = self.simple_widths(font, &base_name, &table);
        Font {
            codes: Codes::Single(table),
            map,
            widths: Widths::Single(widths),
            has_widths,
        }
    }

    fn base_table(&self, font: &Dictionary, base_name: &str) -> Vec<String> {
        if base_name.ends_with("Symbol") {
            return symbol_table();
        }
        let encoding = font
            .get(b"Encoding")
            .ok()
            .and_then(|encoding| self.pdf.dereference(encoding).ok());
        let named = match encoding {
            Some((_, Object::Name(name))) => Some(name.as_slice()),
            Some((_, Object::Dictionary(encoding))) => name_in(self.pdf, encoding, b"BaseEncoding"),
            _ => None,
        };
        let name: &[u8] = match named {
            Some(
                name @ (b"WinAnsiEncoding" | b"MacRomanEncoding" | b"MacExpertEncoding" | b"StandardEncoding"
                | b"PDFDocEncoding"),
            ) => name,
            _ if name_in(self.pdf, font, b"Subtype").is_some_and(|kind| kind == b"TrueType") => {
                b"WinAnsiEncoding"
            }
            _ => b"StandardEncoding",
        };
        let model = dictionary! { "Type" => "Font", "Encoding" => Object::Name(name.to_vec()) };
        let table = model.get_font_encoding(self.pdf);
        (0..=255)
            .map(|code| {
                let text = table
                    .as_ref()
                    .ok()
                    .and_then(|table| table.bytes_to_string(&[code]).ok())
                    .unwrap_or_default();
                match (text.as_str(), code) {
                    // In the standard's table 173 is a hyphen that is shown.
                    ("\u{AD}", _) => "-".to_owned(),
                    ("", 32..=126) => char::from(code).to_string(),
                    _ => text,
                }
            })
            .collect()
    }

    /// The text of a glyph name: Adobe's list, `uni0041`, `u1F600`, parts joined by `_`, variants after `.`.
    fn glyph_text(&mut self, name: &[u8]) -> Option<String> {
        if let Some(known) = self.names.get(name) {
            return known.clone();
        }
        let base = name.split(|byte| *byte == b'.').next().unwrap_or_default();
        let text = self
            .listed(name)
            .or_else(|| self.listed(base))
            .or_else(|| spelled(base))
            .or_else(|| {
                let parts: Vec<&[u8]> = base.split(|byte| *byte == b'_').collect();
                if parts.len() < 2 || parts.len() > 8 {
                    return None;
                }
                parts
                    .into_iter()
                    .map(|part| self.listed(part).or_else(|| spelled(part)))
                    .collect()
            });
        self.names.insert(name.to_vec(), text.clone());
        text
    }

    /// A name in the list that comes with lopdf: asked through a font of one difference, its only way in.
    fn listed(&self, name: &[u8]) -> Option<String> {
        if name.is_empty() || name.len() > 64 {
            return None;
        }
        let encoding = dictionary! {
            "Type" => "Encoding",
            "Differences" => vec![Object::Integer(1), Object::Name(name.to_vec())],
        };
        let model = dictionary! { "Type" => "Font", "Encoding" => Object::Dictionary(encoding) };
        let text = model
            .get_font_encoding(self.pdf)
            .ok()?
            .bytes_to_string(&[1])
            .ok()?;
        Some(text).filter(|text| !text.is_empty())
    }

    fn simple_widths(&self, font: &Dictionary, base_name: &str, table: &[String]) -> (Vec<f64>, bool) {
        // Glyphs of a Type 3 font are drawn in a space of their own.
        let scale = font
            .get(b"FontMatrix")
            .ok()
            .and_then(|matrix| self.pdf.dereference(matrix).ok())
            .and_then(|(_, matrix)| self.number(matrix.as_array().ok()?.first()?))
            .filter(|_| name_in(self.pdf, font, b"Subtype").is_some_and(|kind| kind == b"Type3"))
            .map_or(0.001, f64::abs);
        let list = font
            .get(b"Widths")
            .ok()
            .and_then(|list| self.pdf.dereference(list).ok())
            .and_then(|(_, list)| list.as_array().ok());
        let Some(list) = list else {
            return (
                table.iter().map(|text| usual_width(base_name, text)).collect(),
                false,
            );
        };
        let first = number_in(self.pdf, font, b"FirstChar")
            .and_then(whole)
            .unwrap_or(0);
        let missing = pages::entry(self.pdf, font, b"FontDescriptor")
            .and_then(|font| number_in(self.pdf, font, b"MissingWidth"));
        let mut widths = vec![missing.unwrap_or(0.0) * scale; 256];
        for (code, width) in (first..256).zip(list) {
            if let Some(width) = self.number(width) {
                widths[code] = width * scale;
            }
        }
        (widths, true)
    }
}

fn name_in<'a>(pdf: &'a Pdf, parent: &'a Dictionary, key: &[u8]) -> Option<&'a [u8]> {
    pdf.dereference(parent.get(key).ok()?).ok()?.1.as_name().ok()
}

fn number_in(pdf: &Pdf, parent: &Dictionary, key: &[u8]) -> Option<f64> {
    pdf.dereference(parent.get(key).ok()?)
        .ok()?
        .1
        .as_float()
        .ok()
        .map(f64::from)
        .filter(|number| number.is_finite())
}

/// A code: from 0 to 65,535.
fn whole(number: f64) -> Option<usize> {
    #[allow(clippy::cast_sign_loss)] // the range is checked first
    (0.0..65_536.0).contains(&number).then_some(number as usize)
}

/// What the predefined maps of codes are made of.
fn named_codes(name: &[u8]) -> Codes {
    let name = String::from_utf8_lossy(name);
    let has = |part: &str| name.contains(part);
    if has("UCS2") || has("UTF16") {
        Codes::Text(UTF_16BE)
    } else if has("RKSJ") {
        Codes::Text(SHIFT_JIS)
    } else if name.starts_with("GB") {
        Codes::Text(GB18030)
    } else if name.starts_with("KSC") {
        Codes::Text(EUC_KR)
    } else if name.starts_with("ET") || has("B5") {
        Codes::Text(BIG5)
    } else if name == "EUC-H" || name == "EUC-V" {
        Codes::Text(EUC_JP)
    } else {
        Codes::Glyphs
    }
}

/// `uni00410042`, `u1F600`.
fn spelled(name: &[u8]) -> Option<String> {
    let name = std::str::from_utf8(name).ok()?;
    if let Some(digits) = name.strip_prefix("uni")
        && digits.len() >= 4
        && digits.len().is_multiple_of(4)
        && digits.is_ascii()
    {
        let units: Option<Vec<u16>> = digits
            .as_bytes()
            .chunks_exact(4)
            .map(|four| u16::from_str_radix(std::str::from_utf8(four).ok()?, 16).ok())
            .collect();
        return String::from_utf16(&units?).ok();
    }
    let digits = name
        .strip_prefix('u')
        .filter(|digits| (4..=6).contains(&digits.len()))?;
    char::from_u32(u32::from_str_radix(digits, 16).ok()?).map(String::from)
}

/// The Greek letters and the bullet of the font Symbol; its other signs are not for searching.
fn symbol_table() -> Vec<String> {
    const CAPITALS: &str = "ΑΒΧΔΕΦΓΗΙϑΚΛΜΝΟΠΘΡΣΤΥςΩΞΨΖ";
    const SMALL: &str = "αβχδεφγηιϕκλμνοπθρστυϖωξψζ";
    let mut table: Vec<String> = (0..=255_u8)
        .map(|code| {
            if (32..65).contains(&code) {
                char::from(code).to_string()
            } else {
                String::new()
            }
        })
        .collect();
    for (first, letters) in [(65, CAPITALS), (97, SMALL)] {
        for (slot, letter) in table[first..].iter_mut().zip(letters.chars()) {
            *slot = letter.to_string();
        }
    }
    for (code, sign) in [
        (91, "["),
        (93, "]"),
        (0xA3, "≤"),
        (0xB0, "°"),
        (0xB1, "±"),
        (0xB3, "≥"),
        (0xB4, "×"),
        (0xB7, "•"),
        (0xB9, "≠"),
        (0xBB, "≈"),
        (0xAE, "→"),
    ] {
        sign.clone_into(&mut table[code]);
    }
    table
}

/// Widths of ASCII from the metrics Adobe publishes for its base fonts, in thousandths.
const SANS: [u16; 95] = [
    278, 278, 355, 556, 556, 889, 667, 191, 333, 333, 389, 584, 278, 333, 278, 278, 556, 556, 556, 556, 556,
    556, 556, 556, 556, 556, 278, 278, 584, 584, 584, 556, 1015, 667, 667, 722, 722, 667, 611, 778, 722, 278,
    500, 667, 556, 833, 722, 778, 667, 778, 722, 667, 611, 722, 667, 944, 667, 667, 611, 278, 278, 278, 469,
    556, 333, 556, 556, 500, 556, 556, 278, 556, 556, 222, 222, 500, 222, 833, 556, 556, 556, 556, 333, 500,
    278, 556, 500, 722, 500, 500, 500, 334, 260, 334, 584,
];
const SERIF: [u16; 95] = [
    250, 333, 408, 500, 500, 833, 778, 180, 333, 333, 500, 564, 250, 333, 250, 278, 500, 500, 500, 500, 500,
    500, 500, 500, 500, 500, 278, 278, 564, 564, 564, 444, 921, 722, 667, 667, 722, 611, 556, 722, 722, 333,
    389, 722, 611, 889, 722, 722, 556, 722, 667, 556, 611, 722, 722, 944, 722, 722, 611, 333, 278, 333, 469,
    500, 333, 444, 500, 444, 500, 444, 333, 500, 500, 278, 278, 500, 278, 778, 500, 500, 500, 500, 333, 389,
    278, 500, 500, 722, 500, 500, 444, 480, 200, 480, 541,
];

/// The width of a character in a font that brings none: one of the base fonts, or like one.
fn usual_width(base_name: &str, text: &str) -> f64 {
    let Some(sign) = text.chars().next() else {
        return 0.0;
    };
    if base_name.contains("Courier") || base_name.contains("Mono") {
        return 0.6;
    }
    let table = if base_name.contains("Times") || base_name.contains("Serif") {
        &SERIF
    } else {
        &SANS
    };
    let at = (u32::from(sign))
        .checked_sub(32)
        .and_then(|at| usize::try_from(at).ok());
    at.and_then(|at| table.get(at))
        .map_or(0.55, |width| f64::from(*width) / 1000.0)
}
