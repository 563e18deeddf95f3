//! Zipkin's query API under `/zipkin/api/v2`: what Zipkin's Lens and Grafana's Zipkin data source ask.
//!
//! Answers are lists without an envelope; errors are plain text.

mod wire;

use std::fmt::Write as _;

use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use chronolith_engine::model::{TimeRange, TraceId};
use chronolith_query::traceql::ast::{
    Body, Field, FieldName, PosRange, Query, Scope, SpansetExpr, SpansetFilter, Stage, Value,
};
use chronolith_query::traceql::{self};
use chronolith_query::traces::dependencies::dependencies as edges;
use chronolith_query::traces::listing;
use chronolith_query::traces::search::{SearchRequest, search};

use super::traces::view::Shown;
use super::traces::{Asked, JSON, Question, Writer, parse_trace_id};
use crate::api::params::Params;
use crate::error::{ApiError, ErrorType};
use crate::request::Caller;
use crate::state::AppState;
use crate::telemetry::now_ms;
use crate::wire::json::{push_array, push_string};

/// Traces of an answer unless the client says.
const LIMIT_DEFAULT: usize = 10;
const LIMIT_MAX: usize = 10_000;
/// Ids of one question, and parts of an annotation query.
const MANY_MAX: usize = 1_000;
/// How far back searches and dependencies look unless the client says: a day.
const LOOKBACK_DEFAULT_MS: i64 = 24 * 3_600_000;

/// An error as text.
pub struct ZipkinError(ApiError);

impl From<ApiError> for ZipkinError {
    fn from(error: ApiError) -> Self {
        Self(error)
    }
}

impl IntoResponse for ZipkinError {
    fn into_response(self) -> Response {
        self.0.into_text()
    }
}

type Answer = Result<Response, ZipkinError>;
/// Who asks, and with what; refusals get the form of the API.
type Extracted<T> = Result<T, ApiError>;

fn asked(state: AppState, caller: Caller, params: &Params, path: &str) -> Asked {
    Asked::new(state, caller, "zipkin", params.shown_after(path))
}

fn number(params: &Params, name: &str) -> Result<Option<i64>, ApiError> {
    let text = params.get_filled(name);
    text.map(|text| {
        text.parse()
            .ok()
            .filter(|number| *number >= 0)
            .ok_or_else(|| {
                let text: String = text.chars().take(100).collect();
                ApiError::bad_data(format!(
                    "invalid {name}: {text:?} is no whole number, 0 or more"
                ))
            })
    })
    .transpose()
}

/// `endTs` and `lookback`, in milliseconds.
fn range(params: &Params) -> Result<TimeRange, ApiError> {
    let end = number(params, "endTs")?.unwrap_or_else(now_ms);
    let lookback = number(params, "lookback")?.unwrap_or(LOOKBACK_DEFAULT_MS);
    Ok(TimeRange::from_millis(end.saturating_sub(lookback), end))
}

fn names<'a>(
    asked: Asked,
    list: impl FnOnce(&Question<'_>) -> Result<Vec<String>, ApiError> + Send + 'a + 'static,
) -> impl Future<Output = Result<Response, ApiError>> {
    asked.answer(JSON, move |question, writer| {
        let mut found = list(question)?;
        found.sort_unstable();
        found.dedup();
        push_array(&mut writer.out, &found, |out, name| push_string(out, name));
        Ok(())
    })
}

/// `GET /zipkin/api/v2/services`
///
/// # Errors
/// As text.
pub async fn services(
    State(state): State<AppState>,
    caller: Extracted<Caller>,
    params: Extracted<Params>,
) -> Answer {
    let asked = asked(state, caller?, &params?, "services");
    let answer = names(asked, |question| {
        Ok(listing::services(
            question.source,
            question.context,
            TimeRange::ALL,
        )?)
    });
    Ok(answer.await?)
}

fn service_name(params: &Params) -> Result<String, ApiError> {
    let service = params.get_filled("serviceName").map(str::to_owned);
    service.ok_or_else(|| ApiError::bad_data("parameter \"serviceName\" is required"))
}

/// `GET /zipkin/api/v2/spans`: names of spans.
///
/// # Errors
/// As text.
pub async fn span_names(
    State(state): State<AppState>,
    caller: Extracted<Caller>,
    params: Extracted<Params>,
) -> Answer {
    let (caller, params) = (caller?, params?);
    let service = service_name(&params)?;
    let asked = asked(state, caller, &params, "spans");
    let answer = names(asked, move |question| {
        let (source, context) = (question.source, question.context);
        let service = Some(service.as_str());
        let found = listing::operations(source, context, TimeRange::ALL, service, None)?;
        Ok(found.into_iter().map(|(name, _)| name).collect())
    });
    Ok(answer.await?)
}

