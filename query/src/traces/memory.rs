//! Spans in memory as a source: the plainest possible reading of what a scan means. Tests compare
//! with it; nothing here is fast.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use chronolith_engine::codec::strings::Strings;
use chronolith_engine::model::{AttributeValue, Attributes, Span, Stream};
use chronolith_engine::rows::{
    AttributeColumn, AttributeScope, AttributeValues, IdColumn, IntColumn, Nested, RowOrder,
    SCOPE_NAME, SCOPE_VERSION, SpanBlock, SpanCondition, SpanScanRequest, Streams, TextColumn,
    ValueTest,
};
use chronolith_engine::{EngineError, RequestContext};

use super::source::{SpanBlocks, SpanSource};

/// Spans with their streams.
#[derive(Debug, Clone)]
pub struct MemorySpans {
    streams: Vec<Arc<Stream>>,
    spans: Vec<(u32, Span)>,
    block_rows: usize,
}

impl Default for MemorySpans {
    fn default() -> Self {
        Self {
            streams: Vec::new(),
            spans: Vec::new(),
            block_rows: 1024,
        }
    }
}

impl MemorySpans {
    /// No spans; blocks of at most that many rows.
    #[must_use]
    pub fn with_block_rows(block_rows: usize) -> Self {
        Self {
            block_rows: block_rows.max(1),
            ..Self::default()
        }
    }

    /// Adds spans of one stream.
    pub fn add(&mut self, stream: Stream, spans: Vec<Span>) {
        let number = self.streams.len() as u32;
        self.streams.push(Arc::new(stream));
        self.spans
            .extend(spans.into_iter().map(|span| (number, span)));
    }

    /// All spans with their streams.
    pub fn rows(&self) -> impl Iterator<Item = (&Arc<Stream>, &Span)> {
        self.spans
            .iter()
            .filter_map(|(number, span)| Some((self.streams.get(*number as usize)?, span)))
    }
}

impl SpanSource for MemorySpans {
    fn scan(
        &self,
        context: &RequestContext,
        request: &SpanScanRequest,
    ) -> Result<SpanBlocks<'_>, EngineError> {
        let range = request.range;
        let mut found: Vec<&(u32, Span)> = self
            .spans
            .iter()
            .filter(|(number, span)| {
                let stream = &self.streams[*number as usize];
                range.contains(span.time)
                    && request
                        .conditions
                        .iter()
                        .all(|test| passes(test, stream, span))
            })
            .collect();
        match request.order {
            RowOrder::Any => found.sort_by_key(|(_, span)| (span.trace_id, span.time)),
            RowOrder::OldestFirst => found.sort_by_key(|(_, span)| span.time),
            RowOrder::NewestFirst => found.sort_by_key(|(_, span)| std::cmp::Reverse(span.time)),
        }
        found.truncate(request.limit.unwrap_or(usize::MAX));
        let streams = Arc::new(Streams::of(&self.streams));
        let blocks: Vec<_> = found
            .chunks(self.block_rows)
            .map(|rows| block(rows, &streams))
            .collect();
        let context = context.clone();
        Ok(Box::new(blocks.into_iter().map(move |block| {
            context.check()?;
            Ok(block)
        })))
    }
}

/// The value of a key; of repeated ones the last.
fn find<'a>(attributes: &'a Attributes, key: &str) -> Option<&'a AttributeValue> {
    let mut of_key = attributes.iter().rev().filter(|(name, _)| name == key);
    of_key.next().map(|(_, value)| value)
}

