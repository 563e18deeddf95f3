//! `/api/v1/query`, `/query_range`, `/format_query`, `/parse_query`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::datatypes::Schema;
use arrow::error::ArrowError;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use chronolith_engine::model::TimestampNs;
use chronolith_query::promql::pretty::pretty;
use chronolith_query::promql::result::{QueryResult, QueryStats, Value};
use chronolith_query::promql::{PromqlError, QueryOptions};
use chronolith_query::sql::{Format, encode};
use http::{HeaderMap, header};

use super::envelope::{TRUNCATED, push_remarks, success};
use super::params::Params;
use super::query_pieces::Pieces;
use super::syntax_tree::syntax_tree;
use crate::active::ActiveQuery;
use crate::error::{ApiError, ErrorType};
use crate::request::Caller;
use crate::state::AppState;
use crate::telemetry::now_ms;
use crate::wire::{json, number};

/// When a query is evaluated, in milliseconds since the epoch.
#[derive(Clone, Copy, Debug)]
pub enum QueryTime {
    /// Once.
    Instant {
        /// When.
        time_ms: i64,
    },
    /// At every step.
    Range {
        /// The first time.
        start_ms: i64,
        /// No step is later.
        end_ms: i64,
        /// From step to step.
        step_ms: i64,
    },
}

/// `GET|POST /api/v1/query`
pub async fn instant(
    State(state): State<AppState>,
    caller: Caller,
    headers: HeaderMap,
    params: Params,
) -> Result<Response, ApiError> {
    let time_ms = params.time_ms("time")?.unwrap_or_else(now_ms);
    let time = QueryTime::Instant { time_ms };
    run(state, caller, format_of(&headers), &params, time).await
}

/// The format that `Accept` names; JSON in Prometheus' envelope unless it is another.
fn format_of(headers: &HeaderMap) -> Format {
    let accept = headers.get(header::ACCEPT).and_then(|v| v.to_str().ok());
    Format::from_accept(accept.unwrap_or_default())
}

/// `GET|POST /api/v1/query_range`
pub async fn range(
    State(state): State<AppState>,
    caller: Caller,
    headers: HeaderMap,
    params: Params,
) -> Result<Response, ApiError> {
    let start_ms = params.required_time_ms("start")?;
    let end_ms = params.required_time_ms("end")?;
    if end_ms < start_ms {
        return Err(ApiError::parameter(
            "end",
            "end timestamp must not be before start time",
        ));
    }
    let step_ms = match params.duration_ms("step")? {
        Some(step_ms) => step_ms,
        None => {
            return Err(ApiError::parameter(
                "step",
                "cannot parse \"\" to a valid duration",
            ));
        }
    };
    if step_ms <= 0 {
        return Err(ApiError::parameter(
            "step",
            "zero or negative query resolution step widths are not accepted. Try a positive integer",
        ));
    }
    let points_max = state.settings().query_points_max;
    if (end_ms - start_ms) / step_ms > i64::from(points_max) {
        return Err(ApiError::bad_data(format!(
            "exceeded maximum resolution of {} points per timeseries. Try decreasing the query resolution (?step=XX)",
            grouped(points_max),
        )));
    }
    let time = QueryTime::Range {
        start_ms,
        end_ms,
        step_ms,
    };
    run(state, caller, format_of(&headers), &params, time).await
}

/// A number with commas between thousands.
fn grouped(number: u32) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

