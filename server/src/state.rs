//! What every handler shares, and the one crossing from async to blocking.
//!
//! The engine blocks: it reads files, takes locks and waits for the disk. Handlers never call it
//! on an async thread; they go through [`AppState::blocking`] or hand it a callback. What may run
//! at the same time is bounded here: queries by number, writes by the bytes that they hold.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use chronolith_engine::{CancelToken, RequestContext, Store, TenantId};
use chronolith_query::logql::eval::{LogQlEngine, LogQlOptions, StoreLogs};
use chronolith_query::promql::features::Features;
use chronolith_query::promql::{PromqlEngine, PromqlOptions};
use chronolith_query::running::QueryRegistry;
use chronolith_query::sql::{SqlEngine, SqlEngineOptions, SqlError};
use parking_lot::{Mutex, RwLock};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::config::{ByteSize, Config, OtlpConfig, Settings};
use crate::error::{ApiError, ErrorType};
use crate::feed::Feed;
use crate::files::{self, LogFiles};
use crate::ingest::loki::repeats::RecentPushes;
use crate::lifecycle::Lifecycle;
use crate::listen::Principal;
use crate::notifications::{Notifications, STOPPING};
use crate::otlp::metrics::translate::Translator;
use crate::process::Processor;
use crate::request::Caller;
use crate::rows::StreamCache;
use crate::runs::RunService;
use crate::scrape::manager::ScrapeManager;
use crate::scrape::pushgateway::Pushgateway;
use crate::span_metrics::{SpanMetricsService, write_stats};
use crate::tails::Tails;
use crate::telemetry::{Exposition, Metrics};

/// Write budgets are counted in this many bytes, so that a semaphore can hold large ones.
const BUDGET_UNIT_BYTES: usize = 1 << 10;
/// The share of the memory that known streams may take.
const STREAM_MEMORY_SHARE: u64 = 64;
/// How long a write waits for others to finish before it is refused.
const BUDGET_WAIT: Duration = Duration::from_millis(500);
/// Decompression buffers kept for reuse, and the largest that is kept.
const BUFFERS_KEPT_MAX: usize = 8;
const BUFFER_KEPT_BYTES_MAX: usize = 4 << 20;

/// Shared by all handlers; cheap to clone.
#[derive(Clone)]
pub struct AppState(Arc<Shared>);

struct Shared {
    store: Store,
    config: Config,
    metrics: Metrics,
    features: Features,
    scraper: ScrapeManager,
    pushgateway: Arc<Pushgateway>,
    files: LogFiles,
    notifications: Notifications,
    tails: Tails,
    lifecycle: Lifecycle,
    otlp: RwLock<Arc<Translator>>,
    streams: StreamCache,
    derived: Derived,
    recent_pushes: RecentPushes,
    processor: RwLock<Arc<Processor>>,
    promql: PromqlEngine,
    logql: LogQlEngine,
    sql: SqlEngine,
    queries: QueryRegistry,
    query_slots: Arc<Semaphore>,
    write_budget: Arc<Semaphore>,
    buffers: Mutex<Vec<Vec<u8>>>,
    next_query_id: AtomicU64,
    stopping: AtomicBool,
    started: SystemTime,
}

/// What is computed from rows as they are stored: made before the store is opened, which is told of it.
#[derive(Clone, Debug)]
pub struct Derived {
    /// Hands rows on.
    pub feed: Arc<Feed>,
    /// Runs of pipelines.
    pub runs: Arc<RunService>,
    /// Metrics of spans and the service graph.
    pub span_metrics: Arc<SpanMetricsService>,
}

/// The share of the memory that runs may take.
const RUNS_MEMORY_SHARE: u64 = 64;

