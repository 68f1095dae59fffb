//! Conversations in memory.

use super::MemoryStore;
use crate::rules::{self, Cursor};
use async_trait::async_trait;
use std::collections::HashMap;
use stepwell_core::{
    Message, Result, Scope,
    store::{
        Conversation, ConversationStore, ConversationUpdate, Page, PageRequest, StoredMessage, check_name,
    },
};

pub(super) type Conversations = HashMap<String, Entry>;

pub(super) struct Entry {
    conversation: Conversation,
    /// Message `n` at `n - 1`: they are never taken away singly.
    messages: Vec<StoredMessage>,
}

impl Entry {
    fn message(&self, seq: u64) -> Option<&StoredMessage> {
        self.messages.get(position(seq)?)
    }
}

fn position(seq: u64) -> Option<usize> {
    usize::try_from(seq.checked_sub(1)?).ok()
}

fn entry<'a>(all: &'a mut Conversations, id: &str) -> Result<&'a mut Entry> {
    all.get_mut(id)
        .ok_or_else(|| rules::not_found("conversation", id))
}

#[async_trait]
impl ConversationStore for MemoryStore {
    async fn create(&self, scope: &Scope, mut conversation: Conversation) -> Result<()> {
        rules::check_conversation(&conversation)?;
        self.inner.conversations.with(scope, |all| {
            if all.contains_key(&conversation.id) {
                return Err(rules::conflict_conversation());
            }
            (conversation.last_seq, conversation.version) = (0, 0);
            let messages = Vec::new();
            all.insert(
                conversation.id.clone(),
                Entry {
                    conversation,
                    messages,
                },
            );
            Ok(())
        })
    }

    async fn get(&self, scope: &Scope, id: &str) -> Result<Option<Conversation>> {
        check_name("conversation id", id)?;
        Ok(self
            .inner
            .conversations
            .with(scope, |all| all.get(id).map(|entry| entry.conversation.clone())))
    }

    async fn list(&self, scope: &Scope, page: PageRequest) -> Result<Page<Conversation>> {
        let cursor = Cursor::read(&page)?;
        let limit = rules::page_limit(&page);
        let mut list: Vec<Conversation> = self.inner.conversations.with(scope, |all| {
            all.values()
                .map(|entry| &entry.conversation)
                .filter(|one| {
                    cursor.as_ref().is_none_or(|cursor| {
                        one.updated_ms < cursor.number
                            || (one.updated_ms == cursor.number && one.id > cursor.name)
                    })
                })
                .cloned()
                .collect()
        });
        list.sort_by(|a, b| (b.updated_ms, &a.id).cmp(&(a.updated_ms, &b.id)));
        let has_more = list.len() > limit;
        list.truncate(limit);
        let next = list.last().filter(|_| has_more);
        let next = next.map(|last| Cursor::write(last.updated_ms, &last.id));
        Ok(Page::new(list, next))
    }

    async fn update(
        &self,
        scope: &Scope,
        id: &str,
        update: ConversationUpdate,
        now_ms: u64,
    ) -> Result<Conversation> {
        check_name("conversation id", id)?;
        self.inner.conversations.with(scope, |all| {
            let entry = entry(all, id)?;
            let mut changed = entry.conversation.clone();
            rules::apply_update(&mut changed, update, now_ms)?;
            rules::metadata_json(&changed.metadata)?;
            entry.conversation = changed.clone();
            Ok(changed)
        })
    }

    async fn delete(&self, scope: &Scope, id: &str) -> Result<bool> {
        check_name("conversation id", id)?;
        Ok(self
            .inner
            .conversations
            .with(scope, |all| all.remove(id).is_some()))
    }

    async fn append(
        &self,
        scope: &Scope,
        id: &str,
        parent: Option<u64>,
        message: Message,
        is_partial: bool,
        now_ms: u64,
    ) -> Result<u64> {
        check_name("conversation id", id)?;
        rules::check_time(now_ms)?;
        rules::message_json(&message)?;
        self.inner.conversations.with(scope, |all| {
            let entry = entry(all, id)?;
            if let Some(reason) = &entry.conversation.locked {
                return Err(rules::locked_conversation(reason));
            }
            if let Some(parent) = parent.filter(|parent| entry.message(*parent).is_none()) {
                return Err(rules::not_found("message", parent));
            }
            let seq = entry.conversation.last_seq + 1;
            let mut stored = StoredMessage::new(seq, parent, now_ms, message);
            stored.is_partial = is_partial;
            stored.actor = scope.actor().map(str::to_owned);
            entry.messages.push(stored);
            entry.conversation.last_seq = seq;
            entry.conversation.updated_ms = entry.conversation.updated_ms.max(now_ms);
            Ok(seq)
        })
    }

    async fn replace_partial(
        &self,
        scope: &Scope,
        id: &str,
        seq: u64,
        message: Message,
        is_partial: bool,
    ) -> Result<()> {
        check_name("conversation id", id)?;
        rules::message_json(&message)?;
        self.inner.conversations.with(scope, |all| {
            let entry = entry(all, id)?;
            let stored = position(seq)
                .and_then(|position| entry.messages.get_mut(position))
                .ok_or_else(|| rules::not_found("message", seq))?;
            if !stored.is_partial {
                return Err(rules::conflict_message());
            }
            (stored.message, stored.is_partial) = (message, is_partial);
            Ok(())
        })
    }

    async fn messages(&self, scope: &Scope, id: &str, page: PageRequest) -> Result<Page<StoredMessage>> {
        check_name("conversation id", id)?;
        let after = Cursor::read(&page)?.map_or(0, |cursor| cursor.number);
        let limit = rules::page_limit(&page);
        Ok(self.inner.conversations.with(scope, |all| {
            let messages = all.get(id).map_or(&[][..], |entry| &entry.messages);
            let start = messages.len().min(usize::try_from(after).unwrap_or(usize::MAX));
            let end = messages.len().min(start + limit);
            let next = (end < messages.len()).then(|| Cursor::write(messages[end - 1].seq, ""));
            Page::new(messages[start..end].to_vec(), next)
        }))
    }

    async fn branch(&self, scope: &Scope, id: &str, tip: u64) -> Result<Vec<StoredMessage>> {
        check_name("conversation id", id)?;
        self.inner.conversations.with(scope, |all| {
            let entry = entry(all, id)?;
            let mut branch = Vec::new();
            let mut at = Some(tip);
            while let Some(seq) = at {
                let message = entry
                    .message(seq)
                    .ok_or_else(|| rules::not_found("message", seq))?;
                at = message.parent;
                branch.push(message.clone());
            }
            branch.reverse();
            Ok(branch)
        })
    }
}
