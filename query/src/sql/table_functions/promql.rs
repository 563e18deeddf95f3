//! `promql(expression[, time | start, end[, step]])`: `time, metric, labels, value, histogram`.

use std::sync::Arc;

use arrow::array::RecordBatch;
use async_trait::async_trait;
use chronolith_engine::model::{Histogram, Labels};
use datafusion::error::{DataFusionError, Result};

use super::answer::{Rows, SAMPLES};
use super::arguments::{Arguments, When};
use super::{Evaluate, Evaluation, Languages, failed, invalid};
use crate::promql::result::{SampleValue, Value};
use crate::promql::{PromqlError, Query, QueryOptions};
use crate::sql::SqlError;

/// Steps of a range that names none.
const STEPS_DEFAULT: i64 = 250;

struct Promql {
    languages: Languages,
    query: Query,
    when: When,
}

pub(super) fn plan(languages: &Languages, arguments: Arguments) -> Result<Evaluation> {
    let parsed = languages.promql.parse(&arguments.text);
    let query = parsed.map_err(|error| invalid(format!("promql: {error}")))?;
    Ok(Evaluation {
        schema: Arc::clone(&SAMPLES),
        run: Arc::new(Promql {
            languages: languages.clone(),
            query,
            when: arguments.when,
        }),
    })
}

/// The step of a range that names none: whole seconds, 250 of them.
pub(super) fn default_step_ns(start_ns: i64, end_ns: i64) -> i64 {
    const SECOND: i64 = 1_000_000_000;
    let range = end_ns.saturating_sub(start_ns).max(0);
    (range / STEPS_DEFAULT / SECOND).max(1) * SECOND
}

#[async_trait]
impl Evaluate for Promql {
    async fn rows(&self) -> Result<Vec<RecordBatch>> {
        let Languages {
            promql, context, ..
        } = &self.languages;
        let options = QueryOptions::default();
        const MS: i64 = 1_000_000;
        let result = match self.when {
            When::At(at) => {
                promql
                    .instant(context, &self.query, at / MS, &options)
                    .await
            }
            When::Range {
                start_ns,
                end_ns,
                step_ns,
            } => {
                let step = step_ns.unwrap_or_else(|| default_step_ns(start_ns, end_ns));
                // A step below a millisecond would be no step.
                let times = (start_ns / MS, end_ns / MS, (step / MS).max(1));
                promql.range(context, &self.query, times, &options).await
            }
        };
        let result = result.map_err(refused)?;
        let mut rows = Rows::new(&SAMPLES);
        push_value(&result.value, &mut rows)?;
        rows.finish()
    }
}

fn push_value(value: &Value, rows: &mut Rows) -> Result<()> {
    let time = |millis: i64| millis.saturating_mul(1_000_000);
    match value {
        Value::Scalar(point) => rows.push(time(point.time_ms), [], Some(point.value), None),
        Value::String { time_ms, value } => rows.push(time(*time_ms), [], None, Some(value)),
        Value::Vector(elements) => elements.iter().try_for_each(|element| {
            let (value, histogram) = match &element.value {
                SampleValue::Float(value) => (Some(*value), None),
                SampleValue::Histogram(histogram) => (None, Some(words(histogram))),
            };
            let labels = pairs(&element.labels);
            rows.push(time(element.time_ms), labels, value, histogram.as_deref())
        }),
        Value::Matrix(series) => series.iter().try_for_each(|one| {
            for point in &one.floats {
                rows.push(
                    time(point.time_ms),
                    pairs(&one.labels),
                    Some(point.value),
                    None,
                )?;
            }
            for point in &one.histograms {
                let words = words(&point.histogram);
                rows.push(time(point.time_ms), pairs(&one.labels), None, Some(&words))?;
            }
            Ok(())
        }),
    }
}

fn pairs(labels: &Labels) -> impl Iterator<Item = (&str, &str)> {
    labels.iter().map(|label| (label.name, label.value))
}

fn words(histogram: &Histogram) -> String {
    format!("count={} sum={}", histogram.count, histogram.sum)
}

fn refused(error: PromqlError) -> DataFusionError {
    failed(match error {
        PromqlError::Timeout => SqlError::Timeout,
        PromqlError::Cancelled => SqlError::Cancelled,
        PromqlError::TooMuchMemory(text) => SqlError::TooMuchMemory(text),
        PromqlError::OutOfMemory(text) => SqlError::Resources(text),
        error @ (PromqlError::Parse(_) | PromqlError::BadRequest(_)) => SqlError::Invalid {
            message: format!("promql: {error}"),
            position: None,
        },
        error => SqlError::Execution(format!("promql: {error}")),
    })
}
