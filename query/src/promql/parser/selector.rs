//! Selectors and what may follow an expression: `[...]`, `offset`, `@`, `anchored`, `smoothed`.

use super::*;
use crate::promql::pattern;

/// What comes after `offset`: a literal in ms, or an expression.
pub(super) type DurationValue = Result<i64, Box<DurationExpr>>;

impl Parser<'_> {
    /// `name{matchers}`, either part alone.
    pub(super) fn vector_selector(&mut self) -> Result<VectorSelector, ParseError> {
        let mut pos = self.token.pos;
        let name = match self.token.kind {
            Kind::Word | Kind::MetricWord => {
                let token = self.take()?;
                Some(self.text(token.pos).to_owned())
            }
            Kind::LeftBrace => None,
            _ => return self.unexpected("", ""),
        };
        let mut matchers = Vec::new();
        if self.token.kind == Kind::LeftBrace {
            let braces;
            (matchers, braces) = self.label_matchers()?;
            pos = pos.to(braces);
        }
        if let Some(name) = &name {
            matchers.push(LabelMatcher {
                name: METRIC_NAME.to_owned(),
                op: MatchOp::Equal,
                value: name.clone(),
                compiled: None,
            });
        }
        Ok(VectorSelector {
            name,
            matchers,
            offset_ms: 0,
            offset_expr: None,
            at: None,
            extension: Extension::None,
            pos,
        })
    }

    fn label_matchers(&mut self) -> Result<(Vec<LabelMatcher>, PosRange), ParseError> {
        const CONTEXT: &str = "label matching";
        let start = self.expect(&Kind::LeftBrace, "", "")?.pos;
        let mut matchers = Vec::new();
        loop {
            if let Some(close) = self.accept(&Kind::RightBrace)? {
                return Ok((matchers, start.to(close.pos)));
            }
            let name_pos = self.token.pos;
            let (name, quoted) = match &self.token.kind {
                Kind::Word => (self.text(name_pos).to_owned(), false),
                Kind::String(name) => (name.clone(), true),
                _ => return self.unexpected(CONTEXT, "identifier or \"}\""),
            };
            self.take()?;
            let op = match self.token.kind {
                Kind::Assign => Some(MatchOp::Equal),
                Kind::Op(BinaryOp::Ne) => Some(MatchOp::NotEqual),
                Kind::EqualRegex => Some(MatchOp::Regex),
                Kind::NotRegex => Some(MatchOp::NotRegex),
                _ => None,
            };
            matchers.push(match op {
                Some(op) => {
                    self.take()?;
                    let Kind::String(value) = &self.token.kind else {
                        return self.unexpected(CONTEXT, "string");
                    };
                    let value = value.clone();
                    let pos = name_pos.to(self.token.pos);
                    let compiled = match op {
                        MatchOp::Equal | MatchOp::NotEqual => None,
                        MatchOp::Regex | MatchOp::NotRegex => {
                            match pattern::matcher(&name, op == MatchOp::NotRegex, &value) {
                                Ok(matcher) => Some(matcher),
                                Err(message) => return self.error(pos, message),
                            }
                        }
                    };
                    self.take()?;
                    LabelMatcher {
                        name,
                        op,
                        value,
                        compiled,
                    }
                }
                None if quoted => LabelMatcher {
                    name: METRIC_NAME.to_owned(),
                    op: MatchOp::Equal,
                    value: name,
                    compiled: None,
                },
                None => return self.unexpected(CONTEXT, "label matching operator"),
            });
            if self.accept(&Kind::Comma)?.is_none() && self.token.kind != Kind::RightBrace {
                return self.unexpected(CONTEXT, "\",\" or \"}\"");
            }
        }
    }

    /// Everything that may follow an operand.
    pub(super) fn postfix(&mut self, mut operand: Parsed) -> Result<Parsed, ParseError> {
        loop {
            match self.token.kind {
                Kind::LeftBracket => operand = self.brackets(operand)?,
                Kind::At => self.at_modifier(&mut operand.expr)?,
                Kind::Word => match self.word().as_str() {
                    "offset" => self.offset_modifier(&mut operand.expr)?,
                    "anchored" => self.extension(&mut operand.expr, Extension::Anchored)?,
                    "smoothed" => self.extension(&mut operand.expr, Extension::Smoothed)?,
                    _ => return Ok(operand),
                },
                _ => return Ok(operand),
            }
        }
    }

    /// `[range]` or `[range:step]`.
    fn brackets(&mut self, operand: Parsed) -> Result<Parsed, ParseError> {
        const DURATION: &str = "number, duration, step(), or range()";
        let open = self.take()?.pos;
        let range = self.positive_duration("subquery or range selector", DURATION)?;
        let (range_ms, range_expr) = split(range);
        if self.accept(&Kind::Colon)?.is_some() {
            let (step_ms, step_expr) = if self.token.kind == Kind::RightBracket {
                (0, None)
            } else {
                let expected = "number, duration, step(), range(), or \"]\"";
                split(self.positive_duration("subquery selector", expected)?)
            };
            let close = self
                .expect(&Kind::RightBracket, "subquery selector", "\"]\"")?
                .pos;
            let height = operand.height + 1;
            self.check_height(height, open)?;
            let pos = operand.expr.pos().to(close);
            let expr = Expr::Subquery(Subquery {
                expr: Box::new(operand.expr),
                range_ms,
                range_expr,
                step_ms,
                step_expr,
                offset_ms: 0,
                offset_expr: None,
                at: None,
                pos,
            });
            return Ok(Parsed { expr, height });
        }
        let close = self
            .expect(&Kind::RightBracket, "subquery or range", "\":\" or \"]\"")?
            .pos;
        let brackets = open.to(close);
        let Expr::Vector(selector) = operand.expr else {
            return self.error(brackets, "ranges only allowed for vector selectors");
        };
        if selector.offset_ms != 0 || selector.offset_expr.is_some() {
            return self.error(brackets, "no offset modifiers allowed before range");
        }
        if selector.at.is_some() {
            return self.error(brackets, "no @ modifiers allowed before range");
        }
        let pos = selector.pos.to(close);
        let expr = Expr::Matrix(MatrixSelector {
            selector,
            range_ms,
            range_expr,
            pos,
        });
        Ok(Parsed {
            expr,
            height: operand.height,
        })
    }

    fn offset_modifier(&mut self, expr: &mut Expr) -> Result<(), ParseError> {
        let start = self.take()?.pos;
        let (value, end) = self.offset_duration()?;
        let pos = expr.pos();
        let (offset_ms, offset_expr, whole) = match expr {
            Expr::Vector(v) => (&mut v.offset_ms, &mut v.offset_expr, &mut v.pos),
            Expr::Matrix(m) => (
                &mut m.selector.offset_ms,
                &mut m.selector.offset_expr,
                &mut m.pos,
            ),
            Expr::Subquery(s) => (&mut s.offset_ms, &mut s.offset_expr, &mut s.pos),
            _ => {
                let message = "offset modifier must be preceded by an instant vector selector \
                               or range vector selector or a subquery";
                return self.error(pos, message);
            }
        };
        if *offset_ms != 0 || offset_expr.is_some() {
            return self.error(pos, "offset may not be set multiple times");
        }
        (*offset_ms, *offset_expr) = split(value);
        *whole = whole.to(start).to(end);
        Ok(())
    }

    fn at_modifier(&mut self, expr: &mut Expr) -> Result<(), ParseError> {
        let start = self.take()?.pos;
        let pos = expr.pos();
        let mut end = self.token.pos;
        let word = self.word();
        let value = if word == "start" || word == "end" {
            self.take()?;
            self.expect(&Kind::LeftParen, "@", "timestamp")?;
            end = self.expect(&Kind::RightParen, "@", "timestamp")?.pos;
            if word == "start" { At::Start } else { At::End }
        } else {
            let sign = self.sign()?.unwrap_or(1.0);
            let Some(number) = self.number_literal()? else {
                return self.unexpected("@", "timestamp");
            };
            end = end.to(number.pos);
            let ms = (sign * number.value * 1000.0).round();
            // Later additions of offsets and ranges must not overflow.
            if ms.is_nan() || ms.abs() >= (i64::MAX / 4) as f64 {
                let ts = sign * number.value;
                return self.error(
                    pos,
                    format!("timestamp out of bounds for @ modifier: {ts:.6}"),
                );
            }
            At::Time(ms as i64)
        };
        let (at, whole) = match expr {
            Expr::Vector(v) => (&mut v.at, &mut v.pos),
            Expr::Matrix(m) => (&mut m.selector.at, &mut m.pos),
            Expr::Subquery(s) => (&mut s.at, &mut s.pos),
            _ => {
                let message = "@ modifier must be preceded by an instant vector selector \
                               or range vector selector or a subquery";
                return self.error(pos, message);
            }
        };
        if at.is_some() {
            return self.error(pos, "@ <timestamp> may not be set multiple times");
        }
        *at = Some(value);
        *whole = whole.to(start).to(end);
        Ok(())
    }

    fn extension(&mut self, expr: &mut Expr, extension: Extension) -> Result<(), ParseError> {
        let name = if extension == Extension::Anchored {
            "anchored"
        } else {
            "smoothed"
        };
        let pos = expr.pos();
        if !self.features.extended_range_selectors {
            return self.error(
                pos,
                format!("{name} modifier is experimental and not enabled"),
            );
        }
        let end = self.take()?.pos;
        let (current, whole) = match expr {
            Expr::Vector(v) => (&mut v.extension, &mut v.pos),
            Expr::Matrix(m) => (&mut m.selector.extension, &mut m.pos),
            Expr::Subquery(_) => {
                return self.error(
                    pos,
                    format!("{name} modifier is not supported for subqueries"),
                );
            }
            _ => return self.error(pos, format!("{name} modifier not implemented")),
        };
        if *current != Extension::None && *current != extension {
            let message = "anchored and smoothed modifiers cannot be used together";
            return self.error(pos, message);
        }
        *current = extension;
        *whole = whole.to(end);
        Ok(())
    }
}

/// A duration as the two fields of a node.
fn split(value: DurationValue) -> (i64, Option<Box<DurationExpr>>) {
    match value {
        Ok(ms) => (ms, None),
        Err(expr) => (0, Some(expr)),
    }
}
