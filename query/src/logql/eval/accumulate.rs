//! What range functions remember of the samples of a series, and what they make of a window.
//!
//! Each series has cells, one per bucket that holds samples; a window's value is computed of its cells.
//! Cells are appended as rows come and put in order when they have doubled in number, so that a series
//! takes the memory of its distinct buckets, whatever the order of its rows.

use super::window::Grid;

/// What a cell remembers.
pub(super) trait Accumulator: Default + Send {
    /// Adds a sample.
    fn add(&mut self, time_ns: i64, value: f64);

    /// Takes over what another cell of the same bucket remembers; its samples came later.
    fn absorb(&mut self, other: Self);

    /// The value of a window whose samples these cells remember; there is at least one.
    fn of_window(cells: &[(u32, Self)], window: &Window) -> Option<f64>;

    /// Bytes outside of the cell itself.
    fn heap_bytes(&self) -> usize {
        0
    }
}

/// What is known of a window.
#[derive(Debug, Clone, Copy)]
pub(super) struct Window {
    /// Where it begins (not in it) and ends, ns.
    pub(super) start_ns: i64,
    pub(super) end_ns: i64,
    /// The parameter of the function.
    pub(super) param: f64,
    /// The sum is a rate.
    pub(super) per_second: bool,
}

impl Window {
    fn seconds(&self) -> f64 {
        (self.end_ns - self.start_ns) as f64 / 1e9
    }
}

/// The cells of one series.
#[derive(Debug)]
pub(super) struct Cells<A> {
    cells: Vec<(u32, A)>,
    /// So many cells from the first on are those of consecutive buckets, and found by their number.
    run: usize,
    /// At this many cells they are put in order.
    tidy_at: usize,
    ordered: bool,
}

impl<A: Accumulator> Default for Cells<A> {
    fn default() -> Self {
        Self {
            cells: Vec::new(),
            run: 0,
            tidy_at: 64,
            ordered: true,
        }
    }
}

impl<A: Accumulator> Cells<A> {
    /// Adds a sample to a bucket.
    #[inline]
    pub(super) fn add(&mut self, bucket: u32, time_ns: i64, value: f64) {
        match self.cells.last_mut() {
            Some((last, cell)) if *last == bucket => cell.add(time_ns, value),
            _ => self.add_elsewhere(bucket, time_ns, value),
        }
    }

    fn add_elsewhere(&mut self, bucket: u32, time_ns: i64, value: f64) {
        if let Some(cell) = self.in_run(bucket) {
            return cell.add(time_ns, value);
        }
        if self.cells.len() >= self.tidy_at {
            self.tidy();
            self.tidy_at = self.cells.len() * 2 + 64;
            if let Ok(at) = self.cells.binary_search_by_key(&bucket, |(b, _)| *b) {
                return self.cells[at].1.add(time_ns, value);
            }
        }
        let last = self.cells.last().map(|(last, _)| *last);
        self.ordered &= last.is_none_or(|last| last < bucket);
        if self.ordered
            && self.run == self.cells.len()
            && last.is_none_or(|last| last.checked_add(1) == Some(bucket))
        {
            self.run += 1;
        }
        let mut cell = A::default();
        cell.add(time_ns, value);
        self.cells.push((bucket, cell));
    }

    /// The cell of a bucket, if it is one of the first run's.
    fn in_run(&mut self, bucket: u32) -> Option<&mut A> {
        let (first, _) = self.cells.first()?;
        let at = bucket.checked_sub(*first)? as usize;
        let (_, cell) = self.cells[..self.run].get_mut(at)?;
        Some(cell)
    }

