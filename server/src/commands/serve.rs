//! `serve`: configuration, listeners, store, and the way down.
//!
//! Order of the start: configuration, log, sockets (a taken port is known before anything is
//! touched), store (lock, replay), then the addresses are printed and requests are answered.
//! Order of the end: writes are refused, requests under way get a few seconds, the store is
//! synced and closed.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use chronolith_engine::{EngineError, RowObservers, Store, StoreOptions, SyncMode};
use tokio::net::{TcpListener, UdpSocket};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::cli::ServeArgs;
use crate::config::{Config, Listen, Settings, Source, Sync, TABLE, Tenants};
use crate::files;
use crate::ingest::syslog;
use crate::lifecycle;
use crate::listen::{self, Authenticator, Bound, Limits};
use crate::router::{otlp_grpc_router, otlp_router, router};
use crate::scrape::config::ScrapeConfigs;
use crate::span_metrics;
use crate::state::{AppState, Derived};
use crate::tails::Tails;
use crate::telemetry::{init_logging, self_scrape};

/// How long answers under way may take after the signal. With the time to close the store this
/// has to stay below the 10 s that a supervisor waits.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(4);
/// How long closing the store may take before the process ends anyway: what was acknowledged
/// under `sync: always` is on the medium already.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);
/// How long rows that were stored may take to be counted.
const FEED_TIMEOUT: Duration = Duration::from_secs(1);
/// An extra listener takes so small a part of the connections that the main one may have.
const EXTRA_CONNECTIONS_SHARE: usize = 8;
/// How often pushed groups are written into the store.
const PUSHED_WRITE_INTERVAL: Duration = Duration::from_secs(15);
/// Threads that may block at the same time: queries, writes and listings.
const BLOCKING_THREADS_MAX: usize = 128;

/// Runs the server until a signal ends it.
///
/// # Errors
/// What kept it from starting.
pub fn run(args: &ServeArgs) -> anyhow::Result<()> {
    let config = Config::load(
        args.config.as_deref(),
        |setting| args.flag(setting),
        |name| std::env::var(name).ok(),
    )?;
    init_logging(config.settings.log_format, &config.settings.log_level)
        .map_err(anyhow::Error::msg)?;
    runtime()?.block_on(serve(config))
}

/// The async runtime of the server.
///
/// # Errors
/// The system has no threads left.
pub fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .max_blocking_threads(BLOCKING_THREADS_MAX)
        .thread_name("chronolith-io")
        .build()
        .context("cannot start the runtime")
}

