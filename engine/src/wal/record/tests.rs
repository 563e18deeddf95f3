//! Records of every kind as bytes and back, and what damaged bytes give.

use super::*;
use crate::index::MatchOp;
use crate::model::{
    AttributeValue, BucketSpan, CUSTOM_BUCKETS_SCHEMA, CounterResetHint, LogRecord, MetricType,
    Scope, Span, SpanEvent, SpanId, SpanKind, SpanLink, SpanStatus, Stream, TraceId,
};
use crate::wal::format::{RECORD_HEADER_BYTES, RecordHeader};

fn attributes() -> Vec<(String, AttributeValue)> {
    vec![
        ("null".into(), AttributeValue::Null),
        ("text".into(), AttributeValue::String("äö".into())),
        ("int".into(), AttributeValue::Int(i64::MIN)),
        ("float".into(), AttributeValue::Float(-0.0)),
        ("bool".into(), AttributeValue::Bool(true)),
        ("no".into(), AttributeValue::Bool(false)),
        ("bytes".into(), AttributeValue::Bytes(vec![0, 255])),
        (
            "list".into(),
            AttributeValue::Array(vec![
                AttributeValue::Int(1),
                AttributeValue::Map(vec![("k".into(), AttributeValue::Null)]),
            ]),
        ),
        ("text".into(), AttributeValue::String(String::new())),
    ]
}

fn stream() -> Arc<Stream> {
    Arc::new(Stream {
        labels: Labels::from_pairs([("__name__", "up"), ("job", "c")]).unwrap(),
        resource: attributes(),
        scope: Scope {
            name: "lib".into(),
            version: "1".into(),
            attributes: attributes(),
        },
    })
}

fn log() -> LogRecord {
    LogRecord {
        time: TimestampNs(i64::MAX),
        observed_time: TimestampNs(i64::MIN),
        severity: 17,
        severity_text: "ERROR".into(),
        body: AttributeValue::Map(attributes()),
        attributes: attributes(),
        trace_id: Some(TraceId([1; 16])),
        span_id: Some(SpanId([2; 8])),
        event_name: "e".into(),
    }
}

fn plain_log() -> LogRecord {
    LogRecord {
        body: AttributeValue::String("öffne".into()),
        trace_id: None,
        severity: 9,
        ..log()
    }
}

fn span() -> Span {
    Span {
        trace_id: TraceId([1; 16]),
        span_id: SpanId([2; 8]),
        parent_span_id: Some(SpanId([3; 8])),
        trace_state: String::new(),
        name: "GET /".into(),
        kind: SpanKind::Server,
        time: TimestampNs(10),
        duration_ns: -4,
        status: SpanStatus::Error,
        status_message: "no".into(),
        attributes: attributes(),
        events: vec![SpanEvent {
            time: TimestampNs(11),
            name: "ev".into(),
            attributes: attributes(),
        }],
        links: vec![SpanLink {
            trace_id: TraceId([4; 16]),
            span_id: SpanId([5; 8]),
            attributes: attributes(),
        }],
    }
}

fn log_batch(logs: &[LogRecord]) -> LogBatch {
    let mut batch = LogBatch::new();
    let number = batch.stream(stream());
    logs.iter().for_each(|log| batch.push(number, log));
    batch
}

fn span_batch(spans: &[Span]) -> SpanBatch {
    let mut batch = SpanBatch::new();
    let number = batch.stream(stream());
    spans.iter().for_each(|span| batch.push(number, span));
    batch
}

/// Log records and spans as they were written one by one, until they were written as batches.
#[test]
fn rows_of_earlier_versions_are_read() {
    use super::old_rows;
    let mut body = Vec::new();
    old_rows::write(&mut body, &stream(), &[log(), plain_log()], &[span()]);
    let sealed = [&RecordHeader::of(&body, body.len() as u32, 0), &body[..]].concat();
    let decoded = decode(&sealed).unwrap();
    assert_eq!(decoded.log_records(), 2);
    assert_eq!(*decoded.logs[0].streams()[0], *stream());
    assert_eq!(decoded.logs[0].record(0), log());
    assert_eq!(decoded.logs[0].record(1), plain_log());
    assert_eq!(decoded.spans[0].span(0), span());
}

