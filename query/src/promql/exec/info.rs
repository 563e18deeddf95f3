//! `Info`: the function `info`: adds the labels of info metrics (`target_info` by default) to the
//! series of a vector that have the same identifying labels.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt::{self, Formatter};
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use chronolith_engine::Matcher;
use datafusion::error::Result;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_plan::ExecutionPlan;

use super::name_removal::same_labelset;
use super::operator::{Inputs, Operator};
use super::state::QueryState;
use crate::promql::ast::METRIC_NAME;
use crate::promql::batch::{Row, SeriesCollector, StepTable, StepVectors};
use crate::promql::failure::PromqlError;
use crate::promql::labelset;

/// The labels by which a series and its info series know each other.
const IDENTIFYING: [&str; 2] = ["instance", "job"];

/// The operator. Its inputs are the vector, and the info series with their samples' times as
/// values.
#[derive(Debug)]
pub struct Info {
    /// Tests on the names of info metrics.
    pub name_matchers: Vec<Matcher>,
    /// Tests on the labels to be added; if there are any, only labels named here are added.
    pub data_matchers: Vec<Matcher>,
    /// The query.
    pub state: Arc<QueryState>,
}

impl Operator for Info {
    const NAME: &'static str = "Info";

    fn schema(&self, inputs: &[Arc<dyn ExecutionPlan>]) -> SchemaRef {
        inputs[0].schema()
    }

    fn partitions(&self, _inputs: &[Arc<dyn ExecutionPlan>]) -> usize {
        1
    }

    fn describe(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}, {:?}", self.name_matchers, self.data_matchers)
    }

    fn execute(self: Arc<Self>, inputs: Inputs) -> Result<SendableRecordBatchStream> {
        let base = inputs.collect(0, &self.state)?;
        let info = inputs.collect(1, &self.state)?;
        let schema = inputs.schema();
        let time = inputs.compute_time();
        Ok(inputs.once(async move {
            let (base, info) = futures::future::try_join(base, info).await?;
            let _timer = time.timer();
            self.compute(&base.batches, &info.batches, schema)
        }))
    }
}

/// The info series of one metric that share identifying labels.
type Candidates<'a> = HashMap<(Vec<u8>, &'a str), Vec<Row<'a>>>;

impl Info {
    fn compute(
        &self,
        base: &[RecordBatch],
        info: &[RecordBatch],
        schema: SchemaRef,
    ) -> Result<Vec<RecordBatch>> {
        let steps = StepVectors::steps_of(&schema);
        let (base, info) = (
            StepTable::from_batches(base)?,
            StepTable::from_batches(info)?,
        );
        // Series that are info series themselves stay as they are.
        let is_info = |row: &Row<'_>| {
            let name = labelset::metric_name(row.labels);
            self.name_matchers.iter().all(|m| m.matches(name))
        };
        let (candidates, names) = candidates(&base, &info, &is_info);
        // As in Prometheus, a name that was to be removed stays from here on.
        let mut results = SeriesCollector::new(schema);
        for row in base.rows() {
            self.state.check()?;
            let identity = identity(row.labels);
            let plain = is_info(&row);
            // Which labels are added may differ from step to step; mostly it does not.
            let mut last: Option<(BTreeMap<String, String>, usize)> = None;
            for step in 0..steps {
                let Some(value) = row.value(step) else {
                    continue;
                };
                let added = if plain {
                    Some(BTreeMap::new())
                } else {
                    self.labels_at(row, &identity, &candidates, &names, step)?
                };
                let Some(added) = added else { continue };
                let series = match &last {
                    Some((labels, series)) if *labels == added => *series,
                    _ => {
                        let changes = added.iter().map(|(n, v)| (n.as_str(), v.as_str()));
                        let labels = labelset::edit(row.labels, changes);
                        let series = results.series(&labels, false);
                        last = Some((added, series));
                        series
                    }
                };
                if !results.set(series, step, value) {
                    return Err(same_labelset().into());
                }
            }
        }
        results.finish()
    }

    /// The labels added to a series at a step; `None` if it is left out.
    fn labels_at(
        &self,
        row: Row<'_>,
        identity: &[u8],
        candidates: &Candidates<'_>,
        names: &[&str],
        step: usize,
    ) -> Result<Option<BTreeMap<String, String>>, PromqlError> {
        let mut added: BTreeMap<String, String> = BTreeMap::new();
        let mut found = false;
        for name in names {
            let rows = candidates
                .get(&(identity.to_vec(), *name))
                .map_or(&[][..], Vec::as_slice);
            let Some(info) = newest(rows, step)? else {
                continue;
            };
            found = true;
            for label in labelset::iter(info.labels) {
                let (Ok(name), Ok(value)) = (
                    std::str::from_utf8(label.name),
                    std::str::from_utf8(label.value),
                ) else {
                    continue;
                };
                let wanted = self.data_matchers.is_empty()
                    || self.data_matchers.iter().any(|m| m.name() == name);
                if name == METRIC_NAME || !wanted {
                    continue;
                }
                if added.get(name).is_some_and(|other| other != value) {
                    return Err(PromqlError::Execution(format!("conflicting label: {name}")));
                }
                if labelset::get(row.labels, name).is_empty() {
                    added.insert(name.to_owned(), value.to_owned());
                }
            }
        }
        let needs_info = self.data_matchers.iter().any(|m| !m.matches_missing());
        Ok((found || !needs_info).then_some(added))
    }
}

