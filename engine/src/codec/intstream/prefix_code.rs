//! Canonical prefix codes for bytes (Huffman, at most 10 bits), made so that short runs can be
//! decoded by themselves and several at a time.
//!
//! A general entropy coder is a few per mille better on long runs, but knows no beginning other than
//! its own: here every block of a column is a run of its own under one common code. Runs are bit
//! streams, highest bit first; a table of 1024 entries turns ten bits into symbol and length. Decoding
//! one run waits for each length in turn; four runs side by side fill the waiting.

use std::array;

/// Longest code in bits.
const LENGTH_MAX: u32 = 10;
const TABLE_LEN: usize = 1 << LENGTH_MAX;
/// Symbols between two loads: what fits the 57 bits or more that a load leaves.
const SYMBOLS_PER_LOAD: usize = 5;

/// Most symbols of a code.
pub(super) const SYMBOLS_MAX: usize = 256;

/// Code lengths for symbols that occur so often: a complete code where two or more occur, with 0 for
/// those that do not. Not for fewer.
pub(super) fn lengths_of(counts: &[usize]) -> Vec<u8> {
    let mut by_count: Vec<usize> = (0..counts.len()).filter(|&s| counts[s] > 0).collect();
    by_count.sort_unstable_by_key(|&symbol| (counts[symbol], symbol));
    let frequencies: Vec<usize> = by_count.iter().map(|&symbol| counts[symbol]).collect();
    let mut of_length = lengths_histogram(&frequencies);
    limit(&mut of_length);
    let mut lengths = vec![0; counts.len()];
    // The rarest get the longest.
    let mut rarest_first = by_count.into_iter();
    for length in (1..=LENGTH_MAX as usize).rev() {
        for symbol in rarest_first.by_ref().take(of_length[length]) {
            lengths[symbol] = length as u8;
        }
    }
    lengths
}

/// How many codes of each length Huffman's algorithm gives to ascending frequencies.
fn lengths_histogram(ascending: &[usize]) -> Vec<usize> {
    // Two queues: leaves in order, and inner nodes, which come to be in order.
    let count = ascending.len();
    let mut weights = ascending.to_vec();
    let mut parents = vec![0_usize; 2 * count];
    let (mut leaf, mut inner) = (0, count);
    while weights.len() < 2 * count - 1 {
        let mut take = |weights: &[usize]| {
            let take_leaf =
                leaf < count && (inner >= weights.len() || weights[leaf] <= weights[inner]);
            let from = if take_leaf { &mut leaf } else { &mut inner };
            *from += 1;
            *from - 1
        };
        let (a, b) = (take(&weights), take(&weights));
        parents[a] = weights.len();
        parents[b] = weights.len();
        weights.push(weights[a] + weights[b]);
    }
    let mut depths = vec![0_usize; weights.len()];
    let mut of_length = vec![0; count.max(LENGTH_MAX as usize) + 1];
    for node in (0..weights.len().saturating_sub(1)).rev() {
        depths[node] = depths[parents[node]] + 1;
        if node < count {
            of_length[depths[node]] += 1;
        }
    }
    of_length
}

/// Shortens codes that are too long, at the price of lengthening others, until the code is complete.
fn limit(of_length: &mut [usize]) {
    let max = LENGTH_MAX as usize;
    let too_long: usize = of_length[max + 1..].iter().sum();
    of_length[max + 1..].fill(0);
    of_length[max] += too_long;
    let mut filled: usize = (1..=max)
        .map(|length| of_length[length] << (max - length))
        .sum();
    while filled > TABLE_LEN {
        // A code of the longest kind moves beside a shorter one, which becomes one bit longer.
        of_length[max] -= 1;
        if let Some(length) = (1..max).rev().find(|&length| of_length[length] > 0) {
            of_length[length] -= 1;
            of_length[length + 1] += 2;
        }
        filled -= 1;
    }
}

/// Codes of all symbols: bits and their number.
pub(super) struct Codes(Vec<(u16, u8)>);

