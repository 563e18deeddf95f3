//! The store end to end: define and commit, seal, merge, scan, reopen, on the fleet of
//! [`chronolith_benches::devops`], with wall time and the process' CPU time.
//!
//! `cargo bench -p chronolith-benches --bench store -- [hosts] [steps] [threads]`; without `--bench`
//! (under `cargo test`) a small fleet proves that it runs. Data is made before the clock starts.

use std::error::Error;
use std::time::Instant;

use chronolith_benches::devops::devops;
use chronolith_benches::usage::process_cpu_seconds;
use chronolith_engine::model::{SampleColumns, TimeRange, TimestampNs};
use chronolith_engine::{RawSeriesKey, RequestContext, ScanRequest, Store, StoreOptions, SyncMode};

/// Hosts whose series travel in one request: about 2,000 samples.
const HOSTS_PER_REQUEST: usize = 14;

type Outcome<T = ()> = Result<T, Box<dyn Error>>;

/// Runs `work` on `samples` samples and prints what it took.
fn measure<T>(name: &str, samples: usize, work: impl FnOnce() -> Outcome<T>) -> Outcome<T> {
    let (wall, cpu) = (Instant::now(), process_cpu_seconds());
    let result = work()?;
    let (wall, cpu) = (wall.elapsed().as_secs_f64(), process_cpu_seconds() - cpu);
    let rate = |seconds: f64| samples as f64 / seconds.max(1e-9) / 1e6;
    println!(
        "{name:32} {wall:8.3} s  {cpu:7.2} CPU s  {:8.2} M samples/s  {:8.2} M samples/CPU s",
        rate(wall),
        rate(cpu)
    );
    Ok(result)
}

struct Fleet {
    keys: Vec<RawSeriesKey>,
    labels: Vec<chronolith_engine::model::Labels>,
    columns: Vec<SampleColumns>,
    series_per_host: usize,
    steps: usize,
}

impl Fleet {
    fn samples(&self) -> usize {
        self.columns.iter().map(SampleColumns::len).sum()
    }

    fn hosts(&self) -> usize {
        self.columns.len() / self.series_per_host
    }

    /// Sends every step of every host, a group of hosts a request, as remote write does.
    fn send(&self, store: &Store, threads: usize) -> Outcome {
        let groups: Vec<usize> = (0..self.hosts()).step_by(HOSTS_PER_REQUEST).collect();
        std::thread::scope(|scope| {
            let senders: Vec<_> = (0..threads)
                .map(|thread| {
                    let groups = &groups;
                    scope.spawn(move || {
                        for step in 0..self.steps {
                            for group in groups.iter().skip(thread).step_by(threads) {
                                self.send_step(store, *group, step)
                                    .map_err(|e| e.to_string())?;
                            }
                        }
                        Ok::<(), String>(())
                    })
                })
                .collect();
            senders
                .into_iter()
                .try_for_each(|sender| match sender.join() {
                    Ok(sent) => sent.map_err(Into::into),
                    Err(_) => Err("a sender panicked".into()),
                })
        })
    }

    fn send_step(&self, store: &Store, host: usize, step: usize) -> chronolith_engine::Result<()> {
        let mut append = store.begin(&RequestContext::new())?;
        let end = (host + HOSTS_PER_REQUEST).min(self.hosts()) * self.series_per_host;
        for number in host * self.series_per_host..end {
            let columns = &self.columns[number];
            let Some(time) = columns.timestamps.get(step) else {
                continue;
            };
            let series = match append.lookup(self.keys[number]) {
                Some(series) => series,
                None => append.define(Some(self.keys[number]), &self.labels[number])?,
            };
            append.sample(series, TimestampNs(*time), columns.values[step]);
        }
        append.commit().map(|_| ())
    }
}

fn scan_all(store: &Store) -> Outcome<usize> {
    let request = ScanRequest::new(vec![], TimeRange::ALL);
    let scan = store.scan_metrics(&RequestContext::new(), &request)?;
    let (mut count, mut bits) = (0, 0_u64);
    let mut columns = SampleColumns::default();
    for index in 0..scan.len() {
        scan.read(index, TimeRange::ALL, &mut columns)?;
        count += columns.len();
        bits ^= columns
            .values
            .iter()
            .fold(0, |all, value| all ^ value.to_bits());
    }
    std::hint::black_box(bits);
    Ok(count)
}

fn run(fleet: &Fleet, sync: SyncMode, threads: usize) -> Outcome {
    let samples = fleet.samples();
    let dir = tempfile::tempdir()?;
    let options = || StoreOptions {
        sync,
        ..StoreOptions::default()
    };
    let store = Store::open(dir.path(), options())?;
    println!("\nsync {sync:?}, {threads} threads");
    measure("append (define, commit)", samples, || {
        fleet.send(&store, threads)
    })?;
    let stats = store.stats();
    println!(
        "{:32} {} segments, head {} samples of {} series in {} bytes ({:.2} a sample), index {} ({} a series)",
        "",
        stats.segments,
        stats.head_samples,
        stats.head_series,
        stats.head_bytes,
        stats.head_bytes as f64 / stats.head_samples.max(1) as f64,
        stats.index_bytes,
        stats.index_bytes / stats.head_series.max(1),
    );
    if let Some(wal) = &stats.wal {
        println!(
            "{:32} log: {} commits, {:.2} bytes a sample, sync p50 {:?} p99 {:?}",
            "",
            wal.commits,
            wal.bytes_written as f64 / samples as f64,
            wal.sync.p50,
            wal.sync.p99
        );
    }
    let found = measure("scan before the seal", samples, || scan_all(&store))?;
    assert_eq!(found, samples, "before the seal");
    store.close()?;
    let store = measure("reopen (replay)", stats.head_samples as usize, || {
        Ok(Store::open(dir.path(), options())?)
    })?;
    measure("seal", store.stats().head_samples as usize, || {
        Ok(store.flush()?)
    })?;
    measure("scan sealed", samples, || scan_all(&store))?;
    measure("merge to the final form", samples, || Ok(store.compact()?))?;
    let found = measure("scan merged", samples, || scan_all(&store))?;
    assert_eq!(found, samples, "after the merge");
    let stats = store.stats();
    println!(
        "{:32} {} segments, {:.3} bytes a sample",
        "",
        stats.segments,
        stats.segment_bytes as f64 / samples as f64
    );
    store.close()?;
    Ok(())
}

fn main() -> Outcome {
    let measured = std::env::args().any(|argument| argument == "--bench");
    let numbers: Vec<usize> = std::env::args().filter_map(|a| a.parse().ok()).collect();
    let number = |index: usize, full: usize, small: usize| {
        numbers
            .get(index)
            .copied()
            .unwrap_or(if measured { full } else { small })
    };
    let (hosts, steps, threads) = (number(0, 71, 3), number(1, 720, 20), number(2, 2, 2));
    let series = devops(hosts);
    let labels: Vec<_> = series.iter().map(|s| s.labels.clone()).collect();
    for sync in [SyncMode::Off, SyncMode::Always] {
        // Keys are seeded per store, but the fleet's are only looked up: any distinct keys will do.
        let probe = Store::in_memory(StoreOptions::default())?;
        let fleet = Fleet {
            keys: labels.iter().map(|l| probe.raw_key(l.as_bytes())).collect(),
            labels: labels.clone(),
            columns: series.iter().map(|s| s.samples(steps)).collect(),
            series_per_host: series.len() / hosts,
            steps,
        };
        println!("{} series, {} samples", fleet.labels.len(), fleet.samples());
        run(&fleet, sync, threads)?;
    }
    Ok(())
}
