//! Queries under control: listed, killed, ended when the client leaves, holding their turn until their
//! answer is sent; answers that are kept, and those as of an earlier moment.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use chronolith_tests::http::encode;
use chronolith_tests::{Answer, Client, Server, write};
use serde_json::{Value, json};

/// Runs for minutes unless somebody ends it: 11,000 windows of 8.6 million samples.
const ENDLESS: &str =
    "/api/v1/query_range?query=sum_over_time(vector(1)%5B10d%3A100ms%5D)&start=0&end=10000&step=1";

fn sql(client: &Client, statement: &str) -> Value {
    let body = json!({ "query": statement }).to_string();
    let headers = [("content-type", "application/json")];
    let answer = client.request("POST", "/api/v1/sql", &headers, body.as_bytes());
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()["rows"].clone()
}

/// Waits until `look` finds something.
fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(began.elapsed() < Duration::from_secs(30), "{what}: never");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The id of the PromQL query that is in a state.
fn query_in(client: &Client, state: &str) -> Option<i64> {
    let statement = format!(
        "SELECT id FROM system.queries WHERE language = 'promql' AND state = '{state}' ORDER BY id DESC"
    );
    sql(client, &statement)[0][0].as_i64()
}

/// Sends a request and answers the connection, of which nothing is read.
fn send(server: &Server, path: &str) -> TcpStream {
    let mut stream = TcpStream::connect(server.address()).unwrap();
    let head = format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n");
    stream.write_all(head.as_bytes()).unwrap();
    stream
}

#[test]
fn running_queries_are_listed_and_killed() {
    let server = Server::start(&["--enable-admin-api"]);
    let client = server.client();
    let mut asked = send(&server, ENDLESS);
    let id = eventually("running", || query_in(&client, "running"));
    let row = sql(
        &client,
        &format!("SELECT tenant, text, elapsed_seconds > 0 FROM system.queries WHERE id = {id}"),
    );
    assert_eq!(
        row[0],
        json!(["default", "sum_over_time(vector(1)[10d:100ms])", true])
    );
    let kill = |id: i64| client.post_form(&format!("/api/v1/admin/queries/{id}/kill"), &[]);
    assert_eq!(kill(id + 1000).status, 404);
    let stranger = server.client().with_header("x-scope-orgid", "other");
    let path = format!("/api/v1/admin/queries/{id}/kill");
    assert_eq!(stranger.post_form(&path, &[]).status, 404);
    assert_eq!(kill(id).status, 204);
    let mut answer = vec![0; 16];
    asked.read_exact(&mut answer).unwrap();
    assert_eq!(answer, b"HTTP/1.1 499 <no".as_slice());
    eventually("cancelled", || {
        query_in(&client, "cancelled").filter(|found| *found == id)
    });
    assert_eq!(kill(id).status, 404);
}

#[test]
fn without_the_admin_api_nobody_kills_what_is_not_his() {
    let server = Server::start(&[]);
    let client = server.client();
    let _asked = send(&server, ENDLESS);
    let id = eventually("running", || query_in(&client, "running"));
    let answer = client.post_form(&format!("/api/v1/admin/queries/{id}/kill"), &[]);
    assert_eq!(answer.status, 403, "{}", answer.text());
}

#[test]
fn the_evaluation_ends_when_the_client_leaves() {
    let server = Server::start(&[]);
    let client = server.client();
    let asked = send(&server, ENDLESS);
    let id = eventually("running", || query_in(&client, "running"));
    drop(asked);
    eventually("cancelled", || {
        query_in(&client, "cancelled").filter(|found| *found == id)
    });
}

fn with_series(count: usize, flags: &[&str]) -> Server {
    let server = Server::start(flags);
    let now = write::now_ms();
    let series: Vec<_> = (0..count)
        .map(|number| {
            let host = format!("host-{number:04}");
            write::series(&[("__name__", "m"), ("host", &host)], &[(1.0, now)])
        })
        .collect();
    assert_eq!(write::send(&server.client(), &series).status, 204);
    server
}

#[test]
fn a_streamed_answer_holds_its_turn_until_it_is_sent() {
    let flags = ["--query-concurrency-max", "1"];
    let server = with_series(200, &flags);
    let client = server.client();
    let now = write::now_ms() / 1000 + 1;
    // 200 series of 10,001 points: more than sockets buffer.
    let start = now + 200;
    let path = format!("/api/v1/query_range?query=m&start={now}&end={start}&step=0.02&nocache=1");
    let mut slow = send(&server, &path);
    let mut first = [0; 12];
    slow.read_exact(&mut first).unwrap();
    assert_eq!(&first, b"HTTP/1.1 200");
    let answer = client.get("/api/v1/query?query=1&timeout=0.5");
    assert_eq!(answer.status, 503, "{}", answer.text());
    assert_eq!(answer.json()["error"], "query timed out in query queue");
    drop(slow);
    let free = |answer: Answer| (answer.status == 200).then_some(());
    eventually("free again", || {
        free(client.get("/api/v1/query?query=1&timeout=5"))
    });
    let states = sql(
        &client,
        "SELECT state, bytes FROM system.queries WHERE text = 'm'",
    );
    assert_eq!(states[0][0], "cancelled", "{states}");
}

