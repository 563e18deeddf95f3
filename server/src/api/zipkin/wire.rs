//! A trace as Zipkin's list of spans.
//!
//! Spans that came from Zipkin are the same again; of those that came by OpenTelemetry, resource, scope,
//! status and kinds of values become tags, as OpenTelemetry's exporter for Zipkin has it.

use std::fmt::Write as _;

use chronolith_engine::model::{AttributeValue, SpanKind, SpanStatus};
use chronolith_engine::rows::ValueRef;

use crate::api::jaeger::wire::{nested_text, trace_id};
use crate::api::traces::Writer;
use crate::api::traces::view::{ShownEvent, ShownSpan, ShownTrace};
use crate::error::ApiError;
use crate::wire::json::{push_array, push_string};

/// The attribute that names the other side of a call.
pub(super) const REMOTE_SERVICE: &str = "peer.service";
const LOCAL: [&str; 2] = ["net.host.ip", "net.host.port"];
const REMOTE: [&str; 2] = ["net.peer.ip", "net.peer.port"];
const SHARED: &str = "zipkin.shared";
const DEBUG: &str = "zipkin.debug";

/// Appends the spans of a trace.
///
/// # Errors
/// The client is gone.
pub(super) fn push_trace(writer: &mut Writer, trace: &ShownTrace<'_>) -> Result<(), ApiError> {
    let id = trace_id(trace.id());
    writer.out.push('[');
    for span in trace.spans() {
        if span.place > 0 {
            writer.out.push(',');
        }
        push_span(&mut writer.out, &id, &span);
        writer.breathe()?;
    }
    writer.out.push(']');
    Ok(())
}

fn push_span(out: &mut String, trace_id: &str, span: &ShownSpan<'_>) {
    let _ = write!(out, "{{\"traceId\":\"{trace_id}\",\"id\":\"{}\"", span.id());
    if let Some(parent) = span.tree.parent_id {
        let parent = chronolith_engine::model::SpanId(parent);
        let _ = write!(out, ",\"parentId\":\"{parent}\"");
    }
    let kind = match span.tree.kind {
        SpanKind::Server => "SERVER",
        SpanKind::Client => "CLIENT",
        SpanKind::Producer => "PRODUCER",
        SpanKind::Consumer => "CONSUMER",
        SpanKind::Unspecified | SpanKind::Internal => "",
    };
    if !kind.is_empty() {
        let _ = write!(out, ",\"kind\":\"{kind}\"");
    }
    out.push_str(",\"name\":");
    push_string(out, span.name());
    let _ = write!(
        out,
        ",\"timestamp\":{}",
        span.tree.start_ns.div_euclid(1000)
    );
    if span.tree.duration_ns > 0 {
        // Zipkin has no shorter one than a microsecond.
        let _ = write!(
            out,
            ",\"duration\":{}",
            (span.tree.duration_ns / 1000).max(1)
        );
    }
    push_endpoint(out, "localEndpoint", span.service(), span, LOCAL);
    let remote = attribute(span, REMOTE_SERVICE);
    let remote = match remote {
        Some(ValueRef::Str(name)) => Some(name),
        _ => None,
    };
    push_endpoint(out, "remoteEndpoint", remote, span, REMOTE);
    let mut events = span.events().peekable();
    if events.peek().is_some() {
        out.push_str(",\"annotations\":");
        push_array(out, events, |out, event| {
            let us = event.time_ns.div_euclid(1000);
            let _ = write!(out, "{{\"timestamp\":{us},\"value\":");
            push_string(out, &annotation(&event));
            out.push('}');
        });
    }
    push_tags(out, span);
    for (key, name) in [(SHARED, "shared"), (DEBUG, "debug")] {
        if attribute(span, key) == Some(ValueRef::Bool(true)) {
            let _ = write!(out, ",\"{name}\":true");
        }
    }
    out.push('}');
}

/// The last value of a key.
fn attribute<'a>(span: &ShownSpan<'a>, key: &str) -> Option<ValueRef<'a>> {
    let of_key = span.attributes().filter(|(name, _)| *name == key);
    of_key.last().map(|(_, value)| value)
}

fn push_endpoint(
    out: &mut String,
    name: &str,
    service: Option<&str>,
    span: &ShownSpan<'_>,
    [ip, port]: [&str; 2],
) {
    let ip = match attribute(span, ip) {
        Some(ValueRef::Str(text)) => Some(text),
        _ => None,
    };
    let port = match attribute(span, port) {
        Some(ValueRef::Int(number)) => u16::try_from(number).ok(),
        _ => None,
    };
    if service.is_none() && ip.is_none() && port.is_none() {
        return;
    }
    let _ = write!(out, ",\"{name}\":{{");
    let mut comma = "";
    let texts = [
        ("serviceName", service),
        ("ipv4", ip.filter(|ip| !ip.contains(':'))),
        ("ipv6", ip.filter(|ip| ip.contains(':'))),
    ];
    for (key, text) in texts {
        if let Some(text) = text {
            let _ = write!(out, "{comma}\"{key}\":");
            push_string(out, text);
            comma = ",";
        }
    }
    if let Some(port) = port {
        let _ = write!(out, "{comma}\"port\":{port}");
    }
    out.push('}');
}

/// An event as text: its name, and its attributes as JSON if it has any.
fn annotation(event: &ShownEvent<'_>) -> String {
    let mut pairs = event.attributes().peekable();
    if pairs.peek().is_none() {
        return event.name.to_owned();
    }
    let pairs = pairs.map(|(key, value)| (key.to_owned(), value.to_value()));
    let mut text = String::new();
    push_string(&mut text, event.name);
    text.push_str(": ");
    text.push_str(&nested_text(&AttributeValue::Map(pairs.collect())));
    text
}

fn push_tags(out: &mut String, span: &ShownSpan<'_>) {
    let mut tags = std::collections::BTreeMap::new();
    for (key, value) in &span.stream.resource {
        if key != "service.name" {
            tags.insert(key.as_str(), owned_text(value));
        }
    }
    let scope = &span.stream.scope;
    for (key, text) in [
        ("otel.scope.name", &scope.name),
        ("otel.scope.version", &scope.version),
    ] {
        if !text.is_empty() {
            tags.insert(key, text.clone());
        }
    }
    for (key, value) in span.attributes() {
        let is_elsewhere = [REMOTE_SERVICE, SHARED, DEBUG].contains(&key)
            || LOCAL.contains(&key)
            || REMOTE.contains(&key);
        if !is_elsewhere {
            tags.insert(key, owned_text(&value.to_value()));
        }
    }
    match span.status() {
        SpanStatus::Unset => {}
        SpanStatus::Ok => {
            tags.insert("otel.status_code", "OK".to_owned());
        }
        SpanStatus::Error => {
            let words = match span.status_message() {
                "" => "true",
                words => words,
            };
            tags.entry("error").or_insert_with(|| words.to_owned());
        }
    }
    if tags.is_empty() {
        return;
    }
    out.push_str(",\"tags\":{");
    for (number, (key, text)) in tags.into_iter().enumerate() {
        if number > 0 {
            out.push(',');
        }
        push_string(out, key);
        out.push(':');
        push_string(out, &text);
    }
    out.push('}');
}

fn owned_text(value: &AttributeValue) -> String {
    match value {
        AttributeValue::String(text) => text.clone(),
        AttributeValue::Null => String::new(),
        value => nested_text(value),
    }
}
