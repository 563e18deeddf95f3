//! Metrics of pipelines, tasks and models, derived from the runs.

use std::collections::{HashMap, VecDeque};

use super::rounded;
use super::table::{Behaviour, HistogramSlots, SeriesTable, Slot};
use super::updates::{Recorder, Update};
use crate::incidents::RUNNER_JOB;
use crate::runs::{ModelCall, Run, Stage};
use crate::season::MINUTE_MS;
use crate::world::{MODEL_PRICES, PIPELINES, REGIONS, pipeline};

const RUNNER_PORT: u16 = 9102;
const GATEWAY_PORT: u16 = 9103;

/// Upper bounds of `pipeline_duration_seconds`, in seconds.
const RUN_BOUNDS: [f64; 10] = [
    5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 180.0, 300.0, 600.0, 1800.0,
];
/// Upper bounds of `model_latency_seconds`, in seconds.
const MODEL_BOUNDS: [f64; 8] = [0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];
/// Quantiles of `task_duration_seconds`, and the time that they look back.
const TASK_QUANTILES: [f64; 3] = [0.5, 0.95, 0.99];
const TASK_WINDOW_MS: i64 = 10 * MINUTE_MS;

/// Series of one pipeline at one place (a store or a region).
#[derive(Debug)]
struct PlaceSlots {
    executions: Slot,
    successes: Slot,
    watermark: Slot,
    freshness: Slot,
}

/// Series of one pipeline in one region.
#[derive(Debug)]
struct RegionalSlots {
    target: usize,
    active: Slot,
    duration: HistogramSlots,
}

/// Series of one kind of task on one runner.
#[derive(Debug)]
struct TaskSlots {
    quantiles: Vec<Slot>,
    sum: Slot,
    count: Slot,
}

/// The slots of everything that runs change.
#[derive(Debug)]
pub(crate) struct PipelineSeries {
    places: HashMap<(&'static str, &'static str, Option<&'static str>), PlaceSlots>,
    regional: HashMap<(&'static str, &'static str), RegionalSlots>,
    tasks: HashMap<(&'static str, &'static str), TaskSlots>,
    queues: HashMap<&'static str, Slot>,
    latencies: HashMap<&'static str, HistogramSlots>,
    gateway: usize,
}

impl PipelineSeries {
    /// Registers the series that exist from the start.
    pub(crate) fn register(table: &mut SeriesTable) -> Self {
        let mut series = Self {
            places: HashMap::new(),
            regional: HashMap::new(),
            tasks: HashMap::new(),
            queues: HashMap::new(),
            latencies: HashMap::new(),
            gateway: 0,
        };
        for region in &REGIONS {
            let target = table.target(RUNNER_JOB, region.runner, RUNNER_PORT);
            for spec in &PIPELINES {
                let pipeline = ("pipeline_name", spec.name);
                let regional = RegionalSlots {
                    target,
                    active: table.plain(
                        target,
                        "pipeline_active_count",
                        Behaviour::Gauge,
                        &[pipeline],
                    ),
                    duration: table.histogram(
                        target,
                        "pipeline_duration_seconds",
                        &RUN_BOUNDS,
                        &[pipeline],
                    ),
                };
                series.regional.insert((spec.name, region.name), regional);
                let places: Vec<Option<&'static str>> = if spec.per_store {
                    region.stores.iter().map(|store| Some(store.name)).collect()
                } else {
                    vec![None]
                };
                for place in places {
                    let slots = register_place(table, target, spec.name, place);
                    series.places.insert((spec.name, region.name, place), slots);
                }
                for stage in spec.stages {
                    series
                        .tasks
                        .entry((region.name, stage.name))
                        .or_insert_with(|| register_task(table, target, stage.name));
                }
            }
            let queue = table.plain(target, "task_queue_size", Behaviour::Gauge, &[]);
            series.queues.insert(region.name, queue);
        }
        series.gateway = table.target("model-gateway", "gateway-1", GATEWAY_PORT);
        for price in &MODEL_PRICES {
            let latency = table.histogram(
                series.gateway,
                "model_latency_seconds",
                &MODEL_BOUNDS,
                &[("model", price.model)],
            );
            series.latencies.insert(price.model, latency);
        }
        series
    }

