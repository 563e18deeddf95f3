//! Rows that change: derived ranges that are replaced, snapshots that hold still, and reads as of an
//! earlier moment; through seals, merges, deletions, power cuts and reopenings.

#![expect(clippy::unwrap_used, reason = "a test that fails here has failed")]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use chronolith_engine::io::Memory;
use chronolith_engine::model::{
    AttributeValue, Labels, LogRecord, SampleColumns, Stream, TimeRange, TimestampNs,
};
use chronolith_engine::{
    Clock, Derivation, EngineError, Generation, Matcher, RequestContext, ScanRequest, Signal,
    Snapshot, Store, StoreOptions, SyncMode,
};

const MINUTE_NS: i64 = 60_000_000_000;
const DAY_NS: i64 = 1440 * MINUTE_NS;
const DIR: &str = "/data";

/// A store whose clock is turned by hand.
struct Fixture {
    memory: Arc<Memory>,
    now: Arc<AtomicI64>,
    as_of_retention: Duration,
    store: Option<Store>,
    context: RequestContext,
}

impl Fixture {
    fn new(as_of_retention: Duration) -> Self {
        let mut fixture = Self {
            memory: Arc::new(Memory::new()),
            now: Arc::new(AtomicI64::new(20_000 * DAY_NS)),
            as_of_retention,
            store: None,
            context: RequestContext::new(),
        };
        fixture.reopen();
        fixture
    }

    fn reopen(&mut self) {
        self.store = None;
        let now = Arc::clone(&self.now);
        let options = StoreOptions {
            sync: SyncMode::Always,
            background: false,
            as_of_retention: self.as_of_retention,
            clock: Clock::new(move || TimestampNs(now.load(Ordering::Relaxed))),
            ..StoreOptions::default()
        };
        let fs = Arc::clone(&self.memory);
        self.store = Some(Store::open_on(fs, Path::new(DIR), options).unwrap());
    }

    fn power_cut(&mut self) {
        self.store = None;
        self.memory.crash();
        self.reopen();
    }

    fn store(&self) -> &Store {
        self.store.as_ref().unwrap()
    }

    fn now(&self) -> i64 {
        self.now.load(Ordering::Relaxed)
    }

    fn pass(&self, ns: i64) {
        self.now.fetch_add(ns, Ordering::Relaxed);
    }

    fn append(&self, labels: &Labels, samples: &[(i64, f64)]) {
        let mut append = self.store().begin(&self.context).unwrap();
        let series = append.define(None, labels).unwrap();
        for (time, value) in samples {
            append.sample(series, TimestampNs(*time), *value);
        }
        append.commit().unwrap();
    }

    fn replace(
        &self,
        derivation: &str,
        matchers: &[Matcher],
        range: TimeRange,
        rows: &[(Labels, SampleColumns)],
    ) {
        let derivation = Derivation::new(derivation).unwrap();
        self.store()
            .replace_range(&self.context, &derivation, matchers, range, rows)
            .unwrap();
    }

    fn read(&self) -> BTreeMap<Labels, Vec<(i64, f64)>> {
        self.read_at(&self.store().pin(&self.context).unwrap())
    }

    fn read_at(&self, snapshot: &Snapshot) -> BTreeMap<Labels, Vec<(i64, f64)>> {
        let request = ScanRequest::new(vec![], TimeRange::ALL);
        let scan = snapshot.scan_metrics(&self.context, &request).unwrap();
        let mut found = BTreeMap::new();
        let mut columns = SampleColumns::default();
        for index in 0..scan.len() {
            scan.read(index, TimeRange::ALL, &mut columns).unwrap();
            let pairs = columns.timestamps.iter().copied();
            let pairs: Vec<_> = pairs.zip(columns.values.iter().copied()).collect();
            if !pairs.is_empty() {
                found.insert(scan.labels(index), pairs);
            }
        }
        let listed = snapshot
            .series(&self.context, &[vec![]], TimeRange::ALL, None)
            .unwrap();
        assert_eq!(listed, found.keys().cloned().collect::<Vec<_>>(), "listing");
        found
    }

    fn values(&self, labels: &Labels) -> Vec<(i64, f64)> {
        self.read().remove(labels).unwrap_or_default()
    }
}

