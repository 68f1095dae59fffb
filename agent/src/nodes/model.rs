//! [`ModelNode`]: a chat model as a node.

use crate::{
    Command, ContextPolicy, END, HasMessages, History, Hooks, Kept, Node, NodeError, OutputShape, Prompt,
    RunContext,
    nodes::{
        call::{ModelCall, show, unless_cancelled},
        hooks::HookList,
        output::Fault,
        passages::CITE,
        tools::refused,
    },
    prompt::is_question,
};
use async_trait::async_trait;
use futures::FutureExt;
use serde_json::{Value, json};
use std::{
    collections::HashSet,
    fmt::{self, Debug},
    panic::AssertUnwindSafe,
    sync::Arc,
};
use stepwell_core::{
    ChatModel, ChatRequest, ChatResponse, Error, FinishReason, Message, Part, Result, Role, SchemaFault,
    ToolChoice, whole,
};

/// A node that lets a model continue the conversation of the state. Its answer streams out as events, its tokens are
/// reserved in the run's budget before and booked after the call.
///
/// The finished task is the journal's record of the call: a resumed run does not repeat it.
#[derive(Clone)]
pub struct ModelNode {
    model: Arc<dyn ChatModel>,
    request: ChatRequest,
    instructions: Option<Arc<str>>,
    on_calls: Option<String>,
    name: Option<String>,
    output: Option<OutputShape>,
    policies: Vec<Arc<dyn ContextPolicy>>,
    hooks: HookList,
}

impl ModelNode {
    /// This model with no options of its own.
    pub fn new(model: Arc<dyn ChatModel>) -> Self {
        Self {
            model,
            request: ChatRequest::default(),
            instructions: None,
            on_calls: None,
            name: None,
            output: None,
            policies: Vec::new(),
            hooks: HookList::default(),
        }
    }

    /// What the model is told before the conversation; it never enters the state. Those of the state's
    /// [`HasMessages::prompt`] go before them.
    pub fn instructions(mut self, instructions: impl Into<Arc<str>>) -> Self {
        self.instructions = Some(instructions.into());
        self
    }

    /// Tools and options of every call; its messages are left out. A tool choice that forces a call does so until a tool has
    /// answered, once per question.
    pub fn request(mut self, request: ChatRequest) -> Self {
        self.request = request;
        self
    }

    /// Goes to this node when the model asks for tools, and to the end otherwise. Declare both with
    /// [`crate::GraphBuilder::goto`].
    pub fn tools_at(mut self, node: impl Into<String>) -> Self {
        self.on_calls = Some(node.into());
        self
    }

    /// Signs the model's messages with this name.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Asks for answers in this shape. After a faulty one the node goes to itself: declare that with
    /// [`crate::GraphBuilder::goto`].
    pub fn output(mut self, shape: OutputShape) -> Self {
        self.output = Some(shape);
        self
    }

    /// Shapes what of the conversation is sent; several do so one after the other. The state keeps everything.
    pub fn context_policy(mut self, policy: impl ContextPolicy + 'static) -> Self {
        self.policies.push(Arc::new(policy));
        self
    }

    pub(crate) fn context_policies(mut self, policies: Vec<Arc<dyn ContextPolicy>>) -> Self {
        self.policies = policies;
        self
    }

    /// The host's own code before and after each call.
    pub fn hooks(mut self, hooks: impl IntoIterator<Item = Arc<dyn Hooks>>) -> Self {
        self.hooks = HookList::new(hooks.into_iter().collect());
        self
    }

    /// The request but for the conversation.
    fn frame(&self, prompt: &Prompt<'_>, room: usize) -> ChatRequest {
        let mut request = self.request.clone();
        request.messages = Vec::with_capacity(room + 1);
        if let Some(shape) = &self.output {
            request.response_format = shape.format().clone();
        }
        let instructions = prompt.instructions.or(self.instructions.as_deref());
        request
            .messages
            .extend(match (instructions, prompt.passages.is_some()) {
                (Some(told), true) => Some(Message::system(format!("{told}\n\n{CITE}"))),
                (Some(told), false) => Some(Message::system(told)),
                (None, true) => Some(Message::system(CITE)),
                (None, false) => None,
            });
        request
    }

