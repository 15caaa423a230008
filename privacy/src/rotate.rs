//! The public random rotation that spreads an update evenly over all coordinates, and its inverse. Must never
//! depend on anything but the vector and the public seed: all clients of a cohort apply the same rotation.
//!
//! With `p` the largest power of two not above the dimension `d`: random signs and an orthonormal
//! Walsh-Hadamard transform on the first `p` coordinates, then, unless `p = d`, the same with fresh signs on
//! the last `p`. Each stage is orthonormal, so the whole is, for any `d` and without padding. After it every
//! coordinate is sub-Gaussian with variance at most `norm^2 / p < 2 norm^2 / d` over the signs (Kairouz, Liu,
//! Steinke 2021, lemma 29, applied to each stage).

mod hadamard;

use std::fmt;
use std::ops::Range;

use pulp::{Arch, Simd, WithSimd};
use rand_chacha::ChaCha20Rng;
use rand_core::{Rng, SeedableRng};
use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::clip::Clipped;
use crate::error::PipelineError;
use crate::seed::RotationSeed;

/// Coordinates whose signs are drawn at once: eight ChaCha blocks.
const SIGNS_AT_ONCE: usize = 4096;

/// A clipped update after the public rotation. Made only by [`Clipped::rotate`].
#[derive(Zeroize, ZeroizeOnDrop)]
pub struct Rotated {
    pub(crate) values: Vec<f32>,
    pub(crate) clip: f64,
    pub(crate) was_clipped: bool,
}

impl Clipped {
    /// Rotates the update in place by the rotation of `seed`; O(d log d).
    #[must_use]
    pub fn rotate(mut self, seed: &RotationSeed) -> Rotated {
        let mut values = std::mem::take(&mut self.values);
        forward(&mut values, seed);
        Rotated { values, clip: self.clip, was_clipped: self.was_clipped() }
    }
}

impl Rotated {
    /// Number of coordinates.
    #[must_use]
    pub fn dimension(&self) -> usize {
        self.values.len()
    }

    /// Refuses an update that was not clipped, or has not the coordinates, for a mechanism.
    pub(crate) fn check_made_for(&self, dimension: usize, clip: f64) -> Result<(), PipelineError> {
        if self.dimension() != dimension {
            return Err(PipelineError::DimensionMismatch { expected: dimension, found: self.dimension() });
        }
        if self.clip != clip {
            return Err(PipelineError::ClipMismatch { expected: clip, found: self.clip });
        }
        Ok(())
    }
}

impl fmt::Debug for Rotated {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let dimension = self.values.len();
        formatter
            .debug_struct("Rotated")
            .field("dimension", &dimension)
            .field("clip", &self.clip)
            .finish_non_exhaustive()
    }
}

/// Largest power of two not above `dimension`, which must be at least 1.
pub(crate) fn block_length(dimension: usize) -> usize {
    1 << dimension.ilog2()
}

/// Applies the rotation in place. An empty slice stays empty.
pub(crate) fn forward(values: &mut [f32], seed: &RotationSeed) {
    for (stage, range) in stages(values.len()).into_iter().enumerate() {
        let block = &mut values[range];
        apply_signs(block, seed, stage);
        hadamard::transform(block);
    }
}

/// Undoes [`forward`].
pub(crate) fn inverse(values: &mut [f32], seed: &RotationSeed) {
    for (stage, range) in stages(values.len()).into_iter().enumerate().rev() {
        let block = &mut values[range];
        hadamard::transform(block);
        apply_signs(block, seed, stage);
    }
}

/// The coordinates that each stage works on.
fn stages(dimension: usize) -> Vec<Range<usize>> {
    if dimension == 0 {
        return Vec::new();
    }
    let length = block_length(dimension);
    let mut starts = vec![0];
    if length < dimension {
        starts.push(dimension - length);
    }
    starts.into_iter().map(|start| start..start + length).collect()
}

/// Multiplies coordinate `i` by `1/sqrt(p)`, and by -1 where bit `i mod 8` (lowest first) of byte `i / 8` of
/// the ChaCha20 keystream with key `seed` and stream number `stage` is set.
fn apply_signs(block: &mut [f32], seed: &RotationSeed, stage: usize) {
    let mut generator = ChaCha20Rng::from_seed(seed.0);
    generator.set_stream(stage as u64);
    let scale = (1.0 / (block.len() as f64).sqrt()) as f32;
    let arch = Arch::new();
    let mut bytes = [0_u8; SIGNS_AT_ONCE / 8];
    for part in block.chunks_mut(SIGNS_AT_ONCE) {
        generator.fill_bytes(&mut bytes);
        arch.dispatch(Flip { part, bytes: &bytes, scale });
    }
}

/// One batch of [`apply_signs`].
struct Flip<'a> {
    part: &'a mut [f32],
    bytes: &'a [u8; SIGNS_AT_ONCE / 8],
    scale: f32,
}

