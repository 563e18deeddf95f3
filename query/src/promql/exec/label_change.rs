//! `LabelChange`: the functions `label_replace` and `label_join`. They look at labels only; series
//! that become equal are one series, if they have no step in common.

use std::fmt::{self, Formatter};
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use datafusion::error::Result;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_plan::ExecutionPlan;
use regex::Regex;

use super::name_removal::merge_equal;
use super::operator::{Inputs, Operator};
use super::state::QueryState;
use crate::promql::ast::METRIC_NAME;
use crate::promql::batch::{StepTable, StepVectorsBuilder};
use crate::promql::failure::PromqlError;
use crate::promql::labelset;
use crate::promql::pattern;

/// How the labels change.
#[derive(Debug)]
pub enum LabelRule {
    /// `label_replace`.
    Replace {
        /// The label to set.
        destination: String,
        /// What to set it to; `$1`, `${name}` stand for groups.
        replacement: String,
        /// The label that is matched.
        source: String,
        /// The expression.
        regex: Regex,
    },
    /// `label_join`.
    Join {
        /// The label to set.
        destination: String,
        /// What stands between the values.
        separator: String,
        /// The labels whose values are joined.
        sources: Vec<String>,
    },
}

impl LabelRule {
    /// `label_replace`.
    ///
    /// # Errors
    /// A regular expression that is none, or an empty destination.
    pub fn replace(
        destination: &str,
        replacement: &str,
        source: &str,
        regex: &str,
    ) -> Result<Self, PromqlError> {
        let compiled = pattern::compile_anchored(regex).map_err(|_| {
            let message = "invalid regular expression in label_replace()";
            PromqlError::execution(format!("{message}: {regex}"))
        })?;
        if destination.is_empty() {
            let message = "invalid destination label name in label_replace()";
            return Err(PromqlError::execution(format!("{message}: {destination}")));
        }
        Ok(Self::Replace {
            destination: destination.to_owned(),
            replacement: go_template(replacement),
            source: source.to_owned(),
            regex: compiled,
        })
    }

    /// `label_join`.
    ///
    /// # Errors
    /// An empty label name.
    pub fn join(destination: &str, separator: &str, sources: &[&str]) -> Result<Self, PromqlError> {
        for (kind, name) in sources
            .iter()
            .map(|s| ("source", *s))
            .chain([("destination", destination)])
        {
            if name.is_empty() {
                let message = format!("invalid {kind} label name in label_join(): {name}");
                return Err(PromqlError::Execution(message));
            }
        }
        Ok(Self::Join {
            destination: destination.to_owned(),
            separator: separator.to_owned(),
            sources: sources.iter().map(|s| (*s).to_owned()).collect(),
        })
    }

    fn destination(&self) -> &str {
        match self {
            Self::Replace { destination, .. } | Self::Join { destination, .. } => destination,
        }
    }

    /// The new value of the destination; `None` if the labels stay as they are.
    fn value(&self, labels: &[u8]) -> Option<String> {
        match self {
            Self::Replace {
                replacement,
                source,
                regex,
                ..
            } => {
                let captures = regex.captures(labelset::get(labels, source))?;
                let mut value = String::new();
                captures.expand(replacement, &mut value);
                Some(value)
            }
            Self::Join {
                separator, sources, ..
            } => {
                let values: Vec<&str> = sources.iter().map(|s| labelset::get(labels, s)).collect();
                Some(values.join(separator))
            }
        }
    }
}

/// A replacement as Go expands it, in the notation of the regex crate: a `$` that begins no
/// reference vanishes there, and stands for itself here.
fn go_template(replacement: &str) -> String {
    let mut out = String::with_capacity(replacement.len());
    let mut rest = replacement;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            out.push_str("$$");
            rest = after;
        } else if let Some((name, after)) = rest
            .strip_prefix('{')
            .and_then(|braced| braced.split_once('}'))
        {
            let _ = std::fmt::Write::write_fmt(&mut out, format_args!("${{{name}}}"));
            rest = after;
        } else {
            let word = |c: char| c == '_' || c.is_alphanumeric();
            let end = rest.find(|c| !word(c)).unwrap_or(rest.len());
            if end == 0 {
                out.push_str("$$");
            } else {
                let _ = std::fmt::Write::write_fmt(&mut out, format_args!("${{{}}}", &rest[..end]));
                rest = &rest[end..];
            }
        }
    }
    out.push_str(rest);
    out
}

/// The operator.
#[derive(Debug)]
pub struct LabelChange {
    /// How the labels change.
    pub rule: LabelRule,
    /// The query.
    pub state: Arc<QueryState>,
}

impl Operator for LabelChange {
    const NAME: &'static str = "LabelChange";

    fn schema(&self, inputs: &[Arc<dyn ExecutionPlan>]) -> SchemaRef {
        inputs[0].schema()
    }

    fn partitions(&self, _inputs: &[Arc<dyn ExecutionPlan>]) -> usize {
        1
    }

    fn describe(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match &self.rule {
            LabelRule::Replace {
                destination,
                replacement,
                source,
                regex,
            } => {
                write!(
                    f,
                    "{destination}={replacement:?} where {source}=~{:?}",
                    regex.as_str()
                )
            }
            LabelRule::Join {
                destination,
                separator,
                sources,
            } => {
                write!(f, "{destination}={sources:?} joined by {separator:?}")
            }
        }
    }

    fn execute(self: Arc<Self>, inputs: Inputs) -> Result<SendableRecordBatchStream> {
        let input = inputs.collect(0, &self.state)?;
        let schema = inputs.schema();
        let time = inputs.compute_time();
        Ok(inputs.once(async move {
            let input = input.await?;
            let _timer = time.timer();
            let changed = self.change(&input.batches, &schema)?;
            merge_equal(changed, schema)
        }))
    }
}

impl LabelChange {
    fn change(&self, batches: &[RecordBatch], schema: &SchemaRef) -> Result<Vec<RecordBatch>> {
        let table = StepTable::from_batches(batches)?;
        let mut builder = StepVectorsBuilder::new(Arc::clone(schema));
        let mut changed = Vec::new();
        let destination = self.rule.destination();
        for row in table.rows() {
            self.state.check()?;
            builder.begin();
            builder.copy_row(&row);
            match self.rule.value(row.labels) {
                Some(value) => {
                    let labels = labelset::with(row.labels, destination, &value);
                    // A name that was set on purpose stays.
                    let drop_name = row.drop_name && destination != METRIC_NAME;
                    builder.finish_row(&labels, drop_name);
                }
                None => {
                    builder.finish_row(row.labels, row.drop_name);
                }
            }
            if builder.is_full() {
                changed.extend(builder.finish()?);
            }
        }
        changed.extend(builder.finish()?);
        Ok(changed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replacements_expand_as_in_go() {
        for (template, expanded) in [
            ("$1-x", "a-x"),
            ("${1}x", "ax"),
            ("$1x", ""),
            ("$$1", "$1"),
            ("a$", "a$"),
            ("$n", "a"),
        ] {
            let rule = LabelRule::replace("d", template, "s", "(?P<n>a)").unwrap();
            let labels = labelset::edit(&[], [("s", "a")]);
            assert_eq!(rule.value(&labels).as_deref(), Some(expanded), "{template}");
        }
    }
}
