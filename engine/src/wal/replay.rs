//! Reads the log back: after a crash, or beside a live server.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rayon::prelude::*;

use super::format::{FileHeader, RecordHeader, file_name, file_number};
use super::reader::{LogReader, Step};
use super::record::Record;
use crate::error::{Corruption, EngineError, Result};
use crate::io::FileSystem;

/// Encoded bytes that are read before they are decoded together: bounds replay's memory (decoded
/// they take some ten times as much).
const BATCH_BYTES: usize = 4 << 20;

/// Where the log begins for a reader: what the manifest says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogStart {
    /// Number of the oldest log file that must be there.
    pub first_file: u64,
    /// Records below this sequence number are in segments and are passed over.
    pub sequence: u64,
}

impl Default for LogStart {
    /// The start of a store without a manifest.
    fn default() -> Self {
        Self {
            first_file: 1,
            sequence: 1,
        }
    }
}

/// Where the log ends for a writer: what [`replay`] found.
#[derive(Clone, Debug)]
pub struct LogPosition {
    pub(super) header: FileHeader,
    pub(super) offset: u64,
    pub(super) synced_offset: u64,
    pub(super) next_sequence: u64,
    /// Number and first sequence number of each file, oldest first.
    pub(super) files: Vec<(u64, u64)>,
}

impl LogPosition {
    /// Sequence number of the next record.
    #[must_use]
    pub fn next_sequence(&self) -> u64 {
        self.next_sequence
    }
}

/// The bytes of a write that was cut short by a crash. Nobody was told that it had succeeded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TornTail {
    /// The last log file.
    pub path: PathBuf,
    /// Where the torn write begins.
    pub offset: u64,
}

/// What a replay did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReplayReport {
    /// Log files read.
    pub files: u64,
    /// Records handed on.
    pub records: u64,
    /// Records passed over because segments hold them.
    pub records_skipped: u64,
    /// Rows in the records handed on.
    pub rows: u64,
    /// Encoded bytes of all records.
    pub bytes: u64,
    /// Sequence number of the next record.
    pub next_sequence: u64,
    /// Set when the log ended in a torn write.
    pub torn_tail: Option<TornTail>,
    /// Wall time.
    pub took: Duration,
}

