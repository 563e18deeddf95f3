//! What goes wrong in the story, when, and which series show it.
//!
//! [`Script`] is the plan that the generators follow; [`Incident`] is the same plan as data, so that
//! tests, benches and the demo's tour can check an answer against the truth. Windows are fixed
//! fractions of the whole time, so that a story of six hours has the same incidents as one of a day.

use crate::season::{DAY_MS, HOUR_MS, MINUTE_MS, SECOND_MS};

/// What kind of trouble an incident is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum IncidentKind {
    /// Memory that grows steadily until the machine is full.
    SlowLeak,
    /// A stage that fails on every attempt.
    FailedStage,
    /// A source that delivers nothing for a while, then everything at once.
    LateSource,
    /// A model bill that multiplies.
    CostSpike,
    /// A planned restart: counters begin again at zero. Not a fault.
    PlannedRestart,
    /// A scheduled job that is busy but does no harm. Not a fault: a detector should stay quiet.
    HarmlessPeak,
}

impl IncidentKind {
    /// True if somebody should act.
    pub fn is_fault(self) -> bool {
        !matches!(self, Self::PlannedRestart | Self::HarmlessPeak)
    }
}

/// Series that an incident moves, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AffectedSeries {
    /// Metric name.
    pub metric: &'static str,
    /// Labels that pick the affected series of the metric; an empty list means all.
    pub labels: Vec<(&'static str, &'static str)>,
    /// What the incident does to them, in words.
    pub effect: &'static str,
}

impl AffectedSeries {
    /// The series as a PromQL selector: `metric{label="value"}`.
    pub fn selector(&self) -> String {
        if self.labels.is_empty() {
            return self.metric.to_owned();
        }
        let labels: Vec<String> = self
            .labels
            .iter()
            .map(|(name, value)| format!("{name}=\"{value}\""))
            .collect();
        format!("{}{{{}}}", self.metric, labels.join(","))
    }
}

/// Something known about the story: what happened, when, and where it shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Incident {
    /// Short stable name, such as `cost-spike`.
    pub name: &'static str,
    /// What it is.
    pub kind: IncidentKind,
    /// First moment of its cause, in milliseconds since the epoch.
    pub start_ms: i64,
    /// End of its cause (exclusive); effects such as backlogs may last a little longer.
    pub end_ms: i64,
    /// Where it shows.
    pub affected: Vec<AffectedSeries>,
    /// One or two sentences for a person.
    pub description: &'static str,
}

/// A process that started anew: its counters begin again at zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Restart {
    /// `job` label of the restarted process.
    pub job: &'static str,
    /// `instance` label of the restarted process.
    pub instance: &'static str,
    /// The moment of the new start, in milliseconds since the epoch.
    pub at_ms: i64,
}

/// A stretch of time, end excluded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Window {
    pub(crate) start_ms: i64,
    pub(crate) end_ms: i64,
}

impl Window {
    pub(crate) fn contains(self, at_ms: i64) -> bool {
        (self.start_ms..self.end_ms).contains(&at_ms)
    }

    /// How far `at_ms` lies in the window: 0 before and at its start, 1 from its end on.
    pub(crate) fn progress(self, at_ms: i64) -> f64 {
        let length = (self.end_ms - self.start_ms).max(1) as f64;
        ((at_ms - self.start_ms) as f64 / length).clamp(0.0, 1.0)
    }
}

// The leak.
pub(crate) const LEAK_HOST: &str = "runner-eu-1";
pub(crate) const LEAK_START_PERCENT: f64 = 52.0;
pub(crate) const LEAK_END_PERCENT: f64 = 93.5;

// The failed stage.
pub(crate) const FAILED_PIPELINE: &str = "orders_etl";
pub(crate) const FAILED_STAGE: &str = "load";
pub(crate) const FAILED_REGION: &str = "us";
pub(crate) const FAILED_CODE: &str = "SCHEMA_MISMATCH";
pub(crate) const FAILED_MESSAGE: &str = "column discount_code of table orders does not exist";

