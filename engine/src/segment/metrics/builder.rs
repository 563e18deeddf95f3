//! Makes a metrics segment: series in ascending order of their labels go in, the file comes out.
//!
//! Values are encoded and written as they come; in memory stay the labels (as numbers of interned
//! pairs), the chunk directory and one 32-byte entry per distinct timestamp column.

use std::collections::{BTreeMap, HashMap};

use crate::codec::{EncodeEffort, floats, histograms, integers, timestamps};
use crate::error::{EngineError, Result};
use crate::model::arrived::{ArrivedRow, LIVE, SampleValue, Versions, layers, to_columns};
use crate::model::{
    Exemplar, Histogram, HistogramSample, Labels, Metadata, SampleColumns, Signal, TimestampNs,
};

use super::super::container::{ContainerWriter, FileIdentity, SegmentSink};
use super::super::format::{
    CHUNK_ARRIVALS, CHUNK_HISTOGRAMS, CHUNK_SAMPLES_MAX, CHUNK_START_TIMES, CHUNK_STATS,
    CHUNK_SUPERSEDED, SectionKind,
};
use super::super::interner::RowLabels;
use super::super::meta::{GrowingRange, SegmentMeta, SegmentOrigin};
use super::super::wire::put_u64;
use super::annotations::{ExemplarsBuilder, encode_metadata};
use super::directory::{
    ChunkRef, DirectoryBuilder, NewChunk, TimestampColumn, put_timestamp_entry,
};
use super::reader::MetricSegmentReader;
use super::stats;

/// How a segment is built.
#[derive(Clone, Copy, Debug)]
pub struct MetricBuildOptions {
    /// How hard the codecs try.
    pub effort: EncodeEffort,
    /// Samples that a chunk should have; runs are cut into even chunks of at most one and a half times
    /// as many.
    pub chunk_samples: usize,
    /// Chunks of fewer samples get no statistics: decoding them is cheap, and the record would weigh
    /// more than it saves.
    pub stats_samples_min: usize,
}

impl Default for MetricBuildOptions {
    fn default() -> Self {
        Self {
            effort: EncodeEffort::Flush,
            chunk_samples: 1024,
            stats_samples_min: 512,
        }
    }
}

impl MetricBuildOptions {
    /// The defaults with another effort.
    #[must_use]
    pub fn with_effort(effort: EncodeEffort) -> Self {
        Self {
            effort,
            ..Self::default()
        }
    }
}

/// Makes a metrics segment. See the module's text for the order of calls.
pub struct MetricSegmentBuilder<S> {
    writer: ContainerWriter<S>,
    origin: SegmentOrigin,
    options: MetricBuildOptions,
    labels: RowLabels,
    /// Labels of the open series, and whether it has a row already.
    open: Option<(Labels, bool)>,
    last_labels: Option<Labels>,
    directory: DirectoryBuilder,
    columns: TimestampColumns,
    stats: Vec<u8>,
    exemplars: ExemplarsBuilder,
    metadata: BTreeMap<String, Vec<Metadata>>,
    range: GrowingRange,
    sample_count: u64,
    superseded_count: u64,
    scratch: Scratch,
}

/// When samples arrived and when others took their place; either may be empty.
#[derive(Clone, Copy)]
struct Lives<'a> {
    arrivals: &'a [i64],
    untils: &'a [i64],
}

impl Lives<'_> {
    fn fit(&self, count: usize) -> bool {
        [self.arrivals, self.untils]
            .iter()
            .all(|column| column.is_empty() || column.len() == count)
    }

    fn part(&self, range: std::ops::Range<usize>) -> Self {
        Self {
            arrivals: self.arrivals.get(range.clone()).unwrap_or(&[]),
            untils: self.untils.get(range).unwrap_or(&[]),
        }
    }
}

#[derive(Default)]
struct Scratch {
    chunk: Vec<u8>,
    part: Vec<u8>,
    integers: Vec<i64>,
    times: Vec<i64>,
}

