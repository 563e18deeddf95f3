//! What log records and spans of one source share, stored once per stream.

use super::{Attributes, Labels};

/// The instrumentation scope that produced records or spans.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Scope {
    /// Name of the library.
    pub name: String,
    /// Its version.
    pub version: String,
    /// More about it.
    pub attributes: Attributes,
}

/// A source of log records or spans. Two streams are the same when all of this is equal.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Stream {
    /// The labels by which the stream is found.
    pub labels: Labels,
    /// Resource attributes with their types, as sent.
    pub resource: Attributes,
    /// The scope.
    pub scope: Scope,
}

impl Stream {
    /// A stream that has only labels.
    #[must_use]
    pub fn from_labels(labels: Labels) -> Self {
        Self {
            labels,
            ..Self::default()
        }
    }
}
