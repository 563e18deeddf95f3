//! One block of a log segment: which columns it has, and decoding those that are needed.

use std::cell::OnceCell;
use std::sync::Arc;

use crate::codec::CodecError;
use crate::codec::strings::Strings;
use crate::codec::templates::TextBlock;
use crate::error::{EngineError, Result};
use crate::model::TraceId;
use crate::rows::{
    AttributeScope, BodyFields, IdColumn, IntColumn, LineFields, LogBlock, LogColumnSet,
    LogCondition, LogScanRequest, OUTLINE_SLOT, Selection, Streams, TextColumn, TextTest,
    ValueTest,
};

use super::super::column::bad_block;
use super::super::file::SegmentFile;
use super::super::format::{COLUMN_BYTES_MAX, SectionKind};
use super::super::rows::BlockRef;
use super::super::rows::columns::{ColumnEntry, Field, Zone};
use super::super::wire::Cursor;
use super::attributes::Attributes;
use super::fields;
use super::texts::PreparedTest;
use super::trace_rows::{self, TraceRows};
use super::trace_table::TraceTable;
use super::typed;

/// What the directory says of a block's columns.
#[derive(Debug)]
pub(crate) struct Details {
    /// In the section of trace rows.
    trace_offset: u64,
    trace_length: usize,
    pub(crate) entries: Vec<ColumnEntry>,
}

impl Details {
    /// Reads the details of a block whose data lie at `data_at` in the file.
    pub(super) fn read(cursor: &mut Cursor<'_>, data_at: u64) -> Result<Self> {
        let trace_offset = cursor.varint()?;
        let trace_length = cursor.varint_max(COLUMN_BYTES_MAX as u64, "length of trace rows")?;
        let entries = super::super::rows::columns::read_entries(cursor, data_at)?;
        cursor.finish()?;
        Ok(Self {
            trace_offset,
            trace_length: trace_length as usize,
            entries,
        })
    }

    pub(super) fn find(&self, field: Field) -> Option<&ColumnEntry> {
        self.entries.iter().find(|entry| entry.field == field)
    }

    /// Whether a row may pass a condition, as far as the directory tells; `false` is certain. `key_of`
    /// gives the segment's number of an attribute key.
    pub(super) fn may_pass(
        &self,
        condition: &LogCondition,
        key_of: impl Fn(&str) -> Option<u32>,
    ) -> bool {
        match condition {
            LogCondition::Severity(range) => {
                let (min, max) = match self.find(Field::Severity).map(|entry| entry.zone) {
                    Some(Zone::Int(min, max)) => (min, max),
                    Some(_) => return true,
                    None => (0, 0),
                };
                i64::from(*range.start()) <= max && min <= i64::from(*range.end())
            }
            LogCondition::Attribute {
                scope: AttributeScope::Row,
                key,
                test,
            } if !test.passes(None) => {
                if self.find(Field::RowOverflow).is_some() {
                    return true;
                }
                let Some(key) = key_of(key) else {
                    return false;
                };
                self.entries.iter().any(|entry| {
                    entry.field == Field::RowAttribute
                        && entry.key == key
                        && zone_may_pass(entry.zone, test)
                })
            }
            LogCondition::EventName(test) => {
                self.find(Field::EventName).is_some() || test.passes(b"")
            }
            LogCondition::Trace(_) => self.trace_length > 0,
            _ => true,
        }
    }
}

fn zone_may_pass(zone: Zone, test: &ValueTest) -> bool {
    let ValueTest::Number {
        min,
        max,
        negated: false,
    } = test
    else {
        return true;
    };
    // Rounding to doubles widens, since comparisons below are not strict.
    let (least, greatest) = match zone {
        Zone::None => return true,
        Zone::Int(least, greatest) => (least as f64, greatest as f64),
        Zone::Float(least, greatest) => (least, greatest),
    };
    min.is_none_or(|(bound, _)| greatest >= bound) && max.is_none_or(|(bound, _)| least <= bound)
}

/// What decoding a block needs of its segment.
pub(super) struct Source<'a> {
    pub(super) file: &'a SegmentFile,
    pub(super) keys: &'a [Arc<str>],
    pub(super) streams: &'a Arc<Streams>,
    pub(super) stream_count: u32,
    pub(super) traces: &'a TraceTable,
}

/// A block whose columns are decoded when they are needed, and then kept.
pub(super) struct OpenBlock<'a> {
    source: &'a Source<'a>,
    details: &'a Details,
    row_count: usize,
    attributes: Attributes<'a>,
    /// Keys whose columns are in `block`.
    decoded_keys: Vec<Arc<str>>,
    decoded: Decoded,
    /// The bodies, if they are made of templates.
    templates: OnceCell<Option<TextBlock<'a>>>,
    block: LogBlock,
}

