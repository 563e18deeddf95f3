//! Reading a block of templates: only its directory at first, columns when they are asked for.

use std::cell::{Cell, OnceCell};
use std::ops::Range;

use super::super::block::Tag;
use super::super::reader::ByteReader;
use super::super::strings::{self, Strings};
use super::super::{CodecError, bytes};
use super::columns::SlotValues;
use super::tokenize::SlotKind;
use super::{CODEC, indices};

/// An open block of templates.
#[derive(Debug)]
pub struct TemplateBlock<'a> {
    count: usize,
    bytes_total: usize,
    /// Definitions, decompressed; the static texts are part of it.
    texts: Vec<u8>,
    /// Where each piece of static text lies in `texts`.
    pieces: Vec<Range<usize>>,
    groups: Vec<Group<'a>>,
    group_column: &'a [u8],
    left_over_block: &'a [u8],
    rows: OnceCell<RowGroups>,
    left_over: OnceCell<Strings>,
    /// Bytes that texts of columns may still decode to: all of them are part of the rows.
    text_budget: Cell<usize>,
}

/// Rows with the same slots.
#[derive(Debug)]
struct Group<'a> {
    row_count: usize,
    kinds: Vec<SlotKind>,
    members: Vec<Member>,
    /// Of groups with several members.
    member_column: &'a [u8],
    columns: Vec<&'a [u8]>,
    member_of_rank: OnceCell<Vec<u32>>,
    values: Vec<OnceCell<SlotValues>>,
}

/// A template.
#[derive(Debug)]
struct Member {
    row_count: usize,
    first_piece: usize,
}

/// Rows by group; group 0 is what is left over.
#[derive(Debug)]
struct RowGroups {
    of_row: Vec<u32>,
    /// All rows, group after group.
    rows: Vec<u32>,
    /// Where each group begins in `rows`, and the end.
    starts: Vec<usize>,
}

/// Names a template of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TemplateRef {
    /// Index of the group.
    pub group: u32,
    /// Index within the group.
    pub member: u32,
}

/// [`OnceCell::get_or_init`] for what may fail.
pub(super) fn get_or_try<T>(
    cell: &OnceCell<T>,
    make: impl FnOnce() -> Result<T, CodecError>,
) -> Result<&T, CodecError> {
    if cell.get().is_none() {
        let made = make()?;
        return Ok(cell.get_or_init(|| made));
    }
    cell.get().ok_or(CodecError::Corrupt {
        codec: CODEC,
        what: "a column went away",
        offset: 0,
    })
}

impl<'a> TemplateBlock<'a> {
    /// Reads the directory of `block`, which has `count` strings of at most `bytes_max` bytes
    /// together.
    ///
    /// # Errors
    /// [`CodecError`] if the block is of another kind, too large, or damaged where this looks.
    pub fn open(block: &'a [u8], count: usize, bytes_max: usize) -> Result<Self, CodecError> {
        match Tag::of(block, CODEC)? {
            Tag::StringTemplates => {}
            tag => return Err(tag.unexpected(CODEC)),
        }
        let mut reader = ByteReader::new(CODEC, block, 1);
        let bytes_max = bytes_max.min(i32::MAX as usize);
        let bytes_total = reader.varint_max(bytes_max, "more bytes than declared")?;
        let group_count = reader.varint_max(count, "more groups than rows")?;
        let mut sized = |what| {
            let size = reader.varint_max(block.len(), what)?;
            reader.take(size)
        };
        let definitions = sized("definitions outside the block")?;
        let group_column = sized("groups outside the block")?;
        let left_over_block = sized("left over outside the block")?;
        // Static text is part of the rows, and every slot has a byte of each row.
        let definitions_max = bytes_total
            .saturating_mul(4)
            .saturating_add(count.saturating_mul(16))
            .saturating_add(64);
        let mut texts = Vec::new();
        bytes::decode(definitions, definitions_max, &mut texts)?;
        let mut opened = TemplateBlock {
            count,
            bytes_total,
            texts: Vec::new(),
            pieces: Vec::new(),
            groups: Vec::new(),
            group_column,
            left_over_block,
            rows: OnceCell::new(),
            left_over: OnceCell::new(),
            text_budget: Cell::new(bytes_total),
        };
        let mut definitions = ByteReader::new(CODEC, &texts, 0);
        let mut piece_lengths = Vec::new();
        let mut value_count = 0_usize;
        for _ in 0..group_count {
            let values = opened.read_group(&mut definitions, &mut reader, &mut piece_lengths)?;
            value_count = value_count.saturating_add(values);
        }
        if value_count > bytes_total {
            return Err(reader.corrupt("more values than bytes"));
        }
        reader.finish()?;
        let mut at = definitions.position();
        for length in piece_lengths {
            definitions.take(length)?;
            opened.pieces.push(at..at + length);
            at += length;
        }
        definitions.finish()?;
        opened.texts = texts;
        Ok(opened)
    }

