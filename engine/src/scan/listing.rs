//! Names, values, series and what accompanies them, without samples.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use roaring::RoaringBitmap;

use super::metric_scan::all_matchers;
use crate::context::RequestContext;
use crate::error::Result;
use crate::head::data::HeadData;
use crate::head::derived::DerivedHead;
use crate::head::series_table::slot_of;
use crate::index::Matcher;
use crate::manifest::Tombstone;
use crate::model::{Exemplar, Labels, Signal, TimeRange};
use crate::segment::{DecodeCache, MetricSegmentReader};
use crate::store::inner::Inner;
use crate::store::snapshot::ReadAt;
use crate::store::view::Hides;

/// Series looked at between two looks at the clock.
const SERIES_PER_CHECK: usize = 4096;

/// Where matching series were found.
enum Found<'a> {
    /// Rows of a segment; none of them is hidden by a deletion.
    Rows(&'a MetricSegmentReader, &'a RoaringBitmap),
    /// One series.
    Series(&'a Labels),
}

/// Calls `visit` for everything that passes the matchers and may have samples in the range; series
/// may be met more than once.
fn visit_series(
    inner: &Inner,
    at: &ReadAt,
    context: &RequestContext,
    matchers: &[Matcher],
    range: TimeRange,
    mut visit: impl FnMut(Found<'_>) -> Result<()>,
) -> Result<()> {
    context.check()?;
    let view = &at.view;
    let matchers = all_matchers(context, matchers);
    for segment in view.segments_of(&context.tenant, Signal::Metrics, range) {
        context.check()?;
        let Some(reader) = segment.metrics() else {
            continue;
        };
        let rows = match at.as_of {
            None => reader.select(&matchers, range)?,
            Some(_) => reader.select_all(&matchers)?,
        };
        let tombstones: Vec<_> = view
            .tombstones
            .iter()
            .filter(|t| t.concerns(segment))
            .collect();
        if tombstones.is_empty() && at.as_of.is_none() {
            visit(Found::Rows(reader, &rows))?;
            continue;
        }
        for (row, labels) in rows.iter().zip(reader.labels_of(rows.iter())) {
            let labels = labels?;
            if is_there(reader, row, &tombstones, &labels, range, at.as_of)? {
                visit(Found::Series(&labels))?;
            }
        }
    }
    let Some(tenant) = inner.tenant(&context.tenant) else {
        return Ok(());
    };
    let mut all = {
        let index = tenant.postings.read();
        inner.table.at(index.select(&matchers))
    };
    all.retain(|series| {
        let slot = slot_of(*series);
        let derived = |d: &Arc<DerivedHead>| d.overlaps(slot, range, at.as_of);
        view.heads().any(|h| is_in_head(h, slot, range, at)) || view.derived_heads().any(derived)
    });
    for batch in all.chunks(SERIES_PER_CHECK) {
        context.check()?;
        let mut visited = Ok(());
        inner.table.for_labels(tenant.owner(), batch, |_, labels| {
            if visited.is_ok() {
                visited = visit(Found::Series(&labels));
            }
        });
        visited?;
    }
    Ok(())
}

/// Whether a generation of the head has received samples of a series in the range that are there.
fn is_in_head(head: &HeadData, slot: u32, range: TimeRange, at: &ReadAt) -> bool {
    if !head.overlaps(slot, range, at.pin()) {
        return false;
    }
    if at.as_of.is_none() {
        return true;
    }
    let mut rows = Vec::new();
    head.read_rows(slot, range, at.pin(), &mut rows);
    rows.iter().any(|row| row.is_there(at.as_of))
}

/// Whether a row has samples in the range that are there and that no deletion hides. Decodes the row
/// if it must: a series whose last sample was deleted is listed no more.
fn is_there(
    reader: &MetricSegmentReader,
    row: u32,
    tombstones: &[&Tombstone],
    labels: &Labels,
    range: TimeRange,
    as_of: Option<i64>,
) -> Result<bool> {
    let covering: Vec<_> = tombstones
        .iter()
        .filter(|t| t.covers(labels, range))
        .collect();
    if covering.is_empty() && as_of.is_none() {
        return Ok(true);
    }
    let mut rows = Vec::new();
    reader.read_rows(row, range, &mut DecodeCache::new(), &mut rows)?;
    for tombstone in covering {
        tombstone.apply(&mut rows);
    }
    Ok(rows.iter().any(|row| row.is_there(as_of)))
}

/// The rows, or `None` when they are all that the segment has: then its lists need no look at rows.
fn unless_all<'a>(
    reader: &MetricSegmentReader,
    rows: &'a RoaringBitmap,
) -> Option<&'a RoaringBitmap> {
    (rows.len() < u64::from(reader.row_count())).then_some(rows)
}

/// Calls `visit` with the label names of the selected series, in no order, some more than once.
/// What is held at a time is the list of one segment.
pub(crate) fn visit_label_names(
    inner: &Inner,
    at: &ReadAt,
    context: &RequestContext,
    matchers: &[Matcher],
    range: TimeRange,
    visit: &mut dyn FnMut(&str) -> Result<()>,
) -> Result<()> {
    visit_series(inner, at, context, matchers, range, |series| match series {
        Found::Rows(reader, rows) => {
            let names = reader.label_names(unless_all(reader, rows))?;
            names.iter().try_for_each(|name| visit(name))
        }
        Found::Series(labels) => labels.iter().try_for_each(|label| visit(label.name)),
    })
}

