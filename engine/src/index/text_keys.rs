//! The keys under which text enters a block's filter, and those that a search must find there.
//!
//! Text falls into *words*: runs of ASCII letters and digits, `_` and all bytes beyond ASCII, in lower
//! case. A word without digits is a key as it is. Words with digits (numbers, ids) are too many and are
//! searched by their parts, so a word of at least [`PART_BYTES_MIN`] bytes with a digit enters as the
//! *minimizers* of its windows: of the [`GRAMS_PER_WINDOW`] grams of [`GRAM_BYTES`] bytes inside each
//! window of eight bytes the one with the smallest hash (Schleimer, Wilkerson and Aiken, "Winnowing:
//! Local Algorithms for Document Fingerprinting", SIGMOD 2003). Any part of eight bytes has the
//! minimizer of its window among them, wherever it is cut out. Shorter words with digits have no key.
//!
//! Lower case is taken letter by letter, so that a part of a text folds to a part of the folded text;
//! the two letters beyond ASCII that regexes take for ASCII ones (`ſ`, Kelvin sign) fold to those.

use super::bloom;

/// Parts of words with digits are searched from this length on.
pub(crate) const PART_BYTES_MIN: usize = 8;
const GRAM_BYTES: usize = 6;
const GRAMS_PER_WINDOW: usize = PART_BYTES_MIN - GRAM_BYTES + 1;
const GRAM_MASK: u64 = (1 << (8 * GRAM_BYTES)) - 1;

/// Words without digits are cut at this length: what follows adds nothing to a filter.
const WORD_BYTES_MAX: usize = 128;

/// What a byte is: 0 outside of words, else itself in lower case; bytes beyond ASCII as they are.
static FOLDED: [u8; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let b = byte as u8;
        if b.is_ascii_alphanumeric() || b == b'_' || b >= 0x80 {
            table[byte] = b.to_ascii_lowercase();
        }
        byte += 1;
    }
    table
};

/// Whether a byte belongs to a word.
#[inline]
pub(crate) fn is_word_byte(byte: u8) -> bool {
    FOLDED[byte as usize] != 0
}

/// Takes the keys of text.
pub(crate) trait KeySink {
    /// A word without digits, by its hash.
    fn word(&mut self, hash: u64);
    /// A minimizer of a word with digits, by its hash.
    fn part(&mut self, hash: u64);
}

/// Calls `keys` with every key of `text`, repeats included. `scratch` is working space.
#[inline]
pub(crate) fn for_each_key(text: &[u8], scratch: &mut Vec<u8>, keys: &mut impl KeySink) {
    let mut at = 0;
    while at < text.len() {
        if !is_word_byte(text[at]) {
            at += 1;
            continue;
        }
        scratch.clear();
        let (mut digits, mut high) = (false, false);
        let start = at;
        while let Some(byte) = text.get(at) {
            let folded = FOLDED[*byte as usize];
            if folded == 0 {
                break;
            }
            digits |= folded.is_ascii_digit();
            high |= folded >= 0x80;
            scratch.push(folded);
            at += 1;
        }
        if high {
            fold_into(&text[start..at], scratch);
        }
        word_keys(scratch, digits, keys);
    }
}

/// The keys of one folded word.
#[inline]
fn word_keys(word: &[u8], has_digits: bool, keys: &mut impl KeySink) {
    if !has_digits {
        keys.word(bloom::hash(&word[..word.len().min(WORD_BYTES_MAX)]));
    } else if word.len() >= PART_BYTES_MIN {
        for_each_minimizer(word, |hash| keys.part(hash));
    }
}

/// Calls `each` with the smallest gram hash of every window, but not twice in a row with the same.
#[inline]
fn for_each_minimizer(word: &[u8], mut each: impl FnMut(u64)) {
    let gram = |bytes: &[u8]| {
        let mut word = [0; 8];
        word[..GRAM_BYTES].copy_from_slice(&bytes[..GRAM_BYTES]);
        mix(u64::from_le_bytes(word) & GRAM_MASK)
    };
    let mut grams = word.windows(GRAM_BYTES).map(gram);
    let mut recent = [u64::MAX; GRAMS_PER_WINDOW];
    for slot in recent.iter_mut().skip(1) {
        *slot = grams.next().unwrap_or(u64::MAX);
    }
    let mut last = None;
    for hash in grams {
        recent.rotate_left(1);
        recent[GRAMS_PER_WINDOW - 1] = hash;
        let smallest = recent.into_iter().min();
        if smallest != last {
            last = smallest;
            each(smallest.unwrap_or(hash));
        }
    }
}

