//! Search as Jaeger's storage plugins do it: traces that have a span which passes everything.
//!
//! A tag may be on the span, on its process (the resource), on its instrumentation scope, or on one of its
//! logs (events); each tag from its own place, all for the same span. Values are compared as text, so that
//! `http.status_code=200` finds the integer, too; a value is also a regular expression over the whole text,
//! as in Jaeger's Elasticsearch storage (`same.*`, and `same\*` for a star).

use std::collections::HashSet;
use std::sync::Arc;

use ::regex::Regex;
use chronolith_engine::RequestContext;
use chronolith_engine::model::{SpanKind, SpanStatus, TimeRange, TraceId};
use chronolith_engine::rows::{
    AttributeChoice, AttributeScope, RowOrder, SCOPE_NAME, SCOPE_VERSION, SpanColumnSet,
    SpanCondition, SpanScanRequest, TextPattern, TextTest, ValueTest,
};

use super::error::{Result, TracesError};
use super::fields::{SERVICE_NAME, SpanView, Val};
use super::groups::StreamCache;
use super::source::SpanSource;
use crate::traceql::ast::{FieldName, Intrinsic, Scope};
use crate::traceql::display::{kind_word, status_word};
use crate::traceql::regex;

/// What is searched for; what is `None` or empty does not matter.
#[derive(Debug, Clone)]
pub struct JaegerQuery {
    /// Service of the span.
    pub service: Option<String>,
    /// Name of the span.
    pub operation: Option<String>,
    /// Keys and values that the span has somewhere.
    pub tags: Vec<(String, String)>,
    /// Start of the span.
    pub range: TimeRange,
    /// Nanoseconds, inclusive.
    pub duration_min_ns: Option<i64>,
    /// Nanoseconds, inclusive.
    pub duration_max_ns: Option<i64>,
    /// Traces at most.
    pub limit: usize,
}

impl Default for JaegerQuery {
    fn default() -> Self {
        Self {
            service: None,
            operation: None,
            tags: Vec::new(),
            range: TimeRange::ALL,
            duration_min_ns: None,
            duration_max_ns: None,
            limit: 100,
        }
    }
}

/// The traces that a query finds, by their newest matching span.
///
/// # Errors
/// A tag whose value is neither plain text nor a regex of a bearable size; what the store says.
pub fn find_traces(
    source: &dyn SpanSource,
    context: &RequestContext,
    query: &JaegerQuery,
) -> Result<Vec<TraceId>> {
    let equals = |text: &str| TextTest {
        pattern: TextPattern::Equals(Arc::from(text)),
        negated: false,
    };
    let mut conditions = Vec::new();
    if let Some(service) = &query.service {
        let test = ValueTest::Text(equals(service));
        conditions.push(attribute(AttributeScope::Resource, SERVICE_NAME, test));
    }
    if let Some(operation) = &query.operation {
        conditions.push(SpanCondition::Name(equals(operation)));
    }
    if query.duration_min_ns.is_some() || query.duration_max_ns.is_some() {
        let min = query.duration_min_ns.unwrap_or(i64::MIN);
        let max = query.duration_max_ns.unwrap_or(i64::MAX);
        conditions.push(SpanCondition::Duration(min..=max));
    }
    let mut rest = Vec::new();
    for (key, value) in &query.tags {
        let tag = Tag::new(key, value)?;
        let (condition, is_exact) = tag.condition();
        conditions.extend(condition);
        if !is_exact {
            rest.push(tag);
        }
    }
    let keys = rest.iter().map(|tag| Arc::from(tag.key.as_str())).collect();
    let request = SpanScanRequest {
        conditions,
        order: RowOrder::NewestFirst,
        columns: SpanColumnSet {
            trace_id: true,
            kind: !rest.is_empty(),
            status: !rest.is_empty(),
            details: !rest.is_empty(),
            events: !rest.is_empty(),
            ..SpanColumnSet::default()
        },
        attributes: match rest.is_empty() {
            true => AttributeChoice::None,
            false => AttributeChoice::Keys(keys),
        },
        ..SpanScanRequest::new(Vec::new(), query.range)
    };
    let mut seen = HashSet::new();
    let mut found = Vec::new();
    let mut streams = StreamCache::default();
    if query.limit == 0 {
        return Ok(found);
    }
    for block in source.scan(context, &request)? {
        let block = block?;
        for row in 0..block.rows {
            let id = TraceId(block.trace_id.get(row).unwrap_or_default());
            if seen.contains(&id) {
                continue;
            }
            if !rest.is_empty() {
                let stream = streams.get(&block, row)?;
                let view = SpanView {
                    block: &block,
                    row,
                    stream: &stream,
                    trace: None,
                };
                if !rest.iter().all(|tag| tag.is_on(&view)) {
                    continue;
                }
            }
            seen.insert(id);
            found.push(id);
            if found.len() >= query.limit {
                return Ok(found);
            }
        }
    }
    Ok(found)
}

