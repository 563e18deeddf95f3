//! Samples of metric series, and what accompanies them.

use std::sync::Arc;

use super::{Histogram, Labels, TimestampNs};

/// Bits of the NaN that marks the end of a series (Prometheus' staleness marker).
pub const STALE_NAN_BITS: u64 = 0x7ff0_0000_0000_0002;

/// Whether `value` is the staleness marker. Other NaNs are ordinary values.
#[inline]
#[must_use]
pub fn is_stale(value: f64) -> bool {
    value.to_bits() == STALE_NAN_BITS
}

/// A small integer naming a metric series inside one open store.
///
/// Given out by the append session, valid as long as that session; never reused for another
/// series while the store is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SeriesRef(pub u64);

/// One histogram sample of a series.
#[derive(Clone, Debug, PartialEq)]
pub struct HistogramSample {
    /// When.
    pub time: TimestampNs,
    /// What.
    pub histogram: Arc<Histogram>,
    /// When the counter began, if the writer said so.
    pub start_time: Option<TimestampNs>,
}

/// The samples of one series in a range, oldest first, one per timestamp: columns of equal length.
///
/// Made to be reused: [`SampleColumns::clear`] keeps the allocations, and `timestamps` and `values`
/// can be moved into Arrow buffers without a copy.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SampleColumns {
    /// Times of the float samples, nanoseconds, ascending without duplicates.
    pub timestamps: Vec<i64>,
    /// Values of the float samples, bit-exact.
    pub values: Vec<f64>,
    /// Start times of the float samples in nanoseconds, 0 where unknown; empty when none is known.
    pub start_timestamps: Vec<i64>,
    /// The histogram samples, oldest first. No timestamp is in both kinds: the later arrival won.
    pub histograms: Vec<HistogramSample>,
}

impl SampleColumns {
    /// Forgets the samples and keeps the memory.
    pub fn clear(&mut self) {
        self.timestamps.clear();
        self.values.clear();
        self.start_timestamps.clear();
        self.histograms.clear();
    }

    /// How many samples of either kind there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.timestamps.len() + self.histograms.len()
    }

    /// Whether there is no sample of either kind.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.timestamps.is_empty() && self.histograms.is_empty()
    }
}

/// A single observation attached to a series, usually with a trace id among its labels.
#[derive(Clone, Debug, PartialEq)]
pub struct Exemplar {
    /// Labels of the exemplar itself, not of its series.
    pub labels: Labels,
    /// The observed value.
    pub value: f64,
    /// When it was observed.
    pub time: TimestampNs,
}

/// What kind of metric a name stands for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum MetricType {
    /// Not said.
    #[default]
    Unknown = 0,
    /// Goes up, restarts at zero.
    Counter = 1,
    /// Goes up and down.
    Gauge = 2,
    /// Counts observations per bucket.
    Histogram = 3,
    /// A histogram whose buckets may fall.
    GaugeHistogram = 4,
    /// Quantiles computed by the client.
    Summary = 5,
    /// Constant 1 with labels that say something.
    Info = 6,
    /// One of several states.
    StateSet = 7,
}

impl MetricType {
    /// From its stored number (the numbers of remote write's `MetricMetadata.MetricType`).
    #[must_use]
    pub fn from_u8(number: u8) -> Option<Self> {
        use MetricType as T;
        [
            T::Unknown,
            T::Counter,
            T::Gauge,
            T::Histogram,
            T::GaugeHistogram,
            T::Summary,
            T::Info,
            T::StateSet,
        ]
        .get(usize::from(number))
        .copied()
    }

    /// The word of the exposition formats and of the metadata API.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
            Self::GaugeHistogram => "gaugehistogram",
            Self::Summary => "summary",
            Self::Info => "info",
            Self::StateSet => "stateset",
        }
    }
}

/// Type, unit and help text of a metric name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Metadata {
    /// The kind of metric.
    pub metric_type: MetricType,
    /// Its unit, or empty.
    pub unit: String,
    /// Its help text, or empty.
    pub help: String,
}
