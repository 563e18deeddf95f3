//! The PromQL expression tree: plain data, a source position on every node.
//!
//! The parser builds it, [`resolve`](super::resolve) fills in what depends on the query's start,
//! end and step, and the planner turns it into physical operators. Invariants of a tree that came
//! from [`parse`](super::parser::parse):
//!
//! - it is no taller than [`MAX_HEIGHT`](super::parser::MAX_HEIGHT), so that recursion over it is
//!   safe, and it has been type checked;
//! - every [`PosRange`] lies inside the query text, on character boundaries.
//!
//! Times and durations are milliseconds in `i64`. The canonical text of a tree is its `Display`.

use std::ops::ControlFlow;

use chronolith_engine::Matcher;

use super::functions::FunctionSignature;
pub use crate::position::{LineColumn, PosRange};

/// The type of an expression's value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ValueType {
    /// One float.
    Scalar,
    /// One text; only literals have it.
    String,
    /// At most one sample per series.
    Vector,
    /// A range of samples per series.
    Matrix,
}

impl ValueType {
    /// The name in the HTTP API: `scalar`, `string`, `vector`, `matrix`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Scalar => "scalar",
            Self::String => "string",
            Self::Vector => "vector",
            Self::Matrix => "matrix",
        }
    }

    /// The name in error messages: `scalar`, `string`, `instant vector`, `range vector`.
    pub fn documented(self) -> &'static str {
        match self {
            Self::Scalar => "scalar",
            Self::String => "string",
            Self::Vector => "instant vector",
            Self::Matrix => "range vector",
        }
    }
}

/// Any expression.
#[derive(Debug, Clone, PartialEq)]
pub enum Expr {
    /// `1.5`, `0x1f`, `5m`.
    Number(NumberLiteral),
    /// `"text"`.
    String(StringLiteral),
    /// `name{label="value"} offset 5m`.
    Vector(VectorSelector),
    /// `name[5m]`.
    Matrix(MatrixSelector),
    /// `expr[1h:5m]`.
    Subquery(Subquery),
    /// `rate(...)`.
    Call(Call),
    /// `sum by (job) (...)`.
    Aggregate(Aggregate),
    /// `a + b`.
    Binary(Binary),
    /// `-a`.
    Unary(Unary),
    /// `(a)`.
    Paren(Paren),
}

/// A number; `duration` remembers that it was written as one (`5m`).
#[derive(Debug, Clone, PartialEq)]
pub struct NumberLiteral {
    /// The value; a duration counts in seconds.
    pub value: f64,
    /// Written as a duration.
    pub duration: bool,
    /// Where.
    pub pos: PosRange,
}

/// A string, escapes resolved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StringLiteral {
    /// The text it stands for.
    pub value: String,
    /// What it stands for where that is no UTF-8; the text is a makeshift then.
    pub bytes: Option<Vec<u8>>,
    /// Where.
    pub pos: PosRange,
}

/// How a matcher compares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MatchOp {
    /// `=`
    Equal,
    /// `!=`
    NotEqual,
    /// `=~`, fully anchored.
    Regex,
    /// `!~`, fully anchored.
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
}

/// `name op "value"`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct LabelMatcher {
    /// Label name; the metric name is `__name__`.
    pub name: String,
    /// Comparison.
    pub op: MatchOp,
    /// Text or regular expression.
    pub value: String,
    /// The engine's matcher, if it is one with a regular expression: the parser has made it to see
    /// whether it is valid, and compiling it costs.
    pub compiled: Option<Matcher>,
}

/// The label that holds the metric name.
pub const METRIC_NAME: &str = "__name__";

/// `@ …`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum At {
    /// A fixed time in ms since the epoch.
    Time(i64),
    /// `start()`: the query's start; gone after resolution.
    Start,
    /// `end()`: the query's end; gone after resolution.
    End,
}

/// How a window treats its boundaries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Extension {
    /// Samples in `(t-d, t]`, nothing else.
    #[default]
    None,
    /// `anchored`: boundary values are the last samples at or before the boundary.
    Anchored,
    /// `smoothed`: boundary values are interpolated.
    Smoothed,
}

/// `name{matchers} offset … @ …`
#[derive(Debug, Clone, PartialEq)]
pub struct VectorSelector {
    /// Metric name where it was written outside of matchers (or quoted and alone in braces).
    pub name: Option<String>,
    /// All matchers, with that of `__name__` when `name` is set.
    pub matchers: Vec<LabelMatcher>,
    /// `offset` in ms; look back by this much. Complete once `offset_expr` is resolved.
    pub offset_ms: i64,
    /// A duration expression after `offset`; `None` after resolution.
    pub offset_expr: Option<Box<DurationExpr>>,
    /// `@`.
    pub at: Option<At>,
    /// `anchored`, `smoothed`.
    pub extension: Extension,
    /// Where: from the name to the last modifier.
    pub pos: PosRange,
}

