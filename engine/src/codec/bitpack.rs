//! Bit-packing of unsigned integers in blocks of 128, laid out so that plain loops vectorise.
//!
//! A full block of width `w` takes `16 * w` bytes. Up to 32 bits the values lie in four lanes of `u32`
//! words (value `i` in lane `i % 4`), above that in two lanes of `u64` words (lane `i % 2`). Each lane
//! is an ordinary little-endian bit stream, and the lanes' words alternate:
//!
//! ```text
//! word 0 lane 0 | word 0 lane 1 | word 0 lane 2 | word 0 lane 3 | word 1 lane 0 | ...
//! values 0,4,8..  values 1,5,9..  values 2,6,..   values 3,7,..
//! ```
//!
//! All lanes shift by the same amount at each step, so one step is one vector instruction even
//! with baseline SSE2 (the layout of SIMD-BP128: Lemire and Boytsov, "Decoding billions of integers
//! per second through vectorization", 2015). What is left over after the last full block is a plain
//! bit stream of one lane ([`pack_tail`]).

/// Values in a full block.
pub const BLOCK_LEN: usize = 128;

/// Bytes of a full block of `width` bits.
#[inline]
pub const fn block_size(width: u32) -> usize {
    16 * width as usize
}

/// Bytes of a tail of `count` values of `width` bits.
#[inline]
pub const fn tail_size(count: usize, width: u32) -> usize {
    (count * width as usize).div_ceil(8)
}

/// Bits needed for `value`; 0 for 0.
#[inline]
pub const fn width_of(value: u64) -> u32 {
    64 - value.leading_zeros()
}

/// The lowest `width` bits set.
#[inline]
pub const fn mask(width: u32) -> u64 {
    if width >= 64 {
        u64::MAX
    } else {
        (1 << width) - 1
    }
}

/// The four words of a step, from 16 bytes.
#[inline(always)]
fn words32(packed: &[[u8; 16]], step: usize) -> [u32; 4] {
    let bytes = &packed[step];
    std::array::from_fn(|lane| {
        let at = lane * 4;
        u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
    })
}

/// The two words of a step, from 16 bytes.
#[inline(always)]
fn words64(packed: &[[u8; 16]], step: usize) -> [u64; 2] {
    let bytes = &packed[step];
    std::array::from_fn(|lane| {
        let half: [u8; 8] = std::array::from_fn(|at| bytes[lane * 8 + at]);
        u64::from_le_bytes(half)
    })
}

/// Appends the lowest `width` bits (0 to 64) of all `values`.
pub fn pack_block(values: &[u64; BLOCK_LEN], width: u32, out: &mut Vec<u8>) {
    assert!(width <= 64, "bug: bit width {width}");
    if width == 0 {
    } else if width <= 32 {
        pack32(values, width, out);
    } else {
        pack64(values, width, out);
    }
}

fn pack32(values: &[u64; BLOCK_LEN], width: u32, out: &mut Vec<u8>) {
    let mask = mask(width) as u32;
    let mut open = [0_u32; 4];
    let mut shift = 0;
    for row in values.as_chunks::<4>().0 {
        let row = row.map(|value| value as u32 & mask);
        for lane in 0..4 {
            open[lane] |= row[lane] << shift;
        }
        shift += width;
        if shift >= 32 {
            for word in open {
                out.extend_from_slice(&word.to_le_bytes());
            }
            shift -= 32;
            // Shifted twice, since a shift by all 32 bits is none.
            open = row.map(|value| value >> (width - shift - 1) >> 1);
        }
    }
}

fn pack64(values: &[u64; BLOCK_LEN], width: u32, out: &mut Vec<u8>) {
    let mask = mask(width);
    let mut open = [0_u64; 2];
    let mut shift = 0;
    for row in values.as_chunks::<2>().0 {
        let row = row.map(|value| value & mask);
        for lane in 0..2 {
            open[lane] |= row[lane] << shift;
        }
        shift += width;
        if shift >= 64 {
            for word in open {
                out.extend_from_slice(&word.to_le_bytes());
            }
            shift -= 64;
            open = row.map(|value| value >> (width - shift - 1) >> 1);
        }
    }
}

