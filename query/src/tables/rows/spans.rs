//! Table `spans`.

use std::sync::{Arc, LazyLock};

use arrow::array::{ArrayRef, Int64Array, ListArray, StructArray, TimestampNanosecondArray};
use arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef};
use chronolith_engine::model::Stream;
use chronolith_engine::rows::{
    AttributeChoice, AttributeScope, IdColumn, RowOrder, SpanBlock, SpanCondition, SpanScanRequest,
    ValueTest,
};
use chronolith_engine::{EngineError, SpanBlockScan};
use datafusion::error::Result;

use super::super::metrics::{label_type, labels_type, time_type};
use super::super::{Source, engine_error};
use super::columns::{self, StreamsOfRows};
use super::filters::{self, Ask, Place, PushOne, Pushed, Support};
use super::logs::attribute_test;
use super::text::{only_text_reads_as, push_owned};
use super::{Signal, run_id_of};

/// Spans as rows of SQL.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Spans;

/// By number, OTLP's order.
const KINDS: &[&str] = &[
    "unspecified",
    "internal",
    "server",
    "client",
    "producer",
    "consumer",
];
const STATES: &[&str] = &["unset", "ok", "error"];
const SERVICE: &str = "service.name";

fn event_fields() -> Fields {
    Fields::from(vec![
        Field::new("time", time_type(), false),
        Field::new("name", DataType::Utf8, false),
        Field::new("attributes", labels_type(), false),
    ])
}

fn link_fields() -> Fields {
    Fields::from(vec![
        Field::new("trace_id", DataType::Utf8, true),
        Field::new("span_id", DataType::Utf8, true),
        Field::new("attributes", labels_type(), false),
    ])
}

fn list_of(fields: Fields) -> Arc<Field> {
    Arc::new(Field::new("item", DataType::Struct(fields), false))
}

static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
    Arc::new(Schema::new(vec![
        Field::new("trace_id", DataType::Utf8, true),
        Field::new("span_id", DataType::Utf8, true),
        Field::new("parent_span_id", DataType::Utf8, true),
        Field::new("service", label_type(), true),
        Field::new("scope", label_type(), true),
        Field::new("name", label_type(), true),
        Field::new("kind", label_type(), true),
        Field::new("time", time_type(), false),
        Field::new("duration_ns", DataType::Int64, false),
        Field::new("status", label_type(), true),
        Field::new("status_message", DataType::Utf8, true),
        Field::new("attributes", labels_type(), false),
        Field::new("resource", labels_type(), false),
        Field::new("events", DataType::List(list_of(event_fields())), false),
        Field::new("links", DataType::List(list_of(link_fields())), false),
        Field::new("run_id", DataType::Utf8, true),
    ]))
});

fn push_one(place: Place<'_>, ask: Ask, pushed: &mut Pushed<SpanCondition>) -> Support {
    let Place { column, key } = place;
    let found = match (column, key) {
        ("attributes", Some(key)) => attribute(AttributeScope::Row, key, &ask),
        ("resource", Some(key)) => attribute(AttributeScope::Resource, key, &ask),
        ("service", None) => attribute(AttributeScope::Resource, SERVICE, &ask),
        (_, Some(_)) => None,
        ("trace_id", None) => {
            filters::traces(&ask).map(|ids| (SpanCondition::Trace(ids.into()), Support::Exact))
        }
        ("name", None) => filters::text_test(&ask)
            .map(|test| (SpanCondition::Name(test), filters::support_of(&ask))),
        ("status_message", None) => filters::text_test(&ask).map(|test| {
            (
                SpanCondition::StatusMessage(test),
                filters::support_of(&ask),
            )
        }),
        ("kind", None) => mask(&ask, KINDS).map(|m| (SpanCondition::Kind(m), Support::Exact)),
        ("status", None) => mask(&ask, STATES).map(|m| (SpanCondition::Status(m), Support::Exact)),
        ("duration_ns", None) => match ask {
            Ask::Between(low, high) => Some((SpanCondition::Duration(low..=high), Support::Exact)),
            _ => None,
        },
        ("parent_span_id", None) => match ask {
            Ask::IsNull => Some((SpanCondition::Root, Support::Exact)),
            _ => None,
        },
        _ => None,
    };
    match found {
        Some((condition, support)) => {
            pushed.conditions.push(condition);
            support
        }
        None => Support::Unsupported,
    }
}

