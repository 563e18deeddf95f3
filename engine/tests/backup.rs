//! Backup, snapshot and restore as an embedder sees them: complete, consistent under load, incremental,
//! and neither the store nor an earlier backup harmed by whatever fails on the way.

#![expect(clippy::unwrap_used, reason = "a test that fails here has failed")]

#[path = "common/dump.rs"]
mod dump;
#[path = "common/little.rs"]
mod little;
#[path = "common/samples.rs"]
mod samples;
#[path = "common/story.rs"]
mod story;

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use chronolith_engine::io::{Fault, Faulty, FileSystem, Memory, SharedFileSystem};
use chronolith_engine::model::{Labels, Metadata, SampleColumns, TimeRange, TimestampNs};
use chronolith_engine::store::{
    BACKUP_FILE, BackupOptions, Pace, Progress, ReadBack, Step, UNFINISHED_FILE,
};
use chronolith_engine::{EngineError, Matcher, RequestContext, ScanRequest, Store};
use dump::dump;
use little::write_little;
use samples::options;
use story::write_chapter;

const DIR: &str = "/data";
const BACKUP: &str = "/backup";
const RESTORED: &str = "/restored";

fn shared(memory: &Memory) -> SharedFileSystem {
    Arc::new(memory.clone())
}

fn open(memory: &Memory, dir: &str) -> Store {
    Store::open_on(shared(memory), dir, options()).unwrap()
}

/// Restores the backup into a directory of its own and tells what is in it.
fn restored(memory: &Memory) -> String {
    // In a copy of the file system, so that it can be done again and again.
    let memory = memory.snapshot();
    let fs = shared(&memory);
    let dir = "/restored to be looked at";
    Store::restore_on(&fs, BACKUP, dir, &BackupOptions::default()).unwrap();
    let store = open(&memory, dir);
    let rows = dump(&store);
    // A store like any other: it takes writes and can be compacted.
    write_little(&store, 99);
    store.compact().unwrap();
    rows
}

fn segment_paths(memory: &Memory, dir: &str) -> Vec<PathBuf> {
    let mut paths = memory.paths();
    paths.retain(|path| path.starts_with(dir) && path.extension().is_some_and(|e| e == "seg"));
    paths
}

fn refusal(result: chronolith_engine::Result<impl std::fmt::Debug>) -> String {
    match result {
        Err(EngineError::InvalidArgument(why)) => why,
        other => panic!("expected a refusal, got {other:?}"),
    }
}

#[test]
fn a_restored_backup_has_every_row() {
    let memory = Memory::new();
    let store = open(&memory, DIR);
    write_chapter(&store, 0);
    store.flush().unwrap();
    write_chapter(&store, 1);
    let report = store.backup(BACKUP, &BackupOptions::default()).unwrap();
    assert_eq!(report.segments, store.segments().len() as u64);
    assert_eq!(report.segments_copied, report.segments);
    assert_eq!(report.bytes_verified, report.bytes);
    assert_eq!(restored(&memory), dump(&store));

    // What it has already is not copied again, what was merged away goes.
    write_chapter(&store, 2);
    let report = store.backup(BACKUP, &BackupOptions::default()).unwrap();
    assert!(report.segments_reused > 0 && report.segments_copied > 0);
    assert_eq!(report.bytes_verified, report.bytes);
    assert_eq!(restored(&memory), dump(&store));
    store.compact().unwrap();
    let report = store.backup(BACKUP, &BackupOptions::default()).unwrap();
    assert_eq!(segment_paths(&memory, BACKUP).len() as u64, report.segments);
    assert_eq!(restored(&memory), dump(&store));

    // Nothing new: nothing is copied.
    let report = store.backup(BACKUP, &BackupOptions::default()).unwrap();
    assert_eq!((report.segments_copied, report.bytes_copied), (0, 0));
}

#[test]
fn a_backup_survives_a_power_cut() {
    let memory = Memory::new();
    let store = open(&memory, DIR);
    write_chapter(&store, 0);
    let expected = dump(&store);
    store.backup(BACKUP, &BackupOptions::default()).unwrap();
    drop(store);
    memory.crash();
    assert_eq!(restored(&memory), expected);
}

