//! Selection by patterns over a label of many values, against trying every value.
//!
//! `cargo bench -p chronolith-benches --bench patterns`
//!
//! 3,200 pods of three services, one series each, in one segment. `first` asks a store that was opened for
//! this one question: what a pattern finds is not remembered yet. `again` asks once more. `every_value`
//! is what there was before literals, prefixes and memory: the pattern's automaton tried on each of the
//! 3,200 values, without looking anything up in the store.

use std::hint::black_box;

use chronolith_engine::model::{Labels, TimeRange, TimestampNs};
use chronolith_engine::{
    MatchOp, Matcher, RequestContext, ScanRequest, Store, StoreOptions, SyncMode,
};
use criterion::{BatchSize, Criterion, criterion_group, criterion_main};

const PODS: usize = 3_200;

/// A name for the case, and the pattern.
const CASES: [(&str, &str); 6] = [
    ("equal_suffix", ".*7"),
    ("inner_literal", ".*-12.*"),
    ("literal_and_class", ".*-12.*[02468]"),
    ("prefix", "svc-1.*x"),
    ("alternatives", "svc-1-0001|svc-2-0002|svc-0-0003"),
    ("no_literal", "[a-z]+-1.*"),
];

fn pods() -> Vec<String> {
    let names = (0..PODS).map(|number| format!("svc-{}-{number:04}", number % 3));
    names.collect()
}

fn options() -> StoreOptions {
    StoreOptions {
        sync: SyncMode::Off,
        background: false,
        ..StoreOptions::default()
    }
}

fn count(store: &Store, context: &RequestContext, pattern: &str) -> usize {
    let matcher = Matcher::new("pod", MatchOp::Regex, pattern).expect("a pattern");
    let request = ScanRequest::new(vec![matcher], TimeRange::ALL);
    let scan = store.scan_metrics(context, &request).expect("a scan");
    scan.len()
}

fn benches(criterion: &mut Criterion) {
    let dir = tempfile::tempdir().expect("a directory");
    let context = RequestContext::new();
    {
        let store = Store::open(dir.path(), options()).expect("a store");
        let mut append = store.begin(&context).expect("an append");
        for pod in pods() {
            let labels = Labels::from_pairs([("__name__", "m"), ("pod", &pod)]).expect("labels");
            let series = append.define(None, &labels).expect("a series");
            append.sample(series, TimestampNs(1), 1.0);
        }
        append.commit().expect("a commit");
        store.compact().expect("one segment");
        store.close().expect("closed");
    }
    let values = pods();
    for (case, pattern) in CASES {
        let mut group = criterion.benchmark_group(format!("patterns/{case}"));
        let open = || Store::open_read_only(dir.path(), options()).expect("a reader");
        group.bench_function("first", |bench| {
            let ask = |store: &mut Store| count(store, &context, pattern);
            bench.iter_batched_ref(open, ask, BatchSize::PerIteration);
        });
        let store = open();
        let found = count(&store, &context, pattern);
        group.bench_function("again", |bench| {
            bench.iter(|| count(&store, &context, black_box(pattern)));
        });
        let automaton = regex::Regex::new(&format!("^(?s:{pattern})$")).expect("a pattern");
        let tried = || values.iter().filter(|v| automaton.is_match(v)).count();
        assert_eq!(tried(), found, "{pattern}");
        group.bench_function("every_value", |bench| bench.iter(tried));
        group.finish();
    }
}

criterion_group!(patterns, benches);
criterion_main!(patterns);
