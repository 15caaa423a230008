//! Skellam noise over the integers: one table for a narrow law; for a wide one a table of what a discrete Gaussian leaves
//! over, and that Gaussian. Must never use floating point on a sample, nor let its running time depend on one.
//!
//! Law: the difference of two independent Poisson variables of mean `mu / 2` each, `P(x) = e^-mu I_|x|(mu)`, of variance
//! `mu`. Independent shares add up to exactly one Skellam variable of their summed variance (Agarwal, Kairouz, Liu 2021).
//! The statistical distance from the exact law is at most [`super::DISTANCE`] a sample; `docs/privacy/mechanism.md` proves
//! it.

use std::f64::consts::{LN_2, PI};
use std::sync::{Arc, OnceLock};

use rand_core::CryptoRng;

use super::spectrum::Spectrum;
use super::table::Table;
use super::{DiscreteGaussian, MIN_VARIANCE, VARIANCE_STEP, add_levels};
use crate::keystream::KeyStream;
use crate::number::shortest;

/// Largest variance accepted, the square of standard deviation 2^15.
pub const MAX_SKELLAM_VARIANCE: f64 = (1_u64 << 30) as f64;
/// From this variance on a Gaussian is taken out.
const SPLIT_FROM: f64 = 1024.0;
/// What the inner law keeps, in standard deviations of the whole: then its own excess over a Gaussian is small enough for
/// it to be a law.
const KEPT_DEVIATIONS: f64 = 8.0;
/// `t^4` at the highest frequency that the inner law has, times the whole variance over 24, is at most this when it keeps
/// [`KEPT_DEVIATIONS`].
const MOST_QUARTIC: f64 = 40.3;
/// What the whole's characteristic function and the sampler's differ by is below `e^-81` times a little.
const SPECTRAL_GAP: f64 = 81.0;
/// The tail beyond half of the frequencies' number is below 2^-120.
const TAIL_BITS: f64 = 120.0;

/// The sum over frequencies needs this many for its fixed point.
const FEWEST_FREQUENCIES: u64 = 1 << 8;

/// A sampler of one Skellam law. Its tables are made when it is first used.
#[derive(Clone, Debug)]
pub struct Skellam {
    pub(super) steps: u64,
    pub(super) split: Option<Split>,
    parts: Arc<OnceLock<Option<Parts>>>,
}

/// How a wide law is put together: `X = inner + multiplier * outer`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Split {
    pub(super) multiplier: u64,
    /// Variance parameter of the outer discrete Gaussian, in multiples of 2^-32.
    pub(super) outer_steps: u64,
}

#[derive(Clone, Debug)]
pub(super) struct Parts {
    pub(super) inner: Table,
    pub(super) outer: Option<DiscreteGaussian>,
}

/// Why there is no sampler of a Skellam law.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum SkellamError {
    /// The variance is outside what is served.
    #[error(
        "Skellam variance {} is outside {MIN_VARIANCE} to {MAX_SKELLAM_VARIANCE} squared integer units",
        shortest(*.0)
    )]
    VarianceOutOfRange(f64),
    /// The table did not pass its own check.
    #[error(
        "the table for Skellam variance {0} is not within its proven distance of the law; choose a slightly different \
         noise multiplier and report this"
    )]
    Uncertified(f64),
}

impl PartialEq for Skellam {
    fn eq(&self, other: &Self) -> bool {
        self.steps == other.steps
    }
}

impl Skellam {
    /// The sampler of variance `variance` rounded up to a multiple of 2^-32.
    ///
    /// # Errors
    /// [`SkellamError::VarianceOutOfRange`] unless `variance` lies between [`MIN_VARIANCE`] and [`MAX_SKELLAM_VARIANCE`].
    pub fn new(variance: f64) -> Result<Self, SkellamError> {
        if !(MIN_VARIANCE..=MAX_SKELLAM_VARIANCE).contains(&variance) {
            return Err(SkellamError::VarianceOutOfRange(variance));
        }
        // At most 2^62.
        let steps = (variance / VARIANCE_STEP).ceil() as u64;
        let split = (variance >= SPLIT_FROM).then(|| Split::of(steps)).flatten();
        Ok(Self { steps, split, parts: Arc::default() })
    }

