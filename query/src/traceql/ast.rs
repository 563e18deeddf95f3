//! The TraceQL tree: plain data, a source position on every node.
//!
//! The parser builds it, [`check`](super::check) says whether its types fit. A tree from [`parse`](super::parser::parse) is no taller than
//! [`MAX_HEIGHT`](super::parser::MAX_HEIGHT); chains of one logical operator are one node, so that a
//! list of a thousand ids joined by `||` is not tall. The canonical text of a tree is its `Display`.

use chronolith_engine::model::{SpanKind, SpanStatus};

pub use crate::position::PosRange;

/// A whole query.
#[derive(Debug, Clone, PartialEq)]
pub struct Query {
    /// What is asked.
    pub body: Body,
    /// `with(name = value, …)`.
    pub hints: Vec<Hint>,
}

impl Query {
    /// The value of a hint, the last one if it is given twice.
    #[must_use]
    pub fn hint(&self, name: &str) -> Option<&Literal> {
        let mut named = self.hints.iter().rev().filter(|hint| hint.name == name);
        named.next().map(|hint| &hint.value)
    }
}

/// What a query asks for.
#[derive(Debug, Clone, PartialEq)]
pub enum Body {
    /// Spansets: a search.
    Search(Pipeline),
    /// Series.
    Metrics(MetricsExpr),
}

/// A remark to the evaluator.
#[derive(Debug, Clone, PartialEq)]
pub struct Hint {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: Literal,
    /// Where.
    pub pos: PosRange,
}

/// Stages that spansets pass one after the other. At least one.
#[derive(Debug, Clone, PartialEq)]
pub struct Pipeline {
    /// The stages.
    pub stages: Vec<Stage>,
    /// Where.
    pub pos: PosRange,
}

/// One stage of a pipeline.
#[derive(Debug, Clone, PartialEq)]
pub enum Stage {
    /// Keeps spans, or whole spansets.
    Spansets(SpansetExpr),
    /// Keeps spansets whose aggregate compares so.
    ScalarFilter(ScalarFilter),
    /// `by(…)`: splits each spanset by a value.
    GroupBy(FieldExpr),
    /// `coalesce()`: joins the spansets of a trace again.
    Coalesce(PosRange),
    /// `select(…)`: fields that the answer shows.
    Select(Vec<Field>),
}

/// An expression over spansets of one trace.
#[derive(Debug, Clone, PartialEq)]
pub enum SpansetExpr {
    /// `{ … }`.
    Filter(SpansetFilter),
    /// Two of them and an operator.
    Operation(Box<SpansetOperation>),
    /// A pipeline in parentheses.
    Pipeline(Box<Pipeline>),
}

/// `{ condition }`.
#[derive(Debug, Clone, PartialEq)]
pub struct SpansetFilter {
    /// The condition; `None` for `{}`.
    pub condition: Option<FieldExpr>,
    /// Where, braces included.
    pub pos: PosRange,
}

/// `lhs op rhs` over spansets.
#[derive(Debug, Clone, PartialEq)]
pub struct SpansetOperation {
    /// The operator.
    pub op: SpansetOp,
    /// Left.
    pub lhs: SpansetExpr,
    /// Right.
    pub rhs: SpansetExpr,
    /// Where.
    pub pos: PosRange,
}

/// An operator between spansets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SpansetOp {
    /// `&&`: both sides match something.
    And,
    /// `||`: either side does.
    Or,
    /// A structural relation.
    Structural {
        /// Which.
        relation: Relation,
        /// How matches of it are used.
        mode: RelationMode,
    },
}

/// How a span of the right side stands to one of the left side.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Relation {
    /// `>`: right is a child of left.
    Child,
    /// `<`: right is the parent of left.
    Parent,
    /// `>>`: right descends from left.
    Descendant,
    /// `<<`: right is an ancestor of left.
    Ancestor,
    /// `~`: they share a parent.
    Sibling,
}

/// What a structural operator gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RelationMode {
    /// Spans of the right side that stand in the relation.
    Match,
    /// `!`: those that do not.
    Negated,
    /// `&`: spans of both sides that stand in it.
    Union,
}

impl SpansetOp {
    /// As it is written.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        use Relation::*;
        use RelationMode::*;
        match self {
            Self::And => "&&",
            Self::Or => "||",
            Self::Structural { relation, mode } => match (mode, relation) {
                (Match, Child) => ">",
                (Match, Parent) => "<",
                (Match, Descendant) => ">>",
                (Match, Ancestor) => "<<",
                (Match, Sibling) => "~",
                (Negated, Child) => "!>",
                (Negated, Parent) => "!<",
                (Negated, Descendant) => "!>>",
                (Negated, Ancestor) => "!<<",
                (Negated, Sibling) => "!~",
                (Union, Child) => "&>",
                (Union, Parent) => "&<",
                (Union, Descendant) => "&>>",
                (Union, Ancestor) => "&<<",
                (Union, Sibling) => "&~",
            },
        }
    }
}

