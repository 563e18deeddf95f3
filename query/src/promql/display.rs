//! The canonical text of an expression, as Prometheus prints it. Parsing the text gives an equal
//! tree again, positions aside.

use std::fmt::{self, Display, Formatter, Write};

use super::ast::*;

/// Prints milliseconds as a PromQL duration: `1h30m`; years and weeks only where exact; `0s`.
#[derive(Debug, Clone, Copy)]
pub struct DurationText(pub i64);

impl Display for DurationText {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        const DAY: u64 = 86_400_000;
        const UNITS: [(&str, u64, bool); 7] = [
            ("y", 365 * DAY, true),
            ("w", 7 * DAY, true),
            ("d", DAY, false),
            ("h", 3_600_000, false),
            ("m", 60_000, false),
            ("s", 1000, false),
            ("ms", 1, false),
        ];
        if self.0 == 0 {
            return f.write_str("0s");
        }
        if self.0 < 0 {
            f.write_char('-')?;
        }
        let mut left = self.0.unsigned_abs();
        for (unit, length, only_exact) in UNITS {
            if only_exact && !left.is_multiple_of(length) {
                continue;
            }
            if left >= length {
                write!(f, "{}{unit}", left / length)?;
                left %= length;
            }
        }
        Ok(())
    }
}

/// Prints a string as a Go string literal in double quotes.
#[derive(Debug, Clone, Copy)]
pub struct Quoted<'a>(pub &'a str);

impl Display for Quoted<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        QuotedBytes(self.0.as_bytes()).fmt(f)
    }
}

/// The same of bytes that may be no UTF-8.
#[derive(Debug, Clone, Copy)]
pub struct QuotedBytes<'a>(pub &'a [u8]);

impl Display for QuotedBytes<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_char('"')?;
        for chunk in self.0.utf8_chunks() {
            quote_chars(chunk.valid(), f)?;
            for byte in chunk.invalid() {
                write!(f, "\\x{byte:02x}")?;
            }
        }
        f.write_char('"')
    }
}

impl Display for StringLiteral {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match &self.bytes {
            Some(bytes) => QuotedBytes(bytes).fmt(f),
            None => Quoted(&self.value).fmt(f),
        }
    }
}

fn quote_chars(text: &str, f: &mut Formatter<'_>) -> fmt::Result {
    for c in text.chars() {
        match c {
            '"' => f.write_str("\\\"")?,
            '\\' => f.write_str("\\\\")?,
            '\u{7}' => f.write_str("\\a")?,
            '\u{8}' => f.write_str("\\b")?,
            '\u{c}' => f.write_str("\\f")?,
            '\n' => f.write_str("\\n")?,
            '\r' => f.write_str("\\r")?,
            '\t' => f.write_str("\\t")?,
            '\u{b}' => f.write_str("\\v")?,
            c if (c as u32) < 0x20 || c as u32 == 0x7f => write!(f, "\\x{:02x}", c as u32)?,
            c if c.is_control() => write!(f, "\\u{:04x}", c as u32)?,
            c => f.write_char(c)?,
        }
    }
    Ok(())
}

/// Prints a float as Go's `%v` / `FormatFloat(v, 'f', -1, 64)`: never an exponent, `+Inf`, `NaN`.
#[derive(Debug, Clone, Copy)]
pub struct FloatText(pub f64);

impl Display for FloatText {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if self.0.is_nan() {
            f.write_str("NaN")
        } else if self.0.is_infinite() {
            f.write_str(if self.0 > 0.0 { "+Inf" } else { "-Inf" })
        } else {
            write!(f, "{}", self.0)
        }
    }
}

/// Whether `name` can stand unquoted as a label name.
pub fn is_plain_label(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes
        .next()
        .is_some_and(|b| b.is_ascii_alphabetic() || b == b'_')
        && bytes.all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

/// Whether `name` can stand unquoted before braces as a metric name.
pub fn is_plain_metric(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes
        .next()
        .is_some_and(|b| b.is_ascii_alphabetic() || b == b'_' || b == b':')
        && bytes.all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b':')
}

struct LabelName<'a>(&'a str);

impl Display for LabelName<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if is_plain_label(self.0) {
            f.write_str(self.0)
        } else {
            Quoted(self.0).fmt(f)
        }
    }
}

struct Joined<'a, T>(&'a [T], &'a str);