fn labels(name: &str, instance: &str) -> Labels {
    Labels::from_pairs([("__name__", name), ("instance", instance)]).unwrap()
}

fn columns(samples: &[(i64, f64)]) -> SampleColumns {
    SampleColumns {
        timestamps: samples.iter().map(|s| s.0).collect(),
        values: samples.iter().map(|s| s.1).collect(),
        ..SampleColumns::default()
    }
}

/// What a snapshot says of the changes since another: from when on, until when.
fn changed(fixture: &Fixture, since: &Snapshot) -> (Option<i64>, Option<i64>) {
    let now = fixture.store().pin(&fixture.context).unwrap();
    let changed = now.changed_since(since.change_mark());
    let ns = |time: Option<TimestampNs>| time.map(|time| time.0);
    (ns(changed.touched_from), ns(changed.removed_until))
}

#[test]
fn snapshots_tell_which_times_changed_since() {
    let fixture = Fixture::new(Duration::ZERO);
    let (start, s) = (fixture.now(), 1_000_000_000);
    let a = Labels::from_pairs([("__name__", "a")]).unwrap();
    let all = [Matcher::equal("__name__", "a")];
    let pin = || fixture.store().pin(&fixture.context).unwrap();
    let first = pin();
    assert_eq!(changed(&fixture, &first), (None, None));
    fixture.append(&a, &[(start, 1.0), (start + 10 * s, 2.0)]);
    assert_eq!(changed(&fixture, &first), (Some(start), None));
    // In order: the past stays.
    let second = pin();
    fixture.append(&a, &[(start + 20 * s, 1.0)]);
    assert_eq!(changed(&fixture, &second), (Some(start + 20 * s), None));
    // Late.
    let third = pin();
    fixture.append(&a, &[(start - 5 * s, 1.0)]);
    assert_eq!(changed(&fixture, &third), (Some(start - 5 * s), None));
    assert_eq!(changed(&fixture, &second), (Some(start - 5 * s), None));
    // Deletions, of metrics only.
    let fourth = pin();
    let range = TimeRange::new(start + 3 * s, start + 4 * s);
    let store = fixture.store();
    let logs = store.delete(&fixture.context, Signal::Logs, &all, TimeRange::ALL);
    logs.unwrap();
    assert_eq!(changed(&fixture, &fourth), (None, None));
    let metrics = store.delete(&fixture.context, Signal::Metrics, &all, range);
    metrics.unwrap();
    assert_eq!(changed(&fixture, &fourth), (Some(start + 3 * s), None));
    // Replaced ranges, and those that are only emptied.
    let fifth = pin();
    fixture.replace("d", &all, TimeRange::new(start + s, start + 2 * s), &[]);
    assert_eq!(changed(&fixture, &fifth), (Some(start + s), None));
    // Sealing and merging change no answer.
    let sixth = pin();
    store.flush().unwrap();
    store.compact().unwrap();
    assert_eq!(changed(&fixture, &sixth), (None, None));
    // Retention takes from the other end.
    let limits = chronolith_engine::TenantLimits {
        retention: Some(Duration::from_secs(86_400)),
        ..store.tenant_limits(&fixture.context.tenant)
    };
    store.set_tenant_limits(&fixture.context.tenant, limits);
    fixture.pass(3 * DAY_NS);
    store.compact().unwrap();
    let (from, until) = changed(&fixture, &sixth);
    assert_eq!(from, None);
    assert!(until >= Some(start + 20 * s) && until < Some(fixture.now() - DAY_NS));
    // Other tenants are none of its business.
    let other = RequestContext::for_tenant(chronolith_engine::TenantId::new("other").unwrap());
    assert_eq!(store.pin(&other).unwrap().change_mark(), Default::default());
}

