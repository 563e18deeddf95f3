//! What the monitor of Jaeger's user interface asks: latencies, calls and errors of services, worked out
//! from their spans. The answer is a metric family as OpenMetrics' protobuf messages have it, in JSON.

use std::fmt::Write as _;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use chronolith_engine::model::SpanKind;
use chronolith_query::traces::monitor::{MonitorRequest, MonitorSeries, Quantity, monitor};

use super::{Answer, Extracted, TAIL, asked, params};
use crate::api::params::Params;
use crate::api::traces::JSON;
use crate::error::ApiError;
use crate::request::Caller;
use crate::state::AppState;
use crate::wire::json::{push_array, push_string};
use crate::wire::time::push_rfc3339_ms;

const LOOKBACK_DEFAULT_MS: i64 = 3_600_000;
const STEP_DEFAULT_MS: i64 = 5_000;
const WINDOW_DEFAULT_MS: i64 = 600_000;
const SERVICES_MAX: usize = 1_000;

/// The names of what is asked for, in the metric family.
struct Family {
    /// Behind `service_` or `service_operation_`.
    name: &'static str,
    help: String,
    quantity: Quantity,
}

/// `GET /jaeger/api/metrics/latencies`
///
/// # Errors
/// As Jaeger's.
pub async fn latencies(
    State(state): State<AppState>,
    caller: Extracted<Caller>,
    params: Extracted<Params>,
) -> Answer {
    let (caller, params) = (caller?, params?);
    let text = params.get("quantile").unwrap_or("");
    let quantile = text.parse::<f64>().ok().filter(|q| (0.0..=1.0).contains(q));
    let Some(quantile) = quantile else {
        let text: String = text.chars().take(100).collect();
        let words = format!("unable to parse param 'quantile': {text:?}: expected 0 to 1");
        return Err(ApiError::bad_data(words).into());
    };
    let family = Family {
        name: "latencies",
        help: format!("{quantile}th quantile latency, grouped by service"),
        quantity: Quantity::Latency(quantile),
    };
    answer(state, caller, &params, family).await
}

/// `GET /jaeger/api/metrics/calls`
///
/// # Errors
/// As Jaeger's.
pub async fn calls(
    State(state): State<AppState>,
    caller: Extracted<Caller>,
    params: Extracted<Params>,
) -> Answer {
    let family = Family {
        name: "call_rate",
        help: "calls/sec, grouped by service".to_owned(),
        quantity: Quantity::Calls,
    };
    answer(state, caller?, &params?, family).await
}

/// `GET /jaeger/api/metrics/errors`
///
/// # Errors
/// As Jaeger's.
pub async fn errors(
    State(state): State<AppState>,
    caller: Extracted<Caller>,
    params: Extracted<Params>,
) -> Answer {
    let family = Family {
        name: "error_rate",
        help: "error rate, computed as a fraction of errors/sec over calls/sec, grouped by service"
            .to_owned(),
        quantity: Quantity::Errors,
    };
    answer(state, caller?, &params?, family).await
}

/// `GET /jaeger/api/metrics/minstep`: steps may be as short as a millisecond.
pub async fn min_step() -> Response {
    let headers = [(http::header::CONTENT_TYPE, JSON)];
    (headers, format!("{{\"data\":1{TAIL}")).into_response()
}

fn request(params: &Params, quantity: Quantity) -> Result<MonitorRequest, ApiError> {
    let services: Vec<String> = params
        .all("service")
        .filter(|service| !service.is_empty())
        .map(str::to_owned)
        .collect();
    if services.is_empty() {
        return Err(params::service_required());
    }
    if services.len() > SERVICES_MAX {
        let count = services.len();
        return Err(ApiError::bad_data(format!(
            "{count} services, at most {SERVICES_MAX}"
        )));
    }
    let kinds = params.all("spanKind").filter(|kind| !kind.is_empty());
    let mut kinds = kinds
        .map(|kind| params::kind("spanKind", kind))
        .collect::<Result<Vec<_>, _>>()?;
    if kinds.is_empty() {
        kinds.push(SpanKind::Server);
    }
    let (start_ms, end_ms) = params::lookback_range(params, LOOKBACK_DEFAULT_MS)?;
    Ok(MonitorRequest {
        services,
        kinds,
        by_operation: params::flag(params, "groupByOperation")?,
        quantity,
        start_ms,
        end_ms,
        step_ms: params::milliseconds(params, "step", STEP_DEFAULT_MS)?,
        window_ms: params::milliseconds(params, "ratePer", WINDOW_DEFAULT_MS)?,
    })
}

async fn answer(state: AppState, caller: Caller, params: &Params, family: Family) -> Answer {
    let request = request(params, family.quantity)?;
    let asked = asked(state, caller, params, &format!("metrics/{}", family.name));
    let answer = asked.answer(JSON, move |question, writer| {
        let series = monitor(question.source, question.context, &request)?;
        let (prefix, more) = match request.by_operation {
            true => ("service_operation_", " & operation"),
            false => ("service_", ""),
        };
        let _ = write!(
            writer.out,
            "{{\"name\":\"{prefix}{}\",\"type\":\"GAUGE\",\"help\":\"{}{more}\",\"metrics\":[",
            family.name, family.help
        );
        for (number, series) in series.iter().enumerate() {
            if number > 0 {
                writer.out.push(',');
            }
            push_series(&mut writer.out, series, family.quantity);
            writer.breathe()?;
        }
        writer.out.push_str("]}");
        Ok(())
    });
    Ok(answer.await?)
}

fn push_series(out: &mut String, series: &MonitorSeries, quantity: Quantity) {
    out.push_str("{\"labels\":[");
    if let Some(operation) = &series.operation {
        out.push_str("{\"name\":\"operation\",\"value\":");
        push_string(out, operation);
        out.push_str("},");
    }
    out.push_str("{\"name\":\"service_name\",\"value\":");
    push_string(out, &series.service);
    out.push_str("}],\"metricPoints\":");
    // Jaeger's latencies are in milliseconds.
    let unit = match quantity {
        Quantity::Latency(_) => 1e6,
        Quantity::Calls | Quantity::Errors => 1.0,
    };
    push_array(out, &series.points, |out, (time_ms, value)| {
        let _ = write!(
            out,
            "{{\"gaugeValue\":{{\"doubleValue\":{}}},\"timestamp\":\"",
            value / unit
        );
        push_rfc3339_ms(out, *time_ms);
        out.push_str("\"}");
    });
    out.push('}');
}
