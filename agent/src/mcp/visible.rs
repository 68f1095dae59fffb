//! What a server writes for the model, with everything in it that cannot be seen written out: an instruction that a
//! person cannot read must not reach a model.

use serde_json::Value;
use std::{borrow::Cow, fmt::Write};
use unicode_general_category::{GeneralCategory, get_general_category};

/// Keywords of a schema that are words for a reader.
const PROSE: [&str; 3] = ["title", "description", "$comment"];
/// Keywords whose values are data.
const DATA: [&str; 4] = ["const", "default", "enum", "examples"];

/// The text with hidden characters as `\u{..}`: terminal controls, marks that turn the direction of writing, characters
/// without width, tags, private ones. Line ends and tabs stay, and what emoji and scripts need between their letters.
pub(super) fn visible(text: &str) -> Cow<'_, str> {
    if text
        .bytes()
        .all(|byte| matches!(byte, b' '..=b'~' | b'\n' | b'\t'))
    {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len());
    let mut found = false;
    let mut before = ' ';
    let mut rest = text.chars().peekable();
    while let Some(character) = rest.next() {
        let hides = match character {
            '\r' => rest.peek() != Some(&'\n'),
            // Joiners inside of words and emoji, and the choice of an emoji's look.
            '\u{200c}' | '\u{200d}' => !joins(before) || !rest.peek().copied().is_some_and(joins),
            '\u{fe0e}' | '\u{fe0f}' => before.is_ascii() || is_hidden(before),
            other => is_hidden(other),
        };
        if hides {
            found = true;
            let _ = write!(shown, "{}", character.escape_unicode()); // a String takes everything
        } else {
            shown.push(character);
        }
        before = character;
    }
    if found {
        Cow::Owned(shown)
    } else {
        Cow::Borrowed(text)
    }
}

fn joins(character: char) -> bool {
    !character.is_ascii() && (!is_hidden(character) || matches!(character, '\u{fe0e}' | '\u{fe0f}'))
}

fn is_hidden(character: char) -> bool {
    match character {
        '\n' | '\t' => false,
        // Selectors of a look, fillers and a blank that are letters by name only.
        '\u{fe00}'..='\u{fe0f}'
        | '\u{e0100}'..='\u{e01ef}'
        | '\u{034f}'
        | '\u{115f}'
        | '\u{1160}'
        | '\u{17b4}'
        | '\u{17b5}'
        | '\u{2800}'
        | '\u{3164}'
        | '\u{ffa0}' => true,
        other => matches!(
            get_general_category(other),
            GeneralCategory::Control
                | GeneralCategory::Format
                | GeneralCategory::LineSeparator
                | GeneralCategory::ParagraphSeparator
                | GeneralCategory::PrivateUse
                | GeneralCategory::Surrogate
                | GeneralCategory::Unassigned
        ),
    }
}

/// What was found in a schema.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Found {
    /// Prose was shown escaped.
    pub(super) escaped: bool,
    /// A name or value hides something; it cannot be changed without changing what it means.
    pub(super) hides: bool,
}

/// Writes out what is hidden in a schema's prose, and tells whether names or values hide something.
pub(super) fn visible_schema(schema: &mut Value, found: &mut Found) {
    match schema {
        Value::Object(fields) => {
            for (key, value) in fields.iter_mut() {
                found.hides |= is_changed(key);
                match value {
                    Value::String(text) if PROSE.contains(&key.as_str()) => {
                        if let Cow::Owned(shown) = visible(text) {
                            *text = shown;
                            found.escaped = true;
                        }
                    }
                    value if DATA.contains(&key.as_str()) => found.hides |= has_hidden(value),
                    value => visible_schema(value, found),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| visible_schema(item, found)),
        Value::String(text) => found.hides |= is_changed(text),
        _ => {}
    }
}

fn has_hidden(value: &Value) -> bool {
    match value {
        Value::Object(fields) => fields
            .iter()
            .any(|(key, value)| is_changed(key) || has_hidden(value)),
        Value::Array(items) => items.iter().any(has_hidden),
        Value::String(text) => is_changed(text),
        _ => false,
    }
}

fn is_changed(text: &str) -> bool {
    matches!(visible(text), Cow::Owned(_))
}

#[cfg(test)]
mod tests {
    use super::{Found, visible, visible_schema};
    use serde_json::json;

    #[test]
    fn what_cannot_be_seen_is_written_out() {
        for (hidden, shown) in [
            ("a\u{1b}[2Jb", "a\\u{1b}[2Jb"),
            ("a\u{200b}b", "a\\u{200b}b"),
            ("a\u{202e}b", "a\\u{202e}b"),
            ("hi\u{e0041}", "hi\\u{e0041}"),
            ("a\u{200d}b", "a\\u{200d}b"),
            ("a\u{fe0f}\u{fe0f}", "a\\u{fe0f}\\u{fe0f}"),
            ("a\rb", "a\\u{d}b"),
            ("a\u{2028}b", "a\\u{2028}b"),
            ("a\u{3164}b", "a\\u{3164}b"),
        ] {
            assert_eq!(visible(hidden), shown);
        }
    }

    #[test]
    fn honest_text_stays_as_it_is() {
        for text in [
            "Adds two numbers.\n\tLine two.\r\nLine three.",
            "größer, 数を足す, Σύνολο",
            "👩\u{200d}👩\u{200d}👧 and ❤\u{fe0f} and ❤\u{fe0f}\u{200d}🔥",
            "می\u{200c}خواهم",
        ] {
            assert_eq!(visible(text), text);
        }
    }

    #[test]
    fn prose_of_a_schema_is_escaped_and_hidden_names_and_values_are_told() {
        let mut schema = json!({ "type": "object", "properties": { "description": { "type": "string", "description": "a\u{200b}b" } } });
        let mut found = Found::default();
        visible_schema(&mut schema, &mut found);
        assert_eq!(
            found,
            Found {
                escaped: true,
                hides: false
            }
        );
        assert_eq!(schema["properties"]["description"]["description"], "a\\u{200b}b");
        for mut bad in [
            json!({ "properties": { "a\u{200b}": {} } }),
            json!({ "enum": ["a\u{e0041}"] }),
            json!({ "default": { "description": "\u{1b}[1m" } }),
            json!({ "pattern": "a\u{202e}" }),
        ] {
            let mut found = Found::default();
            visible_schema(&mut bad, &mut found);
            assert!(found.hides, "{bad}");
        }
    }
}
