//! Writing: one session collects one request, which becomes one record of the log.

use std::sync::Arc;

use crate::context::RequestContext;
use crate::error::{EngineError, Result};
use crate::head::series_data::{Sample, SampleValue};
use crate::head::tenant::Tenant;
use crate::limits;
use crate::model::{
    Exemplar, Generation, Histogram, Labels, LogRecord, Metadata, SeriesRef, Span, Stream,
    TimestampNs,
};
use crate::store::Store;

pub use crate::head::series_table::RawSeriesKey;

/// What a commit did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Committed {
    /// Rows stored: samples, log records and spans.
    pub rows: usize,
    /// The store's generation after it.
    pub generation: Generation,
}

/// The rows of one request.
#[derive(Debug, Default)]
pub(crate) struct AppendRows {
    pub(crate) samples: Vec<(SeriesRef, Sample)>,
    pub(crate) exemplars: Vec<(SeriesRef, Exemplar)>,
    pub(crate) metadata: Vec<(String, Metadata)>,
    pub(crate) logs: Vec<(Arc<Stream>, Arc<LogRecord>)>,
    pub(crate) spans: Vec<(Arc<Stream>, Arc<Span>)>,
}

/// Collects the rows of one request and stores all of them or none.
///
/// Series references stay valid while the session is open. Dropped without [`Append::commit`] or
/// [`Append::submit`], nothing is stored.
#[derive(Debug)]
pub struct Append<'a> {
    store: &'a Store,
    tenant: Arc<Tenant>,
    rows: AppendRows,
}

impl<'a> Append<'a> {
    pub(crate) fn new(store: &'a Store, context: &RequestContext) -> Result<Self> {
        context.check()?;
        store.inner.check_writable()?;
        Ok(Self {
            store,
            tenant: store.inner.tenant_or_insert(&context.tenant),
            rows: AppendRows::default(),
        })
    }

    /// The series remembered for the bytes by which a protocol names it, without parsing labels.
    #[must_use]
    pub fn lookup(&mut self, key: RawSeriesKey) -> Option<SeriesRef> {
        self.store.inner.table.lookup(self.tenant.index, key)
    }

    /// Finds or makes the series of a label set and remembers `key` for it.
    ///
    /// # Errors
    /// [`EngineError::LimitExceeded`] at the tenant's series limit, naming the label that explodes;
    /// [`EngineError::InvalidArgument`] for label sets beyond [`crate::limits`].
    pub fn define(&mut self, key: Option<RawSeriesKey>, labels: &Labels) -> Result<SeriesRef> {
        let inner = &self.store.inner;
        let admit = || {
            check_labels(labels)?;
            inner.check_series_limit(&self.tenant)
        };
        let entry = inner
            .table
            .find_or_insert(self.tenant.index, labels, admit, |entry| {
                self.tenant
                    .postings
                    .write()
                    .insert(entry.slot(), &entry.labels);
            })?;
        if let Some(key) = key {
            inner.table.remember(self.tenant.index, key, entry.series);
        }
        Ok(entry.series)
    }

    /// Adds a float sample.
    pub fn sample(&mut self, series: SeriesRef, time: TimestampNs, value: f64) {
        self.push(series, time, None, SampleValue::Float(value));
    }

    /// Adds a float sample of a counter that is known to have begun at `start`.
    pub fn sample_with_start(
        &mut self,
        series: SeriesRef,
        time: TimestampNs,
        start: TimestampNs,
        value: f64,
    ) {
        self.push(series, time, Some(start), SampleValue::Float(value));
    }

    /// Adds a native histogram.
    pub fn histogram(
        &mut self,
        series: SeriesRef,
        time: TimestampNs,
        start: Option<TimestampNs>,
        histogram: Arc<Histogram>,
    ) {
        self.push(series, time, start, SampleValue::Histogram(histogram));
    }

    fn push(
        &mut self,
        series: SeriesRef,
        time: TimestampNs,
        start: Option<TimestampNs>,
        value: SampleValue,
    ) {
        let start = start.map_or(0, |s| s.0);
        self.rows.samples.push((
            series,
            Sample {
                time: time.0,
                start,
                value,
            },
        ));
    }

    /// Adds an exemplar of a series.
    pub fn exemplar(&mut self, series: SeriesRef, exemplar: Exemplar) {
        self.rows.exemplars.push((series, exemplar));
    }

    /// Adds metadata of a metric name; what is known already costs nothing.
    pub fn metadata(&mut self, metric: &str, metadata: Metadata) {
        if !self.tenant.knows_metadata(metric, &metadata) {
            self.rows.metadata.push((metric.to_owned(), metadata));
        }
    }

    /// Adds a log record.
    pub fn log(&mut self, stream: &Arc<Stream>, record: LogRecord) {
        self.rows.logs.push((Arc::clone(stream), Arc::new(record)));
    }

    /// Adds a span.
    pub fn span(&mut self, stream: &Arc<Stream>, span: Span) {
        self.rows.spans.push((Arc::clone(stream), Arc::new(span)));
    }

    /// How many samples, log records and spans were added.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.rows.samples.len() + self.rows.logs.len() + self.rows.spans.len()
    }

    /// Blocks until all rows are durable (as [`crate::StoreOptions::sync`] has it) and visible.
    ///
    /// # Errors
    /// [`EngineError::Unavailable`] when the store is out of memory or disk (nothing is stored; try
    /// again later), [`EngineError::Poisoned`] after a failed sync.
    pub fn commit(self) -> Result<Committed> {
        let count = self.rows();
        self.store.inner.commit(&self.tenant, self.rows)?;
        Ok(Committed {
            rows: count,
            generation: self.store.generation(),
        })
    }

    /// The same without blocking: `done` is called from a thread of the engine.
    pub fn submit(self, done: impl FnOnce(Result<Committed>) + Send + 'static) {
        done(self.commit());
    }
}

/// Refuses label sets that are larger than any honest writer's.
fn check_labels(labels: &Labels) -> Result<()> {
    let refuse = |what: String| Err(EngineError::InvalidArgument(what));
    let size = labels.as_bytes().len();
    if size > limits::LABEL_SET_BYTES_MAX {
        let max = limits::LABEL_SET_BYTES_MAX;
        return refuse(format!(
            "label set of {size} bytes, at most {max} are allowed"
        ));
    }
    let mut count = 0;
    for label in labels {
        count += 1;
        if label.name.len() > limits::LABEL_NAME_BYTES_MAX {
            let max = limits::LABEL_NAME_BYTES_MAX;
            let size = label.name.len();
            return refuse(format!(
                "label name of {size} bytes, at most {max} are allowed"
            ));
        }
        if label.value.len() > limits::LABEL_VALUE_BYTES_MAX {
            let (max, size) = (limits::LABEL_VALUE_BYTES_MAX, label.value.len());
            let name = label.name;
            return refuse(format!(
                "label {name}: value of {size} bytes, at most {max} are allowed"
            ));
        }
    }
    if count > limits::LABELS_PER_SERIES_MAX {
        let max = limits::LABELS_PER_SERIES_MAX;
        return refuse(format!(
            "series of {count} labels, at most {max} are allowed"
        ));
    }
    Ok(())
}
