//! What becomes of OTLP's spans.

use chronolith_engine::TenantId;
use chronolith_engine::model::{AttributeValue, TimestampNs};
use chronolith_engine::rows::SpanBatch;

use std::sync::Arc;

use super::*;
use crate::otlp::json::{schema, to_protobuf};
use crate::process::Processor;
use crate::rows::{RowLimits, SinkContext, StreamCache, Taken};

fn decoded(message: &[u8]) -> Result<(SpanBatch, Taken), WireError> {
    let streams = StreamCache::new(1 << 20, 0);
    let mut sink = SpanSink::new(SinkContext {
        tenant: TenantId::default(),
        streams: &streams,
        processor: Arc::new(Processor::new(&Default::default()).unwrap()),
        limits: RowLimits {
            now: TimestampNs(7),
            latest: TimestampNs(2_000_000_000_000_000_000),
            line_bytes_max: 100,
            attributes_max: 3,
        },
    });
    let labels = ["service.name".to_owned()];
    decode(message, &labels, &mut sink)?;
    Ok(sink.finish())
}

fn request(spans: &str) -> Vec<u8> {
    let text = format!(
        r#"{{"resourceSpans":[{{"resource":{{"attributes":[{{"key":"service.name","value":{{"stringValue":"shop"}}}}]}},"scopeSpans":[{{"scope":{{"name":"lib"}},"spans":[{spans}]}}]}}]}}"#
    );
    let mut message = Vec::new();
    let table = schema::export_trace_request();
    to_protobuf(text.as_bytes(), table, &mut message, 1 << 20).unwrap();
    message
}

const WHOLE: &str = r#"{"traceId":"5b8efff798038103d269b633813fc60c","spanId":"eee19b7ec3c1b174",
"parentSpanId":"eee19b7ec3c1b173","traceState":"a=b","name":"GET /","kind":2,"flags":257,
"startTimeUnixNano":"1700000000000000000","endTimeUnixNano":"1700000000000000100",
"attributes":[{"key":"http.status","value":{"intValue":"200"}}],"droppedEventsCount":1,
"events":[{"timeUnixNano":"1700000000000000050","name":"cache","attributes":[{"key":"hit","value":{"boolValue":true}}]}],
"links":[{"traceId":"5b8efff798038103d269b633813fc60d","spanId":"eee19b7ec3c1b175","attributes":[{"key":"why","value":{"stringValue":"retry"}}]}],
"status":{"code":"STATUS_CODE_ERROR","message":"no"}}"#;

#[test]
fn everything_of_a_span_is_kept() {
    let (batch, taken) = decoded(&request(WHOLE)).unwrap();
    assert_eq!((taken.rows, taken.rejections.count()), (1, 0));
    let span = batch.span(0);
    assert_eq!(
        span.trace_id.to_string(),
        "5b8efff798038103d269b633813fc60c"
    );
    assert_eq!(span.span_id.to_string(), "eee19b7ec3c1b174");
    assert_eq!(span.parent_span_id.unwrap().to_string(), "eee19b7ec3c1b173");
    assert_eq!((&*span.trace_state, &*span.name), ("a=b", "GET /"));
    assert_eq!((span.kind, span.duration_ns), (SpanKind::Server, 100));
    assert_eq!(
        (span.status, &*span.status_message),
        (SpanStatus::Error, "no")
    );
    assert_eq!(span.attributes[0].1, AttributeValue::Int(200));
    assert_eq!(span.attributes[1].0, "otel.dropped_events_count");
    let event = &span.events[0];
    assert_eq!(
        (event.time.0, &*event.name),
        (1_700_000_000_000_000_050, "cache")
    );
    assert_eq!(event.attributes[0].1, AttributeValue::Bool(true));
    let link = &span.links[0];
    assert_eq!(link.span_id.to_string(), "eee19b7ec3c1b175");
    assert_eq!(link.attributes[0].0, "why");
    assert_eq!(batch.streams()[0].scope.name, "lib");
}

#[test]
fn spans_with_wrong_ids_are_refused_and_named() {
    let good = r#""traceId":"5b8efff798038103d269b633813fc60c","spanId":"eee19b7ec3c1b174","startTimeUnixNano":"5""#;
    let spans = [
        r#"{"name":"none"}"#.to_owned(),
        r#"{"name":"short","traceId":"a1b2c3","spanId":"eee19b7ec3c1b174"}"#.to_owned(),
        r#"{"name":"zero","traceId":"5b8efff798038103d269b633813fc60c","spanId":"0000000000000000"}"#.to_owned(),
        r#"{"name":"text","traceId":"5b8efff798038103d269b633813fc60c","spanId":"zzzzzzzz"}"#.to_owned(),
        format!(r#"{{"name":"parent","parentSpanId":"01",{good}}}"#),
        format!(r#"{{"name":"root","parentSpanId":"0000000000000000",{good}}}"#),
        format!(r#"{{"name":"late",{}}}"#, good.replace("\"5\"", "\"3000000000000000000\"")),
        format!(r#"{{"name":"backwards","endTimeUnixNano":"3",{good}}}"#),
        format!(r#"{{"name":"open",{good}}}"#),
    ];
    let (batch, taken) = decoded(&request(&spans.join(","))).unwrap();
    let names: Vec<String> = (0..batch.len()).map(|row| batch.span(row).name).collect();
    assert_eq!(names, ["root", "backwards", "open"]);
    assert_eq!(batch.span(1).duration_ns, -2);
    assert_eq!(batch.span(2).duration_ns, 0);
    assert_eq!(taken.refused_for(Reason::Ids), 5);
    let message = taken.rejections.message();
    for name in ["none", "short", "zero", "text", "parent", "future"] {
        assert!(message.contains(name), "{name}: {message}");
    }
}

#[test]
fn too_many_parts_refuse_the_span() {
    let with = |what: &str, one: &str, count: usize| {
        let list = vec![one; count].join(",");
        format!(
            r#"{{"traceId":"5b8efff798038103d269b633813fc60c","spanId":"eee19b7ec3c1b174","startTimeUnixNano":"5","{what}":[{list}]}}"#
        )
    };
    let attribute = r#"{"key":"k","value":{}}"#;
    let wide = format!(r#"{{"attributes":[{}]}}"#, [attribute; 49].join(","));
    for span in [
        with("attributes", attribute, 4),
        with("events", "{}", 4),
        with("links", "{}", 4),
        with("events", &wide, 1),
    ] {
        let (batch, taken) = decoded(&request(&span)).unwrap();
        assert_eq!(batch.len(), 0);
        assert_eq!(taken.refused_for(Reason::Attributes), 1, "{span}");
    }
}

#[test]
fn cut_requests_are_errors_and_never_panic() {
    let message = request(WHOLE);
    for cut in 1..message.len() {
        assert!(decoded(&message[..cut]).is_err(), "{cut}");
    }
}
