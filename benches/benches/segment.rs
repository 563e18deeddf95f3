//! Metrics segments over host metrics and over short-lived pods (see `chronolith_benches::devops`):
//! build, open, select, scan, and bytes per sample, for each effort.
//!
//! `cargo bench -p chronolith-benches --bench segment [-- HOSTS SCRAPES PODS]`; 71 hosts, 2160 scrapes
//! (10,082 series, 21.8 M samples) and 3200 pods (76,800 series, 8.6 M samples) when run by
//! `cargo bench`; a few of each when run as a test. With `INSPECT=1` each segment is described.

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use chronolith_benches::devops::{DevopsSeries, churn, devops};
use chronolith_engine::codec::EncodeEffort;
use chronolith_engine::model::{Generation, SampleColumns, TimeRange};
use chronolith_engine::segment::{
    DecodeCache, MetricBuildOptions, MetricSegmentBuilder, MetricSegmentReader, SegmentBytes,
    SegmentOrigin, inspect,
};
use chronolith_engine::{MatchOp, Matcher, TenantId};

fn main() {
    let numbers: Vec<usize> = std::env::args().filter_map(|a| a.parse().ok()).collect();
    let as_bench = std::env::args().any(|a| a == "--bench");
    let (hosts, scrapes, pods) = match (numbers.as_slice(), as_bench) {
        ([hosts, scrapes, pods, ..], _) => (*hosts, *scrapes, *pods),
        (_, true) => (71, 2160, 3200),
        (_, false) => (2, 300, 5),
    };
    run("devops", &devops(hosts), scrapes);
    run("churn", &churn(pods), 112.min(scrapes));
}

fn run(set: &str, series: &[DevopsSeries], scrapes: usize) {
    let samples: Vec<SampleColumns> = series.iter().map(|s| s.samples(scrapes)).collect();
    let count: usize = samples.iter().map(SampleColumns::len).sum();
    println!("{set}: {} series, {count} samples", series.len());
    for (name, effort) in [
        ("flush", EncodeEffort::Flush),
        ("compact", EncodeEffort::Compact),
        ("cold", EncodeEffort::Cold),
    ] {
        let start = Stopwatch::start();
        let bytes = build(series, &samples, effort);
        report(name, "build", start.elapsed(), count);
        println!(
            "{name:<8} size            {:>10.4} B/sample",
            bytes.len() as f64 / count as f64
        );
        let bytes: SegmentBytes = Arc::new(bytes);
        read(name, &bytes, count);
        if std::env::var_os("INSPECT").is_some() {
            println!("{}", inspect(bytes, name).expect("a segment just built"));
        }
    }
}

fn report(effort: &str, what: &str, elapsed: Duration, count: usize) {
    println!(
        "{effort:<8} {what:<15} {:>10.1} M samples/s",
        count as f64 / elapsed.as_secs_f64() / 1e6
    );
}

fn build(series: &[DevopsSeries], samples: &[SampleColumns], effort: EncodeEffort) -> Vec<u8> {
    let origin = SegmentOrigin::received(TenantId::default(), Generation(1), TimeRange::new(0, 0));
    let options = MetricBuildOptions::with_effort(effort);
    let mut builder = MetricSegmentBuilder::new(Vec::new(), origin, options).expect("memory");
    for (series, samples) in series.iter().zip(samples) {
        builder.begin_series(&series.labels).expect("memory");
        builder.push_samples(samples).expect("memory");
    }
    builder.finish().expect("memory").0
}

