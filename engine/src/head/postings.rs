//! Which series of a tenant carry which label: name -> value -> slots.
//!
//! Most pairs of a high-cardinality label belong to one or a few series, so a list starts as a few
//! inline integers and becomes a roaring bitmap when it grows.

use hashbrown::HashMap;
use roaring::RoaringBitmap;
use smallvec::SmallVec;

use crate::index::Matcher;
use crate::model::Labels;

/// Above this many slots a list is a bitmap.
const FEW_MAX: usize = 32;

/// The slots that carry one label pair.
#[derive(Debug)]
enum PostingList {
    Few(SmallVec<[u32; 4]>),
    Many(RoaringBitmap),
}

impl PostingList {
    fn insert(&mut self, slot: u32) {
        match self {
            Self::Few(slots) if slots.len() < FEW_MAX => slots.push(slot),
            Self::Few(slots) => {
                let mut bitmap: RoaringBitmap = slots.iter().copied().collect();
                bitmap.insert(slot);
                *self = Self::Many(bitmap);
            }
            Self::Many(bitmap) => {
                bitmap.insert(slot);
            }
        }
    }

    /// Removes a slot and says whether the list is empty now.
    fn remove(&mut self, slot: u32) -> bool {
        match self {
            Self::Few(slots) => {
                slots.retain(|s| *s != slot);
                slots.is_empty()
            }
            Self::Many(bitmap) => {
                bitmap.remove(slot);
                bitmap.is_empty()
            }
        }
    }

    fn len(&self) -> u64 {
        match self {
            Self::Few(slots) => slots.len() as u64,
            Self::Many(bitmap) => bitmap.len(),
        }
    }

    fn add_to(&self, target: &mut RoaringBitmap) {
        match self {
            Self::Few(slots) => target.extend(slots.iter().copied()),
            Self::Many(bitmap) => *target |= bitmap,
        }
    }
}

/// Values of one label name.
type Values = HashMap<Box<str>, PostingList>;

/// The index over the series of one tenant.
#[derive(Debug, Default)]
pub(crate) struct PostingIndex {
    all: RoaringBitmap,
    names: HashMap<Box<str>, Values>,
    bytes: usize,
}

/// What a new pair costs besides its text: table slot, list, string header.
const PAIR_BYTES: usize = 72;

impl PostingIndex {
    /// Adds a series.
    pub(crate) fn insert(&mut self, slot: u32, labels: &Labels) {
        self.all.insert(slot);
        for label in labels {
            let values = match self.names.get_mut(label.name) {
                Some(values) => values,
                None => self.names.entry(label.name.into()).or_default(),
            };
            match values.get_mut(label.value) {
                Some(list) => list.insert(slot),
                None => {
                    self.bytes += PAIR_BYTES + label.value.len();
                    let list = PostingList::Few(SmallVec::from_slice(&[slot]));
                    values.insert(label.value.into(), list);
                }
            }
            self.bytes += 2;
        }
    }

    /// Removes a series and the pairs that nothing carries any more.
    pub(crate) fn remove(&mut self, slot: u32, labels: &Labels) {
        self.all.remove(slot);
        for label in labels {
            let Some(values) = self.names.get_mut(label.name) else {
                continue;
            };
            if values
                .get_mut(label.value)
                .is_some_and(|list| list.remove(slot))
            {
                values.remove(label.value);
                self.bytes = self.bytes.saturating_sub(PAIR_BYTES + label.value.len());
            }
            self.bytes = self.bytes.saturating_sub(2);
            if values.is_empty() {
                self.names.remove(label.name);
            }
        }
    }

    /// How many series there are.
    pub(crate) fn series_count(&self) -> u64 {
        self.all.len()
    }

    /// Estimated bytes held.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The label name with the most distinct values: what explodes when a limit is met.
    pub(crate) fn widest_label(&self) -> Option<(&str, usize)> {
        self.names
            .iter()
            .map(|(name, values)| (&**name, values.len()))
            .max_by(|a, b| a.1.cmp(&b.1).then_with(|| b.0.cmp(a.0)))
    }

