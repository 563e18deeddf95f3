//! Parameters as Jaeger's clients write them: microseconds, Go's durations, tags in two forms.

use chronolith_engine::model::{SpanKind, TimeRange, TimestampNs, TraceId};
use chronolith_query::logql::units::parse_go_duration;
use chronolith_query::traces::jaeger::JaegerQuery;
use serde_json::Value;

use crate::api::params::Params;
use crate::api::traces::parse_trace_id;
use crate::error::ApiError;
use crate::telemetry::now_ms;

/// Traces of an answer unless the client says.
const LIMIT_DEFAULT: usize = 100;
/// Traces that can be asked for.
pub(super) const LIMIT_MAX: usize = 100_000;
/// Ids and tags of one question.
const MANY_MAX: usize = 1_000;
/// How far back a search looks unless the client says: two days.
const LOOKBACK_DEFAULT_NS: i64 = 48 * 3_600_000_000_000;

/// A search, or the traces that are asked for by id.
pub(super) struct Search {
    pub(super) ids: Vec<TraceId>,
    pub(super) query: JaegerQuery,
    pub(super) is_raw: bool,
}

/// A whole number of units before which `unit_ns` fit; `None` if it is missing.
fn time_ns(params: &Params, name: &str, unit_ns: i64) -> Result<Option<i64>, ApiError> {
    let Some(text) = params.get_filled(name) else {
        return Ok(None);
    };
    let number: i64 = text
        .parse()
        .map_err(|_| malformed(name, text, "a whole number"))?;
    Ok(Some(number.saturating_mul(unit_ns)))
}

fn malformed(name: &str, text: &str, expected: &str) -> ApiError {
    let text: String = text.chars().take(100).collect();
    ApiError::bad_data(format!(
        "unable to parse param '{name}': {text:?}: expected {expected}"
    ))
}

/// A duration like `1.5s` or `300ms`, in nanoseconds; `None` if it is missing or 0.
fn duration_ns(params: &Params, name: &str) -> Result<Option<i64>, ApiError> {
    let Some(text) = params.get_filled(name) else {
        return Ok(None);
    };
    let ns = parse_go_duration(text)
        .map_err(|_| malformed(name, text, "a duration like 1.5s, 300ms or 20us"))?;
    match ns {
        ns if ns < 0 => Err(malformed(name, text, "a duration above 0")),
        ns => Ok((ns > 0).then_some(ns)),
    }
}

/// A truth value; false if it is missing.
pub(super) fn flag(params: &Params, name: &str) -> Result<bool, ApiError> {
    match params.get_filled(name) {
        None => Ok(false),
        Some(text) => params
            .flag(name)
            .map_err(|_| malformed(name, text, "true or false")),
    }
}

/// How many traces; 0 means the default.
pub(super) fn limit(params: &Params, name: &str) -> Result<usize, ApiError> {
    let Some(text) = params.get_filled(name) else {
        return Ok(LIMIT_DEFAULT);
    };
    match text.parse::<usize>() {
        Ok(0) => Ok(LIMIT_DEFAULT),
        Ok(limit) if limit <= LIMIT_MAX => Ok(limit),
        _ => {
            let expected = format!("a whole number up to {LIMIT_MAX}");
            Err(malformed(name, text, &expected))
        }
    }
}

/// The times of a search: `start` and `end`, or `lookback` before the end, or two days.
fn range(params: &Params) -> Result<TimeRange, ApiError> {
    const US: i64 = 1_000;
    let end = match time_ns(params, "end", US)? {
        // The whole microsecond is meant.
        Some(end) => end.saturating_add(US - 1),
        None => now_ms().saturating_mul(1_000_000),
    };
    let start = match time_ns(params, "start", US)? {
        Some(start) => start,
        None => {
            // User interfaces send words like `custom` beside times.
            let lookback = params.get_filled("lookback").and_then(lookback_ns);
            end.saturating_sub(lookback.unwrap_or(LOOKBACK_DEFAULT_NS))
        }
    };
    Ok(TimeRange {
        start: TimestampNs(start),
        end: TimestampNs(end),
    })
}

