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
/// Made only by [`Rotated::noise`], which is reached only through [`crate::Clipped::new`] and
/// [`crate::Clipped::rotate`]:
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
/// let forged = tacit_privacy::Rotated { values: vec![0.5_f32; 8], clip: 1.0, was_clipped: false };
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
    /// Scales, rounds at random until the integer norm is within bounds, adds this client's noise share of
    /// the mechanism's law and reduces modulo 2^bits.
    ///
    /// Draws exactly 32 bytes from `rng`; rounding and noise follow from these and the vector. They must be
    /// fresh operating-system randomness in every round, kept secret, and stored only so that the same
    /// contribution can be sent again after a crash.
    ///
    /// # Errors
    /// [`PipelineError::DimensionMismatch`] and [`PipelineError::ClipMismatch`] when the update was not made
    /// for this mechanism; [`PipelineError::RoundingNeverFits`] if the generator is broken;
    /// [`PipelineError::NoiseSampler`] if the law's table does not pass its own check.
    pub fn noise<R: CryptoRng + ?Sized>(
        self,
        mechanism: &Mechanism,
        rng: &mut R,
    ) -> Result<Noised, PipelineError> {
        let mut stream = KeyStream::new(rng);
        let mut integers = self.round_for(mechanism, &mut stream)?;
        mechanism.sampler().add_to(&mut integers, &mut stream)?;
        let bits = mechanism.bits();
        let mask = u32::MAX >> (32 - bits);
        // Two's complement: the lowest bits of a negative integer are its residue. Reuses the allocation.
        let ring = integers.into_iter().map(|integer| integer as u32 & mask).collect();
        Ok(Noised { ring, bits })
    }

    /// Rounds as [`Self::noise`] does and wipes the result: a benchmark's way to time this step without the noise.
    ///
    /// # Errors
    /// As [`Self::noise`].
    #[doc(hidden)]
    pub fn round_and_wipe<R: CryptoRng + ?Sized>(
        self,
        mechanism: &Mechanism,
        rng: &mut R,
    ) -> Result<(), PipelineError> {
        self.round_for(mechanism, &mut KeyStream::new(rng)).map(|mut integers| integers.zeroize())
    }

    fn round_for(self, mechanism: &Mechanism, stream: &mut KeyStream) -> Result<Vec<i32>, PipelineError> {
        self.check_made_for(mechanism.dimension(), mechanism.clip())?;
        encode::round(self, mechanism.encoding(), stream)
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

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use rand_chacha::ChaCha20Rng;
    use rand_core::SeedableRng;

    use super::*;
    use crate::clip::Clipped;
    use crate::mechanism::{Adjacency, MechanismRequest, NoiseLaw};
    use crate::seed::RotationSeed;
    use crate::units::BasisPoints;

    fn mechanism(dimension: usize) -> Mechanism {
        Mechanism::build(&MechanismRequest {
            clients: 20,
            n_min: 16,
            corrupt: BasisPoints::new(1_000).unwrap(),
            dropout: BasisPoints::new(2_000).unwrap(),
            dimension,
            clip: 2.0,
            noise_multiplier: 1.0,
            adjacency: Adjacency::ZeroOut,
            noise_law: NoiseLaw::DiscreteGaussian,
        })
        .unwrap()
    }

    fn noised(values: Vec<f32>, mechanism: &Mechanism, seed: u64) -> Vec<u32> {
        let rotated = Clipped::new(values, 2.0).unwrap().rotate(&RotationSeed([1; 32]));
        rotated.noise(mechanism, &mut ChaCha20Rng::seed_from_u64(seed)).unwrap().into_ring()
    }

    #[test]
    fn residues_fit_and_follow_from_the_seed() {
        let mechanism = mechanism(1000);
        let ring = noised(vec![0.1; 1000], &mechanism, 1);
        assert_eq!(ring.len(), 1000);
        assert!(ring.iter().all(|residue| *residue < 1 << mechanism.bits()));
        assert!(
            ring.iter().any(|residue| *residue >= 1 << (mechanism.bits() - 1)),
            "no negative coordinate at all"
        );
        assert_eq!(ring, noised(vec![0.1; 1000], &mechanism, 1));
        assert_ne!(ring, noised(vec![0.1; 1000], &mechanism, 2));
    }

    #[test]
    fn the_noise_of_a_zero_update_has_the_local_deviation() {
        let dimension = 50_000;
        let mechanism = mechanism(dimension);
        let ring = noised(vec![0.0; dimension], &mechanism, 5);
        let shift = 32 - mechanism.bits();
        let centred = ring.iter().map(|residue| f64::from(((residue << shift) as i32) >> shift));
        let variance = centred.map(|x| x * x).sum::<f64>() / dimension as f64;
        let ratio = variance / mechanism.local_variance();
        assert!((ratio - 1.0).abs() < 5.0 * (2.0 / dimension as f64).sqrt(), "{ratio}");
    }

    #[test]
    fn the_noise_is_of_the_law_that_the_plan_names() {
        let dimension = 50_000;
        for noise_law in NoiseLaw::ALL {
            // Narrow noise, in which the two laws differ most.
            let request = MechanismRequest {
                noise_multiplier: 0.012,
                noise_law,
                ..mechanism(dimension).request().clone()
            };
            let mechanism = Mechanism::with_encoding(&request, 16, 100.0).unwrap();
            let variance = mechanism.local_variance();
            let zeros = noised(vec![0.0; dimension], &mechanism, 7).iter().filter(|x| **x == 0).count();
            let found = zeros as f64 / dimension as f64;
            let gaussian =
                1.0 / (-30..=30).map(|x| (-f64::from(x).powi(2) / (2.0 * variance)).exp()).sum::<f64>();
            // e^-mu I_0(mu), I_0 as the sum of (mu/2)^2j / j!^2.
            let terms = (1..30).scan(1.0, |term, j| {
                *term *= (variance / 2.0 / f64::from(j)).powi(2);
                Some(*term)
            });
            let skellam = (-variance).exp() * (1.0 + terms.sum::<f64>());
            assert!((skellam - gaussian).abs() > 0.02, "{skellam} and {gaussian} are too close to tell");
            let expected = if noise_law == NoiseLaw::Skellam { skellam } else { gaussian };
            assert!((found - expected).abs() < 0.01, "{noise_law:?}: {found}, not {expected}");
        }
    }

    #[test]
    fn an_update_made_for_another_mechanism_is_refused() {
        let mechanism = mechanism(10);
        let mut rng = ChaCha20Rng::seed_from_u64(1);
        let seed = RotationSeed([1; 32]);
        let short = Clipped::new(vec![0.1; 9], 2.0).unwrap().rotate(&seed);
        let error = short.noise(&mechanism, &mut rng).unwrap_err();
        assert_eq!(error, PipelineError::DimensionMismatch { expected: 10, found: 9 });
        let loose = Clipped::new(vec![0.1; 10], 2.5).unwrap().rotate(&seed);
        assert_eq!(
            loose.noise(&mechanism, &mut rng).unwrap_err(),
            PipelineError::ClipMismatch { expected: 2.0, found: 2.5 }
        );
    }

    #[test]
    fn debug_shows_no_residue() {
        let mechanism = mechanism(1);
        let rotated = Clipped::new(vec![1.5], 2.0).unwrap().rotate(&RotationSeed([1; 32]));
        let noised = rotated.noise(&mechanism, &mut ChaCha20Rng::seed_from_u64(1)).unwrap();
        let bits = mechanism.bits();
        assert_eq!(format!("{noised:?}"), format!("Noised {{ dimension: 1, bits: {bits}, .. }}"));
        assert_eq!((noised.dimension(), noised.bits()), (1, bits));
    }
}
