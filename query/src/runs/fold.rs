//! One run, folded from what was seen of it in any order.

use super::names::{Observation, ObservedEvent, ObservedSpan, RunFields, Seen};

/// Stages kept of one run; more are passed over.
const STAGES_MAX: usize = 256;
/// Bytes kept of a name or an error.
const TEXT_BYTES_MAX: usize = 512;

/// Where a run or a stage stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum RunState {
    /// Scheduled, not begun.
    Queued,
    /// Under way.
    #[default]
    Running,
    /// Ended well.
    Succeeded,
    /// Ended with an error.
    Failed,
    /// Stopped on purpose.
    Cancelled,
    /// Silent for longer than is usual: nobody knows.
    Lost,
    /// Its schedule did not fire.
    Missed,
}

impl RunState {
    /// Lower-case name, as in the API.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Lost => "lost",
            Self::Missed => "missed",
        }
    }

    /// From its name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        [
            Self::Queued,
            Self::Running,
            Self::Succeeded,
            Self::Failed,
            Self::Cancelled,
            Self::Lost,
            Self::Missed,
        ]
        .into_iter()
        .find(|state| state.as_str() == name)
    }

    /// Whether nothing more is expected.
    #[must_use]
    pub fn is_final(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed | Self::Cancelled)
    }
}

/// What an event's name says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Turn {
    Queued,
    Started,
    Ended(RunState),
    /// Says that the run is alive, nothing else.
    Alive,
}

/// The last word of an event's name decides; orchestrators differ in the words before it.
fn turn_of(name: &str) -> Turn {
    let last = name.rsplit(['.', '_', '-', ' ', '/']).next().unwrap_or("");
    match last.to_ascii_lowercase().as_str() {
        "queued" | "scheduled" | "created" | "pending" | "submitted" => Turn::Queued,
        "started" | "start" | "begin" | "began" | "running" => Turn::Started,
        "completed" | "complete" | "succeeded" | "success" | "finished" | "done" | "end" => {
            Turn::Ended(RunState::Succeeded)
        }
        "failed" | "failure" | "error" | "errored" | "crashed" => Turn::Ended(RunState::Failed),
        "cancelled" | "canceled" | "aborted" | "killed" | "skipped" => {
            Turn::Ended(RunState::Cancelled)
        }
        _ => Turn::Alive,
    }
}

/// A step of a run.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Stage {
    /// Its name.
    pub name: String,
    /// Where it stands.
    pub state: RunState,
    /// When it began; `None` if only its end was seen.
    pub started: Option<i64>,
    /// When it ended.
    pub ended: Option<i64>,
    /// Its span, once that has ended.
    pub span_id: Option<[u8; 8]>,
    /// What went wrong.
    pub error: Option<String>,
    /// The latest turn that was seen: time, and how much it counts among turns of one moment.
    turn: Option<(i64, u8)>,
}

impl Stage {
    /// Nanoseconds, if both ends are known.
    #[must_use]
    pub fn duration(&self) -> Option<i64> {
        Some(self.ended?.saturating_sub(self.started?))
    }

    /// Notes a turn; whether it is the latest, which decides the state.
    fn is_latest(&mut self, time: i64, weight: u8) -> bool {
        let is_latest = self.turn.is_none_or(|latest| (time, weight) >= latest);
        if is_latest {
            self.turn = Some((time, weight));
        }
        is_latest
    }

    fn end(&mut self, state: RunState, time: i64, weight: u8, error: Option<&str>) {
        if self.is_latest(time, weight) {
            self.state = state;
            self.ended = Some(time);
            self.error = (state == RunState::Failed)
                .then(|| cut(error.filter(|e| !e.is_empty()).unwrap_or("failed")));
        }
    }
}

