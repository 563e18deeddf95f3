//! Metrics of spans and the service graph: counted as spans are stored, written into the store like any
//! other series.
//!
//! What is counted and how is in `chronolith_query::traces::span_metrics`; this is a consumer of the
//! [`crate::feed`] with counters per tenant, and a writer. Counters begin at 0 with the server, as those of
//! any process do: each series has a sample of 0 before its first and says when it began.
//!
//! The series are ordinary ones, not rows of a derivation: they are never computed anew, and what
//! derivations keep in memory is not compressed.

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher as _;
use std::sync::Arc;
use std::time::Duration;

use chronolith_engine::model::{
    Labels, METRIC_NAME, Metadata, MetricType, STALE_NAN_BITS, TimestampNs,
};
use chronolith_engine::rows::SpanBatch;
use chronolith_engine::{EngineError, RequestContext, Store, TenantId};
use chronolith_query::traces::span_metrics::{
    MetricRow, SpanMetrics, SpanMetricsOptions, SpanMetricsStats,
};
use parking_lot::{Mutex, RwLock};
use tokio::sync::watch;

use crate::feed::RowConsumer;
use crate::runs::now_ns;
use crate::state::AppState;
use crate::telemetry::Exposition;

/// Tenants whose spans are counted; spans of more are not.
const TENANTS_MAX: usize = 1_000;
/// Halves of requests that may wait, of all tenants together; and pairs of services.
const PENDING_MAX: usize = 100_000;
const EDGES_MAX: usize = 2_000;
/// What stands in front of keys by which series are looked up, so that no protocol's keys meet them.
const KEY_MARK: &[u8] = b"\xff\xfespan metrics\0";

type Counters = Arc<Mutex<SpanMetrics>>;

/// Counters of all tenants.
#[derive(Debug)]
pub struct SpanMetricsService {
    enabled: bool,
    keys_max: usize,
    seed: u64,
    tenants: RwLock<HashMap<TenantId, Counters>>,
}

impl SpanMetricsService {
    /// All at 0, with at most `keys_max` combinations of service, operation, kind and status.
    #[must_use]
    pub fn new(enabled: bool, keys_max: usize) -> Self {
        Self {
            enabled,
            keys_max,
            seed: RandomState::new().hash_one(0),
            tenants: RwLock::default(),
        }
    }

    fn tenant(&self, tenant: &TenantId) -> Option<Counters> {
        if let Some(counters) = self.tenants.read().get(tenant) {
            return Some(Arc::clone(counters));
        }
        let mut tenants = self.tenants.write();
        if tenants.len() >= TENANTS_MAX {
            return None;
        }
        // All tenants share what there is.
        let count = tenants.len() + 1;
        let share = |whole: usize| (whole / count).max(1);
        let limits = (share(self.keys_max), share(EDGES_MAX), share(PENDING_MAX));
        for counters in tenants.values() {
            counters.lock().set_limits(limits.0, limits.1, limits.2);
        }
        let options = SpanMetricsOptions {
            keys_max: limits.0,
            edges_max: limits.1,
            pending_max: limits.2,
            ..SpanMetricsOptions::default()
        };
        let made = || Arc::new(Mutex::new(SpanMetrics::new(options, self.seed, now_ns())));
        let counters = tenants.entry(tenant.clone()).or_insert_with(made);
        Some(Arc::clone(counters))
    }

    /// Writes what all counters stand at. Blocks.
    ///
    /// # Errors
    /// The store takes no writes now.
    pub fn write(&self, store: &Store) -> Result<(), EngineError> {
        let tenants: Vec<(TenantId, Counters)> = self
            .tenants
            .read()
            .iter()
            .map(|(tenant, counters)| (tenant.clone(), Arc::clone(counters)))
            .collect();
        for (tenant, counters) in tenants {
            write_tenant(store, tenant, &counters)?;
        }
        Ok(())
    }

    /// What was counted and given up, of all tenants.
    #[must_use]
    pub fn stats(&self) -> SpanMetricsStats {
        let tenants = self.tenants.read();
        let all = tenants.values().map(|counters| counters.lock().stats());
        all.fold(SpanMetricsStats::default(), |sum, one| SpanMetricsStats {
            spans: sum.spans + one.spans,
            keys: sum.keys + one.keys,
            edges: sum.edges + one.edges,
            pending: sum.pending + one.pending,
            unpaired: sum.unpaired + one.unpaired,
            dropped: sum.dropped + one.dropped,
            overflowed: sum.overflowed + one.overflowed,
        })
    }
}

