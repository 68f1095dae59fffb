//! [`Startable`]: what [`crate::Runs`] can start.

use crate::{Outcome, Run, State, driver::drive, event::EventQueue};
use futures::{FutureExt, future::BoxFuture};
use std::{fmt::Debug, sync::Arc};
use stepwell_core::{Cancel, Result, Scope, store::RunStore};

/// Closes the trait: what can be started is this crate's.
pub trait Sealed {}

/// A run of a graph or an agent, about to begin or to go on.
pub trait Startable: Sealed + Sized + Debug + 'static {
    /// How it ends.
    type Ended: Send + 'static;

    #[doc(hidden)]
    #[allow(private_interfaces)] // nobody outside can name what it takes to implement it
    fn prepare(self) -> Result<Prepared<Self::Ended>>;

    /// Its result where it got to its end or a pause.
    ///
    /// # Errors
    /// Why it did not.
    #[doc(hidden)]
    fn into_result(ended: Self::Ended) -> Result<Self::Ended>;
}

/// A run, ready to be spawned.
pub(crate) struct Prepared<T> {
    pub(crate) run_id: Arc<str>,
    pub(crate) scope: Scope,
    pub(crate) graph: Arc<str>,
    /// It begins; otherwise it goes on.
    pub(crate) is_new: bool,
    pub(crate) cancel: Cancel,
    pub(crate) drain: Cancel,
    /// Where its events are kept, if they are.
    pub(crate) kept: Option<Arc<dyn RunStore>>,
    pub(crate) work: Box<dyn FnOnce(EventQueue) -> BoxFuture<'static, T> + Send>,
}

impl<T: 'static> Prepared<T> {
    /// The same with another end.
    pub(crate) fn map<U: 'static>(self, turn: fn(T) -> U) -> Prepared<U> {
        let work = self.work;
        Prepared {
            run_id: self.run_id,
            scope: self.scope,
            graph: self.graph,
            is_new: self.is_new,
            cancel: self.cancel,
            drain: self.drain,
            kept: self.kept,
            work: Box::new(move |events| work(events).map(turn).boxed()),
        }
    }
}

impl<S: State> Sealed for Run<S> {}

impl<S: State> Startable for Run<S> {
    type Ended = Outcome<S>;

    #[allow(private_interfaces)] // as above
    fn prepare(mut self) -> Result<Prepared<Outcome<S>>> {
        let options = &mut self.options;
        let run_id = options
            .run_id
            .get_or_insert_with(|| uuid::Uuid::now_v7().to_string());
        let run_id = Arc::from(run_id.as_str());
        // A caller's switch may be that of many runs: this one gets its own.
        options.cancel = options.cancel.child();
        let drain = options.drain.as_ref().map_or_else(Cancel::new, Cancel::child);
        options.drain = Some(drain.clone());
        Ok(Prepared {
            run_id,
            scope: options.scope.clone(),
            graph: Arc::clone(self.graph.name_arc()),
            is_new: self.begin.is_new(),
            cancel: options.cancel.clone(),
            drain,
            kept: options.store.clone().filter(|_| options.keeps_events),
            work: Box::new(move |events| drive(self, Some(events)).boxed()),
        })
    }

    fn into_result(ended: Outcome<S>) -> Result<Outcome<S>> {
        ended.into_result()
    }
}
