//! Remote write, from protobuf bytes to an append: what a sample costs once its series is known.
//!
//! `decode` walks the message only; `decode_and_look_up` also hashes the raw labels and finds the
//! series; `prepare` does all that a request does before the commit.

use std::hint::black_box;

use chronolith_engine::{RequestContext, Store, StoreOptions};
use chronolith_server::ingest::append::{TimeLimits, prepare_v1};
use chronolith_server::ingest::write_request::{Item, Row, WriteRequest};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

const SERIES: usize = 1_000;

fn varint(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

fn bytes(out: &mut Vec<u8>, field: u32, payload: &[u8]) {
    varint(out, u64::from(field) << 3 | 2);
    varint(out, payload.len() as u64);
    out.extend_from_slice(payload);
}

/// A request as node_exporter's series make it: eight labels, about 180 bytes of them.
fn request(samples_per_series: usize) -> Vec<u8> {
    let mut request = Vec::new();
    for number in 0..SERIES {
        let instance = format!("host-{:04}.example.net:9100", number / 40);
        let cpu = number.to_string();
        let labels = [
            ("__name__", "node_cpu_seconds_total"),
            ("cluster", "eu-central-1"),
            ("cpu", &cpu),
            ("environment", "production"),
            ("instance", &instance),
            ("job", "node"),
            ("mode", "idle"),
            ("team", "platform"),
        ];
        let mut series = Vec::new();
        for (name, value) in labels {
            let mut label = Vec::new();
            bytes(&mut label, 1, name.as_bytes());
            bytes(&mut label, 2, value.as_bytes());
            bytes(&mut series, 1, &label);
        }
        for index in 0..samples_per_series {
            let mut sample = vec![0x09];
            sample.extend_from_slice(&(number as f64 + index as f64 / 3.0).to_le_bytes());
            sample.push(0x10);
            varint(&mut sample, 1_700_000_000_000 + index as u64 * 15_000);
            bytes(&mut series, 2, &sample);
        }
        bytes(&mut request, 1, &series);
    }
    request
}

fn decode(message: &[u8]) -> f64 {
    let mut sum = 0.0;
    let mut items = WriteRequest::new(message);
    while let Some(item) = items.next_item().expect("a good request") {
        let Item::Series(series) = item else { continue };
        let mut rows = series.rows();
        while let Some(row) = rows.next_row().expect("a good series") {
            if let Row::Sample { value, time_ms, .. } = row {
                sum += value + time_ms as f64;
            }
        }
    }
    sum
}

fn decode_and_look_up(store: &Store, context: &RequestContext, message: &[u8]) -> f64 {
    let mut append = store.begin(context).expect("a writable store");
    let mut sum = 0.0;
    let mut items = WriteRequest::new(message);
    while let Some(item) = items.next_item().expect("a good request") {
        let Item::Series(series) = item else { continue };
        let known = append.lookup(store.raw_key(series.raw_labels));
        sum += known.map_or(0.0, |series| series.0 as f64);
        let mut rows = series.rows();
        while let Some(row) = rows.next_row().expect("a good series") {
            if let Row::Sample { value, time_ms, .. } = row {
                sum += value + time_ms as f64;
            }
        }
    }
    sum
}

fn remote_write(criterion: &mut Criterion) {
    let store = Store::in_memory(StoreOptions::default()).expect("a store");
    let context = RequestContext::new();
    let times = TimeLimits {
        latest_ms: i64::MAX,
    };
    for samples_per_series in [1, 10] {
        let message = request(samples_per_series);
        let first = prepare_v1(&store, &context, &message, times).expect("a good request");
        first.append.commit().expect("stored");
        let name = format!("remote_write/{samples_per_series}_per_series");
        let mut group = criterion.benchmark_group(name);
        group.throughput(Throughput::Elements((SERIES * samples_per_series) as u64));
        group.bench_function("decode", |b| b.iter(|| decode(black_box(&message))));
        group.bench_function("decode_and_look_up", |b| {
            b.iter(|| decode_and_look_up(&store, &context, black_box(&message)));
        });
        group.bench_function("prepare", |b| {
            b.iter(|| {
                let prepared = prepare_v1(&store, &context, black_box(&message), times);
                prepared.expect("a good request").counts
            });
        });
        group.finish();
    }
}

criterion_group!(benches, remote_write);
criterion_main!(benches);
