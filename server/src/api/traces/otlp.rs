//! A trace as OpenTelemetry's messages: spans by resource and scope, as JSON or protobuf.
//!
//! JSON comes in two styles. OpenTelemetry's own has hexadecimal ids and numbers for enums; Tempo's is
//! protobuf's canonical one, with ids in base64 and names for enums, which is what its clients read.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use chronolith_engine::model::{AttributeValue, Attributes, SpanKind, SpanStatus, Stream};
use chronolith_engine::rows::ValueRef;

use super::Writer;
use super::view::{ShownSpan, ShownTrace};
use crate::error::ApiError;
use crate::rows::ids::to_hex;
use crate::wire::json::{push_array, push_string};
use crate::wire::protobuf::{push_bytes, push_double, push_fixed64, push_number};

/// How JSON writes ids and enums.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum JsonStyle {
    /// Hexadecimal ids, enums as numbers.
    Otlp,
    /// Ids in base64, enums by name.
    Canonical,
}

/// Spans of one resource and scope.
struct Group<'a> {
    stream: &'a Stream,
    spans: Vec<ShownSpan<'a>>,
}

/// The spans of a trace by resource, then by scope, in the order in which these first occur.
fn groups<'a>(trace: &ShownTrace<'a>) -> Vec<Vec<Group<'a>>> {
    let mut resources: Vec<Vec<Group<'a>>> = Vec::new();
    // Streams are shared, so that nearly always the address tells.
    let mut places: Vec<(*const Stream, usize, usize)> = Vec::new();
    for span in trace.spans() {
        let address = std::ptr::from_ref(span.stream);
        let known = places.iter().find(|(of, ..)| std::ptr::eq(*of, address));
        let (resource, scope) = match known {
            Some((_, resource, scope)) => (*resource, *scope),
            None => {
                let place = place_of(&mut resources, span.stream);
                places.push((address, place.0, place.1));
                place
            }
        };
        let group = resources.get_mut(resource).and_then(|r| r.get_mut(scope));
        if let Some(group) = group {
            group.spans.push(span);
        }
    }
    resources
}

fn place_of<'a>(resources: &mut Vec<Vec<Group<'a>>>, stream: &'a Stream) -> (usize, usize) {
    let new = || Group {
        stream,
        spans: Vec::new(),
    };
    let same_resource = |groups: &Vec<Group<'a>>| {
        groups
            .first()
            .is_some_and(|g| g.stream.resource == stream.resource)
    };
    let Some(resource) = resources.iter().position(same_resource) else {
        resources.push(vec![new()]);
        return (resources.len() - 1, 0);
    };
    let groups = &mut resources[resource];
    let scope = groups.iter().position(|g| g.stream.scope == stream.scope);
    let scope = scope.unwrap_or_else(|| {
        groups.push(new());
        groups.len() - 1
    });
    (resource, scope)
}

/// Appends the `ResourceSpans` of a trace to a list of them, of which `is_first` tells whether it is empty.
///
/// # Errors
/// The client is gone.
pub(crate) fn push_json(
    writer: &mut Writer,
    trace: &ShownTrace<'_>,
    style: JsonStyle,
    is_first: &mut bool,
) -> Result<(), ApiError> {
    for scopes in groups(trace) {
        if !std::mem::take(is_first) {
            writer.out.push(',');
        }
        writer.out.push_str("{\"resource\":{\"attributes\":");
        if let Some(group) = scopes.first() {
            push_json_attributes(&mut writer.out, owned(&group.stream.resource));
        }
        writer.out.push_str("},\"scopeSpans\":[");
        for (number, group) in scopes.iter().enumerate() {
            if number > 0 {
                writer.out.push(',');
            }
            push_json_scope(&mut writer.out, group.stream);
            writer.out.push_str("\"spans\":[");
            for (number, span) in group.spans.iter().enumerate() {
                if number > 0 {
                    writer.out.push(',');
                }
                push_json_span(&mut writer.out, &trace.id().0, span, style);
                writer.breathe()?;
            }
            writer.out.push_str("]}");
        }
        writer.out.push_str("]}");
    }
    Ok(())
}

