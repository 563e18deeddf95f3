//! The bytes of a file by offset: as it lies there, or decompressed.

use std::fs::{File, Metadata};
use std::io::{self, BufReader, Read};
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use flate2::read::MultiGzDecoder;

use super::position::FileId;

/// Bytes that are passed over at a time on the way to an offset of a compressed file.
const SKIP_BYTES: usize = 64 << 10;

/// An open file.
#[derive(Debug)]
pub enum Source {
    /// Read where it lies.
    Plain(File),
    /// Decompressed from the beginning; going back begins anew.
    Gzip {
        /// For beginning anew.
        path: PathBuf,
        /// Decompresses.
        decoder: Box<MultiGzDecoder<BufReader<File>>>,
        /// Bytes that came out so far.
        at: u64,
    },
}

/// The file that the system means by this metadata.
#[must_use]
pub fn id_of(metadata: &Metadata) -> FileId {
    FileId {
        device: metadata.dev(),
        inode: metadata.ino(),
    }
}

impl Source {
    /// Opens a file; one that ends in `.gz` is decompressed.
    ///
    /// # Errors
    /// It is gone, or may not be read.
    pub fn open(path: &Path) -> io::Result<(Self, Metadata)> {
        let file = File::open(path)?;
        let metadata = file.metadata()?;
        let source = match is_compressed(path) {
            false => Self::Plain(file),
            true => Self::Gzip {
                path: path.to_owned(),
                decoder: Box::new(MultiGzDecoder::new(BufReader::new(file))),
                at: 0,
            },
        };
        Ok((source, metadata))
    }

    /// Fills the buffer as far as the file goes, beginning at `offset`; how many bytes there were.
    ///
    /// # Errors
    /// It cannot be read, or is not compressed as its name says.
    pub fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(file) => {
                let mut filled = 0;
                while let Some(free) = buffer.get_mut(filled..).filter(|free| !free.is_empty()) {
                    match file.read_at(free, offset + filled as u64) {
                        Ok(0) => break,
                        Ok(more) => filled += more,
                        Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                        Err(error) => return Err(error),
                    }
                }
                Ok(filled)
            }
            Self::Gzip { path, decoder, at } => {
                if *at > offset {
                    let file = File::open(&*path)?;
                    **decoder = MultiGzDecoder::new(BufReader::new(file));
                    *at = 0;
                }
                let mut passed_over = [0_u8; SKIP_BYTES];
                while *at < offset {
                    let wanted = usize::try_from(offset - *at).unwrap_or(usize::MAX);
                    let room = passed_over.len().min(wanted);
                    let more = decoder.read(passed_over.get_mut(..room).unwrap_or_default())?;
                    if more == 0 {
                        return Ok(0);
                    }
                    *at += more as u64;
                }
                let mut filled = 0;
                while let Some(free) = buffer.get_mut(filled..).filter(|free| !free.is_empty()) {
                    let more = decoder.read(free)?;
                    if more == 0 {
                        break;
                    }
                    filled += more;
                }
                *at += filled as u64;
                Ok(filled)
            }
        }
    }

    /// What the system says of the open file, whatever its name is now.
    ///
    /// # Errors
    /// The system does not answer.
    pub fn metadata(&self) -> io::Result<Metadata> {
        match self {
            Self::Plain(file) => file.metadata(),
            Self::Gzip { decoder, .. } => decoder.get_ref().get_ref().metadata(),
        }
    }

    /// Whether the size of the file says how much can be read.
    #[must_use]
    pub fn is_plain(&self) -> bool {
        matches!(self, Self::Plain(_))
    }
}

/// Whether a file of this name is decompressed.
#[must_use]
pub fn is_compressed(path: &Path) -> bool {
    path.extension().is_some_and(|kind| kind == "gz")
}

/// What can be done about an error of a file.
#[must_use]
pub fn hint(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::PermissionDenied => format!(
            "{error}: let the server's user read it (a group such as `adm`, or `setfacl -m u:<user>:r`), and enter its folders"
        ),
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn compressed_files_are_read_by_offset_too() {
        let dir = tempfile::tempdir().unwrap();
        let text: Vec<u8> = (0..200_000_u32).flat_map(u32::to_le_bytes).collect();
        let (plain, packed) = (dir.path().join("a.log"), dir.path().join("a.log.gz"));
        std::fs::write(&plain, &text).unwrap();
        let file = File::create(&packed).unwrap();
        let mut encoder = flate2::write::GzEncoder::new(file, flate2::Compression::fast());
        encoder.write_all(&text).unwrap();
        encoder.finish().unwrap();
        for path in [plain, packed] {
            let (mut source, metadata) = Source::open(&path).unwrap();
            assert_eq!(id_of(&metadata), id_of(&source.metadata().unwrap()));
            let mut buffer = vec![0; 1000];
            for offset in [0, 150_001, 799_500, 17, 800_000, 900_000] {
                let got = source.read_at(offset as u64, &mut buffer).unwrap();
                let expected = text.get(offset..).unwrap_or_default();
                let expected = &expected[..expected.len().min(1000)];
                assert_eq!(&buffer[..got], expected, "{} at {offset}", path.display());
            }
        }
    }
}
