//! Answers as Arrow: one row per point, a column per label.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, RecordBatch, StringArray, TimestampMillisecondArray};
use arrow::datatypes::{DataType, Field, Schema, TimeUnit};
use arrow::error::ArrowError;
use chronolith_engine::model::{Histogram, Labels};

use super::result::{SampleValue, Value};

/// One point of an answer.
struct Row<'a> {
    labels: Option<&'a Labels>,
    time_ms: i64,
    value: Option<f64>,
    histogram: Option<&'a Histogram>,
}

impl Value {
    /// The answer as a table: the labels in order of their names, `time` (UTC, milliseconds),
    /// `value`, and `histogram` (`count`, `sum` and populated buckets as text) when there is one.
    /// A label called `time`, `value` or `histogram` becomes `label_time` and so on; a string is a
    /// single row with the column `text`.
    ///
    /// # Errors
    /// When the table exceeds what Arrow can hold.
    pub fn to_batch(&self) -> Result<RecordBatch, ArrowError> {
        if let Self::String { time_ms, value } = self {
            let columns: [(&str, ArrayRef); 2] = [
                ("time", times([*time_ms])),
                ("text", Arc::new(StringArray::from(vec![value.as_str()]))),
            ];
            return RecordBatch::try_from_iter(columns);
        }
        let rows = self.rows();
        let mut names: BTreeSet<&str> = BTreeSet::new();
        let mut last: Option<&Labels> = None;
        for labels in rows.iter().filter_map(|row| row.labels) {
            if !last.is_some_and(|l| std::ptr::eq(l, labels)) {
                names.extend(labels.iter().map(|label| label.name));
                last = Some(labels);
            }
        }
        let mut fields = Vec::new();
        let mut columns: Vec<ArrayRef> = Vec::new();
        for name in names {
            let column = match name {
                "time" | "value" | "histogram" => format!("label_{name}"),
                other => other.to_owned(),
            };
            fields.push(Field::new(column, DataType::Utf8, true));
            let values: StringArray = rows
                .iter()
                .map(|row| row.labels.and_then(|l| l.get(name)))
                .collect();
            columns.push(Arc::new(values));
        }
        let utc = DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into()));
        fields.push(Field::new("time", utc, false));
        columns.push(times(rows.iter().map(|row| row.time_ms)));
        fields.push(Field::new("value", DataType::Float64, true));
        columns.push(Arc::new(
            rows.iter().map(|row| row.value).collect::<Float64Array>(),
        ));
        if rows.iter().any(|row| row.histogram.is_some()) {
            fields.push(Field::new("histogram", DataType::Utf8, true));
            let texts: StringArray = rows.iter().map(|row| row.histogram.map(summary)).collect();
            columns.push(Arc::new(texts));
        }
        RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)
    }

    fn rows(&self) -> Vec<Row<'_>> {
        let mut rows = Vec::new();
        match self {
            Self::String { .. } => {}
            Self::Scalar(point) => rows.push(Row {
                labels: None,
                time_ms: point.time_ms,
                value: Some(point.value),
                histogram: None,
            }),
            Self::Vector(elements) => rows.extend(elements.iter().map(|element| {
                let (value, histogram) = match &element.value {
                    SampleValue::Float(value) => (Some(*value), None),
                    SampleValue::Histogram(histogram) => (None, Some(&**histogram)),
                };
                Row {
                    labels: Some(&element.labels),
                    time_ms: element.time_ms,
                    value,
                    histogram,
                }
            })),
            Self::Matrix(series) => {
                for one in series {
                    let labels = Some(&one.labels);
                    rows.extend(one.floats.iter().map(|point| Row {
                        labels,
                        time_ms: point.time_ms,
                        value: Some(point.value),
                        histogram: None,
                    }));
                    rows.extend(one.histograms.iter().map(|point| Row {
                        labels,
                        time_ms: point.time_ms,
                        value: None,
                        histogram: Some(&point.histogram),
                    }));
                }
            }
        }
        rows
    }
}

fn times(values: impl IntoIterator<Item = i64>) -> ArrayRef {
    Arc::new(TimestampMillisecondArray::from_iter_values(values).with_timezone("UTC"))
}

fn summary(histogram: &Histogram) -> String {
    let populated = |buckets: &[f64]| buckets.iter().filter(|b| **b != 0.0).count();
    let buckets = populated(&histogram.positive_buckets) + populated(&histogram.negative_buckets);
    format!(
        "count={} sum={} buckets={buckets}",
        histogram.count, histogram.sum
    )
}

#[cfg(test)]
mod tests {
    use super::super::result::{FloatPoint, Series, VectorElement};
    use super::*;

    fn set(pairs: &[(&str, &str)]) -> Labels {
        Labels::from_pairs(pairs.iter().copied()).unwrap()
    }

    #[test]
    fn labels_become_columns() {
        let element = |labels, value| VectorElement {
            labels,
            time_ms: 1000,
            value: SampleValue::Float(value),
        };
        let value = Value::Vector(vec![
            element(set(&[("job", "a"), ("time", "x")]), 1.0),
            element(set(&[("instance", "b")]), 2.0),
        ]);
        let batch = value.to_batch().unwrap();
        let schema = batch.schema();
        let names: Vec<&str> = schema.fields().iter().map(|f| f.name().as_str()).collect();
        assert_eq!(names, ["instance", "job", "label_time", "time", "value"]);
        assert_eq!((batch.num_rows(), batch.column(1).null_count()), (2, 1));
    }

    #[test]
    fn a_matrix_has_a_row_per_point() {
        let floats = (0..3)
            .map(|t| FloatPoint {
                time_ms: t,
                value: 0.5,
            })
            .collect();
        let value = Value::Matrix(vec![Series {
            labels: set(&[("a", "b")]),
            floats,
            histograms: vec![],
        }]);
        assert_eq!(value.to_batch().unwrap().num_rows(), 3);
        assert_eq!(Value::Matrix(Vec::new()).to_batch().unwrap().num_rows(), 0);
    }
}
