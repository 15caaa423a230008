//! `e^x - 1 - x` without cancellation. Must never be replaced by the plain difference: divergences close to 0 are made
//! of it.

/// Below this size the Taylor series is used.
const SMALL: f64 = 0.5;
/// Terms of the series: `SMALL^16 / 16!` is below 1e-18.
const TERMS: u32 = 15;

/// `e^x - 1 - x`, never negative, to a few units in the last place.
pub(crate) fn remainder(x: f64) -> f64 {
    if x.abs() > SMALL {
        return x.exp_m1() - x;
    }
    // x^2 / 2 (1 + x/3 (1 + x/4 (1 + ...)))
    let nested = (3..=TERMS).rev().fold(1.0, |sum, term| 1.0 + x / f64::from(term) * sum);
    x * x / 2.0 * nested
}

#[cfg(test)]
#[allow(clippy::excessive_precision, clippy::unreadable_literal)]
mod tests {
    use super::*;

    #[test]
    fn both_branches_agree_with_high_precision() {
        // From mpmath with 50 digits.
        let reference = [
            (-30.0, 29.000000000000094),
            (-1.0, 0.36787944117144232),
            (-0.75, 0.22236655274101471),
            (-0.5, 0.10653065971263342),
            (-0.49, 0.10262639418441607),
            (-0.1, 0.0048374180359595737),
            (-1e-3, 4.9983337499166808e-7),
            (-1e-9, 4.999999998333334e-19),
            (1e-9, 5.0000000016666673e-19),
            (1e-3, 5.0016670834166808e-7),
            (0.1, 0.0051709180756476254),
            (0.49, 0.14231621995537896),
            (0.5, 0.14872127070012815),
            (0.51, 0.15529119494588631),
            (1.0, 0.71828182845904524),
            (20.0, 485165174.40979028),
            (700.0, 1.0142320547350045e304),
        ];
        for (x, expected) in reference {
            let found = remainder(x);
            assert!((found - expected).abs() <= 2e-15 * expected, "{x}: {found}, not {expected}");
        }
        assert_eq!(remainder(0.0), 0.0);
    }
}
