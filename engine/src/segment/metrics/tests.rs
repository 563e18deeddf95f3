//! Metrics segments against a plain model: a sorted map of label sets to samples.

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::TenantId;
use crate::codec::EncodeEffort;
use crate::index::{MatchOp, Matcher};
use crate::model::{
    BucketSpan, Exemplar, Generation, Histogram, HistogramSample, Labels, Metadata, MetricType,
    SampleColumns, TimeRange, TimestampNs,
};
use crate::segment::SegmentOrigin;

pub(crate) type Model = BTreeMap<Labels, SampleColumns>;

pub(crate) fn origin() -> SegmentOrigin {
    SegmentOrigin::received(
        TenantId::default(),
        Generation(7),
        TimeRange::new(1_000, 2_000),
    )
}

pub(crate) fn labels(pairs: &[(&str, &str)]) -> Labels {
    Labels::from_pairs(pairs.iter().copied()).unwrap()
}

pub(crate) fn build(model: &Model, options: MetricBuildOptions) -> Vec<u8> {
    let mut builder = MetricSegmentBuilder::new(Vec::new(), origin(), options).unwrap();
    for (labels, samples) in model {
        builder.begin_series(labels).unwrap();
        builder.push_samples(samples).unwrap();
    }
    let (bytes, _, identity) = builder.finish().unwrap();
    assert_eq!(identity.length, bytes.len() as u64);
    bytes
}

pub(crate) fn open(bytes: Vec<u8>) -> MetricSegmentReader {
    MetricSegmentReader::open(Arc::new(bytes), "memory.seg").unwrap()
}

fn within(samples: &SampleColumns, range: TimeRange) -> SampleColumns {
    let mut out = SampleColumns::default();
    for (at, time) in samples.timestamps.iter().enumerate() {
        if range.contains(TimestampNs(*time)) {
            out.timestamps.push(*time);
            out.values.push(samples.values[at]);
            out.start_timestamps
                .extend(samples.start_timestamps.get(at).copied());
        }
    }
    if out.start_timestamps.iter().all(|s| *s == 0) {
        out.start_timestamps.clear();
    }
    out.histograms = samples.histograms.clone();
    out.histograms.retain(|h| range.contains(h.time));
    out
}

/// Floats by bits, so that NaNs compare.
fn assert_same(found: &SampleColumns, expected: &SampleColumns) {
    let bits = |s: &SampleColumns| s.values.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
    assert_eq!(found.timestamps, expected.timestamps);
    assert_eq!(bits(found), bits(expected));
    let mut starts = found.start_timestamps.clone();
    if starts.iter().all(|s| *s == 0) {
        starts.clear();
    }
    assert_eq!(starts, expected.start_timestamps);
    assert_eq!(found.histograms, expected.histograms);
}

pub(crate) fn check(model: &Model, reader: &MetricSegmentReader, range: TimeRange) {
    let mut cache = DecodeCache::new();
    assert_eq!(reader.row_count() as usize, model.len());
    let all: Vec<Labels> = reader
        .labels_of(0..reader.row_count())
        .map(Result::unwrap)
        .collect();
    assert!(all.iter().eq(model.keys()));
    for (row, (labels, samples)) in model.iter().enumerate() {
        let row = row as u32;
        assert_eq!(reader.labels(row).unwrap(), *labels);
        for label in labels {
            assert_eq!(
                reader.label_value(row, label.name).unwrap(),
                Some(label.value)
            );
        }
        let mut found = SampleColumns::default();
        reader.read(row, range, &mut cache, &mut found).unwrap();
        assert_same(&found, &within(samples, range));
    }
}

fn histogram(seed: u64, custom: bool) -> Arc<Histogram> {
    let mut histogram = Histogram {
        count: seed as f64 * 3.0,
        sum: seed as f64 * 0.1,
        positive_spans: vec![BucketSpan {
            offset: 1,
            length: 2,
        }],
        positive_buckets: vec![seed as f64, seed as f64 * 2.0],
        integer: true,
        ..Histogram::default()
    };
    if custom {
        histogram.schema = crate::model::CUSTOM_BUCKETS_SCHEMA;
        histogram.custom_values = Some(Arc::from([0.1, 0.5, 1.0, 5.0]));
    } else {
        histogram.zero_threshold = 1e-9;
        histogram.zero_count = 4.0;
        histogram.negative_spans = vec![BucketSpan {
            offset: -3,
            length: 1,
        }];
        histogram.negative_buckets = vec![seed as f64];
    }
    Arc::new(histogram)
}