/// Bits of the words asked for.
fn mask(ask: &Ask, words: &[&str]) -> Option<u8> {
    let bits = |passes: &dyn Fn(&str) -> bool| {
        let numbered = words.iter().enumerate();
        numbered.fold(0, |bits, (at, word)| bits | u8::from(passes(word)) << at)
    };
    let test = filters::text_test(ask)?;
    Some(bits(&|word| test.passes(word.as_bytes())))
}

/// A condition on an attribute. Numbers that read as the text asked for pass too: with that it is exact.
fn attribute(scope: AttributeScope, key: &str, ask: &Ask) -> Option<(SpanCondition, Support)> {
    let condition = |test| SpanCondition::Attribute {
        scope,
        key: key.into(),
        test,
    };
    if let Ask::Text(texts) = ask
        && let [text] = texts.as_slice()
        && !only_text_reads_as(text)
        && let Ok(number) = text.parse::<i64>()
        && number.to_string() == *text
        // Beyond this, other integers compare as equal doubles.
        && number.unsigned_abs() < 1 << 53
    {
        let equal = ValueTest::Number {
            min: Some((number as f64, true)),
            max: Some((number as f64, true)),
            negated: false,
        };
        let text = ValueTest::Text(filters::text_test(ask)?);
        let any = SpanCondition::Any(vec![condition(equal), condition(text)]);
        return Some((any, Support::Inexact));
    }
    let (test, support) = attribute_test(ask)?;
    Some((condition(test), support))
}

impl Signal for Spans {
    type Block = SpanBlock;
    type Condition = SpanCondition;
    type Request = SpanScanRequest;
    type Scan = SpanBlockScan;

    fn schema(&self) -> SchemaRef {
        Arc::clone(&SCHEMA)
    }

    fn push_one(&self) -> PushOne<SpanCondition> {
        push_one
    }

    fn request(
        &self,
        source: &Source,
        pushed: Pushed<SpanCondition>,
        columns: &[usize],
    ) -> SpanScanRequest {
        let mut request = SpanScanRequest::new(pushed.matchers, pushed.range);
        request.conditions = pushed.conditions;
        let schema = self.schema();
        for column in columns {
            let wanted = &mut request.columns;
            match schema.field(*column).name().as_str() {
                "trace_id" => wanted.trace_id = true,
                "span_id" | "parent_span_id" => wanted.span_ids = true,
                "name" => wanted.name = true,
                "kind" => wanted.kind = true,
                "duration_ns" => wanted.duration = true,
                "status" => wanted.status = true,
                "status_message" => wanted.details = true,
                "events" => wanted.events = true,
                "links" => wanted.links = true,
                "attributes" => request.attributes = AttributeChoice::All,
                "run_id" if request.attributes == AttributeChoice::None => {
                    request.attributes = source.run_id_keys();
                }
                _ => {}
            }
        }
        request
    }

    fn order(request: &mut SpanScanRequest, order: RowOrder, limit: Option<usize>) {
        request.order = order;
        request.limit = limit;
    }

    fn open(source: &Source, request: &SpanScanRequest) -> Result<SpanBlockScan, EngineError> {
        source.snapshot.scan_span_blocks(&source.context, request)
    }

    fn add_traces(request: &mut SpanScanRequest, traces: Vec<chronolith_engine::model::TraceId>) {
        request.conditions.push(SpanCondition::Trace(traces.into()));
    }

    fn rows(block: &SpanBlock) -> usize {
        block.rows
    }