    /// Distinct values per label name.
    pub(crate) fn value_counts(&self) -> impl Iterator<Item = (&str, u64)> {
        self.names
            .iter()
            .map(|(name, values)| (&**name, values.len() as u64))
    }

    /// Series per label pair.
    pub(crate) fn pair_counts(&self) -> impl Iterator<Item = (&str, &str, u64)> {
        self.names.iter().flat_map(|(name, values)| {
            values
                .iter()
                .map(move |(value, list)| (&**name, &**value, list.len()))
        })
    }

    /// The slots whose labels pass all matchers.
    pub(crate) fn select(&self, matchers: &[Matcher]) -> RoaringBitmap {
        let mut result: Option<RoaringBitmap> = None;
        // Narrowing matchers first: excluding from a small set is cheaper than from all series.
        let (excluding, narrowing): (Vec<_>, Vec<_>) =
            matchers.iter().partition(|m| m.matches_missing());
        for matcher in narrowing {
            let found = self.carrying(matcher);
            result = Some(match result {
                None => found,
                Some(mut all) => {
                    all &= found;
                    all
                }
            });
            if result.as_ref().is_some_and(RoaringBitmap::is_empty) {
                return RoaringBitmap::new();
            }
        }
        let mut result = result.unwrap_or_else(|| self.all.clone());
        for matcher in excluding {
            let Some(values) = self.names.get(matcher.name()) else {
                continue;
            };
            let mut failing = RoaringBitmap::new();
            for (value, list) in values {
                if !matcher.matches(value) {
                    list.add_to(&mut failing);
                }
            }
            result -= failing;
        }
        result
    }

    /// Series that carry the matcher's label with a value that passes.
    fn carrying(&self, matcher: &Matcher) -> RoaringBitmap {
        let mut found = RoaringBitmap::new();
        let Some(values) = self.names.get(matcher.name()) else {
            return found;
        };
        if let Some(literals) = matcher.literal_values() {
            for literal in literals {
                if let Some(list) = values.get(literal) {
                    list.add_to(&mut found);
                }
            }
            return found;
        }
        let prefix = matcher.literal_prefix();
        for (value, list) in values {
            if value.starts_with(prefix) && matcher.matches(value) {
                list.add_to(&mut found);
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::index::MatchOp;

    #[test]
    fn selection_agrees_with_testing_every_label_set() {
        let sets: Vec<Labels> = (0..200)
            .map(|i| {
                let mut pairs = vec![("__name__", format!("m{}", i % 3)), ("i", format!("{i}"))];
                if i % 2 == 0 {
                    pairs.push(("even", "yes".into()));
                }
                Labels::from_pairs(pairs).unwrap()
            })
            .collect();
        let mut index = PostingIndex::default();
        for (slot, labels) in sets.iter().enumerate() {
            index.insert(slot as u32, labels);
        }
        for slot in (0..200).step_by(7) {
            index.remove(slot, &sets[slot as usize]);
        }
        let matcher = |name: &str, op, value: &str| Matcher::new(name, op, value).unwrap();
        let cases = [
            vec![],
            vec![Matcher::equal("__name__", "m1")],
            vec![
                Matcher::equal("even", ""),
                matcher("i", MatchOp::Regex, "1.*"),
            ],
            vec![matcher("even", MatchOp::NotEqual, "yes")],
            vec![matcher("i", MatchOp::NotRegex, "1.*|5|6")],
            vec![matcher("i", MatchOp::Regex, "5|6|8|")],
            vec![matcher("nothing", MatchOp::Regex, ".+")],
            vec![matcher("nothing", MatchOp::Regex, ".*")],
        ];
        for matchers in cases {
            let expected: Vec<u32> = (0..200_u32)
                .filter(|slot| slot % 7 != 0)
                .filter(|slot| {
                    matchers
                        .iter()
                        .all(|m| m.matches_labels(&sets[*slot as usize]))
                })
                .collect();
            let found: Vec<u32> = index.select(&matchers).iter().collect();
            assert_eq!(found, expected, "{matchers:?}");
        }
    }
}
