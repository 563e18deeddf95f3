//! Plain data of the three signals: what goes into the store and what comes out.
//!
//! Nothing here touches files or locks. Every other module of the engine may depend on this one;
//! it depends on none of them.

pub(crate) mod arrived;
mod attribute;
mod histogram;
mod ids;
mod labels;
mod log_record;
mod sample;
mod span;
mod stream;
mod time;

pub use attribute::{AttributeValue, Attributes};
pub use histogram::{CUSTOM_BUCKETS_SCHEMA, CounterResetHint, Histogram, Span as BucketSpan};
pub use ids::{BatchId, Generation, SegmentId, Signal};
pub(crate) use labels::push_label;
pub use labels::{Label, Labels, LabelsBuilder, LabelsError, METRIC_NAME};
pub use log_record::{LogRecord, LogRow};
pub use sample::{
    Exemplar, HistogramSample, Metadata, MetricType, STALE_NAN_BITS, SampleColumns, SeriesRef,
    is_stale,
};
pub use span::{Span, SpanEvent, SpanId, SpanKind, SpanLink, SpanRow, SpanStatus, TraceId};
pub use stream::{Scope, Stream};
pub use time::{NANOS_PER_MILLI, NANOS_PER_SECOND, TimeRange, TimestampNs};
