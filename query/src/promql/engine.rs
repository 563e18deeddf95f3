//! [`PromqlEngine`]: the entry point: a query's text in, its answer out.
//!
//! A query is parsed, planned (which opens its scans: from then on it sees one snapshot of the
//! store) and run under DataFusion's task context on the threads of [`runtime`](super::runtime).
//! The engine is cheap to clone and is meant to live as long as the store.

use std::sync::Arc;
use std::time::{Duration, Instant};

use chronolith_engine::model::{Labels, TimestampNs};
use chronolith_engine::{RequestContext, Snapshot, Store};
use datafusion::execution::TaskContext;
use datafusion::execution::config::SessionConfig;
use datafusion::execution::memory_pool::{
    GreedyMemoryPool, MemoryConsumer, MemoryPool, MemoryReservation,
};
use datafusion::execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::display::DisplayableExecutionPlan;
use futures::TryStreamExt;
use tokio::sync::{Semaphore, SemaphorePermit};

use super::ast::{Expr, ValueType};
use super::batch::{HistogramPoint as SamplePoint, SampleBatch, StepTable};
use super::cache::{CacheStats, CacheableQuery, ResultCache};
use super::exec::Measured;
use super::exec::name_removal::same_labelset;
use super::exec::series_scan::Spread;
use super::exec::state::{HeldSamples, QueryState};
use super::failure::{PromqlError, Result};
use super::features::Features;
use super::parser;
use super::plan::{Planner, Root};
use super::resolve::{self, EvaluationRange};
use super::result::{
    FloatPoint, HistogramPoint, KeptText, QueryResult, QueryStats, SampleValue, Series, Value,
    VectorElement,
};
use super::runtime::{query_runtime, thread_count};
use super::steps::Steps;
use crate::memory::QueryPool;
use crate::running::cpu_of;

/// Settings of the engine.
#[derive(Debug, Clone)]
pub struct PromqlOptions {
    /// How far an instant selector looks back. Default: 5 min.
    pub lookback: Duration,
    /// Samples that a query may hold in memory at a time. Default: 50,000,000.
    pub samples_max: u64,
    /// After this a query is given up. Default: 2 min.
    pub timeout: Duration,
    /// The step of subqueries that name none. Default: 1 min.
    pub default_subquery_step: Duration,
    /// Queries that run at a time; others wait. Default: 20.
    pub concurrency_max: usize,
    /// Threads that one query may use. Default: one per core.
    pub partitions_max: usize,
    /// Samples per thread below which another thread costs more than it brings. Default: 100,000.
    pub partition_samples_min: u64,
    /// Bytes that all queries may take together, if `memory_pool` is not set. Default: 1 GiB.
    pub memory_bytes_max: usize,
    /// Bytes of those that a single query may hold. Default: all.
    pub query_bytes_max: usize,
    /// How tall a query's tree may be, at most [`MAX_HEIGHT`](parser::MAX_HEIGHT). Default: that.
    pub height_max: usize,
    /// Where queries reserve memory, to be shared with SQL.
    pub memory_pool: Option<Arc<dyn MemoryPool>>,
    /// Bytes of answers of range queries that are kept for the next time; 0 keeps none. Default: 0,
    /// so that who measures the engine measures the engine.
    pub cache_bytes_max: usize,
    /// Which parts of the language are on. Default: Prometheus' defaults.
    pub features: Features,
}

impl Default for PromqlOptions {
    fn default() -> Self {
        Self {
            lookback: Duration::from_secs(300),
            samples_max: 50_000_000,
            timeout: Duration::from_secs(120),
            default_subquery_step: Duration::from_secs(60),
            concurrency_max: 20,
            partitions_max: thread_count(),
            partition_samples_min: 100_000,
            memory_bytes_max: 1 << 30,
            query_bytes_max: usize::MAX,
            height_max: parser::MAX_HEIGHT,
            memory_pool: None,
            cache_bytes_max: 0,
            features: Features::default(),
        }
    }
}

