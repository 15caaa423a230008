//! Epsilon with everything that goes wrong with small probability taken off delta.
//! Must never state an epsilon for the ideal mechanism where the real one ran.

use super::curve::excess;
use super::{AccountantError, RdpCurve, conversion};

/// Probability with which one round's protocol may fail to keep its promise: 2^-40.
pub const ROUND_FAILURE: f64 = 1.0 / (1_u64 << 40) as f64;
/// Steps in which the fixed point must be found. Where delta is not nearly used up, each makes the error that
/// remains many times smaller.
const MOST_STEPS: usize = 64;

/// Epsilon at `delta` of `rounds` rounds that cost `curve` altogether.
///
/// Each round may fail with probability [`ROUND_FAILURE`], and noise at total variation distance D
/// ([`RdpCurve::sampling_distance`]) from the exact law costs `(1 + e^epsilon) D` of delta; both are taken
/// off `delta` first. The result is an epsilon that satisfies its own equation.
///
/// # Errors
/// [`AccountantError::DeltaOutOfRange`], [`AccountantError::Unbounded`] as [`RdpCurve::epsilon`], and
/// [`AccountantError::DeltaExhausted`] when nothing of `delta` is left.
pub fn epsilon_spent(curve: &RdpCurve, delta: f64, rounds: u64) -> Result<f64, AccountantError> {
    if !(delta > 0.0 && delta < 1.0) {
        return Err(AccountantError::DeltaOutOfRange(delta));
    }
    let distance = curve.sampling_distance();
    let exhausted = AccountantError::DeltaExhausted { delta, rounds, distance };
    let left_at = |epsilon: f64| left_of(delta, rounds, distance, epsilon);
    // Start below every solution and climb: what is left of delta falls as epsilon grows.
    let mut epsilon = 0.0_f64;
    for _ in 0..MOST_STEPS {
        let left = left_at(epsilon);
        if left <= 0.0 {
            return Err(exhausted);
        }
        let next = curve.epsilon(left)?;
        if next <= epsilon {
            return Ok(epsilon);
        }
        // A hair more, so that the climb ends once the steps are below the precision that matters.
        epsilon = next + 1e-12 * next;
    }
    Err(exhausted)
}

/// What is left of `delta` for the ideal mechanism.
fn left_of(delta: f64, rounds: u64, distance: f64, epsilon: f64) -> f64 {
    delta - rounds as f64 * ROUND_FAILURE - (1.0 + epsilon.exp()) * distance
}

/// Rounds of some costs, not composed yet: each curve, and how often it is paid.
pub(crate) type Spending<'a> = [(&'a RdpCurve, u64)];

/// The largest [`epsilon_spent`] over many spendings.
///
/// One order of the curves bounds epsilon from above. So most spendings are seen to cost no more than the largest yet by the
/// order that is best for that one, at a thousandth of what composing them at every order takes.
pub(crate) struct Largest {
    delta: f64,
    epsilon: f64,
    place: usize,
}

impl Largest {
    /// Of no spending.
    ///
    /// # Errors
    /// [`AccountantError::DeltaOutOfRange`].
    pub(crate) fn new(delta: f64) -> Result<Self, AccountantError> {
        Ok(Self { delta, epsilon: epsilon_spent(&RdpCurve::zero(), delta, 0)?, place: 0 })
    }

    /// Takes one spending into account.
    ///
    /// # Errors
    /// As [`epsilon_spent`].
    pub(crate) fn add(&mut self, spending: &Spending<'_>) -> Result<(), AccountantError> {
        if self.covers(spending) {
            return Ok(());
        }
        let mut curve = RdpCurve::zero();
        let mut rounds = 0_u64;
        for (cost, times) in spending {
            curve.compose(&cost.times(*times));
            rounds = rounds.saturating_add(*times);
        }
        let epsilon = epsilon_spent(&curve, self.delta, rounds)?;
        if epsilon > self.epsilon {
            let left = left_of(self.delta, rounds, curve.sampling_distance(), epsilon);
            *self = Self { epsilon, place: curve.best_place(left), ..*self };
        }
        Ok(())
    }

