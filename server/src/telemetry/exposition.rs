//! Metric families at one moment, to be written as text or stored as samples.

use std::fmt::Write as _;

use chronolith_engine::model::MetricType;

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