/// A server that listens, for whoever runs one inside another program.
pub struct Running {
    /// What the handlers share.
    pub state: AppState,
    /// Where the API is: `http://127.0.0.1:9009`.
    pub url: String,
    /// Where OTLP over HTTP is besides, if anywhere: `http://127.0.0.1:4318`.
    pub otlp_http_url: Option<String>,
    /// Where OTLP over gRPC is, if anywhere: `http://127.0.0.1:4317`.
    pub otlp_grpc_url: Option<String>,
    /// Where syslog is, by transport.
    pub syslog_addresses: Vec<(&'static str, SocketAddr)>,
    stop: watch::Sender<bool>,
    serving: Vec<tokio::task::JoinHandle<()>>,
}

/// Binds, opens the store and starts to answer.
///
/// # Errors
/// A taken port, a directory that cannot be used, a bad certificate.
pub async fn start(config: Config) -> anyhow::Result<Running> {
    let settings = config.settings.clone();
    let authenticator = Authenticator::new(&config.web).map_err(anyhow::Error::msg)?;
    let scrape_configs = ScrapeConfigs::of(&config.file).map_err(anyhow::Error::msg)?;
    let log_files = files::config::jobs(&config.file).map_err(anyhow::Error::msg)?;
    let acceptor = || {
        let tls = config.web.tls_server_config.as_ref();
        let tls = tls.map(listen::acceptor).transpose();
        tls.map_err(anyhow::Error::msg)
    };
    let Listen::At(address) = &settings.listen else {
        return Err(anyhow!("listen: the HTTP API cannot be off"));
    };
    let bound = Bound::bind(address, acceptor()?)
        .await
        .map_err(anyhow::Error::msg)?;
    let otlp_http = bind_extra(
        &config,
        "otlp_http_listen",
        &settings.otlp_http_listen,
        acceptor()?,
    );
    let otlp_http = otlp_http.await?;
    let otlp_grpc = bind_extra(
        &config,
        "otlp_grpc_listen",
        &settings.otlp_grpc_listen,
        acceptor()?,
    );
    let otlp_grpc = otlp_grpc.await?.map(Bound::http2_only);
    warn_about_unbuilt(&config);
    let syslog_tcp = match &settings.syslog_tcp_listen {
        Listen::Off => None,
        Listen::At(address) => Some(
            TcpListener::bind(address)
                .await
                .with_context(|| format!("syslog_tcp_listen: cannot listen on {address}"))?,
        ),
    };
    let syslog_udp = match &settings.syslog_udp_listen {
        Listen::Off => None,
        Listen::At(address) => Some(
            UdpSocket::bind(address)
                .await
                .with_context(|| format!("syslog_udp_listen: cannot listen on {address}"))?,
        ),
    };

    let tails = Tails::new(settings.tail_clients_max as usize);
    let derived = Derived::new(&config);
    let store = {
        let (settings, tenants) = (settings.clone(), config.tenants.clone());
        let mut observers = RowObservers::default();
        observers.push(Arc::new(tails.clone()));
        observers.push(Arc::clone(&derived.feed) as _);
        tokio::task::spawn_blocking(move || open_store(&settings, &tenants, observers)).await??
    };
    // The HTTP client of scrapes takes the process' default provider. An error means that there is
    // one already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let state = AppState::new(store, config, tails, derived)?;
    feed_derived(&state)?;
    state
        .scraper()
        .apply(&scrape_configs)
        .map_err(anyhow::Error::msg)?;
    tokio::spawn(state.scraper().clone().watch());
    state.files().apply(&state, log_files);
    tokio::spawn(Arc::clone(state.pushgateway()).run(PUSHED_WRITE_INTERVAL));
    let url = bound.url();
    let otlp_http_url = otlp_http.as_ref().map(Bound::url);
    let otlp_grpc_url = otlp_grpc.as_ref().map(Bound::url);
    let instance = bound.address().to_string();
    let (stop, stopped) = watch::channel(false);
    let syslog_stopped = stopped.clone();
    let watching = (state.clone(), stopped.clone());
    tokio::spawn(async move {
        let (state, stopped) = watching;
        let store = state.store().clone();
        state.notifications().watch(store, stopped).await;
    });
    if settings.self_scrape {
        let interval = settings.self_scrape_interval.max(Duration::from_secs(1));
        let scrape = self_scrape::run(state.clone(), instance, interval, stopped.clone());
        tokio::spawn(scrape);
    }
    if settings.span_metrics {
        let interval = settings.span_metrics_interval;
        let interval = interval.max(Duration::from_millis(100));
        let write = span_metrics::run(state.clone(), interval, stopped.clone());
        tokio::spawn(write);
    }
    let limits = Limits {
        connections_max: connections_max(&settings),
        header_timeout: settings.header_timeout,
        drain_timeout: DRAIN_TIMEOUT,
    };
    let authenticator = Arc::new(authenticator);
    // Exporters keep few connections. Together the listeners must leave descriptors for files.
    let extra_limits = Limits {
        connections_max: (limits.connections_max / EXTRA_CONNECTIONS_SHARE).max(1),
        ..limits
    };
    let serve = |bound, router, limits| {
        let open = Arc::clone(&state.metrics().connections_open);
        tokio::spawn(listen::serve(bound, router, limits, open, stopped.clone()))
    };
    let mut serving = vec![serve(
        bound,
        router(state.clone(), Arc::clone(&authenticator)),
        limits,
    )];
    if let Some(bound) = otlp_http {
        let router = otlp_router(state.clone(), Arc::clone(&authenticator));
        serving.push(serve(bound, router, extra_limits));
    }
    if let Some(bound) = otlp_grpc {
        let router = otlp_grpc_router(state.clone(), authenticator);
        serving.push(serve(bound, router, extra_limits));
    }
    let mut syslog_addresses = Vec::new();
    if let Some(listener) = syslog_tcp {
        syslog_addresses.push(("TCP", listener.local_addr()?));
        let serve = syslog::serve_tcp(state.clone(), listener, syslog_stopped.clone());
        serving.push(tokio::spawn(serve));
    }
    if let Some(socket) = syslog_udp {
        syslog_addresses.push(("UDP", socket.local_addr()?));
        let serve = syslog::serve_udp(state.clone(), socket, syslog_stopped);
        serving.push(tokio::spawn(serve));
    }
    Ok(Running {
        syslog_addresses,
        state,
        url,
        otlp_http_url,
        otlp_grpc_url,
        stop,
        serving,
    })
}

impl Running {
    /// Refuses writes, lets requests under way end, syncs and closes the store.
    ///
    /// # Errors
    /// The store could not be closed cleanly.
    pub async fn stop(self) -> anyhow::Result<()> {
        self.state.stop_writes();
        self.stop.send_replace(true);
        for serving in self.serving {
            let _ = serving.await;
        }
        // Websockets are no requests under way: those who follow logs are told on their own.
        let _ = tokio::time::timeout(DRAIN_TIMEOUT, self.state.tails().emptied()).await;
        self.state.scraper().shutdown().await;
        self.state.files().shutdown().await;
        self.state.feed().stop();
        let store = self.state.store().clone();
        let (feed, counters) = (
            Arc::clone(self.state.feed()),
            Arc::clone(self.state.span_metrics()),
        );
        let closing = tokio::task::spawn_blocking(move || {
            feed.settle(FEED_TIMEOUT);
            // What was counted since the last interval; without it the store closes all the same.
            let _ = counters.write(&store);
            store.close()
        });
        match tokio::time::timeout(CLOSE_TIMEOUT, closing).await {
            Ok(closed) => Ok(closed??),
            Err(_) => Err(anyhow!(
                "the store did not close within {} s; its log will be replayed at the next start",
                CLOSE_TIMEOUT.as_secs()
            )),
        }
    }
}

/// Waits for SIGTERM or SIGINT.
///
/// # Errors
/// The system lets no handler be set.
pub async fn wait_for_signal() -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}

