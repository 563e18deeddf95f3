//! A run as the API shows it in a list.

use chronolith_engine::model::{TimestampNs, TraceId};
use chronolith_query::runs::{Run, RunBook, RunState};
use serde::Serialize;

/// One run of `/api/v1/runs`.
#[derive(Clone, Debug, Serialize)]
pub struct Summary {
    run_id: String,
    trace_id: Option<String>,
    pipeline: Option<String>,
    /// See [`RunState::as_str`].
    pub state: &'static str,
    queued: Option<String>,
    started: Option<String>,
    ended: Option<String>,
    duration_ms: Option<f64>,
    progress: Option<f64>,
    queue_ms: Option<f64>,
    stage: Option<String>,
    error: Option<String>,
    cost: Option<f64>,
    tokens: Option<f64>,
}

/// Nanoseconds as milliseconds.
pub(super) fn ms(ns: i64) -> f64 {
    // To the microsecond: what JSON shows of it stays short.
    (ns as f64 / 1e3).round() / 1e3
}

pub(super) fn time(ns: i64) -> String {
    TimestampNs(ns).to_string()
}

pub(super) fn rounded(value: f64) -> f64 {
    (value * 1e6).round() / 1e6
}

impl Summary {
    /// Of a run in a state that was worked out.
    #[must_use]
    pub fn new(run: &Run, state: RunState, progress: Option<f64>, now: i64) -> Self {
        let is_going_on = !state.is_final();
        Self {
            run_id: run.run_id.clone(),
            trace_id: (run.trace_id != [0; 16]).then(|| TraceId(run.trace_id).to_string()),
            pipeline: (!run.pipeline.is_empty()).then(|| run.pipeline.clone()),
            state: state.as_str(),
            queued: run.queued.map(time),
            started: run.started.map(time),
            ended: run.ended.map(time),
            // A lost run took as long as it was heard of.
            duration_ms: run
                .duration(if state == RunState::Lost {
                    run.last_seen
                } else {
                    now
                })
                .map(ms),
            progress: progress.map(rounded),
            queue_ms: run.queue_ms.map(rounded),
            stage: run
                .current_stage()
                .filter(|stage| is_going_on || stage.state == RunState::Failed)
                .map(|stage| stage.name.clone()),
            error: run.first_error.as_ref().map(|(_, words)| words.clone()),
            cost: run.cost.map(rounded),
            tokens: run.tokens,
        }
    }

    /// Of a run in a book.
    #[must_use]
    pub fn of(book: &RunBook, run: &Run, now: i64) -> Self {
        Self::new(run, book.state_of(run, now), book.progress(run, now), now)
    }

    /// As JSON.
    #[must_use]
    pub fn to_json(&self) -> String {
        // Plain text and finite numbers: nothing that JSON cannot say.
        serde_json::to_string(self).unwrap_or_else(|_| "null".to_owned())
    }
}
