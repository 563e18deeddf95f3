//! Time to breach: when a growing number will pass a threshold.
//!
//! Capacity grows in ways that one straight line does not catch: it steps up when data is moved in,
//! falls back at every clean-up, bends when a new tenant arrives, accelerates, breathes with the
//! day, rests on weekends. So the history is taken apart first: jumps are found and undone
//! ([`jumps`]), seasons are subtracted, one of four trends is chosen ([`trend`]); then all of it is
//! played forward, clean-ups at their rhythm included, and the first point above the threshold is
//! the answer. The band is where the ends of the trend's own band pass it.
//!
//! Source: the parts have theirs (see there); the composition is ours. Cost: about 130 passes over the
//! history, some milliseconds for 504 points. Good at: disks, quotas, tables that grow.
//! Bad at: histories below two days of points or one cycle of what drives them, growth that has
//! not begun yet.

mod jumps;
mod trend;

use super::options::{ForecastError, HISTORY_MAX};
use super::{gaps, interval, season};
use jumps::Jumps;
pub use trend::TrendKind;

/// The strength that a season needs to be carried forward.
const SEASON_STRENGTH_MIN: f64 = 0.3;

/// Points at the end whose mean distance from the trend says where the series now stands, and how
/// much of this distance is left after each point.
const STANDING_POINTS: usize = 6;
const STANDING_DECAY: f64 = 0.97;

/// The farthest look ahead, in points.
pub const BREACH_HORIZON_MAX: usize = 1_000_000;

/// What to watch, and how far ahead.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct BreachOptions {
    /// The value at which the breach is.
    pub threshold: f64,
    /// Whether falling to the threshold is the breach (free space) instead of rising to it.
    pub falling: bool,
    /// Points to look ahead, 1 to [`BREACH_HORIZON_MAX`].
    pub horizon: usize,
    /// The chance that the band shall hold the breach, above 0 and below 1. Default 0.9.
    pub level: f64,
    /// Season lengths worth testing, in points; see [`season::natural_periods`].
    pub seasons: Vec<usize>,
}

impl BreachOptions {
    /// Rising to `threshold` within `horizon` points, with a band of 90 %.
    #[must_use]
    pub fn new(threshold: f64, horizon: usize) -> Self {
        Self {
            threshold,
            falling: false,
            horizon,
            level: 0.9,
            seasons: Vec::new(),
        }
    }

    /// Tests the cycles that clocks and calendars suggest for points this many seconds apart.
    #[must_use]
    pub fn with_step_seconds(mut self, step_seconds: f64) -> Self {
        self.seasons = season::natural_periods(step_seconds);
        self
    }

    fn check(&self) -> Result<(), ForecastError> {
        let wrong = |option, value, range| {
            Err(ForecastError::Option {
                option,
                value,
                range,
            })
        };
        if !self.threshold.is_finite() {
            return wrong("threshold", self.threshold, "the finite numbers");
        }
        if !(1..=BREACH_HORIZON_MAX).contains(&self.horizon) {
            return wrong("horizon", self.horizon as f64, "1 to 1000000 points");
        }
        if !(self.level > 0.0 && self.level < 1.0) {
            return wrong("level", self.level, "0 to 1, both excluded");
        }
        Ok(())
    }
}

/// When the threshold is passed, in points after the last one; 0 is already.
#[derive(Clone, Debug, PartialEq)]
pub struct Breach {
    /// The expected point; `None` if not within the horizon.
    pub at: Option<usize>,
    /// The earliest point within the band; `None` if even that is beyond the horizon.
    pub earliest: Option<usize>,
    /// The latest; `None` if beyond the horizon, or never.
    pub latest: Option<usize>,
    /// The shape of the trend that was found.
    pub trend: TrendKind,
    /// Its slope at the end of the history, per point.
    pub slope: f64,
    /// Indices of the first points after upward jumps, which are taken to be unique.
    pub steps: Vec<usize>,
    /// Indices of the first points after clean-ups.
    pub resets: Vec<usize>,
    /// Points from one clean-up to the next, where they have a rhythm; it is taken to go on.
    pub reset_period: Option<f64>,
    /// Season lengths carried forward.
    pub seasons: Vec<usize>,
}

