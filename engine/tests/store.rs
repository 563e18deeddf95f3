//! The store as an embedder sees it, over disk and over a file system that forgets unsynced pages.

#![expect(clippy::unwrap_used, reason = "a test that fails here has failed")]

#[path = "common/samples.rs"]
mod samples;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use chronolith_engine::io::{Memory, SharedFileSystem};
use chronolith_engine::model::{
    AttributeValue, Exemplar, Histogram, Labels, LogRecord, Metadata, MetricType, SampleColumns,
    Scope, Span, SpanEvent, SpanId, SpanKind, SpanStatus, Stream, TimeRange, TimestampNs, TraceId,
};
use chronolith_engine::{
    Clock, EngineError, Matcher, RequestContext, ScanRequest, Signal, Store, StoreOptions,
    SyncMode, TenantId,
};
use samples::{append, labels, options, read};

const DAY_NS: i64 = 86_400_000_000_000;
const DIR: &str = "/data";

struct Fixture {
    memory: Arc<Memory>,
    store: Option<Store>,
    context: RequestContext,
}

impl Fixture {
    fn new() -> Self {
        let mut fixture = Self {
            memory: Arc::new(Memory::new()),
            store: None,
            context: RequestContext::new(),
        };
        fixture.open(options());
        fixture
    }

    fn open(&mut self, options: StoreOptions) {
        self.store = None;
        let fs: SharedFileSystem = Arc::clone(&self.memory) as SharedFileSystem;
        self.store = Some(Store::open_on(fs, DIR, options).unwrap());
    }

    /// Loses what was not synced and opens what is left.
    fn power_cut(&mut self) {
        self.store = None;
        self.memory.crash();
        self.open(options());
    }

    fn store(&self) -> &Store {
        self.store.as_ref().unwrap()
    }

    fn append(&self, labels: &Labels, samples: &[(i64, f64)]) {
        append(self.store(), &self.context, labels, samples);
    }

    fn read(&self, matchers: Vec<Matcher>) -> Vec<(Labels, SampleColumns)> {
        read(self.store(), &self.context, matchers)
    }
}

#[test]
fn everything_of_a_metric_survives_seal_merge_and_power_cut() {
    let mut fixture = Fixture::new();
    let bucket = labels("latency", "a");
    let histogram = Arc::new(Histogram {
        schema: 3,
        count: 3.0,
        sum: 4.5,
        positive_spans: vec![chronolith_engine::model::BucketSpan {
            offset: 1,
            length: 2,
        }],
        positive_buckets: vec![1.0, 2.0],
        integer: true,
        ..Histogram::default()
    });
    let exemplar = |time| Exemplar {
        labels: Labels::from_pairs([("trace_id", "abc")]).unwrap(),
        value: 0.25,
        time: TimestampNs(time),
    };
    let metadata = Metadata {
        metric_type: MetricType::Histogram,
        unit: "seconds".into(),
        help: "how long".into(),
    };
    let write = |store: &Store, base: i64| {
        let mut append = store.begin(&RequestContext::new()).unwrap();
        let series = append.define(None, &bucket).unwrap();
        let nan = f64::from_bits(0x7ff0_0000_0000_0002);
        append.sample_with_start(series, TimestampNs(base), TimestampNs(7), -0.0);
        append.sample(series, TimestampNs(base + 1), nan);
        append.histogram(series, TimestampNs(base + 2), None, Arc::clone(&histogram));
        append.exemplar(series, exemplar(base + 2));
        append.metadata("latency", metadata.clone());
        append.commit().unwrap();
    };
    let check = |fixture: &Fixture, count: usize| {
        let (found, columns) = fixture.read(vec![]).remove(0);
        assert_eq!(found, bucket);
        assert_eq!(columns.timestamps.len(), 2 * count);
        assert_eq!(columns.values[0].to_bits(), (-0.0_f64).to_bits());
        assert_eq!(columns.values[1].to_bits(), 0x7ff0_0000_0000_0002);
        assert_eq!(&columns.start_timestamps[..2], [7, 0]);
        assert_eq!(columns.histograms.len(), count);
        assert_eq!(columns.histograms[0].histogram, histogram);
        let (store, context) = (fixture.store(), &fixture.context);
        let exemplars = store.exemplars(context, &[], TimeRange::ALL).unwrap();
        assert_eq!(exemplars.len(), 1);
        assert_eq!(exemplars[0].1.len(), count);
        assert_eq!(exemplars[0].1[0], exemplar(1002));
        let known = store.metadata(context, Some("latency")).unwrap();
        assert_eq!(known["latency"], std::slice::from_ref(&metadata));
    };
    write(fixture.store(), 1000);
    check(&fixture, 1);
    fixture.power_cut();
    check(&fixture, 1);
    fixture.store().flush().unwrap();
    assert_eq!(fixture.store().stats().head_samples, 0);
    write(fixture.store(), 2000);
    check(&fixture, 2);
    fixture.power_cut();
    check(&fixture, 2);
    fixture.store().compact().unwrap();
    assert_eq!(fixture.store().stats().segments, 1);
    check(&fixture, 2);
    fixture.power_cut();
    check(&fixture, 2);
}

