//! Everything that a store shows, in the form of the model.

use super::model::{Cell, Contents, Document, TenantContents};
use super::rows;
use crate::context::RequestContext;
use crate::error::Result;
use crate::index::Matcher;
use crate::model::{SampleColumns, TimeRange};
use crate::scan::ScanRequest;
use crate::store::{MetricScan, Store};

/// The collection of the state documents.
pub(super) const COLLECTION: &str = "simulation";

pub(super) fn observe(store: &Store, contexts: &[RequestContext]) -> Result<Contents> {
    let mut contents = Contents::default();
    for (tenant, context) in contents.tenants.iter_mut().zip(contexts) {
        *tenant = observe_tenant(store, context)?;
    }
    Ok(contents)
}

fn observe_tenant(store: &Store, context: &RequestContext) -> Result<TenantContents> {
    let mut found = observe_rows(store, context, &[], TimeRange::ALL)?;
    for (labels, all) in store.exemplars(context, &[], TimeRange::ALL)? {
        let known = found.exemplars.entry(labels).or_default();
        for exemplar in all {
            let (time, number) = (exemplar.time.0, exemplar.value as u64);
            assert_eq!(exemplar, rows::exemplar(time, number), "an exemplar");
            known.insert((time, number));
        }
    }
    for (metric, all) in store.metadata(context, None)? {
        if let Some(newest) = all.first() {
            found
                .metadata
                .insert(metric, newest.help.parse().expect("our own help text"));
        }
    }
    for document in store.state_list(context, COLLECTION, "", usize::MAX)? {
        let content = Document {
            version: Some(document.version),
            value: document.value.to_vec(),
        };
        found.documents.insert(document.key, content);
    }
    Ok(found)
}

/// Samples, log records and spans that pass the matchers in a range.
pub(super) fn observe_rows(
    store: &Store,
    context: &RequestContext,
    matchers: &[Matcher],
    range: TimeRange,
) -> Result<TenantContents> {
    let request = ScanRequest::new(matchers.to_vec(), range);
    let mut found = TenantContents::default();
    read_metrics(&store.scan_metrics(context, &request)?, range, &mut found)?;
    for batch in store.scan_logs(context, &request)? {
        for row in batch? {
            let (time, id) = (row.record.time.0, rows::id_of(&row.record.attributes));
            let stream = rows::stream_number(&row.stream.labels);
            assert_eq!(*row.stream, rows::stream(stream), "a stream");
            assert_eq!(*row.record, rows::log_record(time, id), "a log record");
            found.logs.entry(stream).or_default().push((time, id));
        }
    }
    for batch in store.scan_spans(context, &request)? {
        for row in batch? {
            let (time, id) = (row.span.time.0, rows::id_of(&row.span.attributes));
            let stream = rows::stream_number(&row.stream.labels);
            let version = rows::version_of(&row.span);
            assert_eq!(*row.span, rows::span(time, id, version), "a span");
            let before = found.spans.insert((stream, time, id), version);
            assert_eq!(before, None, "span {id} twice");
        }
    }
    Ok(found)
}

pub(super) fn read_metrics(
    scan: &MetricScan,
    range: TimeRange,
    found: &mut TenantContents,
) -> Result<()> {
    let mut columns = SampleColumns::default();
    for index in 0..scan.len() {
        columns.clear();
        scan.read(index, range, &mut columns)?;
        if columns.is_empty() {
            continue;
        }
        let cells = found.series.entry(scan.labels(index)).or_default();
        assert!(cells.is_empty(), "series {:?} twice", scan.labels(index));
        assert!(
            columns.timestamps.windows(2).all(|w| w[0] < w[1]),
            "times of a series ascend"
        );
        for (index, (time, value)) in columns.timestamps.iter().zip(&columns.values).enumerate() {
            let cell = Cell::Float {
                bits: value.to_bits(),
                start: columns.start_timestamps.get(index).copied().unwrap_or(0),
            };
            cells.insert(*time, cell);
        }
        for sample in &columns.histograms {
            let id = sample.histogram.sum as u64;
            assert_eq!(sample.histogram, rows::histogram(id), "a histogram");
            let start = sample.start_time.map_or(0, |start| start.0);
            let before = cells.insert(sample.time.0, Cell::Histogram { id, start });
            assert_eq!(before, None, "a time in both kinds");
        }
    }
    Ok(())
}