/// Tells when `history`, evenly spaced with NaN and infinities as gaps, passes the threshold.
///
/// # Errors
/// [`ForecastError`] for options out of range, and for a history without any finite value.
pub fn time_to_breach(history: &[f64], options: &BreachOptions) -> Result<Breach, ForecastError> {
    options.check()?;
    let Some(last) = history.iter().rposition(|value| value.is_finite()) else {
        return Err(ForecastError::NoValues {
            points: history.len(),
        });
    };
    let start = (last + 1).saturating_sub(HISTORY_MAX);
    // Rising is what the parts know; falling is its mirror image. The unit is the largest value.
    let known = &history[start..=last];
    let largest = known
        .iter()
        .filter(|v| v.is_finite())
        .fold(0.0_f64, |max, v| max.max(v.abs()));
    let sign = if options.falling { -1.0 } else { 1.0 };
    let unit = if largest > 0.0 { largest } else { 1.0 };
    let scaled: Vec<f64> = known.iter().map(|value| sign * (value / unit)).collect();
    let filled = gaps::fill(&scaled, 1);
    let begin = after_the_floor(&filled);
    let silent = history.len() - 1 - last;
    let mut found = project(
        &filled[begin..],
        sign * (options.threshold / unit),
        silent,
        options,
    );
    found.slope *= sign * unit;
    for index in found.steps.iter_mut().chain(&mut found.resets) {
        *index += start + begin;
    }
    Ok(found)
}

/// Where the values have left a floor that they cannot pass (an empty disk); 0 without one.
fn after_the_floor(values: &[f64]) -> usize {
    const TOUCHES_MIN: usize = 3;
    const POINTS_MIN: usize = 36;
    let floor = values.iter().copied().fold(f64::INFINITY, f64::min);
    let touches = values.iter().filter(|&&value| value == floor).count();
    match values.iter().rposition(|&value| value == floor) {
        Some(last) if touches >= TOUCHES_MIN && values.len() - last > POINTS_MIN => last + 1,
        _ => 0,
    }
}

/// Takes the values apart and plays them forward; the first `silent` points ahead are past.
fn project(values: &[f64], threshold: f64, silent: usize, options: &BreachOptions) -> Breach {
    let jumps = Jumps::find(values, &options.seasons);
    let level = jumps.undone(values);
    let (seasons, profiles, adjusted) = take_seasons(&level, &options.seasons);
    let fitted = trend::fit(&adjusted);
    let tail = adjusted.len().min(STANDING_POINTS);
    let standing = adjusted[adjusted.len() - tail..]
        .iter()
        .enumerate()
        .map(|(index, value)| value - fitted.at((adjusted.len() - tail + index) as f64))
        .sum::<f64>()
        / tail.max(1) as f64;
    let z = interval::normal_quantile(0.5 + options.level / 2.0);
    let (mut at, mut earliest, mut latest) = (None, None, None);
    let already = values.last().is_some_and(|&last| last >= threshold);
    let mut left = standing;
    let mut fallen = 0.0;
    let mut next_reset = jumps.next_reset();
    for ahead in 0..options.horizon + silent {
        let index = values.len() + ahead;
        left *= STANDING_DECAY;
        if let Some((reset, period, drop)) = next_reset
            && index as f64 >= reset.round()
        {
            fallen += drop;
            next_reset = Some((reset + period, period, drop));
        }
        let seasonal: f64 = profiles
            .iter()
            .map(|profile| profile[index % profile.len()])
            .sum();
        let path = fitted.at(index as f64) + left + seasonal + fallen;
        let width = z * fitted.standard_error(index as f64);
        let point = Some((ahead + 1).saturating_sub(silent));
        if path + width >= threshold {
            earliest = earliest.or(point);
        }
        if path >= threshold {
            at = at.or(point);
        }
        if path - width >= threshold {
            latest = point;
            break;
        }
    }
    if already {
        (at, earliest, latest) = (Some(0), Some(0), Some(0));
    }
    Breach {
        at,
        earliest,
        latest,
        trend: fitted.kind(),
        slope: fitted.slope_at(values.len() as f64),
        steps: jumps.steps(),
        resets: jumps.resets(),
        reset_period: jumps.next_reset().map(|(_, period, _)| period),
        seasons,
    }
}

