//! LEB128 variable-length integers, and zig-zag for signed ones.

/// Longest encoding of a `u64`.
pub const VARINT_BYTES_MAX: usize = 10;

/// Appends `value` in 1 to 10 bytes.
#[inline]
pub fn write_u64(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value as u8) | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Appends `value` zig-zag encoded: small magnitudes of either sign are short.
#[inline]
pub fn write_i64(out: &mut Vec<u8>, value: i64) {
    write_u64(out, zigzag(value));
}

/// Reads a value at `*at` and moves `*at` past it; `None` when the bytes end or exceed 64 bits.
#[inline]
pub fn read_u64(bytes: &[u8], at: &mut usize) -> Option<u64> {
    let mut value = 0_u64;
    for shift in (0..64).step_by(7) {
        let byte = *bytes.get(*at)?;
        *at += 1;
        let low = u64::from(byte & 0x7f);
        if shift == 63 && low > 1 {
            return None;
        }
        value |= low << shift;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

/// Reads what [`write_i64`] wrote.
#[inline]
pub fn read_i64(bytes: &[u8], at: &mut usize) -> Option<i64> {
    read_u64(bytes, at).map(unzigzag)
}

/// Bytes that [`write_u64`] needs for `value`.
#[inline]
pub const fn len_u64(value: u64) -> usize {
    (64 - (value | 1).leading_zeros() as usize).div_ceil(7)
}

/// Maps 0, -1, 1, -2 … to 0, 1, 2, 3 …
#[inline]
pub const fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

/// The inverse of [`zigzag`].
#[inline]
pub const fn unzigzag(value: u64) -> i64 {
    ((value >> 1) as i64) ^ -((value & 1) as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extremes_round_trip() {
        for value in [0, 1, 127, 128, u64::MAX, u64::MAX / 2] {
            let mut out = Vec::new();
            write_u64(&mut out, value);
            let mut at = 0;
            assert_eq!(read_u64(&out, &mut at), Some(value));
            assert_eq!(at, out.len());
        }
        for value in [0, -1, 1, i64::MIN, i64::MAX] {
            let mut out = Vec::new();
            write_i64(&mut out, value);
            assert_eq!(read_i64(&out, &mut 0), Some(value));
        }
    }

    #[test]
    fn overlong_and_cut_values_are_refused() {
        assert_eq!(read_u64(&[0xff; 11], &mut 0), None);
        assert_eq!(read_u64(&[0x80], &mut 0), None);
        assert_eq!(
            read_u64(
                &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2],
                &mut 0
            ),
            None
        );
    }
}
