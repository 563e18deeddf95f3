//! Text to tree: precedence climbing over the tokens of the lexer, then the type check.
//!
//! Everything is bounded: the length of the text ([`MAX_QUERY_BYTES`]), the height of the tree
//! ([`MAX_HEIGHT`], which bounds every recursion over it) and the size of regular expressions.
//! The first fault ends the parse; its message is worded as Prometheus words it.

mod check;
mod duration;
mod expression;
mod selector;

use super::ast::*;
use super::error::ParseError;
use super::features::Features;
use super::lexer::{Kind, Lexer, Token, undecodable};

/// The longest query text accepted.
pub const MAX_QUERY_BYTES: usize = 1 << 20;

/// The tallest tree accepted. A chain like `1 + 1 + 1` counts one per operator.
pub const MAX_HEIGHT: usize = 500;

/// Parses and checks a query. The experimental parts of the language are refused unless
/// `features` turns them on.
pub fn parse(query: &str, features: &Features) -> Result<Expr, ParseError> {
    parse_limited(query, features, MAX_HEIGHT)
}

/// As [`parse`], but trees taller than `height_max` are refused; [`MAX_HEIGHT`] holds in any case.
pub fn parse_limited(
    query: &str,
    features: &Features,
    height_max: usize,
) -> Result<Expr, ParseError> {
    let mut parser = Parser::new(query, features)?;
    parser.height_max = height_max.min(MAX_HEIGHT);
    if parser.token.kind == Kind::End {
        let start = PosRange::default();
        return Err(ParseError::new(
            query,
            start,
            "no expression found in input",
        ));
    }
    let expr = parser.expression()?;
    parser.expect_end()?;
    check::check(query, &expr)?;
    Ok(expr)
}

/// Parses a vector selector without modifiers, as `match[]` parameters are: `up{job="x"}`. At
/// least one matcher must refuse the empty string.
pub fn parse_selector(text: &str) -> Result<VectorSelector, ParseError> {
    let mut parser = Parser::new(text, &Features::default())?;
    let selector = parser.vector_selector()?;
    parser.expect_end()?;
    check::check_selector(text, &selector)?;
    Ok(selector)
}

/// Parses a metric as the series lines of test scripts and alert labels write it:
/// `name{label="value"}`, only `=`. Gives name-value pairs in the order of the text.
pub fn parse_metric(text: &str) -> Result<Vec<(String, String)>, ParseError> {
    let mut parser = Parser::new(text, &Features::default())?;
    let selector = parser.vector_selector()?;
    parser.expect_end()?;
    let mut labels = Vec::new();
    for matcher in selector.matchers {
        if matcher.op != MatchOp::Equal {
            let message = format!(
                "unexpected {:?} in label set, expected \"=\"",
                matcher.op.as_str()
            );
            return Err(ParseError::new(text, selector.pos, message));
        }
        labels.push((matcher.name, matcher.value));
    }
    Ok(labels)
}

/// Runs one level of a recursion over a tree, on a new piece of stack where little is left.
fn on_enough_stack<R>(level: impl FnOnce() -> R) -> R {
    stacker::maybe_grow(128 << 10, 2 << 20, level)
}

/// A node and the height of the tree below and with it.
struct Parsed {
    expr: Expr,
    height: usize,
}

struct Parser<'q> {
    query: &'q str,
    features: Features,
    lexer: Lexer<'q>,
    /// The token that is looked at.
    token: Token,
    /// How deep the recursion of the parser itself is.
    depth: usize,
    /// The tallest tree that is accepted.
    height_max: usize,
}

impl<'q> Parser<'q> {
    fn new(query: &'q str, features: &Features) -> Result<Self, ParseError> {
        if query.len() > MAX_QUERY_BYTES {
            let message = format!(
                "query is {} bytes long, the limit is {MAX_QUERY_BYTES}",
                query.len()
            );
            return Err(ParseError::new("?", PosRange::default(), message));
        }
        let mut lexer = Lexer::new(query);
        let token = lexer.next()?;
        Ok(Self {
            query,
            features: *features,
            lexer,
            token,
            depth: 0,
            height_max: MAX_HEIGHT,
        })
    }

    fn error<T>(&self, pos: PosRange, message: impl Into<String>) -> Result<T, ParseError> {
        Err(ParseError::new(self.query, pos, message))
    }

    /// Gives the token and moves on to the next one.
    fn take(&mut self) -> Result<Token, ParseError> {
        let next = self.lexer.next()?;
        Ok(std::mem::replace(&mut self.token, next))
    }

