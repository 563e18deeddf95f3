//! SQL over the store: one DataFusion session per query, with limits, and nothing else in reach.
//!
//! Invariants: a statement sees one tenant and one state of the store, however often it reads; it can neither read nor write files; its memory comes
//! from one pool shared by all statements; it ends at its deadline or when its stream is dropped.

mod cell;
mod error;
mod full_text;
mod output;
mod table_functions;
#[cfg(test)]
mod tests;

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use chronolith_engine::{EngineError, RequestContext, Store};
use datafusion::catalog::{CatalogProvider, MemoryCatalogProvider, SchemaProvider};
use datafusion::common::{DataFusionError, ParamValues, ScalarValue};
use datafusion::execution::context::SQLOptions;
use datafusion::execution::disk_manager::{DiskManagerBuilder, DiskManagerMode};
use datafusion::execution::memory_pool::{FairSpillPool, TrackConsumersPool};
use datafusion::execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};
use datafusion::execution::{SendableRecordBatchStream, SessionStateBuilder};
use datafusion::physical_plan::{ExecutionPlan, execute_stream};
use datafusion::prelude::{SessionConfig, SessionContext};
use futures::StreamExt;

pub use error::{Position, SqlError};
pub(crate) use full_text::word_patterns;
pub use output::{Encoder, Format, encode, read_arrow_stream};

use crate::logql::eval::{LogQlEngine, LogQlOptions, StoreLogs};
use crate::memory::QueryPool;
use crate::promql::{PromqlEngine, PromqlOptions};
use crate::running::{QueryRegistry, cpu_of};
use crate::runs::RunNames;
use crate::tables::{MetricSchema, PublicSchema, Source, SystemSchema, TimeTopK};
use table_functions::Languages;

/// How often a statement that gives no rows looks whether it should go on.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Distinct ids of a join's smaller side that are handed to the scan of the other side.
const JOINED_IDS_MAX: usize = 10_000;
/// Bytes of those.
const JOINED_IDS_BYTES_MAX: usize = 1 << 20;

/// Settings of [`SqlEngine`].
#[derive(Clone)]
pub struct SqlEngineOptions {
    /// Bytes that all running statements together may hold.
    pub memory_bytes_max: usize,
    /// Bytes of those that one statement may hold.
    pub query_bytes_max: usize,
    /// Partitions a statement is split into: how many cores it may use.
    pub parallelism: usize,
    /// Bytes of a statement's text.
    pub text_bytes_max: usize,
    /// Where large sorts and aggregations spill to; `None` refuses them instead.
    pub spill_dir: Option<std::path::PathBuf>,
    /// What `system.queries` shows.
    pub queries: QueryRegistry,
    /// Which attributes make the column `run_id`.
    pub run_names: Arc<RunNames>,
    /// What `promql(…)` evaluates with; `None`: an engine of its own with default settings.
    pub promql: Option<PromqlEngine>,
    /// What `logql(…)` evaluates with; `None`: an engine of its own with default settings.
    pub logql: Option<LogQlEngine>,
}

impl std::fmt::Debug for SqlEngineOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SqlEngineOptions")
            .field("memory_bytes_max", &self.memory_bytes_max)
            .field("query_bytes_max", &self.query_bytes_max)
            .field("parallelism", &self.parallelism)
            .field("text_bytes_max", &self.text_bytes_max)
            .field("spill_dir", &self.spill_dir)
            .finish_non_exhaustive()
    }
}

impl Default for SqlEngineOptions {
    fn default() -> Self {
        Self {
            memory_bytes_max: 512 << 20,
            query_bytes_max: usize::MAX,
            parallelism: std::thread::available_parallelism().map_or(1, NonZeroUsize::get),
            text_bytes_max: 1 << 20,
            spill_dir: None,
            queries: QueryRegistry::default(),
            run_names: Arc::default(),
            promql: None,
            logql: None,
        }
    }
}

/// Runs SQL statements over a store. Cheap to clone.
#[derive(Clone)]
pub struct SqlEngine {
    store: Store,
    options: SqlEngineOptions,
    promql: PromqlEngine,
    logql: LogQlEngine,
    runtime: Arc<RuntimeEnv>,
}

/// The answer to a statement, still being computed.
pub struct SqlStream {
    pool: Arc<QueryPool>,
    schema: SchemaRef,
    stream: SendableRecordBatchStream,
    plan: Arc<dyn ExecutionPlan>,
    context: RequestContext,
}

impl std::fmt::Debug for SqlEngine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SqlEngine")
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

