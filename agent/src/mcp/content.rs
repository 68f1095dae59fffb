//! What tools say, on the wire and in our words. What a server says is data of [`Origin::Tool`], never an instruction.

use super::visible::visible;
use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use rmcp::model::{CallToolResult, ContentBlock, Resource, ResourceContents};
use serde_json::Value;
use stepwell_core::{MediaSource, Origin, Part, ToolResult};

/// Media that vendors know; anything else of a server is named, not handed to a model.
fn is_medium(media_type: &str) -> bool {
    media_type.len() <= 100
        && (media_type == "application/pdf"
            || media_type.starts_with("image/")
            || media_type.starts_with("audio/"))
        && media_type
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"/+-._".contains(&byte))
}

/// A result's parts. The name stands on its data.
pub(super) fn parts(tool: &str, result: CallToolResult) -> Vec<Part> {
    let mut parts: Vec<Part> = result.content.into_iter().map(part).collect();
    if let Some(value) = result.structured_content {
        parts.push(Part::data(tool, value, Origin::Tool));
    }
    parts
}

fn part(block: ContentBlock) -> Part {
    match block {
        ContentBlock::Text(text) => words(text.text),
        ContentBlock::Image(image) => medium("an image", &image.mime_type, &image.data, None),
        ContentBlock::Audio(audio) => medium("a sound", &audio.mime_type, &audio.data, None),
        ContentBlock::Resource(embedded) => match embedded.resource {
            ResourceContents::TextResourceContents { uri, text, .. } => {
                words(format!("[resource {}]\n{text}", visible(&uri)))
            }
            ResourceContents::BlobResourceContents {
                uri, mime_type, blob, ..
            } => {
                let media_type = mime_type.unwrap_or_else(|| "application/octet-stream".into());
                medium("a resource", &media_type, &blob, Some(&uri))
            }
            _ => words("[a resource of an unknown kind was left out]".into()),
        },
        ContentBlock::ResourceLink(link) => words(linked(&link)),
        _ => words("[content of an unknown kind was left out]".into()),
    }
}

fn words(text: String) -> Part {
    Part::text(text, Origin::Tool)
}

fn linked(link: &Resource) -> String {
    let mut text = format!(
        "[link to the resource {}, {}",
        visible(&link.uri),
        visible(&link.name)
    );
    if let Some(media_type) = &link.mime_type {
        text.push_str(", ");
        text.push_str(&visible(media_type));
    }
    text.push(']');
    if let Some(description) = &link.description {
        text.push(' ');
        text.push_str(&visible(description));
    }
    text
}

fn medium(what: &str, media_type: &str, data: &str, uri: Option<&str>) -> Part {
    let named = uri.map(|uri| format!(" {}", visible(uri))).unwrap_or_default();
    let Ok(bytes) = STANDARD.decode(data) else {
        return words(format!("[{what}{named} that is no base64 was left out]"));
    };
    if !is_medium(media_type) {
        let shown = visible(media_type);
        return words(format!(
            "[{what}{named}: {} bytes of {shown} were left out]",
            bytes.len()
        ));
    }
    let mut part = Part::media(media_type, MediaSource::Bytes(Bytes::from(bytes)));
    if let Part::Media(media) = &mut part {
        media.origin = Origin::Tool;
        media.name = uri.map(|uri| visible(uri).into_owned());
    }
    part
}

/// The words of a failed result.
pub(super) fn complaint(result: CallToolResult) -> String {
    let parts = parts("", result);
    let text: Vec<&str> = parts.iter().filter_map(Part::as_text).collect();
    if text.is_empty() {
        "the tool failed and did not say how".into()
    } else {
        text.join("\n")
    }
}

/// One of our results on the wire. The first object among its data is the structured content.
pub(super) fn result(said: ToolResult) -> CallToolResult {
    let is_error = said.is_error;
    let is_worded = said
        .parts
        .iter()
        .any(|part| matches!(part, Part::Text(_) | Part::Media(_)));
    let alone = if is_worded { String::new() } else { said.text() };
    let mut content = Vec::new();
    let mut structured = None;
    for part in said.parts {
        match part {
            Part::Text(text) => content.push(ContentBlock::text(text.text)),
            Part::Media(media) => content.push(block(media)),
            Part::Data(data) if structured.is_none() && data.value.is_object() => {
                structured = Some(data.value);
            }
            _ => {}
        }
    }
    if !alone.is_empty() {
        content.push(ContentBlock::text(alone));
    }
    let mut result = if is_error {
        CallToolResult::error(content)
    } else {
        CallToolResult::success(content)
    };
    result.structured_content = structured;
    result
}

