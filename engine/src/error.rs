//! What can go wrong in the engine, sorted by what the caller can do about it.

use std::io;
use std::path::PathBuf;

/// Damaged bytes on disk: where they are and what was expected.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}: damaged at byte {offset}: found {found}, expected {expected}", .path.display())]
pub struct Corruption {
    /// The damaged file.
    pub path: PathBuf,
    /// Offset from the start of the file.
    pub offset: u64,
    /// What should have been there.
    pub expected: String,
    /// What was there.
    pub found: String,
}

/// The engine's error.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EngineError {
    /// The caller sent something that can never work.
    #[error("{0}")]
    InvalidArgument(String),
    /// A limit would be exceeded (series per tenant, memory, rows per request).
    #[error("{0}")]
    LimitExceeded(String),
    /// The store cannot take writes right now; a retry later may succeed.
    #[error("store cannot take writes now: {0}")]
    Unavailable(String),
    /// The store refuses writes until it is opened again (a sync failed).
    #[error("store refuses writes until reopened: {0}")]
    Poisoned(String),
    /// Damaged data.
    #[error(transparent)]
    Corruption(#[from] Corruption),
    /// Another process has the directory open for writing.
    #[error("{}: in use by another process{}", .path.display(), .holder.map(|p| format!(" (pid {p})")).unwrap_or_default())]
    Locked {
        /// The directory.
        path: PathBuf,
        /// The other process, where known.
        holder: Option<u32>,
    },
    /// A compare-and-set found another version.
    #[error("{collection}/{key}: version is {actual}, expected {expected}")]
    VersionConflict {
        /// The document's collection.
        collection: String,
        /// The document's key.
        key: String,
        /// The version that the caller expected; 0 for "not there".
        expected: u64,
        /// The version that is there; 0 for "not there".
        actual: u64,
    },
    /// A read as of a moment that the store does not know any more.
    #[error("cannot read as of {moment}: the store keeps what was overwritten since {since}")]
    AsOfTooOld {
        /// The moment asked for, nanoseconds since the epoch.
        moment: i64,
        /// The earliest moment that can be read.
        since: i64,
    },
    /// The request was cancelled.
    #[error("request cancelled")]
    Cancelled,
    /// The request's deadline has passed.
    #[error("deadline exceeded")]
    DeadlineExceeded,
    /// The operating system refused.
    #[error("{}: {source}", .path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// Its reason.
        source: io::Error,
    },
}

impl EngineError {
    /// Names the file an I/O error is about.
    pub fn io(path: impl Into<PathBuf>, source: io::Error) -> Self {
        Self::Io {
            path: path.into(),
            source,
        }
    }

    /// Whether the medium is full (or the quota used up): the caller may try again once there is
    /// space, and reads go on.
    #[must_use]
    pub fn is_out_of_space(&self) -> bool {
        let kind = match self {
            Self::Io { source, .. } => source.kind(),
            _ => return false,
        };
        matches!(
            kind,
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
        )
    }

    /// Whether a file or directory is not there.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Io { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }
}

/// Shorthand for results of the engine.
pub type Result<T, E = EngineError> = std::result::Result<T, E>;
