//! OTLP over HTTP: what comes in comes out of PromQL, and what cannot be is refused in the client's
//! own form.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::io::Write as _;

use chronolith_tests::write::{self, bytes, double, number};
use chronolith_tests::{Answer, Client, Server};
use serde_json::{Value, json};

const JSON: (&str, &str) = ("content-type", "application/json");
const PROTOBUF: (&str, &str) = ("content-type", "application/x-protobuf");

fn post(client: &Client, headers: &[(&str, &str)], body: &[u8]) -> Answer {
    client.request("POST", "/v1/metrics", headers, body)
}

fn post_json(client: &Client, body: &Value) -> Answer {
    post(client, &[JSON], body.to_string().as_bytes())
}

/// A gauge named `name` with one data point of now.
fn gauge(name: &str, value: f64) -> Value {
    let time_ns = (write::now_ms() * 1_000_000).to_string();
    json!({"resourceMetrics": [{
        "resource": {"attributes": [
            {"key": "service.name", "value": {"stringValue": "shop"}},
            {"key": "host.name", "value": {"stringValue": "h1"}},
        ]},
        "scopeMetrics": [{"metrics": [{
            "name": name, "unit": "By",
            "gauge": {"dataPoints": [{"timeUnixNano": time_ns, "asDouble": value}]},
        }]}],
    }]})
}

/// The same as protobuf, without a resource.
fn gauge_protobuf(name: &str, value: f64) -> Vec<u8> {
    let (mut point, mut gauge, mut metric) = (Vec::new(), Vec::new(), Vec::new());
    double(
        &mut point,
        3,
        f64::from_bits(write::now_ms() as u64 * 1_000_000),
    );
    double(&mut point, 4, value);
    bytes(&mut gauge, 1, &point);
    bytes(&mut metric, 1, name.as_bytes());
    bytes(&mut metric, 5, &gauge);
    // Metric, scope, resource, request.
    [2, 2, 1].into_iter().fold(metric, |inner, field| {
        let mut outer = Vec::new();
        bytes(&mut outer, field, &inner);
        outer
    })
}

/// The value of the only series that a query finds, and its labels.
fn query(client: &Client, query: &str) -> (String, Value) {
    let answer = client
        .post_form("/api/v1/query", &[("query", query)])
        .json();
    let result = answer["data"]["result"]
        .as_array()
        .expect("a vector")
        .clone();
    assert_eq!(result.len(), 1, "{query}: {answer}");
    let value = result[0]["value"][1].as_str().expect("a value").to_owned();
    (value, result[0]["metric"].clone())
}

fn deflate(body: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(body).unwrap();
    encoder.finish().unwrap()
}

