//! OTLP's metric messages, read where they lie.
//!
//! `ExportMetricsServiceRequest` > `ResourceMetrics` > `ScopeMetrics` > `Metric` > data point. A
//! level is a borrowed slice; the level above is walked once for what is said about it (fields may
//! come in any order) and once for what lies below it. Nothing is allocated by a count or a length
//! that a client claims. Field numbers are those of `opentelemetry/proto/metrics/v1/metrics.proto`.

use crate::ingest::protobuf::{Field, Reader, Value, WireError, repeated_double};
use crate::otlp::attributes::Attributes;

/// Flag of a data point: nothing was recorded, the series has ended.
const NO_RECORDED_VALUE: u64 = 1;

/// Buckets that a histogram's data point may have. Libraries send at most a few hundred.
pub const BUCKETS_MAX: usize = 16 << 10;
/// Quantiles that a summary's data point may have.
pub const QUANTILES_MAX: usize = 1 << 10;

/// Why a message cannot be read. The whole request is refused then.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MessageError {
    /// The bytes are wrong.
    #[error(transparent)]
    Wire(#[from] WireError),
    /// Text that is not text.
    #[error("field {0} is not UTF-8")]
    NotUtf8(u32),
}

/// Calls `take` with each message in the fields `number` of `message`.
///
/// # Errors
/// Malformed bytes, or what `take` answers.
pub fn for_each_message<'a, E: From<MessageError>>(
    message: &'a [u8],
    number: u32,
    mut take: impl FnMut(&'a [u8]) -> Result<(), E>,
) -> Result<(), E> {
    let mut reader = Reader::new(message);
    while let Some(field) = reader.next_field().map_err(MessageError::from)? {
        if field.number == number {
            take(field.bytes().map_err(MessageError::from)?)?;
        }
    }
    Ok(())
}

fn text(field: Field<'_>) -> Result<&str, MessageError> {
    std::str::from_utf8(field.bytes()?).map_err(|_| MessageError::NotUtf8(field.number))
}

fn fixed64(field: Field<'_>) -> Result<u64, WireError> {
    match field.value {
        Value::Fixed64(bits) => Ok(bits),
        _ => Err(WireError::FieldType(field.number)),
    }
}

/// What is said about a `ResourceMetrics`; its `ScopeMetrics` are in [`ResourceMetrics::SCOPES`].
pub struct ResourceMetrics<'a> {
    /// The attributes of the resource.
    pub attributes: Attributes<'a>,
}

impl<'a> ResourceMetrics<'a> {
    /// Field of the scopes.
    pub const SCOPES: u32 = 2;

    /// Reads it.
    ///
    /// # Errors
    /// Malformed bytes.
    pub fn read(message: &'a [u8]) -> Result<Self, MessageError> {
        let mut resource: &[u8] = &[];
        for_each_message(message, 1, |found| {
            resource = found;
            Ok::<_, MessageError>(())
        })?;
        Ok(Self {
            attributes: Attributes::new(resource, 1),
        })
    }
}

/// What is said about a `ScopeMetrics`; its `Metric`s are in [`ScopeMetrics::METRICS`].
pub struct ScopeMetrics<'a> {
    /// The scope's name.
    pub name: &'a str,
    /// Its version.
    pub version: &'a str,
    /// Its schema.
    pub schema_url: &'a str,
    /// Its attributes.
    pub attributes: Attributes<'a>,
}

impl<'a> ScopeMetrics<'a> {
    /// Field of the metrics.
    pub const METRICS: u32 = 2;

    /// Reads it.
    ///
    /// # Errors
    /// Malformed bytes.
    pub fn read(message: &'a [u8]) -> Result<Self, MessageError> {
        let (mut scope, mut schema_url): (&[u8], _) = (&[], "");
        let mut reader = Reader::new(message);
        while let Some(field) = reader.next_field()? {
            match field.number {
                1 => scope = field.bytes()?,
                3 => schema_url = text(field)?,
                _ => {}
            }
        }
        let (mut name, mut version) = ("", "");
        let mut reader = Reader::new(scope);
        while let Some(field) = reader.next_field()? {
            match field.number {
                1 => name = text(field)?,
                2 => version = text(field)?,
                _ => {}
            }
        }
        Ok(Self {
            name,
            version,
            schema_url,
            attributes: Attributes::new(scope, 3),
        })
    }
}

/// How the data points of a metric relate to each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Temporality {
    /// Not said.
    Unspecified,
    /// Each counts what came since the one before.
    Delta,
    /// Each counts from the start.
    Cumulative,
}

