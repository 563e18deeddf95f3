//! Metrics of spans and the service graph: counted as spans come, asked for in PromQL.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::time::{Duration, Instant};

use chronolith_tests::{Client, Server, write};
use serde_json::{Value, json};

const JSON: (&str, &str) = ("content-type", "application/json");

fn spans(client: &Client, service: &str, spans: &[Value]) {
    let resource =
        json!({"attributes": [{"key": "service.name", "value": {"stringValue": service}}]});
    let body = json!({"resourceSpans": [{"resource": resource, "scopeSpans": [{"spans": spans}]}]});
    let body = body.to_string();
    let answer = client.request("POST", "/v1/traces", &[JSON], body.as_bytes());
    assert_eq!(answer.status, 200, "{}", answer.text());
}

/// Traces with a client span of the one service or the server span of the other.
fn halves(kind: u8, ms: i64, status: u8) -> Vec<Value> {
    let start = write::now_ms() * 1_000_000;
    let half = |n: i64| {
        let ids = match kind {
            3 => ("00000000000000aa", "00000000000000cc"),
            _ => ("00000000000000bb", "00000000000000aa"),
        };
        json!({"traceId": format!("{:032x}", n + 1), "spanId": ids.0, "parentSpanId": ids.1, "kind": kind,
            "name": "buy", "status": {"code": status}, "startTimeUnixNano": start.to_string(),
            "endTimeUnixNano": (start + ms * 1_000_000).to_string()})
    };
    (0..10).map(half).collect()
}

/// The value of an expression that answers with one series.
fn value(client: &Client, expression: &str) -> Option<f64> {
    let answer = client.post_form("/api/v1/query", &[("query", expression)]);
    assert_eq!(answer.status, 200, "{expression}: {}", answer.text());
    let answer = answer.json();
    let result = answer["data"]["result"].as_array().unwrap().clone();
    assert!(result.len() < 2, "{expression}: {answer}");
    result.first()?["value"][1].as_str()?.parse().ok()
}

fn until(client: &Client, expression: &str, wanted: f64) {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let found = value(client, expression);
        if found.is_some_and(|found| (found - wanted).abs() < 1e-9) {
            return;
        }
        let late = Instant::now() > deadline;
        assert!(!late, "{expression}: {found:?}, expected {wanted}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn spans_become_series_that_promql_answers_from() {
    let server = Server::start(&["--span-metrics-interval=100ms"]);
    let client = server.client();
    spans(&client, "shop", &halves(3, 300, 0));
    spans(&client, "stock", &halves(2, 150, 2));
    let calls = "traces_spanmetrics_calls_total{service=\"stock\",span_name=\"buy\",span_kind=\"SPAN_KIND_SERVER\",status_code=\"STATUS_CODE_ERROR\"}";
    until(&client, calls, 10.0);
    until(&client, &format!("increase({calls}[1m]) > bool 0"), 1.0);
    until(
        &client,
        "traces_spanmetrics_latency_bucket{service=\"stock\",le=\"0.256\"}",
        10.0,
    );
    until(
        &client,
        "traces_spanmetrics_latency_bucket{service=\"stock\",le=\"0.128\"}",
        0.0,
    );
    let edge = "{client=\"shop\",server=\"stock\"}";
    until(
        &client,
        &format!("traces_service_graph_request_total{edge}"),
        10.0,
    );
    until(
        &client,
        &format!("traces_service_graph_request_failed_total{edge}"),
        10.0,
    );
    until(
        &client,
        &format!("traces_service_graph_request_server_seconds_sum{edge}"),
        1.5,
    );
    until(
        &client,
        "traces_spanmetrics_size_total{service=\"shop\"} > bool 600",
        1.0,
    );
    let quantile = "histogram_quantile(0.5, sum by (le) (traces_spanmetrics_latency_bucket{service=\"stock\"}))";
    let median = value(&client, quantile).unwrap();
    assert!((0.128..0.256).contains(&median), "{median}");

    // Counters begin at 0 with the server.
    let dir = server.dir();
    server.stop();
    let server = Server::start_in(dir, &["--span-metrics-interval=100ms"]);
    let client = server.client();
    spans(&client, "stock", &halves(2, 150, 2)[..3]);
    until(&client, calls, 3.0);
    until(
        &client,
        "count(resets(traces_spanmetrics_calls_total{service=\"stock\"}[5m]) > 0)",
        1.0,
    );
}

#[test]
fn floods_of_operations_are_counted_together_and_it_can_be_off() {
    let server = Server::start(&["--span-metrics-interval=100ms", "--span-metrics-keys-max=5"]);
    let client = server.client();
    let start = (write::now_ms() * 1_000_000).to_string();
    let flood = |n: u64| {
        json!({"traceId": format!("{:032x}", n + 1), "spanId": format!("{:016x}", n + 1), "name": format!("/item/{n}"),
            "startTimeUnixNano": start, "endTimeUnixNano": start})
    };
    spans(&client, "shop", &(0..1000).map(flood).collect::<Vec<_>>());
    until(
        &client,
        "traces_spanmetrics_calls_total{metric_overflow=\"true\"}",
        995.0,
    );
    until(&client, "count(traces_spanmetrics_calls_total)", 6.0);

    let server = Server::start(&["--span-metrics=off"]);
    let client = server.client();
    spans(&client, "shop", &halves(3, 1, 0));
    let metrics = client.get("/metrics").text();
    assert!(
        metrics.contains("chronolith_span_metrics_spans_total 0"),
        "{metrics}"
    );
}
