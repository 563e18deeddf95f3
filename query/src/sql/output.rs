//! Writes the answer to a statement, batch by batch, in the format asked for.

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, SchemaRef, TimeUnit};
use arrow::error::ArrowError;
use arrow_ipc::reader::StreamReader;
use arrow_ipc::writer::StreamWriter;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;

use super::cell;

/// A format in which rows can be written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// `{"columns":[{"name","type"}],"rows":[[...]]}`
    #[default]
    Json,
    /// One JSON object per line.
    NdJson,
    /// Comma-separated with a header line.
    Csv,
    /// An Arrow IPC stream.
    ArrowStream,
    /// A Parquet file.
    Parquet,
    /// A table drawn with lines, for people.
    Table,
}

impl Format {
    /// The format that an `Accept` header asks for; JSON unless it names another.
    #[must_use]
    pub fn from_accept(accept: &str) -> Self {
        accept
            .split(',')
            .find_map(|part| match part.split(';').next().unwrap_or("").trim() {
                "application/json" => Some(Self::Json),
                "application/x-ndjson" => Some(Self::NdJson),
                "text/csv" => Some(Self::Csv),
                "application/vnd.apache.arrow.stream" => Some(Self::ArrowStream),
                "application/vnd.apache.parquet" => Some(Self::Parquet),
                _ => None,
            })
            .unwrap_or_default()
    }

    /// The format's media type.
    #[must_use]
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::NdJson => "application/x-ndjson",
            Self::Csv => "text/csv; charset=utf-8",
            Self::ArrowStream => "application/vnd.apache.arrow.stream",
            Self::Parquet => "application/vnd.apache.parquet",
            Self::Table => "text/plain; charset=utf-8",
        }
    }
}

/// Turns batches into bytes: [`Encoder::start`], then [`Encoder::batch`] for each, then
/// [`Encoder::finish`]. Each call returns the bytes that are ready.
pub struct Encoder {
    schema: SchemaRef,
    state: State,
    rows: u64,
}

enum State {
    Json,
    NdJson,
    Csv,
    Arrow(Box<StreamWriter<Vec<u8>>>),
    Parquet(Box<ArrowWriter<Vec<u8>>>),
    Table(Vec<RecordBatch>),
}

impl std::fmt::Debug for Encoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Encoder")
            .field("rows", &self.rows)
            .finish_non_exhaustive()
    }
}

fn parquet_error(error: parquet::errors::ParquetError) -> ArrowError {
    ArrowError::ExternalError(Box::new(error))
}

impl Encoder {
    /// An encoder of rows with this schema.
    ///
    /// # Errors
    /// When the format cannot hold one of the types.
    pub fn new(format: Format, schema: SchemaRef) -> Result<Self, ArrowError> {
        let state = match format {
            Format::Json => State::Json,
            Format::NdJson => State::NdJson,
            Format::Csv => State::Csv,
            Format::ArrowStream => {
                State::Arrow(Box::new(StreamWriter::try_new(Vec::new(), &schema)?))
            }
            Format::Parquet => {
                let properties = WriterProperties::builder()
                    .set_compression(Compression::ZSTD(ZstdLevel::default()))
                    .set_max_row_group_row_count(Some(128 << 10))
                    .build();
                return Self::parquet(schema, properties);
            }
            Format::Table => State::Table(Vec::new()),
        };
        Ok(Self {
            schema,
            state,
            rows: 0,
        })
    }

    /// An encoder of Parquet with properties of its own.
    ///
    /// # Errors
    /// When Parquet cannot hold one of the types.
    pub fn parquet(schema: SchemaRef, properties: WriterProperties) -> Result<Self, ArrowError> {
        let copy = SchemaRef::clone(&schema);
        let writer =
            ArrowWriter::try_new(Vec::new(), copy, Some(properties)).map_err(parquet_error)?;
        Ok(Self {
            schema,
            state: State::Parquet(Box::new(writer)),
            rows: 0,
        })
    }

