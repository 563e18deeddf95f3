//! `InstantSelect`: raw samples to step vectors: at each step the last sample within the lookback.
//!
//! The window is open on the left: a sample exactly as old as the lookback is not seen. A staleness
//! marker ends a series until its next sample.

use std::fmt::{self, Formatter};
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use chronolith_engine::model::is_stale;
use datafusion::error::Result;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_plan::ExecutionPlan;

use super::operator::{Inputs, Operator, partition_count};
use super::state::QueryState;
use crate::promql::annotations::Annotation;
use crate::promql::ast::PosRange;
use crate::promql::batch::{
    HistogramPoint, SampleBatch, SeriesSamples, StepVectors, StepVectorsBuilder,
};
use crate::promql::functions::{extended, extended_histogram};
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
        let mut histograms = Vec::new();
        inputs.map(move |batch| self.select(&batch, &schema, &mut histograms))
    }
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

impl InstantSelect {
    fn select(
        &self,
        batch: &RecordBatch,
        schema: &SchemaRef,
        histograms: &mut Vec<HistogramPoint>,
    ) -> Result<Option<RecordBatch>> {
        let batch = SampleBatch::from_batch(batch)?;
        let mut builder = StepVectorsBuilder::new(Arc::clone(schema));
        let steps = self.lookup.steps.count;
        let mut seen = vec![
            0_u64;
            if self.state.counts_per_step() {
                steps
            } else {
                0
            }
        ];
        let mut total = 0_u64;
        for row in 0..batch.rows() {
            self.state.check()?;
            let samples = batch.samples(row, histograms);
            builder.begin();
            if self.selected == Selected::Smoothed {
                self.smooth(samples, batch.labels(row), &mut builder);
                builder.finish_row(batch.labels(row), batch.drop_name(row));
                continue;
            }
            let mut cursor = Cursor {
                samples,
                float: 0,
                histogram: 0,
            };
            for step in 0..steps {
                let time = self.lookup.time(step);
                let oldest = time.saturating_sub(self.state.lookback_ms);
                let Some(found) = cursor.last_at(time, oldest) else {
                    continue;
                };
                total += 1;
                if let Some(seen) = seen.get_mut(step) {
                    *seen += 1;
                }
                let seconds = |ms: i64| ms as f64 / 1000.0;
                match (found, self.selected) {
                    (Found::Float(i), Selected::Time) => {
                        builder.set(step, seconds(samples.times[i]))
                    }
                    (Found::Float(i), Selected::StartTime) => {
                        builder.set(step, seconds(samples.starts.get(i).copied().unwrap_or(0)));
                    }
                    (Found::Float(i), _) => builder.set(step, samples.values[i]),
                    (Found::Histogram(p), Selected::Time) => builder.set(step, seconds(p.time_ms)),
                    (Found::Histogram(p), Selected::StartTime) => {
                        builder.set(step, seconds(p.start_ms));
                    }
                    (Found::Histogram(p), _) => builder.set_histogram(step, &p.histogram),
                }
            }
            let drop_name = batch.drop_name(row) || self.derives();
            builder.finish_row(batch.labels(row), drop_name);
        }
        if self.count_weight > 0 {
            self.state.count_queryable(total * self.count_weight, &seen);
        }
        builder.finish()
    }

    /// Whether the result is no value of the metric any more.
    fn derives(&self) -> bool {
        matches!(self.selected, Selected::Time | Selected::StartTime)
    }

    /// Values interpolated at each step; without a later sample the earlier one stays. Between a
    /// float and a histogram there is nothing.
    fn smooth(&self, samples: SeriesSamples<'_>, labels: &[u8], builder: &mut StepVectorsBuilder) {
        let lookback = self.state.lookback_ms;
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
            let after = floats.partition_point(|p| p.0 <= time);
            let before = after
                .checked_sub(1)
                .map(|i| floats[i])
                .filter(|p| p.0 > from);
            let after = floats.get(after).copied().filter(|p| p.0 <= to);
            let next = points.partition_point(|p| p.time_ms <= time);
            let previous = next
                .checked_sub(1)
                .map(|i| points[i])
                .filter(|p| p.time_ms > from);
            let next = points.get(next).copied().filter(|p| p.time_ms <= to);
            let newest = |float: Option<(i64, f64)>, point: Option<&HistogramPoint>| {
                float.map(|p| p.0).max(point.map(|p| p.time_ms))
            };
            let on_sample = newest(before, previous) == Some(time);
            let float_first = before.map(|p| p.0) > previous.map(|p| p.time_ms);
            let float_next = match (after, next) {
                (Some(float), Some(point)) => Some(float.0 < point.time_ms),
                (float, point) => (float.is_some() || point.is_some()).then_some(float.is_some()),
            };
            if !on_sample
                && (before.is_some() || previous.is_some())
                && float_next.is_some_and(|float_next| float_next != float_first)
            {
                let metric = labelset::metric_name(labels);
                self.state
                    .annotate(Annotation::mixed_floats_histograms(self.pos, metric));
                continue;
            }
            let (before, previous) = if float_first {
                (before, None)
            } else {
                (None, previous)
            };
            match (before, previous) {
                (Some(before), _) if before.0 == time => builder.set(step, before.1),
                (Some(before), None) => {
                    let value = after.map_or(before.1, |after| {
                        extended::interpolate(before, after, time, false)
                    });
                    builder.set(step, value);
                }
                (None, Some(previous)) => {
                    let between = next.filter(|_| previous.time_ms < time).and_then(|next| {
                        extended_histogram::interpolate(previous, next, time, false)
                    });
                    match between {
                        Some(point) => builder.set_histogram(step, &point.histogram),
                        None => builder.set_histogram(step, &previous.histogram),
                    }
                }
                _ => {}
            }
        }
    }
}
