//! Which attributes there are, and what values they have.

use std::collections::BTreeSet;

use axum::extract::{Path, State};
use axum::response::Response;
use chronolith_query::traceql;
use chronolith_query::traceql::ast::{
    Body, Field, FieldName, PosRange, Scope, SpansetExpr, SpansetFilter, Stage, Value,
};
use chronolith_query::traceql::parser::parse_field;
use chronolith_query::traces::listing::{self, ScopedKeys};

use super::{Answer, Extracted, asked, count, plain, time_range};
use crate::api::params::Params;
use crate::api::traces::JSON;
use crate::error::ApiError;
use crate::request::Caller;
use crate::state::AppState;
use crate::wire::json::{push_array, push_string};

/// What every span has, as listed beside attributes.
const INTRINSICS: [&str; 20] = [
    "duration",
    "event:name",
    "event:timeSinceStart",
    "instrumentation:name",
    "instrumentation:version",
    "kind",
    "name",
    "rootName",
    "rootServiceName",
    "span:duration",
    "span:kind",
    "span:name",
    "span:status",
    "span:statusMessage",
    "status",
    "statusMessage",
    "trace:duration",
    "trace:rootName",
    "trace:rootService",
    "traceDuration",
];
const INTRINSIC: &str = "intrinsic";
/// Scopes in the order of the answer.
const SCOPES: [&str; 5] = ["event", "instrumentation", "link", "resource", "span"];

/// The first filter of a query; what is no query narrows nothing, since it is sent while being typed.
fn filter(params: &Params) -> Option<SpansetFilter> {
    let query = traceql::parse(params.get_filled("q")?).ok()?;
    let Body::Search(pipeline) = query.body else {
        return None;
    };
    match pipeline.stages.into_iter().next() {
        Some(Stage::Spansets(SpansetExpr::Filter(filter))) => Some(filter),
        _ => None,
    }
}

