//! Trees as text, as Loki prints them: the canonical form of a query, which parses to the same tree.

use std::fmt::{self, Display, Formatter};

use super::ast::{
    Binary, BinaryModifier, Cardinality, Conversion, Expr, Grouping, LabelFilter, LabelFormat,
    LineFilter, LogExpr, LogRange, Matcher, MetricExpr, NamedMatcher, RangeAggregation, Stage,
    StageKind, Unwrap, VectorAggregation,
};
use super::units::{GoQuoted, go_duration, human_bytes, plain_float, prometheus_duration};

impl Display for Expr {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Log(log) => log.fmt(f),
            Self::Metric(metric) => metric.fmt(f),
        }
    }
}

impl Display for Matcher {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self { name, op, value } = self;
        write!(f, "{name}{}{}", op.as_str(), GoQuoted(value))
    }
}

/// `{a="b", c="d"}`
pub(super) struct Selector<'a>(pub(super) &'a [Matcher]);

impl Display for Selector<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str("{")?;
        separated(f, self.0, ", ")?;
        f.write_str("}")
    }
}

fn separated<T: Display>(f: &mut Formatter<'_>, items: &[T], separator: &str) -> fmt::Result {
    for (index, item) in items.iter().enumerate() {
        if index > 0 {
            f.write_str(separator)?;
        }
        item.fmt(f)?;
    }
    Ok(())
}

impl Display for LogExpr {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        Selector(&self.matchers).fmt(f)?;
        for stage in &self.stages {
            write!(f, " {stage}")?;
        }
        Ok(())
    }
}

impl Display for LineFilter {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(self.op.as_str())?;
        for (index, alternative) in self.alternatives.iter().enumerate() {
            f.write_str(if index > 0 { " or " } else { " " })?;
            let text = GoQuoted(&alternative.text);
            if alternative.ip {
                write!(f, "ip({text})")?;
            } else {
                text.fmt(f)?;
            }
        }
        Ok(())
    }
}

impl Display for Stage {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        self.kind.fmt(f)
    }
}

impl Display for StageKind {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let extractions = |f: &mut Formatter<'_>, list: &[super::ast::Extraction]| {
            for (index, e) in list.iter().enumerate() {
                let separator = if index > 0 { "," } else { " " };
                write!(f, "{separator}{}={}", e.name, GoQuoted(&e.path))?;
            }
            Ok(())
        };
        match self {
            Self::LineFilter(filter) => filter.fmt(f),
            Self::Json(expressions) => {
                f.write_str("| json")?;
                extractions(f, expressions)
            }
            Self::Logfmt {
                strict,
                keep_empty,
                expressions,
            } => {
                f.write_str("| logfmt")?;
                if *strict {
                    f.write_str(" --strict")?;
                }
                if *keep_empty {
                    f.write_str(" --keep-empty")?;
                }
                extractions(f, expressions)
            }
            Self::Regexp(regex) => write!(f, "| regexp {}", GoQuoted(regex)),
            Self::Pattern(pattern) => write!(f, "| pattern {}", GoQuoted(pattern)),
            Self::Unpack => f.write_str("| unpack"),
            Self::LabelFilter(filter) => write!(f, "| {filter}"),
            Self::LineFormat(template) => write!(f, "| line_format {}", GoQuoted(template)),
            Self::LabelFormat(formats) => {
                f.write_str("| label_format ")?;
                separated(f, formats, ",")
            }
            Self::Decolorize => f.write_str("| decolorize"),
            Self::Drop(labels) => {
                f.write_str("| drop ")?;
                separated(f, labels, ",")
            }
            Self::Keep(labels) => {
                f.write_str("| keep ")?;
                separated(f, labels, ",")
            }
        }
    }
}

impl Display for LabelFormat {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rename { to, from } => write!(f, "{to}={from}"),
            Self::Template { to, template } => write!(f, "{to}={}", GoQuoted(template)),
        }
    }
}

impl Display for NamedMatcher {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Matcher(matcher) => matcher.fmt(f),
        }
    }
}

