//! The result cache of range queries against the evaluation without it: random queries over a store
//! that is written to, in order and late, deleted from, replaced, sealed and merged in between.
//!
//! `CHRONOLITH_CACHE_SEEDS=2000 cargo nextest run -p chronolith-query cached_answers` runs more lives.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use chronolith_engine::model::{
    Histogram, Labels, STALE_NAN_BITS, SampleColumns, TimeRange, TimestampNs,
};
use chronolith_engine::{
    Clock, Derivation, Matcher, RequestContext, Signal, Store, StoreOptions, SyncMode, TenantLimits,
};
use chronolith_query::promql::features::Features;
use chronolith_query::promql::result::{QueryResult, Value};
use chronolith_query::promql::{PromqlEngine, PromqlError, PromqlOptions, QueryOptions};

const S: i64 = 1000;
const MINUTE: i64 = 60 * S;
/// Where the data begins, ms.
const ORIGIN: i64 = 1_000 * 86_400 * S;

/// xorshift64*: the same lives on every machine.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    fn below(&mut self, bound: u64) -> u64 {
        (self.next() >> 33) % bound
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    fn pick<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        &all[self.below(all.len() as u64) as usize]
    }
}

struct World {
    store: Store,
    engine: PromqlEngine,
    context: RequestContext,
    now_ms: Arc<AtomicI64>,
}

impl World {
    fn new(features: Features) -> Self {
        let now_ms = Arc::new(AtomicI64::new(ORIGIN));
        let clock = Arc::clone(&now_ms);
        let options = StoreOptions {
            sync: SyncMode::Off,
            background: false,
            clock: Clock::new(move || {
                TimestampNs::from_millis(clock.load(Ordering::Relaxed)).unwrap()
            }),
            ..StoreOptions::default()
        };
        let store = Store::in_memory(options).unwrap();
        let options = PromqlOptions {
            cache_bytes_max: 16 << 20,
            partition_samples_min: 1 << 30,
            features,
            ..PromqlOptions::default()
        };
        Self {
            engine: PromqlEngine::new(store.clone(), options),
            store,
            context: RequestContext::new(),
            now_ms,
        }
    }

    fn now(&self) -> i64 {
        self.now_ms.load(Ordering::Relaxed)
    }

    fn write(&self, rows: &[(Labels, i64, f64)]) {
        let mut append = self.store.begin(&self.context).unwrap();
        for (labels, time_ms, value) in rows {
            let series = append.define(None, labels).unwrap();
            append.sample(series, TimestampNs::from_millis(*time_ms).unwrap(), *value);
        }
        append.commit().unwrap();
    }

    fn ask(
        &self,
        text: &str,
        times: (i64, i64, i64),
        no_cache: bool,
    ) -> Result<QueryResult, PromqlError> {
        let query = self.engine.parse(text)?;
        let options = QueryOptions {
            no_cache,
            ..QueryOptions::default()
        };
        self.engine
            .range_blocking(&self.context, &query, times, &options)
    }

    /// Asks with and without the cache; the answers must agree. Answers the reused steps.
    fn agree(&self, text: &str, times: (i64, i64, i64)) -> usize {
        let (cached, plain) = (self.ask(text, times, false), self.ask(text, times, true));
        let what = || format!("{text} at {times:?}");
        match (cached, plain) {
            (Ok(cached), Ok(plain)) => {
                same_matrix(&cached.value, &plain.value, &what());
                for (mine, other) in [
                    (
                        cached.annotations.warnings(text),
                        plain.annotations.warnings(text),
                    ),
                    (
                        cached.annotations.infos(text),
                        plain.annotations.infos(text),
                    ),
                ] {
                    assert_eq!(mine, other, "remarks of {}", what());
                }
                cached.stats.steps_reused
            }
            (Err(a), Err(b)) => {
                assert_eq!(a.to_string(), b.to_string(), "{}", what());
                0
            }
            (a, b) => panic!("{}: {:?} and {:?}", what(), a.err(), b.err()),
        }
    }
}

