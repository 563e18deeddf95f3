//! Why a PromQL query did not give an answer.

use std::sync::Arc;

use chronolith_engine::EngineError;
use datafusion::error::DataFusionError;

use super::error::ParseError;

/// What can go wrong with a query, sorted by what the caller answers.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum PromqlError {
    /// The text is no query. Displays as `line:column: parse error: …`.
    #[error(transparent)]
    Parse(#[from] ParseError),
    /// A parameter of the request makes no sense (end before start, step of zero).
    #[error("{0}")]
    BadRequest(String),
    /// The query cannot be evaluated.
    #[error("{0}")]
    Execution(String),
    /// More samples than a query may load.
    #[error("query processing would load too many samples into memory in query execution")]
    TooManySamples,
    /// More memory than a single query may hold.
    #[error("{0}")]
    TooMuchMemory(String),
    /// The memory that queries share is used up.
    #[error("query needs more memory than there is: {0}")]
    OutOfMemory(String),
    /// The deadline has passed.
    #[error("query timed out in expression evaluation")]
    Timeout,
    /// Somebody asked the query to stop.
    #[error("query was canceled in expression evaluation")]
    Cancelled,
    /// The store could not be read.
    #[error("expanding series: {0}")]
    Storage(Arc<EngineError>),
    /// A bug.
    #[error("bug: {0}")]
    Internal(String),
}

/// Shorthand for results of the evaluator.
pub type Result<T, E = PromqlError> = std::result::Result<T, E>;

impl PromqlError {
    /// An evaluation error.
    pub fn execution(message: impl Into<String>) -> Self {
        Self::Execution(message.into())
    }
}

impl From<EngineError> for PromqlError {
    fn from(error: EngineError) -> Self {
        match error {
            EngineError::Cancelled => Self::Cancelled,
            EngineError::DeadlineExceeded => Self::Timeout,
            EngineError::InvalidArgument(message) => Self::Execution(message),
            too_old @ EngineError::AsOfTooOld { .. } => Self::Execution(too_old.to_string()),
            other => Self::Storage(Arc::new(other)),
        }
    }
}

/// Operators speak DataFusion's error type; ours travels inside it.
impl From<PromqlError> for DataFusionError {
    fn from(error: PromqlError) -> Self {
        Self::External(Box::new(error))
    }
}

impl From<DataFusionError> for PromqlError {
    fn from(error: DataFusionError) -> Self {
        match error {
            DataFusionError::External(inner) => match inner.downcast::<Self>() {
                Ok(own) => *own,
                Err(other) => Self::Internal(other.to_string()),
            },
            DataFusionError::Shared(inner) => match Arc::try_unwrap(inner) {
                Ok(inner) => inner.into(),
                Err(shared) => find(&shared)
                    .cloned()
                    .unwrap_or_else(|| Self::Internal(shared.to_string())),
            },
            DataFusionError::Context(_, inner) => (*inner).into(),
            DataFusionError::ResourcesExhausted(message) => Self::OutOfMemory(message),
            other => Self::Internal(other.to_string()),
        }
    }
}

fn find(error: &DataFusionError) -> Option<&PromqlError> {
    match error {
        DataFusionError::External(inner) => inner.downcast_ref(),
        DataFusionError::Shared(inner) => find(inner),
        DataFusionError::Context(_, inner) => find(inner),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_errors_survive_the_journey() {
        let error: DataFusionError = PromqlError::TooManySamples.into();
        let error = DataFusionError::Shared(Arc::new(error.context("somewhere")));
        assert!(matches!(
            PromqlError::from(error),
            PromqlError::TooManySamples
        ));
    }
}
