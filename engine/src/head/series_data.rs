//! One series' samples inside one generation of the head.
//!
//! Samples lie in *runs*, each ascending in time. A sample goes to the first run that ends before
//! it; when there is none, it starts a new run. In-order series have one run and pay for one.
//!
//! ```text
//! arrivals  10 30 20 30' 20' 40        run 0: 10 30 40
//!                                      run 1: 20 30'
//!                                      run 2: 20'
//! ```
//!
//! Invariant: of two samples with the same time, the one in the later run arrived later. (When the
//! second arrives, the run that holds the first, and by the same rule every run before it, already
//! ends at or after that time.) So readers resolve duplicates by run number alone, and merging the
//! last few runs into one keeps the invariant.

use std::sync::Arc;

use smallvec::SmallVec;

use crate::codec::chunk_stream::{Appender, Reader, decode};
use crate::model::{Histogram, HistogramSample, SampleColumns, TimeRange, TimestampNs};
use crate::scan::merge::{bounds, merge_parts};

/// Samples of an open chunk: its bytes are copied by readers, and its buffer has spare room.
const CHUNK_SAMPLES_MAX: usize = 120;
/// Runs above which the last ones are merged.
const RUNS_MAX: usize = 8;

/// What a sample holds.
#[derive(Clone, Debug)]
pub(crate) enum SampleValue {
    Float(f64),
    Histogram(Arc<Histogram>),
}

/// One sample on its way into the head. `start` is 0 where unknown.
#[derive(Clone, Debug)]
pub(crate) struct Sample {
    pub(crate) time: i64,
    pub(crate) start: i64,
    pub(crate) value: SampleValue,
}

/// A full chunk; shared with readers.
#[derive(Clone, Debug)]
struct ClosedChunk {
    bytes: Arc<[u8]>,
    first: i64,
    last: i64,
    count: u32,
    /// Number of its first sample among the floats of the run.
    number: u32,
}

/// From the float sample of this number on, counters of the run began at this time.
type StartChange = (u32, i64);

/// An ascending run of samples.
#[derive(Debug)]
struct Run {
    last_time: i64,
    open: Appender,
    /// What few runs have: a head that is sealed early has no closed chunk.
    more: Option<Box<RunMore>>,
}

/// What a run has beside its open chunk.
#[derive(Debug, Default)]
struct RunMore {
    closed: Vec<ClosedChunk>,
    starts: Vec<StartChange>,
    histograms: Vec<HistogramSample>,
}

// Two of each per series at worst, a million series and more: a word here is megabytes.
const _: () = assert!(size_of::<Run>() <= 88);
const _: () = assert!(size_of::<SeriesData>() <= 104);

impl Run {
    fn new() -> Self {
        Self {
            last_time: i64::MIN,
            open: Appender::new(),
            more: None,
        }
    }

    fn closed(&self) -> &[ClosedChunk] {
        self.more.as_ref().map_or(&[], |more| &more.closed)
    }

    fn starts(&self) -> &[StartChange] {
        self.more.as_ref().map_or(&[], |more| &more.starts)
    }

    fn histograms(&self) -> &[HistogramSample] {
        self.more.as_ref().map_or(&[], |more| &more.histograms)
    }

    fn more_mut(&mut self) -> &mut RunMore {
        self.more.get_or_insert_default()
    }

    /// A run of samples that ascend.
    fn from_columns(columns: &SampleColumns) -> Self {
        let mut run = Self::new();
        for (index, (time, value)) in columns.timestamps.iter().zip(&columns.values).enumerate() {
            run.push_float(
                *time,
                columns.start_timestamps.get(index).copied().unwrap_or(0),
                *value,
            );
        }
        if !columns.histograms.is_empty() {
            run.more_mut().histograms.clone_from(&columns.histograms);
        }
        let ends = [
            columns.timestamps.last().copied(),
            columns.histograms.last().map(|h| h.time.0),
        ];
        run.last_time = ends.into_iter().flatten().max().unwrap_or(i64::MIN);
        run
    }

