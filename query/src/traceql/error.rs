//! What can be wrong with a query's text.

use crate::position::{LineColumn, PosRange};

/// Why a query was refused, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{kind} at line {}, col {}: {message}", position.line, position.column)]
pub struct TraceqlError {
    /// At which stage.
    pub kind: FaultKind,
    /// What is wrong.
    pub message: String,
    /// The part of the text that it is about.
    pub pos: PosRange,
    /// Where that part starts.
    pub position: LineColumn,
}

/// At which stage a query was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FaultKind {
    /// The text is no query.
    Parse,
    /// Its types do not fit, or a literal is out of its range.
    Invalid,
    /// It means something, but nobody evaluates it (nor does Tempo).
    Unsupported,
}

impl std::fmt::Display for FaultKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Parse => "parse error",
            Self::Invalid => "invalid query",
            Self::Unsupported => "not supported",
        })
    }
}

impl TraceqlError {
    /// An error at `pos` of `query`.
    #[must_use]
    pub fn new(kind: FaultKind, query: &str, pos: PosRange, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            pos,
            position: pos.line_column(query),
        }
    }
}
