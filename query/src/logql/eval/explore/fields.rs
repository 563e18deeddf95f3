//! Fields of lines: their names, what kind of values they have, and how a query gets at them.
//!
//! A line that no parser of the query has read is read as JSON, else as logfmt. Structured metadata
//! are fields too.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use super::super::super::ast::{LogExpr, StageKind};
use super::super::super::pipeline::{json_fields, logfmt_fields, sanitized_name};
use super::super::super::units::{parse_bytes, parse_go_duration, parse_go_float};
use super::super::result::StreamResult;

/// What values a field has; the first of these that all of them are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum FieldType {
    /// Whole numbers.
    Int,
    /// Numbers.
    Float,
    /// Truth values.
    Boolean,
    /// `1.5s`
    Duration,
    /// `2 KiB`
    Bytes,
    /// Anything.
    String,
}

impl FieldType {
    /// The name in Loki's API.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Int => "int",
            Self::Float => "float",
            Self::Boolean => "boolean",
            Self::Duration => "duration",
            Self::Bytes => "bytes",
            Self::String => "string",
        }
    }

    fn of(value: &str) -> Self {
        if value.parse::<i64>().is_ok() {
            Self::Int
        } else if parse_go_float(value).is_ok() {
            Self::Float
        } else if matches!(
            value,
            "t" | "f" | "T" | "F" | "true" | "false" | "True" | "False" | "TRUE" | "FALSE"
        ) {
            Self::Boolean
        } else if parse_go_duration(value).is_ok() {
            Self::Duration
        } else if parse_bytes(value).is_ok() {
            Self::Bytes
        } else {
            Self::String
        }
    }

    fn joined(self, other: Self) -> Self {
        match (self, other) {
            (a, b) if a == b => a,
            (Self::Int, Self::Float) | (Self::Float, Self::Int) => Self::Float,
            // `0` stands among durations and sizes.
            (Self::Int, b @ (Self::Duration | Self::Bytes)) => b,
            (a @ (Self::Duration | Self::Bytes), Self::Int) => a,
            _ => Self::String,
        }
    }
}

/// A field of lines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DetectedField {
    /// The name of the label that it becomes.
    pub label: String,
    /// What its values are.
    pub kind: FieldType,
    /// How many distinct values it has.
    pub cardinality: u64,
    /// The stages of a query that make a label of it, sorted; none for structured metadata.
    pub parsers: Vec<&'static str>,
    /// The keys that lead to it in JSON; empty otherwise.
    pub json_path: Vec<String>,
}

#[derive(Default)]
struct Seen {
    kind: Option<FieldType>,
    values: HashSet<u64>,
    parsers: BTreeSet<&'static str>,
    json_path: Vec<String>,
}

/// Where a value was found.
struct Place<'p> {
    parser: Option<&'static str>,
    path: &'p [String],
}

/// The parsers of a query.
fn parsers_of(log: &LogExpr) -> Vec<&'static str> {
    let name = |kind: &StageKind| match kind {
        StageKind::Json(_) => Some("json"),
        StageKind::Logfmt { .. } => Some("logfmt"),
        StageKind::Regexp(_) => Some("regexp"),
        StageKind::Pattern(_) => Some("pattern"),
        StageKind::Unpack => Some("unpack"),
        _ => None,
    };
    log.stages
        .iter()
        .filter_map(|stage| name(&stage.kind))
        .collect()
}

/// Calls `found` with each field of the lines that `log` gave.
fn visit(log: &LogExpr, streams: &[StreamResult], mut found: impl FnMut(&str, &str, &Place<'_>)) {
    let parsers = parsers_of(log);
    for stream in streams {
        let lines = stream.entries.len();
        let mut all = |name: &str, value: &str, place: &Place<'_>| {
            if lines > 0 && !value.is_empty() {
                found(name, value, place);
            }
        };
        let nowhere: &[String] = &[];
        for (name, value) in &stream.metadata {
            let place = Place {
                parser: None,
                path: nowhere,
            };
            all(name, value, &place);
        }
        for (name, value) in stream
            .parsed
            .iter()
            .filter(|(name, _)| !name.starts_with("__"))
        {
            for parser in &parsers {
                let place = Place {
                    parser: Some(parser),
                    path: nowhere,
                };
                all(name, value, &place);
            }
        }
        if !parsers.is_empty() {
            continue;
        }
        let has_label = |name: &str| {
            stream
                .stream
                .iter()
                .chain(&stream.metadata)
                .any(|(n, _)| n == name)
        };
        let named = |mut name: String| {
            if has_label(&name) {
                name.push_str("_extracted");
            }
            name
        };
        for entry in &stream.entries {
            let line = entry.line.as_bytes();
            let is_object = json_fields(line, |path, value| {
                let place = Place {
                    parser: Some("json"),
                    path,
                };
                all(&named(sanitized_name(&path.join("_"))), value, &place);
            });
            if !is_object {
                logfmt_fields(line, |name, value| {
                    let place = Place {
                        parser: Some("logfmt"),
                        path: nowhere,
                    };
                    all(&named(name.to_owned()), value, &place);
                });
            }
        }
    }
}

