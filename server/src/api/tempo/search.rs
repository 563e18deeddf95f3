//! Search by TraceQL, or by tags and durations.

use std::fmt::Write as _;

use axum::extract::State;
use chronolith_query::logql::units::parse_go_duration;
use chronolith_query::traceql;
use chronolith_query::traceql::ast::Query;
use chronolith_query::traces::search::{
    SearchAnswer, SearchRequest, SpansetMatch, TraceMatch, search as find,
};

use super::{Answer, Extracted, asked, count, push_attributes, time_range};
use crate::api::params::Params;
use crate::api::traces::JSON;
use crate::error::ApiError;
use crate::request::Caller;
use crate::rows::ids::to_hex;
use crate::state::AppState;
use crate::wire::json::{push_array, push_string};

const LIMIT_DEFAULT: usize = 20;
const LIMIT_MAX: usize = 10_000;
const SPANS_DEFAULT: usize = 3;
const SPANS_MAX: usize = 10_000;
/// Stands for what a root span would tell, as long as it has not come.
const NO_ROOT: &str = "<root span not yet received>";

/// `GET /tempo/api/search`
///
/// # Errors
/// As Tempo's.
pub async fn search(
    State(state): State<AppState>,
    caller: Extracted<Caller>,
    params: Extracted<Params>,
) -> Answer {
    let (caller, params) = (caller?, params?);
    let query = query(&params)?;
    let request = SearchRequest {
        range: time_range(&params)?,
        limit: match count(&params, "limit", LIMIT_DEFAULT, LIMIT_MAX)? {
            0 => LIMIT_DEFAULT,
            limit => limit,
        },
        spans_per_spanset: count(&params, "spss", SPANS_DEFAULT, SPANS_MAX)?,
    };
    let asked = asked(state, caller, &params, "search");
    let answer = asked.answer(JSON, move |question, writer| {
        let found = find(question.source, question.context, &query, &request)?;
        writer.out = search_text(&found);
        Ok(())
    });
    Ok(answer.await?)
}

/// What a search found, as the API answers it.
#[must_use]
pub fn search_text(found: &SearchAnswer) -> String {
    let mut out = String::from("{\"traces\":");
    push_array(&mut out, &found.traces, push_trace);
    push_metrics(&mut out, found);
    out.push('}');
    out
}

/// The query: `q`, or one made of `tags` and durations.
fn query(params: &Params) -> Result<Query, ApiError> {
    let text = match params.get_filled("q") {
        Some(text) => text.to_owned(),
        None => of_tags(params)?,
    };
    parse(&text)
}

/// Parses TraceQL.
pub(super) fn parse(text: &str) -> Result<Query, ApiError> {
    traceql::parse(text)
        .map_err(|error| ApiError::bad_data(format!("invalid TraceQL query: {error}")))
}

/// What searches said before there was TraceQL: `tags` in logfmt, `minDuration` and `maxDuration` of the
/// trace.
fn of_tags(params: &Params) -> Result<String, ApiError> {
    let mut conditions = Vec::new();
    for (key, value) in logfmt(params.get("tags").unwrap_or(""))? {
        let quoted = quoted(&value);
        let field = match key.as_str() {
            "name" => "name".to_owned(),
            "root.name" => "rootName".to_owned(),
            "root.service.name" => "rootServiceName".to_owned(),
            "status.code" | "status" | "error" => {
                let word = match (key.as_str(), value.as_str()) {
                    ("error", "true") => "error",
                    ("error", "false") => {
                        conditions.push("status != error".to_owned());
                        continue;
                    }
                    (_, word @ ("ok" | "error" | "unset")) => word,
                    _ => {
                        return Err(ApiError::bad_data(format!(
                            "invalid tags: {key}={value}: no such status"
                        )));
                    }
                };
                conditions.push(format!("status = {word}"));
                continue;
            }
            key => format!(".{}", self::quoted(key)),
        };
        // The text may mean a number or a truth value.
        let mut tests = vec![format!("{field} = {quoted}")];
        let is_value = value.parse::<i64>().is_ok() || value.parse::<bool>().is_ok();
        if is_value && field.starts_with('.') {
            tests.push(format!("{field} = {value}"));
        }
        conditions.push(format!("({})", tests.join(" || ")));
    }
    for (name, op) in [("minDuration", ">="), ("maxDuration", "<=")] {
        let Some(text) = params.get_filled(name) else {
            continue;
        };
        let ns = parse_go_duration(text).ok().filter(|ns| *ns >= 0);
        let Some(ns) = ns else {
            let text: String = text.chars().take(100).collect();
            return Err(ApiError::bad_data(format!("invalid {name}: {text:?}")));
        };
        conditions.push(format!("traceDuration {op} {ns}ns"));
    }
    Ok(format!("{{ {} }}", conditions.join(" && ")))
}

/// Text as TraceQL writes it.
fn quoted(text: &str) -> String {
    chronolith_query::traceql::ast::Value::String(text.to_owned()).to_string()
}

/// Pairs of a tag search.
const TAGS_MAX: usize = 100;

