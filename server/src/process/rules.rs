//! Rules: for which rows, and what is done with them.

use std::borrow::Cow;
use std::collections::BTreeMap;

use chronolith_engine::model::{Labels, TimestampNs};
use regex::{Regex, RegexBuilder};
use serde::Deserialize;

use super::level::severity_of;
use crate::rows::fields::{json_object, logfmt, named_groups};
use crate::rows::labels::push_text;
use crate::rows::{LogRow, Pairs, SpanRow, Value};
use crate::wire::time::parse_time_ns;

/// Bytes of a compiled pattern.
const COMPILED_BYTES_MAX: usize = 4 << 20;

/// A signal that rules are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RowKind {
    /// Log records.
    Logs,
    /// Spans.
    Spans,
}

/// How fields are found inside of a text.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Parse {
    /// The members of a JSON object.
    Json,
    /// Pairs `key=value`.
    Logfmt,
    /// The named groups of a regex.
    Regex(String),
}

/// An entry of `rules`. All of `labels`, `when` and `unless` must hold; then, in this order: `drop`,
/// `parse`, `rename`, `set`, `remove`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RuleConfig {
    /// For people.
    pub name: String,
    /// For which signals; empty for both.
    pub signals: Vec<RowKind>,
    /// Labels of the stream and the regexes that match them as a whole.
    pub labels: BTreeMap<String, String>,
    /// Fields and the regexes that match somewhere in them.
    pub when: BTreeMap<String, String>,
    /// Fields and the regexes of which none may match.
    pub unless: BTreeMap<String, String>,
    /// The row is not stored.
    pub drop: bool,
    /// Fields of a text become attributes.
    pub parse: Option<Parse>,
    /// Which text; the body of log records unless named.
    pub from: Option<String>,
    /// Fields get other names.
    pub rename: BTreeMap<String, String>,
    /// Fields get these values.
    pub set: BTreeMap<String, String>,
    /// Attributes that go.
    pub remove: Vec<String>,
}

/// What a name in a rule means.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Field {
    Time,
    Body,
    SeverityText,
    EventName,
    Name,
    StatusMessage,
    Attribute(String),
}

impl Field {
    fn of(name: &str) -> Self {
        match name {
            "time" => Self::Time,
            "body" => Self::Body,
            "severity_text" => Self::SeverityText,
            "event_name" => Self::EventName,
            "name" => Self::Name,
            "status_message" => Self::StatusMessage,
            other => Self::Attribute(other.strip_prefix("attributes.").unwrap_or(other).into()),
        }
    }
}

/// A rule, ready to be used.
#[derive(Debug)]
pub struct Rule {
    signals: Vec<RowKind>,
    labels: Vec<(String, Regex)>,
    when: Vec<(Field, Regex)>,
    unless: Vec<(Field, Regex)>,
    drop: bool,
    parse: Option<Parser>,
    from: Field,
    rename: Vec<(Field, Field)>,
    set: Vec<(Field, String)>,
    remove: Vec<String>,
}

#[derive(Debug)]
enum Parser {
    Json,
    Logfmt,
    Regex(Regex),
}

/// What rules need of a row, whichever it is.
trait Row<'a> {
    /// The text of a field; `None` if there is no such.
    fn text(&self, field: &Field) -> Option<Cow<'_, str>>;
    /// Gives a field a value; fields that the row does not have become attributes.
    fn set(&mut self, field: &Field, value: Value<'a>);
    fn attributes(&mut self) -> &mut Pairs<'a>;
}

fn as_text<'v>(value: &'v Value<'_>) -> Cow<'v, str> {
    match value {
        Value::Text(text) => Cow::Borrowed(text),
        other => {
            let mut text = String::new();
            push_text(&mut text, &other.clone().into_owned());
            Cow::Owned(text)
        }
    }
}

fn into_text<'a>(value: Value<'a>) -> Cow<'a, str> {
    match value {
        Value::Text(text) => text,
        other => Cow::Owned(as_text(&other).into_owned()),
    }
}

