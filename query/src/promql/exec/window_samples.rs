//! `WindowSamples`: a range vector as the answer of a query: the samples of one window, without
//! staleness markers; with `anchored` and `smoothed`, with values at both boundaries.

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
use super::series_input::{SeriesConsumer, SeriesInput, consume};
use super::state::QueryState;
use crate::promql::ast::Extension;
use crate::promql::batch::{SampleBatch, SampleBatchBuilder, SeriesSamples};
use crate::promql::failure::PromqlError;
use crate::promql::functions::extended;
use crate::promql::labelset;

/// The operator.
#[derive(Debug)]
pub struct WindowSamples {
    /// The end of the window, ms.
    pub end_ms: i64,
    /// Its length, ms.
    pub range_ms: i64,
    /// How boundaries are treated.
    pub extension: Extension,
    /// The query.
    pub state: Arc<QueryState>,
}

impl Operator for WindowSamples {
    const NAME: &'static str = "WindowSamples";

    fn schema(&self, _inputs: &[Arc<dyn ExecutionPlan>]) -> SchemaRef {
        SampleBatch::schema()
    }

    fn partitions(&self, inputs: &[Arc<dyn ExecutionPlan>]) -> usize {
        partition_count(&inputs[0])
    }

    fn describe(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "end={}, range={}", self.end_ms, self.range_ms)
    }

    fn execute(self: Arc<Self>, inputs: Inputs) -> Result<SendableRecordBatchStream> {
        let state = Arc::clone(&self.state);
        consume(inputs, &[], &state, move |_| Work {
            window: self,
            builder: SampleBatchBuilder::new(),
            count: 0,
        })
    }
}

/// One partition's computation.
struct Work {
    window: Arc<WindowSamples>,
    builder: SampleBatchBuilder,
    /// Samples in the windows since the last batch.
    count: u64,
}

impl SeriesConsumer for Work {
    /// The indexes of the window's samples.
    type Grid = Range<usize>;

    fn grid(&self, times_ms: &[i64]) -> Range<usize> {
        let start_ms = self.window.start_ms();
        let from = times_ms.partition_point(|&time| time <= start_ms);
        from..times_ms
            .partition_point(|&time| time <= self.window.end_ms)
            .max(from)
    }

    fn grid_weight(&self) -> usize {
        1
    }

    fn expect(&mut self, _series: usize) {}

    fn add(&mut self, series: SeriesInput<'_>, inside: &Range<usize>) -> Result<()> {
        let before = self.builder.sample_count();
        if self.window.extension == Extension::None {
            self.add_floats(&series.samples, inside.clone());
        } else {
            self.add_extended(&series.samples)?;
        }
        let start_ms = self.window.start_ms();
        for point in series.samples.histograms {
            let is_inside = start_ms < point.time_ms && point.time_ms <= self.window.end_ms;
            if is_inside && !point.histogram.is_stale() {
                self.builder
                    .push_histogram(point.time_ms, point.start_ms, &point.histogram);
            }
        }
        let added = self.builder.sample_count() - before;
        if added == 0 {
            return Ok(());
        }
        self.count += added as u64;
        if series.drop_name {
            let labels = labelset::without_metadata(series.labels);
            self.builder.finish_row(&labels, false);
        } else {
            self.builder.finish_row(series.labels, false);
        }
        Ok(())
    }

    fn is_full(&self) -> bool {
        self.builder.is_full()
    }

    fn finish(&mut self) -> Result<Option<RecordBatch>> {
        let count = std::mem::take(&mut self.count);
        self.window.state.count_queryable(count, &[count]);
        self.builder.finish()
    }
}

impl Work {
    /// The floats of the window without staleness markers.
    fn add_floats(&mut self, samples: &SeriesSamples<'_>, inside: Range<usize>) {
        let (from_times, from_values) = (&samples.times[inside.clone()], &samples.values[inside]);
        let (times, values) = self.builder.floats();
        if !from_values.iter().any(|&value| is_stale(value)) {
            times.extend_from_slice(from_times);
            values.extend_from_slice(from_values);
            return;
        }
        for (&time, &value) in from_times.iter().zip(from_values) {
            if !is_stale(value) {
                times.push(time);
                values.push(value);
            }
        }
    }

    /// The floats of an `anchored` or `smoothed` window, with its boundaries.
    fn add_extended(&mut self, samples: &SeriesSamples<'_>) -> Result<()> {
        if !samples.histograms.is_empty() {
            let message = "smoothed and anchored modifiers do not work with native histograms";
            return Err(PromqlError::execution(message).into());
        }
        let live = samples.times.iter().zip(samples.values);
        let (times, values): (Vec<i64>, Vec<f64>) = live.filter(|(_, v)| !is_stale(**v)).unzip();
        let start_ms = self.window.start_ms();
        let (mut times, mut values) = self.window.with_boundaries(&times, &values, start_ms);
        self.builder.take_floats(&mut times, &mut values);
        Ok(())
    }
}

impl WindowSamples {
    fn start_ms(&self) -> i64 {
        self.end_ms.saturating_sub(self.range_ms)
    }

    fn with_boundaries(
        &self,
        times: &[i64],
        values: &[f64],
        start_ms: i64,
    ) -> (Vec<i64>, Vec<f64>) {
        let smoothed = self.extension == Extension::Smoothed;
        let range = (start_ms, self.end_ms);
        let Some((_, _, left, right)) = extended::boundaries(times, values, range, smoothed, false)
        else {
            return (Vec::new(), Vec::new());
        };
        let inner = (0..times.len()).filter(|&i| start_ms < times[i] && times[i] < self.end_ms);
        let mut out_times = vec![start_ms];
        let mut out_values = vec![left];
        for i in inner {
            out_times.push(times[i]);
            out_values.push(values[i]);
        }
        out_times.push(self.end_ms);
        out_values.push(right);
        (out_times, out_values)
    }
}
