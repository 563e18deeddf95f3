//! Forecasts with bands: several methods, weighed by how they would have done, in one call.
//!
//! ```
//! use chronolith_analysis::forecast::{ForecastOptions, forecast};
//!
//! // Three weeks of hours with a daily wave.
//! let wave = |hour: usize| 10.0 + (hour as f64 / 24.0 * std::f64::consts::TAU).sin();
//! let history: Vec<f64> = (0..504).map(wave).collect();
//! let options = ForecastOptions::new(24).with_step_seconds(3_600.0);
//! let found = forecast(&history, &options)?;
//! assert!((found.point[6] - wave(510)).abs() < 0.1);
//! assert!(found.lower[6] <= wave(510) && wave(510) <= found.upper[6]);
//! # Ok::<(), chronolith_analysis::forecast::ForecastError>(())
//! ```
//!
//! The way of a history: scaled to about 1 -> events and gaps blanked -> seasons found -> gaps
//! filled -> logarithm where nothing is negative -> every method forecasts the whole horizon from
//! some origins in the past and from the end -> errors weigh the methods -> the weighted path is the
//! forecast, its errors at the origins make the band -> events put back, scaled back.
//!
//! **Invariants:** the same input gives the same output to the bit; scaling the input by a power of
//! two scales the output; no input panics; outputs are finite, except that bounds are NaN where
//! too little is known to claim any (fewer than [`POINTS_MIN`] values). Nothing is random and
//! nothing is remembered between calls.

mod backtest;
pub mod breach;
mod combine;
pub mod decompose;
mod event;
mod gaps;
mod interval;
mod linear;
mod methods;
mod options;
pub mod season;
mod transform;

pub use backtest::{Backtest, MethodReport};
pub use options::{
    EVENT_POINTS_MAX, Floor, ForecastError, ForecastOptions, HISTORY_MAX, HORIZON_MAX,
    PlannedEvent, SeasonChoice,
};

use backtest::Evidence;
use combine::{Scores, combine};
use methods::{Paths, Task};
use season::Season;
use transform::Transform;

/// Below this many values the forecast is the last one, without a band.
pub const POINTS_MIN: usize = 4;

/// A forecasting method; [`Forecast::backtest`] says how much each counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Method {
    /// The last value.
    LastValue,
    /// The last cycle; the yardstick, never part of the combination.
    SeasonalNaive,
    /// The median of the last cycles of the shortest season.
    SeasonalMedian,
    /// The median of the last cycles of the longest season.
    SeasonalMedianLong,
    /// A straight line.
    LinearGrowth,
    /// A logistic curve.
    SaturatingGrowth,
    /// Exponential smoothing with seasons.
    Smoothing,
    /// Dynamic optimised theta on the seasonally adjusted values.
    Theta,
    /// Damped trend on the seasonally adjusted values.
    DampedTrend,
    /// Ridge regression on seasonal lags.
    Autoregression,
    /// Regression on a line and a few waves per season.
    Fourier,
    /// The mean of what is mostly zero.
    Intermittent,
}

/// A forecast: one value per point of the horizon in each list.
#[derive(Clone, Debug, PartialEq)]
pub struct Forecast {
    /// The forecast (near the median of what is to be expected).
    pub point: Vec<f64>,
    /// The lower end of the band; NaN where unknown.
    pub lower: Vec<f64>,
    /// The upper end of the band; NaN where unknown.
    pub upper: Vec<f64>,
    /// The seasons used, shortest first.
    pub seasons: Vec<Season>,
    /// How the methods would have done; `None` where the history is too short or constant.
    pub backtest: Option<Backtest>,
}

/// Forecasts the points after `history`, whose values are evenly spaced; NaN and infinities are gaps.
///
/// The cost of 960 points with two seasons is below half a millisecond.
///
/// # Errors
/// [`ForecastError`] for options out of range, and for a history without any finite value.
pub fn forecast(history: &[f64], options: &ForecastOptions) -> Result<Forecast, ForecastError> {
    options.check()?;
    let last = history.iter().rposition(|value| value.is_finite());
    let Some(last) = last else {
        return Err(ForecastError::NoValues {
            points: history.len(),
        });
    };
    // Gaps at the end lengthen the horizon; the forecast of what is past is dropped.
    let silent = history.len() - 1 - last;
    if silent >= HORIZON_MAX {
        return Err(ForecastError::Option {
            option: "points after the last value",
            value: silent as f64,
            range: "0 to 19999",
        });
    }
    let known = &history[..=last];
    let recent = &known[known.len().saturating_sub(HISTORY_MAX)..];
    let first = recent
        .iter()
        .position(|value| value.is_finite())
        .unwrap_or(0);
    let seen = &recent[first..];
    let offset = history.len() - silent - seen.len();
    let mut found = Run {
        seen,
        offset,
        horizon: options.horizon + silent,
        options,
    }
    .forecast();
    for values in [&mut found.point, &mut found.lower, &mut found.upper] {
        values.drain(..silent);
    }
    Ok(found)
}