#[test]
fn a_replaced_range_loses_the_points_that_are_not_written_again() {
    for stage in 0..4 {
        let mut fixture = Fixture::new(Duration::ZERO);
        let (a, b) = (labels("r", "a"), labels("r", "b"));
        let settle = |fixture: &mut Fixture| match stage {
            0 => {}
            1 => fixture.store().flush().unwrap(),
            2 => fixture.store().compact().unwrap(),
            _ => fixture.power_cut(),
        };
        fixture.append(&a, &[(5, 50.0)]);
        let first = [
            (a.clone(), columns(&[(1, 1.0), (2, 2.0), (3, 3.0)])),
            (b.clone(), columns(&[(1, 1.0)])),
        ];
        fixture.replace("rule/r", &[], TimeRange::new(0, 10), &first);
        fixture.replace(
            "rule/other",
            &[],
            TimeRange::ALL,
            &[(b.clone(), columns(&[(2, 9.0)]))],
        );
        settle(&mut fixture);
        fixture.pass(1);
        // The computation now finds less, and nothing for b.
        let again = [(a.clone(), columns(&[(2, 22.0)]))];
        fixture.replace("rule/r", &[], TimeRange::new(2, 10), &again);
        let expected: BTreeMap<_, _> = [
            (a.clone(), vec![(1, 1.0), (2, 22.0), (5, 50.0)]),
            (b.clone(), vec![(1, 1.0), (2, 9.0)]),
        ]
        .into();
        assert_eq!(fixture.read(), expected, "stage {stage}");
        settle(&mut fixture);
        assert_eq!(fixture.read(), expected, "stage {stage}, settled");
        fixture.store().compact().unwrap();
        assert_eq!(fixture.read(), expected, "stage {stage}, merged");
        assert_eq!(fixture.store().stats().tombstones, 0);
        // Matchers narrow what is replaced; a deletion takes received and derived rows alike.
        let only_b = [Matcher::equal("instance", "b")];
        fixture.replace("rule/r", &only_b, TimeRange::ALL, &[]);
        assert_eq!(fixture.values(&b), [(2, 9.0)]);
        let (store, context) = (fixture.store(), &fixture.context);
        store
            .delete(context, Signal::Metrics, &[], TimeRange::ALL)
            .unwrap();
        assert!(fixture.read().is_empty());
        fixture.store().erase_deleted().unwrap();
        assert_eq!(fixture.store().stats().segment_rows, 0);
    }
}

#[test]
fn derived_segments_name_their_derivation_and_what_it_read() {
    let fixture = Fixture::new(Duration::ZERO);
    let store = fixture.store();
    fixture.append(&labels("m", "a"), &[(1, 1.0)]);
    store.flush().unwrap();
    let read = store.pin(&fixture.context).unwrap().generation();
    for (derivation, value) in [("rule/x", 1.0), ("rule/x", 2.0), ("rule/y", 3.0)] {
        let derivation = Derivation::new(derivation).unwrap().from_generation(read);
        let mut derive = store.derive(&fixture.context, &derivation).unwrap();
        let series = derive.define(&labels(derivation.id(), "a")).unwrap();
        derive.sample(series, TimestampNs(value as i64), value);
        derive.commit().unwrap();
        store.flush().unwrap();
    }
    let derived = |store: &Store| {
        let all = store.segments().into_iter();
        let mut named: Vec<_> = all
            .filter_map(|s| Some((s.derivation?, s.rows, s.sources)))
            .collect();
        named.sort();
        named
    };
    assert_eq!(derived(store).len(), 3);
    store.compact().unwrap();
    let named = |name: &str, rows| (name.to_owned(), rows, vec![read]);
    assert_eq!(derived(store), [named("rule/x", 2), named("rule/y", 1)]);
    assert!(read > Generation(0) && store.generation() > read);
    assert!(Derivation::new("").is_err());
    let outside = store.replace_range(
        &fixture.context,
        &Derivation::new("rule/x").unwrap(),
        &[],
        TimeRange::new(0, 9),
        &[(labels("x", "a"), columns(&[(10, 1.0)]))],
    );
    assert!(matches!(outside, Err(EngineError::InvalidArgument(_))));
}

