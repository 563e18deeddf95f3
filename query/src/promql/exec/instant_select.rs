//! `InstantSelect`: raw samples to step vectors: at each step the last sample within the lookback.
//!
//! The window is open on the left: a sample exactly as old as the lookback is not seen. A staleness
//! marker ends a series until its next sample.

use std::fmt::{self, Formatter};
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use chronolith_engine::model::{CounterResetHint, is_stale};
use datafusion::error::Result;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_plan::ExecutionPlan;

use super::operator::{Inputs, Operator, partition_count};
use super::series_input::{BATCH_CELLS, BATCH_ROWS, SeriesConsumer, SeriesInput, consume};
use super::state::QueryState;
use crate::promql::annotations::{Annotation, Annotations};
use crate::promql::ast::PosRange;
use crate::promql::batch::{
    HistogramPoint, SeriesSamples, StepMask, StepVectors, StepVectorsBuilder,
};
use crate::promql::failure::PromqlError;
use crate::promql::functions::{extended, extended_histogram};
use crate::promql::histogram::Histogram;
use crate::promql::labelset;
use crate::promql::steps::Lookup;

/// What is taken of the sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Selected {
    /// Its value.
    Value,
    /// Its value, interpolated between the samples before and after the step (`smoothed`).
    Smoothed,
    /// Its time in seconds (`timestamp`).
    Time,
    /// Its time in seconds; histograms are refused (info metrics of `info`).
    InfoTime,
    /// Its start time in seconds (`start_timestamp`).
    StartTime,
}

/// The operator.
#[derive(Debug)]
pub struct InstantSelect {
    /// Where it looks.
    pub lookup: Lookup,
    /// What it takes.
    pub selected: Selected,
    /// Where the selector stands, for remarks.
    pub pos: PosRange,
    /// How often each sample counts in the statistics; 0 inside subqueries.
    pub count_weight: u64,
    /// The query.
    pub state: Arc<QueryState>,
}

impl Operator for InstantSelect {
    const NAME: &'static str = "InstantSelect";

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
        write!(
            f,
            "{:?}, steps={}, offset={offset_ms}",
            self.selected, steps.count
        )?;
        at_ms.map_or(Ok(()), |at| write!(f, ", at={at}"))
    }

    fn execute(self: Arc<Self>, inputs: Inputs) -> Result<SendableRecordBatchStream> {
        let schema = inputs.schema();
        let state = Arc::clone(&self.state);
        consume(inputs, &[], &state, move |_| {
            let steps = self.lookup.steps.count;
            let counted = if self.state.counts_per_step() {
                steps
            } else {
                0
            };
            Work {
                select: self,
                builder: StepVectorsBuilder::new(schema),
                seen: vec![0; counted],
                fresh: vec![0; counted],
                seen_total: 0,
            }
        })
    }
}

/// One partition's computation.
struct Work {
    select: Arc<InstantSelect>,
    builder: StepVectorsBuilder,
    /// Samples selected per step, if that is asked for, and in total.
    seen: Vec<u64>,
    /// Those of them that no step before has selected.
    fresh: Vec<u64>,
    seen_total: u64,
}

/// The last sample of each step among the times of a series' floats.
struct Selection {
    /// Its index, 0 where there is none.
    indexes: Vec<u32>,
    mask: StepMask,
}

/// Walks through the samples of a series as time goes on.
struct Cursor<'a> {
    samples: SeriesSamples<'a>,
    float: usize,
    histogram: usize,
}

enum Found<'a> {
    Float(usize),
    Histogram(&'a HistogramPoint),
}

impl<'a> Cursor<'a> {
    /// The last sample at or before `time` (times ascend) and after `oldest`.
    #[inline]
    fn last_at(&mut self, time: i64, oldest: i64) -> Option<Found<'a>> {
        let SeriesSamples {
            times, histograms, ..
        } = self.samples;
        while times.get(self.float).is_some_and(|&t| t <= time) {
            self.float += 1;
        }
        while histograms
            .get(self.histogram)
            .is_some_and(|p| p.time_ms <= time)
        {
            self.histogram += 1;
        }
        let float = self.float.checked_sub(1);
        let histogram = self.histogram.checked_sub(1).map(|i| &histograms[i]);
        let (float_time, histogram_time) = (float.map(|i| times[i]), histogram.map(|p| p.time_ms));
        if float_time.max(histogram_time)? <= oldest {
            return None;
        }
        if histogram_time > float_time {
            histogram
                .filter(|p| !p.histogram.is_stale())
                .map(Found::Histogram)
        } else {
            float
                .filter(|&i| !is_stale(self.samples.values[i]))
                .map(Found::Float)
        }
    }
}

