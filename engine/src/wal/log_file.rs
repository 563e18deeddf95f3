//! The files behind the writer: allocation, frames, markers, rotation. One thread, no queue.
//!
//! Order of steps that matter: a new file is complete (allocated, header written and synced) before
//! it gets its name, and its name is durable before a record goes into it. Space is allocated, and
//! the allocation synced, before a frame is written into it, so that a full disk is met before
//! anything is torn, and no frame of an intact file ever reaches the end of it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use super::WalOptions;
use super::format::{
    FILE_HEADER_BYTES, FRAME_HEADER_BYTES, FileHeader, FrameHeader, FrameKind, file_name, padded,
};
use super::record::EncodedRecord;
use super::stats::Counters;
use crate::error::EngineError;
use crate::io::{File, SharedFileSystem, TEMPORARY_SUFFIX};

/// Allocation in the small: for a file that has no record yet, and when a whole chunk does not fit
/// the medium any more.
const SMALL_ALLOCATION_BYTES: u64 = 4096;

/// Why something was not written.
#[derive(Debug)]
pub(super) enum Failure {
    /// Nothing changed; the same may succeed later.
    Retryable(EngineError),
    /// A sync failed: what is on the medium is not known any more.
    Final(EngineError),
}

type Outcome<T = ()> = Result<T, Failure>;

/// The file that takes frames.
#[derive(Debug)]
pub(super) struct LogFile {
    fs: SharedFileSystem,
    dir: PathBuf,
    options: WalOptions,
    counters: Arc<Counters>,
    file: Box<dyn File>,
    header: FileHeader,
    /// Where the next frame goes.
    position: u64,
    /// Length of the file.
    allocated: u64,
    next_sequence: u64,
    synced_sequence: u64,
    /// Bytes of a failed write may stand behind `position`.
    tail_is_torn: bool,
    buffer: Vec<u8>,
}

impl LogFile {
    /// Makes file `number` and opens it for records from `first_sequence` on.
    pub(super) fn create(
        fs: SharedFileSystem,
        dir: &Path,
        options: WalOptions,
        counters: Arc<Counters>,
        number: u64,
        first_sequence: u64,
    ) -> Outcome<Self> {
        let (file, header, allocated) = make_file(&fs, dir, &options, number, first_sequence)?;
        let log = Self {
            fs,
            dir: dir.to_owned(),
            options,
            counters,
            file,
            header,
            position: FILE_HEADER_BYTES as u64,
            allocated,
            next_sequence: first_sequence,
            synced_sequence: first_sequence - 1,
            tail_is_torn: false,
            buffer: Vec::new(),
        };
        log.publish_sequences();
        Ok(log)
    }

    /// Opens an existing file behind its last whole frame.
    ///
    /// What was read may have come from the page cache although its sync had failed, in this or an
    /// earlier process. So everything that is not known to be durable is written again, in place
    /// and byte for byte, and synced, before anything is built on it; what follows is cut off.
    pub(super) fn reopen(
        fs: SharedFileSystem,
        dir: &Path,
        options: WalOptions,
        counters: Arc<Counters>,
        at: &super::LogPosition,
    ) -> Outcome<Self> {
        let file = fs
            .open(&dir.join(file_name(at.header.number)))
            .map_err(Failure::Retryable)?;
        let mut log = Self {
            fs,
            dir: dir.to_owned(),
            options,
            counters,
            file,
            header: at.header,
            position: at.offset,
            allocated: 0,
            next_sequence: at.next_sequence,
            synced_sequence: at.header.first_sequence - 1,
            tail_is_torn: true,
            buffer: Vec::new(),
        };
        log.rewrite(at.synced_offset)?;
        log.cut_tail()?;
        log.sync()?;
        log.write_marker();
        Ok(log)
    }

    fn rewrite(&mut self, from: u64) -> Outcome {
        let mut offset = from;
        let mut buffer = vec![0; 1 << 20];
        while offset < self.position {
            let wanted = buffer
                .len()
                .min(usize::try_from(self.position - offset).unwrap_or(usize::MAX));
            let chunk = &mut buffer[..wanted];
            let read = self
                .file
                .read_at(offset, chunk)
                .map_err(Failure::Retryable)?;
            if read == 0 {
                break;
            }
            self.file
                .write_at(offset, &chunk[..read])
                .map_err(Failure::Retryable)?;
            offset += read as u64;
        }
        Ok(())
    }

    pub(super) fn number(&self) -> u64 {
        self.header.number
    }

    pub(super) fn position(&self) -> u64 {
        self.position
    }

    pub(super) fn next_sequence(&self) -> u64 {
        self.next_sequence
    }

