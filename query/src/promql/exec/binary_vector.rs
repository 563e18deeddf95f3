//! `BinaryVector`: an arithmetic operator or comparison between two vectors.
//!
//! Elements are paired whose labels agree on the matching labels (their *signature*). One side is
//! the "one" side: at each step at most one of its elements may have a signature. With `fill`
//! modifiers a missing partner is replaced by a number. Both inputs are held in memory; signatures
//! and result labels are computed once per series, values per step.

use std::collections::{HashMap, HashSet};
use std::fmt::{self, Formatter};
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use datafusion::error::Result;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_plan::ExecutionPlan;

use super::operator::{Inputs, Operator};
use super::state::QueryState;
use crate::promql::annotations::Annotations;
use crate::promql::ast::{BinaryOp, Cardinality, PosRange, VectorMatching};
use crate::promql::batch::{Row, SeriesCollector, StepTable, StepVectors, Value};
use crate::promql::failure::PromqlError;
use crate::promql::functions::binary::{self, Computed};
use crate::promql::labelset::{self, LabelChoice};

/// The operator. Its inputs are the left and the right operand.
#[derive(Debug)]
pub struct BinaryVector {
    /// The operator of the language.
    pub op: BinaryOp,
    /// How elements are paired.
    pub matching: VectorMatching,
    /// Comparisons give 0 or 1 rather than filtering.
    pub return_bool: bool,
    /// Where the operation stands, for remarks.
    pub pos: PosRange,
    /// The query.
    pub state: Arc<QueryState>,
}

impl Operator for BinaryVector {
    const NAME: &'static str = "BinaryVector";

    fn schema(&self, inputs: &[Arc<dyn ExecutionPlan>]) -> SchemaRef {
        inputs[0].schema()
    }

    fn partitions(&self, _inputs: &[Arc<dyn ExecutionPlan>]) -> usize {
        1
    }

    fn describe(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let m = &self.matching;
        let word = if m.on { "on" } else { "ignoring" };
        let (op, labels) = (self.op.as_str(), &m.matching_labels);
        write!(f, "{op}, {word} {labels:?}, {}", m.card.as_str())
    }

    fn execute(self: Arc<Self>, inputs: Inputs) -> Result<SendableRecordBatchStream> {
        let left = inputs.collect(0, &self.state)?;
        let right = inputs.collect(1, &self.state)?;
        let schema = inputs.schema();
        let time = inputs.compute_time();
        Ok(inputs.once(async move {
            let (left, right) = futures::future::try_join(left, right).await?;
            let _timer = time.timer();
            self.compute(&left.batches, &right.batches, schema)
        }))
    }
}

/// How signatures are made of label sets.
pub fn signature_choice(matching: &VectorMatching) -> LabelChoice {
    if matching.on {
        LabelChoice::only(&matching.matching_labels)
    } else {
        LabelChoice::all_but(&matching.matching_labels)
    }
}

/// The series of both sides that share a signature.
#[derive(Debug, Default)]
struct Match {
    signature: Vec<u8>,
    many: Vec<usize>,
    one: Vec<usize>,
}

fn matches(many: &StepTable, one: &StepTable, choice: &LabelChoice) -> Vec<Match> {
    let mut by_signature: HashMap<Vec<u8>, usize> = HashMap::new();
    let mut matches: Vec<Match> = Vec::new();
    for (table, is_one) in [(many, false), (one, true)] {
        for (number, row) in table.rows().enumerate() {
            let signature = choice.of(row.labels);
            let index = *by_signature
                .entry(signature)
                .or_insert_with_key(|signature| {
                    matches.push(Match {
                        signature: signature.clone(),
                        ..Match::default()
                    });
                    matches.len() - 1
                });
            let side = if is_one {
                &mut matches[index].one
            } else {
                &mut matches[index].many
            };
            side.push(number);
        }
    }
    matches
}

/// Whether any series of a table has a value, per step.
fn any_value(table: &StepTable, steps: usize) -> Vec<bool> {
    let mut any = vec![false; steps];
    for row in table.rows() {
        for (step, any) in any.iter_mut().enumerate() {
            *any = *any || row.has(step);
        }
    }
    any
}

impl BinaryVector {
    /// The operands change places, so that the "one" side is the second.
    fn swapped(&self) -> bool {
        self.matching.card == Cardinality::OneToMany
    }

    fn compute(
        &self,
        left: &[RecordBatch],
        right: &[RecordBatch],
        schema: SchemaRef,
    ) -> Result<Vec<RecordBatch>> {
        let steps = StepVectors::steps_of(&schema);
        let (left, right) = (
            StepTable::from_batches(left)?,
            StepTable::from_batches(right)?,
        );
        let (many, one) = if self.swapped() {
            (&right, &left)
        } else {
            (&left, &right)
        };
        let (left_any, right_any) = (any_value(&left, steps), any_value(&right, steps));
        let filled = self.matching.fill_lhs.is_some() || self.matching.fill_rhs.is_some();
        let live: Vec<bool> = (left_any.iter().zip(&right_any))
            .map(|(&l, &r)| (l && r) || (filled && (l || r)))
            .collect();
        let mut work = Work {
            operator: self,
            many,
            one,
            results: SeriesCollector::new(schema),
            labels: HashMap::new(),
            notes: Annotations::default(),
        };
        for found in matches(many, one, &signature_choice(&self.matching)) {
            for step in (0..steps).filter(|&step| live[step]) {
                if step % 64 == 0 {
                    self.state.check()?;
                }
                work.step(&found, step)?;
            }
        }
        self.state.annotate_all(work.notes);
        work.results.finish()
    }

