//! The manifest: what a store consists of. The one file that is replaced, and the last to be
//! written in every change.
//!
//! It names the live segments with length and checksum, the deletions that they have not absorbed,
//! the point up to which the log is in segments, and the snapshot of the state documents. A file
//! that it does not name means nothing; a file that it names and that is missing, cut or emptied is
//! reported, never worked around.
//!
//! Every change has a generation number of its own. The version before is kept beside the current
//! one as `MANIFEST.previous`, for repair by hand: it is never used by itself, because it names
//! files that may be gone and lacks what was acknowledged since.
//!
//! Order of a change: new files written and synced, manifest replaced (temporary file, sync,
//! rename, directory synced), files that are no longer named removed. Layout in
//! `docs/formats/manifest.md`.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

use crate::codec::varint::{write_i64, write_u64};
use crate::context::TenantId;
use crate::error::{Corruption, EngineError, Result};
use crate::index::Matcher;
use crate::io::{self, FileSystem};
use crate::model::{Generation, SegmentId, Signal, TimeRange, TimestampNs};
use crate::sealed;
use crate::segment::{self, FileIdentity, SegmentMeta, SegmentOrigin};
use crate::wal::LogStart;
use crate::wal::cursor::{Cursor, Malformed, write_text};
use crate::wal::record::{read_matchers, write_matchers};

/// Version of the manifest's content.
pub const FORMAT_VERSION: u32 = 2;
/// Name of the current manifest in a store's directory.
pub const MANIFEST_FILE: &str = "MANIFEST";
/// Name of the version before it.
pub const PREVIOUS_FILE: &str = "MANIFEST.previous";

pub(crate) const KIND: sealed::Kind = sealed::Kind {
    magic: *b"CHRONMAN",
    version: FORMAT_VERSION,
};
/// Far beyond what any store needs; a larger file is not one of ours.
const MANIFEST_BYTES_MAX: u64 = 1 << 30;

/// A live segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentEntry {
    /// Names its file.
    pub id: SegmentId,
    /// Length and checksum of the file.
    pub identity: FileIdentity,
    /// What it holds and whence it came.
    pub meta: SegmentMeta,
}

/// A deletion that segments have not absorbed yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tombstone {
    /// Names it inside the store.
    pub id: u64,
    /// Whose rows.
    pub tenant: TenantId,
    /// Which kind of telemetry.
    pub signal: Signal,
    /// All of these must match.
    pub matchers: Vec<Matcher>,
    /// The times that are deleted.
    pub range: TimeRange,
    /// It hides rows of segments with a lower generation.
    pub generation: Generation,
    /// It hides rows that arrived in records of the log with a lower sequence number.
    pub sequence: u64,
    /// It hides rows of this derivation only: a range of derived rows was replaced.
    pub derivation: Option<Arc<str>>,
    /// When it arrived.
    pub arrival: TimestampNs,
}

/// A file of the store that the manifest refers to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileReference {
    /// Its name inside the store's directory.
    pub name: String,
    /// Bytes of the file.
    pub length: u64,
    /// CRC32C of all of it.
    pub checksum: u32,
}

impl FileReference {
    /// Describes a file with this content.
    #[must_use]
    pub fn of(name: String, bytes: &[u8]) -> Self {
        Self {
            name,
            length: bytes.len() as u64,
            checksum: crc32c::crc32c(bytes),
        }
    }

    /// Reads the file and compares it with this description.
    ///
    /// # Errors
    /// [`EngineError::Corruption`] when it is missing or another one.
    pub fn read(&self, fs: &dyn FileSystem, dir: &Path) -> Result<Vec<u8>> {
        let path = dir.join(&self.name);
        check_length(fs, &path, self.length)?;
        let bytes = fs.read(&path, self.length)?;
        let found = crc32c::crc32c(&bytes);
        if found != self.checksum {
            return Err(EngineError::Corruption(Corruption {
                path,
                offset: 0,
                expected: format!("checksum {:08x}, which the manifest names", self.checksum),
                found: format!("{found:08x}"),
            }));
        }
        Ok(bytes)
    }
}

