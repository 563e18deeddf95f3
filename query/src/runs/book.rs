//! The recent runs of a tenant, found by run id, by trace and by pipeline.

use std::collections::{BTreeMap, HashMap, VecDeque};

use super::fold::{Run, RunState};
use super::history::PipelineHistory;
use super::names::Observation;

/// How much a book keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BookLimits {
    /// Runs; beyond it the one that was silent longest goes, ended ones first.
    pub runs_max: usize,
    /// Pipelines with a history; beyond it the history of new ones is not kept.
    pub pipelines_max: usize,
    /// A run that has been silent for this long, and three times its usual duration, is lost.
    pub lost_after_ns: i64,
}

impl Default for BookLimits {
    fn default() -> Self {
        Self {
            runs_max: 20_000,
            pipelines_max: 2_000,
            lost_after_ns: 15 * 60 * 1_000_000_000,
        }
    }
}

/// Which runs are wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RunFilter {
    /// Of this pipeline.
    pub pipeline: Option<String>,
    /// In this state.
    pub state: Option<RunState>,
    /// Seen at or after this time.
    pub start: Option<i64>,
    /// Begun (or queued) at or before this time.
    pub end: Option<i64>,
}

/// Recent runs and what is usual for their pipelines.
#[derive(Debug)]
pub struct RunBook {
    limits: BookLimits,
    runs: HashMap<String, Run>,
    by_trace: HashMap<[u8; 16], String>,
    /// Run ids in the order in which they were first seen.
    arrivals: VecDeque<String>,
    pipelines: BTreeMap<String, PipelineHistory>,
    /// Schedules that did not fire and were told, by pipeline: the time of the last one.
    missed: HashMap<String, i64>,
}

impl RunBook {
    /// An empty book.
    #[must_use]
    pub fn new(limits: BookLimits) -> Self {
        Self {
            limits,
            runs: HashMap::new(),
            by_trace: HashMap::new(),
            arrivals: VecDeque::new(),
            pipelines: BTreeMap::new(),
            missed: HashMap::new(),
        }
    }

    /// Takes in what was seen; answers the run as it is now, or `None` if the observation belongs to
    /// no run that is known.
    pub fn apply(&mut self, seen: &Observation<'_>) -> Option<&Run> {
        let run_id = match seen.fields.run_id {
            "" => self.by_trace.get(&seen.trace_id)?.clone(),
            run_id => run_id.to_owned(),
        };
        if !self.runs.contains_key(&run_id) {
            self.make_room();
            self.arrivals.push_back(run_id.clone());
            self.runs.insert(run_id.clone(), Run::new(&run_id));
        }
        if seen.trace_id != [0; 16] {
            self.by_trace
                .entry(seen.trace_id)
                .or_insert_with(|| run_id.clone());
        }
        let run = self.runs.get_mut(&run_id)?;
        let (was_final, had_schedule) = (run.state.is_final(), run.queued.or(run.started));
        run.apply(seen);
        if !run.pipeline.is_empty() {
            let is_known = self.pipelines.contains_key(&run.pipeline);
            if is_known || self.pipelines.len() < self.limits.pipelines_max {
                let history = self.pipelines.entry(run.pipeline.clone()).or_default();
                if had_schedule.is_none()
                    && let Some(time) = run.queued.or(run.started)
                {
                    history.note_schedule(time);
                }
                if !was_final && run.state.is_final() {
                    history.note_end(run);
                }
            }
        }
        self.runs.get(&run_id)
    }

    /// Drops a run if the book is full: of the oldest arrivals one that has ended, else the oldest.
    fn make_room(&mut self) {
        while self.runs.len() >= self.limits.runs_max.max(1) {
            let ended = self
                .arrivals
                .iter()
                .take(64)
                .position(|id| self.runs.get(id).is_none_or(|run| run.state.is_final()));
            let Some(id) = self.arrivals.remove(ended.unwrap_or(0)) else {
                return;
            };
            if let Some(run) = self.runs.remove(&id)
                && self.by_trace.get(&run.trace_id) == Some(&id)
            {
                self.by_trace.remove(&run.trace_id);
            }
        }
    }