impl RowConsumer for SpanMetricsService {
    fn wants_spans(&self, batch: &SpanBatch) -> bool {
        self.enabled && !batch.is_empty()
    }

    fn spans(&self, tenant: &TenantId, batch: &SpanBatch) {
        if let Some(counters) = self.tenant(tenant) {
            counters.lock().batch(batch, now_ns());
        }
    }
}

/// Says in the server's own metrics what was counted and given up.
pub fn write_stats(stats: &SpanMetricsStats, out: &mut Exposition) {
    for (name, help, value) in [
        (
            "chronolith_span_metrics_spans_total",
            "Spans counted in the metrics of spans.",
            stats.spans,
        ),
        (
            "chronolith_span_metrics_overflowed_total",
            "Spans and requests counted in the series for what exceeds the limits.",
            stats.overflowed,
        ),
        (
            "chronolith_span_metrics_unpaired_total",
            "Client or server spans whose other half did not come in time.",
            stats.unpaired,
        ),
        (
            "chronolith_span_metrics_dropped_total",
            "Client or server spans given up early because too many waited.",
            stats.dropped,
        ),
    ] {
        out.family(name, help, MetricType::Counter)
            .row(&[], value as f64);
    }
    out.gauge(
        "chronolith_span_metrics_keys",
        "Combinations of service, operation, kind and status with counters.",
        stats.keys as f64,
    );
    out.gauge(
        "chronolith_span_metrics_pending",
        "Client or server spans that wait for their other half.",
        stats.pending as f64,
    );
}

/// Metrics that are written, with what they tell.
const FAMILIES: [(&str, MetricType, &str, &str); 7] = [
    (
        "traces_spanmetrics_calls_total",
        MetricType::Counter,
        "",
        "Spans.",
    ),
    (
        "traces_spanmetrics_latency",
        MetricType::Histogram,
        "seconds",
        "Durations of spans.",
    ),
    (
        "traces_spanmetrics_size_total",
        MetricType::Counter,
        "bytes",
        "Size of spans.",
    ),
    (
        "traces_service_graph_request_total",
        MetricType::Counter,
        "",
        "Requests between services.",
    ),
    (
        "traces_service_graph_request_failed_total",
        MetricType::Counter,
        "",
        "Failed requests between services.",
    ),
    (
        "traces_service_graph_request_client_seconds",
        MetricType::Histogram,
        "seconds",
        "Durations of requests as the client sees them.",
    ),
    (
        "traces_service_graph_request_server_seconds",
        MetricType::Histogram,
        "seconds",
        "Durations of requests as the server sees them.",
    ),
];

/// A row on its way: its place among the keys, the value, and when the counter began.
struct Written {
    key: std::ops::Range<usize>,
    value: f64,
    started: i64,
    is_new: bool,
}

fn write_tenant(store: &Store, tenant: TenantId, counters: &Counters) -> Result<(), EngineError> {
    let context = RequestContext::for_tenant(tenant);
    // Milliseconds, as samples of other sources have them.
    let now = now_ns();
    // The names and values of labels are noted while counters are held, and no more.
    let mut keys = Vec::new();
    let mut rows = Vec::new();
    counters.lock().collect(now, |row: MetricRow<'_>| {
        let begin = keys.len();
        keys.extend_from_slice(KEY_MARK);
        let pairs = [(METRIC_NAME, row.metric)];
        for (name, value) in pairs.iter().chain(row.labels) {
            for text in [name, value] {
                keys.extend_from_slice(text.as_bytes());
                keys.push(0xff);
            }
        }
        rows.push(Written {
            key: begin..keys.len(),
            value: row.value.unwrap_or(f64::from_bits(STALE_NAN_BITS)),
            started: row.started,
            is_new: row.is_new,
        });
    });
    if rows.is_empty() {
        return Ok(());
    }
    let mut append = store.begin(&context)?;
    for (metric, metric_type, unit, help) in FAMILIES {
        let (unit, help) = (unit.to_owned(), help.to_owned());
        append.metadata(
            metric,
            Metadata {
                metric_type,
                unit,
                help,
            },
        );
    }
    let mut refused = None;
    for row in rows {
        let key = keys.get(row.key).unwrap_or_default();
        let raw = store.raw_key(key);
        let series = match append.lookup(raw) {
            Some(series) => Ok(series),
            None => labels_of(key).and_then(|labels| append.define(Some(raw), &labels)),
        };
        let series = match series {
            Ok(series) => series,
            // One series too many for the tenant: the others are written.
            Err(error) => {
                refused = Some(error);
                continue;
            }
        };
        let started = TimestampNs(row.started);
        if row.is_new && row.started < now {
            append.sample_with_start(series, started, started, 0.0);
        }
        append.sample_with_start(series, TimestampNs(now), started, row.value);
    }
    append.commit()?;
    if let Some(error) = refused {
        tracing::warn!(%error, "metrics of spans were not all written");
    }
    Ok(())
}