/// What a store consists of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// The number of this change.
    pub generation: Generation,
    /// Where the log begins: what is below is in segments.
    pub log: LogStart,
    /// Higher than the id of every segment that was ever made.
    pub segment_id_next: u64,
    /// Higher than the id of every tombstone that was ever made.
    pub tombstone_id_next: u64,
    /// Higher than the id of every series that was ever made: ids in the log are never reused.
    pub series_id_next: u64,
    /// The state documents as of the log's beginning; `None` when there are none.
    pub state: Option<FileReference>,
    /// Since when overwritten rows are kept; `None` when they are not.
    pub as_of_since: Option<TimestampNs>,
    /// The live segments.
    pub segments: Vec<SegmentEntry>,
    /// Deletions that segments have not absorbed yet.
    pub tombstones: Vec<Tombstone>,
}

impl Default for Manifest {
    /// A store without anything.
    fn default() -> Self {
        Self {
            generation: Generation(0),
            log: LogStart::default(),
            segment_id_next: 1,
            tombstone_id_next: 1,
            series_id_next: 1,
            state: None,
            as_of_since: None,
            segments: Vec::new(),
            tombstones: Vec::new(),
        }
    }
}

impl Manifest {
    /// Reads the current manifest of a store; `None` when the directory holds no store yet. The
    /// caller then makes sure with [`wal::is_pristine`](crate::wal::is_pristine) that there is no
    /// log with records, which would mean that the manifest was lost.
    ///
    /// # Errors
    /// [`EngineError::Corruption`] when it is damaged, or missing where there has been one.
    pub fn load(fs: &dyn FileSystem, dir: &Path) -> Result<Option<Self>> {
        let path = dir.join(MANIFEST_FILE);
        let bytes = match fs.read(&path, MANIFEST_BYTES_MAX) {
            Ok(bytes) => bytes,
            Err(error) if error.is_not_found() => {
                // A new store has its first manifest before its first segment.
                let is_segment = |name: &String| name.ends_with(segment::FILE_SUFFIX);
                let names = fs.list(dir)?;
                let of_a_store = |name: &&String| *name == PREVIOUS_FILE || is_segment(name);
                return match names.iter().find(of_a_store) {
                    None => Ok(None),
                    Some(name) => Err(EngineError::Corruption(Corruption {
                        path,
                        offset: 0,
                        expected: format!("the manifest of the store that {name} belongs to"),
                        found: "no file".into(),
                    })),
                };
            }
            Err(error) => return Err(error),
        };
        Self::decode(&path, &bytes).map(Some)
    }

    /// Replaces the manifest by this one, atomically and durably. The present one is kept as the
    /// version before.
    ///
    /// # Errors
    /// What the file system says. The old manifest is then still in force, unless only the last
    /// step failed (the sync of the directory): then either may be after a power cut, so that files
    /// named by either must stay.
    pub fn store(&self, fs: &dyn FileSystem, dir: &Path) -> Result<()> {
        let path = dir.join(MANIFEST_FILE);
        match fs.read(&path, MANIFEST_BYTES_MAX) {
            Ok(present) => io::replace(fs, &dir.join(PREVIOUS_FILE), &present)?,
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(error),
        }
        io::replace(fs, &path, &self.encode())
    }

    /// Checks that every file that the manifest names is there in its full length. Content is
    /// checked by those who read it.
    ///
    /// # Errors
    /// [`EngineError::Corruption`] naming the first that is missing, cut or emptied.
    pub fn check_files(&self, fs: &dyn FileSystem, dir: &Path) -> Result<()> {
        for segment in &self.segments {
            let path = dir.join(segment::file_name(segment.id));
            check_length(fs, &path, segment.identity.length)?;
        }
        match &self.state {
            Some(state) => check_length(fs, &dir.join(&state.name), state.length),
            None => Ok(()),
        }
    }