    /// Reads the definition of a group and finds its columns, which `columns` has next. Returns how many
    /// values these have.
    fn read_group(
        &mut self,
        definitions: &mut ByteReader<'_>,
        columns: &mut ByteReader<'a>,
        piece_lengths: &mut Vec<usize>,
    ) -> Result<usize, CodecError> {
        let slot_count = definitions.varint_max(definitions.remaining(), "too many slots")?;
        let kinds = definitions.take(slot_count)?.iter();
        let kinds: Option<Vec<SlotKind>> = kinds.map(|&kind| SlotKind::from_u8(kind)).collect();
        let kinds = kinds.ok_or_else(|| definitions.corrupt("unknown kind of slot"))?;
        let member_count = definitions.varint_max(definitions.remaining(), "too many templates")?;
        let mut members = Vec::with_capacity(member_count);
        let mut row_count = 0_usize;
        for _ in 0..member_count {
            let rows = definitions.varint_max(self.count, "more rows than declared")?;
            row_count = row_count.saturating_add(rows);
            members.push(Member {
                row_count: rows,
                first_piece: piece_lengths.len(),
            });
            for _ in 0..=slot_count {
                piece_lengths
                    .push(definitions.varint_max(self.bytes_total, "text longer than all rows")?);
            }
        }
        if row_count > self.count || row_count == 0 {
            return Err(definitions.corrupt("rows of a group"));
        }
        let mut sized = || {
            let size = columns.varint_max(columns.remaining(), "column outside the block")?;
            columns.take(size)
        };
        let member_column = if member_count > 1 { sized()? } else { &[] };
        let columns = (0..slot_count).map(|_| sized()).collect::<Result<_, _>>()?;
        self.groups.push(Group {
            row_count,
            values: kinds.iter().map(|_| OnceCell::new()).collect(),
            kinds,
            members,
            member_column,
            columns,
            member_of_rank: OnceCell::new(),
        });
        Ok(row_count.saturating_mul(slot_count))
    }

    /// Number of strings.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Bytes of all strings together.
    pub fn bytes_total(&self) -> usize {
        self.bytes_total
    }

    /// Number of groups: sets of templates that share columns.
    pub fn group_count(&self) -> usize {
        self.groups.len()
    }

