//! What there is: series, label names and values, metric metadata, exemplars.

use std::collections::BTreeSet;

use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use chronolith_engine::model::{Labels, TimeRange};
use chronolith_engine::{Matcher, RequestContext, Store};
use http::header;

use super::envelope::{success_text, truncate};
use super::params::Params;
use super::selectors::{matcher_sets, matchers, required_matcher_sets};
use super::targets::push_metadata_fields;
use crate::active::ActiveQuery;
use crate::error::ApiError;
use crate::request::Caller;
use crate::state::AppState;
use crate::wire::{json, number};

/// `GET|POST /api/v1/series`
pub async fn series(
    State(state): State<AppState>,
    caller: Caller,
    params: Params,
) -> Result<Response, ApiError> {
    let sets = required_matcher_sets(&params)?;
    let (range, limit) = (params.time_range()?, params.limit()?);
    listing(&state, caller, "series", &params, move |store, context| {
        let mut found = store.series(context, &sets, range, one_more(limit))?;
        let warnings = truncate(&mut found, limit);
        let mut data = String::new();
        json::push_array(&mut data, &found, json::push_labels);
        Ok((data, warnings))
    })
    .await
}

/// `GET|POST /api/v1/labels`
pub async fn label_names(
    State(state): State<AppState>,
    caller: Caller,
    params: Params,
) -> Result<Response, ApiError> {
    let sets = matcher_sets(&params)?;
    let (range, limit) = (params.time_range()?, params.limit()?);
    listing(&state, caller, "labels", &params, move |store, context| {
        let found = union(&sets, |set| {
            store.label_names(context, set, range, one_more(limit))
        })?;
        Ok(strings(found, limit))
    })
    .await
}

/// `GET /api/v1/label/<name>/values`
pub async fn label_values(
    State(state): State<AppState>,
    caller: Caller,
    Path(name): Path<String>,
    params: Params,
) -> Result<Response, ApiError> {
    let name = unescape_label_name(&name);
    if name.is_empty() {
        return Err(ApiError::bad_data("invalid label name: \"\""));
    }
    let sets = matcher_sets(&params)?;
    let (range, limit) = (params.time_range()?, params.limit()?);
    let asked = format!("label/{name}/values");
    listing(&state, caller, &asked, &params, move |store, context| {
        let found = union(&sets, |set| {
            store.label_values(context, &name, set, range, one_more(limit))
        })?;
        Ok(strings(found, limit))
    })
    .await
}

/// Runs a listing on a blocking thread as a query among others (it waits for its turn, is listed and can
/// be ended), and wraps what it answers. `asked` is its path below `/api/v1/`.
async fn listing(
    state: &AppState,
    caller: Caller,
    asked: &str,
    params: &Params,
    list: impl FnOnce(&Store, &RequestContext) -> Result<(String, Vec<String>), ApiError>
    + Send
    + 'static,
) -> Result<Response, ApiError> {
    let timeout = params.timeout(state.settings().query_timeout)?;
    let asked = params.shown_after(asked);
    let (mut query, context) =
        ActiveQuery::begin(state, &caller, ("listing", &asked), timeout).await?;
    let listed = state.blocking(move |state| list(state.store(), &context));
    let (data, warnings) = (listed.await).inspect_err(|error| query.fail(&error.message))?;
    let body = query.whole(success_text(&data, &warnings, &[]));
    Ok(([(header::CONTENT_TYPE, "application/json")], body).into_response())
}

/// One element more than the limit shows whether there were more.
fn one_more(limit: Option<usize>) -> Option<usize> {
    limit.map(|limit| limit.saturating_add(1))
}

/// What any of the sets finds; without a set, what no matcher at all finds.
fn union<E>(
    sets: &[Vec<Matcher>],
    find: impl Fn(&[Matcher]) -> Result<Vec<String>, E>,
) -> Result<Vec<String>, E> {
    match sets {
        [] => find(&[]),
        [set] => find(set),
        many => {
            let mut all = BTreeSet::new();
            for set in many {
                all.extend(find(set)?);
            }
            Ok(all.into_iter().collect())
        }
    }
}

fn strings(mut found: Vec<String>, limit: Option<usize>) -> (String, Vec<String>) {
    let warnings = truncate(&mut found, limit);
    let mut data = String::new();
    json::push_array(&mut data, &found, |out, text| json::push_string(out, text));
    (data, warnings)
}

