//! What all handles of a store share.
//!
//! Locks, in the order in which they are taken: `maintenance` (one seal, merge or deletion of files
//! at a time), `gate` (shared by commits, exclusive for starting a new generation of the head),
//! `applying` (one record at a time), `view` (swapped in a moment). No lock is held while waiting for the disk but `maintenance`.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use hashbrown::HashMap;
use parking_lot::{Mutex, RwLock};

use super::merge_counts::MergeCounts;
use super::snapshot::Pins;
use super::swap::Swap;
use super::view::View;
use crate::context::{CancelToken, TenantId};
use crate::error::{EngineError, Result};
use crate::head::series_table::{SeriesTable, TenantIndex};
use crate::head::tenant::Tenant;
use crate::io::SharedFileSystem;
use crate::manifest::Manifest;
use crate::model::{Generation, SeriesRef, TimestampNs};
use crate::options::{StoreOptions, TenantLimits};
use crate::state::StateStore;
use crate::wal::ReplayReport;

/// Proves that a session is open: series that it may have looked up are kept.
pub(crate) type SessionToken = Arc<()>;

/// Series that left the head; their slots are reused once no session can hold their references.
pub(crate) struct Evicted {
    pub(crate) token: SessionToken,
    pub(crate) series: Vec<SeriesRef>,
}

/// The shared part of a store.
pub(crate) struct Inner {
    pub(crate) options: StoreOptions,
    pub(crate) fs: SharedFileSystem,
    /// The data directory.
    pub(crate) dir: PathBuf,
    pub(crate) table: SeriesTable,
    pub(crate) state: StateStore,
    pub(crate) tenants: RwLock<HashMap<TenantId, Arc<Tenant>>>,
    /// Limits that were changed since the store was opened.
    pub(crate) changed_limits: Mutex<HashMap<TenantId, TenantLimits>>,
    pub(crate) view: Swap<View>,
    /// Epoch of the log: grows with each generation of the head, and definitions of series are
    /// repeated in each, so that the log of earlier epochs can go.
    pub(crate) gate: RwLock<u32>,
    pub(crate) maintenance: Mutex<()>,
    /// As it is on disk.
    pub(crate) manifest: Mutex<Manifest>,
    /// Names of files in the directory that no manifest names any more, or none from the next one on.
    pub(crate) leftovers: Mutex<Vec<String>>,
    pub(crate) merges: MergeCounts,
    /// What opening read from the log.
    pub(crate) replayed: ReplayReport,
    pub(crate) sessions: RwLock<SessionToken>,
    pub(crate) evicted: Mutex<Vec<Evicted>>,
    pub(crate) generation: AtomicU64,
    pub(crate) segment_ids: AtomicU64,
    pub(crate) closed: AtomicBool,
    /// Ends merges that are under way when the store is closed.
    pub(crate) shutdown: CancelToken,
    /// As measured last.
    pub(crate) postings_bytes: AtomicU64,
    pub(crate) pins: Pins,
    /// Held while a record is applied, and for a moment when a pin begins.
    pub(crate) applying: Mutex<()>,
}

impl Inner {
    /// What a scan that begins now reads.
    pub(crate) fn view(&self) -> Arc<View> {
        self.view.load()
    }

    /// Replaces the view by what `change` makes of it; in place when no reader holds it.
    pub(crate) fn change_view(&self, change: impl FnOnce(&mut View)) {
        self.view.change(change);
    }

    pub(crate) fn now(&self) -> TimestampNs {
        self.options.clock.now()
    }

    pub(crate) fn generation(&self) -> Generation {
        Generation(self.generation.load(Ordering::Acquire))
    }

    /// Sees to it that coming numbers are higher than this one.
    pub(crate) fn raise_generation(&self, seen: Generation) {
        self.generation.fetch_max(seen.0, Ordering::AcqRel);
    }

    /// Takes the next number.
    pub(crate) fn next_generation(&self) -> Generation {
        Generation(self.generation.fetch_add(1, Ordering::AcqRel) + 1)
    }

    /// Refuses a scan that pins a generation which is gone.
    pub(crate) fn check_generation(&self, pinned: Option<Generation>) -> Result<()> {
        let now = self.generation();
        match pinned {
            Some(pinned) if pinned != now => Err(EngineError::InvalidArgument(format!(
                "generation {pinned} is gone, the store is at {now}"
            ))),
            _ => Ok(()),
        }
    }