#[test]
fn of_received_and_derived_rows_the_later_arrival_wins() {
    for seal in [false, true] {
        let fixture = Fixture::new(Duration::from_secs(3600));
        let m = labels("m", "a");
        let flush = || {
            if seal {
                fixture.store().flush().unwrap();
            }
        };
        let start = fixture.now();
        let times = [start, start + 1, start + 2];
        fixture.append(&m, &[(times[0], 1.0), (times[1], 1.0)]);
        flush();
        fixture.pass(5 * MINUTE_NS);
        fixture.replace(
            "rule/m",
            &[],
            TimeRange::new(times[1], times[2]),
            &[(m.clone(), columns(&[(times[1], 2.0), (times[2], 2.0)]))],
        );
        flush();
        fixture.pass(5 * MINUTE_NS);
        fixture.append(&m, &[(times[2], 3.0)]);
        flush();
        let expected = [(times[0], 1.0), (times[1], 2.0), (times[2], 3.0)];
        assert_eq!(fixture.values(&m), expected);
        fixture.store().compact().unwrap();
        assert_eq!(fixture.values(&m), expected);
        // The received row below comes back when the derived one goes.
        fixture.replace("rule/m", &[], TimeRange::ALL, &[]);
        let without = [(times[0], 1.0), (times[1], 1.0), (times[2], 3.0)];
        assert_eq!(fixture.values(&m), without);
    }
}

fn log(time: i64) -> LogRecord {
    LogRecord {
        time: TimestampNs(time),
        observed_time: TimestampNs(time),
        severity: 9,
        severity_text: String::new(),
        body: AttributeValue::Int(time),
        attributes: vec![],
        trace_id: None,
        span_id: None,
        event_name: String::new(),
    }
}

#[test]
fn a_snapshot_holds_still_whatever_happens() {
    let fixture = Fixture::new(Duration::ZERO);
    let (store, context) = (fixture.store(), &fixture.context);
    let stream = Arc::new(Stream::from_labels(labels("log", "a")));
    let write_logs = |times: &[i64]| {
        let mut append = store.begin(context).unwrap();
        for time in times {
            append.log(&stream, log(*time));
        }
        append.commit().unwrap();
    };
    let logs = |snapshot: &Snapshot| -> Vec<i64> {
        let request = ScanRequest::new(vec![], TimeRange::ALL);
        let batches = snapshot.scan_logs(context, &request).unwrap();
        let rows = batches.flat_map(|batch| batch.unwrap());
        rows.map(|row| row.record.time.0).collect()
    };
    let (a, b) = (labels("m", "a"), labels("m", "b"));
    let derived = |value: f64| [(labels("r", "a"), columns(&[(7, value)]))];
    fixture.append(&a, &[(1, 1.0)]);
    store.flush().unwrap();
    fixture.append(&a, &[(2, 2.0), (3, 3.0)]);
    fixture.replace("rule", &[], TimeRange::ALL, &derived(1.0));
    write_logs(&[1, 3]);
    let first = store.pin(context).unwrap();
    let then = fixture.read_at(&first);
    assert_eq!(then.len(), 2);

    // New and late samples, new series, another state of what is derived.
    fixture.append(&a, &[(4, 4.0), (2, 22.0)]);
    fixture.append(&b, &[(1, 1.0)]);
    fixture.replace("rule", &[], TimeRange::ALL, &derived(2.0));
    write_logs(&[2, 4]);
    let second = store.pin(context).unwrap();
    let later = fixture.read_at(&second);
    assert_eq!(later[&a], [(1, 1.0), (2, 22.0), (3, 3.0), (4, 4.0)]);
    assert_eq!(logs(&second), [1, 2, 3, 4]);

    let check = |what: &str| {
        assert_eq!(fixture.read_at(&first), then, "{what}");
        assert_eq!(fixture.read_at(&second), later, "{what}");
        assert_eq!(logs(&first), [1, 3], "{what}");
        assert_eq!(logs(&second), [1, 2, 3, 4], "{what}");
    };
    check("appended");
    store
        .delete(context, Signal::Metrics, &[], TimeRange::new(2, 9))
        .unwrap();
    store
        .delete(context, Signal::Logs, &[], TimeRange::new(1, 2))
        .unwrap();
    check("deleted");
    assert_eq!(fixture.values(&a), [(1, 1.0)]);
    fixture.append(&a, &[(5, 5.0)]);
    for round in 0..4 {
        store.flush().unwrap();
        fixture.append(&labels("other", "x"), &[(round, 1.0)]);
    }
    check("sealed, and the series are silent");
    store.compact().unwrap();
    fixture.append(&a, &[(6, 6.0)]);
    check("merged");
    assert!(store.stats().snapshot_bytes > 0);
    drop(first);
    assert_eq!(fixture.read_at(&second), later);
    drop(second);
    assert_eq!(store.stats().snapshot_bytes, 0);
    let present = fixture.read();
    assert_eq!(present[&a], [(1, 1.0), (5, 5.0), (6, 6.0)]);
    assert_eq!(present.len(), 3);
}

