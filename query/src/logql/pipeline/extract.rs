//! Samples of a metric query: a number for each entry that passes its pipeline, and the labels of the
//! series that it belongs to.

use std::sync::Arc;

use super::super::ast::{Conversion, Grouping, LogRange, RangeOp};
use super::super::units::{self, SECOND_NS};
use super::filter::LabelFilter;
use super::hints::Hints;
use super::labels::{ERROR_DETAILS_LABEL, ERROR_LABEL, NameId, PRESERVE_ERROR_LABEL};
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
        let mut errors_wanted = grouping
            .is_some_and(|g| !g.without && g.labels.iter().any(|label| label == ERROR_LABEL));
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
        let groups_are_base = matches!(&series, Series::Only(groups) if groups.is_empty());
        let mut runner = Runner::new(Arc::new(pipeline), hints, skip);
        runner.preserve_errors(errors_wanted);
        Ok(Self {
            runner,
            taken,
            filters,
            series,
            groups_are_base,
        })
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
        let (labels, _, _) = self.runner.result();
        let of_stream = labels.is_base() || (self.groups_are_base && labels.error.is_empty());
        Some(Sample { value, of_stream })
    }

    fn unwrap(&mut self, label: NameId, conversion: Conversion) -> Option<f64> {
        let (labels, _, base) = self.runner.result();
        let (text, _) = labels.get(base, label)?;
        if text.is_empty() {
            return None;
        }
        let text = String::from_utf8_lossy(text);
        let number = match conversion {
            Conversion::Number => units::parse_go_float(&text),
            Conversion::Bytes => units::parse_bytes(&text).map(|bytes| bytes as f64),
            Conversion::Duration | Conversion::DurationSeconds => {
                units::parse_go_duration(&text).map(|ns| ns as f64 / SECOND_NS as f64)
            }
        };
        drop(text);
        let value = match number {
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
