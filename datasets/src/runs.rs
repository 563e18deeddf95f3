//! The pipeline runs of the story: the one truth that metrics (and later logs and spans) are
//! derived from.
//!
//! Each region has a runner with a few workers. Schedules fire, runs wait for a free worker, then
//! their stages run one after another; a stage may retry, fail, or call models. A run takes the
//! records since the last successful load of its place (the *watermark*), so a failure leaves a
//! backlog and the next success takes longer, as in life.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::fmt::Write as _;

use crate::incidents::{
    FAILED_CODE, FAILED_MESSAGE, FAILED_PIPELINE, FAILED_REGION, FAILED_STAGE, LATE_PIPELINE,
    LATE_STORE, SPIKE_CALL_FACTOR, SPIKE_MODEL, SPIKE_PIPELINE, SPIKE_TOKEN_FACTOR, Script,
};
use crate::random::Random;
use crate::season::{MINUTE_MS, SECOND_MS, demand, office};
use crate::world::{
    ModelUse, PIPELINES, PipelineSpec, REGIONS, Region, StageSpec, WORKERS_PER_RUNNER,
    model_cost_dollars,
};

/// Attempts of a stage before its run fails.
const ATTEMPTS_MAX: u32 = 3;
/// Pause before the second attempt; it doubles for the third.
const BACKOFF_MS: i64 = 20 * SECOND_MS;
/// Chance that an attempt fails for a passing reason.
const TRANSIENT_CHANCE: f64 = 0.015;
/// Chance that a stage fails for a reason that no retry heals.
const PERMANENT_CHANCE: f64 = 0.0025;
/// The last schedule fires this long before the end of the story, so that a run is under way then.
const LAST_SCHEDULE_MS: i64 = 90 * SECOND_MS;
/// Model calls of one run that are under way at the same time.
const MODEL_PARALLELISM: f64 = 4.0;

/// Where a run or stage stands at the end of the story.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RunState {
    /// Scheduled, waiting for a worker.
    Queued,
    /// Under way.
    Running,
    /// Ended well.
    Succeeded,
    /// Ended with an error.
    Failed,
}

impl RunState {
    /// Lower-case name, as used in labels and APIs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
        }
    }
}

/// Why a stage failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RunError {
    /// Stable code, such as `WAREHOUSE_TIMEOUT`.
    pub code: &'static str,
    /// For a person.
    pub message: &'static str,
}

/// One request to a language model.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelCall {
    /// Model name.
    pub model: &'static str,
    /// Milliseconds since the epoch.
    pub started_ms: i64,
    /// Time until the full answer.
    pub latency_ms: i64,
    /// Tokens of the prompt.
    pub input_tokens: u64,
    /// Tokens of the answer.
    pub output_tokens: u64,
    /// Price of both.
    pub cost_dollars: f64,
    /// False if the answer was unusable (it is billed all the same).
    pub succeeded: bool,
}

/// One attempt of a stage that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FailedAttempt {
    /// Milliseconds since the epoch.
    pub started_ms: i64,
    /// Milliseconds since the epoch.
    pub ended_ms: i64,
    /// What went wrong.
    pub error: RunError,
}

/// A step of a run: extract, transform, enrich or load.
#[derive(Debug, Clone, PartialEq)]
pub struct Stage {
    /// Stage (task) name.
    pub name: &'static str,
    /// Identifier of its span.
    pub span_id: [u8; 8],
    /// Milliseconds since the epoch.
    pub started_ms: i64,
    /// Milliseconds since the epoch; after the end of the story if it is still running.
    pub ended_ms: i64,
    /// Where it stands at the end of the story.
    pub state: RunState,
    /// Attempts that failed, oldest first; a succeeded stage with some of them was retried.
    pub failed_attempts: Vec<FailedAttempt>,
    /// Records that went in and came out.
    pub records: u64,
    /// Requests to models, by start.
    pub model_calls: Vec<ModelCall>,
    /// The last error, if the stage failed.
    pub error: Option<RunError>,
}

impl Stage {
    /// Duration in milliseconds, retries included.
    pub fn duration_ms(&self) -> i64 {
        self.ended_ms - self.started_ms
    }

    /// How often it was tried again.
    pub fn retry_count(&self) -> usize {
        match self.error {
            Some(_) => self.failed_attempts.len().saturating_sub(1),
            None => self.failed_attempts.len(),
        }
    }
}

