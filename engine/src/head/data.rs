//! The rows of one generation of the head, of all tenants and signals.
//!
//! Series are spread over shards by slot, in blocks of neighbours: series that were defined together
//! are written together, so that one lock serves many samples. One thread writes at a time, many
//! read; a reader holds a lock only while it copies the open samples of one series.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Mutex, RwLock};

use super::exemplars::Exemplars;
use super::rows::{LogRows, SpanRows};
use super::series_data::{Sample, SeriesData};
use super::series_table::TenantIndex;
use crate::model::{SampleColumns, TimeRange};

/// Locks over the series of a generation.
const SHARDS: usize = 64;
/// Neighbouring slots that share a shard.
const SLOTS_PER_BLOCK: usize = 64;
/// What a series costs beside its runs: the struct, its pointer, the allocator's word.
const SERIES_BYTES: u64 = (size_of::<SeriesData>() + 8 + 8) as u64;
/// A day in nanoseconds: segments are partitioned by it.
pub(crate) const DAY_NS: i64 = 86_400_000_000_000;

type Shard = Vec<Option<Box<SeriesData>>>;

/// One generation of the head.
pub(crate) struct HeadData {
    since: Instant,
    shards: Vec<RwLock<Shard>>,
    pub(crate) logs: RwLock<LogRows>,
    pub(crate) spans: RwLock<SpanRows>,
    pub(crate) exemplars: RwLock<Exemplars>,
    /// Tenants and names of metrics whose metadata changed.
    pub(crate) metadata: Mutex<BTreeSet<(TenantIndex, String)>>,
    samples: AtomicU64,
    series: AtomicU64,
    bytes: AtomicU64,
    first_time: AtomicI64,
    last_time: AtomicI64,
    /// UTC days since the epoch that have samples.
    days: Mutex<BTreeSet<i64>>,
}

impl Default for HeadData {
    fn default() -> Self {
        Self {
            since: Instant::now(),
            shards: (0..SHARDS).map(|_| RwLock::default()).collect(),
            logs: RwLock::default(),
            spans: RwLock::default(),
            exemplars: RwLock::default(),
            metadata: Mutex::default(),
            samples: AtomicU64::new(0),
            series: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            first_time: AtomicI64::new(i64::MAX),
            last_time: AtomicI64::new(i64::MIN),
            days: Mutex::default(),
        }
    }
}

/// Shard of a slot and its place there.
#[inline]
fn place(slot: u32) -> (usize, usize) {
    let (block, inside) = (
        slot as usize / SLOTS_PER_BLOCK,
        slot as usize % SLOTS_PER_BLOCK,
    );
    (block % SHARDS, block / SHARDS * SLOTS_PER_BLOCK + inside)
}

impl HeadData {
    /// Appends samples, each with the slot of its series. Only one thread may do this at a time.
    pub(crate) fn push_samples(&self, samples: impl IntoIterator<Item = (u32, Sample)>) {
        let (mut first, mut last) = (i64::MAX, i64::MIN);
        let (mut count, mut new_series, mut grown) = (0_u64, 0_u64, 0_i64);
        let mut day = i64::MIN;
        let mut locked = None;
        for (slot, sample) in samples {
            count += 1;
            first = first.min(sample.time);
            last = last.max(sample.time);
            let sample_day = sample.time.div_euclid(DAY_NS);
            if sample_day != day {
                day = sample_day;
                self.days.lock().insert(day);
            }
            let (shard_number, index) = place(slot);
            let shard = match &mut locked {
                Some((number, guard)) if *number == shard_number => guard,
                _ => {
                    // The lock before goes first: one writer must never hold two.
                    drop(locked.take());
                    &mut locked
                        .insert((shard_number, self.shards[shard_number].write()))
                        .1
                }
            };
            if shard.len() <= index {
                shard.resize_with(index + 1, || None);
            }
            let series = shard[index].get_or_insert_with(|| {
                new_series += 1;
                Box::default()
            });
            let before = series.heap_bytes();
            series.push(sample);
            grown += series.heap_bytes() as i64 - before as i64;
        }
        drop(locked);
        self.first_time.fetch_min(first, Ordering::Relaxed);
        self.last_time.fetch_max(last, Ordering::Relaxed);
        self.samples.fetch_add(count, Ordering::Relaxed);
        self.series.fetch_add(new_series, Ordering::Relaxed);
        let grown = grown + (new_series * SERIES_BYTES) as i64;
        self.bytes.fetch_add(grown as u64, Ordering::Relaxed);
    }

