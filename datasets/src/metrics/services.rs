//! The services around the pipelines: the database framework, its cache, the message broker.

use super::table::{Behaviour, HistogramSlots, SeriesTable, Slot};
use super::{Sampler, count_up, pages};
use crate::incidents::{FAILED_REGION, Script};
use crate::random::{Drift, Random};
use crate::season::{MINUTE_MS, demand};
use crate::world::{REGIONS, region};

/// Entities of the shop's database, with their share of the queries.
const ENTITIES: [(&str, f64); 3] = [("Order", 0.5), ("Product", 0.35), ("Customer", 0.15)];

/// Operations: name, queries per second at average demand, median seconds, spread.
const OPERATIONS: [(&str, f64, f64, f64); 4] = [
    ("read", 24.0, 0.004, 0.7),
    ("list", 9.0, 0.018, 0.8),
    ("create", 3.0, 0.009, 0.6),
    ("update", 5.0, 0.011, 0.6),
];

/// Upper bounds of `dataflow_query_duration_seconds`, in seconds.
const QUERY_BOUNDS: [f64; 8] = [0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0];

/// Share of queries that fail.
const ERROR_SHARE: f64 = 0.0008;

/// Caches: name, look-ups per second, hit share, bytes.
const CACHES: [(&str, f64, f64, f64); 2] = [
    ("product", 70.0, 0.94, 6.4e8),
    ("price", 110.0, 0.985, 1.2e8),
];

/// Queues of the broker: name, usual depth.
const QUEUES: [(&str, f64); 3] = [("pos-events", 40.0), ("stock-feed", 25.0), ("tickets", 4.0)];

/// Registers the services.
pub(crate) fn register(table: &mut SeriesTable, seed: u64, script: &Script) -> Vec<Sampler> {
    let dataflow = table.target("dataflow", "dataflow-1", 9105);
    let broker = table.target("broker", "broker-1", 9106);
    vec![
        Sampler::Database(Box::new(Database::register(table, dataflow, seed))),
        Sampler::Cache(Cache::register(table, dataflow, seed)),
        Sampler::Broker(Broker::register(table, broker, seed, script)),
    ]
}

/// Demand of all regions together, about 1 on average.
fn world_demand(at_ms: i64) -> f64 {
    let total: f64 = REGIONS
        .iter()
        .map(|region| demand(at_ms, region.utc_offset_hours))
        .sum();
    total / REGIONS.len() as f64
}

#[derive(Debug, Clone)]
struct Operation {
    per_second: f64,
    /// Succeeded and failed queries by entity.
    queries: Vec<(f64, Slot, Slot)>,
    duration: HistogramSlots,
    /// By bucket: share of all observations, and their mean in seconds.
    shape: Vec<(f64, f64)>,
}

/// The database framework: queries, their durations, connections.
#[derive(Debug, Clone)]
pub(crate) struct Database {
    pub(crate) target: usize,
    operations: Vec<Operation>,
    pools: Vec<(Slot, Drift)>,
    random: Random,
}

impl Database {
    fn register(table: &mut SeriesTable, target: usize, seed: u64) -> Self {
        let mut random = Random::new(seed, "database", 0);
        let operations = OPERATIONS
            .iter()
            .map(|&(operation, per_second, median, spread)| {
                let mut queries = |entity, status| {
                    let labels = [
                        ("model", entity),
                        ("operation", operation),
                        ("status", status),
                    ];
                    table.plain(
                        target,
                        "dataflow_queries_total",
                        Behaviour::Counter,
                        &labels,
                    )
                };
                Operation {
                    per_second,
                    queries: ENTITIES
                        .iter()
                        .map(|&(entity, share)| {
                            (share, queries(entity, "success"), queries(entity, "error"))
                        })
                        .collect(),
                    duration: table.histogram(
                        target,
                        "dataflow_query_duration_seconds",
                        &QUERY_BOUNDS,
                        &[("operation", operation)],
                    ),
                    shape: bucket_shape(median, spread, &mut random),
                }
            })
            .collect();
        let pools = ["primary", "replica"]
            .map(|pool| {
                let name = "dataflow_active_connections";
                let slot = table.plain(target, name, Behaviour::Gauge, &[("pool", pool)]);
                (slot, Drift::new(0.85, 2.0))
            })
            .to_vec();
        Self {
            target,
            operations,
            pools,
            random,
        }
    }

    pub(crate) fn sample(&mut self, at_ms: i64, elapsed_ms: i64, slots: &mut [f64]) {
        let busy = world_demand(at_ms);
        let seconds = elapsed_ms as f64 / 1e3;
        for operation in &self.operations {
            let mut total = 0.0;
            for &(share, succeeded, failed) in &operation.queries {
                let mean = operation.per_second * share * busy * seconds;
                total += count_up(slots, succeeded, mean, &mut self.random);
                total += count_up(slots, failed, mean * ERROR_SHARE, &mut self.random);
            }
            observe_many(operation, total, slots, &mut self.random);
        }
        for (slot, drift) in &mut self.pools {
            let level = 6.0 + 22.0 * busy + drift.step(&mut self.random);
            slots[*slot] = level.round().clamp(1.0, 60.0);
        }
    }
}

