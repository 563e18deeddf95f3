//! The newest exemplars of one tenant: a ring, the oldest give way.

use std::collections::{BTreeMap, VecDeque};

use hashbrown::HashMap;

use crate::index::Matcher;
use crate::model::{Exemplar, Labels, TimeRange};

/// Exemplars in order of arrival.
#[derive(Debug, Default)]
pub(crate) struct ExemplarRing {
    ring: VecDeque<(Labels, Exemplar)>,
    /// The newest exemplar per series: scrapers repeat it until another takes its place.
    newest: HashMap<Labels, Exemplar>,
}

impl ExemplarRing {
    /// Adds an exemplar unless it repeats the newest one of its series; says whether it did.
    pub(crate) fn push(&mut self, series: &Labels, exemplar: Exemplar, count_max: usize) -> bool {
        if count_max == 0 || self.newest.get(series) == Some(&exemplar) {
            return false;
        }
        while self.ring.len() >= count_max {
            if let Some((labels, gone)) = self.ring.pop_front() {
                if self.newest.get(&labels) == Some(&gone) {
                    self.newest.remove(&labels);
                }
            }
        }
        self.newest.insert(series.clone(), exemplar.clone());
        self.ring.push_back((series.clone(), exemplar));
        true
    }

    /// Exemplars of matching series in the range, by series, oldest first.
    pub(crate) fn select(
        &self,
        matchers: &[Matcher],
        range: TimeRange,
    ) -> Vec<(Labels, Vec<Exemplar>)> {
        let mut found: BTreeMap<&Labels, Vec<Exemplar>> = BTreeMap::new();
        for (labels, exemplar) in &self.ring {
            if range.contains(exemplar.time) && matchers.iter().all(|m| m.matches_labels(labels)) {
                found.entry(labels).or_default().push(exemplar.clone());
            }
        }
        let sorted = found.into_iter().map(|(labels, mut exemplars)| {
            exemplars.sort_by_key(|e| e.time);
            (labels.clone(), exemplars)
        });
        sorted.collect()
    }

    /// Forgets the exemplars of matching series in the range.
    pub(crate) fn remove(&mut self, matchers: &[Matcher], range: TimeRange) {
        let doomed = |labels: &Labels, exemplar: &Exemplar| {
            range.contains(exemplar.time) && matchers.iter().all(|m| m.matches_labels(labels))
        };
        self.ring
            .retain(|(labels, exemplar)| !doomed(labels, exemplar));
        self.newest
            .retain(|labels, exemplar| !doomed(labels, exemplar));
    }

    /// All exemplars in order of arrival.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &(Labels, Exemplar)> {
        self.ring.iter()
    }

    /// How many are held.
    pub(crate) fn len(&self) -> usize {
        self.ring.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::TimestampNs;

    #[test]
    fn repeats_are_left_out_and_the_oldest_give_way() {
        let series = Labels::from_pairs([("__name__", "m")]).unwrap();
        let exemplar = |time| Exemplar {
            labels: Labels::empty(),
            value: 1.0,
            time: TimestampNs(time),
        };
        let mut ring = ExemplarRing::default();
        for time in [1, 1, 2, 3, 3] {
            ring.push(&series, exemplar(time), 2);
        }
        let found = ring.select(&[], TimeRange::ALL);
        assert_eq!(found, [(series, vec![exemplar(2), exemplar(3)])]);
        ring.remove(&[], TimeRange::new(3, 3));
        assert_eq!(ring.len(), 1);
    }
}
