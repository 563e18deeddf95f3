//! Bytes of a file into records: a line each, or several lines from one that begins a record to the
//! next such line.
//!
//! What is not complete stays where it is and is read again with what comes behind it, so that nothing
//! is held between two reads but a position. **Invariant**: what [`Splitter::split`] says to be consumed
//! is exactly what its records, and the newlines and cut parts between them, are made of.

use memchr::memchr;
use regex::bytes::Regex;

/// How a file is split.
#[derive(Clone, Debug)]
pub struct Splitter {
    /// What begins a record; a line is a record without.
    pub first_line: Option<Regex>,
    /// Lines of a record; the next one begins another.
    pub lines_max: usize,
    /// Bytes of a record; what is more of it is cut off.
    pub bytes_max: usize,
}

/// How far a split got.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Split {
    /// Bytes that are done with.
    pub consumed: usize,
    /// Behind them stands the rest of a line that was cut off.
    pub skipping: bool,
    /// Records that were cut off.
    pub cut: u64,
}

impl Splitter {
    /// Gives each record in `bytes` to `record`. With `skipping` the bytes begin inside of a line that
    /// was cut off; with `is_end` nothing more will come soon, so that what is there counts as complete.
    pub fn split(
        &self,
        bytes: &[u8],
        skipping: bool,
        is_end: bool,
        mut record: impl FnMut(&[u8]),
    ) -> Split {
        let mut split = Split::default();
        if skipping {
            match memchr(b'\n', bytes) {
                Some(newline) => split.consumed = newline + 1,
                None => {
                    // The end of the file ends the line too.
                    return Split {
                        consumed: bytes.len(),
                        skipping: !is_end,
                        cut: 0,
                    };
                }
            }
        }
        let mut lines = 0;
        let mut at = split.consumed;
        while let Some(length) = memchr(b'\n', bytes.get(at..).unwrap_or_default()) {
            let line = bytes.get(at..at + length).unwrap_or_default();
            if lines > 0 && self.begins_record(line) {
                self.emit(bytes, &mut split, at, &mut record);
                lines = 0;
            }
            at += length + 1;
            lines += 1;
            let is_long = at - split.consumed > self.bytes_max;
            if self.first_line.is_none() || lines >= self.lines_max || is_long {
                self.emit(bytes, &mut split, at, &mut record);
                lines = 0;
            }
        }
        let rest = bytes.len() - split.consumed;
        if is_end && rest > 0 {
            self.emit(bytes, &mut split, bytes.len(), &mut record);
        } else if rest > self.bytes_max {
            // The line that is not complete goes on behind.
            split.skipping = at < bytes.len();
            self.emit(bytes, &mut split, bytes.len(), &mut record);
        }
        split
    }

    fn begins_record(&self, line: &[u8]) -> bool {
        let regex = self.first_line.as_ref();
        regex.is_none_or(|regex| regex.is_match(line))
    }

