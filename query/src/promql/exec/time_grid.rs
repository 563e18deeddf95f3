//! [`TimeGrids`]: what depends on the times of a series' samples only, computed once for all series
//! that were scraped together.
//!
//! Series of one target have the same sample times, so where each window begins and ends, and by how
//! much a rate is extrapolated, is the same for all of them. A few grids are kept and found by their
//! times; where hardly any series shares its times with another, none are kept.
//!
//! Invariant: a grid is used for a series only if all of its times are equal.

use std::collections::HashMap;

/// Times kept at most; each takes 16 bytes, and what is computed of it about as much again.
const TIMES_KEPT_MAX: usize = 1 << 18;
/// So many grids are made before their use is questioned.
const TRIALS: usize = 64;

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
    by_sum: HashMap<u64, usize>,
    last: usize,
    times_kept: usize,
    made: usize,
    found: usize,
}

impl<G> Default for TimeGrids<G> {
    fn default() -> Self {
        Self {
            grids: Vec::new(),
            by_sum: HashMap::new(),
            last: 0,
            times_kept: 0,
            made: 0,
            found: 0,
        }
    }
}

impl<G> TimeGrids<G> {
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
            self.found += 1;
            return self.last;
        }
        let sum = fingerprint(raw);
        let place = self.by_sum.get(&sum).copied();
        if let Some(place) = place.filter(|&place| is_it(&self.grids[place])) {
            self.found += 1;
            return place;
        }
        self.made += 1;
        let is_useless = self.made > TRIALS && self.found < self.made;
        if is_useless || self.times_kept + raw.len() > TIMES_KEPT_MAX {
            self.grids.clear();
            self.by_sum.clear();
            self.times_kept = 0;
        }
        let times_ms: Vec<i64> = raw.iter().map(|&time| to_ms(time)).collect();
        let facts = compute(&times_ms);
        self.grids.push(TimeGrid {
            raw: raw.to_vec(),
            times_ms,
            facts,
        });
        self.times_kept += raw.len();
        let place = self.grids.len() - 1;
        self.by_sum.insert(sum, place);
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
        let mut grids = TimeGrids::default();
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
    fn times_that_nobody_shares_are_not_kept() {
        let mut grids = TimeGrids::default();
        for i in 0..1_000 {
            let raw = [i, i + 10];
            assert_eq!(grids.of(&raw, |t| t, |_| i).facts, i);
        }
        assert!(grids.grids.len() <= TRIALS);
    }
}
