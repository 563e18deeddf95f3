//! `RangeFunction`: a function of a range vector: raw samples in, one value per step out.
//!
//! The samples of a series are decoded once; the window slides over them as indexes, and what
//! does not depend on the window is computed once per series ([`SeriesFacts`]).

use std::fmt::{self, Formatter};
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use chronolith_engine::model::is_stale;
use datafusion::error::Result;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_plan::ExecutionPlan;

use super::operator::{Inputs, Operator, partition_count};
use super::scalar_arg::{ScalarArg, ScalarValues};
use super::state::QueryState;
use crate::promql::annotations::{Annotation, Annotations};
use crate::promql::ast::{Extension, PosRange};
use crate::promql::batch::{
    HistogramPoint, SampleBatch, SeriesSamples, StepVectors, StepVectorsBuilder,
};
use crate::promql::failure::PromqlError;
use crate::promql::functions::range::{Outcome, RangeKind, Scope, SeriesFacts};
use crate::promql::functions::window::Window;
use crate::promql::labelset;
use crate::promql::steps::Lookup;

/// The operator. Its inputs are the samples, then the scalar arguments that are no literals.
#[derive(Debug)]
pub struct RangeFunction {
    /// What it computes.
    pub kind: RangeKind,
    /// Where windows end.
    pub lookup: Lookup,
    /// Length of the windows, ms.
    pub range_ms: i64,
    /// How boundaries are treated.
    pub extension: Extension,
    /// Scalar arguments in their order.
    pub scalars: Vec<ScalarArg>,
    /// Where the range argument stands, and the first scalar one.
    pub pos: (PosRange, PosRange),
    /// How often each sample counts in the statistics; 0 inside subqueries.
    pub count_weight: u64,
    /// The query.
    pub state: Arc<QueryState>,
}

impl Operator for RangeFunction {
    const NAME: &'static str = "RangeFunction";

    fn schema(&self, _inputs: &[Arc<dyn ExecutionPlan>]) -> SchemaRef {
        StepVectors::schema(self.lookup.steps.count)
    }

    fn partitions(&self, inputs: &[Arc<dyn ExecutionPlan>]) -> usize {
        partition_count(&inputs[0])
    }

    fn describe(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Lookup {
            steps,
            at_ms,
            offset_ms,
        } = self.lookup;
        let (kind, range) = (self.kind, self.range_ms);
        write!(
            f,
            "{kind:?}, range={range}, steps={}, offset={offset_ms}",
            steps.count
        )?;
        for scalar in &self.scalars {
            write!(f, ", {scalar}")?;
        }
        at_ms.map_or(Ok(()), |at| write!(f, ", at={at}"))
    }

    fn execute(self: Arc<Self>, inputs: Inputs) -> Result<SendableRecordBatchStream> {
        let schema = inputs.schema();
        let arguments = self.scalars.clone();
        inputs.map_with(&arguments, move |scalars| {
            let mut work = Work {
                function: self,
                scalars,
                schema,
                buffers: Buffers::default(),
            };
            move |batch| work.evaluate(&batch)
        })
    }
}

/// Reused from series to series.
#[derive(Default)]
struct Buffers {
    histograms: Vec<HistogramPoint>,
    times: Vec<i64>,
    values: Vec<f64>,
    starts: Vec<i64>,
    facts: SeriesFacts,
    scratch: Vec<f64>,
}

/// One partition's computation.
struct Work {
    function: Arc<RangeFunction>,
    scalars: Vec<ScalarValues>,
    schema: SchemaRef,
    buffers: Buffers,
}

/// Indexes of the samples in `(after, to]`; both bounds only ever grow.
#[derive(Default)]
struct Slide {
    from: usize,
    to: usize,
}

impl Slide {
    #[inline]
    fn advance(&mut self, count: usize, time: impl Fn(usize) -> i64, after: i64, to: i64) {
        while self.to < count && time(self.to) <= to {
            self.to += 1;
        }
        while self.from < self.to && time(self.from) <= after {
            self.from += 1;
        }
    }
}

impl Work {
    fn evaluate(&mut self, batch: &RecordBatch) -> Result<Option<RecordBatch>> {
        let batch = SampleBatch::from_batch(batch)?;
        let function = Arc::clone(&self.function);
        let mut builder = StepVectorsBuilder::new(Arc::clone(&self.schema));
        let mut notes = Annotations::default();
        let mut counts = Counts::new(&function);
        let mut points = std::mem::take(&mut self.buffers.histograms);
        for row in 0..batch.rows() {
            function.state.check()?;
            let labels = batch.labels(row);
            let samples = batch.samples(row, &mut points);
            builder.begin();
            let floats = self.series(samples, labels, &mut builder, &mut notes, &mut counts)?;
            let drop_name = !function.kind.keeps_name() || batch.drop_name(row);
            builder.finish_row(labels, drop_name);
            if floats {
                function.note_name(labels, &mut notes);
            }
        }
        self.buffers.histograms = points;
        function.state.annotate_all(notes);
        counts.finish(&function);
        builder.finish()
    }

