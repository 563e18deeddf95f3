//! Runs of pipelines: folded from events, log records and spans however they come, over a restart, and
//! told live.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use chronolith_tests::{Answer, Client, Server, write};
use serde_json::{Value, json};

const JSON: (&str, &str) = ("content-type", "application/json");
const TRACE: &str = "5b8efff798038103d269b633813fc60c";

fn post(client: &Client, path: &str, body: &str) -> Answer {
    client.request("POST", path, &[JSON], body.as_bytes())
}

fn events(client: &Client, run: &str, lines: &[Value]) {
    let body: Vec<String> = lines.iter().map(Value::to_string).collect();
    let path = format!("/api/v1/runs/{run}/events");
    let answer = post(client, &path, &body.join("\n"));
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(answer.json()["accepted"], lines.len());
}

fn at(ms: i64) -> String {
    (ms * 1_000_000).to_string()
}

fn span(
    id: &str,
    parent: &str,
    name: &str,
    times: (i64, i64),
    attributes: &[(&str, &str)],
) -> Value {
    let attributes: Vec<Value> = attributes
        .iter()
        .map(|(k, v)| json!({"key": k, "value": {"stringValue": v}}))
        .collect();
    json!({"traceId": TRACE, "spanId": id, "parentSpanId": parent, "name": name, "attributes": attributes,
        "startTimeUnixNano": at(times.0), "endTimeUnixNano": at(times.1)})
}

fn spans(client: &Client, spans: &[Value]) {
    let resource =
        json!({"attributes": [{"key": "service.name", "value": {"stringValue": "runner"}}]});
    let body = json!({"resourceSpans": [{"resource": resource, "scopeSpans": [{"spans": spans}]}]});
    let answer = post(client, "/v1/traces", &body.to_string());
    assert_eq!(answer.status, 200, "{}", answer.text());
}

fn list(client: &Client, query: &str) -> Vec<Value> {
    let answer = client.get(&format!("/api/v1/runs{query}"));
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()["runs"].as_array().unwrap().clone()
}

