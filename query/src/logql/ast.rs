//! The tree of a LogQL query.
//!
//! Parentheses are not kept: the tree's shape says what belongs together. Operators between two
//! literals are folded while parsing, as Loki does. Every node that can fail later knows where it
//! stands in the text.

use std::fmt;

/// A piece of the query's text, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Span {
    /// The first byte.
    pub start: usize,
    /// The byte after the last.
    pub end: usize,
}

impl Span {
    /// From `start` to before `end`.
    pub fn new(start: usize, end: usize) -> Self {
        Self { start, end }
    }
}

/// A whole query.
#[derive(Debug, Clone, PartialEq)]
pub enum Expr {
    /// Gives log lines.
    Log(LogExpr),
    /// Gives samples.
    Metric(MetricExpr),
}

/// `{selector} stages…`
#[derive(Debug, Clone, PartialEq)]
pub struct LogExpr {
    /// What streams are read.
    pub matchers: Vec<Matcher>,
    /// What is done with each line, in this order.
    pub stages: Vec<Stage>,
    /// Where.
    pub span: Span,
}

/// How a matcher compares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MatchOp {
    /// `=`
    Equal,
    /// `!=`
    NotEqual,
    /// `=~`, anchored at both ends.
    Regex,
    /// `!~`, anchored at both ends.
    NotRegex,
}

impl MatchOp {
    /// The operator as written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Equal => "=",
            Self::NotEqual => "!=",
            Self::Regex => "=~",
            Self::NotRegex => "!~",
        }
    }

    /// Whether what follows is a regular expression.
    pub fn is_regex(self) -> bool {
        matches!(self, Self::Regex | Self::NotRegex)
    }

    /// Whether it holds where the comparison does not.
    pub fn is_negative(self) -> bool {
        matches!(self, Self::NotEqual | Self::NotRegex)
    }
}

/// `name="value"`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Matcher {
    /// Label.
    pub name: String,
    /// Comparison.
    pub op: MatchOp,
    /// Text or regular expression.
    pub value: String,
}

/// One step of a pipeline.
#[derive(Debug, Clone, PartialEq)]
pub struct Stage {
    /// What it does.
    pub kind: StageKind,
    /// Where it stands.
    pub span: Span,
}

/// What a stage does.
#[derive(Debug, Clone, PartialEq)]
pub enum StageKind {
    /// `|= "text"` and its kin.
    LineFilter(LineFilter),
    /// `| json`, with expressions only those.
    Json(Vec<Extraction>),
    /// `| logfmt`
    Logfmt {
        /// `--strict`: a malformed pair is an error.
        strict: bool,
        /// `--keep-empty`: pairs without a value are labels too.
        keep_empty: bool,
        /// The labels to extract; all if there are none.
        expressions: Vec<Extraction>,
    },
    /// `| regexp "…"`
    Regexp(String),
    /// `| pattern "…"`
    Pattern(String),
    /// `| unpack`
    Unpack,
    /// `| name = value`
    LabelFilter(LabelFilter),
    /// `| line_format "…"`
    LineFormat(String),
    /// `| label_format a=b, c="…"`
    LabelFormat(Vec<LabelFormat>),
    /// `| decolorize`
    Decolorize,
    /// `| drop a, b="c"`
    Drop(Vec<NamedMatcher>),
    /// `| keep a, b="c"`
    Keep(Vec<NamedMatcher>),
}

/// How a line filter compares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LineOp {
    /// `|=`
    Contains,
    /// `!=`
    NotContains,
    /// `|~`
    Regex,
    /// `!~`
    NotRegex,
    /// `|>`
    Pattern,
    /// `!>`
    NotPattern,
}

impl LineOp {
    /// The operator as written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Contains => "|=",
            Self::NotContains => "!=",
            Self::Regex => "|~",
            Self::NotRegex => "!~",
            Self::Pattern => "|>",
            Self::NotPattern => "!>",
        }
    }

    /// Whether it keeps the lines that do not match.
    pub fn is_negative(self) -> bool {
        matches!(self, Self::NotContains | Self::NotRegex | Self::NotPattern)
    }
}

