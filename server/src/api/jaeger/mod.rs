//! Jaeger's query API under `/jaeger/api`: what Jaeger's user interface and Grafana's Jaeger data source ask.
//!
//! Answers are `{"data":…,"total":…,"limit":0,"offset":0,"errors":null}`, errors the same with `errors`
//! filled. Version 3 of the API ([`v3`]) has envelopes of its own.

mod monitor;
mod params;
pub mod v3;
pub(super) mod wire;

pub use monitor::{calls, errors, latencies, min_step};

use std::fmt::Write as _;

use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use chronolith_engine::model::{SpanKind, TimeRange, TraceId};
use chronolith_query::traceql::display::kind_word;
use chronolith_query::traces::dependencies::dependencies as edges;
use chronolith_query::traces::jaeger::find_traces;
use chronolith_query::traces::listing;

use super::traces::view::Shown;
use super::traces::{Asked, JSON, Question, Writer, parse_trace_id};
use crate::api::params::Params;
use crate::error::{ApiError, ErrorType};
use crate::request::Caller;
use crate::state::AppState;
use crate::wire::json::{push_array, push_string};

/// What stands behind the data of an answer without a total or errors.
const TAIL: &str = ",\"total\":0,\"limit\":0,\"offset\":0,\"errors\":null}";
/// How far back dependencies look unless the client says: a day.
const DEPENDENCIES_LOOKBACK_MS: i64 = 24 * 3_600_000;

/// An error in Jaeger's envelope.
pub struct JaegerError(ApiError);

impl From<ApiError> for JaegerError {
    fn from(error: ApiError) -> Self {
        Self(error)
    }
}

impl IntoResponse for JaegerError {
    fn into_response(self) -> Response {
        let mut body = String::from(
            "{\"data\":null,\"total\":0,\"limit\":0,\"offset\":0,\"errors\":[{\"code\":",
        );
        let _ = write!(body, "{},\"msg\":", self.0.kind.status().as_u16());
        push_string(&mut body, &self.0.message);
        body.push_str("}]}");
        self.0.with_body(JSON, body)
    }
}

type Answer = Result<Response, JaegerError>;
/// Who asks, and with what; refusals get the envelope of the API.
type Extracted<T> = Result<T, ApiError>;

fn asked(state: AppState, caller: Caller, params: &Params, path: &str) -> Asked {
    Asked::new(state, caller, "jaeger", params.shown_after(path))
}

fn push_tail(out: &mut String, total: usize) {
    let _ = write!(
        out,
        ",\"total\":{total},\"limit\":0,\"offset\":0,\"errors\":null}}"
    );
}

/// `GET /jaeger/api/services`
///
/// # Errors
/// As Jaeger's.
pub async fn services(
    State(state): State<AppState>,
    caller: Extracted<Caller>,
    params: Extracted<Params>,
) -> Answer {
    let (caller, params) = (caller?, params?);
    let asked = asked(state, caller, &params, "services");
    let answer = asked.answer(JSON, |question, writer| {
        let found = listing::services(question.source, question.context, TimeRange::ALL)?;
        push_names(&mut writer.out, &found);
        Ok(())
    });
    Ok(answer.await?)
}

fn push_names(out: &mut String, names: &[String]) {
    out.push_str("{\"data\":");
    push_array(out, names, |out, name| push_string(out, name));
    push_tail(out, names.len());
}

fn kind_text(kind: SpanKind) -> &'static str {
    match kind {
        SpanKind::Unspecified => "",
        kind => kind_word(kind),
    }
}

/// `GET /jaeger/api/services/{service}/operations`
///
/// # Errors
/// As Jaeger's.
pub async fn service_operations(
    State(state): State<AppState>,
    Path(service): Path<String>,
    caller: Extracted<Caller>,
    params: Extracted<Params>,
) -> Answer {
    let (caller, params) = (caller?, params?);
    let asked = asked(
        state,
        caller,
        &params,
        &format!("services/{service}/operations"),
    );
    let answer = asked.answer(JSON, move |question, writer| {
        let mut names: Vec<String> = operations_of(question, &service, None)?
            .into_iter()
            .map(|(name, _)| name)
            .collect();
        names.dedup();
        push_names(&mut writer.out, &names);
        Ok(())
    });
    Ok(answer.await?)
}

fn operations_of(
    question: &Question<'_>,
    service: &str,
    kind: Option<SpanKind>,
) -> Result<Vec<(String, SpanKind)>, ApiError> {
    let (source, context) = (question.source, question.context);
    let service = Some(service).filter(|service| !service.is_empty());
    Ok(listing::operations(
        source,
        context,
        TimeRange::ALL,
        service,
        kind,
    )?)
}

