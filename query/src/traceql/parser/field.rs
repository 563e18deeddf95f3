//! Expressions over the fields of one span: what stands in braces, in `by(…)` and in aggregates.

use super::{Kind, Parser, Tall, arithmetic_level, level};
use crate::traceql::ast::*;
use crate::traceql::error::TraceqlError;

/// A binary operator between fields.
#[derive(Clone, Copy)]
enum Infix {
    Logical(LogicalOp),
    Binary(BinaryOp),
}

impl Infix {
    fn of(kind: &Kind) -> Option<(u8, Self)> {
        Some(match *kind {
            Kind::And => (level::LOGICAL, Self::Logical(LogicalOp::And)),
            Kind::Or => (level::LOGICAL, Self::Logical(LogicalOp::Or)),
            Kind::Compare(op) => (level::COMPARISON, Self::Binary(BinaryOp::Compare(op))),
            Kind::Regex => (level::COMPARISON, Self::Binary(BinaryOp::Regex)),
            Kind::NotRegex => (level::COMPARISON, Self::Binary(BinaryOp::NotRegex)),
            Kind::Arithmetic(op) => (arithmetic_level(op), Self::Binary(BinaryOp::Arithmetic(op))),
            _ => return None,
        })
    }
}

impl Parser<'_> {
    /// A whole expression.
    pub(super) fn field_expr(&mut self) -> Result<Tall<FieldExpr>, TraceqlError> {
        self.field_operation(level::LOGICAL)
    }

    /// Operators of at least that level.
    fn field_operation(&mut self, min_level: u8) -> Result<Tall<FieldExpr>, TraceqlError> {
        let mut lhs = self.deeper(Self::operand)?;
        // `&&` and `||` bind equally, as in Tempo. Only a chain begun here is continued: one in
        // parentheses is an operand of its own.
        let mut open_chain = None;
        while let Some((level, infix)) = Infix::of(&self.token.kind) {
            if level < min_level {
                break;
            }
            self.take()?;
            // The power groups to the right.
            let rhs_level = if level == level::POWER {
                level
            } else {
                level + 1
            };
            let rhs = self.deeper(|parser| parser.field_operation(rhs_level))?;
            let pos = lhs.node.pos().to(rhs.node.pos());
            lhs = match infix {
                Infix::Logical(op) => {
                    let continues = open_chain.replace(op) == Some(op);
                    logical(op, lhs, rhs, pos, continues)
                }
                Infix::Binary(op) => {
                    open_chain = None;
                    let height = 1 + lhs.height.max(rhs.height);
                    let (lhs, rhs) = (lhs.node, rhs.node);
                    let node = BinaryExpr { op, lhs, rhs, pos };
                    let node = FieldExpr::Binary(Box::new(node));
                    Tall { node, height }
                }
            };
            self.check_height(lhs.height, pos)?;
        }
        Ok(lhs)
    }

    fn operand(&mut self) -> Result<Tall<FieldExpr>, TraceqlError> {
        let op = match self.token.kind {
            Kind::LeftParen => {
                self.take()?;
                let inner = self.field_expr()?;
                self.right_paren()?;
                return Ok(inner);
            }
            Kind::Not => UnaryOp::Not,
            Kind::Arithmetic(ArithmeticOp::Sub) => UnaryOp::Minus,
            _ => {
                let node = match self.literal() {
                    Some(literal) => {
                        self.take()?;
                        FieldExpr::Literal(literal)
                    }
                    None => FieldExpr::Field(self.field()?),
                };
                return Ok(Tall { node, height: 1 });
            }
        };
        let start = self.take()?.pos;
        let operand = self.field_operation(level::PRODUCT)?;
        let pos = start.to(operand.node.pos());
        let height = 1 + operand.height;
        self.check_height(height, pos)?;
        let operand = operand.node;
        let node = FieldExpr::Unary(Box::new(UnaryExpr { op, operand, pos }));
        Ok(Tall { node, height })
    }

    /// An attribute or intrinsic.
    pub(super) fn field(&mut self) -> Result<Field, TraceqlError> {
        let mut pos = self.token.pos;
        let (name, of_parent) = match self.token.kind.clone() {
            Kind::Attribute {
                of_parent,
                scope,
                key,
            } => {
                self.take()?;
                let intrinsic = Intrinsic::from_word(&key);
                match intrinsic.filter(|_| of_parent && scope == Scope::Any) {
                    Some(intrinsic) => {
                        let is_scoped = false;
                        let name = FieldName::Intrinsic {
                            intrinsic,
                            is_scoped,
                        };
                        (name, of_parent)
                    }
                    None => (FieldName::Attribute { scope, key }, of_parent),
                }
            }
            Kind::ScopeColon => {
                let scope = self.text(pos).trim_end_matches(':');
                if !Intrinsic::is_scope(scope) {
                    return self.unexpected("a field");
                }
                self.take()?;
                let Some(intrinsic) = Intrinsic::from_scoped(scope, self.word()) else {
                    return self.unexpected("an intrinsic of this scope");
                };
                pos = pos.to(self.take()?.pos);
                let is_scoped = true;
                let name = FieldName::Intrinsic {
                    intrinsic,
                    is_scoped,
                };
                (name, false)
            }
            _ => {
                let Some(intrinsic) = Intrinsic::from_word(self.word()) else {
                    return self.unexpected("a field or literal");
                };
                self.take()?;
                let is_scoped = false;
                let name = FieldName::Intrinsic {
                    intrinsic,
                    is_scoped,
                };
                (name, false)
            }
        };
        Ok(Field {
            name,
            of_parent,
            pos,
        })
    }
}

fn logical(
    op: LogicalOp,
    lhs: Tall<FieldExpr>,
    rhs: Tall<FieldExpr>,
    pos: PosRange,
    continues: bool,
) -> Tall<FieldExpr> {
    match lhs.node {
        FieldExpr::Logical(mut chain) if continues => {
            chain.operands.push(rhs.node);
            chain.pos = pos;
            Tall {
                node: FieldExpr::Logical(chain),
                height: lhs.height.max(1 + rhs.height),
            }
        }
        first => Tall {
            node: FieldExpr::Logical(LogicalExpr {
                op,
                operands: vec![first, rhs.node],
                pos,
            }),
            height: 1 + lhs.height.max(rhs.height),
        },
    }
}

impl FieldExpr {
    /// Where it stands.
    #[must_use]
    pub fn pos(&self) -> PosRange {
        match self {
            Self::Literal(literal) => literal.pos,
            Self::Field(field) => field.pos,
            Self::Unary(unary) => unary.pos,
            Self::Binary(binary) => binary.pos,
            Self::Logical(logical) => logical.pos,
        }
    }
}
