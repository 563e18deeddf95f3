//! The mapping, rule by rule: a request in JSON, and the series that it becomes.

use std::collections::BTreeMap;
use std::time::Duration;

use chronolith_engine::model::{SampleColumns, TimeRange, is_stale};
use chronolith_engine::{ScanRequest, StoreOptions, TenantLimits};
use serde_json::{Value, json};

use super::*;
use crate::otlp::json::{schema, to_protobuf};

const TIMES: TimeLimits = TimeLimits {
    latest_ms: 1_000_000_000,
};

fn store() -> Store {
    let options = StoreOptions {
        background: false,
        ..StoreOptions::default()
    };
    Store::in_memory(options).unwrap()
}

fn translator(config: &OtlpConfig, deltas: DeltaMode) -> Translator {
    Translator::new(config, false, deltas, 300_000)
}

fn protobuf(request: &Value) -> Vec<u8> {
    let mut out = Vec::new();
    let table = schema::export_metrics_request();
    to_protobuf(request.to_string().as_bytes(), table, &mut out, 1 << 24).unwrap();
    out
}

/// Sends and commits; answers data points taken, refused, and why.
fn send(store: &Store, translator: &Translator, request: &Value) -> (u64, u64, String) {
    let context = RequestContext::new();
    let message = protobuf(request);
    let prepared = prepare(store, &context, translator, &message, TIMES, 0).unwrap();
    let Prepared {
        append,
        points,
        rejections,
        deltas,
        ..
    } = prepared;
    append.commit().unwrap();
    if let Some(deltas) = deltas {
        deltas.keep();
    }
    (points, rejections.count(), rejections.message())
}

/// All series with their last sample: the value, or count and schema of a histogram.
fn series(store: &Store) -> BTreeMap<String, String> {
    let request = ScanRequest::new(Vec::new(), TimeRange::ALL);
    let scan = store
        .scan_metrics(&RequestContext::new(), &request)
        .unwrap();
    (0..scan.len())
        .map(|index| {
            let mut columns = SampleColumns::default();
            scan.read(index, TimeRange::ALL, &mut columns).unwrap();
            let value = match (columns.values.last(), columns.histograms.last()) {
                (Some(value), _) if is_stale(*value) => "stale".to_owned(),
                (Some(value), _) => value.to_string(),
                (None, Some(sample)) if sample.histogram.is_stale() => "stale histogram".into(),
                (None, Some(sample)) => {
                    let histogram = &sample.histogram;
                    format!("{} in schema {}", histogram.count, histogram.schema)
                }
                (None, None) => "nothing".to_owned(),
            };
            (scan.labels(index).to_string(), value)
        })
        .filter(|(_, value)| value != "nothing")
        .collect()
}

fn columns(store: &Store, name: &str) -> SampleColumns {
    let matchers = vec![chronolith_engine::Matcher::equal("__name__", name)];
    let request = ScanRequest::new(matchers, TimeRange::ALL);
    let scan = store
        .scan_metrics(&RequestContext::new(), &request)
        .unwrap();
    assert_eq!(scan.len(), 1, "{name}");
    let mut columns = SampleColumns::default();
    scan.read(0, TimeRange::ALL, &mut columns).unwrap();
    columns
}

fn attribute(key: &str, value: &str) -> Value {
    json!({"key": key, "value": {"stringValue": value}})
}

/// A request of one metric of a resource without attributes.
fn request(metric: Value) -> Value {
    json!({"resourceMetrics": [{"scopeMetrics": [{"metrics": [metric]}]}]})
}

fn expect(store: &Store, expected: &[(&str, &str)]) {
    let expected: BTreeMap<String, String> = expected
        .iter()
        .map(|(labels, value)| ((*labels).to_owned(), (*value).to_owned()))
        .collect();
    assert_eq!(series(store), expected);
}

/// Milliseconds as OTLP's nanoseconds.
fn ns(ms: i64) -> String {
    (ms * 1_000_000).to_string()
}

