//! The sample telemetry as a loader sees it: deterministic, consistent, with its incidents visible.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::{BTreeMap, HashMap};
use std::sync::LazyLock;

use chronolith_datasets::{
    AffectedSeries, IncidentKind, MetricKind, RunState, Sample, Series, Telemetry, TelemetryOptions,
};

const HOUR_MS: i64 = 3_600_000;
const MINUTE_MS: i64 = 60_000;
const END_MS: i64 = 1_763_600_412_345;

/// One day, walked once and shared by the tests.
struct Day {
    telemetry: Telemetry,
    samples: Vec<Vec<Sample>>,
}

static DAY: LazyLock<Day> = LazyLock::new(|| {
    let telemetry = Telemetry::new(TelemetryOptions::demo(END_MS));
    let mut samples = vec![Vec::new(); telemetry.series().len()];
    for batch in telemetry.metrics() {
        for column in batch.columns {
            samples[column.series].extend(column.samples);
        }
    }
    Day { telemetry, samples }
});

impl Day {
    /// Series with this metric name and these labels, with their samples.
    fn select(&self, metric: &str, labels: &[(&str, &str)]) -> Vec<(&Series, &[Sample])> {
        self.telemetry
            .series()
            .iter()
            .zip(&self.samples)
            .filter(|(series, _)| series.name() == metric)
            .filter(|(series, _)| {
                labels
                    .iter()
                    .all(|(name, value)| series.label(name) == Some(value))
            })
            .map(|(series, samples)| (series, samples.as_slice()))
            .collect()
    }

    fn incident(&self, kind: IncidentKind) -> chronolith_datasets::Incident {
        let found = self
            .telemetry
            .incidents()
            .into_iter()
            .find(|incident| incident.kind == kind);
        found.unwrap_or_else(|| panic!("no incident {kind:?}"))
    }

    fn one(&self, metric: &str, labels: &[(&str, &str)]) -> &[Sample] {
        let found = self.select(metric, labels);
        assert_eq!(found.len(), 1, "{metric}{labels:?}");
        found[0].1
    }
}

/// Labels of a histogram without `le`, and its family.
type HistogramKey = Vec<(String, String)>;

/// The value at or before a moment.
fn value_at(samples: &[Sample], at_ms: i64) -> f64 {
    let index = samples.partition_point(|sample| sample.timestamp_ms <= at_ms);
    samples[..index]
        .iter()
        .rev()
        .find(|sample| !sample.is_stale())
        .map_or(0.0, |s| s.value)
}

fn increase(samples: &[Sample], from_ms: i64, to_ms: i64) -> f64 {
    value_at(samples, to_ms) - value_at(samples, from_ms)
}

#[test]
fn the_demo_has_the_promised_size_and_end() {
    let count: usize = DAY.samples.iter().map(Vec::len).sum();
    assert!((1_000_000..=5_000_000).contains(&count), "{count} samples");
    assert!(
        (400..=1_000).contains(&DAY.samples.len()),
        "{} series",
        DAY.samples.len()
    );
    println!("{} series, {count} samples", DAY.samples.len());
    let last_ms = DAY
        .samples
        .iter()
        .filter_map(|samples| samples.last())
        .map(|s| s.timestamp_ms);
    let last_ms = last_ms.max().unwrap();
    assert!((END_MS - 15_000..=END_MS).contains(&last_ms));
    for samples in &DAY.samples {
        assert!(!samples.is_empty());
        assert!(
            samples
                .windows(2)
                .all(|pair| pair[0].timestamp_ms < pair[1].timestamp_ms)
        );
    }
}

#[test]
fn same_options_give_the_same_bytes_and_another_seed_gives_others() {
    let digest = |seed| {
        let options = TelemetryOptions {
            seed,
            duration_ms: 3 * HOUR_MS,
            ..TelemetryOptions::demo(END_MS)
        };
        let telemetry = Telemetry::new(options);
        let mut hash = 0xcbf2_9ce4_8422_2325_u64;
        let mut mix = |word: u64| hash = (hash ^ word).wrapping_mul(0x0100_0000_01b3);
        for batch in telemetry.metrics().chain(telemetry.metrics()) {
            for column in batch.columns {
                mix(column.series as u64);
                for sample in column.samples {
                    mix(sample.timestamp_ms as u64);
                    mix(sample.value.to_bits());
                }
            }
        }
        (hash, format!("{:?}", telemetry.runs()))
    };
    let (first, again, other) = (digest(1), digest(1), digest(2));
    assert!(first == again);
    assert_ne!(first.0, other.0);
    assert_ne!(first.1, other.1);
}

