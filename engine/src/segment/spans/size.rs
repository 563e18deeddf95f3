//! How much memory the rows of a block take once values that rows share stand in each of them.

use crate::rows::{AttributeColumn, AttributeValues, Nested, SpanBlock, TextColumn};
use crate::segment::format::COLUMN_BYTES_MAX;

/// Most bytes of text that rows of a block may expand to: a file made by others could say much more in
/// few bytes.
pub(super) const EXPANDED_BYTES_MAX: u64 = 2 * COLUMN_BYTES_MAX as u64;

fn of_text(column: &TextColumn, count: usize) -> u64 {
    match column {
        TextColumn::Constant(value) => value.len() as u64 * count as u64,
        TextColumn::Plain(values) => values.byte_len() as u64,
        TextColumn::Dictionary { keys, values } => keys
            .iter()
            .map(|key| values.get(*key as usize).map_or(0, <[u8]>::len) as u64)
            .sum(),
    }
}

fn of_attributes(columns: &[AttributeColumn], sets: usize) -> u64 {
    let of_one = |column: &AttributeColumn| {
        let count = column.rows.as_ref().map_or(sets, Vec::len);
        let values = match &column.values {
            AttributeValues::Text(values)
            | AttributeValues::Bytes(values)
            | AttributeValues::Nested(values) => of_text(values, count),
            _ => 0,
        };
        values + 8 * count as u64
    };
    columns.iter().map(of_one).sum()
}

fn of_nested(nested: &Nested) -> u64 {
    let count = nested.after_start.len().max(nested.ids.len());
    of_text(&nested.name, count) + of_attributes(&nested.attributes, count)
}

/// Bytes of text and attributes of all rows together.
pub(super) fn expanded_bytes(block: &SpanBlock) -> u64 {
    let rows = block.rows;
    of_text(&block.name, rows)
        + of_text(&block.trace_state, rows)
        + of_text(&block.status_message, rows)
        + of_attributes(&block.attributes, rows)
        + of_nested(&block.events)
        + of_nested(&block.links)
}
