//! Log files: every line is stored once, whatever happens to the file and to the server.

#![expect(
    clippy::disallowed_methods,
    reason = "rotation is a rename that somebody else makes"
)]
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use chronolith_tests::{Client, Server, http};
use serde_json::Value;
use tempfile::TempDir;

/// A server with one job over files of its directory.
struct Setup {
    dir: Arc<TempDir>,
    config: PathBuf,
}

impl Setup {
    /// `more` are further keys of the job, each on a line of its own.
    fn new(pattern: &str, more: &str) -> Self {
        let dir = Arc::new(TempDir::new().unwrap());
        std::fs::create_dir(dir.path().join("log")).unwrap();
        let config = dir.path().join("chronolith.yml");
        let pattern = dir.path().join("log").join(pattern);
        let text = format!(
            "logs_configs:\n- job_name: app\n  paths: ['{}']\n  poll_interval: 50ms\n  flush_after: 300ms\n{more}",
            pattern.display()
        );
        std::fs::write(&config, text).unwrap();
        Self { dir, config }
    }

    fn start(&self, flags: &[&str]) -> Server {
        let mut all = vec!["--config", self.config.to_str().unwrap()];
        all.extend(flags);
        Server::start_in(Arc::clone(&self.dir), &all)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join("log").join(name)
    }

    fn append(&self, name: &str, text: &str) {
        let mut file = open(&self.path(name));
        file.write_all(text.as_bytes()).unwrap();
    }
}

fn open(path: &Path) -> File {
    let mut options = OpenOptions::new();
    options.create(true).append(true).open(path).unwrap()
}

/// What the store has: stream labels, time, line, attributes; oldest first.
fn records(client: &Client, query: &str) -> Vec<(Value, i64, String, Value)> {
    let path = format!(
        "/loki/api/v1/query_range?direction=forward&limit=5000&start=2026-01-01T00:00:00Z&query={}",
        http::encode(query)
    );
    let answer = client.get(&path);
    assert_eq!(answer.status, 200, "{}", answer.text());
    let body = answer.json();
    let mut all = Vec::new();
    for stream in body["data"]["result"].as_array().unwrap() {
        for value in stream["values"].as_array().unwrap() {
            let time = value[0].as_str().unwrap().parse().unwrap();
            let line = value[1].as_str().unwrap().to_owned();
            all.push((stream["stream"].clone(), time, line, value[2].clone()));
        }
    }
    all.sort_by_key(|(_, time, ..)| *time);
    all
}

fn lines(client: &Client) -> Vec<String> {
    let all = records(client, "{job=\"app\"}").into_iter();
    all.map(|(_, _, line, _)| line).collect()
}