    /// What comes before the first row.
    ///
    /// # Errors
    /// None today; formats with a header that may fail keep the right to.
    pub fn start(&mut self) -> Result<Vec<u8>, ArrowError> {
        let mut out = Vec::new();
        match &mut self.state {
            State::Json => {
                out.extend_from_slice(b"{\"columns\":[");
                for (index, field) in self.schema.fields().iter().enumerate() {
                    if index > 0 {
                        out.push(b',');
                    }
                    out.extend_from_slice(b"{\"name\":");
                    cell::string(&mut out, field.name());
                    out.extend_from_slice(b",\"type\":");
                    cell::string(&mut out, &type_name(field.data_type()));
                    out.push(b'}');
                }
                out.extend_from_slice(b"],\"rows\":[");
            }
            State::Csv => {
                for (index, field) in self.schema.fields().iter().enumerate() {
                    if index > 0 {
                        out.push(b',');
                    }
                    cell::write_csv_text(&mut out, field.name());
                }
                out.push(b'\n');
            }
            State::Arrow(writer) => out.append(writer.get_mut()),
            State::NdJson | State::Parquet(_) | State::Table(_) => {}
        }
        Ok(out)
    }

    /// The rows of `batch`.
    ///
    /// # Errors
    /// When a value cannot be written in the format.
    pub fn batch(&mut self, batch: &RecordBatch) -> Result<Vec<u8>, ArrowError> {
        let mut out = Vec::new();
        match &mut self.state {
            State::Json => {
                for row in 0..batch.num_rows() {
                    out.extend_from_slice(if self.rows == 0 && row == 0 {
                        b"["
                    } else {
                        b",["
                    });
                    for (index, column) in batch.columns().iter().enumerate() {
                        if index > 0 {
                            out.push(b',');
                        }
                        cell::write_json(&mut out, column, row)?;
                    }
                    out.push(b']');
                }
            }
            State::NdJson => {
                for row in 0..batch.num_rows() {
                    for (index, column) in batch.columns().iter().enumerate() {
                        out.push(if index == 0 { b'{' } else { b',' });
                        cell::string(&mut out, self.schema.field(index).name());
                        out.push(b':');
                        cell::write_json(&mut out, column, row)?;
                    }
                    out.extend_from_slice(if batch.num_columns() == 0 {
                        b"{}\n"
                    } else {
                        b"}\n"
                    });
                }
            }
            State::Csv => {
                for row in 0..batch.num_rows() {
                    for (index, column) in batch.columns().iter().enumerate() {
                        if index > 0 {
                            out.push(b',');
                        }
                        cell::write_csv(&mut out, column, row)?;
                    }
                    out.push(b'\n');
                }
            }
            State::Arrow(writer) => {
                writer.write(batch)?;
                out.append(writer.get_mut());
            }
            State::Parquet(writer) => {
                writer.write(batch).map_err(parquet_error)?;
                out.append(writer.inner_mut());
            }
            State::Table(batches) => batches.push(batch.clone()),
        }
        self.rows += batch.num_rows() as u64;
        Ok(out)
    }

    /// What comes after the last row.
    ///
    /// # Errors
    /// When the format's footer cannot be written.
    pub fn finish(self) -> Result<Vec<u8>, ArrowError> {
        Ok(match self.state {
            State::Json => b"]}\n".to_vec(),
            State::NdJson | State::Csv => Vec::new(),
            State::Arrow(mut writer) => {
                writer.finish()?;
                writer.into_inner()?
            }
            State::Parquet(writer) => writer.into_inner().map_err(parquet_error)?,
            State::Table(batches) => {
                let table =
                    arrow::util::pretty::pretty_format_batches_with_schema(self.schema, &batches)?;
                format!("{table}\n").into_bytes()
            }
        })
    }
}

/// All rows at once, for answers that are small or whole in memory anyway.
///
/// # Errors
/// When the format cannot hold them.
pub fn encode(
    format: Format,
    schema: SchemaRef,
    batches: &[RecordBatch],
) -> Result<Vec<u8>, ArrowError> {
    let mut encoder = Encoder::new(format, schema)?;
    let mut out = encoder.start()?;
    for batch in batches {
        out.append(&mut encoder.batch(batch)?);
    }
    out.append(&mut encoder.finish()?);
    Ok(out)
}