/// The kinds of metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// None, or one that is not known.
    Unknown,
    /// A gauge.
    Gauge,
    /// A sum.
    Sum {
        /// It only grows.
        monotonic: bool,
    },
    /// A histogram with explicit boundaries.
    Histogram,
    /// A histogram with exponential boundaries.
    ExponentialHistogram,
    /// Quantiles computed by the client.
    Summary,
}

/// What is said about a metric; its data points are in field 1 of `data`.
pub struct Metric<'a> {
    /// Its name.
    pub name: &'a str,
    /// What it is.
    pub description: &'a str,
    /// Its unit.
    pub unit: &'a str,
    /// Its kind.
    pub kind: Kind,
    /// The relation of its data points; gauges and summaries have none and say `Cumulative`.
    pub temporality: Temporality,
    data: &'a [u8],
}

impl<'a> Metric<'a> {
    /// Reads it.
    ///
    /// # Errors
    /// Malformed bytes.
    pub fn read(message: &'a [u8]) -> Result<Self, MessageError> {
        let mut metric = Self {
            name: "",
            description: "",
            unit: "",
            kind: Kind::Unknown,
            temporality: Temporality::Cumulative,
            data: &[],
        };
        let mut reader = Reader::new(message);
        while let Some(field) = reader.next_field()? {
            match field.number {
                1 => metric.name = text(field)?,
                2 => metric.description = text(field)?,
                3 => metric.unit = text(field)?,
                5 => metric.set(Kind::Gauge, field.bytes()?),
                7 => metric.set(Kind::Sum { monotonic: false }, field.bytes()?),
                9 => metric.set(Kind::Histogram, field.bytes()?),
                10 => metric.set(Kind::ExponentialHistogram, field.bytes()?),
                11 => metric.set(Kind::Summary, field.bytes()?),
                _ => {}
            }
        }
        if !matches!(metric.kind, Kind::Unknown | Kind::Gauge | Kind::Summary) {
            metric.read_relation()?;
        }
        Ok(metric)
    }

    fn set(&mut self, kind: Kind, data: &'a [u8]) {
        (self.kind, self.data) = (kind, data);
    }

    fn read_relation(&mut self) -> Result<(), MessageError> {
        self.temporality = Temporality::Unspecified;
        let mut reader = Reader::new(self.data);
        while let Some(field) = reader.next_field()? {
            match (field.number, &mut self.kind) {
                (2, _) => {
                    self.temporality = match field.varint()? {
                        1 => Temporality::Delta,
                        2 => Temporality::Cumulative,
                        _ => Temporality::Unspecified,
                    }
                }
                (3, Kind::Sum { monotonic }) => *monotonic = field.varint()? != 0,
                _ => {}
            }
        }
        Ok(())
    }

    /// Calls `take` with each data point.
    ///
    /// # Errors
    /// Malformed bytes, or what `take` answers.
    pub fn for_each_point<E: From<MessageError>>(
        &self,
        take: impl FnMut(&'a [u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        for_each_message(self.data, 1, take)
    }

    /// How many data points it has.
    ///
    /// # Errors
    /// Malformed bytes.
    pub fn point_count(&self) -> Result<u64, MessageError> {
        let mut count = 0;
        self.for_each_point(|_| {
            count += 1;
            Ok::<_, MessageError>(())
        })?;
        Ok(count)
    }
}

/// What all data points have.
#[derive(Clone, Copy, Debug, Default)]
pub struct PointHead {
    /// Nanoseconds since the epoch at which counting began; 0 for unknown.
    pub start_ns: u64,
    /// Nanoseconds since the epoch; 0 for unknown.
    pub time_ns: u64,
    /// The series has ended.
    pub no_recorded_value: bool,
}

/// A data point: its head, its own content and its attributes.
#[derive(Debug)]
pub struct Point<'a, T> {
    /// Times and flags.
    pub head: PointHead,
    /// Its attributes.
    pub attributes: Attributes<'a>,
    /// What it holds.
    pub content: T,
    message: &'a [u8],
}

/// What a kind of data points holds.
pub trait Content: Default {
    /// Field of the attributes.
    const ATTRIBUTES: u32;
    /// Field of the flags.
    const FLAGS: u32;
    /// Field of the exemplars.
    const EXEMPLARS: u32;