    /// The variance of the law, in squared integer units.
    #[must_use]
    pub fn variance(&self) -> f64 {
        self.steps as f64 * VARIANCE_STEP
    }

    /// Adds a fresh sample to each of `values`, modulo 2^32.
    ///
    /// Draws exactly 32 bytes from `rng`, from which all samples follow.
    ///
    /// # Errors
    /// [`SkellamError::Uncertified`], with `values` unchanged.
    pub fn add_noise<R: CryptoRng + ?Sized>(
        &self,
        values: &mut [i32],
        rng: &mut R,
    ) -> Result<(), SkellamError> {
        self.add_to(values, &mut KeyStream::new(rng))
    }

    pub(crate) fn add_to(&self, values: &mut [i32], stream: &mut KeyStream) -> Result<(), SkellamError> {
        let parts = self.parts.get_or_init(|| self.make_parts());
        let parts = parts.as_ref().ok_or(SkellamError::Uncertified(self.variance()))?;
        let mut levels = vec![(&parts.inner, 1)];
        if let (Some(outer), Some(split)) = (&parts.outer, self.split) {
            levels.extend(outer.levels().map(|(table, weight)| (table, weight * split.multiplier as i64)));
        }
        add_levels(&levels, values, &mut |words| stream.fill_u64(words));
        Ok(())
    }

    pub(super) fn make_parts(&self) -> Option<Parts> {
        let spectrum = self.spectrum();
        let inner = spectrum.table(log_length(&spectrum))?;
        let outer = match self.split {
            None => None,
            Some(split) => Some(DiscreteGaussian::new(split.outer_steps as f64 * VARIANCE_STEP).ok()?),
        };
        Some(Parts { inner, outer })
    }

    pub(super) fn spectrum(&self) -> Spectrum {
        let taken = self.split.map_or(0, |split| split.outer_steps * split.multiplier * split.multiplier);
        Spectrum { whole: self.steps, rest: self.steps - taken }
    }
}

impl Split {
    /// The split with the largest multiplier for which the outer Gaussian's lattice does not show.
    pub(super) fn of(steps: u64) -> Option<Self> {
        let variance = steps as f64 * VARIANCE_STEP;
        let kept = KEPT_DEVIATIONS * variance.sqrt();
        let largest = (1.4 * variance.sqrt()).sqrt().ceil() as u64;
        (2..=largest).rev().find_map(|multiplier| {
            let square = (multiplier * multiplier) as f64;
            let outer_steps = ((variance - kept) / square / VARIANCE_STEP).floor();
            let outer = outer_steps * VARIANCE_STEP;
            // The image of the lattice at frequency 2 pi / multiplier: the exponents of inner and outer law there.
            let frequency_squared = 4.0 * PI * PI / square;
            let quartic = (variance * frequency_squared * frequency_squared / 24.0).min(MOST_QUARTIC);
            let exponent = 2.0 * PI * PI * outer * (1.0 - outer * square / variance) - quartic;
            (exponent >= SPECTRAL_GAP).then_some(Self { multiplier, outer_steps: outer_steps as u64 })
        })
    }
}

/// Logarithm of the number of frequencies: half of it is a magnitude beyond which the law's tail, by Chernoff's bound, is
/// below 2^-120.
pub(super) fn log_length(spectrum: &Spectrum) -> u32 {
    let (whole, rest) = (spectrum.whole as f64 * VARIANCE_STEP, spectrum.rest as f64 * VARIANCE_STEP);
    let mut reach = f64::INFINITY;
    let mut slope = 8.0_f64;
    while slope > 1e-3 {
        // rest s^2 / 2 + whole (s^4 / 4! + s^6 / 6! + ...), the logarithm of the moment generating function.
        let half_square = slope * slope / 2.0;
        let (mut term, mut sum, mut n) = (whole * half_square, rest * half_square, 3.0);
        for _ in 0..40 {
            term *= slope * slope / (n * (n + 1.0));
            sum += term;
            n += 2.0;
        }
        reach = reach.min((TAIL_BITS * LN_2 + sum) / slope);
        slope *= 0.9;
    }
    ((2.0 * reach).ceil() as u64).max(FEWEST_FREQUENCIES).next_power_of_two().ilog2()
}
