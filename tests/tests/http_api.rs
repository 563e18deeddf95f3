//! The HTTP API endpoint by endpoint: parameters, statuses, shapes. One server answers all.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use chronolith_tests::http::encode;
use chronolith_tests::write::{bytes, double, number};
use chronolith_tests::{Answer, Client, Server, Target, write};
use serde_json::{Value, json};

const EXPOSITION: &str = "# HELP jobs Jobs that wait.\n# TYPE jobs gauge\njobs 3\n\
     # TYPE done_total counter\ndone_total 7\n";

fn config(target: &Target) -> String {
    format!(
        "cors_origins: [\"https://a.example\"]\n\
         global: {{scrape_interval: 200ms, scrape_timeout: 200ms, external_labels: {{cluster: c}}}}\n\
         scrape_configs:\n\
         - job_name: app\n\
         \x20 basic_auth: {{username: u, password: hush}}\n\
         \x20 static_configs: [{{targets: ['{}', 'dropped:1'], labels: {{env: test}}}}]\n\
         \x20 relabel_configs:\n\
         \x20 - {{source_labels: [env], target_label: stage}}\n\
         \x20 - {{source_labels: [__address__], regex: 'dropped:.*', action: drop}}\n\
         - job_name: idle\n",
        target.address()
    )
}

/// A series with a native histogram of three buckets.
fn native(name: &str, time_ms: i64) -> Vec<u8> {
    let mut histogram = Vec::new();
    number(&mut histogram, 1, 3);
    double(&mut histogram, 3, 4.5);
    number(&mut histogram, 4, 0);
    number(&mut histogram, 6, 0);
    let mut span = Vec::new();
    number(&mut span, 1, 0);
    number(&mut span, 2, 3);
    bytes(&mut histogram, 11, &span);
    // Populations 1, 1, 1 as differences in zig-zag.
    bytes(&mut histogram, 12, &[2, 0, 0]);
    number(&mut histogram, 15, time_ms as u64);
    let mut series = write::series(&[("__name__", name)], &[]);
    bytes(&mut series, 4, &histogram);
    series
}

fn ok(client: &Client, path: &str) -> Value {
    let answer = client.get(path);
    assert_eq!(answer.status, 200, "{path}: {}", answer.text());
    let body = answer.json();
    assert_eq!(body["status"], "success", "{path}");
    body["data"].clone()
}

/// Status and message of a refusal.
fn refusal(answer: &Answer) -> (u16, String) {
    let body = answer.json();
    assert_eq!(body["status"], "error");
    (answer.status, body["error"].as_str().unwrap().to_owned())
}

#[test]
fn every_endpoint_answers_as_it_should() {
    let target = Target::start(EXPOSITION);
    let flags = ["--enable-feature", "search-api,promql-per-step-stats"];
    let server = Server::start_with(&config(&target), &flags);
    let client = server.client();
    let now_ms = write::now_ms() / 1000 * 1000;
    let mut all = vec![native("native", now_ms)];
    for name in [
        "http_requests_total",
        "http_errors_total",
        "grpc_requests_total",
    ] {
        let labels = [("__name__", name), ("path", "/api")];
        let samples: Vec<(f64, i64)> = (0..=20)
            .rev()
            .map(|ago| (f64::from(20 - ago), now_ms - i64::from(ago) * 15_000))
            .collect();
        all.push(write::series(&labels, &samples));
    }
    assert_eq!(write::send(&client, &all).status, 204);

    // The first scrape is a fraction of a second away.
    let end = Instant::now() + Duration::from_secs(20);
    while ok(&client, "/api/v1/targets")["activeTargets"][0]["health"] != "up" {
        assert!(Instant::now() < end, "the target does not come up");
        std::thread::sleep(Duration::from_millis(50));
    }
    search(&client);
    targets(&client, &target);
    rules(&client);
    statistics(&client, now_ms);
    metadata(&client);
    own_metrics(&client);
    federation(&client);
    description(&client);
    browsers_and_methods(&client);
    notifications(&server);
}

