//! Reading the container: every byte handed out has passed its checksum.
//!
//! [`SegmentFile::open`] checks header, trailer, page checksums and section table, a cost that grows
//! with 1/4096 of the file. Pages are checked when they are first touched and remembered in a bitmap
//! (one bit for 16 KiB), so that opening a large segment reads next to nothing of it.

use std::collections::HashSet;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::error::{Corruption, EngineError, Result};
use crate::model::Signal;

use super::container::FileIdentity;
use super::format::{
    END_MAGIC, FILE_SIZE_MIN, FORMAT_VERSION, HEADER_CRC_AT, HEADER_RESERVED_AT, HEADER_SIGNAL_AT,
    HEADER_SIZE, HEADER_VERSION_AT, MAGIC, PAGE_CRC_SIZE, PAGE_SIZE, SECTION_COUNT_MAX,
    SECTION_ENTRY_SIZE, SectionKind, TRAILER_BODY_AT, TRAILER_CRC_AT, TRAILER_MAGIC_AT,
    TRAILER_SECTIONS_AT, TRAILER_SIGNAL_AT, TRAILER_SIZE, TRAILER_VERSION_AT,
};
use super::wire::Cursor;

/// The bytes of a segment file: a memory map, or a vector in tests and in-memory stores.
pub type SegmentBytes = Arc<dyn AsRef<[u8]> + Send + Sync>;

/// Where a section lies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Section {
    /// Offset in the file.
    pub offset: u64,
    /// Bytes.
    pub length: u64,
}

/// An open segment file of any signal.
pub struct SegmentFile {
    path: PathBuf,
    bytes: SegmentBytes,
    /// Names this open file in caches; never used twice in a process.
    uid: u64,
    version: u16,
    signal: Signal,
    identity: FileIdentity,
    /// Bytes before the page checksums.
    body_length: usize,
    sections: Vec<(SectionKind, Section)>,
    /// Bit n: page n has passed its checksum.
    checked: Box<[AtomicU64]>,
}

impl fmt::Debug for SegmentFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SegmentFile")
            .field("path", &self.path)
            .field("signal", &self.signal)
            .field("identity", &self.identity)
            .finish_non_exhaustive()
    }
}

impl SegmentFile {
    /// Opens the bytes of a file. `path` is for error messages.
    ///
    /// # Errors
    /// [`EngineError::Corruption`] when header, trailer or tables are damaged or of a version that
    /// this code does not know.
    pub fn open(bytes: SegmentBytes, path: impl Into<PathBuf>) -> Result<Self> {
        static NEXT_UID: AtomicU64 = AtomicU64::new(1);
        let path = path.into();
        let data = (*bytes).as_ref();
        let tail = Tail::read(data, &path)?;
        let page_count = tail.body_length.div_ceil(PAGE_SIZE);
        let checked = (0..page_count.div_ceil(64))
            .map(|_| AtomicU64::new(0))
            .collect();
        Ok(Self {
            path,
            uid: NEXT_UID.fetch_add(1, Ordering::Relaxed),
            version: tail.version,
            signal: tail.signal,
            identity: FileIdentity {
                length: data.len() as u64,
                checksum: tail.checksum,
            },
            body_length: tail.body_length,
            sections: tail.sections,
            checked,
            bytes,
        })
    }

    /// The path it was opened with.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The format version that it was written in.
    #[must_use]
    pub fn version(&self) -> u16 {
        self.version
    }

    /// The signal it holds.
    #[must_use]
    pub fn signal(&self) -> Signal {
        self.signal
    }

    /// Length and checksum, to be compared with the manifest's.
    #[must_use]
    pub fn identity(&self) -> FileIdentity {
        self.identity
    }

    /// Estimated bytes held in memory besides the file's own: path, marks of checked pages, sections,
    /// names of labels.
    pub(crate) fn heap_bytes(&self) -> usize {
        let names = self.section(SectionKind::LabelNames).length as usize;
        let sections = self.sections.len() * size_of::<(SectionKind, Section)>();
        self.path.as_os_str().len() + self.checked.len() * 8 + sections + 2 * names
    }

    /// A number that no other open file of this process has.
    #[must_use]
    pub fn uid(&self) -> u64 {
        self.uid
    }

    /// The sections in file order.
    #[must_use]
    pub fn sections(&self) -> &[(SectionKind, Section)] {
        &self.sections
    }

