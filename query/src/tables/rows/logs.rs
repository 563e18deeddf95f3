//! Tables `logs` and `events`: log records, and those with an event name.

use std::sync::{Arc, LazyLock};

use arrow::array::{ArrayRef, Int32Array, StringBuilder, TimestampNanosecondArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use chronolith_engine::rows::{
    AttributeChoice, AttributeScope, LogBlock, LogCondition, LogScanRequest, RowOrder, TextPattern,
    TextTest, ValueTest,
};
use chronolith_engine::{EngineError, LogBlockScan};
use datafusion::error::Result;

use super::super::metrics::{label_type, labels_type, time_type};
use super::super::{Source, engine_error};
use super::columns::{self, StreamsOfRows};
use super::filters::{self, Ask, Place, PushOne, Pushed, Support};
use super::text::{only_text_reads_as, push_text};
use super::{Signal, run_id_of};

/// Log records as rows of SQL.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Logs {
    /// Only those with an event name.
    pub(crate) only_events: bool,
}

static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
    Arc::new(Schema::new(vec![
        Field::new("time", time_type(), false),
        Field::new("observed_time", time_type(), true),
        Field::new("stream", labels_type(), false),
        Field::new("severity", DataType::Int32, false),
        Field::new("severity_text", label_type(), true),
        Field::new("body", DataType::Utf8, false),
        Field::new("attributes", labels_type(), false),
        Field::new("trace_id", DataType::Utf8, true),
        Field::new("span_id", DataType::Utf8, true),
        Field::new("event_name", label_type(), true),
        Field::new("run_id", DataType::Utf8, true),
    ]))
});

fn push_one(place: Place<'_>, ask: Ask, pushed: &mut Pushed<LogCondition>) -> Support {
    let Place { column, key } = place;
    match (column, key) {
        ("stream", Some(label)) => match filters::matcher(label, &ask) {
            Some((matcher, support)) => {
                pushed.matchers.push(matcher);
                support
            }
            None => Support::Unsupported,
        },
        ("attributes", Some(name)) => match attribute_test(&ask) {
            Some((test, support)) => {
                pushed.conditions.push(LogCondition::Attribute {
                    scope: AttributeScope::Row,
                    key: name.into(),
                    test,
                });
                support
            }
            None => Support::Unsupported,
        },
        (_, Some(_)) => Support::Unsupported,
        ("severity", None) => match ask {
            Ask::Between(low, high) => {
                let low = u8::try_from(low.max(0)).unwrap_or(u8::MAX);
                let high = match high {
                    // Below all numbers: no row.
                    ..0 => return Support::Unsupported,
                    high => u8::try_from(high).unwrap_or(u8::MAX),
                };
                pushed.conditions.push(LogCondition::Severity(low..=high));
                Support::Exact
            }
            _ => Support::Unsupported,
        },
        ("trace_id", None) => match filters::traces(&ask) {
            Some(ids) => {
                pushed.conditions.push(LogCondition::Trace(ids.into()));
                Support::Exact
            }
            None => Support::Unsupported,
        },
        ("body" | "severity_text" | "event_name", None) => {
            let test = match (&ask, column) {
                (Ask::IsNotNull, "event_name" | "severity_text") => TextTest {
                    pattern: TextPattern::Equals("".into()),
                    negated: true,
                },
                _ => match filters::text_test(&ask) {
                    Some(test) => test,
                    None => return Support::Unsupported,
                },
            };
            let (condition, support) = match column {
                // Never NULL: what the engine tests is what SQL sees.
                "body" => (LogCondition::Body(test), Support::Exact),
                "event_name" => (LogCondition::EventName(test), filters::support_of(&ask)),
                _ => (LogCondition::SeverityText(test), filters::support_of(&ask)),
            };
            pushed.conditions.push(condition);
            support
        }
        _ => Support::Unsupported,
    }
}

/// A test of an attribute that never drops a row that the filter keeps.
pub(super) fn attribute_test(ask: &Ask) -> Option<(ValueTest, Support)> {
    match ask {
        Ask::Text(texts) if texts.iter().all(|text| only_text_reads_as(text)) => {
            Some((ValueTest::Text(filters::text_test(ask)?), Support::Exact))
        }
        // A value of another type may read so: DataFusion looks at what has the key.
        Ask::Text(_) | Ask::Pattern(_) | Ask::Not(_) => {
            Some((ValueTest::Present, Support::Inexact))
        }
        // A key without a value is NULL too.
        Ask::IsNotNull => Some((ValueTest::Present, Support::Inexact)),
        Ask::IsNull | Ask::Between(..) => None,
    }
}

impl Signal for Logs {
    type Block = LogBlock;
    type Condition = LogCondition;
    type Request = LogScanRequest;
    type Scan = LogBlockScan;