#[test]
fn two_walks_of_one_story_are_alike() {
    let options = TelemetryOptions {
        duration_ms: 3 * HOUR_MS,
        ..TelemetryOptions::demo(END_MS)
    };
    let telemetry = Telemetry::new(options);
    for (first, second) in telemetry.metrics().zip(telemetry.metrics()) {
        assert_eq!(format!("{first:?}"), format!("{second:?}"));
    }
}

#[test]
fn series_are_distinct_and_labels_sorted() {
    let mut seen = BTreeMap::new();
    for series in DAY.telemetry.series() {
        assert!(
            series.labels.windows(2).all(|pair| pair[0].0 < pair[1].0),
            "{series:?}"
        );
        assert!(series.labels.iter().all(|(_, value)| !value.is_empty()));
        assert!(
            seen.insert(&series.labels, ()).is_none(),
            "{series:?} twice"
        );
        let family = &DAY.telemetry.metadata()[series.family];
        assert!(
            series.name().starts_with(family.name),
            "{series:?} is not of {family:?}"
        );
    }
}

#[test]
fn counters_only_fall_at_declared_restarts() {
    let restarts = DAY.telemetry.restarts();
    let mut falls = 0;
    for (series, samples) in DAY.telemetry.series().iter().zip(&DAY.samples) {
        let family = &DAY.telemetry.metadata()[series.family];
        let counts = match family.kind {
            MetricKind::Counter | MetricKind::Histogram => true,
            MetricKind::Summary => series.label("quantile").is_none(),
            MetricKind::Gauge => false,
        };
        if !counts {
            continue;
        }
        let live: Vec<&Sample> = samples.iter().filter(|sample| !sample.is_stale()).collect();
        for pair in live.windows(2) {
            if pair[1].value >= pair[0].value {
                continue;
            }
            let declared = restarts.iter().any(|restart| {
                series.label("job") == Some(restart.job)
                    && series.label("instance") == Some(restart.instance)
                    && (pair[0].timestamp_ms..=pair[1].timestamp_ms).contains(&restart.at_ms)
            });
            // A series that appears on first use comes back later than the restart.
            assert!(
                declared,
                "{series:?} falls from {:?} to {:?}",
                pair[0], pair[1]
            );
            falls += 1;
        }
    }
    assert!(falls > 20, "the restart shows: {falls} falls");
}

#[test]
fn histograms_are_cumulative_and_agree_with_their_count() {
    let mut groups: HashMap<HistogramKey, Vec<(f64, &[Sample])>> = HashMap::new();
    let mut counts: HashMap<HistogramKey, &[Sample]> = HashMap::new();
    for (series, samples) in DAY.telemetry.series().iter().zip(&DAY.samples) {
        let family = &DAY.telemetry.metadata()[series.family];
        if family.kind != MetricKind::Histogram {
            continue;
        }
        let mut key = series.labels.clone();
        key.retain(|(name, _)| name != "le" && name != "__name__");
        key.push((String::new(), family.name.to_owned()));
        if let Some(bound) = series.label("le") {
            let bound = if bound == "+Inf" {
                f64::INFINITY
            } else {
                bound.parse().unwrap()
            };
            groups.entry(key).or_default().push((bound, samples));
        } else if series.name().ends_with("_count") {
            counts.insert(key, samples);
        }
    }
    assert_eq!(groups.len(), counts.len());
    assert!(groups.len() > 20);
    for (key, mut buckets) in groups {
        buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
        let count = counts[&key];
        for (index, expected) in count.iter().enumerate() {
            let mut last = 0.0;
            for (bound, samples) in &buckets {
                let sample = samples[index];
                assert_eq!(sample.timestamp_ms, expected.timestamp_ms);
                assert_eq!(sample.is_stale(), expected.is_stale());
                assert!(
                    sample.is_stale() || sample.value >= last,
                    "{key:?} le={bound}"
                );
                last = sample.value;
            }
            assert_eq!(
                last.to_bits(),
                expected.value.to_bits(),
                "{key:?} +Inf is the count"
            );
        }
    }
}

