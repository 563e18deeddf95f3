//! What is scraped and how that goes: targets, pools, target metadata.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use axum::extract::State;
use axum::response::Response;
use chronolith_engine::model::{Labels, LabelsBuilder, Metadata};
use chronolith_query::promql::parser;

use super::envelope::success;
use super::params::Params;
use super::selectors::matchers;
use super::status::hide_secrets;
use crate::error::ApiError;
use crate::scrape::config::ScrapeConfig;
use crate::scrape::manager::TargetReport;
use crate::scrape::relabel;
use crate::state::AppState;
use crate::telemetry::rfc3339;
use crate::wire::yaml::Yaml;
use crate::wire::{json, number};

/// `GET /api/v1/targets`
pub async fn targets(State(state): State<AppState>, params: Params) -> Result<Response, ApiError> {
    let pool = params.get_filled("scrapePool");
    let wanted = params.get("state").unwrap_or_default().to_lowercase();
    if !matches!(wanted.as_str(), "" | "any" | "active" | "dropped") {
        let reason = format!("{wanted:?} is not any, active or dropped");
        return Err(ApiError::parameter("state", reason));
    }
    let of_pool = |job: &str| pool.is_none_or(|pool| pool == job);
    let mut data = String::from("{\"activeTargets\":");
    let active: Vec<TargetReport> = match wanted.as_str() {
        "dropped" => Vec::new(),
        _ => active_targets(&state, of_pool),
    };
    json::push_array(&mut data, &active, push_target);
    data.push_str(",\"droppedTargets\":");
    let dropped = state.scraper().dropped();
    let shown = dropped
        .iter()
        .filter(|(job, _)| wanted != "active" && of_pool(job));
    json::push_array(&mut data, shown, |out, (job, labels)| {
        out.push_str("{\"discoveredLabels\":");
        json::push_labels(out, labels);
        out.push_str(",\"scrapePool\":");
        json::push_string(out, job);
        out.push('}');
    });
    data.push_str(",\"droppedTargetCounts\":{");
    let jobs = state.scraper().jobs();
    for (index, job) in jobs.iter().filter(|job| of_pool(job)).enumerate() {
        if index > 0 {
            data.push(',');
        }
        json::push_string(&mut data, job);
        data.push(':');
        let count = dropped.iter().filter(|(of, _)| of == job).count();
        number::push_unsigned(&mut data, count as u64);
    }
    data.push_str("}}");
    Ok(success(&data, &[], &[]))
}

fn active_targets(state: &AppState, of_pool: impl Fn(&str) -> bool) -> Vec<TargetReport> {
    let mut active = state.scraper().targets();
    active.retain(|target| of_pool(&target.job));
    active
}

/// `GET /api/v1/targets/metadata`: what targets said about their metrics in their last scrape.
pub async fn metadata(State(state): State<AppState>, params: Params) -> Result<Response, ApiError> {
    let limit = params.limit()?.unwrap_or(usize::MAX);
    let metric = params.get_filled("metric");
    let selected = match params.get_filled("match_target") {
        None => Vec::new(),
        Some(text) => {
            let refused = |e: &dyn std::fmt::Display| ApiError::parameter("match_target", e);
            let selector = parser::parse_selector(text).map_err(|e| refused(&e))?;
            matchers(&selector)?
        }
    };
    let passes = |labels: &Labels| {
        let value = |name: &str| labels.get(name).unwrap_or_default();
        selected.iter().all(|m| m.matches(value(m.name())))
    };
    let targets = active_targets(&state, |_| true);
    let found = targets
        .iter()
        .filter(|report| passes(&report.target.labels))
        .flat_map(|report| {
            let wanted = report.metadata.iter();
            let wanted = wanted.filter(|(name, _)| metric.is_none_or(|metric| metric == *name));
            wanted.map(move |(name, about)| (&report.target.labels, name, about))
        })
        .take(limit);
    let mut data = String::new();
    json::push_array(&mut data, found, |out, (labels, name, about)| {
        out.push_str("{\"target\":");
        json::push_labels(out, labels);
        if metric.is_none() {
            out.push_str(",\"metric\":");
            json::push_string(out, name);
        }
        out.push(',');
        push_metadata_fields(out, about);
        out.push('}');
    });
    Ok(success(&data, &[], &[]))
}

/// Appends `"type":…,"unit":…,"help":…`, as all lists of metadata have them.
pub(super) fn push_metadata_fields(out: &mut String, about: &Metadata) {
    let fields = [
        ("\"type\":", about.metric_type.as_str()),
        (",\"unit\":", &about.unit),
        (",\"help\":", &about.help),
    ];
    for (name, text) in fields {
        out.push_str(name);
        json::push_string(out, text);
    }
}