#[test]
fn a_reader_beside_the_writer_backs_up_what_is_only_in_the_log() {
    let memory = Memory::new();
    let writer = open(&memory, DIR);
    write_chapter(&writer, 0);
    writer.flush().unwrap();
    write_chapter(&writer, 1);
    let reader = Store::open_read_only_on(shared(&memory), DIR, options()).unwrap();
    let segments = writer.segments();
    reader.backup(BACKUP, &BackupOptions::default()).unwrap();
    assert_eq!(
        writer.segments(),
        segments,
        "the writer's files are left alone"
    );
    assert_eq!(restored(&memory), dump(&writer));

    // Again and again, by the same reader and by the writer, whose own segments come later.
    write_chapter(&writer, 2);
    reader.backup(BACKUP, &BackupOptions::default()).unwrap();
    assert_eq!(restored(&memory), dump(&writer));
    writer.flush().unwrap();
    write_chapter(&writer, 3);
    writer.backup(BACKUP, &BackupOptions::default()).unwrap();
    assert_eq!(restored(&memory), dump(&writer));
    reader.backup(BACKUP, &BackupOptions::default()).unwrap();
    assert_eq!(restored(&memory), dump(&writer));
    assert_eq!(
        segment_paths(&memory, BACKUP).len(),
        writer.segments().len(),
        "segments that were made for a backup go with it"
    );
}

#[test]
fn without_the_head_only_segments_are_copied() {
    let memory = Memory::new();
    let store = open(&memory, DIR);
    write_chapter(&store, 0);
    store.flush().unwrap();
    let sealed = store.segments();
    let mut append = store.begin(&RequestContext::new()).unwrap();
    let labels = Labels::from_pairs([("__name__", "in_the_head")]).unwrap();
    let series = append.define(None, &labels).unwrap();
    append.sample(series, TimestampNs(1), 1.0);
    append.commit().unwrap();
    let skip_head = BackupOptions {
        skip_head: true,
        ..BackupOptions::default()
    };
    store.backup(BACKUP, &skip_head).unwrap();
    assert_eq!(store.segments(), sealed, "nothing was sealed");
    assert!(dump(&store).contains("in_the_head"));
    assert!(!restored(&memory).contains("in_the_head"));
}

#[test]
fn a_snapshot_is_a_store_of_its_own() {
    let memory = Memory::new();
    let store = open(&memory, DIR);
    write_chapter(&store, 0);
    write_chapter(&store, 1);
    let links = BackupOptions {
        hard_links: true,
        ..BackupOptions::default()
    };
    let dir = "/data/snapshots/one";
    let report = store.snapshot(dir, &links).unwrap();
    assert_eq!(report.segments_linked, report.segments);
    let expected = dump(&store);
    // The store goes its own way: merges remove its names of the shared files.
    write_chapter(&store, 2);
    store.compact().unwrap();
    let snapshot = open(&memory, dir);
    assert_eq!(dump(&snapshot), expected);
    write_chapter(&snapshot, 5);
    drop(snapshot);
    assert!(refusal(store.snapshot(dir, &links)).contains("not empty"));
    // A snapshot that was not written to can be restored, as a backup can.
    store.snapshot("/data/snapshots/two", &links).unwrap();
    let fs = shared(&memory);
    Store::restore_on(&fs, "/data/snapshots/two", RESTORED, &links).unwrap();
    assert_eq!(dump(&open(&memory, RESTORED)), dump(&store));
    let why = refusal(Store::restore_on(&fs, dir, "/elsewhere", &links));
    assert!(why.contains("no backup"), "{why}");
}

