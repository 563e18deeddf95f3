//! Label sets as stored, and matchers as asked for.

use chronolith_engine::model::Labels;
use chronolith_engine::{MatchOp, Matcher};

use crate::Target;

/// The stored form of a label set: refused, or the same bytes again.
pub static LABELS: Target = Target {
    name: "labels",
    body: labels,
    seeds: label_seeds,
    dictionary: &[],
};

/// A matcher: operator, name and value from the input, matched against the rest of it.
pub static MATCHER: Target = Target {
    name: "matcher",
    body: matcher,
    seeds: matcher_seeds,
    dictionary: &[
        ".*", ".+", "(a|b)", "[^x]", "{1,9}", "(?i)", "\\d", "|", "^", "$", "(?s:", ")",
    ],
};

fn label_seeds() -> Vec<Vec<u8>> {
    let sets: [&[(&str, &str)]; 3] = [
        &[],
        &[("__name__", "up")],
        &[
            ("__name__", "pipeline_executions_total"),
            ("region", "eu"),
            ("store", "berlin"),
        ],
    ];
    sets.iter()
        .filter_map(|pairs| Labels::from_pairs(pairs.iter().copied()).ok())
        .map(|labels| labels.as_bytes().to_vec())
        .collect()
}

fn labels(data: &[u8]) {
    let Ok(labels) = Labels::from_bytes(data) else {
        return;
    };
    assert_eq!(labels.as_bytes(), data);
    assert_eq!(labels.iter().count(), labels.len());
    let again = Labels::from_pairs(labels.iter().map(|label| (label.name, label.value)));
    assert_eq!(again.as_ref(), Ok(&labels), "what is read can be built");
    for label in &labels {
        assert_eq!(labels.get(label.name), Some(label.value));
    }
    let _ = labels.to_string();
}

fn matcher_seeds() -> Vec<Vec<u8>> {
    [
        "0job=demo\ndemo",
        "1job=demo\nother",
        "2job=api|web\napi",
        "3path=/v1/.*\n/v1/query",
    ]
    .map(|seed| seed.as_bytes().to_vec())
    .to_vec()
}

fn matcher(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let mut characters = text.chars();
    let op = match characters.next() {
        Some('0') => MatchOp::Equal,
        Some('1') => MatchOp::NotEqual,
        Some('2') => MatchOp::Regex,
        _ => MatchOp::NotRegex,
    };
    let rest = characters.as_str();
    let (definition, subject) = rest.split_once('\n').unwrap_or((rest, ""));
    let (name, value) = definition.split_once('=').unwrap_or(("a", definition));
    let Ok(matcher) = Matcher::new(name, op, value) else {
        return;
    };
    let matched = matcher.matches(subject);
    // The shortcuts that pruning relies on must agree with the matcher itself.
    if op == MatchOp::Regex {
        if let Some(values) = matcher.literal_values() {
            assert_eq!(
                values.contains(&subject),
                matched,
                "{matcher:?} on {subject:?}"
            );
        }
        if matched {
            let prefix = matcher.literal_prefix();
            assert!(
                subject.starts_with(prefix),
                "{matcher:?} on {subject:?}: prefix {prefix:?}"
            );
        }
    }
    assert_eq!(
        matcher.matches(""),
        matcher.matches_missing(),
        "{matcher:?}"
    );
}
