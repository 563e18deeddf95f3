//! Table functions: the other query languages inside a statement.
//!
//! `promql(expression[, start, end, step])`, `logql(…)` and `traceql(…)` are tables whose rows are the
//! answer of that language's own engine, so that one statement joins what each of them is best at. The
//! engine runs when the first row is asked for, with the statement's tenant, deadline and cancellation.

mod answer;
mod arguments;
mod logql;
mod promql;
mod traceql;

use std::fmt;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use chronolith_engine::{RequestContext, Snapshot};
use datafusion::catalog::streaming::StreamingTable;
use datafusion::catalog::{TableFunctionArgs, TableFunctionImpl, TableProvider};
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::PartitionStream;
use datafusion::prelude::SessionContext;
use futures::StreamExt;

use super::SqlError;
use crate::logql::eval::LogQlEngine;
use crate::promql::PromqlEngine;

/// What the functions evaluate with.
#[derive(Clone)]
pub(super) struct Languages {
    pub(super) promql: PromqlEngine,
    pub(super) logql: LogQlEngine,
    /// What TraceQL reads.
    pub(super) snapshot: Snapshot,
    pub(super) context: RequestContext,
}

/// Makes the functions known to a session.
pub(super) fn register(session: &SessionContext, languages: &Languages) {
    let functions: [(&str, Plan); 3] = [
        ("promql", promql::plan),
        ("logql", logql::plan),
        ("traceql", traceql::plan),
    ];
    for (name, plan) in functions {
        let languages = languages.clone();
        let function = Function {
            name,
            plan,
            languages,
        };
        session.register_udtf(name, Arc::new(function));
    }
}

/// Reads the arguments, and says what to evaluate.
type Plan = fn(&Languages, arguments::Arguments) -> Result<Evaluation>;

/// An answer to be.
pub(super) struct Evaluation {
    schema: SchemaRef,
    run: Arc<dyn Evaluate>,
}

/// Something that gives all rows at once.
#[async_trait]
pub(super) trait Evaluate: Send + Sync {
    /// The rows, in the columns that were announced.
    async fn rows(&self) -> Result<Vec<RecordBatch>>;
}

struct Function {
    name: &'static str,
    plan: Plan,
    languages: Languages,
}

impl fmt::Debug for Function {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Function")
            .field("name", &self.name)
            .finish()
    }
}

impl TableFunctionImpl for Function {
    fn call_with_args(&self, args: TableFunctionArgs<'_, '_>) -> Result<Arc<dyn TableProvider>> {
        let arguments = arguments::Arguments::read(self.name, args.exprs())?;
        let evaluation = (self.plan)(&self.languages, arguments)?;
        let schema = Arc::clone(&evaluation.schema);
        let partition = Arc::new(Partition {
            name: self.name,
            evaluation,
        });
        Ok(Arc::new(StreamingTable::try_new(schema, vec![partition])?))
    }
}

struct Partition {
    name: &'static str,
    evaluation: Evaluation,
}

impl fmt::Debug for Partition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Partition")
            .field("name", &self.name)
            .finish()
    }
}

impl PartitionStream for Partition {
    fn schema(&self) -> &SchemaRef {
        &self.evaluation.schema
    }

    fn execute(&self, _: Arc<TaskContext>) -> SendableRecordBatchStream {
        let run = Arc::clone(&self.evaluation.run);
        let batches = futures::stream::once(async move { run.rows().await }).flat_map(|rows| {
            futures::stream::iter(match rows {
                Ok(batches) => batches.into_iter().map(Ok).collect(),
                Err(error) => vec![Err(error)],
            })
        });
        let schema = Arc::clone(&self.evaluation.schema);
        Box::pin(RecordBatchStreamAdapter::new(schema, batches))
    }
}

/// The fault of who wrote the statement.
fn invalid(message: String) -> DataFusionError {
    failed(SqlError::Invalid {
        message,
        position: None,
    })
}

fn failed(error: SqlError) -> DataFusionError {
    DataFusionError::External(Box::new(error))
}
