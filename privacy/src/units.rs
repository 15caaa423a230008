//! Fractions per 10,000, so that every floor of "fraction times cohort" is an integer computation.
//! Must never hold a fraction as a floating-point number: two parties would round it differently.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A fraction between 0 and 1 in steps of 1/10,000 (one basis point).
///
/// Written as a decimal of at most four digits after the point: `0.05` is 500 basis points.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BasisPoints(u16);

/// Why a fraction was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnitError {
    /// More than the whole.
    #[error("{0} basis points are more than 10,000, which is the whole; give a fraction between 0 and 1")]
    AboveOne(u64),
    /// Not a decimal number between 0 and 1 with at most four digits after the point.
    #[error(
        "\"{0}\" is not a fraction: write a decimal between 0 and 1 with at most four digits, such as 0.05"
    )]
    NotAFraction(String),
}

impl BasisPoints {
    /// Basis points in the whole.
    pub const WHOLE: u16 = 10_000;
    /// The fraction 0.
    pub const ZERO: Self = Self(0);

    /// A fraction of `basis_points` per 10,000.
    ///
    /// # Errors
    /// [`UnitError::AboveOne`] above 10,000.
    pub fn new(basis_points: u16) -> Result<Self, UnitError> {
        if basis_points > Self::WHOLE {
            return Err(UnitError::AboveOne(u64::from(basis_points)));
        }
        Ok(Self(basis_points))
    }

    /// The fraction in basis points, 0 to 10,000.
    #[must_use]
    pub fn get(self) -> u16 {
        self.0
    }

    /// `floor(n * fraction)`, in integers.
    #[must_use]
    pub fn of(self, n: u32) -> u32 {
        let part = u64::from(n) * u64::from(self.0) / u64::from(Self::WHOLE);
        // At most n, because the fraction is at most the whole.
        u32::try_from(part).unwrap_or(n)
    }

    /// The fraction as a floating-point number, for display and plots only.
    #[must_use]
    pub fn as_f64(self) -> f64 {
        f64::from(self.0) / f64::from(Self::WHOLE)
    }

    /// The fraction whose decimal form is the number `value`.
    ///
    /// # Errors
    /// [`UnitError::NotAFraction`] unless `value` is the double nearest to a multiple of 1/10,000 between 0
    /// and 1.
    pub fn from_decimal(value: f64) -> Result<Self, UnitError> {
        let refused = || UnitError::NotAFraction(value.to_string());
        if !(0.0..=1.0).contains(&value) {
            return Err(refused());
        }
        // In [0, 10000], so the cast is exact after rounding.
        let candidate = Self((value * f64::from(Self::WHOLE)).round() as u16);
        if candidate.as_f64() == value { Ok(candidate) } else { Err(refused()) }
    }
}

impl fmt::Display for BasisPoints {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, part) = (self.0 / Self::WHOLE, self.0 % Self::WHOLE);
        if part == 0 {
            return formatter.pad(&whole.to_string());
        }
        let digits = format!("{part:04}");
        formatter.pad(&format!("{whole}.{}", digits.trim_end_matches('0')))
    }
}

impl FromStr for BasisPoints {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let refused = || UnitError::NotAFraction(text.to_owned());
        let (whole, part) = match text.split_once('.') {
            Some((_, "")) => return Err(refused()),
            Some(halves) => halves,
            None => (text, ""),
        };
        let whole: u16 = match whole {
            "0" => 0,
            "1" => Self::WHOLE,
            _ => return Err(refused()),
        };
        if part.len() > 4 || !part.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(refused());
        }
        let part = part.bytes().chain(std::iter::repeat(b'0')).take(4);
        let part = part.fold(0_u16, |sum, digit| sum * 10 + u16::from(digit - b'0'));
        Self::new(whole + part).map_err(|_| refused())
    }
}

impl Serialize for BasisPoints {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(self.as_f64())
    }
}

impl<'de> Deserialize<'de> for BasisPoints {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Decimal;
        impl de::Visitor<'_> for Decimal {
            type Value = BasisPoints;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a decimal between 0 and 1 with at most four digits, such as 0.05")
            }

            fn visit_f64<E: de::Error>(self, value: f64) -> Result<BasisPoints, E> {
                BasisPoints::from_decimal(value).map_err(E::custom)
            }

            fn visit_u64<E: de::Error>(self, value: u64) -> Result<BasisPoints, E> {
                let whole = value.saturating_mul(u64::from(BasisPoints::WHOLE));
                let whole = u16::try_from(whole).map_err(|_| E::custom(UnitError::AboveOne(whole)))?;
                BasisPoints::new(whole).map_err(E::custom)
            }

            fn visit_i64<E: de::Error>(self, value: i64) -> Result<BasisPoints, E> {
                match u64::try_from(value) {
                    Ok(value) => self.visit_u64(value),
                    Err(_) => Err(E::custom(UnitError::NotAFraction(value.to_string()))),
                }
            }
        }
        deserializer.deserialize_any(Decimal)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn floors_are_exact_where_floating_point_is_not() {
        // 0.07 * 100 is 7.000000000000001 and 0.29 * 100 is 28.999999999999996 in doubles.
        assert_eq!(BasisPoints::new(700).unwrap().of(100), 7);
        assert_eq!(BasisPoints::new(2_900).unwrap().of(100), 29);
        assert_eq!(BasisPoints::new(500).unwrap().of(128), 6);
        assert_eq!(BasisPoints::new(10_000).unwrap().of(u32::MAX), u32::MAX);
        assert_eq!(BasisPoints::ZERO.of(u32::MAX), 0);
        assert_eq!(BasisPoints::new(10_001), Err(UnitError::AboveOne(10_001)));
    }

    #[test]
    fn every_fraction_survives_text_and_json() {
        for points in 0..=10_000 {
            let fraction = BasisPoints::new(points).unwrap();
            assert_eq!(fraction.to_string().parse::<BasisPoints>().unwrap(), fraction);
            let json = serde_json::to_string(&fraction).unwrap();
            assert_eq!(serde_json::from_str::<BasisPoints>(&json).unwrap(), fraction, "{json}");
        }
        assert_eq!(BasisPoints::new(500).unwrap().to_string(), "0.05");
        assert_eq!(serde_json::to_string(&BasisPoints::new(500).unwrap()).unwrap(), "0.05");
        assert_eq!(serde_json::from_str::<BasisPoints>("1").unwrap().get(), 10_000);
        assert_eq!(serde_json::from_str::<BasisPoints>("0").unwrap().get(), 0);
    }

    #[test]
    fn refuses_what_is_not_a_short_decimal() {
        for text in [
            "", ".", ".5", "1.", "0.", "0.00001", "1.0001", "2", "-0.1", "+0.1", "0.5e0", "0,5", " 0.5",
            "00.5", "nan",
        ] {
            assert_eq!(text.parse::<BasisPoints>(), Err(UnitError::NotAFraction(text.to_owned())), "{text}");
        }
        for json in
            ["0.00001", "1.0001", "-0.1", "-1", "2", "1e300", "18446744073709551615", "\"0.05\"", "null"]
        {
            assert!(serde_json::from_str::<BasisPoints>(json).is_err(), "{json}");
        }
    }
}