async fn serve(config: Config) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let running = tokio::select! {
        running = start(config) => running?,
        // Nothing was acknowledged yet, so there is nothing to sync.
        _ = terminate.recv() => return Ok(()),
        _ = interrupt.recv() => return Ok(()),
    };
    tokio::spawn(reload_on_hangup(running.state.clone()));
    println!("listening on {}", running.url);
    if let Some(url) = &running.otlp_http_url {
        println!("OTLP over HTTP on {url}");
    }
    if let Some(url) = &running.otlp_grpc_url {
        println!("OTLP over gRPC on {url}");
    }
    for (transport, address) in &running.syslog_addresses {
        println!("syslog over {transport} on {address}");
    }
    tracing::info!(version = crate::VERSION, url = running.url, "ready");
    tokio::select! {
        _ = terminate.recv() => tracing::info!("SIGTERM: stopping"),
        _ = interrupt.recv() => tracing::info!("SIGINT: stopping"),
        () = running.state.lifecycle().quit_asked() => {}
    }
    tokio::select! {
        stopped = running.stop() => {
            if let Err(error) = stopped {
                tracing::warn!(%error, "not closed cleanly");
            }
            tracing::info!("stopped");
        }
        _ = terminate.recv() => tracing::warn!("second signal: stopping at once"),
        _ = interrupt.recv() => tracing::warn!("second signal: stopping at once"),
    }
    // A thread that still blocks must not hold the process.
    std::process::exit(0)
}

/// Reads the configuration file again at each SIGHUP.
async fn reload_on_hangup(state: AppState) {
    let mut hangup = match signal(SignalKind::hangup()) {
        Ok(hangup) => hangup,
        Err(error) => {
            tracing::warn!(%error, "SIGHUP will not reload the configuration");
            return;
        }
    };
    while hangup.recv().await.is_some() {
        // What is wrong with the file is in the log and among the notifications.
        let _ = state.blocking(|state| Ok(lifecycle::reload(state))).await;
    }
}

