//! What a trace by id costs in a store of many spans, and what merging its segments takes: spans of one
//! day in a store on disk, sealed into many segments, the last of them still in the head. Every tenth
//! span of every hundredth trace arrives a segment late.
//!
//! `cargo run --release -p chronolith-engine --example traces_at_scale [SPANS [SEGMENTS]]`, ten million in
//! a hundred by default. Wall time of one thread without a range of time, all columns read; peak memory
//! is that of the process without mapped files (Linux).

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use chronolith_engine::model::{
    AttributeValue, Labels, SpanId, SpanKind, SpanStatus, Stream, TimeRange, TimestampNs, TraceId,
};
use chronolith_engine::rows::{
    AttributeChoice, SpanBatch, SpanColumnSet, SpanCondition, SpanFields, SpanScanRequest,
};
use chronolith_engine::{RequestContext, Store, StoreOptions};

/// Midnight, 2025-01-01.
const START_NS: u64 = 1_735_689_600_000_000_000;
const DAY_NS: u64 = 86_400_000_000_000;
const SPANS_PER_TRACE: u64 = 10;
const TRACES_PER_REQUEST: u64 = 500;
/// Of so many traces one has a span that comes late.
const LATE_EVERY: u64 = 100;
const SERVICES: u64 = 20;
const LOOK_UPS: u64 = 1_000;

type Outcome<T> = Result<T, Box<dyn Error>>;

/// SplitMix64: ids and values follow from numbers.
fn mix(number: u64) -> u64 {
    let mut z = number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

fn trace_id(trace: u64) -> TraceId {
    let mut id = [0; 16];
    id[..8].copy_from_slice(&mix(2 * trace).to_be_bytes());
    id[8..].copy_from_slice(&mix(2 * trace + 1).to_be_bytes());
    TraceId(id)
}

fn streams() -> Outcome<Vec<Arc<Stream>>> {
    let stream = |number: u64| -> Outcome<Arc<Stream>> {
        let name = format!("service-{number}");
        Ok(Arc::new(Stream {
            labels: Labels::from_pairs([("service_name", name.as_str())])?,
            resource: vec![("service.name".into(), AttributeValue::String(name))],
            ..Stream::default()
        }))
    };
    (0..SERVICES).map(stream).collect()
}

/// Adds span `number` of a trace; `step_ns` is the time between the starts of two traces.
fn push(batch: &mut SpanBatch, trace: u64, number: u64, step_ns: u64) {
    let random = mix(trace * SPANS_PER_TRACE + number);
    let span_id = |number: u64| SpanId((trace * SPANS_PER_TRACE + number + 1).to_be_bytes());
    let fields = SpanFields {
        trace_id: trace_id(trace),
        span_id: span_id(number),
        parent_span_id: (number > 0).then(|| span_id(number / 2)),
        trace_state: "",
        name: ["GET /items", "select items", "render", "publish"][(number % 4) as usize],
        kind: SpanKind::Server,
        time: TimestampNs((START_NS + trace * step_ns + number * 2_000_000) as i64),
        duration_ns: (random % 100_000_000) as i64,
        status: SpanStatus::Ok,
        status_message: "",
    };
    batch
        .row((random % SERVICES) as u32, &fields)
        .attributes(|writer| {
            writer.int("http.status_code", 200);
            writer.str("http.route", "/items/{id}");
            writer.int("db.rows", (random % 500) as i64);
            writer.str("user.id", &format!("user-{}", random % 10_000));
        });
}

/// Fills a store; the last segment's spans stay in the head.
fn fill(store: &Store, traces: u64, segments: u64) -> Outcome<()> {
    let context = RequestContext::new();
    let streams = streams()?;
    let step_ns = DAY_NS / traces;
    let mut late: Vec<u64> = Vec::new();
    for segment in 0..segments {
        let (first, end) = (
            segment * traces / segments,
            (segment + 1) * traces / segments,
        );
        let mut carried = std::mem::take(&mut late);
        for start in (first..end).step_by(TRACES_PER_REQUEST as usize) {
            let mut batch = SpanBatch::new();
            streams.iter().for_each(|stream| {
                batch.stream(Arc::clone(stream));
            });
            for trace in carried.drain(..) {
                push(&mut batch, trace, SPANS_PER_TRACE - 1, step_ns);
            }
            for trace in start..end.min(start + TRACES_PER_REQUEST) {
                let is_late = trace % LATE_EVERY == 0 && segment + 1 < segments;
                for number in 0..SPANS_PER_TRACE - u64::from(is_late) {
                    push(&mut batch, trace, number, step_ns);
                }
                late.extend(is_late.then_some(trace));
            }
            let mut append = store.begin(&context)?;
            append.spans(batch);
            append.commit()?;
        }
        if segment + 1 < segments {
            store.flush()?;
        }
    }
    Ok(())
}

/// How many spans a scan for some traces finds.
fn find(store: &Store, ids: Vec<TraceId>) -> Outcome<usize> {
    let request = SpanScanRequest {
        conditions: vec![SpanCondition::Trace(ids.into())],
        columns: SpanColumnSet::ALL,
        attributes: AttributeChoice::All,
        ..SpanScanRequest::new(Vec::new(), TimeRange::ALL)
    };
    let mut spans = 0;
    for block in store.scan_span_blocks(&RequestContext::new(), &request)? {
        spans += block?.rows;
    }
    Ok(spans)
}

/// Prints quantiles of the times of look-ups of traces that `pick` chooses, `together` at a time.
fn measure(
    store: &Store,
    what: &str,
    together: u64,
    expected: u64,
    pick: impl Fn(u64) -> u64,
) -> Outcome<()> {
    let mut times = Vec::new();
    for number in 0..LOOK_UPS / together {
        let ids = (0..together).map(|at| trace_id(pick(mix(number * together + at))));
        let start = Instant::now();
        let found = find(store, ids.collect())?;
        times.push(start.elapsed());
        if found as u64 != together * expected {
            return Err(format!("{what}: {found} spans, expected {}", together * expected).into());
        }
    }
    times.sort_unstable();
    let quantile = |q: f64| times[((times.len() - 1) as f64 * q) as usize].as_secs_f64() * 1e3;
    println!(
        "{what:<28} median {:>7.3} ms, 99 % {:>7.3} ms, worst {:>7.3} ms",
        quantile(0.5),
        quantile(0.99),
        quantile(1.0)
    );
    Ok(())
}

/// Kilobytes of a line of this process's status.
fn status_kb(name: &str) -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with(name))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

