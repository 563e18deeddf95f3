//! Writes an exposition into the store: what a scrape, a push and the self-scrape share.
//!
//! A [`SeriesCache`] belongs to one source. A line whose text was seen before costs a hash look-up
//! and no label parsing; a series that was in the last exposition and is not in this one gets a
//! staleness marker. An exposition is one append: it is stored whole or not at all.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use chronolith_engine::model::{
    Exemplar, Labels, LabelsBuilder, Metadata, MetricType, STALE_NAN_BITS, SeriesRef, TimestampNs,
};
use chronolith_engine::{Append, EngineError, RawSeriesKey, RequestContext, Store};

use super::exposition::{self, Dialect, Entry, ExpositionError, Reader, SampleLine};
use super::nhcb;
use super::relabel::{self, Rule};

/// How the lines of a source become series.
#[derive(Clone, Debug, Default)]
pub struct WriteRules {
    /// Labels of the source (`job`, `instance`, …).
    pub source_labels: Labels,
    /// Whether labels of a line win over those of the source.
    pub honor_labels: bool,
    /// Whether timestamps of lines are used.
    pub honor_timestamps: bool,
    /// Whether series with timestamps of their own get staleness markers.
    pub track_timestamps_staleness: bool,
    /// Rules for samples.
    pub relabel: Vec<Rule>,
    /// Samples after relabelling; 0 for none.
    pub sample_limit: usize,
    /// Labels of a sample; 0 for none.
    pub label_limit: usize,
    /// Bytes of a label's name; 0 for none.
    pub label_name_length_limit: usize,
    /// Bytes of a label's value; 0 for none.
    pub label_value_length_limit: usize,
    /// Also store classic histograms as native ones.
    pub convert_classic_histograms: bool,
    /// Keep the classic series of converted histograms.
    pub keep_classic_histograms: bool,
    /// Milliseconds that a timestamp may lie ahead of now.
    pub future_ms_max: i64,
}

/// What was written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// Sample lines read.
    pub scraped: usize,
    /// Samples left after relabelling.
    pub kept: usize,
    /// Series that the source did not have the time before.
    pub added: usize,
    /// Histograms whose buckets contradict each other, left out.
    pub inconsistent_histograms: usize,
}

/// Why an exposition was not written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WriteError {
    /// The text breaks the format.
    #[error(transparent)]
    Exposition(#[from] ExpositionError),
    /// A limit of the job is exceeded.
    #[error("{0}")]
    Limit(String),
    /// The store refused.
    #[error(transparent)]
    Engine(#[from] EngineError),
}

/// What is remembered of the series of one source.
#[derive(Debug, Default)]
pub struct SeriesCache {
    lines: HashMap<String, CachedLine>,
    histograms: HashMap<Labels, Seen>,
    metadata: Arc<FamilyMetadata>,
    round: u64,
}

/// What a source says about its metrics, by name.
pub type FamilyMetadata = BTreeMap<String, Metadata>;

impl SeriesCache {
    /// What the source said about its metrics in the last exposition that was written.
    #[must_use]
    pub fn metadata(&self) -> Arc<FamilyMetadata> {
        Arc::clone(&self.metadata)
    }
}

#[derive(Debug)]
struct CachedLine {
    /// `None`: dropped by relabelling, or stored only as part of a native histogram.
    series: Option<CachedSeries>,
    /// The histogram that the line is part of.
    part: Option<(nhcb::Part, Labels)>,
    seen: Seen,
}

#[derive(Debug)]
struct CachedSeries {
    key: RawSeriesKey,
    labels: Labels,
}

/// When something was last there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Seen {
    round: u64,
    /// Gets a marker when it vanishes.
    tracked: bool,
}

impl CachedSeries {
    fn new(store: &Store, labels: Labels) -> Self {
        Self {
            key: store.raw_key(labels.as_bytes()),
            labels,
        }
    }

    fn resolve(&self, append: &mut Append<'_>) -> Result<SeriesRef, EngineError> {
        match append.lookup(self.key) {
            Some(series) => Ok(series),
            None => append.define(Some(self.key), &self.labels),
        }
    }
}

