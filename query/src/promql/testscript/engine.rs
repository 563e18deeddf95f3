//! Our own engine under the scripts' options.

use std::io::{self, Write};
use std::path::Path;

use chronolith_engine::{RequestContext, Store};

use super::run::{Answer, Evaluator};
use super::{Totals, run_files_with};
use crate::promql::ast::Expr;
use crate::promql::features::Features;
use crate::promql::{PromqlEngine, PromqlOptions, Query, QueryOptions};

struct Engine(PromqlEngine);

impl Engine {
    /// With what the scripts assume: all features, 5 min lookback, 1 min subquery step.
    fn over(store: &Store) -> Self {
        let options = PromqlOptions {
            features: Features::conformance(),
            ..Default::default()
        };
        Self(PromqlEngine::new(store.clone(), options))
    }
}

impl Evaluator for Engine {
    fn evaluate(
        &self,
        query: &str,
        expr: Expr,
        start_ms: i64,
        end_ms: i64,
        step_ms: Option<i64>,
    ) -> Result<Answer, String> {
        let parsed = Query::from_expr(query, expr);
        let (context, options) = (RequestContext::new(), QueryOptions::default());
        let result = match step_ms {
            None => self
                .0
                .instant_blocking(&context, &parsed, start_ms, &options),
            Some(step_ms) => {
                self.0
                    .range_blocking(&context, &parsed, (start_ms, end_ms, step_ms), &options)
            }
        };
        let result = result.map_err(|e| e.to_string())?;
        Ok(Answer {
            warnings: result.annotations.warnings(query),
            infos: result.annotations.infos(query),
            value: result.value,
        })
    }
}

/// Runs the scripts in `files` on our engine; see [`run_files_with`].
///
/// # Errors
/// Only those of `out`.
///
/// # Panics
/// On a thread of an async runtime.
pub fn run_files<P: AsRef<Path>>(files: &[P], out: &mut dyn Write) -> io::Result<Totals> {
    run_files_with(files, &|store| Box::new(Engine::over(store)), out)
}
