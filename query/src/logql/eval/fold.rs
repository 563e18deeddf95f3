//! Blocks of a scan become cells of series.
//!
//! Where the labels of a row depend on its stream and on columns with few distinct values, the pipeline
//! runs once for each stream and code ([`Codes`]), and rows are counted in runs of one stream: a row
//! costs a comparison of its time. Everything else takes the way of single rows, which is also how the
//! first row of a code is decided; so both ways give the same.

use std::collections::HashMap;

use chronolith_engine::rows::{BodyFields, FieldColumn, FieldValue, IntColumn, LogBlock};

use super::super::pipeline::{Decision, Entry, SampleExtractor};
use super::accumulate::{Accumulator, Cells};
use super::codes::Codes;
use super::failure::LogQlError;
use super::rows::{RowReader, StreamTable};
use super::window::Grid;

/// What was read of a block.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct BlockRead {
    /// Bytes of the lines that were looked at.
    pub(super) line_bytes: usize,
    /// Rows that became samples.
    pub(super) passed: usize,
}

/// Folds blocks, one after the other.
pub(super) struct Folder<'f, A> {
    extractor: SampleExtractor,
    grid: Grid,
    folded: &'f mut Folded<A>,
    streams: StreamTable,
    reader: RowReader,
    /// The stream that the extractor knows of.
    current: Option<usize>,
    outcomes: Vec<(u32, Outcome)>,
    /// Outcomes of runs before have other numbers.
    run: u32,
    /// By number of the text, of the field that is unwrapped.
    parsed: Vec<Parsed>,
}

/// What becomes of the rows of a stream with the same code.
#[derive(Debug, Default, Clone, Copy)]
enum Outcome {
    #[default]
    Dropped,
    Series(usize),
    /// They have to be looked at one by one.
    Open,
}

/// What the numbers of a block's texts are, once one of their rows was met.
#[derive(Debug, Clone, Copy)]
enum Parsed {
    Unknown,
    Number(f64),
    /// The pipeline decides.
    Other,
}

impl<'f, A: Accumulator> Folder<'f, A> {
    pub(super) fn new(extractor: SampleExtractor, grid: Grid, folded: &'f mut Folded<A>) -> Self {
        Self {
            extractor,
            grid,
            folded,
            streams: StreamTable::default(),
            reader: RowReader::default(),
            current: None,
            outcomes: Vec::new(),
            run: 0,
            parsed: Vec::new(),
        }
    }

    /// The memory that series take.
    pub(super) fn bytes(&self) -> usize {
        self.folded.bytes()
    }

    /// Adds a block.
    pub(super) fn block(&mut self, block: &LogBlock) -> Result<BlockRead, LogQlError> {
        self.reader.begin(block);
        let mut read = BlockRead::default();
        if let Some(codes) = self.codes(block) {
            self.runs(block, &codes, &mut read)?;
            return Ok(read);
        }
        for row in 0..block.rows {
            self.row(block, row, &mut read)?;
        }
        Ok(read)
    }

    /// The codes of a block's rows, if rows of one code need be looked at only once.
    fn codes(&self, block: &LogBlock) -> Option<Codes> {
        let none: &[FieldColumn] = &[];
        let columns = match &block.fields {
            Some(fields) => &fields.columns,
            None if self.extractor.counts_labels() => none,
            None => return None,
        };
        let looked_at = columns
            .iter()
            .enumerate()
            .filter(|(place, _)| self.extractor.looks_at(*place));
        Codes::of(block, looked_at.map(|(_, column)| column))
    }

    fn row(
        &mut self,
        block: &LogBlock,
        row: usize,
        read: &mut BlockRead,
    ) -> Result<(), LogQlError> {
        let Some(&time_ns) = block.time.get(row) else {
            return Ok(());
        };
        let Some(bucket) = self.grid.bucket(time_ns) else {
            return Ok(());
        };
        if let Some((series, value)) = self.sample(block, row, time_ns, read)? {
            read.passed += 1;
            self.folded.series[series].1.add(bucket, time_ns, value);
        }
        Ok(())
    }

    fn set_stream(&mut self, block: &LogBlock, row: usize) -> Result<usize, LogQlError> {
        let stream = self.streams.number(block, row)?;
        if self.current != Some(stream) || self.extractor.needs_stream() {
            let info = self.streams.info(stream);
            self.extractor.set_stream(stream, || info.labels());
            self.current = Some(stream);
        }
        Ok(stream)
    }

