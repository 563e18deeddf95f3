//! Jaeger's API: what its user interface and Grafana's data source ask, and what they must not be able to do.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::path::PathBuf;

use chronolith_tests::{Answer, Client, Server};
use serde_json::{Value, json};

/// Microseconds: when the first trace begins.
const T: i64 = 1_700_000_000_000_000;

fn text(key: &str, value: &str) -> Value {
    json!({"key": key, "value": {"stringValue": value}})
}

/// A span by one-digit ids, starting and ending so many milliseconds after [`T`].
fn span(id: u8, parent: u8, name: &str, start_ms: i64, end_ms: i64, more: Value) -> Value {
    let ns = |ms: i64| ((T + 1000 * ms) * 1000).to_string();
    let mut span = json!({"traceId": "0af7651916cd43dd8448eb211c80319c", "spanId": format!("{id:016x}"), "name": name,
        "startTimeUnixNano": ns(start_ms), "endTimeUnixNano": ns(end_ms)});
    if parent > 0 {
        span["parentSpanId"] = json!(format!("{parent:016x}"));
    }
    for (key, value) in more.as_object().unwrap() {
        span[key] = value.clone();
    }
    span
}

fn resource_spans(service: &str, spans: Value) -> Value {
    let host = text("host.name", &format!("{service}-1"));
    json!({"resource": {"attributes": [text("service.name", service), host]},
        "scopeSpans": [{"scope": {"name": "lib", "version": "1.2"}, "spans": spans}]})
}

fn send(client: &Client, body: &Value) {
    let json = [("content-type", "application/json")];
    let answer = client.request("POST", "/v1/traces", &json, body.to_string().as_bytes());
    assert_eq!((answer.status, answer.text().as_str()), (200, "{}"));
}

/// shop `GET /` (1) > shop `query` (2), pay `charge` (3, failed, its clock ahead) > pay `bank` (4, ends
/// before it starts); pay `lost` (5), whose parent is not there.
fn shop(client: &Client) {
    let attributes = json!([
        {"key": "http.status", "value": {"intValue": "500"}},
        {"key": "amount", "value": {"doubleValue": 9.5}},
        {"key": "big", "value": {"intValue": "9007199254740993"}},
        {"key": "ok", "value": {"boolValue": false}},
        {"key": "raw", "value": {"bytesValue": "AAE="}},
        {"key": "list", "value": {"arrayValue": {"values": [{"intValue": "1"}, {"stringValue": "b"}]}}},
    ]);
    let failed = json!({"kind": 2, "attributes": attributes, "status": {"code": 2, "message": "no money"}, "traceState": "a=b",
        "events": [{"timeUnixNano": (T * 1000 + 5_000_000).to_string(), "name": "exception", "attributes": [text("type", "Broke")]}],
        "links": [{"traceId": "00000000000000000000000000000009", "spanId": "0000000000000008", "attributes": []}]});
    send(
        client,
        &json!({"resourceSpans": [
            resource_spans("shop", json!([
                span(1, 0, "GET /", 0, 200, json!({"kind": 2})),
                span(2, 1, "query", 10, 30, json!({"kind": 3})),
            ])),
            resource_spans("pay", json!([
                span(3, 1, "charge", -5, 95, failed),
                span(4, 3, "bank", 60, 50, json!({})),
            ])),
        ]}),
    );
    let lost = json!({"traceId": "0000000000000000000000000000001f"});
    let lost = resource_spans("pay", json!([span(5, 99, "lost", 70, 80, lost)]));
    send(client, &json!({"resourceSpans": [lost]}));
}

fn get(client: &Client, path: &str) -> Value {
    let answer = client.get(&format!("/jaeger/api/{path}"));
    assert_eq!(answer.status, 200, "{path}: {}", answer.text());
    answer.json()
}

fn data(client: &Client, path: &str) -> Value {
    let answer = get(client, path);
    assert_eq!(answer["errors"], Value::Null, "{path}");
    answer["data"].clone()
}

fn names(traces: &Value) -> Vec<&str> {
    let traces = traces.as_array().unwrap().iter();
    traces
        .map(|trace| trace["traceID"].as_str().unwrap())
        .collect()
}