    fn arrays(
        &self,
        source: &Source,
        block: &SpanBlock,
        columns: &[usize],
    ) -> Result<Vec<ArrayRef>> {
        let rows = block.rows;
        let schema = self.schema();
        let names = &source.run_names.run_id;
        let streams =
            StreamsOfRows::of(&block.stream, &block.streams, rows).map_err(engine_error)?;
        let array = |column: &usize| -> Result<ArrayRef> {
            Ok(match schema.field(*column).name().as_str() {
                "trace_id" => columns::id_array(&block.trace_id, rows),
                "span_id" => columns::id_array(&block.span_id, rows),
                "parent_span_id" => columns::id_array(&block.parent_span_id, rows),
                "service" => streams.words(|stream| resource_text(stream, SERVICE))?,
                "scope" => streams.words(|stream| stream.scope.name.clone())?,
                "name" => columns::word_array(&block.name, rows)?,
                "kind" => columns::enum_array(&block.kind, rows, KINDS)?,
                "time" => Arc::new(
                    TimestampNanosecondArray::from(block.time.clone()).with_timezone("UTC"),
                ),
                "duration_ns" => {
                    let durations = (0..rows).map(|row| block.duration.get(row));
                    Arc::new(Int64Array::from_iter_values(durations))
                }
                "status" => columns::enum_array(&block.status, rows, STATES)?,
                "status_message" => {
                    columns::null_if_empty(columns::text_array(&block.status_message, rows)?)?
                }
                "attributes" => columns::attribute_maps(&block.attributes, rows)?,
                "resource" => {
                    streams.maps(|stream, each| columns::each_pair(&stream.resource, each))?
                }
                "events" => events(block)?,
                "links" => links(block)?,
                _ => {
                    let of_stream = |row: usize| {
                        let stream = streams.streams.get(*streams.index.get(row)? as usize)?;
                        run_id_of(stream, names)
                    };
                    columns::first_text(&block.attributes, names, of_stream, rows)
                }
            })
        };
        columns.iter().map(array).collect()
    }
}

fn resource_text(stream: &Stream, key: &str) -> String {
    let mut text = String::new();
    let found = stream.resource.iter().rev().find(|(name, _)| name == key);
    if let Some((_, value)) = found {
        push_owned(value, &mut text);
    }
    text
}

fn events(block: &SpanBlock) -> Result<ArrayRef> {
    let nested = &block.events;
    let count = nested.ends.last().map_or(0, |end| *end as usize);
    let mut times = Vec::with_capacity(count);
    for row in 0..block.rows {
        let start = block.time.get(row).copied().unwrap_or(0);
        let after = |at: usize| nested.after_start.get(at).copied().unwrap_or(0);
        times.extend(nested.of(row).map(|at| start.saturating_add(after(at))));
    }
    times.resize(count, 0);
    let columns: Vec<ArrayRef> = vec![
        Arc::new(TimestampNanosecondArray::from(times).with_timezone("UTC")),
        columns::text_array(&nested.name, count)?,
        columns::attribute_maps(&nested.attributes, count)?,
    ];
    list(event_fields(), columns, &nested.ends, block.rows)
}

fn links(block: &SpanBlock) -> Result<ArrayRef> {
    let nested = &block.links;
    let count = nested.ends.last().map_or(0, |end| *end as usize);
    let ids = |at: usize| nested.ids.get(at).copied().unwrap_or_default();
    let traces = IdColumn::Values((0..count).map(|at| ids(at).0).collect());
    let spans = IdColumn::Values((0..count).map(|at| ids(at).1).collect());
    let columns: Vec<ArrayRef> = vec![
        columns::id_array(&traces, count),
        columns::id_array(&spans, count),
        columns::attribute_maps(&nested.attributes, count)?,
    ];
    list(link_fields(), columns, &nested.ends, block.rows)
}

fn list(fields: Fields, columns: Vec<ArrayRef>, ends: &[u32], rows: usize) -> Result<ArrayRef> {
    let offsets = columns::list_offsets(ends, rows);
    let items = Arc::new(StructArray::try_new(fields.clone(), columns, None)?);
    Ok(Arc::new(ListArray::try_new(
        list_of(fields),
        offsets,
        items,
        None,
    )?))
}
