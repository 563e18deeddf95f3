//! Figures of all parts, kept beside the charts that are drawn from them.

use std::collections::BTreeMap;
use std::path::Path;

use chronolith_benches::chart::{Chart, Curve};

use super::Outcome;

/// Curves by name.
#[derive(Default)]
pub(crate) struct Figures(BTreeMap<String, Vec<(f64, f64)>>);

impl Figures {
    /// What was measured earlier; nothing when there is nothing.
    pub(crate) fn load(out: &str) -> Self {
        let mut figures = Self::default();
        let text = std::fs::read_to_string(Path::new(out).join("growth.tsv")).unwrap_or_default();
        for line in text.lines() {
            figures.take(&format!("figure\t{line}"));
        }
        figures
    }

    /// Takes a line if it holds a figure.
    pub(crate) fn take(&mut self, line: &str) -> bool {
        let mut fields = line.split('\t');
        if fields.next() != Some("figure") {
            return false;
        }
        let name = fields.next().unwrap_or_default().to_owned();
        let mut value = || fields.next().and_then(|f| f.parse::<f64>().ok());
        if let (Some(x), Some(y)) = (value(), value()) {
            self.0.entry(name).or_default().push((x, y));
        }
        true
    }

    /// Drops the figures of a part that is measured again.
    pub(crate) fn forget(&mut self, part: &str) {
        let prefix = format!("{part}.");
        self.0.retain(|name, _| !name.starts_with(&prefix));
    }

    fn curve(&self, figure: &str, name: &str) -> Option<Curve> {
        Some(Curve {
            name: name.to_owned(),
            points: self.0.get(figure)?.clone(),
        })
    }

    /// Writes figures and charts.
    pub(crate) fn store(&self, out: &str) -> Outcome {
        if out == "-" {
            return Ok(());
        }
        let dir = Path::new(out);
        std::fs::create_dir_all(dir)?;
        let mut text = String::new();
        for (name, points) in &self.0 {
            for (x, y) in points {
                text.push_str(&format!("{name}\t{x}\t{}\n", (y * 1000.0).round() / 1000.0));
            }
        }
        std::fs::write(dir.join("growth.tsv"), text)?;
        for (file, chart) in self.charts() {
            if !chart.curves.is_empty() {
                std::fs::write(dir.join(file), chart.to_svg())?;
            }
        }
        Ok(())
    }

    fn charts(&self) -> Vec<(&'static str, Chart)> {
        let first = |name: &str| self.0.get(name).and_then(|p| p.first()).map(|p| p.1);
        let chart =
            |title: &str, x: &str, y: &str, target: Option<(f64, &str)>, curves: &[_]| Chart {
                title: title.to_owned(),
                x_label: x.to_owned(),
                y_label: y.to_owned(),
                x_log: x.contains("series"),
                target: target.map(|(value, name)| (value, name.to_owned())),
                curves: curves
                    .iter()
                    .filter_map(|(figure, name): &(&str, &str)| self.curve(figure, name))
                    .collect(),
            };
        let at_most = |figure: &str, factor: f64| first(figure).map(|value| value * factor);
        let cpu_target = at_most("ingest.cpu_ns_sealed", 1.5);
        let hour_target = at_most("history.last_hour", 1.2);
        let memory: Vec<_> = self.memory_curves();
        let memory: Vec<_> = memory
            .iter()
            .map(|(f, n)| (f.as_str(), n.as_str()))
            .collect();
        vec![
            (
                "growth_ingest.svg",
                chart(
                    "Ingest: CPU time per sample",
                    "active series",
                    "ns of CPU",
                    cpu_target.map(|value| (value, "1.5 x the smallest")),
                    &[
                        ("ingest.cpu_ns", "append, seals under way"),
                        ("ingest.cpu_ns_sealed", "until all is sealed"),
                    ],
                ),
            ),
            (
                "growth_memory.svg",
                chart(
                    "Memory per active series, scrape by scrape",
                    "scrapes",
                    "bytes",
                    Some((800.0, "800 bytes")),
                    &memory,
                ),
            ),
            (
                "growth_history.svg",
                chart(
                    "One hour, asked of a growing history",
                    "days of history",
                    "us of CPU",
                    hour_target.map(|value| (value, "1.2 x one day")),
                    &[
                        ("history.last_hour", "one metric, last hour"),
                        ("history.old_hour", "one metric, an hour in the middle"),
                        ("history.regex", "one metric and a regex"),
                        ("history.one_host", "all series of one host"),
                    ],
                ),
            ),
            (
                "growth_open.svg",
                chart(
                    "Opening a store of churned series",
                    "churned series",
                    "ms, MB",
                    None,
                    &[
                        ("churn.open_ms", "time to open, ms"),
                        ("churn.open_anonymous_mb", "memory, MB"),
                        ("churn.open_resident_mb", "memory with mapped pages, MB"),
                    ],
                ),
            ),
            (
                "growth_churn.svg",
                chart(
                    "One hour, asked of a store of churned series",
                    "churned series",
                    "us of CPU",
                    None,
                    &[
                        ("churn.query_deployment", "one metric, one deployment"),
                        ("churn.query_prefix", "regex with a literal prefix"),
                        ("churn.query_contains", "regex without"),
                    ],
                ),
            ),
        ]
    }

    fn memory_curves(&self) -> Vec<(String, String)> {
        let of = |prefix: &str, what: &str| -> Vec<(String, String)> {
            let names = self.0.keys().filter_map(|name| {
                let series = name.strip_prefix(prefix)?;
                (series.parse::<u64>().ok()? >= 1_000_000)
                    .then(|| (name.clone(), format!("{what}, {series} series")))
            });
            names.collect()
        };
        let mut curves = of("ingest.memory.", "anonymous memory of the process");
        curves.extend(of("ingest.accounted.", "accounted by the engine"));
        curves
    }

    /// All figures, to read.
    pub(crate) fn print(&self) {
        println!();
        for (name, points) in &self.0 {
            if points.len() <= 8 {
                let points: Vec<_> = points.iter().map(|(x, y)| format!("{x}: {y:.2}")).collect();
                println!("{name:32} {}", points.join("  "));
            }
        }
    }
}