    /// Whether something was written since the last sync.
    pub(super) fn has_unsynced(&self) -> bool {
        self.synced_sequence + 1 < self.next_sequence
    }

    /// Whether the file is as long as one should be.
    pub(super) fn is_full(&self) -> bool {
        self.position >= self.options.file_bytes
    }

    fn publish_sequences(&self) {
        let counters = &self.counters;
        counters
            .next_sequence
            .store(self.next_sequence, Ordering::Relaxed);
        counters
            .synced_sequence
            .store(self.synced_sequence, Ordering::Relaxed);
    }

    /// Writes one frame with these records; not synced. Returns the first sequence number.
    /// `with_marker` writes a marker behind it in the same call.
    pub(super) fn write_frame<'r>(
        &mut self,
        records: impl Iterator<Item = &'r EncodedRecord>,
        with_marker: bool,
    ) -> Outcome<u64> {
        if self.tail_is_torn {
            self.cut_tail()?;
        }
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.clear();
        buffer.resize(FRAME_HEADER_BYTES, 0);
        let mut record_count = 0;
        let mut records_crc = 0;
        for record in records {
            buffer.extend_from_slice(record.as_bytes());
            records_crc = crc32c::crc32c_append(records_crc, record.header_bytes());
            record_count += 1;
        }
        let first_sequence = self.next_sequence;
        let header = FrameHeader {
            kind: FrameKind::Commit,
            body_bytes: (buffer.len() - FRAME_HEADER_BYTES) as u32,
            record_count,
            first_sequence,
            synced_sequence: self.synced_sequence,
            records_crc,
        };
        buffer[..FRAME_HEADER_BYTES].copy_from_slice(&header.encode(self.header.salt));
        buffer.resize(padded(buffer.len()), 0);
        let frame_bytes = buffer.len() as u64;
        let next_sequence = first_sequence + u64::from(record_count);
        if with_marker {
            let marker = FrameHeader::bare(FrameKind::Marker, next_sequence, self.synced_sequence);
            buffer.extend_from_slice(&marker.encode(self.header.salt));
        }
        let written = self
            .reserve(frame_bytes + FRAME_HEADER_BYTES as u64)
            .and_then(|()| self.write(&buffer));
        let written_bytes = buffer.len() as u64;
        self.buffer = buffer;
        written?;
        self.position += frame_bytes;
        self.next_sequence = next_sequence;
        let counters = &self.counters;
        counters.commits.fetch_add(1, Ordering::Relaxed);
        counters
            .records
            .fetch_add(u64::from(record_count), Ordering::Relaxed);
        counters
            .bytes_written
            .fetch_add(written_bytes, Ordering::Relaxed);
        self.publish_sequences();
        Ok(first_sequence)
    }

    fn write(&mut self, bytes: &[u8]) -> Outcome {
        self.file.write_at(self.position, bytes).map_err(|error| {
            self.tail_is_torn = true;
            Failure::Retryable(error)
        })
    }

    /// Makes sure that `bytes` can be written at `position` without meeting a full disk.
    fn reserve(&mut self, bytes: u64) -> Outcome {
        let end = self.position + bytes;
        if !self.header.preallocated || end <= self.allocated {
            return Ok(());
        }
        let chunk = self.options.preallocate_bytes.max(SMALL_ALLOCATION_BYTES);
        let allocated = self
            .allocate(end.next_multiple_of(chunk))
            .or_else(|_| self.allocate(end.next_multiple_of(SMALL_ALLOCATION_BYTES)));
        if let Err(error) = allocated {
            // What was allocated in part is given back: others may need it more.
            let _ = self.file.truncate(self.allocated);
            return Err(Failure::Retryable(error));
        }
        // The new length must be durable before a frame lies across the old one.
        self.sync_file()
    }

    fn allocate(&mut self, length: u64) -> Result<(), EngineError> {
        let grown = self
            .file
            .preallocate(self.allocated, length - self.allocated)?;
        if !grown {
            let reason = std::io::Error::other("the file system stopped supporting allocation");
            return Err(EngineError::io(self.file.path(), reason));
        }
        self.allocated = length;
        Ok(())
    }

    /// Cuts off what a failed write left. The marker is written first, so that at no moment the
    /// file ends with its last frame.
    fn cut_tail(&mut self) -> Outcome {
        let cut = if self.header.preallocated {
            let length = self.position + FRAME_HEADER_BYTES as u64;
            self.put_bare(FrameKind::Marker)
                .and_then(|()| self.file.truncate(length))
                .map(|()| length)
        } else {
            self.file.truncate(self.position).map(|()| self.position)
        };
        self.allocated = cut.map_err(Failure::Retryable)?;
        self.tail_is_torn = false;
        Ok(())
    }

    fn put_bare(&self, kind: FrameKind) -> Result<(), EngineError> {
        let frame = FrameHeader::bare(kind, self.next_sequence, self.synced_sequence);
        self.file
            .write_at(self.position, &frame.encode(self.header.salt))
    }

    /// Notes behind the last frame how far everything is durable: it lets a reader tell later
    /// damage of the last frames from a torn tail, and a follower see that they are complete. Not
    /// synced, and nothing is lost with it.
    pub(super) fn write_marker(&mut self) {
        let bytes = FRAME_HEADER_BYTES as u64;
        if self.tail_is_torn || (self.header.preallocated && self.position + bytes > self.allocated)
        {
            return;
        }
        match self.put_bare(FrameKind::Marker) {
            Ok(()) => {
                self.counters
                    .bytes_written
                    .fetch_add(bytes, Ordering::Relaxed);
            }
            Err(error) => {
                self.tail_is_torn = true;
                tracing::warn!(%error, "cannot mark the end of the log");
            }
        }
    }

    /// Makes everything written durable.
    pub(super) fn sync(&mut self) -> Outcome {
        self.sync_file()?;
        self.synced_sequence = self.next_sequence - 1;
        self.publish_sequences();
        Ok(())
    }

    fn sync_file(&self) -> Outcome {
        let started = Instant::now();
        let synced = self.file.sync();
        self.counters.sync.record(started.elapsed());
        synced.map_err(Failure::Final)
    }

    /// Continues in a new file.
    pub(super) fn rotate(&mut self) -> Outcome {
        if self.tail_is_torn {
            self.cut_tail()?;
        }
        if self.has_unsynced() {
            self.sync()?;
        }
        let number = self.header.number + 1;
        let (file, header, allocated) = make_file(
            &self.fs,
            &self.dir,
            &self.options,
            number,
            self.next_sequence,
        )?;
        // With it a reader notices when the new file is missing; without it nothing else breaks.
        let ended = self.put_bare(FrameKind::End).and_then(|()| {
            self.file
                .truncate(self.position + FRAME_HEADER_BYTES as u64)
        });
        if let Err(error) = ended {
            tracing::warn!(%error, "cannot mark the end of a log file");
        }
        self.file = file;
        self.header = header;
        self.allocated = allocated;
        self.position = FILE_HEADER_BYTES as u64;
        Ok(())
    }
}

