//! Files in memory, with power cuts.
//!
//! Behaves as a disk with a volatile write cache: [`Memory::crash`] brings every file back to what
//! was synced and every directory back to the names that were synced. [`Memory::crash_keeping`]
//! lets single unsynced writes survive, which a real power cut may do in any order.
//!
//! Unsynced writes are kept as an undo list per file (the bytes that were there before), so the
//! cost of a write is in proportion to its length, whatever the file's.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

use super::{Backing, File, FileSystem, LockGuard, MappedBytes};
use crate::error::{EngineError, Result};

/// A file system in memory; clones share it.
#[derive(Clone, Default)]
pub struct Memory {
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    inodes: BTreeMap<u64, Inode>,
    inode_next: u64,
    names: BTreeMap<PathBuf, u64>,
    names_synced: BTreeMap<PathBuf, u64>,
    dirs: BTreeSet<PathBuf>,
    locks: BTreeSet<PathBuf>,
    /// Bytes that files may hold in all.
    capacity: Option<u64>,
    /// Raised by a crash: files opened before it answer with errors.
    epoch: u64,
}

#[derive(Default)]
struct Inode {
    data: Arc<Vec<u8>>,
    undo: Vec<Undo>,
    /// A clone is held by each open file.
    open: Arc<()>,
}

/// How to take back one unsynced change.
enum Undo {
    Write {
        offset: usize,
        before: Vec<u8>,
        /// Bytes behind `before` that the write added to the file: zeros without it.
        added: usize,
    },
    Length {
        before: usize,
        cut: Vec<u8>,
    },
}

impl Inode {
    fn resize(&mut self, length: usize) {
        let before = self.data.len();
        if length == before {
            return;
        }
        let cut = self.data.get(length..).unwrap_or(&[]).to_vec();
        Arc::make_mut(&mut self.data).resize(length, 0);
        self.undo.push(Undo::Length { before, cut });
    }

    fn write(&mut self, offset: usize, bytes: &[u8]) {
        let end = offset + bytes.len();
        let old_end = end.min(self.data.len()).max(offset);
        if end > self.data.len() {
            self.resize(end);
        }
        let data = Arc::make_mut(&mut self.data);
        let before = data[offset..old_end].to_vec();
        data[offset..end].copy_from_slice(bytes);
        self.undo.push(Undo::Write {
            offset,
            before,
            added: end - old_end,
        });
    }

    /// Takes back the unsynced writes for which `keep` answers false.
    fn lose_unsynced(&mut self, keep: &mut dyn FnMut() -> bool) {
        let data = Arc::make_mut(&mut self.data);
        for undo in std::mem::take(&mut self.undo).into_iter().rev() {
            match undo {
                Undo::Write {
                    offset,
                    mut before,
                    added,
                } => {
                    if keep() {
                        continue;
                    }
                    before.resize(before.len() + added, 0);
                    // A later cut that survived may have taken the place away.
                    let end = (offset + before.len()).min(data.len());
                    if offset < end {
                        data[offset..end].copy_from_slice(&before[..end - offset]);
                    }
                }
                Undo::Length { before, cut } => {
                    if keep() {
                        continue;
                    }
                    let length = data.len().min(before);
                    data.truncate(length);
                    data.resize(before - cut.len().min(before), 0);
                    data.extend_from_slice(&cut);
                    data.resize(before, 0);
                }
            }
        }
    }
}

impl State {
    fn used_bytes(&self) -> u64 {
        let named: BTreeSet<u64> = self.names.values().copied().collect();
        named
            .iter()
            .filter_map(|id| self.inodes.get(id))
            .map(|inode| inode.data.len() as u64)
            .sum()
    }

    fn inode(&self, path: &Path) -> Result<u64> {
        self.names
            .get(path)
            .copied()
            .ok_or_else(|| EngineError::io(path, io::ErrorKind::NotFound.into()))
    }

    /// Refuses growth beyond the capacity.
    fn check_growth(&self, path: &Path, id: u64, end: u64) -> Result<()> {
        let length = self.inodes.get(&id).map_or(0, |i| i.data.len() as u64);
        match self.capacity {
            Some(capacity) if end > length && self.used_bytes() + (end - length) > capacity => {
                Err(EngineError::io(path, io::ErrorKind::StorageFull.into()))
            }
            _ => Ok(()),
        }
    }

    /// Forgets inodes that neither a name nor an open file leads to.
    fn sweep(&mut self) {
        let live: BTreeSet<u64> = self
            .names
            .values()
            .chain(self.names_synced.values())
            .copied()
            .collect();
        self.inodes
            .retain(|id, inode| live.contains(id) || Arc::strong_count(&inode.open) > 1);
    }
}