impl Codes {
    /// The canonical code of these lengths.
    pub(super) fn new(lengths: &[u8]) -> Codes {
        let mut places = Places::new(lengths);
        let code = |&length: &u8| match length {
            0 => (0, 0),
            _ => (
                (places.next(length) >> (LENGTH_MAX - u32::from(length))) as u16,
                length,
            ),
        };
        Codes(lengths.iter().map(code).collect())
    }

    /// Appends a run.
    pub(super) fn encode(&self, symbols: impl Iterator<Item = u8>, out: &mut Vec<u8>) {
        let (mut open, mut open_bits) = (0_u64, 0);
        for symbol in symbols {
            let (code, length) = self.0[usize::from(symbol)];
            debug_assert!(length > 0, "bug: symbol {symbol} has no code");
            open = open << length | u64::from(code);
            open_bits += u32::from(length);
            while open_bits >= 8 {
                open_bits -= 8;
                out.push((open >> open_bits) as u8);
            }
        }
        if open_bits > 0 {
            out.push((open << (8 - open_bits)) as u8);
        }
    }
}

/// Where in the table the entries of the next symbol of each length begin: shorter codes first, those
/// of one length in the order of their symbols.
struct Places([usize; LENGTH_MAX as usize + 1]);

impl Places {
    fn new(lengths: &[u8]) -> Places {
        let mut counts = [0_usize; LENGTH_MAX as usize + 1];
        for &length in lengths {
            counts[usize::from(length)] += 1;
        }
        let mut begin = 0;
        Places(array::from_fn(|length| {
            let at = begin;
            if length > 0 {
                begin += counts[length] << (LENGTH_MAX as usize - length);
            }
            at
        }))
    }

    fn next(&mut self, length: u8) -> usize {
        let place = &mut self.0[usize::from(length)];
        let at = *place;
        *place += 1 << (LENGTH_MAX - u32::from(length));
        at
    }
}

/// Turns codes back into symbols.
pub(super) struct DecodeTable([u16; TABLE_LEN]);

impl DecodeTable {
    /// The table of a code; `None` when the lengths make no complete code of at most 10 bits.
    pub(super) fn new(lengths: &[u8]) -> Option<DecodeTable> {
        let longest = lengths.iter().max().copied().unwrap_or(0);
        if u32::from(longest) > LENGTH_MAX || lengths.len() > SYMBOLS_MAX {
            return None;
        }
        let used = lengths.iter().filter(|&&length| length > 0);
        let filled: usize = used.map(|&l| TABLE_LEN >> l).sum();
        if filled != TABLE_LEN {
            return None;
        }
        let mut places = Places::new(lengths);
        let mut table = [0; TABLE_LEN];
        for (symbol, &length) in lengths.iter().enumerate() {
            if length > 0 {
                let at = places.next(length);
                let entry = symbol as u16 | u16::from(length) << 8;
                table[at..at + (TABLE_LEN >> length)].fill(entry);
            }
        }
        Some(DecodeTable(table))
    }

    /// Decodes runs that begin at the bytes `starts` of `bytes`, side by side, and returns behind which
    /// bytes they end. Bits behind the end of `bytes` are zero: any bytes give some symbols.
    #[inline]
    #[expect(
        clippy::needless_range_loop,
        reason = "symbol by symbol in all lanes: no lane waits for its own last length"
    )]
    pub(super) fn decode<const LANES: usize, const LEN: usize>(
        &self,
        bytes: &[u8],
        starts: [usize; LANES],
        out: &mut [[u8; LEN]; LANES],
    ) -> [usize; LANES] {
        let mut bits = starts.map(|start| start * 8);
        let mut at = 0;
        while at < LEN {
            let mut words = bits.map(|bit| load(bytes, bit / 8) << (bit % 8));
            for at in at..(at + SYMBOLS_PER_LOAD).min(LEN) {
                for lane in 0..LANES {
                    let (symbol, length) = self.entry(words[lane]);
                    out[lane][at] = symbol;
                    words[lane] <<= length;
                    bits[lane] += length as usize;
                }
            }
            at += SYMBOLS_PER_LOAD;
        }
        bits.map(|bit| bit.div_ceil(8))
    }

    /// As [`DecodeTable::decode`], for one run of any length.
    pub(super) fn decode_one(&self, bytes: &[u8], start: usize, out: &mut [u8]) -> usize {
        let mut bit = start * 8;
        for symbols in out.chunks_mut(SYMBOLS_PER_LOAD) {
            let mut word = load(bytes, bit / 8) << (bit % 8);
            for out in symbols {
                let (symbol, length) = self.entry(word);
                *out = symbol;
                word <<= length;
                bit += length as usize;
            }
        }
        bit.div_ceil(8)
    }

    /// Symbol and length of the code that a word begins with.
    #[inline(always)]
    fn entry(&self, word: u64) -> (u8, u32) {
        let entry = self.0[(word >> (u64::BITS - LENGTH_MAX)) as usize];
        (entry as u8, u32::from(entry >> 8))
    }
}