/// `|= "a" or "b"`: one operator over alternatives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LineFilter {
    /// The operator.
    pub op: LineOp,
    /// What is looked for; at least one.
    pub alternatives: Vec<LinePattern>,
}

/// One alternative of a line filter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinePattern {
    /// Text, regular expression, pattern or addresses.
    pub text: String,
    /// `ip("…")`
    pub ip: bool,
}

/// `name="path"` behind `json` and `logfmt`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Extraction {
    /// The label to make.
    pub name: String,
    /// What is extracted; the name itself if nothing was written.
    pub path: String,
}

/// One assignment of `label_format`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LabelFormat {
    /// `to=from`
    Rename {
        /// The new name.
        to: String,
        /// The old name.
        from: String,
    },
    /// `to="template"`
    Template {
        /// The label to set.
        to: String,
        /// Its value.
        template: String,
    },
}

impl LabelFormat {
    /// The label that is set.
    pub fn target(&self) -> &str {
        match self {
            Self::Rename { to, .. } | Self::Template { to, .. } => to,
        }
    }
}

/// A name of `drop` or `keep`, perhaps with a condition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NamedMatcher {
    /// The label whatever its value.
    Name(String),
    /// The label where its value matches.
    Matcher(Matcher),
}

/// A comparison of numbers in a label filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CompareOp {
    /// `==`, also written `=`.
    Equal,
    /// `!=`
    NotEqual,
    /// `>`
    Greater,
    /// `>=`
    GreaterEqual,
    /// `<`
    Less,
    /// `<=`
    LessEqual,
}

impl CompareOp {
    /// The operator as Loki prints it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Equal => "==",
            Self::NotEqual => "!=",
            Self::Greater => ">",
            Self::GreaterEqual => ">=",
            Self::Less => "<",
            Self::LessEqual => "<=",
        }
    }

    /// Whether it holds.
    #[inline]
    pub fn holds<T: PartialOrd>(self, left: &T, right: &T) -> bool {
        match self {
            Self::Equal => left == right,
            Self::NotEqual => left != right,
            Self::Greater => left > right,
            Self::GreaterEqual => left >= right,
            Self::Less => left < right,
            Self::LessEqual => left <= right,
        }
    }
}

/// A condition on labels.
#[derive(Debug, Clone, PartialEq)]
pub enum LabelFilter {
    /// `name="text"`
    Matcher(Matcher),
    /// `name=ip("…")`
    Ip {
        /// The label.
        name: String,
        /// `!=` instead of `=`.
        negative: bool,
        /// Address, range or network.
        pattern: String,
    },
    /// `name > 5s`
    Duration {
        /// The label.
        name: String,
        /// The comparison.
        op: CompareOp,
        /// Nanoseconds.
        ns: i64,
    },
    /// `name > 5MB`
    Bytes {
        /// The label.
        name: String,
        /// The comparison.
        op: CompareOp,
        /// Bytes.
        bytes: u64,
    },
    /// `name > 5`
    Number {
        /// The label.
        name: String,
        /// The comparison.
        op: CompareOp,
        /// The number.
        value: f64,
    },
    /// Both, each of them evaluated.
    And(Box<LabelFilter>, Box<LabelFilter>),
    /// Either; the right one only where the left one does not hold.
    Or(Box<LabelFilter>, Box<LabelFilter>),
}

/// An expression that gives samples.
#[derive(Debug, Clone, PartialEq)]
pub enum MetricExpr {
    /// `rate({…}[5m])`
    Range(Box<RangeAggregation>),
    /// `sum by (…) (…)`
    Vector(Box<VectorAggregation>),
    /// `a + b`
    Binary(Box<Binary>),
    /// `42`
    Literal(Literal),
    /// `label_replace(…)`
    LabelReplace(Box<LabelReplace>),
    /// `vector(42)`
    VectorOf(Literal),
}

