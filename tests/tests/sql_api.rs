//! `POST /api/v1/sql`, and the commands `sql`, `promql`, `verify`.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use chronolith_tests::server::run;
use chronolith_tests::{Answer, Client, Server, write};
use serde_json::json;

fn server_with_data() -> Server {
    let server = Server::start(&[]);
    let now = write::now_ms();
    let series = write::series(
        &[("__name__", "temperature"), ("room", "kitchen")],
        &[(20.5, now - 1000), (21.5, now)],
    );
    assert_eq!(write::send(&server.client(), &[series]).status, 204);
    server
}

fn sql(client: &Client, accept: &str, body: &str) -> Answer {
    let headers = [("content-type", "application/json"), ("accept", accept)];
    client.request("POST", "/api/v1/sql", &headers, body.as_bytes())
}

#[test]
fn rows_come_in_the_format_asked_for() {
    let server = server_with_data();
    let client = server.client();
    let statement = r#"{"query": "SELECT room, value FROM metric.temperature WHERE value > $1 ORDER BY value", "params": [21]}"#;
    let answer = sql(&client, "application/json", statement);
    assert_eq!(answer.status, 200, "{}", answer.text());
    let body = answer.json();
    assert_eq!(body["columns"][0]["name"], "room");
    assert_eq!(body["rows"], json!([["kitchen", 21.5]]));
    let csv = sql(&client, "text/csv", statement).text();
    assert_eq!(csv.lines().nth(1), Some("kitchen,21.5"), "{csv}");
    let lines = sql(&client, "application/x-ndjson", statement).text();
    assert_eq!(lines.trim(), r#"{"room":"kitchen","value":21.5}"#);
    let arrow = sql(&client, "application/vnd.apache.arrow.stream", statement);
    assert_eq!(
        arrow.header("content-type"),
        Some("application/vnd.apache.arrow.stream")
    );
    assert!(!arrow.body.is_empty());
    let parquet = sql(&client, "application/vnd.apache.parquet", statement);
    assert!(parquet.body.starts_with(b"PAR1") && parquet.body.ends_with(b"PAR1"));
}

#[test]
fn faults_are_400_with_a_position() {
    let server = server_with_data();
    let client = server.client();
    for body in [
        "",
        "{}",
        "{\"query\": 5}",
        "{\"query\": \"SELECT 1\", \"extra\": 1}",
    ] {
        let answer = sql(&client, "*/*", body);
        assert_eq!(answer.status, 400, "{body}: {}", answer.text());
    }
    let answer = sql(
        &client,
        "*/*",
        r#"{"query": "SELECT nonsense FROM metrics"}"#,
    );
    assert_eq!(answer.status, 400);
    assert_eq!(answer.json()["position"]["line"], 1, "{}", answer.text());
    let answer = sql(&client, "*/*", r#"{"query": "DROP TABLE metrics"}"#);
    assert_eq!(answer.status, 400, "{}", answer.text());
}

#[test]
fn the_command_line_asks_a_server_or_reads_a_directory() {
    let server = server_with_data();
    let url = format!("http://{}", server.address());
    let statement = "SELECT room, value FROM metric.temperature ORDER BY value";
    let expression = "avg_over_time(temperature[1m])";
    let dir = server.dir();
    let data = dir.path().join("data");
    let data = data.to_str().unwrap();
    for place in [["--url", url.as_str()], ["--data-dir", data]] {
        let output = run(&["sql", statement, "--format", "csv", place[0], place[1]]);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert_eq!(
            text, "room,value\nkitchen,20.5\nkitchen,21.5\n",
            "{output:?}"
        );
        let output = run(&["promql", expression, "--format", "csv", place[0], place[1]]);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(text.starts_with("room,time,value\nkitchen,"), "{output:?}");
        assert!(text.trim_end().ends_with(",21.0"), "{text}");
        let output = run(&["promql", expression, place[0], place[1]]);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(text.contains("| kitchen |"), "{output:?}");
        let output = run(&["promql", expression, "--format", "json", place[0], place[1]]);
        let answer: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(answer["data"]["result"][0]["metric"]["room"], "kitchen");
        for (format, magic) in [("parquet", b"PAR1"), ("arrow", b"\xff\xff\xff\xff")] {
            let output = run(&["promql", expression, "--format", format, place[0], place[1]]);
            assert!(output.stdout.starts_with(magic), "{output:?}");
        }
        let remarked = "rate(temperature[1m])";
        let output = run(&["promql", remarked, place[0], place[1]]);
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(text.contains("PromQL info"), "{output:?}");
        let output = run(&["promql", "sum(", place[0], place[1]]);
        assert_eq!(output.status.code(), Some(1));
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(text.contains("parse error"), "{text}");
    }
    drop(server);
    let output = run(&["verify", data]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success() && text.contains("ok       MANIFEST"),
        "{output:?}"
    );
    let manifest = std::path::Path::new(data).join("MANIFEST");
    assert!(
        run(&["inspect", manifest.to_str().unwrap()])
            .status
            .success()
    );
    let log = std::fs::read_dir(std::path::Path::new(data).join("wal")).unwrap();
    let log = log
        .map(|e| e.unwrap().path())
        .find(|p| p.extension().is_some_and(|e| e == "wal"));
    let output = run(&["inspect", log.unwrap().to_str().unwrap()]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(text.contains("1 new series, 2 samples"), "{output:?}");
}