    fn schema(&self) -> SchemaRef {
        Arc::clone(&SCHEMA)
    }

    fn push_one(&self) -> PushOne<LogCondition> {
        push_one
    }

    fn request(
        &self,
        source: &Source,
        pushed: Pushed<LogCondition>,
        columns: &[usize],
    ) -> LogScanRequest {
        let mut request = LogScanRequest::new(pushed.matchers, pushed.range);
        request.conditions = pushed.conditions;
        if self.only_events {
            request.conditions.push(LogCondition::EventName(TextTest {
                pattern: TextPattern::Equals("".into()),
                negated: true,
            }));
        }
        let schema = self.schema();
        for column in columns {
            let wanted = &mut request.columns;
            match schema.field(*column).name().as_str() {
                "observed_time" => wanted.observed_time = true,
                "severity" | "severity_text" => wanted.severity = true,
                "body" => wanted.body = true,
                "trace_id" | "span_id" => wanted.ids = true,
                "event_name" => wanted.event_name = true,
                "attributes" => request.attributes = AttributeChoice::All,
                "run_id" if request.attributes == AttributeChoice::None => {
                    request.attributes = source.run_id_keys();
                }
                _ => {}
            }
        }
        request
    }

    fn order(request: &mut LogScanRequest, order: RowOrder, limit: Option<usize>) {
        request.order = order;
        request.limit = limit;
    }

    fn open(source: &Source, request: &LogScanRequest) -> Result<LogBlockScan, EngineError> {
        source.snapshot.scan_log_blocks(&source.context, request)
    }

    fn add_traces(request: &mut LogScanRequest, traces: Vec<chronolith_engine::model::TraceId>) {
        request.conditions.push(LogCondition::Trace(traces.into()));
    }

    fn rows(block: &LogBlock) -> usize {
        block.rows
    }

    fn arrays(
        &self,
        source: &Source,
        block: &LogBlock,
        columns: &[usize],
    ) -> Result<Vec<ArrayRef>> {
        let rows = block.rows;
        let schema = self.schema();
        let mut streams: Option<StreamsOfRows> = None;
        let of_rows = || -> Result<StreamsOfRows> {
            StreamsOfRows::of(&block.stream, &block.streams, rows).map_err(engine_error)
        };
        let mut arrays = Vec::with_capacity(columns.len());
        for column in columns {
            let name = schema.field(*column).name().as_str();
            if matches!(name, "stream" | "run_id") && streams.is_none() {
                streams = Some(of_rows()?);
            }
            let array: ArrayRef = match (name, &streams) {
                ("time", _) => Arc::new(
                    TimestampNanosecondArray::from(block.time.clone()).with_timezone("UTC"),
                ),
                ("observed_time", _) => {
                    // 0: nobody said.
                    let time = |row| Some(block.observed_time.get(row)).filter(|time| *time != 0);
                    let times: TimestampNanosecondArray = (0..rows).map(time).collect();
                    Arc::new(times.with_timezone("UTC"))
                }
                ("stream", Some(streams)) => streams.maps(|stream, each| {
                    stream
                        .labels
                        .iter()
                        .for_each(|label| each(label.name, label.value));
                })?,
                ("severity", _) => {
                    let severity = (0..rows).map(|row| block.severity.get(row) as i32);
                    Arc::new(Int32Array::from_iter_values(severity))
                }
                ("severity_text", _) => columns::word_array(&block.severity_text, rows)?,
                ("body", _) => bodies(block)?,
                ("attributes", _) => columns::attribute_maps(&block.attributes, rows)?,
                ("trace_id", _) => columns::id_array(&block.trace_id, rows),
                ("span_id", _) => columns::id_array(&block.span_id, rows),
                ("event_name", _) => columns::word_array(&block.event_name, rows)?,
                (_, Some(streams)) => {
                    let names = &source.run_names.run_id;
                    let of_stream = |row: usize| {
                        let stream = streams.streams.get(*streams.index.get(row)? as usize)?;
                        run_id_of(stream, names)
                    };
                    columns::first_text(&block.attributes, names, of_stream, rows)
                }
                (_, None) => continue,
            };
            arrays.push(array);
        }
        Ok(arrays)
    }
}

/// Bodies as text; values as JSON.
fn bodies(block: &LogBlock) -> Result<ArrayRef> {
    let has_values = (0..block.rows).any(|row| block.body_kind.get(row) != 0);
    if !has_values {
        return columns::text_array(&block.body, block.rows);
    }
    let mut out = StringBuilder::new();
    let mut text = String::new();
    for row in 0..block.rows {
        if block.body_kind.get(row) == 0 {
            out.append_value(block.body.str(row));
            continue;
        }
        text.clear();
        push_text(&block.body_value(row), &mut text);
        out.append_value(&text);
    }
    Ok(Arc::new(out.finish()))
}
