//! Speed and size of the codecs, by shape of data and by effort.
//!
//! The shapes are those of host metrics: counters with jittery increments, two-decimal counters and
//! gauges, page-multiple memory sizes, full-precision walks, small integers that rarely change,
//! constants. A run prints one line of bytes per sample for each shape and effort, then criterion's
//! elements per second. `docs/formats/codecs.md` describes the encodings.

use chronolith_engine::codec::{EncodeEffort, chunk_stream, floats, integers, strings, timestamps};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use std::hint::black_box;
use std::time::Duration;

/// Samples of a chunk: six hours at 10 seconds.
const COUNT: usize = 2160;

const EFFORTS: [(&str, EncodeEffort); 3] = [
    ("flush", EncodeEffort::Flush),
    ("compact", EncodeEffort::Compact),
    ("cold", EncodeEffort::Cold),
];

/// A small deterministic generator (splitmix64).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Roughly normal with deviation 1.
    fn normal(&mut self) -> f64 {
        ((0..6).map(|_| self.unit()).sum::<f64>() - 3.0) * std::f64::consts::SQRT_2
    }
}

/// `COUNT` values from a state that `next` advances.
fn column<S>(mut state: S, mut next: impl FnMut(&mut S, &mut Random) -> f64) -> Vec<f64> {
    let mut random = Random(1);
    (0..COUNT).map(|_| next(&mut state, &mut random)).collect()
}

fn shapes() -> Vec<(&'static str, Vec<f64>)> {
    let counter = |mean: f64, deviation: f64| {
        column(1e9, move |value, random| {
            *value += (mean + deviation * random.normal()).max(0.0).round();
            *value
        })
    };
    vec![
        ("counter_packets", counter(400.0, 20.0)),
        ("counter_bytes", counter(2e7, 4e6)),
        (
            "counter_cents",
            column(1e8, |cents, random| {
                *cents += (50.0 + 7.5 * random.normal()).max(0.0).round();
                *cents / 100.0
            }),
        ),
        (
            "gauge_2_decimals",
            column(8.0, |value, random| {
                *value = (*value + 0.2 * random.normal()).clamp(0.0, 16.0);
                (*value * 100.0).round() / 100.0
            }),
        ),
        (
            "gauge_pages",
            column(3e10, |value, random| {
                *value = (*value + 2e7 * random.normal()).clamp(1e8, 6e10);
                (*value / 4096.0).round() * 4096.0
            }),
        ),
        (
            "gauge_full",
            column(50.0, |value, random| {
                *value = (*value + random.normal()).clamp(0.0, 100.0);
                *value
            }),
        ),
        (
            "rare_integers",
            column(3.0, |value, random| {
                if random.unit() < 0.05 {
                    *value = (random.next() % 64) as f64;
                }
                *value
            }),
        ),
        ("constant", vec![68_719_476_736.0; COUNT]),
    ]
}

fn bench_floats(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("codec/floats");
    group.throughput(Throughput::Elements(COUNT as u64));
    for (shape, values) in shapes() {
        for (name, effort) in EFFORTS {
            let mut block = Vec::new();
            floats::encode(&values, effort, &mut block);
            println!(
                "size {shape} {name}: {:.3} B/sample",
                block.len() as f64 / COUNT as f64
            );
            let mut out = Vec::with_capacity(2 * block.len());
            group.bench_function(
                BenchmarkId::new(format!("{shape}/{name}"), "encode"),
                |bencher| {
                    bencher.iter(|| {
                        out.clear();
                        floats::encode(black_box(&values), effort, &mut out);
                        out.len()
                    });
                },
            );
            let mut out = Vec::with_capacity(COUNT);
            group.bench_function(
                BenchmarkId::new(format!("{shape}/{name}"), "decode"),
                |bencher| {
                    bencher.iter(|| {
                        out.clear();
                        floats::decode(black_box(&block), COUNT, &mut out).expect("intact block");
                        out[COUNT - 1]
                    });
                },
            );
        }
    }
    group.finish();
}

fn bench_stats(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("codec/stats");
    group.throughput(Throughput::Elements(COUNT as u64));
    let (_, values) = shapes().swap_remove(0);
    group.bench_function("of", |bencher| {
        bencher.iter(|| floats::Stats::of(black_box(&values)));
    });
    group.finish();
}

