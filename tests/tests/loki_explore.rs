//! What Grafana's Explore and Logs Drilldown ask of Loki's API besides queries; deletion; the older
//! names; and the patterns of real lines, where the shared conformance data are.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::path::PathBuf;

use chronolith_tests::http::encode;
use chronolith_tests::{Answer, Client, Server, write};
use serde_json::{Value, json};

const SECOND_NS: i64 = 1_000_000_000;
const JSON: (&str, &str) = ("content-type", "application/json");

fn push(client: &Client, streams: &Value) {
    let body = json!({ "streams": streams }).to_string();
    let answer = client.request("POST", "/loki/api/v1/push", &[JSON], body.as_bytes());
    assert_eq!(answer.status, 204, "{}", answer.text());
}

fn ask(client: &Client, path: &str, params: &[(&str, &str)]) -> Answer {
    let pairs: Vec<String> = params
        .iter()
        .map(|(name, value)| format!("{name}={}", encode(value)))
        .collect();
    client.get(&format!("{path}?{}", pairs.join("&")))
}

fn found(client: &Client, path: &str, params: &[(&str, &str)]) -> Value {
    let answer = ask(client, path, params);
    assert_eq!(answer.status, 200, "{path}: {}", answer.text());
    answer.json()
}

/// Lines of two services, one a second, the last one now; answers the time of the first, ns.
fn fill(client: &Client) -> i64 {
    let start = (write::now_ms() / 1000 - 59) * SECOND_NS;
    let time = |second: i64| (start + second * SECOND_NS).to_string();
    let api: Vec<Value> = (0..60)
        .map(|second| {
            let line = format!(
                "{{\"status\":{},\"took\":\"{second}ms\",\"user\":{{\"name\":\"u{}\"}},\"ok\":true}}",
                200 + second % 2,
                second % 3
            );
            json!([time(second), line, {"pod_id": format!("p{}", second % 4)}])
        })
        .collect();
    let db: Vec<Value> = (0..60)
        .map(|second| {
            json!([
                time(second),
                format!("level=info slow query took {second}ms")
            ])
        })
        .collect();
    push(
        client,
        &json!([
            {"stream": {"app": "api", "zone": "7"}, "values": api},
            {"stream": {"app": "db"}, "values": db},
        ]),
    );
    start
}

