//! Zipkin v2: `POST /zipkin/api/v2/spans` and `/api/v2/spans`, a JSON list or a protobuf `ListOfSpans`.
//!
//! A span is read at a time, so that a long list takes no memory of its own. Halves of one span that
//! client and server report under one id are two rows: kind and service are part of a span's identity.
//! `shared`, `debug` and the endpoints are kept as attributes, so that a reader can make the same span
//! again.

use std::borrow::Cow;
use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};

use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use chronolith_engine::model::{
    AttributeValue, Scope, SpanId, SpanKind, SpanStatus, Stream, TraceId,
};
use http::{HeaderMap, StatusCode, header};
use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, SeqAccess, Visitor};

use super::protobuf::{Field, Reader, Value as WireValue, WireError};
use crate::error::{ApiError, ErrorType};
use crate::otlp::any_value::text;
use crate::otlp::decompress::Compression;
use crate::otlp::envelope::read_decompressed;
use crate::request::Caller;
use crate::rows::ids::padded;
use crate::rows::labels::{SERVICE_NAME, UNKNOWN_SERVICE};
use crate::rows::take::{self, Source};
use crate::rows::{EventRow, Reason, SpanRow, SpanSink, TooManyStreams, Value};
use crate::state::AppState;
use crate::telemetry::rows::Protocol;

/// Bytes of a request, after decompression: a span of empty annotations takes sixteen times its size.
const BODY_BYTES_MAX: usize = 8 << 20;
/// Stands behind the tenant in keys of streams: no other protocol's keys have it there.
const KEY_MARK: u8 = 4;
/// Nanoseconds of a microsecond.
const US: i64 = 1_000;

/// Takes spans: 202 with an empty body.
pub async fn spans(
    State(state): State<AppState>,
    caller: Result<Caller, ApiError>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    match store(&state, caller, &headers, body).await {
        Ok(()) => StatusCode::ACCEPTED.into_response(),
        Err(error) => {
            if error.kind == ErrorType::Internal {
                tracing::error!(%error, "cannot store Zipkin spans");
            }
            error.into_text()
        }
    }
}