impl WithSimd for Flip<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        for (eight, &byte) in self.part.chunks_mut(8).zip(self.bytes) {
            for (bit, value) in eight.iter_mut().enumerate() {
                let sign = (u32::from(byte) << (31 - bit)) & (1 << 31);
                *value = f32::from_bits((*value * self.scale).to_bits() ^ sign);
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::clip::norm;

    const DIMENSIONS: [usize; 13] = [1, 2, 3, 5, 7, 8, 16, 100, 1000, 6144, 4096, 8192, (1 << 16) + 1];

    /// Coordinates between -1 and 1 that no stage of the rotation can mistake for one another.
    fn ramp(dimension: usize) -> Vec<f32> {
        (0..dimension).map(|i| ((i * 2_654_435_761) % 1_000_003) as f32 / 500_001.5 - 1.0).collect()
    }

    #[test]
    fn rotation_keeps_the_norm_and_its_inverse_gives_the_vector_back() {
        for dimension in DIMENSIONS {
            let seed = RotationSeed([dimension as u8; 32]);
            let original = ramp(dimension);
            let mut values = original.clone();
            forward(&mut values, &seed);
            let (before, after) = (norm(&original), norm(&values));
            assert!((before - after).abs() <= 1e-5 * before, "d = {dimension}: {before} became {after}");
            assert!(dimension < 3 || values != original, "d = {dimension}: nothing moved");
            inverse(&mut values, &seed);
            let worst = values.iter().zip(&original).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(worst <= 1e-5, "d = {dimension}: off by {worst}");
        }
    }

    #[test]
    fn a_single_coordinate_is_flattened_as_claimed() {
        for dimension in DIMENSIONS {
            let length = block_length(dimension);
            for position in [0, dimension / 2, dimension - 1] {
                let mut values = vec![0.0_f32; dimension];
                values[position] = 1.0;
                forward(&mut values, &RotationSeed([7; 32]));
                let largest = values.iter().fold(0.0_f32, |most, value| most.max(value.abs()));
                if dimension == length {
                    // One stage: every coordinate is plus or minus 1/sqrt(p).
                    let flat = 1.0 / (length as f32).sqrt();
                    assert!(values.iter().all(|value| (value.abs() - flat).abs() < 1e-6), "d = {dimension}");
                } else {
                    // Sub-Gaussian with variance 1/p: beyond 7 standard deviations has probability below 2 d
                    // e^-24.5.
                    let bound = 7.0 / (length as f32).sqrt();
                    assert!(
                        largest <= bound.min(1.0),
                        "d = {dimension}, position {position}: {largest} > {bound}"
                    );
                }
            }
        }
    }

    #[test]
    fn the_variance_over_seeds_is_at_most_one_over_p() {
        // d = 6: coordinates 0 and 1 see only stage one, 2 to 5 both. Averages over 4,000 seeds of a unit
        // vector's squares.
        let (dimension, seeds) = (6, 4_000_u32);
        let mut mean_square = vec![0.0_f64; dimension];
        for seed in 0..seeds {
            let mut bytes = [0; 32];
            bytes[..4].copy_from_slice(&seed.to_le_bytes());
            let mut values = vec![0.1, -0.7, 0.4, 0.3, 0.1, 0.489_897_95];
            forward(&mut values, &RotationSeed(bytes));
            for (sum, value) in mean_square.iter_mut().zip(&values) {
                *sum += f64::from(*value).powi(2) / f64::from(seeds);
            }
        }
        let total: f64 = mean_square.iter().sum();
        assert!((total - 1.0).abs() < 1e-5, "{total}");
        // 1/p = 1/4; the mean of 4,000 squares of variance at most 2/16 strays by at most 0.03 (5 standard
        // errors).
        assert!(mean_square.iter().all(|&square| square < 0.25 + 0.03), "{mean_square:?}");
    }

    #[test]
    fn the_signs_are_fixed_for_all_platforms() {
        // A one-hot vector of dimension 2 shows the stage's first sign; d = 1 shows it alone.
        let sign = |seed: u8| {
            let mut values = vec![1.0_f32];
            forward(&mut values, &RotationSeed([seed; 32]));
            values[0]
        };
        let signs: Vec<f32> = (0..8).map(sign).collect();
        // First keystream byte of ChaCha20 under the all-zero key, stream 0, is 0x76: lowest bit 0, so no
        // flip.
        assert_eq!(signs[0], 1.0);
        assert!(signs.contains(&-1.0), "eight seeds gave no flip: {signs:?}");
        let mut eight = vec![1.0_f32; 8];
        apply_signs(&mut eight, &RotationSeed([0; 32]), 0);
        let flips: u8 = eight.iter().enumerate().map(|(bit, value)| u8::from(*value < 0.0) << bit).sum();
        assert_eq!(flips, 0x76);
    }

    #[test]
    fn stages_and_seeds_draw_different_signs() {
        let draw = |seed: u8, stage: usize| {
            let mut values = vec![1.0_f32; 64];
            apply_signs(&mut values, &RotationSeed([seed; 32]), stage);
            values
        };
        assert_ne!(draw(1, 0), draw(1, 1));
        assert_ne!(draw(1, 0), draw(2, 0));
        assert_eq!(draw(1, 0), draw(1, 0));
    }
}