/// Rows first, then a document that says how far they go: whoever restores a backup must find the rows
/// that the document speaks of, and whole requests only.
#[test]
fn under_load_documents_never_run_ahead_of_rows() {
    let memory = Memory::new();
    let store = open(&memory, DIR);
    let stop = AtomicBool::new(false);
    let acknowledged = AtomicU64::new(0);
    std::thread::scope(|scope| {
        let writer = store.clone();
        let (stop, acknowledged) = (&stop, &acknowledged);
        scope.spawn(move || {
            let context = RequestContext::new();
            let sets = ["a", "b"].map(|instance| {
                Labels::from_pairs([("__name__", "n"), ("instance", instance)]).unwrap()
            });
            for n in 1.. {
                let mut append = writer.begin(&context).unwrap();
                for set in &sets {
                    let series = append.define(None, set).unwrap();
                    append.sample(series, TimestampNs(n), n as f64);
                }
                append.commit().unwrap();
                let text = n.to_string();
                writer
                    .state_put(&context, "positions", "n", None, text.as_bytes())
                    .unwrap();
                acknowledged.store(n as u64, Ordering::SeqCst);
                if stop.load(Ordering::SeqCst) {
                    break;
                }
            }
        });
        for round in 0..12 {
            while acknowledged.load(Ordering::SeqCst) < round * 20 {
                std::thread::yield_now();
            }
            let before = acknowledged.load(Ordering::SeqCst);
            store.backup(BACKUP, &BackupOptions::default()).unwrap();
            let copy = memory.snapshot();
            let fs = shared(&copy);
            Store::restore_on(&fs, BACKUP, RESTORED, &BackupOptions::default()).unwrap();
            let restored = open(&copy, RESTORED);
            let context = RequestContext::new();
            let document = restored.state_get(&context, "positions", "n").unwrap();
            let position = document.map_or(0, |document| {
                String::from_utf8_lossy(&document.value).parse().unwrap()
            });
            let request = ScanRequest::new(vec![Matcher::equal("__name__", "n")], TimeRange::ALL);
            let scan = restored.scan_metrics(&context, &request).unwrap();
            let mut rows = Vec::new();
            for index in 0..scan.len() {
                let mut columns = SampleColumns::default();
                scan.read(index, TimeRange::ALL, &mut columns).unwrap();
                rows.push(columns.timestamps.len() as u64);
            }
            let count = rows.first().copied().unwrap_or(0);
            assert!(rows.iter().all(|n| *n == count), "half a request: {rows:?}");
            assert!(
                position >= before,
                "document {position}, acknowledged {before}"
            );
            assert!(
                count >= position,
                "document {position} is ahead of row {count}"
            );
            assert!(count <= position + 1, "rows after the document: {count}");
        }
        stop.store(true, Ordering::SeqCst);
    });
}

#[test]
fn merges_meanwhile_do_not_disturb() {
    let memory = Memory::new();
    let store = open(&memory, DIR);
    for chapter in 0..3 {
        write_chapter(&store, chapter);
        store.flush().unwrap();
    }
    let expected = dump(&store);
    let files = store.segments().len();
    let merged = AtomicBool::new(false);
    let merge = |progress: &Progress| {
        if progress.step == Step::Copy
            && progress.files_done == 1
            && !merged.swap(true, Ordering::SeqCst)
        {
            store.compact().unwrap();
        }
        ControlFlow::Continue(())
    };
    let options = BackupOptions {
        progress: Some(&merge),
        ..BackupOptions::default()
    };
    let report = store.backup(BACKUP, &options).unwrap();
    assert!(merged.load(Ordering::SeqCst) && store.segments().len() < files);
    assert_eq!(
        report.segments as usize, files,
        "as they were when it began"
    );
    assert_eq!(restored(&memory), expected);
}

#[test]
fn progress_is_told_and_can_end_the_work() {
    let memory = Memory::new();
    let store = open(&memory, DIR);
    write_chapter(&store, 0);
    let seen = parking();
    let note = |progress: &Progress| {
        seen.lock().unwrap().push(*progress);
        ControlFlow::Continue(())
    };
    let options = BackupOptions {
        progress: Some(&note),
        pace: Pace::BytesPerSecond(1 << 40),
        ..BackupOptions::default()
    };
    let report = store.backup(BACKUP, &options).unwrap();
    for step in [Step::Copy, Step::Verify] {
        let all = seen.lock().unwrap();
        let last = all.iter().rfind(|progress| progress.step == step).unwrap();
        assert_eq!(
            (last.files_done, last.files),
            (report.segments, report.segments)
        );
        assert_eq!(last.bytes_done, last.bytes);
    }
    let end = |progress: &Progress| match progress.files_done {
        0 => ControlFlow::Continue(()),
        _ => ControlFlow::Break(()),
    };
    let options = BackupOptions {
        progress: Some(&end),
        pace: Pace::Shared,
        ..BackupOptions::default()
    };
    let ended = store.backup("/another", &options);
    assert!(matches!(ended, Err(EngineError::Cancelled)));
    let fs = shared(&memory);
    let why = refusal(Store::restore_on(&fs, "/another", RESTORED, &options));
    assert!(why.contains("unfinished"), "{why}");
    // The next call goes on where that one ended.
    let report = store.backup("/another", &BackupOptions::default()).unwrap();
    assert!(report.segments_reused > 0);
}

fn parking() -> std::sync::Mutex<Vec<Progress>> {
    std::sync::Mutex::default()
}