async fn run(
    state: AppState,
    caller: Caller,
    format: Format,
    params: &Params,
    time: QueryTime,
) -> Result<Response, ApiError> {
    let settings = state.settings();
    let query = params.get("query").unwrap_or("").to_owned();
    check_text(&state, &query)?;
    let limit = params.limit()?;
    let timeout = params.timeout(settings.query_timeout)?;
    let lookback = match params.duration_ms("lookback_delta")? {
        Some(ms) if ms > 0 => Some(Duration::from_millis(ms.unsigned_abs())),
        _ => None,
    };
    let as_of = params.time_ms("as_of")?;
    let stats = params.get_filled("stats").map(str::to_owned);
    let options = QueryOptions {
        lookback,
        timeout: Some(timeout),
        per_step_stats: stats.as_deref() == Some("all"),
        keep_text: format == Format::Json && limit.is_none(),
        no_cache: params.flag("nocache")?,
        as_of: as_of.map(TimestampNs::from_millis_saturating),
        ..QueryOptions::default()
    };
    let parsed = state.promql().parse(&query)?;
    let asked = ("promql", query.as_str());
    let (mut active, context) = ActiveQuery::begin(&state, &caller, asked, timeout).await?;
    active.set_detail(format!("{time:?}"));
    let began = Instant::now();
    let promql = state.promql();
    let result = match time {
        QueryTime::Instant { time_ms } => {
            promql.instant(&context, &parsed, time_ms, &options).await
        }
        QueryTime::Range {
            start_ms,
            end_ms,
            step_ms,
        } => {
            let times = (start_ms, end_ms, step_ms);
            promql.range(&context, &parsed, times, &options).await
        }
    };
    observe(&state, time, began.elapsed());
    let mut result = result.inspect_err(|error| active.fail(error))?;
    result.stats.queued += active.queued();
    if format != Format::Json {
        if let Some(limit) = limit {
            truncate(&mut result.value, limit);
        }
        let encode = move |_: &AppState| {
            encoded(&result, &query, format).map_err(|error| {
                ApiError::new(
                    ErrorType::Execution,
                    format!("cannot write the answer: {error}"),
                )
            })
        };
        let body = state.blocking(encode).await?;
        let headers = [(header::CONTENT_TYPE, format.content_type())];
        return Ok((headers, active.whole(body)).into_response());
    }
    // In pieces, so that a large matrix is never held as one text.
    let pieces = pieces(result, &query, time, limit, stats.as_deref());
    let headers = [(header::CONTENT_TYPE, "application/json")];
    Ok((headers, active.pieces(pieces)).into_response())
}

fn check_text(state: &AppState, query: &str) -> Result<(), ApiError> {
    let bytes_max = state.settings().query_text_max.as_usize();
    if query.len() > bytes_max {
        return Err(ApiError::parameter(
            "query",
            format!(
                "query of {} bytes, at most {bytes_max} are allowed",
                query.len()
            ),
        ));
    }
    Ok(())
}

fn observe(state: &AppState, time: QueryTime, took: Duration) {
    let metrics = state.metrics();
    match time {
        QueryTime::Instant { .. } => metrics.query_duration.observe(took),
        QueryTime::Range { .. } => metrics.query_range_duration.observe(took),
    }
}

impl From<PromqlError> for ApiError {
    fn from(error: PromqlError) -> Self {
        let kind = match &error {
            PromqlError::Parse(_) => return Self::parameter("query", error),
            PromqlError::BadRequest(_) => ErrorType::BadData,
            PromqlError::Timeout => ErrorType::Timeout,
            PromqlError::OutOfMemory(_) => ErrorType::Unavailable,
            PromqlError::Cancelled => ErrorType::Canceled,
            PromqlError::Storage(_) | PromqlError::Internal(_) => ErrorType::Internal,
            _ => ErrorType::Execution,
        };
        if kind == ErrorType::Internal {
            tracing::error!(%error, "query failed");
        }
        Self::new(kind, error.to_string())
    }
}

/// The answer as a table in a format of the SQL interface: one column a label, `time`, `value`. Warnings
/// and infos are in the schema's metadata, as JSON lists, for the formats that have one.
///
/// # Errors
/// The table exceeds what the format can hold.
pub fn encoded(result: &QueryResult, query: &str, format: Format) -> Result<Vec<u8>, ArrowError> {
    let batch = result.value.to_batch()?;
    let mut metadata = batch.schema().metadata().clone();
    let remarks = [
        (WARNINGS, result.annotations.warnings(query)),
        (INFOS, result.annotations.infos(query)),
    ];
    for (name, texts) in remarks {
        if !texts.is_empty() {
            metadata.insert(name.to_owned(), serde_json::json!(texts).to_string());
        }
    }
    let schema = Schema::clone(&batch.schema()).with_metadata(metadata);
    let batch = batch.with_schema(Arc::new(schema))?;
    encode(format, batch.schema(), &[batch])
}

/// Names of the remarks in the envelope and in a schema's metadata.
pub const WARNINGS: &str = "warnings";
/// The same for infos.
pub const INFOS: &str = "infos";

/// The whole answer as one text.
#[must_use]
pub fn answer_text(result: QueryResult, query: &str, time: QueryTime) -> String {
    let pieces = pieces(result, query, time, None, None);
    let bytes: Vec<u8> = pieces.flat_map(Vec::from).collect();
    String::from_utf8(bytes).unwrap_or_default()
}

