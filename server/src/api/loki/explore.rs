//! `index/*`, `detected_*`, `patterns`: what Grafana asks before it knows what to ask.

use std::collections::{BTreeMap, HashSet};
use std::fmt::Write as _;

use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use chronolith_engine::model::{Signal, TimeRange};
use chronolith_query::logql::ast::LogExpr;
use chronolith_query::logql::eval::explore::{
    LogStats, PatternRequest, Volume, VolumeBy, VolumeRequest, detect_fields, field_values,
    log_stats, patterns, volumes,
};
use chronolith_query::logql::eval::{LogQlError, QueryParams, QueryValue, StreamResult};
use chronolith_query::logql::parser::parse_log;

use super::listing::{JSON, list, matchers};
use super::times::{default_step_ns, duration_ns, range_ns};
use super::{LokiError, wire};
use crate::active::ActiveQuery;
use crate::api::params::Params;
use crate::error::ApiError;
use crate::request::Caller;
use crate::state::AppState;
use crate::wire::json::{push_array, push_string};
use crate::wire::number;

/// Volumes of an answer unless the client says.
const VOLUMES_DEFAULT: usize = 100;
/// The most volumes of an answer.
pub(super) const VOLUMES_MAX: usize = 10_000;
/// Fields of an answer, and values of a field, unless the client says.
const FIELDS_DEFAULT: usize = 1_000;
/// Lines that are looked at for fields unless the client says.
const FIELD_LINES_DEFAULT: usize = 1_000;
/// Patterns of an answer.
const PATTERNS_MAX: usize = 300;
/// The smallest step of patterns: ten seconds, as in Loki.
const PATTERN_STEP_MIN_NS: i64 = 10_000_000_000;
/// Nanoseconds of a millisecond and of a second.
const MS_NS: i64 = 1_000_000;
const SECOND_NS: i64 = 1_000_000_000;

fn time_range(params: &Params) -> Result<TimeRange, ApiError> {
    let (start, end) = range_ns(params)?;
    Ok(TimeRange::new(start, end))
}

fn plain(error: LogQlError) -> ApiError {
    LokiError::from(error).0
}

fn count(params: &Params, name: &str, default: usize, max: usize) -> Result<usize, ApiError> {
    Ok(params.count(name)?.unwrap_or(default).min(max))
}

fn push_log_stats(out: &mut String, stats: &LogStats) {
    let _ = write!(
        out,
        "{{\"streams\":{},\"chunks\":{},\"entries\":{},\"bytes\":{}}}",
        stats.streams, stats.chunks, stats.entries, stats.bytes
    );
}

/// `GET|POST /loki/api/v1/index/stats`
///
/// # Errors
/// As Loki's.
pub async fn index_stats(
    State(state): State<AppState>,
    caller: Caller,
    params: Params,
) -> Result<Response, LokiError> {
    let (range, matchers) = (time_range(&params)?, matchers(params.get("query"))?);
    let what = params.shown_after("index/stats");
    list(state, caller, &params, what, move |state, context| {
        let source = state.logql().source();
        let stats = log_stats(source, context, &matchers, range).map_err(plain)?;
        let mut out = String::new();
        push_log_stats(&mut out, &stats);
        Ok(out)
    })
    .await
}

/// `GET|POST /loki/api/v1/index/shards`: all there is as one shard, since a query is spread over the
/// threads of this machine anyway.
///
/// # Errors
/// As Loki's.
pub async fn index_shards(
    State(state): State<AppState>,
    caller: Caller,
    params: Params,
) -> Result<Response, LokiError> {
    let (range, matchers) = (time_range(&params)?, matchers(params.get("query"))?);
    let what = params.shown_after("index/shards");
    list(state, caller, &params, what, move |state, context| {
        let source = state.logql().source();
        let stats = log_stats(source, context, &matchers, range).map_err(plain)?;
        let mut out = format!(
            "{{\"shards\":[{{\"bounds\":{{\"min\":0,\"max\":{}}},\"stats\":",
            u64::MAX
        );
        push_log_stats(&mut out, &stats);
        out.push_str("}],\"statistics\":{},\"chunkGroups\":[]}");
        Ok(out)
    })
    .await
}

fn volume_request(params: &Params) -> Result<VolumeRequest, LokiError> {
    let by = match params.get_filled("aggregateBy") {
        None | Some("series") => VolumeBy::Series,
        Some("labels") => VolumeBy::Labels,
        Some(other) => {
            let message =
                format!("invalid aggregation option {other:?}: expected series or labels");
            return Err(ApiError::parameter("aggregateBy", message).into());
        }
    };
    let targets = params.get_filled("targetLabels").unwrap_or_default();
    let targets = targets
        .split(',')
        .map(str::trim)
        .filter(|name| !name.is_empty());
    Ok(VolumeRequest {
        matchers: matchers(params.get("query"))?,
        range: time_range(params)?,
        target_labels: targets.map(str::to_owned).collect(),
        by,
        step_ns: None,
        limit: count(params, "limit", VOLUMES_DEFAULT, VOLUMES_MAX)?,
    })
}

