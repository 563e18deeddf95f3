//! InfluxDB's line protocol for metrics: `/write` of version 1, `/api/v2/write` of version 2, and what
//! their clients ask before they write (`/ping`, `/query` with `CREATE DATABASE`, `/health`).
//!
//! A request's good lines are stored as one commit, whatever is wrong with others; those are answered
//! with 400 and their numbers, as InfluxDB's partial write. All paths also stand below `/influx`, so
//! that it can be a client's base address.

mod append;
pub mod line;
mod number;

pub use append::{LineCounts, WriteOptions, prepare};

use std::sync::atomic::Ordering;
use std::time::Instant;

use axum::body::Body;
use axum::extract::{RawQuery, State};
use axum::response::{IntoResponse, Response};
use chronolith_engine::model::TimestampNs;
use chronolith_engine::{EngineError, RequestContext};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri, header};
use serde_json::{Value, json};
use tokio::sync::oneshot;

use crate::api::health::health;
use crate::api::params::Params;
use crate::error::{ApiError, ErrorType, RETRY_AFTER_SECONDS};
use crate::otlp::decompress::Compression;
use crate::otlp::envelope::{Decoded, read_decompressed};
use crate::request::Caller;
use crate::state::AppState;
use crate::telemetry::now_ms;

/// The version that clients believe to speak to: the last of those that answer both APIs.
const INFLUX_VERSION: HeaderValue = HeaderValue::from_static("1.8.10");
/// Bytes that a sample takes between decoding and commit.
const SAMPLE_BYTES: usize = 24;
/// Nanoseconds of a millisecond.
const MS: i64 = 1_000_000;

/// `POST /write`, `POST /api/v2/write`: 204 when all lines are stored.
pub async fn write(
    State(state): State<AppState>,
    caller: Result<Caller, ApiError>,
    uri: Uri,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let api = Api::of(&uri);
    let counts = match store(&state, caller, query.as_deref(), &headers, body).await {
        Ok(counts) => counts,
        Err(error) => {
            if error.kind == ErrorType::Internal {
                tracing::error!(%error, "cannot store lines");
            }
            return api.error(error.kind, &error.message, None);
        }
    };
    if counts.refused == 0 {
        return versioned(StatusCode::NO_CONTENT.into_response());
    }
    api.error(
        ErrorType::BadData,
        &partial_write(&counts),
        counts.first_refused,
    )
}

/// What of a request was refused, as InfluxDB words it. Clients look for `partial write`.
fn partial_write(counts: &LineCounts) -> String {
    let stored_something = counts.refused < counts.lines || counts.samples > 0;
    let kind = if stored_something {
        "partial write: "
    } else {
        ""
    };
    let mut message = format!("{kind}{}", counts.words.join("; "));
    let untold = counts.refused - counts.words.len() as u64;
    if untold > 0 {
        message.push_str(&format!("; and {untold} more"));
    }
    message.push_str(&format!(" dropped={}", counts.refused));
    message
}

/// Which form an answer has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Api {
    V1,
    V2,
}

impl Api {
    fn of(uri: &Uri) -> Self {
        match uri.path().contains("/api/v2/") {
            true => Self::V2,
            false => Self::V1,
        }
    }

    fn error(self, kind: ErrorType, message: &str, line: Option<u64>) -> Response {
        let body = match self {
            Self::V1 => json!({ "error": message }),
            Self::V2 => {
                let mut body = json!({"code": code(kind), "message": message});
                if let (Value::Object(members), Some(line)) = (&mut body, line) {
                    members.insert("line".into(), line.into());
                }
                body
            }
        };
        let mut response = (kind.status(), body.to_string()).into_response();
        let headers = response.headers_mut();
        let json = HeaderValue::from_static("application/json");
        headers.insert(header::CONTENT_TYPE, json);
        // Version 1 repeats the words here, where only some characters may stand.
        let words: String = message
            .chars()
            .map(|c| if (' '..='~').contains(&c) { c } else { '?' })
            .collect();
        if let Ok(words) = HeaderValue::from_str(&words) {
            headers.insert(HeaderName::from_static("x-influxdb-error"), words);
        }
        if matches!(kind, ErrorType::TooMany | ErrorType::Unavailable) {
            let seconds = HeaderValue::from(RETRY_AFTER_SECONDS);
            headers.insert(header::RETRY_AFTER, seconds);
        }
        versioned(response)
    }
}

