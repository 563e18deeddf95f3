//! `POST /api/v1/read`: Prometheus remote read, as samples or as a stream of chunks.
//!
//! Series come sorted by their labels. Matchers on external labels (`global.external_labels`) are
//! held against those and taken out, and the external labels are added to what is found, as if this
//! were a Prometheus of that name.

mod chunk;
mod request;
mod response;

use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use chronolith_engine::model::{Labels, LabelsBuilder, SampleColumns, TimeRange};
use chronolith_engine::{RequestContext, ScanRequest, Store};
use http::{HeaderMap, header};
use tokio::sync::mpsc;

pub use request::{ReadQuery, ReadRequest, RequestError, ResponseType};
use response::{Frames, points, push_series};

use crate::active::ActiveQuery;
use crate::body::read_small;
use crate::error::{ApiError, ErrorType};
use crate::request::Caller;
use crate::state::AppState;
use crate::wire::protobuf::push_bytes;

/// Bytes of a request, compressed or not.
const REQUEST_BYTES_MAX: usize = 1 << 20;
/// Frames that wait for a slow client.
const FRAMES_AHEAD: usize = 2;
/// Bytes of an answer that is sent as one message.
const MESSAGE_BYTES_MAX: usize = 256 << 20;

const STREAMED: &str = "application/x-streamed-protobuf; proto=prometheus.ChunkedReadResponse";

/// Answers a request.
pub async fn read(
    State(state): State<AppState>,
    caller: Caller,
    headers: HeaderMap,
    body: Body,
) -> Response {
    match answer(&state, caller, &headers, body).await {
        Ok(response) => response,
        Err(error) => error.into_text(),
    }
}

async fn answer(
    state: &AppState,
    caller: Caller,
    headers: &HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    let settings = state.settings();
    let body = read_small(headers, body, REQUEST_BYTES_MAX, settings.body_timeout).await?;
    let request = decode(&body)?;
    let form = request.response_type().map_err(ApiError::bad_data)?;
    let timeout = settings.query_timeout;
    let text = request.to_string();
    let asked = ("remote read", text.as_str());
    let (mut query, context) = ActiveQuery::begin(state, &caller, asked, timeout).await?;
    let external = state.scraper().external_labels();
    let samples_max = settings.query_samples_max;
    let reader = move |state: &AppState| Reading {
        store: state.store().clone(),
        context,
        external,
        samples_left: samples_max,
        samples_max,
    };
    match form {
        ResponseType::Samples => {
            let message = state
                .blocking(move |state| reader(state).samples(&request))
                .await;
            let message = message.inspect_err(|error| query.fail(&error.message))?;
            let headers = [
                (header::CONTENT_TYPE, "application/x-protobuf"),
                (header::CONTENT_ENCODING, "snappy"),
            ];
            Ok((headers, query.whole(message)).into_response())
        }
        ResponseType::StreamedXorChunks => {
            let (sender, mut frames) = mpsc::channel(FRAMES_AHEAD);
            let work = state.clone();
            tokio::task::spawn_blocking(move || {
                let mut reading = reader(&work);
                if let Err(error) = reading.stream(&request, &sender) {
                    // Nobody listens any more when this cannot be sent.
                    let _ = sender.blocking_send(Err(error));
                }
            });
            // Errors up to the first frame still get a status of their own.
            let first = frames.recv().await.transpose();
            let first = first.inspect_err(|error| query.fail(&error.message))?;
            let body = query.streamed("remote read", first, frames);
            Ok(([(header::CONTENT_TYPE, STREAMED)], body).into_response())
        }
    }
}

fn decode(body: &[u8]) -> Result<ReadRequest, ApiError> {
    let length = snap::raw::decompress_len(body)
        .map_err(|error| ApiError::bad_data(format!("snappy: {error}")))?;
    if length > REQUEST_BYTES_MAX {
        return Err(ApiError::new(
            ErrorType::TooLarge,
            format!("request of {length} bytes, at most {REQUEST_BYTES_MAX}"),
        ));
    }
    let message = snap::raw::Decoder::new()
        .decompress_vec(body)
        .map_err(|error| ApiError::bad_data(format!("snappy: {error}")))?;
    ReadRequest::read(&message).map_err(|error| ApiError::bad_data(error.to_string()))
}

