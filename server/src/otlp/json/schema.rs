//! Which key of OTLP's JSON is which field of its protobuf.
//!
//! Keys in lower camel case, field numbers and types as in `opentelemetry-proto` 1.x. A message is a
//! function so that tables may name each other in circles (a value may hold values).

/// A message and its fields.
#[derive(Debug)]
pub struct Message {
    /// For errors.
    pub name: &'static str,
    /// Its fields.
    pub fields: &'static [Field],
}

/// A field.
#[derive(Debug)]
pub struct Field {
    /// Its key.
    pub name: &'static str,
    /// Its number.
    pub number: u32,
    /// Whether the value is an array.
    pub repeated: bool,
    /// What a value is.
    pub kind: Kind,
}

/// Names of an enum's values.
pub type EnumNames = &'static [(&'static str, i32)];

/// What a value is, in JSON and on the wire.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// Text.
    Text,
    /// Bytes, in hexadecimal digits (ids).
    Hex,
    /// Bytes, in hexadecimal digits; what cannot be is passed on as the text that it is, in a length
    /// that no id has, so that the row is refused or repaired rather than the request.
    Id,
    /// Bytes, in base64.
    Base64,
    /// `bool`
    Bool,
    /// `double`
    Double,
    /// `fixed64`
    Fixed64,
    /// `sfixed64`
    SignedFixed64,
    /// `uint32`, `uint64`
    Unsigned,
    /// `int32`, `int64`
    Signed,
    /// `sint32`
    ZigZag32,
    /// An enum, by number or by name.
    Enum(EnumNames),
    /// A message.
    Message(fn() -> &'static Message),
}

impl Kind {
    /// Whether only whole numbers will do.
    #[must_use]
    pub fn is_whole(self) -> bool {
        matches!(
            self,
            Self::Fixed64
                | Self::SignedFixed64
                | Self::Unsigned
                | Self::Signed
                | Self::ZigZag32
                | Self::Enum(_)
        )
    }

    /// For errors.
    #[must_use]
    pub fn in_words(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Hex | Self::Id => "hexadecimal digits",
            Self::Base64 => "base64",
            Self::Bool => "true or false",
            Self::Double => "a number",
            Self::Enum(_) => "a number or a name",
            Self::Message(_) => "an object",
            _ => "a whole number",
        }
    }
}

impl Message {
    /// The field of a key, in lower camel case or in snake case.
    #[must_use]
    pub fn field(&self, key: &str) -> Option<&Field> {
        let by_name = |field: &&Field| field.name == key;
        let exact = self.fields.iter().find(by_name);
        if exact.is_some() || !key.contains('_') {
            return exact;
        }
        self.fields
            .iter()
            .find(|field| is_snake_of(key, field.name))
    }
}

/// Whether `snake` is `camel` with an underscore and a small letter for each capital.
fn is_snake_of(snake: &str, camel: &str) -> bool {
    let mut rest = snake.chars();
    camel.chars().all(|c| match c.is_ascii_uppercase() {
        true => rest.next() == Some('_') && rest.next() == Some(c.to_ascii_lowercase()),
        false => rest.next() == Some(c),
    }) && rest.next().is_none()
}

/// Tables from `key = number: kind`; `[kind]` is an array, `(NAMES)` an enum, anything else the
/// function of a message.
macro_rules! messages {
    ($( $(#[doc = $doc:literal])+ $function:ident = $name:literal {
        $( $key:literal = $number:literal: $kind:tt );+ $(;)?
    } )+) => {
        $(
            $(#[doc = $doc])+
            #[must_use]
            pub fn $function() -> &'static Message {
                const MESSAGE: &Message = &Message {
                    name: $name,
                    fields: &[ $( messages!(@field $key, $number, $kind) ),+ ],
                };
                MESSAGE
            }
        )+
    };
    (@field $key:literal, $number:literal, [ $kind:ident ]) => {
        Field { name: $key, number: $number, repeated: true, kind: messages!(@kind $kind) }
    };
    (@field $key:literal, $number:literal, ( $names:ident )) => {
        Field { name: $key, number: $number, repeated: false, kind: Kind::Enum($names) }
    };
    (@field $key:literal, $number:literal, $kind:ident) => {
        Field { name: $key, number: $number, repeated: false, kind: messages!(@kind $kind) }
    };
    (@kind Text) => { Kind::Text };
    (@kind Hex) => { Kind::Hex };
    (@kind Id) => { Kind::Id };
    (@kind Base64) => { Kind::Base64 };
    (@kind Bool) => { Kind::Bool };
    (@kind Double) => { Kind::Double };
    (@kind Fixed64) => { Kind::Fixed64 };
    (@kind SignedFixed64) => { Kind::SignedFixed64 };
    (@kind Unsigned) => { Kind::Unsigned };
    (@kind Signed) => { Kind::Signed };
    (@kind ZigZag32) => { Kind::ZigZag32 };
    (@kind $message:ident) => { Kind::Message($message) };
}

