//! Range vectors: one row is one series with its raw samples.
//!
//! | column | type | meaning |
//! |---|---|---|
//! | `labels` | Binary | canonical bytes of the label set |
//! | `drop_name` | Boolean | as in step vectors; only subqueries set it |
//! | `times` | List(Int64) | times of the float samples, ms, ascending without duplicates |
//! | `values` | List(Float64) | their values, bit-exact, staleness markers included |
//! | `starts` | List(Int64) | their start times, ms, 0 where unknown; empty when none is known |
//! | `histogram_times` | List(Int64) | times of the histogram samples |
//! | `histogram_starts` | List(Int64) | their start times, 0 where unknown |
//! | `histograms` | List(Binary) | the histograms |
//!
//! Invariant: `times` and `values` have equal lengths, so have the three histogram columns.

use std::sync::{Arc, LazyLock};

use arrow::array::{
    Array, ArrayRef, BinaryArray, BinaryBuilder, BooleanArray, BooleanBufferBuilder, Float64Array,
    Int64Array, ListArray,
};
use arrow::buffer::{OffsetBuffer, ScalarBuffer};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use chronolith_engine::model::Histogram;
use datafusion::error::{DataFusionError, Result};

use super::histogram_codec;

static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
    let list = |name: &str, item: DataType| {
        let item = Arc::new(Field::new("item", item, false));
        Field::new(name, DataType::List(item), false)
    };
    Arc::new(Schema::new(vec![
        Field::new("labels", DataType::Binary, false),
        Field::new("drop_name", DataType::Boolean, false),
        list("times", DataType::Int64),
        list("values", DataType::Float64),
        list("starts", DataType::Int64),
        list("histogram_times", DataType::Int64),
        list("histogram_starts", DataType::Int64),
        list("histograms", DataType::Binary),
    ]))
});

/// A histogram sample.
#[derive(Debug, Clone, PartialEq)]
pub struct HistogramPoint {
    /// When, in ms.
    pub time_ms: i64,
    /// When its counter began, in ms; 0 where unknown.
    pub start_ms: i64,
    /// What.
    pub histogram: Arc<Histogram>,
}

/// The samples of one series.
#[derive(Debug, Clone, Copy)]
pub struct SeriesSamples<'a> {
    /// Times of the floats in ms.
    pub times: &'a [i64],
    /// Their values.
    pub values: &'a [f64],
    /// Their start times in ms; empty when none is known.
    pub starts: &'a [i64],
    /// The histogram samples.
    pub histograms: &'a [HistogramPoint],
}

/// A record batch of range vectors, its columns at hand.
#[derive(Debug, Clone)]
pub struct SampleBatch {
    labels: BinaryArray,
    drop_name: BooleanArray,
    float_offsets: OffsetBuffer<i32>,
    times: Int64Array,
    values: Float64Array,
    start_offsets: OffsetBuffer<i32>,
    starts: Int64Array,
    histogram_offsets: OffsetBuffer<i32>,
    histogram_times: Int64Array,
    histogram_starts: Int64Array,
    histograms: BinaryArray,
}

fn list_of<T: Array + Clone + 'static>(
    batch: &RecordBatch,
    column: usize,
) -> Result<(OffsetBuffer<i32>, T)> {
    let bug = || DataFusionError::Internal(format!("bug: column {column} of a sample batch"));
    let list = batch
        .columns()
        .get(column)
        .and_then(|c| c.as_any().downcast_ref::<ListArray>())
        .ok_or_else(bug)?;
    let items = list.values().as_any().downcast_ref::<T>().ok_or_else(bug)?;
    Ok((list.offsets().clone(), items.clone()))
}

fn span(offsets: &OffsetBuffer<i32>, row: usize) -> std::ops::Range<usize> {
    offsets[row] as usize..offsets[row + 1] as usize
}

impl SampleBatch {
    /// The schema of every batch.
    pub fn schema() -> SchemaRef {
        Arc::clone(&SCHEMA)
    }

