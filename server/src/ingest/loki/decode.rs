//! `logproto.PushRequest` into a batch: one walk, no tree, text copied once.
//!
//! Of a stream, exact repeats of time and line in one request are stored once, as in Loki. Structured
//! metadata becomes attributes; `trace_id` and `span_id` in their usual form become the record's ids,
//! from which the same text can be made again, and in another form they are kept and fill the ids
//! padded.

use std::borrow::Cow;
use std::collections::HashSet;

use chronolith_engine::model::{SpanId, Stream, TimestampNs, TraceId};
use xxhash_rust::xxh3::xxh3_64;

use super::labels::{parse, shown};
use crate::ingest::protobuf::{Field, Reader, WireError};
use crate::otlp::any_value::text;
use crate::rows::ids::{exact, padded};
use crate::rows::{LogRow, LogSink, Reason, TooManyStreams, Value};

/// Stands behind the tenant in keys of streams: no other protocol's keys have it there.
const KEY_MARK: u8 = 1;
/// Streams whose refusal is remembered by name.
const OVER_LIMIT_MAX: usize = 1024;

/// What a push came to, besides what the sink knows.
#[derive(Debug, Default)]
pub struct Pushed {
    /// Hashes of the label sets of streams that were refused because of the tenant's limit.
    pub over_limit: Vec<u64>,
    /// Records that repeated another of the same request.
    pub repeats: u64,
}

enum StreamError {
    Labels(String),
    TooMany(TooManyStreams),
}

impl From<TooManyStreams> for StreamError {
    fn from(error: TooManyStreams) -> Self {
        Self::TooMany(error)
    }
}

/// Puts the entries of a push into `sink`; if `only` is given, those of streams in it.
///
/// # Errors
/// Malformed protobuf; nothing may be stored then.
pub fn decode(
    message: &[u8],
    only: Option<&[u64]>,
    sink: &mut LogSink<'_>,
) -> Result<Pushed, WireError> {
    let mut pushed = Pushed::default();
    let mut key = Vec::new();
    let mut row = LogRow::default();
    let mut request = Reader::new(message);
    while let Some(field) = request.next_field()? {
        if field.number != 1 {
            continue;
        }
        let stream = field.bytes()?;
        let labels = labels(stream)?;
        let labels_hash = xxh3_64(labels);
        if only.is_some_and(|only| !only.contains(&labels_hash)) {
            continue;
        }
        key.clear();
        key.extend_from_slice(sink.tenant().as_str().as_bytes());
        key.push(KEY_MARK);
        key.extend_from_slice(labels);
        let number = sink.stream(&key, || {
            let labels = std::str::from_utf8(labels)
                .map_err(|_| "couldn't parse labels: not UTF-8".to_owned());
            let labels = labels.and_then(parse).map_err(StreamError::Labels)?;
            Ok::<_, StreamError>(Stream::from_labels(labels))
        });
        match number {
            Ok(number) => {
                entries(stream, number, labels, &mut row, sink, &mut pushed.repeats)?;
            }
            Err(StreamError::Labels(words)) => {
                let rows = count_entries(stream)?;
                sink.taken.refuse(rows, Reason::Malformed, words);
            }
            Err(StreamError::TooMany(error)) => {
                if pushed.over_limit.len() < OVER_LIMIT_MAX {
                    pushed.over_limit.push(labels_hash);
                }
                let rows = count_entries(stream)?;
                sink.taken.refuse(rows, Reason::Streams, error.to_string());
            }
        }
    }
    Ok(pushed)
}

/// The label set of a stream; it may stand anywhere.
fn labels(stream: &[u8]) -> Result<&[u8], WireError> {
    crate::otlp::resource::first_message(stream, 1)
}

fn count_entries(stream: &[u8]) -> Result<u64, WireError> {
    crate::otlp::resource::count_messages(stream, 2)
}

