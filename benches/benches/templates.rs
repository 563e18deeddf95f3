//! Size and speed of text blocks as templates, against zstd alone, on generated log lines.
//!
//! The lines are those of a small shop: JSON access logs, logfmt of a job queue, sentences with ids and
//! addresses; numbers are as random as ids, times and sizes are. A run prints bytes per line for each
//! effort and block size, then criterion's speeds. `docs/formats/codecs.md`, section "Templates",
//! describes the bytes.

use chronolith_engine::codec::templates::{TemplateEncoder, TextBlock, TextColumn, TextSearch};
use chronolith_engine::codec::{EncodeEffort, strings};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use std::hint::black_box;
use std::time::Duration;

const LINES: usize = 20_000;

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

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    fn of<T: Copy>(&mut self, values: &[T]) -> T {
        values[self.below(values.len() as u64) as usize]
    }
}

/// Lines sorted as a segment sorts them: all of one service before the next.
fn log_lines(count: usize) -> Vec<String> {
    let mut random = Random(5);
    (0..count)
        .map(|at| {
            let r = &mut random;
            match at * 10 / count {
                0..4 => format!(
                    "{{\"method\":\"{}\",\"path\":\"{}/{}\",\"status\":{},\"duration_ms\":{}.{:03},\"bytes\":{},\"user\":\"u{}\",\"client\":\"10.{}.{}.{}\"}}",
                    r.of(&["GET", "GET", "POST"]),
                    r.of(&["/api/v1/cart", "/api/v1/orders", "/login", "/health"]),
                    r.below(100_000),
                    r.of(&[200, 200, 200, 200, 200, 302, 404, 500]),
                    r.below(90),
                    r.below(1000),
                    r.below(6000),
                    r.below(50_000),
                    r.below(4),
                    r.below(256),
                    r.below(256),
                ),
                4..7 => format!(
                    "caller=queue.go:{} job={:08x} attempt={} queue=\"{}\" took={}.{:02}ms msg=\"job {}\"",
                    40 + r.below(60),
                    r.next() as u32,
                    1 + r.below(4),
                    r.of(&["mail", "export", "resize"]),
                    r.below(400),
                    r.below(100),
                    if r.below(100) == 0 { "failed permanently" } else { "finished" },
                ),
                7 => format!(
                    "[instance: {:08x}-{:04x}-4{:03x}-b300-{:012x}] {}",
                    r.next() as u32,
                    r.below(65_536),
                    r.below(4096),
                    r.next() >> 16,
                    r.of(&["Creating image", "Instance spawned successfully.", "VM Paused (Lifecycle Event)"]),
                ),
                8 => format!(
                    "Received block blk_{}{} of size {} from /10.250.{}.{}",
                    r.of(&["", "-"]),
                    r.next() >> 2,
                    r.below(70_000_000),
                    r.below(20),
                    r.below(256),
                ),
                _ => format!(
                    "session of {}{} opened for uid={} rhost={}.{}.{}.{}",
                    r.of(&["ann", "bob", "eve", "mallory", "peggy"]),
                    r.of(&["", "son", "by", "smith"]),
                    r.below(1000),
                    r.below(256),
                    r.below(256),
                    r.below(256),
                    r.below(256),
                ),
            }
        })
        .collect()
}

fn bench_templates(criterion: &mut Criterion) {
    let lines = log_lines(LINES);
    let mut bytes = Vec::new();
    let mut ends = Vec::new();
    for line in &lines {
        bytes.extend_from_slice(line.as_bytes());
        ends.push(bytes.len() as u32);
    }
    let column = TextColumn::new(&ends, &bytes);
    let per_line = |size: usize| size as f64 / LINES as f64;
    let mut group = criterion.benchmark_group("codec/templates");
    group.throughput(Throughput::Elements(LINES as u64));
    for (name, effort) in EFFORTS {
        let mut block = Vec::new();
        TemplateEncoder::default().encode(column, effort, &mut block);
        let mut plain = Vec::new();
        strings::encode(&lines, effort, &mut plain);
        println!(
            "size {name}: {:.2} bytes a line of {:.1}; zstd alone {:.2}",
            per_line(block.len()),
            per_line(bytes.len()),
            per_line(plain.len()),
        );
        group.bench_function(BenchmarkId::new("encode", name), |bencher| {
            let mut encoder = TemplateEncoder::default();
            let mut out = Vec::new();
            bencher.iter(|| {
                out.clear();
                encoder.encode(black_box(column), effort, &mut out);
                out.len()
            });
        });
        group.bench_function(BenchmarkId::new("decode", name), |bencher| {
            bencher.iter(|| strings::decode(black_box(&block), LINES, bytes.len()));
        });
        group.bench_function(BenchmarkId::new("decode zstd alone", name), |bencher| {
            bencher.iter(|| strings::decode(black_box(&plain), LINES, bytes.len()));
        });
    }
    let mut block = Vec::new();
    TemplateEncoder::default().encode(column, EncodeEffort::Flush, &mut block);
    for (name, search) in [
        ("phrase", TextSearch::literal(b"job failed permanently")),
        ("slot", TextSearch::regex("took=[0-9]{3,}\\.[0-9]+ms")),
        ("case", TextSearch::literal_ignoring_case("VM PAUSED")),
        ("digits", TextSearch::literal(b"777")),
    ] {
        let search = search.expect("a pattern of ours");
        group.bench_function(BenchmarkId::new("count", name), |bencher| {
            bencher.iter(|| {
                let text = TextBlock::open(black_box(&block), LINES, bytes.len());
                text.and_then(|text| text.count_matches(&search))
            });
        });
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_millis(800))
        .sample_size(20);
    targets = bench_templates
}
criterion_main!(benches);
