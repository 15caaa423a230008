//! Shamir's secret sharing over the scalar field of Ristretto255, with Feldman's commitments (1987). Must never branch on a
//! secret, nor evaluate a polynomial at zero.

mod commitments;
mod evaluate;
mod reconstruct;
mod sharing;

pub use crate::keys::SecretScalar;
pub use commitments::{CommitmentError, Commitments};
pub use reconstruct::Basis;
pub use sharing::Polynomial;

/// Where a member's share is evaluated: its cohort index plus one, never zero.
pub(crate) fn evaluation_point(index: u32) -> u32 {
    index + 1
}

#[cfg(test)]
mod tests {
    use super::{Basis, Polynomial};
    use crate::keys::SecretScalar;
    use curve25519_dalek::scalar::Scalar;
    use proptest::prelude::{Just, Strategy as _, any, prop_assert, prop_assert_eq, proptest};
    use rand_chacha::ChaCha20Rng;
    use rand_core::SeedableRng as _;

    fn polynomial(threshold: u32, seed: u64) -> (Polynomial, Scalar) {
        let mut rng = ChaCha20Rng::seed_from_u64(seed);
        let secret = Scalar::random(&mut rng);
        let uniform = || SecretScalar::new(Scalar::random(&mut rng));
        (Polynomial::new(SecretScalar::new(secret), threshold, uniform), secret)
    }

    proptest! {
        #[test]
        fn any_t_shares_reconstruct_and_match_their_commitments(
            (indices, threshold, seed) in (1u32..40).prop_flat_map(|n| {
                let indices = Just((0..n).map(|i| i * 409 % 16_384).collect::<Vec<_>>()).prop_shuffle();
                (indices, 1..=n, any::<u64>())
            })
        ) {
            let (polynomial, secret) = polynomial(threshold, seed);
            let commitments = polynomial.commit();
            prop_assert_eq!(commitments.threshold(), threshold as usize);
            let chosen = &indices[..threshold as usize];
            let shares: Vec<SecretScalar> = chosen.iter().map(|&index| polynomial.share_of(index)).collect();
            for (&index, share) in chosen.iter().zip(&shares) {
                prop_assert_eq!(commitments.at(super::evaluation_point(index)), share.public());
            }
            let reconstructed = Basis::new(chosen).reconstruct(&shares);
            prop_assert_eq!(reconstructed.get(), &secret);
            prop_assert!(commitments.holds(chosen[0], &shares[0]));
            prop_assert_eq!(commitments.secret(), &SecretScalar::new(secret).public().compress().to_bytes());
        }
    }

    #[test]
    fn fewer_or_altered_shares_give_another_secret() {
        let (polynomial, secret) = polynomial(5, 1);
        let indices = [0, 3, 4, 9, 11];
        let mut shares: Vec<SecretScalar> = indices.iter().map(|&index| polynomial.share_of(index)).collect();
        assert_ne!(Basis::new(&indices[..4]).reconstruct(&shares[..4]).get(), &secret);
        assert_eq!(Basis::new(&indices).reconstruct(&shares).get(), &secret);
        shares[2] = SecretScalar::new(shares[2].get() + Scalar::ONE);
        assert_ne!(Basis::new(&indices).reconstruct(&shares).get(), &secret);
        assert!(!polynomial.commit().holds(4, &shares[2]));
        assert!(polynomial.commit().holds(3, &shares[1]));
    }
}
