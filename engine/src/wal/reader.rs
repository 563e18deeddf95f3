//! Walks over the frames of one log file and tells a torn tail from damage.

use std::path::Path;

use super::format::{
    FILE_HEADER_BYTES, FRAME_ALIGN, FRAME_BODY_BYTES_MAX, FRAME_HEADER_BYTES, FRAME_MAGIC,
    FileHeader, FrameHeader, FrameKind, body_is_right, file_name,
};
use crate::error::{Corruption, EngineError, Result};
use crate::io::{File, FileSystem};

/// Bytes read at a time when looking for evidence behind a bad frame.
const SEARCH_CHUNK_BYTES: usize = 1 << 20;

/// What comes next in a file.
#[derive(Debug)]
pub(super) enum Step {
    /// A whole group commit; `first_sequence` is that of its first record.
    Frame { first_sequence: u64, body: Vec<u8> },
    /// The log goes on in the next file.
    End,
    /// Nothing behind: zeros, a marker or the end of the file.
    Clean,
    /// Bytes of a write that was never completed, and never acknowledged.
    Torn,
}

/// Reads one file.
#[derive(Debug)]
pub(super) struct LogReader {
    file: Box<dyn File>,
    header: FileHeader,
    /// Where the next frame starts.
    position: u64,
    next_sequence: u64,
    /// Everything below this offset is known to have been durable while it was written.
    synced_position: u64,
    /// First sequence number and end of each frame that is not known to have been durable yet.
    unsynced: Vec<(u64, u64)>,
}

fn corruption(path: &Path, offset: u64, expected: String, found: String) -> EngineError {
    EngineError::Corruption(Corruption {
        path: path.to_owned(),
        offset,
        expected,
        found,
    })
}

impl LogReader {
    /// Opens file `number` and checks its header.
    pub(super) fn open(fs: &dyn FileSystem, dir: &Path, number: u64) -> Result<Self> {
        let path = dir.join(file_name(number));
        let reader = Self::from_file(fs.open_read(&path)?)?;
        if reader.header.number != number {
            let found = format!("number {}", reader.header.number);
            return Err(corruption(&path, 16, format!("number {number}"), found));
        }
        Ok(reader)
    }

    /// Reads a file of any name and number.
    pub(super) fn from_file(file: Box<dyn File>) -> Result<Self> {
        let path = file.path();
        let mut bytes = [0; FILE_HEADER_BYTES];
        let read = file.read_at(0, &mut bytes)?;
        let header = FileHeader::decode(&bytes[..read])
            .map_err(|(offset, expected, found)| corruption(path, offset, expected, found))?;
        Ok(Self {
            file,
            header,
            position: FILE_HEADER_BYTES as u64,
            next_sequence: header.first_sequence,
            synced_position: FILE_HEADER_BYTES as u64,
            unsynced: Vec::new(),
        })
    }

    pub(super) fn header(&self) -> &FileHeader {
        &self.header
    }

    pub(super) fn path(&self) -> &Path {
        self.file.path()
    }

    /// Offset of the next frame.
    pub(super) fn position(&self) -> u64 {
        self.position
    }

    /// Sequence number of the next record.
    pub(super) fn next_sequence(&self) -> u64 {
        self.next_sequence
    }

    /// Frames from here on may have been read from the page cache only.
    pub(super) fn synced_position(&self) -> u64 {
        self.synced_position
    }

    fn corrupt(&self, offset: u64, expected: String, found: &str) -> EngineError {
        corruption(self.path(), offset, expected, found.to_owned())
    }

    /// The header at the present position.
    fn frame_header(&self) -> Result<(Option<FrameHeader>, [u8; FRAME_HEADER_BYTES], usize)> {
        let mut bytes = [0; FRAME_HEADER_BYTES];
        let read = self.file.read_at(self.position, &mut bytes)?;
        let header = FrameHeader::decode(&bytes[..read], self.header.salt);
        Ok((header, bytes, read))
    }

