//! Reads a metrics segment over mapped bytes. Nothing is copied before it is decoded, and nothing is
//! read before it is asked for: opening costs the label names and a few table heads.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use roaring::RoaringBitmap;

use crate::codec::floats;
use crate::error::Result;
use crate::index::Matcher;
use crate::model::arrived::{ArrivedRow, LIVE, to_rows};
use crate::model::{
    Exemplar, HistogramSample, Labels, Metadata, SampleColumns, Signal, TimeRange, TimestampNs,
};

use super::super::column;
use super::super::file::{Section, SegmentBytes, SegmentFile};
use super::super::format::{
    CHUNK_ARRIVALS, CHUNK_HISTOGRAMS, CHUNK_START_TIMES, CHUNK_SUPERSEDED, SectionKind,
};
use super::super::label_index::LabelIndex;
use super::super::meta::SegmentMeta;
use super::super::select::Selector;
use super::super::series_table::{LabelsCursor, SeriesTable};
use super::super::wire::Cursor;
use super::annotations::{exemplar_rows, read_exemplars, read_metadata};
use super::cache::{self, DecodeCache};
use super::directory::{ChunkDirectory, ChunkRef, DirectoryWalk};
use super::stats::{self, ChunkStats};

/// An open metrics segment. Shared by any number of readers.
pub struct MetricSegmentReader {
    file: SegmentFile,
    meta: SegmentMeta,
    row_count: u32,
    index: LabelIndex,
    series: SeriesTable,
    directory: ChunkDirectory,
    data: Section,
    stats: Section,
    /// See [`MetricSegmentReader::without_samples`].
    without_samples: OnceLock<RoaringBitmap>,
}

impl fmt::Debug for MetricSegmentReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MetricSegmentReader")
            .field("file", &self.file)
            .field("meta", &self.meta)
            .finish_non_exhaustive()
    }
}

/// How many values a label has and how many series bear it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LabelCardinality {
    /// The label.
    pub name: String,
    /// Its distinct values.
    pub values: u64,
    /// Series that have it.
    pub series: u64,
}

