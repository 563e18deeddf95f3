//! From a backup or snapshot back to a store.

use std::path::Path;
use std::time::Instant;

use super::copy::{Source, fill};
use super::target::{BACKUP_FILE, Kind, Target};
use super::{BackupOptions, BackupReport};
use crate::error::{EngineError, Result};
use crate::io::SharedFileSystem;
use crate::manifest::{MANIFEST_FILE, Manifest};
use crate::store::open::WAL_DIR;
use crate::wal::{LogStart, is_pristine};

/// Makes a store in the empty directory `to` of the backup in `from`. A restore that was interrupted
/// is continued.
pub(crate) fn restore(
    fs: &SharedFileSystem,
    from: &Path,
    to: &Path,
    options: &BackupOptions<'_>,
) -> Result<BackupReport> {
    let started = Instant::now();
    let mut manifest = load(fs, from)?;
    let target = Target::prepare(fs, to, Kind::Store)?;
    let state = match manifest.state.take() {
        Some(state) => Some(state.read(&**fs, from)?),
        None => None,
    };
    let source = Source {
        fs,
        dir: from,
        open: &[],
        cancel: None,
    };
    let mut report = fill(&target, &source, manifest, state.as_deref(), &[], options)?;
    report.took = started.elapsed();
    Ok(report)
}

/// The manifest of a complete backup.
fn load(fs: &SharedFileSystem, from: &Path) -> Result<Manifest> {
    let refuse = |why: &str| EngineError::InvalidArgument(format!("{}: {why}", from.display()));
    if fs.length(&from.join(MANIFEST_FILE))?.is_none() {
        return Err(match fs.length(&from.join(BACKUP_FILE))? {
            Some(_) => refuse("an unfinished backup; run the backup again"),
            None => refuse("no backup here"),
        });
    }
    let manifest = Manifest::load(&**fs, from)?.unwrap_or_default();
    if manifest.log != LogStart::default() || !is_pristine(&**fs, &from.join(WAL_DIR))? {
        return Err(refuse(
            "a store with a log and no backup; make a backup of it first",
        ));
    }
    manifest.check_files(&**fs, from)?;
    Ok(manifest)
}
