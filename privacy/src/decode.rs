//! From the sum of noised vectors back to an estimate of the sum of updates.
//! Must never be applied to a single client's vector: alone, its noise share does not protect it.

use pulp::{Arch, Simd, WithSimd};

use crate::error::PipelineError;
use crate::mechanism::Mechanism;
use crate::rotate;
use crate::seed::RotationSeed;

/// Estimates the sum of the clipped updates from the sum modulo 2^bits of their noised forms.
///
/// Lifts each residue to the integer nearest to 0, divides by the scale and undoes the rotation. Unbiased but
/// for wrapping, which the plan's range makes rare, and the rounding's retries. The noise per coordinate has
/// standard deviation [`Mechanism::total_noise_std`]. Post-processing: costs no privacy.
///
/// # Errors
/// [`PipelineError::DimensionMismatch`]; [`PipelineError::OutOfRing`] for a residue not below 2^bits.
pub fn decode_sum(
    sum: &[u32],
    mechanism: &Mechanism,
    seed: &RotationSeed,
) -> Result<Vec<f32>, PipelineError> {
    if sum.len() != mechanism.dimension() {
        return Err(PipelineError::DimensionMismatch { expected: mechanism.dimension(), found: sum.len() });
    }
    check_ring(sum, mechanism.bits())?;
    Ok(decode(sum, mechanism.bits(), mechanism.scale(), seed))
}

/// Refuses a residue that is not below 2^`bits`.
pub(crate) fn check_ring(sum: &[u32], bits: u32) -> Result<(), PipelineError> {
    let largest = u32::MAX >> (32 - bits);
    if sum.iter().fold(0, |all, residue| all | residue) > largest {
        let outside = sum.iter().enumerate().find(|(_, residue)| **residue > largest);
        if let Some((coordinate, &value)) = outside {
            return Err(PipelineError::OutOfRing { coordinate, value, bits });
        }
    }
    Ok(())
}

/// Lifts residues below 2^`bits`, divides by the scale and undoes the rotation.
pub(crate) fn decode(sum: &[u32], bits: u32, scale: f64, seed: &RotationSeed) -> Vec<f32> {
    let mut values = vec![0.0_f32; sum.len()];
    Arch::new().dispatch(Lift { sum, bits, scale, values: &mut values });
    rotate::inverse(&mut values, seed);
    values
}

/// Residues to integers between `-2^(bits-1)` and `2^(bits-1) - 1`, divided by the scale.
struct Lift<'a> {
    sum: &'a [u32],
    bits: u32,
    scale: f64,
    values: &'a mut [f32],
}

impl WithSimd for Lift<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let shift = 32 - self.bits;
        for (residue, value) in self.sum.iter().zip(self.values) {
            let centred = ((residue << shift) as i32) >> shift;
            *value = (f64::from(centred) / self.scale) as f32;
        }
    }
}
