//! Written answers: what a client gets is kept next to the columns that it was written from.
//!
//! Writing the numbers of a large answer takes longer than everything else that a repeated query costs.
//! So the caller, who alone knows the format, may hand over what it wrote, and gets it back when the
//! same steps of the same kept columns are asked for again. That is done only from the second time on:
//! a window that moves on asks for other steps each time, and its texts would only take room.

use std::ops::RangeInclusive;
use std::sync::Arc;

use bytes::Bytes;

use super::block::Block;
use super::{Key, ResultCache};

/// The written form of an answer of the result cache, or the place for it.
///
/// The caller uses one format, whose text follows from the steps' values alone.
#[derive(Debug, Clone)]
pub struct KeptText {
    cache: Arc<ResultCache>,
    key: Key,
    block: Arc<Block>,
    /// Times of the first and the last step, ms.
    steps: RangeInclusive<i64>,
    written: Option<Arc<[Bytes]>>,
}

impl KeptText {
    pub(super) fn new(
        cache: &Arc<ResultCache>,
        key: &Key,
        block: &Arc<Block>,
        steps: &RangeInclusive<i64>,
    ) -> Self {
        Self {
            cache: Arc::clone(cache),
            key: key.clone(),
            block: Arc::clone(block),
            steps: steps.clone(),
            written: block.text(steps),
        }
    }

    /// What was handed over for this answer, whose value is then empty; `None` if it has to be written.
    #[must_use]
    pub fn written(&self) -> Option<&Arc<[Bytes]>> {
        self.written.as_ref()
    }

    /// Longer texts are not kept.
    #[must_use]
    pub fn bytes_max(&self) -> usize {
        self.cache
            .entry_bytes_max()
            .saturating_sub(self.block.bytes())
    }

    /// Keeps what was written, as long as the cache keeps the answer.
    pub fn keep(self, pieces: Vec<Bytes>) {
        let bytes: usize = pieces.iter().map(Bytes::len).sum();
        if bytes <= self.bytes_max() {
            self.cache
                .keep_text(&self.key, &self.block, self.steps, pieces.into());
        }
    }
}