/// A record with something in every section.
pub(in crate::wal) fn full_record() -> Record {
    let labels = |value| Labels::from_pairs([("__name__", "up"), ("job", value)]).unwrap();
    let custom: Arc<[f64]> = Arc::from([0.1, 0.5]);
    let custom_histogram = |count| HistogramRow {
        series: SeriesRef(8),
        time: TimestampNs(5),
        start: Some(TimestampNs(i64::MIN)),
        histogram: Arc::new(Histogram {
            schema: CUSTOM_BUCKETS_SCHEMA,
            positive_spans: vec![BucketSpan {
                offset: 0,
                length: 2,
            }],
            positive_buckets: vec![0.5, count],
            custom_values: Some(Arc::clone(&custom)),
            ..Histogram::default()
        }),
    };
    Record {
        tenant: TenantId::new("team-a").unwrap(),
        arrival: TimestampNs(-5),
        batch: Some(BatchId([7; 16])),
        derivation: Some(Arc::from("rule/x")),
        series: vec![(SeriesRef(7), labels("a")), (SeriesRef(8), labels("b"))],
        samples: Samples {
            series: vec![
                SeriesRef(7),
                SeriesRef(8),
                SeriesRef(u64::MAX),
                SeriesRef(1),
            ],
            times: vec![i64::MIN, i64::MAX, 0, 1],
            starts: vec![0, 5_000_000, 7_000_000, 0],
            values: vec![0.0, -0.0, f64::INFINITY, 1e300],
        },
        histograms: vec![
            HistogramRow {
                series: SeriesRef(7),
                time: TimestampNs(100),
                start: None,
                histogram: Arc::new(Histogram {
                    counter_reset_hint: CounterResetHint::Gauge,
                    schema: 3,
                    zero_threshold: 1e-9,
                    zero_count: 4.0,
                    count: 20.0,
                    sum: -1.5,
                    positive_spans: vec![BucketSpan {
                        offset: -3,
                        length: 3,
                    }],
                    positive_buckets: vec![5.0, 1.0, 3.0],
                    negative_spans: vec![BucketSpan {
                        offset: 2,
                        length: 1,
                    }],
                    negative_buckets: vec![7.0],
                    custom_values: None,
                    integer: true,
                }),
            },
            custom_histogram(2.0),
            custom_histogram(-0.0),
        ],
        exemplars: vec![(
            SeriesRef(7),
            Exemplar {
                labels: Labels::from_pairs([("trace_id", "abc")]).unwrap(),
                value: 0.25,
                time: TimestampNs(77),
            },
        )],
        metadata: vec![(
            "up".into(),
            Metadata {
                metric_type: MetricType::Gauge,
                unit: "s".into(),
                help: "is it up".into(),
            },
        )],
        logs: vec![Arc::new(log_batch(&[log(), plain_log()]))],
        spans: vec![Arc::new(span_batch(&[span()]))],
        state: vec![
            StateOp {
                collection: Arc::from("dash"),
                key: Arc::from("a"),
                version: 3,
                value: Some(Arc::from(&b"{}"[..])),
            },
            StateOp {
                collection: Arc::from("dash"),
                key: Arc::from("b"),
                version: 4,
                value: None,
            },
        ],
        deletions: vec![Deletion {
            id: 1,
            generation: Generation(12),
            signal: Signal::Logs,
            matchers: vec![
                Matcher::equal("job", "x"),
                Matcher::new("path", MatchOp::NotRegex, "/a.+").unwrap(),
            ],
            range: TimeRange::ALL,
        }],
        sources: vec![Generation(3), Generation(u64::MAX)],
    }
}

fn decode(bytes: &[u8]) -> Option<Record> {
    let (header, payload, rest) = RecordHeader::split(bytes)?;
    assert!(rest.is_empty());
    Some(Record::decode(&header, payload).unwrap())
}

#[test]
fn every_section_round_trips() {
    let record = full_record();
    let encoded = record.as_record_ref().encode().unwrap();
    assert_eq!(decode(encoded.as_bytes()), Some(record));
    let empty = Record::default();
    let encoded = empty.as_record_ref().encode().unwrap();
    assert_eq!(decode(encoded.as_bytes()), Some(empty));
}

