//! Queries made to hurt: refused or stopped in time with Prometheus' status and words, memory under
//! the cap, and other queries unharmed, which a canary that asks all the while looks after.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use chronolith_tests::{Server, write};

/// What the whole process may take, also at its worst.
const MEMORY_MAX_MIB: u64 = 512;

fn long(piece: &str, count: usize, middle: &str, end: &str) -> String {
    format!("{}{middle}{}", piece.repeat(count), end.repeat(count))
}

/// Query, more parameters, status, a part of the message.
fn instant_cases() -> Vec<(String, u16, &'static str)> {
    let nested = |piece: &str, end: &str| long(piece, 100_000, "1", end);
    let text = |text: &str| text.to_owned();
    vec![
        (nested("(", ")"), 400, "parse error: "),
        (nested("-", ""), 400, "parse error: "),
        (long("abs(", 20_000, "up", ")"), 400, "parse error: "),
        (long("1+", 60_000, "1", ""), 400, "parse error: "),
        (
            text("{__name__=~\"(((a{100}){100}){100}){100}\"}"),
            400,
            "error parsing regexp: expression too large",
        ),
        (
            format!("{{x=~\"{}\"}}", "(".repeat(50_000)),
            400,
            "error parsing regexp: ",
        ),
        (
            text("label_replace(up, \"a\", \"\", \"b\", \"((x{1000}){1000}){1000}\")"),
            422,
            "invalid regular expression in label_replace(): ",
        ),
        (
            text("sum_over_time(vector(1)[30y:1ms])"),
            422,
            "query processing would load too many samples into memory in query execution",
        ),
        (
            text("max_over_time(avg_over_time(vector(1)[1y:1s])[1y:1s])"),
            422,
            "query processing would load too many samples into memory in query execution",
        ),
        (text("up[99999999999999999999y]"), 400, "parse error: "),
        (text("up[300y]"), 400, "parse error: "),
        (
            text("up offset 99999999999999999999s"),
            400,
            "parse error: ",
        ),
        (text("up @ 1e300"), 400, "parse error: "),
        (text("up @ Inf"), 400, "parse error: "),
        (
            format!("up{{a=\"{}\"}}", "x".repeat(300_000)),
            400,
            "query of ",
        ),
    ]
}

fn range_cases() -> Vec<([&'static str; 3], u16, &'static str)> {
    vec![
        (
            ["0", "11001", "1"],
            400,
            "exceeded maximum resolution of 11,000 points per timeseries. Try decreasing the query resolution (?step=XX)",
        ),
        (
            ["0", "1e12", "1ms"],
            400,
            "exceeded maximum resolution of 11,000 points",
        ),
        (["0", "1", "1e30"], 400, "invalid parameter \"step\": "),
        (["0", "1e300", "1"], 400, "invalid parameter \"end\": "),
        (["0", "1", "-1"], 400, "invalid parameter \"step\": "),
        (
            ["5", "1", "1"],
            400,
            "invalid parameter \"end\": end timestamp must not be before start time",
        ),
        (["-9e15", "9e15", "1s"], 400, ""),
    ]
}

fn peak_mib(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib: u64 = line
        .unwrap()
        .trim()
        .trim_end_matches(" kB")
        .parse()
        .unwrap();
    kib / 1024
}

#[test]
fn bad_queries_are_refused_and_harm_nobody() {
    let memory_max = format!("{MEMORY_MAX_MIB}MiB");
    let server = Server::start(&["--memory-max", &memory_max]);
    let client = server.client();
    let series = write::series(&[("__name__", "canary")], &[(7.0, write::now_ms())]);
    assert_eq!(write::send(&client, &[series]).status, 204);
    let stop = Arc::new(AtomicBool::new(false));
    let canary = std::thread::spawn({
        let (stop, client) = (Arc::clone(&stop), server.client());
        move || {
            let (mut asked, mut slowest) = (0, Duration::ZERO);
            while !stop.load(Ordering::Relaxed) {
                let began = Instant::now();
                let answer = client.get("/api/v1/query?query=canary");
                assert_eq!(answer.status, 200, "{}", answer.text());
                assert!(answer.text().contains("\"7\""), "{}", answer.text());
                slowest = slowest.max(began.elapsed());
                asked += 1;
            }
            (asked, slowest)
        }
    });
    let check = |path: &str, form: &[(&str, &str)], status: u16, message: &str| {
        let shown: String = form[0].1.chars().take(60).collect();
        let began = Instant::now();
        let answer = client.post_form(path, form);
        let text = answer.text();
        assert_eq!(answer.status, status, "{shown} {:?}: {text}", &form[1..]);
        let json = answer.json();
        let error = json["error"].as_str().unwrap();
        assert!(error.contains(message), "{shown}: {error}");
        let kind = if status == 400 {
            "bad_data"
        } else {
            "execution"
        };
        assert_eq!(json["errorType"], kind, "{shown}");
        assert!(
            text.len() < 1 << 20,
            "{shown}: an error of {} bytes",
            text.len()
        );
        assert!(began.elapsed() < Duration::from_secs(20), "{shown}");
    };
    for (query, status, message) in instant_cases() {
        check(
            "/api/v1/query",
            &[("query", &query), ("time", "1000")],
            status,
            message,
        );
    }
    for ([start, end, step], status, message) in range_cases() {
        let form = [
            ("query", "up"),
            ("start", start),
            ("end", end),
            ("step", step),
        ];
        check("/api/v1/query_range", &form, status, message);
    }
    // Too long rather than wrong: stopped at its time.
    let endless = [
        ("query", "sum_over_time(vector(1)[10d:100ms])"),
        ("start", "0"),
        ("end", "10000"),
        ("step", "1"),
        ("timeout", "1s"),
    ];
    let began = Instant::now();
    let answer = client.post_form("/api/v1/query_range", &endless);
    assert_eq!(answer.status, 503, "{}", answer.text());
    assert_eq!(answer.json()["errorType"], "timeout");
    assert_eq!(
        answer.json()["error"],
        "query timed out in expression evaluation"
    );
    assert!(began.elapsed() < Duration::from_secs(20));
    stop.store(true, Ordering::Relaxed);
    let (asked, slowest) = canary.join().unwrap();
    assert!(
        asked > 10 && slowest < Duration::from_secs(5),
        "{asked} answers, the slowest in {slowest:?}"
    );
    let peak = peak_mib(server.pid());
    assert!(peak < MEMORY_MAX_MIB, "{peak} MiB");
}