    /// Floats in closed chunks.
    fn closed_count(&self) -> u32 {
        self.closed().last().map_or(0, |c| c.number + c.count)
    }

    fn float_count(&self) -> u32 {
        self.closed_count() + self.open.count() as u32
    }

    fn len(&self) -> usize {
        self.float_count() as usize + self.histograms().len()
    }

    fn push(&mut self, sample: Sample) {
        debug_assert!(
            self.len() == 0 || self.last_time < sample.time,
            "bug: a run that does not ascend"
        );
        match sample.value {
            SampleValue::Float(value) => self.push_float(sample.time, sample.start, value),
            SampleValue::Histogram(histogram) => {
                self.more_mut().histograms.push(HistogramSample {
                    time: TimestampNs(sample.time),
                    histogram,
                    start_time: (sample.start != 0).then_some(TimestampNs(sample.start)),
                });
            }
        }
        self.last_time = sample.time;
    }

    #[inline]
    fn push_float(&mut self, time: i64, start: i64, value: f64) {
        if start != 0 || !self.starts().is_empty() {
            self.note_start(start);
        }
        self.open.append(time, value);
        if self.open.count() >= CHUNK_SAMPLES_MAX {
            self.close_chunk();
        }
    }

    fn note_start(&mut self, start: i64) {
        let number = self.float_count();
        let starts = &mut self.more_mut().starts;
        if starts.last().map_or(0, |(_, known)| *known) != start {
            starts.push((number, start));
        }
    }

    fn close_chunk(&mut self) {
        let number = self.closed_count();
        let full = std::mem::take(&mut self.open);
        let ends = full.reader().next().and_then(Result::ok).zip(full.last());
        let ((first, _), (last, _)) = ends.expect("bug: a chunk that is closed does not decode");
        let count = full.count() as u32;
        self.more_mut().closed.push(ClosedChunk {
            bytes: Arc::from(full.finish()),
            first,
            last,
            count,
            number,
        });
    }

    /// Bytes on the heap that appending may change.
    #[inline]
    fn heap_bytes(&self) -> usize {
        self.open.heap_size() + self.more.as_ref().map_or(0, |more| more.bytes())
    }

    fn snapshot(&self, range: TimeRange) -> RunSnapshot {
        let all = self.closed();
        let from = all.partition_point(|c| c.last < range.start.0);
        let closed = all[from..].iter().take_while(|c| c.first <= range.end.0);
        // The open chunk begins after the last closed one; where exactly, decoding will find.
        let open_after = all.last().map_or(i64::MIN, |chunk| chunk.last);
        let open_last = self.open.last().map(|(last, _)| last);
        let open = open_last
            .filter(|last| range.start.0 <= *last && open_after < range.end.0)
            .map(|_| (self.open.bytes().to_vec(), self.open.count() as u32));
        let histograms = self.histograms();
        let first = histograms.partition_point(|h| h.time < range.start);
        let end = histograms.partition_point(|h| h.time <= range.end);
        RunSnapshot {
            closed: closed.cloned().collect(),
            open,
            open_number: self.closed_count(),
            starts: self.starts().to_vec(),
            histograms: histograms.get(first..end).unwrap_or(&[]).to_vec(),
        }
    }
}

impl RunMore {
    fn bytes(&self) -> usize {
        let chunk = self.closed.last().map_or(0, |c| c.bytes.len() + 16);
        let histogram = self
            .histograms
            .last()
            .map_or(0, |h| h.histogram.heap_bytes() + size_of::<Histogram>());
        size_of::<Self>()
            + chunk * self.closed.len()
            + self.closed.capacity() * size_of::<ClosedChunk>()
            + self.starts.capacity() * size_of::<StartChange>()
            + self.histograms.capacity() * size_of::<HistogramSample>()
            + histogram * self.histograms.len()
    }
}

/// What a reader takes away from a run: decoded after the lock is gone.
#[derive(Debug)]
struct RunSnapshot {
    closed: SmallVec<[ClosedChunk; 2]>,
    open: Option<(Vec<u8>, u32)>,
    open_number: u32,
    starts: Vec<StartChange>,
    histograms: Vec<HistogramSample>,
}