impl Memory {
    /// An empty file system.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Limits the bytes that files may hold in all, as a full disk does; `None` lifts the limit.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.state.lock().capacity = bytes;
    }

    /// A power cut: only synced bytes under synced names remain, locks are free, and files opened
    /// before answer every call with an error.
    pub fn crash(&self) {
        self.crash_keeping(|| false);
    }

    /// A power cut in which the unsynced writes survive for which `keep` answers true. Names that
    /// were not synced are lost.
    pub fn crash_keeping(&self, mut keep: impl FnMut() -> bool) {
        let state = &mut *self.state.lock();
        state.names = state.names_synced.clone();
        for inode in state.inodes.values_mut() {
            inode.lose_unsynced(&mut keep);
        }
        state.forget_handles();
    }

    /// The process was killed: all that was written remains, locks are free, and files opened
    /// before answer every call with an error.
    pub fn kill(&self) {
        self.state.lock().forget_handles();
    }

    /// Paths of all files, sorted.
    #[must_use]
    pub fn paths(&self) -> Vec<PathBuf> {
        self.state.lock().names.keys().cloned().collect()
    }

    /// Changes a file's bytes behind everybody's back: damage at rest.
    ///
    /// # Errors
    /// `NotFound` when it is not there.
    pub fn damage(&self, path: &Path, change: impl FnOnce(&mut Vec<u8>)) -> Result<()> {
        let state = &mut *self.state.lock();
        let id = state.inode(path)?;
        if let Some(inode) = state.inodes.get_mut(&id) {
            change(Arc::make_mut(&mut inode.data));
            inode.undo.clear();
        }
        Ok(())
    }

    /// An independent copy of all files as they are now.
    #[must_use]
    pub fn snapshot(&self) -> Self {
        let state = self.state.lock();
        let mut copy = State {
            inode_next: state.inode_next,
            names: state.names.clone(),
            names_synced: state.names.clone(),
            dirs: state.dirs.clone(),
            capacity: state.capacity,
            ..State::default()
        };
        for (id, inode) in &state.inodes {
            let data = Arc::clone(&inode.data);
            let inode = Inode {
                data,
                ..Inode::default()
            };
            copy.inodes.insert(*id, inode);
        }
        Self {
            state: Arc::new(Mutex::new(copy)),
        }
    }

    fn handle(&self, state: &State, path: &Path, id: u64, writable: bool) -> Box<dyn File> {
        let inode = state.inodes.get(&id);
        Box::new(MemoryFile {
            fs: self.clone(),
            id,
            epoch: state.epoch,
            writable,
            path: path.to_owned(),
            _open: inode.map(|inode| Arc::clone(&inode.open)),
        })
    }
}

impl State {
    fn forget_handles(&mut self) {
        self.locks.clear();
        self.epoch += 1;
        self.sweep();
    }
}

impl fmt::Debug for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Memory({} files)", self.state.lock().names.len())
    }
}

impl FileSystem for Memory {
    fn create_dir_all(&self, path: &Path) -> Result<()> {
        let mut state = self.state.lock();
        for dir in path.ancestors() {
            state.dirs.insert(dir.to_owned());
        }
        Ok(())
    }

    fn create(&self, path: &Path) -> Result<Box<dyn File>> {
        let state = &mut *self.state.lock();
        if let Some(dir) = path.parent()
            && !state.dirs.contains(dir)
        {
            return Err(EngineError::io(path, io::ErrorKind::NotFound.into()));
        }
        let id = match state.names.get(path) {
            Some(id) => *id,
            None => {
                state.inode_next += 1;
                let id = state.inode_next;
                state.inodes.insert(id, Inode::default());
                state.names.insert(path.to_owned(), id);
                id
            }
        };
        if let Some(inode) = state.inodes.get_mut(&id) {
            inode.resize(0);
        }
        Ok(self.handle(state, path, id, true))
    }

    fn open(&self, path: &Path) -> Result<Box<dyn File>> {
        let state = self.state.lock();
        Ok(self.handle(&state, path, state.inode(path)?, true))
    }

    fn open_read(&self, path: &Path) -> Result<Box<dyn File>> {
        let state = self.state.lock();
        Ok(self.handle(&state, path, state.inode(path)?, false))
    }

    fn map(&self, path: &Path) -> Result<MappedBytes> {
        let state = self.state.lock();
        let id = state.inode(path)?;
        let data = state
            .inodes
            .get(&id)
            .map(|i| Arc::clone(&i.data))
            .unwrap_or_default();
        Ok(MappedBytes(Backing::Shared(data)))
    }