/// Spreads `total` observations over the buckets, so that the histogram stays consistent: each
/// bucket takes its share of what is left.
fn observe_many(operation: &Operation, total: f64, slots: &mut [f64], random: &mut Random) {
    let mut left = total;
    let mut share_left = 1.0;
    let mut cumulative = 0.0;
    let histogram = &operation.duration;
    for (&(_, bucket), &(share, mean_seconds)) in histogram.buckets.iter().zip(&operation.shape) {
        let is_last = bucket == histogram.buckets[histogram.buckets.len() - 1].1;
        let expected = if share_left > 0.0 {
            left * (share / share_left).min(1.0)
        } else {
            left
        };
        let count = if is_last {
            left
        } else {
            random.count(expected).min(left)
        };
        left -= count;
        share_left -= share;
        cumulative += count;
        slots[bucket] += cumulative;
        slots[histogram.sum] += count * mean_seconds;
    }
    slots[histogram.count] += total;
}

/// Shares and means of a log-normal duration by bucket, found by drawing many.
fn bucket_shape(median: f64, spread: f64, random: &mut Random) -> Vec<(f64, f64)> {
    const DRAWS: usize = 4_000;
    let mut counts = [(0_usize, 0.0); QUERY_BOUNDS.len() + 1];
    for _ in 0..DRAWS {
        let seconds = random.log_normal(median, spread);
        let bucket = QUERY_BOUNDS.partition_point(|bound| *bound < seconds);
        counts[bucket].0 += 1;
        counts[bucket].1 += seconds;
    }
    counts
        .iter()
        .map(|&(count, sum)| (count as f64 / DRAWS as f64, sum / count.max(1) as f64))
        .collect()
}

/// The caches before the database.
#[derive(Debug, Clone)]
pub(crate) struct Cache {
    pub(crate) target: usize,
    caches: Vec<(Slot, Slot, Slot)>,
    random: Random,
}

impl Cache {
    fn register(table: &mut SeriesTable, target: usize, seed: u64) -> Self {
        let caches = CACHES
            .iter()
            .map(|(cache, ..)| {
                let mut slot =
                    |name, behaviour| table.plain(target, name, behaviour, &[("cache", cache)]);
                (
                    slot("cache_hits_total", Behaviour::Counter),
                    slot("cache_misses_total", Behaviour::Counter),
                    slot("cache_size_bytes", Behaviour::Gauge),
                )
            })
            .collect();
        Self {
            target,
            caches,
            random: Random::new(seed, "cache", 0),
        }
    }

    pub(crate) fn sample(&mut self, at_ms: i64, elapsed_ms: i64, slots: &mut [f64]) {
        let busy = world_demand(at_ms);
        let seconds = elapsed_ms as f64 / 1e3;
        let caches = self.caches.iter().zip(CACHES);
        for (&(hits, misses, size), (_, per_second, hit_share, bytes)) in caches {
            let lookups = per_second * busy * seconds;
            count_up(slots, hits, lookups * hit_share, &mut self.random);
            count_up(slots, misses, lookups * (1.0 - hit_share), &mut self.random);
            slots[size] = pages(bytes * self.random.log_normal(1.0, 0.01));
        }
    }
}

/// The message broker. Its point-of-sale queue backs up while the load stage fails.
#[derive(Debug, Clone)]
pub(crate) struct Broker {
    pub(crate) target: usize,
    queues: Vec<Slot>,
    script: Script,
    random: Random,
}

impl Broker {
    fn register(table: &mut SeriesTable, target: usize, seed: u64, script: &Script) -> Self {
        let queues = QUEUES
            .iter()
            .map(|(queue, _)| {
                table.plain(target, "queue_depth", Behaviour::Gauge, &[("queue", queue)])
            })
            .collect();
        let random = Random::new(seed, "broker", 0);
        Self {
            target,
            queues,
            script: script.clone(),
            random,
        }
    }

    pub(crate) fn sample(&mut self, at_ms: i64, slots: &mut [f64]) {
        let busy = world_demand(at_ms);
        for (&slot, (queue, depth)) in self.queues.iter().zip(QUEUES) {
            let backlog = if queue == "pos-events" {
                self.backlog(at_ms)
            } else {
                0.0
            };
            slots[slot] = self.random.count(depth * busy) + backlog.round();
        }
    }

    /// Events of the failed region that wait for a load, drained within ten minutes afterwards.
    fn backlog(&self, at_ms: i64) -> f64 {
        let window = self.script.failed_stage;
        if at_ms < window.start_ms {
            return 0.0;
        }
        let minutes = (at_ms.min(window.end_ms) - window.start_ms) as f64 / MINUTE_MS as f64;
        let per_minute = 280.0 * demand(window.start_ms, region(FAILED_REGION).utc_offset_hours);
        let drained = ((at_ms - window.end_ms) as f64 / (10 * MINUTE_MS) as f64).clamp(0.0, 1.0);
        minutes * per_minute * (1.0 - drained)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn histograms_stay_consistent() {
        let mut table = SeriesTable::new();
        let target = table.target("dataflow", "dataflow-1", 9105);
        let mut database = Database::register(&mut table, target, 3);
        let mut slots = vec![0.0; table.series.len()];
        for step in 1..500_i64 {
            database.sample(step * 15_000, 15_000, &mut slots);
        }
        for operation in &database.operations {
            let buckets: Vec<f64> = operation
                .duration
                .buckets
                .iter()
                .map(|(_, slot)| slots[*slot])
                .collect();
            assert!(
                buckets.windows(2).all(|pair| pair[0] <= pair[1]),
                "{buckets:?}"
            );
            let count = slots[operation.duration.count];
            assert_eq!(buckets.last(), Some(&count));
            let queries: f64 = operation
                .queries
                .iter()
                .map(|(_, good, bad)| slots[*good] + slots[*bad])
                .sum();
            assert_eq!(queries, count, "every query is observed once");
            assert!(buckets[0] < count && count > 10_000.0);
        }
    }
}