impl<T: Display> Display for Joined<'_, T> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for (i, item) in self.0.iter().enumerate() {
            if i > 0 {
                f.write_str(self.1)?;
            }
            item.fmt(f)?;
        }
        Ok(())
    }
}

fn labels(f: &mut Formatter<'_>, names: &[String]) -> fmt::Result {
    for (i, name) in names.iter().enumerate() {
        if i > 0 {
            f.write_str(", ")?;
        }
        LabelName(name).fmt(f)?;
    }
    Ok(())
}

impl Display for LabelMatcher {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}{}{}",
            LabelName(&self.name),
            self.op.as_str(),
            Quoted(&self.value)
        )
    }
}

impl Display for Expr {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(e) => e.fmt(f),
            Self::String(e) => e.fmt(f),
            Self::Vector(e) => e.fmt(f),
            Self::Matrix(e) => e.fmt(f),
            Self::Subquery(e) => e.fmt(f),
            Self::Call(e) => write!(f, "{}({})", e.func.name, Joined(&e.args, ", ")),
            Self::Aggregate(e) => e.fmt(f),
            Self::Binary(e) => e.fmt(f),
            Self::Unary(e) => write!(f, "{}{}", if e.negate { '-' } else { '+' }, e.expr),
            Self::Paren(e) => write!(f, "({})", e.expr),
        }
    }
}

impl Display for NumberLiteral {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if self.duration {
            DurationText((self.value * 1000.0).round() as i64).fmt(f)
        } else {
            FloatText(self.value).fmt(f)
        }
    }
}

fn extension(f: &mut Formatter<'_>, extension: Extension) -> fmt::Result {
    f.write_str(match extension {
        Extension::None => "",
        Extension::Anchored => " anchored",
        Extension::Smoothed => " smoothed",
    })
}

fn modifiers(
    f: &mut Formatter<'_>,
    at: Option<At>,
    offset_ms: i64,
    offset_expr: Option<&DurationExpr>,
) -> fmt::Result {
    match at {
        Some(At::Time(ms)) => {
            let sign = if ms < 0 { "-" } else { "" };
            let ms = ms.unsigned_abs();
            write!(f, " @ {sign}{}.{:03}", ms / 1000, ms % 1000)?;
        }
        Some(At::Start) => f.write_str(" @ start()")?,
        Some(At::End) => f.write_str(" @ end()")?,
        None => {}
    }
    match offset_expr {
        Some(expr) => write!(f, " offset {expr}"),
        None if offset_ms != 0 => write!(f, " offset {}", DurationText(offset_ms)),
        None => Ok(()),
    }
}

impl VectorSelector {
    fn fmt_bare(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let mut parts = Vec::new();
        match self.name.as_deref() {
            Some(name) if is_plain_metric(name) => f.write_str(name)?,
            Some(name) => parts.push(Quoted(name).to_string()),
            None => {}
        }
        for matcher in &self.matchers {
            let is_name = matcher.name == METRIC_NAME
                && matcher.op == MatchOp::Equal
                && self.name.as_deref() == Some(&matcher.value);
            if !is_name {
                parts.push(matcher.to_string());
            }
        }
        if parts.is_empty() && self.name.is_some() {
            return Ok(());
        }
        // The order of matchers means nothing.
        parts.sort_unstable();
        write!(f, "{{{}}}", parts.join(","))
    }
}

impl Display for VectorSelector {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        self.fmt_bare(f)?;
        modifiers(f, self.at, 0, None)?;
        extension(f, self.extension)?;
        modifiers(f, None, self.offset_ms, self.offset_expr.as_deref())
    }
}

impl Display for MatrixSelector {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let v = &self.selector;
        v.fmt_bare(f)?;
        match &self.range_expr {
            Some(expr) => write!(f, "[{expr}]")?,
            None => write!(f, "[{}]", DurationText(self.range_ms))?,
        }
        extension(f, v.extension)?;
        modifiers(f, v.at, v.offset_ms, v.offset_expr.as_deref())
    }
}

/// What stands behind the expression of a subquery.
pub(super) struct SubqueryTail<'a>(&'a Subquery);

impl Subquery {
    pub(super) fn tail(&self) -> SubqueryTail<'_> {
        SubqueryTail(self)
    }
}

