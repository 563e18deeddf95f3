//! Answers that are made while they are being sent.

use std::fmt::Display;

use axum::body::Body;
use bytes::Bytes;
use tokio::sync::mpsc;

use crate::state::CancelGuard;

/// A body of `first`, which has come already so that errors before it could get a status of their
/// own, and of what `pieces` brings. The work is cancelled when the body is dropped.
///
/// The status is sent already: an error makes the body break off without its end, so that no client
/// takes a part for the whole. `what` names the work in the log.
pub fn streamed<E: Display + Send + 'static>(
    what: &'static str,
    first: Option<Bytes>,
    pieces: mpsc::Receiver<Result<Bytes, E>>,
    cancel: CancelGuard,
) -> Body {
    let stream = futures::stream::unfold((first, pieces, cancel), move |rest| async move {
        let (first, mut pieces, cancel) = rest;
        let piece = match first {
            Some(piece) => Ok(piece),
            None => pieces.recv().await?,
        };
        let piece = piece.map_err(|error| {
            tracing::warn!(%error, "{what} failed while streaming");
            std::io::Error::other(error.to_string())
        });
        Some((piece, (None, pieces, cancel)))
    });
    Body::from_stream(stream)
}
