//! Which rows of a block or batch pass the conditions of a scan: column by column, so that a value
//! that many rows share is tested once, and text is searched as one run of bytes.
//!
//! A condition narrows a [`Selection`]; the cheapest ones should come first. What a condition needs
//! must be there: [`LogCondition::retain`] looks at columns of the block, and a column that was not
//! decoded reads as if nobody had written it.

use hashbrown::{HashMap, HashSet};

use super::attributes::RawAttributes;
use super::block::{
    AttributeColumn, AttributeValues, IdColumn, IntColumn, LogBlock, Nested, SpanBlock, TextColumn,
};
use super::log_batch::LogBatch;
use super::request::{AttributeScope, LogCondition, SpanCondition, TextTest, ValueTest};
use super::span_batch::SpanBatch;
use super::text_search;
use super::value::{NESTING_MAX, ValueRef, append_text, read_value};
use crate::codec::strings::Strings;
use crate::error::Result;
use crate::model::{AttributeValue, Attributes, Stream, TimeRange, TraceId};

/// Numbers of rows, ascending.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Selection {
    /// The rows from 0 up to this number.
    All(usize),
    /// These.
    Rows(Vec<u32>),
}

impl Selection {
    /// No rows.
    pub const NONE: Self = Self::Rows(Vec::new());

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::All(count) => *count,
            Self::Rows(rows) => rows.len(),
        }
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Keeps the rows for which `passes` answers true.
    #[inline]
    pub fn retain(&mut self, mut passes: impl FnMut(u32) -> bool) {
        match self {
            Self::All(count) => {
                let rows: Vec<u32> = (0..*count as u32).filter(|row| passes(*row)).collect();
                if rows.len() < *count {
                    *self = Self::Rows(rows);
                }
            }
            Self::Rows(rows) => rows.retain(|row| passes(*row)),
        }
    }

    /// Calls `each` with every row.
    #[inline]
    pub fn for_each(&self, mut each: impl FnMut(u32)) {
        match self {
            Self::All(count) => (0..*count as u32).for_each(each),
            Self::Rows(rows) => rows.iter().for_each(|row| each(*row)),
        }
    }

    /// The numbers.
    #[must_use]
    pub fn into_rows(self) -> Vec<u32> {
        match self {
            Self::All(count) => (0..count as u32).collect(),
            Self::Rows(rows) => rows,
        }
    }

    /// Takes rows away; `others` ascends.
    pub fn remove(&mut self, others: &[u32]) {
        if others.is_empty() {
            return;
        }
        let mut next = others.iter().peekable();
        self.retain(|row| {
            while next.next_if(|other| **other < row).is_some() {}
            next.peek().is_none_or(|other| **other != row)
        });
    }

    /// Keeps the rows that are also in `others`, which ascends.
    pub fn intersect(&mut self, others: &[u32]) {
        let mut next = others.iter().peekable();
        self.retain(|row| {
            while next.next_if(|other| **other < row).is_some() {}
            next.peek().is_some_and(|other| **other == row)
        });
    }

    /// Keeps the rows whose time lies in a range.
    pub fn retain_times(&mut self, times: &[i64], range: TimeRange) {
        let (start, end) = (range.start.0, range.end.0);
        self.retain(|row| {
            let time = times.get(row as usize).copied().unwrap_or(0);
            start <= time && time <= end
        });
    }

    /// Adds the rows of another selection of the same block.
    #[must_use]
    pub fn union(self, other: Self) -> Self {
        let (mut all, more) = match (self, other) {
            (Self::All(a), Self::All(b)) => return Self::All(a.max(b)),
            (Self::All(a), _) | (_, Self::All(a)) => return Self::All(a),
            (Self::Rows(a), Self::Rows(b)) => (a, b),
        };
        if all.is_empty() {
            return Self::Rows(more);
        }
        if !more.is_empty() {
            all.extend_from_slice(&more);
            all.sort_unstable();
            all.dedup();
        }
        Self::Rows(all)
    }
}

