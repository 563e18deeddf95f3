//! Samples of a metric query: a number for each entry that passes its pipeline, and the labels of the
//! series that it belongs to.

use std::sync::Arc;

use chronolith_engine::rows::{FieldValue, LineFields};

use super::super::ast::{Conversion, Grouping, LogRange, RangeOp};
use super::super::units::{self, SECOND_NS};
use super::fields::FieldPlan;
use super::filter::LabelFilter;
use super::hints::Hints;
use super::labels::{
    BaseLabels, ERROR_DETAILS_LABEL, ERROR_LABEL, Labels, NameId, PRESERVE_ERROR_LABEL,
};
use super::runner::{Entry, Runner};
use super::stage::Pipeline;

/// `__error__` of an entry whose unwrapped label is no number.
pub(super) const EXTRACTION_ERROR: &str = "SampleExtractionErr";

/// What the number is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Taken {
    One,
    Bytes,
    Label(NameId, Conversion),
}

/// Which labels make the series.
#[derive(Debug, Clone)]
enum Series {
    All,
    Only(Vec<NameId>),
    AllBut(Vec<NameId>),
}

/// A number and what is known of its series.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sample {
    /// The number.
    pub value: f64,
    /// The series depends on the stream alone.
    pub of_stream: bool,
}

/// Turns entries into samples.
#[derive(Debug)]
pub struct SampleExtractor {
    runner: Runner,
    taken: Taken,
    filters: Vec<LabelFilter>,
    series: Series,
    /// Neither parsers nor metadata can change the series.
    groups_are_base: bool,
    /// What of lines is looked at, where that is fields alone.
    plan: Option<Arc<FieldPlan>>,
    /// An entry without an error passes the filters behind `unwrap`, whatever its labels.
    filters_pass: bool,
}

/// What becomes of all entries that have the same labels but for the one that is unwrapped.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Decision {
    /// They do not pass.
    Dropped,
    /// They pass if their number is one, and are of one series: see [`Sample::of_stream`].
    Passes {
        /// As in [`Sample`].
        of_stream: bool,
    },
    /// Each has to be looked at.
    Open,
}

impl SampleExtractor {
    /// The extractor of a range aggregation whose series are made by `grouping` (its own, or that of
    /// the aggregation around it). The scan has run the first `skip` stages. With `hinted` false,
    /// parsers look for all labels whatever is needed: the slow way, to compare with.
    ///
    /// # Errors
    /// What is wrong with the pipeline.
    pub fn new(
        op: RangeOp,
        range: &LogRange,
        grouping: Option<&Grouping>,
        skip: usize,
        hinted: bool,
    ) -> Result<Self, String> {
        let mut pipeline = Pipeline::new(&range.log.stages)?;
        let mut used: Vec<NameId> = Vec::new();
        let mut filters = Vec::new();
        let taken = match &range.unwrap {
            Some(unwrap) => {
                let label = pipeline.intern(&unwrap.label);
                used.push(label);
                for filter in &unwrap.filters {
                    let filter = LabelFilter::new(filter, &mut pipeline.names)?;
                    filter.names(&mut |name| used.extend(name));
                    filters.push(filter);
                }
                pipeline.names.fix();
                Taken::Label(label, unwrap.conversion)
            }
            None => match op {
                RangeOp::BytesRate | RangeOp::BytesOverTime => Taken::Bytes,
                _ => Taken::One,
            },
        };
        let mut ids = |labels: &[String]| -> Vec<NameId> {
            labels.iter().map(|label| pipeline.intern(label)).collect()
        };
        let no_series = Grouping::default();
        // Whether there are lines is all that matters.
        let grouping = match op {
            RangeOp::AbsentOverTime => Some(&no_series),
            _ => grouping,
        };
        let series = match (grouping, taken) {
            (Some(g), _) if !g.without => Series::Only(ids(&g.labels)),
            (Some(g), Taken::Label(label, _)) => {
                let mut names = ids(&g.labels);
                names.push(label);
                Series::AllBut(names)
            }
            (Some(g), _) => Series::AllBut(ids(&g.labels)),
            (None, Taken::Label(label, _)) => Series::AllBut(vec![label]),
            (None, _) => Series::All,
        };
        let groups_by_error = grouping
            .is_some_and(|g| !g.without && g.labels.iter().any(|label| label == ERROR_LABEL));
        let mut errors_wanted = groups_by_error;
        for op in &pipeline.ops {
            if let super::stage::Op::LabelFilter(filter) = op {
                filter.names(&mut |name| errors_wanted |= name.is_none());
            }
        }
        for filter in &filters {
            filter.names(&mut |name| errors_wanted |= name.is_none());
        }
        // The series of an entry with an error has all its labels.
        let hints = match &series {
            Series::Only(groups) if hinted && !errors_wanted => {
                used.extend(groups);
                Hints::for_labels(&pipeline, &used)
            }
            _ if hinted => Hints::for_filters(&pipeline),
            _ => None,
        };
        let plan = match &series {
            Series::Only(groups) if hinted && !groups_by_error && taken != Taken::Bytes => {
                let label = match taken {
                    Taken::Label(label, _) => Some(label),
                    _ => None,
                };
                let is_number = matches!(taken, Taken::Label(_, Conversion::Number));
                let mut used = groups.clone();
                for filter in &filters {
                    filter.names(&mut |name| used.extend(name));
                }
                FieldPlan::new(
                    &pipeline,
                    skip,
                    &used,
                    label.map(|label| (label, is_number)),
                )
            }
            _ => None,
        };
        let mut looks_at_labels = false;
        for filter in &filters {
            filter.names(&mut |name| looks_at_labels |= name.is_some());
        }
        let no_labels = &mut Labels::default();
        let filters_pass = !looks_at_labels
            && filters
                .iter()
                .all(|filter| filter.keeps(no_labels, &BaseLabels::default()));
        let groups_are_base = matches!(&series, Series::Only(groups) if groups.is_empty());
        let mut runner = Runner::new(Arc::new(pipeline), hints, skip);
        runner.preserve_errors(errors_wanted);
        Ok(Self {
            runner,
            taken,
            filters,
            series,
            groups_are_base,
            plan,
            filters_pass,
        })
    }