#[test]
fn snapshots_see_whole_requests_while_threads_write() {
    let store = Store::in_memory(StoreOptions {
        background: false,
        ..StoreOptions::default()
    })
    .unwrap();
    let context = RequestContext::new();
    let stop = std::sync::atomic::AtomicBool::new(false);
    let all: Vec<Labels> = (0..20).map(|i| labels("m", &i.to_string())).collect();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for time in 1.. {
                let mut append = store.begin(&context).unwrap();
                for labels in &all {
                    let series = append.define(None, labels).unwrap();
                    append.sample(series, TimestampNs(time), time as f64);
                }
                append.commit().unwrap();
                if time % 50 == 0 {
                    store.flush().unwrap();
                }
                if stop.load(Ordering::Relaxed) && time > 200 {
                    break;
                }
            }
        });
        for _ in 0..100 {
            let snapshot = store.pin(&context).unwrap();
            let request = ScanRequest::new(vec![], TimeRange::ALL);
            let read = || {
                let scan = snapshot.scan_metrics(&context, &request).unwrap();
                let mut columns = SampleColumns::default();
                let counts = (0..scan.len()).map(|index| {
                    scan.read(index, TimeRange::ALL, &mut columns).unwrap();
                    columns.len()
                });
                counts.filter(|count| *count > 0).collect::<Vec<_>>()
            };
            let first = read();
            assert!(first.windows(2).all(|pair| pair[0] == pair[1]), "{first:?}");
            assert!(first.is_empty() || first.len() == all.len());
            assert_eq!(read(), first);
        }
        stop.store(true, Ordering::Relaxed);
    });
    assert_eq!(store.stats().snapshot_bytes, 0);
}

#[test]
fn reads_as_of_then_are_refused_beyond_what_is_kept() {
    let mut fixture = Fixture::new(Duration::ZERO);
    let refused = |fixture: &Fixture, moment: i64| {
        let read = fixture
            .store()
            .pin_as_of(&fixture.context, TimestampNs(moment));
        matches!(read, Err(EngineError::AsOfTooOld { .. }))
    };
    let now = fixture.now();
    assert!(refused(&fixture, now - 1) && !refused(&fixture, now));
    // What was overwritten before the store was told to keep it cannot be known.
    fixture.as_of_retention = Duration::from_secs(3600);
    fixture.reopen();
    assert!(refused(&fixture, now - 1) && !refused(&fixture, now));
    fixture.pass(30 * MINUTE_NS);
    fixture.reopen();
    assert!(refused(&fixture, now - 1) && !refused(&fixture, now));
    fixture.pass(31 * MINUTE_NS);
    assert!(refused(&fixture, now) && !refused(&fixture, now + MINUTE_NS));
    let then = TimestampNs(now + MINUTE_NS);
    let snapshot = fixture.store().pin_as_of(&fixture.context, then);
    let request = ScanRequest::new(vec![], TimeRange::ALL);
    assert!(
        snapshot
            .unwrap()
            .scan_logs(&fixture.context, &request)
            .is_err()
    );
}

// ---- random sequences against a plain model

struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % bound
    }
}

/// Who wrote a row: nobody in particular, or a derivation.
type Owner = Option<&'static str>;

/// A version of a row: when it came, what it said (`None`: it was replaced by nothing).
type Version = (i64, Option<f64>);

/// The store as a map: every version of every row of every owner.
#[derive(Default)]
struct Model(BTreeMap<(Labels, i64, Owner), Vec<Version>>);