/// `scalar op scalar`: keeps spansets.
#[derive(Debug, Clone, PartialEq)]
pub struct ScalarFilter {
    /// The comparison.
    pub op: CompareOp,
    /// Left.
    pub lhs: ScalarExpr,
    /// Right.
    pub rhs: ScalarExpr,
    /// Where.
    pub pos: PosRange,
}

/// One number for a spanset.
#[derive(Debug, Clone, PartialEq)]
pub enum ScalarExpr {
    /// `count()`, `avg(…)`, ….
    Aggregate(Aggregate),
    /// A literal.
    Literal(Literal),
    /// Arithmetic.
    Operation(Box<ScalarOperation>),
    /// `(pipeline | aggregate)`.
    Pipeline(Box<ScalarPipeline>),
}

/// Arithmetic between scalars.
#[derive(Debug, Clone, PartialEq)]
pub struct ScalarOperation {
    /// The operator.
    pub op: ArithmeticOp,
    /// Left.
    pub lhs: ScalarExpr,
    /// Right.
    pub rhs: ScalarExpr,
    /// Where.
    pub pos: PosRange,
}

/// A pipeline that ends in an aggregate.
#[derive(Debug, Clone, PartialEq)]
pub struct ScalarPipeline {
    /// What is aggregated.
    pub pipeline: Pipeline,
    /// How.
    pub aggregate: Aggregate,
}

/// An aggregate over the spans of a spanset.
#[derive(Debug, Clone, PartialEq)]
pub struct Aggregate {
    /// Which.
    pub op: AggregateOp,
    /// Of what; `None` for `count()`.
    pub operand: Option<FieldExpr>,
    /// Where.
    pub pos: PosRange,
}

/// Which aggregate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AggregateOp {
    /// How many spans.
    Count,
    /// Mean.
    Avg,
    /// Greatest.
    Max,
    /// Smallest.
    Min,
    /// Sum.
    Sum,
}

impl AggregateOp {
    /// As it is written.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Count => "count",
            Self::Avg => "avg",
            Self::Max => "max",
            Self::Min => "min",
            Self::Sum => "sum",
        }
    }

    /// The aggregate of that name.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        let all = [Self::Count, Self::Avg, Self::Max, Self::Min, Self::Sum];
        all.into_iter().find(|op| op.as_str() == word)
    }
}

/// An expression over one span.
#[derive(Debug, Clone, PartialEq)]
pub enum FieldExpr {
    /// A literal.
    Literal(Literal),
    /// An attribute or intrinsic.
    Field(Field),
    /// `-x`, `!x`.
    Unary(Box<UnaryExpr>),
    /// Arithmetic and comparisons.
    Binary(Box<BinaryExpr>),
    /// `a && b && …`, `a || b || …`.
    Logical(LogicalExpr),
}

/// An operator before its operand.
#[derive(Debug, Clone, PartialEq)]
pub struct UnaryExpr {
    /// The operator.
    pub op: UnaryOp,
    /// Of what.
    pub operand: FieldExpr,
    /// Where.
    pub pos: PosRange,
}

/// An operator before its operand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnaryOp {
    /// `-`
    Minus,
    /// `!`
    Not,
}

/// `lhs op rhs` over the fields of a span.
#[derive(Debug, Clone, PartialEq)]
pub struct BinaryExpr {
    /// The operator.
    pub op: BinaryOp,
    /// Left.
    pub lhs: FieldExpr,
    /// Right.
    pub rhs: FieldExpr,
    /// Where.
    pub pos: PosRange,
}

/// A chain of one logical operator. At least two operands.
#[derive(Debug, Clone, PartialEq)]
pub struct LogicalExpr {
    /// Whether `&&` or `||`.
    pub op: LogicalOp,
    /// What is joined.
    pub operands: Vec<FieldExpr>,
    /// Where.
    pub pos: PosRange,
}

/// `&&` or `||`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogicalOp {
    /// `&&`
    And,
    /// `||`
    Or,
}

/// An operator between two fields of a span.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BinaryOp {
    /// Gives a number.
    Arithmetic(ArithmeticOp),
    /// Gives a truth value.
    Compare(CompareOp),
    /// `=~`: the whole text matches.
    Regex,
    /// `!~`
    NotRegex,
}