fn stream(app: &str) -> Arc<Stream> {
    Arc::new(Stream {
        labels: Labels::from_pairs([("app", app)]).unwrap(),
        resource: vec![("service.name".into(), AttributeValue::String(app.into()))],
        scope: Scope {
            name: "lib".into(),
            version: "1".into(),
            attributes: vec![],
        },
    })
}

fn record(time: i64, body: &str) -> LogRecord {
    LogRecord {
        time: TimestampNs(time),
        observed_time: TimestampNs(time + 5),
        severity: 9,
        severity_text: "INFO".into(),
        body: AttributeValue::String(body.into()),
        attributes: vec![
            ("user".into(), AttributeValue::Int(7)),
            (
                "tags".into(),
                AttributeValue::Array(vec![AttributeValue::Bool(true)]),
            ),
        ],
        trace_id: Some(TraceId([3; 16])),
        span_id: None,
        event_name: String::new(),
    }
}

fn span(time: i64, id: u8, name: &str) -> Span {
    Span {
        trace_id: TraceId([1; 16]),
        span_id: SpanId([id; 8]),
        parent_span_id: Some(SpanId([9; 8])),
        trace_state: String::new(),
        name: name.into(),
        kind: SpanKind::Server,
        time: TimestampNs(time),
        duration_ns: 5,
        status: SpanStatus::Error,
        status_message: "no".into(),
        attributes: vec![("ratio".into(), AttributeValue::Float(0.5))],
        events: vec![SpanEvent {
            time: TimestampNs(time + 1),
            name: "retry".into(),
            attributes: vec![],
        }],
        links: vec![],
    }
}

fn bodies(store: &Store, context: &RequestContext, app: &str) -> Vec<String> {
    let request = ScanRequest::new(vec![Matcher::equal("app", app)], TimeRange::ALL);
    let rows = store
        .scan_logs(context, &request)
        .unwrap()
        .flat_map(|batch| batch.unwrap());
    rows.map(|row| {
        assert_eq!(*row.stream, *stream(app));
        let AttributeValue::String(body) = &row.record.body else {
            panic!("a string")
        };
        assert_eq!(*row.record, record(row.record.time.0, body));
        body.clone()
    })
    .collect()
}

fn span_names(store: &Store, context: &RequestContext) -> Vec<String> {
    let request = ScanRequest::new(vec![], TimeRange::ALL);
    let rows = store
        .scan_spans(context, &request)
        .unwrap()
        .flat_map(|batch| batch.unwrap());
    rows.map(|row| {
        let id = row.span.span_id.0[0];
        assert_eq!(*row.span, span(row.span.time.0, id, &row.span.name));
        row.span.name.clone()
    })
    .collect()
}

