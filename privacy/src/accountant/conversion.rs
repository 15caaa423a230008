//! From one Rényi divergence to epsilon. Must never lose to rounding what the guarantee needs.

/// Relative allowance for the rounding errors of the sums and logarithms here, each of which is below 1e-15 a
/// step.
const ROUNDING: f64 = 1e-12;

/// Epsilon at delta that a `divergence` of order `alpha = 1 + excess` gives: `divergence + ln(1 - 1/alpha) - (ln delta
/// + ln alpha) / (alpha - 1)` (Canonne, Kamath, Steinke 2020, proposition 12). May be negative, where 0 holds.
pub(crate) fn epsilon_at(divergence: f64, excess: f64, log_delta: f64) -> f64 {
    // ln(1 - 1/alpha) = ln(excess) - ln(alpha).
    let log_order = excess.ln_1p();
    let terms = [excess.ln() - log_order, -(log_delta + log_order) / excess];
    let size: f64 = divergence + terms.iter().map(|term| term.abs()).sum::<f64>();
    divergence + terms[0] + terms[1] + ROUNDING * size
}
