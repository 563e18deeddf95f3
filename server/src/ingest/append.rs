//! From a decoded remote write message to one append.
//!
//! A 1.0 request is stored whole or refused whole; a 2.0 request may be stored in part, and the
//! refusal then names the first series that was left out. In both, series whose labels cannot be
//! (not UTF-8, no metric name, a name twice, beyond the engine's limits) are left out and counted:
//! one such series must not hold back its neighbours for ever. The same holds for new series beyond the
//! tenant's limits: those that are known are stored, and the answer says how many were refused and why.

use std::sync::Arc;

use chronolith_engine::model::{
    Exemplar, Labels, LabelsBuilder, METRIC_NAME, Metadata, SeriesRef, TimestampNs,
};
use chronolith_engine::{Append, EngineError, RequestContext, Store};

use super::protobuf::{WireError, repeated_varint};
use super::write_request::{
    DecodeError, ExemplarMessage, HistogramMessage, Item, MetadataItem, RawLabel, RequestV2, Row,
    Rows, TimeSeries, Version, WriteRequest,
};

/// Characters of the labels of an exemplar, all together (OpenMetrics' limit).
const EXEMPLAR_LABEL_CHARS_MAX: usize = 128;

/// What an append holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Float samples.
    pub samples: u64,
    /// Histogram samples.
    pub histograms: u64,
    /// Exemplars.
    pub exemplars: u64,
    /// Series left out because of their labels.
    pub series_invalid: u64,
    /// New series left out because of the tenant's limits.
    pub series_over_limit: u64,
}

/// Why a request, or in 2.0 a series of it, was refused.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// The bytes are wrong.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// A time that cannot be, or lies too far ahead.
    #[error("{0}")]
    Time(String),
    /// The store refuses.
    #[error(transparent)]
    Engine(#[from] EngineError),
}

impl From<WireError> for Refusal {
    fn from(error: WireError) -> Self {
        Self::Decode(error.into())
    }
}

/// A request that is ready to be committed.
pub struct Prepared<'a> {
    /// The append.
    pub append: Append<'a>,
    /// What it holds.
    pub counts: Counts,
    /// In 2.0: why the first of the series that were left out was left out.
    pub left_out: Option<String>,
    /// Why the first of the series beyond the tenant's limits was left out.
    pub over_limit: Option<String>,
}

/// Times that are accepted: those that nanoseconds can hold, up to a point in the future.
#[derive(Clone, Copy, Debug)]
pub struct TimeLimits {
    /// The latest time, in milliseconds since the epoch.
    pub latest_ms: i64,
}

impl TimeLimits {
    /// The time in nanoseconds.
    pub(crate) fn check(self, time_ms: i64) -> Result<TimestampNs, String> {
        if time_ms > self.latest_ms {
            return Err(format!("timestamp {time_ms} is too far in the future"));
        }
        TimestampNs::from_millis(time_ms)
            .ok_or_else(|| format!("timestamp {time_ms} is out of range"))
    }
}

/// Puts a 1.0 message into one append.
///
/// # Errors
/// The first thing wrong; nothing is stored then.
pub fn prepare_v1<'a>(
    store: &'a Store,
    context: &RequestContext,
    message: &[u8],
    times: TimeLimits,
) -> Result<Prepared<'a>, Refusal> {
    match prepare_v1_once(store, context, message, times, false)? {
        Some(prepared) => Ok(prepared),
        // Protobuf allows labels behind samples. No known writer does it, so it may cost a second
        // look at every series rather than all others a first one.
        None => prepare_v1_once(store, context, message, times, true)?.ok_or_else(|| {
            Refusal::Engine(EngineError::InvalidArgument(
                "bug: scattered labels twice".into(),
            ))
        }),
    }
}

