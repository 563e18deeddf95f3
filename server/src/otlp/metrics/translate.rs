//! From an export request to one append.
//!
//! The request is walked once, without a tree: resource, scope, metric, data point. A data point
//! whose attributes were seen before costs a hash and a look-up; labels are made only for those that
//! were not. A data point is stored whole (all buckets of a histogram) or refused with a reason, and
//! refusals hold nobody else back. Malformed bytes refuse the request.

use std::collections::HashSet;
use std::sync::Arc;

use chronolith_engine::model::{
    Histogram, METRIC_NAME, Metadata, MetricType, STALE_NAN_BITS, SeriesRef, TimestampNs,
};
use chronolith_engine::{Append, EngineError, RequestContext, Store};
use xxhash_rust::xxh3::xxh3_128;

use super::delta::{DeltaSession, Deltas};
use super::exemplar::exemplar;
use super::histogram;
use super::labels::{LabelError, LabelMap, LabelRules, ResourceLabels, TARGET_INFO};
use super::message::{
    Content, Explicit, Exponential, Kind, MessageError, Metric, Number, Point, PointHead,
    QUANTILES_MAX, ResourceMetrics, ScopeMetrics, Summary, Temporality, for_each_message,
};
use super::names::{NameKind, unit_words};
use crate::config::OtlpConfig;
use crate::ingest::append::{Counts, TimeLimits};
use crate::otlp::attributes::{AttributeError, Attributes};
use crate::otlp::partial::Rejections;

/// Field of the `ResourceMetrics` in a request.
const RESOURCES: u32 = 1;
/// Stands before the keys of OTLP's series, so that no other protocol's bytes are like them: neither
/// labels nor lengths begin so.
const KEY_PREFIX: [u8; 8] = [0xff; 8];
/// Samples of `target_info` that one request may add between the first and the last of a resource.
const TARGET_INFO_SAMPLES_MAX: i64 = 10_000;

/// What happens to deltas.
#[derive(Clone, Debug)]
pub enum DeltaMode {
    /// They are refused.
    Refused,
    /// They are stored as they come (`otlp-native-delta-ingestion`).
    Native,
    /// They are added up (`otlp-deltatocumulative`).
    AddedUp(Arc<Deltas>),
}

/// The rules in force.
#[derive(Clone, Debug)]
pub struct Translator {
    labels: LabelRules,
    histograms_to_nhcb: bool,
    deltas: DeltaMode,
    target_info_interval_ms: i64,
}

impl Translator {
    /// As the configuration has it. `lookback_ms` is how far back a query looks for a sample.
    #[must_use]
    pub fn new(
        config: &OtlpConfig,
        type_and_unit: bool,
        deltas: DeltaMode,
        lookback_ms: i64,
    ) -> Self {
        Self {
            labels: LabelRules::new(config, type_and_unit),
            histograms_to_nhcb: config.convert_histograms_to_nhcb,
            deltas,
            target_info_interval_ms: (lookback_ms / 2).max(1),
        }
    }

    /// The same with another section `otlp:`; the totals of deltas go on.
    #[must_use]
    pub fn reconfigured(&self, config: &OtlpConfig) -> Self {
        Self {
            labels: self.labels.reconfigured(config),
            histograms_to_nhcb: config.convert_histograms_to_nhcb,
            deltas: self.deltas.clone(),
            target_info_interval_ms: self.target_info_interval_ms,
        }
    }

    /// What happens to deltas.
    #[must_use]
    pub fn deltas(&self) -> &DeltaMode {
        &self.deltas
    }
}

/// A request that is ready to be committed.
pub struct Prepared<'a> {
    /// The append.
    pub append: Append<'a>,
    /// What it holds.
    pub counts: Counts,
    /// Data points that it stands for.
    pub points: u64,
    /// What was refused.
    pub rejections: Rejections,
    /// Data points among the refused whose series are beyond the tenant's limits.
    pub over_limit: u64,
    /// Additions to be kept when it is stored.
    pub deltas: Option<DeltaSession>,
}