#[test]
fn directories_that_are_no_backups_of_this_store_are_left_alone() {
    let memory = Memory::new();
    let store = open(&memory, DIR);
    write_chapter(&store, 0);
    let fs = shared(&memory);
    let all = BackupOptions::default();
    let copy_of = |text: &str| refusal(store.backup(text, &all));
    assert!(copy_of(DIR).contains("its own directory"));

    memory.create_dir_all(Path::new("/home")).unwrap();
    memory.create(Path::new("/home/letter")).unwrap();
    assert!(copy_of("/home").contains("it holds letter"));
    assert_eq!(memory.list(Path::new("/home")).unwrap(), ["letter"]);
    let why = refusal(Store::restore_on(&fs, "/home", RESTORED, &all));
    assert!(why.contains("no backup here"), "{why}");

    // Another store, and its backup.
    let other = open(&memory, "/other");
    write_chapter(&other, 1);
    assert!(copy_of("/other").contains("neither empty nor a backup"));
    other.backup("/other_backup", &all).unwrap();
    assert!(copy_of("/other_backup").contains("is not that of this store"));

    // A backup of a later state than that of the store, which was itself restored from an earlier one.
    store.backup(BACKUP, &all).unwrap();
    Store::restore_on(&fs, BACKUP, RESTORED, &all).unwrap();
    write_chapter(&store, 2);
    store.compact().unwrap();
    store.backup(BACKUP, &all).unwrap();
    let early = open(&memory, RESTORED);
    let why = refusal(early.backup(BACKUP, &all));
    assert!(why.contains("generation"), "{why}");

    // A backup is not opened for writing, and not restored into a store.
    let opened = Store::open_on(shared(&memory), BACKUP, options());
    assert!(refusal(opened).contains("chronolith restore"));
    let why = refusal(Store::restore_on(&fs, BACKUP, "/other", &all));
    assert!(why.contains("not empty"), "{why}");
    let reader = Store::open_read_only_on(shared(&memory), BACKUP, options()).unwrap();
    assert_eq!(dump(&reader), dump(&store));
}

#[test]
fn damage_is_noticed_on_both_sides() {
    let memory = Memory::new();
    let store = open(&memory, DIR);
    write_chapter(&store, 0);
    store.backup(BACKUP, &BackupOptions::default()).unwrap();
    let flip = |path: &Path| {
        let at_half = |bytes: &mut Vec<u8>| {
            let half = bytes.len() / 2;
            bytes[half] ^= 4;
        };
        memory.damage(path, at_half).unwrap();
    };
    let fs = shared(&memory);
    let named = |error: EngineError, path: &Path| match error {
        EngineError::Corruption(corruption) => assert_eq!(corruption.path, path),
        other => panic!("expected corruption, got {other}"),
    };

    // In the backup: a restore refuses and names the file, the next backup mends it.
    let copied = segment_paths(&memory, BACKUP).remove(0);
    flip(&copied);
    let all = BackupOptions::default();
    let failed = Store::restore_on(&fs, BACKUP, RESTORED, &all).unwrap_err();
    named(failed, &copied);
    let opened = Store::open_on(shared(&memory), RESTORED, options());
    assert!(refusal(opened).contains("not restored to the end"));
    let ends = BackupOptions {
        read_back: ReadBack::Copied,
        ..all
    };
    let report = store.backup(BACKUP, &ends).unwrap();
    assert_eq!(report.segments_copied, 0, "the ends of the file are right");
    let report = store.backup(BACKUP, &all).unwrap();
    assert_eq!(report.segments_copied, 1);
    let report = Store::restore_on(&fs, BACKUP, RESTORED, &all).unwrap();
    assert!(report.segments_reused > 0, "what the first attempt brought");
    assert_eq!(dump(&open(&memory, RESTORED)), dump(&store));

    // In the store: the backup refuses and names the store's file, the one before stays.
    write_chapter(&store, 1);
    store.flush().unwrap();
    let known: Vec<_> = segment_paths(&memory, BACKUP);
    let fresh = segment_paths(&memory, DIR)
        .into_iter()
        .find(|path| !known.iter().any(|k| k.file_name() == path.file_name()))
        .unwrap();
    flip(&fresh);
    named(store.backup(BACKUP, &all).unwrap_err(), &fresh);
    restored(&memory);
}

