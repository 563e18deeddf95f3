//! `verify_dir` and `inspect`: whatever is damaged is told with file and offset, and what is right is
//! described.

#![expect(clippy::unwrap_used, reason = "a test that fails here has failed")]

#[path = "common/story.rs"]
mod story;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use chronolith_engine::io::{FileSystem as _, Memory};
use chronolith_engine::store::{BackupOptions, Finding, verify_dir};
use chronolith_engine::{EngineError, Store, StoreOptions};
use story::write_chapter;

const DIR: &str = "/data";

/// A store with segments of all signals, documents, deletions and a log, closed.
fn store() -> (Memory, Store) {
    let memory = Memory::new();
    let options = StoreOptions {
        background: false,
        ..StoreOptions::default()
    };
    let store = Store::open_on(Arc::new(memory.clone()), DIR, options).unwrap();
    write_chapter(&store, 0);
    store.flush().unwrap();
    write_chapter(&store, 1);
    (memory, store)
}

/// Names of what was found damaged, with the errors.
fn damaged(memory: &Memory, dir: &str) -> Vec<(String, EngineError)> {
    let mut found = Vec::new();
    let summary = verify_dir(memory, Path::new(dir), &mut |file, finding| {
        if let Finding::Damaged(error) = finding {
            let again = match error {
                EngineError::Corruption(corruption) => EngineError::Corruption(corruption.clone()),
                other => EngineError::InvalidArgument(other.to_string()),
            };
            found.push((file.to_owned(), again));
        }
    })
    .unwrap();
    assert_eq!(summary.damaged as usize, found.len());
    assert!(summary.sound > 0 || !found.is_empty());
    found
}

fn files(memory: &Memory, dir: &str, suffix: &str) -> Vec<PathBuf> {
    let mut paths = memory.paths();
    paths.retain(|path| path.starts_with(dir) && path.to_string_lossy().ends_with(suffix));
    paths
}

#[test]
fn sound_directories_are_found_sound() {
    let (memory, store) = store();
    assert!(damaged(&memory, DIR).is_empty(), "in use");
    store.backup("/backup", &BackupOptions::default()).unwrap();
    store
        .snapshot("/data/snapshots/a", &BackupOptions::default())
        .unwrap();
    write_chapter(&store, 2);
    store.close().unwrap();
    for dir in [DIR, "/backup", "/data/snapshots/a"] {
        assert!(damaged(&memory, dir).is_empty(), "{dir}");
    }
    memory.create_dir_all(Path::new("/empty")).unwrap();
    let nothing = verify_dir(&memory, Path::new("/empty"), &mut |_, _| {});
    assert!(nothing.unwrap_err().to_string().contains("no store"));
}

#[test]
fn leftovers_are_told_and_are_no_damage() {
    let (memory, store) = store();
    store.close().unwrap();
    for name in ["0000000999.seg", "0000000001.seg.tmp"] {
        memory.create(&Path::new(DIR).join(name)).unwrap();
    }
    let mut ignored = Vec::new();
    let summary = verify_dir(&memory, Path::new(DIR), &mut |file, finding| {
        if matches!(finding, Finding::Ignored(_)) {
            ignored.push(file.to_owned());
        }
    })
    .unwrap();
    assert_eq!(summary.damaged, 0);
    assert_eq!(ignored, ["0000000001.seg.tmp", "0000000999.seg"]);
}

#[test]
fn an_unfinished_backup_or_restore_is_no_store() {
    let memory = Memory::new();
    for (dir, mark) in [("/a", "BACKUP"), ("/b", "UNFINISHED")] {
        memory.create_dir_all(Path::new(dir)).unwrap();
        memory.create(&Path::new(dir).join(mark)).unwrap();
    }
    assert_eq!(damaged(&memory, "/a")[0].0, "BACKUP");
    let mut told = 0;
    let failed = verify_dir(&memory, Path::new("/b"), &mut |file, finding| {
        assert_eq!(file, "UNFINISHED");
        assert!(matches!(finding, Finding::Damaged(_)));
        told += 1;
    });
    assert!(failed.is_err() && told == 1);
}

