//! From a rotated update to a vector of integers whose norm is bounded exactly.
//! Must never let a vector pass whose integer norm exceeds the bound: the sensitivity rests on this check alone.

use pulp::Arch;
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
        for (part, out) in values.chunks(BATCH).zip(rounded.chunks_mut(BATCH)) {
            let words = &mut uniforms[..part.len()];
            stream.fill_u32(words);
            squares += arch.dispatch(|| round_part(part, factor, words, out));
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

/// Rounds one part and returns the sum of the squares of what came out. Coordinates are below 2^22, so 2^10 squares fit.
#[inline(always)]
fn round_part(values: &[f32], factor: f64, uniforms: &[u32], out: &mut [i32]) -> u64 {
    let mut squares = 0_u64;
    for ((value, uniform), slot) in values.iter().zip(uniforms).zip(out) {
        let scaled = f64::from(*value) * factor;
        let floor = scaled.floor();
        // Exact: the fractional part of a double times 2^32 is a double, and below 2^32.
        let threshold = ((scaled - floor) * 4_294_967_296.0) as u32;
        let integer = floor as i32 + i32::from(*uniform < threshold);
        *slot = integer;
        squares += u64::from(integer.unsigned_abs()) * u64::from(integer.unsigned_abs());
    }
    squares
}