    fn request_for(
        &self,
        prompt: &Prompt<'_>,
        messages: &[Message],
        history: Option<&History<'_>>,
    ) -> ChatRequest {
        let mut request = self.frame(prompt, messages.len());
        if matches!(request.tool_choice, ToolChoice::Any | ToolChoice::Named(_)) && has_results(messages) {
            request.tool_choice = ToolChoice::Auto; // forced each time, it would call for ever
        }
        let before = request.messages.len();
        match history {
            None => request.messages.extend_from_slice(messages),
            Some(history) => request.messages.extend(history.messages().cloned()),
        }
        if let Some(passages) = prompt.passages
            && let Some(question) = request.messages[before..]
                .iter_mut()
                .rfind(|message| is_question(message))
        {
            question.parts.insert(0, passages.part());
        }
        request
    }

    /// What is to be sent of the conversation, where a policy shapes it.
    async fn shaped<'a>(
        &self,
        prompt: &Prompt<'a>,
        messages: &'a [Message],
        cx: &RunContext,
    ) -> Result<Option<History<'a>>> {
        if self.policies.is_empty() {
            return Ok(None);
        }
        let mut around = self.frame(prompt, 1);
        if let Some(passages) = prompt.passages {
            around
                .messages
                .push(Message::new(Role::User, vec![passages.part()]));
        }
        let mut history = History::new(messages, prompt.memory, around.estimated_tokens());
        for policy in &self.policies {
            let shape = AssertUnwindSafe(policy.shape(&mut history, cx)).catch_unwind();
            match unless_cancelled(cx, async { Ok(shape.await) }).await? {
                Ok(shaped) => shaped?,
                Err(_) => return Err(Error::host("the context policy panicked")),
            }
        }
        history.check()?;
        if let Some(report) = history.report() {
            cx.emit("context", report);
        }
        Ok(Some(history))
    }

    /// The answer: a hook's, or the model's. One of the wrong shape is an answer too where a shape is asked for.
    async fn answer(
        &self,
        prompt: &Prompt<'_>,
        messages: &[Message],
        history: Option<&History<'_>>,
        cx: &RunContext,
    ) -> Result<ChatResponse> {
        let mut request = self.request_for(prompt, messages, history);
        if !self.hooks.is_empty()
            && let Some(answer) = self.hooks.before_model(&mut request, cx).await?
        {
            for event in whole(answer.clone()) {
                show(&event, cx).await;
            }
            return Ok(answer);
        }
        let call = ModelCall {
            model: &self.model,
            cx,
            is_shown: true,
        };
        let input = || self.request_for(prompt, messages, history).estimated_tokens();
        match call.run(request, input).await {
            Err(Error::SchemaMismatch { response, .. }) if self.output.is_some() => Ok(*response),
            answered => answered,
        }
    }
}

/// The answer's JSON, or what is wrong with it.
///
/// # Errors
/// [`Error::SchemaMismatch`] for an answer that asking again would not mend.
fn read(shape: &OutputShape, answer: &ChatResponse) -> Result<Result<Value, Fault>> {
    if answer.refusal.is_some() || answer.finish_reason == FinishReason::ContentFilter {
        return Err(mismatch(answer, vec![SchemaFault::whole("json")]));
    }
    shape.read(answer)
}

/// `Debug` tells what it has, never what the model is told.
impl Debug for ModelNode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ModelNode")
            .field("model", &self.model.info().name())
            .field("request", &self.request)
            .field("output", &self.output)
            .field("policies", &self.policies)
            .field("hooks", &self.hooks)
            .finish_non_exhaustive()
    }
}

/// Whether a tool has answered since the person last spoke.
fn has_results(messages: &[Message]) -> bool {
    messages
        .iter()
        .rev()
        .take_while(|message| !is_question(message))
        .any(|message| message.role == Role::Tool)
}

