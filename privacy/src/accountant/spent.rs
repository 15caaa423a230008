//! Epsilon with everything that goes wrong with small probability taken off delta.
//! Must never state an epsilon for the ideal mechanism where the real one ran.

use super::{AccountantError, RdpCurve};
use crate::mechanism::{MAX_CLIENTS, MAX_DIMENSION};
use crate::sampler;

/// Probability with which one round's protocol may fail to keep its promise: 2^-40.
pub const ROUND_FAILURE: f64 = 1.0 / (1_u64 << 40) as f64;
/// Distance between one round's noise and the exact law, over all samples of the largest cohort and dimension: 2^-56.
const ROUND_DISTANCE: f64 = sampler::DISTANCE * MAX_CLIENTS as f64 * MAX_DIMENSION as f64;
/// Steps in which the fixed point must be found; each makes the remaining error at least a thousand times smaller.
const MOST_STEPS: usize = 64;

/// Epsilon at `delta` of `rounds` rounds that cost `curve` altogether.
///
/// Each round may fail with probability [`ROUND_FAILURE`], and its noise is at total variation distance eta d m from the exact
/// law, which costs `(1 + e^epsilon) eta d m` of delta; both are taken off `delta` first. The result is an epsilon that
/// satisfies its own equation.
///
/// # Errors
/// [`AccountantError::DeltaOutOfRange`], [`AccountantError::Unbounded`] as [`RdpCurve::epsilon`], and
/// [`AccountantError::DeltaExhausted`] when nothing of `delta` is left.
pub fn epsilon_spent(curve: &RdpCurve, delta: f64, rounds: u64) -> Result<f64, AccountantError> {
    if !(delta > 0.0 && delta < 1.0) {
        return Err(AccountantError::DeltaOutOfRange(delta));
    }
    let exhausted = AccountantError::DeltaExhausted { delta, rounds };
    let count = rounds as f64;
    // Start below every solution and climb: what is left of delta falls as epsilon grows.
    let mut epsilon = 0.0_f64;
    for _ in 0..MOST_STEPS {
        let left = delta - count * (ROUND_FAILURE + (1.0 + epsilon.exp()) * ROUND_DISTANCE);
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
