//! The pipeline's entrance: a finite vector of bounded Euclidean norm.
//! Must never let a NaN, an infinity or a longer vector through.

use std::fmt;

use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::error::PipelineError;

/// Smallest clip norm accepted: well inside the normal range of `f32`, with room for tiny coordinates.
pub const MIN_CLIP: f64 = 1e-20;
/// Largest clip norm accepted: a rotation of 2^28 coordinates of this norm stays finite in `f32`.
pub const MAX_CLIP: f64 = 1e20;

/// A client's update, scaled down where needed so that its Euclidean norm is at most the clip norm.
///
/// The norm is accumulated in `f64`. Storing the scaled coordinates as `f32` may leave the norm above the
/// clip norm by a relative 2^-24; sensitivity does not rest on it, but on the exact integer norm enforced
/// when the vector is rounded.
#[derive(Zeroize, ZeroizeOnDrop)]
pub struct Clipped {
    pub(crate) values: Vec<f32>,
    pub(crate) clip: f64,
    norm_before: f64,
}

impl Clipped {
    /// Multiplies `delta` by `min(1, clip / norm)`.
    ///
    /// # Errors
    /// [`PipelineError::Empty`], [`PipelineError::NotFinite`] naming the first bad coordinate, or
    /// [`PipelineError::ClipOutOfRange`] for a clip norm that is not between [`MIN_CLIP`] and [`MAX_CLIP`].
    pub fn new(mut delta: Vec<f32>, clip: f64) -> Result<Self, PipelineError> {
        if let Err(error) = check_clip(clip) {
            delta.zeroize();
            return Err(error);
        }
        if delta.is_empty() {
            return Err(PipelineError::Empty);
        }
        if let Some(coordinate) = delta.iter().position(|value| !value.is_finite()) {
            let kind = if delta[coordinate].is_nan() { "NaN" } else { "infinite" };
            delta.zeroize();
            return Err(PipelineError::NotFinite { coordinate, kind });
        }
        let norm_before = norm(&delta);
        if norm_before > clip {
            let factor = clip / norm_before;
            for value in &mut delta {
                *value = (f64::from(*value) * factor) as f32;
            }
        }
        Ok(Self { values: delta, clip, norm_before })
    }

    /// Euclidean norm of the update as it came in.
    #[must_use]
    pub fn norm_before(&self) -> f64 {
        self.norm_before
    }

    /// Whether the update was longer than the clip norm and had to be scaled down.
    #[must_use]
    pub fn was_clipped(&self) -> bool {
        self.norm_before > self.clip
    }

    /// The clip norm.
    #[must_use]
    pub fn clip(&self) -> f64 {
        self.clip
    }

    /// Number of coordinates.
    #[must_use]
    pub fn dimension(&self) -> usize {
        self.values.len()
    }
}

impl fmt::Debug for Clipped {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let dimension = self.values.len();
        formatter
            .debug_struct("Clipped")
            .field("dimension", &dimension)
            .field("clip", &self.clip)
            .finish_non_exhaustive()
    }
}

/// Refuses a clip norm outside [`MIN_CLIP`] to [`MAX_CLIP`], NaN included.
pub(crate) fn check_clip(clip: f64) -> Result<(), PipelineError> {
    if (MIN_CLIP..=MAX_CLIP).contains(&clip) {
        return Ok(());
    }
    Err(PipelineError::ClipOutOfRange { clip, minimum: MIN_CLIP, maximum: MAX_CLIP })
}

/// Euclidean norm, accumulated in `f64` over eight independent lanes in a fixed order.
pub(crate) fn norm(values: &[f32]) -> f64 {
    let chunks = values.chunks_exact(8);
    let tail: f64 = chunks.remainder().iter().map(|&value| f64::from(value) * f64::from(value)).sum();
    let mut lanes = [0.0_f64; 8];
    for chunk in chunks {
        for (lane, &value) in lanes.iter_mut().zip(chunk) {
            *lane += f64::from(value) * f64::from(value);
        }
    }
    (lanes.iter().sum::<f64>() + tail).sqrt()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn short_updates_pass_unchanged_and_long_ones_end_on_the_sphere() {
        let short = Clipped::new(vec![0.3, -0.4], 1.0).unwrap();
        assert_eq!(short.values, [0.3, -0.4]);
        assert!(!short.was_clipped());
        assert!((short.norm_before() - 0.5).abs() < 1e-7);

        let long = Clipped::new(vec![3.0, -4.0], 1.0).unwrap();
        assert!(long.was_clipped());
        assert_eq!(long.norm_before(), 5.0);
        assert_eq!(long.values, [0.6, -0.8]);

        let exact = Clipped::new(vec![3.0, -4.0], 5.0).unwrap();
        assert!(!exact.was_clipped());
        assert_eq!(exact.values, [3.0, -4.0]);
    }

    #[test]
    fn extreme_magnitudes_neither_overflow_nor_vanish() {
        let huge = Clipped::new(vec![f32::MAX; 1000], 1.0).unwrap();
        assert!((norm(&huge.values) - 1.0).abs() < 1e-6);
        let zero = Clipped::new(vec![0.0; 5], 1.0).unwrap();
        assert_eq!((zero.norm_before(), zero.was_clipped()), (0.0, false));
        let tiny = Clipped::new(vec![f32::from_bits(1); 3], 1.0).unwrap();
        assert!(tiny.norm_before() > 0.0);
    }

    #[test]
    fn bad_coordinates_are_named() {
        let refuse = |values: Vec<f32>| Clipped::new(values, 1.0).unwrap_err();
        assert_eq!(refuse(vec![]), PipelineError::Empty);
        assert_eq!(refuse(vec![0.0, 1.0, f32::NAN]), PipelineError::NotFinite { coordinate: 2, kind: "NaN" });
        assert_eq!(
            refuse(vec![0.0, f32::NEG_INFINITY, f32::NAN]),
            PipelineError::NotFinite { coordinate: 1, kind: "infinite" }
        );
        assert!(refuse(vec![f32::INFINITY]).to_string().contains("coordinate 0"));
    }

    #[test]
    fn bad_clip_norms_are_refused() {
        for clip in [0.0, -1.0, f64::NAN, f64::INFINITY, 1e-21, 1e21, f64::MIN_POSITIVE] {
            let error = Clipped::new(vec![1.0], clip).unwrap_err();
            assert!(matches!(error, PipelineError::ClipOutOfRange { .. }), "{clip}");
        }
    }

    #[test]
    fn debug_shows_no_coordinate() {
        let shown = format!("{:?}", Clipped::new(vec![0.123_456], 1.0).unwrap());
        assert!(!shown.contains("123") && shown.contains("dimension: 1"), "{shown}");
    }
}
