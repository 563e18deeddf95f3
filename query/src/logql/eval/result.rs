//! The answer of a query, for servers and tests.

use std::time::Duration;

/// Names and values in the order of their names.
pub type LabelPairs = Vec<(String, String)>;

/// A value at a time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Point {
    /// When, ms since the epoch.
    pub time_ms: i64,
    /// What.
    pub value: f64,
}

/// A series of a vector or matrix; at least one point, of a vector exactly one.
#[derive(Debug, Clone, PartialEq)]
pub struct Series {
    /// Whose.
    pub labels: LabelPairs,
    /// The points in order of time.
    pub points: Vec<Point>,
}

/// A line of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamEntry {
    /// Nanoseconds since the epoch.
    pub time_ns: i64,
    /// The line as the pipeline left it.
    pub line: String,
}

/// Lines with the same labels.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct StreamResult {
    /// Labels of the stream that the store knows.
    pub stream: LabelPairs,
    /// Labels that came with the lines.
    pub metadata: LabelPairs,
    /// Labels that the pipeline made.
    pub parsed: LabelPairs,
    /// The lines, in the order that was asked for.
    pub entries: Vec<StreamEntry>,
}

impl StreamResult {
    /// The same labels without lines.
    #[must_use]
    pub fn without_entries(&self) -> Self {
        Self {
            stream: self.stream.clone(),
            metadata: self.metadata.clone(),
            parsed: self.parsed.clone(),
            entries: Vec::new(),
        }
    }

    /// All labels: those of the stream, then metadata, then what was parsed.
    pub fn labels(&self) -> impl Iterator<Item = (&str, &str)> {
        let all = self.stream.iter().chain(&self.metadata).chain(&self.parsed);
        all.map(|(name, value)| (name.as_str(), value.as_str()))
    }
}

/// What a query gives.
#[derive(Debug, Clone, PartialEq)]
pub enum QueryValue {
    /// Lines.
    Streams(Vec<StreamResult>),
    /// One value per series; sorted only if the query sorts.
    Vector(Vec<Series>),
    /// Series sorted by their labels.
    Matrix(Vec<Series>),
    /// A number.
    Scalar(Point),
}

impl QueryValue {
    /// The type's name in the HTTP API.
    pub fn type_name(&self) -> &'static str {
        match self {
            Self::Streams(_) => "streams",
            Self::Vector(_) => "vector",
            Self::Matrix(_) => "matrix",
            Self::Scalar(_) => "scalar",
        }
    }
}

/// What a query took.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct QueryStats {
    /// Rows that the scan gave, after the filters that it ran.
    pub rows: u64,
    /// Bytes of their lines.
    pub line_bytes: u64,
    /// Rows that passed the pipeline, or lines of the answer.
    pub passed: u64,
    /// Waiting for a place to run.
    pub queued: Duration,
    /// From the start of the work to the answer.
    pub execution: Duration,
}

/// A query's answer with all that comes along.
#[derive(Debug, Clone, PartialEq)]
pub struct QueryResult {
    /// The answer.
    pub value: QueryValue,
    /// What it took.
    pub stats: QueryStats,
}
