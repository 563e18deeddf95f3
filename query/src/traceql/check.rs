//! Whether a query makes sense: types, literals out of range, and what nobody evaluates.
//!
//! An attribute has any type until a span is looked at, so only literals and intrinsics can misfit.
//! The rules are Tempo's, including what it parses but refuses to run ([`FaultKind::Unsupported`]).

use super::ast::*;
use super::error::{FaultKind, TraceqlError};
use super::regex;

/// Fields in a `by(…)` of a metrics function; those with buckets take one fewer.
pub const GROUP_FIELDS_MAX: usize = 5;

/// The type of an expression, as far as it is known without a span.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Type {
    /// `nil`.
    Nil,
    /// An attribute's: known when it is read.
    Any,
    /// A number.
    Int,
    /// A number.
    Float,
    /// A number of nanoseconds.
    Duration,
    /// Text.
    String,
    /// A truth value.
    Bool,
    /// A span's outcome.
    Status,
    /// A span's role.
    Kind,
}

impl Type {
    /// The type of a value.
    #[must_use]
    pub fn of(value: &Value) -> Self {
        match value {
            Value::Nil => Self::Nil,
            Value::String(_) => Self::String,
            Value::Int(_) => Self::Int,
            Value::Float(_) => Self::Float,
            Value::Bool(_) => Self::Bool,
            Value::Duration(_) => Self::Duration,
            Value::Status(_) => Self::Status,
            Value::Kind(_) => Self::Kind,
        }
    }

    fn is_numeric(self) -> bool {
        matches!(self, Self::Int | Self::Float | Self::Duration)
    }

    /// Whether a binary operator can have both.
    #[must_use]
    pub fn fits(self, other: Self) -> bool {
        self == other
            || self == Self::Any
            || other == Self::Any
            || (self.is_numeric() && other.is_numeric())
    }

    /// Whether a binary operator can have this type on a side.
    #[must_use]
    pub fn takes(self, op: BinaryOp) -> bool {
        let is_equality = matches!(
            op,
            BinaryOp::Compare(CompareOp::Equal | CompareOp::NotEqual)
        );
        match self {
            Self::Any => true,
            Self::Int | Self::Float | Self::Duration => {
                matches!(op, BinaryOp::Arithmetic(_) | BinaryOp::Compare(_))
            }
            Self::String => !matches!(op, BinaryOp::Arithmetic(_)),
            Self::Bool | Self::Nil | Self::Status | Self::Kind => is_equality,
        }
    }
}

impl Intrinsic {
    /// The type of its values.
    #[must_use]
    pub fn value_type(self) -> Type {
        match self {
            Self::Duration | Self::TraceDuration | Self::EventTimeSinceStart => Type::Duration,
            Self::Status => Type::Status,
            Self::Kind => Type::Kind,
            Self::ChildCount
            | Self::NestedSetLeft
            | Self::NestedSetRight
            | Self::NestedSetParent => Type::Int,
            Self::Parent => Type::Nil,
            Self::Name
            | Self::StatusMessage
            | Self::SpanId
            | Self::ParentId
            | Self::TraceId
            | Self::TraceRootName
            | Self::TraceRootService
            | Self::EventName
            | Self::LinkTraceId
            | Self::LinkSpanId
            | Self::InstrumentationName
            | Self::InstrumentationVersion => Type::String,
        }
    }
}

impl Field {
    /// The type of its values, as far as it is known.
    #[must_use]
    pub fn value_type(&self) -> Type {
        match self.name {
            FieldName::Intrinsic { intrinsic, .. } => intrinsic.value_type(),
            FieldName::Attribute { .. } => Type::Any,
        }
    }
}

impl FieldExpr {
    /// The type of its values, as far as it is known.
    #[must_use]
    pub fn value_type(&self) -> Type {
        match self {
            Self::Literal(literal) => Type::of(&literal.value),
            Self::Field(field) => field.value_type(),
            Self::Unary(unary) => unary.operand.value_type(),
            Self::Binary(binary) => match binary.op {
                BinaryOp::Arithmetic(_) => match binary.lhs.value_type() {
                    Type::Any => binary.rhs.value_type(),
                    known => known,
                },
                _ => Type::Bool,
            },
            Self::Logical(_) => Type::Bool,
        }
    }