fn same_matrix(a: &Value, b: &Value, what: &str) {
    let (Value::Matrix(a), Value::Matrix(b)) = (a, b) else {
        panic!("{what}: not matrices");
    };
    let labels = |m: &[chronolith_query::promql::result::Series]| {
        m.iter().map(|s| s.labels.clone()).collect::<Vec<_>>()
    };
    assert_eq!(labels(a), labels(b), "series of {what}");
    for (a, b) in a.iter().zip(b) {
        let times = |s: &chronolith_query::promql::result::Series| {
            let floats: Vec<i64> = s.floats.iter().map(|p| p.time_ms).collect();
            let histograms: Vec<i64> = s.histograms.iter().map(|p| p.time_ms).collect();
            (floats, histograms)
        };
        assert_eq!(times(a), times(b), "times of {what}: {:?}", a.labels);
        for (p, q) in a.floats.iter().zip(&b.floats) {
            // Sums over windows may be rounded differently from where the evaluation began.
            let close = (p.value - q.value).abs() <= 1e-9 * p.value.abs().max(q.value.abs());
            assert!(
                close || p.value.to_bits() == q.value.to_bits() || p.value == q.value,
                "{what}: {:?} at {}: {} and {}",
                a.labels,
                p.time_ms,
                p.value,
                q.value
            );
        }
        for (p, q) in a.histograms.iter().zip(&b.histograms) {
            let plain = |h: &Histogram| Histogram {
                counter_reset_hint: Default::default(),
                ..h.clone()
            };
            assert_eq!(plain(&p.histogram), plain(&q.histogram), "{what}");
        }
    }
}

fn labels(pairs: &[(&str, &str)]) -> Labels {
    Labels::from_pairs(pairs.iter().copied()).unwrap()
}

const METRICS: [&str; 4] = ["requests_total", "depth", "latency_bucket", "up"];
const HOSTS: [&str; 5] = ["a", "b", "c", "d", "e"];

fn series(random: &mut Random) -> Labels {
    let metric = *random.pick(&METRICS);
    let host = *random.pick(&HOSTS);
    let job = if host < "c" { "x" } else { "y" };
    if metric == "latency_bucket" {
        let le = *random.pick(&["0.1", "1", "+Inf"]);
        return labels(&[
            ("__name__", metric),
            ("host", host),
            ("job", job),
            ("le", le),
        ]);
    }
    labels(&[("__name__", metric), ("host", host), ("job", job)])
}

const QUERIES: [&str; 40] = [
    "depth",
    "depth offset 7m",
    "depth offset -2m",
    "rate(requests_total[5m])",
    "rate(depth[5m])",
    "increase(requests_total[3m] offset 1m)",
    "sum by (job) (rate(requests_total[5m]))",
    "sum(depth) by (job) / count(depth) by (job)",
    "histogram_quantile(0.9, sum by (le, job) (rate(latency_bucket[5m])))",
    "histogram_quantile(0.9, latency_bucket)",
    "topk(2, depth)",
    "bottomk by (job) (1, rate(requests_total[2m]))",
    "sort(depth)",
    "sort_desc(sum by (host) (depth))",
    "label_replace(depth, \"host\", \"z\", \"host\", \"[ab]\")",
    "label_join(depth, \"both\", \"-\", \"host\", \"job\")",
    "absent(depth{host=\"e\"})",
    "absent_over_time(depth{host=\"d\"}[3m])",
    "max_over_time(depth[10m:1m])",
    "avg_over_time(rate(requests_total[2m])[6m:30s] offset 1m)",
    "depth - depth offset 5m",
    "depth > 20",
    "depth > bool 20",
    "depth and on(host) up == 1",
    "depth or up",
    "requests_total unless depth",
    "count_values(\"v\", up)",
    "quantile(0.5, depth)",
    "stddev by (job) (depth)",
    "timestamp(depth)",
    "time() - timestamp(up)",
    "scalar(sum(depth)) + vector(time())",
    "changes(up[5m]) + on(host, job) resets(requests_total[5m])",
    "predict_linear(depth[5m], 600)",
    "hour(timestamp(depth))",
    "depth @ 86400300",
    "sum(depth) - sum(depth @ 86400600 offset 1m)",
    "quantile_over_time(1.5, depth[2m])",
    "count by (__name__) ({__name__=~\"d.*|u.*\"})",
    "rate(native[4m])",
];