fn push_json_scope(out: &mut String, stream: &Stream) {
    let scope = &stream.scope;
    out.push_str("{\"scope\":{");
    let mut comma = "";
    for (key, text) in [("name", &scope.name), ("version", &scope.version)] {
        if !text.is_empty() {
            let _ = write!(out, "{comma}\"{key}\":");
            push_string(out, text);
            comma = ",";
        }
    }
    if !scope.attributes.is_empty() {
        let _ = write!(out, "{comma}\"attributes\":");
        push_json_attributes(out, owned(&scope.attributes));
    }
    out.push_str("},");
}

fn push_json_id(out: &mut String, id: &[u8], style: JsonStyle) {
    out.push('"');
    match style {
        JsonStyle::Otlp => out.push_str(&to_hex(id)),
        JsonStyle::Canonical => BASE64.encode_string(id, out),
    }
    out.push('"');
}

fn push_json_span(out: &mut String, trace_id: &[u8], span: &ShownSpan<'_>, style: JsonStyle) {
    out.push_str("{\"traceId\":");
    push_json_id(out, trace_id, style);
    out.push_str(",\"spanId\":");
    push_json_id(out, &span.tree.id, style);
    if let Some(parent) = span.tree.parent_id {
        out.push_str(",\"parentSpanId\":");
        push_json_id(out, &parent, style);
    }
    if !span.trace_state().is_empty() {
        out.push_str(",\"traceState\":");
        push_string(out, span.trace_state());
    }
    out.push_str(",\"name\":");
    push_string(out, span.name());
    match style {
        JsonStyle::Otlp => {
            let _ = write!(out, ",\"kind\":{}", span.tree.kind as u8);
        }
        JsonStyle::Canonical if span.tree.kind == SpanKind::Unspecified => {}
        JsonStyle::Canonical => {
            let _ = write!(out, ",\"kind\":\"{}\"", kind_name(span.tree.kind));
        }
    }
    let start = span.tree.start_ns;
    let end = start.saturating_add(span.tree.duration_ns);
    let _ = write!(
        out,
        ",\"startTimeUnixNano\":\"{start}\",\"endTimeUnixNano\":\"{end}\",\"attributes\":"
    );
    push_json_attributes(out, span.attributes());
    let mut events = span.events().peekable();
    if events.peek().is_some() {
        out.push_str(",\"events\":");
        push_array(out, events, |out, event| {
            let _ = write!(out, "{{\"timeUnixNano\":\"{}\",\"name\":", event.time_ns);
            push_string(out, event.name);
            out.push_str(",\"attributes\":");
            push_json_attributes(out, event.attributes());
            out.push('}');
        });
    }
    let mut links = span.links().peekable();
    if links.peek().is_some() {
        out.push_str(",\"links\":");
        push_array(out, links, |out, link| {
            out.push_str("{\"traceId\":");
            push_json_id(out, &link.trace_id.0, style);
            out.push_str(",\"spanId\":");
            push_json_id(out, &link.span_id.0, style);
            out.push_str(",\"attributes\":");
            push_json_attributes(out, link.attributes());
            out.push('}');
        });
    }
    out.push_str(",\"status\":{");
    let mut comma = "";
    if !span.status_message().is_empty() {
        out.push_str("\"message\":");
        push_string(out, span.status_message());
        comma = ",";
    }
    match (span.status(), style) {
        (SpanStatus::Unset, _) => {}
        (status, JsonStyle::Otlp) => {
            let _ = write!(out, "{comma}\"code\":{}", status as u8);
        }
        (status, JsonStyle::Canonical) => {
            let _ = write!(out, "{comma}\"code\":\"{}\"", status_name(status));
        }
    }
    out.push_str("}}");
}

/// A kind as the protocol names it.
pub(crate) fn kind_name(kind: SpanKind) -> &'static str {
    match kind {
        SpanKind::Unspecified => "SPAN_KIND_UNSPECIFIED",
        SpanKind::Internal => "SPAN_KIND_INTERNAL",
        SpanKind::Server => "SPAN_KIND_SERVER",
        SpanKind::Client => "SPAN_KIND_CLIENT",
        SpanKind::Producer => "SPAN_KIND_PRODUCER",
        SpanKind::Consumer => "SPAN_KIND_CONSUMER",
    }
}