/// Text of rows, wherever it lies.
#[derive(Clone, Copy)]
pub(crate) enum Texts<'a> {
    Constant(&'a [u8]),
    Dictionary(&'a [i32], &'a Strings),
    Plain(&'a Strings),
}

impl<'a> Texts<'a> {
    pub(crate) fn of(column: &'a TextColumn) -> Self {
        match column {
            TextColumn::Constant(bytes) => Self::Constant(bytes),
            TextColumn::Dictionary { keys, values } => Self::Dictionary(keys, values),
            TextColumn::Plain(values) => Self::Plain(values),
        }
    }

    fn get(self, row: u32) -> &'a [u8] {
        let row = row as usize;
        match self {
            Self::Constant(bytes) => bytes,
            Self::Dictionary(keys, values) => {
                let key = keys.get(row).copied().unwrap_or(0);
                values.get(key as usize).unwrap_or(&[])
            }
            Self::Plain(values) => values.get(row).unwrap_or(&[]),
        }
    }

    /// Keeps the rows whose text passes.
    fn retain(self, test: &TextTest, rows: &mut Selection) {
        match self {
            Self::Constant(bytes) => {
                if !test.passes(bytes) {
                    *rows = Selection::NONE;
                }
            }
            Self::Dictionary(keys, values) => {
                // Tested when first met: with few rows left, most values are never looked at.
                let mut known: Vec<Option<bool>> = vec![None; values.len()];
                rows.retain(|row| {
                    let key = keys.get(row as usize).copied().unwrap_or(0) as usize;
                    let text = || test.passes(values.get(key).unwrap_or(&[]));
                    match known.get_mut(key) {
                        Some(known) => *known.get_or_insert_with(text),
                        None => text(),
                    }
                });
            }
            Self::Plain(values) => text_search::retain(values, test, rows),
        }
    }
}

