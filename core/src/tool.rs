//! [`Tool`] for authors, [`DynTool`] for runners, [`ToolSpec`] for models.

use crate::{CachePoint, Cancel, Error, Origin, Part, Result, Schema, Scope};
use async_trait::async_trait;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;
use std::{
    any::Any,
    fmt::{self, Debug},
    future::Future,
    sync::Arc,
    time::Duration,
};

/// What doing a call twice would do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Effect {
    /// Nothing: it only looks.
    #[default]
    Pure,
    /// The same as doing it once.
    Idempotent,
    /// Harm: after a crash it is never blindly repeated.
    AtMostOnce,
}

/// What a call may touch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Risk {
    /// It reads.
    #[default]
    Read,
    /// It changes something here.
    Write,
    /// It sends something out.
    Egress,
}

/// What the model sees of a tool.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ToolSpec {
    /// Letters, digits, `_` and `-`, at most 64.
    pub name: String,
    /// When to use it and what it gives.
    pub description: String,
    /// JSON Schema of the arguments.
    pub parameters: Value,
    /// Whether the vendor has to keep the arguments to the schema by itself, where it can; its default where `None`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub strict: Option<bool>,
    /// Cache the prompt up to here: this tool and those before it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache: Option<CachePoint>,
}

impl ToolSpec {
    /// A tool's face.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] when no vendor would take the name.
    pub fn new(name: impl Into<String>, description: impl Into<String>, parameters: &Schema) -> Result<Self> {
        let name = name.into();
        let is_fine = !name.is_empty()
            && name.len() <= 64
            && name
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-');
        if !is_fine {
            return Err(Error::invalid(
                "tool name",
                "use 1 to 64 of the letters a-z, A-Z, digits, `_` and `-`",
            ));
        }
        Ok(Self {
            name,
            description: description.into(),
            parameters: parameters.as_value().clone(),
            strict: None,
            cache: None,
        })
    }
}

/// What the runner has to know of a tool, and the model has not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ToolOptions {
    /// What doing it twice would do.
    pub effect: Effect,
    /// What it may touch.
    pub risk: Risk,
    /// Its own time limit; the run's where `None`.
    pub timeout: Option<Duration>,
    /// Whether it may run beside other calls of the same turn.
    pub is_parallel: bool,
    /// Where its words come from: [`Origin::Document`] for a search.
    pub origin: Origin,
    /// How often a call that failed is tried again before the model is told; never one of [`Effect::AtMostOnce`].
    #[serde(default)]
    pub retries: u32,
    /// How long a result may be given again for the same arguments, where the runner has a cache; only of [`Effect::Pure`].
    #[serde(default)]
    pub cache: Option<Duration>,
}

impl Default for ToolOptions {
    fn default() -> Self {
        Self {
            effect: Effect::Pure,
            risk: Risk::Read,
            timeout: None,
            is_parallel: true,
            origin: Origin::Tool,
            retries: 0,
            cache: None,
        }
    }
}

impl ToolOptions {
    /// Sets what doing it twice would do.
    pub fn effect(mut self, effect: Effect) -> Self {
        self.effect = effect;
        self
    }

    /// Sets what it may touch.
    pub fn risk(mut self, risk: Risk) -> Self {
        self.risk = risk;
        self
    }

    /// Sets its own time limit.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Whether it may run beside others.
    pub fn parallel(mut self, is_parallel: bool) -> Self {
        self.is_parallel = is_parallel;
        self
    }

    /// Tries a call that failed so many times more before the model is told.
    pub fn retries(mut self, retries: u32) -> Self {
        self.retries = retries;
        self
    }

    /// Lets a result be given again for the same arguments, for so long.
    pub fn cache(mut self, time: Duration) -> Self {
        self.cache = Some(time);
        self
    }

    /// Sets where its words come from.
    pub fn origin(mut self, origin: Origin) -> Self {
        self.origin = origin;
        self
    }
}

/// Takes what a tool says before it is done.
pub type ProgressSink = Arc<dyn Fn(Value) + Send + Sync>;

/// The facts of one call.
#[derive(Clone)]
#[non_exhaustive]
pub struct ToolContext {
    /// The call's id.
    pub call_id: String,
    /// The run.
    pub run_id: String,
    /// Whose run.
    pub scope: Scope,
    /// The same for every repetition of this logical call: hand it to services that know such keys.
    pub idempotency_key: String,
    /// 1 for the first try.
    pub attempt: u32,
    /// Pulled when the run is to stop.
    pub cancel: Cancel,
    progress: Option<ProgressSink>,
    extension: Option<Arc<dyn Any + Send + Sync>>,
}

