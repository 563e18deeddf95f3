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
pub(crate) use crate::model::arrived::SampleValue;
use crate::model::arrived::{ArrivedRow, LIVE, layers, sort_out};
use crate::model::{Histogram, HistogramSample, SampleColumns, TimeRange, TimestampNs};
use crate::scan::merge::merge_parts;

/// Samples of an open chunk: its bytes are copied by readers, and its buffer has spare room.
const CHUNK_SAMPLES_MAX: usize = 120;
/// Runs above which the last ones are merged.
const RUNS_MAX: usize = 8;

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

/// From the sample of this number on, something (the start of counters, the arrival) has this value.
type Change = (u32, i64);

/// What holds for the sample of a number; `None` before the first change.
fn value_at(changes: &[Change], number: u32) -> Option<i64> {
    let known = changes.partition_point(|(from, _)| *from <= number);
    let index = known.checked_sub(1)?;
    changes.get(index).map(|(_, value)| *value)
}

/// Notes what holds from a number on, if it is not what held before.
fn note(changes: &mut Vec<Change>, number: u32, value: i64, default: i64) {
    if changes.last().map_or(default, |(_, known)| *known) != value {
        changes.push((number, value));
    }
}

/// A sample that arrived within this time of its own counts as arrived then; of others the arrival is
/// kept, if the store keeps what is overwritten.
pub(crate) const ON_TIME_NS: i64 = 60_000_000_000;
/// In place of an arrival that is not kept.
const ON_TIME: i64 = i64::MIN;

