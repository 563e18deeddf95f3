//! Which days have rows.

use std::collections::BTreeSet;

use chronolith_engine::model::{TimeRange, TimestampNs};
use chronolith_engine::rows::{LogScanRequest, RowOrder, SpanScanRequest};
use chronolith_engine::{EngineError, RequestContext, Signal, Store};

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
///
/// # Errors
/// What the store says.
pub(super) fn with_rows(
    store: &Store,
    context: &RequestContext,
    signal: Signal,
    range: TimeRange,
) -> Result<Vec<Day>, EngineError> {
    let ranges: Vec<TimeRange> = match signal {
        Signal::Metrics => {
            let segments = store.segments();
            let own = segments
                .iter()
                .filter(|segment| segment.signal == signal && segment.tenant == context.tenant)
                .map(|segment| segment.range);
            own.chain(store.stats().head_range).collect()
        }
        // What the head has of rows is found by looking for the first and the last.
        Signal::Logs | Signal::Spans => {
            let first = first_time(store, context, signal, range, RowOrder::OldestFirst)?;
            let last = first_time(store, context, signal, range, RowOrder::NewestFirst)?;
            let both = first.zip(last);
            both.map(|(first, last)| TimeRange::new(first, last))
                .into_iter()
                .collect()
        }
    };
    let mut numbers = BTreeSet::new();
    for found in ranges {
        let found = found.intersect(range);
        if found.is_empty() {
            continue;
        }
        let day = |time: TimestampNs| time.0.div_euclid(DAY_NS);
        // Days without rows in between cost a look at the index.
        numbers.extend(day(found.start)..=day(found.end));
    }
    let day = |number: i64| Day {
        number,
        range: of_day(number).intersect(range),
    };
    Ok(numbers.into_iter().map(day).collect())
}

/// The time of the first row in an order.
fn first_time(
    store: &Store,
    context: &RequestContext,
    signal: Signal,
    range: TimeRange,
    order: RowOrder,
) -> Result<Option<i64>, EngineError> {
    let block = match signal {
        Signal::Spans => {
            let mut request = SpanScanRequest::new(Vec::new(), range);
            (request.order, request.limit) = (order, Some(1));
            let first = store
                .scan_span_blocks(context, &request)?
                .next()
                .transpose()?;
            first.map(|block| block.time)
        }
        _ => {
            let mut request = LogScanRequest::new(Vec::new(), range);
            (request.order, request.limit) = (order, Some(1));
            let first = store
                .scan_log_blocks(context, &request)?
                .next()
                .transpose()?;
            first.map(|block| block.time)
        }
    };
    Ok(block.and_then(|times| times.first().copied()))
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
