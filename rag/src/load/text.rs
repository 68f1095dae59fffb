//! Plain text: whose encoding it is, and whether it is text at all.

use encoding_rs::{Encoding, UTF_8, UTF_16BE, UTF_16LE, WINDOWS_1252};
use stepwell_core::Document;

use super::guard::Guard;
use super::refusal::Refusal;

pub(super) fn read(id: &str, bytes: &[u8], guard: &Guard) -> Result<Document, Refusal> {
    let text = decode(bytes)?;
    guard.text(text.len())?;
    Ok(Document::new(id, text))
}

/// The bytes as normalised text, whatever their encoding; refused when they are none.
pub(super) fn decode(bytes: &[u8]) -> Result<String, Refusal> {
    let (encoding, from) = sniff(bytes)?;
    let text = decode_as(encoding, &bytes[from..]);
    if is_binary(&text) {
        return Err(binary());
    }
    Ok(normalise(&text))
}

/// The bytes in a known encoding; what does not fit it becomes U+FFFD. Valid UTF-8 is not copied twice.
pub(super) fn decode_as(encoding: &'static Encoding, bytes: &[u8]) -> String {
    encoding.decode_without_bom_handling(bytes).0.into_owned()
}

fn binary() -> Refusal {
    Refusal::new("binary, not text")
}

/// The mark of an encoding at the start, and its length.
pub(super) fn byte_order_mark(bytes: &[u8]) -> Option<(&'static Encoding, usize)> {
    Encoding::for_bom(bytes)
}

/// The encoding of a text, and where it starts after a mark.
fn sniff(bytes: &[u8]) -> Result<(&'static Encoding, usize), Refusal> {
    if let Some(found) = byte_order_mark(bytes) {
        return Ok(found);
    }
    if bytes.contains(&0) {
        return utf16_without_mark(bytes)
            .map(|encoding| (encoding, 0))
            .ok_or_else(binary);
    }
    match std::str::from_utf8(bytes) {
        Ok(_) => Ok((UTF_8, 0)),
        Err(_) if is_damaged_utf8(bytes) => Ok((UTF_8, 0)),
        Err(_) => western(bytes).map(|encoding| (encoding, 0)),
    }
}

/// Text that holds zero bytes may be UTF-16. In the right byte order nearly all its characters are of known scripts;
/// of two orders that both look so, the one with more spaces, line ends and ASCII is right.
fn utf16_without_mark(bytes: &[u8]) -> Option<&'static Encoding> {
    if !bytes.len().is_multiple_of(2) {
        return None;
    }
    let sample = &bytes[..bytes.len().min(64 << 10)];
    let mut best: Option<(&'static Encoding, usize)> = None;
    for (encoding, unit) in [
        (UTF_16LE, u16::from_le_bytes as fn([u8; 2]) -> u16),
        (UTF_16BE, u16::from_be_bytes),
    ] {
        let units = sample.chunks_exact(2).map(|pair| unit([pair[0], pair[1]]));
        let (mut total, mut plausible, mut common) = (0_usize, 0_usize, 0_usize);
        for sign in char::decode_utf16(units) {
            let sign = sign.unwrap_or(char::REPLACEMENT_CHARACTER);
            total += 1;
            plausible += usize::from(is_plausible(sign));
            common += usize::from(is_common(sign));
        }
        // A sample cut inside a surrogate pair costs one character.
        if total > 0
            && (plausible + 1) * 100 >= total * 97
            && common * 50 >= total
            && best.is_none_or(|(_, most)| common > most)
        {
            best = Some((encoding, common));
        }
    }
    best.map(|(encoding, _)| encoding)
}

/// Signs found in text of any script.
fn is_common(sign: char) -> bool {
    matches!(
        sign,
        '\t' | '\n' | '\r' | ' '..='~' | '\u{3001}' | '\u{3002}' | '\u{3000}' | '\u{FF0C}'
    )
}

/// Signs of the scripts people write in; neither control characters nor private or unassigned regions.
fn is_plausible(sign: char) -> bool {
    is_common(sign)
        || matches!(sign, '\u{A0}'..='\u{17FF}' | '\u{1E00}'..='\u{27BF}' | '\u{2C00}'..='\u{2FDF}'
            | '\u{3000}'..='\u{9FFF}' | '\u{A640}'..='\u{A7FF}' | '\u{AC00}'..='\u{D7A3}'
            | '\u{F900}'..='\u{FDFF}' | '\u{FE30}'..='\u{FFEE}' | '\u{1F300}'..='\u{1FAFF}' | '\u{20000}'..='\u{3134F}')
}

/// Mostly UTF-8 with a few bad bytes: more well-formed longer sequences than faults.
fn is_damaged_utf8(bytes: &[u8]) -> bool {
    let (mut good, mut bad) = (0_usize, 0_usize);
    for chunk in bytes.utf8_chunks() {
        good += chunk.valid().chars().filter(|sign| !sign.is_ascii()).count();
        bad += usize::from(!chunk.invalid().is_empty());
    }
    good > bad * 8
}

