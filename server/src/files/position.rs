//! How far a file was read, and by what it is known again: kept in the store as a state document that
//! is written in the same commit as the records.
//!
//! A file is its device and inode. Inodes are used again and files are copied and emptied, so a
//! position also knows the file's first bytes, and the last that were read: a file is taken for one
//! that was read before only if both are there.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize, Serializer};
use xxhash_rust::xxh3::xxh3_64;

/// The collection of the documents.
pub const COLLECTION: &str = "log_files";
/// Bytes at the beginning, and in front of the position, that are remembered.
pub const PRINT_BYTES_MAX: usize = 1024;
/// First bytes that are enough to know a file by, whatever its name.
const PRINT_BYTES_SURE: u32 = 256;

/// A file, as the system numbers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FileId {
    /// Its device.
    pub device: u64,
    /// Its inode.
    pub inode: u64,
}

impl FileId {
    /// The document's key.
    #[must_use]
    pub fn key(self, job: &str) -> String {
        format!("{job}/{:x}-{:x}", self.device, self.inode)
    }

    /// From the part of a key behind the job.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (device, inode) = text.split_once('-')?;
        let number = |text| u64::from_str_radix(text, 16).ok();
        Some(Self {
            device: number(device)?,
            inode: number(inode)?,
        })
    }
}

/// A hash of some bytes, and how many.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Print {
    /// How many.
    pub bytes: u32,
    /// Their hash.
    pub hash: u64,
}

impl Print {
    /// Of bytes, at most [`PRINT_BYTES_MAX`].
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self {
            bytes: u32::try_from(bytes.len()).unwrap_or(u32::MAX),
            hash: xxh3_64(bytes),
        }
    }

    /// Whether the first of `bytes` are those.
    #[must_use]
    pub fn begins(self, bytes: &[u8]) -> bool {
        let first = bytes.get(..self.bytes as usize);
        first.is_some_and(|first| Self::of(first) == self || self.bytes == 0)
    }
}

/// How far a file was read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Position {
    /// Where it was seen last.
    #[serde(serialize_with = "lossy")]
    pub path: PathBuf,
    /// Where it, or what it is a copy of, was seen first: its labels come from this.
    #[serde(serialize_with = "lossy")]
    pub origin: PathBuf,
    /// Bytes that are done with; of a compressed file after decompression.
    pub offset: u64,
    /// Its first bytes.
    pub head: Print,
    /// The last bytes before the offset.
    pub tail: Print,
    /// Behind the offset stands the rest of a line that was cut off.
    pub skipping: bool,
    /// When it was written, milliseconds since the epoch.
    pub seen_ms: i64,
}

/// Paths need not be UTF-8; files are known by their ids, so that what is lost here does no harm.
fn lossy<S: Serializer>(path: &Path, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&path.to_string_lossy())
}

impl Position {
    /// Whether a file at `path`, of which `read` gives the bytes, may hold what was read as this: in
    /// the same folder, under a name that goes on with the old one or with enough bytes to be sure.
    #[must_use]
    pub fn may_have_moved_to(&self, path: &Path) -> bool {
        self.path.parent() == path.parent()
            && self.offset > 0
            && (self.names(path) || self.head.bytes >= PRINT_BYTES_SURE)
    }

    /// Whether the name of `path` is the one that the file had, perhaps with something behind.
    #[must_use]
    pub fn names(&self, path: &Path) -> bool {
        let name = |path: &Path| path.file_name().map(|n| n.to_string_lossy().into_owned());
        let (old, new) = (name(&self.path), name(path));
        old.zip(new).is_some_and(|(old, new)| new.starts_with(&old))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_read_back() {
        let id = FileId {
            device: 0xfe01,
            inode: 77,
        };
        assert_eq!(id.key("app"), "app/fe01-4d");
        assert_eq!(FileId::parse("fe01-4d"), Some(id));
        assert_eq!(FileId::parse("x"), None);
    }

    #[test]
    fn a_file_is_known_by_its_first_bytes() {
        let print = Print::of(b"hello");
        assert!(print.begins(b"hello world"));
        assert!(!print.begins(b"hellx world"));
        assert!(!print.begins(b"hell"));
        assert!(Print::default().begins(b""));
        assert!(Print::default().begins(b"anything"));
    }

    #[test]
    fn copies_are_looked_for_beside_the_file() {
        let position = |bytes| Position {
            path: "/log/app.log".into(),
            offset: 5,
            head: Print { bytes, hash: 0 },
            ..Position::default()
        };
        let moved = |bytes, to| position(bytes).may_have_moved_to(Path::new(to));
        assert!(moved(5, "/log/app.log.1"));
        assert!(moved(5, "/log/app.log-2026.gz"));
        assert!(!moved(5, "/log/other.log"));
        assert!(moved(300, "/log/app.2.log"));
        assert!(!moved(300, "/elsewhere/app.log.1"));
    }
}
