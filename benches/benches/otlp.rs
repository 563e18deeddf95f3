//! OTLP metrics, from protobuf bytes to an append: what a data point costs once its series is known.
//!
//! `prepare` does all that a request does before the commit. Gauges as a host's collector sends them
//! (one resource, a few metrics with many data points, five attributes each), and explicit histograms
//! of fifteen buckets, each of which is seventeen samples. `json` is what JSON costs on top.

use std::hint::black_box;

use chronolith_engine::{RequestContext, Store, StoreOptions};
use chronolith_server::config::OtlpConfig;
use chronolith_server::ingest::append::TimeLimits;
use chronolith_server::otlp::json::{schema, to_protobuf};
use chronolith_server::otlp::metrics::translate::{DeltaMode, Translator, prepare};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

const METRICS: usize = 25;
const POINTS_PER_METRIC: usize = 40;
const HISTOGRAM_BUCKETS: usize = 15;

fn attribute(key: &str, value: &str) -> String {
    format!(r#"{{"key":"{key}","value":{{"stringValue":"{value}"}}}}"#)
}

/// A request in JSON; `data` makes a data point of its attributes and number.
fn request(kind: &str, data: impl Fn(&str, usize) -> String) -> String {
    let metrics: Vec<String> = (0..METRICS)
        .map(|metric| {
            let points: Vec<String> = (0..POINTS_PER_METRIC)
                .map(|point| {
                    let attributes = [
                        attribute("http.request.method", "GET"),
                        attribute("http.response.status_code", "200"),
                        attribute("http.route", &format!("/api/v1/items/{point}")),
                        attribute("server.address", "shop.example.net"),
                        attribute("url.scheme", "https"),
                    ];
                    data(&attributes.join(","), point)
                })
                .collect();
            let points = points.join(",");
            format!(
                r#"{{"name":"http.server.metric.{metric}","unit":"s","{kind}":{{"aggregationTemporality":2,"dataPoints":[{points}]}}}}"#
            )
        })
        .collect();
    let resource: Vec<String> = [
        ("service.name", "shop"),
        ("service.namespace", "retail"),
        (
            "service.instance.id",
            "627cc493-f310-47de-96bd-71410b7dec09",
        ),
        ("host.name", "host-0001.example.net"),
        ("telemetry.sdk.language", "go"),
        ("telemetry.sdk.version", "1.38.0"),
    ]
    .iter()
    .map(|(key, value)| attribute(key, value))
    .collect();
    format!(
        r#"{{"resourceMetrics":[{{"resource":{{"attributes":[{}]}},"scopeMetrics":[{{"scope":{{"name":"lib"}},"metrics":[{}]}}]}}]}}"#,
        resource.join(","),
        metrics.join(",")
    )
}

fn gauges() -> String {
    request("gauge", |attributes, point| {
        format!(
            r#"{{"timeUnixNano":"1700000000000000000","asDouble":{point}.25,"attributes":[{attributes}]}}"#
        )
    })
}

fn histograms() -> String {
    let bounds: Vec<String> = (1..HISTOGRAM_BUCKETS)
        .map(|b| (b * 10).to_string())
        .collect();
    let counts = vec!["\"7\""; HISTOGRAM_BUCKETS].join(",");
    let (bounds, count) = (bounds.join(","), 7 * HISTOGRAM_BUCKETS);
    request("histogram", |attributes, _| {
        format!(
            r#"{{"startTimeUnixNano":"1699990000000000000","timeUnixNano":"1700000000000000000","count":"{count}","sum":1234.5,"bucketCounts":[{counts}],"explicitBounds":[{bounds}],"attributes":[{attributes}]}}"#
        )
    })
}

fn protobuf(text: &str) -> Vec<u8> {
    let mut message = Vec::new();
    let table = schema::export_metrics_request();
    to_protobuf(text.as_bytes(), table, &mut message, usize::MAX).expect("a good request");
    message
}

fn otlp(criterion: &mut Criterion) {
    let store = Store::in_memory(StoreOptions::default()).expect("a store");
    let context = RequestContext::new();
    let times = TimeLimits {
        latest_ms: i64::MAX,
    };
    let config = OtlpConfig::default();
    let translator = Translator::new(&config, false, DeltaMode::Refused, 300_000);
    for (name, text) in [("gauges", gauges()), ("histograms", histograms())] {
        let message = protobuf(&text);
        let first = prepare(&store, &context, &translator, &message, times, 0);
        first
            .expect("a good request")
            .append
            .commit()
            .expect("stored");
        let mut group = criterion.benchmark_group(format!("otlp/{name}"));
        group.throughput(Throughput::Elements((METRICS * POINTS_PER_METRIC) as u64));
        group.bench_function("prepare", |b| {
            b.iter(|| {
                let message = black_box(&message);
                let prepared = prepare(&store, &context, &translator, message, times, 0);
                prepared.expect("a good request").counts
            });
        });
        group.bench_function("json", |b| b.iter(|| protobuf(black_box(&text)).len()));
        group.finish();
    }
}

criterion_group!(benches, otlp);
criterion_main!(benches);
