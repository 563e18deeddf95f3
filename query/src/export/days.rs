//! Which days have rows.

use std::collections::BTreeSet;

use chronolith_engine::model::{TimeRange, TimestampNs};
use chronolith_engine::{RequestContext, Signal, Store};

const DAY_NS: i64 = 86_400_000_000_000;

/// A day (UTC), or the part of it that is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Day {
    /// Days since the epoch.
    pub(super) number: i64,
    /// The times asked for, both ends inside.
    pub(super) range: TimeRange,
}

impl Day {
    /// `2026-11-21`.
    pub(super) fn name(&self) -> String {
        let (year, month, day) = civil(self.number);
        format!("{year:04}-{month:02}-{day:02}")
    }
}

/// Days on which the tenant may have rows of a signal inside `range`, in order.
pub(super) fn with_rows(
    store: &Store,
    context: &RequestContext,
    signal: Signal,
    range: TimeRange,
) -> Vec<Day> {
    let segments = store.segments();
    let own = segments
        .iter()
        .filter(|segment| segment.signal == signal && segment.tenant == context.tenant)
        .map(|segment| segment.range);
    let ranges: Vec<TimeRange> = own.chain(store.stats().head_range).collect();
    let mut numbers = BTreeSet::new();
    for found in ranges {
        let found = found.intersect(range);
        if found.is_empty() {
            continue;
        }
        let (first, last) = (
            found.start.0.div_euclid(DAY_NS),
            found.end.0.div_euclid(DAY_NS),
        );
        // A head with a stray sample may span centuries; an empty day costs a look at the index.
        numbers.extend(first..=last);
    }
    let day = |number: i64| Day {
        number,
        range: of_day(number).intersect(range),
    };
    numbers.into_iter().map(day).collect()
}

fn of_day(number: i64) -> TimeRange {
    let start = number.saturating_mul(DAY_NS);
    TimeRange {
        start: TimestampNs(start),
        end: TimestampNs(start.saturating_add(DAY_NS - 1)),
    }
}

/// Year, month and day of a day's number. Algorithm: `civil_from_days` of Howard Hinnant's
/// "chrono-Compatible Low-Level Date Algorithms".
fn civil(number: i64) -> (i64, i64, i64) {
    let shifted = number + 719_468;
    let era = shifted.div_euclid(146_097);
    let of_era = shifted.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 {
        shifted_month + 3
    } else {
        shifted_month - 9
    };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_have_names() {
        let name = |number| {
            Day {
                number,
                range: of_day(number),
            }
            .name()
        };
        assert_eq!(name(0), "1970-01-01");
        assert_eq!(name(-1), "1969-12-31");
        assert_eq!(name(11_016), "2000-02-29");
        assert_eq!(name(20_778), "2026-11-21");
    }
}
