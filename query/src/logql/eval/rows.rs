//! Rows of blocks as LogQL sees them: a stream, a line, and structured metadata.
//!
//! Attributes of a record are metadata, and so are those of its resource that are not among the
//! stream's labels, the scope, the ids and the severity. Names are sanitized as those of parsed labels.

use std::sync::Arc;

use chronolith_engine::EngineError;
use chronolith_engine::model::Stream;
use chronolith_engine::rows::{LogBlock, Streams, ValueRef, append_text};

use super::super::pipeline::sanitized_name;

/// What is known of a stream.
#[derive(Debug)]
pub(super) struct StreamInfo {
    stream: Arc<Stream>,
    /// What every row of it has as metadata.
    metadata: Vec<(String, Vec<u8>)>,
    /// It says the level of its rows itself.
    has_level: bool,
}

impl StreamInfo {
    /// The labels of the stream in their one encoding.
    pub(super) fn label_bytes(&self) -> &[u8] {
        self.stream.labels.as_bytes()
    }

    /// The labels of the stream.
    pub(super) fn labels(&self) -> impl Iterator<Item = (&str, &str)> {
        self.stream
            .labels
            .iter()
            .map(|label| (label.name, label.value))
    }
}

/// The streams of all blocks of a scan, numbered in the order in which they are met.
#[derive(Debug, Default)]
pub(super) struct StreamTable {
    sources: Vec<(Arc<Streams>, Vec<Option<usize>>)>,
    /// The source of the block before.
    last: usize,
    infos: Vec<StreamInfo>,
}

impl StreamTable {
    /// The number of a row's stream.
    pub(super) fn number(&mut self, block: &LogBlock, row: usize) -> Result<usize, EngineError> {
        let is_it = |(streams, _): &(Arc<Streams>, _)| Arc::ptr_eq(streams, &block.streams);
        if !self.sources.get(self.last).is_some_and(is_it) {
            self.last = match self.sources.iter().position(is_it) {
                Some(known) => known,
                None => {
                    let numbers = vec![None; block.streams.len()];
                    self.sources.push((Arc::clone(&block.streams), numbers));
                    self.sources.len() - 1
                }
            };
        }
        let (streams, numbers) = &mut self.sources[self.last];
        let of_source = usize::try_from(block.stream.get(row)).unwrap_or(usize::MAX);
        if let Some(Some(number)) = numbers.get(of_source) {
            return Ok(*number);
        }
        let stream = streams.get(u32::try_from(of_source).unwrap_or(u32::MAX))?;
        let number = self.infos.len();
        let metadata = stream_metadata(&stream);
        self.infos.push(StreamInfo {
            has_level: stream.labels.get(LEVEL).is_some()
                || metadata.iter().any(|(name, _)| name == LEVEL),
            metadata,
            stream,
        });
        if let Some(slot) = numbers.get_mut(of_source) {
            *slot = Some(number);
        }
        Ok(number)
    }

    pub(super) fn info(&self, number: usize) -> &StreamInfo {
        &self.infos[number]
    }
}

fn stream_metadata(stream: &Stream) -> Vec<(String, Vec<u8>)> {
    let mut metadata = Vec::new();
    for (key, value) in &stream.resource {
        let name = sanitized_name(key);
        if !name.is_empty() && stream.labels.get(&name).is_none() {
            let mut text = Vec::new();
            append_text(value, &mut text);
            metadata.push((name, text));
        }
    }
    for (name, text) in [
        ("scope_name", &stream.scope.name),
        ("scope_version", &stream.scope.version),
    ] {
        if !text.is_empty() {
            metadata.push((name.to_owned(), text.as_bytes().to_vec()));
        }
    }
    metadata
}

fn append_hex(bytes: &[u8], out: &mut Vec<u8>) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for b in bytes {
        out.push(DIGITS[usize::from(b >> 4)]);
        out.push(DIGITS[usize::from(b & 15)]);
    }
}

