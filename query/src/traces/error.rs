//! Why a question about traces got no answer.

use chronolith_engine::EngineError;

use crate::traceql::TraceqlError;

/// What can go wrong, sorted by what the caller answers.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TracesError {
    /// The query is refused.
    #[error(transparent)]
    Query(#[from] TraceqlError),
    /// A parameter makes no sense, or the wrong kind of query was asked.
    #[error("{0}")]
    BadRequest(String),
    /// The answer would be too large.
    #[error("{0}")]
    TooLarge(String),
    /// The store could not be read, or the deadline passed, or the query was ended.
    #[error(transparent)]
    Store(#[from] EngineError),
}

/// Shorthand for results of this module.
pub type Result<T, E = TracesError> = std::result::Result<T, E>;
