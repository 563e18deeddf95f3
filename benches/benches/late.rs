//! What it costs that rows come late or are replaced: criterion's wall time of one commit of a scrape
//! over 10,000 series, and of `replace_range` over as many, in a store in memory.
//!
//! `cargo bench -p chronolith-benches --bench late`
//!
//! | case | a scrape that |
//! |---|---|
//! | `late_rows/in_time` | is newer than all others, as scrapes are |
//! | `late_rows/10_min_late` | lies ten minutes back, between samples that are there |
//! | `late_rows/10_min_late_as_of` | the same in a store that keeps what was known when (`as_of_retention`) |
//! | `replace_range/new` | a computation writes for the first time |
//! | `replace_range/again` | and writes again in place of what it wrote |

use std::time::Duration;

use chronolith_engine::model::{Labels, SampleColumns, TimeRange, TimestampNs};
use chronolith_engine::{Derivation, RequestContext, Store, StoreOptions, SyncMode};
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};

const SERIES: usize = 10_000;
const SECOND_NS: i64 = 1_000_000_000;
const SCRAPE_NS: i64 = 15 * SECOND_NS;
/// Scrapes that are there before something late comes: fifteen minutes.
const SCRAPES_BEFORE: i64 = 60;

struct Fleet {
    store: Store,
    context: RequestContext,
    labels: Vec<Labels>,
}

impl Fleet {
    fn new(as_of_retention: Duration) -> Self {
        let options = StoreOptions {
            sync: SyncMode::Off,
            background: false,
            as_of_retention,
            ..StoreOptions::default()
        };
        let labels = (0..SERIES).map(|number| {
            let pairs = [
                ("__name__", "m".to_owned()),
                ("host", format!("h{number:05}")),
            ];
            Labels::from_pairs(pairs).expect("labels")
        });
        Self {
            store: Store::in_memory(options).expect("a store in memory"),
            context: RequestContext::new(),
            labels: labels.collect(),
        }
    }

    /// One sample of each series at `time`, as one commit.
    fn scrape(&self, time: i64) {
        let mut append = self.store.begin(&self.context).expect("an append");
        for labels in &self.labels {
            let key = self.store.raw_key(labels.as_bytes());
            let series = match append.lookup(key) {
                Some(series) => series,
                None => append.define(Some(key), labels).expect("a series"),
            };
            append.sample(series, TimestampNs(time), (time / SCRAPE_NS % 13) as f64);
        }
        append.commit().expect("a commit");
    }

    /// The fleet with a quarter of an hour of scrapes.
    fn with_history(as_of_retention: Duration) -> Self {
        let fleet = Self::new(as_of_retention);
        (0..SCRAPES_BEFORE).for_each(|scrape| fleet.scrape(scrape * SCRAPE_NS));
        fleet
    }

    fn replace(&self, rows: &[(Labels, SampleColumns)]) {
        let rule = Derivation::new("rule").expect("a name");
        let range = TimeRange::new(0, SECOND_NS);
        self.store
            .replace_range(&self.context, &rule, &[], range, rows)
            .expect("a commit");
    }
}

fn benches(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("late_rows");
    group.throughput(Throughput::Elements(SERIES as u64));
    group.sample_size(20);
    let newest = SCRAPES_BEFORE * SCRAPE_NS;
    // Off the times of the others, so that nothing is overwritten.
    let late = newest - 600 * SECOND_NS + SECOND_NS;
    let hour = Duration::from_secs(3600);
    for (case, as_of, time) in [
        ("in_time", Duration::ZERO, newest),
        ("10_min_late", Duration::ZERO, late),
        ("10_min_late_as_of", hour, late),
    ] {
        group.bench_function(case, |bench| {
            let set_up = || Fleet::with_history(as_of);
            bench.iter_batched_ref(set_up, |fleet| fleet.scrape(time), BatchSize::PerIteration);
        });
    }
    group.finish();

    let mut group = criterion.benchmark_group("replace_range");
    group.throughput(Throughput::Elements(SERIES as u64));
    group.sample_size(20);
    for (case, times) in [("new", 0), ("again", 1)] {
        group.bench_function(case, |bench| {
            let set_up = || {
                let fleet = Fleet::new(Duration::ZERO);
                let columns = SampleColumns {
                    timestamps: vec![1],
                    values: vec![1.0],
                    ..SampleColumns::default()
                };
                let rows = fleet.labels.iter().cloned();
                let rows: Vec<_> = rows.map(|labels| (labels, columns.clone())).collect();
                (0..times).for_each(|_| fleet.replace(&rows));
                (fleet, rows)
            };
            let replace = |(fleet, rows): &mut (Fleet, Vec<_>)| fleet.replace(rows);
            bench.iter_batched_ref(set_up, replace, BatchSize::PerIteration);
        });
    }
    group.finish();
}

criterion_group!(late, benches);
criterion_main!(late);
