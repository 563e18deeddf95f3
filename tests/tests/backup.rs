//! `backup`, `restore` and the admin calls that make copies: beside a server under its nose, by the
//! server itself, killed in the middle, and back to a server with the same answers.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use chronolith_tests::server::{binary, run};
use chronolith_tests::{Answer, Client, Server, write};
use tempfile::TempDir;

const SAMPLES: i64 = 50;

/// Writes `SAMPLES` samples, the last one now.
fn fill(client: &Client, name: &str, now: i64) {
    let samples: Vec<_> = (0..SAMPLES)
        .map(|n| (n as f64, now - (SAMPLES - 1 - n) * 100))
        .collect();
    let series = write::series(&[("__name__", name), ("room", "kitchen")], &samples);
    assert_eq!(write::send(client, &[series]).status, 204);
}

/// How many samples of a metric a server finds.
fn count(client: &Client, name: &str, now: i64) -> String {
    let query = format!("count_over_time({name}[1m])");
    let time = format!("{:.3}", now as f64 / 1e3);
    let form = [("query", query.as_str()), ("time", time.as_str())];
    let answer = client.post_form("/api/v1/query", &form).json();
    let value = &answer["data"]["result"][0]["value"][1];
    value.as_str().unwrap_or("none").to_owned()
}

fn post(client: &Client, path: &str) -> Answer {
    client.request("POST", path, &[], b"")
}

fn text_of(output: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

fn succeeded(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    text_of(output)
}

fn failed(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    text_of(output)
}

fn path(dir: &Path, name: &str) -> String {
    dir.join(name).to_str().unwrap().to_owned()
}

/// Restores a backup into the data directory of a fresh server and starts it.
fn start_restored(backup: &str) -> Server {
    let dir = Arc::new(TempDir::new().unwrap());
    let data = path(dir.path(), "data");
    succeeded(&run(&["restore", "--from", backup, "--data-dir", &data]));
    Server::start_in(dir, &[])
}

#[test]
fn a_store_in_use_is_backed_up_beside_the_server_and_restored() {
    let server = Server::start(&["--enable-admin-api"]);
    let (client, now) = (server.client(), write::now_ms());
    let dir = server.dir();
    let (data, backup) = (path(dir.path(), "data"), path(dir.path(), "backup"));
    fill(&client, "sealed", now);
    assert_eq!(post(&client, "/api/v1/admin/flush").status, 204);
    fill(&client, "in_the_log", now);
    let args = ["backup", "--data-dir", &data, "--to", &backup];
    let text = succeeded(&run(&args));
    assert!(text.contains("0 there already"), "{text}");
    let text = succeeded(&run(&["verify", &backup]));
    assert!(text.contains("ok       MANIFEST"), "{text}");
    fill(&client, "later", now);
    let text = succeeded(&run(&args));
    assert!(text.contains("1 there already"), "{text}");
    // A backup can be asked, and is not to be written to.
    let asked = ["promql", "count_over_time(later[1h])", "--format", "csv"];
    let text = succeeded(&run(&[&asked[..], &["--data-dir", &backup]].concat()));
    assert!(text.trim_end().ends_with(",50.0"), "{text}");
    let text = failed(&run(&[
        "serve",
        "--data-dir",
        &backup,
        "--listen",
        "127.0.0.1:0",
    ]));
    assert!(text.contains("chronolith restore"), "{text}");
    server.kill();

    let restored = start_restored(&backup);
    for name in ["sealed", "in_the_log", "later"] {
        assert_eq!(count(&restored.client(), name, now), "50", "{name}");
    }
    let into = path(restored.dir().path(), "data");
    let text = failed(&run(&["restore", "--from", &backup, "--data-dir", &into]));
    assert!(text.contains("not empty"), "{text}");
    let text = failed(&run(&["backup", "--data-dir", &into, "--to", &data]));
    assert!(text.contains("neither empty nor a backup"), "{text}");
    let text = failed(&run(&[
        "restore",
        "--from",
        "/nowhere/at/all",
        "--data-dir",
        &into,
    ]));
    assert!(text.contains("no backup here"), "{text}");
}

#[test]
fn a_server_makes_backups_when_it_may() {
    let server = Server::start(&[]);
    let dir = server.dir();
    let (url, backup) = (
        format!("http://{}", server.address()),
        path(dir.path(), "backup"),
    );
    let args = ["backup", "--url", &url, "--to", &backup];
    let text = failed(&run(&args));
    assert!(text.contains("--enable-admin-api"), "{text}");
    server.kill();
    let server = Server::start_in(dir, &["--enable-admin-api"]);
    let (client, now) = (server.client(), write::now_ms());
    fill(&client, "m", now);
    let url = format!("http://{}", server.address());
    let args = ["backup", "--url", &url, "--to", &backup];
    let text = succeeded(&run(&args));
    assert!(text.contains("1 segments"), "{text}");
    // Without a terminal each step is told when it begins.
    assert!(text.contains("copying"), "{text}");
    let told = post(
        &client,
        &format!("/api/v1/admin/backup?to={backup}&progress=true"),
    );
    let lines = told.text();
    let (first, last) = (lines.lines().next().unwrap(), lines.lines().last().unwrap());
    assert!(first.contains("\"step\":"), "{lines}");
    assert!(last.contains("\"status\":\"success\""), "{lines}");
    let text = failed(&run(&["backup", "--url", &url, "--to", "/proc/no"]));
    assert!(text.contains("/proc/no"), "{text}");
    for (bad, why) in [
        ("", "expected an absolute path"),
        ("?to=relative", "expected an absolute path"),
        ("?to=/x&read_back=half", "expected all, copied or ends"),
        ("?to=/x&rate=fast", "expected a size"),
    ] {
        let answer = post(&client, &format!("/api/v1/admin/backup{bad}"));
        assert_eq!(answer.status, 400, "{bad}");
        assert!(answer.text().contains(why), "{}", answer.text());
    }
    let metrics = client.get("/metrics").text();
    for line in [
        "chronolith_backup_runs_total{result=\"success\"} 2",
        "chronolith_backup_runs_total{result=\"failure\"} 1",
        "# TYPE chronolith_wal_sync_duration_seconds histogram",
        "chronolith_wal_poisoned 0",
    ] {
        assert!(metrics.contains(line), "{line} is not in\n{metrics}");
    }
    assert_eq!(count(&start_restored(&backup).client(), "m", now), "50");
}

#[test]
#[expect(
    clippy::disallowed_methods,
    reason = "moves a whole directory aside, and nothing has to be durable"
)]
fn snapshots_are_stores_of_their_own() {
    let server = Server::start(&["--enable-admin-api"]);
    let (client, now) = (server.client(), write::now_ms());
    fill(&client, "sealed", now);
    assert_eq!(post(&client, "/api/v1/admin/flush").status, 204);
    fill(&client, "in_the_log", now);
    let take = |parameters: &str, method: &str| {
        let path = format!("/api/v1/admin/tsdb/snapshot{parameters}");
        let answer = client.request(method, &path, &[], b"");
        assert_eq!(answer.status, 200, "{}", answer.text());
        let body = answer.json();
        assert_eq!(body["status"], "success");
        body["data"]["name"].as_str().unwrap().to_owned()
    };
    // First the one without the head: the other seals it.
    let without_head = take("?skip_head=true", "PUT");
    let whole = take("", "POST");
    let answer = post(&client, "/api/v1/admin/tsdb/snapshot?skip_head=perhaps");
    assert_eq!(answer.status, 400, "{}", answer.text());
    // Kept: the snapshots lie in it.
    let server_dir = server.dir();
    let data = server_dir.path().join("data");
    server.kill();
    for (name, in_the_log) in [(whole, "50"), (without_head, "none")] {
        let snapshot = data.join("snapshots").join(&name);
        succeeded(&run(&["verify", snapshot.to_str().unwrap()]));
        let dir = Arc::new(TempDir::new().unwrap());
        std::fs::rename(&snapshot, dir.path().join("data")).unwrap();
        let opened = Server::start_in(dir, &[]);
        assert_eq!(count(&opened.client(), "sealed", now), "50", "{name}");
        assert_eq!(
            count(&opened.client(), "in_the_log", now),
            in_the_log,
            "{name}"
        );
    }
}

