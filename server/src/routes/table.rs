//! The table of what is not Loki's.

use axum::extract::DefaultBodyLimit;
use axum::routing::on;

use super::parameters::*;
use super::{Answer, Route, Tag, Verb};
use crate::api::{
    admin, export, federate, health, lifecycle, log_files, metadata, notifications, openapi, query,
    rules, runs, search, sql, status, targets,
};
use crate::ingest::{elastic, influx, loki, pushgateway, remote_write, zipkin};
use crate::otlp;
use crate::page;
use crate::remote_read;

pub(super) const GET: &[Verb] = &[Verb::Get];
const POST: &[Verb] = &[Verb::Post];
pub(super) const GET_POST: &[Verb] = &[Verb::Get, Verb::Post];
const POST_PUT: &[Verb] = &[Verb::Post, Verb::Put];

pub(super) const JSON: Answer = Answer::Body(&["application/json"]);
pub(super) const TEXT: Answer = Answer::Body(&["text/plain"]);
const PROTOBUF: &[&str] = &["application/x-protobuf"];
/// The two forms of OTLP.
const OTLP: &[&str] = &["application/x-protobuf", "application/json"];
/// What the text format and protobuf's delimited families are called.
const EXPOSITION: Answer = Answer::Body(&["text/plain", "application/vnd.google.protobuf"]);
const NDJSON: &[&str] = &["application/x-ndjson", "application/json"];
const ZIPKIN: &[&str] = &["application/json", "application/x-protobuf"];
const TEXT_PLAIN: &[&str] = &["text/plain"];
/// What a write of lines says about them.
const LINE_ARGUMENTS: &[Parameter] = &[DATABASE, BUCKET, PRECISION];
/// Which members of a document are what.
const DOCUMENT_FIELDS: &[Parameter] = &[
    MSG_FIELD,
    TIME_FIELD,
    STREAM_FIELDS,
    IGNORE_FIELDS,
    EXTRA_FIELDS,
];
const ADMIN: &str = "--enable-admin-api";
const LIFECYCLE: &str = "--enable-lifecycle";
const SEARCH_FLAG: &str = "--enable-feature=search-api";

