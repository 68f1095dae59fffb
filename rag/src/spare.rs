//! [`Spare`]: a list in memory that the thread's last question left, which it leaves to the next.
//!
//! A question over ten thousand rows needs some 250 KB for a moment. Taken anew each time, it lies where nobody has been for
//! long, in pages that cost more to reach than what is done in them.

use std::cell::RefCell;
use std::ops::{Deref, DerefMut};

/// So many lists of a kind are left at most.
const MOST_LISTS: usize = 4;
/// Longer lists are given back: elements.
const LONGEST: usize = 1 << 15;

type Left<T> = RefCell<Vec<Vec<T>>>;

/// What lists are left of.
pub(crate) trait Element: Sized + 'static {
    /// Shows what this thread has left; not at all where the thread is about to end.
    fn left(see: impl FnOnce(&Left<Self>));
}

macro_rules! element {
    ($($kind:ty),*) => { $(
        impl Element for $kind {
            fn left(see: impl FnOnce(&Left<Self>)) {
                thread_local!(static LEFT: Left<$kind> = const { RefCell::new(Vec::new()) });
                let _ = LEFT.try_with(see);
            }
        }
    )* };
}

element!(f32, i32, u32, u64, crate::best::Scored);

/// A list, empty at first.
#[derive(Debug, PartialEq)]
pub(crate) struct Spare<T: Element>(Vec<T>);

impl<T: Element> Default for Spare<T> {
    fn default() -> Self {
        let mut list = Vec::new();
        T::left(|left| {
            if let Some(spare) = left.try_borrow_mut().ok().and_then(|mut left| left.pop()) {
                list = spare;
            }
        });
        Self(list)
    }
}

impl<T: Element> Drop for Spare<T> {
    fn drop(&mut self) {
        if (1..=LONGEST).contains(&self.0.capacity()) {
            let mut list = std::mem::take(&mut self.0);
            list.clear();
            T::left(|left| {
                if let Ok(mut left) = left.try_borrow_mut()
                    && left.len() < MOST_LISTS
                {
                    left.push(list);
                }
            });
        }
    }
}

impl<T: Element> FromIterator<T> for Spare<T> {
    fn from_iter<I: IntoIterator<Item = T>>(elements: I) -> Self {
        let mut list = Self::default();
        list.extend(elements);
        list
    }
}

impl<T: Element> Deref for Spare<T> {
    type Target = Vec<T>;

    fn deref(&self) -> &Vec<T> {
        &self.0
    }
}

impl<T: Element> DerefMut for Spare<T> {
    fn deref_mut(&mut self) -> &mut Vec<T> {
        &mut self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn left() -> Vec<usize> {
        let mut capacities = Vec::new();
        u64::left(|left| capacities = left.borrow().iter().map(Vec::capacity).collect());
        capacities
    }

    #[test]
    fn a_list_leaves_its_memory_to_the_next_of_its_thread_and_nothing_else() {
        std::thread::spawn(|| {
            let first: Spare<u64> = (0..1_000).collect();
            let place = first.as_ptr();
            drop(first);
            let second = Spare::<u64>::default();
            assert!(second.is_empty());
            assert_eq!(second.as_ptr(), place);
            // Lists at the same time are apart; few of them stay, and no long one.
            let mut lists: Vec<Spare<u64>> = (0..9).map(|_| Spare::default()).collect();
            for list in &mut lists {
                list.push(7);
            }
            drop(lists);
            assert_eq!(left().len(), MOST_LISTS);
            drop(second);
            assert_eq!(left().len(), MOST_LISTS);
            let mut long = Spare::<u64>::default();
            long.resize(LONGEST + 1, 0);
            drop(long);
            assert_eq!(left().len(), MOST_LISTS - 1);
            assert!(left().into_iter().all(|capacity| capacity <= LONGEST));
        })
        .join()
        .expect("holds");
    }
}