const TEMPORALITY: EnumNames = &[
    ("AGGREGATION_TEMPORALITY_UNSPECIFIED", 0),
    ("AGGREGATION_TEMPORALITY_DELTA", 1),
    ("AGGREGATION_TEMPORALITY_CUMULATIVE", 2),
];

const SEVERITY: EnumNames = &[
    ("SEVERITY_NUMBER_UNSPECIFIED", 0),
    ("SEVERITY_NUMBER_TRACE", 1),
    ("SEVERITY_NUMBER_TRACE2", 2),
    ("SEVERITY_NUMBER_TRACE3", 3),
    ("SEVERITY_NUMBER_TRACE4", 4),
    ("SEVERITY_NUMBER_DEBUG", 5),
    ("SEVERITY_NUMBER_DEBUG2", 6),
    ("SEVERITY_NUMBER_DEBUG3", 7),
    ("SEVERITY_NUMBER_DEBUG4", 8),
    ("SEVERITY_NUMBER_INFO", 9),
    ("SEVERITY_NUMBER_INFO2", 10),
    ("SEVERITY_NUMBER_INFO3", 11),
    ("SEVERITY_NUMBER_INFO4", 12),
    ("SEVERITY_NUMBER_WARN", 13),
    ("SEVERITY_NUMBER_WARN2", 14),
    ("SEVERITY_NUMBER_WARN3", 15),
    ("SEVERITY_NUMBER_WARN4", 16),
    ("SEVERITY_NUMBER_ERROR", 17),
    ("SEVERITY_NUMBER_ERROR2", 18),
    ("SEVERITY_NUMBER_ERROR3", 19),
    ("SEVERITY_NUMBER_ERROR4", 20),
    ("SEVERITY_NUMBER_FATAL", 21),
    ("SEVERITY_NUMBER_FATAL2", 22),
    ("SEVERITY_NUMBER_FATAL3", 23),
    ("SEVERITY_NUMBER_FATAL4", 24),
];
const SPAN_KIND: EnumNames = &[
    ("SPAN_KIND_UNSPECIFIED", 0),
    ("SPAN_KIND_INTERNAL", 1),
    ("SPAN_KIND_SERVER", 2),
    ("SPAN_KIND_CLIENT", 3),
    ("SPAN_KIND_PRODUCER", 4),
    ("SPAN_KIND_CONSUMER", 5),
];
const STATUS_CODE: EnumNames = &[
    ("STATUS_CODE_UNSET", 0),
    ("STATUS_CODE_OK", 1),
    ("STATUS_CODE_ERROR", 2),
];