/// One life: writes and queries in turn. Answers how many steps were reused.
fn live(seed: u64) -> usize {
    let mut random = Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
    let features = if random.one_in(2) {
        Features::conformance()
    } else {
        Features::default()
    };
    let world = World::new(features);
    let dashboard: Vec<&str> = (0..6).map(|_| *random.pick(&QUERIES)).collect();
    let steps = [15 * S, 30 * S, MINUTE, 37 * S];
    let step = *random.pick(&steps);
    let mut reused = 0;
    for _ in 0..25 {
        // A scrape or several.
        for _ in 0..=random.below(6) {
            world.now_ms.fetch_add(15 * S, Ordering::Relaxed);
            let mut rows = Vec::new();
            for _ in 0..random.below(25) {
                let value = match random.below(20) {
                    0 => f64::from_bits(STALE_NAN_BITS),
                    1 => f64::NAN,
                    n => (n * 3) as f64,
                };
                rows.push((
                    series(&mut random),
                    world.now() - random.below(500) as i64,
                    value,
                ));
            }
            world.write(&rows);
            if random.one_in(3) {
                native(&world, &mut random);
            }
        }
        disturb(&world, &mut random);
        for text in &dashboard {
            let end = world.now() - random.below(3) as i64 * MINUTE;
            // Mostly the same window that moved on; now and then another.
            let length = if random.one_in(4) {
                random.below(40) as i64 * step
            } else {
                30 * step
            };
            let end = if random.one_in(5) {
                end
            } else {
                end.div_euclid(step) * step
            };
            reused += world.agree(text, (end - length, end, step));
        }
    }
    reused
}

fn native(world: &World, random: &mut Random) {
    let mut append = world.store.begin(&world.context).unwrap();
    let host = *random.pick(&HOSTS);
    let labels = labels(&[("__name__", "native"), ("host", host)]);
    let series = append.define(None, &labels).unwrap();
    let count = ((world.now() - ORIGIN) / S) as f64;
    let histogram = Histogram {
        count,
        sum: count * 2.0,
        zero_count: count,
        zero_threshold: 0.001,
        ..Histogram::default()
    };
    let time = TimestampNs::from_millis(world.now()).unwrap();
    append.histogram(series, time, None, Arc::new(histogram));
    append.commit().unwrap();
}

/// What happens to a store besides scrapes.
fn disturb(world: &World, random: &mut Random) {
    let now = world.now();
    let past = |random: &mut Random| now - random.below(30 * 60) as i64 * S;
    let range = |from: i64, to: i64| TimeRange::from_millis(from.min(to), from.max(to));
    match random.below(14) {
        0 | 1 => {
            let rows: Vec<_> = (0..5)
                .map(|_| (series(random), past(random), random.below(60) as f64))
                .collect();
            world.write(&rows);
        }
        2 => {
            let (host, a, b) = (*random.pick(&HOSTS), past(random), past(random));
            let matchers = [Matcher::equal("host", host)];
            world
                .store
                .delete(&world.context, Signal::Metrics, &matchers, range(a, b))
                .unwrap();
        }
        3 => {
            let derivation = Derivation::new("rules").unwrap();
            let (a, b) = (past(random), past(random));
            let (a, b) = (a.min(b), a.max(b));
            let labels = labels(&[("__name__", "depth"), ("host", "e"), ("job", "y")]);
            let rows = SampleColumns {
                timestamps: vec![TimestampNs::from_millis(a).unwrap().0],
                values: vec![random.below(100) as f64],
                ..SampleColumns::default()
            };
            let matchers = [Matcher::equal("host", "e")];
            world
                .store
                .replace_range(
                    &world.context,
                    &derivation,
                    &matchers,
                    range(a, b),
                    &[(labels, rows)],
                )
                .unwrap();
        }
        4 => world.store.flush().unwrap(),
        5 => world.store.compact().unwrap(),
        6 => {
            // A row of the future, which is overtaken later.
            let row = (series(random), now + random.below(300) as i64 * S, 7.0);
            world.write(&[row]);
        }
        _ => {}
    }
}

