//! [`LogQlEngine`]: the entry point: a query's text in, its answer out.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use chronolith_engine::RequestContext;
use datafusion::execution::TaskContext;
use datafusion::execution::config::SessionConfig;
use datafusion::execution::memory_pool::{GreedyMemoryPool, MemoryPool};
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use futures::TryStreamExt;
use tokio::sync::Semaphore;

use super::super::ast::{Expr, LogExpr, MetricExpr};
use super::super::parser;
use super::failure::{LogQlError, Result};
use super::log_query::{self, Direction, LinesWanted};
use super::plan::{Planner, Times};
use super::range_scan::RowCounts;
use super::result::{LabelPairs, Point, QueryResult, QueryStats, QueryValue, Series};
use super::source::LogSource;
use crate::promql::batch::StepTable;
use crate::promql::exec::QueryState;
use crate::promql::features::Features;
use crate::promql::labelset;
use crate::promql::runtime::query_runtime;

/// Settings of the engine.
#[derive(Debug, Clone)]
pub struct LogQlOptions {
    /// After this a query is given up. Default: 2 min.
    pub timeout: Duration,
    /// Queries that run at a time; others wait. Default: 20.
    pub concurrency_max: usize,
    /// Series that an answer may have. Default: 500.
    pub series_max: usize,
    /// Points that a series of an answer may have. Default: 11,000.
    pub points_max: usize,
    /// Lines that an answer may have. Default: 5,000.
    pub lines_max: usize,
    /// Samples that a query may hold in memory at a time. Default: 50,000,000.
    pub samples_max: u64,
    /// Bytes that all queries may take together, if `memory_pool` is not set. Default: 1 GiB.
    pub memory_bytes_max: usize,
    /// Where queries reserve memory, to be shared with the other languages.
    pub memory_pool: Option<Arc<dyn MemoryPool>>,
}

impl Default for LogQlOptions {
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(120),
            concurrency_max: 20,
            series_max: 500,
            points_max: 11_000,
            lines_max: 5_000,
            samples_max: 50_000_000,
            memory_bytes_max: 1 << 30,
            memory_pool: None,
        }
    }
}

/// A parsed query; may be run many times.
#[derive(Debug, Clone)]
pub struct Query {
    text: Arc<str>,
    expr: Arc<Expr>,
}

impl Query {
    /// The text as it was written.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The tree.
    pub fn expr(&self) -> &Expr {
        &self.expr
    }

    /// Whether it gives lines rather than samples.
    pub fn is_log(&self) -> bool {
        matches!(&*self.expr, Expr::Log(_))
    }
}

/// When a query is evaluated, and how many lines it may give.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueryParams {
    /// Lines from this time on; the first time of a range query. Nanoseconds since the epoch.
    pub start_ns: i64,
    /// Lines before this time; the last time of a range query, the only one of an instant query.
    pub end_ns: i64,
    /// Distance of two times of a range query; `None`: an instant query at `end_ns`. Lines need none.
    pub step_ns: Option<i64>,
    /// Lines are at least so far apart; 0: however close.
    pub interval_ns: i64,
    /// The most lines.
    pub limit: usize,
    /// Their order.
    pub direction: Direction,
}

impl QueryParams {
    /// An instant query; of lines, those of the hour before.
    pub fn instant(time_ns: i64) -> Self {
        Self {
            start_ns: time_ns.saturating_sub(3_600_000_000_000),
            end_ns: time_ns,
            step_ns: None,
            interval_ns: 0,
            limit: 100,
            direction: Direction::Backward,
        }
    }

    /// A range query.
    pub fn range(start_ns: i64, end_ns: i64, step_ns: i64) -> Self {
        Self {
            start_ns,
            step_ns: Some(step_ns),
            ..Self::instant(end_ns)
        }
    }
}

/// Evaluates LogQL over a source of log records. Cheap to clone; meant to live as long as the source.
#[derive(Clone)]
pub struct LogQlEngine {
    inner: Arc<Inner>,
}

