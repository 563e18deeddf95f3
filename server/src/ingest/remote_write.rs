//! `POST /api/v1/write`: Prometheus remote write, 1.0 and 2.0.
//!
//! A request passes through: headers, size limits, snappy into a reused buffer, one append, one
//! durable commit. Nothing is allocated by a length that the client declares before it is held
//! against the limits. A repeated request stores nothing twice: (series, time) is the identity of
//! a sample, so retries are harmless.

use std::sync::atomic::Ordering;
use std::time::Instant;

use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use chronolith_engine::{EngineError, RequestContext};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use tokio::sync::oneshot;

use super::append::{Counts, Refusal, TimeLimits, prepare_v1, prepare_v2};
use super::write_request::Version;
use crate::body::read_held;
use crate::error::{ApiError, ErrorType};
use crate::request::Caller;
use crate::state::AppState;
use crate::telemetry::now_ms;

/// A snappy block cannot expand more than this: the densest copy makes 64 bytes of 3.
const SNAPPY_EXPANSION_MAX: usize = 22;

/// Takes a write.
pub async fn write(
    State(state): State<AppState>,
    caller: Caller,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let version = match version(&headers) {
        Ok(version) => version,
        Err(error) => return error.into_text(),
    };
    let mut counts = Counts::default();
    let result = store(&state, caller, &headers, body, version, &mut counts).await;
    let mut response = match result {
        Ok(None) => StatusCode::NO_CONTENT.into_response(),
        Ok(Some(left_out)) => ApiError::bad_data(left_out).into_text(),
        Err(error) => {
            if error.kind == ErrorType::Internal {
                tracing::error!(%error, "cannot store a write");
            }
            error.into_text()
        }
    };
    if version == Version::V2 {
        add_written_headers(&mut response, counts);
    }
    response
}

fn add_written_headers(response: &mut Response, counts: Counts) {
    let written = [
        ("x-prometheus-remote-write-samples-written", counts.samples),
        (
            "x-prometheus-remote-write-histograms-written",
            counts.histograms,
        ),
        (
            "x-prometheus-remote-write-exemplars-written",
            counts.exemplars,
        ),
    ];
    for (name, count) in written {
        let value = HeaderValue::from(count);
        response.headers_mut().insert(name, value);
    }
}

/// Finds out which message this is.
fn version(headers: &HeaderMap) -> Result<Version, ApiError> {
    let unsupported = |what: String| Err(ApiError::new(ErrorType::UnsupportedMedia, what));
    let text = |name| {
        headers
            .get(name)
            .map(|v: &HeaderValue| v.to_str().unwrap_or("?"))
    };
    match text(header::CONTENT_ENCODING) {
        // Writers older than the specification send no encoding and mean snappy.
        None | Some("" | "snappy") => {}
        Some(other) => {
            return unsupported(format!(
                "{other} encoding (compression) is not accepted by this server; only snappy is acceptable"
            ));
        }
    }
    let content_type = text(header::CONTENT_TYPE).unwrap_or("application/x-protobuf");
    let mut parts = content_type.split(';').map(str::trim);
    if !parts
        .next()
        .is_some_and(|t| t.eq_ignore_ascii_case("application/x-protobuf"))
    {
        return unsupported(format!(
            "expected application/x-protobuf as the first (media) part, got {content_type} content-type"
        ));
    }
    let proto = parts.find_map(|part| part.strip_prefix("proto="));
    match proto {
        None | Some("prometheus.WriteRequest") => Ok(Version::V1),
        Some("io.prometheus.write.v2.Request") => Ok(Version::V2),
        Some(other) => unsupported(format!(
            "unknown remote write protobuf message {other}, expected prometheus.WriteRequest or io.prometheus.write.v2.Request"
        )),
    }
}

/// Reads, decodes and commits. Answers what was left out, if anything was. New series beyond the
/// tenant's limits are an error (429) although the others are stored: the sender has to hear of it.
async fn store(
    state: &AppState,
    caller: Caller,
    headers: &HeaderMap,
    body: Body,
    version: Version,
    counts: &mut Counts,
) -> Result<Option<String>, ApiError> {
    let settings = state.settings();
    let bytes_max = settings.write_body_max.as_usize();
    let body = read_held(state, headers, body, bytes_max, settings.body_timeout).await?;
    if state.is_stopping() {
        return Err(ApiError::new(
            ErrorType::Unavailable,
            "the server is stopping",
        ));
    }
    let metrics = state.metrics();
    let received = body.bytes.len() as u64;
    metrics
        .ingest_received_bytes
        .fetch_add(received, Ordering::Relaxed);
    let decoded_length = declared_length(&body.bytes, bytes_max)?;
    let _decoded_budget = state.write_budget(decoded_length).await?;

    let (context, _cancel) = state.context(
        caller.tenant,
        caller.principal.as_ref(),
        settings.body_timeout,
    );
    let latest_ms = now_ms()
        .saturating_add(i64::try_from(settings.write_future_max.as_millis()).unwrap_or(i64::MAX));
    let began = Instant::now();
    let (done, committed) = oneshot::channel();
    let prepared = state
        .blocking(move |state| {
            let mut buffer = state.take_buffer();
            let result = submit(
                state,
                &context,
                &body.bytes,
                decoded_length,
                &mut buffer,
                version,
                TimeLimits { latest_ms },
                done,
            );
            state.give_buffer(buffer);
            result
        })
        .await?;
    let committed = committed
        .await
        .map_err(|_| ApiError::internal("the store dropped a commit"))?;
    committed?;
    metrics.commit_duration.observe(began.elapsed());
    let (stored, left_out, over_limit) = prepared;
    *counts = stored;
    let figures = [
        (&metrics.ingest_samples, stored.samples),
        (&metrics.ingest_histograms, stored.histograms),
        (&metrics.ingest_exemplars, stored.exemplars),
        (&metrics.ingest_series_invalid, stored.series_invalid),
        (&metrics.ingest_series_over_limit, stored.series_over_limit),
        (&metrics.ingest_decoded_bytes, decoded_length as u64),
    ];
    for (counter, more) in figures {
        counter.fetch_add(more, Ordering::Relaxed);
    }
    if let Some(reason) = over_limit {
        let refused = stored.series_over_limit;
        let message =
            format!("{reason}; {refused} new series were left out, the others are stored");
        return Err(ApiError::new(ErrorType::TooMany, message));
    }
    Ok(left_out)
}

