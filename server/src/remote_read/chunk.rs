//! Chunks as Prometheus keeps and sends them: floats by XOR, histograms one by one.
//!
//! Floats: Pelkonen et al., "Gorilla: A Fast, Scalable, In-Memory Time Series Database", VLDB 2015,
//! section 4.1, with Prometheus' bit widths (its page on the chunk format, "XOR chunk data").
//! Histograms: "Float histogram chunk data" of the same page, one sample a chunk, so that no deltas
//! are needed: readers take chunks of any length.

use chronolith_engine::codec::varint::{write_i64, write_u64};
use chronolith_engine::model::Histogram;

/// Samples of one float chunk: what Prometheus' own have.
pub(super) const SAMPLES_MAX: usize = 120;

/// Widths of the classes of a variable-length integer; the prefix of class n is n + 1 ones and a
/// zero, that of the widest, 64 bits, eight ones.
const VARBIT_WIDTHS: [u32; 7] = [3, 6, 9, 12, 18, 25, 56];

#[derive(Default)]
struct BitWriter {
    bytes: Vec<u8>,
    /// Bits of the last byte that are not used yet.
    free: u32,
}

impl BitWriter {
    /// Appends the low `count` bits, the highest first.
    fn bits(&mut self, value: u64, count: u32) {
        for shift in (0..count).rev() {
            if self.free == 0 {
                self.bytes.push(0);
                self.free = 8;
            }
            self.free -= 1;
            if let Some(last) = self.bytes.last_mut() {
                *last |= ((value >> shift & 1) as u8) << self.free;
            }
        }
    }

    fn float(&mut self, value: f64) {
        self.bits(value.to_bits(), 64);
    }

    fn varbit_class(&mut self, value: u64, class: Option<usize>) {
        match class {
            Some(class) => {
                let ones = class as u32 + 1;
                self.bits((1_u64 << (ones + 1)) - 2, ones + 1);
                self.bits(value, VARBIT_WIDTHS[class]);
            }
            None => {
                self.bits(0xff, 8);
                self.bits(value, 64);
            }
        }
    }

    fn varbit_signed(&mut self, value: i64) {
        if value == 0 {
            return self.bits(0, 1);
        }
        let class = VARBIT_WIDTHS.iter().position(|w| fits(value, *w));
        self.varbit_class(value.cast_unsigned(), class);
    }

    fn varbit_unsigned(&mut self, value: u64) {
        if value == 0 {
            return self.bits(0, 1);
        }
        let class = VARBIT_WIDTHS
            .iter()
            .position(|w| value.leading_zeros() >= 64 - w);
        self.varbit_class(value, class);
    }
}

/// Whether the value lies in the lopsided range of a signed class: -(2^(n-1) - 1) to 2^(n-1).
fn fits(value: i64, width: u32) -> bool {
    let half = 1_i64 << (width - 1);
    (1 - half..=half).contains(&value)
}

/// A chunk of floats with ascending times in milliseconds; at most [`SAMPLES_MAX`] of them.
pub(super) fn floats(samples: &[(i64, f64)]) -> Vec<u8> {
    let mut out = BitWriter::default();
    let count = u16::try_from(samples.len()).expect("bug: a chunk of more than 65,535 samples");
    out.bytes.extend_from_slice(&count.to_be_bytes());
    let mut previous = (0, 0.0, 0_i64);
    let mut window = None;
    for (index, &(time, value)) in samples.iter().enumerate() {
        let delta = time.wrapping_sub(previous.0);
        match index {
            0 => {
                write_i64(&mut out.bytes, time);
                out.float(value);
            }
            1 => {
                // Whole bytes in between bits: the writer stands at a border of bytes here.
                write_u64(&mut out.bytes, delta.cast_unsigned());
                xor(&mut out, value, previous.1, &mut window);
            }
            _ => {
                time_change(&mut out, delta.wrapping_sub(previous.2));
                xor(&mut out, value, previous.1, &mut window);
            }
        }
        previous = (time, value, delta);
    }
    out.bytes
}

/// The change of the distance between two samples.
fn time_change(out: &mut BitWriter, change: i64) {
    match change {
        0 => out.bits(0, 1),
        _ if fits(change, 14) => {
            out.bits(0b10, 2);
            out.bits(change.cast_unsigned(), 14);
        }
        _ if fits(change, 17) => {
            out.bits(0b110, 3);
            out.bits(change.cast_unsigned(), 17);
        }
        _ if fits(change, 20) => {
            out.bits(0b1110, 4);
            out.bits(change.cast_unsigned(), 20);
        }
        _ => {
            out.bits(0b1111, 4);
            out.bits(change.cast_unsigned(), 64);
        }
    }
}

