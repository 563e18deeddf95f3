//! Blocks made of other blocks: some of their rows in another order, or one behind the other.

use std::sync::Arc;

use hashbrown::HashMap;

use super::block::{
    AttributeColumn, AttributeValues, IdColumn, IntColumn, LogBlock, Nested, SpanBlock, TextColumn,
};
use super::fields::BodyFields;
use crate::codec::strings::Strings;

impl IntColumn {
    /// The values of these rows.
    #[must_use]
    pub fn take(&self, rows: &[u32]) -> Self {
        match self {
            Self::Constant(value) => Self::Constant(*value),
            Self::Values(_) => {
                Self::Values(rows.iter().map(|row| self.get(*row as usize)).collect())
            }
        }
    }

    fn append(&mut self, len: usize, other: &Self, other_len: usize) {
        match (&mut *self, other) {
            (Self::Constant(a), Self::Constant(b)) if a == b => {}
            (Self::Values(values), other) => {
                values.extend((0..other_len).map(|row| other.get(row)));
            }
            (Self::Constant(value), other) => {
                let mut values = vec![*value; len];
                values.extend((0..other_len).map(|row| other.get(row)));
                *self = Self::Values(values);
            }
        }
    }
}

impl TextColumn {
    /// The text of these rows.
    #[must_use]
    pub fn take(&self, rows: &[u32]) -> Self {
        match self {
            Self::Constant(bytes) => Self::Constant(bytes.clone()),
            Self::Dictionary { keys, values } if values.len() <= rows.len() => {
                let key = |row: &u32| keys.get(*row as usize).copied().unwrap_or(0);
                Self::Dictionary {
                    keys: rows.iter().map(key).collect(),
                    values: values.clone(),
                }
            }
            _ => {
                let bytes = rows.iter().map(|row| self.get(*row as usize).len()).sum();
                let mut values = Strings::default();
                values.reserve(rows.len(), bytes);
                rows.iter()
                    .for_each(|row| values.push(self.get(*row as usize)));
                Self::Plain(values)
            }
        }
    }

    fn append(&mut self, len: usize, other: &Self, other_len: usize) {
        if let (Self::Constant(a), Self::Constant(b)) = (&*self, other)
            && a == b
        {
            return;
        }
        if !matches!(self, Self::Plain(_)) {
            let mut values = Strings::default();
            (0..len).for_each(|row| values.push(self.get(row)));
            *self = Self::Plain(values);
        }
        if let Self::Plain(values) = self {
            (0..other_len).for_each(|row| values.push(other.get(row)));
        }
    }
}

impl<const N: usize> IdColumn<N> {
    /// The ids of these rows.
    #[must_use]
    pub fn take(&self, rows: &[u32]) -> Self {
        match self {
            Self::None => Self::None,
            Self::Values(ids) => {
                let id = |row: &u32| ids.get(*row as usize).copied().unwrap_or([0; N]);
                Self::Values(rows.iter().map(id).collect())
            }
        }
    }

    fn append(&mut self, len: usize, other: &Self, other_len: usize) {
        if matches!((&*self, other), (Self::None, Self::None)) {
            return;
        }
        if matches!(self, Self::None) {
            *self = Self::Values(vec![[0; N]; len]);
        }
        if let Self::Values(ids) = self {
            match other {
                Self::None => ids.resize(len + other_len, [0; N]),
                Self::Values(more) => ids.extend_from_slice(more),
            }
        }
    }
}

impl AttributeValues {
    /// The values at these places.
    #[must_use]
    pub fn take(&self, entries: &[u32]) -> Self {
        match self {
            Self::Null => Self::Null,
            Self::Text(texts) => Self::Text(texts.take(entries)),
            Self::Int(ints) => Self::Int(ints.take(entries)),
            Self::Float(floats) => {
                let value = |at: &u32| floats.get(*at as usize).copied().unwrap_or(0.0);
                Self::Float(entries.iter().map(value).collect())
            }
            Self::Bool(ints) => Self::Bool(ints.take(entries)),
            Self::Bytes(bytes) => Self::Bytes(bytes.take(entries)),
            Self::Nested(bytes) => Self::Nested(bytes.take(entries)),
        }
    }

    /// A number for the type.
    fn type_number(&self) -> u8 {
        match self {
            Self::Null => 0,
            Self::Text(_) => 1,
            Self::Int(_) => 2,
            Self::Float(_) => 3,
            Self::Bool(_) => 4,
            Self::Bytes(_) => 5,
            Self::Nested(_) => 6,
        }
    }

    fn append(&mut self, len: usize, other: &Self, other_len: usize) {
        match (self, other) {
            (Self::Text(a), Self::Text(b))
            | (Self::Bytes(a), Self::Bytes(b))
            | (Self::Nested(a), Self::Nested(b)) => a.append(len, b, other_len),
            (Self::Int(a), Self::Int(b)) | (Self::Bool(a), Self::Bool(b)) => {
                a.append(len, b, other_len);
            }
            (Self::Float(a), Self::Float(b)) => a.extend_from_slice(b),
            (Self::Null, Self::Null) => {}
            _ => debug_assert!(false, "bug: columns of different types"),
        }
    }
}