    /// Notes that rows of this time are here which are no samples.
    pub(crate) fn note_time(&self, time: i64) {
        self.days.lock().insert(time.div_euclid(DAY_NS));
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

    /// Whether the series at `slot` has samples or exemplars here.
    pub(crate) fn has_rows(&self, slot: u32) -> bool {
        self.with_series(slot, |_| ()).is_some() || self.exemplars.read().has(slot)
    }

    /// Appends the series' samples to `parts`: ascending parts, earliest arrival first.
    pub(crate) fn read(&self, slot: u32, range: TimeRange, parts: &mut Vec<SampleColumns>) {
        let snapshot = self.with_series(slot, |series| series.snapshot(range));
        snapshot.unwrap_or_default().decode(range, parts);
    }

    /// Slots that have samples here, ascending.
    pub(crate) fn slots(&self) -> Vec<u32> {
        let mut slots = Vec::with_capacity(self.series() as usize);
        for (number, shard) in self.shards.iter().enumerate() {
            for (index, series) in shard.read().iter().enumerate() {
                if series.is_some() {
                    let block = index / SLOTS_PER_BLOCK * SHARDS + number;
                    slots.push((block * SLOTS_PER_BLOCK + index % SLOTS_PER_BLOCK) as u32);
                }
            }
        }
        slots.sort_unstable();
        slots
    }

    /// Removes the samples of a series in the range.
    pub(crate) fn remove(&self, slot: u32, range: TimeRange) {
        let (shard, index) = place(slot);
        let mut shard = self.shards[shard].write();
        let Some(place) = shard.get_mut(index) else {
            return;
        };
        let Some(series) = place else { return };
        let before = (series.len(), series.heap_bytes());
        series.remove(range);
        let removed = (before.0 - series.len()) as u64;
        let mut freed = before.1.saturating_sub(series.heap_bytes()) as u64;
        if series.range().is_none() {
            *place = None;
            self.series.fetch_sub(1, Ordering::Relaxed);
            freed += SERIES_BYTES;
        }
        self.samples.fetch_sub(removed, Ordering::Relaxed);
        self.bytes
            .fetch_sub(freed.min(self.bytes()), Ordering::Relaxed);
    }

    /// How long it has been taking rows.
    pub(crate) fn age(&self) -> Duration {
        self.since.elapsed()
    }

    /// Whether nothing at all is here.
    pub(crate) fn is_empty(&self) -> bool {
        self.series() == 0
            && self.exemplars.read().len() == 0
            && self.logs.read().count() == 0
            && self.spans.read().count() == 0
    }

    /// The range of all samples; empty without any.
    pub(crate) fn range(&self) -> TimeRange {
        TimeRange::new(
            self.first_time.load(Ordering::Relaxed),
            self.last_time.load(Ordering::Relaxed),
        )
    }

    /// UTC days since the epoch that have samples.
    pub(crate) fn days(&self) -> Vec<i64> {
        self.days.lock().iter().copied().collect()
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::head::series_data::SampleValue;

    #[test]
    fn slots_come_back_whatever_their_block() {
        let data = HeadData::default();
        let slots = [0_u32, 1, 63, 64, 4095, 4096, 5000, 100_000];
        let sample = |time| Sample {
            time,
            start: 0,
            value: SampleValue::Float(1.0),
        };
        data.push_samples(slots.map(|slot| (slot, sample(i64::from(slot)))));
        assert_eq!(data.slots(), slots);
        assert_eq!((data.samples(), data.series()), (8, 8));
        data.remove(64, TimeRange::ALL);
        assert_eq!((data.samples(), data.series()), (7, 7));
        assert!(data.overlaps(5000, TimeRange::new(5000, 5000)));
        assert!(!data.overlaps(5000, TimeRange::new(5001, 6000)));
    }
}
