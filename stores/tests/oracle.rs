//! Random operations of four tenants with equal ids: memory, SQLite and a plain list of facts give equal answers.

#![cfg(feature = "sqlite")]

use bytes::Bytes;
use std::{collections::BTreeMap, env, fmt::Debug, time::Duration};
use stepwell_core::{
    Error, Message, Result, Scope, Usage,
    store::{
        Cache, Conversation, ConversationStore, ConversationUpdate, NewRecord, PageRequest, PromptStore,
        RecordKind, RunAppend, RunFilter, RunStatus, RunStore, UsageGroup, UsageLedger, UsageRow,
    },
};
use stepwell_stores::{MemoryStore, SqliteStore};

const TENANTS: [&str; 4] = ["a", "b", "a'; --", "A"];
const IDS: [&str; 5] = ["x", "X", "x ", "y%", "é"];
const HOUR: Duration = Duration::from_hours(1);

/// Numbers that repeat with their seed (splitmix64).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    fn maybe<T>(&mut self, value: T) -> Option<T> {
        (self.below(2) == 0).then_some(value)
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        let end = from.len() as u64;
        from[usize::try_from(self.below(end)).expect("small")]
    }
}

/// One thing asked of a store. Numbers near what is there, so that hits and refusals both come up.
#[derive(Clone, Debug)]
enum Operation {
    Append {
        id: &'static str,
        after: u64,
        fence: u64,
        count: u64,
        is_sync: bool,
    },
    Read {
        id: &'static str,
        from: u64,
        limit: usize,
    },
    Head {
        id: &'static str,
    },
    Runs,
    Claim {
        id: &'static str,
        owner: &'static str,
        fence: Option<u64>,
        time: Duration,
    },
    Copy {
        id: &'static str,
        to: &'static str,
        up_to: Option<u64>,
    },
    Prune {
        id: &'static str,
        before: u64,
    },
    DeleteRun {
        id: &'static str,
    },
    Begin {
        id: &'static str,
    },
    Say {
        id: &'static str,
        parent: Option<u64>,
        is_partial: bool,
    },
    Mend {
        id: &'static str,
        seq: u64,
        is_partial: bool,
    },
    Lock {
        id: &'static str,
        version: u64,
        is_locked: bool,
    },
    Messages {
        id: &'static str,
    },
    Branch {
        id: &'static str,
        tip: u64,
    },
    DeleteConversation {
        id: &'static str,
    },
    PutPrompt {
        id: &'static str,
        activate: bool,
    },
    Activate {
        id: &'static str,
        version: Option<u64>,
    },
    Active {
        id: &'static str,
    },
    Keys,
    DeletePrompt {
        id: &'static str,
    },
    Record {
        id: &'static str,
        tokens: u64,
    },
    Totals,
    PruneUsage {
        before: u64,
    },
    Keep {
        id: &'static str,
        time: Option<Duration>,
    },
    Value {
        id: &'static str,
    },
    Drop {
        id: &'static str,
    },
    Clear,
}

fn invent(random: &mut Random, last: u64) -> Operation {
    let (id, to) = (random.pick(&IDS), random.pick(&IDS));
    let near = last.saturating_sub(2) + random.below(5);
    let small = random.below(9);
    let is_so = random.below(2) == 0;
    let number = random.below(5);
    match random.below(38) {
        0..=7 => Operation::Append {
            id,
            after: if random.below(4) == 0 { near } else { last },
            fence: random.below(6) / 4,
            count: random.below(3),
            is_sync: random.below(8) == 0,
        },
        8 | 9 => Operation::Read {
            id,
            from: small,
            limit: 4,
        },
        10 => Operation::Head { id },
        11 => Operation::Runs,
        12 => Operation::Claim {
            id,
            owner: random.pick(&["o", "p"]),
            fence: random.maybe(number),
            time: random.pick(&[Duration::ZERO, Duration::ZERO, HOUR]),
        },
        13 => Operation::Copy {
            id,
            to,
            up_to: random.maybe(small),
        },
        14 => Operation::Prune { id, before: small },
        15 => Operation::DeleteRun { id },
        16 | 17 => Operation::Begin { id },
        18..=21 => Operation::Say {
            id,
            parent: random.maybe(small),
            is_partial: is_so,
        },
        22 => Operation::Mend {
            id,
            seq: small,
            is_partial: is_so,
        },
        23 => Operation::Lock {
            id,
            version: random.below(4),
            is_locked: random.below(3) == 0,
        },
        24 => Operation::Messages { id },
        25 => Operation::Branch { id, tip: small },
        26 if random.below(3) == 0 => Operation::DeleteConversation { id },
        26 | 27 => Operation::PutPrompt { id, activate: is_so },
        28 => Operation::Activate {
            id,
            version: random.maybe(number),
        },
        29 => Operation::Active { id },
        30 => Operation::Keys,
        31 if random.below(3) == 0 => Operation::DeletePrompt { id },
        31 | 32 => Operation::Record {
            id: to,
            tokens: small,
        },
        33 => Operation::Totals,
        34 if random.below(4) == 0 => Operation::PruneUsage {
            before: random.below(2_000),
        },
        34 | 35 => Operation::Keep {
            id,
            time: random.maybe(HOUR * u32::from(is_so)),
        },
        36 => Operation::Value { id },
        37 if is_so => Operation::Drop { id },
        _ if random.below(4) == 0 => Operation::Clear,
        _ => Operation::Value { id },
    }
}