/// Version 2's word for an error.
fn code(kind: ErrorType) -> &'static str {
    match kind {
        ErrorType::TooMany => "too many requests",
        ErrorType::TooLarge => "request too large",
        ErrorType::Unavailable | ErrorType::Timeout => "unavailable",
        ErrorType::UnsupportedMedia => "unsupported media type",
        ErrorType::Forbidden => "forbidden",
        ErrorType::NotFound => "not found",
        ErrorType::MethodNotAllowed => "method not allowed",
        ErrorType::Internal => "internal error",
        ErrorType::BadData | ErrorType::Execution | ErrorType::Canceled => "invalid",
    }
}

/// Clients read from the headers whom they speak to.
fn versioned(mut response: Response) -> Response {
    let headers = response.headers_mut();
    let name = HeaderName::from_static("x-influxdb-version");
    headers.insert(name, INFLUX_VERSION);
    let build = HeaderValue::from_static("chronolith");
    headers.insert(HeaderName::from_static("x-influxdb-build"), build);
    response
}

/// The arguments of a write. Those that name users, organisations and retention policies say nothing
/// here: credentials stand in headers, the tenant in `X-Scope-OrgID`.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Arguments {
    database: String,
    unit_ns: i64,
}

impl Arguments {
    fn of(query: Option<&str>) -> Result<Self, ApiError> {
        let query = Params::parse(query.unwrap_or(""))?;
        let database = query.get_filled("db").or(query.get_filled("bucket"));
        Ok(Self {
            database: database.unwrap_or("").to_owned(),
            unit_ns: unit_of(query.get("precision").unwrap_or(""))?,
        })
    }
}

/// Nanoseconds of a precision, by the names of both versions.
fn unit_of(precision: &str) -> Result<i64, ApiError> {
    Ok(match precision {
        "" | "n" | "ns" => 1,
        "u" | "us" | "µ" | "µs" => 1_000,
        "ms" => MS,
        "s" => 1_000 * MS,
        "m" => 60_000 * MS,
        "h" => 3_600_000 * MS,
        other => {
            return Err(ApiError::bad_data(format!(
                "invalid precision {other:?} (use n, u, ms, s, m or h)"
            )));
        }
    })
}

/// Reads, decodes and commits.
async fn store(
    state: &AppState,
    caller: Result<Caller, ApiError>,
    query: Option<&str>,
    headers: &HeaderMap,
    body: Body,
) -> Result<LineCounts, ApiError> {
    let caller = caller?;
    let arguments = Arguments::of(query)?;
    let encoding = headers.get(header::CONTENT_ENCODING);
    let encoding = encoding.map_or("", |v| v.to_str().unwrap_or("?"));
    let compression = Compression::from_header(encoding).ok_or_else(|| {
        let words = format!("unsupported compression {encoding:?}");
        ApiError::new(ErrorType::UnsupportedMedia, words)
    })?;
    let settings = state.settings();
    let bytes_max = settings.write_body_max.as_usize();
    let timeout = settings.body_timeout;
    let body = read_decompressed(state, headers, body, compression, bytes_max, timeout).await?;
    state.refuse_while_stopping()?;
    let metrics = state.metrics();
    let sizes = [
        (&metrics.ingest_received_bytes, body.received_bytes),
        (&metrics.ingest_decoded_bytes, body.message().len()),
    ];
    for (counter, bytes) in sizes {
        counter.fetch_add(bytes as u64, Ordering::Relaxed);
    }
    // Each sample has its `=`, so there are no more than these; most of the others are tags.
    let samples_max = memchr::memchr_iter(b'=', body.message()).count();
    let _samples_budget = state.write_budget(samples_max * SAMPLE_BYTES).await?;
    let (context, _cancel) = state.context(caller.tenant, caller.principal.as_ref(), timeout);
    let began = Instant::now();
    let (done, committed) = oneshot::channel();
    let counts = state
        .blocking(move |state| submit(state, &context, &body, &arguments, done))
        .await?;
    committed
        .await
        .map_err(|_| ApiError::internal("the store dropped a commit"))??;
    metrics.commit_duration.observe(began.elapsed());
    let figures = [
        (&metrics.ingest_samples, counts.samples),
        (&metrics.ingest_series_over_limit, counts.series_over_limit),
        (&metrics.influx_lines, counts.lines - counts.refused),
        (&metrics.influx_lines_refused, counts.refused),
        (&metrics.influx_strings, counts.strings),
    ];
    for (counter, more) in figures {
        counter.fetch_add(more, Ordering::Relaxed);
    }
    Ok(counts)
}