    /// The gauges of the runs under way in a region.
    pub(crate) fn active_slots(&self, region: &str) -> Vec<Slot> {
        let mut slots: Vec<Slot> = self
            .regional
            .iter()
            .filter(|((_, of), _)| *of == region)
            .map(|(_, slots)| slots.active)
            .collect();
        slots.sort_unstable();
        slots
    }

    /// The sampler of data ages.
    pub(crate) fn freshness(&self) -> Freshness {
        let mut places: Vec<(usize, Slot, Slot)> = self
            .places
            .iter()
            .map(|((pipeline, region, _), slots)| {
                let target = self.regional[&(*pipeline, *region)].target;
                (target, slots.watermark, slots.freshness)
            })
            .collect();
        places.sort_unstable();
        Freshness { places }
    }

    /// Everything that the runs change. Series that appear on first use join the table here.
    pub(crate) fn updates(&self, table: &mut SeriesTable, runs: &[Run]) -> Vec<Update> {
        let mut recorder = Recorder::default();
        for run in runs {
            self.record_run(table, &mut recorder, run);
            for stage in &run.stages {
                self.record_stage(table, &mut recorder, run, stage);
                for call in &stage.model_calls {
                    self.record_call(table, &mut recorder, run.pipeline, call);
                }
            }
        }
        self.record_task_quantiles(&mut recorder, runs);
        recorder.updates
    }

    fn record_run(&self, table: &mut SeriesTable, recorder: &mut Recorder, run: &Run) {
        let place = &self.places[&(run.pipeline, run.region, run.store)];
        let regional = &self.regional[&(run.pipeline, run.region)];
        let queue = self.queues[run.region];
        recorder.add(run.scheduled_ms, queue, 1.0);
        recorder.add(run.started_ms, queue, -1.0);
        recorder.add(run.started_ms, regional.active, 1.0);
        recorder.add(run.ended_ms, regional.active, -1.0);
        recorder.add(run.ended_ms, place.executions, 1.0);
        recorder.observe(
            run.ended_ms,
            &regional.duration,
            run.duration_ms() as f64 / 1e3,
        );
        match run.error {
            None => recorder.add(run.ended_ms, place.successes, 1.0),
            Some(error) => {
                let errors = table.plain(
                    regional.target,
                    "pipeline_errors_total",
                    Behaviour::CounterOnFirstUse,
                    &[("pipeline_name", run.pipeline), ("error_code", error.code)],
                );
                recorder.add(run.ended_ms, errors, 1.0);
            }
        }
        if let Some(loaded_until_ms) = run.loaded_until_ms {
            recorder.set(run.ended_ms, place.watermark, loaded_until_ms as f64 / 1e3);
            for written in pipeline(run.pipeline).tables {
                let rows = table.plain(
                    regional.target,
                    "pipeline_records_processed",
                    Behaviour::CounterOnFirstUse,
                    &[
                        ("pipeline_name", run.pipeline),
                        ("table_name", written.name),
                    ],
                );
                let count = (run.records as f64 * written.rows_per_record).round();
                recorder.add(run.ended_ms, rows, count);
            }
        }
    }

    fn record_stage(
        &self,
        table: &mut SeriesTable,
        recorder: &mut Recorder,
        run: &Run,
        stage: &Stage,
    ) {
        let target = self.regional[&(run.pipeline, run.region)].target;
        let task = [("pipeline_name", run.pipeline), ("task_name", stage.name)];
        let status = if stage.error.is_some() {
            "failed"
        } else {
            "success"
        };
        let executions = table.plain(
            target,
            "task_executions_total",
            Behaviour::CounterOnFirstUse,
            &[task[0], task[1], ("status", status)],
        );
        recorder.add(stage.ended_ms, executions, 1.0);
        for attempt in stage.failed_attempts.iter().take(stage.retry_count()) {
            let retries = table.plain(
                target,
                "task_retry_count",
                Behaviour::CounterOnFirstUse,
                &task,
            );
            recorder.add(attempt.ended_ms, retries, 1.0);
        }
        let slots = &self.tasks[&(run.region, stage.name)];
        recorder.add(stage.ended_ms, slots.sum, stage.duration_ms() as f64 / 1e3);
        recorder.add(stage.ended_ms, slots.count, 1.0);
    }

