//! Fills gaps, so that every method can count on a value at every point.
//!
//! A gap gets the straight line between its neighbours, plus, where a season is known, what the
//! phase usually differs from such a line. Filled points never count in backtests. Cost: O(points).

/// `values` with NaN and infinities replaced; `season` is a cycle in points, or 1.
///
/// The ends repeat the nearest value; without any finite value the result is all 0.
pub(crate) fn fill(values: &[f64], season: usize) -> Vec<f64> {
    let mut filled = values.to_vec();
    let season = season.max(1);
    let gaps = line_gaps(&mut filled);
    if season > 1 && !gaps.is_empty() {
        let usual = usual_differences(values, &filled, season);
        // The differences of the neighbours themselves must not count twice.
        for gap in gaps {
            let known = |at: Option<usize>| at.and_then(|at| usual.get(at % season)).copied();
            let before = known(gap.start.checked_sub(1));
            let after = known((gap.end < values.len()).then_some(gap.end));
            let (before, after) = (
                before.or(after).unwrap_or(0.0),
                after.or(before).unwrap_or(0.0),
            );
            let width = (gap.len() + 1) as f64;
            for (index, at) in gap.enumerate() {
                let share = (index + 1) as f64 / width;
                filled[at] += usual[at % season] - (before + share * (after - before));
            }
        }
    }
    filled
}

/// Replaces gaps by lines, and says where they were.
fn line_gaps(values: &mut [f64]) -> Vec<std::ops::Range<usize>> {
    let mut gaps = Vec::new();
    let mut at = 0;
    while at < values.len() {
        if values[at].is_finite() {
            at += 1;
            continue;
        }
        let start = at;
        while at < values.len() && !values[at].is_finite() {
            at += 1;
        }
        let before = start.checked_sub(1).map(|before| values[before]);
        let after = values.get(at).copied();
        let (from, to) = (
            before.or(after).unwrap_or(0.0),
            after.or(before).unwrap_or(0.0),
        );
        let width = (at - start + 1) as f64;
        for (index, value) in values[start..at].iter_mut().enumerate() {
            let share = (index + 1) as f64 / width;
            *value = from * (1.0 - share) + to * share;
        }
        gaps.push(start..at);
    }
    gaps
}

/// Per phase, the mean difference of what was seen from the mean of its cycle.
fn usual_differences(seen: &[f64], filled: &[f64], season: usize) -> Vec<f64> {
    let mut sums = vec![(0.0, 0.0); season];
    for (cycle, (seen, filled)) in seen.chunks(season).zip(filled.chunks(season)).enumerate() {
        let level = filled.iter().sum::<f64>() / filled.len() as f64;
        // A cycle cut short has another mean than a whole one.
        if cycle > 0 && seen.len() < season {
            continue;
        }
        for (slot, value) in sums
            .iter_mut()
            .zip(seen)
            .filter(|(_, value)| value.is_finite())
        {
            slot.0 += value - level;
            slot.1 += 1.0;
        }
    }
    sums.iter()
        .map(|&(sum, count)| if count > 0.0 { sum / count } else { 0.0 })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const GAP: f64 = f64::NAN;

    #[test]
    fn lines_between_and_flat_at_the_ends() {
        assert_eq!(
            fill(&[GAP, 1.0, GAP, GAP, 4.0, f64::INFINITY], 1),
            [1.0, 1.0, 2.0, 3.0, 4.0, 4.0]
        );
        assert_eq!(fill(&[GAP, GAP], 1), [0.0, 0.0]);
        assert!(fill(&[], 3).is_empty());
        assert_eq!(fill(&[1.0, GAP], 24), [1.0, 1.0]);
    }

    #[test]
    fn a_lost_day_looks_like_the_others() {
        let value = |i: usize| ((i % 24) as f64 / 24.0 * std::f64::consts::TAU).sin();
        let mut values: Vec<f64> = (0..24 * 7).map(value).collect();
        values[60..84].fill(GAP);
        let filled = fill(&values, 24);
        for (at, found) in filled.iter().enumerate().take(84).skip(60) {
            assert!(
                (found - value(at)).abs() < 0.25,
                "{at}: {found} for {}",
                value(at)
            );
        }
    }
}