    /// Removes segment files and state snapshots that no manifest names any more, and temporary
    /// files: what a crash between two steps leaves. Only for the holder of the lock. Returns how
    /// many there were.
    ///
    /// # Errors
    /// What the file system says.
    pub fn remove_orphans(&self, fs: &dyn FileSystem, dir: &Path) -> Result<usize> {
        let mut named: HashSet<String> = self
            .segments
            .iter()
            .map(|entry| segment::file_name(entry.id))
            .collect();
        named.extend(self.state.iter().map(|state| state.name.clone()));
        let mut removed = io::remove_temporary_files(fs, dir)?;
        for name in fs.list(dir)? {
            let ours = name.ends_with(segment::FILE_SUFFIX)
                || name.ends_with(crate::state::SNAPSHOT_SUFFIX);
            if ours && !named.contains(&name) {
                fs.remove(&dir.join(&name))?;
                removed += 1;
            }
        }
        Ok(removed)
    }

    /// The bytes of the file.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        write_u64(&mut out, self.generation.0);
        write_u64(&mut out, self.log.sequence);
        write_u64(&mut out, self.log.first_file);
        write_u64(&mut out, self.segment_id_next);
        write_u64(&mut out, self.tombstone_id_next);
        write_u64(&mut out, self.series_id_next);
        out.push(u8::from(self.state.is_some()));
        if let Some(state) = &self.state {
            write_text(&mut out, &state.name);
            write_u64(&mut out, state.length);
            out.extend_from_slice(&state.checksum.to_le_bytes());
        }
        out.push(u8::from(self.as_of_since.is_some()));
        if let Some(since) = self.as_of_since {
            write_i64(&mut out, since.0);
        }
        write_u64(&mut out, self.segments.len() as u64);
        for entry in &self.segments {
            write_segment(&mut out, entry);
        }
        write_u64(&mut out, self.tombstones.len() as u64);
        for tombstone in &self.tombstones {
            write_tombstone(&mut out, tombstone);
        }
        sealed::encode(KIND, &out)
    }

    /// Reads the bytes of the file at `path`.
    ///
    /// # Errors
    /// [`EngineError::Corruption`] naming `path` and the offset of what is wrong.
    pub fn decode(path: &Path, bytes: &[u8]) -> Result<Self> {
        sealed::read(KIND, path, bytes, |version, cursor| {
            let manifest = Self {
                generation: Generation(cursor.varint()?),
                log: LogStart {
                    sequence: cursor.varint()?,
                    first_file: cursor.varint()?,
                },
                segment_id_next: cursor.varint()?,
                tombstone_id_next: cursor.varint()?,
                series_id_next: cursor.varint()?,
                state: match cursor.u8()? {
                    0 => None,
                    1 => Some(FileReference {
                        name: cursor.text()?.to_owned(),
                        length: cursor.varint()?,
                        checksum: cursor.u32()?,
                    }),
                    _ => return Err(cursor.malformed("unknown kind of state reference")),
                },
                as_of_since: match version {
                    1 => None,
                    _ => read_as_of_since(cursor)?,
                },
                segments: read_all(cursor, |cursor| read_segment(version, cursor))?,
                tombstones: read_all(cursor, |cursor| read_tombstone(version, cursor))?,
            };
            Ok(manifest)
        })
    }
}

fn check_length(fs: &dyn FileSystem, path: &Path, expected: u64) -> Result<()> {
    let found = fs.length(path)?;
    if found == Some(expected) {
        return Ok(());
    }
    Err(EngineError::Corruption(Corruption {
        path: path.to_owned(),
        offset: found.unwrap_or(0).min(expected),
        expected: format!("a file of {expected} bytes, which the manifest names"),
        found: match found {
            Some(length) => format!("{length} bytes"),
            None => "no file".into(),
        },
    }))
}

fn write_range(out: &mut Vec<u8>, range: TimeRange) {
    write_i64(out, range.start.0);
    write_i64(out, range.end.0);
}