/// Whole numbers of rows, wherever they lie.
#[derive(Clone, Copy)]
enum Ints<'a> {
    Constant(i64),
    Wide(&'a [i64]),
    Streams(&'a [u32]),
    Bytes(&'a [u8]),
}

impl<'a> Ints<'a> {
    fn of(column: &'a IntColumn) -> Self {
        match column {
            IntColumn::Constant(value) => Self::Constant(*value),
            IntColumn::Values(values) => Self::Wide(values),
        }
    }

    fn retain(self, rows: &mut Selection, mut passes: impl FnMut(i64) -> bool) {
        match self {
            Self::Constant(value) => {
                if !rows.is_empty() && !passes(value) {
                    *rows = Selection::NONE;
                }
            }
            Self::Wide(values) => {
                rows.retain(|row| passes(values.get(row as usize).copied().unwrap_or(0)));
            }
            Self::Streams(values) => {
                rows.retain(|row| passes(values.get(row as usize).copied().map_or(0, i64::from)));
            }
            Self::Bytes(values) => {
                rows.retain(|row| passes(values.get(row as usize).copied().map_or(0, i64::from)));
            }
        }
    }
}

/// Ids of rows, wherever they lie; an empty slice is a column that nobody wrote.
#[derive(Clone, Copy)]
struct Ids<'a, const N: usize>(&'a [[u8; N]]);

impl<'a, const N: usize> Ids<'a, N> {
    fn of(column: &'a IdColumn<N>) -> Self {
        match column {
            IdColumn::None => Self(&[]),
            IdColumn::Values(ids) => Self(ids),
        }
    }

    fn get(self, row: u32) -> [u8; N] {
        self.0.get(row as usize).copied().unwrap_or([0; N])
    }
}

fn retain_traces(ids: Ids<'_, 16>, traces: &[TraceId], rows: &mut Selection) {
    if let [one] = traces {
        return rows.retain(|row| ids.get(row) == one.0 && one.0 != [0; 16]);
    }
    let wanted: HashSet<[u8; 16]> = traces.iter().map(|id| id.0).collect();
    rows.retain(|row| {
        let id = ids.get(row);
        id != [0; 16] && wanted.contains(&id)
    });
}

impl ValueTest {
    /// Whether an attribute passes; `None` is a row that lacks it.
    #[must_use]
    pub fn passes(&self, value: Option<ValueRef<'_>>) -> bool {
        let Some(value) = value else {
            return matches!(self, Self::Absent);
        };
        match (self, value) {
            (Self::Present, _) => true,
            (Self::Absent, _) => false,
            (Self::Text(test), ValueRef::Str(text)) => test.passes(text.as_bytes()),
            (Self::Number { .. }, ValueRef::Int(number)) => self.passes_int(number),
            (Self::Number { .. }, ValueRef::Float(number)) => self.passes_float(number),
            (Self::Bool(wanted), ValueRef::Bool(truth)) => *wanted == truth,
            _ => false,
        }
    }

    fn passes_int(&self, number: i64) -> bool {
        let Self::Number { min, max, negated } = self else {
            return false;
        };
        let compare = |bound: f64| {
            // 2^63: whole bounds inside the range of i64 are compared exactly.
            if bound.fract() == 0.0
                && (-9.223_372_036_854_776e18..9.223_372_036_854_776e18).contains(&bound)
            {
                Some(number.cmp(&(bound as i64)))
            } else {
                (number as f64).partial_cmp(&bound)
            }
        };
        is_inside(*min, *max, compare) != *negated
    }

    fn passes_float(&self, number: f64) -> bool {
        let Self::Number { min, max, negated } = self else {
            return false;
        };
        // NaN is in no range, also in one without bounds.
        let inside = !number.is_nan() && is_inside(*min, *max, |bound| number.partial_cmp(&bound));
        inside != *negated
    }
}

fn is_inside(
    min: Option<(f64, bool)>,
    max: Option<(f64, bool)>,
    compare: impl Fn(f64) -> Option<std::cmp::Ordering>,
) -> bool {
    use std::cmp::Ordering::{Equal, Greater, Less};
    let above = min.is_none_or(|(bound, inside)| match compare(bound) {
        Some(Greater) => true,
        Some(Equal) => inside,
        _ => false,
    });
    let below = max.is_none_or(|(bound, inside)| match compare(bound) {
        Some(Less) => true,
        Some(Equal) => inside,
        _ => false,
    });
    above && below
}

/// A value as far as tests look at it: they tell of arrays and maps only that they are there.
fn tested(value: &AttributeValue) -> ValueRef<'_> {
    match value {
        AttributeValue::Null => ValueRef::Null,
        AttributeValue::String(text) => ValueRef::Str(text),
        AttributeValue::Int(number) => ValueRef::Int(*number),
        AttributeValue::Float(number) => ValueRef::Float(*number),
        AttributeValue::Bool(truth) => ValueRef::Bool(*truth),
        AttributeValue::Bytes(bytes) => ValueRef::Bytes(bytes),
        AttributeValue::Array(_) | AttributeValue::Map(_) => ValueRef::Nested(&[]),
    }
}

/// Whether the resource or the instrumentation scope of a stream passes a test.
#[must_use]
pub fn stream_passes(stream: &Stream, scope: AttributeScope, key: &str, test: &ValueTest) -> bool {
    let of = |all: &Attributes| {
        let found = all.iter().rev().find(|(name, _)| name == key);
        test.passes(found.map(|(_, value)| tested(value)))
    };
    let text = |text: &str| test.passes((!text.is_empty()).then_some(ValueRef::Str(text)));
    match (scope, key) {
        (AttributeScope::Resource, _) => of(&stream.resource),
        (AttributeScope::Instrumentation, SCOPE_NAME) => text(&stream.scope.name),
        (AttributeScope::Instrumentation, SCOPE_VERSION) => text(&stream.scope.version),
        (AttributeScope::Instrumentation, _) => of(&stream.scope.attributes),
        _ => test.passes(None),
    }
}

/// The key under which tests find the name of the instrumentation scope.
pub const SCOPE_NAME: &str = "otel.scope.name";
/// The key under which tests find the version of the instrumentation scope.
pub const SCOPE_VERSION: &str = "otel.scope.version";

