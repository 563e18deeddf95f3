//! Sample telemetry: a day in the life of a retail data pipeline, generated from a seed.
//!
//! Pipelines extract, transform and load the data of six stores in three regions; language models
//! enrich products and sort support tickets; machines, a database and a broker carry it all. A few
//! things go wrong on the way, and [`Telemetry::incidents`] says which, when and where they show.
//!
//! The story is simulated first, as [`Run`]s with their stages; metrics, spans, logs and events are
//! derived from it, so that signals agree with each other. The same [`TelemetryOptions`] give the same data, bit by
//! bit, on the same platform. The crate knows no storage engine: whoever loads the data maps
//! [`Series`] and [`MetricBatch`] to its own types.
//!
//! ```
//! use chronolith_datasets::{IncidentKind, Telemetry, TelemetryOptions};
//!
//! let hour_ms = 3_600_000;
//! let options = TelemetryOptions {
//!     duration_ms: 3 * hour_ms,
//!     ..TelemetryOptions::demo(1_763_600_400_000)
//! };
//! let telemetry = Telemetry::new(options);
//! let samples: usize = telemetry.metrics().map(|batch| batch.sample_count()).sum();
//! assert!(samples > 300_000);
//! assert!(telemetry.incidents().iter().any(|incident| incident.kind == IncidentKind::CostSpike));
//! ```

#![forbid(unsafe_code)]

mod incidents;
mod logs;
mod metrics;
mod random;
mod rows;
mod runs;
mod season;
mod traces;
mod world;

pub use incidents::{AffectedSeries, Incident, IncidentKind, Restart};
pub use metrics::batches::{MetricBatch, MetricBatches, STALE_NAN_BITS, Sample, SeriesSamples};
pub use metrics::catalogue::{MetricKind, MetricMetadata};
pub use metrics::table::Series;
pub use rows::{LogLine, Pairs, Severity, Source, SpanRecord, SpanRole, Value};
pub use runs::{FailedAttempt, ModelCall, Run, RunError, RunState, Stage};

use incidents::Script;
use metrics::Instruments;
use metrics::batches::Timetable;
use season::{HOUR_MS, SECOND_MS};

/// The world has run for this long before the first scrape, so that runs are under way and
/// counters count.
const WARM_UP_MS: i64 = 2 * HOUR_MS;

/// What to generate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TelemetryOptions {
    /// Another seed is another day: other noise, other chance failures, the same incidents.
    pub seed: u64,
    /// End of the story, in milliseconds since the epoch: the last scrapes lie within one
    /// interval before it.
    pub end_ms: i64,
    /// Length of the story in milliseconds. All incidents show from three hours on.
    pub duration_ms: i64,
    /// Time between two scrapes of a target in milliseconds, at least 1.
    pub interval_ms: i64,
}

impl TelemetryOptions {
    /// The demo: a day that ends at `end_ms`, scraped every 15 seconds.
    pub fn demo(end_ms: i64) -> Self {
        Self {
            seed: 42,
            end_ms,
            duration_ms: 24 * HOUR_MS,
            interval_ms: 15 * SECOND_MS,
        }
    }
}

/// The story with all its signals.
#[derive(Debug)]
pub struct Telemetry {
    options: TelemetryOptions,
    script: Script,
    instruments: Instruments,
    runs: Vec<Run>,
}

impl Telemetry {
    /// Simulates the story. Takes a fraction of a second for a day; samples are made later, by
    /// [`Telemetry::metrics`].
    ///
    /// # Panics
    /// If `interval_ms` or `duration_ms` is not positive.
    pub fn new(options: TelemetryOptions) -> Self {
        let TelemetryOptions {
            seed,
            end_ms,
            duration_ms,
            interval_ms,
        } = options;
        assert!(
            interval_ms > 0 && duration_ms > 0,
            "bug: a story needs a length and an interval"
        );
        let start_ms = end_ms - duration_ms;
        let script = Script::new(start_ms, end_ms);
        let mut runs = runs::simulate(seed, &script, start_ms - WARM_UP_MS, end_ms);
        let instruments = Instruments::new(seed, start_ms, &script, &runs);
        for run in &mut runs {
            runs::settle(run, end_ms);
        }
        runs.retain(|run| run.ended_ms >= start_ms);
        Self {
            options,
            script,
            instruments,
            runs,
        }
    }

    /// The options that this story was made from.
    pub fn options(&self) -> TelemetryOptions {
        self.options
    }

    /// First moment, in milliseconds since the epoch.
    pub fn start_ms(&self) -> i64 {
        self.options.end_ms - self.options.duration_ms
    }

    /// Last moment, in milliseconds since the epoch.
    pub fn end_ms(&self) -> i64 {
        self.options.end_ms
    }

    /// All series; samples refer to them by index.
    pub fn series(&self) -> &[Series] {
        &self.instruments.table.series
    }

    /// Metadata of all metric families, by name.
    pub fn metadata(&self) -> &'static [MetricMetadata] {
        metrics::catalogue::FAMILIES
    }

    /// The samples, in batches of an hour, oldest first. Each call walks the story again.
    pub fn metrics(&self) -> MetricBatches<'_> {
        let TelemetryOptions {
            seed,
            end_ms,
            duration_ms,
            interval_ms,
        } = self.options;
        let scrape_count = duration_ms / interval_ms;
        let timetable = Timetable {
            end_ms,
            interval_ms,
            scrape_count,
        };
        MetricBatches::new(&self.instruments, &self.script, seed, timetable)
    }

    /// The pipeline runs that ended or were under way during the story, by schedule.
    pub fn runs(&self) -> &[Run] {
        &self.runs
    }

    /// Who produced spans and log records; both refer to them by index.
    pub fn sources(&self) -> Vec<Source> {
        traces::sources()
    }

    /// The spans that ended during the story, by run. Each call makes them anew.
    pub fn spans(&self) -> Vec<SpanRecord> {
        traces::spans(self.options.seed, &self.runs, self.options.end_ms)
    }

    /// The log records and events of the story, by time. Each call makes them anew.
    pub fn logs(&self) -> Vec<LogLine> {
        let (start_ms, end_ms) = (self.start_ms(), self.end_ms());
        logs::records(
            self.options.seed,
            &self.script,
            &self.runs,
            start_ms,
            end_ms,
        )
    }

    /// What is known to have happened, by start.
    pub fn incidents(&self) -> Vec<Incident> {
        self.script.incidents()
    }

    /// Processes that started anew: their counters begin again at zero.
    pub fn restarts(&self) -> Vec<Restart> {
        self.script.restarts()
    }
}