    /// Whether every entry that passes counts as one, and whether it does and for which series depends
    /// on labels that it has from its stream and metadata alone.
    pub fn counts_labels(&self) -> bool {
        self.taken == Taken::One && self.filters.is_empty() && self.runner.looks_at_labels_only()
    }

    /// As [`Runner::set_stream`].
    pub fn set_stream<'a, I>(&mut self, number: usize, labels: impl FnOnce() -> I)
    where
        I: Iterator<Item = (&'a str, &'a str)>,
    {
        self.runner.set_stream(number, labels);
    }

    /// As [`Runner::needs_stream`].
    pub fn needs_stream(&self) -> bool {
        self.runner.needs_stream()
    }

    /// The sample of an entry, if it passes and has one.
    #[inline]
    pub fn sample<'m>(
        &mut self,
        entry: Entry<'_>,
        metadata: impl Iterator<Item = (&'m str, &'m [u8])> + Clone,
    ) -> Option<Sample> {
        if !self.runner.run(entry, metadata) {
            return None;
        }
        let value = match self.taken {
            Taken::One => 1.0,
            Taken::Bytes => self.runner.changed_line().unwrap_or(entry.line).len() as f64,
            Taken::Label(label, conversion) => self.unwrap(label, conversion)?,
        };
        Some(Sample {
            value,
            of_stream: self.is_of_stream(),
        })
    }

    fn is_of_stream(&mut self) -> bool {
        let (labels, _, _) = self.runner.result();
        labels.is_base() || (self.groups_are_base && labels.error.is_empty())
    }

    /// The fields that are all that is looked at in lines, if that is so.
    pub fn fields(&self) -> Option<Arc<dyn LineFields>> {
        let plan = Arc::clone(self.plan.as_ref()?);
        Some(plan)
    }

    /// As [`sample`](Self::sample), for an entry whose fields are known.
    pub fn sample_of_fields<'f, 'm>(
        &mut self,
        fields: impl Fn(usize) -> FieldValue<'f>,
        metadata: impl Iterator<Item = (&'m str, &'m [u8])>,
    ) -> Option<Sample> {
        let plan = Arc::clone(self.plan.as_ref()?);
        if !self.runner.run_fields(&plan, fields, metadata) {
            return None;
        }
        let value = match self.taken {
            Taken::One | Taken::Bytes => 1.0,
            Taken::Label(label, conversion) => self.unwrap(label, conversion)?,
        };
        Some(Sample {
            value,
            of_stream: self.is_of_stream(),
        })
    }

    /// The field that becomes the value; `None` where every entry counts as one.
    pub fn unwrapped(&self) -> Option<usize> {
        match self.taken {
            Taken::Label(label, _) => self.plan.as_ref()?.place_of(label),
            Taken::One | Taken::Bytes => None,
        }
    }

    /// Whether filters or series look at a field.
    pub fn looks_at(&self, place: usize) -> bool {
        self.plan.as_ref().is_some_and(|plan| plan.looks_at(place))
    }

    /// What becomes of entries with these fields, whatever the unwrapped one is.
    pub fn decide<'f, 'm>(
        &mut self,
        fields: impl Fn(usize) -> FieldValue<'f>,
        metadata: impl Iterator<Item = (&'m str, &'m [u8])>,
    ) -> Decision {
        let Some(plan) = self.plan.clone() else {
            return Decision::Open;
        };
        if !self.runner.run_fields(&plan, fields, metadata) {
            return Decision::Dropped;
        }
        let of_stream = self.is_of_stream();
        let taken = self.taken;
        let (labels, _, base) = self.runner.result();
        let is_of_line = match taken {
            Taken::One => true,
            Taken::Bytes => false,
            Taken::Label(label, _) => base.get(label).is_none() && !labels.is_metadata(label),
        };
        if is_of_line && labels.error.is_empty() && self.filters_pass {
            Decision::Passes { of_stream }
        } else {
            Decision::Open
        }
    }

    /// The number that an unwrapped text is; `None` if it is none.
    pub fn number(&self, text: &[u8]) -> Option<f64> {
        match self.taken {
            Taken::Label(_, conversion) => convert(text, conversion).ok(),
            Taken::One | Taken::Bytes => None,
        }
    }

    fn unwrap(&mut self, label: NameId, conversion: Conversion) -> Option<f64> {
        let (labels, _, base) = self.runner.result();
        let (text, _) = labels.get(base, label)?;
        if text.is_empty() {
            return None;
        }
        let value = match convert(text, conversion) {
            Ok(value) => value,
            Err(details) => {
                labels.set_error(EXTRACTION_ERROR, details);
                0.0
            }
        };
        self.filters
            .iter()
            .all(|filter| filter.keeps(labels, base))
            .then_some(value)
    }

    /// Whether the last sample makes the query fail.
    pub fn failed(&mut self) -> bool {
        let (labels, _, _) = self.runner.result();
        !labels.error.is_empty() && !labels.preserve_error
    }

    /// Writes the canonical bytes of the last sample's series. An entry with an error keeps all its
    /// labels, so that the error is not lost.
    pub fn series(&mut self, out: &mut Vec<u8>) {
        let series = &self.series;
        let (labels, names, base) = self.runner.result();
        if !labels.error.is_empty() {
            labels.encode(base, names, |_| true, out);
            return;
        }
        match series {
            Series::All => labels.encode(base, names, |_| true, out),
            Series::Only(groups) if groups.is_empty() => out.clear(),
            Series::Only(groups) => labels.encode(base, names, |name| groups.contains(&name), out),
            Series::AllBut(groups) => {
                labels.encode(base, names, |name| !groups.contains(&name), out);
            }
        }
    }

    /// The words with which the query fails for the last sample.
    pub fn failure(&mut self) -> String {
        let mut bytes = Vec::new();
        self.series(&mut bytes);
        let (labels, _, _) = self.runner.result();
        let error = labels.error;
        let mut text = String::from("{");
        for label in crate::promql::labelset::iter(&bytes) {
            let name = String::from_utf8_lossy(label.name);
            if name == PRESERVE_ERROR_LABEL {
                continue;
            }
            if text.len() > 1 {
                text += ", ";
            }
            let value = String::from_utf8_lossy(label.value);
            text += &format!("{name}={}", units::GoQuoted(&value));
        }
        text.push('}');
        debug_assert!(text.contains(ERROR_LABEL) || !text.contains(ERROR_DETAILS_LABEL));
        format!(
            "pipeline error: '{error}' for series: '{text}'.\nUse a label filter to intentionally skip this error. (e.g | __error__!=\"{error}\").\nTo skip all potential errors you can match empty errors.(e.g __error__=\"\")\nThe label filter can also be specified after unwrap. (e.g | unwrap latency | __error__=\"\" )\n"
        )
    }
}

/// The number that a text is.
fn convert(text: &[u8], conversion: Conversion) -> Result<f64, String> {
    let text = String::from_utf8_lossy(text);
    match conversion {
        Conversion::Number => units::parse_go_float(&text),
        Conversion::Bytes => units::parse_bytes(&text).map(|bytes| bytes as f64),
        Conversion::Duration | Conversion::DurationSeconds => {
            units::parse_go_duration(&text).map(|ns| ns as f64 / SECOND_NS as f64)
        }
    }
}