    /// Where a section lies; an absent one is empty.
    #[must_use]
    pub fn section(&self, kind: SectionKind) -> Section {
        let found = self.sections.iter().find(|(k, _)| *k == kind);
        found.map(|(_, section)| *section).unwrap_or_default()
    }

    /// The whole file as it is, for copying.
    pub(crate) fn unchecked_bytes(&self) -> &[u8] {
        (*self.bytes).as_ref()
    }

    /// Bytes `offset..offset + length` of the file, checked.
    ///
    /// # Errors
    /// [`EngineError::Corruption`] when they are not all there or a page fails its checksum.
    #[inline]
    pub fn get(&self, offset: u64, length: usize) -> Result<&[u8]> {
        let range = usize::try_from(offset)
            .ok()
            .and_then(|start| Some(start..start.checked_add(length)?))
            .filter(|range| range.end <= self.body_length);
        let Some(range) = range else {
            return Err(self.corrupt(
                offset,
                &format!("{length} bytes inside the {} of the body", self.body_length),
                "an offset outside",
            ));
        };
        if length == 0 {
            return Ok(&[]);
        }
        let data = (*self.bytes).as_ref();
        for page in range.start / PAGE_SIZE..=(range.end - 1) / PAGE_SIZE {
            let bit = 1_u64 << (page % 64);
            // The bitmap only saves work: two threads may both check a page, and the bytes never
            // change, so no ordering is needed.
            let seen = self.checked.get(page / 64);
            if seen.is_none_or(|word| word.load(Ordering::Relaxed) & bit == 0) {
                self.check_page(data, page)?;
                if let Some(word) = seen {
                    word.fetch_or(bit, Ordering::Relaxed);
                }
            }
        }
        data.get(range).ok_or_else(|| {
            self.corrupt(
                offset,
                "a file that keeps its length",
                "fewer bytes than at opening",
            )
        })
    }

    /// Bytes of a section, checked.
    ///
    /// # Errors
    /// As [`SegmentFile::get`]; also when the range leaves the section.
    #[inline]
    pub fn get_in(&self, section: Section, offset: u64, length: usize) -> Result<&[u8]> {
        let end = offset.checked_add(length as u64);
        if end.is_none_or(|end| end > section.length) {
            return Err(self.corrupt(
                section.offset.saturating_add(offset),
                &format!("{length} bytes inside a section of {}", section.length),
                "an offset outside",
            ));
        }
        self.get(section.offset + offset, length)
    }

    /// A whole section, checked; empty when absent.
    ///
    /// # Errors
    /// As [`SegmentFile::get`].
    pub fn section_bytes(&self, kind: SectionKind) -> Result<&[u8]> {
        let section = self.section(kind);
        self.get(section.offset, section.length as usize)
    }

    /// A cursor over a whole section.
    pub(crate) fn cursor(&self, kind: SectionKind) -> Result<Cursor<'_>> {
        let section = self.section(kind);
        Ok(Cursor::new(self, self.section_bytes(kind)?, section.offset))
    }

    fn check_page(&self, data: &[u8], page: usize) -> Result<()> {
        let start = page * PAGE_SIZE;
        let end = (start + PAGE_SIZE).min(self.body_length);
        let stored = data.get(self.body_length..).unwrap_or(&[]);
        check_page(page, data.get(start..end), stored, &self.path)
    }

    /// Checks every page, also those that passed before.
    ///
    /// # Errors
    /// The first page that fails.
    pub fn check_all_pages(&self) -> Result<()> {
        let data = (*self.bytes).as_ref();
        (0..self.body_length.div_ceil(PAGE_SIZE)).try_for_each(|page| self.check_page(data, page))
    }

    /// An error about this file.
    #[cold]
    pub(crate) fn corrupt(&self, offset: u64, expected: &str, found: &str) -> EngineError {
        corruption(&self.path, offset, expected, found)
    }
}

/// Compares a page with its checksum among all page checksums.
pub(super) fn check_page(
    page: usize,
    bytes: Option<&[u8]>,
    checksums: &[u8],
    path: &Path,
) -> Result<()> {
    let found = bytes.map(crc32c::crc32c);
    let stored = checksums.get(page * PAGE_CRC_SIZE..);
    let expected = stored.and_then(|bytes| bytes.first_chunk());
    let expected = expected.map(|bytes| u32::from_le_bytes(*bytes));
    if found.is_some() && found == expected {
        return Ok(());
    }
    Err(corruption(
        path,
        (page * PAGE_SIZE) as u64,
        &format!("checksum {:08x} of page {page}", expected.unwrap_or(0)),
        &format!("{:08x}", found.unwrap_or(0)),
    ))
}

