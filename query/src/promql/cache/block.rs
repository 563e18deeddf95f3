//! [`Block`]: the steps of a result in columns, as the cache keeps them.
//!
//! A row is a series: its floats from its first to its last step as one column (8 bytes a step), a
//! bitmap only if there are holes in it, its histograms with their steps. Blocks never change: what is
//! cached and what was evaluated since are joined into a new one.

use std::ops::RangeInclusive;
use std::sync::Arc;

use chronolith_engine::model::{Histogram, Labels};

use bytes::Bytes;
use parking_lot::Mutex;

use crate::promql::result::{FloatPoint, HistogramPoint, Series};
use crate::promql::steps::Steps;

/// Consecutive steps of a matrix.
#[derive(Debug)]
pub(crate) struct Block {
    steps: Steps,
    /// Sorted by labels, no two with the same, none empty.
    rows: Vec<Row>,
    /// Of the rows.
    bytes: usize,
    /// Some steps (times, ms) as they were written last.
    text: Mutex<Option<Written>>,
}

/// Steps (times of the first and the last, ms) in the form in which a client got them.
type Written = (RangeInclusive<i64>, Arc<[Bytes]>);

/// One series.
#[derive(Debug)]
struct Row {
    labels: Labels,
    /// The step of the first float.
    first: usize,
    /// Floats from there on; what stands in holes is arbitrary.
    floats: Vec<f64>,
    /// Which of them are there; empty where all are.
    present: Vec<u64>,
    histograms: Vec<(usize, Arc<Histogram>)>,
}

impl Row {
    fn new(labels: &Labels) -> Self {
        Self {
            labels: labels.clone(),
            first: 0,
            floats: Vec::new(),
            present: Vec::new(),
            histograms: Vec::new(),
        }
    }

    /// Adds floats of consecutive steps, which come after all that are there.
    fn push_run(&mut self, at: usize, run: &[f64]) {
        if self.floats.is_empty() {
            self.first = at;
        }
        let known = self.floats.len();
        let hole = at.saturating_sub(self.first + known);
        if hole > 0 && self.present.is_empty() {
            self.mark(0..known);
        }
        self.floats.resize(known + hole, 0.0);
        self.floats.extend_from_slice(run);
        if !self.present.is_empty() {
            self.mark(known + hole..self.floats.len());
        }
    }

    fn mark(&mut self, range: std::ops::Range<usize>) {
        for index in range {
            let (word, bit) = (index / 64, index % 64);
            if self.present.len() <= word {
                self.present.resize(word + 1, 0);
            }
            self.present[word] |= 1 << bit;
        }
    }

    fn has(&self, index: usize) -> bool {
        let word = self.present.get(index / 64);
        self.present.is_empty() || word.is_some_and(|word| word >> (index % 64) & 1 == 1)
    }

    /// Calls `each` with the runs of floats without holes in `from..to`.
    fn runs(&self, from: usize, to: usize, mut each: impl FnMut(usize, &[f64])) {
        let from = from.saturating_sub(self.first);
        let to = to.saturating_sub(self.first).min(self.floats.len());
        let mut at = from;
        while at < to {
            let end = if self.present.is_empty() {
                to
            } else {
                (at..to).find(|i| !self.has(*i)).unwrap_or(to)
            };
            if let Some(run) = self.floats.get(at..end).filter(|run| !run.is_empty()) {
                each(self.first + at, run);
            }
            at = end + 1;
        }
    }

    /// Adds the steps `from..to` of another row, whose step `offset` is this one's step 0.
    fn append(&mut self, other: &Self, from: usize, to: usize, offset: i64) {
        let moved = |step: usize| usize::try_from(step as i64 - offset).unwrap_or(0);
        other.runs(from, to, |at, run| self.push_run(moved(at), run));
        for (step, histogram) in &other.histograms {
            if (from..to).contains(step) {
                let histogram = Arc::clone(histogram);
                self.histograms.push((moved(*step), histogram));
            }
        }
    }

