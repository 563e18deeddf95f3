//! The error of everything that can be wrong with a query's text.

use super::ast::{LineColumn, PosRange};

/// Why a query was refused, and where. Displays as Prometheus words it:
/// `1:5: parse error: unexpected end of input`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}: parse error: {message}", self.position_text())]
pub struct ParseError {
    /// What is wrong.
    pub message: String,
    /// The part of the text that it is about.
    pub pos: PosRange,
    /// Where that part starts; `None` for an empty query.
    pub position: Option<LineColumn>,
}

impl ParseError {
    /// An error at `pos` of `query`.
    pub fn new(query: &str, pos: PosRange, message: impl Into<String>) -> Self {
        let position = (!query.is_empty()).then(|| pos.line_column(query));
        Self {
            message: message.into(),
            pos,
            position,
        }
    }

    fn position_text(&self) -> String {
        self.position
            .map_or_else(|| "unknown position".to_owned(), |p| p.to_string())
    }
}
