//! Seeded mutations of inputs: the moves that find faults in parsers most often.

/// Numbers at which lengths, counts and offsets go wrong.
const INTERESTING: [u64; 14] = [
    0,
    1,
    0x7f,
    0x80,
    0xff,
    0x7fff,
    0xffff,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_ffff,
    0x7fff_ffff_ffff_ffff,
    0x8000_0000_0000_0000,
    u64::MAX - 1,
    u64::MAX,
];

/// Inputs do not grow beyond this: faults show in small inputs, and small ones run faster.
const INPUT_BYTES_MAX: usize = 64 << 10;

/// Random numbers (SplitMix64; Steele, Lea, Flood 2014).
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    /// The stream of a seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next 64 bits.
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    }

    /// A number below `bound`; 0 if the bound is 0.
    pub fn below(&mut self, bound: usize) -> usize {
        if bound == 0 {
            0
        } else {
            (self.next_u64() % bound as u64) as usize
        }
    }
}

/// A mutant of one of the inputs: one to eight moves.
pub fn mutant(inputs: &[Vec<u8>], dictionary: &[&str], random: &mut Random) -> Vec<u8> {
    let mut bytes = inputs
        .get(random.below(inputs.len()))
        .cloned()
        .unwrap_or_default();
    for _ in 0..=random.below(8) {
        let other = inputs
            .get(random.below(inputs.len()))
            .map_or(&[][..], Vec::as_slice);
        change(&mut bytes, other, dictionary, random);
    }
    bytes.truncate(INPUT_BYTES_MAX);
    bytes
}

/// One move.
fn change(bytes: &mut Vec<u8>, other: &[u8], dictionary: &[&str], random: &mut Random) {
    let at = random.below(bytes.len());
    match random.below(10) {
        0 => flip_bit(bytes, at, random),
        1 => {
            if let Some(byte) = bytes.get_mut(at) {
                *byte = random.next_u64() as u8;
            }
        }
        2 => bytes.truncate(at),
        3 => {
            let end = at + random.below(bytes.len().saturating_sub(at).min(32));
            bytes.drain(at..end);
        }
        4 => {
            // Repeats a stretch: counts that disagree, deep nesting.
            let end = at + random.below(bytes.len().saturating_sub(at).min(64));
            let piece = bytes[at..end].to_vec();
            for _ in 0..=random.below(6) {
                insert(bytes, at, &piece);
            }
        }
        5 => {
            let from = random.below(other.len());
            let to = from + random.below(other.len() - from + usize::from(other.is_empty()));
            insert(bytes, at, other.get(from..to).unwrap_or_default());
        }
        6 => {
            // Overwrites with an interesting number of 1, 2, 4 or 8 bytes, in either byte order.
            let number = INTERESTING[random.below(INTERESTING.len())];
            let width = 1 << random.below(4);
            let mut piece = number.to_le_bytes()[..width].to_vec();
            if random.below(2) == 0 {
                piece.reverse();
            }
            for (target, source) in bytes.iter_mut().skip(at).zip(piece) {
                *target = source;
            }
        }
        7 | 8 if !dictionary.is_empty() => {
            insert(
                bytes,
                at,
                dictionary[random.below(dictionary.len())].as_bytes(),
            );
        }
        _ => insert(bytes, at, &[random.next_u64() as u8]),
    }
}

fn flip_bit(bytes: &mut [u8], at: usize, random: &mut Random) {
    if let Some(byte) = bytes.get_mut(at) {
        *byte ^= 1 << random.below(8);
    }
}

fn insert(bytes: &mut Vec<u8>, at: usize, piece: &[u8]) {
    let at = at.min(bytes.len());
    bytes.splice(at..at, piece.iter().copied());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mutants_are_reproducible_and_differ() {
        let inputs = [b"up{job=\"demo\"}".to_vec(), Vec::new()];
        let make = |seed| {
            let mut random = Random::new(seed);
            (0..200)
                .map(|_| mutant(&inputs, &["rate("], &mut random))
                .collect::<Vec<_>>()
        };
        assert_eq!(make(1), make(1));
        assert_ne!(make(1), make(2));
        let mut distinct = make(1);
        distinct.sort();
        distinct.dedup();
        assert!(distinct.len() > 120, "{}", distinct.len());
    }
}
