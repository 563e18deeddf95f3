//! Jaeger's search over spans in memory, and over the shared traces where they are there.

use std::path::{Path, PathBuf};

use chronolith_engine::model::{
    AttributeValue, Attributes, Scope as LibraryScope, Span, SpanEvent, SpanId, Stream, TimestampNs,
};
use serde_json::Value;

use super::*;
use crate::traces::listing::{operations, services};
use crate::traces::memory::MemorySpans;
use crate::traces::sample::spans;

fn found(query: &JaegerQuery) -> Vec<u8> {
    let ids = find_traces(&spans(), &RequestContext::new(), query).unwrap();
    ids.into_iter().map(|id| id.0[0]).collect()
}

fn tags(pairs: &[(&str, &str)]) -> JaegerQuery {
    let pair = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
    JaegerQuery {
        tags: pairs.iter().map(pair).collect(),
        ..JaegerQuery::default()
    }
}

#[test]
fn tags_are_found_wherever_they_are() {
    for (pairs, expected) in [
        (
            &[
                ("http.status", "500"),
                ("type", "Broke"),
                ("service.name", "pay"),
            ][..],
            &[1_u8][..],
        ),
        (&[("http.status", "200")], &[2, 1]),
        (&[("http.status", "200.0")], &[]),
        (&[("http.status", "[25]00")], &[2, 1]),
        (&[("http.status", "4..")], &[]),
        (&[("amount", "9.5")], &[1]),
        (&[("cached", "true")], &[1]),
        (&[("cached", "false")], &[]),
        (&[("region", "e.*")], &[2, 1]),
        (&[("region", "e\\*")], &[]),
        (&[("region", "(")], &[]),
        (&[("error", "true")], &[1]),
        (&[("span.kind", "client"), ("db", "pg")], &[1]),
        (&[("otel.status_code", "ERROR")], &[1]),
        (
            &[
                ("otel.scope.name", "lib"),
                ("otel.scope.version", "1.2"),
                ("http.status", "500"),
            ],
            &[1],
        ),
        // On different spans.
        (&[("http.status", "500"), ("db", "pg")], &[]),
    ] {
        assert_eq!(found(&tags(pairs)), expected, "{pairs:?}");
    }
}

#[test]
fn the_rest_of_a_query() {
    let charge = JaegerQuery {
        service: Some("pay".to_owned()),
        operation: Some("charge".to_owned()),
        ..JaegerQuery::default()
    };
    assert_eq!(found(&charge), [2, 1]);
    let slow = JaegerQuery {
        duration_min_ns: Some(50_000_000),
        ..charge.clone()
    };
    assert_eq!(found(&slow), [1]);
    let quick = JaegerQuery {
        duration_max_ns: Some(50_000_000),
        ..charge.clone()
    };
    assert_eq!(found(&quick), [2]);
    let one = JaegerQuery { limit: 1, ..charge };
    assert_eq!(found(&one), [2]);
}

#[test]
fn services_and_operations_are_listed() {
    let context = RequestContext::new();
    let all = services(&spans(), &context, TimeRange::ALL).unwrap();
    assert_eq!(all, ["batch", "pay", "shop"]);
    let of = |service, kind| {
        let found = operations(&spans(), &context, TimeRange::ALL, service, kind).unwrap();
        found.into_iter().map(|(name, _)| name).collect::<Vec<_>>()
    };
    assert_eq!(of(Some("pay"), None), ["bank", "charge"]);
    assert_eq!(of(Some("shop"), Some(SpanKind::Client)), ["query"]);
    assert_eq!(of(None, Some(SpanKind::Server)), ["GET /", "charge"]);
}

fn conformance() -> Option<PathBuf> {
    let shared = std::env::var_os("CHRONOLITH_SHARED").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared"),
        PathBuf::from,
    );
    let folder = shared.join("conformance/logs_traces/jaeger");
    folder.is_dir().then_some(folder)
}

fn json(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn list<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value[key].as_array().map_or(&[], Vec::as_slice)
}

fn attributes(value: &Value) -> Attributes {
    let pairs = list(value, "attributes").iter();
    pairs
        .map(|pair| {
            let value = &pair["value"];
            let typed = if let Some(text) = value["stringValue"].as_str() {
                AttributeValue::String(text.to_owned())
            } else if let Some(text) = value["intValue"].as_str() {
                AttributeValue::Int(text.parse().unwrap())
            } else if let Some(n) = value["intValue"].as_i64() {
                AttributeValue::Int(n)
            } else if let Some(x) = value["doubleValue"].as_f64() {
                AttributeValue::Float(x)
            } else if let Some(truth) = value["boolValue"].as_bool() {
                AttributeValue::Bool(truth)
            } else {
                AttributeValue::Null
            };
            (pair["key"].as_str().unwrap().to_owned(), typed)
        })
        .collect()
}

fn nanos(value: &Value) -> i64 {
    value.as_str().map_or(0, |text| text.parse().unwrap())
}

