//! Rows told apart by all that their labels can depend on besides their stream.
//!
//! Most columns of a block are constants or dictionaries. Where all are that a query looks at, rows of
//! one stream with the same keys in them have the same labels: what the pipeline makes of one of them, it
//! makes of all. A *code* is the keys of a row as one number, so that this is remembered in a small table.

use chronolith_engine::rows::{
    AttributeColumn, AttributeValues, FieldColumn, FieldValue, IdColumn, IntColumn, LogBlock,
    TextColumn,
};

/// Codes that a block may have; with more, remembering costs more than it saves.
const CODES_MAX: usize = 4096;

/// The least value, and how many values there are from it to the greatest; `None` if too many.
fn span_of(values: &[i64]) -> Option<(i64, usize)> {
    let (least, greatest) = (*values.iter().min()?, *values.iter().max()?);
    let distance = usize::try_from(greatest.checked_sub(least)?).ok()?;
    (distance < CODES_MAX).then_some((least, distance + 1))
}

/// The codes of a block's rows.
#[derive(Debug)]
pub(super) struct Codes {
    /// By row; `None`: all rows have code 0.
    of_row: Option<Vec<u32>>,
    /// All codes are below.
    pub(super) count: usize,
}

impl Codes {
    /// The codes of a block, by its columns and these fields; `None` if they tell too many rows apart.
    pub(super) fn of<'f>(
        block: &LogBlock,
        fields: impl Iterator<Item = &'f FieldColumn>,
    ) -> Option<Self> {
        if block.trace_id != IdColumn::None || block.span_id != IdColumn::None {
            return None;
        }
        let mut codes = Self {
            of_row: None,
            count: 1,
        };
        if let IntColumn::Values(values) = &block.severity {
            let (least, count) = span_of(values)?;
            let keys = values.iter().map(|value| (value - least) as u32);
            codes.add(block.rows, count, keys)?;
        }
        codes.add_texts(block.rows, &block.severity_text)?;
        for column in &block.attributes {
            codes.add_attribute(block.rows, column)?;
        }
        for column in fields {
            // Fields that are looked at are texts.
            let key = |row: usize| match column.get(row) {
                FieldValue::Text(number, _) => number + 1,
                FieldValue::Absent | FieldValue::Number(_) => 0,
            };
            let count = column.text_count();
            if count >= CODES_MAX {
                return None;
            }
            codes.add(block.rows, count + 1, (0..block.rows).map(key))?;
        }
        Some(codes)
    }

    /// The code of a row.
    #[inline]
    pub(super) fn get(&self, row: usize) -> usize {
        let codes = self.of_row.as_ref();
        codes.map_or(0, |codes| codes.get(row).copied().unwrap_or(0) as usize)
    }

    /// Whether all rows have the same code.
    pub(super) fn is_constant(&self) -> bool {
        self.of_row.is_none()
    }

    /// Tells rows apart by another column, whose `keys` are below `count`.
    fn add(&mut self, rows: usize, count: usize, keys: impl Iterator<Item = u32>) -> Option<()> {
        self.count = self.count.checked_mul(count).filter(|c| *c <= CODES_MAX)?;
        let codes = self.of_row.get_or_insert_with(|| vec![0; rows]);
        for (code, key) in codes.iter_mut().zip(keys) {
            *code = *code * count as u32 + key.min(count as u32 - 1);
        }
        Some(())
    }

    fn add_texts(&mut self, rows: usize, texts: &TextColumn) -> Option<()> {
        match texts {
            TextColumn::Constant(_) => Some(()),
            TextColumn::Dictionary { keys, values } => {
                let keys = keys.iter().map(|key| *key as u32);
                self.add(rows, values.len().max(1), keys)
            }
            TextColumn::Plain(_) => None,
        }
    }

    fn add_attribute(&mut self, rows: usize, column: &AttributeColumn) -> Option<()> {
        // The key of each value, of the values' order.
        let (count, key): (usize, Box<dyn Fn(usize) -> u32 + '_>) = match &column.values {
            AttributeValues::Null => (1, Box::new(|_| 0)),
            AttributeValues::Text(texts) => match texts {
                TextColumn::Constant(_) => (1, Box::new(|_| 0)),
                TextColumn::Dictionary { keys, values } => {
                    let key = |at: usize| keys.get(at).map_or(0, |key| *key as u32);
                    (values.len().max(1), Box::new(key))
                }
                TextColumn::Plain(_) => return None,
            },
            AttributeValues::Bool(bools) => (2, Box::new(|at| u32::from(bools.get(at) != 0))),
            AttributeValues::Int(IntColumn::Constant(_)) => (1, Box::new(|_| 0)),
            AttributeValues::Int(IntColumn::Values(values)) => {
                let (least, count) = span_of(values)?;
                let key = move |at: usize| values.get(at).map_or(0, |value| (value - least) as u32);
                (count, Box::new(key))
            }
            AttributeValues::Float(_) | AttributeValues::Bytes(_) | AttributeValues::Nested(_) => {
                return None;
            }
        };
        if count > CODES_MAX {
            return None;
        }
        let Some(having) = &column.rows else {
            if count == 1 {
                return Some(());
            }
            return self.add(rows, count, (0..rows).map(key));
        };
        // 0 stands for rows without the key; of a repeated key the last value counts.
        let mut keys = vec![0; rows];
        for (at, row) in having.iter().enumerate() {
            if let Some(slot) = keys.get_mut(*row as usize) {
                *slot = key(at) + 1;
            }
        }
        self.add(rows, count + 1, keys.into_iter())
    }
}