struct Inner {
    source: Arc<dyn LogSource>,
    options: LogQlOptions,
    task: Arc<TaskContext>,
    places: Semaphore,
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

impl LogQlEngine {
    /// An engine over `source`.
    ///
    /// # Panics
    /// If DataFusion's runtime cannot be built.
    pub fn new(source: Arc<dyn LogSource>, options: LogQlOptions) -> Self {
        let pool = options
            .memory_pool
            .clone()
            .unwrap_or_else(|| Arc::new(GreedyMemoryPool::new(options.memory_bytes_max)));
        let runtime = match RuntimeEnvBuilder::new().with_memory_pool(pool).build_arc() {
            Ok(runtime) => runtime,
            Err(error) => panic!("bug: no DataFusion runtime: {error}"),
        };
        let task = TaskContext::new(
            None,
            "logql".to_owned(),
            SessionConfig::new(),
            HashMap::new(),
            HashMap::new(),
            HashMap::new(),
            HashMap::new(),
            runtime,
        );
        Self {
            inner: Arc::new(Inner {
                source,
                places: Semaphore::new(options.concurrency_max.max(1)),
                options,
                task: Arc::new(task),
            }),
        }
    }

    /// The engine's settings.
    pub fn options(&self) -> &LogQlOptions {
        &self.inner.options
    }

    /// Where rows come from.
    pub fn source(&self) -> &dyn LogSource {
        &*self.inner.source
    }

    /// Parses a query.
    ///
    /// # Errors
    /// [`LogQlError::Parse`].
    pub fn parse(&self, text: &str) -> Result<Query> {
        Ok(Query {
            text: Arc::from(text),
            expr: Arc::new(parser::parse(text)?),
        })
    }

    /// Evaluates a query. Dropping the future stops it, and so do the deadline and the cancel token of
    /// `request`.
    ///
    /// # Errors
    /// Any [`LogQlError`].
    pub async fn query(
        &self,
        request: &RequestContext,
        query: &Query,
        params: QueryParams,
    ) -> Result<QueryResult> {
        let inner = Arc::clone(&self.inner);
        let (owned, query) = (request.clone(), query.clone());
        let task = query_runtime().spawn(async move { inner.run(&owned, &query, params).await });
        let _stop = StopOnDrop {
            request: request.clone(),
            task: task.abort_handle(),
        };
        match task.await {
            Ok(result) => result,
            Err(error) if error.is_cancelled() => Err(LogQlError::Cancelled),
            Err(error) => Err(LogQlError::Internal(error.to_string())),
        }
    }

    /// As [`query`](Self::query), for callers without a runtime.
    ///
    /// # Errors
    /// Any [`LogQlError`].
    ///
    /// # Panics
    /// On a thread of an async runtime.
    pub fn query_blocking(
        &self,
        request: &RequestContext,
        query: &Query,
        params: QueryParams,
    ) -> Result<QueryResult> {
        query_runtime().block_on(self.query(request, query, params))
    }
}

impl Inner {
    async fn run(
        &self,
        request: &RequestContext,
        query: &Query,
        params: QueryParams,
    ) -> Result<QueryResult> {
        let called = Instant::now();
        let deadline = called.checked_add(self.options.timeout);
        let deadline = match (request.deadline, deadline) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        let request = RequestContext {
            deadline,
            ..request.clone()
        };
        let wait = deadline.unwrap_or(called).saturating_duration_since(called);
        let _place = match tokio::time::timeout(wait, self.places.acquire()).await {
            Ok(Ok(place)) => place,
            Ok(Err(_)) => return Err(LogQlError::Internal("no places to run".to_owned())),
            Err(_) => return Err(LogQlError::Timeout),
        };
        let started = Instant::now();
        request.check()?;
        let counts = Arc::new(RowCounts::default());
        let value = match query.expr() {
            Expr::Log(log) => self.lines(&request, log, params, &counts)?,
            Expr::Metric(metric) => self.samples(&request, metric, params, &counts).await?,
        };
        let load = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
        let stats = QueryStats {
            rows: load(&counts.rows),
            line_bytes: load(&counts.line_bytes),
            passed: load(&counts.passed),
            queued: started - called,
            execution: started.elapsed(),
        };
        Ok(QueryResult { value, stats })
    }

