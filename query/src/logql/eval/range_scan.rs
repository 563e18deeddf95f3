//! `LogRangeScan`: the leaf of metric queries: rows of a scan become step vectors.
//!
//! Rows are folded as they come, in whatever order, into cells per series and piece of time
//! ([`accumulate`](super::accumulate)); memory is needed for those cells only. A row with an error ends
//! the query, unless the query asks for such rows.

use std::fmt::{self, Debug, Formatter};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use datafusion::error::Result;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::execution::memory_pool::MemoryReservation;
use datafusion::physical_plan::ExecutionPlan;

use super::super::ast::{Grouping, MatchOp, RangeAggregation, RangeOp};
use super::super::pipeline::SampleExtractor;
use super::accumulate::{Accumulator, Counter, Edge, Extreme, Mean, Sum, Values, Variance};
use super::failure::LogQlError;
use super::fold::{Folded, Folder};
use super::pushdown::{self, Pushed};
use super::source::LogSource;
use super::window::Grid;
use crate::promql::batch::{StepVectors, StepVectorsBuilder};
use crate::promql::exec::{Inputs, Operator, QueryState};
use crate::promql::labelset;

/// Rows that all leaves of a query read.
#[derive(Debug, Default)]
pub(super) struct RowCounts {
    pub(super) rows: AtomicU64,
    pub(super) line_bytes: AtomicU64,
    pub(super) passed: AtomicU64,
}

/// The operator.
pub(super) struct LogRangeScan {
    pub(super) source: Arc<dyn LogSource>,
    pub(super) aggregation: RangeAggregation,
    /// What makes a series: the aggregation's own grouping, or that of the one around it.
    pub(super) grouping: Option<Grouping>,
    pub(super) grid: Grid,
    pub(super) state: Arc<QueryState>,
    pub(super) counts: Arc<RowCounts>,
}

impl Debug for LogRangeScan {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.debug_struct("LogRangeScan").finish_non_exhaustive()
    }
}

impl Operator for LogRangeScan {
    const NAME: &'static str = "LogRangeScan";

    fn schema(&self, _inputs: &[Arc<dyn ExecutionPlan>]) -> SchemaRef {
        StepVectors::schema(self.grid.count())
    }

    fn partitions(&self, _inputs: &[Arc<dyn ExecutionPlan>]) -> usize {
        1
    }

    fn describe(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.aggregation)?;
        match &self.grouping {
            Some(grouping) => write!(f, ", series{grouping}"),
            None => Ok(()),
        }
    }

    fn execute(self: Arc<Self>, inputs: Inputs) -> Result<SendableRecordBatchStream> {
        let schema = inputs.schema();
        let memory = inputs.memory();
        let time = inputs.compute_time();
        Ok(inputs.once(async move {
            let _timer = time.timer();
            Ok(self.compute(&schema, &memory)?)
        }))
    }
}

type Batches = Result<Vec<RecordBatch>, LogQlError>;

impl LogRangeScan {
    fn compute(&self, schema: &SchemaRef, memory: &MemoryReservation) -> Batches {
        match self.aggregation.op {
            RangeOp::Rate
            | RangeOp::CountOverTime
            | RangeOp::BytesRate
            | RangeOp::BytesOverTime
            | RangeOp::SumOverTime
            | RangeOp::AbsentOverTime => self.fold::<Sum>(schema, memory),
            RangeOp::AvgOverTime => self.fold::<Mean>(schema, memory),
            RangeOp::MinOverTime => self.fold::<Extreme<false>>(schema, memory),
            RangeOp::MaxOverTime => self.fold::<Extreme<true>>(schema, memory),
            RangeOp::StdvarOverTime => self.fold::<Variance<false>>(schema, memory),
            RangeOp::StddevOverTime => self.fold::<Variance<true>>(schema, memory),
            RangeOp::FirstOverTime => self.fold::<Edge<false>>(schema, memory),
            RangeOp::LastOverTime => self.fold::<Edge<true>>(schema, memory),
            RangeOp::QuantileOverTime => self.fold::<Values>(schema, memory),
            RangeOp::RateCounter => self.fold::<Counter>(schema, memory),
        }
    }

