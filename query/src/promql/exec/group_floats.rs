//! The floats of one group of an aggregation: what is known of them at each step.
//!
//! Runs of steps with floats, of which most rows are a single one, are added without a branch per
//! step. The order of additions is that of the rows, with Neumaier's compensation, as Prometheus has it.

use std::ops::Range;

use crate::promql::ast::AggregateOp;
use crate::promql::batch::Row;
use crate::promql::functions::numeric::{KahanSum, RunningMean};

/// A group's floats at all steps, as columns.
#[derive(Debug)]
pub struct GroupFloats {
    counts: Vec<f64>,
    values: Vec<f64>,
    extras: Vec<f64>,
    incremental: Vec<bool>,
}

impl GroupFloats {
    /// No floats yet.
    pub fn new(steps: usize) -> Self {
        Self {
            counts: vec![0.0; steps],
            values: vec![0.0; steps],
            extras: vec![0.0; steps],
            incremental: vec![false; steps],
        }
    }

    /// Adds a row.
    pub fn add(&mut self, op: AggregateOp, row: &Row<'_>) {
        for run in row.presence.runs() {
            let values = &row.values[run.clone()];
            if !self.add_run(op, run.start, values) {
                for (step, &value) in run.zip(values) {
                    let mut cell = self.cell(step);
                    cell.add(op, value);
                    self.set_cell(step, cell);
                }
            }
        }
    }

    /// Adds a float to each of the steps from `start`; false, and nothing done, where that has to be
    /// done one by one.
    fn add_run(&mut self, op: AggregateOp, start: usize, row: &[f64]) -> bool {
        let run = start..start + row.len();
        match op {
            AggregateOp::Count | AggregateOp::Group => {}
            AggregateOp::Sum => self.add_to_sums(run.clone(), row),
            AggregateOp::Avg => {
                // A mean is a sum as long as that does not overflow, but for the first value.
                let has_first = self.counts[run.clone()].contains(&0.0);
                let is_incremental = || self.incremental[run.clone()].contains(&true);
                let overflows = || {
                    let mut sums = self.values[run.clone()].iter().zip(row);
                    sums.any(|(sum, value)| (sum + value).is_infinite())
                };
                if has_first || is_incremental() || overflows() {
                    return false;
                }
                self.add_to_sums(run.clone(), row);
            }
            AggregateOp::Min => self.replace(run.clone(), row, |value, held| value < held),
            AggregateOp::Max => self.replace(run.clone(), row, |value, held| value > held),
            _ => return false,
        }
        self.counts[run].iter_mut().for_each(|count| *count += 1.0);
        true
    }

    /// [`KahanSum::add`] for several steps, in a form that computes several at a time.
    fn add_to_sums(&mut self, run: Range<usize>, row: &[f64]) {
        let sums = self.values[run.clone()].iter_mut();
        let sums = sums.zip(&mut self.extras[run]);
        for ((sum, compensation), &term) in sums.zip(row) {
            let total = *sum + term;
            let is_large = sum.abs() >= term.abs();
            let (large, small) = if is_large { (*sum, term) } else { (term, *sum) };
            let lost = *compensation + ((large - total) + small);
            *compensation = if total.is_infinite() { 0.0 } else { lost };
            *sum = total;
        }
    }

    /// Keeps the values that are better than those held; any is better than none and than NaN.
    fn replace(&mut self, run: Range<usize>, row: &[f64], is_better: impl Fn(f64, f64) -> bool) {
        let held = self.values[run.clone()].iter_mut().zip(&self.counts[run]);
        for ((held, &count), &value) in held.zip(row) {
            let takes = (count == 0.0) | is_better(value, *held) | held.is_nan();
            *held = if takes { value } else { *held };
        }
    }

    /// Counts a value that is no float.
    pub fn count_one(&mut self, step: usize) {
        self.counts[step] += 1.0;
    }

    /// Whether there is a float at a step.
    pub fn has(&self, step: usize) -> bool {
        self.counts[step] > 0.0
    }

    /// The floats at one step.
    #[inline]
    pub fn cell(&self, step: usize) -> Cell {
        Cell {
            count: self.counts[step],
            value: self.values[step],
            extra: self.extras[step],
            incremental: self.incremental[step],
        }
    }

    #[inline]
    fn set_cell(&mut self, step: usize, cell: Cell) {
        self.counts[step] = cell.count;
        self.values[step] = cell.value;
        self.extras[step] = cell.extra;
        self.incremental[step] = cell.incremental;
    }

    /// Adds what another partition knows of a step.
    #[inline]
    pub fn merge(&mut self, step: usize, other: Cell, op: AggregateOp) {
        let merged = self.cell(step).merge(other, op);
        self.set_cell(step, merged);
    }

    /// How many floats each step has.
    pub fn counts(&self) -> &[f64] {
        &self.counts
    }

    /// [`Cell::value`] of each step.
    pub fn values(&self) -> &[f64] {
        &self.values
    }

    /// [`Cell::extra`] of each step.
    pub fn extras(&self) -> &[f64] {
        &self.extras
    }

    /// [`Cell::incremental`] of each step.
    pub fn incremental(&self) -> &[bool] {
        &self.incremental
    }
}

/// A group's floats at one step.
#[derive(Debug, Clone, Copy)]
pub struct Cell {
    /// How many.
    pub count: f64,
    /// Their sum, mean, smallest, largest; per operator.
    pub value: f64,
    /// Compensation of the sum, or squared distances.
    pub extra: f64,
    /// `value` is a mean, because the sum overflowed.
    pub incremental: bool,
}