fn attribute(scope: AttributeScope, key: &str, test: ValueTest) -> SpanCondition {
    let key = Arc::from(key);
    SpanCondition::Attribute { scope, key, test }
}

/// A tag that is looked for.
struct Tag {
    key: String,
    value: String,
    /// `None`: the value holds no special characters, or is no regex.
    regex: Option<Regex>,
}

/// Places where a tag may be, but events.
const PLACES: [Scope; 3] = [Scope::Span, Scope::Resource, Scope::Instrumentation];

impl Tag {
    fn new(key: &str, value: &str) -> Result<Self> {
        const VALUE_BYTES_MAX: usize = 4096;
        if value.len() > VALUE_BYTES_MAX {
            let message = format!("tag {key:?}: a value of more than {VALUE_BYTES_MAX} bytes");
            return Err(TracesError::BadRequest(message));
        }
        let is_plain = !value.contains(|c| ".*+?()[]{}|\\^$".contains(c));
        Ok(Self {
            key: key.to_owned(),
            value: value.to_owned(),
            regex: match is_plain {
                true => None,
                // What is no regex is only compared.
                false => regex::compile(value).ok(),
            },
        })
    }

    fn matches_text(&self, text: &str) -> bool {
        text == self.value
            || self
                .regex
                .as_ref()
                .is_some_and(|regex| regex.is_match(text))
    }

    /// What a span has anyway and Jaeger shows under this key.
    fn shown_as(&self, test: &TextTest) -> Option<SpanCondition> {
        let bits = |words: &[(u8, &str)]| {
            let matching = words.iter().filter(|(_, word)| self.matches_text(word));
            matching.fold(0, |bits, (number, _)| bits | 1 << number)
        };
        let of_scope = |key| {
            attribute(
                AttributeScope::Instrumentation,
                key,
                ValueTest::Text(test.clone()),
            )
        };
        Some(match self.key.as_str() {
            "error" => SpanCondition::Status(bits(&[(SpanStatus::Error as u8, "true")])),
            "span.kind" => {
                let kinds = [
                    SpanKind::Internal,
                    SpanKind::Server,
                    SpanKind::Client,
                    SpanKind::Producer,
                    SpanKind::Consumer,
                ];
                SpanCondition::Kind(bits(&kinds.map(|kind| (kind as u8, kind_word(kind)))))
            }
            "otel.status_code" => {
                let (ok, error) = (SpanStatus::Ok as u8, SpanStatus::Error as u8);
                let words = [(ok, "OK"), (ok, "ok"), (error, "ERROR"), (error, "error")];
                SpanCondition::Status(bits(&words))
            }
            "otel.status_description" => SpanCondition::StatusMessage(test.clone()),
            "otel.scope.name" | "otel.library.name" => of_scope(SCOPE_NAME),
            "otel.scope.version" | "otel.library.version" => of_scope(SCOPE_VERSION),
            _ => return None,
        })
    }

