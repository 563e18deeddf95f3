//! Remote write 1.0 and 2.0 messages, read in place.
//!
//! Both versions describe series, samples, exemplars, histograms and metadata; they differ in how
//! a series names its labels. 1.0 repeats them in each series: that run of bytes, as it stands on
//! the wire, is what the engine hashes to find a series it knows, so labels are parsed once per
//! series and process, not once per sample. 2.0 refers to a table of strings; there the labels are
//! written out into a scratch buffer that serves as the key.
//!
//! ```text
//! 1.0 WriteRequest { 1: TimeSeries*, 3: Metadata* }
//!     TimeSeries   { 1: Label{1: name, 2: value}*, 2: Sample*, 3: Exemplar*, 4: Histogram* }
//! 2.0 Request      { 4: symbol*, 5: TimeSeries* }
//!     TimeSeries   { 1: label ref*, 2: Sample*, 3: Histogram*, 4: Exemplar*, 5: Metadata }
//! both Sample      { 1: value double, 2: time int64 ms, (2.0) 3: start time int64 ms }
//! ```

use std::sync::Arc;

use chronolith_engine::model::{BucketSpan, CounterResetHint, Histogram, MetricType};

use super::protobuf::{Field, Reader, WireError, repeated_double, repeated_varint, zigzag};

/// Buckets and spans that one histogram may have; the coarsest real ones have hundreds.
const HISTOGRAM_BUCKETS_MAX: usize = 20_000;
/// Largest whole number that a double holds exactly.
const EXACT_MAX: u64 = 1 << 53;

/// How a label begins on the wire (1.0): field 1, length-delimited.
const LABEL_TAG: u8 = 1 << 3 | 2;
/// How a sample begins: field 2, length-delimited.
const SAMPLE_TAG: u8 = 2 << 3 | 2;
/// Inside a sample: field 1, a double, and field 2, a varint.
const SAMPLE_VALUE_TAG: u8 = 1 << 3 | 1;
const SAMPLE_TIME_TAG: u8 = 2 << 3;

/// A label's name and value as they stand on the wire, not yet checked to be UTF-8.
pub type RawLabel<'a> = (&'a [u8], &'a [u8]);

/// Which fields of a `TimeSeries` mean what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// `prometheus.WriteRequest`
    V1,
    /// `io.prometheus.write.v2.Request`
    V2,
}

/// Why a message was refused.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// Not protobuf, or not of this shape.
    #[error("malformed message: {0}")]
    Wire(#[from] WireError),
    /// A histogram or a series that cannot be.
    #[error("{0}")]
    Invalid(String),
    /// A reference into the table of strings that does not exist (2.0).
    #[error("reference {0} to a symbol, of {1} there are")]
    Symbol(u64, usize),
}

/// A field of a 1.0 request.
#[derive(Debug)]
pub enum Item<'a> {
    /// A series with its rows.
    Series(TimeSeries<'a>),
    /// What a metric name stands for.
    Metadata(MetadataItem<'a>),
}

/// Walks over a 1.0 request.
#[derive(Debug)]
pub struct WriteRequest<'a> {
    reader: Reader<'a>,
}

impl<'a> WriteRequest<'a> {
    /// Starts at the first item.
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Self {
        Self {
            reader: Reader::new(bytes),
        }
    }

    /// The next item, or `None` at the end.
    ///
    /// # Errors
    /// The bytes are not a request.
    pub fn next_item(&mut self) -> Result<Option<Item<'a>>, DecodeError> {
        while let Some(field) = self.reader.next_field()? {
            match field.number {
                1 => return Ok(Some(Item::Series(TimeSeries::read(field.bytes()?)?))),
                3 => {
                    return Ok(Some(Item::Metadata(MetadataItem::read(field.bytes()?)?)));
                }
                _ => {}
            }
        }
        Ok(None)
    }
}

/// What a metric name stands for (1.0).
#[derive(Debug, Default)]
pub struct MetadataItem<'a> {
    /// Kind of metric.
    pub metric_type: MetricType,
    /// Name of the metric family, not yet checked to be UTF-8.
    pub metric: &'a [u8],
    /// Help text.
    pub help: &'a [u8],
    /// Unit.
    pub unit: &'a [u8],
}

