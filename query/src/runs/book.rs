//! The recent runs of a tenant, found by run id, by trace and by pipeline.
//!
//! A book is bounded in runs and in bytes. It counts its changes: who follows it asks for the runs that
//! changed since the count that it saw last, and gets each of them once, as it is now. So a follower
//! that is slow costs no memory; it only misses what has been overtaken.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use super::fold::{Run, RunState};
use super::history::PipelineHistory;
use super::names::Observation;

/// Runs that a regular pipeline may miss in a row before it counts as given up.
const MISSED_IN_A_ROW_MAX: usize = 3;
/// Missed runs that are told at a time for one pipeline with a declared schedule.
const MISSED_AT_ONCE_MAX: i64 = 8;
/// Arrivals among which a run that has ended is looked for when room is needed.
const EVICTION_LOOKS: usize = 64;

/// How much a book keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BookLimits {
    /// Runs; beyond it the oldest goes, ended ones first.
    pub runs_max: usize,
    /// Bytes that runs and histories take, about; a quarter is for histories.
    pub bytes_max: usize,
    /// Pipelines with a history; beyond it the history of new ones is not kept.
    pub pipelines_max: usize,
    /// A run that has been silent for this long, and three times its usual duration, is lost.
    pub lost_after_ns: i64,
}

impl Default for BookLimits {
    fn default() -> Self {
        Self {
            runs_max: 20_000,
            bytes_max: 64 << 20,
            pipelines_max: 2_000,
            lost_after_ns: 15 * 60 * 1_000_000_000,
        }
    }
}

/// A schedule that was declared: the pipeline is due at `offset_ns` and every `every_ns` from there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schedule {
    /// The pipeline.
    pub pipeline: String,
    /// Nanoseconds from one time to the next, above 0.
    pub every_ns: i64,
    /// Nanoseconds after the epoch (UTC) of one of the times.
    pub offset_ns: i64,
    /// How late a run may be before it is missed.
    pub grace_ns: i64,
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

#[derive(Debug)]
struct Kept {
    run: Run,
    bytes: usize,
    /// The change that it was last part of.
    change: u64,
    /// Whether it was told that the run is lost.
    told_lost: bool,
}

/// Recent runs and what is usual for their pipelines.
#[derive(Debug)]
pub struct RunBook {
    limits: BookLimits,
    runs: HashMap<Arc<str>, Kept>,
    by_trace: HashMap<[u8; 16], Arc<str>>,
    /// Run ids in the order in which they were first seen.
    arrivals: VecDeque<Arc<str>>,
    /// The run of each change that no later change of the same run has overtaken.
    changes: BTreeMap<u64, Arc<str>>,
    change: u64,
    run_bytes: usize,
    pipelines: BTreeMap<String, PipelineHistory>,
    history_bytes: usize,
    schedules: Vec<Schedule>,
    /// Times before this one are nobody's business: the book was not there.
    watched_since: i64,
    /// Up to when schedules were looked at, by pipeline.
    looked_until: HashMap<String, i64>,
    /// Runs told as missed, by pipeline, oldest first: the time that was due.
    missed: HashMap<String, VecDeque<i64>>,
    /// The book has every run that was seen at or after this time.
    complete_since: i64,
}

impl RunBook {
    /// An empty book, which tells of no schedule before `watched_since`.
    #[must_use]
    pub fn new(limits: BookLimits, schedules: Vec<Schedule>, watched_since: i64) -> Self {
        Self {
            limits,
            runs: HashMap::new(),
            by_trace: HashMap::new(),
            arrivals: VecDeque::new(),
            changes: BTreeMap::new(),
            change: 0,
            run_bytes: 0,
            pipelines: BTreeMap::new(),
            history_bytes: 0,
            schedules,
            watched_since,
            looked_until: HashMap::new(),
            missed: HashMap::new(),
            complete_since: watched_since,
        }
    }

