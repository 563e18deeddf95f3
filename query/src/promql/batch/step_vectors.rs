//! Step vectors: one row is one series with its value at every step of the expression.
//!
//! | column | type | meaning |
//! |---|---|---|
//! | `labels` | Binary | canonical bytes of the label set |
//! | `drop_name` | Boolean | the metric name is to be removed at the end of the query |
//! | `values` | FixedSizeList(Float64, steps) | value per step; null: no float there |
//! | `histogram_steps` | List(UInt32) | ascending steps at which the value is a histogram |
//! | `histograms` | List(Binary) | those histograms, see [`histogram_codec`](super::histogram_codec) |
//!
//! Invariants: a step holds a float or a histogram or nothing, never both; what lies in the float
//! buffer under a null is arbitrary; the lists of the last two columns have equal lengths, and are
//! empty in a metric of floats. A scalar is a single row with an empty label set and no nulls.

use std::ops::Range;
use std::sync::{Arc, LazyLock};

use arrow::array::{
    Array, ArrayRef, BinaryArray, BinaryBuilder, BooleanArray, BooleanBufferBuilder,
    FixedSizeListArray, Float64Array, ListArray, UInt32Array,
};
use arrow::buffer::{BooleanBuffer, NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use arrow::util::bit_iterator::BitSliceIterator;
use chronolith_engine::model::Histogram;
use datafusion::error::{DataFusionError, Result};

use super::histogram_codec;

/// A record batch of step vectors, its columns at hand.
#[derive(Debug, Clone)]
pub struct StepVectors {
    steps: usize,
    labels: BinaryArray,
    drop_name: BooleanArray,
    values: Float64Array,
    histogram_offsets: OffsetBuffer<i32>,
    histogram_steps: UInt32Array,
    histograms: BinaryArray,
}

fn item(data_type: DataType, nullable: bool) -> Arc<Field> {
    Arc::new(Field::new("item", data_type, nullable))
}

fn list(name: &str, item: &LazyLock<Arc<Field>>) -> Arc<Field> {
    Arc::new(Field::new(name, DataType::List(Arc::clone(item)), false))
}

// Schemas are made for every operator of every query: their parts are kept.
static FLOAT: LazyLock<Arc<Field>> = LazyLock::new(|| item(DataType::Float64, true));
static STEP: LazyLock<Arc<Field>> = LazyLock::new(|| item(DataType::UInt32, false));
static HISTOGRAM: LazyLock<Arc<Field>> = LazyLock::new(|| item(DataType::Binary, false));
static FIELDS: LazyLock<[Arc<Field>; 4]> = LazyLock::new(|| {
    [
        Arc::new(Field::new("labels", DataType::Binary, false)),
        Arc::new(Field::new("drop_name", DataType::Boolean, false)),
        list("histogram_steps", &STEP),
        list("histograms", &HISTOGRAM),
    ]
});
static INSTANT_SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| schema_of(1));

fn schema_of(steps: usize) -> SchemaRef {
    let width = i32::try_from(steps).unwrap_or(i32::MAX);
    let values = DataType::FixedSizeList(Arc::clone(&FLOAT), width);
    let values = Arc::new(Field::new("values", values, false));
    let [labels, drop_name, histogram_steps, histograms] = FIELDS.clone();
    Arc::new(Schema::new(vec![
        labels,
        drop_name,
        values,
        histogram_steps,
        histograms,
    ]))
}

fn bug(what: &str) -> DataFusionError {
    DataFusionError::Internal(format!("bug: not a batch of step vectors: {what}"))
}

impl StepVectors {
    /// The schema of batches with `steps` steps.
    pub fn schema(steps: usize) -> SchemaRef {
        match steps {
            1 => Arc::clone(&INSTANT_SCHEMA),
            _ => schema_of(steps),
        }
    }

    /// How many steps a schema made by [`schema`](Self::schema) stands for.
    pub fn steps_of(schema: &Schema) -> usize {
        match schema.fields().get(2).map(|f| f.data_type()) {
            Some(DataType::FixedSizeList(_, width)) => usize::try_from(*width).unwrap_or(0),
            _ => 0,
        }
    }

