//! Writing: one session collects one request, which becomes one record of the log.

use std::sync::Arc;

use hashbrown::HashMap;

use crate::context::RequestContext;
use crate::error::{EngineError, Result};
use crate::head::series_table::slot_of;
use crate::head::tenant::Tenant;
use crate::limits;
use crate::model::{
    Exemplar, Generation, Histogram, Labels, LogRecord, Metadata, SeriesRef, Span, Stream,
    TimestampNs,
};
use crate::rows::{LogBatch, SpanBatch};
use crate::store::Store;
use crate::wal::{HistogramRow, Record};

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

/// A state document that [`Append::commit_with_state`] writes.
#[derive(Clone, Copy, Debug)]
pub struct StatePut<'v> {
    /// Its collection.
    pub collection: &'v str,
    /// Its key inside the collection.
    pub key: &'v str,
    /// The version that it must have, 0 for "must not be there", `None` for any.
    pub expected_version: Option<u64>,
    /// Its content.
    pub value: &'v [u8],
}

/// Collects the rows of one request and stores all of them or none.
///
/// Series references stay valid while the session is open. Dropped without [`Append::commit`] or
/// [`Append::submit`], nothing is stored.
#[derive(Debug)]
pub struct Append<'a> {
    store: &'a Store,
    tenant: Arc<Tenant>,
    record: Record,
    /// Series that were looked up stay valid while this is held.
    token: Arc<()>,
    /// The slot behind that of the series found last: requests name series in the order in which they
    /// were defined.
    next_slot: u32,
    /// Log records and spans that were added one by one, and the numbers of their streams by address.
    logs: (LogBatch, HashMap<usize, u32>),
    spans: (SpanBatch, HashMap<usize, u32>),
    /// Index of each metric's newest metadata in the record.
    metadata: HashMap<String, usize>,
}

impl<'a> Append<'a> {
    pub(crate) fn new(store: &'a Store, context: &RequestContext) -> Result<Self> {
        context.check()?;
        store.inner.check_writable()?;
        let record = Record {
            tenant: context.tenant.clone(),
            arrival: store.inner.now(),
            ..Record::default()
        };
        Ok(Self {
            store,
            tenant: store.inner.tenant_or_insert(&context.tenant),
            record,
            token: Arc::clone(&store.inner.sessions.read()),
            next_slot: 0,
            logs: Default::default(),
            spans: Default::default(),
            metadata: HashMap::new(),
        })
    }

    /// The series remembered for the bytes by which a protocol names it, without parsing labels.
    #[must_use]
    pub fn lookup(&mut self, key: RawSeriesKey) -> Option<SeriesRef> {
        let table = &self.store.inner.table;
        let series = table.lookup(self.tenant.index, key, self.next_slot)?;
        self.next_slot = slot_of(series).wrapping_add(1);
        Some(series)
    }

    /// Finds or makes the series of a label set and remembers `key` for it.
    ///
    /// # Errors
    /// [`EngineError::LimitExceeded`] for a new series beyond the tenant's limits, naming the limit and
    /// the label that explodes (series that were defined before are not affected, and the session
    /// goes on); [`EngineError::InvalidArgument`] for label sets beyond [`crate::limits`].
    pub fn define(&mut self, key: Option<RawSeriesKey>, labels: &Labels) -> Result<SeriesRef> {
        let inner = &self.store.inner;
        let admit = || {
            check_labels(labels)?;
            self.tenant.admit(labels)
        };
        let owner = self.tenant.owner();
        let series = inner.table.find_or_insert(owner, labels, admit)?;
        self.next_slot = slot_of(series).wrapping_add(1);
        if let Some(key) = key {
            inner.table.remember(owner.index, key, series);
        }
        Ok(series)
    }

    /// Adds a float sample.
    pub fn sample(&mut self, series: SeriesRef, time: TimestampNs, value: f64) {
        let samples = &mut self.record.samples;
        samples.series.push(series);
        samples.times.push(time.0);
        samples.values.push(value);
        if !samples.starts.is_empty() {
            samples.starts.push(0);
        }
    }

    /// Adds a float sample of a counter that is known to have begun at `start`.
    pub fn sample_with_start(
        &mut self,
        series: SeriesRef,
        time: TimestampNs,
        start: TimestampNs,
        value: f64,
    ) {
        let samples = &mut self.record.samples;
        samples.starts.resize(samples.values.len(), 0);
        samples.series.push(series);
        samples.times.push(time.0);
        samples.values.push(value);
        samples.starts.push(start.0);
    }

    /// Adds a native histogram. In one request it arrives after all float samples.
    pub fn histogram(
        &mut self,
        series: SeriesRef,
        time: TimestampNs,
        start: Option<TimestampNs>,
        histogram: Arc<Histogram>,
    ) {
        self.record.histograms.push(HistogramRow {
            series,
            time,
            start,
            histogram,
        });
    }

