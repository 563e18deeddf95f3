//! The rule by which a block gets its encoding: try, then weigh bytes against the time to decode.
//!
//! Every candidate has a size (measured, by encoding) and a decode time per element (measured once,
//! by the bench `codec`, and written down in [`DecodeCost`]). [`EncodeEffort`] says which candidates
//! are tried and at which rate a nanosecond of decoding is exchanged for bytes. Everything that
//! chooses asks [`score`].

/// How hard an encoder tries, by where the block goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum EncodeEffort {
    /// Head to segment: cheap to encode, fast to decode. Entropy coders are not tried.
    #[default]
    Flush,
    /// Segments merged in the background: small, but still fast enough for dashboards. A slower
    /// codec must save [`BYTES_PER_NS_COMPACT`] bytes for each nanosecond.
    Compact,
    /// Old data that is rarely read: the smallest wins.
    Cold,
}

/// What one nanosecond of decoding per element is worth in bytes per element, at
/// [`EncodeEffort::Compact`]. At 0.02, pco (7.5 ns) has to be 0.13 B/element smaller than plain
/// bit-packing (1 ns) to be taken.
pub const BYTES_PER_NS_COMPACT: f64 = 0.02;

/// Decode time of one element in nanoseconds, as measured by the bench `codec`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DecodeCost(pub f64);

impl DecodeCost {
    /// Bit-packed blocks.
    pub const PACKED: DecodeCost = DecodeCost(1.0);
    /// Blocks that are bit-packed alike and can be read one by one.
    pub const BLOCKED: DecodeCost = DecodeCost(0.8);
    /// The same, with a prefix code over the high bytes.
    pub const BLOCKED_CODED: DecodeCost = DecodeCost(1.8);
    /// Low bits packed, high bytes entropy coded.
    pub const SPLIT: DecodeCost = DecodeCost(2.0);
    /// A bit-packed block under zstd.
    pub const ZSTD_PACKED: DecodeCost = DecodeCost(2.5);
    /// pco.
    pub const PCO: DecodeCost = DecodeCost(7.5);
}

/// The price of a candidate, in bytes: smaller is better.
pub fn score(effort: EncodeEffort, size: usize, count: usize, decode: DecodeCost) -> f64 {
    let bytes_per_ns = match effort {
        EncodeEffort::Flush | EncodeEffort::Compact => BYTES_PER_NS_COMPACT,
        EncodeEffort::Cold => 0.0,
    };
    size as f64 + bytes_per_ns * decode.0 * count as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_codec_must_pay_for_its_time_unless_cold() {
        let packed = |effort| score(effort, 1000, 1000, DecodeCost::PACKED);
        let pco = |effort, size| score(effort, size, 1000, DecodeCost::PCO);
        assert!(pco(EncodeEffort::Compact, 900) > packed(EncodeEffort::Compact));
        assert!(pco(EncodeEffort::Compact, 800) < packed(EncodeEffort::Compact));
        assert!(pco(EncodeEffort::Cold, 999) < packed(EncodeEffort::Cold));
    }
}
