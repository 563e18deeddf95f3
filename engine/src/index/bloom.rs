//! Split-block Bloom filter: each key sets eight bits inside one 32-byte block, so that a look-up
//! touches one cache line (Putze, Sanders and Singler, "Cache-, Hash- and Space-Efficient Bloom
//! Filters", 2007; the block layout is Parquet's).

/// Bytes of a block.
const BLOCK_SIZE: usize = 32;

/// Bits of filter per key: about one false answer in 150.
pub const BITS_PER_KEY: usize = 12;

/// Odd numbers that spread a key over the eight words of its block (those of Parquet's filter).
const SALT: [u32; 8] = [
    0x47b6_137b,
    0x4497_4d91,
    0x8824_ad5b,
    0xa2b7_289d,
    0x7054_95c7,
    0x2df1_424b,
    0x9efc_4947,
    0x5c6b_fb31,
];

/// The 64-bit hash by which keys enter a filter: xxh3 with seed 0; part of the format.
#[must_use]
pub fn hash(key: &[u8]) -> u64 {
    xxhash_rust::xxh3::xxh3_64(key)
}

/// Bits of filter per key that a bound on the size leaves: about one false answer in six.
const BITS_PER_KEY_MIN: usize = 5;

/// Appends a filter over distinct key hashes: blocks of 32 bytes, none when there are no keys.
pub fn build(hashes: &[u64], out: &mut Vec<u8>) {
    build_within(hashes, usize::MAX, out);
}

/// As [`build`], of at most `bytes_max` bytes as long as that leaves a few bits for each key.
pub(crate) fn build_within(hashes: &[u64], bytes_max: usize, out: &mut Vec<u8>) {
    let start = out.len();
    let blocks_of = |bits_per_key: usize| (hashes.len() * bits_per_key).div_ceil(BLOCK_SIZE * 8);
    let blocks = blocks_of(BITS_PER_KEY)
        .min(bytes_max / BLOCK_SIZE)
        .max(blocks_of(BITS_PER_KEY_MIN));
    out.resize(start + blocks * BLOCK_SIZE, 0);
    let filter = &mut out[start..];
    for hash in hashes {
        let at = block_of(*hash, blocks) * BLOCK_SIZE;
        let words = filter[at..at + BLOCK_SIZE].chunks_exact_mut(4);
        for (word, bit) in words.zip(bits(*hash)) {
            word[bit as usize / 8] |= 1 << (bit % 8);
        }
    }
}

/// Whether a key may be in the filter; `false` is certain. An empty filter has no keys.
#[must_use]
pub fn may_contain(filter: &[u8], hash: u64) -> bool {
    let blocks = filter.len() / BLOCK_SIZE;
    if blocks == 0 {
        return false;
    }
    let at = block_of(hash, blocks) * BLOCK_SIZE;
    let words = filter[at..at + BLOCK_SIZE].chunks_exact(4);
    words
        .zip(bits(hash))
        .all(|(word, bit)| word[bit as usize / 8] & (1 << (bit % 8)) != 0)
}

/// The upper half of the hash picks the block, by multiplication instead of remainder.
fn block_of(hash: u64, blocks: usize) -> usize {
    (((hash >> 32) * blocks as u64) >> 32) as usize
}

/// The lower half picks one of 32 bits in each word.
fn bits(hash: u64) -> impl Iterator<Item = u32> {
    SALT.into_iter()
        .map(move |salt| (hash as u32).wrapping_mul(salt) >> 27)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_found_and_few_others() {
        let keys: Vec<u64> = (0..10_000_u32).map(|k| hash(&k.to_le_bytes())).collect();
        let mut filter = Vec::new();
        build(&keys, &mut filter);
        assert!(filter.len() * 8 <= keys.len() * BITS_PER_KEY + 256);
        assert!(keys.iter().all(|key| may_contain(&filter, *key)));
        let strangers = 10_000..110_000_u32;
        let wrong = strangers
            .filter(|k| may_contain(&filter, hash(&k.to_le_bytes())))
            .count();
        assert!(wrong < 1_500, "{wrong} of 100000");
    }

    #[test]
    fn an_empty_filter_has_nothing() {
        let mut filter = Vec::new();
        build(&[], &mut filter);
        assert!(filter.is_empty());
        assert!(!may_contain(&filter, 1));
    }
}