    /// Puts the cells in order, one per bucket.
    pub(super) fn tidy(&mut self) {
        if self.ordered {
            return;
        }
        self.cells.sort_by_key(|(bucket, _)| *bucket);
        let cells = std::mem::take(&mut self.cells);
        for (bucket, cell) in cells {
            match self.cells.last_mut() {
                Some((last, before)) if *last == bucket => before.absorb(cell),
                _ => self.cells.push((bucket, cell)),
            }
        }
        self.ordered = true;
        let first = self.cells.first().map_or(0, |(first, _)| *first);
        let follows = |(at, (bucket, _)): &(usize, &(u32, A))| (bucket - first) as usize == *at;
        self.run = self.cells.iter().enumerate().take_while(follows).count();
    }

    /// Calls `value` for every window that holds samples, in order. The cells must be tidy.
    pub(super) fn windows(
        &self,
        grid: &Grid,
        param: f64,
        per_second: bool,
        mut value: impl FnMut(usize, f64),
    ) {
        let cells = &self.cells;
        let (mut first, mut end) = (0, 0);
        for index in 0..grid.count() {
            let buckets = grid.buckets(index);
            while cells.get(first).is_some_and(|(b, _)| *b < buckets.start) {
                first += 1;
            }
            end = end.max(first);
            while cells.get(end).is_some_and(|(b, _)| *b < buckets.end) {
                end += 1;
            }
            if first == end {
                continue;
            }
            let end_ns = grid.window_end_ns(index);
            let window = Window {
                start_ns: end_ns.saturating_sub(grid.range_ns()),
                end_ns,
                param,
                per_second,
            };
            if let Some(of_window) = A::of_window(&cells[first..end], &window) {
                value(index, of_window);
            }
        }
    }

    /// The memory it takes.
    pub(super) fn bytes(&self) -> usize {
        let own = self.cells.capacity() * size_of::<(u32, A)>();
        own + self
            .cells
            .iter()
            .map(|(_, cell)| cell.heap_bytes())
            .sum::<usize>()
    }
}

/// Sums, counts and rates.
#[derive(Debug, Default)]
pub(super) struct Sum(f64);

impl Accumulator for Sum {
    #[inline]
    fn add(&mut self, _time_ns: i64, value: f64) {
        self.0 += value;
    }

    fn absorb(&mut self, other: Self) {
        self.0 += other.0;
    }

    fn of_window(cells: &[(u32, Self)], window: &Window) -> Option<f64> {
        let sum: f64 = cells.iter().map(|(_, cell)| cell.0).sum();
        Some(if window.per_second {
            sum / window.seconds()
        } else {
            sum
        })
    }
}

/// `avg_over_time`
#[derive(Debug, Default)]
pub(super) struct Mean {
    sum: f64,
    count: f64,
}

impl Accumulator for Mean {
    #[inline]
    fn add(&mut self, _time_ns: i64, value: f64) {
        self.sum += value;
        self.count += 1.0;
    }

    fn absorb(&mut self, other: Self) {
        self.sum += other.sum;
        self.count += other.count;
    }

    fn of_window(cells: &[(u32, Self)], _window: &Window) -> Option<f64> {
        let sum: f64 = cells.iter().map(|(_, cell)| cell.sum).sum();
        let count: f64 = cells.iter().map(|(_, cell)| cell.count).sum();
        Some(sum / count)
    }
}

/// `min_over_time` and `max_over_time`: NaN only where there is nothing else.
#[derive(Debug, Default)]
pub(super) struct Extreme<const MAX: bool>(Option<f64>);

impl<const MAX: bool> Extreme<MAX> {
    fn take(&mut self, value: f64) {
        let better = match self.0 {
            None => true,
            Some(old) => old.is_nan() || if MAX { value > old } else { value < old },
        };
        if better {
            self.0 = Some(value);
        }
    }
}

impl<const MAX: bool> Accumulator for Extreme<MAX> {
    #[inline]
    fn add(&mut self, _time_ns: i64, value: f64) {
        self.take(value);
    }

    fn absorb(&mut self, other: Self) {
        other.0.into_iter().for_each(|value| self.take(value));
    }

    fn of_window(cells: &[(u32, Self)], _window: &Window) -> Option<f64> {
        let mut all = Self::default();
        for (_, cell) in cells {
            cell.0.into_iter().for_each(|value| all.take(value));
        }
        all.0
    }
}

