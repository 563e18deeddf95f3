//! Ids of traces and spans as text.

use std::fmt::Write as _;

/// Bytes as lower-case hexadecimal digits.
#[must_use]
pub fn to_hex(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        let _ = write!(out, "{byte:02x}");
    }
    out
}

/// The id that hexadecimal digits stand for, padded with zeros on the left; `None` for other text, too
/// many digits, none, or zeros only.
#[must_use]
pub fn padded<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digits = text.as_bytes();
    if digits.is_empty() || digits.len() > 2 * N {
        return None;
    }
    let mut id = [0_u8; N];
    for (place, digit) in digits.iter().rev().enumerate() {
        let value = digit_value(*digit)?;
        let byte = id.get_mut(N.checked_sub(1 + place / 2)?)?;
        *byte |= value << (4 * (place & 1));
    }
    (id != [0; N]).then_some(id)
}

/// The id that `text` stands for if it is exactly in the usual form: all digits, small letters. Then
/// the text can be made from the id again.
#[inline]
#[must_use]
pub fn exact<const N: usize>(text: &str) -> Option<[u8; N]> {
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    if pairs.len() != N || !rest.is_empty() {
        return None;
    }
    let mut id = [0_u8; N];
    for (byte, [high, low]) in id.iter_mut().zip(pairs) {
        if high.is_ascii_uppercase() || low.is_ascii_uppercase() {
            return None;
        }
        *byte = digit_value(*high)? << 4 | digit_value(*low)?;
    }
    (id != [0; N]).then_some(id)
}

#[inline]
fn digit_value(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_ids_are_padded_on_the_left() {
        assert_eq!(padded::<2>("abc"), Some([0x0a, 0xbc]));
        assert_eq!(padded::<2>("AB"), Some([0, 0xab]));
        for none in ["", "0", "12345", "xy"] {
            assert_eq!(padded::<2>(none), None, "{none}");
        }
        assert_eq!(exact::<2>("0abc"), Some([0x0a, 0xbc]));
        for none in ["abc", "0ABC", "0000", "0abc0", "0ab", "zzzz"] {
            assert_eq!(exact::<2>(none), None, "{none}");
        }
        assert_eq!(to_hex(&[0, 255]), "00ff");
    }
}
