//! [`AnswerTool`]: an agent, seen from outside: a question in, words out.

use async_trait::async_trait;
use futures::future::BoxFuture;
use serde_json::{Value, json};
use std::{fmt, time::Duration};
use stepwell_core::{
    DynTool, Effect, Origin, Result, Schema, ToolContext, ToolError, ToolOptions, ToolOutput, ToolSpec,
};

/// The time of one answer: agents think and use tools.
const TIME: Duration = Duration::from_mins(10);

type Answer = Box<dyn Fn(String, ToolContext) -> BoxFuture<'static, Result<String, ToolError>> + Send + Sync>;

pub(super) struct AnswerTool {
    spec: ToolSpec,
    schema: Schema,
    options: ToolOptions,
    answer: Answer,
}

impl AnswerTool {
    pub(super) fn new(
        name: String,
        description: String,
        answer: impl Fn(String, ToolContext) -> BoxFuture<'static, Result<String, ToolError>>
        + Send
        + Sync
        + 'static,
    ) -> Result<Self> {
        let schema = Schema::from_value(json!({
            "type": "object",
            "properties": {
                "question": {
                    "type": "string",
                    "minLength": 1,
                    "description": "The question, whole: nothing that was said before is known.",
                },
            },
            "required": ["question"],
            "additionalProperties": false,
        }))?;
        Ok(Self {
            spec: ToolSpec::new(name, description, &schema)?,
            schema,
            // What an agent does in there is its own policy's business; from outside it is no mere look.
            options: ToolOptions::default()
                .effect(Effect::AtMostOnce)
                .origin(Origin::Model)
                .timeout(TIME),
            answer: Box::new(answer),
        })
    }
}

impl fmt::Debug for AnswerTool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("AnswerTool").field(&self.spec.name).finish()
    }
}

#[async_trait]
impl DynTool for AnswerTool {
    fn spec(&self) -> &ToolSpec {
        &self.spec
    }

    fn options(&self) -> &ToolOptions {
        &self.options
    }

    fn schema(&self) -> &Schema {
        &self.schema
    }

    async fn call(&self, arguments: Value, cx: &ToolContext) -> Result<ToolOutput, ToolError> {
        let Some(question) = arguments.get("question").and_then(Value::as_str) else {
            return Err(ToolError::Retry("give a `question`".into()));
        };
        let answer = (self.answer)(question.to_owned(), cx.clone()).await?;
        Ok(ToolOutput::text(answer))
    }
}