type Done = oneshot::Sender<Result<(), EngineError>>;

#[expect(clippy::too_many_arguments, reason = "one call, kept flat")]
fn submit(
    state: &AppState,
    context: &RequestContext,
    compressed: &[u8],
    decoded_length: usize,
    buffer: &mut Vec<u8>,
    version: Version,
    times: TimeLimits,
    done: Done,
) -> Result<(Counts, Option<String>, Option<String>), ApiError> {
    // What lies in the buffer from before is overwritten, so it need not be cleared.
    if buffer.len() < decoded_length {
        buffer.resize(decoded_length, 0);
    }
    let length = snap::raw::Decoder::new()
        .decompress(compressed, buffer)
        .map_err(|e| ApiError::bad_data(format!("snappy: {e}")))?;
    let message = buffer.get(..length).unwrap_or_default();
    let prepared = match version {
        Version::V1 => prepare_v1(state.store(), context, message, times),
        Version::V2 => prepare_v2(state.store(), context, message, times),
    }?;
    let outcome = (prepared.counts, prepared.left_out, prepared.over_limit);
    prepared.append.submit(move |result| {
        // The receiver is gone when the client is; what is stored stays stored.
        let _ = done.send(result.map(|_| ()));
    });
    Ok(outcome)
}

/// The length that a snappy block claims, if it can be true.
///
/// # Errors
/// 400 for a length that cannot be, 413 for one beyond `bytes_max`.
pub(crate) fn declared_length(compressed: &[u8], bytes_max: usize) -> Result<usize, ApiError> {
    let declared = snap::raw::decompress_len(compressed)
        .map_err(|e| ApiError::bad_data(format!("snappy: {e}")))?;
    if declared > bytes_max {
        return Err(ApiError::new(
            ErrorType::TooLarge,
            format!("body of {declared} bytes after decompression, at most {bytes_max}"),
        ));
    }
    if declared > compressed.len().saturating_mul(SNAPPY_EXPANSION_MAX) {
        return Err(ApiError::bad_data(format!(
            "snappy: {} bytes cannot hold the {declared} that they claim",
            compressed.len()
        )));
    }
    if compressed.is_empty() {
        return Err(ApiError::bad_data("snappy: empty body"));
    }
    Ok(declared)
}

impl From<Refusal> for ApiError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Engine(error) => error.into(),
            other => Self::bad_data(other.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(n, v)| (n.parse().unwrap(), HeaderValue::from_static(v)))
            .collect()
    }

    #[test]
    fn the_message_follows_from_the_headers() {
        let v2 = "application/x-protobuf;proto=io.prometheus.write.v2.Request";
        let cases = [
            (&[][..], Ok(Version::V1)),
            (
                &[
                    ("content-type", "application/x-protobuf"),
                    ("content-encoding", "snappy"),
                ],
                Ok(Version::V1),
            ),
            (&[("content-type", v2)], Ok(Version::V2)),
            (&[("content-type", "application/json")], Err(415)),
            (&[("content-encoding", "gzip")], Err(415)),
            (
                &[("content-type", "application/x-protobuf;proto=other")],
                Err(415),
            ),
        ];
        for (pairs, expected) in cases {
            let got = version(&headers(pairs)).map_err(|e| e.kind.status().as_u16());
            assert_eq!(got, expected, "{pairs:?}");
        }
    }

    #[test]
    fn claimed_lengths_are_not_believed() {
        let kind = |bytes: &[u8]| declared_length(bytes, 1 << 20).map_err(|e| e.kind);
        assert_eq!(kind(&[]), Err(ErrorType::BadData));
        assert_eq!(
            kind(&[0xff, 0xff, 0xff, 0xff, 0x0f]),
            Err(ErrorType::TooLarge)
        );
        assert_eq!(kind(&[0xff, 0xff, 0x03, 0]), Err(ErrorType::BadData));
        let good = snap::raw::Encoder::new().compress_vec(&[7; 5000]).unwrap();
        assert_eq!(kind(&good), Ok(5000));
    }
}
