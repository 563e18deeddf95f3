//! `traceql(query[, time | start, end[, step]])`: traces as `trace_id, time, duration_ns, service, name,
//! matched`; series of a metrics query as those of `promql`.

use std::sync::{Arc, LazyLock};

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray, TimestampNanosecondArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use async_trait::async_trait;
use chronolith_engine::model::{TimeRange, TimestampNs};
use datafusion::error::{DataFusionError, Result};

use super::answer::{Rows, SAMPLES};
use super::arguments::{Arguments, When};
use super::promql::default_step_ns;
use super::{Evaluate, Evaluation, Languages, failed, invalid};
use crate::sql::SqlError;
use crate::tables::time_type;
use crate::traceql::ast::{Body, Query};
use crate::traces::TracesError;
use crate::traces::metrics::{MetricsRequest, label_text, metrics};
use crate::traces::search::{SearchAnswer, SearchRequest, search};

/// Traces of an answer; the newest.
const TRACES_MAX: usize = 1000;
/// How far back a search looks that names no range.
const HOUR_NS: i64 = 3_600_000_000_000;

static TRACES: LazyLock<SchemaRef> = LazyLock::new(|| {
    Arc::new(Schema::new(vec![
        Field::new("trace_id", DataType::Utf8, false),
        Field::new("time", time_type(), false),
        Field::new("duration_ns", DataType::Int64, false),
        Field::new("service", DataType::Utf8, true),
        Field::new("name", DataType::Utf8, true),
        Field::new("matched", DataType::Int64, false),
    ]))
});

#[derive(Clone)]
struct Traceql {
    languages: Languages,
    query: Arc<Query>,
    when: When,
}

pub(super) fn plan(languages: &Languages, arguments: Arguments) -> Result<Evaluation> {
    let parsed = crate::traceql::parse(&arguments.text);
    let query = parsed.map_err(|error| invalid(format!("traceql: {error}")))?;
    let schema = match query.body {
        Body::Metrics(_) => &SAMPLES,
        Body::Search(_) => &TRACES,
    };
    Ok(Evaluation {
        schema: Arc::clone(schema),
        run: Arc::new(Traceql {
            languages: languages.clone(),
            query: Arc::new(query),
            when: arguments.when,
        }),
    })
}

#[async_trait]
impl Evaluate for Traceql {
    async fn rows(&self) -> Result<Vec<RecordBatch>> {
        let own = self.clone();
        // Reads and decodes: no work for a thread that serves others.
        let task = tokio::task::spawn_blocking(move || own.evaluate());
        task.await
            .map_err(|error| failed(SqlError::Execution(format!("traceql: {error}"))))?
    }
}

impl Traceql {
    fn evaluate(&self) -> Result<Vec<RecordBatch>> {
        let Languages {
            snapshot, context, ..
        } = &self.languages;
        let (start_ns, end_ns, step_ns) = match self.when {
            When::At(at) => (at.saturating_sub(HOUR_NS), at, Some(HOUR_NS)),
            When::Range {
                start_ns,
                end_ns,
                step_ns,
            } => (start_ns, end_ns, step_ns),
        };
        if let Body::Metrics(_) = self.query.body {
            let request = MetricsRequest {
                start_ns,
                end_ns,
                step_ns: step_ns.unwrap_or_else(|| default_step_ns(start_ns, end_ns)),
                exemplars: 0,
            };
            let answer = metrics(snapshot, context, &self.query, &request).map_err(refused)?;
            let mut rows = Rows::new(&SAMPLES);
            for series in &answer.series {
                let labels: Vec<(&str, String)> = series
                    .labels
                    .iter()
                    .map(|(name, value)| (name.as_str(), label_text(value)))
                    .collect();
                for (step, value) in series.values.iter().enumerate() {
                    if value.is_nan() {
                        continue;
                    }
                    let time = answer.steps.time_ms(step).saturating_mul(1_000_000);
                    let pairs = labels.iter().map(|(name, value)| (*name, value.as_str()));
                    rows.push(time, pairs, Some(*value), None)?;
                }
            }
            return rows.finish();
        }
        let request = SearchRequest {
            range: TimeRange {
                start: TimestampNs(start_ns),
                end: TimestampNs(end_ns),
            },
            limit: TRACES_MAX,
            ..SearchRequest::default()
        };
        let answer = search(snapshot, context, &self.query, &request).map_err(refused)?;
        Ok(vec![traces(&answer)?])
    }
}

fn traces(answer: &SearchAnswer) -> Result<RecordBatch> {
    let found = &answer.traces;
    let ids = found
        .iter()
        .map(|trace| format!("{:032x}", u128::from_be_bytes(trace.trace_id.0)));
    let times = found.iter().map(|trace| trace.start_ns);
    let durations = found.iter().map(|trace| trace.duration_ns);
    let services = found.iter().map(|trace| trace.root_service.as_deref());
    let names = found.iter().map(|trace| trace.root_name.as_deref());
    let matched = found.iter().map(|trace| {
        let spans: usize = trace.span_sets.iter().map(|set| set.matched).sum();
        spans as i64
    });
    let columns: Vec<ArrayRef> = vec![
        Arc::new(StringArray::from_iter_values(ids)),
        Arc::new(TimestampNanosecondArray::from_iter_values(times).with_timezone("UTC")),
        Arc::new(Int64Array::from_iter_values(durations)),
        Arc::new(services.collect::<StringArray>()),
        Arc::new(names.collect::<StringArray>()),
        Arc::new(Int64Array::from_iter_values(matched)),
    ];
    Ok(RecordBatch::try_new(Arc::clone(&TRACES), columns)?)
}

fn refused(error: TracesError) -> DataFusionError {
    failed(match error {
        TracesError::Store(engine) => engine.into(),
        error => SqlError::Execution(format!("traceql: {error}")),
    })
}