/// A number.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Literal {
    /// Its value.
    pub value: f64,
    /// Where; all of it where several were folded.
    pub span: Span,
}

/// A function of the lines in a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "each variant is the function of that name")]
pub enum RangeOp {
    Rate,
    RateCounter,
    CountOverTime,
    BytesRate,
    BytesOverTime,
    AvgOverTime,
    SumOverTime,
    MinOverTime,
    MaxOverTime,
    StdvarOverTime,
    StddevOverTime,
    QuantileOverTime,
    FirstOverTime,
    LastOverTime,
    AbsentOverTime,
}

impl RangeOp {
    /// Every function.
    pub const ALL: [RangeOp; 15] = [
        Self::Rate,
        Self::RateCounter,
        Self::CountOverTime,
        Self::BytesRate,
        Self::BytesOverTime,
        Self::AvgOverTime,
        Self::SumOverTime,
        Self::MinOverTime,
        Self::MaxOverTime,
        Self::StdvarOverTime,
        Self::StddevOverTime,
        Self::QuantileOverTime,
        Self::FirstOverTime,
        Self::LastOverTime,
        Self::AbsentOverTime,
    ];

    /// The function as written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Rate => "rate",
            Self::RateCounter => "rate_counter",
            Self::CountOverTime => "count_over_time",
            Self::BytesRate => "bytes_rate",
            Self::BytesOverTime => "bytes_over_time",
            Self::AvgOverTime => "avg_over_time",
            Self::SumOverTime => "sum_over_time",
            Self::MinOverTime => "min_over_time",
            Self::MaxOverTime => "max_over_time",
            Self::StdvarOverTime => "stdvar_over_time",
            Self::StddevOverTime => "stddev_over_time",
            Self::QuantileOverTime => "quantile_over_time",
            Self::FirstOverTime => "first_over_time",
            Self::LastOverTime => "last_over_time",
            Self::AbsentOverTime => "absent_over_time",
        }
    }

    /// Whether `by` and `without` may follow.
    pub fn takes_grouping(self) -> bool {
        !matches!(
            self,
            Self::Rate
                | Self::RateCounter
                | Self::CountOverTime
                | Self::BytesRate
                | Self::BytesOverTime
                | Self::SumOverTime
                | Self::AbsentOverTime
        )
    }

    /// Whether it takes unwrapped values.
    pub fn takes_unwrap(self) -> bool {
        !matches!(
            self,
            Self::CountOverTime | Self::BytesRate | Self::BytesOverTime
        )
    }

    /// Whether it takes lines.
    pub fn takes_lines(self) -> bool {
        matches!(
            self,
            Self::Rate
                | Self::CountOverTime
                | Self::BytesRate
                | Self::BytesOverTime
                | Self::AbsentOverTime
        )
    }
}

/// How an unwrapped label becomes a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Conversion {
    /// It is a number.
    Number,
    /// `bytes(…)`
    Bytes,
    /// `duration(…)`: seconds.
    Duration,
    /// `duration_seconds(…)`: the same.
    DurationSeconds,
}

impl Conversion {
    /// The function as written; empty for a number.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Number => "",
            Self::Bytes => "bytes",
            Self::Duration => "duration",
            Self::DurationSeconds => "duration_seconds",
        }
    }
}

/// `| unwrap label | filters…`
#[derive(Debug, Clone, PartialEq)]
pub struct Unwrap {
    /// The label whose value is taken.
    pub label: String,
    /// How.
    pub conversion: Conversion,
    /// What must hold of the labels afterwards.
    pub filters: Vec<LabelFilter>,
    /// Where.
    pub span: Span,
}

/// `{…} … | unwrap … [5m] offset 1h`
#[derive(Debug, Clone, PartialEq)]
pub struct LogRange {
    /// The lines.
    pub log: LogExpr,
    /// Their values, if not the lines themselves count.
    pub unwrap: Option<Unwrap>,
    /// Length of the window in ns.
    pub range_ns: i64,
    /// How far the window is moved back in ns; negative moves it forward.
    pub offset_ns: i64,
}

