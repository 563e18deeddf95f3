//! What a backup consists of, fixed at one moment.
//!
//! A store that writes seals its head first, so that all rows acknowledged before are in segments.
//! State documents are taken while nothing can reach the log, between the rows that are in and those
//! that are not: a document that says how far somebody had got never runs ahead of the rows.
//! Deletions are taken with the segments they hide rows of; one that arrives during the seal may be in.
//!
//! The pinned segments stay readable although merges remove their files: they are mapped.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::MutexGuard;

use super::target::Target;
use crate::error::Result;
use crate::head::seal::{NewSegment, SegmentPlace, Unsaved};
use crate::manifest::{Manifest, SegmentEntry};
use crate::model::{Generation, SegmentId};
use crate::segment::FILE_SUFFIX;
use crate::state::StateStore;
use crate::store::engine::Engine;
use crate::store::read_only::Tail;
use crate::store::segments::Segment;
use crate::store::view::FrozenHead;
use crate::wal::LogStart;

/// Segments that a reader makes of what it read from the log get ids from the next multiple of this,
/// far from those that the writer will give to its own.
const READER_ID_STEP: u64 = 1 << 32;

/// A consistent state of a store.
pub(super) struct Pin<'a> {
    /// The manifest of the copy: an empty log, no state file yet, no segments for `head` yet.
    pub(super) manifest: Manifest,
    /// The open files of the segments that it names.
    pub(super) segments: Vec<Arc<Segment>>,
    /// Content of the file with the state documents; `None` without documents.
    pub(super) state: Option<Vec<u8>>,
    /// Rows that a reader has in memory and no segment holds; it does not read on meanwhile.
    head: Option<(FrozenHead, MutexGuard<'a, Tail>)>,
    /// Metrics of which something is known that no segment says: the log has it, and the copy has none.
    unsaved: Unsaved,
}

impl Engine {
    /// Fixes what there is now.
    pub(super) fn pin(&self, skip_head: bool) -> Result<Pin<'_>> {
        if self.tail().is_some() {
            return self.pin_reader(skip_head);
        }
        let _one_at_a_time = self.maintenance.lock();
        let state = match skip_head {
            true => self.state.fork(),
            false => self.seal_now(|| self.state.fork())?,
        };
        let mut pin = self.pin_view(&state);
        if !skip_head {
            pin.unsaved = self.unsaved_metadata();
        }
        Ok(pin)
    }

    fn unsaved_metadata(&self) -> Unsaved {
        let view = self.view();
        let heads = view.heads().map(|head| head.metadata.lock().clone());
        heads.flatten().collect()
    }

    fn pin_reader(&self, skip_head: bool) -> Result<Pin<'_>> {
        self.refresh()?;
        let tail = self.tail().map(parking_lot::Mutex::lock);
        let mut pin = self.pin_view(&self.state.fork());
        let view = self.view();
        if skip_head {
            return Ok(pin);
        }
        pin.unsaved = self.unsaved_metadata();
        if let Some(tail) = tail
            && !(view.active.is_empty() && view.derived.is_empty())
        {
            // Higher than every deletion that was applied to the rows.
            let generation = Generation(pin.manifest.generation.0 + 1);
            pin.manifest.generation = generation;
            let head = FrozenHead {
                generation,
                sequence: 0,
                since: view.since,
                data: Arc::clone(&view.active),
                derived: Arc::clone(&view.derived),
            };
            pin.head = Some((head, tail));
        }
        Ok(pin)
    }

    /// Segments, deletions and documents; called while the set of segments cannot change.
    fn pin_view(&self, state: &StateStore) -> Pin<'_> {
        let view = self.view();
        let mut manifest = self.manifest.lock().clone();
        manifest.generation = self.generation().max(manifest.generation);
        manifest.log = LogStart::default();
        manifest.state = None;
        manifest.tombstone_id_next = manifest.generation.0 + 1;
        manifest.tombstones = view.tombstones.to_vec();
        for tombstone in &mut manifest.tombstones {
            // It numbers a record of a log that the copy does not have.
            tombstone.sequence = 0;
        }
        Pin {
            state: (state.size().0 > 0).then(|| state.snapshot(manifest.generation).1),
            segments: view.segments.to_vec(),
            manifest,
            head: None,
            unsaved: Unsaved::new(),
        }
    }

    /// Writes what a reader has in memory, and metadata that no segment says, into segments of the
    /// target, and names them in the pinned manifest.
    pub(super) fn write_head(&self, target: &Target, pin: &mut Pin<'_>) -> Result<Vec<NewSegment>> {
        let head = pin.head.take();
        if head.is_none() && pin.unsaved.is_empty() {
            return Ok(Vec::new());
        }
        let manifest = &mut pin.manifest;
        let present = target.fs.list(&target.dir)?;
        let ids = present
            .iter()
            .filter_map(|name| name.strip_suffix(FILE_SUFFIX)?.parse::<u64>().ok());
        let after_present = ids.max().map_or(0, |id| id.saturating_add(1));
        let base = (manifest.segment_id_next / READER_ID_STEP + 1).saturating_mul(READER_ID_STEP);
        let next = AtomicU64::new(base.max(after_present));
        let next_id = || SegmentId(next.fetch_add(1, Ordering::Relaxed));
        let place = SegmentPlace {
            fs: &target.fs,
            dir: &target.dir,
            next_id: &next_id,
        };
        let mut written = match &head {
            Some((head, _tail)) => self.write_segments(&place, head, &mut pin.unsaved)?,
            None => Vec::new(),
        };
        let generation = manifest.generation;
        written.extend(self.write_metadata(&place, generation, &pin.unsaved)?);
        if !written.is_empty() {
            manifest.segment_id_next = next_id().0;
        }
        let entries = written.iter().map(|new| SegmentEntry {
            id: new.id,
            identity: new.identity,
            meta: new.meta.clone(),
        });
        manifest.segments.extend(entries);
        Ok(written)
    }
}
