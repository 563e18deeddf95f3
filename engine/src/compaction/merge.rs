//! Streams metrics segments into one.
//!
//! Inputs are walked together in the order of labels, a series at a time, so that memory holds one
//! series of one partition. Where nothing overlaps and nothing is deleted, full chunks that were
//! encoded by an earlier merge are copied as they are; the rest is decoded, joined and encoded anew.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap};
use std::sync::Arc;

use crate::codec::EncodeEffort;
use crate::context::RequestContext;
use crate::error::Result;
use crate::head::seal::{NewSegment, SegmentPlace};
use crate::head::series_data::without;
use crate::manifest::Tombstone;
use crate::model::arrived::{ArrivedRow, sort_out};
use crate::model::{Exemplar, Generation, Labels, Metadata, SampleColumns, TimeRange, TimestampNs};
use crate::scan::merge::merge_parts;
use crate::segment::{
    ChunkRef, DecodeCache, MetricBuildOptions, MetricSegmentBuilder, MetricSegmentReader,
    SegmentFileWriter, SegmentOrigin,
};
use crate::store::segments::Segment;
use crate::store::view::Hides;

/// Samples of a merged chunk.
const CHUNK_SAMPLES: usize = 2048;
/// Chunks of at least this many samples are worth copying as they are.
const FULL_CHUNK_SAMPLES: usize = CHUNK_SAMPLES / 2;
/// Decoded samples that wait for more before they are encoded.
const PENDING_SAMPLES_MAX: usize = 16 * CHUNK_SAMPLES;

/// What a merge works on.
pub(crate) struct MergeInput<'a> {
    /// Earliest arrival first.
    pub(crate) segments: &'a [Arc<Segment>],
    pub(crate) tombstones: &'a [Tombstone],
    /// Rows before this time are left out, nanoseconds.
    pub(crate) oldest: i64,
    /// Superseded rows whose place was taken at this time or before are left out; `i64::MAX` keeps
    /// none.
    pub(crate) horizon: i64,
    pub(crate) effort: EncodeEffort,
    /// What is known of a metric now, oldest first. A segment says what was known when it was
    /// written, of all its metrics, so that of two segments the one written later is right.
    pub(crate) metadata: &'a dyn Fn(&str) -> Vec<Metadata>,
}

/// Merges the segments into one; `None` when no row is left. (An input that never had rows is one with
/// metadata only, which a copy brought along: what it says stays.)
///
/// # Errors
/// Damage in an input, what the file system says, or a context that was cancelled.
pub(crate) fn merge_metrics(
    place: &SegmentPlace<'_>,
    context: &RequestContext,
    input: &MergeInput<'_>,
) -> Result<Option<NewSegment>> {
    let Some(origin) = merged_origin(input) else {
        return Ok(None);
    };
    let readers: Vec<_> = input.segments.iter().filter_map(|s| s.metrics()).collect();
    let options = MetricBuildOptions {
        effort: input.effort,
        chunk_samples: CHUNK_SAMPLES,
        ..MetricBuildOptions::default()
    };
    let (id, writer) = place.create()?;
    let mut merger = Merger {
        input,
        readers,
        builder: MetricSegmentBuilder::new(writer, origin, options)?,
        cache: DecodeCache::new(),
    };
    merger.run(context)?;
    let bare = merger.readers.iter().filter(|r| r.row_count() == 0);
    let is_empty = merger.builder.is_empty();
    if is_empty && bare.clone().next().is_none() {
        return Ok(None);
    }
    if is_empty {
        bare.for_each(|reader| merger.builder.cover(reader.meta().range.start));
    }
    NewSegment::publish(id, merger.builder).map(Some)
}