/// `by (…)` or `without (…)`
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Grouping {
    /// The labels as written.
    pub labels: Vec<String>,
    /// `without`
    pub without: bool,
}

/// `function(param, range) by (…)`
#[derive(Debug, Clone, PartialEq)]
pub struct RangeAggregation {
    /// The function.
    pub op: RangeOp,
    /// The quantile.
    pub param: Option<f64>,
    /// What it is computed of.
    pub range: LogRange,
    /// The labels that make a series.
    pub grouping: Option<Grouping>,
    /// Where.
    pub span: Span,
}

/// An aggregation of a vector.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "each variant is the operator of that name")]
pub enum VectorOp {
    Sum,
    Avg,
    Count,
    Max,
    Min,
    Stddev,
    Stdvar,
    Bottomk,
    Topk,
    ApproxTopk,
    Sort,
    SortDesc,
}

impl VectorOp {
    /// Every operator.
    pub const ALL: [VectorOp; 12] = [
        Self::Sum,
        Self::Avg,
        Self::Count,
        Self::Max,
        Self::Min,
        Self::Stddev,
        Self::Stdvar,
        Self::Bottomk,
        Self::Topk,
        Self::ApproxTopk,
        Self::Sort,
        Self::SortDesc,
    ];

    /// The operator as written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Sum => "sum",
            Self::Avg => "avg",
            Self::Count => "count",
            Self::Max => "max",
            Self::Min => "min",
            Self::Stddev => "stddev",
            Self::Stdvar => "stdvar",
            Self::Bottomk => "bottomk",
            Self::Topk => "topk",
            Self::ApproxTopk => "approx_topk",
            Self::Sort => "sort",
            Self::SortDesc => "sort_desc",
        }
    }

    /// Whether it takes a number of elements.
    pub fn takes_k(self) -> bool {
        matches!(self, Self::Bottomk | Self::Topk | Self::ApproxTopk)
    }
}

/// `op by (…) (k, expr)`
#[derive(Debug, Clone, PartialEq)]
pub struct VectorAggregation {
    /// The operator.
    pub op: VectorOp,
    /// How many elements; above 0; only of `topk` and its kin.
    pub k: Option<i64>,
    /// What is aggregated.
    pub expr: MetricExpr,
    /// The labels that make a group; `None` if nothing was written.
    pub grouping: Option<Grouping>,
    /// Where.
    pub span: Span,
}

/// A binary operator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the names are those of the operators")]
pub enum BinaryOp {
    Or,
    And,
    Unless,
    Add,
    Sub,
    Mul,
    Div,
    Mod,
    Pow,
    Eq,
    Ne,
    Gt,
    Ge,
    Lt,
    Le,
}

impl BinaryOp {
    /// The operator as written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Or => "or",
            Self::And => "and",
            Self::Unless => "unless",
            Self::Add => "+",
            Self::Sub => "-",
            Self::Mul => "*",
            Self::Div => "/",
            Self::Mod => "%",
            Self::Pow => "^",
            Self::Eq => "==",
            Self::Ne => "!=",
            Self::Gt => ">",
            Self::Ge => ">=",
            Self::Lt => "<",
            Self::Le => "<=",
        }
    }

    /// How tightly it binds: higher is tighter.
    pub fn precedence(self) -> u8 {
        match self {
            Self::Or => 1,
            Self::And | Self::Unless => 2,
            Self::Eq | Self::Ne | Self::Gt | Self::Ge | Self::Lt | Self::Le => 3,
            Self::Add | Self::Sub => 4,
            Self::Mul | Self::Div | Self::Mod => 5,
            Self::Pow => 6,
        }
    }

    /// `and`, `or`, `unless`
    pub fn is_set(self) -> bool {
        matches!(self, Self::Or | Self::And | Self::Unless)
    }

    /// `==`, `!=`, `>`, `>=`, `<`, `<=`
    pub fn is_comparison(self) -> bool {
        self.precedence() == 3
    }

    /// The operator on two numbers; comparisons give 0 or 1. Division by zero is NaN in LogQL.
    pub fn of_numbers(self, left: f64, right: f64) -> f64 {
        let truth = |holds: bool| f64::from(u8::from(holds));
        match self {
            Self::Add => left + right,
            Self::Sub => left - right,
            Self::Mul => left * right,
            Self::Div | Self::Mod if right == 0.0 => f64::NAN,
            Self::Div => left / right,
            Self::Mod => left % right,
            Self::Pow => left.powf(right),
            Self::Eq => truth(left == right),
            Self::Ne => truth(left != right),
            Self::Gt => truth(left > right),
            Self::Ge => truth(left >= right),
            Self::Lt => truth(left < right),
            Self::Le => truth(left <= right),
            Self::Or | Self::And | Self::Unless => f64::NAN,
        }
    }
}

