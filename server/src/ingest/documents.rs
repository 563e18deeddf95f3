//! Records that come as JSON objects, one a line: JSON lines and what Elasticsearch's `_bulk` carries.
//!
//! Some members are known by name (message, time, level, ids), some name the stream, all others become
//! attributes with their types. Objects inside of objects stay whole.

use std::borrow::Cow;

use chronolith_engine::model::{Labels, LabelsBuilder, SpanId, Stream, TimestampNs, TraceId};

use crate::process::severity_of;
use crate::rows::fields::json_object;
use crate::rows::ids::{exact, padded};
use crate::rows::labels::{finish_labels, label_name, push_text};
use crate::rows::{LogRow, LogSink, Pairs, Reason, TooManyStreams, Value};
use crate::wire::time::{guess_unit_ns, parse_time_ns};

/// Which members are what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DocumentFields {
    /// The message, the first that is there.
    pub message: Vec<String>,
    /// The time, the first that is there.
    pub time: Vec<String>,
    /// Members that become labels of the stream.
    pub stream: Vec<String>,
    /// Labels that all records get.
    pub extra: Vec<(String, String)>,
    /// Members that are passed over.
    pub ignored: Vec<String>,
}

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

impl Default for DocumentFields {
    fn default() -> Self {
        Self {
            message: names(&["_msg", "message", "msg", "log", "body", "event.original"]),
            time: names(&["_time", "@timestamp", "timestamp", "time", "ts"]),
            stream: names(&[
                "service.name",
                "service",
                "app",
                "host",
                "host.name",
                "hostname",
                "job",
                "container",
                "namespace",
                "environment",
            ]),
            extra: Vec::new(),
            ignored: Vec::new(),
        }
    }
}

/// Puts documents into a sink. Keeps what serves more than one of them.
pub struct Documents<'f> {
    fields: &'f DocumentFields,
    /// Stands behind the tenant in keys of streams, so that protocols do not meet.
    key_mark: u8,
    key: Vec<u8>,
}

impl<'f> Documents<'f> {
    /// For one request.
    #[must_use]
    pub fn new(fields: &'f DocumentFields, key_mark: u8) -> Self {
        Self {
            fields,
            key_mark,
            key: Vec::new(),
        }
    }

    /// Takes a document; `index` is one more label of the stream. Refusals are named in the sink.
    ///
    /// # Errors
    /// Why it was refused, for protocols that answer document by document.
    pub fn take(
        &mut self,
        text: &[u8],
        index: Option<&str>,
        sink: &mut LogSink<'_>,
    ) -> Result<(), (Reason, String)> {
        let outcome = self.read(text, index, sink);
        if let Err((reason, words)) = &outcome {
            sink.taken.refuse(1, *reason, words.clone());
        }
        outcome
    }

    fn read(
        &mut self,
        text: &[u8],
        index: Option<&str>,
        sink: &mut LogSink<'_>,
    ) -> Result<(), (Reason, String)> {
        let attributes_max = sink.limits().attributes_max;
        let document_max = sink.limits().line_bytes_max.saturating_mul(4);
        if text.len() > document_max {
            let words = format!("document of {} bytes, at most {document_max}", text.len());
            return Err((Reason::Line, words));
        }
        let mut members = Pairs::new();
        json_object(text, &mut members, attributes_max)
            .map_err(|e| (Reason::Malformed, format!("document: {e}")))?;
        let mut row = LogRow::default();
        let mut labels = LabelsBuilder::new();
        for (name, value) in &self.fields.extra {
            labels.set(&label_name(name), value);
        }
        if let Some(index) = index {
            labels.set("index", index);
        }
        let message = first_of(&self.fields.message, &members);
        let time = first_of(&self.fields.time, &members);
        for (place, (name, value)) in members.into_iter().enumerate() {
            if Some(place) == message {
                row.body = value;
            } else if Some(place) == time {
                row.time = Some(time_of(&value).ok_or_else(|| {
                    let words = format!("document: {name:?} is not a time");
                    (Reason::Time, words)
                })?);
            } else if self.fields.ignored.iter().any(|i| *i == name) {
            } else if self.fields.stream.iter().any(|s| *s == name) {
                let mut text = String::new();
                push_text(&mut text, &value.into_owned());
                labels.set(&label_name(&name), &text);
            } else {
                push_member(&mut row, name, value);
            }
        }
        let labels = finish_labels(labels);
        let number = self.stream(labels, sink);
        let number = number.map_err(|e| (Reason::Streams, e.to_string()))?;
        sink.push_or_refuse(number, &mut row)
    }

    fn stream(&mut self, labels: Labels, sink: &mut LogSink<'_>) -> Result<u32, TooManyStreams> {
        self.key.clear();
        self.key
            .extend_from_slice(sink.tenant().as_str().as_bytes());
        self.key.push(self.key_mark);
        self.key.extend_from_slice(labels.as_bytes());
        sink.stream(&self.key, || Ok(Stream::from_labels(labels)))
    }
}