    fn record_call(
        &self,
        table: &mut SeriesTable,
        recorder: &mut Recorder,
        pipeline: &'static str,
        call: &ModelCall,
    ) {
        let at_ms = call.started_ms + call.latency_ms;
        let labels = [("model", call.model), ("pipeline_name", pipeline)];
        let mut counter = |name: &str, more: &[(&str, &str)], amount: f64| {
            let all = [&labels, more].concat();
            let slot = table.plain(self.gateway, name, Behaviour::CounterOnFirstUse, &all);
            recorder.add(at_ms, slot, amount);
        };
        let status = if call.succeeded { "success" } else { "error" };
        counter("model_requests_total", &[("status", status)], 1.0);
        counter(
            "model_tokens_used",
            &[("token_type", "input")],
            call.input_tokens as f64,
        );
        if call.output_tokens > 0 {
            counter(
                "model_tokens_used",
                &[("token_type", "output")],
                call.output_tokens as f64,
            );
        }
        counter("model_cost_dollars", &[], call.cost_dollars);
        recorder.observe(
            at_ms,
            &self.latencies[call.model],
            call.latency_ms as f64 / 1e3,
        );
    }

    /// Sets the quantiles of each kind of task whenever one of its tasks ends.
    fn record_task_quantiles(&self, recorder: &mut Recorder, runs: &[Run]) {
        let mut ended: Vec<(i64, &'static str, &'static str, f64)> = runs
            .iter()
            .flat_map(|run| {
                run.stages.iter().map(|stage| {
                    let seconds = stage.duration_ms() as f64 / 1e3;
                    (stage.ended_ms, run.region, stage.name, seconds)
                })
            })
            .collect();
        ended.sort_by_key(|(at_ms, ..)| *at_ms);
        let mut windows: HashMap<(&str, &str), VecDeque<(i64, f64)>> = HashMap::new();
        for (at_ms, region, task, seconds) in ended {
            let window = windows.entry((region, task)).or_default();
            window.push_back((at_ms, seconds));
            while window
                .front()
                .is_some_and(|(old_ms, _)| *old_ms < at_ms - TASK_WINDOW_MS)
            {
                window.pop_front();
            }
            let mut sorted: Vec<f64> = window.iter().map(|(_, seconds)| *seconds).collect();
            sorted.sort_by(f64::total_cmp);
            let slots = &self.tasks[&(region, task)];
            for (quantile, slot) in TASK_QUANTILES.iter().zip(&slots.quantiles) {
                let rank = (quantile * sorted.len() as f64).ceil() as usize;
                recorder.set(at_ms, *slot, sorted[rank.clamp(1, sorted.len()) - 1]);
            }
        }
    }
}

fn register_place(
    table: &mut SeriesTable,
    target: usize,
    pipeline: &str,
    store: Option<&str>,
) -> PlaceSlots {
    let mut labels = vec![("pipeline_name", pipeline)];
    labels.extend(store.map(|store| ("store", store)));
    let mut slot = |name: &str, behaviour| table.plain(target, name, behaviour, &labels);
    PlaceSlots {
        executions: slot("pipeline_executions_total", Behaviour::Counter),
        successes: slot("pipeline_success_total", Behaviour::Counter),
        watermark: slot("data_watermark_timestamp_seconds", Behaviour::Gauge),
        freshness: slot("data_freshness_seconds", Behaviour::Gauge),
    }
}

fn register_task(table: &mut SeriesTable, target: usize, task: &str) -> TaskSlots {
    let name = "task_duration_seconds";
    let quantiles = TASK_QUANTILES
        .iter()
        .map(|quantile| {
            let labels = [("task_name", task), ("quantile", &quantile.to_string())];
            table.plain(target, name, Behaviour::Gauge, &labels)
        })
        .collect();
    let mut part = |suffix: &str| {
        let labels = [("task_name", task)];
        table.register(
            target,
            &format!("{name}_{suffix}"),
            name,
            Behaviour::Counter,
            &labels,
        )
    };
    TaskSlots {
        quantiles,
        sum: part("sum"),
        count: part("count"),
    }
}

/// Computes the age of the loaded data from its watermark.
#[derive(Debug, Clone)]
pub(crate) struct Freshness {
    /// Target, watermark, freshness.
    places: Vec<(usize, Slot, Slot)>,
}

impl Freshness {
    pub(crate) fn sample(&mut self, target: usize, at_ms: i64, slots: &mut [f64]) {
        for &(of, watermark, freshness) in &self.places {
            if of == target {
                slots[freshness] = rounded(at_ms as f64 / 1e3 - slots[watermark], 3);
            }
        }
    }
}
