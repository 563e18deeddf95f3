//! Expressions over the fields of one span, ready to run: regexes compiled, ids in one spelling.
//!
//! Types that do not fit at run time make a comparison false, as in Tempo; so does a field that is not
//! there, for `!=` too.

use ::regex::Regex;

use super::fields::{Needs, SpanView, Val};
use crate::traceql::ast::*;
use crate::traceql::regex;

/// An expression that is ready to run.
#[derive(Debug, Clone)]
pub struct Program(Node);

#[derive(Debug, Clone)]
enum Node {
    Const(Value),
    Field(FieldName),
    Unary(UnaryOp, Box<Node>),
    Arithmetic(ArithmeticOp, Box<Node>, Box<Node>),
    Compare(CompareOp, Box<Node>, Box<Node>),
    Regex(Box<Node>, Pattern, bool),
    Present(FieldName, bool),
    Logical(LogicalOp, Vec<Node>),
}

#[derive(Debug, Clone)]
enum Pattern {
    Known(Regex),
    /// Of the span: compiled each time, which only a query over attributes that hold regexes pays.
    OfSpan(Box<Node>),
}

impl Program {
    /// Makes an expression ready. It must have passed the check.
    #[must_use]
    pub fn new(expr: &FieldExpr) -> Self {
        Self(node(expr))
    }

    /// The program that is true for every span.
    #[must_use]
    pub fn always() -> Self {
        Self(Node::Const(Value::Bool(true)))
    }

    /// Whether it is true for a span.
    #[must_use]
    pub fn is_true(&self, span: &SpanView<'_>) -> bool {
        is_true(&self.0, span)
    }

    /// Its value for a span.
    #[must_use]
    pub fn value<'a>(&'a self, span: &SpanView<'a>) -> Val<'a> {
        value(&self.0, span)
    }
}

/// Adds what an expression reads.
pub fn add_needs(expr: &FieldExpr, needs: &mut Needs) {
    each_field(expr, &mut |field| needs.add(&field.name));
}

/// Calls back for every field in an expression.
pub fn each_field<'e>(expr: &'e FieldExpr, visit: &mut dyn FnMut(&'e Field)) {
    match expr {
        FieldExpr::Literal(_) => {}
        FieldExpr::Field(field) => visit(field),
        FieldExpr::Unary(unary) => each_field(&unary.operand, visit),
        FieldExpr::Binary(binary) => {
            each_field(&binary.lhs, visit);
            each_field(&binary.rhs, visit);
        }
        FieldExpr::Logical(logical) => {
            for operand in &logical.operands {
                each_field(operand, visit);
            }
        }
    }
}

fn node(expr: &FieldExpr) -> Node {
    match expr {
        FieldExpr::Literal(literal) => Node::Const(literal.value.clone()),
        FieldExpr::Field(field) => Node::Field(field.name.clone()),
        FieldExpr::Unary(unary) => Node::Unary(unary.op, Box::new(node(&unary.operand))),
        FieldExpr::Logical(logical) => {
            Node::Logical(logical.op, logical.operands.iter().map(node).collect())
        }
        FieldExpr::Binary(binary) => {
            if let Some((field, op)) = binary.presence() {
                return Node::Present(field.name.clone(), op == CompareOp::NotEqual);
            }
            let (mut lhs, mut rhs) = (node(&binary.lhs), node(&binary.rhs));
            match binary.op {
                BinaryOp::Arithmetic(op) => Node::Arithmetic(op, Box::new(lhs), Box::new(rhs)),
                BinaryOp::Compare(op) => {
                    spell_id(&lhs, &mut rhs);
                    spell_id(&rhs, &mut lhs);
                    Node::Compare(op, Box::new(lhs), Box::new(rhs))
                }
                BinaryOp::Regex | BinaryOp::NotRegex => {
                    let known = match &rhs {
                        Node::Const(Value::String(pattern)) => regex::compile(pattern).ok(),
                        _ => None,
                    };
                    let pattern = match known {
                        Some(regex) => Pattern::Known(regex),
                        None => Pattern::OfSpan(Box::new(rhs)),
                    };
                    Node::Regex(Box::new(lhs), pattern, binary.op == BinaryOp::NotRegex)
                }
            }
        }
    }
}

/// How many hex digits an id has that an intrinsic gives.
fn id_digits(node: &Node) -> Option<usize> {
    let Node::Field(FieldName::Intrinsic { intrinsic, .. }) = node else {
        return None;
    };
    match intrinsic {
        Intrinsic::TraceId | Intrinsic::LinkTraceId => Some(32),
        Intrinsic::SpanId | Intrinsic::ParentId | Intrinsic::LinkSpanId => Some(16),
        _ => None,
    }
}