/// Where the first of these names stands.
fn first_of(wanted: &[String], members: &Pairs<'_>) -> Option<usize> {
    wanted
        .iter()
        .find_map(|name| members.iter().position(|(key, _)| key == name))
}

fn time_of(value: &Value<'_>) -> Option<TimestampNs> {
    let ns = match value {
        Value::Text(text) if text.is_empty() || text == "0" => return Some(now()),
        Value::Text(text) => parse_time_ns(text)?,
        Value::Int(0) => return Some(now()),
        Value::Int(number) => guess_unit_ns(*number)?,
        // Doubles hold seconds to some hundred nanoseconds.
        Value::Float(seconds) if seconds.abs() < 9e9 => (seconds * 1e9) as i64,
        _ => return None,
    };
    Some(TimestampNs(ns))
}

fn now() -> TimestampNs {
    TimestampNs(crate::telemetry::now_ms().saturating_mul(1_000_000))
}

/// A member that is neither message nor time nor of the stream.
fn push_member<'a>(row: &mut LogRow<'a>, name: Cow<'a, str>, value: Value<'a>) {
    if let Value::Text(text) = &value {
        match &*name {
            "level" | "severity" | "log.level" | "severity_text" | "lvl"
                if row.severity_text.is_empty() && severity_of(text.trim()) > 0 =>
            {
                row.severity = severity_of(text.trim());
                row.severity_text = text.clone();
                // The name tells how the sender calls it, so the member stays.
            }
            "trace_id" | "trace.id" | "traceId" | "traceID" if row.trace_id.is_none() => {
                row.trace_id = padded(text).map(TraceId);
                if name == "trace_id" && exact::<16>(text).is_some() {
                    return;
                }
            }
            "span_id" | "span.id" | "spanId" | "spanID" if row.span_id.is_none() => {
                row.span_id = padded(text).map(SpanId);
                if name == "span_id" && exact::<8>(text).is_some() {
                    return;
                }
            }
            _ => {}
        }
    }
    row.attributes.push((name, value));
}

/// What became of the lines of a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LineCounts {
    /// Lines that hold something.
    pub lines: u64,
    /// Those that were refused.
    pub refused: u64,
}

/// Takes one document a line; empty lines are passed over.
pub fn take_lines(
    text: &[u8],
    fields: &DocumentFields,
    key_mark: u8,
    sink: &mut LogSink<'_>,
) -> LineCounts {
    let mut documents = Documents::new(fields, key_mark);
    let mut counts = LineCounts::default();
    for line in text.split(|b| *b == b'\n') {
        let line = line.trim_ascii();
        if line.is_empty() {
            continue;
        }
        counts.lines += 1;
        counts.refused += u64::from(documents.take(line, None, sink).is_err());
    }
    counts
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use chronolith_engine::TenantId;
    use chronolith_engine::model::AttributeValue;

    use super::*;
    use crate::process::Processor;
    use crate::rows::{RowLimits, SinkContext, StreamCache};

    #[test]
    fn members_go_where_they_belong() {
        let streams = StreamCache::new(1 << 20, 0);
        let mut sink = LogSink::new(SinkContext {
            tenant: TenantId::default(),
            streams: &streams,
            processor: Arc::new(Processor::new(&Default::default()).unwrap()),
            limits: RowLimits {
                now: TimestampNs(7),
                latest: TimestampNs(2_000_000_000_000_000_000),
                line_bytes_max: 100,
                attributes_max: 10,
            },
        });
        let text = br#"
{"@timestamp":"2023-11-14T22:13:20Z","message":"hello","log.level":"warn","service.name":"shop","n":1,"trace_id":"5b8efff798038103d269b633813fc60c","deep":{"a":[1]}}
{"_time":1700000000,"_msg":"x","traceId":"abc"}
not json

{"time":"soon","msg":"x"}"#;
        let counts = take_lines(text, &DocumentFields::default(), 9, &mut sink);
        assert_eq!((counts.lines, counts.refused), (4, 2));
        let (batch, taken) = sink.finish();
        assert_eq!((taken.rows, taken.rejections.count()), (2, 2));
        let record = batch.record(0);
        assert_eq!(record.time.0, 1_700_000_000_000_000_000);
        assert_eq!(record.body, AttributeValue::String("hello".into()));
        assert_eq!((record.severity, &*record.severity_text), (13, "warn"));
        assert_eq!(record.trace_id.unwrap().0[0], 0x5b);
        let keys: Vec<&str> = record.attributes.iter().map(|(k, _)| &**k).collect();
        assert_eq!(keys, ["log.level", "n", "deep"]);
        assert_eq!(
            batch.streams()[0].labels.to_string(),
            r#"{service_name="shop"}"#
        );
        let record = batch.record(1);
        assert_eq!(record.trace_id.unwrap().0[15], 0xbc);
        assert_eq!(record.attributes[0].0, "traceId");
    }
}
