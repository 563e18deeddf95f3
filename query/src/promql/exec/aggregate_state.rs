//! The states of [`Aggregate`](super::aggregate::Aggregate): what is known of each group at each step,
//! and its form as a record batch between partial and final aggregation.
//!
//! | column | type | meaning |
//! |---|---|---|
//! | `labels` | Binary | the group's labels |
//! | `drop_name` | Boolean | a member's name is to be removed |
//! | `count` | FixedSizeList(Float64, steps) | floats seen (any samples, for `count` and `group`) |
//! | `value` | same | sum, mean, smallest, largest; per operator |
//! | `extra` | same | compensation of the sum, or squared distances |
//! | `incremental` | FixedSizeList(Boolean, steps) | `value` is a mean, because the sum overflowed |
//! | `histogram_steps`, `histogram_counts`, `histogram_flags`, `histograms` | List | sums of histograms |

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, BinaryArray, BinaryBuilder, BooleanArray, FixedSizeListArray, Float64Array,
    ListArray, UInt8Array, UInt32Array,
};
use arrow::buffer::{BooleanBuffer, OffsetBuffer};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use chronolith_engine::model::CounterResetHint;
use datafusion::error::{DataFusionError, Result};

use super::group_floats::{Cell, GroupFloats};
use crate::promql::annotations::{Annotation, Annotations, HistogramOperation};
use crate::promql::ast::{AggregateOp, PosRange};
use crate::promql::batch::{Row, StepTable, StepVectorsBuilder, histogram_codec};
use crate::promql::histogram::{Histogram, HistogramSum, arithmetic};
use crate::promql::labelset::{self, LabelChoice};

/// Averages add up histograms scaled by this, so that the sum cannot overflow. A power of two:
/// nothing is lost.
const AVG_SCALE: f64 = 1.0 / (1_u64 << 63) as f64;

const INCOMPATIBLE: u8 = 1;
const RESET_SEEN: u8 = 2;
const NO_RESET_SEEN: u8 = 4;

/// The sum of a group's histograms at one step.
#[derive(Debug, Clone)]
struct HistogramState {
    sum: HistogramSum,
    count: f64,
    flags: u8,
}

#[derive(Debug)]
struct Group {
    labels: Vec<u8>,
    drop_name: bool,
    floats: GroupFloats,
    histograms: BTreeMap<u32, HistogramState>,
}

/// All groups of one aggregation.
#[derive(Debug)]
pub struct GroupStates {
    op: AggregateOp,
    steps: usize,
    pos: PosRange,
    by_key: HashMap<Vec<u8>, usize>,
    groups: Vec<Group>,
    notes: Annotations,
    key: Vec<u8>,
    /// The group of the series before.
    last: usize,
    /// Cells of all groups that hold a histogram.
    histogram_cells: usize,
}

fn item(data_type: DataType) -> Arc<Field> {
    Arc::new(Field::new("item", data_type, false))
}

/// The schema of states.
pub fn state_schema(steps: usize) -> SchemaRef {
    let width = i32::try_from(steps).unwrap_or(i32::MAX);
    let fixed =
        |name: &str, t: DataType| Field::new(name, DataType::FixedSizeList(item(t), width), false);
    let list = |name: &str, t: DataType| Field::new(name, DataType::List(item(t)), false);
    Arc::new(Schema::new(vec![
        Field::new("labels", DataType::Binary, false),
        Field::new("drop_name", DataType::Boolean, false),
        fixed("count", DataType::Float64),
        fixed("value", DataType::Float64),
        fixed("extra", DataType::Float64),
        fixed("incremental", DataType::Boolean),
        list("histogram_steps", DataType::UInt32),
        list("histogram_counts", DataType::Float64),
        list("histogram_flags", DataType::UInt8),
        list("histograms", DataType::Binary),
    ]))
}

impl GroupStates {
    /// No group yet.
    pub fn new(op: AggregateOp, steps: usize, pos: PosRange) -> Self {
        Self {
            op,
            steps,
            pos,
            by_key: HashMap::new(),
            groups: Vec::new(),
            notes: Annotations::default(),
            key: Vec::new(),
            last: 0,
            histogram_cells: 0,
        }
    }