#[test]
fn metrics_agree_with_the_runs() {
    let (start_ms, end_ms) = (DAY.telemetry.start_ms() + HOUR_MS, END_MS - HOUR_MS);
    for (pipeline, region) in [("orders_etl", "eu"), ("product_enrichment", "apac")] {
        let place = [("pipeline_name", pipeline), ("region", region)];
        // Counted at the scrapes nearest to the bounds: each series has its own.
        let series = DAY.select("pipeline_executions_total", &place);
        let counted: f64 = series
            .iter()
            .map(|(_, samples)| increase(samples, start_ms, end_ms))
            .sum();
        let ended = DAY.telemetry.runs().iter().filter(|run| {
            run.pipeline == pipeline
                && run.region == region
                && (start_ms..end_ms).contains(&run.ended_ms)
        });
        let ended = ended.count() as f64;
        assert!(
            (counted - ended).abs() <= 4.0,
            "{pipeline} {region}: {counted} and {ended}"
        );
    }
}

#[test]
fn every_affected_series_exists() {
    for incident in DAY.telemetry.incidents() {
        for affected in &incident.affected {
            let AffectedSeries { metric, labels, .. } = affected;
            assert!(
                !DAY.select(metric, labels).is_empty(),
                "{}: nothing matches {}",
                incident.name,
                affected.selector()
            );
        }
    }
}

#[test]
fn the_leak_is_a_straight_line_that_passes_90_percent_before_the_end() {
    let leak = DAY.incident(IncidentKind::SlowLeak);
    let memory = DAY.one("memory_usage_percent", &[("instance", "runner-eu-1:9100")]);
    let hours = (leak.end_ms - leak.start_ms) as f64 / HOUR_MS as f64;
    let slope = increase(memory, leak.start_ms, leak.end_ms) / hours;
    assert!((3.2..4.5).contains(&slope), "{slope} percent an hour");
    let half = value_at(memory, (leak.start_ms + leak.end_ms) / 2);
    assert!((70.0..77.0).contains(&half), "halfway at {half}");
    let last_ten_minutes = memory
        .iter()
        .filter(|sample| sample.timestamp_ms > END_MS - 10 * MINUTE_MS);
    assert!(last_ten_minutes.clone().count() >= 39);
    assert!(last_ten_minutes.clone().all(|sample| sample.value > 90.0));
    // The other machines stay flat.
    for (series, samples) in DAY.select("memory_usage_percent", &[]) {
        if series.label("instance") != Some("runner-eu-1:9100") {
            assert!(
                samples
                    .iter()
                    .all(|sample| sample.is_stale() || sample.value < 80.0),
                "{series:?}"
            );
        }
    }
}

#[test]
fn the_failed_stage_shows_as_zero_success_errors_and_age() {
    let failed = DAY.incident(IncidentKind::FailedStage);
    let place = [("pipeline_name", "orders_etl"), ("region", "us")];
    // Loads that began before the incident may end well in its first two minutes.
    let (from_ms, to_ms) = (failed.start_ms + 2 * MINUTE_MS, failed.end_ms);
    for (series, samples) in DAY.select("pipeline_success_total", &place) {
        assert_eq!(increase(samples, from_ms, to_ms), 0.0, "{series:?}");
    }
    for (series, samples) in DAY.select("pipeline_executions_total", &place) {
        assert!(increase(samples, from_ms, to_ms) >= 8.0, "{series:?}");
    }
    let errors = DAY.one(
        "pipeline_errors_total",
        &[("error_code", "SCHEMA_MISMATCH")],
    );
    assert!(
        errors[0].timestamp_ms > failed.start_ms,
        "a new error code appears"
    );
    assert!(value_at(errors, END_MS) >= 16.0);
    for (_, samples) in DAY.select("data_freshness_seconds", &place) {
        let age = value_at(samples, failed.end_ms);
        assert!(age > 3_600.0, "data is {age} s old");
        assert!(
            value_at(samples, END_MS) < 900.0,
            "and fresh again at the end"
        );
    }
    let score = [
        ("pipeline_name", "orders_etl"),
        ("quality_dimension", "completeness"),
    ];
    let completeness = DAY.one("data_quality_score", &score);
    assert!(value_at(completeness, failed.end_ms) < 0.75);
    assert!(value_at(completeness, failed.start_ms) > 0.99);
}