/// `selector[range]`. Offset, `@` and `anchored`/`smoothed` are kept in the selector.
#[derive(Debug, Clone, PartialEq)]
pub struct MatrixSelector {
    /// What is selected.
    pub selector: VectorSelector,
    /// Window length in ms, above 0 once `range_expr` is resolved.
    pub range_ms: i64,
    /// A duration expression as range; `None` after resolution.
    pub range_expr: Option<Box<DurationExpr>>,
    /// Where, brackets and modifiers included.
    pub pos: PosRange,
}

/// `expr[range:step] offset … @ …`
#[derive(Debug, Clone, PartialEq)]
pub struct Subquery {
    /// What is evaluated at each step.
    pub expr: Box<Expr>,
    /// Window length in ms, above 0 once `range_expr` is resolved.
    pub range_ms: i64,
    /// A duration expression as range; `None` after resolution.
    pub range_expr: Option<Box<DurationExpr>>,
    /// Step in ms; 0: the default step. Resolution replaces 0 by the default.
    pub step_ms: i64,
    /// A duration expression as step; `None` after resolution.
    pub step_expr: Option<Box<DurationExpr>>,
    /// `offset` in ms.
    pub offset_ms: i64,
    /// A duration expression after `offset`; `None` after resolution.
    pub offset_expr: Option<Box<DurationExpr>>,
    /// `@`.
    pub at: Option<At>,
    /// Where.
    pub pos: PosRange,
}

/// `function(args)`
#[derive(Debug, Clone, PartialEq)]
pub struct Call {
    /// The function; its name is `func.name`.
    pub func: &'static FunctionSignature,
    /// Arguments as written: optional ones are absent, not filled in.
    pub args: Vec<Expr>,
    /// Where, from the function's name to the closing parenthesis.
    pub pos: PosRange,
}

/// An aggregation operator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "each variant is the operator of that name")]
pub enum AggregateOp {
    Sum,
    Avg,
    Count,
    Min,
    Max,
    Group,
    Stddev,
    Stdvar,
    Topk,
    Bottomk,
    CountValues,
    Quantile,
    Limitk,
    LimitRatio,
}

impl AggregateOp {
    /// Every operator.
    pub const ALL: [AggregateOp; 14] = [
        Self::Sum,
        Self::Avg,
        Self::Count,
        Self::Min,
        Self::Max,
        Self::Group,
        Self::Stddev,
        Self::Stdvar,
        Self::Topk,
        Self::Bottomk,
        Self::CountValues,
        Self::Quantile,
        Self::Limitk,
        Self::LimitRatio,
    ];

    /// The operator as written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Sum => "sum",
            Self::Avg => "avg",
            Self::Count => "count",
            Self::Min => "min",
            Self::Max => "max",
            Self::Group => "group",
            Self::Stddev => "stddev",
            Self::Stdvar => "stdvar",
            Self::Topk => "topk",
            Self::Bottomk => "bottomk",
            Self::CountValues => "count_values",
            Self::Quantile => "quantile",
            Self::Limitk => "limitk",
            Self::LimitRatio => "limit_ratio",
        }
    }

    /// Whether it takes a parameter before the vector, and of which type.
    pub fn parameter(self) -> Option<ValueType> {
        match self {
            Self::Topk | Self::Bottomk | Self::Quantile | Self::Limitk | Self::LimitRatio => {
                Some(ValueType::Scalar)
            }
            Self::CountValues => Some(ValueType::String),
            _ => None,
        }
    }

    /// Behind `promql-experimental-functions`.
    pub fn experimental(self) -> bool {
        matches!(self, Self::Limitk | Self::LimitRatio)
    }
}

/// `op by (grouping) (param, expr)`
#[derive(Debug, Clone, PartialEq)]
pub struct Aggregate {
    /// Operator.
    pub op: AggregateOp,
    /// The parameter where [`AggregateOp::parameter`] says that there is one.
    pub param: Option<Box<Expr>>,
    /// What is aggregated.
    pub expr: Box<Expr>,
    /// Labels as written.
    pub grouping: Vec<String>,
    /// `without` instead of `by`.
    pub without: bool,
    /// Where.
    pub pos: PosRange,
}

/// A binary operator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the names are those of the operators")]
pub enum BinaryOp {
    Or,
    And,
    Unless,
    Eq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
    /// `</`: cut a histogram off above.
    TrimUpper,
    /// `>/`: cut a histogram off below.
    TrimLower,
    Add,
    Sub,
    Mul,
    Div,
    Mod,
    Atan2,
    Pow,
}

