//! Durations in `[...]` and after `offset`: literals and expressions.
//!
//! A lone literal becomes milliseconds at once; anything else stays a [`DurationExpr`] until the
//! query's start, end and step are known.

use super::selector::DurationValue;
use super::*;

const EXPECTED: &str = "number, duration, step(), or range()";

/// Seconds beyond this do not fit Prometheus' durations.
const MAX_SECONDS: f64 = (1u64 << 63) as f64 / 1e9;

impl Parser<'_> {
    /// A duration in brackets; a literal must be above 0.
    pub(super) fn positive_duration(
        &mut self,
        context: &str,
        expected: &str,
    ) -> Result<DurationValue, ParseError> {
        if !self.starts_duration() {
            return self.unexpected(context, expected);
        }
        let expr = self.duration_expr(4)?;
        let value = literal_ms(expr);
        if let (Ok(ms), pos) = &value
            && *ms <= 0
        {
            return self.error(*pos, "duration must be greater than 0");
        }
        Ok(value.0)
    }

    fn starts_duration(&self) -> bool {
        match self.token.kind {
            Kind::Number | Kind::Duration | Kind::LeftParen => true,
            Kind::Op(BinaryOp::Add | BinaryOp::Sub) => true,
            Kind::Word => {
                matches!(self.word().as_str(), "step" | "range" | "min_of" | "max_of")
            }
            _ => false,
        }
    }

    /// A duration after `offset`, which ends before any operator: one value, signed or not. Also
    /// gives where it is.
    pub(super) fn offset_duration(&mut self) -> Result<(DurationValue, PosRange), ParseError> {
        let start = self.token.pos;
        let sign = self.sign()?;
        if !self.starts_duration() || matches!(self.token.kind, Kind::Op(_)) {
            return self.unexpected("offset", EXPECTED);
        }
        let operand = self.duration_operand()?;
        let expr = match sign {
            Some(sign) => self.signed_duration(sign, start, operand)?,
            None => operand,
        };
        let pos = expr.pos;
        Ok((literal_ms(expr).0, pos))
    }

    fn duration_expr(&mut self, min_precedence: u8) -> Result<DurationExpr, ParseError> {
        on_enough_stack(|| self.duration_level(min_precedence))
    }

    fn duration_level(&mut self, min_precedence: u8) -> Result<DurationExpr, ParseError> {
        self.descend()?;
        let mut lhs = self.duration_unary()?;
        let mut height = 1;
        while let Kind::Op(op) = self.token.kind
            && op.precedence() >= min_precedence
        {
            let op_pos = self.take()?.pos;
            let rhs = self.duration_expr(op.precedence() + u8::from(op != BinaryOp::Pow))?;
            if let DurationKind::Literal { seconds: 0.0, .. } = rhs.kind {
                match op {
                    BinaryOp::Div => return self.error(op_pos, "division by zero"),
                    BinaryOp::Mod => return self.error(op_pos, "modulo by zero"),
                    _ => {}
                }
            }
            height += 1;
            self.check_height(self.depth + height, op_pos)?;
            let pos = lhs.pos.to(rhs.pos);
            let kind = DurationKind::Binary(op, Box::new(lhs), Box::new(rhs));
            lhs = DurationExpr { kind, pos };
        }
        self.depth -= 1;
        Ok(lhs)
    }

    fn duration_unary(&mut self) -> Result<DurationExpr, ParseError> {
        let start = self.token.pos;
        match self.sign()? {
            Some(sign) => {
                let operand = self.duration_expr(BinaryOp::Pow.precedence())?;
                self.signed_duration(sign, start, operand)
            }
            None => self.duration_operand(),
        }
    }

    fn signed_duration(
        &self,
        sign: f64,
        start: PosRange,
        operand: DurationExpr,
    ) -> Result<DurationExpr, ParseError> {
        let pos = start.to(operand.pos);
        let kind = match operand.kind {
            DurationKind::Literal { seconds, duration } => DurationKind::Literal {
                seconds: seconds * sign,
                duration,
            },
            _ if sign < 0.0 => DurationKind::Neg(Box::new(operand)),
            _ => DurationKind::Pos(Box::new(operand)),
        };
        Ok(DurationExpr { kind, pos })
    }

    fn duration_operand(&mut self) -> Result<DurationExpr, ParseError> {
        let start = self.token.pos;
        if let Some(number) = self.number_literal()? {
            if number.value.is_nan() || number.value.abs() > MAX_SECONDS {
                return self.error(start, "duration out of range");
            }
            let kind = DurationKind::Literal {
                seconds: number.value,
                duration: number.duration,
            };
            return Ok(DurationExpr { kind, pos: start });
        }
        let word = self.word();
        let (kind, end) = match (&self.token.kind, word.as_str()) {
            (Kind::LeftParen, _) => {
                self.take()?;
                let inner = self.duration_expr(4)?;
                (DurationKind::Paren(Box::new(inner)), self.close_duration()?)
            }
            (_, "step" | "range") => {
                self.take()?;
                self.expect(&Kind::LeftParen, "duration expression", "\"(\"")?;
                let kind = if word == "step" {
                    DurationKind::Step
                } else {
                    DurationKind::Range
                };
                (kind, self.close_duration()?)
            }
            (_, "min_of" | "max_of") => {
                self.take()?;
                self.expect(&Kind::LeftParen, "duration expression", "\"(\"")?;
                let a = Box::new(self.duration_expr(4)?);
                self.expect(&Kind::Comma, "duration expression", "\",\"")?;
                let b = Box::new(self.duration_expr(4)?);
                let kind = if word == "min_of" {
                    DurationKind::MinOf(a, b)
                } else {
                    DurationKind::MaxOf(a, b)
                };
                (kind, self.close_duration()?)
            }
            _ => return self.unexpected("duration expression", EXPECTED),
        };
        Ok(DurationExpr {
            kind,
            pos: start.to(end),
        })
    }

    fn close_duration(&mut self) -> Result<PosRange, ParseError> {
        Ok(self
            .expect(&Kind::RightParen, "duration expression", "\")\"")?
            .pos)
    }
}

/// A literal as ms, anything else as it is; and where it was.
fn literal_ms(expr: DurationExpr) -> (DurationValue, PosRange) {
    let pos = expr.pos;
    let value = match expr.kind {
        // Through nanoseconds, as Prometheus goes, so that the same fractions round the same way.
        DurationKind::Literal { seconds, .. } => Ok((seconds * 1e9).round() as i64 / 1_000_000),
        _ => Err(Box::new(expr)),
    };
    (value, pos)
}