// The late source.
pub(crate) const LATE_PIPELINE: &str = "inventory_sync";
pub(crate) const LATE_REGION: &str = "apac";
pub(crate) const LATE_STORE: &str = "tokyo";

// The cost spike.
pub(crate) const SPIKE_PIPELINE: &str = "product_enrichment";
pub(crate) const SPIKE_MODEL: &str = "atlas-large";
/// Calls per run multiply by this (a retry loop on unparsable answers) ...
pub(crate) const SPIKE_CALL_FACTOR: f64 = 2.0;
/// ... and tokens per call by this (the whole catalogue in the prompt).
pub(crate) const SPIKE_TOKEN_FACTOR: f64 = 5.0;

// The restart.
pub(crate) const RESTART_REGION: &str = "us";
pub(crate) const RUNNER_JOB: &str = "pipeline-runner";
pub(crate) const RESTART_INSTANCE: &str = "runner-us-1:9102";
/// How long the restarted process does not answer scrapes.
pub(crate) const RESTART_DOWN_MS: i64 = 40 * SECOND_MS;

// The nightly clean-up of the warehouse: 02:30 to 02:50 UTC.
const VACUUM_START_MS: i64 = 2 * HOUR_MS + 30 * MINUTE_MS;
const VACUUM_LENGTH_MS: i64 = 20 * MINUTE_MS;

/// When everything happens.
#[derive(Debug, Clone)]
pub(crate) struct Script {
    pub(crate) leak: Window,
    pub(crate) failed_stage: Window,
    pub(crate) late_source: Window,
    pub(crate) cost_spike: Window,
    pub(crate) restart_ms: i64,
    start_ms: i64,
    end_ms: i64,
}

impl Script {
    /// Lays the incidents out over the time from `start_ms` to `end_ms`.
    pub(crate) fn new(start_ms: i64, end_ms: i64) -> Self {
        let length = (end_ms - start_ms) as f64;
        let at = |fraction: f64| {
            let exact = start_ms + (length * fraction) as i64;
            exact - exact.rem_euclid(SECOND_MS)
        };
        // An hour of expensive calls, or a sixth of a short story, so that the bill over one hour
        // tells it from a normal hour.
        let spike_start_ms = at(0.86);
        let spike_length_ms = HOUR_MS.min((length / 6.0) as i64);
        Self {
            leak: Window {
                start_ms: at(0.55),
                end_ms,
            },
            failed_stage: Window {
                start_ms: at(0.62),
                end_ms: at(0.67),
            },
            late_source: Window {
                start_ms: at(0.72),
                end_ms: at(0.80),
            },
            cost_spike: Window {
                start_ms: spike_start_ms,
                end_ms: (spike_start_ms + spike_length_ms).min(end_ms),
            },
            restart_ms: at(0.30),
            start_ms,
            end_ms,
        }
    }

    /// True during the warehouse's nightly clean-up.
    pub(crate) fn is_vacuum(at_ms: i64) -> bool {
        let of_day_ms = at_ms.rem_euclid(DAY_MS);
        (VACUUM_START_MS..VACUUM_START_MS + VACUUM_LENGTH_MS).contains(&of_day_ms)
    }

    /// Memory of the leaking machine beyond its usual use, in percent of the machine.
    pub(crate) fn leaked_percent(&self, at_ms: i64) -> f64 {
        (LEAK_END_PERCENT - LEAK_START_PERCENT) * self.leak.progress(at_ms)
    }

    pub(crate) fn restarts(&self) -> Vec<Restart> {
        vec![Restart {
            job: RUNNER_JOB,
            instance: RESTART_INSTANCE,
            at_ms: self.restart_ms,
        }]
    }

    /// The plan as data, by start.
    pub(crate) fn incidents(&self) -> Vec<Incident> {
        let mut incidents = vec![
            self.planned_restart(),
            self.slow_leak(),
            self.failed_stage(),
            self.late_source(),
            self.cost_spike(),
        ];
        incidents.extend(self.vacuums());
        incidents.sort_by_key(|incident| incident.start_ms);
        incidents
    }