impl RunSnapshot {
    fn decode(self, range: TimeRange) -> SampleColumns {
        let mut out = SampleColumns {
            histograms: self.histograms,
            ..SampleColumns::default()
        };
        let mut numbers = NumberedStarts {
            starts: &self.starts,
        };
        for chunk in &self.closed {
            let whole = range.start.0 <= chunk.first && chunk.last <= range.end.0;
            numbers.decode(
                &chunk.bytes,
                chunk.count,
                chunk.number,
                range,
                whole,
                &mut out,
            );
        }
        if let Some((bytes, count)) = &self.open {
            numbers.decode(bytes, *count, self.open_number, range, false, &mut out);
        }
        out
    }
}

/// Decodes chunks and gives their samples the start times that hold from their numbers on.
struct NumberedStarts<'a> {
    starts: &'a [StartChange],
}

impl NumberedStarts<'_> {
    fn decode(
        &mut self,
        bytes: &[u8],
        count: u32,
        number: u32,
        range: TimeRange,
        whole: bool,
        out: &mut SampleColumns,
    ) {
        const OWN: &str = "bug: a chunk of the head does not decode";
        if whole && self.starts.is_empty() {
            decode(bytes, count as usize, &mut out.timestamps, &mut out.values).expect(OWN);
            return;
        }
        for (sample, number) in Reader::new(bytes, count as usize).zip(number..) {
            let (time, value) = sample.expect(OWN);
            if time > range.end.0 {
                break;
            }
            if time < range.start.0 {
                continue;
            }
            out.timestamps.push(time);
            out.values.push(value);
            if !self.starts.is_empty() {
                let known = self.starts.partition_point(|(from, _)| *from <= number);
                let start = known.checked_sub(1).map_or(0, |index| self.starts[index].1);
                out.start_timestamps.push(start);
            }
        }
    }
}

/// A copy of one series' samples in a range, decoded without any lock.
#[derive(Debug, Default)]
pub(crate) struct SeriesSnapshot {
    runs: SmallVec<[RunSnapshot; 1]>,
}

impl SeriesSnapshot {
    /// Appends one ascending part per run to `parts`, earliest arrival first.
    pub(crate) fn decode(self, range: TimeRange, parts: &mut Vec<SampleColumns>) {
        for run in self.runs {
            let columns = run.decode(range);
            if !columns.is_empty() {
                parts.push(columns);
            }
        }
    }
}

/// The samples of one series.
#[derive(Debug)]
pub(crate) struct SeriesData {
    first_time: i64,
    main: Run,
    /// Runs of late samples, in order.
    #[expect(
        clippy::box_collection,
        reason = "few series have any: 8 bytes instead of 24"
    )]
    late: Option<Box<Vec<Run>>>,
}

impl Default for SeriesData {
    fn default() -> Self {
        Self {
            first_time: i64::MAX,
            main: Run::new(),
            late: None,
        }
    }
}

impl SeriesData {
    /// Appends a sample, however old. The exact repeat of the newest sample is left out.
    #[inline]
    pub(crate) fn push(&mut self, sample: Sample) {
        self.first_time = self.first_time.min(sample.time);
        if sample.time > self.last_time() || self.main.len() == 0 {
            self.main.push(sample);
        } else if !self.repeats_newest(&sample) {
            self.push_late(sample);
        }
    }

    /// Bytes on the heap.
    #[inline]
    pub(crate) fn heap_bytes(&self) -> usize {
        let late = self.late.as_ref().map_or(0, |runs| {
            runs.capacity() * size_of::<Run>() + runs.iter().map(Run::heap_bytes).sum::<usize>()
        });
        self.main.heap_bytes() + late
    }

    /// The newest time. After a deletion it may be a late run's: what the main run lost is not made
    /// good by older samples.
    #[inline]
    fn last_time(&self) -> i64 {
        let late = self
            .late
            .as_ref()
            .map(|runs| runs.iter().map(|run| run.last_time).max());
        self.main.last_time.max(late.flatten().unwrap_or(i64::MIN))
    }