/// `None` when a label stands behind a sample and `scattered` does not allow for it.
fn prepare_v1_once<'a>(
    store: &'a Store,
    context: &RequestContext,
    message: &[u8],
    times: TimeLimits,
    scattered: bool,
) -> Result<Option<Prepared<'a>>, Refusal> {
    let mut append = store.begin(context)?;
    let mut counts = Counts::default();
    let mut over_limit = None;
    let mut items = WriteRequest::new(message);
    while let Some(item) = items.next_item()? {
        match item {
            Item::Metadata(item) => add_metadata(&mut append, &item),
            Item::Series(series) => {
                let target = match find_series(store, &mut append, &series, scattered)? {
                    Found::Series(target) => target,
                    Found::Invalid => {
                        counts.series_invalid += 1;
                        drain(series.rows())?;
                        continue;
                    }
                    Found::OverLimit(reason) => {
                        counts.series_over_limit += 1;
                        over_limit.get_or_insert(reason);
                        drain(series.rows())?;
                        continue;
                    }
                };
                let name = || describe(series.all_labels().unwrap_or_default());
                let mut rows = series.rows();
                while let Some((value, time_ms)) = rows.next_plain_sample() {
                    let time = times
                        .check(time_ms)
                        .map_err(|e| Refusal::Time(format!("{}: {e}", name())))?;
                    append.sample(target, time, value);
                    counts.samples += 1;
                }
                while let Some(row) = rows.next_row()? {
                    match row {
                        Row::Label(_) if scattered => {}
                        Row::Label(_) => return Ok(None),
                        Row::Sample {
                            value,
                            time_ms,
                            start_ms: _,
                        } => {
                            let time = times
                                .check(time_ms)
                                .map_err(|e| Refusal::Time(format!("{}: {e}", name())))?;
                            append.sample(target, time, value);
                            counts.samples += 1;
                        }
                        Row::Histogram(message) => {
                            add_histogram(&mut append, target, message, times)
                                .map_err(|e| Refusal::Time(format!("{}: {e}", name())))?;
                            counts.histograms += 1;
                        }
                        Row::Exemplar(message) => {
                            let labels = message.labels()?;
                            if add_exemplar(&mut append, target, &message, &labels, times) {
                                counts.exemplars += 1;
                            }
                        }
                        Row::Metadata { .. } => {}
                    }
                }
            }
        }
    }
    Ok(Some(Prepared {
        append,
        counts,
        left_out: None,
        over_limit,
    }))
}

/// The rows of a series that is left out must still be well formed.
fn drain(mut rows: Rows<'_>) -> Result<(), DecodeError> {
    while rows.next_row()?.is_some() {}
    Ok(())
}

/// What became of a look for a series.
enum Found {
    Series(SeriesRef),
    /// Its labels cannot be.
    Invalid,
    /// It is new, and the tenant's limits do not allow for it.
    OverLimit(String),
}

/// The engine's number of a series.
fn find_series(
    store: &Store,
    append: &mut Append<'_>,
    series: &TimeSeries<'_>,
    scattered: bool,
) -> Result<Found, Refusal> {
    let key = (!scattered).then(|| store.raw_key(series.raw_labels));
    if let Some(known) = key.and_then(|key| append.lookup(key)) {
        return Ok(Found::Series(known));
    }
    let Some(labels) = to_labels(&series.all_labels()?) else {
        return Ok(Found::Invalid);
    };
    match append.define(key, &labels) {
        Ok(series) => Ok(Found::Series(series)),
        Err(EngineError::InvalidArgument(_)) => Ok(Found::Invalid),
        Err(EngineError::LimitExceeded(reason)) => Ok(Found::OverLimit(reason)),
        Err(other) => Err(other.into()),
    }
}

/// Checks labels as they came from outside: UTF-8, a metric name, each name once.
fn to_labels(pairs: &[(&[u8], &[u8])]) -> Option<Labels> {
    let mut builder = LabelsBuilder::new();
    for (name, value) in pairs {
        builder.push(
            std::str::from_utf8(name).ok()?,
            std::str::from_utf8(value).ok()?,
        );
    }
    let labels = builder.finish().ok()?;
    labels.get(METRIC_NAME)?;
    Some(labels)
}

/// A series for a message to people: its labels, shortened.
fn describe(pairs: Vec<(&[u8], &[u8])>) -> String {
    const SHOWN_CHARS_MAX: usize = 300;
    let mut text = String::from("{");
    for (index, (name, value)) in pairs.iter().enumerate() {
        if index > 0 {
            text.push_str(", ");
        }
        text.push_str(&String::from_utf8_lossy(name));
        text.push_str(&format!("={:?}", String::from_utf8_lossy(value)));
        if text.chars().count() > SHOWN_CHARS_MAX {
            return text.chars().take(SHOWN_CHARS_MAX).collect::<String>() + "…";
        }
    }
    text.push('}');
    text
}

fn add_metadata(append: &mut Append<'_>, item: &MetadataItem<'_>) {
    let text = |bytes: &[u8]| std::str::from_utf8(bytes).map(str::to_owned).ok();
    let (Some(metric), Some(unit), Some(help)) =
        (text(item.metric), text(item.unit), text(item.help))
    else {
        return;
    };
    if !metric.is_empty() {
        let metric_type = item.metric_type;
        append.metadata(
            &metric,
            Metadata {
                metric_type,
                unit,
                help,
            },
        );
    }
}

