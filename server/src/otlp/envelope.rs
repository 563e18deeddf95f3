//! What all signals of OTLP have in common: how a body comes in, how an answer goes out.
//!
//! A body is protobuf or JSON, perhaps compressed, of bounded size before and after. Whatever its
//! form, a signal gets protobuf. Answers and errors (`google.rpc.Status`) go out in the form in which
//! the request came. What a client may try again answers 429 or 503 with `Retry-After`; a 400 means
//! never. Memory for all of it is reserved from the budget that all writes share.

use std::time::Duration;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderValue, StatusCode, header};

use super::decompress::{Compression, Decompressed};
use super::grpc::FRAME_HEAD_BYTES;
use super::json::schema::{self, Message};
use super::json::{JsonError, from_protobuf, to_protobuf};
use crate::body::{HeldBody, read_held};
use crate::error::{ApiError, ErrorType, RETRY_AFTER_SECONDS};
use crate::state::{AppState, WriteBudget};
use crate::wire::protobuf::{push_bytes, push_number};

/// JSON becomes at most so many times larger as protobuf: `0,` is a double of nine bytes.
const JSON_EXPANSION_MAX: usize = 5;

/// The form of a request, and of its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// `application/x-protobuf`
    Protobuf,
    /// `application/json`
    Json,
}

impl Encoding {
    /// From the `Content-Type` of a request.
    ///
    /// # Errors
    /// 415 for another one, or none.
    pub fn of(headers: &HeaderMap) -> Result<Self, ApiError> {
        let value = headers.get(header::CONTENT_TYPE);
        let text = value.map_or("", |v| v.to_str().unwrap_or("?"));
        let media = text.split(';').next().unwrap_or("").trim();
        if media.eq_ignore_ascii_case("application/x-protobuf") {
            Ok(Self::Protobuf)
        } else if media.eq_ignore_ascii_case("application/json") {
            Ok(Self::Json)
        } else {
            Err(ApiError::new(
                ErrorType::UnsupportedMedia,
                format!(
                    "unsupported content type {text:?}, supported: application/x-protobuf, application/json"
                ),
            ))
        }
    }

    fn content_type(self) -> HeaderValue {
        HeaderValue::from_static(match self {
            Self::Protobuf => "application/x-protobuf",
            Self::Json => "application/json",
        })
    }

    /// Sends a message that is written as protobuf.
    #[must_use]
    pub fn answer(self, status: StatusCode, message: Vec<u8>, table: &'static Message) -> Response {
        let body = match self {
            Self::Protobuf => Body::from(message),
            Self::Json => Body::from(from_protobuf(&message, table)),
        };
        let mut response = (status, body).into_response();
        let content_type = self.content_type();
        response
            .headers_mut()
            .insert(header::CONTENT_TYPE, content_type);
        response
    }

    /// Sends an error as a `google.rpc.Status`.
    #[must_use]
    pub fn error(self, error: &ApiError) -> Response {
        let mut status = Vec::new();
        push_number(&mut status, 1, rpc_code(error.kind).into());
        push_bytes(&mut status, 2, error.message.as_bytes());
        let mut response = self.answer(error.kind.status(), status, schema::status());
        if may_be_retried(error.kind) {
            let seconds = HeaderValue::from(RETRY_AFTER_SECONDS);
            response.headers_mut().insert(header::RETRY_AFTER, seconds);
        }
        response
    }
}

pub(super) fn may_be_retried(kind: ErrorType) -> bool {
    matches!(
        kind,
        ErrorType::TooMany | ErrorType::Unavailable | ErrorType::Timeout
    )
}

/// The code of `google.rpc.Code`.
pub(super) fn rpc_code(kind: ErrorType) -> u8 {
    match kind {
        ErrorType::Canceled => 1,
        ErrorType::Timeout => 4,
        ErrorType::NotFound => 5,
        ErrorType::Forbidden => 7,
        ErrorType::TooMany => 8,
        ErrorType::MethodNotAllowed => 12,
        ErrorType::Internal => 13,
        ErrorType::Unavailable => 14,
        ErrorType::BadData
        | ErrorType::TooLarge
        | ErrorType::UnsupportedMedia
        | ErrorType::Execution => 3,
    }
}

