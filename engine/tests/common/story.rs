//! Content of every kind that a store can hold, in chapters that can be written one after another.
//!
//! Part of golden stores: what a chapter writes never changes; new kinds of content get chapters of
//! their own.

use std::sync::Arc;

use chronolith_engine::model::{
    AttributeValue, BucketSpan, CounterResetHint, Exemplar, Histogram, Labels, LogRecord, Metadata,
    MetricType, Scope, Span, SpanEvent, SpanId, SpanKind, SpanLink, SpanStatus, Stream, TimeRange,
    TimestampNs, TraceId,
};
use chronolith_engine::{Matcher, RequestContext, Signal, Store, TenantId};

/// Midnight, 2025-01-01.
pub(crate) const START_NS: i64 = 1_735_689_600_000_000_000;
const SECOND_NS: i64 = 1_000_000_000;
const MINUTE_NS: i64 = 60 * SECOND_NS;
/// Time between two chapters.
const CHAPTER_NS: i64 = 40 * MINUTE_NS;

pub(crate) fn tenant(name: &str) -> RequestContext {
    RequestContext::for_tenant(TenantId::new(name).unwrap())
}

pub(crate) fn labels(pairs: &[(&str, &str)]) -> Labels {
    Labels::from_pairs(pairs.iter().copied()).unwrap()
}

/// Writes rows of all signals for two tenants, documents, and a deletion of each signal.
pub(crate) fn write_chapter(store: &Store, chapter: u32) {
    for name in ["default", "other"] {
        let context = tenant(name);
        write_metrics(store, &context, chapter);
        write_logs_and_spans(store, &context, chapter);
        write_state(store, &context, chapter);
        delete_some(store, &context, chapter);
    }
}

pub(crate) fn chapter_start(chapter: u32) -> i64 {
    START_NS + i64::from(chapter) * CHAPTER_NS
}

fn write_metrics(store: &Store, context: &RequestContext, chapter: u32) {
    let start = chapter_start(chapter);
    let mut append = store.begin(context).unwrap();
    for stage in ["extract", "transform", "load"] {
        let set = labels(&[("__name__", "records_total"), ("stage", stage)]);
        let series = append.define(None, &set).unwrap();
        for step in 0..20 {
            let value = f64::from(chapter * 20 + step) * 17.0;
            let time = TimestampNs(start + i64::from(step) * 15 * SECOND_NS);
            append.sample_with_start(series, time, TimestampNs(START_NS), value);
        }
    }
    for (index, instance) in ["a", "b", "c", "d"].iter().enumerate() {
        let set = labels(&[
            ("__name__", "queue_depth"),
            ("instance", instance),
            ("région", "zürich"),
        ]);
        let series = append.define(None, &set).unwrap();
        for step in 0..20_u32 {
            let time = TimestampNs(start + i64::from(step) * 15 * SECOND_NS + index as i64);
            // Decimals, fractions, special values: every encoding meets something of its own.
            let value = match (index, step % 13) {
                (_, 7) => f64::from_bits(0x7ff0_0000_0000_0002),
                (1, 3) => -0.0,
                (1, 4) => f64::INFINITY,
                (2, 5) => f64::from_bits(0x7ff8_0000_dead_beef),
                (0, rest) => f64::from(rest) / 10.0,
                (3, _) => 42.0,
                (_, rest) => (f64::from(rest) + f64::from(chapter)).sqrt(),
            };
            append.sample(series, time, value);
        }
        // Overwritten and late: the later arrival counts.
        append.sample(series, TimestampNs(start + index as i64), -1.5);
        append.sample(
            series,
            TimestampNs(START_NS - MINUTE_NS),
            f64::from(chapter),
        );
    }
    write_histograms(&mut append, start, chapter);
    append.metadata(
        "records_total",
        Metadata {
            metric_type: MetricType::Counter,
            unit: "records".into(),
            help: "Records that a stage has finished.".into(),
        },
    );
    append.commit().unwrap();
}

fn write_histograms(append: &mut chronolith_engine::Append<'_>, start: i64, chapter: u32) {
    let set = labels(&[("__name__", "stage_duration_seconds"), ("stage", "load")]);
    let series = append.define(None, &set).unwrap();
    let custom = labels(&[("__name__", "batch_rows"), ("stage", "load")]);
    let custom = append.define(None, &custom).unwrap();
    for step in 0..5_u32 {
        let time = TimestampNs(start + i64::from(step) * MINUTE_NS);
        let grown = f64::from(chapter * 5 + step);
        let exponential = Histogram {
            counter_reset_hint: CounterResetHint::NotReset,
            schema: 3,
            zero_threshold: 1e-9,
            zero_count: 1.0,
            count: 1.0 + 4.0 * grown,
            sum: 2.5 * grown,
            positive_spans: vec![
                BucketSpan {
                    offset: -2,
                    length: 2,
                },
                BucketSpan {
                    offset: 3,
                    length: 1,
                },
            ],
            positive_buckets: vec![grown, 2.0 * grown, grown],
            negative_spans: vec![],
            negative_buckets: vec![],
            custom_values: None,
            integer: true,
        };
        append.histogram(
            series,
            time,
            Some(TimestampNs(START_NS)),
            Arc::new(exponential),
        );
        let explicit = Histogram {
            schema: chronolith_engine::model::CUSTOM_BUCKETS_SCHEMA,
            count: 3.0 * grown,
            sum: 100.5 * grown,
            positive_spans: vec![BucketSpan {
                offset: 0,
                length: 3,
            }],
            positive_buckets: vec![grown, grown, grown],
            custom_values: Some(Arc::from([10.0, 100.0])),
            ..Histogram::default()
        };
        append.histogram(custom, time, None, Arc::new(explicit));
    }
    append.exemplar(
        series,
        Exemplar {
            labels: labels(&[("trace_id", "0102030405060708090a0b0c0d0e0f10")]),
            value: 0.25,
            time: TimestampNs(start + 1),
        },
    );
}

