//! A store whose disk is full, whose calls fail, or whose files are replaced under a reader: what it
//! must still do. The simulation beside this finds such cases; here stand those that were found, and
//! those that need threads.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::*;
use crate::EngineError;
use crate::io::{Fault, Faulty, FileSystem as _, Operation};
use crate::model::{AttributeValue, LogRecord, SampleColumns, Stream, TimestampNs};
use crate::test_samples::{append, labels, options, try_append};

fn count_samples(store: &Store, context: &RequestContext) -> usize {
    let all = ScanRequest::new(vec![], TimeRange::ALL);
    let scan = store.scan_metrics(context, &all).unwrap();
    let mut columns = SampleColumns::default();
    let count = |index| {
        scan.read(index, TimeRange::ALL, &mut columns).unwrap();
        columns.len()
    };
    (0..scan.len()).map(count).sum()
}

fn log_record(time: i64) -> LogRecord {
    LogRecord {
        time: TimestampNs(time),
        observed_time: TimestampNs(time),
        severity: 9,
        severity_text: String::new(),
        body: AttributeValue::String("text".into()),
        attributes: Vec::new(),
        trace_id: None,
        span_id: None,
        event_name: String::new(),
    }
}

/// The kernel may have dropped the pages: nothing is taken any more, reads go on, and opening again
/// finds what was acknowledged.
#[test]
fn a_failed_sync_is_final_until_the_store_is_opened_again() {
    let memory = Memory::new();
    let fs = Faulty::new(Arc::new(memory.clone()), |_| None);
    let store = Store::open_on(Arc::new(fs.clone()), "/data", options()).unwrap();
    let context = RequestContext::new();
    let series = labels("m", "a");
    append(&store, &context, &series, &[(1, 1.0)]);
    let mut fails = true;
    fs.set_rule(move |call| {
        (call.operation == Operation::Sync && std::mem::take(&mut fails))
            .then_some(Fault::InputOutput)
    });
    for _ in 0..3 {
        let refusals = [
            try_append(&store, &context, &series, &[(2, 2.0)]).unwrap_err(),
            store
                .delete(&context, Signal::Metrics, &[], TimeRange::ALL)
                .unwrap_err(),
            store.state_put(&context, "c", "k", None, b"x").unwrap_err(),
            store.flush().unwrap_err(),
        ];
        for refusal in refusals {
            assert!(matches!(refusal, EngineError::Poisoned(_)), "{refusal:?}");
        }
        assert_eq!(count_samples(&store, &context), 1, "reads go on");
    }
    assert!(store.stats().wal.unwrap().poisoned.is_some());
    drop(store);
    memory.crash();
    let store = Store::open_on(Arc::new(memory.clone()), "/data", options()).unwrap();
    assert_eq!(count_samples(&store, &context), 1);
    append(&store, &context, &series, &[(2, 2.0)]);
}

