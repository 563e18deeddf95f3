//! What a tenant may have: series, labels, age and size; and what deletions leave in listings.

#![expect(clippy::unwrap_used, reason = "a test that fails here has failed")]

#[path = "common/samples.rs"]
mod samples;

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use chronolith_engine::model::{Exemplar, Labels, SampleColumns, TimeRange, TimestampNs};
use chronolith_engine::{
    Clock, EngineError, Matcher, RequestContext, ScanRequest, Signal, Store, StoreOptions,
    TenantId, TenantLimits,
};
use samples::{append, labels, options};

const DAY_NS: i64 = 86_400_000_000_000;

fn values(store: &Store, context: &RequestContext) -> Vec<f64> {
    let request = ScanRequest::new(vec![], TimeRange::ALL);
    let scan = store.scan_metrics(context, &request).unwrap();
    let mut all = Vec::new();
    let mut columns = SampleColumns::default();
    for index in 0..scan.len() {
        scan.read(index, TimeRange::ALL, &mut columns).unwrap();
        all.extend_from_slice(&columns.values);
    }
    all
}

fn tenant(name: &str) -> (TenantId, RequestContext) {
    let id = TenantId::new(name).unwrap();
    (id.clone(), RequestContext::for_tenant(id))
}

fn why(result: Result<impl std::fmt::Debug, EngineError>) -> String {
    match result {
        Err(EngineError::LimitExceeded(why)) => why,
        other => panic!("expected a limit, got {other:?}"),
    }
}

#[test]
fn a_full_tenant_keeps_the_series_it_has_and_hears_which_label_explodes() {
    let (small, context) = tenant("small");
    let limits = TenantLimits {
        series_max: 3,
        ..TenantLimits::default()
    };
    let store = Store::in_memory(StoreOptions {
        tenant_limits: [(small.clone(), limits.clone())].into(),
        ..options()
    })
    .unwrap();
    for instance in ["a", "b", "c"] {
        append(&store, &context, &labels("m", instance), &[(1, 1.0)]);
    }
    let mut session = store.begin(&context).unwrap();
    let known = session.define(None, &labels("m", "b")).unwrap();
    session.sample(known, TimestampNs(2), 2.0);
    let refused = why(session.define(None, &labels("m", "d")));
    for part in ["tenant small", "3 active series", "\"instance\""] {
        assert!(refused.contains(part), "{refused}");
    }
    // What is known is stored all the same.
    assert_eq!(session.commit().unwrap().rows, 1);
    assert_eq!(values(&store, &context), [1.0, 1.0, 2.0, 1.0]);
    // Others are not concerned, and the limit can be raised while the store is open.
    append(
        &store,
        &RequestContext::new(),
        &labels("m", "d"),
        &[(1, 1.0)],
    );
    assert_eq!(store.tenant_limits(&small), limits);
    let raised = TenantLimits {
        series_max: 4,
        ..limits
    };
    store.set_tenant_limits(&small, raised);
    append(&store, &context, &labels("m", "d"), &[(1, 1.0)]);
    // A tenant that has limits and nothing else is not listed.
    store.set_tenant_limits(&tenant("later").0, TenantLimits::default());
    assert_eq!(store.tenants().len(), 2);
}

#[test]
fn labels_beyond_the_tenants_limits_are_refused_by_name() {
    let (small, context) = tenant("small");
    let limits = TenantLimits {
        labels_per_series_max: 2,
        label_name_bytes_max: 10,
        label_value_bytes_max: 5,
        ..TenantLimits::default()
    };
    let store = Store::in_memory(StoreOptions {
        tenant_limits: [(small, limits)].into(),
        ..options()
    })
    .unwrap();
    let mut session = store.begin(&context).unwrap();
    let mut define = |pairs: &[(&str, &str)]| {
        let labels = Labels::from_pairs(pairs.iter().copied()).unwrap();
        session.define(None, &labels)
    };
    define(&[("__name__", "m"), ("instance", "12345")]).unwrap();
    let long_value = why(define(&[("__name__", "m"), ("instance", "123456")]));
    assert!(
        long_value.contains("\"instance\" has 6 bytes, limit 5"),
        "{long_value}"
    );
    let long_name = why(define(&[("__name__", "m"), ("instance_of_x", "1")]));
    assert!(long_name.contains("instance_of_x"), "{long_name}");
    let many = why(define(&[("__name__", "m"), ("a", "1"), ("b", "1")]));
    assert!(many.contains("3 labels, limit 2"), "{many}");
}