const SHOP: &str = "0af7651916cd43dd8448eb211c80319c";

#[test]
fn services_searches_and_dependencies() {
    let server = Server::start(&["--retention", "0"]);
    let client = server.client();
    assert_eq!(get(&client, "services")["data"], json!([]));
    shop(&client);
    let services = get(&client, "services");
    assert_eq!(services["data"], json!(["pay", "shop"]));
    assert_eq!(
        (&services["total"], &services["limit"]),
        (&json!(2), &json!(0))
    );
    let operations = data(&client, "services/pay/operations");
    assert_eq!(operations, json!(["bank", "charge", "lost"]));
    let operations = data(&client, "operations?service=pay&spanKind=server");
    assert_eq!(
        operations,
        json!([{"name": "charge", "spanKind": "server"}])
    );
    let operations = data(&client, "operations?service=shop");
    assert_eq!(
        operations[1],
        json!({"name": "query", "spanKind": "client"})
    );

    let times = format!("&start={}&end={}", T - 1_000_000, T + 1_000_000);
    for (search, expected) in [
        ("service=shop", vec![SHOP]),
        ("service=pay", vec!["000000000000001f", SHOP]),
        ("service=pay&limit=1", vec!["000000000000001f"]),
        ("service=pay&operation=charge", vec![SHOP]),
        (
            "service=pay&tags={\"http.status\":\"500\",\"type\":\"Broke\"}",
            vec![SHOP],
        ),
        ("service=pay&tag=error:true&tag=host.name:pay-1", vec![SHOP]),
        ("service=pay&minDuration=90ms&maxDuration=1m", vec![SHOP]),
        ("service=shop&minDuration=1s", vec![]),
        ("service=nobody", vec![]),
    ] {
        let search_text = search.replace('{', "%7B").replace('"', "%22");
        let found = data(&client, &format!("traces?{search_text}{times}"));
        assert_eq!(names(&found), expected, "{search}");
    }
    let before = format!("traces?service=shop&end={}&lookback=1h", T - 1);
    assert_eq!(data(&client, &before), json!([]));
    let by_id = get(
        &client,
        &format!("traces?traceID={SHOP}&traceID=1F&traceID=77"),
    );
    assert_eq!(names(&by_id["data"]), [SHOP, "000000000000001f"]);
    let missing = json!([{"msg": "trace not found", "traceID": "0000000000000077"}]);
    assert_eq!(by_id["errors"], missing);

    let end_ms = T / 1000 + 60_000;
    let edges = data(
        &client,
        &format!("dependencies?endTs={end_ms}&lookback=3600000"),
    );
    assert_eq!(
        edges,
        json!([{"parent": "shop", "child": "pay", "callCount": 1}])
    );
    let edges = format!("dependencies?endTs={end_ms}&lookback=3600000&service=other");
    assert_eq!(data(&client, &edges), json!([]));
}

