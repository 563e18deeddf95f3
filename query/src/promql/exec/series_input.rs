//! How operators that turn raw samples into step vectors get them: one series after the other.
//!
//! Where the input is a [`SeriesScan`], its series are taken from the store as they are decoded,
//! while they are still in the processor's cache; the batches of a subquery are taken apart. Either
//! way series with equal sample times share what is computed of the times ([`TimeGrids`]).

use std::sync::Arc;
use std::task::Poll;

use arrow::record_batch::RecordBatch;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_plan::metrics::BaselineMetrics;
use futures::{StreamExt, TryStreamExt, stream};

use super::operator::Inputs;
use super::scalar_arg::{ScalarArg, ScalarValues};
use super::series_scan::{SeriesReader, SeriesScan, ms};
use super::state::QueryState;
use super::time_grid::TimeGrids;
use crate::promql::batch::{HistogramPoint, SampleBatch, SeriesSamples};

/// A batch of results is handed on when it has so many cells: few enough to stay in the cache of the
/// processor until they are aggregated.
pub const BATCH_CELLS: usize = 1 << 15;
/// Or so many rows.
pub const BATCH_ROWS: usize = 2048;

/// One series of a range vector.
#[derive(Debug, Clone, Copy)]
pub struct SeriesInput<'a> {
    /// Its label set.
    pub labels: &'a [u8],
    /// Its name is to be removed at the end.
    pub drop_name: bool,
    /// Its samples.
    pub samples: SeriesSamples<'a>,
}

/// Makes step vectors of series.
pub trait SeriesConsumer: Send + 'static {
    /// What is computed of the times of the float samples alone.
    type Grid: Send + 'static;

    /// Computes it; times in ms ascend without duplicates.
    fn grid(&self, times_ms: &[i64]) -> Self::Grid;

    /// About how many times a grid is as large as, beside its own.
    fn grid_weight(&self) -> usize;

    /// So many series will follow at most.
    fn expect(&mut self, series: usize);

    /// Adds a series; `grid` belongs to the times of its floats. The caller looks at deadline and
    /// cancellation.
    ///
    /// # Errors
    /// What stops the query.
    fn add(&mut self, series: SeriesInput<'_>, grid: &Self::Grid) -> Result<()>;

    /// Whether what was made so far is to be handed on.
    fn is_full(&self) -> bool;

    /// Hands on what was made; `None` if that is nothing.
    ///
    /// # Errors
    /// A bug.
    fn finish(&mut self) -> Result<Option<RecordBatch>>;
}

/// The output of a consumer that is given all series of the first input of `inputs`; it is made when
/// the scalar arguments are known.
///
/// # Errors
/// What keeps an input from starting.
pub fn consume<C: SeriesConsumer>(
    inputs: Inputs,
    scalars: &[ScalarArg],
    state: &Arc<QueryState>,
    make: impl FnOnce(Vec<ScalarValues>) -> C + Send + 'static,
) -> Result<SendableRecordBatchStream> {
    let scalars: Vec<_> = scalars.iter().map(|s| s.resolve(&inputs)).collect();
    let scalars = futures::future::try_join_all(scalars);
    let time = inputs.compute_time();
    if let Some((scan, metrics)) = inputs.operator::<SeriesScan>(0) {
        let mut reader = scan.reader(inputs.partition());
        let output = stream::once(async move {
            let mut work = Work::new(make(scalars.await?));
            Ok::<_, DataFusionError>(stream::poll_fn(move |_| {
                let _timer = time.timer();
                Poll::Ready(work.read(&mut reader, metrics.as_ref()).transpose())
            }))
        });
        return Ok(inputs.pass(output.try_flatten()));
    }
    let (input, state) = (inputs.stream(0)?, Arc::clone(state));
    let output = stream::once(async move {
        let mut work = Work::new(make(scalars.await?));
        Ok::<_, DataFusionError>(input.filter_map(move |batch: Result<RecordBatch>| {
            let _timer = time.timer();
            std::future::ready(
                batch
                    .and_then(|batch| work.take_apart(&batch, &state))
                    .transpose(),
            )
        }))
    });
    Ok(inputs.pass(output.try_flatten()))
}

struct Work<C: SeriesConsumer> {
    consumer: C,
    /// `None`: several times are in one millisecond.
    grids: TimeGrids<Option<C::Grid>>,
    histograms: Vec<HistogramPoint>,
    is_done: bool,
}

impl<C: SeriesConsumer> Work<C> {
    fn new(consumer: C) -> Self {
        Self {
            grids: TimeGrids::new(consumer.grid_weight()),
            consumer,
            histograms: Vec::new(),
            is_done: false,
        }
    }

    /// Reads series until there is a batch of results.
    fn read(
        &mut self,
        reader: &mut SeriesReader,
        metrics: Option<&BaselineMetrics>,
    ) -> Result<Option<RecordBatch>> {
        let mut batch = None;
        while batch.is_none() && !self.is_done {
            self.consumer.expect(reader.remaining());
            let read = self.read_batch(reader, metrics);
            self.is_done |= read.is_err();
            batch = read?;
        }
        Ok(batch)
    }

    fn read_batch(
        &mut self,
        reader: &mut SeriesReader,
        metrics: Option<&BaselineMetrics>,
    ) -> Result<Option<RecordBatch>> {
        while !self.consumer.is_full() {
            if !reader.advance()? {
                self.is_done = true;
                break;
            }
            if let Some(metrics) = metrics {
                metrics.record_output(1);
            }
            self.add_read(reader)?;
        }
        self.consumer.finish()
    }

    fn add_read(&mut self, reader: &mut SeriesReader) -> Result<()> {
        if reader.starts().is_empty() {
            let (raw, values) = reader.floats();
            let compute = |times: &[i64]| {
                let is_strict = times.windows(2).all(|w| w[0] < w[1]);
                is_strict.then(|| self.consumer.grid(times))
            };
            let grid = self.grids.of(raw, ms, compute);
            if let Some(facts) = &grid.facts {
                let samples = SeriesSamples {
                    times: &grid.times_ms,
                    values,
                    starts: &[],
                    histograms: reader.histograms(),
                };
                let series = SeriesInput {
                    labels: reader.labels(),
                    drop_name: false,
                    samples,
                };
                return self.consumer.add(series, facts);
            }
        }
        reader.thin_out();
        let samples = reader.thinned_out();
        let grid = self.consumer.grid(samples.times);
        let series = SeriesInput {
            labels: reader.labels(),
            drop_name: false,
            samples,
        };
        self.consumer.add(series, &grid)
    }

    fn take_apart(
        &mut self,
        batch: &RecordBatch,
        state: &QueryState,
    ) -> Result<Option<RecordBatch>> {
        let batch = SampleBatch::from_batch(batch)?;
        self.consumer.expect(batch.rows());
        for row in 0..batch.rows() {
            state.check()?;
            let samples = batch.samples(row, &mut self.histograms);
            let compute = |times: &[i64]| Some(self.consumer.grid(times));
            let grid = self.grids.of(samples.times, |time| time, compute);
            let series = SeriesInput {
                labels: batch.labels(row),
                drop_name: batch.drop_name(row),
                samples,
            };
            if let Some(facts) = &grid.facts {
                self.consumer.add(series, facts)?;
            }
        }
        self.consumer.finish()
    }
}
