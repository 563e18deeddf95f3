//! `RangeFunction`: a function of a range vector: raw samples in, one value per step out.
//!
//! The samples of a series are decoded once; windows are indexes into them, found once for all series
//! with the same sample times ([`Windows`]). What does not depend on the window is computed once per
//! series ([`SeriesFacts`]); rates, sums and means of floats are computed for all windows at once
//! ([`Kernel`]).

use std::fmt::{self, Formatter};
use std::ops::Range;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use chronolith_engine::model::is_stale;
use datafusion::error::Result;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_plan::ExecutionPlan;

use super::operator::{Inputs, Operator, partition_count};
use super::scalar_arg::{ScalarArg, ScalarValues};
use super::series_input::{BATCH_CELLS, BATCH_ROWS, SeriesConsumer, SeriesInput, consume};
use super::state::QueryState;
use super::time_grid::TimeGrids;
use crate::promql::annotations::{Annotation, Annotations};
use crate::promql::ast::{Extension, PosRange};
use crate::promql::batch::{
    HistogramPoint, SeriesSamples, StepMask, StepVectors, StepVectorsBuilder,
};
use crate::promql::failure::PromqlError;
use crate::promql::functions::range::{Outcome, RangeKind, Scope, SeriesFacts};
use crate::promql::functions::rate_grid::RateGrid;
use crate::promql::functions::sum_grid;
use crate::promql::functions::window::Window;
use crate::promql::labelset;
use crate::promql::steps::Lookup;

/// Deadline and cancellation are looked at after so many samples.
const SAMPLES_UNCHECKED: usize = 1 << 20;

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
        let state = Arc::clone(&self.state);
        consume(inputs, &arguments, &state, move |scalars| {
            let counts = Counts::new(&self);
            Work {
                function: self,
                scalars,
                builder: StepVectorsBuilder::new(schema),
                notes: Annotations::default(),
                counts,
                live: LiveSamples::default(),
                buffers: Buffers::default(),
            }
        })
    }
}

/// Reused from series to series.
#[derive(Default)]
struct Buffers {
    histograms: Vec<HistogramPoint>,
    facts: SeriesFacts,
    scratch: Vec<f64>,
}

/// One partition's computation.
struct Work {
    function: Arc<RangeFunction>,
    scalars: Vec<ScalarValues>,
    builder: StepVectorsBuilder,
    notes: Annotations,
    counts: Counts,
    live: LiveSamples,
    buffers: Buffers,
}

/// Where the windows of all steps begin and end among the times of a series' floats.
struct Windows {
    /// The first step whose window may hold a float: what was there for minutes is asked for over
    /// hours.
    first_step: usize,
    /// From there on, until no window holds one: index of the first sample of each, and that after
    /// the last.
    bounds: Vec<(u32, u32)>,
    /// Samples of all of them together.
    samples: u64,
    /// What is computed for all of them at once, if that is how the function is computed.
    kernel: Option<Kernel>,
}

impl Windows {
    /// The steps that [`bounds`](Self::bounds) covers.
    fn steps(&self) -> Range<usize> {
        self.first_step..self.first_step + self.bounds.len()
    }

    /// How many windows are summed between two looks at the deadline: wide windows at many steps may
    /// take longer than the query may.
    fn at_once(&self) -> usize {
        let mean = self.samples / self.bounds.len().max(1) as u64;
        let windows = SAMPLES_UNCHECKED as u64 / mean.max(1);
        usize::try_from(windows)
            .unwrap_or(usize::MAX)
            .max(sum_grid::LANES)
    }

    /// The floats of a step's window.
    fn floats(&self, step: usize) -> Range<usize> {
        let index = step.checked_sub(self.first_step);
        let bound = index.and_then(|index| self.bounds.get(index));
        bound.map_or(0..0, |&(from, to)| from as usize..to as usize)
    }
}

/// A function of floats at all steps at once.
enum Kernel {
    /// `rate`, `increase`, `delta`.
    Rates(RateGrid, StepMask),
    /// `sum_over_time`, and `avg_over_time`, which is a mean; the windows that are not empty.
    Sums { is_mean: bool, mask: StepMask },
}