    /// Takes in what was seen; answers the run as it is now, or `None` if the observation belongs to
    /// no run that is known.
    pub fn apply(&mut self, seen: &Observation<'_>) -> Option<&Run> {
        let run_id = match seen.fields.run_id {
            "" => Arc::clone(self.by_trace.get(&seen.trace_id)?),
            run_id => match self.runs.get_key_value(run_id) {
                Some((known, _)) => Arc::clone(known),
                None => self.begin(run_id),
            },
        };
        if seen.trace_id != [0; 16] && !self.by_trace.contains_key(&seen.trace_id) {
            // A run has one trace; others that name it lead to it as long as it is young.
            let kept = self.runs.get(&run_id)?;
            if kept.run.trace_id == [0; 16] {
                self.by_trace.insert(seen.trace_id, Arc::clone(&run_id));
            }
        }
        let kept = self.runs.get_mut(&run_id)?;
        let run = &mut kept.run;
        let (was_final, schedule) = (run.state.is_final(), run.queued.or(run.started));
        let had_pipeline = !run.pipeline.is_empty();
        run.apply(seen);
        let bytes = run.bytes();
        self.run_bytes = (self.run_bytes + bytes).saturating_sub(kept.bytes);
        (kept.bytes, kept.told_lost) = (bytes, false);
        self.changes.remove(&kept.change);
        self.change += 1;
        kept.change = self.change;
        self.changes.insert(self.change, Arc::clone(&run_id));
        let now_schedule = run.queued.or(run.started);
        let is_scheduled = match (schedule.filter(|_| had_pipeline), now_schedule) {
            (None, Some(time)) if !run.pipeline.is_empty() => Some(time),
            _ => None,
        };
        let has_ended = !was_final && run.state.is_final();
        if has_ended || is_scheduled.is_some() {
            self.note(&run_id, is_scheduled, has_ended);
        }
        if self.run_bytes > self.limits.bytes_max / 4 * 3 {
            self.make_room(&run_id);
        }
        self.runs.get(&run_id).map(|kept| &kept.run)
    }

    fn begin(&mut self, run_id: &str) -> Arc<str> {
        self.make_room("");
        let run_id: Arc<str> = run_id.into();
        let run = Run::new(&run_id);
        let bytes = run.bytes();
        self.run_bytes += bytes;
        self.arrivals.push_back(Arc::clone(&run_id));
        let kept = Kept {
            run,
            bytes,
            change: 0,
            told_lost: false,
        };
        self.runs.insert(Arc::clone(&run_id), kept);
        run_id
    }

    /// Notes in the history of a run's pipeline that it was scheduled, or has ended.
    fn note(&mut self, run_id: &str, is_scheduled: Option<i64>, has_ended: bool) {
        let Some(run) = self.runs.get(run_id).map(|kept| &kept.run) else {
            return;
        };
        if run.pipeline.is_empty() {
            return;
        }
        let has_room = self.pipelines.len() < self.limits.pipelines_max
            && self.history_bytes < self.limits.bytes_max / 4;
        let known = self.pipelines.get(&run.pipeline);
        if known.is_none() && !has_room {
            return;
        }
        let before = known.map_or(0, PipelineHistory::bytes);
        let pipeline = run.pipeline.clone();
        let history = self.pipelines.entry(pipeline.clone()).or_default();
        if let Some(time) = is_scheduled {
            history.note_schedule(time);
        }
        // Without room a history keeps what it has.
        if has_ended && self.history_bytes < self.limits.bytes_max / 4 {
            history.note_end(run);
        }
        let period = history.period();
        self.history_bytes = (self.history_bytes + history.bytes()).saturating_sub(before);
        if let Some(time) = is_scheduled {
            self.not_missed(&pipeline, time, period);
        }
    }

    /// A run came that had been told as missed: it was only late, or its news were.
    fn not_missed(&mut self, pipeline: &str, time: i64, period: Option<i64>) {
        let Some(missed) = self.missed.get_mut(pipeline) else {
            return;
        };
        let declared = self.schedules.iter().find(|s| s.pipeline == pipeline);
        let every = declared.map(|s| s.every_ns).or(period).unwrap_or(0);
        let came = |due: &i64| time.abs_diff(*due) <= every.unsigned_abs() / 2;
        let gone: Vec<i64> = missed.iter().copied().filter(|due| came(due)).collect();
        missed.retain(|due| !came(due));
        if missed.is_empty() {
            self.missed.remove(pipeline);
        }
        for due in gone {
            self.remove(&missed_id(pipeline, due));
        }
    }

    fn remove(&mut self, run_id: &str) {
        let Some(kept) = self.runs.remove(run_id) else {
            return;
        };
        self.changes.remove(&kept.change);
        self.run_bytes = self.run_bytes.saturating_sub(kept.bytes);
        let trace = kept.run.trace_id;
        if self.by_trace.get(&trace).is_some_and(|id| **id == *run_id) {
            self.by_trace.remove(&trace);
        }
    }

