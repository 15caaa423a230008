//! The least noise that keeps a promise. Must never return noise for which the promise was not checked.

use std::fmt::Display;

use crate::number::shortest;

/// The answer is at most this much, relatively, above the least noise multiplier.
const TOLERANCE: f64 = 1e-6;
/// Least noise multiplier that is tried.
const LEAST: f64 = 1.0 / (1_u64 << 20) as f64;
/// Largest noise multiplier that is tried.
const LARGEST: f64 = (1_u64 << 30) as f64;

/// Why no noise multiplier can be given.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum CalibrationError {
    /// The target is not a loss that a mechanism can have.
    #[error("epsilon {} is refused as a target; it must be above 0 and finite", shortest(*.0))]
    TargetOutOfRange(f64),
    /// Even the largest noise does not meet the target.
    #[error(
        "no noise multiplier up to 2^30 keeps epsilon within {}{}; allow a larger epsilon or delta, or fewer steps",
        shortest(*target),
        because(.reason)
    )]
    Unreachable {
        /// The target epsilon.
        target: f64,
        /// What the accountant said about the largest noise, if it gave no epsilon.
        reason: Option<String>,
    },
    /// Even the smallest noise meets the target.
    #[error(
        "every noise multiplier down to 2^-20 keeps epsilon within {}: at this target no noise is needed worth naming",
        shortest(*.0)
    )]
    AlwaysMet(f64),
}

fn because(reason: &Option<String>) -> String {
    reason.as_ref().map(|reason| format!(" ({reason})")).unwrap_or_default()
}

/// The smallest noise multiplier (standard deviation over sensitivity) with which epsilon stays within `target`, rounded
/// up by at most one part in a million.
///
/// `epsilon_at` gives the epsilon of the whole composition for a noise multiplier, and must fall as it grows. The result is
/// a multiplier for which it was called and kept the target: if it is not quite monotone, as numbers from a grid are
/// not, the guarantee still holds. An error of `epsilon_at` counts as an unbounded loss.
///
/// # Errors
/// [`CalibrationError`] when `target` is no loss, or lies outside of what noise multipliers from 2^-20 to 2^30 give.
///
/// ```
/// use tacit_privacy::{RdpCurve, calibrate};
///
/// let least = calibrate(1.0, |z| RdpCurve::gaussian(z).times(100).epsilon(1e-5))?;
/// assert!(RdpCurve::gaussian(least).times(100).epsilon(1e-5)? <= 1.0);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn calibrate<E: Display>(
    target: f64,
    mut epsilon_at: impl FnMut(f64) -> Result<f64, E>,
) -> Result<f64, CalibrationError> {
    if !(target > 0.0 && target.is_finite()) {
        return Err(CalibrationError::TargetOutOfRange(target));
    }
    let mut probe = |noise_multiplier: f64| match epsilon_at(noise_multiplier) {
        Ok(epsilon) if !epsilon.is_nan() => Point { noise_multiplier, epsilon },
        _ => Point { noise_multiplier, epsilon: f64::INFINITY },
    };
    let start = probe(1.0);
    let mut bracket = Bracket { target, low: start, high: start };
    while bracket.high.epsilon > target {
        if bracket.high.noise_multiplier >= LARGEST {
            let reason = epsilon_at(LARGEST).err().map(|reason| reason.to_string());
            return Err(CalibrationError::Unreachable { target, reason });
        }
        bracket.low = bracket.high;
        bracket.high = probe(2.0 * bracket.low.noise_multiplier);
    }
    while bracket.low.epsilon <= target {
        if bracket.low.noise_multiplier <= LEAST {
            return Err(CalibrationError::AlwaysMet(target));
        }
        bracket.high = bracket.low;
        bracket.low = probe(bracket.high.noise_multiplier / 2.0);
    }
    Ok(bracket.narrow(probe))
}

/// A noise multiplier with its epsilon.
#[derive(Clone, Copy, Debug)]
struct Point {
    noise_multiplier: f64,
    epsilon: f64,
}

/// Two noise multipliers, of which `low` misses the target and `high` meets it.
#[derive(Clone, Copy, Debug)]
struct Bracket {
    target: f64,
    low: Point,
    high: Point,
}

impl Bracket {
    /// Closes in on the least multiplier that meets the target: false position on logarithms, in which epsilon is
    /// nearly a straight line, and bisection whenever two steps did not halve the bracket.
    fn narrow(mut self, mut probe: impl FnMut(f64) -> Point) -> f64 {
        let mut widths = [f64::INFINITY; 2];
        while self.width() > TOLERANCE {
            let middle = (self.low.noise_multiplier.ln() + self.high.noise_multiplier.ln()) / 2.0;
            let guess =
                if self.width() > widths[0] / 2.0 { middle } else { self.crossing().unwrap_or(middle) };
            // A little towards the far end, so that the next guess falls on the other side and the bracket closes.
            let nudge = (TOLERANCE / 4.0).copysign(middle - guess);
            widths = [widths[1], self.width()];
            let point = probe((guess + nudge).exp());
            if point.epsilon <= self.target {
                self.high = point;
            } else {
                self.low = point;
            }
        }
        self.high.noise_multiplier
    }

