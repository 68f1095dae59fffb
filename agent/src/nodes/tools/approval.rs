//! [`Approval`]: a person's word on a tool call, bound to the exact arguments that were shown.

use crate::{NodeError, Question, RunContext};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::time::Duration;
use stepwell_core::{DynTool, Error, Result, Schema, ToolCall};

/// What a person says of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Verdict {
    /// It runs as it was shown.
    Allow,
    /// It runs with other arguments.
    Edit,
    /// It does not run; the model is told.
    Deny,
}

/// The answer to the question whether a tool call may run. The digest is the question's: it ties the answer to the
/// arguments that were shown.
///
/// ```
/// # use stepwell_agent::{Approval, Question};
/// fn decide(question: &Question) -> stepwell_core::Result<Approval> {
///     match question.payload["arguments"]["amount_cents"].as_u64() {
///         Some(cents) if cents < 10_000 => Approval::allow(question),
///         _ => Approval::deny(question, "too much"),
///     }
/// }
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Approval {
    /// The verdict.
    pub decision: Verdict,
    /// The digest of what was shown.
    pub digest: String,
    /// The arguments to run with instead, for an edit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub arguments: Option<Value>,
    /// Told to the model, for a denial.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

impl Approval {
    /// It may run.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] where the question is not about a tool call; so in the other two.
    pub fn allow(question: &Question) -> Result<Self> {
        Self::of(question, Verdict::Allow)
    }

    /// It may run with these arguments.
    #[allow(missing_docs)] // the errors are those of `allow`
    pub fn edit(question: &Question, arguments: Value) -> Result<Self> {
        let mut approval = Self::of(question, Verdict::Edit)?;
        approval.arguments = Some(arguments);
        Ok(approval)
    }

    /// It must not run, for this reason.
    pub fn deny(question: &Question, reason: impl Into<String>) -> Result<Self> {
        let mut approval = Self::of(question, Verdict::Deny)?;
        approval.reason = Some(reason.into());
        Ok(approval)
    }

    fn of(question: &Question, decision: Verdict) -> Result<Self> {
        let Some(digest) = question.payload.get("digest").and_then(Value::as_str) else {
            return Err(Error::invalid(
                "approval",
                format!("the question `{}` is not about a tool call", question.id),
            ));
        };
        Ok(Self {
            decision,
            digest: digest.to_owned(),
            arguments: None,
            reason: None,
        })
    }
}

/// A hash of what a call would do.
pub(super) fn digest(call: &ToolCall) -> String {
    let text = serde_json::to_string(&(&call.name, &call.arguments)).unwrap_or_default();
    blake3::hash(text.as_bytes()).to_hex()[..32].to_owned()
}

/// Asks a person whether the call may run.
pub(super) async fn ask(
    tool: &dyn DynTool,
    call: &ToolCall,
    reason: &str,
    expires_in: Option<Duration>,
    cx: &RunContext,
) -> Result<Approval, NodeError> {
    let digest = digest(call);
    let options = tool.options();
    let payload = json!({
        "tool": call.name,
        "arguments": call.arguments,
        "reason": reason,
        "effect": options.effect,
        "risk": options.risk,
        "digest": digest,
    });
    let schema = schema(tool.schema().as_value(), &digest)?;
    let mut question = cx.ask_value(format!("approve:{}", call.id), payload, schema);
    if let Some(time) = expires_in {
        question = question.expires_in(time);
    }
    let answer = question.await?;
    let approval: Approval = serde_json::from_value(answer)
        .map_err(|error| Error::invalid("approval", format!("it cannot be read: {error}")))?;
    if approval.digest != digest {
        return Err(Error::invalid(
            "approval",
            format!(
                "the call `{}` is another than the one that was approved; ask again",
                call.id
            ),
        )
        .into());
    }
    Ok(approval)
}

/// What an answer has to look like: with the digest of the call, and for an edit with arguments that fit the tool.
fn schema(arguments: &Value, digest: &str) -> Result<Schema> {
    let mut arguments = arguments.clone();
    let mut whole = json!({
        "type": "object",
        "properties": {
            "decision": { "enum": ["allow", "edit", "deny"] },
            "digest": { "const": digest },
            "reason": { "type": ["string", "null"], "maxLength": 4096 },
        },
        "required": ["decision", "digest"],
        "additionalProperties": false,
        "if": { "properties": { "decision": { "const": "edit" } } },
        "then": { "required": ["arguments"] },
    });
    // References of the tool's schema point to its root: its definitions move to the new one. A schema that refers to
    // itself as a whole cannot move; its arguments are checked when the run goes on.
    if refers_to_root(&arguments) {
        arguments = json!({ "type": "object" });
    }
    if let Some(object) = arguments.as_object_mut() {
        for key in ["$defs", "definitions"] {
            if let Some(definitions) = object.remove(key) {
                whole[key] = definitions;
            }
        }
    }
    whole["properties"]["arguments"] = arguments;
    Schema::from_value(whole)
}

fn refers_to_root(value: &Value) -> bool {
    match value {
        Value::Object(object) => object.iter().any(|(key, value)| {
            let is_root = key == "$ref"
                && value.as_str().is_some_and(|target| {
                    !target.starts_with("#/$defs/") && !target.starts_with("#/definitions/")
                });
            is_root || refers_to_root(value)
        }),
        Value::Array(items) => items.iter().any(refers_to_root),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::{digest, schema};
    use serde_json::json;
    use stepwell_core::ToolCall;

    #[test]
    fn an_approval_fits_only_the_call_that_was_shown_and_an_edit_only_the_tools_schema() {
        let arguments = json!({
            "type": "object",
            "properties": { "to": { "$ref": "#/$defs/Address" } },
            "required": ["to"],
            "$defs": { "Address": { "type": "string", "minLength": 3 } }
        });
        let shown = digest(&ToolCall::new("1", "send", json!({ "to": "ann" })));
        let other = digest(&ToolCall::new("1", "send", json!({ "to": "bob" })));
        assert_ne!(shown, other);
        let schema = schema(&arguments, &shown).expect("a schema");
        let fits = |answer| schema.check(&answer).is_ok();
        assert!(fits(json!({ "decision": "allow", "digest": shown })));
        assert!(!fits(json!({ "decision": "allow", "digest": other })));
        assert!(!fits(json!({ "decision": "allow" })));
        assert!(!fits(json!({ "decision": "maybe", "digest": shown })));
        assert!(!fits(json!({ "decision": "edit", "digest": shown })));
        assert!(!fits(
            json!({ "decision": "edit", "digest": shown, "arguments": { "to": "x" } })
        ));
        assert!(fits(
            json!({ "decision": "edit", "digest": shown, "arguments": { "to": "bob" } })
        ));
        assert!(fits(
            json!({ "decision": "deny", "digest": shown, "reason": "no" })
        ));
    }
}