fn attribute<'v>(pairs: &'v Pairs<'_>, key: &str) -> Option<Cow<'v, str>> {
    let mut pairs = pairs.iter().rev();
    pairs
        .find(|(k, _)| k == key)
        .map(|(_, value)| as_text(value))
}

fn set_attribute<'a>(pairs: &mut Pairs<'a>, key: &str, value: Value<'a>) {
    match pairs.iter_mut().rev().find(|(k, _)| k == key) {
        Some((_, place)) => *place = value,
        None => pairs.push((Cow::Owned(key.to_owned()), value)),
    }
}

impl<'a> Row<'a> for LogRow<'a> {
    fn text(&self, field: &Field) -> Option<Cow<'_, str>> {
        match field {
            Field::Body => Some(as_text(&self.body)),
            Field::SeverityText => Some(Cow::Borrowed(&self.severity_text)),
            Field::EventName => Some(Cow::Borrowed(&self.event_name)),
            Field::Attribute(key) => attribute(&self.attributes, key),
            Field::Time | Field::Name | Field::StatusMessage => None,
        }
    }

    fn set(&mut self, field: &Field, value: Value<'a>) {
        match field {
            Field::Time => {
                if let Some(ns) = parse_time_ns(&as_text(&value)) {
                    self.time = Some(TimestampNs(ns));
                }
            }
            Field::Body => self.body = value,
            Field::SeverityText => {
                self.severity_text = into_text(value);
                self.severity = severity_of(self.severity_text.trim());
            }
            Field::EventName => self.event_name = into_text(value),
            Field::Attribute(key) => set_attribute(&mut self.attributes, key, value),
            Field::Name => set_attribute(&mut self.attributes, "name", value),
            Field::StatusMessage => {
                set_attribute(&mut self.attributes, "status_message", value);
            }
        }
    }

    fn attributes(&mut self) -> &mut Pairs<'a> {
        &mut self.attributes
    }
}

impl<'a> Row<'a> for SpanRow<'a> {
    fn text(&self, field: &Field) -> Option<Cow<'_, str>> {
        match field {
            Field::Name => Some(Cow::Borrowed(&self.name)),
            Field::StatusMessage => Some(Cow::Borrowed(&self.status_message)),
            Field::Attribute(key) => attribute(&self.attributes, key),
            _ => None,
        }
    }

    fn set(&mut self, field: &Field, value: Value<'a>) {
        match field {
            Field::Name => self.name = into_text(value),
            Field::StatusMessage => self.status_message = into_text(value),
            Field::Attribute(key) => set_attribute(&mut self.attributes, key, value),
            // A span's time is part of its trace; the others are of log records.
            _ => {}
        }
    }

    fn attributes(&mut self) -> &mut Pairs<'a> {
        &mut self.attributes
    }
}

impl Rule {
    /// Compiles an entry.
    ///
    /// # Errors
    /// A regex that is none or too large, or a rule that does nothing.
    pub fn new(config: &RuleConfig) -> Result<Self, String> {
        let named = |what: String| match config.name.is_empty() {
            true => what,
            false => format!("rule {:?}: {what}", config.name),
        };
        let regex = |text: &str| {
            RegexBuilder::new(text)
                .size_limit(COMPILED_BYTES_MAX)
                .build()
                .map_err(|e| named(format!("regex {text:?}: {e}")))
        };
        let fields = |map: &BTreeMap<String, String>| {
            let pairs = map.iter();
            let pairs = pairs.map(|(name, text)| Ok((Field::of(name), regex(text)?)));
            pairs.collect::<Result<Vec<_>, String>>()
        };
        let labels = config.labels.iter();
        let labels = labels.map(|(name, text)| {
            let whole = regex(&format!("^(?s:{text})$"))?;
            Ok((name.clone(), whole))
        });
        let rule = Self {
            signals: config.signals.clone(),
            labels: labels.collect::<Result<_, String>>()?,
            when: fields(&config.when)?,
            unless: fields(&config.unless)?,
            drop: config.drop,
            parse: match &config.parse {
                None => None,
                Some(Parse::Json) => Some(Parser::Json),
                Some(Parse::Logfmt) => Some(Parser::Logfmt),
                Some(Parse::Regex(text)) => Some(Parser::Regex(regex(text)?)),
            },
            from: Field::of(config.from.as_deref().unwrap_or("body")),
            rename: config
                .rename
                .iter()
                .map(|(from, to)| (Field::of(from), Field::of(to)))
                .collect(),
            set: config
                .set
                .iter()
                .map(|(name, value)| (Field::of(name), value.clone()))
                .collect(),
            remove: config.remove.clone(),
        };
        let does_something = rule.drop
            || rule.parse.is_some()
            || !(rule.rename.is_empty() && rule.set.is_empty() && rule.remove.is_empty());
        match does_something {
            true => Ok(rule),
            false => Err(named(
                "a rule needs drop, parse, rename, set or remove".into(),
            )),
        }
    }

