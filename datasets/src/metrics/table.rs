//! The series table: every series with its labels, once; all else refers to series by slot.

use std::collections::HashMap;

use super::catalogue::family;
use crate::world::REGIONS;

/// Position of a series in the table, and of its current value in the walk's slots.
pub(crate) type Slot = usize;

/// One series of the sample telemetry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Series {
    /// Sorted by name; the metric name is the label `__name__`.
    pub labels: Vec<(String, String)>,
    /// Index of its family in [`Telemetry::metadata`](crate::Telemetry::metadata).
    pub family: usize,
}

impl Series {
    /// The metric name.
    pub fn name(&self) -> &str {
        self.label("__name__").unwrap_or_default()
    }

    /// The value of a label.
    pub fn label(&self, name: &str) -> Option<&str> {
        self.labels
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    }
}

/// Whether a restart sets the series back to zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Behaviour {
    /// Counts; zero after a restart.
    Counter,
    /// Counts; exposed only once it has counted something.
    CounterOnFirstUse,
    /// Keeps its value.
    Gauge,
}

/// A scraped endpoint.
#[derive(Debug)]
pub(crate) struct Target {
    pub(crate) job: &'static str,
    pub(crate) instance: String,
    /// Its `up` series.
    pub(crate) up: Slot,
    /// Its series, without `up`.
    pub(crate) slots: Vec<Slot>,
}

/// All series and targets.
#[derive(Debug)]
pub(crate) struct SeriesTable {
    pub(crate) series: Vec<Series>,
    pub(crate) behaviour: Vec<Behaviour>,
    pub(crate) targets: Vec<Target>,
    by_labels: HashMap<Vec<(String, String)>, Slot>,
}

impl SeriesTable {
    pub(crate) fn new() -> Self {
        Self {
            series: Vec::new(),
            behaviour: Vec::new(),
            targets: Vec::new(),
            by_labels: HashMap::new(),
        }
    }

    /// The target of this job on this host, made if new. `port` makes the instance.
    pub(crate) fn target(&mut self, job: &'static str, host: &str, port: u16) -> usize {
        let instance = format!("{host}:{port}");
        let known = self
            .targets
            .iter()
            .position(|target| target.job == job && target.instance == instance);
        if let Some(known) = known {
            return known;
        }
        let target = self.targets.len();
        self.targets.push(Target {
            job,
            instance,
            up: 0,
            slots: Vec::new(),
        });
        self.targets[target].up = self.register(target, "up", "up", Behaviour::Gauge, &[]);
        self.targets[target].slots.clear();
        target
    }

    /// The slot of a series, made if new. The labels of the target (job, instance, and the region
    /// of a regional host) are added.
    pub(crate) fn register(
        &mut self,
        target: usize,
        name: &str,
        family_name: &str,
        behaviour: Behaviour,
        labels: &[(&str, &str)],
    ) -> Slot {
        let Target { job, instance, .. } = &self.targets[target];
        let mut all: Vec<(String, String)> = labels
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect();
        all.push(("__name__".to_owned(), name.to_owned()));
        all.push(("job".to_owned(), (*job).to_owned()));
        all.push(("instance".to_owned(), instance.clone()));
        let host = instance.split(':').next().unwrap_or_default();
        if let Some(region) = REGIONS.iter().find(|region| region.runner == host) {
            all.push(("region".to_owned(), region.name.to_owned()));
        }
        all.sort();
        if let Some(&slot) = self.by_labels.get(&all) {
            return slot;
        }
        let slot = self.series.len();
        self.by_labels.insert(all.clone(), slot);
        self.series.push(Series {
            labels: all,
            family: family(family_name),
        });
        self.behaviour.push(behaviour);
        self.targets[target].slots.push(slot);
        slot
    }

    /// A series whose metric name is its family name.
    pub(crate) fn plain(
        &mut self,
        target: usize,
        name: &str,
        behaviour: Behaviour,
        labels: &[(&str, &str)],
    ) -> Slot {
        self.register(target, name, name, behaviour, labels)
    }

    /// The series of a classic histogram with these upper bounds (`+Inf` is added).
    pub(crate) fn histogram(
        &mut self,
        target: usize,
        name: &str,
        bounds: &[f64],
        labels: &[(&str, &str)],
    ) -> HistogramSlots {
        let buckets = bounds
            .iter()
            .copied()
            .chain([f64::INFINITY])
            .map(|bound| {
                let text = if bound.is_infinite() {
                    "+Inf".to_owned()
                } else {
                    bound.to_string()
                };
                let mut with_bound = labels.to_vec();
                with_bound.push(("le", &text));
                let bucket = format!("{name}_bucket");
                (
                    bound,
                    self.register(target, &bucket, name, Behaviour::Counter, &with_bound),
                )
            })
            .collect();
        let mut part = |suffix: &str| {
            self.register(
                target,
                &format!("{name}_{suffix}"),
                name,
                Behaviour::Counter,
                labels,
            )
        };
        HistogramSlots {
            buckets,
            sum: part("sum"),
            count: part("count"),
        }
    }
}

/// The slots of one classic histogram.
#[derive(Debug, Clone)]
pub(crate) struct HistogramSlots {
    /// Upper bound and slot, ascending; the last bound is infinite.
    pub(crate) buckets: Vec<(f64, Slot)>,
    pub(crate) sum: Slot,
    pub(crate) count: Slot,
}