/// Ids are written in lower case with all their digits; queries may leave zeros out.
#[must_use]
pub fn whole_id(text: &str, digits: usize) -> String {
    match text.is_empty() {
        true => String::new(),
        false => format!("{:0>digits$}", text.to_ascii_lowercase()),
    }
}

fn spell_id(id: &Node, literal: &mut Node) {
    if let (Some(digits), Node::Const(Value::String(text))) = (id_digits(id), literal) {
        *text = whole_id(text, digits);
    }
}

fn is_true(node: &Node, span: &SpanView<'_>) -> bool {
    match node {
        Node::Logical(LogicalOp::And, operands) => operands.iter().all(|o| is_true(o, span)),
        Node::Logical(LogicalOp::Or, operands) => operands.iter().any(|o| is_true(o, span)),
        Node::Compare(op, lhs, rhs) => compare(*op, &value(lhs, span), &value(rhs, span)),
        Node::Present(field, wanted) => (span.read(field) != Val::Nil) == *wanted,
        Node::Regex(text, pattern, negated) => {
            let text = value(text, span);
            match pattern {
                Pattern::Known(regex) => matches(&text, regex, *negated),
                Pattern::OfSpan(pattern) => match value(pattern, span) {
                    Val::Str(pattern) => {
                        regex::compile(&pattern).is_ok_and(|regex| matches(&text, &regex, *negated))
                    }
                    _ => false,
                },
            }
        }
        _ => match value(node, span) {
            Val::Bool(truth) => truth,
            Val::Many(values) => values.contains(&Val::Bool(true)),
            _ => false,
        },
    }
}

fn value<'a>(node: &'a Node, span: &SpanView<'a>) -> Val<'a> {
    match node {
        Node::Const(value) => value.into(),
        Node::Field(field) => span.read(field),
        Node::Unary(UnaryOp::Minus, operand) => match value(operand, span) {
            Val::Int(n) => Val::Int(n.wrapping_neg()),
            Val::Float(x) => Val::Float(-x),
            Val::Duration(ns) => Val::Duration(ns.wrapping_neg()),
            _ => Val::Nil,
        },
        Node::Unary(UnaryOp::Not, operand) => match value(operand, span) {
            Val::Bool(truth) => Val::Bool(!truth),
            _ => Val::Nil,
        },
        Node::Arithmetic(op, lhs, rhs) => {
            let (lhs, rhs) = (value(lhs, span), value(rhs, span));
            match (lhs.as_number(), rhs.as_number()) {
                (Some(lhs), Some(rhs)) => Val::Float(op.apply(lhs, rhs)),
                _ => Val::Nil,
            }
        }
        Node::Compare(..) | Node::Regex(..) | Node::Present(..) | Node::Logical(..) => {
            Val::Bool(is_true(node, span))
        }
    }
}

fn matches(text: &Val<'_>, regex: &Regex, negated: bool) -> bool {
    match text {
        Val::Str(text) => regex.is_match(text) != negated,
        Val::Many(texts) => texts.iter().any(|text| matches(text, regex, negated)),
        _ => false,
    }
}

/// Whether a comparison holds; `false` where the types do not fit.
#[must_use]
pub fn compare(op: CompareOp, lhs: &Val<'_>, rhs: &Val<'_>) -> bool {
    let is_equality = matches!(op, CompareOp::Equal | CompareOp::NotEqual);
    match (lhs, rhs) {
        (Val::Many(values), other) => values.iter().any(|value| compare(op, value, other)),
        (other, Val::Many(values)) => values.iter().any(|value| compare(op, other, value)),
        (Val::Int(a) | Val::Duration(a), Val::Int(b) | Val::Duration(b)) => op.holds(a, b),
        (Val::Str(a), Val::Str(b)) => op.holds(&**a, &**b),
        (Val::Bool(a), Val::Bool(b)) => is_equality && op.holds(a, b),
        (Val::Status(a), Val::Status(b)) => is_equality && op.holds(&(*a as u8), &(*b as u8)),
        (Val::Kind(a), Val::Kind(b)) => is_equality && op.holds(&(*a as u8), &(*b as u8)),
        (Val::Nil, Val::Nil) => op == CompareOp::Equal,
        (a, b) => match (a.as_number(), b.as_number()) {
            (Some(a), Some(b)) => op.holds(&a, &b),
            _ => false,
        },
    }
}