    /// What a scan can decide, and whether that is all there is to it.
    fn condition(&self) -> (Option<SpanCondition>, bool) {
        let mut patterns = vec![TextPattern::Equals(Arc::from(self.value.as_str()))];
        if self.regex.is_some() {
            match TextPattern::regex(&format!("^(?s:{})$", self.value)) {
                Ok(pattern) => patterns.push(pattern),
                Err(_) => return (None, false),
            }
        }
        // Equality alone is looked up, alternatives are tried one by one.
        let pattern = match patterns.len() {
            1 => patterns.swap_remove(0),
            _ => TextPattern::AnyOf(patterns),
        };
        let test = TextTest {
            pattern,
            negated: false,
        };
        let shown_as = self.shown_as(&test);
        let mut tests = vec![ValueTest::Text(test)];
        let number = self
            .value
            .parse::<f64>()
            .ok()
            .filter(|number| number.is_finite());
        if let Some(number) = number {
            let bound = Some((number, true));
            tests.push(number_test(bound));
        } else if self.regex.is_some() {
            // A pattern may match the text of any number or truth value.
            tests.push(number_test(None));
            tests.extend([true, false].map(ValueTest::Bool));
        } else if let Ok(truth) = self.value.parse() {
            tests.push(ValueTest::Bool(truth));
        }
        let scopes = [
            AttributeScope::Row,
            AttributeScope::Resource,
            AttributeScope::Instrumentation,
            AttributeScope::Event,
        ];
        let anywhere = scopes.into_iter().flat_map(|scope| {
            let of_scope = |test: &ValueTest| attribute(scope, &self.key, test.clone());
            tests.iter().map(of_scope).collect::<Vec<_>>()
        });
        // Numbers are written in more than one way, and only one of them is Jaeger's: `1e2` is not 100.
        let is_exact = match number {
            Some(number) => number.to_string() == self.value && self.regex.is_none(),
            None => self.regex.is_none(),
        };
        let anywhere = anywhere.chain(shown_as).collect();
        (Some(SpanCondition::Any(anywhere)), is_exact)
    }

    fn matches(&self, value: &Val<'_>) -> bool {
        match value {
            Val::Str(text) => self.matches_text(text),
            Val::Int(n) => self.matches_text(&n.to_string()),
            Val::Float(x) => self.matches_text(&x.to_string()),
            Val::Bool(truth) => self.matches_text(if *truth { "true" } else { "false" }),
            Val::Kind(kind) => {
                *kind != SpanKind::Unspecified && self.matches_text(kind_word(*kind))
            }
            Val::Status(status) => {
                let word = status_word(*status);
                *status != SpanStatus::Unset
                    && (self.matches_text(word) || self.matches_text(&word.to_ascii_uppercase()))
            }
            Val::Many(values) => values.iter().any(|value| self.matches(value)),
            Val::Nil | Val::Opaque | Val::Duration(_) => false,
        }
    }

    fn is_on(&self, span: &SpanView<'_>) -> bool {
        let attribute = |scope| {
            let key = self.key.clone();
            self.matches(&span.read(&FieldName::Attribute { scope, key }))
        };
        let intrinsic = |intrinsic| {
            let is_scoped = false;
            self.matches(&span.read(&FieldName::Intrinsic {
                intrinsic,
                is_scoped,
            }))
        };
        if PLACES.into_iter().any(attribute) || attribute(Scope::Event) {
            return true;
        }
        match self.key.as_str() {
            "error" => span.block.status.get(span.row) == 2 && self.matches_text("true"),
            "span.kind" => intrinsic(Intrinsic::Kind),
            "otel.status_code" => intrinsic(Intrinsic::Status),
            "otel.status_description" => intrinsic(Intrinsic::StatusMessage),
            "otel.scope.name" | "otel.library.name" => intrinsic(Intrinsic::InstrumentationName),
            "otel.scope.version" | "otel.library.version" => {
                intrinsic(Intrinsic::InstrumentationVersion)
            }
            _ => false,
        }
    }
}

fn number_test(bound: Option<(f64, bool)>) -> ValueTest {
    ValueTest::Number {
        min: bound,
        max: bound,
        negated: false,
    }
}

#[cfg(test)]
mod tests;
