//! The write-ahead log: what was acknowledged is in it.
//!
//! [`RecordRef`] turns one accepted request into bytes on the caller's thread, [`Wal`] gathers the
//! waiting ones into one write and one `fdatasync` (group commit) and hands them on in sequence
//! order, [`replay`] reads them back after a crash, [`Follower`] beside a live server.
//!
//! Invariants:
//! - Sequence numbers start at 1, have no gaps and grow from file to file.
//! - A record is acknowledged only after everything before it is as durable as it is.
//! - Bytes of the log are never changed once synced; a torn tail is cut before the next
//!   acknowledgement.
//! - A failed sync ends all writing until the store is opened again.

mod completion;
pub(crate) mod cursor;
mod format;
mod inspect;
mod log_file;
mod queue;
mod reader;
pub(crate) mod record;
mod replay;
mod stats;
mod writer;

pub(crate) use format::FILE_MAGIC;
pub use format::FORMAT_VERSION;
pub(crate) use inspect::inspect;
pub use record::{
    Deletion, EncodedRecord, HistogramRow, Record, RecordRef, SampleRows, Samples, StateOp,
};
pub use replay::{
    Followed, Follower, LogPosition, LogStart, ReplayReport, TornTail, is_pristine, replay,
};
pub use stats::{LatencyHistogram, LatencySummary, WalStats};
pub use writer::{Applier, Logged, Wal, WalOptions, initialize};

#[cfg(test)]
mod tests;
