//! Messages inside of a stream of bytes: RFC 6587's octet counting and non-transparent framing.

use std::ops::Range;

/// Bytes of a message; longer ones are cut into several where newlines frame them.
pub(super) const MESSAGE_BYTES_MAX: usize = 64 << 10;
/// Digits of a message's length.
const LENGTH_DIGITS_MAX: usize = 6;

/// What the beginning of some bytes is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Frame {
    /// A message, which may be empty, and the bytes that it and its frame take.
    Whole {
        /// Where the message lies.
        message: Range<usize>,
        /// Bytes to go on behind.
        used: usize,
    },
    /// More bytes are needed.
    Partial,
    /// A length beyond the limit: where the next message begins cannot be known.
    Broken,
}

/// The first message. `123 <13>…` is counted, everything else ends with a newline or a zero byte.
pub(super) fn next_frame(bytes: &[u8]) -> Frame {
    let digits = bytes.iter().take_while(|b| b.is_ascii_digit()).count();
    let counted = matches!(bytes.first(), Some(b'1'..=b'9')) && bytes.get(digits) == Some(&b' ');
    if counted && bytes.get(digits + 1).is_none_or(|b| *b == b'<') {
        if digits > LENGTH_DIGITS_MAX {
            return Frame::Broken;
        }
        let length = bytes.iter().take(digits);
        let length = length.fold(0_usize, |sum, b| sum * 10 + usize::from(b - b'0'));
        if length > MESSAGE_BYTES_MAX {
            return Frame::Broken;
        }
        let start = digits + 1;
        let end = start + length;
        return match bytes.len() < end {
            true => Frame::Partial,
            false => Frame::Whole {
                message: start..end,
                used: end,
            },
        };
    }
    match memchr::memchr2(b'\n', 0, bytes) {
        Some(end) => Frame::Whole {
            message: 0..end,
            used: end + 1,
        },
        None if bytes.len() >= MESSAGE_BYTES_MAX => Frame::Whole {
            message: 0..MESSAGE_BYTES_MAX,
            used: MESSAGE_BYTES_MAX,
        },
        None => Frame::Partial,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn messages(mut bytes: &[u8]) -> (Vec<String>, Frame) {
        let mut out = Vec::new();
        loop {
            match next_frame(bytes) {
                Frame::Whole { message, used } => {
                    out.push(String::from_utf8_lossy(&bytes[message]).into_owned());
                    bytes = &bytes[used..];
                }
                other => return (out, other),
            }
        }
    }

    #[test]
    fn both_framings_may_follow_each_other() {
        let (got, end) = messages(b"<13>a\n7 <14>b c<15>d\r\n\0<16>e\x0012 <17>par");
        assert_eq!(got, ["<13>a", "<14>b c", "<15>d\r", "", "<16>e"]);
        assert_eq!(end, Frame::Partial);
        assert_eq!(messages(b"2024 was a year\n").0, ["2024 was a year"]);
        assert_eq!(messages(b"12").1, Frame::Partial);
    }

    #[test]
    fn what_is_too_long_is_cut_or_refused() {
        assert_eq!(messages(b"9999999 <13>x").1, Frame::Broken);
        assert_eq!(messages(b"99999 <13>x").1, Frame::Broken);
        let long = vec![b'x'; MESSAGE_BYTES_MAX + 5];
        let (got, end) = messages(&long);
        assert_eq!((got.len(), end), (1, Frame::Partial));
    }
}
