//! Selectors and pipelines.

use super::super::ast::{
    CompareOp, Extraction, LabelFilter, LabelFormat, LineFilter, LineOp, LinePattern, LogExpr,
    MatchOp, Matcher, NamedMatcher, Stage, StageKind,
};
use super::super::error::ParseError;
use super::super::lexer::Kind;
use super::{Parsed, Parser};

/// How tightly `and` (also written `,` or a blank) and `or` bind in label filters.
const OR: u8 = 1;
const AND: u8 = 2;

impl Parser<'_> {
    /// `{…} stages`; stops before `| unwrap`.
    pub(super) fn log(&mut self) -> Result<LogExpr, ParseError> {
        let start = self.span();
        let matchers = self.selector()?;
        let stages = self.stages()?;
        Ok(LogExpr {
            matchers,
            stages,
            span: self.span_from(start),
        })
    }

    pub(super) fn selector(&mut self) -> Result<Vec<Matcher>, ParseError> {
        self.expect_symbol("{")?;
        let mut matchers = Vec::new();
        if self.accept_symbol("}") {
            return Ok(matchers);
        }
        loop {
            let name = self.expect_identifier()?;
            let Some(op) = self.match_op() else {
                return self.unexpected("= or =~ or != or !~");
            };
            self.advance();
            let value = self.expect_string()?;
            matchers.push(Matcher { name, op, value });
            if self.accept_symbol("}") {
                return Ok(matchers);
            }
            if !self.accept_symbol(",") {
                return self.unexpected("} or ,");
            }
        }
    }

    fn match_op(&self) -> Option<MatchOp> {
        match self.kind() {
            Kind::Symbol("=") => Some(MatchOp::Equal),
            Kind::Symbol("!=") => Some(MatchOp::NotEqual),
            Kind::Symbol("=~") => Some(MatchOp::Regex),
            Kind::Symbol("!~") => Some(MatchOp::NotRegex),
            _ => None,
        }
    }

    fn line_op(&self) -> Option<LineOp> {
        match self.kind() {
            Kind::Symbol("|=") => Some(LineOp::Contains),
            Kind::Symbol("!=") => Some(LineOp::NotContains),
            Kind::Symbol("|~") => Some(LineOp::Regex),
            Kind::Symbol("!~") => Some(LineOp::NotRegex),
            Kind::Symbol("|>") => Some(LineOp::Pattern),
            Kind::Symbol("!>") => Some(LineOp::NotPattern),
            _ => None,
        }
    }

    pub(super) fn stages(&mut self) -> Result<Vec<Stage>, ParseError> {
        let mut stages = Vec::new();
        loop {
            let start = self.span();
            let kind = if let Some(op) = self.line_op() {
                self.advance();
                self.line_filter(op)?
            } else if self.is_symbol("|") && self.ahead(1) != &Kind::Keyword("unwrap") {
                self.advance();
                self.stage()?
            } else {
                return Ok(stages);
            };
            let span = self.span_from(start);
            stages.push(Stage { kind, span });
        }
    }

    fn line_filter(&mut self, op: LineOp) -> Result<StageKind, ParseError> {
        let mut alternatives = vec![self.line_pattern()?];
        while self.accept_keyword("or") {
            alternatives.push(self.line_pattern()?);
        }
        Ok(StageKind::LineFilter(LineFilter { op, alternatives }))
    }

    fn line_pattern(&mut self) -> Result<LinePattern, ParseError> {
        if self.accept_keyword("ip") {
            self.expect_symbol("(")?;
            let text = self.expect_string()?;
            self.expect_symbol(")")?;
            return Ok(LinePattern { text, ip: true });
        }
        let text = self.expect_string()?;
        Ok(LinePattern { text, ip: false })
    }

    /// What follows a `|`.
    fn stage(&mut self) -> Result<StageKind, ParseError> {
        let Kind::Keyword(keyword) = *self.kind() else {
            return Ok(StageKind::LabelFilter(self.label_filter()?));
        };
        self.advance();
        match keyword {
            "json" => Ok(StageKind::Json(self.extractions()?)),
            "logfmt" => self.logfmt(),
            "regexp" => Ok(StageKind::Regexp(self.expect_string()?)),
            "pattern" => Ok(StageKind::Pattern(self.expect_string()?)),
            "unpack" => Ok(StageKind::Unpack),
            "line_format" => Ok(StageKind::LineFormat(self.expect_string()?)),
            "label_format" => self.label_format(),
            "decolorize" => Ok(StageKind::Decolorize),
            "drop" => Ok(StageKind::Drop(self.named_matchers()?)),
            "keep" => Ok(StageKind::Keep(self.named_matchers()?)),
            _ => {
                self.at -= 1;
                self.unexpected("")
            }
        }
    }

    fn logfmt(&mut self) -> Result<StageKind, ParseError> {
        let (mut strict, mut keep_empty) = (false, false);
        while self.kind() == &Kind::Flag {
            match self.text(self.span()) {
                "--strict" => strict = true,
                _ => keep_empty = true,
            }
            self.advance();
        }
        Ok(StageKind::Logfmt {
            strict,
            keep_empty,
            expressions: self.extractions()?,
        })
    }

    /// `a="b", c`, or nothing.
    fn extractions(&mut self) -> Result<Vec<Extraction>, ParseError> {
        let mut extractions = Vec::new();
        if self.kind() != &Kind::Identifier {
            return Ok(extractions);
        }
        loop {
            let name = self.expect_identifier()?;
            let path = if self.accept_symbol("=") {
                self.expect_string()?
            } else {
                name.clone()
            };
            extractions.push(Extraction { name, path });
            if !self.accept_symbol(",") {
                return Ok(extractions);
            }
        }
    }

    fn label_format(&mut self) -> Result<StageKind, ParseError> {
        let mut formats: Vec<LabelFormat> = Vec::new();
        loop {
            let to = self.expect_identifier()?;
            self.expect_symbol("=")?;
            let format = match self.kind() {
                Kind::Identifier => {
                    let from = self.expect_identifier()?;
                    LabelFormat::Rename { to, from }
                }
                Kind::String(_) => {
                    let template = self.expect_string()?;
                    LabelFormat::Template { to, template }
                }
                _ => return self.unexpected("IDENTIFIER or STRING"),
            };
            if formats.iter().any(|f| f.target() == format.target()) {
                let name = format.target();
                return Err(ParseError::new(format!(
                    "multiple label name '{name}' not allowed in a single format operation"
                )));
            }
            formats.push(format);
            if !self.accept_symbol(",") {
                return Ok(StageKind::LabelFormat(formats));
            }
        }
    }

    fn named_matchers(&mut self) -> Result<Vec<NamedMatcher>, ParseError> {
        let mut named = Vec::new();
        loop {
            let name = self.expect_identifier()?;
            named.push(match self.match_op() {
                Some(op) if matches!(self.ahead(1), Kind::String(_)) => {
                    self.advance();
                    let value = self.expect_string()?;
                    NamedMatcher::Matcher(Matcher { name, op, value })
                }
                Some(MatchOp::Equal | MatchOp::Regex) => {
                    self.advance();
                    return self.unexpected("STRING");
                }
                _ => NamedMatcher::Name(name),
            });
            if !self.accept_symbol(",") {
                return Ok(named);
            }
        }
    }

    pub(super) fn label_filter(&mut self) -> Result<LabelFilter, ParseError> {
        self.label_filters(OR).map(|parsed| parsed.expr)
    }

    /// Conditions joined by what binds at least as tightly as `level`.
    fn label_filters(&mut self, level: u8) -> Result<Parsed<LabelFilter>, ParseError> {
        if level > AND {
            return self.condition();
        }
        let mut left = self.label_filters(level + 1)?;
        while self.accept_join(level) {
            let right = self.label_filters(level + 1)?;
            let height = 1 + left.height.max(right.height);
            self.check_height(height)?;
            let (a, b) = (Box::new(left.expr), Box::new(right.expr));
            let expr = if level == AND {
                LabelFilter::And(a, b)
            } else {
                LabelFilter::Or(a, b)
            };
            left = Parsed { expr, height };
        }
        Ok(left)
    }

    fn accept_join(&mut self, level: u8) -> bool {
        if level == OR {
            return self.accept_keyword("or");
        }
        // A blank joins too: the next condition begins at once.
        self.accept_keyword("and")
            || self.accept_symbol(",")
            || self.is_symbol("(")
            || self.kind() == &Kind::Identifier
    }

    fn condition(&mut self) -> Result<Parsed<LabelFilter>, ParseError> {
        if self.accept_symbol("(") {
            return self.nested(|parser| {
                let inner = parser.label_filters(OR)?;
                parser.expect_symbol(")")?;
                Ok(inner)
            });
        }
        let name = self.expect_identifier()?;
        let (symbol, op) = match self.kind() {
            Kind::Symbol(symbol @ ("=" | "==")) => (*symbol, Some(CompareOp::Equal)),
            Kind::Symbol(symbol @ "!=") => (*symbol, Some(CompareOp::NotEqual)),
            Kind::Symbol(symbol @ ">") => (*symbol, Some(CompareOp::Greater)),
            Kind::Symbol(symbol @ ">=") => (*symbol, Some(CompareOp::GreaterEqual)),
            Kind::Symbol(symbol @ "<") => (*symbol, Some(CompareOp::Less)),
            Kind::Symbol(symbol @ "<=") => (*symbol, Some(CompareOp::LessEqual)),
            Kind::Symbol(symbol @ ("=~" | "!~")) => (*symbol, None),
            _ => return self.unexpected(""),
        };
        let match_op = self.match_op();
        self.advance();
        let expr = match (self.kind().clone(), match_op, op) {
            (Kind::String(value), Some(op), _) => {
                self.advance();
                LabelFilter::Matcher(Matcher { name, op, value })
            }
            (Kind::Keyword("ip"), Some(MatchOp::Equal | MatchOp::NotEqual), _) => {
                self.advance();
                self.expect_symbol("(")?;
                let pattern = self.expect_string()?;
                self.expect_symbol(")")?;
                LabelFilter::Ip {
                    name,
                    negative: symbol == "!=",
                    pattern,
                }
            }
            (Kind::Duration(ns), _, Some(op)) => {
                self.advance();
                LabelFilter::Duration { name, op, ns }
            }
            (Kind::Bytes(bytes), _, Some(op)) => {
                self.advance();
                LabelFilter::Bytes { name, op, bytes }
            }
            (Kind::Number | Kind::Symbol("+" | "-"), _, Some(op)) => {
                let value = self.literal()?.value;
                LabelFilter::Number { name, op, value }
            }
            (_, _, None) => return self.unexpected("STRING"),
            _ => return self.unexpected(""),
        };
        Ok(Parsed { expr, height: 1 })
    }
}
