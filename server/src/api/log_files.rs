//! `GET /api/v1/log_files`: the files of `logs_configs`, as `/api/v1/targets` is for `scrape_configs`.

use axum::extract::State;
use axum::response::Response;
use serde_json::{Value, json};

use super::envelope::success;
use crate::state::AppState;

/// All jobs with their files.
pub async fn log_files(State(state): State<AppState>) -> Response {
    let statuses = state.files().statuses();
    let jobs: Vec<Value> = statuses.iter().map(|status| status.to_json()).collect();
    success(&json!({ "jobs": jobs }).to_string(), &[], &[])
}
