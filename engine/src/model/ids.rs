//! Small shared words: which signal, and the number of a change of the store.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The three kinds of telemetry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[repr(u8)]
pub enum Signal {
    /// Series of samples.
    Metrics = 1,
    /// Log records, events among them.
    Logs = 2,
    /// Spans of traces.
    Spans = 3,
}

impl Signal {
    /// From its stored number.
    #[must_use]
    pub fn from_u8(number: u8) -> Option<Self> {
        [Self::Metrics, Self::Logs, Self::Spans]
            .into_iter()
            .find(|signal| *signal as u8 == number)
    }

    /// The word used in listings and flags.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Metrics => "metrics",
            Self::Logs => "logs",
            Self::Spans => "spans",
        }
    }
}

/// Numbers the changes of a store's manifest; never falls, never repeats. 0 is the empty store.
///
/// Caches are keyed by it: whatever a change of segments or a deletion may alter bears a new number.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Generation(pub u64);

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// Names a segment file inside one store; never reused.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct SegmentId(pub u64);

impl fmt::Display for SegmentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:010}", self.0)
    }
}

/// Names a request, so that a retry of it is recognised.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct BatchId(pub [u8; 16]);
