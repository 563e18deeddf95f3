//! `compare({…})`: how the values of every attribute are spread inside a selection and outside of it.
//!
//! Each span counts once for every field it has, at the selection or at the baseline. Of each field the
//! values with the most spans are answered, with the totals, and a mark where there were more.

use std::collections::{BTreeMap, HashMap};

use chronolith_engine::model::{AttributeValue, Attributes};
use chronolith_engine::rows::{RowOrder, SpanScanRequest};

use super::per_trace::each_span;
use super::series::TraceSeries;
use super::{Evaluation, columnar, needs};
use crate::traceql::ast::*;
use crate::traces::error::{Result, TracesError};
use crate::traces::expr::{Program, add_needs};
use crate::traces::fields::{Needs, SpanView, Val};
use crate::traces::groups::{KeyPart, StreamCache};
use crate::traces::pushdown;

/// Distinct values of all fields together that are counted.
const VALUES_MAX: usize = 1 << 18;

/// Counts per value of one field.
type Values = HashMap<KeyPart, Vec<f64>>;

/// One side: fields by their names as labels.
type Side = BTreeMap<String, Values>;

/// Evaluates it.
pub(super) fn run(
    evaluation: &Evaluation<'_>,
    query: &MetricsQuery,
    compare: &Compare,
) -> Result<Vec<TraceSeries>> {
    let selection = compare.selection.condition.as_ref();
    let mut needs = needs(query);
    if let Some(condition) = selection {
        add_needs(condition, &mut needs);
    }
    needs.columns.name = true;
    needs.columns.kind = true;
    needs.columns.status = true;
    needs.columns.details = true;
    needs.all_attributes = true;
    let mut counting = Counting {
        selection: selection.map_or_else(Program::always, Program::new),
        compare,
        evaluation,
        sides: [Side::new(), Side::new()],
        values: 0,
    };
    match columnar::filter_of(query, &needs) {
        Some(filter) => scan(evaluation, &filter, &needs, &mut counting)?,
        None => each_span(evaluation, &query.pipeline, &needs, |view, time| {
            counting.count(view, time)
        })?,
    }
    Ok(counting.into_series())
}

fn scan(
    evaluation: &Evaluation<'_>,
    filter: &SpansetFilter,
    needs: &Needs,
    counting: &mut Counting<'_>,
) -> Result<()> {
    let request = SpanScanRequest {
        conditions: pushdown::of_filter(filter).into_conditions(),
        order: RowOrder::Any,
        columns: needs.columns,
        attributes: needs.attributes(),
        ..SpanScanRequest::new(Vec::new(), evaluation.steps.range())
    };
    let program = filter
        .condition
        .as_ref()
        .map_or_else(Program::always, Program::new);
    let mut streams = StreamCache::default();
    for block in evaluation.source.scan(evaluation.context, &request)? {
        let block = block?;
        for row in 0..block.rows {
            let stream = streams.get(&block, row)?;
            let view = SpanView {
                block: &block,
                row,
                stream: &stream,
                trace: None,
            };
            if program.is_true(&view) {
                counting.count(&view, block.time.get(row).copied().unwrap_or_default())?;
            }
        }
    }
    Ok(())
}

struct Counting<'a> {
    selection: Program,
    compare: &'a Compare,
    evaluation: &'a Evaluation<'a>,
    /// Baseline and selection.
    sides: [Side; 2],
    values: usize,
}

