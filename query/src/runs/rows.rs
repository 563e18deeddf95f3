//! From rows to observations: batches as they arrive, blocks as they are read back.
//!
//! Most batches have nothing to do with runs. [`RunReader::concerns_logs`] and
//! [`RunReader::concerns_spans`] say so from the keys of a batch, without a look at its rows.
//!
//! A row belongs to the run that it names, itself or by its resource. A row that names none belongs to
//! the run of its trace, if that is known: so the calls that a stage makes count without knowing of
//! runs.

use std::collections::HashMap;
use std::sync::Arc;

use chronolith_engine::EngineError;
use chronolith_engine::model::{AttributeValue, SpanStatus, Stream};
use chronolith_engine::rows::{
    AttributeColumn, BodyKind, KeyTable, LogBatch, LogBlock, RawAttributes, SpanBatch, SpanBlock,
    ValueRef,
};

use super::book::RunBook;
use super::names::{
    Collected, Observation, ObservedEvent, ObservedSpan, RunFields, RunNames, Seen, Slot, Value,
};

/// Severity numbers from here on are errors.
const SEVERITY_ERROR: i64 = 17;
/// Events of one span that are looked at.
const SPAN_EVENTS_MAX: usize = 256;

/// Reads rows by the names that were configured.
#[derive(Clone, Debug)]
pub struct RunReader {
    names: RunNames,
    by_name: HashMap<String, Slot>,
}

fn of_engine(value: ValueRef<'_>) -> Value<'_> {
    match value {
        ValueRef::Str(text) => Value::Text(text),
        ValueRef::Int(number) => Value::Number(number as f64),
        ValueRef::Float(number) => Value::Number(number),
        _ => Value::Other,
    }
}

fn of_attribute(value: &AttributeValue) -> Value<'_> {
    match value {
        AttributeValue::String(text) => Value::Text(text),
        AttributeValue::Int(number) => Value::Number(*number as f64),
        AttributeValue::Float(number) => Value::Number(*number),
        _ => Value::Other,
    }
}

/// Text of a batch; rows have as many as they should.
fn text(bytes: Option<&[u8]>) -> &str {
    bytes.map_or("", |bytes| std::str::from_utf8(bytes).unwrap_or(""))
}

/// A row that is not of a run yet.
struct SpanRow<'a> {
    collected: Collected<'a>,
    trace_id: [u8; 16],
    span: ObservedSpan<'a>,
}

/// An event of a span.
struct SpanEvent<'a> {
    time: i64,
    name: &'a str,
    collected: Collected<'a>,
}

/// Whether the name of a span event is about the whole run: `run.started`, `pipeline_failed`.
fn is_of_run(name: &str) -> bool {
    let first = name.split(['.', '_', '-', ' ', '/']).next().unwrap_or("");
    let whole = ["run", "pipeline", "workflow", "execution", "job"];
    whole.iter().any(|word| first.eq_ignore_ascii_case(word))
}

impl RunReader {
    /// By these names.
    #[must_use]
    pub fn new(names: RunNames) -> Self {
        let by_name = names.by_name();
        Self { names, by_name }
    }

    /// The names.
    #[must_use]
    pub fn names(&self) -> &RunNames {
        &self.names
    }

    fn names_runs(&self, keys: &KeyTable, streams: &[Arc<Stream>]) -> bool {
        let has_key = |name: &String| keys.find(name).is_some();
        let has_resource = |stream: &Arc<Stream>| {
            let mut keys = stream.resource.iter().map(|(key, _)| key);
            keys.any(|key| self.names.run_id.contains(key))
        };
        self.names.run_id.iter().any(has_key) || streams.iter().any(has_resource)
    }

    /// Whether rows of a batch may belong to runs: it has a key that names one, here or in a resource,
    /// or (of a trace) a key that says something of one.
    #[must_use]
    pub fn concerns_logs(&self, batch: &LogBatch) -> bool {
        self.names_runs(batch.keys(), batch.streams())
    }

    /// The same for spans.
    #[must_use]
    pub fn concerns_spans(&self, batch: &SpanBatch) -> bool {
        let says_something = || {
            let names = [&self.names.stage, &self.names.cost, &self.names.token_parts];
            let mut names = names.into_iter().flatten();
            names.any(|name| batch.keys().find(name).is_some())
        };
        self.names_runs(batch.keys(), batch.streams()) || says_something()
    }

    /// The slots of a batch's keys by number.
    fn slots(&self, keys: &KeyTable) -> Vec<Option<Slot>> {
        let mut slots = vec![None; keys.len()];
        for (name, slot) in &self.by_name {
            let number = keys.find(name).and_then(|n| slots.get_mut(n as usize));
            if let Some(place) = number {
                *place = Some(*slot);
            }
        }
        slots
    }

