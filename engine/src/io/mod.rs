//! The only module that touches files.
//!
//! Everything else of the engine works through [`FileSystem`] and [`File`], so that tests can run
//! the same code over [`Memory`] (with power cuts) and [`Faulty`] (with failing calls), and
//! `Store::in_memory` needs no disk at all.
//!
//! What is assumed of the medium, and kept by every caller:
//! - bytes written are durable only after [`File::sync`] returned `Ok`;
//! - a created, renamed or removed name is durable only after [`FileSystem::sync_dir`];
//! - a failed sync may have dropped the bytes for good: it is never retried.
//!
//! Operations that "complete or fail" never return early with `EINTR` or a short count: that is
//! dealt with here, once.

mod disk;
mod fault;
mod memory;
#[expect(
    unsafe_code,
    reason = "memory maps cannot be made without it; the contract is stated in the file"
)]
mod mmap;
mod replace;

use std::fmt;
use std::ops::Deref;
use std::path::Path;
use std::sync::Arc;

use crate::error::Result;

pub use disk::Disk;
pub use fault::{Call, Fault, Faulty, Operation};
pub use memory::Memory;
pub use replace::{TEMPORARY_SUFFIX, remove_temporary_files, replace};

/// A file system shared by all parts of one store.
pub type SharedFileSystem = Arc<dyn FileSystem>;

/// Operations on names and whole files. Every error names the path it is about.
pub trait FileSystem: Send + Sync + fmt::Debug {
    /// Makes a directory and its parents; nothing happens when it is there.
    ///
    /// # Errors
    /// What the operating system says.
    fn create_dir_all(&self, path: &Path) -> Result<()>;

    /// Makes an empty file, or empties the one that is there, open for reading and writing.
    ///
    /// # Errors
    /// What the operating system says.
    fn create(&self, path: &Path) -> Result<Box<dyn File>>;

    /// Opens an existing file for reading and writing.
    ///
    /// # Errors
    /// `NotFound` when it is not there.
    fn open(&self, path: &Path) -> Result<Box<dyn File>>;

    /// Opens an existing file for reading.
    ///
    /// # Errors
    /// `NotFound` when it is not there.
    fn open_read(&self, path: &Path) -> Result<Box<dyn File>>;

    /// Maps a complete file that nobody writes to any more.
    ///
    /// # Errors
    /// `NotFound` when it is not there.
    fn map(&self, path: &Path) -> Result<MappedBytes>;

    /// Length of a file in bytes, `None` when it is not there.
    ///
    /// # Errors
    /// What the operating system says.
    fn length(&self, path: &Path) -> Result<Option<u64>>;

    /// Names of the files and directories in a directory, sorted.
    ///
    /// # Errors
    /// `NotFound` when the directory is not there.
    fn list(&self, dir: &Path) -> Result<Vec<String>>;

    /// Renames a file, replacing what bore the new name. Durable after [`FileSystem::sync_dir`].
    ///
    /// # Errors
    /// `NotFound` when it is not there.
    fn rename(&self, from: &Path, to: &Path) -> Result<()>;

    /// Gives a file a second name, which must not be there yet. Durable after
    /// [`FileSystem::sync_dir`].
    ///
    /// # Errors
    /// What the operating system says; `CrossesDevices` or `Unsupported` where it cannot be done.
    fn hard_link(&self, from: &Path, to: &Path) -> Result<()>;

    /// Removes a file; nothing happens when it is not there.
    ///
    /// # Errors
    /// What the operating system says.
    fn remove(&self, path: &Path) -> Result<()>;

    /// Makes the names in a directory durable.
    ///
    /// # Errors
    /// What the operating system says.
    fn sync_dir(&self, dir: &Path) -> Result<()>;

    /// Takes the exclusive lock of a directory. It ends with the guard, or with the process
    /// however that ends.
    ///
    /// # Errors
    /// [`EngineError::Locked`](crate::EngineError::Locked) when another process (or another
    /// store of this one) has it.
    fn lock(&self, dir: &Path) -> Result<LockGuard>;

