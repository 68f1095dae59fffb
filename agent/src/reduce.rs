//! [`Reduce`]: how an update folds into a slot; the reducers that `#[derive(State)]` names.

use crate::{MessageChange, Messages};
use indexmap::{IndexMap, IndexSet};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    hash::{BuildHasher, Hash},
    time::Duration,
};

/// How an update of a slot of type `T` folds into it. Folding cannot fail: what can is told by `check` before.
///
/// The reducers of this crate are markers: a slot names one by its word, `#[state(append)]`, or `Reducer::Append` among
/// [`crate::Channels`]. Each costs what the update brings, whatever the slot holds.
#[diagnostic::on_unimplemented(
    message = "the reducer `{Self}` does not fold into a slot of type `{T}`",
    label = "this type has no such reducer",
    note = "append: a `Vec`; add: a number, a `Duration` or an `Amount` of your own; merge: a map; set: a set; messages: `Messages`; any type: nothing, or `custom = path` of a `fn(&mut Slot, Slot)`"
)]
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

/// The last value stands; two writers in one step are an error. The default, for any type.
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

/// A `Vec` grows at its end, in the order in which the nodes of the step were declared.
#[derive(Clone, Copy, Debug)]
pub struct Append;

impl<T> Reduce<Vec<T>> for Append {
    type Update = Vec<T>;
    const NAME: &'static str = "append";

    fn fold(slot: &mut Vec<T>, update: Vec<T>) {
        slot.extend(update);
    }
}

/// What a sum is made of: whole numbers, floating ones, durations, or a type of your own.
#[diagnostic::on_unimplemented(
    message = "`add` does not fold into a slot of type `{Self}`",
    label = "no amount",
    note = "it takes a number, a `Duration` or a type that is an `Amount`"
)]
pub trait Amount: Sized {
    /// The sum; `None` where it cannot be held: too large, or no number any more.
    fn sum(&self, more: &Self) -> Option<Self>;
}

macro_rules! amounts {
    ($($whole:ty),*; $($floating:ty),*) => {
        $(impl Amount for $whole {
            fn sum(&self, more: &Self) -> Option<Self> {
                self.checked_add(*more)
            }
        })*
        $(impl Amount for $floating {
            fn sum(&self, more: &Self) -> Option<Self> {
                Some(self + more).filter(|sum| sum.is_finite())
            }
        })*
    };
}

amounts!(i8, i16, i32, i64, i128, isize, u8, u16, u32, u64, u128, usize, Duration; f32, f64);

/// A sum. One that cannot be held is refused, and the slot keeps what it had.
#[derive(Clone, Copy, Debug)]
pub struct Add;

impl<T: Amount> Reduce<T> for Add {
    type Update = T;
    const NAME: &'static str = "add";

    fn check(slot: &T, update: &T) -> Result<(), String> {
        let fits = slot.sum(update).is_some();
        fits.then_some(()).ok_or_else(|| "the sum cannot be held".into())
    }

    fn fold(slot: &mut T, update: T) {
        if let Some(sum) = slot.sum(&update) {
            *slot = sum; // `check` refused any other
        }
    }
}

/// What [`Merge`] folds into: the maps of std and indexmap, JSON objects, or a map of your own.
#[diagnostic::on_unimplemented(
    message = "`merge` does not fold into a slot of type `{Self}`",
    label = "no map",
    note = "it takes a map, or a type that is a `Mapping`"
)]
pub trait Mapping: IntoIterator + Extend<Self::Item> {}

impl<K: Ord, V> Mapping for BTreeMap<K, V> {}
impl<K: Eq + Hash, V, H: BuildHasher> Mapping for HashMap<K, V, H> {}
impl<K: Eq + Hash, V, H: BuildHasher> Mapping for IndexMap<K, V, H> {}
impl Mapping for serde_json::Map<String, serde_json::Value> {}

/// A map takes new keys and replaces the values of known ones.
#[derive(Clone, Copy, Debug)]
pub struct Merge;

impl<T: Mapping> Reduce<T> for Merge {
    type Update = T;
    const NAME: &'static str = "merge";

    fn fold(slot: &mut T, update: T) {
        slot.extend(update);
    }
}

/// What [`Union`] folds into: the sets of std and indexmap, or a set of your own. A `HashSet` is saved in an order that
/// differs from run to run; the others are not.
#[diagnostic::on_unimplemented(
    message = "`set` does not fold into a slot of type `{Self}`",
    label = "no set",
    note = "it takes a set, or a type that is `Members`"
)]
pub trait Members: IntoIterator + Extend<Self::Item> {}

impl<T: Ord> Members for BTreeSet<T> {}
impl<T: Eq + Hash, H: BuildHasher> Members for HashSet<T, H> {}
impl<T: Eq + Hash, H: BuildHasher> Members for IndexSet<T, H> {}

/// A set takes new members; those it has stay where they are.
#[derive(Clone, Copy, Debug)]
pub struct Union;

impl<T: Members> Reduce<T> for Union {
    type Update = Vec<T::Item>;
    const NAME: &'static str = "set";

    fn fold(slot: &mut T, update: Vec<T::Item>) {
        slot.extend(update);
    }
}

/// Messages by id: a new one stands at the end, one of a known id replaces that where it stands, and some or all can be
/// taken away: see [`MessageChange`].
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