/// A run as it is known so far.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Run {
    /// The id that its source gave it.
    pub run_id: String,
    /// Its trace; zeros while none is known.
    pub trace_id: [u8; 16],
    /// The pipeline; empty while nobody said.
    pub pipeline: String,
    /// Where it stands by what was seen. Lost is judged by the book.
    pub state: RunState,
    /// When it was scheduled or queued.
    pub queued: Option<i64>,
    /// When it began.
    pub started: Option<i64>,
    /// When it ended.
    pub ended: Option<i64>,
    /// Milliseconds in the queue, as the source says or as the times tell.
    pub queue_ms: Option<f64>,
    /// Its stages in order of their start.
    pub stages: Vec<Stage>,
    /// The first error by time, and when.
    pub first_error: Option<(i64, String)>,
    /// Money: what the run itself said, else the sum of its parts.
    pub cost: Option<f64>,
    /// Tokens: likewise.
    pub tokens: Option<f64>,
    /// The latest time of anything seen.
    pub last_seen: i64,
    /// The root span, once it has ended.
    pub root_span_id: Option<[u8; 8]>,
    cost_of_parts: f64,
    tokens_of_parts: f64,
    said_cost: bool,
    said_tokens: bool,
    /// Parts that were added: a row that comes twice counts once.
    parts: Vec<u64>,
    /// When it was said last that the run begins. Ends before are those of earlier attempts.
    last_start: Option<i64>,
    /// Ends that were told, latest last.
    ends: Vec<(i64, RunState)>,
}

/// Ends of a run that are kept.
const ENDS_MAX: usize = 8;
/// Parts of a run that are told apart; the rest is added without looking.
const PARTS_MAX: usize = 512;

fn cut(text: &str) -> String {
    let mut end = text.len().min(TEXT_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].to_owned()
}

fn earlier(known: Option<i64>, time: i64) -> Option<i64> {
    Some(known.map_or(time, |known| known.min(time)))
}

fn later(known: Option<i64>, time: i64) -> Option<i64> {
    Some(known.map_or(time, |known| known.max(time)))
}

impl Run {
    /// A run of which nothing is known yet.
    #[must_use]
    pub fn new(run_id: &str) -> Self {
        Self {
            run_id: cut(run_id),
            last_seen: i64::MIN,
            ..Self::default()
        }
    }

    /// Takes in what was seen. The same thing seen twice, or in another order, changes nothing.
    pub fn apply(&mut self, seen: &Observation<'_>) {
        let fields = &seen.fields;
        if self.trace_id == [0; 16] {
            self.trace_id = seen.trace_id;
        }
        if let Some(pipeline) = fields.pipeline.filter(|_| self.pipeline.is_empty()) {
            self.pipeline = cut(pipeline);
        }
        if let Some(queue_ms) = fields.queue_ms {
            self.queue_ms = Some(queue_ms);
        }
        match &seen.what {
            Seen::Event(event) => self.event(event, fields),
            Seen::Span(span) => self.span(span, fields),
        }
        if self.queue_ms.is_none()
            && let (Some(queued), Some(started)) = (self.queued, self.started)
        {
            self.queue_ms = Some(started.saturating_sub(queued) as f64 / 1e6);
        }
    }

    fn see(&mut self, time: i64) {
        self.last_seen = self.last_seen.max(time);
    }

    fn event(&mut self, event: &ObservedEvent<'_>, fields: &RunFields<'_>) {
        self.see(event.time);
        let turn = turn_of(event.name);
        if let Some(name) = fields.stage {
            self.stage_event(name, turn, event, fields.error);
        } else {
            // What an ordinary record says of money is about itself, not about the run.
            if turn != Turn::Alive {
                self.spend_whole(fields);
            }
            match turn {
                Turn::Queued => self.queued = earlier(self.queued, event.time),
                Turn::Started => {
                    self.started = earlier(self.started, event.time);
                    self.last_start = later(self.last_start, event.time);
                }
                Turn::Ended(state) => self.note_end(state, event.time),
                Turn::Alive => {}
            }
        }
        if event.is_error || turn == Turn::Ended(RunState::Failed) {
            let words = [fields.error.unwrap_or(""), event.message, event.name];
            let words = words.into_iter().find(|words| !words.is_empty());
            self.blame(event.time, words.unwrap_or("failed"));
        }
        self.refresh();
    }

    fn span(&mut self, span: &ObservedSpan<'_>, fields: &RunFields<'_>) {
        self.see(span.end);
        let state = match span.error {
            Some(_) => RunState::Failed,
            None => RunState::Succeeded,
        };
        if span.is_root {
            self.root_span_id = Some(span.span_id);
            self.started = earlier(self.started, span.start);
            self.spend_whole(fields);
            self.note_end(state, span.end);
        } else {
            if let Some(name) = fields.stage {
                self.stage_span(name, state, span);
            }
            self.spend_part(u64::from_le_bytes(span.span_id), fields);
        }
        if let Some(error) = span.error {
            let words = [error, fields.error.unwrap_or(""), span.name];
            let words = words.into_iter().find(|words| !words.is_empty());
            self.blame(span.end, words.unwrap_or("failed"));
        }
        self.refresh();
    }

