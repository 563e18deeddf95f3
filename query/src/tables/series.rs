//! Table `series`: one row per series with its first and last sample and how many there are.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, DictionaryArray, Int64Array, MapBuilder, RecordBatch, StringBuilder,
    TimestampNanosecondArray,
};
use arrow::datatypes::{DataType, Field, Int32Type, Schema, SchemaRef};
use async_trait::async_trait;
use chronolith_engine::ScanRequest;
use chronolith_engine::model::{METRIC_NAME, SampleColumns, TimeRange};
use datafusion::catalog::{Session, TableProvider};
use datafusion::datasource::memory::MemorySourceConfig;
use datafusion::error::Result;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableType};
use datafusion::physical_plan::ExecutionPlan;

use super::metrics::{label_type, labels_type, time_type};
use super::pushdown::{self, ColumnRule};
use super::{Source, engine_error};

/// The table.
#[derive(Debug)]
pub(crate) struct SeriesTable {
    source: Source,
    schema: SchemaRef,
}

impl SeriesTable {
    pub(crate) fn new(source: Source) -> Self {
        let schema = Schema::new(vec![
            Field::new("metric", label_type(), true),
            Field::new("labels", labels_type(), false),
            Field::new("first", time_type(), true),
            Field::new("last", time_type(), true),
            Field::new("samples", DataType::Int64, false),
        ]);
        Self {
            source,
            schema: Arc::new(schema),
        }
    }

    fn batch(&self, request: &ScanRequest, count_samples: bool) -> Result<RecordBatch> {
        let Source {
            snapshot, context, ..
        } = &self.source;
        let scan = snapshot
            .scan_metrics(context, request)
            .map_err(engine_error)?;
        let mut names = Vec::new();
        let mut labels = MapBuilder::new(None, StringBuilder::new(), StringBuilder::new());
        let (mut first, mut last, mut samples) = (Vec::new(), Vec::new(), Vec::new());
        let mut columns = SampleColumns::default();
        for index in 0..scan.len() {
            context.check().map_err(engine_error)?;
            if count_samples {
                scan.read(index, request.range, &mut columns)
                    .map_err(engine_error)?;
            }
            let set = scan.labels(index);
            names.push(set.get(METRIC_NAME).map(str::to_owned));
            for label in set.iter().filter(|l| l.name != METRIC_NAME) {
                labels.keys().append_value(label.name);
                labels.values().append_value(label.value);
            }
            labels.append(true)?;
            let histogram_times = columns.histograms.iter().map(|h| h.time.0);
            let times = columns.timestamps.iter().copied().chain(histogram_times);
            first.push(times.clone().min());
            last.push(times.max());
            samples.push(i64::try_from(columns.len()).unwrap_or(i64::MAX));
        }
        let names: DictionaryArray<Int32Type> = names.iter().map(|n| n.as_deref()).collect();
        let arrays: Vec<ArrayRef> = vec![
            Arc::new(names),
            Arc::new(labels.finish()),
            Arc::new(TimestampNanosecondArray::from(first).with_timezone("UTC")),
            Arc::new(TimestampNanosecondArray::from(last).with_timezone("UTC")),
            Arc::new(Int64Array::from(samples)),
        ];
        Ok(RecordBatch::try_new(Arc::clone(&self.schema), arrays)?)
    }
}

#[async_trait]
impl TableProvider for SeriesTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(
        &self,
        filters: &[&Expr],
    ) -> Result<Vec<TableProviderFilterPushDown>> {
        Ok(filters
            .iter()
            .map(|f| pushdown::support(f, ColumnRule::Long))
            .collect())
    }

    async fn scan(
        &self,
        _: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        _: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let matchers = pushdown::collect(filters, ColumnRule::Long).matchers;
        let request = ScanRequest::new(matchers, TimeRange::ALL);
        let count_samples = projection.is_none_or(|columns| columns.iter().any(|&c| c >= 2));
        let batch = self.batch(&request, count_samples)?;
        let schema = Arc::clone(&self.schema);
        Ok(MemorySourceConfig::try_new_exec(
            &[vec![batch]],
            schema,
            projection.cloned(),
        )?)
    }
}
