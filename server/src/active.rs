//! A query on its way: its turn, its place in the list of queries, and the switch that ends its work.
//!
//! All of it is held until the last piece of the answer has been handed over or the client is gone:
//! a slow reader keeps its turn, so that no more than `query_concurrency_max` answers hold memory at a
//! time, and whoever leaves ends the work for it. When it is over, what was slow is logged.

use std::fmt::Display;
use std::time::{Duration, Instant};

use axum::body::Body;
use bytes::Bytes;
use chronolith_engine::RequestContext;
use chronolith_query::running::{QueryState, QueryTicket};
use futures::StreamExt as _;
use tokio::sync::mpsc;

use crate::error::ApiError;
use crate::request::Caller;
use crate::state::{AppState, CancelGuard, QuerySlot};

/// A query that has its turn.
pub struct ActiveQuery {
    state: AppState,
    ticket: QueryTicket,
    queued: Duration,
    /// What else the log of slow queries should say.
    detail: String,
    error: Option<String>,
    // In this order: the work ends, then somebody else may begin.
    _cancel: CancelGuard,
    _slot: QuerySlot,
}

impl ActiveQuery {
    /// Waits for a turn, no longer than the query may take.
    ///
    /// # Errors
    /// As [`AppState::query_slot`].
    pub async fn begin(
        state: &AppState,
        caller: &Caller,
        (language, text): (&'static str, &str),
        timeout: Duration,
    ) -> Result<(Self, RequestContext), ApiError> {
        let principal = caller.principal.as_ref();
        let (context, cancel) = state.context(caller.tenant.clone(), principal, timeout);
        let ticket = state.queries().register(&context, language, text);
        let asked = Instant::now();
        let slot = match state.query_slot(timeout).await {
            Ok(slot) => slot,
            Err(refused) => {
                ticket.set(QueryState::Failed);
                return Err(refused);
            }
        };
        context.check()?;
        ticket.set(QueryState::Running);
        let query = Self {
            state: state.clone(),
            ticket,
            queued: asked.elapsed(),
            detail: String::new(),
            error: None,
            _cancel: cancel,
            _slot: slot,
        };
        Ok((query, context))
    }

    /// How long it waited for its turn.
    #[must_use]
    pub fn queued(&self) -> Duration {
        self.queued
    }

    /// Adds to what the log says of it, should it be slow.
    pub fn set_detail(&mut self, detail: String) {
        self.detail = detail;
    }

    /// Notes that there is no (whole) answer.
    pub fn fail(&mut self, error: impl Display) {
        self.error = Some(error.to_string());
        // What is dropped without an end counts as cancelled.
        if !self.ticket.is_cancelled() {
            self.ticket.set(QueryState::Failed);
        }
    }

    /// Notes that all is done, where the answer goes another way.
    pub fn finish(self) {
        self.ticket.set(QueryState::Finished);
    }

    /// A body of one piece, which holds the turn until it is sent.
    pub fn whole(self, bytes: impl Into<Bytes>) -> Body {
        self.pieces(std::iter::once(bytes.into()))
    }

    /// A body of pieces, each made when the one before is on its way.
    pub fn pieces(self, pieces: impl Iterator<Item = Bytes> + Send + 'static) -> Body {
        self.ticket.set(QueryState::Sending);
        let stream = futures::stream::unfold((pieces, self), |(mut pieces, query)| async move {
            match pieces.next() {
                Some(piece) => {
                    query.ticket.usage().add_bytes(piece.len() as u64);
                    Some((Ok::<_, std::convert::Infallible>(piece), (pieces, query)))
                }
                None => {
                    query.ticket.set(QueryState::Finished);
                    None
                }
            }
        });
        // Whoever compresses an answer asks once more after its end.
        Body::from_stream(stream.fuse())
    }

    /// A body of `first`, which has come already so that errors before it could get a status of their
    /// own, and of what `pieces` brings.
    ///
    /// The status is sent already: an error makes the body break off without its end, so that no
    /// client takes a part for the whole. `what` names the work in the log.
    pub fn streamed<E: Display + Send + 'static>(
        self,
        what: &'static str,
        first: Option<Bytes>,
        pieces: mpsc::Receiver<Result<Bytes, E>>,
    ) -> Body {
        self.ticket.set(QueryState::Sending);
        let stream = futures::stream::unfold((first, pieces, self), move |rest| async move {
            let (first, mut pieces, mut query) = rest;
            let piece = match first {
                Some(piece) => Ok(piece),
                None => match pieces.recv().await {
                    Some(piece) => piece,
                    None => {
                        if query.error.is_none() {
                            query.ticket.set(QueryState::Finished);
                        }
                        return None;
                    }
                },
            };
            let piece = match piece {
                Ok(piece) => {
                    query.ticket.usage().add_bytes(piece.len() as u64);
                    Ok(piece)
                }
                Err(error) => {
                    tracing::warn!(%error, "{what} failed while streaming");
                    query.fail(&error);
                    Err(std::io::Error::other(error.to_string()))
                }
            };
            Some((piece, (None, pieces, query)))
        });
        // Whoever compresses an answer asks once more after its end.
        Body::from_stream(stream.fuse())
    }
}

impl Drop for ActiveQuery {
    fn drop(&mut self) {
        let info = self.ticket.info();
        let slow = self.state.settings().slow_query;
        if slow.is_zero() || info.elapsed < slow {
            return;
        }
        let ms = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        tracing::warn!(
            id = info.id,
            tenant = info.tenant.as_str(),
            language = info.language,
            query = &*info.text,
            detail = self.detail,
            took_ms = ms(info.elapsed),
            queued_ms = ms(self.queued),
            cpu_ms = ms(info.cpu),
            samples = info.samples,
            bytes = info.bytes,
            error = self.error,
            "slow query"
        );
    }
}
