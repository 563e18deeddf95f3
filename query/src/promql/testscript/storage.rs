//! The store that a script fills: `load`, `load_with_nhcb`, `clear`.
//!
//! Counter-reset hints are stored as Prometheus' storage would give them back: the first histogram
//! of a chunk is `unknown`, the others `not_reset`, and gauges stay gauges. The engine stores what
//! it is given, so the hints are worked out here.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use chronolith_engine::model::{
    BucketSpan, CUSTOM_BUCKETS_SCHEMA, CounterResetHint, Histogram, Labels, METRIC_NAME,
    NANOS_PER_MILLI, TimestampNs, is_stale,
};
use chronolith_engine::{RequestContext, Store, StoreOptions};

use super::parse::Load;
use super::series::{LoadLine, Point, SeriesLine};
use crate::promql::histogram::{arithmetic::compact, reset::detect_reset};

/// Start timestamps of a line's points, relative to their times, ms.
type Starts<'a> = &'a [Option<i64>];

/// A fresh in-memory store and what the rules about order and chunks must remember.
pub(super) struct Storage {
    store: Store,
    series: HashMap<Labels, SeriesState>,
}

#[derive(Default)]
struct SeriesState {
    last_ms: Option<i64>,
    /// The histogram before, while its chunk is open.
    chunk: Option<Arc<Histogram>>,
}

impl SeriesState {
    /// The histogram with the hint that it reads back with.
    fn stored(&mut self, histogram: &Arc<Histogram>) -> Arc<Histogram> {
        use CounterResetHint::{Gauge, NotReset, Reset, Unknown};
        let hint = match (&self.chunk, histogram.counter_reset_hint) {
            (_, Gauge) => Gauge,
            (None, _) | (_, Reset) => Unknown,
            (Some(previous), _) => {
                let same_layout = previous.counter_reset_hint != Gauge
                    && previous.schema == histogram.schema
                    && previous.zero_threshold == histogram.zero_threshold
                    && previous.custom_bounds() == histogram.custom_bounds();
                let compared = Histogram {
                    counter_reset_hint: Unknown,
                    ..(**histogram).clone()
                };
                if same_layout && !detect_reset(&compared, previous) {
                    NotReset
                } else {
                    Unknown
                }
            }
        };
        let mut stored = (**histogram).clone();
        stored.counter_reset_hint = hint;
        let stored = Arc::new(stored);
        self.chunk = Some(Arc::clone(&stored));
        stored
    }
}

impl Storage {
    /// An empty one.
    pub(super) fn new() -> Result<Self, String> {
        let store = Store::in_memory(StoreOptions::default()).map_err(|e| e.to_string())?;
        Ok(Self {
            store,
            series: HashMap::new(),
        })
    }

    pub(super) fn store(&self) -> &Store {
        &self.store
    }

