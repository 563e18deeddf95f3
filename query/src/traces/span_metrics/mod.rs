//! Metrics of spans and the service graph, counted as spans arrive.
//!
//! Names and labels are those of Tempo's metrics generator: `traces_spanmetrics_{calls_total,
//! latency_bucket,latency_sum,latency_count,size_total}` by service, operation, kind and status, and
//! `traces_service_graph_request_{total,failed_total,client_seconds_*,server_seconds_*}` by client,
//! server and kind of connection.
//!
//! [`SpanMetrics`] is plain data: spans go in ([`SpanMetrics::batch`]), and [`SpanMetrics::collect`]
//! says what all counters stand at. Everything is bounded: what exceeds the number of series is counted
//! in one series with the label `metric_overflow="true"`; halves of requests wait for each other in a
//! table of fixed size.
//!
//! The cost is paid for every span that is stored: a hash of the operation's name and a few additions,
//! and for client and server spans one more look-up.

mod calls;
mod graph;
mod histogram;
mod reader;

use std::collections::HashMap;
use std::sync::Arc;

use calls::Calls;
use graph::ServiceGraph;

/// Nanoseconds of a second.
const SECOND: i64 = 1_000_000_000;
/// Bytes kept of a service's or an operation's name.
const NAME_BYTES_MAX: usize = 256;
/// The label of what exceeds the number of series.
const OVERFLOW: (&str, &str) = ("metric_overflow", "true");

/// What is counted, and how much of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpanMetricsOptions {
    /// Upper bounds of the buckets of span latencies in nanoseconds, ascending.
    pub latency_buckets_ns: Vec<i64>,
    /// The same for requests between services.
    pub request_buckets_ns: Vec<i64>,
    /// Combinations of service, operation, kind and status with counters of their own.
    pub keys_max: usize,
    /// Pairs of services (by kind of connection) with counters of their own.
    pub edges_max: usize,
    /// Halves of requests that may wait for the other half.
    pub pending_max: usize,
    /// How long they wait, nanoseconds.
    pub wait_ns: i64,
    /// Counters that have not moved for this long go, nanoseconds.
    pub idle_ns: i64,
}

impl Default for SpanMetricsOptions {
    fn default() -> Self {
        let doubling = |first_ms: i64, count: u32| {
            let bounds = (0..count).map(|nth| first_ms * 1_000_000 * 2_i64.pow(nth));
            bounds.collect()
        };
        Self {
            // 2 ms to 16.384 s and 0.1 s to 12.8 s, as in Tempo.
            latency_buckets_ns: doubling(2, 14),
            request_buckets_ns: doubling(100, 8),
            keys_max: 5_000,
            edges_max: 2_000,
            pending_max: 100_000,
            wait_ns: 10 * SECOND,
            idle_ns: 15 * 60 * SECOND,
        }
    }
}

/// The role of a span, by OpenTelemetry's numbers.
mod kind {
    pub(super) const SERVER: u8 = 2;
    pub(super) const CLIENT: u8 = 3;
    pub(super) const PRODUCER: u8 = 4;
    pub(super) const CONSUMER: u8 = 5;

    pub(super) fn name(kind: u8) -> &'static str {
        match kind {
            1 => "SPAN_KIND_INTERNAL",
            SERVER => "SPAN_KIND_SERVER",
            CLIENT => "SPAN_KIND_CLIENT",
            PRODUCER => "SPAN_KIND_PRODUCER",
            CONSUMER => "SPAN_KIND_CONSUMER",
            _ => "SPAN_KIND_UNSPECIFIED",
        }
    }
}

/// The number that says that a span failed.
const STATUS_ERROR: u8 = 2;

fn status_name(status: u8) -> &'static str {
    match status {
        1 => "STATUS_CODE_OK",
        STATUS_ERROR => "STATUS_CODE_ERROR",
        _ => "STATUS_CODE_UNSET",
    }
}

/// The kind of a connection between services.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Connection {
    /// One calls the other.
    #[default]
    Request,
    /// By messages.
    Messaging,
    /// To a database, which has no spans of its own.
    Database,
    /// To or from something that has no spans.
    Virtual,
}

impl Connection {
    fn as_str(self) -> &'static str {
        match self {
            Self::Request => "",
            Self::Messaging => "messaging_system",
            Self::Database => "database",
            Self::Virtual => "virtual_node",
        }
    }
}

