//! Figures about a store.

use super::engine::Engine;
use super::inner::Inner;
use crate::context::{RequestContext, TenantId};
use crate::model::{Generation, SegmentId, Signal, TimeRange};
use crate::wal::{ReplayReport, WalStats};

/// Figures about a whole store.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct StoreStats {
    /// Series in the head, of all tenants.
    pub head_series: u64,
    /// Samples in the head.
    pub head_samples: u64,
    /// Log records in the head.
    pub head_log_records: u64,
    /// Spans in the head.
    pub head_spans: u64,
    /// Estimated bytes of rows in the head.
    pub head_bytes: u64,
    /// Estimated bytes of series, hash tables and postings.
    pub index_bytes: u64,
    /// First and last time of the samples in the head, `None` without any.
    pub head_range: Option<TimeRange>,
    /// Live segments, of all tenants and signals.
    pub segments: u64,
    /// Bytes of their files.
    pub segment_bytes: u64,
    /// Samples, log records and spans in them.
    pub segment_rows: u64,
    /// Deletions that segments have not absorbed yet.
    pub tombstones: u64,
    /// Exemplars in the head.
    pub exemplars: u64,
    /// The store's generation.
    pub generation: Generation,
    /// Tenants that have or had data.
    pub tenants: u64,
    /// Estimated bytes of rows, series and indexes in memory: what
    /// [`crate::StoreOptions::memory_bytes_max`] bounds.
    pub memory_bytes: u64,
    /// Generations of the head that wait to be sealed.
    pub frozen_heads: u64,
    /// Merges that are under way.
    pub merges_under_way: u64,
    /// Merges since the store was opened, failed ones included.
    pub merges: u64,
    /// Derived rows in the head, superseded ones included.
    pub head_derived_rows: u64,
    /// Estimated bytes of them.
    pub head_derived_bytes: u64,
    /// Estimated bytes that only live snapshots hold: series as they were, sealed generations.
    pub snapshot_bytes: u64,
    /// Bytes that open segments hold in memory: label names, page marks. What they map is the
    /// kernel's, and goes when memory is short.
    pub segment_index_bytes: u64,
    /// Samples in segments that later ones have taken the place of.
    pub superseded_rows: u64,
    /// State documents, and the bytes of their names and contents.
    pub state_documents: (u64, u64),
    /// The write-ahead log, its syncs among it; `None` for a store opened for reading.
    pub wal: Option<WalStats>,
    /// What opening read back from the log.
    pub replay: ReplayReport,
}

/// One live segment.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct SegmentInfo {
    /// Its name.
    pub id: SegmentId,
    /// Whose rows.
    pub tenant: TenantId,
    /// Which rows.
    pub signal: Signal,
    /// 0 as sealed, higher with every merge.
    pub level: u8,
    /// First and last time.
    pub range: TimeRange,
    /// Rows: samples, records or spans.
    pub rows: u64,
    /// Series or streams.
    pub series: u64,
    /// Bytes of the file.
    pub bytes: u64,
    /// The generation that brought it.
    pub generation: Generation,
    /// The computation that made the rows; `None` for received ones.
    pub derivation: Option<String>,
    /// Of received rows: generations that were merged into it. Of derived rows: generations of the
    /// store that they were computed from.
    pub sources: Vec<Generation>,
    /// When the rows arrived: first and last.
    pub arrival: TimeRange,
}

/// What makes a tenant's index large; each list has the largest entries first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CardinalityStats {
    /// Series in the head.
    pub series: u64,
    /// Label pairs in the head's index.
    pub label_pairs: u64,
    /// Oldest and newest sample of the head, nanoseconds; `None` without samples.
    pub head_range: Option<TimeRange>,
    /// Series per metric name.
    pub series_by_metric: Vec<(String, u64)>,
    /// Distinct values per label name.
    pub values_by_label: Vec<(String, u64)>,
    /// Bytes of distinct values per label name.
    pub bytes_by_label: Vec<(String, u64)>,
    /// Series per `name=value`.
    pub series_by_pair: Vec<(String, u64)>,
}

