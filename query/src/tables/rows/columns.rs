//! Columns of blocks as Arrow arrays.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, DictionaryArray, Int32Array, Int32BufferBuilder, MapArray, StringArray,
    StringBuilder, StructArray,
};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::datatypes::{DataType, Fields, Int32Type};
use chronolith_engine::EngineError;
use chronolith_engine::model::{Attributes, Stream};
use chronolith_engine::rows::{AttributeColumn, IdColumn, IntColumn, Streams, TextColumn};
use datafusion::error::Result;

use super::super::engine_error;
use super::super::metrics::labels_type;
use super::text::{push_hex, push_owned, push_value};

/// `Utf8`, the empty text as it is.
pub(super) fn text_array(column: &TextColumn, rows: usize) -> Result<ArrayRef> {
    if let TextColumn::Plain(strings) = column
        && strings.len() == rows
    {
        let (offsets, bytes) = strings.parts();
        let offsets = OffsetBuffer::new(offsets.to_vec().into());
        return Ok(Arc::new(StringArray::try_new(
            offsets,
            bytes.to_vec().into(),
            None,
        )?));
    }
    let texts = (0..rows).map(|row| Some(column.str(row)));
    Ok(Arc::new(texts.collect::<StringArray>()))
}

/// A dictionary of text; NULL for the empty text.
pub(super) fn word_array(column: &TextColumn, rows: usize) -> Result<ArrayRef> {
    let (keys, words): (Vec<Option<i32>>, Vec<&str>) = match column {
        TextColumn::Constant(_) => {
            let word = column.str(0);
            let key = (!word.is_empty()).then_some(0);
            (vec![key; rows], vec![word])
        }
        TextColumn::Dictionary { keys, values } => {
            let words: Vec<&str> = values
                .iter()
                .map(|word| std::str::from_utf8(word).unwrap_or(""))
                .collect();
            let present = |key: &i32| {
                words
                    .get(*key as usize)
                    .is_some_and(|word| !word.is_empty())
            };
            let keys = (0..rows).map(|row| keys.get(row).copied().filter(present));
            (keys.collect(), words)
        }
        TextColumn::Plain(_) => return words((0..rows).map(|row| column.str(row))),
    };
    dictionary(keys, &words)
}

/// A dictionary column over words; NULL for empty ones.
pub(super) fn words<'a>(words: impl Iterator<Item = &'a str>) -> Result<ArrayRef> {
    let array: DictionaryArray<Int32Type> = words
        .map(|word| (!word.is_empty()).then_some(word))
        .collect();
    Ok(Arc::new(array))
}

fn dictionary(keys: Vec<Option<i32>>, words: &[&str]) -> Result<ArrayRef> {
    let words = Arc::new(StringArray::from_iter_values(words));
    let keys = Int32Array::from(keys);
    Ok(Arc::new(DictionaryArray::<Int32Type>::try_new(
        keys, words,
    )?))
}

/// A dictionary column from small numbers, each with its word.
pub(super) fn enum_array(
    column: &IntColumn,
    rows: usize,
    all: &'static [&'static str],
) -> Result<ArrayRef> {
    let key = |row| {
        let number = i32::try_from(column.get(row)).ok()?;
        all.get(usize::try_from(number).ok()?).map(|_| number)
    };
    dictionary((0..rows).map(key).collect(), all)
}

/// Lower-case hexadecimal digits; NULL where there is no id.
pub(super) fn id_array<const N: usize>(column: &IdColumn<N>, rows: usize) -> ArrayRef {
    let mut out = StringBuilder::with_capacity(rows, rows * N * 2);
    let mut digits = String::with_capacity(N * 2);
    for row in 0..rows {
        match column.get(row) {
            None => out.append_null(),
            Some(id) => {
                digits.clear();
                push_hex(&id, &mut digits);
                out.append_value(&digits);
            }
        }
    }
    Arc::new(out.finish())
}

/// The streams that rows of a block are of, each once.
pub(super) struct StreamsOfRows {
    /// By row: which of the streams.
    pub(super) index: Vec<u32>,
    /// The streams.
    pub(super) streams: Vec<Arc<Stream>>,
}