/// `stdvar_over_time`, and with `ROOT` `stddev_over_time` (Welford; cells are joined after Chan et al.).
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Variance<const ROOT: bool> {
    count: f64,
    mean: f64,
    squares: f64,
}

impl<const ROOT: bool> Accumulator for Variance<ROOT> {
    #[inline]
    fn add(&mut self, _time_ns: i64, value: f64) {
        self.count += 1.0;
        let delta = value - self.mean;
        self.mean += delta / self.count;
        self.squares += delta * (value - self.mean);
    }

    fn absorb(&mut self, other: Self) {
        let count = self.count + other.count;
        if other.count == 0.0 {
            return;
        }
        let delta = other.mean - self.mean;
        self.squares += other.squares + delta * delta * self.count * other.count / count;
        self.mean += delta * other.count / count;
        self.count = count;
    }

    fn of_window(cells: &[(u32, Self)], _window: &Window) -> Option<f64> {
        let mut all = Self::default();
        for (_, cell) in cells {
            all.absorb(*cell);
        }
        let variance = all.squares / all.count;
        Some(if ROOT { variance.sqrt() } else { variance })
    }
}

/// `first_over_time` and `last_over_time`; of samples of one time the first or last that came.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Edge<const LAST: bool>(Option<(i64, f64)>);

impl<const LAST: bool> Accumulator for Edge<LAST> {
    #[inline]
    fn add(&mut self, time_ns: i64, value: f64) {
        let better = match self.0 {
            None => true,
            Some((old, _)) if LAST => time_ns >= old,
            Some((old, _)) => time_ns < old,
        };
        if better {
            self.0 = Some((time_ns, value));
        }
    }

    fn absorb(&mut self, other: Self) {
        if let Some((time_ns, value)) = other.0 {
            self.add(time_ns, value);
        }
    }

    fn of_window(cells: &[(u32, Self)], _window: &Window) -> Option<f64> {
        let mut all = Self::default();
        for (_, cell) in cells {
            all.absorb(*cell);
        }
        all.0.map(|(_, value)| value)
    }
}

/// `quantile_over_time`: needs all values.
#[derive(Debug, Default)]
pub(super) struct Values(Vec<f64>);

impl Accumulator for Values {
    #[inline]
    fn add(&mut self, _time_ns: i64, value: f64) {
        self.0.push(value);
    }

    fn absorb(&mut self, other: Self) {
        self.0.extend(other.0);
    }

    fn of_window(cells: &[(u32, Self)], window: &Window) -> Option<f64> {
        let mut values: Vec<f64> = Vec::with_capacity(cells.iter().map(|(_, c)| c.0.len()).sum());
        cells.iter().for_each(|(_, cell)| values.extend(&cell.0));
        quantile(window.param, &mut values)
    }

    fn heap_bytes(&self) -> usize {
        self.0.capacity() * size_of::<f64>()
    }
}

/// The value below which a share of the others lies, between two of them where need be. Two values are
/// selected rather than all sorted.
fn quantile(share: f64, values: &mut [f64]) -> Option<f64> {
    if values.is_empty() {
        return None;
    }
    if share.is_nan() {
        return Some(f64::NAN);
    }
    if share < 0.0 {
        return Some(f64::NEG_INFINITY);
    }
    if share > 1.0 {
        return Some(f64::INFINITY);
    }
    // NaN comes first, as in Prometheus.
    let order = |a: &f64, b: &f64| match (a.is_nan(), b.is_nan()) {
        (true, true) => std::cmp::Ordering::Equal,
        (true, false) => std::cmp::Ordering::Less,
        (false, true) => std::cmp::Ordering::Greater,
        (false, false) => a.total_cmp(b),
    };
    let rank = share * (values.len() - 1) as f64;
    let (lower, weight) = (rank.floor() as usize, rank.fract());
    let (_, low, above) = values.select_nth_unstable_by(lower, order);
    let low = *low;
    let high = above.iter().copied().min_by(order).unwrap_or(low);
    Some(if weight == 0.0 {
        low
    } else {
        low * (1.0 - weight) + high * weight
    })
}

