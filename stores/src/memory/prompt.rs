//! Prompts in memory.

use super::MemoryStore;
use crate::rules::{self, Cursor};
use async_trait::async_trait;
use std::collections::BTreeMap;
use stepwell_core::{
    Result, Scope,
    store::{Page, PageRequest, PromptStore, PromptVersion, check_name},
};

pub(super) type Prompts = BTreeMap<String, Prompt>;

#[derive(Default)]
pub(super) struct Prompt {
    versions: Vec<PromptVersion>,
    active: Option<u64>,
}

impl Prompt {
    fn version(&self, version: u64) -> Option<&PromptVersion> {
        let position = usize::try_from(version.checked_sub(1)?).ok()?;
        self.versions.get(position)
    }
}

#[async_trait]
impl PromptStore for MemoryStore {
    async fn put(
        &self,
        scope: &Scope,
        key: &str,
        body: &str,
        note: Option<&str>,
        activate: bool,
        now_ms: u64,
    ) -> Result<u64> {
        rules::check_new_prompt(key, body, note, now_ms)?;
        Ok(self.inner.prompts.with(scope, |prompts| {
            let prompt = prompts.entry(key.to_owned()).or_default();
            let version = prompt.versions.len() as u64 + 1;
            let mut stored = PromptVersion::new(key, version, body, now_ms);
            stored.note = note.map(str::to_owned);
            stored.actor = scope.actor().map(str::to_owned);
            prompt.versions.push(stored);
            if activate {
                prompt.active = Some(version);
            }
            version
        }))
    }

    async fn active(&self, scope: &Scope, key: &str) -> Result<Option<PromptVersion>> {
        check_name("prompt key", key)?;
        Ok(self.inner.prompts.with(scope, |prompts| {
            let prompt = prompts.get(key)?;
            prompt.version(prompt.active?).cloned()
        }))
    }

    async fn get(&self, scope: &Scope, key: &str, version: u64) -> Result<Option<PromptVersion>> {
        check_name("prompt key", key)?;
        Ok(self
            .inner
            .prompts
            .with(scope, |prompts| prompts.get(key)?.version(version).cloned()))
    }

    async fn activate(&self, scope: &Scope, key: &str, version: Option<u64>) -> Result<()> {
        check_name("prompt key", key)?;
        self.inner.prompts.with(scope, |prompts| {
            let prompt = prompts.get_mut(key);
            match (prompt, version) {
                (Some(prompt), Some(version)) if prompt.version(version).is_some() => {
                    prompt.active = Some(version);
                    Ok(())
                }
                (Some(prompt), None) => {
                    prompt.active = None;
                    Ok(())
                }
                (None, None) => Ok(()),
                (_, Some(version)) => Err(rules::not_found("version of this prompt", version)),
            }
        })
    }

    async fn versions(&self, scope: &Scope, key: &str, page: PageRequest) -> Result<Page<PromptVersion>> {
        check_name("prompt key", key)?;
        let before = Cursor::read(&page)?.map_or(u64::MAX, |cursor| cursor.number);
        let limit = rules::page_limit(&page);
        Ok(self.inner.prompts.with(scope, |prompts| {
            let versions = prompts.get(key).map_or(&[][..], |prompt| &prompt.versions);
            let mut found = versions
                .iter()
                .rev()
                .filter(|version| version.version < before)
                .cloned();
            let items: Vec<_> = found.by_ref().take(limit).collect();
            let next = found.next().and(items.last());
            let next = next.map(|last| Cursor::write(last.version, ""));
            Page::new(items, next)
        }))
    }

    async fn keys(&self, scope: &Scope, page: PageRequest) -> Result<Page<String>> {
        let after = Cursor::read(&page)?.map_or_else(String::new, |cursor| cursor.name);
        let limit = rules::page_limit(&page);
        Ok(self.inner.prompts.with(scope, |prompts| {
            let mut found = prompts.keys().filter(|key| **key > after).cloned();
            let items: Vec<_> = found.by_ref().take(limit).collect();
            let next = found.next().and(items.last());
            let next = next.map(|last| Cursor::write(0, last));
            Page::new(items, next)
        }))
    }

    async fn delete(&self, scope: &Scope, key: &str) -> Result<bool> {
        check_name("prompt key", key)?;
        Ok(self
            .inner
            .prompts
            .with(scope, |prompts| prompts.remove(key).is_some()))
    }
}
