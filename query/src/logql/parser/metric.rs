//! Expressions that give samples, and operators between them.

use super::super::ast::{
    Binary, BinaryModifier, BinaryOp, Cardinality, Conversion, Expr, Grouping, LabelReplace,
    Literal, LogExpr, LogRange, MetricExpr, RangeAggregation, RangeOp, Span, Unwrap,
    VectorAggregation, VectorOp,
};
use super::super::error::ParseError;
use super::super::lexer::Kind;
use super::super::units::{parse_go_float, plain_float};
use super::{Parsed, Parser};

/// A window as far as it has been read; parentheses may end before the range is known.
struct PartialRange {
    log: LogExpr,
    unwrap: Option<Unwrap>,
    range_ns: Option<i64>,
    offset_ns: i64,
}

impl Parser<'_> {
    /// An expression of operators that bind at least as tightly as `level`.
    pub(super) fn expression(&mut self, level: u8) -> Result<Parsed<Expr>, ParseError> {
        self.nested(|parser| {
            let start = parser.span();
            let mut left = parser.operand()?;
            while let Some(op) = parser.binary_op().filter(|op| op.precedence() >= level) {
                parser.advance();
                let modifier = parser.modifier()?;
                // `^` binds to the right.
                let right_level = op.precedence() + u8::from(op != BinaryOp::Pow);
                let right = parser.expression(right_level)?;
                let height = 1 + left.height.max(right.height);
                let span = parser.span_from(start);
                let expr = binary(op, modifier, left.expr, right.expr, span)?;
                left = Parsed {
                    height: if matches!(expr, MetricExpr::Literal(_)) {
                        1
                    } else {
                        height
                    },
                    expr: Expr::Metric(expr),
                };
                parser.check_height(left.height)?;
            }
            Ok(left)
        })
    }

    fn binary_op(&self) -> Option<BinaryOp> {
        Some(match self.kind() {
            Kind::Keyword("or") => BinaryOp::Or,
            Kind::Keyword("and") => BinaryOp::And,
            Kind::Keyword("unless") => BinaryOp::Unless,
            Kind::Symbol("+") => BinaryOp::Add,
            Kind::Symbol("-") => BinaryOp::Sub,
            Kind::Symbol("*") => BinaryOp::Mul,
            Kind::Symbol("/") => BinaryOp::Div,
            Kind::Symbol("%") => BinaryOp::Mod,
            Kind::Symbol("^") => BinaryOp::Pow,
            Kind::Symbol("==") => BinaryOp::Eq,
            Kind::Symbol("!=") => BinaryOp::Ne,
            Kind::Symbol(">") => BinaryOp::Gt,
            Kind::Symbol(">=") => BinaryOp::Ge,
            Kind::Symbol("<") => BinaryOp::Lt,
            Kind::Symbol("<=") => BinaryOp::Le,
            _ => return None,
        })
    }

    fn modifier(&mut self) -> Result<BinaryModifier, ParseError> {
        let mut modifier = BinaryModifier {
            return_bool: self.accept_keyword("bool"),
            ..BinaryModifier::default()
        };
        if !self.is_keyword("on") && !self.is_keyword("ignoring") {
            return Ok(modifier);
        }
        modifier.on = self.is_keyword("on");
        self.advance();
        modifier.labels = self.labels()?;
        modifier.cardinality = if self.accept_keyword("group_left") {
            Cardinality::ManyToOne
        } else if self.accept_keyword("group_right") {
            Cardinality::OneToMany
        } else {
            return Ok(modifier);
        };
        // `group_left (a) …` names labels; `group_left (rate(…))` begins the operand.
        if self.is_symbol("(") && self.is_label_list() {
            modifier.include = self.labels()?;
        }
        Ok(modifier)
    }

    fn is_label_list(&self) -> bool {
        let after_comma = |index: usize| match self.ahead(index) {
            Kind::Symbol(")") => Some(true),
            Kind::Symbol(",") => None,
            _ => Some(false),
        };
        let mut index = 1;
        if self.ahead(index) == &Kind::Symbol(")") {
            return true;
        }
        loop {
            if self.ahead(index) != &Kind::Identifier {
                return false;
            }
            if let Some(answer) = after_comma(index + 1) {
                return answer;
            }
            index += 2;
        }
    }

    /// `(a, b)`
    fn labels(&mut self) -> Result<Vec<String>, ParseError> {
        self.expect_symbol("(")?;
        let mut labels = Vec::new();
        if self.accept_symbol(")") {
            return Ok(labels);
        }
        loop {
            labels.push(self.expect_identifier()?);
            if self.accept_symbol(")") {
                return Ok(labels);
            }
            if !self.accept_symbol(",") {
                return self.unexpected(") or ,");
            }
        }
    }

    fn operand(&mut self) -> Result<Parsed<Expr>, ParseError> {
        let start = self.span();
        let leaf = |expr: MetricExpr| Parsed {
            expr: Expr::Metric(expr),
            height: 1,
        };
        match *self.kind() {
            Kind::Symbol("{") => Ok(Parsed {
                expr: Expr::Log(self.log()?),
                height: 1,
            }),
            Kind::Symbol("(") => {
                self.advance();
                let inner = self.expression(0)?;
                self.expect_symbol(")")?;
                Ok(inner)
            }
            Kind::Number | Kind::Symbol("+" | "-") => {
                self.literal().map(|l| leaf(MetricExpr::Literal(l)))
            }
            Kind::Keyword("label_replace") => self.label_replace(start),
            Kind::Keyword("vector") => {
                self.advance();
                self.expect_symbol("(")?;
                if self.kind() != &Kind::Number {
                    return self.unexpected("NUMBER");
                }
                let value = self.literal()?.value;
                self.expect_symbol(")")?;
                let span = self.span_from(start);
                Ok(leaf(MetricExpr::VectorOf(Literal { value, span })))
            }
            Kind::Keyword(name) => {
                if let Some(op) = RangeOp::ALL.into_iter().find(|op| op.as_str() == name) {
                    self.advance();
                    return self.range_aggregation(op, start).map(leaf);
                }
                match VectorOp::ALL.into_iter().find(|op| op.as_str() == name) {
                    Some(op) => {
                        self.advance();
                        self.vector_aggregation(op, start)
                    }
                    None => self.unexpected(""),
                }
            }
            _ => self.unexpected(""),
        }
    }

    /// A number with or without a sign.
    pub(super) fn literal(&mut self) -> Result<Literal, ParseError> {
        let start = self.span();
        let negative = self.is_symbol("-");
        if negative || self.is_symbol("+") {
            self.advance();
        }
        if self.kind() != &Kind::Number {
            return self.unexpected("NUMBER");
        }
        let value = parse_go_float(self.text(self.span())).map_err(|error| {
            ParseError::new(format!("unable to parse literal as a float: {error}"))
        })?;
        self.advance();
        Ok(Literal {
            value: if negative { -value } else { value },
            span: self.span_from(start),
        })
    }

    fn metric(&mut self) -> Result<Parsed<MetricExpr>, ParseError> {
        let start = self.span();
        let parsed = self.expression(0)?;
        match parsed.expr {
            Expr::Metric(expr) => Ok(Parsed {
                expr,
                height: parsed.height,
            }),
            Expr::Log(_) => {
                let message = "syntax error: unexpected log selector, expecting a metric";
                Err(ParseError::at(self.query, start, message))
            }
        }
    }

    fn label_replace(&mut self, start: Span) -> Result<Parsed<Expr>, ParseError> {
        self.advance();
        self.expect_symbol("(")?;
        let inner = self.metric()?;
        let mut texts: [String; 4] = Default::default();
        for text in &mut texts {
            self.expect_symbol(",")?;
            *text = self.expect_string()?;
        }
        self.expect_symbol(")")?;
        let [destination, replacement, source, regex] = texts;
        let expr = MetricExpr::LabelReplace(Box::new(LabelReplace {
            expr: inner.expr,
            destination,
            replacement,
            source,
            regex,
            span: self.span_from(start),
        }));
        Ok(Parsed {
            expr: Expr::Metric(expr),
            height: inner.height + 1,
        })
    }

    fn grouping(&mut self) -> Result<Option<Grouping>, ParseError> {
        let without = self.is_keyword("without");
        if !without && !self.is_keyword("by") {
            return Ok(None);
        }
        self.advance();
        let labels = self.labels()?;
        Ok(Some(Grouping { labels, without }))
    }

    fn range_aggregation(&mut self, op: RangeOp, start: Span) -> Result<MetricExpr, ParseError> {
        self.expect_symbol("(")?;
        let param = self.number_and_comma()?.map(|(number, _)| number);
        let partial = self.log_range()?;
        let Some(range_ns) = partial.range_ns else {
            return self.unexpected("RANGE");
        };
        let range = LogRange {
            log: partial.log,
            unwrap: partial.unwrap,
            range_ns,
            offset_ns: partial.offset_ns,
        };
        self.expect_symbol(")")?;
        let grouping = self.grouping()?;
        let aggregation = RangeAggregation {
            op,
            param,
            range,
            grouping,
            span: self.span_from(start),
        };
        check_range(&aggregation)?;
        Ok(MetricExpr::Range(Box::new(aggregation)))
    }

    /// The number before a comma, also as written.
    fn number_and_comma(&mut self) -> Result<Option<(f64, String)>, ParseError> {
        if self.kind() != &Kind::Number || self.ahead(1) != &Kind::Symbol(",") {
            return Ok(None);
        }
        let text = self.text(self.span()).to_owned();
        let value = self.literal()?.value;
        self.advance();
        Ok(Some((value, text)))
    }

    fn log_range(&mut self) -> Result<PartialRange, ParseError> {
        if !self.is_symbol("(") {
            return self.bare_log_range();
        }
        self.nested(|parser| {
            parser.advance();
            let mut range = parser.log_range()?;
            parser.expect_symbol(")")?;
            if range.range_ns.is_none() && matches!(parser.kind(), Kind::Range(_)) {
                parser.window(&mut range)?;
                if range.unwrap.is_none() {
                    range.unwrap = parser.unwrap()?;
                }
            }
            Ok(range)
        })
    }

    fn bare_log_range(&mut self) -> Result<PartialRange, ParseError> {
        let start = self.span();
        let matchers = self.selector()?;
        let mut range = PartialRange {
            log: LogExpr {
                matchers,
                stages: Vec::new(),
                span: start,
            },
            unwrap: None,
            range_ns: None,
            offset_ns: 0,
        };
        if matches!(self.kind(), Kind::Range(_)) {
            self.window(&mut range)?;
            range.log.stages = self.stages()?;
            range.unwrap = self.unwrap()?;
        } else {
            range.log.stages = self.stages()?;
            range.unwrap = self.unwrap()?;
            if matches!(self.kind(), Kind::Range(_)) {
                self.window(&mut range)?;
            }
        }
        range.log.span = self.span_from(start);
        Ok(range)
    }

    /// `[5m] offset 1h`
    fn window(&mut self, range: &mut PartialRange) -> Result<(), ParseError> {
        let Kind::Range(ns) = *self.kind() else {
            return self.unexpected("RANGE");
        };
        if ns <= 0 {
            let message = "range must be greater than 0";
            return Err(ParseError::at(self.query, self.span(), message));
        }
        self.advance();
        range.range_ns = Some(ns);
        if self.accept_keyword("offset") {
            let Kind::Duration(ns) = *self.kind() else {
                return self.unexpected("DURATION");
            };
            self.advance();
            range.offset_ns = ns;
        }
        Ok(())
    }

    /// `| unwrap duration(label) | filters`
    fn unwrap(&mut self) -> Result<Option<Unwrap>, ParseError> {
        let start = self.span();
        if !self.accept_symbol("|") {
            return Ok(None);
        }
        if !self.accept_keyword("unwrap") {
            return self.unexpected("unwrap");
        }
        let conversion = match self.kind() {
            Kind::Keyword("bytes") => Conversion::Bytes,
            Kind::Keyword("duration") => Conversion::Duration,
            Kind::Keyword("duration_seconds") => Conversion::DurationSeconds,
            _ => Conversion::Number,
        };
        let label = if conversion == Conversion::Number {
            self.expect_identifier()?
        } else {
            self.advance();
            self.expect_symbol("(")?;
            let label = self.expect_identifier()?;
            self.expect_symbol(")")?;
            label
        };
        let mut filters = Vec::new();
        while self.accept_symbol("|") {
            filters.push(self.label_filter()?);
        }
        Ok(Some(Unwrap {
            label,
            conversion,
            filters,
            span: self.span_from(start),
        }))
    }

    fn vector_aggregation(
        &mut self,
        op: VectorOp,
        start: Span,
    ) -> Result<Parsed<Expr>, ParseError> {
        let mut grouping = self.grouping()?;
        self.expect_symbol("(")?;
        let param = self.number_and_comma()?;
        let inner = self.metric()?;
        self.expect_symbol(")")?;
        if grouping.is_none() {
            grouping = self.grouping()?;
        }
        let k = check_vector(op, param, grouping.as_ref())?;
        let expr = MetricExpr::Vector(Box::new(VectorAggregation {
            op,
            k,
            expr: inner.expr,
            grouping,
            span: self.span_from(start),
        }));
        Ok(Parsed {
            expr: Expr::Metric(expr),
            height: inner.height + 1,
        })
    }
}