/// Settings of one query; `None` takes the engine's.
#[derive(Debug, Clone, Default)]
pub struct QueryOptions {
    /// How far an instant selector looks back.
    pub lookback: Option<Duration>,
    /// After this the query is given up, if the engine's limit is not shorter.
    pub timeout: Option<Duration>,
    /// Count samples per step (if the feature `promql-per-step-stats` is on).
    pub per_step_stats: bool,
    /// Keep the plan's text, with metrics.
    pub explain: bool,
    /// Answer of range queries that the result cache knows whole may come as the text that the caller
    /// gave [`KeptText::keep`](super::result::KeptText::keep) the last time, instead of as a value.
    pub keep_text: bool,
    /// Evaluate everything, whatever the result cache holds.
    pub no_cache: bool,
    /// Read the metrics as they were at an earlier moment ([`Store::pin_as_of`]).
    pub as_of: Option<TimestampNs>,
}

/// A parsed query; may be run many times.
#[derive(Debug, Clone)]
pub struct Query {
    text: Arc<str>,
    expr: Arc<Expr>,
    height: usize,
}

/// Queries taller than this run on the query threads, whose stacks are large, in any case.
const INLINE_HEIGHT_MAX: usize = 40;

fn height(expr: &Expr) -> usize {
    stacker::maybe_grow(128 << 10, 2 << 20, || {
        1 + expr.children().into_iter().map(height).max().unwrap_or(0)
    })
}

impl Query {
    /// A query whose tree was made or changed by hand; positions in it refer to `text`.
    pub fn from_expr(text: &str, expr: Expr) -> Self {
        Self {
            text: Arc::from(text),
            height: height(&expr),
            expr: Arc::new(expr),
        }
    }

    /// The text as it was written.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The tree.
    pub fn expr(&self) -> &Expr {
        &self.expr
    }
}

/// Evaluates PromQL over a store.
#[derive(Clone)]
pub struct PromqlEngine {
    inner: Arc<Inner>,
}

struct Inner {
    store: Store,
    options: PromqlOptions,
    /// What plans run in, but for the part of the memory that each may take.
    runtime: Arc<RuntimeEnv>,
    session: SessionConfig,
    /// The same for plans that will be shown.
    measured_session: SessionConfig,
    places: Semaphore,
    cache: Option<Arc<ResultCache>>,
}

/// A query without a deadline waits this long for a place.
const MAX_WAIT: Duration = Duration::from_secs(3600);

/// When a query is evaluated.
#[derive(Debug, Clone, Copy)]
struct Times {
    steps: Steps,
    end_ms: i64,
    is_range: bool,
}

/// Stops a query whose caller went away.
struct StopOnDrop {
    request: RequestContext,
    task: tokio::task::AbortHandle,
}

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        if !self.task.is_finished() {
            self.request.cancel.cancel();
            self.task.abort();
        }
    }
}

impl PromqlEngine {
    /// An engine over `store`.
    ///
    /// # Panics
    /// If DataFusion's runtime cannot be built.
    pub fn new(store: Store, options: PromqlOptions) -> Self {
        let pool = options
            .memory_pool
            .clone()
            .unwrap_or_else(|| Arc::new(GreedyMemoryPool::new(options.memory_bytes_max)));
        let runtime = match RuntimeEnvBuilder::new().with_memory_pool(pool).build_arc() {
            Ok(runtime) => runtime,
            Err(error) => panic!("bug: no DataFusion runtime: {error}"),
        };
        let places = Semaphore::new(options.concurrency_max.max(1));
        let session = SessionConfig::new();
        let measured_session = session.clone().with_extension(Arc::new(Measured));
        let cache_bytes_max = options.cache_bytes_max;
        let cache = (cache_bytes_max > 0).then(|| Arc::new(ResultCache::new(cache_bytes_max)));
        Self {
            inner: Arc::new(Inner {
                store,
                options,
                runtime,
                session,
                measured_session,
                places,
                cache,
            }),
        }
    }