impl Counting<'_> {
    fn count(&mut self, view: &SpanView<'_>, time: i64) -> Result<()> {
        let Some(step) = self.evaluation.steps.step_of(time) else {
            return Ok(());
        };
        let (start, end) = (self.compare.start_ns, self.compare.end_ns);
        let in_window = (start, end) == (0, 0) || (start..end).contains(&time);
        let side = usize::from(in_window && self.selection.is_true(view));
        for intrinsic in [
            Intrinsic::Name,
            Intrinsic::Kind,
            Intrinsic::Status,
            Intrinsic::StatusMessage,
        ] {
            let is_scoped = false;
            let value = view.read(&FieldName::Intrinsic {
                intrinsic,
                is_scoped,
            });
            self.add(side, step, intrinsic.word().unwrap_or_default(), &value)?;
        }
        for column in &view.block.attributes {
            if let Some(index) = column.index_of(view.row as u32) {
                let value = column.value(index).into();
                self.add(side, step, &format!("span.{}", column.key), &value)?;
            }
        }
        self.add_all(side, step, "resource", &view.stream.resource)?;
        self.add_all(side, step, "instrumentation", &view.stream.scope.attributes)
    }

    fn add_all(&mut self, side: usize, step: usize, scope: &str, all: &Attributes) -> Result<()> {
        for (key, value) in all {
            let value = match value {
                AttributeValue::String(text) => Val::Str(text.as_str().into()),
                AttributeValue::Int(n) => Val::Int(*n),
                AttributeValue::Float(x) => Val::Float(*x),
                AttributeValue::Bool(truth) => Val::Bool(*truth),
                _ => Val::Opaque,
            };
            self.add(side, step, &format!("{scope}.{key}"), &value)?;
        }
        Ok(())
    }

    fn add(&mut self, side: usize, step: usize, field: &str, value: &Val<'_>) -> Result<()> {
        if matches!(value, Val::Nil | Val::Opaque) {
            return Ok(());
        }
        let Some(side) = self.sides.get_mut(side) else {
            return Ok(());
        };
        if !side.contains_key(field) {
            side.insert(field.to_owned(), Values::new());
        }
        let Some(values) = side.get_mut(field) else {
            return Ok(());
        };
        let steps = self.evaluation.steps.count();
        let before = values.len();
        let counts = values
            .entry(value.into())
            .or_insert_with(|| vec![0.0; steps]);
        if let Some(count) = counts.get_mut(step) {
            *count += 1.0;
        }
        self.values += values.len() - before;
        if self.values.saturating_mul(steps) > VALUES_MAX * 16 || self.values > VALUES_MAX {
            let message = "compare() counts too many different values: select fewer spans or ask for fewer steps";
            return Err(TracesError::TooLarge(message.to_owned()));
        }
        Ok(())
    }

    fn into_series(self) -> Vec<TraceSeries> {
        let top_n = usize::try_from(self.compare.top_n).unwrap_or(0);
        let mut series = Vec::new();
        let mut too_many = std::collections::BTreeSet::new();
        for (side, name) in self.sides.into_iter().zip(["baseline", "selection"]) {
            for (field, values) in side {
                let labels = |meta: &str, value| {
                    let meta = Value::String(meta.to_owned());
                    vec![("__meta_type".to_owned(), meta), (field.clone(), value)]
                };
                let mut total = vec![0.0; self.evaluation.steps.count()];
                let mut ranked: Vec<(f64, KeyPart, Vec<f64>)> = values
                    .into_iter()
                    .map(|(value, counts)| {
                        total
                            .iter_mut()
                            .zip(&counts)
                            .for_each(|(sum, count)| *sum += count);
                        (counts.iter().sum(), value, counts)
                    })
                    .collect();
                ranked.sort_by(|a, b| b.0.total_cmp(&a.0).then_with(|| a.1.cmp(&b.1)));
                if ranked.len() > top_n {
                    too_many.insert(field.clone());
                }
                for (_, value, values) in ranked.into_iter().take(top_n) {
                    series.push(TraceSeries {
                        labels: labels(name, value.to_value()),
                        values,
                        exemplars: Vec::new(),
                    });
                }
                series.push(TraceSeries {
                    labels: labels(&format!("{name}_total"), Value::Nil),
                    values: total,
                    exemplars: Vec::new(),
                });
            }
        }
        for field in too_many {
            let mark = Value::String("__too_many_values__".to_owned());
            series.push(TraceSeries {
                labels: vec![("__meta_error".to_owned(), mark), (field, Value::Nil)],
                values: vec![0.0; self.evaluation.steps.count()],
                exemplars: Vec::new(),
            });
        }
        series
    }
}