/// Whether a span passes a condition.
#[must_use]
pub fn passes(condition: &SpanCondition, stream: &Stream, span: &Span) -> bool {
    match condition {
        SpanCondition::Trace(ids) => ids.contains(&span.trace_id),
        SpanCondition::Name(test) => test.passes(span.name.as_bytes()),
        SpanCondition::Kind(bits) => bits & (1 << span.kind as u8) != 0,
        SpanCondition::Status(bits) => bits & (1 << span.status as u8) != 0,
        SpanCondition::StatusMessage(test) => test.passes(span.status_message.as_bytes()),
        SpanCondition::Duration(range) => range.contains(&span.duration_ns),
        SpanCondition::Root => span.parent_span_id.is_none(),
        SpanCondition::Attribute { scope, key, test } => match scope {
            AttributeScope::Row => value_passes(test, find(&span.attributes, key)),
            AttributeScope::Resource => value_passes(test, find(&stream.resource, key)),
            AttributeScope::Instrumentation => {
                let text = |text: &str| AttributeValue::String(text.to_owned());
                let named = match &**key {
                    SCOPE_NAME => Some(&stream.scope.name),
                    SCOPE_VERSION => Some(&stream.scope.version),
                    _ => None,
                };
                match named {
                    Some(name) => {
                        value_passes(test, Some(&text(name)).filter(|_| !name.is_empty()))
                    }
                    None => value_passes(test, find(&stream.scope.attributes, key)),
                }
            }
            AttributeScope::Event => {
                let mut events = span.events.iter();
                events.any(|event| value_passes(test, find(&event.attributes, key)))
            }
            AttributeScope::Link => {
                let mut links = span.links.iter();
                links.any(|link| value_passes(test, find(&link.attributes, key)))
            }
        },
        SpanCondition::Any(conditions) => conditions.iter().any(|c| passes(c, stream, span)),
        SpanCondition::All(conditions) => conditions.iter().all(|c| passes(c, stream, span)),
    }
}

fn value_passes(test: &ValueTest, value: Option<&AttributeValue>) -> bool {
    match (test, value) {
        (ValueTest::Present, value) => value.is_some(),
        (ValueTest::Absent, value) => value.is_none(),
        (ValueTest::Text(test), Some(AttributeValue::String(text))) => test.passes(text.as_bytes()),
        (ValueTest::Bool(wanted), Some(AttributeValue::Bool(truth))) => wanted == truth,
        (ValueTest::Number { min, max, negated }, Some(value)) => {
            let number = match value {
                AttributeValue::Int(n) => *n as f64,
                AttributeValue::Float(x) => *x,
                _ => return false,
            };
            let above = min.is_none_or(|(m, inside)| number > m || (inside && number == m));
            let below = max.is_none_or(|(m, inside)| number < m || (inside && number == m));
            (above && below) != *negated
        }
        _ => false,
    }
}

fn block(rows: &[&(u32, Span)], streams: &Arc<Streams>) -> SpanBlock {
    let spans = || rows.iter().map(|(_, span)| span);
    let ints = |of: fn(&Span) -> i64| IntColumn::Values(spans().map(of).collect());
    let text = |of: fn(&Span) -> &str| dictionary(spans().map(of));
    SpanBlock {
        rows: rows.len(),
        streams: Arc::clone(streams),
        stream: IntColumn::Values(rows.iter().map(|(n, _)| i64::from(*n)).collect()),
        trace_id: IdColumn::Values(spans().map(|span| span.trace_id.0).collect()),
        span_id: IdColumn::Values(spans().map(|span| span.span_id.0).collect()),
        parent_span_id: IdColumn::Values(
            spans()
                .map(|span| span.parent_span_id.map_or([0; 8], |id| id.0))
                .collect(),
        ),
        trace_state: text(|span| &span.trace_state),
        name: text(|span| &span.name),
        kind: ints(|span| span.kind as i64),
        time: spans().map(|span| span.time.0).collect(),
        duration: ints(|span| span.duration_ns),
        status: ints(|span| span.status as i64),
        status_message: text(|span| &span.status_message),
        attributes: attribute_columns(spans().map(|span| &span.attributes), rows.len()),
        events: nested(spans().map(|span| span.events.len()), |nested| {
            let events = || spans().flat_map(|span| span.events.iter().map(move |e| (span, e)));
            nested.after_start = events()
                .map(|(s, e)| e.time.0.wrapping_sub(s.time.0))
                .collect();
            nested.name = dictionary(events().map(|(_, event)| event.name.as_str()));
            let count = events().count();
            nested.attributes = attribute_columns(events().map(|(_, e)| &e.attributes), count);
        }),
        links: nested(spans().map(|span| span.links.len()), |nested| {
            let links = || spans().flat_map(|span| span.links.iter());
            nested.ids = links()
                .map(|link| (link.trace_id.0, link.span_id.0))
                .collect();
            let count = links().count();
            nested.attributes = attribute_columns(links().map(|link| &link.attributes), count);
        }),
    }
}

