//! The Prometheus API: shapes, numbers, errors and their words.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use chronolith_tests::http::encode;
use chronolith_tests::{Client, Server, write};
use serde_json::{Value, json};

/// A server with a counter of two series, a sample each 15 s for ten minutes up to `end_ms`.
fn server_with_data() -> (Server, i64) {
    let server = Server::start(&["--enable-feature", "promql-per-step-stats"]);
    let end_ms = write::now_ms() / 15_000 * 15_000;
    let all: Vec<Vec<u8>> = [("a", 1.0), ("b", 2.0)]
        .iter()
        .map(|(job, factor)| {
            let samples: Vec<(f64, i64)> = (0..=40)
                .map(|n| {
                    (
                        f64::from(n) * 15.0 * factor,
                        end_ms - i64::from(40 - n) * 15_000,
                    )
                })
                .collect();
            write::series(&[("__name__", "requests_total"), ("job", job)], &samples)
        })
        .collect();
    assert_eq!(write::send(&server.client(), &all).status, 204);
    (server, end_ms)
}

fn seconds(time_ms: i64) -> String {
    format!("{}.{:03}", time_ms / 1000, time_ms % 1000)
}

fn query(client: &Client, text: &str, time_ms: i64) -> Value {
    let answer = client.get(&format!(
        "/api/v1/query?query={}&time={}",
        encode(text),
        seconds(time_ms)
    ));
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()
}

#[test]
fn instant_queries_have_prometheus_shapes() {
    let (server, end_ms) = server_with_data();
    let client = server.client();
    let answer = query(&client, "requests_total", end_ms);
    assert_eq!(answer["status"], "success");
    assert_eq!(answer["data"]["resultType"], "vector");
    let result = answer["data"]["result"].as_array().unwrap();
    assert_eq!(result.len(), 2);
    let a = result.iter().find(|e| e["metric"]["job"] == "a").unwrap();
    assert_eq!(a["metric"]["__name__"], "requests_total");
    assert_eq!(a["value"], json!([end_ms / 1000, "600"]));

    let sum = query(
        &client,
        "sum(increase(requests_total[5m]) > bool 0)",
        end_ms,
    );
    assert_eq!(sum["data"]["result"][0]["value"][1], "2");
    let scalar = query(&client, "1e-7 * 1", end_ms);
    assert_eq!(scalar["data"]["resultType"], "scalar");
    assert_eq!(scalar["data"]["result"][1], "1e-07");
    let text = query(&client, "\"a\\nb\"", end_ms);
    assert_eq!(text["data"]["resultType"], "string");
    assert_eq!(text["data"]["result"][1], "a\nb");
    let matrix = query(&client, "requests_total{job=\"a\"}[30s]", end_ms);
    assert_eq!(matrix["data"]["resultType"], "matrix");
    assert_eq!(
        matrix["data"]["result"][0]["values"]
            .as_array()
            .unwrap()
            .len(),
        2
    );
}

#[test]
fn range_queries_answer_at_every_step() {
    let (server, end_ms) = server_with_data();
    let client = server.client();
    let form = |step: &str| {
        let (start, end) = (seconds(end_ms - 60_000), seconds(end_ms));
        client.post_form(
            "/api/v1/query_range",
            &[
                ("query", "sum by (job) (requests_total)"),
                ("start", &start),
                ("end", &end),
                ("step", step),
            ],
        )
    };
    for step in ["30", "30s", "0.5m"] {
        let answer = form(step);
        if step == "0.5m" {
            assert_eq!(answer.status, 400, "{}", answer.text());
            continue;
        }
        let answer = answer.json();
        assert_eq!(answer["data"]["resultType"], "matrix");
        let first = &answer["data"]["result"][0];
        assert_eq!(first["metric"], json!({"job": "a"}));
        let expected: Vec<Value> = [60_000, 30_000, 0]
            .iter()
            .map(|ago| {
                let time = (end_ms - ago) / 1000;
                json!([time, ((600_000 - ago) / 1000).to_string()])
            })
            .collect();
        assert_eq!(first["values"], Value::Array(expected), "{step}");
    }
}

