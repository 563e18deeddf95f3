//! Step vectors held in memory: what operators that must see several series at once work on.
//!
//! [`StepTable`] gives random access to the rows of many batches; [`SeriesCollector`] puts cells
//! together that arrive in any order, keyed by label set.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use chronolith_engine::model::Histogram;
use datafusion::error::Result;

use super::step_vectors::{Presence, StepVectors, StepVectorsBuilder};

/// A value at one step.
#[derive(Debug, Clone, Copy)]
pub enum Value<'a> {
    /// A float.
    Float(f64),
    /// A native histogram.
    Histogram(&'a Arc<Histogram>),
}

impl<'a> Value<'a> {
    /// The float, if it is one.
    pub fn float(self) -> Option<f64> {
        match self {
            Self::Float(value) => Some(value),
            Self::Histogram(_) => None,
        }
    }

    /// The histogram, if it is one.
    pub fn histogram(self) -> Option<&'a Arc<Histogram>> {
        match self {
            Self::Float(_) => None,
            Self::Histogram(histogram) => Some(histogram),
        }
    }
}

/// One series of a [`StepTable`].
#[derive(Debug, Clone, Copy)]
pub struct Row<'a> {
    /// The label set.
    pub labels: &'a [u8],
    /// The name is to be removed at the end.
    pub drop_name: bool,
    /// A value per step, arbitrary where no float is present.
    pub values: &'a [f64],
    /// Where there are floats.
    pub presence: Presence<'a>,
    /// The histograms with their steps, ascending.
    pub histograms: &'a [(u32, Arc<Histogram>)],
}

impl<'a> Row<'a> {
    /// The value at a step.
    #[inline]
    pub fn value(&self, step: usize) -> Option<Value<'a>> {
        if self.presence.get(step) {
            return Some(Value::Float(self.values[step]));
        }
        if self.histograms.is_empty() {
            return None;
        }
        let found = self
            .histograms
            .binary_search_by_key(&step, |(s, _)| *s as usize)
            .ok()?;
        Some(Value::Histogram(&self.histograms[found].1))
    }

    /// Whether there is a value of either kind at a step.
    #[inline]
    pub fn has(&self, step: usize) -> bool {
        self.value(step).is_some()
    }
}

type DecodedRow = Vec<(u32, Arc<Histogram>)>;

/// The rows of several batches, in their order.
#[derive(Debug, Default)]
pub struct StepTable {
    batches: Vec<StepVectors>,
    histograms: Vec<Vec<DecodedRow>>,
    index: Vec<(u32, u32)>,
}

impl StepTable {
    /// The table of these batches.
    ///
    /// # Errors
    /// A batch of another schema, which is a bug.
    pub fn from_batches(batches: &[RecordBatch]) -> Result<Self> {
        let mut table = Self::default();
        for batch in batches {
            let vectors = StepVectors::from_batch(batch)?;
            let decoded = if vectors.has_histograms() {
                let row = |row| -> DecodedRow {
                    vectors
                        .histograms(row)
                        .map(|(s, h)| (s as u32, Arc::new(h)))
                        .collect()
                };
                (0..vectors.rows()).map(row).collect()
            } else {
                Vec::new()
            };
            let number = table.batches.len() as u32;
            table
                .index
                .extend((0..vectors.rows() as u32).map(|row| (number, row)));
            table.histograms.push(decoded);
            table.batches.push(vectors);
        }
        Ok(table)
    }

    /// How many series.
    pub fn len(&self) -> usize {
        self.index.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.index.is_empty()
    }

    /// A series by its number.
    pub fn row(&self, number: usize) -> Row<'_> {
        let (batch, row) = self.index[number];
        let (batch, row) = (batch as usize, row as usize);
        let vectors = &self.batches[batch];
        Row {
            labels: vectors.labels(row),
            drop_name: vectors.drop_name(row),
            values: vectors.values(row),
            presence: vectors.presence(row),
            histograms: self.histograms[batch].get(row).map_or(&[], Vec::as_slice),
        }
    }

    /// Every series.
    pub fn rows(&self) -> impl Iterator<Item = Row<'_>> {
        (0..self.len()).map(|number| self.row(number))
    }
}