/// Waits until as many lines are there, and answers them.
fn wait_for(client: &Client, count: usize) -> Vec<String> {
    let end = Instant::now() + Duration::from_secs(30);
    loop {
        let found = lines(client);
        if found.len() >= count {
            return found;
        }
        let files = client.get("/api/v1/log_files").text();
        assert!(Instant::now() < end, "{found:?}, {files}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn renamed_files_are_read_to_their_end() {
    let setup = Setup::new("*.log", "");
    let server = setup.start(&[]);
    let client = server.client();
    setup.append("a.log", "one\ntwo\n");
    assert_eq!(wait_for(&client, 2), ["one", "two"]);
    // The writer keeps its handle for a moment, as after logrotate.
    let mut writer = open(&setup.path("a.log"));
    std::fs::rename(setup.path("a.log"), setup.path("a.log.1")).unwrap();
    writer.write_all(b"three\n").unwrap();
    setup.append("a.log", "four\n");
    assert_eq!(wait_for(&client, 4).len(), 4);
    writer.write_all(b"five without a newline").unwrap();
    let mut all = wait_for(&client, 5);
    all.sort();
    let mut expected = ["one", "two", "three", "four", "five without a newline"];
    expected.sort_unstable();
    assert_eq!(all, expected);
    // A name that is meant keeps the position.
    std::fs::rename(setup.path("a.log"), setup.path("b.log")).unwrap();
    setup.append("b.log", "six\n");
    assert_eq!(wait_for(&client, 6).len(), 6);
    let labels = &records(&client, "{job=\"app\"} |= \"six\"")[0].0;
    assert!(labels["filename"].as_str().unwrap().ends_with("a.log"));
    let metrics = client.get("/metrics").text();
    assert!(
        metrics.contains("chronolith_files_rotations_total{job=\"app\"} 2"),
        "{metrics}"
    );
    assert!(
        metrics.contains("chronolith_files_records_total{job=\"app\"} 6"),
        "{metrics}"
    );
}

#[test]
fn every_line_is_stored_once_although_the_server_is_killed() {
    const LINES: usize = 3_000;
    let setup = Setup::new("*.log", "");
    let path = setup.path("app.log");
    let rotated = setup.path("app.log.1");
    let writer = std::thread::spawn(move || {
        let mut file = open(&path);
        for number in 0..LINES {
            if number == LINES / 2 {
                std::fs::rename(&path, &rotated).unwrap();
                file = open(&path);
            }
            // Torn into two writes, so that half a line is there now and then.
            write!(file, "line {number} of ").unwrap();
            writeln!(file, "many").unwrap();
            if number % 10 == 0 {
                std::thread::sleep(Duration::from_millis(4));
            }
        }
    });
    for count in [300, 1_200] {
        let server = setup.start(&[]);
        wait_for(&server.client(), count);
        server.kill();
    }
    writer.join().unwrap();
    let server = setup.start(&[]);
    let found = wait_for(&server.client(), LINES);
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for line in &found {
        *counts.entry(line).or_default() += 1;
    }
    let odd: Vec<_> = counts.iter().filter(|(_, count)| **count != 1).collect();
    assert!(
        odd.is_empty() && counts.len() == LINES,
        "{} lines, {odd:?}",
        counts.len()
    );
}

#[test]
fn emptied_files_are_read_anew_and_copies_are_not() {
    // The copies have names that are meant.
    let setup = Setup::new("app.log*", "");
    let server = setup.start(&[]);
    let client = server.client();
    setup.append("app.log", "one\ntwo\n");
    wait_for(&client, 2);
    std::fs::copy(setup.path("app.log"), setup.path("app.log.1")).unwrap();
    File::create(setup.path("app.log")).unwrap();
    setup.append("app.log", "three\n");
    let mut all = wait_for(&client, 3);
    all.sort();
    assert_eq!(all, ["one", "three", "two"]);
    server.stop();

    // While nobody looks: more lines, copied, emptied, and new ones.
    setup.append("app.log", "four\n");
    std::fs::copy(setup.path("app.log"), setup.path("app.log.2")).unwrap();
    File::create(setup.path("app.log")).unwrap();
    setup.append(
        "app.log",
        "five, longer than all that was there before it\n",
    );
    let server = setup.start(&[]);
    let mut all = wait_for(&server.client(), 5);
    all.sort();
    let five = "five, longer than all that was there before it";
    assert_eq!(all, [five, "four", "one", "three", "two"]);
    let metrics = server.client().get("/metrics").text();
    assert!(
        metrics.contains("chronolith_files_truncations_total{job=\"app\"} 1"),
        "{metrics}"
    );
}

#[test]
fn what_a_copy_holds_is_found_although_its_name_is_not_meant() {
    let setup = Setup::new("*.log", "");
    let server = setup.start(&[]);
    setup.append("app.log", "one\n");
    wait_for(&server.client(), 1);
    server.stop();
    setup.append("app.log", "two\n");
    std::fs::copy(setup.path("app.log"), setup.path("app.log.1")).unwrap();
    File::create(setup.path("app.log")).unwrap();
    setup.append("app.log", "3\n");
    // Beside it one that was renamed, and has lines that nobody read.
    let server = setup.start(&[]);
    let mut all = wait_for(&server.client(), 3);
    all.sort();
    assert_eq!(all, ["3", "one", "two"]);
    server.stop();
    setup.append("app.log", "4\n");
    std::fs::rename(setup.path("app.log"), setup.path("app.old")).unwrap();
    let server = setup.start(&[]);
    let mut all = wait_for(&server.client(), 4);
    all.sort();
    assert_eq!(all, ["3", "4", "one", "two"]);
}

#[test]
fn lines_become_records_with_fields() {
    let setup = Setup::new(
        "*/*.log",
        "  start_at: end\n  labels: {env: test}\n  filename_label: ''\n  path_labels: 'log/(?P<unit>[^/]+)/'\n  \
         parse: json\n  multiline: {first_line: '^\\{'}\n",
    );
    std::fs::create_dir(setup.path("shop")).unwrap();
    setup.append("shop/a.log", "{\"old\": 1}\n");
    let server = setup.start(&["--log-line-max", "100B", "--retention", "0"]);
    let client = server.client();
    let is_followed = |client: &Client| {
        let body = client.get("/api/v1/log_files").json();
        let files = body["data"]["jobs"][0]["files"].as_array().unwrap().clone();
        files
            .first()
            .is_some_and(|f| f["position"] == 11 && f["lagBytes"] == 0)
    };
    let end = Instant::now() + Duration::from_secs(20);
    while !is_followed(&client) {
        assert!(
            Instant::now() < end,
            "{}",
            client.get("/api/v1/log_files").text()
        );
        std::thread::sleep(Duration::from_millis(20));
    }
    setup.append(
        "shop/a.log",
        "{\"time\":\"2026-11-21T01:02:03.000000004Z\",\"level\":\"warn\",\"n\":7}\r\n{\"n\":8,\n  \"text\": \"\u{e4}\"}\n",
    );
    let mut file = open(&setup.path("shop/a.log"));
    file.write_all(b"{bad \xff utf-8}\n").unwrap();
    let long = format!("{{{}\n", "x".repeat(300));
    file.write_all(long.as_bytes()).unwrap();
    wait_for(&client, 4);
    let all = records(&client, "{job=\"app\", unit=\"shop\", env=\"test\"}");
    assert_eq!(all.len(), 4, "{all:?}");
    assert_eq!(all[0].1, 1_795_222_923_000_000_004);
    let texts: Vec<&str> = all[1..]
        .iter()
        .map(|(_, _, line, _)| line.as_str())
        .collect();
    let cut = format!("{{{}", "x".repeat(99));
    assert_eq!(
        texts,
        [
            "{\"n\":8,\n  \"text\": \"\u{e4}\"}",
            "{bad \u{fffd} utf-8}",
            cut.as_str()
        ]
    );
    assert!(
        all.iter()
            .all(|(labels, ..)| labels.get("filename").is_none())
    );
    let found = records(&client, "{job=\"app\"} | n = 7");
    assert_eq!(found.len(), 1, "{:?}", records(&client, "{job=\"app\"}"));
    let metrics = client.get("/metrics").text();
    assert!(
        metrics.contains("chronolith_files_records_cut_total{job=\"app\"} 1"),
        "{metrics}"
    );
    server.stop();

    // What is written while nobody looks is read, although `start_at` says `end`.
    setup.append("shop/a.log", "{\"n\":9}\n");
    let server = setup.start(&[]);
    assert_eq!(wait_for(&server.client(), 5).len(), 5);
}

#[test]
fn a_faulty_section_keeps_the_server_from_starting() {
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("c.yml");
    std::fs::write(
        &file,
        "logs_configs:\n- {job_name: a, paths: [relative.log]}\n",
    )
    .unwrap();
    let output = chronolith_tests::run(&["check", "config", file.to_str().unwrap()]);
    assert!(!output.status.success());
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        text.contains("absolute") && text.contains("job \"a\""),
        "{text}"
    );
}
