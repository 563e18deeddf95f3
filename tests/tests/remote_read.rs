//! Remote read: what was written comes back, in both forms, and requests that cannot be are 400.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use chronolith_tests::write::{self, bytes, number, snappy};
use chronolith_tests::{Answer, Client, Server};

/// Asks for everything of a metric; `form` is the number of the response type.
fn read(client: &Client, metric: &str, end_ms: i64, form: u64) -> Answer {
    let mut matcher = Vec::new();
    bytes(&mut matcher, 2, b"__name__");
    bytes(&mut matcher, 3, metric.as_bytes());
    let mut query = Vec::new();
    number(&mut query, 1, 0);
    number(&mut query, 2, end_ms as u64);
    bytes(&mut query, 3, &matcher);
    let mut request = Vec::new();
    bytes(&mut request, 1, &query);
    number(&mut request, 2, form);
    post(client, &snappy(&request))
}

fn post(client: &Client, body: &[u8]) -> Answer {
    let headers = [
        ("content-type", "application/x-protobuf"),
        ("content-encoding", "snappy"),
    ];
    client.request("POST", "/api/v1/read", &headers, body)
}

#[test]
fn samples_come_back_as_one_message_or_as_frames() {
    let server = Server::start(&[]);
    let client = server.client();
    let now = write::now_ms();
    let sent = write::series(
        &[("__name__", "w"), ("job", "a")],
        &[(0.1, now - 1000), (-0.0, now)],
    );
    assert_eq!(
        write::send(&client, std::slice::from_ref(&sent)).status,
        204
    );

    let whole = read(&client, "w", now, 0);
    assert_eq!(whole.status, 200, "{}", whole.text());
    assert_eq!(whole.header("content-encoding"), Some("snappy"));
    let message = snap::raw::Decoder::new()
        .decompress_vec(&whole.body)
        .unwrap();
    // The series is written out as it was sent: one result with one series.
    let mut result = Vec::new();
    bytes(&mut result, 1, &sent);
    let mut expected = Vec::new();
    bytes(&mut expected, 1, &result);
    assert_eq!(message, expected);

    let frames = read(&client, "w", now, 1);
    assert_eq!(frames.status, 200);
    let streamed = "application/x-streamed-protobuf; proto=prometheus.ChunkedReadResponse";
    assert_eq!(frames.header("content-type"), Some(streamed));
    assert_eq!(usize::from(frames.body[0]), frames.body.len() - 5);
    assert!(read(&client, "other", now, 1).body.is_empty());
    assert_eq!(read(&client, "w", now, 7).status, 400);
}

#[test]
fn requests_that_cannot_be_are_refused() {
    let server = Server::start(&[]);
    let client = server.client();
    assert_eq!(post(&client, b"not snappy").status, 400);
    assert_eq!(post(&client, &snappy(&[0x0a, 0x7f])).status, 400);
    // A block that claims to be four gigabytes.
    assert_eq!(post(&client, &[0xff, 0xff, 0xff, 0xff, 0x0f]).status, 413);
    assert_eq!(client.get("/api/v1/read").status, 405);
}