    /// All templates.
    pub fn templates(&self) -> impl Iterator<Item = TemplateRef> + '_ {
        self.groups.iter().enumerate().flat_map(|(group, entry)| {
            (0..entry.members.len()).map(move |member| TemplateRef {
                group: group as u32,
                member: member as u32,
            })
        })
    }

    /// Kinds of the slots of a group's templates; none if there is no such group.
    pub fn slot_kinds(&self, group: u32) -> &[SlotKind] {
        self.groups
            .get(group as usize)
            .map_or(&[], |group| &group.kinds)
    }

    /// How many rows a group has.
    pub fn group_row_count(&self, group: u32) -> usize {
        self.groups
            .get(group as usize)
            .map_or(0, |group| group.row_count)
    }

    /// How many templates a group has.
    pub fn member_count(&self, group: u32) -> usize {
        self.groups
            .get(group as usize)
            .map_or(0, |group| group.members.len())
    }

    /// How many rows a template has.
    pub fn template_row_count(&self, template: TemplateRef) -> usize {
        self.member(template).map_or(0, |member| member.row_count)
    }

    fn member(&self, template: TemplateRef) -> Option<&Member> {
        let group = self.groups.get(template.group as usize)?;
        group.members.get(template.member as usize)
    }

    /// The static text of a template around its slots: one piece more than slots, some empty.
    pub fn pieces(&self, template: TemplateRef) -> impl ExactSizeIterator<Item = &[u8]> {
        let slots = self.slot_kinds(template.group).len();
        let pieces = self
            .member(template)
            .and_then(|m| self.pieces.get(m.first_piece..m.first_piece + slots + 1))
            .unwrap_or(&[]);
        pieces
            .iter()
            .map(|piece| self.texts.get(piece.clone()).unwrap_or(&[]))
    }

    /// The rows of a group, ascending. The place of a row in it is its *rank*, by which
    /// [`Self::slot_column`] and [`Self::members_of_ranks`] are indexed.
    ///
    /// # Errors
    /// Damage.
    pub fn rows_of_group(&self, group: u32) -> Result<&[u32], CodecError> {
        self.rows_of(group as usize + 1)
    }

    /// The rows that fit no template, ascending.
    ///
    /// # Errors
    /// Damage.
    pub fn rows_left_over(&self) -> Result<&[u32], CodecError> {
        self.rows_of(0)
    }

    fn rows_of(&self, number: usize) -> Result<&[u32], CodecError> {
        let rows = self.row_groups()?;
        let range = match (rows.starts.get(number), rows.starts.get(number + 1)) {
            (Some(&start), Some(&end)) => start..end,
            _ => 0..0,
        };
        Ok(rows.rows.get(range).unwrap_or(&[]))
    }

    fn row_groups(&self) -> Result<&RowGroups, CodecError> {
        get_or_try(&self.rows, || {
            let of_row = indices::decode(self.group_column, self.count, self.groups.len() + 1)?;
            let mut starts = vec![0; self.groups.len() + 2];
            for &group in &of_row {
                starts[group as usize + 1] += 1;
            }
            let declared = self.groups.iter().map(|group| group.row_count);
            if !starts[2..].iter().copied().eq(declared) {
                return Err(corrupt("rows of a group"));
            }
            for at in 1..starts.len() {
                starts[at] += starts[at - 1];
            }
            let mut next = starts.clone();
            let mut rows = vec![0; self.count];
            for (row, &group) in of_row.iter().enumerate() {
                let next = &mut next[group as usize];
                rows[*next] = row as u32;
                *next += 1;
            }
            Ok(RowGroups {
                of_row,
                rows,
                starts,
            })
        })
    }

    /// The template of a row; none if it is left over (or there is no such row).
    ///
    /// # Errors
    /// Damage.
    pub fn template_of(&self, row: u32) -> Result<Option<TemplateRef>, CodecError> {
        let of_row = &self.row_groups()?.of_row;
        let Some(group) = of_row.get(row as usize).and_then(|g| g.checked_sub(1)) else {
            return Ok(None);
        };
        let rank = self.rows_of_group(group)?.partition_point(|&r| r < row);
        let members = self.members_of_ranks(group)?;
        let member = members.map_or(0, |members| members.get(rank).copied().unwrap_or(0));
        Ok(Some(TemplateRef { group, member }))
    }

    /// The template (its index within the group) of each row of a group, by rank; none if the group
    /// has just one.
    ///
    /// # Errors
    /// Damage.
    pub fn members_of_ranks(&self, group: u32) -> Result<Option<&[u32]>, CodecError> {
        let Some(group) = self.groups.get(group as usize) else {
            return Ok(None);
        };
        if group.members.len() <= 1 {
            return Ok(None);
        }
        let members = get_or_try(&group.member_of_rank, || {
            let members =
                indices::decode(group.member_column, group.row_count, group.members.len())?;
            let mut counts = vec![0; group.members.len()];
            for &member in &members {
                counts[member as usize] += 1;
            }
            let declared = group.members.iter().map(|member| member.row_count);
            if counts.into_iter().eq(declared) {
                Ok(members)
            } else {
                Err(corrupt("rows of a template"))
            }
        })?;
        Ok(Some(members))
    }

    /// The values of a slot of a group's templates, by rank.
    ///
    /// # Errors
    /// Damage, or no such slot.
    pub fn slot_column(&self, group: u32, slot: usize) -> Result<&SlotValues, CodecError> {
        let column = self.groups.get(group as usize).and_then(|group| {
            let cell = group.values.get(slot)?;
            Some((
                cell,
                group.columns.get(slot)?,
                group.kinds.get(slot)?,
                group,
            ))
        });
        let Some((cell, column, &kind, group)) = column else {
            return Err(corrupt("no such slot"));
        };
        get_or_try(cell, || {
            let budget = self.text_budget.get();
            let values = SlotValues::decode(column, kind, group.row_count, budget)?;
            self.text_budget
                .set(budget.saturating_sub(values.text_size()));
            Ok(values)
        })
    }

    /// The strings that fit no template, in the order of their rows.
    ///
    /// # Errors
    /// Damage.
    pub fn left_over(&self) -> Result<&Strings, CodecError> {
        get_or_try(&self.left_over, || {
            strings::decode_untemplated(
                self.left_over_block,
                self.left_over_count()?,
                self.bytes_total,
            )
        })
    }

    /// How many rows fit no template.
    ///
    /// # Errors
    /// Damage.
    pub fn left_over_count(&self) -> Result<usize, CodecError> {
        let in_groups = self.groups.iter().map(|group| group.row_count);
        self.count
            .checked_sub(in_groups.fold(0, usize::saturating_add))
            .ok_or_else(|| corrupt("more rows in groups than there are"))
    }

    /// All strings.
    ///
    /// # Errors
    /// Damage.
    pub fn decode_all(&self) -> Result<Strings, CodecError> {
        let mut assembler = Assembler::new(self)?;
        let mut strings = Strings::with_capacity(self.count, assembler.likely_bytes());
        for row in 0..self.count {
            assembler.append_next(row, strings.open_end())?;
            strings.end_string();
        }
        if strings.byte_len() < self.bytes_total {
            return Err(corrupt("fewer bytes than declared"));
        }
        Ok(strings)
    }

    /// The strings of `rows`, which ascend. Columns of which no row is among them stay undecoded.
    ///
    /// # Errors
    /// Damage, or rows that do not ascend or are not there.
    pub fn decode_rows(&self, rows: &[u32]) -> Result<Strings, CodecError> {
        let mut assembler = Assembler::new(self)?;
        let mut strings = Strings::with_capacity(rows.len(), 0);
        let mut next = 0;
        for &row in rows {
            let row = row as usize;
            if row < next || row >= self.count {
                return Err(corrupt("rows out of order"));
            }
            assembler.skip(next..row);
            assembler.append_next(row, strings.open_end())?;
            strings.end_string();
            next = row + 1;
        }
        Ok(strings)
    }
}

