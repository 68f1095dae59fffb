//! Where models and embedders come from: a name, a vendor with options, a script, the documents themselves.

use crate::{
    chat::Model,
    convert::{from_json, parse, to_json},
    error::to_napi,
    layers::{Cassette, vendor_options},
    runtime::{Cancel, promise},
};
use napi::{
    Env,
    bindgen_prelude::{Float32Array, PromiseRaw},
};
use napi_derive::napi;
use serde::Deserialize;
use serde_json::{Value, json};
use std::{num::NonZeroUsize, sync::Arc, time::Duration};
use stepwell::{
    EmbedKind, Error, Hit, Result, VendorFailure,
    providers::{Extractive, MiniLm, Registry},
};

#[napi]
impl Model {
    /// The model of a name such as `anthropic/claude-sonnet-5`. What the options, JSON, do not say comes from the
    /// environment.
    #[napi(factory)]
    pub fn named(name: String, options: Option<String>, cassette: Option<&Cassette>) -> napi::Result<Self> {
        vendor_options(options, cassette)
            .and_then(|options| match options {
                None => stepwell::model(&name),
                Some(options) => stepwell::model_with(&name, options),
            })
            .map(Self::new)
            .map_err(to_napi)
    }

    /// Answers with sentences of the documents.
    #[napi(factory)]
    #[must_use]
    pub fn extractive(embedder: Option<&Embedder>) -> Self {
        let model = Extractive::new();
        Self::new(Arc::new(match embedder {
            Some(embedder) => model.embedder(embedder.inner()),
            None => model,
        }))
    }
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct ScriptOptions {
    name: Option<String>,
    delta_chars: Option<usize>,
    pace_ms: Option<f64>,
}

/// A model that plays a script.
#[napi]
pub struct Script(stepwell::providers::Scripted);

#[napi]
impl Script {
    /// An empty script.
    #[napi(constructor)]
    pub fn new(options: String) -> napi::Result<Self> {
        Self::of(&options).map_err(to_napi)
    }

    fn of(options: &str) -> Result<Self> {
        let options: ScriptOptions = parse("options", options)?;
        let mut script = stepwell::providers::Scripted::new();
        if let Some(name) = options.name {
            let (provider, model) = name
                .split_once('/')
                .ok_or_else(|| Error::invalid("name", "write it as vendor/model"))?;
            script = script.named(provider, model);
        }
        if let Some(chars) = options.delta_chars {
            script = script.delta_chars(chars);
        }
        if let Some(pace) = options.pace_ms {
            let pace = Duration::try_from_secs_f64(pace / 1e3)
                .map_err(|_| Error::invalid("paceMs", "give milliseconds, 0 or more"))?;
            script = script.pace(pace);
        }
        Ok(Self(script))
    }

    // Clones share the script, so each of these adds to it.

    /// The next answer is this text.
    #[napi]
    pub fn say(&self, text: String) {
        let _ = self.0.clone().say(text);
    }

    /// The next answer calls these tools: JSON of `[name, arguments]` pairs.
    #[napi]
    pub fn calls(&self, calls: String) -> napi::Result<()> {
        let calls: Vec<(String, Value)> = parse("calls", &calls).map_err(to_napi)?;
        let _ = self.0.clone().calls(calls);
        Ok(())
    }

    /// The next request fails so, after these words if there are any.
    #[napi]
    pub fn fail(&self, code: String, retry_after_ms: Option<f64>, after: Option<String>) -> napi::Result<()> {
        let error = failure(&code, retry_after_ms).map_err(to_napi)?;
        let _ = match after {
            Some(text) => self.0.clone().fail_after(text, error),
            None => self.0.clone().fail(error),
        };
        Ok(())
    }

    /// The next answer begins with this text and breaks off without its end mark.
    #[napi]
    pub fn break_off(&self, text: String) {
        let _ = self.0.clone().break_off(text);
    }

    /// Every answer after the script's end is this text.
    #[napi]
    pub fn forever(&self, text: String) {
        let _ = self.0.clone().forever(move |_| Ok(text.clone()));
    }

    /// How many steps have not been played.
    #[napi(getter)]
    #[must_use]
    pub fn remaining(&self) -> u32 {
        u32::try_from(self.0.remaining()).unwrap_or(u32::MAX)
    }

    /// What was asked so far, oldest first, as JSON: messages and the names of the tools.
    #[napi(getter)]
    pub fn requests(&self) -> napi::Result<String> {
        let texts: Result<Vec<String>> = self.0.requests().iter().map(crate::chat::request_json).collect();
        texts
            .map(|texts| format!("[{}]", texts.join(",")))
            .map_err(to_napi)
    }

