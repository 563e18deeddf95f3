//! All widths, offsets and tags of a log file; nothing else knows a number.
//!
//! A file is a header and then *frames*. One frame is one group commit: a frame header, then for
//! each record a record header and its payload, then zeros up to a multiple of [`FRAME_ALIGN`].
//! Behind the last frame stands a *marker* (or, in a file that was continued in the next, an
//! *end*), which the next frame overwrites, and behind that preallocated zeros.
//!
//! Every frame header says up to which sequence number everything had been synced when it was
//! written. That is what tells a torn tail from damage: bytes that make no sense are a torn tail
//! exactly when nothing behind them claims that they had been durable.

/// Version of the log's format, in each file's header.
pub const FORMAT_VERSION: u32 = 1;

/// First bytes of a log file.
pub(crate) const FILE_MAGIC: [u8; 8] = *b"CHRONWAL";
/// Size of a file's header.
pub(super) const FILE_HEADER_BYTES: usize = 64;
/// The file was preallocated: the last frame never ends at the end of the file.
pub(super) const FILE_FLAG_PREALLOCATED: u32 = 1;

/// First bytes of a frame.
pub(super) const FRAME_MAGIC: [u8; 4] = *b"CWF1";
/// Size of a frame's header.
pub(super) const FRAME_HEADER_BYTES: usize = 40;
/// Frames start at multiples of this.
pub(super) const FRAME_ALIGN: usize = 8;
/// Bytes of records in one frame; a single record may be as large.
pub(super) const FRAME_BODY_BYTES_MAX: usize = RECORD_HEADER_BYTES + RECORD_BODY_BYTES_MAX;

/// Size of a record's header.
pub(super) const RECORD_HEADER_BYTES: usize = 16;
/// Bytes of a record's body before compression.
pub(super) const RECORD_BODY_BYTES_MAX: usize = 256 << 20;
/// Version of a record's body.
pub(super) const RECORD_VERSION: u8 = 1;
/// The payload is compressed with zstd.
pub(super) const RECORD_FLAG_ZSTD: u8 = 1;

const _: () = assert!(FILE_HEADER_BYTES.is_multiple_of(FRAME_ALIGN));
const _: () = assert!(FRAME_HEADER_BYTES.is_multiple_of(FRAME_ALIGN));
const _: () = assert!(FRAME_BODY_BYTES_MAX < u32::MAX as usize);

/// Name of the log file with this number.
pub(super) fn file_name(number: u64) -> String {
    format!("{number:012}.wal")
}

/// Number of the log file with this name; `None` for other files.
pub(super) fn file_number(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".wal")?;
    let plain = digits.len() == 12 && digits.bytes().all(|b| b.is_ascii_digit());
    plain.then(|| digits.parse().ok())?
}

/// `bytes` rounded up to [`FRAME_ALIGN`].
pub(super) fn padded(bytes: usize) -> usize {
    bytes.next_multiple_of(FRAME_ALIGN)
}

fn le_u32(bytes: &[u8], at: usize) -> u32 {
    let taken = bytes.get(at..).and_then(|b| b.first_chunk());
    u32::from_le_bytes(*taken.unwrap_or(&[0; 4]))
}

fn le_u64(bytes: &[u8], at: usize) -> u64 {
    let taken = bytes.get(at..).and_then(|b| b.first_chunk());
    u64::from_le_bytes(*taken.unwrap_or(&[0; 8]))
}

/// What a log file says about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FileHeader {
    /// Files are numbered without gaps.
    pub(super) number: u64,
    /// Sequence number of the first record.
    pub(super) first_sequence: u64,
    /// Mixed into the checksums of the frame headers, so that neither bytes of another file nor
    /// bytes that a client smuggled into a payload can pass for a frame.
    pub(super) salt: u64,
    /// Whether [`FILE_FLAG_PREALLOCATED`] holds.
    pub(super) preallocated: bool,
}