    /// Reads the next frame.
    ///
    /// # Errors
    /// [`EngineError::Corruption`] when acknowledged bytes are damaged or cut off.
    pub(super) fn next(&mut self) -> Result<Step> {
        let length = self.file.length()?;
        let (header, bytes, read) = self.frame_header()?;
        if read < FRAME_HEADER_BYTES && self.header.preallocated {
            // The writer always keeps room for a marker behind the last frame.
            return Err(self.truncated(length));
        }
        let Some(header) = header.filter(|h| h.first_sequence == self.next_sequence) else {
            self.refuse_if_durable("something else")?;
            let clean = bytes[..read].iter().all(|b| *b == 0);
            return Ok(if clean { Step::Clean } else { Step::Torn });
        };
        match header.kind {
            FrameKind::Marker => {
                self.note_synced(header.synced_sequence);
                self.refuse_if_durable("a marker")?;
                Ok(Step::Clean)
            }
            FrameKind::End => {
                self.note_synced(header.synced_sequence);
                Ok(Step::End)
            }
            FrameKind::Commit => self.read_commit(&header, length),
        }
    }

    /// As [`LogReader::next`], but a frame counts only once a whole header follows it: the writer
    /// puts one there when the frame is as durable as it was promised to be.
    ///
    /// # Errors
    /// As [`LogReader::next`]; beside a live writer also in passing.
    pub(super) fn next_complete(&mut self) -> Result<Step> {
        let before = (self.position, self.next_sequence);
        let step = self.next()?;
        if matches!(step, Step::Frame { .. }) {
            let (follower, ..) = self.frame_header()?;
            if follower.is_none_or(|h| h.first_sequence != self.next_sequence) {
                (self.position, self.next_sequence) = before;
                self.unsynced.pop();
                return Ok(Step::Clean);
            }
        }
        Ok(step)
    }

    fn read_commit(&mut self, header: &FrameHeader, length: u64) -> Result<Step> {
        let end = self.position + header.frame_bytes() as u64;
        let room = if self.header.preallocated {
            FRAME_HEADER_BYTES as u64
        } else {
            0
        };
        if header.body_bytes as usize > FRAME_BODY_BYTES_MAX || header.record_count == 0 {
            self.refuse_if_durable("an impossible frame")?;
            return Ok(Step::Torn);
        }
        if end + room > length {
            if self.header.preallocated {
                return Err(self.truncated(length));
            }
            self.refuse_if_durable("a cut frame")?;
            return Ok(Step::Torn);
        }
        let mut body = vec![0; header.body_bytes as usize];
        let read = self
            .file
            .read_at(self.position + FRAME_HEADER_BYTES as u64, &mut body)?;
        if read < body.len() || !body_is_right(header, &body) {
            self.refuse_if_durable("a frame with a wrong checksum")?;
            return Ok(Step::Torn);
        }
        self.note_synced(header.synced_sequence);
        self.unsynced.push((self.next_sequence, end));
        self.position = end;
        self.next_sequence += u64::from(header.record_count);
        Ok(Step::Frame {
            first_sequence: header.first_sequence,
            body,
        })
    }

    /// Everything up to `sequence` was durable.
    fn note_synced(&mut self, sequence: u64) {
        while let Some((first, end)) = self.unsynced.first().copied() {
            let next = self.unsynced.get(1).map_or(self.next_sequence, |f| f.0);
            debug_assert!(first < next, "bug: an empty frame was accepted");
            if next > sequence.saturating_add(1) {
                break;
            }
            self.synced_position = end;
            self.unsynced.remove(0);
        }
    }

    fn truncated(&self, length: u64) -> EngineError {
        let expected = format!(
            "record {} or the mark that the log ends at byte {}",
            self.next_sequence, self.position
        );
        self.corrupt(length, expected, "the end of the file")
    }

    /// The bytes at the present position are no frame. If anything behind them claims that the
    /// record which should stand here had been durable, they are damage and no torn tail.
    fn refuse_if_durable(&self, found: &str) -> Result<()> {
        let mut buffer = vec![0; SEARCH_CHUNK_BYTES];
        let mut at = self.position;
        loop {
            let read = self.file.read_at(at, &mut buffer)?;
            let chunk = &buffer[..read];
            for start in (0..read).step_by(FRAME_ALIGN) {
                if !chunk[start..].starts_with(&FRAME_MAGIC) {
                    continue;
                }
                let header = FrameHeader::decode(&chunk[start..], self.header.salt);
                if header.is_some_and(|h| h.synced_sequence >= self.next_sequence) {
                    let expected = format!("record {}", self.next_sequence);
                    return Err(self.corrupt(self.position, expected, found));
                }
            }
            if read < buffer.len() {
                return Ok(());
            }
            // Overlap, so that a header across the border is seen whole.
            at += (read - FRAME_HEADER_BYTES) as u64;
        }
    }
}
