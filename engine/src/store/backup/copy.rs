//! Fills a target with the files of a manifest, reads them back and publishes the manifest.

use std::path::Path;
use std::sync::Arc;

use super::pace::Pacer;
use super::target::{Kind, Target, UNFINISHED_FILE};
use super::{BackupOptions, BackupReport, ReadBack, Step};
use crate::context::CancelToken;
use crate::error::{Corruption, EngineError, Result};
use crate::head::seal::NewSegment;
use crate::io::{self, File, FileSystem, SharedFileSystem, TEMPORARY_SUFFIX};
use crate::manifest::{FileReference, Manifest, SegmentEntry};
use crate::segment::{check_file, file_name, read_identity};
use crate::state::{SNAPSHOT_SUFFIX, StateStore};
use crate::store::open::WAL_DIR;
use crate::store::segments::Segment;
use crate::wal::{WalOptions, initialize};

/// Bytes copied at a time.
const PIECE_BYTES: usize = 1 << 20;
/// Bytes after which a copy is synced: what the kernel holds back would slow the syncs of a log on
/// the same medium all at once.
const SYNC_BYTES: u64 = 8 << 20;

/// Where the files come from.
pub(super) struct Source<'a> {
    pub(super) fs: &'a SharedFileSystem,
    pub(super) dir: &'a Path,
    /// Open segments, for files that a merge removes meanwhile.
    pub(super) open: &'a [Arc<Segment>],
    pub(super) cancel: Option<&'a CancelToken>,
}

/// The bytes of a source file.
enum Bytes<'a> {
    /// Read as files are: an error of the medium is an error and no signal.
    File(Box<dyn File>),
    Mapped(&'a [u8]),
}

impl Bytes<'_> {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize> {
        match self {
            Self::File(file) => file.read_at(offset, buffer),
            Self::Mapped(bytes) => {
                let start = usize::try_from(offset).unwrap_or(usize::MAX);
                let rest = bytes.get(start..).unwrap_or(&[]);
                let count = rest.len().min(buffer.len());
                buffer[..count].copy_from_slice(&rest[..count]);
                Ok(count)
            }
        }
    }
}

impl Source<'_> {
    fn bytes(&self, entry: &SegmentEntry) -> Result<Bytes<'_>> {
        match self.fs.open_read(&self.dir.join(file_name(entry.id))) {
            Ok(file) => Ok(Bytes::File(file)),
            Err(error) if error.is_not_found() => {
                let open = self.open.iter().find(|segment| segment.id == entry.id);
                let open = open.map(|segment| segment.file().unchecked_bytes());
                open.map(Bytes::Mapped).ok_or(error)
            }
            Err(error) => Err(error),
        }
    }
}

/// Copies what the target lacks, reads it back, and makes `manifest` the target's. `written` are the
/// segments that were written there already; `state` is the content of the file with the documents.
///
/// # Errors
/// The first thing that goes wrong, naming the file. The target is then what it was before; only if
/// the very last sync failed it may be the new one.
pub(super) fn fill(
    target: &Target,
    source: &Source<'_>,
    mut manifest: Manifest,
    state: Option<&[u8]>,
    written: &[NewSegment],
    options: &BackupOptions<'_>,
) -> Result<BackupReport> {
    let mut filling = Filling {
        target,
        source,
        options,
        pacer: Pacer::new(options, source.cancel),
        report: BackupReport::default(),
    };
    manifest
        .segments
        .sort_by_key(|entry| (entry.meta.origin.generation, entry.id));
    let written: Vec<u64> = written.iter().map(|new| new.id.0).collect();
    let all = manifest.segments.iter();
    let (own, others): (Vec<_>, Vec<_>) = all.partition(|entry| written.contains(&entry.id.0));
    filling.report.segments_copied = own.len() as u64;
    filling.report.bytes_copied = own.iter().map(|entry| entry.identity.length).sum();

    let mut fresh = filling.copy_missing(&others)?;
    fresh.extend(own);
    manifest.state = filling.write_state(manifest.generation.0, state)?;
    filling.make_log()?;
    target.fs.sync_dir(&target.dir)?;
    filling.read_back(&manifest, &fresh)?;
    filling.publish(&manifest)?;

    let state_bytes = manifest.state.as_ref().map_or(0, |state| state.length);
    let lengths = manifest.segments.iter().map(|e| e.identity.length);
    filling.report.generation = manifest.generation;
    filling.report.segments = manifest.segments.len() as u64;
    filling.report.bytes = lengths.sum::<u64>() + state_bytes;
    Ok(filling.report)
}

