//! A trace as Jaeger's user interface reads it.
//!
//! What OpenTelemetry keeps apart, Jaeger has as tags: scope, kind, status, trace state. The mapping is that
//! of the collector's translator. Ids of spans are unique in what is shown: the server half of a call that
//! Zipkin reports under the client's id gets one of its own, and its children point there. Times are shown as
//! sent; what cannot be true is said in warnings. A raw trace has neither new ids nor warnings.

use std::collections::HashSet;
use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use chronolith_engine::model::{AttributeValue, Attributes, SpanStatus, TraceId};
use chronolith_engine::rows::ValueRef;
use chronolith_query::logql::units::go_duration;
use chronolith_query::traceql::display::kind_word;
use chronolith_query::traces::fields::{SERVICE_NAME, service};

use crate::api::traces::Writer;
use crate::api::traces::view::{ShownSpan, ShownTrace};
use crate::error::ApiError;
use crate::rows::ids::to_hex;
use crate::wire::json::{push_array, push_string};

/// The service of spans that name none, as Jaeger calls it.
const NO_SERVICE: &str = "OTLPResourceNoServiceName";
/// Integers beyond this are text: JavaScript would round them.
const SAFE_INTEGER_MAX: i64 = (1 << 53) - 1;

/// The id of a trace as Jaeger writes it: 16 digits if the others are zeros.
pub(crate) fn trace_id(id: TraceId) -> String {
    match id.0.split_first_chunk::<8>() {
        Some(([0, 0, 0, 0, 0, 0, 0, 0], low)) => to_hex(low),
        _ => to_hex(&id.0),
    }
}

/// Appends one trace.
///
/// # Errors
/// The client is gone.
pub(super) fn push_trace(
    writer: &mut Writer,
    trace: &ShownTrace<'_>,
    is_raw: bool,
) -> Result<(), ApiError> {
    let id = trace_id(trace.id());
    let ids = match is_raw {
        true => trace.tree().spans().iter().map(|span| span.id).collect(),
        false => unique_ids(trace),
    };
    let mut processes: Vec<&Attributes> = Vec::new();
    let _ = write!(writer.out, "{{\"traceID\":\"{id}\",\"spans\":[");
    for span in trace.spans() {
        if span.place > 0 {
            writer.out.push(',');
        }
        let resource = &span.stream.resource;
        let known = processes.iter().position(|known| *known == resource);
        let process = known.unwrap_or_else(|| {
            processes.push(resource);
            processes.len() - 1
        });
        let shown = SpanOf {
            trace,
            trace_id: &id,
            ids: &ids,
            is_raw,
        };
        shown.push(&mut writer.out, &span, process + 1);
        writer.breathe()?;
    }
    writer.out.push_str("],\"processes\":{");
    for (number, resource) in processes.into_iter().enumerate() {
        if number > 0 {
            writer.out.push(',');
        }
        push_process(&mut writer.out, number + 1, resource);
    }
    writer.out.push_str("},\"warnings\":null}");
    Ok(())
}

fn push_process(out: &mut String, number: usize, resource: &Attributes) {
    let _ = write!(out, "\"p{number}\":{{\"serviceName\":");
    let stream = chronolith_engine::model::Stream {
        resource: resource
            .iter()
            .filter(|(key, _)| key == SERVICE_NAME)
            .cloned()
            .collect(),
        ..Default::default()
    };
    push_string(out, service(&stream).unwrap_or(NO_SERVICE));
    out.push_str(",\"tags\":");
    let tags = resource.iter().filter(|(key, _)| key != SERVICE_NAME);
    push_array(out, tags, |out, (key, value)| {
        push_owned_tag(out, key, value)
    });
    out.push('}');
}

/// The id under which each span is shown: its own, unless an earlier one has it.
fn unique_ids(trace: &ShownTrace<'_>) -> Vec<[u8; 8]> {
    let spans = trace.tree().spans();
    let sent: HashSet<[u8; 8]> = spans.iter().map(|span| span.id).collect();
    let mut taken = HashSet::with_capacity(spans.len());
    // New ids only ascend, so that however many spans share one, each is found in few steps.
    let mut next = 0_u64;
    spans
        .iter()
        .map(|span| {
            if taken.insert(span.id) {
                return span.id;
            }
            next = next.max(u64::from_be_bytes(span.id) & (u64::MAX >> 1));
            loop {
                next += 1;
                let id = next.to_be_bytes();
                if !sent.contains(&id) {
                    return id;
                }
            }
        })
        .collect()
}

struct SpanOf<'a> {
    trace: &'a ShownTrace<'a>,
    trace_id: &'a str,
    ids: &'a [[u8; 8]],
    is_raw: bool,
}

