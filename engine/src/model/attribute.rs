//! Attributes of resources, scopes, log records and spans: typed, nested, lossless.

/// A value as OpenTelemetry's `AnyValue` has it.
#[derive(Clone, Debug, PartialEq)]
pub enum AttributeValue {
    /// No value was sent.
    Null,
    /// Text.
    String(String),
    /// A 64-bit integer.
    Int(i64),
    /// A double, bit-exact.
    Float(f64),
    /// A truth value.
    Bool(bool),
    /// Raw bytes.
    Bytes(Vec<u8>),
    /// A list, of mixed types if need be.
    Array(Vec<AttributeValue>),
    /// Key-value pairs in the order sent.
    Map(Vec<(String, AttributeValue)>),
}

/// Key-value pairs in the order sent; a later pair of the same key wins when looked up.
pub type Attributes = Vec<(String, AttributeValue)>;
