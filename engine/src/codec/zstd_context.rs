//! zstd contexts, one set per thread: making a context costs more than compressing a block.

use super::CodecError;
use std::cell::RefCell;
use zstd::bulk::{Compressor, Decompressor};
use zstd::zstd_safe::{CParameter, compress_bound};

/// What each zstd frame starts with. We know where our frames are, so it is not stored.
const ZSTD_MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// Shortest match for entropy coding, the longest that zstd's fast strategy can ask for: a match
/// costs the decoder more than the few noisy bytes that it saves.
const ENTROPY_MATCH_MIN: u32 = 7;

/// Below this many bytes zstd is not tried: it saves next to nothing, and takes microseconds to set up.
pub(super) const SIZE_MIN: usize = 40;

struct Contexts {
    compressor: Compressor<'static>,
    level: i32,
    entropy_compressor: Compressor<'static>,
    decompressor: Decompressor<'static>,
    frame: Vec<u8>,
}

impl Contexts {
    fn new() -> std::io::Result<Contexts> {
        let mut entropy_compressor = Compressor::new(1)?;
        entropy_compressor.set_parameter(CParameter::MinMatch(ENTROPY_MATCH_MIN))?;
        Ok(Contexts {
            compressor: Compressor::new(1)?,
            level: 1,
            entropy_compressor,
            decompressor: Decompressor::new()?,
            frame: Vec::new(),
        })
    }
}

thread_local! {
    static CONTEXTS: RefCell<Option<Contexts>> = const { RefCell::new(None) };
}

fn with_contexts<R>(run: impl FnOnce(&mut Contexts) -> R) -> R {
    CONTEXTS.with_borrow_mut(|contexts| {
        let new = || Contexts::new().expect("bug: zstd refuses its own defaults");
        run(contexts.get_or_insert_with(new))
    })
}

/// Appends `raw`, compressed at `level`, without the frame's magic number.
pub(super) fn compress(raw: &[u8], level: i32, out: &mut Vec<u8>) {
    with_contexts(|contexts| {
        if contexts.level != level {
            contexts
                .compressor
                .set_compression_level(level)
                .expect("bug: no such zstd level");
            contexts.level = level;
        }
        compress_with(&mut contexts.compressor, &mut contexts.frame, raw, out);
    });
}

/// As [`compress`], for bytes of which only the frequencies matter.
pub(super) fn compress_entropy(raw: &[u8], out: &mut Vec<u8>) {
    with_contexts(|contexts| {
        compress_with(
            &mut contexts.entropy_compressor,
            &mut contexts.frame,
            raw,
            out,
        );
    });
}

fn compress_with(
    compressor: &mut Compressor<'static>,
    frame: &mut Vec<u8>,
    raw: &[u8],
    out: &mut Vec<u8>,
) {
    frame.clear();
    frame.reserve(compress_bound(raw.len()));
    let written = compressor.compress_to_buffer(raw, frame);
    let written = written.expect("bug: zstd failed with room for the worst case");
    out.extend_from_slice(&frame[ZSTD_MAGIC.len()..written]);
}

/// Decompresses what [`compress`] or [`compress_entropy`] wrote; it must fill `out` exactly.
pub(super) fn decompress(
    codec: &'static str,
    body: &[u8],
    out: &mut [u8],
) -> Result<(), CodecError> {
    with_contexts(|contexts| {
        contexts.frame.clear();
        contexts.frame.extend_from_slice(&ZSTD_MAGIC);
        contexts.frame.extend_from_slice(body);
        match contexts
            .decompressor
            .decompress_to_buffer(&contexts.frame, out)
        {
            Ok(written) if written == out.len() => Ok(()),
            Ok(_) => Err(CodecError::Corrupt {
                codec,
                what: "zstd data too short",
                offset: 0,
            }),
            Err(_) => Err(CodecError::Corrupt {
                codec,
                what: "zstd data damaged",
                offset: 0,
            }),
        }
    })
}