/// Which columns of the block are there.
#[derive(Default)]
struct Decoded {
    stream: bool,
    time: bool,
    severity: bool,
    severity_text: bool,
    body: bool,
    event_name: bool,
}

impl<'a> OpenBlock<'a> {
    pub(super) fn new(source: &'a Source<'a>, details: &'a Details, row_count: usize) -> Self {
        Self {
            attributes: Attributes::new(source.file, source.keys, row_count, &details.entries),
            source,
            details,
            row_count,
            decoded_keys: Vec::new(),
            decoded: Decoded::default(),
            templates: OnceCell::new(),
            block: LogBlock {
                rows: row_count,
                streams: Arc::clone(source.streams),
                stream: IntColumn::Constant(0),
                time: Vec::new(),
                observed_time: IntColumn::Constant(0),
                severity: IntColumn::Constant(0),
                severity_text: TextColumn::default(),
                body_kind: IntColumn::Constant(0),
                body: TextColumn::default(),
                body_size: IntColumn::Constant(0),
                trace_id: IdColumn::None,
                span_id: IdColumn::None,
                event_name: TextColumn::default(),
                attributes: Vec::new(),
                fields: None,
            },
        }
    }

    /// The entry of a column; one with another number of values than rows is damage.
    fn entry(&self, field: Field) -> Result<Option<&'a ColumnEntry>> {
        let Some(entry) = self.details.find(field) else {
            return Ok(None);
        };
        if entry.count as usize != self.row_count {
            return Err(self.source.file.corrupt(
                entry.offset,
                &format!("{} values of {field:?}", self.row_count),
                &entry.count.to_string(),
            ));
        }
        Ok(Some(entry))
    }

    fn ints(&self, field: Field) -> Result<IntColumn> {
        match self.entry(field)? {
            Some(entry) => typed::ints(self.source.file, entry),
            None => Ok(IntColumn::Constant(0)),
        }
    }

    fn text(&self, field: Field) -> Result<TextColumn> {
        match self.entry(field)? {
            Some(entry) => typed::text(self.source.file, entry),
            None => Ok(TextColumn::default()),
        }
    }

    #[cold]
    fn lacks(&self, field: Field) -> EngineError {
        let at = self.source.file.section(SectionKind::Blocks).offset;
        let expected = format!("a column {field:?} in every block");
        self.source.file.corrupt(at, &expected, "none")
    }

    /// Decodes the streams.
    pub(super) fn streams(&mut self) -> Result<&IntColumn> {
        if !self.decoded.stream {
            let entry = self.entry(Field::Stream)?;
            let entry = entry.ok_or_else(|| self.lacks(Field::Stream))?;
            let count = self.source.stream_count;
            self.block.stream = typed::streams(self.source.file, entry, count)?;
            self.decoded.stream = true;
        }
        Ok(&self.block.stream)
    }

    /// Decodes the times.
    pub(super) fn times(&mut self) -> Result<&[i64]> {
        if !self.decoded.time {
            let entry = self.entry(Field::Time)?;
            let entry = entry.ok_or_else(|| self.lacks(Field::Time))?;
            self.block.time = typed::times(self.source.file, entry)?;
            self.decoded.time = true;
        }
        Ok(&self.block.time)
    }

    fn severity(&mut self) -> Result<()> {
        if !self.decoded.severity {
            self.block.severity = self.ints(Field::Severity)?;
            self.decoded.severity = true;
        }
        Ok(())
    }

    fn severity_text(&mut self) -> Result<()> {
        if !self.decoded.severity_text {
            self.block.severity_text = self.text(Field::SeverityText)?;
            self.decoded.severity_text = true;
        }
        Ok(())
    }

    fn event_name(&mut self) -> Result<()> {
        if !self.decoded.event_name {
            self.block.event_name = self.text(Field::EventName)?;
            self.decoded.event_name = true;
        }
        Ok(())
    }

    fn body(&mut self) -> Result<()> {
        if !self.decoded.body {
            self.block.body_kind = self.ints(Field::BodyKind)?;
            self.block.body = self.text(Field::Body)?;
            self.decoded.body = true;
        }
        Ok(())
    }

    /// The bodies, if they are made of templates: then single rows can be decoded.
    fn templates(&self) -> Result<Option<&TextBlock<'a>>> {
        if self.templates.get().is_none() {
            let opened = match self.entry(Field::Body)? {
                Some(entry) => typed::templates(self.source.file, entry)?,
                None => None,
            };
            let _ = self.templates.set(opened);
        }
        Ok(self.templates.get().and_then(Option::as_ref))
    }

    /// Tests bodies by their templates; `false` when they are not made of such, or not all text.
    fn retain_by_templates(&self, test: &TextTest, rows: &mut Selection) -> Result<bool> {
        if self.decoded.body || self.details.find(Field::BodyKind).is_some() {
            return Ok(false);
        }
        let (Some(entry), Some(block)) = (self.details.find(Field::Body), self.templates()?) else {
            return Ok(false);
        };
        let Some(test) = PreparedTest::new(test) else {
            return Ok(false);
        };
        test.retain(block, rows)
            .map_err(|error| bad_block(self.source.file, entry.offset, &error))?;
        Ok(true)
    }

    /// Bodies of these rows, where that does not need all to be decoded.
    fn bodies_of(&self, rows: &[u32]) -> Result<Option<TextColumn>> {
        if self.decoded.body {
            return Ok(None);
        }
        let (Some(entry), Some(block)) = (self.details.find(Field::Body), self.templates()?) else {
            return Ok(None);
        };
        let bodies = block
            .decode_rows(rows)
            .map_err(|error| bad_block(self.source.file, entry.offset, &error))?;
        Ok(Some(TextColumn::Plain(bodies)))
    }

    /// Fields of bodies, and the bodies of the rows whose fields are not known, each of them for the
    /// chosen rows; `None` if that gains nothing.
    fn fields(
        &self,
        wanted: &dyn LineFields,
        rows: &Selection,
    ) -> Result<Option<(BodyFields, TextColumn)>> {
        // Of bodies that are not all text some would be parsed that must not be.
        if self.decoded.body || self.details.find(Field::BodyKind).is_some() {
            return Ok(None);
        }
        let (Some(entry), Some(block)) = (self.details.find(Field::Body), self.templates()?) else {
            return Ok(None);
        };
        let Some(templates) = block.templates() else {
            return Ok(None);
        };
        let bad = |error| bad_block(self.source.file, entry.offset, &error);
        let Some(found) = fields::read(templates, wanted, rows).map_err(bad)? else {
            return Ok(None);
        };
        let mut others = Vec::new();
        rows.for_each(|row| {
            if !found.knows(row as usize) {
                others.push(row);
            }
        });
        if others.is_empty() {
            return Ok(Some((found, TextColumn::default())));
        }
        let decoded = templates.decode_rows(&others).map_err(bad)?;
        let mut bodies = Strings::default();
        bodies.reserve(rows.len(), decoded.byte_len());
        let mut next = decoded.iter();
        rows.for_each(|row| {
            let is_known = found.knows(row as usize);
            let body = if is_known { None } else { next.next() };
            bodies.push(body.unwrap_or_default());
        });
        Ok(Some((found, TextColumn::Plain(bodies))))
    }

    /// Bodies in outline, where they are made of templates; of rows that are not chosen too.
    fn outlines(&self) -> Result<Option<TextColumn>> {
        // What stands for a value that is no text cannot be read without it.
        if self.details.find(Field::BodyKind).is_some() {
            return Ok(None);
        }
        let (Some(entry), Some(block)) = (self.details.find(Field::Body), self.templates()?) else {
            return Ok(None);
        };
        let Some(templates) = block.templates() else {
            return Ok(None);
        };
        let outlines = templates
            .outlines(OUTLINE_SLOT.as_bytes())
            .map_err(|error| bad_block(self.source.file, entry.offset, &error))?;
        Ok(Some(TextColumn::Dictionary {
            keys: outlines.keys,
            values: outlines.values,
        }))
    }

    /// Sizes of the bodies, of rows that are not chosen too.
    fn body_sizes(&mut self) -> Result<IntColumn> {
        let templates = self.templates()?.and_then(TextBlock::templates);
        if let Some(total) = templates.map(|block| block.bytes_total() as u64) {
            // Row i has what total * (i + 1) / count exceeds total * i / count: the sum is the total.
            let count = self.row_count as u64;
            // Both are below 2^32.
            let up_to = |row: u64| (total * row / count) as i64;
            let sizes = (0..count).map(|row| up_to(row + 1) - up_to(row));
            return Ok(IntColumn::Values(sizes.collect()));
        }
        self.body()?;
        let body = &self.block.body;
        Ok(match body {
            TextColumn::Constant(text) => IntColumn::Constant(text.len() as i64),
            _ => IntColumn::Values(
                (0..self.row_count)
                    .map(|row| body.get(row).len() as i64)
                    .collect(),
            ),
        })
    }

    fn attribute(&mut self, key: &Arc<str>) -> Result<()> {
        if !self.decoded_keys.contains(key) {
            let columns = self.attributes.of_key(key)?;
            self.block.attributes.extend(columns);
            self.decoded_keys.push(Arc::clone(key));
        }
        Ok(())
    }

    fn trace_rows(&self) -> Result<TraceRows> {
        let section = self.source.file.section(SectionKind::TraceRows);
        let (offset, length) = (self.details.trace_offset, self.details.trace_length);
        let bytes = self.source.file.get_in(section, offset, length)?;
        let at = section.offset + offset;
        let with_span = || match self.details.find(Field::SpanId) {
            Some(entry) => Ok(typed::rows_with_span(
                self.source.file,
                entry,
                self.row_count,
            )?),
            None => Ok(Vec::new()),
        };
        let count = self.source.traces.len();
        trace_rows::read(bytes, self.row_count, count, with_span).map_err(|error| match error {
            Damage::Engine(error) => error,
            Damage::Codec(error) => bad_block(self.source.file, at, &error),
        })
    }

    /// Keeps the rows that pass a condition.
    pub(super) fn retain(&mut self, condition: &LogCondition, rows: &mut Selection) -> Result<()> {
        match condition {
            LogCondition::Trace(ids) => return self.retain_traces(ids, rows),
            LogCondition::Severity(_) => self.severity()?,
            LogCondition::SeverityText(_) => self.severity_text()?,
            LogCondition::EventName(_) => self.event_name()?,
            LogCondition::Body(test) => {
                if self.retain_by_templates(test, rows)? {
                    return Ok(());
                }
                self.body()?;
            }
            LogCondition::Attribute {
                scope: AttributeScope::Row,
                key,
                ..
            } => self.attribute(key)?,
            LogCondition::Attribute { .. } => {
                self.streams()?;
            }
        }
        condition.retain(&self.block, rows)
    }

    fn retain_traces(&self, ids: &[TraceId], rows: &mut Selection) -> Result<()> {
        let mut wanted = Vec::new();
        for id in ids {
            let number = self.source.traces.find(self.source.file, id)?;
            wanted.extend(number.map(i64::from));
        }
        wanted.sort_unstable();
        let found = match wanted.is_empty() {
            true => Vec::new(),
            false => {
                let TraceRows { rows, numbers } = self.trace_rows()?;
                let mut rows = rows.into_iter().zip(numbers);
                let is_wanted = |number: &i64| match wanted.as_slice() {
                    [one] => one == number,
                    many => many.binary_search(number).is_ok(),
                };
                rows.by_ref()
                    .filter(|(_, number)| is_wanted(number))
                    .map(|(row, _)| row)
                    .collect()
            }
        };
        match rows {
            Selection::All(_) => *rows = Selection::Rows(found),
            Selection::Rows(_) => rows.intersect(&found),
        }
        Ok(())
    }

    /// The block of the rows that were chosen, with the columns asked for.
    pub(super) fn finish(mut self, request: &LogScanRequest, rows: Selection) -> Result<LogBlock> {
        let wanted = request.columns;
        self.streams()?;
        self.times()?;
        if wanted.severity {
            self.severity()?;
            self.severity_text()?;
        }
        if wanted.event_name {
            self.event_name()?;
        }
        let mut bodies = None;
        let mut fields = None;
        if wanted.body {
            if let Some(wanted) = &request.fields
                && let Some((found, others)) = self.fields(&**wanted, &rows)?
            {
                (fields, bodies) = (Some(found), Some(others));
            } else if let Selection::Rows(rows) = &rows {
                bodies = self.bodies_of(rows)?;
            }
            match bodies {
                Some(_) => self.block.body_kind = self.ints(Field::BodyKind)?,
                None => self.body()?,
            }
        } else if wanted.body_outline {
            match self.outlines()? {
                Some(outlines) => {
                    self.block.body_kind = self.ints(Field::BodyKind)?;
                    self.block.body = outlines;
                }
                None => self.body()?,
            }
        }
        let attributes = match &request.attributes {
            crate::rows::AttributeChoice::Keys(keys) => {
                for key in keys {
                    self.attribute(key)?;
                }
                let mut columns = std::mem::take(&mut self.block.attributes);
                columns.retain(|column| keys.contains(&column.key));
                columns
            }
            choice => self.attributes.choose(choice)?,
        };
        if wanted.body_size {
            self.block.body_size = self.body_sizes()?;
        }
        if wanted.observed_time {
            self.block.observed_time = self.observed_times()?;
        }
        if wanted.ids {
            self.block.trace_id = self.trace_ids(&rows)?;
            self.block.span_id = match self.details.find(Field::SpanId) {
                Some(entry) => typed::span_ids(self.source.file, entry, self.row_count)?,
                None => IdColumn::None,
            };
        }
        self.block.attributes = attributes;
        let mut block = self.block;
        forget_unwanted(&mut block, wanted);
        block.fields = fields;
        if let Selection::Rows(rows) = &rows {
            block = block.take(rows);
        }
        if let Some(bodies) = bodies {
            block.body = bodies;
        }
        Ok(block)
    }

    fn observed_times(&self) -> Result<IntColumn> {
        let delta = self.ints(Field::ObservedDelta)?;
        let times = self.block.time.iter().enumerate();
        let observed = times.map(|(row, time)| time.wrapping_add(delta.get(row)));
        Ok(IntColumn::Values(observed.collect()))
    }

    /// The trace ids; of rows that were not chosen zeros.
    fn trace_ids(&self, rows: &Selection) -> Result<IdColumn<16>> {
        let found = self.trace_rows()?;
        if found.rows.is_empty() {
            return Ok(IdColumn::None);
        }
        let mut ids = vec![[0; 16]; self.row_count];
        let mut chosen = match rows {
            Selection::All(_) => None,
            Selection::Rows(rows) => Some(rows.iter().peekable()),
        };
        for (row, number) in found.rows.iter().zip(&found.numbers) {
            if let Some(chosen) = &mut chosen {
                while chosen.next_if(|next| *next < row).is_some() {}
                if chosen.peek() != Some(&row) {
                    continue;
                }
            }
            ids[*row as usize] = self.source.traces.id(self.source.file, *number as u32)?;
        }
        Ok(IdColumn::Values(ids))
    }

    /// Decodes everything there is: for verify.
    pub(super) fn verify(&mut self, block: &BlockRef) -> Result<()> {
        let head = &block.head;
        let bad = |what: &str| {
            let at = self.source.file.section(SectionKind::Blocks).offset;
            Err(self.source.file.corrupt(at, what, "others"))
        };
        for entry in &self.details.entries {
            let file = self.source.file;
            let zone = match entry.zone {
                Zone::Int(min, max) => Some((min, max)),
                _ => None,
            };
            let values = match entry.field {
                Field::Time => IntColumn::Values(typed::times(file, entry)?),
                Field::Stream => typed::streams(file, entry, self.source.stream_count)?,
                _ if zone.is_some() => typed::ints(file, entry)?,
                _ => continue,
            };
            let (least, greatest) = match &values {
                IntColumn::Constant(value) => (Some(value), Some(value)),
                IntColumn::Values(values) => (values.iter().min(), values.iter().max()),
            };
            if zone != least.copied().zip(greatest.copied()) {
                return bad("values inside their zone maps");
            }
        }
        let (least, greatest) = match self.details.find(Field::Time).map(|entry| entry.zone) {
            Some(Zone::Int(min, max)) => (min, max),
            _ => return bad("a zone map of times"),
        };
        if (least, greatest) != (head.range.start.0, head.range.end.0) {
            return bad("times in the range that the directory says");
        }
        let streams = self.streams()?.clone();
        let (first, last) = (
            streams.get(0),
            streams.get(self.row_count.saturating_sub(1)),
        );
        let expected = (i64::from(head.first_stream), i64::from(head.last_stream));
        let times = self.times()?.to_vec();
        let ordered = (1..times.len())
            .all(|row| streams.get(row - 1) != streams.get(row) || times[row - 1] <= times[row]);
        if (first, last) != expected || !ordered {
            let at = self.source.file.section(SectionKind::Blocks).offset;
            let expected = "rows in order of stream and time";
            return Err(self.source.file.corrupt(at, expected, "others"));
        }
        Ok(())
    }
}

/// Columns that only conditions looked at are not handed out.
fn forget_unwanted(block: &mut LogBlock, wanted: LogColumnSet) {
    if !wanted.severity {
        block.severity = IntColumn::Constant(0);
        block.severity_text = TextColumn::default();
    }
    if !wanted.wants_body() {
        block.body_kind = IntColumn::Constant(0);
        block.body = TextColumn::default();
    }
    if !wanted.event_name {
        block.event_name = TextColumn::default();
    }
}

enum Damage {
    Engine(EngineError),
    Codec(CodecError),
}

impl From<CodecError> for Damage {
    fn from(error: CodecError) -> Self {
        Self::Codec(error)
    }
}

impl From<EngineError> for Damage {
    fn from(error: EngineError) -> Self {
        Self::Engine(error)
    }
}
