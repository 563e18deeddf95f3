//! Text to tree: precedence climbing over the tokens of the lexer.
//!
//! The grammar is Tempo's; what it refuses is refused here. Types of fields are not looked at: that is
//! [`check`](super::check), so that a faulty text and a query that makes no sense can be told apart.
//! Everything is bounded: the length of the text, and the height of the tree, which bounds every
//! recursion over it.

mod field;
mod metrics;
mod pipeline;

use super::ast::*;
use super::error::{FaultKind, TraceqlError};
use super::lexer::{Kind, Lexer, Token};

/// The longest query text accepted, in bytes.
pub const MAX_QUERY_BYTES: usize = 1 << 20;

/// The tallest tree accepted. A chain of one logical operator between fields counts once.
pub const MAX_HEIGHT: usize = 300;

/// Parses a query. Whether its types fit is for [`check`](super::check::check) to say.
///
/// # Errors
/// [`FaultKind::Parse`] and the first place where the text is no query.
pub fn parse(query: &str) -> Result<Query, TraceqlError> {
    let mut parser = Parser::new(query)?;
    let body = parser.body()?;
    let hints = parser.hints()?;
    parser.expect_end()?;
    Ok(Query { body, hints })
}

/// Parses the name of a field as `by` and the tag listings take it: `.a`, `span.a`, `span:name`, `name`.
///
/// # Errors
/// [`FaultKind::Parse`].
pub fn parse_field(text: &str) -> Result<Field, TraceqlError> {
    let mut parser = Parser::new(text)?;
    let field = parser.field()?;
    parser.expect_end()?;
    Ok(field)
}

/// Levels of binary operators, all of which group to the left but the last.
mod level {
    pub(super) const LOGICAL: u8 = 1;
    pub(super) const COMPARISON: u8 = 2;
    pub(super) const SUM: u8 = 3;
    pub(super) const PRODUCT: u8 = 4;
    pub(super) const POWER: u8 = 5;
}

fn arithmetic_level(op: ArithmeticOp) -> u8 {
    match op {
        ArithmeticOp::Add | ArithmeticOp::Sub => level::SUM,
        ArithmeticOp::Mul | ArithmeticOp::Div | ArithmeticOp::Mod => level::PRODUCT,
        ArithmeticOp::Pow => level::POWER,
    }
}

/// A node and the height of the tree below and with it.
struct Tall<T> {
    node: T,
    height: usize,
}

struct Parser<'q> {
    query: &'q str,
    lexer: Lexer<'q>,
    /// The token that is looked at.
    token: Token,
    /// How deep the recursion of the parser itself is.
    depth: usize,
}

impl<'q> Parser<'q> {
    fn new(query: &'q str) -> Result<Self, TraceqlError> {
        if query.len() > MAX_QUERY_BYTES {
            let message = format!(
                "query is {} bytes long, the limit is {MAX_QUERY_BYTES}",
                query.len()
            );
            let pos = PosRange::default();
            return Err(TraceqlError::new(FaultKind::Parse, "", pos, message));
        }
        let mut lexer = Lexer::new(query);
        let token = lexer.next()?;
        Ok(Self {
            query,
            lexer,
            token,
            depth: 0,
        })
    }

    fn error<T>(&self, pos: PosRange, message: impl Into<String>) -> Result<T, TraceqlError> {
        Err(TraceqlError::new(
            FaultKind::Parse,
            self.query,
            pos,
            message,
        ))
    }

    /// The error for a token that does not fit here.
    fn unexpected<T>(&self, expected: &str) -> Result<T, TraceqlError> {
        let mut message = match self.text(self.token.pos) {
            "" => "unexpected end of input".to_owned(),
            text => format!("unexpected {}", shortened(text)),
        };
        if !expected.is_empty() {
            message.push_str(", expected ");
            message.push_str(expected);
        }
        self.error(self.token.pos, message)
    }