impl Model {
    fn write(&mut self, labels: &Labels, time: i64, owner: Owner, arrival: i64, value: f64) {
        // Received rows that arrive about when they were taken count as arrived then.
        let is_on_time = owner.is_none() && arrival - time <= MINUTE_NS;
        let arrival = if is_on_time { time } else { arrival };
        let key = (labels.clone(), time, owner);
        self.0.entry(key).or_default().push((arrival, Some(value)));
    }

    fn remove(&mut self, owner: Owner, arrival: i64, range: TimeRange, matcher: &Matcher) {
        for ((labels, time, of), versions) in &mut self.0 {
            if *of == owner && range.contains(TimestampNs(*time)) && matcher.matches_labels(labels)
            {
                versions.push((arrival, None));
            }
        }
    }

    fn delete(&mut self, range: TimeRange, matcher: &Matcher) {
        self.0.retain(|(labels, time, _), _| {
            !(range.contains(TimestampNs(*time)) && matcher.matches_labels(labels))
        });
    }

    /// What is there at a moment: the last version of each owner, then the last of all.
    fn at(&self, moment: i64) -> BTreeMap<Labels, Vec<(i64, f64)>> {
        let mut best: BTreeMap<(&Labels, i64), (i64, Owner, f64)> = BTreeMap::new();
        for ((labels, time, owner), versions) in &self.0 {
            let known = versions.iter().rfind(|(arrival, _)| *arrival <= moment);
            if let Some((arrival, Some(value))) = known {
                let new = (*arrival, *owner, *value);
                let slot = best.entry((labels, *time)).or_insert(new);
                if (new.0, new.1) >= (slot.0, slot.1) {
                    *slot = new;
                }
            }
        }
        let mut rows: BTreeMap<Labels, Vec<(i64, f64)>> = BTreeMap::new();
        for ((labels, time), (_, _, value)) in best {
            rows.entry(labels.clone()).or_default().push((time, value));
        }
        rows
    }
}

const DERIVATIONS: [&str; 2] = ["rule/a", "rule/b"];
const KEPT_MINUTES: i64 = 40;

struct Run {
    random: Random,
    fixture: Fixture,
    model: Model,
    /// No read goes further back.
    since: i64,
    next_value: f64,
    /// Snapshots of the present at some time, and what they have to show.
    held: Vec<(Snapshot, BTreeMap<Labels, Vec<(i64, f64)>>)>,
}