    fn repeats_newest(&self, sample: &Sample) -> bool {
        let SampleValue::Float(value) = sample.value else {
            return false;
        };
        self.late.is_none()
            && self.main.starts().is_empty()
            && sample.start == 0
            && self.main.last_time == sample.time
            && self
                .main
                .open
                .last()
                .is_some_and(|(t, v)| t == sample.time && v.to_bits() == value.to_bits())
    }

    #[cold]
    fn push_late(&mut self, sample: Sample) {
        let runs = self.late.get_or_insert_default();
        if let Some(run) = runs.iter_mut().find(|run| run.last_time < sample.time) {
            run.push(sample);
            return;
        }
        let mut run = Run::new();
        run.push(sample);
        runs.push(run);
        if runs.len() > RUNS_MAX {
            merge_last_runs(runs);
        }
    }

    fn runs(&self) -> impl Iterator<Item = &Run> {
        std::iter::once(&self.main).chain(self.late.iter().flat_map(|late| late.iter()))
    }

    /// How many samples are held, overwritten ones included.
    pub(crate) fn len(&self) -> usize {
        self.runs().map(Run::len).sum()
    }

    /// Whether a sample may lie in the range.
    pub(crate) fn overlaps(&self, range: TimeRange) -> bool {
        self.first_time <= range.end.0 && range.start.0 <= self.last_time() && !range.is_empty()
    }

    /// First and last time; `None` without samples.
    pub(crate) fn range(&self) -> Option<TimeRange> {
        let range = TimeRange::new(self.first_time, self.last_time());
        (!range.is_empty()).then_some(range)
    }

    /// Copies what a reader of the range needs.
    pub(crate) fn snapshot(&self, range: TimeRange) -> SeriesSnapshot {
        if !self.overlaps(range) {
            return SeriesSnapshot::default();
        }
        SeriesSnapshot {
            runs: self.runs().map(|run| run.snapshot(range)).collect(),
        }
    }

    /// Removes the samples of the range.
    ///
    /// What is left becomes one run: a run that was cut short could take a sample whose time a later
    /// run holds already, and then the older of the two would pass for the later arrival.
    pub(crate) fn remove(&mut self, range: TimeRange) {
        if !self.overlaps(range) {
            return;
        }
        let mut parts = Vec::new();
        for run in self.runs() {
            let columns = without(run.snapshot(TimeRange::ALL).decode(TimeRange::ALL), range);
            if !columns.is_empty() {
                parts.push(columns);
            }
        }
        let mut kept = SampleColumns::default();
        merge_parts(&mut parts, &mut kept);
        self.first_time = bounds(&kept).map_or(i64::MAX, |(first, _)| first);
        self.main = Run::from_columns(&kept);
        self.late = None;
    }
}

/// The samples outside of a range.
pub(crate) fn without(columns: SampleColumns, range: TimeRange) -> SampleColumns {
    let mut out = SampleColumns::default();
    for (index, (time, value)) in columns.timestamps.iter().zip(&columns.values).enumerate() {
        if !range.contains(TimestampNs(*time)) {
            out.timestamps.push(*time);
            out.values.push(*value);
            out.start_timestamps
                .extend(columns.start_timestamps.get(index));
        }
    }
    out.histograms = columns.histograms;
    out.histograms.retain(|sample| !range.contains(sample.time));
    out
}

