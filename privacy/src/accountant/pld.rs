//! Privacy loss distributions: nearly exact epsilon and delta of composed mechanisms of one dimension.
//! Must never report less than the truth: tails, grid and rounding all err upwards.

mod composition;
mod exact_gaussian;
mod grid;
mod integer;
mod laplace;
mod mixture;
mod nodes;
mod pair;
mod plan;
mod quadrature;

use super::AccountantError;
use crate::mechanism::Adjacency;
pub use exact_gaussian::{gaussian_delta, gaussian_epsilon};
pub(super) use integer::skellam_log_masses;
use integer::{IntegerNoise, Law};
use laplace::Laplace;
use mixture::Mixture;
use pair::{Direction, Pair};
use plan::Question;

/// Most releases that are composed numerically; Gaussian ones without sampling do not count.
const MAX_RELEASES: u64 = 100_000_000;
/// Least delta for which an epsilon is computed.
const LEAST_DELTA: f64 = 1e-280;
/// The range of standard deviations and scales of continuous noise, in multiples of the sensitivity.
const CONTINUOUS_NOISE: (f64, f64) = (1e-2, 1e9);
/// The range of standard deviations of noise on the integers.
const INTEGER_NOISE: (f64, f64) = (1e-1, 1e6);
/// The same of variances.
const INTEGER_NOISE_VARIANCE: (f64, f64) = (1e-2, 1e12);
/// Sampling rates below this are rounded up to it.
const MIN_RATE: f64 = 1e-12;
/// The largest sensitivity of Skellam noise, whose probabilities are tabulated that far.
const MAX_SKELLAM_SENSITIVITY: u32 = 10_000_000;

/// The privacy loss of a composition of mechanisms, in any order, adaptively.
///
/// Holds what was composed; grid, window and tilt of the computation are chosen for each question, so that an
/// epsilon is at most about 1e-4 of its value above the truth (and never below) whatever the number of
/// releases. Each question costs a few Fourier transforms, of a size that grows with the square root of the
/// number of releases.
///
/// Each mechanism stands for a dominating pair of distributions. Where that pair's two directions differ, both
/// are composed, each with its like, and the worse counts: all neighbours in one question differ the same way.
/// The proofs are in `docs/privacy/accounting.md`.
#[derive(Clone, Debug, PartialEq)]
pub struct PrivacyLoss {
    /// Sum of `1 / z^2` over the Gaussian releases, which compose to one Gaussian.
    gaussian: f64,
    /// The others, each with its number of releases.
    others: Vec<(Pair, u64)>,
}

impl PrivacyLoss {
    /// The privacy loss of releasing nothing.
    #[must_use]
    pub fn zero() -> Self {
        Self { gaussian: 0.0, others: Vec::new() }
    }

    /// Gaussian noise, in any number of dimensions, of standard deviation `noise_multiplier` times the
    /// Euclidean sensitivity. Exact for compositions of these alone.
    ///
    /// # Errors
    /// [`AccountantError::ParameterOutOfRange`] unless the multiplier is a positive number.
    pub fn gaussian(noise_multiplier: f64) -> Result<Self, AccountantError> {
        let range = (f64::MIN_POSITIVE.sqrt(), f64::MAX.sqrt());
        check("noise multiplier", noise_multiplier, range)?;
        Ok(Self { gaussian: (noise_multiplier * noise_multiplier).recip(), others: Vec::new() })
    }

    /// Gaussian noise on a sum that each client joins with probability `sampling_rate`, independently and in
    /// secret, in any number of dimensions. `noise_multiplier` is its standard deviation over the largest length of
    /// one client's vector, under either adjacency.
    ///
    /// Under zero-out a client's vector is there with that probability, or never. Under replace-one it is there
    /// with that probability in both neighbours, and may be its own negative in the other.
    ///
    /// # Errors
    /// [`AccountantError::ParameterOutOfRange`] and [`AccountantError::SamplingRateOutOfRange`].
    pub fn poisson_gaussian(
        noise_multiplier: f64,
        sampling_rate: f64,
        adjacency: Adjacency,
    ) -> Result<Self, AccountantError> {
        if !(sampling_rate > 0.0 && sampling_rate <= 1.0) {
            return Err(AccountantError::SamplingRateOutOfRange(sampling_rate));
        }
        if sampling_rate == 1.0 {
            let distance = match adjacency {
                Adjacency::ZeroOut => 1.0,
                Adjacency::ReplaceOne => 2.0,
            };
            return Self::gaussian(noise_multiplier / distance);
        }
        check("noise multiplier", noise_multiplier, CONTINUOUS_NOISE)?;
        // Rounded up, which costs more.
        let rate = sampling_rate.max(MIN_RATE);
        Ok(Self::once(Pair::Mixture(Mixture { sigma: noise_multiplier, rate, adjacency })))
    }

    /// Discrete Gaussian noise of parameter `sigma` on one integer that neighbours change by at most
    /// `sensitivity`.
    ///
    /// # Errors
    /// [`AccountantError::ParameterOutOfRange`].
    pub fn discrete_gaussian(sigma: f64, sensitivity: u32) -> Result<Self, AccountantError> {
        check("sigma", sigma, INTEGER_NOISE)?;
        check("sensitivity", f64::from(sensitivity), (1.0, f64::from(u32::MAX)))?;
        let law = Law::DiscreteGaussian { sigma };
        Ok(Self::once(Pair::Integer(IntegerNoise { law, sensitivity })))
    }