/// Why a whole request is refused.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// The bytes are wrong.
    #[error(transparent)]
    Message(#[from] MessageError),
    /// The store refuses.
    #[error(transparent)]
    Engine(#[from] EngineError),
}

/// Puts an `ExportMetricsServiceRequest` into one append. `now_ms` is the time of its arrival.
///
/// # Errors
/// Malformed bytes, or the store refuses; nothing is stored then.
pub fn prepare<'a>(
    store: &'a Store,
    context: &RequestContext,
    translator: &Translator,
    request: &[u8],
    times: TimeLimits,
    now_ms: i64,
) -> Result<Prepared<'a>, Refusal> {
    let deltas = match &translator.deltas {
        DeltaMode::AddedUp(deltas) => Some(deltas.session(context.tenant.clone(), now_ms)),
        DeltaMode::Refused | DeltaMode::Native => None,
    };
    let mut pass = Pass {
        store,
        translator,
        times,
        prepared: Prepared {
            append: store.begin(context)?,
            counts: Counts::default(),
            points: 0,
            rejections: Rejections::default(),
            over_limit: 0,
            deltas,
        },
        key: Vec::new(),
        series: Vec::new(),
        span: None,
        target_infos: HashSet::new(),
        target_info_left: TARGET_INFO_SAMPLES_MAX,
    };
    for_each_message(request, RESOURCES, |message| pass.resource(message))?;
    Ok(pass.prepared)
}

/// Why a data point is not stored.
enum PointError {
    /// The whole request is refused.
    Request(Refusal),
    /// It cannot be.
    Rejected(String),
    /// Its series is new and the tenant's limits have no room for it.
    OverLimit(String),
}

impl From<MessageError> for PointError {
    fn from(error: MessageError) -> Self {
        Self::Request(error.into())
    }
}

impl From<LabelError> for PointError {
    fn from(error: LabelError) -> Self {
        match error {
            LabelError::Attribute(AttributeError::Wire(error)) => MessageError::from(error).into(),
            other => Self::Rejected(other.to_string()),
        }
    }
}

impl From<EngineError> for PointError {
    fn from(error: EngineError) -> Self {
        match error {
            EngineError::InvalidArgument(reason) => Self::Rejected(reason),
            EngineError::LimitExceeded(reason) => Self::OverLimit(reason),
            other => Self::Request(other.into()),
        }
    }
}

impl From<String> for PointError {
    fn from(reason: String) -> Self {
        Self::Rejected(reason)
    }
}

/// What surrounds a data point.
struct Surroundings<'a> {
    metric: &'a Metric<'a>,
    name: String,
    metadata: Metadata,
    resource: &'a ResourceLabels,
    scope: &'a LabelMap,
    hash: u128,
}

/// One of the series of a data point.
#[derive(Clone, Copy)]
enum Part {
    Whole,
    Sum,
    Count,
    Bucket(f64),
    Quantile(f64),
}

impl Part {
    fn suffix(self) -> &'static str {
        match self {
            Self::Whole | Self::Quantile(_) => "",
            Self::Sum => "_sum",
            Self::Count => "_count",
            Self::Bucket(_) => "_bucket",
        }
    }

    fn extra(self) -> Option<(&'static str, String)> {
        match self {
            Self::Whole | Self::Sum | Self::Count => None,
            Self::Bucket(bound) => Some(("le", positional(bound))),
            Self::Quantile(quantile) => Some(("quantile", positional(quantile))),
        }
    }

    fn key(self) -> (u8, u64) {
        match self {
            Self::Whole => (0, 0),
            Self::Sum => (1, 0),
            Self::Count => (2, 0),
            Self::Bucket(bound) => (3, bound.to_bits()),
            Self::Quantile(quantile) => (4, quantile.to_bits()),
        }
    }
}

/// A number without an exponent, as Go's `'f'` format has it.
fn positional(value: f64) -> String {
    if value.is_infinite() {
        return if value > 0.0 { "+Inf" } else { "-Inf" }.to_owned();
    }
    value.to_string()
}

