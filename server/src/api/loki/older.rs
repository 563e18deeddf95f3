//! The older names of Loki's API, `/api/prom/*`: the same answers in the shapes of the time.

use std::fmt::Write as _;

use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use chronolith_engine::model::{Signal, TimestampNs};
use chronolith_query::logql::eval::{QueryParams, QueryValue, StreamResult};
use chronolith_query::logql::units::GoQuoted;

use super::LokiError;
use super::listing::{JSON, list, listing_range, matchers};
use super::query::{direction, limit};
use super::times::range_ns;
use crate::active::ActiveQuery;
use crate::api::params::Params;
use crate::error::ApiError;
use crate::request::Caller;
use crate::state::AppState;
use crate::wire::json::{push_array, push_string};

fn values_answer(values: &[String]) -> String {
    let mut out = String::from("{\"values\":");
    push_array(&mut out, values, |out, value| push_string(out, value));
    out.push('}');
    out
}

/// `GET|POST /api/prom/label`
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
        let store = state.store();
        let found = store.stream_label_names(context, Signal::Logs, &matchers, range)?;
        Ok(values_answer(&found))
    })
    .await
}

/// `GET|POST /api/prom/label/{name}/values`
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
        Ok(values_answer(&found))
    })
    .await
}

/// `GET|POST /api/prom/query`: lines only.
///
/// # Errors
/// As Loki's; 400 for a query that gives samples.
pub async fn query(
    State(state): State<AppState>,
    caller: Caller,
    params: Params,
) -> Result<Response, LokiError> {
    let text = params.get("query").unwrap_or_default();
    let engine = state.logql().clone();
    let query = engine.parse(text)?;
    if !query.is_log() {
        let message = "legacy endpoints only support streams result type";
        return Err(ApiError::bad_data(message).into());
    }
    let (start, end) = range_ns(&params)?;
    let wanted = QueryParams {
        limit: limit(&params)?,
        direction: direction(&params)?,
        ..QueryParams::range(start, end, 1)
    };
    let timeout = params.timeout(state.settings().query_timeout)?;
    let begun = ActiveQuery::begin(&state, &caller, ("logql", text), timeout).await;
    let (mut active, context) = begun?;
    match engine.query(&context, &query, wanted).await {
        Ok(result) => {
            let mut out = String::from("{\"streams\":");
            if let QueryValue::Streams(streams) = &result.value {
                push_array(&mut out, streams, push_stream);
            }
            out.push_str(",\"stats\":{}}");
            Ok((JSON, active.whole(out)).into_response())
        }
        Err(error) => {
            active.fail(&error);
            Err(error.into())
        }
    }
}

/// Labels as one text, and the lines with their times in RFC 3339.
pub(super) fn push_stream(out: &mut String, stream: &StreamResult) {
    out.push_str("{\"labels\":");
    push_string(out, &selector(stream.labels()));
    out.push_str(",\"entries\":");
    push_array(out, &stream.entries, |out, entry| {
        let _ = write!(out, "{{\"ts\":\"{}\",\"line\":", TimestampNs(entry.time_ns));
        push_string(out, &entry.line);
        out.push('}');
    });
    out.push('}');
}

/// `{a="b", c="d"}`
pub(super) fn selector<'a>(labels: impl IntoIterator<Item = (&'a str, &'a str)>) -> String {
    let mut out = String::from("{");
    for (index, (name, value)) in labels.into_iter().enumerate() {
        let comma = if index > 0 { ", " } else { "" };
        let _ = write!(out, "{comma}{name}={}", GoQuoted(value));
    }
    out.push('}');
    out
}

#[cfg(test)]
mod tests {
    use chronolith_query::logql::eval::StreamEntry;

    use super::*;

    #[test]
    fn streams_have_the_shape_of_the_time() {
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let stream = StreamResult {
            stream: vec![pair("app", "a\"b"), pair("job", "c")],
            entries: vec![StreamEntry {
                time_ns: 1_700_000_000_000_000_001,
                line: "x\ty".to_owned(),
            }],
            ..StreamResult::default()
        };
        let mut out = String::new();
        push_stream(&mut out, &stream);
        assert_eq!(
            out,
            r#"{"labels":"{app=\"a\\\"b\", job=\"c\"}","entries":[{"ts":"2023-11-14T22:13:20.000000001Z","line":"x\ty"}]}"#
        );
    }
}