impl Kernel {
    /// The steps that have a value.
    fn mask(&self) -> &StepMask {
        match self {
            Self::Rates(_, mask) | Self::Sums { mask, .. } => mask,
        }
    }
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

impl RangeFunction {
    /// Which samples step `step` looks at: those in `(from, to]`.
    fn reach(&self, step: usize) -> (i64, i64) {
        let lookback = self.state.lookback_ms;
        let (before, after) = match self.extension {
            Extension::None => (0, 0),
            Extension::Anchored => (lookback, 0),
            Extension::Smoothed => (lookback, lookback),
        };
        let end_ms = self.lookup.time(step);
        let start_ms = end_ms.saturating_sub(self.range_ms);
        (
            start_ms.saturating_sub(before),
            end_ms.saturating_add(after),
        )
    }

    fn kernel(&self, times: &[i64], first: usize, bounds: &[(u32, u32)]) -> Option<Kernel> {
        if self.extension != Extension::None || self.state.counts_per_step() {
            return None;
        }
        let rates = |is_counter, is_rate| {
            let ends = (first..first + bounds.len()).map(|step| self.lookup.time(step));
            let flags = (is_counter, is_rate);
            let grid = RateGrid::new(times, bounds, ends, self.range_ms, flags);
            let mask = self.mask(first, grid.has_value());
            Kernel::Rates(grid, mask)
        };
        let sums = |is_mean| {
            let mask = self.mask(first, bounds.iter().map(|(from, to)| from < to));
            Kernel::Sums { is_mean, mask }
        };
        Some(match self.kind {
            RangeKind::Rate => rates(true, true),
            RangeKind::Increase => rates(true, false),
            RangeKind::Delta => rates(false, false),
            RangeKind::SumOverTime => sums(false),
            RangeKind::AvgOverTime => sums(true),
            _ => return None,
        })
    }

    /// The steps from `first` on of which `present` says so.
    fn mask(&self, first: usize, present: impl Iterator<Item = bool>) -> StepMask {
        StepMask::new(self.lookup.steps.count, first, present)
    }

    fn windows(&self, times: &[i64]) -> Windows {
        let (first, end) = self.active_steps(times);
        let mut slide = Slide::default();
        let bound = |step: usize| {
            let (from, to) = self.reach(step);
            slide.advance(times.len(), |i| times[i], from, to);
            (slide.from as u32, slide.to as u32)
        };
        let bounds: Vec<(u32, u32)> = (first..end).map(bound).collect();
        Windows {
            first_step: first,
            samples: bounds.iter().map(|(from, to)| u64::from(to - from)).sum(),
            kernel: self.kernel(times, first, &bounds),
            bounds,
        }
    }

    /// The first step that may see one of the times, and the one after the last.
    fn active_steps(&self, times: &[i64]) -> (usize, usize) {
        let (Some(&oldest), Some(&newest)) = (times.first(), times.last()) else {
            return (0, 0);
        };
        // Later steps reach no less far.
        let first_where = |is_past: &dyn Fn(usize) -> bool| {
            let (mut low, mut high) = (0, self.lookup.steps.count);
            while low < high {
                let middle = low.midpoint(high);
                if is_past(middle) {
                    high = middle;
                } else {
                    low = middle + 1;
                }
            }
            low
        };
        let first = first_where(&|step| self.reach(step).1 >= oldest);
        let end = first_where(&|step| self.reach(step).0 >= newest);
        (first, end.max(first))
    }
}

impl SeriesConsumer for Work {
    type Grid = Windows;

    fn grid(&self, times_ms: &[i64]) -> Windows {
        self.function.windows(times_ms)
    }

    fn grid_weight(&self) -> usize {
        3 * self.function.lookup.steps.count
    }

    fn expect(&mut self, series: usize) {
        let steps = self.function.lookup.steps.count.max(1);
        self.builder.reserve(series.min(BATCH_CELLS / steps + 1));
    }