/// One walk over a request.
struct Pass<'a, 't> {
    store: &'a Store,
    translator: &'t Translator,
    times: TimeLimits,
    prepared: Prepared<'a>,
    /// Bytes that name the series of the data point at hand.
    key: Vec<u8>,
    /// The series of the data point at hand, looked up before anything of it is stored.
    series: Vec<SeriesRef>,
    /// First and last time of the resource at hand, in milliseconds.
    span: Option<(i64, i64)>,
    target_infos: HashSet<(SeriesRef, i64)>,
    target_info_left: i64,
}

impl Pass<'_, '_> {
    fn resource(&mut self, message: &[u8]) -> Result<(), Refusal> {
        let found = ResourceMetrics::read(message)?;
        let labels = match self.translator.labels.resource(found.attributes) {
            Ok(labels) => labels,
            Err(error) => {
                let mut points = 0;
                for_each_message(message, ResourceMetrics::SCOPES, |scope| {
                    points += count_points(scope)?;
                    Ok::<_, MessageError>(())
                })?;
                return self.refuse(points, error.into());
            }
        };
        self.span = None;
        for_each_message(message, ResourceMetrics::SCOPES, |scope| {
            self.scope(scope, &labels)
        })?;
        match self.target_info(found.attributes, &labels) {
            Ok(()) => Ok(()),
            Err(error) => self.refuse(0, error),
        }
    }

    fn scope(&mut self, message: &[u8], resource: &ResourceLabels) -> Result<(), Refusal> {
        let found = ScopeMetrics::read(message)?;
        let scope = match self.translator.labels.scope(&found) {
            Ok(scope) => scope,
            Err(error) => return self.refuse(count_points(message)?, error.into()),
        };
        for_each_message(message, ScopeMetrics::METRICS, |message| {
            let metric = Metric::read(message)?;
            match self.metric(&metric, resource, &scope) {
                Ok(()) => Ok(()),
                Err(error) => self.refuse(metric.point_count()?, error),
            }
        })
    }

    /// Counts refused data points; fails when the request cannot go on.
    fn refuse(&mut self, points: u64, error: PointError) -> Result<(), Refusal> {
        match error {
            PointError::Request(refusal) => return Err(refusal),
            PointError::Rejected(reason) => self.prepared.rejections.add(points, reason),
            PointError::OverLimit(reason) => {
                self.prepared.over_limit += points;
                self.prepared.rejections.add(points, reason);
            }
        }
        Ok(())
    }

    /// Fails where no data point of the metric can be stored.
    fn metric(
        &mut self,
        metric: &Metric<'_>,
        resource: &ResourceLabels,
        scope: &LabelMap,
    ) -> Result<(), PointError> {
        let deltas_welcome = !matches!(self.translator.deltas, DeltaMode::Refused);
        match metric.temporality {
            Temporality::Cumulative => {}
            Temporality::Delta if deltas_welcome => {}
            Temporality::Delta | Temporality::Unspecified => {
                let name = metric.name;
                return Err(format!(
                    "invalid temporality and type combination for metric {name:?}"
                )
                .into());
            }
        }
        let kind = match metric.kind {
            Kind::Gauge => NameKind::Gauge,
            Kind::Sum { monotonic: true } => NameKind::MonotonicSum,
            _ => NameKind::Other,
        };
        let names = &self.translator.labels.names;
        let name = names.metric(metric.name, metric.unit, kind)?;
        let metadata = Metadata {
            metric_type: self.metric_type(metric),
            unit: unit_words(metric.unit),
            help: metric.description.to_owned(),
        };
        self.prepared.append.metadata(&name, metadata.clone());
        let at = Surroundings {
            metric,
            hash: (self.translator.labels).context_hash(resource, scope, &name, &metadata),
            name,
            metadata,
            resource,
            scope,
        };
        let mut empty = true;
        metric.for_each_point(|message| {
            empty = false;
            let stored = match metric.kind {
                Kind::Gauge | Kind::Sum { .. } => self.number(message, &at),
                Kind::Histogram if self.translator.histograms_to_nhcb => self.nhcb(message, &at),
                Kind::Histogram => self.classic(message, &at),
                Kind::ExponentialHistogram => self.exponential(message, &at),
                Kind::Summary => self.summary(message, &at),
                Kind::Unknown => Ok(()),
            };
            match stored {
                Ok(()) => {
                    self.prepared.points += 1;
                    Ok(())
                }
                Err(PointError::Rejected(reason)) => {
                    let reason = format!("metric {:?}: {reason}", metric.name);
                    self.refuse(1, PointError::Rejected(reason))
                }
                Err(error) => self.refuse(1, error),
            }
            .map_err(PointError::Request)
        })?;
        let name = metric.name;
        if metric.kind == Kind::Unknown {
            let reason = format!("metric {name:?} has an unsupported type");
            self.prepared.rejections.add(0, reason);
        } else if empty {
            let reason = format!("empty data points. {name} is dropped");
            self.prepared.rejections.add(0, reason);
        }
        Ok(())
    }

