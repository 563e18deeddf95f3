//! Plans of function calls.

use std::sync::Arc;

use super::selector::plain_selector;
use super::{HistogramParts, Place, Planned, Planner};
use crate::promql::annotations::Annotation;
use crate::promql::ast::{Call, Expr, Extension, METRIC_NAME, MatchOp, ValueType};
use crate::promql::exec::OperatorExec;
use crate::promql::exec::absent::Absent;
use crate::promql::exec::histogram_quantile::{HistogramQuantile, QuantileKind};
use crate::promql::exec::instant_select::Selected;
use crate::promql::exec::label_change::{LabelChange, LabelRule};
use crate::promql::exec::map_values::MapKind;
use crate::promql::exec::name_removal::Duplicates;
use crate::promql::exec::range_function::RangeFunction;
use crate::promql::exec::scalar_of::ScalarOf;
use crate::promql::exec::sort::{Sort, SortKey};
use crate::promql::exec::source::SourceKind;
use crate::promql::failure::{PromqlError, Result};
use crate::promql::functions::range::RangeKind;
use crate::promql::functions::{math, time};
use crate::promql::histogram::{Histogram, quantile};
use crate::promql::labelset;

fn text(expr: &Expr) -> &str {
    match expr.unparen() {
        Expr::String(text) => &text.value,
        _ => "",
    }
}

/// As [`text`], for the name of a label; nothing where the literal is no UTF-8, which no name is
/// either.
fn label_name(expr: &Expr) -> &str {
    match expr.unparen() {
        Expr::String(text) if text.bytes.is_none() => &text.value,
        _ => "",
    }
}

fn histogram_map(name: &str) -> Option<fn(&Histogram) -> f64> {
    Some(match name {
        "histogram_count" => |h| h.count,
        "histogram_sum" => |h| h.sum,
        "histogram_avg" => |h| h.sum / h.count,
        "histogram_stdvar" => quantile::variance,
        "histogram_stddev" => |h| quantile::variance(h).sqrt(),
        _ => return None,
    })
}