/// Where the merged segment comes from; `None` without inputs.
pub(crate) fn merged_origin(input: &MergeInput<'_>) -> Option<SegmentOrigin> {
    let last = input.segments.last()?;
    let origins = || input.segments.iter().map(|s| &s.meta().origin);
    let level = origins().map(|origin| origin.level).max().unwrap_or(0);
    // Derived rows are made of what they were computed from, not of their own earlier segments.
    let sources: BTreeSet<Generation> = match last.meta().origin.derivation {
        None => origins().map(|origin| origin.generation).collect(),
        Some(_) => origins()
            .flat_map(|origin| origin.sources.iter().copied())
            .collect(),
    };
    // Replaced rows stay for a while from when they were replaced.
    let replaced = input
        .tombstones
        .iter()
        .filter(|t| !t.erases() && input.segments.iter().any(|segment| t.concerns(segment)));
    Some(SegmentOrigin {
        tenant: last.meta().origin.tenant.clone(),
        level: level.saturating_add(1),
        generation: last.generation(),
        arrival: TimeRange {
            start: origins()
                .map(|o| o.arrival.start)
                .min()
                .unwrap_or(TimestampNs(0)),
            end: origins()
                .map(|o| o.arrival.end)
                .chain(replaced.map(|tombstone| tombstone.arrival))
                .max()
                .unwrap_or(TimestampNs(0)),
        },
        derivation: last.meta().origin.derivation.clone(),
        sources: sources.into_iter().collect(),
    })
}

struct Merger<'a> {
    input: &'a MergeInput<'a>,
    readers: Vec<&'a MetricSegmentReader>,
    builder: MetricSegmentBuilder<SegmentFileWriter>,
    cache: DecodeCache,
}

