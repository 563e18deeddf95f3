//! `/api/v1/admin/*`: refused unless `enable_admin_api` is on.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use chronolith_engine::model::Signal;
use http::StatusCode;

use super::params::Params;
use super::selectors::required_matcher_sets;
use crate::error::{ApiError, ErrorType};
use crate::request::Caller;
use crate::state::AppState;

fn enabled(state: &AppState) -> Result<(), ApiError> {
    if state.settings().enable_admin_api {
        return Ok(());
    }
    Err(ApiError::new(
        ErrorType::Forbidden,
        "admin APIs disabled; start the server with --enable-admin-api",
    ))
}

async fn done<T: Send + 'static>(
    state: &AppState,
    work: impl FnOnce(&AppState) -> Result<T, ApiError> + Send + 'static,
) -> Result<Response, ApiError> {
    enabled(state)?;
    state.blocking(work).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// `POST /api/v1/admin/flush`: seals the head and syncs everything; answers when done.
pub async fn flush(State(state): State<AppState>) -> Result<Response, ApiError> {
    done(&state, |state| Ok(state.store().flush()?)).await
}

/// `POST /api/v1/admin/compact`: brings the store to its final form; answers when done.
pub async fn compact(State(state): State<AppState>) -> Result<Response, ApiError> {
    done(&state, |state| Ok(state.store().compact()?)).await
}

/// `POST /api/v1/admin/tsdb/clean_tombstones`: erases what was deleted.
pub async fn clean_tombstones(State(state): State<AppState>) -> Result<Response, ApiError> {
    done(&state, |state| Ok(state.store().compact()?)).await
}

/// `POST /api/v1/admin/tsdb/delete_series`: hides at once what the matchers select.
pub async fn delete_series(
    State(state): State<AppState>,
    caller: Caller,
    params: Params,
) -> Result<Response, ApiError> {
    enabled(&state)?;
    let sets = required_matcher_sets(&params)?;
    let range = params.time_range()?;
    let timeout = state.settings().query_timeout;
    let (context, _cancel) = state.context(caller.tenant, caller.principal.as_ref(), timeout);
    done(&state, move |state| {
        for set in &sets {
            state
                .store()
                .delete(&context, Signal::Metrics, set, range)?;
        }
        Ok(())
    })
    .await
}

/// `POST /api/v1/admin/tsdb/snapshot`: needs the backup subsystem.
pub async fn snapshot(State(state): State<AppState>) -> Result<Response, ApiError> {
    enabled(&state)?;
    Err(ApiError::new(
        ErrorType::NotFound,
        "snapshots are not built yet",
    ))
}
