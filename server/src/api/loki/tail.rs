//! `tail`: lines as they are stored, over a websocket.
//!
//! First the last lines from `start` on, then what arrives, in frames of `{"streams":[…],
//! "dropped_entries":[…]}`. A client that does not read makes its queue ([`crate::tails`]) run full and
//! hears of what it missed; one that takes nothing for [`SEND_TIMEOUT`] is let go. Frames are bounded,
//! and one is made at a time.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::extract::State;
use axum::extract::ws::{CloseFrame, Message, Utf8Bytes, WebSocket, WebSocketUpgrade, close_code};
use axum::response::Response;
use chronolith_engine::RequestContext;
use chronolith_engine::rows::LogBatch;
use chronolith_query::logql::eval::{
    LineTail, LogQlError, QueryParams, QueryValue, StreamEntry, StreamResult,
};
use chronolith_query::logql::parser::parse_log;
use chronolith_query::running::{QueryState, QueryTicket};
use http::HeaderMap;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until, timeout};

use super::query::{is_categorized, limit};
use super::times::parse_time_ns;
use super::wire::Shape;
use super::{LokiError, wire};
use crate::active::ActiveQuery;
use crate::api::params::Params;
use crate::error::{ApiError, ErrorType};
use crate::listen::Place;
use crate::request::Caller;
use crate::state::{AppState, CancelGuard};
use crate::tails::{Arrived, Tail};
use crate::telemetry::now_ms;

/// How long a tail lasts, as in Loki.
const TAIL_DURATION: Duration = Duration::from_secs(3600);
/// The longest time that lines may be held back for others to come, as in Loki.
const DELAY_SECONDS_MAX: u64 = 5;
/// How far back the first lines may lie unless the client says, ns: an hour.
const HISTORY_NS: i64 = 3_600_000_000_000;
/// Lines of a frame.
const FRAME_LINES_MAX: usize = 1_000;
/// Bytes of the lines of a frame, but for the last one.
const FRAME_BYTES_MAX: usize = 1 << 20;
/// Between two looks at what arrived: lines that come at once share a frame.
const GATHER_TIME: Duration = Duration::from_millis(100);
/// How long lines that were among the first may arrive again from the queue.
const OVERLAP_TIME: Duration = Duration::from_secs(2);
/// After this a client that does not read is let go.
const SEND_TIMEOUT: Duration = Duration::from_secs(30);
/// How often a silent client is asked whether it is there.
const PING_INTERVAL: Duration = Duration::from_secs(20);
/// Bytes of a message from a client: nothing is expected.
const MESSAGE_BYTES_MAX: usize = 4 << 10;

/// `GET /loki/api/v1/tail`
///
/// # Errors
/// As Loki's; 429 when too many follow already.
pub async fn tail(
    State(state): State<AppState>,
    caller: Caller,
    headers: HeaderMap,
    place: Option<Extension<Place>>,
    upgrade: WebSocketUpgrade,
    params: Params,
) -> Result<Response, LokiError> {
    let shape = match is_categorized(&headers) {
        true => Shape::Categorized,
        false => Shape::Plain,
    };
    begin((state, caller, place), upgrade, &params, shape).await
}

/// `GET /api/prom/tail`
///
/// # Errors
/// As [`tail`].
pub async fn older_tail(
    State(state): State<AppState>,
    caller: Caller,
    place: Option<Extension<Place>>,
    upgrade: WebSocketUpgrade,
    params: Params,
) -> Result<Response, LokiError> {
    begin((state, caller, place), upgrade, &params, Shape::Older).await
}

