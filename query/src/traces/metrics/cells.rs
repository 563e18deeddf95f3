//! Where the numbers of a metrics query gather: one cell per group and step.

use crate::traces::error::{Result, TracesError};

/// Groups times steps.
pub(super) const CELLS_MAX: usize = 1 << 25;
/// Cells that have a histogram: 256 bytes each.
pub(super) const HISTOGRAMS_MAX: usize = 1 << 20;
/// Powers of two that buckets end at.
pub(super) const BUCKETS: usize = 64;

/// No cell.
pub(super) const NO_CELL: u32 = u32::MAX;

/// What a cell holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CellKind {
    /// How many.
    Count,
    /// The smallest.
    Min,
    /// The greatest.
    Max,
    /// The sum.
    Sum,
    /// Sum and count.
    Avg,
    /// How many per power of two.
    Buckets,
}

/// Cells of groups that come up one after the other.
#[derive(Debug)]
pub(super) struct Cells {
    kind: CellKind,
    steps: usize,
    groups: usize,
    /// Counts, extremes (NaN: none yet), sums.
    values: Vec<f64>,
    /// Of averages.
    counts: Vec<f64>,
    /// Of buckets: which histogram, `NO_CELL` for none.
    histogram: Vec<u32>,
    histograms: Vec<[u32; BUCKETS]>,
}

impl Cells {
    /// No groups yet.
    #[must_use]
    pub(super) fn new(kind: CellKind, steps: usize) -> Self {
        Self {
            kind,
            steps,
            groups: 0,
            values: Vec::new(),
            counts: Vec::new(),
            histogram: Vec::new(),
            histograms: Vec::new(),
        }
    }

    /// What the cells hold.
    #[must_use]
    pub(super) fn kind(&self) -> CellKind {
        self.kind
    }

    /// Makes room for that many groups.
    ///
    /// # Errors
    /// More than [`CELLS_MAX`] cells.
    pub(super) fn reserve(&mut self, groups: usize) -> Result<()> {
        if groups <= self.groups {
            return Ok(());
        }
        let cells = groups.saturating_mul(self.steps);
        if cells > CELLS_MAX {
            let message = format!(
                "{groups} series of {} steps are too many: group by fewer fields or ask for fewer steps",
                self.steps
            );
            return Err(TracesError::TooLarge(message));
        }
        self.groups = groups;
        match self.kind {
            CellKind::Buckets => self.histogram.resize(cells, NO_CELL),
            CellKind::Count => self.values.resize(cells, 0.0),
            CellKind::Min | CellKind::Max | CellKind::Sum => self.values.resize(cells, f64::NAN),
            CellKind::Avg => {
                self.values.resize(cells, 0.0);
                self.counts.resize(cells, 0.0);
            }
        }
        Ok(())
    }

    /// Counts rows: one cell each.
    pub(super) fn count(&mut self, cells: &[u32]) {
        for cell in cells {
            if let Some(value) = self.values.get_mut(*cell as usize) {
                *value += 1.0;
            }
        }
    }

    /// Adds one number per row; NaN is none.
    ///
    /// # Errors
    /// More than [`HISTOGRAMS_MAX`] histograms.
    pub(super) fn add(&mut self, cells: &[u32], numbers: &[f64]) -> Result<()> {
        match self.kind {
            CellKind::Count => self.count(cells),
            CellKind::Buckets => return self.add_to_buckets(cells, numbers),
            CellKind::Min => self.fold(cells, numbers, f64::min),
            CellKind::Max => self.fold(cells, numbers, f64::max),
            CellKind::Sum => self.fold(cells, numbers, |sum, number| {
                if sum.is_nan() { number } else { sum + number }
            }),
            CellKind::Avg => {
                self.fold(cells, numbers, |sum, number| sum + number);
                for (cell, _) in cells.iter().zip(numbers).filter(|(_, n)| !n.is_nan()) {
                    if let Some(count) = self.counts.get_mut(*cell as usize) {
                        *count += 1.0;
                    }
                }
            }
        }
        Ok(())
    }

    fn fold(&mut self, cells: &[u32], numbers: &[f64], join: impl Fn(f64, f64) -> f64) {
        for (cell, number) in cells.iter().zip(numbers) {
            if let Some(value) = self.values.get_mut(*cell as usize)
                && !number.is_nan()
            {
                *value = join(*value, *number);
            }
        }
    }

    fn add_to_buckets(&mut self, cells: &[u32], numbers: &[f64]) -> Result<()> {
        for (cell, number) in cells.iter().zip(numbers) {
            let Some(bucket) = bucket_of(*number) else {
                continue;
            };
            let Some(histogram) = self.histogram.get_mut(*cell as usize) else {
                continue;
            };
            if *histogram == NO_CELL {
                if self.histograms.len() >= HISTOGRAMS_MAX {
                    let message = format!("more than {HISTOGRAMS_MAX} histograms: group by less");
                    return Err(TracesError::TooLarge(message));
                }
                *histogram = self.histograms.len() as u32;
                self.histograms.push([0; BUCKETS]);
            }
            self.histograms[*histogram as usize][bucket] += 1;
        }
        Ok(())
    }