    fn metric_type(&self, metric: &Metric<'_>) -> MetricType {
        let stored_as_delta = metric.temporality == Temporality::Delta
            && matches!(self.translator.deltas, DeltaMode::Native);
        match metric.kind {
            // Prometheus has no type for deltas yet.
            Kind::Sum { .. } | Kind::Histogram | Kind::ExponentialHistogram if stored_as_delta => {
                MetricType::Unknown
            }
            Kind::Gauge | Kind::Sum { monotonic: false } => MetricType::Gauge,
            Kind::Sum { monotonic: true } => MetricType::Counter,
            Kind::Histogram | Kind::ExponentialHistogram => MetricType::Histogram,
            Kind::Summary => MetricType::Summary,
            Kind::Unknown => MetricType::Unknown,
        }
    }

    fn number(&mut self, message: &[u8], at: &Surroundings<'_>) -> Result<(), PointError> {
        let mut point = self.read::<Number>(message)?;
        let time = self.time(&point.head)?;
        let mut value = match point.content.value {
            _ if point.head.no_recorded_value => f64::from_bits(STALE_NAN_BITS),
            Some(value) => value,
            None => return Err("a data point without a value".to_owned().into()),
        };
        if at.metric.temporality == Temporality::Delta
            && !point.head.no_recorded_value
            && self.prepared.deltas.is_some()
        {
            let labels = self.delta_labels(&point, at)?;
            let Some(session) = &mut self.prepared.deltas else {
                return Ok(());
            };
            match session.number(&labels, &mut point.head, value)? {
                Some(total) => value = total,
                None => return Ok(()),
            }
        }
        let series = self.find(&point, at, Part::Whole)?;
        let is_sum = at.metric.kind != Kind::Gauge;
        let start = start_time(&point.head, time).filter(|_| is_sum);
        self.sample(series, time, start, value);
        if is_sum && point.content.has_exemplars {
            self.exemplars(&point, time, |_| Some(series))?;
        }
        self.saw(time);
        Ok(())
    }

    fn classic(&mut self, message: &[u8], at: &Surroundings<'_>) -> Result<(), PointError> {
        let mut point = self.read::<Explicit>(message)?;
        let time = self.time(&point.head)?;
        histogram::check_explicit(&point.content)?;
        if !self.add_explicit(&mut point, at)? {
            return Ok(());
        }
        let ended = point.head.no_recorded_value;
        let Explicit {
            count,
            sum,
            ref buckets,
            ref bounds,
            ..
        } = point.content;
        // A last boundary of +Inf says what the bucket behind it says again.
        let finite = bounds.iter().filter(|bound| **bound < f64::INFINITY);
        let counted = finite.zip(&buckets.values);
        let parts = sum.map(|_| Part::Sum).into_iter().chain([Part::Count]);
        let parts = parts
            .chain(counted.clone().map(|(bound, _)| Part::Bucket(*bound)))
            .chain([Part::Bucket(f64::INFINITY)]);
        self.find_all(&point, at, parts)?;
        let mut below = 0_u64;
        let cumulative = counted.map(|(_, count)| {
            below = below.saturating_add(*count);
            below as f64
        });
        let values = sum.into_iter().chain([count as f64]).chain(cumulative);
        let start = start_time(&point.head, time);
        self.samples(values.chain([count as f64]), time, start, ended);
        if point.content.has_exemplars {
            let series = std::mem::take(&mut self.series);
            let first_bucket = 1 + usize::from(sum.is_some());
            let (finite, all) = (series.len().saturating_sub(first_bucket + 1), &series);
            let bounds = bounds.get(..finite).unwrap_or_default();
            let attached = self.exemplars(&point, time, |value| {
                let bucket = bounds.partition_point(|bound| *bound < value);
                all.get(first_bucket + bucket).copied()
            });
            self.series = series;
            attached?;
        }
        self.saw(time);
        Ok(())
    }

