//! Exemplars of one generation of the head, by slot of their series, in order of arrival.

use std::collections::BTreeMap;

use crate::model::{Exemplar, TimeRange};

/// The exemplars of all tenants in one generation.
#[derive(Debug, Default)]
pub(crate) struct Exemplars {
    by_slot: BTreeMap<u32, Vec<Exemplar>>,
    count: usize,
}

impl Exemplars {
    /// Adds an exemplar unless it repeats the newest one of its series (scrapers repeat it until
    /// another takes its place) or the generation holds `count_max` already.
    pub(crate) fn push(&mut self, slot: u32, exemplar: Exemplar, count_max: usize) {
        let known = self.by_slot.entry(slot).or_default();
        if known.last() != Some(&exemplar) && self.count < count_max {
            known.push(exemplar);
            self.count += 1;
        }
    }

    /// The exemplars of a series in a range.
    pub(crate) fn read(&self, slot: u32, range: TimeRange) -> Vec<Exemplar> {
        let all = self.by_slot.get(&slot).map_or(&[][..], Vec::as_slice);
        all.iter()
            .filter(|e| range.contains(e.time))
            .cloned()
            .collect()
    }

    /// Whether a series has exemplars.
    pub(crate) fn has(&self, slot: u32) -> bool {
        self.by_slot.get(&slot).is_some_and(|all| !all.is_empty())
    }

    /// Slots of the series that have exemplars, ascending.
    pub(crate) fn slots(&self) -> impl Iterator<Item = u32> {
        self.by_slot
            .iter()
            .filter(|(_, all)| !all.is_empty())
            .map(|(slot, _)| *slot)
    }

    /// Forgets the exemplars of a series in a range.
    pub(crate) fn remove(&mut self, slot: u32, range: TimeRange) {
        if let Some(all) = self.by_slot.get_mut(&slot) {
            let before = all.len();
            all.retain(|e| !range.contains(e.time));
            self.count -= before - all.len();
        }
    }

    /// How many are held.
    pub(crate) fn len(&self) -> usize {
        self.count
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Labels, TimestampNs};

    #[test]
    fn repeats_are_left_out_and_the_count_is_bounded() {
        let exemplar = |time| Exemplar {
            labels: Labels::empty(),
            value: 1.0,
            time: TimestampNs(time),
        };
        let mut exemplars = Exemplars::default();
        for time in [1, 1, 2, 3] {
            exemplars.push(7, exemplar(time), 2);
        }
        assert_eq!(
            exemplars.read(7, TimeRange::ALL),
            [exemplar(1), exemplar(2)]
        );
        exemplars.remove(7, TimeRange::new(2, 3));
        assert_eq!((exemplars.len(), exemplars.slots().count()), (1, 1));
    }
}