impl<S: SegmentSink> MetricSegmentBuilder<S> {
    /// Starts a segment that is written to `sink`.
    ///
    /// # Errors
    /// What the sink says.
    pub fn new(sink: S, origin: SegmentOrigin, options: MetricBuildOptions) -> Result<Self> {
        let mut writer = ContainerWriter::new(sink, Signal::Metrics)?;
        writer.begin(SectionKind::Data);
        Ok(Self {
            writer,
            origin,
            options,
            labels: RowLabels::default(),
            open: None,
            last_labels: None,
            directory: DirectoryBuilder::default(),
            columns: TimestampColumns::default(),
            stats: Vec::new(),
            exemplars: ExemplarsBuilder::default(),
            metadata: BTreeMap::new(),
            range: GrowingRange::default(),
            sample_count: 0,
            superseded_count: 0,
            scratch: Scratch::default(),
        })
    }

    /// Starts the next series. A series that gets neither samples nor exemplars leaves no trace.
    ///
    /// # Errors
    /// What the sink says; [`EngineError::LimitExceeded`] at 2^32 - 1 series.
    ///
    /// # Panics
    /// When the labels do not come in strictly ascending order.
    pub fn begin_series(&mut self, labels: &Labels) -> Result<()> {
        self.end_series()?;
        assert!(
            self.last_labels.as_ref().is_none_or(|last| last < labels),
            "bug: series {labels} does not come after {:?}",
            self.last_labels
        );
        self.open = Some((labels.clone(), false));
        Ok(())
    }

    fn end_series(&mut self) -> Result<()> {
        let Some((labels, has_row)) = self.open.take() else {
            return Ok(());
        };
        self.last_labels = Some(labels);
        if has_row && self.directory.end_row() {
            self.close_block()?;
        }
        Ok(())
    }

    /// Timestamp columns that are new in this block go behind its values, so that chunks stay
    /// contiguous and times lie near.
    fn close_block(&mut self) -> Result<()> {
        self.columns.write_pending(&mut self.writer)?;
        let next_base = self.writer.section_length();
        self.directory.close_block(next_base);
        Ok(())
    }

    /// The row of the open series, made on first use.
    fn row(&mut self) -> Result<u32> {
        let (labels, has_row) = self.open.as_mut().expect("bug: no series is open");
        if !*has_row {
            if self.labels.len() >= u32::MAX as usize {
                return Err(EngineError::LimitExceeded(
                    "a segment holds at most 2^32 - 1 series".into(),
                ));
            }
            self.labels.push(labels);
            *has_row = true;
        }
        Ok(self.labels.len() as u32 - 1)
    }

    /// Adds samples of the open series, later than what it has so far.
    ///
    /// # Errors
    /// What the sink says.
    pub fn push_samples(&mut self, samples: &SampleColumns) -> Result<()> {
        self.push_samples_with_arrivals(samples, &[], &[])
    }

    /// The same with the time at which each sample arrived (both slices may be empty: each arrived at
    /// its own time).
    ///
    /// # Errors
    /// What the sink says.
    pub fn push_samples_with_arrivals(
        &mut self,
        samples: &SampleColumns,
        float_arrivals: &[i64],
        histogram_arrivals: &[i64],
    ) -> Result<()> {
        let lives = |arrivals| Lives {
            arrivals,
            untils: &[],
        };
        self.push_columns(samples, lives(float_arrivals), lives(histogram_arrivals))
    }

    /// Adds samples with their arrivals; they ascend in time without duplicates. Live ones come
    /// before superseded ones, and layers of superseded ones come one by one.
    ///
    /// # Errors
    /// What the sink says.
    fn push_rows(&mut self, rows: &[ArrivedRow]) -> Result<()> {
        let mut samples = SampleColumns::default();
        to_columns(rows, &mut samples);
        let of_kind = |is_float: bool, field: fn(&ArrivedRow) -> i64| -> Vec<i64> {
            let is_kind =
                |row: &&ArrivedRow| matches!(row.value, SampleValue::Float(_)) == is_float;
            rows.iter().filter(is_kind).map(field).collect()
        };
        let is_late = rows.iter().any(|row| row.arrival != row.time);
        let is_superseded = rows.iter().any(|row| row.until != LIVE);
        debug_assert!(
            !is_superseded || rows.iter().all(|row| row.until != LIVE),
            "bug: live and superseded samples in one layer"
        );
        let [mut float_arrivals, mut histogram_arrivals] = [Vec::new(), Vec::new()];
        let [mut float_untils, mut histogram_untils] = [Vec::new(), Vec::new()];
        if is_late {
            float_arrivals = of_kind(true, |row| row.arrival);
            histogram_arrivals = of_kind(false, |row| row.arrival);
        }
        if is_superseded {
            float_untils = of_kind(true, |row| row.until);
            histogram_untils = of_kind(false, |row| row.until);
        }
        let floats = Lives {
            arrivals: &float_arrivals,
            untils: &float_untils,
        };
        let histograms = Lives {
            arrivals: &histogram_arrivals,
            untils: &histogram_untils,
        };
        self.push_columns(&samples, floats, histograms)
    }