/// Megabytes by which anonymous memory grows while `work` runs, at most.
fn peak_growth_mb(work: impl FnOnce() -> Outcome<()>) -> Outcome<f64> {
    let before = status_kb("RssAnon").unwrap_or(0);
    let (peak, is_done) = (AtomicU64::new(before), AtomicBool::new(false));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !is_done.load(Ordering::Relaxed) {
                peak.fetch_max(status_kb("RssAnon").unwrap_or(0), Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(2));
            }
        });
        let outcome = work();
        is_done.store(true, Ordering::Relaxed);
        outcome
    })?;
    Ok((peak.into_inner() - before) as f64 / 1024.0)
}

fn main() -> Outcome<()> {
    let mut arguments = std::env::args().skip(1);
    let mut number = |default: u64| arguments.next().map_or(Ok(default), |text| text.parse());
    let spans = number(10_000_000)?;
    let segments = number(100)?;
    let traces = spans / SPANS_PER_TRACE;
    let dir = tempfile::tempdir()?;
    let options = StoreOptions {
        background: false,
        memory_bytes_max: 8 << 30,
        ..StoreOptions::default()
    };
    let store = Store::open(dir.path(), options)?;
    let start = Instant::now();
    fill(&store, traces, segments)?;
    println!(
        "{spans} spans, {} segments and the head: {:.1} s to fill",
        store.segments().len(),
        start.elapsed().as_secs_f64()
    );
    let in_head = traces / segments;
    let look_ups = |store: &Store| -> Outcome<()> {
        measure(store, "trace", 1, SPANS_PER_TRACE, |n| n % traces)?;
        measure(store, "trace in the head", 1, SPANS_PER_TRACE, |n| {
            traces - 1 - n % in_head
        })?;
        measure(store, "no such trace", 1, 0, |n| traces + n % traces)?;
        measure(store, "20 traces at once", 20, SPANS_PER_TRACE, |n| {
            n % traces
        })
    };
    look_ups(&store)?;
    store.flush()?;
    let bytes = |store: &Store| store.segments().iter().map(|s| s.bytes).sum::<u64>();
    println!("{:.1} bytes a span", bytes(&store) as f64 / spans as f64);
    let start = Instant::now();
    let growth = peak_growth_mb(|| Ok(store.compact()?))?;
    println!(
        "merged into {} in {:.1} s, at most {growth:.0} MB of memory more; {:.1} bytes a span",
        store.segments().len(),
        start.elapsed().as_secs_f64(),
        bytes(&store) as f64 / spans as f64
    );
    look_ups(&store)?;
    store.close()?;
    Ok(())
}
