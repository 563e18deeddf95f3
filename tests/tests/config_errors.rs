//! A start that cannot succeed says why, names the place, and ends with 1.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::fs;
use std::net::TcpListener;

use chronolith_tests::Server;
use chronolith_tests::server::run;
use tempfile::TempDir;

/// Runs `serve` with these flags on a fresh directory; answers what it complained about.
fn complaint(flags: &[&str]) -> String {
    let dir = TempDir::new().unwrap();
    let data = dir.path().join("data");
    let mut args = vec!["serve"];
    if !flags.contains(&"--data-dir") {
        args.extend(["--data-dir", data.to_str().unwrap()]);
    }
    if !flags.contains(&"--listen") {
        args.extend(["--listen", "127.0.0.1:0"]);
    }
    args.extend(flags);
    let output = run(&args);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_taken_port_is_named() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let text = complaint(&["--listen", &address]);
    assert!(text.contains(&address) && text.contains("taken"), "{text}");
}

#[test]
fn a_second_process_learns_who_holds_the_directory() {
    let server = Server::start(&[]);
    let data = server.dir().path().join("data");
    let output = run(&[
        "serve",
        "--listen",
        "127.0.0.1:0",
        "--data-dir",
        data.to_str().unwrap(),
    ]);
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    let pid = format!("pid {}", server.pid());
    assert!(text.contains("in use") && text.contains(&pid), "{text}");
}

#[test]
fn a_directory_that_cannot_be_made_is_named() {
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "").unwrap();
    let below = file.join("data");
    let text = complaint(&["--data-dir", below.to_str().unwrap()]);
    assert!(text.contains(below.to_str().unwrap()), "{text}");
}

#[test]
fn unknown_keys_and_bad_values_name_their_place() {
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("chronolith.yml");
    let path = file.to_str().unwrap();
    fs::write(&file, "# comment\nmemory_maxx: 1GiB\n").unwrap();
    let text = complaint(&["--config", path]);
    assert!(
        text.contains("line 2") && text.contains("did you mean \"memory_max\"?"),
        "{text}"
    );
    fs::write(&file, "retention: forever\n").unwrap();
    let text = complaint(&["--config", path]);
    assert!(
        text.contains("line 1: retention: expected a duration"),
        "{text}"
    );
    let check = run(&["check", "config", path]);
    assert_eq!(check.status.code(), Some(1));
    fs::write(&file, "retention: 30d\nscrape_configs: []\n").unwrap();
    let check = run(&["check", "config", path]);
    assert!(check.status.success(), "{check:?}");
}

#[test]
fn the_file_the_environment_and_the_flags_are_read() {
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("chronolith.yml");
    fs::write(&file, "retention: 30d\nquery_timeout: 7s\n").unwrap();
    let server = Server::start(&["--config", file.to_str().unwrap(), "--query-timeout", "9s"]);
    let flags = server.client().get("/api/v1/status/flags").json();
    assert_eq!(flags["data"]["retention"], "30d");
    assert_eq!(flags["data"]["query-timeout"], "9s");
    let yaml = server.client().get("/api/v1/status/config").json();
    let yaml = yaml["data"]["yaml"].as_str().unwrap().to_owned();
    assert!(yaml.contains("retention: \"30d\""), "{yaml}");
}