impl<'a> MetadataItem<'a> {
    fn read(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        let mut item = Self::default();
        let mut reader = Reader::new(bytes);
        while let Some(field) = reader.next_field()? {
            match field.number {
                1 => item.metric_type = metric_type(field.varint()?),
                2 => item.metric = field.bytes()?,
                4 => item.help = field.bytes()?,
                5 => item.unit = field.bytes()?,
                _ => {}
            }
        }
        Ok(item)
    }
}

/// An unknown number is a type that we do not know.
fn metric_type(number: u64) -> MetricType {
    u8::try_from(number)
        .ok()
        .and_then(MetricType::from_u8)
        .unwrap_or_default()
}

/// One series of a 1.0 request.
#[derive(Debug)]
pub struct TimeSeries<'a> {
    /// The labels as they stand on the wire, tags and all, when they stand together at the
    /// beginning, as every known writer has them: what the series is recognised by.
    pub raw_labels: &'a [u8],
    message: &'a [u8],
    rows_at: usize,
}

impl<'a> TimeSeries<'a> {
    /// Finds where the labels end; touches no label's content.
    fn read(message: &'a [u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(message);
        reader.skip_short_fields(LABEL_TAG);
        let mut rows_at = reader.position();
        while let Some(field) = reader.next_field()? {
            if field.number != 1 {
                break;
            }
            field.bytes()?;
            rows_at = reader.position();
        }
        Ok(Self {
            raw_labels: message.get(..rows_at).unwrap_or(&[]),
            message,
            rows_at,
        })
    }

    /// The rows of the series. A label behind a row ends in [`Row::Label`]: such a series has to
    /// be read with [`TimeSeries::all_labels`].
    #[must_use]
    pub fn rows(&self) -> Rows<'a> {
        let rows = self.message.get(self.rows_at..).unwrap_or(&[]);
        Rows::new(rows, Version::V1)
    }

    /// The labels, wherever they stand, in wire order, not yet checked to be UTF-8.
    ///
    /// # Errors
    /// The bytes are not labels.
    pub fn all_labels(&self) -> Result<Vec<RawLabel<'a>>, DecodeError> {
        let mut labels = Vec::new();
        let mut reader = Reader::new(self.message);
        while let Some(field) = reader.next_field()? {
            if field.number == 1 {
                labels.push(read_label(field.bytes()?)?);
            }
        }
        Ok(labels)
    }
}

fn read_label(bytes: &[u8]) -> Result<(&[u8], &[u8]), WireError> {
    let (mut name, mut value): (&[u8], &[u8]) = (&[], &[]);
    let mut reader = Reader::new(bytes);
    while let Some(field) = reader.next_field()? {
        match field.number {
            1 => name = field.bytes()?,
            2 => value = field.bytes()?,
            _ => {}
        }
    }
    Ok((name, value))
}

/// A row of a series.
#[derive(Debug)]
pub enum Row<'a> {
    /// A float sample; times in milliseconds.
    Sample {
        /// Its value, bit for bit.
        value: f64,
        /// Its time.
        time_ms: i64,
        /// When the counter began; 0 for not known.
        start_ms: i64,
    },
    /// A histogram sample.
    Histogram(HistogramMessage),
    /// An exemplar, not yet read.
    Exemplar(ExemplarMessage<'a>),
    /// What the metric stands for (2.0).
    Metadata {
        /// Kind of metric.
        metric_type: MetricType,
        /// Reference to the help text.
        help: u64,
        /// Reference to the unit.
        unit: u64,
    },
    /// A label where a row was expected (1.0), or label references (2.0).
    Label(Field<'a>),
}

/// Walks over the rows of a series.
#[derive(Debug)]
pub struct Rows<'a> {
    reader: Reader<'a>,
    version: Version,
}

impl<'a> Rows<'a> {
    /// Starts at the first field of `message`.
    #[must_use]
    pub fn new(message: &'a [u8], version: Version) -> Self {
        Self {
            reader: Reader::new(message),
            version,
        }
    }

    /// Value and time (milliseconds) of the next row if it is a sample in the form that all known
    /// writers send: value, time, nothing else. Otherwise nothing is read, and
    /// [`Rows::next_row`] says what is there.
    #[inline]
    pub fn next_plain_sample(&mut self) -> Option<(f64, i64)> {
        let before = self.reader.clone();
        let sample = plain_sample(self.reader.take_short_field(SAMPLE_TAG)?);
        if sample.is_none() {
            self.reader = before;
        }
        sample
    }