/// Reads back what an encoder of [`Format::ArrowStream`] has written.
///
/// # Errors
/// The bytes are no such stream.
pub fn read_arrow_stream(bytes: &[u8]) -> Result<(SchemaRef, Vec<RecordBatch>), ArrowError> {
    let reader = StreamReader::try_new(bytes, None)?;
    let schema = reader.schema();
    Ok((schema, reader.collect::<Result<_, _>>()?))
}

/// Types by the names that the SQL contract uses.
fn type_name(data_type: &DataType) -> String {
    match data_type {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => "utf8".into(),
        DataType::Dictionary(_, values) => type_name(values),
        DataType::Timestamp(unit, zone) => {
            let unit = match unit {
                TimeUnit::Second => "s",
                TimeUnit::Millisecond => "ms",
                TimeUnit::Microsecond => "us",
                TimeUnit::Nanosecond => "ns",
            };
            match zone {
                Some(zone) => format!("timestamp({unit}, {zone})"),
                None => format!("timestamp({unit})"),
            }
        }
        DataType::Map(entries, _) => match entries.data_type() {
            DataType::Struct(fields) if fields.len() == 2 => {
                let (key, value) = (fields[0].data_type(), fields[1].data_type());
                format!("map<{},{}>", type_name(key), type_name(value))
            }
            _ => "map".into(),
        },
        DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _) => {
            format!("list<{}>", type_name(item.data_type()))
        }
        other => other.to_string().to_lowercase(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{ArrayRef, Float64Array, Int64Array, StringArray, TimestampNanosecondArray};
    use std::sync::Arc;

    fn rows() -> RecordBatch {
        let columns: [(&str, ArrayRef); 4] = [
            (
                "t",
                Arc::new(
                    TimestampNanosecondArray::from(vec![1, 1_700_000_000_000_000_001])
                        .with_timezone("UTC"),
                ),
            ),
            ("n", Arc::new(Int64Array::from(vec![Some(i64::MAX), None]))),
            (
                "v",
                Arc::new(Float64Array::from(vec![0.1, f64::NEG_INFINITY])),
            ),
            ("s", Arc::new(StringArray::from(vec!["a \"b\", c", ""]))),
        ];
        RecordBatch::try_from_iter(columns).unwrap()
    }

    fn encode(format: Format) -> Vec<u8> {
        let batch = rows();
        let mut encoder = Encoder::new(format, batch.schema()).unwrap();
        let mut out = encoder.start().unwrap();
        out.extend(encoder.batch(&batch).unwrap());
        out.extend(encoder.finish().unwrap());
        out
    }

    #[test]
    fn json_keeps_every_digit() {
        let value: serde_json::Value = serde_json::from_slice(&encode(Format::Json)).unwrap();
        assert_eq!(value["columns"][0]["type"], "timestamp(ns, UTC)");
        assert_eq!(
            value["rows"],
            serde_json::json!([
                [
                    "1970-01-01T00:00:00.000000001Z",
                    "9223372036854775807",
                    0.1,
                    "a \"b\", c"
                ],
                ["2023-11-14T22:13:20.000000001Z", null, "-Inf", ""]
            ])
        );
    }

    #[test]
    fn csv_quotes_what_must_be_quoted() {
        let text = String::from_utf8(encode(Format::Csv)).unwrap();
        assert_eq!(
            text,
            "t,n,v,s\n1970-01-01T00:00:00.000000001Z,9223372036854775807,0.1,\"a \"\"b\"\", c\"\n\
             2023-11-14T22:13:20.000000001Z,,-Inf,\"\"\n"
        );
    }

    #[test]
    fn binary_formats_read_back() {
        let stream = encode(Format::ArrowStream);
        let mut reader = arrow_ipc::reader::StreamReader::try_new(stream.as_slice(), None).unwrap();
        assert_eq!(reader.next().unwrap().unwrap(), rows());
        let file = bytes::Bytes::from(encode(Format::Parquet));
        let mut reader =
            parquet::arrow::arrow_reader::ParquetRecordBatchReader::try_new(file, 10).unwrap();
        assert_eq!(reader.next().unwrap().unwrap().num_rows(), 2);
    }

    #[test]
    fn the_accept_header_chooses() {
        assert_eq!(Format::from_accept("*/*"), Format::Json);
        assert_eq!(
            Format::from_accept("text/html, text/csv;q=0.9"),
            Format::Csv
        );
    }
}
