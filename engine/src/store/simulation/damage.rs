//! Damage at rest, seen through the store: each file cut at each length, each byte of it flipped. The
//! store then shows what it showed before, or says which file is damaged. (The readers of each format
//! are tested on their own, over more content.)

use std::path::Path;
use std::sync::Arc;

use super::model::Contents;
use super::observe::observe;
use super::rows::{self, MetricRow, Request, START_NS, StreamRow};
use super::step::{Setting, Step};
use super::world::{DIR, World};
use crate::error::{EngineError, Result};
use crate::io::{FileSystem as _, Memory, SharedFileSystem};
use crate::options::SyncMode;
use crate::store::Store;

/// Rows of all kinds, of one day.
fn request(first: i64) -> Request {
    let row = |number: u64, bits: u64| MetricRow {
        labels: rows::labels(number),
        time: START_NS + first + bits as i64,
        start: 0,
        bits,
    };
    let stream_row = |id: u64| StreamRow {
        stream: id % 2,
        time: START_NS + first + id as i64,
        id: id + first as u64,
        version: id,
    };
    Request {
        tenant: 0,
        samples: vec![row(1, 5), row(1, 9), row(2, 7)],
        histograms: vec![row(1, 11)],
        exemplars: vec![row(2, 13)],
        metadata: vec![(rows::metric(1), 2)],
        logs: vec![stream_row(3), stream_row(4), stream_row(5)],
        spans: vec![stream_row(6), stream_row(7)],
    }
}

/// A store with segments of each signal, a state snapshot, deletions and a log, and what it shows.
fn store() -> (Memory, Contents, World) {
    let mut world = World::new(&Setting {
        sync: SyncMode::Always,
        retention_hours: None,
        as_of_hours: 0,
        faults: false,
        log_bytes: (1 << 26, 2_000),
    });
    world.send(request(0)).unwrap();
    let change = |seed| Step::ChangeState { tenant: 0, seed };
    let steps = (0..8).map(change);
    for step in steps.chain([Step::Flush, Step::Delete { tenant: 0, seed: 9 }]) {
        world.step(&step).unwrap();
    }
    world.send(request(100)).unwrap();
    world.step(&Step::Check).unwrap();
    let memory = world.memory.snapshot();
    let contents = world.observe().unwrap();
    assert!(contents != Contents::default());
    (memory, contents, world)
}

fn look(memory: Memory, world: &World, read_only: bool) -> Result<Contents> {
    let fs: SharedFileSystem = Arc::new(memory);
    let options = world.options.clone();
    let store = if read_only {
        Store::open_read_only_on(fs, Path::new(DIR), options)?
    } else {
        Store::open_on(fs, Path::new(DIR), options)?
    };
    observe(&store, &world.contexts)
}

fn is_log(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "wal")
}

/// Damages a copy and checks that it is noticed or does no harm.
fn check(
    memory: &Memory,
    world: &World,
    contents: &Contents,
    path: &Path,
    at: usize,
    damage: impl FnOnce(&mut Vec<u8>),
) {
    let damaged = memory.snapshot();
    damaged.damage(path, damage).unwrap();
    // Opening for writing starts threads and takes longer; it checks the same, but for the log, whose
    // end a reader cannot tell from one that is just being written.
    let read_only = !is_log(path) && !at.is_multiple_of(4);
    match look(damaged, world, read_only) {
        Ok(shown) => {
            if let Some(difference) = contents.difference(&shown, i64::MIN) {
                panic!("{} at {at}: not noticed: {difference}", path.display());
            }
        }
        Err(EngineError::Corruption(corruption)) => {
            assert_eq!(corruption.path, path, "at {at}: {corruption}");
        }
        Err(other) => panic!("{} at {at}: {other:?}", path.display()),
    }
}

#[test]
fn every_flipped_byte_of_a_store_is_noticed_or_harmless() {
    let (memory, contents, world) = store();
    for path in memory.paths() {
        let length = memory.length(&path).unwrap().unwrap() as usize;
        for at in 0..length {
            check(&memory, &world, &contents, &path, at, |bytes| {
                bytes[at] ^= 1 << (at % 8);
            });
        }
    }
}

#[test]
fn every_cut_of_a_file_of_a_store_is_noticed_or_harmless() {
    let (memory, contents, world) = store();
    let mut kinds = std::collections::BTreeSet::new();
    for path in memory.paths() {
        kinds.insert(path.extension().map(|e| e.to_string_lossy().into_owned()));
        let length = memory.length(&path).unwrap().unwrap() as usize;
        for cut in 0..length {
            check(&memory, &world, &contents, &path, cut, |bytes| {
                bytes.truncate(cut);
            });
        }
        let removed = memory.snapshot();
        removed.remove(&path).unwrap();
        match look(removed, &world, false) {
            Ok(_) => assert!(path.ends_with("MANIFEST.previous"), "{}", path.display()),
            Err(EngineError::Corruption(corruption)) => assert_eq!(corruption.path, path),
            Err(other) => panic!("{} removed: {other:?}", path.display()),
        }
    }
    assert_eq!(
        kinds.len(),
        5,
        "log, segments, state, both manifests: {kinds:?}"
    );
}
