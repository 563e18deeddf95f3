//! Runs as the server keeps them: a book per tenant, fed with what is stored, read by the API.
//!
//! [`RunService`] is a consumer of the [`crate::feed`]; how rows become runs is in
//! `chronolith_query::runs`. At the start the runs of the last day are read back from the store, while
//! newer ones arrive already: rows may be seen twice and in any order.
//!
//! **Invariants**: all books together keep to a share of the memory; a run that is no longer in a book is
//! read from its rows.

pub mod events;
mod explain;
mod shown;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use chronolith_engine::model::TimeRange;
use chronolith_engine::rows::{LogBatch, SpanBatch};
use chronolith_engine::{EngineError, RequestContext, Store, TenantId};
use chronolith_query::runs::{BookAccess, BookLimits, RunBook, RunFilter, RunReader, StoredRuns};
use parking_lot::{Mutex, RwLock};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

pub use explain::{Detail, explain};
pub use shown::Summary;

use crate::config::RunsConfig;
use crate::feed::RowConsumer;
use crate::telemetry::now_ms;

/// Tenants with a book; rows of others are not looked at.
const TENANTS_MAX: usize = 1_000;
/// How much later than now a row may claim to be and still be read back at the start.
const AHEAD_NS: i64 = 3_600_000_000_000;
/// Runs that are folded to answer one question about the past.
const PAST_RUNS_MAX: usize = 50_000;
/// Bytes that they may take.
const PAST_BYTES_MAX: usize = 64 << 20;
/// Runs under way that a new listener is told of.
const GREETED_MAX: usize = 500;

/// Now, in nanoseconds since the epoch.
#[must_use]
pub fn now_ns() -> i64 {
    now_ms().saturating_mul(1_000_000)
}

/// The runs of one tenant.
#[derive(Debug)]
pub struct TenantRuns {
    book: Mutex<RunBook>,
    /// The count of changes, for those who wait for one.
    changed: watch::Sender<u64>,
}

impl TenantRuns {
    fn change<T>(&self, work: impl FnOnce(&mut RunBook) -> T) -> T {
        let mut book = self.book.lock();
        let before = book.change();
        let answer = work(&mut book);
        let after = book.change();
        drop(book);
        if after != before {
            self.changed.send_replace(after);
        }
        answer
    }
}

/// Enters rows into a book that is in use.
struct Shared<'b>(&'b TenantRuns);

impl BookAccess for Shared<'_> {
    fn with<T>(&mut self, work: impl FnOnce(&mut RunBook) -> T) -> T {
        self.0.change(work)
    }
}

/// Runs of all tenants.
#[derive(Debug)]
pub struct RunService {
    config: RunsConfig,
    reader: RunReader,
    bytes_max: usize,
    began: i64,
    tenants: RwLock<HashMap<TenantId, Arc<TenantRuns>>>,
    listeners: Arc<Semaphore>,
}

/// A listener: what changed since it looked last.
#[derive(Debug)]
pub struct Listener {
    runs: Arc<TenantRuns>,
    changed: watch::Receiver<u64>,
    pipeline: Option<String>,
    run: Option<String>,
    seen: u64,
    greeted: bool,
    _place: OwnedSemaphorePermit,
}

impl RunService {
    /// None yet; books may take `bytes_max` bytes.
    #[must_use]
    pub fn new(config: RunsConfig, bytes_max: usize) -> Self {
        let listeners = config.listeners_max.min(Semaphore::MAX_PERMITS);
        Self {
            reader: RunReader::new(config.names.clone()),
            config,
            bytes_max,
            began: now_ns(),
            tenants: RwLock::default(),
            listeners: Arc::new(Semaphore::new(listeners)),
        }
    }

    /// How it was configured.
    #[must_use]
    pub fn config(&self) -> &RunsConfig {
        &self.config
    }

    fn limits(&self, tenants: usize) -> BookLimits {
        BookLimits {
            runs_max: self.config.kept_max,
            bytes_max: self.bytes_max / tenants.max(1),
            lost_after_ns: i64::try_from(self.config.lost_after.as_nanos()).unwrap_or(i64::MAX),
            ..BookLimits::default()
        }
    }

    fn known(&self, tenant: &TenantId) -> Option<Arc<TenantRuns>> {
        self.tenants.read().get(tenant).cloned()
    }

    /// The runs of a tenant, a new book if there is none; `None` when there are too many.
    fn tenant(&self, tenant: &TenantId) -> Option<Arc<TenantRuns>> {
        if let Some(runs) = self.known(tenant) {
            return Some(runs);
        }
        let mut tenants = self.tenants.write();
        if let Some(runs) = tenants.get(tenant) {
            return Some(Arc::clone(runs));
        }
        if tenants.len() >= TENANTS_MAX {
            return None;
        }
        // Declared schedules are those of the default tenant.
        let schedules = match *tenant == TenantId::default() {
            true => self.config.schedules.clone(),
            false => Vec::new(),
        };
        let limits = self.limits(tenants.len() + 1);
        for runs in tenants.values() {
            runs.book.lock().set_bytes_max(limits.bytes_max);
        }
        let runs = Arc::new(TenantRuns {
            book: Mutex::new(RunBook::new(limits, schedules, self.began)),
            changed: watch::Sender::new(0),
        });
        tenants.insert(tenant.clone(), Arc::clone(&runs));
        Some(runs)
    }