    /// Whether rows stay for reads as of then when others take their place.
    pub(crate) fn keeps_superseded(&self) -> bool {
        !self.options.as_of_retention.is_zero()
    }

    /// Refuses reads as of a moment that cannot be told any more.
    pub(crate) fn check_as_of(&self, moment: TimestampNs) -> Result<()> {
        let kept = self.manifest.lock().as_of_since;
        let since = kept.map_or(i64::MAX, |since| since.0.max(self.as_of_horizon()));
        let now = self.now().0;
        // The present can always be read.
        if moment.0 >= since.min(now) {
            return Ok(());
        }
        Err(EngineError::AsOfTooOld {
            moment: moment.0,
            since: since.min(now),
        })
    }

    /// No read goes further back: rows whose place was taken at this time or before can go.
    pub(crate) fn as_of_horizon(&self) -> i64 {
        if !self.keeps_superseded() {
            return i64::MAX;
        }
        let retention = self.options.as_of_retention.as_nanos();
        let retention = i64::try_from(retention).unwrap_or(i64::MAX);
        self.now().0.saturating_sub(retention)
    }

    /// Refuses writes to a store that takes none.
    pub(crate) fn check_writable(&self) -> Result<()> {
        if self.closed.load(Ordering::Acquire) {
            return Err(EngineError::Unavailable("the store is closed".into()));
        }
        let (used, max) = (self.memory_bytes(), self.options.memory_bytes_max);
        if used > max {
            return Err(EngineError::Unavailable(format!(
                "the head takes {used} bytes of {max}; sealing is under way"
            )));
        }
        Ok(())
    }

    /// Estimated bytes of rows, series and indexes in memory.
    pub(crate) fn memory_bytes(&self) -> u64 {
        let view = self.view.load();
        view.head_bytes() + self.pins.held_bytes(&view) + self.index_bytes()
    }

    /// Estimated bytes of series, hash tables and postings.
    pub(crate) fn index_bytes(&self) -> u64 {
        self.postings_bytes.load(Ordering::Relaxed) + self.table.bytes()
    }

    /// Adds up the postings of all tenants: too slow to do with every request.
    pub(crate) fn measure_postings(&self) {
        let all = self.all_tenants();
        let bytes: u64 = all
            .iter()
            .map(|tenant| tenant.postings.read().bytes() as u64)
            .sum();
        self.postings_bytes.store(bytes, Ordering::Relaxed);
    }

    pub(crate) fn tenant(&self, id: &TenantId) -> Option<Arc<Tenant>> {
        self.tenants.read().get(id).map(Arc::clone)
    }

    pub(crate) fn tenant_or_insert(&self, id: &TenantId) -> Arc<Tenant> {
        if let Some(tenant) = self.tenant(id) {
            return tenant;
        }
        // The lock of the limits comes first, as in `set_limits`.
        let changed = self.changed_limits.lock();
        let mut tenants = self.tenants.write();
        let index = tenants.len() as TenantIndex;
        let tenant = tenants.entry(id.clone()).or_insert_with(|| {
            let limits = changed.get(id).cloned();
            let limits = limits.unwrap_or_else(|| self.options.limits_of(id));
            Arc::new(Tenant::new(id.clone(), index, limits))
        });
        Arc::clone(tenant)
    }

    /// What a tenant may have.
    pub(crate) fn limits_of(&self, id: &TenantId) -> TenantLimits {
        let changed = self.changed_limits.lock().get(id).cloned();
        changed.unwrap_or_else(|| self.options.limits_of(id))
    }

    pub(crate) fn set_limits(&self, id: &TenantId, limits: TenantLimits) {
        let mut changed = self.changed_limits.lock();
        changed.insert(id.clone(), limits.clone());
        if let Some(tenant) = self.tenant(id) {
            tenant.set_limits(limits);
        }
    }

    /// All tenants, by index.
    pub(crate) fn all_tenants(&self) -> Vec<Arc<Tenant>> {
        let mut all: Vec<_> = self.tenants.read().values().map(Arc::clone).collect();
        all.sort_by_key(|tenant| tenant.index);
        all
    }

    pub(crate) fn tenant_ids(&self) -> Vec<TenantId> {
        let mut ids: Vec<_> = self.tenants.read().keys().cloned().collect();
        ids.sort();
        ids
    }
}