    /// The engine's settings.
    pub fn options(&self) -> &PromqlOptions {
        &self.inner.options
    }

    /// The store it reads.
    pub fn store(&self) -> &Store {
        &self.inner.store
    }

    /// What the result cache did and holds.
    pub fn cache_stats(&self) -> CacheStats {
        let cache = self.inner.cache.as_ref();
        cache.map(|cache| cache.stats()).unwrap_or_default()
    }

    /// Parses a query with the engine's features.
    ///
    /// # Errors
    /// [`PromqlError::Parse`].
    pub fn parse(&self, text: &str) -> Result<Query> {
        let options = &self.inner.options;
        let expr = parser::parse_limited(text, &options.features, options.height_max)?;
        Ok(Query::from_expr(text, expr))
    }

    /// Evaluates a query at one time. Dropping the future stops the query.
    ///
    /// # Errors
    /// Any [`PromqlError`].
    pub async fn instant(
        &self,
        request: &RequestContext,
        query: &Query,
        time_ms: i64,
        options: &QueryOptions,
    ) -> Result<QueryResult> {
        self.spawn(request, query, instant_times(time_ms), options)
            .await
    }

    /// Evaluates a query from `start_ms` to `end_ms` every `step_ms`. Dropping the future stops the
    /// query.
    ///
    /// # Errors
    /// Any [`PromqlError`].
    pub async fn range(
        &self,
        request: &RequestContext,
        query: &Query,
        (start_ms, end_ms, step_ms): (i64, i64, i64),
        options: &QueryOptions,
    ) -> Result<QueryResult> {
        let times = range_times(query, start_ms, end_ms, step_ms)?;
        self.spawn(request, query, times, options).await
    }

    /// As [`instant`](Self::instant), on the caller's thread.
    ///
    /// # Errors
    /// Any [`PromqlError`].
    ///
    /// # Panics
    /// On a thread of an async runtime.
    pub fn instant_blocking(
        &self,
        request: &RequestContext,
        query: &Query,
        time_ms: i64,
        options: &QueryOptions,
    ) -> Result<QueryResult> {
        self.block_on(request, query, instant_times(time_ms), options)
    }

    /// As [`range`](Self::range), on the caller's thread.
    ///
    /// # Errors
    /// Any [`PromqlError`].
    ///
    /// # Panics
    /// On a thread of an async runtime.
    pub fn range_blocking(
        &self,
        request: &RequestContext,
        query: &Query,
        (start_ms, end_ms, step_ms): (i64, i64, i64),
        options: &QueryOptions,
    ) -> Result<QueryResult> {
        let times = range_times(query, start_ms, end_ms, step_ms)?;
        self.block_on(request, query, times, options)
    }

    fn block_on(
        &self,
        request: &RequestContext,
        query: &Query,
        times: Times,
        options: &QueryOptions,
    ) -> Result<QueryResult> {
        if query.height > INLINE_HEIGHT_MAX {
            return query_runtime().block_on(self.spawn(request, query, times, options));
        }
        query_runtime().block_on(self.inner.run(request, query, times, options))
    }

    async fn spawn(
        &self,
        request: &RequestContext,
        query: &Query,
        times: Times,
        options: &QueryOptions,
    ) -> Result<QueryResult> {
        let inner = Arc::clone(&self.inner);
        let (query, options) = (query.clone(), options.clone());
        let owned = request.clone();
        let task =
            query_runtime().spawn(async move { inner.run(&owned, &query, times, &options).await });
        let _stop = StopOnDrop {
            request: request.clone(),
            task: task.abort_handle(),
        };
        match task.await {
            Ok(result) => result,
            Err(error) if error.is_cancelled() => Err(PromqlError::Cancelled),
            Err(error) => Err(PromqlError::Internal(format!("query panicked: {error}"))),
        }
    }
}

