//! `POST /api/v1/sql`: a statement in, rows out in the format that `Accept` names.

use std::time::{Duration, Instant};

use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use chronolith_engine::RequestContext;
use chronolith_query::promql::runtime::query_runtime;
use chronolith_query::sql::{Encoder, Format, Position, SqlEngine, SqlError, SqlStream};
use http::{HeaderMap, StatusCode, header};
use serde::Deserialize;
use tokio::sync::mpsc;

use super::envelope::json_response;
use crate::active::ActiveQuery;
use crate::body::read_small;
use crate::error::{ApiError, ErrorType, RETRY_AFTER_SECONDS};
use crate::request::Caller;
use crate::state::AppState;

/// Bytes of a statement with its parameters.
const BODY_BYTES_MAX: usize = 2 << 20;
/// Bytes that an answer must reach before a piece of it is sent.
const CHUNK_BYTES_MIN: usize = 64 << 10;
/// Pieces of an answer that may wait for a slow client.
const PIECES_AHEAD: usize = 2;

/// The body of a request.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Statement {
    /// The statement.
    query: String,
    /// What `$1`, `$2`, … stand for.
    #[serde(default)]
    params: Vec<serde_json::Value>,
}

/// An error in this API's own shape: `{"error": "...", "position": {"line","column"}?}`.
pub(super) struct Failure {
    status: StatusCode,
    message: String,
    position: Option<Position>,
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

impl From<ApiError> for Failure {
    fn from(error: ApiError) -> Self {
        Self {
            status: error.kind.status(),
            message: error.message,
            position: None,
        }
    }
}

impl From<SqlError> for Failure {
    fn from(error: SqlError) -> Self {
        let (kind, position) = match &error {
            SqlError::Invalid { position, .. } => (ErrorType::BadData, *position),
            SqlError::Timeout => (ErrorType::Timeout, None),
            SqlError::Cancelled => (ErrorType::Canceled, None),
            SqlError::TooMuchMemory(_) => (ErrorType::Execution, None),
            SqlError::Resources(_) => (ErrorType::TooMany, None),
            SqlError::Engine(_) => (ErrorType::Internal, None),
            _ => (ErrorType::Execution, None),
        };
        if kind == ErrorType::Internal {
            tracing::error!(%error, "statement failed");
        }
        Self {
            status: kind.status(),
            message: error.to_string(),
            position,
        }
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let mut body = serde_json::json!({ "error": self.message });
        if let Some(position) = self.position {
            body["position"] = serde_json::json!(position);
        }
        let mut response = json_response(body.to_string());
        *response.status_mut() = self.status;
        if matches!(self.status.as_u16(), 429 | 503) {
            let seconds = http::HeaderValue::from(RETRY_AFTER_SECONDS);
            response.headers_mut().insert(header::RETRY_AFTER, seconds);
        }
        response
    }
}

/// Runs a statement.
pub async fn sql(
    State(state): State<AppState>,
    caller: Caller,
    headers: HeaderMap,
    body: Body,
) -> Response {
    match run(&state, caller, &headers, body).await {
        Ok(response) => response,
        Err(failure) => failure.into_response(),
    }
}

async fn run(
    state: &AppState,
    caller: Caller,
    headers: &HeaderMap,
    body: Body,
) -> Result<Response, Failure> {
    let settings = state.settings();
    let body = read_small(headers, body, BODY_BYTES_MAX, settings.body_timeout).await?;
    let statement: Statement = serde_json::from_slice(&body)
        .map_err(|e| ApiError::bad_data(format!("the body is not {{\"query\": …}}: {e}")))?;
    let accept = headers.get(header::ACCEPT).and_then(|v| v.to_str().ok());
    let format = Format::from_accept(accept.unwrap_or(""));
    let timeout = settings.query_timeout;
    let asked = ("sql", statement.query.as_str());
    let (mut query, context) = ActiveQuery::begin(state, &caller, asked, timeout).await?;
    let began = Instant::now();
    let (sender, mut pieces) = mpsc::channel(PIECES_AHEAD);
    let engine = state.sql().clone();
    // Statements are work for the processor: they run on the threads of queries, so that the
    // server's own stay free for connections.
    query_runtime().spawn(async move {
        if let Err(failure) = produce(&engine, &context, &statement, format, &sender).await {
            let _ = sender.send(Err(failure)).await;
        }
    });
    // Errors up to the first rows still get a status of their own.
    let first = match pieces.recv().await {
        Some(Ok(first)) => first,
        Some(Err(failure)) => {
            query.fail(&failure);
            return Err(failure);
        }
        None => return Err(ApiError::internal("the statement ended early").into()),
    };
    state.metrics().sql_duration.observe(began.elapsed());
    let body = query.streamed("statement", Some(first), pieces);
    let headers = [(header::CONTENT_TYPE, format.content_type())];
    Ok((headers, body).into_response())
}

/// Runs a statement and sends the body in pieces; ends early when nobody listens any more.
async fn produce(
    engine: &SqlEngine,
    context: &RequestContext,
    statement: &Statement,
    format: Format,
    pieces: &mpsc::Sender<Result<Bytes, Failure>>,
) -> Result<(), Failure> {
    let mut rows = engine
        .query(context, &statement.query, &statement.params)
        .await?;
    let mut encoder = Encoder::new(format, rows.schema()).map_err(encoding)?;
    let mut ready = encoder.start().map_err(encoding)?;
    let mut cpu = Duration::ZERO;
    let mut count_cpu = |rows: &SqlStream| {
        let now = rows.cpu();
        context.usage.add_cpu(now.saturating_sub(cpu));
        cpu = now;
    };
    while let Some(batch) = rows.next().await {
        count_cpu(&rows);
        ready.extend_from_slice(&encoder.batch(&batch?).map_err(encoding)?);
        if ready.len() >= CHUNK_BYTES_MIN {
            let piece = Bytes::from(std::mem::take(&mut ready));
            if pieces.send(Ok(piece)).await.is_err() {
                return Ok(());
            }
        }
    }
    count_cpu(&rows);
    ready.extend_from_slice(&encoder.finish().map_err(encoding)?);
    let _ = pieces.send(Ok(Bytes::from(ready))).await;
    Ok(())
}

fn encoding(error: impl std::fmt::Display) -> Failure {
    Failure {
        status: StatusCode::UNPROCESSABLE_ENTITY,
        message: format!("cannot write the rows: {error}"),
        position: None,
    }
}
