//! Data quality: five dimensions per pipeline, checked every five minutes.

use super::table::{Behaviour, SeriesTable, Slot};
use super::{Sampler, rounded};
use crate::incidents::{FAILED_PIPELINE, LATE_PIPELINE, Script, Window};
use crate::random::{Drift, Random};
use crate::season::MINUTE_MS;
use crate::world::PIPELINES;

const CHECK_EVERY_MS: i64 = 5 * MINUTE_MS;

/// Dimensions and the share of checks that usually pass.
const DIMENSIONS: [(&str, f64); 5] = [
    ("completeness", 0.9975),
    ("accuracy", 0.992),
    ("freshness", 0.996),
    ("consistency", 0.989),
    ("uniqueness", 0.9992),
];

#[derive(Debug, Clone)]
struct Score {
    pipeline: &'static str,
    dimension: &'static str,
    level: f64,
    slot: Slot,
    drift: Drift,
}

/// The quality monitor.
#[derive(Debug, Clone)]
pub(crate) struct Quality {
    pub(crate) target: usize,
    scores: Vec<Score>,
    script: Script,
    random: Random,
    checked: Option<i64>,
}

/// Registers the quality monitor.
pub(crate) fn register(table: &mut SeriesTable, seed: u64, script: &Script) -> Sampler {
    let target = table.target("data-quality", "quality-1", 9104);
    let mut scores = Vec::new();
    for pipeline in &PIPELINES {
        for (dimension, level) in DIMENSIONS {
            let labels = [
                ("pipeline_name", pipeline.name),
                ("quality_dimension", dimension),
            ];
            scores.push(Score {
                pipeline: pipeline.name,
                dimension,
                level,
                slot: table.plain(target, "data_quality_score", Behaviour::Gauge, &labels),
                drift: Drift::new(0.8, (1.0 - level) * 0.3),
            });
        }
    }
    let random = Random::new(seed, "quality", 0);
    Sampler::Quality(Box::new(Quality {
        target,
        scores,
        script: script.clone(),
        random,
        checked: None,
    }))
}

impl Quality {
    pub(crate) fn sample(&mut self, at_ms: i64, slots: &mut [f64]) {
        // A check's verdict stands until the next check.
        let check = at_ms.div_euclid(CHECK_EVERY_MS);
        if self.checked == Some(check) {
            return;
        }
        self.checked = Some(check);
        let checked_ms = check * CHECK_EVERY_MS;
        for score in &mut self.scores {
            let noise = score.drift.step(&mut self.random);
            let damage = damage(&self.script, score.pipeline, score.dimension, checked_ms);
            slots[score.slot] = rounded((score.level + noise - damage).clamp(0.0, 1.0), 4);
        }
    }
}

/// What an incident takes off a score. Checks notice ten minutes after the cause, when the data
/// that should have come is missed.
fn damage(script: &Script, pipeline: &str, dimension: &str, at_ms: i64) -> f64 {
    let noticed = |window: Window| window.contains(at_ms - 10 * MINUTE_MS);
    if pipeline == FAILED_PIPELINE && noticed(script.failed_stage) {
        // One of three regions is missing.
        return match dimension {
            "completeness" => 0.30,
            "freshness" => 0.32,
            "consistency" => 0.12,
            _ => 0.0,
        };
    }
    if pipeline == LATE_PIPELINE && noticed(script.late_source) {
        // One of six stores is late.
        return match dimension {
            "freshness" => 0.17,
            "completeness" => 0.04,
            _ => 0.0,
        };
    }
    0.0
}