    /// All steps of one series. Whether any of them is a float.
    fn series(
        &mut self,
        samples: SeriesSamples<'_>,
        labels: &[u8],
        builder: &mut StepVectorsBuilder,
        notes: &mut Annotations,
        counts: &mut Counts,
    ) -> Result<bool> {
        let function = Arc::clone(&self.function);
        let Buffers {
            times,
            values,
            starts,
            facts,
            scratch,
            ..
        } = &mut self.buffers;
        let live: Vec<HistogramPoint>;
        let mut samples = samples;
        if samples.histograms.iter().any(|p| p.histogram.is_stale()) {
            live = samples
                .histograms
                .iter()
                .filter(|p| !p.histogram.is_stale())
                .cloned()
                .collect();
            samples.histograms = &live;
        }
        if samples.values.iter().any(|&v| is_stale(v)) {
            without_stale(samples, times, values, starts);
            samples = SeriesSamples {
                times,
                values,
                starts,
                ..samples
            };
        }
        if !function.state.features.use_start_timestamps {
            samples.starts = &[];
        }
        let points: Vec<HistogramPoint>;
        if samples.starts.is_empty()
            && samples.histograms.iter().any(|p| p.start_ms != 0)
            && !function.state.features.use_start_timestamps
        {
            points = samples
                .histograms
                .iter()
                .map(|p| HistogramPoint {
                    start_ms: 0,
                    ..p.clone()
                })
                .collect();
            samples.histograms = &points;
        }
        facts.find(function.kind, &samples);
        let metric = labelset::metric_name(labels);
        let lookback = function.state.lookback_ms;
        let (before, after) = match function.extension {
            Extension::None => (0, 0),
            Extension::Anchored => (lookback, 0),
            Extension::Smoothed => (lookback, lookback),
        };
        let (mut floats, mut histograms) = (Slide::default(), Slide::default());
        let mut any_float = false;
        let mut unchecked = 0;
        for step in 0..function.lookup.steps.count {
            let end_ms = function.lookup.time(step);
            let start_ms = end_ms.saturating_sub(function.range_ms);
            let from = start_ms.saturating_sub(before);
            let to = end_ms.saturating_add(after);
            floats.advance(samples.times.len(), |i| samples.times[i], from, to);
            let time = |i: usize| samples.histograms[i].time_ms;
            histograms.advance(samples.histograms.len(), time, from, to);
            let window = Window {
                times: &samples.times[floats.from..floats.to],
                values: &samples.values[floats.from..floats.to],
                starts: samples.starts.get(floats.from..floats.to).unwrap_or(&[]),
                histograms: &samples.histograms[histograms.from..histograms.to],
                first: floats.from,
                start_ms,
                end_ms,
                step_ms: function.lookup.steps.time(step),
                step,
            };
            let seen = window.times.len() + window.histograms.len();
            if seen == 0 {
                continue;
            }
            counts.add(step, seen as u64);
            // Wide windows at many steps: one series alone may take longer than the query may.
            unchecked += seen;
            if unchecked > 1 << 20 {
                unchecked = 0;
                function.state.check()?;
            }
            let scalar = |i: usize| self.scalars.get(i).map_or(f64::NAN, |s| s.get(step));
            let mut scope = Scope {
                metric,
                pos: function.pos.0,
                scalar_pos: function.pos.1,
                scalars: [scalar(0), scalar(1)],
                facts,
                notes,
                scratch,
            };
            let outcome = match function.extension {
                Extension::None => function.kind.evaluate(&window, &mut scope),
                Extension::Anchored => function.kind.evaluate_extended(&window, &mut scope, false),
                Extension::Smoothed => function.kind.evaluate_extended(&window, &mut scope, true),
            };
            match outcome.map_err(PromqlError::Execution)? {
                Some(Outcome::Float(value)) => {
                    any_float = true;
                    builder.set(step, value);
                }
                Some(Outcome::Histogram(histogram)) => builder.set_histogram(step, &histogram),
                None => {}
            }
        }
        Ok(any_float)
    }
}

/// Copies the floats that are no staleness markers.
fn without_stale(
    samples: SeriesSamples<'_>,
    times: &mut Vec<i64>,
    values: &mut Vec<f64>,
    starts: &mut Vec<i64>,
) {
    times.clear();
    values.clear();
    starts.clear();
    for index in 0..samples.values.len() {
        if is_stale(samples.values[index]) {
            continue;
        }
        times.push(samples.times[index]);
        values.push(samples.values[index]);
        starts.extend(samples.starts.get(index));
    }
}

/// Statistics of one batch.
struct Counts {
    total: u64,
    per_step: Vec<u64>,
}

impl Counts {
    fn new(function: &RangeFunction) -> Self {
        let steps = if function.state.counts_per_step() {
            function.lookup.steps.count
        } else {
            0
        };
        Self {
            total: 0,
            per_step: vec![0; steps],
        }
    }

    #[inline]
    fn add(&mut self, step: usize, samples: u64) {
        self.total += samples;
        if let Some(count) = self.per_step.get_mut(step) {
            *count += samples;
        }
    }

    fn finish(self, function: &RangeFunction) {
        if function.count_weight > 0 {
            let total = self.total * function.count_weight;
            function.state.count_queryable(total, &self.per_step);
        }
    }
}

impl RangeFunction {
    /// A remark if a rate was computed of something that is no counter by its name.
    fn note_name(&self, labels: &[u8], notes: &mut Annotations) {
        if !matches!(self.kind, RangeKind::Rate | RangeKind::Increase) {
            return;
        }
        let metric = labelset::metric_name(labels);
        if metric.is_empty() {
            return;
        }
        if self.state.features.type_and_unit_labels {
            let metric_type = labelset::get(labels, "__type__");
            if metric_type != "counter" && metric_type != "histogram" {
                notes.add(Annotation::possible_non_counter_label(
                    self.pos.0,
                    metric,
                    metric_type,
                ));
            }
        } else if !["_total", "_sum", "_count", "_bucket"]
            .iter()
            .any(|s| metric.ends_with(s))
        {
            notes.add(Annotation::possible_non_counter(self.pos.0, metric));
        }
    }
}
