//! Results of tools → the item that answers each kind of call.

use super::{
    super::wire::{CallOutput, Item, Piece, Said},
    Encoder,
    media::piece,
};
use serde_json::{Value, json};
use std::borrow::Cow;
use stepwell_core::{Part, Result, ToolResult};

impl<'a> Encoder<'a> {
    /// The answer to a call of this kind of item. Media that the vendor takes in no result go to `held`.
    pub(super) fn result(
        &mut self,
        result: &'a ToolResult,
        call: Option<&str>,
        held: &mut Vec<Piece<'a>>,
    ) -> Result<Item<'a>> {
        let (kind, status, output) = match call {
            Some("custom_tool_call") => ("custom_tool_call_output", None, self.said(result, held)?),
            Some("shell_call") => ("shell_call_output", None, Said::Json(shell(result))),
            Some("local_shell_call") => ("local_shell_call_output", None, text(result)),
            Some("apply_patch_call") => {
                let status = if result.is_error { "failed" } else { "completed" };
                ("apply_patch_call_output", Some(status), text(result))
            }
            Some("computer_call") => ("computer_call_output", None, self.screen(result)?),
            _ => ("function_call_output", None, self.said(result, held)?),
        };
        Ok(Item::Output(CallOutput {
            kind,
            call_id: &result.call_id,
            status,
            output,
        }))
    }

    /// Words and media.
    fn said(&mut self, result: &'a ToolResult, held: &mut Vec<Piece<'a>>) -> Result<Said<'a>> {
        if !result.parts.iter().any(|part| matches!(part, Part::Media(_))) {
            return Ok(text(result));
        }
        let mut pieces = Vec::new();
        for part in &result.parts {
            match part {
                Part::Text(part) if !part.text.is_empty() => pieces.push(Piece::InputText {
                    text: Cow::Borrowed(&part.text),
                }),
                Part::Media(media) => pieces.push(piece(media, self.vendor)?),
                _ => {}
            }
        }
        if self.is_openai {
            return Ok(Said::Pieces(pieces));
        }
        // Others take words there and nothing else: the media follow in a message of the user.
        pieces.retain(|piece| !matches!(piece, Piece::InputText { .. }));
        held.push(Piece::InputText {
            text: Cow::Owned(format!("Media of the tool result {}:", result.call_id)),
        });
        held.append(&mut pieces);
        Ok(text(result))
    }

    /// What a screen shows after an action.
    fn screen(&self, result: &'a ToolResult) -> Result<Said<'a>> {
        let image = result.parts.iter().find_map(|part| match part {
            Part::Media(media) => Some(piece(media, self.vendor)),
            _ => None,
        });
        match image.transpose()? {
            Some(Piece::InputImage { image_url, file_id }) => {
                let mut output = json!({ "type": "computer_screenshot" });
                if let Some(url) = image_url {
                    output["image_url"] = Value::String(url.into_owned());
                }
                if let Some(id) = file_id {
                    output["file_id"] = json!(id);
                }
                Ok(Said::Json(output))
            }
            _ => Err(self.vendor.unsupported(
                "the result of a computer call without a screenshot",
                "return an image of the screen",
            )),
        }
    }
}

fn text(result: &ToolResult) -> Said<'_> {
    match result.parts.as_slice() {
        [Part::Text(only)] => Said::Text(Cow::Borrowed(&only.text)),
        _ => Said::Text(Cow::Owned(result.text())),
    }
}

/// The chunks of a shell: as the tool gives them in its data, else its words as one chunk.
fn shell(result: &ToolResult) -> Value {
    let chunks = result.parts.iter().find_map(|part| match part {
        Part::Data(data) if data.value.is_array() => Some(data.value.clone()),
        _ => None,
    });
    chunks.unwrap_or_else(|| {
        let code = i32::from(result.is_error);
        let (out, err) = if result.is_error {
            (String::new(), result.text())
        } else {
            (result.text(), String::new())
        };
        json!([{ "stdout": out, "stderr": err, "outcome": { "type": "exit", "exit_code": code } }])
    })
}