fn pieces(
    result: QueryResult,
    query: &str,
    time: QueryTime,
    limit: Option<usize>,
    stats: Option<&str>,
) -> Pieces {
    let QueryResult {
        mut value,
        annotations,
        stats: figures,
        text,
        ..
    } = result;
    let mut warnings = annotations.warnings(query);
    let infos = annotations.infos(query);
    if let Some(limit) = limit
        && truncate(&mut value, limit)
    {
        warnings.push(TRUNCATED.to_owned());
    }
    let mut head = String::from("{\"status\":\"success\",\"data\":{\"resultType\":\"");
    head.push_str(value.type_name());
    head.push_str("\",\"result\":");
    let mut tail = String::new();
    if let Some(asked) = stats {
        tail.push_str(",\"stats\":");
        push_stats(&mut tail, &figures, time);
        if !matches!(asked, "true" | "all") {
            warnings.push(format!(
                "stats parameter value {asked:?} is deprecated, use true or all"
            ));
        }
    }
    tail.push('}');
    push_remarks(&mut tail, &warnings, &infos);
    tail.push('}');
    Pieces::new(head, value, tail, text)
}

fn truncate(value: &mut Value, limit: usize) -> bool {
    let length = match value {
        Value::Vector(elements) => {
            let length = elements.len();
            elements.truncate(limit);
            length
        }
        Value::Matrix(series) => {
            let length = series.len();
            series.truncate(limit);
            length
        }
        Value::Scalar(_) | Value::String { .. } => 0,
    };
    length > limit
}

fn step_time_ms(time: QueryTime, index: usize) -> i64 {
    match time {
        QueryTime::Instant { time_ms } => time_ms,
        QueryTime::Range {
            start_ms, step_ms, ..
        } => start_ms + step_ms * index as i64,
    }
}

fn push_stats(out: &mut String, stats: &QueryStats, time: QueryTime) {
    let timings = [
        ("evalTotalTime", stats.preparation + stats.evaluation),
        ("resultSortTime", stats.sorting),
        ("queryPreparationTime", stats.preparation),
        (
            "innerEvalTime",
            stats.evaluation.saturating_sub(stats.sorting),
        ),
        ("execQueueTime", stats.queued),
        ("execTotalTime", stats.total()),
    ];
    out.push_str("{\"timings\":{");
    for (index, (name, duration)) in timings.into_iter().enumerate() {
        if index > 0 {
            out.push(',');
        }
        json::push_string(out, name);
        out.push(':');
        number::push_float(out, duration.as_secs_f64());
    }
    out.push_str("},\"samples\":{\"totalQueryableSamples\":");
    number::push_unsigned(out, stats.samples.queryable);
    out.push_str(",\"samplesRead\":");
    number::push_unsigned(out, stats.samples.read);
    out.push_str(",\"peakSamples\":");
    number::push_unsigned(out, stats.samples.peak);
    if let Some(per_step) = &stats.samples.per_step {
        let lists = [
            ("totalQueryableSamplesPerStep", &per_step.queryable),
            ("samplesReadPerStep", &per_step.read),
        ];
        for (name, counts) in lists {
            out.push(',');
            json::push_string(out, name);
            out.push(':');
            json::push_array(out, counts.iter().enumerate(), |out, (index, count)| {
                out.push('[');
                number::push_timestamp(out, step_time_ms(time, index));
                out.push(',');
                number::push_unsigned(out, *count);
                out.push(']');
            });
        }
    }
    out.push_str("}}");
}

/// `GET|POST /api/v1/format_query`
pub async fn format(State(state): State<AppState>, params: Params) -> Result<Response, ApiError> {
    let query = params.get("query").unwrap_or("");
    check_text(&state, query)?;
    let parsed = state.promql().parse(query)?;
    let mut data = String::new();
    json::push_string(&mut data, &pretty(parsed.expr()));
    Ok(success(&data, &[], &[]))
}

/// `GET|POST /api/v1/parse_query`
pub async fn parse(State(state): State<AppState>, params: Params) -> Result<Response, ApiError> {
    let query = params.get("query").unwrap_or("");
    check_text(&state, query)?;
    let parsed = state.promql().parse(query)?;
    Ok(success(&syntax_tree(parsed.expr()).to_string(), &[], &[]))
}
