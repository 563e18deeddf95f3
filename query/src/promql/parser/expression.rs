//! Operators, calls, aggregations, literals, parentheses.

use super::*;
use crate::promql::display::QuotedBytes;
use crate::promql::functions;
use crate::promql::number::{parse_duration_ms, parse_number};

/// Keywords that cannot be a metric name.
const NEVER_METRICS: [&str; 6] = [
    "bool",
    "on",
    "ignoring",
    "group_left",
    "group_right",
    "atan2",
];

/// Keywords that are no function even before a parenthesis.
const NEVER_FUNCTIONS: [&str; 8] = [
    "and", "or", "unless", "by", "without", "offset", "anchored", "smoothed",
];

impl Parser<'_> {
    /// A whole expression.
    pub(super) fn expression(&mut self) -> Result<Expr, ParseError> {
        Ok(self.binary(1)?.expr)
    }

    /// Operands and operators that bind at least as tightly as `min_precedence`.
    pub(super) fn binary(&mut self, min_precedence: u8) -> Result<Parsed, ParseError> {
        on_enough_stack(|| self.binary_level(min_precedence))
    }

    fn binary_level(&mut self, min_precedence: u8) -> Result<Parsed, ParseError> {
        self.descend()?;
        let mut lhs = self.unary()?;
        while let Some(op) = self
            .binary_op()
            .filter(|op| op.precedence() >= min_precedence)
        {
            let op_pos = self.take()?.pos;
            let (return_bool, matching) = self.binary_modifiers()?;
            let rhs = self.binary(op.precedence() + u8::from(op != BinaryOp::Pow))?;
            lhs = self.combine(op, op_pos, lhs, return_bool, matching, rhs)?;
        }
        self.depth -= 1;
        Ok(lhs)
    }

    fn binary_op(&self) -> Option<BinaryOp> {
        match self.token.kind {
            Kind::Op(op) => Some(op),
            Kind::Word => match self.word().as_str() {
                "or" => Some(BinaryOp::Or),
                "and" => Some(BinaryOp::And),
                "unless" => Some(BinaryOp::Unless),
                "atan2" => Some(BinaryOp::Atan2),
                _ => None,
            },
            _ => None,
        }
    }

    /// Builds the node; the modifiers are checked here, because they are not kept where an operand
    /// is a scalar.
    fn combine(
        &self,
        op: BinaryOp,
        op_pos: PosRange,
        lhs: Parsed,
        return_bool: bool,
        mut matching: VectorMatching,
        rhs: Parsed,
    ) -> Result<Parsed, ParseError> {
        let pos = lhs.expr.pos().to(rhs.expr.pos());
        let height = 1 + lhs.height.max(rhs.height);
        self.check_height(height, op_pos)?;
        let types = (lhs.expr.value_type(), rhs.expr.value_type());
        let fills = matching.fill_lhs.is_some() || matching.fill_rhs.is_some();
        if fills && !self.features.binop_fill_modifiers {
            return self.error(pos, "binop fill modifiers are experimental and not enabled");
        }
        if return_bool && !op.is_comparison() {
            return self.error(
                op_pos,
                "bool modifier can only be used on comparison operators",
            );
        }
        if op.is_comparison() && !return_bool && types == (ValueType::Scalar, ValueType::Scalar) {
            return self.error(op_pos, "comparisons between scalars must use BOOL modifier");
        }
        let both = matching
            .matching_labels
            .iter()
            .find(|l| matching.include.contains(l));
        if let Some(label) = both.filter(|_| matching.on) {
            let message = format!("label {label:?} must not occur in ON and GROUP clause at once");
            return self.error(op_pos, message);
        }
        for operand in [&lhs.expr, &rhs.expr] {
            if !matches!(operand.value_type(), ValueType::Scalar | ValueType::Vector) {
                let message = "binary expression must contain only scalar and instant vector types";
                return self.error(operand.pos(), message);
            }
        }
        let matching = if types == (ValueType::Vector, ValueType::Vector) {
            if op.is_set() {
                if matching.card != Cardinality::OneToOne {
                    let message = format!("no grouping allowed for {:?} operation", op.as_str());
                    return self.error(pos, message);
                }
                if fills {
                    let message = "filling in missing series not allowed for set operators";
                    return self.error(pos, message);
                }
                matching.card = Cardinality::ManyToMany;
            }
            Some(matching)
        } else {
            if !matching.matching_labels.is_empty() {
                return self.error(pos, "vector matching only allowed between instant vectors");
            }
            if fills {
                let message = "filling in missing series only allowed between instant vectors";
                return self.error(pos, message);
            }
            if op.is_set() {
                let op = op.as_str();
                let message =
                    format!("set operator {op:?} not allowed in binary scalar expression");
                return self.error(pos, message);
            }
            None
        };
        let (lhs, rhs) = (Box::new(lhs.expr), Box::new(rhs.expr));
        Ok(Parsed {
            expr: Expr::Binary(Binary {
                op,
                lhs,
                rhs,
                return_bool,
                matching,
                pos,
            }),
            height,
        })
    }

    /// `bool`, `on`, `group_left`, `fill`, ... between an operator and its right operand.
    fn binary_modifiers(&mut self) -> Result<(bool, VectorMatching), ParseError> {
        let mut matching = VectorMatching::default();
        let return_bool = self.accept_word("bool")?;
        let word = self.word();
        if word == "on" || word == "ignoring" {
            self.take()?;
            matching.on = word == "on";
            matching.matching_labels = self.grouping_labels()?;
            let group = self.word();
            if group == "group_left" || group == "group_right" {
                self.take()?;
                matching.card = if group == "group_left" {
                    Cardinality::ManyToOne
                } else {
                    Cardinality::OneToMany
                };
                if self.token.kind == Kind::LeftParen {
                    matching.include = self.grouping_labels()?;
                }
            }
        }
        loop {
            let word = self.word();
            let is_fill = matches!(word.as_str(), "fill" | "fill_left" | "fill_right");
            // Without a parenthesis it is a metric of that name.
            if !is_fill || self.peek_kind() != Kind::LeftParen {
                return Ok((return_bool, matching));
            }
            let pos = self.take()?.pos;
            let taken = match word.as_str() {
                "fill" => matching.fill_lhs.is_some() || matching.fill_rhs.is_some(),
                "fill_left" => matching.fill_lhs.is_some(),
                _ => matching.fill_rhs.is_some(),
            };
            if taken {
                return self.error(pos, format!("unexpected <{word}>, value is already set"));
            }
            let value = Some(self.fill_value()?);
            match word.as_str() {
                "fill" => (matching.fill_lhs, matching.fill_rhs) = (value, value),
                "fill_left" => matching.fill_lhs = value,
                _ => matching.fill_rhs = value,
            }
        }
    }

    fn fill_value(&mut self) -> Result<f64, ParseError> {
        self.expect(&Kind::LeftParen, "fill value", "\"(\"")?;
        let sign = self.sign()?.unwrap_or(1.0);
        let Some(number) = self.number_literal()? else {
            return self.unexpected("fill value", "number");
        };
        self.expect(&Kind::RightParen, "fill value", "\")\"")?;
        Ok(sign * number.value)
    }

    /// Takes a `+` or `-`.
    pub(super) fn sign(&mut self) -> Result<Option<f64>, ParseError> {
        let sign = match self.token.kind {
            Kind::Op(BinaryOp::Add) => 1.0,
            Kind::Op(BinaryOp::Sub) => -1.0,
            _ => return Ok(None),
        };
        self.take()?;
        Ok(Some(sign))
    }

    /// Takes a number or duration literal, a duration as its seconds.
    pub(super) fn number_literal(&mut self) -> Result<Option<NumberLiteral>, ParseError> {
        let pos = self.token.pos;
        let parsed = match self.token.kind {
            Kind::Number => parse_number(self.text(pos)),
            Kind::Duration => parse_duration_ms(self.text(pos)).map(|ms| ms as f64 / 1000.0),
            _ => return Ok(None),
        };
        let value = match parsed {
            Ok(value) => value,
            Err(message) => return self.error(pos, message),
        };
        let duration = self.token.kind == Kind::Duration;
        self.take()?;
        Ok(Some(NumberLiteral {
            value,
            duration,
            pos,
        }))
    }

    /// An operand: signs bind as `*` does, so `-1^2` is -1; a sign before a literal is part of it.
    fn unary(&mut self) -> Result<Parsed, ParseError> {
        let start = self.token.pos;
        let Some(sign) = self.sign()? else {
            let primary = self.primary()?;
            return self.postfix(primary);
        };
        let operand = self.binary(BinaryOp::Pow.precedence())?;
        let pos = start.to(operand.expr.pos());
        if let Expr::Number(number) = operand.expr {
            let value = number.value * sign;
            return Ok(Parsed {
                expr: Expr::Number(NumberLiteral {
                    value,
                    pos,
                    ..number
                }),
                height: 1,
            });
        }
        let height = operand.height + 1;
        self.check_height(height, pos)?;
        let expr = Box::new(operand.expr);
        Ok(Parsed {
            expr: Expr::Unary(Unary {
                negate: sign < 0.0,
                expr,
                pos,
            }),
            height,
        })
    }

    fn primary(&mut self) -> Result<Parsed, ParseError> {
        let leaf = |expr| Ok(Parsed { expr, height: 1 });
        if let Some(number) = self.number_literal()? {
            return leaf(Expr::Number(number));
        }
        match self.token.kind {
            Kind::String(_) => {
                let Token {
                    kind: Kind::String(value),
                    pos,
                } = self.take()?
                else {
                    return self.unexpected("", "");
                };
                let bytes = undecodable(self.text(pos));
                leaf(Expr::String(StringLiteral { value, bytes, pos }))
            }
            Kind::LeftParen => {
                let start = self.take()?.pos;
                let inner = self.binary(1)?;
                let end = self.expect(&Kind::RightParen, "", "")?.pos;
                let height = inner.height + 1;
                self.check_height(height, start)?;
                let expr = Box::new(inner.expr);
                Ok(Parsed {
                    expr: Expr::Paren(Paren {
                        expr,
                        pos: start.to(end),
                    }),
                    height,
                })
            }
            Kind::LeftBrace | Kind::MetricWord => leaf(Expr::Vector(self.vector_selector()?)),
            Kind::Word => self.word_expression(),
            _ => self.unexpected("", ""),
        }
    }

    /// A call, an aggregation or a selector: all start with a word.
    fn word_expression(&mut self) -> Result<Parsed, ParseError> {
        let word = self.word();
        if NEVER_METRICS.contains(&word.as_str()) {
            return self.unexpected("", "");
        }
        let call = self.peek_kind() == Kind::LeftParen;
        if let Some(op) = AggregateOp::ALL.into_iter().find(|op| op.as_str() == word) {
            if call || matches!(self.peek_word().as_str(), "by" | "without") {
                return self.aggregate(op);
            }
        } else if call && !NEVER_FUNCTIONS.contains(&word.as_str()) {
            return self.call();
        }
        Ok(Parsed {
            expr: Expr::Vector(self.vector_selector()?),
            height: 1,
        })
    }

    fn call(&mut self) -> Result<Parsed, ParseError> {
        let word = self.word();
        let start = self.take()?.pos;
        // These are keywords, and keywords come in any case; function names do not.
        let keyword = matches!(word.as_str(), "start" | "end" | "step" | "range");
        let name = if keyword { &word } else { self.text(start) };
        let Some(func) = functions::lookup(name) else {
            return self.error(start, format!("unknown function with name {name:?}"));
        };
        if func.experimental && !self.features.experimental_functions {
            return self.error(start, format!("function {name:?} is not enabled"));
        }
        let (args, height, end) = self.arguments()?;
        Ok(Parsed {
            expr: Expr::Call(Call {
                func,
                args,
                pos: start.to(end),
            }),
            height: height + 1,
        })
    }

    /// `(a, b)`; gives the arguments, the height of the tallest and where they are.
    fn arguments(&mut self) -> Result<(Vec<Expr>, usize, PosRange), ParseError> {
        let start = self.expect(&Kind::LeftParen, "", "")?.pos;
        let (mut args, mut height) = (Vec::new(), 0);
        if let Some(end) = self.accept(&Kind::RightParen)? {
            return Ok((args, height, start.to(end.pos)));
        }
        loop {
            let arg = self.binary(1)?;
            height = height.max(arg.height);
            args.push(arg.expr);
            if let Some(comma) = self.accept(&Kind::Comma)? {
                if self.token.kind == Kind::RightParen {
                    let message = "trailing commas not allowed in function call args";
                    return self.error(comma.pos, message);
                }
                continue;
            }
            let end = self.expect(&Kind::RightParen, "", "")?.pos;
            self.check_height(height + 1, start)?;
            return Ok((args, height, start.to(end)));
        }
    }

    fn aggregate(&mut self, op: AggregateOp) -> Result<Parsed, ParseError> {
        let start = self.take()?.pos;
        let before = self.aggregate_modifier()?;
        if self.token.kind != Kind::LeftParen {
            return self.unexpected("aggregation", "");
        }
        let (mut args, height, mut end) = self.arguments()?;
        let modifier = match before {
            Some(modifier) => Some(modifier),
            None => self.aggregate_modifier()?,
        };
        let (without, grouping, modifier_pos) =
            modifier.unwrap_or_else(|| (false, Vec::new(), end));
        end = end.to(modifier_pos);
        let pos = start.to(end);
        if args.is_empty() {
            return self.error(pos, "no arguments for aggregate expression provided");
        }
        if op.experimental() && !self.features.experimental_functions {
            let message = format!(
                "{}() is experimental and must be enabled with \
                 --enable-feature=promql-experimental-functions",
                op.as_str()
            );
            return self.error(pos, message);
        }
        let wanted = 1 + usize::from(op.parameter().is_some());
        if args.len() != wanted {
            let got = args.len();
            let message = format!(
                "wrong number of arguments for aggregate expression provided, \
                 expected {wanted}, got {got}"
            );
            return self.error(pos, message);
        }
        let expr = Box::new(args.remove(wanted - 1));
        let param = args.pop().map(Box::new);
        let aggregate = Aggregate {
            op,
            param,
            expr,
            grouping,
            without,
            pos,
        };
        Ok(Parsed {
            expr: Expr::Aggregate(aggregate),
            height: height + 1,
        })
    }

    /// `by (…)` or `without (…)`: whether it is `without`, the labels, where it is.
    fn aggregate_modifier(&mut self) -> Result<Option<(bool, Vec<String>, PosRange)>, ParseError> {
        let word = self.word();
        if word != "by" && word != "without" {
            return Ok(None);
        }
        let start = self.take()?.pos;
        let open = self.token.pos;
        let (labels, end) = self.grouping_labels_until()?;
        Ok(Some((word == "without", labels, start.to(open).to(end))))
    }

    fn grouping_labels(&mut self) -> Result<Vec<String>, ParseError> {
        Ok(self.grouping_labels_until()?.0)
    }

    /// `(a, "b", c,)` and where its closing parenthesis is.
    fn grouping_labels_until(&mut self) -> Result<(Vec<String>, PosRange), ParseError> {
        self.expect(&Kind::LeftParen, "grouping opts", "\"(\"")?;
        let mut labels = Vec::new();
        loop {
            if let Some(close) = self.accept(&Kind::RightParen)? {
                return Ok((labels, close.pos));
            }
            match &self.token.kind {
                Kind::Word => labels.push(self.text(self.token.pos).to_owned()),
                Kind::String(label) => {
                    let pos = self.token.pos;
                    let bytes = undecodable(self.text(pos));
                    if bytes.is_some() || label.is_empty() {
                        let name = QuotedBytes(bytes.as_deref().unwrap_or_default());
                        let message = format!("invalid label name for grouping: {name}");
                        return self.error(pos, message);
                    }
                    labels.push(label.clone());
                }
                _ => return self.unexpected("grouping opts", "label"),
            }
            self.take()?;
            if self.accept(&Kind::Comma)?.is_none() && self.token.kind != Kind::RightParen {
                return self.unexpected("grouping opts", "\",\" or \")\"");
            }
        }
    }
}
