//! The accept loop.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio_rustls::TlsAcceptor;
use tower::ServiceExt as _;

/// Bytes that a request's head may have.
const HEAD_BYTES_MAX: usize = 16 << 10;

/// Time for a request's head while connections are scarce: whoever does not speak at once makes
/// room for others, so that a crowd of silent connections cannot shut everybody out.
const PRESSED_HEADER_TIMEOUT: Duration = Duration::from_secs(1);

/// What one client may hold.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Open connections.
    pub connections_max: usize,
    /// Time for a request's head, and for a TLS handshake.
    pub header_timeout: Duration,
    /// How long answers under way may take once the server stops.
    pub drain_timeout: Duration,
}

impl Limits {
    /// The limits of a connection that finds `free` others unused.
    fn under_pressure(self, free: usize) -> Self {
        if free >= self.connections_max / 4 {
            return self;
        }
        Self {
            header_timeout: self.header_timeout.min(PRESSED_HEADER_TIMEOUT),
            ..self
        }
    }
}

/// A listening socket, before anything is accepted.
pub struct Bound {
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    address: SocketAddr,
}

impl Bound {
    /// Binds to `address`.
    ///
    /// # Errors
    /// A message that names the address and, where the port is taken, says so.
    pub async fn bind(address: &str, tls: Option<TlsAcceptor>) -> Result<Self, String> {
        let failed = |error: std::io::Error| match error.kind() {
            std::io::ErrorKind::AddrInUse => {
                format!("cannot listen on {address}: the port is taken by another process")
            }
            _ => format!("cannot listen on {address}: {error}"),
        };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        Ok(Self {
            listener,
            tls,
            address,
        })
    }

    /// The address with the port that the system chose.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// `http://address` or `https://address`.
    #[must_use]
    pub fn url(&self) -> String {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://{}", self.address)
    }
}

/// Serves `router` until `stop` turns true, then lets answers under way end.
///
/// `open` counts the connections of the moment.
pub async fn serve(
    bound: Bound,
    router: Router,
    limits: Limits,
    open: Arc<AtomicU64>,
    mut stop: watch::Receiver<bool>,
) {
    let slots = Arc::new(Semaphore::new(limits.connections_max));
    let graceful = GracefulShutdown::new();
    loop {
        let slot = tokio::select! {
            slot = Arc::clone(&slots).acquire_owned() => slot,
            _ = stop.wait_for(|stop| *stop) => break,
        };
        let Ok(slot) = slot else { break };
        let accepted = tokio::select! {
            accepted = bound.listener.accept() => accepted,
            _ = stop.wait_for(|stop| *stop) => break,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Out of descriptors, or the client left in the queue: neither ends the loop.
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(20)).await;
                continue;
            }
        };
        let _ = stream.set_nodelay(true);
        let (router, tls, watcher) = (router.clone(), bound.tls.clone(), graceful.watcher());
        let open = OpenConnection::new(&open);
        let limits = limits.under_pressure(slots.available_permits());
        tokio::spawn(async move {
            let _held = (slot, open);
            if let Err(error) = connection(stream, tls, router, limits, watcher).await {
                tracing::debug!(error, "connection ended");
            }
        });
    }
    drop(bound);
    if tokio::time::timeout(limits.drain_timeout, graceful.shutdown())
        .await
        .is_err()
    {
        tracing::warn!("some requests did not end in time and are cut off");
    }
}

async fn connection(
    stream: TcpStream,
    tls: Option<TlsAcceptor>,
    router: Router,
    limits: Limits,
    watcher: hyper_util::server::graceful::Watcher,
) -> Result<(), String> {
    let Some(tls) = tls else {
        return http1_connection(stream, router, limits, watcher).await;
    };
    let handshake = tokio::time::timeout(limits.header_timeout, tls.accept(stream));
    let stream = handshake
        .await
        .map_err(|_| "no TLS handshake in time".to_owned())?
        .map_err(|e| format!("TLS handshake: {e}"))?;
    if stream.get_ref().1.alpn_protocol() == Some(b"h2") {
        http2_connection(stream, router, limits, watcher).await
    } else {
        http1_connection(stream, router, limits, watcher).await
    }
}

async fn http1_connection<S>(
    stream: S,
    router: Router,
    limits: Limits,
    watcher: hyper_util::server::graceful::Watcher,
) -> Result<(), String>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let service = hyper::service::service_fn(move |request: Request<Incoming>| {
        router.clone().oneshot(request.map(Body::new))
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header_timeout)
        .max_header_size(HEAD_BYTES_MAX)
        .max_buf_size(512 << 10)
        .half_close(true)
        .serve_connection(TokioIo::new(stream), service);
    watcher
        .watch(connection)
        .await
        .map_err(|error| error.to_string())
}

async fn http2_connection<S>(
    stream: S,
    router: Router,
    limits: Limits,
    watcher: hyper_util::server::graceful::Watcher,
) -> Result<(), String>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let service = hyper::service::service_fn(move |request: Request<Incoming>| {
        router.clone().oneshot(request.map(Body::new))
    });
    let connection = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .max_header_list_size(HEAD_BYTES_MAX as u32)
        .max_concurrent_streams(100)
        .keep_alive_interval(limits.header_timeout)
        .keep_alive_timeout(limits.header_timeout)
        .serve_connection(TokioIo::new(stream), service);
    watcher
        .watch(connection)
        .await
        .map_err(|error| error.to_string())
}

/// Counts a connection for as long as it lives.
struct OpenConnection(Arc<AtomicU64>);

impl OpenConnection {
    fn new(count: &Arc<AtomicU64>) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(count))
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silent_connections_get_less_time_when_few_are_left() {
        let limits = Limits {
            connections_max: 100,
            header_timeout: Duration::from_secs(30),
            drain_timeout: Duration::ZERO,
        };
        let timeout = |free| limits.under_pressure(free).header_timeout;
        assert_eq!(timeout(80), Duration::from_secs(30));
        assert_eq!(timeout(24), PRESSED_HEADER_TIMEOUT);
    }
}
