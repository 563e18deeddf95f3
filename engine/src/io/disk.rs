//! The real file system.

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{FallocateFlags, FlockOperation};
use rustix::io::Errno;

use super::{Backing, File, FileSystem, LockGuard, MappedBytes, mmap};
use crate::error::{EngineError, Result};

/// Name of the lock file inside a store's directory. It holds the owner's process id as text.
const LOCK_FILE: &str = "LOCK";

/// Files of the operating system.
#[derive(Clone, Copy, Debug, Default)]
pub struct Disk;

fn at<T>(path: &Path, result: io::Result<T>) -> Result<T> {
    result.map_err(|source| EngineError::io(path, source))
}

fn open(path: &Path, options: &fs::OpenOptions) -> Result<Box<dyn File>> {
    let file = at(path, options.open(path))?;
    Ok(Box::new(DiskFile {
        file,
        path: path.to_owned(),
    }))
}

impl FileSystem for Disk {
    fn create_dir_all(&self, path: &Path) -> Result<()> {
        let missing = path.ancestors().take_while(|dir| !dir.exists()).count();
        at(path, fs::create_dir_all(path))?;
        // A directory is as durable as its name in the one above.
        let parents = path.ancestors().skip(1).take(missing);
        for parent in parents.filter(|dir| !dir.as_os_str().is_empty()) {
            self.sync_dir(parent)?;
        }
        Ok(())
    }

    fn create(&self, path: &Path) -> Result<Box<dyn File>> {
        let mut options = fs::OpenOptions::new();
        open(
            path,
            options.read(true).write(true).create(true).truncate(true),
        )
    }

    fn open(&self, path: &Path) -> Result<Box<dyn File>> {
        open(path, fs::OpenOptions::new().read(true).write(true))
    }

    fn open_read(&self, path: &Path) -> Result<Box<dyn File>> {
        open(path, fs::OpenOptions::new().read(true))
    }

    fn map(&self, path: &Path) -> Result<MappedBytes> {
        let file = at(path, fs::File::open(path))?;
        let map = at(path, mmap::Map::new(&file))?;
        Ok(MappedBytes(Backing::Mapped(std::sync::Arc::new(map))))
    }

    fn length(&self, path: &Path) -> Result<Option<u64>> {
        match fs::metadata(path) {
            Ok(metadata) => Ok(Some(metadata.len())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(EngineError::io(path, error)),
        }
    }

    fn list(&self, dir: &Path) -> Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in at(dir, fs::read_dir(dir))? {
            names.push(at(dir, entry)?.file_name().to_string_lossy().into_owned());
        }
        names.sort_unstable();
        Ok(names)
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "this is what io::replace is made of"
    )]
    fn rename(&self, from: &Path, to: &Path) -> Result<()> {
        at(from, fs::rename(from, to))
    }

    fn hard_link(&self, from: &Path, to: &Path) -> Result<()> {
        at(to, fs::hard_link(from, to))
    }

    fn remove(&self, path: &Path) -> Result<()> {
        match fs::remove_file(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => at(path, other),
        }
    }

    fn sync_dir(&self, dir: &Path) -> Result<()> {
        at(dir, fs::File::open(dir).and_then(|d| d.sync_all()))
    }

    fn lock(&self, dir: &Path) -> Result<LockGuard> {
        let path = dir.join(LOCK_FILE);
        let mut options = fs::OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        let mut file = at(&path, options.open(&path))?;
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => {
                let mut text = String::new();
                // Without the number the message is only less helpful.
                let _ = file.take(32).read_to_string(&mut text);
                return Err(EngineError::Locked {
                    path: dir.to_owned(),
                    holder: text.trim().parse().ok(),
                });
            }
            Err(errno) => return Err(EngineError::io(path, errno.into())),
        }
        at(&path, file.set_len(0))?;
        at(&path, writeln!(file, "{}", std::process::id()))?;
        // The kernel lets go of the lock with the last descriptor, so a killed process holds none.
        Ok(LockGuard::new(file))
    }

    fn is_locked(&self, dir: &Path) -> Result<bool> {
        let path = dir.join(LOCK_FILE);
        let file = match fs::File::open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            other => at(&path, other)?,
        };
        // A shared lock: two who ask at the same time do not take each other for the holder.
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockShared) {
            Ok(()) => Ok(false),
            Err(Errno::WOULDBLOCK) => Ok(true),
            Err(errno) => Err(EngineError::io(path, errno.into())),
        }
    }

    fn free_bytes(&self, dir: &Path) -> Result<u64> {
        let stat = at(dir, rustix::fs::statvfs(dir).map_err(io::Error::from))?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }
}

#[derive(Debug)]
struct DiskFile {
    file: fs::File,
    path: PathBuf,
}

impl File for DiskFile {
    fn path(&self) -> &Path {
        &self.path
    }