#[test]
fn logs_and_spans_go_through_log_head_and_segments() {
    let mut fixture = Fixture::new();
    let write = |store: &Store, suffix: &str, base: i64| {
        let mut append = store.begin(&RequestContext::new()).unwrap();
        for app in ["x", "y"] {
            for (time, body) in [(2, "b"), (1, "a"), (2, "b"), (2, "c")] {
                append.log(
                    &stream(app),
                    record(base + time, &format!("{body}{suffix}")),
                );
            }
        }
        append.span(&stream("x"), span(9, 1, &format!("first{suffix}")));
        append.span(&stream("x"), span(base + 10, 2, &format!("second{suffix}")));
        append.commit().unwrap();
    };
    let check = |fixture: &Fixture| {
        let (store, context) = (fixture.store(), &fixture.context);
        let expected = ["a1", "b1", "b1", "c1", "a2", "b2", "b2", "c2"];
        assert_eq!(bodies(store, context, "x"), expected);
        assert_eq!(bodies(store, context, "y"), expected);
        // The span with the same identity was written twice; the later one counts.
        assert_eq!(span_names(store, context), ["first2", "second1", "second2"]);
    };
    write(fixture.store(), "1", 0);
    fixture.power_cut();
    fixture.store().flush().unwrap();
    // Another start time: the identity of a span does not include it, but this one repeats it.
    let mut append = fixture.store().begin(&fixture.context).unwrap();
    for app in ["x", "y"] {
        for (time, body) in [(12, "b2"), (11, "a2"), (12, "b2"), (12, "c2")] {
            append.log(&stream(app), record(time, body));
        }
    }
    append.span(&stream("x"), span(9, 1, "first2"));
    append.span(&stream("x"), span(20, 3, "second2"));
    append.commit().unwrap();
    check(&fixture);
    fixture.store().flush().unwrap();
    check(&fixture);
    fixture.power_cut();
    check(&fixture);
    fixture.store().compact().unwrap();
    let segments = fixture.store().segments();
    let signals: Vec<_> = segments
        .iter()
        .map(|segment| (segment.signal, segment.level))
        .collect();
    assert_eq!(signals, [(Signal::Logs, 1), (Signal::Spans, 1)]);
    check(&fixture);
    let range = TimeRange::new(2, 2);
    let matchers = [Matcher::equal("app", "x")];
    let (store, context) = (fixture.store(), &fixture.context);
    store
        .delete(context, Signal::Logs, &matchers, range)
        .unwrap();
    let left = ["a1", "a2", "b2", "b2", "c2"];
    assert_eq!(bodies(store, context, "x"), left);
    store.compact().unwrap();
    assert_eq!(bodies(store, context, "x"), left);
    assert_eq!(bodies(store, context, "y").len(), 8);
    assert_eq!(store.stats().tombstones, 0);
}

#[test]
fn rows_of_each_day_lie_in_segments_of_their_own() {
    let fixture = Fixture::new();
    let far = 250 * 365 * DAY_NS;
    let samples = [
        (5 * DAY_NS, 1.0),
        (6 * DAY_NS, 2.0),
        (far, 3.0),
        (-far, 4.0),
        (i64::MAX, 5.0),
    ];
    fixture.append(&labels("m", "a"), &samples);
    fixture.append(&labels("m", "b"), &[(5 * DAY_NS + 1, 1.0)]);
    fixture.store().compact().unwrap();
    assert_eq!(fixture.store().segments().len(), 5);
    let found = fixture
        .read(vec![Matcher::equal("instance", "a")])
        .remove(0)
        .1;
    assert_eq!(found.values, [4.0, 1.0, 2.0, 3.0, 5.0]);
}

#[test]
fn retention_drops_old_days_and_old_rows() {
    let mut fixture = Fixture::new();
    let now = Arc::new(AtomicI64::new(100 * DAY_NS));
    let clock = Arc::clone(&now);
    fixture.open(StoreOptions {
        retention: Some(Duration::from_secs(10 * 86_400)),
        clock: Clock::new(move || TimestampNs(clock.load(Ordering::Relaxed))),
        ..options()
    });
    for day in 85..=100 {
        fixture.append(&labels("m", "a"), &[(day * DAY_NS, day as f64)]);
    }
    fixture.store().compact().unwrap();
    let values = |fixture: &Fixture| fixture.read(vec![]).remove(0).1.values;
    assert_eq!(values(&fixture).first(), Some(&90.0));
    now.store(105 * DAY_NS + 1, Ordering::Relaxed);
    fixture.store().compact().unwrap();
    assert_eq!(values(&fixture).first(), Some(&96.0));
}

