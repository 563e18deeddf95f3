//! PromQL: what a query costs on top of reading its samples.
//!
//! `cargo bench -p chronolith-benches --features query --bench promql`
//!
//! `one_series/by_hand` reads a series and calls the range function itself; `one_series/engine` asks
//! the same of the engine, planning included; `one_series/select_by_operators` builds and runs the operators
//! of an instant selector, `…/select_by_engine` asks the engine for the same. `rate/…` and `sum_by/…` run over 1,000 series of an hour
//! at 15 s, which are 240,000 samples.

use std::hint::black_box;
use std::sync::Arc;

use chronolith_engine::model::{Labels, SampleColumns, TimeRange, TimestampNs};
use chronolith_engine::{Matcher, RequestContext, ScanRequest, Store, StoreOptions, SyncMode};
use chronolith_query::promql::annotations::Annotations;
use chronolith_query::promql::ast::PosRange;
use chronolith_query::promql::batch::SeriesSamples;
use chronolith_query::promql::exec::instant_select::{InstantSelect, Selected};
use chronolith_query::promql::exec::series_scan::{OpenScan, SeriesScan, Spread};
use chronolith_query::promql::exec::{OperatorExec, QueryState};
use chronolith_query::promql::features::Features;
use chronolith_query::promql::functions::range::{Outcome, RangeKind, Scope, SeriesFacts};
use chronolith_query::promql::functions::window::Window;
use chronolith_query::promql::runtime::query_runtime;
use chronolith_query::promql::steps::{Lookup, Steps};
use chronolith_query::promql::{PromqlEngine, PromqlOptions, QueryOptions};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use datafusion::execution::TaskContext;
use datafusion::physical_plan::ExecutionPlan as _;
use futures::StreamExt;

const SERIES: u64 = 1000;
const SAMPLES: i64 = 240;
const STEP_MS: i64 = 15_000;
const END_MS: i64 = SAMPLES * STEP_MS;

fn store() -> Store {
    let options = StoreOptions {
        sync: SyncMode::Off,
        ..StoreOptions::default()
    };
    let store = Store::in_memory(options).expect("a store in memory");
    let ctx = RequestContext::new();
    let mut append = store.begin(&ctx).expect("an append");
    for number in 0..SERIES {
        let labels = Labels::from_pairs([
            ("__name__", "http_requests_total".to_owned()),
            ("instance", format!("host-{number:04}")),
            ("job", format!("job-{}", number % 10)),
        ])
        .expect("labels");
        let series = append.define(None, &labels).expect("a series");
        for sample in 1..=SAMPLES {
            let time = TimestampNs::from_millis(sample * STEP_MS).expect("a time");
            append.sample(series, time, (sample * (number as i64 % 7 + 1)) as f64);
        }
    }
    append.commit().expect("a commit");
    store.flush().expect("a flush");
    store
}

/// The rate over the last 5 minutes of one series, without the engine.
fn by_hand(store: &Store, ctx: &RequestContext) -> f64 {
    let matchers = vec![
        Matcher::equal("__name__", "http_requests_total"),
        Matcher::equal("instance", "host-0500"),
    ];
    let (start_ms, end_ms) = (END_MS - 300_000, END_MS);
    let range = TimeRange::from_millis(start_ms + 1, end_ms);
    let scan = store
        .scan_metrics(ctx, &ScanRequest::new(matchers, range))
        .expect("a scan");
    let mut columns = SampleColumns::default();
    scan.read(0, range, &mut columns).expect("samples");
    let times: Vec<i64> = columns
        .timestamps
        .iter()
        .map(|&t| TimestampNs(t).to_millis())
        .collect();
    let samples = SeriesSamples {
        times: &times,
        values: &columns.values,
        starts: &[],
        histograms: &[],
    };
    let mut facts = SeriesFacts::default();
    facts.find(RangeKind::Rate, &samples);
    let window = Window {
        times: samples.times,
        values: samples.values,
        starts: &[],
        histograms: &[],
        first: 0,
        start_ms,
        end_ms,
        step_ms: end_ms,
        step: 0,
    };
    let mut scope = Scope {
        metric: "http_requests_total",
        pos: PosRange::default(),
        scalar_pos: PosRange::default(),
        scalars: [f64::NAN; 2],
        facts: &facts,
        notes: &mut Annotations::default(),
        scratch: &mut Vec::new(),
    };
    match RangeKind::Rate.evaluate(&window, &mut scope) {
        Ok(Some(Outcome::Float(value))) => value,
        other => panic!("no rate: {other:?}"),
    }
}