    /// Whether it is for a stream.
    #[must_use]
    pub fn is_for(&self, kind: RowKind, labels: &Labels) -> bool {
        let for_kind = self.signals.is_empty() || self.signals.contains(&kind);
        let mut wanted = self.labels.iter();
        for_kind && wanted.all(|(name, regex)| regex.is_match(labels.get(name).unwrap_or("")))
    }

    /// Applies it to a log record; false if the record goes.
    pub fn log(&self, row: &mut LogRow<'_>, attributes_max: usize) -> bool {
        self.apply(row, attributes_max)
    }

    /// Applies it to a span; false if the span goes.
    pub fn span(&self, row: &mut SpanRow<'_>, attributes_max: usize) -> bool {
        self.apply(row, attributes_max)
    }

    fn apply<'a>(&self, row: &mut impl Row<'a>, attributes_max: usize) -> bool {
        let matches = |field: &Field, regex: &Regex| {
            row.text(field).is_some_and(|text| regex.is_match(&text))
        };
        let meant = self.when.iter().all(|(field, regex)| matches(field, regex))
            && !self
                .unless
                .iter()
                .any(|(field, regex)| matches(field, regex));
        if !meant {
            return true;
        }
        if self.drop {
            return false;
        }
        if let Some(parser) = &self.parse {
            self.parse(parser, row, attributes_max);
        }
        for (from, to) in &self.rename {
            let value = match from {
                Field::Attribute(key) => {
                    let pairs = row.attributes();
                    let place = pairs.iter().rposition(|(k, _)| k == key);
                    place.map(|place| pairs.remove(place).1)
                }
                other => {
                    let text = row.text(other).map(Cow::into_owned);
                    text.map(|text| Value::Text(Cow::Owned(text)))
                }
            };
            if let Some(value) = value {
                row.set(to, value);
            }
        }
        for (field, value) in &self.set {
            row.set(field, Value::Text(Cow::Owned(value.clone())));
        }
        if !self.remove.is_empty() {
            let goes = |key: &str| self.remove.iter().any(|gone| gone == key);
            row.attributes().retain(|(key, _)| !goes(key));
        }
        true
    }

    fn parse<'a>(&self, parser: &Parser, row: &mut impl Row<'a>, attributes_max: usize) {
        let Some(text) = row.text(&self.from).map(Cow::into_owned) else {
            return;
        };
        let mut found = Pairs::new();
        let good = match parser {
            Parser::Json => json_object(text.as_bytes(), &mut found, attributes_max).is_ok(),
            Parser::Logfmt => logfmt(&text, &mut found, attributes_max),
            Parser::Regex(regex) => named_groups(regex, &text, &mut found, attributes_max),
        };
        if good {
            let owned = found.into_iter().map(|(key, value)| {
                let value = match value {
                    Value::Text(text) => Value::Text(Cow::Owned(text.into_owned())),
                    Value::Bytes(bytes) => Value::Bytes(Cow::Owned(bytes.into_owned())),
                    Value::Null => Value::Null,
                    Value::Int(number) => Value::Int(number),
                    Value::Float(number) => Value::Float(number),
                    Value::Bool(truth) => Value::Bool(truth),
                    Value::Nested(value) => Value::Nested(value),
                };
                (Cow::Owned(key.into_owned()), value)
            });
            row.attributes().extend(owned);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(yaml_as_json: &str) -> Rule {
        Rule::new(&serde_json::from_str(yaml_as_json).unwrap()).unwrap()
    }

    fn log(body: &'static str) -> LogRow<'static> {
        LogRow {
            body: Value::text(body),
            ..LogRow::default()
        }
    }

    #[test]
    fn rows_are_dropped_by_what_they_hold() {
        let rule = rule(r#"{"when":{"body":"GET /health"},"unless":{"status":"^5"},"drop":true}"#);
        assert!(!rule.log(&mut log("x GET /health 200"), 10));
        assert!(rule.log(&mut log("GET /pay"), 10));
        let mut failed = log("GET /health");
        failed.attributes.push(("status".into(), Value::Int(503)));
        assert!(rule.log(&mut failed, 10));
    }

    #[test]
    fn rules_are_for_streams_and_signals() {
        let rule = rule(r#"{"signals":["logs"],"labels":{"job":"a|b"},"remove":["x"]}"#);
        let labels = |job| Labels::from_pairs([("job", job)]).unwrap();
        assert!(rule.is_for(RowKind::Logs, &labels("a")));
        assert!(!rule.is_for(RowKind::Logs, &labels("ab")));
        assert!(!rule.is_for(RowKind::Spans, &labels("a")));
        assert!(!rule.is_for(RowKind::Logs, &Labels::empty()));
    }

    #[test]
    fn fields_are_parsed_renamed_set_and_removed() {
        let rule = rule(
            r#"{"parse":"json","rename":{"msg":"body","ts":"time","lvl":"severity_text"},"set":{"env":"prod"},"remove":["pw"]}"#,
        );
        let mut row =
            log(r#"{"msg":"hello","ts":"2023-11-14T22:13:20Z","lvl":"warn","pw":1,"n":2}"#);
        assert!(rule.log(&mut row, 10));
        assert_eq!(row.body, Value::text("hello"));
        assert_eq!(row.time, Some(TimestampNs(1_700_000_000_000_000_000)));
        assert_eq!((row.severity, &*row.severity_text), (13, "warn"));
        let expected: Pairs<'_> = vec![
            ("n".into(), Value::Int(2)),
            ("env".into(), Value::text("prod")),
        ];
        assert_eq!(row.attributes, expected);
        let mut other = log("not json");
        assert!(rule.log(&mut other, 10));
        assert_eq!(other.attributes.len(), 1);
    }

    #[test]
    fn logfmt_and_regexes_are_parsed_and_spans_too() {
        let mut row = log("a=1 b=\"x y\"");
        rule(r#"{"parse":"logfmt"}"#).log(&mut row, 10);
        assert_eq!(row.attributes[1], ("b".into(), Value::text("x y")));
        let by_regex =
            rule(r#"{"parse":{"regex":"/(?P<first>[^/]+)"},"from":"name","set":{"name":"all"}}"#);
        let mut span = SpanRow {
            name: "GET /pay/1".into(),
            ..SpanRow::default()
        };
        assert!(by_regex.span(&mut span, 10));
        assert_eq!(span.attributes[0], ("first".into(), Value::text("pay")));
        assert_eq!(span.name, "all");
    }

    #[test]
    fn rules_that_cannot_be_are_refused() {
        for (text, part) in [
            ("{}", "needs drop"),
            (
                r#"{"name":"n","when":{"body":"("},"drop":true}"#,
                "rule \"n\"",
            ),
            (r#"{"parse":{"regex":"("}}"#, "regex"),
        ] {
            let error = Rule::new(&serde_json::from_str(text).unwrap()).unwrap_err();
            assert!(error.contains(part), "{error}");
        }
    }
}
