//! Whether the server lives and whether it takes requests.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{StatusCode, header};

use super::envelope::json_response;
use crate::state::AppState;

/// `GET /health/live`, `/-/healthy`: the process answers.
pub async fn live() -> &'static str {
    "Chronolith is healthy.\n"
}

/// `GET /health/ready`, `/-/ready`: the store is open and takes writes.
pub async fn ready(State(state): State<AppState>) -> Response {
    if state.is_stopping() {
        let text = "Chronolith is stopping.\n";
        return (StatusCode::SERVICE_UNAVAILABLE, text).into_response();
    }
    "Chronolith is ready.\n".into_response()
}

/// `GET /health`: both as JSON.
pub async fn health(State(state): State<AppState>) -> Response {
    let (status, word) = if state.is_stopping() {
        (StatusCode::SERVICE_UNAVAILABLE, "stopping")
    } else {
        (StatusCode::OK, "ok")
    };
    let body = serde_json::json!({"status": word, "version": crate::VERSION});
    let mut response = json_response(body.to_string());
    *response.status_mut() = status;
    response
}

/// `GET /version`
pub async fn version() -> Response {
    let body = serde_json::json!({"version": crate::VERSION, "application": "chronolith"});
    json_response(body.to_string())
}

/// `GET /metrics`: the server's own metrics, in the text format.
pub async fn metrics(State(state): State<AppState>) -> Response {
    let text = state
        .blocking(|state| Ok(state.metrics().exposition(state.store()).to_text()))
        .await;
    match text {
        Ok(text) => {
            let content_type = "text/plain; version=0.0.4; charset=utf-8";
            ([(header::CONTENT_TYPE, content_type)], text).into_response()
        }
        Err(error) => error.into_text(),
    }
}
