//! What Jaeger's, Tempo's and Zipkin's APIs share: a question about traces gets its turn, reads one state
//! of the store, and writes its answer piece by piece; one trace as OTLP; and our own view of a trace
//! ([`detail`]).
//!
//! An answer never lies in memory as a whole: traces are loaded some at a time and sent as they are
//! written. Errors before the first piece get a status of their own; later ones break the answer off.

mod detail;
pub(super) mod otlp;
pub(super) mod view;

pub use detail::detail;

use std::time::{Duration, Instant};

use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use chronolith_engine::model::TraceId;
use chronolith_engine::{RequestContext, Snapshot};
use chronolith_query::traces::load::{LoadedTraces, load_all};
use chronolith_query::traces::source::Measured;
use chronolith_query::traces::{SpanSource, TracesError};
use http::header;
use tokio::sync::mpsc;

use crate::active::ActiveQuery;
use crate::error::{ApiError, ErrorType};
use crate::request::Caller;
use crate::rows::ids::padded;
use crate::state::AppState;

/// Bytes of an answer that are made before they are sent.
const PIECE_BYTES: usize = 128 << 10;
/// Pieces that wait for the client to take them.
const PIECES_AHEAD: usize = 2;
/// Traces that are held at a time while many are answered.
const TRACES_AT_A_TIME: usize = 32;
/// Digits of a trace's id.
const TRACE_ID_DIGITS: usize = 32;

/// JSON, as all three APIs write it.
pub(super) const JSON: &str = "application/json";

impl From<TracesError> for ApiError {
    fn from(error: TracesError) -> Self {
        match error {
            TracesError::Store(error) => error.into(),
            TracesError::Query(_) | TracesError::BadRequest(_) => Self::bad_data(error.to_string()),
            _ => Self::new(ErrorType::Execution, error.to_string()),
        }
    }
}

/// Who asks what, for how long.
pub(super) struct Asked {
    pub(super) state: AppState,
    pub(super) caller: Caller,
    /// `jaeger`, `traceql`, …: the language in `system.queries`.
    pub(super) language: &'static str,
    /// The question as people read it.
    pub(super) text: String,
    /// How long it may take, and wait.
    pub(super) timeout: Duration,
}

impl Asked {
    pub(super) fn new(
        state: AppState,
        caller: Caller,
        language: &'static str,
        text: String,
    ) -> Self {
        let timeout = state.settings().query_timeout;
        Self {
            state,
            caller,
            language,
            text,
            timeout,
        }
    }

    /// Waits for a turn, runs `work` on a thread that may block, and answers what it writes.
    ///
    /// # Errors
    /// What `work` answers before the first piece is full; as [`ActiveQuery::begin`].
    pub(super) async fn answer(
        self,
        content_type: &'static str,
        work: impl FnOnce(&Question<'_>, &mut Writer) -> Result<(), ApiError> + Send + 'static,
    ) -> Result<Response, ApiError> {
        let asked = (self.language, self.text.as_str());
        let begun = ActiveQuery::begin(&self.state, &self.caller, asked, self.timeout);
        let (mut active, context) = begun.await?;
        let (sender, mut pieces) = mpsc::channel(PIECES_AHEAD);
        let state = self.state.clone();
        tokio::task::spawn_blocking(move || {
            let mut writer = Writer::new(sender);
            let done = answer_blocking(&state, &context, &mut writer, work);
            writer.finish(done);
        });
        match pieces.recv().await {
            Some(Ok(first)) => {
                let body = active.streamed("question about traces", Some(first), pieces);
                Ok(([(header::CONTENT_TYPE, content_type)], body).into_response())
            }
            Some(Err(error)) => {
                active.fail(&error);
                Err(error)
            }
            None => Err(ApiError::internal("the question ended early")),
        }
    }
}

fn answer_blocking(
    state: &AppState,
    context: &RequestContext,
    writer: &mut Writer,
    work: impl FnOnce(&Question<'_>, &mut Writer) -> Result<(), ApiError>,
) -> Result<(), ApiError> {
    let began = Instant::now();
    let snapshot: Snapshot = state.store().pin(context)?;
    let source = Measured::new(&snapshot, state.settings().query_memory_max.as_usize());
    let done = work(
        &Question {
            source: &source,
            context,
        },
        writer,
    );
    // One thread does it all; what it waits for the client is not counted.
    let busy = began.elapsed().saturating_sub(writer.waited);
    context.usage.add_cpu(busy);
    done
}

/// What a question reads.
pub(super) struct Question<'a> {
    /// One state of the spans.
    pub(super) source: &'a dyn SpanSource,
    pub(super) context: &'a RequestContext,
}

impl Question<'_> {
    /// Loads traces some at a time, in the order of their ids, and shows each part to `each`.
    pub(super) fn load(
        &self,
        ids: &[TraceId],
        mut each: impl FnMut(&LoadedTraces) -> Result<(), ApiError>,
    ) -> Result<(), ApiError> {
        for ids in ids.chunks(TRACES_AT_A_TIME) {
            each(&load_all(self.source, self.context, ids)?)?;
        }
        Ok(())
    }
}

