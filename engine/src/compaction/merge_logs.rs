//! Merges log segments into one, without deleted and expired records.
//!
//! Inputs are sorted by stream, then time: they are walked together, a block of each at a time, so that
//! memory holds as many blocks as there are inputs, and what the new segment's indexes take.

use std::cmp::Ordering;
use std::sync::Arc;

use super::merge::{MergeInput, merged_origin};
use crate::context::RequestContext;
use crate::error::Result;
use crate::head::seal::{NewSegment, SegmentPlace};
use crate::model::{Labels, Stream, TimeRange, TimestampNs};
use crate::rows::{LogBatch, LogScanRequest};
use crate::scan::blocks::SegmentSource;
use crate::segment::{LogBuildOptions, LogSegmentBuilder, SegmentFileWriter, stream_sort_key};
use crate::store::row_kind::{Logs, RowRequest};

/// Merges the segments into one; `None` when no record is left.
///
/// # Errors
/// Damage in an input, what the file system says, or a context that was cancelled.
pub(crate) fn merge_logs(
    place: &SegmentPlace<'_>,
    context: &RequestContext,
    input: &MergeInput<'_>,
) -> Result<Option<NewSegment>> {
    let Some(origin) = merged_origin(input) else {
        return Ok(None);
    };
    let request = LogScanRequest::everything(TimeRange {
        start: TimestampNs(input.oldest),
        end: TimestampNs::MAX,
    });
    let mut inputs = Vec::new();
    for segment in input.segments {
        if let Some(source) = SegmentSource::open(segment, input.tombstones, &request)? {
            let mut cursor = Cursor::new(source, &request);
            cursor.next_block(context)?;
            inputs.push(cursor);
        }
    }
    let Some(mut stream) = next_stream(&inputs) else {
        return Ok(None);
    };
    let (id, writer) = place.create()?;
    let options = LogBuildOptions {
        effort: input.effort,
        ..LogBuildOptions::default()
    };
    let mut builder = LogSegmentBuilder::new(writer, origin, options)?;
    loop {
        builder.begin_stream(&stream.stream)?;
        merge_stream(context, &mut inputs, &stream, &mut builder)?;
        match next_stream(&inputs) {
            Some(next) => stream = next,
            None => break,
        }
    }
    NewSegment::finished(id, builder.finish()?).map(Some)
}

fn next_stream(inputs: &[Cursor<'_>]) -> Option<OpenStream> {
    let open = inputs.iter().filter_map(|input| input.open.as_ref());
    open.min().cloned()
}

/// Appends the records of a stream from all inputs by time; of equal times those of earlier inputs
/// first.
fn merge_stream(
    context: &RequestContext,
    inputs: &mut [Cursor<'_>],
    stream: &OpenStream,
    builder: &mut LogSegmentBuilder<SegmentFileWriter>,
) -> Result<()> {
    loop {
        let members = inputs.iter().enumerate();
        let members = members.filter(|(_, input)| input.open.as_ref() == Some(stream));
        let mut places: Vec<(i64, usize)> = members.map(|(at, input)| (input.time(), at)).collect();
        places.sort_unstable();
        let Some((_, at)) = places.first().copied() else {
            return Ok(());
        };
        // Until another input has the next record.
        let end = places.get(1).copied().unwrap_or((i64::MAX, usize::MAX));
        let input = &mut inputs[at];
        while input.open.as_ref() == Some(stream) && (input.time(), at) < end {
            builder.push_row(&input.batch, input.row as u32)?;
            input.advance(context)?;
        }
    }
}

/// A stream in the order of segments.
#[derive(Clone, Debug)]
struct OpenStream {
    key: Arc<(Labels, Vec<u8>)>,
    stream: Arc<Stream>,
}

impl PartialEq for OpenStream {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for OpenStream {}

impl PartialOrd for OpenStream {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for OpenStream {
    fn cmp(&self, other: &Self) -> Ordering {
        if Arc::ptr_eq(&self.key, &other.key) {
            return Ordering::Equal;
        }
        self.key.cmp(&other.key)
    }
}

/// One input, at its next record.
struct Cursor<'a> {
    source: SegmentSource<Logs>,
    request: &'a LogScanRequest,
    /// Number of the next block.
    next: usize,
    batch: Arc<LogBatch>,
    row: usize,
    /// The stream of the next record; `None` at the end.
    open: Option<OpenStream>,
    /// Its number in the batch.
    number: u32,
}

impl<'a> Cursor<'a> {
    fn new(source: SegmentSource<Logs>, request: &'a LogScanRequest) -> Self {
        Self {
            source,
            request,
            next: 0,
            batch: Arc::default(),
            row: 0,
            open: None,
            number: 0,
        }
    }

    fn time(&self) -> i64 {
        let times = &self.batch.columns().time;
        times.get(self.row).copied().unwrap_or(i64::MAX)
    }

    fn advance(&mut self, context: &RequestContext) -> Result<()> {
        self.row += 1;
        match self.batch.columns().stream.get(self.row) {
            Some(number) if *number == self.number => {}
            Some(_) => self.open_stream(),
            None => self.next_block(context)?,
        }
        Ok(())
    }

    /// Reads the next block that has records.
    fn next_block(&mut self, context: &RequestContext) -> Result<()> {
        self.row = 0;
        while self.next < self.source.blocks() {
            context.check()?;
            self.next += 1;
            let block = self.source.read(self.next - 1, self.request)?;
            if let Some(block) = block.filter(|block| block.rows > 0) {
                self.batch = Arc::new(LogBatch::of_block(&block)?);
                self.open_stream();
                return Ok(());
            }
        }
        self.batch = Arc::default();
        self.open = None;
        Ok(())
    }

    fn open_stream(&mut self) {
        self.number = self.batch.columns().stream[self.row];
        let stream = &self.batch.streams()[self.number as usize];
        // A stream that goes on in the next block keeps its key, which is then compared by address.
        if self
            .open
            .as_ref()
            .is_some_and(|open| Arc::ptr_eq(&open.stream, stream))
        {
            return;
        }
        self.open = Some(OpenStream {
            key: Arc::new(stream_sort_key(stream)),
            stream: Arc::clone(stream),
        });
    }
}