/// Every route of the main port but those in a file of their own.
pub static ROUTES: &[Route] = &[
    // Queries.
    Route::new(
        "/api/v1/query",
        GET_POST,
        Tag::Query,
        "Evaluates an expression at one time.",
        |m| on(m, query::instant),
    )
    .takes(&[
        QUERY, TIME, TIMEOUT, LIMIT, LOOKBACK, STATS, AS_OF, NO_CACHE,
    ])
    .answers(Answer::EnvelopeOrTable),
    Route::new(
        "/api/v1/query_range",
        GET_POST,
        Tag::Query,
        "Evaluates an expression at every step of a range.",
        |m| on(m, query::range),
    )
    .takes(&[
        QUERY, START, END, STEP, TIMEOUT, LIMIT, LOOKBACK, STATS, AS_OF, NO_CACHE,
    ])
    .answers(Answer::EnvelopeOrTable),
    Route::new(
        "/api/v1/query_exemplars",
        GET_POST,
        Tag::Query,
        "Exemplars of all selectors of an expression.",
        |m| on(m, metadata::query_exemplars),
    )
    .takes(&[QUERY, FROM, UNTIL]),
    Route::new(
        "/api/v1/format_query",
        GET_POST,
        Tag::Query,
        "An expression in its canonical form.",
        |m| on(m, query::format),
    )
    .takes(&[QUERY]),
    Route::new(
        "/api/v1/parse_query",
        GET_POST,
        Tag::Query,
        "An expression's syntax tree.",
        |m| on(m, query::parse),
    )
    .takes(&[QUERY]),
    Route::new(
        "/api/v1/export",
        GET_POST,
        Tag::Query,
        "The rows of one signal as one file.",
        |m| on(m, export::export),
    )
    .takes(&[EXPORT_SIGNAL, MATCH, FROM, UNTIL, EXPORT_FORMAT, TIMEOUT])
    .answers(Answer::Body(&[
        "application/vnd.apache.parquet",
        "text/csv",
        "application/x-ndjson",
    ])),
    Route::new(
        "/api/v1/sql",
        POST,
        Tag::Query,
        "Runs a SQL statement: `{\"query\": \"…\", \"params\": []}`.",
        |m| on(m, sql::sql),
    )
    .reads(&["application/json"])
    .answers(Answer::Body(&[
        "application/json",
        "application/x-ndjson",
        "text/csv",
        "application/vnd.apache.arrow.stream",
        "application/vnd.apache.parquet",
    ])),
    // Runs of pipelines.
    Route::new(
        "/api/v1/runs",
        GET,
        Tag::Query,
        "Runs of pipelines, newest first: `{\"runs\": […]}`.",
        |m| on(m, runs::list),
    )
    .takes(&[PIPELINE, RUN_STATE, RUNS_FROM, RUNS_UNTIL, RUNS_LIMIT])
    .answers(JSON),
    Route::new(
        "/api/v1/runs/live",
        GET,
        Tag::Query,
        "The runs under way, then every run that changes, as server-sent events.",
        |m| on(m, runs::live),
    )
    .takes(&[PIPELINE, ONE_RUN])
    .answers(Answer::Events),
    Route::new(
        "/api/v1/runs/{id}",
        GET,
        Tag::Query,
        "A run with its stages, critical path, first error and links, by its id or its trace id.",
        |m| on(m, runs::detail),
    )
    .takes(&[RUN_ID])
    .answers(JSON),
    Route::new(
        "/api/v1/runs/{id}/events",
        POST,
        Tag::Ingest,
        "Stores events of a run: a JSON object, an array of them, or one a line.",
        |m| on(m, runs::post_events),
    )
    .takes(&[RUN_ID])
    .reads(NDJSON)
    .answers(JSON),
    // What there is.
    Route::new(
        "/api/v1/series",
        GET_POST,
        Tag::Metadata,
        "Label sets of the series that pass a selector.",
        |m| on(m, metadata::series),
    )
    .takes(&[MATCH_REQUIRED, FROM, UNTIL, LIMIT]),
    Route::new(
        "/api/v1/labels",
        GET_POST,
        Tag::Metadata,
        "Label names, sorted.",
        |m| on(m, metadata::label_names),
    )
    .takes(&[MATCH, FROM, UNTIL, LIMIT]),
    Route::new(
        "/api/v1/label/{name}/values",
        GET,
        Tag::Metadata,
        "Values of a label, sorted.",
        |m| on(m, metadata::label_values),
    )
    .takes(&[LABEL_NAME, MATCH, FROM, UNTIL, LIMIT]),
    Route::new(
        "/api/v1/metadata",
        GET,
        Tag::Metadata,
        "Type, unit and help of metrics.",
        |m| on(m, metadata::metadata),
    )
    .takes(&[METRIC, LIMIT_METRICS, LIMIT_PER_METRIC]),
    // Search.
    Route::new(
        "/api/v1/search/metric_names",
        GET_POST,
        Tag::Search,
        "Metric names like what is looked for.",
        |m| on(m, search::metric_names),
    )
    .takes(&[
        SEARCH,
        FUZZ_THRESHOLD,
        FUZZ_ALGORITHM,
        CASE_SENSITIVE,
        INCLUDE_SCORE,
        INCLUDE_METADATA,
        SORT_BY,
        SORT_DIRECTION,
        MATCH,
        SEARCH_START,
        SEARCH_END,
        SEARCH_LIMIT,
        BATCH_SIZE,
    ])
    .answers(Answer::JsonLines)
    .needs(SEARCH_FLAG),
    Route::new(
        "/api/v1/search/label_names",
        GET_POST,
        Tag::Search,
        "Label names like what is looked for.",
        |m| on(m, search::label_names),
    )
    .takes(&[
        SEARCH,
        FUZZ_THRESHOLD,
        FUZZ_ALGORITHM,
        CASE_SENSITIVE,
        INCLUDE_SCORE,
        SORT_BY,
        SORT_DIRECTION,
        MATCH,
        SEARCH_START,
        SEARCH_END,
        SEARCH_LIMIT,
        BATCH_SIZE,
    ])
    .answers(Answer::JsonLines)
    .needs(SEARCH_FLAG),
    Route::new(
        "/api/v1/search/label_values",
        GET_POST,
        Tag::Search,
        "Values of a label like what is looked for.",
        |m| on(m, search::label_values),
    )
    .takes(&[
        LABEL,
        SEARCH,
        FUZZ_THRESHOLD,
        FUZZ_ALGORITHM,
        CASE_SENSITIVE,
        INCLUDE_SCORE,
        SORT_BY,
        SORT_DIRECTION,
        MATCH,
        SEARCH_START,
        SEARCH_END,
        SEARCH_LIMIT,
        BATCH_SIZE,
    ])
    .answers(Answer::JsonLines)
    .needs(SEARCH_FLAG),
    // Targets.
    Route::new(
        "/api/v1/targets",
        GET,
        Tag::Targets,
        "What is scraped, with what success, and what relabelling dropped.",
        |m| on(m, targets::targets),
    )
    .takes(&[TARGET_STATE, SCRAPE_POOL]),
    Route::new(
        "/api/v1/log_files",
        GET,
        Tag::Targets,
        "Log files that are followed, how far they are read, and what is in the way.",
        |m| on(m, log_files::log_files),
    ),
    Route::new(
        "/api/v1/targets/metadata",
        GET,
        Tag::Targets,
        "Type, unit and help of metrics, target by target.",
        |m| on(m, targets::metadata),
    )
    .takes(&[MATCH_TARGET, METRIC, LIMIT]),
    Route::new(
        "/api/v1/targets/relabel_steps",
        GET,
        Tag::Targets,
        "What each relabelling rule of a pool makes of a label set.",
        |m| on(m, targets::relabel_steps),
    )
    .takes(&[SCRAPE_POOL_REQUIRED, DISCOVERED_LABELS]),
    Route::new(
        "/api/v1/scrape_pools",
        GET,
        Tag::Targets,
        "Names of the scrape pools (jobs).",
        |m| on(m, targets::scrape_pools),
    ),
    Route::new(
        "/api/v1/scrape_pools/config",
        GET,
        Tag::Targets,
        "Configuration of a scrape pool, secrets hidden.",
        |m| on(m, targets::scrape_pool_config),
    )
    .takes(&[SCRAPE_POOL_REQUIRED]),
    // Rules.
    Route::new(
        "/api/v1/rules",
        GET,
        Tag::Rules,
        "Rule groups; none as long as rules are not built.",
        |m| on(m, rules::rules),
    )
    .takes(&[
        RULE_TYPE,
        RULE_NAME,
        RULE_GROUP,
        RULE_FILE,
        MATCH,
        EXCLUDE_ALERTS,
        GROUP_LIMIT,
        GROUP_NEXT_TOKEN,
    ]),
    Route::new(
        "/api/v1/alerts",
        GET,
        Tag::Rules,
        "Active alerts; none as long as rules are not built.",
        |m| on(m, rules::alerts),
    ),
    Route::new(
        "/api/v1/alertmanagers",
        GET,
        Tag::Rules,
        "Where alerts are sent.",
        |m| on(m, rules::alertmanagers),
    ),
    // Status.
    Route::new(
        "/api/v1/status/buildinfo",
        GET,
        Tag::Status,
        "Version.",
        |m| on(m, status::build_info),
    ),
    Route::new(
        "/api/v1/status/runtimeinfo",
        GET,
        Tag::Status,
        "Start time, threads, retention.",
        |m| on(m, status::runtime_info),
    ),
    Route::new(
        "/api/v1/status/flags",
        GET,
        Tag::Status,
        "Every setting as text.",
        |m| on(m, status::flags),
    ),
    Route::new(
        "/api/v1/status/config",
        GET,
        Tag::Status,
        "Settings and sections of the file, secrets hidden.",
        |m| on(m, status::config),
    ),
    Route::new(
        "/api/v1/status/tsdb",
        GET,
        Tag::Status,
        "What makes the index large.",
        |m| on(m, status::tsdb),
    )
    .takes(&[TOP]),
    Route::new(
        "/api/v1/status/tsdb/blocks",
        GET,
        Tag::Status,
        "Segments of the tenant's metrics in the shape of blocks.",
        |m| on(m, status::blocks),
    ),
    Route::new(
        "/api/v1/status/walreplay",
        GET,
        Tag::Status,
        "Log files read at the start.",
        |m| on(m, status::wal_replay),
    ),
    Route::new(
        "/api/v1/features",
        GET,
        Tag::Status,
        "What this server can do: map of maps of booleans.",
        |m| on(m, status::features),
    ),
    Route::new(
        "/api/v1/openapi.yaml",
        GET,
        Tag::Status,
        "This document.",
        |m| on(m, openapi::document),
    )
    .takes(&[OPENAPI_VERSION])
    .answers(Answer::Body(&["application/yaml"])),
    Route::new(
        "/api/v1/status/self_metrics",
        GET,
        Tag::Status,
        "Own metrics as protobuf's JSON.",
        |m| on(m, status::self_metrics),
    )
    .takes(&[NAME_PATTERN]),
    // Notifications.
    Route::new(
        "/api/v1/notifications",
        GET,
        Tag::Notifications,
        "What the operator should know now.",
        |m| on(m, notifications::list),
    ),
    Route::new(
        "/api/v1/notifications/live",
        GET,
        Tag::Notifications,
        "What the operator should know, as it happens.",
        |m| on(m, notifications::live),
    )
    .answers(Answer::Events),
    // Administration.
    Route::new(
        "/api/v1/admin/flush",
        POST,
        Tag::Admin,
        "Seals the head and syncs everything; answers when done.",
        |m| on(m, admin::flush),
    )
    .answers(Answer::Nothing)
    .needs(ADMIN),
    Route::new(
        "/api/v1/admin/compact",
        POST,
        Tag::Admin,
        "Brings the store to its final form; answers when done.",
        |m| on(m, admin::compact),
    )
    .answers(Answer::Nothing)
    .needs(ADMIN),
    Route::new(
        "/api/v1/admin/backup",
        POST,
        Tag::Admin,
        "Makes or renews a backup.",
        |m| on(m, admin::backup),
    )
    .takes(&[BACKUP_TO, READ_BACK, RATE, PROGRESS])
    .needs(ADMIN),
    Route::new(
        "/api/v1/admin/queries/{id}/kill",
        POST,
        Tag::Admin,
        "Ends a running query; without the flag only one of the caller's own.",
        |m| on(m, admin::kill_query),
    )
    .takes(&[QUERY_ID])
    .answers(Answer::Nothing)
    .needs(ADMIN),
    Route::new(
        "/api/v1/admin/tsdb/delete_series",
        POST_PUT,
        Tag::Admin,
        "Hides at once what the selectors find; compaction erases it.",
        |m| on(m, admin::delete_series),
    )
    .takes(&[MATCH_REQUIRED, FROM, UNTIL])
    .answers(Answer::Nothing)
    .needs(ADMIN),
    Route::new(
        "/api/v1/admin/tsdb/clean_tombstones",
        POST_PUT,
        Tag::Admin,
        "Erases what was deleted.",
        |m| on(m, admin::clean_tombstones),
    )
    .answers(Answer::Nothing)
    .needs(ADMIN),
    Route::new(
        "/api/v1/admin/tsdb/snapshot",
        POST_PUT,
        Tag::Admin,
        "Makes a store of its own, of hard links, below the data directory.",
        |m| on(m, admin::snapshot),
    )
    .takes(&[SKIP_HEAD])
    .needs(ADMIN),
    // Writing.
    Route::new(
        "/api/v1/write",
        POST,
        Tag::Ingest,
        "Remote write 1.0 and 2.0, compressed with snappy.",
        |m| on(m, remote_write::write),
    )
    .reads(&[
        "application/x-protobuf;proto=prometheus.WriteRequest",
        "application/x-protobuf;proto=io.prometheus.write.v2.Request",
    ])
    .answers(Answer::Nothing),
    Route::new(
        "/v1/metrics",
        POST,
        Tag::Ingest,
        "OpenTelemetry metrics (OTLP), also on the port of `otlp_http_listen`.",
        |m| on(m, otlp::signal::export_metrics),
    )
    .reads(OTLP)
    .answers(Answer::Body(OTLP)),
    Route::new(
        "/api/v1/otlp/v1/metrics",
        POST,
        Tag::Ingest,
        "OpenTelemetry metrics (OTLP), at Prometheus' path.",
        |m| on(m, otlp::signal::export_metrics),
    )
    .reads(OTLP)
    .answers(Answer::Body(OTLP)),
    Route::new(
        "/v1/logs",
        POST,
        Tag::Ingest,
        "OpenTelemetry logs (OTLP), also on the port of `otlp_http_listen`.",
        |m| on(m, otlp::signal::export_logs),
    )
    .reads(OTLP)
    .answers(Answer::Body(OTLP)),
    Route::new(
        "/otlp/v1/logs",
        POST,
        Tag::Ingest,
        "OpenTelemetry logs (OTLP), at Loki's path.",
        |m| on(m, otlp::signal::export_logs),
    )
    .reads(OTLP)
    .answers(Answer::Body(OTLP)),
    Route::new(
        "/insert/opentelemetry/v1/logs",
        POST,
        Tag::Ingest,
        "OpenTelemetry logs (OTLP), at VictoriaLogs' path.",
        |m| on(m, otlp::signal::export_logs),
    )
    .reads(OTLP)
    .answers(Answer::Body(OTLP)),
    Route::new(
        "/loki/api/v1/push",
        POST,
        Tag::Ingest,
        "Loki's push: snappy and protobuf, or JSON.",
        |m| on(m, loki::push),
    )
    .reads(OTLP)
    .answers(Answer::Nothing),
    Route::new(
        "/api/prom/push",
        POST,
        Tag::Ingest,
        "Loki's push under its older name.",
        |m| on(m, loki::push),
    )
    .reads(OTLP)
    .answers(Answer::Nothing),
    Route::new(
        "/insert/jsonline",
        POST,
        Tag::Ingest,
        "Log records as JSON objects, one a line.",
        |m| on(m, elastic::json_lines),
    )
    .takes(DOCUMENT_FIELDS)
    .reads(NDJSON)
    .answers(JSON),
    Route::new(
        "/_bulk",
        POST_PUT,
        Tag::Ingest,
        "Elasticsearch's bulk API: each document is a log record.",
        |m| on(m, elastic::elastic),
    )
    .takes(DOCUMENT_FIELDS)
    .reads(NDJSON)
    .answers(JSON),
    Route::new(
        "/{index}/_bulk",
        POST_PUT,
        Tag::Ingest,
        "Elasticsearch's bulk API with an index.",
        |m| on(m, elastic::elastic),
    )
    .takes(&[INDEX])
    .reads(NDJSON)
    .answers(JSON),
    Route::new(
        "/elastic",
        GET,
        Tag::Ingest,
        "What shippers for Elasticsearch ask first.",
        |m| on(m, elastic::elastic),
    )
    .answers(JSON),
    Route::new(
        "/elastic/",
        GET,
        Tag::Ingest,
        "The same with a slash.",
        |m| on(m, elastic::elastic),
    )
    .answers(JSON),
    Route::new(
        "/insert/elasticsearch/",
        GET,
        Tag::Ingest,
        "The same at VictoriaLogs' path.",
        |m| on(m, elastic::elastic),
    )
    .answers(JSON),
    Route::new(
        "/elastic/{*page}",
        &[Verb::Get, Verb::Post, Verb::Put],
        Tag::Ingest,
        "Elasticsearch's bulk API, and the pages that shippers ask for.",
        |m| on(m, elastic::elastic),
    )
    .takes(&[ELASTIC_PAGE])
    .reads(NDJSON)
    .answers(JSON),
    Route::new(
        "/insert/elasticsearch/{*page}",
        &[Verb::Get, Verb::Post, Verb::Put],
        Tag::Ingest,
        "The same at VictoriaLogs' path.",
        |m| on(m, elastic::elastic),
    )
    .takes(&[ELASTIC_PAGE])
    .reads(NDJSON)
    .answers(JSON),
    Route::new(
        "/zipkin/api/v2/spans",
        POST,
        Tag::Ingest,
        "Zipkin v2 spans.",
        |m| on(m, zipkin::spans),
    )
    .reads(ZIPKIN)
    .answers(TEXT),
    Route::new(
        "/api/v2/spans",
        POST,
        Tag::Ingest,
        "Zipkin v2 spans, at Zipkin's own path.",
        |m| on(m, zipkin::spans),
    )
    .reads(ZIPKIN)
    .answers(TEXT),
    Route::new(
        "/v1/traces",
        POST,
        Tag::Ingest,
        "OpenTelemetry traces (OTLP), also on the port of `otlp_http_listen`.",
        |m| on(m, otlp::signal::export_traces),
    )
    .reads(OTLP)
    .answers(Answer::Body(OTLP)),
    Route::new(
        "/insert/opentelemetry/v1/traces",
        POST,
        Tag::Ingest,
        "OpenTelemetry traces (OTLP), at VictoriaTraces' path.",
        |m| on(m, otlp::signal::export_traces),
    )
    .reads(OTLP)
    .answers(Answer::Body(OTLP)),
    Route::new(
        "/write",
        POST,
        Tag::Ingest,
        "Metrics in InfluxDB's line protocol, version 1.",
        |m| on(m, influx::write),
    )
    .takes(LINE_ARGUMENTS)
    .reads(TEXT_PLAIN)
    .answers(Answer::Nothing),
    Route::new(
        "/api/v2/write",
        POST,
        Tag::Ingest,
        "Metrics in InfluxDB's line protocol, version 2.",
        |m| on(m, influx::write),
    )
    .takes(LINE_ARGUMENTS)
    .reads(TEXT_PLAIN)
    .answers(Answer::Nothing),
    Route::new(
        "/influx/write",
        POST,
        Tag::Ingest,
        "As `/write`, for clients whose base is `/influx`.",
        |m| on(m, influx::write),
    )
    .takes(LINE_ARGUMENTS)
    .reads(TEXT_PLAIN)
    .answers(Answer::Nothing),
    Route::new(
        "/influx/api/v2/write",
        POST,
        Tag::Ingest,
        "As `/api/v2/write`, for clients whose base is `/influx`.",
        |m| on(m, influx::write),
    )
    .takes(LINE_ARGUMENTS)
    .reads(TEXT_PLAIN)
    .answers(Answer::Nothing),
    Route::new(
        "/ping",
        GET,
        Tag::Ingest,
        "Whether an InfluxDB is there: 204.",
        |m| on(m, influx::ping),
    )
    .takes(&[VERBOSE])
    .answers(Answer::Nothing),
    Route::new(
        "/influx/ping",
        GET,
        Tag::Ingest,
        "The same, for clients whose base is `/influx`.",
        |m| on(m, influx::ping),
    )
    .takes(&[VERBOSE])
    .answers(Answer::Nothing),
    Route::new(
        "/query",
        GET_POST,
        Tag::Ingest,
        "What InfluxDB's clients ask before they write.",
        |m| on(m, influx::query),
    )
    .takes(&[STATEMENT])
    .answers(JSON),
    Route::new(
        "/influx/query",
        GET_POST,
        Tag::Ingest,
        "The same, for clients whose base is `/influx`.",
        |m| on(m, influx::query),
    )
    .takes(&[STATEMENT])
    .answers(JSON),
    Route::new(
        "/influx/health",
        GET,
        Tag::Ingest,
        "As `/health`, for clients whose base is `/influx`.",
        |m| on(m, influx::influx_health),
    )
    .answers(JSON),
    Route::new(
        "/metrics/{*group}",
        &[Verb::Put, Verb::Post],
        Tag::Ingest,
        "Pushes metrics: PUT replaces the group, POST the metrics of the same names.",
        |m| on(m, pushgateway::push).layer(DefaultBodyLimit::max(pushgateway::PUSH_BYTES_MAX)),
    )
    .takes(&[GROUP])
    .reads(&["text/plain", "application/openmetrics-text"])
    .answers(TEXT),
    Route::new(
        "/metrics/{*group}",
        &[Verb::Delete],
        Tag::Ingest,
        "Removes a pushed group.",
        |m| on(m, pushgateway::delete),
    )
    .takes(&[GROUP])
    .answers(TEXT),
    // Raw reading.
    Route::new(
        "/api/v1/read",
        POST,
        Tag::Read,
        "Remote read: samples or streamed chunks, compressed with snappy.",
        |m| on(m, remote_read::read),
    )
    .reads(PROTOBUF)
    .answers(Answer::Body(&[
        "application/x-protobuf",
        "application/x-streamed-protobuf; proto=prometheus.ChunkedReadResponse",
    ])),
    Route::new(
        "/federate",
        GET,
        Tag::Read,
        "The last sample of each series, for another server to scrape.",
        |m| on(m, federate::federate),
    )
    .takes(&[MATCH_REQUIRED])
    .answers(EXPOSITION),
    // The server itself.
    Route::new(
        "/",
        GET,
        Tag::Server,
        "The query page for browsers, the version for everything else.",
        |m| on(m, page::index),
    )
    .answers(Answer::Body(&["application/json", "text/html"])),
    Route::new(
        "/ui/{file}",
        GET,
        Tag::Server,
        "Styles and scripts of the query page.",
        |m| on(m, page::file),
    )
    .takes(&[PAGE_FILE])
    .answers(Answer::Body(&["text/javascript", "text/css"])),
    Route::new("/version", GET, Tag::Server, "Version.", |m| {
        on(m, health::version)
    })
    .answers(JSON),
    Route::new("/metrics", GET, Tag::Server, "Own metrics.", |m| {
        on(m, health::metrics)
    })
    .answers(EXPOSITION),
    Route::new(
        "/health",
        GET,
        Tag::Server,
        "Whether the server takes requests.",
        |m| on(m, health::health),
    )
    .answers(JSON),
    Route::new(
        "/health/live",
        GET,
        Tag::Server,
        "The process answers.",
        |m| on(m, health::live),
    )
    .answers(TEXT),
    Route::new(
        "/health/ready",
        GET,
        Tag::Server,
        "The store is open and takes writes.",
        |m| on(m, health::ready),
    )
    .answers(TEXT),
    Route::new(
        "/-/healthy",
        GET,
        Tag::Server,
        "The process answers.",
        |m| on(m, health::live),
    )
    .answers(TEXT),
    Route::new(
        "/-/ready",
        GET,
        Tag::Server,
        "The store is open and takes writes.",
        |m| on(m, health::ready),
    )
    .answers(TEXT),
    Route::new(
        "/-/reload",
        POST_PUT,
        Tag::Server,
        "Reads the configuration file again; what only a start takes over is named.",
        |m| on(m, lifecycle::reload),
    )
    .answers(TEXT)
    .needs(LIFECYCLE),
    Route::new(
        "/-/quit",
        POST_PUT,
        Tag::Server,
        "Ends the server as SIGTERM does.",
        |m| on(m, lifecycle::quit),
    )
    .answers(TEXT)
    .needs(LIFECYCLE),
];
