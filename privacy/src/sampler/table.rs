//! The cumulative table of one discrete Gaussian of small variance, and the search through its whole length.
//! Must never branch on, or index by, a drawn word: the search reads every entry for every sample.

use pulp::Simd;

use super::fixed::{divide, exp_minus_ratio};

/// More 64-bit lanes than any vector has.
const MOST_LANES: usize = 64;
/// Vectors compared with one entry before the next is loaded.
const AT_ONCE: usize = 4;
/// Bits of a table entry: 63 compared always, 64 more only where the first 63 are equal.
const ENTRY_BITS: u32 = 127;
/// The table ends where less than 2^-106 of the mass is left, in units of 2^-127.
const TAIL: u128 = 1 << 21;
/// Fraction bits of the unnormalised cumulative sum, whose whole part is then below 2^7.
const SUM_SHIFT: u32 = 128 - 120;

/// Entry `j` is `floor(2^127 P(|X| <= j))`; the magnitude of a 127-bit uniform `u` is the number of entries
/// not above it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Table {
    high: Vec<i64>,
    low: Vec<u64>,
}

impl Table {
    /// The table of the discrete Gaussian `P(x) ~ exp(-x^2 / (2 v))` with variance parameter
    /// `v = variance / (divisor 2^32)`, which must lie between 1/4 and 2304.
    pub(super) fn new(variance: u128, divisor: u128) -> Self {
        // x^2 / (2v) = x^2 divisor 2^31 / variance. The sums have 120 fraction bits.
        let weight = |x: u128| exp_minus_ratio(x * x * (divisor << 31), variance) >> SUM_SHIFT;
        let mut sum = 1_u128 << 120;
        let mut sums = vec![sum];
        for weight in (1..).map(weight).take_while(|weight| *weight > 0) {
            sum += 2 * weight;
            sums.push(sum);
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

    /// Replaces each of `words`, 63-bit uniforms, by its magnitude, and says whether any of them equals an
    /// entry's upper bits.
    ///
    /// The length must be a multiple of four of the machine's vectors; 256 always is.
    #[inline(always)]
    pub(super) fn look_up<S: Simd>(&self, simd: S, words: &mut [i64]) -> bool {
        let (vectors, rest) = S::as_mut_simd_i64s(words);
        debug_assert!(rest.is_empty() && vectors.len().is_multiple_of(AT_ONCE));
        let (zero, one) = (simd.splat_i64s(0), simd.splat_i64s(1));
        let mut tied = simd.splat_i64s(0);
        for four in vectors.as_chunks_mut::<AT_ONCE>().0 {
            let uniforms = *four;
            let mut counts = [zero; AT_ONCE];
            for &entry in &self.high {
                let entry = simd.splat_i64s(entry);
                for (count, &uniform) in counts.iter_mut().zip(&uniforms) {
                    let above = simd.greater_than_i64s(uniform, entry);
                    *count = simd.add_i64s(*count, simd.select_i64s(above, one, zero));
                    let equal = simd.equal_i64s(uniform, entry);
                    tied = simd.or_i64s(tied, simd.select_i64s(equal, one, zero));
                }
            }
            *four = counts;
        }
        let mut lanes = [0_i64; MOST_LANES];
        simd.partial_store_i64s(&mut lanes[..S::I64_LANES.min(MOST_LANES)], tied);
        lanes != [0; MOST_LANES]
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
