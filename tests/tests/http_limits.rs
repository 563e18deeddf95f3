//! What a client can hold is bounded: heads, bodies, connections, time.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use chronolith_tests::{Server, write};

fn status_of(answer: &[u8]) -> Option<u16> {
    let text = String::from_utf8_lossy(answer);
    text.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()
}

#[test]
fn broken_http_is_refused() {
    let server = Server::start(&[]);
    let client = server.client();
    let huge = format!(
        "GET / HTTP/1.1\r\nhost: x\r\na: {}\r\n\r\n",
        "a".repeat(64 << 10)
    );
    let cases: [&[u8]; 5] = [
        b"GET / HTTP/1.1\r\nhost: x\r\na: b\0c\r\n\r\n",
        b"POST /api/v1/write HTTP/1.1\r\nhost: x\r\ncontent-length: -5\r\n\r\n",
        b"POST /api/v1/write HTTP/1.1\r\nhost: x\r\ncontent-length: 4\r\ncontent-length: 9\r\n\r\naaaaaaaaa",
        b"\x01\x02\x03 noise\r\n\r\n",
        huge.as_bytes(),
    ];
    for case in cases {
        let answer = client.raw(case).unwrap_or_default();
        let status = status_of(&answer);
        assert!(
            answer.is_empty() || status.is_some_and(|s| (400..500).contains(&s)),
            "{:?} for {:?}",
            String::from_utf8_lossy(&answer),
            String::from_utf8_lossy(&case[..case.len().min(80)])
        );
    }
    assert_eq!(client.get("/-/ready").status, 200);
}

#[test]
fn a_slow_head_and_a_slow_body_end() {
    let server = Server::start(&["--header-timeout", "1s", "--body-timeout", "1s"]);
    let heads: [&[u8]; 2] = [
        b"GET / HTTP/1.1\r\nhost: x\r\n",
        b"POST /api/v1/write HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\nabc",
    ];
    for head in heads {
        let mut stream = TcpStream::connect(server.address()).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(20)))
            .unwrap();
        stream.write_all(head).unwrap();
        let began = Instant::now();
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        assert!(
            began.elapsed() < Duration::from_secs(10),
            "{:?}",
            began.elapsed()
        );
        let status = status_of(&answer);
        assert!(
            answer.is_empty() || status.is_some_and(|s| (400..500).contains(&s)),
            "{status:?}"
        );
    }
}

#[test]
fn writes_beyond_the_budget_are_429_with_a_time_to_retry() {
    // An eighth of 8 MiB is the budget: the first half-sent body takes it all.
    let server = Server::start(&["--memory-max", "8MiB", "--write-body-max", "1MiB"]);
    let mut holder = TcpStream::connect(server.address()).unwrap();
    let head = format!(
        "POST /api/v1/write HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n",
        1 << 20
    );
    holder.write_all(head.as_bytes()).unwrap();
    std::thread::sleep(Duration::from_millis(200));
    let one = write::series(&[("__name__", "x")], &[(1.0, write::now_ms())]);
    let refused = write::send(&server.client(), std::slice::from_ref(&one));
    assert_eq!(refused.status, 429, "{}", refused.text());
    assert!(refused.header("retry-after").is_some());
    drop(holder);
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(write::send(&server.client(), &[one]).status, 204);
}

#[test]
fn silent_connections_shut_nobody_out() {
    let server = Server::start(&["--connections-max", "8", "--header-timeout", "5m"]);
    let silent: Vec<TcpStream> = (0..50)
        .map(|_| TcpStream::connect(server.address()).unwrap())
        .collect();
    // Each newcomer takes the place of the one that has been silent for the longest.
    for _ in 0..20 {
        assert_eq!(server.client().get("/-/ready").status, 200);
    }
    drop(silent);
}

#[test]
fn answers_are_compressed_when_asked_for() {
    let server = Server::start(&[]);
    let accept = server.client().with_header("accept-encoding", "gzip");
    let answer = accept.get("/metrics");
    assert_eq!(answer.header("content-encoding"), Some("gzip"));
    let mut text = String::new();
    flate2::read::GzDecoder::new(&answer.body[..])
        .read_to_string(&mut text)
        .unwrap();
    assert!(text.contains("chronolith_build_info"));
}

#[test]
fn browsers_of_configured_origins_may_ask() {
    let server = Server::start(&["--cors-origins", "https://a.example"]);
    let preflight = |origin: &str| {
        let headers = [("origin", origin), ("access-control-request-method", "GET")];
        let answer = server
            .client()
            .request("OPTIONS", "/api/v1/labels", &headers, b"");
        answer
            .header("access-control-allow-origin")
            .map(str::to_owned)
    };
    assert_eq!(
        preflight("https://a.example").as_deref(),
        Some("https://a.example")
    );
    assert_eq!(preflight("https://b.example"), None);
}