#[test]
fn a_trace_is_shown_whole() {
    let server = Server::start(&["--retention", "0"]);
    let client = server.client();
    shop(&client);
    let traces = data(&client, &format!("traces/{SHOP}"));
    let trace = &traces[0];
    assert_eq!(trace["traceID"], SHOP);
    let spans = trace["spans"].as_array().unwrap();
    let order: Vec<_> = spans
        .iter()
        .map(|span| span["operationName"].as_str().unwrap())
        .collect();
    assert_eq!(order, ["charge", "GET /", "query", "bank"]);
    let charge = &spans[0];
    assert_eq!(
        charge["references"],
        json!([
            {"refType": "CHILD_OF", "traceID": SHOP, "spanID": "0000000000000001"},
            {"refType": "FOLLOWS_FROM", "traceID": "0000000000000009", "spanID": "0000000000000008"},
        ])
    );
    assert_eq!(
        (&charge["startTime"], &charge["duration"]),
        (&json!(T - 5000), &json!(100_000))
    );
    assert_eq!(
        charge["tags"],
        json!([
            {"key": "otel.scope.name", "type": "string", "value": "lib"},
            {"key": "otel.scope.version", "type": "string", "value": "1.2"},
            {"key": "http.status", "type": "int64", "value": 500},
            {"key": "amount", "type": "float64", "value": 9.5},
            {"key": "big", "type": "int64", "value": "9007199254740993"},
            {"key": "ok", "type": "bool", "value": false},
            {"key": "raw", "type": "binary", "value": "AAE="},
            {"key": "list", "type": "string", "value": "[1,\"b\"]"},
            {"key": "error", "type": "bool", "value": true},
            {"key": "span.kind", "type": "string", "value": "server"},
            {"key": "otel.status_code", "type": "string", "value": "ERROR"},
            {"key": "otel.status_description", "type": "string", "value": "no money"},
            {"key": "w3c.tracestate", "type": "string", "value": "a=b"},
        ])
    );
    assert_eq!(
        charge["logs"],
        json!([{"timestamp": T + 5000, "fields": [
            {"key": "event", "type": "string", "value": "exception"}, {"key": "type", "type": "string", "value": "Broke"}]}])
    );
    let process = &trace["processes"][charge["processID"].as_str().unwrap()];
    let host = json!([{"key": "host.name", "type": "string", "value": "pay-1"}]);
    assert_eq!(process, &json!({"serviceName": "pay", "tags": host}));
    let skew = "clock skew adjustment disabled; not applying calculated delta of 55ms";
    assert_eq!(charge["warnings"], json!([skew]));
    assert_eq!(spans[1]["warnings"], Value::Null);
    let bank = &spans[3];
    let backwards = "span ends 10ms before it starts; shown with a duration of 0";
    assert_eq!(
        (&bank["duration"], &bank["warnings"]),
        (&json!(0), &json!([backwards]))
    );
    let lost = data(&client, "traces/1f");
    let words = lost[0]["spans"][0]["warnings"][0].as_str().unwrap();
    assert!(
        words.contains("0000000000000063 is not in the trace"),
        "{words}"
    );
    let raw = data(&client, &format!("traces/{SHOP}?raw=true"));
    assert_eq!(raw[0]["spans"][3]["warnings"], Value::Null);
}

#[test]
fn halves_of_a_call_get_ids_of_their_own() {
    let server = Server::start(&["--retention", "0"]);
    let client = server.client();
    let body = json!([
        {"traceId": "a1", "id": "1", "name": "call", "kind": "CLIENT", "timestamp": T, "duration": 900, "localEndpoint": {"serviceName": "web"}},
        {"traceId": "a1", "id": "1", "name": "serve", "kind": "SERVER", "shared": true, "timestamp": T + 100, "duration": 500,
            "localEndpoint": {"serviceName": "api"}},
        {"traceId": "a1", "id": "2", "parentId": "1", "name": "sql", "timestamp": T + 200, "duration": 100, "localEndpoint": {"serviceName": "api"}},
    ]);
    let answer = client.request("POST", "/api/v2/spans", &[], body.to_string().as_bytes());
    assert_eq!(answer.status, 202, "{}", answer.text());
    let traces = data(&client, "traces/a1");
    let spans = traces[0]["spans"].as_array().unwrap();
    let ids: Vec<_> = spans
        .iter()
        .map(|span| span["spanID"].as_str().unwrap())
        .collect();
    assert_eq!(
        ids,
        ["0000000000000001", "0000000000000003", "0000000000000002"]
    );
    assert_eq!(spans[1]["references"][0]["spanID"], ids[0]);
    assert_eq!(spans[2]["references"][0]["spanID"], ids[1]);
    let raw = data(&client, "traces/a1?raw=1");
    assert_eq!(raw[0]["spans"][1]["spanID"], ids[0]);
}

