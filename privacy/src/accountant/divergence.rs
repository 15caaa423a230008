//! Rényi divergences of mechanisms at any order, and epsilon at the best of them.
//! Must never return less than the divergence, nor an epsilon at an order that was not evaluated.

use super::distributed::{DistributedGaussian, tau};
use super::poisson_gaussian::PoissonGaussian;
use super::skellam::{SkellamInteger, SkellamNoise};
use super::{AccountantError, conversion, laplace};
use crate::mechanism::{Adjacency, MIN_LOCAL_SIGMA};

/// Orders tried first: `alpha - 1` from `2^-10` to `2^18` in steps of a quarter of an octave.
const COARSE: i32 = 4;
/// The octaves of `alpha - 1` between which the best order is looked for.
const OCTAVES: (i32, i32) = (-10, 18);
/// Golden sections of the bracket around the best of those, until it is narrower than 1e-6 octaves.
const SECTIONS: u32 = 28;

/// The largest Rényi divergence between the outputs of a mechanism for two neighbouring cohorts, or a bound on it, as
/// a function of the order.
#[derive(Clone, Debug)]
pub struct RenyiDivergence(Law);

#[derive(Clone, Debug)]
enum Law {
    /// `alpha rho`.
    Straight {
        rho: f64,
    },
    Laplace {
        scale: f64,
    },
    PoissonGaussian(Box<PoissonGaussian>),
    Skellam(SkellamNoise),
    SkellamInteger(Box<SkellamInteger>),
    SumOfDiscreteGaussians {
        bound: DistributedGaussian,
        tau: f64,
    },
}

/// What a mechanism costs that adds no noise, or noise that is not a positive number.
const UNBOUNDED: RenyiDivergence = RenyiDivergence(Law::Straight { rho: f64::INFINITY });

impl RenyiDivergence {
    /// Continuous Gaussian noise of standard deviation `noise_multiplier` times the sensitivity: `alpha / (2 z^2)`
    /// (Mironov 2017, proposition 7).
    ///
    /// Without noise, or with a multiplier that is not a positive number, the divergence is infinite; so it is below.
    #[must_use]
    pub fn gaussian(noise_multiplier: f64) -> Self {
        if noise_multiplier > 0.0 {
            Self::zcdp(0.5 / (noise_multiplier * noise_multiplier))
        } else {
            UNBOUNDED
        }
    }

    /// Discrete Gaussian noise of parameter `sigma` in every coordinate of an integer vector, for adjacent vectors at
    /// most `sensitivity` apart in Euclidean norm: as much as the continuous Gaussian (Canonne, Kamath, Steinke 2020,
    /// theorem 4).
    #[must_use]
    pub fn discrete_gaussian(sigma: f64, sensitivity: f64) -> Self {
        Self::gaussian(sigma / sensitivity)
    }

    /// `rho`-zero-concentrated differential privacy: `alpha rho` (Bun, Steinke 2016, definition 1.1).
    #[must_use]
    pub fn zcdp(rho: f64) -> Self {
        if rho >= 0.0 { Self(Law::Straight { rho }) } else { UNBOUNDED }
    }

    /// Laplace noise whose scale is `scale` times the l1 sensitivity (Mironov 2017, proposition 6).
    #[must_use]
    pub fn laplace(scale: f64) -> Self {
        if scale > 0.0 { Self(Law::Laplace { scale }) } else { UNBOUNDED }
    }

    /// Gaussian noise of standard deviation `noise_multiplier` times the length of one update, on the sum over a sample
    /// that each client joins independently with probability `sampling_rate`, unseen by the adversary.
    ///
    /// Zero-out, which is add/remove here: Mironov, Talwar, Zhang 2019, at every real order. Replace-one: the divergence
    /// of the pair of mixtures that dominates it (`docs/privacy/accounting.md`); the multiplier is over the length of
    /// one update there too, and is not halved.
    ///
    /// # Errors
    /// [`AccountantError::SamplingRateOutOfRange`] unless `0 < sampling_rate <= 1`.
    pub fn poisson_gaussian(
        noise_multiplier: f64,
        sampling_rate: f64,
        adjacency: Adjacency,
    ) -> Result<Self, AccountantError> {
        if !(sampling_rate > 0.0 && sampling_rate <= 1.0) {
            return Err(AccountantError::SamplingRateOutOfRange(sampling_rate));
        }
        // Beyond these bounds squares leave the range of doubles; without sampling it costs more, so this errs upwards.
        if sampling_rate == 1.0 || !(1e-100..1e100).contains(&noise_multiplier) {
            return Ok(Self::gaussian(noise_multiplier / adjacency.sensitivity_factor()));
        }
        let pair = PoissonGaussian::new(noise_multiplier, sampling_rate, adjacency);
        Ok(Self(Law::PoissonGaussian(Box::new(pair))))
    }

