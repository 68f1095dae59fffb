//! [`Renamer`]: ids of calls in the form of a wire, each call its own.

use super::rules::{Alphabet, Ids};
use std::collections::HashSet;

const LETTERS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
/// Letters of an id we make, where the form allows as many.
const USUAL: usize = 24;
/// Ids that are tried for a call.
const TURNS: u32 = 1_000;

/// Gives ids in the order of the calls, so that what comes later never changes what came before.
pub(super) struct Renamer {
    form: Ids,
    taken: HashSet<String>,
}

impl Renamer {
    pub(super) fn new(form: Ids) -> Self {
        Self {
            form,
            taken: HashSet::new(),
        }
    }

    /// Another id for the call, where its own does not fit or is taken.
    pub(super) fn rename(&mut self, id: &str) -> Option<String> {
        let Ids::Form { min, max, alphabet } = self.form else {
            return None;
        };
        if fits(id, min, max, alphabet) && !self.taken.contains(id) {
            self.taken.insert(id.to_owned());
            return None;
        }
        if alphabet == Alphabet::Word {
            // What can be read stays readable.
            let made: String = id
                .chars()
                .map(|c| {
                    if c.is_ascii_alphanumeric() || c == '-' {
                        c
                    } else {
                        '_'
                    }
                })
                .collect();
            if fits(&made, min, max, alphabet) && self.taken.insert(made.clone()) {
                return Some(made);
            }
        }
        let length = USUAL.clamp(min, max.max(min)).max(1);
        // Each turn tries another of 62^length ids. Where a form has hardly more than there are calls, the last ones keep
        // their own.
        for turn in 0..TURNS {
            let mut hasher = blake3::Hasher::new();
            hasher.update(&turn.to_le_bytes());
            hasher.update(id.as_bytes());
            let mut bytes = vec![0; length];
            hasher.finalize_xof().fill(&mut bytes);
            let made: String = bytes
                .iter()
                .map(|byte| char::from(LETTERS[usize::from(*byte) % LETTERS.len()]))
                .collect();
            if self.taken.insert(made.clone()) {
                return Some(made);
            }
        }
        None
    }
}

fn fits(id: &str, min: usize, max: usize, alphabet: Alphabet) -> bool {
    !id.is_empty()
        && (min..=max).contains(&id.len())
        && match alphabet {
            Alphabet::Any => true,
            Alphabet::Word => id
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-')),
            Alphabet::Alphanumeric => id.bytes().all(|byte| byte.is_ascii_alphanumeric()),
        }
}

#[cfg(test)]
mod tests {
    use super::Renamer;
    use crate::doctor::{Alphabet, Ids};

    #[test]
    fn ids_fit_the_form_differ_and_depend_only_on_what_came_before() {
        let form = Ids::Form {
            min: 9,
            max: 9,
            alphabet: Alphabet::Alphanumeric,
        };
        let all = ["call_1", "call_2", "call_1", "", "AbCdEfGhI", "AbCdEfGhI", ""];
        let mend = |ids: &[&str]| -> Vec<String> {
            let mut renamer = Renamer::new(form);
            ids.iter()
                .map(|id| renamer.rename(id).unwrap_or_else(|| (*id).to_owned()))
                .collect()
        };
        let made = mend(&all);
        assert_eq!(made[4], "AbCdEfGhI");
        let mut different = made.clone();
        different.sort();
        different.dedup();
        assert_eq!(different.len(), all.len());
        assert!(
            made.iter()
                .all(|id| id.len() == 9 && id.bytes().all(|byte| byte.is_ascii_alphanumeric()))
        );
        let short = Ids::Form {
            min: 1,
            max: 1,
            alphabet: Alphabet::Alphanumeric,
        };
        let mut renamer = Renamer::new(short);
        let named = (0..100).filter_map(|call| renamer.rename(&format!("call_{call}")));
        let named: std::collections::HashSet<String> = named.collect();
        assert!(
            (50..=62).contains(&named.len()),
            "{}: there are no more",
            named.len()
        );
        for cut in 0..all.len() {
            assert_eq!(mend(&all[..cut]), made[..cut]);
        }
        let again: Vec<&str> = made.iter().map(String::as_str).collect();
        assert_eq!(mend(&again), made, "what fits stays");
    }
}
