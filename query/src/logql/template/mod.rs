//! Templates of `line_format` and `label_format`: a subset of Go's text/template, large enough for
//! what Loki's users write.
//!
//! What there is: fields, variables, pipelines, parentheses, `if`/`else if`/`else`, `range` with
//! `break` and `continue`, `with`, comments, trim markers, Go's built-in functions and Loki's. What is
//! not there: templates that call templates. A template is bounded in length and depth when it is
//! parsed, and in steps and output when it runs.

mod exec;
mod functions;
mod gotime;
mod parse;
mod printf;
#[cfg(test)]
mod tests;
mod value;

use std::sync::Arc;

/// What a template sees of an entry.
#[derive(Debug, Clone, Copy)]
pub(super) struct TemplateData<'e> {
    /// Labels by name.
    pub(super) labels: &'e [(&'e str, &'e [u8])],
    /// `__line__`
    pub(super) line: &'e [u8],
    /// `__timestamp__`, ns since the epoch.
    pub(super) time_ns: i64,
}

/// A parsed template.
#[derive(Debug, Clone)]
pub(super) struct Template {
    name: Arc<str>,
    nodes: Arc<[parse::Node]>,
}

impl Template {
    /// Parses a template; `name` is what messages call it.
    ///
    /// # Errors
    /// Go's words for what is wrong.
    pub(super) fn new(name: &str, text: &str) -> Result<Self, String> {
        let nodes = parse::parse(text)
            .map_err(|(line, error)| format!("template: {name}:{line}: {error}"))?;
        Ok(Self {
            name: name.into(),
            nodes: nodes.into(),
        })
    }

    /// The text for an entry.
    ///
    /// # Errors
    /// What went wrong, such as a function that cannot take its arguments.
    pub(super) fn render(&self, data: &TemplateData<'_>) -> Result<String, String> {
        exec::render(&self.nodes, data).map_err(|error| format!("template: {}: {error}", self.name))
    }
}
