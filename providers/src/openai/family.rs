//! What a model can do, by the family its name tells: for models of which nothing better is known.

use super::OpenAiWire;
use stepwell_core::ModelInfo;

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

/// Whether a model reasons, where its name tells; `None` for names that are not OpenAI's.
pub(crate) fn reasons(model: &str) -> Option<bool> {
    if is_reasoning(model) {
        return Some(true);
    }
    let heads = ["gpt-", "chatgpt-"];
    // Open weights have the maker's name and a mind of their own.
    let is_known = heads.iter().any(|head| model.starts_with(head)) && !model.starts_with("gpt-oss");
    is_known.then_some(false)
}

/// The wire a model is asked on where nobody says which. xAI speaks Responses first; of the vendors that speak like
/// OpenAI nearly all speak Chat Completions, and few anything else.
pub(crate) fn wire(info: &ModelInfo) -> OpenAiWire {
    match info.provider.as_str() {
        "openai" => of_openai(&info.model, info.abilities.reasoning == Some(true)),
        "xai" => OpenAiWire::Responses,
        _ => OpenAiWire::Chat,
    }
}

/// The wire of a model of OpenAI: Responses for the families that came with it or after it, for some of
/// them answer there alone and all of them reason better with their reasoning returned; Chat Completions for the
/// older ones and for those that speak or search only there. A name that tells no family goes by what is known of
/// the model: whether it reasons.
fn of_openai(model: &str, reasons: bool) -> OpenAiWire {
    let stays = ["audio", "search-preview", "search-api", "realtime"];
    if stays.iter().any(|word| model.contains(word)) {
        return OpenAiWire::Chat;
    }
    // `gpt-5-chat-latest` does not reason, but is of the family.
    let family = model.replace("-chat", "");
    let goes = ["codex", "deep-research", "computer-use"];
    if reasons || is_reasoning(&family) || goes.iter().any(|word| model.contains(word)) {
        OpenAiWire::Responses
    } else {
        OpenAiWire::Chat
    }
}

#[cfg(test)]
mod tests {
    use super::{OpenAiWire, is_reasoning, reasons, wire};
    use stepwell_core::ModelInfo;

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

    #[test]
    fn a_name_that_tells_nothing_is_unknown() {
        assert_eq!(reasons("gpt-5"), Some(true));
        assert_eq!(reasons("gpt-4o"), Some(false));
        for name in ["gpt-oss-20b", "llama", "my-deployment"] {
            assert_eq!(reasons(name), None, "{name}");
        }
    }

    #[test]
    fn newer_families_are_asked_over_responses_and_older_ones_over_chat() {
        for name in [
            "gpt-5",
            "gpt-5-chat-latest",
            "gpt-6.1-sol",
            "o3-pro",
            "o4-mini-deep-research",
            "codex-mini-latest",
            "computer-use-preview",
        ] {
            assert_eq!(
                wire(&ModelInfo::new("openai", name)),
                OpenAiWire::Responses,
                "{name}"
            );
        }
        for name in [
            "gpt-4o",
            "gpt-4.1-mini",
            "gpt-4o-audio-preview",
            "gpt-4o-search-preview",
            "gpt-5-search-api",
            "gpt-35-turbo",
            "llama",
        ] {
            assert_eq!(wire(&ModelInfo::new("openai", name)), OpenAiWire::Chat, "{name}");
        }
    }

    #[test]
    fn the_models_of_the_catalogue_that_reason_are_asked_where_their_thoughts_are_returned() {
        let catalogue = crate::Catalogue::built_in();
        let models = catalogue.models("openai").iter();
        let talks = |entry: &&crate::CatalogueEntry| entry.kind == crate::ModelKind::Chat;
        let mut count = 0;
        for entry in models.filter(talks) {
            let (id, told) = (entry.info.model.as_str(), entry.info.abilities.reasoning);
            let stays = ["audio", "search", "realtime"]
                .iter()
                .any(|word| id.contains(word));
            if told == Some(true) && !stays {
                assert_eq!(wire(&entry.info), OpenAiWire::Responses, "{id}");
                count += 1;
            }
        }
        assert!(count > 5, "the catalogue knows few that reason: {count}");
    }
}
