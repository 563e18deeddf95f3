//! What a log line and a span cost from a filled batch to a segment: append and commit (encode, log,
//! head), then seal, in a store without files. Processor time of the whole process, best of three.
//!
//! `cargo run --release -p chronolith-engine --example row_ingest [ROWS]`, a million by default.

use std::error::Error;
use std::sync::Arc;
use std::time::Instant;

use chronolith_engine::model::{
    AttributeValue, Labels, SpanId, SpanKind, SpanStatus, Stream, TimestampNs, TraceId,
};
use chronolith_engine::rows::{LogBatch, SpanBatch, SpanFields};
use chronolith_engine::{RequestContext, Store, StoreOptions};

const ROWS_PER_REQUEST: usize = 5_000;
const STREAMS: usize = 20;

fn stream(number: usize) -> Result<Arc<Stream>, Box<dyn Error>> {
    let name = format!("service-{number}");
    Ok(Arc::new(Stream {
        labels: Labels::from_pairs([("service_name", name.as_str())])?,
        resource: vec![("service.name".into(), AttributeValue::String(name))],
        ..Stream::default()
    }))
}

fn random(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}

fn ids(state: &mut u64) -> ([u8; 16], [u8; 8]) {
    let mut trace = [0; 16];
    trace[..8].copy_from_slice(&random(state).to_le_bytes());
    trace[8..].copy_from_slice(&random(state).to_le_bytes());
    (trace, random(state).to_le_bytes())
}

fn logs(request: usize, streams: &[Arc<Stream>], state: &mut u64) -> LogBatch {
    let mut batch = LogBatch::new();
    streams.iter().for_each(|stream| {
        batch.stream(Arc::clone(stream));
    });
    for row in 0..ROWS_PER_REQUEST {
        let number = request * ROWS_PER_REQUEST + row;
        let (trace, span) = ids(state);
        let body = format!(
            "GET /api/v1/items/{} took {} ms for user-{:08x}: {} rows from partition {}",
            number % 977,
            random(state) % 1000,
            random(state) as u32,
            random(state) % 10_000,
            number % 64,
        );
        let mut line = batch.row(
            (number % STREAMS) as u32,
            TimestampNs(number as i64 * 1_000_000),
        );
        line.severity(9);
        line.ids(Some(TraceId(trace)), Some(SpanId(span)));
        line.finish_text("INFO", &body, "", |writer| {
            writer.int("http.status_code", 200);
            writer.str("http.method", "GET");
        });
    }
    batch
}

fn spans(request: usize, streams: &[Arc<Stream>], state: &mut u64) -> SpanBatch {
    let mut batch = SpanBatch::new();
    streams.iter().for_each(|stream| {
        batch.stream(Arc::clone(stream));
    });
    let (mut trace, mut root) = ids(state);
    for row in 0..ROWS_PER_REQUEST {
        let number = request * ROWS_PER_REQUEST + row;
        let span = random(state).to_le_bytes();
        if row % 10 == 0 {
            (trace, root) = ids(state);
        }
        let is_root = row % 10 == 0;
        let fields = SpanFields {
            trace_id: TraceId(trace),
            span_id: SpanId(if is_root { root } else { span }),
            parent_span_id: (!is_root).then_some(SpanId(root)),
            trace_state: "",
            name: ["GET /items", "select items", "render"][number % 3],
            kind: SpanKind::Server,
            time: TimestampNs(number as i64 * 1_000_000),
            duration_ns: (random(state) % 100_000_000) as i64,
            status: SpanStatus::Ok,
            status_message: "",
        };
        batch
            .row((number % STREAMS) as u32, &fields)
            .attributes(|writer| {
                writer.int("http.status_code", 200);
                writer.str("http.route", "/items/{id}");
                writer.str("host", "web-3");
            });
    }
    batch
}

/// Processor time of all threads of this process in nanoseconds (Linux; elsewhere wall time).
fn cpu_ns(start: Instant) -> u64 {
    let ticks = std::fs::read_to_string("/proc/self/stat")
        .ok()
        .and_then(|stat| {
            let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
            let user: u64 = fields.next()?.parse().ok()?;
            let system: u64 = fields.next()?.parse().ok()?;
            Some((user + system) * 10_000_000)
        });
    ticks.unwrap_or_else(|| start.elapsed().as_nanos() as u64)
}

/// Nanoseconds per row for commits and for the seal.
fn run(rows: usize, is_spans: bool) -> Result<(f64, f64), Box<dyn Error>> {
    let options = StoreOptions {
        background: false,
        memory_bytes_max: 8 << 30,
        ..StoreOptions::default()
    };
    let store = Store::in_memory(options)?;
    let context = RequestContext::new();
    let streams: Vec<_> = (0..STREAMS).map(stream).collect::<Result<_, _>>()?;
    let mut state = 0x9e37_79b9_7f4a_7c15;
    let requests = rows.div_ceil(ROWS_PER_REQUEST);
    let start = Instant::now();
    let mut commits = 0;
    for request in 0..requests {
        let mut append = store.begin(&context)?;
        if is_spans {
            append.spans(spans(request, &streams, &mut state));
        } else {
            append.logs(logs(request, &streams, &mut state));
        }
        // Ticks of 10 ms are too coarse for one commit: wall time, nobody else uses this process.
        let before = Instant::now();
        append.commit()?;
        commits += before.elapsed().as_nanos() as u64;
    }
    let before = cpu_ns(start);
    store.flush()?;
    let seal = cpu_ns(start) - before;
    let rows = (requests * ROWS_PER_REQUEST) as f64;
    Ok((commits as f64 / rows, seal as f64 / rows))
}

fn main() -> Result<(), Box<dyn Error>> {
    let rows = match std::env::args().nth(1) {
        Some(rows) => rows.parse()?,
        None => 1_000_000,
    };
    for (what, is_spans) in [("log line", false), ("span", true)] {
        let mut best = (f64::MAX, f64::MAX);
        for _ in 0..3 {
            let (commit, seal) = run(rows, is_spans)?;
            best = (best.0.min(commit), best.1.min(seal));
        }
        println!("ns per {what}: {:.0} commit, {:.0} seal", best.0, best.1);
    }
    Ok(())
}
