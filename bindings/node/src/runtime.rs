//! Waiting: futures as promises on napi's one tokio runtime, and the switch that an `AbortSignal` pulls.

use crate::error::to_napi;
use napi::{Env, bindgen_prelude::PromiseRaw};
use napi_derive::napi;
use std::future::Future;
use stepwell::{Error, Result};

/// A switch that asks work to stop; the listener of an `AbortSignal` pulls it.
#[napi]
#[derive(Default)]
pub struct Cancel(stepwell::Cancel);

#[napi]
impl Cancel {
    /// A switch of its own.
    #[napi(constructor)]
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Asks everything that holds it to stop.
    #[napi]
    pub fn cancel(&self) {
        self.0.cancel();
    }
}

impl Cancel {
    /// The engine's side of a switch that may not be there.
    pub(crate) fn of(cancel: Option<&Self>) -> stepwell::Cancel {
        cancel.map(|cancel| cancel.0.clone()).unwrap_or_default()
    }
}

/// A future as a promise; dropped, and rejected as cancelled, once the switch is pulled.
pub(crate) fn promise<T>(
    env: &Env,
    cancel: stepwell::Cancel,
    future: impl Future<Output = Result<T>> + Send + 'static,
) -> napi::Result<PromiseRaw<'_, T>>
where
    T: napi::bindgen_prelude::ToNapiValue + Send + 'static,
{
    env.spawn_future(async move {
        let outcome = tokio::select! {
            biased;
            () = cancel.cancelled() => Err(Error::Cancelled),
            outcome = future => outcome,
        };
        outcome.map_err(to_napi)
    })
}
