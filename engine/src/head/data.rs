//! The rows of one generation of the head, of all tenants and signals.
//!
//! Series are spread over shards by slot, in blocks of neighbours: series that were defined together
//! are written together, so that one lock serves many samples. One thread writes at a time, many
//! read; a reader holds a lock only while it copies the open samples of one series.
//!
//! A pin sees what was here when it began: while one is live, a series saves its state before its
//! first change after the newest pin. A pin then reads the earliest state saved under its own number
//! or a higher one, and else the series as it is.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use hashbrown::HashMap;
use parking_lot::{Mutex, RwLock};
use smallvec::SmallVec;

use super::exemplars::Exemplars;
use super::rows::{LogRows, SpanRows};
use super::series_data::{Sample, SeriesData, SeriesSnapshot};
use super::series_table::TenantIndex;
use crate::model::arrived::ArrivedRow;
use crate::model::{SampleColumns, TimeRange};
use crate::rows::{LogBatch, SpanBatch};
use crate::store::snapshot::LivePins;

/// Locks over the series of a generation.
const SHARDS: usize = 64;
/// Neighbouring slots that share a shard.
const SLOTS_PER_BLOCK: usize = 64;
/// What a series costs beside its runs: the struct, its pointer, the allocator's word.
const SERIES_BYTES: u64 = (size_of::<SeriesData>() + 8 + 8) as u64;
/// A day in nanoseconds: segments are partitioned by it.
pub(crate) const DAY_NS: i64 = 86_400_000_000_000;

/// The series of a shard, and states of them that pins still need.
#[derive(Default)]
struct Shard {
    series: Vec<Option<Box<SeriesData>>>,
    /// By place: states before a change, each with the newest pin at that time, ascending.
    saved: HashMap<usize, SavedStates>,
}

type SavedStates = SmallVec<[(u64, Arc<SeriesSnapshot>); 1]>;

impl Shard {
    /// Saves the state of a series before its first change after the newest pin. Answers how many
    /// bytes that took.
    #[cold]
    fn save(&mut self, index: usize, pins: &LivePins) -> i64 {
        let newest = pins.last().copied().unwrap_or(0);
        let states = self.saved.entry(index).or_default();
        if states.last().is_some_and(|(pin, _)| *pin >= newest) {
            return 0;
        }
        let mut changed = 0;
        let mut before = 0;
        states.retain(|(pin, state)| {
            // It serves the pins after the one of the state before, up to its own.
            let is_needed = pins.iter().any(|live| before < *live && *live <= *pin);
            before = *pin;
            if !is_needed {
                changed -= state.heap_bytes() as i64;
            }
            is_needed
        });
        let series = self.series.get(index).and_then(|place| place.as_deref());
        let state = series.map_or_else(SeriesSnapshot::default, |s| s.snapshot(TimeRange::ALL));
        changed += state.heap_bytes() as i64;
        states.push((newest, Arc::new(state)));
        changed
    }

    /// The state that a pin sees, if the series has changed since.
    fn saved_for(&self, index: usize, pin: u64) -> Option<&Arc<SeriesSnapshot>> {
        if pin == 0 || self.saved.is_empty() {
            return None;
        }
        let states = self.saved.get(&index)?;
        let found = states.iter().find(|(saved, _)| *saved >= pin)?;
        Some(&found.1)
    }

    fn look(&self, index: usize) -> Option<&SeriesData> {
        self.series.get(index)?.as_deref()
    }
}

