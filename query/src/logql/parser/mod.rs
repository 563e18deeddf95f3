//! Text to tree, by recursive descent over the tokens of the lexer; then the check that every
//! pattern, template and regular expression in it can be compiled.
//!
//! Everything is bounded: the length of the text ([`MAX_QUERY_BYTES`]), how deep the parser
//! recurses and how tall a tree becomes ([`MAX_HEIGHT`], which bounds every recursion over it). The
//! first fault ends the parse; its message is worded as Loki words it.

mod check;
mod log;
mod metric;
#[cfg(test)]
mod tests;

use super::ast::{Expr, LogExpr, Matcher, Span};
use super::error::ParseError;
use super::lexer::{self, Kind, Token};

pub use check::validate_matchers;

/// The longest query text accepted.
pub const MAX_QUERY_BYTES: usize = 128 << 10;

/// The tallest tree accepted, and the deepest nesting of parentheses and calls.
pub const MAX_HEIGHT: usize = 200;

/// Parses and checks a query.
///
/// # Errors
/// What is wrong with the text.
pub fn parse(query: &str) -> Result<Expr, ParseError> {
    let expr = parse_unchecked(query)?;
    check::check(&expr)?;
    Ok(expr)
}

/// Parses a query without looking at its selectors' matchers, regexes and templates.
///
/// # Errors
/// What is wrong with the text.
pub fn parse_unchecked(query: &str) -> Result<Expr, ParseError> {
    let mut parser = Parser::new(query)?;
    let parsed = parser.expression(0)?;
    if parser.kind() != &Kind::End {
        return parser.unexpected("");
    }
    Ok(parsed.expr)
}

/// Parses a selector with or without a pipeline.
///
/// # Errors
/// What is wrong with the text, or that it gives samples.
pub fn parse_log(query: &str) -> Result<LogExpr, ParseError> {
    match parse(query)? {
        Expr::Log(log) => Ok(log),
        Expr::Metric(_) => Err(ParseError::new("only log selector is supported")),
    }
}

/// Parses a selector alone, as `match[]` parameters are: `{app="x"}`.
///
/// # Errors
/// What is wrong with the text, or that it is more than a selector.
pub fn parse_selector(query: &str) -> Result<Vec<Matcher>, ParseError> {
    let log = parse_log(query)?;
    if log.stages.is_empty() {
        Ok(log.matchers)
    } else {
        Err(ParseError::new("only label matchers is supported"))
    }
}

/// A node and the height of the tree below and with it.
struct Parsed<T> {
    expr: T,
    height: usize,
}

struct Parser<'q> {
    query: &'q str,
    tokens: Vec<Token>,
    at: usize,
    /// How deep the recursion of the parser itself is.
    depth: usize,
}

impl<'q> Parser<'q> {
    fn new(query: &'q str) -> Result<Self, ParseError> {
        if query.len() >= MAX_QUERY_BYTES {
            let message = format!("input size too long ({} > {MAX_QUERY_BYTES})", query.len());
            return Err(ParseError::new(message));
        }
        Ok(Self {
            query,
            tokens: lexer::tokens(query),
            at: 0,
            depth: 0,
        })
    }

    fn token(&self) -> &Token {
        // The last token is an end or a fault, and is never passed.
        &self.tokens[self.at.min(self.tokens.len() - 1)]
    }

    fn kind(&self) -> &Kind {
        &self.token().kind
    }

    fn ahead(&self, count: usize) -> &Kind {
        let index = (self.at + count).min(self.tokens.len() - 1);
        &self.tokens[index].kind
    }

    fn span(&self) -> Span {
        self.token().span
    }

    /// Where what began at `start` ended.
    fn span_from(&self, start: Span) -> Span {
        let before = self.at.saturating_sub(1).min(self.tokens.len() - 1);
        Span::new(start.start, self.tokens[before].span.end)
    }

    fn advance(&mut self) {
        self.at = (self.at + 1).min(self.tokens.len() - 1);
    }

    fn text(&self, span: Span) -> &'q str {
        self.query.get(span.start..span.end).unwrap_or("")
    }

    fn is_symbol(&self, symbol: &str) -> bool {
        matches!(self.kind(), Kind::Symbol(s) if *s == symbol)
    }

    fn is_keyword(&self, keyword: &str) -> bool {
        matches!(self.kind(), Kind::Keyword(k) if *k == keyword)
    }

    fn accept_symbol(&mut self, symbol: &str) -> bool {
        let found = self.is_symbol(symbol);
        if found {
            self.advance();
        }
        found
    }

    fn accept_keyword(&mut self, keyword: &str) -> bool {
        let found = self.is_keyword(keyword);
        if found {
            self.advance();
        }
        found
    }

    fn expect_symbol(&mut self, symbol: &str) -> Result<(), ParseError> {
        if self.accept_symbol(symbol) {
            Ok(())
        } else {
            self.unexpected(symbol)
        }
    }

    fn expect_identifier(&mut self) -> Result<String, ParseError> {
        if self.kind() != &Kind::Identifier {
            return self.unexpected("IDENTIFIER");
        }
        let name = self.text(self.span()).to_owned();
        self.advance();
        Ok(name)
    }

    fn expect_string(&mut self) -> Result<String, ParseError> {
        let Kind::String(text) = self.kind() else {
            return self.unexpected("STRING");
        };
        let text = text.clone();
        self.advance();
        Ok(text)
    }

    /// The fault that the current token is.
    fn unexpected<T>(&self, expected: &str) -> Result<T, ParseError> {
        let token = self.token();
        let name = match &token.kind {
            Kind::Identifier => "IDENTIFIER",
            Kind::Keyword(word) => word,
            Kind::String(_) => "STRING",
            Kind::Number => "NUMBER",
            Kind::Duration(_) => "DURATION",
            Kind::Bytes(_) => "BYTES",
            Kind::Range(_) => "RANGE",
            Kind::Flag => "PARSER_FLAG",
            Kind::Symbol(symbol) => symbol,
            Kind::End => "$end",
            Kind::Fault(message) => {
                return Err(ParseError::at(self.query, token.span, message.clone()));
            }
        };
        let message = if expected.is_empty() {
            format!("syntax error: unexpected {name}")
        } else {
            format!("syntax error: unexpected {name}, expecting {expected}")
        };
        Err(ParseError::at(self.query, token.span, message))
    }

    /// Runs one level of a recursion.
    fn nested<T>(
        &mut self,
        level: impl FnOnce(&mut Self) -> Result<T, ParseError>,
    ) -> Result<T, ParseError> {
        self.check_height(self.depth)?;
        self.depth += 1;
        let result = level(self);
        self.depth -= 1;
        result
    }

    fn check_height(&self, height: usize) -> Result<(), ParseError> {
        if height < MAX_HEIGHT {
            return Ok(());
        }
        let message = format!("query is nested more than {MAX_HEIGHT} levels deep");
        Err(ParseError::at(self.query, self.span(), message))
    }
}