messages! {
    /// A value of any type.
    any_value = "AnyValue" {
        "stringValue" = 1: Text;
        "boolValue" = 2: Bool;
        "intValue" = 3: Signed;
        "doubleValue" = 4: Double;
        "arrayValue" = 5: array_value;
        "kvlistValue" = 6: key_value_list;
        "bytesValue" = 7: Base64;
    }
    /// An array of values.
    array_value = "ArrayValue" { "values" = 1: [any_value]; }
    /// A map.
    key_value_list = "KeyValueList" { "values" = 1: [key_value]; }
    /// An attribute.
    key_value = "KeyValue" { "key" = 1: Text; "value" = 2: any_value; }
    /// Who sends.
    resource = "Resource" {
        "attributes" = 1: [key_value];
        "droppedAttributesCount" = 2: Unsigned;
    }
    /// What library measured.
    scope = "InstrumentationScope" {
        "name" = 1: Text;
        "version" = 2: Text;
        "attributes" = 3: [key_value];
        "droppedAttributesCount" = 4: Unsigned;
    }
    /// A request with metrics.
    export_metrics_request = "ExportMetricsServiceRequest" {
        "resourceMetrics" = 1: [resource_metrics];
    }
    /// The metrics of a resource.
    resource_metrics = "ResourceMetrics" {
        "resource" = 1: resource;
        "scopeMetrics" = 2: [scope_metrics];
        "schemaUrl" = 3: Text;
    }
    /// The metrics of a scope.
    scope_metrics = "ScopeMetrics" {
        "scope" = 1: scope;
        "metrics" = 2: [metric];
        "schemaUrl" = 3: Text;
    }
    /// A metric.
    metric = "Metric" {
        "name" = 1: Text;
        "description" = 2: Text;
        "unit" = 3: Text;
        "gauge" = 5: gauge;
        "sum" = 7: sum;
        "histogram" = 9: histogram;
        "exponentialHistogram" = 10: exponential_histogram;
        "summary" = 11: summary;
        "metadata" = 12: [key_value];
    }
    /// A gauge.
    gauge = "Gauge" { "dataPoints" = 1: [number_data_point]; }
    /// A sum.
    sum = "Sum" {
        "dataPoints" = 1: [number_data_point];
        "aggregationTemporality" = 2: (TEMPORALITY);
        "isMonotonic" = 3: Bool;
    }
    /// A histogram.
    histogram = "Histogram" {
        "dataPoints" = 1: [histogram_data_point];
        "aggregationTemporality" = 2: (TEMPORALITY);
    }
    /// An exponential histogram.
    exponential_histogram = "ExponentialHistogram" {
        "dataPoints" = 1: [exponential_histogram_data_point];
        "aggregationTemporality" = 2: (TEMPORALITY);
    }
    /// A summary.
    summary = "Summary" { "dataPoints" = 1: [summary_data_point]; }
    /// A value of a gauge or a sum.
    number_data_point = "NumberDataPoint" {
        "startTimeUnixNano" = 2: Fixed64;
        "timeUnixNano" = 3: Fixed64;
        "asDouble" = 4: Double;
        "exemplars" = 5: [exemplar];
        "asInt" = 6: SignedFixed64;
        "attributes" = 7: [key_value];
        "flags" = 8: Unsigned;
    }
    /// A value of a histogram.
    histogram_data_point = "HistogramDataPoint" {
        "startTimeUnixNano" = 2: Fixed64;
        "timeUnixNano" = 3: Fixed64;
        "count" = 4: Fixed64;
        "sum" = 5: Double;
        "bucketCounts" = 6: [Fixed64];
        "explicitBounds" = 7: [Double];
        "exemplars" = 8: [exemplar];
        "attributes" = 9: [key_value];
        "flags" = 10: Unsigned;
        "min" = 11: Double;
        "max" = 12: Double;
    }
    /// A value of an exponential histogram.
    exponential_histogram_data_point = "ExponentialHistogramDataPoint" {
        "attributes" = 1: [key_value];
        "startTimeUnixNano" = 2: Fixed64;
        "timeUnixNano" = 3: Fixed64;
        "count" = 4: Fixed64;
        "sum" = 5: Double;
        "scale" = 6: ZigZag32;
        "zeroCount" = 7: Fixed64;
        "positive" = 8: buckets;
        "negative" = 9: buckets;
        "flags" = 10: Unsigned;
        "exemplars" = 11: [exemplar];
        "min" = 12: Double;
        "max" = 13: Double;
        "zeroThreshold" = 14: Double;
    }
    /// One sign of an exponential histogram.
    buckets = "Buckets" {
        "offset" = 1: ZigZag32;
        "bucketCounts" = 2: [Unsigned];
    }
    /// A value of a summary.
    summary_data_point = "SummaryDataPoint" {
        "startTimeUnixNano" = 2: Fixed64;
        "timeUnixNano" = 3: Fixed64;
        "count" = 4: Fixed64;
        "sum" = 5: Double;
        "quantileValues" = 6: [value_at_quantile];
        "attributes" = 7: [key_value];
        "flags" = 8: Unsigned;
    }
    /// A quantile.
    value_at_quantile = "ValueAtQuantile" {
        "quantile" = 1: Double;
        "value" = 2: Double;
    }
    /// An exemplar.
    exemplar = "Exemplar" {
        "timeUnixNano" = 2: Fixed64;
        "asDouble" = 3: Double;
        "spanId" = 4: Hex;
        "traceId" = 5: Hex;
        "asInt" = 6: SignedFixed64;
        "filteredAttributes" = 7: [key_value];
    }
    /// A request with log records.
    export_logs_request = "ExportLogsServiceRequest" {
        "resourceLogs" = 1: [resource_logs];
    }
    /// The log records of a resource.
    resource_logs = "ResourceLogs" {
        "resource" = 1: resource;
        "scopeLogs" = 2: [scope_logs];
        "schemaUrl" = 3: Text;
    }
    /// The log records of a scope.
    scope_logs = "ScopeLogs" {
        "scope" = 1: scope;
        "logRecords" = 2: [log_record];
        "schemaUrl" = 3: Text;
    }
    /// A log record.
    log_record = "LogRecord" {
        "timeUnixNano" = 1: Fixed64;
        "severityNumber" = 2: (SEVERITY);
        "severityText" = 3: Text;
        "body" = 5: any_value;
        "attributes" = 6: [key_value];
        "droppedAttributesCount" = 7: Unsigned;
        "flags" = 8: Unsigned;
        "traceId" = 9: Id;
        "spanId" = 10: Id;
        "observedTimeUnixNano" = 11: Fixed64;
        "eventName" = 12: Text;
    }
    /// The answer to a request with log records.
    export_logs_response = "ExportLogsServiceResponse" {
        "partialSuccess" = 1: logs_partial_success;
    }
    /// What was not taken.
    logs_partial_success = "ExportLogsPartialSuccess" {
        "rejectedLogRecords" = 1: Signed;
        "errorMessage" = 2: Text;
    }
    /// A request with spans.
    export_trace_request = "ExportTraceServiceRequest" {
        "resourceSpans" = 1: [resource_spans];
    }
    /// The spans of a resource.
    resource_spans = "ResourceSpans" {
        "resource" = 1: resource;
        "scopeSpans" = 2: [scope_spans];
        "schemaUrl" = 3: Text;
    }
    /// The spans of a scope.
    scope_spans = "ScopeSpans" {
        "scope" = 1: scope;
        "spans" = 2: [span];
        "schemaUrl" = 3: Text;
    }
    /// A span.
    span = "Span" {
        "traceId" = 1: Id;
        "spanId" = 2: Id;
        "traceState" = 3: Text;
        "parentSpanId" = 4: Id;
        "name" = 5: Text;
        "kind" = 6: (SPAN_KIND);
        "startTimeUnixNano" = 7: Fixed64;
        "endTimeUnixNano" = 8: Fixed64;
        "attributes" = 9: [key_value];
        "droppedAttributesCount" = 10: Unsigned;
        "events" = 11: [span_event];
        "droppedEventsCount" = 12: Unsigned;
        "links" = 13: [span_link];
        "droppedLinksCount" = 14: Unsigned;
        "status" = 15: span_status;
        "flags" = 16: Unsigned;
    }
    /// An event of a span.
    span_event = "Event" {
        "timeUnixNano" = 1: Fixed64;
        "name" = 2: Text;
        "attributes" = 3: [key_value];
        "droppedAttributesCount" = 4: Unsigned;
    }
    /// A link of a span.
    span_link = "Link" {
        "traceId" = 1: Id;
        "spanId" = 2: Id;
        "traceState" = 3: Text;
        "attributes" = 4: [key_value];
        "droppedAttributesCount" = 5: Unsigned;
        "flags" = 6: Unsigned;
    }
    /// The outcome of a span.
    span_status = "Status" {
        "message" = 2: Text;
        "code" = 3: (STATUS_CODE);
    }
    /// The answer to a request with spans.
    export_trace_response = "ExportTraceServiceResponse" {
        "partialSuccess" = 1: trace_partial_success;
    }
    /// What was not taken.
    trace_partial_success = "ExportTracePartialSuccess" {
        "rejectedSpans" = 1: Signed;
        "errorMessage" = 2: Text;
    }
    /// The answer to a request with metrics.
    export_metrics_response = "ExportMetricsServiceResponse" {
        "partialSuccess" = 1: metrics_partial_success;
    }
    /// What was not taken.
    metrics_partial_success = "ExportMetricsPartialSuccess" {
        "rejectedDataPoints" = 1: Signed;
        "errorMessage" = 2: Text;
    }
    /// `google.rpc.Status`
    status = "Status" {
        "code" = 1: Unsigned;
        "message" = 2: Text;
    }
}