impl SqlEngine {
    /// An engine over `store`.
    ///
    /// # Errors
    /// When the spill directory cannot be used.
    pub fn new(store: Store, options: SqlEngineOptions) -> Result<Self, SqlError> {
        let top = NonZeroUsize::new(5).unwrap_or(NonZeroUsize::MIN);
        let pool = TrackConsumersPool::new(FairSpillPool::new(options.memory_bytes_max), top);
        let spill = match &options.spill_dir {
            Some(dir) => DiskManagerMode::Directories(vec![dir.clone()]),
            None => DiskManagerMode::Disabled,
        };
        let runtime = RuntimeEnvBuilder::new()
            .with_memory_pool(Arc::new(pool))
            .with_disk_manager_builder(DiskManagerBuilder::default().with_mode(spill))
            .build_arc()?;
        let promql = options.promql.clone().unwrap_or_else(|| {
            let options = PromqlOptions {
                memory_pool: Some(Arc::clone(&runtime.memory_pool)),
                ..PromqlOptions::default()
            };
            PromqlEngine::new(store.clone(), options)
        });
        let logql = options.logql.clone().unwrap_or_else(|| {
            let options = LogQlOptions {
                memory_pool: Some(Arc::clone(&runtime.memory_pool)),
                ..LogQlOptions::default()
            };
            LogQlEngine::new(Arc::new(StoreLogs::new(store.clone())), options)
        });
        Ok(Self {
            store,
            options,
            promql,
            logql,
            runtime,
        })
    }

    /// A DataFusion session that sees the tables of the context's tenant as they are now: all scans of
    /// all statements planned on it read this one state of the store.
    ///
    /// Useful to embed: register further tables or functions, then plan statements on it. Hold it for a
    /// statement, not for a day: see [`Snapshot`](chronolith_engine::Snapshot).
    ///
    /// # Errors
    /// A context that was cancelled or has timed out.
    pub fn session(&self, context: &RequestContext) -> Result<SessionContext, SqlError> {
        let pool = QueryPool::new(&self.runtime.memory_pool, self.options.query_bytes_max);
        self.session_in(context, &pool)
    }

    fn session_in(
        &self,
        context: &RequestContext,
        pool: &Arc<QueryPool>,
    ) -> Result<SessionContext, SqlError> {
        let snapshot = self.store.pin(context)?;
        let source = Source {
            snapshot: snapshot.clone(),
            context: context.clone(),
            run_names: Arc::clone(&self.options.run_names),
        };
        let config = SessionConfig::new()
            .with_target_partitions(self.options.parallelism)
            .with_information_schema(true)
            .with_create_default_catalog_and_schema(false)
            .with_default_catalog_and_schema("chronolith", "public")
            .set_bool("datafusion.sql_parser.collect_spans", true)
            // The generic dialect takes `match` for MySQL's MATCH … AGAINST.
            .set_str("datafusion.sql_parser.dialect", "PostgreSQL")
            // A join by trace id reads only the traces of its other side.
            .set_usize(
                "datafusion.optimizer.hash_join_inlist_pushdown_max_distinct_values",
                JOINED_IDS_MAX,
            )
            .set_usize(
                "datafusion.optimizer.hash_join_inlist_pushdown_max_size",
                JOINED_IDS_BYTES_MAX,
            );
        let catalog = MemoryCatalogProvider::new();
        let queries = self.options.queries.clone();
        let schemas: [(&str, Arc<dyn SchemaProvider>); 3] = [
            ("public", Arc::new(PublicSchema::new(source.clone()))),
            ("metric", Arc::new(MetricSchema::new(source.clone()))),
            ("system", Arc::new(SystemSchema::new(source, queries))),
        ];
        for (name, schema) in schemas {
            // A memory catalog takes any schema, so there is no error to report.
            let _ = catalog.register_schema(name, schema);
        }
        let state = SessionStateBuilder::new()
            .with_config(config)
            .with_runtime_env(pool.runtime(&self.runtime))
            .with_default_features()
            .with_physical_optimizer_rule(Arc::new(TimeTopK))
            .build();
        let session = SessionContext::new_with_state(state);
        session.register_udf(full_text::function());
        let languages = Languages {
            promql: self.promql.clone(),
            logql: self.logql.clone(),
            snapshot,
            context: context.clone(),
        };
        table_functions::register(&session, &languages);
        session.register_catalog("chronolith", Arc::new(catalog));
        Ok(session)
    }

