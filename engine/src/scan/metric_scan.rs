//! A pinned scan over metric series.

use std::sync::Arc;

use super::ScanRequest;
use super::merge::merge_parts;
use crate::context::RequestContext;
use crate::error::Result;
use crate::head::data::HeadData;
use crate::index::Matcher;
use crate::model::{Labels, SampleColumns, TimeRange};
use crate::store::inner::{Inner, View};

/// Where the samples of one series lie.
struct SeriesSources {
    labels: Labels,
    /// Slot in the generations of the head.
    slot: Option<u32>,
}

/// The series that a scan selected, sorted by labels, and the snapshot that they are read from.
///
/// Shared between threads: [`MetricScan::read`] takes `&self`.
pub struct MetricScan {
    context: RequestContext,
    view: Arc<View>,
    range: TimeRange,
    series: Vec<SeriesSources>,
}

/// Generations of the head, earliest first.
pub(crate) fn generations(view: &View) -> impl Iterator<Item = &Arc<HeadData>> {
    view.frozen.iter().chain(std::iter::once(&view.active))
}

/// The request's matchers and those that the context demands.
pub(crate) fn all_matchers(context: &RequestContext, matchers: &[Matcher]) -> Vec<Matcher> {
    matchers
        .iter()
        .chain(context.required_matchers.iter())
        .cloned()
        .collect()
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
        let mut scan = Self {
            context: context.clone(),
            view,
            range: request.range,
            series: Vec::new(),
        };
        let Some(tenant) = inner.tenant(&context.tenant) else {
            return Ok(scan);
        };
        let matchers = all_matchers(context, &request.matchers);
        let slots = tenant.postings.read().select(&matchers);
        let live = slots.iter().filter(|slot| {
            generations(&scan.view).any(|generation| generation.overlaps(*slot, request.range))
        });
        scan.series = inner
            .table
            .entries_at(live.collect::<Vec<_>>())
            .into_iter()
            .map(|entry| SeriesSources {
                labels: entry.labels.clone(),
                slot: Some(entry.slot()),
            })
            .collect();
        scan.series.sort_by(|a, b| a.labels.cmp(&b.labels));
        if let Some(limit) = request.limit {
            scan.series.truncate(limit);
        }
        Ok(scan)
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
        let mut parts = Vec::new();
        if let Some(slot) = source.slot {
            for generation in generations(&self.view) {
                generation.read(slot, range, &mut parts);
            }
        }
        merge_parts(&mut parts, out);
        Ok(())
    }

    /// About how many samples reading all series would return: an upper bound for planning.
    #[must_use]
    pub fn approximate_samples(&self) -> u64 {
        self.series
            .iter()
            .filter_map(|s| s.slot)
            .map(|slot| {
                generations(&self.view)
                    .map(|g| g.sample_count(slot))
                    .sum::<u64>()
            })
            .sum()
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