/// Entries of a column that pass, as far as `among` (entries too) goes.
fn passing_entries(column: &AttributeColumn, test: &ValueTest, mut among: Selection) -> Selection {
    match (test, &column.values) {
        (ValueTest::Present, _) => {}
        (ValueTest::Text(test), AttributeValues::Text(texts)) => {
            Texts::of(texts).retain(test, &mut among);
        }
        (ValueTest::Number { .. }, AttributeValues::Int(ints)) => {
            Ints::of(ints).retain(&mut among, |number| test.passes_int(number));
        }
        (ValueTest::Number { .. }, AttributeValues::Float(floats)) => {
            let value = |at: u32| floats.get(at as usize).copied().unwrap_or(f64::NAN);
            among.retain(|at| test.passes_float(value(at)));
        }
        (ValueTest::Bool(wanted), AttributeValues::Bool(ints)) => {
            Ints::of(ints).retain(&mut among, |number| (number != 0) == *wanted);
        }
        _ => among = Selection::NONE,
    }
    among
}

/// Keeps the rows of which the attribute `key` among `columns` passes.
pub(crate) fn retain_attribute(
    columns: &[AttributeColumn],
    key: &str,
    test: &ValueTest,
    rows: &mut Selection,
) {
    let mut same = columns.iter().filter(|column| &*column.key == key);
    let (first, second) = (same.next(), same.next());
    let is_absent = matches!(test, ValueTest::Absent);
    match (first, second) {
        (None, _) if is_absent => {}
        (None, _) => *rows = Selection::NONE,
        (Some(one), None) => retain_in_one(one, test, rows),
        (Some(_), Some(_)) => {
            let all: Vec<_> = columns.iter().filter(|c| &*c.key == key).collect();
            rows.retain(|row| {
                // Of several columns with the row, the pair that stood last counts.
                let found = all.iter().filter_map(|column| {
                    let at = column.index_of(row)?;
                    Some((column.positions.get(at).copied(), column.value(at)))
                });
                test.passes(found.max_by_key(|(position, _)| *position).map(|f| f.1))
            });
        }
    }
}

fn retain_in_one(column: &AttributeColumn, test: &ValueTest, rows: &mut Selection) {
    let is_absent = matches!(test, ValueTest::Absent);
    let Some(with_key) = &column.rows else {
        if is_absent {
            *rows = Selection::NONE;
        } else {
            let among = std::mem::replace(rows, Selection::NONE);
            *rows = passing_entries(column, test, among);
        }
        return;
    };
    if is_absent {
        return rows.remove(with_key);
    }
    // With few rows left, only their entries are tested.
    let among = match rows {
        Selection::Rows(few) if few.len() * 8 < with_key.len() => {
            let entries = few.iter().filter_map(|row| column.index_of(*row));
            Selection::Rows(entries.map(|at| at as u32).collect())
        }
        _ => Selection::All(with_key.len()),
    };
    let is_last = |at: usize| with_key.get(at + 1) != with_key.get(at);
    let passing = passing_entries(column, test, among).into_rows().into_iter();
    let passing: Vec<u32> = passing
        .filter(|at| is_last(*at as usize))
        .filter_map(|at| with_key.get(at as usize).copied())
        .collect();
    rows.intersect(&passing);
}

/// Keeps the spans of which some event or link passes; for [`ValueTest::Absent`], those of which none
/// has the key.
fn retain_nested(nested: &Nested, key: &str, test: &ValueTest, rows: &mut Selection) {
    let is_absent = matches!(test, ValueTest::Absent);
    let wanted = if is_absent { &ValueTest::Present } else { test };
    let items = nested.ends.last().map_or(0, |end| *end as usize);
    let mut passing = Selection::All(items);
    retain_attribute(&nested.attributes, key, wanted, &mut passing);
    let passing = passing.into_rows();
    rows.retain(|row| {
        let of = nested.of(row as usize);
        let first = passing.partition_point(|item| (*item as usize) < of.start);
        let some = passing
            .get(first)
            .is_some_and(|item| (*item as usize) < of.end);
        some != is_absent
    });
}

/// The same over raw attribute sets.
fn some_passes<'a>(
    sets: impl Iterator<Item = RawAttributes<'a>>,
    key: &str,
    test: &ValueTest,
) -> bool {
    let mut values = sets.map(|set| set.get(key));
    match test {
        ValueTest::Absent => values.all(|value| value.is_none()),
        _ => values.any(|value| test.passes(value)),
    }
}

