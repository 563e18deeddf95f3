//! Faults in the text of a query.

use super::ast::Span;

/// Why a text is no LogQL query. Displays as Loki words it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParseError {
    /// What is wrong.
    pub message: String,
    /// Where; `None` if it is about the query as a whole or about a value in it.
    pub span: Option<Span>,
    line_column: Option<(usize, usize)>,
}

impl ParseError {
    /// A fault at a place of `query`.
    pub fn at(query: &str, span: Span, message: impl Into<String>) -> Self {
        let before = query.get(..span.start.min(query.len())).unwrap_or(query);
        let line = before.matches('\n').count() + 1;
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        let column = before.get(line_start..).unwrap_or("").chars().count() + 1;
        Self {
            message: message.into(),
            span: Some(span),
            line_column: Some((line, column)),
        }
    }

    /// A fault without a place.
    pub fn new(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            span: None,
            line_column: None,
        }
    }
}

impl std::fmt::Display for ParseError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.line_column {
            Some((line, column)) => {
                write!(
                    f,
                    "parse error at line {line}, col {column}: {}",
                    self.message
                )
            }
            None => write!(f, "parse error : {}", self.message),
        }
    }
}

impl std::error::Error for ParseError {}