    /// Whether its value depends on the span.
    #[must_use]
    pub fn reads_span(&self) -> bool {
        match self {
            Self::Literal(_) => false,
            Self::Field(_) => true,
            Self::Unary(unary) => unary.operand.reads_span(),
            Self::Binary(binary) => binary.lhs.reads_span() || binary.rhs.reads_span(),
            Self::Logical(logical) => logical.operands.iter().any(Self::reads_span),
        }
    }
}

impl ScalarExpr {
    fn value_type(&self) -> Type {
        let aggregate_type = |aggregate: &Aggregate| match &aggregate.operand {
            Some(operand) if aggregate.op != AggregateOp::Count => operand.value_type(),
            _ => Type::Int,
        };
        match self {
            Self::Aggregate(aggregate) => aggregate_type(aggregate),
            Self::Literal(literal) => Type::of(&literal.value),
            Self::Operation(operation) => match operation.lhs.value_type() {
                Type::Any => operation.rhs.value_type(),
                known => known,
            },
            Self::Pipeline(pipeline) => aggregate_type(&pipeline.aggregate),
        }
    }

    /// Its value if it is made of literals only; durations in nanoseconds.
    #[must_use]
    pub fn constant(&self) -> Option<f64> {
        match self {
            Self::Literal(literal) => literal.value.as_number(),
            Self::Operation(operation) => {
                let (lhs, rhs) = (operation.lhs.constant()?, operation.rhs.constant()?);
                Some(operation.op.apply(lhs, rhs))
            }
            Self::Aggregate(_) | Self::Pipeline(_) => None,
        }
    }
}

type Checked = Result<(), TraceqlError>;

/// Checks a query that was parsed from `text`.
///
/// # Errors
/// [`FaultKind::Invalid`] or [`FaultKind::Unsupported`], and where.
pub fn check(text: &str, query: &Query) -> Checked {
    let checker = Checker { text };
    match &query.body {
        Body::Search(pipeline) => checker.pipeline(pipeline),
        Body::Metrics(metrics) => checker.metrics(metrics).map(|_| ()),
    }
}

struct Checker<'q> {
    text: &'q str,
}

/// Whether series come from `compare`, which nothing can follow.
struct IsCompared(bool);