    fn note_end(&mut self, state: RunState, time: i64) {
        if self.ends.contains(&(time, state)) {
            return;
        }
        let place = self.ends.partition_point(|end| *end < (time, state));
        self.ends.insert(place, (time, state));
        if self.ends.len() > ENDS_MAX {
            self.ends.remove(0);
        }
    }

    fn stage_of(&mut self, name: &str) -> Option<&mut Stage> {
        let name = match name.len() > TEXT_BYTES_MAX {
            true => &cut(name),
            false => name,
        };
        let found = self.stages.iter().position(|stage| stage.name == name);
        if found.is_none() && self.stages.len() >= STAGES_MAX {
            return None;
        }
        let at = found.unwrap_or_else(|| {
            self.stages.push(Stage {
                name: name.to_owned(),
                ..Stage::default()
            });
            self.stages.len() - 1
        });
        self.stages.get_mut(at)
    }

    fn stage_event(
        &mut self,
        name: &str,
        turn: Turn,
        event: &ObservedEvent<'_>,
        error: Option<&str>,
    ) {
        // A record that mentions a stage does not make one.
        if turn == Turn::Alive {
            return;
        }
        let Some(stage) = self.stage_of(name) else {
            return;
        };
        let time = event.time;
        match turn {
            Turn::Queued => {
                if stage.is_latest(time, 0) {
                    stage.state = RunState::Queued;
                }
            }
            Turn::Started => {
                stage.started = earlier(stage.started, time);
                if stage.is_latest(time, 1) {
                    // Perhaps once more, after an attempt that failed.
                    stage.state = RunState::Running;
                    (stage.ended, stage.error) = (None, None);
                }
            }
            Turn::Ended(state) => {
                let words = error.unwrap_or(event.message);
                stage.end(state, time, 2, Some(words));
            }
            Turn::Alive => {}
        }
    }

    fn stage_span(&mut self, name: &str, state: RunState, span: &ObservedSpan<'_>) {
        let Some(stage) = self.stage_of(name) else {
            return;
        };
        stage.started = earlier(stage.started, span.start);
        stage.span_id = Some(span.span_id);
        stage.end(state, span.end, 3, span.error);
        self.started = earlier(self.started, span.start);
    }

    /// What the run says of itself replaces the sum of its parts.
    fn spend_whole(&mut self, fields: &RunFields<'_>) {
        if let Some(cost) = fields.cost {
            self.cost = Some(cost);
            self.said_cost = true;
        }
        if let Some(tokens) = fields.tokens {
            self.tokens = Some(tokens);
            self.said_tokens = true;
        }
    }

    fn spend_part(&mut self, part: u64, fields: &RunFields<'_>) {
        if fields.cost.is_none() && fields.tokens.is_none() {
            return;
        }
        match self.parts.binary_search(&part) {
            Ok(_) => return,
            Err(place) if self.parts.len() < PARTS_MAX => self.parts.insert(place, part),
            Err(_) => {}
        }
        if let Some(cost) = fields.cost {
            self.cost_of_parts += cost;
            if !self.said_cost {
                self.cost = Some(self.cost_of_parts);
            }
        }
        if let Some(tokens) = fields.tokens {
            self.tokens_of_parts += tokens;
            if !self.said_tokens {
                self.tokens = Some(self.tokens_of_parts);
            }
        }
    }

    fn blame(&mut self, time: i64, words: &str) {
        if self
            .first_error
            .as_ref()
            .is_none_or(|(known, _)| time < *known)
        {
            self.first_error = Some((time, cut(words)));
        }
    }

