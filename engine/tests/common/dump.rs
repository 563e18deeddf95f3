//! All rows of a store as text, value by value and bit by bit, so that two stores can be compared and
//! a store of an earlier version with what it held then. The text is part of golden stores: what is
//! written for a row never changes.

use std::fmt::Write as _;

use chronolith_engine::model::{
    AttributeValue, Attributes, Histogram, LogRecord, Metadata, SampleColumns, Span, Stream,
    TimeRange,
};
use chronolith_engine::{RequestContext, ScanRequest, Store};

/// Collections of state documents that tests write to.
pub(crate) const COLLECTIONS: [&str; 2] = ["dashboards", "positions"];

/// Everything that can be read from the store.
pub(crate) fn dump(store: &Store) -> String {
    let mut out = String::new();
    for tenant in store.tenants() {
        writeln!(out, "tenant {}", tenant.as_str()).unwrap();
        let context = RequestContext::for_tenant(tenant);
        metrics(&mut out, store, &context);
        logs(&mut out, store, &context);
        spans(&mut out, store, &context);
        for collection in COLLECTIONS {
            for document in store.state_list(&context, collection, "", 1000).unwrap() {
                let value = String::from_utf8_lossy(&document.value).into_owned();
                let (key, version) = (document.key, document.version);
                writeln!(out, "state {collection}/{key} {version} {value}").unwrap();
            }
        }
    }
    out
}

fn metrics(out: &mut String, store: &Store, context: &RequestContext) {
    let request = ScanRequest::new(vec![], TimeRange::ALL);
    let scan = store.scan_metrics(context, &request).unwrap();
    for index in 0..scan.len() {
        let mut columns = SampleColumns::default();
        scan.read(index, TimeRange::ALL, &mut columns).unwrap();
        writeln!(out, "series {}", scan.labels(index)).unwrap();
        for (row, time) in columns.timestamps.iter().enumerate() {
            let start = columns.start_timestamps.get(row).copied().unwrap_or(0);
            let bits = columns.values[row].to_bits();
            writeln!(out, "  {time} {bits:016x} start {start}").unwrap();
        }
        for sample in &columns.histograms {
            let start = sample.start_time.map_or(0, |start| start.0);
            let text = histogram(&sample.histogram);
            writeln!(out, "  {} histogram start {start} {text}", sample.time.0).unwrap();
        }
    }
    let exemplars = store.exemplars(context, &[], TimeRange::ALL).unwrap();
    for (series, all) in exemplars {
        for exemplar in all {
            let (time, bits) = (exemplar.time.0, exemplar.value.to_bits());
            let labels = exemplar.labels;
            writeln!(out, "exemplar {series} {time} {bits:016x} {labels}").unwrap();
        }
    }
    for (metric, all) in store.metadata(context, None).unwrap() {
        for Metadata {
            metric_type,
            unit,
            help,
        } in all
        {
            writeln!(out, "metadata {metric} {metric_type:?} {unit:?} {help:?}").unwrap();
        }
    }
}

fn floats(values: &[f64]) -> String {
    let bits = values.iter().map(|v| format!("{:016x}", v.to_bits()));
    bits.collect::<Vec<_>>().join(",")
}

fn histogram(h: &Histogram) -> String {
    let spans = |spans: &[chronolith_engine::model::BucketSpan]| {
        let spans = spans.iter().map(|s| format!("{}+{}", s.offset, s.length));
        spans.collect::<Vec<_>>().join(",")
    };
    format!(
        "hint {} schema {} zero {} count {} positive {} [{}] negative {} [{}] custom [{}] integer {}",
        h.counter_reset_hint as u8,
        h.schema,
        floats(&[h.zero_threshold, h.zero_count]),
        floats(&[h.count, h.sum]),
        spans(&h.positive_spans),
        floats(&h.positive_buckets),
        spans(&h.negative_spans),
        floats(&h.negative_buckets),
        floats(h.custom_values.as_deref().unwrap_or(&[])),
        h.integer
    )
}

fn value(value: &AttributeValue) -> String {
    match value {
        AttributeValue::Null => "null".to_owned(),
        AttributeValue::String(text) => format!("{text:?}"),
        AttributeValue::Int(number) => format!("int {number}"),
        AttributeValue::Float(number) => format!("float {:016x}", number.to_bits()),
        AttributeValue::Bool(truth) => truth.to_string(),
        AttributeValue::Bytes(bytes) => format!("bytes {bytes:02x?}"),
        AttributeValue::Array(values) => {
            let values: Vec<_> = values.iter().map(self::value).collect();
            format!("[{}]", values.join(", "))
        }
        AttributeValue::Map(pairs) => attributes(pairs),
    }
}

fn attributes(pairs: &Attributes) -> String {
    let pairs = pairs
        .iter()
        .map(|(key, v)| format!("{key:?}: {}", value(v)));
    format!("{{{}}}", pairs.collect::<Vec<_>>().join(", "))
}

fn stream(stream: &Stream) -> String {
    let Stream {
        labels,
        resource,
        scope,
    } = stream;
    format!(
        "{labels} resource {} scope {:?} {:?} {}",
        attributes(resource),
        scope.name,
        scope.version,
        attributes(&scope.attributes)
    )
}

fn logs(out: &mut String, store: &Store, context: &RequestContext) {
    let request = ScanRequest::new(vec![], TimeRange::ALL);
    for batch in store.scan_logs(context, &request).unwrap() {
        for row in batch.unwrap() {
            let record: &LogRecord = &row.record;
            writeln!(
                out,
                "log {} {} observed {} severity {} {:?} body {} attributes {} trace {:?} span {:?} \
                 event {:?}",
                stream(&row.stream),
                record.time.0,
                record.observed_time.0,
                record.severity,
                record.severity_text,
                value(&record.body),
                attributes(&record.attributes),
                record.trace_id,
                record.span_id,
                record.event_name
            )
            .unwrap();
        }
    }
}

fn spans(out: &mut String, store: &Store, context: &RequestContext) {
    let request = ScanRequest::new(vec![], TimeRange::ALL);
    for batch in store.scan_spans(context, &request).unwrap() {
        for row in batch.unwrap() {
            let span: &Span = &row.span;
            writeln!(
                out,
                "span {} {} {} parent {:?} {:?} kind {} {}+{} status {} {:?} attributes {}",
                stream(&row.stream),
                span.trace_id,
                span.span_id,
                span.parent_span_id,
                span.name,
                span.kind as u8,
                span.time.0,
                span.duration_ns,
                span.status as u8,
                span.status_message,
                attributes(&span.attributes)
            )
            .unwrap();
            for event in &span.events {
                let (time, name) = (event.time.0, &event.name);
                let attributes = attributes(&event.attributes);
                writeln!(out, "  event {time} {name:?} {attributes}").unwrap();
            }
            for link in &span.links {
                let attributes = attributes(&link.attributes);
                writeln!(
                    out,
                    "  link {} {} {attributes}",
                    link.trace_id, link.span_id
                )
                .unwrap();
            }
        }
    }
}