#[test]
fn a_full_target_is_refused_before_anything_is_copied() {
    let memory = Memory::new();
    let store = open(&memory, DIR);
    write_chapter(&store, 0);
    let target = Memory::new();
    target.set_capacity(Some(5_000));
    let refused = store.backup_on(&shared(&target), BACKUP, &BackupOptions::default());
    assert!(refused.unwrap_err().is_out_of_space());
    assert!(segment_paths(&target, BACKUP).is_empty());
    target.set_capacity(None);
    store
        .backup_on(&shared(&target), BACKUP, &BackupOptions::default())
        .unwrap();
    assert_eq!(restored(&target), dump(&store));
}

/// A store with a backup, and more in it since. Built once and copied for every fault.
struct Scene {
    memory: Memory,
    /// Rows of the backup that is there.
    before: String,
    /// Rows of the store.
    now: String,
}

impl Scene {
    fn new() -> Self {
        let memory = Memory::new();
        let store = open(&memory, DIR);
        write_little(&store, 0);
        store.backup(BACKUP, &BackupOptions::default()).unwrap();
        let before = dump(&store);
        write_little(&store, 1);
        let now = dump(&store);
        store.close().unwrap();
        Self {
            memory,
            before,
            now,
        }
    }

    /// The number of calls that `act` makes.
    fn calls(&self, act: impl FnOnce(&Faulty)) -> u64 {
        let fs = Faulty::new(Arc::new(self.memory.snapshot()), |_| None);
        act(&fs);
        fs.calls()
    }
}

/// The process dies at any call of a backup, then the power goes: the target is the old backup or the
/// new one, the store has everything, and the next backup succeeds.
#[test]
fn a_crash_at_any_call_leaves_the_old_backup_or_the_new_one() {
    let scene = Scene::new();
    let act = |fs: &Faulty| {
        let opened = Store::open_on(Arc::new(fs.clone()), DIR, options());
        opened.and_then(|store| store.backup(BACKUP, &BackupOptions::default()))
    };
    let calls = scene.calls(|fs| {
        act(fs).unwrap();
    });
    let mut news = 0;
    for n in spread(calls) {
        let memory = scene.memory.snapshot();
        let fs = Faulty::nth(Arc::new(memory.clone()), n, Fault::Dead);
        let done = act(&fs);
        memory.crash();
        let found = restored(&memory);
        let is_new = found == scene.now;
        assert!(is_new || found == scene.before, "call {n}: neither backup");
        assert!(is_new || done.is_err(), "call {n}: a backup that was lost");
        news += u64::from(is_new);
        let store = open(&memory, DIR);
        assert_eq!(dump(&store), scene.now, "call {n}");
        store.backup(BACKUP, &BackupOptions::default()).unwrap();
        assert_eq!(restored(&memory), scene.now, "call {n}");
    }
    assert!(news > 0 && news < calls);
}

/// One call of the target's medium fails and the process lives on: the store is unharmed, and the next
/// backup succeeds.
#[test]
fn an_error_at_any_call_of_the_target_spares_the_store() {
    let scene = Scene::new();
    let backup = |memory: &Memory, fs: &Faulty| {
        let store = open(memory, DIR);
        let shared: SharedFileSystem = Arc::new(fs.clone());
        let done = store.backup_on(&shared, BACKUP, &BackupOptions::default());
        (store, done)
    };
    let faults = [
        Fault::InputOutput,
        Fault::Short(7),
        Fault::Error(std::io::ErrorKind::StorageFull),
    ];
    let counted = Faulty::new(Arc::new(scene.memory.snapshot()), |_| None);
    backup(&scene.memory.snapshot(), &counted).1.unwrap();
    let calls = counted.calls();
    for n in spread(calls) {
        for fault in some_of(&faults, n) {
            let memory = scene.memory.snapshot();
            // A medium of its own for the target, with the backup on it.
            let target = scene.memory.snapshot();
            let fs = Faulty::nth(Arc::new(target.clone()), n, fault);
            let (store, done) = backup(&memory, &fs);
            target.crash();
            let found = restored(&target);
            assert!(
                found == scene.now || found == scene.before,
                "call {n}, {fault:?}"
            );
            assert!(done.is_err() || found == scene.now, "call {n}, {fault:?}");
            assert_eq!(dump(&store), scene.now, "call {n}, {fault:?}");
            store
                .backup_on(&shared(&target), BACKUP, &BackupOptions::default())
                .unwrap();
            assert_eq!(restored(&target), scene.now, "call {n}, {fault:?}");
        }
    }
}