/// Disk and memory are full: refused at once, read all the same, and taken again within ten seconds
/// from the moment there is space, without anybody's help.
#[test]
fn a_full_store_recovers_by_itself() {
    let memory = Memory::new();
    let background = StoreOptions {
        background: true,
        memory_bytes_max: 400_000,
        ..StoreOptions::default()
    };
    let store = Store::open_on(Arc::new(memory.clone()), "/data", background).unwrap();
    let context = RequestContext::new();
    let used = || -> u64 {
        let paths = memory.paths().into_iter();
        paths.filter_map(|path| memory.length(&path).unwrap()).sum()
    };
    // The log has the space that it allocated ahead, segments have none.
    append(&store, &context, &labels("m", "a"), &[(0, 0.5)]);
    memory.set_capacity(Some(used()));
    let mut acknowledged = 1_i64;
    let refusal = loop {
        let samples: Vec<_> = (0..1000)
            .map(|n| (acknowledged + n, (n * n) as f64 * 0.37))
            .collect();
        match try_append(&store, &context, &labels("m", "a"), &samples) {
            Ok(()) => acknowledged += 1000,
            Err(refusal) => break refusal,
        }
    };
    assert!(
        matches!(refusal, EngineError::Unavailable(_)),
        "{refusal:?}"
    );
    let asked = Instant::now();
    let again = try_append(&store, &context, &labels("m", "a"), &[(-1, 1.0)]);
    assert!(again.is_err() && asked.elapsed() < Duration::from_secs(2));
    assert_eq!(count_samples(&store, &context) as i64, acknowledged);

    memory.set_capacity(None);
    let freed = Instant::now();
    while try_append(&store, &context, &labels("m", "a"), &[(-1, 1.0)]).is_err() {
        assert!(freed.elapsed() < Duration::from_secs(10), "still refused");
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(count_samples(&store, &context) as i64, acknowledged + 1);
}

/// The snapshot of the state documents goes when the next one is written, perhaps just between a
/// reader's looks at the manifest and at the snapshot.
#[test]
fn a_reader_opens_while_the_writer_replaces_the_state_documents() {
    let memory = Memory::new();
    let writer = Store::open_on(Arc::new(memory.clone()), "/data", options()).unwrap();
    let context = RequestContext::new();
    let change = |value: &[u8]| {
        let put = writer.state_put(&context, "c", "k", None, value);
        put.unwrap();
        append(&writer, &context, &labels("m", "a"), &[(1, 1.0)]);
        writer.flush().unwrap();
    };
    change(b"1");
    let again = std::sync::atomic::AtomicBool::new(true);
    std::thread::scope(|scope| {
        let (ask, asked) = std::sync::mpsc::channel();
        let (answer, answered) = std::sync::mpsc::channel();
        let change = &change;
        scope.spawn(move || {
            while asked.recv().is_ok() {
                change(b"2");
                answer.send(()).unwrap();
            }
        });
        let fs = Faulty::new(Arc::new(memory.clone()), move |call| {
            let first = call.operation == Operation::Map && again.swap(false, Ordering::SeqCst);
            if first {
                ask.send(()).unwrap();
                answered.recv().unwrap();
            }
            None
        });
        let reader = Store::open_read_only_on(Arc::new(fs), "/data", options()).unwrap();
        let found = reader.state_get(&context, "c", "k").unwrap().unwrap();
        assert_eq!(&*found.value, b"2");
        drop(reader);
    });
}

#[test]
fn versions_of_documents_do_not_start_anew_when_all_are_gone() {
    let memory = Memory::new();
    let context = RequestContext::new();
    let open = || Store::open_on(Arc::new(memory.clone()), "/data", options()).unwrap();
    let store = open();
    let first = store.state_put(&context, "c", "k", None, b"1").unwrap();
    store.state_delete(&context, "c", "k", None).unwrap();
    store.flush().unwrap();
    drop(store);
    let store = open();
    let again = store.state_put(&context, "c", "k", Some(0), b"2").unwrap();
    assert!(again > first, "{again} after {first}");
}

/// Metadata lies in segments beside series of its metric; there may be none.
#[test]
fn metadata_without_samples_outlives_the_log() {
    let memory = Memory::new();
    let context = RequestContext::new();
    let open = || Store::open_on(Arc::new(memory.clone()), "/data", options()).unwrap();
    let mut store = open();
    let describe = |store: &Store, help: &str| {
        let mut append = store.begin(&context).unwrap();
        let metadata = Metadata {
            help: help.into(),
            ..Metadata::default()
        };
        append.metadata("lonely", metadata);
        append.commit().unwrap();
    };
    describe(&store, "older");
    describe(&store, "newer");
    for _ in 0..3 {
        append(&store, &context, &labels("m", "a"), &[(1, 1.0)]);
        store.flush().unwrap();
        drop(store);
        memory.crash();
        store = open();
        let known = &store.metadata(&context, Some("lonely")).unwrap()["lonely"];
        let help: Vec<_> = known.iter().map(|m| m.help.as_str()).collect();
        assert_eq!(help, ["newer", "older"]);
    }
}

/// Days are merged apart from each other, and a merged segment bears the generation of its last input.
#[test]
fn the_newest_metadata_stays_the_newest_over_merges() {
    let memory = Memory::new();
    let context = RequestContext::new();
    let open = || Store::open_on(Arc::new(memory.clone()), "/data", options()).unwrap();
    let store = open();
    let describe = |help: &str| {
        let mut append = store.begin(&context).unwrap();
        let metadata = Metadata {
            help: help.into(),
            ..Metadata::default()
        };
        append.metadata("m", metadata);
        append.commit().unwrap();
    };
    let day = 86_400_000_000_000;
    describe("older");
    append(&store, &context, &labels("m", "a"), &[(1, 1.0)]);
    store.flush().unwrap();
    describe("newer");
    append(&store, &context, &labels("m", "a"), &[(day, 1.0)]);
    store.flush().unwrap();
    // The first day gets a segment without the metric, and with it a higher generation.
    append(&store, &context, &labels("other", "a"), &[(2, 1.0)]);
    store.flush().unwrap();
    let check = |store: &Store| {
        let known = &store.metadata(&context, Some("m")).unwrap()["m"];
        let help: Vec<_> = known.iter().map(|m| m.help.as_str()).collect();
        assert_eq!(help, ["newer", "older"]);
    };
    check(&store);
    store.compact().unwrap();
    store.close().unwrap();
    check(&open());
}

/// A reader meets metadata twice: in segments as it was, and in the tail of the log as it is.
#[test]
fn readers_know_the_newest_metadata() {
    let memory = Memory::new();
    let context = RequestContext::new();
    let fs = || Arc::new(memory.clone());
    let store = Store::open_on(fs(), "/data", options()).unwrap();
    let reader = Store::open_read_only_on(fs(), "/data", options()).unwrap();
    let describe = |help: &str| {
        let mut append = store.begin(&context).unwrap();
        let metadata = Metadata {
            help: help.into(),
            ..Metadata::default()
        };
        append.metadata("m", metadata);
        append.commit().unwrap();
    };
    describe("older");
    append(&store, &context, &labels("m", "a"), &[(1, 1.0)]);
    store.flush().unwrap();
    describe("newer");
    // Readers show what something follows.
    append(&store, &context, &labels("m", "a"), &[(2, 1.0)]);
    append(&store, &context, &labels("m", "a"), &[(3, 1.0)]);
    reader.refresh().unwrap();
    let known = &reader.metadata(&context, Some("m")).unwrap()["m"];
    let help: Vec<_> = known.iter().map(|m| m.help.as_str()).collect();
    assert_eq!(help, ["newer", "older"]);
}

/// An attempt to seal that fails on a full disk must not eat the space that the next one needs.
#[test]
fn failed_attempts_to_seal_leave_no_files() {
    let memory = Memory::new();
    let fs = Faulty::new(Arc::new(memory.clone()), |_| None);
    let store = Store::open_on(Arc::new(fs.clone()), "/data", options()).unwrap();
    let context = RequestContext::new();
    let day = 86_400_000_000_000;
    let samples = [(0, 1.0), (day, 2.0), (2 * day, 3.0)];
    append(&store, &context, &labels("m", "a"), &samples);
    let segments = || {
        let paths = memory.paths();
        let names = paths.iter().filter_map(|path| path.extension());
        names.filter(|extension| *extension != "wal").count()
    };
    let fail = |operation, path: &'static str| {
        fs.set_rule(move |call| {
            let concerned = call.path.to_string_lossy().contains(path);
            let fails = call.operation == operation && concerned;
            fails.then_some(Fault::Error(std::io::ErrorKind::StorageFull))
        });
        assert!(store.flush().is_err(), "{operation:?} {path}");
        fs.set_rule(|_| None);
    };
    // Some segments are complete when a later one fails; all are when the manifest does.
    fail(Operation::Rename, "0000000003.seg");
    assert_eq!(segments(), 0, "{:?}", memory.paths());
    fail(Operation::Create, "MANIFEST.tmp");
    assert_eq!(
        segments(),
        1,
        "only the manifest before: {:?}",
        memory.paths()
    );
    store.flush().unwrap();
    assert_eq!(segments(), 4, "{:?}", memory.paths());
    assert_eq!(count_samples(&store, &context), 3);
}