    /// Skellam noise of total variance `variance` in every coordinate of an integer vector, for adjacent sums that
    /// differ by at most `l2` in Euclidean and `l1` in l1 norm; all in integer units (Agarwal, Kairouz, Liu 2021, theorem
    /// 3.5, with the chord between integer orders).
    #[must_use]
    pub fn skellam(variance: f64, l2: f64, l1: f64) -> Self {
        if variance > 0.0 && l2 >= 0.0 && l1 >= 0.0 {
            Self(Law::Skellam(SkellamNoise { variance, l2, l1 }))
        } else {
            UNBOUNDED
        }
    }

    /// Skellam noise of total variance `variance` on one integer that one client moves by at most `sensitivity`: the
    /// divergence itself at every real order, from the probabilities, up to deviations of about 200; beyond that, and where
    /// it is smaller, the bound of [`RenyiDivergence::skellam`].
    #[must_use]
    pub fn skellam_on_an_integer(variance: f64, sensitivity: u32) -> Self {
        if variance > 0.0 {
            Self(Law::SkellamInteger(Box::new(SkellamInteger::new(variance, sensitivity))))
        } else {
            UNBOUNDED
        }
    }

    /// A sum of `honest` discrete Gaussians of parameter `local_sigma` in each of `dimension` coordinates of an integer
    /// vector, for adjacent vectors at most `sensitivity` apart in Euclidean norm (Kairouz, Liu, Steinke 2021, proposition
    /// 14, which asks for a `local_sigma` of at least one half).
    #[must_use]
    pub fn sum_of_discrete_gaussians(
        dimension: usize,
        sensitivity: f64,
        local_sigma: f64,
        honest: u32,
    ) -> Self {
        if !(local_sigma >= MIN_LOCAL_SIGMA && sensitivity > 0.0 && honest > 0) {
            return UNBOUNDED;
        }
        Self::of_shares(DistributedGaussian {
            dimension,
            sensitivity,
            local_variance: local_sigma * local_sigma,
            honest,
        })
    }

    /// The same with everything checked before.
    pub(crate) fn of_shares(bound: DistributedGaussian) -> Self {
        Self(Law::SumOfDiscreteGaussians { bound, tau: tau(bound.local_variance, bound.honest) })
    }

    /// The divergence of order `1 + excess`, in nats.
    #[must_use]
    pub fn at(&self, excess: f64) -> f64 {
        let order = 1.0 + excess;
        match &self.0 {
            Law::Straight { rho } => order * rho,
            Law::Laplace { scale } => laplace::divergence(*scale, excess),
            Law::PoissonGaussian(pair) => pair.divergence(excess),
            Law::Skellam(noise) => noise.divergence(excess),
            Law::SkellamInteger(noise) => noise.divergence(excess),
            Law::SumOfDiscreteGaussians { bound, tau } => bound.divergence(*tau, order),
        }
    }
}