/// `GET /zipkin/api/v2/remoteServices`: whom a service calls, as its spans say.
///
/// # Errors
/// As text.
pub async fn remote_services(
    State(state): State<AppState>,
    caller: Extracted<Caller>,
    params: Extracted<Params>,
) -> Answer {
    let (caller, params) = (caller?, params?);
    let service = service_name(&params)?;
    let filter = first_filter(parse(&format!(
        "{{ resource.service.name = {} }}",
        quoted(&service)
    ))?);
    let asked = asked(state, caller, &params, "remoteServices");
    let answer = names(asked, move |question| {
        values(question, wire::REMOTE_SERVICE, filter.as_ref())
    });
    Ok(answer.await?)
}

/// The values of an attribute of spans, as text.
fn values(
    question: &Question<'_>,
    key: &str,
    filter: Option<&SpansetFilter>,
) -> Result<Vec<String>, ApiError> {
    let field = Field {
        name: FieldName::Attribute {
            scope: Scope::Span,
            key: key.to_owned(),
        },
        of_parent: false,
        pos: PosRange::default(),
    };
    let (source, context) = (question.source, question.context);
    let found = listing::values(source, context, TimeRange::ALL, filter, &field)?;
    let text = |value: Value| match value {
        Value::String(text) => text,
        value => value.to_string(),
    };
    Ok(found.into_iter().map(text).collect())
}

/// `GET /zipkin/api/v2/autocompleteKeys`: keys of attributes of spans.
///
/// # Errors
/// As text.
pub async fn autocomplete_keys(
    State(state): State<AppState>,
    caller: Extracted<Caller>,
    params: Extracted<Params>,
) -> Answer {
    let asked = asked(state, caller?, &params?, "autocompleteKeys");
    let answer = names(asked, |question| {
        let (source, context) = (question.source, question.context);
        let mut keys = listing::attribute_keys(source, context, TimeRange::ALL, None)?;
        Ok(keys.remove("span").into_iter().flatten().collect())
    });
    Ok(answer.await?)
}

/// `GET /zipkin/api/v2/autocompleteValues`: values of an attribute of spans.
///
/// # Errors
/// As text.
pub async fn autocomplete_values(
    State(state): State<AppState>,
    caller: Extracted<Caller>,
    params: Extracted<Params>,
) -> Answer {
    let (caller, params) = (caller?, params?);
    let key = params.get_filled("key").map(str::to_owned);
    let key = key.ok_or_else(|| ApiError::bad_data("parameter \"key\" is required"))?;
    let asked = asked(state, caller, &params, "autocompleteValues");
    let answer = names(asked, move |question| values(question, &key, None));
    Ok(answer.await?)
}

fn parse(text: &str) -> Result<Query, ApiError> {
    traceql::parse(text).map_err(|error| ApiError::bad_data(error.to_string()))
}

fn first_filter(query: Query) -> Option<SpansetFilter> {
    let Body::Search(pipeline) = query.body else {
        return None;
    };
    match pipeline.stages.into_iter().next() {
        Some(Stage::Spansets(SpansetExpr::Filter(filter))) => Some(filter),
        _ => None,
    }
}

/// Text as TraceQL writes it.
fn quoted(text: &str) -> String {
    Value::String(text.to_owned()).to_string()
}

/// The search as a TraceQL filter.
fn query(params: &Params) -> Result<Query, ApiError> {
    let mut conditions = Vec::new();
    for (name, field) in [
        ("serviceName", "resource.service.name"),
        ("spanName", "name"),
        ("remoteServiceName", "span.peer.service"),
    ] {
        // The user interface sends `all` for any name.
        if let Some(text) = params.get_filled(name).filter(|text| *text != "all") {
            conditions.push(format!("{field} = {}", quoted(text)));
        }
    }
    for (name, op) in [("minDuration", ">="), ("maxDuration", "<=")] {
        if let Some(us) = number(params, name)? {
            conditions.push(format!("duration {op} {us}us"));
        }
    }
    let asked = params.get_filled("annotationQuery").unwrap_or("");
    let parts: Vec<&str> = asked
        .split(" and ")
        .map(str::trim)
        .filter(|part| !part.is_empty())
        .collect();
    if parts.len() > MANY_MAX {
        let count = parts.len();
        return Err(ApiError::bad_data(format!(
            "invalid annotationQuery: {count} parts, at most {MANY_MAX}"
        )));
    }
    for part in parts {
        conditions.push(match part.split_once('=') {
            Some((key, value)) => {
                let field = format!(".{}", quoted(key.trim()));
                let value = value.trim();
                let is_value = value.parse::<i64>().is_ok() || value.parse::<bool>().is_ok();
                match is_value {
                    true => format!("({field} = {} || {field} = {value})", quoted(value)),
                    false => format!("{field} = {}", quoted(value)),
                }
            }
            None if part == "error" => "(status = error || .error != nil)".to_owned(),
            None => format!("(.{0} != nil || event:name = {0})", quoted(part)),
        });
    }
    parse(&format!("{{ {} }}", conditions.join(" && ")))
}

