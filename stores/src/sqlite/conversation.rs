//! Conversations in SQLite.

use super::{SqliteStore, check_owner_id, fault::Work, int, row_id, uint};
use crate::rules::{self, Cursor, MAX_SEQ};
use async_trait::async_trait;
use rusqlite::{Connection, OptionalExtension, Row, Rows, params, types::Type};
use stepwell_core::{
    Message, Result, Scope,
    store::{
        Conversation, ConversationStore, ConversationUpdate, Durability, Page, PageRequest, StoredMessage,
        check_name,
    },
};

fn read_conversation(row: &Row<'_>) -> Work<Conversation> {
    let created_ms = uint(row.get(5)?);
    let mut conversation = Conversation::new(row.get::<_, String>(0)?, created_ms);
    conversation.title = row.get(1)?;
    conversation.locked = row.get(2)?;
    conversation.last_seq = uint(row.get(3)?);
    conversation.version = uint(row.get(4)?);
    conversation.updated_ms = uint(row.get(6)?);
    let metadata = row.get_ref(7)?.as_str().map_err(rusqlite::Error::from)?;
    conversation.metadata = serde_json::from_str(metadata).map_err(|error| unreadable(7, error))?;
    Ok(conversation)
}

fn unreadable(column: usize, error: serde_json::Error) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(column, Type::Text, error.into())
}

fn find(db: &Connection, tenant: &str, id: &str) -> Work<Option<(i64, Conversation)>> {
    let mut find = db.prepare_cached(
        "SELECT conversation_id, title, locked, last_seq, version, created_ms, updated_ms, metadata, id
         FROM conversation WHERE tenant = ?1 AND conversation_id = ?2",
    )?;
    let mut rows = find.query((tenant, id))?;
    match rows.next()? {
        Some(row) => Ok(Some((row.get(8)?, read_conversation(row)?))),
        None => Ok(None),
    }
}

fn get(db: &Connection, tenant: &str, id: &str) -> Work<(i64, Conversation)> {
    Ok(find(db, tenant, id)?.ok_or_else(|| rules::not_found("conversation", id))?)
}

fn create(db: &Connection, scope: &Scope, conversation: &Conversation) -> Work<()> {
    let metadata = rules::metadata_json(&conversation.metadata)?;
    let count = db
        .prepare_cached(
            "INSERT INTO conversation (tenant, conversation_id, title, locked, actor, last_seq, version,
                 created_ms, updated_ms, metadata)
             VALUES (?1, ?2, ?3, ?4, ?5, 0, 0, ?6, ?7, ?8) ON CONFLICT (tenant, conversation_id) DO NOTHING",
        )?
        .execute(params![
            scope.tenant(),
            conversation.id,
            conversation.title,
            conversation.locked,
            scope.actor(),
            int(conversation.created_ms),
            int(conversation.updated_ms),
            metadata,
        ])?;
    if count == 0 {
        return Err(rules::conflict_conversation().into());
    }
    Ok(check_owner_id(db.last_insert_rowid())?)
}

fn list(db: &Connection, tenant: &str, cursor: Option<Cursor>, limit: usize) -> Work<Page<Conversation>> {
    let mut select = db.prepare_cached(
        "SELECT conversation_id, title, locked, last_seq, version, created_ms, updated_ms, metadata
         FROM conversation WHERE tenant = ?1
             AND (?2 IS NULL OR updated_ms < ?2 OR (updated_ms = ?2 AND conversation_id > ?3))
         ORDER BY updated_ms DESC, conversation_id LIMIT ?4",
    )?;
    let (number, name) = cursor.map(|cursor| (int(cursor.number), cursor.name)).unzip();
    let mut rows = select.query(params![tenant, number, name, int(limit as u64 + 1)])?;
    let mut items = Vec::new();
    while let Some(row) = rows.next()? {
        items.push(read_conversation(row)?);
    }
    let has_more = items.len() > limit;
    items.truncate(limit);
    let next = items.last().filter(|_| has_more);
    let next = next.map(|last| Cursor::write(last.updated_ms, &last.id));
    Ok(Page::new(items, next))
}

fn update(
    db: &Connection,
    tenant: &str,
    id: &str,
    update: ConversationUpdate,
    now_ms: u64,
) -> Work<Conversation> {
    let (row, mut conversation) = get(db, tenant, id)?;
    rules::apply_update(&mut conversation, update, now_ms)?;
    let metadata = rules::metadata_json(&conversation.metadata)?;
    db.prepare_cached(
        "UPDATE conversation SET title = ?2, locked = ?3, version = ?4, updated_ms = ?5, metadata = ?6 WHERE id = ?1",
    )?
    .execute(params![
        row,
        conversation.title,
        conversation.locked,
        int(conversation.version),
        int(conversation.updated_ms),
        metadata,
    ])?;
    Ok(conversation)
}

