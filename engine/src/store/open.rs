//! Opening: lock, manifest, segments, state documents, log; in this order.
//!
//! Nothing is repaired silently: a file that the manifest names and that is missing, cut or swapped
//! ends the opening with an error that names it. Leftovers of a crash (temporary files, segments that
//! no manifest names, the torn tail of the log) are removed.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use hashbrown::HashMap;
use parking_lot::{Mutex, RwLock};

use super::backup::check_openable;
use super::engine::{Engine, HeadApplier};
use super::inner::Inner;
use super::merge_counts::MergeCounts;
use super::segments::Segment;
use super::snapshot::Pins;
use super::swap::Swap;
use super::view::View;
use crate::context::CancelToken;
use crate::error::{EngineError, Result};
use crate::head::series_table::{SeriesTable, slot_of};
use crate::io::{FileSystem, SharedFileSystem};
use crate::manifest::{MANIFEST_FILE, Manifest};
use crate::model::{Generation, SegmentId, SeriesRef};
use crate::options::{StoreOptions, SyncMode};
use crate::segment::file_name;
use crate::state::StateStore;
use crate::wal::{Record, ReplayReport, Wal, WalOptions, initialize, is_pristine, replay};

/// Log files lie here below the data directory.
pub(crate) const WAL_DIR: &str = "wal";

impl Engine {
    /// Opens or makes a store.
    pub(crate) fn open(
        fs: SharedFileSystem,
        dir: &Path,
        options: StoreOptions,
    ) -> Result<Arc<Self>> {
        let log = wal_options(&options);
        Self::open_with(fs, dir, options, log)
    }

    /// The same with a log of other sizes.
    pub(crate) fn open_with(
        fs: SharedFileSystem,
        dir: &Path,
        options: StoreOptions,
        wal_options: WalOptions,
    ) -> Result<Arc<Self>> {
        let wal_dir = dir.join(WAL_DIR);
        check_openable(&*fs, dir)?;
        fs.create_dir_all(&wal_dir)?;
        let lock = fs.lock(dir)?;
        let manifest = match Manifest::load(&*fs, dir)? {
            Some(manifest) => manifest,
            None => {
                if !is_pristine(&*fs, &wal_dir)? {
                    return Err(lost_manifest(dir));
                }
                // The log comes first: once there is a manifest, a missing log file is a loss.
                initialize(&fs, &wal_dir, &wal_options)?;
                let empty = Manifest::default();
                empty.store(&*fs, dir)?;
                empty
            }
        };
        // It may have been put in place by a process that could not make its name durable: nothing that
        // the one before it names may go until this one is sure to stay.
        fs.sync_dir(dir)?;
        let manifest = note_as_of(manifest, &*fs, dir, &options)?;
        manifest.check_files(&*fs, dir)?;
        manifest.remove_orphans(&*fs, dir)?;
        let start = manifest.log;
        let mut inner = Inner::new(Arc::clone(&fs), dir, options, manifest)?;
        let (report, position) = {
            let mut replayer = Replayer::default();
            replay(&*fs, &wal_dir, start, |sequence, record| {
                let record = replayer.translate(&inner, sequence, record)?;
                inner.apply(sequence, record, 0);
                Ok(())
            })?
        };
        inner.replayed = report;
        let inner = Arc::new(inner);
        let applier = HeadApplier(Arc::clone(&inner));
        let wal = Wal::open(fs, &wal_dir, &position, wal_options, applier)?;
        let engine = Self::for_writing(inner, wal, lock);
        engine.start_worker()?;
        Ok(engine)
    }
}

/// Notes in the manifest since when overwritten rows are kept, if that changes with this opening.
fn note_as_of(
    mut manifest: Manifest,
    fs: &dyn FileSystem,
    dir: &Path,
    options: &StoreOptions,
) -> Result<Manifest> {
    let keeps = !options.as_of_retention.is_zero();
    if keeps == manifest.as_of_since.is_some() {
        return Ok(manifest);
    }
    manifest.as_of_since = keeps.then(|| options.clock.now());
    manifest.generation = Generation(manifest.generation.0 + 1);
    manifest.store(fs, dir)?;
    Ok(manifest)
}

