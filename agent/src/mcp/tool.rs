//! [`RemoteTool`]: a server's tool as ours.

use super::{
    content, fault,
    link::Link,
    listing::Face,
    wire::{Line, Progress},
};
use async_trait::async_trait;
use rmcp::{
    RoleClient,
    model::{
        CallToolRequest, CallToolRequestParams, CallToolResult, CancelledNotificationParam, ClientRequest,
        ProgressToken, RequestId, ServerResult,
    },
    service::{Peer, PeerRequestOptions, RequestHandle},
};
use serde_json::Value;
use std::{fmt, sync::Arc, time::Duration};
use stepwell_core::{
    DynTool, Effect, Error, Schema, ToolContext, ToolError, ToolOptions, ToolOutput, ToolSpec,
};

/// How long telling a server that a call is cancelled may take.
const FAREWELL: Duration = Duration::from_secs(1);
/// Places of a value that do not fit which are told.
const VIOLATIONS: usize = 5;

pub(super) struct RemoteTool {
    link: Arc<Link>,
    face: Arc<Face>,
}

impl RemoteTool {
    pub(super) fn new(link: Arc<Link>, face: Arc<Face>) -> Arc<Self> {
        Arc::new(Self { link, face })
    }

    /// Whether the data of a result is what the server said it would be.
    fn keeps_its_word(&self, result: &CallToolResult) -> bool {
        match (&self.face.output, &result.structured_content) {
            (Some(schema), Some(data)) => schema.check(data).is_ok(),
            _ => true,
        }
    }

    /// A failure after which nobody knows what happened on the other side.
    fn in_doubt(&self, told: String) -> ToolError {
        ToolError::Failed(match self.face.options.effect {
            Effect::Pure => told,
            _ => format!("{told}; the call may or may not have had its effect"),
        })
    }
}

impl fmt::Debug for RemoteTool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RemoteTool")
            .field("name", &self.face.spec.name)
            .field("server", &self.link.connect.name)
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl DynTool for RemoteTool {
    fn spec(&self) -> &ToolSpec {
        &self.face.spec
    }

    fn options(&self) -> &ToolOptions {
        &self.face.options
    }

    fn schema(&self) -> &Schema {
        &self.face.schema
    }

    async fn call(&self, arguments: Value, cx: &ToolContext) -> Result<ToolOutput, ToolError> {
        cx.cancel.check()?;
        let arguments = self.face.schema.read(arguments).map_err(|violations| {
            let told: Vec<String> = violations
                .iter()
                .take(VIOLATIONS)
                .map(ToString::to_string)
                .collect();
            ToolError::Retry(format!(
                "the arguments do not fit the tool's schema: {}",
                told.join("; ")
            ))
        })?;
        let Value::Object(arguments) = arguments else {
            return Err(ToolError::Retry(
                "the arguments have to be one JSON object".into(),
            ));
        };
        let session = tokio::select! {
            biased;
            () = cx.cancel.cancelled() => return Err(Error::Cancelled.into()),
            session = self.link.ready() => session?,
        };
        let server = self.link.connect.server();
        match self.link.stands(&self.face.remote, &self.face.digest) {
            Some(true) => {}
            Some(false) => {
                return Err(ToolError::Failed(format!(
                    "{server} says something else of this tool than when it was handed out; the call did not run. \
                     It is refused until somebody has looked at it and the program has refreshed or pinned the tools anew"
                )));
            }
            None => {
                return Err(ToolError::Failed(format!(
                    "{server} no longer has this tool; the call did not run"
                )));
            }
        }
        let mut request = CallToolRequest::new(
            CallToolRequestParams::new(self.face.remote.clone()).with_arguments(arguments),
        );
        let watched = cx.clone();
        request
            .extensions
            .insert(Progress(Arc::new(move |told| watched.emit(told))));
        let sent = session
            .peer
            .send_request_with_option(
                ClientRequest::CallToolRequest(request),
                PeerRequestOptions::no_options(),
            )
            .await;
        let RequestHandle {
            mut rx,
            id,
            peer,
            progress_token,
            ..
        } = sent.map_err(|error| {
            ToolError::Failed(fault::call(&self.link.connect, &session.line, &error).to_string())
        })?;
        let mut open = OpenCall {
            peer,
            id: Some(id),
            token: progress_token,
            line: Arc::clone(&session.line),
        };
        let answer = tokio::select! {
            biased;
            answer = &mut rx => answer,
            () = cx.cancel.cancelled() => {
                open.say_cancelled("cancelled").await;
                return Err(Error::Cancelled.into());
            }
            () = tokio::time::sleep(self.face.limit) => {
                open.say_cancelled("timeout").await;
                return Err(self.in_doubt(format!("{server} did not answer within {:?}", self.face.limit)));
            }
            () = session.line.ended.cancelled() => {
                // The answer may have come with the end.
                if let Ok(answer) = rx.try_recv() {
                    Ok(answer)
                } else {
                    open.id = None;
                    let lost = fault::lost(&self.link.connect, Some(&session.line));
                    return Err(self.in_doubt(fault::sentence(&lost)));
                }
            }
        };
        open.id = None;
        let result = match answer {
            Ok(Ok(result)) => result,
            Ok(Err(error)) => {
                return Err(fault::of_call(
                    &self.link.connect,
                    &session.line,
                    &error,
                    |told| self.in_doubt(told),
                ));
            }
            Err(_) => {
                let lost = fault::lost(&self.link.connect, Some(&session.line));
                return Err(self.in_doubt(fault::sentence(&lost)));
            }
        };
        match result {
            ServerResult::CallToolResult(result) if result.is_error == Some(true) => {
                Err(ToolError::Failed(content::complaint(result)))
            }
            ServerResult::CallToolResult(result) if !self.keeps_its_word(&result) => Err(ToolError::Failed(
                format!("{server} sent data that does not fit the tool's own schema of results"),
            )),
            ServerResult::CallToolResult(result) => {
                Ok(ToolOutput::parts(content::parts(&self.face.spec.name, result)))
            }
            ServerResult::EmptyResult(_) => Ok(ToolOutput::default()),
            ServerResult::InputRequiredResult(_) => Err(ToolError::Failed(format!(
                "{server} asks for input from a person, which this program cannot give it"
            ))),
            _ => Err(self.in_doubt(format!("{server} sent an answer that is no tool result"))),
        }
    }
}

/// A call under way. When it is dropped unanswered, the server is told to stop.
struct OpenCall {
    peer: Peer<RoleClient>,
    id: Option<RequestId>,
    token: ProgressToken,
    line: Arc<Line>,
}

impl OpenCall {
    async fn say_cancelled(&mut self, reason: &str) {
        if let Some(id) = self.id.take() {
            farewell(self.peer.clone(), id, reason.to_owned()).await;
        }
    }
}

impl Drop for OpenCall {
    fn drop(&mut self) {
        self.line.forget(&self.token);
        // A drop cannot wait: the notification gets a short task of its own.
        if let Some(id) = self.id.take()
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            runtime.spawn(farewell(self.peer.clone(), id, "the caller is gone".into()));
        }
    }
}

async fn farewell(peer: Peer<RoleClient>, id: RequestId, reason: String) {
    let told = CancelledNotificationParam::new(Some(id), Some(reason));
    let _ = tokio::time::timeout(FAREWELL, peer.notify_cancelled(told)).await; // a server that is gone needs no telling
}