    fn length(&self, path: &Path) -> Result<Option<u64>> {
        let state = self.state.lock();
        let id = state.names.get(path);
        Ok(id
            .and_then(|id| state.inodes.get(id))
            .map(|i| i.data.len() as u64))
    }

    fn list(&self, dir: &Path) -> Result<Vec<String>> {
        let state = self.state.lock();
        if !state.dirs.contains(dir) {
            return Err(EngineError::io(dir, io::ErrorKind::NotFound.into()));
        }
        let paths = state.names.keys().chain(&state.dirs);
        let mut names: Vec<String> = paths
            .filter(|p| p.parent() == Some(dir))
            .filter_map(|p| p.file_name())
            .map(|name| name.to_string_lossy().into_owned())
            .collect();
        names.sort_unstable();
        Ok(names)
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<()> {
        let mut state = self.state.lock();
        let id = state.inode(from)?;
        state.names.remove(from);
        state.names.insert(to.to_owned(), id);
        Ok(())
    }

    fn hard_link(&self, from: &Path, to: &Path) -> Result<()> {
        let mut state = self.state.lock();
        let id = state.inode(from)?;
        if state.names.contains_key(to) {
            return Err(EngineError::io(to, io::ErrorKind::AlreadyExists.into()));
        }
        state.names.insert(to.to_owned(), id);
        Ok(())
    }

    fn remove(&self, path: &Path) -> Result<()> {
        let mut state = self.state.lock();
        state.names.remove(path);
        state.sweep();
        Ok(())
    }

    fn sync_dir(&self, dir: &Path) -> Result<()> {
        let state = &mut *self.state.lock();
        let inside = |path: &PathBuf| path.parent() == Some(dir);
        state.names_synced.retain(|path, _| !inside(path));
        for (path, id) in state.names.iter().filter(|(path, _)| inside(path)) {
            state.names_synced.insert(path.clone(), *id);
        }
        state.sweep();
        Ok(())
    }

    fn lock(&self, dir: &Path) -> Result<LockGuard> {
        let mut state = self.state.lock();
        if !state.locks.insert(dir.to_owned()) {
            return Err(EngineError::Locked {
                path: dir.to_owned(),
                holder: Some(std::process::id()),
            });
        }
        Ok(LockGuard::new(MemoryLock {
            fs: self.clone(),
            dir: dir.to_owned(),
            epoch: state.epoch,
        }))
    }

    fn is_locked(&self, dir: &Path) -> Result<bool> {
        Ok(self.state.lock().locks.contains(dir))
    }

    fn free_bytes(&self, _dir: &Path) -> Result<u64> {
        let state = self.state.lock();
        Ok(state
            .capacity
            .map_or(u64::MAX, |c| c.saturating_sub(state.used_bytes())))
    }
}

#[derive(Debug)]
struct MemoryLock {
    fs: Memory,
    dir: PathBuf,
    epoch: u64,
}

impl Drop for MemoryLock {
    fn drop(&mut self) {
        let mut state = self.fs.state.lock();
        if state.epoch == self.epoch {
            state.locks.remove(&self.dir);
        }
    }
}

#[derive(Debug)]
struct MemoryFile {
    fs: Memory,
    id: u64,
    epoch: u64,
    writable: bool,
    path: PathBuf,
    _open: Option<Arc<()>>,
}

impl MemoryFile {
    fn error(&self, reason: &str) -> EngineError {
        EngineError::io(&self.path, io::Error::other(reason.to_owned()))
    }

    fn with<T>(&self, act: impl FnOnce(&mut State) -> Result<T>) -> Result<T> {
        let mut state = self.fs.state.lock();
        if state.epoch != self.epoch {
            return Err(self.error("file was opened before the crash"));
        }
        act(&mut state)
    }

    fn inode<'a>(&self, state: &'a mut State) -> Result<&'a mut Inode> {
        state
            .inodes
            .get_mut(&self.id)
            .ok_or_else(|| self.error("file was removed"))
    }

    fn change<T>(&self, end: u64, act: impl FnOnce(&mut Inode) -> T) -> Result<T> {
        if !self.writable {
            return Err(EngineError::io(
                &self.path,
                io::ErrorKind::PermissionDenied.into(),
            ));
        }
        self.with(|state| {
            state.check_growth(&self.path, self.id, end)?;
            self.inode(state).map(act)
        })
    }

    fn offset(&self, offset: u64, length: u64) -> Result<(usize, u64)> {
        let end = offset.checked_add(length).filter(|end| *end < 1 << 40);
        match (usize::try_from(offset), end) {
            (Ok(offset), Some(end)) => Ok((offset, end)),
            _ => Err(EngineError::io(
                &self.path,
                io::ErrorKind::FileTooLarge.into(),
            )),
        }
    }
}

