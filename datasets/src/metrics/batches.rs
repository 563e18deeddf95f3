//! Walks the scrapes in time order and hands out the samples, an hour at a time, by series.
//!
//! Every target is scraped once per interval at its own offset, as Prometheus spreads its load. A
//! scrape that fails leaves `up` at 0 and a stale marker on every series of the target; a series
//! that vanishes with a restart gets one too.

use super::table::Behaviour;
use super::updates::{Change, Update};
use super::{Instruments, Sampler};
use crate::incidents::{RESTART_DOWN_MS, RESTART_INSTANCE, RUNNER_JOB, Script};
use crate::random::Random;
use crate::season::{HOUR_MS, MINUTE_MS};

/// Prometheus' stale marker: this NaN ends a series until its next sample. Compare by bits.
pub const STALE_NAN_BITS: u64 = 0x7ff0_0000_0000_0002;

/// Chance that a scrape fails by chance, and the time before the end that is spared, so that
/// instant queries over the newest data have an answer.
const MISS_CHANCE: f64 = 0.0003;
const NO_MISS_BEFORE_END_MS: i64 = 10 * MINUTE_MS;

/// The value of a series at a moment.
#[derive(Debug, Clone, Copy)]
pub struct Sample {
    /// Milliseconds since the epoch.
    pub timestamp_ms: i64,
    /// The value, or the stale marker.
    pub value: f64,
}

impl Sample {
    /// True if this sample ends the series.
    pub fn is_stale(&self) -> bool {
        self.value.to_bits() == STALE_NAN_BITS
    }
}

/// Samples of one series in a batch.
#[derive(Debug, Clone)]
pub struct SeriesSamples {
    /// Index in [`Telemetry::series`](crate::Telemetry::series).
    pub series: usize,
    /// Oldest first, at least one.
    pub samples: Vec<Sample>,
}

/// What was scraped in about an hour. Batches follow each other in time without overlap.
#[derive(Debug, Clone, Default)]
pub struct MetricBatch {
    /// By series index; series without a sample are left out.
    pub columns: Vec<SeriesSamples>,
}

impl MetricBatch {
    /// Samples of all series.
    pub fn sample_count(&self) -> usize {
        self.columns.iter().map(|column| column.samples.len()).sum()
    }
}

/// When to scrape.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Timetable {
    pub(crate) end_ms: i64,
    pub(crate) interval_ms: i64,
    pub(crate) scrape_count: i64,
}

/// Iterator over the batches. Every walk yields the same.
#[derive(Debug)]
pub struct MetricBatches<'a> {
    instruments: &'a Instruments,
    timetable: Timetable,
    restart_ms: i64,
    seed: u64,
    samplers: Vec<Sampler>,
    updates: std::slice::Iter<'a, Update>,
    next_update: Option<&'a Update>,
    /// Current value of each series.
    slots: Vec<f64>,
    /// Series that have a value to expose.
    present: Vec<bool>,
    /// Series with a sample in the last scrape of their target.
    exposed: Vec<bool>,
    /// Targets by offset, and when each was last sampled.
    targets: Vec<TargetWalk>,
    scrape: i64,
}

#[derive(Debug, Clone)]
struct TargetWalk {
    target: usize,
    offset_ms: i64,
    sampled_ms: Option<i64>,
    misses: Random,
}

impl<'a> MetricBatches<'a> {
    pub(crate) fn new(
        instruments: &'a Instruments,
        script: &Script,
        seed: u64,
        timetable: Timetable,
    ) -> Self {
        let table = &instruments.table;
        let mut targets: Vec<TargetWalk> = (0..table.targets.len())
            .map(|target| {
                let mut misses = Random::new(seed, "scrape", target as u64);
                let offset_ms = (misses.unit() * timetable.interval_ms as f64) as i64;
                TargetWalk {
                    target,
                    offset_ms,
                    sampled_ms: None,
                    misses,
                }
            })
            .collect();
        // The largest offset before the end comes first in time.
        targets.sort_by_key(|walk| -walk.offset_ms);
        let mut updates = instruments.updates.iter();
        let next_update = updates.next();
        let mut walk = Self {
            instruments,
            timetable,
            restart_ms: script.restart_ms,
            seed,
            samplers: instruments.samplers.clone(),
            updates,
            next_update,
            slots: vec![0.0; table.series.len()],
            present: table
                .behaviour
                .iter()
                .map(|behaviour| *behaviour != Behaviour::CounterOnFirstUse)
                .collect(),
            exposed: vec![false; table.series.len()],
            targets,
            scrape: 0,
        };
        walk.age_counters();
        walk
    }