/// One execution of a pipeline.
#[derive(Debug, Clone, PartialEq)]
pub struct Run {
    /// Identifier in the form of a UUID.
    pub run_id: String,
    /// Identifier of its trace.
    pub trace_id: [u8; 16],
    /// Identifier of its root span.
    pub span_id: [u8; 8],
    /// Pipeline name.
    pub pipeline: &'static str,
    /// Pipeline version.
    pub pipeline_version: &'static str,
    /// Region that it runs in.
    pub region: &'static str,
    /// Store whose data it takes; none for pipelines that serve a whole region.
    pub store: Option<&'static str>,
    /// Machine that runs it.
    pub host: &'static str,
    /// When its schedule fired, in milliseconds since the epoch.
    pub scheduled_ms: i64,
    /// When a worker took it; after the end of the story if it still waits.
    pub started_ms: i64,
    /// When it ended; after the end of the story if it is still running.
    pub ended_ms: i64,
    /// Where it stands at the end of the story.
    pub state: RunState,
    /// Records that it took from its source.
    pub records: u64,
    /// Up to when the data of its place is in the warehouse after this run, in milliseconds since
    /// the epoch; none if the run loaded nothing.
    pub loaded_until_ms: Option<i64>,
    /// Its stages in order. A failed run has no stages after the failed one.
    pub stages: Vec<Stage>,
    /// The error of the failed stage.
    pub error: Option<RunError>,
}

impl Run {
    /// Duration in milliseconds from worker to end.
    pub fn duration_ms(&self) -> i64 {
        self.ended_ms - self.started_ms
    }

    /// Milliseconds between schedule and worker.
    pub fn queue_ms(&self) -> i64 {
        self.started_ms - self.scheduled_ms
    }

    /// All requests to models.
    pub fn model_calls(&self) -> impl Iterator<Item = &ModelCall> {
        self.stages.iter().flat_map(|stage| &stage.model_calls)
    }

    /// Dollars spent on models.
    pub fn cost_dollars(&self) -> f64 {
        self.model_calls().map(|call| call.cost_dollars).sum()
    }

    /// Tokens sent to and received from models.
    pub fn tokens(&self) -> u64 {
        self.model_calls()
            .map(|call| call.input_tokens + call.output_tokens)
            .sum()
    }
}

/// Simulates all runs scheduled in [`from_ms`, `end_ms`) to their end, by schedule. [`settle`] cuts
/// off what lies after the end of the story.
pub(crate) fn simulate(seed: u64, script: &Script, from_ms: i64, end_ms: i64) -> Vec<Run> {
    let mut runs: Vec<Run> = REGIONS
        .iter()
        .flat_map(|region| Runner::new(seed, script, region).simulate(from_ms, end_ms))
        .collect();
    runs.sort_by(|a, b| (a.scheduled_ms, &a.run_id).cmp(&(b.scheduled_ms, &b.run_id)));
    runs
}

/// Says where a run stands at `end_ms`: what ends later is still running or waiting.
pub(crate) fn settle(run: &mut Run, end_ms: i64) {
    run.stages.retain(|stage| stage.started_ms < end_ms);
    for stage in &mut run.stages {
        stage
            .failed_attempts
            .retain(|attempt| attempt.ended_ms <= end_ms);
        stage
            .model_calls
            .retain(|call| call.started_ms + call.latency_ms <= end_ms);
        if stage.ended_ms > end_ms {
            stage.state = RunState::Running;
            stage.error = None;
        }
    }
    if run.started_ms >= end_ms {
        run.state = RunState::Queued;
    } else if run.ended_ms > end_ms {
        run.state = RunState::Running;
    }
    if matches!(run.state, RunState::Queued | RunState::Running) {
        run.error = None;
        run.loaded_until_ms = None;
    }
}

/// A schedule that fired.
#[derive(Debug, Clone, Copy)]
struct Due {
    scheduled_ms: i64,
    pipeline: &'static PipelineSpec,
    store: Option<(&'static str, f64)>,
}

/// The runner of one region.
struct Runner<'a> {
    script: &'a Script,
    region: &'static Region,
    random: Random,
    /// When each worker is free again, soonest first.
    workers: BinaryHeap<Reverse<i64>>,
    /// Up to when the records of each place are loaded.
    watermarks: HashMap<(&'static str, Option<&'static str>), i64>,
}

impl<'a> Runner<'a> {
    fn new(seed: u64, script: &'a Script, region: &'static Region) -> Self {
        Self {
            script,
            region,
            random: Random::new(seed, region.name, 0),
            workers: (0..WORKERS_PER_RUNNER).map(|_| Reverse(i64::MIN)).collect(),
            watermarks: HashMap::new(),
        }
    }