/// The process is killed while it copies: the directory says so, nothing is restored of it, and the next
/// backup completes it.
#[test]
fn a_killed_backup_is_recognised_and_continued() {
    let server = Server::start(&["--enable-admin-api"]);
    let (client, now) = (server.client(), write::now_ms());
    fill(&client, "m", now);
    assert_eq!(post(&client, "/api/v1/admin/flush").status, 204);
    let dir = server.dir();
    let (data, backup) = (path(dir.path(), "data"), path(dir.path(), "backup"));
    let args = ["backup", "--data-dir", &data, "--to", &backup];
    let mut slow = Command::new(binary())
        .args(args)
        .args(["--rate", "1"])
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let began = Instant::now();
    let half_a_file = || {
        let entries = std::fs::read_dir(&backup).into_iter().flatten();
        entries
            .flatten()
            .any(|entry| entry.file_name().to_string_lossy().ends_with(".seg.tmp"))
    };
    while !half_a_file() {
        assert!(
            began.elapsed() < Duration::from_secs(60),
            "nothing is copied"
        );
        std::thread::sleep(Duration::from_millis(5));
    }
    slow.kill().unwrap();
    slow.wait().unwrap();
    let text = failed(&run(&["verify", &backup]));
    assert!(text.contains("the backup was not finished"), "{text}");
    let into = path(dir.path(), "restored");
    let text = failed(&run(&["restore", "--from", &backup, "--data-dir", &into]));
    assert!(text.contains("unfinished backup"), "{text}");
    succeeded(&run(&args));
    succeeded(&run(&["verify", &backup]));
    assert_eq!(count(&start_restored(&backup).client(), "m", now), "50");
}

#[test]
fn damage_ends_verify_with_one_and_is_named() {
    let server = Server::start(&["--enable-admin-api"]);
    let (client, now) = (server.client(), write::now_ms());
    fill(&client, "m", now);
    let dir = server.dir();
    let (data, backup) = (path(dir.path(), "data"), path(dir.path(), "backup"));
    succeeded(&run(&["backup", "--data-dir", &data, "--to", &backup]));
    let entries = std::fs::read_dir(&backup).unwrap();
    let segment = entries
        .map(|entry| entry.unwrap().path())
        .find(|path| path.extension().is_some_and(|e| e == "seg"))
        .unwrap();
    let mut bytes = std::fs::read(&segment).unwrap();
    bytes[100] ^= 1;
    std::fs::write(&segment, bytes).unwrap();
    let name = segment.file_name().unwrap().to_string_lossy().into_owned();
    for output in [
        run(&["verify", &backup]),
        run(&[
            "restore",
            "--from",
            &backup,
            "--data-dir",
            &path(dir.path(), "new"),
        ]),
    ] {
        let text = failed(&output);
        assert!(text.contains(&name) && text.contains("at byte"), "{text}");
    }
}
