//! The rows of a request: made from a seed, handed to the store, and recognised when read.
//!
//! Times lie on a grid, so that late rows and repeated ones often hit a time that is taken. A span's
//! time follows from its id: a span that is sent again begins when it began.

use std::sync::Arc;

use super::random::Random;
use crate::append::Append;
use crate::error::Result;
use crate::model::{
    AttributeValue, BucketSpan, Exemplar, Histogram, Labels, LogRecord, Metadata, MetricType,
    STALE_NAN_BITS, Scope, Span, SpanEvent, SpanId, SpanKind, SpanLink, SpanStatus, Stream,
    TimestampNs, TraceId,
};

pub(super) const SECOND_NS: i64 = 1_000_000_000;
pub(super) const HOUR_NS: i64 = 3_600 * SECOND_NS;
/// When simulations begin.
pub(super) const START_NS: i64 = 400_000 * HOUR_NS;
const STREAMS: u64 = 6;

/// A sample, histogram or exemplar.
#[derive(Clone, Debug)]
pub(super) struct MetricRow {
    pub(super) labels: Labels,
    pub(super) time: i64,
    /// When the counter began; 0 for unknown.
    pub(super) start: i64,
    /// The value's bits, or the number from which the histogram or exemplar is made.
    pub(super) bits: u64,
}

/// A log record or span.
#[derive(Clone, Copy, Debug)]
pub(super) struct StreamRow {
    pub(super) stream: u64,
    pub(super) time: i64,
    pub(super) id: u64,
    pub(super) version: u64,
}

/// What one request holds.
#[derive(Clone, Debug, Default)]
pub(super) struct Request {
    pub(super) tenant: usize,
    pub(super) samples: Vec<MetricRow>,
    pub(super) histograms: Vec<MetricRow>,
    pub(super) exemplars: Vec<MetricRow>,
    pub(super) metadata: Vec<(String, u64)>,
    pub(super) logs: Vec<StreamRow>,
    pub(super) spans: Vec<StreamRow>,
}

/// The labels of a series.
pub(super) fn labels(number: u64) -> Labels {
    let zone = if number.is_multiple_of(2) { "even" } else { "" };
    let pairs = [
        ("__name__", metric(number)),
        ("instance", format!("host-{number}")),
        ("zone", zone.to_owned()),
    ];
    Labels::from_pairs(pairs).unwrap()
}

pub(super) fn metric(number: u64) -> String {
    format!("metric_{}", number % 3)
}

/// A time around now: mostly now, often late, sometimes days late or ahead.
pub(super) fn time(random: &mut Random, now: i64) -> i64 {
    let back = match random.below(20) {
        0..10 => random.below(6) as i64 * 10 * SECOND_NS,
        10..16 => random.below(60) as i64 * 60 * SECOND_NS,
        16..18 => random.below(100) as i64 * HOUR_NS,
        18 => -(random.below(30) as i64) * HOUR_NS,
        // Off the grid.
        _ => random.below(SECOND_NS as u64) as i64,
    };
    now - back
}

pub(super) fn value(random: &mut Random) -> u64 {
    let ugly = [
        STALE_NAN_BITS,
        0x7ff8_0000_dead_beef,
        f64::INFINITY.to_bits(),
        (-0.0_f64).to_bits(),
        f64::MIN_POSITIVE.to_bits(),
        u64::MAX,
    ];
    match random.below(10) {
        0 => *random.pick(&ugly),
        1..5 => (random.below(4) as f64).to_bits(),
        5..9 => (random.below(10_000) as f64 / 100.0).to_bits(),
        _ => random.next(),
    }
}

impl Request {
    pub(super) fn new(seed: u64, tenant: usize, now: i64) -> Self {
        let random = &mut Random::new(seed);
        let mut request = Self {
            tenant,
            ..Self::default()
        };
        // Which series write changes over time, and comes back: they leave the head and return.
        let shift = (now - START_NS) / (4 * HOUR_NS) % 3 * 6;
        let wants = 1 + random.below(7);
        if wants & 1 != 0 {
            for _ in 0..=random.below(12) {
                let number = random.below(9) + shift as u64;
                request.push_series(random, number, now);
            }
        }
        for (kind, rows) in [(2, &mut request.logs), (4, &mut request.spans)] {
            let count = if wants & kind == 0 {
                0
            } else {
                1 + random.below(10)
            };
            for _ in 0..count {
                rows.push(stream_row(random, kind == 4, now));
            }
        }
        if random.once_in(8) {
            let number = random.below(3);
            request.metadata.push((metric(number), random.below(3)));
        }
        request
    }

    fn push_series(&mut self, random: &mut Random, number: u64, now: i64) {
        let labels = labels(number);
        let row = |random: &mut Random, start, bits| MetricRow {
            labels: labels.clone(),
            time: time(random, now),
            start,
            bits,
        };
        for _ in 0..=random.below(6) {
            let start = if random.once_in(8) { now - HOUR_NS } else { 0 };
            let bits = value(random);
            self.samples.push(row(random, start, bits));
        }
        if random.once_in(8) {
            let bits = random.below(1000);
            self.histograms.push(row(random, 0, bits));
        }
        if random.once_in(8) {
            let bits = random.below(1000);
            self.exemplars.push(row(random, 0, bits));
        }
    }

