//! `/-/reload` and `/-/quit`: refused unless `enable_lifecycle` is on.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::StatusCode;

use crate::lifecycle;
use crate::state::AppState;

/// Why nothing happens, if the calls are off.
fn refusal(state: &AppState) -> Option<Response> {
    let text = "Lifecycle API is not enabled; start the server with --enable-lifecycle.\n";
    (!state.settings().enable_lifecycle).then(|| (StatusCode::FORBIDDEN, text).into_response())
}

/// `POST|PUT /-/reload`: reads the configuration file again.
pub async fn reload(State(state): State<AppState>) -> Response {
    if let Some(refusal) = refusal(&state) {
        return refusal;
    }
    let reloaded = state.blocking(|state| Ok(lifecycle::reload(state)));
    match reloaded.await {
        Ok(Ok(waiting)) if waiting.is_empty() => StatusCode::OK.into_response(),
        Ok(Ok(waiting)) => {
            let names = waiting.join(", ");
            format!("Reloaded. What changed of these counts from the next start on: {names}.\n")
                .into_response()
        }
        Ok(Err(reason)) => {
            let text = format!("failed to reload config: {reason}\n");
            (StatusCode::INTERNAL_SERVER_ERROR, text).into_response()
        }
        Err(error) => error.into_text(),
    }
}

/// `POST|PUT /-/quit`: ends the server as SIGTERM does.
pub async fn quit(State(state): State<AppState>) -> Response {
    if let Some(refusal) = refusal(&state) {
        return refusal;
    }
    tracing::info!("asked to stop over HTTP");
    state.lifecycle().quit();
    "Requesting termination... Goodbye!\n".into_response()
}
