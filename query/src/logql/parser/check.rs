//! What a tree must satisfy besides its grammar: selectors that select, and patterns, templates and
//! regular expressions that can be compiled.

use super::super::ast::{Expr, LogExpr, MatchOp, Matcher, MetricExpr, RangeAggregation};
use super::super::error::ParseError;
use super::super::pipeline::{Pipeline, SampleExtractor};
use super::super::regexes;

const SELECTS_ALL: &str = "queries require at least one regexp or equality matcher that does not have an empty-compatible value. For instance, app=~\".*\" does not meet this requirement, but app=~\".+\" will";

/// Checks all of a query.
pub(super) fn check(expr: &Expr) -> Result<(), ParseError> {
    match expr {
        Expr::Log(log) => {
            check_log(log)?;
            Pipeline::new(&log.stages).map_err(ParseError::new)?;
            Ok(())
        }
        Expr::Metric(metric) => check_metric(metric),
    }
}

fn check_metric(expr: &MetricExpr) -> Result<(), ParseError> {
    match expr {
        MetricExpr::Range(range) => check_range(range),
        MetricExpr::LabelReplace(e) => {
            regexes::of_values(&e.regex).map_err(|error| {
                ParseError::new(format!("invalid regex in label_replace: {error}"))
            })?;
            check_metric(&e.expr)
        }
        _ => expr.children().into_iter().try_for_each(check_metric),
    }
}

fn check_range(e: &RangeAggregation) -> Result<(), ParseError> {
    check_log(&e.range.log)?;
    SampleExtractor::new(e.op, &e.range, e.grouping.as_ref(), 0, false).map_err(ParseError::new)?;
    Ok(())
}

fn check_log(log: &LogExpr) -> Result<(), ParseError> {
    validate_matchers(&log.matchers)
}

/// Checks a selector: its regexes compile, and at least one matcher refuses the empty text.
///
/// # Errors
/// What is wrong.
pub fn validate_matchers(matchers: &[Matcher]) -> Result<(), ParseError> {
    let mut selects = false;
    for matcher in matchers {
        let matches_empty = if matcher.op.is_regex() {
            regexes::of_values(&matcher.value)
                .map_err(ParseError::new)?
                .is_match(b"")
        } else {
            matcher.value.is_empty()
        };
        selects |= !matches_empty && matches!(matcher.op, MatchOp::Equal | MatchOp::Regex);
        // `!= ""` asks for the label to be there.
        selects |= matches_empty && matcher.op.is_negative();
    }
    if selects {
        Ok(())
    } else {
        Err(ParseError::new(SELECTS_ALL))
    }
}