fn write_logs_and_spans(store: &Store, context: &RequestContext, chapter: u32) {
    let start = chapter_start(chapter);
    let mut append = store.begin(context).unwrap();
    let number = i64::from(chapter);
    for service in ["orders", "stock"] {
        let stream = Arc::new(Stream {
            labels: labels(&[("service", service)]),
            resource: vec![
                (
                    "service.name".into(),
                    AttributeValue::String(service.into()),
                ),
                ("host.cores".into(), AttributeValue::Int(2)),
            ],
            scope: Scope {
                name: "pipeline".into(),
                version: "1.2".into(),
                attributes: vec![("beta".into(), AttributeValue::Bool(false))],
            },
        });
        for step in 0..10 {
            append.log(&stream, log_record(start + step * SECOND_NS, number, step));
        }
        for step in 0..5 {
            append.span(&stream, span(start + step * SECOND_NS, number, step));
        }
    }
    append.commit().unwrap();
}

pub(crate) fn log_record(time: i64, chapter: i64, step: i64) -> LogRecord {
    let structured = AttributeValue::Map(vec![
        ("rows".into(), AttributeValue::Int(step * 100)),
        ("share".into(), AttributeValue::Float(step as f64 / 7.0)),
    ]);
    LogRecord {
        time: TimestampNs(time),
        observed_time: TimestampNs(time + 5),
        severity: if step % 9 == 0 { 17 } else { 9 },
        severity_text: if step % 9 == 0 { "ERROR" } else { "INFO" }.into(),
        body: match step % 5 {
            4 => structured,
            _ => AttributeValue::String(format!("batch {chapter}-{step} loaded into table äöü")),
        },
        attributes: vec![
            ("attempt".into(), AttributeValue::Int(step % 3)),
            (
                "raw".into(),
                AttributeValue::Bytes(vec![0, 255, step as u8]),
            ),
            (
                "tags".into(),
                AttributeValue::Array(vec![AttributeValue::Bool(true), AttributeValue::Null]),
            ),
        ],
        trace_id: (step % 2 == 0).then_some(TraceId([chapter as u8 + 1; 16])),
        span_id: (step % 2 == 0).then_some(SpanId([step as u8 + 1; 8])),
        event_name: if step == 3 { "batch.done" } else { "" }.into(),
    }
}

pub(crate) fn span(time: i64, chapter: i64, step: i64) -> Span {
    Span {
        trace_id: TraceId([chapter as u8 + 1; 16]),
        span_id: SpanId([step as u8 + 1; 8]),
        parent_span_id: (step > 0).then_some(SpanId([1; 8])),
        trace_state: String::new(),
        name: format!("step {}", step % 4),
        kind: SpanKind::from_u8((step % 6) as u8).unwrap(),
        time: TimestampNs(time),
        duration_ns: 1_000_000 * (step + 1),
        status: if step == 3 {
            SpanStatus::Error
        } else {
            SpanStatus::Ok
        },
        status_message: if step == 3 { "timeout" } else { "" }.into(),
        attributes: vec![
            ("db.rows".into(), AttributeValue::Int(step)),
            ("cost".into(), AttributeValue::Float(0.001 * step as f64)),
        ],
        events: vec![SpanEvent {
            time: TimestampNs(time + 1),
            name: "retry".into(),
            attributes: vec![("after".into(), AttributeValue::String("1s".into()))],
        }],
        links: vec![SpanLink {
            trace_id: TraceId([200; 16]),
            span_id: SpanId([201; 8]),
            attributes: vec![],
        }],
    }
}

pub(crate) fn write_state(store: &Store, context: &RequestContext, chapter: u32) {
    let text = format!("{{\"chapter\": {chapter}}}");
    let put = |collection: &str, key: &str| {
        store
            .state_put(context, collection, key, None, text.as_bytes())
            .unwrap();
    };
    put("dashboards", "main");
    put("dashboards", &format!("of chapter {chapter}"));
    put("positions", "/var/log/pipeline.log");
    if chapter > 0 {
        let gone = format!("of chapter {}", chapter - 1);
        store
            .state_delete(context, "dashboards", &gone, None)
            .unwrap();
    }
}

/// Deletes a little of this chapter and of the one before.
fn delete_some(store: &Store, context: &RequestContext, chapter: u32) {
    let start = chapter_start(chapter);
    let delete = |signal, matchers: &[Matcher], from: i64, to: i64| {
        let range = TimeRange::new(from, to);
        store.delete(context, signal, matchers, range).unwrap();
    };
    let name = Matcher::equal("__name__", "queue_depth");
    let instance = Matcher::equal("instance", "c");
    let (from, to) = (start - 38 * MINUTE_NS, start + MINUTE_NS);
    delete(Signal::Metrics, &[name, instance], from, to);
    let orders = [Matcher::equal("service", "orders")];
    delete(Signal::Logs, &orders, start, start + 2 * SECOND_NS);
    delete(Signal::Spans, &orders, start, start);
}
