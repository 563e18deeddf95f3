//! The physical scan of float samples: decodes series by series into Arrow batches.
//!
//! All scans of a statement read one snapshot of the store, and so do all their partitions.
//! Partition `p` of `n` takes the series `p, p + n, …`. Decoded timestamps and values become the
//! batch's buffers without a copy; label columns are dictionaries with one key run per series.

use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};

use arrow::array::{
    ArrayRef, DictionaryArray, Float64Array, Int32Array, MapBuilder, RecordBatch,
    RecordBatchOptions, StringArray, StringBuilder, TimestampNanosecondArray,
};
use arrow::datatypes::{Int32Type, SchemaRef};
use chronolith_engine::model::SampleColumns;
use chronolith_engine::{MetricScan, ScanRequest};
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::error::Result;
use datafusion::execution::{RecordBatchStream, SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_plan::execution_plan::{
    Boundedness, EmissionType, ReplaceChildrenOptions,
};
use datafusion::physical_plan::metrics::{
    BaselineMetrics, ExecutionPlanMetricsSet, MetricBuilder, MetricsSet,
};
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning, PlanProperties,
};
use futures::Stream;

use super::{Source, engine_error};

/// What a column of the scan holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Column {
    Time,
    Value,
    /// All labels but the name, as a map.
    Labels,
    /// One label; NULL where the series lacks it.
    Label(Arc<str>),
}

/// Reads float samples of the series that match a request.
#[derive(Clone)]
pub(crate) struct MetricScanExec {
    source: Source,
    request: ScanRequest,
    scan: Arc<MetricScan>,
    columns: Vec<Column>,
    schema: SchemaRef,
    limit: Option<usize>,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
}

impl fmt::Debug for MetricScanExec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MetricScanExec")
            .field("request", &self.request)
            .finish_non_exhaustive()
    }
}

impl MetricScanExec {
    /// Selects the series and decides on the partitions: at most `partitions`, and no more than
    /// there are series.
    pub(crate) fn plan(
        source: Source,
        request: ScanRequest,
        columns: Vec<Column>,
        schema: SchemaRef,
        limit: Option<usize>,
        partitions: usize,
    ) -> Result<Self> {
        let scan = source
            .snapshot
            .scan_metrics(&source.context, &request)
            .map_err(engine_error)?;
        let partitions = partitions.min(scan.len()).max(1);
        let properties = PlanProperties::new(
            EquivalenceProperties::new(Arc::clone(&schema)),
            Partitioning::UnknownPartitioning(partitions),
            EmissionType::Incremental,
            Boundedness::Bounded,
        );
        Ok(Self {
            source,
            request,
            scan: Arc::new(scan),
            columns,
            schema,
            limit,
            properties: Arc::new(properties),
            metrics: ExecutionPlanMetricsSet::new(),
        })
    }
}

impl DisplayAs for MetricScanExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let range = self.request.range;
        write!(
            f,
            "MetricScanExec: series={}, matchers={:?}",
            self.scan.len(),
            self.request.matchers
        )?;
        write!(f, ", time=[{}, {}]", range.start.0, range.end.0)?;
        if let Some(limit) = self.limit {
            write!(f, ", limit={limit}")?;
        }
        Ok(())
    }
}

impl ExecutionPlan for MetricScanExec {
    fn name(&self) -> &'static str {
        "MetricScanExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        Vec::new()
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn replace_children(
        self: Arc<Self>,
        _: Vec<Arc<dyn ExecutionPlan>>,
        _: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(self)
    }

    fn with_new_children(
        self: Arc<Self>,
        _: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(self)
    }

    fn execute(
        &self,
        partition: usize,
        task: Arc<TaskContext>,
    ) -> Result<SendableRecordBatchStream> {
        let count = self.properties.partitioning.partition_count();
        Ok(Box::pin(MetricStream {
            exec: self.clone(),
            next: partition,
            stride: count,
            batch_rows: task.session_config().batch_size(),
            left: self.limit.unwrap_or(usize::MAX),
            pending: None,
            baseline: BaselineMetrics::new(&self.metrics, partition),
            series_read: MetricBuilder::new(&self.metrics).counter("series_read", partition),
        }))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }

    fn fetch(&self) -> Option<usize> {
        self.limit
    }

    fn with_fetch(&self, limit: Option<usize>) -> Option<Arc<dyn ExecutionPlan>> {
        Some(Arc::new(Self {
            limit,
            ..self.clone()
        }))
    }
}

struct MetricStream {
    exec: MetricScanExec,
    /// Index of the next series to read.
    next: usize,
    stride: usize,
    batch_rows: usize,
    /// Rows that may still be handed out.
    left: usize,
    /// Decoded rows larger than a batch wait here and are handed out in slices.
    pending: Option<(RecordBatch, usize)>,
    baseline: BaselineMetrics,
    series_read: datafusion::physical_plan::metrics::Count,
}

