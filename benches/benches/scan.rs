//! What lies below the operators of a query: selection, reading of samples, listings, through the
//! store's public scan API as `chronolith-query` calls it, on one thread, in CPU time.
//!
//! `cargo bench -p chronolith-benches --bench scan [-- FILTER]`. The store holds one segment: the fleet
//! of [`chronolith_benches::devops`] (71 hosts, 2160 scrapes: 10,082 series, 21.8 M samples), made anew
//! for each run, or what lies in the directory that `CHRONOLITH_SCAN_STORE` names (a store with the
//! metrics of that fleet; it is opened for reading only). Without `--bench` a few hosts prove that it runs.

use std::error::Error;
use std::hint::black_box;
use std::time::Instant;

use chronolith_benches::devops::{SERIES_PER_HOST, host};
use chronolith_benches::usage::thread_cpu_seconds;
use chronolith_engine::model::{SampleColumns, TimeRange, TimestampNs};
use chronolith_engine::{
    MatchOp, Matcher, RequestContext, ScanRequest, Store, StoreOptions, SyncMode,
};

type Outcome<T = ()> = Result<T, Box<dyn Error>>;

/// Scrapes of one host that travel in one request.
const SCRAPES_PER_REQUEST: usize = 240;
const SECOND_NS: i64 = 1_000_000_000;
/// CPU seconds that a round of a case takes at least, and rounds of which the best counts.
const ROUND_SECONDS: f64 = 0.15;
const ROUNDS: usize = 5;

/// What one call of a case met.
#[derive(Clone, Copy, Default)]
struct Met {
    /// Series, names or values.
    items: usize,
    samples: usize,
}

/// Fills a store with the fleet and brings it to its final form.
fn fill(store: &Store, hosts: usize, scrapes: usize) -> Outcome {
    let context = RequestContext::new();
    for number in 0..hosts {
        let series = host(number);
        let columns: Vec<_> = series.iter().map(|s| s.samples(scrapes)).collect();
        for first in (0..scrapes).step_by(SCRAPES_PER_REQUEST) {
            let mut append = store.begin(&context)?;
            for (series, columns) in series.iter().zip(&columns) {
                let id = append.define(None, &series.labels)?;
                let end = (first + SCRAPES_PER_REQUEST).min(columns.timestamps.len());
                for at in first..end {
                    append.sample(id, TimestampNs(columns.timestamps[at]), columns.values[at]);
                }
            }
            append.commit()?;
        }
    }
    store.compact()?;
    Ok(())
}

struct Bench<'a> {
    store: &'a Store,
    context: RequestContext,
    filter: Option<String>,
    is_measured: bool,
    end: i64,
}