/// An answer as text: what was found, or the code of the refusal.
fn say<T: Debug>(answer: Result<T>) -> String {
    answer.map_or_else(|error| error.code().to_owned(), |found| format!("{found:?}"))
}

trait Store: RunStore + ConversationStore + PromptStore + UsageLedger + Cache {}
impl<T: RunStore + ConversationStore + PromptStore + UsageLedger + Cache> Store for T {}

async fn ask<S: Store>(store: &S, scope: &Scope, operation: &Operation, now: u64) -> String {
    let text = format!("{} {now}", scope.tenant());
    match operation.clone() {
        Operation::Append {
            id,
            after,
            fence,
            count,
            is_sync,
        } => {
            let record = || NewRecord::new(RecordKind::Task, now, text.clone());
            let mut append = RunAppend::new(id, "g", after, (0..count).map(|_| record()).collect());
            if is_sync {
                append = append.sync();
            }
            say(RunStore::append(store, scope, append.fence(fence)).await)
        }
        Operation::Read { id, from, limit } => {
            let found = store.read(scope, id, from, limit).await;
            say(found.map(|list| {
                list.into_iter()
                    .map(|one| (one.seq, one.body))
                    .collect::<Vec<_>>()
            }))
        }
        Operation::Head { id } => say(store.head(scope, id).await.map(|head| {
            head.map(|one| {
                (
                    one.last_seq,
                    one.fence,
                    one.status,
                    one.created_ms,
                    one.updated_ms,
                )
            })
        })),
        Operation::Runs => {
            let found = RunStore::list(store, scope, &RunFilter::default(), PageRequest::first(9)).await;
            say(found.map(|page| page.items.into_iter().map(|run| run.run_id).collect::<Vec<_>>()))
        }
        Operation::Claim {
            id,
            owner,
            fence,
            time,
        } => say(store
            .claim(scope, id, owner, fence, time)
            .await
            .map(|lease| lease.fence)),
        Operation::Copy { id, to, up_to } => say(store.copy(scope, id, to, up_to).await),
        Operation::Prune { id, before } => say(RunStore::prune(store, scope, id, before).await),
        Operation::DeleteRun { id } => say(RunStore::delete(store, scope, id).await),
        Operation::Begin { id } => say(store.create(scope, Conversation::new(id, now)).await),
        Operation::Say {
            id,
            parent,
            is_partial,
        } => {
            let message = Message::user(text);
            let conversations: &dyn ConversationStore = store;
            say(conversations
                .append(scope, id, parent, message, is_partial, now)
                .await)
        }
        Operation::Mend { id, seq, is_partial } => say(store
            .replace_partial(scope, id, seq, Message::user(text), is_partial)
            .await),
        Operation::Lock {
            id,
            version,
            is_locked,
        } => {
            let mut update = ConversationUpdate::default();
            update.expected_version = Some(version);
            update.locked = Some(is_locked.then_some(text));
            say(store
                .update(scope, id, update, now)
                .await
                .map(|one| (one.version, one.locked)))
        }
        Operation::Messages { id } => {
            let found = store.messages(scope, id, PageRequest::first(1_000)).await;
            say(found.map(|page| {
                let items = page.items.into_iter();
                items
                    .map(|one| (one.seq, one.parent, one.message.text(), one.is_partial))
                    .collect::<Vec<_>>()
            }))
        }
        Operation::Branch { id, tip } => {
            let found = store.branch(scope, id, tip).await;
            say(found.map(|list| list.into_iter().map(|one| one.seq).collect::<Vec<_>>()))
        }
        Operation::DeleteConversation { id } => say(ConversationStore::delete(store, scope, id).await),
        Operation::PutPrompt { id, activate } => {
            say(PromptStore::put(store, scope, id, &text, None, activate, now).await)
        }
        Operation::Activate { id, version } => say(store.activate(scope, id, version).await),
        Operation::Active { id } => say(store
            .active(scope, id)
            .await
            .map(|found| found.map(|one| (one.version, one.body)))),
        Operation::Keys => say(store
            .keys(scope, PageRequest::first(9))
            .await
            .map(|page| page.items)),
        Operation::DeletePrompt { id } => say(PromptStore::delete(store, scope, id).await),
        Operation::Record { id, tokens } => {
            let mut usage = Usage::default();
            usage.input_tokens = Some(tokens);
            let row = UsageRow::new(format!("{id}{}", now % 7), now, "chat", "acme", "small", usage);
            say(store.record(scope, row).await)
        }
        Operation::Totals => {
            let found = store.totals(scope, 0, u64::MAX, UsageGroup::None).await;
            say(found.map(|list| (list[0].calls, list[0].usage.input_tokens)))
        }
        Operation::PruneUsage { before } => say(UsageLedger::prune(store, scope, before).await),
        Operation::Keep { id, time } => say(Cache::put(store, scope, id, Bytes::from(text), time).await),
        Operation::Value { id } => say(Cache::get(store, scope, id).await),
        Operation::Drop { id } => say(store.remove(scope, id).await),
        Operation::Clear => say(store.clear(scope).await),
    }
}

