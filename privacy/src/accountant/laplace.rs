//! Rényi divergence of Laplace noise. Must never be given a scale that is not in units of the sensitivity.

use super::remainder;

/// The Rényi divergence of order `1 + excess` between two Laplace laws of scale `scale` whose centres are 1 apart, in
/// nats (Mironov 2017, proposition 6):
/// `ln( alpha/(2 alpha-1) exp((alpha-1)/scale) + (alpha-1)/(2 alpha-1) exp(-alpha/scale) ) / (alpha-1)`.
pub(crate) fn divergence(scale: f64, excess: f64) -> f64 {
    let order = 1.0 + excess;
    let (up, down) = (excess / scale, order / scale);
    let logarithm = if up <= 1.0 {
        // The linear terms of both exponentials cancel exactly; what is left is a sum of positive terms.
        ((order * remainder(up) + excess * remainder(-down)) / (order + excess)).ln_1p()
    } else {
        up + ((order + excess * (-up - down).exp()) / (order + excess)).ln()
    };
    // No order costs more than pure differential privacy does.
    (logarithm / excess).min(1.0 / scale)
}

#[cfg(test)]
#[allow(clippy::excessive_precision, clippy::unreadable_literal)]
mod tests {
    use super::*;

    #[test]
    fn agrees_with_the_formula_in_high_precision() {
        // From mpmath with 50 digits.
        let reference = [
            (1e-3, 0.0009765625, 999.00146262199674),
            (0.1, 0.5, 9.42463585647054),
            (1.0, 0.0009765625, 0.36820036339172968),
            (1.0, 1.0, 0.61912362999859288),
            (1.0, 15.0, 0.95590676785031115),
            (0.5, 0.5, 1.4368091584145995),
            (30.0, 0.0009765625, 0.00054997027377770211),
            (30.0, 3.0, 0.0021929434835321994),
            (1e4, 0.0009765625, 5.0047159872354157e-9),
            (1e6, 0.0009765625, 5.0048811442061454e-13),
            (1e6, 1000.0, 5.0049974966671413e-10),
            (3.0, 262144.0, 0.33333068919395491),
        ];
        for (scale, excess, expected) in reference {
            let found = divergence(scale, excess);
            assert!(
                (found - expected).abs() <= 1e-12 * expected,
                "{scale} {excess}: {found}, not {expected}"
            );
        }
    }

    #[test]
    fn is_never_above_pure_privacy_and_tends_to_it() {
        for scale in [1e-3, 0.1, 1.0, 30.0, 1e6] {
            let at: Vec<f64> = (-10..=18).map(|octave| divergence(scale, f64::from(octave).exp2())).collect();
            assert!(at.is_sorted() && at[0] > 0.0, "{scale}: {at:?}");
            assert!(at[28] <= 1.0 / scale);
        }
        assert!(divergence(1.0, 262_144.0) > 0.999_99);
    }
}