impl Display for SubqueryTail<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let subquery = self.0;
        match &subquery.range_expr {
            Some(expr) => write!(f, "[{expr}:")?,
            None => write!(f, "[{}:", DurationText(subquery.range_ms))?,
        }
        match &subquery.step_expr {
            Some(expr) => write!(f, "{expr}]")?,
            None if subquery.step_ms != 0 => write!(f, "{}]", DurationText(subquery.step_ms))?,
            None => f.write_char(']')?,
        }
        let offset_expr = subquery.offset_expr.as_deref();
        modifiers(f, subquery.at, subquery.offset_ms, offset_expr)
    }
}

impl Display for Subquery {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.expr, self.tail())
    }
}

/// What stands before the parentheses of an aggregation.
pub(super) struct AggregateHead<'a>(&'a Aggregate);

impl Aggregate {
    pub(super) fn head(&self) -> AggregateHead<'_> {
        AggregateHead(self)
    }
}

impl Display for AggregateHead<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let aggregate = self.0;
        f.write_str(aggregate.op.as_str())?;
        if aggregate.without || !aggregate.grouping.is_empty() {
            f.write_str(if aggregate.without {
                " without ("
            } else {
                " by ("
            })?;
            labels(f, &aggregate.grouping)?;
            f.write_str(") ")?;
        }
        Ok(())
    }
}

impl Display for Aggregate {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        self.head().fmt(f)?;
        match &self.param {
            Some(param) => write!(f, "({param}, {})", self.expr),
            None => write!(f, "({})", self.expr),
        }
    }
}

impl Display for Binary {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.lhs, self.op.as_str())?;
        if self.return_bool {
            f.write_str(" bool")?;
        }
        if let Some(matching) = &self.matching {
            matching.fmt(f)?;
        }
        write!(f, " {}", self.rhs)
    }
}

impl Display for VectorMatching {
    /// The modifiers, each with a blank before it.
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let group = match self.card {
            Cardinality::ManyToOne => Some("left"),
            Cardinality::OneToMany => Some("right"),
            Cardinality::OneToOne | Cardinality::ManyToMany => None,
        };
        if !self.matching_labels.is_empty() || self.on || group.is_some() {
            f.write_str(if self.on { " on (" } else { " ignoring (" })?;
            labels(f, &self.matching_labels)?;
            f.write_char(')')?;
        }
        if let Some(side) = group {
            write!(f, " group_{side} (")?;
            labels(f, &self.include)?;
            f.write_char(')')?;
        }
        match (self.fill_lhs, self.fill_rhs) {
            (Some(l), Some(r)) if l.to_bits() == r.to_bits() => {
                write!(f, " fill ({})", FloatText(l))
            }
            (l, r) => {
                if let Some(l) = l {
                    write!(f, " fill_left ({})", FloatText(l))?;
                }
                if let Some(r) = r {
                    write!(f, " fill_right ({})", FloatText(r))?;
                }
                Ok(())
            }
        }
    }
}

impl Display for DurationExpr {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match &self.kind {
            DurationKind::Literal {
                seconds,
                duration: true,
            } => DurationText((seconds * 1000.0).round() as i64).fmt(f),
            DurationKind::Literal {
                seconds,
                duration: false,
            } => FloatText(*seconds).fmt(f),
            DurationKind::Step => f.write_str("step()"),
            DurationKind::Range => f.write_str("range()"),
            DurationKind::MinOf(a, b) => write!(f, "min_of({a}, {b})"),
            DurationKind::MaxOf(a, b) => write!(f, "max_of({a}, {b})"),
            DurationKind::Neg(a) => write!(f, "-{a}"),
            DurationKind::Pos(a) => write!(f, "+{a}"),
            DurationKind::Binary(op, a, b) => write!(f, "{a} {} {b}", op.as_str()),
            DurationKind::Paren(a) => write!(f, "({a})"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_print_as_prometheus_does() {
        let cases = [
            (0, "0s"),
            (90_000, "1m30s"),
            (86_400_000 * 7, "1w"),
            (86_400_000 * 90, "90d"),
            (5, "5ms"),
        ];
        for (ms, text) in cases {
            assert_eq!(DurationText(ms).to_string(), text);
        }
        assert_eq!(DurationText(-1500).to_string(), "-1s500ms");
    }

    #[test]
    fn strings_are_quoted_as_in_go() {
        assert_eq!(Quoted("a\"b\\\n\u{1}é").to_string(), r#""a\"b\\\n\x01é""#);
    }
}