/// The labels that [`write_tenant`] noted.
fn labels_of(key: &[u8]) -> Result<Labels, EngineError> {
    let texts = key.get(KEY_MARK.len()..).unwrap_or_default();
    // No byte of UTF-8 is 0xff.
    let texts: Vec<&str> = texts
        .split(|byte| *byte == 0xff)
        .map(|text| std::str::from_utf8(text).unwrap_or_default())
        .collect();
    let pairs = texts.as_chunks::<2>().0.iter();
    let pairs = pairs.filter(|[_, value]| !value.is_empty());
    Labels::from_pairs(pairs.map(|[name, value]| (*name, *value)))
        .map_err(|error| EngineError::InvalidArgument(format!("metrics of spans: {error}")))
}

/// Writes at every interval until `stop`.
pub async fn run(state: AppState, interval: Duration, mut stop: watch::Receiver<bool>) {
    let mut ticks = tokio::time::interval(interval);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            _ = stop.wait_for(|stop| *stop) => return,
        }
        let written = state.blocking(|state| Ok(state.span_metrics().write(state.store())?));
        if let Err(error) = written.await {
            tracing::warn!(%error, "metrics of spans were not written");
        }
    }
}

#[cfg(test)]
mod tests {
    use chronolith_engine::StoreOptions;
    use chronolith_engine::model::{SpanId, SpanKind, SpanStatus, Stream, TraceId};
    use chronolith_engine::rows::SpanFields;
    use chronolith_engine::{Matcher, model::TimeRange};

    use super::*;

    fn batch(names: u32) -> SpanBatch {
        let mut batch = SpanBatch::new();
        let labels = Labels::from_pairs([("service_name", "shop")]).unwrap();
        let stream = batch.stream(Arc::new(Stream::from_labels(labels)));
        for n in 0..names {
            let fields = SpanFields {
                trace_id: TraceId([1; 16]),
                span_id: SpanId(u64::from(n + 1).to_le_bytes()),
                parent_span_id: None,
                trace_state: "",
                name: &format!("op{n}"),
                kind: SpanKind::Internal,
                time: TimestampNs(5),
                duration_ns: 3_000_000,
                status: SpanStatus::Unset,
                status_message: "",
            };
            batch.row(stream, &fields);
        }
        batch
    }

    fn series(store: &Store, metric: &str) -> Vec<Labels> {
        let context = RequestContext::new();
        let sets = [vec![Matcher::equal(METRIC_NAME, metric)]];
        store.series(&context, &sets, TimeRange::ALL, None).unwrap()
    }

    #[test]
    fn counters_become_series_within_their_limit() {
        let store = Store::in_memory(StoreOptions::default()).unwrap();
        let service = SpanMetricsService::new(true, 3);
        let tenant = TenantId::default();
        assert!(service.wants_spans(&batch(1)) && !service.wants_spans(&batch(0)));
        service.spans(&tenant, &batch(10));
        service.write(&store).unwrap();
        service.write(&store).unwrap();
        let calls = series(&store, "traces_spanmetrics_calls_total");
        assert_eq!(calls.len(), 4);
        let shown = calls.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert!(
            shown.iter().any(|s| s.contains("metric_overflow=\"true\"")),
            "{shown:?}"
        );
        assert!(
            shown.iter().any(|s| s.contains("span_name=\"op0\"")),
            "{shown:?}"
        );
        assert_eq!(
            series(&store, "traces_spanmetrics_latency_bucket").len(),
            4 * 15
        );
        assert_eq!(service.stats().spans, 10);
        assert_eq!(service.stats().overflowed, 7);
        let off = SpanMetricsService::new(false, 3);
        assert!(!off.wants_spans(&batch(1)));
    }

    #[test]
    fn many_tenants_share_the_limits() {
        let service = SpanMetricsService::new(true, 1_000);
        for n in 0..TENANTS_MAX + 5 {
            let tenant = TenantId::new(&format!("t{n}")).unwrap();
            service.spans(&tenant, &batch(2));
        }
        let stats = service.stats();
        assert_eq!(stats.spans, 2 * TENANTS_MAX as u64);
        assert!(stats.keys <= 2 * TENANTS_MAX, "{stats:?}");
    }
}