fn delete(db: &Connection, tenant: &str, id: &str) -> Work<bool> {
    let Some((row, _)) = find(db, tenant, id)? else {
        return Ok(false);
    };
    db.prepare_cached("DELETE FROM message WHERE id BETWEEN ?1 AND ?2")?
        .execute((row_id(row, 0), row_id(row, MAX_SEQ)))?;
    db.prepare_cached("DELETE FROM conversation WHERE id = ?1")?
        .execute([row])?;
    Ok(true)
}

/// A message to be added.
struct Addition {
    parent: Option<u64>,
    body: String,
    is_partial: bool,
    now_ms: u64,
}

fn append(db: &Connection, scope: &Scope, id: &str, new: &Addition) -> Work<u64> {
    let found = db
        .prepare_cached(
            "SELECT id, last_seq, locked FROM conversation WHERE tenant = ?1 AND conversation_id = ?2",
        )?
        .query_row((scope.tenant(), id), |row| {
            Ok((
                row.get::<_, i64>(0)?,
                row.get::<_, i64>(1)?,
                row.get::<_, Option<String>>(2)?,
            ))
        })
        .optional()?;
    let (row, last_seq, locked) = found.ok_or_else(|| rules::not_found("conversation", id))?;
    if let Some(reason) = locked {
        return Err(rules::locked_conversation(&reason).into());
    }
    if let Some(parent) = new.parent {
        let is_there = (1..=uint(last_seq)).contains(&parent);
        if !is_there {
            return Err(rules::not_found("message", parent).into());
        }
    }
    let seq = uint(last_seq) + 1;
    db.prepare_cached(
        "UPDATE conversation SET last_seq = ?2, updated_ms = max(updated_ms, ?3) WHERE id = ?1",
    )?
    .execute((row, int(seq), int(new.now_ms)))?;
    db.prepare_cached(
        "INSERT INTO message (id, parent, is_partial, at_ms, actor, body) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
    )?
    .execute((
        row_id(row, seq),
        new.parent.map(int),
        new.is_partial,
        int(new.now_ms),
        scope.actor(),
        &new.body,
    ))?;
    Ok(seq)
}

fn replace(db: &Connection, tenant: &str, id: &str, seq: u64, body: &str, is_partial: bool) -> Work<()> {
    let (row, conversation) = get(db, tenant, id)?;
    if !(1..=conversation.last_seq).contains(&seq) {
        return Err(rules::not_found("message", seq).into());
    }
    let count = db
        .prepare_cached("UPDATE message SET body = ?2, is_partial = ?3 WHERE id = ?1 AND is_partial")?
        .execute((row_id(row, seq), body, is_partial))?;
    if count == 0 {
        return Err(rules::conflict_message().into());
    }
    Ok(())
}

/// Rows of number, parent, is partial, time, actor, body.
fn read_messages(mut rows: Rows<'_>) -> Work<Vec<StoredMessage>> {
    let mut messages = Vec::new();
    while let Some(row) = rows.next()? {
        let body = row.get_ref(5)?.as_str().map_err(rusqlite::Error::from)?;
        let message = serde_json::from_str(body).map_err(|error| unreadable(5, error))?;
        let parent: Option<i64> = row.get(1)?;
        let mut stored = StoredMessage::new(uint(row.get(0)?), parent.map(uint), uint(row.get(3)?), message);
        stored.is_partial = row.get(2)?;
        stored.actor = row.get(4)?;
        messages.push(stored);
    }
    Ok(messages)
}

fn messages(db: &Connection, tenant: &str, id: &str, after: u64, limit: usize) -> Work<Page<StoredMessage>> {
    let mut select = db.prepare_cached(
        "SELECT message.id & 0xffffffff, parent, is_partial, at_ms, message.actor, body FROM conversation
         CROSS JOIN message
             ON message.id > (conversation.id << 32) + ?3 AND message.id < (conversation.id + 1) << 32
         WHERE tenant = ?1 AND conversation_id = ?2 ORDER BY message.id LIMIT ?4",
    )?;
    let after = int(after.min(MAX_SEQ));
    let mut items = read_messages(select.query((tenant, id, after, int(limit as u64 + 1)))?)?;
    let has_more = items.len() > limit;
    items.truncate(limit);
    let next = items.last().filter(|_| has_more);
    let next = next.map(|last| Cursor::write(last.seq, ""));
    Ok(Page::new(items, next))
}