impl Cell {
    #[inline]
    fn add(&mut self, op: AggregateOp, value: f64) {
        match op {
            AggregateOp::Sum => {
                let mut sum = KahanSum {
                    sum: self.value,
                    compensation: self.extra,
                };
                sum.add(value);
                (self.value, self.extra) = (sum.sum, sum.compensation);
                self.count += 1.0;
            }
            AggregateOp::Avg => {
                let mut mean = self.mean();
                mean.add(value);
                *self = Self::of_mean(mean);
            }
            AggregateOp::Min => {
                if self.count == 0.0 || value < self.value || self.value.is_nan() {
                    self.value = value;
                }
                self.count += 1.0;
            }
            AggregateOp::Max => {
                if self.count == 0.0 || value > self.value || self.value.is_nan() {
                    self.value = value;
                }
                self.count += 1.0;
            }
            AggregateOp::Stddev | AggregateOp::Stdvar => {
                self.count += 1.0;
                if self.count == 1.0 {
                    self.value = value;
                    self.extra = if value.is_finite() { 0.0 } else { f64::NAN };
                    return;
                }
                let delta = value - self.value;
                self.value += delta / self.count;
                self.extra += delta * (value - self.value);
            }
            _ => self.count += 1.0,
        }
    }

    fn mean(self) -> RunningMean {
        RunningMean {
            count: self.count,
            total: KahanSum {
                sum: self.value,
                compensation: self.extra,
            },
            incremental: self.incremental,
        }
    }

    fn of_mean(mean: RunningMean) -> Self {
        Self {
            count: mean.count,
            value: mean.total.sum,
            extra: mean.total.compensation,
            incremental: mean.incremental,
        }
    }

    fn merge(self, other: Self, op: AggregateOp) -> Self {
        if self.count == 0.0 {
            return other;
        }
        let count = self.count + other.count;
        let mut merged = Self { count, ..self };
        match op {
            AggregateOp::Sum | AggregateOp::Avg if !self.incremental && !other.incremental => {
                let mut sum = KahanSum {
                    sum: self.value,
                    compensation: self.extra,
                };
                sum.add(other.value);
                if sum.sum.is_infinite() && op == AggregateOp::Avg {
                    return Self::merge_means(self, other);
                }
                sum.add(other.extra);
                (merged.value, merged.extra) = (sum.sum, sum.compensation);
            }
            AggregateOp::Sum | AggregateOp::Avg => return Self::merge_means(self, other),
            AggregateOp::Min | AggregateOp::Max => {
                merged.add(op, other.value);
                merged.count = count;
            }
            AggregateOp::Stddev | AggregateOp::Stdvar => {
                // Chan, Golub, LeVeque: pairwise update of the sums of squares.
                let delta = other.value - self.value;
                merged.value += delta * other.count / count;
                merged.extra += other.extra + delta * delta * self.count * other.count / count;
            }
            _ => {}
        }
        merged
    }

    fn merge_means(a: Self, b: Self) -> Self {
        let count = a.count + b.count;
        let mean = |cell: Self| cell.mean().value();
        let mut total = KahanSum::from(mean(a) * (a.count / count));
        total.add(mean(b) * (b.count / count));
        Self {
            count,
            value: total.sum,
            extra: total.compensation,
            incremental: true,
        }
    }

    /// What the operator makes of them.
    pub fn result(self, op: AggregateOp) -> f64 {
        match op {
            AggregateOp::Sum => self.value + self.extra,
            AggregateOp::Avg => self.mean().value(),
            AggregateOp::Count => self.count,
            AggregateOp::Group => 1.0,
            AggregateOp::Stdvar => self.extra / self.count,
            AggregateOp::Stddev => (self.extra / self.count).sqrt(),
            _ => self.value,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::promql::batch::{StepTable, StepVectors, StepVectorsBuilder};

    /// Runs added at once and cells one by one give the same bits.
    #[test]
    fn runs_are_added_as_single_cells_are() {
        let rows = [
            [-0.0, 1e100, f64::MAX, f64::NAN, 0.1],
            [-0.0, 1.0, f64::MAX, 1.0, 0.2],
            [0.0, -1e100, -f64::MAX, f64::INFINITY, 0.3],
            [-0.0, 3.5, 1.0, f64::NEG_INFINITY, -0.6],
        ];
        let is_there = |row: usize, step: usize| row != 1 || (step != 0 && step != 3);
        let mut builder = StepVectorsBuilder::new(StepVectors::schema(5));
        for (i, row) in rows.iter().enumerate() {
            builder.begin();
            for step in (0..5).filter(|&step| is_there(i, step)) {
                builder.set(step, row[step]);
            }
            builder.finish_row(&[i as u8], false);
        }
        let batch = builder.finish().unwrap().unwrap();
        let table = StepTable::from_batches(&[batch]).unwrap();
        for op in [
            AggregateOp::Sum,
            AggregateOp::Avg,
            AggregateOp::Count,
            AggregateOp::Min,
            AggregateOp::Max,
            AggregateOp::Stddev,
        ] {
            let mut floats = GroupFloats::new(5);
            table.rows().for_each(|row| floats.add(op, &row));
            for step in 0..5 {
                let mut cell = GroupFloats::new(1).cell(0);
                let there = rows.iter().enumerate().filter(|(i, _)| is_there(*i, step));
                there.for_each(|(_, row)| cell.add(op, row[step]));
                let (all, one) = (floats.cell(step).result(op), cell.result(op));
                assert!(
                    all.to_bits() == one.to_bits() || (all.is_nan() && one.is_nan()),
                    "{op:?}, step {step}: {all} and {one}"
                );
                assert_eq!(floats.cell(step).count, cell.count);
            }
        }
    }
}
