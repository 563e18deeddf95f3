//! Series in the order of their labels, for writing them into a segment.
//!
//! Label sets are compared many times and then written once, so the pairs are ranked first: all texts
//! that occur are copied (each once) and sorted, and a series becomes its ranks, which compare as its
//! labels do. No lock is held afterwards, and no label set is made before its turn.

use super::postings::PairId;
use super::series_table::{Owner, SeriesTable};
use crate::model::{Labels, SeriesRef};

/// Texts that are copied under one lock.
const PAIRS_PER_LOCK: usize = 512;
/// Stands for a pair that does not occur.
const UNUSED: u32 = u32::MAX;

/// A pair's text: number of its name, and where its value lies.
struct PairText {
    name: u32,
    value: std::ops::Range<usize>,
}

/// Series of one tenant, sorted.
pub(crate) struct SortedSeries {
    names: Vec<String>,
    values: String,
    /// By rank.
    pairs: Vec<PairText>,
    /// Ranks of all series, one after the other.
    ranks: Vec<u32>,
    /// Each series and its place in `ranks`; of equal label sets the slot that was given out later last.
    series: Vec<(SeriesRef, std::ops::Range<u32>)>,
}

impl SortedSeries {
    /// Sorts series, none of which is freed meanwhile.
    pub(crate) fn new(table: &SeriesTable, owner: Owner<'_>, series: &[SeriesRef]) -> Self {
        let mut sorted = Self {
            names: Vec::new(),
            values: String::new(),
            pairs: Vec::new(),
            ranks: Vec::with_capacity(series.len() * 8),
            series: Vec::with_capacity(series.len()),
        };
        table.for_pairs(series, |series, pairs| {
            let start = sorted.ranks.len() as u32;
            sorted.ranks.extend_from_slice(pairs);
            sorted
                .series
                .push((series, start..sorted.ranks.len() as u32));
        });
        let rank_of = sorted.rank_pairs(owner);
        for pair in &mut sorted.ranks {
            *pair = rank_of[*pair as usize];
        }
        let Self { ranks, series, .. } = &mut sorted;
        let ranks_at = |at: &std::ops::Range<u32>| &ranks[at.start as usize..at.end as usize];
        series.sort_unstable_by(|a, b| ranks_at(&a.1).cmp(ranks_at(&b.1)).then(a.0.cmp(&b.0)));
        sorted
    }

    /// Copies the texts of all pairs that occur, sorts them and answers the rank of each.
    fn rank_pairs(&mut self, owner: Owner<'_>) -> Vec<u32> {
        let end = self.ranks.iter().max().map_or(0, |max| *max as usize + 1);
        let mut rank_of = vec![UNUSED; end];
        for pair in &self.ranks {
            rank_of[*pair as usize] = 0;
        }
        let used = (0..).zip(&rank_of).filter(|(_, mark)| **mark != UNUSED);
        let used: Vec<PairId> = used.map(|(pair, _)| pair).collect();
        // Numbers of names in the index are few and dense.
        let mut name_of: Vec<Option<u32>> = Vec::new();
        for batch in used.chunks(PAIRS_PER_LOCK) {
            let index = owner.postings.read();
            for pair in batch {
                let (number, name, value) = index.pair(*pair);
                let at = number as usize;
                name_of.resize(name_of.len().max(at + 1), None);
                let name = *name_of[at].get_or_insert_with(|| {
                    self.names.push(name.to_owned());
                    self.names.len() as u32 - 1
                });
                let start = self.values.len();
                self.values.push_str(value);
                let value = start..self.values.len();
                self.pairs.push(PairText { name, value });
            }
        }
        let text = |at: u32| {
            let pair = &self.pairs[at as usize];
            (
                self.names[pair.name as usize].as_str(),
                &self.values[pair.value.clone()],
            )
        };
        let mut order: Vec<u32> = (0..used.len() as u32).collect();
        order.sort_unstable_by(|a, b| text(*a).cmp(&text(*b)));
        for (rank, at) in (0..).zip(&order) {
            rank_of[used[*at as usize] as usize] = rank;
        }
        let mut pairs: Vec<_> = std::mem::take(&mut self.pairs)
            .into_iter()
            .map(Some)
            .collect();
        let ordered = order.iter().filter_map(|at| pairs[*at as usize].take());
        self.pairs = ordered.collect();
        rank_of
    }

    fn ranks_of(&self, series: &(SeriesRef, std::ops::Range<u32>)) -> &[u32] {
        &self.ranks[series.1.start as usize..series.1.end as usize]
    }

    fn labels(&self, ranks: &[u32]) -> Labels {
        let texts = ranks.iter().map(|rank| {
            let pair = &self.pairs[*rank as usize];
            let value = &self.values[pair.value.clone()];
            (self.names[pair.name as usize].as_str(), value)
        });
        Labels::from_sorted(&texts.collect::<smallvec::SmallVec<[_; 16]>>())
    }

    /// Label sets in ascending order, with the series that bear each.
    pub(crate) fn groups(
        &self,
    ) -> impl Iterator<Item = (Labels, impl Iterator<Item = SeriesRef> + '_)> {
        let groups = self
            .series
            .chunk_by(|a, b| self.ranks_of(a) == self.ranks_of(b));
        groups.map(|group| {
            let labels = self.labels(self.ranks_of(&group[0]));
            (labels, group.iter().map(|(series, _)| *series))
        })
    }
}

#[cfg(test)]
mod tests {
    use parking_lot::RwLock;

    use super::*;

    #[test]
    fn series_come_in_the_order_of_their_labels() {
        let (table, index) = (SeriesTable::new(1), RwLock::default());
        let owner = Owner {
            index: 0,
            postings: &index,
        };
        let mut sets: Vec<Labels> = (0..500)
            .map(|i| {
                let mut pairs = vec![("b", format!("{}", i % 7)), ("a", format!("{}", i % 11))];
                if i % 3 == 0 {
                    pairs.push(("aa", format!("{i}")));
                }
                pairs.push(if i % 5 == 0 {
                    ("c", "x".into())
                } else {
                    ("z", format!("{i}"))
                });
                Labels::from_pairs(pairs).unwrap()
            })
            .collect();
        let insert = |set: &Labels| table.find_or_insert::<()>(owner, set, || Ok(())).unwrap();
        let mut series: Vec<_> = sets.iter().map(insert).collect();
        // An evicted series and its successor with the same labels.
        table.hide(&series[..1]);
        series.push(insert(&sets[0]));
        series.sort_unstable();
        series.dedup();
        let sorted = SortedSeries::new(&table, owner, &series);
        let groups: Vec<(Labels, usize)> = sorted
            .groups()
            .map(|(labels, series)| (labels, series.count()))
            .collect();
        sets.sort();
        sets.dedup();
        let found: Vec<_> = groups.iter().map(|(labels, _)| labels.clone()).collect();
        assert_eq!(found, sets);
        assert_eq!(groups.iter().filter(|(_, count)| *count == 2).count(), 1);
        assert!(
            SortedSeries::new(&table, owner, &[])
                .groups()
                .next()
                .is_none()
        );
    }
}
