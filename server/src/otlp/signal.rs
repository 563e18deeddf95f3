//! The three signals of OTLP: their paths over HTTP, their tables, and where each is stored.

use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use http::{HeaderMap, StatusCode};

use super::envelope::{Decoded, Encoding, decode};
use super::json::schema::{self, Message};
use super::partial::Rejections;
use super::{logs, metrics, traces};
use crate::error::{ApiError, ErrorType};
use crate::request::Caller;
use crate::rows::take::{self, Source};
use crate::rows::{Reason, Taken};
use crate::state::AppState;
use crate::telemetry::rows::Protocol;
use crate::wire::protobuf::{push_bytes, push_number};

/// A signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// Metrics.
    Metrics,
    /// Log records.
    Logs,
    /// Spans.
    Traces,
}

/// Takes metrics.
pub async fn export_metrics(
    State(state): State<AppState>,
    caller: Result<Caller, ApiError>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    Signal::Metrics.export(state, caller, headers, body).await
}

/// Takes log records.
pub async fn export_logs(
    State(state): State<AppState>,
    caller: Result<Caller, ApiError>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    Signal::Logs.export(state, caller, headers, body).await
}

/// Takes spans.
pub async fn export_traces(
    State(state): State<AppState>,
    caller: Result<Caller, ApiError>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    Signal::Traces.export(state, caller, headers, body).await
}

impl Signal {
    /// The tables of the request and of its answer.
    fn tables(self) -> (&'static Message, &'static Message) {
        match self {
            Self::Metrics => (
                schema::export_metrics_request(),
                schema::export_metrics_response(),
            ),
            Self::Logs => (
                schema::export_logs_request(),
                schema::export_logs_response(),
            ),
            Self::Traces => (
                schema::export_trace_request(),
                schema::export_trace_response(),
            ),
        }
    }

    async fn export(
        self,
        state: AppState,
        caller: Result<Caller, ApiError>,
        headers: HeaderMap,
        body: Body,
    ) -> Response {
        let encoding = match Encoding::of(&headers) {
            Ok(encoding) => encoding,
            // Nobody knows what the client reads; JSON can be read by eye.
            Err(error) => return Encoding::Json.error(&error),
        };
        let (request, response) = self.tables();
        let taken = async {
            let caller = caller?;
            let settings = state.settings();
            let decoded = decode(
                &state,
                &headers,
                body,
                encoding,
                request,
                settings.write_body_max.as_usize(),
                settings.body_timeout,
            );
            self.store(&state, caller, decoded.await?).await
        };
        match taken.await {
            Ok(rejections) => {
                encoding.answer(StatusCode::OK, response_message(&rejections), response)
            }
            Err(error) => {
                if error.kind == ErrorType::Internal {
                    tracing::error!(%error, signal = ?self, "cannot store OTLP");
                }
                encoding.error(&error)
            }
        }
    }

    /// Stores a request; answers what was left out.
    pub(super) async fn store(
        self,
        state: &AppState,
        caller: Caller,
        decoded: Decoded,
    ) -> Result<Rejections, ApiError> {
        let source = |protocol| Source {
            protocol,
            received_bytes: decoded.received_bytes,
            decoded_bytes: decoded.message().len(),
        };
        let labels = state.settings().otlp_stream_labels.clone();
        let taken = match self {
            Self::Metrics => return metrics::store(state, caller, decoded).await,
            Self::Logs => {
                let source = source(Protocol::OtlpLogs);
                take::logs(state, caller, source, decoded, move |decoded, sink| {
                    logs::decode(decoded.message(), &labels, sink).map_err(malformed)
                })
                .await?
            }
            Self::Traces => {
                let source = source(Protocol::OtlpTraces);
                take::spans(state, caller, source, decoded, move |decoded, sink| {
                    traces::decode(decoded.message(), &labels, sink).map_err(malformed)
                })
                .await?
            }
        };
        rejections(taken)
    }
}

fn malformed(error: impl std::fmt::Display) -> ApiError {
    ApiError::bad_data(format!("protobuf: {error}"))
}

/// What the client is told. When nothing was stored because of the limit on streams, a retry may find
/// room, and a partial success would say that there is nothing to retry.
fn rejections(taken: Taken) -> Result<Rejections, ApiError> {
    let streams_refused = taken.refused_for(Reason::Streams);
    let Taken {
        rows,
        mut rejections,
        repaired_texts,
        ..
    } = taken;
    if rows == 0 && streams_refused > 0 {
        return Err(ApiError::new(ErrorType::TooMany, rejections.message()));
    }
    if repaired_texts > 0 {
        let words = format!("{repaired_texts} texts were not UTF-8; what was none became U+FFFD");
        rejections.add(0, words);
    }
    Ok(rejections)
}

/// An `Export…ServiceResponse` of any signal: empty if everything was taken.
pub(super) fn response_message(rejections: &Rejections) -> Vec<u8> {
    let mut response = Vec::new();
    if !rejections.is_empty() {
        let mut partial = Vec::new();
        if rejections.count() > 0 {
            push_number(&mut partial, 1, rejections.count());
        }
        push_bytes(&mut partial, 2, rejections.message().as_bytes());
        push_bytes(&mut response, 1, &partial);
    }
    response
}