fn identity(labels: &[u8]) -> Vec<u8> {
    labelset::filter(labels, |name| {
        IDENTIFYING.iter().any(|l| l.as_bytes() == name)
    })
}

/// The info series by identifying labels and name, and the names.
fn candidates<'a>(
    base: &StepTable,
    info: &'a StepTable,
    is_info: &impl Fn(&Row<'_>) -> bool,
) -> (Candidates<'a>, Vec<&'a str>) {
    // An identifying label that occurs among the base series must have one of their values.
    let mut values: [HashSet<&str>; 2] = Default::default();
    for row in base.rows().filter(|row| !is_info(row)) {
        for (label, values) in IDENTIFYING.iter().zip(&mut values) {
            let value = labelset::get(row.labels, label);
            if !value.is_empty() {
                values.insert(value);
            }
        }
    }
    let mut candidates: Candidates<'a> = HashMap::new();
    let mut names: Vec<&str> = Vec::new();
    if values.iter().all(HashSet::is_empty) {
        return (candidates, names);
    }
    for row in info.rows() {
        let fits = IDENTIFYING.iter().zip(&values).all(|(label, values)| {
            values.is_empty() || values.contains(labelset::get(row.labels, label))
        });
        if fits {
            let name = labelset::metric_name(row.labels);
            if !names.contains(&name) {
                names.push(name);
            }
            candidates
                .entry((identity(row.labels), name))
                .or_default()
                .push(row);
        }
    }
    names.sort_unstable();
    (candidates, names)
}

/// The info series whose sample is newest at a step.
fn newest<'a>(rows: &[Row<'a>], step: usize) -> Result<Option<Row<'a>>, PromqlError> {
    let mut best: Option<(f64, Row<'a>)> = None;
    for &row in rows {
        if !row.presence.get(step) {
            continue;
        }
        let time = row.values[step];
        match best {
            Some((best_time, other)) if best_time == time => {
                let ms = (time * 1000.0).round();
                return Err(PromqlError::Execution(format!(
                    "found duplicate series for info metric: existing {} @ {ms}, new {} @ {ms}",
                    labelset::text(other.labels),
                    labelset::text(row.labels)
                )));
            }
            Some((best_time, _)) if best_time > time => {}
            _ => best = Some((time, row)),
        }
    }
    Ok(best.map(|(_, row)| row))
}