#[test]
fn faults_of_the_client_have_prometheus_words() {
    let (server, _) = server_with_data();
    let client = server.client();
    let cases = [
        (
            "/api/v1/query?query=sum(",
            400,
            "bad_data",
            "invalid parameter \"query\": 1:5: parse error: ",
        ),
        (
            "/api/v1/query",
            400,
            "bad_data",
            "parse error: no expression found in input",
        ),
        (
            "/api/v1/query?query=up&time=x",
            400,
            "bad_data",
            "invalid parameter \"time\": cannot parse \"x\" to a valid timestamp",
        ),
        (
            "/api/v1/query?query=up&timeout=x",
            400,
            "bad_data",
            "invalid parameter \"timeout\": cannot parse \"x\" to a valid duration",
        ),
        (
            "/api/v1/query?query=up&limit=-1",
            400,
            "bad_data",
            "invalid parameter \"limit\"",
        ),
        (
            "/api/v1/query_range?query=up&start=10&end=5&step=1",
            400,
            "bad_data",
            "invalid parameter \"end\": end timestamp must not be before start time",
        ),
        (
            "/api/v1/query_range?query=up&start=1&end=5&step=0",
            400,
            "bad_data",
            "zero or negative query resolution step widths are not accepted. Try a positive integer",
        ),
        (
            "/api/v1/query_range?query=up&start=0&end=20000&step=1",
            400,
            "bad_data",
            "exceeded maximum resolution of 11,000 points per timeseries. Try decreasing the query resolution (?step=XX)",
        ),
        (
            "/api/v1/query_range?query=up[5m]&start=0&end=20&step=1",
            400,
            "bad_data",
            "invalid expression type \"range vector\" for range query, must be Scalar or instant Vector",
        ),
        (
            "/api/v1/query?query=label_replace(requests_total,%22job%22,%22x%22,%22%22,%22%22)",
            422,
            "execution",
            "vector cannot contain metrics with the same labelset",
        ),
        (
            "/api/v1/series",
            400,
            "bad_data",
            "no match[] parameter provided",
        ),
        (
            "/api/v1/series?match[]=%7Ba=~%22.*%22%7D",
            400,
            "bad_data",
            "match[]",
        ),
        (
            "/api/v1/labels?start=5&end=1",
            400,
            "bad_data",
            "end timestamp must not be before start time",
        ),
        (
            "/api/v1/query?query=%7Ba=~%22(%22%7D",
            400,
            "bad_data",
            "error parsing regexp",
        ),
    ];
    for (path, status, kind, message) in cases {
        let answer = client.get(path);
        let body = answer.json();
        assert_eq!(answer.status, status, "{path}: {body}");
        assert_eq!(body["status"], "error", "{path}");
        assert_eq!(body["errorType"], kind, "{path}");
        let text = body["error"].as_str().unwrap();
        assert!(text.contains(message), "{path}: {text}");
    }
    let long = format!("/api/v1/query?query={}", "a".repeat(10_000));
    assert_eq!(client.get(&long).status, 200);
    let longer = format!("1{}", "+1".repeat(200_000));
    let answer = client.post_form("/api/v1/query", &[("query", &longer)]);
    assert_eq!(answer.status, 400);
}

#[test]
fn listings_are_sorted_limited_and_matched() {
    let (server, end_ms) = server_with_data();
    let client = server.client();
    assert_eq!(
        client.get("/api/v1/labels").json()["data"],
        json!(["__name__", "job"])
    );
    assert_eq!(
        client.get("/api/v1/label/job/values").json()["data"],
        json!(["a", "b"])
    );
    let matched = client.get("/api/v1/label/job/values?match[]=requests_total%7Bjob!=%22a%22%7D");
    assert_eq!(matched.json()["data"], json!(["b"]));
    let limited = client.get("/api/v1/label/job/values?limit=1").json();
    assert_eq!(limited["data"], json!(["a"]));
    assert_eq!(
        limited["warnings"],
        json!(["results truncated due to limit"])
    );
    let series = client.post_form(
        "/api/v1/series",
        &[("match[]", "requests_total{job=\"b\"}")],
    );
    assert_eq!(
        series.json()["data"],
        json!([{"__name__": "requests_total", "job": "b"}])
    );
    let before = format!(
        "/api/v1/series?match[]=requests_total&end={}",
        end_ms / 1000 - 86_400
    );
    assert_eq!(client.get(&before).json()["data"], json!([]));
}