/// Where a condition finds what it tests: a block or a batch.
trait Source {
    fn streams(&self) -> Ints<'_>;
    fn stream_passes(&self, number: u32, test: &dyn Fn(&Stream) -> bool) -> Result<bool>;
    fn trace_id(&self) -> Ids<'_, 16>;
    fn attribute(&self, scope: AttributeScope, key: &str, test: &ValueTest, rows: &mut Selection);
}

/// Keeps the rows of streams that pass; each stream is tested once.
fn retain_streams(
    source: &impl Source,
    test: &dyn Fn(&Stream) -> bool,
    rows: &mut Selection,
) -> Result<()> {
    let mut known: HashMap<i64, bool> = HashMap::new();
    let mut last = None;
    let mut failed = None;
    source.streams().retain(rows, |number| {
        if let Some((same, passes)) = last
            && same == number
        {
            return passes;
        }
        let passes = *known.entry(number).or_insert_with(|| {
            let tested = source.stream_passes(number as u32, test);
            tested.unwrap_or_else(|error| {
                failed = Some(error);
                false
            })
        });
        last = Some((number, passes));
        passes
    });
    failed.map_or(Ok(()), Err)
}

fn retain_any_attribute(
    source: &impl Source,
    scope: AttributeScope,
    key: &str,
    test: &ValueTest,
    rows: &mut Selection,
) -> Result<()> {
    match scope {
        AttributeScope::Resource | AttributeScope::Instrumentation => retain_streams(
            source,
            &|stream| stream_passes(stream, scope, key, test),
            rows,
        ),
        _ => {
            source.attribute(scope, key, test, rows);
            Ok(())
        }
    }
}

trait LogSource: Source {
    fn body(&self) -> (Texts<'_>, Ints<'_>);
    fn severity(&self) -> Ints<'_>;
    fn severity_text(&self) -> Texts<'_>;
    fn event_name(&self) -> Texts<'_>;
}

fn retain_log(
    source: &impl LogSource,
    condition: &LogCondition,
    rows: &mut Selection,
) -> Result<()> {
    if rows.is_empty() {
        return Ok(());
    }
    match condition {
        LogCondition::Body(test) => {
            let (texts, kinds) = source.body();
            let mut values = rows.clone();
            kinds.retain(&mut values, |kind| kind != 0);
            if values.is_empty() {
                texts.retain(test, rows);
                return Ok(());
            }
            kinds.retain(rows, |kind| kind == 0);
            texts.retain(test, rows);
            let mut text = Vec::new();
            values.retain(|row| {
                text.clear();
                let value = read_value(texts.get(row), &mut 0, NESTING_MAX);
                append_text(&value.unwrap_or(AttributeValue::Null), &mut text);
                test.passes(&text)
            });
            let passing = std::mem::replace(rows, Selection::NONE);
            *rows = passing.union(values);
        }
        LogCondition::Severity(range) => {
            let range = i64::from(*range.start())..=i64::from(*range.end());
            source
                .severity()
                .retain(rows, |number| range.contains(&number));
        }
        LogCondition::SeverityText(test) => source.severity_text().retain(test, rows),
        LogCondition::Trace(ids) => retain_traces(source.trace_id(), ids, rows),
        LogCondition::EventName(test) => source.event_name().retain(test, rows),
        LogCondition::Attribute { scope, key, test } => {
            retain_any_attribute(source, *scope, key, test, rows)?;
        }
    }
    Ok(())
}

trait SpanSource: Source {
    fn name(&self) -> Texts<'_>;
    fn kind(&self) -> Ints<'_>;
    fn status(&self) -> Ints<'_>;
    fn status_message(&self) -> Texts<'_>;
    fn duration(&self) -> Ints<'_>;
    fn parent(&self) -> Ids<'_, 8>;
}