fn status_name(status: SpanStatus) -> &'static str {
    match status {
        SpanStatus::Unset => "STATUS_CODE_UNSET",
        SpanStatus::Ok => "STATUS_CODE_OK",
        SpanStatus::Error => "STATUS_CODE_ERROR",
    }
}

/// Attributes of a resource or scope as those of spans are.
fn owned(attributes: &Attributes) -> impl Iterator<Item = (&str, Owned<'_>)> {
    attributes
        .iter()
        .map(|(key, value)| (key.as_str(), Owned(value)))
}

struct Owned<'a>(&'a AttributeValue);

/// A value that can be written in both forms.
pub(super) trait AnyValue {
    fn push_json(&self, out: &mut String);
    fn push_protobuf(&self, out: &mut Vec<u8>);
}

/// Appends `[{"key":…,"value":…},…]`.
fn push_json_attributes<'a>(
    out: &mut String,
    attributes: impl Iterator<Item = (&'a str, impl AnyValue)>,
) {
    push_array(out, attributes, |out, (key, value)| {
        out.push_str("{\"key\":");
        push_string(out, key);
        out.push_str(",\"value\":");
        value.push_json(out);
        out.push('}');
    });
}

/// Appends a number as JSON: what it has no number for becomes the text that protobuf has.
fn push_json_double(out: &mut String, number: f64) {
    if number.is_finite() {
        let _ = write!(out, "{number}");
    } else if number.is_nan() {
        out.push_str("\"NaN\"");
    } else {
        out.push_str(if number > 0.0 {
            "\"Infinity\""
        } else {
            "\"-Infinity\""
        });
    }
}

impl AnyValue for ValueRef<'_> {
    fn push_json(&self, out: &mut String) {
        match self {
            Self::Null => out.push_str("{}"),
            Self::Str(text) => {
                out.push_str("{\"stringValue\":");
                push_string(out, text);
                out.push('}');
            }
            Self::Int(number) => {
                let _ = write!(out, "{{\"intValue\":\"{number}\"}}");
            }
            Self::Float(number) => {
                out.push_str("{\"doubleValue\":");
                push_json_double(out, *number);
                out.push('}');
            }
            Self::Bool(truth) => {
                let _ = write!(out, "{{\"boolValue\":{truth}}}");
            }
            Self::Bytes(bytes) => {
                out.push_str("{\"bytesValue\":\"");
                BASE64.encode_string(bytes, out);
                out.push_str("\"}");
            }
            Self::Nested(_) => Owned(&self.to_value()).push_json(out),
        }
    }

    fn push_protobuf(&self, out: &mut Vec<u8>) {
        match self {
            Self::Null => {}
            Self::Str(text) => push_bytes(out, 1, text.as_bytes()),
            Self::Bool(truth) => push_number(out, 2, u64::from(*truth)),
            Self::Int(number) => push_number(out, 3, number.cast_unsigned()),
            Self::Float(number) => push_double(out, 4, *number),
            Self::Bytes(bytes) => push_bytes(out, 7, bytes),
            Self::Nested(_) => Owned(&self.to_value()).push_protobuf(out),
        }
    }
}

impl AnyValue for Owned<'_> {
    fn push_json(&self, out: &mut String) {
        match self.0 {
            AttributeValue::Array(values) => {
                out.push_str("{\"arrayValue\":{\"values\":");
                push_array(out, values, |out, value| Owned(value).push_json(out));
                out.push_str("}}");
            }
            AttributeValue::Map(pairs) => {
                out.push_str("{\"kvlistValue\":{\"values\":");
                push_json_attributes(out, owned(pairs));
                out.push_str("}}");
            }
            plain => plain_ref(plain).push_json(out),
        }
    }

    fn push_protobuf(&self, out: &mut Vec<u8>) {
        match self.0 {
            AttributeValue::Array(values) => {
                let mut list = Vec::new();
                for value in values {
                    let mut one = Vec::new();
                    Owned(value).push_protobuf(&mut one);
                    push_bytes(&mut list, 1, &one);
                }
                push_bytes(out, 5, &list);
            }
            AttributeValue::Map(pairs) => {
                let mut list = Vec::new();
                push_attributes(&mut list, 1, owned(pairs));
                push_bytes(out, 6, &list);
            }
            plain => plain_ref(plain).push_protobuf(out),
        }
    }
}