/// What is left is taken for Western text, unless half of it lies outside ASCII: then it is another old encoding, and
/// reading it as Western would fill the index with noise.
fn western(bytes: &[u8]) -> Result<&'static Encoding, Refusal> {
    let high = bytes.iter().filter(|byte| **byte >= 0x80).count();
    if high * 5 > bytes.len() * 2 {
        return Err(if is_binary(&decode_as(WINDOWS_1252, bytes)) {
            binary()
        } else {
            Refusal::new("not UTF-8, and its encoding cannot be told; save it as UTF-8")
        });
    }
    Ok(WINDOWS_1252)
}

/// Zero characters, or more than one control character in 64 that text has no use for.
fn is_binary(text: &str) -> bool {
    let (mut signs, mut controls) = (0_usize, 0_usize);
    for sign in text.chars() {
        signs += 1;
        match sign {
            '\0' => return true,
            '\t' | '\n' | '\r' | '\u{C}' | '\u{B}' | '\u{85}' => {}
            sign if sign.is_control() => controls += 1,
            _ => {}
        }
    }
    controls * 64 > signs
}

/// LF line ends, no mark at the start, none of the invisible tag characters that only hide words from the reader.
pub(super) fn normalise(text: &str) -> String {
    let text = text.strip_prefix('\u{FEFF}').unwrap_or(text);
    if !text.contains(|sign: char| sign == '\r' || is_tag(sign)) {
        return text.to_owned();
    }
    let mut out = String::with_capacity(text.len());
    let mut signs = text.chars().peekable();
    while let Some(sign) = signs.next() {
        match sign {
            '\r' => {
                signs.next_if_eq(&'\n');
                out.push('\n');
            }
            sign if is_tag(sign) => {}
            sign => out.push(sign),
        }
    }
    out
}

pub(super) fn is_tag(sign: char) -> bool {
    matches!(sign, '\u{E0000}'..='\u{E007F}')
}

/// Overrides of the writing direction: the words shown differ from the words stored.
pub(super) fn has_direction_override(text: &str) -> bool {
    text.contains(|sign: char| matches!(sign, '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{2069}'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn utf16(text: &str, unit: fn(u16) -> [u8; 2]) -> Vec<u8> {
        text.encode_utf16().flat_map(unit).collect()
    }

    #[test]
    fn every_usual_encoding_reads_the_same() {
        let text = "Ein Bär, zwei Bären – ½ kg.\nNächste Zeile.\n";
        let western = WINDOWS_1252.encode(text).0.into_owned();
        let marked = |mark: &[u8], body: Vec<u8>| [mark, &body].concat();
        for bytes in [
            text.as_bytes().to_vec(),
            marked(b"\xEF\xBB\xBF", text.as_bytes().to_vec()),
            marked(b"\xFF\xFE", utf16(text, u16::to_le_bytes)),
            marked(b"\xFE\xFF", utf16(text, u16::to_be_bytes)),
            utf16(text, u16::to_le_bytes),
            utf16(text, u16::to_be_bytes),
            western,
        ] {
            assert_eq!(decode(&bytes).as_deref(), Ok(text), "{bytes:02x?}");
        }
        for text in [
            "二〇二六年。\n新しい 本です、はい。\n",
            "Привет, мир! Как дела?\n",
        ] {
            assert_eq!(decode(&utf16(text, u16::to_le_bytes)).as_deref(), Ok(text));
            assert_eq!(decode(&utf16(text, u16::to_be_bytes)).as_deref(), Ok(text));
        }
    }

    #[test]
    fn line_ends_become_lf_and_hidden_tags_vanish() {
        assert_eq!(
            decode("a\r\nb\rc\n\u{E0041}\u{E007F}d".as_bytes()).as_deref(),
            Ok("a\nb\nc\nd")
        );
    }

    #[test]
    fn what_is_no_text_is_refused() {
        let all: Vec<u8> = (0..=255).collect();
        for bytes in [
            &all[..],
            b"\x7fELF\x02\x01\x01\x00\x00\x00",
            b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR",
            b"\x01\x02\x03\x04abc",
        ] {
            assert_eq!(decode(bytes).expect_err("binary").reason(), "binary, not text");
        }
        let greek: Vec<u8> = std::iter::repeat_n(0xE1_u8, 90).chain(*b" 0123456789").collect();
        assert!(
            decode(&greek)
                .expect_err("which encoding?")
                .reason()
                .contains("save it as UTF-8")
        );
    }

    #[test]
    fn a_damaged_byte_does_not_turn_utf8_into_noise() {
        let mut bytes = "Straße, Größe, Maß, Fuß, süß, weiß, heiß, Spaß, groß"
            .as_bytes()
            .to_vec();
        bytes.push(0xC3);
        assert!(decode(&bytes).expect("text").starts_with("Straße, Größe"));
    }
}
