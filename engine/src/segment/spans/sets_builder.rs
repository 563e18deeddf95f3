//! Attribute sets of a block on their way to columns.
//!
//! Spans of one program point look alike: the same name, kind and status, the same keys in the same
//! order, and of most keys the same value. That much is the *class* of a span; a block stores its
//! classes once, a class number per span, and in columns only the values that differ between spans of
//! one class. So a name, a route and a status code together cost the few bits of the class number, and
//! a condition on them is decided per class.
//!
//! Keys below [`KEYS_FROM`] stand for texts that are no attributes. Sets whose keys would make a block
//! wider than [`COLUMNS_MAX`] are stored whole as one value of [`KEY_OVERFLOW`].

use std::hash::BuildHasher;

use hashbrown::DefaultHashBuilder;
use hashbrown::hash_table::{Entry, HashTable};

use super::fields::{ColumnsWriter, Group};
use super::text;
use super::values::{ColumnBuffer, Interner, Kind};
use crate::codec::{EncodeEffort, bytes, floats, integers, varint};
use crate::rows::ValueRef;
use crate::segment::format::COLUMN_VALUES_MAX;
use crate::segment::wire::{put_bytes, put_f64, put_i64, put_u64};

/// Name of a span or an event.
pub(super) const KEY_NAME: u32 = 0;
/// Words about the status.
pub(super) const KEY_MESSAGE: u32 = 1;
/// W3C trace state.
pub(super) const KEY_TRACE_STATE: u32 = 2;
/// A whole set: pairs of key number and value.
pub(super) const KEY_OVERFLOW: u32 = 3;
/// The first attribute key of the segment.
pub(super) const KEYS_FROM: u32 = 4;

/// Columns of attributes that a block may have.
pub(super) const COLUMNS_MAX: usize = 1000;

/// Attributes of a set beyond which it is stored whole.
const SET_LENGTH_MAX: usize = 1 << 15;

/// Names that make classes; later ones of a block go to a column.
const CLASS_NAMES_MAX: u32 = 1000;

/// Rows from which on a class keeps a value that all of them share.
const SHARED_ROWS_MIN: u32 = 8;

/// Stands for a name that is none of the class's.
const NAME_IN_COLUMN: u32 = u32::MAX;

/// What is known of the values of one column among the rows of one class.
#[derive(Clone, Copy)]
enum Shared {
    Unseen,
    Same(u64),
    Differs,
}

/// Collects the sets of one block.
#[derive(Debug, Default)]
pub(super) struct SetsBuilder {
    columns: Vec<ColumnBuffer>,
    /// By key and kind: the column, plus one.
    places: Vec<[u32; Kind::COUNT]>,
    /// Classes, one after the other: kind and status, name, columns.
    class_words: Vec<u32>,
    class_ends: Vec<usize>,
    class_table: HashTable<u32>,
    hasher: DefaultHashBuilder,
    /// The class of each set.
    class_of: Vec<u32>,
    /// The class of the open set so far.
    open: Vec<u32>,
    overflow: bool,
}

fn words<'a>(all: &'a [u32], ends: &[usize], class: u32) -> &'a [u32] {
    let class = class as usize;
    let start = match class {
        0 => 0,
        _ => ends[class - 1],
    };
    &all[start..ends[class]]
}

/// Words of a class before its columns.
const CLASS_HEAD: usize = 2;

impl SetsBuilder {
    /// Sets in the block so far.
    pub(super) fn len(&self) -> usize {
        self.class_of.len()
    }

    /// Begins the next set; spans have a kind and a status.
    pub(super) fn begin(&mut self, kind: u8, status: u8) {
        self.open.clear();
        self.open.push(u32::from(kind) | (u32::from(status) << 8));
        self.open.push(NAME_IN_COLUMN);
        self.overflow = false;
    }

    fn column(&mut self, key: u32, kind: Kind) -> Option<u32> {
        let at = key as usize;
        if self.places.len() <= at {
            self.places.resize(at + 1, [0; Kind::COUNT]);
        }
        let place = &mut self.places[at][kind as usize];
        if *place == 0 {
            if self.columns.len() >= COLUMNS_MAX && key >= KEYS_FROM {
                return None;
            }
            self.columns.push(ColumnBuffer {
                key,
                kind,
                codes: Vec::new(),
                texts: Interner::default(),
            });
            *place = self.columns.len() as u32;
        }
        Some(*place - 1)
    }

