//! What of an exchange may be written down.

use crate::http::Secrets;
use indexmap::IndexMap;
use reqwest::header::HeaderMap;
use serde_json::Value;

/// What stands in the place of a secret field.
const BLOT: &str = "***";

/// The harmless headers of an answer that decoding needs: kind, waits, limits, ids.
pub(super) fn headers(all: &HeaderMap, secrets: &Secrets) -> IndexMap<String, String> {
    let mut kept: IndexMap<String, String> = all
        .iter()
        .filter(|(name, _)| {
            let name = name.as_str();
            matches!(
                name,
                "content-type" | "request-id" | "x-request-id" | "x-should-retry" | "openai-processing-ms"
            ) || ["retry-after", "x-ratelimit-", "anthropic-ratelimit-"]
                .iter()
                .any(|start| name.starts_with(start))
        })
        .filter_map(|(name, value)| Some((name.as_str().to_owned(), value.to_str().ok()?.to_owned())))
        .filter(|(_, value)| !secrets.are_in(value))
        .collect();
    kept.sort_keys();
    kept
}

/// A request's body without the words of fields that are named like a key: what a host gives the vendor for its own
/// calls, such as the token of an MCP server.
pub(super) fn asked(mut body: Value) -> Value {
    blot_fields(&mut body, false);
    body
}

fn blot_fields(value: &mut Value, is_secret: bool) {
    match value {
        Value::String(text) if is_secret && !text.is_empty() => BLOT.clone_into(text),
        Value::Array(items) => items.iter_mut().for_each(|item| blot_fields(item, is_secret)),
        Value::Object(fields) => {
            for (name, value) in fields {
                // A schema's property of that name is an object: its words are no secret, so it starts anew.
                blot_fields(value, is_secret_name(name) && !value.is_object());
            }
        }
        _ => {}
    }
}

fn is_secret_name(name: &str) -> bool {
    let name: String = name
        .chars()
        .filter(char::is_ascii_alphanumeric)
        .map(|letter| letter.to_ascii_lowercase())
        .collect();
    matches!(
        name.as_str(),
        "authorization" | "proxyauthorization" | "cookie" | "password" | "passphrase" | "secret" | "token"
    ) || ["apikey", "accesskey", "secretkey", "privatekey", "clientsecret"]
        .iter()
        .any(|word| name.ends_with(word))
        || [
            "authorizationtoken",
            "accesstoken",
            "authtoken",
            "bearertoken",
            "refreshtoken",
            "idtoken",
        ]
        .contains(&name.as_str())
}

#[cfg(test)]
mod tests {
    use super::{asked, headers};
    use crate::http::Secrets;
    use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
    use serde_json::json;

    #[test]
    fn strange_headers_stay_behind_and_so_does_one_that_quotes_a_key() {
        let mut answer = HeaderMap::new();
        for name in [
            "content-type",
            "retry-after-ms",
            "x-ratelimit-limit-tokens",
            "set-cookie",
            "x-account",
        ] {
            answer.insert(HeaderName::from_static(name), HeaderValue::from_static("1"));
        }
        answer.insert("request-id", HeaderValue::from_static("req-sk-canary-1"));
        let kept = headers(&answer, &Secrets::of(["sk-canary-1"]));
        assert_eq!(
            kept.keys().collect::<Vec<_>>(),
            ["content-type", "retry-after-ms", "x-ratelimit-limit-tokens"]
        );
    }

    #[test]
    fn fields_named_like_a_key_are_blotted_out_and_others_stay() {
        let body = asked(json!({
            "max_tokens": 5,
            "mcp_servers": [{ "url": "https://x", "authorization_token": "canary" }],
            "tools": [
                { "type": "mcp", "headers": { "Authorization": "Bearer canary", "X-Api-Key": ["canary"] } },
                { "input_schema": { "properties": { "token": { "type": "string", "description": "words" } } } },
            ],
            "password": "",
        }));
        assert_eq!(
            body,
            json!({
                "max_tokens": 5,
                "mcp_servers": [{ "url": "https://x", "authorization_token": "***" }],
                "tools": [
                    { "type": "mcp", "headers": { "Authorization": "***", "X-Api-Key": ["***"] } },
                    { "input_schema": { "properties": { "token": { "type": "string", "description": "words" } } } },
                ],
                "password": "",
            })
        );
    }
}
