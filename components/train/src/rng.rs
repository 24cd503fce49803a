//! Random numbers that are a function of a seed, or of a seed and a name, and whose state is part
//! of every checkpoint.
//!
//! A name (a parameter, an epoch) has a stream of its own, so that weights do not depend on the
//! order in which parameters are made. The streams are part of what users rely on (same seed, same
//! weights): the algorithms never change.
//!
//! Sources: xoshiro256++ 1.0 and SplitMix64, D. Blackman and S. Vigna, <https://prng.di.unimi.it>,
//! in the public domain; bounded integers, D. Lemire, "Fast Random Integer Generation in an
//! Interval", 2019; the hash of the name is 64-bit FNV-1a.

use serde::{Deserialize, Serialize};

/// A generator of random numbers; not for secrets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Rng([u64; 4]);

impl Rng {
    /// The generator of a seed.
    pub fn new(seed: u64) -> Self {
        let mut state = seed;
        let mut next = || {
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = state;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            z ^ (z >> 31)
        };
        Rng([next(), next(), next(), next()])
    }

    /// The generator of a seed and a name.
    pub fn named(seed: u64, name: &str) -> Self {
        let bytes = seed.to_le_bytes().into_iter().chain(name.bytes());
        Rng::new(bytes.fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
        }))
    }

    /// 64 random bits.
    pub fn next_u64(&mut self) -> u64 {
        let s = &mut self.0;
        let result = s[0].wrapping_add(s[3]).rotate_left(23).wrapping_add(s[0]);
        let t = s[1] << 17;
        s[2] ^= s[0];
        s[3] ^= s[1];
        s[1] ^= s[2];
        s[0] ^= s[3];
        s[2] ^= t;
        s[3] = s[3].rotate_left(45);
        result
    }

    /// A number in `0.0 .. 1.0`, with 53 random bits.
    pub fn next_f64(&mut self) -> f64 {
        (self.next_u64() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// A number in `0.0 .. 1.0`, with 24 random bits.
    pub fn uniform(&mut self) -> f32 {
        (self.next_u64() >> 40) as f32 / (1_u32 << 24) as f32
    }

    /// A number below `bound`, each as likely as the others; 0 for a bound of 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        // Lemire's multiplication, with the rejection that makes it exact.
        let threshold = bound.wrapping_neg().checked_rem(bound).unwrap_or(0);
        loop {
            let product = u128::from(self.next_u64()) * u128::from(bound);
            if product as u64 >= threshold {
                return (product >> 64) as u64;
            }
        }
    }

    /// A number of the normal distribution with mean 0 and variance 1 (Box and Muller, 1958).
    pub fn normal(&mut self) -> f64 {
        let (a, b) = (1.0 - self.next_f64(), self.next_f64());
        (-2.0 * a.ln()).sqrt() * (std::f64::consts::TAU * b).cos()
    }

    /// Put items into a random order.
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for place in (1..items.len()).rev() {
            items.swap(place, self.below(place as u64 + 1) as usize);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sequence_of_a_seed_is_fixed() {
        // From a state of 1, 2, 3, 4: the values of the authors' reference implementation.
        let mut reference = Rng([1, 2, 3, 4]);
        let first: Vec<u64> = (0..4).map(|_| reference.next_u64()).collect();
        assert_eq!(first, [41_943_041, 58_720_359, 3_588_806_011_781_223, 3_591_011_842_654_386]);
        let (mut one, mut same) = (Rng::new(7), Rng::new(7));
        assert!((0..100).all(|_| one.next_u64() == same.next_u64()));
        assert_ne!(Rng::new(7).next_u64(), Rng::new(8).next_u64());
    }

    #[test]
    fn the_seed_is_spread_as_the_authors_do() {
        // SplitMix64 from 1 234 567: the first values of the reference implementation.
        let Rng([first, second, third, _]) = Rng::new(1_234_567);
        assert_eq!(
            [first, second, third],
            [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423]
        );
    }

    #[test]
    fn names_and_seeds_have_streams_of_their_own() {
        let first = |seed, name| Rng::named(seed, name).next_u64();
        assert_eq!(first(1, "a"), first(1, "a"));
        assert_ne!(first(1, "a"), first(1, "b"));
        assert_ne!(first(1, "a"), first(2, "a"));
    }

    #[test]
    fn numbers_are_spread_as_they_should_be() {
        let mut rng = Rng::new(1);
        let mut counts = [0; 3];
        (0..30_000).for_each(|_| counts[rng.below(3) as usize] += 1);
        assert!(counts.iter().all(|count| (9_500..10_500).contains(count)), "{counts:?}");
        let draws: Vec<f64> = (0..50_000).map(|_| rng.normal()).collect();
        let mean = draws.iter().sum::<f64>() / 50_000.0;
        let variance = draws.iter().map(|draw| (draw - mean).powi(2)).sum::<f64>() / 50_000.0;
        assert!(mean.abs() < 0.02 && (variance - 1.0).abs() < 0.03, "{mean} {variance}");
        let made: Vec<f32> = (0..10_000).map(|_| rng.uniform()).collect();
        assert!(made.iter().all(|number| (0.0..1.0).contains(number)));
        assert!((made.iter().sum::<f32>() / 10_000.0 - 0.5).abs() < 0.02);
        let mut items: Vec<u32> = (0..20).collect();
        rng.shuffle(&mut items);
        assert!(items != (0..20).collect::<Vec<_>>());
        items.sort_unstable();
        assert_eq!(items, (0..20).collect::<Vec<_>>());
        assert_eq!(rng.below(0), 0);
    }
}