/// The last value of one series by the engine's own operators, put together and run without the engine: no
/// query text, no resolution, no limits, no answer.
fn by_operators(store: &Store, ctx: &RequestContext, task: &Arc<TaskContext>) -> usize {
    let lookback_ms = 300_000;
    let state = QueryState::new(
        ctx.clone(),
        Features::default(),
        lookback_ms,
        u64::MAX,
        None,
    );
    let snapshot = store.pin(ctx).expect("a snapshot");
    let matchers = vec![
        Matcher::equal("instance", "host-0500"),
        Matcher::equal("__name__", "http_requests_total"),
    ];
    let range = TimeRange::from_millis(END_MS - lookback_ms + 1, END_MS);
    let request = ScanRequest::new(matchers, range);
    let scan = snapshot.scan_metrics(ctx, &request).expect("a scan");
    let spread = Spread {
        partitions_max: 2,
        samples_min: 100_000,
    };
    let scan = SeriesScan::new(request, Arc::new(OpenScan(scan)), spread, &state);
    let select = InstantSelect {
        lookup: Lookup {
            steps: Steps::instant(END_MS),
            at_ms: None,
            offset_ms: 0,
        },
        selected: Selected::Value,
        pos: PosRange::default(),
        count_weight: 1,
        state: Arc::clone(&state),
    };
    let plan = OperatorExec::new(select, vec![OperatorExec::new(scan, Vec::new())]);
    query_runtime().block_on(async {
        let mut stream = plan.execute(0, Arc::clone(task)).expect("a stream");
        let mut rows = 0;
        while let Some(batch) = stream.next().await {
            rows += batch.expect("a batch").num_rows();
        }
        rows
    })
}

fn benches(criterion: &mut Criterion) {
    let store = store();
    let ctx = RequestContext::new();
    let engine = PromqlEngine::new(store.clone(), PromqlOptions::default());
    let options = QueryOptions::default();
    let mut group = criterion.benchmark_group("promql/one_series");
    group.bench_function("by_hand", |b| b.iter(|| by_hand(&store, &ctx)));
    let text = "rate(http_requests_total{instance=\"host-0500\"}[5m])";
    let query = engine.parse(text).expect("a query");
    group.bench_function("engine", |b| {
        b.iter(|| {
            engine
                .instant_blocking(&ctx, &query, END_MS, &options)
                .expect("an answer")
        });
    });
    let select = "http_requests_total{instance=\"host-0500\"}";
    let query = engine.parse(select).expect("a query");
    group.bench_function("select_by_engine", |b| {
        b.iter(|| {
            engine
                .instant_blocking(&ctx, &query, END_MS, &options)
                .expect("an answer")
        });
    });
    let task = Arc::new(TaskContext::default());
    assert_eq!(by_operators(&store, &ctx, &task), 1);
    group.bench_function("select_by_operators", |b| {
        b.iter(|| by_operators(&store, &ctx, &task));
    });
    group.bench_function("parse", |b| b.iter(|| engine.parse(black_box(text))));
    group.finish();

    let mut group = criterion.benchmark_group("promql/thousand_series");
    group.throughput(Throughput::Elements(SERIES * SAMPLES as u64));
    for (name, text) in [
        ("select", "http_requests_total"),
        ("rate", "rate(http_requests_total[5m])"),
        (
            "sum_by_rate",
            "sum by (job) (rate(http_requests_total[5m]))",
        ),
        ("avg_over_time", "avg_over_time(http_requests_total[5m])"),
        (
            "vector_ratio",
            "http_requests_total / on (instance) http_requests_total",
        ),
    ] {
        let query = engine.parse(text).expect("a query");
        group.bench_function(name, |b| {
            let times = (0, END_MS, 60_000);
            b.iter(|| {
                engine
                    .range_blocking(&ctx, &query, times, &options)
                    .expect("an answer")
            });
        });
    }
    group.finish();
}

criterion_group!(promql, benches);
criterion_main!(promql);