    /// Adds a text that is no attribute; an empty one is left out.
    pub(super) fn text(&mut self, key: u32, value: &[u8]) {
        if value.is_empty() && key != KEY_NAME {
            return;
        }
        let kind = if key == KEY_OVERFLOW {
            Kind::Bytes
        } else {
            Kind::Text
        };
        let Some(place) = self.column(key, kind) else {
            return;
        };
        let number = self.columns[place as usize].push_bytes(value);
        if key == KEY_NAME && number < CLASS_NAMES_MAX {
            self.open[1] = number;
        }
        self.open.push(place);
    }

    /// Adds an attribute.
    pub(super) fn value(&mut self, key: u32, value: ValueRef<'_>) {
        if self.overflow {
            return;
        }
        let kind = Kind::of(value);
        let Some(place) = self.column(KEYS_FROM + key, kind) else {
            self.overflow = true;
            return;
        };
        let column = &mut self.columns[place as usize];
        if column.codes.len() >= COLUMN_VALUES_MAX || self.open.len() >= SET_LENGTH_MAX {
            self.overflow = true;
            return;
        }
        match value {
            ValueRef::Null => column.codes.push(0),
            ValueRef::Str(text) => {
                column.push_bytes(text.as_bytes());
            }
            ValueRef::Bytes(bytes) | ValueRef::Nested(bytes) => {
                column.push_bytes(bytes);
            }
            ValueRef::Int(number) => column.codes.push(number as u64),
            ValueRef::Float(number) => column.codes.push(number.to_bits()),
            ValueRef::Bool(truth) => column.codes.push(u64::from(truth)),
        }
        self.open.push(place);
    }

    /// Ends the set. `whole` writes all its pairs, should they not fit into columns.
    pub(super) fn end(&mut self, whole: impl FnOnce(&mut Vec<u8>)) {
        if self.overflow {
            let columns = &mut self.columns;
            let mut kept = CLASS_HEAD;
            for at in CLASS_HEAD..self.open.len() {
                let place = self.open[at];
                let column = &mut columns[place as usize];
                if column.key < KEYS_FROM {
                    self.open[kept] = place;
                    kept += 1;
                } else {
                    column.codes.pop();
                }
            }
            self.open.truncate(kept);
            let mut bytes = Vec::new();
            whole(&mut bytes);
            self.text(KEY_OVERFLOW, &bytes);
        }
        let Self {
            class_words,
            class_ends,
            class_table,
            hasher,
            open,
            ..
        } = self;
        let entry = class_table.entry(
            hasher.hash_one(open.as_slice()),
            |class| words(class_words, class_ends, *class) == open.as_slice(),
            |class| hasher.hash_one(words(class_words, class_ends, *class)),
        );
        let class = match entry {
            Entry::Occupied(found) => *found.get(),
            Entry::Vacant(vacant) => {
                let class = class_ends.len() as u32;
                vacant.insert(class);
                class_words.extend_from_slice(open);
                class_ends.push(class_words.len());
                class
            }
        };
        self.class_of.push(class);
    }

    /// Calls `each` with key, kind and codes of every column, and its texts.
    pub(super) fn for_each_column(&self, mut each: impl FnMut(&ColumnBuffer)) {
        self.columns
            .iter()
            .filter(|column| !column.codes.is_empty())
            .for_each(&mut each);
    }

    /// Which values all rows of a class share: one entry for each column of each class.
    fn shared(&self) -> Vec<Shared> {
        let mut shared = vec![Shared::Unseen; self.class_words.len()];
        let mut rows_of = vec![0_u32; self.class_ends.len()];
        let mut next = vec![0_usize; self.columns.len()];
        for class in &self.class_of {
            let class = *class as usize;
            rows_of[class] += 1;
            let start = match class {
                0 => 0,
                _ => self.class_ends[class - 1],
            };
            let entries = start + CLASS_HEAD..self.class_ends[class];
            let places = &self.class_words[entries.clone()];
            for (place, shared) in places.iter().zip(&mut shared[entries]) {
                let place = *place as usize;
                let code = self.columns[place].codes[next[place]];
                next[place] += 1;
                *shared = match *shared {
                    Shared::Unseen => Shared::Same(code),
                    Shared::Same(known) if known == code => Shared::Same(code),
                    _ => Shared::Differs,
                };
            }
        }
        let mut start = 0;
        for (class, end) in self.class_ends.iter().enumerate() {
            let named = self.class_words[start + 1] != NAME_IN_COLUMN;
            let entries = start + CLASS_HEAD..*end;
            let places = &self.class_words[entries.clone()];
            for (place, shared) in places.iter().zip(&mut shared[entries]) {
                let column = &self.columns[*place as usize];
                let kept = rows_of[class] >= SHARED_ROWS_MIN
                    || column.kind == Kind::Null
                    || (named && column.key == KEY_NAME);
                if !kept {
                    *shared = Shared::Differs;
                }
            }
            start = *end;
        }
        shared
    }