/// How many elements of each side may match.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Cardinality {
    /// One of either side.
    #[default]
    OneToOne,
    /// `group_left`
    ManyToOne,
    /// `group_right`
    OneToMany,
}

/// `bool on (…) group_left (…)`
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct BinaryModifier {
    /// Comparisons give 0 or 1 instead of filtering.
    pub return_bool: bool,
    /// `on` instead of `ignoring`.
    pub on: bool,
    /// Their labels.
    pub labels: Vec<String>,
    /// `group_left`, `group_right`
    pub cardinality: Cardinality,
    /// Labels taken over from the "one" side.
    pub include: Vec<String>,
}

/// `left op right`
#[derive(Debug, Clone, PartialEq)]
pub struct Binary {
    /// The operator.
    pub op: BinaryOp,
    /// The left operand.
    pub left: MetricExpr,
    /// The right operand.
    pub right: MetricExpr,
    /// What stands behind the operator.
    pub modifier: BinaryModifier,
    /// Where, both operands included.
    pub span: Span,
}

/// `label_replace(expr, "dst", "replacement", "src", "regex")`
#[derive(Debug, Clone, PartialEq)]
pub struct LabelReplace {
    /// Whose labels change.
    pub expr: MetricExpr,
    /// The label that is set.
    pub destination: String,
    /// Its value; `$1` stands for a group.
    pub replacement: String,
    /// The label that is matched.
    pub source: String,
    /// With what, anchored.
    pub regex: String,
    /// Where.
    pub span: Span,
}

impl MetricExpr {
    /// Where it stands.
    pub fn span(&self) -> Span {
        match self {
            Self::Range(e) => e.span,
            Self::Vector(e) => e.span,
            Self::Binary(e) => e.span,
            Self::Literal(e) | Self::VectorOf(e) => e.span,
            Self::LabelReplace(e) => e.span,
        }
    }

    /// The expressions directly below.
    pub fn children(&self) -> Vec<&MetricExpr> {
        match self {
            Self::Range(_) | Self::Literal(_) | Self::VectorOf(_) => Vec::new(),
            Self::Vector(e) => vec![&e.expr],
            Self::Binary(e) => vec![&e.left, &e.right],
            Self::LabelReplace(e) => vec![&e.expr],
        }
    }

    /// Calls `visit` for every range aggregation in it, from left to right.
    pub fn ranges<'a>(&'a self, visit: &mut impl FnMut(&'a RangeAggregation)) {
        if let Self::Range(range) = self {
            visit(range);
        }
        for child in self.children() {
            child.ranges(visit);
        }
    }
}

impl Expr {
    /// Every log expression in it, from left to right.
    pub fn log_exprs(&self) -> Vec<&LogExpr> {
        match self {
            Self::Log(log) => vec![log],
            Self::Metric(metric) => {
                let mut found = Vec::new();
                metric.ranges(&mut |range| found.push(&range.range.log));
                found
            }
        }
    }
}

impl fmt::Display for CompareOp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