#[test]
fn grafana_finds_its_way_around() {
    let server = Server::start(&["--enable-admin-api"]);
    let client = server.client();
    let start = fill(&client).to_string();
    let all = [("query", r#"{app=~".+"}"#), ("start", start.as_str())];
    let bytes_of_all = found(&client, "/loki/api/v1/index/stats", &all)["bytes"]
        .as_u64()
        .unwrap();
    for sealed in [false, true] {
        if sealed {
            assert_eq!(client.post_form("/flush", &[]).status, 204);
        }
        let stats = found(
            &client,
            "/loki/api/v1/index/stats",
            &[("query", r#"{app="db"}"#), ("start", &start)],
        );
        assert_eq!(
            (&stats["streams"], &stats["entries"]),
            (&json!(1), &json!(60))
        );
        // `level=info slow query took 0ms` and so on; of a part of a sealed block it is the part's share.
        let bytes = stats["bytes"].as_u64().unwrap();
        assert!(
            if sealed {
                bytes > 0
            } else {
                bytes == 10 * 30 + 50 * 31
            },
            "{bytes}"
        );
        assert!(stats["chunks"].as_u64().unwrap() >= 1);

        let range = [("start", start.as_str()), ("query", r#"{app=~".+"}"#)];
        let with = |more: &[(&'static str, &'static str)]| [&range[..], more].concat();
        let volume = found(
            &client,
            "/loki/api/v1/index/volume",
            &with(&[("targetLabels", "app")]),
        );
        let series = volume["data"]["result"].as_array().unwrap();
        assert_eq!(series.len(), 2);
        assert_eq!(series[0]["metric"], json!({"app": "api"}));
        let sum: u64 = series
            .iter()
            .map(|s| s["value"][1].as_str().unwrap().parse::<u64>().unwrap())
            .sum();
        assert_eq!(sum, bytes_of_all, "sealed: {sealed}");
        let labels = with(&[("aggregateBy", "labels"), ("targetLabels", "app,zone")]);
        let volume = found(&client, "/loki/api/v1/index/volume", &labels);
        let names: Vec<&Value> = volume["data"]["result"]
            .as_array()
            .unwrap()
            .iter()
            .map(|s| &s["metric"])
            .collect();
        assert_eq!(names, [&json!({"app": ""}), &json!({"zone": ""})]);
        let by_time = found(
            &client,
            "/loki/api/v1/index/volume_range",
            &with(&[("step", "20s")]),
        );
        let values = by_time["data"]["result"][1]["values"].as_array().unwrap();
        assert_eq!(
            (by_time["data"]["resultType"].as_str(), values.len()),
            (Some("matrix"), 3)
        );

        let labels = found(&client, "/loki/api/v1/detected_labels", &range);
        let expected = json!([{"label": "app", "cardinality": 2}, {"label": "service_name", "cardinality": 2}]);
        assert_eq!(
            labels["detectedLabels"], expected,
            "numbers are no labels to look around by"
        );

        let query = [("start", start.as_str()), ("query", r#"{app="api"}"#)];
        let fields = found(&client, "/loki/api/v1/detected_fields", &query);
        let field = |name: &str| {
            let all = fields["fields"].as_array().unwrap();
            all.iter()
                .find(|f| f["label"] == name)
                .cloned()
                .unwrap_or_default()
        };
        assert_eq!(field("status")["type"], "int");
        assert_eq!(field("took")["type"], "duration");
        assert_eq!(field("ok")["type"], "boolean");
        assert_eq!(field("user_name")["jsonPath"], json!(["user", "name"]));
        assert_eq!(field("user_name")["cardinality"], 3);
        assert_eq!(field("user_name")["parsers"], json!(["json"]));
        assert_eq!(field("pod_id")["parsers"], Value::Null);
        let values = found(
            &client,
            "/loki/api/v1/detected_field/user_name/values",
            &query,
        );
        assert_eq!(values["values"], json!(["u0", "u1", "u2"]));

        let patterns = found(
            &client,
            "/loki/api/v1/patterns",
            &[
                ("start", &start),
                ("query", r#"{app="db"}"#),
                ("step", "10s"),
            ],
        );
        let only = patterns["data"].as_array().unwrap();
        assert_eq!(only.len(), 1, "{patterns}");
        assert_eq!(only[0]["pattern"], "level=info slow query took <_>");
        let samples = only[0]["samples"].as_array().unwrap();
        let lines: u64 = samples.iter().map(|s| s[1].as_u64().unwrap()).sum();
        assert!(
            (6..=7).contains(&samples.len()) && lines == 60,
            "{samples:?}"
        );
        assert_eq!(samples[0][0].as_i64().unwrap() % 10, 0);
    }
    let shards = found(
        &client,
        "/loki/api/v1/index/shards",
        &[("query", r#"{app="db"}"#)],
    );
    assert_eq!(shards["shards"][0]["stats"]["entries"], 60);
}

#[test]
fn what_makes_no_sense_is_refused() {
    let server = Server::start(&[]);
    let client = server.client();
    let app = ("query", r#"{app="a"}"#);
    for (path, params) in [
        ("index/stats", vec![("query", "{app=")]),
        ("index/stats", vec![("query", r#"{app="a"} |= "b""#)]),
        ("index/stats", vec![app, ("start", "yesterday")]),
        ("index/stats", vec![app, ("start", "20"), ("end", "10")]),
        ("index/volume", vec![app, ("aggregateBy", "colour")]),
        ("index/volume", vec![app, ("limit", "-1")]),
        ("index/volume_range", vec![app, ("step", "0")]),
        ("detected_labels", vec![("query", "app")]),
        ("detected_fields", vec![]),
        ("detected_fields", vec![("query", r#"rate({app="a"}[1m])"#)]),
        ("detected_fields", vec![app, ("line_limit", "many")]),
        ("detected_field/x/values", vec![("query", "{")]),
        ("patterns", vec![]),
        ("patterns", vec![("query", r#"{app="a"} | json"#)]),
        ("patterns", vec![app, ("step", "-5s")]),
        ("tail", vec![app]),
    ] {
        let answer = ask(&client, &format!("/loki/api/v1/{path}"), &params);
        assert_eq!(answer.status, 400, "{path} {params:?}: {}", answer.text());
    }
}

#[test]
fn the_server_tells_about_itself_as_loki_does() {
    let server = Server::start(&[]);
    let client = server.client();
    assert!(client.get("/loki/api/v1/status/buildinfo").json()["version"].is_string());
    let limits = client.get("/loki/api/v1/drilldown-limits").json();
    assert_eq!(limits["pattern_ingester_enabled"], true);
    assert_eq!(limits["limits"]["max_entries_limit_per_query"], 5000);
    assert_eq!(client.get("/ready").text(), "ready\n");
    assert!(
        client
            .get("/services")
            .text()
            .contains("querier => Running")
    );
    assert!(client.get("/config").text().contains("listen: "));
    assert_eq!(client.get("/loki/api/v1/rules").status, 404);
    let rules = client.get("/prometheus/api/v1/rules").json();
    assert_eq!(rules["data"]["groups"], json!([]));
    assert_eq!(client.post_form("/flush", &[]).status, 403);
}

#[test]
fn lines_are_deleted_by_selector_and_time() {
    let server = Server::start(&["--enable-admin-api"]);
    let client = server.client();
    let start = fill(&client);
    let path = "/loki/api/v1/delete";
    let delete = |query: &str, start: &str, end: &str| {
        let form = [("query", query), ("start", start), ("end", end)];
        let answer = client.post_form(path, &form);
        (answer.status, answer.text())
    };
    let (from, until) = (start.to_string(), (start + 29 * SECOND_NS).to_string());
    for (query, start, end) in [
        ("", from.as_str(), until.as_str()),
        ("{}", &from, &until),
        (r#"{app="db"}"#, "", &until),
        (r#"{app="db"}"#, &until, &from),
        (r#"{app="db"}"#, &from, "9000000000"),
    ] {
        assert_eq!(delete(query, start, end).0, 400, "{query} {start} {end}");
    }
    let (status, text) = delete(r#"{app="db"} |= "slow""#, &from, &until);
    assert!(
        status == 400 && text.contains("only whole streams"),
        "{text}"
    );
    assert_eq!(delete(r#"{app="db"}"#, &from, &until).0, 204);
    let count = |app: &str| {
        let query = format!("{{app=\"{app}\"}}");
        let stats = found(
            &client,
            "/loki/api/v1/index/stats",
            &[("query", &query), ("start", &from)],
        );
        stats["entries"].as_u64().unwrap()
    };
    assert_eq!((count("db"), count("api")), (30, 60));
    let listed = client.get(path).json();
    assert_eq!(listed[0]["query"], r#"{app="db"}"#);
    assert_eq!(listed[0]["status"], "processed");
    let id = listed[0]["request_id"].as_str().unwrap();
    let cancel = |id: &str| client.request("DELETE", &format!("{path}?request_id={id}"), &[], b"");
    assert_eq!((cancel(id).status, cancel("x").status), (400, 404));
    let other = client.request("GET", path, &[("x-scope-orgid", "other")], b"");
    assert_eq!(other.json(), json!([]));
    let closed = Server::start(&[]);
    assert_eq!(closed.client().get(path).status, 403);
}

#[test]
fn older_names_answer_in_older_shapes() {
    let server = Server::start(&[]);
    let client = server.client();
    let start = fill(&client).to_string();
    let names = found(&client, "/api/prom/label", &[("start", &start)]);
    assert_eq!(names["values"], json!(["app", "service_name", "zone"]));
    let values = found(&client, "/api/prom/label/app/values", &[("start", &start)]);
    assert_eq!(values["values"], json!(["api", "db"]));
    let query = [
        ("query", r#"{app="db"}"#),
        ("start", start.as_str()),
        ("limit", "1"),
        ("direction", "forward"),
    ];
    let lines = found(&client, "/api/prom/query", &query);
    let stream = &lines["streams"][0];
    assert!(
        stream["labels"]
            .as_str()
            .unwrap()
            .starts_with(r#"{app="db", service_name="db""#),
        "{stream}"
    );
    assert_eq!(
        stream["entries"][0]["line"],
        "level=info slow query took 0ms"
    );
    assert!(stream["entries"][0]["ts"].as_str().unwrap().ends_with('Z'));
    let metric = ask(
        &client,
        "/api/prom/query",
        &[("query", r#"rate({app="db"}[1m])"#)],
    );
    assert_eq!(metric.status, 400);
    let series = found(
        &client,
        "/api/prom/series",
        &[("match[]", r#"{app="db"}"#), ("start", &start)],
    );
    assert_eq!(series["data"].as_array().unwrap().len(), 1);
}

fn pattern_lines() -> Option<PathBuf> {
    let shared = std::env::var_os("CHRONOLITH_SHARED").map_or_else(
        || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared"),
        PathBuf::from,
    );
    let folder = shared.join("conformance/logs_traces/loki/pattern_lines");
    folder.is_dir().then_some(folder)
}

#[test]
fn patterns_of_real_lines_are_filters_that_find_them() {
    let Some(folder) = pattern_lines() else {
        println!("skipped: no shared conformance data");
        return;
    };
    let server = Server::start(&["--enable-admin-api"]);
    let client = server.client();
    let now = write::now_ms() / 1000 * SECOND_NS;
    for file in std::fs::read_dir(folder).unwrap() {
        let path = file.unwrap().path();
        let app = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let text = std::fs::read_to_string(&path).unwrap();
        let values: Vec<Value> = text
            .lines()
            .enumerate()
            .filter(|(_, line)| !line.is_empty())
            .map(|(index, line)| json!([(now - index as i64 * 1_000_000).to_string(), line]))
            .collect();
        let lines = values.len() as u64;
        push(
            &client,
            &json!([{"stream": {"app": app}, "values": values}]),
        );
        let query = format!("{{app=\"{app}\"}}");
        for sealed in [false, true] {
            if sealed {
                assert_eq!(client.post_form("/flush", &[]).status, 204);
            }
            let patterns = found(&client, "/loki/api/v1/patterns", &[("query", &query)]);
            let patterns = patterns["data"].as_array().unwrap();
            let count = |pattern: &Value| -> u64 {
                let samples = pattern["samples"].as_array().unwrap();
                samples.iter().map(|s| s[1].as_u64().unwrap()).sum()
            };
            assert_eq!(
                patterns.iter().map(count).sum::<u64>(),
                lines,
                "{app} sealed: {sealed}"
            );
            assert!(
                patterns.len() as u64 * 3 < lines,
                "{app}: {} patterns",
                patterns.len()
            );
            for pattern in patterns.iter().take(3) {
                let text = pattern["pattern"].as_str().unwrap();
                let filter = Value::from(text);
                let counted = format!("sum(count_over_time({query} |> {filter} [1h]))");
                let end = (now + SECOND_NS).to_string();
                let answer = found(
                    &client,
                    "/loki/api/v1/query",
                    &[("query", &counted), ("time", &end)],
                );
                let hits = answer["data"]["result"][0]["value"][1]
                    .as_str()
                    .unwrap_or("0");
                let hits: u64 = hits.parse().unwrap();
                assert!(
                    hits >= count(pattern),
                    "{app} sealed: {sealed}: {hits} of {text}"
                );
            }
        }
    }
}
