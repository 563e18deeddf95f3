//! The range functions: one value out of the samples of one series in one window.
//!
//! [`RangeKind`] names them; [`RangeKind::evaluate`] computes a step. What can be computed once for
//! a series instead of once per step ([`SeriesFacts`]: where a counter was reset) is: windows
//! overlap.

use crate::promql::annotations::{Annotation, Annotations};
use crate::promql::ast::PosRange;
use crate::promql::batch::SeriesSamples;
use crate::promql::histogram::Histogram;

use super::window::{Window, is_start_reset, starts_overlap};
use super::{extended, over_time, rate, trend};

/// A range function.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "each variant is the function of that name")]
pub enum RangeKind {
    Rate,
    Increase,
    Delta,
    Irate,
    Idelta,
    Resets,
    Changes,
    Deriv,
    PredictLinear,
    DoubleExponentialSmoothing,
    AvgOverTime,
    SumOverTime,
    CountOverTime,
    MinOverTime,
    MaxOverTime,
    StddevOverTime,
    StdvarOverTime,
    FirstOverTime,
    LastOverTime,
    PresentOverTime,
    QuantileOverTime,
    MadOverTime,
    TsOfMinOverTime,
    TsOfMaxOverTime,
    TsOfFirstOverTime,
    TsOfLastOverTime,
}

/// What a function makes of a window.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// A float.
    Float(f64),
    /// A histogram.
    Histogram(Box<Histogram>),
}

/// What a function knows besides the window.
#[derive(Debug)]
pub struct Scope<'a> {
    /// The series' metric name, for remarks.
    pub metric: &'a str,
    /// Where the range argument stands, for remarks.
    pub pos: PosRange,
    /// Where the scalar argument stands.
    pub scalar_pos: PosRange,
    /// The scalar arguments at this step.
    pub scalars: [f64; 2],
    /// What was found out about the series.
    pub facts: &'a SeriesFacts,
    /// Where remarks go.
    pub notes: &'a mut Annotations,
    /// Room for values to be sorted.
    pub scratch: &'a mut Vec<f64>,
}

impl Scope<'_> {
    /// Adds a remark.
    pub fn note(&mut self, annotation: Annotation) {
        self.notes.add(annotation);
    }
}

/// What is computed once per series.
#[derive(Debug, Default)]
pub struct SeriesFacts {
    /// Indexes of floats before which the counter was reset, ascending.
    pub resets: Vec<u32>,
    /// Indexes of samples whose start time lies before the sample in front of them.
    pub overlaps: Vec<u32>,
}

impl SeriesFacts {
    /// Finds out what `kind` needs to know.
    pub fn find(&mut self, kind: RangeKind, samples: &SeriesSamples<'_>) {
        self.resets.clear();
        self.overlaps.clear();
        if !kind.is_counter() {
            return;
        }
        let SeriesSamples {
            times,
            values,
            starts,
            ..
        } = *samples;
        if starts.is_empty() {
            let pairs = values.windows(2).enumerate();
            self.resets.extend(
                pairs
                    .filter(|(_, v)| v[1] < v[0])
                    .map(|(i, _)| i as u32 + 1),
            );
            return;
        }
        for i in 1..values.len() {
            let by_start = is_start_reset(starts[i - 1], times[i - 1], starts[i], times[i]);
            if values[i] < values[i - 1] || by_start {
                self.resets.push(i as u32);
            }
            if starts_overlap(starts[i - 1], times[i - 1], starts[i]) {
                self.overlaps.push(i as u32);
            }
        }
    }

    /// Those of `indexes` that lie behind the window's first float.
    pub fn inside<'a>(indexes: &'a [u32], window: &Window<'_>) -> &'a [u32] {
        let (first, end) = (
            window.first as u32,
            (window.first + window.times.len()) as u32,
        );
        let from = indexes.partition_point(|&i| i <= first);
        let to = indexes.partition_point(|&i| i < end);
        indexes.get(from..to).unwrap_or(&[])
    }
}

