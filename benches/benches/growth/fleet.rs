//! The fleet of [`chronolith_benches::devops`], scrape by scrape, of any size.

use std::error::Error;

use chronolith_benches::devops::{self, SERIES_PER_HOST, Values};
use chronolith_benches::usage::thread_cpu_seconds;
use chronolith_engine::model::TimestampNs;
use chronolith_engine::{RawSeriesKey, RequestContext, Store, StoreOptions};

use super::Outcome;

/// Hosts whose series travel in one request: about 2,000 samples.
const HOSTS_PER_REQUEST: usize = 14;
/// Values that are made at once.
const VALUES_PER_BLOCK: usize = 3_000_000;
/// Time between two scrapes.
pub(crate) const SCRAPE_NS: i64 = 15_000_000_000;
/// First scrape: 2024-07-03T00:00:00Z.
pub(crate) const START_NS: i64 = 1_719_964_800_000_000_000;

/// Numbers of active series to measure at.
pub(crate) fn series_counts() -> Vec<usize> {
    super::numbers("GROWTH_SERIES", &[10_000, 100_000, 1_000_000], &[300, 600])
}

/// All series of some hosts: their keys and, one scrape at a time, their values.
pub(crate) struct Fleet {
    keys: Vec<RawSeriesKey>,
    generators: Vec<Values>,
    /// Values of some scrapes, scrape after scrape.
    values: Vec<f64>,
    scrape: usize,
    /// CPU seconds that went into making values.
    pub(crate) generator_cpu: f64,
}

impl Fleet {
    /// At least `series` series. Labels are made anew when they are needed, so that the fleet takes
    /// the same memory before and after a store knows it.
    pub(crate) fn new(series: usize) -> Outcome<Self> {
        // Keys are seeded per store, but these are only looked up: any distinct keys will do.
        let probe = Store::in_memory(StoreOptions::default())?;
        let mut fleet = Self {
            keys: Vec::new(),
            generators: Vec::new(),
            values: Vec::new(),
            scrape: 0,
            generator_cpu: 0.0,
        };
        for host in 0..series.div_ceil(SERIES_PER_HOST) {
            for series in devops::host(host) {
                fleet.keys.push(probe.raw_key(series.labels.as_bytes()));
                fleet.generators.push(series.values());
            }
        }
        // Made in large blocks: a thread's CPU time is counted in milliseconds.
        let scrapes = (VALUES_PER_BLOCK / fleet.keys.len()).max(1);
        fleet.values = vec![0.0; scrapes * fleet.keys.len()];
        fleet.make_values();
        probe.close()?;
        Ok(fleet)
    }

    pub(crate) fn series(&self) -> usize {
        self.keys.len()
    }

    /// Goes on to the next scrape.
    pub(crate) fn advance(&mut self) {
        self.scrape += 1;
        if self.first_value() == 0 {
            self.make_values();
        }
    }

    fn make_values(&mut self) {
        let before = thread_cpu_seconds();
        for values in self.values.chunks_mut(self.generators.len()) {
            for (value, generator) in values.iter_mut().zip(&mut self.generators) {
                *value = generator.next().unwrap_or_default();
            }
        }
        self.generator_cpu += thread_cpu_seconds() - before;
    }

    /// Where the values of the scrape begin.
    fn first_value(&self) -> usize {
        self.scrape * self.keys.len() % self.values.len()
    }

    /// Where requests begin.
    pub(crate) fn requests(&self) -> impl Iterator<Item = usize> + '_ {
        (0..self.keys.len()).step_by(HOSTS_PER_REQUEST * SERIES_PER_HOST)
    }

    /// Sends one request of the scrape.
    pub(crate) fn send_request(
        &self,
        store: &Store,
        first: usize,
    ) -> chronolith_engine::Result<()> {
        let mut append = store.begin(&RequestContext::new())?;
        let end = (first + HOSTS_PER_REQUEST * SERIES_PER_HOST).min(self.keys.len());
        let mut labels = Vec::new();
        let values = &self.values[self.first_value() + first..];
        for (number, value) in (first..end).zip(values) {
            let (host, place) = (number / SERIES_PER_HOST, number % SERIES_PER_HOST);
            if place == 0 {
                labels.clear();
            }
            let series = match append.lookup(self.keys[number]) {
                Some(series) => series,
                None => {
                    if labels.is_empty() {
                        labels = devops::host(host);
                    }
                    append.define(Some(self.keys[number]), &labels[place].labels)?
                }
            };
            // Hosts are scraped at their own moments, all series of a host at one.
            let offset = (host as i64 * 7_919) % (SCRAPE_NS / 1_000_000) * 1_000_000;
            let time = START_NS + self.scrape as i64 * SCRAPE_NS + offset;
            append.sample(series, TimestampNs(time), *value);
        }
        append.commit().map(|_| ())
    }

    /// Sends the scrape from two threads.
    pub(crate) fn send(&self, store: &Store) -> Outcome {
        let send_every_other = |from: usize| {
            self.requests()
                .skip(from)
                .step_by(2)
                .try_for_each(|first| self.send_request(store, first))
        };
        std::thread::scope(|scope| -> Result<(), Box<dyn Error>> {
            let other = scope.spawn(move || send_every_other(1));
            send_every_other(0)?;
            match other.join() {
                Ok(sent) => Ok(sent?),
                Err(_) => Err("a sender panicked".into()),
            }
        })
    }
}