/// Unpacks a full block of `width` 0 to 32 bits from `packed`, which holds [`block_size`] bytes.
pub fn unpack_block_u32(packed: &[u8], width: u32, out: &mut [u32; BLOCK_LEN]) {
    assert!(
        width <= 32 && packed.len() >= block_size(width),
        "bug: packed block too short"
    );
    if width == 0 {
        out.fill(0);
        return;
    }
    let packed = &packed.as_chunks::<16>().0[..width as usize];
    let mask = mask(width) as u32;
    let mut bit = 0;
    for row in out.as_chunks_mut::<4>().0 {
        let (step, shift) = ((bit / 32) as usize, bit % 32);
        // What spills into the next step; at the last step nothing does, and any step will do.
        let low = words32(packed, step);
        let high = words32(packed, (step + 1).min(packed.len() - 1));
        for lane in 0..4 {
            row[lane] = ((low[lane] >> shift) | (high[lane] << 1 << (31 - shift))) & mask;
        }
        bit += width;
    }
}

/// Unpacks a full block of `width` 33 to 64 bits from `packed`, which holds [`block_size`] bytes.
pub fn unpack_block_u64(packed: &[u8], width: u32, out: &mut [u64; BLOCK_LEN]) {
    assert!(
        (33..=64).contains(&width) && packed.len() >= block_size(width),
        "bug: packed block too short"
    );
    let packed = &packed.as_chunks::<16>().0[..width as usize];
    let mask = mask(width);
    let mut bit = 0;
    for row in out.as_chunks_mut::<2>().0 {
        let (step, shift) = ((bit / 64) as usize, bit % 64);
        let low = words64(packed, step);
        let high = words64(packed, (step + 1).min(packed.len() - 1));
        for lane in 0..2 {
            row[lane] = ((low[lane] >> shift) | (high[lane] << 1 << (63 - shift))) & mask;
        }
        bit += width;
    }
}

/// Appends `values` as one plain bit stream of `width` bits each, lowest bit first.
pub fn pack_tail(values: &[u64], width: u32, out: &mut Vec<u8>) {
    let mask = mask(width);
    let (mut open, mut open_bits) = (0_u128, 0);
    for &value in values {
        open |= u128::from(value & mask) << open_bits;
        open_bits += width;
        while open_bits >= 8 {
            out.push(open as u8);
            open >>= 8;
            open_bits -= 8;
        }
    }
    if open_bits > 0 {
        out.push(open as u8);
    }
}

/// Unpacks what [`pack_tail`] wrote. `packed` holds [`tail_size`] bytes of `out.len()` values.
pub fn unpack_tail(packed: &[u8], width: u32, out: &mut [u64]) {
    assert!(
        packed.len() >= tail_size(out.len(), width),
        "bug: packed tail too short"
    );
    let mask = mask(width);
    let mut bit = 0;
    for value in out {
        let (byte, shift) = (bit / 8, bit % 8);
        let rest = packed.get(byte..).unwrap_or(&[]);
        *value = match rest.first_chunk::<8>() {
            Some(word) if width <= 57 => u64::from_le_bytes(*word) >> shift & mask,
            _ => {
                let mut word = [0; 16];
                let length = rest.len().min(16);
                word[..length].copy_from_slice(&rest[..length]);
                (u128::from_le_bytes(word) >> shift) as u64 & mask
            }
        };
        bit += width as usize;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noise(width: u32) -> [u64; BLOCK_LEN] {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        std::array::from_fn(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state & mask(width)
        })
    }

    #[test]
    fn full_blocks_round_trip_at_every_width() {
        for width in 0..=64 {
            let values = noise(width);
            let mut packed = vec![0xAA];
            pack_block(&values, width, &mut packed);
            assert_eq!(packed.len(), 1 + block_size(width));
            if width <= 32 {
                let mut out = [u32::MAX; BLOCK_LEN];
                unpack_block_u32(&packed[1..], width, &mut out);
                assert_eq!(out.map(u64::from), values, "width {width}");
            } else {
                let mut out = [u64::MAX; BLOCK_LEN];
                unpack_block_u64(&packed[1..], width, &mut out);
                assert_eq!(out, values, "width {width}");
            }
        }
    }

    #[test]
    fn packing_masks_higher_bits() {
        let mut packed = vec![];
        pack_block(&[u64::MAX; BLOCK_LEN], 5, &mut packed);
        let mut out = [0; BLOCK_LEN];
        unpack_block_u32(&packed, 5, &mut out);
        assert_eq!(out, [31; BLOCK_LEN]);
    }

    #[test]
    fn tails_round_trip_at_every_width_and_length() {
        for width in 0..=64 {
            let values = noise(width);
            for count in [0, 1, 2, 7, 8, 9, 63, 127] {
                let mut packed = vec![];
                pack_tail(&values[..count], width, &mut packed);
                assert_eq!(packed.len(), tail_size(count, width));
                let mut out = vec![u64::MAX; count];
                unpack_tail(&packed, width, &mut out);
                assert_eq!(out, &values[..count], "width {width} count {count}");
            }
        }
    }
}
