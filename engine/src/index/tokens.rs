//! Words of log text, for full-text search: runs of letters, digits, `_` and everything beyond ASCII,
//! in lower case, so that one filter serves searches with and without regard to case.

/// Words longer than this are cut: what follows adds nothing to a filter.
const WORD_BYTES_MAX: usize = 128;

fn is_word_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte >= 0x80
}

/// Calls `each` with every word of `text`, in lower case, repeats included.
pub fn for_each_word(text: &[u8], mut each: impl FnMut(&[u8])) {
    let mut lower = Vec::new();
    for word in runs(text) {
        fold(word, &mut lower);
        each(&lower);
    }
}

/// The words that any text must have which contains `needle`: those that are cut off on neither side.
/// In lower case; a text may have them and still not contain the needle.
#[must_use]
pub fn words_implied_by(needle: &[u8]) -> Vec<Vec<u8>> {
    let mut words = Vec::new();
    let mut lower = Vec::new();
    for word in runs(needle) {
        let start = word.as_ptr() as usize - needle.as_ptr() as usize;
        if start > 0 && start + word.len() < needle.len() {
            fold(word, &mut lower);
            words.push(lower.clone());
        }
    }
    words
}

/// The form under which one word is looked up.
#[must_use]
pub fn fold_word(word: &str) -> Vec<u8> {
    let mut lower = Vec::new();
    fold(word.as_bytes(), &mut lower);
    lower
}

fn runs(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split(|byte| !is_word_byte(*byte))
        .filter(|word| !word.is_empty())
}

fn fold(word: &[u8], lower: &mut Vec<u8>) {
    lower.clear();
    if word.is_ascii() {
        lower.extend(word.iter().map(u8::to_ascii_lowercase));
    } else {
        // Invalid UTF-8 cannot come in; if it did, both sides would fold it alike.
        let text = String::from_utf8_lossy(word).to_lowercase();
        lower.extend_from_slice(text.as_bytes());
    }
    lower.truncate(WORD_BYTES_MAX);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        let mut all = Vec::new();
        for_each_word(text.as_bytes(), |word| {
            all.push(String::from_utf8(word.to_vec()).unwrap());
        });
        all
    }

    #[test]
    fn text_falls_into_words() {
        assert_eq!(
            words("GET /api/v1?id=42 ERROR: Straße_7"),
            ["get", "api", "v1", "id", "42", "error", "straße_7"]
        );
        assert_eq!(words(" ,;"), Vec::<String>::new());
    }

    #[test]
    fn only_whole_words_are_implied() {
        let implied = |needle: &str| {
            words_implied_by(needle.as_bytes())
                .into_iter()
                .map(|w| String::from_utf8(w).unwrap())
                .collect::<Vec<_>>()
        };
        assert_eq!(implied("error"), Vec::<String>::new());
        assert_eq!(implied(" Error "), ["error"]);
        assert_eq!(implied("connection refused by pe"), ["refused", "by"]);
        assert_eq!(implied(""), Vec::<String>::new());
    }
}
