//! Compares a segment file with its checksums by plain reads, a few hundred KiB at a time: for files on
//! media that may vanish or fail (a backup's), where a memory map would end the process with SIGBUS.

use std::path::Path;

use crate::error::{Corruption, EngineError, Result};
use crate::io::File;

use super::container::FileIdentity;
use super::file::{Ends, check_length, check_page};
use super::format::{HEADER_SIZE, PAGE_SIZE, TRAILER_SIZE};

/// Pages read at a time.
const PAGES_AT_ONCE: usize = 16;

/// Reads exactly this many bytes.
fn read(file: &dyn File, offset: usize, length: usize) -> Result<Vec<u8>> {
    let mut bytes = vec![0; length];
    let count = file.read_at(offset as u64, &mut bytes)?;
    if count == length {
        return Ok(bytes);
    }
    Err(EngineError::Corruption(Corruption {
        path: file.path().to_owned(),
        offset: (offset + count) as u64,
        expected: format!("{} more bytes", length - count),
        found: "the end of the file".into(),
    }))
}

fn ends(file: &dyn File, path: &Path) -> Result<(Ends, usize)> {
    let length = usize::try_from(file.length()?).unwrap_or(usize::MAX);
    check_length(length, path)?;
    let header = read(file, 0, HEADER_SIZE)?;
    let trailer = read(file, length - TRAILER_SIZE, TRAILER_SIZE)?;
    Ok((Ends::read(&header, &trailer, length, path)?, length))
}

/// Length and checksum of a segment file, from its two ends: the pages are not read.
///
/// # Errors
/// [`EngineError::Corruption`] when the ends are not those of a segment; what the file system says.
pub fn read_identity(file: &dyn File) -> Result<FileIdentity> {
    let path = file.path();
    let (ends, length) = ends(file, path)?;
    let tail = ends.tail(
        &read(file, ends.body_length, length - ends.body_length)?,
        path,
    )?;
    Ok(FileIdentity {
        length: length as u64,
        checksum: tail.checksum,
    })
}

/// Reads a whole segment file and compares every page with its checksum. `after_read` is called with
/// the bytes read since the last call; an error of its ends the reading.
///
/// # Errors
/// [`EngineError::Corruption`] naming the first place that is wrong; what the file system says.
pub fn check_file(
    file: &dyn File,
    mut after_read: impl FnMut(u64) -> Result<()>,
) -> Result<FileIdentity> {
    let path = file.path();
    let (ends, length) = ends(file, path)?;
    let tail_bytes = read(file, ends.body_length, length - ends.body_length)?;
    let tail = ends.tail(&tail_bytes, path)?;
    after_read(tail_bytes.len() as u64)?;
    let step = PAGES_AT_ONCE * PAGE_SIZE;
    for start in (0..tail.body_length).step_by(step) {
        let pages = read(file, start, step.min(tail.body_length - start))?;
        for (index, page) in pages.chunks(PAGE_SIZE).enumerate() {
            check_page(start / PAGE_SIZE + index, Some(page), &tail_bytes, path)?;
        }
        after_read(pages.len() as u64)?;
    }
    Ok(FileIdentity {
        length: length as u64,
        checksum: tail.checksum,
    })
}
