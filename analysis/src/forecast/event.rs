//! Holidays and other planned events: what they did before is taken out of the history and put
//! back where they come again.
//!
//! For each point of an event the effect is how far the values then stood from what the gap
//! filler makes of the history without the event, averaged over past occurrences and drawn
//! towards 0 as if one more half occurrence had had none; on the logarithm where the methods work
//! there, so that effects are factors. Source: the regressors of Taylor and Letham, "Forecasting at
//! Scale" (2018), reduced to means. Cost: O(points of events). Good at: what happened at least
//! twice. Bad at: effects that spread beyond the points named.

use super::options::PlannedEvent;
use super::transform::Transform;

/// Occurrences without effect that are assumed on top of those seen.
const SHRINKAGE: f64 = 0.5;

/// Blanks the points of events, so that fits do not see them.
pub(crate) fn blank(values: &mut [f64], events: &[PlannedEvent]) {
    for event in events {
        for &start in &event.starts {
            let end = start.saturating_add(event.points).min(values.len());
            if let Some(inside) = values.get_mut(start..end) {
                inside.fill(f64::NAN);
            }
        }
    }
}

/// What an event does at each of its points, on the scale of the methods.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Effect {
    /// The shift.
    pub(crate) shift: f64,
    /// Its standard error.
    pub(crate) error: f64,
}

/// The effects of `event`: `seen` are the values, `without` what the history is without events.
pub(crate) fn effects(
    event: &PlannedEvent,
    seen: &[f64],
    without: &[f64],
    transform: Transform,
) -> Vec<Effect> {
    let effect = |offset: usize| {
        let shifts: Vec<f64> = event
            .starts
            .iter()
            .filter_map(|start| start.checked_add(offset))
            .filter_map(|at| Some((*seen.get(at)?, *without.get(at)?)))
            .filter(|(seen, _)| seen.is_finite())
            .map(|(seen, without)| transform.apply(seen) - transform.apply(without))
            .filter(|shift| shift.is_finite())
            .collect();
        let count = shifts.len() as f64;
        if shifts.is_empty() {
            return Effect {
                shift: 0.0,
                error: 0.0,
            };
        }
        let mean = shifts.iter().sum::<f64>() / count;
        let shift = mean * count / (count + SHRINKAGE);
        let squares: f64 = shifts.iter().map(|shift| (shift - mean).powi(2)).sum();
        // The occurrence assumed counts as a surprise too.
        let variance = (squares + SHRINKAGE * mean * mean) / (count + SHRINKAGE);
        Effect {
            shift,
            error: (variance * (1.0 + 1.0 / count)).sqrt(),
        }
    };
    (0..event.points).map(effect).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(starts: &[usize], points: usize) -> PlannedEvent {
        PlannedEvent {
            name: "sale".into(),
            starts: starts.to_vec(),
            points,
        }
    }

    #[test]
    fn blanks_what_lies_inside() {
        let mut values = [1.0; 5];
        blank(&mut values, &[event(&[3, usize::MAX], 9), event(&[0], 1)]);
        assert_eq!(values.map(f64::is_nan), [true, false, false, true, true]);
    }

    #[test]
    fn the_mean_effect_is_drawn_towards_none() {
        let seen = [1.0, 5.0, 1.0, 1.0, 5.0, 1.0];
        let found = effects(
            &event(&[1, 4, 100], 2),
            &seen,
            &[1.0; 6],
            Transform::Identity,
        );
        assert!((found[0].shift - 4.0 * 2.0 / 2.5).abs() < 1e-12);
        assert_eq!(
            found[1],
            Effect {
                shift: 0.0,
                error: 0.0
            }
        );
        assert!(found[0].error > 0.0);
    }
}
