//! Every maximum in one place.

/// Bytes of a regex pattern.
pub const REGEX_PATTERN_BYTES_MAX: usize = 64 << 10;
/// Bytes of a compiled regex.
pub const REGEX_COMPILED_BYTES_MAX: usize = 4 << 20;
/// Nesting of groups in a regex.
pub const REGEX_NESTING_MAX: u32 = 120;
/// Strings into which an alternation of literals is unfolded.
pub const REGEX_LITERALS_MAX: usize = 256;
/// Labels of a series.
pub const LABELS_PER_SERIES_MAX: usize = 256;
/// Bytes of a label's name.
pub const LABEL_NAME_BYTES_MAX: usize = 4 << 10;
/// Bytes of a label's value.
pub const LABEL_VALUE_BYTES_MAX: usize = 64 << 10;
/// Bytes of a series' label set, encoded.
pub const LABEL_SET_BYTES_MAX: usize = 256 << 10;
/// Bytes of a derivation's name.
pub const DERIVATION_BYTES_MAX: usize = 1 << 10;
/// Bytes of a state document's collection and of its key.
pub const STATE_NAME_BYTES_MAX: usize = 4 << 10;
/// Bytes of a state document.
pub const STATE_VALUE_BYTES_MAX: usize = 16 << 20;

const _: () = assert!(LABEL_VALUE_BYTES_MAX < LABEL_SET_BYTES_MAX);
const _: () = assert!(LABEL_NAME_BYTES_MAX < LABEL_VALUE_BYTES_MAX);
