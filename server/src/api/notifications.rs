//! `/api/v1/notifications`: what the operator should know, at once and as it happens.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::{StatusCode, header};
use serde_json::{Value, json};
use tokio::sync::broadcast::error::RecvError;

use super::envelope::success;
use crate::notifications::{Notification, Subscription};
use crate::state::AppState;
use crate::telemetry::rfc3339;

/// How long a stream is silent at most: a comment shows both sides that the other is there.
const SILENCE_MAX: Duration = Duration::from_secs(15);

/// `GET /api/v1/notifications`: those that hold.
pub async fn list(State(state): State<AppState>) -> Response {
    let active = state.notifications().active();
    let data: Value = active.iter().map(shown).collect();
    success(&data.to_string(), &[], &[])
}

/// `GET /api/v1/notifications/live`: those that hold and then every change, as server-sent events;
/// 204 when there are too many listeners.
pub async fn live(State(state): State<AppState>) -> Response {
    let Some(subscription) = state.notifications().subscribe() else {
        return StatusCode::NO_CONTENT.into_response();
    };
    let headers = [
        (header::CONTENT_TYPE, "text/event-stream"),
        (header::CACHE_CONTROL, "no-cache"),
    ];
    (headers, events(subscription)).into_response()
}

fn events(mut subscription: Subscription) -> Body {
    // A first comment sends the head on its way, so that the client knows that it is listening.
    let mut waiting = VecDeque::from([Bytes::from_static(b":\n\n")]);
    waiting.extend(subscription.active.drain(..).map(|n| event(&n)));
    let stream =
        futures::stream::unfold((waiting, subscription), async |(mut waiting, mut from)| {
            let next = match waiting.pop_front() {
                Some(next) => next,
                None => next_event(&mut from).await?,
            };
            Some((Ok::<_, Infallible>(next), (waiting, from)))
        });
    Body::from_stream(stream)
}

async fn next_event(from: &mut Subscription) -> Option<Bytes> {
    loop {
        match tokio::time::timeout(SILENCE_MAX, from.changes.recv()).await {
            Err(_) => return Some(Bytes::from_static(b":\n\n")),
            Ok(Ok(notification)) => return Some(event(&notification)),
            Ok(Err(RecvError::Lagged(_))) => {}
            Ok(Err(RecvError::Closed)) => return None,
        }
    }
}

fn event(notification: &Notification) -> Bytes {
    Bytes::from(format!("data: {}\n\n", shown(notification)))
}

fn shown(notification: &Notification) -> Value {
    json!({
        "text": notification.text,
        "date": rfc3339(notification.date),
        "active": notification.active,
    })
}