    /// The model that plays it.
    #[napi]
    #[must_use]
    pub fn model(&self) -> Model {
        Model::new(Arc::new(self.0.clone()))
    }
}

fn failure(code: &str, retry_after_ms: Option<f64>) -> Result<Error> {
    let mut failure = VendorFailure::new("scripted");
    if let Some(wait) = retry_after_ms {
        let wait = Duration::try_from_secs_f64(wait / 1e3)
            .map_err(|_| Error::invalid("retryAfter", "give milliseconds, 0 or more"))?;
        failure.retry_after = Some(wait);
    }
    let failure = Box::new(failure);
    Ok(match code {
        "rate_limited" => Error::RateLimited(failure),
        "overloaded" => Error::Overloaded(failure),
        "quota_exceeded" => Error::QuotaExceeded(failure),
        "rejected" => Error::Rejected(failure),
        "unauthorized" => Error::Unauthorized {
            env_var: "SCRIPTED_API_KEY".into(),
            failure,
        },
        _ => {
            return Err(Error::invalid(
                "code",
                "a script fails with rate_limited, overloaded, quota_exceeded, rejected or unauthorized",
            ));
        }
    })
}

/// Text → vector.
#[napi]
pub struct Embedder(Arc<dyn stepwell::Embedder>);

impl Embedder {
    pub(crate) fn inner(&self) -> Arc<dyn stepwell::Embedder> {
        Arc::clone(&self.0)
    }
}

#[napi]
impl Embedder {
    /// all-MiniLM-L6-v2 in process; loading takes about 50 ms, off the JavaScript thread.
    #[napi(ts_return_type = "Promise<Embedder>")]
    pub fn minilm(env: &Env, threads: Option<u32>) -> napi::Result<PromiseRaw<'_, Self>> {
        promise(env, stepwell::Cancel::new(), async move {
            let load = move || match threads.and_then(|threads| NonZeroUsize::new(threads as usize)) {
                Some(threads) => MiniLm::with_threads(threads),
                None => MiniLm::new(),
            };
            let embedder = tokio::task::spawn_blocking(load)
                .await
                .map_err(|_| Error::internal("loading MiniLM stopped"))??;
            Ok(Self(Arc::new(embedder)))
        })
    }

    /// The embedder of a name such as `voyage/voyage-4`.
    #[napi(ts_return_type = "Promise<Embedder>")]
    pub fn named<'env>(
        env: &'env Env,
        name: String,
        options: Option<String>,
        cassette: Option<&Cassette>,
    ) -> napi::Result<PromiseRaw<'env, Self>> {
        let options = vendor_options(options, cassette).map_err(to_napi)?;
        promise(env, stepwell::Cancel::new(), async move {
            // The one in process loads its weights here.
            let load = move || match options {
                None => stepwell::embedder(&name),
                Some(options) => Registry::global().embedder_with(&name, options),
            };
            tokio::task::spawn_blocking(load)
                .await
                .map_err(|_| Error::internal("loading an embedder stopped"))?
                .map(Self)
        })
    }

    /// What it makes, as JSON.
    #[napi(getter)]
    pub fn info(&self) -> napi::Result<String> {
        let info = self.0.info();
        to_json(info)
            .map(|text| {
                let fingerprint = json!(info.fingerprint()).to_string();
                crate::convert::with_members(&text, &[("fingerprint", fingerprint)])
            })
            .map_err(to_napi)
    }

    /// The vectors of texts, row after row.
    #[napi(ts_return_type = "Promise<Float32Array>")]
    pub fn embed<'env>(
        &self,
        env: &'env Env,
        texts: Vec<String>,
        kind: String,
        cancel: Option<&Cancel>,
    ) -> napi::Result<PromiseRaw<'env, Float32Array>> {
        let embedder = self.inner();
        let kind = match kind.as_str() {
            "query" => EmbedKind::Query,
            "document" => EmbedKind::Document,
            _ => return Err(to_napi(Error::invalid("kind", "write `query` or `document`"))),
        };
        promise(env, Cancel::of(cancel), async move {
            let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
            Ok(Float32Array::new(embedder.embed(&texts, kind).await?.values))
        })
    }
}

/// Hits in a better order.
#[napi]
pub struct Reranker(Arc<dyn stepwell::Reranker>);

#[napi]
impl Reranker {
    /// The reranker of a name such as `voyage/rerank-2.5`.
    #[napi(factory)]
    pub fn named(name: String, options: Option<String>, cassette: Option<&Cassette>) -> napi::Result<Self> {
        vendor_options(options, cassette)
            .and_then(|options| match options {
                None => stepwell::reranker(&name),
                Some(options) => Registry::global().reranker_with(&name, options),
            })
            .map(Self)
            .map_err(to_napi)
    }

    /// The best hits for this question, as JSON like those that came.
    #[napi(ts_return_type = "Promise<string>")]
    pub fn rerank<'env>(
        &self,
        env: &'env Env,
        question: String,
        hits: String,
        top_k: u32,
        cancel: Option<&Cancel>,
    ) -> napi::Result<PromiseRaw<'env, String>> {
        let reranker = Arc::clone(&self.0);
        let hits: Vec<Hit> = from_json("hits", &hits).map_err(to_napi)?;
        promise(env, Cancel::of(cancel), async move {
            let best = reranker.rerank(&question, hits, top_k as usize).await?;
            crate::rag::hits_json(&best)
        })
    }
}