impl File for MemoryFile {
    fn path(&self) -> &Path {
        &self.path
    }

    fn length(&self) -> Result<u64> {
        self.with(|state| Ok(self.inode(state)?.data.len() as u64))
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize> {
        let (offset, _) = self.offset(offset, buffer.len() as u64)?;
        self.with(|state| {
            let data = &self.inode(state)?.data;
            let available = data.get(offset..).unwrap_or(&[]);
            let count = available.len().min(buffer.len());
            buffer[..count].copy_from_slice(&available[..count]);
            Ok(count)
        })
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<()> {
        let (offset, end) = self.offset(offset, bytes.len() as u64)?;
        self.change(end, |inode| inode.write(offset, bytes))
    }

    fn preallocate(&self, offset: u64, length: u64) -> Result<bool> {
        let (_, end) = self.offset(offset, length)?;
        self.change(end, |inode| {
            if end > inode.data.len() as u64 {
                inode.resize(end as usize);
            }
            true
        })
    }

    fn truncate(&self, length: u64) -> Result<()> {
        let (_, end) = self.offset(0, length)?;
        self.change(end, |inode| inode.resize(end as usize))
    }

    fn sync(&self) -> Result<()> {
        self.with(|state| {
            self.inode(state)?.undo.clear();
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dir() -> (Memory, PathBuf) {
        let fs = Memory::new();
        let dir = PathBuf::from("/m");
        fs.create_dir_all(&dir).unwrap();
        (fs, dir)
    }

    #[test]
    fn a_crash_keeps_only_what_was_synced() {
        let (fs, dir) = dir();
        let file = fs.create(&dir.join("a")).unwrap();
        file.write_at(0, b"one").unwrap();
        file.sync().unwrap();
        fs.sync_dir(&dir).unwrap();
        file.write_at(1, b"xxxx").unwrap();
        file.truncate(2).unwrap();
        fs.create(&dir.join("b")).unwrap().sync().unwrap();
        fs.crash();
        assert_eq!(fs.read(&dir.join("a"), 100).unwrap(), b"one");
        assert_eq!(fs.list(&dir).unwrap(), ["a"]);
        assert!(file.write_at(0, b"z").is_err(), "old handles are dead");
    }

    #[test]
    fn an_unsynced_rename_is_lost_and_a_kill_loses_nothing() {
        let (fs, dir) = dir();
        super::super::replace(&fs, &dir.join("a"), b"old").unwrap();
        let file = fs.create(&dir.join("t")).unwrap();
        file.write_at(0, b"new").unwrap();
        file.sync().unwrap();
        fs.rename(&dir.join("t"), &dir.join("a")).unwrap();
        fs.kill();
        assert_eq!(fs.read(&dir.join("a"), 9).unwrap(), b"new");
        fs.crash();
        assert_eq!(fs.read(&dir.join("a"), 9).unwrap(), b"old");
    }

    #[test]
    fn capacity_and_locks_behave_as_on_disk() {
        let (fs, dir) = dir();
        fs.set_capacity(Some(10));
        let file = fs.create(&dir.join("a")).unwrap();
        file.write_at(0, &[1; 8]).unwrap();
        assert!(file.write_at(8, &[1; 8]).unwrap_err().is_out_of_space());
        assert_eq!(fs.free_bytes(&dir).unwrap(), 2);
        fs.hard_link(&dir.join("a"), &dir.join("b")).unwrap();
        assert!(fs.hard_link(&dir.join("a"), &dir.join("b")).is_err());
        assert_eq!(fs.free_bytes(&dir).unwrap(), 2, "a link takes no space");
        let guard = fs.lock(&dir).unwrap();
        assert!(matches!(fs.lock(&dir), Err(EngineError::Locked { .. })));
        drop(guard);
        fs.lock(&dir).unwrap();
    }

    #[test]
    fn single_unsynced_writes_may_survive() {
        let (fs, dir) = dir();
        let file = fs.create(&dir.join("a")).unwrap();
        file.write_at(0, b"....").unwrap();
        file.sync().unwrap();
        fs.sync_dir(&dir).unwrap();
        file.write_at(0, b"A").unwrap();
        file.write_at(2, b"B").unwrap();
        let mut turn = 0;
        fs.crash_keeping(|| {
            turn += 1;
            turn == 1
        });
        assert_eq!(fs.read(&dir.join("a"), 9).unwrap(), b"..B.");
    }
}