/// Takes an answer and sends it in pieces; waits when the client is slow.
pub(super) struct Writer {
    /// What is not yet sent.
    pub(super) out: String,
    sender: mpsc::Sender<Result<Bytes, ApiError>>,
    waited: Duration,
    is_finished: bool,
}

impl Writer {
    fn new(sender: mpsc::Sender<Result<Bytes, ApiError>>) -> Self {
        Self {
            out: String::new(),
            sender,
            waited: Duration::ZERO,
            is_finished: false,
        }
    }

    /// Sends what is there if it is enough for a piece.
    ///
    /// # Errors
    /// The client is gone.
    pub(super) fn breathe(&mut self) -> Result<(), ApiError> {
        if self.out.len() < PIECE_BYTES {
            return Ok(());
        }
        let piece = Bytes::from(std::mem::take(&mut self.out));
        self.send(piece)
    }

    /// Sends bytes; nothing may be left of the text before them.
    ///
    /// # Errors
    /// The client is gone.
    pub(super) fn send(&mut self, piece: Bytes) -> Result<(), ApiError> {
        debug_assert!(self.out.is_empty(), "bug: text overtaken by bytes");
        let began = Instant::now();
        let sent = self.sender.blocking_send(Ok(piece));
        self.waited += began.elapsed();
        sent.map_err(|_| ApiError::new(ErrorType::Canceled, "the client left"))
    }

    fn finish(mut self, done: Result<(), ApiError>) {
        self.is_finished = true;
        let last = done.map(|()| Bytes::from(std::mem::take(&mut self.out)));
        // Nobody may listen any more.
        let _ = self.sender.blocking_send(last);
    }
}

impl Drop for Writer {
    /// Work that panicked must not look like an answer that is whole.
    fn drop(&mut self) {
        if !self.is_finished {
            let error = ApiError::internal("the question ended early");
            let _ = self.sender.blocking_send(Err(error));
        }
    }
}

/// The id of a trace, with leading zeros left out or not.
///
/// # Errors
/// Anything but 1 to 32 hexadecimal digits, or zeros only.
pub(super) fn parse_trace_id(text: &str) -> Result<TraceId, ApiError> {
    if text.len() > TRACE_ID_DIGITS {
        let count = text.len();
        return Err(ApiError::bad_data(format!(
            "a trace id has at most {TRACE_ID_DIGITS} hexadecimal digits, this one {count}"
        )));
    }
    padded(text).map(TraceId).ok_or_else(|| {
        ApiError::bad_data(format!("trace id {text:?}: expected hexadecimal digits"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trace_ids_may_be_short() {
        assert_eq!(parse_trace_id("1F").unwrap().0[15], 0x1f);
        let too_long = "1".repeat(33);
        for text in ["", "xyz", "0", "0000", "-1", "é", too_long.as_str()] {
            assert!(parse_trace_id(text).is_err(), "{text}");
        }
    }
}