    /// The next row, or `None` at the end.
    ///
    /// # Errors
    /// The bytes are not a row.
    #[inline]
    pub fn next_row(&mut self) -> Result<Option<Row<'a>>, DecodeError> {
        while let Some(field) = self.reader.next_field()? {
            let row = match (field.number, self.version) {
                (2, _) => read_sample(field.bytes()?)?,
                (1, _) => Row::Label(field),
                (4, Version::V1) | (3, Version::V2) => {
                    Row::Histogram(HistogramMessage::read(field.bytes()?)?)
                }
                (3, Version::V1) | (4, Version::V2) => {
                    Row::Exemplar(ExemplarMessage::read(field.bytes()?, self.version)?)
                }
                (5, Version::V2) => read_metadata_refs(field.bytes()?)?,
                _ => continue,
            };
            return Ok(Some(row));
        }
        Ok(None)
    }
}

#[inline]
fn plain_sample(bytes: &[u8]) -> Option<(f64, i64)> {
    const VARINT_63_BITS: usize = 9;
    let (&head, time) = bytes.split_first_chunk::<10>()?;
    let [value_tag, value @ .., time_tag] = head;
    let (&last, low) = time.split_last()?;
    if value_tag != SAMPLE_VALUE_TAG
        || time_tag != SAMPLE_TIME_TAG
        || time.len() > VARINT_63_BITS
        || last >= 0x80
    {
        return None;
    }
    let mut time_ms = i64::from(last);
    for &byte in low.iter().rev() {
        if byte < 0x80 {
            return None;
        }
        time_ms = time_ms << 7 | i64::from(byte & 0x7f);
    }
    Some((f64::from_le_bytes(value), time_ms))
}

#[inline]
fn read_sample<'a>(bytes: &[u8]) -> Result<Row<'a>, WireError> {
    let (mut value, mut time_ms, mut start_ms) = (0.0, 0, 0);
    let mut reader = Reader::new(bytes);
    while let Some(field) = reader.next_field()? {
        match field.number {
            1 => value = field.double()?,
            2 => time_ms = field.int64()?,
            3 => start_ms = field.int64()?,
            _ => {}
        }
    }
    Ok(Row::Sample {
        value,
        time_ms,
        start_ms,
    })
}

fn read_metadata_refs<'a>(bytes: &[u8]) -> Result<Row<'a>, WireError> {
    let (mut metric_type_number, mut help, mut unit) = (0, 0, 0);
    let mut reader = Reader::new(bytes);
    while let Some(field) = reader.next_field()? {
        match field.number {
            1 => metric_type_number = field.varint()?,
            3 => help = field.varint()?,
            4 => unit = field.varint()?,
            _ => {}
        }
    }
    Ok(Row::Metadata {
        metric_type: metric_type(metric_type_number),
        help,
        unit,
    })
}

/// An exemplar as it stands on the wire.
#[derive(Debug)]
pub struct ExemplarMessage<'a> {
    message: &'a [u8],
    /// The observed value.
    pub value: f64,
    /// When, in milliseconds.
    pub time_ms: i64,
}

impl<'a> ExemplarMessage<'a> {
    fn read(message: &'a [u8], _version: Version) -> Result<Self, WireError> {
        let (mut value, mut time_ms) = (0.0, 0);
        let mut reader = Reader::new(message);
        while let Some(field) = reader.next_field()? {
            match field.number {
                2 => value = field.double()?,
                3 => time_ms = field.int64()?,
                _ => {}
            }
        }
        Ok(Self {
            message,
            value,
            time_ms,
        })
    }

