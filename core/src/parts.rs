//! [`Parts`]: what a message says, shared by its clones.

use crate::Part;
use serde::{Deserialize, Serialize};
use std::{
    fmt::{self, Debug},
    ops::{Deref, DerefMut},
    slice,
    sync::Arc,
    vec,
};

/// The parts of a message, in order: a `Vec<Part>` to whoever reads or changes it, a pointer to whoever clones it.
///
/// A conversation is cloned for every call of a model; its words are not. Clones share them until one is changed.
#[derive(Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Parts(Arc<Vec<Part>>);

impl Deref for Parts {
    type Target = Vec<Part>;

    fn deref(&self) -> &Vec<Part> {
        &self.0
    }
}

impl DerefMut for Parts {
    fn deref_mut(&mut self) -> &mut Vec<Part> {
        Arc::make_mut(&mut self.0)
    }
}

impl Debug for Parts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Debug::fmt(&*self.0, f)
    }
}

impl PartialEq<Vec<Part>> for Parts {
    fn eq(&self, other: &Vec<Part>) -> bool {
        *self.0 == *other
    }
}

impl<const N: usize> PartialEq<[Part; N]> for Parts {
    fn eq(&self, other: &[Part; N]) -> bool {
        *self.0 == *other
    }
}

impl From<Vec<Part>> for Parts {
    fn from(parts: Vec<Part>) -> Self {
        Self(Arc::new(parts))
    }
}

impl From<Parts> for Vec<Part> {
    fn from(parts: Parts) -> Self {
        Arc::unwrap_or_clone(parts.0)
    }
}

impl FromIterator<Part> for Parts {
    fn from_iter<I: IntoIterator<Item = Part>>(parts: I) -> Self {
        Vec::from_iter(parts).into()
    }
}

impl IntoIterator for Parts {
    type Item = Part;
    type IntoIter = vec::IntoIter<Part>;

    fn into_iter(self) -> Self::IntoIter {
        Vec::from(self).into_iter()
    }
}

impl<'a> IntoIterator for &'a Parts {
    type Item = &'a Part;
    type IntoIter = slice::Iter<'a, Part>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.iter()
    }
}

impl<'a> IntoIterator for &'a mut Parts {
    type Item = &'a mut Part;
    type IntoIter = slice::IterMut<'a, Part>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter_mut()
    }
}

#[cfg(test)]
mod tests {
    use crate::{Message, Origin, Part};

    #[test]
    fn clones_share_their_parts_until_one_is_changed() {
        let one = Message::user("a");
        let mut two = one.clone();
        assert!(std::ptr::eq(one.parts.as_ptr(), two.parts.as_ptr()));
        two.parts.push(Part::text("b", Origin::User));
        assert_eq!((one.text().as_str(), two.text().as_str()), ("a", "ab"));
        let json = serde_json::to_value(&two).expect("writes");
        assert_eq!(json["parts"][1]["text"], "b", "a list, as ever");
        assert_eq!(serde_json::from_value::<Message>(json).expect("reads"), two);
    }
}