impl ToolContext {
    /// The facts of a call.
    pub fn new(call_id: impl Into<String>, run_id: impl Into<String>, scope: Scope) -> Self {
        let (call_id, run_id) = (call_id.into(), run_id.into());
        Self {
            idempotency_key: format!("{run_id}:{call_id}"),
            call_id,
            run_id,
            scope,
            attempt: 1,
            cancel: Cancel::new(),
            progress: None,
            extension: None,
        }
    }

    /// With this switch.
    pub fn with_cancel(mut self, cancel: Cancel) -> Self {
        self.cancel = cancel;
        self
    }

    /// With a taker of progress.
    pub fn with_progress(mut self, progress: ProgressSink) -> Self {
        self.progress = Some(progress);
        self
    }

    /// With something of the runner's own, which a tool that knows the runner can ask for.
    pub fn with_extension(mut self, extension: Arc<dyn Any + Send + Sync>) -> Self {
        self.extension = Some(extension);
        self
    }

    /// The runner's own, where it is of this type.
    pub fn extension<T: Any>(&self) -> Option<&T> {
        self.extension.as_ref()?.downcast_ref()
    }

    /// Tells whoever watches the run how far this call is.
    pub fn emit(&self, progress: Value) {
        if let Some(sink) = &self.progress {
            sink(progress);
        }
    }
}

impl Debug for ToolContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ToolContext")
            .field("call_id", &self.call_id)
            .field("run_id", &self.run_id)
            .field("attempt", &self.attempt)
            .finish_non_exhaustive()
    }
}

/// How a tool fails: three doors.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ToolError {
    /// The model may mend its call; this sentence tells it how.
    #[error("{0}")]
    Retry(String),
    /// It did not work; the model is told, and moves on.
    #[error("{0}")]
    Failed(String),
    /// The run stops.
    #[error("{0}")]
    Fatal(#[source] Error),
}

impl From<Error> for ToolError {
    /// An engine error inside a tool is told to the model; a cancel or an interrupt stops the run, a host's own is passed on whole.
    fn from(error: Error) -> Self {
        match error {
            Error::Cancelled | Error::Interrupted { .. } | Error::Host(_) => Self::Fatal(error),
            other => Self::Failed(other.to_string()),
        }
    }
}

/// What a tool says.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ToolOutput {
    /// What the model reads: text, media, data. The runner stamps the origin.
    pub parts: Vec<Part>,
}

impl ToolOutput {
    /// Words.
    pub fn text(text: impl Into<String>) -> Self {
        Self {
            parts: vec![Part::text(text, Origin::Tool)],
        }
    }

    /// Parts.
    pub fn parts(parts: Vec<Part>) -> Self {
        Self { parts }
    }

    /// JSON: a string becomes words, anything else data under the tool's name.
    pub fn json(name: &str, value: Value) -> Self {
        match value {
            Value::String(text) => Self::text(text),
            value => Self {
                parts: vec![Part::data(name, value, Origin::Tool)],
            },
        }
    }
}

/// A tool as its author writes it: a struct, its arguments and one function.
///
/// ```
/// use stepwell_core::{Tool, ToolContext, ToolError};
/// #[derive(serde::Deserialize, schemars::JsonSchema)]
/// struct AddArgs {
///     /// The first number.
///     a: i64,
///     /// The second number.
///     b: i64,
/// }
/// struct Add;
/// impl Tool for Add {
///     const NAME: &'static str = "add";
///     const DESCRIPTION: &'static str = "Adds two numbers.";
///     type Args = AddArgs;
///     type Output = i64;
///     async fn call(&self, args: AddArgs, _cx: &ToolContext) -> Result<i64, ToolError> {
///         args.a.checked_add(args.b).ok_or_else(|| ToolError::Retry("the sum is too large".into()))
///     }
/// }
/// ```
pub trait Tool: Send + Sync + 'static {
    /// Letters, digits, `_` and `-`, at most 64.
    const NAME: &'static str;
    /// When to use it and what it gives; the model reads it.
    const DESCRIPTION: &'static str;
    /// The arguments; doc comments on its fields are what the model reads.
    type Args: DeserializeOwned + JsonSchema + Send;
    /// What it gives.
    type Output: Serialize + Send;

    /// Effect, risk, timeout; a tool that only reads needs none of it.
    fn options(&self) -> ToolOptions {
        ToolOptions::default()
    }

    /// Does it. The arguments are already valid.
    fn call(
        &self,
        args: Self::Args,
        cx: &ToolContext,
    ) -> impl Future<Output = Result<Self::Output, ToolError>> + Send;
}

