//! The cumulative table of one discrete Gaussian of small variance, and the search through its whole length.
//! Must never branch on, or index by, a drawn word: the search reads every entry for every sample.

use pulp::Simd;

use super::fixed::{divide, exp_minus_ratio};

/// More 64-bit lanes than any vector has.
const MOST_LANES: usize = 64;
/// Vectors searched at once: with more, the entries chosen so far no longer fit the machine's registers.
const AT_ONCE: usize = 2;
/// Entries chosen together; the search then costs one selection for each entry, and two comparisons for each
/// block and for each entry of one block.
const BLOCK: usize = 8;
/// Bits of a table entry: 63 compared always, 64 more only where the first 63 are equal.
const ENTRY_BITS: u32 = 127;
/// The table ends where less than 2^-106 of the mass is left, in units of 2^-127.
pub(super) const TAIL: u128 = 1 << 21;
/// Fraction bits of the unnormalised cumulative sum, whose whole part is then below 2^7.
const SUM_SHIFT: u32 = 128 - 120;

/// Entry `j` is `floor(2^127 P(|X| <= j))`; the magnitude of a 127-bit uniform `u` is the number of entries
/// not above it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Table {
    /// Upper 63 bits of the entries; the last block is filled up with the largest number there is.
    high: Vec<[i64; BLOCK]>,
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
        Self::of(&entries)
    }

    /// The table of these cumulative probabilities, which must rise and be below 2^127.
    pub(super) fn of(entries: &[u128]) -> Self {
        let mut high = vec![[i64::MAX; BLOCK]; entries.len().div_ceil(BLOCK)];
        for (slot, entry) in high.as_flattened_mut().iter_mut().zip(entries) {
            *slot = (entry >> 64) as i64;
        }
        Self { high, low: entries.iter().map(|entry| *entry as u64).collect() }
    }

    /// Number of entries, which is also the largest magnitude.
    pub(super) fn len(&self) -> usize {
        self.low.len()
    }

    /// Replaces each of `words`, 63-bit uniforms, by its magnitude, and says whether any of them equals an
    /// entry's upper bits.
    ///
    /// Passes over all blocks and keeps, for every word, the first block whose last entry is not below it; the entries
    /// of that block are then counted one by one. What is read, and in which order, depends on no word.
    ///
    /// The length must be a multiple of two of the machine's vectors; 256 always is.
    #[inline(always)]
    pub(super) fn look_up<S: Simd>(&self, simd: S, words: &mut [i64]) -> bool {
        let (vectors, rest) = S::as_mut_simd_i64s(words);
        debug_assert!(rest.is_empty() && vectors.len().is_multiple_of(AT_ONCE));
        let (zero, one) = (simd.splat_i64s(0), simd.splat_i64s(1));
        let whole_block = simd.splat_i64s(BLOCK as i64);
        let mut tied = simd.splat_i64s(0);
        for vectors in vectors.as_chunks_mut::<AT_ONCE>().0 {
            let uniforms = *vectors;
            let mut counts = [zero; AT_ONCE];
            let mut chosen = self.high[0].map(|entry| [simd.splat_i64s(entry); AT_ONCE]);
            for blocks in self.high.windows(2) {
                let last = simd.splat_i64s(blocks[0][BLOCK - 1]);
                let beyond = uniforms.map(|uniform| simd.greater_than_i64s(uniform, last));
                for (count, &beyond) in counts.iter_mut().zip(&beyond) {
                    *count = simd.add_i64s(*count, simd.select_i64s(beyond, whole_block, zero));
                }
                for (chosen, &entry) in chosen.iter_mut().zip(&blocks[1]) {
                    let entry = simd.splat_i64s(entry);
                    for (chosen, &beyond) in chosen.iter_mut().zip(&beyond) {
                        *chosen = simd.select_i64s(beyond, entry, *chosen);
                    }
                }
            }
            for entries in &chosen {
                for ((count, &uniform), &entry) in counts.iter_mut().zip(&uniforms).zip(entries) {
                    let above = simd.greater_than_i64s(uniform, entry);
                    *count = simd.add_i64s(*count, simd.select_i64s(above, one, zero));
                    let equal = simd.equal_i64s(uniform, entry);
                    tied = simd.or_i64s(tied, simd.select_i64s(equal, one, zero));
                }
            }
            *vectors = counts;
        }
        let mut lanes = [0_i64; MOST_LANES];
        simd.partial_store_i64s(&mut lanes[..S::I64_LANES.min(MOST_LANES)], tied);
        lanes != [0; MOST_LANES]
    }

    /// Whether the upper 63 bits of `word` equal those of an entry, so that 64 more bits must decide.
    pub(super) fn is_tied(&self, word: u64) -> bool {
        self.high.as_flattened().contains(&((word >> 1) as i64))
    }

    /// Magnitude of the 127-bit uniform made of the upper 63 bits of `word` and the 64 bits of `more`.
    pub(super) fn magnitude(&self, word: u64, more: u64) -> i64 {
        let uniform = (u128::from(word >> 1) << 64) | u128::from(more);
        self.entries().map(|entry| i64::from(uniform >= entry)).sum()
    }

    /// The entries, each below 2^127.
    pub(super) fn entries(&self) -> impl Iterator<Item = u128> + '_ {
        self.high
            .as_flattened()
            .iter()
            .zip(&self.low)
            .map(|(&high, &low)| ((high as u128) << 64) | u128::from(low))
    }
}
