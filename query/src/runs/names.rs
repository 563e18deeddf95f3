//! Which attributes make a row part of a run, and what is taken from it.

use std::collections::HashMap;

/// Bytes of a run id; what is longer is none.
pub const RUN_ID_BYTES_MAX: usize = 256;

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
    /// The text, if it is one that says something.
    #[must_use]
    pub fn text(self) -> Option<&'a str> {
        match self {
            Self::Text(text) if !text.is_empty() => Some(text),
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
    /// Tokens of language models, as one number.
    pub tokens: Vec<String>,
    /// Parts of that number, which are added where it is not there itself.
    pub token_parts: Vec<String>,
    /// Milliseconds between schedule and start.
    pub queue_ms: Vec<String>,
    /// Words about an error.
    pub error: Vec<String>,
}

impl Default for RunNames {
    fn default() -> Self {
        let list = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        Self {
            run_id: list(&["run.id", "execution_id", "pipeline.run.id", "run_id"]),
            pipeline: list(&[
                "pipeline.name",
                "pipeline.id",
                "workflow.name",
                "pipeline_name",
                "pipeline_id",
            ]),
            stage: list(&["task.name", "stage.name", "step.name", "task_id"]),
            cost: list(&["cost_dollars", "gen_ai.usage.cost", "cost"]),
            tokens: list(&["tokens", "gen_ai.usage.total_tokens"]),
            token_parts: list(&["gen_ai.usage.input_tokens", "gen_ai.usage.output_tokens"]),
            queue_ms: list(&["queue_ms", "pipeline.queue_ms"]),
            error: list(&[
                "error.message",
                "exception.message",
                "error.code",
                "error_code",
                "error",
            ]),
        }
    }
}

/// What an attribute says of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Field {
    /// The run's id.
    RunId,
    /// Its pipeline.
    Pipeline,
    /// A stage.
    Stage,
    /// Money.
    Cost,
    /// Tokens.
    Tokens,
    /// A part of the tokens.
    TokenPart,
    /// Milliseconds in the queue.
    QueueMs,
    /// Words about an error.
    Error,
}

const FIELDS: usize = 8;

/// A field, and how much its name is preferred: the smallest rank wins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot {
    /// What it says.
    pub field: Field,
    rank: u8,
}

/// Ranks from here on are those of resource attributes: what a row says itself goes first.
const RESOURCE_RANK: u8 = 64;
/// Names of one field that are told apart by rank.
const RANKS: usize = RESOURCE_RANK as usize - 1;

impl Slot {
    /// The same for an attribute of the resource.
    #[must_use]
    pub fn of_resource(self) -> Self {
        Self {
            rank: self.rank.saturating_add(RESOURCE_RANK),
            ..self
        }
    }
}

impl RunNames {
    /// Every name with its slot.
    pub fn slots(&self) -> impl Iterator<Item = (&str, Slot)> {
        let lists = [
            (Field::RunId, &self.run_id),
            (Field::Pipeline, &self.pipeline),
            (Field::Stage, &self.stage),
            (Field::Cost, &self.cost),
            (Field::Tokens, &self.tokens),
            (Field::TokenPart, &self.token_parts),
            (Field::QueueMs, &self.queue_ms),
            (Field::Error, &self.error),
        ];
        lists.into_iter().flat_map(|(field, names)| {
            names.iter().enumerate().map(move |(rank, name)| {
                let rank = rank.min(RANKS) as u8;
                (name.as_str(), Slot { field, rank })
            })
        })
    }

    /// The slots by name; of a name that stands in two lists, the first counts.
    #[must_use]
    pub fn by_name(&self) -> HashMap<String, Slot> {
        let mut by_name = HashMap::new();
        for (name, slot) in self.slots() {
            by_name.entry(name.to_owned()).or_insert(slot);
        }
        by_name
    }
}

/// Puts the attributes of a row together, in any order.
#[derive(Clone, Copy, Debug)]
pub struct Collected<'a> {
    best: [(u8, Value<'a>); FIELDS],
    token_parts: Option<f64>,
}

impl Default for Collected<'_> {
    fn default() -> Self {
        Self {
            best: [(u8::MAX, Value::Other); FIELDS],
            token_parts: None,
        }
    }
}