impl Merger<'_> {
    fn run(&mut self, context: &RequestContext) -> Result<()> {
        for reader in &self.readers {
            for (metric, stored) in reader.metadata()? {
                let known = (self.input.metadata)(&metric);
                for metadata in if known.is_empty() { stored } else { known } {
                    self.builder.push_metadata(&metric, &metadata);
                }
            }
        }
        let mut heads = BinaryHeap::new();
        for (number, reader) in self.readers.iter().enumerate() {
            if reader.row_count() > 0 {
                heads.push(Reverse((reader.labels(0)?, number, 0_u32)));
            }
        }
        let mut sources: Vec<(usize, u32)> = Vec::new();
        let mut count = 0_u64;
        while let Some(Reverse((labels, number, row))) = heads.pop() {
            self.advance(&mut heads, number, row)?;
            sources.clear();
            sources.push((number, row));
            // The heap gives equal labels in the order of the inputs, which is that of arrival.
            while heads
                .peek()
                .is_some_and(|Reverse((next, ..))| *next == labels)
            {
                let Some(Reverse((_, number, row))) = heads.pop() else {
                    break;
                };
                self.advance(&mut heads, number, row)?;
                sources.push((number, row));
            }
            self.series(&labels, &sources)?;
            count += 1;
            if count.is_multiple_of(1024) {
                context.check()?;
            }
        }
        Ok(())
    }

    fn advance(
        &self,
        heads: &mut BinaryHeap<Reverse<(Labels, usize, u32)>>,
        number: usize,
        row: u32,
    ) -> Result<()> {
        if row + 1 < self.readers[number].row_count() {
            heads.push(Reverse((
                self.readers[number].labels(row + 1)?,
                number,
                row + 1,
            )));
        }
        Ok(())
    }

    fn series(&mut self, labels: &Labels, sources: &[(usize, u32)]) -> Result<()> {
        self.builder.begin_series(labels)?;
        let deleted = self.is_touched(labels, sources);
        let mut chunks = Vec::new();
        for (number, row) in sources {
            let found = self.readers[*number].all_chunks(*row, TimeRange::ALL)?;
            chunks.extend(found.into_iter().map(|chunk| (*number, chunk)));
        }
        chunks.sort_by_key(|(_, chunk)| chunk.first());
        let apart = chunks
            .windows(2)
            .all(|pair| pair[0].1.last() < pair[1].1.first());
        let is_versioned = chunks
            .iter()
            .any(|(_, chunk)| chunk.has_arrivals() || chunk.is_superseded());
        let may_supersede = self.input.horizon < i64::MAX && (!apart || deleted);
        if is_versioned || may_supersede {
            self.merge_versions(labels, sources)?;
        } else if apart && !deleted && chunks.iter().all(|(_, chunk)| !chunk.is_histogram()) {
            self.join_chunks(&chunks)?;
        } else {
            self.merge_rows(labels, sources)?;
        }
        let exemplars = self.exemplars(labels, sources)?;
        self.builder.push_exemplars(&exemplars)
    }

    /// Whether deletions or retention take rows of the series.
    fn is_touched(&self, labels: &Labels, sources: &[(usize, u32)]) -> bool {
        sources.iter().any(|(number, _)| {
            let segment = &self.input.segments[*number];
            segment.range().start.0 < self.input.oldest
                || self
                    .input
                    .tombstones
                    .iter()
                    .any(|t| t.concerns(segment) && t.covers(labels, segment.range()))
        })
    }

    /// Chunks that follow each other: full ones are copied, short ones joined.
    fn join_chunks(&mut self, chunks: &[(usize, ChunkRef)]) -> Result<()> {
        let mut pending = SampleColumns::default();
        for (number, chunk) in chunks {
            let reader = self.readers[*number];
            let level = self.input.segments[*number].meta().origin.level;
            if chunk.count() >= FULL_CHUNK_SAMPLES && level > 0 {
                self.builder.push_samples(&pending)?;
                pending.clear();
                self.builder.push_chunk(reader, chunk)?;
                continue;
            }
            reader.read_chunk(chunk, TimeRange::ALL, &mut self.cache, &mut pending)?;
            if pending.len() >= PENDING_SAMPLES_MAX {
                self.builder.push_samples(&pending)?;
                pending.clear();
            }
        }
        self.builder.push_samples(&pending)
    }

    /// The general way: everything is decoded, the later arrival of each time stays.
    fn merge_rows(&mut self, labels: &Labels, sources: &[(usize, u32)]) -> Result<()> {
        let mut parts = Vec::new();
        for (number, row) in sources {
            let segment = &self.input.segments[*number];
            let mut part = SampleColumns::default();
            self.readers[*number].read(*row, self.kept(), &mut self.cache, &mut part)?;
            for tombstone in self.input.tombstones {
                if tombstone.concerns(segment) && tombstone.covers(labels, segment.range()) {
                    part = without(part, tombstone.range);
                }
            }
            parts.push(part);
        }
        let mut merged = SampleColumns::default();
        merge_parts(&mut parts, &mut merged);
        self.builder.push_samples(&merged)
    }

    /// As [`Merger::merge_rows`], with the arrival of each sample, and with those whose place was
    /// taken lately.
    fn merge_versions(&mut self, labels: &Labels, sources: &[(usize, u32)]) -> Result<()> {
        let mut rows = Vec::new();
        let mut part = Vec::new();
        for (number, row) in sources {
            let segment = &self.input.segments[*number];
            self.readers[*number].read_rows(*row, self.kept(), &mut self.cache, &mut part)?;
            for tombstone in self.input.tombstones {
                if tombstone.concerns(segment) && tombstone.covers(labels, segment.range()) {
                    tombstone.apply(&mut part);
                }
            }
            rows.append(&mut part);
        }
        let mut versions = sort_out(rows);
        let horizon = self.input.horizon;
        // A row that ended before it arrived (the clock was set back) was never to be seen.
        let is_kept = |row: &ArrivedRow| row.until > horizon && row.until > row.arrival;
        versions.superseded.retain(is_kept);
        self.builder.push_versions(versions)
    }

    /// What retention leaves.
    fn kept(&self) -> TimeRange {
        TimeRange {
            start: TimestampNs(self.input.oldest),
            end: TimestampNs::MAX,
        }
    }

    fn exemplars(&self, labels: &Labels, sources: &[(usize, u32)]) -> Result<Vec<Exemplar>> {
        let mut all = Vec::new();
        for (number, row) in sources {
            let (reader, segment) = (self.readers[*number], &self.input.segments[*number]);
            if !reader.has_exemplars() {
                continue;
            }
            let mut found = reader.exemplars(*row, self.kept())?;
            for tombstone in self.input.tombstones {
                if tombstone.concerns(segment) && tombstone.covers(labels, segment.range()) {
                    found.retain(|e| !tombstone.range.contains(e.time));
                }
            }
            all.extend(found);
        }
        Ok(all)
    }
}
