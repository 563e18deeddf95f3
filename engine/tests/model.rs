//! The store against a plain map: random appends (late, repeated, overwriting), deletions, flushes,
//! merges, power cuts and reopenings; after each step both must say the same.
//!
//! A failing seed is printed; `CHRONOLITH_MODEL_SEED=n` replays it, `CHRONOLITH_MODEL_RUNS=n` runs
//! more of them.

#![expect(clippy::unwrap_used, reason = "a test that fails here has failed")]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use chronolith_engine::io::Memory;
use chronolith_engine::model::{Labels, SampleColumns, TimeRange, TimestampNs};
use chronolith_engine::{
    MatchOp, Matcher, RequestContext, ScanRequest, Signal, Store, StoreOptions, SyncMode, TenantId,
};

const HOUR_NS: i64 = 3_600_000_000_000;

/// Series labels to samples, per tenant.
type Model = BTreeMap<(usize, Labels), BTreeMap<i64, u64>>;

struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % bound
    }
}

struct Run {
    random: Random,
    memory: Arc<Memory>,
    store: Option<Store>,
    contexts: Vec<RequestContext>,
    model: Model,
    now: i64,
}

fn options() -> StoreOptions {
    StoreOptions {
        sync: SyncMode::Always,
        background: false,
        ..StoreOptions::default()
    }
}

fn labels(number: u64) -> Labels {
    let pairs = [
        ("__name__", format!("metric_{}", number % 3)),
        ("instance", format!("host-{number}")),
        (
            "zone",
            if number.is_multiple_of(2) {
                "even".into()
            } else {
                String::new()
            },
        ),
    ];
    Labels::from_pairs(pairs).unwrap()
}

