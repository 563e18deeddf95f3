//! pco ("pcodec"), the strongest and slowest of our number codecs, in a frame of our own.
//!
//! A payload is pco's wrapped format: header, one chunk's metadata, one page. Two of its modes would
//! let damaged bytes claim large buffers (dictionaries, wide look-back windows); we neither write nor
//! read them.

use super::CodecError;
use pco::data_types::Number;
use pco::metadata::{DeltaEncoding, Mode};
use pco::wrapped::{FileCompressor, FileDecompressor};
use pco::{ChunkConfig, ModeSpec, PagingSpec};

/// pco needs this many values to pay for its metadata.
pub(super) const COUNT_MIN: usize = 256;
/// Most values of one payload: pco's page size.
pub(super) const COUNT_MAX: usize = 1 << 18;
/// pco level for merged segments: within a percent of level 8 at twice the speed.
pub(super) const LEVEL_COMPACT: usize = 4;
/// pco level for cold segments.
pub(super) const LEVEL_COLD: usize = 8;

/// Largest look-back window (in values, as a power of two) that is read: 64 Ki.
const WINDOW_LOG_MAX: u32 = 16;

/// Bits of the chunk metadata's first byte that hold the mode, and the mode that we refuse.
const MODE_MASK: u8 = 0x0f;
const MODE_DICTIONARY: u8 = 4;

/// Appends `values` (1 to [`COUNT_MAX`]). Returns false, leaving `out` alone, where pco does not serve.
pub(super) fn encode<T: Number>(values: &[T], level: usize, out: &mut Vec<u8>) -> bool {
    if values.is_empty() || values.len() > COUNT_MAX {
        return false;
    }
    let config = ChunkConfig::default()
        .with_compression_level(level)
        .with_paging_spec(PagingSpec::Exact(vec![values.len()]));
    let start = out.len();
    let written = encode_with(values, &config, out)
        .or_else(|| encode_with(values, &config.with_mode_spec(ModeSpec::Classic), out));
    if written.is_none() {
        out.truncate(start);
    }
    written.is_some()
}

fn encode_with<T: Number>(values: &[T], config: &ChunkConfig, out: &mut Vec<u8>) -> Option<()> {
    let file = FileCompressor::default();
    let mut chunk = file.chunk_compressor(values, config).ok()?;
    if !is_readable(&chunk.meta().mode, &chunk.meta().delta_encoding) {
        return None;
    }
    file.write_header(&mut *out).ok()?;
    chunk.write_meta(&mut *out).ok()?;
    chunk.write_page(0, &mut *out).ok()?;
    Some(())
}

fn is_readable(mode: &Mode, delta: &DeltaEncoding) -> bool {
    let window_fits = match delta {
        DeltaEncoding::Lookback { config, .. } => config.window_n_log <= WINDOW_LOG_MAX,
        _ => true,
    };
    window_fits && !matches!(mode, Mode::Dict(_))
}

/// Appends the `count` values of a payload that fills `bytes`.
pub(super) fn decode<T: Number + Default>(
    bytes: &[u8],
    codec: &'static str,
    count: usize,
    out: &mut Vec<T>,
) -> Result<(), CodecError> {
    let corrupt = |what| CodecError::Corrupt {
        codec,
        what,
        offset: 1,
    };
    if count > COUNT_MAX {
        return Err(CodecError::Count {
            codec,
            expected: count,
            found: COUNT_MAX,
        });
    }
    let (file, rest) = FileDecompressor::new(bytes).map_err(|_| corrupt("pco header damaged"))?;
    if rest
        .first()
        .is_none_or(|byte| byte & MODE_MASK == MODE_DICTIONARY)
    {
        return Err(corrupt("pco mode not in use"));
    }
    let (mut chunk, rest) = file
        .chunk_decompressor::<T, _>(rest)
        .map_err(|_| corrupt("pco metadata damaged"))?;
    if !is_readable(&chunk.meta().mode, &chunk.meta().delta_encoding) {
        return Err(corrupt("pco mode not in use"));
    }
    let mut page = chunk
        .page_decompressor(rest, count)
        .map_err(|_| corrupt("pco page damaged"))?;
    let start = out.len();
    out.resize(start + count, T::default());
    let progress = page
        .read(&mut out[start..])
        .map_err(|_| corrupt("pco page damaged"))?;
    if progress.n_processed != count {
        return Err(CodecError::Count {
            codec,
            expected: count,
            found: progress.n_processed,
        });
    }
    if page.into_src().is_empty() {
        Ok(())
    } else {
        Err(corrupt("bytes behind the pco page"))
    }
}
