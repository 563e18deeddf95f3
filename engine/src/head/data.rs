//! The rows of one generation of the head, of all tenants and signals.
//!
//! Series are spread over shards by slot; each shard has its own lock, held for one append or one
//! copy of one series' open samples. One thread writes at a time, many read.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use parking_lot::RwLock;

use super::rows::{LogRows, SpanRows};
use super::series_data::{Sample, SeriesData};
use crate::model::{SampleColumns, TimeRange};

/// Locks over the series of a generation.
const SHARDS: usize = 64;

type Shard = Vec<Option<Box<SeriesData>>>;

/// One generation of the head.
pub(crate) struct HeadData {
    shards: Vec<RwLock<Shard>>,
    pub(crate) logs: RwLock<LogRows>,
    pub(crate) spans: RwLock<SpanRows>,
    samples: AtomicU64,
    series: AtomicU64,
    bytes: AtomicU64,
    first_time: AtomicI64,
    last_time: AtomicI64,
}

impl Default for HeadData {
    fn default() -> Self {
        Self {
            shards: (0..SHARDS).map(|_| RwLock::default()).collect(),
            logs: RwLock::default(),
            spans: RwLock::default(),
            samples: AtomicU64::new(0),
            series: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            first_time: AtomicI64::new(i64::MAX),
            last_time: AtomicI64::new(i64::MIN),
        }
    }
}

fn place(slot: u32) -> (usize, usize) {
    (slot as usize % SHARDS, slot as usize / SHARDS)
}

impl HeadData {
    /// Appends one sample of the series at `slot`.
    pub(crate) fn push_sample(&self, slot: u32, sample: Sample) {
        let (shard, index) = place(slot);
        self.first_time.fetch_min(sample.time, Ordering::Relaxed);
        self.last_time.fetch_max(sample.time, Ordering::Relaxed);
        let mut shard = self.shards[shard].write();
        if shard.len() <= index {
            shard.resize_with(index + 1, || None);
        }
        let series = shard[index].get_or_insert_with(|| {
            self.series.fetch_add(1, Ordering::Relaxed);
            Box::default()
        });
        let bytes = series.push(sample);
        self.samples.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Calls `look` with the samples of a series, if it has any here.
    fn with_series<T>(&self, slot: u32, look: impl FnOnce(&SeriesData) -> T) -> Option<T> {
        let (shard, index) = place(slot);
        let shard = self.shards[shard].read();
        shard.get(index)?.as_deref().map(look)
    }

    /// Whether the series at `slot` may have samples in the range.
    pub(crate) fn overlaps(&self, slot: u32, range: TimeRange) -> bool {
        self.range().overlaps(range)
            && self
                .with_series(slot, |series| series.overlaps(range))
                .unwrap_or(false)
    }

    /// How many samples the series at `slot` has here.
    pub(crate) fn sample_count(&self, slot: u32) -> u64 {
        self.with_series(slot, |series| series.len() as u64)
            .unwrap_or(0)
    }

    /// First and last time of the series at `slot`.
    pub(crate) fn series_range(&self, slot: u32) -> Option<TimeRange> {
        self.with_series(slot, SeriesData::range).flatten()
    }

    /// Appends the series' samples to `parts`: ascending parts, earliest arrival first.
    pub(crate) fn read(&self, slot: u32, range: TimeRange, parts: &mut Vec<SampleColumns>) {
        self.with_series(slot, |series| series.read(range, parts));
    }

    /// Removes the samples of a series in the range.
    pub(crate) fn remove(&self, slot: u32, range: TimeRange) {
        let (shard, index) = place(slot);
        let mut shard = self.shards[shard].write();
        let Some(place) = shard.get_mut(index) else {
            return;
        };
        let Some(series) = place else { return };
        let removed = series.remove(range) as u64;
        if series.range().is_none() {
            *place = None;
            self.series.fetch_sub(1, Ordering::Relaxed);
        }
        self.samples.fetch_sub(removed, Ordering::Relaxed);
    }

    /// The range of all samples; empty without any.
    pub(crate) fn range(&self) -> TimeRange {
        TimeRange::new(
            self.first_time.load(Ordering::Relaxed),
            self.last_time.load(Ordering::Relaxed),
        )
    }

    /// Samples held, overwritten ones included.
    pub(crate) fn samples(&self) -> u64 {
        self.samples.load(Ordering::Relaxed)
    }

    /// Series that have samples here.
    pub(crate) fn series(&self) -> u64 {
        self.series.load(Ordering::Relaxed)
    }

    /// Estimated bytes of rows.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }
}
