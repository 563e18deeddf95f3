//! Every number of the segment format: magic, version, section kinds, widths and block sizes.
//!
//! `docs/formats/segment.md` says what they mean. Nothing else in the engine knows an offset.
//!
//! ```text
//! +--------+-----------+-----------+- .. -+-------------+---------------+---------+
//! | header | section 1 | section 2 |      | page CRCs   | section table | trailer |
//! +--------+-----------+-----------+- .. -+-------------+---------------+---------+
//! |<-------------- pages of PAGE_SIZE bytes ----------->|<---- tail checksum ---->|
//! ```

use crate::model::Signal;

/// First bytes of every segment.
pub const MAGIC: [u8; 8] = *b"CHRNSEG\0";
/// Last bytes of every segment.
pub const END_MAGIC: [u8; 8] = *b"CHRNEND\0";
/// The version this code writes; it reads every version from 1 on.
pub const FORMAT_VERSION: u16 = 4;
/// The last version whose log and span blocks hold rows one by one; from the
/// next on they hold typed columns.
pub const ROW_SHAPES_VERSION: u16 = 3;

/// Bytes of the header.
pub const HEADER_SIZE: usize = 24;
/// Offset of the version (u16) in the header.
pub const HEADER_VERSION_AT: usize = 8;
/// Offset of the signal (u8) in the header.
pub const HEADER_SIGNAL_AT: usize = 10;
/// Offset of the nine reserved bytes, all zero, in the header.
pub const HEADER_RESERVED_AT: usize = 11;
/// Offset of the header's CRC32C (u32) in the header; covers what is before it.
pub const HEADER_CRC_AT: usize = 20;

/// Bytes that share one CRC32C. Small enough that a point read checks little, large enough that the
/// table of checksums is no burden (0.02 % of the file).
pub const PAGE_SIZE: usize = 16 << 10;
/// Bytes of one page checksum.
pub const PAGE_CRC_SIZE: usize = 4;

/// Bytes of one entry of the section table: kind u32, reserved u32, offset u64, length u64.
pub const SECTION_ENTRY_SIZE: usize = 24;
/// Sections a file may have; a reader refuses more.
pub const SECTION_COUNT_MAX: usize = 64;

/// Bytes of the trailer: body length u64, section count u32, version u16, signal u8, zero u8,
/// tail CRC32C u32, zero u32, end magic.
pub const TRAILER_SIZE: usize = 32;
/// Offset of the body's length (everything before the page checksums) in the trailer.
pub const TRAILER_BODY_AT: usize = 0;
/// Offset of the section count in the trailer.
pub const TRAILER_SECTIONS_AT: usize = 8;
/// Offset of the version in the trailer, which repeats the header's.
pub const TRAILER_VERSION_AT: usize = 12;
/// Offset of the signal in the trailer, which repeats the header's.
pub const TRAILER_SIGNAL_AT: usize = 14;
/// Offset of the tail's CRC32C in the trailer: covers page checksums, section table and the trailer
/// up to here. Since each page is covered by its checksum, this number stands for the whole file.
pub const TRAILER_CRC_AT: usize = 16;
/// Offset of the end magic in the trailer.
pub const TRAILER_MAGIC_AT: usize = 24;

/// The smallest file that can be a segment.
pub const FILE_SIZE_MIN: usize = HEADER_SIZE + TRAILER_SIZE;

/// Rows of the series table per block.
pub const SERIES_BLOCK_ROWS: usize = 64;
/// Rows of the chunk directory per block.
pub const CHUNK_BLOCK_ROWS: usize = 64;
/// Chunks that one block of the directory may have.
pub const CHUNK_COUNT_MAX: u64 = 1 << 26;
/// Entries of a packed array per block.
pub const PACKED_BLOCK_LEN: usize = 128;
/// Bytes of one entry of the timestamp-column table: first i64, last i64, offset u64, length u32,
/// count u32.
pub const TIMESTAMP_ENTRY_SIZE: usize = 32;

/// Samples a chunk may hold; a reader refuses more, which bounds every allocation.
pub const CHUNK_SAMPLES_MAX: usize = 1 << 16;
/// Populations that the histograms of one chunk may have together.
pub const HISTOGRAM_BUCKETS_MAX: usize = 1 << 24;
/// Rows a log or span block may hold.
pub const BLOCK_ROWS_MAX: usize = 1 << 16;
/// Values that one column of a log or span block may have.
pub const COLUMN_VALUES_MAX: usize = 1 << 20;
/// Bytes that one column of a log or span block may decompress to.
pub const COLUMN_BYTES_MAX: usize = 1 << 28;

/// Spans from which on a block of version 4 is closed at the end of a trace.
pub const SPAN_BLOCK_ROWS_TARGET: usize = 8192;
/// Rows at which a block of log records is closed.
pub const LOG_BLOCK_ROWS_TARGET: usize = 16 << 10;
/// Bytes of text at which a block of log records is closed: templates and dictionaries are learnt
/// anew in every block, and one line costs at most decoding its block.
pub const LOG_BLOCK_TEXT_BYTES_TARGET: usize = 1 << 20;

/// Bits of a trace id's fingerprint in versions 1 to 3.
pub const TRACE_FINGERPRINT_BITS: u32 = 48;

/// Chunk flag: the values are histograms.
pub const CHUNK_HISTOGRAMS: u8 = 1;
/// Chunk flag: a column of start timestamps comes before the values.
pub const CHUNK_START_TIMES: u8 = 2;
/// Chunk flag: a column says by how much each sample arrived later than its own time.
pub const CHUNK_ARRIVALS: u8 = 4;
/// Chunk flag: a statistics record exists.
pub const CHUNK_STATS: u8 = 8;
/// Chunk flag (from version 2 on): later samples have taken the place of these; a column says when.
pub const CHUNK_SUPERSEDED: u8 = 16;
/// All chunk flags.
pub const CHUNK_FLAGS: u8 =
    CHUNK_HISTOGRAMS | CHUNK_START_TIMES | CHUNK_ARRIVALS | CHUNK_STATS | CHUNK_SUPERSEDED;

