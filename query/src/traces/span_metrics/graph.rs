//! Requests between services: the two spans of a request find each other by the id of the client's.

use std::collections::{HashMap, VecDeque};

use hashbrown::HashTable;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::histogram::{Bounds, Histogram};
use super::{
    Connection, MetricRow, NO_SERVICE, OVERFLOW, STATUS_ERROR, Services, SpanMetricsOptions,
    SpanMetricsStats, SpanSample, kind,
};

/// Who calls a service whose span is the root.
const USER: u32 = u32::MAX - 1;
const USER_NAME: &str = "user";

/// One span of a request, waiting for the other.
#[derive(Clone, Copy, Debug)]
struct Half {
    trace_id: [u8; 16],
    /// The client's span.
    span_id: [u8; 8],
    is_client: bool,
    has_failed: bool,
    connection: Connection,
    service: u32,
    /// Whom the client names; [`NO_SERVICE`] for nobody.
    peer: u32,
    duration_ns: i64,
    at: i64,
}

#[derive(Debug)]
struct Edge {
    total: u64,
    failed: u64,
    client: Histogram,
    server: Histogram,
    last: i64,
    /// When it stood at 0; `None` before the first collection.
    started: Option<i64>,
}

type EdgeKey = (u32, u32, Connection);

/// Halves that wait, and what was counted.
#[derive(Debug)]
pub(super) struct ServiceGraph {
    bounds: Bounds,
    seed: u64,
    edges_max: usize,
    pending_max: usize,
    wait_ns: i64,
    pending: HashTable<Half>,
    /// Arrival and hash of halves, oldest first; of those that have met their other half too.
    arrivals: VecDeque<(i64, u64)>,
    edges: HashMap<EdgeKey, Edge>,
    overflow: Edge,
    unpaired: u64,
    dropped: u64,
}

impl Edge {
    fn new(bounds: &Bounds) -> Self {
        Self {
            total: 0,
            failed: 0,
            client: bounds.empty(),
            server: bounds.empty(),
            last: i64::MIN,
            started: None,
        }
    }
}

impl ServiceGraph {
    pub(super) fn new(options: &SpanMetricsOptions, seed: u64) -> Self {
        let bounds = Bounds::new(&options.request_buckets_ns);
        Self {
            overflow: Edge::new(&bounds),
            bounds,
            seed,
            edges_max: options.edges_max,
            pending_max: options.pending_max,
            wait_ns: options.wait_ns,
            pending: HashTable::new(),
            arrivals: VecDeque::new(),
            edges: HashMap::new(),
            unpaired: 0,
            dropped: 0,
        }
    }

    pub(super) fn set_limits(&mut self, edges_max: usize, pending_max: usize) {
        (self.edges_max, self.pending_max) = (edges_max, pending_max);
    }

    pub(super) fn overflowed(&self) -> u64 {
        self.overflow.total
    }

    pub(super) fn stats(&self) -> SpanMetricsStats {
        SpanMetricsStats {
            edges: self.edges.len(),
            pending: self.pending.len(),
            unpaired: self.unpaired,
            dropped: self.dropped,
            ..SpanMetricsStats::default()
        }
    }

    fn hash(seed: u64, trace_id: &[u8; 16], span_id: &[u8; 8]) -> u64 {
        let mut id = [0; 24];
        id[..16].copy_from_slice(trace_id);
        id[16..].copy_from_slice(span_id);
        xxh3_64_with_seed(&id, seed)
    }

    /// Takes a client, server, producer or consumer span.
    #[inline]
    pub(super) fn half(
        &mut self,
        span: &SpanSample<'_>,
        peer: Option<(u32, Connection)>,
        now: i64,
    ) {
        let is_client = matches!(span.kind, kind::CLIENT | kind::PRODUCER);
        let is_message = matches!(span.kind, kind::PRODUCER | kind::CONSUMER);
        let half = Half {
            trace_id: span.trace_id,
            span_id: if is_client {
                span.span_id
            } else {
                span.parent_span_id
            },
            is_client,
            has_failed: span.status == STATUS_ERROR,
            connection: match is_message {
                true => Connection::Messaging,
                false => Connection::Request,
            },
            service: span.service,
            peer: peer
                .filter(|_| is_client)
                .map_or(NO_SERVICE, |(peer, _)| peer),
            duration_ns: span.duration_ns,
            at: now,
        };
        if let Some((database, Connection::Database)) = peer.filter(|_| is_client) {
            // Databases send no spans: the request is whole.
            let key = (half.service, database, Connection::Database);
            return self.edge(key, &half, &half, now);
        }
        if !is_client && half.span_id == [0; 8] {
            let key = (USER, half.service, Connection::Virtual);
            return self.edge(key, &half, &half, now);
        }
        let hash = Self::hash(self.seed, &half.trace_id, &half.span_id);
        let is_same =
            |known: &Half| known.span_id == half.span_id && known.trace_id == half.trace_id;
        match self.pending.find_entry(hash, is_same) {
            Ok(entry) if entry.get().is_client != is_client => {
                let (other, _) = entry.remove();
                let (client, server) = if is_client {
                    (half, other)
                } else {
                    (other, half)
                };
                let key = (client.service, server.service, client.connection);
                self.edge(key, &client, &server, now);
            }
            // The same span again, or another answer to the same call.
            Ok(_) => {}
            Err(_) => self.wait(half, hash),
        }
    }

