//! Reads the columns of a Parquet file, and groups them by series in the order of the file.

use std::path::Path;

use anyhow::{Context, Result};
use arrow_array::cast::AsArray;
use arrow_array::types::Float64Type;
use arrow_array::{Array, ArrayRef};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

/// The values of one series, in the order of the file.
pub(crate) type Series = (String, Vec<f64>);

/// The column `value` of each `series`; nulls become NaN.
pub(crate) fn series_values(path: &Path) -> Result<Vec<Series>> {
    let file =
        std::fs::File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    let reader = ParquetRecordBatchReaderBuilder::try_new(file)?.build()?;
    let mut found: Vec<Series> = Vec::new();
    for batch in reader {
        let batch = batch?;
        let column = |name: &str| -> Result<&ArrayRef> {
            batch
                .column_by_name(name)
                .with_context(|| format!("{}: no column {name}", path.display()))
        };
        let names = Names::of(column("series")?)?;
        let values = column("value")?
            .as_primitive_opt::<Float64Type>()
            .with_context(|| format!("{}: value is not float64", path.display()))?;
        for row in 0..batch.num_rows() {
            let name = names.at(row);
            let value = if values.is_null(row) {
                f64::NAN
            } else {
                values.value(row)
            };
            match found.last_mut().filter(|(last, _)| last == name) {
                Some((_, list)) => list.push(value),
                None => found.push((name.to_owned(), vec![value])),
            }
        }
    }
    Ok(found)
}

/// A text column, however it is laid out.
enum Names<'a> {
    Short(&'a arrow_array::StringArray),
    Large(&'a arrow_array::LargeStringArray),
}

impl<'a> Names<'a> {
    fn of(column: &'a ArrayRef) -> Result<Self> {
        let short = column.as_string_opt::<i32>().map(Self::Short);
        short
            .or_else(|| column.as_string_opt::<i64>().map(Self::Large))
            .context("the column series is not text")
    }

    fn at(&self, row: usize) -> &'a str {
        match self {
            Self::Short(array) => array.value(row),
            Self::Large(array) => array.value(row),
        }
    }
}