    /// Drops runs while the book is full: of the oldest arrivals one that has ended, else the oldest;
    /// not `spared`.
    fn make_room(&mut self, spared: &str) {
        let is_full = |book: &Self| {
            book.runs.len() >= book.limits.runs_max.max(1)
                || book.run_bytes > book.limits.bytes_max / 4 * 3
        };
        while is_full(self) {
            let ended = self.arrivals.iter().take(EVICTION_LOOKS).position(|id| {
                let kept = self.runs.get(id);
                **id != *spared
                    && kept
                        .is_none_or(|k| k.run.state.is_final() || k.run.state == RunState::Missed)
            });
            let first = || self.arrivals.iter().position(|id| **id != *spared);
            let Some(id) = ended.or_else(first).and_then(|at| self.arrivals.remove(at)) else {
                return;
            };
            if let Some(kept) = self.runs.get(&id) {
                let seen = kept.run.last_seen.saturating_add(1);
                self.complete_since = self.complete_since.max(seen);
            }
            self.remove(&id);
        }
    }

    /// A run by its id, or by its trace id in hex.
    #[must_use]
    pub fn get(&self, id: &str) -> Option<&Run> {
        if let Some(kept) = self.runs.get(id) {
            return Some(&kept.run);
        }
        let mut trace = [0; 16];
        if id.len() != 32 || !id.is_ascii() {
            return None;
        }
        for (byte, digits) in trace.iter_mut().zip(id.as_bytes().chunks(2)) {
            let digits = std::str::from_utf8(digits).ok()?;
            *byte = u8::from_str_radix(digits, 16).ok()?;
        }
        self.runs.get(self.by_trace.get(&trace)?).map(|k| &k.run)
    }

    /// Whether a trace is that of a run.
    #[inline]
    #[must_use]
    pub fn knows_trace(&self, trace_id: &[u8; 16]) -> bool {
        self.by_trace.contains_key(trace_id)
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
        let mut found: Vec<&Run> = self.runs.values().map(|kept| &kept.run).collect();
        found.retain(|run| {
            let wanted = filter.pipeline.as_ref();
            wanted.is_none_or(|name| *name == run.pipeline)
                && filter.start.is_none_or(|start| run.last_seen >= start)
                && filter.end.is_none_or(|end| run.began() <= end)
                && filter
                    .state
                    .is_none_or(|state| self.state_of(run, now) == state)
        });
        found.sort_by(|a, b| {
            let newest = b.began().cmp(&a.began());
            newest.then_with(|| a.run_id.cmp(&b.run_id))
        });
        found.truncate(limit);
        found
    }

    /// How many changes there have been.
    #[must_use]
    pub fn change(&self) -> u64 {
        self.change
    }

    /// Runs that changed after change `seen`, at most `limit`, the one that changed first in front; and
    /// the change up to which they tell.
    #[must_use]
    pub fn changed_since(&self, seen: u64, limit: usize) -> (Vec<&Run>, u64) {
        let mut reached = self.change;
        let mut found = Vec::new();
        for (change, id) in self.changes.range(seen.saturating_add(1)..) {
            if found.len() == limit {
                break;
            }
            found.extend(self.runs.get(id).map(|kept| &kept.run));
            reached = *change;
        }
        if found.len() < limit {
            reached = self.change;
        }
        (found, reached)
    }

    /// Notes what time alone has changed: runs that are lost, schedules that did not fire.
    pub fn tick(&mut self, now: i64) {
        let quiet: Vec<Arc<str>> = self
            .runs
            .iter()
            .filter(|(_, kept)| !kept.told_lost && self.state_of(&kept.run, now) == RunState::Lost)
            .map(|(id, _)| Arc::clone(id))
            .collect();
        for id in quiet {
            if let Some(kept) = self.runs.get_mut(&id) {
                kept.told_lost = true;
                self.changes.remove(&kept.change);
                self.change += 1;
                kept.change = self.change;
                self.changes.insert(self.change, id);
            }
        }
        for (pipeline, due) in self.due(now) {
            self.miss(&pipeline, due);
        }
    }

    /// Adds a run in state missed.
    fn miss(&mut self, pipeline: &str, due: i64) {
        let run_id = self.begin(&missed_id(pipeline, due));
        let Some(kept) = self.runs.get_mut(&run_id) else {
            return;
        };
        kept.run.pipeline = pipeline.to_owned();
        kept.run.state = RunState::Missed;
        kept.run.queued = Some(due);
        kept.run.last_seen = due;
        self.changes.remove(&kept.change);
        self.change += 1;
        kept.change = self.change;
        self.changes.insert(self.change, run_id);
        let missed = self.missed.entry(pipeline.to_owned()).or_default();
        missed.push_back(due);
        if missed.len() > MISSED_AT_ONCE_MAX as usize {
            missed.pop_front();
        }
    }

