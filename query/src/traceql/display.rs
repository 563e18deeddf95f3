//! The canonical text of a tree: parses to the same tree again, positions aside. Field names are
//! also the label names of series.

use std::fmt::{Display, Formatter, Result, Write as _};

use chronolith_engine::model::{SpanKind, SpanStatus};

use super::ast::*;

/// Text in double quotes with Go's escapes.
struct Quoted<'a>(&'a str);

impl Display for Quoted<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        f.write_char('"')?;
        for c in self.0.chars() {
            match c {
                '"' => f.write_str("\\\"")?,
                '\\' => f.write_str("\\\\")?,
                '\n' => f.write_str("\\n")?,
                '\r' => f.write_str("\\r")?,
                '\t' => f.write_str("\\t")?,
                c if c.is_control() => write!(f, "\\u{:04x}", c as u32)?,
                c => f.write_char(c)?,
            }
        }
        f.write_char('"')
    }
}

/// Nanoseconds as Go writes a duration: `1h5m0s`, `1.5s`, `300µs`.
#[derive(Debug, Clone, Copy)]
pub struct GoDuration(pub i64);

impl Display for GoDuration {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        let ns = self.0.unsigned_abs();
        if self.0 < 0 {
            f.write_char('-')?;
        }
        let small = |f: &mut Formatter<'_>, unit: u64, name: &str| {
            let fraction = ns % unit;
            write!(f, "{}", ns / unit)?;
            if fraction > 0 {
                let width = unit.ilog10() as usize;
                let digits = format!("{fraction:0width$}");
                write!(f, ".{}", digits.trim_end_matches('0'))?;
            }
            f.write_str(name)
        };
        match ns {
            0 => f.write_str("0s"),
            1..1_000 => write!(f, "{ns}ns"),
            1_000..1_000_000 => small(f, 1_000, "µs"),
            1_000_000..1_000_000_000 => small(f, 1_000_000, "ms"),
            _ => {
                let minutes = ns / 60_000_000_000;
                if minutes >= 60 {
                    write!(f, "{}h", minutes / 60)?;
                }
                if minutes > 0 {
                    write!(f, "{}m", minutes % 60)?;
                }
                let rest = ns % 60_000_000_000;
                write!(f, "{}", rest / 1_000_000_000)?;
                let fraction = rest % 1_000_000_000;
                if fraction > 0 {
                    let digits = format!("{fraction:09}");
                    write!(f, ".{}", digits.trim_end_matches('0'))?;
                }
                f.write_char('s')
            }
        }
    }
}

/// The word of a status.
#[must_use]
pub fn status_word(status: SpanStatus) -> &'static str {
    match status {
        SpanStatus::Unset => "unset",
        SpanStatus::Ok => "ok",
        SpanStatus::Error => "error",
    }
}

/// The word of a kind.
#[must_use]
pub fn kind_word(kind: SpanKind) -> &'static str {
    match kind {
        SpanKind::Unspecified => "unspecified",
        SpanKind::Internal => "internal",
        SpanKind::Server => "server",
        SpanKind::Client => "client",
        SpanKind::Producer => "producer",
        SpanKind::Consumer => "consumer",
    }
}

impl Display for Value {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match self {
            Self::Nil => f.write_str("nil"),
            Self::String(text) => Quoted(text).fmt(f),
            Self::Int(n) => write!(f, "{n}"),
            Self::Float(x) => write!(f, "{x:?}"),
            Self::Bool(b) => write!(f, "{b}"),
            Self::Duration(ns) => GoDuration(*ns).fmt(f),
            Self::Status(status) => f.write_str(status_word(*status)),
            Self::Kind(kind) => f.write_str(kind_word(*kind)),
        }
    }
}

impl Display for Field {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        if self.of_parent {
            f.write_str("parent.")?;
        }
        match &self.name {
            FieldName::Intrinsic {
                intrinsic,
                is_scoped,
            } => match (intrinsic.word(), intrinsic.scoped()) {
                (_, Some((scope, word))) if *is_scoped => write!(f, "{scope}:{word}"),
                (Some(word), _) => f.write_str(word),
                (None, Some((scope, word))) => write!(f, "{scope}:{word}"),
                (None, None) => Ok(()),
            },
            FieldName::Attribute { scope, key } => {
                f.write_str(scope.as_str())?;
                if !self.of_parent || *scope != Scope::Any {
                    f.write_char('.')?;
                }
                match is_plain(key) {
                    true => f.write_str(key),
                    false => QuotedName(key).fmt(f),
                }
            }
        }
    }
}

/// Whether a name needs no quotes.
fn is_plain(key: &str) -> bool {
    let ends_name = |c: char| c.is_whitespace() || "{}()=~!<>&|^,\"".contains(c);
    let begins_number = key.starts_with(|c: char| c.is_ascii_digit());
    !key.is_empty() && !begins_number && !key.contains(ends_name)
}

/// A name in quotes, where only quotes and backslashes are escaped.
struct QuotedName<'a>(&'a str);

impl Display for QuotedName<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        f.write_char('"')?;
        for c in self.0.chars() {
            if matches!(c, '"' | '\\') {
                f.write_char('\\')?;
            }
            f.write_char(c)?;
        }
        f.write_char('"')
    }
}

/// Items with something between them.
fn join<T: Display>(f: &mut Formatter<'_>, items: &[T], between: &str) -> Result {
    for (i, item) in items.iter().enumerate() {
        if i > 0 {
            f.write_str(between)?;
        }
        item.fmt(f)?;
    }
    Ok(())
}

/// An operand: in parentheses unless it is a leaf.
struct Operand<'a>(&'a FieldExpr);