/// `+ - * / % ^`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ArithmeticOp {
    /// `+`
    Add,
    /// `-`
    Sub,
    /// `*`
    Mul,
    /// `/`, never an integer division.
    Div,
    /// `%`
    Mod,
    /// `^`
    Pow,
}

impl ArithmeticOp {
    /// Computes it.
    #[must_use]
    pub fn apply(self, lhs: f64, rhs: f64) -> f64 {
        match self {
            Self::Add => lhs + rhs,
            Self::Sub => lhs - rhs,
            Self::Mul => lhs * rhs,
            Self::Div => lhs / rhs,
            Self::Mod => lhs % rhs,
            Self::Pow => lhs.powf(rhs),
        }
    }

    /// As it is written.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Add => "+",
            Self::Sub => "-",
            Self::Mul => "*",
            Self::Div => "/",
            Self::Mod => "%",
            Self::Pow => "^",
        }
    }
}

/// `= != < <= > >=`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CompareOp {
    /// `=`
    Equal,
    /// `!=`
    NotEqual,
    /// `<`
    Less,
    /// `<=`
    LessEqual,
    /// `>`
    Greater,
    /// `>=`
    GreaterEqual,
}

impl CompareOp {
    /// Whether `lhs op rhs` for any partial order; `false` where the two cannot be compared, but for `!=`.
    #[must_use]
    #[inline]
    pub fn holds<T: PartialOrd + ?Sized>(self, lhs: &T, rhs: &T) -> bool {
        match self {
            Self::Equal => lhs == rhs,
            Self::NotEqual => lhs != rhs,
            Self::Less => lhs < rhs,
            Self::LessEqual => lhs <= rhs,
            Self::Greater => lhs > rhs,
            Self::GreaterEqual => lhs >= rhs,
        }
    }

    /// The operator with its sides exchanged: `1 < x` is `x > 1`.
    #[must_use]
    pub fn mirrored(self) -> Self {
        match self {
            Self::Less => Self::Greater,
            Self::LessEqual => Self::GreaterEqual,
            Self::Greater => Self::Less,
            Self::GreaterEqual => Self::LessEqual,
            same => same,
        }
    }

    /// As it is written.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Equal => "=",
            Self::NotEqual => "!=",
            Self::Less => "<",
            Self::LessEqual => "<=",
            Self::Greater => ">",
            Self::GreaterEqual => ">=",
        }
    }
}

/// A literal of the text.
#[derive(Debug, Clone, PartialEq)]
pub struct Literal {
    /// What it says.
    pub value: Value,
    /// Where.
    pub pos: PosRange,
}

/// A value: of a literal, of a field, of an expression.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// Nothing there.
    Nil,
    /// Text.
    String(String),
    /// An integer.
    Int(i64),
    /// A float.
    Float(f64),
    /// A truth value.
    Bool(bool),
    /// Nanoseconds.
    Duration(i64),
    /// A span's outcome.
    Status(SpanStatus),
    /// A span's role.
    Kind(SpanKind),
}

impl Value {
    /// As a number; durations in nanoseconds.
    #[must_use]
    pub fn as_number(&self) -> Option<f64> {
        match self {
            Self::Int(n) | Self::Duration(n) => Some(*n as f64),
            Self::Float(f) => Some(*f),
            _ => None,
        }
    }
}

/// Something that a span has.
#[derive(Debug, Clone, PartialEq)]
pub struct Field {
    /// What.
    pub name: FieldName,
    /// `parent.`: of the parent span. Parsed, refused by the check.
    pub of_parent: bool,
    /// Where.
    pub pos: PosRange,
}

/// The name of something that a span has.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum FieldName {
    /// What every span has.
    Intrinsic {
        /// Which.
        intrinsic: Intrinsic,
        /// Written with its scope: `span:name`.
        is_scoped: bool,
    },
    /// An attribute.
    Attribute {
        /// Where it is looked for.
        scope: Scope,
        /// Its key.
        key: String,
    },
}

/// Where an attribute is looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scope {
    /// `.a`: the span, then its resource.
    Any,
    /// `span.a`
    Span,
    /// `resource.a`
    Resource,
    /// `event.a`: any event of the span.
    Event,
    /// `link.a`: any link of the span.
    Link,
    /// `instrumentation.a`
    Instrumentation,
}

impl Scope {
    /// All that are written before a dot.
    pub const NAMED: [Self; 5] = [
        Self::Span,
        Self::Resource,
        Self::Event,
        Self::Link,
        Self::Instrumentation,
    ];