/// The seasons around the trend, their profiles by phase, and the values without them.
fn take_seasons(values: &[f64], suggested: &[usize]) -> (Vec<usize>, Vec<Vec<f64>>, Vec<f64>) {
    let mut suggested = suggested.to_vec();
    suggested.sort_unstable();
    suggested.dedup();
    let fitted = trend::fit(values);
    let mut around: Vec<f64> = values
        .iter()
        .enumerate()
        .map(|(index, value)| value - fitted.at(index as f64))
        .collect();
    let mut adjusted = values.to_vec();
    let (mut seasons, mut profiles) = (Vec::new(), Vec::new());
    for period in suggested
        .into_iter()
        .filter(|&period| period >= 2 && 2 * period <= values.len())
    {
        let (profile, strength) = season::profile_and_strength(&around, period);
        if strength < SEASON_STRENGTH_MIN {
            continue;
        }
        for values in [&mut around, &mut adjusted] {
            for cycle in values.chunks_mut(period) {
                cycle
                    .iter_mut()
                    .zip(&profile)
                    .for_each(|(value, part)| *value -= part);
            }
        }
        seasons.push(period);
        profiles.push(profile);
    }
    (seasons, profiles, adjusted)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noise(index: usize) -> f64 {
        let mut x = index as u64 + 1;
        for _ in 0..3 {
            x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        }
        (x >> 11) as f64 / (1_u64 << 53) as f64 - 0.5
    }

    fn hourly(threshold: f64) -> BreachOptions {
        BreachOptions::new(threshold, 720).with_step_seconds(3_600.0)
    }

    /// Asserts that the breach is told within a tenth, and that the band holds the truth.
    fn check(history: &[f64], options: &BreachOptions, truth: usize) -> Breach {
        let found = time_to_breach(history, options).unwrap();
        let at = found
            .at
            .unwrap_or_else(|| panic!("no breach told: {found:?}"));
        assert!(
            at.abs_diff(truth) * 10 <= truth,
            "{at} for {truth}: {found:?}"
        );
        assert!(found.earliest.unwrap() <= at && found.latest.is_none_or(|latest| latest >= at));
        found
    }

    #[test]
    fn a_line_and_its_mirror_image() {
        let values: Vec<f64> = (0..504)
            .map(|i| 40.0 + 0.05 * i as f64 + 0.5 * noise(i))
            .collect();
        let found = check(&values, &hourly(90.0), 496);
        assert_eq!(found.trend, TrendKind::Line);
        assert!((found.slope - 0.05).abs() < 0.005);
        let free: Vec<f64> = values.iter().map(|value| 100.0 - value).collect();
        let mut options = hourly(10.0);
        options.falling = true;
        assert!((check(&free, &options, 496).slope + 0.05).abs() < 0.005);
    }

    #[test]
    fn clean_ups_go_on_and_steps_do_not() {
        let saw: Vec<f64> = (0..500)
            .map(|i| 30.0 + 0.2 * i as f64 - 6.0 * (i / 50) as f64 + 0.1 * noise(i))
            .collect();
        // 0.08 net per point; the peak before a clean-up passes first.
        let found = check(&saw, &hourly(90.0), 200);
        assert!((found.reset_period.unwrap() - 50.0).abs() < 0.1);
        assert_eq!(found.resets, (1..10).map(|i| i * 50).collect::<Vec<_>>());
        let stepped: Vec<f64> = (0..500)
            .map(|i| 30.0 + 0.05 * i as f64 + if i < 200 { 0.0 } else { 15.0 } + 0.1 * noise(i))
            .collect();
        let found = check(&stepped, &hourly(90.0), 400);
        assert_eq!((found.steps, found.reset_period), (vec![200], None));
    }

    #[test]
    fn a_bend_counts_from_where_it_is() {
        let values: Vec<f64> = (0..500)
            .map(|i| 40.0 + 0.01 * i as f64 + 0.1 * (i as f64 - 350.0).max(0.0) + 0.2 * noise(i))
            .collect();
        let found = check(&values, &hourly(90.0), 273);
        assert!(matches!(found.trend, TrendKind::Bend { at } if at.abs_diff(350) < 30));
    }

    #[test]
    fn a_daily_wave_without_trend_never_breaches() {
        let values: Vec<f64> = (0..504)
            .map(|i| 70.0 + 2.0 * (i as f64 / 24.0 * std::f64::consts::TAU).sin() + 0.2 * noise(i))
            .collect();
        let found = time_to_breach(&values, &hourly(90.0)).unwrap();
        assert_eq!((found.at, found.seasons), (None, vec![24]));
    }

    #[test]
    fn odd_input_is_no_problem() {
        for values in [
            vec![1.0],
            vec![f64::NAN, 3.0, f64::INFINITY],
            vec![5.0; 100],
            vec![f64::MAX, -f64::MAX, f64::MAX],
        ] {
            let found = time_to_breach(&values, &hourly(90.0)).unwrap();
            assert!(found.slope.is_finite());
        }
        assert_eq!(
            time_to_breach(&[95.0, 96.0], &hourly(90.0)).unwrap().at,
            Some(0)
        );
        assert!(time_to_breach(&[], &hourly(90.0)).is_err());
        assert!(time_to_breach(&[1.0], &hourly(f64::NAN)).is_err());
    }
}