    /// Writes classes, class numbers and columns, and makes ready for the next block.
    pub(super) fn finish(
        &mut self,
        group: Group,
        effort: EncodeEffort,
        writer: &mut ColumnsWriter,
    ) {
        if !self.class_of.is_empty() {
            let shared = self.shared();
            self.write_classes(&shared, group, writer);
            let numbers: Vec<i64> = self.class_of.iter().map(|c| i64::from(*c)).collect();
            writer.push(group.class_of(), 0, numbers.len(), |out| {
                integers::encode(&numbers, effort, out);
            });
            self.write_columns(&shared, group, effort, writer);
        }
        self.clear();
    }

    fn write_classes(&self, shared: &[Shared], group: Group, writer: &mut ColumnsWriter) {
        let mut out = Vec::new();
        put_u64(&mut out, self.columns.len() as u64);
        for column in &self.columns {
            put_u64(&mut out, u64::from(column.key));
            out.push(column.kind as u8);
        }
        let mut start = 0;
        for end in &self.class_ends {
            let head = self.class_words[start];
            out.push(head as u8);
            out.push((head >> 8) as u8);
            put_u64(&mut out, (end - start - CLASS_HEAD) as u64);
            let entries = start + CLASS_HEAD..*end;
            let places = &self.class_words[entries.clone()];
            for (place, shared) in places.iter().zip(&shared[entries]) {
                let column = &self.columns[*place as usize];
                let Shared::Same(code) = *shared else {
                    put_u64(&mut out, u64::from(*place) << 1);
                    continue;
                };
                put_u64(&mut out, (u64::from(*place) << 1) | 1);
                match column.kind {
                    Kind::Null => {}
                    Kind::Int => put_i64(&mut out, code as i64),
                    Kind::Float => put_f64(&mut out, f64::from_bits(code)),
                    Kind::Bool => out.push(code as u8),
                    Kind::Text | Kind::Bytes | Kind::Nested => {
                        put_bytes(&mut out, column.texts.get(code as u32));
                    }
                }
            }
            start = *end;
        }
        writer.push(group.classes(), 0, self.class_ends.len(), |block| {
            varint::write_u64(block, out.len() as u64);
            bytes::encode(&out, 3, block);
        });
    }

    fn write_columns(
        &self,
        shared: &[Shared],
        group: Group,
        effort: EncodeEffort,
        writer: &mut ColumnsWriter,
    ) {
        let mut rest: Vec<Vec<u64>> = vec![Vec::new(); self.columns.len()];
        let mut next = vec![0_usize; self.columns.len()];
        for class in &self.class_of {
            let class = *class as usize;
            let start = match class {
                0 => 0,
                _ => self.class_ends[class - 1],
            };
            let entries = start + CLASS_HEAD..self.class_ends[class];
            let places = &self.class_words[entries.clone()];
            for (place, shared) in places.iter().zip(&shared[entries]) {
                let place = *place as usize;
                if matches!(shared, Shared::Differs) {
                    rest[place].push(self.columns[place].codes[next[place]]);
                }
                next[place] += 1;
            }
        }
        for (place, codes) in rest.iter().enumerate() {
            if !codes.is_empty() {
                let column = &self.columns[place];
                writer.push(group.values(), place as u32, codes.len(), |out| {
                    write_values(column, codes, effort, out);
                });
            }
        }
    }

    fn clear(&mut self) {
        self.columns.clear();
        self.places.clear();
        self.class_words.clear();
        self.class_ends.clear();
        self.class_table.clear();
        self.class_of.clear();
    }
}

fn write_values(column: &ColumnBuffer, codes: &[u64], effort: EncodeEffort, out: &mut Vec<u8>) {
    match column.kind {
        Kind::Null => {}
        Kind::Int | Kind::Bool => {
            let values: Vec<i64> = codes.iter().map(|code| *code as i64).collect();
            integers::encode(&values, effort, out);
        }
        Kind::Float => {
            let values: Vec<f64> = codes.iter().map(|code| f64::from_bits(*code)).collect();
            floats::encode(&values, effort, out);
        }
        Kind::Text | Kind::Bytes | Kind::Nested => {
            const UNSEEN: u32 = u32::MAX;
            let mut renumbered = vec![UNSEEN; column.texts.len()];
            let mut distinct = Vec::new();
            let keys: Vec<u32> = codes
                .iter()
                .map(|code| {
                    let number = &mut renumbered[*code as usize];
                    if *number == UNSEEN {
                        *number = distinct.len() as u32;
                        distinct.push(column.texts.get(*code as u32));
                    }
                    *number
                })
                .collect();
            text::encode(&distinct, &keys, effort, out);
        }
    }
}