/// A request as protobuf, and the memory reserved for it.
pub struct Decoded {
    body: HeldBody,
    /// Empty where the body is the message.
    buffer: Vec<u8>,
    is_body: bool,
    _budget: Vec<WriteBudget>,
    /// Bytes as they came.
    pub received_bytes: usize,
}

impl Decoded {
    /// The message.
    #[must_use]
    pub fn message(&self) -> &[u8] {
        match self.is_body {
            true => &self.body.bytes,
            false => &self.buffer,
        }
    }
}

/// Reads a body that may have `bytes_max` bytes, compressed and decompressed, as the message `table`.
///
/// # Errors
/// 400 for bytes that are not what they should be, 413, 415 for an unknown compression, 429 when
/// too much is in flight.
pub async fn decode(
    state: &AppState,
    headers: &HeaderMap,
    body: Body,
    encoding: Encoding,
    table: &'static Message,
    bytes_max: usize,
    timeout: Duration,
) -> Result<Decoded, ApiError> {
    let compression = compression(headers)?;
    let mut decoded =
        read_decompressed(state, headers, body, compression, bytes_max, timeout).await?;
    if encoding == Encoding::Json {
        decoded = rewrite(state, decoded, table, bytes_max).await?;
    }
    Ok(decoded)
}

/// Reads a body that may have `bytes_max` bytes, compressed and decompressed.
///
/// # Errors
/// As [`decode`].
pub async fn read_decompressed(
    state: &AppState,
    headers: &HeaderMap,
    body: Body,
    compression: Compression,
    bytes_max: usize,
    timeout: Duration,
) -> Result<Decoded, ApiError> {
    let body = read_held(state, headers, body, bytes_max, timeout).await?;
    let received_bytes = body.bytes.len();
    let decoded = Decoded {
        body,
        buffer: Vec::new(),
        is_body: true,
        _budget: Vec::new(),
        received_bytes,
    };
    match compression {
        Compression::Identity => Ok(decoded),
        _ => decompress(state, decoded, compression, bytes_max).await,
    }
}

/// Reads a gRPC frame with one message, which may have `bytes_max` bytes, compressed and
/// decompressed.
///
/// # Errors
/// As [`decode`].
pub async fn decode_frame(
    state: &AppState,
    headers: &HeaderMap,
    body: Body,
    bytes_max: usize,
    timeout: Duration,
) -> Result<Decoded, ApiError> {
    let frame_bytes_max = bytes_max.saturating_add(FRAME_HEAD_BYTES);
    let mut body = read_held(state, headers, body, frame_bytes_max, timeout).await?;
    let received_bytes = body.bytes.len();
    let refuse = || ApiError::bad_data("gRPC: the body is not a frame of one message");
    let Some((&[flag, a, b, c, d], message)) = body.bytes.split_first_chunk() else {
        return Err(refuse());
    };
    if u32::from_be_bytes([a, b, c, d]) as usize != message.len() {
        return Err(refuse());
    }
    let encoding = headers.get("grpc-encoding");
    let encoding = encoding.map_or("", |v| v.to_str().unwrap_or("?"));
    let compression = match flag {
        0 => Compression::Identity,
        _ => Compression::from_header(encoding)
            .filter(|compression| *compression != Compression::Identity)
            .ok_or_else(|| {
                ApiError::bad_data(format!(
                    "unsupported grpc-encoding {encoding:?}, supported: gzip, deflate, zstd"
                ))
            })?,
    };
    body.bytes = body.bytes.slice(FRAME_HEAD_BYTES..);
    let decoded = Decoded {
        body,
        buffer: Vec::new(),
        is_body: true,
        _budget: Vec::new(),
        received_bytes,
    };
    match compression {
        Compression::Identity => Ok(decoded),
        _ => decompress(state, decoded, compression, bytes_max).await,
    }
}