/// Names that do not fit into a path come as `U__` with `_hex_` for other characters and `__` for
/// an underscore. What is not escaped, or not rightly, stands for itself.
fn unescape_label_name(name: &str) -> String {
    let Some(escaped) = name.strip_prefix("U__") else {
        return name.to_owned();
    };
    let mut out = String::new();
    let mut rest = escaped;
    while let Some(at) = rest.find('_') {
        out.push_str(rest.get(..at).unwrap_or_default());
        rest = rest.get(at + 1..).unwrap_or_default();
        if let Some(after) = rest.strip_prefix('_') {
            out.push('_');
            rest = after;
            continue;
        }
        let Some((hex, after)) = rest.split_once('_') else {
            return name.to_owned();
        };
        let character = u32::from_str_radix(hex, 16).ok().and_then(char::from_u32);
        let Some(character) = character.filter(|_| hex.len() <= 6) else {
            return name.to_owned();
        };
        out.push(character);
        rest = after;
    }
    out.push_str(rest);
    out
}

/// `GET /api/v1/metadata`
pub async fn metadata(
    State(state): State<AppState>,
    caller: Caller,
    params: Params,
) -> Result<Response, ApiError> {
    let limit = params.limit()?;
    let per_metric = params.count("limit_per_metric")?;
    let metric = params.get_filled("metric").map(str::to_owned);
    listing(
        &state,
        caller,
        "metadata",
        &params,
        move |store, context| {
            let known = store.metadata(context, metric.as_deref())?;
            let shown = known.iter().take(limit.unwrap_or(usize::MAX));
            let mut data = String::from("{");
            for (index, (name, entries)) in shown.enumerate() {
                if index > 0 {
                    data.push(',');
                }
                json::push_string(&mut data, name);
                data.push(':');
                let entries = entries.iter().take(per_metric.unwrap_or(usize::MAX));
                json::push_array(&mut data, entries, |out, entry| {
                    out.push('{');
                    push_metadata_fields(out, entry);
                    out.push('}');
                });
            }
            data.push('}');
            Ok((data, Vec::new()))
        },
    )
    .await
}

/// `GET|POST /api/v1/query_exemplars`
pub async fn query_exemplars(
    State(state): State<AppState>,
    caller: Caller,
    params: Params,
) -> Result<Response, ApiError> {
    let range = params.time_range()?;
    let query = params.get("query").unwrap_or("");
    let parsed = state.promql().parse(query)?;
    let sets: Vec<Vec<Matcher>> = parsed
        .expr()
        .selectors()
        .into_iter()
        .map(matchers)
        .collect::<Result<_, _>>()?;
    listing(
        &state,
        caller,
        "query_exemplars",
        &params,
        move |store, context| exemplars(store, context, &sets, range),
    )
    .await
}

fn exemplars(
    store: &Store,
    context: &RequestContext,
    sets: &[Vec<Matcher>],
    range: TimeRange,
) -> Result<(String, Vec<String>), ApiError> {
    let mut seen: BTreeSet<Labels> = BTreeSet::new();
    let mut found = Vec::new();
    for set in sets {
        for (labels, exemplars) in store.exemplars(context, set, range)? {
            if !exemplars.is_empty() && seen.insert(labels.clone()) {
                found.push((labels, exemplars));
            }
        }
    }
    let mut data = String::new();
    json::push_array(&mut data, &found, |out, (labels, exemplars)| {
        out.push_str("{\"seriesLabels\":");
        json::push_labels(out, labels);
        out.push_str(",\"exemplars\":");
        json::push_array(out, exemplars, |out, exemplar| {
            out.push_str("{\"labels\":");
            json::push_labels(out, &exemplar.labels);
            out.push_str(",\"value\":\"");
            number::push_float(out, exemplar.value);
            out.push_str("\",\"timestamp\":");
            number::push_timestamp(out, exemplar.time.to_millis());
            out.push('}');
        });
        out.push('}');
    });
    Ok((data, Vec::new()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escaped_label_names_are_decoded() {
        for (escaped, name) in [
            ("job", "job"),
            ("U__http_2e_status", "http.status"),
            ("U__a__b", "a_b"),
            ("U___1f600_", "😀"),
            ("U__a_zz_b", "U__a_zz_b"),
            ("U__a_2e", "U__a_2e"),
        ] {
            assert_eq!(unescape_label_name(escaped), name);
        }
    }
}
