//! From a rotated update to a vector of integers whose norm is bounded exactly. Must never let a vector pass
//! whose integer norm exceeds the bound: the sensitivity rests on this check alone.

use pulp::{Arch, Simd, WithSimd};
use zeroize::Zeroize;

use crate::clip::norm;
use crate::error::PipelineError;
use crate::keystream::KeyStream;
use crate::rotate::Rotated;

/// Tries before giving up. Each fits with probability at least `1 - e^(-1/2)`, so all miss with probability
/// `e^(-64) < 2^-92`.
const MOST_ATTEMPTS: u32 = 128;
/// Coordinates rounded at once.
const BATCH: usize = 1024;

/// What rounding needs of a mechanism.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Encoding {
    /// Integer units per unit of the update.
    pub(crate) scale: f64,
    /// Largest squared norm of what comes out, in squared integer units.
    pub(crate) norm_bound_squared: u64,
}

/// Multiplies by the scale and rounds each coordinate to one of its two neighbouring integers, upwards with
/// probability equal to its fractional part, until the squared norm is at most the bound
/// (Kairouz, Liu, Steinke 2021, proposition 22).
///
/// The uniforms have 32 bits, so that a single try is unbiased up to 2^-32 of an integer unit in each
/// coordinate. Retrying biases the whole vector by less than one integer unit in Euclidean norm
/// (`docs/privacy/mechanism.md`). Privacy rests on neither: it holds for every outcome.
///
/// A try neither branches on nor indexes by a coordinate, and always goes through all of them. The number of tries depends
/// on the update: it is geometric, with the probability that a try fits.
pub(crate) fn round(
    mut rotated: Rotated,
    encoding: Encoding,
    stream: &mut KeyStream,
) -> Result<Vec<i32>, PipelineError> {
    let values = std::mem::take(&mut rotated.values);
    let values = zeroize::Zeroizing::new(values);
    // Rotation in f32 may have lengthened the vector by a hair; shrink it back, so that a try fits as often
    // as promised.
    let Encoding { scale, norm_bound_squared } = encoding;
    let factor = scale * (rotated.clip / norm(&values)).min(1.0);
    let mut rounded = vec![0_i32; values.len()];
    let mut uniforms = [0_u32; BATCH];
    let arch = Arch::new();
    for _ in 0..MOST_ATTEMPTS {
        let mut squares = 0_u64;
        for (values, integers) in values.chunks(BATCH).zip(rounded.chunks_mut(BATCH)) {
            let uniforms = &mut uniforms[..values.len()];
            stream.fill_u32(uniforms);
            squares += arch.dispatch(RoundPart { values, factor, uniforms, integers });
        }
        if squares <= norm_bound_squared {
            uniforms.zeroize();
            return Ok(rounded);
        }
    }
    rounded.zeroize();
    uniforms.zeroize();
    Err(PipelineError::RoundingNeverFits { attempts: MOST_ATTEMPTS })
}

/// Rounds one batch and gives the sum of the squares of what came out. The plan keeps coordinates below 2^22,
/// so that 2^10 squares fit.
struct RoundPart<'a> {
    values: &'a [f32],
    factor: f64,
    uniforms: &'a [u32],
    integers: &'a mut [i32],
}