async fn store(
    state: &AppState,
    caller: Result<Caller, ApiError>,
    headers: &HeaderMap,
    body: Body,
) -> Result<(), ApiError> {
    let caller = caller?;
    let text_of = |name| headers.get(name).map_or("", |v| v.to_str().unwrap_or("?"));
    let encoding = text_of(header::CONTENT_ENCODING);
    let compression = Compression::from_header(encoding).ok_or_else(|| {
        let words = format!("unsupported compression {encoding:?}");
        ApiError::new(ErrorType::UnsupportedMedia, words)
    })?;
    let media = text_of(header::CONTENT_TYPE)
        .split(';')
        .next()
        .unwrap_or("");
    let is_protobuf = media.trim().eq_ignore_ascii_case("application/x-protobuf");
    let settings = state.settings();
    let bytes_max = settings.write_body_max.as_usize().min(BODY_BYTES_MAX);
    let timeout = settings.body_timeout;
    let body = read_decompressed(state, headers, body, compression, bytes_max, timeout).await?;
    let source = Source {
        protocol: Protocol::Zipkin,
        received_bytes: body.received_bytes,
        decoded_bytes: body.message().len(),
    };
    let taken = take::spans(
        state,
        caller,
        source,
        body,
        move |body, sink| match is_protobuf {
            true => decode_protobuf(body.message(), sink)
                .map_err(|e| ApiError::bad_data(format!("protobuf: {e}"))),
            false => decode_json(body.message(), sink)
                .map_err(|e| ApiError::bad_data(format!("JSON: {e}"))),
        },
    )
    .await?;
    if taken.rejections.count() == 0 {
        return Ok(());
    }
    let kind = match taken.refused_for(Reason::Streams) {
        0 => ErrorType::BadData,
        _ => ErrorType::TooMany,
    };
    Err(ApiError::new(kind, taken.rejections.message()))
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Endpoint<'a> {
    #[serde(borrow)]
    service_name: Option<Cow<'a, str>>,
    #[serde(borrow)]
    ipv4: Option<Cow<'a, str>>,
    #[serde(borrow)]
    ipv6: Option<Cow<'a, str>>,
    port: Option<u16>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Annotation<'a> {
    timestamp: i64,
    #[serde(borrow)]
    value: Cow<'a, str>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ZipkinSpan<'a> {
    #[serde(borrow)]
    trace_id: Cow<'a, str>,
    #[serde(borrow)]
    id: Cow<'a, str>,
    #[serde(borrow)]
    parent_id: Option<Cow<'a, str>>,
    #[serde(borrow)]
    name: Option<Cow<'a, str>>,
    #[serde(borrow)]
    kind: Option<Cow<'a, str>>,
    timestamp: Option<i64>,
    duration: Option<i64>,
    #[serde(borrow)]
    local_endpoint: Option<Endpoint<'a>>,
    #[serde(borrow)]
    remote_endpoint: Option<Endpoint<'a>>,
    #[serde(borrow)]
    annotations: Vec<Annotation<'a>>,
    #[serde(borrow)]
    tags: Option<Value<'a>>,
    shared: Option<bool>,
    debug: Option<bool>,
}

/// Takes the spans of a JSON list.
///
/// # Errors
/// It is none; nothing may be stored then.
pub fn decode_json(body: &[u8], sink: &mut SpanSink<'_>) -> Result<(), serde_json::Error> {
    struct List<'s, 'c>(&'s mut SpanSink<'c>);

    impl<'de> DeserializeSeed<'de> for List<'_, '_> {
        type Value = ();

        fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
            deserializer.deserialize_seq(self)
        }
    }

    impl<'de> Visitor<'de> for List<'_, '_> {
        type Value = ();

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a list of spans")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
            while let Some(span) = items.next_element::<ZipkinSpan<'de>>()? {
                push(span, self.0);
            }
            Ok(())
        }
    }

    let mut deserializer = serde_json::Deserializer::from_slice(body);
    List(sink).deserialize(&mut deserializer)?;
    deserializer.end()
}

/// Takes the spans of a protobuf `ListOfSpans`.
///
/// # Errors
/// Malformed bytes; nothing may be stored then.
pub fn decode_protobuf(body: &[u8], sink: &mut SpanSink<'_>) -> Result<(), WireError> {
    let mut list = Reader::new(body);
    while let Some(field) = list.next_field()? {
        if field.number == 1 {
            let mut repaired = 0;
            let span = read_span(field.bytes()?, sink.limits().attributes_max, &mut repaired)?;
            sink.taken.repaired_texts += repaired;
            push(span, sink);
        }
    }
    Ok(())
}

