//! `query`, `query_range`, `format_query`.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use chronolith_query::logql::eval::{Direction, QueryParams};
use chronolith_query::logql::parser;
use chronolith_query::logql::pretty::pretty;
use http::{HeaderMap, header};

use super::times::{default_step_ns, duration_ns, parse_time_ns, range_ns};
use super::{LokiError, wire};
use crate::active::ActiveQuery;
use crate::api::params::Params;
use crate::error::ApiError;
use crate::request::Caller;
use crate::state::AppState;
use crate::telemetry::now_ms;

/// Lines of an answer unless the client says.
const LIMIT_DEFAULT: usize = 100;
/// The header by which Grafana asks for labels in groups.
const ENCODING_FLAGS: &str = "x-loki-response-encoding-flags";

/// `GET|POST /loki/api/v1/query`
///
/// # Errors
/// As Loki's.
pub async fn instant(
    State(state): State<AppState>,
    caller: Caller,
    headers: HeaderMap,
    params: Params,
) -> Result<Response, LokiError> {
    let time_ns = match params.get_filled("time") {
        Some(text) => parse_time_ns("time", text)?,
        None => now_ms().saturating_mul(1_000_000),
    };
    let wanted = QueryParams {
        limit: limit(&params)?,
        direction: direction(&params)?,
        ..QueryParams::instant(time_ns)
    };
    run(state, caller, &headers, &params, wanted).await
}

/// `GET|POST /loki/api/v1/query_range`
///
/// # Errors
/// As Loki's.
pub async fn range(
    State(state): State<AppState>,
    caller: Caller,
    headers: HeaderMap,
    params: Params,
) -> Result<Response, LokiError> {
    let (start, end) = range_ns(&params)?;
    let step = match params.get_filled("step") {
        Some(text) => duration_ns("step", text)?,
        None => default_step_ns(start, end),
    };
    let interval_ns = match params.get_filled("interval") {
        Some(text) => duration_ns("interval", text)?,
        None => 0,
    };
    let wanted = QueryParams {
        limit: limit(&params)?,
        direction: direction(&params)?,
        interval_ns,
        ..QueryParams::range(start, end, step)
    };
    run(state, caller, &headers, &params, wanted).await
}

pub(super) fn limit(params: &Params) -> Result<usize, ApiError> {
    match params.get_filled("limit") {
        None => Ok(LIMIT_DEFAULT),
        Some(text) => match text.parse() {
            Ok(0) | Err(_) => Err(ApiError::bad_data("limit must be a positive value")),
            Ok(limit) => Ok(limit),
        },
    }
}

pub(super) fn direction(params: &Params) -> Result<Direction, ApiError> {
    match params.get_filled("direction") {
        None => Ok(Direction::Backward),
        Some(text) if text.eq_ignore_ascii_case("backward") => Ok(Direction::Backward),
        Some(text) if text.eq_ignore_ascii_case("forward") => Ok(Direction::Forward),
        Some(text) => Err(ApiError::bad_data(format!(
            "invalid direction '{text}': expected forward or backward"
        ))),
    }
}

async fn run(
    state: AppState,
    caller: Caller,
    headers: &HeaderMap,
    params: &Params,
    wanted: QueryParams,
) -> Result<Response, LokiError> {
    let text = params.get("query").unwrap_or("");
    let engine = state.logql().clone();
    let query = engine.parse(text)?;
    let timeout = params.timeout(state.settings().query_timeout)?;
    let begun = ActiveQuery::begin(&state, &caller, ("logql", text), timeout).await;
    let (mut active, context) = begun?;
    let categorized = is_categorized(headers);
    match engine.query(&context, &query, wanted).await {
        Ok(result) => {
            let answer = wire::answer(&result, categorized);
            let body = active.whole(answer);
            Ok((
                [(header::CONTENT_TYPE, "application/json; charset=UTF-8")],
                body,
            )
                .into_response())
        }
        Err(error) => {
            active.fail(&error);
            Err(error.into())
        }
    }
}

/// Whether labels are wanted by where they come from.
pub(super) fn is_categorized(headers: &HeaderMap) -> bool {
    let flags = headers.get(ENCODING_FLAGS).and_then(|f| f.to_str().ok());
    flags.is_some_and(|flags| {
        let mut flags = flags.split(',');
        flags.any(|flag| flag.trim() == "categorize-labels")
    })
}

/// `GET|POST /loki/api/v1/format_query`
///
/// # Errors
/// Text that is no query.
pub async fn format_query(params: Params) -> Result<Response, LokiError> {
    let text = params.get("query").unwrap_or("");
    let parsed = parser::parse(text).map_err(chronolith_query::logql::eval::LogQlError::from)?;
    let mut body = String::from("{\"status\":\"success\",\"data\":");
    crate::wire::json::push_string(&mut body, &pretty(&parsed));
    body.push('}');
    Ok((
        [(header::CONTENT_TYPE, "application/json; charset=UTF-8")],
        body,
    )
        .into_response())
}