    /// The services have run for days before the story begins: their counters are not at zero.
    fn age_counters(&mut self) {
        let mut random = Random::new(self.seed, "age", 0);
        let table = &self.instruments.table;
        for (slot, series) in table.series.iter().enumerate() {
            let name = series.name();
            if name.ends_with("_bytes_total") {
                self.slots[slot] = super::pages(random.between(1e11, 9e11));
            } else if name == "process_cpu_seconds_total" {
                self.slots[slot] = super::rounded(random.between(1e4, 9e4), 2);
            }
        }
    }

    /// Applies what happened up to `at_ms`.
    fn catch_up(&mut self, at_ms: i64) {
        while let Some(update) = self.next_update.filter(|update| update.at_ms <= at_ms) {
            match update.change {
                Change::Add { slot, amount } => {
                    self.slots[slot] += amount;
                    self.present[slot] = true;
                }
                Change::Set { slot, value } => {
                    self.slots[slot] = value;
                    self.present[slot] = true;
                }
                Change::Restart { target } => self.restart(target),
            }
            self.next_update = self.updates.next();
        }
    }

    fn restart(&mut self, target: usize) {
        let table = &self.instruments.table;
        for &slot in &table.targets[target].slots {
            match table.behaviour[slot] {
                Behaviour::Gauge => {}
                Behaviour::Counter => self.slots[slot] = 0.0,
                Behaviour::CounterOnFirstUse => {
                    self.slots[slot] = 0.0;
                    self.present[slot] = false;
                }
            }
        }
    }

    /// Scrapes one target.
    fn scrape(&mut self, order: usize, at_ms: i64, columns: &mut [Vec<Sample>]) {
        self.catch_up(at_ms);
        let TargetWalk {
            target, sampled_ms, ..
        } = self.targets[order];
        let is_up = !self.misses(order, at_ms);
        if is_up {
            let interval_ms = self.timetable.interval_ms;
            let elapsed_ms = sampled_ms.map_or(interval_ms, |sampled_ms| at_ms - sampled_ms);
            for sampler in &mut self.samplers {
                sampler.sample(target, at_ms, elapsed_ms, &mut self.slots);
            }
            self.targets[order].sampled_ms = Some(at_ms);
        }
        let described = &self.instruments.table.targets[target];
        let up = if is_up { 1.0 } else { 0.0 };
        columns[described.up].push(Sample {
            timestamp_ms: at_ms,
            value: up,
        });
        for &slot in &described.slots {
            let expose = is_up && self.present[slot];
            if expose {
                columns[slot].push(Sample {
                    timestamp_ms: at_ms,
                    value: self.slots[slot],
                });
            } else if self.exposed[slot] {
                let value = f64::from_bits(STALE_NAN_BITS);
                columns[slot].push(Sample {
                    timestamp_ms: at_ms,
                    value,
                });
            }
            self.exposed[slot] = expose;
        }
    }

    /// True if the scrape of a target fails at this moment.
    fn misses(&mut self, order: usize, at_ms: i64) -> bool {
        let walk = &mut self.targets[order];
        let by_chance = walk.misses.chance(MISS_CHANCE)
            && at_ms < self.timetable.end_ms - NO_MISS_BEFORE_END_MS;
        let target = &self.instruments.table.targets[walk.target];
        let restarting = target.job == RUNNER_JOB
            && target.instance == RESTART_INSTANCE
            && (self.restart_ms - RESTART_DOWN_MS..self.restart_ms).contains(&at_ms);
        by_chance || restarting
    }
}

impl Iterator for MetricBatches<'_> {
    type Item = MetricBatch;

    fn next(&mut self) -> Option<MetricBatch> {
        let Timetable {
            end_ms,
            interval_ms,
            scrape_count,
        } = self.timetable;
        if self.scrape >= scrape_count {
            return None;
        }
        let per_batch = (HOUR_MS / interval_ms).max(1);
        let batch_end = scrape_count.min(self.scrape + per_batch);
        let capacity = usize::try_from(batch_end - self.scrape).unwrap_or(0);
        let mut columns: Vec<Vec<Sample>> = self
            .slots
            .iter()
            .map(|_| Vec::with_capacity(capacity))
            .collect();
        for scrape in self.scrape..batch_end {
            let interval_end_ms = end_ms - (scrape_count - 1 - scrape) * interval_ms;
            for order in 0..self.targets.len() {
                let at_ms = interval_end_ms - self.targets[order].offset_ms;
                self.scrape(order, at_ms, &mut columns);
            }
        }
        self.scrape = batch_end;
        let columns = columns
            .into_iter()
            .enumerate()
            .filter(|(_, samples)| !samples.is_empty())
            .map(|(series, samples)| SeriesSamples { series, samples })
            .collect();
        Some(MetricBatch { columns })
    }
}
