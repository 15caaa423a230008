//! The pipeline's exit: an update with its noise share, in the ring of integers modulo 2^bits.
//! Must never offer a way to a ring vector that skips the noise.

use std::fmt;

use rand_core::CryptoRng;
use zeroize::Zeroize;

use crate::encode;
use crate::error::PipelineError;
use crate::keystream::KeyStream;
use crate::mechanism::Mechanism;
use crate::rotate::Rotated;

/// A clipped, rotated and rounded update with this client's noise share, reduced modulo 2^bits.
///
/// Made only by [`Rotated::noise`], which is reached only through [`crate::Clipped::new`] and [`crate::Clipped::rotate`]:
///
/// ```compile_fail,E0423
/// let forged = tacit_privacy::Noised(vec![1, 2, 3]);
/// ```
/// ```compile_fail,E0451
/// let forged = tacit_privacy::Noised { ring: vec![1, 2, 3], bits: 16 };
/// ```
/// ```compile_fail,E0599
/// let forged = tacit_privacy::Noised::new(vec![1, 2, 3]);
/// ```
/// ```compile_fail,E0277
/// let forged: tacit_privacy::Noised = vec![1_u32, 2, 3].into();
/// ```
/// Neither can a step be left out, nor a rotated vector be made by hand:
///
/// ```compile_fail,E0599
/// # fn skip(mechanism: &tacit_privacy::Mechanism, rng: &mut impl rand_core::CryptoRng) {
/// let clipped = tacit_privacy::Clipped::new(vec![0.5_f32; 8], 1.0).unwrap();
/// let noised = clipped.noise(mechanism, rng);
/// # }
/// ```
/// ```compile_fail,E0451
/// let forged = tacit_privacy::Rotated { values: vec![0.5_f32; 8], clip: 1.0 };
/// ```
/// nor can the same noised vector be taken out twice:
///
/// ```compile_fail,E0382
/// # fn twice(noised: tacit_privacy::Noised) {
/// let first = noised.into_ring();
/// let second = noised.into_ring();
/// # }
/// ```
pub struct Noised {
    ring: Vec<u32>,
    bits: u32,
}

impl Rotated {
    /// Scales, rounds at random until the integer norm is within bounds, adds this client's discrete Gaussian noise share and
    /// reduces modulo 2^bits.
    ///
    /// Draws exactly 32 bytes from `rng`; rounding and noise follow from these and the vector. They must be fresh
    /// operating-system randomness in every round, kept secret, and stored only so that the same contribution can be sent
    /// again after a crash.
    ///
    /// # Errors
    /// [`PipelineError::DimensionMismatch`] and [`PipelineError::ClipMismatch`] when the update was not made for this
    /// mechanism; [`PipelineError::RoundingNeverFits`] if the generator is broken.
    pub fn noise<R: CryptoRng + ?Sized>(
        self,
        mechanism: &Mechanism,
        rng: &mut R,
    ) -> Result<Noised, PipelineError> {
        if self.dimension() != mechanism.dimension() {
            return Err(PipelineError::DimensionMismatch {
                expected: mechanism.dimension(),
                found: self.dimension(),
            });
        }
        if self.clip != mechanism.clip() {
            return Err(PipelineError::ClipMismatch { expected: mechanism.clip(), found: self.clip });
        }
        let bits = mechanism.bits();
        let mut stream = KeyStream::new(rng);
        let mut integers = encode::round(self, mechanism, &mut stream)?;
        mechanism.sampler().add_to(&mut integers, &mut stream);
        let mask = u32::MAX >> (32 - bits);
        // Two's complement: the lowest bits of a negative integer are its residue. Reuses the allocation.
        let ring = integers.into_iter().map(|integer| integer as u32 & mask).collect();
        Ok(Noised { ring, bits })
    }
}

impl Noised {
    /// The residues, each below 2^bits: what secure aggregation masks. The only way out.
    #[must_use]
    pub fn into_ring(mut self) -> Vec<u32> {
        std::mem::take(&mut self.ring)
    }

    /// Number of coordinates.
    #[must_use]
    pub fn dimension(&self) -> usize {
        self.ring.len()
    }

    /// Bits per coordinate.
    #[must_use]
    pub fn bits(&self) -> u32 {
        self.bits
    }
}

impl fmt::Debug for Noised {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let dimension = self.ring.len();
        formatter
            .debug_struct("Noised")
            .field("dimension", &dimension)
            .field("bits", &self.bits)
            .finish_non_exhaustive()
    }
}

impl Drop for Noised {
    fn drop(&mut self) {
        // One client's share of the noise does not hide its update alone.
        self.ring.zeroize();
    }
}