/// Binds an extra listener. Where its address is the default and taken (by another server on this
/// machine, or by a collector), the server does without it and says so.
async fn bind_extra(
    config: &Config,
    key: &str,
    listen: &Listen,
    tls: Option<tokio_rustls::TlsAcceptor>,
) -> anyhow::Result<Option<Bound>> {
    let Listen::At(address) = listen else {
        return Ok(None);
    };
    match Bound::bind(address, tls).await {
        Ok(bound) => Ok(Some(bound)),
        Err(error) if is_asked_for(config, key) => Err(anyhow!("{key}: {error}")),
        Err(error) => {
            tracing::warn!("{key}: {error}; the listener stays off");
            Ok(None)
        }
    }
}

/// Whether somebody set it, rather than the default.
fn is_asked_for(config: &Config, key: &str) -> bool {
    let index = TABLE.iter().position(|s| s.key == key);
    let source = index.and_then(|i| config.sources.get(i)).map(|(_, s)| s);
    !matches!(source, None | Some(Source::Default))
}

/// Extra listeners are off as long as their protocol is not built. Whoever asked for one is told.
fn warn_about_unbuilt(config: &Config) {
    let settings = &config.settings;
    let extra = [
        ("flight_listen", &settings.flight_listen),
        ("pg_listen", &settings.pg_listen),
    ];
    for (key, listen) in extra {
        if *listen != Listen::Off && is_asked_for(config, key) {
            tracing::warn!("{key}: this protocol is not built yet, the listener stays off");
        }
    }
}

/// Raises the limit of file descriptors as far as the system lets us, and keeps a quarter of them
/// for files.
fn connections_max(settings: &Settings) -> usize {
    let descriptors = rlimit::increase_nofile_limit(u64::MAX).unwrap_or(1024);
    let share = usize::try_from(descriptors / 4 * 3).unwrap_or(usize::MAX);
    share.min(settings.connections_max as usize).max(1)
}

/// From now on rows are handed on to what is computed from them; what came before is read back beside
/// that.
fn feed_derived(state: &AppState) -> anyhow::Result<()> {
    state.feed().open()?;
    let (runs, store) = (Arc::clone(state.runs()), state.store().clone());
    std::thread::Builder::new()
        .name("chronolith-runs".into())
        .spawn(move || runs.read_back(&store))?;
    Ok(())
}

/// Opens the store with the share of the memory that is its own.
fn open_store(
    settings: &Settings,
    tenants: &Tenants,
    observers: RowObservers,
) -> anyhow::Result<Store> {
    let options = StoreOptions {
        observers,
        ..store_options(settings, tenants)
    };
    Store::open(&settings.data_dir, options).map_err(|error| match error {
        EngineError::Locked { .. } => anyhow!("cannot open the store: {error}"),
        other => anyhow!(
            "cannot open the store in {}: {other}",
            settings.data_dir.display()
        ),
    })
}

/// The engine's options as the settings have them.
///
/// Of `memory_max` the engine takes half (head, indexes, buffers), queries a quarter, writes in
/// flight at most an eighth, kept answers at most a sixteenth; the rest is for connections, caches
/// of the allocator and code.
fn store_options(settings: &Settings, tenants: &Tenants) -> StoreOptions {
    StoreOptions {
        sync: match settings.sync {
            Sync::Always => SyncMode::Always,
            Sync::Interval => SyncMode::Interval(settings.sync_interval),
            Sync::Off => SyncMode::Off,
        },
        memory_bytes_max: settings.memory_max.0 / 2,
        retention: (!settings.retention.is_zero()).then_some(settings.retention),
        retention_bytes: settings.retention_size.0,
        as_of_retention: settings.as_of_retention,
        series_per_tenant_max: settings.tenant_series_max,
        tenant_limits: tenants
            .iter()
            .map(|(tenant, config)| (tenant.clone(), config.limits(settings)))
            .collect(),
        ..StoreOptions::default()
    }
}
