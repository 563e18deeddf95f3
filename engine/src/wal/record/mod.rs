//! One accepted request as the log keeps it: plain data, and how it becomes bytes.
//!
//! [`RecordRef`] borrows the columns of a request and encodes them on the caller's thread;
//! [`Record`] is what replay gets back. A record is self-contained but for series: samples name
//! their series by id, and the definition (id and labels) stands in this record or an earlier one.
//! Replay reads forward only, so definitions come first; repeating one is harmless.
//!
//! Layout in `docs/formats/wal.md`.

mod batches;
mod decimal;
mod decode;
mod encode;
mod values;

use std::sync::Arc;

pub use encode::EncodedRecord;

pub(crate) use decode::read_matchers;
pub(crate) use encode::write_matchers;

use crate::context::TenantId;
use crate::index::Matcher;
use crate::model::{
    BatchId, Exemplar, Generation, Histogram, Labels, Metadata, SeriesRef, Signal, TimeRange,
    TimestampNs,
};
use crate::rows::{LogBatch, SpanBatch};

/// Float samples as columns of equal length, borrowed.
#[derive(Clone, Copy, Debug, Default)]
pub struct SampleRows<'a> {
    /// The series of each sample.
    pub series: &'a [SeriesRef],
    /// Times in nanoseconds.
    pub times: &'a [i64],
    /// Start times in nanoseconds, 0 where unknown; empty when none is known.
    pub starts: &'a [i64],
    /// Values, bit-exact.
    pub values: &'a [f64],
}

/// Float samples as columns of equal length.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Samples {
    /// The series of each sample.
    pub series: Vec<SeriesRef>,
    /// Times in nanoseconds.
    pub times: Vec<i64>,
    /// Start times in nanoseconds, 0 where unknown; empty when none is known.
    pub starts: Vec<i64>,
    /// Values, bit-exact.
    pub values: Vec<f64>,
}

impl Samples {
    /// The same, borrowed.
    #[must_use]
    pub fn as_rows(&self) -> SampleRows<'_> {
        SampleRows {
            series: &self.series,
            times: &self.times,
            starts: &self.starts,
            values: &self.values,
        }
    }
}

/// One histogram sample.
#[derive(Clone, Debug, PartialEq)]
pub struct HistogramRow {
    /// Its series.
    pub series: SeriesRef,
    /// When.
    pub time: TimestampNs,
    /// When the counter began, if the writer said so.
    pub start: Option<TimestampNs>,
    /// What.
    pub histogram: Arc<Histogram>,
}

/// A change of a state document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateOp {
    /// The document's collection.
    pub collection: Arc<str>,
    /// Its key.
    pub key: Arc<str>,
    /// The version that this change makes; higher than that of every earlier change of the key.
    pub version: u64,
    /// The new content; `None` deletes the document.
    pub value: Option<Arc<[u8]>>,
}

/// A deletion by matchers and time range. It covers rows that arrived before it: those of records
/// with a lower sequence number. In a record with a derivation it covers rows of that derivation
/// only: together with the rows of the same record it replaces a range as one commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deletion {
    /// Names the tombstone inside the store.
    pub id: u64,
    /// The change of the store that it was.
    pub generation: Generation,
    /// Which rows.
    pub signal: Signal,
    /// All of these must match.
    pub matchers: Vec<Matcher>,
    /// The times that are deleted.
    pub range: TimeRange,
}

/// One accepted request, borrowed from its caller.
#[derive(Clone, Debug)]
pub struct RecordRef<'a> {
    /// Whose data.
    pub tenant: &'a TenantId,
    /// When it was accepted.
    pub arrival: TimestampNs,
    /// Recognises a retry.
    pub batch: Option<BatchId>,
    /// Names the computation that made these rows; `None` for what clients sent.
    pub derivation: Option<&'a str>,
    /// Series that samples of this or later records name.
    pub series: &'a [(SeriesRef, Labels)],
    /// Float samples.
    pub samples: SampleRows<'a>,
    /// Histogram samples.
    pub histograms: &'a [HistogramRow],
    /// Exemplars and their series.
    pub exemplars: &'a [(SeriesRef, Exemplar)],
    /// Metadata by metric name.
    pub metadata: &'a [(String, Metadata)],
    /// Log records, earlier ones first.
    pub logs: &'a [Arc<LogBatch>],
    /// Spans, earlier ones first.
    pub spans: &'a [Arc<SpanBatch>],
    /// Changes of state documents.
    pub state: &'a [StateOp],
    /// Deletions.
    pub deletions: &'a [Deletion],
    /// Of derived rows: generations of the store that they were computed from.
    pub sources: &'a [Generation],
}