    /// Plans a statement and starts it. `params` fill `$1`, `$2`, …
    ///
    /// # Errors
    /// [`SqlError`] with the position where the text is at fault, where that is known.
    pub async fn query(
        &self,
        context: &RequestContext,
        text: &str,
        params: &[serde_json::Value],
    ) -> Result<SqlStream, SqlError> {
        if text.len() > self.options.text_bytes_max {
            return Err(SqlError::Invalid {
                message: format!(
                    "statement of {} bytes, at most {} are allowed",
                    text.len(),
                    self.options.text_bytes_max
                ),
                position: None,
            });
        }
        let pool = QueryPool::new(&self.runtime.memory_pool, self.options.query_bytes_max);
        let session = self.session_in(context, &pool)?;
        let read_only = SQLOptions::new()
            .with_allow_ddl(false)
            .with_allow_dml(false)
            .with_allow_statements(false);
        let plan = session
            .state()
            .create_logical_plan(text)
            .await
            .map_err(SqlError::planning)?;
        read_only.verify_plan(&plan).map_err(SqlError::planning)?;
        let plan = if params.is_empty() {
            plan
        } else {
            let values = params
                .iter()
                .map(parameter)
                .collect::<Result<Vec<_>, _>>()?;
            plan.with_param_values(ParamValues::from(values))
                .map_err(SqlError::planning)?
        };
        let frame = session
            .execute_logical_plan(plan)
            .await
            .map_err(SqlError::planning)?;
        let task = Arc::new(frame.task_ctx());
        let plan = frame
            .create_physical_plan()
            .await
            .map_err(SqlError::planning)?;
        let stream = execute_stream(Arc::clone(&plan), task).map_err(SqlError::planning)?;
        Ok(SqlStream {
            pool,
            schema: stream.schema(),
            stream,
            plan,
            context: context.clone(),
        })
    }
}

fn parameter(value: &serde_json::Value) -> Result<ScalarValue, SqlError> {
    use serde_json::Value;
    Ok(match value {
        Value::Null => ScalarValue::Null,
        Value::Bool(flag) => ScalarValue::from(*flag),
        Value::Number(number) => match number.as_i64() {
            Some(whole) => ScalarValue::from(whole),
            None => ScalarValue::from(number.as_f64().unwrap_or(f64::NAN)),
        },
        Value::String(text) => ScalarValue::from(text.as_str()),
        Value::Array(_) | Value::Object(_) => {
            return Err(SqlError::Invalid {
                message: "a parameter must be null, a truth value, a number or text".into(),
                position: None,
            });
        }
    })
}

impl SqlStream {
    /// Columns of the answer.
    #[must_use]
    pub fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    /// The next batch of rows; `None` at the end.
    ///
    /// # Errors
    /// [`SqlError::Timeout`] once the context's deadline has passed, [`SqlError::Cancelled`] once it is
    /// cancelled; otherwise what went wrong.
    pub async fn next(&mut self) -> Option<Result<RecordBatch, SqlError>> {
        loop {
            match self.context.check() {
                Ok(()) => {}
                Err(EngineError::Cancelled) => return Some(Err(SqlError::Cancelled)),
                Err(_) => return Some(Err(SqlError::Timeout)),
            }
            // Sorts and joins work for long without a look at the context.
            let next = tokio::time::timeout(LOOK_EVERY, self.stream.next());
            if let Ok(result) = next.await {
                return result.map(|batch| batch.map_err(|error| self.failed(error)));
            }
        }
    }

    fn failed(&self, error: DataFusionError) -> SqlError {
        match (SqlError::execution(error), self.pool.refusal()) {
            (SqlError::Resources(_), Some(own)) => SqlError::TooMuchMemory(own.to_owned()),
            (other, _) => other,
        }
    }

    /// Processor time that the operators have spent so far.
    #[must_use]
    pub fn cpu(&self) -> Duration {
        cpu_of(&self.plan)
    }

    /// All rows at once.
    ///
    /// # Errors
    /// As [`SqlStream::next`].
    pub async fn collect(mut self) -> Result<Vec<RecordBatch>, SqlError> {
        let mut batches = Vec::new();
        while let Some(batch) = self.next().await {
            batches.push(batch?);
        }
        Ok(batches)
    }
}

impl From<DataFusionError> for SqlError {
    fn from(error: DataFusionError) -> Self {
        Self::execution(error)
    }
}

impl From<EngineError> for SqlError {
    fn from(error: EngineError) -> Self {
        match error {
            EngineError::DeadlineExceeded => Self::Timeout,
            EngineError::Cancelled => Self::Cancelled,
            other => Self::Engine(other),
        }
    }
}