    /// The labels of a result: of the "many" side, cut to the signature in one-to-one matching,
    /// plus the `group_*` labels of the "one" side.
    fn result_labels(&self, many: &[u8], one: &[u8]) -> Vec<u8> {
        let names = &self.matching.matching_labels;
        let listed = |name: &[u8]| names.iter().any(|n| n.as_bytes() == name);
        let one_to_one = self.matching.card == Cardinality::OneToOne;
        let changes = binary::changes_metric(self.op);
        let kept = labelset::filter(many, |name| {
            let matched = !one_to_one || listed(name) == self.matching.on;
            matched && !(changes && labelset::is_metadata(name))
        });
        if self.matching.include.is_empty() {
            return kept;
        }
        let taken = self
            .matching
            .include
            .iter()
            .map(|n| (n.as_str(), labelset::get(one, n)));
        labelset::edit(&kept, taken)
    }
}

struct Work<'a> {
    operator: &'a BinaryVector,
    many: &'a StepTable,
    one: &'a StepTable,
    results: SeriesCollector,
    labels: HashMap<(usize, usize), usize>,
    notes: Annotations,
}

/// Stands for the filled element of a side.
const FILLED: usize = usize::MAX;

impl Work<'_> {
    fn step(&mut self, found: &Match, step: usize) -> Result<()> {
        let operator = self.operator;
        let matching = &operator.matching;
        let mut partner: Option<(usize, Value<'_>)> = None;
        for &number in &found.one {
            let row = self.one.row(number);
            let Some(value) = row.value(step) else {
                continue;
            };
            if let Some((first, _)) = partner {
                let first = self.one.row(first);
                return Err(self.duplicate(&found.signature, row, first).into());
            }
            partner = Some((number, value));
        }
        // The fill value of each side, in terms of many and one.
        // Prometheus swaps the operands of `group_right` but not the fill values, so that
        // `fill_left` always fills the "many" side.
        let (fill_many, fill_one) = (matching.fill_lhs, matching.fill_rhs);
        let mut seen = HashSet::new();
        for &number in &found.many {
            let Some(value) = self.many.row(number).value(step) else {
                continue;
            };
            let other = partner.or(fill_one.map(|fill| (FILLED, Value::Float(fill))));
            if let Some(other) = other {
                self.pair(found, (number, value), other, step, &mut seen)?;
            }
        }
        if let (true, Some(partner), Some(fill)) = (seen.is_empty(), partner, fill_many) {
            self.pair(
                found,
                (FILLED, Value::Float(fill)),
                partner,
                step,
                &mut seen,
            )?;
        }
        Ok(())
    }

    fn pair(
        &mut self,
        found: &Match,
        (many, many_value): (usize, Value<'_>),
        (one, one_value): (usize, Value<'_>),
        step: usize,
        seen: &mut HashSet<usize>,
    ) -> Result<()> {
        let operator = self.operator;
        let (left, right) = if operator.swapped() {
            (one_value, many_value)
        } else {
            (many_value, one_value)
        };
        let computed = binary::elements(operator.op, left, right, operator.pos, &mut self.notes);
        let Some((computed, holds)) = computed else {
            return Ok(());
        };
        let series = self.series(found, many, one);
        if operator.matching.card == Cardinality::OneToOne {
            if !seen.is_empty() {
                let message = "multiple matches for labels: many-to-one matching must be explicit \
                               (group_left/group_right)";
                return Err(PromqlError::execution(message).into());
            }
            seen.insert(series);
        } else if !seen.insert(series) {
            let message = "multiple matches for labels: grouping labels must ensure unique matches";
            return Err(PromqlError::execution(message).into());
        }
        let computed = match (operator.return_bool, holds) {
            (true, _) => Computed::Float(f64::from(u8::from(holds))),
            (false, true) => computed,
            (false, false) => return Ok(()),
        };
        if !self.results.set(series, step, computed.value()) {
            return Err(super::name_removal::same_labelset().into());
        }
        Ok(())
    }

    /// The result's series for a pair of series; a filled side has the labels of the signature.
    fn series(&mut self, found: &Match, many: usize, one: usize) -> usize {
        if many != FILLED
            && one != FILLED
            && let Some(&series) = self.labels.get(&(many, one))
        {
            return series;
        }
        let labels_of = |table: &StepTable, number: usize| -> Vec<u8> {
            if number == FILLED {
                found.signature.clone()
            } else {
                table.row(number).labels.to_vec()
            }
        };
        let (many_labels, one_labels) = (labels_of(self.many, many), labels_of(self.one, one));
        let mut labels = self.operator.result_labels(&many_labels, &one_labels);
        let return_bool = self.operator.return_bool;
        if return_bool && !self.operator.state.features.delayed_name_removal {
            labels = labelset::without_metadata(&labels);
        }
        // As in Prometheus, a name that was to be removed stays in what passes a filter.
        let series = self.results.series(&labels, return_bool);
        if many != FILLED && one != FILLED {
            self.labels.insert((many, one), series);
        }
        series
    }

    fn duplicate(&self, signature: &[u8], second: Row<'_>, first: Row<'_>) -> PromqlError {
        let side = if self.operator.swapped() {
            "left"
        } else {
            "right"
        };
        PromqlError::execution(format!(
            "found duplicate series for the match group {} on the {side} hand-side of the \
             operation: [{}, {}];many-to-many matching not allowed: matching labels must be unique \
             on one side",
            labelset::text(signature),
            labelset::text(second.labels),
            labelset::text(first.labels)
        ))
    }
}