async fn begin(
    (state, caller, place): (AppState, Caller, Option<Extension<Place>>),
    upgrade: WebSocketUpgrade,
    params: &Params,
    shape: Shape,
) -> Result<Response, LokiError> {
    state.refuse_while_stopping()?;
    let text = params.get_filled("query").unwrap_or_default();
    let log = parse_log(text).map_err(LogQlError::from)?;
    let lines = LineTail::new(log)?;
    let delay = match params.count("delay_for")?.unwrap_or(0) as u64 {
        seconds if seconds <= DELAY_SECONDS_MAX => Duration::from_secs(seconds),
        _ => {
            let message = format!("delay_for can't be greater than {DELAY_SECONDS_MAX}");
            return Err(ApiError::bad_data(message).into());
        }
    };
    let now_ns = now_ms().saturating_mul(1_000_000);
    let start_ns = match params.get_filled("start") {
        Some(text) => parse_time_ns("start", text)?,
        None => now_ns.saturating_sub(HISTORY_NS),
    };
    let history = QueryParams {
        limit: limit(params)?,
        ..QueryParams::range(start_ns, now_ns.max(start_ns), 1)
    };
    // From here on nothing is missed; what comes before the first lines are read comes twice.
    let followed = state.tails().follow(caller.tenant.clone());
    let tail = followed.ok_or_else(|| {
        let message = "max concurrent tail requests limit exceeded, try again later";
        ApiError::new(ErrorType::TooMany, message)
    })?;
    let first = first_lines(&state, &caller, text, history).await?;
    let (context, cancel) = state.context(caller.tenant, caller.principal.as_ref(), TAIL_DURATION);
    let ticket = state.queries().register(&context, "logql tail", text);
    ticket.set(QueryState::Running);
    let follower = Follower {
        tail,
        lines: Arc::new(lines),
        delay,
        shape,
        overlap: hashes(&first),
        context,
        ticket,
        _cancel: cancel,
        _place: place,
    };
    let upgrade = upgrade
        .max_message_size(MESSAGE_BYTES_MAX)
        .max_frame_size(MESSAGE_BYTES_MAX);
    Ok(upgrade.on_upgrade(move |socket| follower.run(socket, first)))
}

/// The last lines before now, the oldest first.
async fn first_lines(
    state: &AppState,
    caller: &Caller,
    text: &str,
    wanted: QueryParams,
) -> Result<Vec<StreamResult>, LokiError> {
    let engine = state.logql().clone();
    let query = engine.parse(text)?;
    let longest = state.settings().query_timeout;
    let begun = ActiveQuery::begin(state, caller, ("logql", text), longest).await;
    let (mut active, context) = begun?;
    match engine.query(&context, &query, wanted).await {
        Ok(result) => {
            active.finish();
            let QueryValue::Streams(mut streams) = result.value else {
                return Err(ApiError::bad_data("only log selector is supported").into());
            };
            streams
                .iter_mut()
                .for_each(|stream| stream.entries.reverse());
            Ok(streams)
        }
        Err(error) => {
            active.fail(&error);
            Err(error.into())
        }
    }
}

fn hash(stream: &StreamResult, entry: &StreamEntry) -> u64 {
    let mut hasher = DefaultHasher::new();
    (&stream.stream, entry.time_ns, &entry.line).hash(&mut hasher);
    hasher.finish()
}

fn hashes(streams: &[StreamResult]) -> HashSet<u64> {
    let of_stream = |stream: &StreamResult| -> Vec<u64> {
        stream
            .entries
            .iter()
            .map(|entry| hash(stream, entry))
            .collect()
    };
    streams.iter().flat_map(of_stream).collect()
}

/// One client and what it follows.
struct Follower {
    tail: Tail,
    lines: Arc<LineTail>,
    delay: Duration,
    shape: Shape,
    /// Lines that were sent first and may come from the queue too.
    overlap: HashSet<u64>,
    context: RequestContext,
    ticket: QueryTicket,
    _cancel: CancelGuard,
    /// The connection counts among the open ones for as long as it is used.
    _place: Option<Extension<Place>>,
}

/// Why a tail ended; what the client is told.
struct End {
    code: u16,
    reason: String,
}

/// The client is gone: nobody can be told.
type Gone = Option<End>;

fn ended(code: u16, reason: impl Into<String>) -> Gone {
    let reason = reason.into();
    // A close frame has room for 123 bytes.
    let reason = reason[..reason.floor_char_boundary(120)].to_owned();
    Some(End { code, reason })
}

impl Follower {
    async fn run(mut self, mut socket: WebSocket, first: Vec<StreamResult>) {
        let end = match self.send_lines(&mut socket, first).await {
            Ok(()) => self.follow(&mut socket).await,
            Err(gone) => gone,
        };
        self.ticket.set(QueryState::Finished);
        if let Some(End { code, reason }) = end {
            let frame = CloseFrame {
                code,
                reason: Utf8Bytes::from(reason),
            };
            let _ = timeout(SEND_TIMEOUT, socket.send(Message::Close(Some(frame)))).await;
        }
    }