/// A tool as the runner sees it.
#[async_trait]
pub trait DynTool: Send + Sync + Debug {
    /// What the model sees.
    fn spec(&self) -> &ToolSpec;

    /// What the runner has to know.
    fn options(&self) -> &ToolOptions;

    /// The schema the arguments are checked against before every call.
    fn schema(&self) -> &Schema;

    /// Does it. Called with arguments that keep to the schema.
    async fn call(&self, arguments: Value, cx: &ToolContext) -> Result<ToolOutput, ToolError>;
}

struct Erased<T> {
    tool: T,
    spec: ToolSpec,
    options: ToolOptions,
    schema: Schema,
}

impl<T> Debug for Erased<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Tool").field(&self.spec.name).finish()
    }
}

#[async_trait]
impl<T: Tool> DynTool for Erased<T> {
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
        let args = serde_json::from_value(arguments)
            .map_err(|error| ToolError::Retry(format!("the arguments do not fit: {error}")))?;
        let output = self.tool.call(args, cx).await?;
        let value = serde_json::to_value(output).map_err(|_| {
            ToolError::Failed(format!("the result of `{}` cannot be written as JSON", T::NAME))
        })?;
        Ok(ToolOutput::json(T::NAME, value))
    }
}

/// A typed tool for runners.
///
/// # Errors
/// [`Error::InvalidInput`] when no vendor would take its name.
pub fn erase<T: Tool>(tool: T) -> Result<Arc<dyn DynTool>> {
    let schema = Schema::of::<T::Args>();
    let spec = ToolSpec::new(T::NAME, T::DESCRIPTION, &schema)?;
    Ok(Arc::new(Erased {
        options: tool.options(),
        tool,
        spec,
        schema,
    }))
}

/// What can be handed to a builder as a tool: a [`Tool`], or one that is erased already.
pub trait IntoDynTool {
    /// The tool for runners.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] when no vendor would take its name.
    fn into_dyn_tool(self) -> Result<Arc<dyn DynTool>>;
}

impl<T: Tool> IntoDynTool for T {
    fn into_dyn_tool(self) -> Result<Arc<dyn DynTool>> {
        erase(self)
    }
}

impl IntoDynTool for Arc<dyn DynTool> {
    fn into_dyn_tool(self) -> Result<Arc<dyn DynTool>> {
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use super::{Tool, ToolContext, ToolError, ToolSpec, erase};
    use crate::{Part, Schema, Scope};
    use serde_json::json;

    #[derive(serde::Deserialize, schemars::JsonSchema)]
    struct HalfArgs {
        number: i64,
    }
    struct Half;
    impl Tool for Half {
        const NAME: &'static str = "half";
        const DESCRIPTION: &'static str = "Half of an even number.";
        type Args = HalfArgs;
        type Output = i64;
        async fn call(&self, args: HalfArgs, cx: &ToolContext) -> Result<i64, ToolError> {
            cx.emit(json!("halving"));
            if args.number % 2 == 0 {
                Ok(args.number / 2)
            } else {
                Err(ToolError::Retry("give an even number".into()))
            }
        }
    }

    #[tokio::test]
    async fn an_erased_tool_reads_json_and_fails_through_the_same_doors() {
        let tool = erase(Half).expect("the name is fine");
        let cx = ToolContext::new("c1", "r1", Scope::local());
        let output = tool.call(json!({ "number": 8 }), &cx).await.expect("even");
        assert!(matches!(&output.parts[..], [Part::Data(data)] if data.value == json!(4)));
        for bad in [json!({ "number": 7 }), json!({ "number": "eight" })] {
            assert!(matches!(tool.call(bad, &cx).await, Err(ToolError::Retry(_))));
        }
    }

    #[test]
    fn a_name_no_vendor_takes_is_refused_before_any_call() {
        for name in ["", "with space", "ümlaut", &"x".repeat(65)] {
            assert!(
                ToolSpec::new(name, "", &Schema::of::<HalfArgs>()).is_err(),
                "{name}"
            );
        }
    }
}