    /// The exemplar's own labels (1.0).
    ///
    /// # Errors
    /// The bytes are not labels.
    pub fn labels(&self) -> Result<Vec<RawLabel<'a>>, DecodeError> {
        let mut labels = Vec::new();
        let mut reader = Reader::new(self.message);
        while let Some(field) = reader.next_field()? {
            if field.number == 1 {
                labels.push(read_label(field.bytes()?)?);
            }
        }
        Ok(labels)
    }

    /// The references to the exemplar's own labels (2.0).
    ///
    /// # Errors
    /// The bytes are not references.
    pub fn label_refs(&self) -> Result<Vec<u64>, DecodeError> {
        let mut refs = Vec::new();
        let mut reader = Reader::new(self.message);
        while let Some(field) = reader.next_field()? {
            if field.number == 1 {
                repeated_varint::<WireError>(field, |number| {
                    refs.push(number);
                    Ok(())
                })?;
            }
        }
        Ok(refs)
    }
}

/// A histogram sample, checked.
#[derive(Debug)]
pub struct HistogramMessage {
    /// The histogram.
    pub histogram: Histogram,
    /// Its time in milliseconds.
    pub time_ms: i64,
    /// When the counter began, in milliseconds; 0 for not known.
    pub start_ms: i64,
}

impl HistogramMessage {
    fn read(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut h = Histogram::default();
        let (mut time_ms, mut start_ms) = (0, 0);
        let mut float_counts = false;
        let mut deltas: [Vec<i64>; 2] = Default::default();
        let mut counts: [Vec<f64>; 2] = Default::default();
        let mut custom = Vec::new();
        let mut reader = Reader::new(bytes);
        while let Some(field) = reader.next_field()? {
            match field.number {
                1 => h.count = exact(field.varint()?)?,
                2 => {
                    h.count = field.double()?;
                    float_counts = true;
                }
                3 => h.sum = field.double()?,
                4 => {
                    h.schema = i32::try_from(field.sint64()?)
                        .map_err(|_| DecodeError::Invalid("schema out of range".into()))?;
                }
                5 => h.zero_threshold = field.double()?,
                6 => h.zero_count = exact(field.varint()?)?,
                7 => h.zero_count = field.double()?,
                8 => h.negative_spans.push(read_span(field.bytes()?)?),
                9 => read_deltas(field, &mut deltas[0])?,
                10 => repeated_double(field, &mut counts[0])?,
                11 => h.positive_spans.push(read_span(field.bytes()?)?),
                12 => read_deltas(field, &mut deltas[1])?,
                13 => repeated_double(field, &mut counts[1])?,
                14 => {
                    let hint = u8::try_from(field.varint()?).ok();
                    h.counter_reset_hint =
                        hint.and_then(CounterResetHint::from_u8).unwrap_or_default();
                }
                15 => time_ms = field.int64()?,
                16 => repeated_double(field, &mut custom)?,
                17 => start_ms = field.int64()?,
                _ => {}
            }
            let parts = [
                h.negative_spans.len(),
                h.positive_spans.len(),
                deltas[0].len() + counts[0].len(),
                deltas[1].len() + counts[1].len(),
                custom.len(),
            ];
            if parts.iter().any(|n| *n > HISTOGRAM_BUCKETS_MAX) {
                return Err(DecodeError::Invalid(format!(
                    "histogram with more than {HISTOGRAM_BUCKETS_MAX} buckets"
                )));
            }
        }
        h.integer = !float_counts;
        let [negative_deltas, positive_deltas] = deltas;
        let [negative_counts, positive_counts] = counts;
        h.negative_buckets = populations(&negative_deltas, negative_counts, h.integer)?;
        h.positive_buckets = populations(&positive_deltas, positive_counts, h.integer)?;
        if !custom.is_empty() {
            h.custom_values = Some(Arc::from(custom));
        }
        h.validate().map_err(DecodeError::Invalid)?;
        Ok(Self {
            histogram: h,
            time_ms,
            start_ms,
        })
    }
}

/// Counts beyond 2^53 would change when held as a double.
fn exact(count: u64) -> Result<f64, DecodeError> {
    if count > EXACT_MAX {
        return Err(DecodeError::Invalid(format!(
            "histogram count {count} is above 2^53"
        )));
    }
    Ok(count as f64)
}

fn read_span(bytes: &[u8]) -> Result<BucketSpan, DecodeError> {
    let (mut offset, mut length) = (0_i64, 0_u64);
    let mut reader = Reader::new(bytes);
    while let Some(field) = reader.next_field()? {
        match field.number {
            1 => offset = field.sint64()?,
            2 => length = field.varint()?,
            _ => {}
        }
    }
    match (i32::try_from(offset), u32::try_from(length)) {
        (Ok(offset), Ok(length)) => Ok(BucketSpan { offset, length }),
        _ => Err(DecodeError::Invalid("histogram span out of range".into())),
    }
}

