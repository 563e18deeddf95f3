//! The Pushgateway API: `PUT`, `POST` and `DELETE` on `/metrics/job/…`.

use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, Method, StatusCode, header};

use crate::error::ApiError;
use crate::request::Caller;
use crate::scrape::exposition::Dialect;
use crate::scrape::pushgateway::{PushError, PushMode};
use crate::state::AppState;

/// Bytes that a push may have.
pub const PUSH_BYTES_MAX: usize = 16 << 20;

/// `PUT|POST /metrics/job/<job>{/<label>/<value>}`: 200 with an empty body.
pub async fn push(
    State(state): State<AppState>,
    caller: Caller,
    Path(path): Path<String>,
    method: Method,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let content_type = headers
        .get(header::CONTENT_TYPE)
        .and_then(|v| v.to_str().ok())
        .unwrap_or_default();
    // Clients that send a form's type by habit (curl --data-binary) mean text.
    let dialect = match content_type.split(';').next().unwrap_or("").trim() {
        "application/x-www-form-urlencoded" => Some(Dialect::Prometheus),
        _ => Dialect::from_content_type(content_type),
    };
    let Some(dialect) = dialect else {
        let text = format!("content type {content_type:?} is not supported: send the text format");
        return (StatusCode::UNSUPPORTED_MEDIA_TYPE, text).into_response();
    };
    let mode = if method == Method::PUT {
        PushMode::Replace
    } else {
        PushMode::Merge
    };
    let work = move |state: &AppState| {
        state.refuse_while_stopping()?;
        let context = state.write_context(&caller);
        Ok(state
            .pushgateway()
            .push(&context, &path, mode, &body, dialect))
    };
    respond(state.blocking(work).await, StatusCode::OK)
}

/// `DELETE /metrics/job/<job>{/<label>/<value>}`: 202.
pub async fn delete(
    State(state): State<AppState>,
    caller: Caller,
    Path(path): Path<String>,
) -> Response {
    let work = move |state: &AppState| {
        state.refuse_while_stopping()?;
        let context = state.write_context(&caller);
        Ok(state.pushgateway().delete(&context, &path))
    };
    respond(state.blocking(work).await, StatusCode::ACCEPTED)
}

fn respond(result: Result<Result<(), PushError>, ApiError>, done: StatusCode) -> Response {
    match result {
        Ok(Ok(())) => done.into_response(),
        Ok(Err(PushError::Engine(error))) => ApiError::from(error).into_text(),
        Ok(Err(error)) => (StatusCode::BAD_REQUEST, format!("{error}\n")).into_response(),
        Err(error) => error.into_text(),
    }
}
