//! What is computed from rows as they arrive: metrics of spans, and runs.
//!
//! `span_metrics` counts batches of a thousand spans (traces of five: a server, its work, a call and the
//! service that answers). `runs/look` is the look at a batch that has nothing to do with runs, by batch;
//! `runs/fold` enters spans that name their run and stage.

use std::hint::black_box;
use std::sync::Arc;

use chronolith_engine::model::{
    Labels, SpanId, SpanKind, SpanStatus, Stream, TimestampNs, TraceId,
};
use chronolith_engine::rows::{SpanBatch, SpanFields};
use chronolith_query::runs::{BookLimits, RunBook, RunNames, RunReader};
use chronolith_query::traces::span_metrics::{SpanMetrics, SpanMetricsOptions};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

const TRACES: u64 = 200;
const BATCHES: u64 = 50;

/// Numbers that look random (SplitMix64).
fn mixed(number: u64) -> u64 {
    let mut z = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

fn batch(number: u64, names_runs: bool) -> SpanBatch {
    let mut batch = SpanBatch::new();
    let streams: Vec<u32> = (0..12)
        .map(|service| {
            let labels = Labels::from_pairs([("service_name", format!("service-{service}"))]);
            batch.stream(Arc::new(Stream::from_labels(labels.unwrap_or_default())))
        })
        .collect();
    for trace in 0..TRACES {
        let seed = mixed(number * TRACES + trace);
        let id = |nth: u64| mixed(seed ^ nth).to_le_bytes();
        let mut trace_id = [0; 16];
        trace_id[..8].copy_from_slice(&id(100));
        trace_id[8..].copy_from_slice(&id(101));
        let kinds = [
            SpanKind::Server,
            SpanKind::Internal,
            SpanKind::Client,
            SpanKind::Server,
            SpanKind::Internal,
        ];
        for (nth, kind) in kinds.into_iter().enumerate() {
            let nth = nth as u64;
            let stream = (seed % 6 + nth / 3 * 6) as usize;
            let fields = SpanFields {
                trace_id: TraceId(trace_id),
                span_id: SpanId(id(nth)),
                parent_span_id: (nth > 0).then(|| SpanId(id(nth - 1))),
                trace_state: "",
                name: &format!("GET /api/v1/resource/{}/items", mixed(seed + nth) % 5),
                kind,
                time: TimestampNs(1_700_000_000_000_000_000 + trace as i64),
                duration_ns: (mixed(seed + nth) % 500_000_000) as i64,
                status: SpanStatus::Unset,
                status_message: "",
            };
            let mut row = batch.row(streams.get(stream).copied().unwrap_or(0), &fields);
            row.attributes(|out| {
                out.str("http.request.method", "GET");
                out.int("http.response.status_code", 200);
                out.str("user.id", &format!("user-{}", seed % 1_000));
                if names_runs {
                    out.str("execution_id", &format!("run-{}", seed % 5_000));
                    out.str("pipeline.name", "orders");
                    out.str(
                        "task.name",
                        ["extract", "transform", "load"][nth as usize % 3],
                    );
                }
            });
        }
    }
    batch
}

fn derived(criterion: &mut Criterion) {
    let plain: Vec<SpanBatch> = (0..BATCHES).map(|n| batch(n, false)).collect();
    let of_runs: Vec<SpanBatch> = (0..BATCHES).map(|n| batch(n, true)).collect();
    let spans: usize = plain.iter().map(SpanBatch::len).sum();
    let mut group = criterion.benchmark_group("derived");
    group.throughput(Throughput::Elements(spans as u64));
    group.bench_function("span_metrics", |bencher| {
        bencher.iter(|| {
            let mut metrics = SpanMetrics::new(SpanMetricsOptions::default(), 1, 0);
            for (at, batch) in plain.iter().enumerate() {
                metrics.batch(batch, at as i64);
            }
            black_box(metrics.stats())
        });
    });
    let reader = RunReader::new(RunNames::default());
    group.bench_function("runs/fold", |bencher| {
        bencher.iter(|| {
            let mut book = RunBook::new(BookLimits::default(), Vec::new(), 0);
            of_runs
                .iter()
                .for_each(|batch| reader.span_batch(batch, &mut book));
            black_box(book.len())
        });
    });
    group.throughput(Throughput::Elements(BATCHES));
    group.bench_function("runs/look", |bencher| {
        bencher.iter(|| {
            plain
                .iter()
                .filter(|batch| reader.concerns_spans(batch))
                .count()
        });
    });
    group.finish();
}

criterion_group!(benches, derived);
criterion_main!(benches);
