//! The table of a law given by its characteristic function: Skellam noise, or what is left of it when a wide Gaussian has
//! been taken out. Must never use floating point: the tables must be the same on every machine.
//!
//! With variance `mu` of the whole and `v` of the Gaussian taken out, the characteristic function is
//! `exp(-mu (1 - cos t) + v t^2 / 2)`, cut off where it falls below `e^-84`. `docs/privacy/mechanism.md` bounds what the
//! cut and the fixed-point arithmetic change.

use super::fixed::{alternating, exp_minus_ratio, multiply, product};
use super::table::{TAIL, Table};

/// `floor(2^123 2 pi^2)`.
const TWO_PI_SQUARED: u128 = 209_903_271_635_999_890_023_130_392_299_402_173_127;
/// `floor(2^121 (2 pi)^4 / 24)`.
const QUARTIC: u128 = 172_638_521_128_476_637_587_503_137_656_704_668_316;
/// Frequencies are left out beyond the first at which the exponent is this.
const CUT: u128 = 84;
/// Most negative mass that is cut away, in units of 2^-127: 2^-107, what the arithmetic may be off by at worst.
const MOST_NEGATIVE: u128 = 1 << 20;
/// Fraction bits of exponents, which are below 2^8.
const EXPONENT_BITS: u32 = 120;
/// Fraction bits of sums over frequencies, which are below 2^7.
const SUM_BITS: u32 = 120;
/// Fraction bits of cosines.
const COSINE_BITS: u32 = 126;
/// Fraction bits of variances.
const VARIANCE_BITS: u32 = 32;

/// The law to tabulate; both variances in multiples of 2^-32.
#[derive(Clone, Copy, Debug)]
pub(super) struct Spectrum {
    /// Variance of the Skellam law.
    pub(super) whole: u64,
    /// Variance of what is left: the whole less the Gaussian's.
    pub(super) rest: u64,
}

impl Spectrum {
    /// The table, from a sum over `2^log_length` frequencies, 8 <= `log_length` <= 16, for magnitudes below half as
    /// many. `None` where these are too few to come to [`TAIL`], or where this is no law: negative in places, by
    /// more than [`MOST_NEGATIVE`] altogether.
    pub(super) fn table(&self, log_length: u32) -> Option<Table> {
        let length = 1_usize << log_length;
        let amplitudes = self.amplitudes(log_length)?;
        let cosines = Cosines::new(log_length);
        let (mut cumulative, mut negative_mass) = (0_u128, 0_u128);
        let mut entries = Vec::new();
        for magnitude in 0..length / 2 {
            // Half of the term of frequency 0, whose amplitude is 1; the others count twice.
            let mut sum = 1_i128 << (SUM_BITS - 1);
            for (frequency, &amplitude) in (1..).zip(&amplitudes) {
                let (cosine, negative) = cosines.at(frequency * magnitude);
                let term = (multiply(amplitude, cosine) >> (COSINE_BITS - SUM_BITS)) as i128;
                sum += if negative { -term } else { term };
            }
            // The probability of this magnitude with both signs: 4 / length times the sum, and half of that for 0.
            let signs = if magnitude == 0 { 1 } else { 2 };
            let mass = |sum: u128| product(sum, signs, SUM_BITS + log_length - 128);
            if sum < 0 {
                negative_mass += mass(sum.unsigned_abs());
            } else {
                cumulative += mass(sum.unsigned_abs());
            }
            if cumulative + TAIL >= 1 << 127 {
                return (negative_mass <= MOST_NEGATIVE).then(|| Table::of(&entries));
            }
            entries.push(cumulative);
        }
        None
    }

    /// The characteristic function at frequencies `2 pi m / length` for `m = 1, 2, ...`, in fractions of 2^128, up to the
    /// first at which it is cut or to the highest, which is halved because its mirror image is itself.
    fn amplitudes(&self, log_length: u32) -> Option<Vec<u128>> {
        let highest = 1_u128 << (log_length - 1);
        let mut amplitudes = Vec::new();
        for frequency in 1..=highest {
            let exponent = self.exponent(frequency, log_length)?;
            let amplitude = exp_minus_ratio(exponent, 1 << EXPONENT_BITS);
            amplitudes.push(if frequency == highest { amplitude / 2 } else { amplitude });
            if exponent >= CUT << EXPONENT_BITS {
                break;
            }
        }
        Some(amplitudes)
    }

    /// `mu (1 - cos t) - v t^2 / 2` at `t = 2 pi frequency / 2^log_length`, as the series
    /// `rest t^2 / 2 - mu t^4 / 4! + mu t^6 / 6! - ...`; `None` where it is negative.
    fn exponent(&self, frequency: u128, log_length: u32) -> Option<u128> {
        let square = frequency * frequency;
        let quadratic = product(
            u128::from(self.rest) * square,
            TWO_PI_SQUARED,
            123 + VARIANCE_BITS + 2 * log_length - EXPONENT_BITS,
        );
        let quartic = product(
            u128::from(self.whole) * square * square,
            QUARTIC,
            121 + VARIANCE_BITS + 4 * log_length - EXPONENT_BITS,
        );
        quadratic.checked_sub(alternating(quartic, angle_squared(frequency, log_length), 5))
    }
}

/// `t^2 / 16` for `t = 2 pi step / 2^log_length <= pi`, in fractions of 2^128.
fn angle_squared(step: u128, log_length: u32) -> u128 {
    product(step * step, TWO_PI_SQUARED, 2 * log_length - 2)
}

/// The cosines of a quarter turn.
struct Cosines {
    quarter: Vec<u128>,
    length: usize,
}

impl Cosines {
    fn new(log_length: u32) -> Self {
        let length = 1 << log_length;
        let one = 1_u128 << COSINE_BITS;
        let cosine = |step: u128| {
            let half_square = product(step * step, TWO_PI_SQUARED, 123 + 2 * log_length - COSINE_BITS);
            one.saturating_sub(alternating(half_square, angle_squared(step, log_length), 3))
        };
        Self { quarter: (0..=length as u128 / 4).map(cosine).collect(), length }
    }

    /// The size of `cos(2 pi step / length)` with 126 fraction bits, and whether it is negative.
    fn at(&self, step: usize) -> (u128, bool) {
        let step = step % self.length;
        let step = step.min(self.length - step);
        let half = self.length / 2;
        if 2 * step <= half { (self.quarter[step], false) } else { (self.quarter[half - step], true) }
    }
}
