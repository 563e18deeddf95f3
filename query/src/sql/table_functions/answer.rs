//! Rows of answers: a time, labels, and a value, text, or both.

use std::sync::{Arc, LazyLock};

use arrow::array::{
    ArrayRef, Float64Builder, MapBuilder, RecordBatch, StringBuilder, StringDictionaryBuilder,
    TimestampNanosecondBuilder,
};
use arrow::datatypes::{DataType, Field, Int32Type, Schema, SchemaRef};
use datafusion::error::Result;

use crate::tables::{label_type, labels_type, time_type};

/// Rows of a batch.
const BATCH_ROWS: usize = 8192;

/// `time, metric, labels, value, histogram`.
pub(super) static SAMPLES: LazyLock<SchemaRef> = LazyLock::new(|| {
    Arc::new(Schema::new(vec![
        Field::new("time", time_type(), false),
        Field::new("metric", label_type(), true),
        Field::new("labels", labels_type(), false),
        Field::new("value", DataType::Float64, true),
        Field::new("histogram", DataType::Utf8, true),
    ]))
});

/// `time, labels, line`.
pub(super) static LINES: LazyLock<SchemaRef> = LazyLock::new(|| {
    Arc::new(Schema::new(vec![
        Field::new("time", time_type(), false),
        Field::new("labels", labels_type(), false),
        Field::new("line", DataType::Utf8, false),
    ]))
});

struct Building {
    times: TimestampNanosecondBuilder,
    metrics: StringDictionaryBuilder<Int32Type>,
    labels: MapBuilder<StringBuilder, StringBuilder>,
    values: Float64Builder,
    texts: StringBuilder,
    rows: usize,
}

impl Building {
    fn new() -> Self {
        Self {
            times: TimestampNanosecondBuilder::new().with_timezone("UTC"),
            metrics: StringDictionaryBuilder::new(),
            labels: MapBuilder::new(None, StringBuilder::new(), StringBuilder::new()),
            values: Float64Builder::new(),
            texts: StringBuilder::new(),
            rows: 0,
        }
    }
}

/// Collects rows and cuts them into batches.
pub(super) struct Rows {
    schema: SchemaRef,
    building: Building,
    done: Vec<RecordBatch>,
}

impl Rows {
    /// Of one of the schemas above.
    pub(super) fn new(schema: &SchemaRef) -> Self {
        Self {
            schema: Arc::clone(schema),
            building: Building::new(),
            done: Vec::new(),
        }
    }

    /// Adds a row. `__name__` goes into the column `metric` where there is one.
    pub(super) fn push<'a>(
        &mut self,
        time_ns: i64,
        labels: impl IntoIterator<Item = (&'a str, &'a str)>,
        value: Option<f64>,
        text: Option<&str>,
    ) -> Result<()> {
        let into = &mut self.building;
        let mut metric = None;
        into.times.append_value(time_ns);
        for (name, value) in labels {
            if name == "__name__" {
                metric = Some(value);
            } else {
                into.labels.keys().append_value(name);
                into.labels.values().append_value(value);
            }
        }
        into.labels.append(true)?;
        into.metrics.append_option(metric);
        into.values.append_option(value);
        into.texts.append_option(text);
        into.rows += 1;
        if into.rows == BATCH_ROWS {
            self.cut()?;
        }
        Ok(())
    }

    fn cut(&mut self) -> Result<()> {
        let mut built = std::mem::replace(&mut self.building, Building::new());
        let mut arrays: Vec<ArrayRef> = vec![Arc::new(built.times.finish())];
        for field in self.schema.fields().iter().skip(1) {
            arrays.push(match field.name().as_str() {
                "metric" => Arc::new(built.metrics.finish()),
                "labels" => Arc::new(built.labels.finish()),
                "value" => Arc::new(built.values.finish()),
                _ => Arc::new(built.texts.finish()),
            });
        }
        let batch = RecordBatch::try_new(Arc::clone(&self.schema), arrays)?;
        self.done.push(batch);
        Ok(())
    }

    /// All rows.
    pub(super) fn finish(mut self) -> Result<Vec<RecordBatch>> {
        if self.building.rows > 0 {
            self.cut()?;
        }
        Ok(self.done)
    }
}