    /// Puts stages in order and says where the run stands: by its ends since it began last. A failure
    /// among them outlives a success, since roots of failed runs may end as if all were well.
    fn refresh(&mut self) {
        self.stages
            .sort_by_key(|stage| stage.started.or(stage.ended).unwrap_or(i64::MAX));
        let since = self.last_start.unwrap_or(i64::MIN);
        let ends = self.ends.iter().filter(|(time, _)| *time >= since);
        self.ended = ends.clone().map(|(time, _)| *time).max();
        let worst = ends
            .map(|(_, state)| *state)
            .max_by_key(|state| match state {
                RunState::Failed => 2,
                RunState::Cancelled => 1,
                _ => 0,
            });
        self.state = worst.unwrap_or_else(|| {
            let begun = self.started.is_some() || !self.stages.is_empty();
            match begun || self.queued.is_none() {
                true => RunState::Running,
                false => RunState::Queued,
            }
        });
    }

    /// The stage that is under way, else the last one that was.
    #[must_use]
    pub fn current_stage(&self) -> Option<&Stage> {
        let mut latest_first = self.stages.iter().rev();
        let running = latest_first.find(|stage| stage.state == RunState::Running);
        running.or(self.stages.last())
    }

    /// When it was queued, or began, or was seen.
    #[must_use]
    pub fn began(&self) -> i64 {
        self.started.or(self.queued).unwrap_or(self.last_seen)
    }

    /// Nanoseconds from start to end, or to `now` while it lives.
    #[must_use]
    pub fn duration(&self, now: i64) -> Option<i64> {
        let end = self.ended.unwrap_or(now);
        Some(end.saturating_sub(self.started?).max(0))
    }

    /// About how many bytes of memory it takes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let stages: usize = self
            .stages
            .iter()
            .map(|s| s.name.len() + s.error.as_ref().map_or(0, String::len))
            .sum();
        let error = self
            .first_error
            .as_ref()
            .map_or(0, |(_, words)| words.len());
        let lists = self.stages.capacity() * size_of::<Stage>() + self.parts.capacity() * 8;
        // The id stands in the book's lists as well.
        size_of::<Self>() + 4 * self.run_id.len() + self.pipeline.len() + error + stages + lists
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn event<'a>(name: &'a str, time: i64, stage: Option<&'a str>) -> Observation<'a> {
        Observation {
            fields: RunFields {
                run_id: "r1",
                pipeline: Some("etl"),
                stage,
                ..RunFields::default()
            },
            trace_id: [1; 16],
            what: Seen::Event(ObservedEvent {
                name,
                time,
                is_error: false,
                message: "",
            }),
        }
    }

