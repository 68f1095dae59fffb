//! Keeps tags short before they are tokenized: the tokenizer compares each attribute with all before it.

use std::borrow::Cow;

/// Attributes of one tag that are kept; no page needs as many.
const MOST: usize = 512;
/// Elements whose content is not markup.
const RAW: [&str; 8] = [
    "script", "style", "textarea", "title", "xmp", "iframe", "noembed", "noframes",
];

/// The page without the attributes above the limit; nearly always the page itself.
pub(super) fn shortened(page: &str) -> Cow<'_, str> {
    let mut cuts: Vec<(usize, usize)> = Vec::new();
    let bytes = page.as_bytes();
    let mut at = 0;
    while let Some(found) = page[at..].find('<') {
        at += found + 1;
        let rest = &bytes[at..];
        if rest.starts_with(b"!--") {
            at = page[at + 1..]
                .find("-->")
                .map_or(bytes.len(), |end| at + 1 + end + 3);
        } else if rest.first().is_some_and(u8::is_ascii_alphabetic) {
            let (name_end, end, cut) = tag(bytes, at);
            cuts.extend(cut);
            if let Some(name) = RAW
                .iter()
                .find(|name| name.as_bytes().eq_ignore_ascii_case(&bytes[at..name_end]))
            {
                at = end_of_raw(bytes, end, name);
            } else {
                at = end;
            }
        }
    }
    if cuts.is_empty() {
        return Cow::Borrowed(page);
    }
    let mut out = String::with_capacity(page.len());
    let mut from = 0;
    for (start, end) in cuts {
        out.push_str(&page[from..start]);
        from = end;
    }
    out.push_str(&page[from..]);
    Cow::Owned(out)
}

/// The end of the tag's name, its own end, and what to cut of it.
fn tag(bytes: &[u8], start: usize) -> (usize, usize, Option<(usize, usize)>) {
    let skip = |mut at: usize, is_in: fn(u8) -> bool| {
        while bytes.get(at).is_some_and(|byte| is_in(*byte)) {
            at += 1;
        }
        at
    };
    let name_end = skip(start, |byte| !is_space(byte) && byte != b'/' && byte != b'>');
    let (mut at, mut count, mut cut_from) = (name_end, 0_usize, None);
    loop {
        at = skip(at, |byte| is_space(byte) || byte == b'/');
        if bytes.get(at).is_none_or(|byte| *byte == b'>') {
            break;
        }
        count += 1;
        if count > MOST && cut_from.is_none() {
            cut_from = Some(at);
        }
        at = skip(at + 1, |byte| {
            !is_space(byte) && !matches!(byte, b'/' | b'>' | b'=')
        });
        let after = skip(at, is_space);
        if bytes.get(after) == Some(&b'=') {
            at = skip(after + 1, is_space);
            at = match bytes.get(at) {
                Some(b'"') => skip(at + 1, |byte| byte != b'"') + 1,
                Some(b'\'') => skip(at + 1, |byte| byte != b'\'') + 1,
                _ => skip(at, |byte| !is_space(byte) && byte != b'>'),
            };
        }
    }
    let at = at.min(bytes.len());
    (name_end, at, cut_from.map(|from| (from.min(at), at)))
}

fn end_of_raw(bytes: &[u8], from: usize, name: &str) -> usize {
    let mut at = from;
    while let Some(found) = bytes[at..].windows(2).position(|two| two == b"</") {
        at += found + 2;
        if bytes
            .get(at..at + name.len())
            .is_some_and(|word| word.eq_ignore_ascii_case(name.as_bytes()))
        {
            return at;
        }
    }
    bytes.len()
}

fn is_space(byte: u8) -> bool {
    matches!(byte, b'\t' | b'\n' | 0x0C | b'\r' | b' ')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_flood_of_attributes_is_cut() {
        let page =
            "<!-- <a b> --><a href='>' title=\"é > x\" c=d/e checked>é</a><script>if (a<b) '<p'</script><p";
        assert!(matches!(shortened(page), Cow::Borrowed(same) if same == page));
        let flood = |tag: &str, count: usize| {
            let list: Vec<String> = (0..count).map(|n| format!("a{n}='é>'")).collect();
            format!("<{tag} {}>x</{tag}>", list.join(" "))
        };
        assert!(matches!(shortened(&flood("a", MOST)), Cow::Borrowed(_)));
        let short = shortened(&flood("a", MOST + 9)).into_owned();
        assert!(
            short.len() < flood("a", MOST + 1).len() && short.ends_with("a511='é>' >x</a>"),
            "{}",
            &short[short.len() - 40..]
        );
        let script = format!("<script>{}</script>", flood("b", MOST + 9));
        assert!(matches!(shortened(&script), Cow::Borrowed(_)));
    }
}