fn instant_times(time_ms: i64) -> Times {
    Times {
        steps: Steps::instant(time_ms),
        end_ms: time_ms,
        is_range: false,
    }
}

fn range_times(query: &Query, start_ms: i64, end_ms: i64, step_ms: i64) -> Result<Times> {
    let kind = query.expr.value_type();
    if !matches!(kind, ValueType::Scalar | ValueType::Vector) {
        return Err(PromqlError::BadRequest(format!(
            "invalid expression type \"{}\" for range query, must be Scalar or instant Vector",
            kind.documented()
        )));
    }
    if step_ms <= 0 {
        let message = "zero or negative query resolution step widths are not accepted. Try a \
                       positive integer";
        return Err(PromqlError::BadRequest(message.into()));
    }
    // The protocol's limit on points is lower; this one keeps columns within Arrow's widths.
    let steps =
        Steps::range(start_ms, end_ms, step_ms, 10_000_000).ok_or(PromqlError::TooManySamples)?;
    Ok(Times {
        steps,
        end_ms,
        is_range: true,
    })
}

fn task_context(session: &SessionConfig, runtime: Arc<RuntimeEnv>) -> Arc<TaskContext> {
    Arc::new(TaskContext::new(
        None,
        String::new(),
        session.clone(),
        Default::default(),
        Default::default(),
        Default::default(),
        Default::default(),
        runtime,
    ))
}

impl Inner {
    async fn run(
        &self,
        request: &RequestContext,
        query: &Query,
        times: Times,
        options: &QueryOptions,
    ) -> Result<QueryResult> {
        let called = Instant::now();
        let state = self.state(request, times, options, called);
        let _place = self.place(&state).await?;
        let started = Instant::now();
        state.check()?;
        if times.steps.count == 0 {
            return Ok(empty_range(&state));
        }
        let range = EvaluationRange {
            start_ms: times.steps.start_ms,
            end_ms: times.end_ms,
            step_ms: if times.is_range {
                times.steps.step_ms
            } else {
                0
            },
            default_subquery_step_ms: millis(self.options.default_subquery_step).max(1),
        };
        let expr = resolve::resolve(Expr::clone(&query.expr), &range)
            .map_err(|e| PromqlError::Execution(e.message))?;
        let snapshot = match options.as_of {
            None => self.store.pin(&state.request)?,
            Some(moment) => self.store.pin_as_of(&state.request, moment)?,
        };
        let pool = QueryPool::new(&self.runtime.memory_pool, self.options.query_bytes_max);
        let session = match options.explain {
            true => &self.measured_session,
            false => &self.session,
        };
        let evaluation = Evaluation {
            query,
            expr: &expr,
            times,
            snapshot: &snapshot,
            state: &state,
            task: &task_context(session, pool.runtime(&self.runtime)),
        };
        let opening = started.elapsed();
        let answer = match self.cacheable(&evaluation, options) {
            Some((cache, query)) => {
                let keep_text = options.keep_text;
                self.answer_cached(&evaluation, cache, &query, keep_text)
                    .await
            }
            None => self.evaluate(&evaluation, times).await,
        };
        let answer = answer.map_err(|error| match (error, pool.refusal()) {
            (PromqlError::OutOfMemory(_), Some(own)) => PromqlError::TooMuchMemory(own.to_owned()),
            (other, _) => other,
        })?;
        let preparation = opening + answer.preparation;
        let stats = QueryStats {
            samples: state.sample_counts(),
            preparation,
            evaluation: started.elapsed().saturating_sub(preparation),
            sorting: answer.sorting,
            queued: started - called,
            steps_reused: answer.steps_reused,
        };
        let plan = answer.plan.filter(|_| options.explain).map(|plan| {
            DisplayableExecutionPlan::with_metrics(&*plan)
                .indent(false)
                .to_string()
        });
        Ok(QueryResult {
            value: answer.value,
            annotations: state.take_annotations(),
            stats,
            plan,
            text: answer.text,
        })
    }

