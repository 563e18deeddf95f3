//! Speed and size of the write-ahead log.
//!
//! Records have the shape of a remote-write body: 5,000 samples, one per series, 35 hosts of some
//! 142 series (counters with and without decimals, page-multiple gauges, full-precision walks,
//! small integers, constants, histogram buckets), each host with its own scrape time. The log is
//! written to a real directory (`CHRONOLITH_BENCH_DIR`, else the temporary one), and a bare
//! `fdatasync` of as many bytes is timed beside it: that is the floor of a commit.

use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use chronolith_engine::io::{Disk, FileSystem as _, SharedFileSystem};
use chronolith_engine::model::{Labels, SeriesRef, TimestampNs};
use chronolith_engine::wal::{
    Applier, LogStart, Logged, RecordRef, SampleRows, Samples, Wal, WalOptions, replay,
};
use chronolith_engine::{SyncMode, TenantId};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

const SAMPLES: usize = 5000;
const SERIES_PER_HOST: usize = 142;
const STEP_NS: i64 = 10_000_000_000;

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
}

/// The fleet whose scrapes become records.
struct Fleet {
    random: Random,
    values: Vec<f64>,
    scrape: i64,
}

impl Fleet {
    fn new() -> Self {
        let mut random = Random(1);
        let values = (0..SAMPLES)
            .map(|_| (random.unit() * 1e6).round())
            .collect();
        Self {
            random,
            values,
            scrape: 0,
        }
    }

    fn series() -> Vec<SeriesRef> {
        (0..SAMPLES as u64).map(|id| SeriesRef(id + 1)).collect()
    }

    /// The next scrape of all hosts.
    fn scrape(&mut self) -> Samples {
        self.scrape += 1;
        for (index, value) in self.values.iter_mut().enumerate() {
            let unit = self.random.unit();
            match index % SERIES_PER_HOST {
                // CPU seconds: counters with two decimals.
                0..32 => *value = (*value * 100.0 + (unit * 1000.0).floor()).round() / 100.0,
                // Bytes and packets: integer counters.
                32..60 => *value += (unit * 1e5).floor(),
                // Memory: multiples of a page.
                60..75 => *value = ((*value + (unit - 0.5) * 1e6) / 4096.0).round() * 4096.0,
                // Loads and temperatures.
                75..83 => *value = ((*value + unit - 0.5) * 10.0).round() / 10.0,
                // Full precision.
                83..91 => *value += unit - 0.5,
                // Small integers that rarely change, and constants.
                91..106 => {
                    if unit < 0.02 {
                        *value = (unit * 1000.0).floor();
                    }
                }
                // Histogram buckets.
                _ => *value += (unit * 4.0).floor(),
            }
        }
        let start = 1_790_000_000_000_000_000 + self.scrape * STEP_NS;
        let time = |index: usize| start + (index / SERIES_PER_HOST) as i64 * 37_000_000;
        Samples {
            series: Self::series(),
            times: (0..SAMPLES).map(time).collect(),
            starts: Vec::new(),
            values: self.values.clone(),
        }
    }
}

fn record<'a>(tenant: &'a TenantId, rows: SampleRows<'a>) -> RecordRef<'a> {
    let mut record = RecordRef::new(tenant, TimestampNs(1));
    record.samples = rows;
    record
}

