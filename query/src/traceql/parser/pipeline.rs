//! Pipelines and what they are made of: spansets, scalars, series.
//!
//! One precedence climbing serves all three, because `(` does not tell what follows: operators are
//! combined when both sides are known, and what Tempo's grammar has no rule for is refused then.

use super::{Kind, Parser, Tall, arithmetic_level, level};
use crate::traceql::ast::*;
use crate::traceql::error::TraceqlError;

/// What an expression turned out to be.
pub(super) enum Node {
    /// Filters and operators between them; `wrapped` in parentheses it may also stand for a pipeline.
    Spansets { expr: SpansetExpr, wrapped: bool },
    /// Pipelines in parentheses and operators between them.
    WrappedSpansets(SpansetExpr),
    /// Stages, not in parentheses.
    Pipeline(Pipeline),
    /// Aggregates, numbers, arithmetic.
    Scalar(ScalarExpr),
    /// Stages and an aggregate at the end, not in parentheses.
    ScalarPipeline(ScalarPipeline),
    /// Scalar pipelines in parentheses and arithmetic between them.
    WrappedScalar(ScalarExpr),
    /// A comparison of scalars.
    ScalarFilter(ScalarFilter),
    /// A comparison of scalar pipelines.
    WrappedFilter(ScalarFilter),
    /// A literal that is no number.
    Literal(Literal),
    /// Series.
    Metrics(MetricsExpr),
}

/// An operator at this level.
#[derive(Clone, Copy)]
enum Infix {
    Spansets(SpansetOp),
    Compare(CompareOp),
    Arithmetic(ArithmeticOp),
}

impl Infix {
    fn of(kind: &Kind) -> Option<(u8, Self)> {
        Some(match *kind {
            Kind::And => (level::LOGICAL, Self::Spansets(SpansetOp::And)),
            Kind::Or => (level::LOGICAL, Self::Spansets(SpansetOp::Or)),
            Kind::Relation(mode, relation) => {
                let op = SpansetOp::Structural { relation, mode };
                (level::COMPARISON, Self::Spansets(op))
            }
            Kind::NotRegex => {
                let relation = Relation::Sibling;
                let mode = RelationMode::Negated;
                let op = SpansetOp::Structural { relation, mode };
                (level::COMPARISON, Self::Spansets(op))
            }
            Kind::Compare(op) => (level::COMPARISON, Self::Compare(op)),
            Kind::Arithmetic(op) => (arithmetic_level(op), Self::Arithmetic(op)),
            _ => return None,
        })
    }

    /// The operator between spansets: `<` and `>` are relations there.
    fn spanset_op(self) -> Option<SpansetOp> {
        let relation = match self {
            Self::Spansets(op) => return Some(op),
            Self::Compare(CompareOp::Greater) => Relation::Child,
            Self::Compare(CompareOp::Less) => Relation::Parent,
            _ => return None,
        };
        let mode = RelationMode::Match;
        Some(SpansetOp::Structural { relation, mode })
    }
}