#[test]
fn tenants_share_a_store_and_see_only_their_own() {
    let mut fixture = Fixture::new();
    let other = RequestContext::for_tenant(TenantId::new("other").unwrap());
    fixture.append(&labels("m", "a"), &[(1, 1.0)]);
    append(fixture.store(), &other, &labels("m", "a"), &[(1, 2.0)]);
    append(fixture.store(), &other, &labels("m", "z"), &[(1, 3.0)]);
    for _ in 0..2 {
        let (store, context) = (fixture.store(), &fixture.context);
        assert_eq!(read(store, context, vec![])[0].1.values, [1.0]);
        assert_eq!(read(store, &other, vec![]).len(), 2);
        let listed = store
            .label_values(context, "instance", &[], TimeRange::ALL, None)
            .unwrap();
        assert_eq!(listed, ["a"]);
        fixture.store().compact().unwrap();
        fixture.power_cut();
        assert_eq!(fixture.store().tenants().len(), 2);
    }
}

#[test]
fn a_reader_beside_the_writer_follows_it() {
    let fixture = Fixture::new();
    fixture.append(&labels("m", "a"), &[(1, 1.0)]);
    fixture
        .store()
        .state_put(&fixture.context, "c", "k", None, b"1")
        .unwrap();
    let fs: SharedFileSystem = Arc::clone(&fixture.memory) as SharedFileSystem;
    let reader = Store::open_read_only_on(fs, Path::new(DIR), options()).unwrap();
    let context = &fixture.context;
    assert!(matches!(
        reader.begin(context),
        Err(EngineError::Unavailable(_))
    ));
    let document = |store: &Store| store.state_get(context, "c", "k").unwrap();
    // The log shows a record to others once the writer has found time to mark its end.
    let same = |why: &str| {
        let patience = Instant::now() + Duration::from_secs(20);
        loop {
            reader.refresh().unwrap();
            let rows = read(&reader, context, vec![]) == fixture.read(vec![]);
            if rows && document(&reader) == document(fixture.store()) {
                return;
            }
            assert!(
                Instant::now() < patience,
                "{why}: the reader does not catch up"
            );
            std::thread::sleep(Duration::from_millis(5));
        }
    };
    same("log alone");
    fixture.append(&labels("m", "b"), &[(2, 2.0)]);
    same("log went on");
    fixture.store().flush().unwrap();
    same("sealed");
    fixture.append(&labels("m", "a"), &[(1, 5.0), (3, 3.0)]);
    fixture
        .store()
        .state_put(context, "c", "k", None, b"2")
        .unwrap();
    same("sealed and log");
    let matchers = [Matcher::equal("instance", "b")];
    fixture
        .store()
        .delete(context, Signal::Metrics, &matchers, TimeRange::ALL)
        .unwrap();
    same("deleted");
    fixture
        .store()
        .state_delete(context, "c", "k", None)
        .unwrap();
    fixture.store().compact().unwrap();
    same("merged");
}

#[test]
fn a_scan_keeps_what_it_pinned() {
    let fixture = Fixture::new();
    fixture.append(&labels("m", "a"), &[(1, 1.0)]);
    fixture.store().flush().unwrap();
    fixture.append(&labels("m", "a"), &[(2, 2.0)]);
    let request = ScanRequest::new(vec![], TimeRange::ALL);
    let scan = fixture
        .store()
        .scan_metrics(&fixture.context, &request)
        .unwrap();
    fixture.store().compact().unwrap();
    fixture.append(&labels("m", "a"), &[(3, 3.0)]);
    fixture.store().compact().unwrap();
    let mut columns = SampleColumns::default();
    scan.read(0, TimeRange::ALL, &mut columns).unwrap();
    assert_eq!(columns.values, [1.0, 2.0]);
}

