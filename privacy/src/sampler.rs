//! Discrete Gaussian noise over the integers: a cumulative table searched over its full length, widened by
//! convolution. Must never use floating point on a sample, nor let its running time depend on one.
//!
//! Law: `P(x) ~ exp(-x^2 / (2 v))` for all integers x (Canonne, Kamath, Steinke 2020). Construction: table
//! samples `X_0, ..., X_L` of one small variance, put together as `X_0 + k_1 (X_1 + k_2 (X_2 + ...))`
//! (Micciancio, Walter 2017). The statistical distance from the exact law is at most [`DISTANCE`] a sample;
//! `docs/privacy/mechanism.md` proves it.

mod chain;
mod fixed;
mod skellam;
mod spectrum;
mod table;

use pulp::{Arch, Simd, WithSimd};
use rand_core::CryptoRng;

use crate::keystream::KeyStream;
use crate::number::shortest;
use chain::Chain;
use table::Table;

pub use skellam::{MAX_SKELLAM_VARIANCE, Skellam, SkellamError};

/// Total variation distance of one sample from the exact discrete Gaussian: at most 2^-100, for any accepted
/// variance.
pub const DISTANCE: f64 = 1.0 / (1_u128 << 100) as f64;
/// Smallest variance accepted, the square of standard deviation 1/2.
pub const MIN_VARIANCE: f64 = 0.25;
/// Largest variance accepted, the square of standard deviation 2^22.
pub const MAX_VARIANCE: f64 = (1_u64 << 44) as f64;
/// Variances are multiples of 2^-32.
const VARIANCE_STEP: f64 = 1.0 / (1_u64 << 32) as f64;
/// Samples drawn in one go, so that the words in flight stay in the nearest cache.
const BATCH: usize = 256;

/// A sampler of one discrete Gaussian, built once and used for every coordinate.
#[derive(Clone, Debug, PartialEq)]
pub struct DiscreteGaussian {
    variance: f64,
    table: Table,
    weights: Vec<i64>,
}

/// A variance that the sampler cannot serve.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("noise variance {} is outside {MIN_VARIANCE} to {MAX_VARIANCE} squared integer units", shortest(self.0))]
pub struct VarianceOutOfRange(pub f64);

impl DiscreteGaussian {
    /// The sampler whose variance parameter is `variance` rounded up to a multiple of 2^-32.
    ///
    /// # Errors
    /// [`VarianceOutOfRange`] unless `variance` lies between [`MIN_VARIANCE`] and [`MAX_VARIANCE`].
    pub fn new(variance: f64) -> Result<Self, VarianceOutOfRange> {
        if !(MIN_VARIANCE..=MAX_VARIANCE).contains(&variance) {
            return Err(VarianceOutOfRange(variance));
        }
        let steps = (variance / VARIANCE_STEP).ceil();
        let variance = steps * VARIANCE_STEP;
        let chain = Chain::cheapest(variance.sqrt()).ok_or(VarianceOutOfRange(variance))?;
        // Both are integers below 2^77, exact in a double and in u128.
        let table = Table::new(steps as u128, chain.variance_factor() as u128);
        Ok(Self { variance, table, weights: chain.weights() })
    }

    /// The variance parameter `v` of the law, in squared integer units. The true variance is at most `v` and,
    /// from `v = 1` on, within 1e-6 of it.
    #[must_use]
    pub fn variance(&self) -> f64 {
        self.variance
    }

    /// Largest magnitude that can come out; larger ones have mass below [`DISTANCE`].
    #[must_use]
    pub fn cutoff(&self) -> u64 {
        self.table.len() as u64 * self.weights.iter().map(|weight| weight.unsigned_abs()).sum::<u64>()
    }

    /// Adds a fresh sample to each of `values`, modulo 2^32.
    ///
    /// Draws exactly 32 bytes from `rng`, from which all samples follow.
    pub fn add_noise<R: CryptoRng + ?Sized>(&self, values: &mut [i32], rng: &mut R) {
        self.add_to(values, &mut KeyStream::new(rng));
    }

    pub(crate) fn add_to(&self, values: &mut [i32], stream: &mut KeyStream) {
        self.add_from(values, &mut |words| stream.fill_u64(words));
    }

    /// [`Self::add_to`] with any source of uniform words, so that tests can choose them.
    fn add_from(&self, values: &mut [i32], source: &mut impl FnMut(&mut [u64])) {
        let levels: Vec<(&Table, i64)> = self.levels().collect();
        add_levels(&levels, values, source);
    }

    /// The tables whose samples are added, and what each is multiplied by.
    fn levels(&self) -> impl Iterator<Item = (&Table, i64)> {
        self.weights.iter().map(|&weight| (&self.table, weight))
    }
}

/// Adds to each of `values`, modulo 2^32, a sample of every table times its weight.
fn add_levels(levels: &[(&Table, i64)], values: &mut [i32], source: &mut impl FnMut(&mut [u64])) {
    let arch = Arch::new();
    let mut words = [0_u64; BATCH];
    for batch in values.chunks_mut(BATCH) {
        for &(table, weight) in levels {
            source(&mut words);
            if arch.dispatch(AddLevel { table, batch, words: &words, weight }) {
                continue;
            }
            add_level_with_ties(table, weight, batch, &words, source);
        }
    }
    zeroize::Zeroize::zeroize(&mut words);
}

/// The same for one batch and table where the upper 63 bits of a word equal a table entry: this happens to one sample in
/// 2^50 at most, and the 64 bits that then decide are drawn only for these.
#[cold]
fn add_level_with_ties(
    table: &Table,
    weight: i64,
    batch: &mut [i32],
    words: &[u64; BATCH],
    source: &mut impl FnMut(&mut [u64]),
) {
    for (value, &word) in batch.iter_mut().zip(words) {
        let mut more = [0_u64];
        if table.is_tied(word) {
            source(&mut more);
        }
        *value = value.wrapping_add(signed(table.magnitude(word, more[0]), word, weight));
    }
}

/// Adds `weight` times the samples of `words` to `batch`, or nothing and says false where more bits must
/// decide one of them.
struct AddLevel<'a> {
    table: &'a Table,
    batch: &'a mut [i32],
    words: &'a [u64; BATCH],
    weight: i64,
}

impl WithSimd for AddLevel<'_> {
    type Output = bool;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> bool {
        let mut magnitudes = [0_i64; BATCH];
        for (upper, word) in magnitudes.iter_mut().zip(self.words) {
            *upper = (word >> 1) as i64;
        }
        if self.table.look_up(simd, &mut magnitudes) {
            return false;
        }
        for ((value, &magnitude), &word) in self.batch.iter_mut().zip(&magnitudes).zip(self.words) {
            *value = value.wrapping_add(signed(magnitude, word, self.weight));
        }
        true
    }
}

/// `weight` times `magnitude`, negated where the lowest bit of `word` is set; below 2^31 for any accepted
/// variance.
#[inline(always)]
fn signed(magnitude: i64, word: u64, weight: i64) -> i32 {
    // Nothing here overflows; the checks for it would keep these lines from being done many at a time.
    let negate = (word as i32 & 1).wrapping_neg();
    ((magnitude as i32).wrapping_mul(weight as i32) ^ negate).wrapping_sub(negate)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
