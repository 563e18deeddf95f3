//! Following logs over a websocket: the first lines, lines as they come, filters, limits, and the end.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use chronolith_tests::http::encode;
use chronolith_tests::websocket::Frame;
use chronolith_tests::{Client, Server, WebSocket, write};
use serde_json::{Value, json};

const PATH: &str = "/loki/api/v1/tail";

fn push(client: &Client, app: &str, lines: &[&str]) {
    let now = write::now_ms() * 1_000_000;
    let values: Vec<Value> = (now..)
        .zip(lines)
        .map(|(t, line)| json!([t.to_string(), line]))
        .collect();
    let body = json!({"streams": [{"stream": {"app": app}, "values": values}]}).to_string();
    let json = ("content-type", "application/json");
    let answer = client.request("POST", "/loki/api/v1/push", &[json], body.as_bytes());
    assert_eq!(answer.status, 204, "{}", answer.text());
}

fn path(query: &str, more: &str) -> String {
    format!("{PATH}?query={}{more}", encode(query))
}

fn next_json(socket: &mut WebSocket) -> Value {
    match socket.receive().unwrap() {
        Frame::Text(text) => serde_json::from_str(&text).unwrap(),
        close => panic!("{close:?}"),
    }
}

/// The next lines, as many as wanted.
fn lines(socket: &mut WebSocket, count: usize) -> Vec<String> {
    let mut lines = Vec::new();
    while lines.len() < count {
        let frame = next_json(socket);
        assert_eq!(frame["dropped_entries"], json!([]));
        for stream in frame["streams"].as_array().unwrap() {
            let values = stream["values"].as_array().unwrap().iter();
            lines.extend(values.map(|value| value[1].as_str().unwrap().to_owned()));
        }
    }
    lines
}

#[test]
fn lines_come_as_they_are_stored() {
    let server = Server::start(&["--tail-clients-max", "2"]);
    let (client, address) = (server.client(), server.address().to_owned());
    push(&client, "a", &["old 1", "old 2", "old 3"]);
    let mut tail = WebSocket::open(&address, &path(r#"{app="a"}"#, "&limit=2"), &[]).unwrap();
    assert_eq!(
        lines(&mut tail, 2),
        ["old 2", "old 3"],
        "the last lines, the oldest first"
    );
    push(&client, "a", &["new 1"]);
    push(&client, "b", &["of another stream"]);
    push(&client, "a", &["new 2"]);
    assert_eq!(lines(&mut tail, 2), ["new 1", "new 2"]);

    let query = r#"{app=~"a|b"} |= "n=" | logfmt | n > 1 | line_format "{{.n}}""#;
    let flags = [("x-loki-response-encoding-flags", "categorize-labels")];
    let mut filtered = WebSocket::open(&address, &path(query, ""), &flags).unwrap();
    push(&client, "b", &["n=1", "n=2", "m=3"]);
    let frame = next_json(&mut filtered);
    assert_eq!(frame["streams"][0]["values"][0][1], "2");
    assert_eq!(frame["streams"][0]["values"][0][2]["parsed"]["n"], "2");

    let refused = WebSocket::open(&address, &path(r#"{app="a"}"#, ""), &[])
        .err()
        .unwrap();
    assert!(refused.starts_with("HTTP/1.1 429 "), "{refused}");
    drop(filtered);
    // Its place is free once the server has noticed.
    let mut older = loop {
        let older = format!("/api/prom/tail?query={}", encode(r#"{app="b"} |= "n=1""#));
        if let Ok(socket) = WebSocket::open(&address, &older, &[]) {
            break socket;
        }
        std::thread::yield_now();
    };
    let frame = next_json(&mut older);
    assert_eq!(frame["streams"][0]["entries"][0]["line"], "n=1");
    assert!(
        frame["streams"][0]["labels"]
            .as_str()
            .unwrap()
            .starts_with("{app=\"b\"")
    );

    let (status, _) = server.stop();
    assert!(status.success());
    let end = loop {
        if let Frame::Close(code, reason) = tail.receive().unwrap() {
            break (code, reason);
        }
    };
    assert_eq!(end, (1001, "the server is stopping".to_owned()));
}

#[test]
fn tails_that_make_no_sense_are_refused() {
    let server = Server::start(&[]);
    let address = server.address().to_owned();
    for (query, more) in [
        ("{app=", ""),
        ("", ""),
        (r#"rate({app="a"}[1m])"#, ""),
        (r#"{app="a"}"#, "&delay_for=6"),
        (r#"{app="a"}"#, "&limit=0"),
        (r#"{app="a"}"#, "&start=yesterday"),
        (r#"{app="a"}"#, "&limit=1000000"),
    ] {
        let refused = WebSocket::open(&address, &path(query, more), &[]).err();
        let refused = refused.unwrap_or_else(|| panic!("{query} {more}"));
        assert!(
            refused.starts_with("HTTP/1.1 400 "),
            "{query} {more}: {refused}"
        );
    }
    // What is no frame ends the connection, and nothing else.
    let mut odd = WebSocket::open(&address, &path(r#"{app="a"}"#, ""), &[]).unwrap();
    odd.send_raw(&[0xff; 64]).unwrap();
    while odd.receive().is_ok() {}
    assert_eq!(server.client().get("/-/ready").status, 200);
}

#[test]
fn a_client_that_does_not_read_misses_lines_and_hears_of_it() {
    let server = Server::start(&[]);
    let (client, address) = (server.client(), server.address().to_owned());
    let mut tail = WebSocket::open(&address, &path(r#"{app="a"}"#, ""), &[]).unwrap();
    // More than fits into a queue and the buffers of both sides.
    let line = "x".repeat(200_000);
    let batch = vec![line.as_str(); 20];
    for _ in 0..12 {
        push(&client, "a", &batch);
    }
    let mut lines_seen = 0;
    let dropped = loop {
        let frame = next_json(&mut tail);
        for stream in frame["streams"].as_array().unwrap() {
            lines_seen += stream["values"].as_array().unwrap().len();
        }
        let dropped = frame["dropped_entries"].as_array().unwrap();
        if let Some(first) = dropped.first() {
            break first.clone();
        }
    };
    assert!(lines_seen < 240, "{lines_seen}");
    assert_eq!(dropped["labels"]["app"], "a");
    assert!(dropped["timestamp"].as_str().unwrap().len() == 19);
    // It goes on behind the gap.
    push(&client, "a", &["behind the gap"]);
    loop {
        let frame = next_json(&mut tail);
        if frame.to_string().contains("behind the gap") {
            break;
        }
    }
}