    /// Difference of the logarithms.
    fn width(&self) -> f64 {
        (self.high.noise_multiplier / self.low.noise_multiplier).ln()
    }

    /// Logarithm of where the straight line through both points, on logarithmic axes, meets the target.
    fn crossing(&self) -> Option<f64> {
        let (low, high) = (self.low.noise_multiplier.ln(), self.high.noise_multiplier.ln());
        let slope = (self.high.epsilon.ln() - self.low.epsilon.ln()) / (high - low);
        let guess = low + (self.target.ln() - self.low.epsilon.ln()) / slope;
        let (first, last) = (low + TOLERANCE / 4.0, high - TOLERANCE / 4.0);
        (slope.is_finite() && guess.is_finite()).then(|| guess.clamp(first, last))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::accountant::{AccountantError, RdpCurve, RenyiDivergence, composed_epsilon};
    use crate::mechanism::Adjacency;

    /// The least multiplier for `epsilon_at`, after checks that it holds and that a thousandth less does not.
    fn checked(target: f64, epsilon_at: impl Fn(f64) -> Result<f64, AccountantError>) -> f64 {
        let mut calls = 0;
        let least = calibrate(target, |noise_multiplier| {
            calls += 1;
            epsilon_at(noise_multiplier)
        });
        let least = least.unwrap();
        assert!(epsilon_at(least).unwrap() <= target, "{least} misses {target}");
        assert!(epsilon_at(0.999 * least).unwrap() > target, "{least} is more than is needed for {target}");
        assert!(epsilon_at(least * (1.0 - 2.0 * TOLERANCE)).unwrap() > target, "{least} for {target}");
        assert!(calls < 60, "{calls} calls for {target}");
        least
    }

    #[test]
    fn the_least_noise_keeps_the_promise_and_a_thousandth_less_does_not() {
        for target in [0.01, 0.5, 1.0, 3.0, 8.0, 50.0, 1e4] {
            for steps in [1, 100, 10_000] {
                for delta in [1e-3, 1e-5, 1e-9] {
                    let gaussian = |z: f64| RdpCurve::gaussian(z).times(steps).epsilon(delta);
                    let by_gaussian = checked(target, gaussian);
                    if steps == 100 {
                        let sampled = |z: f64| {
                            let one = RenyiDivergence::poisson_gaussian(z, 0.01, Adjacency::ZeroOut)?;
                            composed_epsilon(&[(one, steps)], delta)
                        };
                        let by_sampling = checked(target, sampled);
                        assert!(
                            by_sampling < by_gaussian,
                            "sampling saves noise: {by_sampling}, {by_gaussian}"
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn steps_and_kinks_do_not_matter() {
        // Piecewise constant, with an error where noise is small, and a zero where it is large.
        let stairs = |z: f64| match z {
            ..0.3 => Err(AccountantError::Unbounded),
            ..7.5 => Ok((10.0 / z).floor()),
            _ => Ok(0.0),
        };
        let least = calibrate(2.5, stairs).unwrap();
        assert!((10.0 / 3.0..10.0 / 3.0 * (1.0 + 2.0 * TOLERANCE)).contains(&least), "{least}");
        let least = calibrate(1e-3, stairs).unwrap();
        assert!((7.5..7.5 * (1.0 + 2.0 * TOLERANCE)).contains(&least), "{least}");
        let least = calibrate(1e3, stairs).unwrap();
        assert!((0.3..0.3 * (1.0 + 2.0 * TOLERANCE)).contains(&least), "{least}");
    }

    #[test]
    fn what_cannot_be_met_is_refused() {
        for target in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            let refused = calibrate(target, always(1.0)).unwrap_err();
            assert!(matches!(refused, CalibrationError::TargetOutOfRange(_)), "{target}");
        }
        let unreachable = |reason| Err::<f64, _>(CalibrationError::Unreachable { target: 1.0, reason });
        assert_eq!(calibrate(1.0, always(2.0)), unreachable(None));
        assert_eq!(calibrate(1.0, always(f64::NAN)), unreachable(None));
        assert_eq!(calibrate(1.0, |_| Err("no")), unreachable(Some("no".to_owned())));
        assert_eq!(calibrate(1.0, always(0.5)), Err(CalibrationError::AlwaysMet(1.0)));
        let message = unreachable(Some("no".to_owned())).unwrap_err().to_string();
        assert!(message.contains("within 1 (no); allow"), "{message}");
    }

    fn always(epsilon: f64) -> impl Fn(f64) -> Result<f64, AccountantError> {
        move |_| Ok(epsilon)
    }
}