fn lost_manifest(dir: &Path) -> EngineError {
    EngineError::Corruption(crate::error::Corruption {
        path: dir.join(MANIFEST_FILE),
        offset: 0,
        expected: "the manifest of a store that has a log".into(),
        found: "no file".into(),
    })
}

pub(crate) fn wal_options(options: &StoreOptions) -> WalOptions {
    let mut wal = WalOptions {
        sync: options.sync,
        ..WalOptions::default()
    };
    if options.sync == SyncMode::Off {
        // Allocating ahead spares syncs their metadata; without syncs it only takes space.
        wal.preallocate_bytes = 0;
    }
    wal
}

impl Inner {
    /// What manifest and segments say, with an empty head.
    pub(crate) fn new(
        fs: SharedFileSystem,
        dir: &Path,
        options: StoreOptions,
        manifest: Manifest,
    ) -> Result<Self> {
        let segments = open_segments(&*fs, dir, &manifest, &[])?;
        let state = read_state(&*fs, dir, &manifest)?;
        let view = View {
            segments: Arc::new(segments),
            tombstones: Arc::new(manifest.tombstones.clone()),
            frozen: Vec::new(),
            since: options.clock.now(),
            active: Arc::default(),
            derived: Arc::default(),
        };
        let inner = Self {
            options,
            fs,
            dir: dir.to_owned(),
            table: SeriesTable::new(random_seed()),
            state,
            tenants: RwLock::default(),
            changed_limits: Mutex::default(),
            view: Swap::new(view),
            gate: RwLock::new(1),
            maintenance: Mutex::new(()),
            sessions: RwLock::default(),
            evicted: Mutex::default(),
            generation: AtomicU64::new(manifest.generation.0),
            segment_ids: AtomicU64::new(manifest.segment_id_next.saturating_sub(1)),
            closed: AtomicBool::new(false),
            shutdown: CancelToken::default(),
            postings_bytes: AtomicU64::new(0),
            pins: Pins::default(),
            applying: Mutex::new(()),
            replayed: ReplayReport::default(),
            manifest: Mutex::new(manifest),
            leftovers: Mutex::default(),
            merges: MergeCounts::default(),
        };
        inner.learn_from(&inner.view().segments)?;
        Ok(inner)
    }

    /// Tenants and metadata are known from the segments.
    pub(crate) fn learn_from(&self, segments: &[Arc<Segment>]) -> Result<()> {
        // In the order in which they were written: a merged segment may bear the generation of rows
        // that are older than what others say of their metric.
        let mut written: Vec<_> = segments.iter().collect();
        written.sort_by_key(|segment| segment.id);
        for segment in written {
            let tenant = self.tenant_or_insert(&segment.meta().origin.tenant);
            let Some(reader) = segment.metrics() else {
                continue;
            };
            for (metric, all) in reader.metadata()? {
                for metadata in all {
                    tenant.set_metadata(&metric, metadata);
                }
            }
        }
        Ok(())
    }

    pub(crate) fn next_segment_id(&self) -> SegmentId {
        SegmentId(self.segment_ids.fetch_add(1, Ordering::Relaxed) + 1)
    }
}

/// Opens the segments that a manifest names, in order of arrival; those in `open` are taken over.
pub(crate) fn open_segments(
    fs: &dyn FileSystem,
    dir: &Path,
    manifest: &Manifest,
    open: &[Arc<Segment>],
) -> Result<Vec<Arc<Segment>>> {
    let mut segments = Vec::with_capacity(manifest.segments.len());
    for entry in &manifest.segments {
        let known = open.iter().find(|segment| segment.id == entry.id);
        segments.push(match known {
            Some(segment) => Arc::clone(segment),
            None => {
                let path = dir.join(file_name(entry.id));
                Segment::open(fs, &path, entry.id, entry.meta.signal, entry.identity)?
            }
        });
    }
    segments.sort_by_key(|segment| (segment.generation(), segment.id));
    Ok(segments)
}

