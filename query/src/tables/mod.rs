//! SQL tables over the store: `metrics` (long form), `series`, `logs`, `events`, `spans`, and one table
//! per metric name in schema `metric`; schema `system`.
//!
//! Invariant: a table never reads more than its pushed-down time range and matchers ask for, and
//! sees only the tenant and the required matchers of its [`RequestContext`].

mod metric_scan;
mod metrics;
mod pushdown;
mod rows;
mod series;
mod system;

use std::sync::Arc;

use async_trait::async_trait;
use chronolith_engine::model::{METRIC_NAME, TimeRange};
use chronolith_engine::rows::AttributeChoice;
use chronolith_engine::{Matcher, RequestContext, Snapshot};
use datafusion::catalog::{SchemaProvider, TableProvider};
use datafusion::common::DataFusionError;
use datafusion::error::Result;

use crate::runs::RunNames;
pub(crate) use metrics::{MetricsTable, label_type, labels_type, time_type};
pub(crate) use rows::TimeTopK;
use rows::{Logs, RowsTable, Spans};
pub(crate) use series::SeriesTable;
pub(crate) use system::SystemSchema;

/// Turns an engine error into DataFusion's, keeping the original inside.
pub(crate) fn engine_error(error: chronolith_engine::EngineError) -> DataFusionError {
    DataFusionError::External(Box::new(error))
}

/// The default schema: the tables whose names are fixed.
#[derive(Debug)]
pub(crate) struct PublicSchema {
    source: Source,
}

/// What every table needs: the state of the store that the statement sees, and who asks.
#[derive(Clone)]
pub(crate) struct Source {
    pub(crate) snapshot: Snapshot,
    pub(crate) context: RequestContext,
    /// Which attributes name runs.
    pub(crate) run_names: Arc<RunNames>,
}

impl Source {
    /// The attributes that may name a row's run.
    fn run_id_keys(&self) -> AttributeChoice {
        let names = self.run_names.run_id.iter();
        AttributeChoice::Keys(names.map(|name| name.as_str().into()).collect())
    }
}

impl std::fmt::Debug for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Source")
            .field("tenant", &self.context.tenant)
            .finish_non_exhaustive()
    }
}

impl PublicSchema {
    const TABLES: [&str; 5] = ["metrics", "series", "logs", "events", "spans"];

    pub(crate) fn new(source: Source) -> Self {
        Self { source }
    }

    fn rows(&self, signal: impl rows::Signal) -> Arc<dyn TableProvider> {
        Arc::new(RowsTable::new(self.source.clone(), signal))
    }
}

#[async_trait]
impl SchemaProvider for PublicSchema {
    fn table_names(&self) -> Vec<String> {
        Self::TABLES.iter().map(ToString::to_string).collect()
    }

    async fn table(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>> {
        Ok(match name {
            "metrics" => Some(Arc::new(MetricsTable::long(self.source.clone()))),
            "series" => Some(Arc::new(SeriesTable::new(self.source.clone()))),
            "logs" => Some(self.rows(Logs { only_events: false })),
            "events" => Some(self.rows(Logs { only_events: true })),
            "spans" => Some(self.rows(Spans)),
            _ => None,
        })
    }

    fn table_exist(&self, name: &str) -> bool {
        Self::TABLES.contains(&name)
    }
}

/// Schema `metric`: a table per metric name, its labels as columns.
#[derive(Debug)]
pub(crate) struct MetricSchema {
    source: Source,
}

impl MetricSchema {
    pub(crate) fn new(source: Source) -> Self {
        Self { source }
    }
}

#[async_trait]
impl SchemaProvider for MetricSchema {
    fn table_names(&self) -> Vec<String> {
        let Source {
            snapshot, context, ..
        } = &self.source;
        snapshot
            .label_values(context, METRIC_NAME, &[], TimeRange::ALL, None)
            .unwrap_or_default()
    }

    async fn table(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>> {
        if !self.table_exist(name) {
            return Ok(None);
        }
        Ok(Some(Arc::new(MetricsTable::of_metric(
            self.source.clone(),
            name,
        )?)))
    }

    fn table_exist(&self, name: &str) -> bool {
        let Source {
            snapshot, context, ..
        } = &self.source;
        let matchers = [Matcher::equal(METRIC_NAME, name)];
        snapshot
            .label_values(context, METRIC_NAME, &matchers, TimeRange::ALL, Some(1))
            .is_ok_and(|values| !values.is_empty())
    }
}
