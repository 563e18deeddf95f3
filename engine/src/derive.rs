//! Writing what was computed: rule output, scores, metrics of spans.
//!
//! Derived rows name their *derivation*, live in heads and segments of their own, and a range of them
//! can be replaced as one commit, so that a recomputation also removes points. Readers see received
//! and derived rows together; of two rows of a series and time, the one that arrived later.

use std::sync::Arc;

use crate::append::{Append, Committed};
use crate::context::RequestContext;
use crate::error::{EngineError, Result};
use crate::index::Matcher;
use crate::limits;
use crate::model::{
    Generation, Histogram, Labels, Metadata, SampleColumns, SeriesRef, Signal, TimeRange,
    TimestampNs,
};
use crate::scan::metric_scan::all_matchers;
use crate::store::Store;
use crate::wal::Deletion;

/// A computation that writes rows, and the state of the store that it read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Derivation {
    id: Arc<str>,
    sources: Vec<Generation>,
}

impl Derivation {
    /// Names a computation; the name stays the same from run to run, e.g. `rules/node.yml/cpu`. Each
    /// has segments of its own: name groups of rules rather than single ones.
    ///
    /// # Errors
    /// [`EngineError::InvalidArgument`] for an empty name or one beyond
    /// [`limits::DERIVATION_BYTES_MAX`].
    pub fn new(id: &str) -> Result<Self> {
        if id.is_empty() || id.len() > limits::DERIVATION_BYTES_MAX {
            return Err(EngineError::InvalidArgument(format!(
                "derivation of {} bytes, expected 1 to {}",
                id.len(),
                limits::DERIVATION_BYTES_MAX
            )));
        }
        Ok(Self {
            id: Arc::from(id),
            sources: Vec::new(),
        })
    }

    /// Adds a generation that the computation read ([`crate::Snapshot::generation`]): when the store
    /// has moved on, the rows may be stale. Without any, it is the generation at the commit.
    #[must_use]
    pub fn from_generation(mut self, source: Generation) -> Self {
        self.sources.push(source);
        self
    }

    /// The name.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }
}

/// Collects the rows of one run of a computation and stores all of them or none. As [`Append`], whose
/// remarks on series references hold here too.
#[derive(Debug)]
pub struct Derive<'a> {
    append: Append<'a>,
    context: RequestContext,
    derivation: Derivation,
    replaced: Vec<(Vec<Matcher>, TimeRange)>,
}

impl<'a> Derive<'a> {
    pub(crate) fn new(
        store: &'a Store,
        context: &RequestContext,
        derivation: &Derivation,
    ) -> Result<Self> {
        Ok(Self {
            append: Append::new(store, context)?,
            context: context.clone(),
            derivation: derivation.clone(),
            replaced: Vec::new(),
        })
    }

    /// Removes, with the commit, what the derivation wrote before to series that match in a range. An
    /// equality with the empty string demands that a label is absent.
    pub fn replace(&mut self, matchers: &[Matcher], range: TimeRange) {
        self.replaced.push((matchers.to_vec(), range));
    }

    /// As [`Append::define`].
    ///
    /// # Errors
    /// As [`Append::define`].
    pub fn define(&mut self, labels: &Labels) -> Result<SeriesRef> {
        self.append.define(None, labels)
    }

    /// Adds a float sample.
    pub fn sample(&mut self, series: SeriesRef, time: TimestampNs, value: f64) {
        self.append.sample(series, time, value);
    }

    /// Adds a native histogram.
    pub fn histogram(&mut self, series: SeriesRef, time: TimestampNs, histogram: Arc<Histogram>) {
        self.append.histogram(series, time, None, histogram);
    }

    /// Adds metadata of a metric name.
    pub fn metadata(&mut self, metric: &str, metadata: Metadata) {
        self.append.metadata(metric, metadata);
    }

    /// Adds all samples of one series.
    pub(crate) fn columns(&mut self, series: SeriesRef, columns: &SampleColumns) {
        let times = columns.timestamps.iter().map(|time| TimestampNs(*time));
        for (index, (time, value)) in times.zip(&columns.values).enumerate() {
            match columns.start_timestamps.get(index) {
                Some(start) if *start != 0 => {
                    let start = TimestampNs(*start);
                    self.append.sample_with_start(series, time, start, *value);
                }
                _ => self.append.sample(series, time, *value),
            }
        }
        for sample in &columns.histograms {
            let histogram = Arc::clone(&sample.histogram);
            self.append
                .histogram(series, sample.time, sample.start_time, histogram);
        }
    }

    /// Blocks until removals and rows are durable and visible, as one change.
    ///
    /// # Errors
    /// As [`Append::commit`].
    pub fn commit(self) -> Result<Committed> {
        let Self {
            append,
            context,
            derivation,
            replaced,
        } = self;
        let (store, mut record, token) = append.into_parts();
        let inner = &store.inner;
        let committed = inner.commit(|| {
            record.sources = match derivation.sources.is_empty() {
                true => vec![inner.generation()],
                false => derivation.sources,
            };
            record.derivation = Some(derivation.id);
            record.arrival = inner.now();
            // Numbered under the gate, as deletions are.
            let deletion = |(matchers, range): (Vec<Matcher>, TimeRange)| {
                let generation = inner.next_generation();
                Deletion {
                    id: generation.0,
                    generation,
                    signal: Signal::Metrics,
                    matchers: all_matchers(&context, &matchers),
                    range,
                }
            };
            record.deletions = replaced.into_iter().map(deletion).collect();
            record
        });
        // The series of the record were in nobody else's keeping until it was applied.
        drop(token);
        committed
    }
}

/// Refuses rows outside of the range that they replace: the next replacement would leave them behind.
pub(crate) fn check_in_range(rows: &[(Labels, SampleColumns)], range: TimeRange) -> Result<()> {
    for (labels, columns) in rows {
        let floats = columns.timestamps.iter().copied();
        let mut times = floats.chain(columns.histograms.iter().map(|sample| sample.time.0));
        if let Some(time) = times.find(|time| !range.contains(TimestampNs(*time))) {
            return Err(EngineError::InvalidArgument(format!(
                "series {labels}: time {time} is outside of the replaced range {} to {}",
                range.start.0, range.end.0
            )));
        }
    }
    Ok(())
}
