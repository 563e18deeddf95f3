//! Span segments against plain lists.

use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::index::{MatchOp, Matcher};
use crate::model::{
    AttributeValue, Attributes, Labels, Scope, Span, SpanEvent, SpanId, SpanKind, SpanLink,
    SpanStatus, Stream, TimeRange, TimestampNs, TraceId,
};
use crate::segment::metrics::tests::origin;

pub(crate) fn stream(service: &str, level: &str) -> Stream {
    Stream {
        labels: Labels::from_pairs([("level", level), ("service", service)]).unwrap(),
        resource: vec![
            (
                "service.name".into(),
                AttributeValue::String(service.into()),
            ),
            ("replicas".into(), AttributeValue::Int(3)),
        ],
        scope: Scope {
            name: "lib".into(),
            version: "1".into(),
            attributes: vec![("x".into(), AttributeValue::Bool(true))],
        },
    }
}

pub(crate) fn streams() -> Vec<Stream> {
    let mut all = vec![
        stream("shop", "info"),
        stream("shop", "error"),
        stream("cart", "info"),
    ];
    // The same labels with another scope are another stream.
    let mut twin = stream("cart", "info");
    twin.scope.version = "2".into();
    all.push(twin);
    all.sort_by_key(stream_sort_key);
    all
}

pub(crate) fn any_attribute() -> impl Strategy<Value = AttributeValue> {
    let leaf = prop_oneof![
        Just(AttributeValue::Null),
        "[a-zé ]{0,8}".prop_map(AttributeValue::String),
        any::<i64>().prop_map(AttributeValue::Int),
        (-1e9_f64..1e9).prop_map(AttributeValue::Float),
        any::<bool>().prop_map(AttributeValue::Bool),
        prop::collection::vec(any::<u8>(), 0..5).prop_map(AttributeValue::Bytes),
    ];
    leaf.prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(AttributeValue::Array),
            prop::collection::vec(("[a-c]", inner), 0..3).prop_map(AttributeValue::Map),
        ]
    })
}

pub(crate) fn any_attributes() -> impl Strategy<Value = Attributes> {
    // Few keys, so that repeats and changes of type occur.
    prop::collection::vec(("[a-d]", any_attribute()), 0..4)
}

prop_compose! {
    fn any_span()(
        time in 0_i64..1000, trace in 0_u8..6, span in any::<[u8; 8]>(),
        parent in prop::option::of(any::<[u8; 8]>()), name in "(GET /|query)", kind in 0_u8..6,
        duration_ns in any::<i32>(), status in 0_u8..3, status_message in "(|boom)",
        attributes in any_attributes(),
        events in prop::collection::vec((any::<i32>(), "[a-b]{0,2}", any_attributes()), 0..3),
        links in prop::collection::vec((any::<[u8; 16]>(), any_attributes()), 0..2),
    ) -> Span {
        Span {
            trace_id: TraceId([trace; 16]),
            span_id: SpanId(span),
            parent_span_id: parent.map(SpanId),
            trace_state: String::new(),
            name,
            kind: SpanKind::from_u8(kind).unwrap(),
            time: TimestampNs(time),
            duration_ns: i64::from(duration_ns),
            status: SpanStatus::from_u8(status).unwrap(),
            status_message,
            attributes,
            events: events
                .into_iter()
                .map(|(time, name, attributes)| SpanEvent {
                    time: TimestampNs(i64::from(time)),
                    name,
                    attributes,
                })
                .collect(),
            links: links
                .into_iter()
                .map(|(trace, attributes)| SpanLink {
                    trace_id: TraceId(trace),
                    span_id: SpanId([1; 8]),
                    attributes,
                })
                .collect(),
        }
    }
}

fn small_blocks() -> RowBuildOptions {
    RowBuildOptions {
        block_rows: 7,
        ..RowBuildOptions::default()
    }
}

fn build_spans(per_stream: &mut [Vec<Span>], options: RowBuildOptions) -> Vec<u8> {
    let mut builder = SpanSegmentBuilder::new(Vec::new(), origin(), options).unwrap();
    for (stream, spans) in streams().iter().zip(per_stream) {
        spans.sort_by_key(|s| s.time);
        builder.begin_stream(stream).unwrap();
        for (ordinal, span) in spans.iter().enumerate() {
            builder
                .push(&Arc::new(span.clone()), ordinal as u64)
                .unwrap();
        }
    }
    builder.finish().unwrap().0
}

pub(crate) fn span_segment() -> Vec<u8> {
    let span = |at: i64| Span {
        trace_id: TraceId([at as u8 / 3; 16]),
        span_id: SpanId([at as u8; 8]),
        parent_span_id: (at % 3 > 0).then_some(SpanId([(at as u8).wrapping_sub(1); 8])),
        trace_state: String::new(),
        name: format!("step {}", at % 3),
        kind: SpanKind::Server,
        time: TimestampNs(at * 1000),
        duration_ns: 500,
        status: SpanStatus::Ok,
        status_message: String::new(),
        attributes: vec![("n".into(), AttributeValue::Float(at as f64 / 2.0))],
        events: vec![SpanEvent {
            time: TimestampNs(at * 1000 + 1),
            name: "began".into(),
            attributes: vec![("k".into(), AttributeValue::Null)],
        }],
        links: vec![],
    };
    let mut rows: Vec<Vec<Span>> = (0..4).map(|s| (s..s + 12).map(span).collect()).collect();
    build_spans(&mut rows, small_blocks())
}

#[test]
fn streams_are_chosen_by_matchers() {
    let reader = SpanSegmentReader::open(Arc::new(span_segment()), "memory.seg").unwrap();
    let mut filter = RowFilter::in_range(TimeRange::ALL);
    let matcher = Matcher::new("service", MatchOp::Regex, "ca.*").unwrap();
    filter.streams = Some(reader.select_streams(&[matcher]).unwrap());
    let found = reader.scan(&filter).unwrap();
    assert_eq!(found.len(), 24);
    for row in found {
        let labels = reader.stream_labels(row.stream).unwrap();
        assert_eq!(labels.get("service"), Some("cart"));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn spans_read_back(
        mut rows in prop::collection::vec(prop::collection::vec(any_span(), 0..30), 4..=4),
        start in 0_i64..1000, length in 0_i64..1000, trace in 0_u8..6,
    ) {
        let bytes = build_spans(&mut rows, small_blocks());
        let reader = SpanSegmentReader::open(Arc::new(bytes), "memory.seg").unwrap();
        let range = TimeRange::new(start, start + length);
        for (range, trace_id) in [(TimeRange::ALL, None), (range, None), (range, Some(TraceId([trace; 16])))] {
            let value_min = trace_id.map(|_| 0);
            let filter = RowFilter { trace_id, value_min, ..RowFilter::in_range(range) };
            let mut expected = Vec::new();
            for (stream, spans) in rows.iter().enumerate() {
                for (ordinal, span) in spans.iter().enumerate() {
                    if range.contains(span.time)
                        && trace_id.is_none_or(|id| id == span.trace_id)
                        && value_min.is_none_or(|min| span.duration_ns >= min)
                    {
                        expected.push(StoredSpan {
                            stream: stream as u32, ordinal: ordinal as u64, span: span.clone(),
                        });
                    }
                }
            }
            prop_assert_eq!(reader.scan(&filter).unwrap(), expected);
        }
    }
}