#[test]
fn silent_series_leave_the_head_and_open_sessions_keep_theirs() {
    let fixture = Fixture::new();
    let store = fixture.store();
    let key = store.raw_key(b"a");
    let mut early = store.begin(&fixture.context).unwrap();
    let series = early.define(Some(key), &labels("m", "a")).unwrap();
    for round in 0..4 {
        fixture.append(&labels("m", "b"), &[(round, 1.0)]);
        store.flush().unwrap();
    }
    assert_eq!(store.begin(&fixture.context).unwrap().lookup(key), None);
    early.sample(series, TimestampNs(7), 7.0);
    early.commit().unwrap();
    assert_eq!(
        fixture.read(vec![Matcher::equal("instance", "a")])[0]
            .1
            .values,
        [7.0]
    );
    for round in 4..8 {
        fixture.append(&labels("m", "b"), &[(round, 1.0)]);
        store.flush().unwrap();
    }
    assert_eq!(store.stats().head_series, 1);
    assert_eq!(fixture.read(vec![]).len(), 2);
}

#[test]
fn damage_is_reported_with_the_name_of_the_file() {
    let mut fixture = Fixture::new();
    fixture.append(&labels("m", "a"), &[(1, 1.0)]);
    fixture.store().flush().unwrap();
    fixture.store = None;
    let paths = fixture.memory.paths();
    let segment = paths
        .iter()
        .find(|p| p.extension().is_some_and(|e| e == "seg"))
        .unwrap();
    fixture
        .memory
        .damage(segment, |bytes| bytes.truncate(100))
        .unwrap();
    let fs: SharedFileSystem = Arc::clone(&fixture.memory) as SharedFileSystem;
    let error = Store::open_on(fs, DIR, options()).unwrap_err();
    let name = segment.file_name().unwrap().to_string_lossy().into_owned();
    assert!(error.to_string().contains(&name), "{error}");
}

#[test]
fn memory_is_bounded_and_sealing_makes_room() {
    let mut fixture = Fixture::new();
    fixture.open(StoreOptions {
        memory_bytes_max: 200_000,
        ..options()
    });
    let mut refused = false;
    for round in 0..2000_i64 {
        let store = fixture.store();
        let append = store.begin(&fixture.context);
        let Ok(mut append) = append else {
            assert!(matches!(append, Err(EngineError::Unavailable(_))));
            refused = true;
            break;
        };
        let series = append
            .define(None, &labels("m", &(round % 50).to_string()))
            .unwrap();
        for step in 0..100 {
            append.sample(
                series,
                TimestampNs(round * 100 + step),
                (round * step) as f64 * 0.37,
            );
        }
        append.commit().unwrap();
    }
    assert!(refused);
    fixture.store().flush().unwrap();
    fixture.append(&labels("m", "1"), &[(i64::MAX, 1.0)]);
}

#[test]
fn a_directory_has_one_writer() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), options()).unwrap();
    assert!(matches!(
        Store::open(dir.path(), options()),
        Err(EngineError::Locked { .. })
    ));
    append(
        &store,
        &RequestContext::new(),
        &labels("m", "a"),
        &[(1, 1.0)],
    );
    store.clone().close().unwrap();
    assert!(store.begin(&RequestContext::new()).is_err());
    drop(store);
    let store = Store::open(dir.path(), options()).unwrap();
    assert_eq!(store.stats().replay.rows, 1);
    assert_eq!(read(&store, &RequestContext::new(), vec![]).len(), 1);
}

#[test]
fn threads_append_while_the_worker_seals_and_merges() {
    let dir = tempfile::tempdir().unwrap();
    let busy = StoreOptions {
        sync: SyncMode::Off,
        seal_samples: 2_000,
        seal_samples_per_series_min: 1,
        ..StoreOptions::default()
    };
    let store = Store::open(dir.path(), busy).unwrap();
    std::thread::scope(|scope| {
        for thread in 0..4_i64 {
            let store = store.clone();
            scope.spawn(move || {
                let context = RequestContext::new();
                for round in 0..300_i64 {
                    let samples: Vec<_> = (0..20)
                        .map(|i| (round * 20 + i, (round * 20 + i) as f64))
                        .collect();
                    append(
                        &store,
                        &context,
                        &labels("m", &thread.to_string()),
                        &samples,
                    );
                    let found = read(
                        &store,
                        &context,
                        vec![Matcher::equal("instance", &thread.to_string())],
                    );
                    assert_eq!(found[0].1.values.len() as i64, (round + 1) * 20);
                }
            });
        }
    });
    store.compact().unwrap();
    for (_, columns) in read(&store, &RequestContext::new(), vec![]) {
        assert_eq!(columns.values, (0..6000).map(f64::from).collect::<Vec<_>>());
    }
}

