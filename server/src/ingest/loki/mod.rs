//! Loki's push API: `POST /loki/api/v1/push`, and `/api/prom/push` as it was called once.
//!
//! Snappy and protobuf, or JSON, either perhaps in gzip, deflate or zstd. 204 when all is stored; 400
//! in Loki's words when entries were refused (the others are stored, a retry is of no use); 429 for
//! limits. What came before is not stored again: see [`repeats`].

pub mod decode;
pub mod json;
pub mod labels;
pub mod repeats;

use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, StatusCode, header};
use parking_lot::Mutex;

use self::repeats::Begun;
use super::remote_write::declared_length;
use crate::error::{ApiError, ErrorType};
use crate::otlp::decompress::Compression;
use crate::otlp::envelope::{Decoded, read_decompressed};
use crate::request::Caller;
use crate::rows::take::{self, Source};
use crate::rows::{LogSink, Reason, Taken};
use crate::state::{AppState, WriteBudget};
use crate::telemetry::rows::Protocol;

/// Takes a push.
pub async fn push(
    State(state): State<AppState>,
    caller: Result<Caller, ApiError>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    match store(&state, caller, &headers, body).await {
        Ok(()) => StatusCode::NO_CONTENT.into_response(),
        Err(error) => {
            if error.kind == ErrorType::Internal {
                tracing::error!(%error, "cannot store a push");
            }
            error.into_text()
        }
    }
}

/// The form of a body, compression aside.
#[derive(Clone, Copy, PartialEq)]
enum Form {
    /// Protobuf in a snappy block.
    Snappy,
    Json,
}

impl Form {
    fn of(headers: &HeaderMap) -> Result<Self, ApiError> {
        let value = headers.get(header::CONTENT_TYPE);
        let text = value.map_or("", |v| v.to_str().unwrap_or("?"));
        let media = text.split(';').next().unwrap_or("").trim();
        match media.to_ascii_lowercase().as_str() {
            "application/json" => Ok(Self::Json),
            "" | "application/x-protobuf" | "application/octet-stream" => Ok(Self::Snappy),
            _ => Err(ApiError::bad_data(format!(
                "Content-Type {text:?} is not supported: send application/x-protobuf or application/json"
            ))),
        }
    }
}

/// A body, and the memory that it takes once unpacked.
struct Held {
    body: Decoded,
    form: Form,
    message_bytes: usize,
    only: Option<Arc<[u64]>>,
    _budget: WriteBudget,
}

async fn store(
    state: &AppState,
    caller: Result<Caller, ApiError>,
    headers: &HeaderMap,
    body: Body,
) -> Result<(), ApiError> {
    let caller = caller?;
    let form = Form::of(headers)?;
    let settings = state.settings();
    let bytes_max = settings.write_body_max.as_usize();
    let encoding = headers.get(header::CONTENT_ENCODING);
    let encoding = encoding.map_or("", |v| v.to_str().unwrap_or("?"));
    let compression = match encoding {
        // What protobuf always is.
        "snappy" if form == Form::Snappy => Compression::Identity,
        other => Compression::from_header(other).ok_or_else(|| {
            ApiError::bad_data(format!("Content-Encoding {other:?} not supported"))
        })?,
    };
    let timeout = settings.body_timeout;
    let body = read_decompressed(state, headers, body, compression, bytes_max, timeout).await?;
    if body.message().is_empty() {
        return Err(ApiError::bad_data("empty body"));
    }
    let turn = match state.recent_pushes().begin(&caller.tenant, body.message()) {
        Begun::Now(turn) => turn,
        Begun::Stored => {
            let repeated = &state.metrics().rows.repeated_requests;
            repeated.fetch_add(1, Ordering::Relaxed);
            return Ok(());
        }
        Begun::UnderWay => {
            return Err(ApiError::new(
                ErrorType::TooMany,
                "the same push is being stored already, try again later",
            ));
        }
    };
    let message_bytes = match form {
        Form::Snappy => declared_length(body.message(), bytes_max)?,
        // Times and lengths are shorter than their quotes.
        Form::Json => body.message().len(),
    };
    let held = Held {
        form,
        message_bytes,
        only: turn.only(),
        _budget: state.write_budget(message_bytes).await?,
        body,
    };
    let source = Source {
        protocol: Protocol::LokiPush,
        received_bytes: held.body.received_bytes,
        decoded_bytes: message_bytes,
    };
    let over_limit = Arc::new(Mutex::new(Vec::new()));
    let refused_streams = Arc::clone(&over_limit);
    let buffers = state.clone();
    let taken = take::logs(state, caller, source, held, move |held, sink| {
        let mut buffer = buffers.take_buffer();
        let pushed = unpack(held, &mut buffer).and_then(|message| fill(held, message, sink));
        buffers.give_buffer(buffer);
        *refused_streams.lock() = pushed?.over_limit;
        Ok(())
    })
    .await?;
    turn.end(std::mem::take(&mut *over_limit.lock()));
    answer(&taken)
}

fn unpack<'b>(held: &Held, buffer: &'b mut Vec<u8>) -> Result<&'b [u8], ApiError> {
    match held.form {
        Form::Snappy => {
            // What lies in the buffer from before is overwritten, so it need not be cleared.
            if buffer.len() < held.message_bytes {
                buffer.resize(held.message_bytes, 0);
            }
            let length = snap::raw::Decoder::new()
                .decompress(held.body.message(), buffer)
                .map_err(|e| ApiError::bad_data(format!("snappy: {e}")))?;
            Ok(buffer.get(..length).unwrap_or_default())
        }
        Form::Json => {
            buffer.clear();
            json::to_protobuf(held.body.message(), buffer)
                .map_err(|e| ApiError::bad_data(format!("couldn't parse push request: {e}")))?;
            Ok(buffer)
        }
    }
}

fn fill(held: &Held, message: &[u8], sink: &mut LogSink<'_>) -> Result<decode::Pushed, ApiError> {
    let pushed = decode::decode(message, held.only.as_deref(), sink);
    pushed.map_err(|e| ApiError::bad_data(format!("couldn't parse push request: {e}")))
}

/// What the client is told of entries that were refused.
fn answer(taken: &Taken) -> Result<(), ApiError> {
    if taken.rejections.count() == 0 {
        return Ok(());
    }
    let kind = match taken.refused_for(Reason::Streams) {
        0 => ErrorType::BadData,
        _ => ErrorType::TooMany,
    };
    Err(ApiError::new(kind, taken.rejections.message()))
}
