//! [`Server`]: our tools and agents for other programs.

use super::{answer::AnswerTool, content, wire::Lines};
use crate::{
    Agent,
    nodes::{accepted, overdue},
};
use futures::FutureExt;
use indexmap::IndexMap;
use rmcp::{
    RoleServer, ServerHandler,
    model::{
        CallToolRequestParams, CallToolResponse, CallToolResult, ContentBlock, ErrorData, Implementation,
        JsonObject, ListToolsResult, PaginatedRequestParams, ProgressNotificationParam, ProgressToken,
        ServerCapabilities, ServerConfig, Tool, ToolAnnotations,
    },
    service::{Peer, RequestContext, ServerInitializeError, ServiceExt},
    transport::async_rw::AsyncRwTransport,
};
use serde_json::{Value, json};
use std::{fmt, panic::AssertUnwindSafe, sync::Arc, time::Duration};
use stepwell_core::{
    AskBeforeEffects, Decision, DynTool, Effect, Error, IntoDynTool, Limits, Origin, Policy, PolicyRequest,
    Result, Risk, Scope, ToolCall, ToolContext, ToolError, ToolResult, telemetry,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::{Semaphore, mpsc},
};
use tracing::Instrument;

/// Calls at a time of all clients together.
const CALLS: usize = 64;
/// Bytes of one message of a client.
pub(super) const MESSAGE_BYTES: usize = 4 << 20;
/// Progress that waits to be told; what does not fit is dropped.
const PROGRESS: usize = 32;
/// How long one word of progress may wait for a client that does not read.
const PROGRESS_WAIT: Duration = Duration::from_secs(1);
/// Places of a value that do not fit which are told.
const VIOLATIONS: usize = 5;

/// Our tools and agents, served to whoever speaks the protocol. An agent is one tool that takes a question.
///
/// Each call goes through the same checks as in a run: arguments against the schema, then the policy, then the time
/// limit; a panic is a failed call, and results are cut to the limit. Nobody can be asked here: where the policy would
/// ask a person, the call is refused and the client is told. The default policy lets tools run that only read.
///
/// ```no_run
/// # async fn example(add: std::sync::Arc<dyn stepwell_core::DynTool>) -> stepwell_core::Result<()> {
/// use stepwell_agent::mcp::Server;
/// Server::new("sums", "1.0.0").tool(add).serve_stdio().await
/// # }
/// ```
pub struct Server {
    name: String,
    version: String,
    instructions: Option<String>,
    tools: Vec<Result<Arc<dyn DynTool>>>,
    policy: Arc<dyn Policy>,
    limits: Limits,
    scope: Scope,
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("name", &self.name)
            .field("tools", &self.tools.len())
            .finish_non_exhaustive()
    }
}

