//! What of a filter the store can decide while it scans.
//!
//! A pushed condition never refuses a span that the filter takes. Where it also takes no other, it is
//! *exact* and the filter need not run again.

use std::sync::Arc;

use chronolith_engine::model::TraceId;
use chronolith_engine::rows::{AttributeScope, SpanCondition, TextPattern, TextTest, ValueTest};

use super::expr::whole_id;
use crate::traceql::ast::*;

/// A condition and how much it says.
#[derive(Debug, Clone)]
pub struct Pushed {
    /// `None`: every span passes.
    pub condition: Option<SpanCondition>,
    /// Whether it says the same as the filter.
    pub is_exact: bool,
}

impl Pushed {
    const UNKNOWN: Self = Self {
        condition: None,
        is_exact: false,
    };

    fn exact(condition: SpanCondition) -> Self {
        Self {
            condition: Some(condition),
            is_exact: true,
        }
    }

    fn never() -> Self {
        Self::exact(SpanCondition::Any(Vec::new()))
    }

    /// As the conditions of a scan.
    #[must_use]
    pub fn into_conditions(self) -> Vec<SpanCondition> {
        match self.condition {
            None => Vec::new(),
            Some(SpanCondition::All(conditions)) => conditions,
            Some(condition) => vec![condition],
        }
    }
}

/// What can be pushed of a filter.
#[must_use]
pub fn of_filter(filter: &SpansetFilter) -> Pushed {
    match &filter.condition {
        None => Pushed {
            condition: None,
            is_exact: true,
        },
        Some(condition) => of_expr(condition),
    }
}

/// What every trace must have a span of, of which the expression gives spans. `None`: nothing.
#[must_use]
pub fn of_spansets(expr: &SpansetExpr) -> Option<SpanCondition> {
    match expr {
        SpansetExpr::Filter(filter) => of_filter(filter).condition,
        SpansetExpr::Pipeline(pipeline) => of_pipeline(pipeline),
        SpansetExpr::Operation(operation) => {
            let (lhs, rhs) = (of_spansets(&operation.lhs), of_spansets(&operation.rhs));
            match operation.op {
                SpansetOp::Or => Some(any(vec![lhs?, rhs?])),
                // The left side may match nothing.
                SpansetOp::Structural {
                    mode: RelationMode::Negated,
                    ..
                } => rhs,
                SpansetOp::And | SpansetOp::Structural { .. } => rhs.or(lhs),
            }
        }
    }
}

/// As [`of_spansets`] for a pipeline: of its first filter that says something.
#[must_use]
pub fn of_pipeline(pipeline: &Pipeline) -> Option<SpanCondition> {
    pipeline.stages.iter().find_map(|stage| match stage {
        Stage::Spansets(expr) => of_spansets(expr),
        _ => None,
    })
}

fn of_expr(expr: &FieldExpr) -> Pushed {
    match expr {
        FieldExpr::Literal(literal) => match literal.value {
            Value::Bool(true) => Pushed {
                condition: None,
                is_exact: true,
            },
            _ => Pushed::never(),
        },
        FieldExpr::Field(field) => attribute(field, ValueTest::Bool(true)),
        FieldExpr::Unary(_) => Pushed::UNKNOWN,
        FieldExpr::Logical(logical) => {
            let parts: Vec<_> = logical.operands.iter().map(of_expr).collect();
            let is_exact = parts.iter().all(|part| part.is_exact);
            let condition = match logical.op {
                LogicalOp::And => {
                    let parts: Vec<_> = parts
                        .into_iter()
                        .flat_map(Pushed::into_conditions)
                        .collect();
                    (!parts.is_empty()).then_some(SpanCondition::All(parts))
                }
                LogicalOp::Or => {
                    let parts: Option<Vec<_>> = parts.into_iter().map(|p| p.condition).collect();
                    parts.map(any)
                }
            };
            Pushed {
                condition,
                is_exact,
            }
        }
        FieldExpr::Binary(binary) => of_binary(binary),
    }
}

/// One of these; trace ids become one list.
fn any(parts: Vec<SpanCondition>) -> SpanCondition {
    let mut ids = Vec::new();
    let mut others = Vec::new();
    for part in parts {
        match part {
            SpanCondition::Trace(more) => ids.extend_from_slice(&more),
            SpanCondition::Any(more) => others.extend(more),
            other => others.push(other),
        }
    }
    if !ids.is_empty() {
        ids.sort_unstable();
        ids.dedup();
        others.push(SpanCondition::Trace(ids.into()));
    }
    match others.pop() {
        Some(only) if others.is_empty() => only,
        Some(last) => {
            others.push(last);
            SpanCondition::Any(others)
        }
        None => SpanCondition::Any(others),
    }
}

