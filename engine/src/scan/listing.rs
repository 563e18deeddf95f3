//! Names, values and series without their samples.

use std::collections::BTreeSet;

use super::metric_scan::{all_matchers, generations};
use crate::context::RequestContext;
use crate::error::Result;
use crate::index::Matcher;
use crate::model::{Labels, TimeRange};
use crate::store::inner::Inner;

/// Calls `visit` with the labels of every series that passes the matchers and may have samples in
/// the range, in no order and possibly more than once, until it answers false.
fn for_each_series(
    inner: &Inner,
    context: &RequestContext,
    matchers: &[Matcher],
    range: TimeRange,
    mut visit: impl FnMut(&Labels) -> bool,
) -> Result<()> {
    context.check()?;
    let view = inner.view();
    let Some(tenant) = inner.tenant(&context.tenant) else {
        return Ok(());
    };
    let slots = tenant
        .postings
        .read()
        .select(&all_matchers(context, matchers));
    for (count, slot) in slots.iter().enumerate() {
        if count % 4096 == 0 {
            context.check()?;
        }
        if !generations(&view).any(|generation| generation.overlaps(slot, range)) {
            continue;
        }
        for entry in inner.table.entries_at([slot]) {
            if !visit(&entry.labels) {
                return Ok(());
            }
        }
    }
    Ok(())
}

fn take_sorted(found: BTreeSet<String>, limit: Option<usize>) -> Vec<String> {
    found
        .into_iter()
        .take(limit.unwrap_or(usize::MAX))
        .collect()
}

/// Label names of the selected series, sorted.
pub(crate) fn label_names(
    inner: &Inner,
    context: &RequestContext,
    matchers: &[Matcher],
    range: TimeRange,
    limit: Option<usize>,
) -> Result<Vec<String>> {
    let mut found = BTreeSet::new();
    for_each_series(inner, context, matchers, range, |labels| {
        for label in labels {
            if !found.contains(label.name) {
                found.insert(label.name.to_owned());
            }
        }
        true
    })?;
    Ok(take_sorted(found, limit))
}

/// Values of one label over the selected series, sorted.
pub(crate) fn label_values(
    inner: &Inner,
    context: &RequestContext,
    name: &str,
    matchers: &[Matcher],
    range: TimeRange,
    limit: Option<usize>,
) -> Result<Vec<String>> {
    let mut found = BTreeSet::new();
    for_each_series(inner, context, matchers, range, |labels| {
        if let Some(value) = labels.get(name) {
            if !found.contains(value) {
                found.insert(value.to_owned());
            }
        }
        true
    })?;
    Ok(take_sorted(found, limit))
}

/// Label sets that pass any of the matcher sets, sorted, without duplicates.
pub(crate) fn series(
    inner: &Inner,
    context: &RequestContext,
    matcher_sets: &[Vec<Matcher>],
    range: TimeRange,
    limit: Option<usize>,
) -> Result<Vec<Labels>> {
    let mut found = BTreeSet::new();
    for matchers in matcher_sets {
        for_each_series(inner, context, matchers, range, |labels| {
            found.insert(labels.clone());
            true
        })?;
    }
    Ok(found
        .into_iter()
        .take(limit.unwrap_or(usize::MAX))
        .collect())
}