/// Calls `visit` with the values of one label over the selected series, in no order, some more than
/// once. What is held at a time is the list of one segment.
pub(crate) fn visit_label_values(
    inner: &Inner,
    at: &ReadAt,
    context: &RequestContext,
    name: &str,
    matchers: &[Matcher],
    range: TimeRange,
    visit: &mut dyn FnMut(&str) -> Result<()>,
) -> Result<()> {
    visit_series(inner, at, context, matchers, range, |series| match series {
        Found::Rows(reader, rows) => {
            let values = reader.label_values(name, unless_all(reader, rows))?;
            values.iter().try_for_each(|value| visit(value))
        }
        Found::Series(labels) => labels.get(name).map_or(Ok(()), &mut *visit),
    })
}

/// The texts that `visit` is called with, sorted.
fn sorted(
    limit: Option<usize>,
    visit: impl FnOnce(&mut dyn FnMut(&str) -> Result<()>) -> Result<()>,
) -> Result<Vec<String>> {
    let mut found: BTreeSet<String> = BTreeSet::new();
    visit(&mut |text| {
        if !found.contains(text) {
            found.insert(text.to_owned());
        }
        // With a limit, what sorts behind as many others can be let go at once.
        if limit.is_some_and(|limit| found.len() > limit) {
            found.pop_last();
        }
        Ok(())
    })?;
    Ok(found.into_iter().collect())
}

/// Label names of the selected series, sorted.
pub(crate) fn label_names(
    inner: &Inner,
    at: &ReadAt,
    context: &RequestContext,
    matchers: &[Matcher],
    range: TimeRange,
    limit: Option<usize>,
) -> Result<Vec<String>> {
    sorted(limit, |visit| {
        visit_label_names(inner, at, context, matchers, range, visit)
    })
}

/// Values of one label over the selected series, sorted.
pub(crate) fn label_values(
    inner: &Inner,
    at: &ReadAt,
    context: &RequestContext,
    name: &str,
    matchers: &[Matcher],
    range: TimeRange,
    limit: Option<usize>,
) -> Result<Vec<String>> {
    sorted(limit, |visit| {
        visit_label_values(inner, at, context, name, matchers, range, visit)
    })
}

/// Label sets that pass any of the matcher sets, sorted, without duplicates.
pub(crate) fn series(
    inner: &Inner,
    at: &ReadAt,
    context: &RequestContext,
    matcher_sets: &[Vec<Matcher>],
    range: TimeRange,
    limit: Option<usize>,
) -> Result<Vec<Labels>> {
    let mut found: Vec<Labels> = Vec::new();
    for matchers in matcher_sets {
        visit_series(inner, at, context, matchers, range, |series| {
            match series {
                Found::Rows(reader, rows) => {
                    found.reserve(rows.len() as usize);
                    for labels in reader.labels_of(rows.iter()) {
                        found.push(labels?);
                    }
                }
                Found::Series(labels) => found.push(labels.clone()),
            }
            Ok(())
        })?;
    }
    // Segments give ascending runs, which sorting only joins; of one it makes a single pass.
    found.sort();
    found.dedup();
    found.truncate(limit.unwrap_or(usize::MAX));
    Ok(found)
}

/// Exemplars of matching series in the range, by series, oldest first.
pub(crate) fn exemplars(
    inner: &Inner,
    context: &RequestContext,
    matchers: &[Matcher],
    range: TimeRange,
) -> Result<Vec<(Labels, Vec<Exemplar>)>> {
    context.check()?;
    let view = inner.view();
    let matchers = all_matchers(context, matchers);
    let mut found: BTreeMap<Labels, Vec<Exemplar>> = BTreeMap::new();
    for segment in view.segments_of(&context.tenant, Signal::Metrics, range) {
        let Some(reader) = segment.metrics().filter(|reader| reader.has_exemplars()) else {
            continue;
        };
        for row in reader.select_all(&matchers)? {
            let mut exemplars = reader.exemplars(row, range)?;
            if exemplars.is_empty() {
                continue;
            }
            let labels = reader.labels(row)?;
            for tombstone in view.tombstones.iter().filter(|t| t.concerns(segment)) {
                if tombstone.covers(&labels, range) {
                    exemplars.retain(|e| !tombstone.range.contains(e.time));
                }
            }
            found.entry(labels).or_default().extend(exemplars);
        }
    }
    if let Some(tenant) = inner.tenant(&context.tenant) {
        let mut with_exemplars = RoaringBitmap::new();
        for head in view.heads() {
            with_exemplars.extend(head.exemplars.read().slots());
        }
        let series = {
            let index = tenant.postings.read();
            inner.table.at(index.select(&matchers) & with_exemplars)
        };
        // Labels first: no lock of a head is held while the index is asked for.
        let mut named = Vec::with_capacity(series.len());
        inner
            .table
            .for_labels(tenant.owner(), &series, |series, labels| {
                named.push((slot_of(series), labels));
            });
        for (slot, labels) in named {
            let exemplars = found.entry(labels).or_default();
            for head in view.heads() {
                exemplars.extend(head.exemplars.read().read(slot, range));
            }
        }
    }
    let sorted = found
        .into_iter()
        .filter(|(_, all)| !all.is_empty())
        .map(|(labels, mut all)| {
            all.sort_by_key(|e| e.time);
            (labels, all)
        });
    Ok(sorted.collect())
}
