//! Read-only memory maps: the one place of the engine with `unsafe` outside measured codecs.
//!
//! Contract, kept by the callers: a mapped file is complete, synced and renamed into place before
//! it is mapped, and never written or truncated afterwards; removal only unlinks it, so that maps
//! stay valid; the exclusive lock keeps other processes of ours out. A process outside that
//! contract which truncates a mapped file makes the next read of the lost pages fail with SIGBUS:
//! readers therefore compare the length with the manifest before they map.

use std::fs::File;
use std::io;
use std::ops::Deref;

use memmap2::{Mmap, UncheckedAdvice};

/// A whole file, mapped.
#[derive(Debug)]
pub(super) struct Map(Option<Mmap>);

impl Map {
    /// Maps `file` as long as it is now.
    pub(super) fn new(file: &File) -> io::Result<Self> {
        if file.metadata()?.len() == 0 {
            return Ok(Self(None));
        }
        // SAFETY: the file is immutable by the contract above, so the bytes behind the slice do
        // not change and do not vanish while the map lives.
        let map = unsafe { Mmap::map(file)? };
        Ok(Self(Some(map)))
    }

    /// Drops the resident pages; they are read again from the file when touched.
    pub(super) fn release_pages(&self) {
        if let Some(map) = &self.0 {
            // SAFETY: MADV_DONTNEED on a shared, read-only, file-backed map that was never
            // written loses nothing: later reads see the same bytes of the immutable file.
            let advised = unsafe { map.unchecked_advise(UncheckedAdvice::DontNeed) };
            if let Err(error) = advised {
                tracing::debug!(%error, "cannot release pages of a map");
            }
        }
    }
}

impl Deref for Map {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.0.as_deref().unwrap_or(&[])
    }
}
