//! What most tests of stores begin with: options without a background thread, a label set, samples in
//! and samples out. Shared by black-box tests and by those inside the crate.

#![allow(dead_code, reason = "not every test uses all of it")]

use chronolith_engine::model::{Labels, SampleColumns, TimeRange, TimestampNs};
use chronolith_engine::{Matcher, RequestContext, Result, ScanRequest, Store, StoreOptions};

/// Nothing happens that the test does not do.
pub(crate) fn options() -> StoreOptions {
    StoreOptions {
        background: false,
        ..StoreOptions::default()
    }
}

pub(crate) fn labels(name: &str, instance: &str) -> Labels {
    Labels::from_pairs([("__name__", name), ("instance", instance)]).unwrap()
}

/// One request with samples of one series.
pub(crate) fn try_append(
    store: &Store,
    context: &RequestContext,
    labels: &Labels,
    samples: &[(i64, f64)],
) -> Result<()> {
    let mut append = store.begin(context)?;
    let series = append.define(None, labels)?;
    for (time, value) in samples {
        append.sample(series, TimestampNs(*time), *value);
    }
    let committed = append.commit()?;
    assert_eq!(committed.rows, samples.len());
    Ok(())
}

pub(crate) fn append(
    store: &Store,
    context: &RequestContext,
    labels: &Labels,
    samples: &[(i64, f64)],
) {
    try_append(store, context, labels, samples).unwrap();
}

/// All samples of matching series, in the order of the scan.
pub(crate) fn read(
    store: &Store,
    context: &RequestContext,
    matchers: Vec<Matcher>,
) -> Vec<(Labels, SampleColumns)> {
    let request = ScanRequest::new(matchers, TimeRange::ALL);
    let scan = store.scan_metrics(context, &request).unwrap();
    let read = |index| {
        let mut columns = SampleColumns::default();
        scan.read(index, TimeRange::ALL, &mut columns).unwrap();
        (scan.labels(index), columns)
    };
    (0..scan.len()).map(read).collect()
}
