//! `/api/v1/runs`: runs of pipelines, one of them in full, what changes, and events of them.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use chronolith_query::runs::{RunFilter, RunState};
use http::{HeaderMap, StatusCode, header};
use parking_lot::Mutex;
use serde_json::json;

use super::envelope::json_response;
use super::params::Params;
use crate::active::ActiveQuery;
use crate::body::read_held;
use crate::error::{ApiError, ErrorType};
use crate::request::Caller;
use crate::rows::Reason;
use crate::rows::take::{self, Source};
use crate::runs::Listener;
use crate::runs::events::{self, check_run_id};
use crate::state::AppState;
use crate::telemetry::rows::Protocol;

/// Runs that are answered unless asked otherwise, and at most.
const LIMIT_DEFAULT: usize = 100;
const LIMIT_MAX: usize = 10_000;
/// How long a question waits for what was written before it.
const SETTLE_MAX: Duration = Duration::from_millis(250);
/// Bytes of a request with events.
const EVENTS_BYTES_MAX: usize = 8 << 20;
/// How long a stream is silent at most: a comment shows both sides that the other is there.
const SILENCE_MAX: Duration = Duration::from_secs(15);
/// Changes that come together are told together.
const GATHER: Duration = Duration::from_millis(100);
/// A client that does not take what was made for it within this time is let go.
const SLOW_MAX: Duration = Duration::from_secs(30);
/// Runs that are made into text at a time.
const EVENTS_AT_ONCE: usize = 64;

fn filter(params: &Params) -> Result<(RunFilter, usize), ApiError> {
    let state = match params.get_filled("state") {
        None => None,
        Some(name) => Some(RunState::parse(name).ok_or_else(|| {
            let words = "expected queued, running, succeeded, failed, cancelled, lost or missed";
            ApiError::parameter("state", words)
        })?),
    };
    let ns = |name| -> Result<Option<i64>, ApiError> {
        let ms = params.time_ms(name)?;
        Ok(ms.map(|ms| ms.saturating_mul(1_000_000)))
    };
    let (start, end) = (ns("start")?, ns("end")?);
    if let (Some(start), Some(end)) = (start, end)
        && end < start
    {
        return Err(ApiError::parameter("end", "the end is before the start"));
    }
    let limit = match params.get_filled("limit") {
        None => LIMIT_DEFAULT,
        Some(_) => params.limit()?.unwrap_or(LIMIT_MAX).min(LIMIT_MAX),
    };
    let filter = RunFilter {
        pipeline: params.get_filled("pipeline").map(str::to_owned),
        state,
        start,
        end,
    };
    Ok((filter, limit))
}

/// `GET /api/v1/runs`: `{"runs":[…]}`, newest first.
///
/// # Errors
/// 400 for parameters that make no sense; 503 when it takes too long.
pub async fn list(
    State(state): State<AppState>,
    caller: Caller,
    params: Params,
) -> Result<Response, ApiError> {
    let (filter, limit) = filter(&params)?;
    let what = params.shown_after("runs");
    let timeout = state.settings().query_timeout;
    let begun = ActiveQuery::begin(&state, &caller, ("runs", &what), timeout).await;
    let (mut active, context) = begun?;
    let found = state.blocking(move |state| {
        state.feed().settle(SETTLE_MAX);
        let runs = state.runs();
        Ok(runs.list(state.store(), &context, &filter, limit)?)
    });
    answer(&mut active, found.await).map(|text| json_body(active, text))
}

/// `GET /api/v1/runs/{id}`: all that is known of a run, by its id or its trace id.
///
/// # Errors
/// 400 for what is no id, 404 for one that is not known.
pub async fn detail(
    State(state): State<AppState>,
    Path(id): Path<String>,
    caller: Caller,
) -> Result<Response, ApiError> {
    check_run_id(&id)?;
    let what = format!("runs/{id}");
    let timeout = state.settings().query_timeout;
    let begun = ActiveQuery::begin(&state, &caller, ("runs", &what), timeout).await;
    let (mut active, context) = begun?;
    let found = state.blocking(move |state| {
        state.feed().settle(SETTLE_MAX);
        let detail = state.runs().detail(state.store(), &context, &id)?;
        let unknown = || ApiError::new(ErrorType::NotFound, format!("no run {id:?}"));
        Ok(detail.ok_or_else(unknown)?.to_json())
    });
    answer(&mut active, found.await).map(|text| json_body(active, text))
}

fn answer(active: &mut ActiveQuery, found: Result<String, ApiError>) -> Result<String, ApiError> {
    found.inspect_err(|error| active.fail(error))
}

fn json_body(active: ActiveQuery, text: String) -> Response {
    let json = [(header::CONTENT_TYPE, "application/json")];
    (json, active.whole(text)).into_response()
}

