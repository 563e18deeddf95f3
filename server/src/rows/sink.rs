//! Where decoders put their rows: limits are kept here, and what is refused is named and counted.
//!
//! A row is complete and checked before it goes into the batch, so that a refused one leaves no
//! trace and its neighbours are stored.

use std::collections::HashMap;
use std::sync::Arc;

use chronolith_engine::TenantId;
use chronolith_engine::model::{Stream, TimestampNs};
use chronolith_engine::rows::{LogBatch, SpanBatch, SpanFields};

use super::row::{LogRow, SpanRow};
use super::streams::{StreamCache, TooManyStreams};
use super::value::{Pairs, Value, write_pairs};
use crate::otlp::partial::Rejections;
use crate::process::{Processor, RowKind, StreamPlan};

/// Rows that one request may bring: an empty one takes two bytes on the wire and sixty here.
const ROWS_MAX: usize = 1 << 19;
/// What a log record and a span usually take in a request.
const LOG_BYTES: usize = 128;
const SPAN_BYTES: usize = 192;

/// What rows must keep to.
#[derive(Clone, Copy, Debug)]
pub struct RowLimits {
    /// What a row without a time gets.
    pub now: TimestampNs,
    /// The latest time that is accepted.
    pub latest: TimestampNs,
    /// Bytes of a log record's body.
    pub line_bytes_max: usize,
    /// Attributes of a record; attributes, events and links of a span.
    pub attributes_max: usize,
}

/// Why a row was refused, for counters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// A time that cannot be, or lies too far ahead.
    Time,
    /// A line that is too long.
    Line,
    /// Too many attributes, or nested too deep.
    Attributes,
    /// Missing or wrong ids.
    Ids,
    /// Cannot be read.
    Malformed,
    /// Its stream is one too many.
    Streams,
    /// More rows than a request may have.
    Rows,
}

impl Reason {
    /// All of them, in their order.
    pub const ALL: [Self; 7] = [
        Self::Time,
        Self::Line,
        Self::Attributes,
        Self::Ids,
        Self::Malformed,
        Self::Streams,
        Self::Rows,
    ];

    /// As a label.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Time => "time",
            Self::Line => "line_length",
            Self::Attributes => "attributes",
            Self::Ids => "ids",
            Self::Malformed => "malformed",
            Self::Streams => "stream_limit",
            Self::Rows => "rows_per_request",
        }
    }
}

/// What became of the rows of a request.
#[derive(Clone, Debug, Default)]
pub struct Taken {
    /// Rows in the batch.
    pub rows: u64,
    /// Refused rows by [`Reason`].
    pub refused: [u64; Reason::ALL.len()],
    /// Refused rows in words.
    pub rejections: Rejections,
    /// Texts that were not UTF-8 and lost the bytes that were none.
    pub repaired_texts: u64,
    /// Rows that a rule dropped.
    pub dropped: u64,
}

impl Taken {
    /// Names refused rows.
    pub fn refuse(&mut self, count: u64, reason: Reason, words: String) {
        if let Some(counter) = self.refused.get_mut(reason as usize) {
            *counter += count;
        }
        self.rejections.add(count, words);
    }

    /// Rows refused for a reason.
    #[must_use]
    pub fn refused_for(&self, reason: Reason) -> u64 {
        self.refused.get(reason as usize).copied().unwrap_or(0)
    }
}

/// Numbers of streams in a batch. The cache answers with the same `Arc` for the same stream, so
/// addresses will do.
#[derive(Default)]
struct Numbers {
    by_address: HashMap<usize, u32>,
}

impl Numbers {
    fn get(&mut self, stream: &Arc<Stream>, add: impl FnOnce(Arc<Stream>) -> u32) -> u32 {
        let address = Arc::as_ptr(stream) as usize;
        *self
            .by_address
            .entry(address)
            .or_insert_with(|| add(Arc::clone(stream)))
    }
}

/// What sinks of both signals need.
pub struct SinkContext<'c> {
    /// Whose rows they are.
    pub tenant: TenantId,
    /// Known streams.
    pub streams: &'c StreamCache,
    /// What happens to rows before they are stored.
    pub processor: Arc<Processor>,
    /// Limits.
    pub limits: RowLimits,
}

impl SinkContext<'_> {
    fn time(&self, time: TimestampNs, what: &str) -> Result<(), String> {
        match time > self.limits.latest {
            true => Err(format!("{what}: time {} is too far in the future", time.0)),
            false => Ok(()),
        }
    }
}

/// Collects log records.
pub struct LogSink<'c> {
    context: SinkContext<'c>,
    batch: LogBatch,
    numbers: Numbers,
    /// By number of the stream.
    plans: Vec<StreamPlan>,
    /// What became of the rows so far.
    pub taken: Taken,
}