    fn simulate(mut self, from_ms: i64, end_ms: i64) -> Vec<Run> {
        let due = self.schedule(from_ms, end_ms);
        due.into_iter().map(|due| self.run(due)).collect()
    }

    /// All schedules of the region in time order. They are laid out backwards from the end of the
    /// story, spread so that not all fire at once.
    fn schedule(&self, from_ms: i64, end_ms: i64) -> Vec<Due> {
        let mut due = Vec::new();
        // From the last pipeline, the slowest, which is thus under way when the story ends.
        for (pipelines_before, pipeline) in PIPELINES.iter().rev().enumerate() {
            let places: Vec<Option<(&'static str, f64)>> = if pipeline.per_store {
                self.region
                    .stores
                    .iter()
                    .map(|store| Some((store.name, store.size)))
                    .collect()
            } else {
                vec![None]
            };
            for (place, store) in places.into_iter().enumerate() {
                let before_end_ms = LAST_SCHEDULE_MS
                    + (pipelines_before as i64 * 47 + place as i64 * 83) * SECOND_MS
                        % (pipeline.every_ms - LAST_SCHEDULE_MS);
                let count = (end_ms - before_end_ms - from_ms).div_euclid(pipeline.every_ms);
                let mut scheduled_ms = end_ms - before_end_ms - count * pipeline.every_ms;
                while scheduled_ms < end_ms {
                    due.push(Due {
                        scheduled_ms,
                        pipeline,
                        store,
                    });
                    scheduled_ms += pipeline.every_ms;
                }
            }
        }
        due.sort_by_key(|due| due.scheduled_ms);
        due
    }

    /// Waits for a worker, runs the stages, gives the worker back.
    fn run(&mut self, due: Due) -> Run {
        let pipeline = due.pipeline;
        let dispatch_ms = self.random.log_normal(350.0, 0.5) as i64;
        let free_ms = self
            .workers
            .pop()
            .map_or(i64::MIN, |Reverse(free_ms)| free_ms);
        let started_ms = free_ms.max(due.scheduled_ms + dispatch_ms);

        let store = due.store.map(|(name, _)| name);
        let late = pipeline.name == LATE_PIPELINE
            && store == Some(LATE_STORE)
            && self.script.late_source.contains(started_ms);
        let records = if late {
            0.0
        } else {
            self.waiting_records(due, started_ms)
        };

        let mut run = Run {
            run_id: uuid(self.random.bytes()),
            trace_id: self.random.bytes(),
            span_id: self.random.bytes(),
            pipeline: pipeline.name,
            pipeline_version: pipeline.version,
            region: self.region.name,
            store,
            host: self.region.runner,
            scheduled_ms: due.scheduled_ms,
            started_ms,
            ended_ms: started_ms,
            state: RunState::Succeeded,
            records: records as u64,
            loaded_until_ms: None,
            stages: Vec::with_capacity(pipeline.stages.len()),
            error: None,
        };
        for spec in pipeline.stages {
            let stage = self.stage(pipeline, spec, run.ended_ms, records, late);
            run.ended_ms = stage.ended_ms;
            run.error = stage.error;
            run.stages.push(stage);
            if run.error.is_some() {
                run.state = RunState::Failed;
                break;
            }
        }
        if run.state == RunState::Succeeded && !late {
            self.watermarks.insert((pipeline.name, store), started_ms);
            run.loaded_until_ms = Some(started_ms);
        }
        self.workers.push(Reverse(run.ended_ms));
        run
    }

    /// Records that arrived at the place since its last successful load.
    fn waiting_records(&mut self, due: Due, now_ms: i64) -> f64 {
        let pipeline = due.pipeline;
        let store = due.store.map(|(name, _)| name);
        let since_ms = self
            .watermarks
            .get(&(pipeline.name, store))
            .copied()
            .unwrap_or(now_ms - pipeline.every_ms);
        let busy = match pipeline.name {
            "support_triage" | "product_enrichment" => office(now_ms, self.region.utc_offset_hours),
            _ => demand(now_ms, self.region.utc_offset_hours),
        };
        let size = due.store.map_or(1.0, |(_, size)| size);
        let minutes = (now_ms - since_ms) as f64 / MINUTE_MS as f64;
        let mean = pipeline.records_per_minute * minutes * busy * size;
        let wobble = self.random.log_normal(1.0, 0.08);
        self.random.count(mean * wobble)
    }