impl AttributeColumn {
    /// Values held; `rows` is the number of rows in the block.
    #[must_use]
    pub fn len(&self, rows: usize) -> usize {
        self.rows.as_ref().map_or(rows, Vec::len)
    }

    /// The column of a block that has these rows, in this order. `places` says for each row of the old
    /// block where it goes, [`GONE`] for nowhere.
    fn take(&self, rows: &[u32], places: &[u32]) -> Option<Self> {
        let Some(with_key) = &self.rows else {
            let position = |row: &u32| self.positions.get(*row as usize).copied();
            return Some(Self {
                key: Arc::clone(&self.key),
                rows: None,
                values: self.values.take(rows),
                positions: rows.iter().filter_map(position).collect(),
            });
        };
        let mut taken: Vec<(u32, u32)> = Vec::new();
        for (entry, row) in with_key.iter().enumerate() {
            let place = places.get(*row as usize).copied().unwrap_or(GONE);
            if place != GONE {
                taken.push((place, entry as u32));
            }
        }
        if taken.is_empty() {
            return None;
        }
        // Entries of a repeated key stay in their order.
        if !taken.is_sorted() {
            taken.sort_unstable();
        }
        let entries: Vec<u32> = taken.iter().map(|(_, entry)| *entry).collect();
        let position = |entry: &u32| self.positions.get(*entry as usize).copied();
        Some(Self {
            key: Arc::clone(&self.key),
            rows: Some(taken.iter().map(|(place, _)| *place).collect()),
            values: self.values.take(&entries),
            positions: entries.iter().filter_map(position).collect(),
        })
    }
}

/// A row that is not taken.
const GONE: u32 = u32::MAX;

fn take_attributes(
    columns: &[AttributeColumn],
    count: usize,
    rows: &[u32],
) -> Vec<AttributeColumn> {
    if columns.is_empty() {
        return Vec::new();
    }
    let mut places = vec![GONE; count];
    for (place, row) in rows.iter().enumerate() {
        if let Some(at) = places.get_mut(*row as usize) {
            *at = place as u32;
        }
    }
    columns
        .iter()
        .filter_map(|column| column.take(rows, &places))
        .collect()
}

fn append_attributes(
    columns: &mut Vec<AttributeColumn>,
    len: usize,
    others: &[AttributeColumn],
    other_len: usize,
) {
    let same = |a: &AttributeColumn, b: &AttributeColumn| {
        a.values.type_number() == b.values.type_number() && a.key == b.key
    };
    if columns.len() == others.len() && columns.iter().zip(others).all(|(a, b)| same(a, b)) {
        for (column, other) in columns.iter_mut().zip(others) {
            append_column(column, len, other, other_len);
        }
        return;
    }
    let mut places: HashMap<(Arc<str>, u8), usize> = HashMap::new();
    for (place, column) in columns.iter().enumerate() {
        places.insert(
            (Arc::clone(&column.key), column.values.type_number()),
            place,
        );
    }
    for column in columns.iter_mut() {
        // What the other block lacks stands in no row of it.
        column.rows.get_or_insert_with(|| (0..len as u32).collect());
    }
    for other in others {
        let known = places.get(&(Arc::clone(&other.key), other.values.type_number()));
        match known.and_then(|place| columns.get_mut(*place)) {
            Some(column) => append_column(column, len, other, other_len),
            None => {
                let shifted = |row: u32| row + len as u32;
                let rows = match &other.rows {
                    Some(rows) => rows.iter().map(|row| shifted(*row)).collect(),
                    None => (0..other_len as u32).map(shifted).collect(),
                };
                columns.push(AttributeColumn {
                    rows: Some(rows),
                    ..other.clone()
                });
            }
        }
    }
}

fn append_column(
    column: &mut AttributeColumn,
    len: usize,
    other: &AttributeColumn,
    other_len: usize,
) {
    let (held, more) = (column.len(len), other.len(other_len));
    if column.rows.is_some() || other.rows.is_some() {
        let rows = column.rows.get_or_insert_with(|| (0..len as u32).collect());
        match &other.rows {
            Some(others) => rows.extend(others.iter().map(|row| row + len as u32)),
            None => rows.extend((0..other_len).map(|row| (row + len) as u32)),
        }
    }
    column.values.append(held, &other.values, more);
    column.positions.extend_from_slice(&other.positions);
}

impl Nested {
    /// What these rows have.
    #[must_use]
    pub fn take(&self, rows: &[u32]) -> Self {
        if self.ends.is_empty() {
            return Self::default();
        }
        let mut items = Vec::new();
        let mut ends = Vec::with_capacity(rows.len());
        for row in rows {
            items.extend(self.of(*row as usize).map(|item| item as u32));
            ends.push(items.len() as u32);
        }
        if items.is_empty() {
            return Self::default();
        }
        let count = self.ends.last().map_or(0, |end| *end as usize);
        let after = |item: &u32| self.after_start.get(*item as usize).copied();
        let ids = |item: &u32| self.ids.get(*item as usize).copied();
        Self {
            ends,
            after_start: items.iter().filter_map(after).collect(),
            name: self.name.take(&items),
            ids: items.iter().filter_map(ids).collect(),
            attributes: take_attributes(&self.attributes, count, &items),
        }
    }

