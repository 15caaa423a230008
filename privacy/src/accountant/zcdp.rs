//! Zero-concentrated differential privacy to (epsilon, delta). Must never be given a rho that is not an upper bound.

use super::{AccountantError, conversion};

/// Halvings of the bracket around the best order; enough for every bit of a double.
const HALVINGS: u32 = 200;
/// Relative allowance for rounding.
const ROUNDING: f64 = 1e-14;

/// The smallest epsilon for which every `rho`-zCDP mechanism is known to be (epsilon, `delta`) differentially private:
/// `min over alpha > 1 of alpha rho + ln(1 - 1/alpha) - (ln delta + ln alpha) / (alpha - 1)`, never below 0 (Canonne,
/// Kamath, Steinke 2020, proposition 12), with the best real order; and 0 where Pinsker's inequality gives `(0, delta)`.
///
/// # Errors
/// [`AccountantError::DeltaOutOfRange`] unless `0 < delta < 1`; [`AccountantError::Unbounded`] unless `rho` is finite
/// and not negative.
pub fn zcdp_epsilon(rho: f64, delta: f64) -> Result<f64, AccountantError> {
    check(rho, delta)?;
    if conversion::within(rho, delta) {
        return Ok(0.0);
    }
    // The derivative by alpha is rho + (ln delta + ln alpha) / (alpha - 1)^2: one zero, where (alpha - 1)^2 rho, which
    // rises, meets ln(1 / (alpha delta)), which falls. Every order bounds, so nothing rests on how near the zero is.
    let (mut low, mut high) = (0.0_f64, (-delta.ln() / rho).sqrt());
    for _ in 0..HALVINGS {
        let excess = f64::midpoint(low, high);
        if excess * excess * rho < -delta.ln() - excess.ln_1p() {
            low = excess;
        } else {
            high = excess;
        }
    }
    let log_order = high.ln_1p();
    let terms = [(1.0 + high) * rho, high.ln() - log_order, -(delta.ln() + log_order) / high];
    let size: f64 = terms.iter().map(|term| term.abs()).sum();
    Ok((terms.iter().sum::<f64>() + ROUNDING * size).max(0.0))
}

/// The older and simpler conversion, `rho + 2 sqrt(rho ln(1/delta))` (Bun, Steinke 2016, proposition 1.3). Never below
/// [`zcdp_epsilon`]; here as a check on it.
///
/// # Errors
/// As [`zcdp_epsilon`].
pub fn zcdp_epsilon_bun_steinke(rho: f64, delta: f64) -> Result<f64, AccountantError> {
    check(rho, delta)?;
    Ok(rho + 2.0 * (-rho * delta.ln()).sqrt())
}

fn check(rho: f64, delta: f64) -> Result<(), AccountantError> {
    if !(delta > 0.0 && delta < 1.0) {
        return Err(AccountantError::DeltaOutOfRange(delta));
    }
    if !(rho >= 0.0 && rho.is_finite()) {
        return Err(AccountantError::Unbounded);
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::accountant::{RdpCurve, RenyiDivergence, composed_epsilon};

    #[test]
    fn agrees_with_the_reference_and_with_the_grid() {
        // tests/vectors/dp_reference.json.
        for (rho, delta, expected, bun_steinke) in
            [(0.1, 1e-6, 2.141_939, 2.450_788), (0.005, 1e-9, 0.564_893, 0.648_790)]
        {
            assert!((zcdp_epsilon(rho, delta).unwrap() - expected).abs() < 1e-6);
            assert!((zcdp_epsilon_bun_steinke(rho, delta).unwrap() - bun_steinke).abs() < 1e-6);
        }
        for rho in [1e-7, 1e-3, 0.02, 0.5, 3.0, 200.0] {
            for delta in [1e-2, 1e-5, 1e-12] {
                let best = zcdp_epsilon(rho, delta).unwrap();
                let on_grid = RdpCurve::of(&RenyiDivergence::zcdp(rho)).epsilon(delta).unwrap();
                let searched = composed_epsilon(&[(RenyiDivergence::zcdp(rho), 1)], delta).unwrap();
                assert!(best <= on_grid && on_grid <= best * 1.0005, "{rho} {delta}: {best}, grid {on_grid}");
                assert!((searched - best).abs() <= 1e-9 * best, "{rho} {delta}: {best}, searched {searched}");
                assert!(best <= zcdp_epsilon_bun_steinke(rho, delta).unwrap(), "{rho} {delta}");
            }
        }
    }

    #[test]
    fn refuses_what_states_nothing() {
        assert_eq!(zcdp_epsilon(0.0, 1e-5), Ok(0.0));
        for convert in [zcdp_epsilon, zcdp_epsilon_bun_steinke] {
            for delta in [0.0, 1.0, -1.0] {
                assert_eq!(convert(1.0, delta), Err(AccountantError::DeltaOutOfRange(delta)));
            }
            for rho in [-1.0, f64::NAN, f64::INFINITY] {
                assert_eq!(convert(rho, 1e-5), Err(AccountantError::Unbounded), "{rho}");
            }
        }
    }
}