/// The bits in which a value differs from the one before; `window` holds the leading and trailing
/// zeros of the last difference that was written with its own.
fn xor(out: &mut BitWriter, value: f64, before: f64, window: &mut Option<(u32, u32)>) {
    let difference = value.to_bits() ^ before.to_bits();
    if difference == 0 {
        return out.bits(0, 1);
    }
    out.bits(1, 1);
    let leading = difference.leading_zeros().min(31);
    let trailing = difference.trailing_zeros();
    match *window {
        Some((known_leading, known_trailing))
            if leading >= known_leading && trailing >= known_trailing =>
        {
            out.bits(0, 1);
            out.bits(
                difference >> known_trailing,
                64 - known_leading - known_trailing,
            );
        }
        _ => {
            *window = Some((leading, trailing));
            let significant = 64 - leading - trailing;
            out.bits(1, 1);
            out.bits(u64::from(leading), 5);
            // 64 does not fit six bits and is written as 0.
            out.bits(u64::from(significant), 6);
            out.bits(difference >> trailing, significant);
        }
    }
}

/// A chunk of one histogram with float populations.
pub(super) fn histogram(time_ms: i64, histogram: &Histogram) -> Vec<u8> {
    const UNKNOWN_RESET: u8 = 0;
    let mut out = BitWriter::default();
    out.bytes.extend_from_slice(&1_u16.to_be_bytes());
    out.bytes.push(UNKNOWN_RESET);
    zero_threshold(&mut out, histogram.zero_threshold);
    out.varbit_signed(histogram.schema.into());
    for spans in [&histogram.positive_spans, &histogram.negative_spans] {
        out.varbit_unsigned(spans.len() as u64);
        for span in spans {
            out.varbit_unsigned(span.length.into());
            out.varbit_signed(span.offset.into());
        }
    }
    if histogram.uses_custom_buckets() {
        let bounds = histogram.custom_bounds();
        out.varbit_unsigned(bounds.len() as u64);
        for bound in bounds {
            custom_bound(&mut out, *bound);
        }
    }
    out.varbit_signed(time_ms);
    for value in [histogram.count, histogram.zero_count, histogram.sum] {
        out.float(value);
    }
    for buckets in [&histogram.positive_buckets, &histogram.negative_buckets] {
        buckets.iter().for_each(|bucket| out.float(*bucket));
    }
    out.bytes
}

/// Powers of two from 2^-243 to 2^10 take a byte.
fn zero_threshold(out: &mut BitWriter, threshold: f64) {
    const EXPONENT_MIN: i64 = -242;
    const EXPONENT_MAX: i64 = 11;
    if threshold == 0.0 {
        return out.bits(0, 8);
    }
    // As frexp has it: a fraction of 0.5 times 2^exponent.
    let exponent = (threshold.to_bits() >> 52 & 0x7ff) as i64 - 1022;
    let is_power = threshold > 0.0 && threshold.to_bits() << 12 == 0;
    if is_power && (EXPONENT_MIN..=EXPONENT_MAX).contains(&exponent) {
        out.bits((exponent + 243).cast_unsigned(), 8);
    } else {
        out.bits(255, 8);
        out.float(threshold);
    }
}