/// The tags that are asked for, by scope.
async fn listed(
    state: AppState,
    caller: Caller,
    params: &Params,
    write: impl FnOnce(&mut String, Vec<(&'static str, Vec<String>)>) + Send + 'static,
) -> Result<Response, ApiError> {
    let scope = match params.get_filled("scope") {
        None | Some("none") => None,
        Some(INTRINSIC) => Some(INTRINSIC),
        Some(text) => match SCOPES.iter().find(|scope| **scope == text) {
            Some(scope) => Some(*scope),
            None => {
                let text: String = text.chars().take(100).collect();
                return Err(ApiError::bad_data(format!("invalid scope: {text}")));
            }
        },
    };
    let limit = limit(params)?;
    let (range, filter) = (time_range(params)?, filter(params));
    let asked = asked(state, caller, params, "search/tags");
    let answer = asked.answer(JSON, move |question, writer| {
        let found = match scope {
            Some(INTRINSIC) => ScopedKeys::new(),
            _ => {
                listing::attribute_keys(question.source, question.context, range, filter.as_ref())?
            }
        };
        let mut scopes: Vec<(&'static str, Vec<String>)> = SCOPES
            .iter()
            .filter(|name| scope.is_none_or(|scope| scope == **name))
            .filter_map(|name| {
                let keys = found.get(name)?.iter().take(limit).cloned().collect();
                Some((*name, keys))
            })
            .collect();
        if scope.is_none_or(|scope| scope == INTRINSIC) {
            let words = INTRINSICS.iter().map(|word| (*word).to_owned());
            scopes.push((INTRINSIC, words.take(limit).collect()));
        }
        write(&mut writer.out, scopes);
        Ok(())
    });
    answer.await
}

/// How many of each; 0 means all.
fn limit(params: &Params) -> Result<usize, ApiError> {
    Ok(match count(params, "limit", 0, usize::MAX)? {
        0 => usize::MAX,
        limit => limit,
    })
}

/// `GET /tempo/api/search/tags`
///
/// # Errors
/// As Tempo's.
pub async fn tags(
    State(state): State<AppState>,
    caller: Extracted<Caller>,
    params: Extracted<Params>,
) -> Answer {
    let (caller, params) = (caller?, params?);
    let answer = listed(state, caller, &params, |out, scopes| {
        let names: BTreeSet<String> = scopes.into_iter().flat_map(|(_, names)| names).collect();
        out.push_str("{\"tagNames\":");
        push_array(out, &names, |out, name| push_string(out, name));
        out.push('}');
    });
    Ok(answer.await?)
}

/// `GET /tempo/api/v2/search/tags`
///
/// # Errors
/// As Tempo's.
pub async fn scoped_tags(
    State(state): State<AppState>,
    caller: Extracted<Caller>,
    params: Extracted<Params>,
) -> Answer {
    let (caller, params) = (caller?, params?);
    let answer = listed(state, caller, &params, |out, scopes| {
        out.push_str("{\"scopes\":");
        push_array(out, &scopes, |out, (scope, names)| {
            out.push_str("{\"name\":");
            push_string(out, scope);
            out.push_str(",\"tags\":");
            push_array(out, names, |out, name| push_string(out, name));
            out.push('}');
        });
        out.push('}');
    });
    Ok(answer.await?)
}

/// The values of a field, `limit` of them.
async fn values_of(
    state: AppState,
    caller: Caller,
    params: &Params,
    (tag, field): (&str, Field),
    write: impl FnOnce(&mut String, &[Value]) + Send + 'static,
) -> Result<Response, ApiError> {
    let limit = limit(params)?;
    let (range, filter) = (time_range(params)?, filter(params));
    let asked = asked(state, caller, params, &format!("search/tag/{tag}/values"));
    let answer = asked.answer(JSON, move |question, writer| {
        let (source, context) = (question.source, question.context);
        let mut found = listing::values(source, context, range, filter.as_ref(), &field)?;
        found.truncate(limit);
        write(&mut writer.out, &found);
        Ok(())
    });
    answer.await
}

/// `GET /tempo/api/search/tag/{tag}/values`: a tag is a key without its scope.
///
/// # Errors
/// As Tempo's.
pub async fn values(
    State(state): State<AppState>,
    Path(tag): Path<String>,
    caller: Extracted<Caller>,
    params: Extracted<Params>,
) -> Answer {
    let (caller, params) = (caller?, params?);
    let (scope, pos) = (Scope::Any, PosRange::default());
    let field = match INTRINSICS.contains(&tag.as_str()) {
        true => field(&tag)?,
        false => Field {
            name: FieldName::Attribute {
                scope,
                key: tag.clone(),
            },
            of_parent: false,
            pos,
        },
    };
    let answer = values_of(state, caller, &params, (&tag, field), |out, values| {
        let texts: BTreeSet<String> = values.iter().map(plain).collect();
        out.push_str("{\"tagValues\":");
        push_array(out, &texts, |out, text| push_string(out, text));
        out.push('}');
    });
    Ok(answer.await?)
}

fn field(tag: &str) -> Result<Field, ApiError> {
    let field = parse_field(tag);
    let field =
        field.map_err(|error| ApiError::bad_data(format!("tag name is not valid: {error}")))?;
    match field.of_parent {
        true => Err(ApiError::bad_data(format!("tag name is not valid: {tag}"))),
        false => Ok(field),
    }
}

/// `GET /tempo/api/v2/search/tag/{tag}/values`: a tag is a field of TraceQL.
///
/// # Errors
/// As Tempo's.
pub async fn scoped_values(
    State(state): State<AppState>,
    Path(tag): Path<String>,
    caller: Extracted<Caller>,
    params: Extracted<Params>,
) -> Answer {
    let (caller, params) = (caller?, params?);
    let field = field(&tag)?;
    let answer = values_of(state, caller, &params, (&tag, field), |out, values| {
        out.push_str("{\"tagValues\":");
        push_array(out, values, |out, value| {
            let kind = match value {
                Value::Nil | Value::String(_) => "string",
                Value::Int(_) => "int",
                Value::Float(_) => "float",
                Value::Bool(_) => "bool",
                Value::Duration(_) => "duration",
                Value::Status(_) | Value::Kind(_) => "keyword",
            };
            out.push_str("{\"type\":\"");
            out.push_str(kind);
            out.push_str("\",\"value\":");
            push_string(out, &plain(value));
            out.push('}');
        });
        out.push('}');
    });
    Ok(answer.await?)
}