/// `GET|POST /loki/api/v1/index/volume`
///
/// # Errors
/// As Loki's.
pub async fn index_volume(
    State(state): State<AppState>,
    caller: Caller,
    params: Params,
) -> Result<Response, LokiError> {
    let wanted = volume_request(&params)?;
    let end_ms = wanted.range.end.0 / MS_NS;
    let what = params.shown_after("index/volume");
    list(state, caller, &params, what, move |state, context| {
        let found = volumes(state.logql().source(), context, &wanted).map_err(plain)?;
        Ok(volumes_answer("vector", &found, |out, volume| {
            out.push_str(",\"value\":");
            push_volume(out, end_ms, volume.bytes);
        }))
    })
    .await
}

/// `GET|POST /loki/api/v1/index/volume_range`
///
/// # Errors
/// As Loki's.
pub async fn index_volume_range(
    State(state): State<AppState>,
    caller: Caller,
    params: Params,
) -> Result<Response, LokiError> {
    let mut wanted = volume_request(&params)?;
    wanted.step_ns = Some(match params.get_filled("step") {
        Some(text) => duration_ns("step", text)?,
        None => default_step_ns(wanted.range.start.0, wanted.range.end.0),
    });
    let what = params.shown_after("index/volume_range");
    list(state, caller, &params, what, move |state, context| {
        let found = volumes(state.logql().source(), context, &wanted).map_err(plain)?;
        Ok(volumes_answer("matrix", &found, |out, volume| {
            out.push_str(",\"values\":");
            push_array(out, &volume.points, |out, (begin_ns, bytes)| {
                push_volume(out, begin_ns / MS_NS, *bytes);
            });
        }))
    })
    .await
}

fn volumes_answer(
    kind: &str,
    volumes: &[Volume],
    push_values: impl Fn(&mut String, &Volume),
) -> String {
    let mut out =
        format!("{{\"status\":\"success\",\"data\":{{\"resultType\":\"{kind}\",\"result\":");
    push_array(&mut out, volumes, |out, volume| {
        out.push_str("{\"metric\":");
        wire::push_pairs(
            out,
            volume.labels.iter().map(|(n, v)| (n.as_str(), v.as_str())),
        );
        push_values(out, volume);
        out.push('}');
    });
    out.push_str(",\"stats\":{}}}");
    out
}

fn push_volume(out: &mut String, time_ms: i64, bytes: u64) {
    out.push('[');
    number::push_timestamp(out, time_ms);
    let _ = write!(out, ",\"{bytes}\"]");
}

/// Whether values are numbers or UUIDs: nobody looks around by them.
fn is_id(value: &str) -> bool {
    let is_uuid = value.len() == 36
        && value.bytes().enumerate().all(|(at, b)| match at {
            8 | 13 | 18 | 23 => b == b'-',
            _ => b.is_ascii_hexdigit(),
        });
    is_uuid || value.parse::<f64>().is_ok()
}

/// `GET|POST /loki/api/v1/detected_labels`
///
/// # Errors
/// As Loki's.
pub async fn detected_labels(
    State(state): State<AppState>,
    caller: Caller,
    params: Params,
) -> Result<Response, LokiError> {
    let (range, matchers) = (time_range(&params)?, matchers(params.get("query"))?);
    let what = params.shown_after("detected_labels");
    list(state, caller, &params, what, move |state, context| {
        let store = state.store();
        let streams = store.streams(context, Signal::Logs, &[matchers], range)?;
        let mut values: BTreeMap<&str, HashSet<&str>> = BTreeMap::new();
        for label in streams.iter().flat_map(|labels| labels.iter()) {
            values.entry(label.name).or_default().insert(label.value);
        }
        values.retain(|_, values| values.iter().any(|value| !is_id(value)));
        let mut out = String::from("{\"detectedLabels\":");
        push_array(&mut out, &values, |out, (name, values)| {
            out.push_str("{\"label\":");
            push_string(out, name);
            let _ = write!(out, ",\"cardinality\":{}}}", values.len());
        });
        out.push('}');
        Ok(out)
    })
    .await
}

