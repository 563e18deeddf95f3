//! The errors of the Prometheus API, and the one place that turns errors of the layers below into
//! a status and a body.

use axum::response::{IntoResponse, Response};
use chronolith_engine::EngineError;
use http::{HeaderValue, StatusCode, header};

/// Prometheus' error types; each has a word and a status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorType {
    /// The request is wrong.
    BadData,
    /// The request is too large.
    TooLarge,
    /// The query cannot be evaluated.
    Execution,
    /// The client went away.
    Canceled,
    /// The query took too long.
    Timeout,
    /// Something of ours failed.
    Internal,
    /// The feature is switched off.
    Forbidden,
    /// Not now: the queue is full, the store is closing or cannot take writes.
    Unavailable,
    /// A limit of the caller is reached; a retry later may succeed.
    TooMany,
    /// There is no such thing.
    NotFound,
    /// The method does not exist here.
    MethodNotAllowed,
    /// The body is in a form that is not understood.
    UnsupportedMedia,
}

impl ErrorType {
    /// All of them.
    pub const ALL: &[Self] = &[
        Self::BadData,
        Self::TooLarge,
        Self::Execution,
        Self::Canceled,
        Self::Timeout,
        Self::Internal,
        Self::Forbidden,
        Self::Unavailable,
        Self::TooMany,
        Self::NotFound,
        Self::MethodNotAllowed,
        Self::UnsupportedMedia,
    ];

    /// The word in the envelope.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::BadData | Self::TooLarge | Self::UnsupportedMedia => "bad_data",
            Self::Execution => "execution",
            Self::Canceled => "canceled",
            Self::Timeout => "timeout",
            Self::Internal => "internal",
            Self::Forbidden | Self::Unavailable => "unavailable",
            Self::TooMany => "too_many_requests",
            Self::NotFound => "not_found",
            Self::MethodNotAllowed => "method_not_allowed",
        }
    }

    /// The status of the answer.
    #[must_use]
    pub fn status(self) -> StatusCode {
        match self {
            Self::BadData => StatusCode::BAD_REQUEST,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Execution => StatusCode::UNPROCESSABLE_ENTITY,
            // 499, "client closed request": nobody reads it, the log does.
            Self::Canceled => StatusCode::from_u16(499).unwrap_or(StatusCode::BAD_REQUEST),
            Self::Timeout | Self::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            Self::Internal => StatusCode::INTERNAL_SERVER_ERROR,
            Self::Forbidden => StatusCode::FORBIDDEN,
            Self::TooMany => StatusCode::TOO_MANY_REQUESTS,
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::UnsupportedMedia => StatusCode::UNSUPPORTED_MEDIA_TYPE,
        }
    }
}

/// An error with its type.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{message}")]
pub struct ApiError {
    /// Its type.
    pub kind: ErrorType,
    /// What went wrong, for whoever sent the request.
    pub message: String,
}

/// Seconds after which a refused client may try again.
pub const RETRY_AFTER_SECONDS: u32 = 1;

impl ApiError {
    /// An error of a type.
    pub fn new(kind: ErrorType, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
        }
    }

    /// The request is wrong.
    pub fn bad_data(message: impl Into<String>) -> Self {
        Self::new(ErrorType::BadData, message)
    }

    /// A parameter is wrong: `invalid parameter "query": ...`.
    pub fn parameter(name: &str, reason: impl std::fmt::Display) -> Self {
        Self::bad_data(format!("invalid parameter \"{name}\": {reason}"))
    }

    /// Something of ours failed.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(ErrorType::Internal, message)
    }

    /// As the envelope has it.
    #[must_use]
    pub fn to_json(&self) -> serde_json::Value {
        serde_json::json!({
            "status": "error",
            "errorType": self.kind.as_str(),
            "error": self.message,
        })
    }

    /// As plain text, for the endpoints that have no envelope (writes, health).
    #[must_use]
    pub fn into_text(self) -> Response {
        let mut message = self.message;
        message.push('\n');
        let mut response = (self.kind.status(), message).into_response();
        add_retry_after(self.kind, &mut response);
        response
    }
}

impl ApiError {
    /// With the body of another API, and the status and headers that belong to the error.
    #[must_use]
    pub fn with_body(&self, content_type: &'static str, body: String) -> Response {
        let headers = [(header::CONTENT_TYPE, content_type)];
        let mut response = (self.kind.status(), headers, body).into_response();
        add_retry_after(self.kind, &mut response);
        response
    }
}

fn add_retry_after(kind: ErrorType, response: &mut Response) {
    if matches!(kind, ErrorType::Unavailable | ErrorType::TooMany) {
        let seconds = HeaderValue::from(RETRY_AFTER_SECONDS);
        response.headers_mut().insert(header::RETRY_AFTER, seconds);
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let body = self.to_json();
        let json = [(header::CONTENT_TYPE, "application/json")];
        let mut response = (self.kind.status(), json, body.to_string()).into_response();
        add_retry_after(self.kind, &mut response);
        response
    }
}

impl From<EngineError> for ApiError {
    fn from(error: EngineError) -> Self {
        let kind = match &error {
            EngineError::InvalidArgument(_) => ErrorType::BadData,
            EngineError::LimitExceeded(_) => ErrorType::TooMany,
            EngineError::AsOfTooOld { .. } => ErrorType::Execution,
            EngineError::Unavailable(_) | EngineError::Poisoned(_) => ErrorType::Unavailable,
            EngineError::Cancelled => ErrorType::Canceled,
            EngineError::DeadlineExceeded => ErrorType::Timeout,
            _ => ErrorType::Internal,
        };
        Self::new(kind, error.to_string())
    }
}