    /// The view of a batch. Shares its buffers.
    ///
    /// # Errors
    /// A batch of another schema, which is a bug.
    pub fn from_batch(batch: &RecordBatch) -> Result<Self> {
        let [labels, drop_name, values, steps, histograms] = batch.columns() else {
            return Err(bug("column count"));
        };
        let labels = labels
            .as_any()
            .downcast_ref::<BinaryArray>()
            .ok_or_else(|| bug("labels"))?;
        let drop_name = drop_name
            .as_any()
            .downcast_ref::<BooleanArray>()
            .ok_or_else(|| bug("drop_name"))?;
        let list = values
            .as_any()
            .downcast_ref::<FixedSizeListArray>()
            .ok_or_else(|| bug("values"))?;
        let width = usize::try_from(list.value_length()).unwrap_or(0);
        let values = list
            .values()
            .as_any()
            .downcast_ref::<Float64Array>()
            .ok_or_else(|| bug("values"))?
            .slice(list.offset() * width, list.len() * width);
        let steps = steps
            .as_any()
            .downcast_ref::<ListArray>()
            .ok_or_else(|| bug("steps"))?;
        let cells = histograms
            .as_any()
            .downcast_ref::<ListArray>()
            .ok_or_else(|| bug("histograms"))?;
        let histogram_steps = steps
            .values()
            .as_any()
            .downcast_ref::<UInt32Array>()
            .ok_or_else(|| bug("steps"))?;
        let bytes = cells
            .values()
            .as_any()
            .downcast_ref::<BinaryArray>()
            .ok_or_else(|| bug("bytes"))?;
        Ok(Self {
            steps: width,
            labels: labels.clone(),
            drop_name: drop_name.clone(),
            values,
            histogram_offsets: steps.offsets().clone(),
            histogram_steps: histogram_steps.clone(),
            histograms: bytes.clone(),
        })
    }

    /// The record batch. Copies nothing.
    ///
    /// # Errors
    /// Columns that do not fit together, which is a bug.
    pub fn into_batch(self) -> Result<RecordBatch> {
        let schema = Self::schema(self.steps);
        self.into_batch_of(schema)
    }

    /// As [`into_batch`](Self::into_batch) with a schema made before.
    ///
    /// # Errors
    /// Columns that do not fit together, which is a bug.
    pub fn into_batch_of(self, schema: SchemaRef) -> Result<RecordBatch> {
        let width = i32::try_from(self.steps).map_err(|_| bug("too many steps"))?;
        let values =
            FixedSizeListArray::try_new(Arc::clone(&FLOAT), width, Arc::new(self.values), None)?;
        let steps = ListArray::try_new(
            Arc::clone(&STEP),
            self.histogram_offsets.clone(),
            Arc::new(self.histogram_steps),
            None,
        )?;
        let histograms = ListArray::try_new(
            Arc::clone(&HISTOGRAM),
            self.histogram_offsets,
            Arc::new(self.histograms),
            None,
        )?;
        let columns: Vec<ArrayRef> = vec![
            Arc::new(self.labels),
            Arc::new(self.drop_name),
            Arc::new(values),
            Arc::new(steps),
            Arc::new(histograms),
        ];
        Ok(RecordBatch::try_new(schema, columns)?)
    }

    /// How many series.
    pub fn rows(&self) -> usize {
        self.labels.len()
    }

    /// How many steps every series has.
    pub fn steps(&self) -> usize {
        self.steps
    }

    /// The label set of a row.
    pub fn labels(&self, row: usize) -> &[u8] {
        self.labels.value(row)
    }

    /// Whether the row's name is to be removed at the end.
    pub fn drop_name(&self, row: usize) -> bool {
        self.drop_name.value(row)
    }

    /// The row's values; what stands where no float is present is arbitrary.
    #[inline]
    pub fn values(&self, row: usize) -> &[f64] {
        &self.values.values()[row * self.steps..(row + 1) * self.steps]
    }

