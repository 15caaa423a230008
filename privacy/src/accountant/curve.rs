//! A Rényi differential privacy curve on a fixed grid of orders.
//! Must never interpolate towards less: a curve is evaluated only at the orders it was computed for.

use serde::{Deserialize, Serialize};

use super::{AccountantError, DistributedGaussian, RenyiDivergence, conversion};
use crate::mechanism::{Mechanism, NoiseLaw};
use crate::sampler;

/// Grid points per doubling of `alpha - 1`. Neighbours differ by 2.2%, so the best grid order is within 1.1%
/// of the best real one, and epsilon, whose derivative vanishes there, within 1e-4 of its value; where sampling
/// bends the curve sharply, within 2%, and [`super::composed_epsilon`] finds the order in between.
const POINTS_PER_OCTAVE: i32 = 32;
/// The smallest order is `1 + 2^-10`.
const LOWEST_OCTAVE: i32 = -10;
/// The largest order is `1 + 2^18`.
const HIGHEST_OCTAVE: i32 = 18;
/// Number of orders.
const ORDERS: usize = ((HIGHEST_OCTAVE - LOWEST_OCTAVE) * POINTS_PER_OCTAVE + 1) as usize;

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

    /// The curve of a mechanism, at every order of the grid.
    #[must_use]
    pub fn of(divergence: &RenyiDivergence) -> Self {
        Self { divergences: excesses().map(|excess| divergence.at(excess)).collect(), sampling_distance: 0.0 }
    }

    /// The curve of [`RenyiDivergence::gaussian`].
    #[must_use]
    pub fn gaussian(noise_multiplier: f64) -> Self {
        Self::of(&RenyiDivergence::gaussian(noise_multiplier))
    }

    /// The curve of [`RenyiDivergence::skellam`].
    #[must_use]
    pub fn skellam(variance: f64, l2: f64, l1: f64) -> Self {
        Self::of(&RenyiDivergence::skellam(variance, l2, l1))
    }

    /// The curve of one released round of `mechanism` with `survivors` updates in the sum, as the coordinator
    /// and its colluders see it.
    ///
    /// Counts only the noise that is guaranteed: of the survivors, `floor(gamma n)` may know or omit their
    /// own. The rest, H, add variance `H sigma_l^2`; the bound is the one of the mechanism's own law: proposition 14 of
    /// Kairouz, Liu, Steinke 2021 for discrete Gaussian shares, theorem 3.5 of Agarwal, Kairouz, Liu 2021 for Skellam
    /// shares, whose sum is one Skellam variable. No amplification by sampling: the coordinator knows who took part.
    ///
    /// # Errors
    /// [`AccountantError::TooFewSurvivors`] below `n_min`, [`AccountantError::MoreSurvivorsThanClients`]
    /// above n.
    pub fn distributed(mechanism: &Mechanism, survivors: u32) -> Result<Self, AccountantError> {
        let (n_min, clients) = (mechanism.n_min(), mechanism.clients());
        if survivors < n_min {
            return Err(AccountantError::TooFewSurvivors { survivors, n_min });
        }
        if survivors > clients {
            return Err(AccountantError::MoreSurvivorsThanClients { survivors, clients });
        }
        let (dimension, sensitivity) = (mechanism.dimension(), mechanism.sensitivity());
        let (local_variance, honest) = (mechanism.local_variance(), survivors - mechanism.corrupt_clients());
        let mut curve = match mechanism.noise_law() {
            NoiseLaw::DiscreteGaussian => Self::of(&RenyiDivergence::of_shares(DistributedGaussian {
                dimension,
                sensitivity,
                local_variance,
                honest,
            })),
            NoiseLaw::Skellam => {
                Self::skellam(f64::from(honest) * local_variance, sensitivity, mechanism.l1_sensitivity())
            }
        };
        curve.sampling_distance = sampler::DISTANCE * dimension as f64 * f64::from(honest);
        Ok(curve)
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
    /// below 0 (Canonne, Kamath, Steinke 2020, proposition 12); and 0 where Pinsker's inequality gives `(0, delta)`.
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
        let smallest = excesses()
            .zip(&self.divergences)
            .map(|(excess, divergence)| conversion::epsilon_at(*divergence, excess, delta))
            .fold(f64::INFINITY, f64::min);
        if smallest.is_finite() { Ok(smallest) } else { Err(AccountantError::Unbounded) }
    }

    /// Total variation distance between the noise that is drawn and the law that the divergences are of: eta
    /// d H for each round of a distributed mechanism, with H honest shares and eta the sampler's
    /// distance; 0 for ideal mechanisms.
    #[must_use]
    pub fn sampling_distance(&self) -> f64 {
        self.sampling_distance
    }

    /// The divergence at one place of the grid, in nats.
    pub(crate) fn at(&self, place: usize) -> f64 {
        self.divergences[place]
    }

    /// The place of the grid whose order gives the smallest epsilon at `delta`.
    pub(crate) fn best_place(&self, delta: f64) -> usize {
        let epsilons = excesses()
            .zip(&self.divergences)
            .map(|(excess, divergence)| conversion::epsilon_at(*divergence, excess, delta));
        let best = epsilons.enumerate().min_by(|(_, one), (_, other)| one.total_cmp(other));
        best.map_or(0, |(place, _)| place)
    }

    /// The orders of the grid with the divergence at each, in nats.
    pub fn points(&self) -> impl Iterator<Item = (f64, f64)> + '_ {
        excesses().map(|excess| 1.0 + excess).zip(self.divergences.iter().copied())
    }
}

/// `alpha - 1` for every order of the grid, ascending.
fn excesses() -> impl Iterator<Item = f64> {
    (0..ORDERS).map(excess)
}

/// `alpha - 1` at one place of the grid.
pub(crate) fn excess(place: usize) -> f64 {
    let step = place as i32 + LOWEST_OCTAVE * POINTS_PER_OCTAVE;
    (f64::from(step) / f64::from(POINTS_PER_OCTAVE)).exp2()
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
        assert_eq!(reference.cases.len(), 15);
        // The curves that are straight lines; `tests/audit.rs` asks for all cases.
        let straight = ["gaussian", "discrete_gaussian_1d_sens1", "zcdp->approxdp"];
        let cases: Vec<Case> =
            reference.cases.into_iter().filter(|case| straight.contains(&case.mechanism.as_str())).collect();
        assert_eq!(cases.len(), 7);
        for case in cases {
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
                // Pinsker's inequality, with the divergence at the smallest order.
                let nothing = 0.5 / (noise_multiplier * noise_multiplier) < 1.99 * delta * delta;
                let best = if nothing { 0.0 } else { best.max(0.0) };
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
            noise_law: NoiseLaw::DiscreteGaussian,
        })
        .unwrap()
    }

    #[test]
    fn the_fewest_survivors_cost_what_the_noise_multiplier_promises_and_more_cost_less() {
        let mechanism = mechanism(500);
        let at = |survivors| RdpCurve::distributed(&mechanism, survivors).unwrap();
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
            RdpCurve::distributed(&mechanism, 102),
            Err(AccountantError::TooFewSurvivors { survivors: 102, n_min: 103 })
        );
        assert_eq!(
            RdpCurve::distributed(&mechanism, 129),
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