    fn wait(&mut self, half: Half, hash: u64) {
        let seed = self.seed;
        // Twice as many arrivals: half of them may have met their other half.
        while self.pending.len() >= self.pending_max.max(1)
            || self.arrivals.len() >= 2 * self.pending_max.max(1)
        {
            match self.arrivals.pop_front() {
                Some(arrival) => self.give_up(arrival, half.at, true),
                None => break,
            }
        }
        let rehash = |half: &Half| Self::hash(seed, &half.trace_id, &half.span_id);
        self.pending.insert_unique(hash, half, rehash);
        self.arrivals.push_back((half.at, hash));
    }

    /// Removes a half that waits since an arrival, if it does.
    fn give_up(&mut self, (at, hash): (i64, u64), now: i64, is_early: bool) {
        let Ok(entry) = self.pending.find_entry(hash, |half| half.at == at) else {
            return;
        };
        let (half, _) = entry.remove();
        if half.is_client && half.peer != NO_SERVICE {
            let key = (half.service, half.peer, Connection::Virtual);
            self.edge(key, &half, &half, now);
        } else if is_early {
            self.dropped += 1;
        } else {
            self.unpaired += 1;
        }
    }

    pub(super) fn expire(&mut self, now: i64) {
        let since = now.saturating_sub(self.wait_ns);
        while let Some(arrival) = self.arrivals.pop_front() {
            if arrival.0 >= since {
                self.arrivals.push_front(arrival);
                return;
            }
            self.give_up(arrival, now, false);
        }
    }

    fn edge(&mut self, key: EdgeKey, client: &Half, server: &Half, now: i64) {
        let is_known = self.edges.contains_key(&key);
        let has_room = self.edges.len() < self.edges_max;
        let is_named = key.0 != NO_SERVICE && key.1 != NO_SERVICE;
        let edge = match is_named && (is_known || has_room) {
            true => self
                .edges
                .entry(key)
                .or_insert_with(|| Edge::new(&self.bounds)),
            false => &mut self.overflow,
        };
        edge.total += 1;
        edge.failed += u64::from(client.has_failed || server.has_failed);
        edge.client.add(&self.bounds, client.duration_ns);
        edge.server.add(&self.bounds, server.duration_ns);
        edge.last = now;
    }

    pub(super) fn collect(
        &mut self,
        services: &Services,
        since: i64,
        idle_since: i64,
        row: &mut impl FnMut(MetricRow<'_>),
    ) {
        let bounds = &self.bounds;
        self.edges.retain(|(client, server, connection), edge| {
            let is_idle = edge.last < idle_since;
            let client = match *client {
                USER => USER_NAME,
                client => services.name(client),
            };
            let mut labels = vec![
                ("client", client),
                ("server", services.name(*server)),
                ("connection_type", connection.as_str()),
            ];
            edge.collect(bounds, &mut labels, (since, is_idle), row);
            !is_idle
        });
        if self.overflow.total > 0 {
            self.overflow
                .collect(bounds, &mut vec![OVERFLOW], (since, false), row);
        }
    }
}

impl Edge {
    fn collect<'b>(
        &mut self,
        bounds: &'b Bounds,
        labels: &mut Vec<(&'static str, &'b str)>,
        (since, has_ended): (i64, bool),
        row: &mut impl FnMut(MetricRow<'_>),
    ) {
        let is_new = self.started.is_none();
        let started = *self.started.get_or_insert(since);
        let mut emit = |metric, labels: &[(&'static str, &str)], value: f64| {
            row(MetricRow {
                metric,
                labels,
                value: (!has_ended).then_some(value),
                started,
                is_new,
            });
        };
        let (total, failed) = (self.total as f64, self.failed as f64);
        emit("traces_service_graph_request_total", labels, total);
        emit("traces_service_graph_request_failed_total", labels, failed);
        for (histogram, bucket, sum, count) in [
            (
                &self.client,
                "traces_service_graph_request_client_seconds_bucket",
                "traces_service_graph_request_client_seconds_sum",
                "traces_service_graph_request_client_seconds_count",
            ),
            (
                &self.server,
                "traces_service_graph_request_server_seconds_bucket",
                "traces_service_graph_request_server_seconds_sum",
                "traces_service_graph_request_server_seconds_count",
            ),
        ] {
            emit(sum, labels, histogram.sum_seconds());
            emit(count, labels, histogram.count() as f64);
            for (le, count) in histogram.cumulative(bounds) {
                labels.push(("le", le));
                emit(bucket, labels, count as f64);
                labels.pop();
            }
        }
    }
}