impl SeriesConsumer for Work {
    type Grid = Selection;

    fn grid(&self, times_ms: &[i64]) -> Selection {
        let (lookup, lookback) = (self.select.lookup, self.select.state.lookback_ms);
        let mut next = 0;
        let last = |step: usize| {
            let time = lookup.time(step);
            while times_ms.get(next).is_some_and(|&t| t <= time) {
                next += 1;
            }
            let last = next.checked_sub(1)?;
            (times_ms[last] > time.saturating_sub(lookback)).then_some(last as u32)
        };
        let found: Vec<Option<u32>> = (0..lookup.steps.count).map(last).collect();
        Selection {
            mask: StepMask::new(found.len(), 0, found.iter().map(Option::is_some)),
            indexes: found.into_iter().map(Option::unwrap_or_default).collect(),
        }
    }

    fn grid_weight(&self) -> usize {
        self.select.lookup.steps.count
    }

    fn expect(&mut self, series: usize) {
        let steps = self.select.lookup.steps.count.max(1);
        self.builder.reserve(series.min(BATCH_CELLS / steps + 1));
    }

    fn add(&mut self, series: SeriesInput<'_>, selection: &Selection) -> Result<()> {
        self.builder.begin();
        let select = Arc::clone(&self.select);
        if select.selected == Selected::Smoothed {
            select.smooth(series.samples, series.labels, &mut self.builder);
        } else if !self.values_of_floats(&series.samples, selection) {
            self.step_by_step(series.samples, series.labels)?;
        }
        let drop_name = series.drop_name || select.derives();
        self.builder.finish_row(series.labels, drop_name);
        Ok(())
    }

    fn is_full(&self) -> bool {
        self.builder.cells() >= BATCH_CELLS || self.builder.rows() >= BATCH_ROWS
    }

    fn finish(&mut self) -> Result<Option<RecordBatch>> {
        if self.select.count_weight > 0 {
            let total = self.seen_total * self.select.count_weight;
            self.select.state.count_queryable(total, &self.seen);
            self.select.state.count_fresh(&self.fresh);
        }
        self.seen_total = 0;
        self.seen.fill(0);
        self.fresh.fill(0);
        self.builder.finish()
    }
}

impl Work {
    /// The values of a series of floats without staleness markers; false if it is none.
    fn values_of_floats(&mut self, samples: &SeriesSamples<'_>, selection: &Selection) -> bool {
        let values = samples.values;
        let is_plain = self.select.selected == Selected::Value && self.seen.is_empty();
        if !is_plain || values.is_empty() || !samples.histograms.is_empty() {
            return false;
        }
        let mut any_nan = false;
        let row = self.builder.row_mut();
        for (cell, &index) in row.iter_mut().zip(&selection.indexes) {
            *cell = values[index as usize];
            any_nan |= cell.is_nan();
        }
        if any_nan && row.iter().any(|&value| is_stale(value)) {
            return false;
        }
        self.builder.mark(&selection.mask);
        self.seen_total += selection.mask.count() as u64;
        true
    }

    fn step_by_step(&mut self, samples: SeriesSamples<'_>, labels: &[u8]) -> Result<()> {
        let select = &self.select;
        let mut cursor = Cursor {
            samples,
            float: 0,
            histogram: 0,
        };
        let mut selected_before = (0, 0);
        for step in 0..select.lookup.steps.count {
            let time = select.lookup.time(step);
            let oldest = time.saturating_sub(select.state.lookback_ms);
            let Some(found) = cursor.last_at(time, oldest) else {
                continue;
            };
            self.seen_total += 1;
            if let (Some(seen), Some(fresh)) = (self.seen.get_mut(step), self.fresh.get_mut(step)) {
                let selected = (cursor.float, cursor.histogram);
                *seen += 1;
                *fresh += u64::from(selected != selected_before);
                selected_before = selected;
            }
            let builder = &mut self.builder;
            let seconds = |ms: i64| ms as f64 / 1000.0;
            match (found, select.selected) {
                (Found::Float(i), Selected::Time | Selected::InfoTime) => {
                    builder.set(step, seconds(samples.times[i]));
                }
                (Found::Float(i), Selected::StartTime) => {
                    builder.set(step, seconds(samples.starts.get(i).copied().unwrap_or(0)));
                }
                (Found::Float(i), _) => builder.set(step, samples.values[i]),
                (Found::Histogram(p), Selected::Time) => builder.set(step, seconds(p.time_ms)),
                (Found::Histogram(_), Selected::InfoTime) => {
                    let metric = labelset::text(labels);
                    let message =
                        format!("this should be an info metric, with float samples: {metric}");
                    return Err(PromqlError::Execution(message).into());
                }
                (Found::Histogram(p), Selected::StartTime) => {
                    builder.set(step, seconds(p.start_ms));
                }
                (Found::Histogram(p), _) => builder.set_histogram(step, &p.histogram),
            }
        }
        Ok(())
    }
}

