//! A pipeline over the spansets of one trace.
//!
//! A spanset is a list of spans of the trace, ascending, with values that stages have attached to it.
//! A pipeline begins with one that has all spans; empty ones are dropped.

use super::expr::{Program, compare, each_field};
use super::fields::{Needs, Val};
use super::load::{LoadedTrace, LoadedTraces};
use super::relation::{SpanSet, related};
use crate::traceql::ast::*;

/// Spans of a trace.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Spanset {
    /// Places in the trace, ascending.
    pub spans: Vec<u32>,
    /// What `by` and aggregates attached: the text of the expression and its value.
    pub attributes: Vec<(String, Value)>,
}

/// A pipeline that is ready to run.
#[derive(Debug)]
pub struct PipelineProgram(Vec<StageProgram>);

#[derive(Debug)]
enum StageProgram {
    Spansets(SpansetProgram),
    ScalarFilter {
        aggregate: AggregateProgram,
        op: CompareOp,
        threshold: f64,
    },
    /// Aggregates on both sides: the check lets none of these through today.
    Nothing,
    GroupBy(Program, String),
    Coalesce,
    Select,
}

#[derive(Debug)]
enum SpansetProgram {
    Filter(Program),
    Pipeline(PipelineProgram),
    Operation(SpansetOp, Box<SpansetProgram>, Box<SpansetProgram>),
}

#[derive(Debug)]
struct AggregateProgram {
    op: AggregateOp,
    operand: Option<Program>,
    text: String,
}

/// The trace that a pipeline runs on.
#[derive(Clone, Copy, Debug)]
pub struct OneTrace<'a> {
    /// Its blocks.
    pub loaded: &'a LoadedTraces,
    /// It.
    pub trace: &'a LoadedTrace,
}

impl OneTrace<'_> {
    fn len(&self) -> usize {
        self.trace.facts.trace.len()
    }

    fn is_true(&self, program: &Program, place: u32) -> bool {
        let view = self.loaded.view(self.trace, place);
        view.is_some_and(|view| program.is_true(&view))
    }
}

/// Adds what a pipeline reads; `shown` gets what the answer of a search shows of each span.
pub fn add_needs(pipeline: &Pipeline, needs: &mut Needs, shown: &mut Vec<FieldName>) {
    visit_pipeline(pipeline, &mut |field| {
        needs.add(&field.name);
        if !shown.contains(&field.name) {
            shown.push(field.name.clone());
        }
    });
}

fn visit_pipeline(pipeline: &Pipeline, visit: &mut dyn FnMut(&Field)) {
    for stage in &pipeline.stages {
        match stage {
            Stage::Spansets(expr) => visit_spansets(expr, visit),
            Stage::GroupBy(by) => each_field(by, visit),
            Stage::Select(fields) => fields.iter().for_each(&mut *visit),
            Stage::ScalarFilter(ScalarFilter {
                lhs: ScalarExpr::Aggregate(aggregate),
                ..
            }) => {
                if let Some(operand) = &aggregate.operand {
                    each_field(operand, visit);
                }
            }
            Stage::ScalarFilter(_) | Stage::Coalesce(_) => {}
        }
    }
}

fn visit_spansets(expr: &SpansetExpr, visit: &mut dyn FnMut(&Field)) {
    match expr {
        SpansetExpr::Pipeline(pipeline) => visit_pipeline(pipeline, visit),
        SpansetExpr::Filter(filter) => {
            if let Some(condition) = &filter.condition {
                each_field(condition, visit);
            }
        }
        SpansetExpr::Operation(operation) => {
            visit_spansets(&operation.lhs, visit);
            visit_spansets(&operation.rhs, visit);
        }
    }
}

impl PipelineProgram {
    /// Makes a pipeline ready. It must have passed the check.
    #[must_use]
    pub fn new(pipeline: &Pipeline) -> Self {
        Self(pipeline.stages.iter().map(stage).collect())
    }

    /// The spansets that come out of a trace.
    #[must_use]
    pub fn run(&self, trace: OneTrace<'_>) -> Vec<Spanset> {
        let all = Spanset {
            spans: (0..trace.len() as u32).collect(),
            attributes: Vec::new(),
        };
        self.run_on(trace, vec![all])
    }

    fn run_on(&self, trace: OneTrace<'_>, input: Vec<Spanset>) -> Vec<Spanset> {
        let mut sets = input;
        for stage in &self.0 {
            if sets.is_empty() {
                break;
            }
            sets = match stage {
                StageProgram::Spansets(expr) => {
                    sets.iter().flat_map(|set| expr.run(trace, set)).collect()
                }
                StageProgram::ScalarFilter {
                    aggregate,
                    op,
                    threshold,
                } => sets
                    .into_iter()
                    .filter_map(|set| aggregate.filter(trace, set, *op, *threshold))
                    .collect(),
                StageProgram::GroupBy(by, text) => sets
                    .iter()
                    .flat_map(|set| group(trace, set, by, text))
                    .collect(),
                StageProgram::Coalesce => vec![union(&sets)],
                StageProgram::Select => sets,
                StageProgram::Nothing => Vec::new(),
            };
        }
        sets
    }
}

fn stage(stage: &Stage) -> StageProgram {
    match stage {
        Stage::Spansets(expr) => StageProgram::Spansets(spansets(expr)),
        Stage::GroupBy(by) => StageProgram::GroupBy(Program::new(by), format!("by({by})")),
        Stage::Coalesce(_) => StageProgram::Coalesce,
        Stage::Select(_) => StageProgram::Select,
        Stage::ScalarFilter(filter) => match (&filter.lhs, filter.rhs.constant()) {
            (ScalarExpr::Aggregate(aggregate), Some(threshold)) => StageProgram::ScalarFilter {
                aggregate: AggregateProgram {
                    op: aggregate.op,
                    operand: aggregate.operand.as_ref().map(Program::new),
                    text: aggregate.to_string(),
                },
                op: filter.op,
                threshold,
            },
            _ => StageProgram::Nothing,
        },
    }
}