    /// Adds what a `load` block says.
    pub(super) fn load(&mut self, load: &Load) -> Result<(), String> {
        let mut starts: HashMap<&Labels, Starts<'_>> = HashMap::new();
        let mut lines: BTreeMap<&Labels, (&SeriesLine, Option<Starts<'_>>)> = BTreeMap::new();
        for line in &load.lines {
            match line {
                LoadLine::Starts(line) => {
                    starts.insert(&line.labels, &line.offsets_ms);
                }
                LoadLine::Samples(line) => {
                    let starts = starts.remove(&line.labels);
                    if starts.is_some_and(|s| s.len() != line.points.len()) {
                        return Err("start timestamps and samples differ in number".to_owned());
                    }
                    // The last line of a series wins.
                    lines.insert(&line.labels, (line, starts));
                }
            }
        }
        if !starts.is_empty() {
            return Err("start timestamps without samples".to_owned());
        }
        for (line, starts) in lines.values() {
            self.append(line, load.interval_ms, *starts)?;
        }
        if load.nhcb {
            let plain = load.lines.iter().filter_map(|line| match line {
                // Only the line that won.
                LoadLine::Samples(line) => lines
                    .get(&line.labels)
                    .filter(|(l, _)| std::ptr::eq(*l, line))
                    .map(|_| line),
                LoadLine::Starts(_) => None,
            });
            for converted in custom_bucket_series(plain)? {
                self.append(&converted, load.interval_ms, None)?;
            }
        }
        Ok(())
    }

    fn append(
        &mut self,
        line: &SeriesLine,
        interval_ms: i64,
        starts: Option<Starts<'_>>,
    ) -> Result<(), String> {
        let text = |e: chronolith_engine::EngineError| e.to_string();
        let mut append = self.store.begin(&RequestContext::new()).map_err(text)?;
        let series = append.define(None, &line.labels).map_err(text)?;
        let state = self.series.entry(line.labels.clone()).or_default();
        let nanos = |ms: i64| TimestampNs(ms.saturating_mul(NANOS_PER_MILLI));
        for (k, point) in line.points.iter().enumerate() {
            let time_ms = i64::try_from(k)
                .unwrap_or(i64::MAX)
                .saturating_mul(interval_ms);
            if *point == Point::Missing {
                continue;
            }
            if state.last_ms.is_some_and(|last| time_ms <= last) {
                return Err(format!("samples of {:?} do not go forward", line.labels));
            }
            state.last_ms = Some(time_ms);
            let start_ms = starts.and_then(|starts| starts.get(k).copied().flatten());
            let start = start_ms.map(|ms| nanos(time_ms.saturating_add(ms)));
            match point {
                Point::Missing => {}
                Point::Float(value) => {
                    state.chunk = None;
                    match start {
                        Some(start) => {
                            append.sample_with_start(series, nanos(time_ms), start, *value);
                        }
                        None => append.sample(series, nanos(time_ms), *value),
                    }
                }
                Point::Histogram(histogram, _) => {
                    let stored = state.stored(histogram);
                    append.histogram(series, nanos(time_ms), start, stored);
                }
            }
        }
        append.commit().map_err(text)?;
        Ok(())
    }
}

/// One classic histogram at one time.
#[derive(Default)]
struct Classic {
    /// (boundary, cumulative population), in order of appearance.
    buckets: Vec<(f64, f64)>,
    count: Option<f64>,
    sum: f64,
}

/// Histograms with custom buckets made of the classic ones among `lines`.
fn custom_bucket_series<'a>(
    lines: impl Iterator<Item = &'a SeriesLine>,
) -> Result<Vec<SeriesLine>, String> {
    let mut groups: BTreeMap<Labels, BTreeMap<usize, Classic>> = BTreeMap::new();
    for line in lines {
        let name = line.labels.metric_name();
        let parts = ["_bucket", "_count", "_sum"];
        let Some((base, part)) = parts.iter().find_map(|p| Some((name.strip_suffix(p)?, *p)))
        else {
            continue;
        };
        let boundary = match part {
            "_bucket" => {
                let le = line.labels.get("le").and_then(|le| le.parse::<f64>().ok());
                let Some(le) = le.filter(|le| !le.is_nan()) else {
                    continue;
                };
                le
            }
            _ => 0.0,
        };
        let mut labels = line.labels.to_builder();
        labels.set(METRIC_NAME, base);
        labels.remove("le");
        let labels = labels.finish().map_err(|e| e.to_string())?;
        let group = groups.entry(labels).or_default();
        for (k, point) in line.points.iter().enumerate() {
            let Point::Float(value) = point else { continue };
            if is_stale(*value) {
                continue;
            }
            let classic = group.entry(k).or_default();
            match part {
                "_bucket" if classic.buckets.iter().any(|(le, _)| *le == boundary) => {}
                "_bucket" => classic.buckets.push((boundary, *value)),
                "_count" => classic.count = Some(*value),
                _ => classic.sum = *value,
            }
        }
    }
    let converted = groups.into_iter().map(|(labels, group)| {
        let length = group.keys().last().map_or(0, |k| k + 1);
        let mut points = vec![Point::Missing; length];
        for (k, classic) in group {
            points[k] = Point::Histogram(Arc::new(convert(classic)?), false);
        }
        Ok(SeriesLine { labels, points })
    });
    converted.collect()
}

