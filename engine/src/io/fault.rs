//! A file system whose calls fail on demand, for tests.
//!
//! Every call that may change something is counted and shown to a rule; the rule answers with the
//! fault to inject. `EINTR` and short counts below the retry loops are the operating system's
//! business ([`super::Disk`] repeats them); here a short write is one that ends in an error after
//! some bytes, which is what callers can see.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use super::{File, FileSystem, LockGuard, MappedBytes, SharedFileSystem};
use crate::error::{EngineError, Result};

/// What is about to happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// [`FileSystem::create`].
    Create,
    /// [`FileSystem::open`] or [`FileSystem::open_read`].
    Open,
    /// [`FileSystem::map`].
    Map,
    /// [`FileSystem::rename`].
    Rename,
    /// [`FileSystem::hard_link`].
    Link,
    /// [`FileSystem::remove`].
    Remove,
    /// [`FileSystem::sync_dir`].
    SyncDir,
    /// [`File::read_at`].
    Read,
    /// [`File::write_at`].
    Write,
    /// [`File::preallocate`].
    Preallocate,
    /// [`File::truncate`].
    Truncate,
    /// [`File::sync`].
    Sync,
}

/// A call as the rule sees it.
#[derive(Clone, Copy, Debug)]
pub struct Call<'a> {
    /// Number of the call, from 0.
    pub index: u64,
    /// What is called.
    pub operation: Operation,
    /// The file or directory.
    pub path: &'a Path,
    /// Bytes to write or read; 0 for other calls.
    pub length: usize,
}

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The call fails and changes nothing.
    Error(io::ErrorKind),
    /// `EIO`, which has no kind of its own.
    InputOutput,
    /// A write stores this many bytes and then fails with `StorageFull`.
    Short(usize),
    /// The process is dead: this call and all later ones fail and change nothing.
    Dead,
}