/// One forecast under way: `seen` begins and ends with a finite value.
struct Run<'a> {
    seen: &'a [f64],
    /// The index in the caller's history of the first of `seen`.
    offset: usize,
    horizon: usize,
    options: &'a ForecastOptions,
}

impl Run<'_> {
    fn forecast(&self) -> Forecast {
        let count = self.seen.iter().filter(|value| value.is_finite()).count();
        let largest = self
            .seen
            .iter()
            .filter(|v| v.is_finite())
            .fold(0.0_f64, |max, v| max.max(v.abs()));
        let scale = power_of_two_near(largest);
        let scaled: Vec<f64> = self.seen.iter().map(|value| value / scale).collect();
        let mut finite = scaled.iter().copied().filter(|value| value.is_finite());
        let first = finite.next().unwrap_or(0.0);
        if finite.all(|value| value == first) {
            return self.constant(self.seen.iter().copied().find(|v| v.is_finite()), count);
        }
        if count < POINTS_MIN {
            return self.constant(self.seen.last().copied(), 0);
        }
        self.combined(&scaled, scale)
    }

    /// `value` for ever; without a band below [`POINTS_MIN`] values.
    fn constant(&self, value: Option<f64>, count: usize) -> Forecast {
        let value = value.unwrap_or(0.0);
        let bound = if count >= POINTS_MIN { value } else { f64::NAN };
        Forecast {
            point: vec![value; self.horizon],
            lower: vec![bound; self.horizon],
            upper: vec![bound; self.horizon],
            seasons: Vec::new(),
            backtest: None,
        }
    }

    /// The weighted forecast of `scaled`, which varies.
    fn combined(&self, scaled: &[f64], scale: f64) -> Forecast {
        let mut unplanned = scaled.to_vec();
        let events = self.events();
        event::blank(&mut unplanned, &events);
        let filled = gaps::fill(&unplanned, 1);
        let seasons = self.seasons(&filled);
        let periods: Vec<usize> = seasons.iter().map(|season| season.period).collect();
        let filled = match periods.last() {
            Some(&period) if unplanned.iter().any(|value| !value.is_finite()) => {
                gaps::fill(&unplanned, period)
            }
            _ => filled,
        };
        unplanned
            .iter_mut()
            .filter(|value| value.is_infinite())
            .for_each(|v| *v = f64::NAN);

        let origins = backtest::origins(filled.len(), self.horizon, self.options.origins);
        let transform = Transform::choose(&filled);
        let mapped: Vec<f64> = filled.iter().map(|&value| transform.apply(value)).collect();
        let task = |values| Task {
            values,
            seasons: &periods,
            horizon: self.horizon,
            origins: &origins,
        };
        let (names, paths) = run_methods(&task(&filled), &task(&mapped), transform);
        let yardstick = methods::naive::seasonal(&task(&filled), task(&filled).season_short());

        let scores = Scores::measure(&paths, &origins, &unplanned);
        let weights = scores.weights(None);
        let end = origins.len() - 1;
        let mut point = Vec::with_capacity(self.horizon);
        combine(&paths, &weights, end, &mut point);
        let errors = self.errors_at_origins(&paths, &scores, &origins, &unplanned);
        let widths = interval::half_widths(&errors, self.horizon, self.options.level)
            .unwrap_or_else(|| vec![f64::NAN; self.horizon]);
        let mut lower: Vec<f64> = point.iter().zip(&widths).map(|(p, w)| p - w).collect();
        let mut upper: Vec<f64> = point.iter().zip(&widths).map(|(p, w)| p + w).collect();
        for event in &events {
            let effects = event::effects(event, scaled, &filled, transform);
            let z = interval::normal_quantile(0.5 + self.options.level / 2.0);
            for (at, effect) in future_points(event, scaled.len(), &effects) {
                let Some(value) = point.get_mut(at) else {
                    continue;
                };
                let shift = |value: f64, by: f64| transform.invert(transform.apply(value) + by);
                let (down, up) = (lower[at] - *value, upper[at] - *value);
                lower[at] = shift(*value, effect.shift - z * effect.error) + down;
                upper[at] = shift(*value, effect.shift + z * effect.error) + up;
                *value = shift(*value, effect.shift);
            }
        }
        let evidence = Evidence {
            methods: &names,
            scores: &scores,
            weights: &weights,
            origins: &origins,
            errors: &errors,
            yardstick,
            seen: &unplanned,
            scale,
        };
        let backtest = Some(evidence.report());
        let (floor, ceiling) = self.limits();
        let rescale = |values: Vec<f64>| -> Vec<f64> {
            values
                .into_iter()
                .map(|value| hold(value * scale, floor, ceiling))
                .collect()
        };
        Forecast {
            point: rescale(point),
            lower: rescale(lower),
            upper: rescale(upper),
            seasons,
            backtest,
        }
    }

    /// The events with their starts counted from the first of `seen`; what lies before is dropped.
    fn events(&self) -> Vec<PlannedEvent> {
        let shifted = |event: &PlannedEvent| PlannedEvent {
            name: event.name.clone(),
            starts: event
                .starts
                .iter()
                .filter_map(|start| start.checked_sub(self.offset))
                .collect(),
            points: event.points,
        };
        self.options.events.iter().map(shifted).collect()
    }

    fn seasons(&self, values: &[f64]) -> Vec<Season> {
        // Two whole cycles must be left when the horizon is held back.
        let usable = values
            .len()
            .saturating_sub(self.horizon.min(values.len() / 3));
        let cycles_min = 2.0 * values.len() as f64 / usable.max(1) as f64;
        match &self.options.seasons {
            SeasonChoice::Suggested(periods) => season::detect(values, periods, cycles_min),
            SeasonChoice::Fixed(periods) => {
                let mut periods = periods.clone();
                periods.retain(|&period| period >= 2 && 2 * period <= usable);
                periods.sort_unstable();
                periods.dedup();
                periods
                    .into_iter()
                    .map(|period| Season {
                        period,
                        strength: f64::NAN,
                    })
                    .collect()
            }
        }
    }

    /// The errors of the combined forecast from each past origin, by weights that did not see it.
    fn errors_at_origins(
        &self,
        paths: &[Paths],
        scores: &Scores,
        origins: &[usize],
        seen: &[f64],
    ) -> Vec<Vec<f64>> {
        let mut combined = Vec::with_capacity(self.horizon);
        let backtests = &origins[..origins.len() - 1];
        backtests
            .iter()
            .enumerate()
            .map(|(index, &origin)| {
                combine(paths, &scores.weights(Some(index)), index, &mut combined);
                seen[origin..]
                    .iter()
                    .zip(&combined)
                    .map(|(value, found)| value - found)
                    .collect()
            })
            .collect()
    }

    fn limits(&self) -> (f64, f64) {
        let lowest = self
            .seen
            .iter()
            .copied()
            .filter(|v| v.is_finite())
            .fold(f64::INFINITY, f64::min);
        let floor = match self.options.floor {
            Floor::Auto if lowest >= 0.0 => 0.0,
            Floor::Auto | Floor::Unbounded => f64::NEG_INFINITY,
            Floor::At(floor) => floor,
        };
        (floor, self.options.ceiling.unwrap_or(f64::INFINITY))
    }
}