/// The facts of one tenant, in the plainest form that can answer.
#[derive(Default)]
struct Facts {
    runs: BTreeMap<String, Run>,
    conversations: BTreeMap<String, Talk>,
    prompts: BTreeMap<String, (Vec<String>, Option<u64>)>,
    usage: Vec<(String, u64, u64)>,
    cache: BTreeMap<String, Bytes>,
}

#[derive(Clone, Default)]
struct Run {
    records: Vec<(u64, u64, Bytes)>,
    last: u64,
    created: u64,
    updated: u64,
    fence: u64,
    /// Who holds it, and whether the hour of the lease runs.
    owner: Option<(&'static str, bool)>,
}

#[derive(Default)]
struct Talk {
    messages: Vec<(u64, Option<u64>, String, bool)>,
    locked: Option<String>,
    version: u64,
}

fn refuse<T>(code: &'static str) -> Result<T> {
    Err(match code {
        "conflict" => Error::Conflict { what: String::new() },
        "locked" => Error::Locked { path: "".into() },
        "invalid_input" => Error::invalid("", ""),
        "unsupported" => Error::Unsupported {
            who: String::new(),
            what: String::new(),
            hint: String::new(),
        },
        _ => Error::NotFound {
            what: String::new(),
            name: String::new(),
            hint: String::new(),
        },
    })
}

fn known(facts: &mut Facts, tenant: &str, operation: &Operation, now: u64) -> String {
    let text = format!("{tenant} {now}");
    match operation.clone() {
        Operation::Append {
            id,
            after,
            fence,
            count,
            ..
        } => say((|| {
            if after == 0 && count == 0 {
                return refuse("invalid_input");
            }
            let run = facts.runs.get(id).cloned();
            let is_new = run.is_none();
            let mut run = run.unwrap_or_default();
            if run.last != after || run.fence != fence {
                return refuse("conflict");
            }
            for _ in 0..count {
                run.last += 1;
                run.updated = now;
                run.records.push((run.last, now, Bytes::from(text.clone())));
            }
            if is_new {
                run.created = now;
            }
            let last = run.last;
            facts.runs.insert(id.to_owned(), run);
            Ok(last)
        })()),
        Operation::Read { id, from, limit } => {
            let records = facts.runs.get(id).map_or(&[][..], |run| &run.records);
            let found = records.iter().filter(|record| record.0 >= from).take(limit);
            say(Ok(found
                .map(|(seq, _, body)| (*seq, body.clone()))
                .collect::<Vec<_>>()))
        }
        Operation::Head { id } => say(Ok(facts
            .runs
            .get(id)
            .map(|run| (run.last, run.fence, RunStatus::Running, run.created, run.updated)))),
        Operation::Runs => {
            let mut runs: Vec<_> = facts
                .runs
                .iter()
                .map(|(id, run)| (u64::MAX - run.created, id))
                .collect();
            runs.sort();
            say(Ok(runs.into_iter().map(|(_, id)| id).collect::<Vec<_>>()))
        }
        Operation::Claim {
            id,
            owner,
            fence,
            time,
        } => say((|| {
            let Some(run) = facts.runs.get_mut(id) else {
                return refuse("not_found");
            };
            let is_owner = run.owner.is_some_and(|(holder, _)| holder == owner);
            if run.owner.is_some_and(|(holder, lasts)| lasts && holder != owner) {
                return refuse("locked");
            }
            if fence.is_some_and(|fence| fence != run.fence || !is_owner) {
                return refuse("conflict");
            }
            run.fence += u64::from(fence.is_none());
            run.owner = Some((owner, !time.is_zero()));
            Ok(run.fence)
        })()),
        Operation::Copy { id, to, up_to } => say((|| {
            let Some(run) = facts.runs.get(id) else {
                return refuse("not_found");
            };
            if facts.runs.contains_key(to) {
                return refuse("conflict");
            }
            let mut copy = Run {
                created: run.created,
                ..Run::default()
            };
            copy.records.clone_from(&run.records);
            copy.records
                .retain(|record| up_to.is_none_or(|end| record.0 <= end));
            let Some((last, updated, _)) = copy.records.last().cloned() else {
                return refuse("invalid_input");
            };
            (copy.last, copy.updated) = (last, updated);
            facts.runs.insert(to.to_owned(), copy);
            Ok(last)
        })()),
        Operation::Prune { id, before } => {
            let count = facts.runs.get_mut(id).map_or(0, |run| {
                let all = run.records.len();
                run.records.retain(|record| record.0 >= before);
                all - run.records.len()
            });
            say(Ok(count))
        }
        Operation::DeleteRun { id } => say(Ok(facts.runs.remove(id).is_some())),
        Operation::Begin { id } => {
            if facts.conversations.contains_key(id) {
                return say(refuse::<()>("conflict"));
            }
            facts.conversations.insert(id.to_owned(), Talk::default());
            say(Ok(()))
        }
        Operation::Say {
            id,
            parent,
            is_partial,
        } => say((|| {
            let Some(talk) = facts.conversations.get_mut(id) else {
                return refuse("not_found");
            };
            if talk.locked.is_some() {
                return refuse("unsupported");
            }
            let last = talk.messages.len() as u64;
            if parent.is_some_and(|parent| parent == 0 || parent > last) {
                return refuse("not_found");
            }
            talk.messages.push((last + 1, parent, text, is_partial));
            Ok(last + 1)
        })()),
        Operation::Mend { id, seq, is_partial } => say((|| {
            let Some(talk) = facts.conversations.get_mut(id) else {
                return refuse("not_found");
            };
            match talk.messages.iter_mut().find(|message| message.0 == seq) {
                None => refuse("not_found"),
                Some(message) if !message.3 => refuse("conflict"),
                Some(message) => {
                    (message.2, message.3) = (text, is_partial);
                    Ok(())
                }
            }
        })()),
        Operation::Lock {
            id,
            version,
            is_locked,
        } => say((|| {
            let Some(talk) = facts.conversations.get_mut(id) else {
                return refuse("not_found");
            };
            if talk.version != version {
                return refuse("conflict");
            }
            talk.version += 1;
            talk.locked = is_locked.then_some(text);
            Ok((talk.version, talk.locked.clone()))
        })()),
        Operation::Messages { id } => {
            let none = Vec::new();
            say(Ok(facts
                .conversations
                .get(id)
                .map_or(&none, |talk| &talk.messages)))
        }
        Operation::Branch { id, tip } => say((|| {
            let Some(talk) = facts.conversations.get(id) else {
                return refuse("not_found");
            };
            let mut path = Vec::new();
            let mut at = Some(tip);
            while let Some(seq) = at {
                let Some(message) = talk.messages.iter().find(|message| message.0 == seq) else {
                    return refuse("not_found");
                };
                path.insert(0, seq);
                at = message.1;
            }
            Ok(path)
        })()),
        Operation::DeleteConversation { id } => say(Ok(facts.conversations.remove(id).is_some())),
        Operation::PutPrompt { id, activate } => {
            let (versions, active) = facts.prompts.entry(id.to_owned()).or_default();
            versions.push(text);
            let version = versions.len() as u64;
            if activate {
                *active = Some(version);
            }
            say(Ok(version))
        }
        Operation::Activate { id, version } => {
            let prompt = facts.prompts.get_mut(id);
            let count = prompt.as_ref().map_or(0, |prompt| prompt.0.len() as u64);
            if version.is_some_and(|version| version == 0 || version > count) {
                return say(refuse::<()>("not_found"));
            }
            if let Some(prompt) = prompt {
                prompt.1 = version;
            }
            say(Ok(()))
        }
        Operation::Active { id } => {
            let found = facts.prompts.get(id).and_then(|(versions, active)| {
                let version = (*active)?;
                let position = usize::try_from(version - 1).expect("small");
                Some((version, versions[position].clone()))
            });
            say(Ok(found))
        }
        Operation::Keys => say(Ok(facts.prompts.keys().collect::<Vec<_>>())),
        Operation::DeletePrompt { id } => say(Ok(facts.prompts.remove(id).is_some())),
        Operation::Record { id, tokens } => {
            let name = format!("{id}{}", now % 7);
            if facts.usage.iter().all(|row| row.0 != name) {
                facts.usage.push((name, now, tokens));
            }
            say(Ok(()))
        }
        Operation::Totals => {
            let calls = facts.usage.len() as u64;
            let sum: u64 = facts.usage.iter().map(|row| row.2).sum();
            say(Ok((calls, (calls > 0).then_some(sum))))
        }
        Operation::PruneUsage { before } => {
            let all = facts.usage.len();
            facts.usage.retain(|row| row.1 >= before);
            say(Ok(all - facts.usage.len()))
        }
        Operation::Keep { id, time } => {
            if time.is_some_and(|time| time.is_zero()) {
                facts.cache.remove(id);
            } else {
                facts.cache.insert(id.to_owned(), Bytes::from(text));
            }
            say(Ok(()))
        }
        Operation::Value { id } => say(Ok(facts.cache.get(id))),
        Operation::Drop { id } => say(Ok(facts.cache.remove(id).is_some())),
        Operation::Clear => say(Ok(std::mem::take(&mut facts.cache).len())),
    }
}

#[tokio::test]
async fn memory_and_sqlite_answer_as_a_plain_list_of_facts_does() {
    let (seeds, length) = if env::var_os("STEPWELL_LONG").is_some() {
        (40, 5_000)
    } else {
        (3, 1_500)
    };
    let mut seen: BTreeMap<String, (u64, u64)> = BTreeMap::new();
    for seed in 0..seeds {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("store.db");
        let memory = MemoryStore::new();
        let mut sqlite = SqliteStore::open(&path).expect("opens");
        let mut facts: [Facts; 4] = Default::default();
        let mut random = Random(seed);
        for now in 1..=length {
            let number = usize::try_from(random.below(4)).expect("small");
            let tenant = TENANTS[number];
            let scope = Scope::new(tenant).expect("a name");
            let last = facts[number].runs.values().map(|run| run.last).max().unwrap_or(0);
            let last = if random.below(3) == 0 { 0 } else { last };
            let operation = invent(&mut random, last);
            let expected = known(&mut facts[number], tenant, &operation, now);
            let told = ask(&memory, &scope, &operation, now).await;
            assert_eq!(
                told, expected,
                "memory, seed {seed}, {now}: {operation:?} of {tenant}"
            );
            let told = ask(&sqlite, &scope, &operation, now).await;
            assert_eq!(
                told, expected,
                "SQLite, seed {seed}, {now}: {operation:?} of {tenant}"
            );
            let name = format!("{operation:?}");
            let name = name.split([' ', '{']).next().unwrap_or_default();
            let count = seen.entry(name.to_owned()).or_default();
            let is_refused = ["conflict", "locked", "not_found", "invalid_input", "unsupported"];
            if is_refused.contains(&expected.as_str()) {
                count.1 += 1;
            } else {
                count.0 += 1;
            }
            if now % 500 == 0 {
                drop(sqlite);
                sqlite = SqliteStore::open(&path).expect("opens again");
            }
        }
        sqlite.verify().await.expect("whole");
    }
    assert_eq!(seen.len(), 27, "every operation came up: {seen:?}");
    for (name, (accepted, _)) in &seen {
        assert!(*accepted > 0, "{name} was never accepted: {seen:?}");
    }
}