impl<'c> LogSink<'c> {
    /// An empty one.
    #[must_use]
    pub fn new(context: SinkContext<'c>) -> Self {
        Self {
            context,
            batch: LogBatch::new(),
            numbers: Numbers::default(),
            plans: Vec::new(),
            taken: Taken::default(),
        }
    }

    /// Makes room for what a request of `bytes` bytes usually brings; [`LogSink::finish`] gives back the
    /// rest.
    pub fn expect(&mut self, bytes: usize) {
        self.batch.reserve(bytes / LOG_BYTES, bytes / 4 * 3);
    }

    /// What it keeps to.
    #[must_use]
    pub fn limits(&self) -> &RowLimits {
        &self.context.limits
    }

    /// Whose rows they are.
    #[must_use]
    pub fn tenant(&self) -> &TenantId {
        &self.context.tenant
    }

    /// The number of the stream that `key` (tenant and protocol included) names.
    ///
    /// # Errors
    /// The tenant has too many streams, or what `make` answers.
    pub fn stream<E: From<TooManyStreams>>(
        &mut self,
        key: &[u8],
        make: impl FnOnce() -> Result<Stream, E>,
    ) -> Result<u32, E> {
        let stream = self.context.streams.get(&self.context.tenant, key, make)?;
        let (batch, plans) = (&mut self.batch, &mut self.plans);
        let processor = &self.context.processor;
        Ok(self.numbers.get(&stream, |stream| {
            plans.push(processor.plan(RowKind::Logs, &stream.labels));
            batch.stream(stream)
        }))
    }

    /// Takes a record, or refuses it with a reason.
    #[inline]
    pub fn push(&mut self, stream: u32, row: &mut LogRow<'_>) {
        if let Err((reason, words)) = self.push_or_refuse(stream, row) {
            self.taken.refuse(1, reason, words);
        }
    }

    /// The same, but it is the caller who names what is refused.
    ///
    /// # Errors
    /// Why the record is refused.
    pub fn push_or_refuse(
        &mut self,
        stream: u32,
        row: &mut LogRow<'_>,
    ) -> Result<(), (Reason, String)> {
        let RowLimits {
            now,
            line_bytes_max,
            attributes_max,
            ..
        } = self.context.limits;
        if self.batch.len() >= ROWS_MAX {
            let words = format!("more than {ROWS_MAX} records in one request");
            return Err((Reason::Rows, words));
        }
        if let Some(plan) = self.plans.get(stream as usize)
            && !self.context.processor.log(plan, row, attributes_max)
        {
            self.taken.dropped += 1;
            return Ok(());
        }
        // Of records without a time the order is kept: a nanosecond lies between two of them.
        let place = i64::try_from(self.batch.len()).unwrap_or(0);
        let arrival = TimestampNs(now.0.saturating_add(place));
        let time = row.time.or(row.observed_time).unwrap_or(arrival);
        self.context
            .time(time, "log record")
            .map_err(|words| (Reason::Time, words))?;
        let length = row.body.size();
        if length > line_bytes_max {
            let words = format!("log record: line of {length} bytes, at most {line_bytes_max}");
            return Err((Reason::Line, words));
        }
        let attributes = row.attributes.len();
        if attributes > attributes_max {
            let words =
                format!("log record with {attributes} attributes, at most {attributes_max}");
            return Err((Reason::Attributes, words));
        }
        let mut out = self.batch.row(stream, time);
        if let Some(observed) = row.observed_time {
            out.observed_time(observed);
        }
        out.severity(row.severity);
        out.ids(row.trace_id, row.span_id);
        let write = |out: &mut chronolith_engine::rows::AttributeWriter<'_>| {
            write_pairs(&row.attributes, out);
        };
        match &row.body {
            Value::Text(text) => {
                out.finish_text(&row.severity_text, text, &row.event_name, write);
            }
            other => {
                let body = other.clone().into_owned();
                out.finish(&row.severity_text, &body, &row.event_name, write);
            }
        }
        self.taken.rows += 1;
        Ok(())
    }

    /// The rows and what became of the others.
    #[must_use]
    pub fn finish(mut self) -> (LogBatch, Taken) {
        self.batch.shrink_to_fit();
        (self.batch, self.taken)
    }
}

/// Collects spans.
pub struct SpanSink<'c> {
    context: SinkContext<'c>,
    batch: SpanBatch,
    numbers: Numbers,
    /// By number of the stream.
    plans: Vec<StreamPlan>,
    /// What became of the rows so far.
    pub taken: Taken,
}