impl InstantSelect {
    /// Whether the result is no value of the metric any more.
    fn derives(&self) -> bool {
        matches!(self.selected, Selected::Time | Selected::StartTime)
    }

    /// Values interpolated at each step; without a later sample the earlier one stays. Where floats
    /// and histograms lie within reach there is nothing.
    fn smooth(&self, samples: SeriesSamples<'_>, labels: &[u8], builder: &mut StepVectorsBuilder) {
        let lookback = self.state.lookback_ms;
        let about = (self.pos, labelset::metric_name(labels));
        let mut notes = Annotations::default();
        let kept = |i: &usize| !is_stale(samples.values[*i]);
        let floats: Vec<(i64, f64)> = (0..samples.times.len())
            .filter(kept)
            .map(|i| (samples.times[i], samples.values[i]))
            .collect();
        let points: Vec<&HistogramPoint> = samples
            .histograms
            .iter()
            .filter(|p| !p.histogram.is_stale())
            .collect();
        for step in 0..self.lookup.steps.count {
            let time = self.lookup.time(step);
            let (from, to) = (time.saturating_sub(lookback), time.saturating_add(lookback));
            let floats = within(&floats, |p| p.0, from, to);
            let points = within(&points, |p| p.time_ms, from, to);
            if !floats.is_empty() && !points.is_empty() {
                notes.add(Annotation::mixed_floats_histograms(about.0, about.1));
                continue;
            }
            match neighbours(floats, |p| p.0, time) {
                (Some(&before), Some(&after)) => {
                    builder.set(step, extended::interpolate(before, after, time, false));
                }
                (Some(&(_, value)), None) => builder.set(step, value),
                (None, _) => {}
            }
            match neighbours(points, |p| p.time_ms, time) {
                (Some(before), Some(after)) => {
                    let between = histogram_between(before, after, time, about, &mut notes);
                    if let Some(between) = between {
                        builder.set_histogram(step, &Arc::new(between));
                    }
                }
                (Some(only), None) if only.time_ms == time => {
                    builder.set_histogram(step, &only.histogram);
                }
                // The hint is about a neighbour, not about the value that is carried on.
                (Some(before), None) => {
                    let mut carried = Histogram::clone(&before.histogram);
                    carried.counter_reset_hint = CounterResetHint::Unknown;
                    builder.set_histogram(step, &Arc::new(carried));
                }
                (None, _) => {}
            }
        }
        self.state.annotate_all(notes);
    }
}

/// Those of `samples` after `from` and not after `to`.
fn within<T>(samples: &[T], time_of: impl Fn(&T) -> i64, from: i64, to: i64) -> &[T] {
    let end = samples.partition_point(|sample| time_of(sample) <= to);
    let start = samples.partition_point(|sample| time_of(sample) <= from);
    samples.get(start..end).unwrap_or(&[])
}

/// The last of `samples` before `time` and the first one after it; one that is there exactly stands
/// alone.
fn neighbours<T>(
    samples: &[T],
    time_of: impl Fn(&T) -> i64,
    time: i64,
) -> (Option<&T>, Option<&T>) {
    let next = samples.partition_point(|sample| time_of(sample) < time);
    match samples.get(next) {
        Some(hit) if time_of(hit) == time => (Some(hit), None),
        after => (next.checked_sub(1).and_then(|i| samples.get(i)), after),
    }
}

/// A histogram interpolated as that of a counter, unless both are gauges.
fn histogram_between(
    before: &HistogramPoint,
    after: &HistogramPoint,
    time_ms: i64,
    about: (PosRange, &str),
    notes: &mut Annotations,
) -> Option<Histogram> {
    let (first, second) = (&before.histogram, &after.histogram);
    if first.uses_custom_buckets() != second.uses_custom_buckets() {
        notes.add(Annotation::mixed_exponential_custom(about.0, about.1));
        return None;
    }
    let is_gauge = |h: &Histogram| h.counter_reset_hint == CounterResetHint::Gauge;
    let is_counter = !(is_gauge(first) && is_gauge(second));
    extended_histogram::interpolate(before, after, time_ms, is_counter, about, notes)
}