    /// Adds the live rows of a series, then those whose place was taken.
    ///
    /// # Errors
    /// What the sink says.
    pub(crate) fn push_versions(&mut self, versions: Versions) -> Result<()> {
        self.push_rows(&versions.live)?;
        for layer in layers(versions.superseded) {
            self.push_rows(&layer)?;
        }
        Ok(())
    }

    fn push_columns(
        &mut self,
        samples: &SampleColumns,
        float_lives: Lives<'_>,
        histogram_lives: Lives<'_>,
    ) -> Result<()> {
        let SampleColumns {
            timestamps,
            values,
            start_timestamps,
            histograms,
        } = samples;
        assert!(
            timestamps.len() == values.len()
                && (start_timestamps.is_empty() || start_timestamps.len() == values.len())
                && float_lives.fit(values.len())
                && histogram_lives.fit(histograms.len()),
            "bug: sample columns differ in length"
        );
        for range in even_parts(values.len(), self.options.chunk_samples) {
            let starts = start_timestamps.get(range.clone()).unwrap_or(&[]);
            let lives = float_lives.part(range.clone());
            self.push_floats(&timestamps[range.clone()], &values[range], starts, lives)?;
        }
        for range in even_parts(histograms.len(), self.options.chunk_samples) {
            let lives = histogram_lives.part(range.clone());
            self.push_histograms(&histograms[range], lives)?;
        }
        Ok(())
    }

    fn push_floats(
        &mut self,
        times: &[i64],
        values: &[f64],
        starts: &[i64],
        lives: Lives<'_>,
    ) -> Result<()> {
        let mut flags = self.begin_chunk(times, starts, lives);
        let values_at = self.scratch.chunk.len();
        floats::encode(values, self.options.effort, &mut self.scratch.chunk);
        let constant = self
            .scratch
            .chunk
            .get(values_at..)
            .and_then(floats::constant);
        let stats_at = self.stats.len();
        let is_large = values.len() >= self.options.stats_samples_min;
        if is_large && constant.is_none() && flags & CHUNK_SUPERSEDED == 0 {
            stats::put(&mut self.stats, &floats::Stats::of(values));
            flags |= CHUNK_STATS;
        }
        let stats_length = (self.stats.len() - stats_at) as u32;
        let column = self.columns.add(times, self.options.effort);
        self.end_chunk(column, flags, stats_length)
    }

    fn push_histograms(&mut self, samples: &[HistogramSample], lives: Lives<'_>) -> Result<()> {
        let mut starts = Vec::new();
        if samples.iter().any(|s| s.start_time.is_some()) {
            starts.extend(samples.iter().map(|s| s.start_time.map_or(0, |t| t.0)));
        }
        let mut times = std::mem::take(&mut self.scratch.times);
        times.clear();
        times.extend(samples.iter().map(|s| s.time.0));
        let flags = self.begin_chunk(&times, &starts, lives) | CHUNK_HISTOGRAMS;
        let plain: Vec<Histogram> = samples.iter().map(|s| (*s.histogram).clone()).collect();
        histograms::encode(&plain, self.options.effort, &mut self.scratch.chunk);
        let column = self.columns.add(&times, self.options.effort);
        self.scratch.times = times;
        self.end_chunk(column, flags, 0)
    }

