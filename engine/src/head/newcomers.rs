//! The series that a tenant made or wanted last: what explodes is found among them, not among all
//! series, most of which may be old and good.

use std::collections::VecDeque;

use hashbrown::{HashMap, HashSet};

use crate::model::{Labels, METRIC_NAME};

/// Newcomers that are remembered.
const KEPT_MAX: usize = 1024;
/// Newcomers after which the answer is worked out anew: a flood is refused cheaply.
const ANSWER_LASTS: u64 = 256;

/// The label with the most distinct values among newcomers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct WidestLabel {
    pub(crate) name: String,
    pub(crate) values: usize,
    /// Newcomers that were looked at.
    pub(crate) series: usize,
}

/// The label sets of the last newcomers of one tenant.
#[derive(Debug, Default)]
pub(crate) struct Newcomers {
    last: VecDeque<Labels>,
    count: u64,
    answer: Option<(u64, WidestLabel)>,
}

impl Newcomers {
    pub(crate) fn push(&mut self, labels: &Labels) {
        if self.last.len() == KEPT_MAX {
            self.last.pop_front();
        }
        self.last.push_back(labels.clone());
        self.count += 1;
    }

    /// The label with the most values; the metric name only when no other has as many.
    pub(crate) fn widest_label(&mut self) -> WidestLabel {
        match &self.answer {
            Some((at, answer)) if self.count - at < ANSWER_LASTS => answer.clone(),
            _ => {
                let answer = self.find_widest();
                self.answer = Some((self.count, answer.clone()));
                answer
            }
        }
    }

    fn find_widest(&self) -> WidestLabel {
        let mut values: HashMap<&str, HashSet<&str>> = HashMap::new();
        for label in self.last.iter().flatten() {
            values.entry(label.name).or_default().insert(label.value);
        }
        let rank = |name: &str, count: usize| (count, name != METRIC_NAME);
        let widest = values
            .iter()
            .map(|(name, values)| (*name, values.len()))
            .max_by(|a, b| rank(a.0, a.1).cmp(&rank(b.0, b.1)).then(b.0.cmp(a.0)));
        let (name, count) = widest.unwrap_or_default();
        WidestLabel {
            name: name.to_owned(),
            values: count,
            series: self.last.len(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_label_that_grows_now_is_named_not_the_one_that_always_was_large() {
        let mut newcomers = Newcomers::default();
        let labels = |host: usize, id: usize| {
            let pairs = [
                ("__name__", "m".to_owned()),
                ("host", format!("h{host}")),
                ("id", format!("{id}")),
            ];
            Labels::from_pairs(pairs).unwrap()
        };
        for host in 0..5000 {
            newcomers.push(&labels(host, 0));
        }
        assert_eq!(newcomers.widest_label().name, "host");
        for id in 0..2000 {
            newcomers.push(&labels(7, id));
        }
        let widest = newcomers.widest_label();
        assert_eq!((&*widest.name, widest.values), ("id", KEPT_MAX));
    }
}