type Rule = Box<dyn FnMut(Call<'_>) -> Option<Fault> + Send>;

/// Wraps a file system.
#[derive(Clone)]
pub struct Faulty {
    inner: SharedFileSystem,
    shared: Arc<Shared>,
}

struct Shared {
    rule: Mutex<Rule>,
    calls: AtomicU64,
    dead: std::sync::atomic::AtomicBool,
}

impl Faulty {
    /// Asks `rule` before every call.
    pub fn new(
        inner: SharedFileSystem,
        rule: impl FnMut(Call<'_>) -> Option<Fault> + Send + 'static,
    ) -> Self {
        Self {
            inner,
            shared: Arc::new(Shared {
                rule: Mutex::new(Box::new(rule)),
                calls: AtomicU64::new(0),
                dead: std::sync::atomic::AtomicBool::new(false),
            }),
        }
    }

    /// Fails the `n`-th call (from 0) with `fault` and no other.
    pub fn nth(inner: SharedFileSystem, n: u64, fault: Fault) -> Self {
        Self::new(inner, move |call| (call.index == n).then_some(fault))
    }

    /// Replaces the rule.
    pub fn set_rule(&self, rule: impl FnMut(Call<'_>) -> Option<Fault> + Send + 'static) {
        *self.shared.rule.lock() = Box::new(rule);
    }

    /// How many calls there were.
    #[must_use]
    pub fn calls(&self) -> u64 {
        self.shared.calls.load(Ordering::SeqCst)
    }

    /// Whether [`Fault::Dead`] was injected.
    #[must_use]
    pub fn is_dead(&self) -> bool {
        self.shared.dead.load(Ordering::SeqCst)
    }
}

impl Shared {
    /// `Ok(None)` to go on, `Ok(Some(n))` to write only `n` bytes and fail.
    fn check(&self, operation: Operation, path: &Path, length: usize) -> Result<Option<usize>> {
        // The lock is held while counting, so that indexes and rule calls come in one order.
        let mut rule = self.rule.lock();
        let index = self.calls.fetch_add(1, Ordering::SeqCst);
        let call = Call {
            index,
            operation,
            path,
            length,
        };
        let fault = if self.dead.load(Ordering::SeqCst) {
            Some(Fault::Dead)
        } else {
            rule(call)
        };
        let source = match fault {
            None => return Ok(None),
            Some(Fault::Short(bytes)) if operation == Operation::Write => {
                return Ok(Some(bytes.min(length)));
            }
            Some(Fault::Short(_)) => io::ErrorKind::StorageFull.into(),
            Some(Fault::Error(kind)) => kind.into(),
            Some(Fault::InputOutput) => io::Error::from_raw_os_error(5),
            Some(Fault::Dead) => {
                self.dead.store(true, Ordering::SeqCst);
                io::Error::other("the process is dead")
            }
        };
        Err(EngineError::io(path, source))
    }
}

impl fmt::Debug for Faulty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Faulty({:?} after {} calls)", self.inner, self.calls())
    }
}

impl Faulty {
    fn wrap(&self, file: Box<dyn File>) -> Box<dyn File> {
        Box::new(FaultyFile {
            inner: file,
            shared: Arc::clone(&self.shared),
        })
    }
}

impl FileSystem for Faulty {
    fn create_dir_all(&self, path: &Path) -> Result<()> {
        self.inner.create_dir_all(path)
    }

    fn create(&self, path: &Path) -> Result<Box<dyn File>> {
        self.shared.check(Operation::Create, path, 0)?;
        self.inner.create(path).map(|f| self.wrap(f))
    }

    fn open(&self, path: &Path) -> Result<Box<dyn File>> {
        self.shared.check(Operation::Open, path, 0)?;
        self.inner.open(path).map(|f| self.wrap(f))
    }

    fn open_read(&self, path: &Path) -> Result<Box<dyn File>> {
        self.shared.check(Operation::Open, path, 0)?;
        self.inner.open_read(path).map(|f| self.wrap(f))
    }

    fn map(&self, path: &Path) -> Result<MappedBytes> {
        self.shared.check(Operation::Map, path, 0)?;
        self.inner.map(path)
    }

    fn length(&self, path: &Path) -> Result<Option<u64>> {
        self.inner.length(path)
    }

    fn list(&self, dir: &Path) -> Result<Vec<String>> {
        self.inner.list(dir)
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<()> {
        self.shared.check(Operation::Rename, from, 0)?;
        self.inner.rename(from, to)
    }

    fn hard_link(&self, from: &Path, to: &Path) -> Result<()> {
        self.shared.check(Operation::Link, to, 0)?;
        self.inner.hard_link(from, to)
    }

    fn remove(&self, path: &Path) -> Result<()> {
        self.shared.check(Operation::Remove, path, 0)?;
        self.inner.remove(path)
    }

    fn sync_dir(&self, dir: &Path) -> Result<()> {
        self.shared.check(Operation::SyncDir, dir, 0)?;
        self.inner.sync_dir(dir)
    }

    fn lock(&self, dir: &Path) -> Result<LockGuard> {
        self.inner.lock(dir)
    }

    fn is_locked(&self, dir: &Path) -> Result<bool> {
        self.inner.is_locked(dir)
    }

    fn free_bytes(&self, dir: &Path) -> Result<u64> {
        self.inner.free_bytes(dir)
    }
}

#[derive(Debug)]
struct FaultyFile {
    inner: Box<dyn File>,
    shared: Arc<Shared>,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Shared")
    }
}

impl FaultyFile {
    fn check(&self, operation: Operation, length: usize) -> Result<Option<usize>> {
        self.shared.check(operation, self.inner.path(), length)
    }
}

impl File for FaultyFile {
    fn path(&self) -> &Path {
        self.inner.path()
    }

    fn length(&self) -> Result<u64> {
        self.inner.length()
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize> {
        self.check(Operation::Read, buffer.len())?;
        self.inner.read_at(offset, buffer)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<()> {
        match self.check(Operation::Write, bytes.len())? {
            None => self.inner.write_at(offset, bytes),
            Some(count) => {
                self.inner.write_at(offset, &bytes[..count])?;
                let path = PathBuf::from(self.inner.path());
                Err(EngineError::io(path, io::ErrorKind::StorageFull.into()))
            }
        }
    }

    fn preallocate(&self, offset: u64, length: u64) -> Result<bool> {
        self.check(Operation::Preallocate, 0)?;
        self.inner.preallocate(offset, length)
    }

    fn truncate(&self, length: u64) -> Result<()> {
        self.check(Operation::Truncate, 0)?;
        self.inner.truncate(length)
    }

    fn sync(&self) -> Result<()> {
        self.check(Operation::Sync, 0)?;
        self.inner.sync()
    }
}