    fn is_empty(&self) -> bool {
        self.floats.is_empty() && self.histograms.is_empty()
    }

    fn bytes(&self) -> usize {
        let histograms = self.histograms.iter();
        let histograms: usize = histograms
            .map(|(_, h)| size_of::<Histogram>() + 24 + h.heap_bytes())
            .sum();
        size_of::<Self>()
            + self.labels.as_bytes().len()
            + 16
            + self.floats.capacity() * 8
            + self.present.capacity() * 8
            + histograms
    }
}

impl Block {
    fn new(steps: Steps, mut rows: Vec<Row>) -> Self {
        for row in &mut rows {
            row.floats.shrink_to_fit();
            row.present.shrink_to_fit();
        }
        rows.shrink_to_fit();
        let bytes = rows.iter().map(Row::bytes).sum::<usize>() + size_of::<Self>();
        Self {
            steps,
            rows,
            bytes,
            text: Mutex::default(),
        }
    }

    /// The columns of a matrix, which is sorted by labels.
    pub(crate) fn from_matrix(steps: Steps, matrix: &[Series]) -> Self {
        let index = |time_ms: i64| {
            let index = (time_ms - steps.start_ms) / steps.step_ms;
            usize::try_from(index).unwrap_or(0)
        };
        let rows = matrix.iter().map(|series| {
            let mut row = Row::new(&series.labels);
            row.floats.reserve_exact(series.floats.len());
            let mut run: Vec<f64> = Vec::with_capacity(series.floats.len());
            let mut begin = 0;
            for point in &series.floats {
                let at = index(point.time_ms);
                if at != begin + run.len() {
                    row.push_run(begin, &run);
                    run.clear();
                    begin = at;
                }
                run.push(point.value);
            }
            if !run.is_empty() {
                row.push_run(begin, &run);
            }
            let histograms = series.histograms.iter();
            row.histograms
                .extend(histograms.map(|p| (index(p.time_ms), Arc::clone(&p.histogram))));
            row
        });
        let rows = rows.filter(|row| !row.is_empty()).collect();
        Self::new(steps, rows)
    }

    /// Which steps it has values of.
    pub(crate) fn steps(&self) -> Steps {
        self.steps
    }

    /// Bytes in memory, about.
    pub(crate) fn bytes(&self) -> usize {
        let text = self.text.lock();
        let pieces = text.iter().flat_map(|(_, pieces)| pieces.iter());
        self.bytes + pieces.map(Bytes::len).sum::<usize>()
    }

    /// The steps in `range` (times, ms) as they were written, if they were the last to be.
    pub(crate) fn text(&self, range: &RangeInclusive<i64>) -> Option<Arc<[Bytes]>> {
        let text = self.text.lock();
        let (written, pieces) = text.as_ref()?;
        (written == range).then(|| Arc::clone(pieces))
    }

    /// Keeps how the steps in `range` are written.
    pub(crate) fn set_text(&self, range: RangeInclusive<i64>, pieces: Arc<[Bytes]>) {
        *self.text.lock() = Some((range, pieces));
    }

    /// The steps of `range` (times, ms) as indexes: from, to.
    fn indexes(&self, range: &RangeInclusive<i64>) -> (usize, usize) {
        let Steps {
            start_ms, step_ms, ..
        } = self.steps;
        let from = (range.start() - start_ms).max(0) as u64;
        let from = from.div_ceil(step_ms.unsigned_abs());
        let to = (range.end() - start_ms).div_euclid(step_ms) + 1;
        let to = usize::try_from(to).unwrap_or(0).min(self.steps.count);
        (usize::try_from(from).unwrap_or(usize::MAX).min(to), to)
    }