    /// The result cache and what it is to be asked, if it may know the query.
    fn cacheable(
        &self,
        evaluation: &Evaluation<'_>,
        options: &QueryOptions,
    ) -> Option<(&Arc<ResultCache>, CacheableQuery)> {
        let Evaluation {
            query,
            expr,
            times,
            state,
            ..
        } = evaluation;
        let cache = self.cache.as_ref()?;
        let is_plain = options.as_of.is_none() && !options.explain && !state.counts_per_step();
        if !times.is_range || options.no_cache || !is_plain {
            return None;
        }
        let cacheable = CacheableQuery::new(
            &state.request,
            (&query.text, &query.expr, expr),
            times.steps,
            state.lookback_ms,
            state.features.delayed_name_removal,
        );
        if cacheable.is_none() {
            cache.count_refused();
        }
        cacheable.map(|query| (cache, query))
    }

    /// Evaluates only the steps that the cache does not know.
    async fn answer_cached(
        &self,
        evaluation: &Evaluation<'_>,
        cache: &Arc<ResultCache>,
        query: &CacheableQuery,
        keep_text: bool,
    ) -> Result<Evaluated> {
        let Evaluation {
            times,
            snapshot,
            state,
            ..
        } = *evaluation;
        let mark = snapshot.change_mark();
        if let Some(reuse) = cache.find(query, |since| snapshot.changed_since(since)) {
            let mut fresh = [None, None];
            let (mut preparation, mut sorting) = (Duration::ZERO, Duration::ZERO);
            for (part, missing) in fresh.iter_mut().zip(query.missing(&reuse)) {
                let Some(steps) = missing else { continue };
                let evaluated = self.evaluate(evaluation, Times { steps, ..times }).await?;
                preparation += evaluated.preparation;
                sorting += evaluated.sorting;
                *part = Some((steps, evaluated.value));
            }
            let remarks = state.take_annotations();
            if let Some(joined) = cache.join(query, &reuse, fresh, &remarks, mark, keep_text) {
                HeldSamples::new(state).grow(joined.value.point_count() as u64)?;
                state.annotate_all(joined.annotations);
                return Ok(Evaluated {
                    preparation,
                    sorting,
                    steps_reused: reuse.step_count(),
                    text: joined.text,
                    ..Evaluated::without_plan(joined.value)
                });
            }
        }
        let evaluated = self.evaluate(evaluation, times).await?;
        let remarks = state.take_annotations();
        cache.keep(query, &evaluated.value, &remarks, mark);
        state.annotate_all(remarks);
        Ok(evaluated)
    }