    fn append(&mut self, len: usize, other: &Self, other_len: usize) {
        if self.ends.is_empty() && other.ends.is_empty() {
            return;
        }
        self.ends.resize(len, 0);
        let items = self.ends.last().copied().unwrap_or(0);
        let end = |row: usize| other.ends.get(row).copied().unwrap_or(0) + items;
        self.ends.extend((0..other_len).map(end));
        let more = other.ends.last().map_or(0, |end| *end as usize);
        let items = items as usize;
        self.name.append(items, &other.name, more);
        append_attributes(&mut self.attributes, items, &other.attributes, more);
        self.after_start.extend_from_slice(&other.after_start);
        self.ids.extend_from_slice(&other.ids);
    }
}

fn take_times(times: &[i64], rows: &[u32]) -> Vec<i64> {
    let time = |row: &u32| times.get(*row as usize).copied().unwrap_or(0);
    rows.iter().map(time).collect()
}

impl LogBlock {
    /// A block of these rows, each at most once, in this order.
    #[must_use]
    pub fn take(&self, rows: &[u32]) -> Self {
        Self {
            rows: rows.len(),
            streams: Arc::clone(&self.streams),
            stream: self.stream.take(rows),
            time: take_times(&self.time, rows),
            observed_time: self.observed_time.take(rows),
            severity: self.severity.take(rows),
            severity_text: self.severity_text.take(rows),
            body_kind: self.body_kind.take(rows),
            body: self.body.take(rows),
            body_size: self.body_size.take(rows),
            trace_id: self.trace_id.take(rows),
            span_id: self.span_id.take(rows),
            event_name: self.event_name.take(rows),
            attributes: take_attributes(&self.attributes, self.rows, rows),
            fields: self.fields.as_ref().map(|fields| fields.take(rows)),
        }
    }

    /// Puts the rows of a block of the same source, read for the same request, behind those here.
    ///
    /// # Panics
    /// When the blocks do not share their streams.
    pub fn append(&mut self, other: &Self) {
        assert!(
            Arc::ptr_eq(&self.streams, &other.streams),
            "bug: blocks of two sources put together"
        );
        let (len, more) = (self.rows, other.rows);
        self.rows += more;
        self.stream.append(len, &other.stream, more);
        self.time.extend_from_slice(&other.time);
        self.observed_time.append(len, &other.observed_time, more);
        self.severity.append(len, &other.severity, more);
        self.severity_text.append(len, &other.severity_text, more);
        self.body_kind.append(len, &other.body_kind, more);
        self.body.append(len, &other.body, more);
        self.body_size.append(len, &other.body_size, more);
        self.trace_id.append(len, &other.trace_id, more);
        self.span_id.append(len, &other.span_id, more);
        self.event_name.append(len, &other.event_name, more);
        append_attributes(&mut self.attributes, len, &other.attributes, more);
        BodyFields::append(&mut self.fields, len, other.fields.as_ref(), more);
    }
}

impl SpanBlock {
    /// A block of these rows, each at most once, in this order.
    #[must_use]
    pub fn take(&self, rows: &[u32]) -> Self {
        Self {
            rows: rows.len(),
            streams: Arc::clone(&self.streams),
            stream: self.stream.take(rows),
            trace_id: self.trace_id.take(rows),
            span_id: self.span_id.take(rows),
            parent_span_id: self.parent_span_id.take(rows),
            trace_state: self.trace_state.take(rows),
            name: self.name.take(rows),
            kind: self.kind.take(rows),
            time: take_times(&self.time, rows),
            duration: self.duration.take(rows),
            status: self.status.take(rows),
            status_message: self.status_message.take(rows),
            attributes: take_attributes(&self.attributes, self.rows, rows),
            events: self.events.take(rows),
            links: self.links.take(rows),
        }
    }

    /// Puts the rows of a block of the same source, read for the same request, behind those here.
    ///
    /// # Panics
    /// When the blocks do not share their streams.
    pub fn append(&mut self, other: &Self) {
        assert!(
            Arc::ptr_eq(&self.streams, &other.streams),
            "bug: blocks of two sources put together"
        );
        let (len, more) = (self.rows, other.rows);
        self.rows += more;
        self.stream.append(len, &other.stream, more);
        self.trace_id.append(len, &other.trace_id, more);
        self.span_id.append(len, &other.span_id, more);
        self.parent_span_id.append(len, &other.parent_span_id, more);
        self.trace_state.append(len, &other.trace_state, more);
        self.name.append(len, &other.name, more);
        self.kind.append(len, &other.kind, more);
        self.time.extend_from_slice(&other.time);
        self.duration.append(len, &other.duration, more);
        self.status.append(len, &other.status, more);
        self.status_message.append(len, &other.status_message, more);
        append_attributes(&mut self.attributes, len, &other.attributes, more);
        self.events.append(len, &other.events, more);
        self.links.append(len, &other.links, more);
    }
}
