//! [`NativeAgent`]: a model and its tools; `run`, `stream`, `resume` and `goOn`.

use crate::{
    chat::Model,
    convert::{messages, parse, to_json, to_json_flat},
    ended::Ended,
    error::to_napi,
    rag::{NativeCollection, ScopeGiven, SearchTool, citations_json, hits_json},
    runtime::{Cancel, promise},
    settings::{AgentGiven, Settings},
    store::RunStore,
    stream::NativeStream,
    tool::{Answer, Caller, ToolFace, tool_options},
};
use futures::StreamExt;
use napi::{
    Env,
    bindgen_prelude::{Function, PromiseRaw},
};
use napi_derive::napi;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::sync::{Arc, Mutex, PoisonError};
use stepwell::{
    ChatModel, DynTool, Error, IntoDynTool, Message, Result, ToolOptions,
    agent::{Agent, AgentModels, AgentRun, EventKind, RunResult},
    rag::Collection,
    store::{self, RunStatus},
};

/// How a run begins, or goes on.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct RunGiven {
    /// Goes on with this run instead of beginning one.
    resume: Option<String>,
    /// To questions of a run that goes on, by their ids.
    answers: Map<String, Value>,
    variables: Option<Map<String, Value>>,
    run_id: Option<String>,
    scope: Option<ScopeGiven>,
}

/// A tool of the agent: one that calls into JavaScript is bound to each run anew.
enum Face {
    Js(Arc<ToolFace>),
    Engine(Arc<dyn DynTool>),
    Agent {
        agent: Arc<Inner>,
        name: String,
        description: String,
        options: ToolOptions,
    },
}

impl Face {
    fn bind(&self, caller: Option<&Caller>) -> Result<Arc<dyn DynTool>> {
        match self {
            Self::Js(face) => Ok(Arc::clone(face).bind(caller)),
            Self::Engine(tool) => Ok(Arc::clone(tool)),
            Self::Agent {
                agent,
                name,
                description,
                options,
            } => {
                let tool = agent.agent(caller)?.tool(name, description);
                tool.options(options.clone()).into_dyn_tool()
            }
        }
    }
}

/// What of an agent is given piece by piece.
#[derive(Default)]
struct Parts {
    tools: Vec<Face>,
    /// Those of context policies.
    models: Vec<Arc<dyn ChatModel>>,
    context: Option<Collection>,
    store: Option<Arc<dyn store::RunStore>>,
}

struct Inner {
    model: Arc<dyn ChatModel>,
    settings: Settings,
    parts: Mutex<Parts>,
}

/// A model and its tools, in a loop until the model answers.
#[napi]
pub struct NativeAgent(Arc<Inner>);

impl Inner {
    fn change(&self, change: impl FnOnce(&mut Parts)) {
        change(&mut self.parts.lock().unwrap_or_else(PoisonError::into_inner));
    }

    fn agent(&self, caller: Option<&Caller>) -> Result<Agent> {
        let parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
        let tools = parts.tools.iter().map(|face| face.bind(caller));
        let mut builder = Agent::new(Arc::clone(&self.model)).tools(tools.collect::<Result<Vec<_>>>()?);
        builder = self.settings.apply(builder, &parts.models)?;
        if let Some(collection) = &parts.context {
            builder = builder.context(Arc::new(collection.clone()), self.settings.context.clone());
        }
        if let Some(store) = &parts.store {
            builder = builder.store(Arc::clone(store));
        }
        builder.build()
    }
}

impl NativeAgent {
    fn of(model: &Model, options: &str) -> Result<Self> {
        Ok(Self(Arc::new(Inner {
            model: model.inner(),
            settings: parse::<AgentGiven>("options", options)?.settings()?,
            parts: Mutex::default(),
        })))
    }

    fn begin(
        &self,
        input: &str,
        options: &str,
        dispatch: &Function<'_, String, Answer>,
        ended: &Ended,
    ) -> napi::Result<AgentRun> {
        let caller = Caller::new(dispatch)?;
        self.run_of(input, options, &caller, ended).map_err(to_napi)
    }

    fn run_of(&self, input: &str, options: &str, caller: &Caller, ended: &Ended) -> Result<AgentRun> {
        let options: RunGiven = parse("options", options)?;
        let agent = self.0.agent(Some(caller))?;
        let mut run = if let Some(paused) = ended.take(&options.answers)? {
            agent.go_on(paused)?
        } else if let Some(run_id) = options.resume {
            agent.resume(run_id)
        } else {
            let input: Vec<Message> = messages("input", parse("input", input)?)?;
            agent.run(input)
        };
        for (question, answer) in options.answers {
            run = run.answer(question, answer);
        }
        if let Some(variables) = options.variables {
            run = run.variables(variables);
        }
        if let Some(run_id) = options.run_id {
            run = run.run_id(run_id);
        }
        if let Some(scope) = options.scope {
            run = run.scope(scope.scope()?);
        }
        Ok(run)
    }
}

#[napi]
impl NativeAgent {
    /// An agent without tools yet.
    #[napi(constructor)]
    pub fn new(model: &Model, options: String) -> napi::Result<Self> {
        Self::of(model, &options).map_err(to_napi)
    }

    /// Gives it a tool that is a JavaScript function.
    #[napi]
    pub fn add_tool(&self, tool: String) -> napi::Result<()> {
        let face = ToolFace::read(&tool).map_err(to_napi)?;
        self.0.change(|parts| parts.tools.push(Face::Js(Arc::new(face))));
        Ok(())
    }