    /// Whether one order shows that a spending costs at most [`Self::epsilon`]: what is the least solution of an equation is
    /// below every point at which its right side, which rises, is not above its left.
    fn covers(&self, spending: &Spending<'_>) -> bool {
        let (mut divergence, mut distance, mut rounds) = (0.0, 0.0, 0_u64);
        for (cost, times) in spending {
            divergence += cost.at(self.place) * *times as f64;
            distance += cost.sampling_distance() * *times as f64;
            rounds = rounds.saturating_add(*times);
        }
        let left = left_of(self.delta, rounds, distance, self.epsilon);
        left > 0.0 && conversion::epsilon_at(divergence, excess(self.place), left) <= self.epsilon
    }

    /// The largest epsilon.
    pub(crate) fn epsilon(&self) -> f64 {
        self.epsilon
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::mechanism::{Adjacency, Mechanism, MechanismRequest, NoiseLaw};
    use crate::units::BasisPoints;

    fn round(noise_multiplier: f64) -> RdpCurve {
        let request = MechanismRequest {
            clients: 128,
            n_min: 103,
            corrupt: BasisPoints::new(500).unwrap(),
            dropout: BasisPoints::new(2_000).unwrap(),
            dimension: 6144,
            clip: 0.5,
            noise_multiplier,
            adjacency: Adjacency::ZeroOut,
            noise_law: NoiseLaw::DiscreteGaussian,
        };
        let mechanism = Mechanism::build(&request).unwrap();
        RdpCurve::distributed(&mechanism, 103).unwrap()
    }

    #[test]
    fn failures_and_distance_are_taken_off_delta() {
        for (noise_multiplier, rounds, delta) in [(1.0, 1, 1e-5), (2.0, 40, 1e-6), (32.0, 1_000, 1e-8)] {
            let curve = round(noise_multiplier).times(rounds);
            let spent = epsilon_spent(&curve, delta, rounds).unwrap();
            let ideal = curve.epsilon(delta).unwrap();
            // The result satisfies its own equation, and costs little more than the ideal.
            let distance = 2.0_f64.powi(-100) * 6144.0 * 97.0 * rounds as f64;
            let left = delta - rounds as f64 * 2.0_f64.powi(-40) - (1.0 + spent.exp()) * distance;
            assert!(spent >= curve.epsilon(left).unwrap(), "{spent}");
            assert!(spent > ideal && spent < ideal * 1.05, "{spent}, ideal {ideal}");
        }
    }

    #[test]
    fn a_delta_that_is_used_up_states_nothing() {
        let exhausted = |curve: &RdpCurve, delta, rounds| {
            matches!(epsilon_spent(curve, delta, rounds), Err(AccountantError::DeltaExhausted { .. }))
        };
        let ideal = RdpCurve::gaussian(10.0);
        assert!(exhausted(&ideal, 1e-12, 2), "two rounds fail with probability 1.8e-12");
        assert!(epsilon_spent(&ideal, 1e-12, 1).is_ok());
        // At an epsilon of 60 the noise's distance from the exact law weighs more than any delta.
        assert!(exhausted(&round(2.0).times(150), 1e-5, 150));
        assert!(RdpCurve::gaussian(2.0).times(150).epsilon(1e-5).is_ok_and(|epsilon| epsilon > 45.0));
        assert_eq!(epsilon_spent(&RdpCurve::gaussian(0.0), 1e-5, 1), Err(AccountantError::Unbounded));
        assert!(matches!(epsilon_spent(&ideal, 1.0, 1), Err(AccountantError::DeltaOutOfRange(_))));
        assert_eq!(epsilon_spent(&RdpCurve::zero(), 1e-5, 0), Ok(0.0));
    }
}
