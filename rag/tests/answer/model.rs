//! What the journeys share: models that play, a cache that counts, documents.

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream;
use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex},
    time::Duration,
};
use stepwell_core::{
    ChatModel, ChatRequest, ChatResponse, ChatStream, Chunk, Document, Error, Explanation, FinishReason, Hit,
    ModelInfo, Origin, Part, Query, Result, Retriever, Scope, StreamEvent, Usage, store::Cache,
};

type Reply = Box<dyn Fn(&ChatRequest, usize) -> Result<Vec<Part>> + Send + Sync>;

/// A model that answers each request by a function of it and its number. Its words come in pieces of a few letters, with a
/// pause of the runtime before each.
pub(crate) struct Player {
    pub(crate) info: ModelInfo,
    reply: Reply,
    pub(crate) requests: Mutex<Vec<ChatRequest>>,
}

impl fmt::Debug for Player {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Player")
    }
}

impl Player {
    pub(crate) fn new(
        reply: impl Fn(&ChatRequest, usize) -> Result<Vec<Part>> + Send + Sync + 'static,
    ) -> Arc<Self> {
        Arc::new(Self {
            info: ModelInfo::new("test", "player"),
            reply: Box::new(reply),
            requests: Mutex::default(),
        })
    }

    /// Says this, whatever is asked.
    pub(crate) fn says(words: &str) -> Arc<Self> {
        let words = words.to_owned();
        Self::new(move |_, _| Ok(vec![Part::text(words.clone(), Origin::Model)]))
    }

    /// Fails, whatever is asked.
    pub(crate) fn fails() -> Arc<Self> {
        Self::new(|_, _| Err(Error::host("the test's model was told to fail")))
    }

    /// Tells that it cites by itself.
    pub(crate) fn native(self: Arc<Self>) -> Arc<Self> {
        let mut player = Arc::into_inner(self).expect("not shared yet");
        player.info.abilities.citations = Some(true);
        Arc::new(player)
    }

    pub(crate) fn asked(&self) -> Vec<ChatRequest> {
        self.requests.lock().expect("no panic holds it").clone()
    }
}

#[async_trait]
impl ChatModel for Player {
    fn info(&self) -> &ModelInfo {
        &self.info
    }

    async fn stream(&self, request: ChatRequest) -> Result<ChatStream> {
        let number = {
            let mut requests = self.requests.lock().expect("no panic holds it");
            requests.push(request.clone());
            requests.len() - 1
        };
        tokio::task::yield_now().await;
        let parts = (self.reply)(&request, number)?;
        let mut response = ChatResponse::new("test", "player", parts, FinishReason::Stop);
        response.usage = Usage::default();
        response.usage.input_tokens = Some(100);
        response.usage.output_tokens = Some(10);
        let mut events = Vec::new();
        for event in stepwell_core::whole(response) {
            match event {
                StreamEvent::TextDelta { index, text } => {
                    let signs: Vec<char> = text.chars().collect();
                    events.extend(signs.chunks(3).map(|signs| StreamEvent::TextDelta {
                        index,
                        text: signs.iter().collect(),
                    }));
                }
                event => events.push(event),
            }
        }
        Ok(Box::pin(stream::unfold(
            events.into_iter(),
            |mut events| async move {
                tokio::task::yield_now().await;
                events.next().map(|event| (Ok(event), events))
            },
        )))
    }
}

/// A retriever with a fixed list.
#[derive(Debug)]
pub(crate) struct Fixed {
    pub(crate) hits: Vec<Hit>,
    pub(crate) asked: Mutex<Vec<Query>>,
}

impl Fixed {
    pub(crate) fn of(texts: &[(&str, &str)]) -> Arc<Self> {
        Arc::new(Self {
            hits: texts.iter().map(|(id, text)| hit(id, text)).collect(),
            asked: Mutex::default(),
        })
    }

    pub(crate) fn queries(&self) -> Vec<String> {
        let asked = self.asked.lock().expect("no panic holds it");
        asked.iter().map(|query| query.text.clone()).collect()
    }
}

#[async_trait]
impl Retriever for Fixed {
    async fn retrieve(&self, query: &Query) -> Result<Vec<Hit>> {
        self.asked.lock().expect("no panic holds it").push(query.clone());
        if query.text.contains("fail") {
            return Err(Error::host("the test's retriever was told to fail"));
        }
        Ok(self.hits.iter().take(query.top_k).cloned().collect())
    }
}

pub(crate) fn hit(id: &str, text: &str) -> Hit {
    let document = Document::new(id, text);
    let chunk = Chunk::of(&document, 0, 0..text.len()).expect("whole");
    Hit::new(chunk, 1.0, Explanation::default())
}

/// A cache in memory that can be told to fail.
#[derive(Debug, Default)]
pub(crate) struct Kept {
    pub(crate) values: Mutex<HashMap<String, Bytes>>,
    pub(crate) fails: bool,
}

#[async_trait]
impl Cache for Kept {
    async fn get(&self, _: &Scope, key: &str) -> Result<Option<Bytes>> {
        tokio::task::yield_now().await;
        if self.fails {
            return Err(Error::host("the test's cache was told to fail"));
        }
        Ok(self.values.lock().expect("no panic holds it").get(key).cloned())
    }

    async fn put(&self, _: &Scope, key: &str, value: Bytes, _: Option<Duration>) -> Result<()> {
        if self.fails {
            return Err(Error::host("the test's cache was told to fail"));
        }
        self.values
            .lock()
            .expect("no panic holds it")
            .insert(key.to_owned(), value);
        Ok(())
    }

    async fn remove(&self, _: &Scope, key: &str) -> Result<bool> {
        Ok(self
            .values
            .lock()
            .expect("no panic holds it")
            .remove(key)
            .is_some())
    }

    async fn clear(&self, _: &Scope) -> Result<u64> {
        let mut values = self.values.lock().expect("no panic holds it");
        let count = values.len() as u64;
        values.clear();
        Ok(count)
    }
}
