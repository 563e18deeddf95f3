//! `GET /api/v1/traces/{id}`: what a trace waited for. Its spans as a tree, what each did itself, and the
//! critical path.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use axum::extract::{Path, State};
use axum::response::Response;
use chronolith_engine::model::SpanStatus;
use chronolith_query::traceql::display::{kind_word, status_word};
use chronolith_query::traces::critical_path::{critical_path, self_times};

use super::view::{Shown, ShownSpan, ShownTrace};
use super::{Asked, JSON, Writer, parse_trace_id};
use crate::error::{ApiError, ErrorType};
use crate::request::Caller;
use crate::state::AppState;
use crate::wire::json::{push_array, push_string};

/// `GET /api/v1/traces/{id}`
///
/// # Errors
/// An id that is none; 404 if there is no such trace.
pub async fn detail(
    State(state): State<AppState>,
    Path(id): Path<String>,
    caller: Caller,
) -> Result<Response, ApiError> {
    let id = parse_trace_id(&id)?;
    let asked = Asked::new(state, caller, "trace", format!("traces/{id}"));
    let answer = asked.answer(JSON, move |question, writer| {
        let mut is_there = false;
        question.load(&[id], |loaded| {
            for trace in Shown::new(loaded).traces() {
                is_there = true;
                push_trace(writer, &trace)?;
            }
            Ok(())
        })?;
        match is_there {
            true => Ok(()),
            false => Err(ApiError::new(
                ErrorType::NotFound,
                format!("there is no trace {id}"),
            )),
        }
    });
    answer.await
}

/// What a service did in a trace.
#[derive(Default)]
struct OfService {
    spans: usize,
    errors: usize,
    self_ns: i64,
    path_ns: i64,
}

fn push_trace(writer: &mut Writer, trace: &ShownTrace<'_>) -> Result<(), ApiError> {
    let tree = trace.tree();
    let own = self_times(tree);
    let path = critical_path(tree);
    let mut on_path = vec![0_i64; tree.len()];
    for piece in &path {
        if let Some(ns) = on_path.get_mut(piece.span as usize) {
            *ns = ns.saturating_add(piece.end_ns.saturating_sub(piece.start_ns));
        }
    }
    let figure = |figures: &[i64], place: u32| figures.get(place as usize).copied().unwrap_or(0);
    let mut services: BTreeMap<&str, OfService> = BTreeMap::new();
    for span in trace.spans() {
        let of = services.entry(span.service().unwrap_or("")).or_default();
        of.spans += 1;
        of.errors += usize::from(span.status() == SpanStatus::Error);
        of.self_ns = of.self_ns.saturating_add(figure(&own, span.place));
        of.path_ns = of.path_ns.saturating_add(figure(&on_path, span.place));
    }
    let out = &mut writer.out;
    let id = trace.id();
    let _ = write!(
        out,
        "{{\"status\":\"success\",\"data\":{{\"traceID\":\"{id}\""
    );
    for (key, text) in [
        ("rootService", trace.root_service()),
        ("rootName", trace.root_name()),
    ] {
        let _ = write!(out, ",\"{key}\":");
        push_string(out, text.unwrap_or(""));
    }
    let _ = write!(
        out,
        ",\"startTimeUnixNano\":\"{}\",\"durationNano\":{},\"spanCount\":{},\"services\":",
        tree.start_ns(),
        tree.duration_ns(),
        tree.len()
    );
    push_array(out, &services, |out, (name, of)| {
        out.push_str("{\"service\":");
        push_string(out, name);
        let _ = write!(
            out,
            ",\"spanCount\":{},\"errorCount\":{},\"selfTimeNano\":{},\"criticalPathNano\":{}}}",
            of.spans, of.errors, of.self_ns, of.path_ns
        );
    });
    out.push_str(",\"criticalPath\":[");
    let mut separator = "";
    for piece in &path {
        let Some(span) = trace.span(piece.span) else {
            continue;
        };
        writer.out.push_str(std::mem::replace(&mut separator, ","));
        push_names(&mut writer.out, &span);
        let _ = write!(
            writer.out,
            ",\"startTimeUnixNano\":\"{}\",\"durationNano\":{}}}",
            piece.start_ns,
            piece.end_ns.saturating_sub(piece.start_ns)
        );
        writer.breathe()?;
    }
    writer.out.push_str("],\"spans\":[");
    separator = "";
    let mut depths = vec![0_u32; tree.len()];
    // Parents come before their children.
    for place in tree.preorder() {
        let Some(span) = trace.span(*place) else {
            continue;
        };
        let depth = tree.parent(*place).map_or(0, |parent| {
            depths.get(parent as usize).map_or(0, |depth| depth + 1)
        });
        if let Some(own) = depths.get_mut(*place as usize) {
            *own = depth;
        }
        writer.out.push_str(std::mem::replace(&mut separator, ","));
        push_names(&mut writer.out, &span);
        push_span(&mut writer.out, &span, depth);
        let _ = write!(
            writer.out,
            ",\"selfTimeNano\":{},\"criticalPathNano\":{}}}",
            figure(&own, *place),
            figure(&on_path, *place)
        );
        writer.breathe()?;
    }
    writer.out.push_str("]}}");
    Ok(())
}

fn push_names(out: &mut String, span: &ShownSpan<'_>) {
    let _ = write!(out, "{{\"spanID\":\"{}\",\"service\":", span.id());
    push_string(out, span.service().unwrap_or(""));
    out.push_str(",\"name\":");
    push_string(out, span.name());
}

fn push_span(out: &mut String, span: &ShownSpan<'_>, depth: u32) {
    if let Some(parent) = span.tree.parent_id {
        let parent = chronolith_engine::model::SpanId(parent);
        let _ = write!(out, ",\"parentSpanID\":\"{parent}\"");
    }
    let _ = write!(
        out,
        ",\"depth\":{depth},\"kind\":\"{}\",\"status\":\"{}\",\"startTimeUnixNano\":\"{}\",\"durationNano\":{}",
        kind_word(span.tree.kind),
        status_word(span.status()),
        span.tree.start_ns,
        span.tree.duration_ns
    );
}
