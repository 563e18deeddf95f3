//! `logql(expression[, time | start, end[, step]])`: lines as `time, labels, line`; samples as those of
//! `promql`.

use std::sync::Arc;

use arrow::array::RecordBatch;
use async_trait::async_trait;
use datafusion::error::{DataFusionError, Result};

use super::answer::{LINES, Rows, SAMPLES};
use super::arguments::{Arguments, When};
use super::promql::default_step_ns;
use super::{Evaluate, Evaluation, Languages, failed, invalid};
use crate::logql::eval::{LogQlError, Query, QueryParams, QueryValue, Series};
use crate::sql::SqlError;

struct Logql {
    languages: Languages,
    query: Query,
    params: QueryParams,
}

pub(super) fn plan(languages: &Languages, arguments: Arguments) -> Result<Evaluation> {
    let parsed = languages.logql.parse(&arguments.text);
    let query = parsed.map_err(|error| invalid(format!("logql: {error}")))?;
    let schema = if query.is_log() { &LINES } else { &SAMPLES };
    let mut params = match arguments.when {
        When::At(at) => QueryParams::instant(at),
        When::Range {
            start_ns,
            end_ns,
            step_ns,
        } => {
            let step = step_ns.unwrap_or_else(|| default_step_ns(start_ns, end_ns));
            QueryParams::range(start_ns, end_ns, step)
        }
    };
    params.limit = languages.logql.options().lines_max;
    Ok(Evaluation {
        schema: Arc::clone(schema),
        run: Arc::new(Logql {
            languages: languages.clone(),
            query,
            params,
        }),
    })
}

#[async_trait]
impl Evaluate for Logql {
    async fn rows(&self) -> Result<Vec<RecordBatch>> {
        let Languages { logql, context, .. } = &self.languages;
        let answer = logql.query(context, &self.query, self.params).await;
        let answer = answer.map_err(refused)?;
        let samples = |series: &[Series]| -> Result<Vec<RecordBatch>> {
            let mut rows = Rows::new(&SAMPLES);
            for one in series {
                for point in &one.points {
                    let labels = one.labels.iter().map(|(n, v)| (n.as_str(), v.as_str()));
                    let time = point.time_ms.saturating_mul(1_000_000);
                    rows.push(time, labels, Some(point.value), None)?;
                }
            }
            rows.finish()
        };
        match &answer.value {
            QueryValue::Streams(streams) => {
                let mut rows = Rows::new(&LINES);
                for stream in streams {
                    for entry in &stream.entries {
                        rows.push(entry.time_ns, stream.labels(), None, Some(&entry.line))?;
                    }
                }
                rows.finish()
            }
            QueryValue::Vector(series) | QueryValue::Matrix(series) => samples(series),
            QueryValue::Scalar(point) => samples(&[Series {
                labels: Vec::new(),
                points: vec![*point],
            }]),
        }
    }
}

fn refused(error: LogQlError) -> DataFusionError {
    failed(match error {
        LogQlError::Timeout => SqlError::Timeout,
        LogQlError::Cancelled => SqlError::Cancelled,
        error @ LogQlError::Parse(_) => SqlError::Invalid {
            message: format!("logql: {error}"),
            position: None,
        },
        LogQlError::OutOfMemory(text) => SqlError::Resources(text),
        error => SqlError::Execution(format!("logql: {error}")),
    })
}