/// Makes a log file under its final name. The flag "preallocated" says whether the medium can.
fn make_file(
    fs: &SharedFileSystem,
    dir: &Path,
    options: &WalOptions,
    number: u64,
    first_sequence: u64,
) -> Outcome<(Box<dyn File>, FileHeader, u64)> {
    let path = dir.join(file_name(number));
    let temporary = dir.join(file_name(number) + TEMPORARY_SUFFIX);
    let made = write_new_file(fs, options, &temporary, number, first_sequence);
    let (file, header, allocated) = match made {
        Ok(made) => made,
        Err(failure) => {
            let _ = fs.remove(&temporary);
            return Err(failure);
        }
    };
    fs.rename(&temporary, &path).map_err(Failure::Retryable)?;
    fs.sync_dir(dir).map_err(Failure::Final)?;
    drop(file);
    let file = fs.open(&path).map_err(Failure::Final)?;
    Ok((file, header, allocated))
}

fn write_new_file(
    fs: &SharedFileSystem,
    options: &WalOptions,
    path: &Path,
    number: u64,
    first_sequence: u64,
) -> Outcome<(Box<dyn File>, FileHeader, u64)> {
    let file = fs.create(path).map_err(Failure::Retryable)?;
    // The first record allocates in the large: an idle log takes one page.
    let mut allocated = options.preallocate_bytes.min(SMALL_ALLOCATION_BYTES);
    let preallocated =
        allocated > 0 && file.preallocate(0, allocated).map_err(Failure::Retryable)?;
    let header = FileHeader {
        number,
        first_sequence,
        salt: options.salt.unwrap_or_else(random_salt) ^ number,
        preallocated,
    };
    file.write_at(0, &header.encode())
        .map_err(Failure::Retryable)?;
    file.sync().map_err(Failure::Final)?;
    if !preallocated {
        allocated = FILE_HEADER_BYTES as u64;
    }
    Ok((file, header, allocated))
}

/// A number that nobody outside can guess; the keys of the standard hasher are random.
fn random_salt() -> u64 {
    use std::hash::{BuildHasher as _, RandomState};
    RandomState::new().hash_one(0_u8)
}
