//! [`TimeGrids`]: what depends on the times of a series' samples only, computed once for all series
//! that were scraped together.
//!
//! Series of one target have the same sample times, so where each window begins and ends, and by how
//! much a rate is extrapolated, is the same for all of them. Grids are kept, as long as they are few
//! megabytes, and found by their times.
//!
//! Invariants: a grid is used for a series only if all of its times are equal; what is kept is bounded
//! whatever the series.

use std::collections::HashMap;

/// When times and cells of all grids are more than this, they are made anew: 8 MiB of times.
const KEPT_MAX: usize = 1 << 19;

/// The times of a series, and what was computed of them.
#[derive(Debug)]
pub struct TimeGrid<G> {
    /// The times as they were given.
    raw: Vec<i64>,
    /// The same in milliseconds.
    pub times_ms: Vec<i64>,
    /// What was computed of them.
    pub facts: G,
}

/// The grids of one partition.
#[derive(Debug)]
pub struct TimeGrids<G> {
    grids: Vec<TimeGrid<G>>,
    by_fingerprint: HashMap<u64, usize>,
    last: usize,
    /// Times and cells of all grids.
    kept: usize,
    /// What is computed of a grid takes about as much as so many times.
    facts_weight: usize,
}

impl<G> TimeGrids<G> {
    /// No grids; what is computed of one will take about as much as `facts_weight` times.
    pub fn new(facts_weight: usize) -> Self {
        Self {
            grids: Vec::new(),
            by_fingerprint: HashMap::new(),
            last: 0,
            kept: 0,
            facts_weight,
        }
    }

    /// The grid of these times; `to_ms` and `compute` are asked if it is new.
    pub fn of(
        &mut self,
        raw: &[i64],
        to_ms: impl Fn(i64) -> i64,
        compute: impl FnOnce(&[i64]) -> G,
    ) -> &TimeGrid<G> {
        let place = self.place(raw, to_ms, compute);
        self.last = place;
        &self.grids[place]
    }

    fn place(
        &mut self,
        raw: &[i64],
        to_ms: impl Fn(i64) -> i64,
        compute: impl FnOnce(&[i64]) -> G,
    ) -> usize {
        let is_it = |grid: &TimeGrid<G>| grid.raw == raw;
        if self.grids.get(self.last).is_some_and(is_it) {
            return self.last;
        }
        let fingerprint = fingerprint(raw);
        let place = self.by_fingerprint.get(&fingerprint).copied();
        if let Some(place) = place.filter(|&place| is_it(&self.grids[place])) {
            return place;
        }
        let weight = raw.len() + self.facts_weight;
        if self.kept + weight > KEPT_MAX {
            self.grids.clear();
            self.by_fingerprint.clear();
            self.kept = 0;
        }
        let times_ms: Vec<i64> = raw.iter().map(|&time| to_ms(time)).collect();
        let facts = compute(&times_ms);
        self.grids.push(TimeGrid {
            raw: raw.to_vec(),
            times_ms,
            facts,
        });
        self.kept += weight;
        let place = self.grids.len() - 1;
        self.by_fingerprint.insert(fingerprint, place);
        place
    }
}

/// Different for times that differ in a sample or two.
fn fingerprint(times: &[i64]) -> u64 {
    let sum = times
        .iter()
        .fold(0_u64, |sum, &time| sum.wrapping_add(time as u64));
    let ends = [times.first(), times.last()].map(|t| t.copied().unwrap_or(0) as u64);
    let mixed = sum ^ ends[0].rotate_left(17) ^ ends[1].rotate_left(41) ^ times.len() as u64;
    mixed.wrapping_mul(0x9E37_79B9_7F4A_7C15)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_times_are_computed_once() {
        let mut grids = TimeGrids::new(1);
        let mut computed = 0;
        for raw in [[1_000, 2_000], [1_000, 3_000], [1_000, 2_000]] {
            let grid = grids.of(
                &raw,
                |t| t / 1_000,
                |ms| {
                    computed += 1;
                    ms.to_vec()
                },
            );
            assert_eq!(grid.facts, raw.map(|t| t / 1_000));
            assert_eq!(grid.times_ms, grid.facts);
        }
        assert_eq!(computed, 2);
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let mut grids = TimeGrids::new(KEPT_MAX / 10);
        for i in 0..100 {
            assert_eq!(grids.of(&[i, i + 10], |t| t, |_| i).facts, i);
            assert!(grids.grids.len() < 10);
        }
    }
}