/// Writes one exposition with `now_ms` for lines without a timestamp, plus `reports`: series of the
/// source itself (`up` and the like), whose values may depend on what was written.
///
/// When the exposition is refused, nothing of it is stored; call [`write_absence`] then.
///
/// # Errors
/// See [`WriteError`].
pub fn write_exposition(
    store: &Store,
    context: &RequestContext,
    rules: &WriteRules,
    cache: &mut SeriesCache,
    (body, dialect): (&[u8], Dialect),
    now_ms: i64,
    reports: impl FnOnce(Written) -> Vec<(&'static str, f64)>,
) -> Result<Written, WriteError> {
    let mut append = store.begin(context)?;
    cache.round += 1;
    let mut pass = Pass {
        store,
        rules,
        cache,
        now_ms,
        written: Written::default(),
        types: HashMap::new(),
        histograms: nhcb::Collector::default(),
    };
    let mut reader = Reader::new(body, dialect)?;
    let mut pending_metadata: HashMap<String, Metadata> = HashMap::new();
    while let Some(entry) = reader.next_entry()? {
        match entry {
            Entry::Sample(line) => pass.sample(&line, &mut append)?,
            Entry::Type {
                metric,
                metric_type,
            } => {
                pass.types.insert(metric.to_string(), metric_type);
                pending_metadata
                    .entry(metric.into_owned())
                    .or_default()
                    .metric_type = metric_type;
            }
            Entry::Help { metric, help } => {
                pending_metadata
                    .entry(metric.into_owned())
                    .or_default()
                    .help = help.into_owned();
            }
            Entry::Unit { metric, unit } => {
                pending_metadata
                    .entry(metric.into_owned())
                    .or_default()
                    .unit = unit.to_owned();
            }
        }
    }
    pass.native_histograms(&mut append)?;
    let written = pass.written;
    remember_metadata(&mut cache.metadata, pending_metadata, &mut append);
    mark_vanished(store, cache, &mut append, now_ms)?;
    write_reports(store, rules, &mut append, now_ms, reports(written))?;
    append.commit()?;
    Ok(written)
}

/// Stores what is new about metrics and forgets what the source does not have any more.
fn remember_metadata(
    known: &mut Arc<FamilyMetadata>,
    said: HashMap<String, Metadata>,
    append: &mut Append<'_>,
) {
    if known.keys().any(|metric| !said.contains_key(metric)) {
        Arc::make_mut(known).retain(|metric, _| said.contains_key(metric));
    }
    for (metric, metadata) in said {
        if known.get(&metric) != Some(&metadata) {
            append.metadata(&metric, metadata.clone());
            Arc::make_mut(known).insert(metric, metadata);
        }
    }
}

/// Writes that a source gave nothing: staleness markers for all that it had, and `reports`.
///
/// # Errors
/// When the store refuses.
pub fn write_absence(
    store: &Store,
    context: &RequestContext,
    rules: &WriteRules,
    cache: &mut SeriesCache,
    now_ms: i64,
    reports: Vec<(&'static str, f64)>,
) -> Result<(), EngineError> {
    let mut append = store.begin(context)?;
    cache.round += 1;
    mark_vanished(store, cache, &mut append, now_ms)?;
    write_reports(store, rules, &mut append, now_ms, reports)?;
    append.commit()?;
    Ok(())
}

fn write_reports(
    store: &Store,
    rules: &WriteRules,
    append: &mut Append<'_>,
    now_ms: i64,
    reports: Vec<(&'static str, f64)>,
) -> Result<(), EngineError> {
    let time = TimestampNs::from_millis_saturating(now_ms);
    for (name, value) in reports {
        let mut builder = rules.source_labels.to_builder();
        builder.set(chronolith_engine::model::METRIC_NAME, name);
        let labels = builder
            .finish()
            .map_err(|e| EngineError::InvalidArgument(e.to_string()))?;
        let series = CachedSeries::new(store, labels).resolve(append)?;
        append.sample(series, time, value);
    }
    Ok(())
}

/// Ends the series that were there before this round and are not in it.
fn mark_vanished(
    store: &Store,
    cache: &mut SeriesCache,
    append: &mut Append<'_>,
    now_ms: i64,
) -> Result<(), EngineError> {
    let round = cache.round;
    let time = TimestampNs::from_millis_saturating(now_ms);
    let stale = f64::from_bits(STALE_NAN_BITS);
    let mut ended: Vec<CachedSeries> = Vec::new();
    cache.lines.retain(|_, line| {
        let here = line.seen.round == round;
        if !here && line.seen.tracked {
            ended.extend(line.series.take());
        }
        here
    });
    cache.histograms.retain(|labels, seen| {
        if seen.round != round && seen.tracked {
            ended.push(CachedSeries::new(store, labels.clone()));
        }
        seen.round == round
    });
    for series in ended {
        let series = series.resolve(append)?;
        append.sample(series, time, stale);
    }
    Ok(())
}

/// One walk over an exposition.
struct Pass<'a> {
    store: &'a Store,
    rules: &'a WriteRules,
    cache: &'a mut SeriesCache,
    now_ms: i64,
    written: Written,
    types: HashMap<String, MetricType>,
    histograms: nhcb::Collector,
}

impl Pass<'_> {
    fn sample(&mut self, line: &SampleLine<'_>, append: &mut Append<'_>) -> Result<(), WriteError> {
        self.written.scraped += 1;
        let own_time = line.timestamp_ms.filter(|_| self.rules.honor_timestamps);
        let round = self.cache.round;
        let seen = Seen {
            round,
            tracked: own_time.is_none() || self.rules.track_timestamps_staleness,
        };
        if !self.cache.lines.contains_key(line.series) {
            let cached = self.first_sight(line.series)?;
            self.written.added += usize::from(cached.series.is_some());
            self.cache.lines.insert(line.series.to_owned(), cached);
        }
        let Some(cached) = self.cache.lines.get_mut(line.series) else {
            return Ok(());
        };
        cached.seen = seen;
        if let Some((part, whole)) = &cached.part {
            self.histograms
                .add(whole.clone(), own_time, *part, line.value);
            self.cache
                .histograms
                .entry(whole.clone())
                .or_default()
                .tracked = seen.tracked;
        }
        let Some(series) = &cached.series else {
            return Ok(());
        };
        let time = own_time.unwrap_or(self.now_ms);
        check_time(time, self.now_ms, self.rules, &series.labels)?;
        let reference = series.resolve(append)?;
        append.sample(
            reference,
            TimestampNs::from_millis_saturating(time),
            line.value,
        );
        if let Some(exemplar) = line.exemplar.and_then(|text| exemplar(text, time)) {
            append.exemplar(reference, exemplar);
        }
        self.count_kept()
    }

    fn count_kept(&mut self) -> Result<(), WriteError> {
        self.written.kept += 1;
        if self.rules.sample_limit > 0 && self.written.kept > self.rules.sample_limit {
            return Err(WriteError::Limit(format!(
                "sample limit of {} exceeded",
                self.rules.sample_limit
            )));
        }
        Ok(())
    }

    fn native_histograms(&mut self, append: &mut Append<'_>) -> Result<(), WriteError> {
        let (histograms, rejected) = std::mem::take(&mut self.histograms).finish();
        self.written.inconsistent_histograms = rejected;
        for (labels, own_time, histogram) in histograms {
            if let Some(seen) = self.cache.histograms.get_mut(&labels) {
                seen.round = self.cache.round;
            }
            let time = own_time.unwrap_or(self.now_ms);
            check_time(time, self.now_ms, self.rules, &labels)?;
            let series = CachedSeries::new(self.store, labels).resolve(append)?;
            append.histogram(
                series,
                TimestampNs::from_millis_saturating(time),
                None,
                histogram,
            );
            self.count_kept()?;
        }
        Ok(())
    }

    /// Parses, merges and relabels the labels of a line not seen before.
    fn first_sight(&self, text: &str) -> Result<CachedLine, WriteError> {
        let mut own = LabelsBuilder::new();
        exposition::parse_series(text, &mut own)
            .map_err(|message| WriteError::Limit(format!("{text}: {message}")))?;
        let own = own
            .finish()
            .map_err(|e| WriteError::Limit(format!("{text}: {e}")))?;
        let part = self.histogram_part(&own).map(|(part, whole)| {
            let whole = self.finalize(&whole)?;
            Ok::<_, WriteError>(whole.map(|labels| (part, labels)))
        });
        let part = part.transpose()?.flatten();
        let classic_wanted = part.is_none() || self.rules.keep_classic_histograms;
        let labels = if classic_wanted {
            self.finalize(&own)?
        } else {
            None
        };
        let series = labels.map(|labels| CachedSeries::new(self.store, labels));
        Ok(CachedLine {
            series,
            part,
            seen: Seen::default(),
        })
    }

    fn histogram_part(&self, own: &Labels) -> Option<(nhcb::Part, Labels)> {
        if !self.rules.convert_classic_histograms {
            return None;
        }
        let (part, whole) = nhcb::classify(own)?;
        (self.types.get(whole.metric_name()) == Some(&MetricType::Histogram))
            .then_some((part, whole))
    }

    /// Adds the source's labels, relabels, and checks the limits; `None` when dropped.
    fn finalize(&self, own: &Labels) -> Result<Option<Labels>, WriteError> {
        let rules = self.rules;
        let mut merged = own.to_builder();
        for label in &rules.source_labels {
            match merged.get(label.name).map(str::to_owned) {
                Some(_) if rules.honor_labels => continue,
                Some(taken) => {
                    let mut exported = format!("exported_{}", label.name);
                    while merged.get(&exported).is_some() {
                        exported.insert_str(0, "exported_");
                    }
                    merged.set(&exported, &taken);
                }
                None => {}
            }
            merged.set(label.name, label.value);
        }
        if !relabel::apply_all(&rules.relabel, &mut merged) {
            return Ok(None);
        }
        let labels = merged
            .finish()
            .map_err(|e| WriteError::Limit(format!("{own}: {e}")))?;
        let (mut count, over) = (0, |what: &str, limit: usize| {
            WriteError::Limit(format!("{labels}: {what} limit of {limit} exceeded"))
        });
        for label in &labels {
            count += 1;
            if exceeds(label.name.len(), rules.label_name_length_limit) {
                return Err(over("label name length", rules.label_name_length_limit));
            }
            if exceeds(label.value.len(), rules.label_value_length_limit) {
                return Err(over("label value length", rules.label_value_length_limit));
            }
        }
        if exceeds(count, rules.label_limit) {
            return Err(over("label", rules.label_limit));
        }
        if labels.metric_name().is_empty() {
            return Err(WriteError::Limit(format!(
                "{labels}: no metric name after relabelling"
            )));
        }
        Ok(Some(labels))
    }
}

fn exceeds(size: usize, limit: usize) -> bool {
    limit > 0 && size > limit
}

fn check_time(
    time_ms: i64,
    now_ms: i64,
    rules: &WriteRules,
    labels: &Labels,
) -> Result<(), WriteError> {
    if time_ms.saturating_sub(now_ms) > rules.future_ms_max {
        return Err(WriteError::Limit(format!(
            "{labels}: timestamp {time_ms} is too far ahead"
        )));
    }
    if TimestampNs::from_millis(time_ms).is_none() {
        return Err(WriteError::Limit(format!(
            "{labels}: timestamp {time_ms} is out of range"
        )));
    }
    Ok(())
}

/// A faulty exemplar is left out; it never costs the sample it hangs on.
fn exemplar(text: &str, sample_ms: i64) -> Option<Exemplar> {
    let line = exposition::parse_exemplar(text).ok()?;
    let time = TimestampNs::from_millis(line.timestamp_ms.unwrap_or(sample_ms))?;
    Some(Exemplar {
        labels: line.labels.finish().ok()?,
        value: line.value,
        time,
    })
}