    /// The word before the dot; empty for [`Scope::Any`].
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Any => "",
            Self::Span => "span",
            Self::Resource => "resource",
            Self::Event => "event",
            Self::Link => "link",
            Self::Instrumentation => "instrumentation",
        }
    }
}

/// What every span has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Intrinsic {
    /// Nanoseconds.
    Duration,
    /// Operation name.
    Name,
    /// Outcome.
    Status,
    /// Words about the outcome.
    StatusMessage,
    /// Role.
    Kind,
    /// How many spans name it as their parent.
    ChildCount,
    /// The parent span itself. Parsed, refused by the check.
    Parent,
    /// Its id, hex.
    SpanId,
    /// Its parent's id, hex.
    ParentId,
    /// Number of the nested set: where its subtree begins.
    NestedSetLeft,
    /// Where its subtree ends.
    NestedSetRight,
    /// The left number of its parent; -1 for a root.
    NestedSetParent,
    /// The trace's id, hex.
    TraceId,
    /// From the earliest start to the latest end of the trace.
    TraceDuration,
    /// Name of the root span.
    TraceRootName,
    /// Service of the root span.
    TraceRootService,
    /// Name of any event.
    EventName,
    /// How long after the span's start any event happened.
    EventTimeSinceStart,
    /// Trace of any link, hex.
    LinkTraceId,
    /// Span of any link, hex.
    LinkSpanId,
    /// Name of the instrumentation scope.
    InstrumentationName,
    /// Its version.
    InstrumentationVersion,
}

/// Spelling without scope, scope and spelling within it, intrinsic.
type Spelling = (
    Option<&'static str>,
    Option<(&'static str, &'static str)>,
    Intrinsic,
);

/// Every intrinsic in its spellings.
const SPELLINGS: [Spelling; 22] = [
    (
        Some("duration"),
        Some(("span", "duration")),
        Intrinsic::Duration,
    ),
    (Some("name"), Some(("span", "name")), Intrinsic::Name),
    (Some("status"), Some(("span", "status")), Intrinsic::Status),
    (
        Some("statusMessage"),
        Some(("span", "statusMessage")),
        Intrinsic::StatusMessage,
    ),
    (Some("kind"), Some(("span", "kind")), Intrinsic::Kind),
    (
        Some("childCount"),
        Some(("span", "childCount")),
        Intrinsic::ChildCount,
    ),
    (Some("parent"), None, Intrinsic::Parent),
    (None, Some(("span", "id")), Intrinsic::SpanId),
    (None, Some(("span", "parentID")), Intrinsic::ParentId),
    (Some("nestedSetLeft"), None, Intrinsic::NestedSetLeft),
    (Some("nestedSetRight"), None, Intrinsic::NestedSetRight),
    (Some("nestedSetParent"), None, Intrinsic::NestedSetParent),
    (None, Some(("trace", "id")), Intrinsic::TraceId),
    (
        Some("traceDuration"),
        Some(("trace", "duration")),
        Intrinsic::TraceDuration,
    ),
    (
        Some("rootName"),
        Some(("trace", "rootName")),
        Intrinsic::TraceRootName,
    ),
    (
        Some("rootServiceName"),
        Some(("trace", "rootService")),
        Intrinsic::TraceRootService,
    ),
    (None, Some(("event", "name")), Intrinsic::EventName),
    (
        None,
        Some(("event", "timeSinceStart")),
        Intrinsic::EventTimeSinceStart,
    ),
    (None, Some(("link", "traceID")), Intrinsic::LinkTraceId),
    (None, Some(("link", "spanID")), Intrinsic::LinkSpanId),
    (
        None,
        Some(("instrumentation", "name")),
        Intrinsic::InstrumentationName,
    ),
    (
        None,
        Some(("instrumentation", "version")),
        Intrinsic::InstrumentationVersion,
    ),
];

impl Intrinsic {
    /// The intrinsic that is written as this bare word.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        let mut found = SPELLINGS.iter().filter(|(bare, ..)| *bare == Some(word));
        found.next().map(|(.., intrinsic)| *intrinsic)
    }

    /// The intrinsic that is written `scope:word`.
    #[must_use]
    pub fn from_scoped(scope: &str, word: &str) -> Option<Self> {
        let written = Some((scope, word));
        let mut found = SPELLINGS.iter().filter(|(_, scoped, _)| *scoped == written);
        found.next().map(|(.., intrinsic)| *intrinsic)
    }

    /// Whether `scope:` begins an intrinsic.
    #[must_use]
    pub fn is_scope(word: &str) -> bool {
        let scopes = SPELLINGS.iter().filter_map(|(_, scoped, _)| *scoped);
        scopes.into_iter().any(|(scope, _)| scope == word)
    }

    /// Its bare word.
    #[must_use]
    pub fn word(self) -> Option<&'static str> {
        let mut found = SPELLINGS
            .iter()
            .filter(|(.., intrinsic)| *intrinsic == self);
        found.next().and_then(|(bare, ..)| *bare)
    }

    /// Its scope and the word within it.
    #[must_use]
    pub fn scoped(self) -> Option<(&'static str, &'static str)> {
        let mut found = SPELLINGS
            .iter()
            .filter(|(.., intrinsic)| *intrinsic == self);
        found.next().and_then(|(_, scoped, _)| *scoped)
    }
}

