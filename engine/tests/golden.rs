//! Stores written by released versions stay readable for ever: each lies in `tests/golden/<version>`,
//! with the rows that it held as text. What to do when a format changes is in `docs/formats/README.md`.

#![expect(clippy::unwrap_used, reason = "a test that fails here has failed")]

#[path = "common/dump.rs"]
mod dump;
#[path = "common/story.rs"]
mod story;

use std::fs;
use std::path::{Path, PathBuf};

use chronolith_engine::io::Disk;
use chronolith_engine::model::TimestampNs;
use chronolith_engine::store::{BackupOptions, verify_dir};
use chronolith_engine::{Clock, Signal, Store, StoreOptions};
use dump::dump;
use story::{START_NS, write_chapter};

/// The rows of a golden store, beside its directory `store`.
const ROWS_FILE: &str = "rows.txt";
/// The version that `write_a_golden_store` writes.
const CURRENT: &str = "v4";

fn golden_dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

fn options() -> StoreOptions {
    StoreOptions {
        background: false,
        clock: Clock::new(|| TimestampNs(START_NS)),
        ..StoreOptions::default()
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copy(&entry.path(), &target),
            false => drop(fs::copy(entry.path(), &target).unwrap()),
        }
    }
}

/// The first line that differs says more than two long texts.
fn assert_rows(found: &str, expected: &str, what: &str) {
    for (number, (found, expected)) in found.lines().zip(expected.lines()).enumerate() {
        assert_eq!(found, expected, "{what}, line {}", number + 1);
    }
    assert_eq!(found.lines().count(), expected.lines().count(), "{what}");
}

#[test]
fn stores_of_every_version_keep_their_rows() {
    let mut versions = 0;
    for entry in fs::read_dir(golden_dir()).unwrap() {
        let golden = entry.unwrap().path();
        let expected = fs::read_to_string(golden.join(ROWS_FILE)).unwrap();
        let check = |store: &Store, what: &str| {
            assert_rows(
                &dump(store),
                &expected,
                &format!("{}: {what}", golden.display()),
            );
        };
        let scratch = tempfile::tempdir().unwrap();
        let dir = scratch.path().join("store");
        copy(&golden.join("store"), &dir);
        let summary = verify_dir(&Disk, &dir, &mut |_, _| {}).unwrap();
        assert_eq!(summary.damaged, 0, "{}", golden.display());

        check(
            &Store::open_read_only(&dir, options()).unwrap(),
            "read only",
        );
        let store = Store::open(&dir, options()).unwrap();
        check(&store, "opened");
        let backup = scratch.path().join("backup");
        store.backup(&backup, &BackupOptions::default()).unwrap();
        check(&store, "sealed");
        store.compact().unwrap();
        check(&store, "compacted");
        store.close().unwrap();
        check(&Store::open(&dir, options()).unwrap(), "opened again");
        let restored = scratch.path().join("restored");
        Store::restore(&backup, &restored, &BackupOptions::default()).unwrap();
        check(&Store::open(&restored, options()).unwrap(), "restored");
        versions += 1;
    }
    assert!(
        versions > 0,
        "no golden store in {}",
        golden_dir().display()
    );
}

/// Writes the golden store of this version, which must not be there yet:
///
/// ```sh
/// cargo test -p chronolith-engine --test golden -- --ignored write_a_golden_store
/// ```
#[test]
#[ignore = "writes into the repository; run by hand when a format changes"]
fn write_a_golden_store() {
    let golden = golden_dir().join(CURRENT);
    assert!(
        !golden.exists(),
        "{}: golden stores are never written anew; raise CURRENT",
        golden.display()
    );
    let dir = golden.join("store");
    let store = Store::open(&dir, options()).unwrap();
    // Segments that were merged twice, once and not at all; deletions that segments have not absorbed; and
    // a log with records of every kind.
    for chapter in [0, 1] {
        write_chapter(&store, chapter);
        store.flush().unwrap();
    }
    store.compact().unwrap();
    write_chapter(&store, 2);
    store.compact().unwrap();
    write_chapter(&store, 3);
    store.flush().unwrap();
    write_chapter(&store, 4);
    let levels = |signal| {
        let segments = store.segments();
        let of_signal = segments.iter().filter(|segment| segment.signal == signal);
        of_signal.map(|segment| segment.level).collect::<Vec<_>>()
    };
    for signal in [Signal::Metrics, Signal::Logs, Signal::Spans] {
        assert!(levels(signal).contains(&2) && levels(signal).contains(&0));
    }
    assert!(
        store.stats().tombstones > 0,
        "deletions that are not absorbed"
    );
    assert!(
        store.stats().head_samples > 0,
        "rows that are only in the log"
    );
    fs::write(golden.join(ROWS_FILE), dump(&store)).unwrap();
    store.close().unwrap();
    // Whose process it was means nothing.
    fs::remove_file(dir.join("LOCK")).unwrap();
    cut_allocated_space(&dir.join("wal"));
}

/// Cuts off what was allocated ahead behind the log's last marker, as a writer does after a full disk.
fn cut_allocated_space(wal_dir: &Path) {
    for entry in fs::read_dir(wal_dir).unwrap() {
        let path = entry.unwrap().path();
        let bytes = fs::read(&path).unwrap();
        let zeros = bytes.iter().rev().take_while(|byte| **byte == 0).count();
        // Frames, the marker among them, end at multiples of eight.
        let length = (bytes.len() - zeros).next_multiple_of(8);
        fs::write(&path, &bytes[..length]).unwrap();
    }
}