/// A model with everything in it: shared and own time columns, starts, histograms, odd values.
pub(crate) fn small_model() -> Model {
    let mut model = Model::new();
    for series in 0..150_i64 {
        let set = labels(&[
            (
                "__name__",
                if series % 3 == 0 {
                    "up"
                } else {
                    "requests_total"
                },
            ),
            ("instance", &format!("host-{:03}", series / 10)),
            ("job", if series % 2 == 0 { "api" } else { "db" }),
            ("shard", &(series % 10).to_string()),
            (if series % 7 == 0 { "Zone" } else { "zone" }, "a"),
        ]);
        let count = 20 + series % 5;
        let mut samples = SampleColumns::default();
        for at in 0..count {
            samples.timestamps.push(1_000_000 * (at * 10 + series % 4));
            samples.values.push(match at % 11 {
                9 => f64::from_bits(crate::model::STALE_NAN_BITS),
                10 => -0.0,
                _ => (series * at) as f64 / 4.0,
            });
            if series % 13 == 0 {
                samples.start_timestamps.push(at / 7 * 1_000_000);
            }
        }
        if series % 13 == 0 {
            samples.start_timestamps[1] = 5;
        }
        if series % 17 == 0 {
            for at in 0..9 {
                samples.histograms.push(HistogramSample {
                    time: TimestampNs(1_000_000 * at * 10 + 7),
                    histogram: histogram(at as u64 + 1, at > 5),
                    start_time: (at % 3 == 0 && at > 0).then_some(TimestampNs(at * 11)),
                });
            }
        }
        model.insert(set, samples);
    }
    model
}

fn options(chunk_samples: usize) -> MetricBuildOptions {
    MetricBuildOptions {
        chunk_samples,
        stats_samples_min: 4,
        ..MetricBuildOptions::default()
    }
}

#[test]
fn everything_reads_back_in_any_range() {
    let model = small_model();
    for chunk_samples in [3, 7, 1024] {
        let reader = open(build(&model, options(chunk_samples)));
        check(&model, &reader, TimeRange::ALL);
        for (start, end) in [(0, 0), (5, 50_000_000), (99_999_999, 100_000_000), (9, 3)] {
            check(&model, &reader, TimeRange::new(start, end));
        }
    }
}

#[test]
fn an_empty_segment_is_a_segment() {
    let reader = open(build(&Model::new(), MetricBuildOptions::default()));
    assert_eq!(reader.row_count(), 0);
    assert!(reader.select(&[], TimeRange::ALL).unwrap().is_empty());
    assert!(reader.label_names(None).unwrap().is_empty());
    assert!(reader.label_values("a", None).unwrap().is_empty());
    assert!(reader.metadata().unwrap().is_empty());
}

#[test]
fn meta_and_listings_are_kept() {
    let model = small_model();
    let reader = open(build(&model, options(8)));
    let meta = reader.meta();
    assert_eq!(meta.origin, origin());
    assert_eq!(meta.series_count, 150);
    let rows = model.values().map(|s| s.len() as u64).sum::<u64>();
    assert_eq!(meta.row_count, rows);
    assert_eq!(
        reader.label_names(None).unwrap(),
        ["Zone", "__name__", "instance", "job", "shard", "zone"]
    );
    assert_eq!(reader.label_values("job", None).unwrap(), ["api", "db"]);
    let one = reader
        .select(&[Matcher::equal("shard", "3")], TimeRange::ALL)
        .unwrap();
    assert_eq!(reader.label_values("job", Some(&one)).unwrap(), ["db"]);
    let zone = reader
        .select(&[Matcher::equal("Zone", "a")], TimeRange::ALL)
        .unwrap();
    assert!(
        !reader
            .label_names(Some(&zone))
            .unwrap()
            .contains(&"zone".to_owned())
    );
    let job = &reader.cardinality().unwrap()[3];
    assert_eq!((job.name.as_str(), job.values, job.series), ("job", 2, 150));
    assert_eq!(
        reader.series_per_value("job").unwrap(),
        [("api".to_owned(), 75), ("db".to_owned(), 75)]
    );
}

#[test]
fn timestamp_columns_are_shared() {
    let mut model = Model::new();
    for series in 0..100 {
        let samples = SampleColumns {
            timestamps: (0..500).map(|t| t * 1_000_000_000).collect(),
            values: (0..500).map(|t| f64::from(t * series)).collect(),
            ..SampleColumns::default()
        };
        model.insert(
            labels(&[("__name__", "m"), ("s", &series.to_string())]),
            samples,
        );
    }
    let reader = open(build(&model, options(250)));
    assert_eq!(reader.timestamp_columns().unwrap().0, 2);
    check(&model, &reader, TimeRange::ALL);
}