/// Merges the last runs into one: as many as keep the sizes of the others growing towards the front,
/// so that each sample is merged a logarithmic number of times.
fn merge_last_runs(runs: &mut Vec<Run>) {
    let mut from = runs.len() - 2;
    let mut size = runs[from].len() + runs[from + 1].len();
    while from > 0 && runs[from - 1].len() <= 2 * size {
        from -= 1;
        size += runs[from].len();
    }
    let mut parts: Vec<SampleColumns> = runs
        .drain(from..)
        .map(|run| run.snapshot(TimeRange::ALL).decode(TimeRange::ALL))
        .collect();
    let mut merged = SampleColumns::default();
    merge_parts(&mut parts, &mut merged);
    runs.push(Run::from_columns(&merged));
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn float(time: i64, value: f64) -> Sample {
        Sample {
            time,
            start: 0,
            value: SampleValue::Float(value),
        }
    }

    fn parts(data: &SeriesData, range: TimeRange) -> Vec<SampleColumns> {
        let mut parts = Vec::new();
        data.snapshot(range).decode(range, &mut parts);
        parts
    }

    #[test]
    fn later_runs_arrived_later() {
        let mut data = SeriesData::default();
        for (time, value) in [
            (10, 0.0),
            (30, 1.0),
            (20, 2.0),
            (30, 3.0),
            (20, 4.0),
            (40, 5.0),
        ] {
            data.push(float(time, value));
        }
        let flat: Vec<Vec<_>> = parts(&data, TimeRange::new(15, 35))
            .into_iter()
            .map(|p| p.timestamps.into_iter().zip(p.values).collect())
            .collect();
        assert_eq!(
            flat,
            [vec![(30, 1.0)], vec![(20, 2.0), (30, 3.0)], vec![(20, 4.0)]]
        );
        data.remove(TimeRange::new(20, 30));
        assert_eq!(
            (data.len(), data.range()),
            (2, Some(TimeRange::new(10, 40)))
        );
    }

    /// The late runs are cut too, and one that was cut must not take what a later one has.
    #[test]
    fn after_a_deletion_in_late_runs_the_later_arrival_still_wins() {
        let mut data = SeriesData::default();
        for (time, value) in [(50, 0.0), (10, 1.0), (20, 2.0), (15, 3.0)] {
            data.push(float(time, value));
        }
        data.remove(TimeRange::new(18, 30));
        data.push(float(15, 4.0));
        let mut merged = SampleColumns::default();
        merge_parts(&mut parts(&data, TimeRange::ALL), &mut merged);
        assert_eq!(merged.timestamps, [10, 15, 50]);
        assert_eq!(merged.values, [1.0, 4.0, 0.0]);
    }

    #[test]
    fn after_a_deletion_the_later_arrival_still_wins() {
        let mut data = SeriesData::default();
        for (time, value) in [(10, 0.0), (100, 1.0), (30, 2.0)] {
            data.push(float(time, value));
        }
        data.remove(TimeRange::new(50, 200));
        data.push(float(30, 3.0));
        let mut merged = SampleColumns::default();
        merge_parts(&mut parts(&data, TimeRange::ALL), &mut merged);
        assert_eq!(merged.values, [0.0, 3.0]);
    }

    /// Any order of arrival against a map that keeps the last value per time.
    #[test]
    fn any_order_reads_as_the_last_value_per_time() {
        let mut seed = 1_u64;
        let mut random = |bound: u64| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (seed >> 33) % bound
        };
        for times in [3, 40, 5000] {
            let mut data = SeriesData::default();
            let mut model = BTreeMap::new();
            for step in 0..3000 {
                let time = if random(2) == 0 {
                    step
                } else {
                    random(times) as i64
                };
                let (value, start) = (random(5) as f64, random(3) as i64);
                data.push(Sample {
                    time,
                    start,
                    value: SampleValue::Float(value),
                });
                model.insert(time, (value, start));
            }
            let range = TimeRange::new(10, 2500);
            let mut merged = SampleColumns::default();
            merge_parts(&mut parts(&data, range), &mut merged);
            let found: Vec<_> = merged
                .timestamps
                .iter()
                .zip(merged.values.iter().zip(&merged.start_timestamps))
                .map(|(t, (v, s))| (*t, (*v, *s)))
                .collect();
            let expected: Vec<_> = model.range(10..=2500).map(|(t, v)| (*t, *v)).collect();
            assert_eq!(found, expected);
        }
    }

    #[test]
    fn descending_arrival_stays_bounded() {
        let mut data = SeriesData::default();
        for time in (0..20_000).rev() {
            data.push(float(time, time as f64));
        }
        assert_eq!(data.len(), 20_000);
        assert!(data.late.as_ref().unwrap().len() < 20);
    }
}