/// Asks until `wanted` holds.
fn until(client: &Client, path: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let answer = client.get(path);
        let value = if answer.status == 200 {
            answer.json()
        } else {
            Value::Null
        };
        if wanted(&value) {
            return value;
        }
        assert!(Instant::now() < deadline, "{path}: {}", answer.text());
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Four runs of one pipeline, the newest under way.
fn tell_a_story(client: &Client, now: i64) {
    for nth in 0..3 {
        let start = now - 300_000 + nth * 60_000;
        let event = |name: &str, after: i64, stage: Option<&str>| {
            let mut event = json!({"event": name, "time": start + after, "pipeline": "etl"});
            if let Some(stage) = stage {
                event["stage"] = stage.into();
            }
            event
        };
        let done = [
            event("run.queued", 0, None),
            event("run.started", 500, None),
            event("stage.started", 500, Some("extract")),
            event("stage.completed", 1_500, Some("extract")),
            event("stage.started", 1_500, Some("load")),
            event("stage.completed", 4_500, Some("load")),
            event("run.completed", 4_500, None),
        ];
        events(client, &format!("done-{nth}"), &done);
    }
    let live = [
        json!({"event": "run.started", "time": now - 2_000, "pipeline": "etl"}),
        json!({"event": "stage.completed", "time": now - 1_000, "stage": "extract"}),
        json!({"event": "stage.started", "time": now - 1_000, "stage": "load"}),
    ];
    events(client, "going", &live);
}

#[test]
fn events_make_runs_with_progress_and_survive_a_restart() {
    let server = Server::start(&[]);
    let client = server.client();
    let now = write::now_ms();
    tell_a_story(&client, now);
    let runs = list(&client, "");
    assert_eq!(runs.len(), 4);
    assert_eq!(runs[0]["run_id"], "going");
    assert_eq!(
        (&runs[0]["state"], &runs[0]["stage"]),
        (&json!("running"), &json!("load"))
    );
    let progress = runs[0]["progress"].as_f64().unwrap();
    assert!((0.25..0.99).contains(&progress), "{progress}");
    assert_eq!(runs[1]["queue_ms"], 500.0);
    assert_eq!(runs[1]["duration_ms"], 4_000.0);
    assert_eq!(list(&client, "?state=succeeded&pipeline=etl").len(), 3);
    assert_eq!(list(&client, "?state=failed").len(), 0);
    assert_eq!(list(&client, "?limit=2").len(), 2);
    assert_eq!(
        list(&client, &format!("?end={}", (now - 200_000) / 1000)).len(),
        2
    );

    let dir = server.dir();
    server.kill();
    let server = Server::start_in(dir, &[]);
    let client = server.client();
    let back = until(&client, "/api/v1/runs", |answer| {
        answer["runs"]
            .as_array()
            .is_some_and(|runs| runs.len() == 4 && !runs[0]["progress"].is_null())
    });
    assert_eq!(back["runs"][0]["run_id"], "going");
    assert_eq!(back["runs"][1], runs[1]);
    events(
        &client,
        "going",
        &[json!({"event": "run.failed", "error": "no space"})],
    );
    let detail = client.get("/api/v1/runs/going").json();
    assert_eq!(
        (&detail["state"], &detail["error"]),
        (&json!("failed"), &json!("no space"))
    );
    assert_eq!(detail["usual"]["runs"], 3);
}

#[test]
fn a_run_of_spans_is_explained() {
    let server = Server::start(&[]);
    let client = server.client();
    let now = write::now_ms() - 60_000;
    let of_run = [("execution_id", "r-7"), ("pipeline.name", "etl")];
    let stage = |name| [of_run[0], of_run[1], ("task.name", name)];
    // Children come first, as they do; one calls a model and knows nothing of runs.
    let cost = [
        ("gen_ai.usage.input_tokens", "100"),
        ("cost_dollars", "0.25"),
    ];
    let mut failed = span(
        "000000000000000c",
        "000000000000000a",
        "load",
        (now + 3_000, now + 9_000),
        &stage("load"),
    );
    failed["status"] = json!({"code": 2, "message": "warehouse timed out"});
    failed["links"] =
        json!([{"traceId": "000000000000000000000000000000ff", "spanId": "00000000000000ff"}]);
    spans(
        &client,
        &[
            span(
                "000000000000000b",
                "000000000000000a",
                "extract",
                (now, now + 3_000),
                &stage("extract"),
            ),
            span(
                "000000000000000d",
                "000000000000000b",
                "chat",
                (now + 500, now + 2_500),
                &cost,
            ),
            failed,
        ],
    );
    let live = client.get("/api/v1/runs/r-7").json();
    assert_eq!(
        (&live["state"], &live["cost"], &live["tokens"]),
        (&json!("running"), &json!(0.25), &json!(100.0))
    );
    let mut root = span(
        "000000000000000a",
        "",
        "pipeline.execute",
        (now, now + 9_500),
        &of_run,
    );
    root["status"] = json!({"code": 2});
    spans(&client, &[root]);

    // By the run's id and by its trace's.
    let detail = client.get("/api/v1/runs/r-7").json();
    assert_eq!(detail, client.get(&format!("/api/v1/runs/{TRACE}")).json());
    assert_eq!(
        (&detail["state"], &detail["pipeline"]),
        (&json!("failed"), &json!("etl"))
    );
    assert_eq!(detail["trace_id"], TRACE);
    assert_eq!(detail["duration_ms"], 9_500.0);
    let stages = detail["stages"].as_array().unwrap();
    let states: Vec<_> = stages
        .iter()
        .map(|s| (s["name"].as_str().unwrap(), s["state"].as_str().unwrap()))
        .collect();
    assert_eq!(states, [("extract", "succeeded"), ("load", "failed")]);
    assert_eq!(
        (&stages[0]["spans"], &stages[1]["failed_spans"]),
        (&json!(2), &json!(1))
    );
    assert_eq!(detail["first_error"]["message"], "warehouse timed out");
    assert_eq!(detail["first_error"]["span_id"], "000000000000000c");
    assert_eq!(detail["slowest_stages"][0]["name"], "load");
    let path = detail["critical_path"].as_array().unwrap();
    let longest = path.iter().find(|piece| piece["name"] == "load").unwrap();
    assert_eq!(
        (&longest["duration_ms"], &longest["stage"]),
        (&json!(6_000.0), &json!("load"))
    );
    assert_eq!(
        detail["links"]["traces"],
        json!(["000000000000000000000000000000ff"])
    );
    let explained = detail["explained"][0].as_str().unwrap();
    assert!(
        explained.starts_with("etl failed in stage load after 9.5 s"),
        "{explained}"
    );
    // The links lead somewhere.
    let logs = client.get(detail["links"]["logs"].as_str().unwrap());
    assert_eq!(logs.status, 200, "{}", logs.text());
    let metrics = client.get(detail["links"]["metrics"].as_str().unwrap());
    assert_eq!(metrics.status, 200, "{}", metrics.text());
}

#[test]
fn runs_of_the_past_are_read_from_the_store() {
    let server = Server::start_with("runs: {read_back: 1m}\n", &[]);
    let client = server.client();
    let old = write::now_ms() - 3 * 86_400_000;
    let event = |name: &str, time: i64| json!({"event": name, "time": time, "pipeline": "etl"});
    events(
        &client,
        "old",
        &[
            event("run.started", old),
            event("run.completed", old + 5_000),
        ],
    );
    let dir = server.dir();
    server.kill();
    let server = Server::start_in(dir, &[]);
    let client = server.client();
    assert!(list(&client, "").is_empty());
    let range = format!("?start={}&end={}", old / 1000 - 60, old / 1000 + 60);
    let runs = list(&client, &range);
    assert_eq!((runs.len(), &runs[0]["run_id"]), (1, &json!("old")));
    assert_eq!(runs[0]["duration_ms"], 5_000.0);
    let range = format!("?start={}&end={}", old / 1000 - 7200, old / 1000 - 3600);
    assert!(list(&client, &range).is_empty());
    let detail = client.get("/api/v1/runs/old").json();
    assert_eq!(detail["state"], "succeeded");
}

#[test]
fn bad_requests_are_refused_and_nothing_grows() {
    let server = Server::start(&["--write-body-max=256KiB"]);
    let client = server.client();
    for (path, body, status) in [
        ("/api/v1/runs/r/events", "", 400),
        ("/api/v1/runs/r/events", "{", 400),
        ("/api/v1/runs/r/events", "[]", 400),
        ("/api/v1/runs/r/events", "{\"event\":\"\"}", 400),
        (
            "/api/v1/runs/r/events",
            "{\"event\":\"a\",\"time\":\"soon\"}",
            400,
        ),
        ("/api/v1/runs/r%00x/events", "{\"event\":\"a\"}", 400),
    ] {
        let answer = post(&client, path, body);
        assert_eq!(answer.status, status, "{body}: {}", answer.text());
    }
    let large = format!("{{\"event\":\"a\",\"x\":\"{}\"}}", "x".repeat(300_000));
    assert_eq!(post(&client, "/api/v1/runs/r/events", &large).status, 413);
    let long = format!("/api/v1/runs/{}/events", "r".repeat(300));
    assert_eq!(post(&client, &long, "{\"event\":\"a\"}").status, 400);
    for query in ["?state=odd", "?start=soon", "?start=5&end=4", "?limit=x"] {
        let answer = client.get(&format!("/api/v1/runs{query}"));
        assert_eq!(answer.status, 400, "{query}: {}", answer.text());
    }
    assert_eq!(client.get("/api/v1/runs/nobody").status, 404);
    let answer = post(
        &client,
        "/api/v1/runs/r/events",
        "{\"event\":\"run.started\"}\nx",
    );
    assert_eq!((answer.status, &answer.json()["refused"]), (200, &json!(1)));

    // A flood of runs and stages: the book stays in its bounds.
    for nth in 0..20 {
        let many: Vec<Value> = (0..500)
            .map(|n| {
                json!({"attributes": [
                {"key": "run.id", "value": {"stringValue": format!("flood-{nth}-{n}")}},
                {"key": "task.name", "value": {"stringValue": format!("{n}{}", "s".repeat(100))}}],
                "eventName": "stage.started", "timeUnixNano": at(write::now_ms())})
            })
            .collect();
        let body = json!({"resourceLogs": [{"scopeLogs": [{"logRecords": many}]}]});
        let answer = post(&client, "/v1/logs", &body.to_string());
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    assert_eq!(list(&client, "?limit=0").len(), 10_000);
    assert!(list(&client, "?state=running&limit=5").len() == 5);
}

/// The data lines of a stream of events.
fn follow(address: &str, path: &str) -> impl Iterator<Item = Value> {
    let mut stream = TcpStream::connect(address).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(30)))
        .unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
    let lines = BufReader::new(stream).lines().map_while(Result::ok);
    lines.filter_map(|line| serde_json::from_str(line.strip_prefix("data: ")?).ok())
}

#[test]
fn changes_are_told_live() {
    let server = Server::start(&[]);
    let client = server.client();
    events(
        &client,
        "before",
        &[json!({"event": "run.started", "pipeline": "etl"})],
    );
    events(
        &client,
        "other",
        &[json!({"event": "run.started", "pipeline": "else"})],
    );
    list(&client, "");
    let mut told = follow(server.address(), "/api/v1/runs/live?pipeline=etl");
    assert_eq!(told.next().unwrap()["run_id"], "before");
    events(
        &client,
        "before",
        &[json!({"event": "run.failed", "error": "x"})],
    );
    events(&client, "other", &[json!({"event": "run.completed"})]);
    let failed = told.next().unwrap();
    assert_eq!(
        (&failed["run_id"], &failed["state"]),
        (&json!("before"), &json!("failed"))
    );
    events(
        &client,
        "after",
        &[json!({"event": "run.queued", "pipeline": "etl"})],
    );
    let queued = told.next().unwrap();
    assert_eq!(
        (&queued["run_id"], &queued["state"]),
        (&json!("after"), &json!("queued"))
    );
}