impl Server {
    /// A server under the name and version that its clients see.
    pub fn new(name: impl Into<String>, version: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            version: version.into(),
            instructions: None,
            tools: Vec::new(),
            policy: Arc::new(AskBeforeEffects),
            limits: Limits::default(),
            scope: Scope::local(),
        }
    }

    /// What clients may tell their models about it.
    pub fn instructions(mut self, instructions: impl Into<String>) -> Self {
        self.instructions = Some(instructions.into());
        self
    }

    /// Serves a tool.
    pub fn tool(mut self, tool: impl IntoDynTool) -> Self {
        self.tools.push(tool.into_dyn_tool());
        self
    }

    /// Serves tools.
    pub fn tools(mut self, tools: impl IntoIterator<Item = Arc<dyn DynTool>>) -> Self {
        self.tools.extend(tools.into_iter().map(Ok));
        self
    }

    /// Serves an agent as a tool that takes a `question` and gives the words of the answer. The agent's own policy,
    /// budget and limits hold inside of it; each question is a run of its own, and has ten minutes.
    pub fn agent(self, name: impl Into<String>, description: impl Into<String>, agent: Agent) -> Self {
        self.answerer(name, description, move |question, cx| {
            let agent = agent.clone();
            async move {
                let run = agent
                    .run(question)
                    .scope(cx.scope.clone())
                    .cancel(cx.cancel.child());
                let result = run.await?;
                if result.answer.is_empty() {
                    return Err(ToolError::Failed(format!(
                        "the agent gave no answer; its run is {}",
                        result.status.as_str()
                    )));
                }
                Ok(result.answer)
            }
        })
    }

    /// Serves whatever answers a question in words, as [`Server::agent`] does an agent.
    pub fn answerer<F, A>(
        mut self,
        name: impl Into<String>,
        description: impl Into<String>,
        answer: F,
    ) -> Self
    where
        F: Fn(String, ToolContext) -> A + Send + Sync + 'static,
        A: Future<Output = Result<String, ToolError>> + Send + 'static,
    {
        let tool = AnswerTool::new(name.into(), description.into(), move |question, cx| {
            answer(question, cx).boxed()
        });
        self.tools
            .push(tool.map(|tool| Arc::new(tool) as Arc<dyn DynTool>));
        self
    }

    /// Asked before each call; [`AskBeforeEffects`] where not set.
    pub fn policy(mut self, policy: impl Policy + 'static) -> Self {
        self.policy = Arc::new(policy);
        self
    }

    /// Bounds on calls: time, bytes of a result.
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Whose data the tools work on; [`Scope::local`] where not set.
    pub fn scope(mut self, scope: Scope) -> Self {
        self.scope = scope;
        self
    }

    /// Serves one client over the standard input and output, until it closes them. Nothing else may write to the
    /// standard output meanwhile. Dropping the future ends it; a read that has begun ends with the input's next line.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] for tools that cannot be served; [`Error::InvalidResponse`] for a client that does not
    /// speak the protocol.
    pub async fn serve_stdio(self) -> Result<()> {
        self.serve(tokio::io::stdin(), tokio::io::stdout()).await
    }

    pub(super) async fn serve<R, W>(self, input: R, output: W) -> Result<()>
    where
        R: AsyncRead + Send + Unpin + 'static,
        W: AsyncWrite + Send + Unpin + 'static,
    {
        let desk = self.desk()?;
        let wire = AsyncRwTransport::new(Lines::new(input, MESSAGE_BYTES, None), output);
        let running = match Box::pin(desk.serve(wire)).await {
            Ok(running) => running,
            Err(ServerInitializeError::ConnectionClosed(_)) => return Ok(()),
            Err(_) => {
                return Err(Error::InvalidResponse {
                    provider: "the MCP client".into(),
                    message: "it did not shake hands as the protocol says".into(),
                });
            }
        };
        running
            .waiting()
            .await
            .map_err(|_| Error::internal("the MCP server's loop ended unexpectedly"))?;
        Ok(())
    }

    /// Checks everything, and says the first fault.
    pub(super) fn desk(self) -> Result<Desk> {
        let mut tools = IndexMap::new();
        for tool in self.tools {
            let tool = tool?;
            let shown = shown(&*tool)?;
            let name = tool.spec().name.clone();
            if tools.insert(name.clone(), Served { tool, shown }).is_some() {
                return Err(Error::invalid(
                    format!("tool `{name}`"),
                    "two tools have this name; rename one",
                ));
            }
        }
        let who = Implementation::new(self.name, self.version);
        let mut config =
            ServerConfig::new(ServerCapabilities::builder().enable_tools().build()).with_server_info(who);
        config.instructions = self.instructions;
        Ok(Desk(Arc::new(Inside {
            config,
            tools,
            policy: self.policy,
            limits: self.limits,
            scope: self.scope,
            places: Semaphore::new(CALLS),
        })))
    }
}

/// A tool as clients see it.
fn shown(tool: &dyn DynTool) -> Result<Tool> {
    let spec = tool.spec();
    let mut schema: JsonObject = tool.schema().as_value().as_object().cloned().unwrap_or_default();
    let kind = schema.entry("type").or_insert_with(|| json!("object"));
    if kind != "object" {
        return Err(Error::invalid(
            format!("tool `{}`", spec.name),
            "its arguments have to be an object: the protocol knows no others",
        ));
    }
    let options = tool.options();
    let hints = ToolAnnotations::new()
        .read_only(options.risk == Risk::Read && options.effect == Effect::Pure)
        .destructive(options.effect == Effect::AtMostOnce)
        .idempotent(options.effect != Effect::AtMostOnce)
        .open_world(options.risk == Risk::Egress);
    Ok(Tool::new(spec.name.clone(), spec.description.clone(), schema).with_annotations(hints))
}

