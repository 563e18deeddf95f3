//! Loads the sample telemetry of `chronolith-datasets` into a store.
//!
//! Classic histograms are stored as such and, as a scrape with
//! `convert_classic_histograms_to_nhcb` and `always_scrape_classic_histograms` would, also as
//! native histograms with custom buckets under the bare name, so that
//! `histogram_quantile(0.95, pipeline_duration_seconds)` answers.

use std::collections::HashMap;

use chronolith_datasets::{MetricKind, Telemetry};
use chronolith_engine::model::{Labels, METRIC_NAME, Metadata, MetricType, TimestampNs};
use chronolith_engine::{EngineError, RequestContext, Store};

use crate::scrape::nhcb::{self, Part};

/// What was loaded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Loaded {
    /// Series, native histograms included.
    pub series: usize,
    /// Samples, native histograms included.
    pub samples: usize,
}

/// The series that make up one classic histogram.
#[derive(Debug, Default)]
struct Family {
    labels: Labels,
    members: Vec<(usize, Part)>,
}

/// Loads all metrics, one append per batch; `progress` is told the number of samples so far.
///
/// # Errors
/// When the store refuses.
pub fn load_metrics(
    store: &Store,
    context: &RequestContext,
    telemetry: &Telemetry,
    mut progress: impl FnMut(usize),
) -> Result<Loaded, EngineError> {
    let labels = telemetry
        .series()
        .iter()
        .map(|series| Labels::from_pairs(series.labels.iter().map(|(n, v)| (n, v))))
        .collect::<Result<Vec<_>, _>>()
        .map_err(|e| EngineError::InvalidArgument(format!("sample telemetry: {e}")))?;
    let families = families(telemetry, &labels);
    let mut loaded = Loaded {
        series: labels.len() + families.len(),
        samples: 0,
    };
    let mut metadata_pending = true;
    for batch in telemetry.metrics() {
        let mut append = store.begin(context)?;
        if std::mem::take(&mut metadata_pending) {
            for metric in telemetry.metadata() {
                append.metadata(
                    metric.name,
                    Metadata {
                        metric_type: metric_type(metric.kind),
                        unit: metric.unit.to_owned(),
                        help: metric.help.to_owned(),
                    },
                );
            }
        }
        let mut column_of_series = vec![None; labels.len()];
        for (index, column) in batch.columns.iter().enumerate() {
            column_of_series[column.series] = Some(index);
            let series = append.define(None, &labels[column.series])?;
            for sample in &column.samples {
                append.sample(
                    series,
                    TimestampNs::from_millis_saturating(sample.timestamp_ms),
                    sample.value,
                );
            }
            loaded.samples += column.samples.len();
        }
        for family in &families {
            let mut collector: HashMap<i64, nhcb::Group> = HashMap::new();
            for &(series, part) in &family.members {
                let Some(column) = column_of_series[series] else {
                    continue;
                };
                for sample in batch.columns[column]
                    .samples
                    .iter()
                    .filter(|s| !s.is_stale())
                {
                    collector
                        .entry(sample.timestamp_ms)
                        .or_default()
                        .add(part, sample.value);
                }
            }
            let mut points: Vec<_> = collector
                .into_iter()
                .filter_map(|(at_ms, group)| Some((at_ms, group.finish()?)))
                .collect();
            points.sort_by_key(|(at_ms, _)| *at_ms);
            if points.is_empty() {
                continue;
            }
            let series = append.define(None, &family.labels)?;
            loaded.samples += points.len();
            for (at_ms, histogram) in points {
                let time = TimestampNs::from_millis_saturating(at_ms);
                append.histogram(series, time, None, histogram.into());
            }
        }
        append.commit()?;
        progress(loaded.samples);
    }
    Ok(loaded)
}

fn families(telemetry: &Telemetry, labels: &[Labels]) -> Vec<Family> {
    let histograms: Vec<&str> = telemetry
        .metadata()
        .iter()
        .filter(|metric| matches!(metric.kind, MetricKind::Histogram))
        .map(|metric| metric.name)
        .collect();
    let mut by_labels: HashMap<Labels, Family> = HashMap::new();
    for (index, set) in labels.iter().enumerate() {
        let Some((part, whole)) = nhcb::classify(set) else {
            continue;
        };
        if whole
            .get(METRIC_NAME)
            .is_some_and(|name| histograms.contains(&name))
        {
            let family = by_labels.entry(whole.clone()).or_default();
            family.labels = whole;
            family.members.push((index, part));
        }
    }
    let mut families: Vec<Family> = by_labels.into_values().collect();
    families.sort_by(|a, b| a.labels.cmp(&b.labels));
    families
}

fn metric_type(kind: MetricKind) -> MetricType {
    match kind {
        MetricKind::Counter => MetricType::Counter,
        MetricKind::Gauge => MetricType::Gauge,
        MetricKind::Histogram => MetricType::Histogram,
        MetricKind::Summary => MetricType::Summary,
    }
}
