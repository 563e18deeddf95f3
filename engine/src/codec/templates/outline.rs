//! What the rows of a block look like, without their values: each row as the template that it fits.
//!
//! No slot is decoded for it, only which row has which template.

use super::super::CodecError;
use super::super::strings::{Dictionary, Strings};
use super::reader::{TemplateBlock, corrupt};

impl TemplateBlock<'_> {
    /// Each row with `slot` in place of what varies; rows that fit no template as they are.
    ///
    /// # Errors
    /// Damage, or more text than a column can hold.
    pub fn outlines(&self, slot: &[u8]) -> Result<Dictionary, CodecError> {
        let mut values = Strings::default();
        let mut keys = vec![0_i32; self.len()];
        let mut text = Vec::new();
        let mut size_left = i32::MAX as usize;
        let mut add = |values: &mut Strings, text: &[u8]| {
            size_left = size_left
                .checked_sub(text.len())
                .ok_or_else(|| corrupt("more bytes than declared"))?;
            values.push(text);
            i32::try_from(values.len() - 1).map_err(|_| corrupt("more texts than rows"))
        };
        for group in 0..self.group_count() as u32 {
            let mut of_member = Vec::with_capacity(self.member_count(group));
            for member in 0..self.member_count(group) as u32 {
                text.clear();
                let pieces = self.pieces(super::TemplateRef { group, member });
                for (index, piece) in pieces.enumerate() {
                    if index > 0 {
                        text.extend_from_slice(slot);
                    }
                    text.extend_from_slice(piece);
                }
                of_member.push(add(&mut values, &text)?);
            }
            let members = self.members_of_ranks(group)?;
            for (rank, &row) in self.rows_of_group(group)?.iter().enumerate() {
                let member = members.and_then(|m| m.get(rank)).copied().unwrap_or(0);
                if let (Some(key), Some(value)) =
                    (keys.get_mut(row as usize), of_member.get(member as usize))
                {
                    *key = *value;
                }
            }
        }
        for (text, &row) in self.left_over()?.iter().zip(self.rows_left_over()?) {
            let value = add(&mut values, text)?;
            if let Some(key) = keys.get_mut(row as usize) {
                *key = value;
            }
        }
        Ok(Dictionary { keys, values })
    }
}

#[cfg(test)]
mod tests {
    use super::super::encode::NoSink;
    use super::super::{TemplateBlock, TemplateEncoder, TextColumn};
    use crate::codec::EncodeEffort;

    #[test]
    fn rows_show_their_template_and_what_fits_none_shows_itself() {
        let mut lines: Vec<String> = (0..300_u64)
            .map(|i| match i % 3 {
                0 => format!("user {} logged in from 10.0.0.{}", i * 7919, i % 250),
                _ => format!(
                    "took {} ms to answer request {:016x}",
                    i * 31,
                    i * 0x9e37_79b9_7f4a
                ),
            })
            .collect();
        lines[17] = "something entirely else".to_owned();
        let (mut bytes, mut ends) = (Vec::new(), Vec::new());
        for line in &lines {
            bytes.extend_from_slice(line.as_bytes());
            ends.push(bytes.len() as u32);
        }
        let mut block = Vec::new();
        let column = TextColumn::new(&ends, &bytes);
        TemplateEncoder::default().encode_templates(
            column,
            EncodeEffort::Flush,
            &mut NoSink,
            &mut block,
        );
        let opened = TemplateBlock::open(&block, lines.len(), bytes.len()).unwrap();
        let outlines = opened.outlines(b"<_>").unwrap();
        assert_eq!(outlines.keys.len(), lines.len());
        let mut whole = 0;
        for (row, key) in outlines.keys.iter().enumerate() {
            let text = std::str::from_utf8(outlines.values.get(*key as usize).unwrap()).unwrap();
            if text == lines[row] {
                // A value that looks unlike the others fits no template.
                whole += 1;
                continue;
            }
            let expected = match row % 3 {
                0 => "user <_> logged in from 10.0.0.<_>",
                _ => "took <_> ms to answer request <_>",
            };
            assert_eq!(text, expected, "{}", lines[row]);
        }
        assert!(
            (1..60).contains(&whole) && outlines.values.len() < whole + 10,
            "{whole}"
        );
    }
}