fn nested(counts: impl Iterator<Item = usize>, fill: impl FnOnce(&mut Nested)) -> Nested {
    let mut end = 0;
    let mut nested = Nested {
        ends: counts
            .map(|count| {
                end += count as u32;
                end
            })
            .collect(),
        ..Nested::default()
    };
    fill(&mut nested);
    nested
}

fn dictionary<'a>(texts: impl Iterator<Item = &'a str>) -> TextColumn {
    let mut values = Strings::default();
    let mut numbers = HashMap::new();
    let keys = texts
        .map(|text| {
            *numbers.entry(text).or_insert_with(|| {
                values.push(text.as_bytes());
                values.len() as i32 - 1
            })
        })
        .collect();
    TextColumn::Dictionary { keys, values }
}

/// Rows and values of one key and type.
type Gathered<'a> = BTreeMap<(&'a str, u8), Vec<(u32, &'a AttributeValue)>>;

fn attribute_columns<'a>(
    sets: impl Iterator<Item = &'a Attributes>,
    count: usize,
) -> Vec<AttributeColumn> {
    let mut gathered = Gathered::new();
    for (row, set) in sets.enumerate() {
        for (key, value) in set {
            // Of a repeated key the last counts.
            if find(set, key).is_some_and(|last| std::ptr::eq(last, value)) {
                let kind = match value {
                    AttributeValue::Null => 0,
                    AttributeValue::String(_) => 1,
                    AttributeValue::Int(_) => 2,
                    AttributeValue::Float(_) => 3,
                    AttributeValue::Bool(_) => 4,
                    AttributeValue::Bytes(_) => 5,
                    AttributeValue::Array(_) | AttributeValue::Map(_) => 6,
                };
                gathered
                    .entry((key, kind))
                    .or_default()
                    .push((row as u32, value));
            }
        }
    }
    gathered
        .into_iter()
        .map(|((key, kind), pairs)| AttributeColumn {
            key: key.into(),
            rows: (pairs.len() < count).then(|| pairs.iter().map(|(row, _)| *row).collect()),
            values: attribute_values(kind, &pairs),
            positions: Vec::new(),
        })
        .collect()
}

fn attribute_values(kind: u8, pairs: &[(u32, &AttributeValue)]) -> AttributeValues {
    let values = || pairs.iter().map(|(_, value)| *value);
    let int = |value: &AttributeValue| match value {
        AttributeValue::Int(n) => *n,
        AttributeValue::Bool(truth) => i64::from(*truth),
        _ => 0,
    };
    match kind {
        1 => AttributeValues::Text(dictionary(values().map(|value| match value {
            AttributeValue::String(text) => text.as_str(),
            _ => "",
        }))),
        2 => AttributeValues::Int(IntColumn::Values(values().map(int).collect())),
        3 => AttributeValues::Float(
            values()
                .map(|value| match value {
                    AttributeValue::Float(x) => *x,
                    _ => 0.0,
                })
                .collect(),
        ),
        4 => AttributeValues::Bool(IntColumn::Values(values().map(int).collect())),
        // Bytes, arrays and maps only tell that they are there.
        _ => AttributeValues::Null,
    }
}