    /// The view of a batch. Shares its buffers.
    ///
    /// # Errors
    /// A batch of another schema, which is a bug.
    pub fn from_batch(batch: &RecordBatch) -> Result<Self> {
        let bug = || DataFusionError::Internal("bug: not a sample batch".into());
        let column = |i: usize| batch.columns().get(i).ok_or_else(bug);
        let labels = column(0)?
            .as_any()
            .downcast_ref::<BinaryArray>()
            .ok_or_else(bug)?
            .clone();
        let drop_name = column(1)?
            .as_any()
            .downcast_ref::<BooleanArray>()
            .ok_or_else(bug)?
            .clone();
        let (float_offsets, times) = list_of(batch, 2)?;
        let (_, values) = list_of(batch, 3)?;
        let (start_offsets, starts) = list_of(batch, 4)?;
        let (histogram_offsets, histogram_times) = list_of(batch, 5)?;
        let (_, histogram_starts) = list_of(batch, 6)?;
        let (_, histograms) = list_of(batch, 7)?;
        Ok(Self {
            labels,
            drop_name,
            float_offsets,
            times,
            values,
            start_offsets,
            starts,
            histogram_offsets,
            histogram_times,
            histogram_starts,
            histograms,
        })
    }

    /// How many series.
    pub fn rows(&self) -> usize {
        self.labels.len()
    }

    /// The label set of a row.
    pub fn labels(&self, row: usize) -> &[u8] {
        self.labels.value(row)
    }

    /// Whether the row's name is to be removed at the end.
    pub fn drop_name(&self, row: usize) -> bool {
        self.drop_name.value(row)
    }

    /// The row's samples; `histograms` is a buffer that the result may borrow.
    pub fn samples<'a>(
        &'a self,
        row: usize,
        histograms: &'a mut Vec<HistogramPoint>,
    ) -> SeriesSamples<'a> {
        histograms.clear();
        for i in span(&self.histogram_offsets, row) {
            if let Some(histogram) = histogram_codec::decode(self.histograms.value(i)) {
                histograms.push(HistogramPoint {
                    time_ms: self.histogram_times.value(i),
                    start_ms: self.histogram_starts.value(i),
                    histogram: Arc::new(histogram),
                });
            }
        }
        let floats = span(&self.float_offsets, row);
        SeriesSamples {
            times: &self.times.values()[floats.clone()],
            values: &self.values.values()[floats],
            starts: &self.starts.values()[span(&self.start_offsets, row)],
            histograms,
        }
    }
}

/// Builds batches series by series.
#[derive(Debug, Default)]
pub struct SampleBatchBuilder {
    labels: BinaryBuilder,
    drop_name: Option<BooleanBufferBuilder>,
    rows: usize,
    times: Vec<i64>,
    values: Vec<f64>,
    float_ends: Vec<i32>,
    starts: Vec<i64>,
    start_ends: Vec<i32>,
    histogram_times: Vec<i64>,
    histogram_starts: Vec<i64>,
    histograms: BinaryBuilder,
    histogram_ends: Vec<i32>,
    scratch: Vec<u8>,
}

impl SampleBatchBuilder {
    /// An empty builder.
    pub fn new() -> Self {
        Self::default()
    }

    /// How many series are finished.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// How many samples there are, those of the current series included.
    pub fn sample_count(&self) -> usize {
        self.times.len() + self.histogram_times.len()
    }

    /// Whether the batch is large enough to be handed on.
    pub fn is_full(&self) -> bool {
        self.times.len() >= 1 << 14 || self.histogram_times.len() >= 1 << 10 || self.rows >= 2048
    }

    /// The float columns of the current series, to append to: times in ms, values.
    pub fn floats(&mut self) -> (&mut Vec<i64>, &mut Vec<f64>) {
        (&mut self.times, &mut self.values)
    }

    /// Appends floats to the current series. Whole columns are taken over without a copy when they
    /// are the first of the batch; the caller gets the batch's empty columns in return.
    pub fn take_floats(&mut self, times: &mut Vec<i64>, values: &mut Vec<f64>) {
        if self.times.is_empty() && times.len() >= 512 {
            std::mem::swap(&mut self.times, times);
            std::mem::swap(&mut self.values, values);
        } else {
            self.times.extend_from_slice(times);
            self.values.extend_from_slice(values);
        }
    }