impl Run {
    fn new(seed: u64) -> Self {
        let tenants = ["default", "other"];
        let mut run = Self {
            random: Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1),
            memory: Arc::new(Memory::new()),
            store: None,
            contexts: tenants
                .iter()
                .map(|name| RequestContext::for_tenant(TenantId::new(name).unwrap()))
                .collect(),
            model: Model::new(),
            now: 400_000 * HOUR_NS,
        };
        run.reopen();
        run
    }

    fn store(&self) -> &Store {
        self.store.as_ref().unwrap()
    }

    fn reopen(&mut self) {
        let fs = Arc::clone(&self.memory);
        self.store = Some(Store::open_on(fs, Path::new("/data"), options()).unwrap());
    }

    fn time(&mut self) -> i64 {
        match self.random.below(10) {
            0..6 => {
                self.now += self.random.below(60) as i64 * 1_000_000_000;
                self.now
            }
            6..9 => self.now - self.random.below(3600) as i64 * 1_000_000_000,
            _ => self.now - self.random.below(100) as i64 * HOUR_NS,
        }
    }

    fn append(&mut self) {
        let tenant = self.random.below(2) as usize;
        let context = self.contexts[tenant].clone();
        let store = self.store().clone();
        let mut append = store.begin(&context).unwrap();
        let mut rows = Vec::new();
        for _ in 0..=self.random.below(40) {
            let labels = labels(self.random.below(12));
            let series = append.define(None, &labels).unwrap();
            for _ in 0..=self.random.below(5) {
                let (time, value) = (self.time(), self.random.below(4) as f64 / 10.0);
                append.sample(series, TimestampNs(time), value);
                rows.push((labels.clone(), time, value.to_bits()));
            }
        }
        if self.random.below(10) == 0 {
            return;
        }
        append.commit().unwrap();
        for (labels, time, bits) in rows {
            self.model
                .entry((tenant, labels))
                .or_default()
                .insert(time, bits);
        }
    }

    fn delete(&mut self) {
        let tenant = self.random.below(2) as usize;
        let matcher = match self.random.below(3) {
            0 => Matcher::equal("instance", &format!("host-{}", self.random.below(12))),
            1 => Matcher::new("zone", MatchOp::NotEqual, "even").unwrap(),
            _ => Matcher::new("__name__", MatchOp::Regex, "metric_[01]").unwrap(),
        };
        let start = self.now - self.random.below(50) as i64 * HOUR_NS;
        let range = TimeRange::new(start, start + self.random.below(10) as i64 * HOUR_NS);
        let matchers = [matcher.clone()];
        self.store()
            .delete(&self.contexts[tenant], Signal::Metrics, &matchers, range)
            .unwrap();
        for ((owner, labels), samples) in &mut self.model {
            if *owner == tenant && matcher.matches_labels(labels) {
                samples.retain(|time, _| !range.contains(TimestampNs(*time)));
            }
        }
        self.model.retain(|_, samples| !samples.is_empty());
    }

    fn check(&mut self) {
        for tenant in 0..self.contexts.len() {
            let context = &self.contexts[tenant];
            let start = self.now - self.random.below(200) as i64 * HOUR_NS;
            let end = start + self.random.below(200) as i64 * HOUR_NS;
            for range in [TimeRange::ALL, TimeRange::new(start, end)] {
                self.check_range(tenant, context, range);
            }
        }
    }

    fn check_range(&self, tenant: usize, context: &RequestContext, range: TimeRange) {
        let expected: BTreeMap<&Labels, Vec<(i64, u64)>> = self
            .model
            .iter()
            .filter(|((owner, _), _)| *owner == tenant)
            .map(|((_, labels), samples)| {
                let inside = samples.range(range.start.0..=range.end.0);
                (labels, inside.map(|(t, v)| (*t, *v)).collect::<Vec<_>>())
            })
            .filter(|(_, samples)| !samples.is_empty())
            .collect();
        let request = ScanRequest::new(vec![], range);
        let scan = self.store().scan_metrics(context, &request).unwrap();
        let mut found = BTreeMap::new();
        let mut columns = SampleColumns::default();
        for index in 0..scan.len() {
            scan.read(index, range, &mut columns).unwrap();
            let bits = columns.values.iter().map(|v| v.to_bits());
            let samples: Vec<_> = columns.timestamps.iter().copied().zip(bits).collect();
            if !samples.is_empty() {
                assert!(
                    found.insert(scan.labels(index), samples).is_none(),
                    "series twice"
                );
            }
        }
        let found: BTreeMap<&Labels, _> = found.iter().map(|(l, s)| (l, s.clone())).collect();
        assert_eq!(found, expected);
        if range == TimeRange::ALL {
            let listed = self
                .store()
                .series(context, &[vec![]], range, None)
                .unwrap();
            let expected: Vec<_> = expected.into_keys().cloned().collect();
            assert_eq!(listed, expected, "listing");
        }
    }

    fn step(&mut self) {
        match self.random.below(20) {
            0..12 => self.append(),
            12..14 => self.store().flush().unwrap(),
            14 => self.store().compact().unwrap(),
            15..17 => self.delete(),
            17 => {
                let store = self.store.take().unwrap();
                store.close().unwrap();
                self.reopen();
            }
            18 => {
                self.store = None;
                self.memory.crash();
                self.reopen();
            }
            _ => self.check(),
        }
    }
}

#[test]
fn the_store_agrees_with_a_map() {
    let number = |name: &str| {
        std::env::var(name)
            .ok()
            .and_then(|text| text.parse::<u64>().ok())
    };
    let seeds = match number("CHRONOLITH_MODEL_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("CHRONOLITH_MODEL_RUNS").unwrap_or(40),
    };
    for seed in seeds {
        let outcome = std::panic::catch_unwind(|| {
            let mut run = Run::new(seed);
            for _ in 0..60 {
                run.step();
            }
            run.check();
        });
        assert!(
            outcome.is_ok(),
            "CHRONOLITH_MODEL_SEED={seed} replays this failure"
        );
    }
}