impl RangeKind {
    /// The function of that name.
    pub fn lookup(name: &str) -> Option<Self> {
        Some(match name {
            "rate" => Self::Rate,
            "increase" => Self::Increase,
            "delta" => Self::Delta,
            "irate" => Self::Irate,
            "idelta" => Self::Idelta,
            "resets" => Self::Resets,
            "changes" => Self::Changes,
            "deriv" => Self::Deriv,
            "predict_linear" => Self::PredictLinear,
            "double_exponential_smoothing" => Self::DoubleExponentialSmoothing,
            "avg_over_time" => Self::AvgOverTime,
            "sum_over_time" => Self::SumOverTime,
            "count_over_time" => Self::CountOverTime,
            "min_over_time" => Self::MinOverTime,
            "max_over_time" => Self::MaxOverTime,
            "stddev_over_time" => Self::StddevOverTime,
            "stdvar_over_time" => Self::StdvarOverTime,
            "first_over_time" => Self::FirstOverTime,
            "last_over_time" => Self::LastOverTime,
            "present_over_time" | "absent_over_time" => Self::PresentOverTime,
            "quantile_over_time" => Self::QuantileOverTime,
            "mad_over_time" => Self::MadOverTime,
            "ts_of_min_over_time" => Self::TsOfMinOverTime,
            "ts_of_max_over_time" => Self::TsOfMaxOverTime,
            "ts_of_first_over_time" => Self::TsOfFirstOverTime,
            "ts_of_last_over_time" => Self::TsOfLastOverTime,
            _ => return None,
        })
    }

    /// Whether resets of counters matter.
    pub fn is_counter(self) -> bool {
        matches!(
            self,
            Self::Rate | Self::Increase | Self::Irate | Self::Resets
        )
    }

    /// Whether the result is still a value of the metric, so that the name stays.
    pub fn keeps_name(self) -> bool {
        matches!(self, Self::FirstOverTime | Self::LastOverTime)
    }

    /// Computes one step; `None`: the series has no value there. The window has a sample.
    ///
    /// # Errors
    /// A message for the user: an argument is out of its range.
    pub fn evaluate(
        self,
        window: &Window<'_>,
        scope: &mut Scope<'_>,
    ) -> Result<Option<Outcome>, String> {
        Ok(match self {
            Self::Rate => rate::extrapolated(window, scope, true, true),
            Self::Increase => rate::extrapolated(window, scope, true, false),
            Self::Delta => rate::extrapolated(window, scope, false, false),
            Self::Irate => rate::instant(window, scope, true),
            Self::Idelta => rate::instant(window, scope, false),
            Self::Resets => rate::resets(window),
            Self::Changes => rate::changes(window),
            Self::Deriv => trend::deriv(window, scope),
            Self::PredictLinear => trend::predict_linear(window, scope),
            Self::DoubleExponentialSmoothing => trend::double_exponential(window, scope)?,
            Self::AvgOverTime => over_time::avg(window, scope),
            Self::SumOverTime => over_time::sum(window, scope),
            Self::CountOverTime => over_time::count(window),
            Self::MinOverTime => over_time::min(window, scope).map(Outcome::Float),
            Self::MaxOverTime => over_time::max(window, scope).map(Outcome::Float),
            Self::StddevOverTime => {
                over_time::variance(window, scope).map(|v| Outcome::Float(v.sqrt()))
            }
            Self::StdvarOverTime => over_time::variance(window, scope).map(Outcome::Float),
            Self::FirstOverTime => over_time::first(window),
            Self::LastOverTime => over_time::last(window),
            Self::PresentOverTime => Some(Outcome::Float(1.0)),
            Self::QuantileOverTime => over_time::quantile_over_time(window, scope),
            Self::MadOverTime => over_time::mad(window, scope),
            Self::TsOfMinOverTime => over_time::time_of_extreme(window, scope, false),
            Self::TsOfMaxOverTime => over_time::time_of_extreme(window, scope, true),
            Self::TsOfFirstOverTime => over_time::time_of_end(window, false),
            Self::TsOfLastOverTime => over_time::time_of_end(window, true),
        })
    }

    /// As [`evaluate`](Self::evaluate) for a window of an `anchored` or `smoothed` selector, whose
    /// samples reach beyond it.
    ///
    /// # Errors
    /// A message for the user.
    pub fn evaluate_extended(
        self,
        window: &Window<'_>,
        scope: &mut Scope<'_>,
        smoothed: bool,
    ) -> Result<Option<Outcome>, String> {
        Ok(match self {
            Self::Rate => extended::rate(window, scope, smoothed, true, true),
            Self::Increase => extended::rate(window, scope, smoothed, true, false),
            Self::Delta => extended::rate(window, scope, smoothed, false, false),
            Self::Resets => extended::anchored_window(window).and_then(|w| rate::resets(&w)),
            Self::Changes => extended::anchored_window(window).and_then(|w| rate::changes(&w)),
            _ => None,
        })
    }
}