    /// The series and the value of a row, if it passes.
    #[inline]
    fn sample(
        &mut self,
        block: &LogBlock,
        row: usize,
        time_ns: i64,
        read: &mut BlockRead,
    ) -> Result<Option<(usize, f64)>, LogQlError> {
        let stream = self.set_stream(block, row)?;
        self.reader.load(block, row);
        let (line, pairs) = self.reader.row(block, row, self.streams.info(stream));
        let sample = match &block.fields {
            Some(fields) if fields.knows(row) => {
                let field = |place| field(fields, place, row);
                self.extractor.sample_of_fields(field, pairs)
            }
            _ => {
                read.line_bytes += line.len();
                self.extractor.sample(Entry { time_ns, line }, pairs)
            }
        };
        let Some(sample) = sample else {
            return Ok(None);
        };
        if self.extractor.failed() {
            return Err(LogQlError::Execution(self.extractor.failure()));
        }
        let series = self
            .folded
            .series_of(&mut self.extractor, stream, sample.of_stream);
        Ok(Some((series, sample.value)))
    }

    /// Adds the rows of a block in runs of one stream.
    fn runs(
        &mut self,
        block: &LogBlock,
        codes: &Codes,
        read: &mut BlockRead,
    ) -> Result<(), LogQlError> {
        let rows = block.rows.min(block.time.len());
        self.outcomes.clear();
        self.outcomes.resize(codes.count, (0, Outcome::Dropped));
        self.run = 0;
        let unwrapped = self.unwrapped(block);
        self.parsed.clear();
        let texts = unwrapped.map_or(0, FieldColumn::text_count);
        self.parsed.resize(texts, Parsed::Unknown);
        let mut start = 0;
        while start < rows {
            let end = match &block.stream {
                IntColumn::Constant(_) => rows,
                IntColumn::Values(streams) => {
                    let rest = streams.get(start..rows).unwrap_or(&[]);
                    let other = rest.iter().position(|stream| Some(stream) != rest.first());
                    other.map_or(rows, |other| start + other)
                }
            };
            self.run += 1;
            self.run(block, start..end.max(start + 1), codes, read)?;
            start = end.max(start + 1);
        }
        Ok(())
    }

    /// Adds rows of one stream. Their times ascend in stored blocks: those of one bucket lie together.
    fn run(
        &mut self,
        block: &LogBlock,
        rows: std::ops::Range<usize>,
        codes: &Codes,
        read: &mut BlockRead,
    ) -> Result<(), LogQlError> {
        let times = &block.time[..rows.end];
        let unwrapped = self.unwrapped(block);
        let mut row = rows.start;
        while row < rows.end {
            let time_ns = times[row];
            let piece = self.grid.piece(time_ns);
            let mut end = row + 1;
            while end < rows.end && piece.times_ns.contains(&times[end]) {
                end += 1;
            }
            let Some(bucket) = piece.bucket else {
                row = end;
                continue;
            };
            if codes.is_constant() && block.fields.is_none() {
                if let Outcome::Series(series) = self.outcome(block, row, 0, read)? {
                    let count = end - row;
                    read.passed += count;
                    let cells = &mut self.folded.series[series].1;
                    cells.add(bucket, time_ns, count as f64);
                }
                row = end;
                continue;
            }
            for (row, time_ns) in (row..end).zip(&times[row..end]) {
                let series = match self.outcome(block, row, codes.get(row), read)? {
                    Outcome::Dropped => continue,
                    Outcome::Series(series) => series,
                    Outcome::Open => {
                        self.row(block, row, read)?;
                        continue;
                    }
                };
                let value = match unwrapped.map(|column| self.value(column.get(row))) {
                    None => 1.0,
                    Some(Parsed::Number(number)) => number,
                    Some(Parsed::Unknown | Parsed::Other) => {
                        self.row(block, row, read)?;
                        continue;
                    }
                };
                read.passed += 1;
                self.folded.series[series].1.add(bucket, *time_ns, value);
            }
            row = end;
        }
        Ok(())
    }

