//! InfluxDB's line protocol: what its clients ask, what they send, and what they read in the answers.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::io::Write as _;

use chronolith_tests::{Answer, Client, Server, write};
use serde_json::Value;

fn post(client: &Client, path: &str, text: &str) -> Answer {
    client.request("POST", path, &[], text.as_bytes())
}

/// The series that a selector finds, as text of labels and value.
fn query(client: &Client, selector: &str) -> Vec<String> {
    let answer = client.post_form("/api/v1/query", &[("query", selector)]);
    assert_eq!(answer.status, 200, "{}", answer.text());
    let data: Value = answer.json();
    let series = data["data"]["result"].as_array().unwrap().iter();
    let mut all: Vec<String> = series
        .map(|s| format!("{} {}", s["metric"], s["value"][1].as_str().unwrap()))
        .collect();
    all.sort();
    all
}

#[test]
fn lines_become_series_in_both_versions() {
    let server = Server::start(&[]);
    let client = server.client();
    let seconds = write::now_ms() / 1000;
    let text = format!(
        "# a comment\n\ncpu,host=a,path=C:\\x user=1.5,idle=98i,up=t,note=\"x, y\" {seconds}\nmem,host=a used=5u {seconds}\n"
    );
    let answer = post(&client, "/write?db=telegraf&precision=s&u=x&p=y", &text);
    assert_eq!(
        (answer.status, answer.body.len()),
        (204, 0),
        "{}",
        answer.text()
    );
    assert!(answer.header("x-influxdb-version").is_some());
    assert_eq!(
        query(&client, "{db=\"telegraf\"}"),
        [
            r#"{"__name__":"cpu_idle","db":"telegraf","host":"a","path":"C:\\x"} 98"#,
            r#"{"__name__":"cpu_up","db":"telegraf","host":"a","path":"C:\\x"} 1"#,
            r#"{"__name__":"cpu_user","db":"telegraf","host":"a","path":"C:\\x"} 1.5"#,
            r#"{"__name__":"mem_used","db":"telegraf","host":"a"} 5"#,
        ]
    );
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(b"disk used=7").unwrap();
    let headers = [
        ("content-encoding", "gzip"),
        // As curl sends it with --data-binary.
        ("content-type", "application/x-www-form-urlencoded"),
        ("authorization", "Token whatever"),
    ];
    let path = "/influx/api/v2/write?org=o&bucket=b%2Fautogen&precision=ns";
    let answer = client.request("POST", path, &headers, &gzip.finish().unwrap());
    assert_eq!(answer.status, 204, "{}", answer.text());
    assert_eq!(
        query(&client, "disk_used"),
        [r#"{"__name__":"disk_used","db":"b/autogen"} 7"#]
    );
    let text = client.get("/metrics").text();
    for line in [
        "chronolith_influx_lines_total{outcome=\"stored\"} 3",
        "chronolith_influx_strings_skipped_total 1",
    ] {
        assert!(text.contains(line), "{line} in {text}");
    }
}

#[test]
fn bad_lines_are_named_and_good_ones_stored() {
    let server = Server::start(&[]);
    let client = server.client();
    let text = "good v=1\nno_fields\ngood,k= v=2\ngood v=3x\nother v=4\n";
    let answer = post(&client, "/write", text);
    assert_eq!(answer.status, 400);
    let error = answer.json()["error"].as_str().unwrap().to_owned();
    assert_eq!(
        error,
        "partial write: line 2: unable to parse 'no_fields': missing fields; \
         line 3: unable to parse 'good,k=': missing tag value; \
         line 4: unable to parse 'good v=3x': invalid number dropped=3"
    );
    assert_eq!(answer.header("x-influxdb-error"), Some(error.as_str()));
    assert_eq!(query(&client, "{__name__=~\"good_v|other_v\"}").len(), 2);

    let answer = post(&client, "/api/v2/write?bucket=b", "x\n");
    assert_eq!(answer.status, 400);
    let body = answer.json();
    assert_eq!(
        (&body["code"], &body["line"]),
        (&"invalid".into(), &1.into())
    );
    assert!(!body["message"].as_str().unwrap().contains("partial write"));

    let answer = post(&client, "/api/v2/write?precision=days", "m v=1");
    assert_eq!(
        (answer.status, answer.json()["code"].as_str()),
        (400, Some("invalid"))
    );
    let bad_gzip = client.request("POST", "/write", &[("content-encoding", "gzip")], b"m v=1");
    assert_eq!(bad_gzip.status, 400);
    let unknown = client.request("POST", "/write", &[("content-encoding", "br")], b"m v=1");
    assert_eq!(unknown.status, 415);
    assert_eq!(post(&client, "/write", "").status, 204);
}

#[test]
fn limits_hold() {
    let flags = ["--write-body-max", "64KiB", "--tenant-series-max", "2"];
    let server = Server::start(&flags);
    let client = server.client();
    let large = "m v=1\n".repeat(20_000);
    let answer = post(&client, "/api/v2/write", &large);
    assert_eq!(
        (answer.status, answer.json()["code"].as_str()),
        (413, Some("request too large"))
    );
    let answer = post(&client, "/write", "m,h=1 a=1,b=2\nm,h=2 a=1\nm,h=1 a=3\n");
    assert_eq!(answer.status, 400);
    let error = answer.json()["error"].as_str().unwrap().to_owned();
    assert!(error.starts_with("partial write: line 2:"), "{error}");
    assert!(error.ends_with("dropped=1"), "{error}");
    assert_eq!(query(&client, "{__name__=~\"m_.\"}").len(), 2);
}

#[test]
fn clients_are_answered_before_they_write() {
    let server = Server::start(&[]);
    let client = server.client();
    for path in ["/ping", "/influx/ping"] {
        let answer = client.get(path);
        assert_eq!(answer.status, 204, "{path}");
        assert!(answer.header("x-influxdb-version").is_some());
        assert_eq!(client.request("HEAD", path, &[], b"").status, 204, "{path}");
    }
    assert_eq!(client.get("/ping?verbose=true").json()["version"], "1.8.10");
    for path in ["/health", "/influx/health"] {
        assert_eq!(client.get(path).json()["status"], "pass", "{path}");
    }
    let made = client.post_form("/query", &[("q", "CREATE DATABASE \"telegraf\"")]);
    assert_eq!(made.status, 200);
    assert_eq!(made.json()["results"][0]["statement_id"], 0);
    assert_eq!(client.get("/influx/query?q=show+databases").status, 200);
    let refused = client.get("/query?q=SELECT+1");
    assert_eq!(refused.status, 400);
    assert!(refused.json()["error"].as_str().unwrap().contains("PromQL"));
}
