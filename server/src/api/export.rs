//! `GET|POST /api/v1/export`: the rows of one signal as one file, streamed.

use std::time::Duration;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use chronolith_engine::RequestContext;
use chronolith_engine::model::TimeRange;
use chronolith_query::export::{
    ExportError, ExportRows, ExportSignal, file_encoder, with_matchers,
};
use chronolith_query::promql::runtime::query_runtime;
use chronolith_query::sql::{Format, SqlEngine};
use http::header;
use tokio::sync::mpsc;

use super::params::Params;
use super::selectors::matcher_sets;
use super::sql::Failure;
use crate::active::ActiveQuery;
use crate::error::{ApiError, ErrorType};
use crate::request::Caller;
use crate::state::AppState;

/// An export may take longer than a query.
const TIMEOUT_MAX: Duration = Duration::from_secs(3600);
/// Bytes that must have come together before a piece is sent.
const CHUNK_BYTES_MIN: usize = 256 << 10;
/// Pieces that may wait for a slow client.
const PIECES_AHEAD: usize = 2;

/// What is asked for.
struct Asked {
    signal: ExportSignal,
    range: TimeRange,
    format: Format,
}

/// Sends the rows.
pub async fn export(State(state): State<AppState>, caller: Caller, params: Params) -> Response {
    match run(&state, caller, &params).await {
        Ok(response) => response,
        Err(failure) => failure.into_response(),
    }
}

fn asked(params: &Params) -> Result<Asked, ApiError> {
    let name = params.get("signal").unwrap_or("metrics");
    let signal = ExportSignal::from_name(name)
        .ok_or_else(|| ApiError::parameter("signal", "expected metrics, logs or spans"))?;
    let format = match params.get("format").unwrap_or("parquet") {
        "parquet" => Format::Parquet,
        "csv" => Format::Csv,
        "jsonl" => Format::NdJson,
        _ => {
            return Err(ApiError::parameter(
                "format",
                "expected parquet, csv or jsonl",
            ));
        }
    };
    Ok(Asked {
        signal,
        range: params.time_range()?,
        format,
    })
}

async fn run(state: &AppState, caller: Caller, params: &Params) -> Result<Response, Failure> {
    let asked = asked(params)?;
    let mut sets = matcher_sets(params)?;
    let matchers = sets.pop().unwrap_or_default();
    if !sets.is_empty() {
        let reason = "an export takes one; join them into one by regexes";
        return Err(ApiError::parameter("match[]", reason).into());
    }
    let timeout = params.timeout(TIMEOUT_MAX)?;
    let text = params.shown_after("export");
    let (mut query, context) =
        ActiveQuery::begin(state, &caller, ("export", &text), timeout).await?;
    let context = with_matchers(&context, &matchers);
    let (sender, mut pieces) = mpsc::channel(PIECES_AHEAD);
    let engine = state.sql().clone();
    let format = asked.format;
    query_runtime().spawn(async move {
        if let Err(failure) = produce(&engine, &context, &asked, &sender).await {
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
        None => return Err(ApiError::internal("the export ended early").into()),
    };
    let body = query.streamed("export", Some(first), pieces);
    let content_type = match format {
        Format::NdJson => "application/x-ndjson",
        format => format.content_type(),
    };
    Ok(([(header::CONTENT_TYPE, content_type)], body).into_response())
}

/// Reads and sends; ends early when nobody listens any more.
async fn produce(
    engine: &SqlEngine,
    context: &RequestContext,
    asked: &Asked,
    pieces: &mpsc::Sender<Result<Bytes, Failure>>,
) -> Result<(), Failure> {
    let mut rows = ExportRows::open(engine, context, asked.signal, asked.range).await?;
    let mut encoder = file_encoder(asked.format, rows.schema()).map_err(ExportError::from)?;
    let mut ready = encoder.start().map_err(ExportError::from)?;
    while let Some(batch) = rows.next().await {
        let encoded = encoder.batch(&batch?).map_err(ExportError::from)?;
        ready.extend_from_slice(&encoded);
        if ready.len() >= CHUNK_BYTES_MIN {
            let piece = Bytes::from(std::mem::take(&mut ready));
            if pieces.send(Ok(piece)).await.is_err() {
                return Ok(());
            }
        }
    }
    ready.extend_from_slice(&encoder.finish().map_err(ExportError::from)?);
    let _ = pieces.send(Ok(Bytes::from(ready))).await;
    Ok(())
}

impl From<ExportError> for Failure {
    fn from(error: ExportError) -> Self {
        match error {
            ExportError::Read(error) => error.into(),
            error => ApiError::new(ErrorType::Execution, error.to_string()).into(),
        }
    }
}