#[derive(Debug)]
struct Collected {
    labels: Arc<[u8]>,
    drop_name: bool,
    values: Vec<f64>,
    present: Vec<bool>,
    histograms: Vec<(u32, Arc<Histogram>)>,
}

/// Puts series together from cells that come in any order.
#[derive(Debug)]
pub struct SeriesCollector {
    schema: SchemaRef,
    steps: usize,
    rows: Vec<Collected>,
    by_labels: HashMap<Arc<[u8]>, usize>,
}

impl SeriesCollector {
    /// An empty collector for batches of `schema`.
    pub fn new(schema: SchemaRef) -> Self {
        let steps = StepVectors::steps_of(&schema);
        Self {
            schema,
            steps,
            rows: Vec::new(),
            by_labels: HashMap::new(),
        }
    }

    /// The number of the series with these labels, made if it is new.
    pub fn series(&mut self, labels: &[u8], drop_name: bool) -> usize {
        if let Some(&number) = self.by_labels.get(labels) {
            return number;
        }
        let number = self.append(labels, drop_name);
        self.by_labels
            .insert(Arc::clone(&self.rows[number].labels), number);
        number
    }

    /// A new series even if there is one with these labels.
    pub fn append(&mut self, labels: &[u8], drop_name: bool) -> usize {
        self.rows.push(Collected {
            labels: Arc::from(labels),
            drop_name,
            values: vec![0.0; self.steps],
            present: vec![false; self.steps],
            histograms: Vec::new(),
        });
        self.rows.len() - 1
    }

    /// Sets a cell. False, and nothing done, if it was set before.
    pub fn set(&mut self, series: usize, step: usize, value: Value<'_>) -> bool {
        let row = &mut self.rows[series];
        let taken = row.present[step] || row.histograms.iter().any(|(s, _)| *s as usize == step);
        if taken {
            return false;
        }
        match value {
            Value::Float(value) => {
                row.values[step] = value;
                row.present[step] = true;
            }
            Value::Histogram(h) => row.histograms.push((step as u32, Arc::clone(h))),
        }
        true
    }

    /// Marks the series' name for removal, or unmarks it.
    pub fn set_drop_name(&mut self, series: usize, drop_name: bool) {
        self.rows[series].drop_name = drop_name;
    }

    /// All series as batches, in the order in which they were made; empty ones are left out.
    ///
    /// # Errors
    /// Columns that do not fit together, which is a bug.
    pub fn finish(self) -> Result<Vec<RecordBatch>> {
        let mut builder = StepVectorsBuilder::new(self.schema);
        let mut batches = Vec::new();
        for row in self.rows {
            builder.begin();
            if row.present.iter().all(|&p| p) {
                builder.set_all(&row.values);
            } else {
                for step in (0..self.steps).filter(|&step| row.present[step]) {
                    builder.set(step, row.values[step]);
                }
            }
            for (step, histogram) in &row.histograms {
                builder.set_histogram(*step as usize, histogram);
            }
            builder.finish_row(&row.labels, row.drop_name);
            if builder.is_full() {
                batches.extend(builder.finish()?);
            }
        }
        batches.extend(builder.finish()?);
        Ok(batches)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_are_collected_once() {
        let mut collector = SeriesCollector::new(StepVectors::schema(2));
        let a = collector.series(b"a", false);
        assert_eq!(collector.series(b"a", true), a);
        assert!(collector.set(a, 1, Value::Float(1.0)));
        assert!(!collector.set(a, 1, Value::Float(2.0)));
        let histogram = Arc::new(Histogram::default());
        assert!(collector.set(a, 0, Value::Histogram(&histogram)));
        assert!(!collector.set(a, 0, Value::Float(2.0)));
        collector.series(b"empty", false);
        let table = StepTable::from_batches(&collector.finish().unwrap()).unwrap();
        assert_eq!(table.len(), 1);
        let row = table.row(0);
        assert!(row.value(0).and_then(Value::histogram).is_some());
        assert_eq!(row.value(1).and_then(Value::float), Some(1.0));
    }
}
