//! Loki's query API under `/loki/api/v1`: what Grafana's Loki data source asks.
//!
//! Errors are plain text, as Loki's are; times are nanoseconds, seconds with a fraction, or RFC 3339.

mod listing;
mod query;
pub(crate) mod times;
mod wire;

pub use listing::{label_names, label_values, series};
pub use query::{format_query, instant, range};

use axum::response::Response;
use chronolith_query::logql::eval::LogQlError;

use crate::error::{ApiError, ErrorType};

/// An error as Loki answers it: text, with the status that its clients know.
pub struct LokiError(ApiError);

impl From<ApiError> for LokiError {
    fn from(error: ApiError) -> Self {
        Self(error)
    }
}

impl From<LogQlError> for LokiError {
    fn from(error: LogQlError) -> Self {
        let kind = match &error {
            LogQlError::Parse(_)
            | LogQlError::BadRequest(_)
            | LogQlError::Limit(_)
            | LogQlError::Execution(_) => ErrorType::BadData,
            LogQlError::OutOfMemory(_) => ErrorType::Execution,
            LogQlError::Timeout => ErrorType::Timeout,
            LogQlError::Cancelled => ErrorType::Canceled,
            _ => ErrorType::Internal,
        };
        Self(ApiError::new(kind, error.to_string()))
    }
}

impl axum::response::IntoResponse for LokiError {
    fn into_response(self) -> Response {
        self.0.into_text()
    }
}