#[test]
fn cached_answers_are_those_of_an_evaluation() {
    let seeds = std::env::var("CHRONOLITH_CACHE_SEEDS").ok();
    let seeds = seeds.map_or(12, |n| n.parse().unwrap());
    let first = std::env::var("CHRONOLITH_CACHE_SEED_FIRST").ok();
    let first: u64 = first.map_or(1, |n| n.parse().unwrap());
    let mut reused = 0;
    for seed in first..first + seeds {
        let life = std::panic::catch_unwind(|| live(seed));
        reused += life.unwrap_or_else(|_| panic!("seed {seed} failed"));
    }
    // A cache that never answers would agree too.
    assert!(reused > 1000, "{reused} steps reused");
}

fn with_samples(minutes: i64) -> World {
    let world = World::new(Features::default());
    for minute in 0..minutes {
        let row = |host| {
            let labels = labels(&[("__name__", "depth"), ("host", host)]);
            (labels, ORIGIN + minute * MINUTE, minute as f64)
        };
        world.write(&[row("a"), row("b")]);
    }
    world.now_ms.fetch_add(minutes * MINUTE, Ordering::Relaxed);
    world
}

#[test]
fn a_repeated_query_costs_only_its_newest_steps() {
    let world = with_samples(100);
    let window = |end: i64| (ORIGIN + (end - 60) * MINUTE, ORIGIN + end * MINUTE, MINUTE);
    assert_eq!(world.agree("sum(depth)", window(90)), 0);
    assert_eq!(world.agree("sum(depth)", window(90)), 61);
    // Written otherwise, the same.
    assert_eq!(world.agree("sum ( depth )", window(95)), 56);
    // It keeps no more steps than were asked for at a time: the oldest are gone.
    assert_eq!(world.agree("sum(depth)", window(85)), 51);
    // Another phase, another step: another query.
    assert_eq!(
        world.agree("sum(depth)", (ORIGIN + 1, ORIGIN + 60 * MINUTE, MINUTE)),
        0
    );
    assert_eq!(
        world.agree("sum(depth)", (ORIGIN, ORIGIN + 60 * MINUTE, 30 * S)),
        0
    );
    // Rows in order touch only the newest steps.
    world.write(&[(
        labels(&[("__name__", "depth"), ("host", "a")]),
        ORIGIN + 94 * MINUTE,
        1.0,
    )]);
    let reused = world.agree("sum(depth)", window(95));
    assert!(reused >= 50, "{reused}");
    let stats = world.engine.cache_stats();
    assert!(
        stats.hits >= 1 && stats.partial_hits >= 2 && stats.misses >= 3,
        "{stats:?}"
    );
    assert!(stats.bytes > 0 && stats.entries == 3, "{stats:?}");
}

#[test]
fn a_backfill_is_seen_at_once() {
    let world = with_samples(100);
    let window = (ORIGIN + 30 * MINUTE, ORIGIN + 90 * MINUTE, MINUTE);
    assert_eq!(world.agree("sum(depth)", window), 0);
    assert_eq!(world.agree("sum(depth)", window), 61);
    let new = labels(&[("__name__", "depth"), ("host", "new")]);
    world.write(&[(new, ORIGIN + 40 * MINUTE, 1000.0)]);
    // Steps before it are still good.
    assert_eq!(world.agree("sum(depth)", window), 10);
    let Ok(answer) = world.ask("sum(depth)", window, false) else {
        panic!("no answer");
    };
    let Value::Matrix(matrix) = answer.value else {
        panic!("no matrix");
    };
    assert_eq!(matrix[0].floats[10].value, 1080.0);
    assert_eq!(answer.stats.steps_reused, 61);
}

