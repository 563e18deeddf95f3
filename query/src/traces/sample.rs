//! A few traces for tests.

use chronolith_engine::model::{
    AttributeValue, Attributes, Scope, Span, SpanEvent, SpanId, SpanKind, SpanLink, SpanStatus,
    Stream, TimestampNs, TraceId,
};

use super::memory::MemorySpans;

pub(super) fn text(key: &str, value: &str) -> (String, AttributeValue) {
    (key.to_owned(), AttributeValue::String(value.to_owned()))
}

pub(super) fn int(key: &str, value: i64) -> (String, AttributeValue) {
    (key.to_owned(), AttributeValue::Int(value))
}

pub(super) fn stream(service: &str, more: Attributes) -> Stream {
    let mut resource = vec![text("service.name", service)];
    resource.extend(more);
    Stream {
        resource,
        scope: Scope {
            name: "lib".to_owned(),
            version: "1.2".to_owned(),
            attributes: Vec::new(),
        },
        ..Stream::default()
    }
}

/// A span that starts and lasts so many milliseconds.
pub(super) fn span(trace: u8, id: u8, parent: u8, name: &str, start_ms: i64, ms: i64) -> Span {
    Span {
        trace_id: TraceId([trace; 16]),
        span_id: SpanId([id; 8]),
        parent_span_id: (parent > 0).then_some(SpanId([parent; 8])),
        trace_state: String::new(),
        name: name.to_owned(),
        kind: SpanKind::Internal,
        time: TimestampNs(start_ms * 1_000_000),
        duration_ns: ms * 1_000_000,
        status: SpanStatus::Unset,
        status_message: String::new(),
        attributes: Vec::new(),
        events: Vec::new(),
        links: Vec::new(),
    }
}

/// Three traces:
///
/// - 1, from 1 s: shop `GET /` (1) > shop `query` (2), pay `charge` (3, error) > pay `bank` (4)
/// - 2, from 2 s: shop `GET /` (1) > pay `charge` (2)
/// - 3, from 3 s: batch `job` (1), and an orphan `lost` (2)
pub(super) fn spans() -> MemorySpans {
    let mut all = MemorySpans::with_block_rows(3);
    let get = |trace, ms| Span {
        kind: SpanKind::Server,
        attributes: vec![int("http.status", 200), text("http.method", "GET")],
        ..span(trace, 1, 0, "GET /", i64::from(trace) * 1000, ms)
    };
    let query = Span {
        kind: SpanKind::Client,
        attributes: vec![
            text("db", "pg"),
            ("cached".to_owned(), AttributeValue::Bool(true)),
        ],
        ..span(1, 2, 1, "query", 1010, 20)
    };
    let failed = Span {
        kind: SpanKind::Server,
        status: SpanStatus::Error,
        status_message: "no money".to_owned(),
        attributes: vec![
            int("http.status", 500),
            ("amount".to_owned(), AttributeValue::Float(9.5)),
        ],
        events: vec![SpanEvent {
            time: TimestampNs(1_060_000_000),
            name: "exception".to_owned(),
            attributes: vec![text("type", "Broke")],
        }],
        links: vec![SpanLink {
            trace_id: TraceId([9; 16]),
            span_id: SpanId([8; 8]),
            attributes: vec![text("why", "retry")],
        }],
        ..span(1, 3, 1, "charge", 1050, 100)
    };
    let charge = Span {
        kind: SpanKind::Server,
        status: SpanStatus::Ok,
        attributes: vec![int("http.status", 200), text("service.name", "own")],
        ..span(2, 2, 1, "charge", 2010, 30)
    };
    let bank = span(1, 4, 3, "bank", 1060, 80);
    all.add(
        stream("shop", vec![text("region", "eu")]),
        vec![get(1, 200), query, get(2, 50)],
    );
    all.add(stream("pay", Vec::new()), vec![failed, bank, charge]);
    let lost = span(3, 2, 77, "lost", 3005, 1);
    all.add(
        stream("batch", Vec::new()),
        vec![span(3, 1, 0, "job", 3000, 2000), lost],
    );
    all
}