/// The eight bytes at `at`, zeros behind the end.
#[inline(always)]
fn load(bytes: &[u8], at: usize) -> u64 {
    match bytes.get(at..).and_then(|rest| rest.first_chunk::<8>()) {
        Some(word) => u64::from_be_bytes(*word),
        None => load_end(bytes, at),
    }
}

#[cold]
fn load_end(bytes: &[u8], at: usize) -> u64 {
    let byte = |i: usize| bytes.get(at.saturating_add(i)).copied().unwrap_or(0);
    u64::from_be_bytes(array::from_fn(byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round_trip(counts: &[usize]) {
        let lengths = lengths_of(counts);
        let table = DecodeTable::new(&lengths).expect("a complete code");
        let symbols: Vec<u8> = (0..counts.len())
            .flat_map(|s| std::iter::repeat_n(s as u8, counts[s].min(50)))
            .collect();
        let mut bytes = vec![0xaa];
        Codes::new(&lengths).encode(symbols.iter().copied(), &mut bytes);
        let mut out = vec![0; symbols.len()];
        assert_eq!(table.decode_one(&bytes, 1, &mut out), bytes.len());
        assert_eq!(out, symbols);
    }

    #[test]
    fn codes_are_complete_and_read_back() {
        round_trip(&[1, 1]);
        round_trip(&[0, 7, 0, 9]);
        round_trip(&[1; 256]);
        // Fibonacci numbers ask for codes of any length.
        let mut fibonacci = vec![1, 1];
        while fibonacci.len() < 40 {
            fibonacci.push(fibonacci[fibonacci.len() - 1] + fibonacci[fibonacci.len() - 2]);
        }
        round_trip(&fibonacci);
        let powers: Vec<usize> = (0..256).map(|s| 1 << (s / 8)).collect();
        round_trip(&powers);
    }

    #[test]
    fn lanes_are_as_good_as_one() {
        let counts: Vec<usize> = (0..30).map(|s| 1 + s * s).collect();
        let lengths = lengths_of(&counts);
        let (codes, table) = (Codes::new(&lengths), DecodeTable::new(&lengths).unwrap());
        let runs: [[u8; 128]; 4] =
            array::from_fn(|lane| array::from_fn(|i| ((i * 7 + lane) % 30) as u8));
        let (mut bytes, mut starts) = (vec![], [0; 4]);
        for (run, start) in runs.iter().zip(&mut starts) {
            *start = bytes.len();
            codes.encode(run.iter().copied(), &mut bytes);
        }
        let mut out = [[0; 128]; 4];
        let ends = table.decode(&bytes, starts, &mut out);
        assert_eq!(
            (out, ends),
            (runs, [starts[1], starts[2], starts[3], bytes.len()])
        );
    }

    #[test]
    fn incomplete_and_overfull_codes_are_refused() {
        for lengths in [
            &[1_u8][..],
            &[1, 2],
            &[1, 1, 1],
            &[],
            &[0, 0],
            &[11, 1],
            &[255, 1],
        ] {
            assert!(DecodeTable::new(lengths).is_none(), "{lengths:?}");
        }
    }
}
