//! What a span has, by name: attributes and intrinsics read from the columns of a scan.
//!
//! Text, numbers and truth values can be compared; bytes, arrays and maps can only be there or not.
//! Events and links are many: their fields have many values, and a comparison holds if it holds for one.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::sync::Arc;

use chronolith_engine::model::{AttributeValue, Attributes, SpanKind, SpanStatus, Stream};
use chronolith_engine::rows::{
    AttributeChoice, AttributeColumn, SpanBlock, SpanColumnSet, ValueRef,
};

use super::trace::Trace;
use crate::traceql::ast::{FieldName, Intrinsic, Scope, Value};

/// The value of a field.
#[derive(Debug, Clone, PartialEq)]
pub enum Val<'a> {
    /// Not there.
    Nil,
    /// Text.
    Str(Cow<'a, str>),
    /// An integer.
    Int(i64),
    /// A float.
    Float(f64),
    /// A truth value.
    Bool(bool),
    /// Nanoseconds.
    Duration(i64),
    /// Outcome.
    Status(SpanStatus),
    /// Role.
    Kind(SpanKind),
    /// There, but nothing can be said about it.
    Opaque,
    /// Of events and links: one per event or link that has it.
    Many(Vec<Val<'a>>),
}

impl Val<'_> {
    /// As a number; durations in nanoseconds.
    #[must_use]
    pub fn as_number(&self) -> Option<f64> {
        match self {
            Self::Int(n) | Self::Duration(n) => Some(*n as f64),
            Self::Float(x) => Some(*x),
            _ => None,
        }
    }

    /// A copy that owns its parts; of many the first.
    #[must_use]
    pub fn to_value(&self) -> Value {
        match self {
            Self::Nil | Self::Opaque => Value::Nil,
            Self::Str(text) => Value::String(text.clone().into_owned()),
            Self::Int(n) => Value::Int(*n),
            Self::Float(x) => Value::Float(*x),
            Self::Bool(truth) => Value::Bool(*truth),
            Self::Duration(ns) => Value::Duration(*ns),
            Self::Status(status) => Value::Status(*status),
            Self::Kind(kind) => Value::Kind(*kind),
            Self::Many(values) => values.first().map_or(Value::Nil, Val::to_value),
        }
    }
}

impl<'a> From<&'a Value> for Val<'a> {
    fn from(value: &'a Value) -> Self {
        match value {
            Value::Nil => Self::Nil,
            Value::String(text) => Self::Str(Cow::Borrowed(text)),
            Value::Int(n) => Self::Int(*n),
            Value::Float(x) => Self::Float(*x),
            Value::Bool(truth) => Self::Bool(*truth),
            Value::Duration(ns) => Self::Duration(*ns),
            Value::Status(status) => Self::Status(*status),
            Value::Kind(kind) => Self::Kind(*kind),
        }
    }
}

impl<'a> From<ValueRef<'a>> for Val<'a> {
    fn from(value: ValueRef<'a>) -> Self {
        match value {
            ValueRef::Str(text) => Self::Str(Cow::Borrowed(text)),
            ValueRef::Int(n) => Self::Int(n),
            ValueRef::Float(x) => Self::Float(x),
            ValueRef::Bool(truth) => Self::Bool(truth),
            ValueRef::Null | ValueRef::Bytes(_) | ValueRef::Nested(_) => Self::Opaque,
        }
    }
}

fn owned_attribute<'a>(attributes: &'a Attributes, key: &str) -> Val<'a> {
    let mut of_key = attributes.iter().rev().filter(|(name, _)| name == key);
    match of_key.next() {
        None => Val::Nil,
        Some((_, value)) => match value {
            AttributeValue::String(text) => Val::Str(Cow::Borrowed(text)),
            AttributeValue::Int(n) => Val::Int(*n),
            AttributeValue::Float(x) => Val::Float(*x),
            AttributeValue::Bool(truth) => Val::Bool(*truth),
            _ => Val::Opaque,
        },
    }
}

fn column_attribute<'a>(columns: &'a [AttributeColumn], row: u32, key: &str) -> Val<'a> {
    let mut of_key = columns.iter().filter(|column| &*column.key == key);
    of_key
        .find_map(|column| column.index_of(row).map(|index| column.value(index).into()))
        .unwrap_or(Val::Nil)
}