#[cold]
pub(super) fn corrupt(what: &'static str) -> CodecError {
    CodecError::Corrupt {
        codec: CODEC,
        what,
        offset: 0,
    }
}

/// What rows must not come to.
#[cold]
pub(crate) fn more_bytes_than_declared() -> CodecError {
    corrupt("more bytes than declared")
}

/// Puts lines together, row after row.
struct Assembler<'b, 'a> {
    block: &'b TemplateBlock<'a>,
    of_row: &'b [u32],
    /// Rank of each group's next row; group 0 is what is left over.
    next_rank: Vec<usize>,
    groups: Vec<Option<OpenGroup<'b>>>,
}

/// A group with its columns decoded.
struct OpenGroup<'b> {
    members: Option<&'b [u32]>,
    slots: Vec<&'b SlotValues>,
}

impl<'b, 'a> Assembler<'b, 'a> {
    fn new(block: &'b TemplateBlock<'a>) -> Result<Self, CodecError> {
        Ok(Assembler {
            block,
            of_row: &block.row_groups()?.of_row,
            next_rank: vec![0; block.groups.len() + 1],
            groups: block.groups.iter().map(|_| None).collect(),
        })
    }

    /// A size to reserve that a damaged block cannot make absurd.
    fn likely_bytes(&self) -> usize {
        let stored: usize = self.block.left_over_block.len() + self.block.texts.len();
        let columns = self.block.groups.iter().flat_map(|group| &group.columns);
        let stored = stored + columns.map(|column| column.len()).sum::<usize>();
        self.block.bytes_total.min(stored.saturating_mul(64) + 4096)
    }

    fn skip(&mut self, rows: Range<usize>) {
        for &group in &self.of_row[rows] {
            self.next_rank[group as usize] += 1;
        }
    }

    /// Appends row `row`, the one behind the last that was appended or skipped. All
    /// bytes in `out` must not become more than the block declares.
    #[inline]
    fn append_next(&mut self, row: usize, out: &mut Vec<u8>) -> Result<(), CodecError> {
        let number = self.of_row[row] as usize;
        let rank = self.next_rank[number];
        self.next_rank[number] += 1;
        let Some(group_index) = number.checked_sub(1) else {
            let left_over = self.block.left_over()?;
            out.extend_from_slice(left_over.get(rank).unwrap_or_default());
            return self.check_size(out);
        };
        let block = self.block;
        let group = &block.groups[group_index];
        if self.groups[group_index].is_none() {
            let slots = (0..group.kinds.len())
                .map(|slot| block.slot_column(group_index as u32, slot))
                .collect::<Result<_, _>>()?;
            self.groups[group_index] = Some(OpenGroup {
                members: block.members_of_ranks(group_index as u32)?,
                slots,
            });
        }
        let Some(open) = &self.groups[group_index] else {
            return Ok(());
        };
        let member = open.members.map_or(0, |members| members[rank]) as usize;
        let first = group.members[member].first_piece;
        let pieces = &block.pieces[first..first + open.slots.len() + 1];
        for (piece, slot) in pieces.iter().zip(&open.slots) {
            out.extend_from_slice(&block.texts[piece.clone()]);
            slot.append(rank, out);
            self.check_size(out)?;
        }
        if let Some(last) = pieces.last() {
            out.extend_from_slice(&block.texts[last.clone()]);
        }
        self.check_size(out)
    }

    #[inline]
    fn check_size(&self, out: &[u8]) -> Result<(), CodecError> {
        if out.len() > self.block.bytes_total {
            return Err(corrupt("more bytes than declared"));
        }
        Ok(())
    }
}