impl SpanOf<'_> {
    fn shown_id(&self, place: u32) -> [u8; 8] {
        self.ids.get(place as usize).copied().unwrap_or_default()
    }

    fn push(&self, out: &mut String, span: &ShownSpan<'_>, process: usize) {
        let id = to_hex(&self.shown_id(span.place));
        let _ = write!(
            out,
            "{{\"traceID\":\"{}\",\"spanID\":\"{id}\",\"operationName\":",
            self.trace_id
        );
        push_string(out, span.name());
        out.push_str(",\"references\":");
        self.push_references(out, span);
        let (start_us, duration_us) = (
            span.tree.start_ns.div_euclid(1000),
            span.tree.duration_ns.max(0) / 1000,
        );
        let _ = write!(out, ",\"startTime\":{start_us},\"duration\":{duration_us}");
        out.push_str(",\"tags\":");
        push_tags(out, span);
        out.push_str(",\"logs\":");
        push_array(out, span.events(), |out, event| {
            let _ = write!(
                out,
                "{{\"timestamp\":{},\"fields\":[",
                event.time_ns.div_euclid(1000)
            );
            let mut comma = "";
            // Jaeger's name of an event is one of its fields; one that was sent is stronger.
            if !event.name.is_empty() && event.attributes().all(|(key, _)| key != "event") {
                push_text_tag(out, "event", event.name);
                comma = ",";
            }
            for (key, value) in event.attributes() {
                out.push_str(std::mem::replace(&mut comma, ","));
                push_tag(out, key, value);
            }
            out.push_str("]}");
        });
        let _ = write!(out, ",\"processID\":\"p{process}\",\"warnings\":");
        let warnings = match self.is_raw {
            true => Vec::new(),
            false => self.warnings(span),
        };
        match warnings.is_empty() {
            true => out.push_str("null"),
            false => push_array(out, &warnings, |out, text| push_string(out, text)),
        }
        out.push('}');
    }

    fn push_references(&self, out: &mut String, span: &ShownSpan<'_>) {
        // The other half of a call is a parent that was not sent as one.
        let parent = match (self.is_raw, self.trace.tree().parent(span.place)) {
            (false, Some(parent)) => Some(self.shown_id(parent)),
            _ => span.tree.parent_id,
        };
        out.push('[');
        let mut comma = "";
        if let Some(parent) = parent {
            push_reference(out, "CHILD_OF", self.trace_id, parent);
            comma = ",";
        }
        for link in span.links() {
            let kind = link
                .attributes()
                .find(|(key, _)| *key == "opentracing.ref_type");
            let kind = match kind {
                Some((_, ValueRef::Str("child_of"))) => "CHILD_OF",
                _ => "FOLLOWS_FROM",
            };
            out.push_str(std::mem::replace(&mut comma, ","));
            push_reference(out, kind, &trace_id(link.trace_id), link.span_id.0);
        }
        out.push(']');
    }

    /// What cannot be true of a span.
    fn warnings(&self, span: &ShownSpan<'_>) -> Vec<String> {
        let mut warnings = Vec::new();
        let tree = span.tree;
        if tree.duration_ns < 0 {
            warnings.push(format!(
                "span ends {} before it starts; shown with a duration of 0",
                go_duration(tree.duration_ns.saturating_neg())
            ));
        }
        let shown = self.shown_id(span.place);
        if shown != tree.id {
            warnings.push(format!(
                "another span of the trace has the id {}; this one is shown as {}",
                to_hex(&tree.id),
                to_hex(&shown)
            ));
        }
        match (self.trace.tree().parent(span.place), tree.parent_id) {
            (None, Some(parent)) => warnings.push(format!(
                "parent span {} is not in the trace",
                to_hex(&parent)
            )),
            (Some(parent), _) => {
                if let Some(delta) = self.skew(span, parent) {
                    warnings.push(format!(
                        "clock skew adjustment disabled; not applying calculated delta of {}",
                        go_duration(delta)
                    ));
                }
            }
            (None, None) => {}
        }
        warnings
    }

    /// How far a span that began before its parent, on another machine, is off: Jaeger's estimate, which
    /// shares what the parent took longer equally between request and response.
    fn skew(&self, span: &ShownSpan<'_>, parent: u32) -> Option<i64> {
        let parent = self.trace.span(parent)?;
        let early = parent.tree.start_ns.saturating_sub(span.tree.start_ns);
        if early <= 0 || parent.stream.resource == span.stream.resource {
            return None;
        }
        let (own, whole) = (span.tree.duration_ns.max(0), parent.tree.duration_ns.max(0));
        let latency = whole.saturating_sub(own).max(0) / 2;
        Some(early.saturating_add(latency))
    }
}

fn push_reference(out: &mut String, kind: &str, trace_id: &str, span_id: [u8; 8]) {
    let span_id = to_hex(&span_id);
    let _ = write!(
        out,
        "{{\"refType\":\"{kind}\",\"traceID\":\"{trace_id}\",\"spanID\":\"{span_id}\"}}"
    );
}

