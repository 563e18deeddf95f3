//! Routes of Loki's query API.

use axum::routing::on;

use super::parameters::*;
use super::{Answer, Route, Tag, Verb};
use crate::api::{admin, loki, rules};

const GET_POST: &[Verb] = &[Verb::Get, Verb::Post];
const GET: &[Verb] = &[Verb::Get];
const POST: &[Verb] = &[Verb::Post];
const POST_PUT: &[Verb] = &[Verb::Post, Verb::Put];
const DELETE: &[Verb] = &[Verb::Delete];
const JSON: Answer = Answer::Body(&["application/json"]);
const TEXT: Answer = Answer::Body(&["text/plain"]);
const ADMIN: &str = "--enable-admin-api";

/// What Grafana's Loki data source asks.
pub static ROUTES: &[Route] = &[
    Route::new(
        "/loki/api/v1/query",
        GET_POST,
        Tag::Query,
        "Evaluates LogQL at one time.",
        |m| on(m, loki::instant),
    )
    .takes(&[LOGQL, LOKI_TIME, LINES, DIRECTION, TIMEOUT])
    .answers(JSON),
    Route::new(
        "/loki/api/v1/query_range",
        GET_POST,
        Tag::Query,
        "Lines of a range, or a LogQL metric at every step of it.",
        |m| on(m, loki::range),
    )
    .takes(&[
        LOGQL, LOKI_START, LOKI_END, SINCE, LOKI_STEP, INTERVAL, LINES, DIRECTION, TIMEOUT,
    ])
    .answers(JSON),
    Route::new(
        "/loki/api/v1/format_query",
        GET_POST,
        Tag::Query,
        "A LogQL expression as people read it.",
        |m| on(m, loki::format_query),
    )
    .takes(&[LOGQL])
    .answers(JSON),
    Route::new(
        "/loki/api/v1/labels",
        GET_POST,
        Tag::Metadata,
        "Label names of log streams, sorted.",
        |m| on(m, loki::label_names),
    )
    .takes(&[STREAMS, LOKI_START, LOKI_END, SINCE])
    .answers(JSON),
    Route::new(
        "/loki/api/v1/label/{name}/values",
        GET_POST,
        Tag::Metadata,
        "Values of a label of log streams, sorted.",
        |m| on(m, loki::label_values),
    )
    .takes(&[LABEL_NAME, STREAMS, LOKI_START, LOKI_END, SINCE])
    .answers(JSON),
    Route::new(
        "/loki/api/v1/series",
        GET_POST,
        Tag::Metadata,
        "Label sets of the log streams that pass a selector.",
        |m| on(m, loki::series),
    )
    .takes(&[MATCH, LOKI_START, LOKI_END, SINCE])
    .answers(JSON),
    Route::new(
        "/loki/api/v1/index/stats",
        GET_POST,
        Tag::Metadata,
        "How many streams, chunks, lines and bytes a selector finds.",
        |m| on(m, loki::index_stats),
    )
    .takes(&[STREAMS, LOKI_START, LOKI_END, SINCE])
    .answers(JSON),
    Route::new(
        "/loki/api/v1/index/volume",
        GET_POST,
        Tag::Metadata,
        "Bytes of lines by labels.",
        |m| on(m, loki::index_volume),
    )
    .takes(&[
        STREAMS,
        TARGET_LABELS,
        AGGREGATE_BY,
        VOLUMES,
        LOKI_START,
        LOKI_END,
        SINCE,
    ])
    .answers(JSON),
    Route::new(
        "/loki/api/v1/index/volume_range",
        GET_POST,
        Tag::Metadata,
        "Bytes of lines by labels, per step.",
        |m| on(m, loki::index_volume_range),
    )
    .takes(&[
        STREAMS,
        TARGET_LABELS,
        AGGREGATE_BY,
        VOLUMES,
        LOKI_STEP,
        LOKI_START,
        LOKI_END,
        SINCE,
    ])
    .answers(JSON),
    Route::new(
        "/loki/api/v1/index/shards",
        GET_POST,
        Tag::Metadata,
        "How a query would be divided: one shard.",
        |m| on(m, loki::index_shards),
    )
    .takes(&[STREAMS, LOKI_START, LOKI_END, SINCE])
    .answers(JSON),
    Route::new(
        "/loki/api/v1/detected_labels",
        GET_POST,
        Tag::Metadata,
        "Labels worth looking around by, with the numbers of their values.",
        |m| on(m, loki::detected_labels),
    )
    .takes(&[STREAMS, LOKI_START, LOKI_END, SINCE])
    .answers(JSON),
    Route::new(
        "/loki/api/v1/detected_fields",
        GET_POST,
        Tag::Metadata,
        "Fields of lines, with their types and how to get at them.",
        |m| on(m, loki::detected_fields),
    )
    .takes(&[
        LOG_SELECTOR,
        FIELD_LINES,
        FIELDS,
        LOKI_START,
        LOKI_END,
        SINCE,
    ])
    .answers(JSON),
    Route::new(
        "/loki/api/v1/detected_field/{name}/values",
        GET_POST,
        Tag::Metadata,
        "Values of a field of lines.",
        |m| on(m, loki::detected_field_values),
    )
    .takes(&[
        FIELD_NAME,
        LOG_SELECTOR,
        FIELD_LINES,
        FIELDS,
        LOKI_START,
        LOKI_END,
        SINCE,
    ])
    .answers(JSON),
    Route::new(
        "/loki/api/v1/patterns",
        GET_POST,
        Tag::Metadata,
        "What lines look like, and how many of each came when.",
        |m| on(m, loki::log_patterns),
    )
    .takes(&[LOG_SELECTOR, PATTERN_STEP, LOKI_START, LOKI_END, SINCE])
    .answers(JSON),
    Route::new(
        "/loki/api/v1/tail",
        GET,
        Tag::Query,
        "Lines as they are stored, over a websocket.",
        |m| on(m, loki::tail),
    )
    .takes(&[LOGQL_LINES, DELAY_FOR, LINES, LOKI_START])
    .answers(Answer::WebSocket),
    Route::new(
        "/loki/api/v1/delete",
        POST_PUT,
        Tag::Admin,
        "Deletes lines of whole streams in a range.",
        |m| on(m, loki::delete_request),
    )
    .takes(&[LOG_SELECTOR, DELETE_START, LOKI_END])
    .answers(Answer::Nothing)
    .needs(ADMIN),
    Route::new(
        "/loki/api/v1/delete",
        GET,
        Tag::Admin,
        "Requests of deletion.",
        |m| on(m, loki::delete_list),
    )
    .answers(JSON)
    .needs(ADMIN),
    Route::new(
        "/loki/api/v1/delete",
        DELETE,
        Tag::Admin,
        "Takes a request of deletion back: never, since all are done at once.",
        |m| on(m, loki::delete_cancel),
    )
    .takes(&[REQUEST_ID])
    .answers(Answer::Nothing)
    .needs(ADMIN),
    Route::new(
        "/loki/api/v1/status/buildinfo",
        GET,
        Tag::Status,
        "Version of the server, as Loki tells its own.",
        |m| on(m, loki::build_info),
    )
    .answers(JSON),
    Route::new(
        "/loki/api/v1/drilldown-limits",
        GET,
        Tag::Status,
        "What Logs Drilldown may ask for.",
        |m| on(m, loki::drilldown_limits),
    )
    .answers(JSON),
    Route::new(
        "/loki/api/v1/rules",
        GET,
        Tag::Rules,
        "Rule groups as Loki's ruler has them: none.",
        |m| on(m, loki::rules),
    )
    .answers(TEXT),
    Route::new(
        "/prometheus/api/v1/rules",
        GET,
        Tag::Rules,
        "Rules, at the path of Loki's ruler.",
        |m| on(m, rules::rules),
    ),
    Route::new(
        "/prometheus/api/v1/alerts",
        GET,
        Tag::Rules,
        "Alerts, at the path of Loki's ruler.",
        |m| on(m, rules::alerts),
    ),
    Route::new(
        "/ready",
        GET,
        Tag::Server,
        "Whether requests are taken, in Loki's words.",
        |m| on(m, loki::ready),
    )
    .answers(TEXT),
    Route::new(
        "/services",
        GET,
        Tag::Server,
        "What runs, as Loki lists it.",
        |m| on(m, loki::services),
    )
    .answers(TEXT),
    Route::new("/config", GET, Tag::Status, "The settings as YAML.", |m| {
        on(m, loki::config)
    })
    .answers(Answer::Body(&["text/yaml"])),
    Route::new(
        "/flush",
        POST,
        Tag::Admin,
        "Seals the head and syncs everything.",
        |m| on(m, admin::flush),
    )
    .answers(Answer::Nothing)
    .needs(ADMIN),
    Route::new(
        "/api/prom/query",
        GET_POST,
        Tag::Query,
        "Lines of a range, in Loki's older shape.",
        |m| on(m, loki::older::query),
    )
    .takes(&[
        LOGQL_LINES,
        LOKI_START,
        LOKI_END,
        SINCE,
        LINES,
        DIRECTION,
        TIMEOUT,
    ])
    .answers(JSON),
    Route::new(
        "/api/prom/label",
        GET_POST,
        Tag::Metadata,
        "Label names of log streams, in Loki's older shape.",
        |m| on(m, loki::older::label_names),
    )
    .takes(&[STREAMS, LOKI_START, LOKI_END, SINCE])
    .answers(JSON),
    Route::new(
        "/api/prom/label/{name}/values",
        GET_POST,
        Tag::Metadata,
        "Values of a label of log streams, in Loki's older shape.",
        |m| on(m, loki::older::label_values),
    )
    .takes(&[LABEL_NAME, STREAMS, LOKI_START, LOKI_END, SINCE])
    .answers(JSON),
    Route::new(
        "/api/prom/series",
        GET_POST,
        Tag::Metadata,
        "Label sets of log streams, under the older name.",
        |m| on(m, loki::series),
    )
    .takes(&[MATCH, LOKI_START, LOKI_END, SINCE])
    .answers(JSON),
    Route::new(
        "/api/prom/tail",
        GET,
        Tag::Query,
        "Lines as they are stored, in Loki's older shape.",
        |m| on(m, loki::older_tail),
    )
    .takes(&[LOGQL_LINES, DELAY_FOR, LINES, LOKI_START])
    .answers(Answer::WebSocket),
];
