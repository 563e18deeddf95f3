//! The answer of a query, for servers and tests.

use std::sync::Arc;
use std::time::Duration;

use chronolith_engine::model::{Histogram, Labels};

use super::annotations::Annotations;
pub use super::cache::KeptText;
use super::exec::SampleCounts;

/// A float at a time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct FloatPoint {
    /// When, ms since the epoch.
    pub time_ms: i64,
    /// What.
    pub value: f64,
}

/// A native histogram at a time.
#[derive(Debug, Clone, PartialEq)]
pub struct HistogramPoint {
    /// When, ms since the epoch.
    pub time_ms: i64,
    /// What.
    pub histogram: Arc<Histogram>,
}

/// The value of an element of an instant vector.
#[derive(Debug, Clone, PartialEq)]
pub enum SampleValue {
    /// A float.
    Float(f64),
    /// A native histogram.
    Histogram(Arc<Histogram>),
}

/// An element of an instant vector.
#[derive(Debug, Clone, PartialEq)]
pub struct VectorElement {
    /// Whose.
    pub labels: Labels,
    /// When, ms since the epoch: the evaluation time.
    pub time_ms: i64,
    /// What.
    pub value: SampleValue,
}

/// A series of a matrix. At least one point of either kind.
#[derive(Debug, Clone, PartialEq)]
pub struct Series {
    /// Whose.
    pub labels: Labels,
    /// The floats in order of time.
    pub floats: Vec<FloatPoint>,
    /// The histograms in order of time.
    pub histograms: Vec<HistogramPoint>,
}

/// What a query gives.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// One float.
    Scalar(FloatPoint),
    /// One text.
    String {
        /// When, ms since the epoch.
        time_ms: i64,
        /// What.
        value: String,
    },
    /// An instant vector; sorted only if the query sorts.
    Vector(Vec<VectorElement>),
    /// Series sorted by their labels.
    Matrix(Vec<Series>),
}

impl Value {
    /// Floats and histograms in it.
    pub fn point_count(&self) -> usize {
        match self {
            Self::Scalar(_) | Self::String { .. } => 1,
            Self::Vector(elements) => elements.len(),
            Self::Matrix(matrix) => {
                let points = matrix.iter().map(|s| s.floats.len() + s.histograms.len());
                points.sum()
            }
        }
    }

    /// The type's name in the HTTP API.
    pub fn type_name(&self) -> &'static str {
        match self {
            Self::Scalar(_) => "scalar",
            Self::String { .. } => "string",
            Self::Vector(_) => "vector",
            Self::Matrix(_) => "matrix",
        }
    }
}

/// What a query took.
#[derive(Debug, Clone, Default)]
pub struct QueryStats {
    /// Samples touched.
    pub samples: SampleCounts,
    /// Parsing, planning, opening scans.
    pub preparation: Duration,
    /// Running the plan and making the answer, sorting included.
    pub evaluation: Duration,
    /// Sorting the answer.
    pub sorting: Duration,
    /// Waiting for a place to run.
    pub queued: Duration,
    /// Steps that were taken over from the result cache instead of being evaluated.
    pub steps_reused: usize,
}

impl QueryStats {
    /// Everything, from the call to the answer.
    pub fn total(&self) -> Duration {
        self.queued + self.preparation + self.evaluation
    }
}

/// A query's answer with all that comes along.
#[derive(Debug, Clone)]
pub struct QueryResult {
    /// The answer.
    pub value: Value,
    /// Remarks.
    pub annotations: Annotations,
    /// What it took.
    pub stats: QueryStats,
    /// The physical plan with its metrics, if asked for.
    pub plan: Option<String>,
    /// Where the written answer is kept, if [`QueryOptions::keep_text`](super::QueryOptions::keep_text)
    /// asked for it and the result cache has a place.
    pub text: Option<KeptText>,
}
