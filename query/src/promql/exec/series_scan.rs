//! `SeriesScan`: the leaf that reads series out of the store.
//!
//! The scan is opened while the plan is built, so that the number of series decides on the number
//! of partitions; each partition decodes its own run of consecutive series, straight into the
//! buffers of the batches. Long series become batches of their own without a copy. Operators that
//! look at one series at a time take them from [`SeriesReader`] without batches in between
//! (see [`series_input`](super::series_input)).

use std::fmt::{self, Formatter};
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use chronolith_engine::model::{
    CounterResetHint, Histogram, HistogramSample, Labels, SampleColumns, TimeRange, TimestampNs,
};
use chronolith_engine::{MetricScan, ScanRequest};
use datafusion::error::Result;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_plan::ExecutionPlan;

use super::operator::{Inputs, Operator};
use super::state::QueryState;
use crate::promql::batch::{HistogramPoint, SampleBatch, SampleBatchBuilder, SeriesSamples};
use crate::promql::failure::PromqlError;
use crate::promql::histogram::reset::detect_reset;

/// How a scan is spread over threads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Spread {
    /// Partitions at most.
    pub partitions_max: usize,
    /// Samples per partition below which another partition costs more than it brings.
    pub samples_min: u64,
}

/// The operator.
#[derive(Debug)]
pub struct SeriesScan {
    request: ScanRequest,
    scan: Arc<OpenScan>,
    range: TimeRange,
    partitions: usize,
    summaries: bool,
    presence_only: bool,
    state: Arc<QueryState>,
}

/// An opened scan; selectors with the same matchers and range share one.
pub struct OpenScan(pub MetricScan);

impl fmt::Debug for OpenScan {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "OpenScan({} series)", self.0.len())
    }
}

impl SeriesScan {
    /// Reads all series of an opened scan in its range.
    pub fn new(
        request: ScanRequest,
        scan: Arc<OpenScan>,
        spread: Spread,
        state: &Arc<QueryState>,
    ) -> Self {
        let samples_min = spread.samples_min.max(1);
        let enough = samples_min.saturating_mul(spread.partitions_max as u64);
        let by_samples = scan.0.approximate_samples(enough) / samples_min;
        let partitions = usize::try_from(by_samples)
            .unwrap_or(usize::MAX)
            .min(scan.0.len())
            .clamp(1, spread.partitions_max.max(1));
        let range = request.range;
        Self {
            request,
            scan,
            range,
            partitions,
            summaries: false,
            presence_only: false,
            state: Arc::clone(state),
        }
    }

    /// Whether it only matters at which times there are samples: most values are then not decoded,
    /// and are arbitrary, but for staleness markers.
    pub fn presence_only(self, presence_only: bool) -> Self {
        Self {
            presence_only,
            ..self
        }
    }

    /// The series of one partition.
    pub fn reader(self: &Arc<Self>, partition: usize) -> SeriesReader {
        let (series, count) = (self.scan.0.len(), self.partitions);
        SeriesReader {
            scan: Arc::clone(self),
            next: series * partition / count,
            end: series * (partition + 1) / count,
            labels: Labels::default(),
            columns: SampleColumns::default(),
            histograms: Vec::new(),
        }
    }

    /// Whether only count and sum of histograms are wanted. As their buckets are not there to tell
    /// resets later on, a histogram whose counter-reset hint is unknown gets one by comparison with
    /// the histogram before.
    pub fn of_summaries(self, summaries: bool) -> Self {
        Self { summaries, ..self }
    }
}

impl Operator for SeriesScan {
    const NAME: &'static str = "SeriesScan";

    fn schema(&self, _inputs: &[Arc<dyn ExecutionPlan>]) -> SchemaRef {
        SampleBatch::schema()
    }

    fn partitions(&self, _inputs: &[Arc<dyn ExecutionPlan>]) -> usize {
        self.partitions
    }

    fn describe(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let TimeRange { start, end } = self.range;
        write!(
            f,
            "matchers={:?}, series={}, from={}, to={}",
            self.request.matchers,
            self.scan.0.len(),
            start.to_millis(),
            end.to_millis()
        )?;
        match self.presence_only {
            false => Ok(()),
            true => f.write_str(", presence only"),
        }
    }

    fn execute(self: Arc<Self>, inputs: Inputs) -> Result<SendableRecordBatchStream> {
        let mut reader = self.reader(inputs.partition());
        Ok(inputs.generate(move || reader.next_batch()))
    }
}

/// Walks one partition's series, either as batches or one by one.
#[derive(Debug)]
pub struct SeriesReader {
    scan: Arc<SeriesScan>,
    next: usize,
    end: usize,
    labels: Labels,
    columns: SampleColumns,
    histograms: Vec<HistogramPoint>,
}

impl SeriesReader {
    /// Goes to the next series that has samples; false if there is none.
    ///
    /// # Errors
    /// Those of the store, a query that was stopped.
    pub fn advance(&mut self) -> Result<bool> {
        while self.next < self.end {
            let index = self.next;
            self.next += 1;
            let (scan, range) = (&self.scan.scan.0, self.scan.range);
            let read = match self.scan.presence_only {
                false => scan.read(index, range, &mut self.columns),
                true => scan.read_presence(index, range, &mut self.columns),
            };
            read.map_err(PromqlError::from)?;
            if self.columns.is_empty() {
                continue;
            }
            self.labels = scan.labels(index);
            self.scan.state.count_read(self.columns.len() as u64);
            self.take_histograms();
            return Ok(true);
        }
        Ok(false)
    }

