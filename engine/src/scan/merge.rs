//! Merging ascending parts of one series into one ascending run without duplicates.
//!
//! Parts come in order of arrival: where two hold the same time, the later part's sample stays,
//! whichever kind (float or histogram) it is.

use crate::model::SampleColumns;

/// First and last time of a part.
pub(crate) fn bounds(part: &SampleColumns) -> Option<(i64, i64)> {
    let floats = part.timestamps.first().zip(part.timestamps.last());
    let floats = floats.map(|(first, last)| (*first, *last));
    let histograms = part.histograms.first().zip(part.histograms.last());
    let histograms = histograms.map(|(first, last)| (first.time.0, last.time.0));
    match (floats, histograms) {
        (Some(a), Some(b)) => Some((a.0.min(b.0), a.1.max(b.1))),
        (a, b) => a.or(b),
    }
}

/// Appends `part`, which begins after `out` ends.
fn append(out: &mut SampleColumns, part: SampleColumns) {
    if out.is_empty() {
        let spare = std::mem::replace(out, part);
        drop(spare);
        return;
    }
    // `out` may have no float sample yet, only histograms: then an empty column says nothing.
    if !(part.start_timestamps.is_empty() && out.start_timestamps.is_empty()) {
        out.start_timestamps.resize(out.timestamps.len(), 0);
        out.start_timestamps
            .extend_from_slice(&part.start_timestamps);
        let length = out.timestamps.len() + part.timestamps.len();
        out.start_timestamps.resize(length, 0);
    }
    out.timestamps.extend_from_slice(&part.timestamps);
    out.values.extend_from_slice(&part.values);
    out.histograms.extend(part.histograms);
}

/// Merges `parts` (emptied) into `out` (replaced).
///
/// Cost: a copy when the parts follow each other in time, else a sort that makes use of the runs.
pub(crate) fn merge_parts(parts: &mut Vec<SampleColumns>, out: &mut SampleColumns) {
    out.clear();
    let mut ordered: Vec<(i64, i64, usize)> = parts
        .iter()
        .enumerate()
        .filter_map(|(index, part)| bounds(part).map(|(first, last)| (first, last, index)))
        .collect();
    ordered.sort_unstable();
    if ordered.windows(2).all(|pair| pair[0].1 < pair[1].0) {
        for (_, _, index) in ordered {
            append(out, std::mem::take(&mut parts[index]));
        }
    } else {
        merge_overlapping(parts, out);
    }
    parts.clear();
}

/// Where a sample lies; the order of fields is the order of merging.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    time: i64,
    part: u32,
    histogram: bool,
    index: u32,
}

fn merge_overlapping(parts: &[SampleColumns], out: &mut SampleColumns) {
    let mut places = Vec::with_capacity(parts.iter().map(SampleColumns::len).sum());
    for (part, columns) in parts.iter().enumerate() {
        let part = part as u32;
        let floats = columns.timestamps.iter().enumerate();
        places.extend(floats.map(|(index, time)| Place {
            time: *time,
            part,
            histogram: false,
            index: index as u32,
        }));
        let histograms = columns.histograms.iter().enumerate();
        places.extend(histograms.map(|(index, sample)| Place {
            time: sample.time.0,
            part,
            histogram: true,
            index: index as u32,
        }));
    }
    // Stable: made for input that consists of a few ascending runs.
    places.sort();
    let has_starts = parts.iter().any(|p| !p.start_timestamps.is_empty());
    for (position, place) in places.iter().enumerate() {
        if places
            .get(position + 1)
            .is_some_and(|next| next.time == place.time)
        {
            continue;
        }
        let (part, index) = (&parts[place.part as usize], place.index as usize);
        if place.histogram {
            out.histograms.push(part.histograms[index].clone());
            continue;
        }
        out.timestamps.push(place.time);
        out.values.push(part.values[index]);
        if has_starts {
            out.start_timestamps
                .push(part.start_timestamps.get(index).copied().unwrap_or(0));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::model::{Histogram, HistogramSample, TimestampNs};

    fn floats(pairs: &[(i64, f64)]) -> SampleColumns {
        SampleColumns {
            timestamps: pairs.iter().map(|p| p.0).collect(),
            values: pairs.iter().map(|p| p.1).collect(),
            ..SampleColumns::default()
        }
    }

    #[test]
    fn start_times_behind_a_part_of_histograms_only_are_kept() {
        let histograms = SampleColumns {
            histograms: vec![HistogramSample {
                time: TimestampNs(1),
                histogram: Arc::new(Histogram::default()),
                start_time: None,
            }],
            ..SampleColumns::default()
        };
        let mut counted = floats(&[(2, 2.0)]);
        counted.start_timestamps = vec![7];
        let mut out = SampleColumns::default();
        merge_parts(
            &mut vec![histograms, counted, floats(&[(3, 3.0)])],
            &mut out,
        );
        assert_eq!(out.start_timestamps, [7, 0]);
    }

    #[test]
    fn the_later_part_wins_and_order_is_kept() {
        let mut parts = vec![
            floats(&[(1, 1.0), (3, 3.0), (5, 5.0)]),
            floats(&[(2, 2.0), (3, 3.5)]),
            floats(&[(0, 0.5)]),
        ];
        let mut out = SampleColumns::default();
        merge_parts(&mut parts, &mut out);
        assert_eq!(
            out,
            floats(&[(0, 0.5), (1, 1.0), (2, 2.0), (3, 3.5), (5, 5.0)])
        );
    }

    #[test]
    fn parts_that_follow_each_other_are_joined_in_time_order() {
        let mut late = floats(&[(10, 1.0)]);
        late.start_timestamps = vec![7];
        let mut parts = vec![late, floats(&[(1, 1.0), (2, 2.0)])];
        let mut out = SampleColumns::default();
        merge_parts(&mut parts, &mut out);
        assert_eq!(out.timestamps, [1, 2, 10]);
        assert_eq!(out.start_timestamps, [0, 0, 7]);
    }

    #[test]
    fn kinds_overwrite_each_other() {
        let histogram = HistogramSample {
            time: TimestampNs(2),
            histogram: Arc::new(Histogram::default()),
            start_time: None,
        };
        let histograms = SampleColumns {
            histograms: vec![histogram],
            ..SampleColumns::default()
        };
        let mut out = SampleColumns::default();
        let mut parts = vec![floats(&[(1, 1.0), (2, 2.0)]), histograms.clone()];
        merge_parts(&mut parts, &mut out);
        assert_eq!((out.timestamps.len(), out.histograms.len()), (1, 1));
        let mut parts = vec![histograms, floats(&[(1, 1.0), (2, 2.0)])];
        merge_parts(&mut parts, &mut out);
        assert_eq!((out.timestamps.len(), out.histograms.len()), (2, 0));
    }
}
