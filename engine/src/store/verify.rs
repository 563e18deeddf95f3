//! Checks a directory file by file: a store, in use or not, a backup or a snapshot.
//!
//! Every byte that has a meaning is read: manifest, segments (checksums, order, index, every value), state
//! documents, log. Memory is bounded by one segment's series or one piece of the log. Nothing is changed
//! and no lock is taken. What a live server changes meanwhile is looked at again instead of reported.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

use super::backup::{BACKUP_FILE, UNFINISHED_FILE};
use super::open::WAL_DIR;
use crate::error::{Corruption, EngineError, Result};
use crate::io::{FileSystem, TEMPORARY_SUFFIX};
use crate::manifest::{MANIFEST_FILE, Manifest, PREVIOUS_FILE, SegmentEntry};
use crate::segment::{self, SegmentBytes, SegmentFile, SegmentMeta};
use crate::state::{SNAPSHOT_SUFFIX, StateStore};
use crate::wal::{Followed, Follower, Record, replay};

/// How often a directory that changes meanwhile is looked at again.
const ATTEMPTS: usize = 20;
/// Encoded bytes of a log in use that are taken at a time.
const POLL_BYTES: usize = 4 << 20;

/// What was found about a file.
#[derive(Debug)]
pub enum Finding {
    /// It is right; what is in it, in a few words.
    Sound(String),
    /// It is missing or damaged: an answer that needs it would be an error.
    Damaged(EngineError),
    /// No part of the store, and why.
    Ignored(String),
}

/// How many files there were of each kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VerifySummary {
    /// Files (the log counts as one) that are right.
    pub sound: u64,
    /// Files that are damaged or missing.
    pub damaged: u64,
}

/// Checks the directory `dir` and tells `on_file` of each file by its name. Damage is told, not
/// returned; the remaining files are still checked.
///
/// # Errors
/// There is no store in `dir`, or it cannot be listed.
pub fn verify_dir(
    fs: &dyn FileSystem,
    dir: &Path,
    on_file: &mut dyn FnMut(&str, &Finding),
) -> Result<VerifySummary> {
    let mut checker = Checker {
        fs,
        dir,
        on_file,
        summary: VerifySummary::default(),
        live: fs.is_locked(dir).unwrap_or(false),
    };
    checker.check_all()?;
    Ok(checker.summary)
}

struct Checker<'a> {
    fs: &'a dyn FileSystem,
    dir: &'a Path,
    on_file: &'a mut dyn FnMut(&str, &Finding),
    summary: VerifySummary,
    /// Another process writes to the directory.
    live: bool,
}

