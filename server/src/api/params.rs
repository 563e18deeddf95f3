//! Parameters of the Prometheus API: from the query string, and for POST from a form body.

use std::time::Duration;

use axum::body::Body;
use axum::extract::{FromRequest, Request};
use chronolith_engine::model::TimeRange;
use http::{Method, header};
use percent_encoding::percent_decode_str;

use crate::body::read_small;
use crate::config::parse_duration;
use crate::error::ApiError;
use crate::state::AppState;

/// Bytes of a form body.
const FORM_BYTES_MAX: usize = 4 << 20;
/// Parameters of a request.
const PARAMETERS_MAX: usize = 10_000;
/// Times that can be computed with: ± 285 thousand years, far beyond what can be stored.
const TIME_MS_MAX: f64 = 9_007_199_254_740_992.0;
/// The seconds from the epoch that Prometheus' clients may send for "all time"; what lies between the
/// two bounds counts as the nearer one.
const TIME_SECONDS_MAX: f64 = 9.3e15;
/// What Prometheus writes for the first and the last time that there is.
const FIRST_AND_LAST: [(&str, f64); 2] = [
    ("-292273086-05-16T16:47:06Z", -TIME_MS_MAX),
    ("292277025-08-18T07:12:54.999999999Z", TIME_MS_MAX),
];

/// The parameters, in the order in which they came.
#[derive(Clone, Debug, Default)]
pub struct Params(Vec<(String, String)>);

impl FromRequest<AppState> for Params {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &AppState) -> Result<Self, ApiError> {
        let (head, body) = request.into_parts();
        let mut params = Self::default();
        // As in Go's http.Request.Form, what is in the body comes first.
        if head.method == Method::POST || head.method == Method::PUT {
            let content_type = head.headers.get(header::CONTENT_TYPE);
            let is_form = content_type
                .and_then(|v| v.to_str().ok())
                .is_some_and(|v| v.starts_with("application/x-www-form-urlencoded"));
            if is_form {
                let timeout = state.settings().body_timeout;
                let body: Body = body;
                let form = read_small(&head.headers, body, FORM_BYTES_MAX, timeout).await?;
                let form = std::str::from_utf8(&form)
                    .map_err(|_| ApiError::bad_data("the form body is not UTF-8"))?;
                params.add(form)?;
            }
        }
        params.add(head.uri.query().unwrap_or(""))?;
        Ok(params)
    }
}

impl Params {
    /// Reads `a=b&c=d`.
    ///
    /// # Errors
    /// Text that is not UTF-8 once decoded, or too many parameters.
    pub fn parse(text: &str) -> Result<Self, ApiError> {
        let mut params = Self::default();
        params.add(text)?;
        Ok(params)
    }

    /// A request as people read it: its path, and the parameters as they were meant.
    #[must_use]
    pub fn shown_after(&self, path: &str) -> String {
        let mut text = path.to_owned();
        for (index, (name, value)) in self.0.iter().enumerate() {
            text.push(if index == 0 { '?' } else { '&' });
            text.push_str(name);
            text.push('=');
            text.push_str(value);
        }
        text
    }

    fn add(&mut self, text: &str) -> Result<(), ApiError> {
        for pair in text.split('&').filter(|p| !p.is_empty()) {
            if self.0.len() >= PARAMETERS_MAX {
                return Err(ApiError::bad_data(format!(
                    "more than {PARAMETERS_MAX} parameters"
                )));
            }
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let name = decode(name).ok_or_else(|| not_utf8("a name"))?;
            let value = decode(value).ok_or_else(|| not_utf8(&name))?;
            self.0.push((name, value));
        }
        Ok(())
    }