#[test]
fn remarks_statistics_and_limits_come_along() {
    let (server, end_ms) = server_with_data();
    let client = server.client();
    let time = seconds(end_ms);
    let path =
        format!("/api/v1/query?query=rate(requests_total%5B5m%5D)&time={time}&stats=all&limit=1");
    let answer = client.get(&path).json();
    assert_eq!(answer["data"]["result"].as_array().unwrap().len(), 1);
    assert_eq!(
        answer["warnings"],
        json!(["results truncated due to limit"])
    );
    let samples = &answer["data"]["stats"]["samples"];
    assert_eq!(samples["totalQueryableSamples"], 40);
    assert!(
        samples["totalQueryableSamplesPerStep"][0][1].is_u64(),
        "{samples}"
    );
    assert!(answer["data"]["stats"]["timings"]["evalTotalTime"].is_f64());
    let odd = query(&client, "quantile(2, requests_total)", end_ms);
    let warning = odd["warnings"][0].as_str().unwrap();
    assert!(
        warning.starts_with("PromQL warning: quantile value should be"),
        "{warning}"
    );
}

#[test]
fn status_and_formatting_answer() {
    let (server, _) = server_with_data();
    let client = server.client();
    let tsdb = client.get("/api/v1/status/tsdb").json();
    assert_eq!(tsdb["data"]["headStats"]["numSeries"], 2);
    assert_eq!(
        tsdb["data"]["seriesCountByMetricName"][0],
        json!({"name": "requests_total", "value": 2})
    );
    let formatted = client
        .get("/api/v1/format_query?query=sum(up)by(job)")
        .json();
    assert_eq!(formatted["data"], "sum by (job) (up)");
    let tree = client
        .get("/api/v1/parse_query?query=sum(up)by(job)")
        .json();
    assert_eq!(tree["data"]["type"], "aggregation");
    assert_eq!(tree["data"]["expr"]["name"], "up");
    assert_eq!(client.get("/api/v1/parse_query?query=sum(").status, 400);
    let features = client.get("/api/v1/features").json();
    assert_eq!(features["data"]["promql_functions"]["rate"], true);
    assert_eq!(features["data"]["api"]["admin"], false);
    let blocks = client.get("/api/v1/status/tsdb/blocks").json();
    assert_eq!(blocks["data"]["blocks"], json!([]), "nothing is sealed yet");
    assert_eq!(
        client.get("/api/v1/status/walreplay").json()["data"]["min"],
        0
    );
    assert!(client.get("/api/v1/status/runtimeinfo").json()["data"]["startTime"].is_string());
    assert_eq!(
        client.get("/api/v1/rules").json()["data"]["groups"],
        json!([])
    );
}

#[test]
fn deleting_needs_the_flag_and_hides_at_once() {
    let (server, end_ms) = server_with_data();
    let delete = "/api/v1/admin/tsdb/delete_series?match[]=requests_total%7Bjob=%22a%22%7D";
    let refused = server.client().request("POST", delete, &[], b"");
    assert_eq!(refused.status, 403);
    let dir = server.dir();
    server.kill();
    let server = Server::start_in(dir, &["--enable-admin-api"]);
    let client = server.client();
    let post = |path: &str| client.request("POST", path, &[], b"").status;
    assert_eq!(post("/api/v1/admin/flush"), 204);
    assert_eq!(
        query(&client, "count(requests_total)", end_ms)["data"]["result"][0]["value"][1],
        "2"
    );
    assert_eq!(post(delete), 204);
    assert_eq!(
        query(&client, "count(requests_total)", end_ms)["data"]["result"][0]["value"][1],
        "1"
    );
    assert_eq!(post("/api/v1/admin/compact"), 204);
    assert_eq!(
        query(&client, "count(requests_total)", end_ms)["data"]["result"][0]["value"][1],
        "1"
    );
}
