//! The routes that answer questions about traces.

use axum::routing::on;

use super::parameters::*;
use super::table::{GET, GET_POST, JSON, TEXT};
use super::{Answer, Route, Tag};
use crate::api::{health, jaeger, tempo, traces, zipkin};

/// Reads of traces.
pub static ROUTES: &[Route] = &[
    Route::new(
        "/api/v1/traces/{id}",
        GET,
        Tag::Traces,
        "A trace as a tree, with self times and the critical path.",
        |m| on(m, traces::detail),
    )
    .takes(&[TRACE_ID])
    .answers(JSON),
    // Jaeger.
    Route::new(
        "/jaeger/api/services",
        GET,
        Tag::Traces,
        "Services that have spans, as Jaeger answers.",
        |m| on(m, jaeger::services),
    )
    .answers(JSON),
    Route::new(
        "/jaeger/api/services/{service}/operations",
        GET,
        Tag::Traces,
        "Names of a service's spans.",
        |m| on(m, jaeger::service_operations),
    )
    .takes(&[SERVICE_IN_PATH])
    .answers(JSON),
    Route::new(
        "/jaeger/api/operations",
        GET,
        Tag::Traces,
        "Names of a service's spans with their kinds.",
        |m| on(m, jaeger::operations),
    )
    .takes(&[SERVICE_REQUIRED, SPAN_KIND])
    .answers(JSON),
    Route::new(
        "/jaeger/api/traces",
        GET,
        Tag::Traces,
        "Traces that have a span which passes everything, newest first; or those of some ids.",
        |m| on(m, jaeger::traces),
    )
    .takes(&[
        SERVICE,
        OPERATION,
        TAGS,
        TAG,
        START_US,
        END_US,
        LOOKBACK_SEARCH,
        MIN_DURATION,
        MAX_DURATION,
        TRACES,
        TRACE_IDS,
        RAW,
    ])
    .answers(JSON),
    Route::new(
        "/jaeger/api/traces/{id}",
        GET,
        Tag::Traces,
        "A trace as Jaeger shows it.",
        |m| on(m, jaeger::trace),
    )
    .takes(&[TRACE_ID, RAW])
    .answers(JSON),
    Route::new(
        "/jaeger/api/dependencies",
        GET,
        Tag::Traces,
        "Which service calls which, how often.",
        |m| on(m, jaeger::dependencies),
    )
    .takes(&[END_TS, LOOKBACK_MS, SERVICE])
    .answers(JSON),
    Route::new(
        "/jaeger/api/metrics/latencies",
        GET,
        Tag::Traces,
        "A quantile of durations of services, in milliseconds, step by step.",
        |m| on(m, jaeger::latencies),
    )
    .takes(&[
        SERVICES,
        QUANTILE,
        GROUP_BY_OPERATION,
        END_TS,
        LOOKBACK_MS,
        STEP_MS,
        RATE_PER,
        SPAN_KINDS,
    ])
    .answers(JSON),
    Route::new(
        "/jaeger/api/metrics/calls",
        GET,
        Tag::Traces,
        "Calls of services per second, step by step.",
        |m| on(m, jaeger::calls),
    )
    .takes(&[
        SERVICES,
        GROUP_BY_OPERATION,
        END_TS,
        LOOKBACK_MS,
        STEP_MS,
        RATE_PER,
        SPAN_KINDS,
    ])
    .answers(JSON),
    Route::new(
        "/jaeger/api/metrics/errors",
        GET,
        Tag::Traces,
        "Failed calls of services as a part of all, step by step.",
        |m| on(m, jaeger::errors),
    )
    .takes(&[
        SERVICES,
        GROUP_BY_OPERATION,
        END_TS,
        LOOKBACK_MS,
        STEP_MS,
        RATE_PER,
        SPAN_KINDS,
    ])
    .answers(JSON),
    Route::new(
        "/jaeger/api/metrics/minstep",
        GET,
        Tag::Traces,
        "The shortest step, in milliseconds.",
        |m| on(m, jaeger::min_step),
    )
    .answers(JSON),
    Route::new(
        "/jaeger/api/v3/services",
        GET,
        Tag::Traces,
        "Services that have spans, as version 3 of Jaeger's API answers.",
        |m| on(m, jaeger::v3::services),
    )
    .answers(JSON),
    Route::new(
        "/jaeger/api/v3/operations",
        GET,
        Tag::Traces,
        "Names of spans with their kinds.",
        |m| on(m, jaeger::v3::operations),
    )
    .takes(&[SERVICE, SPAN_KIND_V3])
    .answers(JSON),
    Route::new(
        "/jaeger/api/v3/traces",
        GET,
        Tag::Traces,
        "Traces that have a span which passes everything, as OpenTelemetry's JSON.",
        |m| on(m, jaeger::v3::traces),
    )
    .takes(V3_QUERY)
    .answers(JSON),
    Route::new(
        "/jaeger/api/v3/traces/{id}",
        GET,
        Tag::Traces,
        "A trace as OpenTelemetry's JSON.",
        |m| on(m, jaeger::v3::trace),
    )
    .takes(&[TRACE_ID])
    .answers(JSON),
    Route::new(
        "/jaeger/api/v3/trace-summaries",
        GET,
        Tag::Traces,
        "Root, times and services of traces.",
        |m| on(m, jaeger::v3::summaries),
    )
    .takes(V3_QUERY)
    .answers(JSON),
    // Tempo.
    Route::new(
        "/tempo/api/traces/{id}",
        GET,
        Tag::Traces,
        "A trace as Tempo answers it.",
        |m| on(m, tempo::trace),
    )
    .takes(&[TRACE_ID, TEMPO_START, TEMPO_END])
    .answers(TRACE),
    Route::new(
        "/tempo/api/v2/traces/{id}",
        GET,
        Tag::Traces,
        "A trace, in version 2 of the answer.",
        |m| on(m, tempo::trace_v2),
    )
    .takes(&[TRACE_ID, TEMPO_START, TEMPO_END])
    .answers(TRACE),
    Route::new(
        "/tempo/api/search",
        GET_POST,
        Tag::Traces,
        "Traces that a TraceQL query finds, newest first.",
        |m| on(m, tempo::search),
    )
    .takes(&[
        TRACEQL,
        TEMPO_TAGS,
        TEMPO_MIN_DURATION,
        TEMPO_MAX_DURATION,
        TEMPO_LIMIT,
        TEMPO_START,
        TEMPO_END,
        SPSS,
    ])
    .answers(JSON),
    Route::new(
        "/tempo/api/search/tags",
        GET,
        Tag::Traces,
        "Keys of attributes.",
        |m| on(m, tempo::tags),
    )
    .takes(&[SCOPE, FILTER, TEMPO_NAMES, TEMPO_START, TEMPO_END])
    .answers(JSON),
    Route::new(
        "/tempo/api/v2/search/tags",
        GET,
        Tag::Traces,
        "Keys of attributes by scope.",
        |m| on(m, tempo::scoped_tags),
    )
    .takes(&[SCOPE, FILTER, TEMPO_NAMES, TEMPO_START, TEMPO_END])
    .answers(JSON),
    Route::new(
        "/tempo/api/search/tag/{tag}/values",
        GET,
        Tag::Traces,
        "Values of an attribute, as text.",
        |m| on(m, tempo::values),
    )
    .takes(&[TAG_KEY, FILTER, TEMPO_NAMES, TEMPO_START, TEMPO_END])
    .answers(JSON),
    Route::new(
        "/tempo/api/v2/search/tag/{tag}/values",
        GET,
        Tag::Traces,
        "Values of a field of TraceQL, with their types.",
        |m| on(m, tempo::scoped_values),
    )
    .takes(&[TAG_FIELD, FILTER, TEMPO_NAMES, TEMPO_START, TEMPO_END])
    .answers(JSON),
    Route::new(
        "/tempo/api/metrics/query_range",
        GET_POST,
        Tag::Traces,
        "TraceQL metrics at every step of a range.",
        |m| on(m, tempo::range),
    )
    .takes(&[
        TRACEQL_METRICS,
        LOKI_START,
        LOKI_END,
        SINCE,
        TEMPO_STEP,
        EXEMPLARS,
    ])
    .answers(JSON),
    Route::new(
        "/tempo/api/metrics/query",
        GET_POST,
        Tag::Traces,
        "TraceQL metrics over a whole range.",
        |m| on(m, tempo::instant),
    )
    .takes(&[TRACEQL_METRICS, LOKI_START, LOKI_END, SINCE])
    .answers(JSON),
    Route::new(
        "/tempo/api/echo",
        GET,
        Tag::Traces,
        "`echo`: whether anybody is there.",
        |m| on(m, tempo::echo),
    )
    .answers(TEXT),
    Route::new(
        "/tempo/ready",
        GET,
        Tag::Traces,
        "Whether requests are served, at Tempo's path.",
        |m| on(m, health::ready),
    )
    .answers(TEXT),
    Route::new(
        "/tempo/api/status/buildinfo",
        GET,
        Tag::Traces,
        "Version, as Tempo answers it.",
        |m| on(m, tempo::build_info),
    )
    .answers(JSON),
    Route::new(
        "/tempo/api/overrides",
        GET,
        Tag::Traces,
        "Limits that a tenant has set itself; there are none.",
        |m| on(m, tempo::overrides),
    )
    .answers(JSON),
    // Zipkin.
    Route::new(
        "/zipkin/api/v2/services",
        GET,
        Tag::Traces,
        "Services that have spans, as Zipkin answers.",
        |m| on(m, zipkin::services),
    )
    .answers(JSON),
    Route::new(
        "/zipkin/api/v2/spans",
        GET,
        Tag::Traces,
        "Names of a service's spans.",
        |m| on(m, zipkin::span_names),
    )
    .takes(&[SERVICE_NAME])
    .answers(JSON),
    Route::new(
        "/zipkin/api/v2/remoteServices",
        GET,
        Tag::Traces,
        "Whom a service calls, as its spans say.",
        |m| on(m, zipkin::remote_services),
    )
    .takes(&[SERVICE_NAME])
    .answers(JSON),
    Route::new(
        "/zipkin/api/v2/traces",
        GET,
        Tag::Traces,
        "Traces that have a span which passes everything, newest first.",
        |m| on(m, zipkin::traces),
    )
    .takes(&[
        ZIPKIN_SERVICE,
        SPAN_NAME,
        REMOTE_SERVICE_NAME,
        ANNOTATION_QUERY,
        MIN_DURATION_US,
        MAX_DURATION_US,
        END_TS,
        LOOKBACK_MS,
        ZIPKIN_LIMIT,
    ])
    .answers(JSON),
    Route::new(
        "/zipkin/api/v2/trace/{id}",
        GET,
        Tag::Traces,
        "The spans of a trace.",
        |m| on(m, zipkin::trace),
    )
    .takes(&[TRACE_ID])
    .answers(JSON),
    Route::new(
        "/zipkin/api/v2/traceMany",
        GET,
        Tag::Traces,
        "The spans of several traces.",
        |m| on(m, zipkin::trace_many),
    )
    .takes(&[ZIPKIN_IDS])
    .answers(JSON),
    Route::new(
        "/zipkin/api/v2/dependencies",
        GET,
        Tag::Traces,
        "Which service calls which, how often.",
        |m| on(m, zipkin::dependencies),
    )
    .takes(&[END_TS, LOOKBACK_MS])
    .answers(JSON),
    Route::new(
        "/zipkin/api/v2/autocompleteKeys",
        GET,
        Tag::Traces,
        "Keys of spans' attributes.",
        |m| on(m, zipkin::autocomplete_keys),
    )
    .answers(JSON),
    Route::new(
        "/zipkin/api/v2/autocompleteValues",
        GET,
        Tag::Traces,
        "Values of an attribute of spans.",
        |m| on(m, zipkin::autocomplete_values),
    )
    .takes(&[KEY])
    .answers(JSON),
];

/// A trace in either form.
const TRACE: Answer = Answer::Body(&["application/json", "application/protobuf"]);

/// What searches of version 3 take.
const V3_QUERY: &[Parameter] = &[
    V3_SERVICE,
    V3_OPERATION,
    V3_START,
    V3_END,
    V3_DURATION_MIN,
    V3_DURATION_MAX,
    V3_DEPTH,
    V3_ATTRIBUTES,
];