/// The forecasts of every method that applies, on the scale of `plain`.
fn run_methods(
    plain: &Task<'_>,
    mapped: &Task<'_>,
    transform: Transform,
) -> (Vec<Method>, Vec<Paths>) {
    use methods::{adjusted, autoregression, fourier, growth, intermittent, naive, smoothing};
    let back = |mut paths: Paths| {
        if transform != Transform::Identity {
            paths
                .values_mut()
                .iter_mut()
                .for_each(|value| *value = transform.invert(*value));
        }
        paths
    };
    let (theta, damped) = adjusted::theta_and_damped(mapped);
    let mut found = vec![
        (Method::LastValue, naive::last_value(plain)),
        (
            Method::SeasonalMedian,
            naive::seasonal_median(plain, plain.season_short()),
        ),
        (Method::LinearGrowth, growth::linear(plain)),
        (Method::Theta, back(theta)),
        (Method::DampedTrend, back(damped)),
        (Method::Smoothing, back(smoothing::forecast(mapped))),
        (
            Method::Autoregression,
            back(autoregression::forecast(mapped)),
        ),
    ];
    if plain.season_long() != plain.season_short() {
        let long = naive::seasonal_median(plain, plain.season_long());
        found.push((Method::SeasonalMedianLong, long));
    }
    if let Some(paths) = fourier::forecast(mapped) {
        found.push((Method::Fourier, back(paths)));
    }
    if let Some(paths) = growth::saturating(plain) {
        found.push((Method::SaturatingGrowth, paths));
    }
    if intermittent::applies(plain.values) {
        found.push((Method::Intermittent, intermittent::forecast(plain)));
    }
    found.into_iter().unzip()
}

/// The points of an event after `end`, counted from there, with their effects.
fn future_points<'a>(
    event: &'a PlannedEvent,
    end: usize,
    effects: &'a [event::Effect],
) -> impl Iterator<Item = (usize, &'a event::Effect)> {
    event.starts.iter().flat_map(move |&start| {
        effects
            .iter()
            .enumerate()
            .filter_map(move |(offset, effect)| {
                Some((start.checked_add(offset)?.checked_sub(end)?, effect))
            })
    })
}

/// The value within the limits; a lower limit above the upper one wins.
fn hold(value: f64, floor: f64, ceiling: f64) -> f64 {
    if value.is_nan() {
        value
    } else {
        value.clamp(-f64::MAX, f64::MAX).min(ceiling).max(floor)
    }
}

/// A power of two within a factor of two of `largest`; 1 for 0.
fn power_of_two_near(largest: f64) -> f64 {
    if largest == 0.0 {
        return 1.0;
    }
    2.0_f64.powi(largest.log2().floor().clamp(-1022.0, 1023.0) as i32)
}

#[cfg(test)]
mod tests;
