//! The way down: SIGTERM ends the process with 0, soon, and loses nothing.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::net::TcpStream;
use std::time::Duration;

use chronolith_tests::{Server, write};

#[test]
fn sigterm_ends_with_zero_and_keeps_what_was_acknowledged() {
    for sync in ["always", "interval", "off"] {
        let server = Server::start(&["--sync", sync]);
        let now = write::now_ms();
        let series = write::series(&[("__name__", "last_words")], &[(42.0, now)]);
        assert_eq!(write::send(&server.client(), &[series]).status, 204);
        let dir = server.dir();
        let (status, took) = server.stop();
        assert_eq!(status.code(), Some(0), "{sync}");
        assert!(took < Duration::from_secs(10), "{sync}: {took:?}");
        let server = Server::start_in(dir, &[]);
        let found = server
            .client()
            .get("/api/v1/series?match[]=last_words")
            .json();
        assert_eq!(found["data"].as_array().map(Vec::len), Some(1), "{sync}");
    }
}

#[test]
fn an_idle_connection_does_not_hold_the_process() {
    let server = Server::start(&[]);
    let _idle = TcpStream::connect(server.address()).unwrap();
    std::thread::sleep(Duration::from_millis(50));
    let (status, took) = server.stop();
    assert_eq!(status.code(), Some(0));
    assert!(took < Duration::from_secs(10), "{took:?}");
}
