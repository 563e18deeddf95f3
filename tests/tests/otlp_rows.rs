//! OTLP logs and traces over HTTP: every path takes them, what cannot be is named in the answer, and
//! the server counts what it did.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::io::Write as _;

use chronolith_tests::{Answer, Client, Server, write};
use serde_json::{Value, json};

const JSON: (&str, &str) = ("content-type", "application/json");

fn post(client: &Client, path: &str, body: &Value) -> Answer {
    client.request("POST", path, &[JSON], body.to_string().as_bytes())
}

fn now_ns() -> String {
    (write::now_ms() * 1_000_000).to_string()
}

fn resource() -> Value {
    json!({"attributes": [{"key": "service.name", "value": {"stringValue": "shop"}}]})
}

fn logs(records: Value) -> Value {
    json!({"resourceLogs": [{"resource": resource(), "scopeLogs": [{"logRecords": records}]}]})
}

fn spans(spans: Value) -> Value {
    json!({"resourceSpans": [{"resource": resource(), "scopeSpans": [{"spans": spans}]}]})
}

fn span(span_id: &str) -> Value {
    json!({"traceId": "5b8efff798038103d269b633813fc60c", "spanId": span_id, "name": "GET /",
        "startTimeUnixNano": now_ns(), "endTimeUnixNano": now_ns()})
}

/// The value of one of the server's own counters.
fn counter(client: &Client, name_and_labels: &str) -> f64 {
    let text = client.get("/metrics").text();
    let line = text.lines().find(|l| l.starts_with(name_and_labels));
    let line = line.unwrap_or_else(|| panic!("{name_and_labels} in {text}"));
    line.rsplit(' ').next().unwrap().parse().unwrap()
}

#[test]
fn rows_come_in_by_every_path_and_form() {
    let server = Server::start(&[]);
    let client = server.client();
    let record = json!([{"timeUnixNano": now_ns(), "body": {"stringValue": "hello"}}]);
    for path in ["/v1/logs", "/otlp/v1/logs", "/insert/opentelemetry/v1/logs"] {
        let answer = post(&client, path, &logs(record.clone()));
        assert_eq!(
            (answer.status, answer.text().as_str()),
            (200, "{}"),
            "{path}"
        );
    }
    for path in ["/v1/traces", "/insert/opentelemetry/v1/traces"] {
        let body = spans(json!([span("eee19b7ec3c1b174")]));
        let answer = post(&client, path, &body);
        assert_eq!(
            (answer.status, answer.text().as_str()),
            (200, "{}"),
            "{path}"
        );
    }
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(logs(record).to_string().as_bytes()).unwrap();
    let headers = [JSON, ("content-encoding", "gzip")];
    let answer = client.request("POST", "/v1/logs", &headers, &gzip.finish().unwrap());
    assert_eq!(answer.status, 200, "{}", answer.text());
    let protobuf = [("content-type", "application/x-protobuf")];
    let answer = client.request("POST", "/v1/logs", &protobuf, &[]);
    assert_eq!((answer.status, answer.body.len()), (200, 0));

    let rows = |signal| {
        let name = format!("chronolith_ingest_rows_total{{signal=\"{signal}\",protocol=\"otlp\"}}");
        counter(&client, &name)
    };
    assert_eq!((rows("logs"), rows("spans")), (4.0, 2.0));
}

#[test]
fn bad_rows_are_named_and_the_others_stored() {
    let server = Server::start(&["--log-line-max", "16B"]);
    let client = server.client();
    let answer = post(
        &client,
        "/v1/logs",
        &logs(json!([
            {"timeUnixNano": now_ns(), "body": {"stringValue": "short"}, "traceId": "a1b2c3"},
            {"timeUnixNano": now_ns(), "body": {"stringValue": "longer than sixteen bytes"}},
        ])),
    );
    assert_eq!(answer.status, 200);
    let partial = &answer.json()["partialSuccess"];
    assert_eq!(partial["rejectedLogRecords"], "1", "{partial}");
    assert!(
        partial["errorMessage"]
            .as_str()
            .unwrap()
            .contains("25 bytes")
    );

    let answer = post(
        &client,
        "/v1/traces",
        &spans(json!([span("eee19b7ec3c1b174"), span("a1b2c3")])),
    );
    let partial = &answer.json()["partialSuccess"];
    assert_eq!(partial["rejectedSpans"], "1", "{partial}");
    let name =
        "chronolith_ingest_rows_refused_total{signal=\"spans\",protocol=\"otlp\",reason=\"ids\"}";
    assert_eq!(counter(&client, name), 1.0);

    let protobuf = [("content-type", "application/x-protobuf")];
    let answer = client.request("POST", "/v1/logs", &protobuf, &[0x0a, 9]);
    assert_eq!(answer.status, 400);
}

#[test]
fn streams_beyond_the_limit_answer_429() {
    let server = Server::start(&["--tenant-streams-max", "1"]);
    let client = server.client();
    let record = json!([{"timeUnixNano": now_ns(), "body": {"stringValue": "hello"}}]);
    assert_eq!(post(&client, "/v1/logs", &logs(record.clone())).status, 200);
    let mut other = logs(record);
    other["resourceLogs"][0]["resource"]["attributes"][0]["value"] = json!({"stringValue": "x"});
    let answer = post(&client, "/v1/logs", &other);
    assert_eq!(answer.status, 429, "{}", answer.text());
    assert!(answer.header("retry-after").is_some());
    assert!(answer.text().contains("service_name"), "{}", answer.text());
}
