//! [`Hooks`]: the host's own code around the calls of models and tools.

use crate::{RunContext, nodes::call::unless_cancelled};
use async_trait::async_trait;
use futures::FutureExt;
use std::{
    fmt::{self, Debug},
    future::Future,
    panic::AssertUnwindSafe,
    sync::Arc,
};
use stepwell_core::{ChatRequest, ChatResponse, Error, Result, ToolCall, ToolOutput, ToolResult};

/// What happens after [`Hooks::before_model`].
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub enum BeforeModel {
    /// The model is asked.
    #[default]
    Ask,
    /// This is the answer; the model is not asked.
    Answer(Box<ChatResponse>),
}

/// What happens after [`Hooks::after_model`].
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub enum AfterModel {
    /// The run goes on: the tools it asks for run, or it is the answer.
    #[default]
    GoOn,
    /// The run ends here, in good order. Calls in the answer do not run: the model would be told this reason.
    Stop {
        /// Why, in one sentence.
        reason: String,
    },
}

/// What happens after [`Hooks::before_tool`].
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub enum BeforeTool {
    /// Its arguments are checked, the policy is asked, the tool runs.
    #[default]
    Run,
    /// This is the tool's output; neither the policy nor the tool is asked.
    Answer(ToolOutput),
}

/// The host's own code around the calls of models and tools: to look, to change, to answer instead. Each method does
/// nothing unless it is written.
///
/// An error that a hook returns ends the run with that error, and the history is closed; so does a panic, whose words
/// are left out. What the journal remembers of a call, it remembers as the hooks left it: a resumed run does not ask
/// them again. Several hooks run in the order they were given before a call, and in reverse after it.
///
/// What a model says streams to watchers before [`Hooks::after_model`] sees it: it changes what is kept and answered.
///
/// ```
/// use stepwell_agent::{BeforeModel, Hooks, RunContext};
/// use stepwell_core::{ChatRequest, Result};
/// #[derive(Debug)]
/// struct Careful;
/// #[async_trait::async_trait]
/// impl Hooks for Careful {
///     async fn before_model(&self, request: &mut ChatRequest, _: &RunContext) -> Result<BeforeModel> {
///         request.temperature = Some(0.0);
///         Ok(BeforeModel::Ask)
///     }
/// }
/// ```
#[async_trait]
pub trait Hooks: Send + Sync + Debug {
    /// Before a model is asked. The request may be changed; it is sent as it is left, and never enters the state.
    async fn before_model(&self, request: &mut ChatRequest, cx: &RunContext) -> Result<BeforeModel> {
        let _ = (request, cx);
        Ok(BeforeModel::Ask)
    }

    /// After a model answered, before the answer is kept. It may be changed or replaced.
    async fn after_model(&self, response: &mut ChatResponse, cx: &RunContext) -> Result<AfterModel> {
        let _ = (response, cx);
        Ok(AfterModel::GoOn)
    }

    /// Before a call is checked. Tool and arguments may be changed: schema and policy are asked about what is left here.
    /// The call's id stays as it was.
    async fn before_tool(&self, call: &mut ToolCall, cx: &RunContext) -> Result<BeforeTool> {
        let _ = (call, cx);
        Ok(BeforeTool::Run)
    }

    /// After a call has its result, whichever way. The result may be changed; the call it answers stays as it was.
    async fn after_tool(&self, call: &ToolCall, result: &mut ToolResult, cx: &RunContext) -> Result<()> {
        let _ = (call, result, cx);
        Ok(())
    }
}

/// The hooks of a node, in order.
#[derive(Clone, Default)]
pub(crate) struct HookList(Arc<[Arc<dyn Hooks>]>);

impl HookList {
    pub(crate) fn new(hooks: Vec<Arc<dyn Hooks>>) -> Self {
        Self(hooks.into())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The answer of the first hook that gives one.
    pub(crate) async fn before_model(
        &self,
        request: &mut ChatRequest,
        cx: &RunContext,
    ) -> Result<Option<ChatResponse>> {
        for hook in &*self.0 {
            match caught("before_model", cx, hook.before_model(request, cx)).await? {
                BeforeModel::Ask => {}
                BeforeModel::Answer(answer) => return Ok(Some(*answer)),
            }
        }
        Ok(None)
    }

    /// Why the run is to end here, where a hook says so.
    pub(crate) async fn after_model(
        &self,
        response: &mut ChatResponse,
        cx: &RunContext,
    ) -> Result<Option<String>> {
        for hook in self.0.iter().rev() {
            match caught("after_model", cx, hook.after_model(response, cx)).await? {
                AfterModel::GoOn => {}
                AfterModel::Stop { reason } => return Ok(Some(reason)),
            }
        }
        Ok(None)
    }

    /// The output of the first hook that gives one.
    pub(crate) async fn before_tool(
        &self,
        call: &mut ToolCall,
        cx: &RunContext,
    ) -> Result<Option<ToolOutput>> {
        for hook in &*self.0 {
            let id = call.id.clone();
            let said = caught("before_tool", cx, hook.before_tool(call, cx)).await?;
            call.id = id;
            match said {
                BeforeTool::Run => {}
                BeforeTool::Answer(output) => return Ok(Some(output)),
            }
        }
        Ok(None)
    }

    pub(crate) async fn after_tool(
        &self,
        call: &ToolCall,
        result: &mut ToolResult,
        cx: &RunContext,
    ) -> Result<()> {
        for hook in self.0.iter().rev() {
            caught("after_tool", cx, hook.after_tool(call, result, cx)).await?;
            result.call_id.clone_from(&call.id);
        }
        Ok(())
    }
}

/// A hook's end; a panic is an error of the run, and a hook that hangs ends with it.
async fn caught<T>(which: &str, cx: &RunContext, hook: impl Future<Output = Result<T>> + Send) -> Result<T> {
    let hook = AssertUnwindSafe(hook).catch_unwind();
    let ended = unless_cancelled(cx, async { Ok(hook.await) }).await?;
    // A panic's words may quote anything: they are left out.
    ended.unwrap_or_else(|_| Err(Error::host(format!("the hook `{which}` panicked"))))
}

impl Debug for HookList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter()).finish()
    }
}
