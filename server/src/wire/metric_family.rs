//! Metric families as `io.prometheus.client.MetricFamily`: protobuf and protobuf's JSON.
//!
//! Source: `metrics.proto` of Prometheus' client model. In JSON, names are in camel case, 64-bit
//! integers are strings, and infinities and NaN are the strings `Infinity`, `-Infinity`, `NaN`, as
//! protobuf's JSON mapping has it.

use std::borrow::Cow;

use chronolith_engine::model::{
    BucketSpan as Span, CounterResetHint, Histogram as NativeHistogram, MetricType,
};
use serde_json::{Map, Value, json};

use super::protobuf::{
    push_bytes, push_double, push_doubles, push_number, push_signed, push_varint,
};

/// What a family is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Not known.
    Untyped,
    /// Buckets of something that is counted.
    Histogram,
    /// Buckets of something that goes up and down.
    GaugeHistogram,
}

impl Kind {
    /// Number and name in the schema.
    fn number_and_name(self) -> (u64, &'static str) {
        match self {
            Self::Counter => (0, "COUNTER"),
            Self::Gauge => (1, "GAUGE"),
            Self::Untyped => (3, "UNTYPED"),
            Self::Histogram => (4, "HISTOGRAM"),
            Self::GaugeHistogram => (5, "GAUGE_HISTOGRAM"),
        }
    }

    /// What a native histogram belongs to.
    #[must_use]
    pub fn of_histogram(histogram: &NativeHistogram) -> Self {
        match histogram.counter_reset_hint {
            CounterResetHint::Gauge => Self::GaugeHistogram,
            _ => Self::Histogram,
        }
    }
}

impl From<MetricType> for Kind {
    fn from(metric_type: MetricType) -> Self {
        match metric_type {
            MetricType::Counter => Self::Counter,
            MetricType::Gauge => Self::Gauge,
            MetricType::Histogram => Self::Histogram,
            MetricType::GaugeHistogram => Self::GaugeHistogram,
            _ => Self::Untyped,
        }
    }
}

/// A histogram with cumulative buckets.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Classic {
    /// Observations.
    pub count: f64,
    /// Their sum.
    pub sum: f64,
    /// Upper bounds and how many observations are not above.
    pub buckets: Vec<(f64, f64)>,
}

impl Classic {
    /// The explicit buckets of a native histogram, for which the schema has no other form.
    fn of_custom(histogram: &NativeHistogram) -> Self {
        let mut populations = vec![0.0; histogram.custom_bounds().len() + 1];
        let mut index = 0_i64;
        let mut buckets = histogram.positive_buckets.iter();
        for span in &histogram.positive_spans {
            index += i64::from(span.offset);
            for population in buckets.by_ref().take(span.length as usize) {
                let place = usize::try_from(index).ok();
                if let Some(place) = place.and_then(|place| populations.get_mut(place)) {
                    *place = *population;
                }
                index += 1;
            }
        }
        let bounds = histogram.custom_bounds().iter().copied();
        let mut total = 0.0;
        let cumulative = populations.iter().map(|population| {
            total += population;
            total
        });
        let buckets = bounds.chain([f64::INFINITY]).zip(cumulative).collect();
        Self {
            count: histogram.count,
            sum: histogram.sum,
            buckets,
        }
    }
}

/// What a metric holds.
#[derive(Clone, Debug, PartialEq)]
pub enum Content<'a> {
    /// A number.
    Number(f64),
    /// Cumulative buckets.
    Classic(Classic),
    /// A native histogram.
    Native(&'a NativeHistogram),
}

/// A member of a family.
#[derive(Clone, Debug, PartialEq)]
pub struct Metric<'a> {
    /// Labels besides the name.
    pub labels: Vec<(Cow<'a, str>, &'a str)>,
    /// What it holds.
    pub content: Content<'a>,
    /// When, ms since the epoch, if it says so.
    pub time_ms: Option<i64>,
}

/// Metrics of one name.
#[derive(Clone, Debug, PartialEq)]
pub struct Family<'a> {
    /// The name.
    pub name: Cow<'a, str>,
    /// What it is about.
    pub help: &'a str,
    /// What it is.
    pub kind: Kind,
    /// Its members.
    pub metrics: Vec<Metric<'a>>,
}