impl StreamsOfRows {
    /// Finds them.
    ///
    /// # Errors
    /// Damage.
    pub(super) fn of(
        column: &IntColumn,
        streams: &Streams,
        rows: usize,
    ) -> Result<Self, EngineError> {
        let mut known: BTreeMap<i64, u32> = BTreeMap::new();
        let mut found = Self {
            index: Vec::with_capacity(rows),
            streams: Vec::new(),
        };
        let mut last: Option<(i64, u32)> = None;
        for row in 0..rows {
            let number = column.get(row);
            let index = match last {
                Some((same, index)) if same == number => index,
                _ => match known.get(&number) {
                    Some(index) => *index,
                    None => {
                        let index = found.streams.len() as u32;
                        let number_of_stream = u32::try_from(number).unwrap_or(u32::MAX);
                        found.streams.push(streams.get(number_of_stream)?);
                        known.insert(number, index);
                        index
                    }
                },
            };
            last = Some((number, index));
            found.index.push(index);
        }
        Ok(found)
    }

    /// A dictionary column of a text of each stream; NULL where it is empty.
    pub(super) fn words(&self, text: impl Fn(&Stream) -> String) -> Result<ArrayRef> {
        let texts: Vec<String> = self.streams.iter().map(|stream| text(stream)).collect();
        let words: Vec<&str> = texts.iter().map(String::as_str).collect();
        let key = |index: &u32| (!words[*index as usize].is_empty()).then_some(*index as i32);
        dictionary(self.index.iter().map(key).collect(), &words)
    }

    /// A map column of what each stream has.
    pub(super) fn maps(
        &self,
        mut pairs: impl FnMut(&Stream, &mut dyn FnMut(&str, &str)),
    ) -> Result<ArrayRef> {
        // The pairs of each stream are made once and copied for its rows.
        let mut of_streams: Vec<Vec<(String, String)>> = Vec::with_capacity(self.streams.len());
        for stream in &self.streams {
            let mut list = Vec::new();
            pairs(stream, &mut |key, value| {
                list.push((key.to_owned(), value.to_owned()));
            });
            of_streams.push(list);
        }
        let mut map = MapColumn::with_capacity(self.index.len());
        for index in &self.index {
            for (key, value) in &of_streams[*index as usize] {
                map.push(key, Some(value));
            }
            map.end_row();
        }
        map.finish()
    }
}

/// The pairs of an attribute set, sorted by key, of repeated keys the last.
pub(super) fn each_pair(attributes: &Attributes, each: &mut dyn FnMut(&str, &str)) {
    let sorted: BTreeMap<&str, _> = attributes.iter().map(|(k, v)| (k.as_str(), v)).collect();
    let mut text = String::new();
    for (key, value) in sorted {
        text.clear();
        push_owned(value, &mut text);
        each(key, &text);
    }
}

/// A `map<utf8, utf8>` column being written.
struct MapColumn {
    keys: StringBuilder,
    values: StringBuilder,
    offsets: Int32BufferBuilder,
    entries: i32,
}

impl MapColumn {
    fn with_capacity(rows: usize) -> Self {
        let mut offsets = Int32BufferBuilder::new(rows + 1);
        offsets.append(0);
        Self {
            keys: StringBuilder::new(),
            values: StringBuilder::new(),
            offsets,
            entries: 0,
        }
    }

    fn push(&mut self, key: &str, value: Option<&str>) {
        self.keys.append_value(key);
        self.values.append_option(value);
        self.entries += 1;
    }

    fn end_row(&mut self) {
        self.offsets.append(self.entries);
    }

    fn finish(mut self) -> Result<ArrayRef> {
        let DataType::Map(entry, sorted) = labels_type() else {
            return Err(engine_error(EngineError::InvalidArgument(
                "bug: labels are no map".into(),
            )));
        };
        let fields = match entry.data_type() {
            DataType::Struct(fields) => fields.clone(),
            _ => Fields::empty(),
        };
        let columns: Vec<ArrayRef> =
            vec![Arc::new(self.keys.finish()), Arc::new(self.values.finish())];
        let entries = StructArray::try_new(fields, columns, None)?;
        let offsets = OffsetBuffer::new(self.offsets.finish().into());
        Ok(Arc::new(MapArray::try_new(
            entry, offsets, entries, None, sorted,
        )?))
    }
}

