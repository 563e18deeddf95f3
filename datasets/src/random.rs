//! Seeded random numbers whose stream never changes.
//!
//! The data must be the same for the same seed in every release, so the generator is our own forty
//! lines (xoshiro256**, Blackman and Vigna 2018, seeded by SplitMix64) instead of a crate that may
//! change its algorithm. Every part of the story draws from its own named stream: a new metric then
//! leaves the runs, and all other metrics, as they were.

/// A stream of pseudo-random numbers.
#[derive(Debug, Clone)]
pub(crate) struct Random {
    state: [u64; 4],
}

impl Random {
    /// The stream called `name`, number `index`, of a seed.
    pub(crate) fn new(seed: u64, name: &str, index: u64) -> Self {
        // FNV-1a folds the name in; SplitMix64 below spreads the bits.
        let mut hash = 0xcbf2_9ce4_8422_2325_u64;
        for byte in name.bytes() {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        let mut mixed = seed ^ hash.rotate_left(17) ^ index.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let state = std::array::from_fn(|_| split_mix(&mut mixed));
        Self { state }
    }

    /// The next 64 bits.
    pub(crate) fn next_u64(&mut self) -> u64 {
        let [a, b, c, d] = &mut self.state;
        let result = b.wrapping_mul(5).rotate_left(7).wrapping_mul(9);
        let shifted = *b << 17;
        *c ^= *a;
        *d ^= *b;
        *b ^= *c;
        *a ^= *d;
        *c ^= shifted;
        *d = d.rotate_left(45);
        result
    }

    /// Uniform in [0, 1).
    pub(crate) fn unit(&mut self) -> f64 {
        (self.next_u64() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Uniform in [`low`, `high`).
    pub(crate) fn between(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.unit()
    }

    /// True with this probability.
    pub(crate) fn chance(&mut self, probability: f64) -> bool {
        self.unit() < probability
    }

    /// Standard normal (Box and Muller 1958).
    pub(crate) fn normal(&mut self) -> f64 {
        let radius = (-2.0 * (1.0 - self.unit()).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.unit()).cos()
    }

    /// Log-normal with this median; `sigma` is the deviation of the logarithm.
    pub(crate) fn log_normal(&mut self, median: f64, sigma: f64) -> f64 {
        median * (sigma * self.normal()).exp()
    }

    /// A count with this mean: Poisson below 30 (Knuth), its normal approximation above.
    pub(crate) fn count(&mut self, mean: f64) -> f64 {
        if mean <= 0.0 {
            return 0.0;
        }
        if mean > 30.0 {
            return (mean + mean.sqrt() * self.normal()).round().max(0.0);
        }
        let floor = (-mean).exp();
        let mut product = self.unit();
        let mut count = 0.0;
        while product > floor {
            product *= self.unit();
            count += 1.0;
        }
        count
    }

    /// Fills an identifier with random bytes.
    pub(crate) fn bytes<const N: usize>(&mut self) -> [u8; N] {
        let mut bytes = [0; N];
        for chunk in bytes.chunks_mut(8) {
            let word = self.next_u64().to_le_bytes();
            chunk.copy_from_slice(&word[..chunk.len()]);
        }
        bytes
    }
}

/// SplitMix64 (Steele, Lea, Flood 2014): turns one word of seed into well-mixed words.
fn split_mix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut word = *state;
    word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

/// Noise with a memory: each step keeps `persistence` of the last deviation (AR(1)).
#[derive(Debug, Clone)]
pub(crate) struct Drift {
    value: f64,
    persistence: f64,
    deviation: f64,
}

impl Drift {
    /// Noise whose long-run standard deviation is `deviation`.
    pub(crate) fn new(persistence: f64, deviation: f64) -> Self {
        Self {
            value: 0.0,
            persistence,
            deviation,
        }
    }

    /// The next deviation from the level.
    pub(crate) fn step(&mut self, random: &mut Random) -> f64 {
        let fresh = (1.0 - self.persistence * self.persistence).sqrt() * self.deviation;
        self.value = self.persistence * self.value + fresh * random.normal();
        self.value
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stream_is_pinned() {
        // A change of these words would change every published answer over the sample data.
        let mut random = Random::new(1, "test", 0);
        let words: Vec<u64> = (0..3).map(|_| random.next_u64()).collect();
        assert_eq!(words, PINNED);
        assert_ne!(Random::new(1, "test", 1).next_u64(), words[0]);
        assert_ne!(Random::new(1, "tess", 0).next_u64(), words[0]);
    }

    const PINNED: [u64; 3] = [
        11_898_161_336_517_233_940,
        2_095_688_465_138_521_799,
        4_697_928_578_023_302_959,
    ];

    #[test]
    fn moments_are_right() {
        let mut random = Random::new(7, "moments", 0);
        let count = 100_000;
        let normals: Vec<f64> = (0..count).map(|_| random.normal()).collect();
        let mean = normals.iter().sum::<f64>() / f64::from(count);
        let variance = normals.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / f64::from(count);
        assert!(mean.abs() < 0.02, "mean {mean}");
        assert!((variance - 1.0).abs() < 0.03, "variance {variance}");
        for expected in [0.5, 8.0, 400.0] {
            let mean = (0..20_000).map(|_| random.count(expected)).sum::<f64>() / 20_000.0;
            assert!(
                (mean / expected - 1.0).abs() < 0.05,
                "count mean {mean}, expected {expected}"
            );
        }
    }
}