    /// Joins parts of blocks: their steps in `range` (times, ms), which follow each other and make up
    /// `steps`.
    pub(crate) fn join(steps: Steps, parts: &[(&Self, RangeInclusive<i64>)]) -> Self {
        struct Side<'a> {
            rows: std::iter::Peekable<std::slice::Iter<'a, Row>>,
            from: usize,
            to: usize,
            /// Its step number that is step 0 of the whole.
            offset: i64,
        }
        let mut sides: Vec<Side<'_>> = parts
            .iter()
            .map(|(block, range)| {
                let (from, to) = block.indexes(range);
                Side {
                    rows: block.rows.iter().peekable(),
                    from,
                    to,
                    offset: (steps.start_ms - block.steps.start_ms) / steps.step_ms,
                }
            })
            .collect();
        let mut rows = Vec::new();
        loop {
            let next = sides.iter_mut().filter_map(|side| side.rows.peek());
            let Some(labels) = next.map(|row| &row.labels).min().cloned() else {
                break;
            };
            let mut joined = Row::new(&labels);
            joined.floats.reserve(steps.count);
            for side in &mut sides {
                if let Some(row) = side.rows.next_if(|row| row.labels == labels) {
                    joined.append(row, side.from, side.to, side.offset);
                }
            }
            if !joined.is_empty() {
                rows.push(joined);
            }
        }
        Self::new(steps, rows)
    }

    /// The steps in `range` (times, ms) as a matrix.
    pub(crate) fn to_matrix(&self, range: &RangeInclusive<i64>) -> Vec<Series> {
        let (from, to) = self.indexes(range);
        let series = self.rows.iter().map(|row| {
            let mut floats = Vec::with_capacity(row.floats.len().min(to - from));
            row.runs(from, to, |at, run| {
                floats.extend(run.iter().zip(at..).map(|(value, step)| FloatPoint {
                    time_ms: self.steps.time(step),
                    value: *value,
                }));
            });
            let inside = |step: &usize| (from..to).contains(step);
            let histograms = row.histograms.iter().filter(|(step, _)| inside(step));
            let histograms = histograms.map(|(step, histogram)| HistogramPoint {
                time_ms: self.steps.time(*step),
                histogram: Arc::clone(histogram),
            });
            Series {
                labels: row.labels.clone(),
                floats,
                histograms: histograms.collect(),
            }
        });
        series
            .filter(|s| !s.floats.is_empty() || !s.histograms.is_empty())
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn steps(start_ms: i64, count: usize) -> Steps {
        Steps {
            start_ms,
            step_ms: 10,
            count,
        }
    }

    fn series(name: &str, times: &[i64]) -> Series {
        Series {
            labels: Labels::from_pairs([("__name__", name)]).unwrap(),
            floats: times
                .iter()
                .map(|&time_ms| FloatPoint {
                    time_ms,
                    value: time_ms as f64,
                })
                .collect(),
            histograms: Vec::new(),
        }
    }

    #[test]
    fn a_matrix_comes_back_with_its_holes() {
        let matrix = [
            series("a", &[100, 110, 140, 150, 170]),
            series("b", &[130]),
            series("c", &[]),
        ];
        let block = Block::from_matrix(steps(100, 8), &matrix);
        assert_eq!(block.to_matrix(&(0..=i64::MAX / 2)), matrix[..2]);
        let cut = block.to_matrix(&(105..=145));
        assert_eq!(cut, [series("a", &[110, 140]), series("b", &[130])]);
        assert_eq!(block.to_matrix(&(155..=165)), []);
    }

    #[test]
    fn joined_blocks_read_like_one_evaluation() {
        let old = [series("a", &[100, 110, 120]), series("c", &[100, 120])];
        let new = [series("a", &[130, 150]), series("b", &[140])];
        let (old, new) = (
            Block::from_matrix(steps(100, 3), &old),
            Block::from_matrix(steps(130, 3), &new),
        );
        let joined = Block::join(steps(110, 5), &[(&old, 110..=120), (&new, 130..=150)]);
        let want = [
            series("a", &[110, 120, 130, 150]),
            series("b", &[140]),
            series("c", &[120]),
        ];
        assert_eq!(joined.to_matrix(&(110..=150)), want);
        assert_eq!(joined.steps(), steps(110, 5));
    }
}
