//! Answers as Arrow: one row per line or point, a column per label.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, RecordBatch, StringArray, TimestampNanosecondArray};
use arrow::datatypes::{DataType, Field, Schema, TimeUnit};
use arrow::error::ArrowError;

use super::result::QueryValue;

/// A row of an answer.
struct Row<'a> {
    labels: Vec<(&'a str, &'a str)>,
    time_ns: i64,
    line: Option<&'a str>,
    value: Option<f64>,
}

/// Nanoseconds of a millisecond.
const MS_NS: i64 = 1_000_000;

impl QueryValue {
    /// The answer as a table: the labels in order of their names, `time` (UTC, nanoseconds), and `line`
    /// or `value`. A label with one of these names becomes `label_time` and so on.
    ///
    /// # Errors
    /// When the table exceeds what Arrow can hold.
    pub fn to_batch(&self) -> Result<RecordBatch, ArrowError> {
        let rows = self.rows();
        let names: BTreeSet<&str> = rows
            .iter()
            .flat_map(|row| &row.labels)
            .map(|(name, _)| *name)
            .collect();
        let mut fields = Vec::new();
        let mut columns: Vec<ArrayRef> = Vec::new();
        for name in names {
            let column = match name {
                "time" | "value" | "line" => format!("label_{name}"),
                other => other.to_owned(),
            };
            fields.push(Field::new(column, DataType::Utf8, true));
            let value = |row: &Row<'_>| -> Option<String> {
                let found = row.labels.iter().find(|(n, _)| *n == name);
                found.map(|(_, value)| (*value).to_owned())
            };
            columns.push(Arc::new(rows.iter().map(value).collect::<StringArray>()));
        }
        let utc = DataType::Timestamp(TimeUnit::Nanosecond, Some("UTC".into()));
        fields.push(Field::new("time", utc, false));
        let times = rows.iter().map(|row| row.time_ns);
        columns.push(Arc::new(
            TimestampNanosecondArray::from_iter_values(times).with_timezone("UTC"),
        ));
        if matches!(self, Self::Streams(_)) {
            fields.push(Field::new("line", DataType::Utf8, true));
            let lines = rows.iter().map(|row| row.line);
            columns.push(Arc::new(lines.collect::<StringArray>()));
        } else {
            fields.push(Field::new("value", DataType::Float64, true));
            let values = rows.iter().map(|row| row.value);
            columns.push(Arc::new(values.collect::<Float64Array>()));
        }
        RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)
    }

    fn rows(&self) -> Vec<Row<'_>> {
        match self {
            Self::Streams(streams) => {
                let of_stream = |stream: &'_ super::result::StreamResult| stream.entries.len();
                let mut rows = Vec::with_capacity(streams.iter().map(of_stream).sum());
                for stream in streams {
                    let labels: Vec<(&str, &str)> = stream.labels().collect();
                    rows.extend(stream.entries.iter().map(|entry| Row {
                        labels: labels.clone(),
                        time_ns: entry.time_ns,
                        line: Some(&entry.line),
                        value: None,
                    }));
                }
                rows
            }
            Self::Vector(all) | Self::Matrix(all) => {
                let mut rows = Vec::new();
                for series in all {
                    let pairs = series.labels.iter();
                    let labels: Vec<(&str, &str)> =
                        pairs.map(|(n, v)| (n.as_str(), v.as_str())).collect();
                    rows.extend(series.points.iter().map(|point| Row {
                        labels: labels.clone(),
                        time_ns: point.time_ms.saturating_mul(MS_NS),
                        line: None,
                        value: Some(point.value),
                    }));
                }
                rows
            }
            Self::Scalar(point) => vec![Row {
                labels: Vec::new(),
                time_ns: point.time_ms.saturating_mul(MS_NS),
                line: None,
                value: Some(point.value),
            }],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::result::{Point, Series, StreamEntry, StreamResult};
    use super::*;

    fn pair(name: &str, value: &str) -> (String, String) {
        (name.to_owned(), value.to_owned())
    }

    #[test]
    fn lines_and_points_are_rows() {
        let streams = QueryValue::Streams(vec![StreamResult {
            stream: vec![pair("app", "a")],
            parsed: vec![pair("line", "7")],
            entries: vec![StreamEntry {
                time_ns: 1,
                line: "x".to_owned(),
            }],
            ..StreamResult::default()
        }]);
        let batch = streams.to_batch().unwrap();
        let schema = batch.schema();
        let names: Vec<&str> = schema.fields().iter().map(|f| f.name().as_str()).collect();
        assert_eq!(names, ["app", "label_line", "time", "line"]);
        assert_eq!(batch.num_rows(), 1);
        let matrix = QueryValue::Matrix(vec![Series {
            labels: vec![pair("app", "a")],
            points: vec![
                Point {
                    time_ms: 1,
                    value: 2.0
                };
                3
            ],
        }]);
        assert_eq!(matrix.to_batch().unwrap().num_rows(), 3);
        let scalar = QueryValue::Scalar(Point {
            time_ms: 1,
            value: 2.0,
        });
        assert_eq!(scalar.to_batch().unwrap().num_columns(), 2);
    }
}
