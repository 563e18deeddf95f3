//! The physical scan of log records and spans: blocks in, batches out.
//!
//! The engine reads ahead with several threads, so there is one partition. A filter that another
//! operator makes while the statement runs (a hash join that knows the trace ids of its other side) is
//! looked at when the first row is asked for: rows of other traces are then never read.

use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};

use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::datatypes::SchemaRef;
use chronolith_engine::rows::RowOrder;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{ScalarValue, internal_err};
use datafusion::error::Result;
use datafusion::execution::{RecordBatchStream, SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::expressions::{Column, InListExpr, Literal};
use datafusion::physical_expr::utils::split_conjunction;
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr, PhysicalSortExpr};
use datafusion::physical_expr_common::physical_expr::snapshot_physical_expr;
use datafusion::physical_plan::execution_plan::{
    Boundedness, EmissionType, ReplaceChildrenOptions,
};
use datafusion::physical_plan::filter_pushdown::{
    ChildPushdownResult, FilterPushdownPhase, FilterPushdownPropagation, PushedDown,
};
use datafusion::physical_plan::metrics::{
    BaselineMetrics, Count, ExecutionPlanMetricsSet, MetricBuilder, MetricsSet,
};
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning, PlanProperties,
};
use futures::Stream;

use super::super::{Source, engine_error};
use super::Signal;
use super::filters::{Ask, traces};

/// Trace ids of a join that are worth looking up one by one.
const JOINED_TRACES_MAX: usize = 10_000;

/// Reads rows of one signal.
#[derive(Clone)]
pub(crate) struct RowScanExec<S: Signal> {
    source: Source,
    signal: S,
    request: S::Request,
    /// Columns of the answer, numbered as in the signal's schema.
    columns: Vec<usize>,
    schema: SchemaRef,
    limit: Option<usize>,
    order: RowOrder,
    /// Filters that are complete when the scan starts, or never.
    dynamic: Vec<Arc<dyn PhysicalExpr>>,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
}

impl<S: Signal> fmt::Debug for RowScanExec<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RowScanExec")
            .field("request", &self.request)
            .finish_non_exhaustive()
    }
}

impl<S: Signal> RowScanExec<S> {
    pub(super) fn new(
        source: Source,
        signal: S,
        request: S::Request,
        columns: Vec<usize>,
        schema: SchemaRef,
        limit: Option<usize>,
    ) -> Self {
        let properties = properties(EquivalenceProperties::new(Arc::clone(&schema)));
        Self {
            source,
            signal,
            request,
            columns,
            schema,
            limit,
            order: RowOrder::Any,
            dynamic: Vec::new(),
            properties,
            metrics: ExecutionPlanMetricsSet::new(),
        }
    }

    /// The same scan, in order of time and ended after `limit` rows; `None` if `sort` is by something
    /// else.
    pub(super) fn first_by_time(&self, sort: &PhysicalSortExpr, limit: usize) -> Option<Self> {
        let column = sort.expr.downcast_ref::<Column>()?;
        if column.name() != "time" || self.schema.field(column.index()).name() != "time" {
            return None;
        }
        let order = match sort.options.descending {
            true => RowOrder::NewestFirst,
            false => RowOrder::OldestFirst,
        };
        let limit = self.limit.map_or(limit, |own| own.min(limit));
        let mut request = self.request.clone();
        S::order(&mut request, order, Some(limit));
        let schema = Arc::clone(&self.schema);
        let ordered = EquivalenceProperties::new_with_orderings(schema, [[sort.clone()]]);
        Some(Self {
            request,
            order,
            limit: Some(limit),
            properties: properties(ordered),
            ..self.clone()
        })
    }

    /// The request with what other operators found out meanwhile.
    fn request_now(&self) -> Result<S::Request> {
        let mut request = self.request.clone();
        for filter in &self.dynamic {
            let now = snapshot_physical_expr(Arc::clone(filter))?;
            for part in split_conjunction(&now) {
                if let Some(texts) = listed_traces(part)
                    && texts.len() <= JOINED_TRACES_MAX
                    && let Some(ids) = traces(&Ask::Text(texts))
                {
                    S::add_traces(&mut request, ids);
                }
            }
        }
        Ok(request)
    }
}