#[test]
fn documents_survive_and_do_not_keep_the_log_long() {
    let mut fixture = Fixture::new();
    let value = vec![7_u8; 10_000];
    let mut version = 0;
    for _ in 0..20 {
        let (store, context) = (fixture.store(), &fixture.context);
        version = store
            .state_put(context, "positions", "file", Some(version), &value)
            .unwrap();
    }
    fixture.store().flush().unwrap();
    let log = fixture.store().stats().wal.unwrap();
    assert!(
        log.bytes < 50_000,
        "{} bytes of log after a flush",
        log.bytes
    );
    fixture.power_cut();
    let (store, context) = (fixture.store(), &fixture.context);
    let document = store
        .state_get(context, "positions", "file")
        .unwrap()
        .unwrap();
    assert_eq!((document.version, &*document.value), (version, &*value));
    store
        .state_delete(context, "positions", "file", Some(version))
        .unwrap();
    store.flush().unwrap();
    fixture.power_cut();
    let listed = fixture
        .store()
        .state_list(&fixture.context, "positions", "", 9);
    assert_eq!(listed.unwrap(), []);
}

#[test]
fn a_full_disk_refuses_keeps_what_was_acknowledged_and_recovers() {
    let mut fixture = Fixture::new();
    fixture.memory.set_capacity(Some(6 << 20));
    let mut acknowledged = 0_i64;
    let refused = loop {
        let mut append = fixture.store().begin(&fixture.context).unwrap();
        let series = append.define(None, &labels("m", "a")).unwrap();
        for step in 0..5_000 {
            let time = acknowledged * 5_000 + step;
            append.sample(series, TimestampNs(time), (time * time) as f64 * 0.1);
        }
        match append.commit() {
            Ok(_) => acknowledged += 1,
            Err(error) => break error,
        }
    };
    assert!(
        matches!(refused, EngineError::Unavailable(_)),
        "{refused:?}"
    );
    assert_eq!(fixture.read(vec![])[0].1.len() as i64, acknowledged * 5_000);
    fixture.memory.set_capacity(None);
    fixture.append(&labels("m", "a"), &[(-1, 1.0)]);
    fixture.power_cut();
    assert_eq!(
        fixture.read(vec![])[0].1.len() as i64,
        acknowledged * 5_000 + 1
    );
}

/// Who hands over two texts, one after the other and without waiting, finds the second one in force,
/// also if it was the one in force before.
#[test]
fn of_metadata_under_way_the_last_counts() {
    let mut fixture = Fixture::new();
    let help = |text: &str| Metadata {
        help: text.into(),
        ..Metadata::default()
    };
    let newest = |fixture: &Fixture| {
        let known = fixture
            .store()
            .metadata(&fixture.context, Some("m"))
            .unwrap();
        known["m"][0].help.clone()
    };
    for round in 0..50 {
        let (sender, answers) = std::sync::mpsc::channel();
        for text in ["before", "between", "before"] {
            let mut session = fixture.store().begin(&fixture.context).unwrap();
            session.metadata("m", help(text));
            let sender = sender.clone();
            session.submit(move |result| {
                // Who listens waits for all answers.
                let _ = sender.send(result.is_ok());
            });
        }
        drop(sender);
        assert!(answers.iter().all(|stored| stored));
        assert_eq!(newest(&fixture), "before", "round {round}");
    }
    let mut session = fixture.store().begin(&fixture.context).unwrap();
    session.metadata("m", help("between"));
    session.metadata("m", help("before"));
    session.metadata("m", help("before"));
    session.commit().unwrap();
    assert_eq!(newest(&fixture), "before", "in one request");
    fixture.power_cut();
    assert_eq!(newest(&fixture), "before", "after a power cut");
}