/// One request being answered.
struct Reading {
    store: Store,
    context: RequestContext,
    external: Vec<(String, String)>,
    samples_left: u64,
    samples_max: u64,
}

impl Reading {
    /// The compressed message with all samples.
    fn samples(&mut self, request: &ReadRequest) -> Result<Vec<u8>, ApiError> {
        let mut message = Vec::new();
        for query in &request.queries {
            let mut result = Vec::new();
            self.each_series(query, |labels, columns| {
                push_series(&mut result, labels, &points(columns));
                if message.len() + result.len() > MESSAGE_BYTES_MAX {
                    return Err(ApiError::bad_data(format!(
                        "answer of more than {MESSAGE_BYTES_MAX} bytes: ask for streamed chunks"
                    )));
                }
                Ok(true)
            })?;
            push_bytes(&mut message, 1, &result);
        }
        snap::raw::Encoder::new()
            .compress_vec(&message)
            .map_err(|error| ApiError::internal(format!("snappy: {error}")))
    }

    /// Sends frames until all is sent or nobody listens.
    fn stream(
        &mut self,
        request: &ReadRequest,
        frames: &mpsc::Sender<Result<Bytes, ApiError>>,
    ) -> Result<(), ApiError> {
        let send = |frame: Vec<u8>| frames.blocking_send(Ok(Bytes::from(frame)));
        for (number, query) in request.queries.iter().enumerate() {
            let mut open = Frames::new(number);
            let mut is_heard = true;
            self.each_series(query, |labels, columns| {
                is_heard = open.push(labels, &points(columns), send).is_ok();
                Ok(is_heard)
            })?;
            if let Some(last) = open.finish().filter(|_| is_heard) {
                is_heard = send(last).is_ok();
            }
            if !is_heard {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Calls `take` with each series of a query that has samples, sorted by labels, until it says
    /// that this is enough.
    fn each_series(
        &mut self,
        query: &ReadQuery,
        mut take: impl FnMut(&Labels, &SampleColumns) -> Result<bool, ApiError>,
    ) -> Result<(), ApiError> {
        let Some(matchers) = self.own_matchers(query) else {
            return Ok(());
        };
        if query.end_ms < query.start_ms {
            return Ok(());
        }
        let range = TimeRange::from_millis(query.start_ms, query.end_ms);
        let scan = self
            .store
            .scan_metrics(&self.context, &ScanRequest::new(matchers, range))?;
        let mut found: Vec<(Labels, usize)> = Vec::with_capacity(scan.len());
        for index in 0..scan.len() {
            found.push((self.with_external(&scan.labels(index))?, index));
        }
        found.sort();
        let mut columns = SampleColumns::default();
        for (labels, index) in found {
            self.context.check()?;
            scan.read(index, range, &mut columns)?;
            if columns.is_empty() {
                continue;
            }
            let count = columns.len() as u64;
            self.samples_left = self.samples_left.checked_sub(count).ok_or_else(|| {
                ApiError::bad_data(format!(
                    "exceeded sample limit ({}) of a remote read",
                    self.samples_max
                ))
            })?;
            if !take(&labels, &columns)? {
                return Ok(());
            }
        }
        Ok(())
    }

    /// The matchers without those on external labels; `None` when one of those does not match.
    fn own_matchers(&self, query: &ReadQuery) -> Option<Vec<chronolith_engine::Matcher>> {
        let mut own = Vec::with_capacity(query.matchers.len());
        for matcher in &query.matchers {
            match self.external.iter().find(|(n, _)| n == matcher.name()) {
                Some((_, value)) if matcher.matches(value) => {}
                Some(_) => return None,
                None => own.push(matcher.clone()),
            }
        }
        Some(own)
    }

    /// A series' own labels win over external ones.
    fn with_external(&self, labels: &Labels) -> Result<Labels, ApiError> {
        if self.external.is_empty() {
            return Ok(labels.clone());
        }
        let mut builder = LabelsBuilder::new();
        for label in labels {
            builder.push(label.name, label.value);
        }
        for (name, value) in &self.external {
            if labels.get(name).is_none() {
                builder.push(name, value);
            }
        }
        let finished = builder.finish();
        finished.map_err(|error| ApiError::internal(format!("external labels: {error}")))
    }
}