    /// The values of the field that is unwrapped.
    fn unwrapped<'b>(&self, block: &'b LogBlock) -> Option<&'b FieldColumn> {
        let place = self.extractor.unwrapped()?;
        block.fields.as_ref()?.columns.get(place)
    }

    /// The number that an unwrapped field is.
    #[inline]
    fn value(&mut self, value: FieldValue<'_>) -> Parsed {
        match value {
            FieldValue::Number(number) => Parsed::Number(number),
            FieldValue::Absent => Parsed::Other,
            FieldValue::Text(number, text) => {
                let Some(known) = self.parsed.get_mut(number as usize) else {
                    return Parsed::Other;
                };
                if let Parsed::Unknown = known {
                    *known = match self.extractor.number(text) {
                        Some(number) => Parsed::Number(number),
                        None => Parsed::Other,
                    };
                }
                *known
            }
        }
    }

    fn decide(
        &mut self,
        block: &LogBlock,
        fields: &BodyFields,
        row: usize,
    ) -> Result<Outcome, LogQlError> {
        let stream = self.set_stream(block, row)?;
        self.reader.load(block, row);
        let (_, pairs) = self.reader.row(block, row, self.streams.info(stream));
        let decision = self
            .extractor
            .decide(|place| field(fields, place, row), pairs);
        Ok(match decision {
            Decision::Dropped => Outcome::Dropped,
            Decision::Open => Outcome::Open,
            Decision::Passes { of_stream } => {
                let series = self
                    .folded
                    .series_of(&mut self.extractor, stream, of_stream);
                Outcome::Series(series)
            }
        })
    }

    /// What becomes of the rows that have this row's stream and code.
    #[inline]
    fn outcome(
        &mut self,
        block: &LogBlock,
        row: usize,
        code: usize,
        read: &mut BlockRead,
    ) -> Result<Outcome, LogQlError> {
        // Rows of which nothing is known have the code of those without fields.
        if block
            .fields
            .as_ref()
            .is_some_and(|fields| !fields.knows(row))
        {
            return Ok(Outcome::Open);
        }
        if let Some((run, outcome)) = self.outcomes.get(code)
            && *run == self.run
        {
            return Ok(*outcome);
        }
        let outcome = match &block.fields {
            None => {
                let time_ns = block.time.get(row).copied().unwrap_or(0);
                match self.sample(block, row, time_ns, read)? {
                    Some((series, _)) => Outcome::Series(series),
                    None => Outcome::Dropped,
                }
            }
            Some(fields) => self.decide(block, fields, row)?,
        };
        if let Some(slot) = self.outcomes.get_mut(code) {
            *slot = (self.run, outcome);
        }
        Ok(outcome)
    }
}

#[inline]
fn field(fields: &BodyFields, place: usize, row: usize) -> FieldValue<'_> {
    let column = fields.columns.get(place);
    column.map_or(FieldValue::Absent, |column| column.get(row))
}

/// The series of a scan.
pub(super) struct Folded<A> {
    pub(super) series: Vec<(Box<[u8]>, Cells<A>)>,
    by_labels: HashMap<Box<[u8]>, usize>,
    /// The series of each stream's rows, where nothing else decides.
    by_stream: Vec<Option<usize>>,
    key: Vec<u8>,
}

impl<A> Default for Folded<A> {
    fn default() -> Self {
        Self {
            series: Vec::new(),
            by_labels: HashMap::new(),
            by_stream: Vec::new(),
            key: Vec::new(),
        }
    }
}

impl<A: Accumulator> Folded<A> {
    /// The series of the extractor's last sample.
    #[inline]
    fn series_of(
        &mut self,
        extractor: &mut SampleExtractor,
        stream: usize,
        of_stream: bool,
    ) -> usize {
        if of_stream && let Some(Some(series)) = self.by_stream.get(stream) {
            return *series;
        }
        extractor.series(&mut self.key);
        let series = match self.by_labels.get(self.key.as_slice()) {
            Some(series) => *series,
            None => {
                let number = self.series.len();
                let labels: Box<[u8]> = self.key.as_slice().into();
                self.by_labels.insert(labels.clone(), number);
                self.series.push((labels, Cells::default()));
                number
            }
        };
        if of_stream {
            if self.by_stream.len() <= stream {
                self.by_stream.resize(stream + 1, None);
            }
            self.by_stream[stream] = Some(series);
        }
        series
    }

    fn bytes(&self) -> usize {
        let of_one =
            |(labels, cells): &(Box<[u8]>, Cells<A>)| 2 * labels.len() + 64 + cells.bytes();
        self.series.iter().map(of_one).sum()
    }
}

#[cfg(test)]
mod tests;
