//! Times and durations as Loki's clients write them.

use crate::api::params::{Params, parse_duration_ms, parse_time_ms};
use crate::error::ApiError;
use crate::telemetry::now_ms;

/// What a range covers if nobody says: an hour.
const DEFAULT_RANGE_NS: i64 = 3_600_000_000_000;
/// Nanoseconds of a millisecond.
const MS_NS: i64 = 1_000_000;

/// Nanoseconds since the epoch: a whole number of more than ten digits is nanoseconds, anything else
/// seconds or RFC 3339.
pub(crate) fn parse_time_ns(name: &str, text: &str) -> Result<i64, ApiError> {
    if text.len() > 10
        && let Ok(ns) = text.parse::<i64>()
    {
        return Ok(ns);
    }
    let ms = parse_time_ms(text).map_err(|error| ApiError::parameter(name, error))?;
    // RFC 3339 keeps nine digits; milliseconds are not enough for it.
    let below_ms = fraction_below_ms(text);
    Ok(ms.saturating_mul(MS_NS).saturating_add(below_ms))
}

/// The digits of an RFC 3339 time behind the third of its fraction, in nanoseconds.
fn fraction_below_ms(text: &str) -> i64 {
    let Some((_, rest)) = text.split_once('.').filter(|_| text.contains(['T', 't'])) else {
        return 0;
    };
    let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
    let padded = format!("{digits:0<9}");
    padded
        .get(3..9)
        .and_then(|below| below.parse().ok())
        .unwrap_or(0)
}

/// `start` and `end` (or `since` before the end), by default the last hour.
pub(crate) fn range_ns(params: &Params) -> Result<(i64, i64), ApiError> {
    let time = |name: &str| {
        let text = params.get_filled(name);
        text.map(|text| parse_time_ns(name, text)).transpose()
    };
    let end = match time("end")? {
        Some(end) => end,
        None => now_ms().saturating_mul(MS_NS),
    };
    let since = match params.get_filled("since") {
        Some(text) => duration_ns("since", text)?,
        None => DEFAULT_RANGE_NS,
    };
    let start = match time("start")? {
        Some(start) => start,
        None => end.saturating_sub(since),
    };
    if end < start {
        return Err(ApiError::bad_data(
            "end timestamp must not be before or equal to start time",
        ));
    }
    Ok((start, end))
}

/// Seconds with a fraction, or `1h30m`; more than 0.
pub(crate) fn duration_ns(name: &str, text: &str) -> Result<i64, ApiError> {
    let ms = parse_duration_ms(text).map_err(|error| ApiError::parameter(name, error))?;
    Ok(ms.saturating_mul(MS_NS))
}

/// The step that Loki chooses: a 250th of the range, at least a second.
pub(super) fn default_step_ns(start: i64, end: i64) -> i64 {
    let second = 1_000_000_000;
    (end.saturating_sub(start) / 250 / second * second).max(second)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_nanoseconds_seconds_or_rfc_3339() {
        for (text, expected) in [
            ("1700000000000000001", Some(1_700_000_000_000_000_001)),
            ("1700000000", Some(1_700_000_000_000_000_000)),
            ("1700000000.25", Some(1_700_000_000_250_000_000)),
            ("1970-01-01T00:00:01.000000007Z", Some(1_000_000_007)),
            ("yesterday", None),
        ] {
            assert_eq!(parse_time_ns("start", text).ok(), expected, "{text}");
        }
        assert_eq!(default_step_ns(0, 3_600_000_000_000), 14_000_000_000);
        assert_eq!(default_step_ns(0, 1), 1_000_000_000);
    }
}
