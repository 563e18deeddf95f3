//! `WindowSamples`: a range vector as the answer of a query: the samples of one window, without
//! staleness markers; with `anchored` and `smoothed`, with values at both boundaries.

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
use crate::promql::ast::Extension;
use crate::promql::batch::{SampleBatch, SampleBatchBuilder};
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
        inputs.map(move |batch| self.cut(&batch))
    }
}

impl WindowSamples {
    fn cut(&self, batch: &RecordBatch) -> Result<Option<RecordBatch>> {
        let batch = SampleBatch::from_batch(batch)?;
        let start_ms = self.end_ms.saturating_sub(self.range_ms);
        let inside = |time: i64| start_ms < time && time <= self.end_ms;
        let extended = self.extension != Extension::None;
        let mut builder = SampleBatchBuilder::new();
        let mut points = Vec::new();
        let mut count = 0;
        for row in 0..batch.rows() {
            self.state.check()?;
            let samples = batch.samples(row, &mut points);
            let live = (0..samples.times.len())
                .filter(|&i| !is_stale(samples.values[i]))
                .map(|i| (samples.times[i], samples.values[i]));
            let (mut times, mut values): (Vec<i64>, Vec<f64>) =
                live.filter(|(time, _)| extended || inside(*time)).unzip();
            if extended {
                if !samples.histograms.is_empty() {
                    let message =
                        "smoothed and anchored modifiers do not work with native histograms";
                    return Err(PromqlError::execution(message).into());
                }
                (times, values) = self.with_boundaries(&times, &values, start_ms);
            }
            let mut any = !times.is_empty();
            for point in samples.histograms {
                if inside(point.time_ms) && !point.histogram.is_stale() {
                    builder.push_histogram(point.time_ms, point.start_ms, &point.histogram);
                    any = true;
                    count += 1;
                }
            }
            if !any {
                continue;
            }
            count += times.len() as u64;
            builder.take_floats(&mut times, &mut values);
            if batch.drop_name(row) {
                builder.finish_row(&labelset::without_metadata(batch.labels(row)), false);
            } else {
                builder.finish_row(batch.labels(row), false);
            }
        }
        self.state.count_queryable(count, &[count]);
        builder.finish()
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