/// Thousandths up to 33,554.430 as integers, other bounds as they are.
fn custom_bound(out: &mut BitWriter, bound: f64) {
    const THOUSANDTHS_MAX: f64 = 33_554_430.0;
    let thousandths = bound * 1000.0;
    let exact = thousandths == thousandths.trunc() && thousandths / 1000.0 == bound;
    if (0.0..=THOUSANDTHS_MAX).contains(&thousandths) && exact {
        out.varbit_unsigned(thousandths as u64 + 1);
    } else {
        out.bits(0, 1);
        out.float(bound);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads what [`floats`] wrote, after the same description.
    fn read_floats(bytes: &[u8]) -> Vec<(i64, u64)> {
        let mut at = 16;
        let mut take = |count: u32| {
            let mut value = 0_u64;
            for _ in 0..count {
                value = value << 1 | u64::from(bytes[at / 8] >> (7 - at % 8) & 1);
                at += 1;
            }
            value
        };
        let mut samples = Vec::new();
        let count = usize::from(u16::from_be_bytes([bytes[0], bytes[1]]));
        let (mut time, mut value, mut delta, mut window) = (0_i64, 0_u64, 0_i64, (0, 0));
        for index in 0..count {
            let mut varint = || {
                let (mut number, mut shift) = (0_u64, 0);
                loop {
                    let byte = take(8);
                    number |= (byte & 0x7f) << shift;
                    shift += 7;
                    if byte < 0x80 {
                        return number;
                    }
                }
            };
            if index == 0 {
                let raw = varint();
                time = (raw >> 1).cast_signed() ^ -((raw & 1).cast_signed());
                value = take(64);
                samples.push((time, value));
                continue;
            }
            if index == 1 {
                delta = varint().cast_signed();
            } else {
                let mut ones = 0;
                while ones < 4 && take(1) == 1 {
                    ones += 1;
                }
                let width = [0, 14, 17, 20, 64][ones];
                let raw = take(width).cast_signed();
                let wraps = width < 64 && width > 0 && raw > 1 << (width - 1);
                delta += if wraps { raw - (1 << width) } else { raw };
            }
            time += delta;
            if take(1) == 1 {
                if take(1) == 1 {
                    let leading = take(5) as u32;
                    let significant = match take(6) as u32 {
                        0 => 64,
                        n => n,
                    };
                    window = (leading, 64 - leading - significant);
                }
                value ^= take(64 - window.0 - window.1) << window.1;
            }
            samples.push((time, value));
        }
        samples
    }

    #[test]
    fn float_chunks_hold_every_bit() {
        let ugly = [
            0.0,
            -0.0,
            f64::NAN,
            f64::from_bits(0x7ff0_0000_0000_0002),
            f64::INFINITY,
            1e-310,
            1.0,
            1.0,
            2.5,
            -1e300,
        ];
        let steps = [
            15_000, 15_000, 15_001, 1, 9_000_000, 15_000, 8_192, 600_000, 70_000,
        ];
        let mut time = -5;
        let mut samples = Vec::new();
        for index in 0..SAMPLES_MAX {
            let value = if index % 3 == 0 {
                index as f64
            } else {
                ugly[index % ugly.len()]
            };
            samples.push((time, value));
            time += steps[index % steps.len()] + if index == 50 { 1 << 40 } else { 0 };
        }
        for count in [1, 2, 3, 40, SAMPLES_MAX] {
            let samples = &samples[..count];
            let expected: Vec<_> = samples.iter().map(|(t, v)| (*t, v.to_bits())).collect();
            assert_eq!(read_floats(&floats(samples)), expected);
        }
    }

    #[test]
    fn a_chunk_is_that_of_the_description() {
        // Two samples: count, varint of 1000, the bits of 1.0, distance 15,000, no difference.
        let bytes = floats(&[(1000, 1.0), (16_000, 1.0)]);
        let mut expected = vec![0, 2, 0xd0, 0x0f];
        expected.extend(1.0_f64.to_be_bytes());
        expected.extend([0x98, 0x75, 0x00]);
        assert_eq!(bytes, expected);
    }

    #[test]
    fn integers_take_the_bits_of_their_class() {
        let bits = |write: &dyn Fn(&mut BitWriter)| {
            let mut out = BitWriter::default();
            write(&mut out);
            8 * out.bytes.len() as u32 - out.free
        };
        let signed = [
            (0, 1),
            (1, 5),
            (4, 5),
            (-3, 5),
            (-4, 9),
            (32, 9),
            (33, 13),
            (i64::MIN, 72),
        ];
        for (value, expected) in signed {
            assert_eq!(bits(&|out| out.varbit_signed(value)), expected, "{value}");
        }
        for (value, expected) in [(0, 1), (7, 5), (8, 9), (u64::MAX, 72)] {
            assert_eq!(bits(&|out| out.varbit_unsigned(value)), expected, "{value}");
        }
        assert_eq!(bits(&|out| zero_threshold(out, 2_f64.powi(-128))), 8);
        assert_eq!(bits(&|out| zero_threshold(out, 0.001)), 72);
        assert_eq!(bits(&|out| custom_bound(out, 0.005)), 5);
        assert_eq!(bits(&|out| custom_bound(out, 1e9)), 65);
    }
}