    fn add(&mut self, series: SeriesInput<'_>, windows: &Windows) -> Result<()> {
        self.builder.begin();
        let ascends = ascends(series.samples.values);
        let floats = if !ascends && series.samples.values.iter().any(|&v| is_stale(v)) {
            let mut live = std::mem::take(&mut self.live);
            live.take(series.samples);
            let compute = |times: &[i64]| self.function.windows(times);
            let weight = self.grid_weight();
            let grids = live.grids.get_or_insert_with(|| TimeGrids::new(weight));
            let grid = grids.of(&live.times, |time| time, compute);
            let samples = SeriesSamples {
                times: &live.times,
                values: &live.values,
                starts: &live.starts,
                ..series.samples
            };
            let floats = self.steps(samples, false, series.labels, &grid.facts);
            self.live = live;
            floats?
        } else {
            self.steps(series.samples, ascends, series.labels, windows)?
        };
        let drop_name = !self.function.kind.keeps_name() || series.drop_name;
        self.builder.finish_row(series.labels, drop_name);
        if floats {
            self.function.note_name(series.labels, &mut self.notes);
        }
        Ok(())
    }

    fn is_full(&self) -> bool {
        self.builder.cells() >= BATCH_CELLS || self.builder.rows() >= BATCH_ROWS
    }

    fn finish(&mut self) -> Result<Option<RecordBatch>> {
        let notes = std::mem::take(&mut self.notes);
        self.function.state.annotate_all(notes);
        self.counts.hand_over(&self.function);
        self.builder.finish()
    }
}

/// The samples of a series without staleness markers, and the windows over what is left.
#[derive(Default)]
struct LiveSamples {
    times: Vec<i64>,
    values: Vec<f64>,
    starts: Vec<i64>,
    grids: Option<TimeGrids<Windows>>,
}

impl LiveSamples {
    /// Copies the floats that are no staleness markers.
    fn take(&mut self, samples: SeriesSamples<'_>) {
        self.times.clear();
        self.values.clear();
        self.starts.clear();
        for (index, &value) in samples.values.iter().enumerate() {
            if is_stale(value) {
                continue;
            }
            self.times.push(samples.times[index]);
            self.values.push(value);
            self.starts.extend(samples.starts.get(index));
        }
    }
}

impl Work {
    /// All steps of a series without staleness markers among its floats. Whether any is a float.
    fn steps(
        &mut self,
        samples: SeriesSamples<'_>,
        ascends: bool,
        labels: &[u8],
        windows: &Windows,
    ) -> Result<bool> {
        match &windows.kernel {
            Some(kernel) if self.all_windows(&samples, ascends, windows, kernel)? => {
                Ok(kernel.mask().count() > 0)
            }
            _ => self.window_by_window(samples, labels, windows),
        }
    }

    /// The same for all steps at once; false, and nothing done, if the series has histograms or start
    /// times. `ascends`: no value is below the one before.
    fn all_windows(
        &mut self,
        samples: &SeriesSamples<'_>,
        ascends: bool,
        windows: &Windows,
        kernel: &Kernel,
    ) -> Result<bool> {
        let uses_starts = self.function.state.features.use_start_timestamps;
        let has_starts = uses_starts && !samples.starts.is_empty();
        if has_starts || !samples.histograms.is_empty() {
            return Ok(false);
        }
        let values = samples.values;
        let out = self.builder.row_mut().get_mut(windows.steps());
        let out = out.unwrap_or(&mut []);
        match kernel {
            Kernel::Rates(rates, _) => {
                let facts = &mut self.buffers.facts;
                facts.resets.clear();
                if !ascends {
                    let without_starts = SeriesSamples {
                        starts: &[],
                        ..*samples
                    };
                    facts.find(self.function.kind, &without_starts);
                }
                rates.evaluate(values, &facts.resets, out);
            }
            Kernel::Sums { is_mean, .. } => {
                let at_once = windows.at_once();
                for (bounds, out) in windows.bounds.chunks(at_once).zip(out.chunks_mut(at_once)) {
                    self.function.state.check()?;
                    sum_grid::evaluate(values, bounds, *is_mean, out);
                }
            }
        }
        self.builder.mark(kernel.mask());
        self.counts.total += windows.samples;
        Ok(true)
    }