#[test]
fn each_tenant_has_its_own_age_and_size() {
    let now = Arc::new(AtomicI64::new(100 * DAY_NS));
    let clock = Arc::clone(&now);
    let ((young, young_context), (large, large_context)) = (tenant("young"), tenant("large"));
    let of_age = TenantLimits {
        retention: Some(Duration::from_secs(5 * 86_400)),
        ..TenantLimits::default()
    };
    let store = Store::in_memory(StoreOptions {
        retention: Some(Duration::from_secs(10 * 86_400)),
        tenant_limits: [(young, of_age)].into(),
        clock: Clock::new(move || TimestampNs(clock.load(Ordering::Relaxed))),
        ..options()
    })
    .unwrap();
    let others = RequestContext::new();
    for context in [&young_context, &large_context, &others] {
        for day in 80..=100 {
            append(
                &store,
                context,
                &labels("m", "a"),
                &[(day * DAY_NS, day as f64)],
            );
        }
    }
    store.compact().unwrap();
    let first = |context| values(&store, context)[0];
    assert_eq!(first(&young_context), 95.0);
    assert_eq!(first(&large_context), 90.0);
    assert_eq!(first(&others), 90.0);
    let of_large = |segment: &&chronolith_engine::store::SegmentInfo| segment.tenant == large;
    let bytes: Vec<u64> = store
        .segments()
        .iter()
        .filter(of_large)
        .map(|s| s.bytes)
        .collect();
    let of_size = TenantLimits {
        retention_bytes: bytes.iter().sum::<u64>() - 1,
        ..TenantLimits::default()
    };
    store.set_tenant_limits(&large, of_size);
    store.compact().unwrap();
    assert_eq!(
        store.segments().iter().filter(of_large).count(),
        bytes.len() - 1
    );
    assert_eq!(first(&large_context), 91.0);
    assert_eq!(first(&others), 90.0);
}

/// Names, values and series as a client sees them.
fn listings(store: &Store) -> (Vec<String>, Vec<String>, Vec<Labels>) {
    let context = RequestContext::new();
    let all = TimeRange::ALL;
    (
        store.label_names(&context, &[], all, None).unwrap(),
        store
            .label_values(&context, "instance", &[], all, None)
            .unwrap(),
        store.series(&context, &[vec![]], all, None).unwrap(),
    )
}

#[test]
fn deletions_clear_listings_wherever_the_rows_lie() {
    for stage in 0..4 {
        let store = Store::in_memory(options()).unwrap();
        let context = RequestContext::new();
        let with_zone = Labels::from_pairs([("__name__", "n"), ("zone", "z")]).unwrap();
        let settle = || match stage {
            0 => {}
            1 => store.flush().unwrap(),
            2 => store.compact().unwrap(),
            // Some rows in segments, some in the head.
            _ => {
                store.flush().unwrap();
                append(&store, &context, &labels("m", "b"), &[(30, 1.0)]);
                append(&store, &context, &with_zone, &[(30, 1.0)]);
            }
        };
        append(&store, &context, &labels("m", "a"), &[(10, 1.0), (20, 1.0)]);
        append(&store, &context, &labels("m", "b"), &[(10, 1.0)]);
        append(&store, &context, &with_zone, &[(15, 1.0)]);
        settle();
        let delete = |matcher: Matcher, range: TimeRange| {
            store
                .delete(&context, Signal::Metrics, &[matcher], range)
                .unwrap();
        };
        // The whole of a series, in one deletion and in two halves.
        delete(Matcher::equal("instance", "b"), TimeRange::ALL);
        delete(Matcher::equal("zone", "z"), TimeRange::new(0, 20));
        delete(Matcher::equal("zone", "z"), TimeRange::new(21, 90));
        // A part of a series leaves it listed.
        delete(Matcher::equal("instance", "a"), TimeRange::new(0, 15));
        let expected = (
            vec!["__name__".to_owned(), "instance".to_owned()],
            vec!["a".to_owned()],
            vec![labels("m", "a")],
        );
        assert_eq!(listings(&store), expected, "stage {stage}");
        store.erase_deleted().unwrap();
        assert_eq!(store.stats().tombstones, 0);
        assert_eq!(listings(&store), expected, "stage {stage}, erased");
        assert_eq!(values(&store, &context), [1.0]);
        delete(Matcher::equal("instance", "a"), TimeRange::ALL);
        assert_eq!(listings(&store), (vec![], vec![], vec![]));
        store.erase_deleted().unwrap();
        assert_eq!(store.stats().segment_rows, 0);
    }
}

