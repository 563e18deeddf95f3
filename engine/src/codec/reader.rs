//! The bounded reader by which all decoders look at foreign bytes.
//!
//! It knows where it stands and which codec reads, so that each error names both.

use super::CodecError;
use super::varint::unzigzag;

/// A cursor over untrusted bytes.
#[derive(Debug, Clone)]
pub struct ByteReader<'a> {
    codec: &'static str,
    bytes: &'a [u8],
    position: usize,
}

impl<'a> ByteReader<'a> {
    /// Starts at `position` of `bytes` (usually 1: behind the tag). `codec` goes into errors.
    #[inline]
    pub fn new(codec: &'static str, bytes: &'a [u8], position: usize) -> Self {
        ByteReader {
            codec,
            bytes,
            position: position.min(bytes.len()),
        }
    }

    /// Offset of the next byte.
    #[inline]
    pub fn position(&self) -> usize {
        self.position
    }

    /// Bytes that are left.
    #[inline]
    pub fn remaining(&self) -> usize {
        self.bytes.len() - self.position
    }

    /// An error that names this place.
    #[cold]
    pub fn corrupt(&self, what: &'static str) -> CodecError {
        CodecError::Corrupt {
            codec: self.codec,
            what,
            offset: self.position,
        }
    }

    #[cold]
    fn truncated(&self, needed: usize) -> CodecError {
        CodecError::Truncated {
            codec: self.codec,
            offset: self.bytes.len(),
            needed,
        }
    }

    /// The next `size` bytes.
    ///
    /// # Errors
    /// [`CodecError::Truncated`] if fewer are left.
    #[inline]
    pub fn take(&mut self, size: usize) -> Result<&'a [u8], CodecError> {
        match self.bytes[self.position..].get(..size) {
            Some(taken) => {
                self.position += size;
                Ok(taken)
            }
            None => Err(self.truncated(size - self.remaining())),
        }
    }

    /// All that is left.
    #[inline]
    pub fn rest(&mut self) -> &'a [u8] {
        let rest = &self.bytes[self.position..];
        self.position = self.bytes.len();
        rest
    }

    /// The next `N` bytes as an array.
    ///
    /// # Errors
    /// [`CodecError::Truncated`] if fewer are left.
    #[inline]
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], CodecError> {
        match self.bytes[self.position..].first_chunk::<N>() {
            Some(array) => {
                self.position += N;
                Ok(*array)
            }
            None => Err(self.truncated(N - self.remaining())),
        }
    }

    /// One byte.
    ///
    /// # Errors
    /// [`CodecError::Truncated`] at the end.
    #[inline]
    pub fn u8(&mut self) -> Result<u8, CodecError> {
        Ok(self.array::<1>()?[0])
    }

    /// A little-endian `u64`.
    ///
    /// # Errors
    /// [`CodecError::Truncated`] if fewer than 8 bytes are left.
    #[inline]
    pub fn u64_le(&mut self) -> Result<u64, CodecError> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    /// A varint as written by [`write_u64`](super::varint::write_u64).
    ///
    /// # Errors
    /// [`CodecError::Truncated`], or [`CodecError::Corrupt`] if it does not fit 64 bits.
    #[inline]
    pub fn varint_u64(&mut self) -> Result<u64, CodecError> {
        let mut value = 0_u64;
        let mut shift = 0;
        loop {
            let byte = self.u8()?;
            if shift == 63 && byte > 1 {
                return Err(self.corrupt("varint beyond 64 bits"));
            }
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
            shift += 7;
        }
    }

    /// A zigzagged varint as written by [`write_i64`](super::varint::write_i64).
    ///
    /// # Errors
    /// As [`Self::varint_u64`].
    #[inline]
    pub fn varint_i64(&mut self) -> Result<i64, CodecError> {
        self.varint_u64().map(unzigzag)
    }

    /// A varint that counts or measures something in memory and must not exceed `max`.
    ///
    /// # Errors
    /// As [`Self::varint_u64`], and [`CodecError::Corrupt`] with `what` if it is larger.
    #[inline]
    pub fn varint_max(&mut self, max: usize, what: &'static str) -> Result<usize, CodecError> {
        let value = self.varint_u64()?;
        match usize::try_from(value) {
            Ok(value) if value <= max => Ok(value),
            _ => Err(self.corrupt(what)),
        }
    }

    /// Succeeds if nothing is left.
    ///
    /// # Errors
    /// [`CodecError::Corrupt`] if something is.
    #[inline]
    pub fn finish(&self) -> Result<(), CodecError> {
        if self.remaining() == 0 {
            Ok(())
        } else {
            Err(self.corrupt("bytes behind the end"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::varint::{len_u64, unzigzag, write_u64, zigzag};

    #[test]
    fn varints_round_trip_at_all_widths() {
        for shift in 0..64 {
            for value in [1_u64 << shift, (1 << shift) - 1, u64::MAX >> shift] {
                let mut out = vec![];
                write_u64(&mut out, value);
                assert_eq!(out.len(), len_u64(value));
                let mut reader = ByteReader::new("test", &out, 0);
                assert_eq!(reader.varint_u64(), Ok(value));
                assert_eq!(reader.finish(), Ok(()));
                assert_eq!(unzigzag(zigzag(value as i64)), value as i64);
                for cut in 0..out.len() {
                    assert!(
                        ByteReader::new("test", &out[..cut], 0)
                            .varint_u64()
                            .is_err()
                    );
                }
            }
        }
    }

    #[test]
    fn overlong_varints_are_refused() {
        let mut reader = ByteReader::new("test", &[0xff; 11], 0);
        assert!(matches!(
            reader.varint_u64(),
            Err(CodecError::Corrupt { .. })
        ));
        let bytes = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02];
        assert!(ByteReader::new("test", &bytes, 0).varint_u64().is_err());
    }
}