fn add_histogram(
    append: &mut Append<'_>,
    target: SeriesRef,
    message: HistogramMessage,
    times: TimeLimits,
) -> Result<(), String> {
    let time = times.check(message.time_ms)?;
    let start = start_time(message.start_ms);
    append.histogram(target, time, start, Arc::new(message.histogram));
    Ok(())
}

/// A start time of zero means "not known"; one that cannot be is worth no more than none.
fn start_time(start_ms: i64) -> Option<TimestampNs> {
    (start_ms != 0)
        .then(|| TimestampNs::from_millis(start_ms))
        .flatten()
}

/// Exemplars are extras: one that cannot be is left out and hurts nobody.
fn add_exemplar(
    append: &mut Append<'_>,
    target: SeriesRef,
    message: &ExemplarMessage<'_>,
    labels: &[(&[u8], &[u8])],
    times: TimeLimits,
) -> bool {
    let text = |bytes| std::str::from_utf8(bytes).ok();
    let mut builder = LabelsBuilder::new();
    let mut chars = 0;
    for (name, value) in labels {
        let (Some(name), Some(value)) = (text(name), text(value)) else {
            return false;
        };
        chars += name.chars().count() + value.chars().count();
        builder.push(name, value);
    }
    let (Ok(time), Ok(labels)) = (times.check(message.time_ms), builder.finish()) else {
        return false;
    };
    if chars > EXEMPLAR_LABEL_CHARS_MAX {
        return false;
    }
    let value = message.value;
    append.exemplar(
        target,
        Exemplar {
            labels,
            value,
            time,
        },
    );
    true
}

/// Puts a 2.0 message into one append, leaving out the series that cannot be.
///
/// # Errors
/// The message is malformed, or the store refuses; nothing is stored then.
pub fn prepare_v2<'a>(
    store: &'a Store,
    context: &RequestContext,
    message: &[u8],
    times: TimeLimits,
) -> Result<Prepared<'a>, Refusal> {
    let request = RequestV2::read(message)?;
    let mut prepared = Prepared {
        append: store.begin(context)?,
        counts: Counts::default(),
        left_out: None,
        over_limit: None,
    };
    let mut scratch = Scratch::default();
    for series in &request.series {
        match add_series_v2(store, &mut prepared, &request, series, times, &mut scratch) {
            Ok(()) => {}
            Err(Refusal::Time(reason)) => {
                prepared.left_out.get_or_insert(reason);
            }
            Err(Refusal::Decode(error @ (DecodeError::Invalid(_) | DecodeError::Symbol(..)))) => {
                prepared.left_out.get_or_insert(error.to_string());
            }
            Err(other) => return Err(other),
        }
    }
    Ok(prepared)
}

/// Memory that serves every series of a request.
#[derive(Default)]
struct Scratch {
    refs: Vec<u64>,
    key: Vec<u8>,
}