/// The lines of an answer of the search API.
fn lines(client: &Client, path: &str) -> Vec<Value> {
    let answer = client.get(path);
    assert_eq!(answer.status, 200, "{path}: {}", answer.text());
    assert_eq!(
        answer.header("content-type"),
        Some("application/x-ndjson; charset=utf-8")
    );
    let text = answer.text();
    text.lines()
        .map(|l| serde_json::from_str(l).unwrap())
        .collect()
}

fn names(lines: &[Value]) -> Vec<String> {
    let results = lines.iter().filter_map(|line| line["results"].as_array());
    results
        .flatten()
        .map(|result| result["name"].as_str().unwrap().to_owned())
        .collect()
}

fn search(client: &Client) {
    let metrics = "/api/v1/search/metric_names";
    let found = lines(
        client,
        &format!("{metrics}?search[]=requests&sort_by=score"),
    );
    assert_eq!(
        names(&found)[..2],
        ["grpc_requests_total", "http_requests_total"],
        "{found:?}"
    );
    assert_eq!(
        found.last().unwrap(),
        &json!({"status": "success", "has_more": false})
    );
    let two = "match[]=%7Bpath=%22/api%22%7D&sort_by=alpha&sort_dir=dsc&limit=2&batch_size=1";
    let found = lines(client, &format!("{metrics}?{two}"));
    assert_eq!(names(&found), ["http_requests_total", "http_errors_total"]);
    assert_eq!(found.len(), 3);
    assert_eq!(found[2]["has_more"], true);
    let more = "search[]=JOBS&case_sensitive=false&include_score=1&include_metadata=true";
    let found = lines(client, &format!("{metrics}?{more}"));
    assert_eq!(
        found[0]["results"][0],
        json!({"name": "jobs", "score": 1, "type": "gauge", "help": "Jobs that wait."})
    );
    let near =
        "search[]=htp_requests_total&fuzz_alg=jarowinkler&fuzz_threshold=85&sort_by=score&limit=1";
    assert_eq!(
        names(&lines(client, &format!("{metrics}?{near}"))),
        ["http_requests_total"]
    );
    let nothing = lines(
        client,
        &format!("{metrics}?search[]=nowhere&fuzz_threshold=90"),
    );
    assert_eq!(nothing[0], json!({"results": []}));
    assert!(
        names(&lines(client, &format!("{metrics}?end=1000&start=0"))).is_empty(),
        "long before the data"
    );

    let found = lines(client, "/api/v1/search/label_names?search[]=pa");
    assert_eq!(names(&found), ["path"]);
    let post = client.post_form(
        "/api/v1/search/label_values",
        &[("label", "path"), ("search[]", "api"), ("search[]", "x")],
    );
    assert_eq!(post.status, 200);
    assert!(
        post.text()
            .starts_with("{\"results\":[{\"name\":\"/api\"}]}\n")
    );

    let many = "search[]=a&".repeat(33);
    for (query, message) in [
        (
            "fuzz_threshold=101",
            "invalid fuzz_threshold \"101\": must be 0-100",
        ),
        (
            "fuzz_alg=x",
            "unsupported fuzz_alg \"x\": must be one of [subsequence jarowinkler]",
        ),
        (
            "case_sensitive=x",
            "invalid case_sensitive \"x\": must be boolean",
        ),
        ("sort_dir=asc", "sort_dir is only valid when sort_by is set"),
        ("sort_by=score", "sort_by=score requires search[] to be set"),
        ("sort_by=x", "invalid sort_by \"x\" for metric_names"),
        (
            "limit=-1",
            "invalid limit \"-1\": must be non-negative integer",
        ),
        ("limit=20000", "limit 20000 exceeds maximum of 10000"),
        ("match[]=%7B%7D", "match[]"),
        (&many, "at most 32"),
    ] {
        let (status, error) = refusal(&client.get(&format!("{metrics}?{query}")));
        assert_eq!(status, 400, "{query}");
        assert!(error.contains(message), "{query}: {error}");
    }
    let (status, error) = refusal(&client.get("/api/v1/search/label_values"));
    assert_eq!(
        (status, error.as_str()),
        (400, "missing required parameter \"label\"")
    );
}