impl Run {
    fn new(seed: u64) -> Self {
        let fixture = Fixture::new(Duration::from_secs(60 * KEPT_MINUTES as u64));
        Self {
            random: Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1),
            since: fixture.now(),
            fixture,
            model: Model::default(),
            next_value: 0.0,
            held: Vec::new(),
        }
    }

    /// Takes a snapshot, looks at those taken earlier, and drops one now and then.
    fn hold(&mut self) {
        let store = self.fixture.store();
        let snapshot = store.pin(&self.fixture.context).unwrap();
        self.held.push((snapshot, self.model.at(i64::MAX)));
        for (snapshot, expected) in &self.held {
            assert_eq!(self.fixture.read_at(snapshot), *expected, "held");
        }
        if self.held.len() > 1 && self.random.below(2) == 0 {
            let which = self.random.below(self.held.len() as u64) as usize;
            self.held.remove(which);
        }
    }

    fn labels(&mut self) -> Labels {
        labels("m", &self.random.below(3).to_string())
    }

    /// Mostly about now; else late by minutes or days. Two rows of one owner at one time never come
    /// within the minute that counts as the same.
    fn time(&mut self) -> i64 {
        let now = self.fixture.now();
        match self.random.below(4) {
            0 | 1 => now,
            2 => now - (2 + self.random.below(20) as i64) * MINUTE_NS,
            _ => now - self.random.below(3) as i64 * DAY_NS - 5 * MINUTE_NS,
        }
    }

    fn value(&mut self) -> f64 {
        self.next_value += 1.0;
        self.next_value
    }

    fn append(&mut self) {
        let now = self.fixture.now();
        for _ in 0..=self.random.below(6) {
            let (labels, time, value) = (self.labels(), self.time(), self.value());
            self.fixture.append(&labels, &[(time, value)]);
            self.model.write(&labels, time, None, now, value);
        }
    }

    fn replace(&mut self) {
        let now = self.fixture.now();
        let owner = DERIVATIONS[self.random.below(2) as usize];
        let start = now - self.random.below(30) as i64 * MINUTE_NS;
        let range = TimeRange::new(start, start + self.random.below(10) as i64 * MINUTE_NS);
        let matcher = match self.random.below(2) {
            0 => Matcher::equal("__name__", "m"),
            _ => Matcher::equal("instance", "1"),
        };
        self.model.remove(Some(owner), now, range, &matcher);
        let mut rows = BTreeMap::new();
        for _ in 0..self.random.below(4) {
            let labels = self.labels();
            let minutes = (range.end.0 - range.start.0) / MINUTE_NS + 1;
            let time = start + self.random.below(minutes as u64) as i64 * MINUTE_NS;
            let value = self.value();
            let samples: &mut BTreeMap<i64, f64> = rows.entry(labels).or_default();
            samples.insert(time, value);
        }
        for (labels, samples) in &rows {
            for (time, value) in samples {
                self.model.write(labels, *time, Some(owner), now, *value);
            }
        }
        let rows: Vec<_> = rows
            .into_iter()
            .map(|(labels, samples)| (labels, columns(&samples.into_iter().collect::<Vec<_>>())))
            .collect();
        self.fixture.replace(owner, &[matcher], range, &rows);
    }

    fn delete(&mut self) {
        let start = self.fixture.now() - self.random.below(40) as i64 * MINUTE_NS;
        let range = TimeRange::new(start, start + self.random.below(9) as i64 * MINUTE_NS);
        let matcher = Matcher::equal("instance", &self.random.below(3).to_string());
        let (store, context) = (self.fixture.store(), &self.fixture.context);
        store
            .delete(
                context,
                Signal::Metrics,
                std::slice::from_ref(&matcher),
                range,
            )
            .unwrap();
        self.model.delete(range, &matcher);
    }

    fn check(&mut self) {
        let now = self.fixture.now();
        assert_eq!(self.fixture.read(), self.model.at(i64::MAX), "now");
        let back = self.random.below(KEPT_MINUTES as u64) as i64 * MINUTE_NS;
        let moment = (now - back).max(self.since);
        let snapshot = self
            .fixture
            .store()
            .pin_as_of(&self.fixture.context, TimestampNs(moment))
            .unwrap();
        let found = self.fixture.read_at(&snapshot);
        assert_eq!(
            found,
            self.model.at(moment),
            "as of {} minutes ago",
            back / MINUTE_NS
        );
    }

    fn step(&mut self) {
        self.fixture.pass(2 * MINUTE_NS);
        match self.random.below(21) {
            0..7 => self.append(),
            7..11 => self.replace(),
            11 => self.delete(),
            12..14 => self.fixture.store().flush().unwrap(),
            14 => self.fixture.store().compact().unwrap(),
            15 => {
                self.held.clear();
                self.fixture.power_cut();
            }
            16 => self.fixture.pass(20 * MINUTE_NS),
            17 | 18 => self.hold(),
            _ => self.check(),
        }
    }
}

/// `CHRONOLITH_MODEL_SEED=n` replays a seed, `CHRONOLITH_MODEL_RUNS=n` runs more of them.
#[test]
fn the_store_agrees_with_every_version_of_a_map() {
    let number = |name: &str| {
        let text = std::env::var(name).ok()?;
        text.parse::<u64>().ok()
    };
    let seeds = match number("CHRONOLITH_MODEL_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("CHRONOLITH_MODEL_RUNS").unwrap_or(12),
    };
    for seed in seeds {
        let outcome = std::panic::catch_unwind(|| {
            let mut run = Run::new(seed);
            for _ in 0..80 {
                run.step();
            }
            run.hold();
            run.fixture.store().compact().unwrap();
            run.hold();
            run.held.clear();
            assert_eq!(run.fixture.store().stats().snapshot_bytes, 0);
            run.check();
        });
        assert!(
            outcome.is_ok(),
            "CHRONOLITH_MODEL_SEED={seed} replays this failure"
        );
    }
}