    /// A run by its id, or by its trace id in hex.
    #[must_use]
    pub fn get(&self, id: &str) -> Option<&Run> {
        if let Some(run) = self.runs.get(id) {
            return Some(run);
        }
        let mut trace = [0; 16];
        if id.len() != 32 || !id.is_ascii() {
            return None;
        }
        for (byte, digits) in trace.iter_mut().zip(id.as_bytes().chunks(2)) {
            let digits = std::str::from_utf8(digits).ok()?;
            *byte = u8::from_str_radix(digits, 16).ok()?;
        }
        self.runs.get(self.by_trace.get(&trace)?)
    }

    /// What is usual for a pipeline.
    #[must_use]
    pub fn history(&self, pipeline: &str) -> Option<&PipelineHistory> {
        self.pipelines.get(pipeline)
    }

    /// The state of a run at `now`: one that has been silent for too long is lost.
    #[must_use]
    pub fn state_of(&self, run: &Run, now: i64) -> RunState {
        if run.state != RunState::Running {
            return run.state;
        }
        let usual = self
            .history(&run.pipeline)
            .and_then(|history| history.durations.quantile(0.95))
            .unwrap_or(0);
        let patience = self.limits.lost_after_ns.max(usual.saturating_mul(3));
        match now.saturating_sub(run.last_seen) > patience {
            true => RunState::Lost,
            false => RunState::Running,
        }
    }

    /// How far a run has come, 0 to 1.
    #[must_use]
    pub fn progress(&self, run: &Run, now: i64) -> Option<f64> {
        match self.history(&run.pipeline) {
            Some(history) => history.progress(run, now),
            None => (run.state == RunState::Succeeded).then_some(1.0),
        }
    }

    /// Runs that pass, newest first, at most `limit`.
    #[must_use]
    pub fn list(&self, filter: &RunFilter, now: i64, limit: usize) -> Vec<&Run> {
        let began = |run: &Run| run.started.or(run.queued).unwrap_or(run.last_seen);
        let mut found: Vec<&Run> = self
            .runs
            .values()
            .filter(|run| {
                filter
                    .pipeline
                    .as_ref()
                    .is_none_or(|name| *name == run.pipeline)
            })
            .filter(|run| filter.start.is_none_or(|start| run.last_seen >= start))
            .filter(|run| filter.end.is_none_or(|end| began(run) <= end))
            .filter(|run| {
                filter
                    .state
                    .is_none_or(|state| self.state_of(run, now) == state)
            })
            .collect();
        found.sort_by(|a, b| {
            began(b)
                .cmp(&began(a))
                .then_with(|| a.run_id.cmp(&b.run_id))
        });
        found.truncate(limit);
        found
    }

    /// Schedules of regular pipelines that should have fired before `now` and did not, half a period
    /// late: pipeline and the time that was due. Each is told once by [`RunBook::take_missed`].
    fn due(&self, now: i64) -> impl Iterator<Item = (&String, i64)> {
        self.pipelines.iter().filter_map(move |(name, history)| {
            let (period, last) = (history.period()?, history.last_schedule?);
            let due = last.checked_add(period)?;
            (now.saturating_sub(due) > period / 2).then_some((name, due))
        })
    }

    /// Runs in state missed at `now`, made up for schedules that did not fire.
    #[must_use]
    pub fn missed(&self, now: i64) -> Vec<Run> {
        self.due(now)
            .map(|(pipeline, due)| {
                let mut run = Run::new(&format!("missed:{pipeline}:{due}"));
                run.pipeline.clone_from(pipeline);
                run.state = RunState::Missed;
                run.queued = Some(due);
                run
            })
            .collect()
    }

