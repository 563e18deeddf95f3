//! A pinned scan over metric series.

use std::sync::Arc;

use hashbrown::HashMap;
use parking_lot::Mutex;
use smallvec::SmallVec;

use super::ScanRequest;
use super::merge::{bounds, merge_parts};
use crate::context::RequestContext;
use crate::error::Result;
use crate::head::data::HeadData;
use crate::head::series_data::without;
use crate::head::series_table::slot_of;
use crate::index::Matcher;
use crate::manifest::Tombstone;
use crate::model::{Labels, SampleColumns, Signal, TimeRange};
use crate::segment::DecodeCache;
use crate::store::inner::Inner;
use crate::store::segments::Segment;
use crate::store::view::{Hides, View};

/// Series looked at between two looks at the clock.
const SERIES_PER_CHECK: usize = 4096;

/// Where the samples of one series lie.
struct SeriesSources {
    labels: Labels,
    /// Segment (index into the scan's) and row there, earliest arrival first.
    rows: SmallVec<[(u32, u32); 2]>,
    /// Slots in the generations of the head: nearly always one or none.
    slots: SmallVec<[u32; 1]>,
}

/// The series that a scan selected, sorted by labels, and the snapshot that they are read from.
///
/// Shared between threads: [`MetricScan::read`] takes `&self`.
pub struct MetricScan {
    context: RequestContext,
    view: Arc<View>,
    /// The segments that are read, earliest arrival first.
    segments: Vec<Arc<Segment>>,
    /// Deletions that may hide rows of them.
    tombstones: Vec<Tombstone>,
    range: TimeRange,
    series: Vec<SeriesSources>,
    caches: Mutex<Vec<DecodeCache>>,
}

/// The request's matchers and those that the context demands.
pub(crate) fn all_matchers(context: &RequestContext, matchers: &[Matcher]) -> Vec<Matcher> {
    matchers
        .iter()
        .chain(context.required_matchers.iter())
        .cloned()
        .collect()
}

/// Collects the sources of each label set.
struct SourceMap {
    /// Place of each label set; not kept when there is only one source, which has no duplicates.
    places: Option<HashMap<Labels, usize>>,
    series: Vec<SeriesSources>,
}

impl SourceMap {
    fn new(source_count: usize) -> Self {
        let places = (source_count > 1).then(HashMap::new);
        Self {
            places,
            series: Vec::new(),
        }
    }

    fn at(&mut self, labels: Labels) -> &mut SeriesSources {
        let next = self.series.len();
        let place = match &mut self.places {
            Some(places) => *places.entry(labels.clone()).or_insert(next),
            None => next,
        };
        if place == next {
            let (rows, slots) = (SmallVec::new(), SmallVec::new());
            self.series.push(SeriesSources {
                labels,
                rows,
                slots,
            });
        }
        &mut self.series[place]
    }
}

impl MetricScan {
    pub(crate) fn new(
        inner: &Inner,
        context: &RequestContext,
        request: &ScanRequest,
    ) -> Result<Self> {
        context.check()?;
        inner.check_generation(request.generation)?;
        let view = inner.view();
        let range = request.range;
        let segments: Vec<_> = view
            .segments_of(&context.tenant, Signal::Metrics, range)
            .map(Arc::clone)
            .collect();
        let concerned = |t: &&Tombstone| segments.iter().any(|segment| t.concerns(segment));
        let tombstones: Vec<_> = view.tombstones.iter().filter(concerned).cloned().collect();
        let mut scan = Self {
            context: context.clone(),
            view,
            segments,
            tombstones,
            range,
            series: Vec::new(),
            caches: Mutex::default(),
        };
        let matchers = all_matchers(context, &request.matchers);
        let heads: Vec<_> = scan.view.heads().map(Arc::clone).collect();
        let heads: Vec<_> = heads
            .into_iter()
            .filter(|h| h.range().overlaps(range))
            .collect();
        // The generations of the head share slots, but a label set may have two of them.
        let mut found = SourceMap::new(scan.segments.len() + 2 * heads.len());
        scan.find_in_segments(&matchers, &mut found)?;
        scan.find_in_head(inner, &heads, &matchers, &mut found)?;
        scan.series = found.series;
        // Stable, and made for the ascending runs that segments give.
        scan.series.sort_by(|a, b| a.labels.cmp(&b.labels));
        if let Some(limit) = request.limit {
            scan.series.truncate(limit);
        }
        Ok(scan)
    }

    fn find_in_segments(&self, matchers: &[Matcher], found: &mut SourceMap) -> Result<()> {
        for (number, segment) in self.segments.iter().enumerate() {
            let Some(reader) = segment.metrics() else {
                continue;
            };
            let rows = reader.select(matchers, self.range)?;
            let labels = reader.labels_of(rows.iter());
            for (count, (row, labels)) in rows.iter().zip(labels).enumerate() {
                if count % SERIES_PER_CHECK == 0 {
                    self.context.check()?;
                }
                let labels = labels?;
                if !self.is_hidden(segment, &labels) {
                    found.at(labels).rows.push((number as u32, row));
                }
            }
        }
        Ok(())
    }

    /// Whether a deletion hides all that the segment has of a series in the scan's range.
    fn is_hidden(&self, segment: &Segment, labels: &Labels) -> bool {
        let range = segment.range().intersect(self.range);
        self.tombstones.iter().any(|t| {
            t.concerns(segment)
                && t.range.start <= range.start
                && range.end <= t.range.end
                && t.covers(labels, range)
        })
    }

