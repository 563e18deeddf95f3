//! Evaluation times: the steps of a query, and the times that a selector looks at in each of them.

/// The times at which an expression is evaluated: `start`, `start + step`, …; ms since the epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Steps {
    /// The first time.
    pub start_ms: i64,
    /// Distance of two times; above 0.
    pub step_ms: i64,
    /// How many times there are; may be 0.
    pub count: usize,
}

impl Steps {
    /// A single time.
    pub fn instant(time_ms: i64) -> Self {
        Self {
            start_ms: time_ms,
            step_ms: 1,
            count: 1,
        }
    }

    /// From `start_ms` to at most `end_ms`; none if the end is before the start. `None` where the
    /// number of steps exceeds `count_max`.
    pub fn range(start_ms: i64, end_ms: i64, step_ms: i64, count_max: usize) -> Option<Self> {
        let step_ms = step_ms.max(1);
        if end_ms < start_ms {
            return Some(Self {
                start_ms,
                step_ms,
                count: 0,
            });
        }
        let intervals = end_ms.checked_sub(start_ms)? / step_ms;
        let count = usize::try_from(intervals).ok()?.checked_add(1)?;
        (count <= count_max).then_some(Self {
            start_ms,
            step_ms,
            count,
        })
    }

    /// Time number `index`.
    #[inline]
    pub fn time(&self, index: usize) -> i64 {
        self.start_ms + index as i64 * self.step_ms
    }

    /// The last time; the first one if there is none.
    pub fn end_ms(&self) -> i64 {
        self.time(self.count.saturating_sub(1))
    }

    /// All times.
    pub fn iter(&self) -> impl Iterator<Item = i64> + '_ {
        (0..self.count).map(|i| self.time(i))
    }

    /// The first time alone: where step-invariant expressions are evaluated.
    pub fn first(&self) -> Self {
        Self {
            count: self.count.min(1),
            ..*self
        }
    }
}

/// Where a selector looks, step by step: at the step's own time or at a fixed one (`@`), moved
/// back by the offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Lookup {
    /// The steps of the expression that the selector is part of.
    pub steps: Steps,
    /// `@`.
    pub at_ms: Option<i64>,
    /// `offset`.
    pub offset_ms: i64,
}

impl Lookup {
    /// The time looked at in step `index`.
    #[inline]
    pub fn time(&self, index: usize) -> i64 {
        self.at_ms
            .unwrap_or_else(|| self.steps.time(index))
            .saturating_sub(self.offset_ms)
    }

    /// The earliest and the latest time looked at.
    pub fn bounds(&self) -> (i64, i64) {
        (self.time(0), self.time(self.steps.count.saturating_sub(1)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_include_the_end_where_it_is_hit() {
        let steps = Steps::range(0, 10, 5, 100).unwrap();
        assert_eq!(steps.iter().collect::<Vec<_>>(), [0, 5, 10]);
        assert_eq!(Steps::range(0, 9, 5, 100).unwrap().count, 2);
        assert_eq!(Steps::range(1, 0, 5, 100).unwrap().count, 0);
        assert_eq!(Steps::range(0, 10, 1, 10), None);
        assert_eq!(Steps::range(i64::MIN, i64::MAX, 1, usize::MAX), None);
    }

    #[test]
    fn lookups_are_moved_and_fixed() {
        let steps = Steps::range(0, 10, 5, 100).unwrap();
        let moved = Lookup {
            steps,
            at_ms: None,
            offset_ms: 3,
        };
        assert_eq!(moved.bounds(), (-3, 7));
        assert_eq!(
            Lookup {
                at_ms: Some(100),
                ..moved
            }
            .bounds(),
            (97, 97)
        );
    }
}