    /// Appends the start times of the current series' floats, in ms.
    pub fn extend_starts(&mut self, starts: impl IntoIterator<Item = i64>) {
        self.starts.extend(starts);
    }

    /// Appends a histogram to the current series.
    pub fn push_histogram(&mut self, time_ms: i64, start_ms: i64, histogram: &Histogram) {
        self.scratch.clear();
        histogram_codec::encode(histogram, &mut self.scratch);
        self.histogram_times.push(time_ms);
        self.histogram_starts.push(start_ms);
        self.histograms.append_value(&self.scratch);
    }

    /// Ends the series.
    pub fn finish_row(&mut self, labels: &[u8], drop_name: bool) {
        self.labels.append_value(labels);
        self.drop_name
            .get_or_insert_with(|| BooleanBufferBuilder::new(64))
            .append(drop_name);
        self.float_ends.push(self.times.len() as i32);
        self.start_ends.push(self.starts.len() as i32);
        self.histogram_ends.push(self.histogram_times.len() as i32);
        self.rows += 1;
    }

    /// The batch of all series so far; the builder starts over. `None` without series.
    ///
    /// # Errors
    /// Columns that do not fit together, which is a bug.
    pub fn finish(&mut self) -> Result<Option<RecordBatch>> {
        if self.rows == 0 {
            return Ok(None);
        }
        let offsets = |ends: &mut Vec<i32>| {
            let mut offsets = Vec::with_capacity(ends.len() + 1);
            offsets.push(0);
            offsets.append(ends);
            OffsetBuffer::new(ScalarBuffer::from(offsets))
        };
        let list = |column: usize, offsets: &OffsetBuffer<i32>, items: ArrayRef| {
            let DataType::List(item) = SCHEMA.field(column).data_type() else {
                return Err(DataFusionError::Internal(
                    "bug: column of a sample batch".into(),
                ));
            };
            let list = ListArray::try_new(Arc::clone(item), offsets.clone(), items, None)?;
            Ok(Arc::new(list) as ArrayRef)
        };
        let floats = offsets(&mut self.float_ends);
        let starts = offsets(&mut self.start_ends);
        let cells = offsets(&mut self.histogram_ends);
        let drop_name = self.drop_name.take().map(|mut b| b.finish());
        let integers = |column: &mut Vec<i64>| Arc::new(Int64Array::from(std::mem::take(column)));
        let columns: Vec<ArrayRef> = vec![
            Arc::new(self.labels.finish()),
            Arc::new(BooleanArray::new(
                drop_name.unwrap_or_else(|| [].into_iter().collect()),
                None,
            )),
            list(2, &floats, integers(&mut self.times))?,
            list(
                3,
                &floats,
                Arc::new(Float64Array::from(std::mem::take(&mut self.values))),
            )?,
            list(4, &starts, integers(&mut self.starts))?,
            list(5, &cells, integers(&mut self.histogram_times))?,
            list(6, &cells, integers(&mut self.histogram_starts))?,
            list(7, &cells, Arc::new(self.histograms.finish()))?,
        ];
        self.rows = 0;
        Ok(Some(RecordBatch::try_new(Self::schema(), columns)?))
    }

    fn schema() -> SchemaRef {
        SampleBatch::schema()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn series_round_trip() {
        let mut builder = SampleBatchBuilder::new();
        builder.take_floats(&mut vec![1, 2], &mut vec![1.5, 2.5]);
        builder.finish_row(b"a", false);
        builder.push_histogram(
            7,
            3,
            &Histogram {
                count: 1.0,
                ..Histogram::default()
            },
        );
        builder.finish_row(b"b", true);
        let batch = builder.finish().unwrap().unwrap();
        let samples = SampleBatch::from_batch(&batch).unwrap();
        let mut buffer = Vec::new();
        let first = samples.samples(0, &mut buffer);
        assert_eq!((first.times, first.values), (&[1, 2][..], &[1.5, 2.5][..]));
        assert!(first.histograms.is_empty() && first.starts.is_empty());
        let second = samples.samples(1, &mut buffer);
        assert!(second.times.is_empty());
        assert_eq!(
            (second.histograms[0].time_ms, second.histograms[0].start_ms),
            (7, 3)
        );
        assert!(samples.drop_name(1));
    }
}
