//! The forecasting methods. Each gets the same [`Task`] and gives a [`Paths`]: a forecast of the
//! whole horizon from every origin, the last of which is the end of the history.
//!
//! **Invariant:** the path from an origin depends on values before that origin only, except for
//! the few smoothing constants of [`smoothing`], which are chosen on all origins together. That
//! is what makes the backtest honest at the price of one pass.

pub(crate) mod adjusted;
pub(crate) mod autoregression;
pub(crate) mod fourier;
pub(crate) mod growth;
pub(crate) mod intermittent;
pub(crate) mod naive;
pub(crate) mod smoothing;

/// What a method works on.
pub(crate) struct Task<'a> {
    /// The history without gaps, on the scale of the methods.
    pub(crate) values: &'a [f64],
    /// Season lengths in points, ascending; two whole cycles lie before the first origin.
    pub(crate) seasons: &'a [usize],
    /// Points to forecast.
    pub(crate) horizon: usize,
    /// How many values are known at each origin, ascending; the last is all of them.
    pub(crate) origins: &'a [usize],
}

impl Task<'_> {
    /// The shortest season, or 1.
    pub(crate) fn season_short(&self) -> usize {
        self.seasons.first().copied().unwrap_or(1)
    }

    /// The longest season, or 1.
    pub(crate) fn season_long(&self) -> usize {
        self.seasons.last().copied().unwrap_or(1)
    }
}

/// One forecast per origin, one after the other.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Paths {
    horizon: usize,
    values: Vec<f64>,
}

impl Paths {
    /// Room for the paths of `task`.
    pub(crate) fn for_task(task: &Task<'_>) -> Self {
        Self {
            horizon: task.horizon,
            values: Vec::with_capacity(task.horizon * task.origins.len()),
        }
    }

    /// Paths of `horizon` values each.
    #[cfg(test)]
    pub(crate) fn new(horizon: usize, values: Vec<f64>) -> Self {
        debug_assert_eq!(values.len() % horizon.max(1), 0, "bug: a torn path");
        Self { horizon, values }
    }

    /// Adds the next value of the path under way.
    pub(crate) fn push(&mut self, value: f64) {
        self.values.push(value);
    }

    /// The path from the origin with this index.
    pub(crate) fn path(&self, origin: usize) -> &[f64] {
        &self.values[origin * self.horizon..(origin + 1) * self.horizon]
    }

    /// All values, path after path.
    pub(crate) fn values_mut(&mut self) -> &mut [f64] {
        &mut self.values
    }
}
