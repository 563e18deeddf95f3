//! What a caller can say about a forecast, and what can be wrong with it.

/// What to forecast, and what is known beyond the values.
///
/// The defaults suit every series; nothing here needs tuning per series.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct ForecastOptions {
    /// Points to forecast, 1 to [`HORIZON_MAX`].
    pub horizon: usize,
    /// The share of future values that the band shall hold, above 0 and below 1. Default 0.95.
    pub level: f64,
    /// Which seasons the series may have.
    pub seasons: SeasonChoice,
    /// The least value that can occur. Default: 0 if no value of the history is below.
    pub floor: Floor,
    /// The greatest value that can occur, such as 100 for a percentage. Default: none.
    pub ceiling: Option<f64>,
    /// Holidays, releases, sales: what repeats at times that no season knows.
    pub events: Vec<PlannedEvent>,
    /// Origins of the backtest, 2 to 64. Default 8.
    pub origins: usize,
}

/// The longest horizon.
pub const HORIZON_MAX: usize = 20_000;

/// The longest history that is looked at; older points do not count.
pub const HISTORY_MAX: usize = 50_000;

impl ForecastOptions {
    /// The defaults, for `horizon` points.
    #[must_use]
    pub fn new(horizon: usize) -> Self {
        Self {
            horizon,
            level: 0.95,
            seasons: SeasonChoice::Suggested(Vec::new()),
            floor: Floor::Auto,
            ceiling: None,
            events: Vec::new(),
            origins: 8,
        }
    }

    /// Tests the cycles that clocks and calendars suggest for points this many seconds apart.
    #[must_use]
    pub fn with_step_seconds(mut self, step_seconds: f64) -> Self {
        self.seasons = SeasonChoice::Suggested(super::season::natural_periods(step_seconds));
        self
    }
}

/// Which seasons a series may have.
#[derive(Clone, Debug, PartialEq)]
pub enum SeasonChoice {
    /// These periods, in points, where the values confirm them; if none is, one is searched.
    Suggested(Vec<usize>),
    /// Exactly these, as far as the history has two cycles before the backtest.
    Fixed(Vec<usize>),
}

/// The least value that can occur.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Floor {
    /// 0 if no value of the history is below.
    Auto,
    /// None.
    Unbounded,
    /// This.
    At(f64),
}

/// Something that happened before and will again, at times that no season knows.
#[derive(Clone, Debug, PartialEq)]
pub struct PlannedEvent {
    /// What it is called, in reports.
    pub name: String,
    /// The index of the first point of each occurrence, past and future; the first value of the
    /// history has index 0, the first forecast the length of the history.
    pub starts: Vec<usize>,
    /// Points it lasts, 1 to [`EVENT_POINTS_MAX`].
    pub points: usize,
}

/// The longest event.
pub const EVENT_POINTS_MAX: usize = 10_000;

/// Why there is no forecast.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ForecastError {
    /// The history has no finite value.
    #[error("the history of {points} points holds no finite value")]
    NoValues {
        /// Points given.
        points: usize,
    },
    /// An option is out of its range.
    #[error("forecast option {option}: {value} is not within {range}")]
    Option {
        /// Its name.
        option: &'static str,
        /// What was given.
        value: f64,
        /// What is allowed.
        range: &'static str,
    },
}

impl ForecastOptions {
    /// Whether every option is in its range.
    pub(crate) fn check(&self) -> Result<(), ForecastError> {
        let wrong = |option, value, range| {
            Err(ForecastError::Option {
                option,
                value,
                range,
            })
        };
        if !(1..=HORIZON_MAX).contains(&self.horizon) {
            return wrong("horizon", self.horizon as f64, "1 to 20000 points");
        }
        if !(self.level > 0.0 && self.level < 1.0) {
            return wrong("level", self.level, "0 to 1, both excluded");
        }
        if !(2..=64).contains(&self.origins) {
            return wrong("origins", self.origins as f64, "2 to 64");
        }
        if let Some(ceiling) = self.ceiling.filter(|ceiling| ceiling.is_nan()) {
            return wrong("ceiling", ceiling, "the numbers");
        }
        if let Floor::At(floor) = self.floor
            && floor.is_nan()
        {
            return wrong("floor", floor, "the numbers");
        }
        match self
            .events
            .iter()
            .find(|event| !(1..=EVENT_POINTS_MAX).contains(&event.points))
        {
            Some(event) => wrong("event points", event.points as f64, "1 to 10000"),
            None => Ok(()),
        }
    }
}
