//! A Rényi differential privacy curve on a fixed grid of orders.
//! Must never interpolate towards less: a curve is evaluated only at the orders it was computed for.

use serde::{Deserialize, Serialize};

use super::skellam::SkellamNoise;
use super::{AccountantError, DistributedGaussian, tau};
use crate::mechanism::Mechanism;
use crate::sampler;

/// Grid points per doubling of `alpha - 1`. Neighbours differ by 2.2%, so the best grid order is within 1.1%
/// of the best real one, and epsilon, whose derivative vanishes there, within 1e-4 of its value.
const POINTS_PER_OCTAVE: i32 = 32;
/// The smallest order is `1 + 2^-10`.
const LOWEST_OCTAVE: i32 = -10;
/// The largest order is `1 + 2^18`.
const HIGHEST_OCTAVE: i32 = 18;
/// Number of orders.
const ORDERS: usize = ((HIGHEST_OCTAVE - LOWEST_OCTAVE) * POINTS_PER_OCTAVE + 1) as usize;
/// Relative allowance for the rounding errors of the sums and logarithms here, each of which is below 1e-15 a
/// step.
const ROUNDING: f64 = 1e-12;

/// `eps(alpha)`, the largest Rényi divergence of order alpha between the outputs for two neighbouring
/// cohorts, in nats, at each order of a fixed grid from `1 + 2^-10` to `1 + 2^18`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(into = "CurveForm", try_from = "CurveForm")]
pub struct RdpCurve {
    divergences: Vec<f64>,
    sampling_distance: f64,
}

/// The serial form of an [`RdpCurve`].
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct CurveForm {
    sampling_distance: f64,
    divergences: Vec<f64>,
}

impl RdpCurve {
    /// The curve of a mechanism that releases nothing.
    #[must_use]
    pub fn zero() -> Self {
        Self { divergences: vec![0.0; ORDERS], sampling_distance: 0.0 }
    }

    /// The curve of continuous Gaussian noise of standard deviation `noise_multiplier` times the sensitivity:
    /// `alpha / (2 z^2)` (Mironov 2017, proposition 7). The discrete Gaussian has the same bound (Canonne,
    /// Kamath, Steinke 2020, theorem 4).
    ///
    /// Without noise, or with a multiplier that is not a positive number, every divergence is infinite.
    #[must_use]
    pub fn gaussian(noise_multiplier: f64) -> Self {
        if noise_multiplier > 0.0 {
            Self::at_orders(|order| order / (2.0 * noise_multiplier * noise_multiplier))
        } else {
            Self::at_orders(|_| f64::INFINITY)
        }
    }

    /// The curve of one released round of `mechanism` with `survivors` updates in the sum, as the coordinator
    /// and its colluders see it.
    ///
    /// Counts only the noise that is guaranteed: of the survivors, `floor(gamma n)` may know or omit their
    /// own. The rest, H, add variance `H sigma_l^2`; the bound is proposition 14 of Kairouz, Liu, Steinke
    /// 2021. No amplification by sampling: the coordinator knows who took part.
    ///
    /// # Errors
    /// [`AccountantError::TooFewSurvivors`] below `n_min`, [`AccountantError::MoreSurvivorsThanClients`]
    /// above n.
    pub fn distributed_discrete_gaussian(
        mechanism: &Mechanism,
        survivors: u32,
    ) -> Result<Self, AccountantError> {
        let (n_min, clients) = (mechanism.n_min(), mechanism.clients());
        if survivors < n_min {
            return Err(AccountantError::TooFewSurvivors { survivors, n_min });
        }
        if survivors > clients {
            return Err(AccountantError::MoreSurvivorsThanClients { survivors, clients });
        }
        let bound = DistributedGaussian {
            dimension: mechanism.dimension(),
            sensitivity: mechanism.sensitivity(),
            local_variance: mechanism.local_variance(),
            honest: survivors - mechanism.corrupt_clients(),
        };
        let tau = tau(bound.local_variance, bound.honest);
        let mut curve = Self::at_orders(|order| bound.divergence(tau, order));
        curve.sampling_distance = sampler::DISTANCE * bound.dimension as f64 * f64::from(bound.honest);
        Ok(curve)
    }

