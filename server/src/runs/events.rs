//! Events of a run as `POST /api/v1/runs/{id}/events` takes them.
//!
//! An event becomes a log record with a name, whose attributes are called as the configuration calls
//! them: so it is stored, searched and kept as all others are, and becomes part of the run the way
//! events from elsewhere do.

use std::borrow::Cow;

use chronolith_engine::model::{
    AttributeValue, LabelsBuilder, SpanId, Stream, TimestampNs, TraceId,
};
use chronolith_query::runs::{RUN_ID_BYTES_MAX, RunNames};

use crate::error::ApiError;
use crate::process::severity_of;
use crate::rows::fields::json_object;
use crate::rows::ids::padded;
use crate::rows::labels::{SERVICE_NAME, finish_labels};
use crate::rows::{LogRow, LogSink, Pairs, Reason, TooManyStreams, Value};
use crate::wire::time::{guess_unit_ns, parse_time_ns};

/// Stands behind the tenant in keys of streams: no other protocol's keys have it there.
const KEY_MARK: u8 = 7;
/// The service of events that name none.
const SERVICE: &str = "runs";
/// Events of one request.
const EVENTS_MAX: usize = 10_000;
/// Refused events that are named.
const REFUSALS_MAX: usize = 20;
/// Bytes of an event's name.
const NAME_BYTES_MAX: usize = 256;

/// Checks a run id that came in a path.
///
/// # Errors
/// It is empty, too long, or has control characters.
pub fn check_run_id(id: &str) -> Result<(), ApiError> {
    if id.is_empty() || id.len() > RUN_ID_BYTES_MAX {
        return Err(ApiError::bad_data(format!(
            "run id of {} bytes, expected 1 to {RUN_ID_BYTES_MAX}",
            id.len()
        )));
    }
    if id.chars().any(char::is_control) {
        return Err(ApiError::bad_data("run id with control characters"));
    }
    Ok(())
}

/// What became of the events of a request.
#[derive(Clone, Debug, Default)]
pub struct TakenEvents {
    /// Those that were taken.
    pub accepted: usize,
    /// All that were refused.
    pub refused: usize,
    /// The first of the refused: their places and why.
    pub refusals: Vec<(usize, String)>,
}

/// The events in a body: an object, an array of objects, or an object a line.
///
/// # Errors
/// It is none of these, empty, or has too many.
fn split(body: &[u8]) -> Result<Vec<Cow<'_, [u8]>>, ApiError> {
    let body = body.trim_ascii();
    let events: Vec<Cow<'_, [u8]>> = match body.first() {
        None => return Err(ApiError::bad_data("no event in the body")),
        Some(b'[') => {
            let all: Vec<serde_json::Value> = serde_json::from_slice(body)
                .map_err(|e| ApiError::bad_data(format!("events: {e}")))?;
            let texts = all
                .iter()
                .map(|event| Cow::Owned(event.to_string().into_bytes()));
            texts.collect()
        }
        // One object over several lines, or one a line.
        Some(_) if serde_json::from_slice::<serde::de::IgnoredAny>(body).is_ok() => {
            vec![Cow::Borrowed(body)]
        }
        Some(_) => {
            let lines = body.split(|b| *b == b'\n').map(<[u8]>::trim_ascii);
            let lines = lines.filter(|line| !line.is_empty());
            lines.map(Cow::Borrowed).take(EVENTS_MAX + 1).collect()
        }
    };
    if events.is_empty() || events.len() > EVENTS_MAX {
        let words = format!("{} events, expected 1 to {EVENTS_MAX}", events.len());
        return Err(ApiError::bad_data(words));
    }
    Ok(events)
}

/// Puts the events of a body into a sink.
///
/// # Errors
/// The body as a whole makes no sense; too many streams.
pub fn take(
    run_id: &str,
    names: &RunNames,
    body: &[u8],
    sink: &mut LogSink<'_>,
) -> Result<TakenEvents, ApiError> {
    let mut taken = TakenEvents::default();
    for (place, text) in split(body)?.into_iter().enumerate() {
        let outcome = take_one(run_id, names, &text, sink);
        match outcome {
            Ok(()) => taken.accepted += 1,
            Err((reason, words)) => {
                sink.taken.refuse(1, reason, words.clone());
                taken.refused += 1;
                if taken.refusals.len() < REFUSALS_MAX {
                    taken.refusals.push((place, words));
                }
            }
        }
    }
    Ok(taken)
}

/// A name that the configuration has for a field, the one it likes best.
fn preferred(names: &[String]) -> Option<Cow<'static, str>> {
    names.first().map(|name| Cow::Owned(name.clone()))
}