/// `key=value key="value with \"quotes\""`.
fn logfmt(text: &str) -> Result<Vec<(String, String)>, ApiError> {
    let refused = |why: &str| Err(ApiError::bad_data(format!("invalid tags: {why}")));
    let mut pairs = Vec::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        if pairs.len() >= TAGS_MAX {
            return refused(&format!("more than {TAGS_MAX} pairs"));
        }
        let Some((key, after)) = rest.split_once('=') else {
            return refused("expected key=value");
        };
        if key.is_empty() || key.contains(char::is_whitespace) || key.contains('"') {
            return refused("expected key=value");
        }
        let (value, next) = match after.strip_prefix('"') {
            None => {
                let end = after.find(char::is_whitespace).unwrap_or(after.len());
                let (value, next) = after.split_at(end);
                (value.to_owned(), next)
            }
            Some(inside) => {
                let mut value = String::new();
                let mut chars = inside.char_indices();
                let end = loop {
                    match chars.next() {
                        Some((at, '"')) => break at + 1,
                        Some((_, '\\')) => value.extend(chars.next().map(|(_, c)| c)),
                        Some((_, c)) => value.push(c),
                        None => return refused("a quote is not closed"),
                    }
                };
                (value, inside.get(end..).unwrap_or(""))
            }
        };
        pairs.push((key.to_owned(), value));
        rest = next.trim_start();
    }
    Ok(pairs)
}

fn push_trace(out: &mut String, trace: &TraceMatch) {
    let id = trace.trace_id.to_string();
    let _ = write!(
        out,
        "{{\"traceID\":\"{}\",\"rootServiceName\":",
        id.trim_start_matches('0')
    );
    push_string(out, trace.root_service.as_deref().unwrap_or(NO_ROOT));
    out.push_str(",\"rootTraceName\":");
    push_string(out, trace.root_name.as_deref().unwrap_or(""));
    let _ = write!(
        out,
        ",\"startTimeUnixNano\":\"{}\",\"durationMs\":{}",
        trace.start_ns,
        trace.duration_ns / 1_000_000
    );
    if let Some(set) = trace.span_sets.first() {
        out.push_str(",\"spanSet\":");
        push_set(out, set);
        out.push_str(",\"spanSets\":");
        push_array(out, &trace.span_sets, push_set);
    }
    out.push_str(",\"serviceStats\":{");
    for (number, service) in trace.services.iter().enumerate() {
        if number > 0 {
            out.push(',');
        }
        push_string(out, &service.service);
        let _ = write!(
            out,
            ":{{\"spanCount\":{},\"errorCount\":{}}}",
            service.span_count, service.error_count
        );
    }
    out.push_str("}}");
}

fn push_set(out: &mut String, set: &SpansetMatch) {
    out.push_str("{\"spans\":");
    push_array(out, &set.spans, |out, span| {
        let _ = write!(out, "{{\"spanID\":\"{}\",\"name\":", to_hex(&span.span_id));
        push_string(out, &span.name);
        let _ = write!(
            out,
            ",\"startTimeUnixNano\":\"{}\",\"durationNanos\":\"{}\",\"attributes\":",
            span.start_ns, span.duration_ns
        );
        push_attributes(out, &span.attributes);
        out.push('}');
    });
    let _ = write!(out, ",\"matched\":{}", set.matched);
    if !set.attributes.is_empty() {
        out.push_str(",\"attributes\":");
        push_attributes(out, &set.attributes);
    }
    out.push('}');
}

fn push_metrics(out: &mut String, found: &SearchAnswer) {
    let _ = write!(
        out,
        ",\"metrics\":{{\"inspectedTraces\":{},\"inspectedSpans\":\"{}\",\"completedJobs\":1,\"totalJobs\":1}}",
        found.inspected_traces, found.inspected_spans
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(text: &str) -> Result<String, String> {
        let params = Params::parse(text).unwrap();
        query(&params)
            .map(|query| query.to_string())
            .map_err(|error| error.message)
    }

    #[test]
    fn tags_become_traceql() {
        for text in [
            "tags=service.name%3Dshop%20http.status%3D200%20root.name%3D%22GET%20%5C%22%2F%22&minDuration=1.5s",
            "tags=error%3Dtrue&maxDuration=20ms",
            "tags=",
            "q=%7B%20name%3D%22a%22%20%7D",
        ] {
            let made = made(text).unwrap();
            assert!(traceql::parse(&made).is_ok(), "{made}");
        }
        let both = made("tags=a%3D1%20name%3D1").unwrap();
        assert!(both.contains(r#"(.a = "1") || (.a = 1)"#), "{both}");
        for (text, words) in [
            ("tags=a", "key=value"),
            ("tags=a%3D%22b", "not closed"),
            ("tags=status%3Dgreen", "no such status"),
            ("minDuration=long", "minDuration"),
            ("q=%7B", "invalid TraceQL"),
        ] {
            let error = made(text).unwrap_err();
            assert!(error.contains(words), "{text}: {error}");
        }
    }
}
