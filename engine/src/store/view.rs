//! What a reader pins: generations of the head, live segments and tombstones, replaced as a whole.
//!
//! Invariant: a row is in exactly one source of a view. Sealing publishes the segments of a frozen
//! generation and takes the generation away in one replacement; compaction swaps segments likewise.

use std::sync::Arc;

use super::segments::Segment;
use crate::context::TenantId;
use crate::head::data::HeadData;
use crate::manifest::Tombstone;
use crate::model::{Generation, Labels, Signal, TimeRange, TimestampNs};

/// A generation of the head on its way to segments.
#[derive(Clone)]
pub(crate) struct FrozenHead {
    /// Orders its rows among segments and deletions: rows frozen under a higher number arrived later.
    pub(crate) generation: Generation,
    /// Records of the log below this number are in it or in earlier ones.
    pub(crate) sequence: u64,
    /// When it began to take rows.
    pub(crate) since: TimestampNs,
    pub(crate) data: Arc<HeadData>,
}

/// What a tombstone hides.
pub(crate) trait Hides {
    /// Whether it hides rows of this series or stream in `range`.
    fn covers(&self, labels: &Labels, range: TimeRange) -> bool;

    /// Whether it may hide rows of a segment: those that arrived before it.
    fn concerns(&self, segment: &Segment) -> bool;
}

impl Hides for Tombstone {
    fn covers(&self, labels: &Labels, range: TimeRange) -> bool {
        self.range.overlaps(range) && self.matchers.iter().all(|m| m.matches_labels(labels))
    }

    fn concerns(&self, segment: &Segment) -> bool {
        let meta = segment.meta();
        self.signal == meta.signal
            && self.tenant == meta.origin.tenant
            && segment.generation() < self.generation
            && self.range.overlaps(meta.range)
    }
}

/// A consistent state of the store.
#[derive(Clone)]
pub(crate) struct View {
    /// In ascending order of their generations.
    pub(crate) segments: Arc<Vec<Arc<Segment>>>,
    pub(crate) tombstones: Arc<Vec<Tombstone>>,
    /// Earliest first.
    pub(crate) frozen: Vec<FrozenHead>,
    /// When the generation that takes rows began to.
    pub(crate) since: TimestampNs,
    /// The generation that takes rows.
    pub(crate) active: Arc<HeadData>,
}

impl View {
    /// Generations of the head, earliest first.
    pub(crate) fn heads(&self) -> impl Iterator<Item = &Arc<HeadData>> {
        self.frozen
            .iter()
            .map(|frozen| &frozen.data)
            .chain(std::iter::once(&self.active))
    }

    /// Segments of a tenant and signal that may have rows in the range, earliest arrival first.
    pub(crate) fn segments_of<'a>(
        &'a self,
        tenant: &'a TenantId,
        signal: Signal,
        range: TimeRange,
    ) -> impl Iterator<Item = &'a Arc<Segment>> {
        self.segments.iter().filter(move |segment| {
            let meta = segment.meta();
            meta.signal == signal && meta.origin.tenant == *tenant && meta.range.overlaps(range)
        })
    }
}
