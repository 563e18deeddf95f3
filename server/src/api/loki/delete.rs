//! `delete`: Loki's deletion of lines, done by the store's own.
//!
//! A request hides the lines at once and compaction erases them, so every request is `processed` as soon
//! as it was taken. Requests are kept as state documents of their tenant, so that they can be listed.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use chronolith_engine::RequestContext;
use chronolith_engine::model::{Signal, TimeRange};
use chronolith_query::logql::eval::{LogQlError, selector_matchers};
use chronolith_query::logql::parser::parse_log;
use http::StatusCode;
use serde_json::{Value, json};

use super::LokiError;
use super::listing::JSON;
use super::times::parse_time_ns;
use crate::api::admin;
use crate::api::params::Params;
use crate::error::{ApiError, ErrorType};
use crate::request::Caller;
use crate::state::AppState;
use crate::telemetry::now_ms;

/// Where requests are kept.
const COLLECTION: &str = "loki_delete_requests";
/// Requests that are kept per tenant; of more the oldest go.
const KEPT_MAX: usize = 1_000;

fn refused(message: impl Into<String>) -> LokiError {
    ApiError::bad_data(message).into()
}

fn range(params: &Params, now_ns: i64) -> Result<TimeRange, LokiError> {
    let Some(start) = params.get_filled("start") else {
        return Err(refused("start time not set"));
    };
    let start = parse_time_ns("start", start)?;
    let end = match params.get_filled("end") {
        Some(text) => parse_time_ns("end", text)?,
        None => now_ns,
    };
    if end > now_ns {
        return Err(refused("deletes in the future are not allowed"));
    }
    if start > end {
        return Err(refused("start time can't be greater than end time"));
    }
    Ok(TimeRange::new(start, end))
}

/// `POST|PUT /loki/api/v1/delete`
///
/// # Errors
/// As Loki's; 403 without the admin API; 400 for a query with filters of lines.
pub async fn request(
    State(state): State<AppState>,
    caller: Caller,
    params: Params,
) -> Result<Response, LokiError> {
    admin::enabled(&state)?;
    let query = params.get_filled("query").unwrap_or_default().to_owned();
    if query.is_empty() {
        return Err(refused("query not set"));
    }
    if !parse_log(&query)
        .map_err(LogQlError::from)?
        .stages
        .is_empty()
    {
        return Err(refused(
            "only whole streams can be deleted: a selector without line or label filters",
        ));
    }
    let matchers = selector_matchers(&query)?;
    let now_ms = now_ms();
    let range = range(&params, now_ms.saturating_mul(1_000_000))?;
    let context = state.write_context(&caller);
    let deleted = state.blocking(move |state| {
        let generation = state
            .store()
            .delete(&context, Signal::Logs, &matchers, range)?;
        // Numbers of generations never repeat.
        let id = format!("{:016x}", generation.0);
        let document = json!({
            "request_id": id,
            "start_time": range.start.0 / 1_000_000_000,
            "end_time": range.end.0 / 1_000_000_000,
            "query": query,
            "status": "processed",
            "created_at": now_ms / 1_000,
        });
        let text = document.to_string();
        state
            .store()
            .state_put(&context, COLLECTION, &id, None, text.as_bytes())?;
        forget_old(state, &context)
    });
    deleted.await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

fn forget_old(state: &AppState, context: &RequestContext) -> Result<(), ApiError> {
    let kept = state
        .store()
        .state_list(context, COLLECTION, "", usize::MAX)?;
    let more = kept.len().saturating_sub(KEPT_MAX);
    // Keys grow with time.
    for document in kept.iter().take(more) {
        state
            .store()
            .state_delete(context, COLLECTION, &document.key, None)?;
    }
    Ok(())
}

/// `GET /loki/api/v1/delete`: the requests, the oldest first.
///
/// # Errors
/// As Loki's; 403 without the admin API.
pub async fn list(State(state): State<AppState>, caller: Caller) -> Result<Response, LokiError> {
    admin::enabled(&state)?;
    let context = state.write_context(&caller);
    let listed = state.blocking(move |state| {
        let kept = state
            .store()
            .state_list(&context, COLLECTION, "", usize::MAX)?;
        let read = |bytes: &[u8]| serde_json::from_slice::<Value>(bytes).ok();
        let requests: Vec<Value> = kept.iter().filter_map(|d| read(&d.value)).collect();
        Ok(Value::from(requests).to_string())
    });
    Ok((JSON, listed.await?).into_response())
}

/// `DELETE /loki/api/v1/delete?request_id=…`: what is processed cannot be taken back.
///
/// # Errors
/// Always: 404 for a request that is not known, else 400; 403 without the admin API.
pub async fn cancel(
    State(state): State<AppState>,
    caller: Caller,
    params: Params,
) -> Result<Response, LokiError> {
    admin::enabled(&state)?;
    let id = params
        .get_filled("request_id")
        .unwrap_or_default()
        .to_owned();
    let context = state.write_context(&caller);
    let found = state
        .blocking(move |state| Ok(state.store().state_get(&context, COLLECTION, &id)?))
        .await?;
    Err(match found {
        Some(_) => {
            refused("deletion of request which is in process or already processed is not allowed")
        }
        None => ApiError::new(
            ErrorType::NotFound,
            "could not find delete request with given id",
        )
        .into(),
    })
}