impl FileHeader {
    pub(super) fn encode(&self) -> [u8; FILE_HEADER_BYTES] {
        let mut bytes = [0; FILE_HEADER_BYTES];
        let flags = u32::from(self.preallocated) * FILE_FLAG_PREALLOCATED;
        bytes[..8].copy_from_slice(&FILE_MAGIC);
        bytes[8..12].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
        bytes[12..16].copy_from_slice(&flags.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.number.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.first_sequence.to_le_bytes());
        bytes[32..40].copy_from_slice(&self.salt.to_le_bytes());
        let crc = crc32c::crc32c(&bytes[..FILE_HEADER_BYTES - 4]);
        bytes[FILE_HEADER_BYTES - 4..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// The header, or the offset, the expectation and what stood there instead.
    pub(super) fn decode(bytes: &[u8]) -> Result<Self, (u64, String, String)> {
        let Some(bytes) = bytes.first_chunk::<FILE_HEADER_BYTES>() else {
            let found = format!("{} bytes", bytes.len());
            return Err((0, format!("a header of {FILE_HEADER_BYTES} bytes"), found));
        };
        if bytes[..8] != FILE_MAGIC {
            let found = format!("{:02x?}", &bytes[..8]);
            return Err((0, "the magic of a log file".into(), found));
        }
        let version = le_u32(bytes, 8);
        if version != FORMAT_VERSION {
            let found = format!("version {version}");
            return Err((8, format!("version {FORMAT_VERSION}"), found));
        }
        let (stored, computed) = (
            le_u32(bytes, FILE_HEADER_BYTES - 4),
            crc32c::crc32c(&bytes[..FILE_HEADER_BYTES - 4]),
        );
        if stored != computed {
            let expected = format!("header checksum {computed:08x}");
            return Err((
                FILE_HEADER_BYTES as u64 - 4,
                expected,
                format!("{stored:08x}"),
            ));
        }
        let flags = le_u32(bytes, 12);
        let reserved = &bytes[40..FILE_HEADER_BYTES - 4];
        if flags & !FILE_FLAG_PREALLOCATED != 0 || reserved.iter().any(|b| *b != 0) {
            let found = format!("flags {flags:#x}");
            return Err((12, "known flags and zeros".into(), found));
        }
        Ok(Self {
            number: le_u64(bytes, 16),
            first_sequence: le_u64(bytes, 24),
            salt: le_u64(bytes, 32),
            preallocated: flags & FILE_FLAG_PREALLOCATED != 0,
        })
    }
}

/// What follows a frame header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum FrameKind {
    /// Records of one group commit.
    Commit = 1,
    /// Nothing yet: everything before was written completely.
    Marker = 2,
    /// Nothing ever: the log goes on in the next file.
    End = 3,
}

/// The head of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FrameHeader {
    pub(super) kind: FrameKind,
    /// Bytes of the records, padding not counted.
    pub(super) body_bytes: u32,
    pub(super) record_count: u32,
    /// Sequence number of the first record; for markers and ends, of the next record.
    pub(super) first_sequence: u64,
    /// Everything up to this sequence number was durable before this frame was written.
    pub(super) synced_sequence: u64,
    /// Checksum over the headers of the records (each covers its payload).
    pub(super) records_crc: u32,
}

impl FrameHeader {
    /// A frame without records.
    pub(super) fn bare(kind: FrameKind, next_sequence: u64, synced_sequence: u64) -> Self {
        Self {
            kind,
            body_bytes: 0,
            record_count: 0,
            first_sequence: next_sequence,
            synced_sequence,
            records_crc: 0,
        }
    }

    fn crc(bytes: &[u8; FRAME_HEADER_BYTES], salt: u64) -> u32 {
        let seed = crc32c::crc32c(&salt.to_le_bytes());
        crc32c::crc32c_append(seed, &bytes[..FRAME_HEADER_BYTES - 4])
    }