/// Reads the state documents as the manifest has them.
pub(crate) fn read_state(
    fs: &dyn FileSystem,
    dir: &Path,
    manifest: &Manifest,
) -> Result<StateStore> {
    match &manifest.state {
        None => Ok(StateStore::default()),
        Some(file) => {
            let bytes = file.read(fs, dir)?;
            StateStore::from_snapshot(&dir.join(&file.name), &bytes)
        }
    }
}

/// Turns the series references of the process that wrote the log into those of this one; a later
/// definition of a reference replaces an earlier one.
#[derive(Default)]
pub(crate) struct Replayer {
    /// By slot of the logged reference: the reference and what it became. Samples come in the order of
    /// slots, so that a look-up among a million stays in the cache.
    by_slot: Vec<Option<(SeriesRef, SeriesRef)>>,
    /// References whose slots lie far beyond those seen so far: no writer makes them, but what is read
    /// from a file must not decide how much memory is taken.
    far: HashMap<SeriesRef, SeriesRef>,
}

/// Slots that [`Replayer`] makes room for at once.
const SLOTS_AHEAD: usize = 1 << 16;

impl Replayer {
    fn define(&mut self, logged: SeriesRef, series: SeriesRef) {
        let slot = slot_of(logged) as usize;
        if slot >= self.by_slot.len() + SLOTS_AHEAD {
            self.far.insert(logged, series);
            return;
        }
        if slot >= self.by_slot.len() {
            self.by_slot.resize(slot + 1, None);
        }
        self.by_slot[slot] = Some((logged, series));
    }

    #[inline]
    fn find(&self, logged: SeriesRef) -> Option<SeriesRef> {
        match self.by_slot.get(slot_of(logged) as usize) {
            Some(Some((known, series))) if *known == logged => Some(*series),
            _ => self.far.get(&logged).copied(),
        }
    }

    /// The record as this process would have made it.
    pub(crate) fn translate(
        &mut self,
        inner: &Inner,
        sequence: u64,
        mut record: Record,
    ) -> Result<Record> {
        let tenant = inner.tenant_or_insert(&record.tenant);
        for (logged, labels) in std::mem::take(&mut record.series) {
            // What was acknowledged is taken back whatever the limits are today.
            let admit = || Ok::<(), EngineError>(());
            let series = inner.table.find_or_insert(tenant.owner(), &labels, admit)?;
            self.define(logged, series);
        }
        let translate = |series: &mut SeriesRef| match self.find(*series) {
            Some(known) => {
                *series = known;
                Ok(())
            }
            None => Err(EngineError::Corruption(crate::error::Corruption {
                path: inner.dir.join(WAL_DIR),
                offset: 0,
                expected: format!(
                    "a definition of series {} before record {sequence}",
                    series.0
                ),
                found: "none".into(),
            })),
        };
        record.samples.series.iter_mut().try_for_each(translate)?;
        record
            .histograms
            .iter_mut()
            .try_for_each(|row| translate(&mut row.series))?;
        record
            .exemplars
            .iter_mut()
            .try_for_each(|(series, _)| translate(series))?;
        Ok(record)
    }
}

/// A seed that a client cannot guess: hashes of its bytes must not be steered into collisions.
fn random_seed() -> u64 {
    use std::hash::{BuildHasher, Hasher};
    std::hash::RandomState::new().build_hasher().finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_translated_wherever_their_slots_lie() {
        let mut replayer = Replayer::default();
        let far = SeriesRef(u64::from(u32::MAX));
        let reused = SeriesRef(1 << 32 | 7);
        replayer.define(SeriesRef(7), SeriesRef(1));
        replayer.define(far, SeriesRef(2));
        assert_eq!(replayer.find(SeriesRef(7)), Some(SeriesRef(1)));
        assert_eq!(replayer.find(far), Some(SeriesRef(2)));
        assert_eq!(replayer.find(reused), None);
        replayer.define(reused, SeriesRef(3));
        assert_eq!(replayer.find(reused), Some(SeriesRef(3)));
        assert_eq!(replayer.find(SeriesRef(7)), None);
        assert!(replayer.by_slot.len() < SLOTS_AHEAD);
    }
}
