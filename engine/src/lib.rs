//! The storage engine of Chronolith: synchronous, embeddable, for metrics, logs and traces.
//!
//! ```
//! use chronolith_engine::model::{Labels, SampleColumns, TimeRange, TimestampNs};
//! use chronolith_engine::{Matcher, RequestContext, ScanRequest, Store, StoreOptions};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let store = Store::in_memory(StoreOptions::default())?;
//! let context = RequestContext::new();
//!
//! // One session is one request: stored as a whole or not at all.
//! let mut append = store.begin(&context)?;
//! let series = append.define(None, &Labels::from_pairs([("__name__", "up"), ("job", "demo")])?)?;
//! append.sample(series, TimestampNs(1_000), 1.0);
//! append.commit()?;
//!
//! let request = ScanRequest::new(vec![Matcher::equal("__name__", "up")], TimeRange::ALL);
//! let scan = store.scan_metrics(&context, &request)?;
//! let mut samples = SampleColumns::default();
//! scan.read(0, TimeRange::ALL, &mut samples)?;
//! assert_eq!(samples.values, [1.0]);
//! # Ok(()) }
//! ```

#![deny(unsafe_code)]

pub mod append;
pub mod codec;
mod compaction;
pub mod context;
pub mod derive;
pub mod error;
mod head;
pub mod index;
mod inspect;
pub mod io;
pub mod limits;
pub mod manifest;
pub mod model;
mod observer;
pub mod options;
pub mod rows;
pub mod scan;
mod sealed;
pub mod segment;
pub mod state;
pub mod store;
mod sync;
#[cfg(test)]
#[path = "../tests/common/samples.rs"]
mod test_samples;
pub mod wal;

// What tests inside and outside of the crate share names the crate as those outside do.
#[cfg(test)]
extern crate self as chronolith_engine;

pub use append::{Append, Committed, RawSeriesKey, StatePut};
pub use context::{CancelToken, RequestContext, TenantId, Usage};
pub use derive::{Derivation, Derive};
pub use error::{Corruption, EngineError, Result};
pub use index::{MatchOp, Matcher};
pub use inspect::inspect;
pub use model::{Generation, SegmentId, Signal};
pub use observer::{RowObserver, RowObservers};
pub use options::{Clock, StoreOptions, SyncMode, TenantLimits};
pub use scan::{LogBlockScan, LogScan, MetricScan, ScanRequest, SpanBlockScan, SpanScan};
pub use state::StateDocument;
pub use store::{
    CardinalityStats, ChangeMark, ChangedSince, SegmentInfo, Snapshot, Store, StoreStats,
};