struct Served {
    tool: Arc<dyn DynTool>,
    shown: Tool,
}

struct Inside {
    config: ServerConfig,
    tools: IndexMap<String, Served>,
    policy: Arc<dyn Policy>,
    limits: Limits,
    scope: Scope,
    places: Semaphore,
}

/// Where calls of clients arrive.
#[derive(Clone)]
pub(super) struct Desk(Arc<Inside>);

impl Desk {
    pub(super) fn longest_call(&self) -> Duration {
        let own = self
            .0
            .tools
            .values()
            .filter_map(|served| served.tool.options().timeout)
            .max();
        own.unwrap_or_default().max(self.0.limits.tool_timeout)
    }

    async fn answer(
        &self,
        tool: &Arc<dyn DynTool>,
        mut call: ToolCall,
        cx: &RequestContext<RoleServer>,
    ) -> ToolResult {
        let arguments = std::mem::take(&mut call.arguments);
        match tool.schema().read(arguments) {
            Ok(arguments) => call.arguments = arguments,
            Err(violations) => {
                let told: Vec<String> = violations
                    .iter()
                    .take(VIOLATIONS)
                    .map(ToString::to_string)
                    .collect();
                return refused(
                    &call,
                    format!("the arguments do not fit the tool's schema: {}", told.join("; ")),
                );
            }
        }
        // A run of its own, so that what it leaves in a journal or with another service is told apart.
        let run_id = format!("mcp-{}", uuid::Uuid::now_v7());
        if let Err(told) = self.allowed(tool, &call, &run_id).await {
            return refused(&call, told);
        }
        let (tell, mut told) = mpsc::channel::<Value>(PROGRESS);
        let token = cx.meta.get_progress_token();
        let mut facts = ToolContext::new(&call.id, run_id, self.0.scope.clone());
        if token.is_some() {
            facts = facts.with_progress(Arc::new(move |value| {
                let _ = tell.try_send(value); // a client that does not keep up misses some
            }));
        }
        let limit = tool.options().timeout.unwrap_or(self.0.limits.tool_timeout);
        let span = tracing::info_span!(
            "execute_tool",
            { telemetry::TOOL_NAME } = call.name,
            { telemetry::TOOL_CALL_ID } = call.id,
        );
        let work = AssertUnwindSafe(async { tool.call(call.arguments.clone(), &facts).await }).catch_unwind();
        let work = tokio::time::timeout(limit, work).instrument(span);
        tokio::pin!(work);
        let mut pace = Pace::new(&cx.peer, token);
        let ended = loop {
            tokio::select! {
                biased;
                () = cx.ct.cancelled() => {
                    facts.cancel.cancel();
                    return refused(&call, "cancelled".into());
                }
                ended = &mut work => break ended,
                Some(value) = told.recv() => pace.tell(value).await,
            }
        };
        while let Ok(value) = told.try_recv() {
            pace.tell(value).await;
        }
        match ended {
            Ok(Ok(Ok(output))) => accepted(&call, output, tool.options().origin, &self.0.limits),
            Ok(Ok(Err(ToolError::Fatal(Error::Host(_))))) => refused(&call, "the tool failed".into()),
            Ok(Ok(Err(error))) => refused(&call, error.to_string()),
            Ok(Err(_)) => refused(&call, "the tool failed unexpectedly".into()),
            Err(_) => {
                facts.cancel.cancel();
                refused(&call, overdue(limit, tool.options().effect))
            }
        }
    }

    async fn allowed(&self, tool: &Arc<dyn DynTool>, call: &ToolCall, run_id: &str) -> Result<(), String> {
        let options = tool.options();
        // Who speaks on the other side is not known: most likely a model.
        let question = PolicyRequest::new(
            &self.0.scope,
            run_id,
            &call.id,
            &call.name,
            &call.arguments,
            options.effect,
            options.risk,
            &[Origin::Model],
        );
        match AssertUnwindSafe(self.0.policy.decide(question))
            .catch_unwind()
            .await
        {
            Ok(Decision::Allow) => Ok(()),
            Ok(Decision::Deny { reason }) => Err(format!("the call was not allowed: {reason}")),
            Ok(Decision::Ask { reason }) => Err(format!(
                "the call needs the approval of a person, and this server has nobody to ask; it did not run: {reason}"
            )),
            // What is not clearly allowed does not run.
            _ => Err("the policy gave no clear answer; the call did not run".into()),
        }
    }
}