/// A span in its block.
#[derive(Debug, Clone, Copy)]
pub struct SpanView<'a> {
    /// The block.
    pub block: &'a SpanBlock,
    /// The row in it.
    pub row: usize,
    /// The span's stream.
    pub stream: &'a Stream,
    /// Its trace and its place there; without it fields of the whole trace read as nothing.
    pub trace: Option<(&'a TraceFacts, u32)>,
}

/// A trace and what is asked of it as a whole.
#[derive(Debug)]
pub struct TraceFacts {
    /// The tree.
    pub trace: Trace,
    /// Name of the root span, if it is there.
    pub root_name: Option<String>,
    /// Service of the root span, if it is there.
    pub root_service: Option<String>,
    /// From the earliest start to the latest end.
    pub duration_ns: i64,
}

/// The resource attribute that names the service.
pub const SERVICE_NAME: &str = "service.name";

/// The service of a stream.
#[must_use]
pub fn service(stream: &Stream) -> Option<&str> {
    let mut named = stream
        .resource
        .iter()
        .rev()
        .filter(|(key, _)| key == SERVICE_NAME);
    match named.next() {
        Some((_, AttributeValue::String(name))) => Some(name),
        _ => None,
    }
}

/// Bytes as hex.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

impl<'a> SpanView<'a> {
    /// The value of a field.
    #[must_use]
    pub fn read(&self, field: &FieldName) -> Val<'a> {
        match field {
            FieldName::Attribute { scope, key } => self.attribute(*scope, key),
            FieldName::Intrinsic { intrinsic, .. } => self.intrinsic(*intrinsic),
        }
    }

    fn attribute(&self, scope: Scope, key: &str) -> Val<'a> {
        let row = self.row as u32;
        match scope {
            Scope::Span => column_attribute(&self.block.attributes, row, key),
            Scope::Resource => owned_attribute(&self.stream.resource, key),
            Scope::Instrumentation => owned_attribute(&self.stream.scope.attributes, key),
            Scope::Any => match self.attribute(Scope::Span, key) {
                Val::Nil => self.attribute(Scope::Resource, key),
                value => value,
            },
            Scope::Event | Scope::Link => {
                let nested = match scope {
                    Scope::Event => &self.block.events,
                    _ => &self.block.links,
                };
                many(
                    nested
                        .of(self.row)
                        .map(|place| column_attribute(&nested.attributes, place as u32, key)),
                )
            }
        }
    }

    fn intrinsic(&self, intrinsic: Intrinsic) -> Val<'a> {
        let (block, row) = (self.block, self.row);
        let text = |text: &'a str| Val::Str(Cow::Borrowed(text));
        let id = |bytes: &[u8]| Val::Str(Cow::Owned(hex(bytes)));
        let of_trace = |of: &dyn Fn(&'a TraceFacts, u32) -> Val<'a>| {
            self.trace
                .map_or(Val::Nil, |(facts, place)| of(facts, place))
        };
        match intrinsic {
            Intrinsic::Duration => Val::Duration(block.duration.get(row)),
            Intrinsic::Name => text(block.name.str(row)),
            Intrinsic::Status => Val::Status(status(block.status.get(row))),
            Intrinsic::StatusMessage => text(block.status_message.str(row)),
            Intrinsic::Kind => Val::Kind(kind(block.kind.get(row))),
            Intrinsic::SpanId => id(&block.span_id.get(row).unwrap_or_default()),
            Intrinsic::ParentId => block.parent_span_id.get(row).map_or(text(""), |i| id(&i)),
            Intrinsic::TraceId => id(&block.trace_id.get(row).unwrap_or_default()),
            Intrinsic::InstrumentationName => text(&self.stream.scope.name),
            Intrinsic::InstrumentationVersion => text(&self.stream.scope.version),
            Intrinsic::EventName => {
                many(block.events.of(row).map(|e| text(block.events.name.str(e))))
            }
            Intrinsic::EventTimeSinceStart => many(block.events.of(row).map(|event| {
                let after = block.events.after_start.get(event).copied();
                after.map_or(Val::Nil, Val::Duration)
            })),
            Intrinsic::LinkTraceId | Intrinsic::LinkSpanId => {
                let ids = block
                    .links
                    .of(row)
                    .filter_map(|link| block.links.ids.get(link));
                many(ids.map(|(trace, span)| match intrinsic {
                    Intrinsic::LinkTraceId => id(trace),
                    _ => id(span),
                }))
            }
            Intrinsic::ChildCount => {
                of_trace(&|facts, place| Val::Int(facts.trace.children(place).len() as i64))
            }
            Intrinsic::NestedSetLeft => {
                of_trace(&|facts, place| Val::Int(facts.trace.nested_set(place).0))
            }
            Intrinsic::NestedSetRight => {
                of_trace(&|facts, place| Val::Int(facts.trace.nested_set(place).1))
            }
            Intrinsic::NestedSetParent => {
                of_trace(&|facts, place| Val::Int(facts.trace.nested_set_parent(place)))
            }
            Intrinsic::TraceDuration => of_trace(&|facts, _| Val::Duration(facts.duration_ns)),
            Intrinsic::TraceRootName => of_trace(&|facts, _| match &facts.root_name {
                Some(name) => text(name),
                None => Val::Nil,
            }),
            Intrinsic::TraceRootService => of_trace(&|facts, _| match &facts.root_service {
                Some(name) => text(name),
                None => Val::Nil,
            }),
            Intrinsic::Parent => Val::Nil,
        }
    }
}

