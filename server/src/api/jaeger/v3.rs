//! Version 3 of Jaeger's API, as its gateway speaks it over HTTP: traces are OpenTelemetry's JSON inside
//! `{"result":…}`, errors are `{"error":{"httpCode":…,"message":…}}`.

use std::fmt::Write as _;

use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use chronolith_engine::model::{SpanStatus, TimeRange, TimestampNs, TraceId};
use chronolith_query::logql::units::parse_go_duration;
use chronolith_query::traces::jaeger::{JaegerQuery, find_traces};
use chronolith_query::traces::listing;

use super::{Extracted, asked, operations_of, params, push_operation};
use crate::api::params::Params;
use crate::api::traces::otlp::{JsonStyle, push_json};
use crate::api::traces::view::{Shown, ShownTrace};
use crate::api::traces::{JSON, Question, Writer, parse_trace_id};
use crate::error::{ApiError, ErrorType};
use crate::request::Caller;
use crate::state::AppState;
use crate::wire::json::{push_array, push_string};
use crate::wire::time::parse_rfc3339_ns;

/// An error in the gateway's envelope.
pub struct GatewayError(ApiError);

impl From<ApiError> for GatewayError {
    fn from(error: ApiError) -> Self {
        Self(error)
    }
}

impl IntoResponse for GatewayError {
    fn into_response(self) -> Response {
        let mut body = String::from("{\"error\":{\"httpCode\":");
        let _ = write!(body, "{},\"message\":", self.0.kind.status().as_u16());
        push_string(&mut body, &self.0.message);
        body.push_str("}}");
        self.0.with_body(JSON, body)
    }
}

type Answer = Result<Response, GatewayError>;

/// `GET /jaeger/api/v3/services`
///
/// # Errors
/// As Jaeger's.
pub async fn services(
    State(state): State<AppState>,
    caller: Extracted<Caller>,
    params: Extracted<Params>,
) -> Answer {
    let (caller, params) = (caller?, params?);
    let asked = asked(state, caller, &params, "v3/services");
    let answer = asked.answer(JSON, |question, writer| {
        let found = listing::services(question.source, question.context, TimeRange::ALL)?;
        writer.out.push_str("{\"services\":");
        push_array(&mut writer.out, &found, |out, name| push_string(out, name));
        writer.out.push('}');
        Ok(())
    });
    Ok(answer.await?)
}

/// `GET /jaeger/api/v3/operations`
///
/// # Errors
/// As Jaeger's.
pub async fn operations(
    State(state): State<AppState>,
    caller: Extracted<Caller>,
    params: Extracted<Params>,
) -> Answer {
    let (caller, params) = (caller?, params?);
    let service = params.get("service").unwrap_or("").to_owned();
    let kind = params.get_filled("span_kind");
    let kind = kind
        .map(|kind| params::kind("span_kind", kind))
        .transpose()?;
    let asked = asked(state, caller, &params, "v3/operations");
    let answer = asked.answer(JSON, move |question, writer| {
        let found = operations_of(question, &service, kind)?;
        writer.out.push_str("{\"operations\":");
        push_array(&mut writer.out, &found, |out, (name, kind)| {
            // Without a kind it is internal work, as in Jaeger.
            let kind = match super::kind_text(*kind) {
                "" => "internal",
                word => word,
            };
            push_operation(out, name, kind);
        });
        writer.out.push('}');
        Ok(())
    });
    Ok(answer.await?)
}

fn malformed(name: &str, why: impl std::fmt::Display) -> ApiError {
    ApiError::bad_data(format!("malformed parameter {name}: {why}"))
}

fn time(params: &Params, name: &str) -> Result<Option<TimestampNs>, ApiError> {
    let text = params.get_filled(name);
    text.map(|text| {
        parse_rfc3339_ns(text).map(TimestampNs).ok_or_else(|| {
            let text: String = text.chars().take(100).collect();
            malformed(name, format_args!("{text:?} is not a time of RFC 3339"))
        })
    })
    .transpose()
}

fn duration(params: &Params, name: &str) -> Result<Option<i64>, ApiError> {
    let text = params.get_filled(name);
    let ns = text.map(|text| parse_go_duration(text).map_err(|why| malformed(name, why)));
    Ok(ns.transpose()?.filter(|ns| *ns > 0))
}

fn query(params: &Params) -> Result<JaegerQuery, ApiError> {
    let (min, max) = ("query.start_time_min", "query.start_time_max");
    let (Some(start), Some(end)) = (time(params, min)?, time(params, max)?) else {
        return Err(ApiError::bad_data(format!("{min} and {max} are required")));
    };
    let filled = |name: &str| params.get_filled(name).map(str::to_owned);
    let depth = match params.get_filled("query.search_depth") {
        Some(_) => "query.search_depth",
        None => "query.num_traces",
    };
    let tags = match params.get_filled("query.attributes") {
        Some(text) => params::json_tags(text)?,
        None => Vec::new(),
    };
    Ok(JaegerQuery {
        service: filled("query.service_name"),
        operation: filled("query.operation_name"),
        tags,
        range: TimeRange { start, end },
        duration_min_ns: duration(params, "query.duration_min")?,
        duration_max_ns: duration(params, "query.duration_max")?,
        limit: params::limit(params, depth)?,
    })
}