/// A value that is neither array nor map.
fn plain_ref(value: &AttributeValue) -> ValueRef<'_> {
    match value {
        AttributeValue::String(text) => ValueRef::Str(text),
        AttributeValue::Int(number) => ValueRef::Int(*number),
        AttributeValue::Float(number) => ValueRef::Float(*number),
        AttributeValue::Bool(truth) => ValueRef::Bool(*truth),
        AttributeValue::Bytes(bytes) => ValueRef::Bytes(bytes),
        AttributeValue::Null | AttributeValue::Array(_) | AttributeValue::Map(_) => ValueRef::Null,
    }
}

/// Appends `KeyValue`s as a repeated field.
fn push_attributes<'a>(
    out: &mut Vec<u8>,
    field: u32,
    attributes: impl Iterator<Item = (&'a str, impl AnyValue)>,
) {
    let (mut pair, mut any) = (Vec::new(), Vec::new());
    for (key, value) in attributes {
        pair.clear();
        any.clear();
        push_bytes(&mut pair, 1, key.as_bytes());
        value.push_protobuf(&mut any);
        push_bytes(&mut pair, 2, &any);
        push_bytes(out, field, &pair);
    }
}

/// A trace as the bytes of a message whose field 1 is a list of `ResourceSpans`: OpenTelemetry's
/// `TracesData`, Tempo's `Trace`.
pub(crate) fn to_protobuf(trace: &ShownTrace<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    let mut message = Vec::new();
    for scopes in groups(trace) {
        let mut resource_spans = Vec::new();
        if let Some(group) = scopes.first() {
            message.clear();
            push_attributes(&mut message, 1, owned(&group.stream.resource));
            push_bytes(&mut resource_spans, 1, &message);
        }
        for group in scopes {
            let scope = &group.stream.scope;
            let mut scope_spans = Vec::new();
            message.clear();
            for (field, text) in [(1, &scope.name), (2, &scope.version)] {
                if !text.is_empty() {
                    push_bytes(&mut message, field, text.as_bytes());
                }
            }
            push_attributes(&mut message, 3, owned(&scope.attributes));
            push_bytes(&mut scope_spans, 1, &message);
            for span in group.spans {
                message.clear();
                push_span(&mut message, &trace.id().0, &span);
                push_bytes(&mut scope_spans, 2, &message);
            }
            push_bytes(&mut resource_spans, 2, &scope_spans);
        }
        push_bytes(&mut out, 1, &resource_spans);
    }
    out
}

fn push_span(out: &mut Vec<u8>, trace_id: &[u8], span: &ShownSpan<'_>) {
    push_bytes(out, 1, trace_id);
    push_bytes(out, 2, &span.tree.id);
    if !span.trace_state().is_empty() {
        push_bytes(out, 3, span.trace_state().as_bytes());
    }
    if let Some(parent) = span.tree.parent_id {
        push_bytes(out, 4, &parent);
    }
    push_bytes(out, 5, span.name().as_bytes());
    push_number(out, 6, span.tree.kind as u64);
    let start = span.tree.start_ns;
    let end = start.saturating_add(span.tree.duration_ns);
    push_fixed64(out, 7, start.cast_unsigned());
    push_fixed64(out, 8, end.cast_unsigned());
    push_attributes(out, 9, span.attributes());
    let mut message = Vec::new();
    for event in span.events() {
        message.clear();
        push_fixed64(&mut message, 1, event.time_ns.cast_unsigned());
        push_bytes(&mut message, 2, event.name.as_bytes());
        push_attributes(&mut message, 3, event.attributes());
        push_bytes(out, 11, &message);
    }
    for link in span.links() {
        message.clear();
        push_bytes(&mut message, 1, &link.trace_id.0);
        push_bytes(&mut message, 2, &link.span_id.0);
        push_attributes(&mut message, 4, link.attributes());
        push_bytes(out, 13, &message);
    }
    message.clear();
    if !span.status_message().is_empty() {
        push_bytes(&mut message, 2, span.status_message().as_bytes());
    }
    if span.status() != SpanStatus::Unset {
        push_number(&mut message, 3, span.status() as u64);
    }
    if !message.is_empty() {
        push_bytes(out, 15, &message);
    }
}