/// What is counted of a span.
#[derive(Clone, Copy, Debug)]
pub struct SpanSample<'a> {
    /// The service, by [`SpanMetrics::service`].
    pub service: u32,
    /// The operation, UTF-8.
    pub name: &'a [u8],
    /// By OpenTelemetry's numbers.
    pub kind: u8,
    /// Likewise.
    pub status: u8,
    /// Negative counts as 0.
    pub duration_ns: i64,
    /// About how many bytes it takes.
    pub size_bytes: u64,
    /// The trace.
    pub trace_id: [u8; 16],
    /// The span.
    pub span_id: [u8; 8],
    /// Its parent; zeros for none.
    pub parent_span_id: [u8; 8],
    /// Whom a client span calls, as far as it says so itself.
    pub peer: Option<(&'a str, Connection)>,
}

/// One counter and what it stands at.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MetricRow<'a> {
    /// The metric.
    pub metric: &'static str,
    /// Labels besides the name, in no special order.
    pub labels: &'a [(&'static str, &'a str)],
    /// Its value; `None`: the counter ends here.
    pub value: Option<f64>,
    /// When it stood at 0, nanoseconds: at the collection before its first one.
    pub started: i64,
    /// It is collected for the first time.
    pub is_new: bool,
}

/// Services by number.
#[derive(Debug, Default)]
struct Services {
    numbers: HashMap<Arc<str>, u32>,
    names: Vec<Arc<str>>,
}

impl Services {
    /// Number of a name; `None` when there are too many.
    fn number(&mut self, name: &str, count_max: usize) -> Option<u32> {
        let mut end = name.len().min(NAME_BYTES_MAX);
        while !name.is_char_boundary(end) {
            end -= 1;
        }
        let name = &name[..end];
        if let Some(number) = self.numbers.get(name) {
            return Some(*number);
        }
        if self.names.len() >= count_max {
            return None;
        }
        let name: Arc<str> = name.into();
        let number = self.names.len() as u32;
        self.names.push(Arc::clone(&name));
        self.numbers.insert(name, number);
        Some(number)
    }

    fn name(&self, number: u32) -> &str {
        self.names.get(number as usize).map_or("", |name| name)
    }
}

/// The number of services that are one too many.
const NO_SERVICE: u32 = u32::MAX;

/// What was passed over or given up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SpanMetricsStats {
    /// Spans that were counted.
    pub spans: u64,
    /// Combinations with counters.
    pub keys: usize,
    /// Pairs of services with counters.
    pub edges: usize,
    /// Halves of requests that wait.
    pub pending: usize,
    /// Halves whose other half did not come in time.
    pub unpaired: u64,
    /// Halves that were given up before their time because too many waited.
    pub dropped: u64,
    /// Spans and requests that were counted in the series for what exceeds the limits.
    pub overflowed: u64,
}

/// Metrics of the spans of one tenant.
#[derive(Debug)]
pub struct SpanMetrics {
    options: SpanMetricsOptions,
    services: Services,
    calls: Calls,
    graph: ServiceGraph,
    spans: u64,
    /// When counters were collected last.
    collected: i64,
}

impl SpanMetrics {
    /// All counters at 0 at `now`, nanoseconds. `seed` keeps senders from choosing what falls together.
    #[must_use]
    pub fn new(options: SpanMetricsOptions, seed: u64, now: i64) -> Self {
        Self {
            services: Services::default(),
            calls: Calls::new(&options, seed),
            graph: ServiceGraph::new(&options, seed),
            options,
            spans: 0,
            collected: now,
        }
    }

    /// The number of a service.
    pub fn service(&mut self, name: &str) -> u32 {
        // As many services as there may be series: more could not be told apart anyway.
        let count_max = self.options.keys_max.saturating_add(self.options.edges_max);
        self.services.number(name, count_max).unwrap_or(NO_SERVICE)
    }

    /// Counts a span that arrived at `now`, nanoseconds.
    #[inline]
    pub fn count(&mut self, span: &SpanSample<'_>, now: i64) {
        self.spans += 1;
        self.calls.count(span, now);
        if matches!(span.kind, kind::SERVER..=kind::CONSUMER) {
            let peer = span
                .peer
                .map(|(name, connection)| (self.service(name), connection));
            self.graph.half(span, peer, now);
        }
    }

    /// Gives up halves of requests that have waited long enough.
    pub fn expire(&mut self, now: i64) {
        self.graph.expire(now);
    }

    /// From now on this is the limit of keys, edges and waiting halves; what is there stays.
    pub fn set_limits(&mut self, keys_max: usize, edges_max: usize, pending_max: usize) {
        (self.options.keys_max, self.options.edges_max) = (keys_max, edges_max);
        self.calls.set_keys_max(keys_max);
        self.graph.set_limits(edges_max, pending_max);
    }