fn entries<'a>(
    stream: &'a [u8],
    number: u32,
    labels: &[u8],
    row: &mut LogRow<'a>,
    sink: &mut LogSink<'_>,
    repeats: &mut u64,
) -> Result<(), WireError> {
    // Lines of the time that came last, by their hashes: repeats come one after the other. Of most
    // times there is one.
    let mut last = None;
    let mut lines = HashSet::new();
    let attributes_max = sink.limits().attributes_max;
    let mut fields = Reader::new(stream);
    while let Some(field) = fields.next_field()? {
        if field.number != 2 {
            continue;
        }
        row.clear();
        let mut repaired = 0;
        let time = entry(field.bytes()?, row, attributes_max, &mut repaired)?;
        sink.taken.repaired_texts += repaired;
        let Some(time) = time else {
            let words = format!(
                "entry for stream '{}' has a timestamp that nanoseconds since 1970 cannot hold",
                shown(&String::from_utf8_lossy(labels))
            );
            sink.taken.refuse(1, Reason::Time, words);
            continue;
        };
        row.time = Some(time);
        let line = row.body.as_text().unwrap_or("").as_bytes();
        let hash = xxh3_64(line);
        match last {
            Some((same, first)) if same == time => {
                lines.insert(first);
                if !lines.insert(hash) {
                    *repeats += 1;
                    continue;
                }
            }
            _ => {
                last = Some((time, hash));
                lines.clear();
            }
        }
        let limits = sink.limits();
        let words = if time > limits.latest {
            let stream = String::from_utf8_lossy(labels);
            let words = format!(
                "entry for stream '{}' has timestamp too new: {}",
                shown(&stream),
                time.0
            );
            Some((Reason::Time, words))
        } else if line.len() > limits.line_bytes_max {
            let stream = String::from_utf8_lossy(labels);
            let words = format!(
                "Max entry size '{}' bytes exceeded for stream '{}' while adding an entry with length '{}' bytes",
                limits.line_bytes_max,
                shown(&stream),
                line.len()
            );
            Some((Reason::Line, words))
        } else {
            None
        };
        match words {
            Some((reason, words)) => sink.taken.refuse(1, reason, words),
            None => sink.push(number, row),
        }
    }
    Ok(())
}

/// Reads one entry; answers its time, `None` for one that cannot be.
#[inline]
fn entry<'a>(
    message: &'a [u8],
    row: &mut LogRow<'a>,
    attributes_max: usize,
    repaired: &mut u64,
) -> Result<Option<TimestampNs>, WireError> {
    let mut time = Some(TimestampNs(0));
    row.body = Value::text("");
    let mut reader = Reader::new(message);
    while let Some(field) = reader.next_field()? {
        match field.number {
            1 => time = timestamp(field)?,
            2 => row.body = Value::Text(text(field, repaired)?),
            3 => metadata(field.bytes()?, row, attributes_max, repaired)?,
            _ => {}
        }
    }
    Ok(time)
}

/// A `google.protobuf.Timestamp`.
#[inline]
fn timestamp(field: Field<'_>) -> Result<Option<TimestampNs>, WireError> {
    let (mut seconds, mut nanos) = (0_i64, 0_i64);
    let mut reader = Reader::new(field.bytes()?);
    while let Some(field) = reader.next_field()? {
        match field.number {
            1 => seconds = field.int64()?,
            2 => nanos = field.int64()?,
            _ => {}
        }
    }
    let ns = seconds
        .checked_mul(1_000_000_000)
        .and_then(|ns| ns.checked_add(nanos));
    Ok(ns.map(TimestampNs))
}

/// One pair of structured metadata.
#[inline]
fn metadata<'a>(
    message: &'a [u8],
    row: &mut LogRow<'a>,
    attributes_max: usize,
    repaired: &mut u64,
) -> Result<(), WireError> {
    let (mut name, mut value) = (Cow::Borrowed(""), Cow::Borrowed(""));
    let mut reader = Reader::new(message);
    while let Some(field) = reader.next_field()? {
        match field.number {
            1 => name = text(field, repaired)?,
            2 => value = text(field, repaired)?,
            _ => {}
        }
    }
    push_metadata(row, name, value, attributes_max);
    Ok(())
}