    fn stage(
        &mut self,
        pipeline: &'static PipelineSpec,
        spec: &'static StageSpec,
        started_ms: i64,
        records: f64,
        late: bool,
    ) -> Stage {
        let mut stage = Stage {
            name: spec.name,
            span_id: self.random.bytes(),
            started_ms,
            ended_ms: started_ms,
            state: RunState::Succeeded,
            failed_attempts: Vec::new(),
            records: records as u64,
            model_calls: Vec::new(),
            error: None,
        };
        for attempt in 1..=ATTEMPTS_MAX {
            let attempt_ms = stage.ended_ms;
            stage.ended_ms += self.attempt_duration_ms(spec, records, late);
            stage.ended_ms += self.call_models(pipeline, &mut stage, attempt_ms);
            let Some((error, heals)) = self.attempt_error(pipeline, spec, attempt_ms) else {
                return stage;
            };
            stage.failed_attempts.push(FailedAttempt {
                started_ms: attempt_ms,
                ended_ms: stage.ended_ms,
                error,
            });
            if attempt == ATTEMPTS_MAX || !heals {
                stage.state = RunState::Failed;
                stage.error = Some(error);
                return stage;
            }
            stage.ended_ms += BACKOFF_MS << (attempt - 1);
        }
        stage
    }

    fn attempt_duration_ms(&mut self, spec: &StageSpec, records: f64, late: bool) -> i64 {
        let work_ms = spec.duration_base_ms + spec.per_record_ms * records;
        let wait_ms = if late && spec.name == "extract" {
            self.random.between(200.0, 240.0) * SECOND_MS as f64
        } else {
            0.0
        };
        (self.random.log_normal(work_ms, 0.22) + wait_ms) as i64
    }

    /// The error of the attempt that began at `attempt_ms`, and whether a retry may heal it.
    fn attempt_error(
        &mut self,
        pipeline: &PipelineSpec,
        spec: &StageSpec,
        attempt_ms: i64,
    ) -> Option<(RunError, bool)> {
        // Both draws happen always, so that an incident does not shift the rest of the story's luck.
        let (transient, permanent) = (
            self.random.chance(TRANSIENT_CHANCE),
            self.random.chance(PERMANENT_CHANCE),
        );
        let broken = pipeline.name == FAILED_PIPELINE
            && spec.name == FAILED_STAGE
            && self.region.name == FAILED_REGION
            && self.script.failed_stage.contains(attempt_ms);
        if broken {
            return Some((
                RunError {
                    code: FAILED_CODE,
                    message: FAILED_MESSAGE,
                },
                true,
            ));
        }
        let error = RunError {
            code: spec.error_code,
            message: spec.error_message,
        };
        (transient || permanent).then_some((error, !permanent))
    }

    /// Lets the stage call its models; returns how long that takes.
    fn call_models(
        &mut self,
        pipeline: &'static PipelineSpec,
        stage: &mut Stage,
        from_ms: i64,
    ) -> i64 {
        let name = stage.name;
        let mut busy_ms = 0.0;
        for usage in pipeline.models.iter().filter(|usage| usage.stage == name) {
            let spike = pipeline.name == SPIKE_PIPELINE
                && usage.model == SPIKE_MODEL
                && self.script.cost_spike.contains(from_ms);
            let (calls, tokens) = if spike {
                (SPIKE_CALL_FACTOR, SPIKE_TOKEN_FACTOR)
            } else {
                (1.0, 1.0)
            };
            let count = self.random.count(usage.calls_per_run).max(1.0) * calls;
            for _ in 0..count as u64 {
                let at_ms = from_ms + (busy_ms / MODEL_PARALLELISM) as i64;
                let call = self.model_call(usage, at_ms, tokens, spike);
                busy_ms += call.latency_ms as f64;
                stage.model_calls.push(call);
            }
        }
        stage.model_calls.sort_by_key(|call| call.started_ms);
        let last_ms = stage
            .model_calls
            .iter()
            .map(|call| call.started_ms + call.latency_ms)
            .max();
        last_ms.map_or(0, |last_ms| (last_ms - from_ms).max(0))
    }

