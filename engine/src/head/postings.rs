//! Which series of a tenant carry which label, and the text of each label pair, kept once.
//!
//! A pair is known by its [`PairId`]; a series is a short run of them, which is all that the series
//! table keeps of its labels. A pair lives as long as a series carries it; then its number is given to
//! another. Most pairs of a high-cardinality label belong to one or a few series, so a list starts as a
//! few inline integers and becomes a roaring bitmap when it grows.

use std::hash::BuildHasher;
use std::sync::OnceLock;

use hashbrown::{DefaultHashBuilder, HashMap, HashTable};
use roaring::RoaringBitmap;
use smallvec::SmallVec;

use crate::index::{MatchOp, Matcher};
use crate::model::Labels;

/// Above this many slots a list is a bitmap.
const FEW_MAX: usize = 32;

/// Number of a label pair inside a tenant's index.
pub(crate) type PairId = u32;
/// The pairs of one series, in the order of its labels.
pub(crate) type PairIds = SmallVec<[PairId; 16]>;

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

    /// Stores neighbouring slots as runs where that is smaller.
    fn shrink(&mut self) {
        if let Self::Many(bitmap) = self {
            bitmap.optimize();
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

/// A label pair and the slots that carry it; no slots when the number is free.
#[derive(Debug)]
struct Pair {
    name: u32,
    value: Box<str>,
    slots: PostingList,
}

/// A label name and its pairs, by the hash of their values.
#[derive(Debug, Default)]
struct Name {
    text: Box<str>,
    pairs: HashTable<PairId>,
    /// The pairs in the order of their values, made when somebody asks for those with a prefix.
    sorted: OnceLock<Vec<PairId>>,
    /// Pairs that came after that.
    unsorted: Vec<PairId>,
}

impl Name {
    fn came(&mut self, pair: PairId) {
        let Some(sorted) = self.sorted.get() else {
            return;
        };
        self.unsorted.push(pair);
        if self.unsorted.len() > sorted.len() / 8 {
            self.forget_order();
        }
    }

    fn forget_order(&mut self) {
        self.sorted.take();
        self.unsorted = Vec::new();
    }
}

/// The index over the series of one tenant.
#[derive(Debug, Default)]
pub(crate) struct PostingIndex {
    all: RoaringBitmap,
    names: Vec<Name>,
    name_numbers: HashMap<Box<str>, u32>,
    free_names: Vec<u32>,
    pairs: Vec<Pair>,
    free_pairs: Vec<PairId>,
    hasher: DefaultHashBuilder,
    bytes: usize,
}

/// What a new pair costs besides its text: itself, its place in a hash table, the allocator's share.
const PAIR_BYTES: usize = size_of::<Pair>() + 8 + 16;
/// What a slot in a list costs, on average.
const POSTING_BYTES: usize = 2;
/// Names with fewer pairs are looked through.
const SORTED_MIN: usize = 64;
/// Pairs whose lists [`PostingIndex::shrink`] looks at in one go.
const SHRINK_PAIRS: usize = 512;

impl PostingIndex {
    /// Adds a series and answers its pairs.
    pub(crate) fn insert(&mut self, slot: u32, labels: &Labels) -> PairIds {
        self.all.insert(slot);
        let pairs: PairIds = labels
            .iter()
            .map(|label| self.intern(label.name, label.value))
            .collect();
        for pair in &pairs {
            self.pairs[*pair as usize].slots.insert(slot);
        }
        self.bytes += POSTING_BYTES * pairs.len();
        pairs
    }

    fn intern(&mut self, name: &str, value: &str) -> PairId {
        let name = self.intern_name(name);
        let hash = self.hasher.hash_one(value);
        let Self {
            names,
            pairs,
            free_pairs,
            hasher,
            ..
        } = self;
        let known = &mut names[name as usize].pairs;
        if let Some(pair) = known.find(hash, |pair| *pairs[*pair as usize].value == *value) {
            return *pair;
        }
        let new = Pair {
            name,
            value: value.into(),
            slots: PostingList::Few(SmallVec::new()),
        };
        let number = match free_pairs.pop() {
            Some(number) => {
                pairs[number as usize] = new;
                number
            }
            None => {
                pairs.push(new);
                u32::try_from(pairs.len() - 1).expect("bug: more than 2^32 label pairs")
            }
        };
        let hash_of = |pair: &PairId| hasher.hash_one(&*pairs[*pair as usize].value);
        known.insert_unique(hash, number, hash_of);
        names[name as usize].came(number);
        self.bytes += PAIR_BYTES + value.len();
        number
    }

    fn intern_name(&mut self, name: &str) -> u32 {
        if let Some(number) = self.name_numbers.get(name) {
            return *number;
        }
        let new = Name {
            text: name.into(),
            ..Name::default()
        };
        let number = match self.free_names.pop() {
            Some(number) => {
                self.names[number as usize] = new;
                number
            }
            None => {
                self.names.push(new);
                self.names.len() as u32 - 1
            }
        };
        self.name_numbers.insert(name.into(), number);
        number
    }

    /// Removes a series and the pairs that nothing carries any more.
    pub(crate) fn remove(&mut self, slot: u32, pairs: &[PairId]) {
        self.all.remove(slot);
        for pair in pairs {
            self.bytes = self.bytes.saturating_sub(POSTING_BYTES);
            if self.pairs[*pair as usize].slots.remove(slot) {
                self.remove_pair(*pair);
            }
        }
    }

    fn remove_pair(&mut self, pair: PairId) {
        let gone = &mut self.pairs[pair as usize];
        let value = std::mem::take(&mut gone.value);
        gone.slots = PostingList::Few(SmallVec::new());
        let name = &mut self.names[gone.name as usize];
        let hash = self.hasher.hash_one(&*value);
        if let Ok(found) = name.pairs.find_entry(hash, |other| *other == pair) {
            found.remove();
        }
        name.forget_order();
        self.free_pairs.push(pair);
        self.bytes = self.bytes.saturating_sub(PAIR_BYTES + value.len());
        if self.names[gone.name as usize].pairs.is_empty() {
            let name = std::mem::take(&mut self.names[gone.name as usize].text);
            self.name_numbers.remove(&name);
            self.free_names.push(gone.name);
        }
    }

    /// Stores lists as runs of neighbours where that is smaller, from pair `from` on, a few of them;
    /// answers where to go on. (Series that were defined together have neighbouring slots.)
    pub(crate) fn shrink(&mut self, from: usize) -> Option<usize> {
        let end = (from + SHRINK_PAIRS).min(self.pairs.len());
        for pair in self.pairs.get_mut(from..end)? {
            pair.slots.shrink();
        }
        (end < self.pairs.len()).then_some(end)
    }

    /// Name and value of a pair that a series carries, and the number of the name.
    pub(crate) fn pair(&self, pair: PairId) -> (u32, &str, &str) {
        let pair = &self.pairs[pair as usize];
        (pair.name, &self.names[pair.name as usize].text, &pair.value)
    }

    /// The label set that these pairs of one series make.
    pub(crate) fn labels(&self, pairs: &[PairId]) -> Labels {
        let texts = pairs.iter().map(|pair| {
            let (_, name, value) = self.pair(*pair);
            (name, value)
        });
        Labels::from_sorted(&texts.collect::<SmallVec<[_; 16]>>())
    }

    /// Whether these pairs make this label set.
    pub(crate) fn is(&self, pairs: &[PairId], labels: &Labels) -> bool {
        let texts = pairs.iter().map(|pair| {
            let (_, name, value) = self.pair(*pair);
            (name, value)
        });
        texts.eq(labels.iter().map(|label| (label.name, label.value)))
    }

    fn pairs_of_name(&self, name: &str) -> impl Iterator<Item = &Pair> {
        let number = self.name_numbers.get(name);
        let pairs = number.map(|number| &self.names[*number as usize].pairs);
        let numbers = pairs.into_iter().flatten();
        numbers.map(|pair| &self.pairs[*pair as usize])
    }

    /// Pairs of a name whose values start with `prefix`, which is not empty; and some others.
    fn pairs_with_prefix(&self, name: &str, prefix: &str) -> impl Iterator<Item = &Pair> {
        let at = |pair: &PairId| &self.pairs[*pair as usize];
        let name = self.name_numbers.get(name);
        let name = name.map(|number| &self.names[*number as usize]);
        let few = name.filter(|name| name.pairs.len() < SORTED_MIN || prefix.is_empty());
        let many = name.filter(|_| few.is_none());
        let sorted = many.map_or(&[][..], |name| {
            let all = name.sorted.get_or_init(|| {
                let mut all: Vec<PairId> = name.pairs.iter().copied().collect();
                all.sort_unstable_by(|a, b| at(a).value.cmp(&at(b).value));
                all
            });
            let first = all.partition_point(|pair| *at(pair).value < *prefix);
            let with_prefix = |pair: &PairId| at(pair).value.starts_with(prefix);
            let count = all[first..].partition_point(with_prefix);
            &all[first..first + count]
        });
        let unsorted = many.map_or(&[][..], |name| &name.unsorted);
        let unordered = few.into_iter().flat_map(|name| &name.pairs);
        sorted.iter().chain(unsorted).chain(unordered).map(at)
    }

    fn find(&self, name: &str, value: &str) -> Option<&PostingList> {
        let number = self.name_numbers.get(name)?;
        let pairs = &self.names[*number as usize].pairs;
        let at = |pair: &PairId| &self.pairs[*pair as usize];
        let hash = self.hasher.hash_one(value);
        let found = pairs.find(hash, |pair| *at(pair).value == *value)?;
        Some(&at(found).slots)
    }

    /// How many series there are.
    pub(crate) fn series_count(&self) -> u64 {
        self.all.len()
    }

    /// Estimated bytes held.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Distinct values per label name.
    pub(crate) fn value_counts(&self) -> impl Iterator<Item = (&str, u64)> {
        let used = self.names.iter().filter(|name| !name.pairs.is_empty());
        used.map(|name| (&*name.text, name.pairs.len() as u64))
    }

    /// Series per label pair.
    pub(crate) fn pair_counts(&self) -> impl Iterator<Item = (&str, &str, u64)> {
        let numbers = self.names.iter().flat_map(|name| &name.pairs);
        numbers.map(|pair| {
            let (_, name, value) = self.pair(*pair);
            (name, value, self.pairs[*pair as usize].slots.len())
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
            let mut failing = RoaringBitmap::new();
            if matcher.passes_all() {
                continue;
            }
            if matcher.op() == MatchOp::NotEqual {
                if let Some(list) = self.find(matcher.name(), matcher.value()) {
                    list.add_to(&mut failing);
                }
            } else if matcher.op() == MatchOp::NotRegex {
                self.add_hits(matcher, &mut failing);
            } else {
                for pair in self.pairs_of_name(matcher.name()) {
                    if !matcher.matches(&pair.value) {
                        pair.slots.add_to(&mut failing);
                    }
                }
            }
            result -= failing;
        }
        result
    }

    /// Series that carry the matcher's label with a value that passes.
    fn carrying(&self, matcher: &Matcher) -> RoaringBitmap {
        let mut found = RoaringBitmap::new();
        if let Some(literals) = matcher.literal_values() {
            for literal in literals {
                if let Some(list) = self.find(matcher.name(), literal) {
                    list.add_to(&mut found);
                }
            }
            return found;
        }
        if matcher.op() == MatchOp::Regex {
            self.add_hits(matcher, &mut found);
            return found;
        }
        for pair in self.pairs_of_name(matcher.name()) {
            if matcher.matches(&pair.value) {
                pair.slots.add_to(&mut found);
            }
        }
        found
    }

    /// Adds the series whose value the pattern of `=~` or `!~` matches.
    fn add_hits(&self, matcher: &Matcher, to: &mut RoaringBitmap) {
        if let Some(literals) = matcher.pattern_literals() {
            for literal in literals {
                if let Some(list) = self.find(matcher.name(), literal) {
                    list.add_to(to);
                }
            }
            return;
        }
        for pair in self.pairs_with_prefix(matcher.name(), matcher.pattern_prefix()) {
            if matcher.pattern_matches(&pair.value) {
                pair.slots.add_to(to);
            }
        }
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
        let pairs: Vec<PairIds> = (0..)
            .zip(&sets)
            .map(|(slot, set)| index.insert(slot, set))
            .collect();
        for slot in (0..200).step_by(7) {
            index.remove(slot, &pairs[slot as usize]);
        }
        assert_eq!(index.shrink(0), None);
        for (pairs, labels) in pairs.iter().zip(&sets).skip(1).take(6) {
            assert!(index.is(pairs, labels));
            assert_eq!(index.labels(pairs), *labels);
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
            vec![matcher("i", MatchOp::NotRegex, "1.+")],
            vec![matcher("i", MatchOp::NotRegex, "|1.+")],
            vec![matcher("i", MatchOp::Regex, "1.*[02]")],
            vec![matcher("i", MatchOp::Regex, "19.*|1")],
            vec![matcher("i", MatchOp::Regex, ".*")],
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

    #[test]
    fn values_in_order_stay_true_while_series_come_and_go() {
        let mut index = PostingIndex::default();
        let value = |slot: u32| format!("v{}", slot * 7919 % 1000);
        let set = |slot: u32| Labels::from_pairs([("n", value(slot))]).unwrap();
        let mut pairs: Vec<Option<PairIds>> = Vec::new();
        for slot in 0..600_u32 {
            pairs.push(Some(index.insert(slot, &set(slot))));
            if slot % 50 == 49
                && let Some(gone) = pairs[slot as usize / 2].take()
            {
                index.remove(slot / 2, &gone);
            }
            if slot % 3 > 0 {
                continue;
            }
            for (op, pattern) in [
                (MatchOp::Regex, "v1.+"),
                (MatchOp::Regex, "v99.*"),
                (MatchOp::NotRegex, "v[0-8].*"),
            ] {
                let matcher = Matcher::new("n", op, pattern).unwrap();
                let found: Vec<u32> = index
                    .select(std::slice::from_ref(&matcher))
                    .iter()
                    .collect();
                let there = (0..=slot).filter(|slot| pairs[*slot as usize].is_some());
                let expected: Vec<u32> = there
                    .filter(|slot| matcher.matches(&value(*slot)))
                    .collect();
                assert_eq!(found, expected, "{matcher} at {slot}");
            }
        }
    }

    #[test]
    fn what_nothing_carries_takes_no_memory() {
        let mut index = PostingIndex::default();
        for round in 0..3 {
            let sets: Vec<_> = (0..100)
                .map(|i| Labels::from_pairs([(format!("name{round}"), format!("{i}"))]).unwrap())
                .collect();
            let pairs: Vec<_> = (0..)
                .zip(&sets)
                .map(|(slot, set)| index.insert(slot, set))
                .collect();
            for (slot, pairs) in (0..).zip(&pairs) {
                index.remove(slot, pairs);
            }
            assert_eq!((index.bytes(), index.series_count()), (0, 0));
            assert_eq!(
                index.pair_counts().count() + index.value_counts().count(),
                0
            );
        }
        assert_eq!((index.pairs.len(), index.names.len()), (100, 1));
    }
}