    fn text(&self, pos: PosRange) -> &'q str {
        self.query.get(pos.start..pos.end).unwrap_or_default()
    }

    /// The word that is looked at; empty if it is no word.
    fn word(&self) -> &'q str {
        match self.token.kind {
            Kind::Word => self.text(self.token.pos),
            _ => "",
        }
    }

    /// Gives the token and moves on to the next one.
    fn take(&mut self) -> Result<Token, TraceqlError> {
        let next = self.lexer.next()?;
        Ok(std::mem::replace(&mut self.token, next))
    }

    /// Takes the token if it is of that kind.
    fn accept(&mut self, kind: &Kind) -> Result<Option<Token>, TraceqlError> {
        if self.token.kind == *kind {
            self.take().map(Some)
        } else {
            Ok(None)
        }
    }

    /// Takes the token, which must be of that kind.
    fn expect(&mut self, kind: &Kind, expected: &str) -> Result<Token, TraceqlError> {
        match self.accept(kind)? {
            Some(token) => Ok(token),
            None => self.unexpected(expected),
        }
    }

    fn expect_end(&mut self) -> Result<(), TraceqlError> {
        match self.token.kind {
            Kind::End => Ok(()),
            _ => self.unexpected("the end"),
        }
    }

    fn left_paren(&mut self) -> Result<Token, TraceqlError> {
        self.expect(&Kind::LeftParen, "\"(\"")
    }

    fn right_paren(&mut self) -> Result<Token, TraceqlError> {
        self.expect(&Kind::RightParen, "\")\"")
    }

    /// Runs one level of the parser's own recursion, on a new piece of stack where little is left.
    fn deeper<T>(
        &mut self,
        level: impl FnOnce(&mut Self) -> Result<T, TraceqlError>,
    ) -> Result<T, TraceqlError> {
        self.depth += 1;
        self.check_height(self.depth, self.token.pos)?;
        let result = stacker::maybe_grow(128 << 10, 2 << 20, || level(self));
        self.depth -= 1;
        result
    }

    fn check_height(&self, height: usize, pos: PosRange) -> Result<(), TraceqlError> {
        if height > MAX_HEIGHT {
            let message = format!("query nests deeper than {MAX_HEIGHT} levels");
            return self.error(pos, message);
        }
        Ok(())
    }

    /// `a, b, …` until what closes the list.
    fn list<T>(
        &mut self,
        mut item: impl FnMut(&mut Self) -> Result<T, TraceqlError>,
    ) -> Result<Vec<T>, TraceqlError> {
        let mut items = vec![item(self)?];
        while self.accept(&Kind::Comma)?.is_some() {
            items.push(item(self)?);
        }
        Ok(items)
    }

    /// The literal that is looked at, if it is one. Signs are operators.
    fn literal(&self) -> Option<Literal> {
        let value = match &self.token.kind {
            Kind::String(text) => Value::String(text.clone()),
            Kind::Int(n) => Value::Int(*n),
            Kind::Float(f) => Value::Float(*f),
            Kind::Duration(ns) => Value::Duration(*ns),
            Kind::Word => word_value(self.word())?,
            _ => return None,
        };
        let pos = self.token.pos;
        Some(Literal { value, pos })
    }

    /// `with(name = value, …)`, if it is there.
    fn hints(&mut self) -> Result<Vec<Hint>, TraceqlError> {
        if self.word() != "with" {
            return Ok(Vec::new());
        }
        self.take()?;
        self.left_paren()?;
        let hints = self.list(Self::hint)?;
        self.right_paren()?;
        Ok(hints)
    }

    fn hint(&mut self) -> Result<Hint, TraceqlError> {
        let name = self.expect(&Kind::Word, "the name of a hint")?;
        self.expect(&Kind::Compare(CompareOp::Equal), "\"=\"")?;
        let Some(value) = self.literal() else {
            return self.unexpected("a literal");
        };
        let pos = name.pos.to(self.take()?.pos);
        Ok(Hint {
            name: self.text(name.pos).to_owned(),
            value,
            pos,
        })
    }
}

fn word_value(word: &str) -> Option<Value> {
    use chronolith_engine::model::{SpanKind, SpanStatus};
    Some(match word {
        "nil" => Value::Nil,
        "true" => Value::Bool(true),
        "false" => Value::Bool(false),
        "ok" => Value::Status(SpanStatus::Ok),
        "error" => Value::Status(SpanStatus::Error),
        "unset" => Value::Status(SpanStatus::Unset),
        "unspecified" => Value::Kind(SpanKind::Unspecified),
        "internal" => Value::Kind(SpanKind::Internal),
        "server" => Value::Kind(SpanKind::Server),
        "client" => Value::Kind(SpanKind::Client),
        "producer" => Value::Kind(SpanKind::Producer),
        "consumer" => Value::Kind(SpanKind::Consumer),
        _ => return None,
    })
}

fn shortened(text: &str) -> String {
    match text.char_indices().nth(20) {
        Some((end, _)) => format!("{:?}...", text.get(..end).unwrap_or_default()),
        None => format!("{text:?}"),
    }
}

#[cfg(test)]
mod tests;
