//! [`Reduce`]: how an update folds into a slot; the reducers that `#[derive(State)]` names.

use crate::{MessageChange, Messages};
use std::ops::AddAssign;

/// How an update of a slot of type `T` folds into it. Folding cannot fail: what can is told by `check` before.
pub trait Reduce<T> {
    /// What a node writes.
    type Update;
    /// Its word in `#[state(..)]` and in fingerprints.
    const NAME: &'static str;
    /// Whether several nodes of one step may write the slot.
    const IS_REDUCED: bool = true;

    /// Whether the update fits; the complaint where not.
    ///
    /// # Errors
    /// One sentence for the author of the node.
    fn check(slot: &T, update: &Self::Update) -> Result<(), String> {
        let _ = (slot, update);
        Ok(())
    }

    /// Folds the update in.
    fn fold(slot: &mut T, update: Self::Update);
}

/// The last value stands; two writers in one step are an error. The default.
#[derive(Clone, Copy, Debug)]
pub struct Last;

impl<T> Reduce<T> for Last {
    type Update = T;
    const NAME: &'static str = "last";
    const IS_REDUCED: bool = false;

    fn fold(slot: &mut T, update: T) {
        *slot = update;
    }
}

/// A list grows.
#[derive(Clone, Copy, Debug)]
pub struct Append;

impl<T> Reduce<Vec<T>> for Append {
    type Update = Vec<T>;
    const NAME: &'static str = "append";

    fn fold(slot: &mut Vec<T>, update: Vec<T>) {
        slot.extend(update);
    }
}

/// A sum.
#[derive(Clone, Copy, Debug)]
pub struct Add;

impl<T: AddAssign> Reduce<T> for Add {
    type Update = T;
    const NAME: &'static str = "add";

    fn fold(slot: &mut T, update: T) {
        *slot += update;
    }
}

/// A map takes new keys and replaces known ones.
#[derive(Clone, Copy, Debug)]
pub struct Merge;

impl<T: IntoIterator + Extend<T::Item>> Reduce<T> for Merge {
    type Update = T;
    const NAME: &'static str = "merge";

    fn fold(slot: &mut T, update: T) {
        slot.extend(update);
    }
}

/// A set takes new members.
#[derive(Clone, Copy, Debug)]
pub struct Union;

impl<T: IntoIterator + Extend<T::Item>> Reduce<T> for Union {
    type Update = Vec<T::Item>;
    const NAME: &'static str = "set";

    fn fold(slot: &mut T, update: Vec<T::Item>) {
        slot.extend(update);
    }
}

/// Messages by id: see [`MessageChange`].
#[derive(Clone, Copy, Debug)]
pub struct ById;

impl Reduce<Messages> for ById {
    type Update = Vec<MessageChange>;
    const NAME: &'static str = "messages";

    fn check(slot: &Messages, update: &Vec<MessageChange>) -> Result<(), String> {
        slot.check(update)
    }

    fn fold(slot: &mut Messages, update: Vec<MessageChange>) {
        slot.fold(update);
    }
}