/// Spreads the bits of a gram (the finisher of MurmurHash3).
#[inline]
fn mix(mut bits: u64) -> u64 {
    bits ^= bits >> 33;
    bits = bits.wrapping_mul(0xff51_afd7_ed55_8ccd);
    bits ^= bits >> 33;
    bits = bits.wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    bits ^ bits >> 33
}

/// One letter in lower case; `None` where that is several letters.
pub(crate) fn fold_char(letter: char) -> Option<char> {
    match letter {
        '\u{17f}' => Some('s'),
        '\u{212a}' => Some('k'),
        _ => {
            let mut lower = letter.to_lowercase();
            let first = lower.next()?;
            lower.next().is_none().then_some(first)
        }
    }
}

/// A word with letters beyond ASCII in lower case. Letters that would become several stay, and so does
/// what is no UTF-8: a search folds alike.
fn fold_into(word: &[u8], folded: &mut Vec<u8>) {
    folded.clear();
    let mut buffer = [0; 4];
    for chunk in word.utf8_chunks() {
        for letter in chunk.valid().chars() {
            let letter = fold_char(letter).unwrap_or(letter);
            folded.extend_from_slice(letter.encode_utf8(&mut buffer).as_bytes());
        }
        folded.extend_from_slice(chunk.invalid());
    }
}

/// Folded text of a search, of which it is known what stands beside it.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Needle {
    /// Folded text.
    pub(crate) text: Vec<u8>,
    /// Whether a word that begins with the text begins there.
    pub(crate) starts_word: bool,
    /// Whether a word that ends with the text ends there.
    pub(crate) ends_word: bool,
}

impl Needle {
    /// Some part of a text.
    pub(crate) fn part(text: &str) -> Self {
        let mut folded = Vec::new();
        fold_into(text.as_bytes(), &mut folded);
        Self {
            text: folded,
            starts_word: false,
            ends_word: false,
        }
    }

    /// Calls `keys` with keys that every text has which contains the needle.
    pub(crate) fn for_each_key(&self, keys: &mut impl KeySink) {
        let mut at = 0;
        for word in self.text.split(|byte| !is_word_byte(*byte)) {
            let end = at + word.len();
            let starts = at > 0 || self.starts_word;
            let ends = end < self.text.len() || self.ends_word;
            let digits = word.iter().any(u8::is_ascii_digit);
            // Of a word that may go on, only parts are known, and whether it has digits only if it has.
            if !word.is_empty() && (digits || (starts && ends)) {
                word_keys(word, digits, keys);
            }
            at = end + 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    #[derive(Default)]
    struct Keys {
        words: HashSet<u64>,
        parts: HashSet<u64>,
    }

    impl KeySink for Keys {
        fn word(&mut self, hash: u64) {
            self.words.insert(hash);
        }

        fn part(&mut self, hash: u64) {
            self.parts.insert(hash);
        }
    }

    fn keys_of(text: &str) -> Keys {
        let mut keys = Keys::default();
        for_each_key(text.as_bytes(), &mut Vec::new(), &mut keys);
        keys
    }

    fn wanted(needle: &str) -> Keys {
        let mut keys = Keys::default();
        Needle::part(needle).for_each_key(&mut keys);
        keys
    }

    #[test]
    fn words_and_ids_have_keys_and_numbers_none() {
        let keys = keys_of("GET /api/v1 id=42 Straße blk_-2111546881624869711");
        let words: HashSet<u64> = ["get", "api", "id", "straße", "blk_"]
            .map(|word| bloom::hash(word.as_bytes()))
            .into();
        assert_eq!(keys.words, words);
        assert!((5..=12).contains(&keys.parts.len()));
        assert_eq!(wanted(" Failed "), keys_of("failed"));
        assert!(wanted("failed").words.is_empty());
        assert_eq!(wanted("x 81624869 y").parts.len(), 1);
    }

    impl PartialEq for Keys {
        fn eq(&self, other: &Self) -> bool {
            self.words == other.words && self.parts == other.parts
        }
    }

    impl std::fmt::Debug for Keys {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            write!(f, "{} words, {} parts", self.words.len(), self.parts.len())
        }
    }

    proptest! {
        #[test]
        fn every_part_of_a_text_has_its_keys_there(
            text in "[a-cA-C0-3éÉſσς _.-]{0,60}", start in 0_usize..60, length in 0_usize..60,
        ) {
            let letters: Vec<char> = text.chars().collect();
            let start = start.min(letters.len());
            let end = (start + length).min(letters.len());
            let part: String = letters[start..end].iter().collect();
            let (keys, wanted) = (keys_of(&text), wanted(&part));
            prop_assert!(wanted.words.is_subset(&keys.words), "{part:?} of {text:?}");
            prop_assert!(wanted.parts.is_subset(&keys.parts), "{part:?} of {text:?}");
        }
    }
}
