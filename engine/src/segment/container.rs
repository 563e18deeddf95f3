//! Writing the container: header, sections one after the other, page checksums, section table,
//! trailer. Bytes go out as they come, so that memory stays bounded whatever the size of the file.

use crate::error::Result;
use crate::model::Signal;

use super::format::{
    END_MAGIC, FORMAT_VERSION, HEADER_CRC_AT, HEADER_SIGNAL_AT, HEADER_SIZE, HEADER_VERSION_AT,
    MAGIC, PAGE_SIZE, SectionKind, TRAILER_BODY_AT, TRAILER_CRC_AT, TRAILER_MAGIC_AT,
    TRAILER_SECTIONS_AT, TRAILER_SIGNAL_AT, TRAILER_SIZE, TRAILER_VERSION_AT,
};

/// Where the bytes of a segment go, in order.
pub trait SegmentSink {
    /// Takes all of `bytes`.
    ///
    /// # Errors
    /// Whatever the medium says; the segment is then incomplete and must be thrown away.
    fn append(&mut self, bytes: &[u8]) -> Result<()>;
}

impl SegmentSink for Vec<u8> {
    fn append(&mut self, bytes: &[u8]) -> Result<()> {
        self.extend_from_slice(bytes);
        Ok(())
    }
}

impl<S: SegmentSink + ?Sized> SegmentSink for &mut S {
    fn append(&mut self, bytes: &[u8]) -> Result<()> {
        (**self).append(bytes)
    }
}

impl<S: SegmentSink + ?Sized> SegmentSink for Box<S> {
    fn append(&mut self, bytes: &[u8]) -> Result<()> {
        (**self).append(bytes)
    }
}

/// What the manifest remembers of a finished file, to notice a missing, cut or swapped one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileIdentity {
    /// Bytes of the file.
    pub length: u64,
    /// CRC32C over the page checksums, the section table and the trailer: stands for the whole file.
    pub checksum: u32,
}

struct Section {
    kind: SectionKind,
    offset: u64,
    length: u64,
}

/// Writes a segment section by section.
pub(crate) struct ContainerWriter<S> {
    sink: S,
    signal: Signal,
    /// Bytes of the open page that are not handed to the sink yet.
    page: Vec<u8>,
    /// Bytes handed in so far.
    offset: u64,
    page_crcs: Vec<u8>,
    sections: Vec<Section>,
}

impl<S: SegmentSink> ContainerWriter<S> {
    /// Starts a file with its header.
    pub(crate) fn new(sink: S, signal: Signal) -> Result<Self> {
        let mut header = [0_u8; HEADER_SIZE];
        header[..MAGIC.len()].copy_from_slice(&MAGIC);
        header[HEADER_VERSION_AT..][..2].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
        header[HEADER_SIGNAL_AT] = signal as u8;
        let crc = crc32c::crc32c(&header[..HEADER_CRC_AT]);
        header[HEADER_CRC_AT..].copy_from_slice(&crc.to_le_bytes());
        let mut writer = Self {
            sink,
            signal,
            page: Vec::with_capacity(PAGE_SIZE),
            offset: 0,
            page_crcs: Vec::new(),
            sections: Vec::new(),
        };
        writer.put(&header)?;
        Ok(writer)
    }

    /// Starts the next section; the one before ends here.
    pub(crate) fn begin(&mut self, kind: SectionKind) {
        debug_assert!(
            self.sections.iter().all(|s| s.kind != kind),
            "bug: section {kind:?} twice"
        );
        self.sections.push(Section {
            kind,
            offset: self.offset,
            length: 0,
        });
    }

    /// Appends to the open section.
    pub(crate) fn append(&mut self, bytes: &[u8]) -> Result<()> {
        let section = self.sections.last_mut().expect("bug: no section is open");
        section.length += bytes.len() as u64;
        self.put(bytes)
    }

    /// Bytes in the open section so far.
    pub(crate) fn section_length(&self) -> u64 {
        self.sections.last().map_or(0, |s| s.length)
    }

    /// Writes a whole section; an empty one is left out, and reads back as empty.
    pub(crate) fn section(&mut self, kind: SectionKind, bytes: &[u8]) -> Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        self.begin(kind);
        self.append(bytes)
    }

    fn put(&mut self, mut bytes: &[u8]) -> Result<()> {
        self.offset += bytes.len() as u64;
        while !bytes.is_empty() {
            let room = PAGE_SIZE - self.page.len();
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            self.page.extend_from_slice(now);
            bytes = later;
            if self.page.len() == PAGE_SIZE {
                self.close_page()?;
            }
        }
        Ok(())
    }

    fn close_page(&mut self) -> Result<()> {
        let crc = crc32c::crc32c(&self.page);
        self.page_crcs.extend_from_slice(&crc.to_le_bytes());
        self.sink.append(&self.page)?;
        self.page.clear();
        Ok(())
    }

    /// Writes checksums, section table and trailer.
    pub(crate) fn finish(mut self) -> Result<(S, FileIdentity)> {
        let body_length = self.offset;
        if !self.page.is_empty() {
            self.close_page()?;
        }
        let mut tail = std::mem::take(&mut self.page_crcs);
        for section in &self.sections {
            tail.extend_from_slice(&(section.kind as u32).to_le_bytes());
            tail.extend_from_slice(&0_u32.to_le_bytes());
            tail.extend_from_slice(&section.offset.to_le_bytes());
            tail.extend_from_slice(&section.length.to_le_bytes());
        }
        let mut trailer = [0_u8; TRAILER_SIZE];
        let section_count = self.sections.len() as u32;
        trailer[TRAILER_BODY_AT..][..8].copy_from_slice(&body_length.to_le_bytes());
        trailer[TRAILER_SECTIONS_AT..][..4].copy_from_slice(&section_count.to_le_bytes());
        trailer[TRAILER_VERSION_AT..][..2].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
        trailer[TRAILER_SIGNAL_AT] = self.signal as u8;
        trailer[TRAILER_MAGIC_AT..].copy_from_slice(&END_MAGIC);
        let crc = crc32c::crc32c_append(crc32c::crc32c(&tail), &trailer[..TRAILER_CRC_AT]);
        trailer[TRAILER_CRC_AT..][..4].copy_from_slice(&crc.to_le_bytes());
        tail.extend_from_slice(&trailer);
        self.sink.append(&tail)?;
        let identity = FileIdentity {
            length: body_length + tail.len() as u64,
            checksum: crc,
        };
        Ok((self.sink, identity))
    }
}