#[test]
fn a_streamed_statement_ends_when_the_client_leaves() {
    let server = with_series(1, &["--query-concurrency-max", "2"]);
    let client = server.client();
    let body = json!({ "query": "SELECT value FROM generate_series(1, 100000000000) AS t(value)" });
    let body = body.to_string();
    let mut stream = TcpStream::connect(server.address()).unwrap();
    let head = format!(
        "POST /api/v1/sql HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(head.as_bytes()).unwrap();
    let mut first = [0; 12];
    stream.read_exact(&mut first).unwrap();
    assert_eq!(&first, b"HTTP/1.1 200");
    let state = |state: &str| {
        let statement = format!(
            "SELECT id FROM system.queries WHERE text LIKE '%generate_series%' AND text NOT LIKE '%system%' AND state = '{state}'"
        );
        sql(&client, &statement)[0][0].as_i64()
    };
    eventually("sending", || state("sending"));
    drop(stream);
    eventually("cancelled", || state("cancelled"));
}

fn value(answer: &Answer) -> Value {
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()["data"]["result"][0]["value"][1].clone()
}

#[test]
fn answers_as_of_an_earlier_moment() {
    let server = Server::start(&["--as-of-retention", "1h"]);
    let client = server.client();
    // Late, so that the arrival counts and not the sample's own time.
    let time = write::now_ms() - 600_000;
    let write_value = |value: f64| {
        let series = write::series(&[("__name__", "m")], &[(value, time)]);
        assert_eq!(write::send(&client, &[series]).status, 204);
    };
    write_value(1.0);
    let between = write::now_ms() + 1;
    eventually("a later moment", || {
        (write::now_ms() > between + 1).then_some(())
    });
    write_value(2.0);
    let seconds = |ms: i64| format!("{}.{:03}", ms / 1000, ms % 1000);
    let now = format!("/api/v1/query?query=m&time={}", seconds(time));
    assert_eq!(value(&client.get(&now)), "2");
    let then = format!("{now}&as_of={}", seconds(between));
    assert_eq!(value(&client.get(&then)), "1");
    let range = format!(
        "/api/v1/query_range?query=m&start={t}&end={t}&step=1&as_of={}",
        seconds(between),
        t = seconds(time)
    );
    let answer = client.get(&range);
    assert_eq!(answer.json()["data"]["result"][0]["values"][0][1], "1");
    let answer = client.get(&format!("{now}&as_of=1000"));
    assert_eq!(answer.status, 422, "{}", answer.text());
    let error = answer.json()["error"].as_str().unwrap().to_owned();
    assert!(error.starts_with("cannot read as of "), "{error}");
    assert_eq!(client.get(&format!("{now}&as_of=soon")).status, 400);
}

#[test]
fn a_backfill_is_in_the_next_answer() {
    let server = Server::start(&[]);
    let client = server.client();
    let now = write::now_ms() / 60_000 * 60_000;
    let row = |minutes: i64, value: f64| {
        let labels = [("__name__", "m"), ("x", "1")];
        let series = write::series(&labels, &[(value, now - minutes * 60_000)]);
        assert_eq!(write::send(&client, &[series]).status, 204);
    };
    for minutes in (0..30).rev() {
        row(minutes, 1.0);
    }
    let path = format!(
        "/api/v1/query_range?query={}&start={}&end={}&step=60",
        encode("sum(m)"),
        now / 1000 - 1800,
        now / 1000
    );
    let plain = format!("{path}&nocache=1");
    for _ in 0..2 {
        assert_eq!(client.get(&path).text(), client.get(&plain).text());
    }
    let metrics = client.get("/metrics").text();
    let hit = "chronolith_query_cache_requests_total{result=\"hit\"} 1";
    assert!(metrics.contains(hit), "{metrics}");
    row(15, 1000.0);
    let answer = client.get(&path).text();
    assert!(answer.contains("\"1000\""), "{answer}");
    assert_eq!(answer, client.get(&plain).text());
}

/// The third time a text comes from where the second was kept; no byte may differ.
#[test]
fn kept_texts_are_the_answers() {
    let server = with_series(300, &[]);
    let client = server.client();
    let now = write::now_ms() / 1000;
    for query in ["m", "m > 5", "count(m)"] {
        for length in [0, 3, 700] {
            let (start, end) = (now - length, now + 3);
            let path = format!(
                "/api/v1/query_range?query={}&start={start}&end={end}&step=1",
                encode(query)
            );
            let plain = client.get(&format!("{path}&nocache=1"));
            assert_eq!(plain.status, 200, "{}", plain.text());
            for _ in 0..4 {
                assert!(client.get(&path).text() == plain.text(), "{path}");
            }
            let limited = client.get(&format!("{path}&limit=1")).json();
            assert!(limited["data"]["result"].as_array().unwrap().len() <= 1);
        }
    }
}

#[test]
fn limits_of_a_query_are_settings() {
    let flags = [
        "--query-memory-max",
        "100KB",
        "--query-points-max",
        "1200",
        "--query-depth-max",
        "12",
    ];
    let server = with_series(200, &flags);
    let client = server.client();
    let refused = |path: &str, status: u16, kind: &str, message: &str| {
        let answer = client.get(path);
        assert_eq!(answer.status, status, "{}", answer.text());
        let body = answer.json();
        assert_eq!(
            (&body["status"], &body["errorType"]),
            (&json!("error"), &json!(kind))
        );
        let error = body["error"].as_str().unwrap();
        assert!(error.contains(message), "{error}");
    };
    let range = |query: &str, end: i64| {
        format!(
            "/api/v1/query_range?query={}&start={}&end={}&step=1",
            encode(query),
            0,
            end
        )
    };
    assert_eq!(client.get(&range("m", 1200)).status, 200);
    let message = "exceeded maximum resolution of 1,200 points per timeseries. Try decreasing the query resolution (?step=XX)";
    refused(&range("m", 1201), 400, "bad_data", message);
    let now = write::now_ms() / 1000;
    let path = format!(
        "/api/v1/query_range?query=m&start={now}&end={}&step=1",
        now + 250
    );
    refused(&path, 422, "execution", "query_memory_max allows 100000");
    let deep = format!("{}1{}", "(".repeat(20), ")".repeat(20));
    let path = format!("/api/v1/query?query={}", encode(&deep));
    refused(&path, 400, "bad_data", "nests deeper than 12 levels");
    // SQL has the same limit, in its own shape.
    let statement = "SELECT a.value FROM metrics a CROSS JOIN metrics b ORDER BY a.value + b.value";
    let body = json!({ "query": statement }).to_string();
    let headers = [("content-type", "application/json")];
    let answer = client.request("POST", "/api/v1/sql", &headers, body.as_bytes());
    assert_eq!(answer.status, 422, "{}", answer.text());
    assert!(answer.text().contains("query_memory_max allows 100000"));
}

#[test]
fn listings_searches_and_federation_are_listed_like_queries() {
    let server = with_series(3, &["--enable-feature", "search-api"]);
    let client = server.client();
    let asked = [
        (
            "listing",
            "series?match[]=m{host=~\"host.*\"}&limit=2",
            "/api/v1/series?match[]=m%7Bhost%3D~%22host.*%22%7D&limit=2",
        ),
        ("listing", "labels", "/api/v1/labels"),
        (
            "listing",
            "label/host/values?match[]=m",
            "/api/v1/label/host/values?match[]=m",
        ),
        ("listing", "metadata", "/api/v1/metadata"),
        (
            "search",
            "search/metric_names?search[]=m",
            "/api/v1/search/metric_names?search[]=m",
        ),
        ("federate", "federate?match[]=m", "/federate?match[]=m"),
    ];
    for (_, _, path) in asked {
        let answer = client.get(path);
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    let statement = "SELECT language, text, bytes > 0, state FROM system.queries WHERE language <> 'sql' ORDER BY id";
    let expected: Vec<Value> = (asked.iter())
        .map(|(language, text, _)| json!([language, text, true, "finished"]))
        .collect();
    eventually("all of them finished", || {
        (sql(&client, statement) == json!(expected)).then_some(())
    });
}

#[test]
fn a_listing_that_waits_can_be_killed() {
    let server = Server::start(&["--enable-admin-api", "--query-concurrency-max", "1"]);
    let client = server.client();
    // The only turn is taken, so that nobody can ask for the ids; they count from 1.
    let kill = |id: i64| {
        client
            .post_form(&format!("/api/v1/admin/queries/{id}/kill"), &[])
            .status
    };
    let _running = send(&server, ENDLESS);
    let waits = "chronolith_query_running 1";
    eventually("running", || {
        client.get("/metrics").text().contains(waits).then_some(())
    });
    let mut listing = send(&server, "/api/v1/labels");
    eventually("killed", || (kill(2) == 204).then_some(()));
    assert_eq!(kill(1), 204);
    let mut answer = vec![0; 16];
    listing.read_exact(&mut answer).unwrap();
    assert_eq!(answer, b"HTTP/1.1 499 <no".as_slice());
}
