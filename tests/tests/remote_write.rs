//! Remote write: what is stored, what is refused, and in which words.

use chronolith_tests::write::{
    self, HEADERS, bytes, double, number, send, send_body, snappy, varint,
};
use chronolith_tests::{Client, Server};

/// The series of a name, as `/api/v1/series` has them.
fn series_named(client: &Client, name: &str) -> Vec<serde_json::Value> {
    let found = client.get(&format!("/api/v1/series?match[]={name}")).json();
    found["data"].as_array().expect("a list").clone()
}

/// The last value of each series of a name, by `/federate`.
fn federated(client: &Client, name: &str) -> String {
    client.get(&format!("/federate?match[]={name}")).text()
}

#[test]
fn samples_come_back_as_they_were_sent() {
    let server = Server::start(&[]);
    let client = server.client();
    let now = write::now_ms();
    let labels = [("__name__", "w"), ("job", "a\"\\\n")];
    let one = write::series(&labels, &[(0.1, now - 1000), (-0.0, now)]);
    assert_eq!(send(&client, std::slice::from_ref(&one)).status, 204);
    // A retry changes nothing.
    assert_eq!(send(&client, &[one]).status, 204);
    let found = series_named(&client, "w");
    assert_eq!(found.len(), 1);
    assert_eq!(found[0]["job"], "a\"\\\n");
    let text = federated(&client, "w");
    assert!(text.contains(&format!("}} -0 {now}")), "{text}");
    // The later arrival wins.
    let again = write::series(&labels, &[(7.0, now)]);
    assert_eq!(send(&client, &[again]).status, 204);
    assert!(federated(&client, "w").contains(&format!("}} 7 {now}")));
}

#[test]
fn old_and_unordered_samples_are_accepted() {
    let server = Server::start(&[]);
    let client = server.client();
    let now = write::now_ms();
    let times = [now, now - 3_600_000, now - 7_200_000, now - 1];
    let samples: Vec<(f64, i64)> = times.iter().map(|t| (1.0, *t)).collect();
    let one = write::series(&[("__name__", "late")], &samples);
    assert_eq!(send(&client, &[one]).status, 204);
    assert_eq!(series_named(&client, "late").len(), 1);
}

#[test]
fn wrong_headers_are_415() {
    let server = Server::start(&[]);
    let client = server.client();
    for headers in [
        [
            ("content-type", "application/json"),
            ("content-encoding", "snappy"),
        ],
        [
            ("content-type", "application/x-protobuf"),
            ("content-encoding", "gzip"),
        ],
        [
            ("content-type", "application/x-protobuf;proto=a.b.C"),
            ("content-encoding", "snappy"),
        ],
    ] {
        let answer = client.request("POST", "/api/v1/write", &headers, b"");
        assert_eq!(answer.status, 415, "{headers:?}: {}", answer.text());
    }
    assert_eq!(client.get("/api/v1/write").status, 405);
}

#[test]
fn malformed_bodies_are_400_and_store_nothing() {
    let server = Server::start(&[]);
    let client = server.client();
    let good = write::request(&[write::series(
        &[("__name__", "half")],
        &[(1.0, write::now_ms())],
    )]);
    let mut noise = good.clone();
    noise.extend_from_slice(&[0x0a, 0xff]);
    let raw = |body: &[u8]| {
        client
            .request("POST", "/api/v1/write", HEADERS, body)
            .status
    };
    assert_eq!(raw(b""), 400);
    assert_eq!(raw(&[0xff; 64]), 400);
    assert_eq!(raw(&snappy(&noise)), 400);
    let compressed = snappy(&good);
    assert_eq!(raw(&compressed[..compressed.len() - 2]), 400);
    assert!(series_named(&client, "half").is_empty());
}

#[test]
fn a_claimed_size_above_the_limit_is_413() {
    let server = Server::start(&["--write-body-max", "1MiB"]);
    let client = server.client();
    let mut claims = Vec::new();
    varint(&mut claims, 1 << 30);
    claims.extend_from_slice(&[0; 100]);
    let answer = client.request("POST", "/api/v1/write", HEADERS, &claims);
    assert_eq!(answer.status, 413, "{}", answer.text());
    let answer = client.request("POST", "/api/v1/write", HEADERS, &vec![0; (1 << 20) + 1]);
    assert_eq!(answer.status, 413, "{}", answer.text());
}

#[test]
fn times_that_cannot_be_are_400_and_name_the_series() {
    let server = Server::start(&[]);
    let client = server.client();
    let now = write::now_ms();
    for time in [i64::MAX, i64::MIN, 10_413_792_000_000, now + 11 * 60_000] {
        let one = write::series(&[("__name__", "time_limits")], &[(1.0, time)]);
        let answer = send(&client, &[one]);
        assert_eq!(answer.status, 400, "{time}");
        assert!(answer.text().contains("time_limits"), "{}", answer.text());
    }
    let one = write::series(&[("__name__", "time_limits")], &[(1.0, now + 9 * 60_000)]);
    assert_eq!(send(&client, &[one]).status, 204);
}