#[cold]
fn corruption(path: &Path, offset: u64, expected: &str, found: &str) -> EngineError {
    EngineError::Corruption(Corruption {
        path: path.to_owned(),
        offset,
        expected: expected.to_owned(),
        found: found.to_owned(),
    })
}

/// What header, checksums, section table and trailer say.
pub(super) struct Tail {
    version: u16,
    signal: Signal,
    pub(super) checksum: u32,
    pub(super) body_length: usize,
    sections: Vec<(SectionKind, Section)>,
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    let field = bytes.get(at..).and_then(|b| b.first_chunk());
    u16::from_le_bytes(*field.expect("bug: fixed-size structure too short"))
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let field = bytes.get(at..).and_then(|b| b.first_chunk());
    u32::from_le_bytes(*field.expect("bug: fixed-size structure too short"))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let field = bytes.get(at..).and_then(|b| b.first_chunk());
    u64::from_le_bytes(*field.expect("bug: fixed-size structure too short"))
}

impl Tail {
    fn read(data: &[u8], path: &Path) -> Result<Self> {
        check_length(data.len(), path)?;
        let (header, rest) = data.split_at(HEADER_SIZE);
        let (_, trailer) = rest.split_at(rest.len() - TRAILER_SIZE);
        let ends = Ends::read(header, trailer, data.len(), path)?;
        ends.tail(&data[ends.body_length..], path)
    }
}

/// Refuses files that are too short to have two ends.
pub(super) fn check_length(length: usize, path: &Path) -> Result<()> {
    if length >= FILE_SIZE_MIN {
        return Ok(());
    }
    Err(corruption(
        path,
        0,
        &format!("a segment of at least {FILE_SIZE_MIN} bytes"),
        &format!("{length} bytes"),
    ))
}

/// What header and trailer say; the trailer's checksum is not compared yet.
pub(super) struct Ends {
    signal: Signal,
    version: u16,
    /// Bytes before the page checksums.
    pub(super) body_length: usize,
    section_count: usize,
    checksum: u32,
    trailer_at: usize,
}

impl Ends {
    /// Reads `HEADER_SIZE` and `TRAILER_SIZE` bytes of a file of `length` bytes.
    pub(super) fn read(header: &[u8], trailer: &[u8], length: usize, path: &Path) -> Result<Self> {
        let signal = read_header(header, path)?;
        let trailer_at = length - TRAILER_SIZE;
        if trailer[TRAILER_MAGIC_AT..] != END_MAGIC {
            return Err(corruption(
                path,
                (trailer_at + TRAILER_MAGIC_AT) as u64,
                "the end magic",
                "other bytes: the file is cut or damaged",
            ));
        }
        let body_length = u64_at(trailer, TRAILER_BODY_AT);
        let section_count = u32_at(trailer, TRAILER_SECTIONS_AT) as usize;
        let body = usize::try_from(body_length).ok().filter(|body| {
            let crcs = body.div_ceil(PAGE_SIZE).checked_mul(PAGE_CRC_SIZE);
            let table_at = crcs.and_then(|crcs| body.checked_add(crcs));
            let table = section_count.checked_mul(SECTION_ENTRY_SIZE);
            let end = table_at.and_then(|at| at.checked_add(table?));
            end == Some(trailer_at) && *body >= HEADER_SIZE && section_count <= SECTION_COUNT_MAX
        });
        let Some(body_length) = body else {
            return Err(corruption(
                path,
                trailer_at as u64,
                &format!("a body length and section count that fit {length} bytes"),
                &format!("{body_length} and {section_count}"),
            ));
        };
        Ok(Self {
            signal,
            version: u16_at(header, HEADER_VERSION_AT),
            body_length,
            section_count,
            checksum: u32_at(trailer, TRAILER_CRC_AT),
            trailer_at,
        })
    }