pub(crate) fn collect(inner: &Engine) -> StoreStats {
    let view = inner.view();
    let (documents, document_bytes) = inner.state.size();
    let mut stats = StoreStats {
        generation: inner.generation(),
        head_series: inner.table.series(),
        index_bytes: inner.index_bytes(),
        memory_bytes: inner.memory_bytes(),
        tenants: inner.tenant_ids().len() as u64,
        frozen_heads: view.frozen.len() as u64,
        merges_under_way: inner.merges.under_way(),
        merges: inner.merges.begun(),
        state_documents: (documents as u64, document_bytes),
        wal: inner.wal().ok().map(|wal| wal.stats()),
        replay: inner.replayed.clone(),
        ..StoreStats::default()
    };
    for generation in view.heads() {
        stats.head_samples += generation.samples();
        stats.head_bytes += generation.bytes();
        stats.head_log_records += generation.logs.read().count();
        stats.head_spans += generation.spans.read().count();
        stats.exemplars += generation.exemplars.read().len() as u64;
        let range = generation.range();
        if !range.is_empty() {
            let known = stats.head_range.unwrap_or(range);
            stats.head_range = Some(TimeRange {
                start: known.start.min(range.start),
                end: known.end.max(range.end),
            });
        }
    }
    stats.snapshot_bytes = inner.pins.held_bytes(&view);
    for derived in view.derived_heads() {
        stats.head_derived_rows += derived.rows();
        stats.head_derived_bytes += derived.bytes();
    }
    for segment in view.segments.iter() {
        stats.segment_index_bytes += segment.heap_bytes();
        stats.superseded_rows += segment.meta().superseded_count;
        stats.segments += 1;
        stats.segment_bytes += segment.bytes;
        stats.segment_rows += segment.meta().row_count;
    }
    stats.tombstones = view.tombstones.len() as u64;
    stats
}

/// The live segments, in order of arrival.
pub(crate) fn segments(inner: &Inner) -> Vec<SegmentInfo> {
    let view = inner.view();
    let infos = view.segments.iter().map(|segment| {
        let meta = segment.meta();
        SegmentInfo {
            id: segment.id,
            tenant: meta.origin.tenant.clone(),
            signal: meta.signal,
            level: meta.origin.level,
            range: meta.range,
            rows: meta.row_count,
            series: meta.series_count,
            bytes: segment.bytes,
            generation: segment.generation(),
            derivation: meta.origin.derivation.clone(),
            sources: meta.origin.sources.clone(),
            arrival: meta.origin.arrival,
        }
    });
    infos.collect()
}

fn largest(mut all: Vec<(String, u64)>, limit: usize) -> Vec<(String, u64)> {
    all.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    all.truncate(limit);
    all
}

pub(crate) fn cardinality(
    inner: &Engine,
    context: &RequestContext,
    limit: usize,
) -> CardinalityStats {
    let mut stats = CardinalityStats {
        head_range: collect(inner).head_range,
        ..Default::default()
    };
    let Some(tenant) = inner.tenant(&context.tenant) else {
        return stats;
    };
    let postings = tenant.postings.read();
    stats.series = postings.series_count();
    let mut by_metric = Vec::new();
    let mut by_pair = Vec::new();
    let mut bytes = std::collections::BTreeMap::<&str, u64>::new();
    for (name, value, count) in postings.pair_counts() {
        stats.label_pairs += 1;
        if name == crate::model::METRIC_NAME {
            by_metric.push((value.to_owned(), count));
        }
        *bytes.entry(name).or_default() += value.len() as u64;
        by_pair.push((format!("{name}={value}"), count));
        if by_pair.len() > limit.saturating_mul(4).max(1024) {
            by_pair = largest(by_pair, limit);
        }
    }
    stats.series_by_metric = largest(by_metric, limit);
    stats.series_by_pair = largest(by_pair, limit);
    stats.bytes_by_label = largest(
        bytes
            .into_iter()
            .map(|(name, size)| (name.to_owned(), size))
            .collect(),
        limit,
    );
    let values = postings
        .value_counts()
        .map(|(name, count)| (name.to_owned(), count));
    stats.values_by_label = largest(values.collect(), limit);
    stats
}