    /// Takes the token if it is of that kind.
    fn accept(&mut self, kind: &Kind) -> Result<Option<Token>, ParseError> {
        if self.token.kind == *kind {
            self.take().map(Some)
        } else {
            Ok(None)
        }
    }

    /// Takes the token, which must be of that kind.
    fn expect(&mut self, kind: &Kind, context: &str, expected: &str) -> Result<Token, ParseError> {
        match self.accept(kind)? {
            Some(token) => Ok(token),
            None => self.unexpected(context, expected),
        }
    }

    fn expect_end(&mut self) -> Result<(), ParseError> {
        if self.token.kind == Kind::End {
            Ok(())
        } else {
            self.unexpected("", "")
        }
    }

    fn text(&self, pos: PosRange) -> &'q str {
        self.query.get(pos.start..pos.end).unwrap_or_default()
    }

    /// The word that is looked at, in lower case; empty if it is no word.
    fn word(&self) -> String {
        match self.token.kind {
            Kind::Word => self.text(self.token.pos).to_ascii_lowercase(),
            _ => String::new(),
        }
    }

    fn accept_word(&mut self, word: &str) -> Result<bool, ParseError> {
        let found =
            self.token.kind == Kind::Word && self.text(self.token.pos).eq_ignore_ascii_case(word);
        if found {
            self.take()?;
        }
        Ok(found)
    }

    /// The kind of the token after the one that is looked at; `End` if that one is faulty.
    fn peek_kind(&self) -> Kind {
        self.lexer
            .clone()
            .next()
            .map_or(Kind::End, |token| token.kind)
    }

    fn peek_word(&self) -> String {
        match self.lexer.clone().next() {
            Ok(Token {
                kind: Kind::Word,
                pos,
            }) => self.text(pos).to_ascii_lowercase(),
            _ => String::new(),
        }
    }

    /// The error for a token that does not fit here.
    fn unexpected<T>(&self, context: &str, expected: &str) -> Result<T, ParseError> {
        let mut message = format!(
            "unexpected {}",
            describe(&self.token, self.text(self.token.pos))
        );
        if !context.is_empty() {
            message.push_str(" in ");
            message.push_str(context);
        }
        if !expected.is_empty() {
            message.push_str(", expected ");
            message.push_str(expected);
        }
        self.error(self.token.pos, message)
    }

    /// Enters one level of recursion.
    fn descend(&mut self) -> Result<(), ParseError> {
        self.depth += 1;
        self.check_height(self.depth, self.token.pos)
    }

    fn check_height(&self, height: usize, pos: PosRange) -> Result<(), ParseError> {
        let height_max = self.height_max;
        if height > height_max {
            return self.error(
                pos,
                format!("expression nests deeper than {height_max} levels"),
            );
        }
        Ok(())
    }
}

/// How error messages name a token.
fn describe(token: &Token, text: &str) -> String {
    const KEYWORDS: [&str; 13] = [
        "offset",
        "smoothed",
        "anchored",
        "by",
        "without",
        "on",
        "ignoring",
        "group_left",
        "group_right",
        "fill",
        "fill_left",
        "fill_right",
        "bool",
    ];
    let shortened = |text: &str| match text.char_indices().nth(10) {
        Some((end, _)) => format!("{:?}...", &text[..end]),
        None => format!("{text:?}"),
    };
    match &token.kind {
        Kind::End => "end of input".to_owned(),
        Kind::Word => {
            let word = text.to_ascii_lowercase();
            if KEYWORDS.contains(&word.as_str()) {
                format!("<{text}>")
            } else if matches!(word.as_str(), "and" | "or" | "unless" | "atan2") {
                format!("<op:{text}>")
            } else if AggregateOp::ALL.iter().any(|op| op.as_str() == word) {
                format!("<aggr:{text}>")
            } else if matches!(word.as_str(), "start" | "end" | "step" | "range") {
                format!("{text:?}")
            } else {
                format!("identifier {text:?}")
            }
        }
        Kind::MetricWord => format!("metric identifier {text:?}"),
        Kind::Number => format!("number {}", shortened(text)),
        Kind::Duration => format!("duration {}", shortened(text)),
        Kind::String(_) => format!("string {}", shortened(text)),
        Kind::Op(_) | Kind::At | Kind::EqualRegex | Kind::NotRegex => format!("<op:{text}>"),
        _ => format!("{text:?}"),
    }
}

#[cfg(test)]
mod tests;