/// A pool that a request names.
fn named_pool(state: &AppState, params: &Params) -> Result<Arc<ScrapeConfig>, ApiError> {
    let Some(pool) = params.get_filled("scrapePool") else {
        return Err(ApiError::bad_data("no scrapePool parameter provided"));
    };
    let job = state.scraper().job(pool);
    job.ok_or_else(|| ApiError::bad_data(format!("scrape pool {pool:?} not found")))
}

/// `GET /api/v1/targets/relabel_steps`: how a label set fares with a pool's rules, rule by rule.
pub async fn relabel_steps(
    State(state): State<AppState>,
    params: Params,
) -> Result<Response, ApiError> {
    let job = named_pool(&state, &params)?;
    let Some(text) = params.get_filled("labels") else {
        return Err(ApiError::bad_data("no labels parameter provided"));
    };
    let labels: BTreeMap<String, String> = serde_json::from_str(text)
        .map_err(|e| ApiError::bad_data(format!("error parsing labels: {e}")))?;
    let mut builder = LabelsBuilder::new();
    for (name, value) in &labels {
        builder.set(name, value);
    }
    let mut kept = true;
    let mut steps = Vec::with_capacity(job.relabel_rules.len());
    for rule in &job.relabel_rules {
        // What a rule has dropped comes to no rule after it.
        kept = kept && relabel::apply_all(std::slice::from_ref(rule), &mut builder);
        let output: BTreeMap<&str, &str> = match kept {
            true => builder
                .iter()
                .filter(|(_, value)| !value.is_empty())
                .collect(),
            false => BTreeMap::new(),
        };
        steps.push(serde_json::json!({
            "rule": rule.config(),
            "output": output,
            "keep": kept,
        }));
    }
    let data = serde_json::json!({ "steps": steps });
    Ok(success(&data.to_string(), &[], &[]))
}

/// `GET /api/v1/scrape_pools`
pub async fn scrape_pools(State(state): State<AppState>) -> Response {
    let mut jobs = state.scraper().jobs();
    jobs.sort_unstable();
    let mut data = String::from("{\"scrapePools\":");
    json::push_array(&mut data, &jobs, |out, job| json::push_string(out, job));
    data.push('}');
    success(&data, &[], &[])
}

/// `GET /api/v1/scrape_pools/config`: the job as it was written, without its secrets.
pub async fn scrape_pool_config(
    State(state): State<AppState>,
    params: Params,
) -> Result<Response, ApiError> {
    let job = named_pool(&state, &params)?;
    let mut written = job.written.clone();
    hide_secrets(&mut written, false);
    let data = serde_json::json!({ "yaml": Yaml::from(&written).to_text() });
    Ok(success(&data.to_string(), &[], &[]))
}

fn push_target(out: &mut String, report: &TargetReport) {
    let field = |out: &mut String, name: &str, text: &str| {
        out.push_str(",\"");
        out.push_str(name);
        out.push_str("\":");
        json::push_string(out, text);
    };
    out.push_str("{\"discoveredLabels\":");
    json::push_labels(out, &report.target.discovered);
    out.push_str(",\"labels\":");
    json::push_labels(out, &report.target.labels);
    field(out, "scrapePool", &report.job);
    field(out, "scrapeUrl", &report.target.url);
    field(out, "globalUrl", &report.target.url);
    field(out, "lastError", &report.health.last_error);
    let last = match u64::try_from(report.health.last_scrape_ms) {
        // As Go writes a time that was never set.
        Ok(0) | Err(_) => "0001-01-01T00:00:00Z".to_owned(),
        Ok(ms) => rfc3339(UNIX_EPOCH + Duration::from_millis(ms)),
    };
    field(out, "lastScrape", &last);
    out.push_str(",\"lastScrapeDuration\":");
    number::push_float(out, report.health.last_duration.as_secs_f64());
    let health = match report.health.up {
        None => "unknown",
        Some(true) => "up",
        Some(false) => "down",
    };
    field(out, "health", health);
    field(out, "scrapeInterval", &duration(report.interval));
    field(out, "scrapeTimeout", &duration(report.timeout));
    out.push('}');
}

fn duration(of: Duration) -> String {
    let ms = of.as_millis();
    if ms.is_multiple_of(60_000) {
        format!("{}m", ms / 60_000)
    } else if ms.is_multiple_of(1000) {
        format!("{}s", ms / 1000)
    } else {
        format!("{ms}ms")
    }
}
