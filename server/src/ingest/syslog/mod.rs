//! Syslog over TCP and UDP (`syslog_tcp_listen`, `syslog_udp_listen`), for the default tenant.
//!
//! Over TCP messages are framed by octet counts or by newlines (RFC 6587), found out message by
//! message. What one read brings is one commit, and nothing more is read until it is durable: a sender
//! is slowed down rather than buffered for. A connection holds at most one message that is not
//! complete. Over UDP what cannot be stored is lost, as UDP has it, and counted.

mod frame;
pub mod message;

use std::net::{IpAddr, SocketAddr};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use chronolith_engine::TenantId;
use chronolith_engine::model::{LabelsBuilder, Stream};
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::net::{TcpListener, UdpSocket};
use tokio::sync::{Semaphore, watch};

use self::frame::{Frame, MESSAGE_BYTES_MAX, next_frame};
use self::message::read;
use crate::error::{ApiError, ErrorType};
use crate::request::Caller;
use crate::rows::labels::finish_labels;
use crate::rows::take::{self, Source};
use crate::rows::{LogRow, LogSink, Reason, TooManyStreams};
use crate::state::AppState;
use crate::telemetry::rows::Protocol;

/// Connections at the same time; more wait.
const CONNECTIONS_MAX: usize = 512;
/// Bytes that one read takes.
const READ_BYTES: usize = 64 << 10;
/// Time without a byte after which a connection is closed.
const IDLE: Duration = Duration::from_secs(15 * 60);
/// Time after which a write that was refused is tried again.
const RETRY: Duration = Duration::from_secs(1);
/// Datagrams that become one commit.
const DATAGRAMS_MAX: usize = 1_000;
/// Stands behind the tenant in keys of streams: no other protocol's keys have it there.
const KEY_MARK: u8 = 5;

/// Messages: where each lies in a run of bytes, and who sent it.
#[derive(Default)]
struct Messages {
    bytes: Vec<u8>,
    ranges: Vec<(Range<usize>, IpAddr)>,
}

/// What is done when the store takes no writes.
#[derive(Clone, Copy, PartialEq)]
enum Wait {
    /// Wait until it does: the sender waits too.
    ForRoom,
    /// Nothing: the messages are lost.
    Never,
}

/// Serves until `stopped`.
pub async fn serve_tcp(state: AppState, listener: TcpListener, mut stopped: watch::Receiver<bool>) {
    let connections = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Ok(permit) = Arc::clone(&connections).acquire_owned().await else {
            return;
        };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = stopped.wait_for(|stopped| *stopped) => return,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "syslog: cannot accept a connection");
                tokio::time::sleep(RETRY).await;
                continue;
            }
        };
        let (state, mut stopped) = (state.clone(), stopped.clone());
        tokio::spawn(async move {
            let _permit = permit;
            tokio::select! {
                () = connection(&state, stream, peer.ip()) => {}
                _ = stopped.wait_for(|stopped| *stopped) => {}
            }
        });
    }
}

/// Takes the messages of one connection.
async fn connection(state: &AppState, mut stream: impl AsyncRead + Unpin, peer: IpAddr) {
    // What is not complete yet.
    let mut rest = Vec::new();
    loop {
        rest.reserve(READ_BYTES);
        let got = match tokio::time::timeout(IDLE, stream.read_buf(&mut rest)).await {
            Ok(Ok(got)) => got,
            Ok(Err(_)) | Err(_) => return,
        };
        let is_end = got == 0;
        if is_end && !rest.is_empty() {
            // The last message may lack its newline.
            rest.push(b'\n');
        }
        let mut messages = Messages::default();
        let mut at = 0;
        let broken = loop {
            match next_frame(rest.get(at..).unwrap_or_default()) {
                Frame::Whole { message, used } => {
                    let range = at + message.start..at + message.end;
                    if !range.is_empty() {
                        messages.ranges.push((range, peer));
                    }
                    at += used;
                }
                Frame::Partial => break false,
                Frame::Broken => break true,
            }
        };
        let left = rest.get(at..).unwrap_or_default().to_vec();
        messages.bytes = std::mem::replace(&mut rest, left);
        if !messages.ranges.is_empty() {
            store(state, messages, Wait::ForRoom).await;
        }
        if broken {
            tracing::debug!(%peer, "syslog: a frame that cannot be; connection closed");
            return;
        }
        if is_end {
            return;
        }
    }
}

