//! Backup, snapshot and restore: a consistent copy of a store, made while the store is in use.
//!
//! A backup is a directory in the layout of a store with an empty log: segments, state documents and
//! a manifest. So it can be read (`Store::open_read_only`), verified and inspected with the same
//! tools as a store, and needs no format of its own.
//!
//! ```text
//! pin      the writer seals its head and notes documents and deletions at that moment;
//!          a reader beside it writes what it read from the log as segments into the target;
//!          both write metadata there that only the log has, as a segment without rows
//! copy     segments that the target lacks: temporary file, sync, rename; the rest is reused
//! verify   every page of every file is read back from the target and compared with its checksum
//! publish  the target's manifest is replaced: the moment of the change
//! tidy     files that the new manifest does not name are removed
//! ```
//!
//! Invariants:
//! - Until its manifest is replaced, the target is the backup that it was before (or an unfinished
//!   first one); afterwards it is the new one. What a crash leaves is reused by the next call.
//! - The source is only read, but for the seal that a writer may do at any time anyway.
//! - A directory that is neither empty nor a backup is never written to, nor is the backup of another
//!   store or of a later state of this one.

mod copy;
mod pace;
mod pin;
mod restore;
mod target;

use std::ops::ControlFlow;
use std::path::Path;
use std::time::{Duration, Instant};

use super::engine::Engine;
use crate::error::{EngineError, Result};
use crate::io::SharedFileSystem;
use crate::model::Generation;
use copy::{Source, fill};
use target::{Kind, Target};

pub(crate) use restore::restore;
pub(crate) use target::check_openable;
pub use target::{BACKUP_FILE, UNFINISHED_FILE};

/// What is read back from the target before the backup counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ReadBack {
    /// Every file; one that was there before and is damaged now is copied again.
    #[default]
    All,
    /// The files that were copied now; of the others only the ends.
    Copied,
    /// Nothing but the ends of each file.
    Ends,
}

/// How fast files are copied and read back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Pace {
    /// As fast as the medium goes.
    #[default]
    Unlimited,
    /// Rests as long as it works, so that a live server keeps half of the medium and of a core.
    Shared,
    /// At most this many bytes a second.
    BytesPerSecond(u64),
}

/// What is being done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Step {
    /// Files are copied.
    #[default]
    Copy,
    /// Files are read back.
    Verify,
}

/// How far a step has got. The totals of a step are known when it begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// The step.
    pub step: Step,
    /// Files done.
    pub files_done: u64,
    /// Files there are to do.
    pub files: u64,
    /// Bytes done.
    pub bytes_done: u64,
    /// Bytes there are to do.
    pub bytes: u64,
}

/// Told of progress after every piece; `Break` ends the work with [`EngineError::Cancelled`].
pub type OnProgress<'a> = dyn Fn(&Progress) -> ControlFlow<()> + Sync + 'a;

/// Settings of a backup, snapshot or restore.
#[derive(Clone, Copy, Default)]
pub struct BackupOptions<'a> {
    /// Leaves out what is not in segments yet.
    pub skip_head: bool,
    /// Names segments a second time instead of copying them, where the file system can. It takes
    /// neither time nor space, and no damage of the medium spares it.
    pub hard_links: bool,
    /// What is read back. Default: everything.
    pub read_back: ReadBack,
    /// How fast. Default: as fast as it goes.
    pub pace: Pace,
    /// Who wants to know.
    pub progress: Option<&'a OnProgress<'a>>,
}

impl std::fmt::Debug for BackupOptions<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BackupOptions")
            .field("skip_head", &self.skip_head)
            .field("hard_links", &self.hard_links)
            .field("read_back", &self.read_back)
            .field("pace", &self.pace)
            .finish_non_exhaustive()
    }
}

/// What a backup, snapshot or restore did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct BackupReport {
    /// The generation of the store that the copy shows.
    pub generation: Generation,
    /// Segments in the copy.
    pub segments: u64,
    /// Bytes of all its files.
    pub bytes: u64,
    /// Segments that were copied or written.
    pub segments_copied: u64,
    /// Their bytes.
    pub bytes_copied: u64,
    /// Segments that got a second name.
    pub segments_linked: u64,
    /// Segments that were there already.
    pub segments_reused: u64,
    /// Bytes read back and compared with their checksums.
    pub bytes_verified: u64,
    /// Wall time.
    pub took: Duration,
}

impl Engine {
    /// Makes or renews the backup in `dir`.
    pub(crate) fn backup(
        &self,
        fs: &SharedFileSystem,
        dir: &Path,
        options: &BackupOptions<'_>,
    ) -> Result<BackupReport> {
        self.copy_to(fs, dir, Kind::Backup, options)
    }

    /// Makes a store of its own in the empty directory `dir`, with this store's content.
    pub(crate) fn snapshot(&self, dir: &Path, options: &BackupOptions<'_>) -> Result<BackupReport> {
        self.copy_to(&self.fs, dir, Kind::Store, options)
    }

    fn copy_to(
        &self,
        fs: &SharedFileSystem,
        dir: &Path,
        kind: Kind,
        options: &BackupOptions<'_>,
    ) -> Result<BackupReport> {
        let started = Instant::now();
        if dir == self.dir {
            return Err(EngineError::InvalidArgument(format!(
                "{}: a store cannot be backed up into its own directory",
                dir.display()
            )));
        }
        let target = Target::prepare(fs, dir, kind)?;
        let mut pin = self.pin(options.skip_head)?;
        target.check_lineage(&pin.manifest)?;
        let written = self.write_head(&target, &mut pin)?;
        let source = Source {
            fs: &self.fs,
            dir: &self.dir,
            open: &pin.segments,
            cancel: Some(&self.shutdown),
        };
        let state = pin.state.as_deref();
        let mut report = fill(&target, &source, pin.manifest, state, &written, options)?;
        report.took = started.elapsed();
        Ok(report)
    }
}
