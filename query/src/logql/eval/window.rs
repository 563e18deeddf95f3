//! Which pieces of time the windows of a range query consist of.
//!
//! Windows overlap where the range is longer than the step. So that each sample is looked at once
//! however many windows hold it, time is cut at every edge of a window: each step gives one bucket, or
//! two where the range is no multiple of it, and a window is a run of buckets. Windows are open on the
//! left: a sample exactly as old as the range is not in it.

use std::ops::{Range, RangeInclusive};

/// The windows of a query; all in ns.
#[derive(Debug, Clone, Copy)]
pub(super) struct Grid {
    /// Where the first window ends.
    end_ns: i64,
    step_ns: i64,
    count: usize,
    range_ns: i64,
    /// How many whole steps a window has, and what is left of it.
    whole: i64,
    rest_ns: i64,
}

/// A bucket, and times that are in it.
#[derive(Debug, Clone)]
pub(super) struct Piece {
    /// `None`: no window holds the times.
    pub(super) bucket: Option<u32>,
    /// First and last of them, ns.
    pub(super) times_ns: RangeInclusive<i64>,
}

impl Grid {
    /// Windows of `range_ns` that end at `count` times from `start_ns` on, moved back by `offset_ns`.
    pub(super) fn new(
        (start_ns, step_ns, count): (i64, i64, usize),
        range_ns: i64,
        offset_ns: i64,
    ) -> Self {
        // With a single window the step is whatever suits.
        let step_ns = if count <= 1 { range_ns } else { step_ns }.max(1);
        Self {
            end_ns: start_ns.saturating_sub(offset_ns),
            step_ns,
            count,
            range_ns,
            whole: range_ns / step_ns,
            rest_ns: range_ns % step_ns,
        }
    }

    /// How many windows there are.
    pub(super) fn count(&self) -> usize {
        self.count
    }

    /// How long a window is.
    pub(super) fn range_ns(&self) -> i64 {
        self.range_ns
    }

    /// Where a window ends.
    pub(super) fn window_end_ns(&self, window: usize) -> i64 {
        let steps = i64::try_from(window).unwrap_or(i64::MAX);
        self.end_ns
            .saturating_add(steps.saturating_mul(self.step_ns))
    }

    /// The first and the last time that is in some window, if there is one.
    pub(super) fn times_ns(&self) -> Option<(i64, i64)> {
        let last = self.count.checked_sub(1)?;
        let first = self.end_ns.saturating_sub(self.range_ns).saturating_add(1);
        Some((first, self.window_end_ns(last)))
    }

    /// The bucket of a time, if any window holds it.
    #[inline]
    pub(super) fn bucket(&self, time_ns: i64) -> Option<u32> {
        let after = time_ns.checked_sub(self.end_ns)?;
        if self.count <= 1 {
            return (self.count == 1 && after <= 0 && after > -self.range_ns).then_some(1);
        }
        // The step's interval `(end - step, end]` that the time lies in, counted from the first window.
        let interval =
            after.div_euclid(self.step_ns) + i64::from(after.rem_euclid(self.step_ns) > 0);
        let before_end = interval * self.step_ns - after;
        let last = i64::try_from(self.count).unwrap_or(i64::MAX) - 1;
        if interval > last || after <= -self.range_ns {
            return None;
        }
        let position = interval + self.whole;
        if self.rest_ns == 0 {
            return u32::try_from(position).ok();
        }
        let in_rest = before_end < self.rest_ns;
        if !in_rest && self.whole == 0 {
            return None;
        }
        u32::try_from(position * 2 + i64::from(in_rest)).ok()
    }

    /// The bucket of a time, and the times around it that are in the same one.
    pub(super) fn piece(&self, time_ns: i64) -> Piece {
        let alone = |bucket| Piece {
            bucket,
            times_ns: time_ns..=time_ns,
        };
        let Some(bucket) = self.bucket(time_ns) else {
            return alone(None);
        };
        let times_ns = if self.count <= 1 {
            self.end_ns.saturating_sub(self.range_ns).saturating_add(1)..=self.end_ns
        } else {
            let Some(after) = time_ns.checked_sub(self.end_ns) else {
                return alone(Some(bucket));
            };
            let after_begin = after.rem_euclid(self.step_ns);
            let before_end = if after_begin > 0 {
                self.step_ns - after_begin
            } else {
                0
            };
            // How far the edges of the bucket lie behind the begin and before the end of the step.
            let (first, last) = if before_end < self.rest_ns || self.rest_ns == 0 {
                let length = if self.rest_ns == 0 {
                    self.step_ns
                } else {
                    self.rest_ns
                };
                (length - 1, 0)
            } else {
                (self.step_ns - 1, self.rest_ns)
            };
            let end = time_ns.saturating_add(before_end);
            end.saturating_sub(first)..=end.saturating_sub(last)
        };
        Piece {
            bucket: Some(bucket),
            times_ns,
        }
    }

    /// The buckets of a window.
    pub(super) fn buckets(&self, window: usize) -> Range<u32> {
        let window = i64::try_from(window).unwrap_or(i64::MAX);
        let (first, end) = if self.rest_ns == 0 {
            (window + 1, window + self.whole + 1)
        } else {
            (2 * window + 1, 2 * (window + self.whole) + 2)
        };
        let bucket = |number: i64| u32::try_from(number).unwrap_or(u32::MAX);
        bucket(first)..bucket(end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_make_up_windows() {
        for (start, step, count, range, offset) in [
            (100, 10, 5, 30, 0),
            (100, 10, 5, 25, 7),
            (100, 10, 5, 4, -3),
            (100, 10, 5, 10, 0),
            (100, 1, 1, 30, 5),
            (0, 7, 9, 50, 20),
        ] {
            let grid = Grid::new((start, step, count), range, offset);
            for time in -100..300 {
                let bucket = grid.bucket(time);
                let piece = grid.piece(time);
                assert!(piece.bucket == bucket && piece.times_ns.contains(&time));
                if bucket.is_some() {
                    let same = |t: i64| grid.bucket(t) == bucket;
                    let (first, last) = (*piece.times_ns.start(), *piece.times_ns.end());
                    assert!((first..=last).all(same), "{piece:?} of {grid:?}");
                    assert!(!same(first - 1) && !same(last + 1), "{piece:?} of {grid:?}");
                }
                let mut in_any = false;
                for window in 0..count {
                    let end = start + window as i64 * step - offset;
                    let holds = end - range < time && time <= end;
                    in_any |= holds;
                    let found = bucket.is_some_and(|b| grid.buckets(window).contains(&b));
                    assert_eq!(found, holds, "time {time}, window {window} of {grid:?}");
                }
                let (first, last) = grid.times_ns().unwrap();
                assert!(!in_any || (first <= time && time <= last));
            }
        }
        assert_eq!(Grid::new((0, 1, 0), 5, 0).times_ns(), None);
    }
}
