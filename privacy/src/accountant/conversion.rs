//! From one Rényi divergence to epsilon. Must never lose to rounding what the guarantee needs.

/// Relative allowance for the rounding errors of the sums and logarithms here, each of which is below 1e-15 a
/// step.
const ROUNDING: f64 = 1e-12;

/// Epsilon at `delta` that a `divergence` of order `alpha = 1 + excess` gives: `divergence + ln(1 - 1/alpha) - (ln delta
/// + ln alpha) / (alpha - 1)` (Canonne, Kamath, Steinke 2020, proposition 12), but at least 0, and 0 where
/// [`within`] says so.
pub(crate) fn epsilon_at(divergence: f64, excess: f64, delta: f64) -> f64 {
    if within(divergence, delta) {
        return 0.0;
    }
    // ln(1 - 1/alpha) = ln(excess) - ln(alpha).
    let log_order = excess.ln_1p();
    let terms = [excess.ln() - log_order, -(delta.ln() + log_order) / excess];
    let size: f64 = divergence + terms.iter().map(|term| term.abs()).sum::<f64>();
    (divergence + terms[0] + terms[1] + ROUNDING * size).max(0.0)
}

/// Whether a `divergence` of any order from 1 leaves a total variation distance of at most `delta`, so that epsilon is 0:
/// by Pinsker's inequality the distance is at most the root of half the divergence of order 1, which is the least.
pub(crate) fn within(divergence: f64, delta: f64) -> bool {
    divergence <= 2.0 * delta * delta * (1.0 - ROUNDING)
}