    /// Checks and reads the bytes behind the body.
    pub(super) fn tail(&self, bytes: &[u8], path: &Path) -> Result<Tail> {
        let bad =
            |at: usize, expected: &str, found: &str| corruption(path, at as u64, expected, found);
        let (tables, trailer) = bytes.split_at(self.trailer_at - self.body_length);
        let found = crc32c::crc32c_append(crc32c::crc32c(tables), &trailer[..TRAILER_CRC_AT]);
        if self.checksum != found {
            return Err(bad(
                self.body_length,
                &format!("tail checksum {:08x}", self.checksum),
                &format!("{found:08x}"),
            ));
        }
        if trailer[TRAILER_CRC_AT + 4..TRAILER_MAGIC_AT] != [0; 4]
            || trailer[TRAILER_SIGNAL_AT + 1] != 0
        {
            return Err(bad(
                self.trailer_at,
                "zero in reserved bytes",
                "other bytes",
            ));
        }
        if u16_at(trailer, TRAILER_VERSION_AT) != self.version
            || trailer[TRAILER_SIGNAL_AT] != self.signal as u8
        {
            return Err(bad(
                self.trailer_at,
                "the header's version and signal",
                "others: the file is made of two",
            ));
        }
        let table_bytes = self.section_count * SECTION_ENTRY_SIZE;
        let (_, table) = tables.split_at(tables.len() - table_bytes);
        let table_at = self.trailer_at - table_bytes;
        Ok(Tail {
            version: self.version,
            signal: self.signal,
            checksum: self.checksum,
            body_length: self.body_length,
            sections: read_sections(table, table_at, self.body_length, path)?,
        })
    }
}

fn read_header(header: &[u8], path: &Path) -> Result<Signal> {
    if header[..MAGIC.len()] != MAGIC {
        return Err(corruption(path, 0, "the segment magic", "other bytes"));
    }
    let expected = u32_at(header, HEADER_CRC_AT);
    let found = crc32c::crc32c(&header[..HEADER_CRC_AT]);
    if expected != found {
        return Err(corruption(
            path,
            0,
            &format!("header checksum {expected:08x}"),
            &format!("{found:08x}"),
        ));
    }
    let version = u16_at(header, HEADER_VERSION_AT);
    if !(1..=FORMAT_VERSION).contains(&version) {
        return Err(corruption(
            path,
            HEADER_VERSION_AT as u64,
            &format!("a version from 1 to {FORMAT_VERSION}"),
            &format!("{version}: written by a newer chronolith?"),
        ));
    }
    if header[HEADER_RESERVED_AT..HEADER_CRC_AT]
        .iter()
        .any(|b| *b != 0)
    {
        return Err(corruption(
            path,
            HEADER_RESERVED_AT as u64,
            "zero in reserved bytes",
            "other bytes",
        ));
    }
    let number = header[HEADER_SIGNAL_AT];
    Signal::from_u8(number).ok_or_else(|| {
        corruption(
            path,
            HEADER_SIGNAL_AT as u64,
            "a signal from 1 to 3",
            &number.to_string(),
        )
    })
}

fn read_sections(
    table: &[u8],
    table_at: usize,
    body_length: usize,
    path: &Path,
) -> Result<Vec<(SectionKind, Section)>> {
    let mut sections = Vec::with_capacity(table.len() / SECTION_ENTRY_SIZE);
    let mut seen = HashSet::new();
    let mut previous_end = HEADER_SIZE as u64;
    for (index, entry) in table.chunks_exact(SECTION_ENTRY_SIZE).enumerate() {
        let bad = |expected: &str, found: String| {
            let at = table_at + index * SECTION_ENTRY_SIZE;
            corruption(path, at as u64, expected, &found)
        };
        let number = u32_at(entry, 0);
        let kind = SectionKind::from_u32(number)
            .filter(|kind| seen.insert(*kind))
            .ok_or_else(|| bad("a section kind, once", number.to_string()))?;
        let section = Section {
            offset: u64_at(entry, 8),
            length: u64_at(entry, 16),
        };
        let end = section.offset.checked_add(section.length);
        let inside = end.is_some_and(|end| end <= body_length as u64);
        if u32_at(entry, 4) != 0 || section.offset != previous_end || !inside {
            return Err(bad(
                "a section that starts where the one before ends, inside the body",
                format!("{section:?}"),
            ));
        }
        previous_end = section.offset + section.length;
        sections.push((kind, section));
    }
    Ok(sections)
}
