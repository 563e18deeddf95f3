//! Metric families at one moment, to be written as text or stored as samples.

use std::borrow::Cow;
use std::fmt::Write as _;

use chronolith_engine::model::MetricType;

use crate::wire::metric_family::{self, Classic, Content, Metric};
use crate::wire::number;

/// The kinds of families that we have.
pub type FamilyKind = MetricType;

/// One value of a family.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// What follows the family's name: `_bucket`, `_sum`, `_count` or nothing.
    pub suffix: &'static str,
    /// Labels besides the name.
    pub labels: Vec<(&'static str, String)>,
    /// The value.
    pub value: f64,
}

/// A metric name with its values.
#[derive(Clone, Debug, PartialEq)]
pub struct Family {
    /// Its name.
    pub name: &'static str,
    /// What it counts or measures.
    pub help: &'static str,
    /// Its kind.
    pub kind: FamilyKind,
    /// Its values.
    pub rows: Vec<Row>,
}

/// All families.
#[derive(Clone, Debug, Default)]
pub struct Exposition {
    /// In the order in which they were added.
    pub families: Vec<Family>,
}

impl Exposition {
    /// Adds a counter without labels.
    pub fn counter(&mut self, name: &'static str, help: &'static str, value: f64) {
        self.family(name, help, MetricType::Counter).row(&[], value);
    }

    /// Adds a gauge without labels.
    pub fn gauge(&mut self, name: &'static str, help: &'static str, value: f64) {
        self.family(name, help, MetricType::Gauge).row(&[], value);
    }

    /// Starts a family.
    pub fn family(
        &mut self,
        name: &'static str,
        help: &'static str,
        kind: FamilyKind,
    ) -> &mut Family {
        let index = self.families.len();
        self.families.push(Family {
            name,
            help,
            kind,
            rows: Vec::new(),
        });
        // The index was taken before the push.
        &mut self.families[index]
    }

    /// In the text format that every scraper reads (version 0.0.4).
    #[must_use]
    pub fn to_text(&self) -> String {
        let mut out = String::with_capacity(16 << 10);
        for family in &self.families {
            let (name, kind) = (family.name, family.kind.as_str());
            let _ = writeln!(out, "# HELP {name} {}\n# TYPE {name} {kind}", family.help);
            for row in &family.rows {
                out.push_str(name);
                out.push_str(row.suffix);
                push_labels(&mut out, &row.labels);
                out.push(' ');
                number::push_float(&mut out, row.value);
                out.push('\n');
            }
        }
        out
    }
}

impl Family {
    /// As protobuf has it: the rows of a histogram become one metric per label set.
    #[must_use]
    pub fn to_metric_family(&self) -> metric_family::Family<'_> {
        let kind = metric_family::Kind::from(self.kind);
        let metrics = match kind {
            metric_family::Kind::Histogram => self.histograms(),
            _ => {
                let rows = self.rows.iter();
                rows.map(|row| timeless(labels_of(row, ""), Content::Number(row.value)))
                    .collect()
            }
        };
        metric_family::Family {
            name: self.name.into(),
            help: self.help,
            kind,
            metrics,
        }
    }

    /// Rows of a label set come together, the buckets in ascending order first.
    fn histograms(&self) -> Vec<Metric<'_>> {
        let mut metrics: Vec<Metric<'_>> = Vec::new();
        for row in &self.rows {
            let labels = labels_of(row, "le");
            if metrics.last().is_none_or(|last| last.labels != labels) {
                metrics.push(timeless(labels, Content::Classic(Classic::default())));
            }
            let Some(Content::Classic(histogram)) = metrics.last_mut().map(|m| &mut m.content)
            else {
                continue;
            };
            match row.suffix {
                "_sum" => histogram.sum = row.value,
                "_count" => histogram.count = row.value,
                _ => {
                    let bound = row.labels.iter().find(|(name, _)| *name == "le");
                    let bound = bound.map_or("", |(_, bound)| bound.as_str());
                    let bound = bound.parse().unwrap_or(f64::INFINITY);
                    histogram.buckets.push((bound, row.value));
                }
            }
        }
        metrics
    }

    /// Adds a value.
    pub fn row(&mut self, labels: &[(&'static str, &str)], value: f64) {
        self.suffixed_row("", labels, value);
    }

    /// Adds a value under a name with a suffix.
    pub fn suffixed_row(
        &mut self,
        suffix: &'static str,
        labels: &[(&'static str, &str)],
        value: f64,
    ) {
        let owned = labels.iter().map(|(n, v)| (*n, (*v).to_owned())).collect();
        self.rows.push(Row {
            suffix,
            labels: owned,
            value,
        });
    }
}

/// A row's labels without one of them.
fn labels_of<'a>(row: &'a Row, without: &str) -> Vec<(Cow<'a, str>, &'a str)> {
    let labels = row.labels.iter().filter(|(name, _)| *name != without);
    labels
        .map(|(name, value)| (Cow::Borrowed(*name), value.as_str()))
        .collect()
}

/// A metric of now.
fn timeless<'a>(labels: Vec<(Cow<'a, str>, &'a str)>, content: Content<'a>) -> Metric<'a> {
    Metric {
        labels,
        content,
        time_ms: None,
    }
}

fn push_labels(out: &mut String, labels: &[(&'static str, String)]) {
    if labels.is_empty() {
        return;
    }
    for (index, (name, value)) in labels.iter().enumerate() {
        out.push(if index == 0 { '{' } else { ',' });
        out.push_str(name);
        out.push_str("=\"");
        push_escaped(out, value);
        out.push('"');
    }
    out.push('}');
}

/// A label's value as the text format escapes it.
pub(crate) fn push_escaped(out: &mut String, value: &str) {
    for character in value.chars() {
        match character {
            '\\' => out.push_str("\\\\"),
            '"' => out.push_str("\\\""),
            '\n' => out.push_str("\\n"),
            other => out.push(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_of_a_histogram_become_one_metric() {
        let mut exposition = Exposition::default();
        let family = exposition.family("h", "", MetricType::Histogram);
        for kind in ["a", "b"] {
            for (le, count) in [("0.5", 1.0), ("+Inf", 2.0)] {
                family.suffixed_row("_bucket", &[("kind", kind), ("le", le)], count);
            }
            family.suffixed_row("_sum", &[("kind", kind)], 1.5);
            family.suffixed_row("_count", &[("kind", kind)], 2.0);
        }
        let family = family.to_metric_family();
        assert_eq!(family.metrics.len(), 2);
        assert_eq!(family.metrics[1].labels, [("kind".into(), "b")]);
        let expected = Classic {
            count: 2.0,
            sum: 1.5,
            buckets: vec![(0.5, 1.0), (f64::INFINITY, 2.0)],
        };
        assert_eq!(family.metrics[1].content, Content::Classic(expected));
    }

    #[test]
    fn families_become_text() {
        let mut exposition = Exposition::default();
        exposition.counter("a_total", "Counts a.", 3.0);
        let family = exposition.family("b", "Measures b.", MetricType::Gauge);
        family.row(&[("path", "x\"\\\n")], 0.5);
        assert_eq!(
            exposition.to_text(),
            "# HELP a_total Counts a.\n# TYPE a_total counter\na_total 3\n\
             # HELP b Measures b.\n# TYPE b gauge\nb{path=\"x\\\"\\\\\\n\"} 0.5\n"
        );
    }
}