impl BinaryOp {
    /// The operator as written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Or => "or",
            Self::And => "and",
            Self::Unless => "unless",
            Self::Eq => "==",
            Self::Ne => "!=",
            Self::Lt => "<",
            Self::Le => "<=",
            Self::Gt => ">",
            Self::Ge => ">=",
            Self::TrimUpper => "</",
            Self::TrimLower => ">/",
            Self::Add => "+",
            Self::Sub => "-",
            Self::Mul => "*",
            Self::Div => "/",
            Self::Mod => "%",
            Self::Atan2 => "atan2",
            Self::Pow => "^",
        }
    }

    /// `==`, `!=`, `<`, `<=`, `>`, `>=`; not the trim operators.
    pub fn is_comparison(self) -> bool {
        matches!(
            self,
            Self::Eq | Self::Ne | Self::Lt | Self::Le | Self::Gt | Self::Ge
        )
    }

    /// `and`, `or`, `unless`.
    pub fn is_set(self) -> bool {
        matches!(self, Self::Or | Self::And | Self::Unless)
    }

    /// How tightly it binds: higher is tighter.
    pub fn precedence(self) -> u8 {
        match self {
            Self::Or => 1,
            Self::And | Self::Unless => 2,
            Self::Add | Self::Sub => 4,
            Self::Mul | Self::Div | Self::Mod | Self::Atan2 => 5,
            Self::Pow => 6,
            _ => 3,
        }
    }
}

/// How many elements of each side may match.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Cardinality {
    /// One element of either side.
    OneToOne,
    /// `group_left`: many of the left match one of the right.
    ManyToOne,
    /// `group_right`: one of the left matches many of the right.
    OneToMany,
    /// Set operators.
    ManyToMany,
}

impl Cardinality {
    /// `one-to-one` and so on.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::OneToOne => "one-to-one",
            Self::ManyToOne => "many-to-one",
            Self::OneToMany => "one-to-many",
            Self::ManyToMany => "many-to-many",
        }
    }
}

/// How the elements of two vectors are paired.
#[derive(Debug, Clone, PartialEq)]
pub struct VectorMatching {
    /// Cardinality.
    pub card: Cardinality,
    /// The labels of `on` or `ignoring`.
    pub matching_labels: Vec<String>,
    /// `on` instead of `ignoring`.
    pub on: bool,
    /// Labels taken over from the "one" side.
    pub include: Vec<String>,
    /// Value of a missing left element.
    pub fill_lhs: Option<f64>,
    /// Value of a missing right element.
    pub fill_rhs: Option<f64>,
}

impl Default for VectorMatching {
    fn default() -> Self {
        Self {
            card: Cardinality::OneToOne,
            matching_labels: Vec::new(),
            on: false,
            include: Vec::new(),
            fill_lhs: None,
            fill_rhs: None,
        }
    }
}

/// `lhs op [bool] [matching] rhs`
#[derive(Debug, Clone, PartialEq)]
pub struct Binary {
    /// Operator.
    pub op: BinaryOp,
    /// Left operand.
    pub lhs: Box<Expr>,
    /// Right operand.
    pub rhs: Box<Expr>,
    /// `bool`: comparisons give 0 or 1 instead of filtering.
    pub return_bool: bool,
    /// Set exactly if both operands are vectors.
    pub matching: Option<VectorMatching>,
    /// Where, both operands included.
    pub pos: PosRange,
}

/// `-expr`, `+expr`
#[derive(Debug, Clone, PartialEq)]
pub struct Unary {
    /// `-` rather than `+`.
    pub negate: bool,
    /// Operand.
    pub expr: Box<Expr>,
    /// Where, with the sign.
    pub pos: PosRange,
}

/// `(expr)`
#[derive(Debug, Clone, PartialEq)]
pub struct Paren {
    /// The expression inside.
    pub expr: Box<Expr>,
    /// Where, with the parentheses.
    pub pos: PosRange,
}

/// A duration that is known only with the query's range and step: `[5m + step()]`.
#[derive(Debug, Clone, PartialEq)]
pub struct DurationExpr {
    /// The operation.
    pub kind: DurationKind,
    /// Where.
    pub pos: PosRange,
}

/// What a [`DurationExpr`] computes; in seconds.
#[derive(Debug, Clone, PartialEq)]
pub enum DurationKind {
    /// A literal; `duration` remembers that it was written as `5m` rather than `300`.
    Literal {
        /// Seconds.
        seconds: f64,
        /// Written as a duration.
        duration: bool,
    },
    /// `step()`
    Step,
    /// `range()`
    Range,
    /// `min_of(a, b)`
    MinOf(Box<DurationExpr>, Box<DurationExpr>),
    /// `max_of(a, b)`
    MaxOf(Box<DurationExpr>, Box<DurationExpr>),
    /// `-a`
    Neg(Box<DurationExpr>),
    /// `+a`
    Pos(Box<DurationExpr>),
    /// `a op b`; op is one of `+ - * / % ^`.
    Binary(BinaryOp, Box<DurationExpr>, Box<DurationExpr>),
    /// `(a)`
    Paren(Box<DurationExpr>),
}

