//! The encoding an HTML page declares about itself, found as browsers find it before they parse.

use encoding_rs::{Encoding, UTF_8, UTF_16BE, UTF_16LE, WINDOWS_1252, X_USER_DEFINED};

/// Browsers look at 1,024 bytes and change their mind later; we look further, once.
const LOOK: usize = 16 << 10;

/// The encoding of a page and where it starts after a mark: the mark, the declaration, UTF-8 where it is valid, else
/// Western.
pub(super) fn of(bytes: &[u8]) -> (&'static Encoding, usize) {
    if let Some(found) = super::text::byte_order_mark(bytes) {
        return found;
    }
    if let Some(declared) = declared(&bytes[..bytes.len().min(LOOK)]) {
        return (declared, 0);
    }
    if std::str::from_utf8(bytes).is_ok() {
        (UTF_8, 0)
    } else {
        (WINDOWS_1252, 0)
    }
}

/// A declaration in ASCII proves that the page is not UTF-16.
fn usable(label: &[u8]) -> Option<&'static Encoding> {
    match Encoding::for_label(label)? {
        found if found == UTF_16BE || found == UTF_16LE => Some(UTF_8),
        found if found == X_USER_DEFINED => Some(WINDOWS_1252),
        found => Some(found),
    }
}

/// <https://html.spec.whatwg.org/multipage/parsing.html#prescan-a-byte-stream-to-determine-its-encoding>
fn declared(bytes: &[u8]) -> Option<&'static Encoding> {
    let mut at = 0;
    while let Some(found) = find(bytes, at, b'<') {
        let rest = &bytes[found..];
        if rest.starts_with(b"<!--") {
            // `<!-->` is a whole comment: its dashes may overlap.
            at = found + 2 + rest[2..].windows(3).position(|window| window == b"-->")? + 3;
        } else if rest.len() > 5
            && rest[1..5].eq_ignore_ascii_case(b"meta")
            && (is_space(rest[5]) || rest[5] == b'/')
        {
            at = found + 5;
            if let Some(encoding) = meta(bytes, &mut at) {
                return Some(encoding);
            }
        } else if rest.len() > 1
            && (rest[1].is_ascii_alphabetic()
                || (rest[1] == b'/' && rest.get(2).is_some_and(u8::is_ascii_alphabetic)))
        {
            at = found + 1;
            while bytes
                .get(at)
                .is_some_and(|byte| !is_space(*byte) && *byte != b'>')
            {
                at += 1;
            }
            while attribute(bytes, &mut at)?.is_some() {}
        } else if matches!(rest.get(1), Some(b'!' | b'/' | b'?')) {
            at = find(bytes, found, b'>')?;
        } else {
            at = found + 1;
        }
    }
    None
}

/// The attributes of a `<meta>`, and what they say together.
fn meta(bytes: &[u8], at: &mut usize) -> Option<&'static Encoding> {
    let (mut seen, mut is_pragma, mut needs_pragma, mut found) = (Vec::new(), false, false, None);
    // A tag that the window cuts declares nothing.
    while let Some((name, value)) = attribute(bytes, at)? {
        if seen.contains(&name) {
            continue;
        }
        match name.as_slice() {
            b"http-equiv" => is_pragma = value.eq_ignore_ascii_case(b"content-type"),
            b"content" if found.is_none() => {
                found = in_content(&value);
                needs_pragma = found.is_some();
            }
            b"charset" => (found, needs_pragma) = (usable(&value), false),
            _ => {}
        }
        seen.push(name);
    }
    found.filter(|_| !needs_pragma || is_pragma)
}

/// `text/html; charset=…`
fn in_content(value: &[u8]) -> Option<&'static Encoding> {
    let mut at = 0;
    loop {
        at += value[at..]
            .windows(7)
            .position(|window| window.eq_ignore_ascii_case(b"charset"))?
            + 7;
        let rest = value[at..].trim_ascii_start();
        let Some(rest) = rest.strip_prefix(b"=").map(<[u8]>::trim_ascii_start) else {
            continue;
        };
        let label = match rest.first()? {
            quote @ (b'"' | b'\'') => rest[1..]
                .split(|byte| byte == quote)
                .next()
                .filter(|label| label.len() + 1 < rest.len())?,
            _ => rest.split(|byte| is_space(*byte) || *byte == b';').next()?,
        };
        return usable(label);
    }
}

/// The next attribute of a tag; `Some(None)` at its end, `None` where the bytes end first.
#[allow(clippy::option_option)] // three answers: an attribute, none left, cut off
fn attribute(bytes: &[u8], at: &mut usize) -> Option<Option<(Vec<u8>, Vec<u8>)>> {
    while is_space(*bytes.get(*at)?) || bytes[*at] == b'/' {
        *at += 1;
    }
    if bytes[*at] == b'>' {
        return Some(None);
    }
    let mut name = Vec::new();
    loop {
        match *bytes.get(*at)? {
            b'=' if !name.is_empty() => break,
            byte if is_space(byte) => {
                while is_space(*bytes.get(*at)?) {
                    *at += 1;
                }
                break;
            }
            b'/' | b'>' => return Some(Some((name, Vec::new()))),
            byte => name.push(byte.to_ascii_lowercase()),
        }
        *at += 1;
    }
    if *bytes.get(*at)? != b'=' {
        return Some(Some((name, Vec::new())));
    }
    *at += 1;
    while is_space(*bytes.get(*at)?) {
        *at += 1;
    }
    let mut value = Vec::new();
    match *bytes.get(*at)? {
        quote @ (b'"' | b'\'') => loop {
            *at += 1;
            match *bytes.get(*at)? {
                byte if byte == quote => {
                    *at += 1;
                    return Some(Some((name, value)));
                }
                byte => value.push(byte),
            }
        },
        _ => loop {
            match *bytes.get(*at)? {
                byte if is_space(byte) || byte == b'>' => return Some(Some((name, value))),
                byte => value.push(byte),
            }
            *at += 1;
        },
    }
}

fn find(bytes: &[u8], from: usize, wanted: u8) -> Option<usize> {
    bytes
        .get(from..)?
        .iter()
        .position(|byte| *byte == wanted)
        .map(|at| from + at)
}

fn is_space(byte: u8) -> bool {
    matches!(byte, b'\t' | b'\n' | 0x0C | b'\r' | b' ')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_tells_its_encoding_in_three_ways() {
        for (page, name) in [
            (&b"<meta charset=iso-8859-2>"[..], "ISO-8859-2"),
            (
                b"<META content='text/html; charset=\"koi8-r\"' http-equiv=content-type>",
                "KOI8-R",
            ),
            (b"<meta content='text/html; charset=koi8-r'>", "UTF-8"),
            (
                b"<!-- <meta charset=koi8-r> --><p title='<meta charset=koi8-r>'>",
                "UTF-8",
            ),
            (b"<meta charset=utf-16>", "UTF-8"),
            (b"caf\xE9", "windows-1252"),
            (b"\xFF\xFEa\0", "UTF-16LE"),
            (b"<meta charset=", "UTF-8"),
        ] {
            assert_eq!(of(page).0.name(), name, "{}", String::from_utf8_lossy(page));
        }
    }
}