    /// Those of [`RunBook::missed`] that were not taken before.
    pub fn take_missed(&mut self, now: i64) -> Vec<Run> {
        let mut missed = self.missed(now);
        missed.retain(|run| {
            let due = run.queued.unwrap_or(0);
            self.missed.insert(run.pipeline.clone(), due) != Some(due)
        });
        missed
    }

    /// How many runs the book holds.
    #[must_use]
    pub fn len(&self) -> usize {
        self.runs.len()
    }

    /// Whether it holds none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::super::fold::tests::event;
    use super::*;

    const MINUTE: i64 = 60_000_000_000;

    fn run_of(book: &mut RunBook, id: &str, start: i64) {
        for (name, at, stage) in [
            ("run.started", 0, None),
            ("stage.started", 0, Some("extract")),
            ("stage.completed", MINUTE, Some("extract")),
            ("stage.started", MINUTE, Some("load")),
            ("stage.completed", 4 * MINUTE, Some("load")),
            ("run.completed", 4 * MINUTE, None),
        ] {
            let mut seen = event(name, start + at, stage);
            seen.fields.run_id = id;
            seen.trace_id = [id.len() as u8; 16];
            book.apply(&seen);
        }
    }

    #[test]
    fn what_is_usual_says_how_far_a_run_has_come() {
        let mut book = RunBook::new(BookLimits::default());
        (0..6).for_each(|n| run_of(&mut book, &format!("run-{n}"), n * 5 * MINUTE));
        let start = 30 * MINUTE;
        for (name, at, stage) in [
            ("run.started", 0, None),
            ("stage.completed", MINUTE, Some("extract")),
            ("stage.started", MINUTE, Some("load")),
        ] {
            let mut seen = event(name, start + at, stage);
            seen.fields.run_id = "live";
            book.apply(&seen);
        }
        let live = book.get("live").unwrap();
        let progress = book
            .progress(live, start + 2 * MINUTE + MINUTE / 2)
            .unwrap();
        assert!((progress - 2.5 / 4.0).abs() < 1e-9, "{progress}");
        assert_eq!(book.state_of(live, start + 3 * MINUTE), RunState::Running);
        assert_eq!(book.state_of(live, start + 20 * MINUTE), RunState::Lost);
    }

    #[test]
    fn a_regular_pipeline_that_stays_away_is_missed_once() {
        let mut book = RunBook::new(BookLimits::default());
        (0..6).for_each(|n| run_of(&mut book, &format!("run-{n}"), n * 5 * MINUTE));
        assert!(book.take_missed(31 * MINUTE).is_empty());
        let missed = book.take_missed(33 * MINUTE);
        assert_eq!(missed.len(), 1);
        assert_eq!(missed[0].queued, Some(30 * MINUTE));
        assert!(book.take_missed(34 * MINUTE).is_empty());
        assert_eq!(book.missed(34 * MINUTE).len(), 1);
    }

    #[test]
    fn a_full_book_lets_ended_runs_go_first() {
        let limits = BookLimits {
            runs_max: 3,
            ..BookLimits::default()
        };
        let mut book = RunBook::new(limits);
        let mut live = event("run.started", 0, None);
        live.fields.run_id = "live";
        book.apply(&live);
        (0..5).for_each(|n| run_of(&mut book, &format!("run-{n}"), n * 5 * MINUTE));
        assert_eq!(book.len(), 3);
        assert!(book.get("live").is_some() && book.get("run-0").is_none());
    }

    #[test]
    fn a_run_is_found_by_its_trace() {
        let mut book = RunBook::new(BookLimits::default());
        run_of(&mut book, "run-0", 0);
        let trace: String = "05".repeat(16);
        assert_eq!(
            book.get(&trace).map(|run| run.run_id.as_str()),
            Some("run-0")
        );
        assert!(book.get("zz").is_none() && book.get(&"zz".repeat(16)).is_none());
        let filter = RunFilter {
            state: Some(RunState::Succeeded),
            ..RunFilter::default()
        };
        assert_eq!(book.list(&filter, 0, 10).len(), 1);
    }
}