fn targets(client: &Client, target: &Target) {
    let all = ok(client, "/api/v1/targets");
    let active = &all["activeTargets"][0];
    assert_eq!(active["scrapePool"], "app");
    assert_eq!(active["labels"]["stage"], "test");
    assert_eq!(active["discoveredLabels"]["__address__"], target.address());
    assert_eq!(
        all["droppedTargets"][0]["discoveredLabels"]["__address__"],
        "dropped:1"
    );
    assert_eq!(all["droppedTargetCounts"], json!({"app": 1, "idle": 0}));
    let idle = ok(client, "/api/v1/targets?scrapePool=idle");
    assert_eq!(idle["activeTargets"], json!([]));
    assert_eq!(idle["droppedTargetCounts"], json!({"idle": 0}));
    let dropped = ok(client, "/api/v1/targets?state=DROPPED");
    assert_eq!(dropped["activeTargets"], json!([]));
    assert_eq!(dropped["droppedTargets"].as_array().unwrap().len(), 1);
    assert_eq!(client.get("/api/v1/targets?state=x").status, 400);

    let matching = encode("{stage=\"test\"}");
    let known = ok(
        client,
        &format!("/api/v1/targets/metadata?match_target={matching}&metric=jobs"),
    );
    assert_eq!(known[0]["help"], "Jobs that wait.");
    assert_eq!(known[0]["target"]["stage"], "test");
    assert!(known[0]["metric"].is_null(), "asked for by name");
    let known = ok(client, "/api/v1/targets/metadata");
    assert_eq!(known[0]["metric"], "done_total");
    assert_eq!(known.as_array().unwrap().len(), 2);
    assert_eq!(
        ok(client, "/api/v1/targets/metadata?limit=1")
            .as_array()
            .unwrap()
            .len(),
        1
    );
    let other = encode("{stage=\"other\"}");
    let none = ok(
        client,
        &format!("/api/v1/targets/metadata?match_target={other}"),
    );
    assert_eq!(none, json!([]));
    assert_eq!(
        client
            .get("/api/v1/targets/metadata?match_target=%7B")
            .status,
        400
    );

    let labels = encode(r#"{"__address__": "dropped:9", "env": "x"}"#);
    let steps = ok(
        client,
        &format!("/api/v1/targets/relabel_steps?scrapePool=app&labels={labels}"),
    );
    let steps = steps["steps"].as_array().unwrap();
    assert_eq!(steps[0]["rule"]["target_label"], "stage");
    assert_eq!(
        steps[0]["output"],
        json!({"__address__": "dropped:9", "env": "x", "stage": "x"})
    );
    assert_eq!(
        (&steps[0]["keep"], &steps[1]["keep"]),
        (&json!(true), &json!(false))
    );
    assert_eq!(steps[1]["output"], json!({}));
    for (query, message) in [
        ("", "no scrapePool parameter provided"),
        ("?scrapePool=app", "no labels parameter provided"),
        ("?scrapePool=app&labels=x", "error parsing labels"),
        ("?scrapePool=x&labels=%7B%7D", "scrape pool \"x\" not found"),
    ] {
        let path = format!("/api/v1/targets/relabel_steps{query}");
        let (status, error) = refusal(&client.get(&path));
        assert_eq!(status, 400, "{path}");
        assert!(error.contains(message), "{path}: {error}");
    }

    let pools = ok(client, "/api/v1/scrape_pools");
    assert_eq!(pools["scrapePools"], json!(["app", "idle"]));
    let pool = ok(client, "/api/v1/scrape_pools/config?scrapePool=app");
    let yaml = pool["yaml"].as_str().unwrap();
    assert!(yaml.contains("job_name: app\n"), "{yaml}");
    assert!(!yaml.contains("hush"), "{yaml}");
    assert_eq!(client.get("/api/v1/scrape_pools/config").status, 400);
}

fn rules(client: &Client) {
    assert_eq!(
        ok(client, "/api/v1/rules?type=alert&exclude_alerts=true"),
        json!({"groups": []})
    );
    assert_eq!(
        ok(client, "/api/v1/rules?group_limit=5"),
        json!({"groups": []})
    );
    assert_eq!(ok(client, "/api/v1/alerts"), json!({"alerts": []}));
    assert_eq!(
        ok(client, "/api/v1/alertmanagers"),
        json!({"activeAlertmanagers": [], "droppedAlertmanagers": []})
    );
    for (query, message) in [
        (
            "type=x",
            "invalid parameter \"type\": not supported value \"x\"",
        ),
        ("exclude_alerts=x", "invalid parameter \"exclude_alerts\""),
        ("match[]=%7B", "invalid parameter \"match[]\""),
        ("group_limit=0", "group_limit needs to be greater than 0"),
        ("group_limit=x", "group_limit needs to be a valid number"),
        ("group_next_token=a", "group_limit needs to be present"),
        (
            "group_limit=1&group_next_token=a",
            "invalid group_next_token 'a'",
        ),
    ] {
        let (status, error) = refusal(&client.get(&format!("/api/v1/rules?{query}")));
        assert_eq!(status, 400, "{query}");
        assert!(error.contains(message), "{query}: {error}");
    }
}

fn statistics(client: &Client, now_ms: i64) {
    let (end, start) = (now_ms / 1000, now_ms / 1000 - 60);
    let query = encode("rate(http_requests_total[1m])");
    let path = format!("/api/v1/query_range?query={query}&start={start}&end={end}&step=30");
    let none = ok(client, &path);
    assert!(none["stats"].is_null());
    let answer = client.get(&format!("{path}&stats=all")).json();
    assert!(answer["warnings"].is_null(), "{answer}");
    let samples = &answer["data"]["stats"]["samples"];
    // Windows of four samples at three steps, every other step half of them new.
    assert_eq!(samples["totalQueryableSamples"], 12);
    assert_eq!(
        samples["totalQueryableSamplesPerStep"],
        json!([[start, 4], [start + 30, 4], [end, 4]])
    );
    assert_eq!(samples["samplesRead"], 8, "{samples}");
    assert_eq!(
        samples["samplesReadPerStep"],
        json!([[start, 4], [start + 30, 2], [end, 2]])
    );
    assert!(samples["peakSamples"].as_u64().unwrap() >= 3, "{samples}");
    let timings = answer["data"]["stats"]["timings"].as_object().unwrap();
    for name in [
        "evalTotalTime",
        "resultSortTime",
        "queryPreparationTime",
        "innerEvalTime",
        "execQueueTime",
        "execTotalTime",
    ] {
        assert!(timings[name].is_number(), "{name}");
    }
    let answer = client.get(&format!("{path}&stats=true")).json();
    assert!(answer["data"]["stats"]["samples"]["samplesReadPerStep"].is_null());
    assert!(answer["warnings"].is_null());
    let answer = client.get(&format!("{path}&stats=yes")).json();
    assert!(answer["data"]["stats"]["samples"]["samplesRead"].is_u64());
    let warning = answer["warnings"][0].as_str().unwrap();
    assert!(warning.contains("deprecated"), "{warning}");
}

fn metadata(client: &Client) {
    let all = ok(client, "/api/v1/metadata");
    assert_eq!(
        all["jobs"],
        json!([{"type": "gauge", "unit": "", "help": "Jobs that wait."}])
    );
    assert_eq!(
        ok(client, "/api/v1/metadata?limit=1")
            .as_object()
            .unwrap()
            .len(),
        1
    );
    assert_eq!(client.get("/api/v1/metadata?limit=x").status, 400);
    assert_eq!(
        client.get("/api/v1/metadata?limit_per_metric=x").status,
        400
    );

    let warned = client.get("/api/v1/labels?limit=1").json();
    assert_eq!(warned["data"].as_array().unwrap().len(), 1);
    assert_eq!(
        warned["warnings"],
        json!(["results truncated due to limit"])
    );
    let warned = client
        .get("/api/v1/series?match[]=%7Bpath=%22/api%22%7D&limit=2")
        .json();
    assert_eq!(warned["data"].as_array().unwrap().len(), 2);
    assert_eq!(
        warned["warnings"],
        json!(["results truncated due to limit"])
    );
    let values = client.get("/api/v1/label/__name__/values?limit=1").json();
    assert_eq!(
        values["warnings"],
        json!(["results truncated due to limit"])
    );
    assert_eq!(ok(client, "/api/v1/label/U__path/values"), json!(["/api"]));
    assert_eq!(
        client
            .request("POST", "/api/v1/label/path/values", &[], b"")
            .status,
        405
    );

    let tsdb = ok(client, "/api/v1/status/tsdb?limit=1");
    for list in [
        "seriesCountByMetricName",
        "labelValueCountByLabelName",
        "memoryInBytesByLabelName",
        "seriesCountByLabelValuePair",
    ] {
        assert_eq!(tsdb[list].as_array().unwrap().len(), 1, "{list}");
        assert!(tsdb[list][0]["value"].is_u64(), "{list}");
    }
    for name in [
        "numSeries",
        "numLabelPairs",
        "chunkCount",
        "minTime",
        "maxTime",
    ] {
        assert!(tsdb["headStats"][name].is_i64(), "{name}");
    }
    for (limit, message) in [
        ("0", "limit must be a positive number"),
        ("-1", "limit must be a positive number"),
        ("x", "limit must be a positive number"),
        ("10001", "limit must not exceed 10000"),
    ] {
        let (status, error) = refusal(&client.get(&format!("/api/v1/status/tsdb?limit={limit}")));
        assert_eq!(status, 400, "{limit}");
        assert!(error.contains(message), "{limit}: {error}");
    }
}

fn own_metrics(client: &Client) {
    let path = "/api/v1/status/self_metrics?metric_name_pattern=";
    let families = ok(client, &format!("{path}chronolith_build_.*"));
    assert_eq!(families.as_array().unwrap().len(), 1);
    assert_eq!(families[0]["type"], "GAUGE");
    assert_eq!(families[0]["metric"][0]["gauge"]["value"], 1.0);
    assert_eq!(families[0]["metric"][0]["label"][0]["name"], "version");
    assert_eq!(
        ok(client, &format!("{path}build_info")),
        json!([]),
        "anchored"
    );
    let families = ok(client, "/api/v1/status/self_metrics");
    let families = families.as_array().unwrap();
    let durations = families
        .iter()
        .find(|f| f["name"] == "chronolith_http_request_duration_seconds")
        .unwrap();
    let histogram = &durations["metric"][0]["histogram"];
    assert!(histogram["sampleCount"].is_string(), "{histogram}");
    let buckets = histogram["bucket"].as_array().unwrap();
    assert_eq!(buckets.last().unwrap()["upperBound"], "Infinity");
    assert_eq!(client.get(&format!("{path}(")).status, 400);
}

const DELIMITED: &str =
    "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited";

fn federation(client: &Client) {
    let path = "/federate?match[]=native&match[]=%7B__name__=~%22http_.*%22%7D";
    let answer = client.get(path);
    assert_eq!(
        answer.header("content-type"),
        Some("text/plain; version=0.0.4; charset=utf-8; escaping=underscores")
    );
    let text = answer.text();
    let names: Vec<&str> = text
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE "))
        .collect();
    assert_eq!(
        names,
        ["http_errors_total untyped", "http_requests_total untyped"]
    );
    let line = text
        .lines()
        .find(|l| l.starts_with("http_requests"))
        .unwrap();
    assert!(
        line.starts_with("http_requests_total{cluster=\"c\",path=\"/api\",instance=\"\"} 20 "),
        "{line}"
    );

    let accept = client.clone().with_header("accept", DELIMITED);
    let answer = accept.get(path);
    let content_type = format!("{DELIMITED}; escaping=underscores");
    assert_eq!(answer.header("content-type"), Some(&*content_type));
    let mut rest = answer.body.as_slice();
    let mut families = Vec::new();
    while let Some((&length, after)) = rest.split_first() {
        assert!(length < 0x80, "a small family");
        let (family, next) = after.split_at(usize::from(length));
        // Field 1 is the name.
        let name = &family[2..2 + usize::from(family[1])];
        families.push(String::from_utf8(name.to_vec()).unwrap());
        rest = next;
    }
    assert_eq!(
        families,
        ["http_errors_total", "http_requests_total", "native"]
    );
    assert_eq!(client.get("/federate").status, 400);
    let own = accept.get("/metrics");
    assert_eq!(own.header("content-type"), Some(&*content_type));
}

fn description(client: &Client) {
    let answer = client.get("/api/v1/openapi.yaml");
    assert_eq!(
        answer.header("content-type"),
        Some("application/yaml; charset=utf-8")
    );
    assert!(answer.text().starts_with("openapi: \"3.1.0\"\n"));
    let newer = client
        .get("/api/v1/openapi.yaml?openapi_version=3.2")
        .text();
    assert!(newer.starts_with("openapi: \"3.2.0\"\n"));
    assert!(newer.contains("\n  /api/v1/notifications/live:\n"));
    assert!(newer.contains("\n  \"/api/v1/label/{name}/values\":\n"));
    assert_eq!(
        client.get("/api/v1/openapi.yaml?openapi_version=2").status,
        400
    );
    // What is described is there: no path of the document is unknown to the router.
    for line in newer.lines() {
        let Some(path) = line.strip_prefix("  ").and_then(|l| l.strip_suffix(':')) else {
            continue;
        };
        let path = path
            .trim_matches('"')
            .replace("{name}", "x")
            .replace("{group}", "job/x");
        if path.starts_with('/') && path != "/api/v1/notifications/live" {
            let status = client.request("PATCH", &path, &[], b"").status;
            assert_eq!(status, 405, "{path}");
        }
    }
}

fn browsers_and_methods(client: &Client) {
    let page = [("origin", "https://a.example")];
    let preflight = client.request("OPTIONS", "/api/v1/query", &page, b"");
    assert_eq!(preflight.status, 204);
    assert_eq!(
        preflight.header("access-control-allow-origin"),
        Some("https://a.example")
    );
    assert_eq!(preflight.header("vary"), Some("Origin"));
    assert!(preflight.body.is_empty());
    let answer = client.request("GET", "/api/v1/labels", &page, b"");
    assert_eq!(
        answer.header("access-control-allow-origin"),
        Some("https://a.example")
    );
    let stranger = [("origin", "https://b.example")];
    let answer = client.request("GET", "/api/v1/labels", &stranger, b"");
    assert_eq!(answer.header("access-control-allow-origin"), None);

    for path in ["/-/healthy", "/-/ready", "/health", "/health/live"] {
        let head = client.request("HEAD", path, &[], b"");
        assert_eq!(head.status, 200, "{path}");
        assert!(head.body.is_empty(), "{path}");
    }
    assert_eq!(refusal(&client.get("/api/v1/nothing")).0, 404);
    assert_eq!(
        refusal(&client.request("DELETE", "/api/v1/query", &[], b"")).0,
        405
    );

    let encoded = client.clone().with_header("accept-encoding", "deflate");
    let answer = encoded.get("/api/v1/status/flags");
    assert_eq!(answer.header("content-encoding"), Some("deflate"));
    let mut text = String::new();
    flate2::read::ZlibDecoder::new(&answer.body[..])
        .read_to_string(&mut text)
        .unwrap();
    assert!(text.contains("search-limit-max"));
    // An Accept that names nothing we have is answered with what we have.
    let odd = client.clone().with_header("accept", "image/png");
    let answer = odd.get("/api/v1/labels");
    assert_eq!(answer.header("content-type"), Some("application/json"));
}

fn notifications(server: &Server) {
    assert_eq!(ok(&server.client(), "/api/v1/notifications"), json!([]));
    let listen = || {
        let mut stream = TcpStream::connect(server.address()).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(20)))
            .unwrap();
        stream
            .write_all(b"GET /api/v1/notifications/live HTTP/1.1\r\nhost: x\r\n\r\n")
            .unwrap();
        let mut head = String::new();
        let mut byte = [0];
        while !head.ends_with("\r\n\r\n") {
            assert_eq!(stream.read(&mut byte).unwrap(), 1, "{head}");
            head.push(char::from(byte[0]));
        }
        (head, stream)
    };
    let listeners: Vec<(String, TcpStream)> = (0..16).map(|_| listen()).collect();
    for (head, _) in &listeners {
        assert!(head.starts_with("HTTP/1.1 200"), "{head}");
        assert!(head.contains("text/event-stream"), "{head}");
    }
    let (head, _) = listen();
    assert!(head.starts_with("HTTP/1.1 204"), "{head}");
}