fn convert(mut classic: Classic) -> Result<Histogram, String> {
    classic.buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
    let highest = classic.buckets.last().copied();
    let count = classic
        .count
        .or(highest.map(|(_, population)| population))
        .unwrap_or(0.0);
    if highest.is_none_or(|(le, _)| le != f64::INFINITY) {
        classic.buckets.push((f64::INFINITY, count));
    }
    let mut below = 0.0;
    let mut populations = Vec::with_capacity(classic.buckets.len());
    for (le, population) in &classic.buckets {
        if *population < below {
            return Err(format!("bucket counts fall at le=\"{le}\""));
        }
        populations.push(population - below);
        below = *population;
    }
    if below != count {
        return Err(format!("count {count} and highest bucket {below} disagree"));
    }
    let finite = classic
        .buckets
        .iter()
        .map(|(le, _)| *le)
        .filter(|le| *le != f64::INFINITY);
    let length = u32::try_from(populations.len()).unwrap_or(u32::MAX);
    let mut histogram = Histogram {
        schema: CUSTOM_BUCKETS_SCHEMA,
        count,
        sum: classic.sum,
        custom_values: Some(finite.collect()),
        positive_spans: vec![BucketSpan { offset: 0, length }],
        positive_buckets: populations,
        ..Histogram::default()
    };
    compact(&mut histogram);
    Ok(histogram)
}

#[cfg(test)]
mod tests {
    use super::super::series::parse_series_line;
    use super::*;

    fn hints(line: &str) -> Vec<CounterResetHint> {
        let mut state = SeriesState::default();
        let points = parse_series_line(line).unwrap().points;
        let hint = |point: &Point| match point {
            Point::Histogram(h, _) => state.stored(h).counter_reset_hint,
            _ => panic!("histogram expected"),
        };
        points.iter().map(hint).collect()
    }

    #[test]
    fn hints_read_back_by_chunk() {
        use CounterResetHint::{Gauge, NotReset, Unknown};
        assert_eq!(
            hints("h {{count:1 buckets:[1]}}x2 {{count:0}} {{count:1 buckets:[1]}}"),
            [Unknown, NotReset, NotReset, Unknown, NotReset]
        );
        assert_eq!(
            hints("h {{count:1}} {{count:2 counter_reset_hint:reset}} {{schema:1 count:3}}"),
            [Unknown; 3]
        );
        assert_eq!(
            hints("h {{counter_reset_hint:gauge}}x1 {{}}"),
            [Gauge, Gauge, Unknown]
        );
    }

    #[test]
    fn classic_histograms_convert() {
        let lines = [
            "x_bucket{le=\"1\",a=\"b\"} 1 2",
            "x_bucket{le=\"+Inf\",a=\"b\"} 3 4",
            "x_sum{a=\"b\"} 7 8",
            "x_bucket{le=\"no\"} 7 8",
        ]
        .map(|line| parse_series_line(line).unwrap());
        let series = custom_bucket_series(lines.iter()).unwrap();
        assert_eq!(series.len(), 1);
        assert_eq!(
            series[0].labels,
            parse_series_line("x{a=\"b\"} 0").unwrap().labels
        );
        let Point::Histogram(h, _) = &series[0].points[1] else {
            panic!("histogram")
        };
        assert_eq!(
            (h.count, h.sum, h.positive_buckets.as_slice()),
            (4.0, 8.0, &[2.0, 2.0][..])
        );
        let falling = ["x_bucket{le=\"1\"} 2", "x_bucket{le=\"2\"} 1"];
        let falling = falling.map(|line| parse_series_line(line).unwrap());
        assert!(custom_bucket_series(falling.iter()).is_err());
    }
}
