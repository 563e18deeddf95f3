//! The store as an embedder sees it, without files.

use std::sync::Arc;

use super::*;
use crate::index::MatchOp;
use crate::model::{
    AttributeValue, Histogram, LogRecord, Span, SpanId, SpanKind, SpanStatus, Stream, TimestampNs,
    TraceId,
};
use crate::test_samples::{append, labels, options, read};
use crate::{EngineError, StatePut};

#[test]
fn samples_come_back_sorted_with_the_later_arrival() {
    let store = Store::in_memory(options()).unwrap();
    let context = RequestContext::new();
    append(
        &store,
        &context,
        &labels("m", "b"),
        &[(30, 1.0), (10, 2.0), (30, 3.0)],
    );
    append(&store, &context, &labels("m", "a"), &[(5, 0.5)]);
    let found = read(&store, &context, vec![Matcher::equal("__name__", "m")]);
    assert_eq!(found[0].0, labels("m", "a"));
    assert_eq!(found[1].1.timestamps, [10, 30]);
    assert_eq!(found[1].1.values, [2.0, 3.0]);
}

#[test]
fn a_dropped_session_stores_nothing() {
    let store = Store::in_memory(options()).unwrap();
    let context = RequestContext::new();
    let mut append = store.begin(&context).unwrap();
    let series = append.define(None, &labels("m", "a")).unwrap();
    append.sample(series, TimestampNs(1), 1.0);
    drop(append);
    assert!(read(&store, &context, vec![]).is_empty());
    assert!(
        store
            .label_names(&context, &[], TimeRange::ALL, None)
            .unwrap()
            .is_empty()
    );
}

#[test]
fn tenants_do_not_see_each_other() {
    let store = Store::in_memory(options()).unwrap();
    let other = RequestContext::for_tenant(TenantId::new("other").unwrap());
    append(
        &store,
        &RequestContext::new(),
        &labels("m", "a"),
        &[(1, 1.0)],
    );
    append(&store, &other, &labels("m", "a"), &[(2, 2.0)]);
    assert_eq!(read(&store, &other, vec![])[0].1.timestamps, [2]);
    assert_eq!(store.tenants().len(), 2);
}

#[test]
fn required_matchers_narrow_everything() {
    let store = Store::in_memory(options()).unwrap();
    let mut context = RequestContext::new();
    append(&store, &context, &labels("m", "a"), &[(1, 1.0)]);
    append(&store, &context, &labels("m", "b"), &[(1, 1.0)]);
    context.required_matchers = Arc::from([Matcher::equal("instance", "b")]);
    assert_eq!(read(&store, &context, vec![]).len(), 1);
    let values = store
        .label_values(&context, "instance", &[], TimeRange::ALL, None)
        .unwrap();
    assert_eq!(values, ["b"]);
    store
        .delete(&context, Signal::Metrics, &[], TimeRange::ALL)
        .unwrap();
    assert_eq!(
        read(&store, &RequestContext::new(), vec![])[0].0,
        labels("m", "a")
    );
}

#[test]
fn raw_keys_find_series_without_their_labels() {
    let store = Store::in_memory(options()).unwrap();
    let context = RequestContext::new();
    let key = store.raw_key(b"whatever the protocol says");
    let mut append = store.begin(&context).unwrap();
    assert_eq!(append.lookup(key), None);
    let series = append.define(Some(key), &labels("m", "a")).unwrap();
    assert_eq!(append.lookup(key), Some(series));
}

#[test]
fn the_series_limit_names_the_label_that_explodes() {
    let store = Store::in_memory(StoreOptions {
        series_per_tenant_max: 3,
        ..options()
    })
    .unwrap();
    let mut append = store.begin(&RequestContext::new()).unwrap();
    for instance in ["a", "b", "c"] {
        append.define(None, &labels("m", instance)).unwrap();
    }
    append.define(None, &labels("m", "a")).unwrap();
    let refused = append.define(None, &labels("m", "d")).unwrap_err();
    assert!(matches!(&refused, EngineError::LimitExceeded(why) if why.contains("\"instance\"")));
}

#[test]
fn listings_follow_matchers_range_and_deletes() {
    let store = Store::in_memory(options()).unwrap();
    let context = RequestContext::new();
    append(&store, &context, &labels("m", "a"), &[(10, 1.0)]);
    append(&store, &context, &labels("n", "b"), &[(20, 1.0)]);
    let late = TimeRange::new(15, 100);
    let values = |range| {
        store
            .label_values(&context, "__name__", &[], range, None)
            .unwrap()
    };
    assert_eq!(values(TimeRange::ALL), ["m", "n"]);
    assert_eq!(values(late), ["n"]);
    let not_m = Matcher::new("__name__", MatchOp::NotEqual, "m").unwrap();
    let sets = [vec![not_m.clone()], vec![Matcher::equal("instance", "b")]];
    let series = store.series(&context, &sets, TimeRange::ALL, None).unwrap();
    assert_eq!(series, [labels("n", "b")]);
    let before = store.generation();
    store
        .delete(&context, Signal::Metrics, &[not_m], TimeRange::ALL)
        .unwrap();
    assert!(store.generation() > before);
    assert_eq!(values(TimeRange::ALL), ["m"]);
}