/// Epsilon at `delta` of an adaptive composition, each mechanism as often as the number beside it says, at the best
/// real order (Mironov 2017, proposition 1; Canonne, Kamath, Steinke 2020, proposition 12).
///
/// [`super::RdpCurve`] costs a table of fixed orders and composes by adding it; this finds an order between them, which
/// saves up to 2% of epsilon where sampling makes a curve with a sharp bend.
///
/// # Errors
/// [`AccountantError::DeltaOutOfRange`] unless `0 < delta < 1`; [`AccountantError::Unbounded`] when no order is finite.
pub fn composed_epsilon(releases: &[(RenyiDivergence, u64)], delta: f64) -> Result<f64, AccountantError> {
    if !(delta > 0.0 && delta < 1.0) {
        return Err(AccountantError::DeltaOutOfRange(delta));
    }
    let at = |octave: f64| {
        let excess = octave.exp2();
        let sum: f64 = releases.iter().map(|(one, count)| one.at(excess) * *count as f64).sum();
        (sum, conversion::epsilon_at(sum, excess, delta))
    };
    let mut best = (f64::NAN, f64::INFINITY);
    let mut costs_nothing = true;
    for step in OCTAVES.0 * COARSE..=OCTAVES.1 * COARSE {
        let octave = f64::from(step) / f64::from(COARSE);
        let (divergence, epsilon) = at(octave);
        costs_nothing &= divergence == 0.0;
        if epsilon < best.1 {
            best = (octave, epsilon);
        }
    }
    if costs_nothing {
        return Ok(0.0);
    }
    if !best.1.is_finite() {
        return Err(AccountantError::Unbounded);
    }
    // (alpha - 1) epsilon is convex in alpha, as (alpha - 1) D_alpha and (alpha - 1) ln(alpha - 1) - alpha ln(alpha) are;
    // so epsilon falls up to one order and rises after it.
    let golden = 0.5 * (5.0_f64.sqrt() - 1.0);
    let reach = 1.0 / f64::from(COARSE);
    let (mut low, mut high) = (best.0 - reach, best.0 + reach);
    let mut smallest = best.1;
    let (mut left, mut right) = (high - golden * (high - low), low + golden * (high - low));
    let (mut at_left, mut at_right) = (at(left).1, at(right).1);
    for _ in 0..SECTIONS {
        smallest = smallest.min(at_left).min(at_right);
        if at_left <= at_right {
            (high, right, at_right) = (right, left, at_left);
            left = high - golden * (high - low);
            at_left = at(left).1;
        } else {
            (low, left, at_left) = (left, right, at_right);
            right = low + golden * (high - low);
            at_right = at(right).1;
        }
    }
    Ok(smallest.min(at_left).min(at_right))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::accountant::{RdpCurve, gaussian_delta};

    fn sampled(noise_multiplier: f64, sampling_rate: f64, adjacency: Adjacency) -> RenyiDivergence {
        RenyiDivergence::poisson_gaussian(noise_multiplier, sampling_rate, adjacency).unwrap()
    }

    #[test]
    fn nothing_proven_is_unbounded() {
        let sums = [(1, 0.0, 1.0, 1), (1, 1.0, 0.49, 1), (1, 1.0, f64::NAN, 1), (1, 1.0, 1.0, 0)];
        let sums = sums.map(|(dimension, sensitivity, sigma, honest)| {
            RenyiDivergence::sum_of_discrete_gaussians(dimension, sensitivity, sigma, honest)
        });
        let useless = [0.0, -1.0, f64::NAN].map(|bad| {
            [
                RenyiDivergence::gaussian(bad),
                RenyiDivergence::discrete_gaussian(bad, 1.0),
                RenyiDivergence::laplace(bad),
                RenyiDivergence::skellam(bad, 1.0, 1.0),
                sampled(bad, 0.5, Adjacency::ZeroOut),
            ]
        });
        let rhos = [-1.0, f64::NAN].map(RenyiDivergence::zcdp);
        for divergence in useless.into_iter().flatten().chain(sums).chain(rhos) {
            assert_eq!(divergence.at(1.0), f64::INFINITY, "{divergence:?}");
            assert_eq!(composed_epsilon(&[(divergence, 1)], 1e-5), Err(AccountantError::Unbounded));
        }
        for rate in [0.0, -0.1, 1.000_001, f64::NAN] {
            let refused = RenyiDivergence::poisson_gaussian(1.0, rate, Adjacency::ZeroOut).unwrap_err();
            assert!(matches!(refused, AccountantError::SamplingRateOutOfRange(_)), "{rate}");
        }
        for delta in [0.0, 1.0, -1.0] {
            assert_eq!(composed_epsilon(&[], delta), Err(AccountantError::DeltaOutOfRange(delta)));
        }
        assert_eq!(composed_epsilon(&[], 1e-5), Ok(0.0));
        assert_eq!(composed_epsilon(&[(RenyiDivergence::zcdp(0.0), 9)], 1e-5), Ok(0.0));
    }

    #[test]
    fn sampling_everybody_is_not_sampling() {
        for (adjacency, factor) in [(Adjacency::ZeroOut, 1.0), (Adjacency::ReplaceOne, 2.0)] {
            let plain = RenyiDivergence::gaussian(1.3 / factor);
            let (all, nearly) = (sampled(1.3, 1.0, adjacency), sampled(1.3, 1.0 - 1e-9, adjacency));
            for excess in [1e-3, 0.3, 2.0, 17.5, 400.0, 1e5] {
                assert_eq!(all.at(excess), plain.at(excess));
                let (found, expected) = (nearly.at(excess), plain.at(excess));
                assert!(found <= expected, "{adjacency:?} {excess}: {found}, {expected}");
                // At larger orders, one client in 10^9 who is left out is enough to cover the tail of replace-one's Q.
                if adjacency == Adjacency::ZeroOut || excess <= 2.0 {
                    assert!(found > (1.0 - 1e-6) * expected, "{adjacency:?} {excess}: {found}, {expected}");
                }
            }
        }
    }

    #[test]
    fn extreme_parameters_give_a_number_that_is_not_too_small() {
        for noise_multiplier in [1e-90, 1e-3, 0.01, 0.05, 0.3, 1.0, 33.0, 1e6, 1e90] {
            for rate in [1e-300, 1e-8, 0.5, 1.0 - 1e-15] {
                for adjacency in [Adjacency::ZeroOut, Adjacency::ReplaceOne] {
                    let one = sampled(noise_multiplier, rate, adjacency);
                    let plain = RenyiDivergence::gaussian(noise_multiplier / adjacency.sensitivity_factor());
                    let mut before = 0.0;
                    for octave in -10..=18 {
                        let excess = f64::from(octave).exp2();
                        let found = one.at(excess);
                        let name = format!("{noise_multiplier} {rate:e} {adjacency:?} 1+{excess}: {found}");
                        assert!(
                            found >= before * (1.0 - 1e-9) && found <= plain.at(excess),
                            "{name}, {before}"
                        );
                        before = found;
                    }
                }
            }
        }
    }

    #[test]
    fn epsilon_is_zero_only_where_delta_covers_the_distance() {
        for noise_multiplier in [1.0, 30.0, 4e3] {
            let one = [(RenyiDivergence::gaussian(noise_multiplier), 1)];
            let distance = gaussian_delta(noise_multiplier, 0.0);
            assert!(composed_epsilon(&one, distance).unwrap() > 0.0);
            // Pinsker's inequality gives 1/2 / z for the distance, which is about 0.4 / z.
            assert_eq!(composed_epsilon(&one, 0.501 / noise_multiplier), Ok(0.0));
        }
    }

    #[test]
    fn ten_thousand_sampled_steps_cost_what_others_find_or_less() {
        // dp-accounting 0.6.0: tests/vectors/rdp_reference.json; its PLD gives 2.480666.
        let steps = [(sampled(1.0, 0.004, Adjacency::ZeroOut), 10_000)];
        let epsilon = composed_epsilon(&steps, 1e-6).unwrap();
        assert!(epsilon <= 2.686_142_5 && epsilon > 2.6, "{epsilon}");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn more_noise_and_rarer_sampling_cost_less_and_more_steps_more(
            log_noise in -0.7_f64..3.0,
            log_rate in -9.0_f64..-0.01,
            steps in 1_u64..5000,
            log_delta in -20.0_f64..-5.0,
            replace in any::<bool>(),
        ) {
            let adjacency = if replace { Adjacency::ReplaceOne } else { Adjacency::ZeroOut };
            let (noise, rate, delta) = (log_noise.exp(), log_rate.exp(), log_delta.exp());
            let epsilon = |noise, rate, steps| {
                composed_epsilon(&[(sampled(noise, rate, adjacency), steps)], delta).unwrap()
            };
            let here = epsilon(noise, rate, steps);
            prop_assert!(epsilon(noise * 1.01, rate, steps) <= here);
            prop_assert!(epsilon(noise, rate * 0.99, steps) <= here);
            prop_assert!(epsilon(noise, rate, steps + steps.div_ceil(100)) >= here);
            // Replacing is removing and adding: never cheaper than one of them.
            let removed = composed_epsilon(&[(sampled(noise, rate, Adjacency::ZeroOut), steps)], delta).unwrap();
            prop_assert!(removed <= here * (1.0 + 1e-9));
            // The table of orders is never better, and not much worse.
            let table = RdpCurve::of(&sampled(noise, rate, adjacency)).times(steps).epsilon(delta).unwrap();
            prop_assert!(here <= table * (1.0 + 1e-9) && table <= here * 1.03, "{} {}", here, table);
        }
    }
}