#[test]
fn what_nobody_may_read_any_more_leaves_the_disk() {
    let fixture = Fixture::new(Duration::from_secs(3600));
    let m = labels("m", "a");
    let start = fixture.now();
    fixture.append(&m, &[(start, 1.0)]);
    fixture.pass(10 * MINUTE_NS);
    fixture.append(&m, &[(start, 2.0)]);
    fixture.store().compact().unwrap();
    let superseded = || fixture.store().stats().superseded_rows;
    assert_eq!((superseded(), fixture.store().stats().segment_rows), (1, 1));
    fixture.pass(50 * MINUTE_NS);
    fixture.store().compact().unwrap();
    assert_eq!(superseded(), 1);
    fixture.pass(20 * MINUTE_NS);
    fixture.store().compact().unwrap();
    assert_eq!((superseded(), fixture.store().stats().segment_rows), (0, 1));
    assert_eq!(fixture.values(&m), [(start, 2.0)]);
}

/// Prints what snapshots, derivations and kept versions cost. Run with `--release --ignored
/// --nocapture`.
#[test]
#[ignore = "a measurement"]
fn what_it_costs() {
    const SERIES: usize = 10_000;
    const ROUNDS: i64 = 60;
    let all: Vec<Labels> = (0..SERIES).map(|i| labels("m", &i.to_string())).collect();
    let scrape = |store: &Store, context: &RequestContext, round: i64, delay: i64| {
        let mut append = store.begin(context).unwrap();
        for labels in &all {
            let key = store.raw_key(labels.as_bytes());
            let series = match append.lookup(key) {
                Some(series) => series,
                None => append.define(Some(key), labels).unwrap(),
            };
            let time = TimestampNs(20_000 * DAY_NS + round * 15_000_000_000 - delay);
            append.sample(series, time, (round * 7 % 13) as f64);
        }
        append.commit().unwrap();
    };
    let run = |what: &str, as_of: Duration, delay: i64, pin_every: i64| {
        let now = Arc::new(AtomicI64::new(20_000 * DAY_NS));
        let clock = Arc::clone(&now);
        let store = Store::in_memory(StoreOptions {
            background: false,
            as_of_retention: as_of,
            clock: Clock::new(move || TimestampNs(clock.load(Ordering::Relaxed))),
            ..StoreOptions::default()
        })
        .unwrap();
        let context = RequestContext::new();
        let began = std::time::Instant::now();
        let mut pin = None;
        for round in 0..ROUNDS {
            now.store(20_000 * DAY_NS + round * 15_000_000_000, Ordering::Relaxed);
            if pin_every > 0 && round % pin_every == 0 {
                pin = Some(store.pin(&context).unwrap());
            }
            scrape(&store, &context, round, delay);
        }
        let per_sample = began.elapsed().as_nanos() as f64 / (SERIES as f64 * ROUNDS as f64);
        let stats = store.stats();
        drop(pin);
        store.compact().unwrap();
        let bytes = store.stats().segment_bytes as f64 / (SERIES as f64 * ROUNDS as f64);
        println!(
            "{what:40} {per_sample:6.0} ns/sample, head {:6.1} MB, saved {:6.1} MB, \
             {bytes:5.2} B/sample at rest",
            stats.head_bytes as f64 / 1e6,
            stats.snapshot_bytes as f64 / 1e6,
        );
    };
    let hour = Duration::from_secs(3600);
    run("plain", Duration::ZERO, 0, 0);
    run("a new snapshot every 4 scrapes", Duration::ZERO, 0, 4);
    run("a new snapshot every scrape", Duration::ZERO, 0, 1);
    run("as_of_retention, on time", hour, 0, 0);
    run("as_of_retention, 10 minutes late", hour, 10 * MINUTE_NS, 0);
    let fixture = Fixture::new(Duration::ZERO);
    let rows: Vec<_> = all
        .iter()
        .map(|labels| (labels.clone(), columns(&[(1, 1.0)])))
        .collect();
    for what in ["first", "again"] {
        let began = std::time::Instant::now();
        for _ in 0..10 {
            fixture.replace("rule", &[], TimeRange::new(0, 10), &rows);
        }
        let per_row = began.elapsed().as_nanos() as f64 / (10 * SERIES) as f64;
        println!("replace_range of {SERIES} series, {what}: {per_row:.0} ns per row");
    }
}