    /// Reads the runs of the last day (or what is configured) back from the store. Blocks; rows that
    /// arrive meanwhile are entered meanwhile.
    pub fn read_back(&self, store: &Store) {
        if !self.config.enabled {
            return;
        }
        // So that declared schedules are watched before the first run.
        if !self.config.schedules.is_empty() {
            self.tenant(&TenantId::default());
        }
        let began = Instant::now();
        let back = i64::try_from(self.config.read_back.as_nanos()).unwrap_or(i64::MAX);
        let since = self.began.saturating_sub(back);
        for tenant in store.tenants() {
            match self.read_back_tenant(store, &tenant, since) {
                Ok(0) => {}
                Ok(runs) => tracing::info!(
                    tenant = tenant.as_str(),
                    runs,
                    ms = began.elapsed().as_millis(),
                    "runs read back"
                ),
                Err(error) => {
                    let tenant = tenant.as_str();
                    tracing::warn!(tenant, %error, "runs could not be read back");
                }
            }
        }
    }

    fn read_back_tenant(
        &self,
        store: &Store,
        tenant: &TenantId,
        since: i64,
    ) -> Result<usize, EngineError> {
        let context = RequestContext::for_tenant(tenant.clone());
        let snapshot = store.pin(&context)?;
        let stored = StoredRuns {
            snapshot: &snapshot,
            context: &context,
            reader: &self.reader,
            now: self.began,
        };
        let range = TimeRange::new(since, self.began.saturating_add(AHEAD_NS));
        if !stored.has_any(range)? {
            return Ok(0);
        }
        let Some(runs) = self.tenant(tenant) else {
            return Ok(0);
        };
        let silent = i64::try_from(self.config.lost_after.as_nanos()).unwrap_or(i64::MAX);
        let lines_since = self.began.saturating_sub(silent);
        stored.read_range(range, lines_since, &mut Shared(&runs))?;
        Ok(runs.change(|book| {
            book.complete_from(since);
            book.len()
        }))
    }

    /// Runs that pass, newest first, at most `limit`, as JSON. What the book no longer has is read from
    /// the store if the filter begins earlier. Blocks.
    ///
    /// # Errors
    /// What the store says; the context's deadline.
    pub fn list(
        &self,
        store: &Store,
        context: &RequestContext,
        filter: &RunFilter,
        limit: usize,
    ) -> Result<String, EngineError> {
        let now = now_ns();
        let runs = self.known(&context.tenant);
        let complete = runs
            .as_ref()
            .map_or(self.began, |runs| runs.book.lock().complete_since());
        let mut past = RunBook::new(self.past_limits(), Vec::new(), now);
        if let Some(start) = filter.start.filter(|start| *start < complete) {
            let snapshot = store.pin(context)?;
            let stored = StoredRuns {
                snapshot: &snapshot,
                context,
                reader: &self.reader,
                now,
            };
            // Runs that began before the range may reach into it, others end behind it.
            let end = filter.end.unwrap_or(complete).min(complete);
            let reach = AHEAD_NS.max(end.saturating_sub(start));
            let range = TimeRange::new(start.saturating_sub(reach), end.saturating_add(reach));
            stored.read_range(range, i64::MAX, &mut past)?;
        }
        let book = runs.as_ref().map(|runs| runs.book.lock());
        let mut found: Vec<(&RunBook, _)> = Vec::new();
        if let Some(book) = &book {
            let kept = book.list(filter, now, limit);
            found.extend(kept.into_iter().map(|run| (&**book, run)));
        }
        let is_kept = |id: &str| book.as_ref().is_some_and(|book| book.get(id).is_some());
        let old = past.list(filter, now, usize::MAX).into_iter();
        let old = old.filter(|run| !is_kept(&run.run_id)).take(limit);
        found.extend(old.map(|run| (&past, run)));
        found.sort_by_key(|(_, run)| std::cmp::Reverse(run.began()));
        found.truncate(limit);
        let mut out = String::from("{\"runs\":[");
        for (place, (book, run)) in found.into_iter().enumerate() {
            if place > 0 {
                out.push(',');
            }
            out.push_str(&Summary::of(book, run, now).to_json());
        }
        out.push_str("]}");
        Ok(out)
    }

    fn past_limits(&self) -> BookLimits {
        BookLimits {
            runs_max: PAST_RUNS_MAX,
            bytes_max: PAST_BYTES_MAX,
            ..self.limits(1)
        }
    }

