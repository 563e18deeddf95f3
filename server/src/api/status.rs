//! `/api/v1/status/*`: what runs here, how it was configured, and what the index holds.

use std::time::SystemTime;

use axum::extract::State;
use axum::response::Response;
use chronolith_engine::Signal;
use chronolith_query::promql::ast::AggregateOp;
use chronolith_query::promql::functions::FUNCTIONS;
use serde_json::{Map, Value, json};

use super::envelope::success;
use super::params::Params;
use super::search;
use crate::config::{Config, TABLE};
use crate::error::ApiError;
use crate::request::Caller;
use crate::state::AppState;
use crate::telemetry::rfc3339;

/// Memory of a compiled pattern.
const PATTERN_BYTES_MAX: usize = 1 << 20;
/// The longest list of statistics.
const STATISTICS_MAX: usize = 10_000;

fn answer(data: &Value) -> Response {
    success(&data.to_string(), &[], &[])
}

/// `GET /api/v1/status/buildinfo`
pub async fn build_info() -> Response {
    answer(&json!({
        "version": crate::VERSION,
        "revision": option_env!("CHRONOLITH_REVISION").unwrap_or(""),
        "branch": "",
        "buildUser": "",
        "buildDate": "",
        "goVersion": "",
        "application": "chronolith",
    }))
}

/// `GET /api/v1/status/runtimeinfo`
pub async fn runtime_info(State(state): State<AppState>) -> Response {
    let settings = state.settings();
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get);
    let directory = std::env::current_dir().unwrap_or_default();
    let loaded = state.lifecycle().loaded();
    let mut retention = Vec::new();
    if !settings.retention.is_zero() {
        retention.push(text_of(state.config(), "retention"));
    }
    if settings.retention_size.0 > 0 {
        retention.push(text_of(state.config(), "retention_size"));
    }
    answer(&json!({
        "startTime": rfc3339(state.started()),
        "serverTime": rfc3339(SystemTime::now()),
        "CWD": directory.display().to_string(),
        "reloadConfigSuccess": loaded.succeeded,
        "lastConfigTime": rfc3339(loaded.at),
        "corruptionCount": 0,
        "goroutineCount": 0,
        "GOMAXPROCS": threads,
        "GOMEMLIMIT": settings.memory_max.0,
        "GOGC": "",
        "GODEBUG": "",
        "storageRetention": retention.join(" or "),
    }))
}

fn text_of(config: &Config, key: &str) -> String {
    let index = TABLE.iter().position(|s| s.key == key);
    let found = index.and_then(|i| config.sources.get(i));
    found.map_or(String::new(), |(text, _)| text.clone())
}

/// `GET /api/v1/status/flags`
pub async fn flags(State(state): State<AppState>) -> Response {
    let values = TABLE
        .iter()
        .zip(&state.config().sources)
        .map(|(setting, (text, _))| (setting.flag(), Value::from(text.as_str())));
    answer(&Value::Object(values.collect()))
}

/// `GET /api/v1/status/config`: the settings as YAML, and the file's sections without secrets.
pub async fn config(State(state): State<AppState>) -> Response {
    answer(&json!({ "yaml": config_yaml(&state) }))
}

pub(super) fn config_yaml(state: &AppState) -> String {
    let config = state.config();
    let mut yaml = String::new();
    for (setting, (text, _)) in TABLE.iter().zip(&config.sources) {
        yaml.push_str(&format!(
            "{}: {}\n",
            setting.key,
            Value::from(text.as_str())
        ));
    }
    let file = state.lifecycle().loaded().file;
    for name in file.section_names() {
        if let Some(section) = file.section(name) {
            let mut shown = section.value.clone();
            hide_secrets(&mut shown, false);
            // JSON is YAML in its flow style.
            yaml.push_str(&format!("{name}: {shown}\n"));
        }
    }
    yaml
}