fn check_range(e: &RangeAggregation) -> Result<(), ParseError> {
    let name = e.op.as_str();
    let fail = |message: String| Err(ParseError::new(message));
    match (e.op, e.param) {
        (RangeOp::QuantileOverTime, None) => {
            return fail(format!("parameter required for operation {name}"));
        }
        (RangeOp::QuantileOverTime, Some(_)) | (_, None) => {}
        (_, Some(param)) => {
            let param = plain_float(param);
            return fail(format!(
                "parameter {param} not supported for operation {name}"
            ));
        }
    }
    if e.grouping.is_some() && !e.op.takes_grouping() {
        return fail(format!("grouping not allowed for {name} aggregation"));
    }
    match &e.range.unwrap {
        Some(_) if !e.op.takes_unwrap() => fail(format!("invalid aggregation {name} with unwrap")),
        None if !e.op.takes_lines() => fail(format!("invalid aggregation {name} without unwrap")),
        _ => Ok(()),
    }
}

/// The number of elements, if the operator takes one.
fn check_vector(
    op: VectorOp,
    param: Option<(f64, String)>,
    grouping: Option<&Grouping>,
) -> Result<Option<i64>, ParseError> {
    let name = op.as_str();
    let fail = |message: String| Err(ParseError::new(message));
    let k = match (op.takes_k(), param) {
        (true, None) => return fail(format!("parameter required for operation {name}")),
        (false, Some((_, text))) => {
            return fail(format!(
                "unsupported parameter for operation {name}({text},"
            ));
        }
        (false, None) => None,
        (true, Some((_, text))) => match text.parse::<i64>() {
            Ok(k) if k > 0 => Some(k),
            Ok(_) => {
                let message = "invalid parameter (must be greater than 0)";
                return fail(format!("{message} {name}({text}"));
            }
            Err(_) => return fail(format!("invalid parameter {name}({text},")),
        },
    };
    match (op, grouping) {
        (VectorOp::ApproxTopk, Some(_)) => {
            fail(format!("grouping not allowed for {name} aggregation"))
        }
        (VectorOp::Sort | VectorOp::SortDesc, Some(g)) if !g.labels.is_empty() => {
            fail("sort and sort_desc doesn't allow grouping by ".to_owned())
        }
        _ => Ok(k),
    }
}

