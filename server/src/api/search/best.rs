//! The first few of many in some order, without holding the many.

use std::cmp::Ordering;
use std::collections::BTreeSet;

use chronolith_engine::model::Metadata;

/// What comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    /// By name.
    Ascending,
    /// By name, backwards.
    Descending,
    /// The highest score; by name among equals.
    Score,
}

/// A match.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Found {
    /// What was found.
    pub(super) name: String,
    /// How well it matches, 0 to 1.
    pub(super) score: f64,
    /// What is known of it, if that was asked for.
    pub(super) metadata: Option<Metadata>,
}

struct Ranked {
    order: Order,
    name: String,
    score: f64,
}

impl Ord for Ranked {
    fn cmp(&self, other: &Self) -> Ordering {
        match self.order {
            Order::Ascending => self.name.cmp(&other.name),
            Order::Descending => other.name.cmp(&self.name),
            Order::Score => {
                let by_score = other.score.total_cmp(&self.score);
                by_score.then_with(|| self.name.cmp(&other.name))
            }
        }
    }
}

impl PartialOrd for Ranked {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Ranked {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Ranked {}

/// Keeps the first `count` of what it is offered. The same name counts once: it has the same score
/// each time.
pub(super) struct Best {
    order: Order,
    count: usize,
    kept: BTreeSet<Ranked>,
}

impl Best {
    pub(super) fn new(order: Order, count: usize) -> Self {
        Self {
            order,
            count,
            kept: BTreeSet::new(),
        }
    }

    /// Takes a match if it belongs to the first.
    pub(super) fn offer(&mut self, name: &str, score: f64) {
        if self.kept.len() >= self.count && !self.beats_last(name, score) {
            return;
        }
        self.kept.insert(Ranked {
            order: self.order,
            name: name.to_owned(),
            score,
        });
        if self.kept.len() > self.count {
            self.kept.pop_last();
        }
    }

    /// Whether a match comes before the last one kept; nothing is allocated for those that do not.
    fn beats_last(&self, name: &str, score: f64) -> bool {
        let Some(last) = self.kept.last() else {
            return false;
        };
        match self.order {
            Order::Ascending => name < last.name.as_str(),
            Order::Descending => name > last.name.as_str(),
            Order::Score => {
                let by_score = last.score.total_cmp(&score);
                by_score.then_with(|| name.cmp(&last.name)) == Ordering::Less
            }
        }
    }

    /// The matches in their order.
    pub(super) fn into_sorted(self) -> Vec<Found> {
        let found = self.kept.into_iter().map(|ranked| Found {
            name: ranked.name,
            score: ranked.score,
            metadata: None,
        });
        found.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_of_each_order_are_kept_once() {
        let offered = [("c", 0.5), ("a", 0.2), ("d", 0.9), ("b", 0.5), ("c", 0.5)];
        for (order, expected) in [
            (Order::Ascending, "abc"),
            (Order::Descending, "dcb"),
            (Order::Score, "dbc"),
        ] {
            let mut best = Best::new(order, 3);
            for (name, score) in offered {
                best.offer(name, score);
            }
            let names: String = best.into_sorted().into_iter().map(|f| f.name).collect();
            assert_eq!(names, expected, "{order:?}");
        }
    }
}
