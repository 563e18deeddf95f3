//! Float samples as SQL tables: the long form `metrics`, and `metric."name"` with labels as
//! columns.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef, TimeUnit};
use async_trait::async_trait;
use chronolith_engine::model::{METRIC_NAME, TimeRange};
use chronolith_engine::{Matcher, ScanRequest};
use datafusion::catalog::{Session, TableProvider};
use datafusion::error::Result;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableType};
use datafusion::physical_plan::ExecutionPlan;

use super::metric_scan::{Column, MetricScanExec};
use super::pushdown::{self, ColumnRule, Pushed};
use super::{Source, engine_error};

/// A table of float samples.
#[derive(Debug)]
pub(crate) struct MetricsTable {
    source: Source,
    rule: ColumnRule,
    /// Matchers that make the table what it is.
    own_matchers: Vec<Matcher>,
    columns: Vec<Column>,
    schema: SchemaRef,
}

/// `timestamp(ns, UTC)`.
pub(crate) fn time_type() -> DataType {
    DataType::Timestamp(TimeUnit::Nanosecond, Some("UTC".into()))
}

/// Text of which few distinct values fill many rows.
pub(crate) fn label_type() -> DataType {
    DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8))
}

/// `map<utf8, utf8>`.
pub(crate) fn labels_type() -> DataType {
    let entries = Fields::from(vec![
        Field::new("keys", DataType::Utf8, false),
        Field::new("values", DataType::Utf8, true),
    ]);
    DataType::Map(
        Arc::new(Field::new("entries", DataType::Struct(entries), false)),
        false,
    )
}

impl MetricsTable {
    /// The long form: `time`, `metric`, `labels`, `value`.
    #[must_use]
    pub(crate) fn long(source: Source) -> Self {
        let columns = vec![
            Column::Time,
            Column::Label(METRIC_NAME.into()),
            Column::Labels,
            Column::Value,
        ];
        let schema = Schema::new(vec![
            Field::new("time", time_type(), false),
            Field::new("metric", label_type(), true),
            Field::new("labels", labels_type(), false),
            Field::new("value", DataType::Float64, false),
        ]);
        let rule = ColumnRule::Long;
        Self {
            source,
            rule,
            own_matchers: Vec::new(),
            columns,
            schema: Arc::new(schema),
        }
    }

    /// One metric: `time`, a column per label, `value`.
    ///
    /// # Errors
    /// When the store cannot list the metric's labels.
    pub(crate) fn of_metric(source: Source, name: &str) -> Result<Self> {
        let own_matchers = vec![Matcher::equal(METRIC_NAME, name)];
        let labels = source
            .snapshot
            .label_names(&source.context, &own_matchers, TimeRange::ALL, None)
            .map_err(engine_error)?;
        let mut columns = vec![Column::Time];
        let mut fields = vec![Field::new("time", time_type(), false)];
        for label in labels.iter().filter(|l| *l != METRIC_NAME) {
            fields.push(Field::new(
                pushdown::column_of_label(label),
                label_type(),
                true,
            ));
            columns.push(Column::Label(label.as_str().into()));
        }
        columns.push(Column::Value);
        fields.push(Field::new("value", DataType::Float64, false));
        let schema = Arc::new(Schema::new(fields));
        Ok(Self {
            source,
            rule: ColumnRule::PerMetric,
            own_matchers,
            columns,
            schema,
        })
    }
}

#[async_trait]
impl TableProvider for MetricsTable {
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
            .map(|filter| pushdown::support(filter, self.rule))
            .collect())
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let Pushed {
            range,
            mut matchers,
        } = pushdown::collect(filters, self.rule);
        matchers.extend(self.own_matchers.iter().cloned());
        let request = ScanRequest::new(matchers, range);
        let (columns, schema) = match projection {
            None => (self.columns.clone(), Arc::clone(&self.schema)),
            Some(indexes) => {
                let columns = indexes.iter().map(|&i| self.columns[i].clone()).collect();
                (columns, Arc::new(self.schema.project(indexes)?))
            }
        };
        let partitions = state.config().target_partitions();
        let exec = MetricScanExec::plan(
            self.source.clone(),
            request,
            columns,
            schema,
            limit,
            partitions,
        )?;
        Ok(Arc::new(exec))
    }
}