/// The process dies at any call of a restore, then the power goes: what is there is either whole or
/// refused, and the next restore completes it.
#[test]
fn a_crash_at_any_call_of_a_restore_is_continued() {
    let scene = Scene::new();
    let all = BackupOptions::default();
    let act = |fs: &Faulty| {
        let fs: SharedFileSystem = Arc::new(fs.clone());
        Store::restore_on(&fs, BACKUP, RESTORED, &all)
    };
    let calls = scene.calls(|fs| {
        act(fs).unwrap();
    });
    for n in spread(calls) {
        let memory = scene.memory.snapshot();
        let fs = Faulty::nth(Arc::new(memory.clone()), n, Fault::Dead);
        let done = act(&fs);
        memory.crash();
        // A directory without the mark holds nothing yet or everything.
        let has = |name: &str| memory.length(&Path::new(RESTORED).join(name)).unwrap();
        if has(UNFINISHED_FILE).is_some() {
            let opened = Store::open_on(shared(&memory), RESTORED, options());
            assert!(
                refusal(opened).contains("run the restore again"),
                "call {n}"
            );
        } else if has("MANIFEST").is_some() {
            assert_eq!(dump(&open(&memory, RESTORED)), scene.before, "call {n}");
            continue;
        }
        assert!(done.is_err(), "call {n}: a restore that was lost");
        Store::restore_on(&shared(&memory), BACKUP, RESTORED, &all).unwrap();
        assert_eq!(dump(&open(&memory, RESTORED)), scene.before, "call {n}");
        assert!(
            memory
                .length(&Path::new(BACKUP).join(BACKUP_FILE))
                .unwrap()
                .is_some()
        );
    }
}

fn asked_for_all() -> bool {
    std::env::var_os("CHRONOLITH_LONG").is_some()
}

/// Every call when asked for, else some spread evenly and the last ones, at which the manifest is
/// replaced: the default run stays short.
fn spread(calls: u64) -> impl Iterator<Item = u64> {
    let step = if asked_for_all() {
        1
    } else {
        (calls / 10).max(1)
    };
    (0..calls).filter(move |n| n % step == 0 || n + 8 > calls)
}

/// All faults when asked for, else one for each call.
fn some_of(faults: &[Fault], call: u64) -> Vec<Fault> {
    match asked_for_all() {
        true => faults.to_vec(),
        false => vec![faults[call as usize % faults.len()]],
    }
}

/// Metadata lies in segments beside series of its metric; where there are none only the log has it, and
/// a copy has no log.
#[test]
fn metadata_without_samples_is_backed_up() {
    let memory = Memory::new();
    let context = RequestContext::new();
    let store = open(&memory, DIR);
    let describe = |metric: &str, help: &str| {
        let mut append = store.begin(&context).unwrap();
        let metadata = Metadata {
            help: help.into(),
            ..Metadata::default()
        };
        append.metadata(metric, metadata);
        append.commit().unwrap();
    };
    let check = |store: &Store, stage: &str| {
        let known = store.metadata(&context, Some("lonely")).unwrap();
        let help: Vec<_> = known["lonely"].iter().map(|m| m.help.as_str()).collect();
        assert_eq!(help, ["newer", "older"], "{stage}");
    };
    write_little(&store, 0);
    describe("lonely", "older");
    describe("lonely", "newer");
    let reader = Store::open_read_only_on(shared(&memory), DIR, options()).unwrap();
    // Readers show what something follows.
    describe("other", "text");
    reader.refresh().unwrap();
    for (source, stage) in [
        (&reader, "of a reader"),
        (&store, "first"),
        (&store, "again"),
    ] {
        let backup = shared(&memory);
        source
            .backup_on(&backup, BACKUP, &BackupOptions::default())
            .unwrap();
        check(
            &Store::open_read_only_on(backup, BACKUP, options()).unwrap(),
            stage,
        );
        let memory = memory.snapshot();
        let fs = shared(&memory);
        Store::restore_on(&fs, BACKUP, RESTORED, &BackupOptions::default()).unwrap();
        let mut restored = open(&memory, RESTORED);
        for round in 0..2 {
            check(&restored, &format!("{stage}, restored, round {round}"));
            write_little(&restored, 1);
            restored.compact().unwrap();
            restored.close().unwrap();
            restored = open(&memory, RESTORED);
        }
        check(&restored, &format!("{stage}, compacted"));
    }
}