    /// Where the row has floats.
    #[inline]
    pub fn presence(&self, row: usize) -> Presence<'_> {
        let bits = self.values.nulls().map(NullBuffer::inner);
        Presence {
            bits,
            start: row * self.steps,
            len: self.steps,
        }
    }

    /// Whether any row has a histogram.
    pub fn has_histograms(&self) -> bool {
        !self.histograms.is_empty()
    }

    /// The row's histograms with their steps, in ascending order.
    pub fn histograms(&self, row: usize) -> impl Iterator<Item = (usize, Histogram)> + '_ {
        let [start, end] = [self.histogram_offsets[row], self.histogram_offsets[row + 1]];
        (start as usize..end as usize).filter_map(|i| {
            let histogram = histogram_codec::decode(self.histograms.value(i))?;
            Some((self.histogram_steps.value(i) as usize, histogram))
        })
    }

    /// How many samples the batch holds.
    pub fn sample_count(&self) -> usize {
        self.values.len() - self.values.null_count() + self.histograms.len()
    }

    /// The same rows with other floats: `values` holds all steps of the first row, then those of the
    /// next; histograms are left out, names are marked for removal if `drop_name`.
    #[must_use]
    pub fn with_floats(&self, values: Vec<f64>, drop_name: bool) -> Self {
        let nulls = self.values.nulls().cloned();
        Self {
            values: Float64Array::new(ScalarBuffer::from(values), nulls),
            ..self.without_histograms(drop_name)
        }
    }

    /// The same rows without their histograms.
    #[must_use]
    pub fn without_histograms(&self, drop_name: bool) -> Self {
        let rows = self.rows();
        let mut same = self.clone();
        if drop_name {
            same.drop_name = BooleanArray::new(BooleanBuffer::new_set(rows), None);
        }
        if same.has_histograms() {
            same.histogram_offsets = OffsetBuffer::new_zeroed(rows);
            same.histogram_steps = UInt32Array::from(Vec::<u32>::new());
            same.histograms = BinaryArray::from(Vec::<&[u8]>::new());
        }
        same
    }

    /// The same rows with every label set replaced by that which `change` writes for it, and
    /// `drop_name` cleared where names are removed for good.
    #[must_use]
    pub fn with_labels(
        &self,
        drop_name: Option<bool>,
        mut change: impl FnMut(usize, &[u8]) -> Vec<u8>,
    ) -> Self {
        let rows = self.rows();
        let mut labels = BinaryBuilder::with_capacity(rows, self.labels.value_data().len());
        for row in 0..rows {
            labels.append_value(change(row, self.labels(row)));
        }
        let mut same = self.clone();
        same.labels = labels.finish();
        if let Some(drop) = drop_name {
            let bits = if drop {
                BooleanBuffer::new_set(rows)
            } else {
                BooleanBuffer::new_unset(rows)
            };
            same.drop_name = BooleanArray::new(bits, None);
        }
        same
    }
}

/// Which steps of a row hold a float.
#[derive(Debug, Clone, Copy)]
pub struct Presence<'a> {
    bits: Option<&'a BooleanBuffer>,
    start: usize,
    len: usize,
}

impl Presence<'_> {
    /// Whether step `step` holds a float.
    #[inline]
    pub fn get(&self, step: usize) -> bool {
        self.bits.is_none_or(|b| b.value(self.start + step))
    }

    /// How many steps hold a float.
    #[inline]
    pub fn count(&self) -> usize {
        self.bits
            .map_or(self.len, |b| b.slice(self.start, self.len).count_set_bits())
    }

    /// Whether every step holds a float.
    #[inline]
    pub fn is_full(&self) -> bool {
        self.count() == self.len
    }

    /// Whether no step holds a float.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.count() == 0
    }

    /// The runs of steps that hold floats, ascending.
    pub fn runs(&self) -> impl Iterator<Item = Range<usize>> + '_ {
        let whole = self.bits.is_none().then_some(0..self.len);
        let slices = self.bits.into_iter().flat_map(|bits| {
            let slices = BitSliceIterator::new(bits.values(), bits.offset() + self.start, self.len);
            slices.map(|(start, end)| start..end)
        });
        whole.into_iter().chain(slices)
    }

    /// The steps that hold a float, ascending.
    pub fn iter(&self) -> impl Iterator<Item = usize> + '_ {
        let len = self.len;
        (0..len).filter(|&step| self.get(step))
    }
}