fn lookback_ns(text: &str) -> Option<i64> {
    let days = text
        .strip_suffix('d')
        .and_then(|days| days.parse::<i64>().ok());
    match days {
        Some(days) => days.checked_mul(24 * 3_600_000_000_000),
        None => parse_go_duration(text).ok(),
    }
    .filter(|ns| *ns > 0)
}

/// `tag=key:value`, as often as wanted, and `tags={"key":"value"}`.
fn tags(params: &Params) -> Result<Vec<(String, String)>, ApiError> {
    let mut tags = Vec::new();
    for text in params.all("tag") {
        let Some((key, value)) = text.split_once(':') else {
            let text: String = text.chars().take(100).collect();
            return Err(ApiError::bad_data(format!(
                "malformed 'tag' parameter, expecting key:value, received: {text}"
            )));
        };
        tags.push((key.to_owned(), value.to_owned()));
    }
    for text in params.all("tags").filter(|text| !text.is_empty()) {
        tags.extend(json_tags(text)?);
    }
    if tags.len() > MANY_MAX {
        let count = tags.len();
        return Err(ApiError::bad_data(format!(
            "{count} tags, at most {MANY_MAX} can be searched for"
        )));
    }
    Ok(tags)
}

/// The pairs of `{"key":"value"}`; numbers and truth values are taken as their text.
pub(super) fn json_tags(text: &str) -> Result<Vec<(String, String)>, ApiError> {
    let refused = |why: String| {
        ApiError::bad_data(format!(
            "malformed 'tags' parameter, cannot unmarshal JSON: {why}"
        ))
    };
    let tags: serde_json::Map<String, Value> =
        serde_json::from_str(text).map_err(|error| refused(error.to_string()))?;
    let text_of = |(key, value): (String, Value)| match value {
        Value::String(text) => Ok((key, text)),
        Value::Number(number) => Ok((key, number.to_string())),
        Value::Bool(truth) => Ok((key, truth.to_string())),
        Value::Null | Value::Array(_) | Value::Object(_) => {
            Err(refused(format!("value of {key:?}: expected text")))
        }
    };
    tags.into_iter().map(text_of).collect()
}

/// Everything that `/api/traces` takes.
pub(super) fn search(params: &Params) -> Result<Search, ApiError> {
    let ids = params.all("traceID").map(parse_trace_id);
    let ids: Vec<TraceId> = ids.collect::<Result<_, _>>()?;
    if ids.len() > MANY_MAX {
        let count = ids.len();
        return Err(ApiError::bad_data(format!(
            "{count} ids, at most {MANY_MAX} can be asked for"
        )));
    }
    let service = params.get_filled("service").map(str::to_owned);
    if ids.is_empty() && service.is_none() {
        return Err(service_required());
    }
    let min = duration_ns(params, "minDuration")?;
    let max = duration_ns(params, "maxDuration")?;
    if let (Some(min), Some(max)) = (min, max)
        && max < min
    {
        return Err(ApiError::bad_data(
            "'maxDuration' should be greater than 'minDuration'",
        ));
    }
    Ok(Search {
        ids,
        query: JaegerQuery {
            service,
            operation: params.get_filled("operation").map(str::to_owned),
            tags: tags(params)?,
            range: range(params)?,
            duration_min_ns: min,
            duration_max_ns: max,
            limit: limit(params, "limit")?,
        },
        is_raw: flag(params, "raw")?,
    })
}

pub(super) fn service_required() -> ApiError {
    ApiError::bad_data("parameter 'service' is required")
}