impl Planner<'_> {
    pub(super) fn call(&mut self, call: &Call, place: Place) -> Result<Planned> {
        let name = call.func.name;
        if name == "absent_over_time" {
            let present = self.range_function(call, RangeKind::PresentOverTime, place)?;
            return Ok(self.absent(present, &call.args[0], true));
        }
        if let Some(kind) = RangeKind::lookup(name) {
            let planned = self.range_function(call, kind, place)?;
            if kind.keeps_name() {
                return Ok(planned);
            }
            return Ok(self.derived(planned, Duplicates::Refuse));
        }
        if let Some(f) = math::lookup(name) {
            return self.map_call(call, MapKind::Float(f), place);
        }
        if let Some(f) = time::lookup(name) {
            if call.args.is_empty() {
                let now = self.source(SourceKind::Time, place);
                let mapped = self.map_values(name, MapKind::Float(f), now, Vec::new(), Vec::new());
                return Ok(mapped);
            }
            return self.map_call(call, MapKind::Float(f), place);
        }
        if let Some(f) = histogram_map(name) {
            let summary = matches!(name, "histogram_count" | "histogram_sum" | "histogram_avg");
            let place = match place.histograms {
                HistogramParts::Default if summary => Place {
                    histograms: HistogramParts::Summary,
                    ..place
                },
                _ => place,
            };
            return self.map_call(call, MapKind::Histogram(f), place);
        }
        self.special_call(call, place)
    }

    fn special_call(&mut self, call: &Call, place: Place) -> Result<Planned> {
        let name = call.func.name;
        let number =
            |planner: &Self, value: f64| Ok(planner.source(SourceKind::Number(value), place));
        let seconds = |ms: i64| ms as f64 / 1000.0;
        match name {
            "round" => self.map_call(call, MapKind::Round, place),
            "clamp" => self.map_call(call, MapKind::Clamp, place),
            "clamp_min" | "clamp_max" => self.clamp_one_side(call, place),
            "time" => Ok(self.source(SourceKind::Time, place)),
            "pi" => number(self, std::f64::consts::PI),
            "start" => number(self, seconds(self.query.start_ms)),
            "end" => number(self, seconds(self.end_ms)),
            "range" => number(self, seconds(self.end_ms - self.query.start_ms)),
            "step" => number(
                self,
                if self.is_range {
                    seconds(self.query.step_ms)
                } else {
                    0.0
                },
            ),
            "vector" => self.expr(&call.args[0], place),
            "scalar" => {
                let input = self.expr(&call.args[0], place)?;
                let state = Arc::clone(&self.state);
                let plan = OperatorExec::new(ScalarOf { state }, vec![input.plan]);
                Ok(Planned {
                    plan,
                    distinct_without_name: true,
                })
            }
            "min_of" | "max_of" => self.extreme_of_scalars(call, place),
            "timestamp" | "start_timestamp" => self.timestamp(call, place),
            "absent" => {
                let of_input = Place {
                    presence_only: plain_selector(&call.args[0]).is_some(),
                    ..place
                };
                let input = self.expr(&call.args[0], of_input)?;
                Ok(self.absent(input, &call.args[0], false))
            }
            "sort" | "sort_desc" | "sort_by_label" | "sort_by_label_desc" => self.sort(call, place),
            "label_replace" | "label_join" => self.label_change(call, place),
            "histogram_quantile" | "histogram_fraction" | "histogram_quantiles" => {
                self.histogram_quantile(call, place)
            }
            "info" => self.info(call, place),
            _ => Err(PromqlError::Internal(format!(
                "function {name} has no operator"
            ))),
        }
    }

    /// A function of single samples whose first argument is the vector.
    fn map_call(&mut self, call: &Call, kind: MapKind, place: Place) -> Result<Planned> {
        let input = self.expr(&call.args[0], place)?;
        let mut others = Vec::new();
        let mut scalars = Vec::new();
        for arg in &call.args[1..] {
            scalars.push(self.scalar(arg, place, 1, &mut others)?);
        }
        let mapped = self.map_values(call.func.name, kind, input, scalars, others);
        Ok(self.derived(mapped, Duplicates::Merge))
    }

    fn clamp_one_side(&mut self, call: &Call, place: Place) -> Result<Planned> {
        let input = self.expr(&call.args[0], place)?;
        let mut others = Vec::new();
        let bound = self.scalar(&call.args[1], place, 1, &mut others)?;
        let kind = if call.func.name == "clamp_min" {
            MapKind::ClampMin
        } else {
            MapKind::ClampMax
        };
        let mapped = self.map_values(call.func.name, kind, input, vec![bound], others);
        Ok(self.derived(mapped, Duplicates::Merge))
    }

    fn extreme_of_scalars(&mut self, call: &Call, place: Place) -> Result<Planned> {
        let input = self.expr(&call.args[0], place)?;
        let mut others = Vec::new();
        let other = self.scalar(&call.args[1], place, 1, &mut others)?;
        let kind = if call.func.name == "min_of" {
            MapKind::MinOf
        } else {
            MapKind::MaxOf
        };
        Ok(self.map_values(call.func.name, kind, input, vec![other], others))
    }

    /// A function of a range vector, before names are taken off.
    fn range_function(&mut self, call: &Call, kind: RangeKind, place: Place) -> Result<Planned> {
        let is_range = |e: &&Expr| e.value_type() == ValueType::Matrix;
        let Some(argument) = call.args.iter().find(is_range) else {
            return Err(PromqlError::Internal(format!(
                "{} without a range",
                call.func.name
            )));
        };
        let presence_only = matches!(kind, RangeKind::CountOverTime | RangeKind::PresentOverTime);
        let of_range = Place {
            presence_only,
            ..place
        };
        let range = self.range(argument, of_range)?;
        let mut inputs = Vec::new();
        let mut scalars = Vec::new();
        let mut scalar_pos = argument.pos();
        for arg in call.args.iter().filter(|e| !is_range(e)) {
            if scalars.is_empty() {
                scalar_pos = arg.pos();
            }
            scalars.push(self.scalar(arg, place, 1, &mut inputs)?);
        }
        inputs.insert(0, range.plan);
        let function = RangeFunction {
            kind,
            lookup: range.lookup,
            range_ms: range.range_ms,
            extension: range.extension,
            scalars,
            pos: (argument.pos(), scalar_pos),
            count_weight: place.count_weight,
            state: Arc::clone(&self.state),
        };
        let plan = OperatorExec::new(function, inputs);
        Ok(Planned {
            plan,
            distinct_without_name: range.distinct_without_name,
        })
    }

    /// `timestamp`, `start_timestamp`: of a selector the sample's own times, else that of the step
    /// (start times do not outlive the selector).
    fn timestamp(&mut self, call: &Call, place: Place) -> Result<Planned> {
        let of_start = call.func.name == "start_timestamp";
        let planned = match plain_selector(&call.args[0]) {
            Some(selector) if selector.extension == Extension::None => {
                let selected = if of_start {
                    Selected::StartTime
                } else {
                    Selected::Time
                };
                self.instant_select(selector, place, selected)?
            }
            _ => {
                let input = self.expr(&call.args[0], place)?;
                let kind = if of_start {
                    MapKind::Nothing
                } else {
                    MapKind::StepTime(place.steps)
                };
                self.map_values(call.func.name, kind, input, Vec::new(), Vec::new())
            }
        };
        Ok(self.derived(planned, Duplicates::Merge))
    }

    fn absent(&self, input: Planned, argument: &Expr, over_time: bool) -> Planned {
        let labels = absent_labels(argument);
        let drop_name = over_time;
        let absent = Absent {
            labels,
            drop_name,
            state: Arc::clone(&self.state),
        };
        let plan = OperatorExec::new(absent, vec![input.plan]);
        Planned {
            plan,
            distinct_without_name: true,
        }
    }

    fn sort(&mut self, call: &Call, place: Place) -> Result<Planned> {
        let input = self.expr(&call.args[0], place)?;
        let labels: Vec<String> = call.args[1..].iter().map(|a| text(a).to_owned()).collect();
        let (key, descending) = match call.func.name {
            "sort" => (SortKey::Value, false),
            "sort_desc" => (SortKey::Value, true),
            "sort_by_label" => (SortKey::Labels(labels), false),
            _ => (SortKey::Labels(labels), true),
        };
        let over_range = place.steps == self.query && self.end_ms > self.query.start_ms;
        if place.steps.count > 1 || over_range {
            self.state
                .annotate(Annotation::sort_in_range_query(call.pos));
        }
        let sort = Sort {
            key,
            descending,
            state: Arc::clone(&self.state),
        };
        Ok(Planned {
            plan: OperatorExec::new(sort, vec![input.plan]),
            ..input
        })
    }

    fn label_change(&mut self, call: &Call, place: Place) -> Result<Planned> {
        let args = &call.args;
        let destination = label_name(&args[1]);
        let rule = if call.func.name == "label_replace" {
            LabelRule::replace(destination, text(&args[2]), text(&args[3]), text(&args[4]))
        } else {
            let sources: Vec<&str> = args[3..].iter().map(label_name).collect();
            LabelRule::join(destination, text(&args[2]), &sources)
        }?;
        let input = self.expr(&call.args[0], place)?;
        let change = LabelChange {
            rule,
            state: Arc::clone(&self.state),
        };
        let plan = OperatorExec::new(change, vec![input.plan]);
        Ok(Planned {
            plan,
            distinct_without_name: false,
        })
    }

    fn histogram_quantile(&mut self, call: &Call, place: Place) -> Result<Planned> {
        let place = Place {
            histograms: HistogramParts::All,
            ..place
        };
        let is_vector = |e: &&Expr| e.value_type() == ValueType::Vector;
        let Some(vector) = call.args.iter().find(is_vector) else {
            return Err(PromqlError::Internal(
                "histogram function without a vector".into(),
            ));
        };
        let kind = match call.func.name {
            "histogram_quantile" => QuantileKind::Quantile,
            "histogram_fraction" => QuantileKind::Fraction,
            _ => QuantileKind::Quantiles(text(&call.args[1]).to_owned()),
        };
        let input = self.expr(vector, place)?;
        let (mut inputs, mut scalars, mut scalar_pos) = (Vec::new(), Vec::new(), Vec::new());
        for arg in call
            .args
            .iter()
            .filter(|a| a.value_type() == ValueType::Scalar)
        {
            scalars.push(self.scalar(arg, place, 1, &mut inputs)?);
            scalar_pos.push(arg.pos());
        }
        inputs.insert(0, input.plan);
        let operator = HistogramQuantile {
            kind,
            scalars,
            scalar_pos,
            vector_pos: vector.pos(),
            steps: place.steps,
            state: Arc::clone(&self.state),
        };
        let plan = OperatorExec::new(operator, inputs);
        let planned = Planned {
            plan,
            distinct_without_name: false,
        };
        Ok(self.derived(planned, Duplicates::Merge))
    }
}

/// The labels that a missing series would have: those matched with `=`, unless a later matcher is of
/// the same label.
fn absent_labels(expr: &Expr) -> Vec<u8> {
    let matchers = match expr.unparen() {
        Expr::Vector(selector) => &selector.matchers,
        Expr::Matrix(matrix) => &matrix.selector.matchers,
        _ => return Vec::new(),
    };
    let mut labels = Vec::new();
    let mut seen: Vec<&str> = Vec::new();
    for matcher in matchers.iter().filter(|m| m.name != METRIC_NAME) {
        let name = matcher.name.as_str();
        if matcher.op == MatchOp::Equal && !seen.contains(&name) {
            labels.push((name, matcher.value.as_str()));
            seen.push(name);
        } else {
            labels.push((name, ""));
        }
    }
    labelset::edit(&[], labels)
}