    /// The curve of Skellam noise of total variance `variance` in every coordinate of an integer vector, for adjacent sums
    /// that differ by at most `l2` in Euclidean and `l1` in l1 norm; all in integer units.
    ///
    /// The bound is for integer orders; in between it is the next integer's, for the divergence grows with the order.
    #[must_use]
    pub fn skellam(variance: f64, l2: f64, l1: f64) -> Self {
        let noise = SkellamNoise { variance, l2, l1 };
        Self::at_orders(|order| noise.divergence(order.ceil()))
    }

    /// The same curve for noise at this total variation distance from the law that it is of.
    #[must_use]
    pub(crate) fn with_sampling_distance(self, sampling_distance: f64) -> Self {
        Self { sampling_distance, ..self }
    }

    /// Adds the cost of another release to this one: adaptive composition (Mironov 2017, proposition 1).
    pub fn compose(&mut self, other: &Self) {
        for (sum, value) in self.divergences.iter_mut().zip(&other.divergences) {
            *sum += value;
        }
        self.sampling_distance += other.sampling_distance;
    }

    /// The curve of `count` releases that each cost this one.
    #[must_use]
    pub fn times(&self, count: u64) -> Self {
        if count == 0 {
            return Self::zero();
        }
        let count = count as f64;
        let divergences = self.divergences.iter().map(|value| value * count).collect();
        Self { divergences, sampling_distance: self.sampling_distance * count }
    }

    /// The smallest epsilon for which the composed mechanism is known to be (epsilon, `delta`) differentially
    /// private: `min over alpha of eps(alpha) + ln(1 - 1/alpha) - (ln delta + ln alpha) / (alpha - 1)`, never
    /// below 0 (Canonne, Kamath, Steinke 2020, proposition 12).
    ///
    /// This counts ideal noise alone; [`super::epsilon_spent`] also takes off delta what sampling and
    /// protocol cost.
    ///
    /// # Errors
    /// [`AccountantError::DeltaOutOfRange`] unless `0 < delta < 1`; [`AccountantError::Unbounded`] when no
    /// order is finite.
    pub fn epsilon(&self, delta: f64) -> Result<f64, AccountantError> {
        if !(delta > 0.0 && delta < 1.0) {
            return Err(AccountantError::DeltaOutOfRange(delta));
        }
        if self.divergences.iter().all(|value| *value == 0.0) {
            return Ok(0.0);
        }
        let log_delta = delta.ln();
        let smallest = excesses()
            .zip(&self.divergences)
            .map(|(excess, divergence)| {
                // alpha = 1 + excess; ln(1 - 1/alpha) = ln(excess) - ln(alpha).
                let log_order = excess.ln_1p();
                let terms = [excess.ln() - log_order, -(log_delta + log_order) / excess];
                let size: f64 = divergence + terms.iter().map(|term| term.abs()).sum::<f64>();
                divergence + terms[0] + terms[1] + ROUNDING * size
            })
            .fold(f64::INFINITY, f64::min);
        if smallest.is_finite() { Ok(smallest.max(0.0)) } else { Err(AccountantError::Unbounded) }
    }

    /// Total variation distance between the noise that is drawn and the law that the divergences are of: eta
    /// d H for each round of the distributed discrete Gaussian, with H honest shares and eta the sampler's
    /// distance; 0 for ideal mechanisms.
    #[must_use]
    pub fn sampling_distance(&self) -> f64 {
        self.sampling_distance
    }

    /// The orders of the grid with the divergence at each, in nats.
    pub fn points(&self) -> impl Iterator<Item = (f64, f64)> + '_ {
        excesses().map(|excess| 1.0 + excess).zip(self.divergences.iter().copied())
    }

    fn at_orders(divergence: impl Fn(f64) -> f64) -> Self {
        Self {
            divergences: excesses().map(|excess| divergence(1.0 + excess)).collect(),
            sampling_distance: 0.0,
        }
    }
}

/// `alpha - 1` for every order of the grid, ascending.
fn excesses() -> impl Iterator<Item = f64> {
    let steps = LOWEST_OCTAVE * POINTS_PER_OCTAVE..=HIGHEST_OCTAVE * POINTS_PER_OCTAVE;
    steps.map(|step| (f64::from(step) / f64::from(POINTS_PER_OCTAVE)).exp2())
}

