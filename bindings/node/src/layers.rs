//! Layers around models, what they share, and what the program says of a vendor.

use crate::{
    chat::Model,
    convert::{parse, to_json},
    error::to_napi,
    settings::BudgetGiven,
};
use napi_derive::napi;
use serde::{Deserialize, de::DeserializeOwned};
use std::sync::Arc;
use stepwell::{
    ChatModel, Result, Scope,
    providers::{
        Chunks, Fault, ModelOptions, Registry,
        layers::{
            BreakerOptions, CacheOptions, FallbackOptions, ModelExt, RateLimitOptions, RetryOptions,
            TimeoutOptions,
        },
        quirks::Quirks,
    },
    store::Cache as CacheStore,
    stores::{MemoryStore, SqliteStore},
};

/// What an account may send, shared by all models it is around.
#[napi]
pub struct RateLimiter(stepwell::providers::layers::RateLimiter);

#[napi]
impl RateLimiter {
    /// With these limits, as JSON.
    #[napi(constructor)]
    pub fn new(options: String) -> napi::Result<Self> {
        let options: RateLimitOptions = given("rate limit", &options)?;
        Ok(Self(stepwell::providers::layers::RateLimiter::new(options)))
    }

    /// How many calls of `vendor/model` wait, and how many run.
    #[napi]
    pub fn load(&self, model: String) -> Vec<u32> {
        let (waiting, running) = self.0.load(&model);
        [waiting, running]
            .map(|calls| u32::try_from(calls).unwrap_or(u32::MAX))
            .to_vec()
    }
}

/// Which endpoints are down, shared by all models it is around.
#[napi]
pub struct Breaker(stepwell::providers::layers::Breaker);

#[napi]
impl Breaker {
    /// With these options, as JSON.
    #[napi(constructor)]
    pub fn new(options: String) -> napi::Result<Self> {
        let options: BreakerOptions = given("breaker", &options)?;
        Ok(Self(stepwell::providers::layers::Breaker::new(options)))
    }
}

/// What may be spent, shared by all models it is around.
#[napi]
pub struct Budget(stepwell::Budget);

#[napi]
impl Budget {
    /// With these bounds, as JSON.
    #[napi(constructor)]
    pub fn new(limits: String) -> napi::Result<Self> {
        let limits: BudgetGiven = given("budget", &limits)?;
        Ok(Self(stepwell::Budget::new(limits.limits())))
    }

    /// What was spent so far, as JSON.
    #[napi(getter)]
    pub fn spent(&self) -> napi::Result<String> {
        to_json(&self.0.spent()).map_err(to_napi)
    }
}

/// Where answers are kept, so that they can be given again.
#[napi]
pub struct Cache(Arc<dyn CacheStore>);

#[napi]
impl Cache {
    /// In a SQLite file, made when it is not there; in memory without one.
    #[napi(constructor)]
    pub fn new(path: Option<String>) -> napi::Result<Self> {
        Ok(Self(match path {
            None => Arc::new(MemoryStore::new()),
            Some(path) => Arc::new(SqliteStore::open(path).map_err(to_napi)?),
        }))
    }
}

/// How a cassette plays.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Playing {
    chunks: Chunks,
    keeps_time: bool,
    faults: Vec<(usize, Fault)>,
}

/// Calls to vendors, recorded to a file or played from it.
#[napi]
pub struct Cassette(stepwell::providers::Cassette);

#[napi]
impl Cassette {
    /// `mode` is `record`, `play` or `record_or_play`; how it plays is JSON.
    #[napi(constructor)]
    pub fn new(mode: String, path: String, options: String) -> napi::Result<Self> {
        use stepwell::providers::Cassette;
        let options: Playing = given("cassette", &options)?;
        let opened = match mode.as_str() {
            "record" => Cassette::record(path),
            "play" => Cassette::play(path),
            _ => Cassette::record_or_play(path),
        };
        let mut cassette = opened
            .map_err(to_napi)?
            .chunks(options.chunks)
            .timing(options.keeps_time);
        for (call, fault) in options.faults {
            cassette = cassette.fault(call, fault);
        }
        Ok(Self(cassette))
    }

    /// Whether it plays, and so needs no key.
    #[napi(getter)]
    pub fn is_playing(&self) -> bool {
        self.0.is_playing()
    }
}

/// What the program says of a vendor; `None` where it says nothing.
pub(crate) fn vendor_options(
    options: Option<String>,
    cassette: Option<&Cassette>,
) -> Result<Option<ModelOptions>> {
    let given: Option<ModelOptions> = options.map(|options| parse("options", &options)).transpose()?;
    Ok(match (given, cassette) {
        (given, None) => given,
        (given, Some(cassette)) => {
            let mut options = given.unwrap_or_default();
            options.http = options.http.cassette(cassette.0.clone());
            Some(options)
        }
    })
}

/// Adds a server of the host's own that speaks Chat Completions.
#[napi]
pub fn register_compatible(vendor: String, base_url: String, quirks: String) -> napi::Result<()> {
    let quirks: Quirks = given("quirks", &quirks)?;
    Registry::global().register_compatible(vendor, base_url, quirks);
    Ok(())
}

#[napi]
impl Model {
    /// Asks again when a call fails before its first word.
    #[napi]
    pub fn with_retry(&self, options: String) -> napi::Result<Model> {
        let options: RetryOptions = given("retry", &options)?;
        Ok(Self::new(self.inner().with_retry(options)))
    }

    /// Bounds the time to the first event, between events, and in all.
    #[napi]
    pub fn with_timeouts(&self, options: String) -> napi::Result<Model> {
        let options: TimeoutOptions = given("timeouts", &options)?;
        Ok(Self::new(self.inner().with_timeouts(options)))
    }

    /// Waits until the account may send the request.
    #[napi]
    pub fn with_rate_limit(&self, limiter: &RateLimiter) -> Model {
        Self::new(self.inner().with_rate_limit(limiter.0.clone()))
    }

    /// Fails at once while the endpoint is down.
    #[napi]
    pub fn with_breaker(&self, breaker: &Breaker) -> Model {
        Self::new(self.inner().with_breaker(breaker.0.clone()))
    }

    /// Asks these models, in order, when this one cannot answer.
    #[napi]
    pub fn with_fallback(&self, others: Vec<&Model>, options: String) -> napi::Result<Model> {
        let options: FallbackOptions = given("fallback", &options)?;
        let others: Vec<Arc<dyn ChatModel>> = others.iter().map(|other| other.inner()).collect();
        Ok(Self::new(self.inner().with_fallback(others, options)))
    }

    /// Gives answers again that were given to this tenant before.
    #[napi]
    pub fn with_cache(&self, cache: &Cache, tenant: Option<String>, options: String) -> napi::Result<Model> {
        let options: CacheOptions = given("cache", &options)?;
        let scope = tenant
            .map_or_else(|| Ok(Scope::local()), Scope::new)
            .map_err(to_napi)?;
        Ok(Self::new(self.inner().with_cache(
            Arc::clone(&cache.0),
            scope,
            options,
        )))
    }

    /// Spends from a budget.
    #[napi]
    pub fn with_budget(&self, budget: &Budget) -> Model {
        Self::new(self.inner().with_budget(budget.0.clone()))
    }
}

fn given<T: DeserializeOwned>(what: &str, text: &str) -> napi::Result<T> {
    parse(what, text).map_err(to_napi)
}