/// Serves until `stopped`.
pub async fn serve_udp(state: AppState, socket: UdpSocket, mut stopped: watch::Receiver<bool>) {
    let mut buffer = vec![0_u8; READ_BYTES];
    loop {
        let first = tokio::select! {
            first = socket.recv_from(&mut buffer) => first,
            _ = stopped.wait_for(|stopped| *stopped) => return,
        };
        let mut messages = Messages::default();
        let mut next = first;
        while let Ok((length, peer)) = next {
            messages.add(buffer.get(..length).unwrap_or_default(), peer);
            if messages.ranges.len() >= DATAGRAMS_MAX {
                break;
            }
            next = socket.try_recv_from(&mut buffer);
        }
        if !messages.ranges.is_empty() {
            store(&state, messages, Wait::Never).await;
        }
    }
}

impl Messages {
    fn add(&mut self, message: &[u8], peer: SocketAddr) {
        let message = message.get(..MESSAGE_BYTES_MAX).unwrap_or(message);
        if message.is_empty() {
            return;
        }
        let start = self.bytes.len();
        self.bytes.extend_from_slice(message);
        self.ranges.push((start..self.bytes.len(), peer.ip()));
    }
}

async fn store(state: &AppState, messages: Messages, wait: Wait) {
    let messages = Arc::new(messages);
    loop {
        let caller = Caller {
            tenant: TenantId::default(),
            principal: None,
        };
        let source = Source {
            protocol: Protocol::Syslog,
            received_bytes: messages.bytes.len(),
            decoded_bytes: messages.bytes.len(),
        };
        let held = Arc::clone(&messages);
        let taken = take::logs(state, caller, source, held, |held, sink| {
            fill(held, sink);
            Ok(())
        });
        match taken.await {
            Ok(_) => return,
            Err(error) if wait == Wait::ForRoom && may_pass(&error) && !state.is_stopping() => {
                tokio::time::sleep(RETRY).await;
            }
            Err(error) => {
                let refused = &state.metrics().ingest_refused;
                refused.fetch_add(1, Ordering::Relaxed);
                tracing::warn!(%error, lost = messages.ranges.len(), "syslog: not stored");
                return;
            }
        }
    }
}

fn may_pass(error: &ApiError) -> bool {
    matches!(
        error.kind,
        ErrorType::TooMany | ErrorType::Unavailable | ErrorType::Timeout
    )
}

fn fill(messages: &Messages, sink: &mut LogSink<'_>) {
    let now = sink.limits().now;
    let mut key = Vec::new();
    for (range, peer) in &messages.ranges {
        let bytes = messages.bytes.get(range.clone()).unwrap_or_default();
        let text = String::from_utf8_lossy(bytes);
        sink.taken.repaired_texts += u64::from(matches!(text, std::borrow::Cow::Owned(_)));
        let mut row = LogRow::default();
        let sender = read(&text, now, &mut row);
        let peer = peer.to_string();
        let host = if sender.host.is_empty() {
            &peer
        } else {
            sender.host
        };
        key.clear();
        key.extend_from_slice(sink.tenant().as_str().as_bytes());
        key.push(KEY_MARK);
        key.extend_from_slice(host.as_bytes());
        key.push(0);
        key.extend_from_slice(sender.app.as_bytes());
        let number = sink.stream(&key, || {
            let mut labels = LabelsBuilder::new();
            labels.set("host", host);
            labels.set("app", sender.app);
            Ok::<_, TooManyStreams>(Stream::from_labels(finish_labels(labels)))
        });
        match number {
            Ok(number) => sink.push(number, &mut row),
            Err(error) => sink.taken.refuse(1, Reason::Streams, error.to_string()),
        }
    }
}
