//! Real numbers in messages. Must never show another number than the one meant.

/// `value` in the fewest digits that read back as it, with an exponent where there were many zeros: `0.5`, `3`, `1e-300`.
#[must_use]
pub fn shortest(value: f64) -> String {
    let digits = format!("{value:?}");
    digits.strip_suffix(".0").map(str::to_owned).unwrap_or(digits)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short_and_read_back() {
        for (value, shown) in [
            (0.0, "0"),
            (-1.0, "-1"),
            (65_536.0, "65536"),
            (0.1, "0.1"),
            (1e-5, "1e-5"),
            (1e300, "1e300"),
            (-2.5e-300, "-2.5e-300"),
            (f64::INFINITY, "inf"),
        ] {
            assert_eq!(shortest(value), shown);
            assert_eq!(shown.parse::<f64>().unwrap(), value);
        }
        assert_eq!(shortest(f64::NAN), "NaN");
    }
}