/// The operation; a literal if both operands are.
fn binary(
    op: BinaryOp,
    modifier: BinaryModifier,
    left: Expr,
    right: Expr,
    span: Span,
) -> Result<MetricExpr, ParseError> {
    let sample = |leg: &str, expr: Expr| match expr {
        Expr::Metric(expr) => Ok(expr),
        Expr::Log(log) => {
            let kind = if log.stages.is_empty() {
                "*syntax.MatchersExpr"
            } else {
                "*syntax.PipelineExpr"
            };
            let op = op.as_str();
            Err(ParseError::new(format!(
                "unexpected type for {leg} leg of binary operation ({op}): {kind}"
            )))
        }
    };
    let left = sample("left", left)?;
    let right = sample("right", right)?;
    if op.is_set() {
        for (leg, expr) in [("left", &left), ("right", &right)] {
            if let MetricExpr::Literal(literal) = expr {
                let (op, value) = (op.as_str(), literal.value);
                return Err(ParseError::new(format!(
                    "unexpected literal for {leg} leg of logical/set binary operation ({op}): {value:.6}"
                )));
            }
        }
    }
    if let (MetricExpr::Literal(a), MetricExpr::Literal(b)) = (&left, &right) {
        let value = op.of_numbers(a.value, b.value);
        return Ok(MetricExpr::Literal(Literal { value, span }));
    }
    Ok(MetricExpr::Binary(Box::new(Binary {
        op,
        left,
        right,
        modifier,
        span,
    })))
}