/// Once the manifest is replaced the change has happened, whatever fails then: sealing the same rows
/// again would store them twice.
#[test]
fn rows_are_sealed_once_although_cleaning_up_fails() {
    let memory = Memory::new();
    let fs = Faulty::new(Arc::new(memory.clone()), |_| None);
    let store = Store::open_on(Arc::new(fs.clone()), "/data", options()).unwrap();
    let context = RequestContext::new();
    let stream = Arc::new(Stream::from_labels(labels("app", "a")));
    let count = || {
        let all = ScanRequest::new(vec![], TimeRange::ALL);
        let batches = store.scan_logs(&context, &all).unwrap();
        batches.map(|batch| batch.unwrap().len()).sum::<usize>()
    };
    for round in 1..=3 {
        store.state_put(&context, "c", "k", None, b"x").unwrap();
        let mut append = store.begin(&context).unwrap();
        append.log(&stream, log_record(round as i64));
        append.commit().unwrap();
        fs.set_rule(|call| (call.operation == Operation::Remove).then_some(Fault::InputOutput));
        store.flush().unwrap();
        fs.set_rule(|_| None);
        store.flush().unwrap();
        assert_eq!(count(), round);
    }
}

/// A session keeps the series that it looked up although the head evicts them meanwhile; other
/// sessions find new ones for the same labels. The order of arrival holds all the same.
#[test]
fn a_session_that_outlives_its_series_still_arrives_last() {
    let memory = Memory::new();
    let context = RequestContext::new();
    let open = || Store::open_on(Arc::new(memory.clone()), "/data", options()).unwrap();
    let store = open();
    let series = labels("m", "a");
    let value = |store: &Store| {
        let request = ScanRequest::new(vec![Matcher::equal("__name__", "m")], TimeRange::ALL);
        let scan = store.scan_metrics(&context, &request).unwrap();
        let mut columns = SampleColumns::default();
        assert_eq!(scan.len(), 1);
        scan.read(0, TimeRange::ALL, &mut columns).unwrap();
        assert_eq!(columns.values.len(), 1);
        columns.values[0]
    };
    append(&store, &context, &labels("other", "x"), &[(0, 0.0)]);
    let mut early = store.begin(&context).unwrap();
    let known = early.define(None, &series).unwrap();
    store.flush().unwrap();
    append(&store, &context, &series, &[(1, 1.0)]);
    early.sample(known, TimestampNs(1), 2.0);
    early.commit().unwrap();
    assert_eq!(value(&store), 2.0);
    append(&store, &context, &series, &[(1, 3.0)]);
    assert_eq!(value(&store), 3.0);
    drop(store);
    memory.crash();
    let store = open();
    assert_eq!(value(&store), 3.0);
    store.flush().unwrap();
    assert_eq!(value(&store), 3.0);
}
