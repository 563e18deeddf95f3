//! Samples with the time of their arrival: what decides between owners, and what reads as of then
//! look at.
//!
//! Most samples arrive about when they were taken, and of those nothing is kept: such a sample counts
//! as arrived at its own time. Rows of this kind are made where arrival matters (derived rows, late
//! rows of a store that keeps what was overwritten), which is never on the path of ordinary writes.

use std::sync::Arc;

use super::{Histogram, HistogramSample, SampleColumns, TimeRange, TimestampNs};

/// What a sample holds.
#[derive(Clone, Debug)]
pub(crate) enum SampleValue {
    Float(f64),
    Histogram(Arc<Histogram>),
}

/// `until` of a row whose place nothing has taken.
pub(crate) const LIVE: i64 = i64::MAX;

/// One sample and its life. All times are nanoseconds.
#[derive(Clone, Debug)]
pub(crate) struct ArrivedRow {
    pub(crate) time: i64,
    pub(crate) arrival: i64,
    /// When another row took its place or it was replaced; [`LIVE`] if that has not happened.
    pub(crate) until: i64,
    /// When the counter began, 0 where unknown.
    pub(crate) start: i64,
    pub(crate) value: SampleValue,
}

impl ArrivedRow {
    /// Whether it was in the store at a moment; with `None`, whether it is now.
    pub(crate) fn is_there(&self, as_of: Option<i64>) -> bool {
        match as_of {
            None => self.until == LIVE,
            Some(moment) => self.arrival <= moment && moment < self.until,
        }
    }

    pub(crate) fn is_in(&self, range: TimeRange) -> bool {
        range.contains(TimestampNs(self.time))
    }
}

/// Rows that ascend in time without duplicates, as columns.
pub(crate) fn to_columns<'a>(
    rows: impl IntoIterator<Item = &'a ArrivedRow>,
    out: &mut SampleColumns,
) {
    out.clear();
    for row in rows {
        match &row.value {
            SampleValue::Float(value) => {
                if row.start != 0 && out.start_timestamps.is_empty() {
                    out.start_timestamps.resize(out.values.len(), 0);
                }
                if row.start != 0 || !out.start_timestamps.is_empty() {
                    out.start_timestamps.push(row.start);
                }
                out.timestamps.push(row.time);
                out.values.push(*value);
            }
            SampleValue::Histogram(histogram) => out.histograms.push(HistogramSample {
                time: TimestampNs(row.time),
                histogram: Arc::clone(histogram),
                start_time: (row.start != 0).then_some(TimestampNs(row.start)),
            }),
        }
    }
}

/// Columns of samples that arrived at `arrival` (`None`: each at its own time), as rows: first the
/// floats, then the histograms.
pub(crate) fn to_rows(
    columns: &SampleColumns,
    arrival: Option<i64>,
) -> impl Iterator<Item = ArrivedRow> {
    let row = move |time: i64, start: i64, value| ArrivedRow {
        time,
        arrival: arrival.unwrap_or(time),
        until: LIVE,
        start,
        value,
    };
    let floats = columns.timestamps.iter().zip(&columns.values).enumerate();
    let floats = floats.map(move |(index, (time, value))| {
        let start = columns.start_timestamps.get(index).copied().unwrap_or(0);
        row(*time, start, SampleValue::Float(*value))
    });
    let histograms = columns.histograms.iter().map(move |sample| {
        let value = SampleValue::Histogram(Arc::clone(&sample.histogram));
        row(sample.time.0, sample.start_time.map_or(0, |t| t.0), value)
    });
    floats.chain(histograms)
}

/// Rows of one owner after their versions were sorted out, both ascending in time.
#[derive(Debug, Default)]
pub(crate) struct Versions {
    /// One row per time: the one that arrived last.
    pub(crate) live: Vec<ArrivedRow>,
    /// Rows whose place was taken, in no layer order: a time may occur more than once.
    pub(crate) superseded: Vec<ArrivedRow>,
}

