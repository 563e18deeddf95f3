//! The store: the only type that an embedder must learn.
//!
//! [`Store`] is a cheap handle; what it does lies in `store/inner.rs` (shared state, commits) and in
//! the modules that it calls: [`crate::append`], [`crate::scan`].

mod backup;
pub(crate) mod changes;
mod commit;
mod engine;
pub(crate) mod inner;
mod maintain;
mod merge_counts;
mod open;
mod read_only;
pub(crate) mod row_kind;
pub(crate) mod segments;
pub(crate) mod snapshot;
mod stats;
mod swap;
mod verify;
pub(crate) mod view;
mod worker;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use crate::append::{Append, Committed, RawSeriesKey};
use crate::compaction::plan::Eagerness;
use crate::context::{RequestContext, TenantId};
use crate::derive::{Derivation, Derive, check_in_range};
use crate::error::Result;
use crate::index::Matcher;
use crate::io::{Disk, Memory, SharedFileSystem};
use crate::model::{
    Exemplar, Generation, Labels, Metadata, SampleColumns, Signal, TimeRange, TimestampNs,
};
use crate::options::{StoreOptions, SyncMode, TenantLimits};
use crate::rows::{LogScanRequest, SpanScanRequest};
use crate::scan::{
    LogBlockScan, LogScan, MetricScan, ScanRequest, SpanBlockScan, SpanScan, listing, row_listing,
};
use crate::state::StateDocument;
use engine::Engine;

pub use backup::{
    BACKUP_FILE, BackupOptions, BackupReport, OnProgress, Pace, Progress, ReadBack, Step,
    UNFINISHED_FILE,
};
pub use changes::{ChangeMark, ChangedSince};
pub use snapshot::Snapshot;
pub use stats::{CardinalityStats, SegmentInfo, StoreStats};
pub use verify::{Finding, VerifySummary, verify_dir};

/// Where the files of a store without files seem to lie.
const MEMORY_DIR: &str = "/memory";

/// A handle on an open store; clones share it.
#[derive(Clone)]
pub struct Store {
    pub(crate) inner: Arc<Engine>,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store")
            .field("generation", &self.generation())
            .finish_non_exhaustive()
    }
}

impl Store {
    /// A store without files: tests, examples, scripts.
    ///
    /// # Errors
    /// Options that contradict each other.
    pub fn in_memory(options: StoreOptions) -> Result<Self> {
        // There is no power cut that memory survives: syncs would only cost.
        let options = StoreOptions {
            sync: SyncMode::Off,
            ..options
        };
        let fs: SharedFileSystem = Arc::new(Memory::new());
        Engine::open(fs, Path::new(MEMORY_DIR), options).map(|inner| Self { inner })
    }

    /// Opens the store in `dir`, or makes one: takes the directory's lock, reads the log back and
    /// starts the background threads.
    ///
    /// # Errors
    /// [`crate::EngineError::Locked`] when another process has it, [`crate::EngineError::Corruption`]
    /// naming a file that is damaged or missing, what the file system refuses.
    pub fn open(dir: impl AsRef<Path>, options: StoreOptions) -> Result<Self> {
        Self::open_on(Arc::new(Disk), dir, options)
    }

    /// Opens the store in `dir` for reading while another process may be writing it: no lock is
    /// taken, appends are refused, [`Store::refresh`] shows what was written since.
    ///
    /// # Errors
    /// No store there, damage, what the file system refuses.
    pub fn open_read_only(dir: impl AsRef<Path>, options: StoreOptions) -> Result<Self> {
        Self::open_read_only_on(Arc::new(Disk), dir, options)
    }

    /// The same on another file system than the disk.
    ///
    /// # Errors
    /// As [`Store::open_read_only`].
    pub fn open_read_only_on(
        fs: SharedFileSystem,
        dir: impl AsRef<Path>,
        options: StoreOptions,
    ) -> Result<Self> {
        Engine::open_read_only(fs, dir.as_ref(), options).map(|inner| Self { inner })
    }

    /// Takes notice of what another process wrote since. Nothing to do for a store that writes.
    ///
    /// # Errors
    /// As [`Store::open_read_only`].
    pub fn refresh(&self) -> Result<()> {
        self.inner.refresh()
    }