    /// Sends what arrives until something ends it.
    async fn follow(&mut self, socket: &mut WebSocket) -> Gone {
        let began = Instant::now();
        let mut pings = interval(PING_INTERVAL);
        pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                message = socket.recv() => match message {
                    None | Some(Err(_) | Ok(Message::Close(_))) => return None,
                    Some(Ok(_)) => continue,
                },
                _ = pings.tick() => {
                    if self.context.check().is_err() {
                        return ended(close_code::NORMAL, "the tail was ended by the server");
                    }
                    if let Err(gone) = send(socket, Message::Ping(Default::default())).await {
                        return gone;
                    }
                    continue;
                }
                () = sleep_until(began + TAIL_DURATION) => {
                    return ended(close_code::NORMAL, "reached tail max duration limit");
                }
                () = self.tail.wait() => {}
            }
            tokio::time::sleep(self.delay.max(GATHER_TIME)).await;
            if began.elapsed() > OVERLAP_TIME + self.delay {
                self.overlap = HashSet::new();
            }
            let arrived = self.tail.take();
            let is_end = arrived.is_end;
            if let Err(gone) = self.send_arrived(socket, arrived).await {
                return gone;
            }
            if is_end {
                return ended(close_code::AWAY, "the server is stopping");
            }
        }
    }

    async fn send_arrived(&mut self, socket: &mut WebSocket, arrived: Arrived) -> Result<(), Gone> {
        for batch in arrived.batches {
            if self.context.check().is_err() {
                return Err(ended(
                    close_code::NORMAL,
                    "the tail was ended by the server",
                ));
            }
            let found = self.read(batch).await?;
            self.send_lines(socket, found).await?;
        }
        let mut dropped = arrived.dropped;
        dropped.retain(|dropped| self.lines.wants(&self.context, &dropped.stream));
        if dropped.is_empty() {
            return Ok(());
        }
        tracing::debug!(rows = arrived.dropped_rows, "a tail is too slow");
        let frame = wire::frame(&[], &dropped, self.shape);
        send(socket, Message::Text(frame.into())).await
    }

    /// The lines of a batch that pass, without those that were sent already.
    async fn read(&mut self, batch: Arc<LogBatch>) -> Result<Vec<StreamResult>, Gone> {
        let (lines, context) = (Arc::clone(&self.lines), self.context.clone());
        let read = tokio::task::spawn_blocking(move || lines.lines(&context, &batch)).await;
        let mut found = match read {
            Ok(Ok(found)) => found,
            Ok(Err(error)) => return Err(ended(close_code::ERROR, error.to_string())),
            Err(error) => return Err(ended(close_code::ERROR, error.to_string())),
        };
        if !self.overlap.is_empty() {
            for stream in &mut found {
                let entries = std::mem::take(&mut stream.entries);
                let is_new = |entry: &StreamEntry| !self.overlap.remove(&hash(stream, entry));
                stream.entries = entries.into_iter().filter(is_new).collect();
            }
        }
        Ok(found)
    }

    /// Sends lines in frames of bounded size.
    async fn send_lines(
        &self,
        socket: &mut WebSocket,
        streams: Vec<StreamResult>,
    ) -> Result<(), Gone> {
        let mut frame: Vec<StreamResult> = Vec::new();
        let (mut lines, mut bytes) = (0, 0);
        for stream in streams {
            let mut part = stream.without_entries();
            for entry in stream.entries {
                lines += 1;
                bytes += entry.line.len();
                part.entries.push(entry);
                if lines >= FRAME_LINES_MAX || bytes >= FRAME_BYTES_MAX {
                    let rest = part.without_entries();
                    frame.push(std::mem::replace(&mut part, rest));
                    self.send_frame(socket, &mut frame).await?;
                    (lines, bytes) = (0, 0);
                }
            }
            if !part.entries.is_empty() {
                frame.push(part);
            }
        }
        match frame.is_empty() {
            true => Ok(()),
            false => self.send_frame(socket, &mut frame).await,
        }
    }

    async fn send_frame(
        &self,
        socket: &mut WebSocket,
        streams: &mut Vec<StreamResult>,
    ) -> Result<(), Gone> {
        let text = wire::frame(streams, &[], self.shape);
        streams.clear();
        self.ticket.usage().add_bytes(text.len() as u64);
        send(socket, Message::Text(text.into())).await
    }
}

async fn send(socket: &mut WebSocket, message: Message) -> Result<(), Gone> {
    match timeout(SEND_TIMEOUT, socket.send(message)).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(_)) => Err(None),
        Err(_) => Err(ended(close_code::POLICY, "the client does not read")),
    }
}