    /// How many series are still to be looked at.
    pub fn remaining(&self) -> usize {
        self.end - self.next
    }

    /// The label set of the series.
    pub fn labels(&self) -> &[u8] {
        self.labels.as_bytes()
    }

    /// Its float samples, times in nanoseconds.
    pub fn floats(&self) -> (&[i64], &[f64]) {
        (&self.columns.timestamps, &self.columns.values)
    }

    /// Start times of the floats, nanoseconds, 0 where unknown; empty when none is known.
    pub fn starts(&self) -> &[i64] {
        &self.columns.start_timestamps
    }

    /// Its histogram samples.
    pub fn histograms(&self) -> &[HistogramPoint] {
        &self.histograms
    }

    /// Turns the series' times into milliseconds in place. Of several samples in one millisecond the
    /// last one stays.
    pub fn thin_out(&mut self) {
        to_millis(&mut self.columns);
        for start in &mut self.columns.start_timestamps {
            *start = ms(*start);
        }
    }

    /// The samples after [`thin_out`](Self::thin_out).
    pub fn thinned_out(&self) -> SeriesSamples<'_> {
        SeriesSamples {
            times: &self.columns.timestamps,
            values: &self.columns.values,
            starts: &self.columns.start_timestamps,
            histograms: &self.histograms,
        }
    }

    fn take_histograms(&mut self) {
        self.histograms.clear();
        if self.scan.summaries {
            summarize(&mut self.columns.histograms);
        }
        let points = self
            .columns
            .histograms
            .drain(..)
            .map(|sample| HistogramPoint {
                time_ms: sample.time.to_millis(),
                // A start time of 0 means "not known"; so does the engine's.
                start_ms: sample.start_time.map_or(0, TimestampNs::to_millis),
                histogram: sample.histogram,
            });
        self.histograms.extend(points);
    }

    fn next_batch(&mut self) -> Result<Option<RecordBatch>> {
        let mut builder = SampleBatchBuilder::new();
        while !builder.is_full() && self.advance()? {
            self.thin_out();
            let columns = &mut self.columns;
            builder.extend_starts(columns.start_timestamps.iter().copied());
            for point in &self.histograms {
                builder.push_histogram(point.time_ms, point.start_ms, &point.histogram);
            }
            builder.take_floats(&mut columns.timestamps, &mut columns.values);
            builder.finish_row(self.labels.as_bytes(), false);
        }
        builder.finish()
    }
}

/// Leaves count, sum and hint of histograms. Unknown hints are worked out, but for the first
/// histogram, of which nothing can be told.
fn summarize(samples: &mut [HistogramSample]) {
    let mut previous: Option<Arc<Histogram>> = None;
    for sample in samples
        .iter_mut()
        .filter(|sample| !sample.histogram.is_stale())
    {
        let current = Arc::clone(&sample.histogram);
        let counter_reset_hint = match (&previous, current.counter_reset_hint) {
            (Some(previous), CounterResetHint::Unknown) if detect_reset(&current, previous) => {
                CounterResetHint::Reset
            }
            (Some(_), CounterResetHint::Unknown) => CounterResetHint::NotReset,
            (_, hint) => hint,
        };
        sample.histogram = Arc::new(Histogram {
            counter_reset_hint,
            count: current.count,
            sum: current.sum,
            ..Histogram::default()
        });
        previous = Some(current);
    }
}

/// Milliseconds of nanoseconds.
#[inline]
pub fn ms(time_ns: i64) -> i64 {
    TimestampNs(time_ns).to_millis()
}

/// Turns nanoseconds into milliseconds in place. Of several samples in one millisecond the last one
/// stays.
fn to_millis(columns: &mut SampleColumns) {
    for time in &mut columns.timestamps {
        *time = ms(*time);
    }
    if columns.timestamps.windows(2).all(|w| w[0] != w[1]) {
        return;
    }
    let times = std::mem::take(&mut columns.timestamps);
    let kept = |i: &usize| times.get(*i + 1) != times.get(*i);
    columns.values = (0..times.len())
        .filter(kept)
        .map(|i| columns.values[i])
        .collect();
    if !columns.start_timestamps.is_empty() {
        columns.start_timestamps = (0..times.len())
            .filter(kept)
            .map(|i| columns.start_timestamps[i])
            .collect();
    }
    columns.timestamps = (0..times.len()).filter(kept).map(|i| times[i]).collect();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_sample_of_a_millisecond_stays() {
        let mut columns = SampleColumns {
            timestamps: vec![1_000_000, 1_500_000, 2_000_000],
            values: vec![1.0, 2.0, 3.0],
            ..SampleColumns::default()
        };
        to_millis(&mut columns);
        assert_eq!(
            (columns.timestamps, columns.values),
            (vec![1, 2], vec![2.0, 3.0])
        );
    }
}