    /// Gives it a search.
    #[napi]
    pub fn add_search(&self, tool: &SearchTool) {
        self.0
            .change(|parts| parts.tools.push(Face::Engine(tool.inner())));
    }

    /// Gives it another agent as a tool.
    #[napi]
    pub fn add_agent(&self, agent: &NativeAgent, tool: String) -> napi::Result<()> {
        let (name, description, options) = tool_options(&tool).map_err(to_napi)?;
        let face = Face::Agent {
            agent: Arc::clone(&agent.0),
            name,
            description,
            options,
        };
        self.0.change(|parts| parts.tools.push(face));
        Ok(())
    }

    /// Gives it the next of the models that its context policies name.
    #[napi]
    pub fn add_model(&self, model: &Model) {
        self.0.change(|parts| parts.models.push(model.inner()));
    }

    /// Lets it search there before its model is asked.
    #[napi]
    pub fn set_context(&self, collection: &NativeCollection) {
        self.0.change(|parts| parts.context = Some(collection.inner()));
    }

    /// Keeps the journals of its runs there.
    #[napi]
    pub fn set_store(&self, store: &RunStore) {
        self.0.change(|parts| parts.store = Some(store.inner()));
    }

    /// Checks everything, so that faults are told where the agent is made.
    #[napi]
    pub fn check(&self) -> napi::Result<()> {
        self.0.agent(None).map(drop).map_err(to_napi)
    }

    /// What a model sees of it as a tool, as JSON.
    #[napi]
    pub fn tool_spec(&self, tool: String) -> napi::Result<String> {
        let spec = || -> Result<String> {
            let (name, description, _) = tool_options(&tool)?;
            let tool = self.0.agent(None)?.tool(name, description).into_dyn_tool()?;
            to_json(tool.spec())
        };
        spec().map_err(to_napi)
    }

    /// The agent as a model, `agent/<name>`.
    #[napi(ts_args_type = "name: string, dispatch: (message: string) => string | Promise<string>")]
    pub fn as_model(&self, name: String, dispatch: Function<'_, String, Answer>) -> napi::Result<Model> {
        let caller = Caller::new(&dispatch)?;
        let model = || -> Result<Arc<dyn ChatModel>> {
            let agents = AgentModels::new(); // it checks the name
            agents.add(&name, self.0.agent(Some(&caller))?)?;
            agents.get(&name)
        };
        model().map(Model::from).map_err(to_napi)
    }

    /// Runs it; the result as JSON. A pulled switch stops the run in good order. Where `ended` holds a paused run, that
    /// goes on; where the run pauses, `ended` holds it then.
    #[napi(
        ts_args_type = "input: string, options: string, dispatch: (message: string) => string | Promise<string>, cancel: Cancel, ended: Ended",
        ts_return_type = "Promise<string>"
    )]
    pub fn run<'env>(
        &self,
        env: &'env Env,
        input: String,
        options: String,
        dispatch: Function<'_, String, Answer>,
        cancel: &Cancel,
        ended: &Ended,
    ) -> napi::Result<PromiseRaw<'env, String>> {
        let run = self
            .begin(&input, &options, &dispatch, ended)?
            .cancel(Cancel::of(Some(cancel)));
        let ended = ended.clone();
        promise(env, stepwell::Cancel::new(), async move {
            let result = run.await?;
            let text = result_json(&result)?;
            ended.keep(result);
            Ok(text)
        })
    }

    /// Runs it and gives what happens. The outcome is the result.
    #[napi(
        ts_args_type = "input: string, options: string, dispatch: (message: string) => string | Promise<string>, ended: Ended"
    )]
    pub fn stream(
        &self,
        input: String,
        options: String,
        dispatch: Function<'_, String, Answer>,
        ended: &Ended,
    ) -> napi::Result<NativeStream> {
        let run = self.begin(&input, &options, &dispatch, ended)?;
        let ended = ended.clone();
        Ok(NativeStream::open(move |feed| async move {
            let mut events = run.stream();
            while let Some(event) = events.next().await {
                let words = match &event.kind {
                    EventKind::Model {
                        event: stepwell::StreamEvent::TextDelta { text, .. },
                    } => Some(text.as_str()),
                    _ => None,
                };
                feed.push_written(to_json_flat(&event), words)?;
                feed.room().await;
            }
            let mut result = events
                .take_result()
                .ok_or_else(|| Error::internal("a run ended without a result"))?;
            if let Some(error) = result.error.take() {
                return Err(error);
            }
            let text = result_json(&result)?;
            ended.keep(result);
            Ok(Some(text))
        }))
    }
}

fn result_json(result: &RunResult) -> Result<String> {
    let questions: Vec<String> = result.questions.iter().map(to_json).collect::<Result<_>>()?;
    Ok(format!(
        "{{\"runId\":{},\"status\":{},\"isPaused\":{},\"answer\":{},\"output\":{},\"messages\":{},\"citations\":{},\"hits\":{},\"usage\":{},\"spent\":{},\"steps\":{},\"pause\":{},\"questions\":[{}]}}",
        json!(result.run_id),
        to_json(&result.status)?,
        result.status == RunStatus::Paused,
        json!(result.answer),
        json!(result.value),
        to_json(&result.messages)?,
        citations_json(&result.citations)?,
        hits_json(&result.hits())?,
        to_json(&result.usage)?,
        to_json(&result.spent)?,
        result.steps,
        to_json(&result.pause)?,
        questions.join(","),
    ))
}