    /// Takes the bytes up to `end` as one record, without the newline at its end.
    fn emit(&self, bytes: &[u8], split: &mut Split, end: usize, record: &mut impl FnMut(&[u8])) {
        let whole = bytes.get(split.consumed..end).unwrap_or_default();
        split.consumed = end;
        let mut text = whole;
        for ending in [b'\n', b'\r'] {
            text = text.strip_suffix(&[ending]).unwrap_or(text);
        }
        if text.len() > self.bytes_max {
            split.cut += 1;
            text = text.get(..self.bytes_max).unwrap_or_default();
        }
        if !text.trim_ascii().is_empty() {
            record(text);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn splitter(first_line: Option<&str>, lines_max: usize, bytes_max: usize) -> Splitter {
        Splitter {
            first_line: first_line.map(|text| Regex::new(text).unwrap()),
            lines_max,
            bytes_max,
        }
    }

    fn split(
        splitter: &Splitter,
        text: &str,
        skipping: bool,
        is_end: bool,
    ) -> (Vec<String>, Split) {
        let mut records = Vec::new();
        let split = splitter.split(text.as_bytes(), skipping, is_end, |r| {
            records.push(String::from_utf8_lossy(r).into_owned());
        });
        (records, split)
    }

    #[test]
    fn lines_are_records() {
        let splitter = splitter(None, 1, 10);
        let (records, done) = split(&splitter, "a\r\n\nb c\nopen", false, false);
        assert_eq!(records, ["a", "b c"]);
        assert_eq!((done.consumed, done.skipping, done.cut), (8, false, 0));
        let (records, done) = split(&splitter, "open", false, true);
        assert_eq!((records, done.consumed), (vec!["open".to_owned()], 4));
    }

    #[test]
    fn long_lines_are_cut_wherever_they_end() {
        let splitter = splitter(None, 1, 4);
        let (records, done) = split(&splitter, "abcdefg\nhi\n", false, false);
        assert_eq!(records, ["abcd", "hi"]);
        assert_eq!((done.consumed, done.skipping, done.cut), (11, false, 1));
        let (records, done) = split(&splitter, "abcdefg", false, false);
        assert_eq!(records, ["abcd"]);
        assert_eq!((done.consumed, done.skipping, done.cut), (7, true, 1));
        let (records, done) = split(&splitter, "hij", true, false);
        assert_eq!((records.len(), done.consumed, done.skipping), (0, 3, true));
        let (records, done) = split(&splitter, "k\nl\n", true, false);
        assert_eq!((records, done.consumed), (vec!["l".to_owned()], 4));
        assert!(!done.skipping);
    }

    #[test]
    fn lines_belong_to_the_first_one_before_them() {
        let splitter = splitter(Some(r"^\d"), 3, 100);
        let text = "1 a\n  at x\n  at y\n2 b\n3 c\n  at z\n";
        let (records, done) = split(&splitter, text, false, false);
        assert_eq!(records, ["1 a\n  at x\n  at y", "2 b"]);
        assert_eq!(&text[done.consumed..], "3 c\n  at z\n");
        let (records, done) = split(&splitter, &text[done.consumed..], false, true);
        assert_eq!(records, ["3 c\n  at z"]);
        assert_eq!(done.consumed, 11);
        // What stands before the first first line is a record, and one has so many lines at most.
        let (records, _) = split(&splitter, "x\n1\n2\n a\n b\n c\n d\n", false, true);
        assert_eq!(records, ["x", "1", "2\n a\n b", " c\n d"]);
    }

    #[test]
    fn records_of_many_lines_are_cut_too() {
        let splitter = splitter(Some("^1"), 100, 8);
        let (records, done) = split(&splitter, "1 abc\n de\n fg\n1 x\n", false, false);
        assert_eq!(records, ["1 abc\n d", " fg"]);
        assert_eq!((done.consumed, done.cut), (14, 1));
        let (records, done) = split(&splitter, "1 abc\n defghij", false, false);
        assert_eq!(
            (records, done.skipping),
            (vec!["1 abc\n d".to_owned()], true)
        );
    }

    /// However a file arrives, the same records come of it as of the whole.
    #[test]
    fn pieces_make_the_same_records_as_the_whole() {
        let text = "1 one\n more\n\n2 two\r\n3 a longer one that is cut\n tail\n4\n5 end";
        for splitter in [
            splitter(None, 1, 12),
            splitter(None, 1, 1000),
            splitter(Some(r"^\d"), 2, 1000),
        ] {
            let (expected, whole) = split(&splitter, text, false, true);
            assert_eq!(whole.consumed, text.len());
            for piece in 1..text.len() {
                let (mut records, mut at, mut skipping) = (Vec::new(), 0, false);
                for end in (piece..text.len()).step_by(piece).chain([text.len()]) {
                    let is_end = end == text.len();
                    let (mut found, done) = split(&splitter, &text[at..end], skipping, is_end);
                    records.append(&mut found);
                    at += done.consumed;
                    skipping = done.skipping;
                }
                assert_eq!(records, expected, "pieces of {piece}");
            }
        }
    }
}