fn block(media: stepwell_core::Media) -> ContentBlock {
    match media.source {
        MediaSource::Bytes(bytes) => {
            let data = STANDARD.encode(&bytes);
            if media.media_type.starts_with("image/") {
                ContentBlock::image(data, media.media_type)
            } else if media.media_type.starts_with("audio/") {
                ContentBlock::audio(data, media.media_type)
            } else {
                let name = media.name.unwrap_or_else(|| "medium".into());
                ContentBlock::resource(
                    ResourceContents::blob(data, format!("attachment:{name}"))
                        .with_mime_type(media.media_type),
                )
            }
        }
        MediaSource::Url(url) => {
            let name = media.name.unwrap_or_else(|| url.clone());
            ContentBlock::resource_link(Resource::new(url, name).with_mime_type(media.media_type))
        }
        _ => ContentBlock::text("[a medium that only its vendor holds was left out]"),
    }
}

/// What a tool told while it ran: `{"progress": 3, "total": 8, "message": "…"}`, each where it was told.
pub(super) fn progress(told: &rmcp::model::ProgressNotificationParam) -> Value {
    let mut value = serde_json::Map::new();
    value.insert("progress".into(), told.progress.into());
    if let Some(total) = told.total {
        value.insert("total".into(), total.into());
    }
    if let Some(message) = &told.message {
        value.insert("message".into(), visible(message).into());
    }
    value.into()
}

#[cfg(test)]
mod tests {
    use super::{complaint, parts, result};
    use rmcp::model::CallToolResult;
    use serde_json::{Value, json};
    use stepwell_core::{Origin, Part, ToolCall};

    fn said(content: Value) -> CallToolResult {
        serde_json::from_value(content).expect("a result")
    }

    #[test]
    fn every_kind_of_content_becomes_a_part_that_says_it_is_a_tools() {
        let all = parts(
            "look",
            said(json!({
                "content": [
                    { "type": "text", "text": "hello" },
                    { "type": "image", "data": "AQID", "mimeType": "image/png" },
                    { "type": "audio", "data": "AQID", "mimeType": "audio/wav" },
                    { "type": "resource", "resource": { "uri": "file:///a.txt", "text": "inside" } },
                    { "type": "resource", "resource": { "uri": "file:///a.pdf", "mimeType": "application/pdf", "blob": "AQID" } },
                    { "type": "resource", "resource": { "uri": "file:///a.zip", "mimeType": "application/zip", "blob": "AQID" } },
                    { "type": "resource_link", "uri": "file:///b\u{1b}[1m", "name": "b", "mimeType": "text/plain" },
                    { "type": "image", "data": "not base64!", "mimeType": "image/png" },
                    { "type": "image", "data": "AQID", "mimeType": "image/png\r\nx: y" },
                ],
                "structuredContent": { "n": 1 }
            })),
        );
        assert!(all.iter().all(|part| part.origin() == Origin::Tool));
        let told: Vec<String> = all
            .iter()
            .map(|part| match part {
                Part::Text(text) => text.text.clone(),
                Part::Media(media) => format!("<{}>", media.media_type),
                Part::Data(data) => data.value.to_string(),
                other => format!("{other:?}"),
            })
            .collect();
        assert_eq!(
            told,
            [
                "hello",
                "<image/png>",
                "<audio/wav>",
                "[resource file:///a.txt]\ninside",
                "<application/pdf>",
                "[a resource file:///a.zip: 3 bytes of application/zip were left out]",
                "[link to the resource file:///b\\u{1b}[1m, b, text/plain]",
                "[an image that is no base64 was left out]",
                "[an image: 3 bytes of image/png\r\nx: y were left out]",
                r#"{"n":1}"#,
            ]
        );
    }

    #[test]
    fn a_failure_without_words_still_says_something() {
        assert_eq!(
            complaint(said(json!({ "content": [], "isError": true }))),
            "the tool failed and did not say how"
        );
    }

    #[test]
    fn our_results_go_out_with_words_media_and_one_object() {
        let call = ToolCall::new("c", "t", json!({}));
        let Part::ToolResult(only_data) = Part::tool_result(
            &call,
            vec![Part::data("t", json!({ "n": 1 }), Origin::Tool)],
            false,
            Origin::Tool,
        ) else {
            panic!("a result")
        };
        let sent = serde_json::to_value(result(only_data)).expect("writes");
        assert_eq!(sent["content"], json!([{ "type": "text", "text": "{\"n\":1}" }]));
        assert_eq!(sent["structuredContent"], json!({ "n": 1 }));
    }
}