fn of_binary(binary: &BinaryExpr) -> Pushed {
    if let Some((field, op)) = binary.presence() {
        return presence(field, op == CompareOp::NotEqual);
    }
    let (field, literal, op) = match (&binary.lhs, &binary.rhs) {
        (FieldExpr::Field(field), FieldExpr::Literal(literal)) => (field, literal, binary.op),
        (FieldExpr::Literal(literal), FieldExpr::Field(field)) => match binary.op {
            BinaryOp::Compare(op) => (field, literal, BinaryOp::Compare(op.mirrored())),
            _ => return Pushed::UNKNOWN,
        },
        _ => return Pushed::UNKNOWN,
    };
    let FieldName::Intrinsic { intrinsic, .. } = &field.name else {
        return match (value_test(op, &literal.value), &literal.value) {
            (Some(test), _) => attribute(field, test),
            // Order of texts: at least it must be there.
            (None, Value::String(_)) => Pushed {
                is_exact: false,
                ..attribute(field, ValueTest::Present)
            },
            // Attributes are never a status or a kind.
            (None, Value::Status(_) | Value::Kind(_)) => Pushed::never(),
            (None, _) => Pushed::UNKNOWN,
        };
    };
    of_intrinsic(*intrinsic, op, &literal.value)
}

fn of_intrinsic(intrinsic: Intrinsic, op: BinaryOp, literal: &Value) -> Pushed {
    let known = match intrinsic {
        Intrinsic::Name => text_test(op, literal).map(SpanCondition::Name),
        Intrinsic::StatusMessage => text_test(op, literal).map(SpanCondition::StatusMessage),
        Intrinsic::Status => match literal {
            Value::Status(status) => bits(op, *status as u8).map(SpanCondition::Status),
            _ => None,
        },
        Intrinsic::Kind => match literal {
            Value::Kind(kind) => bits(op, *kind as u8).map(SpanCondition::Kind),
            _ => None,
        },
        Intrinsic::Duration => match literal {
            Value::Duration(ns) | Value::Int(ns) => duration(op, *ns),
            _ => None,
        },
        Intrinsic::TraceId => return trace_id(op, literal),
        // Roots have -1, all others more.
        Intrinsic::NestedSetParent => match (op, literal) {
            (BinaryOp::Compare(CompareOp::Less), Value::Int(0))
            | (BinaryOp::Compare(CompareOp::Equal | CompareOp::LessEqual), Value::Int(-1)) => {
                Some(SpanCondition::Root)
            }
            _ => None,
        },
        _ => None,
    };
    known.map_or(Pushed::UNKNOWN, Pushed::exact)
}

fn trace_id(op: BinaryOp, literal: &Value) -> Pushed {
    let (BinaryOp::Compare(CompareOp::Equal), Value::String(text)) = (op, literal) else {
        return Pushed::UNKNOWN;
    };
    let text = whole_id(text, 32);
    let is_id = text.len() == 32 && text.bytes().all(|b| b.is_ascii_hexdigit());
    match u128::from_str_radix(&text, 16) {
        Ok(id) if is_id => Pushed::exact(SpanCondition::Trace([TraceId(id.to_be_bytes())].into())),
        _ => Pushed::never(),
    }
}

fn bits(op: BinaryOp, number: u8) -> Option<u8> {
    match op {
        BinaryOp::Compare(CompareOp::Equal) => Some(1 << number),
        BinaryOp::Compare(CompareOp::NotEqual) => Some(!(1 << number)),
        _ => None,
    }
}

fn duration(op: BinaryOp, ns: i64) -> Option<SpanCondition> {
    let BinaryOp::Compare(op) = op else {
        return None;
    };
    let below = ns
        .checked_sub(1)
        .map(|below| SpanCondition::Duration(i64::MIN..=below));
    let above = ns
        .checked_add(1)
        .map(|above| SpanCondition::Duration(above..=i64::MAX));
    match op {
        CompareOp::Equal => Some(SpanCondition::Duration(ns..=ns)),
        CompareOp::NotEqual => Some(SpanCondition::Any(below.into_iter().chain(above).collect())),
        CompareOp::Less => below,
        CompareOp::LessEqual => Some(SpanCondition::Duration(i64::MIN..=ns)),
        CompareOp::Greater => above,
        CompareOp::GreaterEqual => Some(SpanCondition::Duration(ns..=i64::MAX)),
    }
}