impl Parser<'_> {
    /// A query without its hints.
    pub(super) fn body(&mut self) -> Result<Body, TraceqlError> {
        let start = self.token.pos;
        let parsed = self.pipeline()?;
        let pos = PosRange::new(start.start, self.token.pos.start);
        let stage = match parsed.node {
            Node::Metrics(metrics) => return Ok(Body::Metrics(metrics)),
            Node::Pipeline(pipeline) => return Ok(Body::Search(pipeline)),
            Node::Spansets { expr, .. } | Node::WrappedSpansets(expr) => Stage::Spansets(expr),
            Node::ScalarFilter(filter) | Node::WrappedFilter(filter) => Stage::ScalarFilter(filter),
            Node::Scalar(_)
            | Node::ScalarPipeline(_)
            | Node::WrappedScalar(_)
            | Node::Literal(_) => return self.unexpected("a comparison"),
        };
        let stages = vec![stage];
        Ok(Body::Search(Pipeline { stages, pos }))
    }

    /// Stages joined by `|`, or a single expression.
    fn pipeline(&mut self) -> Result<Tall<Node>, TraceqlError> {
        let start = self.token.pos;
        let mut height = 1;
        let mut stages = Vec::new();
        match self.own_stage(true)? {
            Some(stage) => stages.push(self.tall_stage(stage, &mut height)),
            None => {
                let first = self.expression(level::LOGICAL)?;
                if let Node::Metrics(metrics) = first.node {
                    return self.second_stages(metrics, first.height);
                }
                if self.token.kind != Kind::Pipe {
                    return Ok(first);
                }
                match self.expression_stage(first, &mut height)? {
                    Ok(stage) => stages.push(stage),
                    Err(_) => return self.unexpected("a comparison"),
                }
            }
        }
        while self.accept(&Kind::Pipe)?.is_some() {
            let pos = start.to(self.token.pos);
            if let Some(stage) = self.own_stage(false)? {
                let stage = self.tall_stage(stage, &mut height);
                stages.push(stage);
                continue;
            }
            if let Some(function) = self.metrics_function()? {
                let pipeline = Pipeline { stages, pos };
                let query = self.metrics_query(pipeline, function)?;
                return self.second_stages(query, height + 1);
            }
            let next = self.expression(level::LOGICAL)?;
            match self.expression_stage(next, &mut height)? {
                Ok(stage) => stages.push(stage),
                // An aggregate ends a pipeline, which is then in parentheses.
                Err(aggregate) => {
                    let pipeline = Pipeline { stages, pos };
                    let node = Node::ScalarPipeline(ScalarPipeline {
                        pipeline,
                        aggregate,
                    });
                    return Ok(Tall { node, height });
                }
            }
        }
        self.check_height(height + 1, start)?;
        let pos = PosRange::new(start.start, self.token.pos.start);
        let node = Node::Pipeline(Pipeline { stages, pos });
        let height = height + 1;
        Ok(Tall { node, height })
    }

    fn tall_stage(&self, stage: Tall<Stage>, height: &mut usize) -> Stage {
        *height = stage.height.max(*height);
        stage.node
    }

    /// What an expression is as a stage of a pipeline: a stage, or a bare aggregate.
    fn expression_stage(
        &self,
        parsed: Tall<Node>,
        height: &mut usize,
    ) -> Result<Result<Stage, Aggregate>, TraceqlError> {
        *height = parsed.height.max(*height);
        match parsed.node {
            Node::Spansets { expr, .. } => Ok(Ok(Stage::Spansets(expr))),
            Node::ScalarFilter(filter) => Ok(Ok(Stage::ScalarFilter(filter))),
            Node::Scalar(ScalarExpr::Aggregate(aggregate)) => Ok(Err(aggregate)),
            _ => self.unexpected("a spanset or scalar filter"),
        }
    }

    /// `by(…)`, `select(…)` and, not at the start, `coalesce()`.
    fn own_stage(&mut self, is_first: bool) -> Result<Option<Tall<Stage>>, TraceqlError> {
        let word = self.word();
        if !matches!(word, "by" | "select") && (word != "coalesce" || is_first) {
            return Ok(None);
        }
        let start = self.take()?.pos;
        self.left_paren()?;
        let mut height = 1;
        let stage = match word {
            "by" => {
                let by = self.field_expr()?;
                height += by.height;
                Stage::GroupBy(by.node)
            }
            "select" => Stage::Select(self.list(Self::field)?),
            _ => Stage::Coalesce(start.to(self.token.pos)),
        };
        self.right_paren()?;
        Ok(Some(Tall {
            node: stage,
            height,
        }))
    }

    /// Operators of at least that level.
    pub(super) fn expression(&mut self, min_level: u8) -> Result<Tall<Node>, TraceqlError> {
        let start = self.token.pos;
        let mut lhs = self.deeper(Self::primary)?;
        while let Some((level, infix)) = Infix::of(&self.token.kind) {
            if level < min_level {
                break;
            }
            let op_pos = self.take()?.pos;
            let rhs_level = if level == level::POWER {
                level
            } else {
                level + 1
            };
            let rhs = self.deeper(|parser| parser.expression(rhs_level))?;
            let pos = PosRange::new(start.start, self.token.pos.start);
            let height = 1 + lhs.height.max(rhs.height);
            self.check_height(height, pos)?;
            let node = self.combine(infix, op_pos, lhs.node, rhs.node, pos)?;
            lhs = Tall { node, height };
        }
        Ok(lhs)
    }

    fn primary(&mut self) -> Result<Tall<Node>, TraceqlError> {
        let height = 1;
        let leaf = |node| Ok(Tall { node, height });
        match self.token.kind {
            Kind::LeftBrace => {
                let (filter, height) = self.spanset_filter()?;
                let expr = SpansetExpr::Filter(filter);
                let wrapped = false;
                let node = Node::Spansets { expr, wrapped };
                return Ok(Tall { node, height });
            }
            Kind::LeftParen => {
                self.take()?;
                let inner = self.pipeline()?;
                let pos = self.token.pos;
                self.right_paren()?;
                return self.wrapped(inner, pos);
            }
            Kind::Arithmetic(ArithmeticOp::Sub) => {
                let start = self.take()?.pos;
                let Some(mut literal) = self.literal() else {
                    return self.unexpected("a number");
                };
                literal.value = match literal.value {
                    Value::Int(n) => Value::Int(-n),
                    Value::Float(f) => Value::Float(-f),
                    Value::Duration(ns) => Value::Duration(-ns),
                    _ => return self.unexpected("a number"),
                };
                literal.pos = start.to(self.take()?.pos);
                return leaf(Node::Scalar(ScalarExpr::Literal(literal)));
            }
            _ => {}
        }
        if let Some(literal) = self.literal() {
            self.take()?;
            return leaf(match literal.value {
                Value::Int(_) | Value::Float(_) | Value::Duration(_) => {
                    Node::Scalar(ScalarExpr::Literal(literal))
                }
                _ => Node::Literal(literal),
            });
        }
        let Some(op) = AggregateOp::from_word(self.word()) else {
            return self.unexpected("a spanset, an aggregate or a stage");
        };
        let start = self.take()?.pos;
        self.left_paren()?;
        let (operand, height) = match op {
            AggregateOp::Count => (None, 1),
            _ => {
                let operand = self.field_expr()?;
                (Some(operand.node), operand.height + 1)
            }
        };
        let pos = start.to(self.right_paren()?.pos);
        let aggregate = Aggregate { op, operand, pos };
        let node = Node::Scalar(ScalarExpr::Aggregate(aggregate));
        Ok(Tall { node, height })
    }

    /// `{ condition }` and its height.
    pub(super) fn spanset_filter(&mut self) -> Result<(SpansetFilter, usize), TraceqlError> {
        let start = self.expect(&Kind::LeftBrace, "\"{\"")?.pos;
        let (condition, height) = match self.token.kind {
            Kind::RightBrace => (None, 1),
            _ => {
                let condition = self.field_expr()?;
                (Some(condition.node), condition.height + 1)
            }
        };
        let end = self.expect(&Kind::RightBrace, "\"}\" or an operator")?.pos;
        let pos = start.to(end);
        Ok((SpansetFilter { condition, pos }, height))
    }

    /// What parentheses make of their content.
    fn wrapped(&self, inner: Tall<Node>, pos: PosRange) -> Result<Tall<Node>, TraceqlError> {
        let height = inner.height + 1;
        self.check_height(height, pos)?;
        let node = match inner.node {
            Node::Spansets { expr, .. } => {
                let wrapped = true;
                Node::Spansets { expr, wrapped }
            }
            Node::Pipeline(pipeline) => {
                Node::WrappedSpansets(SpansetExpr::Pipeline(Box::new(pipeline)))
            }
            Node::ScalarFilter(filter) => {
                let pos = filter.pos;
                let stages = vec![Stage::ScalarFilter(filter)];
                let pipeline = Pipeline { stages, pos };
                Node::WrappedSpansets(SpansetExpr::Pipeline(Box::new(pipeline)))
            }
            Node::ScalarPipeline(pipeline) => {
                Node::WrappedScalar(ScalarExpr::Pipeline(Box::new(pipeline)))
            }
            same @ (Node::WrappedSpansets(_)
            | Node::Scalar(_)
            | Node::WrappedScalar(_)
            | Node::Metrics(_)) => same,
            Node::WrappedFilter(_) | Node::Literal(_) => {
                return self.error(pos, "this cannot be in parentheses");
            }
        };
        Ok(Tall { node, height })
    }

    fn combine(
        &self,
        infix: Infix,
        op_pos: PosRange,
        lhs: Node,
        rhs: Node,
        pos: PosRange,
    ) -> Result<Node, TraceqlError> {
        let misfit = || {
            let op = self.text(op_pos);
            self.error(op_pos, format!("{op:?} cannot stand between these two"))
        };
        if let (Node::Metrics(_), _) | (_, Node::Metrics(_)) = (&lhs, &rhs) {
            let op = match infix {
                Infix::Spansets(_) => return misfit(),
                Infix::Compare(op) => Ok(op),
                Infix::Arithmetic(op) => Err(op),
            };
            return match combine_metrics(op, lhs, rhs, pos) {
                Some(metrics) => Ok(Node::Metrics(metrics)),
                None => misfit(),
            };
        }
        match (lhs, rhs) {
            (Node::Spansets { expr: lhs, .. }, Node::Spansets { expr: rhs, .. }) => {
                let Some(op) = infix.spanset_op() else {
                    return misfit();
                };
                let expr = spanset_operation(op, lhs, rhs, pos);
                let wrapped = false;
                Ok(Node::Spansets { expr, wrapped })
            }
            (lhs @ (Node::Spansets { .. } | Node::WrappedSpansets(_)), rhs) => {
                match (infix.spanset_op(), as_wrapped(lhs), as_wrapped(rhs)) {
                    (Some(op), Some(lhs), Some(rhs)) => {
                        Ok(Node::WrappedSpansets(spanset_operation(op, lhs, rhs, pos)))
                    }
                    _ => misfit(),
                }
            }
            (Node::Scalar(lhs), Node::Scalar(rhs)) => match infix {
                Infix::Arithmetic(op) => Ok(Node::Scalar(scalar_operation(op, lhs, rhs, pos))),
                Infix::Compare(op) => Ok(Node::ScalarFilter(ScalarFilter { op, lhs, rhs, pos })),
                Infix::Spansets(_) => misfit(),
            },
            (Node::WrappedScalar(lhs), rhs) => match (infix, rhs) {
                (Infix::Arithmetic(op), Node::WrappedScalar(rhs)) => {
                    Ok(Node::WrappedScalar(scalar_operation(op, lhs, rhs, pos)))
                }
                (Infix::Compare(op), Node::WrappedScalar(rhs)) => {
                    Ok(Node::WrappedFilter(ScalarFilter { op, lhs, rhs, pos }))
                }
                (
                    Infix::Compare(op),
                    Node::Literal(literal) | Node::Scalar(ScalarExpr::Literal(literal)),
                ) => {
                    let rhs = ScalarExpr::Literal(literal);
                    Ok(Node::WrappedFilter(ScalarFilter { op, lhs, rhs, pos }))
                }
                _ => misfit(),
            },
            _ => misfit(),
        }
    }
}