impl<'a> Collected<'a> {
    /// Takes a value; of one key sent twice the last counts.
    #[inline]
    pub fn take(&mut self, slot: Slot, value: Value<'a>) {
        if slot.field == Field::TokenPart {
            if let Some(part) = value.number() {
                *self.token_parts.get_or_insert(0.0) += part;
            }
            return;
        }
        let says = match slot.field {
            Field::RunId => value.text().is_some_and(|id| id.len() <= RUN_ID_BYTES_MAX),
            Field::Pipeline | Field::Stage | Field::Error => value.text().is_some(),
            _ => value.number().is_some(),
        };
        if let Some(best) = self.best.get_mut(slot.field as usize)
            && says
            && slot.rank <= best.0
        {
            *best = (slot.rank, value);
        }
    }

    fn value(&self, field: Field) -> Value<'a> {
        let best = self.best.get(field as usize);
        best.map_or(Value::Other, |(_, value)| *value)
    }

    /// Whether a run is named.
    #[must_use]
    pub fn names_run(&self) -> bool {
        self.value(Field::RunId).text().is_some()
    }

    /// What was said.
    #[must_use]
    pub fn fields(&self) -> RunFields<'a> {
        RunFields {
            run_id: self.value(Field::RunId).text().unwrap_or(""),
            pipeline: self.value(Field::Pipeline).text(),
            stage: self.value(Field::Stage).text(),
            error: self.value(Field::Error).text(),
            cost: self.value(Field::Cost).number(),
            tokens: self.value(Field::Tokens).number().or(self.token_parts),
            queue_ms: self.value(Field::QueueMs).number(),
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
    /// Its name, such as `run.started`; empty for an ordinary log record, which says only that the run
    /// lives.
    pub name: &'a str,
    /// When.
    pub time: i64,
    /// Whether its severity is an error's.
    pub is_error: bool,
    /// What it says, should it be an error without a name for it.
    pub message: &'a str,
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

/// The kinds of observations.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Seen<'a> {
    /// A log record, with a name if it is an event.
    Event(ObservedEvent<'a>),
    /// A span that ended.
    Span(ObservedSpan<'a>),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn collect<'a>(names: &RunNames, pairs: &[(&str, Value<'a>)]) -> Collected<'a> {
        let by_name = names.by_name();
        let mut collected = Collected::default();
        for (key, value) in pairs {
            if let Some(slot) = by_name.get(*key) {
                collected.take(*slot, *value);
            }
        }
        collected
    }

    #[test]
    fn the_preferred_name_wins_in_any_order() {
        let pairs = [
            ("run_id", Value::Text("second")),
            ("run.id", Value::Text("first")),
            ("pipeline.id", Value::Text("7")),
            ("pipeline.name", Value::Text("")),
            ("tokens", Value::Text("12")),
            ("gen_ai.usage.input_tokens", Value::Number(5.0)),
            ("queue_ms", Value::Number(f64::NAN)),
        ];
        let mut turned = pairs;
        turned.reverse();
        for pairs in [pairs, turned] {
            let fields = collect(&RunNames::default(), &pairs).fields();
            assert_eq!(fields.run_id, "first");
            assert_eq!(fields.pipeline, Some("7"), "empty text says nothing");
            assert_eq!(fields.tokens, Some(12.0));
            assert_eq!(fields.queue_ms, None);
        }
    }

    #[test]
    fn parts_are_added_and_a_row_beats_its_resource() {
        let names = RunNames::default();
        let fields = collect(
            &names,
            &[
                ("gen_ai.usage.input_tokens", Value::Number(5.0)),
                ("gen_ai.usage.output_tokens", Value::Text("7")),
            ],
        );
        assert_eq!(fields.fields().tokens, Some(12.0));
        let slots = names.by_name();
        let mut collected = Collected::default();
        collected.take(slots["run.id"].of_resource(), Value::Text("resource"));
        assert!(collected.names_run());
        collected.take(slots["run_id"], Value::Text("row"));
        assert_eq!(collected.fields().run_id, "row");
    }

    #[test]
    fn a_run_id_that_is_too_long_is_none() {
        let long = "x".repeat(RUN_ID_BYTES_MAX + 1);
        let collected = collect(&RunNames::default(), &[("run.id", Value::Text(&long))]);
        assert!(!collected.names_run());
    }
}