impl Checker<'_> {
    fn tell(&mut self, name: &str, outcome: Result<String>) {
        let finding = match outcome {
            Ok(what) => {
                self.summary.sound += 1;
                Finding::Sound(what)
            }
            Err(error) => {
                self.summary.damaged += 1;
                Finding::Damaged(error)
            }
        };
        (self.on_file)(name, &finding);
    }

    fn check_all(&mut self) -> Result<()> {
        let names = self.fs.list(self.dir)?;
        let has = |wanted: &str| names.iter().any(|name| name == wanted);
        if has(UNFINISHED_FILE) && !self.live {
            let why = "the restore into this directory was not finished".to_owned();
            self.tell(UNFINISHED_FILE, Err(EngineError::InvalidArgument(why)));
        }
        let manifest = match Manifest::load(self.fs, self.dir) {
            Ok(Some(manifest)) => manifest,
            Ok(None) if has(BACKUP_FILE) => {
                let why = "the backup was not finished".to_owned();
                self.tell(BACKUP_FILE, Err(EngineError::InvalidArgument(why)));
                return Ok(());
            }
            Ok(None) => {
                let why = format!("{}: no {MANIFEST_FILE}, so no store", self.dir.display());
                return Err(EngineError::InvalidArgument(why));
            }
            Err(error) => {
                self.tell(MANIFEST_FILE, Err(error));
                return Ok(());
            }
        };
        let what = format!(
            "generation {}, {} segments, {} deletions",
            manifest.generation,
            manifest.segments.len(),
            manifest.tombstones.len()
        );
        self.tell(MANIFEST_FILE, Ok(what));
        if has(PREVIOUS_FILE) {
            self.check_previous();
        }
        self.check_segments(&manifest);
        self.check_state(&manifest);
        self.check_log(&manifest);
        self.check_others(&names, &manifest);
        Ok(())
    }

    /// The version before is of no use to the store, but someone may need it for repair.
    fn check_previous(&mut self) {
        let path = self.dir.join(PREVIOUS_FILE);
        let bytes = match self.fs.map(&path) {
            Ok(bytes) => bytes,
            Err(error) => return self.tell(PREVIOUS_FILE, Err(error)),
        };
        let decoded = Manifest::decode(&path, &bytes);
        self.tell(
            PREVIOUS_FILE,
            decoded.map(|previous| format!("generation {}", previous.generation)),
        );
    }

    fn check_segments(&mut self, manifest: &Manifest) {
        for entry in &manifest.segments {
            let name = segment::file_name(entry.id);
            match check_segment(self.fs, self.dir, entry) {
                Err(_) if self.live && self.is_gone(entry) => {
                    let why = "merged or dropped meanwhile".to_owned();
                    (self.on_file)(&name, &Finding::Ignored(why));
                }
                outcome => self.tell(&name, outcome),
            }
        }
    }

    /// Whether the newest manifest does not name the segment any more.
    fn is_gone(&self, entry: &SegmentEntry) -> bool {
        let now = Manifest::load(self.fs, self.dir);
        now.is_ok_and(|now| now.is_some_and(|now| !now.segments.contains(entry)))
    }

    fn check_state(&mut self, manifest: &Manifest) {
        let Some(state) = &manifest.state else {
            return;
        };
        let checked = state.read(self.fs, self.dir).and_then(|bytes| {
            let documents = StateStore::from_snapshot(&self.dir.join(&state.name), &bytes)?;
            let (count, bytes) = documents.size();
            Ok(format!("{count} documents, {bytes} bytes"))
        });
        let now = Manifest::load(self.fs, self.dir);
        let replaced = now.is_ok_and(|now| now.is_some_and(|now| now.state != manifest.state));
        match checked {
            Err(_) if self.live && replaced => {
                let why = "replaced meanwhile".to_owned();
                (self.on_file)(&state.name, &Finding::Ignored(why));
            }
            outcome => self.tell(&state.name, outcome),
        }
    }

    fn check_log(&mut self, manifest: &Manifest) {
        let checked = match self.live {
            true => self.check_live_log(),
            false => self.check_log_at_rest(manifest),
        };
        self.tell(WAL_DIR, checked);
    }

    fn check_log_at_rest(&self, manifest: &Manifest) -> Result<String> {
        let wal_dir = self.dir.join(WAL_DIR);
        let mut references = References::default();
        let (report, _) = replay(self.fs, &wal_dir, manifest.log, |sequence, record| {
            references.check(&wal_dir, sequence, &record)
        })?;
        let torn = match &report.torn_tail {
            Some(torn) => format!(
                ", torn tail in {} at byte {}, as a crash leaves it",
                torn.path.display(),
                torn.offset
            ),
            None => String::new(),
        };
        let (files, records, rows) = (report.files, report.records, report.rows);
        Ok(format!(
            "{files} files, {records} records, {rows} rows{torn}"
        ))
    }

    /// The log moves on while it is read: when files vanish, the newer manifest is asked.
    fn check_live_log(&self) -> Result<String> {
        let wal_dir = self.dir.join(WAL_DIR);
        for _ in 0..ATTEMPTS {
            let Some(manifest) = Manifest::load(self.fs, self.dir)? else {
                break;
            };
            let mut follower = Follower::new(&wal_dir, manifest.log);
            let mut references = References::default();
            let (mut records, mut rows) = (0_u64, 0_u64);
            loop {
                match follower.poll(self.fs, POLL_BYTES)? {
                    Followed::Records(found) => {
                        for (sequence, record) in found {
                            references.check(&wal_dir, sequence, &record)?;
                            records += 1;
                            rows += record.rows() as u64;
                        }
                    }
                    Followed::Idle => {
                        return Ok(format!("{records} records, {rows} rows, in use"));
                    }
                    Followed::Vanished => break,
                }
            }
        }
        let why = "the log changes faster than it can be read".to_owned();
        Err(EngineError::Unavailable(why))
    }

    /// Tells of files that a crash has left.
    fn check_others(&mut self, names: &[String], manifest: &Manifest) {
        if self.live {
            return;
        }
        for name in names {
            let ours = name.ends_with(segment::FILE_SUFFIX)
                || name.ends_with(SNAPSHOT_SUFFIX)
                || name.ends_with(TEMPORARY_SUFFIX);
            let is_state = manifest.state.as_ref().is_some_and(|s| s.name == *name);
            let is_named = |entry: &SegmentEntry| segment::file_name(entry.id) == *name;
            if ours && !is_state && !manifest.segments.iter().any(is_named) {
                let why = "left by an interrupted change; removed at the next start".to_owned();
                (self.on_file)(name, &Finding::Ignored(why));
            }
        }
    }
}

