//! Jumps: points where a series moves within one step by more than it ever does otherwise.
//!
//! A step is a jump when it lies more than five spreads from the usual step of its phase. Upward
//! ones are steps that happened once. Downward ones are clean-ups; three or more at one rhythm
//! (missed ones allowed) are taken to go on. Source: the spread is the median absolute deviation
//! (Rousseeuw and Croux, 1993). Cost: O(points), with a sort per phase.

use crate::robust;

/// Spreads from the usual step.
const SPREADS_MIN: f64 = 5.0;

/// How much smaller the spread must be with phases than without for phases to count.
const PHASE_GAIN_MAX: f64 = 0.8;

/// Cycles that a phase's usual step needs.
const CYCLES_MIN: usize = 8;

/// Clean-ups that make a rhythm, and how far from a multiple of it one may be.
const RESETS_MIN: usize = 3;
const RHYTHM_SLACK: f64 = 0.15;

/// The jumps of a series: index of the first point after it, and its height.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Jumps {
    found: Vec<(usize, f64)>,
}

impl Jumps {
    /// Finds the jumps; `seasons` are cycles whose phases may have usual steps of their own.
    pub(super) fn find(values: &[f64], seasons: &[usize]) -> Self {
        let steps: Vec<f64> = values.windows(2).map(|pair| pair[1] - pair[0]).collect();
        let Some(plain) = robust::spread(&steps) else {
            return Self::default();
        };
        let phased = seasons
            .iter()
            .filter(|&&season| season >= 2 && season * CYCLES_MIN <= steps.len())
            .max()
            .map(|&season| less_the_usual_step(&steps, season));
        let (steps, spread) = match phased.and_then(|steps| Some((robust::spread(&steps)?, steps)))
        {
            Some((spread, phased)) if spread.sigma < PHASE_GAIN_MAX * plain.sigma => {
                (phased, spread)
            }
            _ => (steps, plain),
        };
        let jump = |(index, step): (usize, &f64)| {
            let height = step - spread.center;
            (height.abs() > SPREADS_MIN * spread.sigma && spread.sigma > 0.0)
                .then_some((index + 1, height))
        };
        Self {
            found: steps.iter().enumerate().filter_map(jump).collect(),
        }
    }

    /// The values as if every jump had been there from the start: the end stays where it is.
    pub(super) fn undone(&self, values: &[f64]) -> Vec<f64> {
        let mut level = values.to_vec();
        let mut end = values.len();
        let mut above = 0.0;
        for &(index, height) in self.found.iter().rev() {
            level[index..end]
                .iter_mut()
                .for_each(|value| *value += above);
            (end, above) = (index, above + height);
        }
        level[..end].iter_mut().for_each(|value| *value += above);
        level
    }

    /// Where upward jumps end.
    pub(super) fn steps(&self) -> Vec<usize> {
        self.found
            .iter()
            .filter(|jump| jump.1 > 0.0)
            .map(|jump| jump.0)
            .collect()
    }

    /// Where clean-ups end.
    pub(super) fn resets(&self) -> Vec<usize> {
        self.found
            .iter()
            .filter(|jump| jump.1 < 0.0)
            .map(|jump| jump.0)
            .collect()
    }

    /// Where the next clean-up is due, the points to the one after it, and its (negative) height;
    /// `None` without a rhythm.
    pub(super) fn next_reset(&self) -> Option<(f64, f64, f64)> {
        let resets = self.resets();
        let last = *resets.last()?;
        if resets.len() < RESETS_MIN {
            return None;
        }
        let gaps: Vec<f64> = resets
            .windows(2)
            .map(|pair| (pair[1] - pair[0]) as f64)
            .collect();
        let shortest = gaps.iter().copied().fold(f64::INFINITY, f64::min);
        let multiples = gaps.iter().map(|gap| (gap / shortest).round());
        let even = gaps.iter().all(|gap| {
            let multiple = gap / shortest;
            (multiple - multiple.round()).abs() < RHYTHM_SLACK
        });
        // Clean-ups without a rhythm still come about as often as they came.
        let period = if even {
            gaps.iter().sum::<f64>() / multiples.sum::<f64>()
        } else {
            robust::median(&mut gaps.clone())?
        };
        let mut heights: Vec<f64> = self
            .found
            .iter()
            .filter(|jump| jump.1 < 0.0)
            .map(|jump| jump.1)
            .collect();
        Some((last as f64 + period, period, robust::median(&mut heights)?))
    }
}

/// The steps less the median step of their phase.
fn less_the_usual_step(steps: &[f64], season: usize) -> Vec<f64> {
    let usual: Vec<f64> = (0..season)
        .map(|phase| {
            let mut phase: Vec<f64> = steps.iter().skip(phase).step_by(season).copied().collect();
            robust::median(&mut phase).unwrap_or(0.0)
        })
        .collect();
    steps
        .iter()
        .zip(usual.iter().cycle())
        .map(|(step, usual)| step - usual)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn undoing_keeps_the_end() {
        let jumps = Jumps {
            found: vec![(2, 10.0), (4, -3.0)],
        };
        assert_eq!(jumps.undone(&[0.0, 0.0, 10.0, 10.0, 7.0]), [7.0; 5]);
        assert_eq!((jumps.steps(), jumps.resets()), (vec![2], vec![4]));
    }

    #[test]
    fn a_missed_clean_up_does_not_break_the_rhythm() {
        let at = |index: usize| (index, -2.0);
        let jumps = Jumps {
            found: vec![at(10), at(20), at(40), at(50)],
        };
        assert_eq!(jumps.next_reset(), Some((60.0, 10.0, -2.0)));
        assert_eq!(
            Jumps {
                found: vec![at(10), at(20)]
            }
            .next_reset(),
            None
        );
    }

    #[test]
    fn noise_and_constants_do_not_jump() {
        let values: Vec<f64> = (0..200).map(|i| f64::from(i * 7919 % 101)).collect();
        assert_eq!(Jumps::find(&values, &[24]), Jumps::default());
        assert_eq!(Jumps::find(&[3.0; 50], &[]), Jumps::default());
        assert_eq!(Jumps::find(&[], &[]), Jumps::default());
    }
}