/// Rows of consecutive series: `columns` holds their samples, `runs` says whose they are.
#[derive(Default)]
struct Gathered {
    timestamps: Vec<i64>,
    values: Vec<f64>,
    runs: Vec<(usize, usize)>,
}

impl MetricStream {
    /// Decodes series until a batch is full; `None` at the end.
    fn gather(&mut self) -> Result<Option<Gathered>> {
        let mut gathered = Gathered::default();
        let mut columns = SampleColumns::default();
        let wanted = self.batch_rows.min(self.left);
        while gathered.timestamps.len() < wanted && self.next < self.exec.scan.len() {
            self.exec.source.context.check().map_err(engine_error)?;
            let index = self.next;
            self.next += self.stride;
            let range = self.exec.request.range;
            self.exec
                .scan
                .read(index, range, &mut columns)
                .map_err(engine_error)?;
            self.series_read.add(1);
            if columns.timestamps.is_empty() {
                continue;
            }
            gathered.runs.push((index, columns.timestamps.len()));
            if gathered.timestamps.is_empty() {
                gathered.timestamps = std::mem::take(&mut columns.timestamps);
                gathered.values = std::mem::take(&mut columns.values);
            } else {
                gathered.timestamps.extend_from_slice(&columns.timestamps);
                gathered.values.extend_from_slice(&columns.values);
            }
        }
        Ok((!gathered.runs.is_empty()).then_some(gathered))
    }

    fn batch(&self, gathered: Gathered) -> Result<RecordBatch> {
        let rows = gathered.timestamps.len();
        let labels: Vec<_> = gathered
            .runs
            .iter()
            .map(|&(index, rows)| (self.exec.scan.labels(index), rows))
            .collect();
        let mut timestamps = Some(gathered.timestamps);
        let mut values = Some(gathered.values);
        let arrays = self.exec.columns.iter().map(|column| -> Result<ArrayRef> {
            Ok(match column {
                Column::Time => {
                    let times = timestamps.take().unwrap_or_default();
                    Arc::new(TimestampNanosecondArray::from(times).with_timezone("UTC"))
                }
                Column::Value => Arc::new(Float64Array::from(values.take().unwrap_or_default())),
                Column::Label(name) => {
                    label_array(labels.iter().map(|(l, rows)| (l.get(name), *rows)), rows)?
                }
                Column::Labels => {
                    let mut builder =
                        MapBuilder::new(None, StringBuilder::new(), StringBuilder::new());
                    for (set, rows) in &labels {
                        for _ in 0..*rows {
                            for label in set.iter().filter(|l| l.name != "__name__") {
                                builder.keys().append_value(label.name);
                                builder.values().append_value(label.value);
                            }
                            builder.append(true)?;
                        }
                    }
                    Arc::new(builder.finish())
                }
            })
        });
        let arrays = arrays.collect::<Result<Vec<_>>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        Ok(RecordBatch::try_new_with_options(
            Arc::clone(&self.exec.schema),
            arrays,
            &options,
        )?)
    }

    fn advance(&mut self) -> Result<Option<RecordBatch>> {
        if self.left == 0 {
            return Ok(None);
        }
        let (batch, at) = match self.pending.take() {
            Some(pending) => pending,
            None => match self.gather()? {
                Some(gathered) => (self.batch(gathered)?, 0),
                None => return Ok(None),
            },
        };
        let rows = self.batch_rows.min(batch.num_rows() - at).min(self.left);
        let slice = batch.slice(at, rows);
        if at + rows < batch.num_rows() {
            self.pending = Some((batch, at + rows));
        }
        self.left -= rows;
        Ok(Some(slice))
    }
}

/// A dictionary column from runs of equal values.
fn label_array<'a>(
    runs: impl Iterator<Item = (Option<&'a str>, usize)>,
    rows: usize,
) -> Result<ArrayRef> {
    let mut words: Vec<&str> = Vec::new();
    let mut keys: Vec<Option<i32>> = Vec::with_capacity(rows);
    for (value, rows) in runs {
        let key = match value {
            None => None,
            // Series come sorted, so equal values are mostly neighbours.
            Some(word) => {
                if words.last() != Some(&word) {
                    words.push(word);
                }
                i32::try_from(words.len() - 1).ok()
            }
        };
        keys.resize(keys.len() + rows, key);
    }
    let words = Arc::new(StringArray::from(words));
    Ok(Arc::new(DictionaryArray::<Int32Type>::try_new(
        Int32Array::from(keys),
        words,
    )?))
}

impl Stream for MetricStream {
    type Item = Result<RecordBatch>;

    fn poll_next(
        mut self: std::pin::Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Self::Item>> {
        let compute = self.baseline.elapsed_compute().clone();
        let timer = compute.timer();
        let next = self.advance().transpose();
        timer.done();
        self.baseline.record_poll(Poll::Ready(next))
    }
}

impl RecordBatchStream for MetricStream {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.exec.schema)
    }
}