fn encode(criterion: &mut Criterion) {
    let tenant = TenantId::default();
    let mut fleet = Fleet::new();
    let scrapes: Vec<Samples> = (0..16).map(|_| fleet.scrape()).collect();
    let bytes: usize = scrapes
        .iter()
        .map(|s| {
            record(&tenant, s.as_rows())
                .encode()
                .map_or(0, |e| e.size())
        })
        .sum();
    let per_sample = bytes as f64 / (scrapes.len() * SAMPLES) as f64;
    println!("wal/size/scrape_5000: {per_sample:.3} bytes per sample");

    // CPU time of this thread, which is what a busy machine does not disturb.
    let rounds = if measures() { 2000 } else { 1 };
    let before = thread_cpu_ns();
    for round in 0..rounds {
        black_box(record(&tenant, scrapes[round % scrapes.len()].as_rows()).encode()).ok();
    }
    if let (Some(before), Some(after)) = (before, thread_cpu_ns()) {
        let per_sample = (after - before) as f64 / (rounds * SAMPLES) as f64;
        println!("wal/encode/scrape_5000: {per_sample:.1} ns of CPU per sample");
    }

    let mut group = criterion.benchmark_group("wal/encode");
    group.throughput(Throughput::Elements(SAMPLES as u64));
    let mut at = 0;
    group.bench_function("scrape_5000", |bencher| {
        bencher.iter(|| {
            at = (at + 1) % scrapes.len();
            black_box(record(&tenant, scrapes[at].as_rows()).encode())
        });
    });
    group.finish();

    let labels: Vec<_> = (0..SAMPLES as u64)
        .map(|id| {
            let host = format!("host-{:04}", id / SERIES_PER_HOST as u64);
            let name = format!("node_metric_{}_total", id % SERIES_PER_HOST as u64);
            let pairs = [
                ("__name__", name.as_str()),
                ("instance", host.as_str()),
                ("job", "node"),
                ("region", "eu-central-1"),
                ("cpu", "0"),
            ];
            (
                SeriesRef(id + 1),
                Labels::from_pairs(pairs).unwrap_or_default(),
            )
        })
        .collect();
    let mut first = record(&tenant, scrapes[0].as_rows());
    first.series = &labels;
    let size = first.encode().map_or(0, |e| e.size());
    let added = (size - bytes / scrapes.len()) as f64 / SAMPLES as f64;
    println!("wal/size/definition: {added:.1} bytes per new series of 5 labels");
}

/// `cargo test` runs benches to see that they work; nothing is measured then.
fn measures() -> bool {
    std::env::args().any(|argument| argument == "--bench")
}

/// CPU time that this thread has used, where Linux tells.
fn thread_cpu_ns() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    text.split(' ').next()?.parse().ok()
}

/// Counts rows, as the head would take them.
struct Count(Arc<AtomicU64>);

impl Applier<u64> for Count {
    fn apply(&mut self, records: Vec<Logged<u64>>) {
        let rows = records.iter().map(|r| r.payload).sum();
        self.0.fetch_add(rows, Ordering::Relaxed);
    }

    fn cut(&mut self, _: u64) {}
}

fn bench_dir() -> PathBuf {
    let base = std::env::var_os("CHRONOLITH_BENCH_DIR").map(PathBuf::from);
    let base = base.unwrap_or_else(std::env::temp_dir);
    base.join(format!("chronolith-bench-wal-{}", std::process::id()))
}

fn quantile(sorted: &[Duration], share: f64) -> Duration {
    let index = (sorted.len() as f64 * share) as usize;
    sorted
        .get(index.min(sorted.len().saturating_sub(1)))
        .copied()
        .unwrap_or_default()
}

/// A bare write and fdatasync of `bytes` into a preallocated file, over and over.
fn bare_sync(dir: &Path, bytes: usize) -> Result<(), Box<dyn std::error::Error>> {
    let file = Disk.create(&dir.join("bare"))?;
    file.preallocate(0, 64 << 20)?;
    file.sync()?;
    let data = vec![7_u8; bytes];
    let mut took = Vec::new();
    let started = Instant::now();
    let mut offset = 0;
    while started.elapsed() < Duration::from_secs(2) && offset + bytes as u64 <= 64 << 20 {
        let write = Instant::now();
        file.write_at(offset, &data)?;
        file.sync()?;
        took.push(write.elapsed());
        offset += bytes as u64;
    }
    took.sort_unstable();
    println!(
        "fdatasync alone, {bytes} bytes: p50 {:?}, p99 {:?} ({} syncs)",
        quantile(&took, 0.5),
        quantile(&took, 0.99),
        took.len()
    );
    Disk.remove(&dir.join("bare"))?;
    Ok(())
}

