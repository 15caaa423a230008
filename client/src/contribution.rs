//! The one place where an update becomes a vector that secure aggregation can mask.
//! Must never make a ring vector of anything but a `Noised`, or the `Rounded` of a plan that trusts the coordinator with the
//! noise; a test keeps this call the only one in the workspace.

use rand_core::CryptoRng;
use tacit_aggregation::ring_vector::{RingError, RingVector};
use tacit_privacy::{Clipped, PipelineError, RotationSeed, RoundMechanism};
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

/// Rotates, rounds and noises a clipped update; leaves the noise out where the coordinator adds it. Draws 32 bytes from `rng`: fresh operating-system randomness, but in
/// simulations.
///
/// # Errors
/// [`ContributionError`] when the update was not clipped for this mechanism, or the generator is broken.
pub fn contribute<R: CryptoRng + ?Sized>(
    clipped: Clipped,
    mechanism: &RoundMechanism,
    rotation: &RotationSeed,
    rng: &mut R,
) -> Result<RingVector, ContributionError> {
    let rotated = clipped.rotate(rotation);
    let ring = Zeroizing::new(match mechanism {
        RoundMechanism::Distributed(mechanism) => rotated.noise(mechanism, rng)?.into_ring(),
        RoundMechanism::Central(mechanism) => rotated.round(mechanism, rng)?.into_ring(),
    });
    // At most 24 bits.
    Ok(RingVector::new(mechanism.bits() as u8, &ring)?)
}

#[cfg(test)]
mod tests {
    use super::{ContributionError, contribute};
    use rand_chacha::ChaCha20Rng;
    use rand_chacha::rand_core::SeedableRng as _;
    use tacit_privacy::{
        Adjacency, BasisPoints, CentralMechanism, CentralRequest, CentralSum, Clipped, Mechanism,
        MechanismRequest, NoiseKey, NoiseLaw, PipelineError, RotationSeed, RoundMechanism, decode_sum,
    };

    fn mechanism() -> RoundMechanism {
        let mechanism = Mechanism::build(&MechanismRequest {
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
        .expect("feasible");
        mechanism.into()
    }

    #[test]
    fn a_contribution_is_the_clipped_update_and_fresh_noise() {
        let (mechanism, seed) = (mechanism(), RotationSeed([3; 32]));
        let RoundMechanism::Distributed(distributed) = &mechanism else { panic!("{mechanism:?}") };
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
                decode_sum(&contribution(number).to_values(), distributed, &seed).expect("in the ring");
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

    #[test]
    fn under_central_trust_a_contribution_is_the_clipped_update_alone() {
        let mechanism = CentralMechanism::build(&CentralRequest {
            clients: 8,
            n_min: 1,
            dimension: 64,
            clip: 1.0,
            noise_multiplier: 1e-2,
            adjacency: Adjacency::ZeroOut,
            adaptive_clip: None,
        })
        .expect("feasible");
        let seed = RotationSeed([3; 32]);
        let mut delta = vec![0.0; 64];
        delta[5] = 10.0;
        let clipped = Clipped::new(delta, 1.0).expect("finite");
        let round_mechanism = mechanism.clone().into();
        let vector = contribute(clipped, &round_mechanism, &seed, &mut ChaCha20Rng::seed_from_u64(1));
        let sum = CentralSum::new(vector.expect("fits").to_values());
        let key = NoiseKey::from_bytes(&[1; 32]);
        let release = sum.release(&mechanism, 1, &seed, &key, &[0; 32]).expect("enough");
        // Rounding moves a coordinate by less than one unit, and so little noise by less than six deviations.
        let spread = 8.0 / mechanism.scale() + 6.0 * mechanism.noise_std();
        for (coordinate, value) in release.into_sum().into_iter().enumerate() {
            let expected = if coordinate == 5 { 1.0 } else { 0.0 };
            assert!((f64::from(value) - expected).abs() < spread, "{coordinate}: {value}, {spread}");
        }
        assert!(spread < 0.2, "{spread}");
    }
}
