//! The line protocol, from text to an append, for lines as Telegraf sends them: 10 fields of a core,
//! 8 of memory, 7 of a disk.
//!
//! `read` takes the lines apart; `prepare` does all that a request does before the commit, with series
//! that are known. Lines per CPU second follow from the elements per second: all runs on one thread.

use std::fmt::Write as _;
use std::hint::black_box;

use chronolith_engine::model::TimestampNs;
use chronolith_engine::{RequestContext, Store, StoreOptions};
use chronolith_server::ingest::influx::line::{FieldValue, Reader};
use chronolith_server::ingest::influx::{WriteOptions, prepare};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

const HOSTS: usize = 100;
const CORES: usize = 8;
/// Lines of a request.
const LINES: usize = HOSTS * (CORES + 2);

/// Digits as measured values have them: percentages with 14, sizes with none.
fn request() -> String {
    let mut text = String::new();
    let mut state = 7_u64;
    let mut next = move || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        state >> 33
    };
    for host in 0..HOSTS {
        let tags = format!("datacenter=eu-central-1,environment=production,host=web-{host:03}");
        let time = 1_763_600_400_000_000_000_u64;
        for core in 0..CORES {
            let _ = write!(text, "cpu,cpu=cpu{core},{tags} ");
            for field in [
                "user",
                "system",
                "idle",
                "nice",
                "iowait",
                "irq",
                "softirq",
                "steal",
                "guest",
                "guest_nice",
            ] {
                let comma = if field == "user" { "" } else { "," };
                let percent = (next() % 1000) as f64 / 9.99;
                let _ = write!(text, "{comma}usage_{field}={percent}");
            }
            let _ = writeln!(text, " {time}");
        }
        let _ = write!(text, "mem,{tags} ");
        for field in [
            "active",
            "available",
            "buffered",
            "cached",
            "free",
            "inactive",
            "total",
            "used",
        ] {
            let comma = if field == "active" { "" } else { "," };
            let _ = write!(text, "{comma}{field}={}i", next() * 4096);
        }
        let _ = writeln!(text, " {time}");
        let _ = write!(
            text,
            "disk,device=nvme0n1p1,fstype=ext4,mode=rw,path=/,{tags} "
        );
        for field in [
            "free",
            "inodes_free",
            "inodes_total",
            "inodes_used",
            "total",
            "used",
        ] {
            let _ = write!(text, "{field}={}i,", next() * 4096);
        }
        let _ = writeln!(
            text,
            "used_percent={} {time}",
            (next() % 1000) as f64 / 10.0
        );
    }
    text
}

fn read(text: &str) -> f64 {
    let mut reader = Reader::new(text.as_bytes());
    let mut fields = Vec::new();
    let mut sum = 0.0;
    while let Some(line) = reader.next_line(&mut fields) {
        let line = line.expect("a good line");
        sum += line.time.unwrap_or(0) as f64;
        for field in &fields {
            if let FieldValue::Number(value) = field.value {
                sum += value;
            }
        }
    }
    sum
}

fn influx(criterion: &mut Criterion) {
    let store = Store::in_memory(StoreOptions::default()).expect("a store");
    let context = RequestContext::new();
    let text = request();
    let options = WriteOptions {
        database: "telegraf",
        unit_ns: 1,
        now: TimestampNs(0),
        latest: TimestampNs(i64::MAX),
    };
    let (first, counts) = prepare(&store, &context, text.as_bytes(), &options).expect("a store");
    assert_eq!((counts.lines, counts.refused), (LINES as u64, 0));
    first.commit().expect("stored");
    let mut group = criterion.benchmark_group("influx");
    group.throughput(Throughput::Elements(LINES as u64));
    group.bench_function("read", |b| b.iter(|| read(black_box(&text))));
    group.bench_function("prepare", |b| {
        b.iter(|| {
            let prepared = prepare(&store, &context, black_box(text.as_bytes()), &options);
            prepared.expect("a store").1.samples
        });
    });
    group.finish();
    println!(
        "{} bytes, {} samples in {LINES} lines",
        text.len(),
        counts.samples
    );
}

criterion_group!(benches, influx);
criterion_main!(benches);