impl Metric<'_> {
    fn message(&self, kind: Kind) -> Vec<u8> {
        let mut message = Vec::new();
        for (name, value) in &self.labels {
            let mut pair = Vec::with_capacity(name.len() + value.len() + 4);
            push_bytes(&mut pair, 1, name.as_bytes());
            push_bytes(&mut pair, 2, value.as_bytes());
            push_bytes(&mut message, 1, &pair);
        }
        let mut content = Vec::new();
        let field = match &self.content {
            Content::Number(value) => {
                push_double(&mut content, 1, *value);
                match kind {
                    Kind::Gauge => 2,
                    Kind::Counter => 3,
                    _ => 5,
                }
            }
            Content::Classic(classic) => {
                push_classic(&mut content, classic);
                7
            }
            Content::Native(histogram) if histogram.uses_custom_buckets() => {
                push_classic(&mut content, &Classic::of_custom(histogram));
                7
            }
            Content::Native(histogram) => {
                push_native(&mut content, histogram);
                7
            }
        };
        push_bytes(&mut message, field, &content);
        if let Some(time_ms) = self.time_ms {
            push_number(&mut message, 6, time_ms.cast_unsigned());
        }
        message
    }

    fn to_json(&self, kind: Kind) -> Value {
        let labels: Vec<Value> = self
            .labels
            .iter()
            .map(|(name, value)| json!({"name": name, "value": value}))
            .collect();
        let mut metric = Map::new();
        if !labels.is_empty() {
            metric.insert("label".into(), labels.into());
        }
        let (field, content) = match &self.content {
            Content::Number(value) => {
                let field = match kind {
                    Kind::Gauge => "gauge",
                    Kind::Counter => "counter",
                    _ => "untyped",
                };
                (field, json!({ "value": double(*value) }))
            }
            Content::Classic(classic) => ("histogram", classic_json(classic)),
            Content::Native(histogram) => ("histogram", native_json(histogram)),
        };
        metric.insert(field.into(), content);
        if let Some(time_ms) = self.time_ms {
            metric.insert("timestampMs".into(), time_ms.to_string().into());
        }
        metric.into()
    }
}

impl Family<'_> {
    /// Appends the message with its length in front.
    pub fn push_delimited(&self, out: &mut Vec<u8>) {
        let mut message = Vec::new();
        push_bytes(&mut message, 1, self.name.as_bytes());
        if !self.help.is_empty() {
            push_bytes(&mut message, 2, self.help.as_bytes());
        }
        push_number(&mut message, 3, self.kind.number_and_name().0);
        for metric in &self.metrics {
            push_bytes(&mut message, 4, &metric.message(self.kind));
        }
        push_varint(out, message.len() as u64);
        out.extend_from_slice(&message);
    }

    /// The message in protobuf's JSON.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let metrics = self.metrics.iter().map(|m| m.to_json(self.kind));
        json!({
            "name": self.name,
            "help": self.help,
            "type": self.kind.number_and_name().1,
            "metric": metrics.collect::<Vec<Value>>(),
        })
    }
}

/// A population as the whole number that it is, or `None`.
fn whole(population: f64) -> Option<u64> {
    const EXACT_MAX: f64 = 9_007_199_254_740_992.0;
    let is_whole = population.fract() == 0.0 && (0.0..=EXACT_MAX).contains(&population);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a whole number from 0 to 2^53"
    )]
    is_whole.then_some(population as u64)
}

/// Appends a population: as an integer where all are whole, else as a double in a field of its own.
fn push_population(out: &mut Vec<u8>, (integer, float): (u32, u32), population: f64) {
    match whole(population) {
        Some(number) => push_number(out, integer, number),
        None => push_double(out, float, population),
    }
}

fn push_classic(out: &mut Vec<u8>, classic: &Classic) {
    push_population(out, (1, 4), classic.count);
    push_double(out, 2, classic.sum);
    for (bound, population) in &classic.buckets {
        let mut bucket = Vec::with_capacity(24);
        push_population(&mut bucket, (1, 4), *population);
        push_double(&mut bucket, 2, *bound);
        push_bytes(out, 3, &bucket);
    }
}

/// Exponential buckets, as float populations: what the writer sent as integers is exact in them.
fn push_native(out: &mut Vec<u8>, histogram: &NativeHistogram) {
    push_double(out, 4, histogram.count);
    push_double(out, 2, histogram.sum);
    push_signed(out, 5, histogram.schema.into());
    push_double(out, 6, histogram.zero_threshold);
    push_double(out, 8, histogram.zero_count);
    push_spans(out, 9, &histogram.negative_spans);
    push_doubles(out, 11, &histogram.negative_buckets);
    push_spans(out, 12, &histogram.positive_spans);
    if histogram.positive_spans.is_empty() && histogram.negative_spans.is_empty() {
        // An empty span says that this is a native histogram, though it has no bucket.
        push_spans(
            out,
            12,
            &[Span {
                offset: 0,
                length: 0,
            }],
        );
    }
    push_doubles(out, 14, &histogram.positive_buckets);
}

fn push_spans(out: &mut Vec<u8>, field: u32, spans: &[Span]) {
    for span in spans {
        let mut message = Vec::with_capacity(8);
        push_signed(&mut message, 1, span.offset.into());
        push_number(&mut message, 2, span.length.into());
        push_bytes(out, field, &message);
    }
}

/// A double in protobuf's JSON.
fn double(value: f64) -> Value {
    if value.is_nan() {
        return "NaN".into();
    }
    if value.is_infinite() {
        return if value > 0.0 { "Infinity" } else { "-Infinity" }.into();
    }
    value.into()
}

