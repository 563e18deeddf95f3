//! What changed since: tells caches of query results which times they can still trust.
//!
//! Each tenant numbers the changes of its metrics and keeps, of the numbers that may still be asked
//! about, the earliest time that changed since. Rows that arrive in order change only the present, so a
//! result about the past stays good however fast they come; one late row, one deletion or one replaced
//! range makes everything from its time on suspect. Retention takes rows away at the other end and is
//! noted apart.
//!
//! ```text
//! change   1: 100   2: 110   3: 60   4: 120        kept: (3, 60) (4, 120)
//! since 0, 1, 2 -> from 60 on      since 3 -> from 120 on      since 4 -> nothing
//! ```
//!
//! A change that touches an earlier time than those before it makes them pointless; so both columns
//! ascend, and an answer is one search. Changes close together in time share an entry, and when there
//! are too many entries the older half is thinned: answers get earlier by that, never later.
//!
//! Noting costs one comparison per record, not per sample: the head knows the earliest time of what it
//! was given.

use std::collections::VecDeque;

use parking_lot::Mutex;

use crate::model::TimestampNs;

/// Entries kept: with one a second, more than an hour is told to the second.
const ENTRIES_MAX: usize = 4096;
/// Times this close share an entry.
const SAME_ENTRY_NS: i64 = 1_000_000_000;

/// A state of a tenant's metrics, to ask later what changed since. Means nothing to another tenant or
/// another opening of the store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct ChangeMark(u64);

/// What changed in a tenant's metrics since a [`ChangeMark`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ChangedSince {
    /// Samples of this time and later may be others now; `None`: none are.
    pub touched_from: Option<TimestampNs>,
    /// Samples up to this time may be gone: retention took them.
    pub removed_until: Option<TimestampNs>,
}

impl ChangedSince {
    /// Whether all is as it was.
    #[must_use]
    pub fn is_nothing(self) -> bool {
        self == Self::default()
    }
}

/// The changes of one tenant's metrics.
#[derive(Debug, Default)]
pub(crate) struct ChangeLog(Mutex<Changes>);

#[derive(Debug, Default)]
struct Changes {
    /// Number of the newest change.
    number: u64,
    /// Numbers and the earliest times touched from there on, both ascending.
    touched: VecDeque<(u64, i64)>,
    /// Number of the newest removal, and until when there have been any.
    removed: Option<(u64, i64)>,
}

impl ChangeLog {
    /// Samples from `time` on changed. To be called when they can be read, before anybody is told
    /// that they are stored.
    pub(crate) fn touch(&self, time: i64) {
        self.0.lock().touch(time);
    }

    /// Samples up to `time` are gone.
    pub(crate) fn remove_until(&self, time: i64) {
        let mut changes = self.0.lock();
        changes.number += 1;
        let until = changes.removed.map_or(time, |(_, known)| known.max(time));
        changes.removed = Some((changes.number, until));
    }

    /// The present. What can be read of later changes is told by [`ChangeLog::since`] this mark.
    pub(crate) fn mark(&self) -> ChangeMark {
        ChangeMark(self.0.lock().number)
    }

    /// What changed after the mark.
    pub(crate) fn since(&self, mark: ChangeMark) -> ChangedSince {
        let changes = self.0.lock();
        let next = changes
            .touched
            .partition_point(|(number, _)| *number <= mark.0);
        let touched = changes.touched.get(next);
        let removed = changes.removed.filter(|(number, _)| *number > mark.0);
        ChangedSince {
            touched_from: touched.map(|(_, time)| TimestampNs(*time)),
            removed_until: removed.map(|(_, until)| TimestampNs(until)),
        }
    }
}

impl Changes {
    fn touch(&mut self, time: i64) {
        self.number += 1;
        while self.touched.back().is_some_and(|(_, known)| *known >= time) {
            self.touched.pop_back();
        }
        match self.touched.back_mut() {
            Some((number, known)) if time.saturating_sub(*known) < SAME_ENTRY_NS => {
                *number = self.number;
            }
            _ => self.touched.push_back((self.number, time)),
        }
        if self.touched.len() > ENTRIES_MAX {
            self.thin_out();
        }
    }

    /// Joins neighbours in the older half: the later number with the earlier time.
    fn thin_out(&mut self) {
        let half = ENTRIES_MAX / 2;
        let newer = self.touched.split_off(half);
        let older = self.touched.make_contiguous();
        let joined = older.chunks(2).filter_map(|pair| {
            let (first, last) = (pair.first()?, pair.last()?);
            Some((last.0, first.1))
        });
        let mut joined: VecDeque<_> = joined.collect();
        joined.extend(newer);
        self.touched = joined;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(log: &ChangeLog, mark: u64) -> Option<i64> {
        log.since(ChangeMark(mark)).touched_from.map(|time| time.0)
    }

    const S: i64 = 1_000_000_000;

    #[test]
    fn the_earliest_time_since_a_mark_is_told() {
        let log = ChangeLog::default();
        for time in [100 * S, 110 * S, 60 * S, 120 * S] {
            log.touch(time);
        }
        assert_eq!(from(&log, 0), Some(60 * S));
        assert_eq!(from(&log, 2), Some(60 * S));
        assert_eq!(from(&log, 3), Some(120 * S));
        assert_eq!(from(&log, 4), None);
        assert_eq!(log.mark(), ChangeMark(4));
    }

    #[test]
    fn changes_close_in_time_share_an_entry_and_err_to_the_past() {
        let log = ChangeLog::default();
        log.touch(100 * S);
        let mark = log.mark();
        log.touch(100 * S + 1);
        assert_eq!(log.since(mark).touched_from, Some(TimestampNs(100 * S)));
        assert_eq!(log.0.lock().touched.len(), 1);
    }

    #[test]
    fn removals_are_told_apart() {
        let log = ChangeLog::default();
        log.touch(100 * S);
        let mark = log.mark();
        log.remove_until(50 * S);
        let changed = log.since(mark);
        assert_eq!(changed.removed_until, Some(TimestampNs(50 * S)));
        assert_eq!(changed.touched_from, None);
        assert!(log.since(log.mark()).is_nothing());
    }

    #[test]
    fn thinning_out_is_bounded_and_never_answers_too_late() {
        let log = ChangeLog::default();
        let mut times = Vec::new();
        // Mostly in order, now and then late.
        let mut state = 7_u64;
        for i in 0..50_000_i64 {
            state = state.wrapping_mul(6_364_136_223_846_793_005) + 1;
            let late = if state >> 60 == 0 { 40 } else { 0 };
            times.push((i - late) * 2 * S);
            log.touch((i - late) * 2 * S);
        }
        let len = log.0.lock().touched.len();
        assert!(len <= ENTRIES_MAX, "{len} entries");
        let mut exact = i64::MAX;
        for mark in (0..times.len()).rev() {
            exact = exact.min(times[mark]);
            let told = from(&log, mark as u64).unwrap();
            assert!(told <= exact, "since {mark}: {told}, not {exact}");
            if mark > times.len() - 1000 {
                assert!(exact - told < S, "since {mark}: {told}, not {exact}");
            }
        }
    }
}
