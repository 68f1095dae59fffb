//! [`Cancel`]: one switch that reaches models, tools and children.

use std::future::Future;
use tokio_util::sync::CancellationToken;

/// A switch that asks work to stop. Clones share it; [`Cancel::child`] can be stopped alone.
///
/// Dropping a future always cancels it too; `Cancel` is for work that several futures share.
#[derive(Clone, Debug, Default)]
pub struct Cancel(CancellationToken);

impl Cancel {
    /// A switch of its own, not yet pulled.
    pub fn new() -> Self {
        Self::default()
    }

    /// Asks everything that holds this switch or a child of it to stop.
    pub fn cancel(&self) {
        self.0.cancel();
    }

    /// Whether it was pulled, here or at a parent.
    pub fn is_cancelled(&self) -> bool {
        self.0.is_cancelled()
    }

    /// A switch that is pulled with this one, and can be pulled alone.
    pub fn child(&self) -> Self {
        Self(self.0.child_token())
    }

    /// Ends when the switch is pulled.
    pub fn cancelled(&self) -> impl Future<Output = ()> + Send + use<> {
        self.0.clone().cancelled_owned()
    }

    /// `Err(Error::Cancelled)` once it was pulled: for loops that check between pieces of work.
    pub fn check(&self) -> crate::Result<()> {
        if self.is_cancelled() {
            Err(crate::Error::Cancelled)
        } else {
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Cancel;

    #[test]
    fn a_child_stops_with_its_parent_and_can_stop_alone() {
        let parent = Cancel::new();
        let (one, two) = (parent.child(), parent.child());
        one.cancel();
        assert!(one.is_cancelled() && !two.is_cancelled() && !parent.is_cancelled());
        parent.cancel();
        assert!(two.check().is_err());
    }
}