struct Filling<'a> {
    target: &'a Target,
    source: &'a Source<'a>,
    options: &'a BackupOptions<'a>,
    pacer: Pacer<'a>,
    report: BackupReport,
}

impl Filling<'_> {
    fn fs(&self) -> &dyn FileSystem {
        &*self.target.fs
    }

    /// Whether the target has the file, as far as its ends tell.
    fn has(&self, entry: &SegmentEntry) -> Result<bool> {
        let path = self.target.dir.join(file_name(entry.id));
        if self.fs().length(&path)? != Some(entry.identity.length) {
            return Ok(false);
        }
        match read_identity(&*self.fs().open_read(&path)?) {
            Ok(found) => Ok(found == entry.identity),
            Err(EngineError::Corruption(_)) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Copies the files that are not there; answers them.
    fn copy_missing<'e>(&mut self, entries: &[&'e SegmentEntry]) -> Result<Vec<&'e SegmentEntry>> {
        let mut missing = Vec::new();
        for &entry in entries {
            match self.has(entry)? {
                true => self.report.segments_reused += 1,
                false => missing.push(entry),
            }
        }
        let bytes = missing.iter().map(|entry| entry.identity.length).sum();
        if !self.options.hard_links {
            self.check_room(bytes)?;
        }
        self.pacer.begin(Step::Copy, missing.len() as u64, bytes)?;
        for entry in &missing {
            if self.options.hard_links && self.link(entry)? {
                self.report.segments_linked += 1;
                self.pacer.piece(entry.identity.length)?;
            } else {
                self.copy(entry)?;
            }
            self.pacer.file_done()?;
        }
        Ok(missing)
    }

    /// Refuses at once what would fail in the end.
    fn check_room(&self, bytes: u64) -> Result<()> {
        let free = self.fs().free_bytes(&self.target.dir)?;
        if bytes <= free {
            return Ok(());
        }
        let why = format!("{bytes} bytes are to be copied, {free} are free");
        let full = std::io::Error::new(std::io::ErrorKind::StorageFull, why);
        Err(EngineError::io(&self.target.dir, full))
    }

    /// Gives the file a second name in the target; answers false when it has to be copied.
    fn link(&self, entry: &SegmentEntry) -> Result<bool> {
        let name = file_name(entry.id);
        let temporary = self.target.dir.join(name.clone() + TEMPORARY_SUFFIX);
        self.fs().remove(&temporary)?;
        // Another medium, a file system without links, a file that a merge has removed.
        if let Err(error) = self
            .fs()
            .hard_link(&self.source.dir.join(&name), &temporary)
        {
            tracing::debug!(%error, "a segment is copied instead of linked");
            return Ok(false);
        }
        self.fs().rename(&temporary, &self.target.dir.join(name))?;
        Ok(true)
    }

    fn copy(&mut self, entry: &SegmentEntry) -> Result<()> {
        let path = self.target.dir.join(file_name(entry.id));
        let temporary = self.target.dir.join(file_name(entry.id) + TEMPORARY_SUFFIX);
        let bytes = self.source.bytes(entry)?;
        let file = self.fs().create(&temporary)?;
        let length = entry.identity.length;
        let mut buffer = vec![0; PIECE_BYTES.min(usize::try_from(length).unwrap_or(PIECE_BYTES))];
        let mut offset = 0;
        let mut unsynced = 0;
        while offset < length {
            let left = usize::try_from(length - offset).unwrap_or(usize::MAX);
            let wanted = buffer.len().min(left);
            let piece = &mut buffer[..wanted];
            if bytes.read_at(offset, piece)? < wanted {
                return Err(EngineError::Corruption(Corruption {
                    path: self.source.dir.join(file_name(entry.id)),
                    offset,
                    expected: format!("a file of {length} bytes, which the manifest names"),
                    found: "the end of the file".into(),
                }));
            }
            file.write_at(offset, piece)?;
            offset += wanted as u64;
            unsynced += wanted as u64;
            if unsynced >= SYNC_BYTES {
                file.sync()?;
                unsynced = 0;
            }
            self.pacer.piece(wanted as u64)?;
        }
        file.sync()?;
        file.forget_cached();
        self.fs().rename(&temporary, &path)?;
        self.report.segments_copied += 1;
        self.report.bytes_copied += length;
        Ok(())
    }

    /// The file bears its checksum in its name, so that no earlier backup's is ever overwritten.
    fn write_state(&self, generation: u64, state: Option<&[u8]>) -> Result<Option<FileReference>> {
        let Some(bytes) = state else {
            return Ok(None);
        };
        let checksum = crc32c::crc32c(bytes);
        let name = format!("{generation:012}-{checksum:08x}{SNAPSHOT_SUFFIX}");
        io::replace(self.fs(), &self.target.dir.join(&name), bytes)?;
        Ok(Some(FileReference::of(name, bytes)))
    }

    /// A log without records, which a store must have.
    fn make_log(&self) -> Result<()> {
        let dir = self.target.dir.join(WAL_DIR);
        self.fs().create_dir_all(&dir)?;
        let mut options = WalOptions::default();
        if self.target.kind == Kind::Backup {
            // Nobody will ever write to it.
            options.preallocate_bytes = 0;
        }
        initialize(&self.target.fs, &dir, &options)
    }

    /// Reads the files of the target and compares them with their checksums.
    fn read_back(&mut self, manifest: &Manifest, fresh: &[&SegmentEntry]) -> Result<()> {
        let is_fresh = |entry: &SegmentEntry| fresh.iter().any(|f| f.id == entry.id);
        let wanted = manifest.segments.iter().filter(|entry| {
            let all = self.options.read_back == ReadBack::All;
            all || (self.options.read_back == ReadBack::Copied && is_fresh(entry))
        });
        let wanted: Vec<_> = wanted.collect();
        let bytes = wanted.iter().map(|entry| entry.identity.length).sum();
        self.pacer.begin(Step::Verify, wanted.len() as u64, bytes)?;
        for entry in wanted {
            if let Err(error) = self.check(entry) {
                let damaged = matches!(error, EngineError::Corruption(_));
                if is_fresh(entry) || !damaged {
                    return Err(self.blame(entry, error));
                }
                tracing::warn!(%error, "a file of the backup is copied again");
                self.report.segments_reused -= 1;
                self.copy(entry)?;
                self.target.fs.sync_dir(&self.target.dir)?;
                self.check(entry)
                    .map_err(|error| self.blame(entry, error))?;
            }
            self.report.bytes_verified += entry.identity.length;
            self.pacer.file_done()?;
        }
        if let Some(state) = &manifest.state {
            let bytes = state.read(self.fs(), &self.target.dir)?;
            StateStore::from_snapshot(&self.target.dir.join(&state.name), &bytes)?;
            self.report.bytes_verified += state.length;
        }
        Ok(())
    }

    fn check(&mut self, entry: &SegmentEntry) -> Result<()> {
        let path = self.target.dir.join(file_name(entry.id));
        let file = self.fs().open_read(&path)?;
        let found = check_file(&*file, |bytes| self.pacer.piece(bytes))?;
        if found == entry.identity {
            return Ok(());
        }
        Err(EngineError::Corruption(Corruption {
            path,
            offset: 0,
            expected: format!("{:?}, which the manifest names", entry.identity),
            found: format!("{found:?}"),
        }))
    }

    /// A copy that is wrong because its original is: names the original.
    fn blame(&self, entry: &SegmentEntry, error: EngineError) -> EngineError {
        let original = self
            .source
            .fs
            .open_read(&self.source.dir.join(file_name(entry.id)));
        match original.and_then(|file| check_file(&*file, |_| Ok(()))) {
            Err(EngineError::Corruption(corruption)) => EngineError::Corruption(corruption),
            _ => error,
        }
    }

    fn publish(&self, manifest: &Manifest) -> Result<()> {
        let (fs, dir) = (self.fs(), &*self.target.dir);
        manifest.check_files(fs, dir)?;
        manifest.store(fs, dir)?;
        if Manifest::load(fs, dir)?.as_ref() != Some(manifest) {
            return Err(EngineError::Corruption(Corruption {
                path: dir.join(crate::manifest::MANIFEST_FILE),
                offset: 0,
                expected: "the manifest that was just written".into(),
                found: "another one".into(),
            }));
        }
        if self.target.kind == Kind::Store {
            fs.remove(&dir.join(UNFINISHED_FILE))?;
            fs.sync_dir(dir)?;
        }
        // The copy is complete; what is left over is removed by the next one.
        if let Err(error) = manifest.remove_orphans(fs, dir) {
            tracing::warn!(%error, "files that nobody needs stay beside the copy");
        }
        Ok(())
    }
}