/// Attribute columns as one map per row, sorted by key; of a key that a row has twice the last.
pub(super) fn attribute_maps(columns: &[AttributeColumn], rows: usize) -> Result<ArrayRef> {
    let mut sorted: Vec<&AttributeColumn> = columns.iter().collect();
    sorted.sort_by(|a, b| a.key.cmp(&b.key));
    // Which value each entry is, key by key; then brought into the order of rows.
    let mut entries: Vec<(u32, u32, u32)> = Vec::new();
    let mut first = 0;
    for group in sorted.chunk_by(|a, b| a.key == b.key) {
        let start = entries.len();
        for (at, column) in group.iter().enumerate() {
            let column_number = (first + at) as u32;
            match &column.rows {
                None => entries.extend((0..rows as u32).map(|row| (row, column_number, row))),
                Some(of) => {
                    let numbered = of.iter().zip(0_u32..);
                    entries.extend(numbered.map(|(row, index)| (*row, column_number, index)));
                }
            }
        }
        let is_ascending = entries[start..].is_sorted_by(|a, b| a.0 < b.0);
        if !is_ascending {
            keep_last(&mut entries, start, &sorted);
        }
        first += group.len();
    }
    let mut ends = vec![0_u32; rows + 1];
    entries.retain(|(row, ..)| (*row as usize) < rows);
    for (row, ..) in &entries {
        ends[*row as usize + 1] += 1;
    }
    for row in 0..rows {
        ends[row + 1] += ends[row];
    }
    let mut next = ends.clone();
    let mut ordered = vec![(0_u32, 0_u32); entries.len()];
    for (row, column, index) in entries {
        let place = &mut next[row as usize];
        ordered[*place as usize] = (column, index);
        *place += 1;
    }
    let mut map = MapColumn::with_capacity(rows);
    let mut text = String::new();
    for row in 0..rows {
        for (column, index) in &ordered[ends[row] as usize..ends[row + 1] as usize] {
            let column = sorted[*column as usize];
            text.clear();
            let is_there = push_value(column.value(*index as usize), &mut text);
            map.push(&column.key, is_there.then_some(text.as_str()));
        }
        map.end_row();
    }
    map.finish()
}

/// Of the entries from `start` on, all of one key, keeps for each row the one that stood last.
fn keep_last(entries: &mut Vec<(u32, u32, u32)>, start: usize, columns: &[&AttributeColumn]) {
    let position = |(_, column, index): &(u32, u32, u32)| {
        let positions = &columns[*column as usize].positions;
        positions.get(*index as usize).copied().unwrap_or(0)
    };
    let mut group = entries.split_off(start);
    group.sort_by_key(|entry| (entry.0, position(entry), entry.2));
    for entry in group {
        match entries[start..].last_mut() {
            Some(before) if before.0 == entry.0 => *before = entry,
            _ => entries.push(entry),
        }
    }
}

/// A list column over `items`; `ends` are those of [`chronolith_engine::rows::Nested`].
pub(super) fn list_offsets(ends: &[u32], rows: usize) -> OffsetBuffer<i32> {
    let mut offsets = Vec::with_capacity(rows + 1);
    offsets.push(0);
    let mut last = 0;
    for row in 0..rows {
        last = ends.get(row).map_or(last, |end| (*end as i32).max(last));
        offsets.push(last);
    }
    OffsetBuffer::new(offsets.into())
}

/// The first of several attribute columns that has text for a row, by row; NULL where none has.
pub(super) fn first_text(
    columns: &[AttributeColumn],
    names: &[String],
    of_stream: impl Fn(usize) -> Option<String>,
    rows: usize,
) -> ArrayRef {
    let mut found: Vec<Option<&str>> = vec![None; rows];
    for name in names.iter().rev() {
        for column in columns.iter().filter(|column| *column.key == **name) {
            let mut put = |row: usize, index| {
                if let chronolith_engine::rows::ValueRef::Str(text) = column.value(index)
                    && !text.is_empty()
                    && let Some(place) = found.get_mut(row)
                {
                    *place = Some(text);
                }
            };
            match &column.rows {
                None => (0..rows).for_each(|row| put(row, row)),
                Some(of) => of
                    .iter()
                    .enumerate()
                    .for_each(|(index, row)| put(*row as usize, index)),
            }
        }
    }
    let mut out = StringBuilder::new();
    for (row, text) in found.into_iter().enumerate() {
        match text {
            Some(text) => out.append_value(text),
            None => out.append_option(of_stream(row)),
        }
    }
    Arc::new(out.finish())
}

/// NULL for the empty text.
pub(super) fn null_if_empty(array: ArrayRef) -> Result<ArrayRef> {
    let Some(texts) = array.as_any().downcast_ref::<StringArray>() else {
        return Ok(array);
    };
    let present = texts.offsets().lengths().map(|length| length > 0);
    let nulls: NullBuffer = present.collect::<Vec<bool>>().into();
    Ok(Arc::new(StringArray::try_new(
        texts.offsets().clone(),
        texts.values().clone(),
        Some(nulls),
    )?))
}
