//! Spans and log records as plain data: what a loader maps to its own types.

/// Who produced a span or a log record. Resource attributes as OpenTelemetry names them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// `service.name`.
    pub service: &'static str,
    /// `host.name`.
    pub host: &'static str,
    /// `cloud.region`; of services that serve all regions `eu`.
    pub region: &'static str,
    /// `service.version`.
    pub version: &'static str,
}

/// An attribute value.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// Text.
    Text(String),
    /// A whole number.
    Int(i64),
    /// A number.
    Float(f64),
    /// A truth value.
    Bool(bool),
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<i64> for Value {
    fn from(number: i64) -> Self {
        Self::Int(number)
    }
}

impl From<u64> for Value {
    fn from(number: u64) -> Self {
        Self::Int(i64::try_from(number).unwrap_or(i64::MAX))
    }
}

impl From<f64> for Value {
    fn from(number: f64) -> Self {
        Self::Float(number)
    }
}

/// Attributes in the order in which they are sent.
pub type Pairs = Vec<(&'static str, Value)>;

/// The role of a span; numbers as in OTLP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SpanRole {
    /// Work inside a service.
    Internal = 1,
    /// Answers a request.
    Server = 2,
    /// Sends a request.
    Client = 3,
}

/// A span that has ended.
#[derive(Debug, Clone, PartialEq)]
pub struct SpanRecord {
    /// Index into [`crate::Telemetry::sources`].
    pub source: usize,
    /// The trace: one per run.
    pub trace_id: [u8; 16],
    /// The span.
    pub span_id: [u8; 8],
    /// The span that it is part of.
    pub parent_span_id: Option<[u8; 8]>,
    /// Operation.
    pub name: String,
    /// Role.
    pub role: SpanRole,
    /// Nanoseconds since the epoch.
    pub start_ns: i64,
    /// Nanoseconds since the epoch.
    pub end_ns: i64,
    /// What went wrong, if it failed.
    pub error: Option<String>,
    /// Attributes.
    pub attributes: Pairs,
    /// Moments inside the span: nanoseconds since the epoch, name, attributes.
    pub events: Vec<(i64, &'static str, Pairs)>,
}

/// How bad a log record is; numbers as in OTLP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Severity {
    /// For developers.
    Debug = 5,
    /// Ordinary.
    Info = 9,
    /// Odd, but handled.
    Warn = 13,
    /// Something failed.
    Error = 17,
}

impl Severity {
    /// Lower-case name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Warn => "warn",
            Self::Error => "error",
        }
    }
}

/// A log record, or an event if it has a name.
#[derive(Debug, Clone, PartialEq)]
pub struct LogLine {
    /// Index into [`crate::Telemetry::sources`].
    pub source: usize,
    /// Nanoseconds since the epoch.
    pub time_ns: i64,
    /// How bad it is.
    pub severity: Severity,
    /// The text.
    pub body: String,
    /// Attributes beside the text.
    pub attributes: Pairs,
    /// The trace and span that it belongs to.
    pub context: Option<([u8; 16], [u8; 8])>,
    /// Name of an event; empty for an ordinary record.
    pub event: &'static str,
}
