//! What becomes of OTLP's log records.

use chronolith_engine::TenantId;
use chronolith_engine::model::{AttributeValue, LogRecord};
use chronolith_engine::rows::LogBatch;

use std::sync::Arc;

use super::*;
use crate::otlp::json::{schema, to_protobuf};
use crate::process::Processor;
use crate::rows::{RowLimits, SinkContext, StreamCache, Taken};
use crate::wire::protobuf::push_bytes;

fn limits() -> RowLimits {
    RowLimits {
        now: TimestampNs(7),
        latest: TimestampNs(2_000_000_000_000_000_000),
        line_bytes_max: 100,
        attributes_max: 4,
    }
}

fn decode_with(streams: &StreamCache, message: &[u8]) -> Result<(LogBatch, Taken), WireError> {
    let mut sink = LogSink::new(SinkContext {
        tenant: TenantId::default(),
        streams,
        processor: Arc::new(Processor::new(&Default::default()).unwrap()),
        limits: limits(),
    });
    let labels = ["service.name".to_owned()];
    decode(message, &labels, &mut sink)?;
    Ok(sink.finish())
}

fn decoded(message: &[u8]) -> (LogBatch, Taken) {
    decode_with(&StreamCache::new(1 << 20, 0), message).unwrap()
}

/// A request with these records, in JSON.
fn request(records: &str) -> Vec<u8> {
    let text = format!(
        r#"{{"resourceLogs":[{{"resource":{{"attributes":[{{"key":"service.name","value":{{"stringValue":"shop"}}}},{{"key":"n","value":{{"intValue":"4"}}}}]}},"scopeLogs":[{{"scope":{{"name":"lib","version":"2"}},"logRecords":[{records}]}}]}}]}}"#
    );
    let mut message = Vec::new();
    let table = schema::export_logs_request();
    to_protobuf(text.as_bytes(), table, &mut message, 1 << 20).unwrap();
    message
}

fn records(batch: &LogBatch) -> Vec<LogRecord> {
    (0..batch.len()).map(|row| batch.record(row)).collect()
}

#[test]
fn everything_of_a_record_is_kept() {
    let message = request(
        r#"{"timeUnixNano":"1700000000000000001","observedTimeUnixNano":"1700000000000000002",
        "severityNumber":"SEVERITY_NUMBER_WARN","severityText":"warning","body":{"stringValue":"hello"},
        "attributes":[{"key":"a","value":{"doubleValue":0.5}},{"key":"b","value":{"arrayValue":{"values":[{"boolValue":true}]}}}],
        "droppedAttributesCount":2,"flags":1,
        "traceId":"5b8efff798038103d269b633813fc60c","spanId":"eee19b7ec3c1b174","eventName":"e"}"#,
    );
    let (batch, taken) = decoded(&message);
    assert_eq!((taken.rows, taken.rejections.count()), (1, 0));
    let stream = &batch.streams()[0];
    assert_eq!(stream.labels.to_string(), r#"{service_name="shop"}"#);
    assert_eq!(stream.resource[1].1, AttributeValue::Int(4));
    assert_eq!((&*stream.scope.name, &*stream.scope.version), ("lib", "2"));
    let record = batch.record(0);
    assert_eq!(record.time.0, 1_700_000_000_000_000_001);
    assert_eq!(record.observed_time.0, 1_700_000_000_000_000_002);
    assert_eq!((record.severity, &*record.severity_text), (13, "warning"));
    assert_eq!(record.body, AttributeValue::String("hello".into()));
    assert_eq!(record.trace_id.unwrap().0[0], 0x5b);
    assert_eq!(record.span_id.unwrap().0[7], 0x74);
    assert_eq!(record.event_name, "e");
    let keys: Vec<&str> = record.attributes.iter().map(|(k, _)| &**k).collect();
    assert_eq!(keys, ["a", "b", "otel.dropped_attributes_count", "flags"]);
}

