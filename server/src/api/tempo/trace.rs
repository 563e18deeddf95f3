//! A trace by its id.

use axum::extract::{Path, State};
use axum::response::Response;
use bytes::Bytes;
use http::{HeaderMap, header};

use super::{Answer, Extracted, asked};
use crate::api::params::Params;
use crate::api::traces::otlp::{JsonStyle, push_json, to_protobuf};
use crate::api::traces::view::Shown;
use crate::api::traces::{JSON, parse_trace_id};
use crate::error::{ApiError, ErrorType};
use crate::request::Caller;
use crate::state::AppState;
use crate::wire::protobuf::push_bytes;

const PROTOBUF: &str = "application/protobuf";

/// The two versions of the answer.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Version {
    /// The trace, its parts called `batches`.
    One,
    /// The trace inside of a message that could also say that it is not whole.
    Two,
}

/// `GET /tempo/api/traces/{id}`
///
/// # Errors
/// As Tempo's: 404 if there is no such trace.
pub async fn trace(
    State(state): State<AppState>,
    Path(id): Path<String>,
    headers: HeaderMap,
    caller: Extracted<Caller>,
    params: Extracted<Params>,
) -> Answer {
    let (caller, params) = (caller?, params?);
    Ok(answer(state, &id, &headers, caller, &params, Version::One).await?)
}

/// `GET /tempo/api/v2/traces/{id}`
///
/// # Errors
/// As Tempo's: 404 if there is no such trace.
pub async fn trace_v2(
    State(state): State<AppState>,
    Path(id): Path<String>,
    headers: HeaderMap,
    caller: Extracted<Caller>,
    params: Extracted<Params>,
) -> Answer {
    let (caller, params) = (caller?, params?);
    Ok(answer(state, &id, &headers, caller, &params, Version::Two).await?)
}

fn wants_protobuf(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(header::ACCEPT).iter();
    accepted
        .filter_map(|value| value.to_str().ok())
        .any(|value| value.to_ascii_lowercase().contains(PROTOBUF))
}

async fn answer(
    state: AppState,
    id: &str,
    headers: &HeaderMap,
    caller: Caller,
    params: &Params,
    version: Version,
) -> Result<Response, ApiError> {
    let id = parse_trace_id(id)?;
    // A trace is looked for whenever it was; what is no time is refused nevertheless.
    super::time_range(params)?;
    let is_protobuf = wants_protobuf(headers);
    let content_type = if is_protobuf { PROTOBUF } else { JSON };
    let asked = asked(state, caller, params, &format!("traces/{id}"));
    let answer = asked.answer(content_type, move |question, writer| {
        let mut is_there = false;
        question.load(&[id], |loaded| {
            for trace in Shown::new(loaded).traces() {
                is_there = true;
                if is_protobuf {
                    let mut message = to_protobuf(&trace);
                    if version == Version::Two {
                        let trace = std::mem::take(&mut message);
                        push_bytes(&mut message, 1, &trace);
                    }
                    writer.send(Bytes::from(message))?;
                    continue;
                }
                let (head, tail) = match version {
                    Version::One => ("{\"batches\":[", "]}"),
                    Version::Two => (
                        "{\"trace\":{\"resourceSpans\":[",
                        "]},\"metrics\":{},\"status\":\"COMPLETE\"}",
                    ),
                };
                writer.out.push_str(head);
                push_json(writer, &trace, JsonStyle::Canonical, &mut true)?;
                writer.out.push_str(tail);
            }
            Ok(())
        })?;
        match is_there {
            true => Ok(()),
            false => Err(ApiError::new(ErrorType::NotFound, "trace not found")),
        }
    });
    answer.await
}