impl From<RdpCurve> for CurveForm {
    fn from(curve: RdpCurve) -> Self {
        Self { sampling_distance: curve.sampling_distance, divergences: curve.divergences }
    }
}

impl TryFrom<CurveForm> for RdpCurve {
    type Error = AccountantError;

    fn try_from(form: CurveForm) -> Result<Self, AccountantError> {
        let CurveForm { sampling_distance, divergences } = form;
        if divergences.len() != ORDERS {
            return Err(AccountantError::WrongOrders { expected: ORDERS, found: divergences.len() });
        }
        let damaged =
            divergences.iter().chain([&sampling_distance]).find(|value| value.is_nan() || **value < 0.0);
        if let Some(&value) = damaged {
            return Err(AccountantError::InvalidDivergence(value));
        }
        Ok(Self { divergences, sampling_distance })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::mechanism::{Adjacency, MechanismRequest};
    use crate::units::BasisPoints;

    #[derive(Deserialize)]
    struct Reference {
        cases: Vec<Case>,
    }

    #[derive(Deserialize)]
    struct Case {
        mechanism: String,
        sigma: Option<f64>,
        rho: Option<f64>,
        steps: u64,
        delta: f64,
        eps_pld: Option<f64>,
        eps_rdp: f64,
    }

    #[test]
    fn agrees_with_dp_accounting() {
        let reference = include_str!("../../tests/vectors/dp_reference.json");
        let reference: Reference = serde_json::from_str(reference).unwrap();
        assert_eq!(reference.cases.len(), 7);
        for case in reference.cases {
            let noise_multiplier = match (case.sigma, case.rho) {
                (Some(sigma), None) => sigma,
                (None, Some(rho)) => (0.5 / rho).sqrt(),
                _ => unreachable!("{} has neither sigma nor rho", case.mechanism),
            };
            let epsilon = RdpCurve::gaussian(noise_multiplier).times(case.steps).epsilon(case.delta).unwrap();
            let name = format!("{} {noise_multiplier} x {}", case.mechanism, case.steps);
            assert!(epsilon <= case.eps_rdp * 1.001, "{name}: {epsilon} above {}", case.eps_rdp);
            // A continuous order was tried for the reference of zCDP, and no bound can beat the exact value.
            let least =
                if case.mechanism.starts_with("zcdp") { case.eps_rdp * 0.999 } else { case.eps_pld.unwrap() };
            assert!(epsilon >= least, "{name}: {epsilon} below {least}");
            let by_steps = (0..case.steps).fold(RdpCurve::zero(), |mut sum, _| {
                sum.compose(&RdpCurve::gaussian(noise_multiplier));
                sum
            });
            assert!((by_steps.epsilon(case.delta).unwrap() - epsilon).abs() < 1e-9 * epsilon, "{name}");
        }
    }

    #[test]
    fn the_grid_is_as_good_as_a_continuous_order() {
        for noise_multiplier in [0.3, 1.0, 7.0, 50.0, 1000.0] {
            for delta in [1e-3, 1e-5, 1e-9] {
                let on_grid = RdpCurve::gaussian(noise_multiplier).epsilon(delta).unwrap();
                let at = |excess: f64| {
                    let order = 1.0 + excess;
                    order / (2.0 * noise_multiplier * noise_multiplier) + (excess / order).ln()
                        - (delta.ln() + order.ln()) / excess
                };
                let best = (0..400_000)
                    .map(|step| at((f64::from(step) * 5e-5 - 7.0).exp()))
                    .fold(f64::INFINITY, f64::min);
                let best = best.max(0.0);
                assert!(
                    on_grid >= best - 1e-12 && on_grid <= best * 1.0005,
                    "{noise_multiplier}: {on_grid}, not {best}"
                );
            }
        }
    }

    #[test]
    fn epsilon_is_never_negative_and_refuses_what_has_none() {
        assert_eq!(RdpCurve::zero().epsilon(1e-5), Ok(0.0));
        assert_eq!(RdpCurve::gaussian(1e9).epsilon(0.5), Ok(0.0));
        assert_eq!(RdpCurve::gaussian(f64::INFINITY), RdpCurve::zero());
        for useless in [0.0, -1.0, f64::NAN] {
            assert_eq!(
                RdpCurve::gaussian(useless).epsilon(1e-5),
                Err(AccountantError::Unbounded),
                "{useless}"
            );
        }
        for delta in [0.0, 1.0, -1e-5, 2.0] {
            assert_eq!(RdpCurve::gaussian(1.0).epsilon(delta), Err(AccountantError::DeltaOutOfRange(delta)));
        }
        assert!(matches!(RdpCurve::zero().epsilon(f64::NAN), Err(AccountantError::DeltaOutOfRange(_))));
        assert_eq!(RdpCurve::gaussian(0.0).times(0), RdpCurve::zero());
    }

    fn mechanism(corrupt: u16) -> Mechanism {
        Mechanism::build(&MechanismRequest {
            clients: 128,
            n_min: 103,
            corrupt: BasisPoints::new(corrupt).unwrap(),
            dropout: BasisPoints::new(2_000).unwrap(),
            dimension: 6144,
            clip: 0.5,
            noise_multiplier: 1.0,
            adjacency: Adjacency::ZeroOut,
        })
        .unwrap()
    }

    #[test]
    fn the_fewest_survivors_cost_what_the_noise_multiplier_promises_and_more_cost_less() {
        let mechanism = mechanism(500);
        let at = |survivors| RdpCurve::distributed_discrete_gaussian(&mechanism, survivors).unwrap();
        let (promised, worst) =
            (RdpCurve::gaussian(1.0).epsilon(1e-5).unwrap(), at(103).epsilon(1e-5).unwrap());
        assert!(worst <= promised * (1.0 + 1e-6), "{worst} above {promised}");
        assert!(worst >= promised * 0.999, "{worst} far below {promised}");
        // 128 survivors, 6 of them corrupt: 122 shares instead of 97.
        assert_eq!(at(128).sampling_distance(), 2.0_f64.powi(-100) * 6144.0 * 122.0);
        let mut twice = at(128);
        twice.compose(&at(128));
        assert_eq!(twice, at(128).times(2));
        let best = RdpCurve::gaussian((122.0_f64 / 97.0).sqrt()).epsilon(1e-5).unwrap();
        assert!((at(128).epsilon(1e-5).unwrap() - best).abs() < 1e-3 * best);
        let epsilons: Vec<f64> = (103..=128).map(|survivors| at(survivors).epsilon(1e-5).unwrap()).collect();
        assert!(epsilons.is_sorted_by(|more, less| more > less), "{epsilons:?}");
    }

    #[test]
    fn rounds_that_cannot_be_released_have_no_cost() {
        let mechanism = mechanism(500);
        assert_eq!(
            RdpCurve::distributed_discrete_gaussian(&mechanism, 102),
            Err(AccountantError::TooFewSurvivors { survivors: 102, n_min: 103 })
        );
        assert_eq!(
            RdpCurve::distributed_discrete_gaussian(&mechanism, 129),
            Err(AccountantError::MoreSurvivorsThanClients { survivors: 129, clients: 128 })
        );
    }

    #[test]
    fn stored_curves_are_checked() {
        let curve = RdpCurve::gaussian(2.0);
        let back: RdpCurve = serde_json::from_str(&serde_json::to_string(&curve).unwrap()).unwrap();
        let close = |((_, a), (_, b)): ((f64, f64), (f64, f64))| (a - b).abs() <= 1e-15 * a;
        assert!(back.points().zip(curve.points()).all(close));
        let error =
            serde_json::from_str::<RdpCurve>(r#"{"sampling_distance":0.0,"divergences":[1.0]}"#).unwrap_err();
        assert!(
            error.to_string().starts_with(&format!("a stored curve has 1 values for {ORDERS} orders")),
            "{error}"
        );
        let mut form = CurveForm::from(curve);
        form.divergences[3] = -0.1;
        assert_eq!(RdpCurve::try_from(form.clone()), Err(AccountantError::InvalidDivergence(-0.1)));
        form.divergences[3] = 0.1;
        form.sampling_distance = -1.0;
        assert_eq!(RdpCurve::try_from(form), Err(AccountantError::InvalidDivergence(-1.0)));
    }
}
