//! Fractions of 2^128 in integers, with an error bound on every operation.
//! Must never use floating point: the tables built from these must be the same on every machine.

/// The upper and lower half of `a * b`.
fn wide_product(a: u128, b: u128) -> (u128, u128) {
    const LOW: u128 = u64::MAX as u128;
    let (a_high, a_low) = (a >> 64, a & LOW);
    let (b_high, b_low) = (b >> 64, b & LOW);
    let low = a_low * b_low;
    let middle = a_high * b_low + (low >> 64);
    let other = a_low * b_high + (middle & LOW);
    (a_high * b_high + (middle >> 64) + (other >> 64), (other << 64) | (low & LOW))
}

/// `floor(a * b / 2^128)`: the product of two fractions, at most one unit of 2^-128 too small.
pub(super) fn multiply(a: u128, b: u128) -> u128 {
    wide_product(a, b).0
}

/// `floor(a * b / 2^shift)` for `shift < 256`, which must be below 2^128.
pub(super) fn product(a: u128, b: u128, shift: u32) -> u128 {
    let (high, low) = wide_product(a, b);
    match shift {
        0 => low,
        1..128 => {
            debug_assert!(high >> shift == 0);
            (high << (128 - shift)) | (low >> shift)
        }
        _ => high >> (shift - 128),
    }
}

/// `x - x y / (n (n+1)) + x y^2 / (n (n+1) (n+2) (n+3)) - ...` where `square` is `y / 16` in fractions of 2^128, and
/// `3 y <= n (n+1)`.
///
/// Each term is off by at most 4 units of `x`: a third of its predecessor's error, at most `16/12` for the product's floor
/// and 1 for the quotient's. Every term is at most a third of the one before.
pub(super) fn alternating(x: u128, square: u128, n: u128) -> u128 {
    let (mut term, mut sum, mut n, mut subtract) = (x, x, n, true);
    while term > 0 {
        let sixteenth = multiply(term, square);
        let divisor = n * (n + 1);
        term = sixteenth / divisor * 16 + sixteenth % divisor * 16 / divisor;
        sum = if subtract { sum - term } else { sum + term };
        (n, subtract) = (n + 2, !subtract);
    }
    sum
}

/// `floor(2^bits * numerator / denominator)` for `numerator < denominator < 2^127` and `bits <= 128`.
pub(super) fn divide(numerator: u128, denominator: u128, bits: u32) -> u128 {
    debug_assert!(numerator < denominator && denominator < 1 << 127 && bits <= 128);
    let (mut quotient, mut remainder) = (0_u128, numerator);
    for _ in 0..bits {
        remainder <<= 1;
        quotient <<= 1;
        if remainder >= denominator {
            remainder -= denominator;
            quotient |= 1;
        }
    }
    quotient
}

/// `exp(-x)` for a fraction `0 < x <= 1/2`, off by at most 2^-121.
///
/// The alternating Taylor series. Term `n` is off by at most two units of 2^-128: it inherits at most half of
/// its predecessor's error and adds one for each floor. Fewer than 40 terms are not zero, and what is left
/// out is below one unit, so the sum is off by fewer than 2^7 units.
pub(super) fn exp_minus(x: u128) -> u128 {
    debug_assert!(x > 0 && x <= 1 << 127);
    let (mut term, mut sum, mut n) = (x, x, 2_u128);
    while term > 0 {
        term = multiply(term, x) / n;
        sum = if n.is_multiple_of(2) { sum - term } else { sum + term };
        n += 1;
    }
    // 2^128 - sum, and 0 < sum < 2^128.
    sum.wrapping_neg()
}

