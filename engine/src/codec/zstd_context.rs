//! One zstd compressor and decompressor per thread: making a context costs more than a block.

use super::CodecError;
use std::cell::RefCell;

/// What each zstd frame starts with. We know where our frames are, so it is not stored.
const ZSTD_MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

struct Contexts {
    compressor: zstd::bulk::Compressor<'static>,
    level: i32,
    decompressor: zstd::bulk::Decompressor<'static>,
    frame: Vec<u8>,
}

thread_local! {
    static CONTEXTS: RefCell<Option<Contexts>> = const { RefCell::new(None) };
}

fn with_contexts<R>(run: impl FnOnce(&mut Contexts) -> R) -> R {
    CONTEXTS.with_borrow_mut(|contexts| {
        run(contexts.get_or_insert_with(|| Contexts {
            compressor: zstd::bulk::Compressor::new(1).expect("bug: zstd level 1"),
            level: 1,
            decompressor: zstd::bulk::Decompressor::new().expect("bug: zstd context"),
            frame: Vec::new(),
        }))
    })
}

/// Appends `raw`, compressed at `level`, without the frame's magic number. Returns the bytes added.
pub(super) fn compress(raw: &[u8], level: i32, out: &mut Vec<u8>) -> usize {
    with_contexts(|contexts| {
        if contexts.level != level {
            contexts
                .compressor
                .set_compression_level(level)
                .expect("bug: zstd level");
            contexts.level = level;
        }
        contexts.frame.clear();
        contexts
            .frame
            .reserve(zstd::zstd_safe::compress_bound(raw.len()));
        let written = contexts
            .compressor
            .compress_to_buffer(raw, &mut contexts.frame);
        let written = written.expect("bug: zstd failed with room for the worst case");
        let body = &contexts.frame[ZSTD_MAGIC.len()..written];
        out.extend_from_slice(body);
        body.len()
    })
}

/// Decompresses what [`compress`] wrote; it must fill `out` exactly.
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