impl Derived {
    /// As it is configured, not fed yet.
    #[must_use]
    pub fn new(config: &Config) -> Self {
        let runs_bytes = ByteSize(config.settings.memory_max.0 / RUNS_MEMORY_SHARE);
        let runs = RunService::new(config.runs.clone(), runs_bytes.as_usize());
        let runs = Arc::new(runs);
        let keys_max = config.settings.span_metrics_keys_max as usize;
        let span_metrics = SpanMetricsService::new(config.settings.span_metrics, keys_max);
        let span_metrics = Arc::new(span_metrics);
        Self {
            feed: Arc::new(Feed::new(vec![
                Arc::clone(&runs) as _,
                Arc::clone(&span_metrics) as _,
            ])),
            runs,
            span_metrics,
        }
    }
}

impl AppState {
    /// Wraps an open store, of which `tails` are told.
    ///
    /// # Errors
    /// The SQL engine cannot be set up.
    pub fn new(
        store: Store,
        config: Config,
        tails: Tails,
        derived: Derived,
    ) -> Result<Self, SqlError> {
        let settings = &config.settings;
        let features = features(&settings.enable_feature);
        let promql = PromqlEngine::new(store.clone(), promql_options(settings, features));
        let logql = LogQlEngine::new(
            Arc::new(StoreLogs::new(store.clone())),
            logql_options(settings),
        );
        let queries = QueryRegistry::default();
        let sql_options = SqlEngineOptions {
            promql: Some(promql.clone()),
            logql: Some(logql.clone()),
            ..sql_options(&config, &queries)
        };
        let sql = SqlEngine::new(store.clone(), sql_options)?;
        // An eighth of all memory at most, whatever the setting says.
        let inflight_max = settings
            .write_inflight_max
            .min(ByteSize(settings.memory_max.0 / 8));
        let budget_units = inflight_max.as_usize() / BUDGET_UNIT_BYTES;
        // Relative paths in the configuration count from its own folder.
        let base = config.file.path.parent().unwrap_or(Path::new(""));
        let scraper = ScrapeManager::new(store.clone(), base, settings.write_future_max);
        // Loading the configuration has compiled it once; what cannot be is refused there.
        let processor = Processor::new(&config.process).unwrap_or_else(|error| {
            tracing::error!(error, "section process");
            Processor::default()
        });
        let shared = Shared {
            scraper,
            pushgateway: Arc::new(Pushgateway::new(store.clone())),
            files: LogFiles::default(),
            notifications: Notifications::new(settings.notification_subscribers_max as usize),
            tails,
            lifecycle: Lifecycle::new(config.file.clone()),
            otlp: RwLock::new(Arc::new(crate::otlp::translator(&config))),
            recent_pushes: RecentPushes::default(),
            processor: RwLock::new(Arc::new(processor)),
            streams: StreamCache::new(
                ByteSize(settings.memory_max.0 / STREAM_MEMORY_SHARE).as_usize(),
                settings.tenant_streams_max,
            ),
            derived,
            queries: queries.clone(),
            query_slots: Arc::new(Semaphore::new(
                settings.query_concurrency_max.max(1) as usize
            )),
            write_budget: Arc::new(Semaphore::new(
                budget_units.clamp(1, u32::MAX as usize >> 4),
            )),
            store,
            metrics: Metrics::default(),
            features,
            promql,
            logql,
            sql,
            config,
            buffers: Mutex::new(Vec::new()),
            next_query_id: AtomicU64::new(1),
            stopping: AtomicBool::new(false),
            started: SystemTime::now(),
        };
        Ok(Self(Arc::new(shared)))
    }

    /// Evaluates PromQL.
    #[must_use]
    pub fn promql(&self) -> &PromqlEngine {
        &self.0.promql
    }

    /// Evaluates LogQL.
    #[must_use]
    pub fn logql(&self) -> &LogQlEngine {
        &self.0.logql
    }

    /// Runs SQL.
    #[must_use]
    pub fn sql(&self) -> &SqlEngine {
        &self.0.sql
    }

