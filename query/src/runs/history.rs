//! What is usual for a pipeline: durations of its runs and stages, and how often it runs.

use std::collections::{HashMap, VecDeque};

use super::fold::{Run, RunState};

/// Values that "usual" looks back over.
const KEPT: usize = 64;
/// Stages of one pipeline of which a history is kept.
const STAGES_KEPT: usize = 64;
/// Fewer intervals than this make no schedule.
const SCHEDULE_MIN: usize = 5;

/// The last values of something.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Usual {
    values: VecDeque<i64>,
}

impl Usual {
    /// Adds the newest value.
    pub fn push(&mut self, value: i64) {
        if self.values.len() == KEPT {
            self.values.pop_front();
        }
        self.values.push_back(value);
    }

    /// How many values there are, at most 64.
    #[must_use]
    pub fn count(&self) -> usize {
        self.values.len()
    }

    /// The value below which a share of them lies (nearest rank); `None` without values.
    #[must_use]
    pub fn quantile(&self, share: f64) -> Option<i64> {
        let mut sorted: Vec<i64> = self.values.iter().copied().collect();
        sorted.sort_unstable();
        let last = sorted.len().checked_sub(1)?;
        sorted.get((last as f64 * share).round() as usize).copied()
    }

    /// The middle value.
    #[must_use]
    pub fn median(&self) -> Option<i64> {
        self.quantile(0.5)
    }
}

/// What is usual for one pipeline.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PipelineHistory {
    /// Durations of succeeded runs in nanoseconds.
    pub durations: Usual,
    /// Durations of succeeded stages by name.
    pub stages: HashMap<String, Usual>,
    /// Order of the stages in the newest succeeded run.
    pub order: Vec<String>,
    /// When the last runs were scheduled (or began, where nobody queues), ascending.
    schedules: VecDeque<i64>,
    /// When the newest run began whose stages are in `order`.
    order_of: Option<i64>,
}

impl PipelineHistory {
    /// Notes that a run was scheduled (or began), in any order.
    pub fn note_schedule(&mut self, time: i64) {
        let place = self.schedules.partition_point(|known| *known <= time);
        self.schedules.insert(place, time);
        if self.schedules.len() > KEPT {
            self.schedules.pop_front();
        }
    }

    /// When the newest run was scheduled.
    #[must_use]
    pub fn last_schedule(&self) -> Option<i64> {
        self.schedules.back().copied()
    }

    /// Whether a run was scheduled in a range of times, both ends included.
    #[must_use]
    pub fn has_schedule(&self, from: i64, to: i64) -> bool {
        let first = self.schedules.partition_point(|known| *known < from);
        self.schedules.get(first).is_some_and(|time| *time <= to)
    }

    /// About how many bytes of memory it takes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let names: usize = self.order.iter().map(|name| 2 * name.len() + 24).sum();
        let values = |usual: &Usual| size_of::<Usual>() + 8 * usual.values.capacity();
        let stages: usize = self.stages.values().map(|usual| 32 + values(usual)).sum();
        size_of::<Self>() + names + stages + values(&self.durations) + 8 * self.schedules.capacity()
    }

    /// Takes in a run that has ended.
    pub fn note_end(&mut self, run: &Run) {
        if run.state != RunState::Succeeded {
            return;
        }
        if let Some(duration) = run.ended.and_then(|ended| run.duration(ended)) {
            self.durations.push(duration);
        }
        let stages = run.stages.get(..STAGES_KEPT).unwrap_or(&run.stages);
        for stage in stages {
            if let Some(duration) = stage.duration().filter(|_| stage.error.is_none()) {
                self.stages
                    .entry(stage.name.clone())
                    .or_default()
                    .push(duration);
            }
        }
        if self.order_of <= run.started {
            self.order_of = run.started;
            self.order = stages.iter().map(|stage| stage.name.clone()).collect();
        }
        let order = &self.order;
        self.stages.retain(|name, _| order.contains(name));
    }

    /// Nanoseconds between two runs, if they come at regular times: half of the intervals lie within a
    /// quarter of the median.
    #[must_use]
    pub fn period(&self) -> Option<i64> {
        let mut intervals = Usual::default();
        for (earlier, later) in self.schedules.iter().zip(self.schedules.iter().skip(1)) {
            intervals.push(later.saturating_sub(*earlier));
        }
        let median = intervals.median().filter(|median| *median > 0)?;
        let (low, high) = (intervals.quantile(0.25)?, intervals.quantile(0.75)?);
        let regular = intervals.count() >= SCHEDULE_MIN && high.saturating_sub(low) <= median / 4;
        regular.then_some(median)
    }

    /// How far a run has come, 0 to 1: usual time of what is done, and of what is under way what has
    /// passed (at most 95 % of the usual). `None` without a history.
    #[must_use]
    pub fn progress(&self, run: &Run, now: i64) -> Option<f64> {
        if run.state == RunState::Succeeded {
            return Some(1.0);
        }
        let usual = |name: &str| {
            self.stages
                .get(name)
                .and_then(Usual::median)
                .unwrap_or(0)
                .max(1)
        };
        let total = self.order.iter().map(|name| usual(name));
        let total = total.fold(0_i64, i64::saturating_add);
        if self.order.is_empty() || total <= 0 {
            let usual = self.durations.median().filter(|usual| *usual > 0)?;
            return Some((run.duration(now)? as f64 / usual as f64).min(0.95));
        }
        let done: f64 = run
            .stages
            .iter()
            .filter(|stage| self.stages.contains_key(&stage.name))
            .map(|stage| {
                let usual = usual(&stage.name) as f64;
                match (stage.state, stage.started) {
                    (RunState::Succeeded, _) => usual,
                    (RunState::Running, Some(started)) => {
                        let passed = now.saturating_sub(started).max(0) as f64;
                        passed.min(0.95 * usual)
                    }
                    _ => 0.0,
                }
            })
            .sum();
        Some((done / total as f64).clamp(0.0, 0.99))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn regular_runs_have_a_period_and_irregular_ones_have_none() {
        let mut regular = PipelineHistory::default();
        (0..8).for_each(|n| regular.note_schedule(n * 300 + n % 2));
        assert_eq!(regular.period(), Some(301));
        let mut wild = PipelineHistory::default();
        for time in [0, 10, 500, 505, 2_000, 2_001, 9_000] {
            wild.note_schedule(time);
        }
        assert_eq!(wild.period(), None);
    }

    #[test]
    fn quantiles_are_of_the_last_values() {
        let mut usual = Usual::default();
        assert_eq!(usual.median(), None);
        (0..200).for_each(|value| usual.push(value));
        assert_eq!(usual.count(), KEPT);
        assert_eq!(usual.quantile(0.0), Some(136));
        assert_eq!(usual.quantile(1.0), Some(199));
    }
}