impl WithSimd for RoundPart<'_> {
    type Output = u64;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> u64 {
        let mut squares = 0_u64;
        for ((value, uniform), slot) in self.values.iter().zip(self.uniforms).zip(self.integers) {
            let scaled = f64::from(*value) * self.factor;
            let floor = scaled.floor();
            // Exact: the fractional part of a double times 2^32 is a double, and below 2^32.
            let threshold = ((scaled - floor) * 4_294_967_296.0) as u32;
            // Nothing overflows here; unchecked, so that no jump could depend on a coordinate.
            let integer = (floor as i32).wrapping_add(i32::from(*uniform < threshold));
            *slot = integer;
            let size = u64::from(integer.unsigned_abs());
            squares = squares.wrapping_add(size.wrapping_mul(size));
        }
        squares
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use rand_chacha::ChaCha20Rng;
    use rand_core::SeedableRng;

    use super::*;
    use crate::clip::Clipped;
    use crate::mechanism::{Adjacency, Mechanism, MechanismRequest, NoiseLaw};
    use crate::seed::RotationSeed;
    use crate::units::BasisPoints;

    fn mechanism(dimension: usize, scale: f64) -> Mechanism {
        let request = MechanismRequest {
            clients: 10,
            n_min: 10,
            corrupt: BasisPoints::ZERO,
            dropout: BasisPoints::ZERO,
            dimension,
            clip: 1.0,
            noise_multiplier: 1.0,
            adjacency: Adjacency::ZeroOut,
            noise_law: NoiseLaw::DiscreteGaussian,
        };
        Mechanism::with_encoding(&request, 16, scale).unwrap()
    }

    fn rotated(values: &[f32]) -> Rotated {
        Rotated { values: values.to_vec(), clip: 1.0, was_clipped: false }
    }

    fn stream(seed: u64) -> KeyStream {
        KeyStream::new(&mut ChaCha20Rng::seed_from_u64(seed))
    }

    fn squared_norm(integers: &[i32]) -> u64 {
        integers.iter().map(|x| u64::from(x.unsigned_abs()).pow(2)).sum()
    }

    /// A unit vector whose coordinates differ.
    fn unit(dimension: usize) -> Vec<f32> {
        let raw: Vec<f32> = (0..dimension).map(|i| ((i * 37 + 11) % 101) as f32 - 50.0).collect();
        let length = norm(&raw) as f32;
        raw.iter().map(|value| value / length).collect()
    }

    #[test]
    fn every_outcome_is_a_neighbour_and_within_the_bound() {
        for (dimension, scale) in [(1, 3.7), (2, 5.3), (7, 40.25), (100, 14.2), (1000, 30.0), (6144, 441.9)] {
            let mechanism = mechanism(dimension, scale);
            let values = unit(dimension);
            let factor = scale * (1.0 / norm(&values)).min(1.0);
            for seed in 0..50 {
                let integers = round(rotated(&values), mechanism.encoding(), &mut stream(seed)).unwrap();
                assert!(squared_norm(&integers) <= mechanism.norm_bound_squared(), "d = {dimension}");
                for (value, integer) in values.iter().zip(&integers) {
                    let scaled = f64::from(*value) * factor;
                    assert!((f64::from(*integer) - scaled).abs() < 1.0, "{scaled} became {integer}");
                }
            }
        }
    }

    #[test]
    fn vectors_too_long_for_the_bound_are_tried_again() {
        // Coordinates of 0.5 each: rounded norms are binomial around the bound, so many tries must miss.
        let (dimension, scale) = (400, 10.0);
        let mechanism = mechanism(dimension, scale);
        let values = vec![0.05_f32; dimension];
        let mut missed = 0;
        for seed in 0..200 {
            let mut uniforms = vec![0_u32; dimension];
            stream(seed).fill_u32(&mut uniforms);
            let mut first = vec![0; dimension];
            let part =
                RoundPart { values: &values, factor: scale, uniforms: &uniforms, integers: &mut first };
            let squares = Arch::new().dispatch(part);
            assert_eq!(squares, squared_norm(&first));
            let integers = round(rotated(&values), mechanism.encoding(), &mut stream(seed)).unwrap();
            assert!(squared_norm(&integers) <= mechanism.norm_bound_squared());
            if squares > mechanism.norm_bound_squared() {
                missed += 1;
                assert_ne!(integers, first);
            } else {
                assert_eq!(integers, first, "a try that fits must be kept");
            }
        }
        // The norm is at the clip norm and the bound leaves room for one try in e^(-1/2) to miss at most.
        assert!(missed <= 122, "{missed} of 200");
    }

    #[test]
    fn a_bound_that_nothing_meets_is_an_error() {
        // A vector that claims a larger clip norm than the mechanism's.
        let values = Rotated { values: vec![1.0; 100], clip: 10.0, was_clipped: false };
        let error = round(values, mechanism(100, 14.2).encoding(), &mut stream(1)).unwrap_err();
        assert_eq!(error, PipelineError::RoundingNeverFits { attempts: MOST_ATTEMPTS });
    }

    #[test]
    fn rounding_is_unbiased_up_to_its_bound() {
        // At half the clip norm the bound is never missed: unbiased but for 2^-32. At the full norm a try
        // fits with probability p >= 1 - e^(-1/2), and retries bias the vector by at most sqrt(1 - p) / 2p <
        // 1.
        let (dimension, scale, tries) = (50, 12.3, 40_000_u64);
        let mechanism = mechanism(dimension, scale);
        for length in [0.5_f32, 1.0] {
            let values: Vec<f32> = unit(dimension).iter().map(|value| value * length).collect();
            let mut sums = vec![0_i64; dimension];
            let mut generator = stream(9);
            for _ in 0..tries {
                let integers = round(rotated(&values), mechanism.encoding(), &mut generator).unwrap();
                sums.iter_mut().zip(&integers).for_each(|(sum, x)| *sum += i64::from(*x));
            }
            let bias =
                |(sum, value): (&i64, &f32)| (*sum as f64 / tries as f64 - f64::from(*value) * scale).powi(2);
            let bias = sums.iter().zip(&values).map(bias).sum::<f64>().sqrt();
            // Each mean has a standard error of at most 0.5 / sqrt(tries).
            let chance = 1.3 * (dimension as f64).sqrt() * 0.5 / (tries as f64).sqrt();
            let allowed = if length < 1.0 { chance } else { chance + 1.0 };
            assert!(bias < allowed, "length {length}: bias {bias}, allowed {allowed}");
        }
    }

    #[test]
    fn whole_numbers_stay_and_zero_stays_zero() {
        let mechanism = mechanism(4, 8.0);
        let integers =
            round(rotated(&[0.5, -0.25, 0.125, 0.0]), mechanism.encoding(), &mut stream(3)).unwrap();
        assert_eq!(integers, [4, -2, 1, 0]);
        let clipped = Clipped::new(vec![0.0; 4], 1.0).unwrap().rotate(&RotationSeed([5; 32]));
        assert_eq!(round(clipped, mechanism.encoding(), &mut stream(3)).unwrap(), [0; 4]);
    }
}