    /// The first value of a parameter.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0
            .iter()
            .find(|(n, _)| n == name)
            .map(|(_, v)| v.as_str())
    }

    /// The first value of a parameter, or nothing if it is missing or empty.
    #[must_use]
    pub fn get_filled(&self, name: &str) -> Option<&str> {
        self.get(name).filter(|v| !v.is_empty())
    }

    /// All values of a parameter.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0
            .iter()
            .filter(move |(n, _)| n == name)
            .map(|(_, v)| v.as_str())
    }

    /// A truth value in one of the ways that Go reads; false if it is missing.
    ///
    /// # Errors
    /// It is none.
    pub fn flag(&self, name: &str) -> Result<bool, ApiError> {
        match self.get_filled(name) {
            None | Some("0" | "f" | "F" | "false" | "False" | "FALSE") => Ok(false),
            Some("1" | "t" | "T" | "true" | "True" | "TRUE") => Ok(true),
            Some(other) => Err(ApiError::parameter(
                name,
                format!("unable to parse boolean {other:?}"),
            )),
        }
    }

    /// A time in milliseconds; `None` if it is missing.
    ///
    /// # Errors
    /// It is neither Unix seconds nor RFC 3339.
    pub fn time_ms(&self, name: &str) -> Result<Option<i64>, ApiError> {
        self.get_filled(name)
            .map(|text| parse_time_ms(text).map_err(|e| ApiError::parameter(name, e)))
            .transpose()
    }

    /// A time in milliseconds that has to be there.
    ///
    /// # Errors
    /// It is missing or not a time.
    pub fn required_time_ms(&self, name: &str) -> Result<i64, ApiError> {
        parse_time_ms(self.get(name).unwrap_or("")).map_err(|e| ApiError::parameter(name, e))
    }

    /// A duration in milliseconds; `None` if it is missing.
    ///
    /// # Errors
    /// It is neither seconds nor a Prometheus duration.
    pub fn duration_ms(&self, name: &str) -> Result<Option<i64>, ApiError> {
        self.get_filled(name)
            .map(|text| parse_duration_ms(text).map_err(|e| ApiError::parameter(name, e)))
            .transpose()
    }

    /// `limit`: `None` for no limit, which 0 means too.
    ///
    /// # Errors
    /// It is not a whole number.
    pub fn limit(&self) -> Result<Option<usize>, ApiError> {
        self.count("limit")
    }

    /// A whole number; `None` if it is missing or 0.
    ///
    /// # Errors
    /// It is not a whole number.
    pub fn count(&self, name: &str) -> Result<Option<usize>, ApiError> {
        let Some(text) = self.get_filled(name) else {
            return Ok(None);
        };
        let number: usize = text.parse().map_err(|_| {
            ApiError::parameter(name, format!("{text:?} is not a whole number, 0 or more"))
        })?;
        Ok((number > 0).then_some(number))
    }

    /// `timeout`, at most `longest`.
    ///
    /// # Errors
    /// It is not a duration.
    pub fn timeout(&self, longest: Duration) -> Result<Duration, ApiError> {
        let asked = self.duration_ms("timeout")?;
        let asked = asked.map(|ms| Duration::from_millis(ms.max(0).unsigned_abs()));
        Ok(asked.map_or(longest, |asked| asked.min(longest)))
    }

    /// `start` to `end`; all time where they are missing.
    ///
    /// # Errors
    /// One is not a time, or the end is before the start.
    pub fn time_range(&self) -> Result<TimeRange, ApiError> {
        let start = self.time_ms("start")?;
        let end = self.time_ms("end")?;
        if let (Some(start), Some(end)) = (start, end)
            && end < start
        {
            return Err(ApiError::parameter(
                "end",
                "end timestamp must not be before start time",
            ));
        }
        let mut range = TimeRange::ALL;
        if let Some(start) = start {
            range.start = TimeRange::from_millis(start, start).start;
        }
        if let Some(end) = end {
            range.end = TimeRange::from_millis(end, end).end;
        }
        Ok(range)
    }
}

fn not_utf8(what: &str) -> ApiError {
    ApiError::bad_data(format!("parameter {what:?} is not UTF-8"))
}

fn decode(text: &str) -> Option<String> {
    let spaced = text.replace('+', " ");
    let decoded = percent_decode_str(&spaced).decode_utf8().ok()?;
    Some(decoded.into_owned())
}

/// Unix seconds with a fraction, or RFC 3339.
///
/// # Errors
/// A message in Prometheus' words.
pub fn parse_time_ms(text: &str) -> Result<i64, String> {
    let refused = || format!("cannot parse {text:?} to a valid timestamp");
    let bound = FIRST_AND_LAST.iter().find(|(bound, _)| *bound == text);
    let ms = match (text.parse::<f64>(), bound) {
        (_, Some((_, ms))) => *ms,
        (Ok(seconds), None) if seconds.abs() <= TIME_SECONDS_MAX => {
            let ms = (seconds * 1000.0).round();
            ms.clamp(-TIME_MS_MAX, TIME_MS_MAX)
        }
        (Ok(_), None) => return Err(refused()),
        (Err(_), None) => return parse_rfc3339_ms(text).ok_or_else(refused),
    };
    #[expect(clippy::cast_possible_truncation, reason = "clamped to its range")]
    Ok(ms as i64)
}