/// Writes what `ids` name as one list of resource spans.
fn push_result(
    question: &Question<'_>,
    writer: &mut Writer,
    ids: &[TraceId],
) -> Result<(), ApiError> {
    let not_found = || ApiError::new(ErrorType::NotFound, "No traces found");
    if ids.is_empty() {
        return Err(not_found());
    }
    let mut is_first = true;
    writer.out.push_str("{\"result\":{\"resourceSpans\":[");
    question.load(ids, |loaded| {
        for trace in Shown::new(loaded).traces() {
            push_json(writer, &trace, JsonStyle::Otlp, &mut is_first)?;
        }
        Ok(())
    })?;
    if is_first {
        return Err(not_found());
    }
    writer.out.push_str("]}}");
    Ok(())
}

/// `GET /jaeger/api/v3/traces`
///
/// # Errors
/// As Jaeger's: 404 if nothing is found.
pub async fn traces(
    State(state): State<AppState>,
    caller: Extracted<Caller>,
    params: Extracted<Params>,
) -> Answer {
    let (caller, params) = (caller?, params?);
    let query = query(&params)?;
    let asked = asked(state, caller, &params, "v3/traces");
    let answer = asked.answer(JSON, move |question, writer| {
        let ids = find_traces(question.source, question.context, &query)?;
        push_result(question, writer, &ids)
    });
    Ok(answer.await?)
}

/// `GET /jaeger/api/v3/traces/{id}`
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
    let id = parse_trace_id(&id).map_err(|error| malformed("trace_id", error))?;
    time(&params, "start_time")?;
    time(&params, "end_time")?;
    let asked = asked(state, caller, &params, &format!("v3/traces/{id}"));
    let answer = asked.answer(JSON, move |question, writer| {
        push_result(question, writer, &[id])
    });
    Ok(answer.await?)
}

/// `GET /jaeger/api/v3/trace-summaries`
///
/// # Errors
/// As Jaeger's.
pub async fn summaries(
    State(state): State<AppState>,
    caller: Extracted<Caller>,
    params: Extracted<Params>,
) -> Answer {
    let (caller, params) = (caller?, params?);
    let query = query(&params)?;
    let asked = asked(state, caller, &params, "v3/trace-summaries");
    let answer = asked.answer(JSON, move |question, writer| {
        let ids = find_traces(question.source, question.context, &query)?;
        let mut separator = "";
        writer.out.push_str("{\"summaries\":[");
        question.load(&ids, |loaded| {
            for trace in Shown::new(loaded).traces() {
                writer.out.push_str(std::mem::replace(&mut separator, ","));
                push_summary(&mut writer.out, &trace);
                writer.breathe()?;
            }
            Ok(())
        })?;
        writer.out.push_str("]}");
        Ok(())
    });
    Ok(answer.await?)
}

fn push_summary(out: &mut String, trace: &ShownTrace<'_>) {
    let tree = trace.tree();
    let mut services = std::collections::BTreeMap::new();
    let (mut failed, mut orphans) = (0, 0);
    for span in trace.spans() {
        let is_failed = usize::from(span.status() == SpanStatus::Error);
        failed += is_failed;
        orphans += usize::from(span.tree.parent_id.is_some() && tree.parent(span.place).is_none());
        let of_service = services
            .entry(span.service().unwrap_or(""))
            .or_insert((0, 0));
        *of_service = (of_service.0 + 1, of_service.1 + is_failed);
    }
    let _ = write!(out, "{{\"traceId\":\"{}\",\"rootServiceName\":", trace.id());
    push_string(out, trace.root_service().unwrap_or(""));
    out.push_str(",\"rootOperationName\":");
    push_string(out, trace.root_name().unwrap_or(""));
    let start = tree.start_ns();
    let end = start.saturating_add(tree.duration_ns());
    let _ = write!(
        out,
        ",\"minStartTimeUnixNano\":\"{start}\",\"maxEndTimeUnixNano\":\"{end}\",\"spanCount\":{},\
         \"errorSpanCount\":{failed},\"orphanSpanCount\":{orphans},\"services\":",
        tree.len()
    );
    push_array(out, services, |out, (service, (spans, failed))| {
        out.push_str("{\"name\":");
        push_string(out, service);
        let _ = write!(out, ",\"spanCount\":{spans},\"errorSpanCount\":{failed}}}");
    });
    out.push('}');
}