    /// Adds an exemplar of a series.
    pub fn exemplar(&mut self, series: SeriesRef, exemplar: Exemplar) {
        self.record.exemplars.push((series, exemplar));
    }

    /// Adds metadata of a metric name; what is known already costs nothing.
    pub fn metadata(&mut self, metric: &str, metadata: Metadata) {
        let all = &mut self.record.metadata;
        let is_known = match self.metadata.get(metric) {
            Some(at) => all.get(*at).is_some_and(|(_, newest)| *newest == metadata),
            None => self.tenant.knows_metadata(metric, &metadata),
        };
        if !is_known {
            self.metadata.insert(metric.to_owned(), all.len());
            all.push((metric.to_owned(), metadata));
        }
    }

    /// Adds log records. A batch is kept as it is until it is sealed: large ones are cheaper.
    pub fn logs(&mut self, batch: LogBatch) {
        self.end_logs();
        if !batch.is_empty() {
            self.record.logs.push(Arc::new(batch));
        }
    }

    /// Adds spans, as [`Append::logs`] does.
    pub fn spans(&mut self, batch: SpanBatch) {
        self.end_spans();
        if !batch.is_empty() {
            self.record.spans.push(Arc::new(batch));
        }
    }

    /// Adds one log record.
    pub fn log(&mut self, stream: &Arc<Stream>, record: LogRecord) {
        let (batch, numbers) = &mut self.logs;
        // The batch keeps the stream alive, so its address is not used again meanwhile.
        let number = *numbers
            .entry(Arc::as_ptr(stream) as usize)
            .or_insert_with(|| batch.stream(Arc::clone(stream)));
        batch.push(number, &record);
    }

    /// Adds one span.
    pub fn span(&mut self, stream: &Arc<Stream>, span: Span) {
        let (batch, numbers) = &mut self.spans;
        let number = *numbers
            .entry(Arc::as_ptr(stream) as usize)
            .or_insert_with(|| batch.stream(Arc::clone(stream)));
        batch.push(number, &span);
    }

    fn end_logs(&mut self) {
        let (batch, _) = std::mem::take(&mut self.logs);
        if !batch.is_empty() {
            self.record.logs.push(Arc::new(batch));
        }
    }

    fn end_spans(&mut self) {
        let (batch, _) = std::mem::take(&mut self.spans);
        if !batch.is_empty() {
            self.record.spans.push(Arc::new(batch));
        }
    }

    /// How many samples, log records and spans were added.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.record.rows() + self.logs.0.len() + self.spans.0.len()
    }

    /// Blocks until all rows are durable (as [`crate::StoreOptions::sync`] has it) and visible.
    ///
    /// # Errors
    /// [`EngineError::Unavailable`] when the store is out of memory or disk (nothing is stored; try
    /// again later), [`EngineError::Poisoned`] after a failed sync.
    pub fn commit(self) -> Result<Committed> {
        let (sender, receiver) = std::sync::mpsc::sync_channel(1);
        self.submit(move |result| {
            // The receiver waits below; it cannot be gone.
            let _ = sender.send(result);
        });
        receiver
            .recv()
            .unwrap_or_else(|_| Err(EngineError::Unavailable("the store was closed".into())))
    }

    /// Blocks until all rows are durable and visible and, in the same commit, state documents are
    /// written: after a crash both are there or neither. Answers the new version of each document.
    ///
    /// This is how a source that can be read again (a file, a queue) keeps its position: no row is
    /// lost, and none is stored twice. Callers that write the same documents at the same time must
    /// name them in the same order.
    ///
    /// # Errors
    /// As [`Append::commit`] and [`Store::state_put`]; then neither rows nor documents are stored.
    pub fn commit_with_state(mut self, puts: &[StatePut<'_>]) -> Result<(Committed, Vec<u64>)> {
        let context = RequestContext::for_tenant(self.record.tenant.clone());
        let store = self.store;
        // Until they are dropped, other changes of these documents wait.
        let mut changes = Vec::with_capacity(puts.len());
        for put in puts {
            let change = store.inner.state.begin_put(
                &context,
                put.collection,
                put.key,
                put.expected_version,
                put.value,
            )?;
            self.record.state.push(change.op().clone());
            changes.push(change);
        }
        let committed = self.commit()?;
        let versions = changes.iter().map(|change| change.version()).collect();
        Ok((committed, versions))
    }

    /// The store, the record so far and what keeps its series.
    pub(crate) fn into_parts(mut self) -> (&'a Store, Record, Arc<()>) {
        self.end_logs();
        self.end_spans();
        (self.store, self.record, self.token)
    }

    /// The same without blocking: `done` is called from a thread of the engine, which applies nothing
    /// else meanwhile. It should pass the answer on, and must not call the store.
    pub fn submit(self, done: impl FnOnce(Result<Committed>) + Send + 'static) {
        let (store, record, token) = self.into_parts();
        store.inner.submit(record, token, Box::new(done));
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
