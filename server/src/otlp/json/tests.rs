//! What OTLP's JSON becomes.

use serde_json::json;

use super::*;

fn rewritten(text: &str, message: &'static Message) -> Result<Vec<u8>, String> {
    let mut out = Vec::new();
    to_protobuf(text.as_bytes(), message, &mut out, 1 << 20)
        .map(|()| out)
        .map_err(|e| e.to_string())
}

/// The fields of a message, numbers and texts only.
fn fields(bytes: &[u8]) -> Vec<(u32, String)> {
    let mut reader = Reader::new(bytes);
    let mut out = Vec::new();
    while let Some(field) = reader.next_field().unwrap() {
        let text = match field.value {
            WireValue::Varint(n) => n.to_string(),
            WireValue::Fixed64(bits) => format!("{bits:#x}"),
            WireValue::Fixed32(bits) => format!("{bits:#x}"),
            WireValue::Bytes(bytes) => match std::str::from_utf8(bytes) {
                Ok(text) if text.is_ascii() => text.to_owned(),
                _ => format!("{bytes:?}"),
            },
        };
        out.push((field.number, text));
    }
    out
}

fn point(text: &str) -> Vec<(u32, String)> {
    fields(&rewritten(text, schema::number_data_point()).unwrap())
}

#[test]
fn numbers_may_be_text_and_keys_may_be_snake() {
    let expected = vec![(3, "0x5".to_owned()), (6, "0xfffffffffffffffe".to_owned())];
    for text in [
        r#"{"timeUnixNano":"5","asInt":"-2"}"#,
        r#"{"timeUnixNano":5,"asInt":-2}"#,
        r#"{"time_unix_nano":5.0,"as_int":"-2e0"}"#,
        r#"{"unknown":{"deep":[1,{}]},"timeUnixNano":5,"flags":null,"asInt":-2}"#,
    ] {
        assert_eq!(point(text), expected, "{text}");
    }
}

#[test]
fn doubles_may_be_words() {
    for (text, expected) in [
        (r#""NaN""#, f64::NAN),
        (r#""-Infinity""#, f64::NEG_INFINITY),
        (r#""1.5""#, 1.5),
        ("2", 2.0),
        ("-1e-3", -1e-3),
    ] {
        let bits = format!("{:#x}", expected.to_bits());
        assert_eq!(
            point(&format!("{{\"asDouble\":{text}}}")),
            [(4, bits)],
            "{text}"
        );
    }
}

#[test]
fn ids_are_hexadecimal_and_bytes_are_base64() {
    let text = r#"{"traceId":"5B8EFFF798038103d269b633813fc60c","spanId":""}"#;
    let bytes = rewritten(text, schema::exemplar()).unwrap();
    let mut reader = Reader::new(&bytes);
    let id = reader.next_field().unwrap().unwrap().bytes().unwrap();
    assert_eq!((id.len(), id[0], id[15]), (16, 0x5b, 0x0c));
    for text in [r#"{"bytesValue":"AP8="}"#, r#"{"bytesValue":"AP8"}"#] {
        let bytes = rewritten(text, schema::any_value()).unwrap();
        assert_eq!(fields(&bytes), [(7, "[0, 255]".to_owned())]);
    }
}

#[test]
fn enums_go_by_number_or_name() {
    for value in ["2", r#""AGGREGATION_TEMPORALITY_CUMULATIVE""#, r#""2""#] {
        let text = format!("{{\"aggregationTemporality\":{value},\"isMonotonic\":true}}");
        let bytes = rewritten(&text, schema::sum()).unwrap();
        let expected = [(2, "2".to_owned()), (3, "1".to_owned())];
        assert_eq!(fields(&bytes), expected);
    }
}

#[test]
fn messages_and_arrays_nest() {
    let text =
        r#"{"attributes":[{"key":"a","value":{"arrayValue":{"values":[{"intValue":"1"},{}]}}}]}"#;
    let bytes = rewritten(text, schema::resource()).unwrap();
    let attributes = crate::otlp::attributes::Attributes::new(&bytes, 1);
    let mut seen = Vec::new();
    attributes
        .for_each(|key, value| {
            seen.push((key.to_owned(), value.text()?));
            Ok::<_, crate::otlp::attributes::AttributeError>(())
        })
        .unwrap();
    assert_eq!(seen, [("a".to_owned(), "[1,null]".to_owned())]);
}

#[test]
fn errors_say_where_and_what() {
    for (text, part) in [
        (
            r#"{"asDouble":"x"}"#,
            "expected a number (asDouble) at line 1",
        ),
        (r#"{"asDouble":true}"#, "expected a number"),
        (r#"{"asInt":1.5}"#, "1.5 is not a whole number"),
        (r#"{"timeUnixNano":-1}"#, "-1 is out of range"),
        (r#"{"timeUnixNano":"+inf"}"#, "expected a whole number"),
        (r#"{"attributes":{}}"#, "expected an array (attributes)"),
        (
            r#"{"exemplars":[{"traceId":"0"}]}"#,
            "expected hexadecimal digits",
        ),
        (r#"[1]"#, "expected an object (NumberDataPoint)"),
        (r#"{"asInt":1}}"#, "trailing characters"),
        (r#"{"asInt":1"#, "EOF"),
        ("", "EOF"),
    ] {
        let error = rewritten(text, schema::number_data_point()).unwrap_err();
        assert!(error.contains(part), "{text}: {error}");
    }
}

#[test]
fn depth_and_size_are_bounded() {
    let deep = format!(
        "{}{}",
        r#"{"arrayValue":{"values":["#.repeat(10_000),
        "]}}".repeat(10_000)
    );
    assert!(
        rewritten(&deep, schema::any_value())
            .unwrap_err()
            .contains("recursion")
    );
    let many = format!("{{\"explicitBounds\":[{}0]}}", "0,".repeat(1_000));
    let mut out = Vec::new();
    let table = schema::histogram_data_point();
    let refused = to_protobuf(many.as_bytes(), table, &mut out, 4_000);
    assert!(matches!(refused, Err(JsonError::TooLarge(4_000))));
    assert!(out.len() < 4_100);
}

#[test]
fn answers_are_written_as_json() {
    let (mut partial, mut response) = (Vec::new(), Vec::new());
    push_number(&mut partial, 1, 3);
    push_bytes(&mut partial, 2, b"a \"b\"");
    push_bytes(&mut response, 1, &partial);
    let text = from_protobuf(&response, schema::export_metrics_response());
    let answer: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(
        answer,
        json!({"partialSuccess": {"rejectedDataPoints": "3", "errorMessage": "a \"b\""}})
    );
    assert_eq!(from_protobuf(&[], schema::export_metrics_response()), "{}");
    let mut status = Vec::new();
    push_number(&mut status, 1, 8);
    assert_eq!(from_protobuf(&status, schema::status()), r#"{"code":8}"#);
}
