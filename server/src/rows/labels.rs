//! Labels of streams from the attributes of resources, as Loki makes them.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chronolith_engine::model::{AttributeValue, Attributes, Labels, LabelsBuilder};

use crate::wire::{json, number};

/// The label that names the service.
pub const SERVICE_NAME: &str = "service_name";
/// Its value when nothing tells.
pub const UNKNOWN_SERVICE: &str = "unknown_service";

/// Labels that name the service when [`SERVICE_NAME`] is missing, the first that is there.
pub const SERVICE_LABELS: [&str; 14] = [
    "service",
    "app",
    "application",
    "app_name",
    "name",
    "app_kubernetes_io_name",
    "container",
    "container_name",
    "k8s_container_name",
    "component",
    "workload",
    "job",
    "k8s_job_name",
    "service_namespace",
];
/// Labels of a stream; more are left out.
const LABELS_MAX: usize = 64;
/// Bytes of a label's value; more are cut off.
const LABEL_VALUE_BYTES_MAX: usize = 2048;

/// A name with everything that labels do not allow as `_`.
#[must_use]
pub fn label_name(name: &str) -> String {
    let mut out = String::with_capacity(name.len() + 1);
    if name.starts_with(|c: char| c.is_ascii_digit()) {
        out.push('_');
    }
    let allowed = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    out.extend(name.chars().map(|c| if allowed(c) { c } else { '_' }));
    out
}

/// Finds the service among the labels: [`SERVICE_NAME`], or what else names it.
#[must_use]
pub fn service_name(labels: &LabelsBuilder) -> &str {
    let get = |name: &&str| labels.get(name).filter(|value| !value.is_empty());
    get(&SERVICE_NAME)
        .or_else(|| SERVICE_LABELS.iter().find_map(get))
        .unwrap_or(UNKNOWN_SERVICE)
}

/// Adds [`SERVICE_NAME`] where it is missing and ends the set.
#[must_use]
pub fn finish_labels(mut labels: LabelsBuilder) -> Labels {
    if labels.get(SERVICE_NAME).is_none_or(str::is_empty) {
        let service = service_name(&labels).to_owned();
        labels.set(SERVICE_NAME, &service);
    }
    labels.finish().unwrap_or_default()
}

/// The labels of a resource: those of its attributes that are in `wanted`, and the service.
#[must_use]
pub fn resource_labels(resource: &Attributes, wanted: &[String]) -> Labels {
    let mut labels = LabelsBuilder::new();
    for key in wanted {
        let found = resource.iter().rev().find(|(k, _)| k == key);
        let Some((_, value)) = found else { continue };
        if labels.iter().count() >= LABELS_MAX {
            break;
        }
        let mut text = String::new();
        push_text(&mut text, value);
        text.truncate(text.floor_char_boundary(LABEL_VALUE_BYTES_MAX));
        labels.set(&label_name(key), &text);
    }
    finish_labels(labels)
}

/// Appends a value as text: plain values in their shortest form, arrays and maps as JSON, bytes in
/// base64.
pub fn push_text(out: &mut String, value: &AttributeValue) {
    match value {
        AttributeValue::Null => {}
        AttributeValue::String(text) => out.push_str(text),
        AttributeValue::Bytes(bytes) => STANDARD.encode_string(bytes, out),
        other => push_json(out, other),
    }
}

fn push_json(out: &mut String, value: &AttributeValue) {
    match value {
        AttributeValue::Null => out.push_str("null"),
        AttributeValue::String(text) => json::push_string(out, text),
        AttributeValue::Int(int) => {
            let _ = write!(out, "{int}");
        }
        AttributeValue::Float(double) => number::push_float(out, *double),
        AttributeValue::Bool(truth) => {
            let _ = write!(out, "{truth}");
        }
        AttributeValue::Bytes(bytes) => {
            out.push('"');
            STANDARD.encode_string(bytes, out);
            out.push('"');
        }
        AttributeValue::Array(values) => {
            out.push('[');
            for (index, value) in values.iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                push_json(out, value);
            }
            out.push(']');
        }
        AttributeValue::Map(pairs) => {
            out.push('{');
            for (index, (key, value)) in pairs.iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                json::push_string(out, key);
                out.push(':');
                push_json(out, value);
            }
            out.push('}');
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(key: &str, value: &str) -> (String, AttributeValue) {
        (key.to_owned(), AttributeValue::String(value.to_owned()))
    }

    #[test]
    fn listed_attributes_become_labels() {
        let wanted = ["service.name", "k8s.pod.name", "n"].map(str::to_owned);
        let resource = vec![
            text("service.name", "shop"),
            text("host.name", "h"),
            text("k8s.pod.name", "p-1"),
            ("n".to_owned(), AttributeValue::Int(3)),
        ];
        let labels = resource_labels(&resource, &wanted);
        assert_eq!(
            labels.to_string(),
            r#"{k8s_pod_name="p-1", n="3", service_name="shop"}"#
        );
        let none = resource_labels(&Vec::new(), &wanted);
        assert_eq!(none.get(SERVICE_NAME), Some(UNKNOWN_SERVICE));
    }

    #[test]
    fn the_service_is_worked_out() {
        let mut labels = LabelsBuilder::new();
        labels.push("job", "j");
        assert_eq!(service_name(&labels), "j");
        labels.push("app", "a");
        assert_eq!(service_name(&labels), "a");
        assert_eq!(finish_labels(labels).get(SERVICE_NAME), Some("a"));
        assert_eq!(label_name("1.a-b"), "_1_a_b");
    }
}