#[test]
fn sample_values_keep_their_bits() {
    let tenant = TenantId::default();
    let bits = [
        crate::model::STALE_NAN_BITS,
        0x7ff8_0000_dead_beef,
        0xfff0_0000_0000_0001,
        1,
        (-0.0_f64).to_bits(),
    ];
    let values: Vec<f64> = bits.iter().map(|b| f64::from_bits(*b)).collect();
    let series: Vec<SeriesRef> = (0..5).map(SeriesRef).collect();
    for times in [[5; 5], [0, 10_000_000, 20_000_000, 30_000_000, 10_000_000]] {
        let mut record = RecordRef::new(&tenant, TimestampNs(0));
        record.samples = SampleRows {
            series: &series,
            times: &times,
            starts: &[],
            values: &values,
        };
        let encoded = record.encode().unwrap();
        let decoded = decode(encoded.as_bytes()).unwrap().samples;
        assert_eq!(decoded.times, times);
        assert!(decoded.starts.is_empty());
        let found: Vec<u64> = decoded.values.iter().map(|v| v.to_bits()).collect();
        assert_eq!(found, bits);
    }
}

#[test]
fn wrong_requests_are_refused_before_anything_is_written() {
    let tenant = TenantId::default();
    let mut record = RecordRef::new(&tenant, TimestampNs(0));
    record.samples.times = &[1];
    assert!(record.encode().is_err());
    let mut torn = LogBatch::new();
    let number = torn.stream(stream());
    torn.row(number, TimestampNs(0));
    let record = Record {
        logs: vec![Arc::new(torn)],
        ..Record::default()
    };
    let error = record.as_record_ref().encode().unwrap_err();
    assert!(error.to_string().contains("not finished"), "{error}");
    let mut nested = AttributeValue::Null;
    for _ in 0..100 {
        nested = AttributeValue::Array(vec![nested]);
    }
    let deep_body = LogRecord {
        body: nested.clone(),
        ..log()
    };
    let deep_attribute = LogRecord {
        attributes: vec![("k".into(), nested.clone())],
        ..log()
    };
    for deep in [deep_body, deep_attribute] {
        let record = Record {
            logs: vec![Arc::new(log_batch(&[deep]))],
            ..Record::default()
        };
        let error = record.as_record_ref().encode().unwrap_err();
        assert!(error.to_string().contains("nested deeper"), "{error}");
    }
    let mut deep = span();
    deep.links[0].attributes = vec![("k".into(), nested)];
    let record = Record {
        spans: vec![Arc::new(span_batch(&[deep]))],
        ..Record::default()
    };
    let error = record.as_record_ref().encode().unwrap_err();
    assert!(error.to_string().contains("nested deeper"), "{error}");
}

#[test]
fn cut_and_flipped_bytes_never_pass() {
    let encoded = full_record().as_record_ref().encode().unwrap();
    let bytes = encoded.as_bytes();
    for length in 0..bytes.len() {
        assert!(RecordHeader::split(&bytes[..length]).is_none());
    }
    for at in 0..bytes.len() {
        let mut bad = bytes.to_vec();
        bad[at] ^= 0x10;
        assert!(RecordHeader::split(&bad).is_none(), "flip at {at}");
    }
}

/// With a valid checksum over nonsense the decoder stands alone.
#[test]
fn hostile_bodies_are_errors_not_panics() {
    let record = full_record();
    let encoded = record.as_record_ref().encode().unwrap();
    let (header, payload, _) = RecordHeader::split(encoded.as_bytes()).unwrap();
    let body = payload.to_vec();
    assert_eq!(header.flags, 0, "rows are stored as they are");
    let plain = |body: &[u8]| {
        let sealed = [&RecordHeader::of(body, body.len() as u32, 0), body].concat();
        let (header, payload, _) = RecordHeader::split(&sealed).unwrap();
        Record::decode(&header, payload)
    };
    assert_eq!(plain(&body).unwrap(), record);
    for length in 0..body.len() {
        // Cut between two sections the rest is a valid, smaller record; it is never the same.
        assert_ne!(plain(&body[..length]).ok().as_ref(), Some(&record));
    }
    for at in 0..body.len() {
        for flip in [0x01, 0x80, 0xff] {
            let mut bad = body.clone();
            bad[at] ^= flip;
            let _ = plain(&bad);
        }
    }
    assert_eq!(
        encoded.as_bytes().len(),
        RECORD_HEADER_BYTES + payload.len()
    );
}
