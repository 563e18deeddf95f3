//! Which attributes make a row part of a run, and what is taken from it.

/// An attribute value as far as runs look at it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value<'a> {
    /// Text.
    Text(&'a str),
    /// A number; integers are exact up to 2^53.
    Number(f64),
    /// Anything else.
    Other,
}

impl<'a> Value<'a> {
    /// The text, if it is one.
    #[must_use]
    pub fn text(self) -> Option<&'a str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The number; text that spells one counts, since many clients send nothing but text.
    #[must_use]
    pub fn number(self) -> Option<f64> {
        match self {
            Self::Number(number) => Some(number),
            Self::Text(text) => text.trim().parse().ok(),
            Self::Other => None,
        }
        .filter(|number: &f64| number.is_finite())
    }
}

/// Names of attributes, each list in order of preference. Configurable, because every orchestrator
/// has its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunNames {
    /// The id of the run.
    pub run_id: Vec<String>,
    /// The pipeline or workflow.
    pub pipeline: Vec<String>,
    /// The stage, task or step.
    pub stage: Vec<String>,
    /// Money that was spent, in the unit that the source uses.
    pub cost: Vec<String>,
    /// Tokens of language models; all that are there are added.
    pub tokens: Vec<String>,
    /// Milliseconds between schedule and start.
    pub queue_ms: Vec<String>,
    /// Words about an error.
    pub error: Vec<String>,
}

impl Default for RunNames {
    fn default() -> Self {
        let list = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        Self {
            run_id: list(&["execution_id", "run.id", "pipeline.run.id", "run_id"]),
            pipeline: list(&["pipeline.name", "pipeline.id", "workflow.name"]),
            stage: list(&["task.name", "stage.name", "step.name"]),
            cost: list(&["cost_dollars", "gen_ai.usage.cost", "cost"]),
            tokens: list(&["gen_ai.usage.input_tokens", "gen_ai.usage.output_tokens"]),
            queue_ms: list(&["queue_ms", "pipeline.queue_ms"]),
            error: list(&["error.message", "exception.message", "error.code", "error"]),
        }
    }
}

impl RunNames {
    /// Whether a key names a run id: what an index is kept for.
    #[must_use]
    pub fn is_run_id(&self, key: &str) -> bool {
        self.run_id.iter().any(|name| name == key)
    }

    fn first<'a>(names: &[String], find: &impl Fn(&str) -> Option<Value<'a>>) -> Option<Value<'a>> {
        names.iter().find_map(|name| find(name))
    }

    /// What an attribute set says of a run; `None` if it names none. `find` looks up the value of a key.
    #[must_use]
    pub fn read<'a>(&self, find: impl Fn(&str) -> Option<Value<'a>>) -> Option<RunFields<'a>> {
        let run_id = Self::first(&self.run_id, &find)?.text()?;
        if run_id.is_empty() {
            return None;
        }
        Some(RunFields {
            run_id,
            ..self.read_rest(find)
        })
    }

    /// The same for a row that belongs to a run by its trace: the run id may be missing.
    #[must_use]
    pub fn read_rest<'a>(&self, find: impl Fn(&str) -> Option<Value<'a>>) -> RunFields<'a> {
        let text = |names: &[String]| Self::first(names, &find).and_then(Value::text);
        let number = |names: &[String]| Self::first(names, &find).and_then(Value::number);
        let tokens: f64 = self
            .tokens
            .iter()
            .filter_map(|name| find(name).and_then(Value::number))
            .sum();
        RunFields {
            run_id: "",
            pipeline: text(&self.pipeline),
            stage: text(&self.stage),
            error: text(&self.error),
            cost: number(&self.cost),
            tokens: (tokens > 0.0).then_some(tokens),
            queue_ms: number(&self.queue_ms),
        }
    }
}

/// What the attributes of one row say.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct RunFields<'a> {
    /// The run; empty when only the trace says.
    pub run_id: &'a str,
    /// Its pipeline.
    pub pipeline: Option<&'a str>,
    /// The stage that the row is about.
    pub stage: Option<&'a str>,
    /// Words about an error.
    pub error: Option<&'a str>,
    /// Money.
    pub cost: Option<f64>,
    /// Tokens.
    pub tokens: Option<f64>,
    /// Milliseconds.
    pub queue_ms: Option<f64>,
}

/// An event of a run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ObservedEvent<'a> {
    /// Its name, such as `run.started`.
    pub name: &'a str,
    /// When.
    pub time: i64,
    /// Whether its severity is an error's.
    pub is_error: bool,
}

/// A span of a run, or of its trace.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ObservedSpan<'a> {
    /// The span.
    pub span_id: [u8; 8],
    /// Without a parent it is the root.
    pub is_root: bool,
    /// Operation.
    pub name: &'a str,
    /// Start.
    pub start: i64,
    /// End.
    pub end: i64,
    /// Words about its error, empty if there are none; `None` if it did not fail.
    pub error: Option<&'a str>,
}

/// Something seen of a run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Observation<'a> {
    /// What its attributes say.
    pub fields: RunFields<'a>,
    /// The trace; zeros if it has none.
    pub trace_id: [u8; 16],
    /// What it is.
    pub what: Seen<'a>,
}

/// The two kinds of observations.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Seen<'a> {
    /// A log record with a name.
    Event(ObservedEvent<'a>),
    /// A span that ended.
    Span(ObservedSpan<'a>),
}