    fn span<'a>(
        id: u8,
        is_root: bool,
        from: i64,
        to: i64,
        stage: Option<&'a str>,
    ) -> Observation<'a> {
        Observation {
            what: Seen::Span(ObservedSpan {
                span_id: [id; 8],
                is_root,
                name: "work",
                start: from,
                end: to,
                error: None,
            }),
            ..event("", 0, stage)
        }
    }

    #[test]
    fn any_order_of_arrival_tells_the_same_story() {
        let all = [
            event("run.queued", 0, None),
            event("run.started", 10, None),
            event("stage.started", 10, Some("extract")),
            event("stage.completed", 20, Some("extract")),
            span(2, false, 10, 20, Some("extract")),
            event("stage.started", 20, Some("load")),
            span(3, false, 20, 40, Some("load")),
            span(1, true, 10, 40, None),
            event("run.completed", 40, None),
        ];
        let fold = |order: &[usize]| {
            let mut run = Run::new("r1");
            order.iter().for_each(|at| run.apply(&all[*at]));
            run
        };
        let forward: Vec<usize> = (0..all.len()).collect();
        let backward: Vec<usize> = (0..all.len()).rev().collect();
        let mut mixed = forward.clone();
        mixed.rotate_left(4);
        let run = fold(&forward);
        assert_eq!(run.state, RunState::Succeeded);
        assert_eq!(
            (run.queued, run.started, run.ended),
            (Some(0), Some(10), Some(40))
        );
        let names: Vec<&str> = run.stages.iter().map(|stage| stage.name.as_str()).collect();
        assert_eq!(names, ["extract", "load"]);
        assert_eq!(fold(&backward), run);
        assert_eq!(fold(&mixed), run);
    }

    #[test]
    fn a_run_without_its_root_is_under_way() {
        let mut run = Run::new("r1");
        run.apply(&span(2, false, 10, 20, Some("extract")));
        assert_eq!(run.state, RunState::Running);
        assert_eq!(run.started, Some(10));
        let mut queued = Run::new("r1");
        queued.apply(&event("run.queued", 5, None));
        assert_eq!(queued.state, RunState::Queued);
    }

    #[test]
    fn the_first_error_by_time_is_kept() {
        let failing = |time, words| {
            let mut seen = event("stage.failed", time, Some("load"));
            seen.fields.error = Some(words);
            seen
        };
        let mut run = Run::new("r1");
        run.apply(&failing(30, "second"));
        run.apply(&failing(20, "first"));
        run.apply(&event("run.failed", 40, None));
        assert_eq!(run.first_error, Some((20, "first".to_owned())));
        assert_eq!(run.state, RunState::Failed);
    }

    #[test]
    fn what_a_run_says_of_its_cost_replaces_the_sum() {
        let mut part = span(4, false, 1, 2, None);
        part.fields.cost = Some(1.5);
        part.fields.tokens = Some(100.0);
        let mut run = Run::new("r1");
        run.apply(&part);
        run.apply(&part);
        assert_eq!(run.cost, Some(1.5), "a span that comes twice is one");
        let mut other = span(5, false, 2, 3, None);
        other.fields = part.fields;
        run.apply(&other);
        assert_eq!((run.cost, run.tokens), (Some(3.0), Some(200.0)));
        let mut whole = span(1, true, 0, 9, None);
        whole.fields.cost = Some(3.25);
        run.apply(&whole);
        let mut late = span(6, false, 2, 3, None);
        late.fields = part.fields;
        run.apply(&late);
        assert_eq!((run.cost, run.tokens), (Some(3.25), Some(300.0)));
    }

    #[test]
    fn an_attempt_after_a_failure_is_what_counts() {
        let all = [
            event("run.started", 0, None),
            event("stage.started", 1, Some("load")),
            event("stage.failed", 5, Some("load")),
            event("run.failed", 6, None),
            event("run.started", 10, None),
            event("stage.started", 11, Some("load")),
            event("stage.completed", 15, Some("load")),
            event("run.completed", 16, None),
        ];
        let mut run = Run::new("r1");
        all[..4].iter().for_each(|seen| run.apply(seen));
        assert_eq!(run.state, RunState::Failed);
        all[4..6].iter().for_each(|seen| run.apply(seen));
        assert_eq!((run.state, run.ended), (RunState::Running, None));
        assert_eq!(run.stages[0].state, RunState::Running);
        all[6..].iter().for_each(|seen| run.apply(seen));
        assert_eq!((run.state, run.ended), (RunState::Succeeded, Some(16)));
        assert_eq!((run.stages[0].error.as_ref(), run.started), (None, Some(0)));
        let mut backward = Run::new("r1");
        all.iter().rev().for_each(|seen| backward.apply(seen));
        assert_eq!(backward.state, run.state);
        assert_eq!(backward.stages, run.stages);
    }

    #[test]
    fn ordinary_records_say_only_that_a_run_lives() {
        let mut run = Run::new("r1");
        let mut line = event("", 7, Some("extract"));
        run.apply(&line);
        assert!(run.stages.is_empty());
        assert_eq!((run.state, run.last_seen), (RunState::Running, 7));
        let Seen::Event(record) = &mut line.what else {
            return;
        };
        (record.is_error, record.message) = (true, "disk full");
        run.apply(&line);
        assert_eq!(run.first_error, Some((7, "disk full".to_owned())));
        assert_eq!(run.state, RunState::Running);
    }

    #[test]
    fn floods_of_stages_and_ends_stay_bounded() {
        let mut run = Run::new(&"x".repeat(5_000));
        for n in 0..5_000_i64 {
            let name = format!("{n}{}", "s".repeat(2_000));
            run.apply(&event("stage.started", n, Some(&name)));
            run.apply(&event("run.failed", n, None));
            let mut part = span(0, false, 0, 1, None);
            if let Seen::Span(span) = &mut part.what {
                span.span_id = n.to_le_bytes();
            }
            part.fields.cost = Some(1.0);
            run.apply(&part);
        }
        assert_eq!(run.stages.len(), STAGES_MAX);
        assert!(run.bytes() < 2 << 20, "{}", run.bytes());
        assert_eq!(run.cost, Some(5_000.0));
    }
}
