//! The accept loop.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use http::{Request, Response};
use hyper::body::{Body as HttpBody, Frame, Incoming, SizeHint};
use hyper::server::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio_rustls::TlsAcceptor;
use tower::ServiceExt as _;

use super::idle::{Activity, IdleConnections, Serving};

/// Bytes that a request's head may have.
const HEAD_BYTES_MAX: usize = 16 << 10;

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

/// A listening socket, before anything is accepted.
pub struct Bound {
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    address: SocketAddr,
    /// Without TLS, where nothing is negotiated, clients begin with HTTP/2.
    http2_only: bool,
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
            http2_only: false,
        })
    }

    /// The same for clients that speak HTTP/2 from the first byte, as those of gRPC do.
    #[must_use]
    pub fn http2_only(mut self) -> Self {
        self.http2_only = true;
        self
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
    let idle = Arc::new(IdleConnections::default());
    let graceful = GracefulShutdown::new();
    loop {
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
        if slots.available_permits() == 0 {
            idle.evict_oldest();
        }
        // Where nobody is idle, the newcomer waits until somebody has been served.
        let slot = tokio::select! {
            slot = Arc::clone(&slots).acquire_owned() => slot,
            _ = stop.wait_for(|stop| *stop) => break,
        };
        let Ok(slot) = slot else { break };
        let _ = stream.set_nodelay(true);
        let activity = Activity::new(&idle);
        let service = Service {
            router: router.clone(),
            activity: Arc::clone(&activity),
            place: Place {
                _slot: Arc::new(slot),
                _open: Arc::new(OpenConnection::new(&open)),
            },
        };
        let tls = bound.tls.clone();
        let ending = Ending {
            stop: stop.clone(),
            _watcher: graceful.watcher(),
        };
        let http2_only = bound.http2_only;
        tokio::spawn(async move {
            let ended = tokio::select! {
                ended = connection(stream, tls, http2_only, service, limits, ending) => ended,
                () = activity.evicted() => Err("idle, and others need the place".to_owned()),
            };
            if let Err(error) = ended {
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

/// How a connection hears of the end, and is waited for.
struct Ending {
    stop: watch::Receiver<bool>,
    /// The server waits until it is dropped.
    _watcher: Watcher,
}

impl Ending {
    /// Returns when the server stops.
    async fn told(&mut self) {
        let _ = self.stop.wait_for(|stop| *stop).await;
    }
}

async fn connection(
    stream: TcpStream,
    tls: Option<TlsAcceptor>,
    http2_only: bool,
    service: Service,
    limits: Limits,
    ending: Ending,
) -> Result<(), String> {
    let Some(tls) = tls else {
        if http2_only {
            return http2_connection(stream, service, limits, ending).await;
        }
        return http1_connection(stream, service, limits, ending).await;
    };
    let handshake = tokio::time::timeout(limits.header_timeout, tls.accept(stream));
    let stream = handshake
        .await
        .map_err(|_| "no TLS handshake in time".to_owned())?
        .map_err(|e| format!("TLS handshake: {e}"))?;
    if stream.get_ref().1.alpn_protocol() == Some(b"h2") {
        http2_connection(stream, service, limits, ending).await
    } else {
        http1_connection(stream, service, limits, ending).await
    }
}

async fn http1_connection<S>(
    stream: S,
    service: Service,
    limits: Limits,
    mut ending: Ending,
) -> Result<(), String>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header_timeout)
        .max_header_size(HEAD_BYTES_MAX)
        .max_buf_size(512 << 10)
        // A client that closes its side has left, as Go's server sees it: nothing else would end the
        // work for it before the first bytes of the answer.
        .half_close(false)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    tokio::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = ending.told() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    ended.map_err(|error| error.to_string())
}

async fn http2_connection<S>(
    stream: S,
    service: Service,
    limits: Limits,
    mut ending: Ending,
) -> Result<(), String>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let connection = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .max_header_list_size(HEAD_BYTES_MAX as u32)
        .max_concurrent_streams(100)
        .keep_alive_interval(limits.header_timeout)
        .keep_alive_timeout(limits.header_timeout)
        .serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = ending.told() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    ended.map_err(|error| error.to_string())
}

/// The place of a connection among those that may be open. Every request has it among its extensions:
/// what goes on using the connection after the answer, as a websocket does, keeps it.
#[derive(Clone)]
pub struct Place {
    _slot: Arc<OwnedSemaphorePermit>,
    _open: Arc<OpenConnection>,
}

/// Passes the requests of one connection to the router and notes when there are none.
#[derive(Clone)]
struct Service {
    router: Router,
    activity: Arc<Activity>,
    place: Place,
}

impl hyper::service::Service<Request<Incoming>> for Service {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn call(&self, mut request: Request<Incoming>) -> Self::Future {
        request.extensions_mut().insert(self.place.clone());
        let serving = self.activity.serving();
        let answer = self.router.clone().oneshot(request.map(Body::new));
        Box::pin(async move {
            let answer = answer.await?;
            Ok(answer.map(|body| {
                Body::new(HeldBody {
                    body,
                    _serving: serving,
                })
            }))
        })
    }
}

/// An answer's body: the connection is not idle before it is sent.
struct HeldBody {
    body: Body,
    _serving: Serving,
}

impl HttpBody for HeldBody {
    type Data = <Body as HttpBody>::Data;
    type Error = <Body as HttpBody>::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
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