impl Bench<'_> {
    /// The last `seconds` of the data.
    fn last(&self, seconds: i64) -> TimeRange {
        TimeRange::new(self.end - seconds * SECOND_NS, self.end)
    }

    /// Opens a scan and reads every series with its labels, as `SeriesScan` does.
    fn scan(&self, matchers: &[Matcher], range: TimeRange) -> Outcome<Met> {
        let request = ScanRequest::new(matchers.to_vec(), range);
        let scan = self.store.scan_metrics(&self.context, &request)?;
        let mut met = Met {
            items: scan.len(),
            samples: 0,
        };
        black_box(scan.approximate_samples(u64::MAX));
        let mut columns = SampleColumns::default();
        for index in 0..scan.len() {
            scan.read(index, range, &mut columns)?;
            met.samples += columns.len();
            black_box(&columns);
            black_box(scan.labels(index).as_bytes());
        }
        Ok(met)
    }

    /// Only opens a scan.
    fn select(&self, matchers: &[Matcher], range: TimeRange) -> Outcome<Met> {
        let request = ScanRequest::new(matchers.to_vec(), range);
        let scan = self.store.scan_metrics(&self.context, &request)?;
        Ok(Met {
            items: black_box(scan.len()),
            samples: 0,
        })
    }

    /// Runs a case and prints what a call and an item cost.
    fn case(&self, name: &str, mut run: impl FnMut() -> Outcome<Met>) -> Outcome {
        if self.filter.as_ref().is_some_and(|f| !name.contains(f)) {
            return Ok(());
        }
        let mut met = run()?;
        if !self.is_measured {
            println!("{name}: {} items, {} samples", met.items, met.samples);
            return Ok(());
        }
        // How often fits into a round; the first call has checked the pages that the case touches.
        let start = Instant::now();
        let mut tried = 0;
        while start.elapsed().as_secs_f64() < ROUND_SECONDS / 3.0 {
            met = run()?;
            tried += 1;
        }
        let calls = tried * 3;
        let mut best = f64::INFINITY;
        for _ in 0..ROUNDS {
            let start = thread_cpu_seconds();
            for _ in 0..calls {
                black_box(run()?);
            }
            best = best.min((thread_cpu_seconds() - start) / f64::from(calls));
        }
        let rate = match met.samples {
            0 => String::new(),
            samples => format!("{:9.1} M samples/CPU s", samples as f64 / best / 1e6),
        };
        println!(
            "{name:26} {:7} items {:8} samples {:11.1} us {:8.3} us an item {rate}",
            met.items,
            met.samples,
            best * 1e6,
            best * 1e6 / met.items.max(1) as f64,
        );
        Ok(())
    }

    fn scans(&self) -> Outcome {
        let test = |name, op, value| Matcher::new(name, op, value);
        let all = [test("__name__", MatchOp::NotEqual, "")?];
        let metric = |name: &str| Matcher::equal("__name__", name);
        let busy = [
            metric("node_cpu_seconds_total"),
            test("mode", MatchOp::NotEqual, "idle")?,
        ];
        let buckets = [metric("http_request_duration_seconds_bucket")];
        let one = [
            metric("node_load1"),
            Matcher::equal("instance", "host-00001:9100"),
        ];
        let few_of_many = [
            metric("node_disk_io_time_seconds_total"),
            test("instance", MatchOp::Regex, ".*[05]:9100")?,
            test("device", MatchOp::Regex, "nvme.*")?,
            test("region", MatchOp::NotRegex, "us-.*")?,
        ];
        let of_job = [Matcher::equal("job", "node")];
        for (name, matchers, seconds) in [
            ("all, 5 min", &all[..], 300),
            ("job, 1 h", &of_job, 3600),
            ("job, 6 h", &of_job, 6 * 3600),
            ("cpu counters, 5 min", &busy, 300),
            ("cpu counters, 1 h", &busy, 3600),
            ("cpu counters, 6 h", &busy, 6 * 3600),
            ("buckets, 10 min", &buckets, 600),
            ("buckets, 1 h", &buckets, 3600),
            ("buckets, 6 h", &buckets, 6 * 3600),
            ("one series, 5 min", &one, 300),
            ("one series, 6 h", &one, 6 * 3600),
            ("regexes, 1 h", &few_of_many, 3600),
        ] {
            self.case(name, || self.scan(matchers, self.last(seconds)))?;
        }
        self.case("open all, 5 min", || self.select(&all, self.last(300)))?;
        self.case("open one, 5 min", || self.select(&one, self.last(300)))?;
        let suffix = [test("instance", MatchOp::Regex, ".*[05]:9100")?];
        self.case("open by suffix, 1 h", || {
            self.select(&suffix, self.last(3600))
        })
    }

    fn listings(&self) -> Outcome {
        let range = self.last(6 * 3600);
        let metric = [Matcher::equal("__name__", "node_cpu_seconds_total")];
        let host = [Matcher::equal("instance", "host-00001:9100")];
        let met = |items: usize| Met { items, samples: 0 };
        for (name, matchers) in [("series of a metric", &metric), ("series of a host", &host)] {
            self.case(name, || {
                let sets = [matchers.to_vec()];
                let found = self.store.series(&self.context, &sets, range, None)?;
                Ok(met(black_box(found).len()))
            })?;
        }
        for (name, matchers) in [
            ("label names", &[][..]),
            ("label names of a metric", &metric),
        ] {
            self.case(name, || {
                let found = self
                    .store
                    .label_names(&self.context, matchers, range, None)?;
                Ok(met(black_box(found).len()))
            })?;
        }
        for (name, matchers) in [
            ("label values", &[][..]),
            ("label values of a metric", &metric),
        ] {
            self.case(name, || {
                let found =
                    self.store
                        .label_values(&self.context, "instance", matchers, range, None)?;
                Ok(met(black_box(found).len()))
            })?;
        }
        Ok(())
    }
}

fn main() -> Outcome {
    let is_measured = std::env::args().any(|argument| argument == "--bench");
    let filter = std::env::args().skip(1).find(|a| !a.starts_with("--"));
    let dir = tempfile::tempdir()?;
    let options = StoreOptions {
        sync: SyncMode::Off,
        ..StoreOptions::default()
    };
    let store = match std::env::var_os("CHRONOLITH_SCAN_STORE") {
        Some(path) => Store::open_read_only(path, options)?,
        None => {
            let store = Store::open(dir.path(), options)?;
            let (hosts, scrapes) = if is_measured { (71, 2160) } else { (2, 300) };
            fill(&store, hosts, scrapes)?;
            println!("{} series", hosts * SERIES_PER_HOST);
            store
        }
    };
    let segments = store.segments();
    let end = segments.iter().map(|s| s.range.end.0).max();
    let bench = Bench {
        store: &store,
        context: RequestContext::new(),
        filter,
        is_measured,
        end: end.ok_or("the store has no segment")?,
    };
    bench.scans()?;
    bench.listings()
}