#[test]
fn the_monitor_counts_calls() {
    let server = Server::start(&["--retention", "0"]);
    let client = server.client();
    shop(&client);
    let end = T / 1000 + 60_000;
    let args =
        format!("service=shop&service=pay&endTs={end}&lookback=60000&step=60000&ratePer=120000");
    let calls = get(&client, &format!("metrics/calls?{args}"));
    assert_eq!(
        (&calls["name"], &calls["type"]),
        (&json!("service_call_rate"), &json!("GAUGE"))
    );
    let metric = &calls["metrics"][0];
    assert_eq!(
        metric["labels"],
        json!([{"name": "service_name", "value": "pay"}])
    );
    let point =
        json!({"gaugeValue": {"doubleValue": 1.0 / 120.0}, "timestamp": "2023-11-14T22:14:20Z"});
    assert_eq!(metric["metricPoints"][1], point);
    let errors = get(
        &client,
        &format!("metrics/errors?{args}&groupByOperation=true"),
    );
    assert_eq!(errors["name"], "service_operation_error_rate");
    let labels =
        json!([{"name": "operation", "value": "charge"}, {"name": "service_name", "value": "pay"}]);
    assert_eq!(errors["metrics"][0]["labels"], labels);
    assert_eq!(
        errors["metrics"][0]["metricPoints"][0]["gaugeValue"]["doubleValue"],
        1.0
    );
    let latencies = get(&client, &format!("metrics/latencies?{args}&quantile=0.95"));
    let ms = latencies["metrics"][1]["metricPoints"][0]["gaugeValue"]["doubleValue"]
        .as_f64()
        .unwrap();
    assert!((190.0..=210.0).contains(&ms), "{ms}");
    assert_eq!(data(&client, "metrics/minstep"), json!(1));
}

#[test]
fn version_3_speaks_opentelemetry() {
    let server = Server::start(&["--retention", "0"]);
    let client = server.client();
    shop(&client);
    assert_eq!(
        get(&client, "v3/services"),
        json!({"services": ["pay", "shop"]})
    );
    let operations = get(&client, "v3/operations?service=pay&span_kind=server");
    assert_eq!(
        operations,
        json!({"operations": [{"name": "charge", "spanKind": "server"}]})
    );
    let trace = get(&client, &format!("v3/traces/{SHOP}"));
    let spans = &trace["result"]["resourceSpans"][0];
    assert_eq!(
        spans["resource"]["attributes"][0],
        text("service.name", "pay")
    );
    let charge = &spans["scopeSpans"][0]["spans"][0];
    assert_eq!(
        (&charge["traceId"], &charge["kind"]),
        (&json!(SHOP), &json!(2))
    );
    assert_eq!(charge["status"], json!({"message": "no money", "code": 2}));
    assert_eq!(
        charge["attributes"][4],
        json!({"key": "raw", "value": {"bytesValue": "AAE="}})
    );
    let times =
        "query.start_time_min=2023-11-14T22:00:00Z&query.start_time_max=2023-11-14T23:00:00Z";
    let query = format!("query.service_name=pay&query.duration_min=50ms&{times}");
    let found = get(&client, &format!("v3/traces?{query}"));
    assert_eq!(
        found["result"]["resourceSpans"].as_array().unwrap().len(),
        2
    );
    let summaries = get(&client, &format!("v3/trace-summaries?{query}"));
    let summary = &summaries["summaries"][0];
    assert_eq!(
        (&summary["rootServiceName"], &summary["spanCount"]),
        (&json!("shop"), &json!(4))
    );
    assert_eq!(
        summary["services"][0],
        json!({"name": "pay", "spanCount": 2, "errorSpanCount": 1})
    );
    for (path, status) in [
        ("v3/traces/123".to_owned(), 404),
        ("v3/traces/xyz".to_owned(), 400),
        (format!("v3/traces?query.service_name=x&{times}"), 404),
        ("v3/traces?query.service_name=pay".to_owned(), 400),
        (format!("v3/traces?query.search_depth=-1&{times}"), 400),
    ] {
        let answer = client.get(&format!("/jaeger/api/{path}"));
        assert_eq!(answer.status, status, "{path}");
        assert_eq!(answer.json()["error"]["httpCode"], status, "{path}");
    }
}

