//! `labels`, `label/{name}/values`, `series`.

use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use chronolith_engine::model::{Labels, Signal, TimeRange};
use chronolith_engine::{Matcher, RequestContext};
use chronolith_query::logql::eval::selector_matchers;
use http::{HeaderName, header};

use super::LokiError;
use super::times::range_ns;
use crate::active::ActiveQuery;
use crate::api::params::Params;
use crate::error::ApiError;
use crate::request::Caller;
use crate::state::AppState;
use crate::wire::json::{push_array, push_labels, push_string};

/// The header of answers in JSON.
pub(super) const JSON: [(HeaderName, &str); 1] =
    [(header::CONTENT_TYPE, "application/json; charset=UTF-8")];
/// How far listings look back unless the client says: six hours, as Loki does.
const LISTING_RANGE_NS: i64 = 6 * 3_600_000_000_000;

pub(super) fn listing_range(params: &Params) -> Result<TimeRange, ApiError> {
    let (mut start, end) = range_ns(params)?;
    if params.get_filled("start").is_none() && params.get_filled("since").is_none() {
        start = end.saturating_sub(LISTING_RANGE_NS);
    }
    Ok(TimeRange::new(start, end))
}

/// The matchers of a selector; none for an empty one.
pub(super) fn matchers(text: Option<&str>) -> Result<Vec<Matcher>, LokiError> {
    match text.filter(|text| !text.trim().is_empty() && *text != "{}") {
        None => Ok(Vec::new()),
        Some(text) => Ok(selector_matchers(text)?),
    }
}

/// Runs a listing in its turn and answers what it writes.
pub(super) async fn list(
    state: AppState,
    caller: Caller,
    params: &Params,
    what: String,
    work: impl FnOnce(&AppState, &RequestContext) -> Result<String, ApiError> + Send + 'static,
) -> Result<Response, LokiError> {
    let timeout = params.timeout(state.settings().query_timeout)?;
    let begun = ActiveQuery::begin(&state, &caller, ("loki listing", &what), timeout).await;
    let (mut active, context) = begun?;
    match state.blocking(move |state| work(state, &context)).await {
        Ok(body) => Ok((JSON, active.whole(body)).into_response()),
        Err(error) => {
            active.fail(&error);
            Err(error.into())
        }
    }
}

fn names_answer(names: &[String]) -> String {
    let mut out = String::from("{\"status\":\"success\",\"data\":");
    push_array(&mut out, names, |out, name| push_string(out, name));
    out.push('}');
    out
}

/// `GET|POST /loki/api/v1/labels`
///
/// # Errors
/// As Loki's.
pub async fn label_names(
    State(state): State<AppState>,
    caller: Caller,
    params: Params,
) -> Result<Response, LokiError> {
    let (range, matchers) = (listing_range(&params)?, matchers(params.get("query"))?);
    let what = params.shown_after("labels");
    list(state, caller, &params, what, move |state, context| {
        let found = state
            .store()
            .stream_label_names(context, Signal::Logs, &matchers, range)?;
        Ok(names_answer(&found))
    })
    .await
}

/// `GET|POST /loki/api/v1/label/{name}/values`
///
/// # Errors
/// As Loki's.
pub async fn label_values(
    State(state): State<AppState>,
    Path(name): Path<String>,
    caller: Caller,
    params: Params,
) -> Result<Response, LokiError> {
    let (range, matchers) = (listing_range(&params)?, matchers(params.get("query"))?);
    let what = params.shown_after(&format!("label/{name}/values"));
    list(state, caller, &params, what, move |state, context| {
        let store = state.store();
        let found = store.stream_label_values(context, Signal::Logs, &name, &matchers, range)?;
        Ok(names_answer(&found))
    })
    .await
}

/// `GET|POST /loki/api/v1/series`
///
/// # Errors
/// As Loki's.
pub async fn series(
    State(state): State<AppState>,
    caller: Caller,
    params: Params,
) -> Result<Response, LokiError> {
    let range = listing_range(&params)?;
    let asked = params.all("match[]").chain(params.all("match"));
    let mut sets = asked
        .map(|text| matchers(Some(text)))
        .collect::<Result<Vec<_>, _>>()?;
    if sets.is_empty() {
        sets.push(Vec::new());
    }
    let what = params.shown_after("series");
    list(state, caller, &params, what, move |state, context| {
        let found: Vec<Labels> = state.store().streams(context, Signal::Logs, &sets, range)?;
        let mut out = String::from("{\"status\":\"success\",\"data\":");
        push_array(&mut out, &found, push_labels);
        out.push('}');
        Ok(out)
    })
    .await
}
