//! Plans of selectors and subqueries.

use std::sync::Arc;

use chronolith_engine::model::TimeRange;
use chronolith_engine::{MatchOp, Matcher, ScanRequest};
use datafusion::physical_plan::ExecutionPlan;

use super::{HistogramParts, Place, Planned, Planner, SUBQUERY_STEPS_MAX};
use crate::promql::ast::{self, At, Expr, Extension, MatrixSelector, Subquery, VectorSelector};
use crate::promql::exec::OperatorExec;
use crate::promql::exec::gather::Gather;
use crate::promql::exec::instant_select::{InstantSelect, Selected};
use crate::promql::exec::series_scan::{OpenScan, SeriesScan};
use crate::promql::exec::subquery::SubquerySamples;
use crate::promql::exec::window_samples::WindowSamples;
use crate::promql::failure::{PromqlError, Result};
use crate::promql::steps::{Lookup, Steps};

/// A range vector: samples, and the windows over them.
pub(super) struct Range {
    pub(super) plan: Arc<dyn ExecutionPlan>,
    pub(super) lookup: Lookup,
    pub(super) range_ms: i64,
    pub(super) extension: Extension,
    pub(super) distinct_without_name: bool,
}

impl Planner<'_> {
    fn at(&self, at: Option<At>) -> Option<i64> {
        at.map(|at| match at {
            At::Time(time_ms) => time_ms,
            At::Start => self.query.start_ms,
            At::End => self.end_ms,
        })
    }

    fn lookup(&self, place: Place, at: Option<At>, offset_ms: i64) -> Lookup {
        Lookup {
            steps: place.steps,
            at_ms: self.at(at),
            offset_ms,
        }
    }

    /// The leaf that reads a selector's series from `start_ms` to `end_ms`.
    fn scan(
        &mut self,
        selector: &VectorSelector,
        (start_ms, end_ms): (i64, i64),
        place: Place,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let matchers: Result<Vec<Matcher>> = selector.matchers.iter().map(matcher).collect();
        let summaries = place.histograms == HistogramParts::Summary;
        // The sample at the very edge is not seen, but tells whether the next one was a reset.
        let start_ms = start_ms.saturating_sub(i64::from(summaries));
        let scan = self.series_scan(matchers?, start_ms, end_ms)?;
        let presence_only = place.presence_only && selector.extension == Extension::None;
        let scan = scan.of_summaries(summaries).presence_only(presence_only);
        Ok(OperatorExec::new(scan, Vec::new()))
    }

    pub(super) fn scan_matchers(
        &mut self,
        matchers: Vec<Matcher>,
        start_ms: i64,
        end_ms: i64,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(OperatorExec::new(
            self.series_scan(matchers, start_ms, end_ms)?,
            Vec::new(),
        ))
    }

    fn series_scan(
        &mut self,
        matchers: Vec<Matcher>,
        start_ms: i64,
        end_ms: i64,
    ) -> Result<SeriesScan> {
        self.state.check()?;
        let range = TimeRange::from_millis(start_ms, end_ms);
        let request = ScanRequest::new(matchers.clone(), range);
        let key = (matchers, range);
        let open = match self.scans.get(&key) {
            Some(open) => Arc::clone(open),
            None => {
                let scan = self.snapshot.scan_metrics(&self.state.request, &request)?;
                let open = Arc::new(OpenScan(scan));
                self.scans.insert(key, Arc::clone(&open));
                open
            }
        };
        Ok(SeriesScan::new(request, open, self.spread, &self.state))
    }

    pub(super) fn vector_selector(
        &mut self,
        selector: &VectorSelector,
        place: Place,
    ) -> Result<Planned> {
        let selected = match selector.extension {
            Extension::Smoothed => Selected::Smoothed,
            Extension::None | Extension::Anchored => Selected::Value,
        };
        self.instant_select(selector, place, selected)
    }

    pub(super) fn instant_select(
        &mut self,
        selector: &VectorSelector,
        place: Place,
        selected: Selected,
    ) -> Result<Planned> {
        let lookup = self.lookup(place, selector.at, selector.offset_ms);
        let (first, last) = lookup.bounds();
        let lookback = self.state.lookback_ms;
        let start = first.saturating_sub(lookback).saturating_add(1);
        let end = if selected == Selected::Smoothed {
            last.saturating_add(lookback)
        } else {
            last
        };
        let scan = self.scan(selector, (start, end), place)?;
        let state = Arc::clone(&self.state);
        let select = InstantSelect {
            lookup,
            selected,
            pos: selector.pos,
            count_weight: place.count_weight,
            state,
        };
        let plan = OperatorExec::new(select, vec![scan]);
        Ok(Planned {
            plan,
            distinct_without_name: has_one_name(selector),
        })
    }

    /// The range vector that is an argument of a function.
    pub(super) fn range(&mut self, expr: &Expr, place: Place) -> Result<Range> {
        match expr.unparen() {
            Expr::Matrix(matrix) => self.matrix_selector(matrix, place),
            Expr::Subquery(subquery) => self.subquery(subquery, place),
            other => Err(PromqlError::Internal(format!(
                "{} where a range vector belongs",
                other.value_type().documented()
            ))),
        }
    }

    fn matrix_selector(&mut self, matrix: &MatrixSelector, place: Place) -> Result<Range> {
        let selector = &matrix.selector;
        let lookup = self.lookup(place, selector.at, selector.offset_ms);
        let (first, last) = lookup.bounds();
        let lookback = self.state.lookback_ms;
        let (before, after) = match selector.extension {
            Extension::None => (0, 0),
            Extension::Anchored => (lookback, 0),
            Extension::Smoothed => (lookback, lookback),
        };
        let start = first.saturating_sub(matrix.range_ms).saturating_sub(before);
        let bounds = (start.saturating_add(1), last.saturating_add(after));
        let plan = self.scan(selector, bounds, place)?;
        Ok(Range {
            plan,
            lookup,
            range_ms: matrix.range_ms,
            extension: selector.extension,
            distinct_without_name: has_one_name(selector),
        })
    }

    /// A subquery's inner steps are multiples of its step, whatever the outer steps.
    fn subquery(&mut self, subquery: &Subquery, place: Place) -> Result<Range> {
        let lookup = self.lookup(place, subquery.at, subquery.offset_ms);
        let step_ms = subquery.step_ms.max(1);
        let (first, last) = lookup.bounds();
        let oldest = first.saturating_sub(subquery.range_ms);
        let start = oldest
            .div_euclid(step_ms)
            .saturating_add(1)
            .saturating_mul(step_ms);
        let limit = usize::try_from(self.state.samples_max).unwrap_or(usize::MAX);
        let steps = Steps::range(start, last, step_ms, limit.min(SUBQUERY_STEPS_MAX))
            .ok_or(PromqlError::TooManySamples)?;
        let inner = Place {
            steps,
            count_weight: 0,
            histograms: HistogramParts::All,
            presence_only: false,
        };
        let planned = self.expr(&subquery.expr, inner)?;
        let samples = SubquerySamples {
            steps,
            state: Arc::clone(&self.state),
        };
        Ok(Range {
            plan: OperatorExec::new(samples, vec![planned.plan]),
            lookup,
            range_ms: subquery.range_ms,
            extension: Extension::None,
            distinct_without_name: planned.distinct_without_name,
        })
    }

    /// A range vector as the root of an instant query.
    pub(super) fn matrix_root(
        &mut self,
        expr: &Expr,
        place: Place,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let place = match expr {
            // The names of a subquery's series are dealt with where its expression is evaluated.
            Expr::Subquery(_) => Place {
                count_weight: 0,
                ..place
            },
            _ => place,
        };
        let range = self.range(expr, place)?;
        let samples = WindowSamples {
            end_ms: range.lookup.time(0),
            range_ms: range.range_ms,
            extension: range.extension,
            state: Arc::clone(&self.state),
        };
        Ok(Gather::plan(OperatorExec::new(samples, vec![range.plan])))
    }
}

/// The engine's matcher for one of the language.
pub(super) fn matcher(m: &ast::LabelMatcher) -> Result<Matcher> {
    if let Some(compiled) = &m.compiled {
        return Ok(compiled.clone());
    }
    let op = match m.op {
        ast::MatchOp::Equal => MatchOp::Equal,
        ast::MatchOp::NotEqual => MatchOp::NotEqual,
        ast::MatchOp::Regex => MatchOp::Regex,
        ast::MatchOp::NotRegex => MatchOp::NotRegex,
    };
    Ok(Matcher::new(&m.name, op, &m.value)?)
}

/// Whether all series that can match have the same metric name.
pub(crate) fn has_one_name(selector: &VectorSelector) -> bool {
    selector
        .matchers
        .iter()
        .any(|m| m.name == ast::METRIC_NAME && m.op == ast::MatchOp::Equal)
}

/// Whether the expression is a plain selector, perhaps in parentheses.
pub(super) fn plain_selector(expr: &Expr) -> Option<&VectorSelector> {
    match expr.unparen() {
        Expr::Vector(selector) => Some(selector),
        _ => None,
    }
}
