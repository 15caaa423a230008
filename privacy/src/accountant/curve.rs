//! A Rényi differential privacy curve on a fixed grid of orders.
//! Must never interpolate towards less: a curve is evaluated only at the orders it was computed for.

use serde::{Deserialize, Serialize};

use super::{AccountantError, DistributedGaussian, tau};
use crate::mechanism::Mechanism;

/// Grid points per doubling of `alpha - 1`. Neighbours differ by 2.2%, so the best grid order is within 1.1% of the best
/// real one, and epsilon, whose derivative vanishes there, within 1e-4 of its value.
const POINTS_PER_OCTAVE: i32 = 32;
/// The smallest order is `1 + 2^-10`.
const LOWEST_OCTAVE: i32 = -10;
/// The largest order is `1 + 2^18`.
const HIGHEST_OCTAVE: i32 = 18;
/// Number of orders.
const ORDERS: usize = ((HIGHEST_OCTAVE - LOWEST_OCTAVE) * POINTS_PER_OCTAVE + 1) as usize;
/// Relative allowance for the rounding errors of the sums and logarithms here, each of which is below 1e-15 a step.
const ROUNDING: f64 = 1e-12;

/// `eps(alpha)`, the largest Rényi divergence of order alpha between the outputs for two neighbouring cohorts, in nats, at
/// each order of a fixed grid from `1 + 2^-10` to `1 + 2^18`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(into = "Vec<f64>", try_from = "Vec<f64>")]
pub struct RdpCurve {
    divergences: Vec<f64>,
}

impl RdpCurve {
    /// The curve of a mechanism that releases nothing.
    #[must_use]
    pub fn zero() -> Self {
        Self { divergences: vec![0.0; ORDERS] }
    }

    /// The curve of continuous Gaussian noise of standard deviation `noise_multiplier` times the sensitivity:
    /// `alpha / (2 z^2)` (Mironov 2017, proposition 7). The discrete Gaussian has the same bound (Canonne, Kamath, Steinke
    /// 2020, theorem 4).
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

    /// The curve of one released round of `mechanism` with `survivors` updates in the sum, as the coordinator and its
    /// colluders see it.
    ///
    /// Counts only the noise that is guaranteed: of the survivors, `floor(gamma n)` may know or omit their own. The rest, H,
    /// add variance `H sigma_l^2`; the bound is proposition 14 of Kairouz, Liu, Steinke 2021. No amplification by sampling:
    /// the coordinator knows who took part.
    ///
    /// # Errors
    /// [`AccountantError::TooFewSurvivors`] below `n_min`, [`AccountantError::MoreSurvivorsThanClients`] above n.
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
        Ok(Self::at_orders(|order| bound.divergence(tau, order)))
    }

    /// Adds the cost of another release to this one: adaptive composition (Mironov 2017, proposition 1).
    pub fn compose(&mut self, other: &Self) {
        for (sum, value) in self.divergences.iter_mut().zip(&other.divergences) {
            *sum += value;
        }
    }

    /// The curve of `count` releases that each cost this one.
    #[must_use]
    pub fn times(&self, count: u64) -> Self {
        let scaled = self.divergences.iter().map(|value| if count == 0 { 0.0 } else { value * count as f64 });
        Self { divergences: scaled.collect() }
    }

    /// The smallest epsilon for which the composed mechanism is known to be (epsilon, `delta`) differentially private:
    /// `min over alpha of eps(alpha) + ln(1 - 1/alpha) - (ln delta + ln alpha) / (alpha - 1)`, never below 0 (Canonne,
    /// Kamath, Steinke 2020, proposition 12).
    ///
    /// This counts the noise alone; [`super::epsilon_spent`] also takes the protocol's failure probability off delta.
    ///
    /// # Errors
    /// [`AccountantError::DeltaOutOfRange`] unless `0 < delta < 1`; [`AccountantError::Unbounded`] when no order is finite.
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

    /// The orders of the grid with the divergence at each, in nats.
    pub fn points(&self) -> impl Iterator<Item = (f64, f64)> + '_ {
        excesses().map(|excess| 1.0 + excess).zip(self.divergences.iter().copied())
    }

    fn at_orders(divergence: impl Fn(f64) -> f64) -> Self {
        Self { divergences: excesses().map(|excess| divergence(1.0 + excess)).collect() }
    }
}

/// `alpha - 1` for every order of the grid, ascending.
fn excesses() -> impl Iterator<Item = f64> {
    let steps = LOWEST_OCTAVE * POINTS_PER_OCTAVE..=HIGHEST_OCTAVE * POINTS_PER_OCTAVE;
    steps.map(|step| (f64::from(step) / f64::from(POINTS_PER_OCTAVE)).exp2())
}

impl From<RdpCurve> for Vec<f64> {
    fn from(curve: RdpCurve) -> Self {
        curve.divergences
    }
}

impl TryFrom<Vec<f64>> for RdpCurve {
    type Error = AccountantError;

    fn try_from(divergences: Vec<f64>) -> Result<Self, AccountantError> {
        if divergences.len() != ORDERS {
            return Err(AccountantError::WrongOrders { expected: ORDERS, found: divergences.len() });
        }
        match divergences.iter().find(|value| value.is_nan() || **value < 0.0) {
            Some(&value) => Err(AccountantError::InvalidDivergence(value)),
            None => Ok(Self { divergences }),
        }
    }
}
