//! Attribute values as text: what the maps of SQL hold.
//!
//! Texts are as they are, numbers and truth values as SQL writes them, bytes as PostgreSQL writes them
//! (`\x` and hexadecimal digits), arrays and maps as JSON, in which bytes are hexadecimal digits only.

use std::fmt::Write as _;

use chronolith_engine::model::AttributeValue;
use chronolith_engine::rows::{ValueRef, append_text};

/// Appends a value; `false` for one that is NULL.
pub(super) fn push_value(value: ValueRef<'_>, out: &mut String) -> bool {
    match value {
        ValueRef::Null => return false,
        ValueRef::Str(text) => out.push_str(text),
        ValueRef::Int(number) => out.push_str(itoa::Buffer::new().format(number)),
        ValueRef::Float(number) => push_float(number, out),
        ValueRef::Bool(truth) => out.push_str(if truth { "true" } else { "false" }),
        ValueRef::Bytes(bytes) => {
            out.push_str("\\x");
            push_hex(bytes, out);
        }
        ValueRef::Nested(_) => push_owned(&value.to_value(), out),
    }
    true
}

/// Appends a value that owns its parts.
pub(super) fn push_owned(value: &AttributeValue, out: &mut String) {
    match value {
        AttributeValue::Null => {}
        AttributeValue::String(text) => out.push_str(text),
        AttributeValue::Int(number) => out.push_str(itoa::Buffer::new().format(*number)),
        AttributeValue::Float(number) => push_float(*number, out),
        AttributeValue::Bool(truth) => out.push_str(if *truth { "true" } else { "false" }),
        AttributeValue::Bytes(bytes) => {
            out.push_str("\\x");
            push_hex(bytes, out);
        }
        AttributeValue::Array(_) | AttributeValue::Map(_) => push_text(value, out),
    }
}

/// Appends a value as the engine's tests of bodies see it: JSON unless it is text.
pub(super) fn push_text(value: &AttributeValue, out: &mut String) {
    let mut text = Vec::new();
    append_text(value, &mut text);
    out.push_str(&String::from_utf8_lossy(&text));
}

/// The shortest text that reads back as the number.
fn push_float(number: f64, out: &mut String) {
    let _ = write!(out, "{number}");
}

/// Lower-case hexadecimal digits.
pub(super) fn push_hex(bytes: &[u8], out: &mut String) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for byte in bytes {
        out.push(char::from(DIGITS[usize::from(byte >> 4)]));
        out.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
}

/// Whether only a value that is text can read as `text`: what a test of text values decides alone.
pub(super) fn only_text_reads_as(text: &str) -> bool {
    let is_number = text.parse::<f64>().is_ok();
    let is_other = matches!(text, "true" | "false") || text.starts_with(['{', '[']);
    !is_number && !is_other && !text.starts_with("\\x")
}
