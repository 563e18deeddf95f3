//! Merges of log and span segments of several blocks: what a scan answers stays the same, whatever the
//! inputs share.

#![expect(clippy::unwrap_used, reason = "a test that fails here has failed")]

use std::sync::Arc;

use chronolith_engine::model::{
    AttributeValue, Labels, LogRecord, SpanId, SpanKind, SpanStatus, Stream, TimeRange,
    TimestampNs, TraceId,
};
use chronolith_engine::rows::{LogBatch, SpanBatch, SpanCondition, SpanFields, SpanScanRequest};
use chronolith_engine::{Matcher, RequestContext, ScanRequest, Signal, Store, StoreOptions};

/// Midnight, 2025-01-01.
const START_NS: i64 = 1_735_689_600_000_000_000;

fn store() -> Store {
    let options = StoreOptions {
        background: false,
        ..StoreOptions::default()
    };
    Store::in_memory(options).unwrap()
}

fn stream(number: u64) -> Arc<Stream> {
    let name = format!("service-{number}");
    Arc::new(Stream {
        labels: Labels::from_pairs([("service_name", name.as_str())]).unwrap(),
        resource: vec![("service.name".into(), AttributeValue::String(name))],
        ..Stream::default()
    })
}

/// Traces of a segment: with ten spans each more than half a block.
const TRACES: u64 = 500;
/// Spans of this number have no trace id.
const NO_TRACE: u64 = 6_000;

