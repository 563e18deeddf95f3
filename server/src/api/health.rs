//! Whether the server lives and whether it takes requests.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use chronolith_engine::{EngineError, RequestContext};
use http::{HeaderMap, StatusCode, header};

use super::envelope::json_response;
use crate::state::AppState;
use crate::wire::exposition_format::ExpositionFormat;

/// `GET /health/live`, `/-/healthy`: the process answers.
pub async fn live() -> &'static str {
    "Chronolith is healthy.\n"
}

/// Why the server should get no requests, if there is a reason.
///
/// A store that is full for a moment still answers queries; one whose log failed to sync takes no
/// write until somebody restarts it.
pub(super) fn unready(state: &AppState) -> Option<String> {
    if state.is_stopping() {
        return Some("stopping".into());
    }
    match state.store().begin(&RequestContext::new()) {
        Err(error @ EngineError::Poisoned(_)) => Some(error.to_string()),
        _ => None,
    }
}

/// `GET /health/ready`, `/-/ready`: the store is open and takes writes.
pub async fn ready(State(state): State<AppState>) -> Response {
    match unready(&state) {
        Some(reason) => {
            let text = format!("Chronolith is not ready: {reason}\n");
            (StatusCode::SERVICE_UNAVAILABLE, text).into_response()
        }
        None => "Chronolith is ready.\n".into_response(),
    }
}

/// `GET /health`: both as JSON, in the shape that InfluxDB's clients read.
pub async fn health(State(state): State<AppState>) -> Response {
    let (status, word, message) = match unready(&state) {
        Some(reason) => (StatusCode::SERVICE_UNAVAILABLE, "fail", reason),
        None => (
            StatusCode::OK,
            "pass",
            "ready for queries and writes".into(),
        ),
    };
    let body = serde_json::json!({
        "name": "chronolith", "status": word, "message": message, "checks": [],
        "version": crate::VERSION,
    });
    let mut response = json_response(body.to_string());
    *response.status_mut() = status;
    response
}

/// `GET /version`
pub async fn version() -> Response {
    let body = serde_json::json!({"version": crate::VERSION, "application": "chronolith"});
    json_response(body.to_string())
}

/// `GET /metrics`: the server's own metrics, in the text format or, by `Accept`, in protobuf.
pub async fn metrics(State(state): State<AppState>, headers: HeaderMap) -> Response {
    // Our own names are plain: there is nothing to escape.
    let format = ExpositionFormat::negotiate(&headers);
    let written = state.blocking(move |state| {
        let exposition = state.exposition();
        if !format.protobuf {
            return Ok(exposition.to_text().into_bytes());
        }
        let mut out = Vec::new();
        for family in &exposition.families {
            family.to_metric_family().push_delimited(&mut out);
        }
        Ok(out)
    });
    match written.await {
        Ok(body) => ([(header::CONTENT_TYPE, format.content_type())], body).into_response(),
        Err(error) => error.into_text(),
    }
}