fn id<const N: usize>(value: &Value) -> [u8; N] {
    let text = value.as_str().unwrap_or_default();
    let mut id = [0; N];
    for (place, byte) in id.iter_mut().enumerate() {
        let digits = text.get(2 * place..2 * place + 2);
        *byte = digits.map_or(0, |digits| u8::from_str_radix(digits, 16).unwrap());
    }
    id
}

fn span(value: &Value) -> Span {
    let time = nanos(&value["startTimeUnixNano"]);
    let parent: [u8; 8] = id(&value["parentSpanId"]);
    Span {
        trace_id: TraceId(id(&value["traceId"])),
        span_id: SpanId(id(&value["spanId"])),
        parent_span_id: (parent != [0; 8]).then_some(SpanId(parent)),
        trace_state: String::new(),
        name: value["name"].as_str().unwrap_or_default().to_owned(),
        kind: SpanKind::Unspecified,
        time: TimestampNs(time),
        duration_ns: nanos(&value["endTimeUnixNano"]) - time,
        status: SpanStatus::Unset,
        status_message: String::new(),
        attributes: attributes(value),
        events: list(value, "events")
            .iter()
            .map(|event| SpanEvent {
                time: TimestampNs(nanos(&event["timeUnixNano"])),
                name: event["name"].as_str().unwrap_or_default().to_owned(),
                attributes: attributes(event),
            })
            .collect(),
        links: Vec::new(),
    }
}

/// The traces of the conformance data, and their ids by file name.
fn fixtures(folder: &Path) -> (MemorySpans, Vec<(String, TraceId)>) {
    let mut all = MemorySpans::default();
    let mut names = Vec::new();
    for file in std::fs::read_dir(folder.join("traces")).unwrap() {
        let path = file.unwrap().path();
        let request = json(&path);
        for resource in list(&request, "resourceSpans") {
            for scope in list(resource, "scopeSpans") {
                let library = &scope["scope"];
                let text = |key: &str| library[key].as_str().unwrap_or_default().to_owned();
                let stream = Stream {
                    resource: attributes(&resource["resource"]),
                    scope: LibraryScope {
                        name: text("name"),
                        version: text("version"),
                        attributes: attributes(library),
                    },
                    ..Stream::default()
                };
                let spans: Vec<_> = list(scope, "spans").iter().map(span).collect();
                let name = path.file_stem().unwrap().to_string_lossy().into_owned();
                names.extend(spans.first().map(|span| (name, span.trace_id)));
                all.add(stream, spans);
            }
        }
    }
    (all, names)
}

fn time(value: &Value) -> TimestampNs {
    // `2017-01-26T15:46:31.639875Z`: all are of this day.
    const DAY_NS: i64 = 1_485_388_800_000_000_000;
    let text = value.as_str().unwrap();
    let (date, clock) = text.trim_end_matches('Z').split_once('T').unwrap();
    assert_eq!(date, "2017-01-26");
    let parts: Vec<f64> = clock.split(':').map(|part| part.parse().unwrap()).collect();
    let seconds = parts[0] * 3600.0 + parts[1] * 60.0 + parts[2];
    TimestampNs(DAY_NS + (seconds * 1e6).round() as i64 * 1000)
}

#[test]
fn the_conformance_queries_find_their_traces() {
    let Some(folder) = conformance() else {
        println!("skipped: no shared conformance data");
        return;
    };
    let (source, names) = fixtures(&folder);
    let queries = json(&folder.join("queries.json"));
    for case in queries.as_array().unwrap() {
        let query = &case["Query"];
        let text = |key: &str| query[key].as_str().filter(|text| !text.is_empty());
        let nanos = |key: &str| query[key].as_i64().filter(|nanos| *nanos > 0);
        let tags = query["Tags"].as_object().into_iter().flatten();
        let tags = tags.map(|(key, value)| match value.as_str() {
            Some(text) => (key.clone(), text.to_owned()),
            None => (key.clone(), value.to_string()),
        });
        let wanted = JaegerQuery {
            service: text("ServiceName").map(str::to_owned),
            operation: text("OperationName").map(str::to_owned),
            tags: tags.collect(),
            range: TimeRange {
                start: time(&query["StartTimeMin"]),
                end: time(&query["StartTimeMax"]),
            },
            duration_min_ns: nanos("DurationMin"),
            duration_max_ns: nanos("DurationMax"),
            limit: usize::try_from(query["NumTraces"].as_u64().unwrap()).unwrap(),
        };
        let ids = find_traces(&source, &RequestContext::new(), &wanted).unwrap();
        let mut found: Vec<&str> = ids
            .iter()
            .map(|id| names.iter().find(|(_, of)| of == id).unwrap().0.as_str())
            .collect();
        let mut expected: Vec<&str> = list(case, "ExpectedFixtures")
            .iter()
            .map(|name| name.as_str().unwrap())
            .collect();
        found.sort_unstable();
        expected.sort_unstable();
        assert_eq!(found, expected, "{}", case["Caption"]);
    }
}
