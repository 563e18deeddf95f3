//! The directory that is written to: what may be in it, and the marks that say what it is.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::error::{EngineError, Result};
use crate::io::{self, FileSystem, LockGuard, SharedFileSystem, TEMPORARY_SUFFIX};
use crate::manifest::{MANIFEST_FILE, Manifest};
use crate::store::open::WAL_DIR;
use crate::wal::is_pristine;

/// Marks a directory as a backup: never opened for writing, and the only kind of directory with
/// something in it that a backup is written to.
pub const BACKUP_FILE: &str = "BACKUP";
/// Marks a directory as the target of a restore or snapshot that is not complete.
pub const UNFINISHED_FILE: &str = "UNFINISHED";

const BACKUP_TEXT: &str = "\
This directory is a backup made by chronolith. It is complete once there is a MANIFEST.
Make it a store again with:  chronolith restore --from <this directory> --data-dir <new directory>
";
const UNFINISHED_TEXT: &str = "\
A restore or snapshot into this directory was not finished. Run it again, or remove the directory.
";

/// What the directory is to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A backup, renewed with every call.
    Backup,
    /// A store of its own, made once.
    Store,
}

impl Kind {
    fn mark(self) -> (&'static str, &'static str) {
        match self {
            Self::Backup => (BACKUP_FILE, BACKUP_TEXT),
            Self::Store => (UNFINISHED_FILE, UNFINISHED_TEXT),
        }
    }
}

/// A directory that is locked, marked and fit to be written to.
pub(super) struct Target {
    pub(super) fs: SharedFileSystem,
    pub(super) dir: PathBuf,
    pub(super) kind: Kind,
    /// The manifest of the backup that is there already.
    pub(super) present: Option<Manifest>,
    _lock: LockGuard,
}

impl Target {
    /// Makes the directory if needed, locks and marks it.
    ///
    /// # Errors
    /// [`EngineError::InvalidArgument`] when there is something in it that must not be replaced,
    /// [`EngineError::Locked`] when another process is at it.
    pub(super) fn prepare(fs: &SharedFileSystem, dir: &Path, kind: Kind) -> Result<Self> {
        fs.create_dir_all(dir)?;
        // Before the lock leaves a file in a directory that is none of ours, and again under it.
        check_content(&**fs, dir, kind)?;
        let lock = fs.lock(dir)?;
        let marked = check_content(&**fs, dir, kind)?;
        if !marked {
            let (name, text) = kind.mark();
            io::replace(&**fs, &dir.join(name), text.as_bytes())?;
        }
        let complete = kind == Kind::Backup && fs.length(&dir.join(MANIFEST_FILE))?.is_some();
        let present = match complete {
            true => Manifest::load(&**fs, dir)?,
            false => None,
        };
        if !is_pristine(&**fs, &dir.join(WAL_DIR))? {
            return Err(refused(dir, "it was written to as a store"));
        }
        Ok(Self {
            fs: Arc::clone(fs),
            dir: dir.to_owned(),
            kind,
            present,
            _lock: lock,
        })
    }

    /// Refuses to replace what is not an earlier state of the same store.
    ///
    /// # Errors
    /// [`EngineError::InvalidArgument`].
    pub(super) fn check_lineage(&self, next: &Manifest) -> Result<()> {
        let Some(present) = &self.present else {
            return Ok(());
        };
        if present.generation > next.generation {
            let why = format!(
                "it holds generation {}, the store is at {} only",
                present.generation, next.generation
            );
            return Err(refused(&self.dir, &why));
        }
        for entry in &next.segments {
            let named = present.segments.iter().find(|other| other.id == entry.id);
            if named.is_some_and(|other| other.identity != entry.identity) {
                let why = format!("its segment {} is not that of this store", entry.id);
                return Err(refused(&self.dir, &why));
            }
        }
        Ok(())
    }
}

fn refused(dir: &Path, why: &str) -> EngineError {
    EngineError::InvalidArgument(format!("{}: {why}; use an empty directory", dir.display()))
}

/// Answers whether the mark is there; refuses other directories unless they are empty.
fn check_content(fs: &dyn FileSystem, dir: &Path, kind: Kind) -> Result<bool> {
    let names = fs.list(dir)?;
    let (mark, _) = kind.mark();
    if names.iter().any(|name| name == mark) {
        return Ok(true);
    }
    // What a lock leaves, a file system makes, or a crash left before the mark had its name.
    let means_nothing = |name: &&String| {
        matches!(name.as_str(), "LOCK" | "lost+found")
            || name.strip_suffix(TEMPORARY_SUFFIX) == Some(mark)
    };
    match names.iter().find(|name| !means_nothing(name)) {
        None => Ok(false),
        Some(name) => {
            let what = match kind {
                Kind::Backup => "neither empty nor a backup",
                Kind::Store => "not empty",
            };
            Err(refused(dir, &format!("{what}: it holds {name}")))
        }
    }
}

/// Refuses to open a backup, or a store that was not restored to the end, for writing.
pub(crate) fn check_openable(fs: &dyn FileSystem, dir: &Path) -> Result<()> {
    let marks = [
        (
            BACKUP_FILE,
            "is a backup; make it a store with `chronolith restore`, or open it for reading",
        ),
        (
            UNFINISHED_FILE,
            "was not restored to the end; run the restore again",
        ),
    ];
    for (name, what) in marks {
        if fs.length(&dir.join(name))?.is_some() {
            let why = format!("{} {what}", dir.display());
            return Err(EngineError::InvalidArgument(why));
        }
    }
    Ok(())
}