#[test]
fn deletions_and_retention_are_seen_at_once() {
    let world = with_samples(100);
    let window = (ORIGIN + 30 * MINUTE, ORIGIN + 90 * MINUTE, MINUTE);
    world.agree("sum(depth)", window);
    let matchers = [Matcher::equal("host", "a")];
    let range = TimeRange::from_millis(ORIGIN + 50 * MINUTE, ORIGIN + 60 * MINUTE);
    world
        .store
        .delete(&world.context, Signal::Metrics, &matchers, range)
        .unwrap();
    assert_eq!(world.agree("sum(depth)", window), 20);
    let day = Duration::from_secs(86_400);
    let limits = TenantLimits {
        retention: Some(day),
        ..TenantLimits::default()
    };
    world.store.flush().unwrap();
    world.agree("sum(depth)", window);
    world.store.set_tenant_limits(&world.context.tenant, limits);
    world.now_ms.fetch_add(3 * 86_400 * S, Ordering::Relaxed);
    world.store.compact().unwrap();
    assert_eq!(world.agree("sum(depth)", window), 0);
    let answer = world.ask("sum(depth)", window, false).unwrap();
    assert_eq!(answer.value, Value::Matrix(Vec::new()));
}

#[test]
fn tenants_and_principals_see_their_own_answers() {
    let world = with_samples(100);
    let window = (ORIGIN + 30 * MINUTE, ORIGIN + 90 * MINUTE, MINUTE);
    let ask = |context: &RequestContext| {
        let query = world.engine.parse("sum(depth)").unwrap();
        let options = QueryOptions::default();
        let answer = world
            .engine
            .range_blocking(context, &query, window, &options);
        let answer = answer.unwrap();
        let Value::Matrix(matrix) = answer.value else {
            panic!("no matrix");
        };
        matrix.first().map(|series| series.floats[0].value)
    };
    let all = RequestContext::new();
    let restricted = RequestContext {
        required_matchers: Arc::from([Matcher::equal("host", "a")]),
        ..RequestContext::new()
    };
    let other = RequestContext::for_tenant(chronolith_engine::TenantId::new("other").unwrap());
    for _ in 0..2 {
        assert_eq!(ask(&all), Some(60.0));
        assert_eq!(ask(&restricted), Some(30.0));
        assert_eq!(ask(&other), None);
    }
    assert_eq!(world.engine.cache_stats().entries, 3);
}

/// `cargo test --release -p chronolith-query --test promql_cache -- --ignored --nocapture dashboard`
///
/// A dashboard of six hours at 30 s over 1,000 series of 15 s, asked again every 30 s while rows arrive:
/// time with and without the cache, on one thread.
#[test]
#[ignore = "a measurement"]
fn what_a_repeated_dashboard_costs() {
    let world = World::new(Features::default());
    let hours = 6;
    let scrape = |time_ms: i64| {
        let mut append = world.store.begin(&world.context).unwrap();
        for number in 0..1000 {
            let host = format!("host-{number:04}");
            let job = format!("job-{}", number % 10);
            let name = "requests_total";
            let labels = labels(&[("__name__", name), ("host", &host), ("job", &job)]);
            let series = append.define(None, &labels).unwrap();
            let value = (time_ms / S * (number % 7 + 1)) as f64;
            append.sample(series, TimestampNs::from_millis(time_ms).unwrap(), value);
        }
        append.commit().unwrap();
    };
    let scrapes = hours * 240;
    (0..scrapes).for_each(|number| scrape(ORIGIN + number * 15 * S));
    world.store.flush().unwrap();
    for text in [
        "sum by (job) (rate(requests_total[5m]))",
        "rate(requests_total[5m])",
        "topk(5, rate(requests_total[5m]))",
        "requests_total",
    ] {
        let (mut cached, mut plain) = (Duration::ZERO, Duration::ZERO);
        for repeat in 0..6 {
            let end = ORIGIN + (scrapes + repeat * 2) * 15 * S;
            scrape(end - 15 * S);
            scrape(end);
            let times = (end - hours * 3600 * S, end, 30 * S);
            let began = std::time::Instant::now();
            world.ask(text, times, false).unwrap();
            // The first one fills the cache.
            cached += if repeat > 0 {
                began.elapsed()
            } else {
                Duration::ZERO
            };
            let began = std::time::Instant::now();
            world.ask(text, times, true).unwrap();
            plain += if repeat > 0 {
                began.elapsed()
            } else {
                Duration::ZERO
            };
        }
        let ratio = plain.as_secs_f64() / cached.as_secs_f64();
        println!(
            "{text}: {:?} without, {:?} with the cache: {ratio:.1} x",
            plain / 5,
            cached / 5
        );
    }
}