    /// What every counter stands at. Counters that have not moved for long end, once.
    pub fn collect(&mut self, now: i64, mut row: impl FnMut(MetricRow<'_>)) {
        self.expire(now);
        let idle_since = now.saturating_sub(self.options.idle_ns);
        let since = std::mem::replace(&mut self.collected, now);
        let (calls, graph, services) = (&mut self.calls, &mut self.graph, &self.services);
        calls.collect(services, since, idle_since, &mut row);
        graph.collect(services, since, idle_since, &mut row);
    }

    /// What was counted and given up.
    #[must_use]
    pub fn stats(&self) -> SpanMetricsStats {
        SpanMetricsStats {
            spans: self.spans,
            keys: self.calls.len(),
            overflowed: self.calls.overflowed() + self.graph.overflowed(),
            ..self.graph.stats()
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    pub(super) fn options() -> SpanMetricsOptions {
        SpanMetricsOptions {
            keys_max: 3,
            edges_max: 2,
            pending_max: 4,
            ..SpanMetricsOptions::default()
        }
    }

    fn span(service: u32, name: &str, kind: u8, ids: (u8, u8)) -> SpanSample<'_> {
        SpanSample {
            service,
            name: name.as_bytes(),
            kind,
            status: 0,
            duration_ns: 3_000_000,
            size_bytes: 100,
            trace_id: [1; 16],
            span_id: [ids.0; 8],
            parent_span_id: [ids.1; 8],
            peer: None,
        }
    }

    fn collected(metrics: &mut SpanMetrics, now: i64) -> BTreeMap<String, (Option<f64>, bool)> {
        let mut all = BTreeMap::new();
        metrics.collect(now, |row| {
            let labels: Vec<String> = row.labels.iter().map(|(n, v)| format!("{n}={v}")).collect();
            let key = format!("{}{{{}}}", row.metric, labels.join(","));
            assert!(all.insert(key, (row.value, row.is_new)).is_none(), "twice");
        });
        all
    }

    fn value(all: &BTreeMap<String, (Option<f64>, bool)>, key: &str) -> f64 {
        let found = all.get(key).unwrap_or_else(|| panic!("{key} in {all:#?}"));
        found.0.unwrap()
    }

    #[test]
    fn calls_are_counted_by_service_operation_kind_and_status() {
        let mut metrics = SpanMetrics::new(options(), 7, 0);
        let shop = metrics.service("shop");
        let mut get = span(shop, "GET /", 1, (1, 0));
        metrics.count(&get, 0);
        get.duration_ns = 2_000_000;
        metrics.count(&get, 0);
        (get.status, get.duration_ns) = (2, 60 * SECOND);
        metrics.count(&get, 0);
        let all = collected(&mut metrics, SECOND);
        let labels = |status| {
            format!(
                "service=shop,span_name=GET /,span_kind=SPAN_KIND_INTERNAL,status_code=STATUS_CODE_{status}"
            )
        };
        let of = |metric: &str, status| value(&all, &format!("{metric}{{{}}}", labels(status)));
        assert_eq!(of("traces_spanmetrics_calls_total", "UNSET"), 2.0);
        assert_eq!(of("traces_spanmetrics_size_total", "UNSET"), 200.0);
        assert_eq!(of("traces_spanmetrics_latency_sum", "UNSET"), 0.005);
        assert_eq!(of("traces_spanmetrics_latency_count", "ERROR"), 1.0);
        let bucket = |le: &str, status| {
            value(
                &all,
                &format!(
                    "traces_spanmetrics_latency_bucket{{{},le={le}}}",
                    labels(status)
                ),
            )
        };
        assert_eq!(bucket("0.002", "UNSET"), 1.0, "bounds are inside");
        assert_eq!(bucket("0.004", "UNSET"), 2.0);
        assert_eq!(bucket("16.384", "ERROR"), 0.0);
        assert_eq!(bucket("+Inf", "ERROR"), 1.0);
        assert!(all.values().all(|(_, is_new)| *is_new));
        assert!(
            collected(&mut metrics, SECOND)
                .values()
                .all(|(_, is_new)| !is_new)
        );
        // Silent for long: every counter ends, once.
        let ended = collected(&mut metrics, 3_600 * SECOND);
        assert_eq!(ended.len(), all.len());
        assert!(ended.values().all(|(value, _)| value.is_none()));
        assert!(collected(&mut metrics, 3_600 * SECOND).is_empty());
    }

    #[test]
    fn what_is_too_much_is_counted_together() {
        let mut metrics = SpanMetrics::new(options(), 7, 0);
        for n in 0..50_u8 {
            let service = metrics.service(&format!("s{n}"));
            let name = format!("op{n}");
            metrics.count(&span(service, &name, 2, (n + 1, 0)), 0);
        }
        let all = collected(&mut metrics, SECOND);
        let calls: Vec<_> = all
            .iter()
            .filter(|(key, _)| key.starts_with("traces_spanmetrics_calls"))
            .collect();
        assert_eq!(calls.len(), 4);
        assert_eq!(
            value(&all, "traces_spanmetrics_calls_total{metric_overflow=true}"),
            47.0
        );
        // Roots that serve are called by somebody without spans.
        assert_eq!(
            value(
                &all,
                "traces_service_graph_request_total{client=user,server=s0,connection_type=virtual_node}"
            ),
            1.0
        );
        assert_eq!(
            value(
                &all,
                "traces_service_graph_request_total{metric_overflow=true}"
            ),
            48.0
        );
        assert_eq!(metrics.stats().overflowed, 47 + 48);
    }

    #[test]
    fn halves_of_a_request_meet_in_any_order() {
        let mut metrics = SpanMetrics::new(options(), 7, 0);
        let (shop, stock) = (metrics.service("shop"), metrics.service("stock"));
        let client = span(shop, "call", 3, (10, 9));
        let mut server = span(stock, "serve", 2, (11, 10));
        (server.duration_ns, server.status) = (150_000_000, 2);
        metrics.count(&client, 0);
        metrics.count(&server, 0);
        server.trace_id = [2; 16];
        metrics.count(&server, 0);
        metrics.count(
            &SpanSample {
                trace_id: [2; 16],
                ..client
            },
            0,
        );
        // Two halves of one side, and one that never meets another.
        metrics.count(
            &SpanSample {
                trace_id: [3; 16],
                ..client
            },
            0,
        );
        metrics.count(
            &SpanSample {
                trace_id: [3; 16],
                ..client
            },
            0,
        );
        assert_eq!(metrics.stats().pending, 1);
        let all = collected(&mut metrics, 11 * SECOND);
        let of = |metric: &str, le: &str| {
            value(
                &all,
                &format!(
                    "traces_service_graph_request_{metric}{{client=shop,server=stock,connection_type={le}}}"
                ),
            )
        };
        assert_eq!((of("total", ""), of("failed_total", "")), (2.0, 2.0));
        assert_eq!(of("server_seconds_sum", ""), 0.3);
        assert_eq!(of("client_seconds_count", ""), 2.0);
        assert_eq!(of("server_seconds_bucket", ",le=0.1"), 0.0);
        assert_eq!(of("server_seconds_bucket", ",le=0.2"), 2.0);
        let stats = metrics.stats();
        assert_eq!((stats.pending, stats.unpaired, stats.dropped), (0, 1, 0));
    }

    #[test]
    fn databases_and_peers_without_spans_are_nodes() {
        let mut metrics = SpanMetrics::new(options(), 7, 0);
        let shop = metrics.service("shop");
        let mut client = span(shop, "SELECT", 3, (10, 9));
        client.peer = Some(("orders", Connection::Database));
        metrics.count(&client, 0);
        client.trace_id = [2; 16];
        client.peer = Some(("mail.example", Connection::Virtual));
        metrics.count(&client, 0);
        let all = collected(&mut metrics, 11 * SECOND);
        let total = |server: &str, kind: &str| {
            value(
                &all,
                &format!(
                    "traces_service_graph_request_total{{client=shop,server={server},connection_type={kind}}}"
                ),
            )
        };
        assert_eq!(total("orders", "database"), 1.0);
        assert_eq!(total("mail.example", "virtual_node"), 1.0);
    }

    #[test]
    fn the_table_of_waiting_halves_is_bounded() {
        let mut metrics = SpanMetrics::new(options(), 7, 0);
        let shop = metrics.service("shop");
        for n in 0..100 {
            metrics.count(&span(shop, "call", 3, (n + 1, 9)), i64::from(n));
            assert!(metrics.stats().pending <= 4);
        }
        assert_eq!(metrics.stats().dropped, 96);
        metrics.set_limits(3, 2, 1);
        metrics.count(&span(shop, "call", 3, (200, 9)), 200);
        assert_eq!(metrics.stats().pending, 1);
        let long = "x".repeat(100_000);
        let service = metrics.service(&long);
        metrics.count(&span(service, &long, 1, (1, 0)), 300);
        assert!(
            collected(&mut metrics, 300)
                .keys()
                .all(|key| key.len() < 1_000)
        );
    }
}
