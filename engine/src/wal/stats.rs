//! Counters of the log, readable at any time without a lock.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Buckets per doubling of the latency: each is at most 12.5 % wide.
const STEPS: u64 = 8;
/// Doublings covered, from 1 ns to 2^48 ns (three days).
const DOUBLINGS: u64 = 48;

/// Latencies in buckets that grow with the value; quantiles are right to 12.5 %.
#[derive(Debug)]
pub struct LatencyHistogram {
    buckets: Box<[AtomicU64]>,
    sum_ns: AtomicU64,
    max_ns: AtomicU64,
}

impl Default for LatencyHistogram {
    fn default() -> Self {
        Self {
            buckets: (0..STEPS * DOUBLINGS).map(|_| AtomicU64::new(0)).collect(),
            sum_ns: AtomicU64::new(0),
            max_ns: AtomicU64::new(0),
        }
    }
}

fn bucket_of(ns: u64) -> u64 {
    let ns = ns.max(STEPS);
    let doubling = ns.ilog2() as u64;
    let step = (ns >> (doubling - 3)) & (STEPS - 1);
    ((doubling - 3) * STEPS + step).min(STEPS * DOUBLINGS - 1)
}

/// Upper end of a bucket.
fn bucket_end(bucket: u64) -> u64 {
    let (doubling, step) = (bucket / STEPS, bucket % STEPS);
    (STEPS + step + 1) << doubling
}

impl LatencyHistogram {
    /// Counts one event.
    pub fn record(&self, took: Duration) {
        let ns = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        if let Some(bucket) = self.buckets.get(bucket_of(ns) as usize) {
            bucket.fetch_add(1, Ordering::Relaxed);
        }
        self.sum_ns.fetch_add(ns, Ordering::Relaxed);
        self.max_ns.fetch_max(ns, Ordering::Relaxed);
    }

    /// How many events were counted and how long they took.
    #[must_use]
    pub fn summary(&self) -> LatencySummary {
        let counts: Vec<u64> = self
            .buckets
            .iter()
            .map(|b| b.load(Ordering::Relaxed))
            .collect();
        let count: u64 = counts.iter().sum();
        let max_ns = self.max_ns.load(Ordering::Relaxed);
        let quantile = |share: f64| {
            let rank = (count as f64 * share).ceil() as u64;
            let mut seen = 0;
            let bucket = counts.iter().position(|c| {
                seen += c;
                seen >= rank && seen > 0
            });
            Duration::from_nanos(bucket.map_or(0, |b| bucket_end(b as u64).min(max_ns)))
        };
        LatencySummary {
            count,
            sum: Duration::from_nanos(self.sum_ns.load(Ordering::Relaxed)),
            p50: quantile(0.5),
            p99: quantile(0.99),
            max: Duration::from_nanos(max_ns),
        }
    }

    /// How many events took at most so long, for each power of two from 16 µs to 34 s.
    #[must_use]
    pub fn within(&self) -> Vec<(Duration, u64)> {
        let mut count = 0;
        let mut within = Vec::new();
        for (doubling, steps) in (0..).zip(self.buckets.chunks(STEPS as usize)) {
            count += steps.iter().map(|b| b.load(Ordering::Relaxed)).sum::<u64>();
            let end = bucket_end(doubling * STEPS + STEPS - 1);
            if (1 << 14..=1 << 35).contains(&end) {
                within.push((Duration::from_nanos(end), count));
            }
        }
        within
    }
}

/// What a [`LatencyHistogram`] has seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LatencySummary {
    /// Events.
    pub count: u64,
    /// Time of all together.
    pub sum: Duration,
    /// Half of them took at most this long.
    pub p50: Duration,
    /// 99 of 100 took at most this long.
    pub p99: Duration,
    /// The longest.
    pub max: Duration,
}

/// Counters that the writer's threads add to.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) sync: LatencyHistogram,
    pub(super) commits: AtomicU64,
    pub(super) records: AtomicU64,
    pub(super) bytes_written: AtomicU64,
    pub(super) refused: AtomicU64,
    pub(super) next_sequence: AtomicU64,
    pub(super) synced_sequence: AtomicU64,
}

/// The state of a log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WalStats {
    /// Sequence number of the next record.
    pub next_sequence: u64,
    /// Everything up to here is durable.
    pub synced_sequence: u64,
    /// Records written since the log was opened.
    pub records: u64,
    /// Group commits since then: `records / commits` shared one sync on average.
    pub commits: u64,
    /// Bytes written since then, padding and markers included.
    pub bytes_written: u64,
    /// Records that could not be written since then.
    pub refused: u64,
    /// Log files there are.
    pub files: u64,
    /// Bytes of records in those files, headers included, preallocated space not.
    pub bytes: u64,
    /// Bytes of encoded records that wait.
    pub queue_bytes: u64,
    /// Latency of `fdatasync`.
    pub sync: LatencySummary,
    /// How many of them took at most so long, for ever longer times.
    pub sync_within: Vec<(Duration, u64)>,
    /// Why the store takes no writes any more; `None` when it does.
    pub poisoned: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_close() {
        let histogram = LatencyHistogram::default();
        for us in 1..=1000 {
            histogram.record(Duration::from_micros(us));
        }
        let summary = histogram.summary();
        assert_eq!(summary.count, 1000);
        assert_eq!(summary.max, Duration::from_millis(1));
        let close = |found: Duration, us: f64| {
            let ratio = found.as_secs_f64() * 1e6 / us;
            assert!((0.99..1.13).contains(&ratio), "{found:?} for {us} us");
        };
        close(summary.p50, 500.0);
        let within = histogram.within();
        assert_eq!(within.len(), 22);
        let at = |ns: u64| {
            within
                .iter()
                .find(|(end, _)| end.as_nanos() == u128::from(ns))
        };
        assert_eq!(at(1 << 14).unwrap().1, 16, "up to 16.384 us");
        assert_eq!(at(1 << 19).unwrap().1, 524);
        assert_eq!(at(1 << 35).unwrap().1, 1000);
        close(summary.p99, 990.0);
        assert_eq!(LatencyHistogram::default().summary().p99, Duration::ZERO);
        histogram.record(Duration::ZERO);
        histogram.record(Duration::MAX);
        assert_eq!(histogram.summary().count, 1002);
    }
}
