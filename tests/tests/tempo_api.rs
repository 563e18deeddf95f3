//! Tempo's API and Zipkin's reads: what Grafana's data sources ask.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use chronolith_tests::{Answer, Client, Server};
use serde_json::{Value, json};

/// Nanoseconds: when the trace begins.
const T: i64 = 1_700_000_000_000_000_000;
const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";

fn text(key: &str, value: &str) -> Value {
    json!({"key": key, "value": {"stringValue": value}})
}

/// Trace 1: shop `GET /` > pay `charge` (failed, 100 ms); trace 2: batch `job`.
fn fill(client: &Client) {
    let ns = |ms: i64| (T + ms * 1_000_000).to_string();
    let of = |service: &str, spans: Value| json!({"resource": {"attributes": [text("service.name", service)]}, "scopeSpans": [{"scope": {"name": "lib"}, "spans": spans}]});
    let body = json!({"resourceSpans": [
        of("shop", json!([{"traceId": TRACE, "spanId": "0000000000000001", "name": "GET /", "kind": 2,
            "startTimeUnixNano": ns(0), "endTimeUnixNano": ns(200), "attributes": [text("http.method", "GET")]}])),
        of("pay", json!([{"traceId": TRACE, "spanId": "0000000000000002", "parentSpanId": "0000000000000001", "name": "charge", "kind": 2,
            "startTimeUnixNano": ns(10), "endTimeUnixNano": ns(110), "status": {"code": 2, "message": "no money"},
            "attributes": [{"key": "http.status", "value": {"intValue": "500"}}, text("peer.service", "bank")],
            "events": [{"timeUnixNano": ns(20), "name": "exception", "attributes": [text("type", "Broke")]}]}])),
        of("batch", json!([{"traceId": "0000000000000000000000000000001f", "spanId": "0000000000000003", "name": "job",
            "startTimeUnixNano": ns(1000), "endTimeUnixNano": ns(3000)}])),
    ]});
    let json = [("content-type", "application/json")];
    let answer = client.request("POST", "/v1/traces", &json, body.to_string().as_bytes());
    assert_eq!((answer.status, answer.text().as_str()), (200, "{}"));
}

