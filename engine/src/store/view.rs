//! What a reader pins: generations of the head, live segments and tombstones, replaced as a whole.
//! Received rows of the generation that takes rows go on growing in it; derived rows do not.
//!
//! Invariant: a row is in exactly one source of a view. Sealing publishes the segments of a frozen
//! generation and takes the generation away in one replacement; compaction swaps segments likewise.

use std::sync::Arc;

use super::segments::Segment;
use crate::context::TenantId;
use crate::head::data::HeadData;
use crate::head::derived::DerivedHead;
use crate::manifest::Tombstone;
use crate::model::arrived::ArrivedRow;
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
    pub(crate) derived: Arc<DerivedHead>,
}

/// What a tombstone hides.
pub(crate) trait Hides {
    /// Whether it hides rows of this series or stream in `range`.
    fn covers(&self, labels: &Labels, range: TimeRange) -> bool;

    /// Whether it may hide rows of a segment: those that arrived before it.
    fn concerns(&self, segment: &Segment) -> bool;

    /// Whether the rows are gone for good: not so when a range of derived rows was replaced, which
    /// reads as of an earlier moment still see.
    fn erases(&self) -> bool;

    /// Takes away what it hides of rows whose series and segment it concerns: for good, or until when.
    fn apply(&self, rows: &mut Vec<ArrivedRow>);
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
            && (self.derivation.is_none()
                || self.derivation.as_deref() == meta.origin.derivation.as_deref())
    }

    fn erases(&self) -> bool {
        self.derivation.is_none()
    }

    fn apply(&self, rows: &mut Vec<ArrivedRow>) {
        if self.erases() {
            rows.retain(|row| !row.is_in(self.range));
            return;
        }
        for row in rows.iter_mut().filter(|row| row.is_in(self.range)) {
            row.until = row.until.min(self.arrival.0);
        }
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
    /// Its derived rows.
    pub(crate) derived: Arc<DerivedHead>,
}

impl View {
    /// Generations of the head, earliest first.
    pub(crate) fn heads(&self) -> impl Iterator<Item = &Arc<HeadData>> {
        self.frozen
            .iter()
            .map(|frozen| &frozen.data)
            .chain(std::iter::once(&self.active))
    }

    /// Derived rows of the generations of the head, earliest first.
    pub(crate) fn derived_heads(&self) -> impl Iterator<Item = &Arc<DerivedHead>> {
        self.frozen
            .iter()
            .map(|frozen| &frozen.derived)
            .chain(std::iter::once(&self.derived))
    }

    /// Whether the series at a slot has rows in any generation of the head.
    pub(crate) fn has_rows(&self, slot: u32) -> bool {
        self.heads().any(|head| head.has_rows(slot))
            || self.derived_heads().any(|derived| derived.has(slot))
    }

    /// Estimated bytes of the rows in the head.
    pub(crate) fn head_bytes(&self) -> u64 {
        let received: u64 = self.heads().map(|head| head.bytes()).sum();
        received + self.derived_heads().map(|head| head.bytes()).sum::<u64>()
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