    fn planned_restart(&self) -> Incident {
        Incident {
            name: "runner-deploy",
            kind: IncidentKind::PlannedRestart,
            start_ms: self.restart_ms - RESTART_DOWN_MS,
            end_ms: self.restart_ms,
            affected: vec![
                affected(
                    "up",
                    &[("instance", RESTART_INSTANCE)],
                    "0 for the scrapes of the restart",
                ),
                affected(
                    "pipeline_executions_total",
                    &[("region", RESTART_REGION)],
                    "begins again at zero",
                ),
            ],
            description: "A new version of the runner in region us is rolled out: its scrapes miss \
                          for 40 seconds and its counters begin again at zero.",
        }
    }

    fn slow_leak(&self) -> Incident {
        Incident {
            name: "slow-leak",
            kind: IncidentKind::SlowLeak,
            start_ms: self.leak.start_ms,
            end_ms: self.leak.end_ms,
            affected: vec![
                affected(
                    "memory_usage_percent",
                    &[("instance", "runner-eu-1:9100")],
                    "climbs in a straight line from about 52 to about 93 percent",
                ),
                affected(
                    "process_resident_memory_bytes",
                    &[("instance", "runner-eu-1:9102")],
                    "climbs in the same line",
                ),
            ],
            description: "The runner of region eu leaks memory since its last task library update. \
                          Nothing has failed yet: the machine passes 90 percent shortly before the \
                          end and is full soon after it.",
        }
    }

    fn failed_stage(&self) -> Incident {
        let place = [
            ("pipeline_name", FAILED_PIPELINE),
            ("region", FAILED_REGION),
        ];
        let task = [
            ("pipeline_name", FAILED_PIPELINE),
            ("region", FAILED_REGION),
            ("task_name", "load"),
        ];
        Incident {
            name: "failed-load",
            kind: IncidentKind::FailedStage,
            start_ms: self.failed_stage.start_ms,
            end_ms: self.failed_stage.end_ms,
            affected: vec![
                affected("pipeline_success_total", &place, "stands still"),
                affected(
                    "pipeline_errors_total",
                    &[
                        ("pipeline_name", FAILED_PIPELINE),
                        ("region", FAILED_REGION),
                        ("error_code", FAILED_CODE),
                    ],
                    "appears and counts every run",
                ),
                affected("task_retry_count", &task, "counts two retries a run"),
                affected(
                    "pipeline_records_processed",
                    &place,
                    "stands still, then catches up",
                ),
                affected(
                    "data_freshness_seconds",
                    &place,
                    "grows by a second a second",
                ),
                affected(
                    "data_quality_score",
                    &[
                        ("pipeline_name", FAILED_PIPELINE),
                        ("quality_dimension", "completeness"),
                    ],
                    "falls to about 0.7",
                ),
            ],
            description: "A migration dropped a column of the warehouse table orders: the load \
                          stage of orders_etl fails in region us on every attempt until the column \
                          is back. The next run loads the backlog.",
        }
    }

    fn late_source(&self) -> Incident {
        let place = [
            ("pipeline_name", LATE_PIPELINE),
            ("region", LATE_REGION),
            ("store", LATE_STORE),
        ];
        Incident {
            name: "late-source",
            kind: IncidentKind::LateSource,
            start_ms: self.late_source.start_ms,
            end_ms: self.late_source.end_ms,
            affected: vec![
                affected(
                    "data_freshness_seconds",
                    &place,
                    "grows by a second a second",
                ),
                affected(
                    "pipeline_duration_seconds_bucket",
                    &[("pipeline_name", LATE_PIPELINE), ("region", LATE_REGION)],
                    "minutes instead of seconds: extract waits for the file",
                ),
                affected(
                    "task_queue_size",
                    &[("region", LATE_REGION)],
                    "waits appear: the late runs occupy workers",
                ),
                affected(
                    "data_quality_score",
                    &[
                        ("pipeline_name", LATE_PIPELINE),
                        ("quality_dimension", "freshness"),
                    ],
                    "falls by the share of the store",
                ),
            ],
            description: "The stock feed of the Tokyo store delivers nothing: runs of \
                          inventory_sync succeed without records after waiting four minutes for \
                          the file. Then the feed returns and one run takes the whole backlog.",
        }
    }