    /// Takes one of the fields that are its own.
    ///
    /// # Errors
    /// Malformed bytes.
    fn take(&mut self, field: Field<'_>) -> Result<(), WireError>;
}

impl<'a, T: Content> Point<'a, T> {
    /// Reads a data point. Its attributes, as they lie there, are appended to `key`: equal bytes
    /// mean equal attributes.
    ///
    /// # Errors
    /// Malformed bytes.
    pub fn read(message: &'a [u8], key: &mut Vec<u8>) -> Result<Self, MessageError> {
        let mut head = PointHead::default();
        let mut content = T::default();
        let mut reader = Reader::new(message);
        while let Some(field) = reader.next_field()? {
            if field.number == T::ATTRIBUTES {
                let attribute = field.bytes()?;
                key.extend_from_slice(&(attribute.len() as u64).to_le_bytes());
                key.extend_from_slice(attribute);
            } else if field.number == T::FLAGS {
                head.no_recorded_value = field.varint()? & NO_RECORDED_VALUE != 0;
            } else {
                match field.number {
                    2 => head.start_ns = fixed64(field)?,
                    3 => head.time_ns = fixed64(field)?,
                    _ => content.take(field)?,
                }
            }
        }
        Ok(Self {
            head,
            attributes: Attributes::new(message, T::ATTRIBUTES),
            content,
            message,
        })
    }

    /// Calls `take` with each exemplar.
    ///
    /// # Errors
    /// Malformed bytes.
    pub fn for_each_exemplar(
        &self,
        mut take: impl FnMut(ExemplarPoint<'a>),
    ) -> Result<(), MessageError> {
        for_each_message(self.message, T::EXEMPLARS, |message| {
            take(ExemplarPoint::read(message)?);
            Ok(())
        })
    }
}

/// A value of a gauge or a sum.
#[derive(Clone, Copy, Debug, Default)]
pub struct Number {
    /// `None` where the client sent none.
    pub value: Option<f64>,
    /// Whether there are exemplars to look for.
    pub has_exemplars: bool,
}

impl Content for Number {
    const ATTRIBUTES: u32 = 7;
    const FLAGS: u32 = 8;
    const EXEMPLARS: u32 = 5;

    fn take(&mut self, field: Field<'_>) -> Result<(), WireError> {
        match field.number {
            4 => self.value = Some(field.double()?),
            5 => self.has_exemplars = true,
            6 => self.value = Some(fixed64(field)?.cast_signed() as f64),
            _ => {}
        }
        Ok(())
    }
}

/// Numbers of a repeated field, at most [`BUCKETS_MAX`] of them.
#[derive(Clone, Debug, Default)]
pub struct Counts {
    /// The numbers.
    pub values: Vec<u64>,
    /// There were more than may be.
    pub too_many: bool,
}

impl Counts {
    fn push(&mut self, value: u64) {
        if self.values.len() < BUCKETS_MAX {
            self.values.push(value);
        } else {
            self.too_many = true;
        }
    }

    fn take_fixed(&mut self, field: Field<'_>) -> Result<(), WireError> {
        match field.value {
            Value::Fixed64(count) => self.push(count),
            Value::Bytes(packed) => {
                let (chunks, rest) = packed.as_chunks::<8>();
                if !rest.is_empty() {
                    return Err(WireError::Truncated);
                }
                for chunk in chunks {
                    self.push(u64::from_le_bytes(*chunk));
                }
            }
            _ => return Err(WireError::FieldType(field.number)),
        }
        Ok(())
    }

    fn take_varints(&mut self, field: Field<'_>) -> Result<(), WireError> {
        crate::ingest::protobuf::repeated_varint(field, |count| {
            self.push(count);
            Ok(())
        })
    }
}

/// A histogram with explicit boundaries.
#[derive(Clone, Debug, Default)]
pub struct Explicit {
    /// Observations.
    pub count: u64,
    /// Their sum, if it means anything.
    pub sum: Option<f64>,
    /// Observations of each bucket; none, or one more than there are boundaries.
    pub buckets: Counts,
    /// Upper boundaries, inclusive; the last bucket has none.
    pub bounds: Vec<f64>,
    /// Whether there are exemplars to look for.
    pub has_exemplars: bool,
}

impl Content for Explicit {
    const ATTRIBUTES: u32 = 9;
    const FLAGS: u32 = 10;
    const EXEMPLARS: u32 = 8;

