//! Log records and spans as SQL tables: `logs`, `events`, `spans`.
//!
//! A table asks the engine for the columns that a statement needs and for the rows that its filters
//! leave, and turns blocks into Arrow batches. What the two signals share is here and in [`scan`].

mod columns;
mod filters;
mod logs;
mod scan;
mod spans;
#[cfg(test)]
mod tests;
mod text;
mod top_k;

use std::fmt::Debug;
use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use chronolith_engine::EngineError;
use chronolith_engine::model::{Stream, TraceId};
use chronolith_engine::rows::RowOrder;
use datafusion::catalog::{Session, TableProvider};
use datafusion::error::Result;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableType};
use datafusion::physical_plan::ExecutionPlan;

use super::Source;
use filters::{PushOne, Pushed};
pub(crate) use logs::Logs;
use scan::RowScanExec;
pub(crate) use spans::Spans;
pub(crate) use top_k::TimeTopK;

/// What differs between log records and spans.
pub(crate) trait Signal: Clone + Copy + Debug + Send + Sync + Unpin + 'static {
    /// What a scan answers with.
    type Block: Send + Unpin;
    /// What it is asked for.
    type Condition;
    /// A scan as data.
    type Request: Clone + Debug + Send + Sync + Unpin + 'static;
    /// A scan under way.
    type Scan: Iterator<Item = Result<Self::Block, EngineError>> + Send + Unpin;

    /// All columns of the table.
    fn schema(&self) -> SchemaRef;
    /// Which tests the engine makes.
    fn push_one(&self) -> PushOne<Self::Condition>;
    /// A scan for some columns, numbered as in the schema.
    fn request(
        &self,
        source: &Source,
        pushed: Pushed<Self::Condition>,
        columns: &[usize],
    ) -> Self::Request;
    /// Asks for an order and for the first rows only.
    fn order(request: &mut Self::Request, order: RowOrder, limit: Option<usize>);
    /// Asks for rows of these traces only.
    fn add_traces(request: &mut Self::Request, traces: Vec<TraceId>);
    /// Starts a scan.
    fn open(source: &Source, request: &Self::Request) -> Result<Self::Scan, EngineError>;
    /// How many rows a block has.
    fn rows(block: &Self::Block) -> usize;
    /// The columns of a block, numbered as in the schema.
    fn arrays(
        &self,
        source: &Source,
        block: &Self::Block,
        columns: &[usize],
    ) -> Result<Vec<ArrayRef>>;
}

/// The run that all rows of a stream belong to, if its resource names one.
fn run_id_of(stream: &Stream, names: &[String]) -> Option<String> {
    names.iter().find_map(|name| {
        let found = stream.resource.iter().rev().find(|(key, _)| key == name);
        match found {
            Some((_, chronolith_engine::model::AttributeValue::String(text))) => {
                Some(text.clone()).filter(|text| !text.is_empty())
            }
            _ => None,
        }
    })
}

/// A table of one signal.
#[derive(Debug)]
pub(crate) struct RowsTable<S: Signal> {
    source: Source,
    signal: S,
}

impl<S: Signal> RowsTable<S> {
    pub(crate) fn new(source: Source, signal: S) -> Self {
        Self { source, signal }
    }
}

#[async_trait]
impl<S: Signal> TableProvider for RowsTable<S> {
    fn schema(&self) -> SchemaRef {
        self.signal.schema()
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(
        &self,
        filters: &[&Expr],
    ) -> Result<Vec<TableProviderFilterPushDown>> {
        let one = self.signal.push_one();
        Ok(filters
            .iter()
            .map(|filter| filters::support(filter, one))
            .collect())
    }

    async fn scan(
        &self,
        _: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let pushed = filters::collect(filters, self.signal.push_one());
        let schema = self.signal.schema();
        let columns = match projection {
            Some(columns) => columns.clone(),
            None => (0..schema.fields().len()).collect(),
        };
        let mut request = self.signal.request(&self.source, pushed, &columns);
        S::order(&mut request, RowOrder::Any, limit);
        let schema = Arc::new(schema.project(&columns)?);
        Ok(Arc::new(RowScanExec::new(
            self.source.clone(),
            self.signal,
            request,
            columns,
            schema,
            limit,
        )))
    }
}