    fn length(&self) -> Result<u64> {
        at(&self.path, self.file.metadata()).map(|m| m.len())
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize> {
        let mut read = 0;
        while read < buffer.len() {
            match self.file.read_at(&mut buffer[read..], offset + read as u64) {
                Ok(0) => break,
                Ok(count) => read += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(EngineError::io(&self.path, error)),
            }
        }
        Ok(read)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<()> {
        // Repeats on EINTR and after short writes, and turns a write of nothing into an error.
        at(&self.path, self.file.write_all_at(bytes, offset))
    }

    fn preallocate(&self, offset: u64, length: u64) -> Result<bool> {
        loop {
            match rustix::fs::fallocate(&self.file, FallocateFlags::empty(), offset, length) {
                Ok(()) => return Ok(true),
                Err(Errno::INTR) => {}
                Err(Errno::OPNOTSUPP | Errno::NOSYS) => return Ok(false),
                Err(errno) => return Err(EngineError::io(&self.path, errno.into())),
            }
        }
    }

    fn truncate(&self, length: u64) -> Result<()> {
        at(&self.path, self.file.set_len(length))
    }

    fn sync(&self) -> Result<()> {
        at(&self.path, self.file.sync_data())
    }

    fn forget_cached(&self) {
        // Not every file system heeds it, and nothing depends on it.
        let _ = rustix::fs::fadvise(&self.file, 0, None, rustix::fs::Advice::DontNeed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_keep_what_is_written() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        let file = Disk.create(&path).unwrap();
        file.write_at(3, b"abc").unwrap();
        let _ = file.preallocate(0, 8192).unwrap();
        file.sync().unwrap();
        let mut buffer = [0; 6];
        assert_eq!(file.read_at(0, &mut buffer).unwrap(), 6);
        assert_eq!(&buffer, b"\0\0\0abc");
        file.truncate(6).unwrap();
        assert_eq!(&*Disk.map(&path).unwrap(), b"\0\0\0abc");
        assert_eq!(Disk.read(&path, 6).unwrap(), b"\0\0\0abc");
        assert!(Disk.read(&path, 5).is_err());
        assert_eq!(Disk.length(&path).unwrap(), Some(6));
        Disk.rename(&path, &dir.path().join("b")).unwrap();
        assert_eq!(Disk.length(&path).unwrap(), None);
        assert_eq!(Disk.list(dir.path()).unwrap(), ["b"]);
        Disk.hard_link(&dir.path().join("b"), &dir.path().join("c"))
            .unwrap();
        assert!(
            Disk.hard_link(&dir.path().join("b"), &dir.path().join("c"))
                .is_err()
        );
        file.forget_cached();
        assert_eq!(Disk.read(&dir.path().join("c"), 6).unwrap(), b"\0\0\0abc");
        Disk.remove(&dir.path().join("c")).unwrap();
        Disk.sync_dir(dir.path()).unwrap();
        Disk.remove(&dir.path().join("b")).unwrap();
        Disk.remove(&dir.path().join("b")).unwrap();
        assert!(Disk.free_bytes(dir.path()).unwrap() > 0);
    }

    #[test]
    fn an_empty_file_maps_to_no_bytes_and_pages_can_be_released() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        Disk.create(&path).unwrap();
        assert!(Disk.map(&path).unwrap().is_empty());
        let file = Disk.open(&path).unwrap();
        file.write_at(0, &[7; 10_000]).unwrap();
        let map = Disk.map(&path).unwrap();
        map.release_pages();
        assert!(map.iter().all(|b| *b == 7));
    }

    #[test]
    fn a_second_lock_is_refused_and_names_the_holder() {
        let dir = tempfile::tempdir().unwrap();
        assert!(!Disk.is_locked(dir.path()).unwrap());
        let guard = Disk.lock(dir.path()).unwrap();
        assert!(Disk.is_locked(dir.path()).unwrap());
        match Disk.lock(dir.path()) {
            Err(EngineError::Locked { holder, .. }) => {
                assert_eq!(holder, Some(std::process::id()));
            }
            other => panic!("expected Locked, got {other:?}"),
        }
        drop(guard);
        assert!(!Disk.is_locked(dir.path()).unwrap());
        Disk.lock(dir.path()).unwrap();
    }

    const LOCK_DIR: &str = "CHRONOLITH_TEST_LOCK_DIR";

    /// Not a test of its own: run as a second process by the one below.
    #[test]
    fn hold_a_lock_until_killed() {
        let Some(dir) = std::env::var_os(LOCK_DIR) else {
            return;
        };
        let _guard = Disk.lock(Path::new(&dir)).unwrap();
        println!("locked");
        std::thread::sleep(std::time::Duration::from_secs(60));
    }

    #[test]
    fn a_killed_process_holds_no_lock() {
        use std::io::{BufRead as _, BufReader};
        let dir = tempfile::tempdir().unwrap();
        let mut child = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "io::disk::tests::hold_a_lock_until_killed"])
            .args(["--nocapture", "--test-threads=1"])
            .env(LOCK_DIR, dir.path())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let locked = output.lines().any(|line| line.unwrap().contains("locked"));
        assert!(locked, "the other process ended without the lock");
        match Disk.lock(dir.path()) {
            Err(EngineError::Locked { holder, .. }) => assert_eq!(holder, Some(child.id())),
            other => panic!("expected Locked, got {other:?}"),
        }
        child.kill().unwrap();
        child.wait().unwrap();
        Disk.lock(dir.path()).unwrap();
    }
}