    fn pushed(&self) -> Result<Option<Pushed>, LogQlError> {
        let Some(times) = self.grid.times_ns() else {
            return Ok(None);
        };
        let e = &self.aggregation;
        let needed = pushdown::needed(e, self.grouping.as_ref());
        let needs_lines = matches!(e.op, RangeOp::BytesRate | RangeOp::BytesOverTime);
        let ids_are_columns = self.source.trace_ids_are_columns();
        pushdown::push_down(&e.range.log, times, &needed, needs_lines, ids_are_columns).map(Some)
    }

    fn fold<A: Accumulator>(&self, schema: &SchemaRef, memory: &MemoryReservation) -> Batches {
        let mut folded = Folded::<A>::default();
        if let Some(pushed) = self.pushed()? {
            self.read(&pushed, &mut folded, memory)?;
        }
        for (_, cells) in &mut folded.series {
            cells.tidy();
        }
        if self.aggregation.op == RangeOp::AbsentOverTime {
            return self.absent(&folded, schema);
        }
        self.values(&folded, schema)
    }

    fn read<A: Accumulator>(
        &self,
        pushed: &Pushed,
        folded: &mut Folded<A>,
        memory: &MemoryReservation,
    ) -> Result<(), LogQlError> {
        let e = &self.aggregation;
        let grouping = self.grouping.as_ref();
        let extractor = SampleExtractor::new(e.op, &e.range, grouping, pushed.stages, true)
            .map_err(LogQlError::Internal)?;
        let mut request = pushed.request.clone();
        request.fields = extractor.fields();
        let mut folder = Folder::new(extractor, self.grid, folded);
        for block in self.source.scan(&self.state.request, &request)? {
            self.state.check().map_err(LogQlError::from)?;
            let block = block?;
            let read = folder.block(&block)?;
            memory
                .try_resize(folder.bytes())
                .map_err(LogQlError::from)?;
            let count = |counter: &AtomicU64, more: usize| {
                counter.fetch_add(more as u64, Ordering::Relaxed);
            };
            count(&self.counts.rows, block.rows);
            count(&self.counts.line_bytes, read.line_bytes);
            count(&self.counts.passed, read.passed);
            self.state.request.usage.add_samples(read.passed as u64);
        }
        Ok(())
    }

    fn values<A: Accumulator>(&self, folded: &Folded<A>, schema: &SchemaRef) -> Batches {
        let mut builder = StepVectorsBuilder::new(Arc::clone(schema));
        let mut batches = Vec::new();
        let param = self.aggregation.param.unwrap_or(f64::NAN);
        let per_second = matches!(self.aggregation.op, RangeOp::Rate | RangeOp::BytesRate);
        for (labels, cells) in &folded.series {
            self.state.check().map_err(LogQlError::from)?;
            builder.begin();
            cells.windows(&self.grid, param, per_second, |step, value| {
                builder.set(step, value)
            });
            builder.finish_row(labels, false);
            if builder.is_full() {
                batches.extend(builder.finish()?);
            }
        }
        batches.extend(builder.finish()?);
        Ok(batches)
    }

    /// 1 where no series has a line.
    fn absent<A: Accumulator>(&self, folded: &Folded<A>, schema: &SchemaRef) -> Batches {
        let mut present = vec![false; self.grid.count()];
        for (_, cells) in &folded.series {
            cells.windows(&self.grid, 0.0, false, |step, _| present[step] = true);
        }
        let mut builder = StepVectorsBuilder::new(Arc::clone(schema));
        builder.begin();
        for (step, present) in present.iter().enumerate() {
            if !present {
                builder.set(step, 1.0);
            }
        }
        builder.finish_row(&self.absent_labels(), false);
        Ok(builder.finish()?.into_iter().collect())
    }

    /// The labels that the selector gives a value; not those of which it says several things.
    fn absent_labels(&self) -> Vec<u8> {
        let matchers = &self.aggregation.range.log.matchers;
        let is_only = |name: &str| matchers.iter().filter(|m| m.name == name).count() == 1;
        let equal = matchers
            .iter()
            .filter(|m| m.op == MatchOp::Equal && is_only(&m.name));
        labelset::edit(&[], equal.map(|m| (m.name.as_str(), m.value.as_str())))
    }
}
