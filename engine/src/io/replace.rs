//! Replacing a small file as a whole: the old content or the new one, never a mixture.

use std::path::{Path, PathBuf};

use super::FileSystem;
use crate::error::Result;

/// Ends the names of files that are being written. Left behind by a crash they mean nothing and
/// may be removed.
pub const TEMPORARY_SUFFIX: &str = ".tmp";

/// Gives `path` the content `bytes`: written beside it, synced, renamed over it, directory synced.
///
/// # Errors
/// The first step that fails; `path` then has its old content, or (when only the last step failed)
/// the new one.
pub fn replace(fs: &dyn FileSystem, path: &Path, bytes: &[u8]) -> Result<()> {
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(TEMPORARY_SUFFIX);
    let temporary = PathBuf::from(temporary);
    let written = fs.create(&temporary).and_then(|file| {
        file.write_at(0, bytes)?;
        file.sync()
    });
    if let Err(error) = written.and_then(|()| fs.rename(&temporary, path)) {
        // The first error is the one to report; a leftover is removed at the next start.
        let _ = fs.remove(&temporary);
        return Err(error);
    }
    match path.parent() {
        Some(dir) => fs.sync_dir(dir),
        None => Ok(()),
    }
}

/// Removes what interrupted writers left in `dir`. Only for the holder of the store's lock.
///
/// # Errors
/// What the file system says.
pub fn remove_temporary_files(fs: &dyn FileSystem, dir: &Path) -> Result<usize> {
    let mut removed = 0;
    for name in fs.list(dir)? {
        if name.ends_with(TEMPORARY_SUFFIX) {
            fs.remove(&dir.join(&name))?;
            removed += 1;
        }
    }
    Ok(removed)
}
