//! What is scraped and how that goes: targets, pools, target metadata.

use std::time::{Duration, UNIX_EPOCH};

use axum::extract::State;
use axum::response::Response;

use super::envelope::success;
use super::params::Params;
use crate::error::ApiError;
use crate::scrape::manager::TargetReport;
use crate::state::AppState;
use crate::telemetry::rfc3339;
use crate::wire::{json, number};

/// `GET /api/v1/targets`
pub async fn targets(State(state): State<AppState>, params: Params) -> Result<Response, ApiError> {
    let pool = params.get_filled("scrapePool");
    let wanted = params.get_filled("state").unwrap_or("any");
    if !matches!(wanted, "any" | "active" | "dropped") {
        return Err(ApiError::bad_data(format!(
            "invalid parameter \"state\": {wanted:?} is not any, active or dropped"
        )));
    }
    let of_pool = |job: &str| pool.is_none_or(|pool| pool == job);
    let mut data = String::from("{\"activeTargets\":");
    let active: Vec<TargetReport> = match wanted {
        "dropped" => Vec::new(),
        _ => state
            .scraper()
            .targets()
            .into_iter()
            .filter(|t| of_pool(&t.job))
            .collect(),
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
    for (index, job) in state
        .scraper()
        .jobs()
        .iter()
        .filter(|job| of_pool(job))
        .enumerate()
    {
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

/// `GET /api/v1/scrape_pools`
pub async fn scrape_pools(State(state): State<AppState>) -> Response {
    let mut data = String::from("{\"scrapePools\":");
    json::push_array(&mut data, state.scraper().jobs(), |out, job| {
        json::push_string(out, &job)
    });
    data.push('}');
    success(&data, &[], &[])
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