/// The steps at which a row has floats, to be used for many rows.
#[derive(Debug, Clone)]
pub struct StepMask {
    bits: BooleanBuffer,
    count: usize,
}

impl StepMask {
    /// The mask of those of `steps` steps of which `present` says so, which begins at step `first`.
    pub fn new(steps: usize, first: usize, present: impl Iterator<Item = bool>) -> Self {
        let mut bits = BooleanBufferBuilder::new(steps);
        bits.append_n(first.min(steps), false);
        present.for_each(|present| bits.append(present));
        bits.resize(steps);
        let bits = bits.finish();
        let count = bits.count_set_bits();
        Self { bits, count }
    }

    /// At how many steps there are floats.
    pub fn count(&self) -> usize {
        self.count
    }
}

/// Builds batches row by row.
///
/// A row is begun, its cells are set in any order, and it is then finished (or dropped if it has
/// no cell, as an empty series is no series).
#[derive(Debug)]
pub struct StepVectorsBuilder {
    schema: SchemaRef,
    steps: usize,
    labels: BinaryBuilder,
    drop_name: BooleanBufferBuilder,
    values: Vec<f64>,
    present: BooleanBufferBuilder,
    row_present: usize,
    histogram_lengths: Vec<usize>,
    histogram_steps: Vec<u32>,
    histograms: BinaryBuilder,
    row_histograms: Vec<(u32, Vec<u8>)>,
    rows: usize,
}

impl StepVectorsBuilder {
    /// A builder for `steps` steps.
    pub fn new(schema: SchemaRef) -> Self {
        let steps = StepVectors::steps_of(&schema);
        Self {
            schema,
            steps,
            labels: BinaryBuilder::new(),
            drop_name: BooleanBufferBuilder::new(0),
            values: Vec::new(),
            present: BooleanBufferBuilder::new(0),
            row_present: 0,
            histogram_lengths: Vec::new(),
            histogram_steps: Vec::new(),
            histograms: BinaryBuilder::new(),
            row_histograms: Vec::new(),
            rows: 0,
        }
    }

    /// How many rows are finished.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Whether the batch is large enough to be handed on: about a quarter of a million cells.
    pub fn is_full(&self) -> bool {
        self.values.len() >= 1 << 18 || self.rows >= 8192
    }

    /// How many cells the finished rows have.
    pub fn cells(&self) -> usize {
        self.rows * self.steps
    }

    /// Makes room for so many more rows.
    pub fn reserve(&mut self, rows: usize) {
        self.values.reserve(rows.saturating_mul(self.steps));
    }

    /// Begins a row; all its cells are absent.
    pub fn begin(&mut self) {
        let cells = (self.rows + 1) * self.steps;
        self.values.resize(cells, 0.0);
        self.present.truncate(self.rows * self.steps);
        self.present.append_n(self.steps, false);
        self.row_present = 0;
        self.row_histograms.clear();
    }

    /// Sets a cell of the row to a float.
    #[inline]
    pub fn set(&mut self, step: usize, value: f64) {
        let cell = self.rows * self.steps + step;
        self.values[cell] = value;
        self.present.set_bit(cell, true);
        self.row_present += 1;
    }

    /// Sets all cells of the row to floats.
    pub fn set_all(&mut self, values: &[f64]) {
        let start = self.rows * self.steps;
        self.values[start..start + self.steps].copy_from_slice(values);
        self.present.truncate(start);
        self.present.append_n(self.steps, true);
        self.row_present = self.steps;
    }

    /// The floats of the row's cells, to be followed by [`mark`](Self::mark).
    pub fn row_mut(&mut self) -> &mut [f64] {
        let start = self.rows * self.steps;
        &mut self.values[start..start + self.steps]
    }

    /// Makes floats of the cells of a row where `mask` says so; none was set before.
    pub fn mark(&mut self, mask: &StepMask) {
        self.present.truncate(self.rows * self.steps);
        if mask.count == self.steps {
            self.present.append_n(self.steps, true);
        } else {
            self.present.append_buffer(&mask.bits);
        }
        self.row_present = mask.count;
    }

