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
        // R' = x R - 1: an integral of something positive. Its length is mu, not the rounded b - a.
        density(a) * integrate(0.0, mu, |t| 1.0 - (a + t) * mills_ratio(a + t))
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

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// Multiplier z, epsilon, delta: mpmath, 60 digits, `ncdf(mu/2 - e/mu) - exp(e) ncdf(-mu/2 - e/mu)`, `mu = 1/z`.
    const CASES: [(f64, f64, f64); 13] = [
        (1.0, 1.0, 0.126_936_737_506_643_94),
        (1.0, 0.0, 0.382_924_922_548_026_2),
        (1.0, 4.377, 1.000_763_193_836_093_4e-05),
        (0.1, 60.0, 0.136_835_380_396_461_12),
        (0.1, 20.0, 0.998_029_181_465_427_6),
        (5.0, 0.7, 1.652_391_146_533_669_2e-05),
        (1000.0, 0.004, 7.159_562_434_938_244e-09),
        (1_000_000.0, 3e-06, 3.821_548_902_795_876_5e-10),
        (1_000_000.0, 0.0, 3.989_422_804_014_160_7e-07),
        (0.01, 5400.0, 3.038_453_168_082_554e-05),
        (0.5, 60.0, 2.117_897_565_720_859_4e-186),
        (2.0, 12.0, 1.128_860_275_444_373e-126),
        (30.0, 0.5, 1.038_216_328_279_104_3e-53),
    ];

    #[test]
    fn the_exact_gaussian_is_right() {
        for (noise_multiplier, epsilon, expected) in CASES {
            let found = gaussian_delta(noise_multiplier, epsilon);
            assert!(
                found >= expected && found <= expected * (1.0 + 1e-10),
                "{noise_multiplier}, {epsilon}: {found}, not {expected}"
            );
            if epsilon > 0.0 {
                let back = gaussian_epsilon(noise_multiplier, expected).unwrap();
                assert!((back - epsilon).abs() <= 1e-9 * epsilon, "{noise_multiplier}, {expected}: {back}");
            }
        }
        assert_eq!(gaussian_delta(0.0, 1.0), 1.0);
        assert_eq!(gaussian_delta(1.0, -0.1), 1.0);
        assert_eq!(gaussian_delta(f64::NAN, 1.0), 1.0);
        assert_eq!(gaussian_epsilon(0.0, 1e-5), Err(AccountantError::Unbounded));
        assert_eq!(gaussian_epsilon(1e9, 0.5), Ok(0.0));
    }
}
