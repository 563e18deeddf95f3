//! Why a LogQL query did not give an answer.

use std::sync::Arc;

use chronolith_engine::EngineError;
use datafusion::error::DataFusionError;

use super::super::error::ParseError;
use crate::promql::PromqlError;

/// What can go wrong with a query, sorted by what the caller answers.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum LogQlError {
    /// The text is no query. Displays as `parse error at line 1, col 2: …`.
    #[error(transparent)]
    Parse(#[from] ParseError),
    /// A parameter of the request makes no sense (end before start, step of zero).
    #[error("{0}")]
    BadRequest(String),
    /// The query cannot be evaluated.
    #[error("{0}")]
    Execution(String),
    /// The answer is larger than allowed.
    #[error("{0}")]
    Limit(String),
    /// The memory that queries share is used up.
    #[error("query needs more memory than there is: {0}")]
    OutOfMemory(String),
    /// The deadline has passed.
    #[error(
        "request timed out, decrease the duration of the request or add more label matchers (prefer exact match over regex match) to reduce the amount of data processed"
    )]
    Timeout,
    /// Somebody asked the query to stop.
    #[error("the request was cancelled by the client")]
    Cancelled,
    /// The store could not be read.
    #[error("reading logs: {0}")]
    Storage(Arc<EngineError>),
    /// A bug.
    #[error("bug: {0}")]
    Internal(String),
}

/// Shorthand for results of the evaluator.
pub(super) type Result<T, E = LogQlError> = std::result::Result<T, E>;

impl From<EngineError> for LogQlError {
    fn from(error: EngineError) -> Self {
        match error {
            EngineError::Cancelled => Self::Cancelled,
            EngineError::DeadlineExceeded => Self::Timeout,
            EngineError::InvalidArgument(message) => Self::Execution(message),
            other => Self::Storage(Arc::new(other)),
        }
    }
}

/// The errors of the operators that both languages share.
impl From<PromqlError> for LogQlError {
    fn from(error: PromqlError) -> Self {
        match error {
            PromqlError::Execution(message) => Self::Execution(loki_words(message)),
            PromqlError::TooManySamples => Self::Limit(error.to_string()),
            PromqlError::OutOfMemory(message) => Self::OutOfMemory(message),
            PromqlError::Timeout => Self::Timeout,
            PromqlError::Cancelled => Self::Cancelled,
            PromqlError::Storage(error) => Self::Storage(error),
            PromqlError::BadRequest(message) => Self::BadRequest(message),
            other => Self::Internal(other.to_string()),
        }
    }
}

/// What PromQL says of operands that do not match, as Loki says it.
fn loki_words(message: String) -> String {
    if message.starts_with("found duplicate series for the match group") {
        let side = if message.contains("on the left hand-side") {
            "left"
        } else {
            "right"
        };
        return format!(
            "found duplicate series on the {side} hand-side;many-to-many matching not allowed: matching labels must be unique on one side"
        );
    }
    message
}

/// Operators speak DataFusion's error type; ours travels inside it.
impl From<LogQlError> for DataFusionError {
    fn from(error: LogQlError) -> Self {
        Self::External(Box::new(error))
    }
}

impl From<DataFusionError> for LogQlError {
    fn from(error: DataFusionError) -> Self {
        match error {
            DataFusionError::External(inner) => match inner.downcast::<Self>() {
                Ok(own) => *own,
                Err(inner) => match inner.downcast::<PromqlError>() {
                    Ok(error) => (*error).into(),
                    Err(other) => Self::Internal(other.to_string()),
                },
            },
            DataFusionError::Shared(inner) => match Arc::try_unwrap(inner) {
                Ok(inner) => inner.into(),
                Err(shared) => find(&shared).unwrap_or_else(|| Self::Internal(shared.to_string())),
            },
            DataFusionError::Context(_, inner) => (*inner).into(),
            DataFusionError::ResourcesExhausted(message) => Self::OutOfMemory(message),
            other => Self::Internal(other.to_string()),
        }
    }
}

fn find(error: &DataFusionError) -> Option<LogQlError> {
    match error {
        DataFusionError::External(inner) => inner
            .downcast_ref::<LogQlError>()
            .cloned()
            .or_else(|| inner.downcast_ref::<PromqlError>().cloned().map(Into::into)),
        DataFusionError::Shared(inner) => find(inner),
        DataFusionError::Context(_, inner) => find(inner),
        _ => None,
    }
}
