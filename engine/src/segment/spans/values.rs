//! Values of attributes while a block is built: every value is a 64-bit code, text by the number under
//! which it was first seen.

use std::hash::BuildHasher;

use hashbrown::DefaultHashBuilder;
use hashbrown::hash_table::{Entry, HashTable};

use crate::rows::ValueRef;

/// The types that an attribute may have; the numbers are part of the format.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub(super) enum Kind {
    #[default]
    Null = 0,
    Text = 1,
    Int = 2,
    Float = 3,
    Bool = 4,
    Bytes = 5,
    /// Arrays and maps in their stored form.
    Nested = 6,
}

impl Kind {
    pub(super) const COUNT: usize = 7;

    pub(super) fn from_u8(number: u8) -> Option<Self> {
        [
            Self::Null,
            Self::Text,
            Self::Int,
            Self::Float,
            Self::Bool,
            Self::Bytes,
            Self::Nested,
        ]
        .get(usize::from(number))
        .copied()
    }

    /// The type of a value.
    pub(super) fn of(value: ValueRef<'_>) -> Self {
        match value {
            ValueRef::Null => Self::Null,
            ValueRef::Str(_) => Self::Text,
            ValueRef::Int(_) => Self::Int,
            ValueRef::Float(_) => Self::Float,
            ValueRef::Bool(_) => Self::Bool,
            ValueRef::Bytes(_) => Self::Bytes,
            ValueRef::Nested(_) => Self::Nested,
        }
    }
}

/// Distinct byte strings, numbered in the order seen.
#[derive(Debug, Default)]
pub(super) struct Interner {
    bytes: Vec<u8>,
    ends: Vec<usize>,
    table: HashTable<u32>,
    hasher: DefaultHashBuilder,
    asked: usize,
}

/// After this many look-ups, a column whose values are nearly all new is no longer looked up in: what
/// is told apart needlessly costs bytes, a look-up that never hits costs time.
const TRIAL: usize = 1024;

fn slice<'a>(bytes: &'a [u8], ends: &[usize], number: u32) -> &'a [u8] {
    let number = number as usize;
    let start = match number {
        0 => 0,
        _ => ends[number - 1],
    };
    &bytes[start..ends[number]]
}

impl Interner {
    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    pub(super) fn get(&self, number: u32) -> &[u8] {
        slice(&self.bytes, &self.ends, number)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &[u8]> {
        (0..self.len() as u32).map(|number| self.get(number))
    }

    fn push(&mut self, value: &[u8]) -> u32 {
        self.bytes.extend_from_slice(value);
        self.ends.push(self.bytes.len());
        self.ends.len() as u32 - 1
    }

    /// The number of a value; `last` is that of the value before, which is often the same.
    pub(super) fn number(&mut self, value: &[u8], last: Option<u32>) -> u32 {
        if let Some(last) = last
            && self.get(last) == value
        {
            return last;
        }
        self.asked += 1;
        if self.asked > TRIAL && self.ends.len() * 8 > self.asked * 7 {
            return self.push(value);
        }
        let Self {
            bytes,
            ends,
            table,
            hasher,
            ..
        } = self;
        let entry = table.entry(
            hasher.hash_one(value),
            |number| slice(bytes, ends, *number) == value,
            |number| hasher.hash_one(slice(bytes, ends, *number)),
        );
        match entry {
            Entry::Occupied(found) => *found.get(),
            Entry::Vacant(vacant) => {
                let number = ends.len() as u32;
                vacant.insert(number);
                self.push(value)
            }
        }
    }
}

/// The values of one key and type in a block, in the order of their rows.
#[derive(Debug)]
pub(super) struct ColumnBuffer {
    pub(super) key: u32,
    pub(super) kind: Kind,
    /// Integers as they are, doubles by their bits, text by its number.
    pub(super) codes: Vec<u64>,
    pub(super) texts: Interner,
}

impl ColumnBuffer {
    pub(super) fn push_bytes(&mut self, value: &[u8]) -> u32 {
        let last = self.codes.last().map(|code| *code as u32);
        let number = self.texts.number(value, last);
        self.codes.push(u64::from(number));
        number
    }
}