#[test]
fn listeners_hear_that_the_server_stops() {
    let server = Server::start(&[]);
    let mut stream = TcpStream::connect(server.address()).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    stream
        .write_all(b"GET /api/v1/notifications/live HTTP/1.1\r\nhost: x\r\n\r\n")
        .unwrap();
    // Something has come: the listener is known.
    let mut first = [0; 16];
    stream.read_exact(&mut first).unwrap();
    let (status, took) = server.stop();
    assert!(status.success());
    assert!(
        took < Duration::from_secs(8),
        "listeners hold nothing up: {took:?}"
    );
    let mut rest = String::new();
    stream.read_to_string(&mut rest).unwrap();
    assert!(rest.contains("data: {"), "{rest}");
    assert!(rest.contains("shutting down"), "{rest}");
    assert!(rest.contains("\"active\":true"), "{rest}");
}

#[test]
fn what_is_switched_off_says_so() {
    let server = Server::start(&[]);
    let client = server.client();
    for path in ["/-/reload", "/-/quit"] {
        assert_eq!(client.request("POST", path, &[], b"").status, 403, "{path}");
    }
    for path in ["metric_names", "label_names", "label_values"] {
        let answer = client.get(&format!("/api/v1/search/{path}"));
        let (status, error) = refusal(&answer);
        assert_eq!(status, 403, "{path}");
        assert!(error.contains("search API disabled"), "{error}");
        assert_eq!(answer.json()["errorType"], "unavailable");
    }
}