/// Finds the last lines of the query and answers what `answer` makes of them.
async fn with_lines(
    state: AppState,
    caller: Caller,
    params: &Params,
    what: String,
    answer: impl FnOnce(&LogExpr, &[StreamResult]) -> String + Send + 'static,
) -> Result<Response, LokiError> {
    let text = params.get_filled("query").unwrap_or_default();
    let log = parse_log(text).map_err(LogQlError::from)?;
    let engine = state.logql().clone();
    let query = engine.parse(text)?;
    let (start, end) = range_ns(params)?;
    let lines_max = engine.options().lines_max;
    let wanted = QueryParams {
        limit: count(params, "line_limit", FIELD_LINES_DEFAULT, lines_max)?,
        ..QueryParams::range(start, end, SECOND_NS)
    };
    let timeout = params.timeout(state.settings().query_timeout)?;
    let begun = ActiveQuery::begin(&state, &caller, ("logql", &what), timeout).await;
    let (mut active, context) = begun?;
    let result = match engine.query(&context, &query, wanted).await {
        Ok(result) => result,
        Err(error) => {
            active.fail(&error);
            return Err(error.into());
        }
    };
    let made = state.blocking(move |_| match &result.value {
        QueryValue::Streams(streams) => Ok(answer(&log, streams)),
        _ => Err(ApiError::bad_data("only log selector is supported")),
    });
    match made.await {
        Ok(body) => Ok((JSON, active.whole(body)).into_response()),
        Err(error) => {
            active.fail(&error);
            Err(error.into())
        }
    }
}

/// `GET|POST /loki/api/v1/detected_fields`
///
/// # Errors
/// As Loki's.
pub async fn detected_fields(
    State(state): State<AppState>,
    caller: Caller,
    params: Params,
) -> Result<Response, LokiError> {
    let limit = count(&params, "limit", FIELDS_DEFAULT, FIELDS_DEFAULT)?;
    let what = params.shown_after("detected_fields");
    with_lines(state, caller, &params, what, move |log, streams| {
        let mut out = String::from("{\"fields\":");
        push_array(
            &mut out,
            detect_fields(log, streams, limit),
            |out, field| {
                out.push_str("{\"label\":");
                push_string(out, &field.label);
                let (kind, cardinality) = (field.kind.as_str(), field.cardinality);
                let _ = write!(
                    out,
                    ",\"type\":\"{kind}\",\"cardinality\":{cardinality},\"parsers\":"
                );
                match field.parsers.is_empty() {
                    true => out.push_str("null"),
                    false => {
                        push_array(out, &field.parsers, |out, parser| push_string(out, parser))
                    }
                }
                if !field.json_path.is_empty() {
                    out.push_str(",\"jsonPath\":");
                    push_array(out, &field.json_path, |out, key| push_string(out, key));
                }
                out.push('}');
            },
        );
        let _ = write!(out, ",\"limit\":{limit}}}");
        out
    })
    .await
}

/// `GET|POST /loki/api/v1/detected_field/{name}/values`
///
/// # Errors
/// As Loki's.
pub async fn detected_field_values(
    State(state): State<AppState>,
    Path(name): Path<String>,
    caller: Caller,
    params: Params,
) -> Result<Response, LokiError> {
    let limit = count(&params, "limit", FIELDS_DEFAULT, FIELDS_DEFAULT)?;
    let what = params.shown_after(&format!("detected_field/{name}/values"));
    with_lines(state, caller, &params, what, move |log, streams| {
        let values = field_values(log, streams, &name, limit);
        let mut out = String::from("{\"values\":");
        push_array(&mut out, &values, |out, value| push_string(out, value));
        let _ = write!(out, ",\"limit\":{limit}}}");
        out
    })
    .await
}

/// `GET|POST /loki/api/v1/patterns`
///
/// # Errors
/// As Loki's.
pub async fn log_patterns(
    State(state): State<AppState>,
    caller: Caller,
    params: Params,
) -> Result<Response, LokiError> {
    let log = parse_log(params.get("query").unwrap_or_default()).map_err(LogQlError::from)?;
    let (start_ns, end_ns) = range_ns(&params)?;
    let step_ns = match params.get_filled("step") {
        Some(text) => duration_ns("step", text)?,
        None => default_step_ns(start_ns, end_ns),
    };
    let step_ns = step_ns.max(PATTERN_STEP_MIN_NS);
    let wanted = PatternRequest {
        start_ns,
        end_ns,
        step_ns,
        limit: PATTERNS_MAX,
    };
    let what = params.shown_after("patterns");
    list(state, caller, &params, what, move |state, context| {
        let found = patterns(state.logql().source(), context, &log, wanted).map_err(plain)?;
        let mut out = String::from("{\"status\":\"success\",\"data\":");
        push_array(&mut out, &found, |out, found| {
            out.push_str("{\"pattern\":");
            push_string(out, &found.pattern);
            out.push_str(",\"samples\":");
            push_array(out, &found.samples, |out, (piece, lines)| {
                let seconds = piece.saturating_mul(step_ns) / SECOND_NS;
                let _ = write!(out, "[{seconds},{lines}]");
            });
            out.push('}');
        });
        out.push('}');
        Ok(out)
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::is_id;

    #[test]
    fn numbers_and_uuids_are_ids() {
        for (value, expected) in [
            ("17", true),
            ("-1.5e3", true),
            ("0b0c8e2f-46c0-4d8a-9b1e-0123456789ab", true),
            ("0b0c8e2f-46c0-4d8a-9b1e-0123456789ax", false),
            ("api", false),
            ("", false),
        ] {
            assert_eq!(is_id(value), expected, "{value}");
        }
    }
}
