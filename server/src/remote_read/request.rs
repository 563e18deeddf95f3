//! `prometheus.ReadRequest`, read in place.
//!
//! ```text
//! ReadRequest  { 1: Query*, 2: accepted response types }
//! Query        { 1: start ms, 2: end ms, 3: LabelMatcher*, 4: hints (not needed) }
//! LabelMatcher { 1: type, 2: name, 3: value }
//! ```

use chronolith_engine::{EngineError, MatchOp, Matcher};

use crate::ingest::protobuf::{Reader, WireError, repeated_varint};

/// Queries of one request.
const QUERIES_MAX: usize = 100;
/// Matchers of one query.
const MATCHERS_MAX: usize = 100;

/// Why a request was refused.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// Not protobuf, or not of this shape.
    #[error("malformed message: {0}")]
    Wire(#[from] WireError),
    /// More than is answered at once.
    #[error("more than {0} {1}")]
    TooMany(usize, &'static str),
    /// A matcher that cannot be.
    #[error("{0}")]
    Matcher(String),
}

/// How the answer is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResponseType {
    /// One message with all samples.
    Samples,
    /// A stream of messages with chunks.
    StreamedXorChunks,
}

/// What is wanted.
#[derive(Debug, Default)]
pub struct ReadQuery {
    /// The first time, in milliseconds.
    pub start_ms: i64,
    /// The last time.
    pub end_ms: i64,
    /// Which series.
    pub matchers: Vec<Matcher>,
}

/// A request.
#[derive(Debug, Default)]
pub struct ReadRequest {
    /// Answered one by one.
    pub queries: Vec<ReadQuery>,
    accepted: Vec<u64>,
}

/// `{a="b"} from 1 to 2; …`: what the list of queries shows.
impl std::fmt::Display for ReadRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (number, query) in self.queries.iter().enumerate() {
            let separator = if number > 0 { "; " } else { "" };
            let ReadQuery {
                start_ms,
                end_ms,
                matchers,
            } = query;
            write!(f, "{separator}{matchers:?} from {start_ms} to {end_ms}")?;
        }
        Ok(())
    }
}

impl ReadRequest {
    /// Reads a request.
    ///
    /// # Errors
    /// The bytes are not a request, or it asks for too much at once.
    pub fn read(bytes: &[u8]) -> Result<Self, RequestError> {
        let mut request = Self::default();
        let mut reader = Reader::new(bytes);
        while let Some(field) = reader.next_field()? {
            match field.number {
                1 => {
                    if request.queries.len() == QUERIES_MAX {
                        return Err(RequestError::TooMany(QUERIES_MAX, "queries"));
                    }
                    request.queries.push(ReadQuery::read(field.bytes()?)?);
                }
                2 => repeated_varint::<WireError>(field, |number| {
                    request.accepted.push(number);
                    Ok(())
                })?,
                _ => {}
            }
        }
        Ok(request)
    }

    /// The first accepted type that is known; samples if none is named.
    ///
    /// # Errors
    /// Only unknown ones are named.
    pub fn response_type(&self) -> Result<ResponseType, String> {
        if self.accepted.is_empty() {
            return Ok(ResponseType::Samples);
        }
        let known = self.accepted.iter().find_map(|number| match number {
            0 => Some(ResponseType::Samples),
            1 => Some(ResponseType::StreamedXorChunks),
            _ => None,
        });
        known.ok_or_else(|| {
            "server does not support any of the requested response types; supported: SAMPLES, STREAMED_XOR_CHUNKS".to_owned()
        })
    }
}

impl ReadQuery {
    fn read(bytes: &[u8]) -> Result<Self, RequestError> {
        let mut query = Self::default();
        let mut reader = Reader::new(bytes);
        while let Some(field) = reader.next_field()? {
            match field.number {
                1 => query.start_ms = field.int64()?,
                2 => query.end_ms = field.int64()?,
                3 => {
                    if query.matchers.len() == MATCHERS_MAX {
                        return Err(RequestError::TooMany(MATCHERS_MAX, "matchers"));
                    }
                    query.matchers.push(read_matcher(field.bytes()?)?);
                }
                _ => {}
            }
        }
        Ok(query)
    }
}

fn read_matcher(bytes: &[u8]) -> Result<Matcher, RequestError> {
    let (mut op, mut name, mut value): (u64, &[u8], &[u8]) = (0, &[], &[]);
    let mut reader = Reader::new(bytes);
    while let Some(field) = reader.next_field()? {
        match field.number {
            1 => op = field.varint()?,
            2 => name = field.bytes()?,
            3 => value = field.bytes()?,
            _ => {}
        }
    }
    let refuse = |reason: &str| RequestError::Matcher(reason.to_owned());
    let op = match op {
        0 => MatchOp::Equal,
        1 => MatchOp::NotEqual,
        2 => MatchOp::Regex,
        3 => MatchOp::NotRegex,
        _ => return Err(refuse("invalid matcher type")),
    };
    let text = |bytes| std::str::from_utf8(bytes).map_err(|_| refuse("matcher is not UTF-8"));
    let matcher = Matcher::new(text(name)?, op, text(value)?);
    matcher.map_err(|error: EngineError| refuse(&error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::protobuf::{push_bytes, push_number};

    fn request(types: &[u8], op: u64, value: &str) -> Vec<u8> {
        let mut matcher = Vec::new();
        push_number(&mut matcher, 1, op);
        push_bytes(&mut matcher, 2, b"job");
        push_bytes(&mut matcher, 3, value.as_bytes());
        let mut query = Vec::new();
        push_number(&mut query, 1, 1_000);
        push_number(&mut query, 2, 2_000);
        push_bytes(&mut query, 3, &matcher);
        let mut request = Vec::new();
        push_bytes(&mut request, 1, &query);
        push_bytes(&mut request, 2, types);
        request
    }

    #[test]
    fn queries_name_times_matchers_and_the_form_of_the_answer() {
        let read = ReadRequest::read(&request(&[1, 0], 2, "a.*")).unwrap();
        let query = &read.queries[0];
        assert_eq!((query.start_ms, query.end_ms), (1_000, 2_000));
        assert_eq!(query.matchers[0].op(), MatchOp::Regex);
        assert_eq!(read.response_type(), Ok(ResponseType::StreamedXorChunks));
        let read = |types: &[u8]| ReadRequest::read(&request(types, 0, "a")).unwrap();
        assert_eq!(read(&[]).response_type(), Ok(ResponseType::Samples));
        assert_eq!(read(&[7, 0]).response_type(), Ok(ResponseType::Samples));
        assert!(read(&[7]).response_type().is_err());
    }

    #[test]
    fn what_cannot_be_is_refused() {
        assert!(ReadRequest::read(&request(&[0], 4, "a")).is_err());
        assert!(ReadRequest::read(&request(&[0], 2, "(")).is_err());
        let good = request(&[0], 0, "a");
        assert!(ReadRequest::read(&good[..good.len() - 5]).is_err());
        let mut many = Vec::new();
        for _ in 0..=QUERIES_MAX {
            push_bytes(&mut many, 1, &[]);
        }
        assert!(matches!(
            ReadRequest::read(&many),
            Err(RequestError::TooMany(..))
        ));
    }
}