fn compression(headers: &HeaderMap) -> Result<Compression, ApiError> {
    let value = headers.get(header::CONTENT_ENCODING);
    let text = value.map_or("", |v| v.to_str().unwrap_or("?"));
    Compression::from_header(text).ok_or_else(|| {
        ApiError::new(
            ErrorType::UnsupportedMedia,
            format!("unsupported compression {text:?}, supported: gzip, deflate, zstd, identity"),
        )
    })
}

/// Reserves what the body says that it needs; a body that lies is decompressed once more, with room
/// for the largest.
async fn decompress(
    state: &AppState,
    mut decoded: Decoded,
    compression: Compression,
    bytes_max: usize,
) -> Result<Decoded, ApiError> {
    let expected = compression.expected_bytes(&decoded.body.bytes);
    let mut room = expected.clamp(1, bytes_max);
    loop {
        let budget = state.write_budget(room).await?;
        let (again, outcome) = state
            .blocking(move |_| {
                decoded.buffer.clear();
                let outcome =
                    compression.decompress(&decoded.body.bytes, &mut decoded.buffer, room);
                Ok((decoded, outcome))
            })
            .await?;
        decoded = again;
        match outcome {
            Err(error) => {
                return Err(ApiError::bad_data(format!(
                    "cannot decompress the body: {error}"
                )));
            }
            Ok(Decompressed::Whole) => {
                decoded._budget.push(budget);
                decoded.is_body = false;
                return Ok(decoded);
            }
            Ok(Decompressed::TooLarge) if room < bytes_max => room = bytes_max,
            Ok(Decompressed::TooLarge) => return Err(too_large(bytes_max)),
        }
    }
}

async fn rewrite(
    state: &AppState,
    mut decoded: Decoded,
    table: &'static Message,
    bytes_max: usize,
) -> Result<Decoded, ApiError> {
    let room = decoded.message().len().saturating_mul(JSON_EXPANSION_MAX);
    decoded
        ._budget
        .push(state.write_budget(room.clamp(1, bytes_max)).await?);
    state
        .blocking(move |_| {
            let mut message = Vec::new();
            to_protobuf(decoded.message(), table, &mut message, bytes_max).map_err(|error| {
                match error {
                    JsonError::Text(_) => ApiError::bad_data(format!("JSON: {error}")),
                    JsonError::TooLarge(_) => too_large(bytes_max),
                }
            })?;
            decoded.buffer = message;
            decoded.is_body = false;
            Ok(decoded)
        })
        .await
}

fn too_large(bytes_max: usize) -> ApiError {
    ApiError::new(
        ErrorType::TooLarge,
        format!("body of more than {bytes_max} bytes after decompression"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_encoding_follows_from_the_content_type() {
        let of = |value: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(value));
            Encoding::of(&headers).map_err(|e| e.kind.status().as_u16())
        };
        assert_eq!(of("application/x-protobuf"), Ok(Encoding::Protobuf));
        assert_eq!(of("Application/JSON; charset=utf-8"), Ok(Encoding::Json));
        assert_eq!(of("text/plain"), Err(415));
        assert!(Encoding::of(&HeaderMap::new()).is_err());
    }

    #[test]
    fn what_may_be_retried_says_when() {
        for (kind, status, retry) in [
            (ErrorType::BadData, 400, false),
            (ErrorType::TooLarge, 413, false),
            (ErrorType::TooMany, 429, true),
            (ErrorType::Unavailable, 503, true),
        ] {
            let response = Encoding::Json.error(&ApiError::new(kind, "x"));
            assert_eq!(response.status().as_u16(), status);
            assert_eq!(response.headers().contains_key(header::RETRY_AFTER), retry);
        }
    }
}