fn branch(db: &Connection, tenant: &str, id: &str, tip: u64) -> Work<Vec<StoredMessage>> {
    // UNION, not UNION ALL: a damaged file with a circle of parents ends, too.
    let mut select = db.prepare_cached(
        "WITH RECURSIVE up (id) AS (
             SELECT (id << 32) + ?3 FROM conversation WHERE tenant = ?1 AND conversation_id = ?2
             UNION
             SELECT (up.id >> 32 << 32) + parent FROM up JOIN message ON message.id = up.id
             WHERE parent IS NOT NULL
         )
         SELECT message.id & 0xffffffff, parent, is_partial, at_ms, actor, body
         FROM up JOIN message ON message.id = up.id ORDER BY message.id",
    )?;
    let found = if (1..=MAX_SEQ).contains(&tip) {
        read_messages(select.query((tenant, id, int(tip)))?)?
    } else {
        Vec::new()
    };
    if found.is_empty() {
        get(db, tenant, id)?;
        return Err(rules::not_found("message", tip).into());
    }
    Ok(found)
}

#[async_trait]
impl ConversationStore for SqliteStore {
    async fn create(&self, scope: &Scope, conversation: Conversation) -> Result<()> {
        rules::check_conversation(&conversation)?;
        let scope = scope.clone();
        self.inner
            .store
            .write(Durability::Sync, move |db| create(db, &scope, &conversation))
            .await
    }

    async fn get(&self, scope: &Scope, id: &str) -> Result<Option<Conversation>> {
        check_name("conversation id", id)?;
        let (tenant, id) = (scope.tenant().to_owned(), id.to_owned());
        self.inner
            .store
            .read(move |db| Ok(find(db, &tenant, &id)?.map(|(_, conversation)| conversation)))
            .await
    }

    async fn list(&self, scope: &Scope, page: PageRequest) -> Result<Page<Conversation>> {
        let cursor = Cursor::read(&page)?;
        let limit = rules::page_limit(&page);
        let tenant = scope.tenant().to_owned();
        self.inner
            .store
            .read(move |db| list(db, &tenant, cursor, limit))
            .await
    }

    async fn update(
        &self,
        scope: &Scope,
        id: &str,
        change: ConversationUpdate,
        now_ms: u64,
    ) -> Result<Conversation> {
        check_name("conversation id", id)?;
        let (tenant, id) = (scope.tenant().to_owned(), id.to_owned());
        self.inner
            .store
            .write(Durability::Sync, move |db| {
                update(db, &tenant, &id, change, now_ms)
            })
            .await
    }

    async fn delete(&self, scope: &Scope, id: &str) -> Result<bool> {
        check_name("conversation id", id)?;
        let (tenant, id) = (scope.tenant().to_owned(), id.to_owned());
        self.inner
            .store
            .write(Durability::Sync, move |db| delete(db, &tenant, &id))
            .await
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
        let new = Addition {
            parent,
            body: rules::message_json(&message)?,
            is_partial,
            now_ms,
        };
        let (scope, id) = (scope.clone(), id.to_owned());
        self.inner
            .store
            .write(Durability::Sync, move |db| append(db, &scope, &id, &new))
            .await
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
        let body = rules::message_json(&message)?;
        let (tenant, id) = (scope.tenant().to_owned(), id.to_owned());
        // A piece more of an answer that still comes need not wait for the disk; its end does.
        let durability = if is_partial {
            Durability::Async
        } else {
            Durability::Sync
        };
        self.inner
            .store
            .write(durability, move |db| {
                replace(db, &tenant, &id, seq, &body, is_partial)
            })
            .await
    }

    async fn messages(&self, scope: &Scope, id: &str, page: PageRequest) -> Result<Page<StoredMessage>> {
        check_name("conversation id", id)?;
        let after = Cursor::read(&page)?.map_or(0, |cursor| cursor.number);
        let limit = rules::page_limit(&page);
        let (tenant, id) = (scope.tenant().to_owned(), id.to_owned());
        self.inner
            .store
            .read(move |db| messages(db, &tenant, &id, after, limit))
            .await
    }

    async fn branch(&self, scope: &Scope, id: &str, tip: u64) -> Result<Vec<StoredMessage>> {
        check_name("conversation id", id)?;
        let (tenant, id) = (scope.tenant().to_owned(), id.to_owned());
        self.inner
            .store
            .read(move |db| branch(db, &tenant, &id, tip))
            .await
    }
}
