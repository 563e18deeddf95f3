//! TraceQL metrics: series over a range, or one value each.

use std::fmt::Write as _;

use axum::extract::State;
use chronolith_query::traces::metrics::{
    MetricsAnswer, MetricsRequest, TraceExemplar, TraceSeries, label_text, metrics,
};

use super::search::parse;
use super::{Answer, Extracted, asked, count, push_attributes};
use crate::api::loki::times::{duration_ns, range_ns};
use crate::api::params::Params;
use crate::api::traces::JSON;
use crate::error::ApiError;
use crate::request::Caller;
use crate::state::AppState;
use crate::wire::json::{push_array, push_string};

/// Exemplars of an answer unless the client says.
const EXEMPLARS_DEFAULT: usize = 100;
const EXEMPLARS_MAX: usize = 1_000;
/// Steps of a range unless the client says.
const STEPS_DEFAULT: i64 = 120;
const SECOND_NS: i64 = 1_000_000_000;

/// Which of the two answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// A value at every step.
    Range,
    /// One value for the whole range.
    Instant,
}

/// `GET /tempo/api/metrics/query_range`
///
/// # Errors
/// As Tempo's.
pub async fn range(
    State(state): State<AppState>,
    caller: Extracted<Caller>,
    params: Extracted<Params>,
) -> Answer {
    answer(state, caller?, &params?, Shape::Range).await
}

/// `GET /tempo/api/metrics/query`
///
/// # Errors
/// As Tempo's.
pub async fn instant(
    State(state): State<AppState>,
    caller: Extracted<Caller>,
    params: Extracted<Params>,
) -> Answer {
    answer(state, caller?, &params?, Shape::Instant).await
}

async fn answer(state: AppState, caller: Caller, params: &Params, shape: Shape) -> Answer {
    let text = params
        .get_filled("q")
        .or_else(|| params.get_filled("query"));
    let Some(text) = text else {
        return Err(ApiError::bad_data("parameter \"q\" is required").into());
    };
    let query = parse(text)?;
    let (start_ns, end_ns) = range_ns(params)?;
    let step_ns = match (shape, params.get_filled("step")) {
        (Shape::Instant, _) => end_ns.saturating_sub(start_ns),
        (Shape::Range, Some(text)) => duration_ns("step", text)?,
        (Shape::Range, None) => {
            let step = end_ns.saturating_sub(start_ns) / STEPS_DEFAULT;
            (step / SECOND_NS * SECOND_NS).max(SECOND_NS)
        }
    };
    let exemplars = match shape {
        Shape::Instant => 0,
        Shape::Range => count(params, "exemplars", EXEMPLARS_DEFAULT, usize::MAX)?,
    };
    let request = MetricsRequest {
        start_ns,
        end_ns,
        step_ns,
        exemplars: exemplars.min(EXEMPLARS_MAX),
    };
    let path = match shape {
        Shape::Range => "metrics/query_range",
        Shape::Instant => "metrics/query",
    };
    let asked = asked(state, caller, params, path);
    let answer = asked.answer(JSON, move |question, writer| {
        let found = metrics(question.source, question.context, &query, &request)?;
        writer.out = metrics_text(&found, shape, question.context.usage.samples());
        Ok(())
    });
    Ok(answer.await?)
}

/// Series as the API answers them; `spans` were read for them.
#[must_use]
pub fn metrics_text(found: &MetricsAnswer, shape: Shape, spans: u64) -> String {
    let mut out = String::from("{\"series\":");
    push_array(&mut out, &found.series, |out, series| {
        push_series(out, found, series, shape);
    });
    let _ = write!(
        out,
        ",\"metrics\":{{\"inspectedSpans\":\"{spans}\",\"completedJobs\":1,\"totalJobs\":1}}}}"
    );
    out
}

fn push_series(out: &mut String, answer: &MetricsAnswer, series: &TraceSeries, shape: Shape) {
    out.push_str("{\"labels\":");
    push_attributes(out, &series.labels);
    let values = || {
        let values = series.values.iter().enumerate();
        values.filter(|(_, value)| value.is_finite())
    };
    match shape {
        Shape::Range => {
            out.push_str(",\"samples\":");
            push_array(out, values(), |out, (step, value)| {
                let time_ms = answer.steps.time_ms(step);
                let _ = write!(out, "{{\"timestampMs\":\"{time_ms}\",\"value\":{value}}}");
            });
        }
        Shape::Instant => {
            let value = values().next().map_or(0.0, |(_, value)| *value);
            let _ = write!(out, ",\"value\":{value}");
        }
    }
    out.push_str(",\"promLabels\":");
    push_string(out, &prom_labels(series));
    if shape == Shape::Range {
        out.push_str(",\"exemplars\":");
        push_array(out, &series.exemplars, push_exemplar);
    }
    out.push('}');
}

/// `{name="value", …}`, sorted by name.
fn prom_labels(series: &TraceSeries) -> String {
    let mut labels: Vec<_> = series.labels.iter().collect();
    labels.sort_by(|(a, _), (b, _)| a.cmp(b));
    let mut text = String::from("{");
    for (number, (name, value)) in labels.into_iter().enumerate() {
        if number > 0 {
            text.push_str(", ");
        }
        // Names of fields need quotes where PromQL's names could not be.
        let is_plain = !name.is_empty()
            && !name.starts_with(|c: char| c.is_ascii_digit())
            && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        match is_plain {
            true => text.push_str(name),
            false => push_string(&mut text, name),
        }
        text.push('=');
        push_string(&mut text, &label_text(value));
    }
    text.push('}');
    text
}

fn push_exemplar(out: &mut String, exemplar: &TraceExemplar) {
    let text = |key: &str, value: &dyn std::fmt::Display| {
        format!("{{\"key\":\"{key}\",\"value\":{{\"stringValue\":\"{value}\"}}}}")
    };
    let _ = write!(
        out,
        "{{\"labels\":[{},{}]",
        text("trace:id", &exemplar.trace_id),
        text("span:id", &exemplar.span_id)
    );
    if exemplar.value.is_finite() {
        let _ = write!(out, ",\"value\":{}", exemplar.value);
    }
    let _ = write!(out, ",\"timestampMs\":\"{}\"}}", exemplar.time_ms);
}
