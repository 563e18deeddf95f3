//! Writes protobuf's wire format: fields in the order of the calls, nothing generated.

use chronolith_engine::codec::varint::{write_u64, zigzag};

/// Appends a varint without a field around it.
#[inline]
pub fn push_varint(out: &mut Vec<u8>, number: u64) {
    write_u64(out, number);
}

/// Appends a length-delimited field: text, bytes, a message or packed numbers.
pub fn push_bytes(out: &mut Vec<u8>, field: u32, payload: &[u8]) {
    write_u64(out, u64::from(field) << 3 | 2);
    write_u64(out, payload.len() as u64);
    out.extend_from_slice(payload);
}

/// Appends a varint field: unsigned numbers, and signed ones in two's complement.
pub fn push_number(out: &mut Vec<u8>, field: u32, value: u64) {
    write_u64(out, u64::from(field) << 3);
    write_u64(out, value);
}

/// Appends a signed number in zig-zag (`sint32`, `sint64`).
pub fn push_signed(out: &mut Vec<u8>, field: u32, value: i64) {
    push_number(out, field, zigzag(value));
}

/// Appends a double.
pub fn push_double(out: &mut Vec<u8>, field: u32, value: f64) {
    write_u64(out, u64::from(field) << 3 | 1);
    out.extend_from_slice(&value.to_le_bytes());
}

/// Appends doubles packed into one field; nothing for none.
pub fn push_doubles(out: &mut Vec<u8>, field: u32, values: &[f64]) {
    if !values.is_empty() {
        write_u64(out, u64::from(field) << 3 | 2);
        write_u64(out, 8 * values.len() as u64);
        out.extend(values.iter().flat_map(|value| value.to_le_bytes()));
    }
}

/// Appends eight bytes, little-endian (`fixed64`).
pub fn push_fixed64(out: &mut Vec<u8>, field: u32, value: u64) {
    write_u64(out, u64::from(field) << 3 | 1);
    out.extend_from_slice(&value.to_le_bytes());
}
