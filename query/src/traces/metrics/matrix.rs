//! An answer as a PromQL matrix, for whoever already writes those.

use chronolith_engine::model::Labels;

use super::series::label_text;
use super::{MetricsAnswer, TraceSeries};
use crate::promql::result::{FloatPoint, Series};

impl MetricsAnswer {
    /// The series with their labels as Prometheus' text. A series whose labels cannot be stored as labels
    /// (names twice, more than fits) is left out.
    #[must_use]
    pub fn to_matrix(&self) -> Vec<Series> {
        self.series
            .iter()
            .filter_map(|series| self.to_series(series))
            .collect()
    }

    fn to_series(&self, series: &TraceSeries) -> Option<Series> {
        let labels = series.labels.iter();
        let labels = labels.map(|(name, value)| (name.as_str(), label_text(value)));
        let points = series
            .values
            .iter()
            .enumerate()
            .filter(|(_, value)| !value.is_nan());
        Some(Series {
            labels: Labels::from_pairs(labels).ok()?,
            floats: points
                .map(|(step, value)| FloatPoint {
                    time_ms: self.steps.time_ms(step),
                    value: *value,
                })
                .collect(),
            histograms: Vec::new(),
        })
    }
}