    /// Roughly what the groups take.
    pub fn memory_bytes(&self) -> usize {
        self.groups.len() * (self.steps * 25 + 256) + self.histogram_cells * 1024
    }

    /// The remarks that came up.
    pub fn into_notes(self) -> Annotations {
        self.notes
    }

    fn group(&mut self) -> usize {
        // Series come in the order of their labels, so often group by group.
        if self
            .groups
            .get(self.last)
            .is_some_and(|g| g.labels == self.key)
        {
            return self.last;
        }
        if let Some(&index) = self.by_key.get(&self.key) {
            self.last = index;
            return index;
        }
        let steps = self.steps;
        self.groups.push(Group {
            labels: self.key.clone(),
            drop_name: false,
            floats: GroupFloats::new(steps),
            histograms: BTreeMap::new(),
        });
        self.last = self.groups.len() - 1;
        self.by_key.insert(self.key.clone(), self.last);
        self.last
    }

    /// Adds series to their groups.
    pub fn add(&mut self, table: &StepTable, grouping: &LabelChoice) {
        for row in table.rows() {
            grouping.of_into(row.labels, &mut self.key);
            let index = self.group();
            let group = &mut self.groups[index];
            group.drop_name |= row.drop_name;
            group.floats.add(self.op, &row);
            if !row.histograms.is_empty() {
                let before = group.histograms.len();
                add_histograms(group, self.op, &row, self.pos, &mut self.notes);
                self.histogram_cells += group.histograms.len() - before;
            }
        }
    }

    /// Adds the states of a partial aggregation.
    ///
    /// # Errors
    /// A batch of another schema, which is a bug.
    pub fn merge(&mut self, batch: &RecordBatch) -> Result<()> {
        let states = States::of(batch)?;
        for row in 0..batch.num_rows() {
            self.key.clear();
            self.key.extend_from_slice(states.labels.value(row));
            let index = self.group();
            let group = &mut self.groups[index];
            group.drop_name |= states.drop_name.value(row);
            for step in 0..self.steps {
                let cell = row * self.steps + step;
                let other = Cell {
                    count: states.count.value(cell),
                    value: states.value.value(cell),
                    extra: states.extra.value(cell),
                    incremental: states.incremental.value(cell),
                };
                if other.count > 0.0 {
                    group.floats.merge(step, other, self.op);
                }
            }
            let before = group.histograms.len();
            for i in states.offsets[row] as usize..states.offsets[row + 1] as usize {
                let Some(sum) = histogram_codec::decode(states.histograms.value(i)) else {
                    return Err(DataFusionError::Internal("bug: histogram state".into()));
                };
                let other = HistogramState {
                    sum: HistogramSum::new(&sum),
                    count: states.histogram_counts.value(i),
                    flags: states.histogram_flags.value(i),
                };
                group.merge_histogram(states.steps.value(i), other, self.pos, &mut self.notes);
            }
            self.histogram_cells += group.histograms.len() - before;
        }
        Ok(())
    }