/// What a section holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u32)]
#[non_exhaustive]
pub enum SectionKind {
    /// [`super::SegmentMeta`].
    Meta = 1,
    /// Sample values and timestamp columns (metrics); column blocks (logs, spans).
    Data = 2,
    /// Label names: see [`super::index`].
    LabelNames = 3,
    /// End offsets of the label values in [`SectionKind::LabelValues`].
    LabelValueEnds = 4,
    /// Label values, one after the other.
    LabelValues = 5,
    /// End offsets of the postings in [`SectionKind::Postings`].
    PostingEnds = 6,
    /// Rows that carry a label pair.
    Postings = 7,
    /// End offsets of the blocks in [`SectionKind::Series`].
    SeriesEnds = 8,
    /// Labels of each row.
    Series = 9,
    /// End offsets of the blocks in [`SectionKind::Chunks`].
    ChunkEnds = 10,
    /// The chunk directory.
    Chunks = 11,
    /// The timestamp-column table.
    Timestamps = 12,
    /// Statistics of chunks.
    ChunkStats = 13,
    /// Exemplars.
    Exemplars = 14,
    /// Metadata of metric names.
    Metadata = 15,
    /// Resources and scopes of streams.
    Streams = 16,
    /// Directory of the log or span blocks, zone maps included.
    Blocks = 17,
    /// Token filters of the blocks.
    TokenFilters = 18,
    /// Fingerprints of trace ids, ascending.
    TraceIds = 19,
    /// For each fingerprint a block that has the trace.
    TraceBlocks = 20,
    /// Attribute keys.
    AttributeKeys = 21,
    /// Distinct trace ids, ascending (from version 4 on).
    Traces = 22,
    /// End offsets of the block numbers of each trace in [`SectionKind::TraceBlocks`].
    TraceBlockEnds = 23,
    /// Which trace each row belongs to, block by block.
    TraceRows = 24,
    /// Spans: trace ids in the order of their rows (from version 4 on).
    TraceIdsByRow = 25,
    /// Spans: places in [`SectionKind::TraceIdsByRow`], by ascending id.
    TraceOrder = 26,
    /// Spans: row of the stream table by stream number.
    StreamRows = 27,
}

impl SectionKind {
    /// All kinds.
    pub const ALL: [Self; 27] = [
        Self::Meta,
        Self::Data,
        Self::LabelNames,
        Self::LabelValueEnds,
        Self::LabelValues,
        Self::PostingEnds,
        Self::Postings,
        Self::SeriesEnds,
        Self::Series,
        Self::ChunkEnds,
        Self::Chunks,
        Self::Timestamps,
        Self::ChunkStats,
        Self::Exemplars,
        Self::Metadata,
        Self::Streams,
        Self::Blocks,
        Self::TokenFilters,
        Self::TraceIds,
        Self::TraceBlocks,
        Self::AttributeKeys,
        Self::Traces,
        Self::TraceBlockEnds,
        Self::TraceRows,
        Self::TraceIdsByRow,
        Self::TraceOrder,
        Self::StreamRows,
    ];

    /// From its stored number.
    #[must_use]
    pub fn from_u32(number: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| *kind as u32 == number)
    }

    /// As `inspect` prints it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Meta => "meta",
            Self::Data => "data",
            Self::LabelNames => "label names",
            Self::LabelValueEnds => "label value ends",
            Self::LabelValues => "label values",
            Self::PostingEnds => "posting ends",
            Self::Postings => "postings",
            Self::SeriesEnds => "series ends",
            Self::Series => "series",
            Self::ChunkEnds => "chunk ends",
            Self::Chunks => "chunks",
            Self::Timestamps => "timestamps",
            Self::ChunkStats => "chunk stats",
            Self::Exemplars => "exemplars",
            Self::Metadata => "metadata",
            Self::Streams => "streams",
            Self::Blocks => "blocks",
            Self::TokenFilters => "token filters",
            Self::TraceIds => "trace ids",
            Self::TraceBlocks => "trace blocks",
            Self::AttributeKeys => "attribute keys",
            Self::Traces => "traces",
            Self::TraceBlockEnds => "trace block ends",
            Self::TraceRows => "trace rows",
            Self::TraceIdsByRow => "trace ids by row",
            Self::TraceOrder => "trace order",
            Self::StreamRows => "stream rows",
        }
    }
}

const _: () = assert!(2 * SPAN_BLOCK_ROWS_TARGET <= BLOCK_ROWS_MAX);
const _: () = assert!(LOG_BLOCK_ROWS_TARGET <= BLOCK_ROWS_MAX);
const _: () = assert!(LOG_BLOCK_TEXT_BYTES_TARGET < COLUMN_BYTES_MAX);
const _: () = assert!(HEADER_CRC_AT + 4 == HEADER_SIZE);
const _: () = assert!(HEADER_RESERVED_AT + 9 == HEADER_CRC_AT);
const _: () = assert!(TRAILER_MAGIC_AT + END_MAGIC.len() == TRAILER_SIZE);
const _: () = assert!(TIMESTAMP_ENTRY_SIZE == 8 + 8 + 8 + 4 + 4);
const _: () = assert!(SECTION_ENTRY_SIZE == 4 + 4 + 8 + 8);
const _: () = assert!(SectionKind::ALL.len() < SECTION_COUNT_MAX);
const _: () = assert!(Signal::Metrics as u8 == 1 && Signal::Spans as u8 == 3);