/// `POST /api/v1/runs/{id}/events`: stores events of a run. 200 with `accepted` and, if some were
/// refused, which and why.
///
/// # Errors
/// 400 when none was accepted, 413 for a body that is too large, 429 and 503 as for all writes.
pub async fn post_events(
    State(state): State<AppState>,
    Path(id): Path<String>,
    caller: Caller,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    check_run_id(&id)?;
    let settings = state.settings();
    let bytes_max = EVENTS_BYTES_MAX.min(settings.write_body_max.as_usize());
    let body = read_held(&state, &headers, body, bytes_max, settings.body_timeout).await?;
    let source = Source {
        protocol: Protocol::RunEvents,
        received_bytes: body.bytes.len(),
        decoded_bytes: body.bytes.len(),
    };
    let counts = Arc::new(Mutex::new(events::TakenEvents::default()));
    let counted = Arc::clone(&counts);
    let names = state.runs().config().names.clone();
    let run_id = id.clone();
    let taken = take::logs(&state, caller, source, body, move |body, sink| {
        *counted.lock() = events::take(&run_id, &names, &body.bytes, sink)?;
        Ok(())
    });
    let taken = taken.await?;
    let counts = counts.lock().clone();
    if counts.accepted == 0 {
        let words = taken.rejections.message();
        return Err(match taken.refused_for(Reason::Streams) > 0 {
            true => ApiError::new(ErrorType::TooMany, words),
            false => ApiError::bad_data(words),
        });
    }
    let refusals = counts.refusals.iter();
    let refusals = refusals.map(|(index, error)| json!({"index": index, "error": error}));
    let body = match counts.refused {
        0 => json!({"run_id": id, "accepted": counts.accepted}),
        refused => json!({
            "run_id": id,
            "accepted": counts.accepted,
            "refused": refused,
            "errors": refusals.collect::<Vec<_>>(),
        }),
    };
    Ok(json_response(body.to_string()))
}

/// `GET /api/v1/runs/live`: the runs that are under way and then every run that changes, as server-sent
/// events; 204 when there are too many listeners.
pub async fn live(State(state): State<AppState>, caller: Caller, params: Params) -> Response {
    let text = |name| params.get_filled(name).map(str::to_owned);
    let (pipeline, run) = (text("pipeline"), text("run"));
    let Some(listener) = state.runs().listen(&caller.tenant, pipeline, run) else {
        return StatusCode::NO_CONTENT.into_response();
    };
    let headers = [
        (header::CONTENT_TYPE, "text/event-stream"),
        (header::CACHE_CONTROL, "no-cache"),
    ];
    (
        headers,
        Body::from_stream(stream(Live::new(state, listener))),
    )
        .into_response()
}

/// A stream of events. Nothing is made before the client has taken what was made before, so a client
/// holds no more than one round of events.
struct Live {
    state: AppState,
    listener: Listener,
    waiting: VecDeque<Bytes>,
    has_more: bool,
    /// When something was given last.
    given: Option<Instant>,
    is_over: bool,
}

impl Live {
    fn new(state: AppState, listener: Listener) -> Self {
        Self {
            state,
            listener,
            // A first comment sends the head on its way, so that the client knows that it is listening.
            waiting: VecDeque::from([Bytes::from_static(b":\n\n")]),
            has_more: true,
            given: None,
            is_over: false,
        }
    }

    async fn next(&mut self) -> Option<Bytes> {
        if self.is_over {
            return None;
        }
        if self.given.is_some_and(|given| given.elapsed() > SLOW_MAX) {
            self.is_over = true;
            return Some(Bytes::from(format!(
                "event: notice\ndata: {}\n\n",
                json!({"notice": "this client is too slow and is let go", "seconds": SLOW_MAX.as_secs()})
            )));
        }
        loop {
            if let Some(next) = self.waiting.pop_front() {
                self.given = Some(Instant::now());
                return Some(next);
            }
            if !self.has_more {
                let changed = tokio::time::timeout(SILENCE_MAX, self.listener.changed()).await;
                if self.state.is_stopping() {
                    return None;
                }
                match changed {
                    Err(_) => {
                        self.given = Some(Instant::now());
                        return Some(Bytes::from_static(b":\n\n"));
                    }
                    Ok(false) => return None,
                    Ok(true) => tokio::time::sleep(GATHER).await,
                }
            }
            let (runs, has_more) = self.listener.take(EVENTS_AT_ONCE);
            self.has_more = has_more;
            let events = runs
                .iter()
                .map(|run| format!("event: run\ndata: {run}\n\n"));
            self.waiting.extend(events.map(Bytes::from));
        }
    }
}

fn stream(live: Live) -> impl futures::Stream<Item = Result<Bytes, Infallible>> {
    futures::stream::unfold(live, async |mut live| {
        let next = live.next().await?;
        Some((Ok(next), live))
    })
}
