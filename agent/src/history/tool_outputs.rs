//! [`DropToolOutputs`]: puts a short mark in the place of old tool outputs.

use super::{ContextPolicy, History};
use crate::RunContext;
use async_trait::async_trait;
use stepwell_core::{Part, Result, Role};

/// Puts a short mark in the place of tool outputs that the model has read some answers ago. The calls stay, so the model
/// sees what it had asked for and may ask again.
#[derive(Clone, Debug)]
pub struct DropToolOutputs {
    keep_rounds: usize,
    min_bytes: usize,
}

impl Default for DropToolOutputs {
    fn default() -> Self {
        Self {
            keep_rounds: 3,
            min_bytes: 1 << 10,
        }
    }
}

impl DropToolOutputs {
    /// The last rounds of calls whose outputs stay; 3, and at least 1: the model has not read the last one yet.
    pub fn keep_rounds(mut self, rounds: usize) -> Self {
        self.keep_rounds = rounds.max(1);
        self
    }

    /// Outputs of fewer bytes stay; 1 KiB.
    pub fn min_bytes(mut self, bytes: usize) -> Self {
        self.min_bytes = bytes;
        self
    }
}

/// Bytes of a result that a model would read.
fn bytes_of(parts: &[Part]) -> usize {
    parts
        .iter()
        .map(|part| match part {
            Part::Text(text) => text.text.len(),
            Part::Media(media) => match &media.source {
                stepwell_core::MediaSource::Bytes(bytes) => bytes.len(),
                _ => 64,
            },
            Part::Data(data) if parts.len() == 1 => data.value.to_string().len(),
            _ => 0,
        })
        .sum()
}

#[async_trait]
impl ContextPolicy for DropToolOutputs {
    async fn shape<'a>(&self, history: &mut History<'a>, _: &RunContext) -> Result<()> {
        let mut rounds = 0;
        let mut old = Vec::new();
        for (index, entry) in history.entries().iter().enumerate().rev() {
            match entry.message.role {
                Role::Tool if rounds >= self.keep_rounds => old.push(index),
                Role::Assistant if entry.message.tool_calls().next().is_some() => rounds += 1,
                _ => {}
            }
        }
        for index in old {
            let has_long = history.entries()[index].message.parts.iter().any(
                |part| matches!(part, Part::ToolResult(result) if bytes_of(&result.parts) >= self.min_bytes),
            );
            if !has_long {
                continue;
            }
            for part in &mut history.change(index)?.parts {
                let Part::ToolResult(result) = part else { continue };
                let bytes = bytes_of(&result.parts);
                if bytes >= self.min_bytes {
                    let mark = format!("[the output, {bytes} bytes, is left out here; call again to see it]");
                    result.parts = vec![Part::text(mark, result.origin)];
                }
            }
        }
        Ok(())
    }
}