#[test]
fn chunks_are_copied_untouched() {
    let model = small_model();
    let source = open(build(&model, options(8)));
    let mut builder =
        MetricSegmentBuilder::new(Vec::new(), origin(), MetricBuildOptions::default()).unwrap();
    for row in 0..source.row_count() {
        builder.begin_series(&source.labels(row).unwrap()).unwrap();
        for chunk in source.chunks(row, TimeRange::ALL).unwrap() {
            builder.push_chunk(&source, &chunk).unwrap();
        }
    }
    let (bytes, meta, _) = builder.finish().unwrap();
    let copy = open(bytes);
    assert_eq!(meta.chunk_count, source.meta().chunk_count);
    check(&model, &copy, TimeRange::ALL);
    let stats = |reader: &MetricSegmentReader| {
        let chunk = reader.chunks(2, TimeRange::ALL).unwrap()[0];
        format!("{:?}", reader.chunk_stats(&chunk).unwrap().unwrap())
    };
    assert_eq!(stats(&copy), stats(&source));
}

#[test]
fn statistics_are_those_of_the_samples() {
    let mut model = Model::new();
    let values = [1.0, 5.0, f64::NAN, 2.0, 2.5];
    for (name, values) in [("a", &values[..]), ("b", &[0.1; 7][..])] {
        let samples = SampleColumns {
            timestamps: (0..values.len() as i64).collect(),
            values: values.to_vec(),
            ..SampleColumns::default()
        };
        model.insert(labels(&[("__name__", name)]), samples);
    }
    let reader = open(build(&model, options(1024)));
    for (row, samples) in model.values().enumerate() {
        let chunk = reader.chunks(row as u32, TimeRange::ALL).unwrap()[0];
        let expected = ChunkStats::of(&samples.values);
        assert_eq!(reader.chunk_stats(&chunk).unwrap(), Some(expected));
    }
}

#[test]
fn arrivals_exemplars_and_metadata_are_kept() {
    let mut builder = MetricSegmentBuilder::new(Vec::new(), origin(), options(3)).unwrap();
    let set = labels(&[("__name__", "m")]);
    let samples = SampleColumns {
        timestamps: vec![1, 2, 3, 4],
        values: vec![1.0, 2.0, 3.0, 4.0],
        start_timestamps: vec![0, 0, 1, 1],
        ..SampleColumns::default()
    };
    builder.begin_series(&labels(&[("__name__", "a")])).unwrap();
    builder.begin_series(&set).unwrap();
    builder
        .push_samples_with_arrivals(&samples, &[7, 7, 9, 8], &[])
        .unwrap();
    let exemplar = |time| Exemplar {
        labels: labels(&[("trace_id", "abc")]),
        value: 0.5,
        time: TimestampNs(time),
    };
    builder.push_exemplars(&[exemplar(2)]).unwrap();
    builder.push_exemplars(&[exemplar(9)]).unwrap();
    let metadata = Metadata {
        metric_type: MetricType::Counter,
        unit: "seconds".into(),
        help: "what it is".into(),
    };
    let older = Metadata {
        help: "zzz".into(),
        ..metadata.clone()
    };
    builder.push_metadata("m", &metadata);
    builder.push_metadata("m", &older);
    builder.push_metadata("m", &metadata);
    let (bytes, ..) = builder.finish().unwrap();
    let reader = open(bytes);
    assert_eq!(
        reader.row_count(),
        1,
        "a series without anything leaves no trace"
    );
    let chunks = reader.chunks(0, TimeRange::ALL).unwrap();
    let arrivals: Vec<i64> = chunks
        .iter()
        .flat_map(|chunk| reader.arrivals(chunk).unwrap())
        .collect();
    assert_eq!(arrivals, [7, 7, 9, 8]);
    assert_eq!(
        reader.exemplars(0, TimeRange::ALL).unwrap(),
        [exemplar(2), exemplar(9)]
    );
    assert_eq!(reader.exemplars(0, TimeRange::new(3, 9)).unwrap().len(), 1);
    assert_eq!(reader.metadata().unwrap()["m"], [older, metadata]);
}

fn brute_force(model: &Model, matchers: &[Matcher], range: TimeRange) -> Vec<u32> {
    model
        .iter()
        .enumerate()
        .filter(|(_, (labels, samples))| {
            matchers.iter().all(|m| m.matches_labels(labels)) && !within(samples, range).is_empty()
        })
        .map(|(row, _)| row as u32)
        .collect()
}