impl Display for Operand<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match self.0 {
            FieldExpr::Literal(_) | FieldExpr::Field(_) => self.0.fmt(f),
            other => write!(f, "({other})"),
        }
    }
}

impl Display for FieldExpr {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match self {
            Self::Literal(literal) => literal.value.fmt(f),
            Self::Field(field) => field.fmt(f),
            Self::Unary(unary) => {
                f.write_str(match unary.op {
                    UnaryOp::Minus => "-",
                    UnaryOp::Not => "!",
                })?;
                Operand(&unary.operand).fmt(f)
            }
            Self::Binary(binary) => {
                let op = match binary.op {
                    BinaryOp::Arithmetic(op) => op.as_str(),
                    BinaryOp::Compare(op) => op.as_str(),
                    BinaryOp::Regex => "=~",
                    BinaryOp::NotRegex => "!~",
                };
                write!(f, "{} {op} {}", Operand(&binary.lhs), Operand(&binary.rhs))
            }
            Self::Logical(logical) => {
                let operands: Vec<_> = logical.operands.iter().map(Operand).collect();
                let between = match logical.op {
                    LogicalOp::And => " && ",
                    LogicalOp::Or => " || ",
                };
                join(f, &operands, between)
            }
        }
    }
}

impl Display for SpansetFilter {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match &self.condition {
            None => f.write_str("{ }"),
            Some(condition) => write!(f, "{{ {condition} }}"),
        }
    }
}

impl Display for SpansetExpr {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match self {
            Self::Filter(filter) => filter.fmt(f),
            Self::Pipeline(pipeline) => write!(f, "({pipeline})"),
            Self::Operation(operation) => {
                let side = |side: &Self, f: &mut Formatter<'_>| match side {
                    // Parentheses say that a filter may stand beside a pipeline.
                    Self::Pipeline(_) => side.fmt(f),
                    _ => write!(f, "({side})"),
                };
                side(&operation.lhs, f)?;
                write!(f, " {} ", operation.op.as_str())?;
                side(&operation.rhs, f)
            }
        }
    }
}

impl Display for Aggregate {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match &self.operand {
            None => write!(f, "{}()", self.op.as_str()),
            Some(operand) => write!(f, "{}({operand})", self.op.as_str()),
        }
    }
}

impl Display for ScalarExpr {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match self {
            Self::Aggregate(aggregate) => aggregate.fmt(f),
            Self::Literal(literal) => literal.value.fmt(f),
            Self::Operation(operation) => {
                let (lhs, rhs) = (&operation.lhs, &operation.rhs);
                write!(f, "({lhs} {} {rhs})", operation.op.as_str())
            }
            Self::Pipeline(inner) => write!(f, "({} | {})", inner.pipeline, inner.aggregate),
        }
    }
}

impl Display for Stage {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match self {
            Self::Spansets(expr) => expr.fmt(f),
            Self::ScalarFilter(filter) => {
                write!(f, "{} {} {}", filter.lhs, filter.op.as_str(), filter.rhs)
            }
            Self::GroupBy(by) => write!(f, "by({by})"),
            Self::Coalesce(_) => f.write_str("coalesce()"),
            Self::Select(fields) => {
                f.write_str("select(")?;
                join(f, fields, ", ")?;
                f.write_char(')')
            }
        }
    }
}

impl Display for Pipeline {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        join(f, &self.stages, " | ")
    }
}

impl Display for MetricsFunction {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        write!(f, "{}(", self.name())?;
        if let Some(field) = self.field() {
            field.fmt(f)?;
        }
        match self {
            Self::QuantileOverTime(_, quantiles) => {
                quantiles.iter().try_for_each(|q| write!(f, ", {q:?}"))?;
            }
            Self::Compare(compare) => {
                write!(f, "{}, {}", compare.selection, compare.top_n)?;
                if (compare.start_ns, compare.end_ns) != (0, 0) {
                    write!(f, ", {}, {}", compare.start_ns, compare.end_ns)?;
                }
            }
            _ => {}
        }
        f.write_char(')')
    }
}

impl Display for MetricsExpr {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match self {
            Self::Query(query) => {
                write!(f, "{} | {}", query.pipeline, query.function)?;
                if !query.by.is_empty() {
                    f.write_str(" by (")?;
                    join(f, &query.by, ", ")?;
                    f.write_char(')')?;
                }
                Ok(())
            }
            Self::Number(number) => write!(f, "{number:?}"),
            Self::Operation(operation) => {
                let side = |side: &Self, f: &mut Formatter<'_>| match side {
                    Self::Number(_) => side.fmt(f),
                    _ => write!(f, "({side})"),
                };
                side(&operation.lhs, f)?;
                write!(f, " {} ", operation.op.as_str())?;
                side(&operation.rhs, f)
            }
            Self::Stage(stage) => {
                match &stage.input {
                    Self::Operation(_) => write!(f, "({})", stage.input)?,
                    input => input.fmt(f)?,
                }
                match stage.stage {
                    SecondStage::TopK(n) => write!(f, " | topk({n})"),
                    SecondStage::BottomK(n) => write!(f, " | bottomk({n})"),
                    SecondStage::Compare(op, number) => {
                        write!(f, " {} {number:?}", op.as_str())
                    }
                }
            }
        }
    }
}

impl Display for Query {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match &self.body {
            Body::Search(pipeline) => pipeline.fmt(f)?,
            Body::Metrics(metrics) => metrics.fmt(f)?,
        }
        if self.hints.is_empty() {
            return Ok(());
        }
        f.write_str(" with(")?;
        for (i, hint) in self.hints.iter().enumerate() {
            if i > 0 {
                f.write_str(", ")?;
            }
            write!(f, "{}={}", hint.name, hint.value.value)?;
        }
        f.write_char(')')
    }
}