    /// Schedules that should have fired before `now` and did not, and were not told yet: pipeline and the
    /// time that was due.
    fn due(&mut self, now: i64) -> Vec<(String, i64)> {
        let mut due = Vec::new();
        for schedule in &self.schedules {
            let every = schedule.every_ns.max(1);
            let last = now.saturating_sub(schedule.grace_ns);
            let last =
                last.saturating_sub(last.saturating_sub(schedule.offset_ns).rem_euclid(every));
            let looked = self.looked_until.get(&schedule.pipeline).copied();
            let from = looked.unwrap_or(self.watched_since);
            let history = self.pipelines.get(&schedule.pipeline);
            for back in (0..MISSED_AT_ONCE_MAX).rev() {
                let time = last.saturating_sub(every.saturating_mul(back));
                // A little early is on time.
                let early = time.saturating_sub(every / 10);
                let late = time.saturating_add(schedule.grace_ns);
                if time > from && !history.is_some_and(|h| h.has_schedule(early, late)) {
                    due.push((schedule.pipeline.clone(), time));
                }
            }
            let looked = self.looked_until.entry(schedule.pipeline.clone());
            *looked.or_insert(last) = last.max(from);
        }
        for (pipeline, history) in &self.pipelines {
            if self.schedules.iter().any(|s| s.pipeline == *pipeline) {
                continue;
            }
            let (Some(period), Some(last)) = (history.period(), history.last_schedule()) else {
                continue;
            };
            let told = self.missed.get(pipeline);
            let told = told.map_or(0, |told| told.iter().filter(|due| **due > last).count());
            for nth in told + 1..=MISSED_IN_A_ROW_MAX {
                let time = last.saturating_add(period.saturating_mul(nth as i64));
                let is_late = now.saturating_sub(time) > period / 2;
                if is_late && time > self.watched_since {
                    due.push((pipeline.clone(), time));
                }
            }
        }
        due
    }

    /// From now on runs and histories take at most about this many bytes.
    pub fn set_bytes_max(&mut self, bytes_max: usize) {
        self.limits.bytes_max = bytes_max;
    }

    /// From now on the book has every run seen since `time`, as far as they were not dropped.
    pub fn complete_from(&mut self, time: i64) {
        if self.complete_since == self.watched_since {
            self.complete_since = time;
        }
    }

    /// The book has every run that was seen at or after this time.
    #[must_use]
    pub fn complete_since(&self) -> i64 {
        self.complete_since
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

    /// About how many bytes of memory runs and histories take.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.run_bytes + self.history_bytes
    }
}

fn missed_id(pipeline: &str, due: i64) -> String {
    format!("missed:{pipeline}:{}", due / 1_000_000_000)
}

#[cfg(test)]
mod tests {
    use super::super::fold::tests::event;
    use super::*;

    const MINUTE: i64 = 60_000_000_000;

    fn book() -> RunBook {
        RunBook::new(BookLimits::default(), Vec::new(), 0)
    }

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

    fn missed(book: &RunBook) -> Vec<i64> {
        let filter = RunFilter {
            state: Some(RunState::Missed),
            ..RunFilter::default()
        };
        let found = book.list(&filter, 0, 100);
        found.iter().filter_map(|run| run.queued).collect()
    }