fn push_tags(out: &mut String, span: &ShownSpan<'_>) {
    out.push('[');
    let mut comma = "";
    let mut next = |out: &mut String| out.push_str(std::mem::replace(&mut comma, ","));
    let scope = &span.stream.scope;
    for (key, text) in [
        ("otel.scope.name", &scope.name),
        ("otel.scope.version", &scope.version),
    ] {
        if !text.is_empty() {
            next(out);
            push_text_tag(out, key, text);
        }
    }
    for (key, value) in &scope.attributes {
        next(out);
        push_owned_tag(out, key, value);
    }
    for (key, value) in span.attributes() {
        next(out);
        push_tag(out, key, value);
    }
    let texts = [
        (
            "span.kind",
            match span.tree.kind as u8 {
                0 => "",
                _ => kind_word(span.tree.kind),
            },
        ),
        (
            "otel.status_code",
            match span.status() {
                SpanStatus::Unset => "",
                SpanStatus::Ok => "OK",
                SpanStatus::Error => "ERROR",
            },
        ),
        ("otel.status_description", span.status_message()),
        ("w3c.tracestate", span.trace_state()),
    ];
    if span.status() == SpanStatus::Error {
        next(out);
        push_tag(out, "error", ValueRef::Bool(true));
    }
    for (key, text) in texts {
        if !text.is_empty() {
            next(out);
            push_text_tag(out, key, text);
        }
    }
    out.push(']');
}

fn push_text_tag(out: &mut String, key: &str, text: &str) {
    push_tag(out, key, ValueRef::Str(text));
}

fn push_tag(out: &mut String, key: &str, value: ValueRef<'_>) {
    out.push_str("{\"key\":");
    push_string(out, key);
    match value {
        ValueRef::Str(text) => {
            out.push_str(",\"type\":\"string\",\"value\":");
            push_string(out, text);
        }
        ValueRef::Int(number) if number.unsigned_abs() > SAFE_INTEGER_MAX as u64 => {
            let _ = write!(out, ",\"type\":\"int64\",\"value\":\"{number}\"");
        }
        ValueRef::Int(number) => {
            let _ = write!(out, ",\"type\":\"int64\",\"value\":{number}");
        }
        ValueRef::Float(number) if number.is_finite() => {
            let _ = write!(out, ",\"type\":\"float64\",\"value\":{number}");
        }
        ValueRef::Float(number) => {
            let _ = write!(out, ",\"type\":\"float64\",\"value\":\"{number}\"");
        }
        ValueRef::Bool(truth) => {
            let _ = write!(out, ",\"type\":\"bool\",\"value\":{truth}");
        }
        ValueRef::Bytes(bytes) => {
            out.push_str(",\"type\":\"binary\",\"value\":\"");
            BASE64.encode_string(bytes, out);
            out.push('"');
        }
        ValueRef::Null => out.push_str(",\"type\":\"string\",\"value\":\"\""),
        ValueRef::Nested(_) => {
            out.push_str(",\"type\":\"string\",\"value\":");
            push_string(out, &nested_text(&value.to_value()));
        }
    }
    out.push('}');
}

fn push_owned_tag(out: &mut String, key: &str, value: &AttributeValue) {
    let value = match value {
        AttributeValue::Null => ValueRef::Null,
        AttributeValue::String(text) => ValueRef::Str(text),
        AttributeValue::Int(number) => ValueRef::Int(*number),
        AttributeValue::Float(number) => ValueRef::Float(*number),
        AttributeValue::Bool(truth) => ValueRef::Bool(*truth),
        AttributeValue::Bytes(bytes) => ValueRef::Bytes(bytes),
        AttributeValue::Array(_) | AttributeValue::Map(_) => {
            return push_text_tag(out, key, &nested_text(value));
        }
    };
    push_tag(out, key, value);
}

/// Arrays and maps as JSON text.
pub(crate) fn nested_text(value: &AttributeValue) -> String {
    let mut out = String::new();
    push_plain_json(&mut out, value);
    out
}

fn push_plain_json(out: &mut String, value: &AttributeValue) {
    match value {
        AttributeValue::Null => out.push_str("null"),
        AttributeValue::String(text) => push_string(out, text),
        AttributeValue::Int(number) => {
            let _ = write!(out, "{number}");
        }
        AttributeValue::Float(number) if number.is_finite() => {
            let _ = write!(out, "{number}");
        }
        AttributeValue::Float(number) => push_string(out, &number.to_string()),
        AttributeValue::Bool(truth) => {
            let _ = write!(out, "{truth}");
        }
        AttributeValue::Bytes(bytes) => push_string(out, &BASE64.encode(bytes)),
        AttributeValue::Array(values) => push_array(out, values, push_plain_json),
        AttributeValue::Map(pairs) => {
            out.push('{');
            for (number, (key, value)) in pairs.iter().enumerate() {
                if number > 0 {
                    out.push(',');
                }
                push_string(out, key);
                out.push(':');
                push_plain_json(out, value);
            }
            out.push('}');
        }
    }
}