    /// Hands the rows to a session.
    pub(super) fn fill(&self, append: &mut Append<'_>) -> Result<()> {
        for (metric, number) in &self.metadata {
            append.metadata(metric, metadata(*number));
        }
        for row in &self.samples {
            let series = append.define(None, &row.labels)?;
            let (time, value) = (TimestampNs(row.time), f64::from_bits(row.bits));
            if row.start == 0 {
                append.sample(series, time, value);
            } else {
                append.sample_with_start(series, time, TimestampNs(row.start), value);
            }
        }
        for row in &self.histograms {
            let series = append.define(None, &row.labels)?;
            append.histogram(series, TimestampNs(row.time), None, histogram(row.bits));
        }
        for row in &self.exemplars {
            let series = append.define(None, &row.labels)?;
            append.exemplar(series, exemplar(row.time, row.bits));
        }
        let streams: Vec<_> = (0..STREAMS).map(|n| Arc::new(stream(n))).collect();
        for row in &self.logs {
            append.log(&streams[row.stream as usize], log_record(row.time, row.id));
        }
        for row in &self.spans {
            let span = span(row.time, row.id, row.version);
            append.span(&streams[row.stream as usize], span);
        }
        Ok(())
    }
}

fn stream_row(random: &mut Random, is_span: bool, now: i64) -> StreamRow {
    if !is_span {
        return StreamRow {
            stream: random.below(STREAMS),
            time: time(random, now),
            id: random.below(1 << 40),
            version: 0,
        };
    }
    let id = random.below(60);
    StreamRow {
        stream: id % STREAMS,
        time: START_NS + (id as i64 - 30) * HOUR_NS,
        id,
        version: random.below(1 << 40),
    }
}

/// The number of a stream of these labels.
pub(super) fn stream_number(labels: &Labels) -> u64 {
    labels.get("number").unwrap().parse().unwrap()
}

/// The stream of a number.
pub(super) fn stream(number: u64) -> Stream {
    let pairs = [
        ("app", format!("app-{}", number % 3)),
        ("number", number.to_string()),
    ];
    let service = AttributeValue::String(format!("service-{number}"));
    Stream {
        labels: Labels::from_pairs(pairs).unwrap(),
        resource: vec![("service.name".into(), service)],
        scope: Scope::default(),
    }
}

pub(super) fn metadata(number: u64) -> Metadata {
    Metadata {
        metric_type: MetricType::Gauge,
        unit: String::new(),
        help: number.to_string(),
    }
}

pub(super) fn exemplar(time: i64, number: u64) -> Exemplar {
    Exemplar {
        labels: Labels::from_pairs([("trace_id", number.to_string())]).unwrap(),
        value: number as f64,
        time: TimestampNs(time),
    }
}

pub(super) fn histogram(number: u64) -> Arc<Histogram> {
    let bucket = (number % 7) as f64;
    Arc::new(Histogram {
        schema: 3,
        count: bucket + 1.0,
        sum: number as f64,
        positive_spans: vec![BucketSpan {
            offset: (number % 5) as i32,
            length: 2,
        }],
        positive_buckets: vec![bucket, 1.0],
        integer: true,
        ..Histogram::default()
    })
}

/// The attribute that names a row.
fn id_attribute(id: u64) -> (String, AttributeValue) {
    ("id".into(), AttributeValue::Int(id as i64))
}

/// The id among a row's attributes.
pub(super) fn id_of(attributes: &[(String, AttributeValue)]) -> u64 {
    match attributes.first() {
        Some((_, AttributeValue::Int(id))) => *id as u64,
        other => panic!("a row without its id: {other:?}"),
    }
}

pub(super) fn log_record(time: i64, id: u64) -> LogRecord {
    let text = format!("request {} took {} ms", id % 13, id % 1000);
    let body = match id % 5 {
        0 => AttributeValue::Map(vec![("text".into(), AttributeValue::String(text))]),
        1 => AttributeValue::Null,
        _ => AttributeValue::String(text),
    };
    let mut attributes = vec![id_attribute(id)];
    if id.is_multiple_of(3) {
        attributes.push(("level".into(), AttributeValue::Bool(id.is_multiple_of(2))));
    }
    LogRecord {
        time: TimestampNs(time),
        observed_time: TimestampNs(time + (id % 2) as i64),
        severity: (id % 25) as u8,
        severity_text: ["", "info", "warn"][(id % 3) as usize].into(),
        body,
        attributes,
        trace_id: id
            .is_multiple_of(4)
            .then(|| TraceId([(id % 251) as u8 + 1; 16])),
        span_id: id
            .is_multiple_of(8)
            .then(|| SpanId([(id % 251) as u8 + 1; 8])),
        event_name: if id.is_multiple_of(7) {
            "deploy".into()
        } else {
            String::new()
        },
    }
}

/// The version of a span that [`span`] made.
pub(super) fn version_of(span: &Span) -> u64 {
    span.name.parse().unwrap()
}

pub(super) fn span(time: i64, id: u64, version: u64) -> Span {
    let mut attributes = vec![id_attribute(id)];
    if version.is_multiple_of(2) {
        attributes.push(("ratio".into(), AttributeValue::Float(version as f64 / 3.0)));
    }
    Span {
        trace_id: TraceId([id as u8 + 1; 16]),
        span_id: SpanId([id as u8 + 1; 8]),
        parent_span_id: id.is_multiple_of(3).then_some(SpanId([9; 8])),
        trace_state: String::new(),
        name: version.to_string(),
        kind: SpanKind::Server,
        time: TimestampNs(time),
        duration_ns: (version % 1_000_000) as i64,
        status: SpanStatus::Ok,
        status_message: String::new(),
        attributes,
        events: (0..version % 3)
            .map(|n| SpanEvent {
                time: TimestampNs(time + n as i64),
                name: "event".into(),
                attributes: Vec::new(),
            })
            .collect(),
        links: (0..version % 2)
            .map(|_| SpanLink {
                trace_id: TraceId([7; 16]),
                span_id: SpanId([7; 8]),
                attributes: Vec::new(),
            })
            .collect(),
    }
}