fn read_deltas(field: Field<'_>, out: &mut Vec<i64>) -> Result<(), DecodeError> {
    repeated_varint(field, |raw| {
        out.push(zigzag(raw));
        Ok(())
    })
}

/// Integer histograms send each bucket as the difference to the one before.
fn populations(deltas: &[i64], counts: Vec<f64>, integer: bool) -> Result<Vec<f64>, DecodeError> {
    if !integer {
        return Ok(counts);
    }
    let mut population = 0_i64;
    let mut buckets = Vec::with_capacity(deltas.len());
    for delta in deltas {
        population = population
            .checked_add(*delta)
            .filter(|p| (0..=EXACT_MAX.cast_signed()).contains(p))
            .ok_or_else(|| {
                DecodeError::Invalid("histogram bucket population out of range".into())
            })?;
        buckets.push(population as f64);
    }
    Ok(buckets)
}

/// A 2.0 request: the table of strings, and the series that refer to it.
#[derive(Debug)]
pub struct RequestV2<'a> {
    /// The strings, not yet checked to be UTF-8; the first is empty.
    pub symbols: Vec<&'a [u8]>,
    /// The series' messages, to be walked with [`Rows`].
    pub series: Vec<&'a [u8]>,
}

impl<'a> RequestV2<'a> {
    /// Finds the strings and the series.
    ///
    /// # Errors
    /// The bytes are not a request.
    pub fn read(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        let (mut symbols, mut series) = (Vec::new(), Vec::new());
        let mut reader = Reader::new(bytes);
        while let Some(field) = reader.next_field()? {
            match field.number {
                4 => symbols.push(field.bytes()?),
                5 => series.push(field.bytes()?),
                _ => {}
            }
        }
        Ok(Self { symbols, series })
    }

