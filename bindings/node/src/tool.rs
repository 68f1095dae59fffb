//! Tools that are JavaScript functions.
//!
//! One weak ThreadsafeFunction per run carries every call, every cancellation and nothing else; it is made inside the
//! caller's async context, so a tool sees the caller's `AsyncLocalStorage`.

use crate::{
    convert::parse,
    error::{thrown, to_napi},
};
use async_trait::async_trait;
use napi::{
    Status,
    bindgen_prelude::{FromNapiValue, Function, Promise},
    threadsafe_function::{ThreadsafeFunction, ThreadsafeFunctionCallMode},
};
use napi_derive::napi;
use serde::Deserialize;
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    fmt::{self, Debug},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};
use stepwell::{
    DynTool, Effect, Error, Result, Risk, Schema, ToolContext, ToolError, ToolOptions, ToolOutput, ToolSpec,
};

/// What the dispatching function hands back: text, or a promise of it.
pub enum Answer {
    /// It waits for something.
    Later(Promise<String>),
    /// It is done.
    Now(String),
}

impl FromNapiValue for Answer {
    unsafe fn from_napi_value(env: napi::sys::napi_env, value: napi::sys::napi_value) -> napi::Result<Self> {
        let mut is_promise = false;
        // SAFETY: napi calls this on the JavaScript thread with a live environment and value.
        unsafe {
            napi::sys::napi_is_promise(env, value, &raw mut is_promise);
            if is_promise {
                Promise::from_napi_value(env, value).map(Self::Later)
            } else {
                String::from_napi_value(env, value).map(Self::Now)
            }
        }
    }
}

/// Weak: a tool does not keep the process alive, the run that waits for it does.
type Dispatch = ThreadsafeFunction<String, Answer, String, Status, false, true>;

/// The JavaScript side of a run: takes calls and cancellations.
#[derive(Clone)]
pub(crate) struct Caller(Arc<Dispatch>);

impl Caller {
    pub(crate) fn new(dispatch: &Function<'_, String, Answer>) -> napi::Result<Self> {
        dispatch
            .build_threadsafe_function::<String>()
            .callee_handled::<false>()
            .weak::<true>()
            .build()
            .map(|dispatch| Self(Arc::new(dispatch)))
    }
}

/// How a tool is declared in JavaScript.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Declared {
    /// Tells the dispatching function which tool is meant: two agents of one run may have tools of one name.
    #[serde(default)]
    key: u32,
    name: String,
    description: String,
    #[serde(default)]
    parameters: Value,
    effect: Option<Effect>,
    risk: Option<Risk>,
    timeout_ms: Option<f64>,
    parallel: Option<bool>,
    retries: Option<u32>,
}

impl Declared {
    fn options(&self) -> Result<ToolOptions> {
        let mut options = ToolOptions::default();
        if let Some(effect) = self.effect {
            options = options.effect(effect);
        }
        if let Some(risk) = self.risk {
            options = options.risk(risk);
        }
        if let Some(is_parallel) = self.parallel {
            options = options.parallel(is_parallel);
        }
        if let Some(retries) = self.retries {
            options = options.retries(retries);
        }
        if let Some(milliseconds) = self.timeout_ms {
            let timeout = Duration::try_from_secs_f64(milliseconds / 1e3)
                .map_err(|_| Error::invalid("timeoutMs", "give milliseconds, 0 or more"))?;
            options = options.timeout(timeout);
        }
        Ok(options)
    }
}

/// Name, description and options of a tool that is not a JavaScript function.
pub(crate) fn tool_options(text: &str) -> Result<(String, String, ToolOptions)> {
    let declared: Declared = parse("tool", text)?;
    let options = declared.options()?;
    Ok((declared.name, declared.description, options))
}

/// A tool without its run: checked once, when an agent is made.
#[derive(Clone, Debug)]
pub(crate) struct ToolFace {
    key: u32,
    spec: ToolSpec,
    options: ToolOptions,
    schema: Schema,
}

impl ToolFace {
    fn new(declared: Declared) -> Result<Self> {
        let options = declared.options()?;
        let schema = Schema::from_value(declared.parameters)?;
        let spec = ToolSpec::new(declared.name, declared.description, &schema)?;
        Ok(Self {
            key: declared.key,
            spec,
            options,
            schema,
        })
    }