    fn nhcb(&mut self, message: &[u8], at: &Surroundings<'_>) -> Result<(), PointError> {
        let mut point = self.read::<Explicit>(message)?;
        let time = self.time(&point.head)?;
        histogram::check_explicit(&point.content)?;
        if !self.add_explicit(&mut point, at)? {
            return Ok(());
        }
        let ended = point.head.no_recorded_value;
        let native = histogram::from_explicit(&point.content, self.stored_as(at), ended)?;
        let has_exemplars = point.content.has_exemplars;
        self.native(&point, at, time, native, has_exemplars)
    }

    fn exponential(&mut self, message: &[u8], at: &Surroundings<'_>) -> Result<(), PointError> {
        let mut point = self.read::<Exponential>(message)?;
        let time = self.time(&point.head)?;
        let (has_exemplars, ended) = (point.content.has_exemplars, point.head.no_recorded_value);
        if at.metric.temporality == Temporality::Delta && !ended && self.prepared.deltas.is_some() {
            // What cannot be must not spoil the total.
            histogram::from_exponential(&point.content, Temporality::Delta, false)?;
            let labels = self.delta_labels(&point, at)?;
            if let Some(session) = &mut self.prepared.deltas
                && !session.exponential(&labels, &mut point.head, &mut point.content)?
            {
                return Ok(());
            }
        }
        let native = histogram::from_exponential(&point.content, self.stored_as(at), ended)?;
        self.native(&point, at, time, native, has_exemplars)
    }

    fn summary(&mut self, message: &[u8], at: &Surroundings<'_>) -> Result<(), PointError> {
        let point = self.read::<Summary>(message)?;
        let time = self.time(&point.head)?;
        if point.content.too_many {
            return Err(format!("more than {QUANTILES_MAX} quantiles").into());
        }
        let Summary {
            count,
            sum,
            ref quantiles,
            ..
        } = point.content;
        let parts = quantiles.iter().map(|(q, _)| Part::Quantile(*q));
        self.find_all(
            &point,
            at,
            [Part::Sum, Part::Count].into_iter().chain(parts),
        )?;
        let values = quantiles.iter().map(|(_, value)| *value);
        let values = [sum, count as f64].into_iter().chain(values);
        let start = start_time(&point.head, time);
        self.samples(values, time, start, point.head.no_recorded_value);
        self.saw(time);
        Ok(())
    }