    fn lines(
        &self,
        request: &RequestContext,
        log: &LogExpr,
        params: QueryParams,
        counts: &RowCounts,
    ) -> Result<QueryValue> {
        if params.limit > self.options.lines_max {
            return Err(LogQlError::Limit(format!(
                "max entries limit per query exceeded, limit > max_entries_limit_per_query ({} > {})",
                params.limit, self.options.lines_max
            )));
        }
        if params.end_ns < params.start_ns {
            return Err(end_before_start());
        }
        let wanted = LinesWanted {
            start_ns: params.start_ns,
            end_ns: params.end_ns,
            limit: params.limit,
            direction: params.direction,
            interval_ns: params.interval_ns,
        };
        log_query::run(&*self.source, request, log, wanted, counts).map(QueryValue::Streams)
    }

    fn times(&self, params: QueryParams) -> Result<Times> {
        let Some(step_ns) = params.step_ns else {
            return Ok(Times {
                start_ns: params.end_ns,
                step_ns: 1,
                count: 1,
                is_range: false,
            });
        };
        if step_ns <= 0 {
            let message = "zero or negative query resolution step widths are not accepted. Try a positive integer";
            return Err(LogQlError::BadRequest(message.to_owned()));
        }
        if params.end_ns < params.start_ns {
            return Err(end_before_start());
        }
        let steps = params.end_ns.abs_diff(params.start_ns) / step_ns.unsigned_abs();
        let count = usize::try_from(steps)
            .unwrap_or(usize::MAX)
            .saturating_add(1);
        if count > self.options.points_max {
            let message = "exceeded maximum resolution of 11,000 points per time series. Try increasing the value of the step parameter";
            return Err(LogQlError::BadRequest(message.to_owned()));
        }
        Ok(Times {
            start_ns: params.start_ns,
            step_ns,
            count,
            is_range: true,
        })
    }

    async fn samples(
        &self,
        request: &RequestContext,
        expr: &MetricExpr,
        params: QueryParams,
        counts: &Arc<RowCounts>,
    ) -> Result<QueryValue> {
        let times = self.times(params)?;
        if let (MetricExpr::Literal(literal), false) = (expr, times.is_range) {
            return Ok(QueryValue::Scalar(Point {
                time_ms: times.time_ms(0),
                value: literal.value,
            }));
        }
        let state = QueryState::new(
            request.clone(),
            Features::default(),
            0,
            self.options.samples_max,
            None,
        );
        let planner = Planner {
            source: &self.source,
            state: &state,
            counts,
            times,
        };
        let plan = planner.plan(expr)?;
        let mut stream = plan.execute(0, Arc::clone(&self.task))?;
        let mut series = Vec::new();
        while let Some(batch) = stream.try_next().await? {
            state.check().map_err(LogQlError::from)?;
            let table = StepTable::from_batches(&[batch])?;
            for row in table.rows() {
                let point = |step: usize| Point {
                    time_ms: times.time_ms(step),
                    value: row.values[step],
                };
                series.push(Series {
                    labels: label_pairs(row.labels),
                    points: row.presence.iter().map(point).collect(),
                });
                if series.len() > self.options.series_max {
                    let limit = self.options.series_max;
                    return Err(LogQlError::Limit(format!(
                        "maximum number of series ({limit}) reached for a single query; consider reducing query cardinality by adding more specific stream selectors, reducing the time range, or aggregating results with functions like sum(), count() or topk()"
                    )));
                }
            }
        }
        if !times.is_range {
            return Ok(QueryValue::Vector(series));
        }
        series.sort_by(|a, b| a.labels.cmp(&b.labels));
        Ok(QueryValue::Matrix(series))
    }
}

fn end_before_start() -> LogQlError {
    LogQlError::BadRequest("end timestamp must not be before or equal to start time".to_owned())
}

fn label_pairs(bytes: &[u8]) -> LabelPairs {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    labelset::iter(bytes)
        .map(|label| (text(label.name), text(label.value)))
        .collect()
}