/// What a row has besides attributes, as metadata.
const FIXED: [&str; 5] = [
    "trace_id",
    "span_id",
    "severity_text",
    "severity_number",
    LEVEL,
];

/// The name of a record's level, whoever found it out: the sender or the stage before the store.
pub(super) const LEVEL: &str = "detected_level";

/// The level that OpenTelemetry's severity number means; empty for none.
fn level_name(severity: i64) -> &'static str {
    match severity {
        1..=4 => "trace",
        5..=8 => "debug",
        9..=12 => "info",
        13..=16 => "warn",
        17..=20 => "error",
        21..=24 => "fatal",
        _ => "",
    }
}

/// Gathers the metadata of one row after the other.
#[derive(Debug, Default)]
pub(super) struct RowReader {
    /// Names of the block's attribute columns.
    names: Vec<String>,
    /// How far each column has been read.
    cursors: Vec<usize>,
    values: Vec<u8>,
    /// Name, and where the value lies.
    pairs: Vec<(Name, u32, u32)>,
    line: Vec<u8>,
}

#[derive(Debug, Clone, Copy)]
enum Name {
    Column(u32),
    Fixed(&'static str),
}

impl RowReader {
    /// Begins a block; its rows must then be loaded in ascending order, some or all, once or more.
    pub(super) fn begin(&mut self, block: &LogBlock) {
        self.names.clear();
        let columns = block.attributes.iter();
        self.names
            .extend(columns.map(|column| sanitized_name(&column.key)));
        self.cursors.clear();
        self.cursors.resize(block.attributes.len(), 0);
    }

    /// Loads a row's metadata.
    pub(super) fn load(&mut self, block: &LogBlock, row: usize) {
        self.pairs.clear();
        self.values.clear();
        for (index, column) in block.attributes.iter().enumerate() {
            let found = match &column.rows {
                None => Some(row),
                Some(rows) => {
                    let cursor = &mut self.cursors[index];
                    while rows.get(*cursor).is_some_and(|at| (*at as usize) < row) {
                        *cursor += 1;
                    }
                    // Of a key that is there several times the last pair counts.
                    let of_row = rows.get(*cursor..).unwrap_or(&[]);
                    let times = of_row.iter().take_while(|at| **at as usize == row).count();
                    times.checked_sub(1).map(|last| *cursor + last)
                }
            };
            let Some(found) = found else { continue };
            if self.names[index].is_empty() {
                continue;
            }
            let start = self.values.len();
            match column.value(found) {
                ValueRef::Str(text) => self.values.extend_from_slice(text.as_bytes()),
                other => append_text(&other.to_value(), &mut self.values),
            }
            self.pair(Name::Column(index as u32), start);
        }
        self.fixed(block, row);
    }

    fn pair(&mut self, name: Name, start: usize) {
        self.pairs
            .push((name, start as u32, self.values.len() as u32));
    }

    /// Ids and severity, where no attribute says them in its own words.
    fn fixed(&mut self, block: &LogBlock, row: usize) {
        let severity = block.severity.get(row);
        for name in FIXED {
            let start = self.values.len();
            match name {
                "trace_id" => {
                    let id = block.trace_id.get(row);
                    id.into_iter()
                        .for_each(|id| append_hex(&id, &mut self.values));
                }
                "span_id" => {
                    let id = block.span_id.get(row);
                    id.into_iter()
                        .for_each(|id| append_hex(&id, &mut self.values));
                }
                "severity_text" => self.values.extend_from_slice(block.severity_text.get(row)),
                LEVEL => self
                    .values
                    .extend_from_slice(level_name(severity).as_bytes()),
                _ if severity > 0 => {
                    self.values
                        .extend_from_slice(severity.to_string().as_bytes());
                }
                _ => {}
            }
            if self.values.len() == start {
                continue;
            }
            let names = &self.names;
            let said = self.pairs.iter().any(|(known, ..)| match known {
                Name::Column(index) => names[*index as usize] == name,
                Name::Fixed(_) => false,
            });
            if said {
                self.values.truncate(start);
            } else {
                self.pair(Name::Fixed(name), start);
            }
        }
    }