fn refused(call: &ToolCall, told: String) -> ToolResult {
    let output = stepwell_core::ToolOutput::text(told);
    let mut result = accepted(call, output, Origin::Tool, &Limits::default());
    result.is_error = true;
    result
}

/// Progress on its way to a client: it only ever grows.
struct Pace<'a> {
    peer: &'a Peer<RoleServer>,
    token: Option<ProgressToken>,
    done: f64,
}

impl<'a> Pace<'a> {
    fn new(peer: &'a Peer<RoleServer>, token: Option<ProgressToken>) -> Self {
        Self {
            peer,
            token,
            done: 0.0,
        }
    }

    async fn tell(&mut self, value: Value) {
        let Some(token) = self.token.clone() else { return };
        let field = |key: &str| value.get(key).and_then(Value::as_f64);
        self.done = field("progress")
            .filter(|done| *done > self.done)
            .unwrap_or(self.done + 1.0);
        let mut told = ProgressNotificationParam::new(token, self.done);
        told.total = field("total");
        told.message = match &value {
            Value::String(text) => Some(text.clone()),
            Value::Object(fields) if fields.contains_key("progress") => {
                fields.get("message").and_then(Value::as_str).map(str::to_owned)
            }
            other => Some(other.to_string()),
        };
        if tokio::time::timeout(PROGRESS_WAIT, self.peer.notify_progress(told))
            .await
            .is_err()
        {
            self.token = None; // nobody reads it
        }
    }
}

impl ServerHandler for Desk {
    fn get_info(&self) -> ServerConfig {
        self.0.config.clone()
    }

    async fn list_tools(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        let tools = self.0.tools.values().map(|served| served.shown.clone()).collect();
        Ok(ListToolsResult::with_all_items(tools))
    }

    fn get_tool(&self, name: &str) -> Option<Tool> {
        self.0.tools.get(name).map(|served| served.shown.clone())
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        cx: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let Some(served) = self.0.tools.get(request.name.as_ref()) else {
            let known: Vec<&str> = self.0.tools.keys().map(String::as_str).collect();
            let told = format!("there is no such tool; there is: {}", known.join(", "));
            return Err(ErrorData::invalid_params(told, None));
        };
        let Ok(_place) = self.0.places.try_acquire() else {
            let told = format!("the server has {CALLS} calls under way already; try again later");
            return Ok(CallToolResult::error(vec![ContentBlock::text(told)]).into());
        };
        let arguments = Value::Object(request.arguments.unwrap_or_default());
        let call = ToolCall::new(uuid::Uuid::now_v7().to_string(), request.name.as_ref(), arguments);
        let said = self.answer(&served.tool, call, &cx).await;
        Ok(content::result(said).into())
    }
}

#[cfg(test)]
mod tests {
    use super::{MESSAGE_BYTES, Server};
    use std::time::Duration;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    fn parrot() -> Server {
        Server::new("ours", "1").answerer("parrot", "Repeats.", |question, _| async move { Ok(question) })
    }

    #[tokio::test]
    async fn a_client_that_leaves_ends_the_server_and_one_that_never_ends_a_line_is_hung_up_on() {
        let (ours, theirs) = tokio::io::duplex(64 << 10);
        let (input, output) = tokio::io::split(ours);
        drop(theirs);
        parrot().serve(input, output).await.expect("nobody came");

        let (ours, mut theirs) = tokio::io::duplex(64 << 10);
        let (input, output) = tokio::io::split(ours);
        let serving = parrot().serve(input, output);
        let sending = async {
            let (piece, mut sent) = (vec![b'x'; 8_192], 0);
            while theirs.write_all(&piece).await.is_ok() {
                sent += piece.len();
                assert!(sent <= MESSAGE_BYTES * 2, "it reads without end");
            }
            theirs.read_to_end(&mut Vec::new()).await.expect("it has ended");
        };
        let both = async { tokio::join!(serving, sending) };
        let (served, ()) = tokio::time::timeout(Duration::from_secs(20), both)
            .await
            .expect("it ends");
        served.expect("nobody shook hands");
    }
}
