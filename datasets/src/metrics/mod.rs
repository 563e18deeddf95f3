//! Metrics of the story, as a scraper would have collected them.
//!
//! Two sources feed the series: *updates* derived once from the runs (a counter goes up when a run
//! ends; see [`pipelines`]), and *samplers* that compute a value when it is scraped (a machine's
//! memory; see [`hosts`], [`services`], [`quality`]). [`batches`] walks the scrapes in time order and
//! hands out columns of samples.

pub(crate) mod batches;
pub(crate) mod catalogue;
pub(crate) mod hosts;
pub(crate) mod pipelines;
pub(crate) mod quality;
pub(crate) mod services;
pub(crate) mod table;
pub(crate) mod updates;

use crate::incidents::Script;
use crate::random::Random;
use crate::runs::Run;

use table::{SeriesTable, Slot};
use updates::Update;

/// All series, what happens to them, and what computes them.
#[derive(Debug)]
pub(crate) struct Instruments {
    pub(crate) table: SeriesTable,
    pub(crate) updates: Vec<Update>,
    pub(crate) samplers: Vec<Sampler>,
}

impl Instruments {
    /// Registers all series and derives the updates from `runs`.
    pub(crate) fn new(seed: u64, start_ms: i64, script: &Script, runs: &[Run]) -> Self {
        let mut table = SeriesTable::new();
        let pipelines = pipelines::PipelineSeries::register(&mut table);
        let mut samplers = vec![Sampler::Freshness(pipelines.freshness())];
        samplers.extend(hosts::register(
            &mut table, seed, start_ms, script, &pipelines,
        ));
        samplers.extend(services::register(&mut table, seed, script));
        samplers.push(quality::register(&mut table, seed, script));
        let mut updates = pipelines.updates(&mut table, runs);
        updates.extend(updates::restarts(&table, script));
        // Stable: what happened at one moment keeps its order.
        updates.sort_by_key(|update| update.at_ms);
        Self {
            table,
            updates,
            samplers,
        }
    }
}

/// Computes values when they are scraped. Cloned for every walk, so that walks are alike.
#[derive(Debug, Clone)]
pub(crate) enum Sampler {
    Freshness(pipelines::Freshness),
    Host(Box<hosts::Host>),
    Process(hosts::Process),
    Database(Box<services::Database>),
    Cache(services::Cache),
    Broker(services::Broker),
    Quality(Box<quality::Quality>),
}

impl Sampler {
    /// Writes the values of `target` at `at_ms`, `elapsed_ms` after its last scrape.
    pub(crate) fn sample(&mut self, target: usize, at_ms: i64, elapsed_ms: i64, slots: &mut [f64]) {
        match self {
            Self::Freshness(sampler) => sampler.sample(target, at_ms, slots),
            Self::Host(sampler) if sampler.target == target => {
                sampler.sample(at_ms, elapsed_ms, slots);
            }
            Self::Process(sampler) if sampler.target == target => {
                sampler.sample(at_ms, elapsed_ms, slots);
            }
            Self::Database(sampler) if sampler.target == target => {
                sampler.sample(at_ms, elapsed_ms, slots);
            }
            Self::Cache(sampler) if sampler.target == target => {
                sampler.sample(at_ms, elapsed_ms, slots);
            }
            Self::Broker(sampler) if sampler.target == target => sampler.sample(at_ms, slots),
            Self::Quality(sampler) if sampler.target == target => sampler.sample(at_ms, slots),
            _ => {}
        }
    }
}

/// Rounds to `digits` decimals, as an exporter that prints percent or seconds does.
pub(crate) fn rounded(value: f64, digits: i32) -> f64 {
    let scale = 10_f64.powi(digits);
    (value * scale).round() / scale
}

/// A whole number of 4 KiB pages.
pub(crate) fn pages(bytes: f64) -> f64 {
    (bytes / 4096.0).round() * 4096.0
}

/// Adds a random count with this mean to a counter.
pub(crate) fn count_up(slots: &mut [f64], slot: Slot, mean: f64, random: &mut Random) -> f64 {
    let count = random.count(mean);
    slots[slot] += count;
    count
}