    /// Empties the scratch chunk and puts the optional columns into it; answers their flags.
    fn begin_chunk(&mut self, times: &[i64], starts: &[i64], lives: Lives<'_>) -> u8 {
        let Scratch {
            chunk,
            part,
            integers: scratch,
            ..
        } = &mut self.scratch;
        chunk.clear();
        part.clear();
        let mut flags = 0;
        let mut put = |flag: u8, column: &[i64]| {
            flags |= flag;
            let before = part.len();
            integers::encode(column, self.options.effort, part);
            put_u64(chunk, (part.len() - before) as u64);
        };
        if starts.iter().any(|s| *s != 0) {
            put(CHUNK_START_TIMES, starts);
        }
        // Distances from the samples' own times: those of neighbours are alike.
        let mut distances = |moments: &[i64], flag: u8| {
            scratch.clear();
            let pairs = moments.iter().zip(times);
            scratch.extend(pairs.map(|(moment, time)| moment.wrapping_sub(*time)));
            put(flag, scratch);
        };
        if !lives.arrivals.is_empty() && lives.arrivals != times {
            distances(lives.arrivals, CHUNK_ARRIVALS);
        }
        if !lives.untils.is_empty() {
            distances(lives.untils, CHUNK_SUPERSEDED);
        }
        chunk.extend_from_slice(part);
        flags
    }

    fn end_chunk(&mut self, column: u32, flags: u8, stats_length: u32) -> Result<()> {
        let times = self.columns.get(column);
        self.row()?;
        self.writer.append(&self.scratch.chunk)?;
        self.directory.push(NewChunk {
            column,
            length: self.scratch.chunk.len() as u32,
            flags,
            stats_length,
        });
        self.range.include(times.0, times.1);
        match flags & CHUNK_SUPERSEDED {
            0 => self.sample_count += u64::from(times.2),
            _ => self.superseded_count += u64::from(times.2),
        }
        Ok(())
    }

    /// Copies a chunk of another segment as it is. It must be later than what the open series has.
    ///
    /// # Errors
    /// Damage in the source, or what the sink says.
    pub fn push_chunk(&mut self, source: &MetricSegmentReader, chunk: &ChunkRef) -> Result<()> {
        let raw = source.raw_chunk(chunk)?;
        self.scratch.chunk.clear();
        self.scratch.chunk.extend_from_slice(raw);
        let stats_at = self.stats.len();
        if let Some(record) = source.raw_stats(chunk)? {
            self.stats.extend_from_slice(record);
        }
        let stats_length = (self.stats.len() - stats_at) as u32;
        let key = (source.file().uid(), chunk.column);
        let column = match self.columns.copied.get(&key) {
            Some(column) => *column,
            None => {
                let times = source.decode_timestamps(chunk)?;
                let column = self.columns.add(&times, self.options.effort);
                self.columns.copied.insert(key, column);
                column
            }
        };
        self.end_chunk(column, chunk.flags, stats_length)
    }

    /// Adds exemplars of the open series.
    ///
    /// # Errors
    /// As [`MetricSegmentBuilder::begin_series`].
    pub fn push_exemplars(&mut self, exemplars: &[Exemplar]) -> Result<()> {
        if !exemplars.is_empty() {
            let row = self.row()?;
            for exemplar in exemplars {
                self.range.include(exemplar.time.0, exemplar.time.0);
            }
            self.exemplars.push(row, exemplars);
        }
        Ok(())
    }

    /// Adds what is known about a metric name, at any time, oldest first; of repeats the last counts.
    pub fn push_metadata(&mut self, metric: &str, metadata: &Metadata) {
        let known = match self.metadata.get_mut(metric) {
            Some(known) => known,
            None => self.metadata.entry(metric.to_owned()).or_default(),
        };
        if known.last() != Some(metadata) {
            known.retain(|other| other != metadata);
            known.push(metadata.clone());
        }
    }

    /// Counts `time` among the times of the segment: for one that has metadata only, which ages as
    /// rows of that time do.
    pub(crate) fn cover(&mut self, time: TimestampNs) {
        self.range.include(time.0, time.0);
    }

    /// Samples added so far, without superseded ones.
    #[must_use]
    pub fn sample_count(&self) -> u64 {
        self.sample_count
    }

    /// Whether no series got anything so far; there may be metadata.
    pub(crate) fn is_empty(&self) -> bool {
        self.labels.len() == 0
    }

    /// Bytes of the data section so far: about the size of the file to come.
    #[must_use]
    pub fn data_bytes(&self) -> u64 {
        self.writer.section_length()
    }