/// Numbers of the log files in `dir`, ascending; none when the directory is not there.
fn log_files(fs: &dyn FileSystem, dir: &Path) -> Result<Vec<u64>> {
    match fs.list(dir) {
        Ok(names) => Ok(names.iter().filter_map(|name| file_number(name)).collect()),
        Err(error) if error.is_not_found() => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

fn missing(dir: &Path, number: u64) -> EngineError {
    EngineError::Corruption(Corruption {
        path: dir.join(file_name(number)),
        offset: 0,
        expected: "a log file that others or the manifest refer to".into(),
        found: "no file".into(),
    })
}

/// Whether `dir` holds no record: no log at all, or the first file of a store that was being made
/// when the process ended. A store without manifest whose log is not pristine has lost its
/// manifest.
///
/// # Errors
/// As [`replay`].
pub fn is_pristine(fs: &dyn FileSystem, dir: &Path) -> Result<bool> {
    match log_files(fs, dir)?.as_slice() {
        [] => Ok(true),
        [1] => {
            let mut reader = LogReader::open(fs, dir, 1)?;
            let step = reader.next()?;
            Ok(!matches!(step, Step::Frame { .. } | Step::End))
        }
        _ => Ok(false),
    }
}

/// Hands every record from `start` on to `apply`, in order, with its sequence number. Decoding
/// runs on all cores, a few MiB ahead of `apply`.
///
/// # Errors
/// [`EngineError::Corruption`] naming file and offset when an acknowledged record is damaged or a
/// file is missing, cut or emptied; whatever `apply` returns. A torn tail is no error.
pub fn replay(
    fs: &dyn FileSystem,
    dir: &Path,
    start: LogStart,
    mut apply: impl FnMut(u64, Record) -> Result<()> + Send,
) -> Result<(ReplayReport, LogPosition)> {
    let started = Instant::now();
    let mut report = ReplayReport {
        next_sequence: start.sequence,
        ..ReplayReport::default()
    };
    let present = log_files(fs, dir)?;
    let last = present.last().copied().unwrap_or(0);
    let mut batch = Batch::default();
    let mut ready = Ready::new();
    let mut files = Vec::new();
    let mut number = start.first_file;
    let position = loop {
        if !present.contains(&number) {
            return Err(missing(dir, number));
        }
        let mut reader = LogReader::open(fs, dir, number)?;
        let first_sequence = reader.header().first_sequence;
        check_continuity(&reader, files.is_empty(), start, report.next_sequence)?;
        files.push((number, first_sequence));
        report.files += 1;
        let step = loop {
            let offset = reader.position();
            match reader.next()? {
                Step::Frame {
                    first_sequence,
                    body,
                } => {
                    report.bytes += body.len() as u64;
                    batch.push(reader.path(), offset, first_sequence, body);
                    if batch.bytes >= BATCH_BYTES {
                        let full = std::mem::take(&mut batch);
                        let applied = std::mem::take(&mut ready);
                        let (decoded, applied) = rayon::join(
                            || full.decode(start.sequence),
                            || apply_all(applied, &mut apply),
                        );
                        report.add(applied?);
                        ready = decoded?;
                    }
                }
                other => break other,
            }
        };
        report.next_sequence = reader.next_sequence();
        let ended = matches!(step, Step::End);
        if number == last && !ended {
            if matches!(step, Step::Torn) {
                report.torn_tail = Some(TornTail {
                    path: reader.path().to_owned(),
                    offset: reader.position(),
                });
            }
            break LogPosition {
                header: *reader.header(),
                offset: reader.position(),
                synced_offset: reader.synced_position(),
                next_sequence: reader.next_sequence(),
                files,
            };
        }
        number += 1;
    };
    report.add(apply_all(ready, &mut apply)?);
    let decoded = batch.decode(start.sequence)?;
    report.add(apply_all(decoded, &mut apply)?);
    if report.next_sequence < start.sequence {
        return Err(EngineError::Corruption(Corruption {
            path: dir.join(file_name(position.header.number)),
            offset: position.offset,
            expected: format!("records up to {}", start.sequence - 1),
            found: format!("the log ends at {}", report.next_sequence - 1),
        }));
    }
    report.took = started.elapsed();
    Ok((report, position))
}

/// The first record of a file follows the last one of the file before it.
fn check_continuity(
    reader: &LogReader,
    is_first: bool,
    start: LogStart,
    next_sequence: u64,
) -> Result<()> {
    let found = reader.header().first_sequence;
    let (right, expected) = if is_first {
        (
            found <= start.sequence,
            format!("at most {}", start.sequence),
        )
    } else {
        (found == next_sequence, next_sequence.to_string())
    };
    if right {
        return Ok(());
    }
    Err(EngineError::Corruption(Corruption {
        path: reader.path().to_owned(),
        offset: 24,
        expected: format!("first sequence number {expected}"),
        found: found.to_string(),
    }))
}

/// Decoded records with their sequence numbers, in order.
type Ready = Vec<(u64, Option<Record>)>;

fn apply_all(
    ready: Ready,
    apply: &mut (impl FnMut(u64, Record) -> Result<()> + Send),
) -> Result<(u64, u64, u64)> {
    let (mut records, mut skipped, mut rows) = (0, 0, 0);
    for (sequence, record) in ready {
        match record {
            Some(record) => {
                records += 1;
                rows += record.rows() as u64;
                apply(sequence, record)?;
            }
            None => skipped += 1,
        }
    }
    Ok((records, skipped, rows))
}

impl ReplayReport {
    fn add(&mut self, (records, skipped, rows): (u64, u64, u64)) {
        self.records += records;
        self.records_skipped += skipped;
        self.rows += rows;
    }
}

/// Frames that were read and checked, not yet decoded.
#[derive(Debug, Default)]
struct Batch {
    frames: Vec<Frame>,
    bytes: usize,
}

#[derive(Debug)]
struct Frame {
    path: PathBuf,
    offset: u64,
    first_sequence: u64,
    body: Vec<u8>,
}

impl Batch {
    fn push(&mut self, path: &Path, offset: u64, first_sequence: u64, body: Vec<u8>) {
        self.bytes += body.len();
        self.frames.push(Frame {
            path: path.to_owned(),
            offset,
            first_sequence,
            body,
        });
    }

    /// Decodes all records from `from` on; earlier ones are `None`.
    fn decode(self, from: u64) -> Result<Ready> {
        let mut slots = Vec::new();
        for frame in &self.frames {
            let mut rest = frame.body.as_slice();
            let mut sequence = frame.first_sequence;
            // The reader has checked that the body consists of whole records.
            while let Some((header, payload, after)) = RecordHeader::split(rest) {
                slots.push((sequence, frame, header, payload));
                sequence += 1;
                rest = after;
            }
        }
        slots
            .into_par_iter()
            .map(|(sequence, frame, header, payload)| {
                if sequence < from {
                    return Ok((sequence, None));
                }
                let decoded = Record::decode(&header, payload).map_err(|error| Corruption {
                    path: frame.path.clone(),
                    offset: frame.offset,
                    expected: format!("record {sequence}"),
                    found: error.to_string(),
                })?;
                Ok((sequence, Some(decoded)))
            })
            .collect()
    }
}

/// What a [`Follower`] found.
#[derive(Debug)]
pub enum Followed {
    /// New records, in order.
    Records(Vec<(u64, Record)>),
    /// Nothing new.
    Idle,
    /// The log files that come next were removed: their records are in segments now. Read the
    /// manifest again and start a new follower.
    Vanished,
}

/// Reads the log of a directory that another process writes to, without its lock. It returns
/// records only once something follows them, so that what it shows was written completely.
#[derive(Debug)]
pub struct Follower {
    dir: PathBuf,
    from: u64,
    number: u64,
    next_sequence: u64,
    reader: Option<LogReader>,
}

/// How often a place that looks damaged is read again: the writer may have been at it.
const FOLLOW_RETRIES: usize = 20;

impl Follower {
    /// Starts at what the manifest says.
    #[must_use]
    pub fn new(dir: &Path, start: LogStart) -> Self {
        Self {
            dir: dir.to_owned(),
            from: start.sequence,
            number: start.first_file,
            next_sequence: start.sequence,
            reader: None,
        }
    }

    /// Sequence number of the next record.
    #[must_use]
    pub fn next_sequence(&self) -> u64 {
        self.next_sequence
    }

    /// Returns what was written since the last call, at most about `bytes_max` encoded bytes.
    ///
    /// # Errors
    /// [`EngineError::Corruption`] as [`replay`].
    pub fn poll(&mut self, fs: &dyn FileSystem, bytes_max: usize) -> Result<Followed> {
        let mut batch = Batch::default();
        while batch.bytes < bytes_max {
            if self.reader.is_none() {
                match LogReader::open(fs, &self.dir, self.number) {
                    Ok(reader) => self.reader = Some(reader),
                    Err(error) if error.is_not_found() => {
                        if log_files(fs, &self.dir)?.iter().any(|n| *n > self.number) {
                            return Ok(Followed::Vanished);
                        }
                        break;
                    }
                    Err(error) => return Err(error),
                }
            }
            let Some(reader) = &mut self.reader else {
                break;
            };
            let mut step = next_patiently(reader)?;
            if matches!(step, Step::Clean | Step::Torn) {
                // A file may have been continued without an end mark, after a fault. Then nothing
                // is written to it any more: what is whole in it counts, although nothing follows.
                let Ok(next) = LogReader::open(fs, &self.dir, self.number + 1) else {
                    break;
                };
                if next.header().first_sequence == reader.next_sequence() {
                    self.number += 1;
                    self.reader = Some(next);
                    continue;
                }
                step = reader.next()?;
            }
            match step {
                Step::Frame {
                    first_sequence,
                    body,
                } => {
                    let offset = reader.position();
                    batch.push(reader.path(), offset, first_sequence, body);
                    self.next_sequence = reader.next_sequence().max(self.next_sequence);
                }
                Step::End => {
                    self.number += 1;
                    self.reader = None;
                }
                Step::Clean | Step::Torn => break,
            }
        }
        let ready = batch.decode(self.from)?;
        let records: Vec<_> = ready
            .into_iter()
            .filter_map(|(sequence, record)| record.map(|record| (sequence, record)))
            .collect();
        if records.is_empty() {
            return Ok(Followed::Idle);
        }
        Ok(Followed::Records(records))
    }
}

fn next_patiently(reader: &mut LogReader) -> Result<Step> {
    let mut last = reader.next_complete();
    for _ in 0..FOLLOW_RETRIES {
        match last {
            Err(EngineError::Corruption(_)) => {
                std::thread::sleep(Duration::from_millis(1));
                last = reader.next_complete();
            }
            other => return other,
        }
    }
    last
}