    /// Skellam noise of total variance `variance`, the difference of two Poisson variables of mean
    /// `variance / 2`, on one integer that neighbours change by at most `sensitivity`.
    ///
    /// # Errors
    /// [`AccountantError::ParameterOutOfRange`].
    pub fn skellam(variance: f64, sensitivity: u32) -> Result<Self, AccountantError> {
        check("variance", variance, INTEGER_NOISE_VARIANCE)?;
        check("sensitivity", f64::from(sensitivity), (1.0, f64::from(MAX_SKELLAM_SENSITIVITY)))?;
        let law = Law::Skellam { variance };
        Ok(Self::once(Pair::Integer(IntegerNoise { law, sensitivity })))
    }

    /// Laplace noise of scale `scale_over_sensitivity` times the sensitivity, on one number.
    ///
    /// # Errors
    /// [`AccountantError::ParameterOutOfRange`].
    pub fn laplace(scale_over_sensitivity: f64) -> Result<Self, AccountantError> {
        check("scale over sensitivity", scale_over_sensitivity, CONTINUOUS_NOISE)?;
        Ok(Self::once(Pair::Laplace(Laplace { scale: scale_over_sensitivity })))
    }

    /// Both releases, each with any knowledge of the other's outcome.
    ///
    /// # Errors
    /// [`AccountantError::TooManyReleases`].
    pub fn compose(&self, other: &Self) -> Result<Self, AccountantError> {
        let mut sum = self.clone();
        sum.gaussian += other.gaussian;
        for (pair, count) in &other.others {
            match sum.others.iter_mut().find(|(known, _)| known == pair) {
                Some((_, sum)) => *sum += count,
                None => sum.others.push((*pair, *count)),
            }
        }
        sum.checked()
    }

    /// `steps` such releases.
    ///
    /// # Errors
    /// [`AccountantError::TooManyReleases`].
    pub fn times(&self, steps: u64) -> Result<Self, AccountantError> {
        if steps == 0 {
            return Ok(Self::zero());
        }
        let others = self.others.iter().map(|(pair, count)| (*pair, count.saturating_mul(steps))).collect();
        Self { gaussian: self.gaussian * steps as f64, others }.checked()
    }

    /// The smallest epsilon that is known at `delta`: above the true one by 1e-4 of it or less, never below.
    ///
    /// # Errors
    /// [`AccountantError::DeltaOutOfRange`] unless `0 < delta < 1`; [`AccountantError::DeltaTooSmall`] below 1e-280;
    /// [`AccountantError::Unbounded`] when the noise is too small for a finite answer.
    pub fn epsilon(&self, delta: f64) -> Result<f64, AccountantError> {
        if !(delta > 0.0 && delta < 1.0) {
            return Err(AccountantError::DeltaOutOfRange(delta));
        }
        // The smallest subnormal numbers have no digits.
        if delta < LEAST_DELTA {
            return Err(AccountantError::DeltaTooSmall { delta, least: LEAST_DELTA });
        }
        if self.gaussian == f64::INFINITY {
            return Err(AccountantError::Unbounded);
        }
        if self.others.is_empty() {
            return match self.gaussian {
                0.0 => Ok(0.0),
                precision => gaussian_epsilon(precision.sqrt().recip(), delta),
            };
        }
        let pairs = self.pairs();
        let answers = directions(&pairs).map(|direction| Question::new(&pairs, direction).epsilon(delta));
        answers
            .map(|answer| answer.ok_or(AccountantError::Unbounded))
            .try_fold(0.0, |largest: f64, epsilon| epsilon.map(|epsilon| largest.max(epsilon)))
    }

    /// The smallest delta that is known at `epsilon`, never below the true one: 1 where epsilon is negative or
    /// not a number. Deltas below 1e-280 are rounded up to about that.
    #[must_use]
    pub fn delta(&self, epsilon: f64) -> f64 {
        if epsilon.is_nan() || epsilon < 0.0 || self.gaussian == f64::INFINITY {
            return 1.0;
        }
        if self.others.is_empty() {
            return if self.gaussian == 0.0 {
                0.0
            } else {
                gaussian_delta(self.gaussian.sqrt().recip(), epsilon)
            };
        }
        if epsilon == f64::INFINITY {
            return 0.0;
        }
        let pairs = self.pairs();
        directions(&pairs)
            .map(|direction| Question::new(&pairs, direction).delta(epsilon))
            .fold(0.0, f64::max)
    }

    fn once(pair: Pair) -> Self {
        Self { gaussian: 0.0, others: vec![(pair, 1)] }
    }

    fn checked(self) -> Result<Self, AccountantError> {
        let releases = self.others.iter().fold(0_u64, |sum, (_, count)| sum.saturating_add(*count));
        if releases > MAX_RELEASES {
            return Err(AccountantError::TooManyReleases { releases, most: MAX_RELEASES });
        }
        Ok(self)
    }

    /// All that is to be composed numerically.
    fn pairs(&self) -> Vec<(Pair, u64)> {
        let mut pairs = self.others.clone();
        if self.gaussian > 0.0 {
            pairs.push((Pair::Mixture(Mixture::gaussian(self.gaussian.sqrt().recip())), 1));
        }
        pairs
    }
}

/// The directions that can differ.
fn directions(pairs: &[(Pair, u64)]) -> impl Iterator<Item = Direction> {
    let differ = pairs.iter().any(|(pair, _)| !pair.is_symmetric());
    [Direction::Remove, Direction::Add]
        .into_iter()
        .filter(move |direction| differ || *direction == Direction::Remove)
}

fn check(name: &'static str, value: f64, (smallest, largest): (f64, f64)) -> Result<(), AccountantError> {
    if value >= smallest && value <= largest {
        return Ok(());
    }
    Err(AccountantError::ParameterOutOfRange { name, value, smallest, largest })
}

#[cfg(test)]
mod tests;
