//! Tempo's query API under `/tempo`: what Grafana's Tempo data source asks.
//!
//! Errors are plain text. JSON is protobuf's canonical form, as Tempo writes it: 64-bit numbers as text,
//! ids of a trace's spans in base64, enums by name; traces also as protobuf, if `Accept` asks for it.

mod metrics;
mod search;
mod tags;
mod trace;

pub use metrics::{Shape, instant, metrics_text, range};
pub use search::{search, search_text};
pub use tags::{scoped_tags, scoped_values, tags, values};
pub use trace::{trace, trace_v2};

use axum::response::{IntoResponse, Response};
use chronolith_engine::model::{TimeRange, TimestampNs};
use chronolith_query::traceql::ast::Value;
use chronolith_query::traceql::display::{GoDuration, kind_word, status_word};
use http::header;
use std::fmt::Write as _;

use super::loki::times::parse_time_ns;
use super::traces::{Asked, JSON};
use crate::api::params::Params;
use crate::error::ApiError;
use crate::request::Caller;
use crate::state::AppState;
use crate::wire::json::push_string;

/// An error as Tempo answers it: text.
pub struct TempoError(ApiError);

impl From<ApiError> for TempoError {
    fn from(error: ApiError) -> Self {
        Self(error)
    }
}

impl IntoResponse for TempoError {
    fn into_response(self) -> Response {
        self.0.into_text()
    }
}

type Answer = Result<Response, TempoError>;
/// Who asks, and with what; refusals get the form of the API.
type Extracted<T> = Result<T, ApiError>;

fn asked(state: AppState, caller: Caller, params: &Params, path: &str) -> Asked {
    Asked::new(state, caller, "traceql", params.shown_after(path))
}

/// `start` and `end`: seconds, nanoseconds or RFC 3339; all time where they are missing.
fn time_range(params: &Params) -> Result<TimeRange, ApiError> {
    let time = |name: &str| {
        let text = params.get_filled(name).filter(|text| *text != "0");
        text.map(|text| parse_time_ns(name, text)).transpose()
    };
    let start = time("start")?.unwrap_or(i64::MIN);
    let end = time("end")?.unwrap_or(i64::MAX);
    if end < start {
        return Err(ApiError::bad_data(format!(
            "http parameter start must be before end: {start} to {end} ns"
        )));
    }
    Ok(TimeRange {
        start: TimestampNs(start),
        end: TimestampNs(end),
    })
}

/// A whole number, at most `max`; `default` if it is missing.
fn count(params: &Params, name: &str, default: usize, max: usize) -> Result<usize, ApiError> {
    let Some(text) = params.get_filled(name) else {
        return Ok(default);
    };
    match text.parse() {
        Ok(count) if count <= max => Ok(count),
        _ => {
            let text: String = text.chars().take(100).collect();
            Err(ApiError::bad_data(format!(
                "invalid {name}: {text:?} is no whole number up to {max}"
            )))
        }
    }
}

/// Appends a value as OpenTelemetry's `AnyValue`.
fn push_any_value(out: &mut String, value: &Value) {
    let text = |out: &mut String, text: &str| {
        out.push_str("{\"stringValue\":");
        push_string(out, text);
        out.push('}');
    };
    match value {
        Value::Nil => text(out, "nil"),
        Value::String(words) => text(out, words),
        Value::Int(number) => {
            let _ = write!(out, "{{\"intValue\":\"{number}\"}}");
        }
        Value::Float(number) if number.is_finite() => {
            let _ = write!(out, "{{\"doubleValue\":{number}}}");
        }
        Value::Float(number) => text(out, &number.to_string()),
        Value::Bool(truth) => {
            let _ = write!(out, "{{\"boolValue\":{truth}}}");
        }
        Value::Duration(_) | Value::Status(_) | Value::Kind(_) => text(out, &plain(value)),
    }
}

/// A value as plain text.
fn plain(value: &Value) -> String {
    match value {
        Value::Nil => String::new(),
        Value::String(text) => text.clone(),
        Value::Int(number) => number.to_string(),
        Value::Float(number) => number.to_string(),
        Value::Bool(truth) => truth.to_string(),
        Value::Duration(ns) => GoDuration(*ns).to_string(),
        Value::Status(status) => status_word(*status).to_owned(),
        Value::Kind(kind) => kind_word(*kind).to_owned(),
    }
}

/// Appends `[{"key":…,"value":…},…]`.
fn push_attributes(out: &mut String, attributes: &[(String, Value)]) {
    crate::wire::json::push_array(out, attributes, |out, (key, value)| {
        out.push_str("{\"key\":");
        push_string(out, key);
        out.push_str(",\"value\":");
        push_any_value(out, value);
        out.push('}');
    });
}

fn json(body: String) -> Response {
    ([(header::CONTENT_TYPE, JSON)], body).into_response()
}

/// `GET /tempo/api/echo`: whether anybody is there.
pub async fn echo() -> &'static str {
    "echo"
}

/// `GET /tempo/api/status/buildinfo`: what this is.
pub async fn build_info() -> Response {
    json(
        serde_json::json!({
            "version": crate::VERSION,
            "revision": option_env!("CHRONOLITH_REVISION").unwrap_or(""),
            "branch": "",
            "buildUser": "",
            "buildDate": "",
            "goVersion": "",
            "application": "chronolith",
        })
        .to_string(),
    )
}

/// `GET /tempo/api/overrides`: limits of the tenant that it has set itself; there are none.
pub async fn overrides() -> Response {
    json("{}".to_owned())
}