/// Any byte of a manifest, a segment or a snapshot of documents.
#[test]
fn every_flipped_byte_is_told_with_file_and_offset() {
    let (memory, store) = store();
    store.flush().unwrap();
    store.close().unwrap();
    for suffix in [".seg", ".state", "MANIFEST", "MANIFEST.previous"] {
        for path in files(&memory, DIR, suffix) {
            let length = memory.length(&path).unwrap().unwrap() as usize;
            // A prime number of places, so that they fall into every kind of section.
            for at in (0..length).step_by((length / 13).max(1)) {
                let copy = memory.snapshot();
                copy.damage(&path, |bytes| bytes[at] ^= 0x20).unwrap();
                let found = damaged(&copy, DIR);
                let name = path.file_name().unwrap().to_string_lossy();
                assert_eq!(found.len(), 1, "{name} at {at}");
                assert_eq!(found[0].0, name, "at {at}");
                match &found[0].1 {
                    EngineError::Corruption(corruption) => assert_eq!(corruption.path, path),
                    other => panic!("{name} at {at}: {other}"),
                }
            }
            for cut in [0, 1, length / 2, length - 1] {
                let copy = memory.snapshot();
                copy.damage(&path, |bytes| bytes.truncate(cut)).unwrap();
                assert_eq!(damaged(&copy, DIR).len(), 1, "{path:?} cut to {cut}");
            }
            let copy = memory.snapshot();
            copy.remove(&path).unwrap();
            if suffix == "MANIFEST" || suffix == "MANIFEST.previous" {
                continue;
            }
            assert_eq!(damaged(&copy, DIR).len(), 1, "{path:?} removed");
        }
    }
}

/// A record of the log that others follow.
#[test]
fn a_damaged_record_is_told_with_file_and_offset() {
    let (memory, store) = store();
    store.close().unwrap();
    let log = files(&memory, DIR, ".wal").pop().unwrap();
    for at in [150, 400, 1000] {
        let copy = memory.snapshot();
        copy.damage(&log, |bytes| bytes[at] ^= 1).unwrap();
        let found = damaged(&copy, DIR);
        assert_eq!(found.len(), 1, "at {at}");
        match &found[0].1 {
            EngineError::Corruption(corruption) => {
                assert_eq!(corruption.path, log);
                assert!(corruption.offset <= at as u64);
            }
            other => panic!("at {at}: {other}"),
        }
    }
}

#[test]
fn every_file_is_described() {
    let (memory, store) = store();
    store.close().unwrap();
    let inspect = |path: &Path| {
        let mut out = Vec::new();
        let inspected = chronolith_engine::inspect(&memory, path, &mut out);
        (String::from_utf8(out).unwrap(), inspected)
    };
    let describe = |path: &Path, expected: &[&str]| {
        let (text, inspected) = inspect(path);
        inspected.unwrap();
        for part in expected {
            assert!(text.contains(part), "{part:?} is not in\n{text}");
        }
    };
    let manifest = Path::new(DIR).join("MANIFEST");
    describe(
        &manifest,
        &[
            "generation ",
            "metrics of tenant other",
            "2025-01-01T00:00:00Z",
            ".state",
        ],
    );
    let state = files(&memory, DIR, ".state").remove(0);
    describe(
        &state,
        &["dashboards/main", "{\"chapter\": 0}", "tenant other"],
    );
    let log = files(&memory, DIR, ".wal").pop().unwrap();
    describe(
        &log,
        &[
            "record ",
            "new series",
            "histograms",
            "spans",
            "document positions//var/log/pipeline.log",
            "deletion ",
            "end of the log",
        ],
    );
    for path in files(&memory, DIR, ".seg") {
        describe(&path, &["signal ", "tenant ", "times        202"]);
    }
    // Whatever its name is, and not without knowing it.
    let renamed = Path::new("/data/copy-of-it");
    memory.rename(&log, renamed).unwrap();
    describe(renamed, &["record "]);
    let other = Path::new("/data/letter");
    memory.create(other).unwrap().write_at(0, b"Dear").unwrap();
    let (_, refused) = inspect(other);
    assert!(
        refused
            .unwrap_err()
            .to_string()
            .contains("neither log file")
    );
    // Up to the damage, then its place.
    memory.damage(renamed, |bytes| bytes[3000] ^= 1).unwrap();
    let (text, damaged) = inspect(renamed);
    assert!(text.contains("log file"));
    assert!(matches!(damaged, Err(EngineError::Corruption(_))));
}
