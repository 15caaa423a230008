//! From a rotated update to a vector of integers whose norm is bounded exactly.
//! Must never let a vector pass whose integer norm exceeds the bound: the sensitivity rests on this check alone.

use pulp::{Arch, Simd, WithSimd};
use zeroize::Zeroize;

use crate::clip::norm;
use crate::error::PipelineError;
use crate::keystream::KeyStream;
use crate::mechanism::Mechanism;
use crate::rotate::Rotated;

/// Tries before giving up. Each fits with probability at least `1 - e^(-1/2)`, so all miss with probability
/// `e^(-64) < 2^-92`.
const MOST_ATTEMPTS: u32 = 128;
/// Coordinates rounded at once.
const BATCH: usize = 1024;

/// Multiplies by the scale and rounds each coordinate to one of its two neighbouring integers, upwards with probability equal
/// to its fractional part, until the squared norm is at most the mechanism's bound.
///
/// The uniforms have 32 bits: a single try is unbiased up to 2^-32 of an integer unit. Retrying biases it further, by a
/// bounded amount (Kairouz, Liu, Steinke 2021, proposition 26). Neither matters to privacy, which holds for every outcome.
pub(crate) fn round(
    mut rotated: Rotated,
    mechanism: &Mechanism,
    stream: &mut KeyStream,
) -> Result<Vec<i32>, PipelineError> {
    let values = std::mem::take(&mut rotated.values);
    let values = zeroize::Zeroizing::new(values);
    // Rotation in f32 may have lengthened the vector by a hair; shrink it back, so that a try fits as often as promised.
    let length = norm(&values);
    let factor =
        if length > rotated.clip { mechanism.scale() * (rotated.clip / length) } else { mechanism.scale() };
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
        if squares <= mechanism.norm_bound_squared() {
            uniforms.zeroize();
            return Ok(rounded);
        }
    }
    rounded.zeroize();
    uniforms.zeroize();
    Err(PipelineError::RoundingNeverFits { attempts: MOST_ATTEMPTS })
}

/// Rounds one batch and gives the sum of the squares of what came out. The plan keeps coordinates below 2^22, so that 2^10
/// squares fit.
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
            let integer = floor as i32 + i32::from(*uniform < threshold);
            *slot = integer;
            squares += u64::from(integer.unsigned_abs()) * u64::from(integer.unsigned_abs());
        }
        squares
    }
}
