//! TraceQL: text to tree ([`parser`]), the tree ([`ast`]), whether its types fit ([`check`]) and its
//! canonical text ([`display`]).

pub mod ast;
pub mod check;
pub mod display;
pub mod error;
mod lexer;
pub mod parser;
pub mod regex;

pub use error::{FaultKind, TraceqlError};

/// Parses and checks a query.
///
/// # Errors
/// What is wrong first, and where.
pub fn parse(text: &str) -> Result<ast::Query, TraceqlError> {
    let query = parser::parse(text)?;
    check::check(text, &query)?;
    Ok(query)
}
