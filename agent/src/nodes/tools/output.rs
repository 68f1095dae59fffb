//! What a tool said, as the model gets it: stamped with its origin and held to the limits.

use stepwell_core::{Limits, Origin, Part, ToolCall, ToolOutput, ToolResult};

/// Data beside the words may be so many times larger than what a model gets to read.
const DATA_FACTOR: usize = 16;

/// A result that tells the model why there is none.
pub(in crate::nodes) fn refused(call: &ToolCall, told: String) -> ToolResult {
    as_result(Part::tool_result(
        call,
        vec![Part::text(told, Origin::Tool)],
        true,
        Origin::Tool,
    ))
}

pub(super) fn as_result(part: Part) -> ToolResult {
    match part {
        Part::ToolResult(result) => result,
        other => unreachable!("`Part::tool_result` makes a result, not {other:?}"),
    }
}

/// A tool's output as the model gets it: stamped with its origin, cut to the limit.
pub(crate) fn accepted(call: &ToolCall, output: ToolOutput, origin: Origin, limits: &Limits) -> ToolResult {
    let most = limits.tool_output_bytes;
    let mut left = most;
    let mut data_left = most.saturating_mul(DATA_FACTOR);
    let mut parts = Vec::with_capacity(output.parts.len());
    let is_worded = output
        .parts
        .iter()
        .any(|part| matches!(part, Part::Text(_) | Part::Media(_)));
    for mut part in output.parts {
        match &mut part {
            Part::Text(text) => {
                text.origin = origin;
                if text.text.len() > left {
                    text.text = cut(std::mem::take(&mut text.text), left);
                }
                left = left.saturating_sub(text.text.len());
                parts.push(part);
            }
            Part::Media(media) => {
                media.origin = origin;
                let bytes = match &media.source {
                    stepwell_core::MediaSource::Bytes(bytes) => bytes.len(),
                    _ => 0,
                };
                if bytes > data_left {
                    parts.push(Part::text(
                        format!("[a medium of {bytes} bytes was left out]"),
                        origin,
                    ));
                } else {
                    data_left -= bytes;
                    parts.push(part);
                }
            }
            Part::Data(data) => {
                data.origin = origin;
                let bytes = json_bytes(&data.value, data_left);
                if bytes > data_left {
                    parts.push(Part::text(
                        format!("[data over the limit of {data_left} bytes was left out]"),
                        origin,
                    ));
                    continue;
                }
                data_left -= bytes;
                if !is_worded && bytes > left {
                    // Alone, data is what the model reads: it gets what the limit allows.
                    parts.push(Part::text(cut(data.value.to_string(), left), origin));
                    left = 0;
                }
                parts.push(part);
            }
            Part::Unknown(unknown) => {
                unknown.origin = origin;
                parts.push(part);
            }
            // A tool neither thinks nor calls: such parts would be taken for the model's own.
            _ => {}
        }
    }
    as_result(Part::tool_result(call, parts, false, origin))
}

/// Bytes of a value as JSON; stops counting beyond `most`.
fn json_bytes(value: &serde_json::Value, most: usize) -> usize {
    struct Counter {
        bytes: usize,
        most: usize,
    }
    impl std::io::Write for Counter {
        fn write(&mut self, piece: &[u8]) -> std::io::Result<usize> {
            self.bytes += piece.len();
            if self.bytes > self.most {
                return Err(std::io::ErrorKind::FileTooLarge.into());
            }
            Ok(piece.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let mut counter = Counter { bytes: 0, most };
    let _ = serde_json::to_writer(&mut counter, value); // an error is the limit
    counter.bytes
}

/// Text of at most so many bytes; a cut is told.
pub(super) fn cut(mut text: String, most: usize) -> String {
    if text.len() <= most {
        return text;
    }
    let whole = text.len();
    let mark = format!("… [cut: {whole} bytes in all]");
    let mut end = most.saturating_sub(mark.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.truncate(end);
    text.push_str(&mark);
    text
}

#[cfg(test)]
mod tests {
    use super::{accepted, cut};
    use serde_json::json;
    use stepwell_core::{Limits, Origin, Part, ToolCall, ToolOutput};

    #[test]
    fn a_cut_text_ends_on_a_whole_character_and_says_how_long_it_was() {
        let text = cut("ä".repeat(1_000), 101);
        assert!(
            text.len() <= 101 && text.ends_with("[cut: 2000 bytes in all]"),
            "{text}"
        );
        assert_eq!(cut("short".into(), 5), "short");
    }

    #[test]
    fn an_output_is_stamped_with_its_origin_and_held_to_the_limit() {
        let mut limits = Limits::default();
        limits.tool_output_bytes = 100;
        let call = ToolCall::new("1", "t", json!({}));
        let output = ToolOutput::parts(vec![
            Part::text("x".repeat(90), Origin::System),
            Part::text("y".repeat(90), Origin::System),
            Part::tool_call("2", "evil", json!({})),
            Part::data("big", json!("z".repeat(2_000)), Origin::User),
            Part::data("small", json!(1), Origin::User),
        ]);
        let result = accepted(&call, output, Origin::Document, &limits);
        assert!(result.parts.iter().all(|part| part.origin() == Origin::Document));
        assert!(!result.parts.iter().any(|part| matches!(part, Part::ToolCall(_))));
        assert!(result.text().len() < 250, "{}", result.text());
        assert!(
            result
                .parts
                .iter()
                .any(|part| matches!(part, Part::Data(data) if data.name == "small"))
        );
        assert!(
            !result
                .parts
                .iter()
                .any(|part| matches!(part, Part::Data(data) if data.name == "big"))
        );
    }

    #[test]
    fn data_alone_is_read_up_to_the_limit() {
        let mut limits = Limits::default();
        limits.tool_output_bytes = 100;
        let call = ToolCall::new("1", "t", json!({}));
        let output = ToolOutput::json("t", json!({ "words": "w".repeat(500) }));
        let text = accepted(&call, output, Origin::Tool, &limits).text();
        assert!(text.len() <= 100 && text.contains("[cut:"), "{text}");
    }
}