fn read_span<'a>(
    message: &'a [u8],
    attributes_max: usize,
    repaired: &mut u64,
) -> Result<ZipkinSpan<'a>, WireError> {
    let mut span = ZipkinSpan::default();
    let mut tags = Vec::new();
    let hex = |field: Field<'_>| -> Result<Cow<'a, str>, WireError> {
        Ok(Cow::Owned(crate::rows::ids::to_hex(field.bytes()?)))
    };
    let mut reader = Reader::new(message);
    while let Some(field) = reader.next_field()? {
        match field.number {
            1 => span.trace_id = hex(field)?,
            2 => span.parent_id = Some(hex(field)?),
            3 => span.id = hex(field)?,
            4 => {
                let kinds = ["", "CLIENT", "SERVER", "PRODUCER", "CONSUMER"];
                let number = usize::try_from(field.varint()?).unwrap_or(0);
                span.kind = kinds.get(number).map(|kind| Cow::Borrowed(*kind));
            }
            5 => span.name = Some(text(field, repaired)?),
            6 => span.timestamp = Some(fixed64(field)?),
            7 => span.duration = Some(field.int64()?),
            8 => span.local_endpoint = Some(endpoint(field.bytes()?, repaired)?),
            9 => span.remote_endpoint = Some(endpoint(field.bytes()?, repaired)?),
            10 if span.annotations.len() <= attributes_max => {
                let mut annotation = Annotation::default();
                let mut inner = Reader::new(field.bytes()?);
                while let Some(field) = inner.next_field()? {
                    match field.number {
                        1 => annotation.timestamp = fixed64(field)?,
                        2 => annotation.value = text(field, repaired)?,
                        _ => {}
                    }
                }
                span.annotations.push(annotation);
            }
            11 if tags.len() <= attributes_max => {
                let (mut key, mut value) = (String::new(), String::new());
                let mut inner = Reader::new(field.bytes()?);
                while let Some(field) = inner.next_field()? {
                    match field.number {
                        1 => key = text(field, repaired)?.into_owned(),
                        2 => value = text(field, repaired)?.into_owned(),
                        _ => {}
                    }
                }
                tags.push((key, AttributeValue::String(value)));
            }
            12 => span.debug = Some(field.varint()? != 0),
            13 => span.shared = Some(field.varint()? != 0),
            _ => {}
        }
    }
    span.tags = Some(Value::Nested(AttributeValue::Map(tags)));
    Ok(span)
}

fn fixed64(field: Field<'_>) -> Result<i64, WireError> {
    match field.value {
        WireValue::Fixed64(bits) => Ok(i64::try_from(bits).unwrap_or(i64::MAX)),
        _ => Err(WireError::FieldType(field.number)),
    }
}

fn endpoint<'a>(message: &'a [u8], repaired: &mut u64) -> Result<Endpoint<'a>, WireError> {
    let mut endpoint = Endpoint::default();
    let mut reader = Reader::new(message);
    while let Some(field) = reader.next_field()? {
        match field.number {
            1 => endpoint.service_name = Some(text(field, repaired)?),
            2 => {
                let bytes = <[u8; 4]>::try_from(field.bytes()?).ok();
                endpoint.ipv4 = bytes.map(|b| Cow::Owned(Ipv4Addr::from(b).to_string()));
            }
            3 => {
                let bytes = <[u8; 16]>::try_from(field.bytes()?).ok();
                endpoint.ipv6 = bytes.map(|b| Cow::Owned(Ipv6Addr::from(b).to_string()));
            }
            4 => endpoint.port = u16::try_from(field.varint()?).ok(),
            _ => {}
        }
    }
    Ok(endpoint)
}