type Done = oneshot::Sender<Result<(), EngineError>>;

fn submit(
    state: &AppState,
    context: &RequestContext,
    body: &Decoded,
    arguments: &Arguments,
    done: Done,
) -> Result<LineCounts, ApiError> {
    let now_ms = now_ms();
    let future = state.settings().write_future_max.as_millis();
    let latest_ms = now_ms.saturating_add(i64::try_from(future).unwrap_or(i64::MAX));
    let options = WriteOptions {
        database: &arguments.database,
        unit_ns: arguments.unit_ns,
        now: TimestampNs(now_ms.saturating_mul(MS)),
        latest: TimestampNs(latest_ms.saturating_mul(MS)),
    };
    let (append, counts) = prepare(state.store(), context, body.message(), &options)?;
    if append.rows() == 0 {
        // Nothing to sync.
        let _ = done.send(Ok(()));
        return Ok(counts);
    }
    append.submit(move |result| {
        // The receiver is gone when the client is; what is stored stays stored.
        let _ = done.send(result.map(|_| ()));
    });
    Ok(counts)
}

/// `GET /ping`: 204, or with `verbose` 200 and the version.
pub async fn ping(RawQuery(query): RawQuery) -> Response {
    let query = Params::parse(query.as_deref().unwrap_or("")).unwrap_or_default();
    let verbose = query.get_filled("verbose");
    let verbose = verbose.is_some_and(|value| !matches!(value, "0" | "false"));
    if !verbose {
        return versioned(StatusCode::NO_CONTENT.into_response());
    }
    let body = json!({"version": INFLUX_VERSION.to_str().unwrap_or_default()});
    versioned(json_answer(StatusCode::OK, &body))
}

/// `GET /influx/health`: the server's health at the path where clients with that base ask for it.
pub async fn influx_health(state: State<AppState>) -> Response {
    versioned(health(state).await)
}

/// `GET|POST /query`: what clients ask before they write. There is no InfluxQL here: databases need not
/// be made, and none is listed.
pub async fn query(params: Result<Params, ApiError>) -> Response {
    let params = match params {
        Ok(params) => params,
        Err(error) => return Api::V1.error(error.kind, &error.message, None),
    };
    let statement = params.get("q").unwrap_or("").to_ascii_uppercase();
    let words: Vec<&str> = statement.split_ascii_whitespace().take(2).collect();
    let result = match words.as_slice() {
        ["CREATE", "DATABASE"] => json!({"statement_id": 0}),
        ["SHOW", "DATABASES"] => json!({"statement_id": 0, "series": [
            {"name": "databases", "columns": ["name"], "values": []}
        ]}),
        _ => {
            let words = "InfluxQL is not answered here: ask with PromQL (/api/v1/query) or SQL (/api/v1/sql)";
            return Api::V1.error(ErrorType::BadData, words, None);
        }
    };
    versioned(json_answer(StatusCode::OK, &json!({ "results": [result] })))
}

fn json_answer(status: StatusCode, body: &Value) -> Response {
    let json = HeaderValue::from_static("application/json");
    let mut response = (status, body.to_string()).into_response();
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_of_both_versions_are_read() {
        let of = |query| Arguments::of(query).map(|a| (a.database, a.unit_ns));
        assert_eq!(of(None).unwrap(), (String::new(), 1));
        let v1 = of(Some("db=my%20db&rp=a&u=x&p=y&precision=s")).unwrap();
        assert_eq!(v1, ("my db".into(), 1_000_000_000));
        let v2 = of(Some("org=o&bucket=b%2Fautogen&precision=us")).unwrap();
        assert_eq!(v2, ("b/autogen".into(), 1_000));
        let error = of(Some("precision=days")).unwrap_err();
        assert!(error.message.contains("\"days\""), "{error}");
    }

    #[test]
    fn a_partial_write_says_so() {
        let mut counts = LineCounts {
            lines: 3,
            refused: 2,
            samples: 1,
            words: vec!["line 1: a".into()],
            ..LineCounts::default()
        };
        let text = "partial write: line 1: a; and 1 more dropped=2";
        assert_eq!(partial_write(&counts), text);
        counts = LineCounts {
            lines: 2,
            samples: 0,
            ..counts
        };
        assert!(partial_write(&counts).starts_with("line 1: a"));
    }
}
