//! Loki's query API under `/loki/api/v1`: what Grafana's Loki data source asks.
//!
//! Errors are plain text, as Loki's are; times are nanoseconds, seconds with a fraction, or RFC 3339.

mod about;
mod delete;
mod explore;
mod listing;
pub mod older;
mod query;
mod tail;
pub(crate) mod times;
mod wire;

pub use about::{build_info, config, drilldown_limits, ready, rules, services};
pub use delete::{cancel as delete_cancel, list as delete_list, request as delete_request};
pub use explore::{
    detected_field_values, detected_fields, detected_labels, index_shards, index_stats,
    index_volume, index_volume_range, log_patterns,
};
pub use listing::{label_names, label_values, series};
pub use query::{format_query, instant, range};
pub use tail::{older_tail, tail};

use axum::response::Response;
use chronolith_query::logql::eval::LogQlError;
use chronolith_query::logql::eval::QueryResult;

use crate::error::{ApiError, ErrorType};

/// The answer of a query as the API gives it, with the labels of lines in one set.
#[must_use]
pub fn answer_text(result: &QueryResult) -> String {
    wire::answer(result, false)
}

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