    /// Sets a cell of the row to a histogram.
    pub fn set_histogram(&mut self, step: usize, histogram: &Histogram) {
        let mut bytes = Vec::with_capacity(64 + histogram.heap_bytes());
        histogram_codec::encode(histogram, &mut bytes);
        self.row_histograms.push((step as u32, bytes));
    }

    /// Sets the cells that another row has.
    pub fn copy_row(&mut self, row: &super::Row<'_>) {
        if row.presence.is_full() {
            self.set_all(row.values);
        } else {
            for step in row.presence.iter() {
                self.set(step, row.values[step]);
            }
        }
        for (step, histogram) in row.histograms {
            self.set_histogram(*step as usize, histogram);
        }
    }

    /// Ends the row; it is forgotten if none of its cells was set. Whether it was kept.
    pub fn finish_row(&mut self, labels: &[u8], drop_name: bool) -> bool {
        if self.row_present == 0 && self.row_histograms.is_empty() {
            return false;
        }
        self.row_histograms.sort_by_key(|(step, _)| *step);
        self.histogram_lengths.push(self.row_histograms.len());
        for (step, bytes) in self.row_histograms.drain(..) {
            self.histogram_steps.push(step);
            self.histograms.append_value(bytes);
        }
        self.labels.append_value(labels);
        self.drop_name.append(drop_name);
        self.rows += 1;
        true
    }

    /// The batch of all rows so far; the builder starts over. `None` without rows.
    ///
    /// # Errors
    /// Columns that do not fit together, which is a bug.
    pub fn finish(&mut self) -> Result<Option<RecordBatch>> {
        let Some(vectors) = self.finish_vectors() else {
            return Ok(None);
        };
        vectors.into_batch_of(Arc::clone(&self.schema)).map(Some)
    }

    /// As [`finish`](Self::finish), as a view.
    pub fn finish_vectors(&mut self) -> Option<StepVectors> {
        if self.rows == 0 {
            return None;
        }
        let cells = self.rows * self.steps;
        self.values.truncate(cells);
        self.present.truncate(cells);
        let present = NullBuffer::new(self.present.finish());
        let nulls = (present.null_count() > 0).then_some(present);
        let vectors = StepVectors {
            steps: self.steps,
            labels: self.labels.finish(),
            drop_name: BooleanArray::new(self.drop_name.finish(), None),
            values: Float64Array::new(ScalarBuffer::from(std::mem::take(&mut self.values)), nulls),
            histogram_offsets: OffsetBuffer::from_lengths(self.histogram_lengths.drain(..)),
            histogram_steps: UInt32Array::from(std::mem::take(&mut self.histogram_steps)),
            histograms: self.histograms.finish(),
        };
        self.rows = 0;
        Some(vectors)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_round_trip_and_empty_ones_vanish() {
        let mut builder = StepVectorsBuilder::new(StepVectors::schema(3));
        builder.begin();
        builder.set(1, 5.0);
        assert!(builder.finish_row(b"a", false));
        builder.begin();
        assert!(!builder.finish_row(b"b", false));
        builder.begin();
        builder.set(0, 1.0);
        let histogram = Histogram {
            count: 3.0,
            ..Histogram::default()
        };
        builder.set_histogram(2, &histogram);
        assert!(builder.finish_row(b"c", true));
        let batch = builder.finish().unwrap().unwrap();
        assert!(builder.finish().unwrap().is_none());

        let vectors = StepVectors::from_batch(&batch).unwrap();
        assert_eq!(
            (vectors.rows(), vectors.steps(), vectors.sample_count()),
            (2, 3, 3)
        );
        assert_eq!(vectors.presence(0).iter().collect::<Vec<_>>(), [1]);
        assert!(vectors.presence(0).runs().eq(std::iter::once(1..2)));
        assert_eq!(vectors.values(0)[1], 5.0);
        assert_eq!(vectors.labels(1), b"c");
        assert!(vectors.drop_name(1));
        assert_eq!(vectors.histograms(1).collect::<Vec<_>>(), [(2, histogram)]);
        let second = StepVectors::from_batch(&batch.slice(1, 1)).unwrap();
        assert_eq!(second.values(0)[0], 1.0);
        assert_eq!(second.histograms(0).count(), 1);
    }
}