fn take_one(
    run_id: &str,
    names: &RunNames,
    text: &[u8],
    sink: &mut LogSink<'_>,
) -> Result<(), (Reason, String)> {
    let mut members = Pairs::new();
    json_object(text, &mut members, sink.limits().attributes_max)
        .map_err(|e| (Reason::Malformed, format!("event: {e}")))?;
    let mut row = LogRow {
        time: Some(sink.limits().now),
        severity: 9,
        ..LogRow::default()
    };
    let mut service = String::new();
    if let Some(name) = preferred(&names.run_id) {
        row.attributes
            .push((name, Value::Text(Cow::Borrowed(run_id))));
    }
    for (name, value) in members {
        let text = value.as_text().filter(|text| !text.is_empty());
        let known = match &*name {
            "pipeline" | "workflow" => preferred(&names.pipeline),
            "stage" | "task" | "step" => preferred(&names.stage),
            "cost" => preferred(&names.cost),
            "tokens" => preferred(&names.tokens),
            "queue_ms" => preferred(&names.queue_ms),
            "error" => preferred(&names.error),
            "event" | "name" => {
                let Some(text) = text.filter(|text| text.len() <= NAME_BYTES_MAX) else {
                    let words =
                        format!("event: {name}: expected text of 1 to {NAME_BYTES_MAX} bytes");
                    return Err((Reason::Malformed, words));
                };
                row.event_name = Cow::Owned(text.to_owned());
                continue;
            }
            "time" | "timestamp" => {
                let words = || (Reason::Time, format!("event: {name}: not a time"));
                row.time = Some(TimestampNs(time_of(&value).ok_or_else(words)?));
                continue;
            }
            "message" | "msg" => {
                row.body = value;
                continue;
            }
            "service" => {
                service = text.unwrap_or_default().to_owned();
                continue;
            }
            "severity" | "level" => {
                let text = text.unwrap_or_default();
                row.severity = match severity_of(text) {
                    0 => row.severity,
                    severity => severity,
                };
                row.severity_text = Cow::Owned(text.to_owned());
                continue;
            }
            "trace_id" => {
                let words = || {
                    (
                        Reason::Ids,
                        "event: trace_id: expected up to 32 hex digits".into(),
                    )
                };
                row.trace_id = text
                    .map(|t| padded(t).ok_or_else(words))
                    .transpose()?
                    .map(TraceId);
                continue;
            }
            "span_id" => {
                let words = || {
                    (
                        Reason::Ids,
                        "event: span_id: expected up to 16 hex digits".into(),
                    )
                };
                row.span_id = text
                    .map(|t| padded(t).ok_or_else(words))
                    .transpose()?
                    .map(SpanId);
                continue;
            }
            "attributes" => {
                let Value::Nested(AttributeValue::Map(pairs)) = value else {
                    let words = "event: attributes: expected an object".to_owned();
                    return Err((Reason::Malformed, words));
                };
                let pairs = pairs.into_iter();
                let pairs = pairs.map(|(key, value)| (Cow::Owned(key), of_model(value)));
                row.attributes.extend(pairs);
                continue;
            }
            _ => None,
        };
        row.attributes.push((known.unwrap_or(name), value));
    }
    if row.event_name.is_empty() {
        let words = "event: without a name; expected `event`, such as run.started".to_owned();
        return Err((Reason::Malformed, words));
    }
    // A failure is an error unless its sender thinks otherwise.
    if row.severity_text.is_empty() && row.event_name.ends_with("failed") {
        row.severity = 17;
    }
    let number = stream(&service, sink).map_err(|e| (Reason::Streams, e.to_string()))?;
    sink.push_or_refuse(number, &mut row)
}

fn of_model(value: AttributeValue) -> Value<'static> {
    match value {
        AttributeValue::Null => Value::Null,
        AttributeValue::String(text) => Value::Text(Cow::Owned(text)),
        AttributeValue::Int(number) => Value::Int(number),
        AttributeValue::Float(number) => Value::Float(number),
        AttributeValue::Bool(truth) => Value::Bool(truth),
        AttributeValue::Bytes(bytes) => Value::Bytes(Cow::Owned(bytes)),
        nested => Value::Nested(nested),
    }
}

fn time_of(value: &Value<'_>) -> Option<i64> {
    match value {
        Value::Text(text) => parse_time_ns(text),
        Value::Int(number) => guess_unit_ns(*number),
        // Doubles hold seconds to some hundred nanoseconds.
        Value::Float(seconds) if seconds.abs() < 9e9 => Some((seconds * 1e9) as i64),
        _ => None,
    }
}