fn encoded(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

fn get(client: &Client, path: &str) -> Value {
    let answer = client.get(path);
    assert_eq!(answer.status, 200, "{path}: {}", answer.text());
    answer.json()
}

fn search(client: &Client, query: &str) -> Value {
    get(client, &format!("/tempo/api/search?q={}", encoded(query)))["traces"].clone()
}

fn full() -> (Server, Client) {
    let server = Server::start(&["--retention", "0"]);
    let client = server.client();
    fill(&client);
    (server, client)
}

#[test]
fn traces_in_both_versions_and_forms() {
    let (_server, client) = full();
    let one = get(&client, &format!("/tempo/api/traces/{TRACE}"));
    let batches = one["batches"].as_array().unwrap();
    assert_eq!(batches.len(), 2);
    let charge = &batches[1]["scopeSpans"][0]["spans"][0];
    assert_eq!(
        (&charge["traceId"], &charge["parentSpanId"], &charge["kind"]),
        (
            &json!("CvdlGRbNQ92ESOshHIAxnA=="),
            &json!("AAAAAAAAAAE="),
            &json!("SPAN_KIND_SERVER")
        )
    );
    assert_eq!(
        charge["status"],
        json!({"message": "no money", "code": "STATUS_CODE_ERROR"})
    );
    assert_eq!(charge["events"][0]["attributes"][0], text("type", "Broke"));
    let two = get(&client, &format!("/tempo/api/v2/traces/{TRACE}"));
    assert_eq!(two["trace"]["resourceSpans"], one["batches"]);
    assert_eq!(two["status"], "COMPLETE");

    // The protobuf is what OTLP takes: sent back, everything is there once.
    let accept = [("accept", "application/protobuf")];
    let binary = client.request("GET", &format!("/tempo/api/traces/{TRACE}"), &accept, b"");
    assert_eq!(binary.header("content-type"), Some("application/protobuf"));
    let other = client.clone().with_header("x-scope-orgid", "other");
    let form = [("content-type", "application/x-protobuf")];
    assert_eq!(
        other
            .request("POST", "/v1/traces", &form, &binary.body)
            .status,
        200
    );
    assert_eq!(get(&other, &format!("/tempo/api/traces/{TRACE}")), one);
    let wrapped = client.request(
        "GET",
        &format!("/tempo/api/v2/traces/{TRACE}"),
        &accept,
        b"",
    );
    assert_eq!(wrapped.body.first(), Some(&0x0a));
    assert!(wrapped.body.ends_with(&binary.body));
    assert_eq!(client.get("/tempo/api/traces/1F").status, 200);
}

#[test]
fn searches_find_spans() {
    let (_server, client) = full();
    let found = search(
        &client,
        "{ status = error && span.http.status = 500 } | count() > 0",
    );
    let expected = json!([{
        "traceID": "af7651916cd43dd8448eb211c80319c", "rootServiceName": "shop", "rootTraceName": "GET /",
        "startTimeUnixNano": T.to_string(), "durationMs": 200,
        "serviceStats": {"pay": {"spanCount": 1, "errorCount": 1}, "shop": {"spanCount": 1, "errorCount": 0}},
    }]);
    for key in [
        "traceID",
        "rootServiceName",
        "rootTraceName",
        "startTimeUnixNano",
        "durationMs",
        "serviceStats",
    ] {
        assert_eq!(found[0][key], expected[0][key], "{key}");
    }
    let set = &found[0]["spanSets"][0];
    assert_eq!((&set["matched"], &found[0]["spanSet"]), (&json!(1), set));
    let span = &set["spans"][0];
    assert_eq!(
        (&span["spanID"], &span["durationNanos"]),
        (&json!("0000000000000002"), &json!("100000000"))
    );
    let attributes = span["attributes"].as_array().unwrap();
    assert!(
        attributes.contains(&json!({"key": "http.status", "value": {"intValue": "500"}})),
        "{attributes:?}"
    );
    assert_eq!(
        search(
            &client,
            "{ resource.service.name = \"shop\" } > { status = error }"
        )
        .as_array()
        .unwrap()
        .len(),
        1
    );
    assert_eq!(search(&client, "{ name = \"nothing\" }"), json!([]));
    let both = search(&client, "{}");
    assert_eq!(both[0]["traceID"], "1f");
    let tags = get(
        &client,
        &format!(
            "/tempo/api/search?tags={}&minDuration=1s",
            encoded("service.name=batch")
        ),
    );
    assert_eq!(tags["traces"][0]["rootTraceName"], "job");
    assert_eq!(tags["metrics"]["completedJobs"], 1);
    let seconds = T / 1_000_000_000;
    let early = format!(
        "/tempo/api/search?q=%7B%7D&start={}&end={}",
        seconds - 60,
        seconds - 1
    );
    assert_eq!(get(&client, &early)["traces"], json!([]));
}

#[test]
fn tags_and_their_values() {
    let (_server, client) = full();
    let scopes = get(&client, "/tempo/api/v2/search/tags")["scopes"].clone();
    let of = |name: &str| {
        let scopes = scopes.as_array().unwrap().iter();
        scopes.clone().find(|scope| scope["name"] == name).unwrap()["tags"].clone()
    };
    assert_eq!(of("resource"), json!(["service.name"]));
    assert_eq!(
        of("span"),
        json!(["http.method", "http.status", "peer.service"])
    );
    assert_eq!(of("event"), json!(["type"]));
    assert!(
        of("intrinsic")
            .as_array()
            .unwrap()
            .contains(&json!("duration"))
    );
    let filter = encoded("{ name = \"GET /\" }");
    let filtered = get(
        &client,
        &format!("/tempo/api/v2/search/tags?scope=span&q={filter}"),
    );
    assert_eq!(
        filtered["scopes"],
        json!([{"name": "span", "tags": ["http.method"]}])
    );
    let names = get(&client, "/tempo/api/search/tags")["tagNames"].clone();
    assert!(names.as_array().unwrap().contains(&json!("http.status")));
    let values = |tag: &str| {
        get(&client, &format!("/tempo/api/v2/search/tag/{tag}/values"))["tagValues"].clone()
    };
    assert_eq!(values("resource.service.name").as_array().unwrap().len(), 3);
    assert_eq!(
        values("span.http.status"),
        json!([{"type": "int", "value": "500"}])
    );
    assert_eq!(
        values("status"),
        json!([{"type": "keyword", "value": "unset"}, {"type": "keyword", "value": "error"}])
    );
    let plain = get(&client, "/tempo/api/search/tag/service.name/values");
    assert_eq!(plain["tagValues"], json!(["batch", "pay", "shop"]));
    let failed = encoded("{ status = error }");
    let of_failed = get(
        &client,
        &format!("/tempo/api/v2/search/tag/resource.service.name/values?q={failed}"),
    );
    assert_eq!(
        of_failed["tagValues"],
        json!([{"type": "string", "value": "pay"}])
    );
}

#[test]
fn metrics_have_labels_and_exemplars() {
    let (_server, client) = full();
    let seconds = T / 1_000_000_000;
    let times = format!("start={}&end={}", seconds - 60, seconds + 60);
    let query = encoded("{} | count_over_time() by (resource.service.name)");
    let range = get(
        &client,
        &format!("/tempo/api/metrics/query_range?q={query}&{times}&step=60s"),
    );
    let series = &range["series"][0];
    assert_eq!(
        series["labels"],
        json!([text("resource.service.name", "batch")])
    );
    assert_eq!(
        series["promLabels"],
        "{\"resource.service.name\"=\"batch\"}"
    );
    let total: f64 = series["samples"]
        .as_array()
        .unwrap()
        .iter()
        .map(|s| s["value"].as_f64().unwrap())
        .sum();
    assert_eq!(total, 1.0);
    assert_eq!(
        series["exemplars"][0]["labels"][0],
        text("trace:id", "0000000000000000000000000000001f")
    );
    let instant = get(
        &client,
        &format!("/tempo/api/metrics/query?q={query}&{times}"),
    );
    assert_eq!(instant["series"][2]["value"], 1.0);
    let rate = encoded("{ status = error } | rate()");
    let rate = get(
        &client,
        &format!("/tempo/api/metrics/query?q={rate}&{times}"),
    );
    assert_eq!(rate["series"][0]["promLabels"], "{__name__=\"rate\"}");
    assert_eq!(rate["series"][0]["value"], 1.0 / 120.0);
}

#[test]
fn the_data_source_finds_somebody() {
    let server = Server::start(&[]);
    let client = server.client();
    assert_eq!(client.get("/tempo/api/echo").text(), "echo");
    assert_eq!(client.get("/tempo/ready").status, 200);
    assert_eq!(
        get(&client, "/tempo/api/status/buildinfo")["application"],
        "chronolith"
    );
    assert_eq!(get(&client, "/tempo/api/overrides"), json!({}));
    assert_eq!(
        get(&client, "/tempo/api/search?q=%7B%7D")["traces"],
        json!([])
    );
}

#[test]
fn hostile_questions_are_refused_as_text() {
    let (_server, client) = full();
    let deep = format!("/tempo/api/search?q=%7B{}", "(".repeat(5_000));
    let metrics = encoded("{} | rate()");
    for (path, status, words) in [
        ("/tempo/api/traces/zzz", 400, "hexadecimal"),
        ("/tempo/api/traces/77", 404, "trace not found"),
        ("/tempo/api/v2/traces/77", 404, "trace not found"),
        ("/tempo/api/search?q=%7B", 400, "invalid TraceQL"),
        (
            "/tempo/api/search?q=%7B%20name%20%3D%201%20%7D",
            400,
            "invalid TraceQL",
        ),
        ("/tempo/api/search?q=%7B%7D&limit=100000000", 400, "limit"),
        ("/tempo/api/search?q=%7B%7D&limit=many", 400, "limit"),
        ("/tempo/api/search?q=%7B%7D&spss=-1", 400, "spss"),
        ("/tempo/api/search?q=%7B%7D&start=20&end=10", 400, "before"),
        ("/tempo/api/search?tags=novalue", 400, "key=value"),
        ("/tempo/api/search?minDuration=x", 400, "minDuration"),
        (&deep, 400, "invalid TraceQL"),
        (&format!("/tempo/api/search?q={metrics}"), 400, "not traces"),
        ("/tempo/api/v2/search/tags?scope=moon", 400, "scope"),
        ("/tempo/api/v2/search/tag/a%20b/values", 400, "tag name"),
        ("/tempo/api/metrics/query", 400, "required"),
        ("/tempo/api/metrics/query_range?q=%7B%7D", 400, "not series"),
        (
            &format!("/tempo/api/metrics/query_range?q={metrics}&step=0.000001"),
            400,
            "step",
        ),
        (
            &format!("/tempo/api/metrics/query_range?q={metrics}&start=1&end=2000000000&step=1"),
            400,
            "steps",
        ),
        (
            &format!("/tempo/api/metrics/query_range?q={metrics}&exemplars=x"),
            400,
            "exemplars",
        ),
    ] {
        let answer: Answer = client.get(path);
        let shown: String = path.chars().take(80).collect();
        assert_eq!(answer.status, status, "{shown}: {}", answer.text());
        assert!(answer.text().contains(words), "{shown}: {}", answer.text());
    }
}

#[test]
fn zipkin_reads_what_it_sent_and_what_others_did() {
    let (_server, client) = full();
    let sent = json!([{"traceId": "5b8efff798038103", "id": "00000000000000ab", "parentId": "0000000000000001", "kind": "SERVER", "name": "get",
        "timestamp": T / 1000 + 5_000_000, "duration": 1500, "localEndpoint": {"serviceName": "web", "ipv4": "10.0.0.1", "port": 80},
        "remoteEndpoint": {"serviceName": "phone", "ipv6": "::1"}, "annotations": [{"timestamp": T / 1000 + 5_000_100, "value": "ws"}],
        "tags": {"http.path": "/a"}, "shared": true}]);
    let answer = client.request(
        "POST",
        "/zipkin/api/v2/spans",
        &[],
        sent.to_string().as_bytes(),
    );
    assert_eq!(answer.status, 202, "{}", answer.text());
    let zipkin = |path: &str| get(&client, &format!("/zipkin/api/v2/{path}"));
    assert_eq!(zipkin("trace/5b8efff798038103"), sent);
    assert_eq!(zipkin("services"), json!(["batch", "pay", "shop", "web"]));
    assert_eq!(zipkin("spans?serviceName=pay"), json!(["charge"]));
    assert_eq!(zipkin("remoteServices?serviceName=pay"), json!(["bank"]));
    let keys = zipkin("autocompleteKeys");
    assert!(keys.as_array().unwrap().contains(&json!("http.path")));
    assert_eq!(zipkin("autocompleteValues?key=http.status"), json!(["500"]));
    let trace = zipkin(&format!("trace/{TRACE}"));
    let charge = &trace[1];
    assert_eq!(
        charge["tags"],
        json!({"error": "no money", "http.status": "500", "otel.scope.name": "lib"})
    );
    assert_eq!(
        charge["annotations"][0]["value"],
        "\"exception\": {\"type\":\"Broke\"}"
    );
    let end = T / 1_000_000 + 60_000;
    for (search, expected) in [
        ("serviceName=web", 1),
        ("annotationQuery=error", 1),
        ("annotationQuery=http.status%3D500%20and%20exception", 1),
        (
            "annotationQuery=ws&serviceName=web&minDuration=1000&maxDuration=2000",
            1,
        ),
        ("serviceName=web&minDuration=2000", 0),
        ("remoteServiceName=phone", 1),
        ("spanName=job", 1),
        ("spanName=all", 3),
        ("limit=2", 2),
    ] {
        let found = zipkin(&format!("traces?{search}&endTs={end}&lookback=3600000"));
        assert_eq!(found.as_array().unwrap().len(), expected, "{search}");
    }
    let many = zipkin(&format!("traceMany?traceIds={TRACE},1f,77"));
    assert_eq!(many.as_array().unwrap().len(), 2);
    let edges = zipkin(&format!("dependencies?endTs={end}&lookback=3600000"));
    assert_eq!(
        edges,
        json!([{"parent": "shop", "child": "pay", "callCount": 1}])
    );
    for (path, status) in [
        ("trace/77", 404),
        ("trace/xyz", 400),
        ("traceMany", 400),
        ("traceMany?traceIds=1,x", 400),
        ("spans", 400),
        ("traces?limit=100000000", 400),
        ("traces?minDuration=-1", 400),
        ("traces?endTs=soon", 400),
        ("autocompleteValues", 400),
    ] {
        assert_eq!(
            client.get(&format!("/zipkin/api/v2/{path}")).status,
            status,
            "{path}"
        );
    }
}
