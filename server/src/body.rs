//! Reads request bodies: bounded in size, in time, and in what all of them hold together.

use std::time::Duration;

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, header};
use http_body_util::BodyExt as _;
use tokio::time::Instant;

use crate::error::{ApiError, ErrorType};
use crate::state::{AppState, WriteBudget};

/// Bytes reserved at a time while a body of unknown length comes in.
const STEP_BYTES: usize = 256 << 10;

/// A body and the memory reserved for it.
pub struct HeldBody {
    /// The bytes.
    pub bytes: Bytes,
    _budget: Vec<WriteBudget>,
}

/// Reads a body of at most `bytes_max` bytes within `timeout`, counted against the write budget.
///
/// # Errors
/// 413 when it is larger (at once, when its length is declared), 408 or rather 400 when it does
/// not come in time or breaks off, 429 when the budget is used up.
pub async fn read_held(
    state: &AppState,
    headers: &HeaderMap,
    body: Body,
    bytes_max: usize,
    timeout: Duration,
) -> Result<HeldBody, ApiError> {
    let declared = declared_length(headers);
    if declared.is_some_and(|length| length > bytes_max) {
        return Err(too_large(bytes_max));
    }
    let mut budget = Vec::new();
    let mut reserved = declared.unwrap_or(0);
    if reserved > 0 {
        budget.push(state.write_budget(reserved).await?);
    }
    let deadline = Instant::now() + timeout;
    let mut body = body;
    // What the client declares is accounted for above.
    let mut collected = BytesMut::with_capacity(reserved);
    while let Some(data) = next_data(&mut body, deadline).await? {
        let length = collected.len() + data.len();
        if length > bytes_max {
            return Err(too_large(bytes_max));
        }
        while length > reserved {
            budget.push(state.write_budget(STEP_BYTES).await?);
            reserved += STEP_BYTES;
        }
        collected.extend_from_slice(&data);
    }
    Ok(HeldBody {
        bytes: collected.freeze(),
        _budget: budget,
    })
}

/// Reads a small body: a form, a statement.
///
/// # Errors
/// 413 when it is larger than `bytes_max`, 400 when it does not come in time or breaks off.
pub async fn read_small(
    headers: &HeaderMap,
    body: Body,
    bytes_max: usize,
    timeout: Duration,
) -> Result<Bytes, ApiError> {
    if declared_length(headers).is_some_and(|length| length > bytes_max) {
        return Err(too_large(bytes_max));
    }
    let deadline = Instant::now() + timeout;
    let mut body = body;
    let mut collected = BytesMut::new();
    while let Some(data) = next_data(&mut body, deadline).await? {
        if collected.len() + data.len() > bytes_max {
            return Err(too_large(bytes_max));
        }
        collected.extend_from_slice(&data);
    }
    Ok(collected.freeze())
}

async fn next_data(body: &mut Body, deadline: Instant) -> Result<Option<Bytes>, ApiError> {
    loop {
        let frame = tokio::time::timeout_at(deadline, body.frame()).await;
        let frame = frame.map_err(|_| ApiError::bad_data("the body did not come in time"))?;
        match frame {
            None => return Ok(None),
            Some(Err(error)) => {
                return Err(ApiError::bad_data(format!("cannot read the body: {error}")));
            }
            Some(Ok(frame)) => {
                if let Ok(data) = frame.into_data() {
                    return Ok(Some(data));
                }
            }
        }
    }
}

fn declared_length(headers: &HeaderMap) -> Option<usize> {
    let value = headers.get(header::CONTENT_LENGTH)?;
    value.to_str().ok()?.parse().ok()
}

fn too_large(bytes_max: usize) -> ApiError {
    ApiError::new(
        ErrorType::TooLarge,
        format!("body of more than {bytes_max} bytes"),
    )
}