fn retain_span(
    source: &impl SpanSource,
    condition: &SpanCondition,
    rows: &mut Selection,
) -> Result<()> {
    if rows.is_empty() {
        return Ok(());
    }
    // Numbers that are no kind or status pass no mask.
    let is_in = |mask: u8| move |number: i64| (0..8).contains(&number) && mask & (1 << number) != 0;
    match condition {
        SpanCondition::Trace(ids) => retain_traces(source.trace_id(), ids, rows),
        SpanCondition::Name(test) => source.name().retain(test, rows),
        SpanCondition::Kind(mask) => source.kind().retain(rows, is_in(*mask)),
        SpanCondition::Status(mask) => source.status().retain(rows, is_in(*mask)),
        SpanCondition::StatusMessage(test) => source.status_message().retain(test, rows),
        SpanCondition::Duration(range) => {
            source
                .duration()
                .retain(rows, |length| range.contains(&length));
        }
        SpanCondition::Root => {
            let parents = source.parent();
            rows.retain(|row| parents.get(row) == [0; 8]);
        }
        SpanCondition::Attribute { scope, key, test } => {
            retain_any_attribute(source, *scope, key, test, rows)?;
        }
        SpanCondition::All(all) => {
            for condition in all {
                retain_span(source, condition, rows)?;
            }
        }
        SpanCondition::Any(any) => {
            let mut passing = Selection::NONE;
            for condition in any {
                let mut found = rows.clone();
                retain_span(source, condition, &mut found)?;
                passing = passing.union(found);
            }
            *rows = passing;
        }
    }
    Ok(())
}

impl LogCondition {
    /// Keeps the rows of a block that pass.
    ///
    /// # Errors
    /// Damage in the streams of the block.
    pub fn retain(&self, block: &LogBlock, rows: &mut Selection) -> Result<()> {
        retain_log(block, self, rows)
    }

    /// Keeps the rows of a batch that pass.
    pub fn retain_batch(&self, batch: &LogBatch, rows: &mut Selection) {
        // Streams of a batch are in memory: there is nothing to fail.
        let _ = retain_log(batch, self, rows);
    }
}

impl SpanCondition {
    /// Keeps the rows of a block that pass.
    ///
    /// # Errors
    /// Damage in the streams of the block.
    pub fn retain(&self, block: &SpanBlock, rows: &mut Selection) -> Result<()> {
        retain_span(block, self, rows)
    }

    /// Keeps the rows of a batch that pass.
    pub fn retain_batch(&self, batch: &SpanBatch, rows: &mut Selection) {
        // Streams of a batch are in memory: there is nothing to fail.
        let _ = retain_span(batch, self, rows);
    }
}

impl Source for LogBlock {
    fn streams(&self) -> Ints<'_> {
        Ints::of(&self.stream)
    }

    fn stream_passes(&self, number: u32, test: &dyn Fn(&Stream) -> bool) -> Result<bool> {
        Ok(test(&*self.streams.get(number)?))
    }

    fn trace_id(&self) -> Ids<'_, 16> {
        Ids::of(&self.trace_id)
    }

    fn attribute(&self, scope: AttributeScope, key: &str, test: &ValueTest, rows: &mut Selection) {
        match scope {
            AttributeScope::Row => retain_attribute(&self.attributes, key, test, rows),
            _ if test.passes(None) => {}
            _ => *rows = Selection::NONE,
        }
    }
}

impl LogSource for LogBlock {
    fn body(&self) -> (Texts<'_>, Ints<'_>) {
        (Texts::of(&self.body), Ints::of(&self.body_kind))
    }

    fn severity(&self) -> Ints<'_> {
        Ints::of(&self.severity)
    }

    fn severity_text(&self) -> Texts<'_> {
        Texts::of(&self.severity_text)
    }

    fn event_name(&self) -> Texts<'_> {
        Texts::of(&self.event_name)
    }
}

impl Source for LogBatch {
    fn streams(&self) -> Ints<'_> {
        Ints::Streams(&self.columns.stream)
    }

    fn stream_passes(&self, number: u32, test: &dyn Fn(&Stream) -> bool) -> Result<bool> {
        Ok(self
            .streams
            .get(number as usize)
            .is_some_and(|stream| test(stream)))
    }

    fn trace_id(&self) -> Ids<'_, 16> {
        Ids(&self.columns.trace_id)
    }

    fn attribute(&self, scope: AttributeScope, key: &str, test: &ValueTest, rows: &mut Selection) {
        match scope {
            AttributeScope::Row if self.keys.find(key).is_some() => {
                rows.retain(|row| test.passes(self.attributes(row as usize).get(key)));
            }
            _ if test.passes(None) => {}
            _ => *rows = Selection::NONE,
        }
    }
}