    fn resource<'a>(&self, stream: &'a Stream) -> Collected<'a> {
        let mut collected = Collected::default();
        for (key, value) in &stream.resource {
            if let Some(slot) = self.by_name.get(key) {
                collected.take(slot.of_resource(), of_attribute(value));
            }
        }
        collected
    }

    fn raw<'a>(
        mut from: Collected<'a>,
        slots: &[Option<Slot>],
        mut attributes: RawAttributes<'a>,
    ) -> Collected<'a> {
        while let Some((number, value)) = attributes.next_numbered() {
            if let Some(Some(slot)) = slots.get(number as usize) {
                from.take(*slot, of_engine(value));
            }
        }
        from
    }

    /// Enters the log records of a batch.
    pub fn log_batch(&self, batch: &LogBatch, book: &mut RunBook) {
        let slots = self.slots(batch.keys());
        let columns = batch.columns();
        let resources: Vec<_> = batch.streams().iter().map(|s| self.resource(s)).collect();
        for row in 0..batch.len() {
            let stream = columns.stream.get(row).copied().unwrap_or(0) as usize;
            let from = resources.get(stream).copied().unwrap_or_default();
            let collected = Self::raw(from, &slots, batch.attributes(row));
            let trace_id = columns.trace_id.get(row).copied().unwrap_or_default();
            if !collected.names_run() && !book.knows_trace(&trace_id) {
                continue;
            }
            let severity = columns.severity.get(row).copied().unwrap_or(0);
            let is_error = i64::from(severity) >= SEVERITY_ERROR;
            let is_text = columns.body_kind.get(row) == Some(&(BodyKind::Text as u8));
            let message = match is_error && is_text {
                true => text(columns.body.get(row)),
                false => "",
            };
            book.apply(&Observation {
                fields: collected.fields(),
                trace_id,
                what: Seen::Event(ObservedEvent {
                    name: text(columns.event_name.get(row)),
                    time: columns.time.get(row).copied().unwrap_or(0),
                    is_error,
                    message,
                }),
            });
        }
    }

    /// Enters the log records of a block that was scanned with [`RunReader::keys`].
    ///
    /// # Errors
    /// Damage in the streams of the block.
    pub fn log_block(&self, block: &LogBlock, book: &mut RunBook) -> Result<(), EngineError> {
        let columns = self.columns(&block.attributes);
        for row in 0..block.rows {
            let number = u32::try_from(block.stream.get(row)).unwrap_or(u32::MAX);
            let stream = block.streams.get(number)?;
            let collected = Self::columnar(self.resource(&stream), &columns, row);
            let trace_id = block.trace_id.get(row).unwrap_or_default();
            if !collected.names_run() && !book.knows_trace(&trace_id) {
                continue;
            }
            let is_error = block.severity.get(row) >= SEVERITY_ERROR;
            let message = match is_error && block.body_kind.get(row) == 0 {
                true => block.body.str(row),
                false => "",
            };
            book.apply(&Observation {
                fields: collected.fields(),
                trace_id,
                what: Seen::Event(ObservedEvent {
                    name: block.event_name.str(row),
                    time: block.time.get(row).copied().unwrap_or(0),
                    is_error,
                    message,
                }),
            });
        }
        Ok(())
    }

    /// Enters the spans of a batch: first those that name runs, then those that belong to their traces.
    pub fn span_batch(&self, batch: &SpanBatch, book: &mut RunBook) {
        let slots = self.slots(batch.keys());
        let columns = batch.columns();
        let resources: Vec<_> = batch.streams().iter().map(|s| self.resource(s)).collect();
        for names_run in [true, false] {
            for row in 0..batch.len() {
                let stream = columns.stream.get(row).copied().unwrap_or(0) as usize;
                let from = resources.get(stream).copied().unwrap_or_default();
                let collected = Self::raw(from, &slots, batch.attributes(row));
                if collected.names_run() != names_run {
                    continue;
                }
                let trace_id = columns.trace_id.get(row).copied().unwrap_or_default();
                let start = columns.time.get(row).copied().unwrap_or(0);
                let duration = columns.duration.get(row).copied().unwrap_or(0).max(0);
                let is_error = columns.status.get(row) == Some(&(SpanStatus::Error as u8));
                let seen = SpanRow {
                    collected,
                    trace_id,
                    span: ObservedSpan {
                        span_id: columns.span_id.get(row).copied().unwrap_or_default(),
                        is_root: columns.parent_span_id.get(row) == Some(&[0; 8]),
                        name: text(columns.name.get(row)),
                        start,
                        end: start.saturating_add(duration),
                        error: is_error.then(|| text(columns.status_message.get(row))),
                    },
                };
                let events = batch.events(row).take(SPAN_EVENTS_MAX);
                let events = events.map(|(after, name, attributes)| SpanEvent {
                    time: start.saturating_add(after),
                    name,
                    collected: Self::raw(Collected::default(), &slots, attributes),
                });
                Self::enter(&seen, events, book);
            }
        }
    }

    /// Enters the spans of a block that was scanned with [`RunReader::keys`].
    ///
    /// # Errors
    /// Damage in the streams of the block.
    pub fn span_block(&self, block: &SpanBlock, book: &mut RunBook) -> Result<(), EngineError> {
        let columns = self.columns(&block.attributes);
        let of_events = self.columns(&block.events.attributes);
        for names_run in [true, false] {
            for row in 0..block.rows {
                let number = u32::try_from(block.stream.get(row)).unwrap_or(u32::MAX);
                let stream = block.streams.get(number)?;
                let collected = Self::columnar(self.resource(&stream), &columns, row);
                if collected.names_run() != names_run {
                    continue;
                }
                let start = block.time.get(row).copied().unwrap_or(0);
                let is_error = block.status.get(row) == SpanStatus::Error as i64;
                let seen = SpanRow {
                    collected,
                    trace_id: block.trace_id.get(row).unwrap_or_default(),
                    span: ObservedSpan {
                        span_id: block.span_id.get(row).unwrap_or_default(),
                        is_root: block.parent_span_id.get(row).is_none(),
                        name: block.name.str(row),
                        start,
                        end: start.saturating_add(block.duration.get(row).max(0)),
                        error: is_error.then(|| block.status_message.str(row)),
                    },
                };
                let events = block.events.of(row).take(SPAN_EVENTS_MAX);
                let events = events.map(|place| SpanEvent {
                    time: start
                        .saturating_add(block.events.after_start.get(place).copied().unwrap_or(0)),
                    name: block.events.name.str(place),
                    collected: Self::columnar(Collected::default(), &of_events, place),
                });
                Self::enter(&seen, events, book);
            }
        }
        Ok(())
    }

    /// The keys that a scan has to return.
    #[must_use]
    pub fn keys(&self) -> Vec<Arc<str>> {
        let mut keys: Vec<Arc<str>> = self.by_name.keys().map(|key| key.as_str().into()).collect();
        keys.sort_unstable();
        keys
    }

    fn columns<'b>(&self, attributes: &'b [AttributeColumn]) -> Vec<(Slot, &'b AttributeColumn)> {
        let known = |column: &'b AttributeColumn| {
            let slot = self.by_name.get(&*column.key)?;
            Some((*slot, column))
        };
        attributes.iter().filter_map(known).collect()
    }

    fn columnar<'a>(
        mut from: Collected<'a>,
        columns: &[(Slot, &'a AttributeColumn)],
        row: usize,
    ) -> Collected<'a> {
        let row = u32::try_from(row).unwrap_or(u32::MAX);
        for (slot, column) in columns {
            if let Some(index) = column.index_of(row) {
                from.take(*slot, of_engine(column.value(index)));
            }
        }
        from
    }

    fn enter<'a>(
        row: &SpanRow<'a>,
        events: impl Iterator<Item = SpanEvent<'a>>,
        book: &mut RunBook,
    ) {
        let fields = row.collected.fields();
        if fields.run_id.is_empty() && !book.knows_trace(&row.trace_id) {
            return;
        }
        // Before the span: what an exception says of an error is more than what its status does, and
        // an event that begins the run is earlier than its end.
        for event in events {
            let own = event.collected.fields();
            let is_error = row.span.error.is_some() && event.name == "exception";
            let is_of_run = is_of_run(event.name);
            if own.stage.is_none() && !is_of_run && !is_error {
                continue;
            }
            // An exception ends nothing: what it is about ends with its span.
            let (name, stage) = match is_error {
                true => ("", own.stage.or(fields.stage)),
                false => (event.name, own.stage),
            };
            let run_id = match own.run_id {
                "" => fields.run_id,
                own => own,
            };
            book.apply(&Observation {
                fields: RunFields {
                    run_id,
                    stage,
                    pipeline: own.pipeline.or(fields.pipeline),
                    error: own.error,
                    ..RunFields::default()
                },
                trace_id: row.trace_id,
                what: Seen::Event(ObservedEvent {
                    name,
                    time: event.time,
                    is_error,
                    message: row.span.error.unwrap_or(""),
                }),
            });
        }
        book.apply(&Observation {
            fields,
            trace_id: row.trace_id,
            what: Seen::Span(row.span),
        });
    }
}