fn read(effort: &str, bytes: &SegmentBytes, count: usize) {
    let start = Stopwatch::start();
    let reader = MetricSegmentReader::open(SegmentBytes::clone(bytes), effort).expect("intact");
    println!(
        "{effort:<8} open            {:>10.1} us",
        start.elapsed().as_secs_f64() * 1e6
    );
    let mut out = SampleColumns::default();
    for pass in ["scan, first", "scan, checked"] {
        let mut cache = DecodeCache::new();
        let start = Stopwatch::start();
        let (mut read, mut sum) = (0, 0.0);
        for row in 0..reader.row_count() {
            out.clear();
            reader
                .read(row, TimeRange::ALL, &mut cache, &mut out)
                .expect("intact");
            read += out.values.len();
            sum += out.values.last().copied().unwrap_or(0.0);
        }
        black_box(sum);
        assert_eq!(read, count);
        report(effort, pass, start.elapsed(), count);
    }
    let end = reader.meta().range.end.0;
    let last_5_min = TimeRange::new(end - 300_000_000_000, end);
    let mut cache = DecodeCache::new();
    time(
        effort,
        "read 5 min, a row",
        reader.row_count() as usize,
        || {
            for row in 0..reader.row_count() {
                out.clear();
                reader
                    .read(row, last_5_min, &mut cache, &mut out)
                    .expect("intact");
                black_box(out.values.len());
            }
        },
    );
    time(
        effort,
        "labels, one row",
        reader.row_count() as usize,
        || {
            for row in 0..reader.row_count() {
                black_box(reader.labels(row).expect("intact"));
            }
        },
    );
    time(
        effort,
        "labels, in order",
        reader.row_count() as usize,
        || {
            for labels in reader.labels_of(0..reader.row_count()) {
                black_box(labels.expect("intact"));
            }
        },
    );
    let regex = |value| Matcher::new("instance", MatchOp::Regex, value).expect("a regex");
    for (what, matchers) in [
        (
            "select name",
            vec![Matcher::equal("__name__", "node_load1")],
        ),
        (
            "select name, host",
            vec![
                Matcher::equal("__name__", "node_cpu_seconds_total"),
                Matcher::equal("instance", "host-00001:9100"),
            ],
        ),
        ("select prefix", vec![regex("host-0000.*")]),
        ("select suffix", vec![regex(".*1:9100")]),
    ] {
        time(effort, what, 1, || {
            black_box(reader.select(&matchers, TimeRange::ALL).expect("intact"));
        });
    }
    patterns(effort, bytes, &reader);
}

/// Patterns over a label of many values: found the first time, and again.
fn patterns(effort: &str, bytes: &SegmentBytes, reader: &MetricSegmentReader) {
    let values = reader.label_values("pod", None).expect("intact").len();
    if values == 0 {
        return;
    }
    for pattern in [".*7", ".*-12.*", ".*-12.*[02468]", "svc-1.*x", "[a-z]+-1.*"] {
        let matcher = [Matcher::new("pod", MatchOp::Regex, pattern).expect("a regex")];
        let select = |reader: &MetricSegmentReader| {
            let start = Stopwatch::start();
            let rows = reader.select(&matcher, TimeRange::ALL).expect("intact");
            (start.elapsed(), black_box(rows).len())
        };
        let first = (0..7)
            .map(|_| MetricSegmentReader::open(SegmentBytes::clone(bytes), effort).expect("intact"))
            .map(|reader| select(&reader))
            .min()
            .unwrap_or_default();
        let again = (0..7).map(|_| select(reader)).min().unwrap_or_default();
        println!(
            "{effort:<8} pod=~{pattern:<16} {:>8.1} us first, {:>7.1} us again, {values} values, {} rows",
            first.0.as_secs_f64() * 1e6,
            again.0.as_secs_f64() * 1e6,
            first.1
        );
    }
}

/// Prints the best of five runs, in nanoseconds for each of `per`.
fn time(effort: &str, what: &str, per: usize, mut run: impl FnMut()) {
    let best = (0..5)
        .map(|_| {
            let start = Stopwatch::start();
            run();
            start.elapsed()
        })
        .min()
        .unwrap_or_default();
    println!(
        "{effort:<8} {what:<17} {:>8.0} ns",
        best.as_secs_f64() * 1e9 / per as f64
    );
}

/// CPU time of this thread where the system tells and the run is long enough for its clock, which ticks
/// in milliseconds; else wall time, of which the best of a few short runs is not disturbed by others.
struct Stopwatch {
    wall: Instant,
    cpu_ns: Option<u64>,
}

impl Stopwatch {
    fn start() -> Self {
        // Asking takes microseconds: it stays outside what the wall clock measures.
        let cpu_ns = Self::cpu_ns();
        Self {
            wall: Instant::now(),
            cpu_ns,
        }
    }

    fn cpu_ns() -> Option<u64> {
        let text = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
        text.split_whitespace().next()?.parse().ok()
    }

    fn elapsed(&self) -> Duration {
        let wall = self.wall.elapsed();
        match (self.cpu_ns, Self::cpu_ns()) {
            (Some(start), Some(end)) if wall > Duration::from_millis(20) => {
                Duration::from_nanos(end - start)
            }
            _ => wall,
        }
    }
}