/// Sorts out the versions of one owner's rows, which come in the order of arrival of their sources.
/// The place of a row is taken when the next row of the same time arrives.
pub(crate) fn sort_out(mut rows: Vec<ArrivedRow>) -> Versions {
    // Stable: rows of one time stay in order of arrival.
    rows.sort_by_key(|row| row.time);
    let mut versions = Versions::default();
    let mut rows = rows.into_iter().peekable();
    while let Some(mut row) = rows.next() {
        if row.until == LIVE
            && let Some(next) = rows.peek().filter(|next| next.time == row.time)
        {
            row.until = next.arrival;
        }
        match row.until {
            LIVE => versions.live.push(row),
            _ => versions.superseded.push(row),
        }
    }
    versions
}

/// One row per time of the rows of several owners: the one that arrived last, of those that arrived
/// together that of the later owner. Each owner's rows ascend in time without duplicates.
pub(crate) fn merge_owners(mut owners: Vec<Vec<ArrivedRow>>) -> Vec<ArrivedRow> {
    if owners.len() <= 1 {
        return owners.pop().unwrap_or_default();
    }
    let mut rows: Vec<ArrivedRow> = owners.into_iter().flatten().collect();
    // Stable: so that a later owner comes later.
    rows.sort_by_key(|row| (row.time, row.arrival));
    let mut merged: Vec<ArrivedRow> = Vec::with_capacity(rows.len());
    for row in rows {
        match merged.last_mut() {
            Some(last) if last.time == row.time => *last = row,
            _ => merged.push(row),
        }
    }
    merged
}

/// Cuts rows that ascend in time, but may repeat a time, into layers that do not: layer by layer they
/// can be stored as chunks.
pub(crate) fn layers(rows: Vec<ArrivedRow>) -> Vec<Vec<ArrivedRow>> {
    let mut layers: Vec<Vec<ArrivedRow>> = Vec::new();
    let (mut time, mut depth) = (i64::MIN, 0);
    for row in rows {
        depth = if row.time == time { depth + 1 } else { 0 };
        time = row.time;
        if layers.len() <= depth {
            layers.push(Vec::new());
        }
        layers[depth].push(row);
    }
    layers
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(time: i64, arrival: i64, value: f64) -> ArrivedRow {
        ArrivedRow {
            time,
            arrival,
            until: LIVE,
            start: 0,
            value: SampleValue::Float(value),
        }
    }

    fn shape(rows: &[ArrivedRow]) -> Vec<(i64, i64, i64)> {
        rows.iter().map(|r| (r.time, r.arrival, r.until)).collect()
    }

    #[test]
    fn versions_end_when_the_next_one_arrives() {
        let rows = vec![
            row(1, 1, 0.0),
            row(5, 5, 0.0),
            row(1, 9, 1.0),
            row(1, 12, 2.0),
        ];
        let versions = sort_out(rows);
        assert_eq!(shape(&versions.live), [(1, 12, LIVE), (5, 5, LIVE)]);
        assert_eq!(shape(&versions.superseded), [(1, 1, 9), (1, 9, 12)]);
        let all = [versions.live, versions.superseded].concat();
        let at = |moment| {
            let there = all.iter().filter(|row| row.is_there(moment));
            there.map(|row| (row.time, row.arrival)).collect::<Vec<_>>()
        };
        assert_eq!(at(Some(0)), []);
        assert_eq!(at(Some(8)), [(5, 5), (1, 1)]);
        assert_eq!(at(Some(9)), [(5, 5), (1, 9)]);
        assert_eq!(at(None), [(1, 12), (5, 5)]);
        let stacked = layers(all.into_iter().filter(|row| row.until != LIVE).collect());
        assert_eq!(stacked.iter().map(Vec::len).collect::<Vec<_>>(), [1, 1]);
    }

    #[test]
    fn of_two_owners_the_later_arrival_wins() {
        let received = vec![row(1, 1, 0.0), row(2, 30, 0.0), row(3, 3, 0.0)];
        let derived = vec![row(1, 1, 1.0), row(2, 20, 1.0), row(4, 9, 1.0)];
        let merged = merge_owners(vec![received, derived]);
        let values = merged.iter().map(|row| match row.value {
            SampleValue::Float(value) => (row.time, value),
            SampleValue::Histogram(_) => (row.time, f64::NAN),
        });
        let expected = [(1, 1.0), (2, 0.0), (3, 0.0), (4, 1.0)];
        assert_eq!(values.collect::<Vec<_>>(), expected);
    }
}