#[test]
fn the_configuration_is_read_again_and_the_server_ends_when_asked() {
    let config = "scrape_configs: [{job_name: a}]\n";
    let server = Server::start_with(config, &["--enable-lifecycle"]);
    let client = server.client();
    let file = server.dir().path().join("chronolith.yml");
    let reload = || client.request("POST", "/-/reload", &[], b"");
    assert_eq!(client.get("/-/reload").status, 405);

    std::fs::write(
        &file,
        "scrape_configs: [{job_name: a}, {job_name: b}]\nretention: 9d\n",
    )
    .unwrap();
    let answer = reload();
    assert_eq!(answer.status, 200);
    assert!(answer.text().contains("retention"), "{}", answer.text());
    let pools = || ok(&client, "/api/v1/scrape_pools")["scrapePools"].clone();
    assert_eq!(pools(), json!(["a", "b"]));
    let shown = ok(&client, "/api/v1/status/config");
    assert!(shown["yaml"].as_str().unwrap().contains("\"b\""), "{shown}");

    std::fs::write(&file, "scrape_configs: [{job_name: a, scheme: ftp}]\n").unwrap();
    let answer = reload();
    assert_eq!(answer.status, 500);
    assert!(answer.text().contains("ftp"), "{}", answer.text());
    assert_eq!(pools(), json!(["a", "b"]), "what was before stays");
    let told = ok(&client, "/api/v1/notifications");
    assert_eq!(told[0]["text"], "Configuration reload has failed.");
    let runtime = ok(&client, "/api/v1/status/runtimeinfo");
    assert_eq!(runtime["reloadConfigSuccess"], false);

    std::fs::write(&file, config).unwrap();
    assert_eq!(client.request("PUT", "/-/reload", &[], b"").status, 200);
    assert_eq!(ok(&client, "/api/v1/notifications"), json!([]));
    assert_eq!(client.request("POST", "/-/quit", &[], b"").status, 200);
    let (status, _) = server.wait();
    assert!(status.success());
}
