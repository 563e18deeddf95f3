//! The storage engine of Chronolith: synchronous, embeddable, for metrics, logs and traces.

#![deny(unsafe_code)]

pub mod codec;
pub mod context;
pub mod error;
pub mod index;
pub mod io;
pub mod limits;
pub mod model;

pub use context::{CancelToken, RequestContext, TenantId};
pub use error::{Corruption, EngineError, Result};
pub use index::{MatchOp, Matcher};