    /// Writes indexes and tables and ends the file. The sink still has to be synced and renamed.
    ///
    /// # Errors
    /// What the sink says.
    pub fn finish(mut self) -> Result<(S, SegmentMeta, FileIdentity)> {
        self.end_series()?;
        self.close_block()?;
        let meta = SegmentMeta {
            signal: Signal::Metrics,
            origin: self.origin,
            range: self.range.0,
            series_count: self.labels.len() as u64,
            row_count: self.sample_count,
            chunk_count: self.directory.chunk_count(),
            superseded_count: self.superseded_count,
        };
        let mut writer = self.writer;
        writer.section(SectionKind::Timestamps, &self.columns.table())?;
        self.directory.finish(&mut writer)?;
        writer.section(SectionKind::ChunkStats, &self.stats)?;
        self.labels.write(&mut writer)?;
        writer.section(SectionKind::Exemplars, &self.exemplars.finish())?;
        writer.section(SectionKind::Metadata, &encode_metadata(&self.metadata))?;
        writer.section(SectionKind::Meta, &meta.encode())?;
        let (sink, identity) = writer.finish()?;
        Ok((sink, meta, identity))
    }
}

/// Cuts `count` samples into ranges of about `target`, all of nearly the same length.
fn even_parts(count: usize, target: usize) -> impl Iterator<Item = std::ops::Range<usize>> {
    let target = target.clamp(1, CHUNK_SAMPLES_MAX / 2);
    let parts = match count {
        0 => 0,
        _ => ((count + target / 2) / target).max(1),
    };
    (0..parts).map(move |part| part * count / parts..(part + 1) * count / parts)
}

/// The distinct timestamp columns of the segment to be.
#[derive(Default)]
struct TimestampColumns {
    /// 128-bit content hash to column: no collision is to be expected in the life of a planet.
    by_content: HashMap<u128, u32>,
    /// Columns that came with chunks of other segments: (file, number there) to number here.
    copied: HashMap<(u64, u32), u32>,
    entries: Vec<TimestampColumn>,
    /// Encoded columns that are not written yet, and the first of them.
    pending: Vec<u8>,
    pending_from: usize,
    bytes: Vec<u8>,
}

impl TimestampColumns {
    /// The number of the column with these times; encodes it when it is new.
    fn add(&mut self, times: &[i64], effort: EncodeEffort) -> u32 {
        assert!(
            !times.is_empty() && times.len() <= CHUNK_SAMPLES_MAX,
            "bug: a chunk of {} samples",
            times.len()
        );
        self.bytes.clear();
        self.bytes
            .extend(times.iter().flat_map(|t| t.to_le_bytes()));
        let hash = xxhash_rust::xxh3::xxh3_128(&self.bytes);
        if let Some(found) = self.by_content.get(&hash) {
            return *found;
        }
        assert!(
            times.windows(2).all(|w| w[0] < w[1]),
            "bug: timestamps of a chunk do not ascend"
        );
        let number = self.entries.len() as u32;
        let start = self.pending.len();
        timestamps::encode(times, effort, &mut self.pending);
        self.entries.push(TimestampColumn {
            first: times[0],
            last: times[times.len() - 1],
            count: times.len() as u32,
            offset: start as u64,
            length: (self.pending.len() - start) as u32,
        });
        self.by_content.insert(hash, number);
        number
    }

    /// First, last and count of a column.
    fn get(&self, number: u32) -> (i64, i64, u32) {
        let entry = &self.entries[number as usize];
        (entry.first, entry.last, entry.count)
    }

    fn write_pending<S: SegmentSink>(&mut self, writer: &mut ContainerWriter<S>) -> Result<()> {
        let base = writer.section_length();
        for entry in &mut self.entries[self.pending_from..] {
            entry.offset += base;
        }
        writer.append(&self.pending)?;
        self.pending.clear();
        self.pending_from = self.entries.len();
        Ok(())
    }

    fn table(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.entries
            .iter()
            .for_each(|entry| put_timestamp_entry(&mut out, entry));
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_cut_evenly() {
        let parts = |count, target| {
            even_parts(count, target)
                .map(|r| r.len())
                .collect::<Vec<_>>()
        };
        assert_eq!(parts(0, 1024), Vec::<usize>::new());
        assert_eq!(parts(5, 1024), [5]);
        assert_eq!(parts(1500, 1024), [1500]);
        assert_eq!(parts(2160, 1024), [1080, 1080]);
        assert_eq!(parts(10, 3), [3, 3, 4]);
    }
}
