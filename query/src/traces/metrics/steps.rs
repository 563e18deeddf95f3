//! The steps of a metrics query, as Tempo lays them: right-closed intervals on multiples of the step, each
//! named after its end.

use chronolith_engine::model::{TimeRange, TimestampNs};

use crate::traces::error::{Result, TracesError};

/// Steps in one query.
pub const STEPS_MAX: usize = 11_000;

/// The intervals `(start, start + step]`, `(start + step, start + 2 step]`, …
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StepGrid {
    start_ns: i64,
    step_ns: i64,
    count: usize,
}

impl StepGrid {
    /// From `start_ns` to `end_ns` every `step_ns`. Start and end move outwards to multiples of the step,
    /// unless the range is a single step.
    ///
    /// # Errors
    /// An empty range, a step of zero, more than [`STEPS_MAX`] steps.
    pub fn new(start_ns: i64, end_ns: i64, step_ns: i64) -> Result<Self> {
        let fault = |message: String| Err(TracesError::BadRequest(message));
        if start_ns < 0 || end_ns <= start_ns || step_ns <= 0 {
            let range = format!("{start_ns} to {end_ns} ns every {step_ns} ns");
            return fault(format!(
                "end must be after start, and the step above 0: {range}"
            ));
        }
        if end_ns - start_ns == step_ns {
            return Ok(Self {
                start_ns,
                step_ns,
                count: 1,
            });
        }
        let start_ns = start_ns - start_ns % step_ns;
        let intervals = (end_ns - start_ns).div_euclid(step_ns);
        let rest = i64::from((end_ns - start_ns) % step_ns != 0);
        match usize::try_from(intervals + rest) {
            Ok(count) if count <= STEPS_MAX => Ok(Self {
                start_ns,
                step_ns,
                count,
            }),
            _ => fault(format!(
                "{intervals} steps, at most {STEPS_MAX} are allowed"
            )),
        }
    }

    /// How many.
    #[must_use]
    pub fn count(&self) -> usize {
        self.count
    }

    /// Length of each, seconds.
    #[must_use]
    pub fn step_seconds(&self) -> f64 {
        self.step_ns as f64 / 1e9
    }

    /// The time that names a step, ms since the epoch.
    #[must_use]
    pub fn time_ms(&self, step: usize) -> i64 {
        let steps = i64::try_from(step).unwrap_or(i64::MAX).saturating_add(1);
        self.start_ns
            .saturating_add(self.step_ns.saturating_mul(steps))
            / 1_000_000
    }

    /// The step of a time in nanoseconds.
    #[inline]
    #[must_use]
    pub fn step_of(&self, time_ns: i64) -> Option<usize> {
        let after = time_ns.checked_sub(self.start_ns)?.checked_sub(1)?;
        let after = u64::try_from(after).ok()?;
        let step = match self.count {
            1 if after < self.step_ns as u64 => 0,
            1 => return None,
            _ => (after / self.step_ns as u64) as usize,
        };
        (step < self.count).then_some(step)
    }

    /// All times that have a step.
    #[must_use]
    pub fn range(&self) -> TimeRange {
        let length = self.step_ns.saturating_mul(self.count as i64);
        TimeRange {
            start: TimestampNs(self.start_ns.saturating_add(1)),
            end: TimestampNs(self.start_ns.saturating_add(length)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_are_closed_on_the_right() {
        let grid = StepGrid::new(25, 47, 10).unwrap();
        assert_eq!(
            (grid.count(), grid.range().start.0, grid.range().end.0),
            (3, 21, 50)
        );
        let steps = [20, 21, 30, 31, 40, 50, 51].map(|t| grid.step_of(t));
        assert_eq!(
            steps,
            [None, Some(0), Some(0), Some(1), Some(1), Some(2), None]
        );
        let instant = StepGrid::new(25, 48, 23).unwrap();
        assert_eq!((instant.count(), instant.range().end.0), (1, 48));
        assert_eq!(
            [25, 26, 48, 49].map(|t| instant.step_of(t)),
            [None, Some(0), Some(0), None]
        );
        let seconds = StepGrid::new(0, 60_000_000_000, 20_000_000_000).unwrap();
        assert_eq!((seconds.time_ms(0), seconds.time_ms(2)), (20_000, 60_000));
    }

    #[test]
    fn senseless_ranges_are_refused() {
        for (start, end, step) in [(5, 5, 1), (0, 10, 0), (-1, 5, 1), (0, i64::MAX, 1)] {
            assert!(StepGrid::new(start, end, step).is_err());
        }
    }
}
