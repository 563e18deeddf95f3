//! `match[]` parameters.

use chronolith_engine::{MatchOp, Matcher};
use chronolith_query::promql::{ast, parser};

use super::params::Params;
use crate::error::ApiError;

/// Sets of matchers that a request may have.
const SELECTORS_MAX: usize = 1_000;

/// The matchers of a parsed selector, ready for the engine.
///
/// # Errors
/// A regex that does not parse.
pub fn matchers(selector: &ast::VectorSelector) -> Result<Vec<Matcher>, ApiError> {
    selector.matchers.iter().map(matcher).collect()
}

fn matcher(matcher: &ast::LabelMatcher) -> Result<Matcher, ApiError> {
    let op = match matcher.op.as_str() {
        "=" => MatchOp::Equal,
        "!=" => MatchOp::NotEqual,
        "=~" => MatchOp::Regex,
        _ => MatchOp::NotRegex,
    };
    Ok(Matcher::new(&matcher.name, op, &matcher.value)?)
}

/// The sets of matchers of `match[]`; empty if there is none.
///
/// # Errors
/// One does not parse, or matches everything.
pub fn matcher_sets(params: &Params) -> Result<Vec<Vec<Matcher>>, ApiError> {
    let mut sets = Vec::new();
    for text in params.all("match[]") {
        if sets.len() >= SELECTORS_MAX {
            return Err(ApiError::parameter(
                "match[]",
                format!("more than {SELECTORS_MAX} of them"),
            ));
        }
        let selector =
            parser::parse_selector(text).map_err(|e| ApiError::parameter("match[]", e))?;
        sets.push(matchers(&selector)?);
    }
    Ok(sets)
}

/// As [`matcher_sets`], but there must be one.
///
/// # Errors
/// There is none, or as above.
pub fn required_matcher_sets(params: &Params) -> Result<Vec<Vec<Matcher>>, ApiError> {
    let sets = matcher_sets(params)?;
    if sets.is_empty() {
        return Err(ApiError::bad_data("no match[] parameter provided"));
    }
    Ok(sets)
}
