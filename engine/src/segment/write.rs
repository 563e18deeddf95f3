//! Putting a segment on disk: written beside its name, synced, renamed, directory synced. A crash
//! leaves either the whole file or a leftover whose name ends in [`TEMPORARY_SUFFIX`].

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::error::Result;
use crate::io::{File, FileSystem, SharedFileSystem, TEMPORARY_SUFFIX};
use crate::model::SegmentId;

use super::container::SegmentSink;
use super::file::SegmentBytes;

/// What the names of segment files end in.
pub const FILE_SUFFIX: &str = ".seg";

/// Bytes written between two syncs. One sync at the end of a large segment would make the log's own
/// syncs wait for all of it.
const SYNC_EVERY: u64 = 4 << 20;

/// Bytes collected before a write.
const BUFFER_SIZE: usize = 256 << 10;

/// The name of a segment's file.
#[must_use]
pub fn file_name(id: SegmentId) -> String {
    format!("{id}{FILE_SUFFIX}")
}

/// A segment file on its way to disk; give it to a builder, then call
/// [`SegmentFileWriter::publish`] on what `finish` returns. Dropped before that, the temporary file is
/// removed.
pub struct SegmentFileWriter {
    fs: SharedFileSystem,
    path: PathBuf,
    temporary: PathBuf,
    file: Box<dyn File>,
    buffer: Vec<u8>,
    offset: u64,
    synced: u64,
    published: bool,
}

impl SegmentFileWriter {
    /// Creates the temporary file beside `path`.
    ///
    /// # Errors
    /// What the file system says.
    pub fn create(fs: &SharedFileSystem, path: impl Into<PathBuf>) -> Result<Self> {
        let path = path.into();
        let mut temporary = path.as_os_str().to_owned();
        temporary.push(TEMPORARY_SUFFIX);
        let temporary = PathBuf::from(temporary);
        Ok(Self {
            file: fs.create(&temporary)?,
            fs: Arc::clone(fs),
            path,
            temporary,
            buffer: Vec::with_capacity(BUFFER_SIZE),
            offset: 0,
            synced: 0,
            published: false,
        })
    }

    fn flush(&mut self) -> Result<()> {
        self.file.write_at(self.offset, &self.buffer)?;
        self.offset += self.buffer.len() as u64;
        self.buffer.clear();
        if self.offset - self.synced >= SYNC_EVERY {
            self.file.sync()?;
            self.synced = self.offset;
        }
        Ok(())
    }

    /// Syncs the file, gives it its name and makes the name durable. Answers the path.
    ///
    /// # Errors
    /// The first step that fails; the segment then counts as not written.
    pub fn publish(mut self) -> Result<PathBuf> {
        self.flush()?;
        self.file.sync()?;
        self.fs.rename(&self.temporary, &self.path)?;
        self.published = true;
        if let Some(dir) = self.path.parent() {
            self.fs.sync_dir(dir)?;
        }
        Ok(self.path.clone())
    }
}

impl SegmentSink for SegmentFileWriter {
    fn append(&mut self, bytes: &[u8]) -> Result<()> {
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= BUFFER_SIZE {
            self.flush()?;
        }
        Ok(())
    }
}

impl Drop for SegmentFileWriter {
    fn drop(&mut self) {
        if !self.published {
            // The next start removes what cannot be removed now.
            let _ = self.fs.remove(&self.temporary);
        }
    }
}

/// Maps a segment file.
///
/// # Errors
/// What the file system says.
pub fn map(fs: &dyn FileSystem, path: &Path) -> Result<SegmentBytes> {
    Ok(Arc::new(fs.map(path)?))
}
