//! Exemplars. They are extras: one that cannot be is left out and hurts nobody.

use chronolith_engine::model::{Exemplar, LabelsBuilder};

use super::message::ExemplarPoint;
use crate::ingest::append::TimeLimits;
use crate::otlp::attributes::AttributeError;

/// Characters of all labels together (OpenMetrics' limit).
const LABEL_CHARS_MAX: usize = 128;
/// Bytes of a trace's id.
const TRACE_ID_BYTES: usize = 16;
/// Bytes of a span's id.
const SPAN_ID_BYTES: usize = 8;

/// The exemplar of a data point of the time `point_ms`, if it can be. Trace and span always have a
/// place; attributes are left out where the labels would become too long.
pub(super) fn exemplar(
    found: &ExemplarPoint<'_>,
    point_ms: i64,
    times: TimeLimits,
) -> Option<Exemplar> {
    let time_ms = match found.time_ns {
        0 => point_ms,
        ns => i64::try_from(ns / 1_000_000).ok()?,
    };
    let ids = [
        ("trace_id", found.trace_id, TRACE_ID_BYTES),
        ("span_id", found.span_id, SPAN_ID_BYTES),
    ];
    let mut builder = LabelsBuilder::new();
    let mut chars = 0;
    for (name, id, length) in ids {
        if id.len() == length && id.iter().any(|byte| *byte != 0) {
            builder.push(name, &hex(id));
            chars += name.len() + 2 * length;
        }
    }
    let with_ids = builder.clone();
    let read = found.attributes.for_each(|key, value| {
        let text = value.text()?;
        chars += key.chars().count() + text.chars().count();
        builder.push(key, &text);
        Ok::<_, AttributeError>(())
    });
    let whole = (read.is_ok() && chars <= LABEL_CHARS_MAX).then(|| builder.finish().ok());
    let labels = match whole.flatten() {
        Some(labels) => labels,
        None => with_ids.finish().ok()?,
    };
    Some(Exemplar {
        labels,
        value: found.value?,
        time: times.check(time_ms).ok()?,
    })
}

/// Lower-case hexadecimal digits.
fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::otlp::attributes::Attributes;
    use crate::wire::protobuf::push_bytes;

    fn attributes(value: &str) -> Vec<u8> {
        let (mut any, mut pair, mut out) = (Vec::new(), Vec::new(), Vec::new());
        push_bytes(&mut any, 1, value.as_bytes());
        push_bytes(&mut pair, 1, b"user");
        push_bytes(&mut pair, 2, &any);
        push_bytes(&mut out, 7, &pair);
        out
    }

    #[test]
    fn ids_always_fit_and_attributes_if_there_is_room() {
        let times = TimeLimits { latest_ms: 10_000 };
        let convert = |value: &str, trace_id: &[u8], time_ns| {
            let message = attributes(value);
            let found = ExemplarPoint {
                time_ns,
                value: Some(1.5),
                trace_id,
                span_id: &[0xab; 8],
                attributes: Attributes::new(&message, 7),
            };
            exemplar(&found, 7, times).map(|e| (e.labels.to_string(), e.time.to_millis()))
        };
        let trace = "0f".repeat(16);
        let expected = format!(r#"{{span_id="abababababababab", trace_id="{trace}", user="me"}}"#);
        assert_eq!(convert("me", &[0x0f; 16], 0), Some((expected, 7)));
        let expected = format!(r#"{{span_id="abababababababab", trace_id="{trace}"}}"#);
        assert_eq!(
            convert(&"x".repeat(62), &[0x0f; 16], 3_000_000),
            Some((expected, 3))
        );
        let expected = r#"{span_id="abababababababab", user="me"}"#.to_owned();
        assert_eq!(convert("me", &[0; 16], 0), Some((expected, 7)), "no trace");
        assert_eq!(convert("me", &[], 20_000_000_000), None, "too far ahead");
    }
}
