//! What a model can do, by the family its name tells: for models of which nothing better is known.

/// Whether a model reasons, by its name: `o3`, `gpt-5` and later, but not their chat variants.
pub(crate) fn is_reasoning(model: &str) -> bool {
    let is_digit = |c: Option<char>| c.is_some_and(|c| c.is_ascii_digit());
    if let Some(rest) = model.strip_prefix('o') {
        return is_digit(rest.chars().next());
    }
    let Some(rest) = model.strip_prefix("gpt-") else {
        return false;
    };
    let major: String = rest.chars().take_while(char::is_ascii_digit).collect();
    // `gpt-4o` and `gpt-4.1` do not; `gpt-35-turbo` is another cloud's name for 3.5.
    major.parse::<u32>().is_ok_and(|major| (5..30).contains(&major)) && !rest.contains("-chat")
}

#[cfg(test)]
mod tests {
    use super::is_reasoning;

    #[test]
    fn a_model_that_reasons_is_told_by_its_name() {
        for name in [
            "o1",
            "o3-mini",
            "o4-mini",
            "gpt-5",
            "gpt-5-nano",
            "gpt-5.6-sol",
            "gpt-6.1-sol",
        ] {
            assert!(is_reasoning(name), "{name}");
        }
        for name in [
            "gpt-4o",
            "gpt-4.1-mini",
            "gpt-5-chat-latest",
            "gpt-35-turbo",
            "omni",
            "llama",
        ] {
            assert!(!is_reasoning(name), "{name}");
        }
    }
}