fn read_range(cursor: &mut Cursor<'_>) -> Result<TimeRange, Malformed> {
    Ok(TimeRange {
        start: TimestampNs(cursor.zigzag()?),
        end: TimestampNs(cursor.zigzag()?),
    })
}

fn read_tenant(cursor: &mut Cursor<'_>) -> Result<TenantId, Malformed> {
    let name = cursor.text()?;
    TenantId::new(name).map_err(|_| cursor.malformed("malformed tenant"))
}

fn read_signal(cursor: &mut Cursor<'_>) -> Result<Signal, Malformed> {
    let number = cursor.u8()?;
    Signal::from_u8(number).ok_or_else(|| cursor.malformed("unknown signal"))
}

fn read_as_of_since(cursor: &mut Cursor<'_>) -> Result<Option<TimestampNs>, Malformed> {
    match cursor.u8()? {
        0 => Ok(None),
        1 => Ok(Some(TimestampNs(cursor.zigzag()?))),
        _ => Err(cursor.malformed("unknown kind of time")),
    }
}

/// Reads a count and that many items.
fn read_all<T>(
    cursor: &mut Cursor<'_>,
    mut read: impl FnMut(&mut Cursor<'_>) -> Result<T, Malformed>,
) -> Result<Vec<T>, Malformed> {
    let count = cursor.count(1)?;
    let mut items = Vec::new();
    for _ in 0..count {
        items.push(read(cursor)?);
    }
    Ok(items)
}

fn write_segment(out: &mut Vec<u8>, entry: &SegmentEntry) {
    let (meta, origin) = (&entry.meta, &entry.meta.origin);
    write_u64(out, entry.id.0);
    write_u64(out, entry.identity.length);
    out.extend_from_slice(&entry.identity.checksum.to_le_bytes());
    out.push(meta.signal as u8);
    write_text(out, origin.tenant.as_str());
    out.push(origin.level);
    write_u64(out, origin.generation.0);
    write_range(out, origin.arrival);
    out.push(u8::from(origin.derivation.is_some()));
    if let Some(derivation) = &origin.derivation {
        write_text(out, derivation);
    }
    write_u64(out, origin.sources.len() as u64);
    for source in &origin.sources {
        write_u64(out, source.0);
    }
    write_range(out, meta.range);
    write_u64(out, meta.series_count);
    write_u64(out, meta.row_count);
    write_u64(out, meta.chunk_count);
    write_u64(out, meta.superseded_count);
}

fn read_segment(version: u32, cursor: &mut Cursor<'_>) -> Result<SegmentEntry, Malformed> {
    let id = SegmentId(cursor.varint()?);
    let identity = FileIdentity {
        length: cursor.varint()?,
        checksum: cursor.u32()?,
    };
    let signal = read_signal(cursor)?;
    let origin = SegmentOrigin {
        tenant: read_tenant(cursor)?,
        level: cursor.u8()?,
        generation: Generation(cursor.varint()?),
        arrival: read_range(cursor)?,
        derivation: match cursor.u8()? {
            0 => None,
            1 => Some(cursor.text()?.to_owned()),
            _ => return Err(cursor.malformed("unknown kind of derivation")),
        },
        sources: read_all(cursor, |cursor| Ok(Generation(cursor.varint()?)))?,
    };
    let meta = SegmentMeta {
        signal,
        origin,
        range: read_range(cursor)?,
        series_count: cursor.varint()?,
        row_count: cursor.varint()?,
        chunk_count: cursor.varint()?,
        superseded_count: match version {
            1 => 0,
            _ => cursor.varint()?,
        },
    };
    Ok(SegmentEntry { id, identity, meta })
}

fn write_tombstone(out: &mut Vec<u8>, tombstone: &Tombstone) {
    write_u64(out, tombstone.id);
    write_text(out, tombstone.tenant.as_str());
    out.push(tombstone.signal as u8);
    write_range(out, tombstone.range);
    write_u64(out, tombstone.generation.0);
    write_u64(out, tombstone.sequence);
    write_matchers(out, &tombstone.matchers);
    out.push(u8::from(tombstone.derivation.is_some()));
    if let Some(derivation) = &tombstone.derivation {
        write_text(out, derivation);
    }
    write_i64(out, tombstone.arrival.0);
}

fn read_tombstone(version: u32, cursor: &mut Cursor<'_>) -> Result<Tombstone, Malformed> {
    let mut tombstone = Tombstone {
        id: cursor.varint()?,
        tenant: read_tenant(cursor)?,
        signal: read_signal(cursor)?,
        range: read_range(cursor)?,
        generation: Generation(cursor.varint()?),
        sequence: cursor.varint()?,
        matchers: read_matchers(cursor)?,
        derivation: None,
        arrival: TimestampNs(0),
    };
    if version > 1 {
        tombstone.derivation = match cursor.u8()? {
            0 => None,
            1 => Some(Arc::from(cursor.text()?)),
            _ => return Err(cursor.malformed("unknown kind of derivation")),
        };
        tombstone.arrival = TimestampNs(cursor.zigzag()?);
    }
    Ok(tombstone)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::index::MatchOp;
    use crate::io::{Fault, Faulty, Memory};
    use std::path::PathBuf;

    fn manifest(generation: u64) -> Manifest {
        let meta = |signal, derivation: Option<&str>| SegmentMeta {
            signal,
            origin: SegmentOrigin {
                tenant: TenantId::new("team-a").unwrap(),
                level: 2,
                generation: Generation(7),
                arrival: TimeRange::new(-5, i64::MAX),
                derivation: derivation.map(str::to_owned),
                sources: vec![Generation(1), Generation(u64::MAX)],
            },
            range: TimeRange::ALL,
            series_count: 3,
            row_count: 1 << 40,
            chunk_count: 9,
            superseded_count: 5,
        };
        let entry = |id, signal, derivation| SegmentEntry {
            id: SegmentId(id),
            identity: FileIdentity {
                length: 4,
                checksum: 0xdead_beef,
            },
            meta: meta(signal, derivation),
        };
        Manifest {
            generation: Generation(generation),
            log: LogStart {
                first_file: 3,
                sequence: 77,
            },
            segment_id_next: 12,
            tombstone_id_next: 2,
            series_id_next: 1000,
            state: Some(FileReference::of("000000000009.state".into(), b"abc")),
            as_of_since: Some(TimestampNs(-77)),
            segments: vec![
                entry(10, Signal::Metrics, None),
                entry(11, Signal::Spans, Some("rule/1")),
            ],
            tombstones: vec![Tombstone {
                id: 1,
                tenant: TenantId::default(),
                signal: Signal::Logs,
                matchers: vec![Matcher::new("a", MatchOp::Regex, "b|c").unwrap()],
                range: TimeRange::new(1, 2),
                generation: Generation(5),
                sequence: 70,
                derivation: Some(Arc::from("rule/1")),
                arrival: TimestampNs(-9),
            }],
        }
    }

    fn dir() -> (Memory, PathBuf) {
        let fs = Memory::new();
        let dir = PathBuf::from("/store");
        fs.create_dir_all(&dir).unwrap();
        (fs, dir)
    }

    #[test]
    fn it_reads_back_what_was_stored_and_keeps_the_version_before() {
        let (fs, dir) = dir();
        assert_eq!(Manifest::load(&fs, &dir).unwrap(), None);
        for generation in 1..=3 {
            manifest(generation).store(&fs, &dir).unwrap();
        }
        assert_eq!(Manifest::load(&fs, &dir).unwrap(), Some(manifest(3)));
        let previous = fs.read(&dir.join(PREVIOUS_FILE), 1 << 20).unwrap();
        assert_eq!(
            Manifest::decode(Path::new("p"), &previous).unwrap(),
            manifest(2)
        );
        fs.crash();
        assert_eq!(Manifest::load(&fs, &dir).unwrap(), Some(manifest(3)));
    }

    #[test]
    fn every_cut_and_every_flip_is_reported_with_the_file() {
        let bytes = manifest(1).encode();
        let path = Path::new("/store/MANIFEST");
        let check = |bad: &[u8]| match Manifest::decode(path, bad) {
            Err(EngineError::Corruption(corruption)) => assert_eq!(corruption.path, path),
            other => panic!("expected corruption, got {other:?}"),
        };
        for length in 0..bytes.len() {
            check(&bytes[..length]);
        }
        for at in 0..bytes.len() {
            for bit in 0..8 {
                let mut bad = bytes.clone();
                bad[at] ^= 1 << bit;
                check(&bad);
            }
        }
        check(&[bytes.as_slice(), &[0]].concat());
    }

    #[test]
    fn hostile_content_behind_a_right_checksum_is_an_error_or_other_content() {
        let bytes = manifest(1).encode();
        let content = &bytes[sealed::HEADER_BYTES..];
        for at in 0..content.len() {
            for flip in [0x01, 0x80, 0xff] {
                let mut bad = content.to_vec();
                bad[at] ^= flip;
                let _ = Manifest::decode(Path::new("m"), &sealed::encode(KIND, &bad));
            }
        }
    }

    #[test]
    fn a_missing_manifest_or_file_is_noticed() {
        let (fs, dir) = dir();
        let stored = manifest(1);
        stored.store(&fs, &dir).unwrap();
        stored.store(&fs, &dir).unwrap();
        let named = |result: Result<()>, name: &str| match result {
            Err(EngineError::Corruption(corruption)) => {
                assert_eq!(corruption.path.file_name().unwrap(), name);
            }
            other => panic!("expected corruption of {name}, got {other:?}"),
        };
        let write = |name: &str, bytes: &[u8]| {
            fs.create(&dir.join(name))
                .unwrap()
                .write_at(0, bytes)
                .unwrap();
        };
        let first = segment::file_name(SegmentId(10));
        let second = segment::file_name(SegmentId(11));
        named(stored.check_files(&fs, &dir), &first);
        write(&first, b"1234");
        write(&second, b"");
        named(stored.check_files(&fs, &dir), &second);
        write(&second, b"1234");
        write("000000000009.state", b"abc");
        stored.check_files(&fs, &dir).unwrap();
        let state = stored.state.clone().unwrap();
        assert_eq!(state.read(&fs, &dir).unwrap(), b"abc");
        write("000000000009.state", b"abd");
        named(state.read(&fs, &dir).map(|_| ()), "000000000009.state");
        write("000000000001.state", b"old");
        write(&segment::file_name(SegmentId(4)), b"old");
        write("x.tmp", b"");
        assert_eq!(stored.remove_orphans(&fs, &dir).unwrap(), 3);
        stored.check_files(&fs, &dir).unwrap();
        fs.remove(&dir.join(MANIFEST_FILE)).unwrap();
        named(Manifest::load(&fs, &dir).map(|_| ()), MANIFEST_FILE);
        fs.remove(&dir.join(PREVIOUS_FILE)).unwrap();
        named(Manifest::load(&fs, &dir).map(|_| ()), MANIFEST_FILE);
    }

    #[test]
    fn a_failure_at_any_step_leaves_the_old_or_the_new_one() {
        for n in 0.. {
            let (memory, dir) = dir();
            manifest(1).store(&memory, &dir).unwrap();
            manifest(2).store(&memory, &dir).unwrap();
            let fs = Faulty::nth(Arc::new(memory.clone()), n, Fault::Dead);
            let stored = manifest(3).store(&fs, &dir);
            let calls = fs.calls();
            memory.crash();
            let found = Manifest::load(&memory, &dir).unwrap().unwrap();
            if stored.is_ok() {
                assert_eq!(found, manifest(3));
            } else {
                assert!(found == manifest(2) || found == manifest(3), "call {n}");
            }
            if calls <= n {
                break;
            }
        }
    }
}