/// `2006-01-02T15:04:05.999Z` or with an offset instead of `Z`.
fn parse_rfc3339_ms(text: &str) -> Option<i64> {
    let number = |range: std::ops::Range<usize>| -> Option<i64> {
        let digits = text.get(range)?;
        digits
            .bytes()
            .all(|b| b.is_ascii_digit())
            .then(|| digits.parse().ok())
            .flatten()
    };
    let separators = [(4, '-'), (7, '-'), (13, ':'), (16, ':')];
    for (at, separator) in separators {
        if text.get(at..=at)? != separator.to_string() {
            return None;
        }
    }
    if !matches!(text.get(10..11)?, "T" | "t") {
        return None;
    }
    let (year, month, day) = (number(0..4)?, number(5..7)?, number(8..10)?);
    let (hour, minute, second) = (number(11..13)?, number(14..16)?, number(17..19)?);
    let in_range = (1..=12).contains(&month)
        && (1..=days_in_month(year, month)).contains(&day)
        && hour < 24
        && minute < 60
        && second < 60;
    if !in_range {
        return None;
    }
    let mut rest = text.get(19..)?;
    let mut ms = 0;
    if let Some(after) = rest.strip_prefix('.') {
        let digits = after.bytes().take_while(u8::is_ascii_digit).count();
        let fraction = after.get(..digits).filter(|f| !f.is_empty())?;
        let padded: String = fraction.chars().chain("000".chars()).take(3).collect();
        ms = padded.parse().ok()?;
        rest = after.get(digits..)?;
    }
    let offset_minutes = match rest {
        "Z" | "z" => 0,
        _ => {
            let at = text.len() - rest.len();
            if rest.len() != 6 || rest.get(3..4)? != ":" {
                return None;
            }
            let minutes = number(at + 1..at + 3)? * 60 + number(at + 4..at + 6)?;
            match rest.get(..1)? {
                "+" => minutes,
                "-" => -minutes,
                _ => return None,
            }
        }
    };
    let days = days_from_civil(year, month, day);
    let seconds = days * 86_400 + hour * 3_600 + minute * 60 + second - offset_minutes * 60;
    Some(seconds * 1000 + ms)
}

fn days_in_month(year: i64, month: i64) -> i64 {
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    match month {
        2 if leap => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days since the epoch of a date of the Gregorian calendar (Howard Hinnant's `days_from_civil`).
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

/// Seconds with a fraction, or `1h30m`.
///
/// # Errors
/// A message in Prometheus' words.
pub fn parse_duration_ms(text: &str) -> Result<i64, String> {
    if let Ok(seconds) = text.parse::<f64>() {
        let ms = (seconds * 1000.0).round();
        #[expect(clippy::cast_possible_truncation, reason = "checked to be in range")]
        return if ms.abs() <= 9_223_372_036_854.0 {
            Ok(ms as i64)
        } else {
            Err(format!(
                "cannot parse {text:?} to a valid duration. It overflows int64"
            ))
        };
    }
    parse_duration(text)
        .and_then(|d| i64::try_from(d.as_millis()).ok())
        .filter(|ms| *ms <= 9_223_372_036_854)
        .ok_or_else(|| format!("cannot parse {text:?} to a valid duration"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_seconds_or_rfc_3339() {
        let cases = [
            ("0", Some(0)),
            ("1435781430.781", Some(1_435_781_430_781)),
            ("-1.5", Some(-1_500)),
            ("2015-06-03T13:21:58.555Z", Some(1_433_337_718_555)),
            ("2015-06-03T14:21:58.555+01:00", Some(1_433_337_718_555)),
            ("1970-01-01T00:00:00Z", Some(0)),
            ("2000-02-29T00:00:00Z", Some(951_782_400_000)),
            ("2001-02-29T00:00:00Z", None),
            ("yesterday", None),
            ("", None),
            ("-9223309901257974", Some(-9_007_199_254_740_992)),
            ("9223372036854775.807", Some(9_007_199_254_740_992)),
            ("-292273086-05-16T16:47:06Z", Some(-9_007_199_254_740_992)),
            ("9e99", None),
            ("NaN", None),
            ("2015-06-03T13:21:58", None),
            ("2015-06-03T13:21:58.Z", None),
            ("2015-06-03ä13:21:58Z", None),
        ];
        for (text, expected) in cases {
            assert_eq!(parse_time_ms(text).ok(), expected, "{text}");
        }
    }

    #[test]
    fn durations_are_seconds_or_units() {
        for (text, expected) in [
            ("15", Some(15_000)),
            ("0.5", Some(500)),
            ("1m30s", Some(90_000)),
            ("-5", Some(-5_000)),
            ("1e99", None),
            ("NaN", None),
            ("x", None),
        ] {
            assert_eq!(parse_duration_ms(text).ok(), expected, "{text}");
        }
    }

    #[test]
    fn parameters_are_decoded() {
        let params = Params::parse("query=a%2Bb+c&match[]=x&match%5B%5D=y&empty=").unwrap();
        assert_eq!(params.get("query"), Some("a+b c"));
        assert_eq!(params.all("match[]").collect::<Vec<_>>(), ["x", "y"]);
        assert_eq!(params.get_filled("empty"), None);
        assert!(Params::parse("query=%ff%fe").is_err());
    }
}
