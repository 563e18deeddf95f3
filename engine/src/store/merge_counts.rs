//! How many merges there were and are: for statistics, and for measuring what they do to writers.

use std::sync::atomic::{AtomicU64, Ordering};

/// Merges of a store since it was opened.
#[derive(Debug, Default)]
pub(crate) struct MergeCounts {
    begun: AtomicU64,
    ended: AtomicU64,
}

/// A merge that is under way until this is dropped.
pub(crate) struct CountedMerge<'a>(&'a MergeCounts);

impl MergeCounts {
    pub(crate) fn begin(&self) -> CountedMerge<'_> {
        self.begun.fetch_add(1, Ordering::Relaxed);
        CountedMerge(self)
    }

    pub(crate) fn begun(&self) -> u64 {
        self.begun.load(Ordering::Relaxed)
    }

    pub(crate) fn under_way(&self) -> u64 {
        // The ends first: they must not get ahead of the beginnings.
        let ended = self.ended.load(Ordering::Relaxed);
        self.begun().saturating_sub(ended)
    }
}

impl Drop for CountedMerge<'_> {
    fn drop(&mut self) {
        self.0.ended.fetch_add(1, Ordering::Relaxed);
    }
}
