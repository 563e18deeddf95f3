//! What happens to log records and spans between decoding and storing, whatever protocol brought them:
//! redaction, rules, detection of levels.
//!
//! The order is: rules, in theirs (so that parsed fields are redacted too), then redaction, then the
//! level. By default only the level is worked out, and only for records that came without one; the
//! section `process` of the configuration turns on the rest.
//!
//! **Invariants**: nothing here fails a request; what is decided per stream (rules by label, a level in
//! the labels) is decided once per stream and request.

pub mod level;
mod redact;
mod rules;

use chronolith_engine::model::Labels;
use serde::Deserialize;

pub use self::level::{severity_of, severity_of_line};
pub use self::redact::{Preset, RedactConfig, Redactor};
pub use self::rules::{Parse, RowKind, Rule, RuleConfig};
use crate::rows::{LogRow, SpanRow};

/// Rules of a configuration.
const RULES_MAX: usize = 256;

/// The section `process`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ProcessConfig {
    /// Work out the severity of log records that came without one.
    pub detect_level: bool,
    /// What must not be stored.
    pub redact: RedactConfig,
    /// Applied in their order.
    pub rules: Vec<RuleConfig>,
}

impl Default for ProcessConfig {
    fn default() -> Self {
        Self {
            detect_level: true,
            redact: RedactConfig::default(),
            rules: Vec::new(),
        }
    }
}

/// The stage, ready to be used.
#[derive(Debug)]
pub struct Processor {
    detect_level: bool,
    redactor: Option<Redactor>,
    rules: Vec<Rule>,
}

/// What is decided once per stream.
#[derive(Clone, Debug, Default)]
pub struct StreamPlan {
    /// Numbers of the rules that are for it.
    rules: Vec<usize>,
    /// The severity that its labels tell; 0 for none.
    severity: u8,
}

impl Default for Processor {
    fn default() -> Self {
        Self {
            detect_level: true,
            redactor: None,
            rules: Vec::new(),
        }
    }
}

impl Processor {
    /// As the configuration has it.
    ///
    /// # Errors
    /// A rule or pattern that cannot be.
    pub fn new(config: &ProcessConfig) -> Result<Self, String> {
        if config.rules.len() > RULES_MAX {
            return Err(format!("more than {RULES_MAX} rules"));
        }
        Ok(Self {
            detect_level: config.detect_level,
            redactor: Redactor::new(&config.redact).map_err(|e| format!("redact: {e}"))?,
            rules: config
                .rules
                .iter()
                .map(Rule::new)
                .collect::<Result<_, _>>()?,
        })
    }

    /// Decides what is decided per stream.
    #[must_use]
    pub fn plan(&self, kind: RowKind, labels: &Labels) -> StreamPlan {
        let numbered = self.rules.iter().enumerate();
        let meant = numbered.filter(|(_, rule)| rule.is_for(kind, labels));
        StreamPlan {
            rules: meant.map(|(number, _)| number).collect(),
            severity: match (kind, self.detect_level) {
                (RowKind::Logs, true) => level::severity_of_labels(labels),
                _ => 0,
            },
        }
    }

    fn rules_of<'p>(&'p self, plan: &'p StreamPlan) -> impl Iterator<Item = &'p Rule> {
        plan.rules
            .iter()
            .filter_map(|number| self.rules.get(*number))
    }

    /// Processes a log record; false if it is not to be stored.
    #[inline]
    pub fn log(&self, plan: &StreamPlan, row: &mut LogRow<'_>, attributes_max: usize) -> bool {
        for rule in self.rules_of(plan) {
            if !rule.log(row, attributes_max) {
                return false;
            }
        }
        if let Some(redactor) = &self.redactor {
            redactor.value(&mut row.body);
            redactor.pairs(&mut row.attributes);
        }
        if self.detect_level {
            level::detect(row, plan.severity);
        }
        true
    }

    /// Processes a span; false if it is not to be stored.
    #[inline]
    pub fn span(&self, plan: &StreamPlan, row: &mut SpanRow<'_>, attributes_max: usize) -> bool {
        for rule in self.rules_of(plan) {
            if !rule.span(row, attributes_max) {
                return false;
            }
        }
        if let Some(redactor) = &self.redactor {
            redactor.cow(&mut row.name);
            redactor.cow(&mut row.status_message);
            redactor.pairs(&mut row.attributes);
            redactor.pairs(&mut row.nested);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rows::Value;

    #[test]
    fn parsed_fields_are_redacted_and_tell_the_level() {
        let config: ProcessConfig = serde_json::from_str(
            r#"{"redact":{"presets":["emails"]},"rules":[{"labels":{"job":"x"},"parse":"logfmt"}]}"#,
        )
        .unwrap();
        let processor = Processor::new(&config).unwrap();
        let labels = Labels::from_pairs([("job", "x"), ("level", "error")]).unwrap();
        let plan = processor.plan(RowKind::Logs, &labels);
        let mut row = LogRow {
            body: Value::text("level=info user=a@b.org"),
            ..LogRow::default()
        };
        assert!(processor.log(&plan, &mut row, 10));
        assert_eq!(row.body, Value::text("level=info user=[redacted]"));
        assert_eq!(row.attributes[1].1, Value::text("[redacted]"));
        assert_eq!(row.severity, 9);
        let plan = processor.plan(RowKind::Spans, &labels);
        let mut span = SpanRow {
            name: "mail a@b.org".into(),
            ..SpanRow::default()
        };
        assert!(processor.span(&plan, &mut span, 10));
        assert_eq!(span.name, "mail [redacted]");
    }

    #[test]
    fn by_default_only_the_level_is_worked_out() {
        let processor = Processor::new(&ProcessConfig::default()).unwrap();
        let labels = Labels::from_pairs([("level", "warn")]).unwrap();
        let plan = processor.plan(RowKind::Logs, &labels);
        let before = LogRow {
            body: Value::text("password=x"),
            ..LogRow::default()
        };
        let mut row = before.clone();
        assert!(processor.log(&plan, &mut row, 10));
        assert_eq!(row.severity, 13);
        row.severity = 0;
        assert_eq!(row, before);
    }
}
