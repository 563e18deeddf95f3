//! Starting, the small endpoints, and what a restart keeps.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use chronolith_tests::server::run;
use chronolith_tests::{Server, write};

#[test]
fn a_fresh_server_is_ready_and_tells_its_version() {
    let server = Server::start(&[]);
    let client = server.client();
    for path in ["/-/healthy", "/-/ready", "/health/live", "/health/ready"] {
        assert_eq!(client.get(path).status, 200, "{path}");
    }
    assert_eq!(client.get("/health").json()["status"], "pass");
    let version = client.get("/api/v1/status/buildinfo").json()["data"]["version"].clone();
    assert_eq!(client.get("/version").json()["version"], version);
    assert_eq!(client.get("/no/such/path").status, 404);
    assert_eq!(
        client.request("DELETE", "/api/v1/labels", &[], b"").status,
        405
    );
}

#[test]
fn metrics_tell_about_requests_and_the_process() {
    let server = Server::start(&[]);
    let client = server.client();
    client.get("/-/ready");
    let answer = client.get("/metrics");
    assert!(
        answer
            .header("content-type")
            .unwrap()
            .starts_with("text/plain")
    );
    let text = answer.text();
    for expected in [
        "chronolith_build_info{version=",
        "chronolith_http_requests_total{handler=\"/-/ready\",method=\"GET\",code=\"200\"} 1",
        "chronolith_head_series 0",
        "process_resident_memory_bytes ",
        "process_cpu_seconds_total ",
    ] {
        assert!(text.contains(expected), "{expected} in {text}");
    }
}

#[test]
fn the_server_scrapes_itself_into_the_store() {
    let server = Server::start(&["--self-scrape", "on", "--self-scrape-interval", "1s"]);
    let client = server.client();
    let query = "/api/v1/series?match[]=up%7Bjob%3D%22chronolith%22%7D";
    let began = std::time::Instant::now();
    loop {
        let found = client.get(query).json()["data"].clone();
        if let Some(series) = found.get(0) {
            assert_eq!(series["instance"], server.address());
            break;
        }
        assert!(began.elapsed().as_secs() < 10, "no samples of its own");
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    let types = client
        .get("/api/v1/metadata?metric=process_cpu_seconds_total")
        .json();
    assert_eq!(
        types["data"]["process_cpu_seconds_total"][0]["type"],
        "counter"
    );
}

#[test]
fn what_was_written_is_there_after_a_restart() {
    let server = Server::start(&[]);
    let series = write::series(
        &[("__name__", "kept"), ("a", "b")],
        &[(1.5, write::now_ms())],
    );
    assert_eq!(write::send(&server.client(), &[series]).status, 204);
    let dir = server.dir();
    server.kill();
    let server = Server::start_in(dir, &[]);
    let found = server.client().get("/api/v1/series?match[]=kept").json();
    assert_eq!(found["data"][0]["a"], "b");
}

#[test]
fn commands_that_are_not_built_say_so() {
    let output = run(&["import", "all", "--limit", "3"]);
    assert_eq!(output.status.code(), Some(3));
    assert!(String::from_utf8_lossy(&output.stderr).contains("not built yet"));
    let help = run(&["serve", "--help"]);
    assert!(help.status.success());
    assert!(String::from_utf8_lossy(&help.stdout).contains("CHRONOLITH_MEMORY_MAX"));
}