#[test]
fn erasing_leaves_days_alone_in_which_nothing_was_deleted() {
    let store = Store::in_memory(options()).unwrap();
    let context = RequestContext::new();
    for day in 1..=3 {
        append(&store, &context, &labels("m", "a"), &[(day * DAY_NS, 1.0)]);
    }
    store.compact().unwrap();
    let before = store.segments();
    let range = TimeRange::new(2 * DAY_NS, 2 * DAY_NS);
    store.delete(&context, Signal::Metrics, &[], range).unwrap();
    store.erase_deleted().unwrap();
    let after = store.segments();
    let kept: Vec<_> = [&before[0], &before[2]].map(|s| s.id).to_vec();
    assert_eq!(after.iter().map(|s| s.id).collect::<Vec<_>>(), kept);
}

/// Deletions may take all samples of a series and leave exemplars, which have times of their own.
#[test]
fn a_series_that_has_nothing_but_exemplars_is_in_no_listing() {
    let store = Store::in_memory(options()).unwrap();
    let context = RequestContext::new();
    let set = labels("m", "bare");
    let exemplar = |time| Exemplar {
        labels: Labels::from_pairs([("trace_id", "abc")]).unwrap(),
        value: 0.25,
        time: TimestampNs(time),
    };
    append(
        &store,
        &context,
        &labels("m", "other"),
        &[(5, 1.0), (90, 2.0)],
    );
    append(&store, &context, &set, &[(5, 1.0)]);
    let mut session = store.begin(&context).unwrap();
    let series = session.define(None, &set).unwrap();
    session.exemplar(series, exemplar(50));
    session.commit().unwrap();
    let delete = || {
        let range = TimeRange::new(0, 10);
        let name = Matcher::equal("__name__", "m");
        store.delete(&context, Signal::Metrics, &[name], range)
    };
    let check = |stage: &str| {
        for range in [
            TimeRange::ALL,
            TimeRange::new(0, 60),
            TimeRange::new(40, 95),
        ] {
            let series = store.series(&context, &[vec![]], range, None).unwrap();
            assert!(!series.contains(&set), "{stage}, {range:?}: {series:?}");
            let values = store.label_values(&context, "instance", &[], range, None);
            let bare = values.unwrap().contains(&"bare".to_owned());
            assert!(!bare, "{stage}, {range:?}");
            let request = ScanRequest::new(vec![], range);
            let scan = store.scan_metrics(&context, &request).unwrap();
            assert!(
                (0..scan.len()).all(|index| scan.labels(index) != set),
                "{stage}, {range:?}"
            );
        }
        let exemplars = store.exemplars(&context, &[], TimeRange::ALL).unwrap();
        assert_eq!(exemplars, [(set.clone(), vec![exemplar(50)])], "{stage}");
    };
    delete().unwrap();
    check("in the head");
    store.flush().unwrap();
    check("in a segment");
    append(&store, &context, &set, &[(6, 1.0)]);
    store.flush().unwrap();
    delete().unwrap();
    check("under a tombstone");
    store.compact().unwrap();
    check("merged");
}