    /// Waits for a place to run, no longer than the query may take.
    async fn place(&self, state: &QueryState) -> Result<SemaphorePermit<'_>> {
        if let Ok(place) = self.places.try_acquire() {
            return Ok(place);
        }
        let deadline = state
            .request
            .deadline
            .unwrap_or_else(|| Instant::now() + MAX_WAIT);
        match tokio::time::timeout_at(deadline.into(), self.places.acquire()).await {
            Ok(Ok(place)) => Ok(place),
            Ok(Err(_)) => Err(PromqlError::Internal("no places to run".into())),
            Err(_) => Err(PromqlError::Timeout),
        }
    }

    fn state(
        &self,
        request: &RequestContext,
        times: Times,
        options: &QueryOptions,
        called: Instant,
    ) -> Arc<QueryState> {
        let timeout = options
            .timeout
            .unwrap_or(self.options.timeout)
            .min(self.options.timeout);
        let deadline = called.checked_add(timeout);
        let deadline = match (request.deadline, deadline) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        let lookback = options
            .lookback
            .filter(|l| !l.is_zero())
            .unwrap_or(self.options.lookback);
        let per_step = options.per_step_stats && self.options.features.per_step_stats;
        QueryState::new(
            RequestContext {
                deadline,
                ..request.clone()
            },
            self.options.features,
            millis(lookback),
            self.options.samples_max,
            per_step.then_some(times.steps.count),
        )
    }

    /// Plans and runs the expression at some of the query's steps.
    async fn evaluate(&self, evaluation: &Evaluation<'_>, times: Times) -> Result<Evaluated> {
        let Evaluation {
            query,
            expr,
            snapshot,
            state,
            task,
            ..
        } = *evaluation;
        let started = Instant::now();
        let mut planner = Planner::new(
            snapshot,
            state,
            (times.steps, times.end_ms),
            times.is_range,
            Spread {
                partitions_max: self.options.partitions_max,
                samples_min: self.options.partition_samples_min,
            },
        );
        let (plan, is_samples) = match planner.root(expr)? {
            Root::String(value) => {
                let time_ms = times.steps.start_ms;
                return Ok(Evaluated::without_plan(Value::String { time_ms, value }));
            }
            Root::Vectors(plan) => (plan, false),
            Root::Samples(plan) => (plan, true),
        };
        let preparation = started.elapsed();
        let mut stream = plan.execute(0, Arc::clone(task))?;
        let mut answer = Answer::new(times, state, task);
        while let Some(batch) = stream.try_next().await? {
            state.check()?;
            if is_samples {
                answer.add_samples(&SampleBatch::from_batch(&batch)?)?;
            } else {
                answer.add_vectors(&StepTable::from_batches(&[batch])?)?;
            }
        }
        drop(stream);
        state.request.usage.add_cpu(cpu_of(&plan));
        let kind = query.expr.value_type();
        let sorting = Instant::now();
        let value = answer.finish(kind)?;
        Ok(Evaluated {
            plan: Some(plan),
            preparation,
            sorting: sorting.elapsed(),
            ..Evaluated::without_plan(value)
        })
    }
}

/// A query on its way.
#[derive(Clone, Copy)]
struct Evaluation<'a> {
    query: &'a Query,
    /// Resolved for the range that is asked for.
    expr: &'a Expr,
    times: Times,
    /// What all selectors read.
    snapshot: &'a Snapshot,
    state: &'a Arc<QueryState>,
    /// What plans run in.
    task: &'a Arc<TaskContext>,
}

/// What became of it.
struct Evaluated {
    value: Value,
    plan: Option<Arc<dyn ExecutionPlan>>,
    preparation: Duration,
    sorting: Duration,
    steps_reused: usize,
    text: Option<KeptText>,
}

impl Evaluated {
    fn without_plan(value: Value) -> Self {
        Self {
            value,
            plan: None,
            preparation: Duration::ZERO,
            sorting: Duration::ZERO,
            steps_reused: 0,
            text: None,
        }
    }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

fn empty_range(state: &QueryState) -> QueryResult {
    QueryResult {
        value: Value::Matrix(Vec::new()),
        annotations: state.take_annotations(),
        stats: QueryStats::default(),
        plan: None,
        text: None,
    }
}

/// Puts the answer together.
struct Answer {
    times: Times,
    series: Vec<Series>,
    held: HeldSamples,
    memory: MemoryReservation,
}

/// About what a series of so many floats and histograms takes in an answer.
fn series_bytes(labels: &[u8], floats: usize, histograms: usize) -> usize {
    size_of::<Series>()
        + labels.len()
        + floats * size_of::<FloatPoint>()
        + histograms * (size_of::<HistogramPoint>() + HISTOGRAM_BYTES_ABOUT)
}

/// About what a native histogram takes with its buckets.
const HISTOGRAM_BYTES_ABOUT: usize = 512;

fn labels_of(bytes: &[u8]) -> Result<Labels> {
    Labels::from_bytes(bytes).map_err(|e| PromqlError::Internal(e.to_string()))
}

impl Answer {
    fn new(times: Times, state: &Arc<QueryState>, task: &TaskContext) -> Self {
        Self {
            times,
            series: Vec::new(),
            held: HeldSamples::new(state),
            memory: MemoryConsumer::new("answer").register(task.memory_pool()),
        }
    }