    /// The store.
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.0.store
    }

    /// The configuration.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.0.config
    }

    /// The settings.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.0.config.settings
    }

    /// Which parts of PromQL are on.
    #[must_use]
    pub fn features(&self) -> Features {
        self.0.features
    }

    /// The server's own counters.
    #[must_use]
    pub fn metrics(&self) -> &Metrics {
        &self.0.metrics
    }

    /// Everything that the server tells about itself at this moment.
    #[must_use]
    pub fn exposition(&self) -> Exposition {
        let mut out = self
            .metrics()
            .exposition(self.store(), &self.promql().cache_stats());
        files::write_metrics(&self.files().statuses(), &mut out);
        let (runs, bytes) = self.runs().usage();
        out.gauge("chronolith_runs", "Runs in memory.", runs as f64);
        out.gauge(
            "chronolith_runs_bytes",
            "Memory that runs and histories of pipelines take, about.",
            bytes as f64,
        );
        write_stats(&self.span_metrics().stats(), &mut out);
        out
    }

    /// The log files of this machine that are followed.
    #[must_use]
    pub fn files(&self) -> &LogFiles {
        &self.0.files
    }

    /// The queries that run and those that ended lately.
    #[must_use]
    pub fn queries(&self) -> &QueryRegistry {
        &self.0.queries
    }

    /// The scrape loops.
    #[must_use]
    pub fn scraper(&self) -> &ScrapeManager {
        &self.0.scraper
    }

    /// The pushed groups.
    #[must_use]
    pub fn pushgateway(&self) -> &Arc<Pushgateway> {
        &self.0.pushgateway
    }

    /// What the operator should know.
    #[must_use]
    pub fn notifications(&self) -> &Notifications {
        &self.0.notifications
    }

    /// Who follows the logs.
    #[must_use]
    pub fn tails(&self) -> &Tails {
        &self.0.tails
    }

    /// The configuration file as it is in force, and the wish to end.
    #[must_use]
    pub fn lifecycle(&self) -> &Lifecycle {
        &self.0.lifecycle
    }

    /// How OTLP metrics become series.
    #[must_use]
    pub fn otlp(&self) -> Arc<Translator> {
        Arc::clone(&self.0.otlp.read())
    }

    /// Streams of logs and traces by the names that protocols give them.
    #[must_use]
    pub fn streams(&self) -> &StreamCache {
        &self.0.streams
    }

    /// Runs of pipelines.
    #[must_use]
    pub fn runs(&self) -> &Arc<RunService> {
        &self.0.derived.runs
    }

    /// Metrics of spans and the service graph.
    #[must_use]
    pub fn span_metrics(&self) -> &Arc<SpanMetricsService> {
        &self.0.derived.span_metrics
    }

    /// What hands stored rows on to whoever computes from them.
    #[must_use]
    pub fn feed(&self) -> &Arc<Feed> {
        &self.0.derived.feed
    }

    /// Pushes that were taken lately.
    #[must_use]
    pub fn recent_pushes(&self) -> &RecentPushes {
        &self.0.recent_pushes
    }

    /// What happens to log records and spans before they are stored.
    #[must_use]
    pub fn processor(&self) -> Arc<Processor> {
        Arc::clone(&self.0.processor.read())
    }

    /// From now on this happens to them.
    pub fn set_processor(&self, processor: Processor) {
        *self.0.processor.write() = Arc::new(processor);
    }

    /// From now on they become what `config` says.
    pub fn configure_otlp(&self, config: &OtlpConfig) {
        let mut translator = self.0.otlp.write();
        *translator = Arc::new(translator.reconfigured(config));
    }

    /// The context of a write.
    #[must_use]
    pub fn write_context(&self, caller: &Caller) -> RequestContext {
        let mut context = RequestContext::for_tenant(caller.tenant.clone());
        context.principal = caller.principal.as_ref().map(|p| Arc::clone(&p.0));
        context
    }

    /// Answers with an error once the server is on its way down.
    ///
    /// # Errors
    /// 503 while stopping.
    pub fn refuse_while_stopping(&self) -> Result<(), ApiError> {
        match self.is_stopping() {
            true => Err(ApiError::new(
                ErrorType::Unavailable,
                "the server is stopping",
            )),
            false => Ok(()),
        }
    }

    /// When the server started.
    #[must_use]
    pub fn started(&self) -> SystemTime {
        self.0.started
    }

    /// From now on writes are refused and the server is not ready; listeners are told and let go.
    pub fn stop_writes(&self) {
        self.0.stopping.store(true, Ordering::Release);
        self.0.notifications.raise(STOPPING);
        self.0.notifications.close();
        self.0.tails.close();
        self.runs().wake_listeners();
    }

    /// Whether the server is on its way down.
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        self.0.stopping.load(Ordering::Acquire)
    }

    /// The context of a request: tenant, principal and deadline, and a switch that is turned off
    /// when the guard goes, as it does when the client leaves.
    #[must_use]
    pub fn context(
        &self,
        tenant: TenantId,
        principal: Option<&Principal>,
        timeout: Duration,
    ) -> (RequestContext, CancelGuard) {
        let mut context = RequestContext::for_tenant(tenant);
        context.principal = principal.map(|p| Arc::clone(&p.0));
        context.deadline = Instant::now().checked_add(timeout);
        context.query_id = self.0.next_query_id.fetch_add(1, Ordering::Relaxed);
        let guard = CancelGuard(context.cancel.clone());
        (context, guard)
    }

    /// Runs `work` on a thread that may block.
    ///
    /// # Errors
    /// What `work` answers; an internal error if it panicked.
    pub async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Self) -> Result<T, ApiError> + Send + 'static,
    ) -> Result<T, ApiError> {
        let state = self.clone();
        match tokio::task::spawn_blocking(move || work(&state)).await {
            Ok(result) => result,
            Err(error) => Err(ApiError::internal(format!("request ended early: {error}"))),
        }
    }

    /// Waits for a turn to run a query.
    ///
    /// # Errors
    /// 503 when too many wait already, or the turn does not come within `timeout`.
    pub async fn query_slot(&self, timeout: Duration) -> Result<QuerySlot, ApiError> {
        let metrics = self.metrics();
        let waiting = CountGuard::new(&metrics.queries_waiting);
        let slots = Arc::clone(&self.0.query_slots);
        if let Ok(permit) = Arc::clone(&slots).try_acquire_owned() {
            drop(waiting);
            return Ok(QuerySlot::new(self, permit));
        }
        let waiting_max = u64::from(self.settings().query_queue_max);
        if metrics.queries_waiting.load(Ordering::Relaxed) > waiting_max {
            metrics.queries_refused.fetch_add(1, Ordering::Relaxed);
            return Err(ApiError::new(
                ErrorType::Unavailable,
                format!("{waiting_max} queries are waiting already, try again later"),
            ));
        }
        match tokio::time::timeout(timeout, slots.acquire_owned()).await {
            Ok(Ok(permit)) => {
                drop(waiting);
                Ok(QuerySlot::new(self, permit))
            }
            _ => Err(ApiError::new(
                ErrorType::Timeout,
                "query timed out in query queue",
            )),
        }
    }

    /// Reserves memory for a write.
    ///
    /// # Errors
    /// 429 when the writes in flight hold all there is.
    pub async fn write_budget(&self, bytes: usize) -> Result<WriteBudget, ApiError> {
        let units = u32::try_from(bytes.div_ceil(BUDGET_UNIT_BYTES)).unwrap_or(u32::MAX);
        let acquire = Arc::clone(&self.0.write_budget).acquire_many_owned(units);
        match tokio::time::timeout(BUDGET_WAIT, acquire).await {
            Ok(Ok(permit)) => Ok(WriteBudget::new(self.clone(), permit)),
            _ => {
                let metrics = self.metrics();
                metrics.ingest_refused.fetch_add(1, Ordering::Relaxed);
                Err(ApiError::new(
                    ErrorType::TooMany,
                    "too many bytes of writes in flight, try again later",
                ))
            }
        }
    }

    /// A buffer, perhaps one that served before and still holds what it held.
    #[must_use]
    pub fn take_buffer(&self) -> Vec<u8> {
        self.0.buffers.lock().pop().unwrap_or_default()
    }

    /// Gives a buffer back for reuse, with what lies in it.
    pub fn give_buffer(&self, buffer: Vec<u8>) {
        let mut buffers = self.0.buffers.lock();
        if buffers.len() < BUFFERS_KEPT_MAX && buffer.capacity() <= BUFFER_KEPT_BYTES_MAX {
            buffers.push(buffer);
        }
    }
}