impl Expr {
    /// Where the expression stands in the query.
    pub fn pos(&self) -> PosRange {
        match self {
            Self::Number(e) => e.pos,
            Self::String(e) => e.pos,
            Self::Vector(e) => e.pos,
            Self::Matrix(e) => e.pos,
            Self::Subquery(e) => e.pos,
            Self::Call(e) => e.pos,
            Self::Aggregate(e) => e.pos,
            Self::Binary(e) => e.pos,
            Self::Unary(e) => e.pos,
            Self::Paren(e) => e.pos,
        }
    }

    /// The type of the value.
    pub fn value_type(&self) -> ValueType {
        match self {
            Self::Number(_) => ValueType::Scalar,
            Self::String(_) => ValueType::String,
            Self::Vector(_) | Self::Aggregate(_) => ValueType::Vector,
            Self::Matrix(_) | Self::Subquery(_) => ValueType::Matrix,
            Self::Call(e) => e.func.return_type,
            Self::Binary(e) => match (e.lhs.value_type(), e.rhs.value_type()) {
                (ValueType::Scalar, ValueType::Scalar) => ValueType::Scalar,
                _ => ValueType::Vector,
            },
            Self::Unary(e) => e.expr.value_type(),
            Self::Paren(e) => e.expr.value_type(),
        }
    }

    /// The direct sub-expressions in the order of the text; a matrix selector has none.
    pub fn children(&self) -> Vec<&Expr> {
        match self {
            Self::Number(_) | Self::String(_) | Self::Vector(_) | Self::Matrix(_) => Vec::new(),
            Self::Subquery(e) => vec![&e.expr],
            Self::Call(e) => e.args.iter().collect(),
            Self::Aggregate(e) => e.param.iter().chain([&e.expr]).map(|e| &**e).collect(),
            Self::Binary(e) => vec![&e.lhs, &e.rhs],
            Self::Unary(e) => vec![&e.expr],
            Self::Paren(e) => vec![&e.expr],
        }
    }

    /// As [`children`](Self::children), to change them.
    pub fn children_mut(&mut self) -> Vec<&mut Expr> {
        match self {
            Self::Number(_) | Self::String(_) | Self::Vector(_) | Self::Matrix(_) => Vec::new(),
            Self::Subquery(e) => vec![&mut e.expr],
            Self::Call(e) => e.args.iter_mut().collect(),
            Self::Aggregate(e) => e
                .param
                .iter_mut()
                .chain([&mut e.expr])
                .map(|e| &mut **e)
                .collect(),
            Self::Binary(e) => vec![&mut e.lhs, &mut e.rhs],
            Self::Unary(e) => vec![&mut e.expr],
            Self::Paren(e) => vec![&mut e.expr],
        }
    }

    /// Calls `visit` for this node and all below it, parents first, until it breaks.
    pub fn walk<'a, B>(
        &'a self,
        visit: &mut impl FnMut(&'a Expr) -> ControlFlow<B>,
    ) -> ControlFlow<B> {
        visit(self)?;
        for child in self.children() {
            child.walk(visit)?;
        }
        ControlFlow::Continue(())
    }

    /// Whether `test` holds for this node or any below it.
    pub fn any(&self, mut test: impl FnMut(&Expr) -> bool) -> bool {
        self.walk(&mut |e| {
            if test(e) {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        })
        .is_break()
    }

    /// Every selector in the tree, those of matrix selectors included.
    pub fn selectors(&self) -> Vec<&VectorSelector> {
        let mut found = Vec::new();
        let _: ControlFlow<()> = self.walk(&mut |e| {
            match e {
                Self::Vector(v) => found.push(v),
                Self::Matrix(m) => found.push(&m.selector),
                _ => {}
            }
            ControlFlow::Continue(())
        });
        found
    }

    /// The expression without the parentheses around it.
    pub fn unparen(&self) -> &Expr {
        let mut expr = self;
        while let Self::Paren(p) = expr {
            expr = &p.expr;
        }
        expr
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_and_column_count_from_one() {
        let query = "a +\n  b";
        assert_eq!(LineColumn::of(query, 0).to_string(), "1:1");
        assert_eq!(LineColumn::of(query, 6).to_string(), "2:3");
        assert_eq!(LineColumn::of(query, 99).to_string(), "2:4");
    }
}
