//! Blocks of text lines, taken apart into templates and variables.
//!
//! Log lines come from a few format strings. A *template* is the static text of many lines, with a
//! *slot* at each variable part: numbers, hex ids, UUIDs, mixed ids, and words where these vary much.
//! Rows of the same slots form a *group*; each slot of a group is a column of its own, encoded by what
//! it is (integers bit-packed, hex ids at half their length, dictionaries). What fits no template that
//! is worth its bytes is *left over*, as one plain string block. After the idea of CLP (Rodrigues, Luo
//! and Yuan, "CLP: Efficient and Scalable Search on Compressed Text Logs", OSDI 2021), with columns per
//! template instead of dictionaries over all of them.
//!
//! Invariants:
//! - Any bytes come back exactly.
//! - A slot holds only bytes that its [`SlotKind`] allows: searches skip slots by that.
//! - [`TemplateBlock`] decodes nothing before it is asked for it, and then only the columns it needs.
//!
//! [`TextBlock`] reads all string blocks alike, so that callers need not know how a block is encoded.
//! Bytes: `docs/formats/codecs.md`, section "Templates".

mod columns;
mod encode;
mod forms;
mod indices;
mod outline;
mod plan;
mod reader;
mod search;
mod skeleton;
mod text_block;
mod tokenize;

pub use columns::SlotValues;
pub use encode::TemplateEncoder;
pub(crate) use encode::{LineSink, Slots};
pub(crate) use reader::more_bytes_than_declared;
pub use reader::{TemplateBlock, TemplateRef};
pub use search::{RowSet, TextSearch};
pub use skeleton::{Numbers, Skeleton, ValuePart};
pub use text_block::TextBlock;
pub use tokenize::SlotKind;

use super::choose::EncodeEffort;

const CODEC: &str = "templates";

/// zstd level of what is left over and of columns: as of strings.
fn zstd_level(effort: EncodeEffort) -> i32 {
    match effort {
        EncodeEffort::Flush | EncodeEffort::Compact => 1,
        EncodeEffort::Cold => 9,
    }
}

/// Strings to be encoded: one run of bytes, and where each ends.
#[derive(Debug, Clone, Copy)]
pub struct TextColumn<'a> {
    ends: &'a [u32],
    bytes: &'a [u8],
}

impl<'a> TextColumn<'a> {
    /// String `i` is `bytes[ends[i - 1]..ends[i]]`.
    ///
    /// # Panics
    /// When the ends do not ascend or the last is not that of the bytes.
    pub fn new(ends: &'a [u32], bytes: &'a [u8]) -> Self {
        assert!(ends.is_sorted(), "bug: ends of strings do not ascend");
        assert_eq!(
            ends.last().map_or(0, |&end| end as usize),
            bytes.len(),
            "bug: bytes behind the last string"
        );
        TextColumn { ends, bytes }
    }

    /// Number of strings.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// All strings, one behind the other.
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// String `index`.
    ///
    /// # Panics
    /// When there is none.
    pub fn get(&self, index: usize) -> &'a [u8] {
        let start = match index.checked_sub(1) {
            Some(before) => self.ends[before] as usize,
            None => 0,
        };
        &self.bytes[start..self.ends[index] as usize]
    }

    /// All strings in order.
    pub fn iter(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let column = *self;
        (0..column.len()).map(move |index| column.get(index))
    }
}

#[cfg(test)]
mod tests;