fn spansets(expr: &SpansetExpr) -> SpansetProgram {
    match expr {
        SpansetExpr::Filter(filter) => {
            let program = filter.condition.as_ref().map(Program::new);
            SpansetProgram::Filter(program.unwrap_or_else(Program::always))
        }
        SpansetExpr::Pipeline(pipeline) => SpansetProgram::Pipeline(PipelineProgram::new(pipeline)),
        SpansetExpr::Operation(operation) => SpansetProgram::Operation(
            operation.op,
            Box::new(spansets(&operation.lhs)),
            Box::new(spansets(&operation.rhs)),
        ),
    }
}

impl SpansetProgram {
    fn run(&self, trace: OneTrace<'_>, input: &Spanset) -> Vec<Spanset> {
        let spans = match self {
            Self::Pipeline(pipeline) => return pipeline.run_on(trace, vec![input.clone()]),
            Self::Filter(program) => {
                let places = input.spans.iter().copied();
                places
                    .filter(|place| trace.is_true(program, *place))
                    .collect()
            }
            Self::Operation(op, lhs, rhs) => {
                let lhs = union(&lhs.run(trace, input)).spans;
                let rhs = union(&rhs.run(trace, input)).spans;
                let both = || merged(&lhs, &rhs);
                match op {
                    SpansetOp::And if lhs.is_empty() || rhs.is_empty() => Vec::new(),
                    SpansetOp::And | SpansetOp::Or => both(),
                    SpansetOp::Structural { relation, mode } => {
                        let set = |places: &[u32]| SpanSet::of(trace.len(), places);
                        let tree = &trace.trace.facts.trace;
                        related(tree, *relation, *mode, &set(&lhs), &set(&rhs))
                    }
                }
            }
        };
        if spans.is_empty() {
            return Vec::new();
        }
        let attributes = input.attributes.clone();
        vec![Spanset { spans, attributes }]
    }
}

fn merged(lhs: &[u32], rhs: &[u32]) -> Vec<u32> {
    let mut spans = [lhs, rhs].concat();
    spans.sort_unstable();
    spans.dedup();
    spans
}

fn union(sets: &[Spanset]) -> Spanset {
    let lists: Vec<&[u32]> = sets.iter().map(|set| &*set.spans).collect();
    let mut spans = lists.concat();
    spans.sort_unstable();
    spans.dedup();
    let attributes = Vec::new();
    Spanset { spans, attributes }
}

fn group(trace: OneTrace<'_>, set: &Spanset, by: &Program, text: &str) -> Vec<Spanset> {
    let mut groups: Vec<(Value, Spanset)> = Vec::new();
    for place in &set.spans {
        let Some(view) = trace.loaded.view(trace.trace, *place) else {
            continue;
        };
        let value = by.value(&view).to_value();
        // Few groups per trace: looking through them costs less than hashing values of all types.
        match groups.iter_mut().find(|(known, _)| *known == value) {
            Some((_, group)) => group.spans.push(*place),
            None => {
                let mut attributes = set.attributes.clone();
                attributes.push((text.to_owned(), value.clone()));
                let spans = vec![*place];
                groups.push((value, Spanset { spans, attributes }));
            }
        }
    }
    groups.into_iter().map(|(_, group)| group).collect()
}

impl AggregateProgram {
    /// The spanset with its aggregate, if that compares so.
    fn filter(
        &self,
        trace: OneTrace<'_>,
        mut set: Spanset,
        op: CompareOp,
        threshold: f64,
    ) -> Option<Spanset> {
        let (number, value) = self.value(trace, &set)?;
        if !compare(op, &Val::Float(number), &Val::Float(threshold)) {
            return None;
        }
        set.attributes.push((self.text.clone(), value));
        Some(set)
    }

    /// As a number and in the type of what is aggregated; `None` where no span has a value.
    fn value(&self, trace: OneTrace<'_>, set: &Spanset) -> Option<(f64, Value)> {
        let Some(operand) = &self.operand else {
            let count = set.spans.len();
            return Some((count as f64, Value::Int(count as i64)));
        };
        let (mut count, mut sum) = (0_u64, 0.0);
        let (mut min, mut max) = (f64::INFINITY, f64::NEG_INFINITY);
        let (mut is_duration, mut is_int) = (true, true);
        for place in &set.spans {
            let Some(view) = trace.loaded.view(trace.trace, *place) else {
                continue;
            };
            let value = operand.value(&view);
            let Some(number) = value.as_number() else {
                continue;
            };
            is_duration &= matches!(value, Val::Duration(_));
            is_int &= matches!(value, Val::Int(_));
            count += 1;
            sum += number;
            min = min.min(number);
            max = max.max(number);
        }
        if count == 0 {
            return None;
        }
        let number = match self.op {
            AggregateOp::Count => count as f64,
            AggregateOp::Avg => sum / count as f64,
            AggregateOp::Max => max,
            AggregateOp::Min => min,
            AggregateOp::Sum => sum,
        };
        let value = match (is_duration, is_int && self.op != AggregateOp::Avg) {
            (true, _) => Value::Duration(number as i64),
            (_, true) => Value::Int(number as i64),
            _ => Value::Float(number),
        };
        Some((number, value))
    }
}