/// Checks a segment file in all its content, and against what the manifest says of it.
fn check_segment(fs: &dyn FileSystem, dir: &Path, entry: &SegmentEntry) -> Result<String> {
    let path = dir.join(segment::file_name(entry.id));
    let differs = |expected: String, found: String| {
        Err(EngineError::Corruption(Corruption {
            path: path.clone(),
            offset: 0,
            expected: format!("{expected}, which the manifest names"),
            found,
        }))
    };
    let length = fs.length(&path)?;
    if length != Some(entry.identity.length) {
        let found = length.map_or("no file".to_owned(), |length| format!("{length} bytes"));
        return differs(format!("{} bytes", entry.identity.length), found);
    }
    let mapped = fs.map(&path)?;
    let bytes: SegmentBytes = Arc::new(mapped.clone());
    let file = SegmentFile::open(SegmentBytes::clone(&bytes), &path)?;
    if file.identity() != entry.identity {
        let found = format!("{:?}", file.identity());
        return differs(format!("{:?}", entry.identity), found);
    }
    file.check_all_pages()?;
    let meta = SegmentMeta::read(&file)?;
    if meta != entry.meta {
        return differs(format!("{:?}", entry.meta), format!("{meta:?}"));
    }
    let verified = segment::verify(bytes, &path);
    // What was read stays in the page cache, but no longer counts as this process' memory.
    mapped.release_pages();
    let v = verified?;
    Ok(format!(
        "{}, {} series, {} rows, {} bytes",
        meta.signal.as_str(),
        v.series,
        v.rows,
        v.bytes
    ))
}

/// Series that the log has defined so far: a row of another one could not be placed.
#[derive(Default)]
struct References(HashSet<u64>);

impl References {
    fn check(&mut self, wal_dir: &Path, sequence: u64, record: &Record) -> Result<()> {
        self.0
            .extend(record.series.iter().map(|(series, _)| series.0));
        let samples = record.samples.series.iter();
        let histograms = record.histograms.iter().map(|row| &row.series);
        let exemplars = record.exemplars.iter().map(|(series, _)| series);
        let mut used = samples.chain(histograms).chain(exemplars);
        match used.find(|series| !self.0.contains(&series.0)) {
            None => Ok(()),
            Some(series) => Err(EngineError::Corruption(Corruption {
                path: wal_dir.to_owned(),
                offset: 0,
                expected: format!(
                    "a definition of series {} before record {sequence}",
                    series.0
                ),
                found: "none".into(),
            })),
        }
    }
}