fn bench_stream(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("codec/stream");
    group.throughput(Throughput::Elements(COUNT as u64));
    for (shape, values) in shapes() {
        let fill = |buffer: Vec<u8>| {
            let mut appender = chunk_stream::Appender::with_buffer(buffer);
            for (index, &value) in values.iter().enumerate() {
                let timestamp = 1_700_000_000_000_000_000 + index as i64 * 10_000_000_000;
                appender.append(black_box(timestamp), value);
            }
            appender
        };
        let chunk = fill(Vec::new());
        let size = chunk.bytes().len() as f64 / COUNT as f64;
        println!("size {shape} stream: {size:.3} B/sample, timestamps included");
        let mut buffer = Vec::new();
        group.bench_function(BenchmarkId::new(shape, "append"), |bencher| {
            bencher.iter(|| {
                buffer = fill(std::mem::take(&mut buffer)).finish();
                buffer.len()
            });
        });
        let (mut times, mut out) = (Vec::with_capacity(COUNT), Vec::with_capacity(COUNT));
        group.bench_function(BenchmarkId::new(shape, "read"), |bencher| {
            bencher.iter(|| {
                times.clear();
                out.clear();
                chunk_stream::decode(black_box(chunk.bytes()), COUNT, &mut times, &mut out)
                    .expect("intact chunk");
                out[COUNT - 1]
            });
        });
    }
    group.finish();
}

fn bench_integers_and_times(criterion: &mut Criterion) {
    let mut random = Random(2);
    let start = 1_700_000_000_000_000_000_i64;
    let mut jitter = |ms: u64| -> i64 { (random.next() % (2 * ms + 1)) as i64 * 1_000_000 };
    let columns: Vec<(&str, Vec<i64>)> = vec![
        (
            "grid",
            (0..COUNT as i64)
                .map(|at| start + at * 10_000_000_000)
                .collect(),
        ),
        (
            "jitter_1_ms",
            (0..COUNT as i64)
                .map(|at| start + at * 10_000_000_000 + jitter(1))
                .collect(),
        ),
        (
            "jitter_50_ms",
            (0..COUNT as i64)
                .map(|at| start + at * 10_000_000_000 + jitter(50))
                .collect(),
        ),
    ];
    let mut group = criterion.benchmark_group("codec/timestamps");
    group.throughput(Throughput::Elements(COUNT as u64));
    for (shape, values) in columns {
        let mut block = Vec::new();
        timestamps::encode(&values, EncodeEffort::Compact, &mut block);
        println!(
            "size times {shape}: {:.4} B/sample",
            block.len() as f64 / COUNT as f64
        );
        let mut out = Vec::with_capacity(COUNT);
        group.bench_function(BenchmarkId::new(shape, "decode"), |bencher| {
            bencher.iter(|| {
                out.clear();
                timestamps::decode(black_box(&block), COUNT, &mut out).expect("intact block");
                out[COUNT - 1]
            });
        });
        let mut block = Vec::new();
        integers::encode(&values, EncodeEffort::Flush, &mut block);
        group.bench_function(BenchmarkId::new(shape, "decode as integers"), |bencher| {
            bencher.iter(|| {
                out.clear();
                integers::decode(black_box(&block), COUNT, &mut out).expect("intact block");
                out[COUNT - 1]
            });
        });
    }
    group.finish();
}

fn bench_strings(criterion: &mut Criterion) {
    let mut random = Random(3);
    let lines: Vec<String> = (0..2000)
        .map(|at| {
            let (user, ms) = (random.next() % 5000, random.next() % 900);
            let path = ["/api/query", "/api/write", "/login"][at % 3];
            format!("level=info msg=\"request served\" path={path} user={user} duration={ms}ms")
        })
        .collect();
    let total: usize = lines.iter().map(String::len).sum();
    let mut group = criterion.benchmark_group("codec/strings");
    group.throughput(Throughput::Bytes(total as u64));
    for (name, effort) in EFFORTS {
        let mut block = Vec::new();
        strings::encode(&lines, effort, &mut block);
        println!(
            "size lines {name}: ratio {:.1}",
            total as f64 / block.len() as f64
        );
        group.bench_function(
            BenchmarkId::new("log_lines", format!("{name}/encode")),
            |bencher| {
                bencher.iter(|| {
                    let mut out = Vec::new();
                    strings::encode(black_box(&lines), effort, &mut out);
                    out.len()
                });
            },
        );
        group.bench_function(
            BenchmarkId::new("log_lines", format!("{name}/decode")),
            |bencher| {
                bencher.iter(|| strings::decode(black_box(&block), lines.len(), total));
            },
        );
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_millis(800))
        .sample_size(20);
    targets = bench_floats, bench_stats, bench_stream, bench_integers_and_times, bench_strings
}
criterion_main!(benches);