    /// All that is known of a run, by its id or that of its trace. Blocks.
    ///
    /// # Errors
    /// What the store says; the context's deadline.
    pub fn detail(
        &self,
        store: &Store,
        context: &RequestContext,
        id: &str,
    ) -> Result<Option<Detail>, EngineError> {
        let now = now_ns();
        let runs = self.known(&context.tenant);
        let kept = runs.as_ref().and_then(|runs| {
            let book = runs.book.lock();
            let run = book.get(id)?.clone();
            let history = book.history(&run.pipeline).cloned();
            let state = book.state_of(&run, now);
            let progress = book.progress(&run, now);
            Some((run, history, state, progress))
        });
        let snapshot = store.pin(context)?;
        let (run, history, state, progress) = match kept {
            Some(kept) => kept,
            None => {
                let stored = StoredRuns {
                    snapshot: &snapshot,
                    context,
                    reader: &self.reader,
                    now,
                };
                let mut past = RunBook::new(self.past_limits(), Vec::new(), now);
                let Some(run) = stored.read_run(id, &mut past)? else {
                    return Ok(None);
                };
                let book = runs.as_ref().map(|runs| runs.book.lock());
                let history = book
                    .as_ref()
                    .and_then(|b| b.history(&run.pipeline).cloned());
                let (state, progress) = match &book {
                    Some(book) => (book.state_of(&run, now), book.progress(&run, now)),
                    None => (past.state_of(&run, now), past.progress(&run, now)),
                };
                (run, history, state, progress)
            }
        };
        let summary = Summary::new(&run, state, progress, now);
        let names = self.reader.names();
        explain(&snapshot, context, names, summary, &run, history.as_ref()).map(Some)
    }

    /// A place among those who listen to a tenant's runs; `None` if all are taken.
    #[must_use]
    pub fn listen(
        &self,
        tenant: &TenantId,
        pipeline: Option<String>,
        run: Option<String>,
    ) -> Option<Listener> {
        let place = Arc::clone(&self.listeners).try_acquire_owned().ok()?;
        let runs = self.tenant(tenant)?;
        let changed = runs.changed.subscribe();
        let seen = runs.book.lock().change();
        Some(Listener {
            runs,
            changed,
            pipeline,
            run,
            seen,
            greeted: false,
            _place: place,
        })
    }

    /// Wakes all listeners, so that they see that the server ends.
    pub fn wake_listeners(&self) {
        for runs in self.tenants.read().values() {
            runs.changed.send_modify(|_| {});
        }
    }

    /// How many runs are in memory, and about how many bytes they take.
    #[must_use]
    pub fn usage(&self) -> (usize, usize) {
        let tenants: Vec<_> = self.tenants.read().values().cloned().collect();
        tenants.iter().fold((0, 0), |(count, bytes), runs| {
            let book = runs.book.lock();
            (count + book.len(), bytes + book.bytes())
        })
    }
}

impl Listener {
    /// Waits until something may have changed; `false` when the server ends.
    pub async fn changed(&mut self) -> bool {
        self.changed.changed().await.is_ok()
    }

    /// The runs that changed since the last call, at most `limit`, each once and as it is now, as JSON;
    /// at first those that are under way. Whether there are more.
    pub fn take(&mut self, limit: usize) -> (Vec<String>, bool) {
        self.changed.mark_unchanged();
        let now = now_ns();
        let book = self.runs.book.lock();
        if !std::mem::replace(&mut self.greeted, true) {
            let filter = RunFilter::default();
            let runs = book.list(&filter, now, usize::MAX).into_iter();
            let live = runs.filter(|run| !run.state.is_final() && self.wants(run));
            let shown = live.take(GREETED_MAX);
            let shown = shown.map(|run| Summary::of(&book, run, now).to_json());
            return (shown.collect(), false);
        }
        let (runs, reached) = book.changed_since(self.seen, limit);
        let is_cut = reached < book.change();
        let wanted = runs.into_iter().filter(|run| self.wants(run));
        let shown = wanted.map(|run| Summary::of(&book, run, now).to_json());
        let shown = shown.collect();
        self.seen = reached;
        (shown, is_cut)
    }

    fn wants(&self, run: &chronolith_query::runs::Run) -> bool {
        self.pipeline.as_ref().is_none_or(|p| *p == run.pipeline)
            && self.run.as_ref().is_none_or(|id| *id == run.run_id)
    }
}

impl RowConsumer for RunService {
    fn wants_logs(&self, batch: &LogBatch) -> bool {
        self.config.enabled && self.reader.concerns_logs(batch)
    }

    fn wants_spans(&self, batch: &SpanBatch) -> bool {
        self.config.enabled && self.reader.concerns_spans(batch)
    }

    fn logs(&self, tenant: &TenantId, batch: &LogBatch) {
        if let Some(runs) = self.tenant(tenant) {
            runs.change(|book| self.reader.log_batch(batch, book));
        }
    }

    fn spans(&self, tenant: &TenantId, batch: &SpanBatch) {
        if let Some(runs) = self.tenant(tenant) {
            runs.change(|book| self.reader.span_batch(batch, book));
        }
    }

    fn tick(&self, now: i64) {
        let tenants: Vec<_> = self.tenants.read().values().cloned().collect();
        for runs in tenants {
            runs.change(|book| book.tick(now));
        }
    }
}
