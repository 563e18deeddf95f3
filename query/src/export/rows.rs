//! The rows of a signal as they are exported: those of its SQL table, with times that every reader knows.
//!
//! Times are microseconds, because Spark and others read no nanoseconds; beside `time` stands `time_ns`, the
//! exact nanoseconds as an integer.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef, TimeUnit};
use arrow::error::ArrowError;
use chronolith_engine::RequestContext;
use chronolith_engine::model::TimeRange;

use super::{ExportError, ExportSignal, Result};
use crate::sql::{SqlEngine, SqlStream};

/// Rows of one signal in a range: metrics by series and time, the others by time.
pub struct ExportRows {
    stream: SqlStream,
    schema: SchemaRef,
}

impl std::fmt::Debug for ExportRows {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ExportRows")
            .field("schema", &self.schema)
            .finish_non_exhaustive()
    }
}

impl ExportRows {
    /// Starts reading.
    ///
    /// # Errors
    /// What [`SqlEngine::query`] says.
    pub async fn open(
        engine: &SqlEngine,
        context: &RequestContext,
        signal: ExportSignal,
        range: TimeRange,
    ) -> Result<Self> {
        let order = match signal {
            ExportSignal::Metrics => "",
            ExportSignal::Logs | ExportSignal::Spans => " ORDER BY time",
        };
        let time = |nanos: i64| format!("arrow_cast({nanos}, 'Timestamp(ns, \"UTC\")')");
        let statement = format!(
            "SELECT * FROM {} WHERE time >= {} AND time <= {}{order}",
            signal.name(),
            time(range.start.0),
            time(range.end.0)
        );
        let stream = engine.query(context, &statement, &[]).await?;
        let schema = exported(&stream.schema());
        Ok(Self { stream, schema })
    }

    /// Columns of the rows.
    #[must_use]
    pub fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    /// The next rows; `None` at the end.
    ///
    /// # Errors
    /// What went wrong.
    pub async fn next(&mut self) -> Option<Result<RecordBatch>> {
        let batch = self.stream.next().await?;
        Some(match batch {
            Ok(batch) => self.convert(&batch).map_err(ExportError::from),
            Err(error) => Err(error.into()),
        })
    }

    fn convert(&self, batch: &RecordBatch) -> Result<RecordBatch, ArrowError> {
        let mut columns: Vec<ArrayRef> = Vec::with_capacity(self.schema.fields().len());
        let source = batch.schema();
        for (field, column) in source.fields().iter().zip(batch.columns()) {
            let wanted = self.schema.field(columns.len()).data_type();
            columns.push(match column.data_type() == wanted {
                true => Arc::clone(column),
                false => cast(column, wanted)?,
            });
            if field.name() == "time" {
                columns.push(cast(column, &DataType::Int64)?);
            }
        }
        RecordBatch::try_new(Arc::clone(&self.schema), columns)
    }
}

/// The columns that a table is exported with.
fn exported(schema: &Schema) -> SchemaRef {
    let mut fields: Vec<FieldRef> = Vec::new();
    for field in schema.fields() {
        fields.push(in_micros(field));
        if field.name() == "time" {
            fields.push(Arc::new(Field::new("time_ns", DataType::Int64, false)));
        }
    }
    Arc::new(Schema::new(fields))
}

fn in_micros(field: &FieldRef) -> FieldRef {
    let converted = match field.data_type() {
        DataType::Timestamp(TimeUnit::Nanosecond, zone) => {
            DataType::Timestamp(TimeUnit::Microsecond, zone.clone())
        }
        DataType::List(item) => DataType::List(in_micros(item)),
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(in_micros).collect()),
        _ => return Arc::clone(field),
    };
    Arc::new(field.as_ref().clone().with_data_type(converted))
}
