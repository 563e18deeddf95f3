//! Small files that are written as a whole: a header with magic, version, length and checksum,
//! then the content. The manifest and state snapshots are of this kind.

use std::path::Path;

use crate::error::{Corruption, EngineError, Result};
use crate::wal::cursor::{Cursor, Malformed};

/// Size of the header.
pub(crate) const HEADER_BYTES: usize = 32;

/// Which file it is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Kind {
    /// First bytes of the file.
    pub(crate) magic: [u8; 8],
    /// Version of the content that is written; every version from 1 on is read.
    pub(crate) version: u32,
}

fn corruption(path: &Path, offset: usize, expected: String, found: String) -> EngineError {
    EngineError::Corruption(Corruption {
        path: path.to_owned(),
        offset: offset as u64,
        expected,
        found,
    })
}

/// The bytes of a file with this content.
pub(crate) fn encode(kind: Kind, content: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEADER_BYTES + content.len());
    bytes.extend_from_slice(&kind.magic);
    bytes.extend_from_slice(&kind.version.to_le_bytes());
    bytes.extend_from_slice(&[0; 4]);
    bytes.extend_from_slice(&(content.len() as u64).to_le_bytes());
    bytes.extend_from_slice(&crc32c::crc32c(content).to_le_bytes());
    let header_crc = crc32c::crc32c(&bytes);
    bytes.extend_from_slice(&header_crc.to_le_bytes());
    bytes.extend_from_slice(content);
    bytes
}

/// Checks everything and returns the version and the content.
///
/// # Errors
/// [`EngineError::Corruption`] naming `path` and the offset of the first thing that is wrong.
pub(crate) fn decode<'a>(kind: Kind, path: &Path, bytes: &'a [u8]) -> Result<(u32, &'a [u8])> {
    let Some((header, content)) = bytes.split_first_chunk::<HEADER_BYTES>() else {
        let found = format!("{} bytes", bytes.len());
        return Err(corruption(
            path,
            0,
            format!("a header of {HEADER_BYTES} bytes"),
            found,
        ));
    };
    let wrong =
        |offset, expected: String, found: String| Err(corruption(path, offset, expected, found));
    if header[..8] != kind.magic {
        let expected = String::from_utf8_lossy(&kind.magic).into_owned();
        return wrong(
            0,
            format!("magic {expected}"),
            format!("{:02x?}", &header[..8]),
        );
    }
    let word = |at: usize| {
        let bytes = header.get(at..).and_then(|b| b.first_chunk());
        u32::from_le_bytes(*bytes.unwrap_or(&[0; 4]))
    };
    let header_crc = crc32c::crc32c(&header[..HEADER_BYTES - 4]);
    if word(HEADER_BYTES - 4) != header_crc {
        let found = format!("{:08x}", word(HEADER_BYTES - 4));
        return wrong(
            HEADER_BYTES - 4,
            format!("header checksum {header_crc:08x}"),
            found,
        );
    }
    if !(1..=kind.version).contains(&word(8)) || word(12) != 0 {
        let found = format!("version {}", word(8));
        return wrong(8, format!("a version from 1 to {}", kind.version), found);
    }
    let length = u64::from(word(16)) | u64::from(word(20)) << 32;
    if length != content.len() as u64 {
        let found = format!("{} bytes", content.len());
        return wrong(bytes.len(), format!("{length} bytes of content"), found);
    }
    let content_crc = crc32c::crc32c(content);
    if word(24) != content_crc {
        return wrong(
            HEADER_BYTES,
            format!("content checksum {:08x}", word(24)),
            format!("{content_crc:08x}"),
        );
    }
    Ok((word(8), content))
}

/// Reads the content with `read`, which is told the version and must use all of it.
///
/// # Errors
/// As [`decode`], and where `read` stops making sense of it.
pub(crate) fn read<T>(
    kind: Kind,
    path: &Path,
    bytes: &[u8],
    read: impl FnOnce(u32, &mut Cursor<'_>) -> Result<T, Malformed>,
) -> Result<T> {
    let (version, content) = decode(kind, path, bytes)?;
    let mut cursor = Cursor::new(content);
    read(version, &mut cursor)
        .and_then(|value| cursor.finish().map(|()| value))
        .map_err(|error| {
            corruption(
                path,
                HEADER_BYTES + error.offset,
                "well-formed content".into(),
                error.what.into(),
            )
        })
}