    /// The numbers of a group, one per step; NaN where there is none.
    #[must_use]
    pub(super) fn values(&self, group: usize) -> Vec<f64> {
        let cells = group * self.steps..(group + 1) * self.steps;
        let values = self.values.get(cells.clone()).unwrap_or(&[]);
        match self.kind {
            CellKind::Avg => {
                let counts = self.counts.get(cells).unwrap_or(&[]);
                values
                    .iter()
                    .zip(counts)
                    .map(|(sum, count)| sum / count)
                    .collect()
            }
            _ => values.to_vec(),
        }
    }

    /// The histograms of a group, one per step; `None` where nothing was counted.
    #[must_use]
    pub(super) fn histograms(&self, group: usize) -> Vec<Option<&[u32; BUCKETS]>> {
        let cells = group * self.steps..(group + 1) * self.steps;
        let of_group = self.histogram.get(cells).unwrap_or(&[]);
        of_group
            .iter()
            .map(|place| self.histograms.get(*place as usize))
            .collect()
    }
}

/// The power of two that a number is rounded up to; nothing below 2.
#[inline]
#[must_use]
pub(super) fn bucket_of(number: f64) -> Option<usize> {
    // NaN fails too.
    if number >= 2.0 {
        let whole = number as u64;
        Some((64 - (whole - 1).leading_zeros() as usize).min(BUCKETS - 1))
    } else {
        None
    }
}

/// A quantile of a histogram over powers of two, interpolated exponentially inside the bucket, as Tempo
/// does it. Of few samples the next higher is taken.
#[must_use]
pub(super) fn quantile(q: f64, buckets: &[u32; BUCKETS]) -> f64 {
    let total: u64 = buckets.iter().map(|count| u64::from(*count)).sum();
    if total == 0 {
        return 0.0;
    }
    let wanted = ((q * total as f64).ceil() as u64).clamp(1, total);
    let mut before = 0_u64;
    let mut previous = None;
    for (bucket, count) in buckets.iter().enumerate().filter(|(_, count)| **count > 0) {
        let count = u64::from(*count);
        if before + count == wanted {
            return (bucket as f64).exp2();
        }
        if before + count > wanted {
            let share = (wanted - before) as f64 / count as f64;
            let high = bucket as f64;
            let low = previous.unwrap_or(high - 1.0);
            return (low + (high - low) * share).exp2();
        }
        before += count;
        previous = Some(bucket as f64);
    }
    0.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_round_up_to_powers_of_two() {
        let buckets = [0.0, 1.9, 2.0, 3.0, 4.0, 5.0, 1024.0, 1025.0, 1e30].map(bucket_of);
        let expected = [
            None,
            None,
            Some(1),
            Some(2),
            Some(2),
            Some(3),
            Some(10),
            Some(11),
            Some(63),
        ];
        assert_eq!(buckets, expected);
        assert_eq!(bucket_of(f64::NAN), None);
    }

    #[test]
    fn quantiles_are_interpolated() {
        let mut buckets = [0; BUCKETS];
        assert_eq!(quantile(0.5, &buckets), 0.0);
        buckets[3] = 4;
        buckets[5] = 4;
        assert_eq!(quantile(0.5, &buckets), 8.0);
        assert_eq!(quantile(1.0, &buckets), 32.0);
        assert_eq!(quantile(0.75, &buckets), 16.0);
        // Nothing below: the bucket is taken as one power wide.
        assert_eq!(quantile(0.25, &buckets), 2.5_f64.exp2());
        assert_eq!(quantile(0.0, &buckets), 2.25_f64.exp2());
    }

    #[test]
    fn cells_gather_by_kind() {
        let run = |kind| {
            let mut cells = Cells::new(kind, 2);
            cells.reserve(2).unwrap();
            cells
                .add(&[0, 0, 3, NO_CELL, 3], &[4.0, 2.0, 5.0, 9.0, f64::NAN])
                .unwrap();
            [cells.values(0), cells.values(1)]
                .map(|v| v.iter().map(ToString::to_string).collect::<Vec<_>>())
        };
        assert_eq!(run(CellKind::Count), [["2", "0"], ["0", "2"]]);
        assert_eq!(run(CellKind::Min), [["2", "NaN"], ["NaN", "5"]]);
        assert_eq!(run(CellKind::Max), [["4", "NaN"], ["NaN", "5"]]);
        assert_eq!(run(CellKind::Sum), [["6", "NaN"], ["NaN", "5"]]);
        assert_eq!(run(CellKind::Avg), [["3", "NaN"], ["NaN", "5"]]);
        assert!(Cells::new(CellKind::Count, 1000).reserve(1 << 20).is_err());
    }
}