fn stream(service: &str, sink: &mut LogSink<'_>) -> Result<u32, TooManyStreams> {
    let mut labels = LabelsBuilder::new();
    let service = if service.is_empty() { SERVICE } else { service };
    labels.set(SERVICE_NAME, service);
    let labels = finish_labels(labels);
    let mut key = sink.tenant().as_str().as_bytes().to_vec();
    key.push(KEY_MARK);
    key.extend_from_slice(labels.as_bytes());
    sink.stream(&key, || Ok(Stream::from_labels(labels)))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use chronolith_engine::TenantId;

    use super::*;
    use crate::process::Processor;
    use crate::rows::{RowLimits, SinkContext, StreamCache};

    fn with_sink(
        body: &str,
    ) -> (
        Result<TakenEvents, ApiError>,
        chronolith_engine::rows::LogBatch,
    ) {
        let streams = StreamCache::new(1 << 20, 0);
        let mut sink = LogSink::new(SinkContext {
            tenant: TenantId::default(),
            streams: &streams,
            processor: Arc::new(Processor::new(&Default::default()).unwrap()),
            limits: RowLimits {
                now: TimestampNs(7),
                latest: TimestampNs(2_000_000_000_000_000_000),
                line_bytes_max: 1_000,
                attributes_max: 20,
            },
        });
        let taken = take("r-1", &RunNames::default(), body.as_bytes(), &mut sink);
        (taken, sink.finish().0)
    }

    #[test]
    fn an_event_becomes_a_record_with_the_configured_names() {
        let (taken, batch) = with_sink(
            r#"{"event":"stage.failed","time":"2023-11-14T22:13:20Z","pipeline":"etl","stage":"load",
                "error":"disk full","cost":1.5,"trace_id":"abc","attributes":{"rows":3},"who":"me"}"#,
        );
        assert_eq!(taken.unwrap().accepted, 1);
        let record = batch.record(0);
        assert_eq!(record.event_name, "stage.failed");
        assert_eq!(record.time.0, 1_700_000_000_000_000_000);
        assert_eq!(record.severity, 17);
        assert_eq!(record.trace_id.unwrap().0[15], 0xbc);
        let keys: Vec<&str> = record.attributes.iter().map(|(key, _)| &**key).collect();
        let expected = [
            "run.id",
            "pipeline.name",
            "task.name",
            "error.message",
            "cost_dollars",
            "rows",
            "who",
        ];
        assert_eq!(keys, expected);
        let labels = batch.streams()[0].labels.to_string();
        assert_eq!(labels, r#"{service_name="runs"}"#);
    }

    #[test]
    fn one_bad_event_leaves_its_neighbours() {
        let lines = "{\"event\":\"run.started\"}\n{\"event\":5}\n{}\n{\"event\":\"x\",\"time\":\"soon\"}\nno\n{\"event\":\"run.completed\",\"trace_id\":\"zz\"}";
        let (taken, batch) = with_sink(lines);
        let taken = taken.unwrap();
        assert_eq!((taken.accepted, taken.refused, batch.len()), (1, 5, 1));
        let places: Vec<usize> = taken.refusals.iter().map(|(place, _)| *place).collect();
        assert_eq!(places, [1, 2, 3, 4, 5]);
        let (taken, _) = with_sink(r#"[{"event":"a"},{"event":"b"},7]"#);
        let taken = taken.unwrap();
        assert_eq!((taken.accepted, taken.refused), (2, 1));
    }

    #[test]
    fn bodies_that_are_no_events_are_refused() {
        let deep = format!("[{}", "[".repeat(100_000));
        let many = "{\"event\":\"a\"}\n".repeat(EVENTS_MAX + 1);
        for body in ["", "  ", "[]", "[1", &deep, &many] {
            assert!(
                with_sink(body).0.is_err(),
                "{}",
                &body[..body.len().min(20)]
            );
        }
        let nested = format!(
            "{{\"event\":\"a\",\"x\":{}1{}}}",
            "[".repeat(100),
            "]".repeat(100)
        );
        assert_eq!(with_sink(&nested).0.unwrap().refused, 1);
        let long = format!("{{\"event\":\"{}\"}}", "x".repeat(300));
        assert_eq!(with_sink(&long).0.unwrap().refused, 1);
        assert!(check_run_id("").is_err() && check_run_id(&"x".repeat(257)).is_err());
        assert!(check_run_id("a\nb").is_err() && check_run_id("a/b ü").is_ok());
    }
}