    #[test]
    fn what_is_usual_says_how_far_a_run_has_come() {
        let mut book = book();
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
    fn a_regular_pipeline_that_stays_away_is_missed_until_it_is_given_up() {
        let mut book = book();
        (0..6).for_each(|n| run_of(&mut book, &format!("run-{n}"), n * 5 * MINUTE));
        book.tick(31 * MINUTE);
        assert!(missed(&book).is_empty());
        book.tick(33 * MINUTE);
        book.tick(34 * MINUTE);
        assert_eq!(missed(&book), [30 * MINUTE]);
        book.tick(500 * MINUTE);
        assert_eq!(missed(&book), [40 * MINUTE, 35 * MINUTE, 30 * MINUTE]);
        run_of(&mut book, "late", 36 * MINUTE);
        assert_eq!(
            missed(&book),
            [40 * MINUTE, 30 * MINUTE],
            "it came after all"
        );
    }

    #[test]
    fn a_declared_schedule_is_missed_also_by_a_pipeline_that_never_ran() {
        let schedule = |pipeline: &str| Schedule {
            pipeline: pipeline.to_owned(),
            every_ns: 10 * MINUTE,
            offset_ns: MINUTE,
            grace_ns: 2 * MINUTE,
        };
        let schedules = vec![schedule("etl"), schedule("never")];
        let mut book = RunBook::new(BookLimits::default(), schedules, 15 * MINUTE);
        run_of(&mut book, "r", 21 * MINUTE + 1);
        book.tick(22 * MINUTE);
        assert!(
            missed(&book).is_empty(),
            "nothing before the book was there"
        );
        book.tick(40 * MINUTE);
        let filter = RunFilter {
            pipeline: Some("never".into()),
            ..RunFilter::default()
        };
        let due: Vec<_> = book
            .list(&filter, 0, 9)
            .iter()
            .map(|run| run.queued)
            .collect();
        assert_eq!(due, [Some(31 * MINUTE), Some(21 * MINUTE)]);
        assert_eq!(missed(&book).len(), 3);
        book.tick(41 * MINUTE);
        assert_eq!(missed(&book).len(), 3, "each is told once");
    }

    #[test]
    fn a_full_book_lets_ended_runs_go_first() {
        let limits = BookLimits {
            runs_max: 3,
            ..BookLimits::default()
        };
        let mut book = RunBook::new(limits, Vec::new(), 0);
        book.complete_from(-MINUTE);
        assert_eq!(book.complete_since(), -MINUTE);
        let mut live = event("run.started", 0, None);
        live.fields.run_id = "live";
        book.apply(&live);
        (0..5).for_each(|n| run_of(&mut book, &format!("run-{n}"), n * 5 * MINUTE));
        assert_eq!(book.len(), 3);
        assert!(book.get("live").is_some() && book.get("run-0").is_none());
        assert_eq!(book.complete_since(), 14 * MINUTE + 1);
    }

    #[test]
    fn floods_of_runs_pipelines_and_stages_stay_in_bounds() {
        let limits = BookLimits {
            bytes_max: 1 << 20,
            ..BookLimits::default()
        };
        let mut book = RunBook::new(limits, Vec::new(), 0);
        let long = "p".repeat(400);
        for n in 0..3_000_i64 {
            let (id, pipeline) = (format!("run-{n}"), format!("{long}{n}"));
            for (name, stage) in [("stage.completed", Some(&*long)), ("run.completed", None)] {
                let mut seen = event(name, n, stage);
                (seen.fields.run_id, seen.fields.pipeline) = (&id, Some(pipeline.as_str()));
                seen.trace_id = [0; 16];
                seen.trace_id[..8].copy_from_slice(&n.to_le_bytes());
                book.apply(&seen);
            }
        }
        assert!(book.bytes() <= (1 << 20) + 4_096, "{}", book.bytes());
        assert!(book.get("run-2999").is_some());
        let count = book.len();
        assert!(count > 100, "{count}");
        assert!(book.by_trace.len() <= count && book.arrivals.len() <= count);
        assert_eq!(book.changes.len(), count);
        let runs: usize = book.runs.values().map(|kept| kept.run.bytes()).sum();
        assert_eq!(runs, book.run_bytes);
        let histories: usize = book.pipelines.values().map(PipelineHistory::bytes).sum();
        assert_eq!(histories, book.history_bytes);
    }

    #[test]
    fn followers_get_each_changed_run_once_and_as_it_is() {
        let mut book = book();
        run_of(&mut book, "a", 0);
        let seen = book.change();
        run_of(&mut book, "bb", MINUTE);
        run_of(&mut book, "ccc", 2 * MINUTE);
        let ids = |runs: Vec<&Run>| -> Vec<String> {
            runs.iter().map(|run| run.run_id.clone()).collect()
        };
        let (first, reached) = book.changed_since(seen, 1);
        assert_eq!(ids(first), ["bb"]);
        let (second, reached) = book.changed_since(reached, 5);
        assert_eq!(ids(second), ["ccc"]);
        assert_eq!(reached, book.change());
        assert!(book.changed_since(reached, 5).0.is_empty());
        let mut live = event("run.started", 10 * MINUTE, None);
        live.fields.run_id = "live";
        book.apply(&live);
        let reached = book.change();
        book.tick(11 * MINUTE);
        assert_eq!(book.change(), reached);
        book.tick(60 * MINUTE);
        book.tick(61 * MINUTE);
        assert_eq!(
            ids(book.changed_since(reached, 5).0)[0],
            "live",
            "it is lost"
        );
    }

    #[test]
    fn a_run_is_found_by_its_trace() {
        let mut book = book();
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