/// The share of the memory that each query language may take: together a quarter.
const QUERY_MEMORY_SHARE: u64 = 8;
/// The share that answers kept for the next time may take.
const CACHE_MEMORY_SHARE: u64 = 16;

fn promql_options(settings: &Settings, features: Features) -> PromqlOptions {
    PromqlOptions {
        lookback: settings.query_lookback,
        samples_max: settings.query_samples_max,
        timeout: settings.query_timeout,
        // Turns are given out before a query gets there.
        concurrency_max: settings.query_concurrency_max.max(1) as usize,
        memory_bytes_max: ByteSize(settings.memory_max.0 / QUERY_MEMORY_SHARE).as_usize(),
        query_bytes_max: settings.query_memory_max.as_usize(),
        height_max: settings.query_depth_max as usize,
        cache_bytes_max: settings
            .query_cache_max
            .0
            .min(settings.memory_max.0 / CACHE_MEMORY_SHARE) as usize,
        features,
        ..PromqlOptions::default()
    }
}

fn logql_options(settings: &Settings) -> LogQlOptions {
    LogQlOptions {
        timeout: settings.query_timeout,
        // Turns are given out before a query gets there.
        concurrency_max: settings.query_concurrency_max.max(1) as usize,
        samples_max: settings.query_samples_max,
        points_max: settings.query_points_max as usize,
        memory_bytes_max: ByteSize(settings.memory_max.0 / QUERY_MEMORY_SHARE).as_usize(),
        ..LogQlOptions::default()
    }
}