#[test]
fn histograms_and_start_times_are_kept() {
    let store = Store::in_memory(options()).unwrap();
    let context = RequestContext::new();
    let mut append = store.begin(&context).unwrap();
    let series = append.define(None, &labels("h", "a")).unwrap();
    append.sample_with_start(series, TimestampNs(1), TimestampNs(-5), 1.0);
    append.histogram(series, TimestampNs(2), None, Arc::new(Histogram::default()));
    append.sample(
        series,
        TimestampNs(3),
        f64::from_bits(crate::model::STALE_NAN_BITS),
    );
    append.commit().unwrap();
    let columns = read(&store, &context, vec![]).remove(0).1;
    assert_eq!(columns.timestamps, [1, 3]);
    assert_eq!(columns.start_timestamps, [-5, 0]);
    assert_eq!(columns.values[1].to_bits(), crate::model::STALE_NAN_BITS);
    assert_eq!(columns.histograms.len(), 1);
}

#[test]
fn state_documents_compare_and_set() {
    let store = Store::in_memory(options()).unwrap();
    let context = RequestContext::new();
    let first = store.state_put(&context, "c", "k", Some(0), b"1").unwrap();
    let conflict = store
        .state_put(&context, "c", "k", Some(0), b"2")
        .unwrap_err();
    assert!(matches!(conflict, EngineError::VersionConflict { actual, .. } if actual == first));
    let second = store
        .state_put(&context, "c", "k", Some(first), b"2")
        .unwrap();
    assert!(second > first);
    store.state_put(&context, "c", "k2", None, b"3").unwrap();
    store.state_put(&context, "d", "k", None, b"4").unwrap();
    assert_eq!(store.state_list(&context, "c", "k", 10).unwrap().len(), 2);
    assert!(store.state_delete(&context, "c", "k", Some(first)).is_err());
    store
        .state_delete(&context, "c", "k", Some(second))
        .unwrap();
    assert_eq!(store.state_get(&context, "c", "k").unwrap(), None);
}

#[test]
fn rows_and_documents_are_one_commit() {
    let dir = tempfile::tempdir().unwrap();
    let context = RequestContext::new();
    let stream = Arc::new(Stream::from_labels(labels("m", "a")));
    let commit = |store: &Store, expected: u64, value: &[u8]| {
        let mut append = store.begin(&context).unwrap();
        append.log(&stream, record(1, "line"));
        append.commit_with_state(&[StatePut {
            collection: "files",
            key: "a",
            expected_version: Some(expected),
            value,
        }])
    };
    let store = Store::open(dir.path(), options()).unwrap();
    let (committed, versions) = commit(&store, 0, b"1").unwrap();
    assert_eq!((committed.rows, versions.len()), (1, 1));
    // A position that is not what the caller thinks stores no row either.
    let conflict = commit(&store, 0, b"2").unwrap_err();
    assert!(matches!(conflict, EngineError::VersionConflict { .. }));
    assert_eq!(store.stats().head_log_records, 1);
    commit(&store, versions[0], b"3").unwrap();
    assert_eq!(store.stats().head_log_records, 2);
    store.close().unwrap();
    let store = Store::open(dir.path(), options()).unwrap();
    let document = store.state_get(&context, "files", "a").unwrap().unwrap();
    assert_eq!(&*document.value, b"3");
}

pub(super) fn record(time: i64, body: &str) -> LogRecord {
    LogRecord {
        time: TimestampNs(time),
        observed_time: TimestampNs(time),
        severity: 9,
        severity_text: "INFO".into(),
        body: AttributeValue::String(body.into()),
        attributes: vec![("user".into(), AttributeValue::Int(7))],
        trace_id: None,
        span_id: None,
        event_name: String::new(),
    }
}

pub(super) fn span(time: i64, id: u8, name: &str) -> Span {
    Span {
        trace_id: TraceId([1; 16]),
        span_id: SpanId([id; 8]),
        parent_span_id: None,
        trace_state: String::new(),
        name: name.into(),
        kind: SpanKind::Server,
        time: TimestampNs(time),
        duration_ns: 5,
        status: SpanStatus::Ok,
        status_message: String::new(),
        attributes: vec![],
        events: vec![],
        links: vec![],
    }
}

#[test]
fn logs_keep_equal_times_and_spans_keep_the_newest_version() {
    let store = Store::in_memory(options()).unwrap();
    let context = RequestContext::new();
    let stream = Arc::new(Stream::from_labels(
        Labels::from_pairs([("app", "x")]).unwrap(),
    ));
    let mut append = store.begin(&context).unwrap();
    for (time, body) in [(2, "b"), (1, "a"), (2, "b"), (2, "c")] {
        append.log(&stream, record(time, body));
    }
    append.span(&stream, span(9, 1, "old"));
    append.span(&stream, span(9, 1, "new"));
    assert_eq!(append.commit().unwrap().rows, 6);
    let request = ScanRequest::new(vec![Matcher::equal("app", "x")], TimeRange::ALL);
    let rows: Vec<_> = store
        .scan_logs(&context, &request)
        .unwrap()
        .flat_map(|b| b.unwrap())
        .collect();
    let bodies: Vec<_> = rows.iter().map(|r| r.record.body.clone()).collect();
    let text = |s: &str| AttributeValue::String(s.into());
    assert_eq!(bodies, [text("a"), text("b"), text("b"), text("c")]);
    let spans: Vec<_> = store
        .scan_spans(&context, &request)
        .unwrap()
        .flat_map(|b| b.unwrap())
        .collect();
    assert_eq!(spans.len(), 1);
    assert_eq!(spans[0].span.name, "new");
}