/// Adds a pair of text to a row; ids go where ids belong.
pub fn push_metadata<'a>(
    row: &mut LogRow<'a>,
    name: Cow<'a, str>,
    value: Cow<'a, str>,
    attributes_max: usize,
) {
    match &*name {
        "trace_id" if row.trace_id.is_none() => {
            if let Some(id) = exact(&value) {
                row.trace_id = Some(TraceId(id));
                return;
            }
            row.trace_id = padded(&value).map(TraceId);
        }
        "span_id" if row.span_id.is_none() => {
            if let Some(id) = exact(&value) {
                row.span_id = Some(SpanId(id));
                return;
            }
            row.span_id = padded(&value).map(SpanId);
        }
        _ => {}
    }
    // One more than allowed tells the sink that there are too many.
    if row.attributes.len() <= attributes_max {
        row.attributes.push((name, Value::Text(value)));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use chronolith_engine::TenantId;
    use chronolith_engine::rows::LogBatch;

    use super::*;
    use crate::process::Processor;
    use crate::rows::{RowLimits, SinkContext, StreamCache, Taken};
    use crate::wire::protobuf::{push_bytes, push_number};

    fn entry(time_ns: u64, line: &str, metadata: &[(&str, &str)]) -> Vec<u8> {
        let (mut time, mut out) = (Vec::new(), Vec::new());
        push_number(&mut time, 1, time_ns / 1_000_000_000);
        push_number(&mut time, 2, time_ns % 1_000_000_000);
        push_bytes(&mut out, 1, &time);
        push_bytes(&mut out, 2, line.as_bytes());
        for (name, value) in metadata {
            let mut pair = Vec::new();
            push_bytes(&mut pair, 1, name.as_bytes());
            push_bytes(&mut pair, 2, value.as_bytes());
            push_bytes(&mut out, 3, &pair);
        }
        out
    }

    fn push(streams: &[(&str, Vec<Vec<u8>>)]) -> Vec<u8> {
        let mut out = Vec::new();
        for (labels, entries) in streams {
            let mut stream = Vec::new();
            push_bytes(&mut stream, 1, labels.as_bytes());
            for entry in entries {
                push_bytes(&mut stream, 2, entry);
            }
            push_bytes(&mut out, 1, &stream);
        }
        out
    }

    fn decoded(message: &[u8], streams_max: u64) -> (LogBatch, Taken, Pushed) {
        let streams = StreamCache::new(1 << 20, streams_max);
        let mut sink = LogSink::new(SinkContext {
            tenant: TenantId::default(),
            streams: &streams,
            processor: Arc::new(Processor::new(&Default::default()).unwrap()),
            limits: RowLimits {
                now: TimestampNs(7),
                latest: TimestampNs(2_000_000_000_000_000_000),
                line_bytes_max: 10,
                attributes_max: 3,
            },
        });
        let pushed = decode(message, None, &mut sink).unwrap();
        let (batch, taken) = sink.finish();
        (batch, taken, pushed)
    }

    #[test]
    fn entries_become_records_and_ids_their_columns() {
        let id = "5b8efff798038103d269b633813fc60c";
        let message = push(&[(
            r#"{job="x"}"#,
            vec![
                entry(5_000_000_001, "a", &[("trace_id", id), ("k", "v")]),
                entry(
                    3,
                    "b",
                    &[("trace_id", "ABC"), ("span_id", "eee19b7ec3c1b174")],
                ),
            ],
        )]);
        let (batch, taken, _) = decoded(&message, 0);
        assert_eq!(taken.rows, 2);
        let record = batch.record(0);
        assert_eq!(record.time.0, 5_000_000_001);
        assert_eq!(record.trace_id.unwrap().to_string(), id);
        assert_eq!(record.attributes.len(), 1);
        let record = batch.record(1);
        assert_eq!(record.trace_id.unwrap().0[14..], [0x0a, 0xbc]);
        assert_eq!(record.attributes[0].0, "trace_id");
        assert_eq!(record.span_id.unwrap().to_string(), "eee19b7ec3c1b174");
    }

    #[test]
    fn exact_repeats_in_a_request_are_stored_once() {
        let one = || entry(5, "a", &[]);
        let entries = vec![one(), entry(5, "b", &[]), one(), entry(6, "a", &[]), one()];
        let (batch, taken, pushed) = decoded(&push(&[(r#"{job="x"}"#, entries)]), 0);
        // The last is a repeat too, but of another time than the one before it.
        assert_eq!((batch.len(), taken.rows, pushed.repeats), (4, 4, 1));
    }

    #[test]
    fn what_cannot_be_is_named_in_lokis_words() {
        let far = i64::MAX as u64;
        let message = push(&[
            ("{}", vec![entry(1, "a", &[]), entry(2, "a", &[])]),
            (
                r#"{job="x"}"#,
                vec![
                    entry(1, "much too long", &[]),
                    entry(far, "a", &[]),
                    entry(1, "kept", &[]),
                    entry(u64::MAX / 2 * 2, "time", &[]),
                ],
            ),
            (r#"{job="y"}"#, vec![entry(1, "a", &[])]),
        ]);
        let (batch, taken, pushed) = decoded(&message, 1);
        assert_eq!(batch.len(), 1);
        let words = taken.rejections.message();
        for part in [
            "at least one label pair is required per stream (2 times)",
            "Max entry size '10' bytes exceeded",
            "timestamp too new",
            "limit of 1 streams",
        ] {
            assert!(words.contains(part), "{words}");
        }
        assert_eq!(pushed.over_limit, [xxh3_64(br#"{job="y"}"#)]);
    }

    #[test]
    fn cut_pushes_are_errors_and_never_panic() {
        let message = push(&[(r#"{job="x"}"#, vec![entry(1, "a", &[("k", "v")])])]);
        let streams = StreamCache::new(1 << 20, 0);
        for cut in 1..message.len() {
            let mut sink = LogSink::new(SinkContext {
                tenant: TenantId::default(),
                streams: &streams,
                processor: Arc::new(Processor::new(&Default::default()).unwrap()),
                limits: RowLimits {
                    now: TimestampNs(7),
                    latest: TimestampNs(9),
                    line_bytes_max: 10,
                    attributes_max: 3,
                },
            });
            assert!(decode(&message[..cut], None, &mut sink).is_err(), "{cut}");
        }
    }
}