/// The fields of the lines that `log` gave, at most `limit`, sorted by their names.
#[must_use]
pub fn detect_fields(log: &LogExpr, streams: &[StreamResult], limit: usize) -> Vec<DetectedField> {
    let mut fields: BTreeMap<String, Seen> = BTreeMap::new();
    visit(log, streams, |name, value, place| {
        if !fields.contains_key(name) {
            if fields.len() >= limit || name.is_empty() {
                return;
            }
            fields.insert(name.to_owned(), Seen::default());
        }
        let Some(seen) = fields.get_mut(name) else {
            return;
        };
        let kind = FieldType::of(value);
        seen.kind = Some(seen.kind.map_or(kind, |before| before.joined(kind)));
        let mut hasher = DefaultHasher::new();
        value.hash(&mut hasher);
        seen.values.insert(hasher.finish());
        seen.parsers.extend(place.parser);
        if seen.json_path.is_empty() {
            seen.json_path = place.path.to_vec();
        }
    });
    fields
        .into_iter()
        .map(|(label, seen)| DetectedField {
            label,
            kind: seen.kind.unwrap_or(FieldType::String),
            cardinality: seen.values.len() as u64,
            parsers: seen.parsers.into_iter().collect(),
            json_path: seen.json_path,
        })
        .collect()
}

/// The values of a field in the lines that `log` gave, at most `limit`, sorted.
#[must_use]
pub fn field_values(
    log: &LogExpr,
    streams: &[StreamResult],
    name: &str,
    limit: usize,
) -> Vec<String> {
    let mut values: BTreeSet<String> = BTreeSet::new();
    visit(log, streams, |found, value, _| {
        if found == name && values.len() < limit && !values.contains(value) {
            values.insert(value.to_owned());
        }
    });
    values.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::super::super::super::parser::parse_log;
    use super::super::super::result::StreamEntry;
    use super::*;

    fn streams(lines: &[&str]) -> Vec<StreamResult> {
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        vec![StreamResult {
            stream: vec![pair("app", "a"), pair("level", "info")],
            metadata: vec![pair("trace_id", "0af7")],
            parsed: Vec::new(),
            entries: lines
                .iter()
                .map(|line| StreamEntry {
                    time_ns: 1,
                    line: (*line).to_owned(),
                })
                .collect(),
        }]
    }

    #[test]
    fn fields_have_types_paths_and_parsers() {
        let streams = streams(&[
            r#"{"status":200,"took":"12ms","size":"2KB","ok":true,"user":{"name":"ann"},"level":"warn"}"#,
            r#"{"status":404.5,"took":0,"size":"1MiB","ok":false,"user":{"name":"bob"}}"#,
            "status=500 msg=\"all gone\" took=x",
            "just words",
        ]);
        let log = parse_log(r#"{app="a"}"#).unwrap();
        let found = detect_fields(&log, &streams, 100);
        let shown: Vec<String> = found
            .iter()
            .map(|f| {
                let (kind, parsers) = (f.kind.as_str(), f.parsers.join("+"));
                format!(
                    "{} {kind} {} {parsers} {}",
                    f.label,
                    f.cardinality,
                    f.json_path.join("/")
                )
            })
            .collect();
        assert_eq!(
            shown,
            [
                "level_extracted string 1 json level",
                "msg string 1 logfmt ",
                "ok boolean 2 json ok",
                "size bytes 2 json size",
                "status float 3 json+logfmt status",
                "took string 3 json+logfmt took",
                "trace_id string 1  ",
                "user_name string 2 json user/name",
            ]
        );
        assert_eq!(detect_fields(&log, &streams, 2).len(), 2);
        assert_eq!(field_values(&log, &streams, "user_name", 9), ["ann", "bob"]);
        assert_eq!(field_values(&log, &streams, "user_name", 1), ["ann"]);
        assert!(field_values(&log, &streams, "none", 9).is_empty());
    }

    #[test]
    fn what_a_query_parsed_is_not_parsed_again() {
        let mut streams = streams(&["a=1"]);
        streams[0].parsed = vec![
            ("b".to_owned(), "5s".to_owned()),
            ("__error__".to_owned(), "x".to_owned()),
        ];
        let log = parse_log(r#"{app="a"} | logfmt"#).unwrap();
        let found = detect_fields(&log, &streams, 100);
        let names: Vec<&str> = found.iter().map(|f| f.label.as_str()).collect();
        assert_eq!(names, ["b", "trace_id"]);
        assert_eq!(
            (found[0].kind, &*found[0].parsers),
            (FieldType::Duration, &["logfmt"][..])
        );
    }
}