/// When the floats and the histograms of a run arrived, [`ON_TIME`] where not kept.
#[derive(Clone, Debug, Default)]
struct Arrivals {
    floats: Vec<Change>,
    histograms: Vec<Change>,
}

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
    /// Start times of the floats, 0 where unknown.
    starts: Vec<Change>,
    arrivals: Option<Box<Arrivals>>,
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

    fn starts(&self) -> &[Change] {
        self.more.as_ref().map_or(&[], |more| &more.starts)
    }

    fn arrivals(&self) -> Option<&Arrivals> {
        self.more.as_ref()?.arrivals.as_deref()
    }

    fn histograms(&self) -> &[HistogramSample] {
        self.more.as_ref().map_or(&[], |more| &more.histograms)
    }

    fn more_mut(&mut self) -> &mut RunMore {
        self.more.get_or_insert_default()
    }

    /// A run of rows that ascend, with their arrivals.
    fn from_rows(rows: &[ArrivedRow]) -> Self {
        let mut run = Self::new();
        for row in rows {
            let sample = Sample {
                time: row.time,
                start: row.start,
                value: row.value.clone(),
            };
            run.push_arrived(sample, row.arrival);
        }
        run
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

    /// As [`Run::push`], and notes when the sample arrived unless that was about at its own time.
    fn push_arrived(&mut self, sample: Sample, arrival: i64) {
        let is_on_time = arrival.abs_diff(sample.time) <= ON_TIME_NS.unsigned_abs();
        let arrival = if is_on_time { ON_TIME } else { arrival };
        if arrival != ON_TIME || self.arrivals().is_some() {
            let (floats, histograms) = (self.float_count(), self.histograms().len() as u32);
            let arrivals = self.more_mut().arrivals.get_or_insert_default();
            match sample.value {
                SampleValue::Float(_) => note(&mut arrivals.floats, floats, arrival, ON_TIME),
                SampleValue::Histogram(_) => {
                    note(&mut arrivals.histograms, histograms, arrival, ON_TIME);
                }
            }
        }
        self.push(sample);
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
        note(&mut self.more_mut().starts, number, start, 0);
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
            arrivals: self.arrivals().cloned().unwrap_or_default(),
            histograms: histograms.get(first..end).unwrap_or(&[]).to_vec(),
            histogram_number: first as u32,
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
        let arrivals = self.arrivals.as_ref().map_or(0, |arrivals| {
            let changes = arrivals.floats.capacity() + arrivals.histograms.capacity();
            size_of::<Arrivals>() + changes * size_of::<Change>()
        });
        size_of::<Self>()
            + chunk * self.closed.len()
            + self.closed.capacity() * size_of::<ClosedChunk>()
            + self.starts.capacity() * size_of::<Change>()
            + arrivals
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
    starts: Vec<Change>,
    arrivals: Arrivals,
    histograms: Vec<HistogramSample>,
    /// Number of the first of them in the run.
    histogram_number: u32,
}

impl RunSnapshot {
    fn decode(&self, range: TimeRange) -> SampleColumns {
        let inside = |sample: &&HistogramSample| range.contains(sample.time);
        let mut out = SampleColumns {
            histograms: self.histograms.iter().filter(inside).cloned().collect(),
            ..SampleColumns::default()
        };
        let mut numbers = NumberedStarts {
            starts: &self.starts,
        };
        for chunk in &self.closed {
            if chunk.last < range.start.0 || range.end.0 < chunk.first {
                continue;
            }
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

    /// Appends the samples with their arrivals: floats, then histograms, each ascending in time.
    fn decode_rows(&self, range: TimeRange, out: &mut Vec<ArrivedRow>) {
        let arrival = |changes: &[Change], number: u32, time: i64| {
            let known = value_at(changes, number).filter(|arrival| *arrival != ON_TIME);
            known.unwrap_or(time)
        };
        let closed = self.closed.iter().map(|c| (&*c.bytes, c.count, c.number));
        let open = self.open.as_ref();
        let open = open.map(|(bytes, count)| (&**bytes, *count, self.open_number));
        for (bytes, count, first) in closed.chain(open) {
            for (sample, number) in Reader::new(bytes, count as usize).zip(first..) {
                let (time, value) = sample.expect(OWN_CHUNK);
                if range.contains(TimestampNs(time)) {
                    out.push(ArrivedRow {
                        time,
                        arrival: arrival(&self.arrivals.floats, number, time),
                        until: LIVE,
                        start: value_at(&self.starts, number).unwrap_or(0),
                        value: SampleValue::Float(value),
                    });
                }
            }
        }
        for (sample, number) in self.histograms.iter().zip(self.histogram_number..) {
            if range.contains(sample.time) {
                let time = sample.time.0;
                out.push(ArrivedRow {
                    time,
                    arrival: arrival(&self.arrivals.histograms, number, time),
                    until: LIVE,
                    start: sample.start_time.map_or(0, |start| start.0),
                    value: SampleValue::Histogram(Arc::clone(&sample.histogram)),
                });
            }
        }
    }

    fn heap_bytes(&self) -> usize {
        let open = self.open.as_ref().map_or(0, |(bytes, _)| bytes.capacity());
        size_of::<Self>() + open + self.histograms.len() * size_of::<HistogramSample>()
    }
}

const OWN_CHUNK: &str = "bug: a chunk of the head does not decode";

/// Decodes chunks and gives their samples the start times that hold from their numbers on.
struct NumberedStarts<'a> {
    starts: &'a [Change],
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
        if whole && self.starts.is_empty() {
            decode(bytes, count as usize, &mut out.timestamps, &mut out.values).expect(OWN_CHUNK);
            return;
        }
        for (sample, number) in Reader::new(bytes, count as usize).zip(number..) {
            let (time, value) = sample.expect(OWN_CHUNK);
            if time > range.end.0 {
                break;
            }
            if time < range.start.0 {
                continue;
            }
            out.timestamps.push(time);
            out.values.push(value);
            if !self.starts.is_empty() {
                let start = value_at(self.starts, number).unwrap_or(0);
                out.start_timestamps.push(start);
            }
        }
    }
}

/// A copy of one series' samples in a range, decoded without any lock.
#[derive(Debug)]
pub(crate) struct SeriesSnapshot {
    runs: SmallVec<[RunSnapshot; 1]>,
    /// First and last time of the series; empty without samples.
    pub(crate) range: TimeRange,
}

impl Default for SeriesSnapshot {
    fn default() -> Self {
        Self {
            runs: SmallVec::new(),
            range: TimeRange::new(i64::MAX, i64::MIN),
        }
    }
}

impl SeriesSnapshot {
    /// Appends one ascending part per run to `parts`, earliest arrival first.
    pub(crate) fn decode(&self, range: TimeRange, parts: &mut Vec<SampleColumns>) {
        for run in &self.runs {
            let columns = run.decode(range);
            if !columns.is_empty() {
                parts.push(columns);
            }
        }
    }

    /// Appends the samples with their arrivals to `out`: of one time, the later arrival comes later.
    pub(crate) fn decode_rows(&self, range: TimeRange, out: &mut Vec<ArrivedRow>) {
        for run in &self.runs {
            run.decode_rows(range, out);
        }
    }

    /// Estimated bytes held, chunks that are shared with the head not counted.
    pub(crate) fn heap_bytes(&self) -> usize {
        size_of::<Self>() + self.runs.iter().map(RunSnapshot::heap_bytes).sum::<usize>()
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

    /// As [`SeriesData::push`], for a store that keeps what is overwritten: notes when the sample
    /// arrived, and drops none.
    pub(crate) fn push_arrived(&mut self, sample: Sample, arrival: i64) {
        self.first_time = self.first_time.min(sample.time);
        if sample.time > self.last_time() || self.main.len() == 0 {
            self.main.push_arrived(sample, arrival);
            return;
        }
        if self.repeats_newest(&sample) {
            return;
        }
        let runs = self.late.get_or_insert_default();
        if let Some(run) = runs.iter_mut().find(|run| run.last_time < sample.time) {
            run.push_arrived(sample, arrival);
            return;
        }
        let mut run = Run::new();
        run.push_arrived(sample, arrival);
        runs.push(run);
        // Versions of one time need a run each: merging is tried less and less often.
        if runs.len() > RUNS_MAX && runs.len().is_power_of_two() {
            merge_runs_in_layers(runs);
        }
    }

    /// Whether samples may have arrived late or taken the place of others.
    pub(crate) fn is_versioned(&self) -> bool {
        self.late.is_some() || self.main.arrivals().is_some()
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
            && self.main.arrivals().is_none()
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
            range: TimeRange::new(self.first_time, self.last_time()),
        }
    }

    /// Removes the samples of the range.
    ///
    /// What is left becomes one run, or one for each version of a time where versions are kept: a run
    /// that was cut short could take a sample whose time a later run holds already, and then the older
    /// of the two would pass for the later arrival.
    pub(crate) fn remove(&mut self, range: TimeRange) {
        if !self.overlaps(range) {
            return;
        }
        let keeps_versions = self.runs().any(|run| run.arrivals().is_some());
        let mut rows = Vec::new();
        for run in self.runs() {
            run.snapshot(TimeRange::ALL)
                .decode_rows(TimeRange::ALL, &mut rows);
        }
        rows.retain(|row| !row.is_in(range));
        if !keeps_versions {
            rows = sort_out(rows).live;
        }
        rows.sort_by_key(|row| row.time);
        self.first_time = rows.first().map_or(i64::MAX, |row| row.time);
        let mut kept = layers(rows).into_iter().map(|layer| Run::from_rows(&layer));
        self.main = kept.next().unwrap_or_else(Run::new);
        let late: Vec<Run> = kept.collect();
        self.late = (!late.is_empty()).then(|| Box::new(late));
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

/// Merges all runs into as few as hold every version of every time. The first of them has the first
/// version of each time, so that the order of runs stays that of arrival.
fn merge_runs_in_layers(runs: &mut Vec<Run>) {
    let mut rows = Vec::new();
    for run in runs.drain(..) {
        run.snapshot(TimeRange::ALL)
            .decode_rows(TimeRange::ALL, &mut rows);
    }
    rows.sort_by_key(|row| row.time);
    runs.extend(layers(rows).iter().map(|layer| Run::from_rows(layer)));
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

    /// With arrivals, every version of every time is kept, in order of arrival.
    #[test]
    fn versions_are_kept_with_their_arrivals() {
        let mut seed = 1_u64;
        let mut random = |bound: u64| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (seed >> 33) % bound
        };
        let minute = ON_TIME_NS;
        let mut data = SeriesData::default();
        let mut model: BTreeMap<i64, Vec<(i64, f64)>> = BTreeMap::new();
        for step in 0..2000 {
            let now = step * minute;
            let time = match random(3) {
                0 => now,
                _ => random(step as u64 + 1) as i64 * minute,
            };
            let value = step as f64;
            data.push_arrived(float(time, value), now);
            let arrival = if now - time <= minute { time } else { now };
            model.entry(time).or_default().push((arrival, value));
        }
        let range = TimeRange::new(500 * minute, 1500 * minute);
        let mut rows = Vec::new();
        data.snapshot(range).decode_rows(range, &mut rows);
        rows.sort_by_key(|row| row.time);
        let mut found: BTreeMap<i64, Vec<(i64, f64)>> = BTreeMap::new();
        for row in &rows {
            let SampleValue::Float(value) = row.value else {
                continue;
            };
            found
                .entry(row.time)
                .or_default()
                .push((row.arrival, value));
        }
        model.retain(|time, _| range.contains(TimestampNs(*time)));
        assert_eq!(found, model);
        assert!(data.is_versioned());
        // What stays after a deletion keeps its arrivals.
        data.remove(TimeRange::new(0, 1400 * minute - 1));
        let mut left = Vec::new();
        data.snapshot(range).decode_rows(range, &mut left);
        let count = |from: i64| rows.iter().filter(|row| row.time >= from * minute).count();
        assert_eq!(left.len(), count(1400));
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
