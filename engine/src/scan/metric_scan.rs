//! A pinned scan over metric series.

use std::collections::BTreeMap;
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
use crate::model::arrived::{ArrivedRow, LIVE, merge_owners, sort_out, to_columns};
use crate::model::{Labels, SampleColumns, Signal, TimeRange};
use crate::segment::DecodeCache;
use crate::store::inner::Inner;
use crate::store::segments::Segment;
use crate::store::snapshot::ReadAt;
use crate::store::view::Hides;

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
    at: ReadAt,
    /// The segments that are read, earliest arrival first.
    segments: Vec<Arc<Segment>>,
    /// Deletions that may hide rows of them.
    tombstones: Vec<Tombstone>,
    range: TimeRange,
    /// Whether there are derived rows among what is read: then series may have several owners.
    has_derived: bool,
    series: Vec<SeriesSources>,
    /// One for each thread that reads; boxed, since they change hands at every read.
    #[allow(clippy::vec_box, reason = "moved in and out at every read")]
    caches: Mutex<Vec<Box<DecodeCache>>>,
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
        at: ReadAt,
    ) -> Result<Self> {
        let range = request.range;
        let segments: Vec<_> = at
            .view
            .segments_of(&context.tenant, Signal::Metrics, range)
            .map(Arc::clone)
            .collect();
        let concerned = |t: &&Tombstone| segments.iter().any(|segment| t.concerns(segment));
        let all = at.view.tombstones.iter();
        let tombstones: Vec<_> = all.filter(concerned).cloned().collect();
        let is_derived = |s: &Arc<Segment>| s.meta().origin.derivation.is_some();
        let mut scan = Self {
            context: context.clone(),
            has_derived: segments.iter().any(is_derived)
                || at.view.derived_heads().any(|head| !head.is_empty()),
            at,
            segments,
            tombstones,
            range,
            series: Vec::new(),
            caches: Mutex::default(),
        };
        let matchers = all_matchers(context, &request.matchers);
        let view = Arc::clone(&scan.at.view);
        let heads: Vec<_> = view.heads().filter(|h| h.range().overlaps(range)).collect();
        // The generations of the head share slots, but a label set may have two of them.
        let head_sources = 2 * (heads.len() + usize::from(scan.has_derived));
        let mut found = SourceMap::new(scan.segments.len() + head_sources);
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
            let rows = match self.at.as_of {
                None => reader.select(matchers, self.range)?,
                Some(_) => reader.select_all(matchers)?,
            };
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
                && (t.erases() || self.at.as_of.is_none())
                && t.range.start <= range.start
                && range.end <= t.range.end
                && t.covers(labels, range)
        })
    }

    fn find_in_head(
        &self,
        inner: &Inner,
        heads: &[&Arc<HeadData>],
        matchers: &[Matcher],
        found: &mut SourceMap,
    ) -> Result<()> {
        let Some(tenant) = inner.tenant(&self.context.tenant) else {
            return Ok(());
        };
        if heads.is_empty() && !self.has_derived {
            return Ok(());
        }
        let mut series = {
            let index = tenant.postings.read();
            inner.table.at(index.select(matchers))
        };
        self.context.check()?;
        let (pin, as_of) = (self.at.pin(), self.at.as_of);
        let live = |slot: u32| {
            let derived = || self.at.view.derived_heads();
            heads.iter().any(|h| h.overlaps(slot, self.range, pin))
                || (self.has_derived && derived().any(|d| d.overlaps(slot, self.range, as_of)))
        };
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
        self.read_series(index, range, false, out)
    }

    /// As [`MetricScan::read`] for callers that only ask when there were samples: values that are
    /// known not to be NaN may be replaced by 0, which saves decoding them. Staleness markers are
    /// among the values all the same.
    ///
    /// # Errors
    /// Damaged data; a context that was cancelled or has timed out.
    ///
    /// # Panics
    /// When `index` is not below [`MetricScan::len`].
    pub fn read_presence(
        &self,
        index: usize,
        range: TimeRange,
        out: &mut SampleColumns,
    ) -> Result<()> {
        self.read_series(index, range, true, out)
    }

    fn read_series(
        &self,
        index: usize,
        range: TimeRange,
        presence_only: bool,
        out: &mut SampleColumns,
    ) -> Result<()> {
        self.context.check()?;
        out.clear();
        let range = range.intersect(self.range);
        let source = &self.series[index];
        let mut cache = self.caches.lock().pop().unwrap_or_default();
        cache.presence_only = presence_only;
        let read = self.read_source(source, range, &mut cache, out);
        self.caches.lock().push(cache);
        self.context.usage.add_samples(out.len() as u64);
        read
    }

    fn read_source(
        &self,
        source: &SeriesSources,
        range: TimeRange,
        cache: &mut DecodeCache,
        out: &mut SampleColumns,
    ) -> Result<()> {
        if self.needs_arrivals(source) {
            to_columns(&self.read_owners(source, range, cache)?, out);
            return Ok(());
        }
        if let ([(number, row)], true) = (&source.rows[..], source.slots.is_empty())
            && self.tombstones.is_empty()
            && let Some(reader) = self.segments[*number as usize].metrics()
        {
            return reader.read(*row, range, cache, out);
        }
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
        for head in self.at.view.heads() {
            for slot in &source.slots {
                head.read(*slot, range, self.at.pin(), &mut parts);
            }
        }
        merge_parts(&mut parts, out);
        Ok(())
    }

    /// Whether arrivals decide what is read of a series: it has several owners (who sent it, and
    /// derivations), or the scan reads as of an earlier moment.
    fn needs_arrivals(&self, source: &SeriesSources) -> bool {
        if self.at.as_of.is_some() {
            return true;
        }
        if !self.has_derived {
            return false;
        }
        let is_in_head = |slot: &u32| self.at.view.derived_heads().any(|head| head.has(*slot));
        if source.slots.iter().any(is_in_head) {
            return true;
        }
        let owner = |(number, _): &(u32, u32)| {
            let origin = &self.segments[*number as usize].meta().origin;
            origin.derivation.as_deref()
        };
        let Some(first) = source.rows.first().map(owner) else {
            return false;
        };
        source.rows.iter().any(|row| owner(row) != first)
            || (first.is_some() && !source.slots.is_empty())
    }

    /// Reads a series with the arrivals of its samples: the latest version of each owner, then of
    /// those the one that arrived last.
    fn read_owners(
        &self,
        source: &SeriesSources,
        range: TimeRange,
        cache: &mut DecodeCache,
    ) -> Result<Vec<ArrivedRow>> {
        // Received rows first: of rows that arrived together the derived one wins.
        let mut owners: BTreeMap<Option<&str>, Vec<ArrivedRow>> = BTreeMap::new();
        let mut part = Vec::new();
        for (number, row) in &source.rows {
            let segment = &self.segments[*number as usize];
            let Some(reader) = segment.metrics() else {
                continue;
            };
            reader.read_rows(*row, range, cache, &mut part)?;
            for tombstone in &self.tombstones {
                if tombstone.concerns(segment) && tombstone.covers(&source.labels, range) {
                    tombstone.apply(&mut part);
                }
            }
            let owner = segment.meta().origin.derivation.as_deref();
            owners.entry(owner).or_default().append(&mut part);
        }
        let pin = self.at.pin();
        for (head, derived) in self.at.view.heads().zip(self.at.view.derived_heads()) {
            for slot in &source.slots {
                let received = owners.entry(None).or_default();
                head.read_rows(*slot, range, pin, received);
                for series in derived.series(*slot) {
                    let rows = series.rows().filter(|row| row.is_in(range)).cloned();
                    let owner = owners.entry(Some(&series.derivation)).or_default();
                    owner.extend(rows);
                }
            }
        }
        let versions = owners.into_values().map(|mut rows| {
            rows.retain(|row| row.is_there(self.at.as_of));
            // What took their place later is not there.
            rows.iter_mut().for_each(|row| row.until = LIVE);
            sort_out(rows).live
        });
        Ok(merge_owners(versions.collect()))
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

    /// About how many samples reading all series would return: an upper bound for planning. Counting
    /// ends where the count reaches `enough`.
    #[must_use]
    pub fn approximate_samples(&self, enough: u64) -> u64 {
        let mut count = 0;
        let mut cache = DecodeCache::new();
        for source in &self.series {
            if count >= enough {
                break;
            }
            for (number, row) in &source.rows {
                let reader = self.segments[*number as usize].metrics();
                // Damage is reported by the read that meets it.
                count += reader
                    .and_then(|r| r.approximate_samples(*row, self.range, &mut cache).ok())
                    .unwrap_or(0);
            }
            for slot in &source.slots {
                let view = &self.at.view;
                count += view.heads().map(|h| h.sample_count(*slot)).sum::<u64>();
                let derived = view.derived_heads().flat_map(|head| head.series(*slot));
                count += derived
                    .map(|series| series.rows().count() as u64)
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