/// `rate_counter`: needs all samples in order of time.
#[derive(Debug, Default)]
pub(super) struct Counter(Vec<(i64, f64)>);

impl Accumulator for Counter {
    #[inline]
    fn add(&mut self, time_ns: i64, value: f64) {
        self.0.push((time_ns, value));
    }

    fn absorb(&mut self, other: Self) {
        self.0.extend(other.0);
    }

    fn of_window(cells: &[(u32, Self)], window: &Window) -> Option<f64> {
        let mut samples: Vec<(i64, f64)> = Vec::new();
        cells.iter().for_each(|(_, cell)| samples.extend(&cell.0));
        samples.sort_by_key(|(time_ns, _)| *time_ns);
        rate_of_counter(&samples, window)
    }

    fn heap_bytes(&self) -> usize {
        self.0.capacity() * size_of::<(i64, f64)>()
    }
}

/// The increase per second of a counter that may be reset, carried on to the edges of the window as
/// Prometheus' `rate` does: at most half an interval where the window has no samples near its edge, and
/// never below zero.
fn rate_of_counter(samples: &[(i64, f64)], window: &Window) -> Option<f64> {
    let (&(first_ns, first), &(last_ns, last)) = (samples.first()?, samples.last()?);
    if samples.len() < 2 || last_ns == first_ns {
        // One sample says nothing of a rate; Loki shows the series all the same.
        return Some(0.0);
    }
    let mut increase = last - first;
    for pair in samples.windows(2) {
        if pair[1].1 < pair[0].1 {
            increase += pair[0].1;
        }
    }
    let seconds = |ns: i64| ns as f64 / 1e9;
    let sampled = seconds(last_ns - first_ns);
    let average = sampled / (samples.len() - 1) as f64;
    let threshold = average * 1.1;
    let mut to_start = seconds(first_ns - window.start_ns);
    if to_start >= threshold {
        to_start = average / 2.0;
    }
    if increase > 0.0 && first >= 0.0 {
        to_start = to_start.min(sampled * (first / increase));
    }
    let mut to_end = seconds(window.end_ns - last_ns);
    if to_end >= threshold {
        to_end = average / 2.0;
    }
    Some(increase * ((sampled + to_start + to_end) / sampled) / window.seconds())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_do_not_depend_on_the_order_of_rows() {
        let grid = Grid::new((1000, 10, 100), 30, 0);
        let (mut ordered, mut mixed) = (Cells::<Sum>::default(), Cells::<Sum>::default());
        for i in 0..3000_i64 {
            for (cells, time) in [
                (&mut ordered, 970 + i),
                (&mut mixed, 970 + (i * 7919) % 3000),
            ] {
                if let Some(bucket) = grid.bucket(time) {
                    cells.add(bucket, time, 1.0);
                }
            }
        }
        assert!(mixed.cells.len() < 400, "{}", mixed.cells.len());
        let mut values = [Vec::new(), Vec::new()];
        for (cells, values) in [&mut ordered, &mut mixed].into_iter().zip(&mut values) {
            cells.tidy();
            cells.windows(&grid, 0.0, false, |window, value| {
                values.push((window, value))
            });
        }
        assert_eq!(values[0], values[1]);
        assert_eq!(values[0].len(), 100);
    }

    #[test]
    fn quantiles_lie_between_values() {
        let of = |share: f64| quantile(share, &mut [5.0, 1.0, 3.0, 2.0, 4.0]).unwrap();
        assert_eq!(of(0.0), 1.0);
        assert_eq!(of(0.4), 2.6);
        assert_eq!(of(1.0), 5.0);
        assert_eq!(of(1.5), f64::INFINITY);
        assert_eq!(quantile(0.5, &mut []), None);
    }
}