#[test]
fn matchers_agree_with_testing_every_series() {
    let model = small_model();
    let reader = open(build(&model, options(1024)));
    let mut patterns = vec![];
    for name in [
        "__name__", "instance", "job", "shard", "zone", "Zone", "absent",
    ] {
        for (op, values) in [
            (
                MatchOp::Equal,
                &["up", "api", "host-003", "a", "", "nothing", "3"][..],
            ),
            (
                MatchOp::NotEqual,
                &["up", "api", "host-003", "a", "", "nothing", "3"][..],
            ),
            (
                MatchOp::Regex,
                &[
                    "",
                    ".*",
                    ".+",
                    "up|down",
                    "host-00.*",
                    "host-0(01|02)|",
                    "(?i)API",
                    "[0-4]",
                    "x*",
                    ".*3",
                ][..],
            ),
            (
                MatchOp::NotRegex,
                &[
                    "",
                    ".*",
                    ".+",
                    "up|down",
                    "host-00.*",
                    "host-0(01|02)|",
                    "(?i)API",
                    "[0-4]",
                    "x*",
                    ".*3",
                ][..],
            ),
        ] {
            for value in values {
                patterns.push(Matcher::new(name, op, value).unwrap());
            }
        }
    }
    let check = |matchers: &[Matcher], range: TimeRange| {
        let found: Vec<u32> = reader
            .select(matchers, range)
            .unwrap()
            .into_iter()
            .collect();
        let mut expected = brute_force(&model, matchers, TimeRange::ALL);
        if !matchers.is_empty() || range == TimeRange::ALL {
            assert_eq!(
                reader
                    .select(matchers, TimeRange::ALL)
                    .unwrap()
                    .into_iter()
                    .collect::<Vec<_>>(),
                expected,
                "{matchers:?}"
            );
        }
        // A row whose chunk overlaps the range may have no sample in it: more is allowed, less is not.
        expected = brute_force(&model, matchers, range);
        assert!(
            expected.iter().all(|row| found.contains(row)),
            "{matchers:?}"
        );
    };
    for (at, matcher) in patterns.iter().enumerate() {
        check(
            std::slice::from_ref(matcher),
            TimeRange::new(200_000_000, 230_000_000),
        );
        let other = &patterns[at * 31 % patterns.len()];
        let third = &patterns[at * 17 % patterns.len()];
        check(&[matcher.clone(), other.clone()], TimeRange::ALL);
        check(
            &[matcher.clone(), other.clone(), third.clone()],
            TimeRange::ALL,
        );
    }
    assert!(
        reader
            .select(&[], TimeRange::new(i64::MIN, -1))
            .unwrap()
            .is_empty()
    );
}

fn any_value() -> impl Strategy<Value = f64> {
    prop_oneof![
        any::<u64>().prop_map(f64::from_bits),
        (-1000_i32..1000).prop_map(f64::from),
        (-1000_i32..1000).prop_map(|v| f64::from(v) / 100.0),
    ]
}

fn any_samples() -> impl Strategy<Value = SampleColumns> {
    let steps = prop::collection::vec((1_i64..2_000_000_000, any_value()), 1..200);
    (any::<i32>(), steps, any::<bool>()).prop_map(|(start, steps, starts)| {
        let mut samples = SampleColumns::default();
        let mut time = i64::from(start);
        for (step, value) in steps {
            time += step;
            samples.timestamps.push(time);
            samples.values.push(value);
            if starts {
                samples.start_timestamps.push(time - step);
            }
        }
        if samples.start_timestamps.iter().all(|s| *s == 0) {
            samples.start_timestamps.clear();
        }
        samples
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn any_model_reads_back(
        series in prop::collection::btree_map(
            prop::collection::btree_map("[a-cA-C_]{1,2}", "[a-z0-9é]{1,4}", 0..5), any_samples(), 0..40),
        chunk_samples in 1_usize..200,
        start in any::<i32>(),
        length in any::<u32>(),
        compact in any::<bool>(),
    ) {
        let model: Model = series
            .into_iter()
            .map(|(pairs, samples)| (Labels::from_pairs(pairs).unwrap(), samples))
            .collect();
        let effort = if compact { EncodeEffort::Compact } else { EncodeEffort::Flush };
        let reader = open(build(&model, MetricBuildOptions { effort, ..options(chunk_samples) }));
        check(&model, &reader, TimeRange::ALL);
        let start = i64::from(start);
        check(&model, &reader, TimeRange::new(start, start + i64::from(length)));
    }
}