/// An expression whose value are series.
#[derive(Debug, Clone, PartialEq)]
pub enum MetricsExpr {
    /// A pipeline and what is computed of its spans.
    Query(Box<MetricsQuery>),
    /// A number; only beside an operator.
    Number(f64),
    /// Arithmetic, series by series.
    Operation(Box<MetricsOperation>),
    /// A second stage.
    Stage(Box<MetricsStage>),
}

/// A pipeline and what is computed of its spans.
#[derive(Debug, Clone, PartialEq)]
pub struct MetricsQuery {
    /// Which spans.
    pub pipeline: Pipeline,
    /// What is computed.
    pub function: MetricsFunction,
    /// `by(…)`: one series per combination of values.
    pub by: Vec<Field>,
    /// Where.
    pub pos: PosRange,
}

/// What is computed of spans, step by step.
#[derive(Debug, Clone, PartialEq)]
pub enum MetricsFunction {
    /// Spans per second.
    Rate,
    /// Spans.
    CountOverTime,
    /// Smallest value.
    MinOverTime(Field),
    /// Greatest value.
    MaxOverTime(Field),
    /// Mean.
    AvgOverTime(Field),
    /// Sum.
    SumOverTime(Field),
    /// Quantiles, from buckets of powers of two.
    QuantileOverTime(Field, Vec<f64>),
    /// Spans per bucket.
    HistogramOverTime(Field),
    /// Values of all attributes inside and outside a selection.
    Compare(Compare),
}

impl MetricsFunction {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Rate => "rate",
            Self::CountOverTime => "count_over_time",
            Self::MinOverTime(_) => "min_over_time",
            Self::MaxOverTime(_) => "max_over_time",
            Self::AvgOverTime(_) => "avg_over_time",
            Self::SumOverTime(_) => "sum_over_time",
            Self::QuantileOverTime(..) => "quantile_over_time",
            Self::HistogramOverTime(_) => "histogram_over_time",
            Self::Compare(_) => "compare",
        }
    }

    /// The field that it is computed of.
    #[must_use]
    pub fn field(&self) -> Option<&Field> {
        match self {
            Self::Rate | Self::CountOverTime | Self::Compare(_) => None,
            Self::MinOverTime(field)
            | Self::MaxOverTime(field)
            | Self::AvgOverTime(field)
            | Self::SumOverTime(field)
            | Self::QuantileOverTime(field, _)
            | Self::HistogramOverTime(field) => Some(field),
        }
    }
}

/// `compare({selection}, top_n, start, end)`.
#[derive(Debug, Clone, PartialEq)]
pub struct Compare {
    /// Which spans are the selection; all others are the baseline.
    pub selection: SpansetFilter,
    /// Values kept per attribute. Default: 10.
    pub top_n: i64,
    /// Nanoseconds since the epoch; both 0 if not given.
    pub start_ns: i64,
    /// Nanoseconds since the epoch, exclusive.
    pub end_ns: i64,
}

/// Arithmetic between series. At most one side is a number.
#[derive(Debug, Clone, PartialEq)]
pub struct MetricsOperation {
    /// One of `+ - * /`.
    pub op: ArithmeticOp,
    /// Left.
    pub lhs: MetricsExpr,
    /// Right.
    pub rhs: MetricsExpr,
    /// Where.
    pub pos: PosRange,
}

/// A second stage: series in, series out.
#[derive(Debug, Clone, PartialEq)]
pub struct MetricsStage {
    /// Of what.
    pub input: MetricsExpr,
    /// What is done.
    pub stage: SecondStage,
    /// Where.
    pub pos: PosRange,
}

/// What a second stage does.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum SecondStage {
    /// `topk(n)`: at each step the greatest values.
    TopK(i64),
    /// `bottomk(n)`: at each step the smallest.
    BottomK(i64),
    /// Keeps the values that compare so; durations are seconds here.
    Compare(CompareOp, f64),
}