#[test]
fn the_late_source_ages_alone_and_catches_up() {
    let late = DAY.incident(IncidentKind::LateSource);
    for (series, samples) in DAY.select(
        "data_freshness_seconds",
        &[("pipeline_name", "inventory_sync")],
    ) {
        let age = value_at(samples, late.end_ms);
        let is_late = series.label("store") == Some("tokyo");
        assert_eq!(is_late, age > 3_600.0, "{series:?} is {age} s old");
        assert!(
            value_at(samples, late.end_ms + 20 * MINUTE_MS) < 1_200.0,
            "{series:?}"
        );
    }
}

#[test]
fn the_cost_spike_multiplies_the_bill_of_one_model() {
    let spike = DAY.incident(IncidentKind::CostSpike);
    let place = [
        ("model", "atlas-large"),
        ("pipeline_name", "product_enrichment"),
    ];
    let cost = DAY.one("model_cost_dollars", &place);
    let during = increase(cost, spike.start_ms, spike.end_ms);
    let before = increase(cost, spike.start_ms - HOUR_MS, spike.start_ms);
    let factor = during / before;
    assert!(
        (6.0..14.0).contains(&factor),
        "factor {factor}: {before} then {during} dollars"
    );
    // The users' alert: increase(model_cost_dollars[1h]) > 50 fires for this hour and no other.
    assert!(during > 50.0, "{during} dollars in the hour");
    let mut hour_ms = DAY.telemetry.start_ms() + HOUR_MS;
    while hour_ms <= spike.start_ms {
        assert!(increase(cost, hour_ms - HOUR_MS, hour_ms) < 30.0);
        hour_ms += HOUR_MS;
    }
}

#[test]
fn a_harmless_peak_is_declared_and_seen() {
    let peak = DAY.incident(IncidentKind::HarmlessPeak);
    assert!(!peak.kind.is_fault());
    let cpu = DAY.one("cpu_usage_percent", &[("instance", "warehouse-1:9100")]);
    assert!(value_at(cpu, peak.start_ms + 10 * MINUTE_MS) > 75.0);
    assert!(value_at(cpu, peak.end_ms + 10 * MINUTE_MS) < 70.0);
}

#[test]
fn missed_scrapes_leave_stale_markers_and_a_zero_up() {
    let mut misses = 0;
    for (series, samples) in DAY.select("up", &[]) {
        for sample in samples.iter().filter(|sample| sample.value == 0.0) {
            misses += 1;
            // Whatever the target showed before is marked; nothing else is there.
            let same_target =
                DAY.telemetry
                    .series()
                    .iter()
                    .zip(&DAY.samples)
                    .filter(|(other, _)| {
                        other.name() != "up"
                            && other.label("job") == series.label("job")
                            && other.label("instance") == series.label("instance")
                    });
            for (_, others) in same_target {
                let at = others
                    .iter()
                    .find(|other| other.timestamp_ms == sample.timestamp_ms);
                assert!(at.is_none_or(Sample::is_stale));
            }
        }
    }
    assert!(misses >= 3, "{misses} missed scrapes");
}

#[test]
fn six_hours_have_the_same_incidents() {
    let options = TelemetryOptions {
        duration_ms: 6 * HOUR_MS,
        ..TelemetryOptions::demo(END_MS)
    };
    let telemetry = Telemetry::new(options);
    let faults: Vec<IncidentKind> = telemetry
        .incidents()
        .iter()
        .map(|incident| incident.kind)
        .filter(|kind| kind.is_fault())
        .collect();
    assert_eq!(
        faults,
        [
            IncidentKind::SlowLeak,
            IncidentKind::FailedStage,
            IncidentKind::LateSource,
            IncidentKind::CostSpike
        ]
    );
}

