//! What there is of log records and spans: streams, their labels, attribute keys. From tables and
//! indexes, without reading rows: a stream is listed when its source has rows in the range, also if
//! its own lie outside of it or were deleted and not yet erased.

use std::collections::BTreeSet;

use super::blocks::segments_of;
use super::metric_scan::all_matchers;
use crate::context::RequestContext;
use crate::error::{EngineError, Result};
use crate::index::Matcher;
use crate::model::{Labels, Signal, TimeRange};
use crate::segment::RowReader;
use crate::store::inner::Inner;
use crate::store::row_kind::{Logs, RowKind, Spans};
use crate::store::snapshot::ReadAt;

/// Calls `visit` with the labels of streams that pass, some more than once.
fn visit<K: RowKind>(
    inner: &Inner,
    at: &ReadAt,
    context: &RequestContext,
    matchers: &[Matcher],
    range: TimeRange,
    visit: &mut dyn FnMut(&Labels) -> Result<()>,
) -> Result<()> {
    let matchers = all_matchers(context, matchers);
    for (_, segment) in segments_of::<K>(&at.view, context, range) {
        context.check()?;
        let Some(reader) = K::reader(segment) else {
            continue;
        };
        for number in reader.select_streams(&matchers)? {
            visit(&reader.stream_labels(number)?)?;
        }
    }
    let Some(tenant) = inner.tenant(&context.tenant) else {
        return Ok(());
    };
    for (number, head) in at.view.heads().enumerate() {
        context.check()?;
        let mark = (at.pin(), K::mark(at.marks(number)));
        let seen = K::rows(head).read().see(tenant.index, range, None, mark);
        let Some(seen) = seen else { continue };
        let batches = seen.batches.iter();
        let numbers: BTreeSet<u32> = batches
            .flat_map(|batch| batch.numbers.iter().copied())
            .collect();
        for stream in numbers
            .into_iter()
            .filter_map(|number| seen.streams.peek(number))
        {
            if matchers.iter().all(|m| m.matches_labels(&stream.labels)) {
                visit(&stream.labels)?;
            }
        }
    }
    Ok(())
}

fn visit_streams(
    (inner, at): (&Inner, &ReadAt),
    context: &RequestContext,
    signal: Signal,
    matchers: &[Matcher],
    range: TimeRange,
    each: &mut dyn FnMut(&Labels) -> Result<()>,
) -> Result<()> {
    context.check()?;
    match signal {
        Signal::Logs => visit::<Logs>(inner, at, context, matchers, range, each),
        Signal::Spans => visit::<Spans>(inner, at, context, matchers, range, each),
        Signal::Metrics => {
            let why = "metrics have series, not streams";
            Err(EngineError::InvalidArgument(why.into()))
        }
    }
}

/// Label names of streams, sorted.
pub(crate) fn label_names(
    source: (&Inner, &ReadAt),
    context: &RequestContext,
    signal: Signal,
    matchers: &[Matcher],
    range: TimeRange,
) -> Result<Vec<String>> {
    let mut names: BTreeSet<String> = BTreeSet::new();
    visit_streams(source, context, signal, matchers, range, &mut |labels| {
        for label in labels {
            if !names.contains(label.name) {
                names.insert(label.name.to_owned());
            }
        }
        Ok(())
    })?;
    Ok(names.into_iter().collect())
}

/// Values of a label of streams, sorted.
pub(crate) fn label_values(
    source: (&Inner, &ReadAt),
    context: &RequestContext,
    signal: Signal,
    name: &str,
    matchers: &[Matcher],
    range: TimeRange,
) -> Result<Vec<String>> {
    let mut values: BTreeSet<String> = BTreeSet::new();
    visit_streams(source, context, signal, matchers, range, &mut |labels| {
        if let Some(value) = labels.get(name)
            && !values.contains(value)
        {
            values.insert(value.to_owned());
        }
        Ok(())
    })?;
    Ok(values.into_iter().collect())
}

/// Labels of streams that pass any of the matcher sets, sorted, no duplicates.
pub(crate) fn streams(
    source: (&Inner, &ReadAt),
    context: &RequestContext,
    signal: Signal,
    matcher_sets: &[Vec<Matcher>],
    range: TimeRange,
) -> Result<Vec<Labels>> {
    let mut streams: BTreeSet<Labels> = BTreeSet::new();
    for matchers in matcher_sets {
        visit_streams(source, context, signal, matchers, range, &mut |labels| {
            if !streams.contains(labels) {
                streams.insert(labels.clone());
            }
            Ok(())
        })?;
    }
    Ok(streams.into_iter().collect())
}

/// Keys of the attributes of rows, sorted.
pub(crate) fn attribute_keys(
    (inner, at): (&Inner, &ReadAt),
    context: &RequestContext,
    signal: Signal,
    range: TimeRange,
) -> Result<Vec<String>> {
    context.check()?;
    let mut keys = BTreeSet::new();
    match signal {
        Signal::Logs => keys_of::<Logs>(inner, at, context, range, &mut keys)?,
        Signal::Spans => keys_of::<Spans>(inner, at, context, range, &mut keys)?,
        Signal::Metrics => {}
    }
    Ok(keys.into_iter().collect())
}

fn keys_of<K: RowKind>(
    inner: &Inner,
    at: &ReadAt,
    context: &RequestContext,
    range: TimeRange,
    keys: &mut BTreeSet<String>,
) -> Result<()> {
    use crate::head::rows::RowBatch;
    let mut add = |key: &str| {
        if !keys.contains(key) {
            keys.insert(key.to_owned());
        }
    };
    for (_, segment) in segments_of::<K>(&at.view, context, range) {
        context.check()?;
        if let Some(reader) = K::reader(segment) {
            reader.attribute_keys().iter().for_each(|key| add(key));
        }
    }
    let Some(tenant) = inner.tenant(&context.tenant) else {
        return Ok(());
    };
    for (number, head) in at.view.heads().enumerate() {
        let mark = (at.pin(), K::mark(at.marks(number)));
        let seen = K::rows(head).read().see(tenant.index, range, None, mark);
        for batch in seen.iter().flat_map(|seen| &seen.batches) {
            batch.batch.key_table().iter().for_each(&mut add);
        }
    }
    Ok(())
}
