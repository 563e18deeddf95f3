//! Arguments of the table functions: a text, then nothing, a time, or a range with a step.

use std::time::{SystemTime, UNIX_EPOCH};

use arrow::datatypes::{DataType, TimeUnit};
use datafusion::common::ScalarValue;
use datafusion::error::Result;
use datafusion::logical_expr::Expr;

use super::invalid;
use crate::promql::number::parse_duration_ms;

/// When to evaluate, in nanoseconds since the epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum When {
    /// At one time.
    At(i64),
    /// From a first to a last time.
    Range {
        start_ns: i64,
        end_ns: i64,
        /// `None`: nobody said.
        step_ns: Option<i64>,
    },
}

/// What was asked.
#[derive(Debug)]
pub(super) struct Arguments {
    pub(super) text: String,
    pub(super) when: When,
}

impl Arguments {
    /// Reads `(text)`, `(text, time)`, `(text, start, end)` or `(text, start, end, step)`.
    pub(super) fn read(function: &str, exprs: &[Expr]) -> Result<Self> {
        let usage = || {
            invalid(format!(
                "{function} takes a query as text, then nothing, a time, or start, end and a step"
            ))
        };
        let mut values = Vec::with_capacity(exprs.len());
        for expr in exprs {
            let Expr::Literal(value, _) = expr else {
                return Err(invalid(format!(
                    "arguments of {function} must be known before the statement runs, unlike {expr}"
                )));
            };
            values.push(value);
        }
        let (text, times) = values.split_first().ok_or_else(usage)?;
        let text = text.try_as_str().flatten().ok_or_else(usage)?.to_owned();
        let when = match times {
            [] => When::At(now_ns()),
            [at] => When::At(time(function, at)?),
            [start, end] => When::Range {
                start_ns: time(function, start)?,
                end_ns: time(function, end)?,
                step_ns: None,
            },
            [start, end, step] => When::Range {
                start_ns: time(function, start)?,
                end_ns: time(function, end)?,
                step_ns: Some(duration(function, step)?),
            },
            _ => return Err(usage()),
        };
        match when {
            When::Range {
                start_ns, end_ns, ..
            } if end_ns < start_ns => {
                Err(invalid(format!("{function}: the end is before the start")))
            }
            when => Ok(Self { text, when }),
        }
    }
}

fn now_ns() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| {
        i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
    })
}

/// Nanoseconds of a time: a timestamp, RFC 3339, or seconds since the epoch.
fn time(function: &str, value: &ScalarValue) -> Result<i64> {
    if let Some(seconds) = number(value) {
        return scaled(seconds).ok_or_else(|| invalid(format!("{function}: no time: {value}")));
    }
    let utc = DataType::Timestamp(TimeUnit::Nanosecond, Some("UTC".into()));
    match value.cast_to(&utc) {
        Ok(ScalarValue::TimestampNanosecond(Some(time), _)) => Ok(time),
        _ => Err(invalid(format!(
            "{function}: {value} is no time; write now() - INTERVAL '1 hour', RFC 3339, or seconds"
        ))),
    }
}

/// Nanoseconds of a step: an interval, text like `1m`, or seconds.
fn duration(function: &str, value: &ScalarValue) -> Result<i64> {
    let found = match value {
        ScalarValue::IntervalMonthDayNano(Some(interval)) if interval.months == 0 => {
            i64::from(interval.days)
                .checked_mul(86_400_000_000_000)
                .and_then(|days| days.checked_add(interval.nanoseconds))
        }
        ScalarValue::IntervalDayTime(Some(interval)) => i64::from(interval.days)
            .checked_mul(86_400_000)
            .and_then(|days| days.checked_add(i64::from(interval.milliseconds)))
            .and_then(|millis| millis.checked_mul(1_000_000)),
        ScalarValue::DurationNanosecond(nanos) => *nanos,
        other => match (number(other), other.try_as_str().flatten()) {
            (Some(seconds), _) => scaled(seconds),
            (None, Some(text)) => parse_duration_ms(text)
                .ok()
                .and_then(|millis| millis.checked_mul(1_000_000)),
            (None, None) => None,
        },
    };
    found.filter(|nanos| *nanos > 0).ok_or_else(|| {
        invalid(format!(
            "{function}: {value} is no step; write INTERVAL '1 minute', '1m', or seconds above 0"
        ))
    })
}

fn number(value: &ScalarValue) -> Option<f64> {
    match value {
        ScalarValue::Int64(Some(number)) => Some(*number as f64),
        ScalarValue::Int32(Some(number)) => Some(f64::from(*number)),
        ScalarValue::UInt64(Some(number)) => Some(*number as f64),
        ScalarValue::Float64(number) => *number,
        _ => None,
    }
}

/// Nanoseconds of seconds, to the millisecond.
fn scaled(seconds: f64) -> Option<i64> {
    let millis = (seconds * 1e3).round();
    (millis.abs() < 9e12).then(|| millis as i64 * 1_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion::prelude::lit;

    fn read(exprs: &[Expr]) -> Result<Arguments> {
        Arguments::read("promql", exprs)
    }

    #[test]
    fn times_and_steps_in_many_forms() {
        let range = |step_ns| When::Range {
            start_ns: 1_500_000_000,
            end_ns: 60_000_000_000,
            step_ns,
        };
        let exprs = [lit("up"), lit(1.5), lit("1970-01-01T00:01:00Z"), lit("10s")];
        let found = read(&exprs).unwrap();
        assert_eq!(
            (found.text.as_str(), found.when),
            ("up", range(Some(10_000_000_000)))
        );
        assert_eq!(read(&exprs[..3]).unwrap().when, range(None));
        assert_eq!(
            read(&[lit("up"), lit(2_i64)]).unwrap().when,
            When::At(2_000_000_000)
        );
        let interval = ScalarValue::new_interval_mdn(0, 1, 5);
        let exprs = [lit("up"), lit(1.5), lit(60_i64), lit(interval)];
        assert_eq!(read(&exprs).unwrap().when, range(Some(86_400_000_000_005)));
    }

    #[test]
    fn what_is_no_argument_is_named() {
        let cases: [&[Expr]; 6] = [
            &[],
            &[lit(1_i64)],
            &[lit("up"), lit("yesterday")],
            &[lit("up"), lit(0_i64), lit(1_i64), lit(0_i64)],
            &[lit("up"), lit(1e300)],
            &[datafusion::prelude::col("x")],
        ];
        for exprs in cases {
            let error = read(exprs).unwrap_err().to_string();
            assert!(error.contains("promql"), "{error}");
        }
    }
}