/// `writers` threads append scrapes for a few seconds, encoding included.
fn group_commit(
    dir: &Path,
    writers: usize,
    sync: SyncMode,
) -> Result<(), Box<dyn std::error::Error>> {
    let dir = dir.join(format!("{writers}-{}", matches!(sync, SyncMode::Always)));
    Disk.create_dir_all(&dir)?;
    let fs: SharedFileSystem = Arc::new(Disk);
    let rows = Arc::new(AtomicU64::new(0));
    let options = WalOptions {
        sync,
        ..WalOptions::default()
    };
    let applier = Count(Arc::clone(&rows));
    let wal = Wal::create(Arc::clone(&fs), &dir, options, applier)?;
    let stop = AtomicBool::new(false);
    let started = Instant::now();
    let mut took: Vec<Duration> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..writers)
            .map(|_| {
                scope.spawn(|| {
                    let tenant = TenantId::default();
                    let mut fleet = Fleet::new();
                    let scrapes: Vec<Samples> = (0..8).map(|_| fleet.scrape()).collect();
                    let mut took = Vec::new();
                    for scrape in scrapes.iter().cycle() {
                        if stop.load(Ordering::Relaxed) {
                            break;
                        }
                        let begin = Instant::now();
                        let appended = record(&tenant, scrape.as_rows())
                            .encode()
                            .and_then(|encoded| wal.append(encoded, SAMPLES as u64, None));
                        if let Err(error) = appended {
                            println!("append failed: {error}");
                            break;
                        }
                        took.push(begin.elapsed());
                    }
                    took
                })
            })
            .collect();
        std::thread::sleep(Duration::from_secs(4));
        stop.store(true, Ordering::Relaxed);
        threads
            .into_iter()
            .flat_map(|t| t.join().unwrap_or_default())
            .collect()
    });
    let elapsed = started.elapsed().as_secs_f64();
    wal.close()?;
    let stats = wal.stats();
    took.sort_unstable();
    println!(
        "group commit, {writers} writers, {sync:?}: {:.2} M samples/s, {:.0} requests/s, p50 {:?}, \
         p99 {:?}; {:.1} requests a sync, sync p50 {:?}, p99 {:?}",
        rows.load(Ordering::Relaxed) as f64 / elapsed / 1e6,
        took.len() as f64 / elapsed,
        quantile(&took, 0.5),
        quantile(&took, 0.99),
        stats.records as f64 / stats.commits.max(1) as f64,
        stats.sync.p50,
        stats.sync.p99,
    );
    drop(wal);
    let mut values = 0.0;
    let (report, _) = replay(&Disk, &dir, LogStart::default(), |_, record| {
        values += record.samples.values.first().copied().unwrap_or_default();
        Ok(())
    })?;
    black_box(values);
    println!(
        "replay of {} records, {:.1} MB: {:.1} M samples/s",
        report.records,
        report.bytes as f64 / 1e6,
        report.rows as f64 / report.took.as_secs_f64() / 1e6
    );
    std::fs::remove_dir_all(&dir)?;
    Ok(())
}

fn commits(_: &mut Criterion) {
    if !measures() {
        return;
    }
    let dir = bench_dir();
    let run = || -> Result<(), Box<dyn std::error::Error>> {
        Disk.create_dir_all(&dir)?;
        bare_sync(&dir, 12 << 10)?;
        bare_sync(&dir, 256 << 10)?;
        for writers in [1, 2, 16] {
            group_commit(&dir, writers, SyncMode::Always)?;
        }
        group_commit(&dir, 2, SyncMode::Off)
    };
    if let Err(error) = run() {
        println!("group commit could not be measured: {error}");
    }
    let _ = std::fs::remove_dir_all(&dir);
}

criterion_group!(benches, encode, commits);
criterion_main!(benches);