impl Display for LabelFilter {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Matcher(matcher) => matcher.fmt(f),
            Self::Ip {
                name,
                negative,
                pattern,
            } => {
                let op = if *negative { "!=" } else { "=" };
                write!(f, "{name}{op}ip({})", GoQuoted(pattern))
            }
            Self::Duration { name, op, ns } => write!(f, "{name}{op}{}", go_duration(*ns)),
            Self::Bytes { name, op, bytes } => {
                let human = human_bytes(*bytes).replace(' ', "");
                // Rounded sizes would change what the filter means.
                if super::units::parse_bytes(&human) == Ok(*bytes) {
                    write!(f, "{name}{op}{human}")
                } else {
                    write!(f, "{name}{op}{bytes}B")
                }
            }
            Self::Number { name, op, value } => write!(f, "{name}{op}{}", plain_float(*value)),
            Self::And(a, b) => write!(f, "( {a} , {b} )"),
            Self::Or(a, b) => write!(f, "( {a} or {b} )"),
        }
    }
}

impl Display for Unwrap {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self.conversion {
            Conversion::Number => write!(f, "| unwrap {}", self.label)?,
            conversion => write!(f, "| unwrap {}({})", conversion.as_str(), self.label)?,
        }
        for filter in &self.filters {
            write!(f, " | {filter}")?;
        }
        Ok(())
    }
}

impl Display for LogRange {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        self.log.fmt(f)?;
        if let Some(unwrap) = &self.unwrap {
            write!(f, " {unwrap}")?;
        }
        write!(f, "[{}]", prometheus_duration(self.range_ns))?;
        self.fmt_offset(f)
    }
}

impl LogRange {
    pub(super) fn fmt_offset(&self, f: &mut impl fmt::Write) -> fmt::Result {
        if self.offset_ns == 0 {
            return Ok(());
        }
        write!(f, " offset {}", prometheus_duration(self.offset_ns))
    }
}

impl Display for Grouping {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let word = if self.without { "without" } else { "by" };
        write!(f, " {word} (")?;
        separated(f, &self.labels, ",")?;
        f.write_str(")")
    }
}

impl Display for RangeAggregation {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}(", self.op.as_str())?;
        if let Some(param) = self.param {
            write!(f, "{},", plain_float(param))?;
        }
        write!(f, "{})", self.range)?;
        self.grouping.as_ref().map_or(Ok(()), |g| g.fmt(f))
    }
}

impl Display for VectorAggregation {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(self.op.as_str())?;
        if let Some(grouping) = &self.grouping {
            grouping.fmt(f)?;
        }
        f.write_str("(")?;
        if let Some(k) = self.k {
            write!(f, "{k},")?;
        }
        write!(f, "{})", self.expr)
    }
}

/// A binary operator with all that stands between its operands.
pub(super) struct Operator<'a>(pub(super) &'a Binary);

impl Display for Operator<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let BinaryModifier {
            return_bool,
            on,
            labels,
            cardinality,
            include,
        } = &self.0.modifier;
        f.write_str(self.0.op.as_str())?;
        if *return_bool {
            f.write_str(" bool")?;
        }
        if *on || !labels.is_empty() || *cardinality != Cardinality::OneToOne {
            f.write_str(if *on { " on (" } else { " ignoring (" })?;
            separated(f, labels, ", ")?;
            f.write_str(")")?;
        }
        match cardinality {
            Cardinality::OneToOne => return Ok(()),
            Cardinality::ManyToOne => f.write_str(" group_left")?,
            Cardinality::OneToMany => f.write_str(" group_right")?,
        }
        if !include.is_empty() {
            f.write_str(" (")?;
            separated(f, include, ", ")?;
            f.write_str(")")?;
        }
        Ok(())
    }
}

impl Display for MetricExpr {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Range(e) => e.fmt(f),
            Self::Vector(e) => e.fmt(f),
            Self::Binary(e) => write!(f, "({} {} {})", e.left, Operator(e), e.right),
            Self::Literal(e) => f.write_str(&plain_float(e.value)),
            Self::VectorOf(e) => write!(f, "vector({})", plain_float(e.value)),
            Self::LabelReplace(e) => write!(
                f,
                "label_replace({},{},{},{},{})",
                e.expr,
                GoQuoted(&e.destination),
                GoQuoted(&e.replacement),
                GoQuoted(&e.source),
                GoQuoted(&e.regex)
            ),
        }
    }
}