/// The texts of `trace_id IN (…)`.
fn listed_traces(filter: &Arc<dyn PhysicalExpr>) -> Option<Vec<String>> {
    let list = filter.downcast_ref::<InListExpr>()?;
    let column = list.expr().downcast_ref::<Column>()?;
    if list.negated() || column.name() != "trace_id" {
        return None;
    }
    let text = |value: &Arc<dyn PhysicalExpr>| match value.downcast_ref::<Literal>()?.value() {
        ScalarValue::Utf8(text) | ScalarValue::LargeUtf8(text) | ScalarValue::Utf8View(text) => {
            // NULL joins with nothing.
            Some(text.clone().unwrap_or_default())
        }
        _ => None,
    };
    list.list().iter().map(text).collect()
}

fn properties(equivalence: EquivalenceProperties) -> Arc<PlanProperties> {
    Arc::new(PlanProperties::new(
        equivalence,
        Partitioning::UnknownPartitioning(1),
        EmissionType::Incremental,
        Boundedness::Bounded,
    ))
}

impl<S: Signal> DisplayAs for RowScanExec<S> {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RowScanExec: {:?}, order={:?}", self.request, self.order)?;
        if !self.dynamic.is_empty() {
            let filters: Vec<String> = self.dynamic.iter().map(ToString::to_string).collect();
            write!(f, ", dynamic=[{}]", filters.join(", "))?;
        }
        if let Some(limit) = self.limit {
            write!(f, ", limit={limit}")?;
        }
        Ok(())
    }
}

impl<S: Signal> ExecutionPlan for RowScanExec<S> {
    fn name(&self) -> &'static str {
        "RowScanExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        Vec::new()
    }

    fn apply_expressions(
        &self,
        each: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        for filter in &self.dynamic {
            if each(filter)? == TreeNodeRecursion::Stop {
                return Ok(TreeNodeRecursion::Stop);
            }
        }
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

    fn execute(&self, partition: usize, _: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        if partition != 0 {
            return internal_err!("partition {partition} of a scan that has one");
        }
        Ok(Box::pin(RowStream {
            exec: self.clone(),
            scan: None,
            baseline: BaselineMetrics::new(&self.metrics, partition),
            blocks_read: MetricBuilder::new(&self.metrics).counter("blocks_read", partition),
        }))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }

    fn fetch(&self) -> Option<usize> {
        self.limit
    }

    fn with_fetch(&self, limit: Option<usize>) -> Option<Arc<dyn ExecutionPlan>> {
        let mut request = self.request.clone();
        S::order(&mut request, self.order, limit);
        Some(Arc::new(Self {
            request,
            limit,
            ..self.clone()
        }))
    }

    /// Keeps filters that are made while the statement runs; the operator that made them applies them
    /// in any case.
    fn handle_child_pushdown_result(
        &self,
        phase: FilterPushdownPhase,
        result: ChildPushdownResult,
        _: &ConfigOptions,
    ) -> Result<FilterPushdownPropagation<Arc<dyn ExecutionPlan>>> {
        let filters = result.parent_filters.iter();
        let unsupported = vec![PushedDown::No; result.parent_filters.len()];
        let answer = FilterPushdownPropagation::with_parent_pushdown_result(unsupported);
        if phase != FilterPushdownPhase::Post {
            return Ok(answer);
        }
        let dynamic: Vec<_> = filters
            .filter(|parent| parent.filter.to_string().contains("DynamicFilter"))
            .map(|parent| Arc::clone(&parent.filter))
            .collect();
        if dynamic.is_empty() {
            return Ok(answer);
        }
        let updated = Self {
            dynamic,
            ..self.clone()
        };
        Ok(answer.with_updated_node(Arc::new(updated)))
    }
}

struct RowStream<S: Signal> {
    exec: RowScanExec<S>,
    scan: Option<S::Scan>,
    baseline: BaselineMetrics,
    blocks_read: Count,
}

impl<S: Signal> RowStream<S> {
    fn advance(&mut self) -> Result<Option<RecordBatch>> {
        let exec = &self.exec;
        let scan = match &mut self.scan {
            Some(scan) => scan,
            none => {
                let request = exec.request_now()?;
                none.insert(S::open(&exec.source, &request).map_err(engine_error)?)
            }
        };
        let Some(block) = scan.next().transpose().map_err(engine_error)? else {
            return Ok(None);
        };
        self.blocks_read.add(1);
        let arrays = exec.signal.arrays(&exec.source, &block, &exec.columns)?;
        let options = RecordBatchOptions::new().with_row_count(Some(S::rows(&block)));
        let schema = Arc::clone(&exec.schema);
        Ok(Some(RecordBatch::try_new_with_options(
            schema, arrays, &options,
        )?))
    }
}

impl<S: Signal> Stream for RowStream<S> {
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

impl<S: Signal> RecordBatchStream for RowStream<S> {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.exec.schema)
    }
}