#[test]
fn ids_of_a_wrong_size_are_kept_and_padded() {
    let message = request(
        r#"{"traceId":"abc"},{"traceId":"a1b2c3","spanId":"01"},{"traceId":"00000000000000000000000000000000"},{"traceId":"not-a-trace-id!!"}"#,
    );
    let (batch, taken) = decoded(&message);
    assert_eq!(taken.rows, 4);
    let rows = records(&batch);
    let id = |tail: &[u8]| {
        let mut id = [0; 16];
        id[16 - tail.len()..].copy_from_slice(tail);
        Some(TraceId(id))
    };
    let text = |text: &str| AttributeValue::String(text.into());
    assert_eq!(rows[0].trace_id, id(&[0x0a, 0xbc]));
    assert_eq!(rows[0].attributes, [("trace_id".to_owned(), text("abc"))]);
    assert_eq!(rows[1].trace_id, id(&[0xa1, 0xb2, 0xc3]));
    assert_eq!(rows[1].attributes[1], ("span_id".to_owned(), text("01")));
    assert_eq!((rows[2].trace_id, rows[2].attributes.len()), (None, 0));
    assert_eq!(rows[3].trace_id, None);
    assert_eq!(
        rows[3].attributes,
        [("trace_id".to_owned(), text("not-a-trace-id!!"))]
    );
}

#[test]
fn what_cannot_be_is_named_and_its_neighbours_are_stored() {
    let long = "x".repeat(101);
    let many = r#"{"key":"k","value":{}},"#.repeat(5);
    let deep = format!(
        "{}{{}}{}",
        r#"{"arrayValue":{"values":["#.repeat(33),
        "]}}".repeat(33)
    );
    let message = request(&format!(
        r#"{{"body":{{"stringValue":"{long}"}}}},{{"timeUnixNano":"3000000000000000000"}},{{"attributes":[{}]}},{{"body":{deep}}},{{"body":{{"stringValue":"kept"}}}}"#,
        many.trim_end_matches(',')
    ));
    let (batch, taken) = decoded(&message);
    assert_eq!((batch.len(), taken.rows), (1, 1));
    assert_eq!(taken.rejections.count(), 4);
    let message = taken.rejections.message();
    for part in [
        "line of 101 bytes",
        "too far in the future",
        "5 attributes, at most 4",
        "deeper than",
    ] {
        assert!(message.contains(part), "{message}");
    }
    assert_eq!(taken.refused_for(Reason::Attributes), 2);
    let kept = batch.record(0);
    assert_eq!((kept.time.0, kept.observed_time.0), (7, 7));
}

#[test]
fn text_that_is_none_is_repaired() {
    let (mut any, mut record, mut scope, mut resource, mut message) =
        (Vec::new(), Vec::new(), Vec::new(), Vec::new(), Vec::new());
    push_bytes(&mut any, 1, b"a\xffb");
    push_bytes(&mut record, 5, &any);
    push_bytes(&mut scope, 2, &record);
    push_bytes(&mut resource, 2, &scope);
    push_bytes(&mut message, 1, &resource);
    let (batch, taken) = decoded(&message);
    assert_eq!(taken.repaired_texts, 1);
    assert_eq!(
        batch.record(0).body,
        AttributeValue::String("a\u{fffd}b".into())
    );
    let labels = batch.streams()[0].labels.to_string();
    assert_eq!(labels, r#"{service_name="unknown_service"}"#);
}

#[test]
fn streams_beyond_the_limit_are_named() {
    let streams = StreamCache::new(1 << 20, 1);
    let first = request(r#"{"body":{"stringValue":"x"}}"#);
    assert_eq!(decode_with(&streams, &first).unwrap().1.rows, 1);
    assert_eq!(decode_with(&streams, &first).unwrap().1.rows, 1);
    let mut other = Vec::new();
    let text = r#"{"resourceLogs":[{"scopeLogs":[{"logRecords":[{},{}]}]}]}"#;
    let table = schema::export_logs_request();
    to_protobuf(text.as_bytes(), table, &mut other, 1 << 20).unwrap();
    let (_, taken) = decode_with(&streams, &other).unwrap();
    assert_eq!((taken.rows, taken.refused_for(Reason::Streams)), (0, 2));
}

#[test]
fn cut_requests_are_errors_and_never_panic() {
    let message = request(
        r#"{"timeUnixNano":"1","body":{"stringValue":"hello"},"attributes":[{"key":"a","value":{"doubleValue":0.5}}],"traceId":"5b8efff798038103d269b633813fc60c"}"#,
    );
    let streams = StreamCache::new(1 << 20, 0);
    for cut in 1..message.len() {
        assert!(decode_with(&streams, &message[..cut]).is_err(), "{cut}");
    }
}