    fn take(&mut self, field: Field<'_>) -> Result<(), WireError> {
        match field.number {
            4 => self.count = fixed64(field)?,
            5 => self.sum = Some(field.double()?),
            6 => self.buckets.take_fixed(field)?,
            7 if self.bounds.len() < BUCKETS_MAX => repeated_double(field, &mut self.bounds)?,
            8 => self.has_exemplars = true,
            _ => {}
        }
        Ok(())
    }
}

/// The buckets of one sign of an exponential histogram.
#[derive(Clone, Debug, Default)]
pub struct Side {
    /// Index of the first bucket: bucket `i` holds `(base^i, base^(i+1)]`.
    pub offset: i64,
    /// Observations of each bucket.
    pub buckets: Counts,
}

impl Side {
    fn take(&mut self, field: Field<'_>) -> Result<(), WireError> {
        let mut reader = Reader::new(field.bytes()?);
        while let Some(field) = reader.next_field()? {
            match field.number {
                // A sint32: what does not fit is cut off as protobuf has it.
                1 => self.offset = i64::from(field.sint64()? as i32),
                2 => self.buckets.take_varints(field)?,
                _ => {}
            }
        }
        Ok(())
    }
}

/// A histogram with exponential boundaries.
#[derive(Clone, Debug, Default)]
pub struct Exponential {
    /// Observations.
    pub count: u64,
    /// Their sum, if it means anything.
    pub sum: Option<f64>,
    /// The base is 2^(2^-scale).
    pub scale: i32,
    /// Observations that are too close to zero for a bucket.
    pub zero_count: u64,
    /// How close that is.
    pub zero_threshold: f64,
    /// Positive observations.
    pub positive: Side,
    /// Negative observations, by magnitude.
    pub negative: Side,
    /// Whether there are exemplars to look for.
    pub has_exemplars: bool,
}

impl Content for Exponential {
    const ATTRIBUTES: u32 = 1;
    const FLAGS: u32 = 10;
    const EXEMPLARS: u32 = 11;

    fn take(&mut self, field: Field<'_>) -> Result<(), WireError> {
        match field.number {
            4 => self.count = fixed64(field)?,
            5 => self.sum = Some(field.double()?),
            6 => self.scale = field.sint64()? as i32,
            7 => self.zero_count = fixed64(field)?,
            8 => self.positive.take(field)?,
            9 => self.negative.take(field)?,
            11 => self.has_exemplars = true,
            14 => self.zero_threshold = field.double()?,
            _ => {}
        }
        Ok(())
    }
}

/// Quantiles computed by the client.
#[derive(Clone, Debug, Default)]
pub struct Summary {
    /// Observations.
    pub count: u64,
    /// Their sum.
    pub sum: f64,
    /// Quantile and value.
    pub quantiles: Vec<(f64, f64)>,
    /// There were more than may be.
    pub too_many: bool,
}

impl Content for Summary {
    const ATTRIBUTES: u32 = 7;
    const FLAGS: u32 = 8;
    /// It has none; a field that does not exist.
    const EXEMPLARS: u32 = u32::MAX;

    fn take(&mut self, field: Field<'_>) -> Result<(), WireError> {
        match field.number {
            4 => self.count = fixed64(field)?,
            5 => self.sum = field.double()?,
            6 => {
                let (mut quantile, mut value) = (0.0, 0.0);
                let mut reader = Reader::new(field.bytes()?);
                while let Some(field) = reader.next_field()? {
                    match field.number {
                        1 => quantile = field.double()?,
                        2 => value = field.double()?,
                        _ => {}
                    }
                }
                if self.quantiles.len() < QUANTILES_MAX {
                    self.quantiles.push((quantile, value));
                } else {
                    self.too_many = true;
                }
            }
            _ => {}
        }
        Ok(())
    }
}

/// An exemplar.
#[derive(Clone, Copy, Debug)]
pub struct ExemplarPoint<'a> {
    /// Nanoseconds since the epoch; 0 for that of the data point.
    pub time_ns: u64,
    /// `None` where the client sent none.
    pub value: Option<f64>,
    /// The trace; empty for none.
    pub trace_id: &'a [u8],
    /// The span; empty for none.
    pub span_id: &'a [u8],
    /// Attributes that the data point has not.
    pub attributes: Attributes<'a>,
}

impl<'a> ExemplarPoint<'a> {
    fn read(message: &'a [u8]) -> Result<Self, WireError> {
        let mut exemplar = Self {
            time_ns: 0,
            value: None,
            trace_id: &[],
            span_id: &[],
            attributes: Attributes::new(message, 7),
        };
        let mut reader = Reader::new(message);
        while let Some(field) = reader.next_field()? {
            match field.number {
                2 => exemplar.time_ns = fixed64(field)?,
                3 => exemplar.value = Some(field.double()?),
                4 => exemplar.span_id = field.bytes()?,
                5 => exemplar.trace_id = field.bytes()?,
                6 => exemplar.value = Some(fixed64(field)?.cast_signed() as f64),
                _ => {}
            }
        }
        Ok(exemplar)
    }
}
