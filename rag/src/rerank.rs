//! [`Reranked`]: any retriever with a reranker behind it.

use std::sync::Arc;

use async_trait::async_trait;
use stepwell_core::{Hit, Query, Reranker, Result, Retriever};

/// Hits that are put in a better order, where nothing is said.
const DEPTH: usize = 50;

/// A retriever whose best hits a reranker puts in a better order; again a retriever.
///
/// The retriever is asked for 50 hits, or as many as the query wants where that is more. [`Query::min_score`] is held against
/// the reranker's scores, [`Query::min_relevance`] against the retriever's.
///
/// ```
/// # use std::sync::Arc;
/// # async fn example(papers: stepwell_rag::Collection, better: Arc<dyn stepwell_core::Reranker>) -> stepwell_core::Result<()> {
/// use stepwell_core::{Query, Retriever};
/// let papers = stepwell_rag::Reranked::new(Arc::new(papers), better).depth(100);
/// let hits = papers.retrieve(&Query::new("what swells?")).await?;
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct Reranked {
    retriever: Arc<dyn Retriever>,
    reranker: Arc<dyn Reranker>,
    depth: usize,
}

impl Reranked {
    /// This retriever, its hits in the order of this reranker.
    pub fn new(retriever: Arc<dyn Retriever>, reranker: Arc<dyn Reranker>) -> Self {
        Self {
            retriever,
            reranker,
            depth: DEPTH,
        }
    }

    /// With so many hits put in a better order.
    pub fn depth(mut self, depth: usize) -> Self {
        self.depth = depth;
        self
    }
}

#[async_trait]
impl Retriever for Reranked {
    async fn retrieve(&self, query: &Query) -> Result<Vec<Hit>> {
        let mut deeper = query.clone();
        (deeper.top_k, deeper.min_score) = (query.top_k.max(self.depth), None);
        if query.top_k == 0 {
            return self.retriever.retrieve(query).await;
        }
        let hits = self.retriever.retrieve(&deeper).await?;
        if hits.is_empty() {
            return Ok(hits);
        }
        let mut hits = self.reranker.rerank(&query.text, hits, query.top_k).await?;
        if let Some(least) = query.min_score {
            hits.retain(|hit| hit.score >= least);
        }
        Ok(hits)
    }
}
