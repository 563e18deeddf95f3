//! What Grafana and Loki's own tools ask about the server itself.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{StatusCode, header};
use serde_json::{Value, json};

use super::listing::JSON;
use crate::api::{health, status};
use crate::process::level;
use crate::rows::labels::SERVICE_LABELS;
use crate::state::AppState;

fn json_answer(value: &Value) -> Response {
    (JSON, value.to_string()).into_response()
}

/// `GET /loki/api/v1/status/buildinfo`: without an envelope, as Loki has it.
pub async fn build_info() -> Response {
    json_answer(&json!({
        "version": crate::VERSION,
        "revision": option_env!("CHRONOLITH_REVISION").unwrap_or(""),
        "branch": "",
        "buildUser": "",
        "buildDate": "",
        "goVersion": "",
        "application": "chronolith",
    }))
}

/// `GET /loki/api/v1/drilldown-limits`: what Logs Drilldown may ask for.
pub async fn drilldown_limits(State(state): State<AppState>) -> Response {
    let (settings, options) = (state.settings(), state.logql().options());
    let seconds = |time: std::time::Duration| format!("{}s", time.as_secs());
    json_answer(&json!({
        "limits": {
            "discover_log_levels": true,
            "discover_service_name": SERVICE_LABELS,
            "log_level_fields": level::KEYS,
            "max_entries_limit_per_query": options.lines_max,
            "max_line_size_truncate": false,
            "max_query_bytes_read": "0B",
            "max_query_length": "0s",
            "max_query_lookback": "0s",
            "max_query_range": "0s",
            "max_query_series": options.series_max,
            "metric_aggregation_enabled": false,
            "otlp_config": {},
            "pattern_persistence_enabled": true,
            "query_timeout": seconds(settings.query_timeout),
            "retention_period": seconds(settings.retention),
            "volume_enabled": true,
            "volume_max_series": super::explore::VOLUMES_MAX,
        },
        "pattern_ingester_enabled": true,
        "version": crate::VERSION,
    }))
}

/// `GET /ready` and `/loki/ready`: in Loki's words.
pub async fn ready(State(state): State<AppState>) -> Response {
    match health::unready(&state) {
        Some(reason) => {
            let text = format!("Chronolith is not ready: {reason}\n");
            (StatusCode::SERVICE_UNAVAILABLE, text).into_response()
        }
        None => "ready\n".into_response(),
    }
}

/// `GET /config`: the settings as YAML.
pub async fn config(State(state): State<AppState>) -> Response {
    let yaml = [(header::CONTENT_TYPE, "text/yaml; charset=UTF-8")];
    (yaml, status::config_yaml(&state)).into_response()
}

/// `GET /loki/api/v1/rules[/{namespace}[/{group}]]`: there is no rule engine yet, so there is nothing to
/// list; Loki answers so too.
pub async fn rules() -> Response {
    (StatusCode::NOT_FOUND, "no rule groups found\n").into_response()
}

/// `GET /services`: what runs, as Loki lists its modules.
pub async fn services(State(state): State<AppState>) -> Response {
    let word = match state.is_stopping() {
        true => "Stopping",
        false => "Running",
    };
    let names = ["store", "server", "querier", "distributor"];
    names
        .map(|name| format!("{name} => {word}\n"))
        .concat()
        .into_response()
}