/// `exp(-numerator / denominator)` for positive numbers and `denominator < 2^126`, off by at most 2^-119;
/// below 2^-138, zero.
///
/// `exp(-n - f) = exp(-1/2)^2n exp(-f/2)^2`. Each factor is at most 1, and so passes on at most the sum of
/// the errors: 2^-121 twice for a square, and for the power of 1/e no more than for its first, since each
/// step shrinks what came before.
pub(super) fn exp_minus_ratio(numerator: u128, denominator: u128) -> u128 {
    debug_assert!(numerator > 0 && denominator > 0 && denominator < 1 << 126);
    let (whole, rest) = (numerator / denominator, numerator % denominator);
    if whole > 95 {
        return 0;
    }
    let half = exp_minus(1 << 127);
    let step = multiply(half, half);
    // None stands for 1, which is no fraction.
    let mut product = None;
    if rest > 0 {
        let root = exp_minus(divide(rest, 2 * denominator, 128).max(1));
        product = Some(multiply(root, root));
    }
    for _ in 0..whole {
        product = Some(product.map_or(step, |so_far| multiply(so_far, step)));
    }
    product.unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn products_of_fractions() {
        assert_eq!(multiply(1 << 127, 1 << 127), 1 << 126);
        assert_eq!(multiply(u128::MAX, u128::MAX), u128::MAX - 1);
        assert_eq!(multiply(u128::MAX, 1), 0);
        assert_eq!(multiply(3 << 64, 5 << 64), 15);
        // (2^128 - 2^64) * (2^64 + 1) = 2^192 - 2^64, so the floor of its 2^-128 part is 2^64 - 1.
        assert_eq!(multiply(u128::MAX << 64, (1 << 64) + 1), (1 << 64) - 1);
    }

    #[test]
    fn shifted_products() {
        let (a, b) = (u128::MAX - 5, u128::MAX >> 7);
        assert_eq!(product(a, b, 128), multiply(a, b));
        assert_eq!(product(a, b, 200), multiply(a, b) >> 72);
        assert_eq!(product(1 << 100, 3 << 60, 40), 3 << 120);
        assert_eq!(product(1 << 64, 1 << 63, 0), 1 << 127);
        // 7 * (2^120 + 9) = 7 * 2^120 + 63, and 63 / 4 = 15.75.
        assert_eq!(product(7, (1 << 120) + 9, 2), (7 << 118) + 15);
    }

    #[test]
    fn alternating_series_match_digits_from_arbitrary_precision() {
        // floor(2^126 (1 - cos 1)), from Python's mpmath at 400 bits.
        let one_minus_cosine = 39_106_754_856_821_755_258_922_421_786_614_403_253_u128;
        let found = alternating(1 << 125, 1 << 124, 3);
        assert!(found.abs_diff(one_minus_cosine) < 1 << 7, "{found}");
    }

    #[test]
    fn quotients() {
        assert_eq!(divide(1, 2, 128), 1 << 127);
        assert_eq!(divide(1, 3, 128), u128::MAX / 3);
        assert_eq!(divide(0, 3, 128), 0);
        assert_eq!(divide((1 << 126) - 1, 1 << 126, 126), (1 << 126) - 1);
    }

    #[test]
    fn exponentials_match_digits_from_arbitrary_precision() {
        // floor(2^128 exp(-1/2)) and floor(2^128 exp(-1/4)), from Python's decimal module at 80 digits.
        let half = 206_391_688_497_133_195_273_760_705_512_282_642_279_u128;
        let quarter = 265_012_173_823_417_992_016_237_332_255_925_138_361_u128;
        assert!(exp_minus(1 << 127).abs_diff(half) < 1 << 7, "{}", exp_minus(1 << 127));
        assert!(exp_minus(1 << 126).abs_diff(quarter) < 1 << 7, "{}", exp_minus(1 << 126));
        // exp(-3/2), exp(-7) and exp(-60.125), the same way.
        let cases = [
            (3, 2, 75_927_259_026_755_760_213_823_603_619_306_498_527_u128),
            (7, 1, 310_297_353_591_408_453_462_393_329_342_695_979_u128),
            (481, 8, 2_629_563_849_497_u128),
        ];
        for (numerator, denominator, expected) in cases {
            let value = exp_minus_ratio(numerator, denominator);
            assert!(value.abs_diff(expected) < 1 << 9, "exp(-{numerator}/{denominator}): {value}");
        }
        assert_eq!(exp_minus_ratio(96, 1), 0);
        // Nearly 1 for a nearly zero exponent.
        assert!(exp_minus(1 << 20).abs_diff(u128::MAX - (1 << 20) + 1) < 1 << 7);
    }
}