#[test]
fn gauges_and_sums_become_samples() {
    let store = store();
    let translator = translator(&OtlpConfig::default(), DeltaMode::Refused);
    let request = json!({"resourceMetrics": [{
        "resource": {"attributes": [attribute("service.name", "api")]},
        "scopeMetrics": [{"metrics": [
            {"name": "cpu.load", "unit": "1", "gauge": {"dataPoints": [
                {"timeUnixNano": ns(5), "asDouble": 0.5, "attributes": [attribute("cpu", "0")]},
            ]}},
            {"name": "http.requests", "description": "Requests.", "sum": {
                "aggregationTemporality": 2, "isMonotonic": true,
                "dataPoints": [{"startTimeUnixNano": ns(1), "timeUnixNano": ns(5), "asInt": "7"}],
            }},
            {"name": "queue.length", "unit": "{item}", "sum": {
                "aggregationTemporality": 2,
                "dataPoints": [{"timeUnixNano": ns(6), "asInt": "-3"}],
            }},
        ]}],
    }]});
    assert_eq!(send(&store, &translator, &request), (3, 0, String::new()));
    expect(
        &store,
        &[
            (r#"{__name__="cpu_load_ratio", cpu="0", job="api"}"#, "0.5"),
            (r#"{__name__="http_requests_total", job="api"}"#, "7"),
            (r#"{__name__="queue_length", job="api"}"#, "-3"),
        ],
    );
    let columns = columns(&store, "http_requests_total");
    assert_eq!(
        (columns.timestamps, columns.start_timestamps),
        (vec![5_000_000], vec![1_000_000])
    );
    let metadata = store.metadata(&RequestContext::new(), None).unwrap();
    let counter = &metadata["http_requests_total"][0];
    assert_eq!(
        (counter.metric_type, counter.help.as_str()),
        (MetricType::Counter, "Requests.")
    );
    assert_eq!(metadata["cpu_load_ratio"][0].metric_type, MetricType::Gauge);
}

#[test]
fn a_second_request_finds_the_same_series() {
    let store = store();
    let translator = translator(&OtlpConfig::default(), DeltaMode::Refused);
    let at = |ms: i64, uptime: &str| {
        json!({"resourceMetrics": [{
            // An attribute that is no label may change; the series stays what it is.
            "resource": {"attributes": [attribute("uptime", uptime)]},
            "scopeMetrics": [{"metrics": [{"name": "m", "gauge": {"dataPoints": [
                {"timeUnixNano": ns(ms), "asInt": ms, "attributes": [attribute("a", "b")]},
            ]}}]}],
        }]})
    };
    for (ms, uptime) in [(1, "x"), (2, "y"), (3, "z")] {
        assert_eq!(send(&store, &translator, &at(ms, uptime)).0, 1);
    }
    assert_eq!(columns(&store, "m").values, [1.0, 2.0, 3.0]);
}

fn explicit(extra: Value) -> Value {
    let mut point = json!({
        "timeUnixNano": ns(5), "count": "10", "sum": 12.5,
        "bucketCounts": ["1", "2", "7"], "explicitBounds": [0.005, 10],
    });
    for (key, value) in extra.as_object().unwrap() {
        point[key] = value.clone();
    }
    request(json!({"name": "latency", "unit": "s", "histogram": {
        "aggregationTemporality": 2, "dataPoints": [point],
    }}))
}

#[test]
fn explicit_histograms_become_classic_ones() {
    let store = store();
    let translator = translator(&OtlpConfig::default(), DeltaMode::Refused);
    let exemplars = json!({"exemplars": [
        {"timeUnixNano": ns(4), "asDouble": 3.0, "traceId": "0af7651916cd43dd8448eb211c80319c"},
        {"asDouble": 11.0, "spanId": "b7ad6b7169203331"},
    ]});
    assert_eq!(send(&store, &translator, &explicit(exemplars)).0, 1);
    expect(
        &store,
        &[
            (r#"{__name__="latency_seconds_bucket", le="+Inf"}"#, "10"),
            (r#"{__name__="latency_seconds_bucket", le="0.005"}"#, "1"),
            (r#"{__name__="latency_seconds_bucket", le="10"}"#, "3"),
            (r#"{__name__="latency_seconds_count"}"#, "10"),
            (r#"{__name__="latency_seconds_sum"}"#, "12.5"),
        ],
    );
    let matchers = [chronolith_engine::Matcher::equal(
        "__name__",
        "latency_seconds_bucket",
    )];
    let found = store
        .exemplars(&RequestContext::new(), &matchers, TimeRange::ALL)
        .unwrap();
    let found: BTreeMap<String, (String, i64)> = found
        .into_iter()
        .map(|(labels, exemplars)| {
            let first = &exemplars[0];
            let le = labels.get("le").unwrap().to_owned();
            (le, (first.labels.to_string(), first.time.to_millis()))
        })
        .collect();
    let trace = r#"{trace_id="0af7651916cd43dd8448eb211c80319c"}"#.to_owned();
    let span = r#"{span_id="b7ad6b7169203331"}"#.to_owned();
    let expected = [
        ("10".to_owned(), (trace, 4)),
        ("+Inf".to_owned(), (span, 5)),
    ];
    assert_eq!(found, BTreeMap::from(expected));
}

#[test]
fn histograms_without_sum_or_buckets_are_whole_all_the_same() {
    let store = store();
    let translator = translator(&OtlpConfig::default(), DeltaMode::Refused);
    let bare = json!({"sum": null, "bucketCounts": null, "explicitBounds": null});
    assert_eq!(send(&store, &translator, &explicit(bare)).0, 1);
    expect(
        &store,
        &[
            (r#"{__name__="latency_seconds_bucket", le="+Inf"}"#, "10"),
            (r#"{__name__="latency_seconds_count"}"#, "10"),
        ],
    );
}

#[test]
fn explicit_histograms_become_native_ones_when_asked_for() {
    let store = store();
    let config = OtlpConfig {
        convert_histograms_to_nhcb: true,
        ..OtlpConfig::default()
    };
    let translator = translator(&config, DeltaMode::Refused);
    assert_eq!(send(&store, &translator, &explicit(json!({}))).0, 1);
    expect(
        &store,
        &[(r#"{__name__="latency_seconds"}"#, "10 in schema -53")],
    );
}

#[test]
fn exponential_histograms_become_native_ones() {
    let store = store();
    let translator = translator(&OtlpConfig::default(), DeltaMode::Refused);
    let request = request(
        json!({"name": "size", "unit": "By", "exponentialHistogram": {
            "aggregationTemporality": 2,
            "dataPoints": [{
                "startTimeUnixNano": ns(2), "timeUnixNano": ns(5), "count": 9, "sum": 40, "scale": 3,
                "zeroCount": "2", "positive": {"offset": -1, "bucketCounts": ["3", "4"]},
            }],
        }}),
    );
    assert_eq!(send(&store, &translator, &request), (1, 0, String::new()));
    expect(&store, &[(r#"{__name__="size_bytes"}"#, "9 in schema 3")]);
    let columns = columns(&store, "size_bytes");
    let histogram = &columns.histograms[0].histogram;
    assert_eq!(histogram.positive_spans[0].offset, 0);
    assert_eq!(histogram.positive_buckets, [3.0, 4.0]);
}

#[test]
fn summaries_become_quantiles() {
    let store = store();
    let translator = translator(&OtlpConfig::default(), DeltaMode::Refused);
    let request = request(
        json!({"name": "rpc", "unit": "ms", "summary": {"dataPoints": [{
            "timeUnixNano": ns(5), "count": "4", "sum": 2,
            "quantileValues": [{"quantile": 0.5, "value": 1.5}, {"quantile": 1, "value": 3}],
        }]}}),
    );
    assert_eq!(send(&store, &translator, &request).0, 1);
    expect(
        &store,
        &[
            (r#"{__name__="rpc_milliseconds", quantile="0.5"}"#, "1.5"),
            (r#"{__name__="rpc_milliseconds", quantile="1"}"#, "3"),
            (r#"{__name__="rpc_milliseconds_count"}"#, "4"),
            (r#"{__name__="rpc_milliseconds_sum"}"#, "2"),
        ],
    );
}

#[test]
fn no_recorded_value_ends_the_series() {
    let store = store();
    let translator = translator(&OtlpConfig::default(), DeltaMode::Refused);
    let metrics = json!([
        {"name": "g", "gauge": {"dataPoints": [{"timeUnixNano": ns(5), "flags": 1}]}},
        {"name": "h", "histogram": {"aggregationTemporality": 2, "dataPoints": [
            {"timeUnixNano": ns(5), "flags": 1, "sum": 0, "bucketCounts": [0, 0], "explicitBounds": [1]},
        ]}},
        {"name": "e", "exponentialHistogram": {"aggregationTemporality": 2, "dataPoints": [
            {"timeUnixNano": ns(5), "flags": 1},
        ]}},
    ]);
    let request = json!({"resourceMetrics": [{"scopeMetrics": [{"metrics": metrics}]}]});
    assert_eq!(send(&store, &translator, &request).0, 3);
    expect(
        &store,
        &[
            (r#"{__name__="e"}"#, "stale histogram"),
            (r#"{__name__="g"}"#, "stale"),
            (r#"{__name__="h_bucket", le="+Inf"}"#, "stale"),
            (r#"{__name__="h_bucket", le="1"}"#, "stale"),
            (r#"{__name__="h_count"}"#, "stale"),
            (r#"{__name__="h_sum"}"#, "stale"),
        ],
    );
}

#[test]
fn refusals_are_counted_and_told_and_hold_nobody_back() {
    let store = store();
    let translator = translator(&OtlpConfig::default(), DeltaMode::Refused);
    let far = TIMES.latest_ms + 1;
    let metrics = json!([
        {"name": "good", "gauge": {"dataPoints": [
            {"timeUnixNano": ns(5), "asInt": 1},
            {"asInt": 1},
            {"timeUnixNano": ns(5)},
            {"timeUnixNano": ns(far), "asInt": 1},
            {"timeUnixNano": ns(5), "asInt": 1, "attributes": [attribute("", "x")]},
        ]}},
        {"name": "delta", "sum": {"aggregationTemporality": 1, "dataPoints": [
            {"timeUnixNano": ns(5), "asInt": 1}, {"timeUnixNano": ns(6), "asInt": 1},
        ]}},
        {"name": "empty", "gauge": {}},
        {"name": "nothing"},
        {"name": "@@", "gauge": {"dataPoints": [{"timeUnixNano": ns(5), "asInt": 1}]}},
        {"name": "h", "histogram": {"aggregationTemporality": 2, "dataPoints": [
            {"timeUnixNano": ns(5), "count": 1, "bucketCounts": [1, 0, 0], "explicitBounds": [2, 1]},
        ]}},
    ]);
    let request = json!({"resourceMetrics": [{"scopeMetrics": [{"metrics": metrics}]}]});
    let (points, rejected, message) = send(&store, &translator, &request);
    assert_eq!((points, rejected), (1, 8), "{message}");
    for part in [
        "metric \"good\": a data point without a time",
        "metric \"good\": a data point without a value",
        "too far in the future",
        "label name is empty",
        "invalid temporality and type combination for metric \"delta\" (2 times)",
        "empty data points. empty is dropped",
        "metric \"nothing\" has an unsupported type",
        "normalization for metric \"@@\" resulted in empty name",
    ] {
        assert!(message.contains(part), "{part}: {message}");
    }
    expect(&store, &[(r#"{__name__="good"}"#, "1")]);
}

#[test]
fn malformed_bytes_refuse_the_request() {
    let store = store();
    let translator = translator(&OtlpConfig::default(), DeltaMode::Refused);
    let message = protobuf(&explicit(json!({})));
    let context = RequestContext::new();
    for cut in 1..message.len() {
        let message = &message[..cut];
        let prepared = prepare(&store, &context, &translator, message, TIMES, 0);
        assert!(matches!(prepared, Err(Refusal::Message(_))), "cut at {cut}");
    }
    assert_eq!(store.stats().head_samples, 0);
}

fn with_resource(times_ms: &[i64]) -> Value {
    let points: Vec<Value> = times_ms
        .iter()
        .map(|ms| json!({"timeUnixNano": ns(*ms), "asInt": 1}))
        .collect();
    json!({"resourceMetrics": [{
        "resource": {"attributes": [
            attribute("service.name", "api"), attribute("host.name", "h1"),
        ]},
        "scopeMetrics": [{"metrics": [{"name": "m", "gauge": {"dataPoints": points}}]}],
    }]})
}

#[test]
fn target_info_is_there_wherever_a_query_may_look() {
    let store = store();
    let translator = translator(&OtlpConfig::default(), DeltaMode::Refused);
    send(
        &store,
        &translator,
        &with_resource(&[400_000, 5_000, 60_000]),
    );
    expect(
        &store,
        &[
            (r#"{__name__="m", job="api"}"#, "1"),
            (
                r#"{__name__="target_info", host_name="h1", job="api"}"#,
                "1",
            ),
        ],
    );
    let ms: Vec<i64> = columns(&store, "target_info")
        .timestamps
        .iter()
        .map(|ns| ns / 1_000_000)
        .collect();
    assert_eq!(ms, [5_000, 155_000, 305_000, 400_000]);
}

#[test]
fn points_years_apart_do_not_make_a_flood() {
    let store = store();
    let translator = Translator::new(&OtlpConfig::default(), false, DeltaMode::Refused, 2);
    send(&store, &translator, &with_resource(&[1, TIMES.latest_ms]));
    let count = columns(&store, "target_info").timestamps.len() as i64;
    assert!(
        (100..=TARGET_INFO_SAMPLES_MAX + 2).contains(&count),
        "{count}"
    );
}

fn delta_sum(from_ms: i64, to_ms: i64, value: i64) -> Value {
    request(json!({"name": "jobs", "sum": {
        "aggregationTemporality": 1, "isMonotonic": true,
        "dataPoints": [{
            "startTimeUnixNano": ns(from_ms), "timeUnixNano": ns(to_ms), "asInt": value,
            "attributes": [attribute("a", "b")],
        }],
    }}))
}

#[test]
fn deltas_are_stored_as_they_come_when_asked_for() {
    let store = store();
    let translator = translator(&OtlpConfig::default(), DeltaMode::Native);
    send(&store, &translator, &delta_sum(1, 5, 3));
    send(&store, &translator, &delta_sum(5, 9, 4));
    let columns = columns(&store, "jobs_total");
    assert_eq!(
        (columns.values, columns.start_timestamps),
        (vec![3.0, 4.0], vec![1_000_000, 5_000_000])
    );
    let metadata = store.metadata(&RequestContext::new(), None).unwrap();
    assert_eq!(metadata["jobs_total"][0].metric_type, MetricType::Unknown);
}

#[test]
fn deltas_are_added_up_when_asked_for() {
    let store = store();
    let deltas = Arc::new(Deltas::new(1 << 20, Duration::from_secs(60)));
    let translator = translator(&OtlpConfig::default(), DeltaMode::AddedUp(deltas));
    let sent = [(1, 5, 3), (5, 9, 4), (5, 9, 4), (2, 4, 9), (9, 12, 1)];
    let taken: Vec<u64> = sent
        .into_iter()
        .map(|(from, to, value)| send(&store, &translator, &delta_sum(from, to, value)).0)
        .collect();
    assert_eq!(
        taken,
        [1, 1, 1, 0, 1],
        "a repeat is taken, an older one is not"
    );
    let columns = columns(&store, "jobs_total");
    assert_eq!(
        (columns.values, columns.start_timestamps),
        (vec![3.0, 7.0, 8.0], vec![1_000_000; 3])
    );
}

#[test]
fn delta_histograms_are_added_up() {
    let store = store();
    let deltas = Arc::new(Deltas::new(1 << 20, Duration::from_secs(60)));
    let translator = translator(&OtlpConfig::default(), DeltaMode::AddedUp(deltas));
    for (from, to) in [(1, 5), (5, 9)] {
        let metrics = json!([
            {"name": "h", "histogram": {"aggregationTemporality": 1, "dataPoints": [{
                "startTimeUnixNano": ns(from), "timeUnixNano": ns(to), "count": 3, "sum": 1,
                "bucketCounts": [1, 2], "explicitBounds": [1],
            }]}},
            {"name": "e", "exponentialHistogram": {"aggregationTemporality": 1, "dataPoints": [{
                "startTimeUnixNano": ns(from), "timeUnixNano": ns(to), "count": 2, "sum": 1,
                "positive": {"bucketCounts": [1, 1]},
            }]}},
        ]);
        let request = json!({"resourceMetrics": [{"scopeMetrics": [{"metrics": metrics}]}]});
        assert_eq!(send(&store, &translator, &request), (2, 0, String::new()));
    }
    expect(
        &store,
        &[
            (r#"{__name__="e"}"#, "4 in schema 0"),
            (r#"{__name__="h_bucket", le="+Inf"}"#, "6"),
            (r#"{__name__="h_bucket", le="1"}"#, "2"),
            (r#"{__name__="h_count"}"#, "6"),
            (r#"{__name__="h_sum"}"#, "2"),
        ],
    );
}

#[test]
fn new_series_beyond_the_limit_are_named_and_the_others_stored() {
    let store = store();
    let translator = translator(&OtlpConfig::default(), DeltaMode::Refused);
    let context = RequestContext::new();
    let limits = TenantLimits {
        series_max: 2,
        ..TenantLimits::default()
    };
    store.set_tenant_limits(&context.tenant, limits);
    let users = |users: &[&str]| {
        let points: Vec<Value> = users
            .iter()
            .map(|user| {
                json!({"timeUnixNano": ns(5), "asInt": 1, "attributes": [attribute("user", user)]})
            })
            .collect();
        request(json!({"name": "m", "gauge": {"dataPoints": points}}))
    };
    assert_eq!(send(&store, &translator, &users(&["a", "b"])).0, 2);
    let message = protobuf(&users(&["c", "a", "d"]));
    let prepared = prepare(&store, &context, &translator, &message, TIMES, 0).unwrap();
    assert_eq!((prepared.points, prepared.over_limit), (1, 2));
    let reason = prepared.rejections.message();
    assert!(
        reason.contains("tenant default") && reason.contains("user"),
        "{reason}"
    );
}

#[test]
fn new_rules_hold_for_series_that_are_known_already() {
    let store = store();
    let before = translator(&OtlpConfig::default(), DeltaMode::Refused);
    let at = |ms: i64| {
        request(json!({"name": "m", "gauge": {"dataPoints": [
            {"timeUnixNano": ns(ms), "asInt": ms, "attributes": [attribute("a.b", "c")]},
        ]}}))
    };
    send(&store, &before, &at(1));
    let after = before.reconfigured(&OtlpConfig {
        translation_strategy: crate::config::TranslationStrategy::NoTranslation,
        ..OtlpConfig::default()
    });
    send(&store, &after, &at(2));
    expect(
        &store,
        &[
            (r#"{__name__="m", a.b="c"}"#, "2"),
            (r#"{__name__="m", a_b="c"}"#, "1"),
        ],
    );
}