    /// The groups as states.
    ///
    /// # Errors
    /// Columns that do not fit together, which is a bug.
    pub fn take_states(&mut self) -> Result<Vec<RecordBatch>> {
        let groups = std::mem::take(&mut self.groups);
        if groups.is_empty() {
            return Ok(Vec::new());
        }
        let width = i32::try_from(self.steps).unwrap_or(i32::MAX);
        let fixed = |values: ArrayRef, nullable: DataType| -> Result<ArrayRef> {
            Ok(Arc::new(FixedSizeListArray::try_new(
                item(nullable),
                width,
                values,
                None,
            )?))
        };
        let floats = |column: fn(&Group) -> &[f64]| -> ArrayRef {
            let mut values = Vec::with_capacity(groups.len() * self.steps);
            for group in &groups {
                values.extend_from_slice(column(group));
            }
            Arc::new(Float64Array::from(values))
        };
        let incremental: BooleanBuffer = groups
            .iter()
            .flat_map(|g| g.floats.incremental().iter().copied())
            .collect();
        let incremental = BooleanArray::new(incremental, None);
        let mut labels = BinaryBuilder::new();
        let mut histograms = BinaryBuilder::new();
        let (mut steps, mut counts, mut flags) = (Vec::new(), Vec::new(), Vec::new());
        for group in &groups {
            labels.append_value(&group.labels);
            for (&step, state) in &group.histograms {
                let mut bytes = Vec::new();
                histogram_codec::encode(&state.sum.value(), &mut bytes);
                histograms.append_value(bytes);
                steps.push(step);
                counts.push(state.count);
                flags.push(state.flags);
            }
        }
        let offsets = OffsetBuffer::from_lengths(groups.iter().map(|g| g.histograms.len()));
        let list = |values: ArrayRef| -> Result<ArrayRef> {
            let item = item(values.data_type().clone());
            Ok(Arc::new(ListArray::try_new(
                item,
                offsets.clone(),
                values,
                None,
            )?))
        };
        let drop_name: BooleanArray = groups.iter().map(|g| Some(g.drop_name)).collect();
        let columns = vec![
            Arc::new(labels.finish()) as ArrayRef,
            Arc::new(drop_name),
            fixed(floats(|g| g.floats.counts()), DataType::Float64)?,
            fixed(floats(|g| g.floats.values()), DataType::Float64)?,
            fixed(floats(|g| g.floats.extras()), DataType::Float64)?,
            fixed(Arc::new(incremental), DataType::Boolean)?,
            list(Arc::new(UInt32Array::from(steps)))?,
            list(Arc::new(Float64Array::from(counts)))?,
            list(Arc::new(UInt8Array::from(flags)))?,
            list(Arc::new(histograms.finish()))?,
        ];
        Ok(vec![RecordBatch::try_new(
            state_schema(self.steps),
            columns,
        )?])
    }

    /// The groups' results.
    ///
    /// # Errors
    /// Columns that do not fit together, which is a bug.
    pub fn take_results(&mut self, schema: SchemaRef) -> Result<Vec<RecordBatch>> {
        let mut builder = StepVectorsBuilder::new(schema);
        let mut batches = Vec::new();
        for group in std::mem::take(&mut self.groups) {
            builder.begin();
            for step in 0..self.steps {
                let state = group.histograms.get(&(step as u32));
                match (group.floats.has(step), state) {
                    (true, Some(_)) => {
                        let note = Annotation::mixed_floats_histograms_aggregation(self.pos);
                        self.notes.add(note);
                    }
                    (true, None) => builder.set(step, group.floats.cell(step).result(self.op)),
                    (false, Some(state)) => {
                        if let Some(result) = state.result(self.op, self.pos, &mut self.notes) {
                            builder.set_histogram(step, &result);
                        }
                    }
                    (false, None) => {}
                }
            }
            builder.finish_row(&group.labels, group.drop_name);
            if builder.is_full() {
                batches.extend(builder.finish()?);
            }
        }
        batches.extend(builder.finish()?);
        Ok(batches)
    }
}

impl Group {
    fn merge_histogram(
        &mut self,
        step: u32,
        other: HistogramState,
        pos: PosRange,
        notes: &mut Annotations,
    ) {
        let Some(state) = self.histograms.get_mut(&step) else {
            self.histograms.insert(step, other);
            return;
        };
        state.flags |= other.flags;
        state.count += other.count;
        if state.flags & INCOMPATIBLE != 0 {
            return;
        }
        match state.sum.merge(other.sum) {
            Ok(combined) if combined.bounds_reconciled => {
                let operation = HistogramOperation::Aggregation;
                notes.add(Annotation::mismatched_custom_buckets(pos, operation));
            }
            Ok(_) => {}
            Err(_) => state.flags |= INCOMPATIBLE,
        }
    }
}

fn add_histograms(
    group: &mut Group,
    op: AggregateOp,
    row: &Row<'_>,
    pos: PosRange,
    notes: &mut Annotations,
) {
    for (step, histogram) in row.histograms {
        match op {
            AggregateOp::Count | AggregateOp::Group => group.floats.count_one(*step as usize),
            AggregateOp::Sum | AggregateOp::Avg => {
                add_histogram(group, op, *step, histogram, row.labels, pos, notes);
            }
            _ => notes.add(Annotation::histogram_ignored_in_aggregation(
                pos,
                op.as_str(),
            )),
        }
    }
}

