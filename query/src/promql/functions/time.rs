//! Calendar functions: UTC, proleptic Gregorian.

/// A time of the civil calendar in UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CivilTime {
    /// Year; 1970 for the epoch.
    pub year: i64,
    /// Month, 1 to 12.
    pub month: u32,
    /// Day of the month, from 1.
    pub day: u32,
    /// Hour, 0 to 23.
    pub hour: u32,
    /// Minute, 0 to 59.
    pub minute: u32,
    /// Second, 0 to 59.
    pub second: u32,
    /// Day of the week, 0 for Sunday.
    pub weekday: u32,
    /// Day of the year, from 1.
    pub year_day: u32,
}

impl CivilTime {
    /// From seconds since the epoch (days to dates after Howard Hinnant, "chrono-compatible
    /// low-level date algorithms").
    ///
    /// Like Go's, whose calendar counts from a year so early that seconds before it wrap: the
    /// smallest integer stands for 2^63 seconds.
    pub fn from_unix(seconds: i64) -> Self {
        const EARLIEST: i64 = -9_223_372_028_741_760_000;
        let wrapped = i128::from(seconds) + if seconds < EARLIEST { 1 << 64 } else { 0 };
        let days = wrapped.div_euclid(86_400) as i64;
        let in_day = wrapped.rem_euclid(86_400) as u32;
        let shifted = days + 719_468;
        let era = shifted.div_euclid(146_097);
        let day_of_era = shifted.rem_euclid(146_097);
        let year_of_era =
            (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let from_march = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let month_from_march = (5 * from_march + 2) / 153;
        let day = (from_march - (153 * month_from_march + 2) / 5 + 1) as u32;
        let month = (if month_from_march < 10 {
            month_from_march + 3
        } else {
            month_from_march - 9
        }) as u32;
        let year = year_of_era + era * 400 + i64::from(month <= 2);
        let before: u32 = (1..month).map(|m| days_in_month(year, m)).sum();
        Self {
            year,
            month,
            day,
            hour: in_day / 3600,
            minute: in_day / 60 % 60,
            second: in_day % 60,
            weekday: (days + 4).rem_euclid(7) as u32,
            year_day: before + day,
        }
    }

    /// How many days the month has.
    pub fn days_in_month(&self) -> u32 {
        days_in_month(self.year, self.month)
    }
}

fn days_in_month(year: i64, month: u32) -> u32 {
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    match month {
        2 => 28 + u32::from(leap),
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// The calendar function of that name: seconds since the epoch in, number out.
pub fn lookup(name: &str) -> Option<fn(f64) -> f64> {
    // A value that is no time (NaN, infinite) becomes one as Go converts floats to integers on
    // amd64: the smallest integer.
    fn civil(value: f64) -> CivilTime {
        let fits = value >= i64::MIN as f64 && value < -(i64::MIN as f64);
        CivilTime::from_unix(if fits { value as i64 } else { i64::MIN })
    }
    Some(match name {
        "minute" => |v| f64::from(civil(v).minute),
        "hour" => |v| f64::from(civil(v).hour),
        "day_of_week" => |v| f64::from(civil(v).weekday),
        "day_of_month" => |v| f64::from(civil(v).day),
        "day_of_year" => |v| f64::from(civil(v).year_day),
        "days_in_month" => |v| f64::from(civil(v).days_in_month()),
        "month" => |v| f64::from(civil(v).month),
        "year" => |v| civil(v).year as f64,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_dates() {
        let date = CivilTime::from_unix(1_709_210_096); // 2024-02-29 12:34:56, a Thursday
        assert_eq!((date.year, date.month, date.day), (2024, 2, 29));
        assert_eq!((date.hour, date.minute, date.second), (12, 34, 56));
        assert_eq!(
            (date.weekday, date.year_day, date.days_in_month()),
            (4, 60, 29)
        );
        let date = CivilTime::from_unix(-1);
        assert_eq!(
            (date.year, date.month, date.day, date.hour),
            (1969, 12, 31, 23)
        );
        assert_eq!((date.weekday, date.year_day), (3, 365));
    }

    /// As Prometheus answers, built with Go for amd64.
    #[test]
    fn what_is_no_time() {
        let fields = [
            "minute",
            "hour",
            "day_of_week",
            "day_of_month",
            "day_of_year",
            "month",
            "year",
        ];
        let of = |value: f64| fields.map(|name| lookup(name).expect("a calendar function")(value));
        let wrapped = [30.0, 15.0, 0.0, 4.0, 339.0, 12.0, 292_277_026_596.0];
        for value in [
            f64::NAN,
            f64::INFINITY,
            f64::NEG_INFINITY,
            1e30,
            -(2f64.powi(63)),
        ] {
            assert_eq!(of(value), wrapped, "{value}");
        }
        let early = [13.0, 22.0, 2.0, 10.0, 69.0, 3.0, -31_688_736_537.0];
        assert_eq!(of(-1e18), early);
        let late = [27.0, 18.0, 6.0, 3.0, 338.0, 12.0, 292_277_026_596.0];
        assert_eq!(of(9.223_372_036_854_7e18), late);
    }
}
