//! Names of models: patterns with a `*`, and plain names behind dated ones.

/// Whether a name fits a pattern whose `*`s stand for anything, nothing included.
pub(crate) fn is_match(pattern: &str, name: &str) -> bool {
    let mut pieces = pattern.split('*');
    let Some(mut rest) = pieces.next().and_then(|first| name.strip_prefix(first)) else {
        return false;
    };
    let Some(last) = pieces.next_back() else {
        return rest.is_empty();
    };
    for piece in pieces {
        let Some(at) = rest.find(piece) else {
            return false;
        };
        rest = &rest[at + piece.len()..];
    }
    rest.ends_with(last)
}

/// What a name is without the day or stage at its end: `gpt-5-2026-03-01`, `claude-x-20260301`, `m@20260301`,
/// `m-latest`, `m:latest`, `gemini-x-001`, `gemini-x-preview-09-2026`, `m-2603`.
pub(super) fn undated(name: &str) -> impl Iterator<Item = &str> {
    const ENDS: [&str; 9] = [
        ":latest",
        "-dddd-dd-dd",
        "-dddddddd",
        "@dddddddd",
        "-latest",
        "-ddd",
        "-preview-dd-dddd",
        "-preview-dd-dd",
        "-dddd",
    ];
    ENDS.into_iter().filter_map(move |end| {
        let at = name.len().checked_sub(end.len()).filter(|&at| at > 0)?;
        let fits = name
            .as_bytes()
            .get(at..)?
            .iter()
            .zip(end.bytes())
            .all(|(byte, form)| {
                // No other letter of the forms is a `d`.
                if form == b'd' {
                    byte.is_ascii_digit()
                } else {
                    *byte == form
                }
            });
        (fits && name.is_char_boundary(at)).then(|| &name[..at])
    })
}

#[cfg(test)]
mod tests {
    use super::{is_match, undated};

    #[test]
    fn a_star_stands_for_anything_at_any_place() {
        for (pattern, name, expected) in [
            ("a/b", "a/b", true),
            ("a/b", "a/bc", false),
            ("a/*", "a/", true),
            ("a/*", "a/b/c", true),
            ("*-mini", "gpt-5-mini", true),
            ("*-mini", "gpt-5-mini-x", false),
            ("*flash*", "gemini-flash-8", true),
            ("a*b*c", "a1b2c", true),
            ("a*b*c", "a1c2b", false),
            ("a*a", "a", false),
            ("*", "", true),
            ("", "", true),
            ("", "x", false),
        ] {
            assert_eq!(is_match(pattern, name), expected, "{pattern} {name}");
        }
    }

    #[test]
    fn a_dated_name_has_a_plain_one_and_a_number_that_is_no_date_stays() {
        for (name, plain) in [
            ("gpt-5-2026-03-01", "gpt-5"),
            ("claude-sonnet-5-20260301", "claude-sonnet-5"),
            ("claude-sonnet-5@20260301", "claude-sonnet-5"),
            ("mistral-large-latest", "mistral-large"),
            ("mistral-large-2603", "mistral-large"),
            ("gemini-3-flash-001", "gemini-3-flash"),
            ("gemini-3-flash-preview-09-2026", "gemini-3-flash"),
        ] {
            assert!(undated(name).any(|found| found == plain), "{name}");
        }
        for name in ["gpt-5", "claude-haiku-4-5", "-2026-03-01", "é-1", ""] {
            assert_eq!(undated(name).count(), 0, "{name}");
        }
    }
}