    fn add_vectors(&mut self, table: &StepTable) -> Result<()> {
        let bytes = (table.rows())
            .map(|row| series_bytes(row.labels, row.presence.count(), row.histograms.len()));
        self.memory.try_grow(bytes.sum())?;
        for row in table.rows() {
            let count = row.presence.count() + row.histograms.len();
            self.held.grow(count as u64)?;
            let time = |step: usize| self.times.steps.time(step);
            let float = |step: usize| FloatPoint {
                time_ms: time(step),
                value: row.values[step],
            };
            let histogram = |(step, h): &(u32, Arc<_>)| HistogramPoint {
                time_ms: time(*step as usize),
                histogram: Arc::clone(h),
            };
            let mut floats = Vec::with_capacity(row.presence.count());
            if row.presence.is_full() {
                floats.extend((0..row.values.len()).map(float));
            } else {
                floats.extend(row.presence.iter().map(float));
            }
            self.series.push(Series {
                labels: labels_of(row.labels)?,
                floats,
                histograms: row.histograms.iter().map(histogram).collect(),
            });
        }
        Ok(())
    }

    fn add_samples(&mut self, batch: &SampleBatch) -> Result<()> {
        let mut points: Vec<SamplePoint> = Vec::new();
        for row in 0..batch.rows() {
            let samples = batch.samples(row, &mut points);
            self.held
                .grow((samples.times.len() + samples.histograms.len()) as u64)?;
            self.memory.try_grow(series_bytes(
                batch.labels(row),
                samples.times.len(),
                samples.histograms.len(),
            ))?;
            let floats = samples.times.iter().zip(samples.values);
            let histogram = |p: &SamplePoint| HistogramPoint {
                time_ms: p.time_ms,
                histogram: Arc::clone(&p.histogram),
            };
            self.series.push(Series {
                labels: labels_of(batch.labels(row))?,
                floats: floats
                    .map(|(&time_ms, &value)| FloatPoint { time_ms, value })
                    .collect(),
                histograms: samples.histograms.iter().map(histogram).collect(),
            });
        }
        Ok(())
    }

    fn finish(mut self, kind: ValueType) -> Result<Value> {
        let time_ms = self.times.steps.start_ms;
        if !self.times.is_range && kind == ValueType::Scalar {
            let points = self.series.first().map(|s| s.floats.as_slice());
            let value = points.and_then(|p| p.first()).map_or(f64::NAN, |p| p.value);
            return Ok(Value::Scalar(FloatPoint { time_ms, value }));
        }
        if !self.times.is_range && kind == ValueType::Vector {
            self.refuse_duplicates()?;
            let element = |series: Series| {
                let value = match (series.floats.first(), series.histograms.into_iter().next()) {
                    (Some(point), _) => SampleValue::Float(point.value),
                    (None, Some(point)) => SampleValue::Histogram(point.histogram),
                    (None, None) => return None,
                };
                Some(VectorElement {
                    labels: series.labels,
                    time_ms,
                    value,
                })
            };
            return Ok(Value::Vector(
                self.series.into_iter().filter_map(element).collect(),
            ));
        }
        self.series.sort_by(|a, b| a.labels.cmp(&b.labels));
        if self.series.windows(2).any(|w| w[0].labels == w[1].labels) {
            return Err(same_labelset());
        }
        Ok(Value::Matrix(self.series))
    }

    fn refuse_duplicates(&self) -> Result<()> {
        let mut seen = std::collections::HashSet::with_capacity(self.series.len());
        if self.series.iter().all(|s| seen.insert(s.labels.as_bytes())) {
            Ok(())
        } else {
            Err(same_labelset())
        }
    }
}