    fn cost_spike(&self) -> Incident {
        let place = [("model", SPIKE_MODEL), ("pipeline_name", SPIKE_PIPELINE)];
        Incident {
            name: "cost-spike",
            kind: IncidentKind::CostSpike,
            start_ms: self.cost_spike.start_ms,
            end_ms: self.cost_spike.end_ms,
            affected: vec![
                affected(
                    "model_cost_dollars",
                    &place,
                    "rises about ten times as fast",
                ),
                affected("model_tokens_used", &place, "rises about ten times as fast"),
                affected("model_requests_total", &place, "rises about twice as fast"),
                affected(
                    "model_latency_seconds_bucket",
                    &[("model", SPIKE_MODEL)],
                    "doubles",
                ),
            ],
            description: "A prompt change of product_enrichment sends the whole catalogue with \
                          each call and repeats unparsable answers: five times the tokens, twice \
                          the calls, until it is rolled back.",
        }
    }

    fn vacuums(&self) -> Vec<Incident> {
        let first_day = self.start_ms.div_euclid(DAY_MS);
        let last_day = self.end_ms.div_euclid(DAY_MS);
        (first_day..=last_day)
            .map(|day| day * DAY_MS + VACUUM_START_MS)
            .filter(|&at_ms| at_ms >= self.start_ms && at_ms < self.end_ms)
            .map(|start_ms| Incident {
                name: "warehouse-vacuum",
                kind: IncidentKind::HarmlessPeak,
                start_ms,
                end_ms: start_ms + VACUUM_LENGTH_MS,
                affected: vec![affected(
                    "cpu_usage_percent",
                    &[("instance", "warehouse-1:9100")],
                    "near 85 percent for 20 minutes",
                )],
                description: "The warehouse cleans up every night at 02:30 UTC: busy, and harmless.",
            })
            .collect()
    }
}

fn affected(
    metric: &'static str,
    labels: &[(&'static str, &'static str)],
    effect: &'static str,
) -> AffectedSeries {
    AffectedSeries {
        metric,
        labels: labels.to_vec(),
        effect,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn incidents_lie_inside_the_story_and_apart() {
        for hours in [3, 6, 24, 72] {
            let (start_ms, end_ms) = (1_700_000_000_000, 1_700_000_000_000 + hours * HOUR_MS);
            let script = Script::new(start_ms, end_ms);
            for incident in script.incidents() {
                assert!(incident.start_ms >= start_ms, "{hours} h: {incident:?}");
                assert!(
                    incident.start_ms < incident.end_ms,
                    "{hours} h: {incident:?}"
                );
                assert!(incident.start_ms < end_ms, "{hours} h: {incident:?}");
            }
            assert!(script.failed_stage.end_ms < script.late_source.start_ms);
            assert!(script.late_source.end_ms < script.cost_spike.start_ms);
        }
    }

    #[test]
    fn the_cast_matches_the_world() {
        assert!(
            crate::world::REGIONS
                .iter()
                .any(|region| region.runner == LEAK_HOST)
        );
        assert!(RESTART_INSTANCE.starts_with(crate::world::region(RESTART_REGION).runner));
        let failed = crate::world::pipeline(FAILED_PIPELINE);
        assert!(failed.stages.iter().any(|stage| stage.name == FAILED_STAGE));
        let late = crate::world::region(LATE_REGION);
        assert!(late.stores.iter().any(|store| store.name == LATE_STORE));
        let spiking = crate::world::pipeline(SPIKE_PIPELINE);
        assert!(
            spiking
                .models
                .iter()
                .any(|model| model.model == SPIKE_MODEL)
        );
        assert_eq!(crate::world::WAREHOUSE, "warehouse-1");
    }

    #[test]
    fn selectors_are_promql() {
        let series = affected("up", &[("job", "node"), ("instance", "a")], "");
        assert_eq!(series.selector(), "up{job=\"node\",instance=\"a\"}");
        assert_eq!(affected("up", &[], "").selector(), "up");
    }
}