fn add_histogram(
    group: &mut Group,
    op: AggregateOp,
    step: u32,
    histogram: &Histogram,
    labels: &[u8],
    pos: PosRange,
    notes: &mut Annotations,
) {
    let scaled: Histogram;
    let mut term = histogram;
    if op == AggregateOp::Avg {
        let mut copy = histogram.clone();
        arithmetic::mul(&mut copy, AVG_SCALE);
        scaled = copy;
        term = &scaled;
    }
    let flag = match histogram.counter_reset_hint {
        CounterResetHint::Reset => RESET_SEEN,
        CounterResetHint::NotReset => NO_RESET_SEEN,
        CounterResetHint::Unknown | CounterResetHint::Gauge => 0,
    };
    let Some(state) = group.histograms.get_mut(&step) else {
        let sum = HistogramSum::new(term);
        group.histograms.insert(
            step,
            HistogramState {
                sum,
                count: 1.0,
                flags: flag,
            },
        );
        return;
    };
    if state.flags & INCOMPATIBLE != 0 {
        return;
    }
    state.flags |= flag;
    state.count += 1.0;
    match state.sum.add(term) {
        Ok(combined) if combined.bounds_reconciled => {
            let operation = HistogramOperation::Aggregation;
            notes.add(Annotation::mismatched_custom_buckets(pos, operation));
        }
        Ok(_) => {}
        Err(_) => {
            let metric = labelset::metric_name(labels);
            notes.add(Annotation::mixed_exponential_custom(pos, metric));
            state.flags |= INCOMPATIBLE;
        }
    }
}

impl HistogramState {
    fn result(&self, op: AggregateOp, pos: PosRange, notes: &mut Annotations) -> Option<Histogram> {
        if self.flags & INCOMPATIBLE != 0 {
            return None;
        }
        if self.flags & RESET_SEEN != 0 && self.flags & NO_RESET_SEEN != 0 {
            let operation = HistogramOperation::Aggregation;
            notes.add(Annotation::counter_reset_collision(pos, operation));
        }
        let mut result = self.sum.value();
        if op == AggregateOp::Avg {
            arithmetic::div(&mut result, self.count);
            arithmetic::mul(&mut result, 1.0 / AVG_SCALE);
        }
        arithmetic::compact(&mut result);
        Some(result)
    }
}

/// The columns of a state batch.
struct States {
    labels: BinaryArray,
    drop_name: BooleanArray,
    count: Float64Array,
    value: Float64Array,
    extra: Float64Array,
    incremental: BooleanArray,
    offsets: OffsetBuffer<i32>,
    steps: UInt32Array,
    histogram_counts: Float64Array,
    histogram_flags: UInt8Array,
    histograms: BinaryArray,
}

impl States {
    fn of(batch: &RecordBatch) -> Result<Self> {
        let bug = || DataFusionError::Internal("bug: not a batch of group states".into());
        fn get<T: Array + Clone + 'static>(array: &dyn Array) -> Option<T> {
            array.as_any().downcast_ref::<T>().cloned()
        }
        let column = |i: usize| batch.columns().get(i).map(|c| &**c).ok_or_else(bug);
        let fixed = |i: usize| -> Result<ArrayRef> {
            let list = get::<FixedSizeListArray>(column(i)?).ok_or_else(bug)?;
            Ok(Arc::clone(list.values()))
        };
        let list = |i: usize| get::<ListArray>(column(i)?).ok_or_else(bug);
        let steps = list(6)?;
        Ok(Self {
            labels: get(column(0)?).ok_or_else(bug)?,
            drop_name: get(column(1)?).ok_or_else(bug)?,
            count: get(&fixed(2)?).ok_or_else(bug)?,
            value: get(&fixed(3)?).ok_or_else(bug)?,
            extra: get(&fixed(4)?).ok_or_else(bug)?,
            incremental: get(&fixed(5)?).ok_or_else(bug)?,
            offsets: steps.offsets().clone(),
            steps: get(steps.values()).ok_or_else(bug)?,
            histogram_counts: get(list(7)?.values()).ok_or_else(bug)?,
            histogram_flags: get(list(8)?.values()).ok_or_else(bug)?,
            histograms: get(list(9)?.values()).ok_or_else(bug)?,
        })
    }
}