/// The parts of a chunk's bytes.
struct ChunkParts<'a> {
    starts: Option<(&'a [u8], u64)>,
    arrivals: Option<(&'a [u8], u64)>,
    untils: Option<(&'a [u8], u64)>,
    values: &'a [u8],
    values_at: u64,
}

impl MetricSegmentReader {
    /// Opens a segment; `path` is for error messages.
    ///
    /// # Errors
    /// [`crate::EngineError::Corruption`] when the file is damaged where opening looks, or is not a
    /// metrics segment. What opening does not look at is checked when it is read.
    pub fn open(bytes: SegmentBytes, path: impl Into<PathBuf>) -> Result<Self> {
        let file = SegmentFile::open(bytes, path)?;
        if file.signal() != Signal::Metrics {
            return Err(file.corrupt(0, "a metrics segment", file.signal().as_str()));
        }
        let meta = SegmentMeta::read(&file)?;
        // Bounded by u32 when the meta section was read.
        let row_count = meta.series_count as u32;
        Ok(Self {
            index: LabelIndex::open(&file, row_count)?,
            series: SeriesTable::open(&file, row_count)?,
            directory: ChunkDirectory::open(&file, row_count)?,
            data: file.section(SectionKind::Data),
            stats: file.section(SectionKind::ChunkStats),
            without_samples: OnceLock::new(),
            row_count,
            meta,
            file,
        })
    }

    /// What the segment says about itself.
    #[must_use]
    pub fn meta(&self) -> &SegmentMeta {
        &self.meta
    }

    /// The file below.
    #[must_use]
    pub fn file(&self) -> &SegmentFile {
        &self.file
    }

    /// How many series there are. Rows are numbered in ascending order of their labels.
    #[must_use]
    pub fn row_count(&self) -> u32 {
        self.row_count
    }

    // ---- finding series

    /// The rows that pass all matchers and have a chunk that overlaps `range`.
    ///
    /// # Errors
    /// Damage.
    pub fn select(&self, matchers: &[Matcher], range: TimeRange) -> Result<RoaringBitmap> {
        if range.is_empty() || !self.meta.range.overlaps(range) {
            return Ok(RoaringBitmap::new());
        }
        let whole = range.start <= self.meta.range.start && self.meta.range.end <= range.end;
        let mut rows = self.selector().select(matchers)?;
        // Rows may have nothing but superseded samples.
        if whole && self.meta.superseded_count == 0 {
            if self.has_exemplars() {
                rows -= self.without_samples()?;
            }
            return Ok(rows);
        }
        let mut kept = Vec::new();
        let mut walk = DirectoryWalk::default();
        for row in rows {
            if self.overlaps(row, range, &mut walk)? {
                kept.push(row);
            }
        }
        Ok(RoaringBitmap::from_sorted_iter(kept).unwrap_or_default())
    }

    pub(crate) fn selector(&self) -> Selector<'_> {
        Selector {
            file: &self.file,
            index: &self.index,
            series: &self.series,
            row_count: self.row_count,
        }
    }

    /// Rows of series that have exemplars here and no samples: deletions may leave such. They are no
    /// part of what is listed and scanned, as in the head. Found out once, when somebody asks.
    fn without_samples(&self) -> Result<&RoaringBitmap> {
        if let Some(known) = self.without_samples.get() {
            return Ok(known);
        }
        let mut found = RoaringBitmap::new();
        for row in exemplar_rows(&self.file)? {
            if self.directory.row(&self.file, row)?.len() == 0 {
                found.insert(row);
            }
        }
        Ok(self.without_samples.get_or_init(|| found))
    }

    /// The rows that pass all matchers, whatever they have: for reads as of then, and for exemplars.
    ///
    /// # Errors
    /// Damage.
    pub(crate) fn select_all(&self, matchers: &[Matcher]) -> Result<RoaringBitmap> {
        self.selector().select(matchers)
    }

    fn overlaps(&self, row: u32, range: TimeRange, walk: &mut DirectoryWalk) -> Result<bool> {
        let chunks = self.directory.next_row(&self.file, row, walk)?;
        let mut found = false;
        for index in 0..chunks.len() {
            if found {
                break;
            }
            let times = chunks.times(index)?;
            found = times.first <= range.end.0 && times.last >= range.start.0;
            if found && !chunks.is_plain() {
                found = !chunks.get(index)?.is_superseded();
            }
            if times.first > range.end.0 && chunks.is_plain() {
                break;
            }
        }
        Ok(found)
    }

    /// The labels of `row`.
    ///
    /// # Errors
    /// Damage, or a row that does not exist.
    pub fn labels(&self, row: u32) -> Result<Labels> {
        LabelsCursor::new(&self.file, &self.series, &self.index).labels(row)
    }

    /// The labels of many rows, best in ascending order: about three times as fast as
    /// [`MetricSegmentReader::labels`] for each.
    ///
    /// # Errors
    /// Each item: damage, or a row that does not exist.
    pub fn labels_of(
        &self,
        rows: impl IntoIterator<Item = u32>,
    ) -> impl Iterator<Item = Result<Labels>> {
        let mut cursor = LabelsCursor::new(&self.file, &self.series, &self.index);
        rows.into_iter().map(move |row| cursor.labels(row))
    }

    /// One label's value of `row`, as a slice of the mapped file; `None` when the row lacks it.
    ///
    /// # Errors
    /// Damage, or a row that does not exist.
    pub fn label_value(&self, row: u32, name: &str) -> Result<Option<&str>> {
        let Some(label) = self.index.label(name) else {
            return Ok(None);
        };
        match self.series.rank(&self.file, row, label)? {
            Some(rank) => Ok(Some(self.index.value(&self.file, label, rank)?)),
            None => Ok(None),
        }
    }

    /// The label names of the segment, ascending; with `rows`, only those that these rows bear.
    ///
    /// # Errors
    /// Damage.
    pub fn label_names(&self, rows: Option<&RoaringBitmap>) -> Result<Vec<String>> {
        let mut names = Vec::new();
        for label in 0..self.index.label_count() {
            let borne = match rows {
                None => true,
                Some(rows) => !self.index.presence(&self.file, label)?.is_disjoint(rows),
            };
            if borne {
                names.push(self.index.label_name(label).to_owned());
            }
        }
        Ok(names)
    }

    /// The values of a label, ascending; with `rows`, only those that these rows bear.
    ///
    /// # Errors
    /// Damage.
    pub fn label_values(&self, name: &str, rows: Option<&RoaringBitmap>) -> Result<Vec<String>> {
        let Some(label) = self.index.label(name) else {
            return Ok(Vec::new());
        };
        let value = |rank| Ok(self.index.value(&self.file, label, rank)?.to_owned());
        let value_count = self.index.value_count(label);
        let Some(rows) = rows else {
            return (0..value_count).map(value).collect();
        };
        let mut ranks = RoaringBitmap::new();
        if rows.len() < u64::from(value_count) * 4 {
            for row in rows {
                ranks.extend(self.series.rank(&self.file, row, label)?);
            }
        } else {
            for rank in 0..value_count {
                let mut postings = RoaringBitmap::new();
                self.index
                    .add_postings(&self.file, label, rank, &mut postings)?;
                if !postings.is_disjoint(rows) {
                    ranks.insert(rank);
                }
            }
        }
        ranks.into_iter().map(value).collect()
    }

    /// Values and series per label.
    ///
    /// # Errors
    /// Damage.
    pub fn cardinality(&self) -> Result<Vec<LabelCardinality>> {
        (0..self.index.label_count())
            .map(|label| {
                Ok(LabelCardinality {
                    name: self.index.label_name(label).to_owned(),
                    values: u64::from(self.index.value_count(label)),
                    series: self.index.presence_count(&self.file, label)?,
                })
            })
            .collect()
    }

    /// Series per value of a label, in ascending order of the values.
    ///
    /// # Errors
    /// Damage.
    pub fn series_per_value(&self, name: &str) -> Result<Vec<(String, u64)>> {
        let Some(label) = self.index.label(name) else {
            return Ok(Vec::new());
        };
        (0..self.index.value_count(label))
            .map(|rank| {
                let value = self.index.value(&self.file, label, rank)?.to_owned();
                Ok((value, self.index.posting_count(&self.file, label, rank)?))
            })
            .collect()
    }

    // ---- reading samples

    /// The chunks of `row` that overlap `range`, in stored order: of each kind (floats, histograms) in
    /// time order. Without superseded samples.
    ///
    /// # Errors
    /// Damage, or a row that does not exist.
    pub fn chunks(&self, row: u32, range: TimeRange) -> Result<Vec<ChunkRef>> {
        let mut chunks = self.all_chunks(row, range)?;
        chunks.retain(|chunk| !chunk.is_superseded());
        Ok(chunks)
    }

    /// The same with superseded samples, which come last, in layers.
    ///
    /// # Errors
    /// Damage, or a row that does not exist.
    pub fn all_chunks(&self, row: u32, range: TimeRange) -> Result<Vec<ChunkRef>> {
        let mut chunks = Vec::new();
        let row = self.directory.row(&self.file, row)?;
        row.overlapping(range.start.0, range.end.0, |chunk| {
            chunks.push(chunk);
            Ok(())
        })?;
        Ok(chunks)
    }

    /// About how many samples `row` has in `range`: the counts of the chunks that overlap it. Rows are
    /// best asked for in ascending order, with the same cache.
    ///
    /// # Errors
    /// Damage, or a row that does not exist.
    pub fn approximate_samples(
        &self,
        row: u32,
        range: TimeRange,
        cache: &mut DecodeCache,
    ) -> Result<u64> {
        let mut count = 0;
        let row = self.directory.next_row(&self.file, row, &mut cache.walk)?;
        row.overlapping(range.start.0, range.end.0, |chunk| {
            if !chunk.is_superseded() {
                count += chunk.count() as u64;
            }
            Ok(())
        })?;
        Ok(count)
    }

    /// Appends the samples of `row` in `range` to `out`, oldest first.
    ///
    /// # Errors
    /// Damage; `out` then holds the chunks before the damaged one.
    pub fn read(
        &self,
        row: u32,
        range: TimeRange,
        cache: &mut DecodeCache,
        out: &mut SampleColumns,
    ) -> Result<()> {
        let row = self.directory.next_row(&self.file, row, &mut cache.walk)?;
        row.overlapping(range.start.0, range.end.0, |chunk| {
            match chunk.is_superseded() {
                true => Ok(()),
                false => self.read_chunk(&chunk, range, cache, out),
            }
        })
    }

    /// Appends the samples of `row` in `range` with their arrivals to `out`: superseded ones in
    /// layers, then those that are live; each layer and the live ones ascend in time, by kind.
    ///
    /// # Errors
    /// Damage.
    pub(crate) fn read_rows(
        &self,
        row: u32,
        range: TimeRange,
        cache: &mut DecodeCache,
        out: &mut Vec<ArrivedRow>,
    ) -> Result<()> {
        let mut chunks = self.all_chunks(row, range)?;
        chunks.sort_by_key(|chunk| !chunk.is_superseded());
        let mut columns = SampleColumns::default();
        for chunk in &chunks {
            columns.clear();
            self.read_chunk(chunk, TimeRange::ALL, cache, &mut columns)?;
            let [arrivals, untils] = self.lives(chunk)?;
            for (index, mut sample) in to_rows(&columns, None).enumerate() {
                let moment = |distance: &i64| sample.time.saturating_add(*distance);
                sample.arrival = arrivals.get(index).map_or(sample.time, moment);
                sample.until = untils.get(index).map_or(LIVE, moment);
                if sample.is_in(range) {
                    out.push(sample);
                }
            }
        }
        Ok(())
    }

    /// By how much the samples of a chunk arrived, and ended, later than their own times; empty where
    /// the chunk does not say.
    fn lives(&self, chunk: &ChunkRef) -> Result<[Vec<i64>; 2]> {
        let parts = self.parts(chunk)?;
        let mut lives = [Vec::new(), Vec::new()];
        for (column, out) in [parts.arrivals, parts.untils].into_iter().zip(&mut lives) {
            if let Some((block, at)) = column {
                column::decode_integers(&self.file, at, block, chunk.count(), out)?;
            }
        }
        Ok(lives)
    }

    /// Appends the samples of one chunk in `range` to `out`.
    ///
    /// # Errors
    /// Damage.
    pub fn read_chunk(
        &self,
        chunk: &ChunkRef,
        range: TimeRange,
        cache: &mut DecodeCache,
        out: &mut SampleColumns,
    ) -> Result<()> {
        let table = self.directory.timestamps();
        let (times, cut) =
            cache.timestamps(&self.file, &table, chunk.column, &chunk.times, range)?;
        let (from, to) = (cut.start, cut.end);
        if from >= to {
            return Ok(());
        }
        let parts = self.parts(chunk)?;
        let mut starts = std::mem::take(&mut cache.integers);
        starts.clear();
        if let Some((block, at)) = parts.starts {
            column::decode_integers(&self.file, at, block, chunk.count(), &mut starts)?;
        }
        if chunk.flags & CHUNK_HISTOGRAMS != 0 {
            let all = column::decode_histograms(
                &self.file,
                parts.values_at,
                parts.values,
                chunk.count(),
            )?;
            for (at, histogram) in all.into_iter().enumerate().take(to).skip(from) {
                let start = starts.get(at).copied().filter(|start| *start != 0);
                out.histograms.push(HistogramSample {
                    time: TimestampNs(times[at]),
                    histogram: Arc::new(histogram),
                    start_time: start.map(TimestampNs),
                });
            }
        } else {
            if cache.presence_only && self.has_no_nan(chunk)? {
                out.values.resize(out.values.len() + to - from, 0.0);
            } else {
                self.read_floats(&parts, chunk, from..to, &mut out.values)?;
            }
            append_starts(out, &starts, from..to);
            out.timestamps.extend_from_slice(&times[from..to]);
        }
        cache.integers = starts;
        Ok(())
    }

    fn read_floats(
        &self,
        parts: &ChunkParts<'_>,
        chunk: &ChunkRef,
        wanted: std::ops::Range<usize>,
        out: &mut Vec<f64>,
    ) -> Result<()> {
        if let Some(value) = floats::constant(parts.values) {
            out.resize(out.len() + wanted.len(), value);
            return Ok(());
        }
        let (block, at) = (parts.values, parts.values_at);
        column::decode_floats(&self.file, at, block, chunk.count(), wanted, out)
    }

    /// When each sample of a chunk arrived, nanoseconds; empty when each did at its own time.
    ///
    /// # Errors
    /// Damage.
    pub fn arrivals(&self, chunk: &ChunkRef) -> Result<Vec<i64>> {
        let [mut arrivals, _] = self.lives(chunk)?;
        if !arrivals.is_empty() {
            let times = self.decode_timestamps(chunk)?;
            for (arrival, time) in arrivals.iter_mut().zip(times) {
                *arrival = arrival.saturating_add(time);
            }
        }
        Ok(arrivals)
    }

    /// Statistics of a float chunk, if they are known without decoding it.
    ///
    /// # Errors
    /// Damage.
    pub fn chunk_stats(&self, chunk: &ChunkRef) -> Result<Option<ChunkStats>> {
        if let Some(record) = self.raw_stats(chunk)? {
            let at = chunk.stats.map_or(0, |(at, _)| at);
            let mut cursor = Cursor::new(&self.file, record, self.stats.offset + at);
            return Ok(Some(stats::read(&mut cursor)?));
        }
        if chunk.is_histogram() {
            return Ok(None);
        }
        let constant = floats::constant(self.parts(chunk)?.values);
        Ok(constant.map(|value| stats::of_constant(value, chunk.count())))
    }

    /// Whether the statistics of a chunk say that none of its values is NaN.
    fn has_no_nan(&self, chunk: &ChunkRef) -> Result<bool> {
        let Some(record) = self.raw_stats(chunk)? else {
            return Ok(false);
        };
        let at = chunk.stats.map_or(0, |(at, _)| at);
        let mut cursor = Cursor::new(&self.file, record, self.stats.offset + at);
        Ok(stats::read_count(&mut cursor)? == chunk.count() as u64)
    }

    // ---- what accompanies samples

    /// The exemplars of `row` in `range`, in the order of their arrival.
    ///
    /// # Errors
    /// Damage.
    pub fn exemplars(&self, row: u32, range: TimeRange) -> Result<Vec<Exemplar>> {
        let mut exemplars = read_exemplars(&self.file, row)?;
        exemplars.retain(|exemplar| range.contains(exemplar.time));
        Ok(exemplars)
    }

    /// Whether the segment has exemplars at all.
    #[must_use]
    pub fn has_exemplars(&self) -> bool {
        self.file.section(SectionKind::Exemplars).length > 0
    }

    /// Metadata by metric name.
    ///
    /// # Errors
    /// Damage.
    pub fn metadata(&self) -> Result<BTreeMap<String, Vec<Metadata>>> {
        read_metadata(&self.file)
    }

    // ---- for the builder, verify and inspect

    fn chunk_bytes(&self, chunk: &ChunkRef) -> Result<(&[u8], u64)> {
        let bytes = self
            .file
            .get_in(self.data, chunk.offset, chunk.length as usize)?;
        Ok((bytes, self.data.offset + chunk.offset))
    }

    fn parts(&self, chunk: &ChunkRef) -> Result<ChunkParts<'_>> {
        let (values, values_at) = self.chunk_bytes(chunk)?;
        if chunk.flags & (CHUNK_START_TIMES | CHUNK_ARRIVALS | CHUNK_SUPERSEDED) == 0 {
            return Ok(ChunkParts {
                starts: None,
                arrivals: None,
                untils: None,
                values,
                values_at,
            });
        }
        let mut cursor = Cursor::new(&self.file, values, values_at);
        let length = |flag: u8, cursor: &mut Cursor<'_>| match chunk.flags & flag {
            0 => Ok(None),
            _ => cursor.count("column length").map(Some),
        };
        let starts = length(CHUNK_START_TIMES, &mut cursor)?;
        let arrivals = length(CHUNK_ARRIVALS, &mut cursor)?;
        let untils = length(CHUNK_SUPERSEDED, &mut cursor)?;
        let mut take = |length: Option<usize>| match length {
            None => Ok::<_, crate::EngineError>(None),
            Some(length) => {
                let at = cursor.offset();
                Ok(Some((cursor.take(length)?, at)))
            }
        };
        let starts = take(starts)?;
        let arrivals = take(arrivals)?;
        let untils = take(untils)?;
        let values_at = cursor.offset();
        Ok(ChunkParts {
            starts,
            arrivals,
            untils,
            values: cursor.rest(),
            values_at,
        })
    }

    /// The encoded values of a chunk: for `inspect`.
    pub(crate) fn value_block(&self, chunk: &ChunkRef) -> Result<&[u8]> {
        Ok(self.parts(chunk)?.values)
    }

    /// All bytes of a chunk: for copying it.
    pub(crate) fn raw_chunk(&self, chunk: &ChunkRef) -> Result<&[u8]> {
        Ok(self.chunk_bytes(chunk)?.0)
    }

    /// The statistics record of a chunk.
    pub(crate) fn raw_stats(&self, chunk: &ChunkRef) -> Result<Option<&[u8]>> {
        match chunk.stats {
            None => Ok(None),
            Some((at, length)) => {
                let record = self.file.get_in(self.stats, at, length as usize)?;
                Ok(Some(record))
            }
        }
    }

    /// The times of a chunk.
    ///
    /// # Errors
    /// Damage.
    pub fn decode_timestamps(&self, chunk: &ChunkRef) -> Result<Vec<i64>> {
        cache::decode(&self.file, &self.directory.timestamps(), &chunk.times)
    }

    /// How many distinct timestamp columns there are, and their encoded bytes.
    pub(crate) fn timestamp_columns(&self) -> Result<(u32, u64)> {
        let table = self.directory.timestamps();
        let mut bytes = 0;
        for column in 0..table.len() {
            bytes += u64::from(table.get(&self.file, column)?.length);
        }
        Ok((table.len(), bytes))
    }
}

/// Keeps `start_timestamps` either empty or as long as the values.
fn append_starts(out: &mut SampleColumns, starts: &[i64], wanted: std::ops::Range<usize>) {
    let before = out.timestamps.len();
    match starts.get(wanted.clone()) {
        Some(starts) if !starts.is_empty() => {
            out.start_timestamps.resize(before, 0);
            out.start_timestamps.extend_from_slice(starts);
        }
        _ if !out.start_timestamps.is_empty() => {
            out.start_timestamps.resize(before + wanted.len(), 0);
        }
        _ => {}
    }
}