#[test]
fn the_story_holds_at_any_time_of_day_and_week() {
    for eighth in 0..8 {
        let end_ms = END_MS + eighth * 21 * HOUR_MS;
        let options = TelemetryOptions {
            interval_ms: MINUTE_MS,
            ..TelemetryOptions::demo(end_ms)
        };
        let telemetry = Telemetry::new(TelemetryOptions {
            seed: end_ms as u64,
            ..options
        });
        let find = |name: &str, label: (&str, &str)| {
            let series = telemetry
                .series()
                .iter()
                .position(|series| series.name() == name && series.label(label.0) == Some(label.1));
            series.unwrap_or_else(|| panic!("no {name}{label:?}"))
        };
        let memory = find("memory_usage_percent", ("instance", "runner-eu-1:9100"));
        let cost = find("model_cost_dollars", ("model", "atlas-large"));
        let mut samples: HashMap<usize, Vec<Sample>> = HashMap::new();
        for column in telemetry.metrics().flat_map(|batch| batch.columns) {
            if [memory, cost].contains(&column.series) {
                samples
                    .entry(column.series)
                    .or_default()
                    .extend(column.samples);
            }
        }
        assert!(value_at(&samples[&memory], end_ms) > 90.0);
        let incidents = telemetry.incidents();
        let spike = incidents
            .iter()
            .find(|incident| incident.kind == IncidentKind::CostSpike);
        let spike = spike.unwrap();
        assert!(increase(&samples[&cost], spike.start_ms, spike.end_ms) > 50.0);
        let running = telemetry
            .runs()
            .iter()
            .any(|run| run.state == RunState::Running);
        assert!(running, "a run is under way at {end_ms}");
    }
}

#[test]
fn spans_of_a_run_form_one_tree_inside_it() {
    let telemetry = &DAY.telemetry;
    let spans = telemetry.spans();
    assert!(spans.len() > 40_000, "{} spans", spans.len());
    let mut traces: HashMap<[u8; 16], Vec<&chronolith_datasets::SpanRecord>> = HashMap::new();
    for span in &spans {
        traces.entry(span.trace_id).or_default().push(span);
    }
    for run in telemetry.runs() {
        let Some(spans) = traces.get(&run.trace_id) else {
            assert_ne!(run.state, RunState::Succeeded, "{run:?}");
            continue;
        };
        let ids: Vec<[u8; 8]> = spans.iter().map(|span| span.span_id).collect();
        let ended = matches!(run.state, RunState::Succeeded | RunState::Failed);
        assert_eq!(
            ids.contains(&run.span_id),
            ended,
            "the root comes at the end"
        );
        for span in spans {
            assert!(span.start_ns <= span.end_ns, "{span:?}");
            assert!(span.start_ns >= run.started_ms * 1_000_000, "{span:?}");
            if let Some(parent) = span.parent_span_id.filter(|_| ended) {
                assert!(ids.contains(&parent), "{span:?} has no parent");
            }
        }
        if run.state == RunState::Failed {
            let failed = spans.iter().filter(|span| span.error.is_some()).count();
            assert!(failed >= 2, "the run and its stage failed: {run:?}");
        }
    }
}

#[test]
fn logs_and_events_tell_the_same_story() {
    let telemetry = &DAY.telemetry;
    let logs = telemetry.logs();
    assert!(logs.len() > 80_000, "{} records", logs.len());
    assert!(
        logs.windows(2)
            .all(|pair| pair[0].time_ns <= pair[1].time_ns)
    );
    let (start, end) = (
        telemetry.start_ms() * 1_000_000,
        telemetry.end_ms() * 1_000_000,
    );
    assert!(
        logs.iter()
            .all(|line| (start..=end).contains(&line.time_ns))
    );
    let failed: Vec<_> = telemetry
        .runs()
        .iter()
        .filter(|run| run.state == RunState::Failed && run.ended_ms > telemetry.start_ms())
        .collect();
    let events = logs
        .iter()
        .filter(|line| line.event == "run.failed")
        .count();
    assert_eq!(events, failed.len());
    let traces: Vec<[u8; 16]> = failed.iter().map(|run| run.trace_id).collect();
    let explained = logs
        .iter()
        .filter(|line| line.body.contains("msg=\"run failed\""))
        .filter_map(|line| line.context)
        .all(|(trace, _)| traces.contains(&trace));
    assert!(explained);
    assert_eq!(logs, telemetry.logs(), "each call makes the same records");
}