/// What the caller wrote comes back for the same steps of the same answer, and only for them.
#[test]
fn written_answers_come_back_until_something_changes() {
    let world = World::new(Features::default());
    let labels = Labels::from_pairs([("__name__", "m")]).unwrap();
    let row = |minute: i64| (labels.clone(), ORIGIN + minute * MINUTE, minute as f64);
    world.write(&(0..60).map(row).collect::<Vec<_>>());
    let query = world.engine.parse("sum(m)").unwrap();
    let options = QueryOptions {
        keep_text: true,
        ..QueryOptions::default()
    };
    let ask = |to: i64| {
        let times = (ORIGIN, ORIGIN + to * MINUTE, MINUTE);
        let range = world
            .engine
            .range_blocking(&world.context, &query, times, &options);
        range.unwrap()
    };
    let points = |answer: &QueryResult| answer.value.point_count();
    let written = |answer: &QueryResult| {
        let pieces = answer.text.as_ref()?.written()?;
        Some(pieces.concat())
    };
    // Evaluated; then known, with a place for the text; then written.
    let first = ask(30);
    assert!(first.text.is_none() && points(&first) == 31);
    let second = ask(30);
    assert!(written(&second).is_none() && points(&second) == 31);
    let bytes_before = world.engine.cache_stats().bytes;
    second.text.unwrap().keep(vec!["abc".into(), "def".into()]);
    assert_eq!(world.engine.cache_stats().bytes, bytes_before + 6);
    let third = ask(30);
    assert_eq!(written(&third).as_deref(), Some(&b"abcdef"[..]));
    assert_eq!((points(&third), third.stats.steps_reused), (0, 31));
    // Who wants values gets them; other steps are other answers.
    assert_eq!(
        points(
            &world
                .ask("sum(m)", (ORIGIN, ORIGIN + 30 * MINUTE, MINUTE), false)
                .unwrap()
        ),
        31
    );
    let shorter = ask(20);
    assert!(written(&shorter).is_none() && points(&shorter) == 21);
    // What is newer than all steps changes nothing, a late sample does.
    world.write(&[row(61)]);
    assert_eq!(written(&ask(30)).as_deref(), Some(&b"abcdef"[..]));
    let later = ask(30).text.unwrap();
    world.write(&[(labels.clone(), ORIGIN + 10 * MINUTE, 1000.0)]);
    let changed = ask(30);
    assert!(changed.text.is_none() && points(&changed) == 31);
    // A text of an answer that is no longer there is not kept.
    later.keep(vec!["old".into()]);
    assert_eq!(written(&ask(30)), None);
    // Nor is one that takes more than its share.
    let long = ask(30).text.unwrap();
    long.clone()
        .keep(vec![vec![b' '; long.bytes_max() + 1].into()]);
    assert_eq!(written(&ask(30)), None);
}