impl<'c> SpanSink<'c> {
    /// An empty one.
    #[must_use]
    pub fn new(context: SinkContext<'c>) -> Self {
        Self {
            context,
            batch: SpanBatch::new(),
            numbers: Numbers::default(),
            plans: Vec::new(),
            taken: Taken::default(),
        }
    }

    /// Makes room for what a request of `bytes` bytes usually brings; [`SpanSink::finish`] gives back the
    /// rest.
    pub fn expect(&mut self, bytes: usize) {
        self.batch.reserve(bytes / SPAN_BYTES, bytes / 2);
    }

    /// What it keeps to.
    #[must_use]
    pub fn limits(&self) -> &RowLimits {
        &self.context.limits
    }

    /// Whose rows they are.
    #[must_use]
    pub fn tenant(&self) -> &TenantId {
        &self.context.tenant
    }

    /// The number of the stream that `key` (tenant and protocol included) names.
    ///
    /// # Errors
    /// The tenant has too many streams, or what `make` answers.
    pub fn stream<E: From<TooManyStreams>>(
        &mut self,
        key: &[u8],
        make: impl FnOnce() -> Result<Stream, E>,
    ) -> Result<u32, E> {
        let stream = self.context.streams.get(&self.context.tenant, key, make)?;
        let (batch, plans) = (&mut self.batch, &mut self.plans);
        let processor = &self.context.processor;
        Ok(self.numbers.get(&stream, |stream| {
            plans.push(processor.plan(RowKind::Spans, &stream.labels));
            batch.stream(stream)
        }))
    }

    /// Takes a span, or refuses it with a reason.
    pub fn push(&mut self, stream: u32, row: &mut SpanRow<'_>) {
        if self.batch.len() >= ROWS_MAX {
            let words = format!("more than {ROWS_MAX} spans in one request");
            return self.taken.refuse(1, Reason::Rows, words);
        }
        let attributes_max = self.context.limits.attributes_max;
        if let Some(plan) = self.plans.get(stream as usize)
            && !self.context.processor.span(plan, row, attributes_max)
        {
            self.taken.dropped += 1;
            return;
        }
        let shown = || -> String { row.name.chars().take(80).collect() };
        let (Some(trace_id), Some(span_id)) = (row.trace_id, row.span_id) else {
            let what = match row.trace_id {
                None => "trace id (16 bytes, not all zero)",
                Some(_) => "span id (8 bytes, not all zero)",
            };
            let words = format!("span {:?} without a valid {what}", shown());
            return self.taken.refuse(1, Reason::Ids, words);
        };
        if row.start == 0 {
            let words = format!("span {:?} without a start time", shown());
            return self.taken.refuse(1, Reason::Time, words);
        }
        let time = TimestampNs(row.start);
        if let Err(words) = self.context.time(time, "span") {
            return self.taken.refuse(1, Reason::Time, words);
        }
        let parts = [
            ("attributes", row.attributes.len()),
            ("events", row.events.len()),
            ("links", row.links.len()),
            ("attributes of events and links", row.nested.len() / 16),
        ];
        if let Some((what, count)) = parts.iter().find(|(_, count)| *count > attributes_max) {
            let words = format!(
                "span {:?} with {count} {what}, at most {attributes_max}",
                shown()
            );
            return self.taken.refuse(1, Reason::Attributes, words);
        }
        let mut out = self.batch.row(
            stream,
            &SpanFields {
                trace_id,
                span_id,
                parent_span_id: row.parent_span_id,
                trace_state: &row.trace_state,
                name: &row.name,
                kind: row.kind,
                time,
                // Without an end it is a moment.
                duration_ns: match row.end {
                    0 => 0,
                    end => end.saturating_sub(row.start),
                },
                status: row.status,
                status_message: &row.status_message,
            },
        );
        if !row.attributes.is_empty() {
            out.attributes(|out| write_pairs(&row.attributes, out));
        }
        let nested = |range: &std::ops::Range<usize>| nested(&row.nested, range);
        for event in &row.events {
            let after_start_ns = event.time.saturating_sub(row.start);
            let pairs = nested(&event.attributes);
            out.event(after_start_ns, &event.name, |out| write_pairs(pairs, out));
        }
        for link in &row.links {
            let pairs = nested(&link.attributes);
            out.link(link.trace_id, link.span_id, |out| write_pairs(pairs, out));
        }
        self.taken.rows += 1;
    }

    /// The rows and what became of the others.
    #[must_use]
    pub fn finish(mut self) -> (SpanBatch, Taken) {
        self.batch.shrink_to_fit();
        (self.batch, self.taken)
    }
}

fn nested<'p, 'a>(
    pairs: &'p Pairs<'a>,
    range: &std::ops::Range<usize>,
) -> &'p [(std::borrow::Cow<'a, str>, Value<'a>)] {
    pairs.get(range.clone()).unwrap_or_default()
}