    /// Whether some process (this one included) holds the lock of a directory. Changes nothing there.
    ///
    /// # Errors
    /// What the operating system says.
    fn is_locked(&self, dir: &Path) -> Result<bool>;

    /// Bytes that can still be written below `dir`.
    ///
    /// # Errors
    /// What the operating system says.
    fn free_bytes(&self, dir: &Path) -> Result<u64>;

    /// Reads a whole file of at most `bytes_max` bytes.
    ///
    /// # Errors
    /// `NotFound` when it is not there, `FileTooLarge` beyond the limit.
    fn read(&self, path: &Path, bytes_max: u64) -> Result<Vec<u8>> {
        let file = self.open_read(path)?;
        let length = file.length()?;
        if length > bytes_max {
            return Err(crate::EngineError::io(
                path,
                std::io::Error::new(
                    std::io::ErrorKind::FileTooLarge,
                    format!("{length} bytes, at most {bytes_max} are read"),
                ),
            ));
        }
        let mut bytes = vec![0; usize::try_from(length).unwrap_or(usize::MAX)];
        let read = file.read_at(0, &mut bytes)?;
        bytes.truncate(read);
        Ok(bytes)
    }
}

/// An open file.
pub trait File: Send + Sync + fmt::Debug {
    /// Where it was opened.
    fn path(&self) -> &Path;

    /// Length in bytes.
    ///
    /// # Errors
    /// What the operating system says.
    fn length(&self) -> Result<u64>;

    /// Reads into `buffer` from `offset`; fewer bytes only at the end of the file.
    ///
    /// # Errors
    /// What the operating system says.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize>;

    /// Writes all of `bytes` at `offset`. After an error any part of them may have been written.
    ///
    /// # Errors
    /// What the operating system says; `StorageFull` when the medium is full.
    fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<()>;

    /// Allocates blocks from `offset` for `length` zero bytes and makes the file that long.
    /// Returns whether the medium can do that; if it cannot, nothing was changed.
    ///
    /// # Errors
    /// `StorageFull` when the medium is full; the file may have grown in part.
    fn preallocate(&self, offset: u64, length: u64) -> Result<bool>;

    /// Cuts the file, or extends it with zeros.
    ///
    /// # Errors
    /// What the operating system says.
    fn truncate(&self, length: u64) -> Result<()>;

    /// Makes content and length durable (`fdatasync`). An error is final: what was written since
    /// the last sync may be gone.
    ///
    /// # Errors
    /// What the operating system says.
    fn sync(&self) -> Result<()>;

    /// Lets go of synced pages that are cached: what is read next comes from the medium, and a large
    /// copy does not push out what queries need. Only a hint.
    fn forget_cached(&self) {}
}

/// The bytes of a complete file; cheap to clone, and valid after the file was removed.
#[derive(Clone)]
pub struct MappedBytes(Backing);

#[derive(Clone)]
enum Backing {
    Mapped(Arc<mmap::Map>),
    Shared(Arc<Vec<u8>>),
}

impl MappedBytes {
    /// Bytes that are in memory anyway.
    #[must_use]
    pub fn from_vec(bytes: Vec<u8>) -> Self {
        Self(Backing::Shared(Arc::new(bytes)))
    }

    /// Asks the kernel to drop the pages of the map from this process: the next read faults them
    /// in again. Keeps resident memory small after a whole-file pass such as a verification.
    pub fn release_pages(&self) {
        if let Backing::Mapped(map) = &self.0 {
            map.release_pages();
        }
    }
}

impl Deref for MappedBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &self.0 {
            Backing::Mapped(map) => map,
            Backing::Shared(bytes) => bytes,
        }
    }
}

impl AsRef<[u8]> for MappedBytes {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl fmt::Debug for MappedBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MappedBytes({} bytes)", self.len())
    }
}

/// Holds the exclusive lock of a directory until dropped.
#[derive(Debug)]
pub struct LockGuard {
    _release: Box<dyn fmt::Debug + Send + Sync>,
}

impl LockGuard {
    /// A guard that lets go by dropping `release`.
    pub(crate) fn new(release: impl fmt::Debug + Send + Sync + 'static) -> Self {
        Self {
            _release: Box::new(release),
        }
    }
}