    /// A tool from JSON.
    pub(crate) fn read(text: &str) -> Result<Self> {
        parse("tool", text).and_then(Self::new)
    }

    /// The tool for a run.
    pub(crate) fn bind(self: Arc<Self>, caller: Option<&Caller>) -> Arc<dyn DynTool> {
        Arc::new(JsTool {
            face: self,
            caller: caller.cloned(),
        })
    }
}

struct JsTool {
    face: Arc<ToolFace>,
    /// There is none while an agent is only checked.
    caller: Option<Caller>,
}

impl Debug for JsTool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Tool").field(&self.face.spec.name).finish()
    }
}

/// Calls that run now, so that their `emit` finds them.
static RUNNING: Mutex<BTreeMap<u32, ToolContext>> = Mutex::new(BTreeMap::new());
static NEXT_CALL: AtomicU32 = AtomicU32::new(0);

fn running() -> MutexGuard<'static, BTreeMap<u32, ToolContext>> {
    RUNNING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A call in JavaScript; dropped before its answer, it fires the call's `AbortSignal`.
struct Running {
    number: u32,
    caller: Caller,
    is_answered: bool,
}

impl Drop for Running {
    fn drop(&mut self) {
        running().remove(&self.number);
        if !self.is_answered {
            let message = json!({ "cancel": self.number }).to_string();
            self.caller
                .0
                .call(message, ThreadsafeFunctionCallMode::NonBlocking);
        }
    }
}

/// What the dispatching function says: one of four.
#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Said {
    Ok(Value),
    Retry(String),
    Failed(String),
    /// What user code threw is kept in JavaScript under this number.
    Thrown(u32, String),
}

#[async_trait]
impl DynTool for JsTool {
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
        let Some(caller) = self.caller.clone() else {
            return Err(ToolError::Fatal(Error::internal(
                "a tool was called without a run",
            )));
        };
        let number = NEXT_CALL.fetch_add(1, Ordering::Relaxed);
        running().insert(number, cx.clone());
        let mut call = Running {
            number,
            caller,
            is_answered: false,
        };
        let message = json!({
            "call": number, "tool": self.face.key, "input": arguments,
            "callId": cx.call_id, "runId": cx.run_id, "idempotencyKey": cx.idempotency_key, "attempt": cx.attempt,
        });
        let answer = async {
            let answer = call.caller.0.call_async_catch(message.to_string()).await;
            match answer {
                Ok(Answer::Later(promise)) => promise.await,
                Ok(Answer::Now(text)) => Ok(text),
                Err(error) => Err(error),
            }
        };
        let answer = tokio::select! {
            biased;
            () = cx.cancel.cancelled() => return Err(ToolError::Fatal(Error::Cancelled)),
            answer = answer => answer,
        };
        call.is_answered = true;
        // The dispatching function answers for user code; it fails by itself only when its thread is ending.
        let text = answer.map_err(|error| {
            ToolError::Fatal(Error::internal(format!(
                "JavaScript could not be called: {}",
                error.reason
            )))
        })?;
        match parse("tool result", &text).map_err(ToolError::Fatal)? {
            Said::Ok(value) => Ok(ToolOutput::json(&self.face.spec.name, value)),
            Said::Retry(message) => Err(ToolError::Retry(message)),
            Said::Failed(message) => Err(ToolError::Failed(message)),
            Said::Thrown(number, message) => Err(ToolError::Fatal(thrown(number, message))),
        }
    }
}

/// Tells whoever watches the run how far a call is; nothing when it has ended.
#[napi]
pub fn tool_progress(call: u32, progress: String) -> napi::Result<()> {
    let cx = running().get(&call).cloned();
    if let Some(cx) = cx {
        cx.emit(parse("progress", &progress).map_err(to_napi)?);
    }
    Ok(())
}

/// Checks a tool's name and schema where it is declared, not at its first run.
#[napi]
pub fn check_tool(tool: String) -> napi::Result<()> {
    ToolFace::read(&tool).map(drop).map_err(to_napi)
}