/// A kind by its word (`server`) or its name in the protocol (`SPAN_KIND_SERVER`).
pub(super) fn kind(name: &str, text: &str) -> Result<SpanKind, ApiError> {
    let word = text.strip_prefix("SPAN_KIND_").unwrap_or(text);
    let kinds = [
        ("unspecified", SpanKind::Unspecified),
        ("internal", SpanKind::Internal),
        ("server", SpanKind::Server),
        ("client", SpanKind::Client),
        ("producer", SpanKind::Producer),
        ("consumer", SpanKind::Consumer),
    ];
    let found = kinds.iter().find(|(of, _)| word.eq_ignore_ascii_case(of));
    found.map(|(_, kind)| *kind).ok_or_else(|| {
        let text: String = text.chars().take(100).collect();
        ApiError::bad_data(format!(
            "unsupported span kind: '{text}' (parameter '{name}')"
        ))
    })
}

/// What `endTs` and `lookback` (milliseconds) span; now and `default_ms` if they are missing.
pub(super) fn lookback_range(params: &Params, default_ms: i64) -> Result<(i64, i64), ApiError> {
    let end = time_ns(params, "endTs", 1)?.unwrap_or_else(now_ms);
    let lookback = time_ns(params, "lookback", 1)?.unwrap_or(default_ms);
    if lookback < 0 {
        let text = lookback.to_string();
        return Err(malformed("lookback", &text, "milliseconds, 0 or more"));
    }
    Ok((end.saturating_sub(lookback), end))
}

/// Milliseconds above 0.
pub(super) fn milliseconds(params: &Params, name: &str, default: i64) -> Result<i64, ApiError> {
    match time_ns(params, name, 1)? {
        None => Ok(default),
        Some(ms) if ms > 0 => Ok(ms),
        Some(ms) => Err(malformed(name, &ms.to_string(), "milliseconds above 0")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn searched(text: &str) -> Result<Search, String> {
        search(&Params::parse(text).unwrap()).map_err(|error| error.message)
    }

    #[test]
    fn searches_are_read() {
        let search = searched(
            "service=shop&operation=GET%20/&tags={\"a\":\"b\",\"n\":200}&tag=c:d:e&start=1&end=2&minDuration=1.5ms&limit=0",
        )
        .unwrap();
        let query = search.query;
        assert_eq!((query.service.as_deref(), query.limit), (Some("shop"), 100));
        let tags: Vec<_> = query.tags.iter().map(|(k, v)| (&**k, &**v)).collect();
        assert_eq!(tags, [("c", "d:e"), ("a", "b"), ("n", "200")]);
        assert_eq!((query.range.start.0, query.range.end.0), (1_000, 2_999));
        assert_eq!(query.duration_min_ns, Some(1_500_000));
        let day = searched("service=a&end=86400000000&lookback=1d").unwrap();
        assert_eq!(day.query.range.start.0, 999);
        let custom = searched("service=a&end=2&start=1&lookback=custom").unwrap();
        assert_eq!(custom.query.range.start.0, 1_000);
        assert_eq!(searched("traceID=1&traceID=2f").unwrap().ids.len(), 2);
    }

    #[test]
    fn bad_searches_are_refused() {
        let deep = format!("service=a&tags={}", "[".repeat(10_000));
        for (text, words) in [
            ("", "parameter 'service' is required"),
            ("service=a&limit=-1", "param 'limit'"),
            ("service=a&limit=1000000000", "up to 100000"),
            ("service=a&start=soon", "param 'start'"),
            ("service=a&minDuration=-1s", "above 0"),
            ("service=a&minDuration=fast", "param 'minDuration'"),
            (
                "service=a&minDuration=2s&maxDuration=1s",
                "should be greater",
            ),
            ("service=a&tag=a", "expecting key:value"),
            ("service=a&tags=[]", "cannot unmarshal"),
            ("service=a&tags={\"a\":{}}", "expected text"),
            (&deep, "cannot unmarshal"),
            ("traceID=xyz", "hexadecimal"),
            ("service=a&raw=maybe", "param 'raw'"),
        ] {
            let error = searched(text).err().unwrap_or_default();
            assert!(error.contains(words), "{text}: {error}");
        }
    }
}