/// Gives a span to the sink.
fn push(span: ZipkinSpan<'_>, sink: &mut SpanSink<'_>) {
    let local = span.local_endpoint.unwrap_or_default();
    let service = local
        .service_name
        .as_deref()
        .filter(|name| !name.is_empty());
    let service = service.unwrap_or(UNKNOWN_SERVICE);
    let mut key = Vec::with_capacity(64);
    key.extend_from_slice(sink.tenant().as_str().as_bytes());
    key.push(KEY_MARK);
    key.extend_from_slice(service.as_bytes());
    let number = match sink.stream(&key, || Ok::<_, TooManyStreams>(stream(service))) {
        Ok(number) => number,
        Err(error) => return sink.taken.refuse(1, Reason::Streams, error.to_string()),
    };
    let parent = span.parent_id.filter(|id| !id.is_empty());
    let parent_span_id = parent.as_deref().and_then(padded).map(SpanId);
    if parent.is_some() && parent_span_id.is_none() && !parent.is_some_and(|id| is_zero(&id)) {
        let words = format!("span {:?}: the parent's id is none", span.id);
        return sink.taken.refuse(1, Reason::Ids, words);
    }
    let start = span.timestamp.unwrap_or(0).saturating_mul(US);
    let mut row = SpanRow {
        trace_id: padded(&span.trace_id).map(TraceId),
        span_id: padded(&span.id).map(SpanId),
        parent_span_id,
        name: span.name.unwrap_or_default(),
        kind: match span.kind.as_deref() {
            Some("CLIENT") => SpanKind::Client,
            Some("SERVER") => SpanKind::Server,
            Some("PRODUCER") => SpanKind::Producer,
            Some("CONSUMER") => SpanKind::Consumer,
            _ => SpanKind::Unspecified,
        },
        start,
        end: start.saturating_add(span.duration.unwrap_or(0).saturating_mul(US)),
        ..SpanRow::default()
    };
    // Without a time of its own (a half that was reported late) it is where its first annotation is.
    if row.start == 0 {
        let first = span.annotations.iter().map(|a| a.timestamp).min();
        let first = first.filter(|us| *us > 0).map(|us| us.saturating_mul(US));
        row.start = first.unwrap_or(sink.limits().now.0);
        row.end = row.start;
    }
    if let Some(Value::Nested(AttributeValue::Map(tags))) = span.tags {
        for (key, value) in tags {
            if key == "error" {
                row.status = SpanStatus::Error;
                if let AttributeValue::String(words) = &value {
                    row.status_message = Cow::Owned(words.clone());
                }
            }
            let value = match value {
                AttributeValue::String(text) => Value::Text(Cow::Owned(text)),
                other => Value::Nested(other),
            };
            row.attributes.push((Cow::Owned(key), value));
        }
    }
    let remote = span.remote_endpoint.unwrap_or_default();
    let texts = [
        ("net.host.ip", local.ipv4.or(local.ipv6)),
        ("peer.service", remote.service_name),
        ("net.peer.ip", remote.ipv4.or(remote.ipv6)),
    ];
    for (name, value) in texts {
        if let Some(value) = value.filter(|text| !text.is_empty()) {
            row.attributes
                .push((Cow::Borrowed(name), Value::Text(value)));
        }
    }
    for (name, port) in [
        ("net.host.port", local.port),
        ("net.peer.port", remote.port),
    ] {
        if let Some(port) = port.filter(|port| *port > 0) {
            row.attributes
                .push((Cow::Borrowed(name), Value::Int(i64::from(port))));
        }
    }
    for (name, truth) in [("zipkin.shared", span.shared), ("zipkin.debug", span.debug)] {
        if truth == Some(true) {
            row.attributes
                .push((Cow::Borrowed(name), Value::Bool(true)));
        }
    }
    for annotation in span.annotations {
        row.events.push(EventRow {
            time: annotation.timestamp.saturating_mul(US),
            name: annotation.value,
            attributes: 0..0,
        });
    }
    sink.push(number, &mut row);
}

fn is_zero(id: &str) -> bool {
    id.bytes().all(|b| b == b'0')
}

