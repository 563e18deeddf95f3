//! Tests of the log as a whole; those of the record stand beside it.

mod basics;
mod damage;
mod faults;
mod follow;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

use super::*;
use crate::context::TenantId;
use crate::error::{EngineError, Result};
use crate::io::{FileSystem, Memory, SharedFileSystem};
use crate::model::{SeriesRef, TimestampNs};
use crate::options::SyncMode;

/// Remembers what it was given; clones share it.
#[derive(Clone, Default)]
struct Recorder(Arc<Mutex<Vec<Event>>>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Event {
    Applied(u64, u64),
    Cut(u64),
}

impl Applier<u64> for Recorder {
    fn apply(&mut self, records: Vec<Logged<u64>>) {
        let events = records
            .iter()
            .map(|r| Event::Applied(r.sequence, r.payload));
        self.0.lock().extend(events);
    }

    fn cut(&mut self, next_sequence: u64) {
        self.0.lock().push(Event::Cut(next_sequence));
    }
}

impl Recorder {
    fn events(&self) -> Vec<Event> {
        self.0.lock().clone()
    }
}

/// A record that carries `id`, padded with about `bytes` bytes that do not compress.
fn record(id: u64, bytes: usize) -> EncodedRecord {
    let tenant = TenantId::default();
    let count = 1 + bytes / 8;
    let noise = |i: u64| {
        let mixed = (id ^ (i << 32)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        f64::from_bits((mixed ^ (mixed >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9))
    };
    let values: Vec<f64> = (0..count as u64).map(noise).collect();
    let series = vec![SeriesRef(id); count];
    let times = vec![id as i64; count];
    let mut record = RecordRef::new(&tenant, TimestampNs(id as i64));
    record.samples = SampleRows {
        series: &series,
        times: &times,
        starts: &[],
        values: &values,
    };
    record.encode().unwrap()
}

fn dir() -> PathBuf {
    PathBuf::from("/wal")
}

fn memory() -> Memory {
    let fs = Memory::new();
    fs.create_dir_all(&dir()).unwrap();
    fs.sync_dir(&dir()).unwrap();
    fs
}

fn shared(fs: &Memory) -> SharedFileSystem {
    Arc::new(fs.clone())
}

fn options() -> WalOptions {
    WalOptions {
        preallocate_bytes: 8192,
        salt: Some(42),
        ..WalOptions::default()
    }
}

/// The ids in the log, by sequence number.
fn replay_ids(fs: &dyn FileSystem, start: LogStart) -> Result<(Vec<(u64, u64)>, ReplayReport)> {
    let mut ids = Vec::new();
    let (report, _) = replay(fs, &dir(), start, |sequence, record| {
        ids.push((sequence, record.arrival.0 as u64));
        Ok(())
    })?;
    Ok((ids, report))
}

/// Opens the log again for writing.
fn reopen(fs: SharedFileSystem, start: LogStart, options: WalOptions) -> Result<Wal<u64>> {
    if is_pristine(&*fs, &dir())? {
        initialize(&fs, &dir(), &options)?;
    }
    let (_, position) = replay(&*fs, &dir(), start, |_, _| Ok(()))?;
    Wal::open(fs, &dir(), &position, options, Recorder::default())
}

/// `1..=count` as (sequence, id) pairs.
fn counted(count: u64) -> Vec<(u64, u64)> {
    (1..=count).map(|n| (n, n)).collect()
}

fn path(number: u64) -> PathBuf {
    dir().join(format::file_name(number))
}

/// The path that a corruption names.
fn corrupt_path<T: std::fmt::Debug>(result: Result<T>) -> PathBuf {
    match result {
        Err(EngineError::Corruption(corruption)) => corruption.path,
        other => panic!("expected corruption, got {other:?}"),
    }
}

fn write_log(fs: &Memory, options: WalOptions, ids: std::ops::RangeInclusive<u64>, bytes: usize) {
    let wal = Wal::create(shared(fs), &dir(), options, Recorder::default()).unwrap();
    for id in ids {
        wal.append(record(id, bytes), id, None).unwrap();
    }
}

fn assert_exists(fs: &Memory, path: &Path) {
    assert!(fs.length(path).unwrap().is_some(), "{}", path.display());
}