    /// A string of the table.
    ///
    /// # Errors
    /// There is none with this number.
    pub fn symbol(&self, reference: u64) -> Result<&'a [u8], DecodeError> {
        usize::try_from(reference)
            .ok()
            .and_then(|index| self.symbols.get(index))
            .copied()
            .ok_or(DecodeError::Symbol(reference, self.symbols.len()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::protobuf::{
        push_bytes as bytes, push_double as double, push_number as number, push_varint as varint,
    };

    fn label(name: &str, value: &str) -> Vec<u8> {
        let mut out = Vec::new();
        bytes(&mut out, 1, name.as_bytes());
        bytes(&mut out, 2, value.as_bytes());
        out
    }

    fn sample(value: f64, time_ms: i64) -> Vec<u8> {
        let mut out = Vec::new();
        double(&mut out, 1, value);
        number(&mut out, 2, time_ms.cast_unsigned());
        out
    }

    #[test]
    fn a_series_lends_its_labels_and_samples() {
        let mut series = Vec::new();
        bytes(&mut series, 1, &label("__name__", "up"));
        bytes(&mut series, 1, &label("job", "x"));
        let labels_end = series.len();
        bytes(&mut series, 2, &sample(-0.0, -5));
        bytes(&mut series, 99, b"unknown");
        bytes(&mut series, 2, &sample(f64::NAN, 7));
        let mut request = Vec::new();
        bytes(&mut request, 1, &series);

        let mut items = WriteRequest::new(&request);
        let Some(Item::Series(got)) = items.next_item().unwrap() else {
            panic!("expected a series");
        };
        assert_eq!(got.raw_labels, &series[..labels_end]);
        assert_eq!(got.all_labels().unwrap()[1], (&b"job"[..], &b"x"[..]));
        let mut rows = got.rows();
        let mut seen = Vec::new();
        while let Some(row) = rows.next_row().unwrap() {
            let Row::Sample { value, time_ms, .. } = row else {
                panic!("expected a sample");
            };
            seen.push((value.to_bits(), time_ms));
        }
        assert_eq!(seen, [((-0.0_f64).to_bits(), -5), (f64::NAN.to_bits(), 7)]);
        assert!(items.next_item().unwrap().is_none());
    }

    #[test]
    fn plain_samples_are_those_that_the_general_way_reads() {
        let with_start = {
            let mut message = sample(1.0, 2);
            number(&mut message, 3, 1);
            message
        };
        let mut long_time = sample(1.0, 0);
        long_time.truncate(10);
        long_time.extend([0x80; 9]);
        long_time.push(1);
        let cases: [(Vec<u8>, Option<i64>); 9] = [
            (sample(1.5, 0), Some(0)),
            (sample(1.5, 127), Some(127)),
            (sample(-0.0, 128), Some(128)),
            (sample(f64::NAN, 1_795_161_600_016), Some(1_795_161_600_016)),
            (sample(1.5, i64::MAX), Some(i64::MAX)),
            (sample(1.5, -1), None),
            (long_time, None),
            (with_start, None),
            (sample(1.5, 300)[..9].to_vec(), None),
        ];
        for (message, plain) in cases {
            let mut field = Vec::new();
            bytes(&mut field, 2, &message);
            let mut rows = Rows::new(&field, Version::V1);
            let fast = rows.next_plain_sample();
            assert_eq!(fast.map(|(_, time)| time), plain, "{message:?}");
            let mut general = Rows::new(&field, Version::V1);
            match (fast, general.next_row()) {
                (Some(fast), Ok(Some(Row::Sample { value, time_ms, .. }))) => {
                    assert_eq!((fast.0.to_bits(), fast.1), (value.to_bits(), time_ms));
                    assert!(rows.next_row().unwrap().is_none());
                }
                (Some(_), other) => panic!("{other:?} for {message:?}"),
                // What the fast way leaves, the general way finds untouched.
                (None, expected) => {
                    assert_eq!(format!("{:?}", rows.next_row()), format!("{expected:?}"));
                }
            }
        }
    }

    #[test]
    fn an_integer_histogram_has_absolute_populations() {
        let mut span = Vec::new();
        number(&mut span, 1, 2); // zig-zag of 1
        number(&mut span, 2, 3);
        let mut packed = Vec::new();
        for zigzagged in [4, 1, 2] {
            varint(&mut packed, zigzagged); // +2, -1, +1
        }
        let mut message = Vec::new();
        number(&mut message, 1, 5);
        double(&mut message, 3, 18.4);
        number(&mut message, 4, 2);
        bytes(&mut message, 11, &span);
        bytes(&mut message, 12, &packed);
        number(&mut message, 15, 1000);
        let got = HistogramMessage::read(&message).unwrap();
        assert_eq!(got.histogram.positive_buckets, [2.0, 1.0, 2.0]);
        assert_eq!(got.histogram.positive_spans[0].offset, 1);
        assert_eq!((got.histogram.schema, got.histogram.integer), (1, true));
        assert_eq!(got.time_ms, 1000);
    }

    #[test]
    fn impossible_histograms_are_refused() {
        let mut negative = Vec::new();
        bytes(&mut negative, 12, &[1]); // -1
        assert!(HistogramMessage::read(&negative).is_err());
        let mut too_large = Vec::new();
        number(&mut too_large, 1, u64::MAX);
        assert!(HistogramMessage::read(&too_large).is_err());
        let mut schema = Vec::new();
        number(&mut schema, 4, 40);
        assert!(HistogramMessage::read(&schema).is_err());
    }

    #[test]
    fn symbols_are_checked() {
        let mut request = Vec::new();
        bytes(&mut request, 4, b"");
        bytes(&mut request, 4, b"up");
        let request = RequestV2::read(&request).unwrap();
        assert_eq!(request.symbol(1), Ok(&b"up"[..]));
        assert_eq!(request.symbol(2), Err(DecodeError::Symbol(2, 2)));
    }

    #[test]
    fn cut_messages_never_panic() {
        let mut series = Vec::new();
        bytes(&mut series, 1, &label("__name__", "up"));
        bytes(&mut series, 2, &sample(1.0, 7));
        let mut request = Vec::new();
        bytes(&mut request, 1, &series);
        for cut in 0..request.len() {
            let mut items = WriteRequest::new(&request[..cut]);
            while let Ok(Some(_)) = items.next_item() {}
        }
        for cut in 0..series.len() {
            let mut rows = Rows::new(&series[..cut], Version::V2);
            while let Ok(Some(_)) = rows.next_row() {}
        }
    }
}