    fn model_call(&mut self, usage: &ModelUse, at_ms: i64, tokens: f64, spike: bool) -> ModelCall {
        let input_tokens = self.random.log_normal(usage.input_tokens * tokens, 0.25) as u64;
        let output_tokens = self.random.log_normal(usage.output_tokens * tokens, 0.35) as u64;
        let slower = if spike { 2.0 } else { 1.0 };
        let unusable_chance = if spike { 0.5 } else { 0.01 };
        ModelCall {
            model: usage.model,
            started_ms: at_ms,
            latency_ms: self.random.log_normal(usage.latency_ms * slower, 0.4) as i64,
            input_tokens,
            output_tokens,
            cost_dollars: model_cost_dollars(usage.model, input_tokens, output_tokens),
            succeeded: !self.random.chance(unusable_chance),
        }
    }
}

/// Writes 16 random bytes in the form of a version 4 UUID.
fn uuid(mut bytes: [u8; 16]) -> String {
    bytes[6] = (bytes[6] & 0x0f) | 0x40;
    bytes[8] = (bytes[8] & 0x3f) | 0x80;
    let mut text = String::with_capacity(36);
    for (index, byte) in bytes.iter().enumerate() {
        if matches!(index, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::season::HOUR_MS;

    const START_MS: i64 = 1_763_600_400_000;
    const END_MS: i64 = START_MS + 24 * HOUR_MS;

    fn story() -> (Script, Vec<Run>) {
        let script = Script::new(START_MS, END_MS);
        let mut runs = simulate(42, &script, START_MS, END_MS);
        runs.iter_mut().for_each(|run| settle(run, END_MS));
        (script, runs)
    }

    #[test]
    fn runs_are_well_formed() {
        let (_, runs) = story();
        assert!((4_000..8_000).contains(&runs.len()), "{} runs", runs.len());
        for run in &runs {
            assert!(run.scheduled_ms <= run.started_ms && run.started_ms <= run.ended_ms);
            assert_eq!(run.run_id.len(), 36);
            let mut last_ms = run.started_ms;
            for stage in &run.stages {
                assert_eq!(
                    stage.started_ms, last_ms,
                    "stages follow each other: {run:?}"
                );
                last_ms = stage.ended_ms;
            }
            assert_eq!(run.error.is_some(), run.state == RunState::Failed);
        }
        let mut ids: Vec<&str> = runs.iter().map(|run| run.run_id.as_str()).collect();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), runs.len(), "run ids are unique");
    }

    #[test]
    fn most_runs_succeed_and_some_are_under_way() {
        let (_, runs) = story();
        let share =
            |state| runs.iter().filter(|run| run.state == state).count() as f64 / runs.len() as f64;
        assert!(
            share(RunState::Succeeded) > 0.96,
            "{}",
            share(RunState::Succeeded)
        );
        assert!(
            (0.003..0.03).contains(&share(RunState::Failed)),
            "{}",
            share(RunState::Failed)
        );
        assert!(runs.iter().any(|run| run.state == RunState::Running));
    }

    #[test]
    fn the_failed_stage_fails_every_attempt_and_leaves_a_backlog() {
        let (script, runs) = story();
        let here = |run: &&Run| run.pipeline == FAILED_PIPELINE && run.region == FAILED_REGION;
        let load_start = |run: &Run| run.stages.last().map_or(0, |stage| stage.started_ms);
        let window = script.failed_stage;
        let (mut failed, mut caught_up) = (0, false);
        for run in runs.iter().filter(here) {
            if window.contains(load_start(run)) && run.ended_ms < window.end_ms {
                assert_eq!(
                    run.error.map(|error| error.code),
                    Some(FAILED_CODE),
                    "{run:?}"
                );
                assert_eq!(run.stages.last().map(Stage::retry_count), Some(2));
                failed += 1;
            }
            caught_up |= run.ended_ms >= window.end_ms && run.records > 5_000;
        }
        assert!(failed >= 15, "{failed} failed runs");
        assert!(caught_up, "a run after the incident takes the backlog");
    }

    #[test]
    fn the_late_source_brings_nothing_then_everything() {
        let (script, runs) = story();
        let late: Vec<&Run> = runs
            .iter()
            .filter(|run| run.pipeline == LATE_PIPELINE && run.store == Some(LATE_STORE))
            .collect();
        let inside: Vec<&&Run> = late
            .iter()
            .filter(|run| script.late_source.contains(run.started_ms))
            .collect();
        assert!(inside.len() >= 15);
        assert!(
            inside
                .iter()
                .all(|run| run.records == 0 && run.duration_ms() > 180_000)
        );
        let first_after = late
            .iter()
            .find(|run| run.started_ms >= script.late_source.end_ms);
        assert!(
            first_after.is_some_and(|run| run.records > 2_000),
            "{first_after:?}"
        );
    }
}