impl<'a> RecordRef<'a> {
    /// A record without rows.
    #[must_use]
    pub fn new(tenant: &'a TenantId, arrival: TimestampNs) -> Self {
        Self {
            tenant,
            arrival,
            batch: None,
            derivation: None,
            series: &[],
            samples: SampleRows::default(),
            histograms: &[],
            exemplars: &[],
            metadata: &[],
            logs: &[],
            spans: &[],
            state: &[],
            deletions: &[],
            sources: &[],
        }
    }
}

/// One accepted request, as replay returns it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Record {
    /// Whose data.
    pub tenant: TenantId,
    /// When it was accepted.
    pub arrival: TimestampNs,
    /// Recognises a retry.
    pub batch: Option<BatchId>,
    /// Names the computation that made these rows; `None` for what clients sent.
    pub derivation: Option<Arc<str>>,
    /// Series that samples of this or later records name.
    pub series: Vec<(SeriesRef, Labels)>,
    /// Float samples.
    pub samples: Samples,
    /// Histogram samples.
    pub histograms: Vec<HistogramRow>,
    /// Exemplars and their series.
    pub exemplars: Vec<(SeriesRef, Exemplar)>,
    /// Metadata by metric name.
    pub metadata: Vec<(String, Metadata)>,
    /// Log records, earlier ones first.
    pub logs: Vec<Arc<LogBatch>>,
    /// Spans, earlier ones first.
    pub spans: Vec<Arc<SpanBatch>>,
    /// Changes of state documents.
    pub state: Vec<StateOp>,
    /// Deletions.
    pub deletions: Vec<Deletion>,
    /// Of derived rows: generations of the store that they were computed from.
    pub sources: Vec<Generation>,
}

impl Record {
    /// The same, borrowed.
    #[must_use]
    pub fn as_record_ref(&self) -> RecordRef<'_> {
        RecordRef {
            tenant: &self.tenant,
            arrival: self.arrival,
            batch: self.batch,
            derivation: self.derivation.as_deref(),
            series: &self.series,
            samples: self.samples.as_rows(),
            histograms: &self.histograms,
            exemplars: &self.exemplars,
            metadata: &self.metadata,
            logs: &self.logs,
            spans: &self.spans,
            state: &self.state,
            deletions: &self.deletions,
            sources: &self.sources,
        }
    }

    /// How many log records there are.
    #[must_use]
    pub fn log_records(&self) -> usize {
        self.logs.iter().map(|batch| batch.len()).sum()
    }

    /// How many spans there are.
    #[must_use]
    pub fn span_count(&self) -> usize {
        self.spans.iter().map(|batch| batch.len()).sum()
    }

    /// Rows of all kinds (not definitions).
    #[must_use]
    pub fn rows(&self) -> usize {
        self.samples.values.len() + self.histograms.len() + self.log_records() + self.span_count()
    }
}

/// Tags of the sections of a record's body; on disk, never renumbered.
mod section {
    pub(super) const SERIES: u8 = 1;
    pub(super) const SAMPLES: u8 = 2;
    pub(super) const HISTOGRAMS: u8 = 3;
    pub(super) const EXEMPLARS: u8 = 4;
    pub(super) const METADATA: u8 = 5;
    /// Streams of the two sections below. These three are read and no longer written.
    pub(super) const STREAMS: u8 = 6;
    pub(super) const LOGS: u8 = 7;
    pub(super) const SPANS: u8 = 8;
    pub(super) const STATE: u8 = 9;
    pub(super) const DELETIONS: u8 = 10;
    pub(super) const SOURCES: u8 = 12;
    pub(super) const LOG_BATCHES: u8 = 13;
    pub(super) const SPAN_BATCHES: u8 = 14;
}

/// Bits of the first byte of a record's body.
mod body_flag {
    pub(super) const BATCH: u8 = 1;
    pub(super) const DERIVATION: u8 = 1 << 1;
    pub(super) const KNOWN: u8 = BATCH | DERIVATION;
}

/// How a column of times is written.
mod time_column {
    /// No column: nothing is known for any row.
    pub(super) const ABSENT: u8 = 0;
    /// One value for all rows.
    pub(super) const SHARED: u8 = 1;
    /// A divisor, then zig-zag differences of neighbours in units of it.
    pub(super) const DELTAS: u8 = 2;
}

/// How a column of values is written.
mod value_column {
    /// The bits of each.
    pub(super) const RAW: u8 = 0;
    /// A byte per value that says how many decimals it has, then the values as whole numbers in
    /// units of their last decimal, then the bits of those that are no short decimals.
    pub(super) const DECIMAL: u8 = 1;
}

#[cfg(test)]
mod old_rows;
#[cfg(test)]
mod tests;