fn many<'a>(values: impl Iterator<Item = Val<'a>>) -> Val<'a> {
    let values: Vec<_> = values.filter(|value| *value != Val::Nil).collect();
    match values.is_empty() {
        true => Val::Nil,
        false => Val::Many(values),
    }
}

fn status(number: i64) -> SpanStatus {
    u8::try_from(number)
        .ok()
        .and_then(SpanStatus::from_u8)
        .unwrap_or_default()
}

fn kind(number: i64) -> SpanKind {
    u8::try_from(number)
        .ok()
        .and_then(SpanKind::from_u8)
        .unwrap_or_default()
}

/// What must be read to know some fields.
#[derive(Debug, Clone, Default)]
pub struct Needs {
    /// Columns.
    pub columns: SpanColumnSet,
    /// Attribute keys of spans.
    pub keys: Vec<Arc<str>>,
    /// All attributes, whatever their keys.
    pub all_attributes: bool,
    /// A field of the whole trace is among them.
    pub whole_trace: bool,
}

impl Needs {
    /// Adds a field.
    pub fn add(&mut self, field: &FieldName) {
        let columns = &mut self.columns;
        match field {
            FieldName::Attribute { scope, key } => match scope {
                Scope::Span | Scope::Any => {
                    if !self.keys.iter().any(|known| **known == **key) {
                        self.keys.push(Arc::from(key.as_str()));
                    }
                }
                Scope::Event => columns.events = true,
                Scope::Link => columns.links = true,
                Scope::Resource | Scope::Instrumentation => {}
            },
            FieldName::Intrinsic { intrinsic, .. } => match intrinsic {
                Intrinsic::Duration => columns.duration = true,
                Intrinsic::Name => columns.name = true,
                Intrinsic::Status => columns.status = true,
                Intrinsic::StatusMessage => columns.details = true,
                Intrinsic::Kind => columns.kind = true,
                Intrinsic::SpanId | Intrinsic::ParentId => columns.span_ids = true,
                Intrinsic::TraceId => columns.trace_id = true,
                Intrinsic::EventName | Intrinsic::EventTimeSinceStart => columns.events = true,
                Intrinsic::LinkTraceId | Intrinsic::LinkSpanId => columns.links = true,
                Intrinsic::InstrumentationName | Intrinsic::InstrumentationVersion => {}
                Intrinsic::ChildCount
                | Intrinsic::NestedSetLeft
                | Intrinsic::NestedSetRight
                | Intrinsic::NestedSetParent
                | Intrinsic::TraceDuration
                | Intrinsic::TraceRootName
                | Intrinsic::TraceRootService
                | Intrinsic::Parent => self.whole_trace = true,
            },
        }
    }

    /// The attributes to ask for.
    #[must_use]
    pub fn attributes(&self) -> AttributeChoice {
        match self.keys.is_empty() {
            _ if self.all_attributes => AttributeChoice::All,
            true => AttributeChoice::None,
            false => AttributeChoice::Keys(self.keys.clone()),
        }
    }
}
