//! The server's own counters and histograms: plain atomics, read when somebody asks.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use chronolith_engine::Store;
use chronolith_engine::model::MetricType;
use chronolith_engine::store::BackupReport;
use chronolith_engine::wal::WalStats;
use chronolith_query::promql::CacheStats;
use parking_lot::Mutex;

use super::exposition::{Exposition, Family};
use super::rows::RowCounters;
use super::{now_ms, process};

/// Upper bounds in seconds of the buckets of durations.
const DURATION_BOUNDS: [f64; 12] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0,
];

/// A histogram of durations with fixed buckets.
#[derive(Debug, Default)]
pub struct Histogram {
    buckets: [AtomicU64; DURATION_BOUNDS.len() + 1],
    sum_ns: AtomicU64,
}

impl Histogram {
    /// Adds an observation.
    pub fn observe(&self, duration: Duration) {
        let seconds = duration.as_secs_f64();
        let index = DURATION_BOUNDS.partition_point(|bound| *bound < seconds);
        if let Some(bucket) = self.buckets.get(index) {
            bucket.fetch_add(1, Ordering::Relaxed);
        }
        let ns = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        self.sum_ns.fetch_add(ns, Ordering::Relaxed);
    }

    fn write(&self, family: &mut Family, labels: &[(&'static str, &str)]) {
        let mut count = 0;
        for (index, bucket) in self.buckets.iter().enumerate() {
            count += bucket.load(Ordering::Relaxed);
            let bound = DURATION_BOUNDS
                .get(index)
                .map_or("+Inf".to_owned(), f64::to_string);
            let mut labels = labels.to_vec();
            labels.push(("le", &bound));
            family.suffixed_row("_bucket", &labels, count as f64);
        }
        let sum = self.sum_ns.load(Ordering::Relaxed) as f64 / 1e9;
        family.suffixed_row("_sum", labels, sum);
        family.suffixed_row("_count", labels, count as f64);
    }
}

/// What a request is counted under: route pattern, method, status.
type RequestKey = (String, &'static str, u16);

/// Everything that is counted.
#[derive(Debug, Default)]
pub struct Metrics {
    requests: Mutex<BTreeMap<RequestKey, u64>>,
    request_durations: Mutex<BTreeMap<String, Arc<Histogram>>>,
    /// Open connections.
    pub connections_open: Arc<AtomicU64>,
    /// Float samples stored.
    pub ingest_samples: AtomicU64,
    /// Histogram samples stored.
    pub ingest_histograms: AtomicU64,
    /// Exemplars stored.
    pub ingest_exemplars: AtomicU64,
    /// Bytes of write bodies as they came.
    pub ingest_received_bytes: AtomicU64,
    /// Bytes of write bodies after decompression.
    pub ingest_decoded_bytes: AtomicU64,
    /// Series left out because their labels cannot be.
    pub ingest_series_invalid: AtomicU64,
    /// New series of writes that the tenant's limits refused.
    pub ingest_series_over_limit: AtomicU64,
    /// Bytes of write requests in flight.
    pub ingest_inflight_bytes: AtomicU64,
    /// Writes refused because too much was in flight.
    pub ingest_refused: AtomicU64,
    /// Lines of the Influx line protocol stored.
    pub influx_lines: AtomicU64,
    /// Lines of the Influx line protocol that were refused, as a whole or in part.
    pub influx_lines_refused: AtomicU64,
    /// Fields of the Influx line protocol passed over because they are strings.
    pub influx_strings: AtomicU64,
    /// Data points of OTLP stored.
    pub otlp_points: AtomicU64,
    /// Data points of OTLP refused.
    pub otlp_points_rejected: AtomicU64,
    /// Log records and spans.
    pub rows: RowCounters,
    /// Queries running.
    pub queries_running: AtomicU64,
    /// Queries waiting for their turn.
    pub queries_waiting: AtomicU64,
    /// Queries refused because too many were waiting.
    pub queries_refused: AtomicU64,
    /// How long instant queries took.
    pub query_duration: Histogram,
    /// How long range queries took.
    pub query_range_duration: Histogram,
    /// How long SQL statements took.
    pub sql_duration: Histogram,
    /// How long writes took from body to acknowledgement.
    pub commit_duration: Histogram,
    backups: Backups,
}

/// What became of the backups that the server was asked for.
#[derive(Debug, Default)]
struct Backups {
    succeeded: AtomicU64,
    failed: AtomicU64,
    copied_bytes: AtomicU64,
    /// Of the last one that succeeded, milliseconds since the epoch.
    last_success_ms: AtomicU64,
    last_duration_ms: AtomicU64,
}

impl Metrics {
    /// Counts a request that was answered.
    pub fn request(&self, route: &str, method: &'static str, status: u16, took: Duration) {
        let key = (route.to_owned(), method, status);
        *self.requests.lock().entry(key).or_default() += 1;
        let histogram = {
            let mut durations = self.request_durations.lock();
            match durations.get(route) {
                Some(histogram) => Arc::clone(histogram),
                None => Arc::clone(durations.entry(route.to_owned()).or_default()),
            }
        };
        histogram.observe(took);
    }

    /// Counts a backup.
    pub fn backup(&self, made: &chronolith_engine::Result<BackupReport>) {
        let backups = &self.backups;
        let Ok(report) = made else {
            backups.failed.fetch_add(1, Ordering::Relaxed);
            return;
        };
        backups.succeeded.fetch_add(1, Ordering::Relaxed);
        let bytes = report.bytes_copied;
        backups.copied_bytes.fetch_add(bytes, Ordering::Relaxed);
        let now_ms = now_ms().unsigned_abs();
        backups.last_success_ms.store(now_ms, Ordering::Relaxed);
        let took_ms = u64::try_from(report.took.as_millis()).unwrap_or(u64::MAX);
        backups.last_duration_ms.store(took_ms, Ordering::Relaxed);
    }

    /// Everything at this moment, the store's figures and the process' included.
    #[must_use]
    pub fn exposition(&self, store: &Store, cache: &CacheStats) -> Exposition {
        let mut out = Exposition::default();
        let build = out.family(
            "chronolith_build_info",
            "A constant 1 with the version as label.",
            MetricType::Gauge,
        );
        build.row(&[("version", crate::VERSION)], 1.0);
        self.write_http(&mut out);
        self.write_ingest(&mut out);
        self.write_queries(&mut out);
        write_query_cache(&mut out, cache);
        write_store(&mut out, store);
        self.write_backups(&mut out);
        process::write(&mut out);
        out
    }

    fn write_http(&self, out: &mut Exposition) {
        let requests = out.family(
            "chronolith_http_requests_total",
            "Requests answered.",
            MetricType::Counter,
        );
        for ((route, method, status), count) in self.requests.lock().iter() {
            let status = status.to_string();
            let labels = [
                ("handler", route.as_str()),
                ("method", method),
                ("code", &status),
            ];
            requests.row(&labels, *count as f64);
        }
        let durations = out.family(
            "chronolith_http_request_duration_seconds",
            "Time from a request's head to the head of its answer.",
            MetricType::Histogram,
        );
        for (route, histogram) in self.request_durations.lock().iter() {
            histogram.write(durations, &[("handler", route)]);
        }
        out.gauge(
            "chronolith_http_connections",
            "Open connections.",
            load(&self.connections_open),
        );
    }

    fn write_ingest(&self, out: &mut Exposition) {
        let rows = out.family(
            "chronolith_ingest_samples_total",
            "Samples acknowledged to remote writers.",
            MetricType::Counter,
        );
        rows.row(&[("type", "float")], load(&self.ingest_samples));
        rows.row(&[("type", "histogram")], load(&self.ingest_histograms));
        rows.row(&[("type", "exemplar")], load(&self.ingest_exemplars));
        let bytes = out.family(
            "chronolith_ingest_bytes_total",
            "Bytes of write requests, as received and after decompression.",
            MetricType::Counter,
        );
        bytes.row(&[("state", "received")], load(&self.ingest_received_bytes));
        bytes.row(&[("state", "decoded")], load(&self.ingest_decoded_bytes));
        out.counter(
            "chronolith_ingest_series_invalid_total",
            "Series left out of a write because of their labels.",
            load(&self.ingest_series_invalid),
        );
        out.counter(
            "chronolith_ingest_series_over_limit_total",
            "New series left out of a write because of the tenant's limits.",
            load(&self.ingest_series_over_limit),
        );
        let lines = out.family(
            "chronolith_influx_lines_total",
            "Lines of the Influx line protocol, by what became of them.",
            MetricType::Counter,
        );
        lines.row(&[("outcome", "stored")], load(&self.influx_lines));
        lines.row(&[("outcome", "refused")], load(&self.influx_lines_refused));
        out.counter(
            "chronolith_influx_strings_skipped_total",
            "Fields of the Influx line protocol passed over because they are strings.",
            load(&self.influx_strings),
        );
        out.gauge(
            "chronolith_ingest_inflight_bytes",
            "Bytes of write requests in flight.",
            load(&self.ingest_inflight_bytes),
        );
        out.counter(
            "chronolith_ingest_refused_total",
            "Writes refused because too many bytes were in flight.",
            load(&self.ingest_refused),
        );
        let points = out.family(
            "chronolith_otlp_points_total",
            "Data points that came by OTLP.",
            MetricType::Counter,
        );
        points.row(&[("result", "stored")], load(&self.otlp_points));
        points.row(&[("result", "rejected")], load(&self.otlp_points_rejected));
        self.rows.write(out);
        let commit = out.family(
            "chronolith_ingest_commit_duration_seconds",
            "Time from a decoded write to its durable acknowledgement.",
            MetricType::Histogram,
        );
        self.commit_duration.write(commit, &[]);
    }

    fn write_queries(&self, out: &mut Exposition) {
        out.gauge(
            "chronolith_query_running",
            "Queries running.",
            load(&self.queries_running),
        );
        out.gauge(
            "chronolith_query_waiting",
            "Queries waiting for their turn.",
            load(&self.queries_waiting),
        );
        out.counter(
            "chronolith_query_refused_total",
            "Queries refused because too many were waiting.",
            load(&self.queries_refused),
        );
        let durations = out.family(
            "chronolith_query_duration_seconds",
            "Time that queries took.",
            MetricType::Histogram,
        );
        let kinds = [
            ("instant", &self.query_duration),
            ("range", &self.query_range_duration),
            ("sql", &self.sql_duration),
        ];
        for (kind, histogram) in kinds {
            histogram.write(durations, &[("kind", kind)]);
        }
    }
}

impl Metrics {
    fn write_backups(&self, out: &mut Exposition) {
        let backups = &self.backups;
        let made = out.family(
            "chronolith_backup_runs_total",
            "Backups that were asked for over HTTP.",
            MetricType::Counter,
        );
        made.row(&[("result", "success")], load(&backups.succeeded));
        made.row(&[("result", "failure")], load(&backups.failed));
        out.counter(
            "chronolith_backup_copied_bytes_total",
            "Bytes of segments copied into backups.",
            load(&backups.copied_bytes),
        );
        out.gauge(
            "chronolith_backup_last_success_timestamp_seconds",
            "When the last backup was complete; 0 for never since the start.",
            load(&backups.last_success_ms) / 1e3,
        );
        out.gauge(
            "chronolith_backup_last_duration_seconds",
            "How long it took.",
            load(&backups.last_duration_ms) / 1e3,
        );
    }
}

fn load(counter: &AtomicU64) -> f64 {
    counter.load(Ordering::Relaxed) as f64
}

fn write_query_cache(out: &mut Exposition, cache: &CacheStats) {
    let asked = out.family(
        "chronolith_query_cache_requests_total",
        "Range queries by what the result cache knew of their steps: all, some or none; refused are those that cannot be kept.",
        MetricType::Counter,
    );
    for (result, count) in [
        ("hit", cache.hits),
        ("partial", cache.partial_hits),
        ("miss", cache.misses),
        ("refused", cache.refused),
    ] {
        asked.row(&[("result", result)], count as f64);
    }
    out.counter(
        "chronolith_query_cache_steps_total",
        "Steps taken from the result cache instead of being evaluated.",
        cache.steps_reused as f64,
    );
    out.counter(
        "chronolith_query_cache_evictions_total",
        "Answers dropped from the result cache to make room.",
        cache.evictions as f64,
    );
    out.gauge(
        "chronolith_query_cache_entries",
        "Answers in the result cache.",
        cache.entries as f64,
    );
    out.gauge(
        "chronolith_query_cache_bytes",
        "Bytes of the answers in the result cache.",
        cache.bytes as f64,
    );
}

fn write_store(out: &mut Exposition, store: &Store) {
    let stats = store.stats();
    let gauges = [
        (
            "chronolith_head_series",
            "Series in the head.",
            stats.head_series,
        ),
        (
            "chronolith_head_samples",
            "Samples in the head.",
            stats.head_samples,
        ),
        (
            "chronolith_head_bytes",
            "Estimated bytes of rows in the head.",
            stats.head_bytes,
        ),
        (
            "chronolith_head_index_bytes",
            "Estimated bytes of series, hash tables and postings.",
            stats.index_bytes,
        ),
        ("chronolith_segment_count", "Live segments.", stats.segments),
        (
            "chronolith_segment_bytes",
            "Bytes of live segments.",
            stats.segment_bytes,
        ),
        (
            "chronolith_segment_rows",
            "Rows in live segments.",
            stats.segment_rows,
        ),
        (
            "chronolith_store_tombstones",
            "Deletions that segments have not absorbed yet.",
            stats.tombstones,
        ),
        (
            "chronolith_store_exemplars",
            "Exemplars held.",
            stats.exemplars,
        ),
        (
            "chronolith_head_derived_rows",
            "Derived rows in the head.",
            stats.head_derived_rows,
        ),
        (
            "chronolith_head_derived_bytes",
            "Bytes of derived rows in the head.",
            stats.head_derived_bytes,
        ),
        (
            "chronolith_store_snapshot_bytes",
            "Bytes of series that live snapshots see otherwise than they are now.",
            stats.snapshot_bytes,
        ),
        (
            "chronolith_segment_index_bytes",
            "Bytes that open segments hold in memory.",
            stats.segment_index_bytes,
        ),
        (
            "chronolith_segment_superseded_rows",
            "Overwritten samples that segments keep for reads as of an earlier moment.",
            stats.superseded_rows,
        ),
        (
            "chronolith_store_generation",
            "Generation of the store: grows with every change.",
            stats.generation.0,
        ),
    ];
    for (name, help, value) in gauges {
        out.gauge(name, help, value as f64);
    }
    if let Some(wal) = &stats.wal {
        write_wal(out, wal);
    }
}

fn write_wal(out: &mut Exposition, wal: &WalStats) {
    let counters = [
        (
            "chronolith_wal_records_total",
            "Records written to the log.",
            wal.records,
        ),
        (
            "chronolith_wal_commits_total",
            "Group commits: records of one share a sync.",
            wal.commits,
        ),
        (
            "chronolith_wal_written_bytes_total",
            "Bytes written to the log, padding and markers included.",
            wal.bytes_written,
        ),
        (
            "chronolith_wal_refused_total",
            "Records that could not be written.",
            wal.refused,
        ),
    ];
    for (name, help, value) in counters {
        out.counter(name, help, value as f64);
    }
    let gauges = [
        ("chronolith_wal_files", "Log files.", wal.files),
        (
            "chronolith_wal_bytes",
            "Bytes of records in the log files.",
            wal.bytes,
        ),
        (
            "chronolith_wal_queue_bytes",
            "Bytes of records that wait to be written.",
            wal.queue_bytes,
        ),
        (
            "chronolith_wal_poisoned",
            "1 after a failed sync: no write is taken until the next start.",
            u64::from(wal.poisoned.is_some()),
        ),
    ];
    for (name, help, value) in gauges {
        out.gauge(name, help, value as f64);
    }
    let syncs = out.family(
        "chronolith_wal_sync_duration_seconds",
        "Time that the log's syncs (fdatasync) took.",
        MetricType::Histogram,
    );
    let count = wal.sync.count as f64;
    for (bound, count) in &wal.sync_within {
        let bound = bound.as_secs_f64().to_string();
        syncs.suffixed_row("_bucket", &[("le", &bound)], *count as f64);
    }
    syncs.suffixed_row("_bucket", &[("le", "+Inf")], count);
    syncs.suffixed_row("_sum", &[], wal.sync.sum.as_secs_f64());
    syncs.suffixed_row("_count", &[], count);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_cumulative() {
        let histogram = Histogram::default();
        for ms in [1, 3, 200, 60_000] {
            histogram.observe(Duration::from_millis(ms));
        }
        let mut out = Exposition::default();
        let family = out.family("h", "", MetricType::Histogram);
        histogram.write(family, &[]);
        let value = |le: &str| {
            let row = family
                .rows
                .iter()
                .find(|r| r.labels == [("le", le.to_owned())]);
            row.map(|r| r.value)
        };
        assert_eq!(value("0.001"), Some(1.0));
        assert_eq!(value("0.005"), Some(2.0));
        assert_eq!(value("30"), Some(3.0));
        assert_eq!(value("+Inf"), Some(4.0));
    }
}