impl Checker<'_> {
    fn invalid<T>(&self, pos: PosRange, message: impl Into<String>) -> Result<T, TraceqlError> {
        Err(TraceqlError::new(
            FaultKind::Invalid,
            self.text,
            pos,
            message,
        ))
    }

    fn unsupported(&self, pos: PosRange, message: impl Into<String>) -> Checked {
        let kind = FaultKind::Unsupported;
        Err(TraceqlError::new(kind, self.text, pos, message))
    }

    fn pipeline(&self, pipeline: &Pipeline) -> Checked {
        pipeline
            .stages
            .iter()
            .try_for_each(|stage| self.stage(stage))
    }

    fn stage(&self, stage: &Stage) -> Checked {
        match stage {
            Stage::Spansets(expr) => self.spansets(expr),
            Stage::ScalarFilter(filter) => self.scalar_filter(filter),
            Stage::GroupBy(by) if !by.reads_span() => {
                self.invalid(by.pos(), "what is grouped by must be of the span")
            }
            Stage::GroupBy(by) => self.field_expr(by),
            Stage::Coalesce(_) => Ok(()),
            Stage::Select(fields) => fields.iter().try_for_each(|field| self.field(field)),
        }
    }

    fn spansets(&self, expr: &SpansetExpr) -> Checked {
        match expr {
            SpansetExpr::Filter(filter) => self.spanset_filter(filter),
            SpansetExpr::Operation(operation) => {
                self.spansets(&operation.lhs)?;
                self.spansets(&operation.rhs)
            }
            SpansetExpr::Pipeline(pipeline) => self.pipeline(pipeline),
        }
    }

    fn spanset_filter(&self, filter: &SpansetFilter) -> Checked {
        let Some(condition) = &filter.condition else {
            return Ok(());
        };
        self.field_expr(condition)?;
        match condition.value_type() {
            Type::Any | Type::Bool => Ok(()),
            _ => self.invalid(filter.pos, "a span filter must give true or false"),
        }
    }

    fn scalar_filter(&self, filter: &ScalarFilter) -> Checked {
        let op = BinaryOp::Compare(filter.op);
        self.scalar(&filter.lhs)?;
        self.scalar(&filter.rhs)?;
        self.sides(
            op,
            filter.lhs.value_type(),
            filter.rhs.value_type(),
            filter.pos,
        )?;
        if !matches!(filter.lhs, ScalarExpr::Aggregate(_)) {
            return self.unsupported(filter.pos, "only an aggregate can be left of a comparison");
        }
        if filter.rhs.constant().is_none() {
            return self.unsupported(filter.pos, "aggregates are compared with literals only");
        }
        Ok(())
    }

    fn scalar(&self, scalar: &ScalarExpr) -> Checked {
        match scalar {
            ScalarExpr::Aggregate(aggregate) => self.aggregate(aggregate),
            ScalarExpr::Literal(_) => Ok(()),
            ScalarExpr::Operation(operation) => {
                self.scalar(&operation.lhs)?;
                self.scalar(&operation.rhs)?;
                let op = BinaryOp::Arithmetic(operation.op);
                let (lhs, rhs) = (operation.lhs.value_type(), operation.rhs.value_type());
                self.sides(op, lhs, rhs, operation.pos)
            }
            ScalarExpr::Pipeline(pipeline) => {
                self.pipeline(&pipeline.pipeline)?;
                self.aggregate(&pipeline.aggregate)
            }
        }
    }

    fn aggregate(&self, aggregate: &Aggregate) -> Checked {
        let Some(operand) = &aggregate.operand else {
            return Ok(());
        };
        self.field_expr(operand)?;
        let value_type = operand.value_type();
        if value_type != Type::Any && !value_type.is_numeric() {
            return self.invalid(aggregate.pos, "what is aggregated must be a number");
        }
        if !operand.reads_span() {
            return self.invalid(aggregate.pos, "what is aggregated must be of the span");
        }
        Ok(())
    }

    fn field_expr(&self, expr: &FieldExpr) -> Checked {
        match expr {
            FieldExpr::Literal(_) => Ok(()),
            FieldExpr::Field(field) => self.field(field),
            FieldExpr::Unary(unary) => {
                self.field_expr(&unary.operand)?;
                match (unary.op, unary.operand.value_type()) {
                    (_, Type::Any) | (UnaryOp::Not, Type::Bool) => Ok(()),
                    (UnaryOp::Minus, numeric) if numeric.is_numeric() => Ok(()),
                    _ => self.invalid(unary.pos, "the operator does not fit its operand"),
                }
            }
            FieldExpr::Binary(binary) => self.binary(binary),
            FieldExpr::Logical(logical) => {
                for operand in &logical.operands {
                    self.field_expr(operand)?;
                    if !matches!(operand.value_type(), Type::Any | Type::Bool) {
                        let message = "&& and || stand between truth values";
                        return self.invalid(operand.pos(), message);
                    }
                }
                Ok(())
            }
        }
    }

    fn binary(&self, binary: &BinaryExpr) -> Checked {
        self.field_expr(&binary.lhs)?;
        self.field_expr(&binary.rhs)?;
        if let Some((field, op)) = binary.presence() {
            if op == CompareOp::Equal && !can_be_absent(field) {
                return self.invalid(binary.pos, format!("{field} is never nil"));
            }
            return Ok(());
        }
        let (lhs, rhs) = (binary.lhs.value_type(), binary.rhs.value_type());
        self.sides(binary.op, lhs, rhs, binary.pos)?;
        if let (BinaryOp::Regex | BinaryOp::NotRegex, FieldExpr::Literal(pattern)) =
            (binary.op, &binary.rhs)
            && let Value::String(text) = &pattern.value
            && let Err(error) = regex::compile(text)
        {
            return self.invalid(pattern.pos, format!("invalid regex: {error}"));
        }
        Ok(())
    }

    fn sides(&self, op: BinaryOp, lhs: Type, rhs: Type, pos: PosRange) -> Checked {
        if !lhs.fits(rhs) {
            return self.invalid(pos, "both sides must have the same type");
        }
        if !lhs.takes(op) || !rhs.takes(op) {
            return self.invalid(pos, "the operator does not fit its operands");
        }
        Ok(())
    }

    fn field(&self, field: &Field) -> Checked {
        let is_parent = matches!(
            field.name,
            FieldName::Intrinsic {
                intrinsic: Intrinsic::Parent,
                ..
            }
        );
        if field.of_parent || is_parent {
            return self.unsupported(field.pos, "fields of the parent span");
        }
        Ok(())
    }

    fn metrics(&self, metrics: &MetricsExpr) -> Result<IsCompared, TraceqlError> {
        match metrics {
            MetricsExpr::Number(_) => Ok(IsCompared(false)),
            MetricsExpr::Query(query) => {
                self.metrics_query(query)?;
                let is_compare = matches!(query.function, MetricsFunction::Compare(_));
                Ok(IsCompared(is_compare))
            }
            MetricsExpr::Operation(operation) => {
                let IsCompared(lhs) = self.metrics(&operation.lhs)?;
                let IsCompared(rhs) = self.metrics(&operation.rhs)?;
                if lhs || rhs {
                    return self.invalid(operation.pos, "arithmetic with compare()");
                }
                Ok(IsCompared(false))
            }
            MetricsExpr::Stage(stage) => {
                let IsCompared(input) = self.metrics(&stage.input)?;
                if input {
                    return self.invalid(stage.pos, "nothing can follow compare()");
                }
                match stage.stage {
                    SecondStage::TopK(limit) | SecondStage::BottomK(limit) if limit <= 0 => {
                        self.invalid(stage.pos, "the limit must be greater than 0")
                    }
                    _ => Ok(IsCompared(false)),
                }
            }
        }
    }

    fn metrics_query(&self, query: &MetricsQuery) -> Checked {
        self.pipeline(&query.pipeline)?;
        query.by.iter().try_for_each(|field| self.field(field))?;
        if let Some(field) = query.function.field() {
            self.field(field)?;
        }
        let mut fields_max = GROUP_FIELDS_MAX;
        match &query.function {
            MetricsFunction::QuantileOverTime(_, quantiles) => {
                fields_max -= 1;
                if quantiles.iter().any(|q| !(0.0..=1.0).contains(q)) {
                    return self.invalid(query.pos, "quantiles must be between 0 and 1");
                }
            }
            MetricsFunction::HistogramOverTime(_) => fields_max -= 1,
            MetricsFunction::Compare(compare) => self.compare(compare, query.pos)?,
            _ => {}
        }
        if query.by.len() > fields_max {
            let message = format!("grouping by more than {fields_max} fields");
            return self.unsupported(query.pos, message);
        }
        Ok(())
    }

    fn compare(&self, compare: &Compare, pos: PosRange) -> Checked {
        self.spanset_filter(&compare.selection)?;
        if compare.top_n <= 0 {
            return self.invalid(pos, "compare() keeps more than 0 values");
        }
        match (compare.start_ns, compare.end_ns) {
            (0, 0) => Ok(()),
            (start, end) if start > 0 && end > start => Ok(()),
            _ => self.invalid(pos, "compare() needs 0 < start < end, unix nanoseconds"),
        }
    }
}

impl BinaryExpr {
    /// The field of `field = nil` and `field != nil`, in either order.
    #[must_use]
    pub fn presence(&self) -> Option<(&Field, CompareOp)> {
        let BinaryOp::Compare(op @ (CompareOp::Equal | CompareOp::NotEqual)) = self.op else {
            return None;
        };
        match (&self.lhs, &self.rhs) {
            (FieldExpr::Field(field), FieldExpr::Literal(literal))
            | (FieldExpr::Literal(literal), FieldExpr::Field(field)) => {
                (literal.value == Value::Nil).then_some((field, op))
            }
            _ => None,
        }
    }
}

/// Whether a span can be without this field. Every span has its intrinsics and a service.
fn can_be_absent(field: &Field) -> bool {
    match &field.name {
        FieldName::Intrinsic { .. } => false,
        FieldName::Attribute { scope, key } => {
            !(*scope == Scope::Resource && key == "service.name")
        }
    }
}
