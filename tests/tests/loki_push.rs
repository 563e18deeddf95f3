//! Loki's push: every form is taken, refusals are in Loki's words, and a push that comes again is
//! stored once.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use chronolith_tests::write::{self, bytes, number, snappy};
use chronolith_tests::{Answer, Client, Server};
use serde_json::{Value, json};

const JSON: (&str, &str) = ("content-type", "application/json");
const PATH: &str = "/loki/api/v1/push";

fn push_json(client: &Client, path: &str, body: &Value) -> Answer {
    client.request("POST", path, &[JSON], body.to_string().as_bytes())
}

fn stored(client: &Client) -> f64 {
    let text = client.get("/metrics").text();
    let name = "chronolith_ingest_rows_total{signal=\"logs\",protocol=\"loki\"} ";
    let line = text.lines().find_map(|l| l.strip_prefix(name)).unwrap();
    line.parse().unwrap()
}

fn now_ns() -> i64 {
    write::now_ms() * 1_000_000
}

/// A push of one line.
fn protobuf(labels: &str, line: &str) -> Vec<u8> {
    let (mut time, mut entry, mut stream, mut push) =
        (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    number(&mut time, 1, (now_ns() / 1_000_000_000) as u64);
    bytes(&mut entry, 1, &time);
    bytes(&mut entry, 2, line.as_bytes());
    bytes(&mut stream, 1, labels.as_bytes());
    bytes(&mut stream, 2, &entry);
    bytes(&mut push, 1, &stream);
    push
}

#[test]
fn every_form_is_taken_and_repeats_are_stored_once() {
    let server = Server::start(&[]);
    let client = server.client();
    let body = json!({"streams": [{"stream": {"job": "x"}, "values": [
        [now_ns().to_string(), "a"], [now_ns().to_string(), "b", {"trace_id": "abc"}]]}]});
    for path in [PATH, PATH, "/api/prom/push"] {
        let answer = push_json(&client, path, &body);
        assert_eq!((answer.status, answer.body.len()), (204, 0), "{path}");
    }
    assert_eq!(stored(&client), 2.0, "the same push is stored once");
    let packed = snappy(&protobuf(r#"{job="x"}"#, "c"));
    for headers in [
        &[("content-type", "application/x-protobuf")][..],
        &[("content-encoding", "snappy")][..],
    ] {
        assert_eq!(client.request("POST", PATH, headers, &packed).status, 204);
    }
    assert_eq!(stored(&client), 3.0);
}

#[test]
fn refusals_are_in_lokis_words() {
    let server = Server::start(&["--log-line-max", "10B", "--tenant-streams-max", "1"]);
    let client = server.client();
    let values = |line: &str| json!([[now_ns().to_string(), line]]);
    let push = |labels: Value, line: &str| {
        let body = json!({"streams": [{"stream": labels, "values": values(line)}]});
        let answer = push_json(&client, PATH, &body);
        (answer.status, answer.text())
    };
    let (status, text) = push(json!({}), "a");
    assert_eq!(status, 400);
    assert!(
        text.contains("at least one label pair is required"),
        "{text}"
    );
    let (status, text) = push(json!({"job": "x"}), "longer than ten");
    assert_eq!(status, 400);
    assert!(
        text.contains("Max entry size '10' bytes exceeded"),
        "{text}"
    );
    let (status, text) = push(json!({"job": "y"}), "a");
    assert_eq!(status, 429);
    assert!(text.contains("\"job\""), "{text}");
    let answer = client.request("POST", PATH, &[JSON], b"{");
    assert_eq!(answer.status, 400);
    let answer = client.request("POST", PATH, &[], b"\xff\xff\xff\xff\x0f");
    assert_eq!(answer.status, 413);
    let kind = [("content-type", "text/plain")];
    assert_eq!(client.request("POST", PATH, &kind, b"x").status, 400);
    // In one push, what can be stored is.
    let body = json!({"streams": [
        {"stream": {"job": "x"}, "values": values("b")},
        {"stream": {"job": "z"}, "values": values("b")}]});
    assert_eq!(push_json(&client, PATH, &body).status, 429);
    assert_eq!(stored(&client), 1.0);
    assert_eq!(push_json(&client, PATH, &body).status, 429);
    assert_eq!(stored(&client), 1.0, "what was stored is not stored again");
}