fn mismatch(answer: &ChatResponse, faults: Vec<SchemaFault>) -> Error {
    Error::SchemaMismatch {
        provider: answer.provider.clone(),
        faults,
        response: Box::new(answer.clone()),
    }
}

/// Every call gets an id of its own within the answer: results are tied to calls by it.
fn mend_call_ids(message: &mut Message) {
    let mut seen: HashSet<String> = HashSet::new();
    for part in &mut message.parts {
        let Part::ToolCall(call) = part else { continue };
        let plain = match call.id.as_str() {
            "" => "call".to_owned(),
            id => id.to_owned(),
        };
        let mut id = plain.clone();
        let mut number = 2;
        while !seen.insert(id.clone()) {
            id = format!("{plain}_{number}");
            number += 1;
        }
        call.id = id;
    }
}

#[async_trait]
impl<S: HasMessages> Node<S> for ModelNode {
    async fn run(&self, state: &S, cx: &RunContext) -> Result<Command<S::Update>, NodeError> {
        if let Some(command) = cx.recorded_command::<S>()? {
            return Ok(command);
        }
        let (messages, prompt) = (state.messages(), state.prompt());
        let history = self
            .shaped(&prompt, messages, cx)
            .await
            .map_err(NodeError::passed_on)?;
        let mut answer = self
            .answer(&prompt, messages, history.as_ref(), cx)
            .await
            .map_err(NodeError::passed_on)?;
        let mut stopped = None;
        if !self.hooks.is_empty() {
            stopped = self
                .hooks
                .after_model(&mut answer, cx)
                .await
                .map_err(NodeError::passed_on)?;
            answer.message.role = Role::Assistant;
        }
        mend_call_ids(&mut answer.message);
        let has_calls = answer.message.tool_calls().next().is_some();
        let mut kept = Kept {
            memory: history.and_then(History::into_memory),
            output: None,
        };
        let mut fault = None;
        let mut stop = None;
        if let Some(shape) = &self.output
            && !has_calls
            && stopped.is_none()
        {
            match read(shape, &answer) {
                Ok(Ok(value)) => kept.output = Some(value),
                Ok(Err(found)) => {
                    cx.emit("output_fault", json!({ "faults": found.faults }));
                    if !shape.may_retry(messages) {
                        stop = Some(mismatch(&answer, found.faults.clone()));
                    }
                    fault = Some(found.message());
                }
                Err(error @ Error::SchemaMismatch { .. }) => stop = Some(error),
                Err(error) => return Err(NodeError::passed_on(error)),
            }
        }
        let id = cx.message_id();
        let mut message = answer.message;
        message.name = message.name.or_else(|| self.name.clone());
        let asks_again = fault.is_some();
        let mut added = Vec::with_capacity(2);
        // Calls that will not run are answered all the same.
        let closing = stopped.map(|reason| {
            let told = format!("the run was stopped and the call did not run: {reason}");
            let results = message.tool_calls().map(|call| refused(call, told.clone()));
            results.map(Part::ToolResult).collect::<Vec<_>>()
        });
        let ends = closing.is_some();
        let follows = fault.or_else(|| closing.filter(|results| !results.is_empty()).map(Message::tool));
        let follows = follows.map(|message| message.with_id(format!("{id}.after")));
        message.id.get_or_insert(id);
        added.push(message);
        added.extend(follows);
        let mut command = Command::update(S::add_messages(added));
        if kept != Kept::default() {
            command = command.and(S::keep(kept));
        }
        command = match &self.on_calls {
            _ if asks_again => command.with_goto(cx.node().to_owned()), // also where the run stops: a resumed one asks again
            _ if ends => command.with_goto(END),
            Some(tools) if has_calls => command.with_goto(tools.clone()),
            Some(_) => command.with_goto(END),
            None => command,
        };
        Ok(command.stopped(stop))
    }

    /// It books what the call had used, then ends.
    fn ends_on_cancel(&self) -> bool {
        true
    }
}