/// Spansets that may stand beside a pipeline in parentheses.
fn as_wrapped(node: Node) -> Option<SpansetExpr> {
    match node {
        Node::WrappedSpansets(expr)
        | Node::Spansets {
            expr,
            wrapped: true,
        } => Some(expr),
        _ => None,
    }
}

fn spanset_operation(
    op: SpansetOp,
    lhs: SpansetExpr,
    rhs: SpansetExpr,
    pos: PosRange,
) -> SpansetExpr {
    SpansetExpr::Operation(Box::new(SpansetOperation { op, lhs, rhs, pos }))
}

fn scalar_operation(
    op: ArithmeticOp,
    lhs: ScalarExpr,
    rhs: ScalarExpr,
    pos: PosRange,
) -> ScalarExpr {
    ScalarExpr::Operation(Box::new(ScalarOperation { op, lhs, rhs, pos }))
}

/// Arithmetic (`Err`) between series and numbers, or a filter (`Ok`) of series.
fn combine_metrics(
    op: Result<CompareOp, ArithmeticOp>,
    lhs: Node,
    rhs: Node,
    pos: PosRange,
) -> Option<MetricsExpr> {
    match op {
        Ok(op) => match (lhs, rhs) {
            (Node::Metrics(input), Node::Scalar(rhs)) => {
                let stage = SecondStage::Compare(op, threshold(&rhs)?);
                Some(MetricsExpr::Stage(Box::new(MetricsStage {
                    input,
                    stage,
                    pos,
                })))
            }
            _ => None,
        },
        Err(ArithmeticOp::Mod | ArithmeticOp::Pow) => None,
        Err(op) => {
            let side = |node| match node {
                Node::Metrics(metrics) => Some(metrics),
                Node::Scalar(scalar) => plain_number(&scalar).map(MetricsExpr::Number),
                _ => None,
            };
            let (lhs, rhs) = (side(lhs)?, side(rhs)?);
            let operation = MetricsOperation { op, lhs, rhs, pos };
            Some(MetricsExpr::Operation(Box::new(operation)))
        }
    }
}

/// What series are compared with: a number, or a duration in seconds.
pub(super) fn threshold(scalar: &ScalarExpr) -> Option<f64> {
    match scalar {
        ScalarExpr::Literal(Literal {
            value: Value::Duration(ns),
            ..
        }) => Some(*ns as f64 / 1e9),
        scalar => plain_number(scalar),
    }
}

/// The value of arithmetic over plain numbers.
fn plain_number(scalar: &ScalarExpr) -> Option<f64> {
    match scalar {
        ScalarExpr::Literal(literal) => match literal.value {
            Value::Int(n) => Some(n as f64),
            Value::Float(f) => Some(f),
            _ => None,
        },
        ScalarExpr::Operation(operation) => {
            let (lhs, rhs) = (plain_number(&operation.lhs)?, plain_number(&operation.rhs)?);
            let number = operation.op.apply(lhs, rhs);
            number.is_finite().then_some(number)
        }
        ScalarExpr::Aggregate(_) | ScalarExpr::Pipeline(_) => None,
    }
}