#[test]
fn what_a_trace_waited_for() {
    let server = Server::start(&["--retention", "0"]);
    let client = server.client();
    shop(&client);
    let answer = client.get(&format!("/api/v1/traces/{SHOP}")).json();
    let trace = &answer["data"];
    assert_eq!(
        (&trace["rootService"], &trace["rootName"]),
        (&json!("shop"), &json!("GET /"))
    );
    let first = &trace["spans"][0];
    assert_eq!(
        (&first["name"], &first["depth"]),
        (&json!("GET /"), &json!(0))
    );
    // 200 ms without the 95 in which charge ran.
    assert_eq!(
        (&first["selfTimeNano"], &first["criticalPathNano"]),
        (&json!(105_000_000), &json!(105_000_000))
    );
    let path = trace["criticalPath"].as_array().unwrap();
    let names: Vec<_> = path
        .iter()
        .map(|piece| piece["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["charge", "GET /"]);
    assert_eq!(trace["services"][0]["errorCount"], 1);
    assert_eq!(client.get("/api/v1/traces/77").status, 404);
    assert_eq!(client.get("/api/v1/traces/seven").status, 400);
}

#[test]
fn hostile_questions_are_refused_in_the_envelope() {
    let server = Server::start(&["--retention", "0"]);
    let client = server.client();
    shop(&client);
    let nested = format!("traces?service=a&tags={}", "%7B%22a%22%3A".repeat(500));
    let long = format!("traces/{}", "f".repeat(33));
    for (path, status, words) in [
        ("traces", 400, "parameter 'service' is required"),
        ("traces?service=a&limit=99999999999999999999", 400, "limit"),
        ("traces?service=a&limit=-1", 400, "limit"),
        ("traces?service=a&minDuration=banana", 400, "minDuration"),
        ("traces?service=a&tags=%5B%5D", 400, "tags"),
        ("traces?service=a&tag=novalue", 400, "key:value"),
        ("traces?service=a&start=%ff", 400, "UTF-8"),
        (&nested, 400, "tags"),
        ("traces/zzz", 400, "hexadecimal"),
        ("traces/0", 400, "hexadecimal"),
        (&long, 400, "at most 32"),
        ("traces/1234", 404, "trace not found"),
        ("operations", 400, "service"),
        ("operations?service=a&spanKind=big", 400, "span kind"),
        ("dependencies?endTs=now", 400, "endTs"),
        ("dependencies?lookback=-1", 400, "lookback"),
        ("metrics/latencies?service=a", 400, "quantile"),
        ("metrics/latencies?service=a&quantile=NaN", 400, "quantile"),
        ("metrics/calls", 400, "service"),
        ("metrics/calls?service=a&step=0", 400, "step"),
        (
            "metrics/calls?service=a&step=1&lookback=99999999999",
            400,
            "at most",
        ),
        (
            "metrics/calls?service=a&endTs=9223372036854775807",
            400,
            "out of range",
        ),
    ] {
        let answer: Answer = client.get(&format!("/jaeger/api/{path}"));
        let shown: String = path.chars().take(60).collect();
        assert_eq!(answer.status, status, "{shown}: {}", answer.text());
        let error = &answer.json()["errors"][0];
        assert_eq!(error["code"], status, "{shown}");
        assert!(
            error["msg"].as_str().unwrap().contains(words),
            "{shown}: {error}"
        );
    }
    // What is not known is passed over.
    assert_eq!(client.get("/jaeger/api/services?what=ever").status, 200);
    let stranger = client.clone().with_header("x-scope-orgid", "other");
    assert_eq!(
        stranger.get("/jaeger/api/services").json()["data"],
        json!([])
    );
    let nobody = client.with_header("x-scope-orgid", "/");
    assert_eq!(
        nobody.get("/jaeger/api/services").json()["errors"][0]["code"],
        400
    );
}

#[test]
fn questions_are_queries_like_others() {
    let server = Server::start(&["--retention", "0", "--query-memory-max", "1KiB"]);
    let client = server.client();
    shop(&client);
    assert_eq!(client.get("/jaeger/api/services").status, 200);
    // A trace takes more than may be held: refused, not the end of anything.
    for path in [
        format!("/jaeger/api/traces/{SHOP}"),
        format!("/tempo/api/traces/{SHOP}"),
        format!("/zipkin/api/v2/trace/{SHOP}"),
    ] {
        let answer = client.get(&path);
        assert_eq!(answer.status, 422, "{path}: {}", answer.text());
        assert!(answer.text().contains("1024 bytes"), "{}", answer.text());
    }

    let server = Server::start(&[]);
    let client = server.client();
    for path in [
        "/jaeger/api/services",
        "/jaeger/api/traces/77",
        "/tempo/api/traces/77",
        "/zipkin/api/v2/trace/77",
    ] {
        client.get(path);
    }
    let sql = "select language, state from system.queries where language <> 'sql' order by id";
    let body = json!({"query": sql}).to_string();
    let json = [("content-type", "application/json")];
    let answer = client.request("POST", "/api/v1/sql", &json, body.as_bytes());
    let expected = json!([
        ["jaeger", "finished"],
        ["jaeger", "failed"],
        ["traceql", "failed"],
        ["zipkin", "failed"],
    ]);
    assert_eq!(answer.json()["rows"], expected, "{}", answer.text());
}

/// Jaeger's own searches with the traces that each must find, out of a public kit that lies beside the
/// repository (see `docs/api/jaeger.md`).
#[test]
fn searches_of_the_kit_find_their_traces() {
    let shared = std::env::var_os("CHRONOLITH_SHARED").map_or_else(
        || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared"),
        PathBuf::from,
    );
    let kit = shared.join("conformance/logs_traces/jaeger");
    let Ok(queries) = std::fs::read_to_string(kit.join("queries.json")) else {
        return eprintln!("skipped: no {}", kit.display());
    };
    let server = Server::start(&["--retention", "0"]);
    let client = server.client();
    for file in std::fs::read_dir(kit.join("traces")).unwrap() {
        let body = std::fs::read(file.unwrap().path()).unwrap();
        let json = [("content-type", "application/json")];
        let answer = client.request("POST", "/v1/traces", &json, &body);
        assert_eq!((answer.status, answer.text().as_str()), (200, "{}"));
    }
    let queries: Value = serde_json::from_str(&queries).unwrap();
    for case in queries.as_array().unwrap() {
        let query = &case["Query"];
        let us = |name: &str| {
            let text = query[name].as_str().unwrap();
            // All times of the kit are of one day.
            let clock = text
                .strip_prefix("2017-01-26T")
                .unwrap()
                .strip_suffix('Z')
                .unwrap();
            let parts: Vec<&str> = clock.split([':', '.']).collect();
            let n = |place: usize| parts[place].parse::<i64>().unwrap();
            (1_485_388_800 + 3600 * n(0) + 60 * n(1) + n(2)) * 1_000_000 + n(3)
        };
        let mut form = vec![
            ("service", query["ServiceName"].as_str().unwrap().to_owned()),
            (
                "operation",
                query["OperationName"].as_str().unwrap().to_owned(),
            ),
            ("start", us("StartTimeMin").to_string()),
            ("end", us("StartTimeMax").to_string()),
            ("limit", query["NumTraces"].to_string()),
        ];
        for (name, key) in [
            ("minDuration", "DurationMin"),
            ("maxDuration", "DurationMax"),
        ] {
            form.push((name, format!("{}ns", query[key])));
        }
        if let Some(tags) = query["Tags"].as_object() {
            form.push(("tags", serde_json::to_string(tags).unwrap()));
        }
        let args: Vec<_> = form
            .iter()
            .map(|(name, value)| format!("{name}={}", encoded(value)))
            .collect();
        let found = data(&client, &format!("traces?{}", args.join("&")));
        let mut expected: Vec<String> = Vec::new();
        for fixture in case["ExpectedFixtures"].as_array().unwrap() {
            let file = format!("{}.json", fixture.as_str().unwrap());
            let trace = std::fs::read_to_string(kit.join("traces").join(file)).unwrap();
            let trace: Value = serde_json::from_str(&trace).unwrap();
            let span = &trace["resourceSpans"][0]["scopeSpans"][0]["spans"][0];
            let id = span["traceId"].as_str().unwrap();
            let id = id.strip_prefix("0000000000000000").unwrap_or(id);
            expected.push(id.to_ascii_lowercase());
        }
        let mut found = names(&found);
        found.sort_unstable();
        expected.sort_unstable();
        assert_eq!(found, expected, "{}", case["Caption"]);
    }
}

fn encoded(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}