fn text_test(op: BinaryOp, literal: &Value) -> Option<TextTest> {
    let Value::String(text) = literal else {
        return None;
    };
    let (pattern, negated) = match op {
        BinaryOp::Compare(CompareOp::Equal) => (TextPattern::Equals(Arc::from(&**text)), false),
        BinaryOp::Compare(CompareOp::NotEqual) => (TextPattern::Equals(Arc::from(&**text)), true),
        BinaryOp::Regex | BinaryOp::NotRegex => {
            let pattern = TextPattern::regex(&format!("^(?s:{text})$")).ok()?;
            (pattern, op == BinaryOp::NotRegex)
        }
        _ => return None,
    };
    Some(TextTest { pattern, negated })
}

fn value_test(op: BinaryOp, literal: &Value) -> Option<ValueTest> {
    let number = match literal {
        Value::String(_) => return text_test(op, literal).map(ValueTest::Text),
        Value::Bool(truth) => {
            return match op {
                BinaryOp::Compare(CompareOp::Equal) => Some(ValueTest::Bool(*truth)),
                BinaryOp::Compare(CompareOp::NotEqual) => Some(ValueTest::Bool(!truth)),
                _ => None,
            };
        }
        // Beyond 2^53 a double is not exactly this integer.
        Value::Int(n) | Value::Duration(n) if n.unsigned_abs() > 1 << 53 => return None,
        other => other.as_number()?,
    };
    let BinaryOp::Compare(op) = op else {
        return None;
    };
    let (at, beyond) = (Some((number, true)), Some((number, false)));
    let (min, max, negated) = match op {
        CompareOp::Equal => (at, at, false),
        CompareOp::NotEqual => (at, at, true),
        CompareOp::Less => (None, beyond, false),
        CompareOp::LessEqual => (None, at, false),
        CompareOp::Greater => (beyond, None, false),
        CompareOp::GreaterEqual => (at, None, false),
    };
    Some(ValueTest::Number { min, max, negated })
}

fn condition(scope: AttributeScope, key: &str, test: ValueTest) -> SpanCondition {
    let key = Arc::from(key);
    SpanCondition::Attribute { scope, key, test }
}

/// A test of an attribute. Of a field without scope the span's own comes first, whatever its value.
fn attribute(field: &Field, test: ValueTest) -> Pushed {
    let FieldName::Attribute { scope, key } = &field.name else {
        return Pushed::UNKNOWN;
    };
    let scope = match scope {
        Scope::Any => {
            let of_resource = SpanCondition::All(vec![
                condition(AttributeScope::Row, key, ValueTest::Absent),
                condition(AttributeScope::Resource, key, test.clone()),
            ]);
            let of_span = condition(AttributeScope::Row, key, test);
            return Pushed::exact(SpanCondition::Any(vec![of_span, of_resource]));
        }
        scope => engine_scope(*scope),
    };
    Pushed::exact(condition(scope, key, test))
}

fn engine_scope(scope: Scope) -> AttributeScope {
    match scope {
        Scope::Any | Scope::Span => AttributeScope::Row,
        Scope::Resource => AttributeScope::Resource,
        Scope::Event => AttributeScope::Event,
        Scope::Link => AttributeScope::Link,
        Scope::Instrumentation => AttributeScope::Instrumentation,
    }
}

fn presence(field: &Field, wanted: bool) -> Pushed {
    let FieldName::Attribute { scope, key } = &field.name else {
        // Most intrinsics are always there; event and link fields are not, and are left to the filter.
        return Pushed::UNKNOWN;
    };
    match (wanted, scope) {
        (true, _) => attribute(field, ValueTest::Present),
        (false, Scope::Any) => Pushed::exact(SpanCondition::All(vec![
            condition(AttributeScope::Row, key, ValueTest::Absent),
            condition(AttributeScope::Resource, key, ValueTest::Absent),
        ])),
        // One event without it says nothing about the others.
        (false, Scope::Event | Scope::Link) => Pushed::UNKNOWN,
        (false, scope) => Pushed::exact(condition(engine_scope(*scope), key, ValueTest::Absent)),
    }
}
