//! The rhythm of a shop: how busy a place is at a moment, by its own clock and weekday.

pub(crate) const SECOND_MS: i64 = 1_000;
pub(crate) const MINUTE_MS: i64 = 60 * SECOND_MS;
pub(crate) const HOUR_MS: i64 = 60 * MINUTE_MS;
pub(crate) const DAY_MS: i64 = 24 * HOUR_MS;

/// Demand relative to an average moment (about 0.3 at night, 1.9 on a Saturday evening).
///
/// Two bumps (lunch and after work) over a night floor, and busier weekends, on the local clock.
pub(crate) fn demand(at_ms: i64, utc_offset_hours: i64) -> f64 {
    let local_ms = at_ms + utc_offset_hours * HOUR_MS;
    let hour = local_ms.rem_euclid(DAY_MS) as f64 / HOUR_MS as f64;
    let daily = 0.32 + 1.0 * bump(hour, 12.5, 2.4) + 1.2 * bump(hour, 18.0, 2.2);
    daily * if is_weekend(local_ms) { 1.25 } else { 1.0 }
}

/// Office rhythm: one wide bump by day, quiet weekends.
pub(crate) fn office(at_ms: i64, utc_offset_hours: i64) -> f64 {
    let local_ms = at_ms + utc_offset_hours * HOUR_MS;
    let hour = local_ms.rem_euclid(DAY_MS) as f64 / HOUR_MS as f64;
    let daily = 0.5 + 1.1 * bump(hour, 13.5, 3.6);
    daily * if is_weekend(local_ms) { 0.6 } else { 1.0 }
}

/// A bell of height 1 at `centre` on the 24-hour circle.
fn bump(hour: f64, centre: f64, width: f64) -> f64 {
    let apart = (hour - centre).abs();
    let apart = apart.min(24.0 - apart);
    (-0.5 * (apart / width).powi(2)).exp()
}

fn is_weekend(local_ms: i64) -> bool {
    // Day 0 of the epoch was a Thursday: days 2 and 3 of that week are Saturday and Sunday.
    matches!(local_ms.div_euclid(DAY_MS).rem_euclid(7), 2 | 3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn evenings_are_busier_than_nights_on_the_local_clock() {
        let monday = 4 * DAY_MS;
        let (night, evening) = (monday + 3 * HOUR_MS, monday + 18 * HOUR_MS);
        assert!(demand(evening, 0) > 3.0 * demand(night, 0));
        // Tokyo is nine hours ahead: its evening is the morning of UTC.
        assert!(demand(monday + 9 * HOUR_MS, 9) > 3.0 * demand(monday + 18 * HOUR_MS, 9));
    }

    #[test]
    fn weekends_are_found() {
        // 1970-01-03 was a Saturday, 1970-01-05 a Monday.
        assert!(is_weekend(2 * DAY_MS) && is_weekend(4 * DAY_MS - 1));
        assert!(!is_weekend(2 * DAY_MS - 1) && !is_weekend(4 * DAY_MS));
    }

    #[test]
    fn the_average_day_is_about_one() {
        let steps = 24 * 7 * 4;
        let mean = (0..steps)
            .map(|step| demand(step * HOUR_MS / 4, 1))
            .sum::<f64>()
            / steps as f64;
        assert!((0.8..1.2).contains(&mean), "mean demand {mean}");
    }
}
