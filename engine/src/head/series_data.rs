//! One series' samples inside one generation of the head.
//!
//! Samples lie in *runs*, each ascending in time. A sample goes to the first run that ends before
//! it; when there is none, it starts a new run. In-order series have one run and pay for one.
//!
//! Invariant: of two samples with the same time, the one in the later run arrived later. (When the
//! second arrives, the run that holds the first, and by the same rule every run before it, already
//! ends at or after that time.) So readers resolve duplicates by run number alone.

use std::sync::Arc;

use crate::model::{Histogram, HistogramSample, SampleColumns, TimeRange, TimestampNs};

/// What a sample holds.
#[derive(Clone, Debug)]
pub(crate) enum SampleValue {
    Float(f64),
    Histogram(Arc<Histogram>),
}

/// One sample on its way into the head. `start` is 0 where unknown.
#[derive(Clone, Debug)]
pub(crate) struct Sample {
    pub(crate) time: i64,
    pub(crate) start: i64,
    pub(crate) value: SampleValue,
}

/// An ascending run of samples.
#[derive(Debug, Default)]
struct Run {
    samples: Vec<Sample>,
}

impl Run {
    fn last_time(&self) -> i64 {
        self.samples.last().map_or(i64::MIN, |s| s.time)
    }

    fn read(&self, range: TimeRange, out: &mut SampleColumns) {
        let from = self.samples.partition_point(|s| s.time < range.start.0);
        for sample in &self.samples[from..] {
            if sample.time > range.end.0 {
                break;
            }
            push_sample(out, sample);
        }
    }
}

/// Appends one sample to columns, which must end before it.
pub(crate) fn push_sample(out: &mut SampleColumns, sample: &Sample) {
    match &sample.value {
        SampleValue::Float(value) => {
            if sample.start != 0 && out.start_timestamps.is_empty() {
                out.start_timestamps.resize(out.timestamps.len(), 0);
            }
            out.timestamps.push(sample.time);
            out.values.push(*value);
            if sample.start != 0 || !out.start_timestamps.is_empty() {
                out.start_timestamps.push(sample.start);
            }
        }
        SampleValue::Histogram(histogram) => out.histograms.push(HistogramSample {
            time: TimestampNs(sample.time),
            histogram: Arc::clone(histogram),
            start_time: (sample.start != 0).then_some(TimestampNs(sample.start)),
        }),
    }
}

/// The samples of one series.
#[derive(Debug, Default)]
pub(crate) struct SeriesData {
    runs: Vec<Run>,
    first_time: i64,
    last_time: i64,
}

impl SeriesData {
    /// Appends a sample, however old, and returns the bytes it took. The exact repeat of the newest
    /// sample is left out.
    pub(crate) fn push(&mut self, sample: Sample) -> usize {
        if self.runs.is_empty() {
            self.first_time = sample.time;
            self.last_time = sample.time;
        } else {
            self.first_time = self.first_time.min(sample.time);
            self.last_time = self.last_time.max(sample.time);
        }
        match self
            .runs
            .iter_mut()
            .find(|run| run.samples.is_empty() || run.last_time() < sample.time)
        {
            Some(run) => run.samples.push(sample),
            None => self.runs.push(Run {
                samples: vec![sample],
            }),
        }
        size_of::<Sample>()
    }

    /// How many samples are held, overwritten ones included.
    pub(crate) fn len(&self) -> usize {
        self.runs.iter().map(|r| r.samples.len()).sum()
    }

    /// Whether a sample may lie in the range.
    pub(crate) fn overlaps(&self, range: TimeRange) -> bool {
        !self.runs.is_empty() && self.first_time <= range.end.0 && range.start.0 <= self.last_time
    }

    /// First and last time; `None` without samples.
    pub(crate) fn range(&self) -> Option<TimeRange> {
        (!self.runs.is_empty()).then(|| TimeRange::new(self.first_time, self.last_time))
    }

    /// Appends the samples of the range to `parts`, one ascending part per run, earliest arrival first.
    pub(crate) fn read(&self, range: TimeRange, parts: &mut Vec<SampleColumns>) {
        if !self.overlaps(range) {
            return;
        }
        for run in &self.runs {
            let mut columns = SampleColumns::default();
            run.read(range, &mut columns);
            if !columns.is_empty() {
                parts.push(columns);
            }
        }
    }

    /// Removes the samples of the range and returns how many there were.
    pub(crate) fn remove(&mut self, range: TimeRange) -> usize {
        let before = self.len();
        for run in &mut self.runs {
            run.samples.retain(|s| !range.contains(TimestampNs(s.time)));
        }
        self.runs.retain(|r| !r.samples.is_empty());
        let times = || {
            self.runs
                .iter()
                .flat_map(|r| r.samples.iter().map(|s| s.time))
        };
        let (first, last) = (times().min(), times().max());
        self.first_time = first.unwrap_or(0);
        self.last_time = last.unwrap_or(0);
        before - self.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn later_runs_arrived_later() {
        let mut data = SeriesData::default();
        for (time, value) in [
            (10, 0.0),
            (30, 1.0),
            (20, 2.0),
            (30, 3.0),
            (20, 4.0),
            (40, 5.0),
        ] {
            data.push(Sample {
                time,
                start: 0,
                value: SampleValue::Float(value),
            });
        }
        let mut parts = Vec::new();
        data.read(TimeRange::new(15, 35), &mut parts);
        let flat: Vec<_> = parts
            .iter()
            .map(|p| {
                p.timestamps
                    .iter()
                    .copied()
                    .zip(p.values.iter().copied())
                    .collect::<Vec<_>>()
            })
            .collect();
        assert_eq!(
            flat,
            [vec![(30, 1.0)], vec![(20, 2.0), (30, 3.0)], vec![(20, 4.0)]]
        );
        assert_eq!(data.remove(TimeRange::new(20, 30)), 4);
        assert_eq!(data.range(), Some(TimeRange::new(10, 40)));
    }
}
