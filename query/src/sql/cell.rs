//! One value of an Arrow array as JSON or CSV text.
//!
//! Times are RFC 3339 with nanoseconds; integers beyond 2^53 and numbers that JSON lacks (NaN,
//! infinities) are strings, so that no client loses digits; binary is lower-case hex.

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, LargeBinaryArray, TimestampNanosecondArray,
};
use arrow::datatypes::{
    DataType, Float16Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type,
    TimeUnit, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use arrow::error::ArrowError;
use arrow::temporal_conversions::timestamp_ns_to_datetime;
use arrow::util::display::{ArrayFormatter, FormatOptions};

const EXACT_MAX: u64 = 1 << 53;

/// Appends `array[row]` as JSON.
pub(crate) fn write_json(
    out: &mut Vec<u8>,
    array: &ArrayRef,
    row: usize,
) -> Result<(), ArrowError> {
    if array.is_null(row) {
        out.extend_from_slice(b"null");
        return Ok(());
    }
    match array.data_type() {
        DataType::Null => out.extend_from_slice(b"null"),
        DataType::Boolean => {
            let text: &[u8] = if array.as_boolean().value(row) {
                b"true"
            } else {
                b"false"
            };
            out.extend_from_slice(text);
        }
        DataType::Int8 => integer(out, i64::from(array.as_primitive::<Int8Type>().value(row))),
        DataType::Int16 => integer(out, i64::from(array.as_primitive::<Int16Type>().value(row))),
        DataType::Int32 => integer(out, i64::from(array.as_primitive::<Int32Type>().value(row))),
        DataType::Int64 => integer(out, array.as_primitive::<Int64Type>().value(row)),
        DataType::UInt8 => integer(out, i64::from(array.as_primitive::<UInt8Type>().value(row))),
        DataType::UInt16 => integer(
            out,
            i64::from(array.as_primitive::<UInt16Type>().value(row)),
        ),
        DataType::UInt32 => integer(
            out,
            i64::from(array.as_primitive::<UInt32Type>().value(row)),
        ),
        DataType::UInt64 => {
            let value = array.as_primitive::<UInt64Type>().value(row);
            match i64::try_from(value) {
                Ok(value) => integer(out, value),
                Err(_) => string(out, &value.to_string()),
            }
        }
        DataType::Float16 => float(out, array.as_primitive::<Float16Type>().value(row).to_f64()),
        DataType::Float32 => {
            let value = array.as_primitive::<Float32Type>().value(row);
            if value.is_finite() {
                out.extend_from_slice(ryu::Buffer::new().format_finite(value).as_bytes());
            } else {
                float(out, f64::from(value));
            }
        }
        DataType::Float64 => float(out, array.as_primitive::<Float64Type>().value(row)),
        DataType::Utf8 => string(out, array.as_string::<i32>().value(row)),
        DataType::LargeUtf8 => string(out, array.as_string::<i64>().value(row)),
        DataType::Utf8View => string(out, array.as_string_view().value(row)),
        DataType::Dictionary(_, values) => {
            if let Some(dictionary) = array.as_dictionary_opt::<Int32Type>() {
                let key = dictionary.key(row).unwrap_or(0);
                return write_json(out, dictionary.values(), key);
            }
            return write_json(out, &arrow::compute::cast(&array.slice(row, 1), values)?, 0);
        }
        DataType::Timestamp(TimeUnit::Nanosecond, _) => {
            let times = array.as_any().downcast_ref::<TimestampNanosecondArray>();
            string(out, &rfc3339(times.map_or(0, |t| t.value(row))));
        }
        DataType::Timestamp(_, _) => {
            let nanos = arrow::compute::cast(
                &array.slice(row, 1),
                &DataType::Timestamp(TimeUnit::Nanosecond, Some("UTC".into())),
            )?;
            return write_json(out, &nanos, 0);
        }
        DataType::Binary => {
            let bytes = array
                .as_any()
                .downcast_ref::<BinaryArray>()
                .map(|a| a.value(row));
            string(out, &hex(bytes.unwrap_or(&[])));
        }
        DataType::LargeBinary => {
            let bytes = array
                .as_any()
                .downcast_ref::<LargeBinaryArray>()
                .map(|a| a.value(row));
            string(out, &hex(bytes.unwrap_or(&[])));
        }
        DataType::List(_) => list(out, &array.as_list::<i32>().value(row))?,
        DataType::LargeList(_) => list(out, &array.as_list::<i64>().value(row))?,
        DataType::FixedSizeList(_, _) => list(out, &array.as_fixed_size_list().value(row))?,
        DataType::Map(_, _) => {
            let entries = array.as_map().value(row);
            let (keys, values) = (entries.column(0), entries.column(1));
            out.push(b'{');
            for index in 0..entries.len() {
                if index > 0 {
                    out.push(b',');
                }
                let mut key = Vec::new();
                write_json(&mut key, keys, index)?;
                if key.first() == Some(&b'"') {
                    out.extend_from_slice(&key);
                } else {
                    string(out, &String::from_utf8_lossy(&key));
                }
                out.push(b':');
                write_json(out, values, index)?;
            }
            out.push(b'}');
        }
        DataType::Struct(fields) => {
            let columns = array.as_struct();
            out.push(b'{');
            for (index, field) in fields.iter().enumerate() {
                if index > 0 {
                    out.push(b',');
                }
                string(out, field.name());
                out.push(b':');
                write_json(out, columns.column(index), row)?;
            }
            out.push(b'}');
        }
        _ => {
            let options = FormatOptions::default();
            let text = ArrayFormatter::try_new(array, &options)?
                .value(row)
                .try_to_string()?;
            string(out, &text);
        }
    }
    Ok(())
}

/// Appends `array[row]` as a CSV field; NULL is empty, the empty string is quoted.
pub(crate) fn write_csv(out: &mut Vec<u8>, array: &ArrayRef, row: usize) -> Result<(), ArrowError> {
    if array.is_null(row) {
        return Ok(());
    }
    let mut json = Vec::new();
    write_json(&mut json, array, row)?;
    let text: String = match json.first() {
        Some(b'"') => {
            serde_json::from_slice(&json).map_err(|e| ArrowError::ExternalError(Box::new(e)))?
        }
        _ if json == b"null" => return Ok(()),
        _ => String::from_utf8_lossy(&json).into_owned(),
    };
    write_csv_text(out, &text);
    Ok(())
}

/// Appends text as a CSV field, quoted where RFC 4180 asks for it.
pub(crate) fn write_csv_text(out: &mut Vec<u8>, text: &str) {
    if text.is_empty() || text.contains(['"', ',', '\n', '\r']) {
        out.push(b'"');
        out.extend_from_slice(text.replace('"', "\"\"").as_bytes());
        out.push(b'"');
    } else {
        out.extend_from_slice(text.as_bytes());
    }
}

/// Appends a JSON string.
pub(crate) fn string(out: &mut Vec<u8>, text: &str) {
    // Writing JSON into memory cannot fail.
    let _ = serde_json::to_writer(out, text);
}

fn list(out: &mut Vec<u8>, items: &ArrayRef) -> Result<(), ArrowError> {
    out.push(b'[');
    for index in 0..items.len() {
        if index > 0 {
            out.push(b',');
        }
        write_json(out, items, index)?;
    }
    out.push(b']');
    Ok(())
}

fn integer(out: &mut Vec<u8>, value: i64) {
    let mut buffer = itoa::Buffer::new();
    let text = buffer.format(value);
    if value.unsigned_abs() > EXACT_MAX {
        string(out, text);
    } else {
        out.extend_from_slice(text.as_bytes());
    }
}

fn float(out: &mut Vec<u8>, value: f64) {
    if value.is_finite() {
        out.extend_from_slice(ryu::Buffer::new().format_finite(value).as_bytes());
    } else if value.is_nan() {
        string(out, "NaN");
    } else {
        string(out, if value > 0.0 { "+Inf" } else { "-Inf" });
    }
}

fn rfc3339(nanos: i64) -> String {
    match timestamp_ns_to_datetime(nanos) {
        Some(time) => time.format("%Y-%m-%dT%H:%M:%S%.9fZ").to_string(),
        None => nanos.to_string(),
    }
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes
        .iter()
        .fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
            // Writing into a string cannot fail.
            let _ = write!(text, "{byte:02x}");
            text
        })
}