#[test]
fn series_with_impossible_labels_are_left_out_and_their_neighbours_kept() {
    let server = Server::start(&[]);
    let client = server.client();
    let now = write::now_ms();
    let value = [(1.0, now)];
    let long = "v".repeat(1 << 20);
    let bad = [
        write::series(&[("a", "no name")], &value),
        write::series(&[("__name__", "bad"), ("", "empty name")], &value),
        write::series(&[("__name__", "bad"), ("a", "1"), ("a", "2")], &value),
        write::series(&[("__name__", "bad"), ("a", &long)], &value),
    ];
    for one in bad {
        let good = write::series(&[("__name__", "good"), ("z", "1"), ("b", "2")], &value);
        assert_eq!(send(&client, &[one, good]).status, 204);
    }
    let mut not_text = Vec::new();
    let mut label = Vec::new();
    bytes(&mut label, 1, b"__name__");
    bytes(&mut label, 2, b"\xc3\x28");
    bytes(&mut not_text, 1, &label);
    assert_eq!(send(&client, &[not_text]).status, 204);
    assert_eq!(series_named(&client, "good").len(), 1);
    assert!(series_named(&client, "bad").is_empty());
    let metrics = client.get("/metrics").text();
    assert!(
        metrics.contains("chronolith_ingest_series_invalid_total 5"),
        "{metrics}"
    );
}

#[test]
fn labels_behind_samples_are_found() {
    let server = Server::start(&[]);
    let client = server.client();
    let now = write::now_ms();
    let plain = write::series(&[("__name__", "scattered"), ("a", "b")], &[]);
    let sample = write::series(&[], &[(5.0, now)]);
    let mut backwards = sample;
    backwards.extend_from_slice(&plain);
    assert_eq!(send(&client, &[backwards]).status, 204);
    assert!(federated(&client, "scattered").contains("a=\"b\""));
}

#[test]
fn metadata_is_kept() {
    let server = Server::start(&[]);
    let client = server.client();
    let mut item = Vec::new();
    number(&mut item, 1, 1);
    bytes(&mut item, 2, b"requests_total");
    bytes(&mut item, 4, b"Requests.");
    bytes(&mut item, 5, b"");
    let mut body = Vec::new();
    bytes(&mut body, 3, &item);
    assert_eq!(send_body(&client, &body).status, 204);
    let known = client.get("/api/v1/metadata").json();
    let entry = &known["data"]["requests_total"][0];
    assert_eq!(
        (entry["type"].as_str(), entry["help"].as_str()),
        (Some("counter"), Some("Requests."))
    );
}

#[test]
fn tenants_do_not_see_each_other() {
    let server = Server::start(&[]);
    let a = server.client().with_header("x-scope-orgid", "team-a");
    let b = server.client().with_header("x-scope-orgid", "team-b");
    let one = write::series(&[("__name__", "mine")], &[(1.0, write::now_ms())]);
    assert_eq!(send(&a, &[one]).status, 204);
    assert_eq!(series_named(&a, "mine").len(), 1);
    assert!(series_named(&b, "mine").is_empty());
    assert!(series_named(&server.client(), "mine").is_empty());
    let wrong = server.client().with_header("x-scope-orgid", "../x");
    assert_eq!(wrong.get("/api/v1/labels").status, 400);
}

/// A series of a 2.0 request.
fn series_v2(refs: &[u64], value: f64, time_ms: i64) -> Vec<u8> {
    let mut packed = Vec::new();
    for reference in refs {
        varint(&mut packed, *reference);
    }
    let mut sample = Vec::new();
    double(&mut sample, 1, value);
    number(&mut sample, 2, time_ms as u64);
    let mut series = Vec::new();
    bytes(&mut series, 1, &packed);
    bytes(&mut series, 2, &sample);
    series
}

#[test]
fn version_2_is_stored_in_part_and_counts_what_it_wrote() {
    let server = Server::start(&[]);
    let client = server.client();
    let now = write::now_ms();
    let symbols: [&[u8]; 5] = [b"", b"__name__", b"v2", b"job", b"x"];
    let send_v2 = |all: &[Vec<u8>]| {
        let mut body = Vec::new();
        for symbol in symbols {
            bytes(&mut body, 4, symbol);
        }
        for one in all {
            bytes(&mut body, 5, one);
        }
        let headers = [
            (
                "content-type",
                "application/x-protobuf;proto=io.prometheus.write.v2.Request",
            ),
            ("content-encoding", "snappy"),
        ];
        client.request("POST", "/api/v1/write", &headers, &snappy(&body))
    };
    let good = series_v2(&[1, 2, 3, 4], 1.0, now);
    let answer = send_v2(std::slice::from_ref(&good));
    assert_eq!(answer.status, 204, "{}", answer.text());
    let written = "x-prometheus-remote-write-samples-written";
    assert_eq!(answer.header(written), Some("1"));
    let answer = send_v2(&[
        series_v2(&[1, 99], 1.0, now),
        good,
        series_v2(&[1, 2], 1.0, i64::MAX),
    ]);
    assert_eq!(answer.status, 400, "{}", answer.text());
    assert_eq!(answer.header(written), Some("1"));
    let found = series_named(&client, "v2");
    assert!(found.iter().any(|s| s["job"] == "x"), "{found:?}");
}