    /// The text of a row (its body, or what the body is as JSON) and the metadata that were loaded,
    /// those of its stream first.
    pub(super) fn row<'r>(
        &'r mut self,
        block: &'r LogBlock,
        row: usize,
        info: &'r StreamInfo,
    ) -> (&'r [u8], impl Iterator<Item = (&'r str, &'r [u8])> + Clone) {
        let is_text = block.body_kind.get(row) == 0;
        if !is_text {
            self.line.clear();
            append_text(&block.body_value(row), &mut self.line);
        }
        let line = if is_text {
            block.body.get(row)
        } else {
            &self.line
        };
        let of_stream = info.metadata.iter();
        let of_stream = of_stream.map(|(name, value)| (name.as_str(), value.as_slice()));
        let is_said = |name: &Name| info.has_level && matches!(name, Name::Fixed(LEVEL));
        let of_row = self.pairs.iter().filter(move |(name, ..)| !is_said(name));
        let of_row = of_row.map(|(name, start, end)| {
            let name = match name {
                Name::Column(index) => self.names[*index as usize].as_str(),
                Name::Fixed(name) => name,
            };
            (name, &self.values[*start as usize..*end as usize])
        });
        (line, of_stream.chain(of_row))
    }
}

#[cfg(test)]
mod tests {
    use chronolith_engine::model::{
        AttributeValue, Labels, LogRecord, SpanId, TimestampNs, TraceId,
    };
    use chronolith_engine::rows::{AttributeChoice, LogBatch, LogColumnSet, Selection};

    use super::*;

    #[test]
    fn ids_severity_and_attributes_are_metadata() {
        let labels = Labels::from_pairs([("app", "a"), ("service_name", "s")]).unwrap();
        let mut stream = Stream::from_labels(labels);
        stream.resource = vec![
            ("service.name".into(), AttributeValue::String("s".into())),
            ("k8s.pod".into(), AttributeValue::Int(7)),
        ];
        let record = |attributes| LogRecord {
            time: TimestampNs(1),
            observed_time: TimestampNs(1),
            severity: 9,
            severity_text: "Info".into(),
            body: AttributeValue::Map(vec![("m".into(), AttributeValue::Bool(true))]),
            attributes,
            trace_id: Some(TraceId([0xab; 16])),
            span_id: Some(SpanId([1; 8])),
            event_name: String::new(),
        };
        let mut batch = LogBatch::new();
        let number = batch.stream(Arc::new(stream));
        batch.push(
            number,
            &record(vec![("x.y".into(), AttributeValue::Float(1.5))]),
        );
        batch.push(
            number,
            &record(vec![(
                "trace_id".into(),
                AttributeValue::String("AB".into()),
            )]),
        );
        let block = batch.block(
            &Arc::new(Streams::of(batch.streams())),
            &[0],
            &Selection::All(2),
            LogColumnSet::ALL,
            &AttributeChoice::All,
        );
        let mut table = StreamTable::default();
        let mut reader = RowReader::default();
        reader.begin(&block);
        let mut rows = Vec::new();
        for row in 0..2 {
            let number = table.number(&block, row).unwrap();
            reader.load(&block, row);
            let (line, pairs) = reader.row(&block, row, table.info(number));
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            let pairs: Vec<String> = pairs.map(|(n, v)| format!("{n}={}", text(v))).collect();
            rows.push(format!("{} {}", text(line), pairs.join(" ")));
        }
        let id = "ab".repeat(16);
        assert_eq!(
            rows[0],
            format!(
                "{{\"m\":true}} k8s_pod=7 x_y=1.5 trace_id={id} span_id=0101010101010101 severity_text=Info severity_number=9 detected_level=info"
            )
        );
        assert!(rows[1].contains(" trace_id=AB span_id=") && !rows[1].contains(&id));
    }
}