/// `GET /jaeger/api/operations`
///
/// # Errors
/// As Jaeger's.
pub async fn operations(
    State(state): State<AppState>,
    caller: Extracted<Caller>,
    params: Extracted<Params>,
) -> Answer {
    let (caller, params) = (caller?, params?);
    let service = params.get_filled("service").map(str::to_owned);
    let service = service.ok_or_else(params::service_required)?;
    let kind = params.get_filled("spanKind");
    let kind = kind
        .map(|kind| params::kind("spanKind", kind))
        .transpose()?;
    let asked = asked(state, caller, &params, "operations");
    let answer = asked.answer(JSON, move |question, writer| {
        let found = operations_of(question, &service, kind)?;
        writer.out.push_str("{\"data\":");
        push_array(&mut writer.out, &found, |out, (name, kind)| {
            push_operation(out, name, kind_text(*kind));
        });
        push_tail(&mut writer.out, found.len());
        Ok(())
    });
    Ok(answer.await?)
}

fn push_operation(out: &mut String, name: &str, kind: &str) {
    out.push_str("{\"name\":");
    push_string(out, name);
    let _ = write!(out, ",\"spanKind\":\"{kind}\"}}");
}

/// `GET /jaeger/api/traces`
///
/// # Errors
/// As Jaeger's.
pub async fn traces(
    State(state): State<AppState>,
    caller: Extracted<Caller>,
    params: Extracted<Params>,
) -> Answer {
    let (caller, params) = (caller?, params?);
    let search = params::search(&params)?;
    let asked = asked(state, caller, &params, "traces");
    let answer = asked.answer(JSON, move |question, writer| {
        let is_by_id = !search.ids.is_empty();
        let ids = match is_by_id {
            true => search.ids,
            false => find_traces(question.source, question.context, &search.query)?,
        };
        writer.out.push_str("{\"data\":[");
        let missing = push_traces(question, writer, &ids, search.is_raw)?;
        writer.out.push(']');
        // A trace that was found may be deleted meanwhile; that is no error of who searches.
        if missing.is_empty() || !is_by_id {
            writer.out.push_str(TAIL);
            return Ok(());
        }
        writer
            .out
            .push_str(",\"total\":0,\"limit\":0,\"offset\":0,\"errors\":");
        push_array(&mut writer.out, missing, |out, id| {
            let id = wire::trace_id(id);
            let _ = write!(out, "{{\"msg\":\"trace not found\",\"traceID\":\"{id}\"}}");
        });
        writer.out.push('}');
        Ok(())
    });
    Ok(answer.await?)
}

/// Appends traces; answers which are not there.
fn push_traces(
    question: &Question<'_>,
    writer: &mut Writer,
    ids: &[TraceId],
    is_raw: bool,
) -> Result<Vec<TraceId>, ApiError> {
    let mut found = std::collections::HashSet::new();
    question.load(ids, |loaded| {
        let shown = Shown::new(loaded);
        for trace in shown.traces() {
            if !found.insert(trace.id()) {
                continue;
            }
            if found.len() > 1 {
                writer.out.push(',');
            }
            wire::push_trace(writer, &trace, is_raw)?;
        }
        Ok(())
    })?;
    let is_missing = |id: &&TraceId| !found.contains(id);
    Ok(ids.iter().filter(is_missing).copied().collect())
}

pub(super) fn trace_not_found() -> ApiError {
    ApiError::new(ErrorType::NotFound, "trace not found")
}

/// `GET /jaeger/api/traces/{id}`
///
/// # Errors
/// As Jaeger's: 404 if there is no such trace.
pub async fn trace(
    State(state): State<AppState>,
    Path(id): Path<String>,
    caller: Extracted<Caller>,
    params: Extracted<Params>,
) -> Answer {
    let (caller, params) = (caller?, params?);
    let id_of = parse_trace_id(&id)?;
    let is_raw = params::flag(&params, "raw")?;
    let asked = asked(state, caller, &params, &format!("traces/{id_of}"));
    let answer = asked.answer(JSON, move |question, writer| {
        writer.out.push_str("{\"data\":[");
        let missing = push_traces(question, writer, &[id_of], is_raw)?;
        if !missing.is_empty() {
            return Err(trace_not_found());
        }
        writer.out.push(']');
        writer.out.push_str(TAIL);
        Ok(())
    });
    Ok(answer.await?)
}

/// `GET /jaeger/api/dependencies`
///
/// # Errors
/// As Jaeger's.
pub async fn dependencies(
    State(state): State<AppState>,
    caller: Extracted<Caller>,
    params: Extracted<Params>,
) -> Answer {
    let (caller, params) = (caller?, params?);
    let (start_ms, end_ms) = params::lookback_range(&params, DEPENDENCIES_LOOKBACK_MS)?;
    let service = params.get_filled("service").map(str::to_owned);
    let asked = asked(state, caller, &params, "dependencies");
    let answer = asked.answer(JSON, move |question, writer| {
        let range = TimeRange::from_millis(start_ms, end_ms);
        let mut found = edges(question.source, question.context, range)?;
        if let Some(service) = service {
            found.retain(|edge| edge.parent == service || edge.child == service);
        }
        writer.out.push_str("{\"data\":");
        push_array(&mut writer.out, &found, |out, edge| {
            out.push_str("{\"parent\":");
            push_string(out, &edge.parent);
            out.push_str(",\"child\":");
            push_string(out, &edge.child);
            let _ = write!(out, ",\"callCount\":{}}}", edge.calls);
        });
        writer.out.push_str(TAIL);
        Ok(())
    });
    Ok(answer.await?)
}