fn stream(service: &str) -> Stream {
    let labels = chronolith_engine::model::Labels::from_pairs([(SERVICE_NAME, service)]);
    Stream {
        labels: labels.unwrap_or_default(),
        resource: vec![(
            "service.name".to_owned(),
            AttributeValue::String(service.to_owned()),
        )],
        scope: Scope::default(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use chronolith_engine::TenantId;
    use chronolith_engine::model::TimestampNs;
    use chronolith_engine::rows::SpanBatch;

    use super::*;
    use crate::process::Processor;
    use crate::rows::{RowLimits, SinkContext, StreamCache, Taken};
    use crate::wire::protobuf::{push_bytes, push_number};

    fn with_sink(fill: impl FnOnce(&mut SpanSink<'_>)) -> (SpanBatch, Taken) {
        let streams = StreamCache::new(1 << 20, 0);
        let mut sink = SpanSink::new(SinkContext {
            tenant: TenantId::default(),
            streams: &streams,
            processor: Arc::new(Processor::default()),
            limits: RowLimits {
                now: TimestampNs(7),
                latest: TimestampNs(2_000_000_000_000_000_000),
                line_bytes_max: 100,
                attributes_max: 10,
            },
        });
        fill(&mut sink);
        sink.finish()
    }

    #[test]
    fn json_spans_keep_everything() {
        let text = br#"[{"traceId":"5b8efff798038103","id":"eee19b7ec3c1b174","parentId":"1","name":"get","kind":"SERVER","shared":true,
            "timestamp":1700000000000001,"duration":5,"localEndpoint":{"serviceName":"shop","ipv4":"10.0.0.1","port":80},
            "remoteEndpoint":{"serviceName":"web"},"annotations":[{"timestamp":1700000000000003,"value":"ws"}],"tags":{"error":"no","a":"b"}},
            {"traceId":"xyz","id":"1"},{"traceId":"1","id":"2"}]"#;
        let (batch, taken) = with_sink(|sink| decode_json(text, sink).unwrap());
        assert_eq!((taken.rows, taken.refused_for(Reason::Ids)), (2, 1));
        let span = batch.span(0);
        assert_eq!(
            span.trace_id.to_string(),
            "00000000000000005b8efff798038103"
        );
        assert_eq!(span.parent_span_id.unwrap().to_string(), "0000000000000001");
        assert_eq!(
            (span.kind, span.status),
            (SpanKind::Server, SpanStatus::Error)
        );
        assert_eq!(
            (span.time.0, span.duration_ns),
            (1_700_000_000_000_001_000, 5_000)
        );
        assert_eq!(
            (&*span.events[0].name, span.events[0].time.0),
            ("ws", 1_700_000_000_000_003_000)
        );
        let keys: Vec<&str> = span.attributes.iter().map(|(k, _)| &**k).collect();
        let expected = [
            "error",
            "a",
            "net.host.ip",
            "peer.service",
            "net.host.port",
            "zipkin.shared",
        ];
        assert_eq!(keys, expected);
        assert_eq!(
            batch.streams()[0].labels.to_string(),
            r#"{service_name="shop"}"#
        );
        assert_eq!(batch.span(1).time.0, 7, "no time: that of arrival");
        let mut error = None;
        with_sink(|sink| error = decode_json(b"{}", sink).err());
        assert!(error.unwrap().to_string().contains("list of spans"));
    }

    #[test]
    fn protobuf_spans_are_the_same() {
        let (mut endpoint, mut tag, mut span, mut list) =
            (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        push_bytes(&mut endpoint, 1, b"shop");
        push_bytes(&mut endpoint, 2, &[10, 0, 0, 1]);
        push_bytes(&mut tag, 1, b"k");
        push_bytes(&mut tag, 2, b"v");
        push_bytes(&mut span, 1, &[1; 16]);
        push_bytes(&mut span, 3, &[2; 8]);
        push_number(&mut span, 4, 1);
        push_bytes(&mut span, 5, b"get");
        crate::wire::protobuf::push_double(&mut span, 6, f64::from_bits(1_700_000_000_000_000));
        push_number(&mut span, 7, 9);
        push_bytes(&mut span, 8, &endpoint);
        push_bytes(&mut span, 11, &tag);
        push_number(&mut span, 13, 1);
        push_bytes(&mut list, 1, &span);
        let (batch, taken) = with_sink(|sink| decode_protobuf(&list, sink).unwrap());
        assert_eq!(taken.rows, 1, "{}", taken.rejections.message());
        let got = batch.span(0);
        assert_eq!(
            (&*got.name, got.kind, got.duration_ns),
            ("get", SpanKind::Client, 9_000)
        );
        assert_eq!(got.attributes.len(), 3);
        for cut in 1..list.len() {
            with_sink(|sink| assert!(decode_protobuf(&list[..cut], sink).is_err(), "{cut}"));
        }
    }
}