fn trace_id(trace: u64) -> TraceId {
    if trace == NO_TRACE {
        return TraceId([0; 16]);
    }
    let mut id = [7; 16];
    // Not in the order of their starts.
    id[..8].copy_from_slice(&trace.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
    TraceId(id)
}

/// Span `number` of a trace; no two spans begin at the same time.
fn push(batch: &mut SpanBatch, trace: u64, number: u64, version: &str) {
    let own = trace * 16 + number;
    let fields = SpanFields {
        trace_id: trace_id(trace),
        span_id: SpanId((own + 1).to_be_bytes()),
        parent_span_id: (number > 0).then_some(SpanId((trace * 16 + 1).to_be_bytes())),
        trace_state: "",
        name: version,
        kind: SpanKind::Server,
        time: TimestampNs(START_NS + (own * 1_000_000) as i64),
        duration_ns: 5,
        status: SpanStatus::Ok,
        status_message: "",
    };
    batch.row((own % 3) as u32, &fields).attributes(|writer| {
        writer.int("row", own as i64);
        writer.str("route", "/items/{id}");
    });
}

fn send(store: &Store, fill: impl FnOnce(&mut SpanBatch)) {
    let mut batch = SpanBatch::new();
    for number in 0..3 {
        batch.stream(stream(number));
    }
    fill(&mut batch);
    let mut append = store.begin(&RequestContext::new()).unwrap();
    append.spans(batch);
    append.commit().unwrap();
}

fn spans_of(store: &Store) -> Vec<String> {
    let request = ScanRequest::new(vec![], TimeRange::ALL);
    let scan = store.scan_spans(&RequestContext::new(), &request).unwrap();
    scan.flat_map(|rows| rows.unwrap())
        .map(|row| format!("{} {:?}", row.stream.labels, row.span))
        .collect()
}

fn merged(store: &Store, rows: impl Fn(&Store) -> Vec<String>) {
    let before = rows(store);
    store.compact().unwrap();
    assert_eq!(store.segments().len(), 1);
    let after = rows(store);
    assert_eq!(before.len(), after.len());
    for (before, after) in before.iter().zip(&after) {
        assert_eq!(before, after);
    }
}

#[test]
fn spans_that_inputs_share_or_delete_are_merged_as_a_scan_sees_them() {
    let store = store();
    // Three segments that follow each other in time and share traces at their borders; of the last there
    // are spans in all of them.
    for part in 0..3_u64 {
        send(&store, |batch| {
            for trace in part * TRACES..(part + 1) * TRACES {
                let spans = if trace % 50 == 0 { 0..9 } else { 0..10 };
                spans.for_each(|number| push(batch, trace, number, "first"));
            }
            for trace in (0..part * TRACES).step_by(50) {
                push(batch, trace, 9 + part, "late");
            }
            push(batch, 5_000, part, "everywhere");
            push(batch, NO_TRACE, part, "without a trace");
        });
        store.flush().unwrap();
    }
    merged(&store, spans_of);
    // Later spans behind a merged segment whose blocks stay as they are; some take the place of others.
    for part in 3..5_u64 {
        send(&store, |batch| {
            for trace in part * TRACES..(part + 1) * TRACES {
                (0..10).for_each(|number| push(batch, trace, number, "first"));
            }
            for trace in (900..1000).step_by(10) {
                push(batch, trace, 3, "again");
            }
        });
        store.flush().unwrap();
    }
    merged(&store, spans_of);
    let all = spans_of(&store);
    assert_eq!(all.iter().filter(|row| row.contains("again")).count(), 10);
    // As many came late as were left out, and six are of no such trace.
    assert_eq!(all.len() as u64, 5 * TRACES * 10 + 6);

    // Without the first span of many traces, which then begin later.
    let context = RequestContext::new();
    let range = TimeRange::new(START_NS, START_NS + 20_000_000_000);
    let matchers = [Matcher::equal("service_name", "service-1")];
    store
        .delete(&context, Signal::Spans, &matchers, range)
        .unwrap();
    merged(&store, spans_of);

    for (trace, expected) in [(5_000, 3), (2_400, 10), (1_900, 10), (9_999, 0)] {
        let request = SpanScanRequest {
            conditions: vec![SpanCondition::Trace([trace_id(trace)].into())],
            ..SpanScanRequest::new(vec![], TimeRange::ALL)
        };
        let blocks = store.scan_span_blocks(&context, &request).unwrap();
        let rows: usize = blocks.map(|block| block.unwrap().rows).sum();
        assert_eq!(rows, expected, "trace {trace}");
    }
}

#[test]
fn records_of_streams_that_inputs_share_are_merged_by_time() {
    let store = store();
    let logs_of = |store: &Store| {
        let request = ScanRequest::new(vec![], TimeRange::ALL);
        let scan = store.scan_logs(&RequestContext::new(), &request).unwrap();
        scan.flat_map(|rows| rows.unwrap())
            .map(|row| format!("{} {:?}", row.stream.labels, row.record))
            .collect::<Vec<_>>()
    };
    for part in 0..3_u64 {
        let mut batch = LogBatch::new();
        // Each input lacks a stream that others have.
        for number in (0..4).filter(|number| *number != part) {
            let its = batch.stream(stream(number));
            for row in 0..3_000_u64 {
                // Times of the inputs alternate, and some are equal.
                let time = START_NS + ((row * 3 + part) / 2 * 1_000) as i64;
                let record = LogRecord {
                    time: TimestampNs(time),
                    observed_time: TimestampNs(time),
                    severity: 9,
                    severity_text: "INFO".into(),
                    body: AttributeValue::String(format!("row {row} of part {part} loaded")),
                    attributes: vec![("part".into(), AttributeValue::Int(part as i64))],
                    trace_id: (row % 7 == 0).then_some(trace_id(row)),
                    span_id: None,
                    event_name: String::new(),
                };
                batch.push(its, &record);
            }
        }
        let mut append = store.begin(&RequestContext::new()).unwrap();
        append.logs(batch);
        append.commit().unwrap();
        store.flush().unwrap();
    }
    assert_eq!(store.segments().len(), 3);
    merged(&store, logs_of);
    assert_eq!(logs_of(&store).len(), 3 * 3 * 3_000);
    let range = TimeRange::new(START_NS, START_NS + 2_000_000);
    let context = RequestContext::new();
    store.delete(&context, Signal::Logs, &[], range).unwrap();
    merged(&store, logs_of);
}
