//! Where Azure is asked. <https://learn.microsoft.com/azure/ai-foundry/openai/api-version-lifecycle>

use reqwest::Url;

/// The version the environment asks for.
pub(crate) fn version() -> Option<String> {
    let version = std::env::var("AZURE_OPENAI_API_VERSION").ok()?;
    let version = version.trim();
    (!version.is_empty()).then(|| version.to_owned())
}

/// The path below an endpoint. An endpoint that has a path of its own (`…/openai/v1`, `…/models`) is asked as it
/// is; else a version means the deployment's path, and none the path that needs none.
pub(crate) fn path(base: &Url, deployment: &str, has_version: bool) -> String {
    path_of("/chat/completions", base, deployment, has_version)
}

/// The same for another of OpenAI's calls, such as `/embeddings`.
pub(crate) fn path_of(call: &str, base: &Url, deployment: &str, has_version: bool) -> String {
    if !base.path().trim_end_matches('/').is_empty() {
        return call.to_owned();
    }
    if has_version {
        format!("/openai/deployments/{}{call}", escaped(deployment))
    } else {
        format!("/openai/v1{call}")
    }
}

/// The same for Responses, where the deployment stands in the body.
pub(crate) fn responses(base: &Url, has_version: bool) -> &'static str {
    if !base.path().trim_end_matches('/').is_empty() {
        "/responses"
    } else if has_version {
        "/openai/responses"
    } else {
        "/openai/v1/responses"
    }
}

/// One segment of a path, whatever is in the name.
fn escaped(name: &str) -> String {
    use std::fmt::Write;
    let mut segment = String::with_capacity(name.len());
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'~' | b'.') {
            segment.push(char::from(byte));
        } else {
            // Writing to a string does not fail.
            let _ = write!(segment, "%{byte:02X}");
        }
    }
    segment
}

#[cfg(test)]
mod tests {
    use super::{path, responses};
    use reqwest::Url;

    #[test]
    fn an_endpoint_is_asked_by_deployment_by_version_one_or_as_it_is() {
        let asked = |base: &str, name: &str, has_version| {
            path(&Url::parse(base).expect("an address"), name, has_version)
        };
        let plain = "https://my.openai.azure.com";
        assert_eq!(
            asked(plain, "gpt-5", true),
            "/openai/deployments/gpt-5/chat/completions"
        );
        assert_eq!(
            asked(plain, "a/../b?c", true),
            "/openai/deployments/a%2F..%2Fb%3Fc/chat/completions"
        );
        assert_eq!(asked(plain, "gpt-5", false), "/openai/v1/chat/completions");
        for base in ["https://x.example/openai/v1/", "https://x.example/models"] {
            assert_eq!(asked(base, "gpt-5", true), "/chat/completions");
            assert_eq!(
                responses(&Url::parse(base).expect("an address"), true),
                "/responses"
            );
        }
        let plain = Url::parse(plain).expect("an address");
        assert_eq!(responses(&plain, true), "/openai/responses");
        assert_eq!(responses(&plain, false), "/openai/v1/responses");
    }
}
