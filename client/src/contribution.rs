//! The one place where an update becomes a vector that secure aggregation can mask.
//! Must never make a ring vector of anything but a `Noised`; a test keeps this call the only one in the workspace.

use rand_core::CryptoRng;
use tacit_aggregation::ring_vector::{RingError, RingVector};
use tacit_privacy::{Clipped, Mechanism, PipelineError, RotationSeed};
use zeroize::Zeroizing;

/// An update that cannot be contributed.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ContributionError {
    /// The pipeline refuses it.
    #[error(transparent)]
    Pipeline(#[from] PipelineError),
    /// It is no vector over the round's ring.
    #[error(transparent)]
    Ring(#[from] RingError),
}

/// Rotates, rounds and noises a clipped update. Draws 32 bytes from `rng`: fresh operating-system randomness, but in
/// simulations.
///
/// # Errors
/// [`ContributionError`] when the update was not clipped for this mechanism, or the generator is broken.
pub fn contribute<R: CryptoRng + ?Sized>(
    clipped: Clipped,
    mechanism: &Mechanism,
    rotation: &RotationSeed,
    rng: &mut R,
) -> Result<RingVector, ContributionError> {
    let noised = clipped.rotate(rotation).noise(mechanism, rng)?;
    // At most 24 bits.
    let bits = noised.bits() as u8;
    // One client's noise does not hide its update, so this copy is wiped like the others.
    let ring = Zeroizing::new(noised.into_ring());
    Ok(RingVector::new(bits, &ring)?)
}

#[cfg(test)]
mod tests {
    use super::{ContributionError, contribute};
    use rand_chacha::ChaCha20Rng;
    use rand_chacha::rand_core::SeedableRng as _;
    use tacit_privacy::{
        Adjacency, BasisPoints, Clipped, Mechanism, MechanismRequest, NoiseLaw, PipelineError, RotationSeed,
        decode_sum,
    };

    fn mechanism() -> Mechanism {
        Mechanism::build(&MechanismRequest {
            clients: 8,
            n_min: 6,
            corrupt: BasisPoints::ZERO,
            dropout: BasisPoints::new(2_500).expect("a fraction"),
            dimension: 64,
            clip: 1.0,
            noise_multiplier: 0.5,
            adjacency: Adjacency::ZeroOut,
            noise_law: NoiseLaw::DiscreteGaussian,
        })
        .expect("feasible")
    }

    #[test]
    fn a_contribution_is_the_clipped_update_and_fresh_noise() {
        let (mechanism, seed) = (mechanism(), RotationSeed([3; 32]));
        let mut delta = vec![0.0; 64];
        delta[5] = 10.0;
        let contribution = |number| {
            let clipped = Clipped::new(delta.clone(), 1.0).expect("finite");
            contribute(clipped, &mechanism, &seed, &mut ChaCha20Rng::seed_from_u64(number)).expect("fits")
        };
        assert_eq!(contribution(1), contribution(1));
        assert_ne!(contribution(1), contribution(2));
        // Over many draws the noise averages out, and what is left is the clipped update.
        let draws = 400;
        let mut mean = vec![0.0_f64; 64];
        for number in 0..draws {
            let decoded =
                decode_sum(&contribution(number).to_values(), &mechanism, &seed).expect("in the ring");
            mean.iter_mut().zip(decoded).for_each(|(mean, value)| *mean += f64::from(value) / draws as f64);
        }
        let spread = 6.0 * mechanism.total_noise_std(1) / f64::from(draws as u32).sqrt();
        for (coordinate, value) in mean.iter().enumerate() {
            let expected = if coordinate == 5 { 1.0 } else { 0.0 };
            assert!((value - expected).abs() < spread + 0.01, "{coordinate}: {value}");
        }
    }

    #[test]
    fn an_update_clipped_for_another_mechanism_is_refused() {
        let clipped = Clipped::new(vec![0.5; 64], 2.0).expect("finite");
        let refused =
            contribute(clipped, &mechanism(), &RotationSeed([0; 32]), &mut ChaCha20Rng::seed_from_u64(1));
        assert!(matches!(refused, Err(ContributionError::Pipeline(PipelineError::ClipMismatch { .. }))));
    }
}