    /// Opens or makes a store on another file system than the disk: tests with power cuts and faults.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub fn open_on(
        fs: SharedFileSystem,
        dir: impl AsRef<Path>,
        options: StoreOptions,
    ) -> Result<Self> {
        Engine::open(fs, dir.as_ref(), options).map(|inner| Self { inner })
    }

    /// Begins one request: its rows are stored together or not at all.
    ///
    /// # Errors
    /// When the store takes no writes: read-only, out of memory or disk, or after a failed sync.
    pub fn begin(&self, context: &RequestContext) -> Result<Append<'_>> {
        Append::new(self, context)
    }

    /// Hashes the bytes by which a protocol names a series, for [`Append::lookup`].
    #[must_use]
    pub fn raw_key(&self, bytes: &[u8]) -> RawSeriesKey {
        self.inner.table.raw_key(bytes)
    }

    /// Begins one run of a computation: its rows, and what they replace, are stored together or not at
    /// all.
    ///
    /// # Errors
    /// As [`Store::begin`].
    pub fn derive(&self, context: &RequestContext, derivation: &Derivation) -> Result<Derive<'_>> {
        Derive::new(self, context, derivation)
    }

    /// Replaces, as one commit, what a derivation wrote to matching series in a range by `rows`, which
    /// must lie in it. Points that are not among them are gone. Reads see all of it or nothing.
    ///
    /// # Errors
    /// [`crate::EngineError::InvalidArgument`] for rows outside of the range;
    /// [`crate::EngineError::LimitExceeded`] for new series beyond the tenant's limits; as
    /// [`Append::commit`].
    pub fn replace_range(
        &self,
        context: &RequestContext,
        derivation: &Derivation,
        matchers: &[Matcher],
        range: TimeRange,
        rows: &[(Labels, SampleColumns)],
    ) -> Result<Committed> {
        check_in_range(rows, range)?;
        let mut derive = self.derive(context, derivation)?;
        derive.replace(matchers, range);
        for (labels, columns) in rows {
            let series = derive.define(labels)?;
            derive.columns(series, columns);
        }
        derive.commit()
    }

    /// Pins the present: scans and listings of the snapshot agree with each other, whatever happens
    /// meanwhile.
    ///
    /// # Errors
    /// A context that was cancelled or has timed out.
    pub fn pin(&self, context: &RequestContext) -> Result<Snapshot> {
        Snapshot::new(&self.inner, context, None)
    }

    /// The metrics as they were at an earlier moment, by the time of arrival: without what came later,
    /// with what was overwritten or replaced since. What was deleted since is gone from there too.
    ///
    /// A row that arrived within a minute of its own time counts as arrived at that time.
    ///
    /// # Errors
    /// [`crate::EngineError::AsOfTooOld`] beyond [`StoreOptions::as_of_retention`] or before the store
    /// was first opened with one.
    pub fn pin_as_of(&self, context: &RequestContext, moment: TimestampNs) -> Result<Snapshot> {
        Snapshot::new(&self.inner, context, Some(moment))
    }

    /// Selects metric series and pins what they are read from.
    ///
    /// # Errors
    /// A context that was cancelled or has timed out; a pinned generation that is gone.
    pub fn scan_metrics(
        &self,
        context: &RequestContext,
        request: &ScanRequest,
    ) -> Result<MetricScan> {
        context.check()?;
        self.inner.check_generation(request.generation)?;
        MetricScan::new(&self.inner, context, request, self.inner.read_now())
    }

    /// Log records in batches, ordered by (stream, time).
    ///
    /// # Errors
    /// As [`Store::scan_metrics`].
    pub fn scan_logs(&self, context: &RequestContext, request: &ScanRequest) -> Result<LogScan> {
        context.check()?;
        self.inner.check_generation(request.generation)?;
        LogScan::new(&self.inner, context, request, &self.inner.read_now())
    }

    /// Spans in batches, ordered by (stream, time).
    ///
    /// # Errors
    /// As [`Store::scan_metrics`].
    pub fn scan_spans(&self, context: &RequestContext, request: &ScanRequest) -> Result<SpanScan> {
        context.check()?;
        self.inner.check_generation(request.generation)?;
        SpanScan::new(&self.inner, context, request, &self.inner.read_now())
    }

    /// Log records as blocks of columns: exactly the rows that pass, and of them what was asked for.
    ///
    /// # Errors
    /// As [`Store::scan_metrics`]; while it is read: damage, and a context that was cancelled or is late.
    pub fn scan_log_blocks(
        &self,
        context: &RequestContext,
        request: &LogScanRequest,
    ) -> Result<LogBlockScan> {
        LogBlockScan::new(&self.inner, context, request, &self.inner.read_now())
    }

    /// Spans as blocks of columns; of a span that was written several times the last version.
    ///
    /// # Errors
    /// As [`Store::scan_log_blocks`].
    pub fn scan_span_blocks(
        &self,
        context: &RequestContext,
        request: &SpanScanRequest,
    ) -> Result<SpanBlockScan> {
        SpanBlockScan::new(&self.inner, context, request, &self.inner.read_now())
    }

    /// Label names of the streams of a signal (log records or spans), sorted. From tables, without
    /// reading rows: streams count that lie in a segment with rows in the range.
    ///
    /// # Errors
    /// As [`Store::label_names`]; [`crate::EngineError::InvalidArgument`] for metrics.
    pub fn stream_label_names(
        &self,
        context: &RequestContext,
        signal: Signal,
        matchers: &[Matcher],
        range: TimeRange,
    ) -> Result<Vec<String>> {
        let at = self.inner.read_now();
        row_listing::label_names((&self.inner, &at), context, signal, matchers, range)
    }

    /// Values of a label over the streams of a signal, sorted; as [`Store::stream_label_names`].
    ///
    /// # Errors
    /// As [`Store::stream_label_names`].
    pub fn stream_label_values(
        &self,
        context: &RequestContext,
        signal: Signal,
        name: &str,
        matchers: &[Matcher],
        range: TimeRange,
    ) -> Result<Vec<String>> {
        let at = self.inner.read_now();
        row_listing::label_values((&self.inner, &at), context, signal, name, matchers, range)
    }

    /// Labels of the streams of a signal that pass any of the matcher sets, sorted, no duplicates; as
    /// [`Store::stream_label_names`].
    ///
    /// # Errors
    /// As [`Store::stream_label_names`].
    pub fn streams(
        &self,
        context: &RequestContext,
        signal: Signal,
        matcher_sets: &[Vec<Matcher>],
        range: TimeRange,
    ) -> Result<Vec<Labels>> {
        let at = self.inner.read_now();
        row_listing::streams((&self.inner, &at), context, signal, matcher_sets, range)
    }

    /// Keys of attributes of log records or spans (events and links included), sorted; empty for metrics.
    ///
    /// # Errors
    /// As [`Store::label_names`].
    pub fn attribute_keys(
        &self,
        context: &RequestContext,
        signal: Signal,
        range: TimeRange,
    ) -> Result<Vec<String>> {
        let at = self.inner.read_now();
        row_listing::attribute_keys((&self.inner, &at), context, signal, range)
    }

    /// Label names of the selected metric series, sorted.
    ///
    /// # Errors
    /// A context that was cancelled or has timed out; damaged data.
    pub fn label_names(
        &self,
        context: &RequestContext,
        matchers: &[Matcher],
        range: TimeRange,
        limit: Option<usize>,
    ) -> Result<Vec<String>> {
        let at = self.inner.read_now();
        listing::label_names(&self.inner, &at, context, matchers, range, limit)
    }

    /// Values of one label over the selected metric series, sorted.
    ///
    /// # Errors
    /// As [`Store::label_names`].
    pub fn label_values(
        &self,
        context: &RequestContext,
        name: &str,
        matchers: &[Matcher],
        range: TimeRange,
        limit: Option<usize>,
    ) -> Result<Vec<String>> {
        let at = self.inner.read_now();
        listing::label_values(&self.inner, &at, context, name, matchers, range, limit)
    }

    /// Calls `visit` with each label name over the selected metric series, in no order, some more than
    /// once: for whoever looks for few among many and need not hold them all.
    ///
    /// # Errors
    /// Cancelled or late; corrupt segments; what `visit` answers, which ends the walk.
    pub fn visit_label_names(
        &self,
        context: &RequestContext,
        matchers: &[Matcher],
        range: TimeRange,
        visit: &mut dyn FnMut(&str) -> Result<()>,
    ) -> Result<()> {
        let at = self.inner.read_now();
        listing::visit_label_names(&self.inner, &at, context, matchers, range, visit)
    }

    /// Calls `visit` with each value of one label over the selected metric series, in no order, some
    /// more than once.
    ///
    /// # Errors
    /// As [`visit_label_names`](Self::visit_label_names).
    pub fn visit_label_values(
        &self,
        context: &RequestContext,
        name: &str,
        matchers: &[Matcher],
        range: TimeRange,
        visit: &mut dyn FnMut(&str) -> Result<()>,
    ) -> Result<()> {
        let at = self.inner.read_now();
        listing::visit_label_values(&self.inner, &at, context, name, matchers, range, visit)
    }

    /// Label sets of the metric series that pass any of the matcher sets, sorted, no duplicates.
    ///
    /// # Errors
    /// As [`Store::label_names`].
    pub fn series(
        &self,
        context: &RequestContext,
        matcher_sets: &[Vec<Matcher>],
        range: TimeRange,
        limit: Option<usize>,
    ) -> Result<Vec<Labels>> {
        let at = self.inner.read_now();
        listing::series(&self.inner, &at, context, matcher_sets, range, limit)
    }

    /// Type, unit and help of one metric or of all, newest first.
    ///
    /// # Errors
    /// A context that was cancelled or has timed out.
    pub fn metadata(
        &self,
        context: &RequestContext,
        metric: Option<&str>,
    ) -> Result<BTreeMap<String, Vec<Metadata>>> {
        context.check()?;
        let Some(tenant) = self.inner.tenant(&context.tenant) else {
            return Ok(BTreeMap::new());
        };
        let all = tenant.metadata.read();
        Ok(match metric {
            None => all.clone(),
            Some(name) => all
                .get(name)
                .map(|found| (name.to_owned(), found.clone()))
                .into_iter()
                .collect(),
        })
    }

    /// Exemplars of matching series, by series, oldest first.
    ///
    /// # Errors
    /// A context that was cancelled or has timed out.
    pub fn exemplars(
        &self,
        context: &RequestContext,
        matchers: &[Matcher],
        range: TimeRange,
    ) -> Result<Vec<(Labels, Vec<Exemplar>)>> {
        listing::exemplars(&self.inner, context, matchers, range)
    }

    /// Deletes matching rows of a signal in a range. They are hidden when this returns; compaction
    /// erases the bytes. Rows that arrive later are not affected.
    ///
    /// # Errors
    /// When the store takes no writes.
    pub fn delete(
        &self,
        context: &RequestContext,
        signal: Signal,
        matchers: &[Matcher],
        range: TimeRange,
    ) -> Result<Generation> {
        self.inner.delete(context, signal, matchers, range)
    }

    /// One state document of the context's tenant.
    ///
    /// # Errors
    /// A context that was cancelled or has timed out.
    pub fn state_get(
        &self,
        context: &RequestContext,
        collection: &str,
        key: &str,
    ) -> Result<Option<StateDocument>> {
        context.check()?;
        Ok(self.inner.state.get(&context.tenant, collection, key))
    }

    /// Writes a state document and returns its new version. `expected_version` makes it a
    /// compare-and-set; `Some(0)` demands that there is none.
    ///
    /// # Errors
    /// [`crate::EngineError::VersionConflict`], or a store that takes no writes.
    pub fn state_put(
        &self,
        context: &RequestContext,
        collection: &str,
        key: &str,
        expected_version: Option<u64>,
        value: &[u8],
    ) -> Result<u64> {
        self.inner
            .change_state(context, collection, key, expected_version, Some(value))
    }

    /// Removes a state document, if its version is the expected one.
    ///
    /// # Errors
    /// As [`Store::state_put`].
    pub fn state_delete(
        &self,
        context: &RequestContext,
        collection: &str,
        key: &str,
        expected_version: Option<u64>,
    ) -> Result<()> {
        self.inner
            .change_state(context, collection, key, expected_version, None)
            .map(|_| ())
    }

    /// State documents of a collection whose keys begin with a prefix, sorted by key.
    ///
    /// # Errors
    /// A context that was cancelled or has timed out.
    pub fn state_list(
        &self,
        context: &RequestContext,
        collection: &str,
        key_prefix: &str,
        limit: usize,
    ) -> Result<Vec<StateDocument>> {
        context.check()?;
        Ok(self
            .inner
            .state
            .list(&context.tenant, collection, key_prefix, limit))
    }

    /// All tenants that have or had data, sorted.
    #[must_use]
    pub fn tenants(&self) -> Vec<TenantId> {
        self.inner.tenant_ids()
    }

    /// Seals the head into segments, syncs all, and drops the log that is no longer needed.
    ///
    /// # Errors
    /// What the file system refuses.
    pub fn flush(&self) -> Result<()> {
        self.inner.seal()
    }

    /// Brings the store to its final form: sealed, merged, without deleted and expired rows.
    ///
    /// # Errors
    /// What the file system refuses; damaged segments.
    pub fn compact(&self) -> Result<()> {
        self.inner.seal()?;
        self.inner.compact_all(Eagerness::Final)
    }

    /// Makes or renews the backup in `to`, a directory that is empty or a backup of this store. All
    /// that was acknowledged before is in it; segments that it has already are not copied again. It
    /// counts, in place of the one before, when this returns. The store goes on taking writes and
    /// answering meanwhile; a store that was opened for reading can be backed up too.
    ///
    /// # Errors
    /// [`crate::EngineError::InvalidArgument`] for a directory that must not be written to, damage in
    /// a segment, what the file system refuses. The target is then what it was before.
    pub fn backup(
        &self,
        to: impl AsRef<Path>,
        options: &BackupOptions<'_>,
    ) -> Result<BackupReport> {
        self.inner.backup(&self.inner.fs, to.as_ref(), options)
    }

    /// The same into a directory of another file system than the store's.
    ///
    /// # Errors
    /// As [`Store::backup`].
    pub fn backup_on(
        &self,
        fs: &SharedFileSystem,
        to: impl AsRef<Path>,
        options: &BackupOptions<'_>,
    ) -> Result<BackupReport> {
        // A link cannot lead from one file system to another.
        let options = BackupOptions {
            hard_links: false,
            ..*options
        };
        self.inner.backup(fs, to.as_ref(), &options)
    }

    /// Makes another store in the empty directory `to`, with this one's content: to be opened as it
    /// is. With [`BackupOptions::hard_links`] it takes next to no time and space.
    ///
    /// # Errors
    /// As [`Store::backup`].
    pub fn snapshot(
        &self,
        to: impl AsRef<Path>,
        options: &BackupOptions<'_>,
    ) -> Result<BackupReport> {
        self.inner.snapshot(to.as_ref(), options)
    }

    /// Makes a store in the empty directory `to` of the backup or snapshot in `from`. It can be
    /// opened when this returns, and not before; an interrupted restore is continued by the next.
    ///
    /// # Errors
    /// [`crate::EngineError::InvalidArgument`] when `from` is no complete backup or `to` is not
    /// empty, damage in the backup, what the file system refuses.
    pub fn restore(
        from: impl AsRef<Path>,
        to: impl AsRef<Path>,
        options: &BackupOptions<'_>,
    ) -> Result<BackupReport> {
        Self::restore_on(&(Arc::new(Disk) as SharedFileSystem), from, to, options)
    }

    /// The same on another file system than the disk.
    ///
    /// # Errors
    /// As [`Store::restore`].
    pub fn restore_on(
        fs: &SharedFileSystem,
        from: impl AsRef<Path>,
        to: impl AsRef<Path>,
        options: &BackupOptions<'_>,
    ) -> Result<BackupReport> {
        backup::restore(fs, from.as_ref(), to.as_ref(), options)
    }

    /// Erases the bytes of deleted rows: seals, so that the log lets go of them too, and rewrites the
    /// segments that hold some.
    ///
    /// # Errors
    /// What the file system refuses; damaged segments.
    pub fn erase_deleted(&self) -> Result<()> {
        self.inner.seal()?;
        self.inner.compact_all(Eagerness::Erase)
    }

    /// What a tenant may have.
    #[must_use]
    pub fn tenant_limits(&self, tenant: &TenantId) -> TenantLimits {
        self.inner.limits_of(tenant)
    }

    /// Changes what a tenant may have, from the next new series and the next look at retention on.
    /// Not stored: a store that is opened again has what its options say.
    pub fn set_tenant_limits(&self, tenant: &TenantId, limits: TenantLimits) {
        self.inner.set_limits(tenant, limits);
    }

    /// Figures about the store.
    #[must_use]
    pub fn stats(&self) -> StoreStats {
        stats::collect(&self.inner)
    }

    /// The live segments.
    #[must_use]
    pub fn segments(&self) -> Vec<SegmentInfo> {
        stats::segments(&self.inner)
    }

    /// What makes the tenant's index large: the `limit` largest entries of each kind.
    ///
    /// # Errors
    /// A context that was cancelled or has timed out.
    pub fn tsdb_status(&self, context: &RequestContext, limit: usize) -> Result<CardinalityStats> {
        context.check()?;
        Ok(stats::cardinality(&self.inner, context, limit))
    }

    /// The number of the newest change of segments and deletions.
    #[must_use]
    pub fn generation(&self) -> Generation {
        self.inner.generation()
    }

    /// Syncs, and stops the store's threads. Other handles on the store are refused from then on.
    ///
    /// # Errors
    /// What the file system refuses.
    pub fn close(self) -> Result<()> {
        self.inner.close()
    }
}

#[cfg(test)]
mod fault_tests;
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;
