//! What a block's filter knows: names, keys of attributes, and keys with their texts; and which
//! conditions it can decide.
//!
//! The filter is a Bloom filter ([`crate::index::bloom`]) over hashes (xxh3, 64 bits): of a name with
//! seed 1, of a key with seed 2 (attributes of spans), 3 (events) or 4 (links), of a text with the hash
//! of its key as seed. Part of the format.

use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::fields::Group;
use crate::index::bloom;
use crate::rows::{AttributeScope, SpanCondition, TextPattern, TextTest, ValueTest};

/// The hash of a span's name.
pub(super) fn name_hash(name: &[u8]) -> u64 {
    xxh3_64_with_seed(name, 1)
}

/// The hash of an attribute's key.
pub(super) fn key_hash(group: Group, key: &str) -> u64 {
    let seed = match group {
        Group::Spans => 2,
        Group::Events => 3,
        Group::Links => 4,
    };
    xxh3_64_with_seed(key.as_bytes(), seed)
}

/// The hash of a text under a key.
pub(super) fn value_hash(key: u64, value: &[u8]) -> u64 {
    xxh3_64_with_seed(value, key)
}

/// What a condition needs of a block, in terms of directory and filter.
#[derive(Clone, Debug)]
pub(super) enum Need {
    /// Nothing that could be decided.
    Nothing,
    /// The filter has this hash.
    Hash(u64),
    /// Durations overlap.
    Duration(i64, i64),
    /// Some kind of these is there.
    Kind(u8),
    /// Some status of these is there.
    Status(u8),
    /// The key's numbers overlap; the key's number in the segment.
    Number {
        key: u32,
        min: f64,
        max: f64,
    },
    /// No block has it.
    Never,
    Any(Vec<Need>),
    All(Vec<Need>),
}

/// What must be known of a block to decide a [`Need`].
pub(super) trait BlockFacts {
    fn filter_has(&self, hash: u64) -> bool;
    fn durations(&self) -> (i64, i64);
    fn kinds(&self) -> u8;
    fn statuses(&self) -> u8;
    /// Smallest and largest number of a key, if the block has numbers of it.
    fn numbers(&self, key: u32) -> Option<(f64, f64)>;
}

/// What is known of a whole segment.
pub(super) trait SegmentFacts {
    /// The number of an attribute key, if the segment has it.
    fn key_number(&self, key: &str) -> Option<u32>;
    /// Whether some stream may pass a test of its resource or scope; `false` is certain.
    fn some_stream_passes(&self, scope: AttributeScope, key: &str, test: &ValueTest) -> bool;
}

impl Need {
    /// What `conditions` need.
    pub(super) fn of(conditions: &[SpanCondition], segment: &impl SegmentFacts) -> Self {
        Self::All(
            conditions
                .iter()
                .map(|condition| Self::of_one(condition, segment))
                .collect(),
        )
    }

    fn of_one(condition: &SpanCondition, segment: &impl SegmentFacts) -> Self {
        match condition {
            SpanCondition::Name(test) => Self::of_text(test, &name_hash),
            SpanCondition::Kind(mask) => Self::Kind(*mask),
            SpanCondition::Status(mask) => Self::Status(*mask),
            SpanCondition::Duration(range) => Self::Duration(*range.start(), *range.end()),
            SpanCondition::Attribute { scope, key, test } => {
                let group = match scope {
                    AttributeScope::Row => Group::Spans,
                    AttributeScope::Event => Group::Events,
                    AttributeScope::Link => Group::Links,
                    AttributeScope::Resource | AttributeScope::Instrumentation => {
                        return match segment.some_stream_passes(*scope, key, test) {
                            true => Self::Nothing,
                            false => Self::Never,
                        };
                    }
                };
                Self::of_attribute(group, key, test, segment)
            }
            SpanCondition::Any(conditions) => Self::Any(
                conditions
                    .iter()
                    .map(|condition| Self::of_one(condition, segment))
                    .collect(),
            ),
            SpanCondition::All(conditions) => Self::of(conditions, segment),
            _ => Self::Nothing,
        }
    }

    fn of_attribute(
        group: Group,
        key: &str,
        test: &ValueTest,
        segment: &impl SegmentFacts,
    ) -> Self {
        if matches!(test, ValueTest::Absent) {
            return Self::Nothing;
        }
        let Some(number) = segment.key_number(key) else {
            return Self::Never;
        };
        let hash = key_hash(group, key);
        match test {
            ValueTest::Text(test) => Self::All(vec![
                Self::Hash(hash),
                Self::of_text(test, &|text| value_hash(hash, text)),
            ]),
            ValueTest::Number {
                min,
                max,
                negated: false,
            } if group == Group::Spans => Self::All(vec![
                Self::Hash(hash),
                Self::Number {
                    key: number,
                    min: min.map_or(f64::NEG_INFINITY, |(min, _)| min),
                    max: max.map_or(f64::INFINITY, |(max, _)| max),
                },
            ]),
            _ => Self::Hash(hash),
        }
    }

    fn of_text(test: &TextTest, hash: &impl Fn(&[u8]) -> u64) -> Self {
        if test.negated {
            return Self::Nothing;
        }
        Self::of_pattern(&test.pattern, hash)
    }

    fn of_pattern(pattern: &TextPattern, hash: &impl Fn(&[u8]) -> u64) -> Self {
        match pattern {
            TextPattern::Equals(text) => Self::Hash(hash(text.as_bytes())),
            TextPattern::AnyOf(patterns) => Self::Any(
                patterns
                    .iter()
                    .map(|pattern| Self::of_pattern(pattern, hash))
                    .collect(),
            ),
            _ => Self::Nothing,
        }
    }

    /// Whether a block may have rows that pass; `false` is certain.
    pub(super) fn may_hold(&self, block: &impl BlockFacts) -> bool {
        match self {
            Self::Nothing => true,
            Self::Never => false,
            Self::Hash(hash) => block.filter_has(*hash),
            Self::Duration(min, max) => {
                let (low, high) = block.durations();
                *min <= high && low <= *max
            }
            Self::Kind(mask) => block.kinds() & mask != 0,
            Self::Status(mask) => block.statuses() & mask != 0,
            Self::Number { key, min, max } => block
                .numbers(*key)
                .is_some_and(|(low, high)| *min <= high && low <= *max),
            Self::Any(needs) => needs.iter().any(|need| need.may_hold(block)),
            Self::All(needs) => needs.iter().all(|need| need.may_hold(block)),
        }
    }
}

/// Whether a filter's bytes may have a hash.
pub(super) fn has(filter: &[u8], hash: u64) -> bool {
    bloom::may_contain(filter, hash)
}