fn add_series_v2(
    store: &Store,
    prepared: &mut Prepared<'_>,
    request: &RequestV2<'_>,
    message: &[u8],
    times: TimeLimits,
    scratch: &mut Scratch,
) -> Result<(), Refusal> {
    let Prepared {
        append,
        counts,
        over_limit,
        ..
    } = prepared;
    // Labels may be split over several fields and may stand anywhere, so they are collected first.
    scratch.refs.clear();
    let mut rows = Rows::new(message, Version::V2);
    while let Some(row) = rows.next_row()? {
        if let Row::Label(field) = row {
            repeated_varint::<WireError>(field, |number| {
                scratch.refs.push(number);
                Ok(())
            })?;
        }
    }
    let labels = pairs(request, &scratch.refs)?;
    scratch.key.clear();
    for text in labels.iter().flat_map(|(name, value)| [name, value]) {
        scratch
            .key
            .extend_from_slice(&(text.len() as u64).to_le_bytes());
        scratch.key.extend_from_slice(text);
    }
    let key = store.raw_key(&scratch.key);
    let target = match append.lookup(key) {
        Some(known) => known,
        None => {
            let refuse = || {
                Refusal::Time(format!(
                    "{}: labels are not valid",
                    describe(labels.clone())
                ))
            };
            let Some(checked) = to_labels(&labels) else {
                counts.series_invalid += 1;
                return Err(refuse());
            };
            match append.define(Some(key), &checked) {
                Ok(series) => series,
                Err(EngineError::InvalidArgument(reason)) => {
                    counts.series_invalid += 1;
                    return Err(Refusal::Time(reason));
                }
                Err(EngineError::LimitExceeded(reason)) => {
                    counts.series_over_limit += 1;
                    over_limit.get_or_insert(reason);
                    return Ok(());
                }
                Err(other) => return Err(other.into()),
            }
        }
    };
    let named = |reason: String| Refusal::Time(format!("{}: {reason}", describe(labels.clone())));
    let metric = labels
        .iter()
        .find(|(name, _)| *name == METRIC_NAME.as_bytes());
    let mut rows = Rows::new(message, Version::V2);
    while let Some(row) = rows.next_row()? {
        match row {
            Row::Label(_) => {}
            Row::Sample {
                value,
                time_ms,
                start_ms,
            } => {
                let time = times.check(time_ms).map_err(named)?;
                match start_time(start_ms) {
                    Some(start) => append.sample_with_start(target, time, start, value),
                    None => append.sample(target, time, value),
                }
                counts.samples += 1;
            }
            Row::Histogram(message) => {
                add_histogram(append, target, message, times).map_err(named)?;
                counts.histograms += 1;
            }
            Row::Exemplar(message) => {
                let labels = pairs(request, &message.label_refs()?)?;
                if add_exemplar(append, target, &message, &labels, times) {
                    counts.exemplars += 1;
                }
            }
            Row::Metadata {
                metric_type,
                help,
                unit,
            } => {
                let item = MetadataItem {
                    metric_type,
                    metric: metric.map_or(&[][..], |(_, value)| value),
                    help: request.symbol(help)?,
                    unit: request.symbol(unit)?,
                };
                add_metadata(append, &item);
            }
        }
    }
    Ok(())
}

/// Label references come in pairs: name, value.
fn pairs<'a>(request: &RequestV2<'a>, refs: &[u64]) -> Result<Vec<RawLabel<'a>>, DecodeError> {
    let (chunks, rest) = refs.as_chunks::<2>();
    if !rest.is_empty() {
        return Err(DecodeError::Invalid(
            "odd number of label references".into(),
        ));
    }
    chunks
        .iter()
        .map(|[name, value]| Ok((request.symbol(*name)?, request.symbol(*value)?)))
        .collect()
}

#[cfg(test)]
mod tests {
    use chronolith_engine::{StoreOptions, TenantLimits};

    use super::*;
    use crate::wire::protobuf::{
        push_bytes as bytes, push_double as double, push_number as number,
    };

    /// A 1.0 message with one sample of each series.
    fn message(instances: &[&str]) -> Vec<u8> {
        let mut request = Vec::new();
        for instance in instances {
            let mut series = Vec::new();
            for (name, value) in [("__name__", "m"), ("instance", instance)] {
                let mut label = Vec::new();
                bytes(&mut label, 1, name.as_bytes());
                bytes(&mut label, 2, value.as_bytes());
                bytes(&mut series, 1, &label);
            }
            let mut sample = Vec::new();
            double(&mut sample, 1, 1.0);
            number(&mut sample, 2, 5);
            bytes(&mut series, 2, &sample);
            bytes(&mut request, 1, &series);
        }
        request
    }

    #[test]
    fn new_series_beyond_the_limit_do_not_hold_back_those_that_are_known() {
        let store = Store::in_memory(StoreOptions {
            background: false,
            ..StoreOptions::default()
        })
        .unwrap();
        let context = RequestContext::new();
        let limits = TenantLimits {
            series_max: 2,
            ..TenantLimits::default()
        };
        store.set_tenant_limits(&context.tenant, limits);
        let times = TimeLimits { latest_ms: 10 };
        let prepare =
            |instances: &[&str]| prepare_v1(&store, &context, &message(instances), times).unwrap();
        let first = prepare(&["a", "b"]);
        assert_eq!((first.counts.samples, &first.over_limit), (2, &None));
        first.append.commit().unwrap();
        let second = prepare(&["c", "a", "d", "b"]);
        let counts = second.counts;
        assert_eq!((counts.samples, counts.series_over_limit), (2, 2));
        let reason = second.over_limit.unwrap();
        assert!(
            reason.contains("tenant default") && reason.contains("instance"),
            "{reason}"
        );
        assert_eq!(second.append.commit().unwrap().rows, 2);
    }
}
