//! Metrics functions, their `by(…)`, and second stages.

use super::pipeline::{Node, threshold};
use super::{Kind, Parser, Tall, level};
use crate::traceql::ast::*;
use crate::traceql::error::TraceqlError;

/// Values that `compare` keeps per attribute if the query does not say.
const DEFAULT_TOP_N: i64 = 10;

impl Parser<'_> {
    /// A metrics function, if the token begins one.
    pub(super) fn metrics_function(&mut self) -> Result<Option<MetricsFunction>, TraceqlError> {
        let over_field: fn(Field) -> MetricsFunction = match self.word() {
            "rate" | "count_over_time" => {
                let is_rate = self.word() == "rate";
                self.take()?;
                self.left_paren()?;
                self.right_paren()?;
                return Ok(Some(match is_rate {
                    true => MetricsFunction::Rate,
                    false => MetricsFunction::CountOverTime,
                }));
            }
            "compare" => return self.compare().map(Some),
            "min_over_time" => MetricsFunction::MinOverTime,
            "max_over_time" => MetricsFunction::MaxOverTime,
            "avg_over_time" => MetricsFunction::AvgOverTime,
            "sum_over_time" => MetricsFunction::SumOverTime,
            "histogram_over_time" => MetricsFunction::HistogramOverTime,
            "quantile_over_time" => |field| MetricsFunction::QuantileOverTime(field, Vec::new()),
            _ => return Ok(None),
        };
        self.take()?;
        self.left_paren()?;
        let mut function = over_field(self.field()?);
        if let MetricsFunction::QuantileOverTime(_, quantiles) = &mut function {
            self.expect(&Kind::Comma, "\",\"")?;
            *quantiles = self.list(Self::number)?;
        }
        self.right_paren()?;
        Ok(Some(function))
    }

    fn number(&mut self) -> Result<f64, TraceqlError> {
        let number = match self.token.kind {
            Kind::Int(n) => n as f64,
            Kind::Float(f) => f,
            _ => return self.unexpected("a number"),
        };
        self.take()?;
        Ok(number)
    }

    fn integer(&mut self) -> Result<i64, TraceqlError> {
        let Kind::Int(n) = self.token.kind else {
            return self.unexpected("an integer");
        };
        self.take()?;
        Ok(n)
    }

    fn compare(&mut self) -> Result<MetricsFunction, TraceqlError> {
        self.take()?;
        self.left_paren()?;
        let (selection, _) = self.spanset_filter()?;
        let mut compare = Compare {
            selection,
            top_n: DEFAULT_TOP_N,
            start_ns: 0,
            end_ns: 0,
        };
        if self.accept(&Kind::Comma)?.is_some() {
            compare.top_n = self.integer()?;
            if self.accept(&Kind::Comma)?.is_some() {
                compare.start_ns = self.integer()?;
                self.expect(&Kind::Comma, "\",\"")?;
                compare.end_ns = self.integer()?;
            }
        }
        self.right_paren()?;
        Ok(MetricsFunction::Compare(compare))
    }

    /// What follows the function: `by(…)`.
    pub(super) fn metrics_query(
        &mut self,
        pipeline: Pipeline,
        function: MetricsFunction,
    ) -> Result<MetricsExpr, TraceqlError> {
        let mut by = Vec::new();
        let is_compare = matches!(function, MetricsFunction::Compare(_));
        if self.word() == "by" && !is_compare {
            self.take()?;
            self.left_paren()?;
            by = self.list(Self::field)?;
            self.right_paren()?;
        }
        let pos = PosRange::new(pipeline.pos.start, self.token.pos.start);
        Ok(MetricsExpr::Query(Box::new(MetricsQuery {
            pipeline,
            function,
            by,
            pos,
        })))
    }

    /// What follows series: `| topk(n)`, `| bottomk(n)`, comparisons with a number.
    pub(super) fn second_stages(
        &mut self,
        mut metrics: MetricsExpr,
        mut height: usize,
    ) -> Result<Tall<Node>, TraceqlError> {
        let start = self.token.pos;
        loop {
            let stage = match self.token.kind {
                Kind::Pipe => {
                    self.take()?;
                    self.select_k()?
                }
                Kind::Compare(op) => {
                    self.take()?;
                    match self.expression(level::SUM)?.node {
                        Node::Scalar(scalar) => match threshold(&scalar) {
                            Some(number) => SecondStage::Compare(op, number),
                            None => return self.unexpected("a number"),
                        },
                        _ => return self.unexpected("a number"),
                    }
                }
                _ => break,
            };
            height += 1;
            let pos = start.to(self.token.pos);
            self.check_height(height, pos)?;
            let input = metrics;
            metrics = MetricsExpr::Stage(Box::new(MetricsStage { input, stage, pos }));
        }
        let node = Node::Metrics(metrics);
        Ok(Tall { node, height })
    }

    fn select_k(&mut self) -> Result<SecondStage, TraceqlError> {
        let make = match self.word() {
            "topk" => SecondStage::TopK,
            "bottomk" => SecondStage::BottomK,
            _ => return self.unexpected("topk or bottomk"),
        };
        self.take()?;
        self.left_paren()?;
        let stage = make(self.integer()?);
        self.right_paren()?;
        Ok(stage)
    }
}
