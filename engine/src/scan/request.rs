//! What to read: a scan is data, so that it can be sent to another machine.

use serde::{Deserialize, Serialize};

use crate::index::Matcher;
use crate::model::{Generation, TimeRange};

/// A scan of one signal.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ScanRequest {
    /// Tests that the labels of every series or stream must pass; empty selects all.
    pub matchers: Vec<Matcher>,
    /// The time that is looked at.
    pub range: TimeRange,
    /// At most this many series (metrics) or rows (logs, spans).
    pub limit: Option<usize>,
    /// Refuse to answer from another generation of the store than this one.
    pub generation: Option<Generation>,
}

impl ScanRequest {
    /// Everything that passes the matchers in a range.
    #[must_use]
    pub fn new(matchers: Vec<Matcher>, range: TimeRange) -> Self {
        Self {
            matchers,
            range,
            limit: None,
            generation: None,
        }
    }
}
