//! The cumulative table of one discrete Gaussian of small variance, and the search through its whole length.
//! Must never branch on, or index by, a drawn word: the search reads every entry for every sample.

use super::fixed::{divide, exp_minus, multiply};

/// Samples looked up together: one entry is compared with all of them at once.
pub(super) const LANES: usize = 16;
/// Bits of a table entry: 63 compared always, 64 more only where the first 63 are equal.
const ENTRY_BITS: u32 = 127;
/// The table ends where less than 2^-106 of the mass is left, in units of 2^-127.
const TAIL: u128 = 1 << 21;
/// Fraction bits of the unnormalised cumulative sum, whose whole part is then below 2^7.
const SUM_SHIFT: u32 = 128 - 120;

/// Entry `j` is `floor(2^127 P(|X| <= j))`; the magnitude of a 127-bit uniform `u` is the number of entries not above it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Table {
    high: Vec<i64>,
    low: Vec<u64>,
}

impl Table {
    /// The table of the discrete Gaussian `P(x) ~ exp(-x^2 / (2 v))` with variance parameter
    /// `v = variance / (divisor 2^32)`, which must lie between 1/4 and 2304.
    pub(super) fn new(variance: u128, divisor: u128) -> Self {
        // exp(-1/(2v)) = exp(-x)^4 with x = divisor 2^32 / (8 variance) <= 1/2.
        let root = exp_minus(divide(divisor << 29, variance, 128));
        let square = multiply(root, root);
        let base = multiply(square, square);
        let base_squared = multiply(base, base);
        // Weights exp(-x^2/(2v)) for x = 1, 2, ...: the ratio of neighbours is base^(2x+1).
        let (mut weight, mut ratio) = (base, multiply(base, base_squared));
        let mut sums = vec![1_u128 << 120];
        let mut sum = 1_u128 << 120;
        while weight >> SUM_SHIFT > 0 {
            sum += 2 * (weight >> SUM_SHIFT);
            sums.push(sum);
            weight = multiply(weight, ratio);
            ratio = multiply(ratio, base_squared);
        }
        // The last sum is the whole; `sum - 1` keeps the division's arguments in order.
        let entries = sums.iter().map(|&part| divide(part.min(sum - 1), sum, ENTRY_BITS));
        let entries: Vec<u128> = entries.take_while(|entry| (1_u128 << ENTRY_BITS) - entry > TAIL).collect();
        let high = entries.iter().map(|entry| (entry >> 64) as i64).collect();
        let low = entries.iter().map(|entry| *entry as u64).collect();
        Self { high, low }
    }

    /// Number of entries, which is also the largest magnitude.
    pub(super) fn len(&self) -> usize {
        self.high.len()
    }

    /// Magnitudes of `words` by their upper 63 bits, and whether any of them equals an entry in these bits.
    #[inline(always)]
    pub(super) fn magnitudes(&self, words: &[u64; LANES]) -> ([i64; LANES], bool) {
        let mut upper = [0_i64; LANES];
        for (value, word) in upper.iter_mut().zip(words) {
            *value = (word >> 1) as i64;
        }
        let (mut counts, mut equal) = ([0_i64; LANES], [0_i64; LANES]);
        for &entry in &self.high {
            for lane in 0..LANES {
                counts[lane] += i64::from(upper[lane] > entry);
                equal[lane] |= i64::from(upper[lane] == entry);
            }
        }
        (counts, equal.iter().fold(0, |any, lane| any | lane) != 0)
    }

    /// Whether the upper 63 bits of `word` equal those of an entry, so that 64 more bits must decide.
    pub(super) fn is_tied(&self, word: u64) -> bool {
        self.high.contains(&((word >> 1) as i64))
    }

    /// Magnitude of the 127-bit uniform made of the upper 63 bits of `word` and the 64 bits of `more`.
    pub(super) fn magnitude(&self, word: u64, more: u64) -> i64 {
        let uniform = (u128::from(word >> 1) << 64) | u128::from(more);
        self.entries().map(|entry| i64::from(uniform >= entry)).sum()
    }

    /// The entries, each below 2^127.
    pub(super) fn entries(&self) -> impl Iterator<Item = u128> + '_ {
        self.high.iter().zip(&self.low).map(|(&high, &low)| ((high as u128) << 64) | u128::from(low))
    }
}
