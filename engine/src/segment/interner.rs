//! Collects the labels of rows while a segment is built, and writes the label index and the series
//! table.
//!
//! Label pairs are interned: a row is a few 32-bit numbers. A row's pair is looked up among those of the
//! row before first, since sorted rows repeat most of their labels.

use std::hash::BuildHasher;

use hashbrown::DefaultHashBuilder;
use hashbrown::hash_table::{Entry, HashTable};

use crate::error::Result;
use crate::model::Labels;

use super::container::{ContainerWriter, SegmentSink};
use super::label_index::{self, LabelToWrite};
use super::series_table::SeriesTableBuilder;

/// Where a pair's texts lie in the arena.
#[derive(Clone, Copy, Debug)]
struct Pair {
    name_at: usize,
    value_at: usize,
    end: usize,
}

/// Labels of rows, in row order.
#[derive(Debug, Default)]
pub(crate) struct RowLabels {
    arena: String,
    pairs: Vec<Pair>,
    table: HashTable<u32>,
    hasher: DefaultHashBuilder,
    /// Pair numbers of all rows, one row after the other.
    numbers: Vec<u32>,
    row_ends: Vec<usize>,
}

impl RowLabels {
    /// How many rows there are.
    pub(crate) fn len(&self) -> usize {
        self.row_ends.len()
    }

    /// Adds a row.
    pub(crate) fn push(&mut self, labels: &Labels) {
        let before = match self.row_ends.as_slice() {
            [] => 0..0,
            [end] => 0..*end,
            [.., start, end] => *start..*end,
        };
        for (place, label) in labels.iter().enumerate() {
            let guess = before.clone().nth(place).map(|at| self.numbers[at]);
            let number = match guess {
                Some(number) if self.text(number) == (label.name, label.value) => number,
                _ => self.intern(label.name, label.value),
            };
            self.numbers.push(number);
        }
        self.row_ends.push(self.numbers.len());
    }

    fn text(&self, number: u32) -> (&str, &str) {
        let pair = self.pairs[number as usize];
        (
            &self.arena[pair.name_at..pair.value_at],
            &self.arena[pair.value_at..pair.end],
        )
    }

    fn intern(&mut self, name: &str, value: &str) -> u32 {
        let Self {
            arena,
            pairs,
            table,
            hasher,
            ..
        } = self;
        let text = |number: &u32| {
            let pair: Pair = pairs[*number as usize];
            (
                &arena[pair.name_at..pair.value_at],
                &arena[pair.value_at..pair.end],
            )
        };
        let hash = hasher.hash_one((name, value));
        let entry = table.entry(
            hash,
            |number| text(number) == (name, value),
            |number| hasher.hash_one(text(number)),
        );
        match entry {
            Entry::Occupied(found) => *found.get(),
            Entry::Vacant(vacant) => {
                let number = pairs.len() as u32;
                vacant.insert(number);
                let name_at = arena.len();
                arena.push_str(name);
                let value_at = arena.len();
                arena.push_str(value);
                pairs.push(Pair {
                    name_at,
                    value_at,
                    end: arena.len(),
                });
                number
            }
        }
    }

    /// Writes label index and series table.
    pub(crate) fn write<S: SegmentSink>(&self, writer: &mut ContainerWriter<S>) -> Result<()> {
        let mut sorted: Vec<u32> = (0..self.pairs.len() as u32).collect();
        sorted.sort_unstable_by(|a, b| self.text(*a).cmp(&self.text(*b)));

        // Rows of each pair, by counting: first how many, then where, then which.
        let mut ends = vec![0_usize; self.pairs.len() + 1];
        for number in &self.numbers {
            ends[*number as usize + 1] += 1;
        }
        for at in 1..ends.len() {
            ends[at] += ends[at - 1];
        }
        let starts = ends.clone();
        let mut next = ends;
        let mut rows = vec![0_u32; self.numbers.len()];
        let mut start = 0;
        for (row, end) in self.row_ends.iter().enumerate() {
            for number in &self.numbers[start..*end] {
                rows[next[*number as usize]] = row as u32;
                next[*number as usize] += 1;
            }
            start = *end;
        }

        // Pair number to label number and rank of the value.
        let mut places = vec![(0_u32, 0_u32); self.pairs.len()];
        let mut labels: Vec<LabelToWrite<'_>> = Vec::new();
        for number in sorted {
            let (name, value) = self.text(number);
            if labels.last().is_none_or(|label| label.name != name) {
                labels.push(LabelToWrite {
                    name,
                    values: Vec::new(),
                });
            }
            let label_number = labels.len() as u32 - 1;
            let label = labels.last_mut().expect("bug: just pushed");
            let at = number as usize;
            places[at] = (label_number, label.values.len() as u32);
            label
                .values
                .push((value, &rows[starts[at]..starts[at + 1]]));
        }
        label_index::write(writer, &labels)?;

        let mut table = SeriesTableBuilder::default();
        let mut start = 0;
        for end in &self.row_ends {
            let row = &self.numbers[start..*end];
            table.push(row.iter().map(|number| places[*number as usize]));
            start = *end;
        }
        table.finish(writer)
    }
}
