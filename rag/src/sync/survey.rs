//! What is new, changed, moved, gone: every file's bytes beside what the index knows of them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures::stream::{self, StreamExt};
use stepwell_core::{Error, Result};

use super::gone::is_gone;
use super::{AHEAD, READER, State, beside, refused};
use crate::collection::FileFacts;
use crate::load::{Content, LoadLimits, SourceFile, SourceFiles};
use crate::schema::check_id;

/// How often a file is read again that changed while it was read.
const READS: usize = 3;
/// File systems count time in steps up to this: a change within one cannot be told by the time alone.
const TICK: Duration = Duration::from_millis(50);

/// A file that is new or changed.
pub(super) struct Work {
    pub(super) file: SourceFile,
    /// Of its bytes, as it is kept.
    pub(super) hash: String,
    /// Whether a document of this id stands in the index.
    pub(super) is_known: bool,
    /// Whether that one came from a file.
    pub(super) was_file: bool,
    /// The id it had, where it was only moved.
    pub(super) from: Option<String>,
    /// The id of a document of the same bytes: its vectors serve again.
    pub(super) like: Option<String>,
}

pub(super) struct Survey {
    /// In the order of the files.
    pub(super) work: Vec<Work>,
    /// Documents whose files are gone; those that moved are among them.
    pub(super) gone: BTreeSet<String>,
}

pub(super) async fn survey(
    found: SourceFiles,
    known: BTreeMap<String, FileFacts>,
    state: &Arc<State>,
) -> Result<Survey> {
    let options = state.options.clone();
    let known = Arc::new(known);
    let ids: BTreeSet<String> = found.files.iter().map(|file| file.id.clone()).collect();
    let gone = if options.removes {
        let (known, found) = (Arc::clone(&known), Arc::new(found.clone()));
        let allows_empty = options.allows_empty;
        beside(move || gone_documents(&known, &found, &ids, allows_empty)).await?
    } else {
        BTreeSet::new()
    };
    let mut hashed = stream::iter(found.files)
        .map(|file| {
            let limits = options.limits.clone();
            async move {
                let hash = {
                    let file = file.clone();
                    beside(move || Ok(hash_of(&file, &limits))).await?
                };
                Ok::<_, Error>((file, hash))
            }
        })
        .buffered(AHEAD);
    let mut work = Vec::new();
    while let Some(next) = hashed.next().await {
        options.cancel.check()?;
        let (file, hash) = next?;
        let hash = match hash {
            Ok(hash) => hash,
            Err(error) => {
                state.skip(refused(error, &file.uri)?, true);
                continue;
            }
        };
        let facts = known.get(&file.id);
        let root = root_fact(&file.root);
        if facts.is_some_and(|facts| facts.is_current && facts.is_of(&hash, &root)) {
            state.unchanged();
            continue;
        }
        work.push(Work {
            is_known: facts.is_some(),
            was_file: facts.is_some_and(|facts| facts.hash.is_some()),
            from: None,
            like: None,
            file,
            hash,
        });
    }
    find_moves(&mut work, &known, &gone);
    Ok(Survey { work, gone })
}

/// A new file with the bytes of one that is gone is that one; any other with the bytes of a document has its vectors.
fn find_moves(work: &mut [Work], known: &BTreeMap<String, FileFacts>, gone: &BTreeSet<String>) {
    let mut by_hash: BTreeMap<&str, Vec<&String>> = BTreeMap::new();
    for (id, facts) in known {
        if let Some(hash) = facts.hash.as_deref().filter(|_| facts.is_current) {
            by_hash.entry(hash).or_default().push(id);
        }
    }
    let mut moved: BTreeSet<&String> = BTreeSet::new();
    for work in work {
        let Some(same) = by_hash.get(work.hash.as_str()) else {
            continue;
        };
        if !work.is_known
            && let Some(from) = same
                .iter()
                .find(|id| gone.contains(**id) && !moved.contains(**id))
        {
            moved.insert(from);
            work.from = Some((*from).clone());
        }
        work.like = work.from.clone().or_else(|| same.first().map(|id| (*id).clone()));
    }
}

/// Documents that came from these roots and whose files are gone.
fn gone_documents(
    known: &BTreeMap<String, FileFacts>,
    found: &SourceFiles,
    ids: &BTreeSet<String>,
    allows_empty: bool,
) -> Result<BTreeSet<String>> {
    let mut gone = BTreeSet::new();
    for root in &found.roots {
        let fact = root_fact(root);
        let lost: Vec<&String> = known
            .iter()
            .filter(|(id, facts)| facts.root.as_deref() == Some(&fact) && !ids.contains(*id))
            .map(|(id, _)| id)
            .filter(|id| is_gone(root, id, &found.skipped))
            .collect();
        let is_empty = !found.files.iter().any(|file| file.path.starts_with(root));
        if is_empty && !lost.is_empty() && !allows_empty {
            return Err(Error::invalid(
                root.display().to_string(),
                format!(
                    "it holds no file any more, but {} came from it; check that it is mounted, or set \
                     `allows_empty(true)` to delete them",
                    match lost.len() {
                        1 => "1 document".to_owned(),
                        many => format!("{many} documents"),
                    }
                ),
            ));
        }
        gone.extend(lost.into_iter().cloned());
    }
    Ok(gone)
}

fn hash_of(file: &SourceFile, limits: &LoadLimits) -> Result<String> {
    if check_id(&file.id).is_err() {
        return Err(Error::Unreadable {
            document: file.uri.clone(),
            reason: "its path is too long".to_owned(),
        });
    }
    steady_content(file, limits).map(|content| format!("{READER}:{}", content.hash))
}

/// The file's bytes as they were at one moment: a file that is written to meanwhile is read again, and refused when it does
/// not come to rest.
pub(super) fn steady_content(file: &SourceFile, limits: &LoadLimits) -> Result<Content> {
    let stamp = || {
        let meta = fs::metadata(&file.path).ok()?;
        Some((meta.len(), meta.modified().ok()?))
    };
    for _ in 0..READS {
        let before = stamp();
        let content = file.content(limits)?;
        let after = stamp();
        let is_old = |changed: SystemTime| changed.elapsed().is_ok_and(|age| age > TICK);
        match (before, after) {
            (Some(before), Some(after)) if before == after && is_old(before.1) => return Ok(content),
            // Changed a moment ago: two readings that agree are the file.
            (Some(before), Some(after))
                if before == after
                    && file.content(limits)?.hash == content.hash
                    && stamp() == Some(after) =>
            {
                return Ok(content);
            }
            // A file system without times.
            (None, None) => return Ok(content),
            _ => {}
        }
    }
    Err(Error::Unreadable {
        document: file.uri.clone(),
        reason: "it changes while it is read".to_owned(),
    })
}

/// A given path as a fact: its hash, so that an index does not tell where its files lay.
pub(super) fn root_fact(root: &Path) -> String {
    blake3::hash(root.as_os_str().as_encoded_bytes()).to_hex()[..32].to_owned()
}