impl LogSource for LogBatch {
    fn body(&self) -> (Texts<'_>, Ints<'_>) {
        (
            Texts::Plain(&self.columns.body),
            Ints::Bytes(&self.columns.body_kind),
        )
    }

    fn severity(&self) -> Ints<'_> {
        Ints::Bytes(&self.columns.severity)
    }

    fn severity_text(&self) -> Texts<'_> {
        Texts::Plain(&self.columns.severity_text)
    }

    fn event_name(&self) -> Texts<'_> {
        Texts::Plain(&self.columns.event_name)
    }
}

impl Source for SpanBlock {
    fn streams(&self) -> Ints<'_> {
        Ints::of(&self.stream)
    }

    fn stream_passes(&self, number: u32, test: &dyn Fn(&Stream) -> bool) -> Result<bool> {
        Ok(test(&*self.streams.get(number)?))
    }

    fn trace_id(&self) -> Ids<'_, 16> {
        Ids::of(&self.trace_id)
    }

    fn attribute(&self, scope: AttributeScope, key: &str, test: &ValueTest, rows: &mut Selection) {
        match scope {
            AttributeScope::Row => retain_attribute(&self.attributes, key, test, rows),
            AttributeScope::Event => retain_nested(&self.events, key, test, rows),
            AttributeScope::Link => retain_nested(&self.links, key, test, rows),
            AttributeScope::Resource | AttributeScope::Instrumentation => {}
        }
    }
}

impl SpanSource for SpanBlock {
    fn name(&self) -> Texts<'_> {
        Texts::of(&self.name)
    }

    fn kind(&self) -> Ints<'_> {
        Ints::of(&self.kind)
    }

    fn status(&self) -> Ints<'_> {
        Ints::of(&self.status)
    }

    fn status_message(&self) -> Texts<'_> {
        Texts::of(&self.status_message)
    }

    fn duration(&self) -> Ints<'_> {
        Ints::of(&self.duration)
    }

    fn parent(&self) -> Ids<'_, 8> {
        Ids::of(&self.parent_span_id)
    }
}

impl Source for SpanBatch {
    fn streams(&self) -> Ints<'_> {
        Ints::Streams(&self.columns.stream)
    }

    fn stream_passes(&self, number: u32, test: &dyn Fn(&Stream) -> bool) -> Result<bool> {
        Ok(self
            .streams
            .get(number as usize)
            .is_some_and(|stream| test(stream)))
    }

    fn trace_id(&self) -> Ids<'_, 16> {
        Ids(&self.columns.trace_id)
    }

    fn attribute(&self, scope: AttributeScope, key: &str, test: &ValueTest, rows: &mut Selection) {
        if self.keys.find(key).is_none() {
            if !test.passes(None) {
                *rows = Selection::NONE;
            }
            return;
        }
        rows.retain(|row| {
            let row = row as usize;
            match scope {
                AttributeScope::Event => {
                    some_passes(self.events(row).map(|event| event.2), key, test)
                }
                AttributeScope::Link => some_passes(self.links(row).map(|link| link.2), key, test),
                _ => test.passes(self.attributes(row).get(key)),
            }
        });
    }
}

impl SpanSource for SpanBatch {
    fn name(&self) -> Texts<'_> {
        Texts::Plain(&self.columns.name)
    }

    fn kind(&self) -> Ints<'_> {
        Ints::Bytes(&self.columns.kind)
    }

    fn status(&self) -> Ints<'_> {
        Ints::Bytes(&self.columns.status)
    }

    fn status_message(&self) -> Texts<'_> {
        Texts::Plain(&self.columns.status_message)
    }

    fn duration(&self) -> Ints<'_> {
        Ints::Wide(&self.columns.duration)
    }

    fn parent(&self) -> Ids<'_, 8> {
        Ids(&self.columns.parent_span_id)
    }
}