fn gzip(body: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(body).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn metrics_come_in_by_every_form_and_path() {
    let server = Server::start(&["--otlp-http-listen", "127.0.0.1:0"]);
    let client = server.client();
    let answer = post_json(&client, &gauge("mem.json", 1.5));
    assert_eq!((answer.status, answer.text().as_str()), (200, "{}"));
    assert_eq!(answer.header("content-type"), Some("application/json"));
    let (value, labels) = query(&client, "mem_json_bytes");
    assert_eq!((value.as_str(), &labels["job"]), ("1.5", &json!("shop")));
    let joined = "mem_json_bytes * on (job) group_left (host_name) target_info";
    assert_eq!(query(&client, joined).1["host_name"], "h1");

    let answer = post(&client, &[PROTOBUF], &gauge_protobuf("mem.proto", 2.5));
    assert_eq!(
        (answer.status, answer.body.len()),
        (200, 0),
        "{}",
        answer.text()
    );
    assert_eq!(
        answer.header("content-type"),
        Some("application/x-protobuf")
    );
    assert_eq!(query(&client, "mem_proto").0, "2.5");

    let plain = gauge_protobuf("mem.packed", 3.5);
    let packed = [("gzip", gzip(&plain)), ("deflate", deflate(&plain))];
    for (encoding, body) in packed {
        let headers = [PROTOBUF, ("content-encoding", encoding)];
        let path = "/api/v1/otlp/v1/metrics";
        let answer = client.request("POST", path, &headers, &body);
        assert_eq!(answer.status, 200, "{encoding}: {}", answer.text());
    }
    assert_eq!(query(&client, "mem_packed").0, "3.5");

    let own = loop {
        let log = server.log();
        let address = log
            .lines()
            .find_map(|l| l.strip_prefix("OTLP over HTTP on http://"));
        match address {
            Some(address) if log.ends_with('\n') => break Client::new(address),
            _ => std::thread::yield_now(),
        }
    };
    assert_eq!(post_json(&own, &gauge("mem.own", 4.5)).status, 200);
    assert_eq!(query(&client, "mem_own_bytes").0, "4.5");
    assert_eq!(own.get("/api/v1/labels").status, 404, "nothing but OTLP");
    assert_eq!(own.get("/v1/metrics").status, 405);
}

#[test]
fn bad_data_points_are_named_and_the_others_stored() {
    let server = Server::start(&[]);
    let client = server.client();
    let mut request = gauge("part", 1.0);
    let points = &mut request["resourceMetrics"][0]["scopeMetrics"][0]["metrics"][0]["gauge"];
    let points = points["dataPoints"].as_array_mut().unwrap();
    points.push(json!({"asDouble": 1.0}));
    let answer = post_json(&client, &request);
    assert_eq!(answer.status, 200);
    let partial = &answer.json()["partialSuccess"];
    assert_eq!(partial["rejectedDataPoints"], "1");
    let message = partial["errorMessage"].as_str().unwrap();
    assert!(message.contains("without a time"), "{message}");
    assert_eq!(query(&client, "part_bytes").0, "1");
    let metrics = client.get("/metrics").text();
    for line in [
        "chronolith_otlp_points_total{result=\"stored\"} 1",
        "chronolith_otlp_points_total{result=\"rejected\"} 1",
    ] {
        assert!(metrics.contains(line), "{line}");
    }
}

#[test]
fn errors_are_statuses_in_the_form_of_the_request() {
    let server = Server::start(&["--write-body-max", "64KiB"]);
    let client = server.client();
    let bomb = gzip(&vec![b' '; 10 << 20]);
    let large = vec![b' '; 70 << 10];
    let cases: [(&[(&str, &str)], &[u8], u16, &str); 7] = [
        (&[JSON], b"{\"resourceMetrics\": 1}", 400, "line 1"),
        (&[JSON], b"{", 400, "EOF"),
        (&[("content-type", "text/plain")], b"", 415, "content type"),
        (&[], b"", 415, "content type"),
        (
            &[JSON, ("content-encoding", "snappy")],
            b"{}",
            415,
            "compression",
        ),
        (
            &[JSON, ("content-encoding", "gzip")],
            &bomb,
            413,
            "65536 bytes",
        ),
        (&[JSON], &large, 413, "65536 bytes"),
    ];
    for (headers, body, status, part) in cases {
        let answer = post(&client, headers, body);
        assert_eq!(answer.status, status, "{headers:?}: {}", answer.text());
        let error = answer.json();
        let message = error["message"].as_str().unwrap();
        assert!(
            error["code"].is_u64() && message.contains(part),
            "{message}"
        );
    }
    let whole = gauge_protobuf("cut", 1.0);
    let answer = post(&client, &[PROTOBUF], &whole[..whole.len() - 3]);
    assert_eq!(answer.status, 400);
    let mut expected = Vec::new();
    number(&mut expected, 1, 3);
    assert!(answer.body.starts_with(&expected), "{:?}", answer.text());
    let not_gzip = post(&client, &[PROTOBUF, ("content-encoding", "gzip")], &whole);
    assert_eq!(not_gzip.status, 400);
    assert!(
        !client.get("/api/v1/labels").text().contains("__name__"),
        "nothing is stored"
    );
}

#[test]
fn tenants_are_kept_apart() {
    let server = Server::start(&[]);
    let (a, b) = (
        server.client().with_header("x-scope-orgid", "a"),
        server.client().with_header("x-scope-orgid", "b"),
    );
    assert_eq!(post_json(&a, &gauge("mine", 1.0)).status, 200);
    assert_eq!(query(&a, "mine_bytes").0, "1");
    let other = b
        .post_form("/api/v1/query", &[("query", "mine_bytes")])
        .json();
    assert_eq!(other["data"]["result"], json!([]));
}

#[test]
fn the_section_otlp_and_the_features_decide_on_names_and_deltas() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("c.yml");
    let yaml = "otlp:\n  translation_strategy: NoTranslation\n  promote_resource_attributes: [host.name]\nenable_feature: [otlp-deltatocumulative]\n";
    std::fs::write(&file, yaml).unwrap();
    let server = Server::start(&["--config", file.to_str().unwrap()]);
    let client = server.client();
    let now_ms = write::now_ms();
    for (from, to) in [(-20, -10), (-10, 0)] {
        let ns = |seconds: i64| ((now_ms + seconds * 1_000) * 1_000_000).to_string();
        let mut request = gauge("jobs.done", 0.0);
        request["resourceMetrics"][0]["scopeMetrics"][0]["metrics"][0] = json!({
            "name": "jobs.done", "sum": {
                "aggregationTemporality": "AGGREGATION_TEMPORALITY_DELTA", "isMonotonic": true,
                "dataPoints": [{
                    "startTimeUnixNano": ns(from), "timeUnixNano": ns(to), "asInt": "5",
                }],
            },
        });
        let answer = post_json(&client, &request);
        assert_eq!((answer.status, answer.text().as_str()), (200, "{}"));
    }
    let (value, labels) = query(&client, r#"{"jobs.done"}"#);
    assert_eq!((value.as_str(), &labels["host.name"]), ("10", &json!("h1")));
}