fn classic_json(classic: &Classic) -> Value {
    let buckets = classic.buckets.iter().map(|(bound, population)| {
        let mut bucket = population_json(("cumulativeCount", "cumulativeCountFloat"), *population);
        bucket.insert("upperBound".into(), double(*bound));
        Value::Object(bucket)
    });
    let mut histogram = population_json(("sampleCount", "sampleCountFloat"), classic.count);
    histogram.insert("sampleSum".into(), double(classic.sum));
    histogram.insert("bucket".into(), buckets.collect());
    histogram.into()
}

fn population_json((integer, float): (&str, &str), population: f64) -> Map<String, Value> {
    let (name, value) = match whole(population) {
        Some(number) => (integer, number.to_string().into()),
        None => (float, double(population)),
    };
    Map::from_iter([(name.to_owned(), value)])
}

fn native_json(histogram: &NativeHistogram) -> Value {
    if histogram.uses_custom_buckets() {
        return classic_json(&Classic::of_custom(histogram));
    }
    let spans = |spans: &[Span]| -> Value {
        let spans = spans.iter();
        spans
            .map(|span| json!({"offset": span.offset, "length": span.length}))
            .collect()
    };
    let doubles = |values: &[f64]| -> Value { values.iter().map(|v| double(*v)).collect() };
    json!({
        "sampleCountFloat": double(histogram.count),
        "sampleSum": double(histogram.sum),
        "schema": histogram.schema,
        "zeroThreshold": double(histogram.zero_threshold),
        "zeroCountFloat": double(histogram.zero_count),
        "negativeSpan": spans(&histogram.negative_spans),
        "negativeCount": doubles(&histogram.negative_buckets),
        "positiveSpan": spans(&histogram.positive_spans),
        "positiveCount": doubles(&histogram.positive_buckets),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ingest::protobuf::Reader;

    #[test]
    fn families_are_written_with_their_length() {
        let family = Family {
            name: "up".into(),
            help: "Lives.",
            kind: Kind::Gauge,
            metrics: vec![Metric {
                labels: vec![("job".into(), "a")],
                content: Content::Number(1.0),
                time_ms: Some(1_500),
            }],
        };
        let mut out = Vec::new();
        family.push_delimited(&mut out);
        assert_eq!(usize::from(out[0]), out.len() - 1);
        let mut reader = Reader::new(&out[1..]);
        let mut next = || reader.next_field().unwrap().unwrap();
        assert_eq!(next().bytes(), Ok(&b"up"[..]));
        assert_eq!(next().bytes(), Ok(&b"Lives."[..]));
        assert_eq!(next().varint(), Ok(1));
        let metric = next();
        let mut metric = Reader::new(metric.bytes().unwrap());
        let mut next = || metric.next_field().unwrap().unwrap();
        assert_eq!(next().bytes(), Ok(&b"\x0a\x03job\x12\x01a"[..]));
        let gauge = next();
        assert_eq!(gauge.number, 2);
        let gauge = Reader::new(gauge.bytes().unwrap()).next_field().unwrap();
        assert_eq!(gauge.unwrap().double(), Ok(1.0));
        assert_eq!(next().varint(), Ok(1_500));
    }

    #[test]
    fn json_is_that_of_protobuf() {
        let classic = Classic {
            count: 3.0,
            sum: 0.5,
            buckets: vec![(0.1, 2.0), (f64::INFINITY, 3.0)],
        };
        let family = Family {
            name: "h".into(),
            help: "",
            kind: Kind::Histogram,
            metrics: vec![Metric {
                labels: Vec::new(),
                content: Content::Classic(classic),
                time_ms: None,
            }],
        };
        assert_eq!(
            family.to_json(),
            json!({"name": "h", "help": "", "type": "HISTOGRAM", "metric": [{"histogram": {
                "sampleCount": "3", "sampleSum": 0.5, "bucket": [
                    {"cumulativeCount": "2", "upperBound": 0.1},
                    {"cumulativeCount": "3", "upperBound": "Infinity"},
                ],
            }}]})
        );
    }

    #[test]
    fn explicit_buckets_become_cumulative() {
        let histogram = NativeHistogram {
            schema: chronolith_engine::model::CUSTOM_BUCKETS_SCHEMA,
            count: 6.0,
            positive_spans: vec![
                Span {
                    offset: 0,
                    length: 1,
                },
                Span {
                    offset: 1,
                    length: 1,
                },
            ],
            positive_buckets: vec![1.0, 5.0],
            custom_values: Some([1.0, 2.0].into()),
            ..NativeHistogram::default()
        };
        let classic = Classic::of_custom(&histogram);
        assert_eq!(
            classic.buckets,
            [(1.0, 1.0), (2.0, 1.0), (f64::INFINITY, 6.0)]
        );
    }
}
