//! Metrics queries: series out of spans, step by step.
//!
//! A query of one filter over fields of single spans is computed straight from the columns of a scan
//! ([`columnar`]): groups as codes, cells as indexes, no work per span but adding. All others run their pipeline
//! trace by trace ([`per_trace`]) on the same cells. Labels, steps and buckets are Tempo's.

mod cells;
mod columnar;
mod compare;
mod matrix;
mod numbers;
mod per_trace;
mod second_stage;
mod series;
mod steps;

use chronolith_engine::RequestContext;

pub use series::{TraceExemplar, TraceSeries, label_text};
pub use steps::{STEPS_MAX, StepGrid};

use self::cells::{CellKind, Cells, NO_CELL};
use self::series::Exemplars;
use super::error::{Result, TracesError};
use super::fields::Needs;
use super::groups::{Groups, NO_GROUP};
use super::source::SpanSource;
use crate::traceql::ast::*;

/// When a metrics query is evaluated.
#[derive(Debug, Clone, Copy)]
pub struct MetricsRequest {
    /// Nanoseconds since the epoch.
    pub start_ns: i64,
    /// Nanoseconds since the epoch.
    pub end_ns: i64,
    /// Nanoseconds; the whole range for an instant query.
    pub step_ns: i64,
    /// Exemplars of each part of the query; the hint `exemplars` overrides it.
    pub exemplars: usize,
}

/// Series.
#[derive(Debug, Clone, PartialEq)]
pub struct MetricsAnswer {
    /// The steps of all series.
    pub steps: StepGrid,
    /// The series, sorted by their labels.
    pub series: Vec<TraceSeries>,
}

/// Exemplars of one query at most.
const EXEMPLARS_MAX: usize = 1000;
/// Exemplars if a query says `exemplars=true`.
const EXEMPLARS_IF_TRUE: usize = 100;

/// Evaluates a metrics query.
///
/// # Errors
/// A search query; a range that makes no sense; too many series; what the store says; the deadline.
pub fn metrics(
    source: &dyn SpanSource,
    context: &RequestContext,
    query: &Query,
    request: &MetricsRequest,
) -> Result<MetricsAnswer> {
    let Body::Metrics(expr) = &query.body else {
        let message = "a search query gives traces, not series".to_owned();
        return Err(TracesError::BadRequest(message));
    };
    let exemplars = match query.hint("exemplars").map(|hint| &hint.value) {
        Some(Value::Bool(false)) => 0,
        Some(Value::Bool(true)) => request.exemplars.max(EXEMPLARS_IF_TRUE),
        Some(Value::Int(count)) => usize::try_from(*count).unwrap_or(0),
        _ => request.exemplars,
    };
    let evaluation = Evaluation {
        source,
        context,
        steps: StepGrid::new(request.start_ns, request.end_ns, request.step_ns)?,
        exemplars: exemplars.min(EXEMPLARS_MAX),
    };
    let mut series = match evaluation.expr(expr)? {
        Part::Series(series) => series,
        Part::Number(_) => Vec::new(),
    };
    series.retain(|series| series.values.iter().any(|value| !value.is_nan()));
    series.sort_by_cached_key(TraceSeries::sort_key);
    let steps = evaluation.steps;
    Ok(MetricsAnswer { steps, series })
}

/// The value of a part of a query.
enum Part {
    Series(Vec<TraceSeries>),
    Number(f64),
}

struct Evaluation<'a> {
    source: &'a dyn SpanSource,
    context: &'a RequestContext,
    steps: StepGrid,
    exemplars: usize,
}

impl Evaluation<'_> {
    fn expr(&self, expr: &MetricsExpr) -> Result<Part> {
        Ok(match expr {
            MetricsExpr::Number(number) => Part::Number(*number),
            MetricsExpr::Query(query) => Part::Series(self.query(query)?),
            MetricsExpr::Stage(stage) => match self.expr(&stage.input)? {
                Part::Series(series) => Part::Series(second_stage::run(stage.stage, series)),
                number => number,
            },
            MetricsExpr::Operation(operation) => {
                let (lhs, rhs) = (self.expr(&operation.lhs)?, self.expr(&operation.rhs)?);
                second_stage::arithmetic(operation.op, lhs, rhs)
            }
        })
    }

    fn query(&self, query: &MetricsQuery) -> Result<Vec<TraceSeries>> {
        if let MetricsFunction::Compare(compare) = &query.function {
            return compare::run(self, query, compare);
        }
        let kind = match query.function {
            MetricsFunction::Rate | MetricsFunction::CountOverTime => CellKind::Count,
            MetricsFunction::MinOverTime(_) => CellKind::Min,
            MetricsFunction::MaxOverTime(_) => CellKind::Max,
            MetricsFunction::AvgOverTime(_) => CellKind::Avg,
            MetricsFunction::SumOverTime(_) => CellKind::Sum,
            MetricsFunction::QuantileOverTime(..) | MetricsFunction::HistogramOverTime(_) => {
                CellKind::Buckets
            }
            MetricsFunction::Compare(_) => return Ok(Vec::new()),
        };
        let mut gathering = Gathering {
            groups: Groups::default(),
            cells: Cells::new(kind, self.steps.count()),
            exemplars: Exemplars::new(self.exemplars),
        };
        let needs = needs(query);
        match columnar::filter_of(query, &needs) {
            Some(filter) => columnar::run(self, query, &filter, needs, &mut gathering)?,
            None => per_trace::run(self, query, needs, &mut gathering)?,
        }
        if query.by.is_empty() && kind == CellKind::Count && gathering.groups.is_empty() {
            // No spans are zero spans.
            gathering.groups.number(Vec::new());
            gathering.cells.reserve(1)?;
        }
        Ok(series::of(self, query, &gathering))
    }
}

/// What a query has gathered.
struct Gathering {
    groups: Groups,
    cells: Cells,
    exemplars: Exemplars,
}

impl Gathering {
    /// The cells of rows: those of a group at the step of a time.
    fn cells_of(&mut self, steps: &StepGrid, groups: Vec<u32>, times: &[i64]) -> Result<Vec<u32>> {
        self.cells.reserve(self.groups.len())?;
        let count = steps.count() as u32;
        let mut cells = groups;
        for (cell, time) in cells.iter_mut().zip(times) {
            *cell = match steps.step_of(*time) {
                Some(step) if *cell != NO_GROUP => *cell * count + step as u32,
                _ => NO_CELL,
            };
        }
        Ok(cells)
    }
}

fn needs(query: &MetricsQuery) -> Needs {
    let mut needs = Needs::default();
    super::pipeline::add_needs(&query.pipeline, &mut needs, &mut Vec::new());
    query.by.iter().for_each(|field| needs.add(&field.name));
    if let Some(field) = query.function.field() {
        needs.add(&field.name);
    }
    needs
}

#[cfg(test)]
mod tests;