/// How samples are appended.
#[derive(Default)]
pub(crate) struct PushMode {
    /// When they arrived, if the store keeps what is overwritten.
    pub(crate) arrival: Option<i64>,
    pub(crate) pins: LivePins,
}

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
    /// Bytes of states that pins need.
    saved_bytes: AtomicI64,
    /// Pins up to this number do not see this generation.
    pins_before: u64,
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
            saved_bytes: AtomicI64::new(0),
            pins_before: 0,
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
    /// A generation that begins after `pins` pins.
    pub(crate) fn after_pins(pins: u64) -> Self {
        Self {
            pins_before: pins,
            ..Self::default()
        }
    }

    /// The live pins that see this generation.
    fn pins_here(&self, mut pins: LivePins) -> LivePins {
        pins.retain(|pin| *pin > self.pins_before);
        pins
    }

    /// Forgets the states that pins needed.
    pub(crate) fn forget_saved(&self) {
        if self.saved_bytes.swap(0, Ordering::AcqRel) != 0 {
            for shard in &self.shards {
                shard.write().saved = HashMap::new();
            }
        }
        self.logs.write().forget_removed();
        self.spans.write().forget_removed();
    }

    /// Appends samples, each with the slot of its series, and answers the earliest time among them
    /// (the latest that there is without any). Only one thread may do this at a time.
    pub(crate) fn push_samples(
        &self,
        samples: impl IntoIterator<Item = (u32, Sample)>,
        mode: PushMode,
    ) -> i64 {
        let pins = self.pins_here(mode.pins);
        let mut saved = 0_i64;
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
            if !pins.is_empty() {
                saved += shard.save(index, &pins);
            }
            if shard.series.len() <= index {
                shard.series.resize_with(index + 1, || None);
            }
            let series = shard.series[index].get_or_insert_with(|| {
                new_series += 1;
                Box::default()
            });
            let before = series.heap_bytes();
            match mode.arrival {
                None => series.push(sample),
                Some(arrival) => series.push_arrived(sample, arrival),
            }
            grown += series.heap_bytes() as i64 - before as i64;
        }
        drop(locked);
        if saved != 0 {
            self.saved_bytes.fetch_add(saved, Ordering::Relaxed);
        }
        self.first_time.fetch_min(first, Ordering::Relaxed);
        self.last_time.fetch_max(last, Ordering::Relaxed);
        self.samples.fetch_add(count, Ordering::Relaxed);
        self.series.fetch_add(new_series, Ordering::Relaxed);
        let grown = grown + (new_series * SERIES_BYTES) as i64;
        self.bytes.fetch_add(grown as u64, Ordering::Relaxed);
        first
    }

    /// Appends log records.
    pub(crate) fn push_logs(&self, tenant: TenantIndex, batch: Arc<LogBatch>) {
        let bytes = self.logs.write().push(tenant, batch);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Appends spans.
    pub(crate) fn push_spans(&self, tenant: TenantIndex, batch: Arc<SpanBatch>) {
        let bytes = self.spans.write().push(tenant, batch);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Notes that rows of this time are here which are no samples.
    pub(crate) fn note_time(&self, time: i64) {
        self.days.lock().insert(time.div_euclid(DAY_NS));
    }

    /// Calls `look` with the samples of a series, if it has any here.
    fn with_series<T>(&self, slot: u32, look: impl FnOnce(&SeriesData) -> T) -> Option<T> {
        let (shard, index) = place(slot);
        self.shards[shard].read().look(index).map(look)
    }

    /// Whether the series at `slot` may have samples in the range, as a pin (0: nobody) sees it.
    pub(crate) fn overlaps(&self, slot: u32, range: TimeRange, pin: u64) -> bool {
        if !self.range().overlaps(range) {
            return false;
        }
        let (shard, index) = place(slot);
        let shard = self.shards[shard].read();
        match shard.saved_for(index, pin) {
            Some(state) => state.range.overlaps(range),
            None => shard
                .look(index)
                .is_some_and(|series| series.overlaps(range)),
        }
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

    /// Whether samples of the series may have arrived late or taken the place of others.
    pub(crate) fn is_versioned(&self, slot: u32) -> bool {
        self.with_series(slot, SeriesData::is_versioned)
            .unwrap_or(false)
    }

    /// Calls `look` with a copy of what is needed to read a series, as a pin (0: nobody) sees it. No
    /// lock is held meanwhile.
    fn with_snapshot(
        &self,
        slot: u32,
        range: TimeRange,
        pin: u64,
        look: impl FnOnce(&SeriesSnapshot),
    ) {
        let (shard, index) = place(slot);
        let shard = self.shards[shard].read();
        if let Some(state) = shard.saved_for(index, pin).map(Arc::clone) {
            drop(shard);
            return look(&state);
        }
        let snapshot = shard.look(index).map(|series| series.snapshot(range));
        drop(shard);
        look(&snapshot.unwrap_or_default());
    }

    /// Appends the series' samples to `parts`: ascending parts, earliest arrival first.
    pub(crate) fn read(
        &self,
        slot: u32,
        range: TimeRange,
        pin: u64,
        parts: &mut Vec<SampleColumns>,
    ) {
        self.with_snapshot(slot, range, pin, |series| series.decode(range, parts));
    }

    /// Appends the series' samples with their arrivals: of one time, the later arrival comes later.
    pub(crate) fn read_rows(
        &self,
        slot: u32,
        range: TimeRange,
        pin: u64,
        rows: &mut Vec<ArrivedRow>,
    ) {
        self.with_snapshot(slot, range, pin, |series| series.decode_rows(range, rows));
    }

    /// Slots that have samples here, ascending.
    pub(crate) fn slots(&self) -> Vec<u32> {
        let mut slots = Vec::with_capacity(self.series() as usize);
        for (number, shard) in self.shards.iter().enumerate() {
            for (index, series) in shard.read().series.iter().enumerate() {
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
    pub(crate) fn remove(&self, slot: u32, range: TimeRange, pins: LivePins) {
        let pins = self.pins_here(pins);
        let (shard, index) = place(slot);
        let mut shard = self.shards[shard].write();
        if !pins.is_empty() {
            let saved = shard.save(index, &pins);
            self.saved_bytes.fetch_add(saved, Ordering::Relaxed);
        }
        let Some(place) = shard.series.get_mut(index) else {
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

    /// Estimated bytes of states that pins need.
    pub(crate) fn saved_bytes(&self) -> u64 {
        u64::try_from(self.saved_bytes.load(Ordering::Relaxed)).unwrap_or(0)
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
        let samples = slots.map(|slot| (slot, sample(i64::from(slot))));
        data.push_samples(samples, PushMode::default());
        assert_eq!(data.slots(), slots);
        assert_eq!((data.samples(), data.series()), (8, 8));
        data.remove(64, TimeRange::ALL, LivePins::new());
        assert_eq!((data.samples(), data.series()), (7, 7));
        assert!(data.overlaps(5000, TimeRange::new(5000, 5000), 0));
        assert!(!data.overlaps(5000, TimeRange::new(5001, 6000), 0));
    }
}