    /// All steps of one series, one after the other. Whether any of them is a float.
    fn window_by_window(
        &mut self,
        samples: SeriesSamples<'_>,
        labels: &[u8],
        windows: &Windows,
    ) -> Result<bool> {
        let function = Arc::clone(&self.function);
        let Buffers {
            histograms: points,
            facts,
            scratch,
        } = &mut self.buffers;
        let mut samples = samples;
        let uses_starts = function.state.features.use_start_timestamps;
        if !uses_starts {
            samples.starts = &[];
        }
        if samples
            .histograms
            .iter()
            .any(|p| p.histogram.is_stale() || (p.start_ms != 0 && !uses_starts))
        {
            points.clear();
            let live = samples
                .histograms
                .iter()
                .filter(|p| !p.histogram.is_stale());
            points.extend(live.map(|point| HistogramPoint {
                start_ms: if uses_starts { point.start_ms } else { 0 },
                ..point.clone()
            }));
            samples.histograms = &*points;
        }
        facts.find(function.kind, &samples);
        let metric = labelset::metric_name(labels);
        let mut histograms = Slide::default();
        let mut any_float = false;
        let mut unchecked = 0;
        // Ends of the windows before: what lies behind them is seen for the first time.
        let (mut floats_seen, mut histograms_seen) = (0, 0);
        let steps = match samples.histograms.is_empty() {
            true => windows.steps(),
            false => 0..function.lookup.steps.count,
        };
        for step in steps {
            let Range {
                start: from,
                end: to,
            } = windows.floats(step);
            if !samples.histograms.is_empty() {
                let time = |i: usize| samples.histograms[i].time_ms;
                let (after, until) = function.reach(step);
                histograms.advance(samples.histograms.len(), time, after, until);
            }
            let end_ms = function.lookup.time(step);
            let window = Window {
                times: &samples.times[from..to],
                values: &samples.values[from..to],
                starts: samples.starts.get(from..to).unwrap_or(&[]),
                histograms: &samples.histograms[histograms.from..histograms.to],
                first: from,
                start_ms: end_ms.saturating_sub(function.range_ms),
                end_ms,
                step_ms: function.lookup.steps.time(step),
                step,
            };
            let seen = window.times.len() + window.histograms.len();
            if seen == 0 {
                continue;
            }
            let new_in = |from: usize, to: usize, seen_to: &mut usize| {
                let first = from.max(*seen_to);
                *seen_to = to.max(*seen_to);
                to.saturating_sub(first)
            };
            let fresh = new_in(from, to, &mut floats_seen)
                + new_in(histograms.from, histograms.to, &mut histograms_seen);
            self.counts.add(step, seen, fresh);
            // Wide windows at many steps: one series alone may take longer than the query may.
            unchecked += seen;
            if unchecked > SAMPLES_UNCHECKED {
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
                notes: &mut self.notes,
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
                    self.builder.set(step, value);
                }
                Some(Outcome::Histogram(h)) => self.builder.set_histogram(step, &h),
                None => {}
            }
        }
        Ok(any_float)
    }
}

/// Whether no value is below the one before it or a NaN.
fn ascends(values: &[f64]) -> bool {
    let Some(first) = values.first() else {
        return true;
    };
    // Without an early end, so that several values are compared at a time.
    let next = values.iter().skip(1);
    !first.is_nan()
        && values
            .iter()
            .zip(next)
            .fold(true, |all, (a, b)| all & (b >= a))
}

/// Statistics of the series since the last batch.
struct Counts {
    total: u64,
    per_step: Vec<u64>,
    /// Samples that no step before had in its window.
    fresh: Vec<u64>,
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
            fresh: vec![0; steps],
        }
    }

    #[inline]
    fn add(&mut self, step: usize, samples: usize, fresh: usize) {
        self.total += samples as u64;
        if let (Some(count), Some(first)) = (self.per_step.get_mut(step), self.fresh.get_mut(step))
        {
            *count += samples as u64;
            *first += fresh as u64;
        }
    }

    /// Adds the counts to the query's, and starts over.
    fn hand_over(&mut self, function: &RangeFunction) {
        if function.count_weight > 0 {
            let total = self.total * function.count_weight;
            function.state.count_queryable(total, &self.per_step);
            function.state.count_fresh(&self.fresh);
        }
        self.total = 0;
        self.per_step.fill(0);
        self.fresh.fill(0);
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
