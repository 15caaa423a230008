//! The pipeline's exit under central trust: a rounded update without noise, in the ring of integers modulo 2^bits.
//! Must never be sent but under the masks of secure aggregation, to a coordinator that is trusted to add the noise.

use std::fmt;

use rand_core::CryptoRng;
use zeroize::Zeroize;

use super::CentralMechanism;
use crate::encode;
use crate::error::PipelineError;
use crate::keystream::KeyStream;
use crate::rotate::Rotated;

/// A clipped, rotated and rounded update *without noise*, reduced modulo 2^bits, and its clip bit where the
/// clip norm adapts. Not a [`crate::Noised`], and nothing makes one of the other.
///
/// Made only by [`Rotated::round`]:
///
/// ```compile_fail,E0451
/// let forged = tacit_privacy::Rounded { ring: vec![1, 2, 3], bits: 16 };
/// ```
/// ```compile_fail,E0308
/// # fn mistake(rounded: tacit_privacy::Rounded) {
/// let noised: tacit_privacy::Noised = rounded;
/// # }
/// ```
pub struct Rounded {
    ring: Vec<u32>,
    bits: u32,
}

impl Rotated {
    /// Scales, rounds at random until the integer norm is within bounds and reduces modulo 2^bits. Where the
    /// clip norm adapts, a last coordinate says +1 when the update was *not* clipped, -1 when it was.
    ///
    /// Draws exactly 32 bytes from `rng`, under the terms of [`Rotated::noise`].
    ///
    /// # Errors
    /// As [`Rotated::noise`].
    pub fn round<R: CryptoRng + ?Sized>(
        self,
        mechanism: &CentralMechanism,
        rng: &mut R,
    ) -> Result<Rounded, PipelineError> {
        self.check_made_for(mechanism.dimension(), mechanism.clip())?;
        let bits = mechanism.bits();
        let clip_bit = if self.was_clipped { -1 } else { 1 };
        let mut integers = encode::round(self, mechanism.encoding(), &mut KeyStream::new(rng))?;
        let mask = u32::MAX >> (32 - bits);
        let mut ring = Vec::with_capacity(mechanism.ring_dimension());
        ring.extend(integers.iter().map(|&integer| integer as u32 & mask));
        if mechanism.adaptive_clip().is_some() {
            ring.push(clip_bit as u32 & mask);
        }
        integers.zeroize();
        Ok(Rounded { ring, bits })
    }
}

impl Rounded {
    /// The residues, each below 2^bits: what secure aggregation masks. The only way out.
    #[must_use]
    pub fn into_ring(mut self) -> Vec<u32> {
        std::mem::take(&mut self.ring)
    }

    /// Number of residues.
    #[must_use]
    pub fn ring_dimension(&self) -> usize {
        self.ring.len()
    }

    /// Bits per coordinate.
    #[must_use]
    pub fn bits(&self) -> u32 {
        self.bits
    }
}

impl fmt::Debug for Rounded {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ring_dimension = self.ring.len();
        formatter
            .debug_struct("Rounded")
            .field("ring_dimension", &ring_dimension)
            .field("bits", &self.bits)
            .finish_non_exhaustive()
    }
}

impl Drop for Rounded {
    fn drop(&mut self) {
        self.ring.zeroize();
    }
}
