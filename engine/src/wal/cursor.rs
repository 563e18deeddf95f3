//! A bounded reader over untrusted bytes: every step is checked, and an error says where.

use crate::codec::varint;

/// Why bytes could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} at byte {offset}")]
pub(crate) struct Malformed {
    /// What is wrong.
    pub what: &'static str,
    /// Offset inside the decoded bytes.
    pub offset: usize,
}

/// Walks over bytes.
#[derive(Clone, Debug)]
pub(crate) struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    pub(crate) fn position(&self) -> usize {
        self.at
    }

    pub(crate) fn remaining(&self) -> usize {
        self.bytes.len() - self.at
    }

    #[cold]
    pub(crate) fn malformed(&self, what: &'static str) -> Malformed {
        Malformed {
            what,
            offset: self.at,
        }
    }

    pub(crate) fn take(&mut self, count: usize) -> Result<&'a [u8], Malformed> {
        let taken = self
            .at
            .checked_add(count)
            .and_then(|end| self.bytes.get(self.at..end))
            .ok_or_else(|| self.malformed("bytes end early"))?;
        self.at += count;
        Ok(taken)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let taken = self.bytes.get(self.at..).and_then(|b| b.first_chunk::<N>());
        let array = *taken.ok_or_else(|| self.malformed("bytes end early"))?;
        self.at += N;
        Ok(array)
    }

    pub(crate) fn u8(&mut self) -> Result<u8, Malformed> {
        Ok(self.array::<1>()?[0])
    }

    pub(crate) fn u32(&mut self) -> Result<u32, Malformed> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    pub(crate) fn u64(&mut self) -> Result<u64, Malformed> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    pub(crate) fn f64(&mut self) -> Result<f64, Malformed> {
        Ok(f64::from_bits(self.u64()?))
    }

    #[inline]
    pub(crate) fn varint(&mut self) -> Result<u64, Malformed> {
        let start = self.at;
        varint::read_u64(self.bytes, &mut self.at).ok_or(Malformed {
            what: "malformed varint",
            offset: start,
        })
    }

    #[inline]
    pub(crate) fn zigzag(&mut self) -> Result<i64, Malformed> {
        let start = self.at;
        varint::read_i64(self.bytes, &mut self.at).ok_or(Malformed {
            what: "malformed varint",
            offset: start,
        })
    }

    /// A varint that must fit `T`.
    pub(crate) fn narrow<T: TryFrom<u64>>(&mut self, what: &'static str) -> Result<T, Malformed> {
        let offset = self.at;
        T::try_from(self.varint()?).map_err(|_| Malformed { what, offset })
    }

    /// A number of items of at least `bytes_min` bytes each, so that a lie cannot make the caller
    /// allocate more than a small multiple of what was read.
    pub(crate) fn count(&mut self, bytes_min: usize) -> Result<usize, Malformed> {
        let offset = self.at;
        let count: usize = self.narrow("count too large")?;
        if count > self.remaining() / bytes_min.max(1) {
            return Err(Malformed {
                what: "count larger than the bytes that are left",
                offset,
            });
        }
        Ok(count)
    }

    /// Bytes behind a varint of their length.
    pub(crate) fn bytes(&mut self) -> Result<&'a [u8], Malformed> {
        let length = self.narrow("length too large")?;
        self.take(length)
    }

    /// Text behind a varint of its length.
    pub(crate) fn text(&mut self) -> Result<&'a str, Malformed> {
        let offset = self.at;
        std::str::from_utf8(self.bytes()?).map_err(|_| Malformed {
            what: "text is not UTF-8",
            offset,
        })
    }

    /// Succeeds when nothing is left.
    pub(crate) fn finish(&self) -> Result<(), Malformed> {
        match self.remaining() {
            0 => Ok(()),
            _ => Err(self.malformed("bytes behind the end")),
        }
    }
}

/// Appends bytes behind a varint of their length.
pub(crate) fn write_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    varint::write_u64(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Appends text behind a varint of its length.
pub(crate) fn write_text(out: &mut Vec<u8>, text: &str) {
    write_bytes(out, text.as_bytes());
}