fn sql_options(config: &Config, queries: &QueryRegistry) -> SqlEngineOptions {
    let settings = &config.settings;
    SqlEngineOptions {
        queries: queries.clone(),
        run_names: Arc::new(config.runs.names.clone()),
        memory_bytes_max: ByteSize(settings.memory_max.0 / QUERY_MEMORY_SHARE).as_usize(),
        query_bytes_max: settings.query_memory_max.as_usize(),
        text_bytes_max: settings.query_text_max.as_usize(),
        ..SqlEngineOptions::default()
    }
}

/// The language features among `names`; other names belong to other parts.
pub(crate) fn features(names: &[String]) -> Features {
    let mut features = Features::default();
    for name in names {
        features.enable(name);
    }
    features
}

/// Cancels the work of a request when it is dropped.
#[derive(Debug)]
pub struct CancelGuard(CancelToken);

impl Drop for CancelGuard {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

/// The right to run a query.
pub struct QuerySlot {
    state: AppState,
    _permit: OwnedSemaphorePermit,
}

impl QuerySlot {
    fn new(state: &AppState, permit: OwnedSemaphorePermit) -> Self {
        let running = &state.metrics().queries_running;
        running.fetch_add(1, Ordering::Relaxed);
        Self {
            state: state.clone(),
            _permit: permit,
        }
    }
}

impl Drop for QuerySlot {
    fn drop(&mut self) {
        let running = &self.state.metrics().queries_running;
        running.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Memory reserved for a write.
pub struct WriteBudget {
    state: AppState,
    permit: OwnedSemaphorePermit,
}

impl WriteBudget {
    fn new(state: AppState, permit: OwnedSemaphorePermit) -> Self {
        let bytes = (permit.num_permits() * BUDGET_UNIT_BYTES) as u64;
        let inflight = &state.metrics().ingest_inflight_bytes;
        inflight.fetch_add(bytes, Ordering::Relaxed);
        Self { state, permit }
    }
}

impl Drop for WriteBudget {
    fn drop(&mut self) {
        let bytes = (self.permit.num_permits() * BUDGET_UNIT_BYTES) as u64;
        let inflight = &self.state.metrics().ingest_inflight_bytes;
        inflight.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// Counts something for as long as it lives.
struct CountGuard<'a>(&'a AtomicU64);

impl<'a> CountGuard<'a> {
    fn new(count: &'a AtomicU64) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for CountGuard<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