    pub(super) fn encode(&self, salt: u64) -> [u8; FRAME_HEADER_BYTES] {
        let mut bytes = [0; FRAME_HEADER_BYTES];
        bytes[..4].copy_from_slice(&FRAME_MAGIC);
        bytes[4] = self.kind as u8;
        bytes[8..12].copy_from_slice(&self.body_bytes.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.record_count.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.first_sequence.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.synced_sequence.to_le_bytes());
        bytes[32..36].copy_from_slice(&self.records_crc.to_le_bytes());
        let crc = Self::crc(&bytes, salt);
        bytes[36..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// The header, if these bytes are one of a file with this salt.
    pub(super) fn decode(bytes: &[u8], salt: u64) -> Option<Self> {
        let bytes = bytes.first_chunk::<FRAME_HEADER_BYTES>()?;
        if bytes[..4] != FRAME_MAGIC || bytes[5..8] != [0; 3] {
            return None;
        }
        if le_u32(bytes, 36) != Self::crc(bytes, salt) {
            return None;
        }
        let kind = match bytes[4] {
            1 => FrameKind::Commit,
            2 => FrameKind::Marker,
            3 => FrameKind::End,
            _ => return None,
        };
        Some(Self {
            kind,
            body_bytes: le_u32(bytes, 8),
            record_count: le_u32(bytes, 12),
            first_sequence: le_u64(bytes, 16),
            synced_sequence: le_u64(bytes, 24),
            records_crc: le_u32(bytes, 32),
        })
    }

    /// Bytes from the start of this frame to the next.
    pub(super) fn frame_bytes(&self) -> usize {
        padded(FRAME_HEADER_BYTES + self.body_bytes as usize)
    }
}

/// The head of a record inside a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RecordHeader {
    /// Bytes that follow.
    pub(super) payload_bytes: u32,
    /// Bytes of the body once decompressed.
    pub(super) body_bytes: u32,
    pub(super) flags: u8,
    /// Checksum over the fields above and the payload.
    pub(super) crc: u32,
}

impl RecordHeader {
    /// The header of a payload.
    pub(super) fn of(payload: &[u8], body_bytes: u32, flags: u8) -> [u8; RECORD_HEADER_BYTES] {
        let mut bytes = [0; RECORD_HEADER_BYTES];
        bytes[..4].copy_from_slice(&(payload.len() as u32).to_le_bytes());
        bytes[4..8].copy_from_slice(&body_bytes.to_le_bytes());
        bytes[8] = RECORD_VERSION;
        bytes[9] = flags;
        let crc = crc32c::crc32c_append(crc32c::crc32c(&bytes[..12]), payload);
        bytes[12..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// Splits a record off `bytes`: its header and payload, checked, and what follows.
    pub(super) fn split(bytes: &[u8]) -> Option<(Self, &[u8], &[u8])> {
        let (head, rest) = bytes.split_first_chunk::<RECORD_HEADER_BYTES>()?;
        let header = Self {
            payload_bytes: le_u32(head, 0),
            body_bytes: le_u32(head, 4),
            flags: head[9],
            crc: le_u32(head, 12),
        };
        let (payload, rest) = rest.split_at_checked(header.payload_bytes as usize)?;
        let known = head[8] == RECORD_VERSION
            && header.flags & !RECORD_FLAG_ZSTD == 0
            && head[10..12] == [0; 2]
            && header.body_bytes as usize <= RECORD_BODY_BYTES_MAX;
        let crc = crc32c::crc32c_append(crc32c::crc32c(&head[..12]), payload);
        (known && crc == header.crc).then_some((header, payload, rest))
    }
}

/// Checks a frame's body against its header: every record whole and right.
pub(super) fn body_is_right(header: &FrameHeader, body: &[u8]) -> bool {
    let mut rest = body;
    let mut crc = 0;
    for _ in 0..header.record_count {
        let head = rest.get(..RECORD_HEADER_BYTES).unwrap_or(&[]);
        let Some((_, _, after)) = RecordHeader::split(rest) else {
            return false;
        };
        crc = crc32c::crc32c_append(crc, head);
        rest = after;
    }
    rest.is_empty() && crc == header.records_crc
}
