//! Scraping and pushing: targets come up, series end, classic histograms answer as native ones.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::time::{Duration, Instant};

use chronolith_tests::{Client, Server, Target};
use serde_json::Value;
use tempfile::TempDir;

fn query(client: &Client, text: &str) -> Vec<Value> {
    let answer = client.post_form("/api/v1/query", &[("query", text)]);
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()["data"]["result"].as_array().unwrap().clone()
}

/// Asks until `good` likes the answer.
fn wait_for(client: &Client, text: &str, good: impl Fn(&[Value]) -> bool) -> Vec<Value> {
    let end = Instant::now() + Duration::from_secs(20);
    loop {
        let found = query(client, text);
        if good(&found) {
            return found;
        }
        assert!(Instant::now() < end, "{text}: last answer {found:?}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

const HISTOGRAM: &str = "# TYPE d_seconds histogram\n\
    d_seconds_bucket{le=\"0.1\"} 50\nd_seconds_bucket{le=\"1\"} 100\nd_seconds_bucket{le=\"+Inf\"} 100\n\
    d_seconds_sum 20\nd_seconds_count 100\n# TYPE jobs gauge\njobs{instance=\"own\"} 3\n";

#[test]
fn a_target_is_scraped_relabelled_and_ends() {
    let target = Target::start(HISTOGRAM);
    let server = Server::start_with(
        &format!(
            "global: {{scrape_interval: 200ms, scrape_timeout: 200ms}}\n\
         scrape_configs:\n\
         - job_name: app\n\
         \x20 convert_classic_histograms_to_nhcb: true\n\
         \x20 always_scrape_classic_histograms: true\n\
         \x20 static_configs: [{{targets: ['{}'], labels: {{env: test}}}}]\n\
         \x20 metric_relabel_configs: [{{source_labels: [__name__], regex: secret, action: drop}}]\n",
            target.address()
        ),
        &[],
    );
    let client = server.client();
    let up = wait_for(&client, "up{job=\"app\"} == 1", |r| r.len() == 1);
    assert_eq!(up[0]["metric"]["env"], "test");
    let jobs = query(&client, "jobs");
    assert_eq!(jobs[0]["metric"]["exported_instance"], "own");
    assert_eq!(jobs[0]["metric"]["instance"], target.address());
    let quantile = query(&client, "histogram_quantile(0.5, d_seconds)");
    assert_eq!(quantile[0]["value"][1], "0.1");
    assert_eq!(query(&client, "d_seconds_bucket").len(), 3);

    let targets = client.get("/api/v1/targets").json();
    assert_eq!(targets["data"]["activeTargets"][0]["health"], "up");
    let metadata = client.get("/api/v1/metadata?metric=d_seconds").json();
    assert_eq!(metadata["data"]["d_seconds"][0]["type"], "histogram");

    target.now_serves("other 1\nsecret 2\n");
    wait_for(&client, "other", |r| r.len() == 1);
    wait_for(&client, "jobs or d_seconds", <[Value]>::is_empty);
    assert!(query(&client, "secret").is_empty());

    target.now_serves("broken {\n");
    wait_for(&client, "up{job=\"app\"} == 0", |r| r.len() == 1);
    wait_for(&client, "other", <[Value]>::is_empty);
}

#[test]
fn limits_fail_a_scrape_as_a_whole() {
    let target = Target::start("a 1\nb 2\nc 3\n");
    let server = Server::start_with(
        &format!(
            "scrape_configs:\n\
         - job_name: app\n\
         \x20 scrape_interval: 200ms\n\
         \x20 sample_limit: 2\n\
         \x20 static_configs: [{{targets: ['{}']}}]\n",
            target.address()
        ),
        &[],
    );
    let client = server.client();
    wait_for(&client, "up{job=\"app\"} == 0", |r| r.len() == 1);
    assert!(query(&client, "{__name__=~\"a|b|c\"}").is_empty());
    let targets = client.get("/api/v1/targets").json();
    let error = targets["data"]["activeTargets"][0]["lastError"]
        .as_str()
        .unwrap()
        .to_owned();
    assert!(error.contains("sample limit of 2"), "{error}");
}

#[test]
fn faulty_scrape_sections_stop_the_start() {
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("c.yml");
    std::fs::write(&file, "scrape_configs: [{job_name: a, scheme: ftp}]\n").unwrap();
    let output = chronolith_tests::run(&["serve", "--config", file.to_str().unwrap()]);
    assert!(!output.status.success());
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(text.contains("job \"a\"") && text.contains("ftp"), "{text}");
}

#[test]
fn pushed_metrics_stay_until_deleted() {
    let server = Server::start(&[]);
    let client = server.client();
    let push = |method: &str, path: &str, body: &str| {
        client.request(
            method,
            path,
            &[("content-type", "text/plain")],
            body.as_bytes(),
        )
    };
    let answer = push(
        "PUT",
        "/metrics/job/batch/instance/x",
        "# TYPE rows counter\nrows 5\n",
    );
    assert_eq!(answer.status, 200, "{}", answer.text());
    let rows = query(&client, "rows");
    assert_eq!(
        (&rows[0]["metric"]["job"], &rows[0]["value"][1]),
        (&"batch".into(), &"5".into())
    );
    assert_eq!(
        push("POST", "/metrics/job/batch/instance/x", "more 1\n").status,
        200
    );
    // Not `rows or more`: `or` compares labels without the name, and they are the same here.
    assert_eq!(query(&client, "{__name__=~\"rows|more\"}").len(), 2);
    assert_eq!(
        push("PUT", "/metrics/job/batch/instance/x", "more 2\n").status,
        200
    );
    assert!(query(&client, "rows").is_empty());
    assert_eq!(
        push("PUT", "/metrics/job/batch/instance/x", "broken {\n").status,
        400
    );
    assert!(query(&client, "push_failure_time_seconds > 0").is_empty());
    assert_eq!(
        push("DELETE", "/metrics/job/batch/instance/x", "").status,
        202
    );
    assert!(query(&client, "more or push_time_seconds").is_empty());
    assert_eq!(push("PUT", "/metrics/nojob/x", "a 1\n").status, 400);
}