/// `GET /zipkin/api/v2/traces`
///
/// # Errors
/// As text.
pub async fn traces(
    State(state): State<AppState>,
    caller: Extracted<Caller>,
    params: Extracted<Params>,
) -> Answer {
    let (caller, params) = (caller?, params?);
    let query = query(&params)?;
    let limit = match number(&params, "limit")? {
        None | Some(0) => LIMIT_DEFAULT,
        Some(limit) => usize::try_from(limit).unwrap_or(usize::MAX),
    };
    if limit > LIMIT_MAX {
        let error = format!("invalid limit: {limit}, at most {LIMIT_MAX}");
        return Err(ApiError::bad_data(error).into());
    }
    let request = SearchRequest {
        range: range(&params)?,
        limit,
        spans_per_spanset: 1,
    };
    let asked = asked(state, caller, &params, "traces");
    let answer = asked.answer(JSON, move |question, writer| {
        let found = search(question.source, question.context, &query, &request)?;
        let ids: Vec<TraceId> = found.traces.iter().map(|trace| trace.trace_id).collect();
        push_traces(question, writer, &ids)
    });
    Ok(answer.await?)
}

/// Writes a list of traces.
fn push_traces(
    question: &Question<'_>,
    writer: &mut Writer,
    ids: &[TraceId],
) -> Result<(), ApiError> {
    writer.out.push('[');
    let mut separator = "";
    question.load(ids, |loaded| {
        for trace in Shown::new(loaded).traces() {
            writer.out.push_str(std::mem::replace(&mut separator, ","));
            wire::push_trace(writer, &trace)?;
        }
        Ok(())
    })?;
    writer.out.push(']');
    Ok(())
}

/// `GET /zipkin/api/v2/trace/{id}`
///
/// # Errors
/// As text: 404 if there is no such trace.
pub async fn trace(
    State(state): State<AppState>,
    Path(id): Path<String>,
    caller: Extracted<Caller>,
    params: Extracted<Params>,
) -> Answer {
    let (caller, params) = (caller?, params?);
    let id = parse_trace_id(&id)?;
    let asked = asked(state, caller, &params, &format!("trace/{id}"));
    let answer = asked.answer(JSON, move |question, writer| {
        let mut is_there = false;
        question.load(&[id], |loaded| {
            for trace in Shown::new(loaded).traces() {
                is_there = true;
                wire::push_trace(writer, &trace)?;
            }
            Ok(())
        })?;
        match is_there {
            true => Ok(()),
            false => Err(ApiError::new(
                ErrorType::NotFound,
                format!("trace {id} not found"),
            )),
        }
    });
    Ok(answer.await?)
}

/// `GET /zipkin/api/v2/traceMany`
///
/// # Errors
/// As text.
pub async fn trace_many(
    State(state): State<AppState>,
    caller: Extracted<Caller>,
    params: Extracted<Params>,
) -> Answer {
    let (caller, params) = (caller?, params?);
    let texts: Vec<&str> = params.get("traceIds").unwrap_or("").split(',').collect();
    if texts.len() > MANY_MAX {
        let error = format!("{} ids, at most {MANY_MAX} can be asked for", texts.len());
        return Err(ApiError::bad_data(error).into());
    }
    let ids = texts.into_iter().map(|text| parse_trace_id(text.trim()));
    let mut ids = ids.collect::<Result<Vec<_>, _>>()?;
    ids.sort_unstable();
    ids.dedup();
    let asked = asked(state, caller, &params, "traceMany");
    let answer = asked.answer(JSON, move |question, writer| {
        push_traces(question, writer, &ids)
    });
    Ok(answer.await?)
}

/// `GET /zipkin/api/v2/dependencies`
///
/// # Errors
/// As text.
pub async fn dependencies(
    State(state): State<AppState>,
    caller: Extracted<Caller>,
    params: Extracted<Params>,
) -> Answer {
    let (caller, params) = (caller?, params?);
    let range = range(&params)?;
    let asked = asked(state, caller, &params, "dependencies");
    let answer = asked.answer(JSON, move |question, writer| {
        let found = edges(question.source, question.context, range)?;
        push_array(&mut writer.out, &found, |out, edge| {
            out.push_str("{\"parent\":");
            push_string(out, &edge.parent);
            out.push_str(",\"child\":");
            push_string(out, &edge.child);
            let _ = write!(out, ",\"callCount\":{}}}", edge.calls);
        });
        Ok(())
    });
    Ok(answer.await?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn searches_become_traceql() {
        for text in [
            "",
            "serviceName=shop&spanName=all&minDuration=100&maxDuration=200",
            "serviceName=a%22b&annotationQuery=error%20and%20http.method%3DGET%20and%20ws%20and%20code%3D200",
        ] {
            let made = query(&Params::parse(text).unwrap());
            assert!(made.is_ok(), "{text}: {}", made.unwrap_err());
        }
        let refused = Params::parse("minDuration=-1").unwrap();
        assert!(query(&refused).unwrap_err().message.contains("minDuration"));
    }
}