    fn find_in_head(
        &self,
        inner: &Inner,
        heads: &[Arc<HeadData>],
        matchers: &[Matcher],
        found: &mut SourceMap,
    ) -> Result<()> {
        let Some(tenant) = inner.tenant(&self.context.tenant) else {
            return Ok(());
        };
        if heads.is_empty() {
            return Ok(());
        }
        let mut series = {
            let index = tenant.postings.read();
            inner.table.at(index.select(matchers))
        };
        self.context.check()?;
        let live = |slot: u32| heads.iter().any(|head| head.overlaps(slot, self.range));
        series.retain(|series| live(slot_of(*series)));
        self.context.check()?;
        inner
            .table
            .for_labels(tenant.owner(), &series, |series, labels| {
                found.at(labels).slots.push(slot_of(series));
            });
        Ok(())
    }

    /// How many series match and may have samples in the range.
    #[must_use]
    pub fn len(&self) -> usize {
        self.series.len()
    }

    /// Whether no series matches.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.series.is_empty()
    }

    /// The labels of a series, which lie in ascending order without duplicates.
    ///
    /// # Panics
    /// When `index` is not below [`MetricScan::len`].
    #[must_use]
    pub fn labels(&self, index: usize) -> Labels {
        self.series[index].labels.clone()
    }

    /// Replaces `out` by the samples of a series in `range` (and in the scan's range): head and
    /// segments merged, the later arrival of each time, without what was deleted. May end up empty.
    ///
    /// # Errors
    /// Damaged data; a context that was cancelled or has timed out.
    ///
    /// # Panics
    /// When `index` is not below [`MetricScan::len`].
    pub fn read(&self, index: usize, range: TimeRange, out: &mut SampleColumns) -> Result<()> {
        self.context.check()?;
        out.clear();
        let range = range.intersect(self.range);
        let source = &self.series[index];
        let mut cache = self.caches.lock().pop().unwrap_or_default();
        let read = self.read_source(source, range, &mut cache, out);
        self.caches.lock().push(cache);
        read
    }

    fn read_source(
        &self,
        source: &SeriesSources,
        range: TimeRange,
        cache: &mut DecodeCache,
        out: &mut SampleColumns,
    ) -> Result<()> {
        if source.slots.is_empty() && self.read_in_a_row(source, range, cache, out)? {
            return Ok(());
        }
        out.clear();
        let mut parts = Vec::new();
        for (number, row) in &source.rows {
            let segment = &self.segments[*number as usize];
            let mut part = SampleColumns::default();
            if let Some(reader) = segment.metrics() {
                reader.read(*row, range, cache, &mut part)?;
            }
            part = self.without_deleted(segment, &source.labels, range, part);
            if !part.is_empty() {
                parts.push(part);
            }
        }
        for head in self.view.heads() {
            for slot in &source.slots {
                head.read(*slot, range, &mut parts);
            }
        }
        merge_parts(&mut parts, out);
        Ok(())
    }

    /// Reads segments whose samples follow each other in time straight into `out`. Answers whether
    /// they did; if not, `out` holds rubbish.
    fn read_in_a_row(
        &self,
        source: &SeriesSources,
        range: TimeRange,
        cache: &mut DecodeCache,
        out: &mut SampleColumns,
    ) -> Result<bool> {
        let hidden = |segment: &Segment| {
            self.tombstones
                .iter()
                .any(|t| t.concerns(segment) && t.covers(&source.labels, range))
        };
        let mut in_time = source.rows.clone();
        in_time.sort_by_key(|(number, _)| self.segments[*number as usize].range().start);
        for (number, row) in in_time {
            let segment = &self.segments[number as usize];
            let Some(reader) = segment.metrics() else {
                return Ok(false);
            };
            if hidden(segment) {
                return Ok(false);
            }
            let (floats, histograms) = (out.timestamps.len(), out.histograms.len());
            let end = bounds(out).map(|(_, end)| end);
            reader.read(row, range, cache, out)?;
            let first_float = out.timestamps.get(floats);
            let first_histogram = out.histograms.get(histograms).map(|h| &h.time.0);
            let begin = first_float.into_iter().chain(first_histogram).min();
            if begin.zip(end).is_some_and(|(begin, end)| *begin <= end) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn without_deleted(
        &self,
        segment: &Segment,
        labels: &Labels,
        range: TimeRange,
        mut part: SampleColumns,
    ) -> SampleColumns {
        for tombstone in &self.tombstones {
            if tombstone.concerns(segment) && tombstone.covers(labels, range) {
                part = without(part, tombstone.range);
            }
        }
        part
    }

    /// About how many samples reading all series would return: an upper bound for planning.
    #[must_use]
    pub fn approximate_samples(&self) -> u64 {
        let mut count = 0;
        for source in &self.series {
            for (number, row) in &source.rows {
                let reader = self.segments[*number as usize].metrics();
                // Damage is reported by the read that meets it.
                count += reader
                    .and_then(|r| r.approximate_samples(*row, self.range).ok())
                    .unwrap_or(0);
            }
            for slot in &source.slots {
                count += self
                    .view
                    .heads()
                    .map(|head| head.sample_count(*slot))
                    .sum::<u64>();
            }
        }
        count
    }
}

impl std::fmt::Debug for MetricScan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MetricScan")
            .field("series", &self.series.len())
            .field("range", &self.range)
            .finish_non_exhaustive()
    }
}