/// Replaces what stands under keys that hold passwords, tokens and keys.
pub(super) fn hide_secrets(value: &mut Value, secret: bool) {
    match value {
        Value::Object(entries) => {
            for (key, inner) in entries {
                let names = [
                    "password",
                    "secret",
                    "token",
                    "credentials",
                    "basic_auth_users",
                ];
                let is_file = key.ends_with("_file");
                hide_secrets(
                    inner,
                    secret || (!is_file && names.iter().any(|n| key.contains(n))),
                );
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|i| hide_secrets(i, secret)),
        Value::Null => {}
        plain if secret => *plain = Value::from("<secret>"),
        _ => {}
    }
}

/// `GET /api/v1/status/tsdb`
pub async fn tsdb(
    State(state): State<AppState>,
    caller: Caller,
    params: Params,
) -> Result<Response, ApiError> {
    let limit = match params.get_filled("limit") {
        None => 10,
        Some(text) => match text.parse::<usize>() {
            Ok(limit @ 1..=STATISTICS_MAX) => limit,
            Ok(limit) if limit > STATISTICS_MAX => {
                let reason = format!("limit must not exceed {STATISTICS_MAX}");
                return Err(ApiError::parameter("limit", reason));
            }
            _ => {
                let reason = "limit must be a positive number";
                return Err(ApiError::parameter("limit", reason));
            }
        },
    };
    let timeout = state.settings().query_timeout;
    let (context, _cancel) = state.context(caller.tenant, caller.principal.as_ref(), timeout);
    let stats = state
        .blocking(move |state| Ok(state.store().tsdb_status(&context, limit)?))
        .await?;
    let list = |pairs: &[(String, u64)]| -> Value {
        pairs
            .iter()
            .map(|(name, value)| json!({"name": name, "value": value}))
            .collect()
    };
    let (start, end) = stats.head_range.map_or((i64::MAX, i64::MIN), |r| {
        (r.start.to_millis(), r.end.to_millis())
    });
    Ok(answer(&json!({
        "headStats": {
            "numSeries": stats.series,
            "numLabelPairs": stats.label_pairs,
            "chunkCount": stats.series,
            "minTime": start,
            "maxTime": end,
        },
        "seriesCountByMetricName": list(&stats.series_by_metric),
        "labelValueCountByLabelName": list(&stats.values_by_label),
        "memoryInBytesByLabelName": list(&stats.bytes_by_label),
        "seriesCountByLabelValuePair": list(&stats.series_by_pair),
    })))
}

/// `GET /api/v1/status/walreplay`: requests are answered only after it, so it is always over.
pub async fn wal_replay(State(state): State<AppState>) -> Response {
    let files = state.store().stats().replay.files;
    answer(&json!({ "min": 0, "max": files, "current": files }))
}

/// `GET /api/v1/status/tsdb/blocks`: the segments of the tenant's metrics, oldest first.
pub async fn blocks(State(state): State<AppState>, caller: Caller) -> Response {
    let mut segments = state.store().segments();
    segments.retain(|s| s.signal == Signal::Metrics && s.tenant == caller.tenant);
    segments.sort_by_key(|segment| (segment.range.start, segment.id));
    let blocks: Vec<Value> = segments
        .iter()
        .map(|segment| {
            json!({
                "ulid": format!("{:010}", segment.id.0),
                "minTime": segment.range.start.to_millis(),
                "maxTime": segment.range.end.to_millis(),
                "stats": {
                    "numSamples": segment.rows,
                    "numSeries": segment.series,
                    "numBytes": segment.bytes,
                },
                "compaction": { "level": u64::from(segment.level) + 1, "sources": [] },
                "version": 1,
            })
        })
        .collect();
    answer(&json!({ "blocks": blocks }))
}

/// `GET /api/v1/features`: what this server can do, as clients ask before they use it.
pub async fn features(State(state): State<AppState>) -> Response {
    let language = state.features();
    let functions: Map<String, Value> = FUNCTIONS
        .iter()
        .map(|f| {
            let on = !f.experimental || language.experimental_functions;
            (f.name.to_owned(), on.into())
        })
        .collect();
    let operators: Map<String, Value> = AggregateOp::ALL
        .iter()
        .map(|op| {
            let on = !op.experimental() || language.experimental_functions;
            (op.as_str().to_owned(), on.into())
        })
        .collect();
    answer(&json!({
        "api": {
            "admin": state.settings().enable_admin_api,
            "exemplars": true,
            "label_values_match": true,
            "lifecycle": state.settings().enable_lifecycle,
            "openapi_3.1": true,
            "openapi_3.2": true,
            "query_stats": true,
            "query_warnings": true,
            "remote_write_receiver": true,
            "search": state.settings().enable_feature.iter().any(|name| name == search::FEATURE),
            "sql": true,
            "time_range_labels": true,
        },
        "promql": {
            "anchored": language.extended_range_selectors,
            "at_modifier": true,
            "delayed_name_removal": language.delayed_name_removal,
            "duration_expr": true,
            "experimental_functions": language.experimental_functions,
            "fill": language.binop_fill_modifiers,
            "native_histograms": true,
            "negative_offset": true,
            "per_query_lookback_delta": true,
            "per_step_stats": language.per_step_stats,
            "smoothed": language.extended_range_selectors,
            "subqueries": true,
            "type_and_unit_labels": language.type_and_unit_labels,
            "use_start_timestamps": language.use_start_timestamps,
        },
        "promql_functions": functions,
        "promql_operators": operators,
        "scrape": {
            "convert_classic_histograms_to_nhcb": true,
            "scrape_config_files": true,
        },
        "service_discovery_providers": { "file": true, "static": true },
        "tsdb": { "delete": true, "native_histograms": true, "out_of_order": true },
    }))
}

/// `GET /api/v1/status/self_metrics[?metric_name_pattern=REGEX]`: the server's own metrics as
/// protobuf's JSON, those whose whole name matches.
pub async fn self_metrics(
    State(state): State<AppState>,
    params: Params,
) -> Result<Response, ApiError> {
    let pattern = match params.get_filled("metric_name_pattern") {
        None => None,
        Some(text) => {
            let regex = regex::RegexBuilder::new(&format!("^(?s:{text})$"))
                .size_limit(PATTERN_BYTES_MAX)
                .build();
            Some(regex.map_err(|e| ApiError::parameter("metric_name_pattern", e))?)
        }
    };
    let data = state
        .blocking(move |state| {
            let exposition = state.exposition();
            let is_wanted = |name: &str| pattern.as_ref().is_none_or(|p| p.is_match(name));
            let families = exposition.families.iter();
            let wanted = families.filter(|f| is_wanted(f.name) && !f.rows.is_empty());
            Ok(wanted.map(|f| f.to_metric_family().to_json()).collect())
        })
        .await?;
    Ok(answer(&data))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_hidden_and_file_names_are_not() {
        let mut value = json!({
            "basic_auth_users": {"alice": "$2b$"},
            "scrape_configs": [{"basic_auth": {"username": "u", "password": "p", "password_file": "f"}}],
        });
        hide_secrets(&mut value, false);
        assert_eq!(value["basic_auth_users"]["alice"], "<secret>");
        let auth = &value["scrape_configs"][0]["basic_auth"];
        assert_eq!(auth["password"], "<secret>");
        assert_eq!(
            (&auth["username"], &auth["password_file"]),
            (&json!("u"), &json!("f"))
        );
    }
}
