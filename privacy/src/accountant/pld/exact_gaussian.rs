//! The exact trade-off of Gaussian noise between epsilon and delta (Balle, Wang 2018), the yardstick of every
//! approximation. Must never subtract nearly equal tails: a small delta would be rounding noise.

use std::f64::consts::{FRAC_1_SQRT_2, PI};

use super::quadrature::integrate;
use crate::accountant::AccountantError;

/// Relative allowance for the rounding of a delta computed here: exponents up to 700 lose three digits.
const ROUNDING: f64 = 1e-12;

/// The smallest delta for which Gaussian noise of standard deviation `noise_multiplier` times the sensitivity
/// is (`epsilon`, delta) differentially private: `Phi(-a) - e^epsilon Phi(-b)` with `a = epsilon / mu - mu/2`,
/// `b = a + mu`, `mu = 1 / noise_multiplier` (Balle, Wang 2018, theorem 8), up to a relative rounding error of
/// 1e-12 that is added.
///
/// T composed releases with multiplier z are one with multiplier `z / sqrt(T)`. Without noise, or for an
/// epsilon that is negative or not a number, the answer is 1: nothing is promised.
#[must_use]
pub fn gaussian_delta(noise_multiplier: f64, epsilon: f64) -> f64 {
    if !(noise_multiplier > 0.0 && epsilon >= 0.0) {
        return 1.0;
    }
    let mu = noise_multiplier.recip();
    if mu == 0.0 || epsilon == f64::INFINITY {
        return 0.0;
    }
    if mu == f64::INFINITY {
        return 1.0;
    }
    let (a, b) = (epsilon / mu - mu / 2.0, epsilon / mu + mu / 2.0);
    let delta = if mu <= 1.0 {
        // With R the Mills ratio, e^epsilon phi(b) = phi(a), so delta = phi(a) (R(a) - R(b)), and
        // R' = x R - 1: an integral of something positive.
        density(a) * integrate(a, b, |x| 1.0 - x * mills_ratio(x))
    } else if a > 0.0 {
        density(a) * (mills_ratio(a) - mills_ratio(b))
    } else {
        upper_tail(a) - density(a) * mills_ratio(b)
    };
    (delta * (1.0 + ROUNDING)).min(1.0)
}

/// The smallest epsilon for which Gaussian noise is (epsilon, `delta`) differentially private; the inverse of
/// [`gaussian_delta`], rounded upwards.
///
/// # Errors
/// [`AccountantError::DeltaOutOfRange`] unless `0 < delta < 1`; [`AccountantError::Unbounded`] when the
/// multiplier is not positive.
pub fn gaussian_epsilon(noise_multiplier: f64, delta: f64) -> Result<f64, AccountantError> {
    if !(delta > 0.0 && delta < 1.0) {
        return Err(AccountantError::DeltaOutOfRange(delta));
    }
    let mu = noise_multiplier.recip();
    if !(noise_multiplier > 0.0 && mu < f64::INFINITY) {
        return Err(AccountantError::Unbounded);
    }
    if gaussian_delta(noise_multiplier, 0.0) <= delta {
        return Ok(0.0);
    }
    // Phi(-a) <= e^(-a^2/2) alone would do for delta.
    let (mut low, mut high) = (0.0, mu * (mu / 2.0 + (-2.0 * delta.ln()).sqrt()));
    if !f64::is_finite(high) {
        return Err(AccountantError::Unbounded);
    }
    while high - low > ROUNDING * high {
        let middle = low + (high - low) / 2.0;
        if gaussian_delta(noise_multiplier, middle) <= delta {
            high = middle;
        } else {
            low = middle;
        }
    }
    Ok(high)
}

/// Density of the standard normal law.
pub(super) fn density(x: f64) -> f64 {
    (-x * x / 2.0).exp() / (2.0 * PI).sqrt()
}

/// Probability that a standard normal variable exceeds `x`.
pub(super) fn upper_tail(x: f64) -> f64 {
    0.5 * libm::erfc(x * FRAC_1_SQRT_2)
}

/// [`upper_tail`] over [`density`].
fn mills_ratio(x: f64) -> f64 {
    if x < 5.0 {
        return upper_tail(x) / density(x);
    }
    // Laplace's continued fraction x + 1/(x + 2/(x + 3/(x + ...))), from its far end; at 5 a hundred terms
    // are more than double precision needs.
    (1..100).rev().fold(x, |tail, term| x + f64::from(term) / tail).recip()
}
