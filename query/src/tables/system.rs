//! Schema `system`: what the server knows of itself. `system.queries`: the tenant's queries that run,
//! and those that ended lately.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use arrow::array::{
    ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray, TimestampNanosecondArray,
};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::{SchemaProvider, Session, TableProvider};
use datafusion::datasource::memory::MemorySourceConfig;
use datafusion::error::Result;
use datafusion::logical_expr::{Expr, TableType};
use datafusion::physical_plan::ExecutionPlan;

use super::Source;
use super::metrics::time_type;
use crate::running::QueryRegistry;

/// The schema.
#[derive(Debug)]
pub(crate) struct SystemSchema {
    source: Source,
    queries: QueryRegistry,
}

impl SystemSchema {
    const TABLES: [&str; 1] = ["queries"];

    pub(crate) fn new(source: Source, queries: QueryRegistry) -> Self {
        Self { source, queries }
    }
}

#[async_trait]
impl SchemaProvider for SystemSchema {
    fn table_names(&self) -> Vec<String> {
        Self::TABLES.iter().map(ToString::to_string).collect()
    }

    async fn table(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>> {
        Ok(match name {
            "queries" => Some(Arc::new(QueriesTable::new(
                self.source.clone(),
                self.queries.clone(),
            ))),
            _ => None,
        })
    }

    fn table_exist(&self, name: &str) -> bool {
        Self::TABLES.contains(&name)
    }
}

/// The table.
#[derive(Debug)]
struct QueriesTable {
    source: Source,
    queries: QueryRegistry,
    schema: SchemaRef,
}

impl QueriesTable {
    fn new(source: Source, queries: QueryRegistry) -> Self {
        let schema = Schema::new(vec![
            Field::new("id", DataType::Int64, false),
            Field::new("tenant", DataType::Utf8, false),
            Field::new("principal", DataType::Utf8, true),
            Field::new("language", DataType::Utf8, false),
            Field::new("text", DataType::Utf8, false),
            Field::new("started", time_type(), false),
            Field::new("elapsed_seconds", DataType::Float64, false),
            Field::new("cpu_seconds", DataType::Float64, false),
            Field::new("samples", DataType::Int64, false),
            Field::new("bytes", DataType::Int64, false),
            Field::new("state", DataType::Utf8, false),
        ]);
        Self {
            source,
            queries,
            schema: Arc::new(schema),
        }
    }

    fn batch(&self) -> Result<RecordBatch> {
        let all = self.queries.list(Some(&self.source.context.tenant));
        let whole = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
        let texts = |of: fn(&crate::running::QueryInfo) -> &str| -> ArrayRef {
            Arc::new(StringArray::from_iter_values(all.iter().map(of)))
        };
        let numbers = |of: fn(&crate::running::QueryInfo) -> u64| -> ArrayRef {
            let values = all.iter().map(|info| whole(of(info)));
            Arc::new(Int64Array::from_iter_values(values))
        };
        let seconds = |of: fn(&crate::running::QueryInfo) -> f64| -> ArrayRef {
            Arc::new(Float64Array::from_iter_values(all.iter().map(of)))
        };
        let principals: StringArray = all.iter().map(|info| info.principal.as_deref()).collect();
        let started = all.iter().map(|info| nanoseconds(info.started));
        let started = TimestampNanosecondArray::from_iter_values(started);
        let columns: Vec<ArrayRef> = vec![
            numbers(|info| info.id),
            texts(|info| info.tenant.as_str()),
            Arc::new(principals),
            texts(|info| info.language),
            texts(|info| &info.text),
            Arc::new(started.with_timezone("UTC")),
            seconds(|info| info.elapsed.as_secs_f64()),
            seconds(|info| info.cpu.as_secs_f64()),
            numbers(|info| info.samples),
            numbers(|info| info.bytes),
            texts(|info| info.state.as_str()),
        ];
        Ok(RecordBatch::try_new(Arc::clone(&self.schema), columns)?)
    }
}

fn nanoseconds(time: SystemTime) -> i64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}

#[async_trait]
impl TableProvider for QueriesTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    async fn scan(
        &self,
        _: &dyn Session,
        projection: Option<&Vec<usize>>,
        _: &[Expr],
        _: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let schema = Arc::clone(&self.schema);
        let batch = self.batch()?;
        Ok(MemorySourceConfig::try_new_exec(
            &[vec![batch]],
            schema,
            projection.cloned(),
        )?)
    }
}