    /// Reads a data point; `key` names it then.
    fn read<'m, T: Content>(&mut self, message: &'m [u8]) -> Result<Point<'m, T>, MessageError> {
        self.key.clear();
        Point::read(message, &mut self.key)
    }

    /// A data point's time, to the millisecond, as Prometheus has it.
    fn time(&self, head: &PointHead) -> Result<TimestampNs, String> {
        if head.time_ns == 0 {
            return Err("a data point without a time".to_owned());
        }
        let time_ms = i64::try_from(head.time_ns / 1_000_000)
            .map_err(|_| format!("time {} is out of range", head.time_ns))?;
        self.times.check(time_ms)
    }

    /// How deltas look once they are stored.
    fn stored_as(&self, at: &Surroundings<'_>) -> Temporality {
        match self.prepared.deltas {
            Some(_) => Temporality::Cumulative,
            None => at.metric.temporality,
        }
    }

    /// The labels under which the total of a data point is kept.
    fn delta_labels<T>(
        &self,
        point: &Point<'_, T>,
        at: &Surroundings<'_>,
    ) -> Result<chronolith_engine::model::Labels, PointError> {
        let base = self.base_labels(point, at)?;
        Ok(base.of_series(&at.name, None)?)
    }

    fn base_labels<T>(
        &self,
        point: &Point<'_, T>,
        at: &Surroundings<'_>,
    ) -> Result<LabelMap, LabelError> {
        let rules = &self.translator.labels;
        rules.point(point.attributes, at.resource, at.scope, &at.metadata)
    }

    /// Makes a total of a delta, if it is one; false for a repeat, which is not to be stored.
    fn add_explicit(
        &mut self,
        point: &mut Point<'_, Explicit>,
        at: &Surroundings<'_>,
    ) -> Result<bool, PointError> {
        let is_delta = at.metric.temporality == Temporality::Delta;
        if !is_delta || point.head.no_recorded_value || self.prepared.deltas.is_none() {
            return Ok(true);
        }
        if self.translator.histograms_to_nhcb {
            // What cannot be must not spoil the total.
            histogram::from_explicit(&point.content, Temporality::Delta, false)?;
        }
        let labels = self.delta_labels(point, at)?;
        match &mut self.prepared.deltas {
            Some(session) => Ok(session.explicit(&labels, &mut point.head, &mut point.content)?),
            None => Ok(true),
        }
    }

    fn native<T: Content>(
        &mut self,
        point: &Point<'_, T>,
        at: &Surroundings<'_>,
        time: TimestampNs,
        native: Histogram,
        has_exemplars: bool,
    ) -> Result<(), PointError> {
        let series = self.find(point, at, Part::Whole)?;
        let start = start_time(&point.head, time);
        let append = &mut self.prepared.append;
        append.histogram(series, time, start, Arc::new(native));
        self.prepared.counts.histograms += 1;
        if has_exemplars {
            self.exemplars(point, time, |_| Some(series))?;
        }
        self.saw(time);
        Ok(())
    }

    fn find<T>(
        &mut self,
        point: &Point<'_, T>,
        at: &Surroundings<'_>,
        part: Part,
    ) -> Result<SeriesRef, PointError> {
        self.find_all(point, at, [part].into_iter())?;
        match self.series.as_slice() {
            [series] => Ok(*series),
            _ => Err("bug: one part has one series".to_owned().into()),
        }
    }

    /// Looks all series of a data point up, in the order of `parts`.
    fn find_all<T>(
        &mut self,
        point: &Point<'_, T>,
        at: &Surroundings<'_>,
        parts: impl Iterator<Item = Part>,
    ) -> Result<(), PointError> {
        self.series.clear();
        self.key.extend_from_slice(&at.hash.to_le_bytes());
        let attributes = xxh3_128(&self.key);
        let mut base = None;
        for part in parts {
            let (tag, bits) = part.key();
            let mut key = [0; 33];
            key[..8].copy_from_slice(&KEY_PREFIX);
            key[8..24].copy_from_slice(&attributes.to_le_bytes());
            key[24] = tag;
            key[25..].copy_from_slice(&bits.to_le_bytes());
            let key = self.store.raw_key(&key);
            let series = match self.prepared.append.lookup(key) {
                Some(known) => known,
                None => {
                    let base = match &base {
                        Some(base) => base,
                        None => base.insert(self.base_labels(point, at)?),
                    };
                    let name = format!("{}{}", at.name, part.suffix());
                    let labels = base.of_series(&name, part.extra())?;
                    self.prepared.append.define(Some(key), &labels)?
                }
            };
            self.series.push(series);
        }
        Ok(())
    }

    /// Adds a value to each of the series that were looked up.
    fn samples(
        &mut self,
        values: impl Iterator<Item = f64>,
        time: TimestampNs,
        start: Option<TimestampNs>,
        ended: bool,
    ) {
        let series = std::mem::take(&mut self.series);
        for (series, value) in series.iter().zip(values) {
            let value = if ended {
                f64::from_bits(STALE_NAN_BITS)
            } else {
                value
            };
            self.sample(*series, time, start, value);
        }
        self.series = series;
    }

    fn sample(
        &mut self,
        series: SeriesRef,
        time: TimestampNs,
        start: Option<TimestampNs>,
        value: f64,
    ) {
        let append = &mut self.prepared.append;
        match start {
            Some(start) => append.sample_with_start(series, time, start, value),
            None => append.sample(series, time, value),
        }
        self.prepared.counts.samples += 1;
    }

    /// Adds the exemplars of a data point, each to the series that `place` finds for its value.
    fn exemplars<T: Content>(
        &mut self,
        point: &Point<'_, T>,
        time: TimestampNs,
        place: impl Fn(f64) -> Option<SeriesRef>,
    ) -> Result<(), MessageError> {
        point.for_each_exemplar(|found| {
            let Some(exemplar) = exemplar(&found, time.to_millis(), self.times) else {
                return;
            };
            if let Some(series) = place(exemplar.value) {
                self.prepared.append.exemplar(series, exemplar);
                self.prepared.counts.exemplars += 1;
            }
        })
    }

    fn saw(&mut self, time: TimestampNs) {
        let time_ms = time.to_millis();
        let (first, last) = self.span.unwrap_or((time_ms, time_ms));
        self.span = Some((first.min(time_ms), last.max(time_ms)));
    }

    /// Writes `target_info` wherever a query may look for it between the resource's first and last
    /// time: one sample per half of the lookback, and one at the end.
    fn target_info(
        &mut self,
        attributes: Attributes<'_>,
        resource: &ResourceLabels,
    ) -> Result<(), PointError> {
        let Some((first, last)) = self.span else {
            return Ok(());
        };
        self.key.clear();
        self.key.extend_from_slice(&KEY_PREFIX);
        self.key.extend_from_slice(TARGET_INFO.as_bytes());
        self.key.push(self.translator.labels.fingerprint());
        self.key.extend_from_slice(attributes.message());
        let key = self.store.raw_key(&self.key);
        let series = match self.prepared.append.lookup(key) {
            Some(known) => known,
            None => {
                let rules = &self.translator.labels;
                let Some(labels) = rules.target_info(attributes, resource)? else {
                    return Ok(());
                };
                debug_assert!(labels.get(METRIC_NAME).is_some(), "bug: no name");
                self.prepared.append.define(Some(key), &labels)?
            }
        };
        let metadata = Metadata {
            metric_type: MetricType::Gauge,
            unit: String::new(),
            help: "Target metadata".to_owned(),
        };
        self.prepared.append.metadata(TARGET_INFO, metadata);
        // Points years apart would ask for millions of samples: beyond the limit they lie further
        // apart than they should, and at last there are only the ends.
        let wanted = (last - first) / self.translator.target_info_interval_ms;
        let granted = wanted.min(self.target_info_left);
        self.target_info_left -= granted;
        let step = match granted {
            0 => i64::MAX,
            _ if granted == wanted => self.translator.target_info_interval_ms,
            _ => (last - first) / granted + 1,
        };
        let mut time_ms = first;
        loop {
            if self.target_infos.insert((series, time_ms))
                && let Some(time) = TimestampNs::from_millis(time_ms)
            {
                self.sample(series, time, None, 1.0);
            }
            if time_ms >= last {
                return Ok(());
            }
            time_ms = time_ms.saturating_add(step).min(last);
        }
    }
}

fn count_points(scope: &[u8]) -> Result<u64, MessageError> {
    let mut points = 0;
    for_each_message(scope, ScopeMetrics::METRICS, |metric| {
        points += Metric::read(metric)?.point_count()?;
        Ok::<_, MessageError>(())
    })?;
    Ok(points)
}

/// When counting began; unknown where the client does not say, or says something that cannot be.
fn start_time(head: &PointHead, time: TimestampNs) -> Option<TimestampNs> {
    let start_ms = i64::try_from(head.start_ns / 1_000_000).ok()?;
    let start = TimestampNs::from_millis(start_ms)?;
    (head.start_ns != 0 && start <= time).then_some(start)
}

#[cfg(test)]
mod tests;
